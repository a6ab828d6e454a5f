"""One order of a study once more, with all that it did and what it saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, NamedTuple

from sor.backtest.orders import Plan
from sor.backtest.pieces import source_of
from sor.backtest.work import worked_again
from sor.errors import InputError
from sor.market.columns import Batch
from sor.market.feed import Feed
from sor.market.venues import VenueDirectory

SECOND = 10**9
NOTHING = 2**62  # as a view has it: there is no best price


class Sent(NamedTuple):
    """A child order; times in nanoseconds since the epoch, price in dollars.

    ``over`` is when one that rests had traded wholly, or was to be cancelled at the latest; 0: it takes.
    """

    sent: int
    over: int
    venue: str
    price: float
    shares: float
    filled: float


@dataclass(frozen=True)
class Followed:
    """What one order did and saw.

    Attributes
    ----------
    begin, end : int
        Nanoseconds since the epoch: what is recorded of the book, from before its arrival to after its last report.
    book : list of (time, bid or None, ask or None)
        The best of all venues in dollars, as it was known, whenever one of the two changed.
    children : list of Sent
    """

    begin: int
    end: int
    book: list[tuple[int, float | None, float | None]]
    children: list[Sent]


@dataclass(frozen=True)
class Again:
    """What a study was made from, so that one of its orders can be worked again: it reads the order's day once more."""

    planned: Plan
    feed: Iterable[Batch]
    directory: VenueDirectory
    paths: Mapping[tuple[str, int], Sequence[str]]  # of the files that have a symbol's day, where that is known

    def follow(self, number: int, way: int, queue: str, done: int) -> Followed:
        """Work an order again.

        Parameters
        ----------
        number : int
            Of the order.
        way : int
            Which of the study's strategies.
        queue : str
        done : int
            When it was at its end, nanoseconds since the epoch.

        Raises
        ------
        InputError
            The feed cannot be read again.
        StreamError
        """
        planned = self.planned
        key, order = next((key, one) for key, found in planned.orders.items() for one in found if one.number == number)
        day = next(day for day in planned.days if (day.symbol, day.day) == key)
        rules = replace(planned.rules, queues=(queue,))
        orders = planned.orders[key] if rules.together else [order]
        ways = ((way, *planned.ways[way][:2]),)
        job = replace(planned.everything(), days=(day,), orders={key: orders}, strategies=ways, rules=rules)
        margin = max(SECOND, (done - order.arrival) // 10)
        feed = self.feed
        if isinstance(feed, Feed):
            asked = {"symbols": frozenset([day.symbol]), "depth": job.depth}
            files = source_of(feed, self.paths.get(key, feed.paths), self.directory, **asked).feed()
            # One symbol's rows, so in the order of time.
            feed = takewhile(lambda batch: batch.time[0] <= done + margin, files)
        elif iter(feed) is feed:
            raise InputError("the feed was an iterator, which cannot be read again")
        seen: list[_Watching] = []

        def listener(market: Any) -> _Watching:
            seen.append(_Watching(market.view, order.arrival - margin, done + margin))
            return seen[0]

        sims = worked_again(job, feed, self.directory, planned.instruments, listener)
        sim = next(sim for sim in sims if sim.number == number)
        lot = 1.0
        if planned.instruments.get(day.symbol) is not None:
            units, lots = planned.instruments[day.symbol].ratio
            lot = units / lots
        venues = seen[0].view.venues
        children = [
            Sent(
                child.sent,
                _over(sim, child, done) if child.rests else 0,
                venues[child.slot],
                abs(child.price) / 1e9,
                child.shares * lot,
                child.done() * lot,
            )
            for child in sim.worker.children
        ]
        return Followed(seen[0].begin, seen[0].end, seen[0].book, children)


def _over(sim: Any, child: Any, done: int) -> int:
    if child.done() < child.shares:
        return int(min(child.until, done))
    return max(int(fill.time) for fill, _ in sim.fills if fill.child is child)


class _Watching:
    """Keeps the best bid and offer of a view while it is told of what venues show."""

    def __init__(self, view: Any, begin: int, end: int) -> None:
        self.view, self.begin, self.end = view, begin, end
        self.book: list[tuple[int, float | None, float | None]] = []

    def printed(self, slot: int, price: int, shares: int, side: int, now: int) -> None:
        """A print changes no quote."""

    def seen(self, slot: int, now: int) -> None:
        if now > self.end:
            return
        ask, bid = (None if best == NOTHING else abs(best) / 1e9 for best in self.view.best)
        at = max(now, self.begin)
        if self.book and (self.book[-1][1:] == (bid, ask)):
            return
        if self.book and self.book[-1][0] == at:
            self.book.pop()  # of one time the last
        self.book.append((at, bid, ask))
