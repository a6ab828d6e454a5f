"""`allocate_many` on both twins: a loop over `allocate`, bit for bit; what it refuses, and by which words."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import Case, cases, market_cases, whole_cases

from sor import InputError, allocate, allocate_many

pytestmark = pytest.mark.usefixtures("on_each_twin")
on_one_twin = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the same for all examples

LARGEST = 2**53
PENALTIES = (0.01, 0.03, 0.002)
COLUMNS = ["ask", "ask_size", "fee", "rebate"]
SHAPES = [
    (1, 9),
    (2, 200),
    (3, 40),
    (10, 50),
    (16, 30),
    (17, 30),
    (30, 10**6),
    (6, LARGEST - 1),
]  # (venues, most steps)
FEW = [(1, 6), (2, 6), (5, 6), (10, 4), (20, 3)]


def drawn(n: int, k: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    prices, sizes = 100 + rng.integers(0, 7, (n, k)) / 100, rng.integers(0, 16, (n, k)) * 100.0
    fees, rebates = rng.integers(-20, 31, (n, k)) / 10_000, rng.integers(-10, 33, (n, k)) / 10_000
    return np.stack([prices, sizes, fees, rebates], axis=2)


QUOTES = drawn(7, 4)


def looped(quotes: np.ndarray, sizes: Any, *arguments: Any, reference_price: Any = 0.0, **options: Any) -> Any:
    """What a loop over `allocate` gives: splits, and the bits of the costs."""
    each = zip(quotes, np.broadcast_to(sizes, len(quotes)), np.broadcast_to(reference_price, len(quotes)), strict=True)
    answers = [allocate(s, rows, *arguments, reference_price=float(r), **options) for rows, s, r in each]
    return [answer.split for answer in answers], [answer.cost.hex() for answer in answers]


def at_once(quotes: np.ndarray, *arguments: Any, **options: Any) -> Any:
    splits, costs = allocate_many(quotes, *arguments, **options)
    assert (splits.shape, splits.dtype) == (quotes.shape[:2], np.int64)
    assert (costs.shape, costs.dtype) == (quotes.shape[:1], np.float64)
    return splits.tolist(), [cost.hex() for cost in costs.tolist()]


# --- equal to a loop -------------------------------------------------------------------------------------------------


def batches(make: Any, shapes: list[tuple[int, int]]) -> st.SearchStrategy[list[Case]]:
    """Snapshots with as many venues each."""
    return st.sampled_from(shapes).flatmap(lambda shape: st.lists(make([shape]), min_size=1, max_size=4))


@given(
    batch=batches(cases, SHAPES) | batches(market_cases, SHAPES) | batches(whole_cases, FEW),
    resting=st.booleans(),
    threads=st.sampled_from([1, 2, 5]),
)
@on_one_twin
def test_any_snapshots(batch: list[Case], resting: bool, threads: int) -> None:
    """Each with quotes, order and reference of its own; grid and penalties are the first one's."""
    quotes = np.array([case.quotes for case in batch])
    quotes[..., 1] = quotes[..., 1].clip(max=1e12)  # the bounds of both are below what cases may have
    sizes = np.array([min(case.order_size, LARGEST) for case in batch])
    references = np.array([case.reference for case in batch])
    arguments = (quotes, sizes, *batch[0].penalties, batch[0].step)
    options = {"reference_price": references, "resting": resting}
    assert at_once(*arguments, **options, threads=threads) == looped(*arguments, **options)


@pytest.mark.parametrize("resting", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 10, 15, 16, 17, 40])
def test_books_of_trading(k: int, resting: bool) -> None:
    """Many venues tie; orders with and without a remainder, and of nothing."""
    quotes = drawn(40, k, seed=k)
    sizes = np.random.default_rng(k).choice([0, 1, 100, 150, 700, 5000, 5001, 20_000, 123_456], 40)
    for options in ({}, {"reference_price": 100.03}):
        assert at_once(quotes, sizes, *PENALTIES, resting=resting, **options) == looped(
            quotes, sizes, *PENALTIES, resting=resting, **options
        )


@pytest.mark.parametrize("resting", [True, False])
@pytest.mark.parametrize("size", [0, 1, 100, 1234, LARGEST])
@pytest.mark.parametrize("step", [1, 100, LARGEST])
def test_one_size_for_all(size: int, step: int, resting: bool) -> None:
    options = {"reference_price": 100.0, "resting": resting}
    answer = at_once(QUOTES, size, *PENALTIES, step, **options)
    assert answer == looped(QUOTES, size, *PENALTIES, step, **options)
    assert answer == at_once(QUOTES, np.full(7, size), *PENALTIES, step, **options)
    assert answer == at_once(QUOTES, float(size), *PENALTIES, float(step), **options)


@pytest.mark.parametrize("resting", [True, False])
def test_venues_that_are_all_alike(resting: bool) -> None:
    """Every choice is a tie."""
    quotes = np.broadcast_to([10.0, 300.0, 0.25, 0.125], (3, 12, 4))
    sizes = np.array([100, 1250, 9000])
    for under in (0.0, 10.125, 10.375, 20.0):
        penalties = (0.0, under, 0.0)
        answer = at_once(quotes, sizes, *penalties, resting=resting)
        assert answer == looped(quotes, sizes, *penalties, resting=resting)


@pytest.mark.parametrize("resting", [True, False])
@pytest.mark.parametrize("threads", [2, 3, 5, 7, 8, 1000])
def test_any_number_of_threads(threads: int, resting: bool) -> None:
    sizes = np.arange(7) * 450
    options = {"resting": resting, "reference_price": np.linspace(0.0, 100.0, 7)}
    one = at_once(QUOTES, sizes, *PENALTIES, **options)
    assert at_once(QUOTES, sizes, *PENALTIES, **options, threads=threads) == one
    assert one == looped(QUOTES, sizes, *PENALTIES, **options)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("resting", [True, False])
@pytest.mark.parametrize("k", [0, 1, 3])
def test_no_snapshots(k: int, resting: bool, threads: int) -> None:
    empty = np.empty((0, k, 4))
    for size, reference in ((5, 1.0), (np.empty(0, np.int64), np.empty(0))):
        assert at_once(empty, size, *PENALTIES, reference_price=reference, resting=resting, threads=threads) == ([], [])


def test_kernels_on_no_venues(core: ModuleType) -> None:
    """The public functions refuse them; beneath, nothing is sent and all is missing."""
    rest = (np.array([100.0, 0.0]), splits := np.empty((2, 0), np.int64), costs := np.empty(2))
    orders = (np.empty((2, 0, 4)), np.array([100, 0]), *PENALTIES)
    for solve in (lambda: core.allocate_many(*orders, 10, *rest), lambda: core.sweep_many(*orders, *rest)):
        costs[:] = math.nan
        solve()
        assert costs.tolist() == [0.002 * 100 + 0.03 * 100, 0.0]
        assert splits.shape == (2, 0)


def arrays_alike() -> dict[str, np.ndarray]:
    strided = np.full((14, 8, 8), math.nan)
    strided[::2, ::2, ::2] = QUOTES
    read_only = QUOTES.copy()
    read_only.flags.writeable = False
    return {
        "read-only": read_only,
        "columns first": np.asfortranarray(QUOTES),
        "strided": strided[::2, ::2, ::2],
        "backwards": QUOTES[::-1, ::-1].copy()[::-1, ::-1],
    }


@pytest.mark.parametrize("kind", arrays_alike())
@pytest.mark.parametrize("resting", [True, False])
def test_quotes_in_any_order_of_memory(kind: str, resting: bool) -> None:
    array = arrays_alike()[kind]
    assert at_once(array, 950, *PENALTIES, resting=resting) == looped(QUOTES, 950, *PENALTIES, resting=resting)
    assert np.array_equal(array, QUOTES)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", ">i8", "i8"])
def test_sizes_and_references_of_any_width(dtype: str) -> None:
    sizes = np.arange(14, dtype=dtype)[::2]
    expected = looped(QUOTES, np.arange(0, 14, 2), *PENALTIES, 3, reference_price=np.arange(0, 14, 2))
    floats = sizes.astype("f2")
    for references in (sizes, floats, floats.astype(">f8"), np.arange(14.0)[::2]):
        assert at_once(QUOTES, sizes, *PENALTIES, 3, reference_price=references) == expected


def test_what_is_given_is_not_changed() -> None:
    given = quotes, sizes, references = QUOTES.copy(), np.arange(7) * 100, np.linspace(0, 100, 7)
    before = [array.copy() for array in given]
    for resting in (True, False):
        allocate_many(quotes, sizes, *PENALTIES, reference_price=references, resting=resting, threads=2)
    assert all(map(np.array_equal, given, before))


# --- what is refused -------------------------------------------------------------------------------------------------


def refusal(quotes: Any = QUOTES, size: Any = 100, *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        allocate_many(quotes, size, *(arguments or PENALTIES), **options)
    return str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e12, -2e12])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_quote_that_is_none(name: str, value: float) -> None:
    low = "0" if name == "ask_size" else "-1e+12"
    for i, j in ((0, 0), (5, 2), (6, 3)):
        quotes = QUOTES.copy()
        quotes[i, j, COLUMNS.index(name)] = value
        expected = f"quotes[{i}][{j}].{name} is {value!r}: it must be a number from {low} to 1e+12"
        assert {refusal(quotes), refusal(np.asfortranarray(quotes), resting=False, threads=2)} == {expected}


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_first_quote_that_is_none_is_named(threads: int) -> None:
    quotes = QUOTES.copy()
    quotes[(2, 6), (3, 0), 0] = math.nan
    assert refusal(quotes, threads=threads).startswith("quotes[2][3].ask is nan")


def test_a_size_below_zero() -> None:
    quotes = QUOTES.copy()
    quotes[3, 1, 1] = -1.0
    assert refusal(quotes) == "quotes[3][1].ask_size is -1.0: it must be a number from 0 to 1e+12"


@pytest.mark.parametrize(
    "array",
    [QUOTES.astype(kind) for kind in (complex, object, bool, str, int, "f4", ">f8" if np.little_endian else "<f8")]
    + [QUOTES[0], QUOTES[..., :3], QUOTES[None], np.array(1.0), np.empty((0, 4)), np.empty(0)],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_an_array_of_another_kind(array: np.ndarray) -> None:
    assert refusal(array) == (
        f"quotes is an array of {array.dtype} with shape {array.shape}: it must be float64 with shape (n, k, 4), "
        "columns ask, ask_size, fee, rebate"
    )


@pytest.mark.parametrize("mask", [False, True, QUOTES > 0])
def test_a_masked_array(mask: Any) -> None:
    assert refusal(np.ma.masked_array(QUOTES, mask)).startswith("quotes is a masked array: it must be a plain one")


@pytest.mark.parametrize("quotes", [None, 5, "quotes", QUOTES.tolist(), list(QUOTES), object()], ids=type)
def test_quotes_that_are_no_array(quotes: Any) -> None:
    expected = f"quotes is a {type(quotes).__name__}: it must be a float64 array with shape (n, k, 4)"
    assert refusal(quotes) == expected


def test_snapshots_without_venues() -> None:
    """As `allocate` refuses each of them."""
    assert refusal(np.empty((2, 0, 4))) == "quotes is empty: at least one venue is needed"


NO_SIZES = [math.nan, 0.5, -1, LARGEST + 1, "5", b"5", True, None, 5j, [5] * 7, (5,), object(), np.ma.masked]


@pytest.mark.parametrize("value", NO_SIZES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("quotes", [QUOTES, QUOTES[:0]], ids=["seven", "none"])
def test_a_size_that_is_none(value: Any, quotes: np.ndarray) -> None:
    assert refusal(quotes, value) == f"size is {value!r}: it must be a whole number from 0 to {LARGEST}"


@pytest.mark.parametrize("value", [-1, LARGEST + 1, 2**63 - 1, -(2**63)])
def test_one_of_the_sizes_that_is_none(value: int) -> None:
    sizes = np.arange(7)
    sizes[4] = value
    expected = f"size[4] is {value}: it must be a whole number from 0 to {LARGEST}"
    assert {refusal(size=sizes), refusal(size=sizes, resting=False)} == {expected}
    unsigned = np.arange(7, dtype=np.uint64)
    unsigned[2] = 2**64 - 1
    assert refusal(size=unsigned).startswith("size[2] is 18446744073709551615: it must be ")


@pytest.mark.parametrize("value", [math.nan, math.inf, -2e12, 2e12])
def test_one_of_the_references_that_is_none(value: float) -> None:
    references = np.arange(7.0)
    references[3] = value
    expected = f"reference_price[3] is {value!r}: it must be a number from -1e+12 to 1e+12"
    assert {refusal(reference_price=references), refusal(reference_price=references, resting=False)} == {expected}


@pytest.mark.parametrize(
    "array",
    [np.zeros(7, kind) for kind in (complex, object, bool, str, "M8[s]", "m8[s]")]
    + [np.zeros(6, int), np.zeros(8, int), np.zeros((7, 1), int), np.zeros((1, 7), int), np.zeros(0, int)],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
@pytest.mark.parametrize("name", ["size", "reference_price"])
def test_numbers_for_each_snapshot_of_another_kind(name: str, array: np.ndarray) -> None:
    given = f"{name} is an array of {array.dtype} with shape {array.shape}: it must be a number, or a plain array of "
    kind = "int64" if name == "size" else "float64"
    assert refusal(**{name: array}) == f"{given}{kind} with shape (7,)"


def test_sizes_that_are_floats_or_masked() -> None:
    assert refusal(size=np.arange(7.0)).startswith("size is an array of float64 with shape (7,): ")
    for name in ("size", "reference_price"):
        masked = np.ma.masked_array(np.arange(7), [0] * 7)
        assert refusal(**{name: masked}).startswith(f"{name} is a masked array of int64 with shape (7,): ")


@pytest.mark.parametrize("quotes", [QUOTES, QUOTES[:0]], ids=["seven", "none"])
@pytest.mark.parametrize("resting", [True, False])
def test_the_other_arguments(quotes: np.ndarray, resting: bool) -> None:
    for i, name in enumerate(["lambda_over", "lambda_under", "theta_queue"]):
        penalties = [*PENALTIES[:i], math.nan, *PENALTIES[i + 1 :]]
        assert refusal(quotes, 100, *penalties, resting=resting).startswith(f"{name} is nan: it must be a number")
    assert refusal(quotes, step=0, resting=resting).startswith("step is 0: it must be a whole number from 1 ")
    assert refusal(quotes, reference_price="1", resting=resting).startswith("reference_price is '1': it must be ")
    for threads in (0, -1, 1.5, 1025, True, "2", None):
        expected = f"threads is {threads!r}: it must be a whole number from 1 to 1024"
        assert refusal(quotes, threads=threads, resting=resting) == expected


@pytest.mark.parametrize("resting", ["no", 0, 1, None, np.bool_(False)])
def test_resting_is_true_or_false(resting: Any) -> None:
    assert refusal(resting=resting) == f"resting is {resting!r}: it must be True or False"


def test_an_error_in_a_thread_is_raised(on_each_twin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(on_each_twin, "allocate_many", fails)
    with pytest.raises(MemoryError):
        allocate_many(QUOTES, 100, *PENALTIES, threads=2)
