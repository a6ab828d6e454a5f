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

from sor import CostParameters, Order, Router, _routing_py

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


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    load_twin("cython")  # skips, or fails, where it is not built
    return importlib.import_module("sor._routing")


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


def answers(routing: ModuleType, case: Case, resting: bool) -> list[bytes]:
    """A result after every update of the book."""
    book = routing.BookOfQuotes("IBM", case.depth)
    found = []
    for one in case.shown:
        book.show(
            one.place,
            f"V{one.place}",
            sorted(one.bids, reverse=True),
            sorted(one.asks),
            routing.Rates(one.fee, one.rebate, one.known, *one.parts),
            one.time,
        )
        market = routing.survey(case.order, book, case.age, case.excluded, case.halted)
        rows, places = routing.usable_rows(case.order, book, market, case.depth, not resting)
        fills = routing.tally(case.order.side, book, places, split_of(rows, case.order.quantity, resting))
        result = routing.assemble(
            case.order,
            book,
            market,
            fills,
            fills.cash,
            -fills.cash,
            Router(),
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
def test_both_give_the_same_bytes(compiled: ModuleType, case: Case, resting: bool) -> None:
    assert answers(compiled, case, resting) == answers(_routing_py, case, resting)


@given(st.one_of(st.floats(-1e9, 1e9), st.floats(allow_nan=False, allow_infinity=False)))
@example(2.0**51 / 1e8)
@example(-(2.0**53) / 1e8)
@example(0.5e-8)
@example(1.5e-8)
@example(-0.4e-8)
def test_rounding_is_that_of_python(compiled: ModuleType, dollars: float) -> None:
    wanted = round(dollars * 1e8) / 1e8 if abs(dollars * 1e8) < 2.0**53 else dollars
    for routing in (compiled, _routing_py):
        assert routing.rounded(dollars).hex() == wanted.hex()


def test_the_parameters_of_a_result_are_those_of_the_router(compiled: ModuleType) -> None:
    book = compiled.BookOfQuotes("IBM", 1)
    book.show(0, "V0", [], [(10.0, 5)], compiled.FREE, 1)
    order, router = Order("IBM", "buy", 4), Router(CostParameters(step=7))
    market = compiled.survey(order, book, None, frozenset(), False)
    result = compiled.assemble(
        order, book, market, compiled.tally("buy", book, None, [4]), 40.0, 40.0, router, [], None, 1, 2
    )
    assert (result.parameters.step, result.algorithm, result.stream, result.source) == (7, "brute_force", 1, 2)
