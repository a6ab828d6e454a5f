"""A result in lots, as it is told: quantities in units of the instrument, and costs in its currency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import force_setattr, replace

from sor.errors import InputError
from sor.kernels import pick
from sor.routing.result import ExecutionSummary, PlacementSummary, RoutingResult, Shortfall
from sor.types import CostParameters, Instrument, Order

if TYPE_CHECKING:
    from sor.market.book import Book

rounded = pick("sor.market._quotes").rounded


def order_in_lots(order: Order, book: Book) -> tuple[Order, Instrument]:
    """The order with its quantity in lots of the book's instrument, and that.

    Raises
    ------
    InputError
        The order's instrument is not the book's; or its quantity is no multiple of the lot.
    """
    instrument = book.instrument
    if instrument is None or order.instrument not in (None, instrument):
        raise InputError(f"instrument is {order.instrument!r}: it must be that of the book, {instrument!r}")
    lots = instrument.lots("quantity", order.quantity, 1)
    return Order(order.symbol, order.side, lots, order.limit_price, order.id, order.parent_id), instrument


def with_step(parameters: CostParameters, step: float) -> CostParameters:
    """Parameters with another grid, which need not be whole."""
    other = replace(parameters)
    force_setattr(other, "step", step)
    return other


def dollars_of(dollars: float, instrument: Instrument) -> float:
    """What a cost of lots at prices a unit is, rounded as all costs of results."""
    units, lots = instrument.ratio
    return float(rounded(dollars * units / lots))


def result_outside(result: RoutingResult, instrument: Instrument) -> RoutingResult:
    """The result in the instrument's units and currency.

    All costs are linear in quantity: basis points, costs a share, parts and probabilities stay as they are.
    """
    amount = instrument.quantity
    done, short = result.execution_summary, result.shortfall
    dollars = None if short.dollars is None else dollars_of(short.dollars, instrument)
    return replace(
        result,
        order_size=amount(result.order_size),
        venues=tuple(
            replace(
                venue,
                ask_size=amount(venue.ask_size),
                allocation=amount(venue.allocation),
                bid_size=amount(venue.bid_size),
            )
            for venue in result.venues
        ),
        allocation=[amount(lots) for lots in result.allocation],
        total_cost=dollars_of(result.total_cost, instrument),
        execution_summary=ExecutionSummary(
            amount(done.total_executed),
            amount(done.underfill),
            amount(done.overfill),
            dollars_of(done.cash_spent, instrument),
            done.fill_rate,
        ),
        parameters=with_step(result.parameters, amount(result.parameters.step)),
        objective_value=dollars_of(result.objective_value, instrument),
        shortfall=Shortfall(dollars, short.per_share, short.bps),
        child_orders=[replace(child, quantity=amount(child.quantity)) for child in result.child_orders],
        placement=_placement_outside(result.placement, instrument),
        currency=instrument.currency,
    )


def _placement_outside(summary: Any, instrument: Instrument) -> Any:
    if not isinstance(summary, PlacementSummary):
        return summary
    shares = ("market", "limit", "expected_executed", "expected_underfill", "expected_overfill")
    return replace(
        summary,
        **{name: instrument.quantity(getattr(summary, name)) for name in shares},
        expected_cost=dollars_of(summary.expected_cost, instrument),
    )
