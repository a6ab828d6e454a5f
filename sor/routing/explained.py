"""A result as a trader reads it: the order, each venue with what it got and why, what is to be known, what is left.

It is told from what the JSON says, so that a result of an earlier or a later version can be told, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from msgspec import UNSET, Struct, UnsetType

from sor.types import DOLLARS

ABSENT = "-"  # nothing is displayed
SMALLEST = 9  # decimals: prices and fees have no more, but for the noise of binary fractions
Number = int | float


class _Reason(Struct):
    words: str


class _Venue(Struct):
    venue_id: str
    ask: float | None
    ask_size: Number
    fee: float
    allocation: Number
    bid: float | None
    bid_size: Number
    status: str
    reason: _Reason | None = None  # the first results had none


class _Summary(Struct):
    total_executed: Number
    underfill: Number
    fill_rate: float


class _Order(Struct):
    id: str | None


class _Shortfall(Struct):
    bps: float | None


class _Child(Struct):
    type: str
    quantity: Number


class Told(Struct):
    """What is told of a result (`sor.RoutingResult` has the meanings); what it has beyond that is passed over."""

    symbol: str
    timestamp: str
    order_size: Number
    algorithm: str
    venues: list[_Venue]
    execution_summary: _Summary
    order: _Order
    side: str
    objective: str
    reference_price: float | None
    shortfall: _Shortfall
    child_orders: list[_Child]
    warnings: list[str]
    currency: str | UnsetType = UNSET


def explanation(result: Told) -> str:
    """A heading, a table of the venues, warnings, and what is unfilled."""
    parts = [_heading(result), _table(result), _end(result)]
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines)


def _heading(result: Told) -> Iterator[str]:
    done, mid, bps = result.execution_summary, result.reference_price, result.shortfall.bps
    named = "" if result.order.id is None else f", id {result.order.id},"
    yield _line("order", f"{result.side} {quantity(result.order_size)} {result.symbol}{named} at {result.timestamp}")
    yield _line("by", f"{result.algorithm}, objective {result.objective}")
    yield _line("filled", f"{quantity(done.total_executed)} at once, {done.fill_rate:.1%}")
    if mid is not None and bps is not None:
        (middle,) = prices([mid])
        yield _line("cost", f"{bps:+.2f} bps against the mid of {middle}, fees included")
    else:
        yield _line("cost", "not measured, as there is no mid" if mid is None else "none, as nothing is filled at once")
    if result.currency not in (UNSET, DOLLARS):
        yield _line("prices", f"in {result.currency}")


def _table(result: Told) -> Iterator[str]:
    buying = result.side == "buy"
    venues = sorted(result.venues, key=lambda venue: (not venue.allocation, _unit(venue, buying)))
    numbers = [
        ("best ask" if buying else "best bid", prices([venue.ask if buying else venue.bid for venue in venues])),
        ("displayed", [quantity(venue.ask_size if buying else venue.bid_size) for venue in venues]),
        ("fee", prices([venue.fee for venue in venues])),
        ("sent", [quantity(venue.allocation) for venue in venues]),
    ]
    columns = [
        _column("venue", [venue.venue_id for venue in venues], "<"),
        *(_column(name, cells, ">") for name, cells in numbers),
        _column("status", [venue.status for venue in venues], "<"),
        _column("why", [venue.status if venue.reason is None else venue.reason.words for venue in venues], "<"),
    ]
    for cells in zip(*columns, strict=True):
        yield "  ".join(cells).rstrip()


def _end(result: Told) -> Iterator[str]:
    if any(venue.reason is None for venue in result.venues):
        yield _line("note", "this result is of an earlier version, which gave no reasons: its statuses stand there")
    for warning in result.warnings:
        yield _line("warning", warning)
    left = result.execution_summary.underfill
    resting = sum(child.quantity for child in result.child_orders if child.type == "limit")
    if left:
        yield _line("unfilled", quantity(left) + (f", and orders for {quantity(resting)} rest" if resting else ""))


def _unit(venue: _Venue, buying: bool) -> float:
    """Dollars of a share, fee included: what is sold brings so much less."""
    price = venue.ask if buying else venue.bid
    return float("inf") if price is None else (price if buying else -price) + venue.fee


def _line(name: str, text: str) -> str:
    return f"{name:<9}{text}"


def _column(name: str, cells: Sequence[str], side: str) -> list[str]:
    width = max(map(len, (name, *cells)))
    return [f"{cell:{side}{width}}" for cell in (name, *cells)]


def quantity(value: Number) -> str:
    """Whole, or with the decimals of an instrument."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.12g}"


def prices(values: Sequence[float | None]) -> list[str]:
    """All with as many decimals as one of them needs, and cents at least."""
    decimals = max((_decimals(value) for value in values if value is not None), default=0)
    return [ABSENT if value is None else f"{value:,.{max(2, decimals)}f}" for value in values]


def _decimals(value: float) -> int:
    return len(f"{Decimal(repr(round(value, SMALLEST))):f}".rstrip("0").partition(".")[2])
