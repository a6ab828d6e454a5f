"""What is built: a source distribution that has all it builds from and no tests, and an install without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
BUILT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "*.c", "__pycache__")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"

pytestmark = pytest.mark.network


def run(folder: Path, *command: object, **variables: str) -> str:
    """The output, errors included, of a command of Python's in a folder that has to succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SOR_", "PYTHON"))}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables}
    line = [sys.executable, *map(str, command)]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout by the tools that pyproject.toml asks for."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(CHECKOUT, folder / "checkout", ignore=BUILT)
    run(folder, "-m", "pip", "install", "-q", "--target", folder / "tools", "setuptools>=77", "Cython>=3.1,<4")
    run(folder / "checkout", "-c", BUILD, folder, PYTHONPATH=str(folder / "tools"))
    (found,) = folder.glob("sor-*.tar.gz")
    return found


def test_the_source_distribution_has_every_source_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "sor").rglob("*")
        if path.is_file() and path.suffix not in (".so", ".c", ".pyc")
    }
    assert sources | {"setup.py", "pyproject.toml", "README.md", "LICENSE", "smart_order_router.py"} <= held
    assert {name for name in held if name.startswith("tests")} == set()


def test_without_a_compiler_the_source_distribution_installs_all_the_same(sdist: Path, tmp_path: Path) -> None:
    """`sor version` tells which kernels run, and why; what a build warns of is shown with `-v`, by pip 26.3 `-vv`."""
    installed = tmp_path / "installed"
    told = run(tmp_path, "-m", "pip", "install", "-vv", "--no-deps", "--target", installed, sdist, CC="false")
    assert "sor._core was not compiled" in told
    libraries = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    version = run(tmp_path, "-S", "-m", "sor", "version", PYTHONPATH=libraries)  # -S: no way to the checkout
    assert "kernels: python (the compiled extension cannot be imported (" in version
    assert "$250,296.50" in run(tmp_path, "-S", "-m", "sor", "demo", PYTHONPATH=libraries)
