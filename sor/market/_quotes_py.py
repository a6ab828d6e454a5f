"""The hot path, first half: a symbol's book, and what the market shows.

One source for both backends: run as it stands, or compiled as ``sor.market._quotes`` with the C types that
``_quotes.pxd`` gives its names (`sor.kernels` picks). So the two cannot drift apart, and give the same bits.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from sor.types import USABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sor.market import Level
    from sor.types import MarketState, Order, Side, Status

SHOWN: dict[Side, str] = {"buy": "ask", "sell": "bid"}
# Nearly all statuses are one of these; as texts that are names exist once, it is enough to look at where they are.
OK: Status = "ok"
EMPTY: Status = "empty"
UNITS = 1e8  # of a dollar in a result: what lies beyond is the noise of binary fractions
MID_UNITS = 1e10  # prices have nine decimals: these give their mid digit for digit
FEE_UNITS = 1e12  # of a fee or rebate that is a part of the price
ROUNDER = 1.5 * 2.0**52  # added to a double below 2**51 it leaves no digit for a fraction, halves going to even


# --- the book --------------------------------------------------------------------------------------------------------


class Rates:
    """What a venue charges and pays: dollars a share from a price up, parts of the price below it.

    From that price up there may be basis points of the price beside the dollars. ``rules`` is what it takes, None where
    it takes everything (`sor.market.venues.DatedRules`); ``exchange``, whether its quotations may be protected.
    """

    def __init__(
        self,
        fee: float,
        rebate: float,
        known: bool = True,
        dollars_from: float = 0.0,
        part_fee: float = 0.0,
        part_rebate: float = 0.0,
        part_known: bool = True,
        fee_bps: float = 0.0,
        rebate_bps: float = 0.0,
        rules: Any = None,
        exchange: bool = True,
    ) -> None:
        self.fee, self.rebate = fee, rebate  # dollars a share
        self.known = known  # False: nobody stated them, they are a default
        self.dollars_from = dollars_from  # price, dollars
        self.part_fee, self.part_rebate = part_fee, part_rebate
        self.part_known = part_known
        self.fee_bps, self.rebate_bps = fee_bps, rebate_bps
        self.rules, self.exchange = rules, exchange
        # From this price up they are the same at any price.
        self.flat_from = math.inf if fee_bps != 0.0 or rebate_bps != 0.0 else dollars_from

    def fee_at(self, price: float) -> float:
        """Dollars a share that who takes a level pays."""
        if price >= self.flat_from:
            return self.fee
        if price >= self.dollars_from:
            return rounded(self.fee + self.fee_bps * price / 1e4, FEE_UNITS)
        return rounded(self.part_fee * price, FEE_UNITS)

    def rebate_at(self, price: float) -> float:
        """Dollars a share that who rests there receives."""
        if price >= self.flat_from:
            return self.rebate
        if price >= self.dollars_from:
            return rounded(self.rebate + self.rebate_bps * price / 1e4, FEE_UNITS)
        return rounded(self.part_rebate * price, FEE_UNITS)

    def usable_at(self, price: float) -> Status:
        known = self.known if price >= self.dollars_from else self.part_known
        return "ok" if known else "unknown_fee"


FREE = Rates(0.0, 0.0)


class VenueQuote:
    """What one venue shows, and what it costs there; changed in place by its book."""

    def __init__(self, venue_id: str, order: Any) -> None:
        self.venue_id = venue_id
        self.order = order  # position among the venues: publisher id, or level, or name
        self.place = 0  # index among the quotes of the book
        self.time = 0  # of the event, nanoseconds
        # What a result last said of it, and that as JSON, kept for who writes results: most say the same again.
        self.said: Any = None
        self.text: Any = None
        self.said_shares = 0
        self.said_status: Status = "empty"
        self.said_buying = True
        self.said_why = 0
        self.said_by = 0.0
        # The same of the last order to take shares at its best level.
        self.sent: Any = None
        self.sent_text: Any = None
        self.sent_side: Side = "buy"
        self.sent_price = 0.0
        self.sent_shares = 0
        self.show([], [], FREE)

    def show(self, bids: list[Level], asks: list[Level], rates: Rates) -> None:
        """Levels from the best on, none of them empty."""
        self.bids, self.asks = bids, asks
        self.rates = rates
        self.bid: float | None
        self.ask: float | None
        self.bid, self.bid_size = bids[0] if bids else (None, 0)
        self.ask, self.ask_size = asks[0] if asks else (None, 0)
        self.to_buy: Status = "empty" if self.ask is None else rates.usable_at(self.ask)
        self.to_sell: Status = "empty" if self.bid is None else rates.usable_at(self.bid)
        self.best_bid = -math.inf if self.bid is None else self.bid  # what it adds to the market's best
        self.best_ask = math.inf if self.ask is None else self.ask
        if self.best_bid > self.best_ask:  # a venue cannot show that: the quote is not to be believed
            self.to_buy = self.to_sell = "crossed"
            self.best_bid, self.best_ask = -math.inf, math.inf
        self.said = self.text = None

    def fees_differ(self) -> bool:
        """Whether fees are parts of the price on either side, so that a buy's are not a sell's."""
        flat_from = self.rates.flat_from
        return self.price_of_fees(True) < flat_from or self.price_of_fees(False) < flat_from

    def price_of_fees(self, buying: bool) -> float:
        """The best price on the side that is taken, or else on the other; without a quote one at which dollars hold."""
        near, far = (self.ask, self.bid) if buying else (self.bid, self.ask)
        if near is not None:
            return near
        return self.rates.dollars_from if far is None else far


class BookOfQuotes:
    """The quotes of one symbol and their rows for the kernels; `sor.Book` adds the checks."""

    # As where it is compiled: what else an object has is of a class made from this one, and lies in its `__dict__`.
    __slots__ = (
        "_ask_rows",
        "_asks",
        "_bid_rows",
        "_bids",
        "_by_order",
        "_flat_asks",
        "_flat_bids",
        "depth",
        "doubts",
        "quotes",
        "ruled",
        "sequence",
        "symbol",
        "time",
    )

    def __init__(self, symbol: str, depth: int) -> None:
        self.symbol = symbol
        self.depth = depth
        self.quotes: list[VenueQuote] = []
        self.time = 0
        self.sequence: int | None = None
        self.doubts: dict[str, str] = {}
        self.ruled = False  # whether a venue has had rules
        self._by_order: dict[Any, VenueQuote] = {}
        self._lay_out()

    def _lay_out(self) -> None:
        """Arrays for the kernels: per side ``depth`` rows a venue of (price, size, fee, rebate), bids negated."""
        shape = (len(self.quotes) * self.depth, 4)
        self._asks = np.zeros(shape)
        self._bids = np.zeros(shape)
        # Through memoryviews: numpy takes three times as long to set one number.
        self._flat_asks: Any = self._asks.reshape(-1).data
        self._flat_bids: Any = self._bids.reshape(-1).data
        self._ask_rows, self._bid_rows = self._asks, self._bids  # compiled, views that a kernel takes as they are
        for place, quote in enumerate(self.quotes):
            quote.place = place
            self._write(quote)

    def _write(self, quote: VenueQuote) -> None:
        at = quote.place * self.depth * 4
        end = at + self.depth * 4
        write_rows(self._flat_asks, at, end, quote.asks, 1.0, quote.rates)
        write_rows(self._flat_bids, at, end, quote.bids, -1.0, quote.rates)

    def __getstate__(self) -> tuple[Any, ...]:
        """What the venues show, for a pickle or a copy, on either backend; the arrays are laid out anew."""
        shown = []
        for quote in self.quotes:
            rates = quote.rates
            terms = rates.fee, rates.rebate, rates.known, rates.dollars_from
            parts = rates.part_fee, rates.part_rebate, rates.part_known, rates.fee_bps, rates.rebate_bps
            kinds = rates.rules, rates.exchange
            shown.append((quote.order, quote.venue_id, quote.bids, quote.asks, (*terms, *parts, *kinds), quote.time))
        return self.symbol, self.depth, self.time, self.sequence, self.doubts, shown

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.symbol, self.depth, time, sequence, self.doubts, shown = state
        self.quotes, self._by_order = [], {}
        self.time, self.ruled = 0, False
        for order, venue_id, bids, asks, rates, seen in shown:
            self.show(order, venue_id, bids, asks, Rates(*rates), seen)
        self.time, self.sequence = time, sequence
        self._lay_out()

    def has(self, order: Any) -> bool:
        """Whether the venue at this position has shown something."""
        return order in self._by_order

    def rows(self, side: Side) -> np.ndarray:
        """Contiguous float64 array (venues * depth, 4) of (price, size, fee, rebate) of the side that is taken."""
        return self._asks if side == "buy" else self._bids

    def show(
        self,
        order: Any,
        venue_id: str,
        bids: list[Level],
        asks: list[Level],
        rates: Rates,
        time: int,
    ) -> None:
        """Set what a venue shows: levels sorted from the best on and none empty, ``order`` the venue's position."""
        quote = self._by_order.get(order)
        if quote is None:
            quote = self._by_order[order] = VenueQuote(venue_id, order)
            self.quotes.append(quote)
            self.quotes.sort(key=order_of)
            self._lay_out()
        quote.time = time
        if rates.rules is not None:
            self.ruled = True
        quote.show(bids[: self.depth], asks[: self.depth], rates)
        self._write(quote)
        if time > self.time:
            self.time = time


def order_of(quote: VenueQuote) -> Any:
    return quote.order


def write_rows(flat: Any, at: int, end: int, levels: list[Level], sign: float, rates: Rates) -> None:
    fee, rebate, flat_from = rates.fee, rates.rebate, rates.flat_from
    for price, size in levels:
        flat[at] = sign * price
        flat[at + 1] = size
        flat[at + 2] = fee if price >= flat_from else rates.fee_at(price)
        flat[at + 3] = rebate if price >= flat_from else rates.rebate_at(price)
        at += 4
    while at < end:  # an empty row: nothing is displayed there
        flat[at] = flat[at + 1] = 0.0
        at += 4


# --- what the market shows -------------------------------------------------------------------------------------------


class Market:
    """What the venues show together, and why each may be used for an order, or not."""

    def __init__(self, side: Side, best_bid: float, best_ask: float, statuses: list[Status]) -> None:
        self.side = side
        self.bid = None if best_bid == -math.inf else best_bid
        self.ask = None if best_ask == math.inf else best_ask
        self.statuses = statuses
        self.mid: float | None = None
        self.state: MarketState = "normal"
        if self.bid is None or self.ask is None:
            self.state = "empty" if self.bid is self.ask else "one_sided"
            return
        self.mid = rounded((best_bid + best_ask) / 2, MID_UNITS)
        if best_bid >= best_ask:
            self.state = "locked" if best_bid == best_ask else "crossed"

    def warnings(self) -> list[str]:
        found = []
        if self.state == "crossed":
            found.append(f"market crossed: best bid {self.bid} above best offer {self.ask}")
        elif self.state == "locked":
            found.append(f"market locked: best bid and offer both {self.bid}")
        if not any_usable(self.statuses):
            counts = Counter(self.statuses)
            reasons = ", ".join([f"{counts[status]} {status}" for status in sorted(counts)]) or "none known"
            found.append(f"nothing to {self.side}: no venue shows a usable {SHOWN[self.side]} ({reasons})")
        return found


def survey(
    order: Order, book: BookOfQuotes, max_quote_age: int | None, excluded: Collection[str], halted: bool
) -> Market:
    """The status of every venue for this order, and the best bid and offer of all quotes to be believed."""
    side = order.side
    buying = side == "buy"
    marking = halted or bool(excluded) or max_quote_age is not None or order.limit_price is not None
    oldest = 0 if max_quote_age is None else book.time - max_quote_age
    bid, ask = -math.inf, math.inf
    statuses = []
    for quote in book.quotes:
        status = quote.to_buy if buying else quote.to_sell
        if marking:
            status = _marked(quote, status, order.limit_price, buying, excluded, oldest, halted)
        statuses.append(status)
        if quote.time >= oldest:
            bid = quote.best_bid if quote.best_bid > bid else bid
            ask = quote.best_ask if quote.best_ask < ask else ask
    return Market(side, bid, ask, statuses)


def _marked(
    quote: VenueQuote,
    status: Status,
    limit: float | None,
    buying: bool,
    excluded: Collection[str],
    oldest: int,
    halted: bool,
) -> Status:
    """The status for one order: what weighs most is said."""
    if halted or quote.time < oldest:
        return "stale"
    if status != "crossed" and quote.venue_id in excluded:
        return "excluded"
    if limit is not None and status in USABLE:
        price = quote.ask if buying else quote.bid
        if price is not None and (price > limit if buying else price < limit):
            return "over_limit"
    return status


def usable_rows(
    order: Order, book: BookOfQuotes, market: Market, levels: int, empty_too: bool
) -> tuple[np.ndarray, Sequence[int] | None]:
    """The rows of the book that may be used, contiguous, and the place of each among all; None: all, in order.

    An empty row does no harm where only displayed shares are taken (``empty_too``), so most books go to the kernel
    as they are.
    """
    rows = book._asks if market.side == "buy" else book._bids
    if levels == book.depth and order.limit_price is None and all_usable(market.statuses, empty_too):
        return rows, None
    places = [
        i * book.depth + level
        for i, status in enumerate(market.statuses)
        if status in USABLE
        for level in range(levels)
    ]
    if levels > 1 and order.limit_price is not None:
        worst = order.limit_price if order.side == "buy" else -order.limit_price
        places = [place for place in places if rows[place, 0] <= worst]
    return rows[places], places


def any_usable(statuses: list[Status]) -> bool:
    for status in statuses:  # noqa: SIM110 - compiled, a loop is quicker than a generator
        if status is OK or (status is not EMPTY and status in USABLE):
            return True
    return False


def all_usable(statuses: list[Status], empty_too: bool) -> bool:
    for status in statuses:
        if status is not OK and not (empty_too and status is EMPTY) and status not in USABLE:
            return False
    return True


def rounded(dollars: float, units: float = UNITS) -> float:
    """As round(), in a tenth of its time; a number too large to have such digits stays as it is."""
    scaled = dollars * units
    if -(2.0**51) < scaled < 2.0**51:
        return ((scaled + ROUNDER) - ROUNDER) / units
    return round(scaled) / units if -(2.0**53) < scaled < 2.0**53 else dollars
