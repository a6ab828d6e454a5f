"""The consolidated book of a symbol: the last quote of every venue, carried forward."""

from __future__ import annotations

import logging
import math
from bisect import insort
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from sor.errors import InputError
from sor.market_data import BookUpdate, Level
from sor.types import Side, Status, VenueResult, one_of, real_number, whole_number
from sor.venues import Figure, VenueDirectory, VenueEntry

logger = logging.getLogger(__name__)

VENUES_FROM = ("publishers", "levels")


class VenueQuote:
    """What one venue shows, and what it costs there; changed in place by its book."""

    __slots__ = (
        "_last", "ask", "ask_size", "asks", "best_ask", "best_bid", "bid", "bid_size", "bids", "fee", "known", "order",
        "place", "rebate", "time", "to_buy", "to_sell", "venue_id",
    )  # fmt: skip

    def __init__(self, venue_id: str, order: Any, known: bool) -> None:
        self.venue_id = venue_id
        self.order = order  # position among the venues: publisher id, or level, or name
        self.place = 0  # index among the quotes of the book
        self.known = known  # False: the fee is the directory's default
        self.fee = self.rebate = 0.0
        self.time = 0  # of the event, nanoseconds
        self.show([], [])

    def show(self, bids: list[Level], asks: list[Level]) -> None:
        """Levels from the best on, none of them empty."""
        self.bids, self.asks = bids, asks
        self.bid: float | None
        self.ask: float | None
        self.bid, self.bid_size = bids[0] if bids else (None, 0)
        self.ask, self.ask_size = asks[0] if asks else (None, 0)
        usable: Status = "ok" if self.known else "unknown_fee"
        self.to_buy: Status = usable if asks else "empty"
        self.to_sell: Status = usable if bids else "empty"
        self.best_bid = bids[0][0] if bids else -math.inf  # what it adds to the market's best
        self.best_ask = asks[0][0] if asks else math.inf
        if self.best_bid > self.best_ask:  # a venue cannot show that: the quote is not to be believed
            self.to_buy = self.to_sell = "crossed"
            self.best_bid, self.best_ask = -math.inf, math.inf
        self._last: VenueResult | None = None

    def result(self, allocation: int, status: Status) -> VenueResult:
        last = self._last  # quotes stand longer than messages: most fills repeat
        if last is None or last.allocation != allocation or last.status != status:
            last = self._last = VenueResult(
                self.venue_id,
                self.ask,
                self.ask_size,
                self.fee,
                self.rebate,
                allocation,
                self.bid,
                self.bid_size,
                status,
            )
        return last


class Book:
    """The last quote of every venue for one symbol.

    Parameters
    ----------
    symbol : str
    depth : int
        Levels kept on each side of a venue; one is enough but for ``greedy_l2``.

    Attributes
    ----------
    quotes : list of VenueQuote
        In the order of publisher ids (or levels): the order of ``venues`` in a result.
    time : int
        Newest event time seen, nanoseconds since the epoch, UTC. Nothing else tells the time here, so that replay
        and live routing agree on what is stale.
    best_bids, best_asks : list of float
        What each venue adds to the market's best; -inf and inf where nothing.
    statuses : dict of list
        By side that is taken: why each venue may be used, or not.
    idle : dict of list of VenueResult
        By side: what a result says of each venue that gets nothing. Kept here, as one message changes one venue.
    """

    def __init__(self, symbol: str, depth: int = 10) -> None:
        self.symbol = symbol
        self.depth = whole_number("depth", depth, 1, 1000)
        self.quotes: list[VenueQuote] = []
        self.time = 0
        self.sequence: int | None = None
        self._by_order: dict[Any, VenueQuote] = {}
        self._lay_out()

    def _lay_out(self) -> None:
        """Arrays for the kernels: per side ``depth`` rows a venue of (price, size, fee, rebate), bids negated."""
        count = len(self.quotes)
        self.best_bids = [0.0] * count
        self.best_asks = [0.0] * count
        self.statuses: dict[Side, list[Status]] = {"buy": ["empty"] * count, "sell": ["empty"] * count}
        self.idle: dict[Side, list[Any]] = {"buy": [None] * count, "sell": [None] * count}
        shape = (count * self.depth, 4)
        self._rows: dict[Side, np.ndarray] = {"buy": np.zeros(shape), "sell": np.zeros(shape)}
        # Through a memoryview: numpy takes three times as long to set one number.
        self._flat: dict[Side, Any] = {side: rows.reshape(-1).data for side, rows in self._rows.items()}
        for place, quote in enumerate(self.quotes):
            quote.place = place
            self._write(quote)

    def _write(self, quote: VenueQuote) -> None:
        place = quote.place
        self.best_bids[place] = quote.best_bid
        self.best_asks[place] = quote.best_ask
        buy = self.idle["buy"][place] = quote.result(0, quote.to_buy)
        self.statuses["buy"][place] = quote.to_buy
        self.idle["sell"][place] = buy if quote.to_buy == quote.to_sell else quote.result(0, quote.to_sell)
        self.statuses["sell"][place] = quote.to_sell
        start = place * self.depth * 4
        for flat, levels, sign in ((self._flat["buy"], quote.asks, 1.0), (self._flat["sell"], quote.bids, -1.0)):
            at = start
            for price, size in levels:
                flat[at] = sign * price
                flat[at + 1] = size
                flat[at + 2] = quote.fee
                flat[at + 3] = quote.rebate
                at += 4
            while at < start + self.depth * 4:  # an empty row: nothing is displayed there
                flat[at] = flat[at + 1] = 0.0
                at += 4

    def rows(self, side: Side) -> np.ndarray:
        """Contiguous float64 array (venues * depth, 4) of (price, size, fee, rebate) of the side that is taken."""
        return self._rows[side]

    def quote(
        self,
        venue_id: str,
        *,
        bids: Sequence[tuple[float, int]] = (),
        asks: Sequence[tuple[float, int]] = (),
        fee: float = 0.0,
        rebate: float = 0.0,
        time: int = 0,
    ) -> None:
        """Set what a venue shows; venues come in the order of their names.

        Parameters
        ----------
        venue_id : str
        bids, asks : sequence of (price, size)
            Dollars per share and shares, in any order; none: nothing displayed.
        fee, rebate : float
            Dollars per share, as for `sor.Venue`.
        time : int
            Event time, nanoseconds since the epoch.

        Raises
        ------
        InputError
            A price or size that is not a number, or not above 0.
        """
        self.show(
            str(venue_id),
            str(venue_id),
            _checked("bids", bids, True),
            _checked("asks", asks, False),
            real_number("fee", fee),
            real_number("rebate", rebate),
            whole_number("time", time, 0, 2**63 - 1),
        )

    def show(
        self,
        order: Any,
        venue_id: str,
        bids: list[Level],
        asks: list[Level],
        fee: float,
        rebate: float,
        time: int,
        known: bool = True,
    ) -> None:
        """As `quote`, unchecked: levels sorted from the best on and none empty, ``order`` the venue's position."""
        quote = self._by_order.get(order)
        if quote is None:
            quote = self._by_order[order] = VenueQuote(venue_id, order, known)
            insort(self.quotes, quote, key=lambda q: q.order)
            self._lay_out()
        quote.fee, quote.rebate = fee, rebate
        quote.time = time
        quote.show(bids[: self.depth], asks[: self.depth])
        self._write(quote)
        if time > self.time:
            self.time = time


class Books:
    """The books of a feed, by symbol.

    Parameters
    ----------
    directory : VenueDirectory
    venues_from : {"publishers", "levels"}
        Each publisher is a venue, or (the habit of the field's small routers) each level of a single feed is one.
    depth : int
        Levels kept for a publisher.
    """

    def __init__(self, directory: VenueDirectory, venues_from: str = "publishers", depth: int = 1) -> None:
        one_of("venues_from", venues_from, VENUES_FROM)
        self.directory = directory
        self.by_symbol: dict[str, Book] = {}
        self.publishers: set[int] = set()
        self._depth = 1 if venues_from == "levels" else depth
        self._apply = self._apply_levels if venues_from == "levels" else self._apply_publisher
        self._figures: dict[int, tuple[VenueEntry, Figure]] = {}

    def apply(self, update: BookUpdate) -> Book:
        """Bring an update into its symbol's book, which is returned."""
        book = self.by_symbol.get(update.symbol)
        if book is None:
            book = self.by_symbol[update.symbol] = Book(update.symbol, self._depth)
        self.publishers.add(update.publisher_id)
        book.sequence = update.sequence
        self._apply(book, update)
        return book

    def restore(self, update: BookUpdate, time: int, venues: int) -> None:
        """As `apply`, for the last update of a publisher: the book's newest time and number of venues come with it."""
        book = self.apply(update)
        book.time = max(book.time, time)
        for level in range(len(book.quotes), venues if self._apply == self._apply_levels else 0):
            self._show_level(book, level, None, None, update.time)

    def _figure(self, publisher_id: int, time: int) -> tuple[VenueEntry, Figure]:
        found = self._figures.get(publisher_id)
        if found is None or not found[1].start <= time < found[1].end:
            entry = found[0] if found else self.directory.venue(publisher_id)
            found = self._figures[publisher_id] = (entry, entry.figure_at(time))
        return found

    def _apply_publisher(self, book: Book, update: BookUpdate) -> None:
        entry, figure = self._figure(update.publisher_id, update.time)
        book.show(
            entry.publisher_ids[0],
            entry.venue_id,
            _shown(update.bids, True),
            _shown(update.asks, False),
            figure.taker_fee,
            figure.maker_rebate,
            update.time,
            entry.known,
        )

    def _apply_levels(self, book: Book, update: BookUpdate) -> None:
        shown = max(len(update.bids), len(update.asks), len(book.quotes))  # a level no longer shown is emptied
        for level, bid, ask in zip_longest(range(shown), update.bids, update.asks):
            self._show_level(book, level, bid, ask, update.time)

    def _show_level(self, book: Book, level: int, bid: Level | None, ask: Level | None, time: int) -> None:
        entry = self.directory.level_venue(level)
        figure = entry.figures[0]
        bids, asks = [bid] if bid else [], [ask] if ask else []
        book.show(level, entry.venue_id, bids, asks, figure.taker_fee, figure.maker_rebate, time)


def _checked(name: str, levels: Any, descending: bool) -> list[Level]:
    checked = []
    try:
        for i, (price, size) in enumerate(levels):
            level = real_number(f"{name}[{i}] price", price, math.ulp(0.0)), whole_number(f"{name}[{i}] size", size, 1)
            checked.append(level)
    except TypeError:
        raise _not_levels(name, levels) from None
    except ValueError as error:
        raise error if isinstance(error, InputError) else _not_levels(name, levels) from None
    return sorted(checked, reverse=descending)


def _not_levels(name: str, levels: Any) -> InputError:
    return InputError(f"{name} is {levels!r}: it must be a sequence of (price, size)")


def _shown(levels: list[Level | None], descending: bool) -> list[Level]:
    """The levels that show something, from the best on (feeds send them so; it costs little to be sure)."""
    shown = [level for level in levels if level is not None]
    if len(shown) > 1:
        shown.sort(reverse=descending)
    return shown
