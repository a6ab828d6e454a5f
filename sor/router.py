"""Routes an order on a book. Pure: no I/O and no clock; ages come from the book's own time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from sor.book import Book
from sor.errors import InputError
from sor.kernels import core, routing
from sor.types import (
    ALGORITHMS,
    OBJECTIVES,
    Algorithm,
    CostParameters,
    Objective,
    Order,
    RoutingResult,
    Status,
    one_of,
    whole_number,
)

USABLE: frozenset[Status] = routing.USABLE


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
        market = routing.survey(order, book, self.max_quote_age, self.excluded, halt is not None)
        warnings = market.warnings() if halt is None else [halt]
        levels = book.depth if self.algorithm == "greedy_l2" else 1
        rows, places = routing.usable_rows(order, book, market, levels, self.objective == "sweep")
        solution = self._solve(order, rows, market.mid, warnings)
        fills = routing.tally(order.side, book, places, solution.split)
        result: RoutingResult = routing.assemble(
            order, book, market, fills, solution.total_cost, solution.objective_value, self, warnings, stream, source
        )
        return result

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
