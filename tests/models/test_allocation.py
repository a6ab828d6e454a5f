"""The public functions of the static split, on both twins: what they refuse and accept, and their answers."""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from strategies import Case, level_books, market_cases, mills

from sor import Allocation, InputError, Level2Venue, SorError, Venue, run_test_harness
from sor.models.static import allocate, allocate_exhaustive, allocate_greedy_l2, compute_cost, search_space

pytestmark = pytest.mark.usefixtures("on_each_twin")
on_one_twin = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the same for all examples

Function = Callable[..., Any]

LARGEST = 2**53
PENALTIES = {"lambda_over": 0.01, "lambda_under": 0.005, "theta_queue": 0.002}
VENUES = [Venue(100.10, 500, 0.003, 0.002), Venue(100.11, 300, 0.002, 0.0015), Venue(100.12, 800, 0.0025, 0.001)]
LEVELS = [
    Level2Venue("A", [(100.12, 200), (100.10, 300)], 0.003, 0.002),
    Level2Venue("B", [(100.11, 400.0)], 0.002, 0.001),
]
GOOD: dict[Function, dict[str, Any]] = {
    compute_cost: {"split": [500, 300, 200], "venues": VENUES, "order_size": 1000, **PENALTIES},
    allocate: {"order_size": 1000, "venues": VENUES, **PENALTIES},
    allocate_exhaustive: {"order_size": 1000, "venues": VENUES, **PENALTIES},
    allocate_greedy_l2: {"order_size": 600, "venues": LEVELS, **PENALTIES},
}

ON_BEST_QUOTES = [compute_cost, allocate, allocate_exhaustive]
OPTIMISERS = [allocate, allocate_exhaustive]
COLUMNS = ["ask", "ask_size", "fee", "rebate"]


def each(functions: Iterable[Function]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("function", list(functions), ids=lambda function: function.__name__)


every_function, on_best_quotes, optimisers = each(GOOD), each(ON_BEST_QUOTES), each(OPTIMISERS)


def call(function: Function, **changes: Any) -> Any:
    return function(**{**GOOD[function], **changes})


def refusal(function: Function, **changes: Any) -> str:
    """The message with which a call is refused; any other error fails the test."""
    with pytest.raises(InputError) as caught:
        call(function, **changes)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SorError)
    return str(caught.value)


def quotes_of(venues: list[Venue]) -> np.ndarray:
    return np.array([(venue.ask, venue.ask_size, venue.fee, venue.rebate) for venue in venues])


# --- what is refused: numbers ----------------------------------------------------------------------------------------

NOT_WHOLE = [
    *(10.5, -1, -1.0, math.nan, math.inf, -math.inf, LARGEST + 1, 1e300, 10**400),
    *("100", b"100", "", True, False, np.bool_(True), None, 1j, [100], (), {}, object(), np.array([100, 200])),
    *(Decimal("1.5"), Decimal("NaN"), Fraction(1, 2), np.float64(0.5), np.float32("nan"), np.int64(-5)),
]
NOT_REAL = [
    *(math.nan, math.inf, -math.inf, 1.0001e12, -1.0001e12, 10**13, 10**400),
    *("0.01", b"0.01", "", True, False, np.bool_(True), None, 1j, [0.01], (), {}, object()),
    *(Decimal("Infinity"), Fraction(10**13), np.float64("nan"), np.float32("inf")),
]


def short(value: Any) -> str:
    return f"{type(value).__name__}-{value!r:.12}"


not_whole = pytest.mark.parametrize("value", NOT_WHOLE, ids=short)
not_real = pytest.mark.parametrize("value", NOT_REAL, ids=short)


@not_whole
def test_an_order_size_that_is_none(value: Any) -> None:
    expected = f"order_size is {value!r}: it must be a whole number from 0 to 9007199254740992"
    assert {refusal(function, order_size=value) for function in GOOD} == {expected}


@pytest.mark.parametrize("value", [0, 0.0, *NOT_WHOLE], ids=short)
def test_a_step_that_is_none(value: Any) -> None:
    expected = f"step is {value!r}: it must be a whole number from 1 to 9007199254740992"
    for function in OPTIMISERS:
        assert refusal(function, step=value) == expected
        assert refusal(function, step=value, resting=False) == expected


@pytest.mark.parametrize("value", [0, *NOT_WHOLE], ids=short)
def test_a_search_limit_that_is_none(value: Any) -> None:
    expected = f"max_splits is {value!r}: it must be a whole number from 1 to 9007199254740992"
    assert refusal(allocate_exhaustive, max_splits=value) == expected


@not_real
def test_a_penalty_that_is_none(value: Any) -> None:
    for name in PENALTIES:
        expected = f"{name} is {value!r}: it must be a number from -1e+12 to 1e+12"
        assert {refusal(function, **{name: value}) for function in GOOD} == {expected}


@not_real
def test_a_reference_price_that_is_none(value: Any) -> None:
    expected = f"reference_price is {value!r}: it must be a number from -1e+12 to 1e+12"
    for function in OPTIMISERS:
        assert refusal(function, reference_price=value) == expected
        assert refusal(function, reference_price=value, resting=False) == expected


@pytest.mark.parametrize("value", [-1, -1e-300, *NOT_REAL], ids=short)
def test_a_part_of_a_split_that_is_none(value: Any) -> None:
    expected = f"split[1] is {value!r}: it must be a number from 0 to 1e+12"
    assert refusal(compute_cost, split=[1, value, 2]) == expected


@pytest.mark.parametrize(("split", "parts"), [([], 0), ([1, 2], 2), ([1, 2, 3, 4], 4), (np.zeros(5), 5)])
def test_a_split_of_another_length(split: Any, parts: int) -> None:
    assert refusal(compute_cost, split=split) == f"split has {parts} parts for 3 venues: it must have one for each"


@pytest.mark.parametrize("split", [None, 5, np.array(5.0)], ids=short)
def test_a_split_that_is_no_sequence(split: Any) -> None:
    assert refusal(compute_cost, split=split).startswith(f"split is {split!r}: it must be ")


# --- what is refused: venues -----------------------------------------------------------------------------------------


def low(name: str) -> str:
    return "0" if name.endswith("size") else "-1e+12"


@not_real
def test_a_venue_with_a_number_that_is_none(value: Any) -> None:
    for name in COLUMNS:
        numbers = {"ask": 100.0, "ask_size": 100, "fee": 0.003, "rebate": 0.002, name: value}
        venues = [VENUES[0], Venue(**numbers), VENUES[1]]
        expected = f"venues[1].{name} is {value!r}: it must be a number from {low(name)} to 1e+12"
        assert {refusal(function, venues=venues) for function in ON_BEST_QUOTES} == {expected}


@on_best_quotes
@pytest.mark.parametrize("value", [-1, -0.5, np.float64(-1), -5e-324], ids=short)
def test_a_venue_that_displays_less_than_nothing(function: Function, value: Any) -> None:
    expected = f"venues[0].ask_size is {value!r}: it must be a number from 0 to 1e+12"
    assert refusal(function, venues=[Venue(1.0, value, 0.0, 0.0), *VENUES[:2]]) == expected


@every_function
@pytest.mark.parametrize("venues", [[], (), iter(()), {}], ids=short)
def test_no_venues(function: Function, venues: Any) -> None:
    assert refusal(function, venues=venues) == "venues is empty: at least one venue is needed"


@on_best_quotes
@pytest.mark.parametrize("stranger", [None, 5, "NYSE", (100.1, 500, 0.003, 0.002), {"ask": 1}, LEVELS[0]], ids=short)
def test_a_venue_that_is_none(function: Function, stranger: Any) -> None:
    message = refusal(function, venues=[VENUES[0], stranger, VENUES[1]])
    assert message == f"venues[1] is {stranger!r}: it must be a Venue(ask, ask_size, fee, rebate)"


@pytest.mark.parametrize("stranger", [None, 5, "NYSE", ("A", [(1, 2)], 0.0, 0.0), Level2Venue, VENUES[0]], ids=short)
def test_a_level_2_venue_that_is_none(stranger: Any) -> None:
    message = refusal(allocate_greedy_l2, venues=[LEVELS[0], stranger])
    assert message == f"venues[1] is {stranger!r}: it must be a Level2Venue(venue_id, levels, fee, rebate)"


@every_function
@pytest.mark.parametrize("venues", [None, 5, 1.5, "NYSE", object(), VENUES[0]], ids=short)
def test_venues_that_are_no_sequence_of_them(function: Function, venues: Any) -> None:
    message = refusal(function, venues=venues)
    assert re.match(r"venues(\[0\])? is .*: it must be a ", message)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.ones((3, 4), np.float32), id="float32"),
        pytest.param(np.ones((3, 4), np.int64), id="whole numbers"),
        pytest.param(np.ones((3, 4), ">f8" if np.little_endian else "<f8"), id="the other byte order"),
        pytest.param(np.ones((3, 4), object), id="objects"),
        pytest.param(np.ones((3, 4), complex), id="complex"),
        pytest.param(np.ones((4, 3)), id="three columns"),
        pytest.param(np.ones((3, 5)), id="five columns"),
        pytest.param(np.ones(4), id="one dimension"),
        pytest.param(np.ones((1, 3, 4)), id="three dimensions"),
        pytest.param(np.array(1.0), id="no dimension"),
    ],
)
@on_best_quotes
def test_an_array_of_another_kind(function: Function, array: np.ndarray) -> None:
    expected = (
        f"venues is an array of {array.dtype} with shape {array.shape}: it must be float64 with shape (k, 4), "
        "columns ask, ask_size, fee, rebate"
    )
    assert refusal(function, venues=array) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e12, -2e12])
def test_an_array_with_a_number_that_is_none(value: float) -> None:
    for column, name in enumerate(COLUMNS):
        quotes = quotes_of(VENUES)
        quotes[2, column] = value
        expected = f"venues[2].{name} is {value!r}: it must be a number from {low(name)} to 1e+12"
        assert {refusal(function, venues=quotes) for function in ON_BEST_QUOTES} == {expected}


@on_best_quotes
def test_an_array_without_rows(function: Function) -> None:
    assert refusal(function, venues=np.empty((0, 4))) == "venues is empty: at least one venue is needed"


@not_real
def test_a_level_2_venue_with_a_fee_that_is_none(value: Any) -> None:
    for name in ("fee", "rebate"):
        venue = Level2Venue("C", [(100.0, 10)], **{"fee": 0.003, "rebate": 0.002, name: value})
        expected = f"venues[1].{name} is {value!r}: it must be a number from -1e+12 to 1e+12"
        assert refusal(allocate_greedy_l2, venues=[LEVELS[0], venue]) == expected


@pytest.mark.parametrize("value", [math.nan, "0.003"])
def test_a_fee_that_is_none_of_a_venue_without_levels(value: Any) -> None:
    for name in ("fee", "rebate"):
        venue = Level2Venue("C", [], **{"fee": 0.003, "rebate": 0.002, name: value})
        expected = f"venues[0].{name} is {value!r}: it must be a number from -1e+12 to 1e+12"
        assert refusal(allocate_greedy_l2, venues=[venue, LEVELS[0]]) == expected


@not_real
def test_a_level_with_a_number_that_is_none(value: Any) -> None:
    for name, level in (("price", (value, 10)), ("size", (100.0, value))):
        venue = Level2Venue("C", [(99.0, 10), level], 0.003, 0.002)
        expected = f"venues[1].levels[1] {name} is {value!r}: it must be a number from {low(name)} to 1e+12"
        assert refusal(allocate_greedy_l2, venues=[LEVELS[0], venue]) == expected


def test_a_level_that_displays_less_than_nothing() -> None:
    venue = Level2Venue("C", [(100.0, -1)], 0.0, 0.0)
    expected = "venues[0].levels[0] size is -1: it must be a number from 0 to 1e+12"
    assert refusal(allocate_greedy_l2, venues=[venue]) == expected


@pytest.mark.parametrize(
    "levels", [None, 5, [(1.0, 2.0, 3.0)], [(1.0,)], [1.0, 2.0], {1.0: 2.0}, [None], iter([(1.0, 2.0)])], ids=short
)
def test_levels_that_are_none(levels: Any) -> None:
    message = refusal(allocate_greedy_l2, venues=[Level2Venue("C", levels, 0.0, 0.0)])
    assert message == f"venues[0].levels is {levels!r}: it must be a sequence of (price, size)"


# --- what is refused: what would take too long ----------------------------------------------------


@given(venues=st.integers(1, 40), steps=st.integers(0, 30), step=st.integers(1, 1000), data=st.data())
@on_one_twin
def test_the_search_space_is_counted(venues: int, steps: int, step: int, data: st.DataObject) -> None:
    """By Pascal's rule: in a split either the first venue gets none, or one step fewer is left to share."""
    remainder = data.draw(st.integers(0, step - 1))
    table = [[1] * (steps + 1)]
    for _ in range(venues - 1):
        row = [1]
        for n in range(1, steps + 1):
            row.append(row[-1] + table[-1][n])
        table.append(row)
    expected = table[-1][steps] * (venues if remainder else 1)
    assert search_space(steps * step + remainder, venues, step) == expected


def test_the_search_spaces_of_the_model() -> None:
    assert search_space(5000, 3, 100) == 1326
    assert f"{search_space(5000, 10, 100):.2e}" == "1.26e+10"
    assert search_space(5001, 10, 100) == 10 * search_space(5000, 10, 100)


@pytest.mark.parametrize(("order_size", "splits"), [(1000, 66), (1050, 198)])
def test_the_limit_of_the_enumeration(order_size: int, splits: int) -> None:
    assert call(allocate_exhaustive, order_size=order_size, max_splits=splits) == call(allocate, order_size=order_size)
    message = refusal(allocate_exhaustive, order_size=order_size, max_splits=splits - 1)
    assert message.startswith(f"step is 100: {order_size} shares over 3 venues have {splits} splits, more than ")
    assert f"max_splits ({splits - 1})" in message
    assert "allocate()" in message


def test_the_limit_of_the_enumeration_counts_whole_displayed_shares() -> None:
    venues = [Venue(10.0, 3.5, 0.0, 0.0), Venue(11.0, 4.9, 0.0, 0.0)]
    few = {"venues": venues, "order_size": 10**6, "resting": False}
    assert call(allocate_exhaustive, **few, max_splits=8).split == [3, 4]
    assert refusal(allocate_exhaustive, **few, max_splits=7).startswith("step is 1: 7 shares over 2 venues have 8 ")


def test_ten_venues_are_too_many_to_enumerate() -> None:
    message = refusal(allocate_exhaustive, order_size=5000, venues=VENUES * 3 + VENUES[:1])
    assert "12,565,671,261 splits, more than max_splits (100,000,000)" in message


def test_a_search_space_with_thousands_of_digits_is_refused_like_any_other() -> None:
    assert "more than max_splits" in refusal(allocate_exhaustive, order_size=LARGEST, venues=VENUES * 300, step=1)


@pytest.mark.parametrize("resting", [True, False])
def test_one_venue_leaves_nothing_to_enumerate(resting: bool) -> None:
    """The search space has one split, however large the order."""
    venue = Venue(100.0, 10.0, 0.0, 0.0)
    answer = call(allocate_exhaustive, order_size=LARGEST, venues=[venue], step=1, resting=resting)
    assert answer.split == [LARGEST if resting else 10]


def test_no_grid_is_too_fine_for_allocate() -> None:
    """Tables of a dynamic programme would take 10**17 bytes here."""
    split, cost = call(allocate, order_size=LARGEST, step=1, lambda_under=200.0)
    assert split == [LARGEST - 1100, 300, 800]
    executed = 500 * 100.103 + 300 * 100.112 + 800 * 100.1225
    assert cost == pytest.approx((LARGEST - 1600) * 200.0 + executed, rel=1e-14)


# --- what is accepted ------------------------------------------------------------------------------------------------


@every_function
@pytest.mark.parametrize(
    "kind", [float, np.int64, np.int32, np.uint16, np.float64, np.float32, Decimal, Fraction, np.array], ids=short
)
def test_whole_numbers_of_any_type(function: Function, kind: Callable[[int], Any]) -> None:
    expected = call(function, order_size=600)
    assert call(function, order_size=kind(600)) == expected
    if function in OPTIMISERS:
        assert call(function, order_size=600, step=kind(50)) == call(function, order_size=600, step=50)
        assert {type(q) for q in call(function, order_size=kind(600)).split} == {int}


@every_function
@pytest.mark.parametrize("kind", [np.float64, Decimal, Fraction, np.float32], ids=short)
def test_real_numbers_of_any_type(function: Function, kind: Callable[[float], Any]) -> None:
    given_ones = {"lambda_over": 0.25, "lambda_under": 0.5, "theta_queue": 0.125}
    assert call(function, **{name: kind(x) for name, x in given_ones.items()}) == call(function, **given_ones)


@every_function
def test_orders_of_nothing_and_of_the_most(function: Function) -> None:
    if function is compute_cost:
        assert call(function, order_size=0, split=[0, 0, 0]) == 0.0
        assert call(function, order_size=LARGEST, split=[0, 0, 0]) == pytest.approx(0.007 * LARGEST, rel=1e-15)
        return
    wide = {"step": LARGEST} if function is not allocate_greedy_l2 else {}
    assert call(function, order_size=0) == Allocation([0] * len(GOOD[function]["venues"]), 0.0)
    split = call(function, order_size=float(LARGEST), **wide).split
    assert sum(split) == (900 if function is allocate_greedy_l2 else LARGEST)


@on_best_quotes
@pytest.mark.parametrize("kind", [list, tuple, iter, lambda venues: dict.fromkeys(venues).keys()], ids=range(4))
def test_venues_in_any_container(function: Function, kind: Callable[[Any], Any]) -> None:
    assert call(function, venues=kind(VENUES)) == call(function)


def arrays_alike() -> dict[str, np.ndarray]:
    quotes = quotes_of(VENUES)
    read_only = quotes.copy()
    read_only.flags.writeable = False
    columns = np.asfortranarray(quotes)
    strided = np.full((6, 8), math.nan)
    strided[::2, ::2] = quotes
    strided.flags.writeable = False
    return {
        "contiguous": quotes,
        "read-only": read_only,
        "columns first": columns,
        "strided": strided[::2, ::2],
        "reversed": quotes[::-1].copy()[::-1],
    }


@on_best_quotes
@pytest.mark.parametrize("kind", arrays_alike())
@pytest.mark.parametrize("resting", [True, False])
def test_an_array_in_place_of_venues(function: Function, kind: str, resting: bool) -> None:
    array = arrays_alike()[kind]
    options = {} if function is compute_cost else {"resting": resting, "order_size": 1000 if resting else 40}
    assert call(function, venues=array, **options) == call(function, **options)
    assert np.array_equal(array, quotes_of(VENUES))


@pytest.mark.parametrize("split", [(500, 300, 200), np.array([500, 300, 200]), np.array([500.0, 300.0, 200.0])])
def test_a_split_in_any_container(split: Any) -> None:
    assert call(compute_cost, split=split) == call(compute_cost)


@pytest.mark.parametrize("container", [tuple, np.array, lambda levels: [list(level) for level in levels]])
def test_levels_in_any_container(container: Callable[[Any], Any]) -> None:
    venues = [Level2Venue(v.venue_id, container(v.levels), v.fee, v.rebate) for v in LEVELS]
    assert call(allocate_greedy_l2, venues=venues) == call(allocate_greedy_l2)


def test_a_level_2_venue_alone() -> None:
    assert call(allocate_greedy_l2, venues=[LEVELS[0]]).split == [500]


@every_function
def test_what_is_given_is_not_changed(function: Function) -> None:
    arguments = copy.deepcopy(GOOD[function])
    if function is allocate_greedy_l2:
        levels = [(100.12, 200), (100.10, 300)]
        arguments["venues"] = [Level2Venue("A", levels, 0.003, 0.002)]
    else:
        arguments["venues"] = quotes_of(VENUES)
    if function is compute_cost:
        arguments["split"] = np.array([100.0, 900.0, 50.0])
    before = copy.deepcopy(arguments)
    function(**arguments)
    assert list(arguments) == list(before)
    assert all(np.array_equal(arguments[name], before[name]) for name in before if name != "venues")
    if function is allocate_greedy_l2:
        assert levels == [(100.12, 200), (100.10, 300)]
        assert arguments["venues"] == before["venues"]
    else:
        assert np.array_equal(arguments["venues"], before["venues"])


@optimisers
def test_the_step_is_a_hundred_where_none_is_given(function: Function) -> None:
    few = {"venues": [Venue(10.0, 150, 0.0, 0.0), Venue(10.25, 900, 0.0, 0.0)], "order_size": 400, "lambda_under": 20.0}
    assert call(function, **few).split == call(function, **few, step=100).split == [100, 300]
    assert call(function, **few, step=50).split == [150, 250]


@optimisers
def test_a_result_can_be_taken_apart(function: Function) -> None:
    answer = call(function)
    split, cost = answer
    assert isinstance(answer, Allocation)
    assert (split, cost) == (answer.split, answer.cost)
    assert [type(q) for q in split] == [int] * 3
    assert type(cost) is float


# --- answers ---------------------------------------------------------------------------------------------------------


@optimisers
def test_the_example_of_the_model(function: Function) -> None:
    """The formula alone says: execute 300 of 1,000 shares. Two options say otherwise."""
    literal = call(function)
    assert literal == ([0, 1000, 0], pytest.approx(30_037.45, rel=1e-14))
    assert literal.cost == call(compute_cost, split=literal.split)
    assert call(function, resting=False).split == [500, 300, 200]
    assert call(function, reference_price=100.095, lambda_under=0.05).split == [500, 300, 200]


def test_the_cost_of_more_and_of_less_than_was_wanted() -> None:
    venues = [Venue(10.0, 100, 0.5, 0.25), Venue(11.0, 50, 0.25, 0.125)]
    penalties = {"lambda_over": 4.0, "lambda_under": 2.0, "theta_queue": 1.0}
    full = 100 * 10.5 + 20 * 11.25
    for split, order_size, expected in [
        ([100, 20], 120, full),
        ([100, 20], 100, full + 20 * (4 + 1)),
        ([100, 20], 150, full + 30 * (2 + 1)),
        ([104, 20], 124, full - 4 * 0.25 + 4 * (2 + 1)),
        ([0, 0], 7, 7 * (2 + 1)),
        ([0.5, 0], 0, 0.5 * 10.5 + 0.5 * (4 + 1)),
    ]:
        assert compute_cost(split, venues, order_size, **penalties) == expected


@given(case=market_cases([(1, 9), (2, 40), (3, 15), (4, 7)]), resting=st.booleans())
@on_one_twin
def test_allocate_is_the_optimum_of_the_enumeration(case: Case, resting: bool) -> None:
    """The promise of its docstring. Their splits may differ where costs tie but for the last bits."""
    order_size = case.order_size if resting else min(case.order_size, 15)
    options = {"step": case.step, "reference_price": case.reference, "resting": resting}
    arguments = (order_size, case.quotes, *case.penalties)
    fast, slow = allocate(*arguments, **options), allocate_exhaustive(*arguments, **options)
    assert fast.cost == pytest.approx(slow.cost, rel=1e-11, abs=1e-13 * order_size * max(case.quotes[:, 0]))
    assert sum(fast.split) == sum(slow.split)
    shifted = [Venue(ask - case.reference, *rest) for ask, *rest in case.quotes.tolist()]
    assert fast.cost == compute_cost(fast.split, shifted, order_size, *case.penalties)


class Mills(NamedTuple):
    """A book and its penalties in hundredths of a cent, so that all costs are whole numbers."""

    price: np.ndarray
    size: np.ndarray
    fee: np.ndarray
    rebate: np.ndarray
    under: int
    queue: int
    reference: int

    @classmethod
    def drawn(cls, seed: int, most: int, under: int, reference: int) -> Mills:
        rng = np.random.default_rng(seed)
        ticks, sizes = rng.integers(0, 6, 10), rng.integers(0, most, 10)
        fees, rebates = rng.integers(-10, 31, (2, 10))
        return cls(222_000 + 100 * ticks, sizes, fees, rebates, under, 20, reference)

    def quotes(self) -> np.ndarray:
        return np.column_stack([self.price / 10_000, self.size, self.fee / 10_000, self.rebate / 10_000])

    def costs(self, order_size: int) -> np.ndarray:
        """g_i(q) of every venue i and q from 0 to the order."""
        q = np.arange(order_size + 1)
        done = np.minimum(q, self.size[:, None])
        take, rest = self.price + self.fee - self.reference, self.under + self.queue - self.rebate
        return done * take[:, None] + (q - done) * rest[:, None]


@cache
def book_and_least_cost(seed: int, most: int, under: int, reference: int) -> tuple[Mills, np.ndarray, int]:
    """A book, its venues' costs up to 5,000 shares, and the least sum of one from each with 5,000 shares in all."""
    book = Mills.drawn(seed, most, under, reference)
    costs = book.costs(5000)
    best = costs[0]
    for row in costs[1:]:
        best = np.array([(best[: total + 1] + row[total::-1]).min() for total in range(len(best))])
    return book, costs, int(best[-1])


@pytest.mark.parametrize(
    "book",
    [
        pytest.param((1, 1000, 50, 0), id="notional, default penalties"),
        pytest.param((2, 1000, 50, 222_000), id="shortfall, default penalties"),
        pytest.param((3, 1000, 350, 222_000), id="shortfall, some rest"),
        pytest.param((4, 400, 900, 222_000), id="shortfall, more than is displayed"),
        pytest.param((5, 1000, 10**6, 0), id="notional, dear to miss"),
        pytest.param((6, 1000, -200, 222_000), id="paid to miss"),
    ],
)
def test_ten_venues_share_by_share(book: tuple[int, int, int, int]) -> None:
    """5,000 shares on a grid of one over 10 venues, against an independent programme in whole numbers."""
    drawn, costs, least = book_and_least_cost(*book)
    reference = drawn.reference / 10_000
    answer = allocate(5000, drawn.quotes(), 0.01, drawn.under / 10_000, 0.002, 1, reference_price=reference)
    assert sum(answer.split) == 5000
    assert sum(int(costs[i, q]) for i, q in enumerate(answer.split)) == least
    assert answer.cost == pytest.approx(least / 10_000, rel=1e-9)


@pytest.mark.parametrize("order_size", [0, 1, 99, 100, 101, 1599, 1600, 1601])
@pytest.mark.parametrize("step", [1, 3, 100, 1599, 5000])
def test_every_order_size_and_step(order_size: int, step: int) -> None:
    """The remainder, the whole, and steps beyond the order."""
    split, cost = call(allocate, order_size=order_size, step=step, reference_price=100.0, lambda_under=0.1)
    assert sum(split) == order_size
    assert sum(q % step for q in split) == order_size % step
    assert sum(q % step != 0 for q in split) == (order_size % step > 0)
    if math.comb(order_size // step + 2, 2) < 20_000:
        slow = call(allocate_exhaustive, order_size=order_size, step=step, reference_price=100.0, lambda_under=0.1)
        assert cost == pytest.approx(slow.cost, rel=1e-12)


# --- selling: prices with a minus sign -------------------------------------------------------------------------------


def test_selling_takes_the_best_bids_after_fees() -> None:
    bids = [(100.10, 200, 0.003), (100.12, 100, 0.030), (100.11, 300, 0.002)]
    venues = [Venue(-bid, size, fee, 0.002) for bid, size, fee in bids]
    split, cost = call(allocate, venues=venues, order_size=450, resting=False)
    assert split == [150, 0, 300]
    assert cost == pytest.approx(-(300 * (100.11 - 0.002) + 150 * (100.10 - 0.003)), rel=1e-14)
    level_2 = [Level2Venue(str(i), [(-bid, size)], fee, 0.002) for i, (bid, size, fee) in enumerate(bids)]
    assert call(allocate_greedy_l2, venues=level_2, order_size=450) == (split, cost)


def test_selling_ties_go_to_the_higher_bid() -> None:
    venues = [Venue(-10.0, 5, 0.25, 0.0), Venue(-10.25, 5, 0.5, 0.0)]
    assert call(allocate, venues=venues, order_size=5, resting=False).split == [0, 5]


quarters = st.integers(-40, 40).map(lambda count: count / 4)


@given(
    offers=st.lists(st.tuples(quarters, st.integers(0, 300).map(float), quarters, quarters), min_size=1, max_size=6),
    order_size=st.integers(0, 900),
    step=st.integers(1, 50),
    under=quarters,
    resting=st.booleans(),
)
@on_one_twin
def test_selling_mirrors_buying(offers: list[Any], order_size: int, step: int, under: float, resting: bool) -> None:
    """Asks so far above the mid and bids as far below it: the same split, the same shortfall."""
    asks = [Venue(50.25 + away, *rest) for away, *rest in offers]
    bids = [Venue(-(50.25 - away), *rest) for away, *rest in offers]
    options = {"step": step, "resting": resting}
    buy = allocate(order_size, asks, 1.0, under, 0.5, **options, reference_price=50.25)
    sell = allocate(order_size, bids, 1.0, under, 0.5, **options, reference_price=-50.25)
    assert buy == sell


# --- displayed shares and levels -------------------------------------------------------------------------------------


def level_2(books: list[Any]) -> list[Level2Venue]:
    return [Level2Venue(str(i), *book) for i, book in enumerate(books)]


def flattened(books: list[Any]) -> list[Venue]:
    return [Venue(price, size, fee, rebate) for levels, fee, rebate in books for price, size in levels]


@given(books=level_books(), order_size=st.integers(0, 4000))
@on_one_twin
def test_greedy_is_the_optimum_of_a_linear_programme(books: list[Any], order_size: int) -> None:
    """Whole displayed shares, as many of the order as there are, at the least price and fee."""
    answer = call(allocate_greedy_l2, venues=level_2(books), order_size=order_size)
    rows = flattened(books)
    capacity = [math.floor(row.ask_size) for row in rows]
    total = min(order_size, sum(capacity))
    assert sum(answer.split) == total
    assert all(
        q <= sum(math.floor(size) for _, size in levels) for q, (levels, _, _) in zip(answer.split, books, strict=True)
    )
    missing = 0.007 * (order_size - total)
    if not rows:
        assert answer.cost == pytest.approx(missing)
        return
    unit = np.array([row.ask + row.fee for row in rows])
    judge = linprog(unit, A_eq=np.ones((1, len(rows))), b_eq=[total], bounds=[(0, most) for most in capacity])
    assert judge.status == 0, judge.message
    assert answer.cost == pytest.approx(judge.fun + missing, rel=1e-9, abs=1e-7)


@given(books=level_books(), order_size=st.integers(0, 4000))
@on_one_twin
def test_greedy_fills_in_the_order_of_its_docstring(books: list[Any], order_size: int) -> None:
    rows = [
        (price + fee, price, i, j, math.floor(size))
        for i, (levels, fee, _) in enumerate(books)
        for j, (price, size) in enumerate(levels)
    ]
    fills = dict.fromkeys(((row[2], row[3]) for row in rows), 0)
    left = order_size
    for _, _, i, j, displayed in sorted(rows):
        fills[i, j] = min(left, displayed)
        left -= fills[i, j]
    expected = [sum(fills[i, j] for j in range(len(levels))) for i, (levels, _, _) in enumerate(books)]
    answer = call(allocate_greedy_l2, venues=level_2(books), order_size=order_size)
    assert answer.split == expected
    if rows:
        cost = compute_cost([float(fill) for fill in fills.values()], flattened(books), order_size, **PENALTIES)
        assert answer.cost == cost


@given(books=level_books(), order_size=st.integers(0, 4000), rebate=mills(-500, 500))
@on_one_twin
def test_greedy_does_not_look_at_rebates(books: list[Any], order_size: int, rebate: float) -> None:
    others = [(levels, fee, rebate) for levels, fee, _ in books]
    answers = [call(allocate_greedy_l2, venues=level_2(some), order_size=order_size) for some in (books, others)]
    assert answers[0] == answers[1]


@given(books=level_books(), order_size=st.integers(0, 4000), data=st.data())
@on_one_twin
def test_greedy_takes_levels_in_any_order(books: list[Any], order_size: int, data: st.DataObject) -> None:
    """Which of two equal levels of a venue is filled first does not show in the venue's shares."""
    shuffled = [(data.draw(st.permutations(levels)), fee, rebate) for levels, fee, rebate in books]
    answers = [call(allocate_greedy_l2, venues=level_2(some), order_size=order_size) for some in (books, shuffled)]
    assert answers[0].split == answers[1].split
    assert answers[0].cost == pytest.approx(answers[1].cost, rel=1e-12, abs=1e-9)


@given(books=level_books(), order_size=st.integers(0, 4000))
@on_one_twin
def test_greedy_is_a_sweep_over_the_levels(books: list[Any], order_size: int) -> None:
    rows = flattened(books)
    if not rows:
        return
    sweep = allocate(order_size, rows, **PENALTIES, resting=False)
    answer = call(allocate_greedy_l2, venues=level_2(books), order_size=order_size)
    assert answer.cost == sweep.cost
    assert sum(answer.split) == sum(sweep.split)


@pytest.mark.parametrize(
    ("books", "order_size", "expected"),
    [
        pytest.param([([(10.25, 5)], 0.0, 0.0), ([(10.0, 5)], 0.25, 0.0)], 5, [0, 5], id="equal sums: lower price"),
        pytest.param([([(10.0, 5)], 0.25, 0.0), ([(10.0, 5)], 0.25, 9.0)], 7, [5, 2], id="all equal: venues in order"),
        pytest.param([([(10.0, 5)], 0.5, 9.0), ([(10.25, 5)], 0.0, 0.0)], 5, [0, 5], id="fees decide, rebates never"),
        pytest.param([([(11.0, 5), (9.0, 4)], 0.0, 0.0), ([(10.0, 3)], 0.0, 0.0)], 6, [4, 2], id="unsorted levels"),
        pytest.param([([], 0.0, 0.0), ([(10.0, 3)], 0.0, 0.0)], 6, [0, 3], id="a venue without levels"),
        pytest.param([([(10.0, 0), (10.5, 2)], 0.0, 0.0)], 1, [1], id="a level of nothing"),
        pytest.param([([(10.0, 1.9), (10.5, 1.9)], 0.0, 0.0)], 9, [2], id="whole shares of each level"),
        pytest.param([([(10.0, 5), (10.0, 5)], 0.0, 0.0)], 7, [7], id="a price twice"),
        pytest.param([([], 0.0, 0.0)], 6, [0], id="no level at all"),
    ],
)
def test_greedy_by_example(books: list[Any], order_size: int, expected: list[int]) -> None:
    assert call(allocate_greedy_l2, venues=level_2(books), order_size=order_size).split == expected


def test_among_equal_levels_of_a_venue_the_first_is_filled() -> None:
    """Seen through the price of nothing: equal sums at one venue mean equal prices, so the cost tells no more."""
    venues = [Level2Venue("A", [(10.0, 5), (10.0, 7)], 0.0, 0.0), Level2Venue("B", [(10.0, 4)], 0.0, 0.0)]
    assert call(allocate_greedy_l2, venues=venues, order_size=13).split == [12, 1]
    assert call(allocate_greedy_l2, venues=venues[::-1], order_size=13).split == [4, 9]


@optimisers
def test_displayed_shares_only_ignores_the_step(function: Function) -> None:
    venues = [Venue(10.0, 3.9, 0.0, 0.0), Venue(9.0, 2.0, 0.0, 0.0), Venue(11.0, 8, 0.0, 0.0)]
    for step in (1, 7, 100, LARGEST):
        assert call(function, venues=venues, order_size=9, step=step, resting=False).split == [3, 2, 4]


@optimisers
def test_displayed_shares_only_takes_all_there_is_at_any_cost(function: Function) -> None:
    """Penalties price what is missing, and choose nothing."""
    for under in (-50.0, 0.0, 1e6):
        answer = call(function, order_size=1700, resting=False, lambda_under=under, venues=VENUES[:1])
        assert answer.split == [500]
        assert answer.cost == pytest.approx(500 * 100.103 + 1200 * (under + 0.002), rel=1e-12)


TOLD = [Venue(100.0, 50, 0.003, 0.002), Venue(101.0, 500, 0.003, 0.002)]
RULED = [Venue(100.0, 50, 0.003, 0.002), Venue(101.0, 500, 0.003, 0.002, lot=100)]
TOLD_PENALTIES = (0.01, 0.005, 0.002)

# --- debug mode ------------------------------------------------------------------------------------------------------

SEARCHES = [
    (lambda: allocate(600, TOLD, *TOLD_PENALTIES), "allocate: two straight pieces of each of 2 venues in steps of 100"),
    (
        lambda: allocate(600, TOLD, *TOLD_PENALTIES, resting=False),
        "allocate: the displayed shares of 2 venues in steps of 1",
    ),
    (
        lambda: allocate(600, RULED, *TOLD_PENALTIES, resting=False),
        "allocate: the displayed shares, under rules, of 2 venues in steps of 1",
    ),
    (
        lambda: allocate_exhaustive(600, RULED, *TOLD_PENALTIES, resting=False),
        "allocate_exhaustive: 306 splits by rules over 2 venues",
    ),
    (lambda: allocate_exhaustive(600, TOLD, *TOLD_PENALTIES), "allocate_exhaustive: 7 splits over 2 venues"),
    (
        lambda: allocate_greedy_l2(600, [Level2Venue("V", [(10.0, 50), (10.1, 70)], 0.0, 0.0)], *TOLD_PENALTIES),
        "allocate_greedy_l2: 2 levels of 1 venues",
    ),
]


@pytest.mark.parametrize(("search", "searched"), SEARCHES)
def test_debug_mode_says_what_was_searched_and_chosen(search, searched, caplog):
    with caplog.at_level(logging.INFO, "sor"):
        answer = search()
        assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "sor"):
        assert search() == answer
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage() == f"{searched} for 600 shares: split {answer.split}, cost {answer.cost:.9g}"


def test_the_test_harness_tells_in_debug_mode(caplog, capsys):
    with caplog.at_level(logging.DEBUG):
        run_test_harness()
    told = [record.getMessage().partition(":")[0] for record in caplog.records if record.name == "sor.models.static"]
    assert {"allocate", "allocate_exhaustive", "allocate_greedy_l2"} <= set(told)
