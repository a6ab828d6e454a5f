"""What is in a feed: who quotes, for how long at the best, and the state of the market meanwhile."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sor.market.columns import NO_PRICE, Batch
from sor.market.venues import VenueDirectory
from sor.types import MARKET_STATES

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 300 * 10**9  # nanoseconds between two rows that count as time of the market; what is longer is a gap
NO_BID, NO_ASK = -1, NO_PRICE
NORMAL, LOCKED, CROSSED, ONE_SIDED, EMPTY = map(
    MARKET_STATES.index, ("normal", "locked", "crossed", "one_sided", "empty")
)
TRADED, NOTHING_SAID = ord("T"), 0


class Profile:
    """Counts and times of a feed, batch by batch; times are nanoseconds.

    Publishers of one venue count as its first, as they replace each other's quotes in a book. The time between two rows
    of a symbol counts for what its book showed after the first, unless it is a gap.

    Attributes
    ----------
    rows, quotes, trades, backwards : int
        All rows; those that are quotes; those that say that there was a trade; those that are older than one before.
    says_events : bool
        Whether any row says what has happened.
    first, last : int or None
        The earliest and the latest event time.
    symbols, publishers : Counter
        Rows by name and by publisher.
    at_bid, at_ask : Counter
        Times at the best by publisher.
    states : int64 array
        Times by state, numbered as `sor.types.MARKET_STATES`.
    gaps : list of (length, begin)
        Times without a row of any symbol that are longer than `LONGEST`, the longest first.
    consolidated : bool
    """

    def __init__(self, directory: VenueDirectory) -> None:
        self._directory = directory
        self.rows = self.quotes = self.trades = self.backwards = 0
        self.says_events = self.consolidated = False
        self.first: int | None = None
        self.last: int | None = None
        self.symbols: Counter[str] = Counter()
        self.publishers: Counter[int] = Counter()
        self.at_bid: Counter[int] = Counter()
        self.at_ask: Counter[int] = Counter()
        self.states = np.zeros(len(MARKET_STATES), np.int64)
        self.gaps: list[tuple[int, int]] = []
        self._newest: int | None = None
        self._shown: dict[str, _Shown] = {}

    def add(self, batch: Batch) -> None:
        if not len(batch):
            return
        self.rows += len(batch)
        self.quotes += int(batch.quotes.sum())
        self.trades += int((batch.action == TRADED).sum())
        self.says_events |= bool((batch.action != NOTHING_SAID).any())
        self._count_times(batch.time)
        publisher = self._first_of_venue(batch.publisher)
        for number, count in zip(*np.unique(publisher, return_counts=True), strict=True):
            self.publishers[int(number)] += int(count)
        owners = [
            None if one is None else self._first_of_venue(one) for one in (batch.bid_publisher, batch.ask_publisher)
        ]
        batch = replace(batch, publisher=publisher, bid_publisher=owners[0], ask_publisher=owners[1])
        order = np.argsort(batch.symbol, kind="stable")
        starts = np.flatnonzero(np.diff(batch.symbol[order], prepend=-1))
        for rows in np.split(order, starts[1:]):
            symbol = batch.symbols[batch.symbol[rows[0]]]
            self.symbols[symbol] += len(rows)
            self._follow(self._shown.setdefault(symbol, _Shown()), batch, rows)

    def _first_of_venue(self, publishers: NDArray[np.uint16]) -> NDArray[np.uint16]:
        numbers, where = np.unique(publishers, return_inverse=True)
        first = [number and self._directory.venue(number).publisher_ids[0] for number in numbers.tolist()]
        return np.array(first, np.uint16)[where]

    def _count_times(self, times: NDArray[np.int64]) -> None:
        newest = int(times[0]) if self._newest is None else self._newest
        reached = np.maximum.accumulate(np.concatenate([[newest], times]))
        self.backwards += int((times < reached[:-1]).sum())
        apart = np.diff(reached)
        for i in np.flatnonzero(apart > LONGEST):
            self.gaps.append((int(apart[i]), int(reached[i])))
        self.gaps.sort(key=lambda gap: (-gap[0], gap[1]))
        self._newest = int(reached[-1])
        first, last = int(times.min()), int(times.max())
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)

    def _follow(self, shown: _Shown, batch: Batch, rows: NDArray[np.intp]) -> None:
        if batch.bid_publisher is not None:
            self.consolidated = True
            bids, asks = shown.after_consolidated(batch, rows)
        else:
            bids, asks = shown.after(batch, rows)
        best_bid, best_ask = bids.max(axis=1, initial=NO_BID), asks.min(axis=1, initial=NO_ASK)
        lasted = shown.lasted(batch.time[rows])
        no_bid, no_ask = best_bid == NO_BID, best_ask == NO_ASK
        state = np.where(best_bid > best_ask, CROSSED, np.where(best_bid == best_ask, LOCKED, NORMAL))
        state[no_bid | no_ask] = ONE_SIDED
        state[no_bid & no_ask] = EMPTY
        # The last row lasts until the next batch, so what is shown before the first one counts here.
        np.add.at(self.states, state[:-1], lasted)
        at_bid = lasted @ ((bids == best_bid[:, None]) & ~no_bid[:, None])[:-1]
        at_ask = lasted @ ((asks == best_ask[:, None]) & ~no_ask[:, None])[:-1]
        for column, publisher in enumerate(shown.publishers):
            self.at_bid[publisher] += int(at_bid[column])
            self.at_ask[publisher] += int(at_ask[column])


class _Shown:
    """What the publishers of a symbol show: a column for each."""

    def __init__(self) -> None:
        self.publishers: list[int] = []
        self._bids: list[int] = []
        self._asks: list[int] = []
        self._time: int | None = None

    def after(self, batch: Batch, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bids and asks before the first row and after each, (rows + 1, publishers); a crossed quote shows nothing."""
        bid, ask = batch.bid_price[rows, 0], batch.ask_price[rows, 0]
        bid = np.where((bid == NO_PRICE) | (batch.bid_size[rows, 0] <= 0), NO_BID, bid)
        ask = np.where(batch.ask_size[rows, 0] <= 0, NO_ASK, ask)
        crossed = bid > ask
        bid[crossed], ask[crossed] = NO_BID, NO_ASK
        publisher, quotes = batch.publisher[rows], batch.quotes[rows]
        self._know(publisher[quotes])
        bids, asks = (np.empty((len(rows) + 1, len(self.publishers)), np.int64) for _ in range(2))
        for column, number in enumerate(self.publishers):
            at = np.where(quotes & (publisher == number), np.arange(1, len(rows) + 1), 0)
            last = np.maximum.accumulate(np.concatenate([[0], at]))
            bids[:, column] = np.concatenate([[self._bids[column]], bid])[last]
            asks[:, column] = np.concatenate([[self._asks[column]], ask])[last]
        self._bids, self._asks = bids[-1].tolist(), asks[-1].tolist()
        return bids, asks

    def after_consolidated(self, batch: Batch, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `after`, where each row tells the best of all and whose it is; what others show is not known."""
        quotes = batch.quotes[rows]
        last = np.maximum.accumulate(np.concatenate([[0], np.where(quotes, np.arange(1, len(rows) + 1), 0)]))
        found = []
        for held, none, prices, sizes, owners in (
            (self._bids, NO_BID, batch.bid_price, batch.bid_size, batch.bid_publisher),
            (self._asks, NO_ASK, batch.ask_price, batch.ask_size, batch.ask_publisher),
        ):
            owner = np.asarray(owners)[rows]
            shows = quotes & (sizes[rows, 0] > 0) & (prices[rows, 0] != NO_PRICE)
            self._know(owner[shows])
            side = np.full((len(rows) + 1, len(self.publishers)), none, np.int64)
            side[0, : len(held)] = held
            columns = {number: column for column, number in enumerate(self.publishers)}
            at = np.flatnonzero(shows)
            side[at + 1, [columns[int(number)] for number in owner[at]]] = prices[rows[at], 0]
            found.append(side[last])
        bids = np.pad(found[0], ((0, 0), (0, len(self.publishers) - found[0].shape[1])), constant_values=NO_BID)
        self._bids, self._asks = bids[-1].tolist(), found[1][-1].tolist()
        return bids, found[1]

    def _know(self, publishers: NDArray[np.uint16]) -> None:
        for number in np.unique(publishers).tolist():
            if number not in self.publishers:
                self.publishers.append(number)
                self._bids.append(NO_BID)
                self._asks.append(NO_ASK)

    def lasted(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """How long what was shown before each row had stood; a gap and the time before the first row do not count."""
        start = int(times[0]) if self._time is None else self._time
        reached = np.maximum.accumulate(np.concatenate([[start], times]))
        self._time = int(reached[-1])
        apart = np.diff(reached)
        return np.where(apart > LONGEST, 0, apart)
