"""Routes an order on a book. Pure: no I/O and no clock; ages come from the book's own time."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec
import numpy as np

from sor.errors import InputError
from sor.kernels import core, pick
from sor.market.book import Book
from sor.market.policy import Policy
from sor.routing import ruled
from sor.routing.cont_kukanov import plan
from sor.routing.outside import order_in_lots, result_outside, with_step
from sor.routing.result import PlacementSummary, RoutingResult
from sor.types import (
    ALGORITHMS,
    MAX_NUMBER,
    OBJECTIVES,
    PROTECTS,
    Algorithm,
    CostParameters,
    Instrument,
    Objective,
    Order,
    Protect,
    one_of,
    real_number,
    text,
    whole_number,
)

NO_MID = "no mid, as one side of the market shows nothing: a shortfall cannot be measured"
MOST_PLACED = int(MAX_NUMBER)  # shares that `sor.place` takes

quotes = pick("sor.market._quotes")
splits = pick("sor.routing._split")


class Router:
    """Splits orders over the venues of a book.

    Parameters
    ----------
    parameters : CostParameters
        Penalties and grid; ``cont_kukanov`` takes no penalty below 0.
    algorithm : {"brute_force", "greedy_l2", "cont_kukanov"}
        ``brute_force`` is the exact split over the venues' best quotes (its name is older than its method);
        ``greedy_l2`` fills from all displayed levels, the cheapest price + fee first; ``cont_kukanov`` takes some
        of these shares and rests limit orders at the national best, as `sor.place` on the book's outflows.
    objective : {"sweep", "shortfall", "notional"}
        What ``brute_force`` minimises: ``sweep`` takes displayed shares only, as many of the order as are
        displayed, at least cost; ``notional`` is the cost formula as it stands; ``shortfall`` the formula with
        prices measured against the mid. The other algorithms take displayed shares by ``sweep`` only.
    max_quote_age : int, optional
        Nanoseconds of event time after which a venue's quote is stale.
    exclude_venues : collection of str
        Venue ids that get nothing; they still count towards the best bid and offer.
    min_windows : int
        Samples of the outflows that ``cont_kukanov`` needs; with fewer the whole order goes to the market, as by
        ``greedy_l2``, and a warning says so.
    protect : {"none", "nbbo"}
        With ``nbbo`` no displayed share is taken at a worse price than a protected quotation (the best round-lot
        quotation of an exchange, Rule 611) that is not taken in full; orders of a plan with several prices are then
        marked ``iso``, and a protected quotation that may not be sent for is named in a warning. On days on which
        the policy has no protection, nothing is done but to say so.
    policy : Policy, optional
        The market's rules by date, by default the built-in ones: protection, and the round lots that lots may be.

    Raises
    ------
    InputError
        Where an argument is not what it may be.

    Notes
    -----
    Where venues have rules (`sor.VenueRules`, of a `Book` or of a venue file), ``sweep`` takes as many displayed shares
    as these allow, whatever a last share costs in tickets, and then at the least cost; ``shortfall`` weighs penalties
    against cost and tickets over displayed shares; ``notional`` is refused.
    """

    def __init__(
        self,
        parameters: CostParameters | None = None,
        algorithm: Algorithm = "brute_force",
        objective: Objective = "sweep",
        *,
        max_quote_age: int | None = None,
        exclude_venues: Collection[str] = (),
        min_windows: int = 60,
        protect: Protect = "none",
        policy: Policy | None = None,
    ) -> None:
        self.parameters = CostParameters() if parameters is None else parameters
        if not isinstance(self.parameters, CostParameters):
            raise InputError(f"parameters is {parameters!r}: it must be a CostParameters")
        self.algorithm: Algorithm = one_of("algorithm", algorithm, ALGORITHMS)
        if self.algorithm == "cont_kukanov":
            for name in ("lambda_over", "lambda_under", "theta_queue"):
                real_number(name, getattr(self.parameters, name), 0.0)
        self.objective: Objective = one_of("objective", objective, OBJECTIVES)
        if self.algorithm != "brute_force" and self.objective != "sweep":
            raise InputError(f"objective is {objective!r}: {algorithm} takes what is displayed, so it must be sweep")
        self.protect: Protect = one_of("protect", protect, PROTECTS)
        if self.protect != "none" and self.objective != "sweep":
            raise InputError(f"protect is {protect!r}: objective must be sweep")
        if policy is not None and not isinstance(policy, Policy):
            raise InputError(f"policy is {policy!r:.200}: it must be a Policy")
        self._policy = policy
        self._sweeps = self.objective == "sweep" and self.algorithm != "cont_kukanov" and self.protect == "none"
        self.min_windows = whole_number("min_windows", min_windows, 1)
        self.max_quote_age = None if max_quote_age is None else whole_number("max_quote_age", max_quote_age, 0, 2**62)
        if isinstance(exclude_venues, str):
            raise InputError(
                f"exclude_venues is {exclude_venues!r}: it must be a collection of venue ids, not one text"
            )
        try:
            self.excluded = frozenset(text(f"exclude_venues[{i}]", name) for i, name in enumerate(exclude_venues))
        except TypeError:
            raise InputError(f"exclude_venues is {exclude_venues!r}: it must be a collection of venue ids") from None
        self._in_lots: dict[Instrument, Router] = {}
        self._lots = False  # whether orders are in lots

    @property
    def policy(self) -> Policy:
        """The market's rules by date."""
        return Policy.load() if self._policy is None else self._policy

    @property
    def depth(self) -> int:
        """Levels of a venue that routing looks at."""
        return 1 if self.algorithm == "brute_force" else 10

    def route(
        self, order: Order, book: Book, *, stream: Any = None, source: Any = None, halt: str | None = None
    ) -> RoutingResult:
        """Split ``order`` over the venues of ``book``.

        Parameters
        ----------
        order : Order
        book : Book
            Where it has an instrument, the quantity is of its units, and the result is told in them.
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
            The order is for another symbol than the book or has another instrument, its quantity is no multiple of
            the lot, or it is larger than ``cont_kukanov`` takes (10^12 shares or lots); a venue has rules, and the
            objective is ``notional``. What a book shows raises nothing: where it cannot be routed on, a warning says
            so.
        """
        if order.symbol != book.symbol:
            raise InputError(f"order is for {order.symbol!r}: it must be for the book's symbol, {book.symbol!r}")
        if not self._lots and (book.instrument is not None or order.instrument is not None):
            lots, instrument = order_in_lots(order, book)
            inside = self._router_of(instrument).route(lots, book, stream=stream, source=source, halt=halt)
            return result_outside(inside, instrument)
        result: RoutingResult = splits.routed(
            order,
            book,
            self.algorithm,
            self.objective,
            self.parameters,
            self.max_quote_age,
            self.excluded,
            None if self._sweeps and not book.ruled else self._solved,
            stream,
            source,
            halt,
        )
        return result

    def _router_of(self, instrument: Instrument) -> Router:
        """The same for orders in lots of an instrument, with its grid."""
        found = self._in_lots.get(instrument)
        if found is None:
            found = self._in_lots[instrument] = copy.copy(self)
            found.parameters = with_step(self.parameters, instrument.grid(self.parameters.step))
            found._lots = True
        return found

    def _solved(
        self, order: Order, book: Book, market: Any, rows: np.ndarray, places: Any, warnings: list[str]
    ) -> tuple[Any, float, float, PlacementSummary | msgspec.UnsetType | None]:
        """Fills, what they cost with true prices, the value that was minimised, and what was planned."""
        placement: PlacementSummary | msgspec.UnsetType | None = msgspec.UNSET
        if self.algorithm == "cont_kukanov":
            fills, solution, placement = self._place(order, book, market, rows, places, warnings)
        else:
            fills, solution = self._take(order, order.quantity, book, market, rows, places, warnings)
        return fills, solution.total_cost, solution.objective_value, placement

    def _place(
        self, order: Order, book: Book, market: Any, rows: np.ndarray, places: Any, warnings: list[str]
    ) -> tuple[Any, Solution, PlacementSummary | None]:
        """The market order's fills with the limit orders beside them; without a plan the whole order is taken."""
        whole_number("quantity" if book.instrument is None else "quantity in lots", order.quantity, 1, MOST_PLACED)
        terms = ruled.terms_in(book, market, self.policy) if book.ruled else None
        planned = plan(order, book, market, rows, self.parameters, self.min_windows, terms)
        if isinstance(planned, str):
            warnings.append(f"cont_kukanov has no plan, so the whole order is for what is displayed: {planned}")
            return *self._take(order, order.quantity, book, market, rows, places, warnings), None
        fills, _ = self._take(order, planned.market, book, market, rows, places, warnings)
        splits.rest(fills, order.side, book, market, planned.limits, planned.prices)
        if fills.executed < planned.market:
            wanted, missing = map(book.quantity, (planned.market, planned.market - fills.executed))
            how = "displayed" if fills.reasons is None else "taken"
            warnings.append(f"of the market order's {wanted} shares {missing} are not {how}")
        warnings += planned.warnings
        return fills, Solution([], planned.total_cost, planned.objective_value), planned.summary

    def _take(
        self,
        order: Order,
        size: int | float,
        book: Book,
        market: Any,
        rows: np.ndarray,
        places: Any,
        warnings: list[str],
    ) -> tuple[Any, Solution]:
        """What is taken of the displayed shares, and with the other objectives left to rest."""
        # Only what holds now counts, as a book that is rebuilt knows no other.
        if self.protect != "none" or (book.ruled and any(quote.rates.rules is not None for quote in book.quotes)):
            return self._by_rules(order, int(size), book, market, rows, places, warnings)
        solution = self._solve(order, size, rows, market.mid, warnings)
        return splits.tally(order.side, book, places, solution.split), solution

    def _by_rules(
        self, order: Order, size: int, book: Book, market: Any, rows: np.ndarray, places: Any, warnings: list[str]
    ) -> tuple[Any, Solution]:
        """The same where venues have rules, or better protected quotations come first."""
        if self.objective == "notional":
            raise InputError("objective is 'notional', and venues have rules: it must be sweep or shortfall")
        par = self.parameters
        penalties = par.lambda_over, par.lambda_under, par.theta_queue
        first, reference = self._measured_by(order, market.mid, warnings)
        if reference is None:
            rows = rows[:0]
        offers = ruled.offers_of(book, market, rows, places, self.policy)
        protected = self._protected(book, market, offers, size, warnings)

        def solve(some: ruled.Offers) -> ruled.Taken:
            if protected:
                return ruled.behind_protected(some, size, penalties, protected)
            return ruled.cheapest(some, size, penalties, reference or 0.0, first)

        taken = solve(offers)
        warnings += ruled.traded_through(book, market, offers, taken, protected)
        worst = ruled.worst_price(offers.rows[:, 0].tolist(), taken.shares)
        fills = ruled.fills_of(book, market, offers, taken, any(one.price < worst for one in protected))
        most = None if first else (reference or 0.0) + par.lambda_under + par.theta_queue
        fills.reasons = ruled.Why(book, market, offers, taken, size, most, solve).reasons()
        if first:
            warnings += ruled.unfilled_by_rules(book, offers, taken, size, fills.reasons)
        if taken.bound is not None:
            warnings.append(ruled.unproven(book, taken))
        cost = ruled.cost_of(offers, taken.shares, size, penalties)
        return fills, Solution([], cost, cost if first else taken.cost)

    def _measured_by(self, order: Order, mid: float | None, warnings: list[str]) -> tuple[bool, float | None]:
        """Whether most shares come first, and what prices are measured against; None where that is not known."""
        if self.objective == "sweep":
            return True, 0.0
        if mid is None:
            warnings.append(NO_MID)
            return False, None
        return False, mid if order.side == "buy" else -mid

    def _protected(self, book: Book, market: Any, offers: Any, size: int, warnings: list[str]) -> list[Any]:
        if self.protect == "none":
            return []
        if not self.policy.protected(book.time).value:
            warnings.append("protect is nbbo, and by the policy no quotation is protected at this time")
            return []
        return ruled.protected_quotations(book, market, offers, size, self.policy)

    def _solve(self, order: Order, size: float, rows: np.ndarray, mid: float | None, warnings: list[str]) -> Solution:
        """Shares per row, their cost with true prices, and the value that was minimised; ``size`` is whole."""
        par = self.parameters
        penalties = par.lambda_over, par.lambda_under, par.theta_queue
        if self.objective == "sweep":
            split, cost = core.sweep(rows, size, *penalties, 0.0)
            return Solution(split, cost, cost)
        reference = 0.0
        if self.objective == "shortfall" and mid is None:
            warnings.append(NO_MID)
            rows = rows[:0]
        elif self.objective == "shortfall":
            reference = mid if order.side == "buy" else -mid  # type: ignore[assignment, operator]
        if not len(rows):
            cost = core.cost(np.empty(0), np.empty((0, 4)), size, *penalties, 0.0)
            return Solution([], cost, cost)
        split, value = core.allocate(rows, size, *penalties, par.step, reference)
        trap = idle_warning(rows, par, reference)
        if trap:
            warnings.append(trap)
        cost = core.cost(np.array(split, dtype=float), rows, size, *penalties, 0.0) if reference else value
        return Solution(split, cost, value)


class Solution(NamedTuple):
    split: list[int]  # shares per row
    total_cost: float  # dollars, true prices
    objective_value: float  # dollars


def idle_warning(rows: np.ndarray, parameters: CostParameters, reference: float) -> str | None:
    """Says, with numbers, where leaving a share unfilled is cheaper than trading it at the best venue.

    A share left costs lambda_under + theta_queue less the best rebate for resting it, one traded p + f - reference.
    """
    shown = rows.tolist()
    trading = min(price - reference + fee for price, _, fee, _ in shown)
    least = trading + max(rebate for _, _, _, rebate in shown) - parameters.theta_queue
    if parameters.lambda_under >= least:
        return None
    return (
        f"with these penalties not trading is cheaper than trading at any venue: lambda_under is "
        f"{parameters.lambda_under:g}, and the least that trades here is {round(least, 9)}"
    )
