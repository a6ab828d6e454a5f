"""Fixtures for all tests: the twins of the kernels, where things lie, and how hard hypothesis tries."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from types import ModuleType

import machines
import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["kafka_broker.fixtures"]

NO_DATA = "the recorded data beside the checkout is not there,"
NO_HFT = "hftbacktest is not installed"  # CI has it on one version of Python
LONG = (
    "test_chaos",
    "test_exactly_once",
    "test_kafka",
    "test_packaging",
    "test_faults",
    "test_kafka_broker",
    "test_orders",
    "test_docs",
    "test_fuzz",
    "test_guards",
)
CHECKOUT = Path(__file__).resolve().parents[1]
TWINS = {"python": "sor._core_py", "cython": "sor._core"}
PLACEMENT_TWINS = {"python": "sor._placement_py", "cython": "sor._placement"}

# No verdict may depend on the speed of the machine; "ci" also draws the same examples in every run.
settings.register_profile("default", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), max_examples=120, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def load_twin(name: str, twins: dict[str, str] = TWINS) -> ModuleType:
    """A twin by its name; where the compiled one is missing the test is skipped, or fails if it is required."""
    try:
        return importlib.import_module(twins[name])
    except ImportError as error:
        message = f"{twins[name]} cannot be imported: {error}"
        if name == "python" or os.environ.get("SOR_REQUIRE_EXT", "0") not in ("", "0"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


@pytest.fixture(scope="session", params=TWINS)
def core(request: pytest.FixtureRequest) -> ModuleType:
    """Each twin in turn."""
    return load_twin(request.param)


@pytest.fixture(scope="session")
def twins() -> tuple[ModuleType, ModuleType]:
    """Both twins, (python, cython), to be held against each other."""
    return load_twin("python"), load_twin("cython")


@pytest.fixture(scope="session")
def placement_twins() -> tuple[ModuleType, ModuleType]:
    """Both twins of the placement model, (python, cython)."""
    return load_twin("python", PLACEMENT_TWINS), load_twin("cython", PLACEMENT_TWINS)


@pytest.fixture(scope="session", params=machines.KERNELS)
def machine(request: pytest.FixtureRequest) -> machines.Machine:
    """What works an order, on each kernel in turn."""
    load_twin(request.param, {name: f"sor.execution._worker{end}" for name, end in machines.KERNELS.items()})
    return machines.machine(request.param)


@pytest.fixture
def on_each_twin(core: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package runs on each twin in turn, in every module that has bound the kernel in use; returns the twin."""
    import sor.models.static
    import sor.routing.router

    users = [module for name, module in sys.modules.items() if name.startswith("sor.") and name != "sor.kernels"]
    for module in users:
        if getattr(module, "core", None) is sor.kernels.core:
            monkeypatch.setattr(module, "core", core)
    assert sor.models.static.core is core
    return core


@pytest.fixture(params=PLACEMENT_TWINS)
def on_each_placement_twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`sor.models.placement` runs on each twin in turn; returns the twin."""
    import sor.models.placement

    twin = load_twin(request.param, PLACEMENT_TWINS)
    monkeypatch.setattr(sor.models.placement, "placement_core", twin)
    return twin


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Commands run within the tests configure logging; later tests in the same process are to see their records."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = [handler for handler in root.handlers if handler in handlers] or handlers


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded data and reference figures beside the checkout."""
    path = CHECKOUT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"{NO_DATA} at {path}")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take long come first: a worker that got one of them last would end long after the others."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skipped test is a failed one (SOR_FORBID_SKIPS=1), but for want of data that is not of this project,
    or of a package that is not made for this version of Python.
    """
    report = yield
    allowed = NO_DATA in str(report.longrepr) or (NO_HFT in str(report.longrepr) and sys.version_info[:2] != (3, 11))
    forbidden = os.environ.get("SOR_FORBID_SKIPS", "0") not in ("", "0") and not allowed
    if report.skipped and not hasattr(report, "wasxfail") and forbidden:
        report.outcome = "failed"
        report.longrepr = f"skipped, and SOR_FORBID_SKIPS is set: {report.longrepr}"
    return report
