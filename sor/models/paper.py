"""The tables of Cont and Kukanov's paper next to ours.

docs/cont-kukanov.md explains what comes out. Base case of the paper (arXiv 1210.1625v4, section 6): outflows
``xi_k = alpha xi_0 + (1 - alpha) eps_k``, all parts independent and Poisson. W is the expected cost in cents a share.
"""

from __future__ import annotations

import csv
import importlib.resources
import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from sor.models.placement import Placement, PlacementCost, place, placement_cost

Parts = tuple[float, ...]

PENALTIES = {"theta": 0.0005, "lambda_under": 0.05, "lambda_over": 0.05}  # dollars a share, as are the next three
HALF_SPREAD, FEE, REBATE = 0.02, 0.003, 0.002
QUEUE, MEAN, ALPHA = 2000.0, 2200.0, 0.6  # shares; shares; weight of what the venues' outflows have in common

JUDGES = 100_000  # fresh samples that every placement is judged on
STEPS = 1_000  # of the paper's stochastic approximation
SETS, SET_SIZE = 10, 500  # sets of samples for the bound, and samples of each
SIZE = 1000.0  # of the order in the studies
TRAIN, JUDGE, BOUND, STUDY = range(4)  # what samples are for: each use has its own


# --- outflows --------------------------------------------------------------------------------------------------------


class Discrete:
    """A distribution over a few numbers, with the methods that `place` asks for."""

    def __init__(self, values: np.ndarray, probabilities: np.ndarray) -> None:
        order = np.argsort(values)
        self.values = values[order]
        self.below = np.cumsum(probabilities[order])  # P(xi <= value)

    def cdf(self, value: Any) -> Any:
        return np.concatenate(([0.0], self.below))[np.searchsorted(self.values, value, side="right")]

    def ppf(self, probability: Any) -> Any:
        """The left inverse: the least value with P(xi <= value) >= probability."""
        place_of = np.searchsorted(self.below, probability, side="left")
        return self.values[np.minimum(place_of, len(self.values) - 1)]


class Pareto:
    """P(xi > x) = (1 + x / scale)^-tail, with a given mean; an infinite tail index is the exponential distribution."""

    def __init__(self, mean: float, tail: float) -> None:
        self.mean, self.tail, self.scale = mean, tail, mean * (tail - 1.0)

    def cdf(self, value: Any) -> Any:
        if math.isinf(self.tail):
            return -np.expm1(-np.asarray(value) / self.mean)
        return 1.0 - (1.0 + np.asarray(value) / self.scale) ** -self.tail

    def ppf(self, probability: Any) -> Any:
        if math.isinf(self.tail):
            return -self.mean * np.log1p(-np.asarray(probability))
        return self.scale * ((1.0 - np.asarray(probability)) ** (-1.0 / self.tail) - 1.0)


def _masses(mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and probabilities of a Poisson distribution, but for tails below 1e-25."""
    reach = 12.0 * math.sqrt(mean) + 30.0
    values = np.arange(max(0, math.floor(mean - reach)), math.ceil(mean + reach) + 1)
    logs = [value * math.log(mean) - mean - math.lgamma(value + 1) for value in values.tolist()]
    return values.astype(float), np.exp(logs)


@cache
def poisson(mean: float) -> Discrete:
    return Discrete(*_masses(mean))


@cache
def mixture(alpha: float = ALPHA) -> Discrete:
    """Of one venue's outflow alpha xi_0 + (1 - alpha) eps."""
    values, masses = _masses(MEAN)
    sums = np.add.outer(alpha * values, (1.0 - alpha) * values)
    return Discrete(sums.ravel(), np.multiply.outer(masses, masses).ravel())


def joint(uniforms: np.ndarray, means: tuple[float, ...], alpha: float = ALPHA) -> np.ndarray:
    """Samples of all venues' outflows, (N, K), from uniform numbers (N, K + 1), the first for what all share."""
    own = [poisson(mean).ppf(column) for mean, column in zip(means, uniforms.T[1:], strict=True)]
    shared = [poisson(mean).ppf(uniforms[:, 0]) for mean in means]
    return alpha * np.column_stack(shared) + (1.0 - alpha) * np.column_stack(own)


def draw(seed: int, use: int, count: int, size: int, venues: int) -> np.ndarray:
    """Uniform numbers for one use in one row of the tables."""
    return np.random.default_rng([seed, use, size, venues]).random((count, venues + 1))


# --- the tables ------------------------------------------------------------------------------------------------------


class Printed(NamedTuple):
    """A row of the paper's tables: % of S, cents a share, shares, %."""

    size: int
    venues: int
    parts: Parts
    total: float
    simple: Parts  # W of X^M, X^L and X^E
    optimal: float
    outcome: Parts  # fees, impact, penalties; shares under and over; probabilities of either, %


class Row(NamedTuple):
    """The same computed: what was found, and what that costs on fresh samples."""

    printed: Printed
    found: Placement
    judged: PlacementCost
    simple: Parts  # W of X^M, X^L and X^E
    steps: float  # W of the paper's stochastic approximation

    @property
    def parts(self) -> Parts:
        return tuple(100.0 * part / self.printed.size for part in (self.found.market, *self.found.limits))

    @property
    def optimal(self) -> float:
        return self.cents(self.judged.mean)

    @property
    def error(self) -> float:
        return self.cents(self.judged.standard_error or 0.0)

    @property
    def outcome(self) -> Parts:
        cost = self.judged
        dollars = cost.breakdown.spread_and_fees, cost.breakdown.impact, cost.breakdown.penalties
        shares = cost.expected_underfill, cost.expected_overfill
        chances = 100.0 * cost.underfill_probability, 100.0 * cost.overfill_probability
        return (*map(self.cents, dollars), *shares, *chances)

    def cents(self, dollars: float) -> float:
        return 100.0 * dollars / self.printed.size


def printed_rows() -> list[Printed]:
    text = importlib.resources.files("sor.models").joinpath("cont_kukanov_tables.csv").read_text(encoding="ascii")
    return [_printed(row) for row in csv.DictReader(text.splitlines())]


def _printed(row: dict[str, str]) -> Printed:
    outcome = "fees", "impact", "penalties", "underfill_shares", "overfill_shares", "underfill_pct", "overfill_pct"
    return Printed(
        int(row["S"]),
        int(row["K"]),
        (float(row["M_pct"]), *map(float, row["L_pct"].split("|"))),
        float(row["total_pct"]),
        (float(row["W_market"]), float(row["W_limit"]), float(row["W_equal"])),
        float(row["W_optimal"]),
        tuple(float(row[name]) for name in outcome),
    )


def problem(size: float, venues: int, **changes: Any) -> dict[str, Any]:
    """Arguments of `place` for the base case, without the outflows."""
    base = {"target": size, "half_spread": HALF_SPREAD, "fee": FEE, **PENALTIES}
    return base | {"rebates": [REBATE] * venues, "queues": [QUEUE] * venues} | changes


def simple_placements(size: float, venues: int) -> list[tuple[float, list[float]]]:
    """X^M all in the market order, X^L all in one limit order, X^E equal parts."""
    equal, nothing = size / (venues + 1), [0.0] * (venues - 1)
    return [(size, [0.0, *nothing]), (0.0, [size, *nothing]), (equal, [equal] * venues)]


def compute(printed: Printed, seed: int, training: int) -> Row:
    """Solve one row on some samples, and judge it on others."""
    size, venues = printed.size, printed.venues
    means, arguments = (MEAN,) * venues, problem(size, venues)
    samples = joint(draw(seed, TRAIN, training, size, venues), means)
    fresh = joint(draw(seed, JUDGE, JUDGES, size, venues), means)

    def judge(market: float, limits: Any) -> PlacementCost:
        return placement_cost(market, limits, outflows=fresh, **arguments)

    found = place(outflows=samples, **arguments)
    steps = place(outflows=samples[:STEPS], method="stochastic", **arguments)
    simple = tuple(100.0 * judge(*placement).mean / size for placement in simple_placements(size, venues))
    return Row(
        printed, found, judge(found.market, found.limits), simple, 100.0 * judge(steps.market, steps.limits).mean / size
    )


def gaps(row: Row, seed: int, sets: int, size: int) -> np.ndarray:
    """W of X* less HiGHS's bound on each of several sets of samples, cents a share.

    The least of a mean over samples is on average below the least of the expectation, and a set's cost of X* on average
    its expected cost, as X* was found on other samples. So the mean is at least how far X* is from the optimum.
    """
    shares, venues = row.printed.size, row.printed.venues
    arguments = problem(shares, venues)
    samples = joint(draw(seed, BOUND, sets * size, shares, venues), (MEAN,) * venues)
    differences = []
    for outflows in samples.reshape(sets, size, venues):
        bound = place(outflows=outflows, method="linear", certify=True, **arguments).lower_bound or 0.0
        cost = placement_cost(row.found.market, row.found.limits, outflows=outflows, **arguments).mean
        differences.append(row.cents(cost - bound))
    return np.array(differences)


def closed_form(printed: Printed) -> float:
    """L* of Prop. 3 for a row with one venue, shares; by the distribution itself, no samples."""
    return place(outflows=mixture(), method="closed_form", **problem(printed.size, 1)).limits[0]


def penalties_for(limit: int, size: int = 1000) -> tuple[float, float]:
    """Prop. 3 backwards: L* is `limit` for lambda_u from the first to below the second, Poisson outflow of one venue.

    L* = F^-1(c/d) - Q is `limit` where F(Q + limit - 1) < c/d <= F(Q + limit).
    """
    c = 2 * HALF_SPREAD + FEE + REBATE
    rest = HALF_SPREAD + REBATE + PENALTIES["theta"]
    low, high = (c / float(poisson(MEAN).cdf(QUEUE + value)) - rest for value in (limit, limit - 1))
    return low, high


def step_size(venues: int, steps: int, size: float) -> float:
    """gamma of section 4 for equal rebates."""
    rest = PENALTIES["theta"] + PENALTIES["lambda_under"] + PENALTIES["lambda_over"]
    squares = (HALF_SPREAD + FEE + rest) ** 2 + venues * (HALF_SPREAD + REBATE + rest) ** 2
    return float(math.sqrt(venues) * size / math.sqrt(steps * squares))


# --- what is printed -------------------------------------------------------------------------------------------------


def report(seed: int, training: int) -> Iterator[str]:
    """All lines; sections are parted by empty ones."""
    rows = [compute(printed, seed, training) for printed in printed_rows()]
    for section in (table_1(rows, training), placements(rows), table_2(rows), single_venue(rows)):
        yield from section
        yield ""
    yield from certificate(rows, seed)


def table_1(rows: list[Row], training: int) -> Iterator[str]:
    yield f"Table 1. Expected cost W, cents a share of S, on {JUDGES:,} fresh samples, next to print."
    yield "X^M: all in the market order. X^L: all in one limit order. X^E: equal parts. X*: the optimum, found on"
    yield f"{training:,} samples. steps: {STEPS:,} steps of the paper's stochastic approximation, from equal parts."
    yield "   S  K       X^M           X^L           X^E               X*"
    yield "           ours print    ours print    ours print    ours print    diff  error   steps"
    for row in rows:
        printed = row.printed
        pairs = zip((*row.simple, row.optimal), (*printed.simple, printed.optimal), strict=True)
        costs = "".join(f"{ours:8.3f} {print_:5.2f}" for ours, print_ in pairs)
        yield f"{_name(row)}{costs} {row.optimal - printed.optimal:+7.3f} {row.error:6.3f} {row.steps:7.3f}"


def placements(rows: list[Row]) -> Iterator[str]:
    yield "The placements X* = (M | L_1 | ... | L_K), % of S, and their sums."
    yield f"   S  K  {'ours':<29}  sum  {'print':<29}  sum"
    for row in rows:
        printed = row.printed
        ours, theirs = (f"{_parts(parts):<29}" for parts in (row.parts, printed.parts))
        yield f"{_name(row)}  {ours} {sum(row.parts):4.0f}  {theirs} {printed.total:4.0f}"


def table_2(rows: list[Row]) -> Iterator[str]:
    yield "Table 2. Where the cost of X* comes from (cents a share of S), and how an order ends."
    yield "            fees         impact       penalties     shares under   shares over   P(under), %   P(over), %"
    yield "   S  K" + "    ours print" * 7
    for row in rows:
        formats = (("8.2f", "5.2f"),) * 3 + (("8.1f", "5.0f"),) * 4
        triples = zip(row.outcome, row.printed.outcome, formats, strict=True)
        yield _name(row) + "".join(f"{ours:{wide}} {theirs:{narrow}}" for ours, theirs, (wide, narrow) in triples)


def single_venue(rows: list[Row]) -> Iterator[str]:
    low, high = penalties_for(270)
    yield "One venue: L* in shares by the closed form (Prop. 3) and found on samples."
    yield "   S  K  closed  samples"
    for row in rows:
        if row.printed.venues == 1:
            yield f"{_name(row)} {closed_form(row.printed):7.1f} {row.found.limits[0]:8.1f}"
    slow = 100.0 * PENALTIES["theta"] * STEPS * step_size(1, STEPS, SIZE) / SIZE
    yield f"A limit order that no sample fills moves by theta gamma N = {slow:.1f}% of S in N = {STEPS:,} steps."
    yield f"With Poisson({MEAN:.0f}) outflow and S = 1000 it is (730, 270) for lambda_u from {low:.5f} to {high:.5f}."


def certificate(rows: list[Row], seed: int) -> Iterator[str]:
    if not _has_highs():
        yield "The gap to the bound is left out: it needs scipy (pip install 'sor[certify]')."
        return
    yield "The gap: no placement costs less than the bound, in expectation. Cents a share of S; bound and gap are means"
    yield f"over {SETS} sets of {SET_SIZE} samples of their own, with the gap's standard error."
    yield "   S  K      X*   bound     gap  error"
    for row in rows:
        found = gaps(row, seed, SETS, SET_SIZE)
        gap, error = float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found))
        yield f"{_name(row)} {row.optimal:7.3f} {row.optimal - gap:7.3f} {gap:7.3f} {error:6.3f}"


def _name(row: Row) -> str:
    return f"{row.printed.size:4} {row.printed.venues:2}"


def _parts(parts: Parts) -> str:
    return " | ".join(f"{part:2.0f}" for part in parts)


def _has_highs() -> bool:
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        return False
    return True
