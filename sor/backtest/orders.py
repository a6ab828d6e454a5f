"""Which orders are worked in which ways on which days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sor.backtest.days import BUCKET, SECOND, Day, Session, arrivals
from sor.backtest.measures import WorkedOrder
from sor.backtest.work import Job, Rules
from sor.errors import InputError
from sor.execution.strategies import Strategy, strategy
from sor.market.fields import LARGEST_PRICE, LARGEST_TIME, iso_of
from sor.market.instruments import Instruments
from sor.types import SIDES, Side, one_of, real_number, text, whole_number

NOTHING = 2**62  # a limit that binds nothing
MOST_ORDERS = 10**7
LIVES = 2000  # of a piece of work: an order in one way, under one queue model
ARRIVALS = 100  # a symbol and day, where neither a number nor a time between them is given


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Orders to be drawn from each symbol and day of a feed.

    Parameters
    ----------
    sizes : tuple of numbers
        Shares, or units of an instrument; each at every arrival.
    sides : tuple of {"buy", "sell"}
        Each at every arrival.
    number : int, optional
        Arrivals a symbol and day, at times drawn evenly from the session.
    every : int, optional
        Nanoseconds between arrivals, instead of a number.
    """

    sizes: tuple[Any, ...] = (1000,)
    sides: tuple[Side, ...] = ("buy",)
    number: int | None = None
    every: int | None = None

    def __post_init__(self) -> None:
        if not self.sizes or not self.sides:
            raise InputError("sizes and sides of orders must not be empty")
        for side in self.sides:
            one_of("sides", side, SIDES)
        if self.number is not None and self.every is not None:
            raise InputError("number and every of orders exclude each other")
        if self.number is not None:
            whole_number("number", self.number, 1, MOST_ORDERS)
        if self.every is not None:
            whole_number("every", self.every, 1)


class ParentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order of one's own: what was really traded, to be worked again in other ways.

    Parameters
    ----------
    symbol : str
    side : {"buy", "sell"}
    quantity : int or float
    arrival : int
        Nanoseconds since the epoch.
    end : int, optional
        By default a horizon after the arrival.
    limit_price : float, optional
    """

    symbol: str
    side: Side
    quantity: int | float
    arrival: int
    end: int | None = None
    limit_price: float | None = None

    def __post_init__(self) -> None:
        text("symbol", self.symbol)
        one_of("side", self.side, SIDES)
        whole_number("arrival", self.arrival, 0, LARGEST_TIME)
        if self.end is not None:
            whole_number("end", self.end, 0, LARGEST_TIME)
        if self.limit_price is not None:
            real_number("limit_price", self.limit_price, 1e-9, LARGEST_PRICE)


def ways_of(strategies: Iterable[tuple[Any, Any]], baseline: str) -> list[tuple[Any, Any, Strategy]]:
    """Strategies without repetitions, those of one schedule together, each schedule with the baseline."""
    given = [(schedule, routing, strategy(schedule, routing)) for schedule, routing in strategies]
    if not given:
        raise InputError("strategies is empty: at least one is needed")
    found: dict[tuple[str, str], tuple[Any, Any, Strategy]] = {}
    for schedule in dict.fromkeys(one.schedule for _, _, one in given):
        mine = [one for one in given if one[2].schedule == schedule]
        for one in [*mine, (mine[0][0], baseline, strategy(mine[0][0], baseline))]:
            known = found.setdefault((one[2].schedule, one[2].routing), one)
            if not all(isinstance(other, str) or other is own for own, other in zip(known[:2], one[:2], strict=True)):
                raise InputError(f"strategies has two named {known[2].schedule} x {known[2].routing}: give one a name")
    return list(found.values())


class Plan:
    """Which orders are worked in which ways on which days, and why not on others."""

    def __init__(
        self,
        days: list[Day],
        ways: list[tuple[Any, Any, Strategy]],
        orders: Orders | Sequence[ParentOrder],
        rules: Rules,
        session: Session,
        instruments: Instruments,
    ) -> None:
        self.days, self.ways = days, ways
        self.rules, self.session, self.instruments = rules, session, instruments
        self.depth = max(day.depth for day in days)
        self.notes: list[str] = []
        self.redrawn = 0
        self.profiles = self._profiles()
        self.orders: dict[tuple[str, int], list[WorkedOrder]] = {}
        self._number = 0
        if any(one.needs_trades for _, _, one in ways) and not any(day.prints for day in days):
            raise InputError("schedule pov follows the volume of trades, and the feed has none")
        if isinstance(orders, Orders):
            self._draw(orders)
        else:
            self._take(orders)
        if not self._number:
            raise InputError(self._why_none())
        self._of_one = sum(len(rules.queues) if one.rests else 1 for _, _, one in ways)
        self.lives = self._number * self._of_one

    def _profiles(self) -> dict[tuple[str, int], tuple[list[int], list[int]]]:
        """For each symbol and day the volumes of its days before; days without one are left out."""
        if not any(one.needs_profile for _, _, one in self.ways):
            return {}
        before: dict[str, dict[int, int]] = {}
        found = {}
        for day in self.days:
            known = before.setdefault(day.symbol, {})
            if known:
                buckets = range((day.closes - day.opens - 1) // BUCKET + 1)
                times = [day.opens + BUCKET * i for i in (*buckets, len(buckets))]
                found[day.symbol, day.day] = times, [known.get(bucket, 0) for bucket in buckets]
            for bucket, shares in day.volumes.items():
                known[bucket] = known.get(bucket, 0) + shares
        if not any(sum(volumes) for _, volumes in found.values()):
            raise InputError(
                "schedule vwap goes by the volume of earlier days, and no day of the feed has one with trades"
            )
        left = [day for day in self.days if (day.symbol, day.day) not in found]
        self.days = [day for day in self.days if (day.symbol, day.day) in found]
        names = ", ".join(dict.fromkeys(day.name for day in left))
        self.notes.append(
            f"no orders on {names}: vwap knows no earlier day there, and all are compared on the same orders"
        )
        return found

    def _draw(self, orders: Orders) -> None:
        rules = self.rules
        placed = [one.placement(rules.placement) for _, _, one in self.ways if one.needs_outflows]
        warm_up = max(rules.placement, *placed) + (rules.min_windows + 1) * SECOND if placed else 0
        number = orders.number if orders.every is None else None
        short = []
        for day in self.days:
            times, redrawn = arrivals(day, rules.horizon, warm_up, rules.seed, number or ARRIVALS, orders.every)
            self.redrawn += redrawn
            if not times:
                short.append(f"{day.symbol} on {day.name}")
            sizes = [_lots(self.instruments, day.symbol, size) for size in orders.sizes]
            for arrival in times:
                for side in orders.sides:
                    for size in sizes:
                        self._add(day, SIDES.index(side), size, arrival, arrival + rules.horizon, NOTHING)
        if short and self._number:
            shown = ", ".join(short[:5]) + (f" and {len(short) - 5} more" if len(short) > 5 else "")
            self.notes.append(
                f"no orders of {shown}: no time there has a mid, a horizon before the end, and a warm-up before it"
            )

    def _take(self, orders: Sequence[ParentOrder]) -> None:
        rules = self.rules
        by_symbol: dict[str, list[Day]] = {}
        for day in self.days:
            by_symbol.setdefault(day.symbol, []).append(day)
        for i, order in enumerate(orders):
            if not isinstance(order, ParentOrder):
                raise InputError(f"orders[{i}] is {order!r:.200}: it must be a ParentOrder")
            end = order.arrival + rules.horizon if order.end is None else order.end
            live = [one for one in by_symbol.get(order.symbol, ()) if one.first <= order.arrival <= one.last]
            if not live:
                raise InputError(
                    f"orders[{i}] of {order.symbol} arrives at {iso_of(order.arrival)}: the feed has nothing of it then"
                )
            day = live[0]
            if not order.arrival < end <= max(day.closes, day.last):
                raise InputError(
                    f"end of orders[{i}] is {iso_of(end)}: it must be after its arrival, and within its day"
                )
            side = SIDES.index(order.side)
            limit = NOTHING if order.limit_price is None else round(order.limit_price * 1e9) * (-1 if side else 1)
            self._add(day, side, _lots(self.instruments, order.symbol, order.quantity), order.arrival, end, limit)

    def _add(self, day: Day, side: int, size: int, arrival: int, end: int, limit: int) -> None:
        order = WorkedOrder(self._number, day.symbol, side, size, arrival, end, limit)
        self.orders.setdefault((day.symbol, day.day), []).append(order)
        self._number += 1

    def _why_none(self) -> str:
        spans = [(day.name, day.first, day.last, day.opens, day.closes) for day in self.days]
        name, first, last, opens, closes = spans[0]
        needed = self.rules.horizon / SECOND
        return (
            f"no order can arrive: on {name} rows are from {iso_of(first)} to {iso_of(last)} and the session from "
            f"{iso_of(opens)} to {iso_of(closes)}; an order needs {needed:g} s of both, a mid when it arrives, and "
            "what its strategies need to warm up"
        )

    def everything(self) -> Job:
        """All work in one piece."""
        return self._job(self.days, range(len(self.ways)))

    def jobs(self) -> list[Job]:
        """The work in pieces, which do not depend on how many work on them: by day, symbols and strategies."""
        found = []
        for number in dict.fromkeys(day.day for day in self.days):
            for days in self._portions([day for day in self.days if day.day == number]):
                groups = min(len(self.ways), -(-sum(map(self._lives, days)) // LIVES))
                found += [self._job(days, range(group, len(self.ways), groups)) for group in range(groups)]
        return found

    def _portions(self, days: list[Day]) -> list[list[Day]]:
        """Symbols of a day that are worked together, as their file may be the same."""
        found: list[list[Day]] = []
        lives = LIVES
        for day in days:
            mine = self._lives(day)
            lives += mine
            if lives > LIVES:
                found.append([])
                lives = mine
            found[-1].append(day)
        return [portion for portion in found if sum(map(self._lives, portion))]

    def _lives(self, day: Day) -> int:
        return len(self.orders.get((day.symbol, day.day), ())) * self._of_one

    def _job(self, days: Sequence[Day], ways: Iterable[int]) -> Job:
        keys = {(day.symbol, day.day) for day in days}
        orders = {key: found for key, found in self.orders.items() if key in keys}
        strategies = tuple((i, *self.ways[i][:2]) for i in ways)
        profiles = {key: found for key, found in self.profiles.items() if key in keys}
        return Job(tuple(days), orders, strategies, profiles, self.rules, self.session, self.depth)


def _lots(instruments: Instruments, symbol: str, size: Any) -> int:
    instrument = instruments.get(symbol)
    return whole_number("order size", size, 1) if instrument is None else instrument.lots("order size", size, 1)
