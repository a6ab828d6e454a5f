"""The split under the rules of venues: one twin against the other, and both against enumeration and HiGHS."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
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
NEARLY = 1 - 1e-12
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
        counts = [len(post.levels) for post in self.posts]
        quotes = np.array(quotes, float).reshape(-1, 4)
        return quotes, counts, rules, NEARLY, self.order_size, *self.penalties, self.reference, fill_first, most_cells


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


# --- HiGHS as a judge at 16 venues -----------------------------------------------------------------------------------


def sixteen(seed: int, lots: list[int], sign: int, depth: int) -> Problem:
    """Venues of ``depth`` levels within a few cents, most with a ticket or a smallest order."""
    rng = np.random.default_rng(seed)
    posts = []
    for _ in range(16):
        levels = [
            (round(sign * (22.10 + sign * int(rng.integers(0, 6)) / 100), 2), int(rng.integers(0, 500)))
            for _ in range(depth)
        ]
        rules = {
            "lot": int(rng.choice(lots)),
            "min_quantity": int(rng.choice([0, 0, 100, 200])),
            "max_quantity": int(rng.choice([150, 400, 10**6])),
            "ticket": float(rng.choice([0.0, 0.25, 0.5, 1.5])),
        }
        posts.append(Post(levels, int(rng.integers(-10, 31)) / 10_000, rules))
    return Problem(posts, int(rng.integers(1000, 3000)), (0.01, 0.02, 0.002), 22.095 * sign)


def highs(problem: Problem, fill_first: bool) -> list[int]:
    """Fills by level. Variables: lots and used or not by venue, both whole, and shares by level."""
    k, rows = len(problem.posts), [level for post in problem.posts for level in post.levels]
    owner = np.repeat(np.arange(k), [len(post.levels) for post in problem.posts])
    lots, used, shares = np.split(np.eye(2 * k + len(rows)), [k, 2 * k])
    size = np.array([size for _, size in rows], float)
    lot = np.array([post.rule("lot") for post in problem.posts])
    largest = [
        min(size[owner == i].sum(), post.rules["max_quantity"], problem.order_size)
        for i, post in enumerate(problem.posts)
    ]
    at_venue = np.array([shares[owner == i].sum(axis=0) for i in range(k)])
    least = np.ceil([post.rule("min_quantity") / post.rule("lot") for post in problem.posts])
    rules = [
        LinearConstraint(at_venue - lot[:, None] * lots, 0, 0),
        LinearConstraint(lots - least[:, None] * used, 0, np.inf),
        LinearConstraint(lots - np.array([[most] for most in largest]) * used, -np.inf, 0),
        LinearConstraint(at_venue, -np.inf, largest),
    ]
    unit = [price - problem.reference + problem.posts[i].fee for i, (price, _) in zip(owner, rows, strict=True)]
    cash = np.array(unit) @ shares + np.array([post.rule("ticket") for post in problem.posts]) @ used
    every = at_venue.sum(axis=0)

    def solve(objective: np.ndarray, low: float, high: float) -> np.ndarray:
        answer = milp(
            objective,
            integrality=np.repeat([1, 1, 0], [k, k, len(rows)]),
            bounds=Bounds(0, np.concatenate([np.full(k, np.inf), np.ones(k), size])),
            constraints=[*rules, LinearConstraint(every, low, high)],
            options={"mip_rel_gap": 0.0},
        )
        assert answer.status == 0, answer.message
        return np.rint(answer.x[:k]).astype(int) * lot

    if fill_first:
        total = solve(-every, 0, problem.order_size).sum()
        sent = solve(cash, total, total)
    else:
        sent = solve(cash - float(missing(problem)) * every, 0, problem.order_size)
    return [n for post, q in zip(problem.posts, sent.tolist(), strict=True) for n in fills_of(post, q, 0.0)]


@pytest.mark.parametrize("fill_first", [True, False])
@pytest.mark.parametrize(
    ("seed", "lots", "sign", "depth"),
    [(1, [1], 1, 1), (2, [100], 1, 1), (3, [1, 100], 1, 2), (4, [5, 100], -1, 1), (5, [1, 2, 5, 100], -1, 2)],
)
def test_highs_finds_nothing_better(
    core: ModuleType, seed: int, lots: list[int], sign: int, depth: int, fill_first: bool
) -> None:
    problem = sixteen(seed, lots, sign, depth)
    filled, paid = judged(problem, solved(core, problem, fill_first)[0])
    other_filled, other_paid = judged(problem, highs(problem, fill_first))
    assert filled > 0
    if fill_first:
        assert (-filled, paid) <= (-other_filled, other_paid)
    else:
        assert paid <= other_paid
    assert float(other_paid - paid) <= 0.05 or filled > other_filled  # the judge is none where it is far off


# --- public functions ------------------------------------------------------------------------------------------------


def as_venues(problem: Problem) -> list[Venue]:
    return [Venue(*post.levels[0], post.fee, 0.0, **post.rules) for post in problem.posts]


def as_arrays(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    quotes = np.array([(*post.levels[0], post.fee, 0.0) for post in problem.posts], float)
    return quotes, np.array([post.row() for post in problem.posts], float)


@each_twin
@given(problem=problems(), fill_first=st.booleans())
@on_one_twin
def test_allocate_is_the_optimum_of_the_enumeration(problem: Problem, fill_first: bool) -> None:
    """From venues and from arrays, with `compute_cost` of the split for cost."""
    one_level = problem._replace(posts=[post._replace(levels=post.levels[:1]) for post in problem.posts])
    venues, (quotes, rules) = as_venues(one_level), as_arrays(one_level)
    size, penalties = one_level.order_size, one_level.penalties
    options = {"resting": False, "fill_first": fill_first}
    answer = allocate(size, venues, *penalties, **options)
    assert allocate(size, quotes, *penalties, rules=rules, **options) == answer
    every = allocate_exhaustive(size, venues, *penalties, **options)
    assert allocate_exhaustive(size, quotes, *penalties, rules=rules, **options) == every
    assert every.cost == pytest.approx(answer.cost, rel=1e-12, abs=1e-9)
    assert sum(every.split) == sum(answer.split) or not fill_first
    assert answer.proven
    assert every.proven
    assert answer.bound == answer.cost == compute_cost(answer.split, venues, size, *penalties)
    assert answer.cost == compute_cost(answer.split, quotes, size, *penalties, rules=rules)
    splits, costs = allocate_many(np.array([quotes] * 3), size, *penalties, rules=rules, threads=2, **options)
    assert splits.tolist() == [answer.split] * 3
    assert costs.tolist() == [answer.cost] * 3


@each_twin
@given(problem=problems())
@on_one_twin
def test_levels_share_their_venues_rules(problem: Problem) -> None:
    problem = problem._replace(reference=0.0)
    venues = [Level2Venue("", post.levels, post.fee, 0.0, **post.rules) for post in problem.posts]
    answer = allocate_greedy_l2(problem.order_size, venues, *problem.penalties)
    fills = [fills_of(post, q, 0.0) for post, q in zip(problem.posts, answer.split, strict=True)]
    assert judged(problem, [n for some in fills for n in some]) == truth(problem, True)


@each_twin
def test_venues_without_rules_are_swept_as_before() -> None:
    """Also where what is neutral is given; and one who weighs penalties takes what is worth it."""
    numbers = [(10.02, 50, 0.003, 0.002), (10.01, 70, 0.003, 0.002), (10.03, 90, 0.003, 0.002)]
    neutral = {**NEUTRAL, "max_quantity": None, "fee_bps": 0.0, "rebate_bps": 0.0, "tick": 0.01}
    plain, ruled = [Venue(*row) for row in numbers], [Venue(*row, **neutral) for row in numbers]
    assert [allocate(100, some, *PENALTIES, resting=False).split for some in (plain, ruled)] == [[30, 70, 0]] * 2
    assert allocate(100, plain, *PENALTIES) == allocate(100, ruled, *PENALTIES)
    weighed = {"resting": False, "fill_first": False, "reference_price": 10.0}
    assert allocate(500, plain, 0.01, 0.022, 0.002, **weighed).split == [50, 70, 0]
    assert allocate_exhaustive(200, plain, 0.01, 0.022, 0.002, **weighed).split == [50, 70, 0]
    many = allocate_many(np.array([numbers]), 500, 0.01, 0.022, 0.002, **weighed)
    assert many.splits.tolist() == [[50, 70, 0]]
    told = "Venue(ask=10.02, ask_size=50, fee=0.003, rebate=0.002)"
    assert [repr(plain[0]), repr(Venue(*numbers[0], lot=1, tick=0.01))] == [told, told[:-1] + ", tick=0.01)"]


@each_twin
def test_parts_of_the_price() -> None:
    """Fees and rebates in basis points, for a sale too; the order of price and fee is another then."""
    venues = [Venue(10.0, 50, 0.001, 0.002, fee_bps=30, rebate_bps=20), Venue(10.02, 50, 0.001, 0.0)]
    answer = allocate(60, venues, *PENALTIES, resting=False)
    assert answer.split == [10, 50]
    assert answer.cost == pytest.approx(10 * 10.031 + 50 * 10.021)
    assert compute_cost([60, 0], venues, 60, *PENALTIES) == pytest.approx(50 * 10.031 - 10 * 0.022 + 10 * 0.007)
    sale = [Venue(-10.0, 50, 0.0, 0.0, fee_bps=30), Venue(-9.98, 50, 0.0, 0.0)]
    assert allocate(60, sale, *PENALTIES, resting=False).split == [10, 50]
    levels = [Level2Venue("A", [(10.0, 5), (10.1, 5)], 0.0, 0.0, fee_bps=100), Level2Venue("B", [(10.1, 5)], 0.0, 0.0)]
    answer = allocate_greedy_l2(12, levels, *PENALTIES)
    assert answer == ([7, 5], pytest.approx(5 * 10.1 + 5 * 10.1 + 2 * 10.201))


FAR = {"resting": False}
BY_EXAMPLE = [
    pytest.param([(10.0, 500, {"min_quantity": 100}), (10.1, 500, {"lot": 100})], 50, [0, 0], id="below every minimum"),
    pytest.param([(10.0, 100, {"ticket": 5.0}), (10.01, 100, {})], 100, [0, 100], id="a ticket dearer than its saving"),
    pytest.param([(10.0, 100, {"ticket": 0.9}), (10.01, 100, {})], 100, [100, 0], id="a ticket that saves"),
    pytest.param([(10.0, 1000, {"lot": 100})], 250, [200], id="a lot leaves a remainder"),
    pytest.param([(10.0, 250, {"lot": 100}), (10.1, 90, {})], 300, [200, 90], id="which an odd lot takes"),
    pytest.param([(10.0, 99, {}), (10.0, 1, {"ticket": 500.0})], 100, [99, 1], id="one share more costs a ticket"),
    pytest.param([(10.0, 80, {"min_execution": 100}), (11.0, 80, {})], 80, [0, 80], id="less shown than is filled"),
    pytest.param([(10.0, 80, {"max_quantity": 30}), (11.0, 80, {})], 80, [30, 50], id="a largest order"),
    pytest.param([(10.04, 9, {"min_notional": 30.12}), (11.0, 9, {})], 3, [3, 0], id="a notional met to the cent"),
    pytest.param([(33.33, 9, {"min_notional": 100.0}), (34.0, 9, {})], 3, [0, 3], id="a notional missed by a cent"),
    pytest.param([(-33.33, 9, {"min_notional": 100.0}), (-33.0, 9, {})], 4, [4, 0], id="a sale's notional"),
    pytest.param([(0.0, 9, {"min_notional": 1.0}), (1.0, 9, {})], 4, [0, 4], id="what is free is worth nothing"),
    pytest.param([(10.0, 60, {"min_quantity": 50}), (10.1, 60, {"min_quantity": 50})], 70, [60, 0], id="not both fit"),
    pytest.param(
        [(10.0, 60, {"min_quantity": 50}), (10.1, 60, {"min_quantity": 15})], 70, [55, 15], id="room for the other"
    ),
    pytest.param([(10.0, 40, {"lot": 2**53, "min_quantity": 2**53})], 40, [0], id="the largest numbers"),
]


@each_twin
@pytest.mark.parametrize(("rows", "size", "split"), BY_EXAMPLE)
def test_by_example(rows: list[Any], size: int, split: list[int]) -> None:
    venues = [Venue(price, shown, 0.0, 0.0, **rules) for price, shown, rules in rows]
    assert allocate(size, venues, *PENALTIES, **FAR).split == split
    assert allocate_exhaustive(size, venues, *PENALTIES, **FAR).split == split


@each_twin
def test_penalties_weigh_a_ticket_against_shares() -> None:
    venues = [Venue(10.0, 99, 0.0, 0.0), Venue(10.0, 50, 0.0, 0.0, ticket=0.5)]
    for under, split in ((0.0099, [99, 0]), (0.0101, [99, 50])):
        answer = allocate(149, venues, 0.01, under, 0.0, resting=False, fill_first=False, reference_price=10.0)
        assert answer.split == split


# --- where no proof is to be had -------------------------------------------------------------------------------------

COINS = 10**8


@each_twin
@pytest.mark.parametrize("fill_first", [True, False])
def test_a_grid_too_fine_is_not_proven(fill_first: bool) -> None:
    """The split keeps the rules, and nothing of as many shares is below the bound."""
    quotes = np.array([(10.0, 0.7 * COINS, 0.0, 0.0), (10.001, 0.7 * COINS, 0.0, 0.0), (10.5, COINS, 0.0, 0.0)])
    rules = np.array(
        [
            (1, 0, 0, 0, math.inf, 0.4 * COINS, 0),
            (7, 0.4 * COINS, 0, 0, math.inf, 9.0, 0),
            (3, 0.5 * COINS, 0, 0, math.inf, 9.0, 0),
        ]
    )
    options = {"resting": False, "fill_first": fill_first, "reference_price": 9.0}
    answer = allocate(COINS, quotes, 0.01, 5.0, 0.0, rules=rules, **options)
    assert not answer.proven
    assert answer.bound < answer.cost
    assert sum(answer.split) <= COINS
    for q, (lot, least, *_) in zip(answer.split, rules.tolist(), strict=True):
        assert q == 0 or (q % lot == 0 and q >= least)
    split, cost = answer
    assert (split, cost) == (answer.split, answer.cost)
    for other in (copy.copy(answer), copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):  # noqa: S301
        assert (other, other.proven, other.bound) == (answer, False, answer.bound)
    swept = allocate(sum(split) if fill_first else COINS, quotes, 0.01, 5.0, 0.0, resting=False, reference_price=9.0)
    missed = 5.0 * (COINS - sum(split)) if fill_first else 0.0
    assert answer.bound == pytest.approx(swept.cost + missed)
    many = allocate_many(np.array([quotes, quotes * 0]), COINS, 0.01, 5.0, 0.0, rules=rules, **options)
    assert many.unproven == {0: answer.bound}
    assert many.splits[0].tolist() == split
    assert many.costs[0] == cost


@each_twin
def test_what_is_not_proven_makes_room_for_a_smallest_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A last venue takes 300 or more; 100 are left, so that the dearest of the others gives 200 of its lots."""
    monkeypatch.setattr(sor.models.static, "MOST_CELLS", 1)
    venues = [
        Venue(10.0, 500, 0.0, 0.0, ticket=1.0),
        Venue(10.01, 400, 0.0, 0.0, lot=100, min_quantity=200),
        Venue(10.02, 900, 0.0, 0.0, min_quantity=300),
    ]
    answer = allocate(1000, venues, *PENALTIES, resting=False)
    assert (answer.split, answer.proven) == ([500, 200, 300], False)
    assert allocate(950, venues, *PENALTIES, resting=False).split == [450, 200, 300]


@each_twin
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems(), fill_first=st.booleans(), cells=st.integers(1, 60))
def test_the_bound_is_one(problem: Problem, fill_first: bool, cells: int) -> None:
    """Of all that has as many shares, or, where penalties weigh, of everything."""
    one_level = problem._replace(posts=[post._replace(levels=post.levels[:1]) for post in problem.posts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sor.models.static, "MOST_CELLS", cells)
        answer = allocate(
            one_level.order_size,
            as_venues(one_level),
            *one_level.penalties,
            reference_price=one_level.reference,
            resting=False,
            fill_first=fill_first,
        )
    smaller = one_level._replace(order_size=sum(answer.split)) if fill_first else one_level
    filled, least = truth(smaller, fill_first)
    least += missing(one_level) * (one_level.order_size - smaller.order_size)
    assert not fill_first or filled == sum(answer.split)
    assert answer.bound <= float(least) + 1e-9
    assert answer.bound <= answer.cost + 1e-9
    assert float(least) <= answer.cost + 1e-9


@each_twin
def test_a_fine_grid_is_proven_where_the_rules_do_not_bind() -> None:
    """Coins at eight decimals: the smallest orders are far below what is sent."""
    quotes = np.array([(10.0 + i / 100, 0.7 * COINS, 0.0, 0.0) for i in range(3)])
    rules = np.array([(1, 1000, 0.01, 0, math.inf, 0, 5.0)] * 3)
    answer = allocate(COINS, quotes, *PENALTIES, resting=False, rules=rules)
    assert answer.proven
    assert answer.split == [0.7 * COINS, 0.3 * COINS, 0]


@each_twin
def test_the_grid_is_as_coarse_as_the_lots() -> None:
    """Lots of 30,000 and 50,000 of a hundred million: a table of ten thousand totals, not of as many as shares."""
    quotes = np.array([(10.0, 0.7 * COINS, 0.0, 0.0), (10.001, 0.7 * COINS, 0.0, 0.0), (10.5, COINS, 0.0, 0.0)])
    rules = np.array([(lot, 0, 0, 0, math.inf, 10_000.0, 0) for lot in (30_000, 50_000, 30_000)])
    answer = allocate(COINS, quotes, *PENALTIES, resting=False, rules=rules)
    assert answer.proven
    assert answer.split == [2330 * 30_000, 602 * 50_000, 0]


# --- what is refused -------------------------------------------------------------------------------------------------

WHOLE = "it must be a whole number from {} to 9007199254740992"
WRONG = [
    *(("lot", value, WHOLE.format(1)) for value in (0, -1, 1.5, "100", True, None, math.nan)),
    *((name, -1, WHOLE.format(0)) for name in ("min_quantity", "min_execution", "max_quantity")),
    *((name, 0.5, WHOLE.format(0)) for name in ("min_quantity", "min_execution", "max_quantity")),
    *((name, -0.01, "it must be a number from 0 to 1e+12") for name in ("min_notional", "ticket")),
    *((name, math.nan, "it must be a number from 0 to 1e+12") for name in ("min_notional", "ticket")),
    *((name, 10_001, "it must be a number from -10000 to 10000") for name in ("fee_bps", "rebate_bps")),
    *((name, "5", "it must be a number from -10000 to 10000") for name in ("fee_bps", "rebate_bps")),
    *(("tick", value, "it must be a number from 4.94066e-324 to 1e+12") for value in (0.0, -0.01, "0.01")),
]


@each_twin
@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_rules_that_are_none(name: str, value: Any, words: str) -> None:
    venues = [Venue(1.0, 1, 0.0, 0.0), Venue(1.0, 1, 0.0, 0.0, **{name: value})]
    levels = [Level2Venue("A", [(1.0, 1)], 0.0, 0.0), Level2Venue("B", [(1.0, 1)], 0.0, 0.0, **{name: value})]
    calls = [lambda f=f: f(5, venues, *PENALTIES, resting=False) for f in (allocate, allocate_exhaustive)]
    calls.append(lambda: allocate_greedy_l2(5, levels, *PENALTIES))
    calls.append(lambda: compute_cost([1, 1], venues, 5, *PENALTIES))
    for call in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == f"venues[1].{name} is {value!r}: {words}"
    if name in RULES and isinstance(value, (int, float)) and value is not True:
        row = [1.0, 0.0, 0.0, 0.0, math.inf, 0.0, 0.0]
        row[RULES.index(name)] = value
        with pytest.raises(InputError, match=rf"rules\[1\]\.{name} is {float(value)!r}: {words}".replace("+", r"\+")):
            allocate(5, np.ones((2, 4)), *PENALTIES, resting=False, rules=np.array([[1.0, *[0.0] * 6], row]))


@each_twin
@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, -1.0, 2.0**54])
@pytest.mark.parametrize("column", range(7))
def test_an_array_of_rules_with_a_number_that_is_none(column: int, number: float) -> None:
    rules = np.array([[1.0, 0.0, 0.0, 0.0, math.inf, 0.0, 0.0]] * 3)
    rules[2, column] = number
    good = (column == 4 and number == math.inf) or (column == 6 and number == -1.0)
    if good:
        assert allocate(5, np.ones((3, 4)), *PENALTIES, resting=False, rules=rules).split == [1, 1, 1]
        return
    for call in (
        lambda: allocate(5, np.ones((3, 4)), *PENALTIES, resting=False, rules=rules),
        lambda: allocate_many(np.ones((1, 3, 4)), 5, *PENALTIES, resting=False, rules=rules),
    ):
        with pytest.raises(InputError, match=rf"rules\[2\]\.{RULES[column]} is "):
            call()


@each_twin
@pytest.mark.parametrize("rules", [{"lot": 100}, {"ticket": 1.0}, {"fee_bps": 1.0}, {"rebate_bps": 1.0}])
def test_rules_are_for_displayed_shares(rules: dict[str, Any]) -> None:
    venues = [Venue(1.0, 1, 0.0, 0.0), Venue(1.0, 1, 0.0, 0.0, **rules)]
    for function in (allocate, allocate_exhaustive):
        with pytest.raises(InputError, match="resting is True: venues with rules are for displayed shares only"):
            function(5, venues, *PENALTIES)
    with pytest.raises(InputError, match="resting is True: "):
        allocate_many(np.ones((1, 2, 4)), 5, *PENALTIES, rules=np.ones((2, 7)))


@each_twin
@pytest.mark.parametrize(
    "rules", [5, [[1, 0, 0, 0, 0, 0, 0]], np.ones((2, 7), int), np.ones((3, 7)), np.ones((2, 6)), np.ones(7)]
)
def test_rules_that_are_no_array_of_them(rules: Any) -> None:
    with pytest.raises(InputError, match=r"rules is .*: it must be float64 with shape \(2, 7\), columns lot, "):
        allocate(5, np.ones((2, 4)), *PENALTIES, resting=False, rules=rules)
    with pytest.raises(InputError, match=r"rules is .*: venues that are no array have rules of their own"):
        allocate(5, [Venue(1.0, 1, 0.0, 0.0)] * 2, *PENALTIES, resting=False, rules=rules)
    with pytest.raises(InputError, match="fill_first is 5: it must be True or False"):
        allocate(5, np.ones((2, 4)), *PENALTIES, resting=False, fill_first=5)


@each_twin
def test_the_limit_of_the_enumeration_counts_lots() -> None:
    venues = [Venue(10.0, 500, 0.0, 0.0, lot=100), Venue(10.0, 250, 0.0, 0.0, lot=50)]
    assert allocate_exhaustive(1000, venues, *PENALTIES, resting=False, max_splits=36).split == [500, 250]
    with pytest.raises(InputError, match="have 36 splits, more than max_splits"):
        allocate_exhaustive(1000, venues, *PENALTIES, resting=False, max_splits=35)
