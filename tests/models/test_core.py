"""The kernels: one twin against the other bit for bit, and both against truth worked out here by other means.

Truth is (1) the formula in exact rational arithmetic, tried on every split of the search space, (2) HiGHS on a
mixed-integer programme, (3) sorting and linear programming for displayed shares.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from strategies import Case, cases, cents, market_cases, mills, reals, whole_cases

from sor import Level2Venue, Venue

Twins = tuple[ModuleType, ModuleType]

LIMIT = 1e12
SMALL = [(1, 5), (2, 9), (2, 150), (3, 5), (4, 3), (5, 2)]  # (venues, most steps) small enough for exact arithmetic
MEDIUM = [(1, 9), (2, 300), (3, 40), (4, 9), (5, 5), (6, 4)]  # small enough to enumerate in floats
LARGE = [(1, 9), (2, 200), (3, 40), (6, 40), (12, 50)]
HUGE = [*LARGE, (3, 10**12), (6, 2**53 - 1), (20, 10**6)]


# --- calls, and comparison by bits -----------------------------------------------------------------------------------


def cost_of(core: ModuleType, case: Case, split: list[float]) -> float:
    return core.cost(np.array(split, dtype=float), case.quotes, case.order_size, *case.penalties, case.reference)


def allocated(core: ModuleType, case: Case) -> tuple[list[int], float]:
    return core.allocate(case.quotes, case.order_size, *case.penalties, case.step, case.reference)


def enumerated(core: ModuleType, case: Case) -> tuple[list[int], float]:
    total = case.order_size
    return core.exhaustive(case.quotes, total, total, *case.penalties, case.step, case.reference, True)


def enumerated_displayed(core: ModuleType, case: Case) -> tuple[list[int], float]:
    """The enumeration of what `sweep` chooses from: whole displayed shares, as many as there are."""
    total = min(case.order_size, sum(math.floor(row[1]) for row in case.rows))
    return core.exhaustive(case.quotes, total, case.order_size, *case.penalties, 1, case.reference, False)


def swept(core: ModuleType, case: Case) -> tuple[list[int], float]:
    return core.sweep(case.quotes, case.order_size, *case.penalties, case.reference)


def bits(answer: Any) -> Any:
    """Two answers have the same bits where these are equal: 0.0 differs from -0.0, and 1 from 1.0."""
    if isinstance(answer, float):
        return answer.hex()
    if isinstance(answer, (list, tuple)):
        return [bits(part) for part in answer]
    return type(answer).__name__, answer


# --- truth: the formula in exact arithmetic --------------------------------------------------------------------------


class Formula:
    """MODEL.md's cost of a split as a fraction, and the sum of the absolute values of its terms."""

    def __init__(self, case: Case) -> None:
        self.rows = [tuple(map(Fraction, row)) for row in case.rows]
        self.order_size = Fraction(case.order_size)
        self.over, self.under, self.queue = map(Fraction, case.penalties)
        self.reference = Fraction(case.reference)
        self.at_venue = cache(self._at_venue)

    def _at_venue(self, i: int, q: float) -> tuple[Fraction, Fraction, Fraction]:
        """(executed, cash, sum of the absolute terms) at venue i."""
        price, size, fee, rebate = self.rows[i]
        sent = Fraction(q)
        done = min(sent, size)
        cash = done * (price - self.reference + fee) - (sent - done) * rebate
        return done, cash, done * (abs(price) + abs(self.reference) + abs(fee)) + (sent - done) * abs(rebate)

    def cost(self, split: Any) -> Fraction:
        parts = [self.at_venue(i, q) for i, q in enumerate(split)]
        executed = sum(part[0] for part in parts)
        under, over = max(self.order_size - executed, 0), max(executed - self.order_size, 0)
        return sum(part[1] for part in parts) + self.queue * (under + over) + self.under * under + self.over * over

    def terms(self, split: Any) -> Fraction:
        parts = [self.at_venue(i, q) for i, q in enumerate(split)]
        gap = self.order_size + sum(part[0] for part in parts)
        return sum(part[2] for part in parts) + gap * (abs(self.over) + abs(self.under) + abs(self.queue))

    def gross(self) -> Fraction:
        """Upper bound on the terms of any complete split: the scale on which doubles can tell two costs apart."""
        share = max(abs(price) + abs(fee) + abs(rebate) for price, _, fee, rebate in self.rows)
        return self.order_size * (share + abs(self.reference) + abs(self.under) + abs(self.queue))


def compositions(steps: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write `steps` as an ordered sum of `parts` non-negative numbers, in lexicographic order."""
    for bars in itertools.combinations(range(steps + parts - 1), parts - 1):
        edges = (-1, *bars, steps + parts - 1)
        yield tuple(right - left - 1 for left, right in itertools.pairwise(edges))


def search_space(case: Case) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(venue that carries the remainder, split) of every split of the order; without a remainder the venue is 0."""
    steps, remainder = divmod(case.order_size, case.step)
    for carrier in range(len(case.rows) if remainder else 1):
        for parts in compositions(steps, len(case.rows)):
            yield carrier, tuple(m * case.step + remainder * (i == carrier) for i, m in enumerate(parts))


def test_the_truth_itself_on_a_small_case() -> None:
    assert list(compositions(2, 2)) == [(0, 2), (1, 1), (2, 0)]
    assert list(compositions(0, 1)) == [(0,)]
    case = Case([(10.0, 3.0, 0.5, 0.25), (11.0, 1.0, 0.0, 0.125)], 5, 2.0, 1.0, 0.5, 2, 9.0)
    splits = {split for _, split in search_space(case)}
    assert splits == {(5, 0), (3, 2), (1, 4), (0, 5), (2, 3), (4, 1)}
    # (4, 1): 3 and 1 executed, 1 rests at the first venue, 1 is missing.
    assert Formula(case).cost((4, 1)) == 3 * 1.5 + 2 - 0.25 + 1.0 + 0.5
    plenty = case._replace(rows=[(10.0, 9.0, 0.5, 0.25)])
    assert Formula(plenty).cost((7,)) == 7 * 1.5 + 2 * (2.0 + 0.5)


# --- one twin against the other, bit for bit -------------------------------------------------------------------------


@given(case=cases(HUGE), data=st.data())
def test_twins_agree_on_cost(twins: Twins, case: Case, data: st.DataObject) -> None:
    """Of any split: below, at and above the order, with fractions of a share."""
    part = st.integers(0, 2 * case.order_size).map(float) | st.floats(0, 2.0 * case.order_size) | st.just(0.0)
    split = data.draw(st.lists(part, min_size=len(case.rows), max_size=len(case.rows)))
    python, cython = (cost_of(core, case, split) for core in twins)
    assert bits(python) == bits(cython)


def test_cost_of_no_venues_is_that_of_trading_nothing(core: ModuleType) -> None:
    assert cost_of(core, Case([], 100, 0.01, 0.005, 0.002, 1, 0.0), []) == 0.002 * 100 + 0.005 * 100


@pytest.mark.parametrize(
    ("solver", "shapes"), [(allocated, HUGE), (enumerated, MEDIUM), (swept, HUGE)], ids=["allocate", "all", "sweep"]
)
@given(data=st.data())
def test_twins_agree_on_the_answer(
    twins: Twins, solver: Callable[..., Any], shapes: list[tuple[int, int]], data: st.DataObject
) -> None:
    case = data.draw(cases(shapes))
    python, cython = (solver(core, case) for core in twins)
    assert bits(python) == bits(cython)


@given(case=market_cases(HUGE))
def test_twins_agree_on_everyday_orders(twins: Twins, case: Case) -> None:
    python, cython = (allocated(core, case) for core in twins)
    assert bits(python) == bits(cython)


@pytest.mark.parametrize("solver", [allocated, enumerated, swept])
@settings(max_examples=300)
@given(data=st.data())
def test_twins_agree_where_the_last_bit_decides(twins: Twins, solver: Callable[..., Any], data: st.DataObject) -> None:
    """Tenths are not exact in a double: many splits tie but for rounding, which must be the same."""
    case = data.draw(whole_cases([(2, 20), (3, 10), (4, 6)], most=6))
    case = case._replace(
        rows=[(price / 10, size, fee / 10, rebate / 10) for price, size, fee, rebate in case.rows],
        **{name: getattr(case, name) / 10 for name in ("over", "under", "queue", "reference")},
    )
    python, cython = (solver(core, case) for core in twins)
    assert bits(python) == bits(cython)


@given(case=market_cases([(1, 6), (2, 60), (3, 12), (4, 6)]).map(lambda case: case._replace(step=1)))
def test_twins_agree_on_enumerated_displayed_shares(twins: Twins, case: Case) -> None:
    case = case._replace(order_size=min(case.order_size, 60 if len(case.rows) == 2 else 12))
    python, cython = (enumerated_displayed(core, case) for core in twins)
    assert bits(python) == bits(cython)


@pytest.mark.parametrize(
    ("rows", "order_size", "under", "step", "split"),
    [
        pytest.param([(0.0, 1.0), (2.0, 0.0)], 4, 0.0, 1, [4, 0], id="all is free, the later venue too"),
        pytest.param([(0.0, 7.0), (0.0, 2.0), (0.1, 0.0)], 10, 0.0, 2, [10, 0, 0], id="the same with three"),
        pytest.param([(0.3, 2.0), (0.1, 2.0)], 10, 0.3, 5, [0, 10], id="the step across the break is rounded down"),
        pytest.param([(0.1, 5.0), (0.1, 9.0), (0.0, 3.0)], 21, 0.1, 7, [14, 0, 7], id="at two venues"),
        pytest.param([(0.0, 2.0), (0.01, 13.0)], 15, 0.01, 7, [15, 0], id="and with a remainder"),
    ],
)
def test_ties_that_random_cases_seldom_have(
    core: ModuleType, rows: list[Any], order_size: int, under: float, step: int, split: list[int]
) -> None:
    """A search that ends as soon as nothing cheaper can come, or that sorts runs by rounded slopes, finds others."""
    case = Case([(*row, 0.0, 0.0) for row in rows], order_size, 0.0, under, 0.0, step, 0.0)
    assert allocated(core, case)[0] == split


BESIDE_THE_LIMIT = [LIMIT, -LIMIT, math.nextafter(LIMIT, math.inf), math.nextafter(-LIMIT, -math.inf)]
ODD = [*BESIDE_THE_LIMIT, math.nan, -math.nan, math.inf, -math.inf, -0.0, -5e-324, -1.0]


@pytest.mark.parametrize("number", ODD)
@pytest.mark.parametrize("column", range(4))
def test_find_unusable(core: ModuleType, column: int, number: float) -> None:
    """In any row; a worse one further down changes nothing."""
    usable = abs(number) <= LIMIT and (column != 1 or number >= 0)
    for row in range(4):
        quotes = np.ones((4, 4))
        quotes[row, column] = number
        assert core.find_unusable(quotes, LIMIT) == (-1 if usable else row)
        quotes[row + 1 :] = math.nan
        assert core.find_unusable(quotes, LIMIT) == (row if not usable else row + 1 if row < 3 else -1)


def test_nothing_is_unusable_where_there_is_nothing(core: ModuleType) -> None:
    assert core.find_unusable(np.empty((0, 4)), LIMIT) == -1


NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**60), 2**60)


@pytest.mark.parametrize("number", [np.float64(1.0), np.int32(1), Fraction(1), True, "1", None])
@pytest.mark.parametrize("name", ["ask", "ask_size", "fee", "rebate"])
def test_pack_leaves_what_is_no_plain_number_to_the_caller(core: ModuleType, name: str, number: Any) -> None:
    venue = SimpleNamespace(**{"ask": 1.0, "ask_size": 1.0, "fee": 0.0, "rebate": 0.0, name: number})
    with pytest.raises(TypeError):
        core.pack([venue], np.empty((1, 4)), Venue(0.0, 0.0, 0.0, 0.0))
    price, size = (number, 1.0) if name == "ask" else (1.0, number)
    venue.levels = [(price, size)] if name in ("ask", "ask_size") else [(1.0, 1.0)]
    with pytest.raises(TypeError):
        core.pack_levels([venue], [1], np.empty((1, 4)), Level2Venue("", (), 0.0, 0.0))


@pytest.mark.parametrize("counts", [[0, 2], [1, 0], [2, 0], [1, 2], [2, 1]])
def test_levels_that_are_more_or_fewer_than_counted(core: ModuleType, counts: list[int]) -> None:
    """What iterates over more than its length would be written behind the array."""
    venues = [SimpleNamespace(levels=[(1.0, 1.0)], fee=0.0, rebate=0.0)] * 2
    with pytest.raises(ValueError, match="levels than counted"):
        core.pack_levels(venues, counts, np.empty((sum(counts), 4)), Level2Venue("", (), 0.0, 0.0))


PLAIN = {"pack": Venue(0.0, 0.0, 0.0, 0.0), "pack_levels": Level2Venue("", (), 0.0, 0.0)}


def packed(core: ModuleType, name: str, venues: list[Any], count: int) -> list[Any]:
    """The rows written, and whether a venue may have rules, as of all others."""
    quotes = np.full((count, 4), math.nan)
    counts = [[len(venue.levels) for venue in venues]] if name == "pack_levels" else []
    ruled = getattr(core, name)(venues, *counts, quotes, PLAIN[name])
    return bits([*quotes.tolist(), ruled])


@given(rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=6), others=st.booleans())
def test_pack(twins: Twins, rows: list[tuple[Any, ...]], others: bool) -> None:
    kind = SimpleNamespace if others else Venue
    venues = [kind(ask=row[0], ask_size=row[1], fee=row[2], rebate=row[3]) for row in rows]
    expected = bits([*([float(number) for number in row] for row in rows), others and bool(rows)])
    assert [packed(core, "pack", venues, len(rows)) for core in twins] == [expected, expected]


@given(
    books=st.lists(st.tuples(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4), NUMBERS, NUMBERS), max_size=4),
    container=st.sampled_from([list, tuple]),
    others=st.booleans(),
)
def test_pack_levels(twins: Twins, books: list[Any], container: type, others: bool) -> None:
    kind = SimpleNamespace if others else Level2Venue
    venues = [kind(venue_id="", levels=container(levels), fee=fee, rebate=rebate) for levels, fee, rebate in books]
    rows = [(price, size, fee, rebate) for levels, fee, rebate in books for price, size in levels]
    expected = bits([*([float(number) for number in row] for row in rows), others and bool(books)])
    assert [packed(core, "pack_levels", venues, len(rows)) for core in twins] == [expected, expected]


@given(groups=st.lists(st.lists(st.integers(0, 2**53), max_size=4), max_size=6))
@example(groups=[[], [1, 2], [], [3]])
def test_per_venue(twins: Twins, groups: list[list[int]]) -> None:
    fills, counts = [fill for group in groups for fill in group], [len(group) for group in groups]
    expected = bits([sum(group) for group in groups])
    assert [bits(core.per_venue(fills, counts)) for core in twins] == [expected, expected]


# --- against the formula and its exact optimum -----------------------------------------------------------------------


@given(case=cases(HUGE), data=st.data())
def test_cost_is_the_formula(core: ModuleType, case: Case, data: st.DataObject) -> None:
    part = st.integers(0, 2 * case.order_size).map(float) | st.floats(0, 2.0 * case.order_size) | st.just(0.0)
    split = data.draw(st.lists(part, min_size=len(case.rows), max_size=len(case.rows)))
    truth = Formula(case)
    assert abs(Fraction(cost_of(core, case, split)) - truth.cost(split)) <= truth.terms(split) / 10**14 + 5e-324


@pytest.mark.parametrize("solver", [allocated, enumerated])
@given(data=st.data())
def test_the_optimum_of_any_case(core: ModuleType, solver: Callable[..., Any], data: st.DataObject) -> None:
    """No split is cheaper by more than doubles can tell where the terms are as large as the largest of the case."""
    case = data.draw(cases(SMALL))
    truth = Formula(case)
    space = {split for _, split in search_space(case)}
    split, cost = solver(core, case)
    assert tuple(split) in space
    assert bits(cost) == bits(cost_of(core, case, split))
    least = min(map(truth.cost, space))
    assert truth.cost(split) - least <= truth.gross() / 10**12


@pytest.mark.parametrize("solver", [allocated, enumerated])
@given(data=st.data())
def test_the_optimum_of_everyday_orders(core: ModuleType, solver: Callable[..., Any], data: st.DataObject) -> None:
    """With prices in cents and fees in mills the answer is as good as the terms of the optimum itself allow."""
    case = data.draw(market_cases(SMALL))
    truth = Formula(case)
    space = {split for _, split in search_space(case)}
    split, cost = solver(core, case)
    assert tuple(split) in space
    best = min(space, key=truth.cost)
    assert truth.cost(split) - truth.cost(best) <= truth.terms(best) / 10**12
    assert abs(Fraction(cost) - truth.cost(best)) <= truth.terms(best) / 10**12


@pytest.mark.parametrize("solver", [allocated, enumerated])
@given(data=st.data())
def test_the_optimum_relative_to_itself(core: ModuleType, solver: Callable[..., Any], data: st.DataObject) -> None:
    """Where trading and missing shares cost alike nothing cancels: the cost is right to 12 digits."""
    case = data.draw(market_cases(SMALL))
    dear = data.draw(st.sampled_from([0.5, 0.999, 1.0, 1.001, 2.0]))
    case = case._replace(under=dear * max(row[0] for row in case.rows), reference=0.0)
    truth = Formula(case)
    _, cost = solver(core, case)
    least = min(truth.cost(split) for _, split in search_space(case))
    assert abs(Fraction(cost) - least) <= least / 10**12


@given(data=st.data(), venues=st.integers(2, 6), steps=st.integers(0, 24), step=st.integers(1, 500))
def test_an_order_that_just_fits_the_display_is_filled(
    core: ModuleType, data: st.DataObject, venues: int, steps: int, step: int
) -> None:
    """Any point of the search space is found: one split alone earns a dollar a share, all others less."""
    parts = data.draw(st.lists(st.integers(0, steps), min_size=venues, max_size=venues))
    planted = [part * step for part in parts]
    planted[data.draw(st.integers(0, venues - 1))] += data.draw(st.integers(0, step - 1))
    rows = [(10.0, float(size), 0.0, 0.0) for size in planted]
    case = Case(rows, sum(planted), 0.0, 1.0, 0.0, step, 11.0)
    assert allocated(core, case) == (planted, -float(sum(planted)))
    if venues <= 3:
        assert enumerated(core, case) == (planted, -float(sum(planted)))


def least_cost(case: Case) -> float:
    """By a (min,+) dynamic programme over the venues of a case in whole numbers; exact, and good for any mix of them.

    In a complete split cost = sum g(q), with g(q) = e (p + f) + (q - e)(lambda_under + theta_queue - r).
    """
    steps, remainder = divmod(case.order_size, case.step)
    grid = np.arange(steps + 1.0) * case.step

    def costs(row: tuple[float, float, float, float], q: np.ndarray) -> np.ndarray:
        price, size, fee, rebate = row
        e = np.minimum(q, size)
        return e * (price - case.reference + fee) + (q - e) * (case.under + case.queue - rebate)

    def plus(before: np.ndarray, here: np.ndarray) -> np.ndarray:
        return np.array([(before[: total + 1] + here[total::-1]).min() for total in range(steps + 1)])

    without, placed = costs(case.rows[0], grid), costs(case.rows[0], grid + remainder)
    for row in case.rows[1:]:
        here, carrying = costs(row, grid), costs(row, grid + remainder)
        without, placed = plus(without, here), np.minimum(plus(placed, here), plus(without, carrying))
    return float(placed[-1])


@pytest.mark.parametrize("solver", [allocated, enumerated])
@pytest.mark.parametrize("resting", [0, 1], ids=["", "and a venue that gets none"])
def test_every_split_of_a_hundred_and_thirty_steps_is_seen(
    core: ModuleType, solver: Callable[..., Any], resting: int
) -> None:
    """One after the other they are the only best one."""
    for first in range(131):
        rows = [(10.0, 7.0 * first, 0.0, 0.0), (10.0, 7.0 * (130 - first), 0.0, 0.0)]
        case = Case([(20.0, 1.0, 0.0, 0.0)] * resting + rows, 910, 0.0, 1.0, 0.0, 7, 11.0)
        if resting and solver is enumerated and first % 16:
            continue
        assert solver(core, case) == ([0] * resting + [7 * first, 7 * (130 - first)], -910.0)


@given(case=whole_cases([(1, 9), (2, 60), (4, 40), (7, 25), (10, 12)], most=40, max_step=9))
def test_the_optimum_over_more_venues(core: ModuleType, case: Case) -> None:
    split, cost = allocated(core, case)
    assert (sum(split), sum(q % case.step for q in split)) == (case.order_size, case.order_size % case.step)
    assert min(split) >= 0
    assert cost == least_cost(case) == Formula(case).cost(split)


@given(case=whole_cases([(2, 12), (3, 20), (5, 20), (8, 9)], most=6), power=st.integers(1, 45))
def test_a_larger_unit_changes_nothing(core: ModuleType, case: Case, power: int) -> None:
    """Order, step and sizes times a power of two: so is the split, at any size of the order."""
    factor = 2**power
    rows = [(price, size * factor, fee, rebate) for price, size, fee, rebate in case.rows]
    larger = case._replace(rows=rows, order_size=case.order_size * factor, step=case.step * factor)
    split, cost = allocated(core, case)
    assert allocated(core, larger) == ([q * factor for q in split], cost * factor)


@given(case=whole_cases([(2, 12), (3, 20), (5, 20), (8, 9)], most=6), power=st.integers(1, 45))
def test_a_finer_grid_costs_no_more(core: ModuleType, case: Case, power: int) -> None:
    """Share by share, at any size of the order."""
    factor = 2**power
    rows = [(price, size * factor + 1, fee, rebate) for price, size, fee, rebate in case.rows]
    coarse = case._replace(rows=rows, order_size=case.order_size * factor, step=case.step * factor)
    fine = coarse._replace(step=1)
    truth = Formula(fine)
    assert truth.cost(allocated(core, fine)[0]) <= truth.cost(allocated(core, coarse)[0])


@given(
    rows=st.lists(
        st.tuples(cents(1_000, 1_100), st.integers(0, 2**50).map(float), mills(-10, 30), mills(-10, 30)),
        min_size=1,
        max_size=12,
    ),
    order_size=st.integers(0, 2**53),
)
def test_the_largest_orders_share_by_share(core: ModuleType, rows: list[Any], order_size: int) -> None:
    """Where missing a share is dearer than any price, the cheapest pieces are taken until the order is full."""
    case = Case(rows, order_size, 0.01, 20.0, 0.002, 1, 0.0)
    truth = Formula(case)
    pieces = [(price + fee, size) for price, size, fee, _ in truth.rows]
    pieces += [(truth.under + truth.queue - rebate, truth.order_size) for _, _, _, rebate in truth.rows]
    least, left = Fraction(0), truth.order_size
    for slope, most in sorted(pieces):
        least += slope * min(left, most)
        left -= min(left, most)
    split, _ = allocated(core, case)
    assert sum(split) == order_size
    assert 0 <= truth.cost(split) - least <= least / 10**14


@given(case=whole_cases([(1, 6), (2, 12), (3, 6), (4, 4)]))
def test_the_tie_rule_of_allocate(core: ModuleType, case: Case) -> None:
    """From the last venue to the second: preferably without the remainder, then with the fewest shares."""
    truth = Formula(case)
    space = list(search_space(case))
    least = min(truth.cost(split) for _, split in space)

    def rank(choice: tuple[int, tuple[int, ...]]) -> list[tuple[bool, int]]:
        carrier, split = choice
        return [(carrier == i, split[i]) for i in range(len(split) - 1, 0, -1)]

    chosen = min((choice for choice in space if truth.cost(choice[1]) == least), key=rank)
    assert allocated(core, case) == (list(chosen[1]), least)


@given(case=whole_cases([(1, 6), (2, 12), (2, 150), (3, 6), (4, 4)]))
def test_the_tie_rule_of_the_enumeration(core: ModuleType, case: Case) -> None:
    """The first carrier of the remainder, then the first split in lexicographic order."""
    truth = Formula(case)
    best = min(search_space(case), key=lambda choice: (truth.cost(choice[1]), choice))
    assert enumerated(core, case) == (list(best[1]), truth.cost(best[1]))


TWO_ALIKE = [(10.0, 4.0, 0.0, 0.0)] * 2


@pytest.mark.parametrize(
    ("rows", "order_size", "step", "under", "expected"),
    [
        pytest.param(TWO_ALIKE, 4, 1, 20.0, [4, 0], id="alike: the later one gets the fewest"),
        pytest.param(TWO_ALIKE, 6, 1, 20.0, [4, 2], id="no more at the first than is displayed"),
        pytest.param(TWO_ALIKE, 9, 1, 20.0, [5, 4], id="what rests stays with the first as well"),
        pytest.param(TWO_ALIKE * 2, 4, 1, 20.0, [4, 0, 0, 0], id="four alike"),
        pytest.param(TWO_ALIKE, 9, 2, 20.0, [5, 4], id="the remainder stays with the first"),
        pytest.param(TWO_ALIKE, 3, 2, 20.0, [3, 0], id="the remainder joins the step"),
        pytest.param([(10.0, 4.0, 0.0, 0.0), (10.0, 3.0, 0.0, 0.0)], 7, 2, 20.0, [4, 3], id="unless it fits only here"),
        pytest.param([(10.0, 0.0, 0.0, 0.0)] * 3, 5, 2, 1.0, [5, 0, 0], id="nothing displayed"),
        pytest.param(TWO_ALIKE, 9, 3, 10.0, [9, 0], id="executed or missing, all the same"),
        pytest.param([(11.0, 4.0, 0.0, 0.0), *TWO_ALIKE], 4, 1, 20.0, [0, 4, 0], id="the cheaper first, then order"),
        pytest.param(
            [(1.0, 2.0, 0.0, -5.0), (10.0, 1.0, 0.0, 0.0), (10.0, 0.0, 0.0, -20.0)],
            *(4, 1, 1.0, [2, 2, 0]),
            id="beyond the display: a share at the first costs what it costs at the second, up to two",
        ),
    ],
)
def test_ties_by_example(
    core: ModuleType, rows: list[Any], order_size: int, step: int, under: float, expected: list[int]
) -> None:
    case = Case(rows, order_size, 0.0, under, 0.0, step, 0.0)
    assert allocated(core, case)[0] == expected


@given(case=whole_cases([(2, 12), (3, 40), (4, 20)]))
def test_a_cost_common_to_all_shares_changes_no_choice(core: ModuleType, case: Case) -> None:
    """Not even one so large that sums with it would lose the pennies that decide."""
    dear = [(price + 2.0**50, size, fee, rebate) for price, size, fee, rebate in case.rows]
    shifted = case._replace(rows=dear, under=case.under + 2.0**50)
    assert allocated(core, shifted)[0] == allocated(core, case)[0]


@given(case=cases(HUGE), over=reals(1e6))
def test_the_overfill_penalty_plays_no_part_in_a_complete_split(core: ModuleType, case: Case, over: float) -> None:
    assert bits(allocated(core, case)) == bits(allocated(core, case._replace(over=over)))


@pytest.mark.parametrize(("venues", "steps", "remainder"), [(2, 0, 0), (2, 70, 3), (3, 9, 0), (3, 9, 6), (5, 4, 1)])
def test_the_enumeration_costs_each_split_once(
    monkeypatch: pytest.MonkeyPatch, venues: int, steps: int, remainder: int
) -> None:
    """C(n+k-1, k-1) of them, k times as many with a remainder; seen in the twin that can be looked into."""
    from sor import _core_py

    penalised, seen = _core_py.penalised, []
    monkeypatch.setattr(_core_py, "penalised", lambda spent, *rest: seen.append(spent) or penalised(spent, *rest))
    # Unlike powers of two as prices tell any two splits by their cash.
    rows = [(float(1024**i), 1e9, 0.0, 0.0) for i in range(venues)]
    case = Case(rows, 7 * steps + remainder, 0.0, 0.0, 0.0, 7, 0.0)
    _, cost = enumerated(_core_py, case)
    assert seen.pop() == cost  # the answer's own
    space = list(search_space(case))
    assert len(space) == math.comb(steps + venues - 1, venues - 1) * (venues if remainder else 1)
    assert sorted(seen) == sorted(float(Formula(case).cost(split)) for _, split in space)


# --- HiGHS as a judge where enumeration is out of reach --------------------------------------------------------------


def highs_split(case: Case) -> tuple[list[int], float]:
    """A split that HiGHS finds optimal, and the bound below which it proves that there is none.

    Variables by venue: steps m (whole), carrier x (0 or 1), executed shares e, beyond b (0 or 1): with
    q = step m + R x and e <= min(q, a), e must be q where b = 0 and a where b = 1.
    """
    k = len(case.rows)
    steps, remainder = divmod(case.order_size, case.step)
    price, size, fee, rebate = case.quotes.T
    rest = case.under + case.queue - rebate
    eye, none = np.eye(k), np.zeros((k, k))
    sent = np.hstack([case.step * eye, remainder * eye])
    one = np.ones((1, k))
    rows = [
        (np.hstack([one, 0 * one, 0 * one, 0 * one]), steps, steps),
        (np.hstack([0 * one, one, 0 * one, 0 * one]), int(remainder > 0), int(remainder > 0)),
        (np.hstack([sent, -eye, none]), 0, np.inf),  # e <= q
        (np.hstack([-sent, eye, case.order_size * eye]), 0, np.inf),  # e >= q - S b
        (np.hstack([none, none, eye, -np.diag(size)]), 0, np.inf),  # e >= a b
    ]
    objective = np.concatenate([case.step * rest, remainder * rest, price - case.reference + fee - rest, 0 * size])
    answer = milp(
        objective,
        integrality=np.repeat([1, 1, 0, 1], k),
        bounds=Bounds(np.zeros(4 * k), np.concatenate([np.full(k, steps), np.ones(k), size, np.ones(k)])),
        constraints=[LinearConstraint(matrix, low, high) for matrix, low, high in rows],
        options={"mip_rel_gap": 0.0},
    )
    assert answer.status == 0, answer.message
    whole = np.rint(answer.x[: 2 * k]).astype(int)
    return (case.step * whole[:k] + remainder * whole[k:]).tolist(), answer.mip_dual_bound


def ten_venues(seed: int, remainder: int, under: float, *, whole_notional: bool = False) -> Case:
    rng = np.random.default_rng(seed)
    ticks, lots, fees, rebates = rng.integers(0, [5, 9, 31, 31], (10, 4)).T
    rows = list(zip(22.10 + ticks / 100, 100.0 * lots, fees / 10_000, rebates / 10_000, strict=True))
    rows = [tuple(float(number) for number in row) for row in rows]
    return Case(rows, 5000 + remainder, 0.01, under, 0.002, 100, 0.0 if whole_notional else 22.10)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(ten_venues(1, 0, 0.05), id="shortfall"),
        pytest.param(ten_venues(2, 50, 0.05), id="shortfall, remainder"),
        pytest.param(ten_venues(3, 50, 0.02), id="some rest though displayed"),
        pytest.param(ten_venues(4, 50, 0.005), id="default penalties"),
        pytest.param(ten_venues(5, 50, 0.005, whole_notional=True), id="notional"),
        pytest.param(ten_venues(6, 50, 25.0, whole_notional=True), id="notional, dear to miss"),
        pytest.param(ten_venues(7, 50, -0.02), id="paid to miss"),
    ],
)
def test_highs_finds_nothing_better(core: ModuleType, case: Case) -> None:
    split, cost = allocated(core, case)
    assert sum(split) == case.order_size
    judged, bound = highs_split(case)
    assert sum(judged) == case.order_size
    judged_cost = cost_of(core, case, [float(q) for q in judged])
    assert cost <= judged_cost + 1e-12 * abs(judged_cost)
    # The programme is the same problem: its own answer is as good, within the tolerances of a branch and bound.
    assert judged_cost - cost <= 2e-3
    assert bound == pytest.approx(cost, rel=1e-6, abs=1e-2)


# --- displayed shares only -------------------------------------------------------------------------------------------


@given(case=cases(HUGE))
def test_sweep_is_the_order_of_price_and_fee(core: ModuleType, case: Case) -> None:
    order = sorted(range(len(case.rows)), key=lambda i: (case.rows[i][0] + case.rows[i][2], case.rows[i][0], i))
    expected, left = [0] * len(case.rows), case.order_size
    for i in order:
        expected[i] = min(left, math.floor(case.rows[i][1]))
        left -= expected[i]
    split, cost = swept(core, case)
    assert split == expected
    assert bits(cost) == bits(cost_of(core, case, [float(q) for q in split]))


@given(rows=st.lists(st.tuples(reals(1e3), st.integers(0, 3).map(float), reals(1.0)), min_size=20, max_size=200))
def test_sweep_of_many_levels(core: ModuleType, rows: list[Any]) -> None:
    """The heap keeps the order at any depth; few shares and equal sizes hide no wrong row."""
    rows = [(round(price, 1), size, round(fee, 1), 0.0) for price, size, fee in rows]
    order = sorted(range(len(rows)), key=lambda i: (rows[i][0] + rows[i][2], rows[i][0], i))
    displayed = int(sum(row[1] for row in rows))
    for size in (displayed // 3, displayed, displayed + 7):
        left, expected = size, [0] * len(rows)
        for i in order:
            expected[i] = min(left, int(rows[i][1]))
            left -= expected[i]
        assert swept(core, Case(rows, size, 0.0, 0.0, 0.0, 1, 0.0))[0] == expected


@given(case=market_cases(LARGE))
def test_sweep_is_the_optimum_of_a_linear_programme(core: ModuleType, case: Case) -> None:
    price, size, fee, _ = case.quotes.T
    total = min(case.order_size, int(size.sum()))
    bounds = list(zip(np.zeros(len(size)), size, strict=True))
    judge = linprog(price - case.reference + fee, A_eq=np.ones((1, len(size))), b_eq=[total], bounds=bounds)
    assert judge.status == 0, judge.message
    split, cost = swept(core, case)
    assert sum(split) == total
    missing = (case.under + case.queue) * (case.order_size - total)
    scale = case.order_size * (float(np.abs(price).max()) + case.reference + 1.0)
    assert cost == pytest.approx(judge.fun + missing, rel=1e-9, abs=1e-10 * scale)


@given(case=whole_cases([(1, 9), (2, 40), (3, 9), (4, 5)]))
def test_sweep_costs_what_the_enumeration_of_displayed_shares_costs(core: ModuleType, case: Case) -> None:
    split, cost = swept(core, case)
    least_split, least = enumerated_displayed(core, case)
    assert cost == least
    assert sum(split) == sum(least_split)
    assert all(q <= size for q, (_, size, _, _) in zip(least_split, case.rows, strict=True))
    first = next(
        parts
        for parts in compositions(sum(split), len(split))
        if all(q <= row[1] for q, row in zip(parts, case.rows, strict=True)) and Formula(case).cost(parts) == least
    )
    assert least_split == list(first)


@pytest.mark.parametrize(
    ("rows", "order_size", "expected"),
    [
        pytest.param([(10.25, 5.0, 0.0, 0.0), (10.0, 5.0, 0.25, 0.0)], 5, [0, 5], id="equal sums: the lower price"),
        pytest.param([(10.0, 5.0, 0.25, 0.0), (10.0, 5.0, 0.25, 9.0)], 7, [5, 2], id="all equal: the first row"),
        pytest.param([(10.0, 5.0, 0.5, 9.0), (10.25, 5.0, 0.0, 0.0)], 5, [0, 5], id="fees decide, rebates never"),
        pytest.param([(10.0, 2.75, 0.0, 0.0), (11.0, 9.0, 0.0, 0.0)], 4, [2, 2], id="whole shares only"),
        pytest.param([(-10.0, 5.0, 0.5, 0.0), (-9.75, 5.0, 0.0, 0.0)], 5, [0, 5], id="sell: the better bid after fees"),
        pytest.param([(10.0, 5.0, 0.0, 0.0), (11.0, 3.0, 0.0, 0.0)], 10, [5, 3], id="no more than is displayed"),
        pytest.param([(10.0, 5.0, 0.0, 0.0)], 0, [0], id="nothing wanted"),
    ],
)
def test_sweep_by_example(core: ModuleType, rows: list[Any], order_size: int, expected: list[int]) -> None:
    assert swept(core, Case(rows, order_size, 0.01, 0.005, 0.002, 1, 0.0))[0] == expected


# --- the example of MODEL.md -----------------------------------------------------------------------------------------

README = [(100.10, 500.0, 0.003, 0.002), (100.11, 300.0, 0.002, 0.0015), (100.12, 800.0, 0.0025, 0.001)]
DEFAULTS = (0.01, 0.005, 0.002)


def test_the_example_of_the_model(core: ModuleType) -> None:
    """Taken literally the formula buys as little as it can; measured against the mid it buys what is displayed."""
    case = Case(README, 1000, *DEFAULTS, 100, 0.0)
    assert allocated(core, case) == ([0, 1000, 0], pytest.approx(30_037.45, rel=1e-14))
    assert enumerated(core, case) == allocated(core, case)
    assert sum(min(q, row[1]) for q, row in zip([0, 1000, 0], README, strict=True)) == 300
    assert swept(core, case)[0] == [500, 300, 200]
    dear = case._replace(reference=100.095, under=0.05)
    assert allocated(core, dear)[0] == [500, 300, 200]
