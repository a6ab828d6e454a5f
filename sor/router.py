"""Routes an order on a book. Pure: no I/O and no clock; ages come from the book's own time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from sor.book import Book, VenueQuote
from sor.errors import InputError
from sor.kernels import core
from sor.market_data.fields import iso_of
from sor.types import (
    ALGORITHMS,
    OBJECTIVES,
    SCHEMA_VERSION,
    STATUSES,
    Algorithm,
    BookSummary,
    ChildOrder,
    CostParameters,
    ExecutionSummary,
    MarketState,
    Objective,
    Order,
    OrderReference,
    RoutingResult,
    Shortfall,
    Side,
    Status,
    VenueResult,
    one_of,
    whole_number,
)

USABLE: frozenset[Status] = frozenset(("ok", "unknown_fee"))
UNITS = 1e8  # of a dollar in a result: what lies beyond is the noise of binary fractions
_USABLE_OR_EMPTY = USABLE | {"empty"}
_ALL_BUT_CROSSED = frozenset(STATUSES) - {"crossed"}


class Router:
    """Splits orders over the venues of a book.

    Parameters
    ----------
    parameters : CostParameters
        Penalties and grid.
    algorithm : {"brute_force", "greedy_l2"}
        ``brute_force`` is the exact split over the venues' best quotes (its name is older than its method);
        ``greedy_l2`` fills from all displayed levels, the cheapest price + fee first.
    objective : {"sweep", "shortfall", "notional"}
        What ``brute_force`` minimises: ``sweep`` takes displayed shares only, as many of the order as are
        displayed, at least cost; ``notional`` is the cost formula as it stands; ``shortfall`` the formula with
        prices measured against the mid. ``greedy_l2`` knows ``sweep`` only.
    max_quote_age : int, optional
        Nanoseconds of event time after which a venue's quote is stale.
    exclude_venues : collection of str
        Venue ids that get nothing; they still count towards the best bid and offer.

    Raises
    ------
    InputError
        Where an argument is not what it may be.
    """

    def __init__(
        self,
        parameters: CostParameters | None = None,
        algorithm: Algorithm = "brute_force",
        objective: Objective = "sweep",
        *,
        max_quote_age: int | None = None,
        exclude_venues: Collection[str] = (),
    ) -> None:
        self.parameters = parameters or CostParameters()
        self.algorithm: Algorithm = one_of("algorithm", algorithm, ALGORITHMS)
        self.objective: Objective = one_of("objective", objective, OBJECTIVES)
        if algorithm == "greedy_l2" and objective != "sweep":
            raise InputError(f"objective is {objective!r}: greedy_l2 fills what is displayed, so it must be sweep")
        self.max_quote_age = None if max_quote_age is None else whole_number("max_quote_age", max_quote_age, 0, 2**62)
        if isinstance(exclude_venues, str):
            raise InputError(
                f"exclude_venues is {exclude_venues!r}: it must be a collection of venue ids, not one text"
            )
        self.excluded = frozenset(exclude_venues)

    @property
    def depth(self) -> int:
        """Levels of a venue that routing looks at."""
        return 10 if self.algorithm == "greedy_l2" else 1

    def route(
        self, order: Order, book: Book, *, stream: Any = None, source: Any = None, halt: str | None = None
    ) -> RoutingResult:
        """Split ``order`` over the venues of ``book``.

        Parameters
        ----------
        order : Order
        book : Book
        stream, source : object, optional
            Copied into the result: the state of the stream, and which input it answers.
        halt : str, optional
            Why nothing may be routed: every venue counts as stale, and the result carries this warning.

        Returns
        -------
        RoutingResult
            Also where nothing can be routed: then an allocation of zeros, and a warning that says why.

        Raises
        ------
        InputError
            The order is for another symbol than the book.
        """
        if order.symbol != book.symbol:
            raise InputError(f"order is for {order.symbol!r}: it must be for the book's symbol, {book.symbol!r}")
        market = self._survey(order, book)
        if halt is not None:
            market = market._replace(statuses=["stale"] * len(book.quotes))
        quotes, places = self._usable_rows(order, book, market)
        warnings = market.warnings() if halt is None else [halt]
        solution = self._solve(order, quotes, market.mid, warnings)
        fills = tally(order, book, places, solution.split)
        filled, size = fills.executed, order.quantity
        time = iso_of(book.time)
        return RoutingResult(
            book.symbol,
            time,
            size,
            self.algorithm,
            venue_results(book, order.side, fills.allocation, market.statuses),
            fills.allocation,
            rounded(solution.total_cost),
            ExecutionSummary(filled, size - filled, 0, rounded(fills.cash), filled / size),
            self.parameters,
            SCHEMA_VERSION,
            OrderReference(order.id, order.parent_id),
            order.side,
            self.objective,
            rounded(solution.objective_value),
            market.mid,
            shortfall(order.side, fills.executed_cash, filled, market.mid),
            BookSummary(time, market.bid, market.ask, book.sequence, market.state),
            fills.child_orders,
            warnings,
            stream,
            source,
        )

    def _survey(self, order: Order, book: Book) -> Market:
        """The status of every venue for this order, and the best bid and offer of all quotes to be believed."""
        statuses, bids, asks = book.statuses[order.side], book.best_bids, book.best_asks
        if order.limit_price is not None or self.excluded or self.max_quote_age is not None:
            statuses = statuses.copy()  # the book's own, which stay as they are
        if order.limit_price is not None:
            _mark(statuses, "over_limit", _beyond(book.quotes, order.limit_price, order.side == "buy"), USABLE)
        if self.excluded:
            _mark(statuses, "excluded", [quote.venue_id in self.excluded for quote in book.quotes], _ALL_BUT_CROSSED)
        if self.max_quote_age is not None:
            oldest = book.time - self.max_quote_age
            _mark(statuses, "stale", [quote.time < oldest for quote in book.quotes])
            bids = [quote.best_bid for quote in book.quotes if quote.time >= oldest]
            asks = [quote.best_ask for quote in book.quotes if quote.time >= oldest]
        bid, ask = max(bids, default=-math.inf), min(asks, default=math.inf)
        return Market.of(order.side, None if bid == -math.inf else bid, None if ask == math.inf else ask, statuses)

    def _usable_rows(self, order: Order, book: Book, market: Market) -> tuple[np.ndarray, Sequence[int]]:
        """The rows of the book that may be used, contiguous, and the place of each among all rows."""
        quotes, depth = book.rows(order.side), book.depth
        levels = depth if self.algorithm == "greedy_l2" else 1
        # An empty row does no harm where only displayed shares are taken, so most books go to the kernel as they are.
        harmless = _USABLE_OR_EMPTY if self.objective == "sweep" else USABLE
        if levels == depth and order.limit_price is None and harmless.issuperset(market.statuses):
            return quotes, range(len(quotes))
        places = [
            i * depth + level for i, status in enumerate(market.statuses) if status in USABLE for level in range(levels)
        ]
        if levels > 1 and order.limit_price is not None:
            worst = order.limit_price if order.side == "buy" else -order.limit_price
            places = [place for place in places if quotes[place, 0] <= worst]
        return quotes[places], places

    def _solve(self, order: Order, quotes: np.ndarray, mid: float | None, warnings: list[str]) -> Solution:
        """Shares per row, their cost with true prices, and the value that was minimised."""
        par, size = self.parameters, order.quantity
        penalties = par.lambda_over, par.lambda_under, par.theta_queue
        if self.objective == "sweep":
            split, cost = core.sweep(quotes, size, *penalties, 0.0)
            return Solution(split, cost, cost)
        reference = 0.0
        if self.objective == "shortfall" and mid is None:
            warnings.append("no mid, as one side of the market shows nothing: a shortfall cannot be measured")
            quotes = quotes[:0]
        elif self.objective == "shortfall":
            reference = mid if order.side == "buy" else -mid  # type: ignore[assignment, operator]
        if not len(quotes):
            cost = core.cost(np.empty(0), np.empty((0, 4)), size, *penalties, 0.0)
            return Solution([], cost, cost)
        split, value = core.allocate(quotes, size, *penalties, par.step, reference)
        trap = idle_warning(quotes, par, reference)
        if trap:
            warnings.append(trap)
        cost = core.cost(np.array(split, dtype=float), quotes, size, *penalties, 0.0) if reference else value
        return Solution(split, cost, value)


class Solution(NamedTuple):
    split: list[int]  # shares per row
    total_cost: float  # dollars, true prices
    objective_value: float  # dollars


def _mark(statuses: list[Status], status: Status, marked: list[bool], among: Collection[Status] = STATUSES) -> None:
    for i, mark in enumerate(marked):
        if mark and statuses[i] in among:
            statuses[i] = status


def _beyond(quotes: list[VenueQuote], limit: float, buying: bool) -> list[bool]:
    if buying:
        return [quote.ask is not None and quote.ask > limit for quote in quotes]
    return [quote.bid is not None and quote.bid < limit for quote in quotes]


def rounded(dollars: float, units: float = UNITS) -> float:
    """As round(), in a tenth of its time; a number too large to have such digits stays as it is."""
    scaled = dollars * units
    return round(scaled) / units if -(2.0**53) < scaled < 2.0**53 else dollars


def mid_of(bid: float | None, ask: float | None) -> float | None:
    if bid is None or ask is None:
        return None
    return rounded((bid + ask) / 2, 1e10)  # prices have nine decimals: this is their mid, digit for digit


def state_of(bid: float | None, ask: float | None) -> MarketState:
    if bid is None or ask is None:
        return "empty" if bid is ask else "one_sided"
    if bid < ask:
        return "normal"
    return "locked" if bid == ask else "crossed"


class Market(NamedTuple):
    """What the venues show together."""

    side: Side
    bid: float | None
    ask: float | None
    mid: float | None
    state: MarketState
    statuses: list[Status]

    @classmethod
    def of(cls, side: Side, bid: float | None, ask: float | None, statuses: list[Status]) -> Market:
        return cls(side, bid, ask, mid_of(bid, ask), state_of(bid, ask), statuses)

    def warnings(self) -> list[str]:
        found = []
        if self.state == "crossed":
            found.append(f"market crossed: best bid {self.bid} above best offer {self.ask}")
        elif self.state == "locked":
            found.append(f"market locked: best bid and offer both {self.bid}")
        if USABLE.isdisjoint(self.statuses):
            counts = Counter(self.statuses)
            reasons = ", ".join(f"{counts[status]} {status}" for status in sorted(counts)) or "none known"
            found.append(f"nothing to {self.side}: no venue shows a usable {_SHOWN[self.side]} ({reasons})")
        return found


_SHOWN: dict[Side, str] = {"buy": "ask", "sell": "bid"}


class Fills(NamedTuple):
    allocation: list[int]  # shares per venue
    executed: int  # shares executed at once
    executed_cash: float  # dollars for them, fees included; negative: received
    cash: float  # the model's cash: the same less the rebates of resting shares
    child_orders: list[ChildOrder]


def tally(order: Order, book: Book, places: Sequence[int], split: list[int]) -> Fills:
    """What a split of the rows means: shares by venue, cash, and the orders to send."""
    depth, quotes, side = book.depth, book.quotes, order.side
    buying = side == "buy"
    allocation = [0] * len(quotes)
    executed, executed_cash, resting_cash = 0, 0.0, 0.0
    children: list[ChildOrder] = []
    for row, quantity in enumerate(split):
        if not quantity:
            continue
        venue, level = divmod(places[row], depth)
        quote = quotes[venue]
        price, size = (quote.asks if buying else quote.bids)[level]
        allocation[venue] += quantity
        taken = quantity if quantity < size else size
        executed += taken
        executed_cash += taken * ((price if buying else -price) + quote.fee)
        if taken:
            children.append(ChildOrder(quote.venue_id, "market", side, price, taken))
        if quantity > taken:
            resting_cash -= (quantity - taken) * quote.rebate
            children.append(ChildOrder(quote.venue_id, "limit", side, price, quantity - taken))
    return Fills(allocation, executed, executed_cash, executed_cash + resting_cash, children)


def venue_results(book: Book, side: Side, allocation: list[int], statuses: list[Status]) -> list[VenueResult]:
    """What the result says of each venue; most get nothing, and for these the book has it ready."""
    quotes, results = book.quotes, book.idle[side].copy()
    for place, shares in enumerate(allocation):
        if shares:
            results[place] = quotes[place].result(shares, statuses[place])
    if statuses is not book.statuses[side]:  # some are marked for this order
        for place, status in enumerate(statuses):
            if results[place].status != status:
                results[place] = quotes[place].result(allocation[place], status)
    return results


def shortfall(side: Side, executed_cash: float, executed: int, mid: float | None) -> Shortfall:
    """Executed cash less executed shares at the mid (a sell's cash is negative): positive where it costs."""
    if mid is None:
        return Shortfall(None, None, None)
    dollars = executed_cash - executed * (mid if side == "buy" else -mid)
    if not executed:
        return Shortfall(0.0, None, None)
    dollars = rounded(dollars)
    return Shortfall(dollars, dollars / executed, 1e4 * dollars / executed / mid)


def idle_warning(quotes: np.ndarray, parameters: CostParameters, reference: float) -> str | None:
    """Says, with numbers, where leaving a share unfilled is cheaper than trading it at the best venue.

    A share left costs lambda_under + theta_queue less the best rebate for resting it, one traded p + f - reference.
    """
    rows = quotes.tolist()
    trading = min(price - reference + fee for price, _, fee, _ in rows)
    least = trading + max(rebate for _, _, _, rebate in rows) - parameters.theta_queue
    if parameters.lambda_under >= least:
        return None
    return (
        f"with these penalties not trading is cheaper than trading at any venue: lambda_under is "
        f"{parameters.lambda_under:g}, and the least that trades here is {round(least, 9)}"
    )
