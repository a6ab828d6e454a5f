"""The split under the rules of venues: one twin against the other, and both against enumeration and HiGHS."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from strategies import cents, mills

import sor.models.static
from sor import InputError, Level2Venue, Venue, allocate, allocate_exhaustive, allocate_greedy_l2, allocate_many
from sor.models.static import compute_cost

on_one_twin = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the same for all examples
each_twin = pytest.mark.usefixtures("on_each_twin")

Twins = tuple[ModuleType, ModuleType]

MOST_CELLS = 10**7
PENALTIES = (0.01, 0.005, 0.002)
RULES = ("lot", "min_quantity", "min_notional", "min_execution", "max_quantity", "ticket", "fee_bps")
NEUTRAL = {"lot": 1, "min_quantity": 0, "min_notional": 0.0, "min_execution": 0, "ticket": 0.0}


class Post(NamedTuple):
    """A venue: levels of (price, size), a fee and rules."""

    levels: list[tuple[float, int]]
    fee: float
    rules: dict[str, Any]

    def rule(self, name: str) -> Any:
        return self.rules.get(name, NEUTRAL.get(name))

    def row(self) -> tuple[float, ...]:
        most = self.rules.get("max_quantity")
        return (*(self.rule(name) for name in RULES[:4]), math.inf if most is None else most, self.rule("ticket"), 0.0)


class Problem(NamedTuple):
    posts: list[Post]
    order_size: int
    penalties: tuple[float, float, float]
    reference: float

    def arguments(self, fill_first: bool, most_cells: int = MOST_CELLS) -> tuple[Any, ...]:
        quotes = [(price, size, post.fee, 0.0) for post in self.posts for price, size in post.levels]
        rules = np.array([post.row() for post in self.posts])
        rules[:, 2] *= 1 - 1e-12
        counts = [len(post.levels) for post in self.posts]
        quotes = np.array(quotes, float).reshape(-1, 4)
        return quotes, counts, rules, self.order_size, *self.penalties, self.reference, fill_first, most_cells


# --- truth: the rules and the cost in exact arithmetic, on every split -----------------------------------------------


def exact(number: float) -> Fraction:
    """The decimal that a number is written as."""
    return Fraction(repr(number))


def fills_of(post: Post, q: int, reference: float) -> list[int]:
    """By level: the cheapest first."""
    fills = [0] * len(post.levels)
    for i in sorted(range(len(post.levels)), key=lambda i: (post.levels[i][0], i)):
        fills[i] = min(q, post.levels[i][1])
        q -= fills[i]
    return fills


def permitted(post: Post, q: int) -> bool:
    if q == 0:
        return True
    displayed = sum(size for _, size in post.levels)
    worth = sum(abs(exact(p)) * n for (p, _), n in zip(post.levels, fills_of(post, q, 0.0), strict=True))
    most = post.rules.get("max_quantity")
    return (
        q <= displayed
        and q % post.rule("lot") == 0
        and q >= post.rule("min_quantity")
        and q >= post.rule("min_execution")
        and worth >= exact(float(post.rule("min_notional")))
        and (most is None or q <= most)
    )


def price_of(post: Post, q: int, problem: Problem) -> Fraction:
    """Ticket and cash against the reference."""
    if q == 0:
        return Fraction(0)
    fills = fills_of(post, q, problem.reference)
    cash = sum(
        (exact(price) - exact(problem.reference) + exact(post.fee)) * n
        for (price, _), n in zip(post.levels, fills, strict=True)
    )
    return exact(float(post.rule("ticket"))) + cash


def missing(problem: Problem) -> Fraction:
    return exact(problem.penalties[1]) + exact(problem.penalties[2])


def truth(problem: Problem, fill_first: bool) -> tuple[int, Fraction]:
    """(shares, cost) of the best split: of all that keep the rules, each looked at."""
    choices = [
        [(q, price_of(post, q, problem)) for q in range(problem.order_size + 1) if permitted(post, q)]
        for post in problem.posts
    ]
    best: dict[int, Fraction] = {0: Fraction(0)}
    for some in choices:
        grown: dict[int, Fraction] = {}
        for (filled, cost), (q, more) in itertools.product(best.items(), some):
            if filled + q <= problem.order_size:
                grown[filled + q] = min(cost + more, grown.get(filled + q, cost + more))
        best = grown
    costs = {filled: cost + missing(problem) * (problem.order_size - filled) for filled, cost in best.items()}
    filled = max(costs) if fill_first else min(costs, key=lambda filled: (costs[filled], -filled))
    return filled, costs[filled]


def judged(problem: Problem, fills: list[int]) -> tuple[int, Fraction]:
    """(shares, cost) of a split by level, which has to keep the rules."""
    rows, total, cost = iter(fills), 0, Fraction(0)
    for post in problem.posts:
        some = list(itertools.islice(rows, len(post.levels)))
        q = sum(some)
        assert permitted(post, q), (post, q)
        assert some == fills_of(post, q, problem.reference)
        total += q
        cost += price_of(post, q, problem)
    assert total <= problem.order_size
    return total, cost + missing(problem) * (problem.order_size - total)


# --- problems --------------------------------------------------------------------------------------------------------


def rule_sets(lots: list[int], most: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "lot": st.sampled_from(lots),
            "min_quantity": st.integers(0, most),
            "min_notional": cents(0, 1000 * most),
            "min_execution": st.integers(0, most),
            "max_quantity": st.integers(0, 2 * most) | st.none(),
            "ticket": st.sampled_from([0.0, 0.01, 0.05, 0.25, 1.0]),
        },
    )


@st.composite
def problems(draw: Any, most: int = 30, lots: tuple[int, ...] = (1, 1, 2, 5), venues: int = 4) -> Problem:
    """A few venues, few shares, prices a few cents apart; as often as not for a sale."""
    sign = draw(st.sampled_from([1, -1]))
    price = st.integers(0, 6).map(lambda ticks: round(sign * (10.0 + sign * ticks / 100), 2))
    posts = draw(
        st.lists(
            st.builds(
                Post,
                st.lists(st.tuples(price, st.integers(0, most)), min_size=1, max_size=3),
                mills(-10, 30),
                rule_sets(list(lots), most),
            ),
            min_size=1,
            max_size=venues,
        )
    )
    penalties = (0.01, draw(mills(0, 500)), 0.002)
    reference = draw(st.sampled_from([0.0, round(sign * (10.0 - sign * 0.005), 3)]))
    return Problem(posts, draw(st.integers(0, 2 * most)), penalties, reference)


WIDE = problems(most=700, lots=(1, 2, 5, 100), venues=8)


def solved(core: ModuleType, problem: Problem, fill_first: bool) -> tuple[list[int], float]:
    fills, cost, proven = core.sweep_by_rules(*problem.arguments(fill_first))
    assert proven is True
    return fills, cost


@pytest.mark.parametrize("fill_first", [True, False])
@settings(max_examples=200)
@given(problem=problems())
def test_the_optimum_of_every_split(core: ModuleType, problem: Problem, fill_first: bool) -> None:
    fills, cost = solved(core, problem, fill_first)
    total, least = truth(problem, fill_first)
    filled, paid = judged(problem, fills)
    assert paid == least
    assert filled == total or not fill_first
    assert cost == pytest.approx(float(least), rel=1e-11, abs=1e-9)


@pytest.mark.parametrize("fill_first", [True, False])
@settings(max_examples=30)
@given(problem=problems(most=250, lots=(1, 2, 5, 100), venues=4))
def test_the_optimum_with_round_lots(core: ModuleType, problem: Problem, fill_first: bool) -> None:
    """Lots that straddle levels, beside odd ones."""
    filled, paid = judged(problem, solved(core, problem, fill_first)[0])
    total, least = truth(problem, fill_first)
    assert paid == least
    assert filled == total or not fill_first


def bits(answer: Any) -> Any:
    fills, cost, proven = answer
    return fills, cost.hex(), proven


@pytest.mark.parametrize("most_cells", [MOST_CELLS, 3000, 50, 1])
@settings(max_examples=150)
@given(problem=WIDE, fill_first=st.booleans())
def test_twins_agree(twins: Twins, problem: Problem, most_cells: int, fill_first: bool) -> None:
    python, cython = (core.sweep_by_rules(*problem.arguments(fill_first, most_cells)) for core in twins)
    assert bits(python) == bits(cython)


@pytest.mark.parametrize("most_cells", [3000, 50, 1])
@given(problem=WIDE, fill_first=st.booleans())
def test_what_is_not_proven_keeps_the_rules(
    core: ModuleType, problem: Problem, most_cells: int, fill_first: bool
) -> None:
    fills, cost, _ = core.sweep_by_rules(*problem.arguments(fill_first, most_cells))
    assert cost == pytest.approx(float(judged(problem, fills)[1]), rel=1e-11, abs=1e-9)
