"""Hypothesis strategies: books, orders and penalties, from everyday ones to extreme ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

LARGEST_ORDER = 2**53  # shares


class Case(NamedTuple):
    """One call of a solver: rows of (price, size, fee, rebate), the order, the penalties and the grid."""

    rows: list[tuple[float, float, float, float]]
    order_size: int
    over: float
    under: float
    queue: float
    step: int
    reference: float

    @property
    def quotes(self) -> np.ndarray:
        return np.array(self.rows, dtype=np.float64).reshape(-1, 4)

    @property
    def penalties(self) -> tuple[float, float, float]:
        return self.over, self.under, self.queue


def reals(bound: float) -> st.SearchStrategy[float]:
    return st.floats(-bound, bound)


def cents(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda count: count / 100)


def mills(low: int, high: int) -> st.SearchStrategy[float]:
    """Multiples of a hundredth of a cent, the unit of fee schedules."""
    return st.integers(low, high).map(lambda count: count / 10_000)


@st.composite
def grids(draw: Any, max_steps: int) -> tuple[int, int]:
    """(order size, step): nothing, less than a step, with and without a remainder, up to the largest order."""
    step = draw(st.sampled_from([1, 2, 7, 100]) | st.integers(1, LARGEST_ORDER // (max_steps + 1)))
    steps = draw(st.integers(0, min(max_steps, LARGEST_ORDER // step - 1)))
    remainder = draw(st.just(0) | st.integers(0, step - 1))
    return steps * step + remainder, step


def sizes(order_size: int, step: int) -> st.SearchStrategy[float]:
    """Displayed sizes on and off the grid, with fractions of a share, zero, and far beyond the order."""
    return st.one_of(
        st.just(0.0),
        st.integers(0, order_size).map(float),
        st.integers(0, order_size // step).map(lambda m: float(m * step)),
        st.floats(0, max(order_size, 1)),
        st.floats(0, 1e9),
    )


def _market_rows(size: st.SearchStrategy[float], base: float) -> st.SearchStrategy[Any]:
    """Prices within a few ticks of each other, so that fees, rebates and ties decide."""
    price = st.integers(0, 4).map(lambda ticks: round(base + ticks / 100, 2))
    return st.tuples(price, size, st.sampled_from([0.003, 0.002, 0.0, -0.001]), mills(-20, 35))


def _extreme_rows(size: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    price = reals(1e6) | cents(-(10**8), 10**8)
    return st.tuples(price, size, reals(1.0) | mills(-30, 30), reals(1.0) | mills(-30, 30))


penalties = st.sampled_from([0.005, 0.01, 0.002, 0.0, -0.0, -0.5, 0.1, 25.0, 1e6]) | reals(1e3)


@st.composite
def cases(draw: Any, shapes: list[tuple[int, int]]) -> Case:
    """Any case at all; `shapes` lists the (venues, most steps) to choose from."""
    venues, max_steps = draw(st.sampled_from(shapes))
    order_size, step = draw(grids(max_steps))
    size = sizes(order_size, step)
    base = draw(cents(100, 50_000))
    row = _market_rows(size, base) if draw(st.booleans()) else _extreme_rows(size)
    rows = draw(st.lists(row, min_size=venues, max_size=venues))
    over, under, queue = draw(st.just((0.01, 0.005, 0.002)) | st.tuples(penalties, penalties, penalties))
    reference = draw(st.just(0.0) | st.just(base + 0.015) | reals(1e6))
    return Case(rows, order_size, over, under, queue, step, reference)


@st.composite
def market_cases(draw: Any, shapes: list[tuple[int, int]]) -> Case:
    """What trading looks like: prices in cents, fees and penalties in mills, whole shares."""
    venues, max_steps = draw(st.sampled_from(shapes))
    step = draw(st.sampled_from([1, 10, 100]))
    order_size = step * draw(st.integers(0, max_steps)) + draw(st.integers(0, step - 1))
    base = draw(cents(100, 50_000))
    rows = draw(
        st.lists(_market_rows(st.integers(0, order_size).map(float), base), min_size=venues, max_size=venues),
    )
    over, under, queue = draw(st.tuples(mills(0, 1000), mills(0, 1000), mills(0, 1000)))
    reference = draw(st.just(0.0) | st.just(round(base + 0.005, 3)))
    return Case(rows, order_size, over, under, queue, step, reference)


@st.composite
def whole_cases(draw: Any, shapes: list[tuple[int, int]], most: int = 2, max_step: int = 3) -> Case:
    """Small whole numbers: every sum is exact in a double, and (with `most` as low as it is) many splits tie."""
    venues, max_steps = draw(st.sampled_from(shapes))
    step = draw(st.integers(1, max_step))
    order_size = step * draw(st.integers(0, max_steps)) + draw(st.integers(0, step - 1))
    number = st.integers(-(most // 2), most).map(float)
    size = st.integers(0, order_size + 1).map(float)
    rows = draw(st.lists(st.tuples(number, size, number, number), min_size=venues, max_size=venues))
    over, under, queue, reference = draw(st.tuples(number, number, number, number))
    return Case(rows, order_size, over, under, queue, step, reference)


@st.composite
def level_books(draw: Any, max_venues: int = 5, max_levels: int = 6) -> list[tuple[list[Any], float, float]]:
    """(levels, fee, rebate) of each venue; levels in any order, some venues without one."""
    base = draw(cents(1_000, 50_000))
    price = st.integers(0, 6).map(lambda ticks: round(base + ticks / 100, 2))
    size = st.integers(0, 400) | st.floats(0, 400)
    levels = st.lists(st.tuples(price, size), max_size=max_levels)
    return draw(st.lists(st.tuples(levels, mills(-20, 30), mills(-20, 30)), min_size=1, max_size=max_venues))
