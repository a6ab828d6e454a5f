"""Small markets for tests: tapes written by hand or rows of a feed, and orders that rest where they are told."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from sor.market.columns import NO_PRICE, STANDS, Batch

CENT = 10_000_000
FAR = 2**61  # a time, or a while, after all that happens
PESSIMISTIC, PROPORTIONAL, OPTIMISTIC = range(3)
Levels = Sequence[tuple[int, int]]  # price in cents and shares, the best first
BUY, SELL = 0, 1  # sides of an order


class Kernel(NamedTuple):
    """The modules of one backend."""

    market: ModuleType
    workers: ModuleType
    routings: ModuleType


@lru_cache
def kernel(backend: str) -> Kernel:
    """Of one backend; a test is skipped where the compiled one is not there, or fails where it has to be."""
    tail = "" if backend == "cython" else "_py"
    names = ("sor.backtest._market", "sor.execution._worker", "sor.execution._routings")
    try:
        return Kernel(*(importlib.import_module(name + tail) for name in names))
    except ImportError as error:
        if tail or os.environ.get("SOR_REQUIRE_EXT", "0") not in ("", "0"):
            raise
        pytest.skip(f"the compiled extension is not there: {error}")


# --- tapes -----------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A row: what venue ``slot`` shows after it, None where it stands, and what has been traded.

    ``trade`` is who took ("B", "A" or "N"), a price in cents, and shares. ``known``: when it is received, by default
    at once.
    """

    time: int
    bids: Levels | None = None
    asks: Levels | None = None
    trade: tuple[str, int, int] | None = None
    slot: int = 0
    known: int | None = None


def rows(kernel: Kernel, depth: int, tape: Iterable[Row]) -> Any:
    """A tape as the market takes it."""
    tape = list(tape)
    n = len(tape)
    one = {name: np.zeros(n, np.int64) for name in ("time", "known", "price", "size")}
    codes = {name: np.zeros(n, np.uint8) for name in ("action", "side")}
    slots = np.array([row.slot for row in tape], np.int16)
    levels = {f"{side}_price": np.full((n, depth), NO_PRICE) for side in ("bid", "ask")}
    levels |= {f"{side}_size": np.zeros((n, depth), np.int64) for side in ("bid", "ask")}
    one["price"][:] = NO_PRICE
    for i, row in enumerate(tape):
        one["time"][i], one["known"][i] = row.time, row.time if row.known is None else row.known
        if row.trade is not None:
            taker, price, size = row.trade
            codes["action"][i], codes["side"][i] = ord("T"), ord(taker)
            one["price"][i], one["size"][i] = price * CENT, size
        for name, shown in (("bid", row.bids), ("ask", row.asks)):
            if shown is None:
                levels[f"{name}_size"][i] = STANDS
                continue
            for level, (price, size) in enumerate(shown[:depth]):
                levels[f"{name}_price"][i, level], levels[f"{name}_size"][i, level] = price * CENT, size
    columns = one | codes | levels | {"slot": slots}
    return kernel.market.Rows({name: array.data for name, array in columns.items()})


def rows_of(kernel: Kernel, batch: Batch, slots: dict[int, int]) -> Any:
    """Rows of a feed, each known as it happens; a publisher without a slot never quotes."""
    where = np.array([slots.get(one, -1) for one in batch.publisher.tolist()], np.int16)
    columns = batch.columns() | {"known": batch.time, "slot": where}
    return kernel.market.Rows({name: array.data for name, array in columns.items()})


class Free:
    """Rates of a venue that charges nothing."""

    def fee_at(self, price: float) -> float:
        return 0.0


def market(
    kernel: Kernel, venues: int, depth: int, *,
    latency: int | tuple[int, ...] = 0, delay: int = 0, same: bool = True, longest: int = FAR,
) -> Any:  # fmt: skip
    names = [f"V{slot}" for slot in range(venues)]
    lags = [latency if isinstance(latency, tuple) else (latency,)] * venues
    return kernel.market.Market(names, [Free()] * venues, depth, lags, delay, same, longest, 0, FAR)


# --- orders that rest ------------------------------------------------------------------------------------------------


class Resting(NamedTuple):
    """An order of one child, which rests from a time to its end; ``price`` is in 1e-9 dollars."""

    side: int
    price: int
    shares: int
    time: int
    slot: int = 0
    end: int = FAR


@lru_cache
def placing(kernel: Kernel) -> Any:
    """A class of routings that place one child, and nothing after it."""

    class Place(kernel.workers.Routing):  # type: ignore[name-defined, misc]
        def __init__(self, child: Any) -> None:
            self.children = [child]

        def split(self, worker: Any, shares: int) -> list[Any]:
            children, self.children = self.children, []
            return children

    return Place


def simulated(kernel: Kernel, order: Resting, queue: int, used: Any = None, number: int = 0) -> Any:
    """The order under a queue model; ``used``: the tables that it shares with others."""
    schedule, new = kernel.workers.Schedule(), lambda: kernel.market.Used(FAR)
    child = kernel.workers.Child(order.slot, -order.price if order.side else order.price, order.shares, True)
    routing = placing(kernel)(child)
    worker = kernel.workers.Worker(
        order.side, order.shares, 2**62, order.time, order.end, schedule, routing, None, 0, 0
    )
    tables = (new(), new()) if used is None else used
    return kernel.market.Sim(number, worker, queue, *tables, 1)


def fills(sim: Any) -> list[tuple[int, int]]:
    """When it was filled, and with how many shares."""
    return [(fill.time, fill.shares) for fill, _ in sim.fills]


def rested(
    kernel: Kernel, tape: Iterable[Row], order: Resting, queue: int, depth: int = 1, venues: int = 1, **knobs: Any
) -> list[tuple[int, int]]:
    """Fills of one order on a tape."""
    return together(kernel, tape, [order], queue, depth, venues, **knobs)[0]


def together(
    kernel: Kernel, tape: Iterable[Row], orders: Sequence[Resting], queue: int, depth: int = 1, venues: int = 1,
    shared: bool = True, **knobs: Any,
) -> list[list[tuple[int, int]]]:  # fmt: skip
    """Fills of some orders on a tape, of which each printed share fills one where ``shared``."""
    one = market(kernel, venues, depth, **knobs)
    used = (kernel.market.Used(FAR, True), kernel.market.Used(FAR, True)) if shared else None
    if used is not None:
        one.tables.append(used[0])
        one.sight.append(used[1])
    sims = [simulated(kernel, order, queue, used, number) for number, order in enumerate(orders)]
    for sim in sims:
        one.begin(sim)
    one.run(rows(kernel, depth, tape))
    one.finish()
    return [fills(sim) for sim in sims]
