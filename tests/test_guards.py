"""What keeps the code the way it is meant to be: the kernel in use, imports, the environment, the twins' names."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import sor
from sor import kernels
from sor.market.toml_file import tomllib

PACKAGE = Path(sor.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages(sor.__path__, "sor."))


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PYX = sorted(PACKAGE.glob("*.pyx"))
PXD = sorted(PACKAGE.rglob("*.pxd"))
REQUIRED = os.environ.get("SOR_REQUIRE_EXT", "0") not in ("", "0")

# The folders are the ranks: a module imports from its own folder or from those before it, and makes no circle. The
# package's own `__init__` may import all, and nothing imports from it but the version.
FOLDERS = ["", "market", "models", "routing", "execution", "backtest", "report", "stream", "kafka", "service"]
COMMANDS = ("cli", "__main__")  # above all folders
# The one way back: results are asked for their own reports, which are imported then.
ASKED_FOR = {"sor.backtest.study": {"sor.report.study"}, "sor.backtest.tuning": {"sor.report.tuning"}}
# Warnings of other people's modules on import: kafka-python 3.0.12 reads its schemas the old way.
TOLERATED = [f"-Wignore:{name} is deprecated:DeprecationWarning" for name in ("read_text", "open_text")]
READERS_OF_ENVIRONMENT = {"sor.kernels", "sor.service.settings"}


# --- the kernel in use -----------------------------------------------------------------------------------------------


def test_the_compiled_kernel_is_in_use_where_it_is_required() -> None:
    """Against a suite that believes it tests the extension and tests Python against itself."""
    if not REQUIRED:
        pytest.skip("SOR_REQUIRE_EXT is not set")
    from sor import _core, _placement
    from sor.market import _quotes, _rows, book, databento_csv
    from sor.models import placement, static
    from sor.routing import _split, cont_kukanov, router

    assert sor.BACKEND == kernels.BACKEND == "cython"
    assert kernels.core is _core
    assert static.core is _core
    assert kernels.placement_core is _placement
    assert placement.placement_core is _placement
    assert issubclass(book.Book, _quotes.BookOfQuotes)
    assert router.quotes is _quotes
    assert databento_csv.rows is _rows
    assert cont_kukanov.rounded is _quotes.rounded
    assert router.splits is _split


def test_the_list_of_compiled_modules_is_that_of_their_sources() -> None:
    sources = {module.removesuffix("_py") for module in SOURCES if module.endswith("_py")}
    assert set(kernels.COMPILED) == sources
    if (setup := PACKAGE.parent / "setup.py").exists():
        assert set(re.findall(r'"(sor\.[\w.]+)": "sor/', setup.read_text(encoding="utf-8"))) == sources


@pytest.mark.parametrize("name", kernels.COMPILED)
def test_the_compiled_kernel_is_compiled(name: str) -> None:
    """And is the package's own, not that of another installation."""
    spec = importlib.util.find_spec(name)
    if spec is None and not REQUIRED:
        pytest.skip("the extension is not built")
    assert spec is not None
    assert spec.origin is not None
    assert spec.origin.endswith(tuple(EXTENSION_SUFFIXES))
    assert Path(spec.origin).parent == SOURCES[f"{name}_py"].parent
    assert importlib.util.find_spec(f"{name}_py").origin.endswith(".py")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter: no site of the user, no PYTHON* and SOR_* variables but those given, warnings are errors."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SOR_")}
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"
    command = [sys.executable, "-I", "-Werror", *TOLERATED, "-c", code]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False, timeout=60)


BREAK_PLACEMENT = "sys.modules['sor._placement'] = None; "  # an import of it fails
PRINT_BACKEND = "import json, sor.kernels as k; print(json.dumps([k.BACKEND, k.core.__name__, k.WHY]))"


@pytest.mark.parametrize("value", ["1", "yes"])
def test_python_can_be_forced(value: str) -> None:
    answer = run(PRINT_BACKEND, SOR_PURE_PYTHON=value)
    assert answer.returncode == 0, answer.stderr
    backend, name, why = json.loads(answer.stdout)
    assert (backend, name) == ("python", "sor._core_py")
    assert "SOR_PURE_PYTHON" in why


@pytest.mark.parametrize("environment", [{}, {"SOR_PURE_PYTHON": "0"}, {"SOR_PURE_PYTHON": "", "SOR_REQUIRE_EXT": "1"}])
def test_zero_and_nothing_force_nothing(environment: dict[str, str]) -> None:
    if importlib.util.find_spec("sor._core") is None:
        pytest.skip("the extension is not built")
    answer = run(PRINT_BACKEND, **environment)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)[:2] == ["cython", "sor._core"]


def test_a_required_kernel_that_is_not_there_is_an_error() -> None:
    answer = run(PRINT_BACKEND, SOR_PURE_PYTHON="1", SOR_REQUIRE_EXT="1")
    assert answer.returncode != 0
    assert "ImportError: SOR_REQUIRE_EXT=1, but SOR_PURE_PYTHON=1" in answer.stderr


def test_where_one_of_the_kernels_is_missing_none_is_compiled() -> None:
    """One answer for all: nothing runs half in C."""
    names = "print(k.core.__name__, k.placement_core.__name__)"
    answer = run(f"{BREAK_PLACEMENT}{PRINT_BACKEND}; {names}")
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    backend, _, why = json.loads(first)
    assert (backend, second) == ("python", "sor._core_py sor._placement_py")
    assert "cannot be imported" in why
    if importlib.util.find_spec("sor._core") is not None:
        assert "sor._placement" in why
    assert run(f"{BREAK_PLACEMENT}{PRINT_BACKEND}", SOR_REQUIRE_EXT="1").returncode != 0


@pytest.mark.skipif(importlib.util.find_spec("sor._core") is None, reason="the extension is not built")
@pytest.mark.parametrize("name", kernels.COMPILED)
def test_where_one_was_not_built_none_is_compiled(name: str, tmp_path: Path) -> None:
    """Those of the folders, too, although the folders pick them later."""
    shutil.copytree(PACKAGE, tmp_path / "sor", ignore=shutil.ignore_patterns("__pycache__", "*.c"))
    (left_out,) = (tmp_path / "sor").rglob(f"{name.rpartition('.')[2]}.*{EXTENSION_SUFFIXES[-1]}")
    left_out.unlink()
    names = "import sor.routing.router as r; print(r.core.__name__, r.quotes.__name__, r.splits.__name__)"
    answer = run(f"sys.path.insert(0, {str(tmp_path)!r}); {PRINT_BACKEND}; {names}")
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert json.loads(first) == [
        "python",
        "sor._core_py",
        f"the compiled extension cannot be imported (no module {name})",
    ]
    assert second == "sor._core_py sor.market._quotes_py sor.routing._split_py"


# --- imports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["sor", *MODULES])
def test_each_module_imports_alone(module: str) -> None:
    """In silence: no output, no warning, no need of another module imported first."""
    answer = run(f"import {module}")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def rank_of(module: str) -> int | None:
    """By its folder; None where that is not in the list."""
    folder, _, name = module.removeprefix("sor.").rpartition(".")
    if module == "sor":
        return None
    if not folder:
        folder, name = (name, "") if (PACKAGE / name).is_dir() else ("", name)
    if name in COMMANDS:
        return len(FOLDERS)
    return FOLDERS.index(folder) if folder in FOLDERS else None


def resolve(name: str) -> str:
    """The module that a dotted name lies in: sor.errors.InputError lies in sor.errors."""
    known = {"sor", *SOURCES, *MODULES, *kernels.COMPILED}
    while name not in known:
        name = name.rpartition(".")[0]
    return name


def imported_names(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names of all that a module imports, in functions and under TYPE_CHECKING as well."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(filter(None, (above, node.module)))
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif (  # importlib.import_module("sor.kafka.kafka_python")
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__", "pick")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def imports_of(module: str, source: str, is_package: bool = False) -> set[str]:
    """Modules of the package that a module imports."""
    names = set(imported_names(ast.parse(source), module, is_package)) - {"sor.__version__"}
    return {resolve(name) for name in names if name.split(".")[0] == "sor"} - {module}


def pyx_imports(source: str) -> set[str]:
    """Modules of the package that a Cython source imports or cimports."""
    lines = re.findall(r"^\s*(?:from|import|cimport)\s+(sor\b[\w.]*)(?:\s+c?import\s+(\w+))?", source, re.MULTILINE)
    return {resolve(".".join(filter(None, parts))) for parts in lines}


def import_graph() -> dict[str, set[str]]:
    graph = {
        module: imports_of(module, path.read_text(encoding="utf-8"), path.name == "__init__.py")
        - ASKED_FOR.get(module, set())
        for module, path in SOURCES.items()
        if module != "sor"
    }
    for path in PYX:
        graph[f"sor.{path.stem}"] = pyx_imports(path.read_text(encoding="utf-8"))
    for path in PXD:
        source = f"{name_of(path)}_py"
        graph[source] |= pyx_imports(path.read_text(encoding="utf-8"))
    return graph


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports from a higher rank; the package itself stands above all."""

    def height(module: str) -> int:
        rank = rank_of(module)
        return len(FOLDERS) + 1 if rank is None else rank

    return [
        f"{module} (rank {height(module)}) imports {other} (rank {height(other)})"
        for module, others in sorted(graph.items())
        for other in sorted(others)
        if height(other) > height(module)
    ]


def test_every_module_has_a_rank() -> None:
    """A new folder gets a place in the list above, and in the plan of the house."""
    assert SOURCES.keys() <= {"sor", *MODULES}
    assert [module for module in import_graph().keys() | set(MODULES) if rank_of(module) is None] == []


def test_imports_lead_downwards() -> None:
    graph = import_graph()
    for module, others in ASKED_FOR.items():
        assert others <= imports_of(module, SOURCES[module].read_text(encoding="utf-8"))
    assert "sor.errors" in graph["sor.types"]  # the walk sees something
    assert "sor.market._quotes" in graph["sor.market.book"]
    assert "sor.market._quotes" in graph["sor.routing._split_py"] or not PXD  # those of a .pxd, too
    assert {"sor._core", "sor._placement"} <= graph["sor.kernels"]
    assert upward(graph) == []


def test_the_mathematics_imports_no_market() -> None:
    """The rank alone would let it: a model takes numbers, wherever they come from."""
    graph = import_graph()
    models = {module for module in graph if module.startswith("sor.models.")}
    assert "sor.models.placement" in models
    assert {module: names for module in models if (names := {n for n in graph[module] if "market" in n})} == {}


def test_imports_make_no_circle() -> None:
    """Within a rank, too: raises CycleError with the circle."""
    assert list(TopologicalSorter(import_graph()).static_order())


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("sor.types", "import sor.routing.router", {"sor.routing.router"}),
        ("sor.types", "from sor.models import static as a", {"sor.models.static"}),
        ("sor.types", "from sor.models.static import allocate", {"sor.models.static"}),
        ("sor.types", "def f():\n    from .models import static", {"sor.models.static"}),
        ("sor.types", "from .models.static import allocate", {"sor.models.static"}),
        ("sor.types", "import importlib\nimportlib.import_module('sor.models.static')", {"sor.models.static"}),
        ("sor.types", "quotes = pick('sor.market._quotes')", {"sor.market._quotes"}),
        ("sor.types", "from sor import allocate", {"sor"}),
        ("sor.cli", "from sor import __version__\nimport sorted", set()),
        ("sor.market.dbn", "from ..models import static", {"sor.models.static"}),
    ],
)
def test_the_walk_sees_every_kind_of_import(module: str, source: str, expected: set[str]) -> None:
    assert imports_of(module, source) == expected
    assert bool(upward({module: expected})) == bool(expected)


def test_the_walk_sees_the_imports_of_cython() -> None:
    source = "from sor.kernels import core\ncimport sor._core\nfrom sor cimport _core\nfrom libc.math cimport floor\n"
    assert pyx_imports(source) == {"sor.kernels", "sor._core"}


ROUTED = """
import sor
sor.run_test_harness()
book = sor.Book("A")
book.quote("V", bids=[(0.99, 7)], asks=[(1.0, 5)], fee=0.003)
routers = [sor.Router(), sor.Router(algorithm="cont_kukanov"), sor.Router(objective="shortfall")]
for router in routers:
    print(router.route(sor.Order("A", "buy", 6), book).to_json())
print(sor.place(100, 0.01, 0.003, [0.002], [50], [[10], [70]], theta=0.0005, lambda_under=0.05, lambda_over=0.05))
"""


@pytest.mark.parametrize("pure", ["0", "1"])
def test_nothing_depends_on_docstrings_or_assertions(pure: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SOR_REQUIRE_EXT"}
    answers = [
        subprocess.run(
            [sys.executable, *options, "-c", ROUTED],
            cwd=PACKAGE.parent, env=environment | {"SOR_PURE_PYTHON": pure}, stdout=subprocess.PIPE, check=True,
            timeout=60,
        ).stdout
        for options in ([], ["-OO"])
    ]  # fmt: skip
    assert answers[0] == answers[1]
    assert answers[0].count(b"schema_version") == 3


# --- the environment -------------------------------------------------------------------------------------------------


def reads_environment(source: str) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            if node.attr in names:
                return True
        elif isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names}:
            return True
    return False


def test_the_environment_is_read_in_two_places() -> None:
    readers = {module for module, path in SOURCES.items() if reads_environment(path.read_text(encoding="utf-8"))}
    assert "sor.kernels" in readers
    assert readers <= READERS_OF_ENVIRONMENT


# --- the twins' names ------------------------------------------------------------------------------------------------


def pyx_functions(source: str) -> dict[str, list[str]]:
    """Names of the arguments of every `def` and `cpdef` at the top level of a Cython source."""
    found = re.findall(r"^(?:def|cpdef \w+) (\w+)\((.*?)\)\s*:", source, re.MULTILINE | re.DOTALL)
    assert len(found) == len(re.findall(r"^(?:def|cpdef) ", source, re.MULTILINE))
    arguments = {name: re.sub(r"\[[^\]]*\]", "", text).split(",") for name, text in found}
    return {name: [text.split()[-1] for text in texts] for name, texts in arguments.items()}


def kernel_names(source: str) -> set[str]:
    """Attributes of `core` and `placement_core`, the kernels in use, that a module asks for."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("core", "placement_core")
    }


def test_the_parser_of_cython_functions() -> None:
    source = "cdef int f(int a):\n    pass\n\ndef g(const double[:, ::1] quotes, list b,\n      int64_t c):\n    pass\n"
    source += "\ncpdef tuple h(list b, double d):\n    pass\n"
    assert pyx_functions(source) == {"g": ["quotes", "b", "c"], "h": ["b", "d"]}


@pytest.mark.skipif(not PYX, reason="the Cython sources are not installed")
@pytest.mark.parametrize("path", PYX, ids=lambda path: path.stem)
def test_twins_have_the_same_names_and_arguments(path: Path) -> None:
    """What the extension offers, its Python twin has with the same arguments in the same order, none with a default."""
    twin = importlib.import_module(f"sor.{path.stem}_py")
    compiled = pyx_functions(path.read_text(encoding="utf-8"))
    assert compiled
    parameters = {name: inspect.signature(getattr(twin, name)).parameters for name in compiled}
    assert {name: list(values) for name, values in parameters.items()} == compiled
    assert all(value.default is value.empty for values in parameters.values() for value in values.values())


@pytest.mark.skipif(not PYX, reason="the Cython sources are not installed")
def test_twins_have_all_that_the_package_asks_for() -> None:
    asked = set().union(*(kernel_names(path.read_text(encoding="utf-8")) for path in SOURCES.values()))
    offered = set().union(*(pyx_functions(path.read_text(encoding="utf-8")) for path in PYX))
    assert {"allocate", "cost", "pack", "refine"} <= asked
    assert asked <= offered


@pytest.mark.skipif(not PYX, reason="the Cython sources are not installed")
@pytest.mark.parametrize("path", PYX, ids=lambda path: path.stem)
def test_the_compiled_twin_is_the_source_beside_it(path: Path) -> None:
    """An extension built before a function was added, or left over after one went, is found out."""
    try:
        module = importlib.import_module(f"sor.{path.stem}")
    except ImportError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))
    names = {name for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    assert names == set(pyx_functions(path.read_text(encoding="utf-8")))


def test_the_extra_all_has_every_extra_for_users() -> None:
    """Those for who works on the package are the rest."""
    extras = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (all_,) = extras.pop("all")
    assert all_ == f"sor[{','.join(sorted(extras.keys() - {'test', 'bench', 'docs', 'lint', 'release'}))}]"
