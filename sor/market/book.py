"""The consolidated book of a symbol: the last quote of every venue, carried forward."""

from __future__ import annotations

import copy
import heapq
import logging
import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from sor.errors import DataError, InputError
from sor.kernels import pick
from sor.market import BookUpdate, Level
from sor.market.fields import DOUBTS
from sor.market.instruments import SHARES, Instruments
from sor.market.outflow import Outflows
from sor.market.policy import Policy
from sor.market.venues import DatedRules, VenueDirectory, VenueEntry
from sor.types import Instrument, VenueRules, one_of, real_number, rules_of, text, truth, whole_number

if TYPE_CHECKING:
    from sor.market._quotes_py import BookOfQuotes, Rates, VenueQuote
else:
    quotes = pick("sor.market._quotes")
    BookOfQuotes, Rates = quotes.BookOfQuotes, quotes.Rates

logger = logging.getLogger(__name__)

VENUES_FROM = ("publishers", "levels")
TRADES = -1  # in the place of a publisher: rows that say what has happened, and show nothing
Levels = list[Level | None]


class Book(BookOfQuotes):
    """The last quote of every venue for one symbol.

    Parameters
    ----------
    symbol : str
    depth : int
        Levels kept on each side of a venue; one is enough but for ``greedy_l2``.
    instrument : Instrument, optional
        What the symbol is traded in: sizes are then kept in whole lots.

    Attributes
    ----------
    quotes : list of VenueQuote
        In the order of publisher ids (or levels): the order of ``venues`` in a result.
    outflows : Outflows or None
        What leaves the queues, where it is kept.
    placements : dict
        The last placements of ``cont_kukanov``, to start from.
    doubts : dict
        What the feed itself doubts of a venue's quote, by venue id, until the venue's next good one.
    time : int
        Newest event time seen, nanoseconds since the epoch, UTC. Nothing else tells the time here, so that replay
        and live routing agree on what is stale.
    """

    def __init__(self, symbol: str, depth: int = 10, instrument: Instrument | None = None) -> None:
        super().__init__(text("symbol", symbol), whole_number("depth", depth, 1, 1000))
        if instrument is not None and not isinstance(instrument, Instrument):
            raise InputError(f"instrument is {instrument!r:.200}: it must be an Instrument")
        self.instrument = instrument
        self.outflows: Outflows | None = None
        self.placements: dict[Any, Any] = {}
        self.turn = 0  # of its last update, among those of all books beside it
        self.traded = False  # there were updates without quotes

    def quantity(self, size: int) -> int | float:
        """A size that is kept, as it is told outside."""
        return size if self.instrument is None else self.instrument.quantity(size)

    def warnings(self) -> list[str]:
        """What results have to say of doubtful quotes, by venue id (not by arrival: a rebuilt book gives the same)."""
        return [self.doubts[venue_id] for venue_id in sorted(self.doubts)]

    def __getstate__(self) -> tuple[Any, ...]:
        return (*super().__getstate__(), vars(self))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state[:-1])
        vars(self).update(state[-1])

    def __copy__(self) -> Book:
        """Independent of this one, as `copy.deepcopy`: quotes are changed in place."""
        return copy.deepcopy(self)

    def quote(
        self,
        venue_id: str,
        *,
        bids: Sequence[tuple[float, int]] = (),
        asks: Sequence[tuple[float, int]] = (),
        fee: float = 0.0,
        rebate: float = 0.0,
        time: int = 0,
        rules: VenueRules | None = None,
        exchange: bool = True,
    ) -> None:
        """Set what a venue shows; venues come in the order of their names.

        Parameters
        ----------
        venue_id : str
        bids, asks : sequence of (price, size)
            Dollars per share and shares, in any order; none: nothing displayed. Of an instrument sizes are multiples
            of its lot.
        fee, rebate : float
            Dollars per share, as for `sor.Venue`.
        time : int
            Event time, nanoseconds since the epoch.
        rules : VenueRules, optional
            What it takes. Of an instrument their quantities are of its units.
        exchange : bool
            Whether its best round-lot quotation is protected, where quotations are (``protect`` of `sor.Router`).

        Raises
        ------
        InputError
            A venue that is no text; a price or size that is not a number, or not above 0, or no multiple of the lot.
        """
        name = text("venue_id", venue_id)
        self.show(
            name,
            name,
            _checked("bids", bids, True, self.instrument),
            _checked("asks", asks, False, self.instrument),
            _rates(real_number("fee", fee), real_number("rebate", rebate), rules, truth("exchange", exchange)),
            whole_number("time", time, 0, 2**63 - 1),
        )


class Books:
    """The books of a feed, by symbol.

    Parameters
    ----------
    directory : VenueDirectory
    venues_from : {"publishers", "levels"}
        Each publisher is a venue, or (the habit of the field's small routers) each level of a single feed is one.
    depth : int
        Levels kept for a publisher.
    new_outflows : callable, optional
        Makes the outflows that each book keeps, for ``cont_kukanov``; only publishers have queues.
    most : int, optional
        Books kept; beyond that those go whose symbols have not been heard of for longest.
    instruments : Instruments
        Of the symbols that have one; updates of these are in lots.

    Attributes
    ----------
    evicted : dict
        Publisher ids of the books that have gone, by symbol, and `TRADES` where there were trades alone; whoever keeps
        quotes elsewhere empties it.
    publishers, consolidated : set of int
        Publisher ids seen: of venues' own books, and of rows of consolidated quotes.
    """

    def __init__(
        self,
        directory: VenueDirectory,
        venues_from: str = "publishers",
        depth: int = 1,
        new_outflows: Callable[[], Outflows] | None = None,
        most: int | None = None,
        instruments: Instruments = SHARES,
    ) -> None:
        one_of("venues_from", venues_from, VENUES_FROM)
        if new_outflows is not None and venues_from == "levels":
            raise InputError("venues_from is 'levels': cont_kukanov needs venues with queues of their own, publishers")
        self._new_outflows = new_outflows
        self._most = most
        self._turn = 0  # updates so far
        self._before: dict[str, _Before | None] | None = None  # books as they were when `begin` was called
        self.evicted: dict[str, list[int]] = {}
        self.venues_from = venues_from
        self.directory = directory
        self.instruments = instruments
        self.by_symbol: dict[str, Book] = {}
        self.publishers: set[int] = set()
        self.consolidated: set[int] = set()
        self._changed: list[Any] = []  # quotes that the last consolidated ones have changed
        self._depth = 1 if venues_from == "levels" else depth
        self._apply = self._apply_levels if venues_from == "levels" else self._apply_publisher
        self._gone: dict[str, int] = {}  # publishers of levels that have gone since `begin`
        self._feed: dict[str, int] | None = {} if venues_from == "levels" else None  # publisher of a symbol's levels
        self._venues: dict[int, RatedVenue] = {}  # by publisher
        self._levels: dict[int, RatedVenue] = {}

    def apply(self, update: BookUpdate) -> Book:
        """Bring an update into its symbol's book, which is returned.

        Consolidated quotes set a side of the publisher that they name. What another venue shows on that side is then
        unknown, and empty here, unless its price is the new best one, too: it may be worse than that by any amount,
        and was not better, or it would be the best. A side that shows nothing is empty everywhere.

        An update that says only what has happened (no ``bids``, no ``asks``) moves the book's time on and changes no
        quote.

        Raises
        ------
        DataError
            Levels are venues, and these are of a second publisher: in the place of the first one's they would be lost;
            or these are consolidated quotes.
        """
        book = self._bring(update)
        if book.outflows is not None:
            self._observe(book, book.outflows, update)
        return book

    def _bring(self, update: BookUpdate) -> Book:
        book = self.by_symbol.get(update.symbol)
        if self._before is not None and update.symbol not in self._before:
            self._before[update.symbol] = None if book is None else _before(book)
        if self._feed is not None and update.consolidated:
            raise DataError(
                "these are consolidated quotes, and venues_from 'levels' takes one venue's book", "publisher"
            )
        if self._feed is not None and update.bids is not None:
            first = self._feed.setdefault(update.symbol, update.publisher_id)
            if first != update.publisher_id:
                raise DataError(
                    f"publisher_id is {update.publisher_id}: {update.symbol}'s venues are levels of publisher {first}, "
                    "and venues_from 'levels' takes one feed",
                    "publisher",
                )
        if book is None:
            if self._most is not None and len(self.by_symbol) >= self._most:
                self._make_room(self._most)
            book = self.by_symbol[update.symbol] = self._new(update.symbol)
            book.outflows = None if self._new_outflows is None else self._new_outflows()
        self._turn = book.turn = self._turn + 1
        book.sequence = update.sequence
        if update.bids is None or update.asks is None:
            book.time = max(book.time, update.time)
            book.traded = True
            return book
        if update.consolidated:
            self._apply_consolidated(book, update)
        else:
            self.publishers.add(update.publisher_id)
            self._apply(book, update, update.bids, update.asks)
        if update.doubts or book.doubts:
            self._doubt(book, update)
        return book

    def _new(self, symbol: str) -> Book:
        return Book(symbol, self._depth, self.instruments.get(symbol))

    def _make_room(self, most: int) -> None:
        """Some at a time: to find the oldest takes a look at all."""
        for book in heapq.nsmallest(max(1, most // 64), self.by_symbol.values(), key=_turn_of):
            if self._before is not None and book.symbol not in self._before:
                self._before[book.symbol] = _before(book)
            orders = {quote.order for quote in book.quotes}
            found = {one for one, venue in self._venues.items() if venue.entry.publisher_ids[0] in orders}
            if self.consolidated:  # what is kept of them: `parts`
                found |= orders | self.consolidated
            ids = sorted(found)
            first = None if self._feed is None else self._feed.pop(book.symbol, None)
            if self._feed is not None:
                ids = [] if first is None else [first]
            self.evicted[book.symbol] = [*ids, TRADES] if book.traded else ids
            del self.by_symbol[book.symbol]
            if first is not None and self._before is not None:
                self._gone.setdefault(book.symbol, first)

    def begin(self) -> None:
        """From now on keep what `undo` needs."""
        self._before, self._gone = {}, {}

    def undo(self) -> None:
        """Take back all updates since `begin`, which costs as much as the books that they changed."""
        before, self._before = self._before or {}, None
        for symbol, kept in before.items():
            if self._feed is not None and (kept is None or symbol in self._gone):
                self._feed.pop(symbol, None)
            if kept is None:
                self.by_symbol.pop(symbol, None)
            else:
                if symbol in self._gone and self._feed is not None:
                    self._feed[symbol] = self._gone[symbol]
                self.by_symbol[symbol] = _as_before(self._new(symbol), kept)

    def _doubt(self, book: Book, update: BookUpdate) -> None:
        if update.consolidated:
            venue_ids = [quote.venue_id for quote in self._changed]
        else:
            venue_ids = [self.venue(update.publisher_id, update.time).entry.venue_id]
        reasons = [f"{words} ({flag})" for bit, (flag, words) in DOUBTS.items() if update.doubts & bit]
        for venue_id in venue_ids:
            book.doubts.pop(venue_id, None)
            if reasons:
                book.doubts[venue_id] = f"{venue_id}: the feed says that {' and that '.join(reasons)}"

    def _observe(self, book: Book, outflows: Outflows, update: BookUpdate) -> None:
        if update.consolidated:
            self._observe_consolidated(book, outflows, update)
            return
        if update.bids is None or update.asks is None:
            quote = self._quote_of(book, update.publisher_id)
            if quote is None:  # no queue there that a trade could have taken from
                return
            venue, bids, asks = quote.order, quote.bids, quote.asks
        else:
            venue = self.venue(update.publisher_id, update.time).entry.publisher_ids[0]
            bids, asks = _shown(update.bids, True), _shown(update.asks, False)
        outflows.observe(venue, update.time, bids[0] if bids else None, asks[0] if asks else None, update.event)

    def _quote_of(self, book: Book, publisher_id: int) -> VenueQuote | None:
        """What a publisher's venue shows; who only trades is not made a venue for it."""
        for quote in book.quotes:
            entry = self.directory.by_mic(quote.venue_id)
            if quote.order == publisher_id or (entry is not None and publisher_id in entry.publisher_ids):
                return quote
        return None

    def _observe_consolidated(self, book: Book, outflows: Outflows, update: BookUpdate) -> None:
        """A side that is not at the best any more has left its queue where the best is worse, and else is unknown."""
        best_bid, best_ask = _best(update)
        event = update.event
        acting = self._venues.get(update.publisher_id)  # where it is a venue's: the event is its own
        actor = None if acting is None else acting.entry.publisher_ids[0]
        for quote in book.quotes:
            own = event if quote.order == actor or (event is not None and event.action == "R") else None
            if own is not None or quote in self._changed:
                bids_known, asks_known = bool(quote.bids), bool(quote.asks)
                bid = quote.bids[0] if bids_known else best_bid
                ask = quote.asks[0] if asks_known else best_ask
                outflows.observe(quote.order, update.time, bid, ask, own, bids_known=bids_known, asks_known=asks_known)

    def restore(self, update: BookUpdate, time: int, venues: int) -> None:
        """As `apply`, for the last update of a publisher: the book's newest time and number of venues come with it.

        Outflows are not restored: their windows start empty. Of two publishers whose levels an older version took for
        the same venues, the first one stays.
        """
        shows, first = update.bids is not None, update.publisher_id
        if self._feed is not None and shows and self._feed.setdefault(update.symbol, first) != first:
            logger.warning("not restored: %s of publisher %d, a second feed", update.symbol, update.publisher_id)
            return
        book = self._bring(update)
        book.time = max(book.time, time)
        for level in range(len(book.quotes), venues if self._apply == self._apply_levels else 0):
            self._show_level(book, level, None, None, update.time)

    def venue(self, publisher_id: int, time: int) -> RatedVenue:
        """A publisher's venue, with what it charges, pays and takes at a time."""
        found = self._venues.get(publisher_id)
        if found is None or not found.start <= time < found.end:
            entry = found.entry if found else self.directory.venue(publisher_id)
            found = self._venues[publisher_id] = _venue_at(entry, time, self.directory.policy)
        return found

    def _apply_publisher(self, book: Book, update: BookUpdate, bids: Levels, asks: Levels) -> None:
        rated = self.venue(update.publisher_id, update.time)
        shown_bids, shown_asks = _shown(bids, True), _shown(asks, False)
        entry = rated.entry
        book.show(entry.publisher_ids[0], entry.venue_id, shown_bids, shown_asks, rated.rates, update.time)

    def _apply_consolidated(self, book: Book, update: BookUpdate) -> None:
        bid, ask = _best(update)
        self._changed = []
        for quote in book.quotes:
            bids, asks = _at_best(quote.bids, bid), _at_best(quote.asks, ask)
            if len(bids) < len(quote.bids) or len(asks) < len(quote.asks) or (bid is None and ask is None):
                book.show(quote.order, quote.venue_id, bids, asks, quote.rates, quote.time)
                self._changed.append(quote)
        if update.bid_publisher:
            self._set_side(book, update.bid_publisher, update.time, bid, None)
        if update.ask_publisher:
            self._set_side(book, update.ask_publisher, update.time, None, ask)
        book.time = max(book.time, update.time)
        self.consolidated.add(update.publisher_id)

    def _set_side(self, book: Book, publisher_id: int, time: int, bid: Level | None, ask: Level | None) -> None:
        """Set the side that is given, of one publisher, and leave the other."""
        rated = self.venue(publisher_id, time)
        order = rated.entry.publisher_ids[0]
        known = next((quote for quote in book.quotes if quote.order == order), None)
        bids = [bid] if bid else known.bids if known else []
        asks = [ask] if ask else known.asks if known else []
        book.show(order, rated.entry.venue_id, bids, asks, rated.rates, time)
        known = known or next(quote for quote in book.quotes if quote.order == order)
        if known not in self._changed:
            self._changed.append(known)

    def parts(self, update: BookUpdate) -> list[BookUpdate]:
        """The last update as updates of one publisher each, which leave the same book wherever they are applied.

        Consolidated quotes change what several venues show, and leave the rest as it was: so it is told here what each
        venue shows since.
        """
        if not update.consolidated or not self._changed:
            return [update]
        symbol, number, doubts = update.symbol, update.sequence, update.doubts
        return [
            BookUpdate(symbol, one.order, one.time, number, [*one.bids], [*one.asks], None, doubts)
            for one in self._changed
        ]

    def _apply_levels(self, book: Book, update: BookUpdate, bids: Levels, asks: Levels) -> None:
        shown = max(len(bids), len(asks), len(book.quotes))  # a level no longer shown is emptied
        for level, bid, ask in zip_longest(range(shown), bids, asks):
            self._show_level(book, level, bid, ask, update.time)

    def _show_level(self, book: Book, level: int, bid: Level | None, ask: Level | None, time: int) -> None:
        rated = self._level(level, time)
        bids, asks = [bid] if bid else [], [ask] if ask else []
        book.show(level, rated.entry.venue_id, bids, asks, rated.rates, time)

    def _level(self, level: int, time: int) -> RatedVenue:
        found = self._levels.get(level)
        if found is None or not found.start <= time < found.end:
            entry = self.directory.level_venue(level)
            found = self._levels[level] = _venue_at(entry, time, self.directory.policy)
        return found


class _Before(NamedTuple):
    """A book as it was: its quotes are replaced and never changed, so that it is enough to hold them."""

    quotes: list[tuple[Any, ...]]  # arguments of `show`
    time: int
    sequence: int | None
    turn: int
    outflows: Outflows | None
    placements: dict[Any, Any]
    doubts: dict[str, str]
    traded: bool


def _before(book: Book) -> _Before:
    quotes = [(one.order, one.venue_id, one.bids, one.asks, one.rates, one.time) for one in book.quotes]
    outflows = None if book.outflows is None else book.outflows.copy()
    learned = outflows, book.placements.copy(), book.doubts.copy()
    return _Before(quotes, book.time, book.sequence, book.turn, *learned, book.traded)


def _as_before(book: Book, kept: _Before) -> Book:
    for quote in kept.quotes:
        book.show(*quote)
    _, book.time, book.sequence, book.turn, book.outflows, book.placements, book.doubts, book.traded = kept
    return book


def _turn_of(book: Book) -> int:
    return book.turn


class RatedVenue(NamedTuple):
    """A venue with its rates and rules within [start, end), nanoseconds since the epoch."""

    entry: VenueEntry
    rates: Any
    start: int
    end: int
    rules: DatedRules


def _venue_at(entry: VenueEntry, time: int, policy: Policy) -> RatedVenue:
    """Where nobody stated a fee below a dollar it is the most that Reg NMS 610(c) allows, and called unknown."""
    figure, rules, cap = entry.figure_at(time), entry.rules_at(time), policy.access_caps(time)
    below = figure.sub_dollar
    parts = (cap.value.part, 0.0) if below is None else (below.taker_fee, below.maker_rebate)
    known = entry.known and below is not None
    bps = figure.fee_bps, figure.rebate_bps
    kinds = rules if rules.bind else None, entry.exchange
    rates = Rates(figure.taker_fee, figure.maker_rebate, entry.known, figure.from_price, *parts, known, *bps, *kinds)
    return RatedVenue(
        entry, rates, max(figure.start, rules.start, cap.start), min(figure.end, rules.end, cap.end), rules
    )


def _rates(fee: float, rebate: float, rules: VenueRules | None, exchange: bool) -> Rates:
    if rules is None:
        return Rates(fee, rebate, exchange=exchange)
    if not isinstance(rules, VenueRules):
        raise InputError(f"rules is {rules!r:.200}: it must be VenueRules")
    rules_of("rules", rules)
    bps = rules.fee_bps, rules.rebate_bps
    return Rates(fee, rebate, True, 0.0, 0.0, 0.0, True, *bps, rules, exchange)


def _checked(name: str, levels: Any, descending: bool, instrument: Instrument | None) -> list[Level]:
    checked = []
    whole = whole_number if instrument is None else instrument.lots
    try:
        for i, (price, size) in enumerate(levels):
            level = real_number(f"{name}[{i}] price", price, math.ulp(0.0)), whole(f"{name}[{i}] size", size, 1)
            checked.append(level)
    except TypeError:
        raise _not_levels(name, levels) from None
    except ValueError as error:
        raise error if isinstance(error, InputError) else _not_levels(name, levels) from None
    return sorted(checked, reverse=descending)


def _not_levels(name: str, levels: Any) -> InputError:
    return InputError(f"{name} is {levels!r}: it must be a sequence of (price, size)")


def _best(update: BookUpdate) -> tuple[Level | None, Level | None]:
    return update.bids[0] if update.bids else None, update.asks[0] if update.asks else None


def _at_best(levels: list[Level], best: Level | None) -> list[Level]:
    """What a side is known to show, now that the best of all venues is another."""
    return levels if best is not None and levels and levels[0][0] == best[0] else []


def _shown(levels: Levels, descending: bool) -> list[Level]:
    """The levels that show something, from the best on (feeds send them so; it costs little to be sure)."""
    if len(levels) == 1:  # as nearly always
        return levels if levels[0] is not None else []  # type: ignore[return-value]
    shown = [level for level in levels if level is not None]
    if len(shown) > 1:
        shown.sort(reverse=descending)
    return shown
