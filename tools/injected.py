"""How far a backtest may be believed about orders that would have moved the market: ``python tools/injected.py``.

A made market runs twice with the same random numbers: without an order of ours, which gives the feed that a backtest
works it on, and with it, which tells its true fate. So both differ by what our order causes, and by nothing else.
docs/rules.md holds what this prints, and tests/backtest/test_injected.py what must hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

import sor
from sor.backtest import ParentOrder, Rules
from sor.backtest.limit_book import TICK, BookSide, LimitBook, RestingOrder
from sor.backtest.scenario import SECOND, Scenario
from sor.backtest.synthetic import CROWDED, MarketDay
from sor.backtest.work import QUEUES
from sor.market.columns import Batch
from sor.market.venues import VenueDirectory
from sor.types import SIDES

BEFORE, WINDOW = 30, 120  # seconds until our order joins, and that it rests at most
SCENARIO = Scenario(duration=BEFORE + WINDOW, depth=10, hidden=0.0, off_exchange=False, samples=0)
SEEDS = range(1, 61)
PARTS = (0.01, 0.05, 0.13, 0.30)  # sizes of our order, of what trades in its window
NEVER = 2**63 - 1
MOMENT = 1_000  # ns, within which the market has adapted to a new value
BITS = 2**53
DIRECTORY = VenueDirectory.load()


class Fate(NamedTuple):
    """Shares filled by the end of the window, and when the first and the last came; `NEVER`."""

    filled: int
    first_fill: int
    completed: int


class Place(NamedTuple):
    """Where an order rests: side, number of the venue, and ticks behind the best price of all venues."""

    side: str
    venue: int
    behind: int = 0
    hidden: bool = False


class CommonDay(MarketDay):
    """A day whose random numbers are common to all runs of a seed, in which an order of ours may rest.

    In a `MarketDay` how many numbers are drawn depends on the book, so that one more goes on to shift all that follow.
    Here each event has numbers of its own. The order that is cancelled is the least of its venue by a mark of the order
    mixed with a number of the event, so that one order more or less changes no choice but its own.

    Nobody else cancels our order. It trades in its turn, and all of it where it is stale.

    Parameters
    ----------
    scenario : Scenario
        Its cancellations are ``uniform``, and no order grows.
    place : Place, optional
        Of our order; None: there is none.
    shares : int
    seen : bool
        Whether others decide by what we show, too: takers come to our venue where we alone are at the best price, and
        first where we alone are better, and nobody adds shares where ours are there.
    """

    def __init__(self, scenario: Scenario, place: Place | None = None, shares: int = 0, seen: bool = True) -> None:
        super().__init__(scenario, [LimitBook(mic, DIRECTORY.publisher_of(mic)) for mic in scenario.venues])
        self.ours: RestingOrder | None = None
        self.arrival = scenario.start + BEFORE * SECOND
        self._place, self._shares, self._seen = place, shares, seen
        self._marks: dict[int, int] = {}
        self._aside = False

    @property
    def fate(self) -> Fate:
        """What has become of our order."""
        ours = self.ours
        if ours is None:
            return Fate(0, NEVER, NEVER)
        return Fate(ours.executed, ours.first_fill or NEVER, ours.completed or NEVER)

    def _begin(self, number: int, time: int) -> None:
        if self._place is not None and self.ours is None and time > self.arrival:
            self._join(self._place)
        super()._begin(number, time)
        self._uniform = Random(self.scenario.seed << 32 | number).random

    def _join(self, place: Place) -> None:
        side = self.books[place.venue].sides[SIDES.index(place.side)]
        key = self._touch(side) + place.behind
        self.ours = RestingOrder(0, side, key, self._shares, place.hidden, self.arrival)
        side.add(self.ours)

    def _post(self, *order: Any, **more: Any) -> None:
        super()._post(*order, **more)
        self._marks[self.orders[-1].id] = int(self._uniform() * BITS)

    def _cancel(self, _: int) -> None:
        book = self._venue(self.books)
        others = [order for order in book.live if order is not self.ours]
        if CROWDED * self._uniform() < len(others):
            by = int(self._uniform() * BITS) | 1
            order = min(others, key=lambda one: self._marks[one.id] * by % BITS)
            self._withdraw(order)
            self._anchor(order.side.sign)

    def _withdraw_all(self, side: BookSide, hidden: bool, key: int) -> None:
        ours = self.ours
        if ours is not None and ours.left and (ours.side, ours.hidden, ours.key) == (side, hidden, key):
            self._aside, left = True, ours.left
            side.reduce(ours, left)
            ours.left = left
        super()._withdraw_all(side, hidden, key)

    def _move(self, ticks: int) -> None:
        super()._move(ticks)
        if self._aside and self.ours is not None:  # who withdraws all of a price leaves ours there
            self.ours.side.add(self.ours)
            self._aside = False

    def _shown(self, side: BookSide, key: int) -> int:
        ours, shown = self.ours, super()._shown(side, key)
        if self._seen or self._aside or ours is None or (ours.side, ours.hidden, ours.key) != (side, False, key):
            return shown
        return shown - ours.left

    def _execute(self, side: BookSide, limit: int, quantity: int) -> int:
        ours = self.ours
        taker = limit == self._touch(side)  # others take at better prices, and know which venue's
        if self._seen and taker and ours is not None and ours.left and ours.side.sign == side.sign and ours.key < limit:
            quantity = super()._execute(ours.side, ours.key, quantity)
        return super()._execute(side, limit, quantity)


class Rest:
    """Rests at one venue and price.

    Parameters
    ----------
    venue : str
    price : float
    """

    name = "rest"

    def __init__(self, venue: str, price: float) -> None:
        self._venue, self._price = venue, price

    def split(self, market: Any, shares: int) -> list[Any]:
        return [market.rest(self._venue, shares, self._price)]


class Case(NamedTuple):
    """An order of ours: what became of it, and what a backtest says."""

    shares: int
    true: tuple[Fate, ...]  # where traders do not look at it, and where they do
    found: tuple[Fate, ...]  # by queue model

    def inside(self, seen: bool) -> tuple[bool | None, ...]:
        """Whether quantity, first fill and completion are in the range; None: it never came, nor was said to."""
        true, low, high = self.true[seen], self.found[0], self.found[-1]
        found: list[bool | None] = [low.filled <= true.filled <= high.filled]
        for mine, soon, late in zip(true[1:], high[1:], low[1:], strict=True):
            never = min(mine, soon, late) == NEVER
            found.append(None if never else soon - MOMENT <= mine <= late + MOMENT)
        return tuple(found)


def run(scenario: Scenario, place: Place | None = None, shares: int = 0, seen: bool = True) -> CommonDay:
    day = CommonDay(scenario, place, shares, seen)
    day.run()
    return day


def place_of(scenario: Scenario) -> Place:
    """Sides and venues take turns."""
    return Place(SIDES[scenario.seed % 2], scenario.seed // 2 % len(scenario.venues))


def cases(seed: int) -> list[Case]:
    """An order of each size in the market of a seed, alone in it."""
    scenario = replace(SCENARIO, seed=seed)
    place = place_of(scenario)
    without = run(scenario)
    feed = list(without.tape.batches(scenario))
    volume = sum(int(one.size[(one.action == ord("T")) & (one.time > without.arrival)].sum()) for one in feed)
    sizes = [1, *(max(1, round(part * volume)) for part in PARTS)]
    days = [[run(scenario, place, shares, seen) for seen in (False, True)] for shares in sizes]
    found = worked(feed, place, [day for day, _ in days])
    true = [tuple(day.fate for day in both) for both in days]
    return [Case(*one) for one in zip(sizes, true, found, strict=True)]


def worked(feed: list[Batch], place: Place, days: list[CommonDay]) -> list[tuple[Fate, ...]]:
    """What a backtest says of the orders of some days, by queue model, on a feed without them."""
    scenario, ours = days[0].scenario, [day.ours for day in days if day.ours is not None]
    price = ours[0].key * ours[0].side.sign * TICK / 1e9
    orders = [
        ParentOrder(symbol=scenario.symbol, side=place.side, quantity=one.size, arrival=one.time, end=scenario.end)
        for one in ours
    ]
    way = "immediate", Rest(scenario.venues[place.venue], price)
    parents = sor.backtest(feed, orders, [way], rules=Rules(complete=False, latency={"*": (0,)})).parents
    names = "order", "routing", "queue", "size", "filled", "first_fill", "last_fill"
    fates = {}
    rows = zip(*(parents[name].tolist() for name in names), strict=True)
    for order, routing, queue, size, filled, first, last in rows:
        fates[order, routing, queue] = Fate(int(filled), first or NEVER, last if filled == size else NEVER)
    return [tuple(fates[order, Rest.name, queue] for queue in range(len(QUEUES))) for order in range(len(orders))]


# --- for people ------------------------------------------------------------------------------------------------------


def table(by_size: list[list[Case]]) -> list[str]:
    """How much of the orders was filled, in truth and as a backtest says, and how many were inside its range."""
    found = [
        f"{'':<36}filled, on average                 inside the range",
        f"{'size':<12}{'true':>9}{QUEUES[0]:>14}{QUEUES[-1]:>13}{'quantity':>15}{'first fill':>13}{'completion':>13}",
    ]
    for seen, title in ((False, "traders decide as if it were not there"), (True, "traders see it")):
        found += ["", title]
        for name, some in zip(("one share", *(f"{part:.0%}" for part in PARTS)), by_size, strict=True):
            filled = [mean([fates[at].filled / shares for shares, *both in some for fates in (both[which],)])
                      for which, at in ((0, seen), (1, 0), (1, -1))]  # fmt: skip
            inside = [mean(list(one)) for one in zip(*(case.inside(seen) for case in some), strict=True)]
            found.append(
                f"  {name:<10}{filled[0]:>9.1%}{filled[1]:>14.1%}{filled[2]:>13.1%}"
                f"{inside[0]:>15.1%}{inside[1]:>13.1%}{inside[2]:>13.1%}"
            )
    return found


def mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def trials() -> list[list[Case]]:
    """Cases by size."""
    return [list(some) for some in zip(*(cases(seed) for seed in SEEDS), strict=True)]


if __name__ == "__main__":
    print("\n".join(table(trials())))
