"""Orders worked on a recorded market."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sor.backtest.days import Day, Session, Stamps, parts_of
from sor.backtest.measures import FillRow, Parent, WorkedOrder, fills_of, measured
from sor.errors import InputError
from sor.execution.resting import Follower
from sor.execution.strategies import Setting, Strategy, strategy
from sor.kernels import pick
from sor.market.book import Books
from sor.market.columns import Batch
from sor.market.instruments import SHARES, Instruments
from sor.market.outflow import Outflows
from sor.market.profile import LONGEST
from sor.market.venues import VenueDirectory
from sor.routing.terms import terms_of
from sor.types import CostParameters, whole_number

if TYPE_CHECKING:
    from sor.backtest import _market_py as market
    from sor.execution import _routings_py as routings
    from sor.execution import _worker_py as workers
else:
    market = pick("sor.backtest._market")
    routings = pick("sor.execution._routings")
    workers = pick("sor.execution._worker")

SECOND = 10**9
QUEUES = ("pessimistic", "proportional", "optimistic")
MOST_AGE = 2**61  # nanoseconds: a time and such an age are no more than 64 bits
ANYWHERE = "*"  # the venues that a latency names by no other name


@dataclass(frozen=True)
class Rules:
    """How orders are worked and the market is simulated; all times in nanoseconds.

    Attributes
    ----------
    horizon : int
        From arrival to the end of orders that were drawn.
    complete : bool
        Whether what is left at the end is taken, for at most ``grace``; or left.
    latency : mapping of venue to sequence of int
        One way; ``*``: all others. Of several, one is drawn for each child order.
    delay : int
        Of the feed, beyond its times of receipt.
    queues : tuple of str
        Models under which strategies that rest are worked; others need one only.
    together : bool
        Whether orders of one symbol use up what they take for each other.
    refresh : int
        After which a level that went out of sight is taken to hold other shares.
    max_quote_age : int or None
        A venue whose last row is older shows nothing and fills nothing until its next one; None: however old.
    take_frozen : bool
        Whether of consolidated quotes those behind the best are taken, which the feed no longer updates.
    placement, windows, min_windows
        Horizon of `cont_kukanov`, and the samples that its outflows keep and need.
    """

    horizon: int = 300 * SECOND
    complete: bool = True
    grace: int = 60 * SECOND
    latency: Mapping[str, Sequence[int]] = field(default_factory=lambda: {ANYWHERE: (500_000,)})
    delay: int = 0
    queues: tuple[str, ...] = QUEUES
    together: bool = False
    refresh: int = 300 * SECOND
    max_quote_age: int | None = None
    take_frozen: bool = False
    seed: int = 1
    parameters: CostParameters = field(default_factory=CostParameters)
    placement: int = 60 * SECOND
    windows: int = 500
    min_windows: int = 60

    def __post_init__(self) -> None:
        longest = max(max(drawn) for drawn in self.latency.values())
        if longest >= self.horizon:
            raise InputError(
                f"latency is {longest} ns and horizon {self.horizon} ns: no order would arrive before its end"
            )
        for queue in self.queues:
            if queue not in QUEUES:
                raise InputError(f"queue is {queue!r}: it must be one of {', '.join(QUEUES)}")
        if self.max_quote_age is not None:
            whole_number("max_quote_age", self.max_quote_age, 0, MOST_AGE)


@dataclass(frozen=True)
class Job:
    """A piece of work: some strategies on the orders of some days."""

    days: tuple[Day, ...]
    orders: Mapping[tuple[str, int], Sequence[WorkedOrder]]
    strategies: tuple[tuple[int, Any, Any], ...]  # number, schedule, routing: names or objects of the user's own
    profiles: Mapping[tuple[str, int], tuple[list[int], list[int]]]
    rules: Rules
    session: Session
    depth: int


@dataclass
class Found:
    """What became of a piece of work: rows of each, with the places that they are sorted by."""

    parents: list[tuple[tuple[int, ...], Parent]] = field(default_factory=list)
    fills: list[tuple[tuple[int, ...], list[FillRow]]] = field(default_factory=list)
    unplaced: int = 0
    fees_from: set[str] = field(default_factory=set)  # venues whose fees are not of that day
    default_fees: set[str] = field(default_factory=set)
    left_out: dict[str, int] = field(default_factory=dict)  # venues, by how often, as they rejected again and again

    def join(self, other: Found) -> None:
        self.parents += other.parents
        self.fills += other.fills
        self.unplaced += other.unplaced
        self.fees_from |= other.fees_from
        self.default_fees |= other.default_fees
        self.left_out = dict(Counter(self.left_out) + Counter(other.left_out))


def work(
    job: Job,
    feed: Iterable[Batch],
    directory: VenueDirectory,
    instruments: Instruments = SHARES,
    told: Callable[[int], None] | None = None,
) -> Found:
    """Work a job's orders while its feed goes by.

    Parameters
    ----------
    told : callable, optional
        Called now and then with the number of orders, times their strategies, that are done.
    """
    wanted = {(day.symbol, day.day): day for day in job.days}
    going: dict[str, _Going] = {}
    found = Found()
    ended = 0
    for symbol, number, batch in parts_of(feed, job.session):
        day = wanted.get((symbol, number))
        if day is None:
            continue
        one = going.get(symbol)
        if one is None or one.day is not day:
            if one is not None:
                ended += one.finish(found)
            one = going[symbol] = _Going(job, day, directory, instruments)
        one.add(batch)
        if told is not None:
            told(ended + sum(len(other.market.finished) for other in going.values()))
    for one in going.values():
        ended += one.finish(found)
    if told is not None:
        told(ended)
    return found


def worked_again(
    job: Job,
    feed: Iterable[Batch],
    directory: VenueDirectory,
    instruments: Instruments,
    listener: Callable[[market.Market], Any],
) -> list[Any]:
    """The simulations of a job of one day; ``listener`` gives for its market what is told of prints and quotes."""
    (day,) = job.days
    going = _Going(job, day, directory, instruments)
    going.market.listeners.append(listener(going.market))
    for symbol, number, batch in parts_of(feed, job.session):
        if (symbol, number) == (day.symbol, day.day):
            going.add(batch)
    going.finish(Found())
    return [sim for *_, sim in going._sims]


class _Going:
    """A symbol's day that is going by."""

    def __init__(self, job: Job, day: Day, directory: VenueDirectory, instruments: Instruments) -> None:
        self.day, self._job = day, job
        instrument = instruments.get(day.symbol)
        self._lot = (1, 1) if instrument is None else instrument.ratio
        books = Books(directory)
        rated = [books.venue(publisher, day.opens) for publisher in sorted(day.publishers)]
        orders = sorted({one.entry.publisher_ids[0] for one in rated})
        slots = {
            publisher: orders.index(one.entry.publisher_ids[0])
            for publisher, one in zip(sorted(day.publishers), rated, strict=True)
        }
        by_order = {one.entry.publisher_ids[0]: one for one in rated}
        self.venues = [by_order[order].entry.venue_id for order in orders]
        self.rates = [by_order[order].rates for order in orders]
        self.stale = {one.entry.venue_id for one in rated if one.end <= one.entry.figures[0].start}
        self.unknown = {one.entry.venue_id for one in rated if not one.entry.known}
        rules = job.rules
        same = not day.late and rules.delay == 0
        latency = [tuple(rules.latency.get(venue, rules.latency[ANYWHERE])) for venue in self.venues]
        self.market = market.Market(
            self.venues, self.rates, job.depth, latency, rules.delay, same, LONGEST, day.opens, day.closes
        )
        # Round lots go by closes of months before (`Policy.round_lot`): they are public before the day. The first mid
        # of the session stands for these: the same for all orders, and nothing that comes later has a part in it.
        price = day.first_mid if day.first_mid > 0.0 else None
        self.market.take_terms(
            [terms_of(one.rules, directory.policy, day.opens, price, instrument) for one in self.rates]
        )
        self.market.traded = day.volume > day.off_exchange
        self.market.after_trades = day.after_trades
        self.market.take_frozen = rules.take_frozen
        if rules.max_quote_age is not None:
            self.market.oldest = rules.max_quote_age
        self._rows = Stamps(slots, rules.delay, job.depth)
        self._sims: list[tuple[int, WorkedOrder, Strategy, Any]] = []
        self._routings: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        job, rules = self._job, self._job.rules
        strategies = [(number, strategy(*names)) for number, *names in job.strategies]
        outflows: dict[int, Outflows] = {}  # by the time over which they are counted
        profile = job.profiles.get((self.day.symbol, self.day.day))
        crossing = routings.Sweep(True) if rules.complete else None
        for number, one in strategies:
            setting = Setting(rules.parameters, rules.min_windows, self._outflows(one, outflows), profile)
            routing = one.make_routing(setting)
            self._routings.append(routing)
            for queue, name in enumerate(QUEUES):
                if name not in (rules.queues if one.rests else rules.queues[:1]):
                    continue
                shared = market.Used(rules.refresh, True), market.Used(rules.refresh, True)
                if rules.together:
                    self.market.tables.append(shared[0])
                    self.market.sight.append(shared[1])
                for order in job.orders.get((self.day.symbol, self.day.day), ()):
                    worker = workers.Worker(
                        order.side,
                        order.size,
                        order.limit,
                        order.arrival,
                        order.end,
                        one.make_schedule(setting),
                        routing,
                        crossing,
                        rules.grace,
                        rules.delay,
                    )
                    tables = shared if rules.together else (market.Used(rules.refresh), market.Used(rules.refresh))
                    sim = market.Sim(order.number, worker, queue, *tables, rules.seed * 1_000_003 + order.number)
                    self._sims.append((number, order, one, sim))
                    self.market.begin(sim)

    def _outflows(self, one: Strategy, known: dict[int, Outflows]) -> Outflows | None:
        if not one.needs_outflows:
            return None
        over = one.placement(self._job.rules.placement)
        if over not in known:
            known[over] = Outflows(over, self._job.rules.windows)
            self.market.listeners.append(Follower(self.market.view, known[over]))
        return known[over]

    def add(self, batch: Batch) -> None:
        rows = self._rows.of(batch)
        if rows is not None:
            self.market.run(rows)

    def finish(self, found: Found) -> int:
        """The rest of the day, and what became of its orders."""
        rows = self._rows.rest()
        if rows is not None:
            self.market.run(rows)
        self.market.finish()
        units = self._lot[0] / self._lot[1]
        for number, order, one, sim in self._sims:
            place = (self.day.day, order.number, number, sim.queue)
            names = one.schedule, one.routing
            row = measured(order, self.day.day, names, sim, self.rates, self.market.gaps, self._lot)
            found.parents.append((place, row))
            for slot, _ in sim.worker.absences:
                found.left_out[self.venues[slot]] = found.left_out.get(self.venues[slot], 0) + 1
            found.fills.append((place, fills_of(order, names, sim, self.rates, self.venues, units)))
        found.unplaced += sum(getattr(routing, "unplaced", 0) for routing in self._routings)
        found.fees_from |= self.stale
        found.default_fees |= self.unknown
        return len(self._sims)


def concatenated(rows: Sequence[Any], kind: type[Any]) -> dict[str, Any]:
    """Rows as columns by the names of their fields."""
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(kind._fields)}
