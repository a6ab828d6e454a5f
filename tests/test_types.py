"""Wrong calls are refused by name, value and what may stand there; what can be meant as a number or text is taken."""

from __future__ import annotations

import enum
import math
from array import array
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from sor import (
    Book,
    CostParameters,
    InputError,
    Level2Venue,
    Order,
    Router,
    Venue,
    allocate,
    allocate_exhaustive,
    allocate_greedy_l2,
    compute_cost,
)
from sor.types import real_number, whole_number

PENALTIES = (0.01, 0.005, 0.002)
VENUES = [Venue(100.0, 50, 0.003, 0.002), Venue(101.0, 50, 0.003, 0.002)]
ROWS = np.array([[100.0, 50, 0.003, 0.002], [101.0, 50, 0.003, 0.002]])

# What Python or numpy would take for the number 5, or for some number, and nobody means as one.
NO_NUMBERS = [
    True,
    np.bool_(True),
    "5",
    b"5",
    bytearray(b"5"),
    memoryview(b"5"),
    array("b", b"5"),
    np.array([5.0]),
    np.array([[5]]),
    np.ma.masked,
    np.ma.masked_array([5.0], mask=[False])[0:1],
    np.ma.masked_array(5.0, mask=False),
    5 + 0j,
    np.complex128(5),
    np.datetime64(5, "s"),
    np.timedelta64(5, "s"),
    np.array(5, dtype=object),
    np.str_("5"),
    None,
    [5],
    object(),
    math.nan,
    np.float64("nan"),
    math.inf,
    Decimal("NaN"),
    Decimal("sNaN"),
    10**400,
    10**6000,
    Fraction(10**6000),
]


class Name(str, enum.Enum):
    BUY = "buy"


NO_TEXTS = [7, b"x", 1.5, True, ["x"], ("x",), object(), "\ud800", np.array(["x"]), np.str_("\ud800")]

Call = Callable[[Any], object]
NUMBERS: dict[str, Call] = {
    "quantity": lambda x: Order("A", "buy", x),
    "limit_price": lambda x: Order("A", "buy", 1, x),
    "lambda_over": lambda x: CostParameters(x),
    "step": lambda x: CostParameters(step=x),
    "depth": lambda x: Book("A", x),
    "min_windows": lambda x: Router(min_windows=x),
    "max_quote_age": lambda x: Router(max_quote_age=x),
    "order_size": lambda x: allocate(x, VENUES, *PENALTIES),
    "lambda_under": lambda x: allocate(5, VENUES, 0.01, x, 0.002),
    "reference_price": lambda x: allocate(5, VENUES, *PENALTIES, reference_price=x),
    r"venues\[1\].fee": lambda x: allocate(5, [VENUES[0], Venue(1.0, 1, x, 0.0)], *PENALTIES),
    r"venues\[0\].ask_size": lambda x: allocate_exhaustive(5, [Venue(1.0, x, 0.0, 0.0)], *PENALTIES),
    "max_splits": lambda x: allocate_exhaustive(5, VENUES, *PENALTIES, max_splits=x),
    r"split\[1\]": lambda x: compute_cost([1, x], VENUES, 5, *PENALTIES),
    "theta_queue": lambda x: compute_cost([1, 2], VENUES, 5, 0.01, 0.005, x),
    r"venues\[0\].levels\[0\] price": lambda x: allocate_greedy_l2(5, [Level2Venue("V", [(x, 1)], 0, 0)], *PENALTIES),
    r"venues\[0\].rebate": lambda x: allocate_greedy_l2(5, [Level2Venue("V", [(1.0, 1)], 0, x)], *PENALTIES),
    r"asks\[0\] price": lambda x: Book("A").quote("V", asks=[(x, 1)]),
    r"bids\[0\] size": lambda x: Book("A").quote("V", bids=[(1.0, x)]),
    "rebate": lambda x: Book("A").quote("V", rebate=x),
    "time": lambda x: Book("A").quote("V", time=x),
}
OPTIONAL = ("limit_price", "max_quote_age")  # None says that there is none
TEXTS: dict[str, Call] = {
    "symbol": lambda x: Order(x, "buy", 1),
    "side": lambda x: Order("A", x, 1),
    "id": lambda x: Order("A", "buy", 1, id=x),
    "parent_id": lambda x: Order("A", "buy", 1, parent_id=x),
    "symbol of a book": lambda x: Book(x),
    "venue_id": lambda x: Book("A").quote(x),
    r"exclude_venues\[0\]": lambda x: Router(exclude_venues=[x]),
    "algorithm": lambda x: Router(algorithm=x),
    "objective": lambda x: Router(objective=x),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in NUMBERS for value in NO_NUMBERS if value is not None or name not in OPTIONAL],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{name} is .*: it must be a (whole )?number from"):
        NUMBERS[name](value)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", NO_TEXTS, ids=lambda value: type(value).__name__)
def test_what_is_no_text_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{name.removesuffix(' of a book')} is .*: it must be (a|one of) "):
        TEXTS[name](value)


@pytest.mark.parametrize(
    "value", [5, 5.0, np.int64(5), np.uint8(5), np.float32(5), np.array(5), Decimal(5), Fraction(5)]
)
def test_numbers_of_any_kind_are_plain_from_there_on(value: Any) -> None:
    assert [type(number) for number in (whole_number("x", value, 0), real_number("x", value))] == [int, float]
    order = Order("A", "buy", value, value)
    assert (type(order.quantity), type(order.limit_price)) == (int, float)
    assert allocate(value, [Venue(value, value, value, value)], *PENALTIES).split == [5]


def test_texts_of_any_kind_are_plain_from_there_on() -> None:
    order = Order(np.str_("A"), Name.BUY, 1, id=np.str_("x"), parent_id=np.str_(""))
    assert [type(text) for text in (order.symbol, order.side, order.id, order.parent_id)] == [str] * 4
    book = Book(np.str_("A"))
    book.quote(np.str_("V"), asks=[(1.0, 1)])
    router = Router(algorithm=np.str_("greedy_l2"), objective=np.str_("sweep"), exclude_venues=np.array(["W"]))
    assert b'"symbol":"A"' in router.route(order, book).to_json()


def test_a_wrong_value_is_shown_in_short() -> None:
    with pytest.raises(InputError) as caught:
        Order("A", "buy", "9" * 10**6)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("solve", [allocate, allocate_exhaustive, lambda *a: compute_cost([1, 2], a[1], 5, *PENALTIES)])
@pytest.mark.parametrize(
    "venues",
    [
        np.ma.masked_array(ROWS, mask=[[0] * 4, [1] * 4]),
        np.ma.masked_array(ROWS),
        ROWS.astype(complex),
        ROWS.astype(object),
        ROWS.astype(bool),
        ROWS.astype(int).astype("M8[s]"),
        ROWS.astype(str),
        ROWS.astype(">f8"),
        ROWS[0],
        ROWS * math.nan,
    ],
    ids=["masked", "masked, nothing", "complex", "object", "bool", "times", "text", "byte order", "flat", "NaN"],
)
def test_arrays_of_other_things_are_refused(solve: Any, venues: Any) -> None:
    with pytest.raises(InputError, match=r"^venues"):
        solve(5, venues, *PENALTIES)


@pytest.mark.parametrize("solve", [allocate, allocate_exhaustive])
@pytest.mark.parametrize("resting", ["no", "False", 0, 1, None, np.bool_(False)])
def test_resting_is_true_or_false(solve: Any, resting: Any) -> None:
    with pytest.raises(InputError, match=r"resting is .*: it must be True or False"):
        solve(5, VENUES, *PENALTIES, resting=resting)


@pytest.mark.parametrize("parameters", [{}, 0, "", (0.01, 0.005, 0.002, 100)])
def test_parameters_are_parameters(parameters: Any) -> None:
    with pytest.raises(InputError, match=r"parameters is .*: it must be a CostParameters"):
        Router(parameters)


@pytest.mark.parametrize("excluded", [7, None, True])
def test_excluded_venues_are_a_collection(excluded: Any) -> None:
    with pytest.raises(InputError, match=r"exclude_venues is .*: it must be a collection"):
        Router(exclude_venues=excluded)
