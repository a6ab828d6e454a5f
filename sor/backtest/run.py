"""From a feed to a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sor.backtest.days import Session, survey
from sor.backtest.followed import Again
from sor.backtest.orders import Orders, ParentOrder, Plan, ways_of
from sor.backtest.study import Study, study_of, venues_of
from sor.backtest.work import ANYWHERE, Found, Rules, Source, in_processes, work
from sor.errors import InputError
from sor.execution.strategies import Strategy
from sor.market.columns import Batch
from sor.market.feed import Feed
from sor.market.instruments import SHARES, Instruments
from sor.market.venues import VenueDirectory
from sor.types import whole_number

MOST_HELD = 2**28  # bytes of a feed that is read once


def backtest(
    feed: Feed | Batch | Sequence[Batch],
    orders: Orders | Sequence[ParentOrder],
    strategies: Iterable[tuple[Any, Any]] = (("immediate", "brute_force"),),
    *,
    baseline: str = "nbbo",
    rules: Rules | None = None,
    session: Session | None = None,
    directory: VenueDirectory | None = None,
    instruments: Instruments | None = None,
    jobs: int = 1,
    told: Callable[[int, int], None] | None = None,
) -> Study:
    """Work orders on recorded markets in several ways, and compare what they cost.

    Parameters
    ----------
    feed : Feed, Batch or several
        What `sor.read_feed` gives; it is read twice.
    orders : Orders or list of ParentOrder
        To be drawn, or one's own.
    strategies : iterable of (schedule, routing)
        By name, such as ``("twap:10", "brute_force")``, or objects of one's own; see `sor.execution.strategies`.
    baseline : str
        The routing that others are held against, added to each schedule where it is missing.
    rules : Rules, optional
    session : Session, optional
        By default 09:30 to 16:00 in New York.
    directory, instruments, optional
        As for `sor.read_feed`; instruments by default those of the feed.
    jobs : int
        Processes; results are the same bytes for any number. More than one needs a `Feed` of files.
    told : callable, optional
        Called with the numbers of orders worked and of all, a strategy and queue model each.

    Returns
    -------
    Study

    Raises
    ------
    InputError
        Where an argument is not what it may be, or the feed has nothing for these orders; it says what.
    StreamError
        The feed cannot be read to its end.
    """
    rules = Rules() if rules is None else rules
    session = Session() if session is None else session
    directory = VenueDirectory.load() if directory is None else directory
    instruments = getattr(feed, "instruments", SHARES) if instruments is None else instruments
    batches: Any = [feed] if isinstance(feed, Batch) else feed
    ways = ways_of(strategies, baseline)
    held = _Held(batches)
    days = survey(held, session)
    if not days:
        raise InputError(_nothing(batches))
    _check_venues([one for _, _, one in ways], rules, venues_of(days, directory), directory)
    planned = Plan(days, ways, orders, rules, session, instruments)
    found = _found(planned, batches, held, directory, jobs, told)
    study = study_of(planned, found, feed, directory, baseline)
    study.again = Again(planned, batches, directory)
    return study


class _Held:
    """A feed that goes by, and is kept as long as it is small: then it need not be read again."""

    def __init__(self, feed: Iterable[Batch]) -> None:
        self.batches: list[Batch] = []
        self._feed = feed

    def __iter__(self) -> Iterator[Batch]:
        room = MOST_HELD
        for batch in self._feed:
            room -= sum(column.nbytes for column in batch.columns().values())
            if room < 0:
                self.batches = []
            else:
                self.batches.append(batch)
            yield batch


def _check_venues(ways: Iterable[Strategy], rules: Rules, quoting: Iterable[str], directory: VenueDirectory) -> None:
    """Refuse a venue that does not quote: an order for it would wait until its end, which looks like an answer.

    Latencies may be those of all venues that there are.
    """
    known = list(quoting)
    for one in ways:
        if one.venue is not None and one.venue not in known:
            may_be = f"it must be one of {', '.join(known)}"
            raise InputError(f"routing is {one.routing!r}: {one.venue!r} does not quote in this feed, {may_be}")
    directory.check_ids(venue for venue in rules.latency if venue != ANYWHERE)


def _nothing(feed: Any) -> str:
    skipped = getattr(feed, "skipped", None)
    if skipped:
        left_out = ", ".join(f"{why} {rows:,}" for why, rows in skipped.items())
        return f"the feed has no row that was asked for: left out {left_out}"
    return "the feed has no rows"


def _found(
    planned: Plan,
    feed: Any,
    held: _Held,
    directory: VenueDirectory,
    processes: int,
    told: Callable[[int, int], None] | None,
) -> Found:
    """What became of all orders, in the order of days, orders, strategies and queue models."""
    found = Found()

    def tell(done: int) -> None:
        if told is not None:
            told(done, planned.lives)

    whole_number("jobs", processes, 1, 1024)
    tell(0)
    if processes == 1:
        again = held.batches or (feed.at_depth(planned.depth) if isinstance(feed, Feed) else feed)
        found = work(planned.everything(), again, directory, planned.instruments, tell)
    else:
        if not isinstance(feed, Feed):
            raise InputError("jobs is more than 1: the feed must be one of files, as sor.read_feed gives it")
        jobs = [(job, Source.of(feed, job, directory)) for job in planned.jobs(processes)]
        for one in in_processes(jobs, processes, tell):
            found.join(one)
    found.parents.sort(key=lambda row: row[0])
    found.fills.sort(key=lambda row: row[0])
    return found
