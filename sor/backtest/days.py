"""Which days and symbols a feed has, what their sessions are, and when orders arrive in them."""

from __future__ import annotations

import re
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from sor.errors import InputError
from sor.kernels import pick
from sor.market.columns import Batch, joined
from sor.market.profile import LONGEST, TRADED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sor.backtest import _market_py as market
else:
    market = pick("sor.backtest._market")

SECOND = 10**9
MOST_VENUES = 128  # of all symbols of a feed
BUCKET = 300 * SECOND  # of the volume profile
TRIES = 1000  # of one arrival, in a market that has hardly ever a mid

_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)


class Session(NamedTuple):
    """Hours of trading: seconds from the local midnight."""

    opens: int = 34_200
    closes: int = 57_600
    timezone: str = "America/New_York"

    @classmethod
    def of(cls, text: str, timezone: str = "America/New_York") -> Session:
        """Of ``09:30-16:00``.

        Raises
        ------
        InputError
        """
        opens, _, closes = (part.strip() for part in text.partition("-"))
        first, last = _seconds(opens), _seconds(closes)
        if first is None or last is None or not first < last <= 86_400:
            raise InputError(f"session is {text[:40]!r}: it must be two times of day, such as 09:30-16:00")
        zone(timezone)
        return cls(first, last, timezone)

    def times(self, day: int) -> tuple[int, int]:
        """When the session of a day begins and ends, nanoseconds since the epoch."""
        return _moment(self.timezone, day, self.opens), _moment(self.timezone, day, self.closes)


def _seconds(clock: str) -> int | None:
    match = _CLOCK.fullmatch(clock)
    return None if match is None else int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)


@lru_cache
def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"timezone is {name[:60]!r}: it must be a name such as America/New_York or UTC, which this machine "
            "knows (pip install tzdata)"
        ) from None


@lru_cache(maxsize=4096)
def _moment(name: str, day: int, seconds: int) -> int:
    """A local time of day, whose clock runs on over a change of summer time as the market's does."""
    later, rest = divmod(seconds, 86_400)
    local = datetime.combine(
        date.fromordinal(day + later), time(rest // 3600, rest // 60 % 60, rest % 60), tzinfo=zone(name)
    )
    return round(local.timestamp()) * SECOND


def days_of(times: NDArray[np.int64], timezone_name: str) -> NDArray[np.int64]:
    """The local day of each time, as an ordinal of `datetime.date`."""
    low, high = (_utc_day(int(end)) for end in (times.min(), times.max()))
    days = range(low - 1, high + 2)
    edges = np.array([_moment(timezone_name, day, 0) for day in days], np.int64)
    return np.searchsorted(edges, times, "right") + (low - 2)


def _utc_day(nanoseconds: int) -> int:
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=nanoseconds // SECOND)).toordinal()


def parts_of(feed: Iterable[Batch], session: Session) -> Iterator[tuple[str, int, Batch]]:
    """A feed's rows by symbol and day, batch by batch; of time that goes back, by the newest so far."""
    newest: dict[str, int] = {}
    for batch in feed:
        for symbol in np.unique(batch.symbol):
            name = batch.symbols[symbol]
            part = batch if len(batch.symbols) == 1 else batch.take(batch.symbol == symbol)
            reached = np.maximum.accumulate(np.maximum(part.time, newest.get(name, 0)))
            newest[name] = int(reached[-1])
            days = days_of(reached, session.timezone)
            if days[0] == days[-1]:
                yield name, int(days[0]), part
                continue
            for day in np.unique(days):
                yield name, int(day), part.take(days == day)


class Stamps:
    """Rows of one symbol and day as the market takes them: whole stamps, and a slot for each venue that quotes.

    Parameters
    ----------
    slots : dict
        By publisher; one that never quotes has none.
    delay : int
        Of the feed, nanoseconds.
    depth : int
        Levels wanted; no row shows more.
    """

    def __init__(self, slots: dict[int, int], delay: int = 0, depth: int = 1) -> None:
        self._slots, self._delay, self._depth = slots, delay, depth
        self._newest = self._known = 0
        self._held: list[Batch] = []

    def of(self, batch: Batch) -> Any:
        """Those that no later row has the time of; None: there is none yet."""
        if self._held:
            batch = joined([*self._held, batch])
        times = np.maximum.accumulate(np.maximum(batch.time, self._newest))
        whole = int(np.searchsorted(times, times[-1], "left"))
        if whole == 0:
            self._held = [batch]
            return None
        self._held = [batch.take(slice(whole, None))]
        return self._rows(batch.take(slice(whole)))

    def rest(self) -> Any:
        """What was held back as the last stamp might go on."""
        held, self._held = self._held, []
        return self._rows(joined(held)) if held else None

    def _rows(self, batch: Batch) -> Any:
        times = np.maximum.accumulate(np.maximum(batch.time, self._newest))
        self._newest = int(times[-1])
        heard = np.maximum(np.where(batch.receipt > 0, batch.receipt, batch.time), times) + self._delay
        known = np.maximum.accumulate(np.maximum(heard, self._known))
        self._known = int(known[-1])
        columns = {
            name: np.ascontiguousarray(array[:, : self._depth]).data if array.ndim == 2 else array.data
            for name, array in batch.columns().items()
        }
        columns |= {"time": times.data, "known": known.data, "slot": self._slot(batch.publisher).data}
        if batch.bid_publisher is not None and batch.ask_publisher is not None:
            columns["bid_slot"] = self._slot(batch.bid_publisher).data
            columns["ask_slot"] = self._slot(batch.ask_publisher).data
        return market.Rows(columns)

    def _slot(self, publishers: NDArray[np.uint16]) -> NDArray[np.int16]:
        numbers, where = np.unique(publishers, return_inverse=True)
        return np.array([self._slots.get(number, -1) for number in numbers.tolist()], np.int16)[where.reshape(-1)]


@dataclass
class Day:
    """What was found of one symbol on one day.

    Attributes
    ----------
    symbol, day
        ``day`` is an ordinal of `datetime.date`.
    opens, closes : int
        The session.
    first, last : int
        Times of its rows.
    publishers : dict of int to [rows, first, last]
        Those that quote, with the times of their rows.
    depth : int
        Levels that any row shows.
    blind : list of [from, to)
        When there was no mid.
    grain : int
        Nanoseconds: a thousand, a million or more where all times are whole such steps.
    late : bool
        Rows are known later than they happen.
    volumes : Counter
        Shares printed, by `BUCKET` from the opening.
    first_mid : float
        The first mid of the session, dollars; 0 where it has none.
    after_trades : bool
        Most rows of trades change what is shown: they have the book after the trade. Otherwise later rows have.
    """

    symbol: str
    day: int
    opens: int
    closes: int
    first: int = 0
    last: int = 0
    rows: int = 0
    prints: int = 0
    volume: int = 0
    off_exchange: int = 0
    backwards: int = 0
    depth: int = 1
    publishers: dict[int, list[int]] = field(default_factory=dict)
    blind: list[list[int]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    grain: int = SECOND
    late: bool = False
    consolidated: bool = False
    after_trades: bool = False
    crossed: int = 0
    locked: int = 0
    one_sided: int = 0
    volumes: Counter[int] = field(default_factory=Counter)
    first_mid: float = 0.0

    @property
    def name(self) -> str:
        return date.fromordinal(self.day).isoformat()


def survey(feed: Iterable[Batch], session: Session, oldest: int | None = None) -> list[Day]:
    """The days of a feed, in the order of time and then of symbols, by one pass over it.

    ``oldest`` is `Rules.max_quote_age`: what is stale makes no mid.
    """
    going: dict[str, _Watched] = {}
    found: list[Day] = []
    slots: dict[int, int] = {}
    for symbol, day, batch in parts_of(feed, session):
        watched = going.get(symbol)
        if watched is None or watched.day.day != day:
            if watched is not None:
                found.append(watched.done())
            watched = going[symbol] = _Watched(Day(symbol, day, *session.times(day)), slots, oldest)
        watched.add(batch)
    found += [watched.done() for watched in going.values()]
    return sorted((day for day in found if day.rows), key=lambda one: (one.day, one.symbol))


class _Watched:
    """A day whose rows are going by, and a market without orders that follows them."""

    def __init__(self, day: Day, slots: dict[int, int], oldest: int | None) -> None:
        self.day = day
        self._slots = slots
        self._printed: Counter[int] = Counter()  # shares by publisher
        none = [""] * MOST_VENUES
        self._market = market.Market(none, none, 1, none, 0, True, LONGEST, day.opens, day.closes)
        if oldest is not None:
            self._market.oldest = oldest
        self._rows = Stamps(slots)

    def add(self, batch: Batch) -> None:
        day = self.day
        quoting = np.unique(batch.publisher[batch.quotes]).tolist()
        if batch.bid_publisher is not None and batch.ask_publisher is not None:
            day.consolidated = True
            owners = np.unique(np.concatenate([batch.bid_publisher, batch.ask_publisher]))
            quoting = [number for number in owners.tolist() if number]
        for number in quoting:
            if number not in self._slots:
                if len(self._slots) == MOST_VENUES:
                    raise InputError(f"more than {MOST_VENUES} publishers quote: no market has so many venues")
                self._slots[number] = len(self._slots)
        for number in quoting:
            self._seen(number, batch)
        deep = (batch.bid_size > 0).any(axis=0) | (batch.ask_size > 0).any(axis=0)
        day.depth = max(day.depth, int(np.flatnonzero(deep).max(initial=0)) + 1)
        while day.grain > 1 and (batch.time % day.grain).any():
            day.grain //= 1000
        day.late = day.late or bool((batch.receipt > batch.time).any())
        day.backwards += int((np.diff(batch.time) < 0).sum())
        trades = (batch.action == TRADED) & (batch.size > 0)
        shares = batch.size[trades]
        day.volumes.update(_sums((batch.time[trades] - day.opens) // BUCKET, shares))
        self._printed.update(_sums(batch.publisher[trades], shares))
        self._market.book.slots = len(self._slots)
        self._run(self._rows.of(batch))

    def _seen(self, publisher: int, batch: Batch) -> None:
        """A publisher's rows; of consolidated quotes those in which a side is its."""
        mine = batch.publisher == publisher
        for owners in (batch.bid_publisher, batch.ask_publisher):
            mine = mine if owners is None else mine | (owners == publisher)
        times = batch.time[mine]
        known = self.day.publishers.setdefault(publisher, [0, int(times[0]), 0])
        known[0] += len(times)
        known[1], known[2] = min(known[1], int(times.min())), max(known[2], int(times.max()))

    def _run(self, rows: Any) -> None:
        if rows is not None:
            self._market.run(rows)

    def done(self) -> Day:
        self._run(self._rows.rest())
        day, market = self.day, self._market
        market.finish()
        day.first, day.last, day.rows = market.first, market.last, market.rows
        day.prints, day.volume, day.blind, day.gaps = market.prints, market.volume, market.blind, market.gaps
        day.off_exchange = sum(shares for number, shares in self._printed.items() if number not in day.publishers)
        day.after_trades = market.shown_trades > 0
        day.first_mid = market.first_mid2 / 2e9
        day.crossed, day.locked, day.one_sided = market.crossed, market.locked, market.one_sided
        return day


def _sums(keys: NDArray[Any], shares: NDArray[np.int64]) -> dict[int, int]:
    """Shares by key."""
    found, which = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, which.reshape(-1), shares)
    return dict(zip(found.tolist(), sums.tolist(), strict=True))


# --- arrivals --------------------------------------------------------------------------------------------------------


def arrivals(
    day: Day, horizon: int, warm_up: int, seed: int, orders: int | None, every: int | None
) -> tuple[list[int], int]:
    """When orders arrive: within the session, with their horizon, at a moment with a mid.

    Returns
    -------
    times : list of int
        Ascending.
    redrawn : int
        How many were drawn, or stood on the grid, where there was no mid.
    """
    low = max(day.opens, day.first) + warm_up
    high = min(day.closes, day.last) - horizon
    if high < low:
        return [], 0
    begins = [begin for begin, _ in day.blind]

    def sees(moment: int) -> bool:
        """Whether there is a mid; a row that comes at the moment itself is known."""
        before = bisect_right(begins, moment)
        return before == 0 or moment >= day.blind[before - 1][1]

    if every is not None:
        grid = range(low + (day.opens - low) % every, high + 1, every)
        kept = [moment for moment in grid if sees(moment)]
        return kept, len(grid) - len(kept)
    random = np.random.default_rng([seed, day.day, zlib.crc32(day.symbol.encode())])
    times: list[int] = []
    redrawn = 0
    while len(times) < (orders or 0) and redrawn < TRIES * (len(times) + 1):
        drawn = int(random.integers(low, high + 1))
        if sees(drawn):
            times.append(drawn)
        else:
            redrawn += 1
    return sorted(times), redrawn
