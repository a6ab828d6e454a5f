"""What a routing result says: the structs that are its JSON, with the unit and the bounds of every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sor.routing.explained import Told, explanation
from sor.types import STATUSES, USABLE, Algorithm, CostParameters, MarketState, Objective, Side, Status

SCHEMA_VERSION: Literal[1] = 1
# Bounds of what a result says; its units stand in the descriptions.
Text = Annotated[str, Meta(min_length=1)]
Time = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$")]
Count = Annotated[int, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]
# Of shares, whole; of a symbol with an instrument a decimal, where its lot is a part of its unit.
Quantity = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0)]
Above0 = Annotated[int, Meta(ge=1)] | Annotated[float, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]
Amount = Annotated[float, Meta(ge=0)]
Part = Annotated[float, Meta(ge=0, le=1)]  # of a whole

USUAL_LINE = 4096  # bytes: a result of a dozen venues needs no more, and a larger one grows


ReasonCode = Literal[
    "whole",
    "part",
    "rests",
    "dearer",
    "ticket",
    "minimum",
    "min_execution",
    "maximum",
    "lot",
    "fit",
    "penalties",
    "planned",
    "protected",
    "unmeasured",
    "empty",
    "stale",
    "excluded",
    "over_limit",
    "crossed",
]


class Reason(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Why a venue got what it got."""

    code: Annotated[
        ReasonCode,
        Meta(
            description="whole: all that may be taken is; part: the order needs no more; rests: an order rests here "
            "for what is not taken at once; dearer: than the dearest share taken; ticket: it costs more than it saves; "
            "minimum, min_execution, maximum, lot: that rule of the venue; fit: lots and minima of all venues leave "
            "no place for it; penalties: these, or the grid, ask for nothing here; planned: cont_kukanov takes no "
            "more at once; protected: better protected quotations come first; unmeasured: no mid; others: as the "
            "status."
        ),
    ]
    words: Annotated[Text, Meta(description="The same for people, with numbers: dollars a share, and shares.")]


class VenueResult(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One venue's quote, fees (dollars per share) and shares allocated; ``reason`` says why so many."""

    venue_id: Annotated[
        Text,
        Meta(
            description="MIC (ISO 10383); publisher_N where the directory does not know publisher N, venue_N for "
            "level N of a single feed, or the name that a caller of the library gave."
        ),
    ]
    ask: Annotated[Positive | None, Meta(description="Best ask, dollars per share; null where none is displayed.")]
    ask_size: Annotated[Quantity, Meta(description="Shares displayed at the best ask; 0 where there is none.")]
    fee: Annotated[
        float,
        Meta(description="Paid by the taker, dollars per share; negative where the venue pays the taker."),
    ]
    rebate: Annotated[
        float,
        Meta(description="Received by the maker, dollars per share; negative where the maker pays."),
    ]
    allocation: Annotated[
        Quantity,
        Meta(
            description="Shares of the order sent to this venue, over all its levels; the entry of the same place "
            "in the result's allocation."
        ),
    ]
    bid: Annotated[Positive | None, Meta(description="Best bid, dollars per share; null where none is displayed.")]
    bid_size: Annotated[Quantity, Meta(description="Shares displayed at the best bid; 0 where there is none.")]
    status: Annotated[
        Status,
        Meta(
            description="Whether the venue could be used, and why not. ok: it could; unknown_fee: it could, at the "
            "directory's default fee; empty: nothing displayed on the side needed; stale: its quote is "
            "older than the bound; excluded: on request; over_limit: its best price is worse than the "
            "limit; crossed: its own bid is above its own ask."
        ),
    ]
    reason: Annotated[Reason, Meta(description="Why it got what it got, and no more.")]


# What JSON Schema can say of a venue beyond its fields.
VENUE_RULES: dict[str, Any] = {
    "allOf": [
        {
            "if": {"properties": {"status": {"enum": [status for status in STATUSES if status not in USABLE]}}},
            "then": {"properties": {"allocation": {"const": 0}}},
        },
        *(
            {
                "if": {"properties": {side: {"type": "null"}}},
                "then": {"properties": {f"{side}_size": {"const": 0}}},
                "else": {"properties": {f"{side}_size": {"exclusiveMinimum": 0}}},
            }
            for side in ("ask", "bid")
        ),
    ]
}


class ExecutionSummary(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Shares executed at once, missing and in excess; cash in dollars (negative: received); executed / order."""

    total_executed: Annotated[
        Quantity,
        Meta(
            description="Shares executed at once: at each venue and level the lesser of what is sent and what is "
            "displayed."
        ),
    ]
    underfill: Annotated[Quantity, Meta(description="Shares of the order not executed at once.")]
    overfill: Annotated[Quantity, Meta(description="Shares executed beyond the order.")]
    cash_spent: Annotated[
        float,
        Meta(
            description="The model's cash, dollars: executed shares at price + fee, less the rebates of shares that "
            "rest. Negative for a sell: cash received."
        ),
    ]
    fill_rate: Annotated[Part, Meta(description="total_executed / order_size, a fraction.")]


class OrderReference(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    id: Annotated[str | None, Meta(description="The caller's id of the order; null where none was given.")]
    parent_id: Annotated[
        str | None,
        Meta(description="The caller's id of the parent order; null where none was given."),
    ]


class Shortfall(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Implementation shortfall of the executed shares against the mid, fees included; positive where it costs."""

    dollars: Annotated[float | None, Meta(description="Dollars; null without a mid.")]
    per_share: Annotated[
        float | None,
        Meta(description="Dollars per executed share; null without a mid or an execution."),
    ]
    bps: Annotated[
        float | None,
        Meta(description="Basis points (1e-4) of the mid; null without a mid or an execution."),
    ]


class BookSummary(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The consolidated book of the decision: newest event time, best bid and offer (dollars), feed sequence."""

    time: Annotated[
        Time,
        Meta(description="Newest event time of the book, ISO 8601 in UTC with nine digits of a second."),
    ]
    bid: Annotated[
        Positive | None,
        Meta(
            description="Best bid of the venues that are neither stale nor crossed in themselves, dollars per "
            "share; null where there is none."
        ),
    ]
    ask: Annotated[
        Positive | None,
        Meta(description="Best offer of the same venues, dollars per share; null where there is none."),
    ]
    sequence: Annotated[
        Count | None,
        Meta(
            description="The feed's sequence number (a count, without unit) of the last update; null where it gives "
            "none."
        ),
    ]
    state: Annotated[
        MarketState,
        Meta(description="How bid and ask stand: below, equal, above, one of them missing, both missing."),
    ]


class ChildOrder(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An order to send: ``market`` takes displayed shares at ``price``, ``limit`` rests there."""

    venue_id: Annotated[Text, Meta(description="Where it goes, as in venues.")]
    type: Annotated[
        Literal["market", "limit"],
        Meta(description="market takes shares displayed at the price; limit rests at it."),
    ]
    side: Annotated[Side, Meta(description="What the order does: buy takes asks, sell takes bids.")]
    price: Annotated[Positive, Meta(description="Dollars per share.")]
    quantity: Annotated[Above0, Meta(description="Shares.")]
    iso: Annotated[
        Literal[True] | msgspec.UnsetType,
        Meta(
            description="Only where it is to be marked as an intermarket sweep order: others of the plan take the "
            "better protected quotations in full."
        ),
    ] = msgspec.UNSET


class PlacementSummary(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What ``cont_kukanov`` expects of its orders, the mean over samples of the outflows.

    Shares to take and to rest; cost in dollars against the mid; shares executed, missing and in excess within the
    horizon, with the probabilities of the last two; half the spread in dollars per share; the samples: windows (they
    overlap) of ``horizon`` seconds, and whether the feed's events or its quotes told what left the queues.
    """

    market: Annotated[Quantity, Meta(description="Shares to take at once.")]
    limit: Annotated[Quantity, Meta(description="Shares to rest, over all venues.")]
    expected_cost: Annotated[
        float,
        Meta(description="Dollars against the mid: spread, fees, rebates, impact and penalties."),
    ]
    expected_executed: Annotated[Amount, Meta(description="Shares executed within the horizon.")]
    expected_underfill: Annotated[Amount, Meta(description="Shares missing at its end.")]
    underfill_probability: Annotated[Part, Meta(description="Share of the windows with any missing.")]
    expected_overfill: Annotated[Amount, Meta(description="Shares in excess at its end.")]
    overfill_probability: Annotated[Part, Meta(description="Share of the windows with any in excess.")]
    half_spread: Annotated[Amount, Meta(description="Dollars per share.")]
    windows: Annotated[
        AtLeastOne,
        Meta(description="Samples of the outflows; they overlap, so they are dependent."),
    ]
    horizon: Annotated[Positive, Meta(description="Seconds of a window.")]
    outflows: Annotated[
        Literal["events", "inferred", "mixed"] | None,
        Meta(
            description="Where they come from: what the feed says has happened, or successive quotes; null where "
            "nothing has left these queues."
        ),
    ]


class RoutingResult(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """The answer to one order on one book; `to_json` gives the documented JSON (sor/routing/result.schema.json).

    ``placement`` is UNSET, and not in the JSON, but for ``cont_kukanov``; None there where the model did not decide.
    ``currency`` is UNSET but for a symbol with an instrument.
    """

    symbol: Annotated[Text, Meta(description="Symbol of the market data.")]
    timestamp: Annotated[
        Time,
        Meta(description="Newest event time (ts_event) of the book, ISO 8601 in UTC with nine digits of a second."),
    ]
    order_size: Annotated[Above0, Meta(description="Shares to be bought or sold.")]
    algorithm: Annotated[
        Algorithm,
        Meta(
            description="brute_force: the exact split over best quotes; greedy_l2: all displayed levels, the least "
            "price + fee first; cont_kukanov: a market order over all displayed levels, and limit "
            "orders at the national best."
        ),
    ]
    venues: Annotated[
        tuple[Annotated[VenueResult, Meta(extra_json_schema=VENUE_RULES)], ...],
        Meta(description="Every venue known for the symbol, by publisher id, level or name."),
    ]
    allocation: Annotated[
        Sequence[Annotated[Quantity, Meta(description="Shares sent to the venue of the same place in venues.")]],
        Meta(description="Shares per venue, aligned with venues."),
    ]
    total_cost: Annotated[
        float,
        Meta(
            description="The model's cost of the split with true prices, dollars: cash_spent + theta_queue * "
            "(underfill + overfill) + lambda_under * underfill + lambda_over * overfill. Negative for a "
            "sell, whose cash comes in."
        ),
    ]
    execution_summary: Annotated[ExecutionSummary, Meta(description="What the split does at once.")]
    parameters: Annotated[CostParameters, Meta(description="Penalties and grid of the cost model.")]
    schema_version: Annotated[Literal[1], Meta(description="Version of this schema, without unit.")]
    order: Annotated[OrderReference, Meta(description="Whose order it is.")]
    side: Annotated[Side, Meta(description="What the order does: buy takes asks, sell takes bids.")]
    objective: Annotated[
        Objective,
        Meta(
            description="What was minimised. sweep: the cost of taking as many displayed shares as the order wants; "
            "shortfall: the cost with prices measured against reference_price; notional: total_cost as "
            "it stands."
        ),
    ]
    objective_value: Annotated[
        float,
        Meta(
            description="The minimised value, dollars; differs from total_cost under shortfall only, by the "
            "reference of the executed shares."
        ),
    ]
    reference_price: Annotated[
        Positive | None,
        Meta(description="Mid of the best bid and offer, dollars per share; null where a side is missing."),
    ]
    shortfall: Annotated[
        Shortfall,
        Meta(
            description="Implementation shortfall of the executed shares against reference_price, taker fees "
            "included; positive where it costs, on both sides."
        ),
    ]
    book: Annotated[BookSummary, Meta(description="The consolidated book that the decision was made on.")]
    child_orders: Annotated[
        list[ChildOrder],
        Meta(
            description="Orders to send, one per venue and level, by venue and from the best level on; a level of "
            "which more is wanted than is displayed has a market and a limit order."
        ),
    ]
    warnings: Annotated[
        list[Annotated[Text, Meta(description="One sentence for people.")]],
        Meta(description="What a reader has to know; empty where there is nothing."),
    ]
    placement: Annotated[
        PlacementSummary | msgspec.UnsetType | None,
        Meta(description="Only with algorithm cont_kukanov; null where it has no plan, and a warning says why."),
    ]
    stream: Annotated[
        Any,
        Meta(description="State of the stream at the decision; null in replay and in the library."),
    ]
    source: Annotated[Any, Meta(description="Which input this result answers; null where the library was called.")]
    currency: Annotated[
        str | msgspec.UnsetType,
        Meta(
            description="Only of a symbol with an instrument: what its dollars are. Its shares are then units of the "
            "instrument, decimals where its lot is a part of one."
        ),
    ] = msgspec.UNSET

    def to_json(self) -> bytes:
        """One line of JSON, without the line break."""
        line = _lines.pop() if _lines else bytearray(USUAL_LINE)
        _encoder.encode_into(self._told(), line)
        written = bytes(line)
        _lines.append(line)
        return written

    def explain(self) -> str:
        """Why each venue got what it got, as ``sor explain`` prints it: several lines for people.

        Returns
        -------
        str
            The order and what it costs; a table of the venues, those that got shares first, then by price + fee;
            warnings; and what is unfilled.
        """
        return explanation(msgspec.convert(msgspec.to_builtins(self), Told))

    def _told(self) -> RoutingResult:
        """The same with texts that the router has at hand, as most venues and orders have not changed."""
        texts = self.__dict__.get("texts")
        if texts is None:
            return self
        venues, sent, orders = texts
        if sent != self.child_orders:  # a list, which who has the result may have changed
            orders = self.child_orders
        return msgspec.structs.replace(self, venues=venues, child_orders=orders)


_encoder = msgspec.json.Encoder()
_lines: list[bytearray] = []  # to write in: as many as threads have ever written at once
encode = _encoder.encode
