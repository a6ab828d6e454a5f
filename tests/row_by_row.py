"""`route_many` against `Router.route`, row by row and bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import msgspec
import numpy as np

from sor import Batch, CostParameters, Order, Router, route_many
from sor.market.book import Books
from sor.market.instruments import SHARES, Instruments
from sor.market.policy import Policy
from sor.market.toml_file import MAX_TIME, start_of
from sor.market.venues import DatedRules, VenueDirectory
from sor.routing import many
from sor.types import MARKET_STATES, STATUSES, Warnings

DIRECTORY = VenueDirectory.load()
PLANS = [("brute_force", "sweep"), ("brute_force", "shortfall"), ("brute_force", "notional"), ("greedy_l2", "sweep")]
NAMES = {"symbols", "venues", "states", "statuses", "currencies"}
WORDS = {  # how a result says what a bit says
    Warnings.CROSSED: "market crossed",
    Warnings.LOCKED: "market locked",
    Warnings.NOTHING: "nothing to",
    Warnings.DOUBTED: "the feed says that",
    Warnings.NO_MID: "no mid, as one side",
    Warnings.IDLE: "with these penalties not trading is cheaper",
    Warnings.RULES: "of the displayed shares that the order wants are not taken by rules",
    Warnings.UNPROVEN: "is not proven to be the cheapest that does",
    Warnings.TRADED_THROUGH: "is traded through: ",
    Warnings.UNPROTECTED: "by the policy no quotation is protected",
}


def with_rules(rules: dict[str, list[dict[str, Any]]], policy: Policy | None = None) -> VenueDirectory:
    """The built-in venues, some with rules by their MICs: each from its ``day`` on, the first of all times."""
    entries = []
    for entry in DIRECTORY:
        each = [dict(one) for one in rules.get(entry.venue_id, [])]
        days = [start_of(date.fromisoformat(one.pop("day"))) for one in each]
        ends = [*days[1:], MAX_TIME][: len(days)]
        dated = (DatedRules(**one, start=start, end=end) for one, start, end in zip(each, days, ends, strict=True))
        entries.append(msgspec.structs.replace(entry, rules=tuple(dated)))
    return VenueDirectory(entries, DIRECTORY.default, policy)


def one_by_one(
    batches: Sequence[Batch],
    orders: Sequence[Order],
    router: Router,
    every: int = 1,
    instruments: Instruments = SHARES,
    directory: VenueDirectory = DIRECTORY,
) -> Iterator[tuple[int, int, Any]]:
    """Row, order and result, of every so manieth row, by the message path's own book and router."""
    depth = min(router.depth, batches[0].depth)
    books = Books(directory, "publishers", depth, instruments=instruments)
    number = -1
    for batch in batches:
        for row in range(len(batch)):
            number += 1
            book = books.apply(batch.update(row, depth))
            for i, order in enumerate(orders if number % every == 0 else ()):
                if order.symbol in (many.ANY, book.symbol):
                    terms = order.side, order.quantity, order.limit_price
                    own = Order(book.symbol, *terms, instrument=instruments.get(book.symbol))
                    yield number, i, router.route(own, book)


def same(found: float, wanted: float | None) -> bool:
    return math.isnan(found) if wanted is None else found == wanted


def check(columns: dict[str, np.ndarray], at: int, result: Any) -> None:
    """One answer in columns against a `RoutingResult`."""
    get = {name: values[at].item() for name, values in columns.items() if len(values.shape) == 1 and name not in NAMES}
    assert columns["symbols"][get["symbol"]] == result.symbol
    assert same(get["mid"], result.reference_price)
    assert same(get["bid"], result.book.bid)
    assert same(get["ask"], result.book.ask)
    assert MARKET_STATES[get["state"]] == result.book.state
    shares = dict(zip(columns["venues"].tolist(), columns["allocation"][at].tolist(), strict=True))
    codes = dict(zip(columns["venues"].tolist(), columns["status"][at].tolist(), strict=True))
    known = [venue.venue_id for venue in result.venues]
    assert [shares[name] for name in known] == result.allocation
    assert [STATUSES[codes[name]] for name in known] == [venue.status for venue in result.venues]
    assert all(code == many.ABSENT and shares[name] == 0 for name, code in codes.items() if name not in known)
    assert [name for name in columns["venues"] if name in known] == known, "in another order"
    summary = result.execution_summary
    assert get["executed"] == summary.total_executed
    assert get["fill_rate"] == summary.fill_rate
    assert get["cash_spent"] == summary.cash_spent
    assert get["total_cost"] == result.total_cost
    assert get["objective_value"] == result.objective_value
    assert same(get["shortfall"], result.shortfall.dollars)
    assert same(get["shortfall_bps"], result.shortfall.bps)
    told = {flag for flag in Warnings if get["warnings"] & flag}
    assert told == {flag for flag, words in WORDS.items() if any(words in one for one in result.warnings)}


def check_answers(
    columns: dict[str, np.ndarray],
    batches: Sequence[Batch],
    orders: Sequence[Order],
    router: Router,
    every: int = 1,
    instruments: Instruments = SHARES,
    directory: VenueDirectory = DIRECTORY,
) -> int:
    """How many answers there were of every so manieth row, each of them compared."""
    places = {place: i for i, place in enumerate(zip(columns["row"].tolist(), columns["order"].tolist(), strict=True))}
    assert len(places) == len(columns["row"])
    count = 0
    for row, order, result in one_by_one(batches, orders, router, every, instruments, directory):
        check(columns, places[row, order], result)
        count += 1
    if every == 1:
        assert count == len(columns["row"])
        assert list(places) == sorted(places)
    return count


def check_all(batches: Sequence[Batch], orders: Sequence[Order], plan: tuple[str, str], **options: Any) -> int:
    """The same, of orders that are routed here."""
    every = options.pop("every", 1)
    parameters = options.pop("parameters", CostParameters())
    instruments = options.pop("instruments", SHARES)
    threads = options.pop("threads", 1)
    directory = options.pop("directory", DIRECTORY)
    given = {"threads": threads, "instruments": instruments, "directory": directory}
    columns = route_many(batches, orders, parameters, *plan, **given, **options)
    router = Router(parameters, *plan, policy=directory.policy, **options)
    return check_answers(columns, batches, orders, router, every, instruments, directory)
