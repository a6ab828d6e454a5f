# cython: boundscheck=False
"""The hot path, second half: from a book to a split, what that means, and the result that says so.

One source for both backends, as `sor.market._quotes`: compiled, it is ``sor.routing._split``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Raw

# Compiled, their functions and classes are those of `_core` and `_quotes`, as `_split.pxd` says.
from sor import _core_py as core
from sor.market import _quotes_py as quotes
from sor.market.fields import minute_text
from sor.routing import reasons
from sor.routing.result import (
    SCHEMA_VERSION,
    BookSummary,
    ChildOrder,
    ExecutionSummary,
    OrderReference,
    RoutingResult,
    Shortfall,
    VenueResult,
    encode,
)
from sor.types import USABLE

# Why a venue got what it got, as numbers: those up to `RESTS` of who got shares.
WHOLE, LEFT, RESTS, DEARER, PENALTIES, PLANNED, UNMEASURED, BY_STATUS, GIVEN = range(9)
CODES = ("whole", "part", "rests", "dearer", "penalties", "planned", "unmeasured")
OK, EMPTY = quotes.OK, quotes.EMPTY
INFINITE = math.inf
SECOND = 10**9  # ns
MINUTE = 60 * SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sor.market._quotes_py import BookOfQuotes, Market, VenueQuote
    from sor.routing.result import Reason
    from sor.types import Algorithm, CostParameters, Objective, Order, Side, Status


def routed(
    order: Order,
    book: BookOfQuotes,
    algorithm: Algorithm,
    objective: Objective,
    parameters: CostParameters,
    max_quote_age: int | None,
    excluded: Collection[str],
    solve: Callable[..., Any] | None,
    stream: Any,
    source: Any,
    halt: str | None,
) -> RoutingResult:
    """What `sor.Router.route` answers to an order that is one for this book; ``solve`` is None where it only sweeps."""
    market = quotes.survey(order, book, max_quote_age, excluded, halt is not None)
    warnings = market.warnings() if halt is None else [halt]
    if book.doubts:
        warnings += book.warnings()  # type: ignore[attr-defined]  # a `sor.Book` has them
    levels = 1 if algorithm == "brute_force" else book.depth
    rows, places = quotes.usable_rows(order, book, market, levels, objective == "sweep")
    if solve is None:
        over, under, queue = parameters.lambda_over, parameters.lambda_under, parameters.theta_queue
        shown = book._ask_rows if market.side == "buy" else book._bid_rows
        if places is not None:
            shown = rows
        size: Any = order.quantity  # whole, as shares and lots are
        split, total_cost = core.sweep(shown, size, over, under, queue, 0.0)
        fills, value, placement = tally(market.side, book, places, split), total_cost, UNSET
    else:
        fills, total_cost, value, placement = solve(order, book, market, rows, places, warnings)
    return assemble(
        order,
        book,
        market,
        fills,
        total_cost,
        value,
        algorithm,
        objective,
        parameters,
        warnings,
        placement,
        stream,
        source,
    )


class Fills:
    """What a split of the rows means: shares by venue, cash, and the orders to send."""

    def __init__(self, allocation: list[int], children: list[ChildOrder], texts: list[Any], more: list[int]) -> None:
        self.allocation = allocation  # shares per venue
        self.children = children
        self.texts = texts  # of these, or they themselves
        self.executed = 0  # shares executed at once
        self.executed_cash = 0.0  # dollars for them, fees included; negative: received
        self.cash = 0.0  # the model's: the same less the rebates of resting shares
        self.more = more  # per venue: `WHOLE`, `LEFT` or `RESTS`
        self.dearest = -INFINITE  # dollars of a share taken, price and fee
        self.otherwise = PENALTIES  # why a venue got none that is no dearer, where shares may rest
        self.reasons: Any = None  # per venue, where others than these decided


def tally(side: Side, book: BookOfQuotes, places: Sequence[int] | None, split: list[int]) -> Fills:
    """What a split means of the rows at ``places`` (None: of all)."""
    buying = side == "buy"
    depth = book.depth
    flat = book._flat_asks if buying else book._flat_bids  # side by side in memory, as the quotes' own levels are not
    allocation = [0] * len(book.quotes)
    children: list[ChildOrder] = []
    texts: list[Any] = []
    executed, executed_cash, resting_cash = 0, 0.0, 0.0
    more, dearest = [WHOLE] * len(book.quotes), -INFINITE
    for row, quantity in enumerate(split):
        if quantity == 0:
            continue
        place = row if places is None else places[row]
        at = place * 4
        venue = place // depth
        if quantity < flat[at + 1] or left_behind(split, places, row, place, depth, flat):
            more[venue] = LEFT
        unit = flat[at] + flat[at + 2]
        dearest = unit if unit > dearest else dearest
        price = flat[at] if buying else -flat[at]
        taken = quantity if quantity <= flat[at + 1] else int(flat[at + 1])
        allocation[venue] += quantity
        executed += taken
        executed_cash += taken * (flat[at] + flat[at + 2])
        quote = book.quotes[venue]
        if taken and place == venue * depth:
            children.append(taking(quote, side, price, taken))
            texts.append(quote.sent_text)
        elif taken:
            children.append(ChildOrder(quote.venue_id, "market", side, price, taken))
            texts.append(children[-1])
        if quantity > taken:
            more[venue] = RESTS
            resting_cash -= (quantity - taken) * flat[at + 3]
            children.append(ChildOrder(quote.venue_id, "limit", side, price, quantity - taken))
            texts.append(children[-1])
    fills = Fills(allocation, children, texts, more)
    fills.executed = executed
    fills.executed_cash = executed_cash
    fills.cash = executed_cash + resting_cash
    fills.dearest = dearest
    return fills


def left_behind(split: list[int], places: Sequence[int] | None, row: int, place: int, depth: int, flat: Any) -> bool:
    """Whether the next level of the same venue could have been taken, and nothing of it is."""
    after = place + 1
    if after % depth == 0 or flat[4 * after + 1] == 0.0:
        return False
    if places is None:
        return split[row + 1] == 0
    return row + 1 < len(places) and places[row + 1] == after and split[row + 1] == 0


def taking(quote: VenueQuote, side: Side, price: float, shares: int) -> ChildOrder:
    """The order that takes shares at a venue's best level; most venues get the same one from row to row."""
    if quote.sent is None or shares != quote.sent_shares or price != quote.sent_price or side != quote.sent_side:
        quote.sent = ChildOrder(quote.venue_id, "market", side, price, shares)
        quote.sent_text = Raw(encode(quote.sent))
        quote.sent_side, quote.sent_price, quote.sent_shares = side, price, shares
    return quote.sent  # type: ignore[no-any-return]


def rest(
    fills: Fills, side: Side, book: BookOfQuotes, market: Market, limits: list[tuple[int, int]], prices: list[float]
) -> None:
    """Add limit orders, at these prices; each is a venue's place and its shares."""
    fills.otherwise = PLANNED
    for at, (venue, shares) in enumerate(limits):
        quote = book.quotes[venue]
        fills.allocation[venue] += shares
        fills.more[venue] = RESTS
        if fills.reasons is not None:
            fills.reasons[venue] = reasons.SAID["rests"]
        fills.children.append(ChildOrder(quote.venue_id, "limit", side, prices[at], shares))
        fills.texts.append(fills.children[-1])
        if market.statuses[venue] not in USABLE:  # nothing to take there, but room to rest
            market.statuses[venue] = quote.rates.usable_at(prices[at])


def shortfall(side: Side, executed_cash: float, executed: int, mid: float | None) -> Shortfall:
    """Executed cash less executed shares at the mid (a sell's cash is negative): positive where it costs."""
    if mid is None:
        return Shortfall(None, None, None)
    if not executed:
        return Shortfall(0.0, None, None)
    middle = mid
    dollars = quotes.rounded(executed_cash - executed * (middle if side == "buy" else -middle))
    per_share = dollars / executed
    return Shortfall(dollars, per_share, 1e4 * dollars / executed / middle)


def described(
    quote: VenueQuote, shares: int, status: Status, buying: bool, why: int, by: float, given: Any
) -> VenueResult:
    """What a result says of a venue; quotes stand longer than messages, so most repeat."""
    if (
        quote.said is None
        or shares != quote.said_shares
        or why != quote.said_why
        or by != quote.said_by
        or why == GIVEN
        or status != quote.said_status
        or (buying != quote.said_buying and quote.fees_differ())
    ):
        price = quote.price_of_fees(buying)
        quote.said = VenueResult(
            quote.venue_id,
            quote.ask,
            quote.ask_size,
            quote.rates.fee_at(price),
            quote.rates.rebate_at(price),
            shares,
            quote.bid,
            quote.bid_size,
            status,
            given if why == GIVEN else reason_of(why, by, status),
        )
        quote.text = Raw(encode(quote.said))
        quote.said_shares = shares
        quote.said_status = status
        quote.said_buying = buying
        quote.said_why, quote.said_by = why, by
    return quote.said  # type: ignore[no-any-return]


def reason_of(why: int, by: float, status: Status) -> Reason:
    if why == DEARER:
        return reasons.dearer(quotes.rounded(by))
    return reasons.SAID[status if why == BY_STATUS else CODES[why]]


def text_of(time: int) -> str:
    """As `sor.market.fields.iso_of`, which is not compiled."""
    minute = time // MINUTE
    rest = time - minute * MINUTE
    second = rest // SECOND
    return f"{minute_text(minute)}{second:02d}.{rest - second * SECOND:09d}Z"


def assemble(
    order: Order,
    book: BookOfQuotes,
    market: Market,
    fills: Fills,
    total_cost: float,
    objective_value: float,
    algorithm: Algorithm,
    objective: Objective,
    parameters: CostParameters,
    warnings: list[str],
    placement: Any,
    stream: Any,
    source: Any,
) -> RoutingResult:
    """The result of a split, with all that was known when it was decided."""
    side, size = market.side, order.quantity
    buying = side == "buy"
    time = text_of(book.time)
    venues, texts = [], []
    flat, width = book._flat_asks if buying else book._flat_bids, 4 * book.depth
    reason, given = None, fills.reasons
    otherwise = UNMEASURED if market.mid is None and objective == "shortfall" else fills.otherwise
    more, dearest, allocation, statuses = fills.more, fills.dearest, fills.allocation, market.statuses
    for place, quote in enumerate(book.quotes):
        shares, status, by = allocation[place], statuses[place], 0.0
        if given is not None:
            why, reason = GIVEN, given[place]
        elif shares:
            why = more[place]
        elif status is OK or (status is not EMPTY and status in USABLE):
            why = DEARER
            by = flat[place * width] + flat[place * width + 2] - dearest  # infinite where none was taken
            if by < 0.0 or by == INFINITE:
                why, by = otherwise, 0.0
        else:
            why = BY_STATUS
        venues.append(described(quote, shares, status, buying, why, by, reason))
        texts.append(quote.text)
    filled = fills.executed
    result = RoutingResult(
        book.symbol,
        time,
        size,
        algorithm,
        tuple(venues),
        fills.allocation,
        quotes.rounded(total_cost),
        ExecutionSummary(filled, size - filled, 0, quotes.rounded(fills.cash), filled / size),
        parameters,
        SCHEMA_VERSION,
        OrderReference(order.id, order.parent_id),
        side,
        objective,
        quotes.rounded(objective_value),
        market.mid,
        shortfall(side, fills.executed_cash, filled, market.mid),
        BookSummary(time, market.bid, market.ask, book.sequence, market.state),
        fills.children,
        warnings,
        placement,
        stream,
        source,
    )
    result.__dict__["texts"] = texts, fills.children.copy(), fills.texts
    return result
