"""Routing rows of columns, but for the split itself: one source for both backends, as `sor.market._quotes`.

A row as nearly all are goes from its columns into its book, and from there to what the kernels take, here. Every other
one (`Follower.run` stops at it) is brought into the book by `sor.market.book.Books`, as a message is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Compiled, its functions and classes are those of `_quotes`, as `_many.pxd` says.
from sor.market import _quotes_py as quotes
from sor.market.columns import NO_PRICE, STANDS
from sor.market.fields import DOUBTFUL
from sor.types import MARKET_STATES, STATUSES, Warnings

if TYPE_CHECKING:
    from collections.abc import Collection

    from sor.market._quotes_py import BookOfQuotes, Rates
    from sor.types import Order

EXACT = 2**53  # a larger integer may not be a double
STATUS_CODES = {status: code for code, status in enumerate(STATUSES)}
STATE_CODES = {state: code for code, state in enumerate(MARKET_STATES)}
OK, EMPTY, UNKNOWN_FEE = map(STATUSES.index, ("ok", "empty", "unknown_fee"))
NORMAL, LOCKED_STATE, CROSSED_STATE = map(MARKET_STATES.index, ("normal", "locked", "crossed"))
OK_TEXT, EMPTY_TEXT, UNKNOWN_FEE_TEXT = STATUSES[OK], STATUSES[EMPTY], STATUSES[UNKNOWN_FEE]
NORMAL_TEXT = MARKET_STATES[NORMAL]
CROSSED, LOCKED = int(Warnings.CROSSED), int(Warnings.LOCKED)
NOTHING, DOUBTED = int(Warnings.NOTHING), int(Warnings.DOUBTED)


class Looks:
    """What books show to orders, look after look; the arrays have a row for each, and are given by who reads them.

    They come as memoryviews, here and below: where it is not compiled their items are plain numbers so.

    Attributes
    ----------
    rows, most : int
        Looks taken, and those that there is room for.
    width : int
        Rows of quotes that there is room for in each.
    """

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.shown = arrays["shown"]
        self.venues = arrays["venues"]
        self.counts = arrays["counts"]
        self.statuses = arrays["statuses"]
        self.best = arrays["best"]
        self.times = arrays["times"]
        self.marks = arrays["marks"]
        self.rows = 0
        self.most, self.width = arrays["venues"].shape

    def take(
        self,
        order: Order,
        book: BookOfQuotes,
        max_quote_age: int | None,
        excluded: Collection[str],
        row: int,
        number: int,
        layout: int,
        doubted: bool,
    ) -> None:
        """The rows of the book that an order may use, one after the other, and what the market shows."""
        market = quotes.survey(order, book, max_quote_age, excluded, False)
        buying = market.side == "buy"
        flat = book._flat_asks if buying else book._flat_bids
        levels, look = book.depth, self.rows
        limited = levels > 1 and order.limit_price is not None
        worst = 0.0
        if limited:
            worst = order.limit_price if buying else -order.limit_price  # type: ignore[assignment, operator]
        count = usable = 0
        for slot, status in enumerate(market.statuses):
            # Nearly all are one of these; as texts that are names exist once, it is enough to look at where they are.
            if status is OK_TEXT:
                code = OK
            elif status is EMPTY_TEXT:
                code = EMPTY
            elif status is UNKNOWN_FEE_TEXT:
                code = UNKNOWN_FEE
            else:
                code = STATUS_CODES[status]
            self.statuses[look, slot] = code
            if code in (OK, UNKNOWN_FEE):
                usable += 1
                at = slot * levels * 4
                for _ in range(levels):
                    if not limited or flat[at] <= worst:
                        self.shown[look, count, 0] = flat[at]
                        self.shown[look, count, 1] = flat[at + 1]
                        self.shown[look, count, 2] = flat[at + 2]
                        self.shown[look, count, 3] = flat[at + 3]
                        self.venues[look, count] = slot
                        count += 1
                    at += 4
        for left in range(count, self.counts[look]):  # of an earlier look
            self.shown[look, left, 1] = 0.0
        self.counts[look] = count
        state = NORMAL if market.state is NORMAL_TEXT else STATE_CODES[market.state]
        warnings = DOUBTED if doubted else 0
        if state == CROSSED_STATE:
            warnings |= CROSSED
        elif state == LOCKED_STATE:
            warnings |= LOCKED
        if not usable:
            warnings |= NOTHING
        if market.bid is not None:
            self.best[look, 0] = market.bid
        if market.ask is not None:
            self.best[look, 1] = market.ask
        if market.mid is not None:
            self.best[look, 2] = market.mid
        self.times[look] = book.time
        self.marks[look, 0] = row
        self.marks[look, 1] = number
        self.marks[look, 2] = layout
        self.marks[look, 3] = state
        self.marks[look, 4] = warnings
        self.rows = look + 1


class Known:
    """A publisher's venue with its rates, for the times within [start, end)."""

    def __init__(self, order: Any, venue_id: str, rates: Rates, start: int, end: int) -> None:
        self.order, self.venue_id, self.rates = order, venue_id, rates
        self.start, self.end = start, end


class Follower:
    """Brings rows into books, and takes a look at each book for each order.

    Parameters
    ----------
    orders : list of (Order, str or None)
        Each with its symbol; None: any.
    max_quote_age, excluded
        As for `sor.Router`.
    depth : int
        Levels of the books.
    """

    def __init__(
        self,
        orders: list[tuple[Order, str | None]],
        max_quote_age: int | None,
        excluded: Collection[str],
        depth: int,
    ) -> None:
        self.orders = orders
        self.max_quote_age = max_quote_age
        self.excluded = excluded
        self.depth = depth
        self.known: dict[int, Known] = {}  # by publisher
        self.books: list[Any] = []  # by number of the symbol; None where there is none yet
        self.layouts: list[int] = []  # number of the venues' order, by number of the symbol

    def begin(self, columns: dict[str, Any]) -> None:
        """Take up a batch."""
        self.symbol = columns["symbol"]
        self.time = columns["time"]
        self.publisher = columns["publisher"]
        self.flags = columns["flags"]
        self.bid_price, self.bid_size = columns["bid_price"], columns["bid_size"]
        self.ask_price, self.ask_size = columns["ask_price"], columns["ask_size"]
        self.usual = "bid_publisher" not in columns
        self.end = len(self.time)

    def run(self, at: int, looks: Looks) -> int:
        """Bring rows from ``at`` on into their books, with a look at each; the first that is not done here, or not yet.

        That one is unusual, or there is no room left for looks.
        """
        room = looks.most - len(self.orders)
        while at < self.end and looks.rows <= room and self.usual:
            symbol, time = self.symbol[at], self.time[at]
            book = self.books[symbol]
            if book is None or self.bid_size[at, 0] == STANDS or self.flags[at] & DOUBTFUL or book.doubts:
                break
            known = self.known.get(self.publisher[at])
            if known is None or time < known.start or time >= known.end or not book.has(known.order):
                break
            bids = levels_of(self.bid_price, self.bid_size, at, self.depth, True)
            asks = levels_of(self.ask_price, self.ask_size, at, self.depth, False)
            book.show(known.order, known.venue_id, bids, asks, known.rates, time)
            self.look(at, looks, False)
            at += 1
        return at

    def look(self, at: int, looks: Looks, doubted: bool) -> None:
        """A look at the book of a row for each order; ``doubted``: the feed doubts what it shows."""
        symbol = self.symbol[at]
        book = self.books[symbol]
        for number, (order, name) in enumerate(self.orders):
            if name is None or name == book.symbol:
                looks.take(order, book, self.max_quote_age, self.excluded, at, number, self.layouts[symbol], doubted)


def levels_of(prices: Any, sizes: Any, row: int, depth: int, descending: bool) -> list[tuple[float, int]]:
    """The levels of a side that show something, from the best on."""
    found = []
    for level in range(depth):
        units, size = prices[row, level], sizes[row, level]
        if units != NO_PRICE and size > 0:
            found.append((price_in_dollars(units), size))
    if len(found) > 1:
        found.sort(reverse=descending)
    return found


def price_in_dollars(units: int) -> float:
    """The double next to a price in whole 1e-9 dollars: rounded once."""
    if units < EXACT:
        return units / 1e9
    exact: Any = units
    return float(exact / 10**9)  # of Python's integers, which divide so, too


def by_venue(marks: Any, columns: Any, statuses: Any, status: Any) -> None:
    """Statuses of the venues of each look's book, in the columns of all venues: ``columns`` has them by layout."""
    for look in range(len(marks)):
        layout = marks[look, 2]
        for slot in range(columns.shape[1]):
            if columns[layout, slot] < 0:
                break
            status[look, columns[layout, slot]] = statuses[look, slot]


def tally(
    rows: Any,
    venues: Any,
    counts: Any,
    marks: Any,
    columns: Any,
    splits: Any,
    sells: Any,
    best: Any,
    allocation: Any,
    executed: Any,
    sums: Any,
) -> None:
    """What splits mean: shares by venue, those executed at once, cash spent, and the shortfall in dollars and bps.

    Venues are in the columns that ``columns`` has for them, by layout.
    """
    for look in range(len(counts)):
        layout = marks[look, 2]
        filled = executed_cash = resting_cash = 0.0
        for row in range(counts[look]):
            quantity = splits[look, row]
            if quantity == 0:
                continue
            shown = rows[look, row, 1]
            taken = quantity if quantity < shown else shown
            allocation[look, columns[layout, venues[look, row]]] += quantity
            filled += taken
            executed_cash += taken * (rows[look, row, 0] + rows[look, row, 2])
            if quantity > taken:
                resting_cash -= (quantity - taken) * rows[look, row, 3]
        executed[look] = filled
        sums[look, 0] = quotes.rounded(executed_cash + resting_cash)
        middle = best[look, 2]
        if middle == middle:  # not NaN
            sums[look, 1] = 0.0
            if filled:
                dollars = quotes.rounded(executed_cash - filled * (-middle if sells[look] else middle))
                sums[look, 1] = dollars
                sums[look, 2] = 1e4 * dollars / filled / middle


def round_all(values: Any) -> None:
    """`sor.market._quotes.rounded` in place."""
    for i in range(len(values)):
        values[i] = quotes.rounded(values[i])
