"""From a feed to a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from sor.backtest.days import Day, Session, survey
from sor.backtest.followed import Again
from sor.backtest.orders import Orders, ParentOrder, Plan, ways_of
from sor.backtest.pieces import Surveyed, done, piece_of, surveyed, workers
from sor.backtest.study import Study, study_of, venues_of
from sor.backtest.work import ANYWHERE, Found, Rules, work
from sor.errors import InputError
from sor.execution.strategies import Strategy
from sor.market.columns import Batch, arrow
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
    dask: str | None = None,
    keep: str | None = None,
    told: Callable[[int, int], None] | None = None,
    command: str | None = None,
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
    dask : str, optional
        The address of a Dask scheduler, whose workers then do the work: they read the files by themselves.
    keep : path or address, optional
        A folder for pieces of work that are done: a run that is started again does only what is missing there.
    told : callable, optional
        Called with the numbers of orders worked and of all, a strategy and queue model each.
    command : str, optional
        What made the study, to be told in it.

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
    whole_number("jobs", jobs, 1, 1024)
    if keep is not None:
        arrow()  # missed now, and not after all files have been read
    with workers(jobs, dask) as pool:
        given = _Given(batches, strategies, baseline, rules, session, directory, instruments)
        if pool is None and keep is None:
            return _at_once(given, orders, told, command)
        return _in_pieces(given, orders, told, pool, keep, command)


class _Given(NamedTuple):
    feed: Any
    strategies: Iterable[tuple[Any, Any]]
    baseline: str
    rules: Rules
    session: Session
    directory: VenueDirectory
    instruments: Instruments

    def planned(self, days: list[Day], orders: Orders | Sequence[ParentOrder]) -> Plan:
        if not days:
            raise InputError(_nothing(self.feed))
        ways = ways_of(self.strategies, self.baseline)
        _check_venues([one for _, _, one in ways], self.rules, venues_of(days, self.directory), self.directory)
        return Plan(days, ways, orders, self.rules, self.session, self.instruments)

    def study(self, planned: Plan, found: Found, command: str | None, known: Surveyed | None = None) -> Study:
        """Of what was found in any order."""
        found.parents.sort(key=lambda row: row[0])
        found.fills.sort(key=lambda row: row[0])
        study = study_of(planned, found, self.feed, self.directory, self.baseline)
        study.again = Again(planned, self.feed, self.directory, {} if known is None else known.paths)
        study.command = command
        return study


def _at_once(given: _Given, orders: Any, told: Callable[[int, int], None] | None, command: str | None) -> Study:
    """All work by this process, in one pass."""
    feed, held = given.feed, _Held(given.feed)
    planned = given.planned(survey(held, given.session, given.rules.max_quote_age), orders)
    again = held.batches or (feed.at_depth(planned.depth) if isinstance(feed, Feed) else feed)
    tell = _teller(planned, told)
    found = work(planned.everything(), again, given.directory, planned.instruments, tell)
    return given.study(planned, found, command)


def _in_pieces(
    given: _Given,
    orders: Any,
    told: Callable[[int, int], None] | None,
    pool: Executor | None,
    keep: str | None,
    command: str | None,
) -> Study:
    known = surveyed(pool, given.feed, given.session, given.rules.max_quote_age, given.directory)
    planned = given.planned(known.days, orders)
    pieces = [piece_of(job, given.feed, known, given.directory) for job in planned.jobs()]
    found = Found()
    for one in done(pool, pieces, keep, _teller(planned, told), command):
        found.join(one)
    return given.study(planned, found, command, known)


def _teller(planned: Plan, told: Callable[[int, int], None] | None) -> Callable[[int], None]:
    def tell(done: int) -> None:
        if told is not None:
            told(done, planned.lives)

    tell(0)
    return tell


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
