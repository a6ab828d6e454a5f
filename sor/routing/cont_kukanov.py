"""The algorithm ``cont_kukanov``: from a book and its outflows to a market order and resting limit orders.

The model is that of `sor.place`; here its quantities are read off a book. A buy's limit orders rest at the national
best bid, at every venue that shows it, behind the shares displayed there; its market order takes displayed shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from sor.errors import InputError
from sor.kernels import pick
from sor.market.book import Book
from sor.models.placement import Placement, place, placement_cost
from sor.routing.result import PlacementSummary
from sor.routing.terms import FREE, Terms
from sor.types import CostParameters, Order

rounded = pick("sor.market._quotes").rounded

NOT_FOR_SALE = 1e6  # fee, dollars a share, of a market order that has nothing to take: none is placed
REMEMBERED = 32  # placements a book keeps to start from
UNFIT = frozenset(("excluded", "stale", "crossed"))  # venues where nothing is to rest


class Plan(NamedTuple):
    """What to send: shares of the market order, and by venue (its index in the book) those of the limit orders."""

    market: int
    limits: list[tuple[int, int]]
    prices: list[float]  # of these, dollars
    total_cost: float  # dollars, true prices: expected
    objective_value: float  # dollars against the mid: expected
    summary: PlacementSummary
    warnings: list[str]


class _Problem(NamedTuple):
    """Arguments of `sor.place`."""

    half_spread: float
    fee: float
    rebates: tuple[float, ...]
    queues: tuple[float, ...]
    outflows: np.ndarray


class _Known(NamedTuple):
    """The last placement of an order, to start from."""

    venues: list[Any]  # not their places in the book, which a venue that comes later moves
    problem: _Problem
    placement: Placement
    time: int  # of the last search from all starts

    def start(self, venues: list[Any]) -> tuple[float, list[float]]:
        """As a placement at other venues: the national best is shown by now these and now those."""
        limits = dict(zip(self.venues, self.placement.limits, strict=True))
        return self.placement.market, [limits.get(venue, 0.0) for venue in venues]

    def answers(self, venues: list[Any], problem: _Problem) -> bool:
        return self.venues == venues and self.problem[:4] == problem[:4] and self.problem.outflows is problem.outflows


def plan(
    order: Order,
    book: Book,
    market: Any,
    rows: np.ndarray,
    parameters: CostParameters,
    min_windows: int,
    terms: Sequence[Terms] | None = None,
) -> Plan | str:
    """Solve the model on a book; where that cannot be done, the reason.

    Parameters
    ----------
    order : Order
    book : Book
        With outflows, see `sor.market.book.Books`.
    market : Market
        Its survey for this order.
    rows : ndarray, float64, (m, 4)
        What a market order may take: price, size, fee, rebate.
    parameters : CostParameters
        ``theta_queue`` is the model's impact theta.
    min_windows : int
        Samples of the outflows below which nothing is decided by them.
    terms : sequence of Terms, optional
        What each venue of the book takes. Limit orders are cut to it and lie on its tick, on the passive side; tickets
        are left out of the optimum. None: everything, on the tick of the book's instrument.
    """
    if book.outflows is None:
        return "no outflows are kept of this book"
    if market.state not in ("normal", "locked"):
        return f"the market is {market.state}, so there is no spread to earn"
    resting = _resting(order, book, market)
    if not resting:
        return "no venue at the national best may be rested at"
    quotes = [book.quotes[at] for at in resting]
    venues = [quote.order for quote in quotes]
    outflows = book.outflows.samples(order.side, venues)
    most = book.outflows.most
    if most < min_windows:
        return f"min_windows is {min_windows}, and no more than {most} windows are kept: there is never a plan"
    if len(outflows) < min_windows:
        seconds = book.outflows.horizon / 1e9
        return f"only {len(outflows)} windows of {seconds:g} s of outflows are known so far, {min_windows} are needed"
    buying = order.side == "buy"
    half_spread = (market.ask - market.bid) / 2
    taking = rows[rows[:, 1] > 0.0]
    touch = market.ask if buying else -market.bid
    fee = float((taking[:, 0] + taking[:, 2]).min()) - touch if len(taking) else NOT_FOR_SALE
    problem = _Problem(
        half_spread,
        fee,
        tuple(quote.rates.rebate_at(market.bid if buying else market.ask) for quote in quotes),
        tuple(float(quote.bid_size if buying else quote.ask_size) for quote in quotes),
        outflows,
    )
    try:
        placed = _placed(order, book, venues, problem, parameters)
    except InputError as error:  # a feed may show more than the model takes, and a stream goes on
        return str(error)
    limits, prices = _accepted(order, book, market, resting, placed, terms)
    if limits != [round(shares) for shares in placed.limits]:
        placed = _cut(order, placed, limits, problem, parameters)
    return _planned(order, book, market, resting, prices, half_spread, placed, len(outflows), anything=len(taking) > 0)


def _resting(order: Order, book: Book, market: Any) -> list[int]:
    """Venues that show the national best on our own side, and may be used."""
    buying, limit = order.side == "buy", order.limit_price
    best = market.bid if buying else market.ask
    if limit is not None and (best > limit if buying else best < limit):
        return []
    return [
        at
        for at, (quote, status) in enumerate(zip(book.quotes, market.statuses, strict=True))
        if status not in UNFIT and (quote.bid if buying else quote.ask) == best
    ]


def _placed(order: Order, book: Book, venues: list[Any], problem: _Problem, parameters: CostParameters) -> Placement:
    """The placement of least cost, from the last one; once a horizon from all starts."""
    key = order.side, order.quantity, parameters
    known: _Known | None = book.placements.get(key)
    if known is not None and known.answers(venues, problem):
        return known.placement
    horizon = book.outflows.horizon if book.outflows is not None else 0
    if known is not None and not 0 <= book.time - known.time <= horizon:
        known = None
    placed = place(
        order.quantity,
        *problem,
        theta=parameters.theta_queue,
        lambda_under=parameters.lambda_under,
        lambda_over=parameters.lambda_over,
        lots=1,
        start=None if known is None else known.start(venues),
    )
    if len(book.placements) >= REMEMBERED:
        book.placements.clear()
    book.placements[key] = _Known(venues, problem, placed, book.time if known is None else known.time)
    return placed


def _accepted(
    order: Order, book: Book, market: Any, resting: list[int], placed: Placement, terms: Sequence[Terms] | None
) -> tuple[list[int], list[float]]:
    """Of limit orders the shares that their venues take, and the prices."""
    sign, best = (1, market.bid) if order.side == "buy" else (-1, market.ask)
    tick = None if book.instrument is None else book.instrument.tick
    if terms is None and tick is None:  # as usual
        return [round(rests) for rests in placed.limits], [best] * len(resting)
    free = FREE._replace(tick=float(tick or 0.0))
    limits, prices = [], []
    for at, rests in zip(resting, placed.limits, strict=True):
        one = free if terms is None else terms[at]
        units = sign * round(best * 1e9)
        on_tick = one.resting(units)
        price = best if on_tick == units else sign * on_tick / 1e9
        limits.append(one.cut(round(rests), price) if price else 0)
        prices.append(price)
    return limits, prices


def _cut(
    order: Order, placed: Placement, limits: list[int], problem: _Problem, parameters: CostParameters
) -> Placement:
    """With fewer shares at rest, and what is then expected."""
    cost = placement_cost(
        placed.market,
        limits,
        order.quantity,
        *problem,
        theta=parameters.theta_queue,
        lambda_under=parameters.lambda_under,
        lambda_over=parameters.lambda_over,
    )
    return replace(
        placed,
        limits=tuple(map(float, limits)),
        expected_cost=cost.mean,
        expected_underfill=cost.expected_underfill,
        expected_overfill=cost.expected_overfill,
        underfill_probability=cost.underfill_probability,
        overfill_probability=cost.overfill_probability,
    )


def _planned(
    order: Order,
    book: Book,
    market: Any,
    resting: list[int],
    prices: list[float],
    half_spread: float,
    placed: Placement,
    windows: int,
    *,
    anything: bool,
) -> Plan:
    executed = order.quantity - placed.expected_underfill + placed.expected_overfill
    reference = market.mid if order.side == "buy" else -market.mid
    outflows: Any = book.outflows
    sources = {outflows.source(book.quotes[at].order) for at in resting} - {None}
    warnings = [text for text in placed.warnings if anything or not text.startswith("A3")]
    if not anything:
        warnings.append("nothing may be taken at once: limit orders only")
    summary = PlacementSummary(
        round(placed.market),
        round(sum(placed.limits)),
        rounded(placed.expected_cost),
        rounded(executed),
        rounded(placed.expected_underfill),
        placed.underfill_probability,
        rounded(placed.expected_overfill),
        placed.overfill_probability,
        rounded(half_spread, 1e10),
        windows,
        outflows.horizon / 1e9,
        sources.pop() if len(sources) == 1 else "mixed" if sources else None,
    )
    return Plan(
        round(placed.market),
        [(at, round(shares)) for at, shares in zip(resting, placed.limits, strict=True) if round(shares)],
        [price for price, shares in zip(prices, placed.limits, strict=True) if round(shares)],
        placed.expected_cost + reference * executed,
        placed.expected_cost,
        summary,
        warnings,
    )
