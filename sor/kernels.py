"""Picks the kernels: the compiled ones where they are there, else their Python sources. All are compiled, or none.

``SOR_PURE_PYTHON=1`` forces Python, ``SOR_REQUIRE_EXT=1`` refuses it; `BACKEND` says which is in use and `WHY`
says why. These two variables are read here, at import, and nowhere else.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

COMPILED = (  # each beside its NAME_py
    "sor._core",
    "sor._placement",
    "sor.backtest._market",
    "sor.execution._routings",
    "sor.execution._view",
    "sor.execution._worker",
    "sor.market._messages",
    "sor.market._quotes",
    "sor.market._rows",
    "sor.routing._many",
    "sor.routing._split",
)
MAX_THREADS = 1024
HERE = os.path.dirname(os.path.abspath(__file__))


def _missing() -> str | None:
    """The first that is not there. Looked for only, as the folders' own are imported by the folders."""
    for name in COMPILED:
        folders = name.split(".")[1:-1]
        if PathFinder.find_spec(name, [os.path.join(HERE, *folders)]) is None:
            return name
    return None


def _python(why: str) -> tuple[str, str]:
    if os.environ.get("SOR_REQUIRE_EXT", "0") not in ("", "0"):
        raise ImportError(f"SOR_REQUIRE_EXT=1, but {why}")
    return "python", why


def _chosen() -> tuple[str, str]:
    """Which backend, and why."""
    if os.environ.get("SOR_PURE_PYTHON", "0") not in ("", "0"):
        return _python("SOR_PURE_PYTHON=1")
    missing = _missing()
    if missing is not None:
        return _python(f"the compiled extension cannot be imported (no module {missing})")
    try:
        importlib.import_module("sor._core")
        importlib.import_module("sor._placement")
    except ImportError as error:
        return _python(f"the compiled extension cannot be imported ({error})")
    return "cython", "the compiled extension is installed"


BACKEND, WHY = _chosen()


def pick(name: str) -> Any:
    """The module ``name`` of `COMPILED`, or its Python source."""
    return importlib.import_module(name if BACKEND == "cython" else f"{name}_py")


def in_threads(rows: int, threads: int, solve: Callable[[slice], None]) -> None:
    """Call ``solve`` with slices that make up so many rows, in so many threads; it has to let go of Python's lock.

    What is wrong with the first of them that fails is raised.
    """
    parts = min(threads, max(rows, 1))
    edges = [rows * i // parts for i in range(parts + 1)]
    first, *others = map(slice, edges, edges[1:])
    if not others:
        solve(first)
        return
    from concurrent.futures import ThreadPoolExecutor  # milliseconds that most runs need not wait for

    with ThreadPoolExecutor(len(others)) as pool:
        started = [pool.submit(solve, part) for part in others]
        solve(first)
        for one in started:
            one.result()  # an error shows only when it is asked for


core = pick("sor._core")
placement_core = pick("sor._placement")
