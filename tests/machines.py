"""The modules that work an order, all of them Python or all of them compiled, and books that they are shown."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from accepted import Fee

import sor.execution
from sor import kernels
from sor.market.columns import NO_PRICE

KERNELS = {"python": "_py", "cython": ""}
COMPILED = ("_view", "_worker", "_routings")
PICKING = ("schedules", "resting", "strategies")  # these choose their kernel as they are imported
TICK = 10**7  # a cent


class Machine(NamedTuple):
    views: Any
    workers: Any
    routings: Any
    schedules: Any
    resting: Any
    strategies: Any


@cache
def machine(kernel: str) -> Machine:
    """All modules of one kernel; those that choose are imported once more."""
    compiled = [importlib.import_module(f"sor.execution.{name}{KERNELS[kernel]}") for name in COMPILED]
    with (
        mock.patch.object(kernels, "BACKEND", kernel),
        mock.patch.dict(sys.modules),
        mock.patch.dict(vars(sor.execution)),
    ):
        for name in PICKING:
            sys.modules.pop(f"sor.execution.{name}", None)
        return Machine(*compiled, *(importlib.import_module(f"sor.execution.{name}") for name in PICKING))


Levels = Sequence[tuple[int | None, int]]


def columns_of(depth: int, rows: Sequence[tuple[Levels, Levels]]) -> list[Any]:
    """Rows of (bids, asks), each levels of (price in cents, size), as `View.show_row` takes them; None: no price."""
    columns = []
    for side in (0, 1):
        padded = [[*row[side], *[(None, 0)] * (depth - len(row[side]))] for row in rows]
        columns.append([[NO_PRICE if price is None else price * TICK for price, _ in levels] for levels in padded])
        columns.append([[size for _, size in levels] for levels in padded])
    return [np.array(column, np.int64).reshape(-1, depth) for column in columns]


def show(view: Any, slot: int, bids: Levels, asks: Levels) -> int:
    """Let a venue show levels, in arrays of their own."""
    view.begin()
    return int(view.show_row(slot, *columns_of(view.depth, [(bids, asks)]), 0))


def view_of(machine: Machine, depth: int, fees: Sequence[float] = (0.0, 0.0, 0.0)) -> Any:
    return machine.views.View([f"V{slot}" for slot in range(len(fees))], [Fee(fee) for fee in fees], depth)
