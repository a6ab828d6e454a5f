"""The kernels of the placement model: one twin against the other bit for bit, and both against the formula.

Truth is the formula in exact rational arithmetic, and every point of a line tried one by one.
"""

from __future__ import annotations

import math
from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Twins = tuple[ModuleType, ModuleType]


class Problem(NamedTuple):
    """Arguments of the kernels, in their order."""

    gains: np.ndarray
    queues: np.ndarray
    outflows: np.ndarray
    target: float
    theta: float
    under: float
    over: float

    @property
    def parts(self) -> int:
        return len(self.gains)


def sizes(whole: bool) -> st.SearchStrategy[float]:
    if whole:
        return st.integers(0, 30).map(float)
    return st.floats(0, 100) | st.floats(0, 1e12) | st.sampled_from([0.0, 1e-9, 1 / 3])


@st.composite
def problems(draw: Any, whole: bool | None = None, most_venues: int = 4, most_samples: int = 9) -> Problem:
    whole = draw(st.booleans()) if whole is None else whole
    k, n = draw(st.integers(1, most_venues)), draw(st.integers(1, most_samples))
    mills = st.integers(-60, 60).map(lambda count: count / 1000)
    penalty = st.sampled_from([0.0, 1e-6, 0.005, 0.05, 2.0])
    size = sizes(whole)
    target = st.integers(1, 20).map(float) if whole else st.floats(1e-6, 1e12) | st.floats(1, 100)
    return Problem(
        np.array(draw(st.lists(mills, min_size=k + 1, max_size=k + 1))),
        np.array(draw(st.lists(size, min_size=k, max_size=k))),
        np.array(draw(st.lists(st.lists(size, min_size=k, max_size=k), min_size=n, max_size=n))),
        draw(target),
        draw(penalty),
        draw(penalty),
        draw(penalty),
    )


@st.composite
def placements(draw: Any, problem: Problem, whole: bool = False) -> np.ndarray:
    """Parts from nothing to the whole target; often they make up the target."""
    if whole:
        part = st.integers(0, int(problem.target)).map(float)
        return np.array(draw(st.lists(part, min_size=problem.parts, max_size=problem.parts)))
    shares = st.lists(st.floats(0, 1), min_size=problem.parts, max_size=problem.parts)
    weights = np.array(draw(shares))
    if draw(st.booleans()) and weights.max() > 1e-3:
        weights = weights / weights.sum()
    return np.minimum(weights, 1.0) * problem.target


def scale_of(target: float) -> float:
    return math.ldexp(1.0, 40 - math.frexp(target)[1])


def refined(core: ModuleType, problem: Problem, starts: np.ndarray, thorough: bool, worth: float = 1e-8) -> Any:
    target = problem.target
    lengths = scale_of(target), 1e-9 * target, worth * target, target / 512
    return core.refine(starts, *problem, *lengths, 1.25, thorough)


def exact_cost(problem: Problem, placement: np.ndarray) -> Fraction:
    """The mean of formula (5)."""
    gains, queues = [[Fraction(number) for number in values.tolist()] for values in problem[:2]]
    target, theta, under, over = map(Fraction, problem[3:])
    x = [Fraction(part) for part in placement.tolist()]
    total = Fraction(0)
    for row in problem.outflows.tolist():
        room = [max(Fraction(outflow) - queue, Fraction(0)) for outflow, queue in zip(row, queues, strict=True)]
        fills = [x[0], *map(min, x[1:], room)]
        missing, excess = max(target - sum(fills), Fraction(0)), max(sum(fills) - target, Fraction(0))
        gained = sum((gain * fill for gain, fill in zip(gains, fills, strict=True)), Fraction(0))
        total += theta * (sum(x) + missing) - gained + under * missing + over * excess
    return total / len(problem.outflows)


def cost_of(core: ModuleType, problem: Problem, placement: np.ndarray, per_sample: np.ndarray, tolerance: float) -> Any:
    return core.cost(placement, *problem, tolerance, per_sample)


def bits(answer: Any) -> Any:
    """Two answers have the same bits where these are equal."""
    if isinstance(answer, float):
        return answer.hex()
    return [bits(one) for one in answer] if isinstance(answer, (list, tuple)) else answer


# --- twin against twin -----------------------------------------------------------------------------------------------


@given(st.data())
def test_costs_have_the_same_bits(placement_twins: Twins, data: st.DataObject) -> None:
    problem = data.draw(problems())
    placement = data.draw(placements(problem))
    each = [np.empty(len(problem.outflows)) for _ in placement_twins]
    python, cython = (
        cost_of(core, problem, placement, costs, 1e-9 * problem.target)
        for core, costs in zip(placement_twins, each, strict=True)
    )
    assert bits(python) == bits(cython)
    assert bits(each[0].tolist()) == bits(each[1].tolist())
    assert bits(cost_of(placement_twins[1], problem, placement, np.empty(0), 1e-9 * problem.target)) == bits(cython)


@given(st.data())
def test_iterates_have_the_same_bits(placement_twins: Twins, data: st.DataObject) -> None:
    problem = data.draw(problems(most_samples=30))
    start = data.draw(placements(problem))
    gamma = data.draw(st.floats(0, 10)) * problem.target
    python, cython = (core.stochastic(start, *problem, gamma) for core in placement_twins)
    assert bits(python) == bits(cython)
    assert all(0.0 <= part <= problem.target * (1 + 1e-12) for part in python)


@given(st.data())
def test_descents_have_the_same_bits(placement_twins: Twins, data: st.DataObject) -> None:
    problem = data.draw(problems(most_samples=40))
    starts = np.array([data.draw(placements(problem)) for _ in range(data.draw(st.integers(1, 3)))])
    thorough = data.draw(st.booleans())
    python, cython = (refined(core, problem, starts, thorough) for core in placement_twins)
    assert bits(python) == bits(cython)


@pytest.mark.parametrize(
    ("venues", "samples", "target"), [(12, 150, 5_000), (3, 700, 1_000), (1, 65, 500.1), (5, 64, 7)]
)
def test_descents_of_everyday_size_have_the_same_bits(
    placement_twins: Twins, venues: int, samples: int, target: float
) -> None:
    """More samples than a word has bits, ties by the hundred, more events in a bucket than are sorted by insertion."""
    rng = np.random.default_rng(venues)
    outflows = 0.6 * rng.poisson(2200, (samples, 1)) + 0.4 * rng.poisson(2200, (samples, venues))
    gains = np.array([-0.023, *rng.uniform(0.015, 0.025, venues)])
    for flows in (outflows, np.floor(outflows), np.where(rng.random(outflows.shape) < 0.9, 2000.5, outflows)):
        problem = Problem(gains, np.full(venues, 2000.0), flows, float(target), 0.0005, 0.05, 0.05)
        starts = np.array([np.full(venues + 1, target / (venues + 1)), [target, *[0.0] * venues]])
        python, cython = (refined(core, problem, starts, True) for core in placement_twins)
        assert bits(python) == bits(cython)
        assert python[1] > 0


# --- against the formula ---------------------------------------------------------------------------------------------


@given(st.data())
def test_costs_are_the_formula(placement_twins: Twins, data: st.DataObject) -> None:
    problem = data.draw(problems())
    placement = data.draw(placements(problem))
    exact = exact_cost(problem, placement)
    size = max(problem.target, 1e-6)
    for core in placement_twins:
        costs = np.empty(len(problem.outflows))
        gained, missing, excess, below, above = cost_of(core, problem, placement, costs, 0.0)
        mean = problem.theta * (math.fsum(placement.tolist()) + missing) - gained
        mean += problem.under * missing + problem.over * excess
        assert math.isclose(mean, exact, rel_tol=1e-9, abs_tol=1e-9 * size)
        assert math.isclose(math.fsum(costs.tolist()) / len(costs), exact, rel_tol=1e-9, abs_tol=1e-9 * size)
        assert 0 <= below + above <= 1
        assert (below > 0, above > 0) == (missing > 0, excess > 0)


def line_points(problem: Problem, x: np.ndarray, i: int, j: int | None) -> list[np.ndarray]:
    """Whole placements that share all parts with x but i, or but i and j and their sum."""
    found = []
    total = problem.target if j is None else x[i] + x[j]
    for at in range(int(total) + 1):
        point = x.copy()
        point[i] = at
        if j is not None:
            point[j] = total - at
        if point.max() <= problem.target:
            found.append(point)
    return found


@settings(max_examples=40)
@given(st.data())
def test_no_line_through_a_thorough_answer_leads_lower(placement_twins: Twins, data: st.DataObject) -> None:
    """Sizes are whole, so every break of a line is, and its least point is one of those tried here."""
    problem = data.draw(problems(whole=True, most_venues=3))
    start = data.draw(placements(problem, whole=True))
    answer, _ = refined(placement_twins[1], problem, start.reshape(1, -1), True)
    x = np.array(answer)
    assert (x == np.floor(x)).all()
    here = exact_cost(problem, x)
    assert here <= exact_cost(problem, start)
    pairs = [(i, j) for i in range(problem.parts) for j in (None, *range(i)) if j != i]
    least = min(exact_cost(problem, point) for i, j in pairs for point in line_points(problem, x, i, j))
    assert here <= least + Fraction(1.01e-8 * problem.target)


@given(st.data())
def test_one_line_is_searched_exactly(placement_twins: Twins, data: st.DataObject) -> None:
    """One venue without a gain in the market order: all moves lie on three lines; leaping finds each one's least."""
    problem = data.draw(problems(whole=True, most_venues=1))
    starts = np.array([[0.0, 0.0]])
    (market, limit), _ = refined(placement_twins[1], problem, starts, True, worth=1e-12)
    here = exact_cost(problem, np.array([market, limit]))
    for other in range(int(problem.target) + 1):
        for point in ([other, limit], [market, other]):
            assert here <= exact_cost(problem, np.array(point)) + Fraction(1.01e-12 * problem.target)
