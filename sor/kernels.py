"""Picks the kernels: the compiled ones where they are there, else their pure-Python twins.

``SOR_PURE_PYTHON=1`` forces Python, ``SOR_REQUIRE_EXT=1`` refuses it; `BACKEND` says which is in use and `WHY`
says why. These two variables are read here, at import, and nowhere else.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from sor import _core_py, _placement_py, _routing_py

core: Any = _core_py
placement_core: Any = _placement_py
routing: Any = _routing_py
BACKEND = "python"
WHY = "SOR_PURE_PYTHON=1"

if os.environ.get("SOR_PURE_PYTHON", "0") in ("", "0"):
    try:
        compiled = (
            importlib.import_module("sor._core"),
            importlib.import_module("sor._placement"),
            importlib.import_module("sor._routing"),
        )
        core, placement_core, routing = compiled  # all or none
        BACKEND, WHY = "cython", "the compiled extension is installed"
    except ImportError as error:
        WHY = f"the compiled extension cannot be imported ({error})"

if BACKEND == "python" and os.environ.get("SOR_REQUIRE_EXT", "0") not in ("", "0"):
    raise ImportError(f"SOR_REQUIRE_EXT=1, but {WHY}")
