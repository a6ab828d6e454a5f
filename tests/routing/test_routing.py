"""The hot path run as Python and compiled: the same feed gives the same bytes, extreme numbers included."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest
from conftest import load_twin
from hypothesis import example, given
from hypothesis import strategies as st

from sor import CostParameters, Order
from sor.market import _quotes_py
from sor.routing import _split_py

PRICES = st.one_of(
    st.integers(9_990, 10_010).map(lambda cents: cents / 100),
    st.integers(9_990, 10_010).map(lambda units: units / 10_000),  # about a dollar, where fees change their form
    st.floats(1e-4, 1e9),
)
SIZES = st.one_of(st.integers(1, 900), st.integers(1, 10**12))
LEVELS = st.lists(st.tuples(PRICES, SIZES), max_size=3)
RATES = st.one_of(st.just(0.003), st.floats(-1e3, 1e3))
PARTS = st.tuples(st.sampled_from([0.0, 1.0]), st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.booleans())
TIMES = st.one_of(st.integers(0, 10), st.integers(0, 2**63 - 1))


class Shown(NamedTuple):
    """What a venue shows."""

    place: int
    bids: list[tuple[float, int]]
    asks: list[tuple[float, int]]
    fee: float
    rebate: float
    time: int
    known: bool
    parts: tuple[float, float, float, bool]  # from which price on fees are dollars, and what they are below it


class Case(NamedTuple):
    shown: list[Shown]
    order: Order
    depth: int
    age: int | None
    excluded: frozenset[str]
    halted: bool


ORDERS = st.builds(
    Order,
    st.just("IBM"),
    st.sampled_from(["buy", "sell"]),
    st.one_of(st.integers(1, 2000), st.integers(1, 2**53)),
    st.one_of(st.none(), PRICES),
)
CASES = st.builds(
    Case,
    st.lists(
        st.builds(Shown, st.integers(0, 3), LEVELS, LEVELS, RATES, RATES, TIMES, st.booleans(), PARTS),
        max_size=8,
    ),
    ORDERS,
    st.sampled_from([1, 2, 10]),
    st.one_of(st.none(), st.integers(0, 2**62)),
    st.sampled_from([frozenset(), frozenset({"V1"})]),
    st.booleans(),
)


class HotPath(NamedTuple):
    """Its two halves."""

    quotes: ModuleType
    split: ModuleType


PURE = HotPath(_quotes_py, _split_py)


@pytest.fixture(scope="module")
def compiled() -> HotPath:
    load_twin("cython")  # skips, or fails, where it is not built
    return HotPath(importlib.import_module("sor.market._quotes"), importlib.import_module("sor.routing._split"))


def split_of(rows: Any, quantity: int, resting: bool) -> list[int]:
    """Displayed shares in the order of the rows; the last that shows any also takes the others, if they may rest."""
    split: list[int] = []
    for size in rows[:, 1].tolist():
        split.append(min(quantity, int(size)))
        quantity -= split[-1]
    shown = [row for row, size in enumerate(rows[:, 1].tolist()) if size > 0]
    if resting and shown:
        split[shown[-1]] += quantity
    return split


def answers(path: HotPath, case: Case, resting: bool) -> list[bytes]:
    """A result after every update of the book."""
    quotes, split = path
    book = quotes.BookOfQuotes("IBM", case.depth)
    found = []
    for one in case.shown:
        book.show(
            one.place,
            f"V{one.place}",
            sorted(one.bids, reverse=True),
            sorted(one.asks),
            quotes.Rates(one.fee, one.rebate, one.known, *one.parts),
            one.time,
        )
        market = quotes.survey(case.order, book, case.age, case.excluded, case.halted)
        rows, places = quotes.usable_rows(case.order, book, market, case.depth, not resting)
        fills = split.tally(case.order.side, book, places, split_of(rows, case.order.quantity, resting))
        result = split.assemble(
            case.order,
            book,
            market,
            fills,
            fills.cash,
            -fills.cash,
            "brute_force",
            "sweep",
            CostParameters(),
            market.warnings(),
            msgspec.UNSET,
            None,
            None,
        )
        assert result.to_json() == msgspec.json.encode(result), "a venue's text is not that of its result"
        found += [result.to_json(), rows.tobytes(), book.rows("buy").tobytes(), book.rows("sell").tobytes()]
    return found


@given(CASES, st.booleans())
@example(
    Case(
        [Shown(0, [], [(100.0, 36)], 0.003, 0.001, 1, True, (1.0, 0.003, 0.0, True))],
        Order("IBM", "buy", 5000),
        1,
        None,
        frozenset(),
        False,
    ),
    False,
)
def test_both_give_the_same_bytes(compiled: HotPath, case: Case, resting: bool) -> None:
    assert answers(compiled, case, resting) == answers(PURE, case, resting)


@given(st.one_of(st.floats(-1e9, 1e9), st.floats(allow_nan=False, allow_infinity=False)))
@example(2.0**51 / 1e8)
@example(-(2.0**53) / 1e8)
@example(0.5e-8)
@example(1.5e-8)
@example(-0.4e-8)
def test_rounding_is_that_of_python(compiled: HotPath, dollars: float) -> None:
    wanted = round(dollars * 1e8) / 1e8 if abs(dollars * 1e8) < 2.0**53 else dollars
    for path in (compiled, PURE):
        assert path.quotes.rounded(dollars).hex() == wanted.hex()


def test_a_result_says_what_it_was_asked_with(compiled: HotPath) -> None:
    for path in (compiled, PURE):
        book = path.quotes.BookOfQuotes("IBM", 1)
        book.show(0, "V0", [], [(10.0, 5)], path.quotes.FREE, 1)
        order, terms = Order("IBM", "buy", 4), ("brute_force", "notional", CostParameters(step=7))
        market = path.quotes.survey(order, book, None, frozenset(), False)
        fills = path.split.tally("buy", book, None, [4])
        result = path.split.assemble(order, book, market, fills, 40.0, 40.0, *terms, [], None, 1, 2)
        assert (result.algorithm, result.objective, result.parameters) == terms
        assert (result.stream, result.source) == (1, 2)
