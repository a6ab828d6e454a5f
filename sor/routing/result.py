"""What a routing result says: the structs that are its JSON, with the unit and the bounds of every number."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sor.types import Algorithm, CostParameters, MarketState, Objective, Side, Status

SCHEMA_VERSION = 1
USUAL_LINE = 4096  # bytes: a result of a dozen venues needs no more, and a larger one grows


class VenueResult(msgspec.Struct, frozen=True, gc=False):
    """One venue's quote, fees (dollars per share) and shares allocated; ``status`` says why it got none."""

    venue_id: str
    ask: float | None
    ask_size: float
    fee: float
    rebate: float
    allocation: int
    bid: float | None
    bid_size: float
    status: Status


class ExecutionSummary(msgspec.Struct, frozen=True, gc=False):
    """Shares executed at once, missing and in excess; cash in dollars (negative: received); executed / order."""

    total_executed: int
    underfill: int
    overfill: int
    cash_spent: float
    fill_rate: float


class OrderReference(msgspec.Struct, frozen=True, gc=False):
    id: str | None
    parent_id: str | None


class Shortfall(msgspec.Struct, frozen=True, gc=False):
    """Implementation shortfall of the executed shares against the mid, fees included; positive where it costs."""

    dollars: float | None
    per_share: float | None
    bps: float | None


class BookSummary(msgspec.Struct, frozen=True, gc=False):
    """The consolidated book of the decision: newest event time, best bid and offer (dollars), feed sequence."""

    time: str
    bid: float | None
    ask: float | None
    sequence: int | None
    state: MarketState


class ChildOrder(msgspec.Struct, frozen=True, gc=False):
    """An order to send: ``market`` takes displayed shares at ``price``, ``limit`` rests there."""

    venue_id: str
    type: Literal["market", "limit"]
    side: Side
    price: float
    quantity: int


class PlacementSummary(msgspec.Struct, frozen=True, gc=False):
    """What ``cont_kukanov`` expects of its orders, the mean over samples of the outflows.

    Shares to take and to rest; cost in dollars against the mid; shares executed, missing and in excess within the
    horizon, with the probabilities of the last two; half the spread in dollars per share; the samples: windows (they
    overlap) of ``horizon`` seconds, and whether the feed's events or its quotes told what left the queues.
    """

    market: int
    limit: int
    expected_cost: float
    expected_executed: float
    expected_underfill: float
    underfill_probability: float
    expected_overfill: float
    overfill_probability: float
    half_spread: float
    windows: int
    horizon: float
    outflows: Literal["events", "inferred", "mixed"] | None


class RoutingResult(msgspec.Struct, frozen=True, dict=True):
    """The answer to one order on one book; `to_json` gives the documented JSON (sor/routing/result.schema.json).

    ``placement`` is UNSET, and not in the JSON, but for ``cont_kukanov``; None there where the model did not decide.
    """

    symbol: str
    timestamp: str
    order_size: int
    algorithm: Algorithm
    venues: tuple[VenueResult, ...]
    allocation: list[int]
    total_cost: float
    execution_summary: ExecutionSummary
    parameters: CostParameters
    schema_version: int
    order: OrderReference
    side: Side
    objective: Objective
    objective_value: float
    reference_price: float | None
    shortfall: Shortfall
    book: BookSummary
    child_orders: list[ChildOrder]
    warnings: list[str]
    placement: PlacementSummary | msgspec.UnsetType | None
    stream: Any
    source: Any

    def to_json(self) -> bytes:
        """One line of JSON, without the line break."""
        texts = self.__dict__.get("texts")  # of the venues, where the router has them at hand: most have not changed
        line = bytearray(USUAL_LINE)
        _encoder.encode_into(self if texts is None else msgspec.structs.replace(self, venues=texts), line)
        return bytes(line)


_encoder = msgspec.json.Encoder()
encode = _encoder.encode
