"""Limit and market orders together: the model of Cont and Kukanov, for callers.

A buyer of ``S`` shares within a horizon sends a market order ``M`` and limit orders ``L_k`` at the best bid of venues
``k = 1..K``, behind queues ``Q_k``. The outflow ``xi_k`` of a queue is what leaves its front within the horizon. With
half-spread ``h``, taker fee ``f``, rebates ``r_k``, impact ``theta`` and penalties ``lambda_u``, ``lambda_o``::

    fill_k = min(L_k, (xi_k - Q_k)^+)          A = M + sum fill_k                                               (1)
    v(X, xi) = (h + f) M - sum (h + r_k) fill_k + theta (M + sum L_k + (S - A)^+)
               + lambda_u (S - A)^+ + lambda_o (A - S)^+                                                        (5)
    minimise V(X) = E v(X, xi) over X = (M, L_1..L_K), each within [0, S]

Costs are dollars against the mid; a sale is the same problem. The expectation is the mean over samples of xi. Numbers
in brackets are the paper's (arXiv 1210.1625v4).
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from sor.errors import InputError, SorError
from sor.kernels import placement_core
from sor.types import MAX_NUMBER, one_of, real_number, whole_number

logger = logging.getLogger(__name__)

Method = Literal["refined", "stochastic", "closed_form", "linear"]
METHODS: tuple[Method, ...] = ("refined", "stochastic", "closed_form", "linear")

MAX_VENUES = 1_000  # sums of as many parts are exact on the kernels' grid
MAX_SAMPLES = 10_000_000
SAME = 1e-9  # of the target: a difference of as many shares is none
WORTH_A_MOVE = 1e-8  # dollars a share of the target that a move of `refined` has to save: 1e-6 cents
GRID_BITS = 40  # of the target on the grid of `refined`: sums of up to 2^13 parts are exact in a double
REACH = 1 / 512  # of the target that `refined` searches of a line at first
GROWTH = 1.25  # of what a line promises, with each move on another one
FEW_SAMPLES = 128  # up to which `refined` searches widely, and on how many at least it explores
EXPLORED = 1_000  # samples times starts that it explores where there are more
WORTH_EXPLORING = 1e-5  # dollars a share, as above, there
MOST_KICKS = 20
FARTHEST = 1e6  # times as far as a kick led
QUANTILES = 10_000  # samples that stand for a distribution where a placement is costed on it
NO_SAMPLES = np.empty(0)


# --- results ---------------------------------------------------------------------------------------------------------


class CostBreakdown(msgspec.Struct, frozen=True, gc=False):
    """Expected dollars: spread paid and earned with fees and rebates; market impact; penalties for a wrong quantity."""

    spread_and_fees: float
    impact: float
    penalties: float


class PlacementCost(msgspec.Struct, frozen=True):
    """What a placement costs on samples: dollars against the mid for the whole order, shares and probabilities.

    ``standard_error`` is that of the mean over independent samples, None for one sample. ``per_sample`` is an array,
    or None where it was not asked for.
    """

    mean: float
    standard_error: float | None
    breakdown: CostBreakdown
    expected_underfill: float
    expected_overfill: float
    underfill_probability: float
    overfill_probability: float
    per_sample: Any


class Placement(msgspec.Struct, frozen=True):
    """The answer to one placement problem.

    Attributes
    ----------
    market : float
        Shares of the market order.
    limits : tuple of float, length K
        Shares of the limit order at each venue.
    expected_cost : float
        Dollars against the mid for the whole order, the mean over the samples given.
    breakdown : CostBreakdown
        Its parts.
    expected_underfill, expected_overfill : float
        Shares missing and in excess, means over the samples.
    underfill_probability, overfill_probability : float
        Shares of the samples that end below and above the target.
    lower_bound, gap : float or None
        Dollars: no placement costs less than the bound; the gap is how far above it this one is. Only with ``certify``.
    rounding_cost : float or None
        Dollars that rounding to lots has added (it may be negative where a method had not converged).
    method : str
    iterations : int
        Steps (`stochastic`, `linear`) or moves that saved something (`refined`).
    warnings : tuple of str
        Assumptions of the paper that these numbers break.
    """

    market: float
    limits: tuple[float, ...]
    expected_cost: float
    breakdown: CostBreakdown
    expected_underfill: float
    expected_overfill: float
    underfill_probability: float
    overfill_probability: float
    lower_bound: float | None
    gap: float | None
    rounding_cost: float | None
    method: Method
    iterations: int
    warnings: tuple[str, ...]


class Problem(NamedTuple):
    """Checked arguments, in the order in which the kernels take them."""

    gains: np.ndarray  # (K + 1): -(h + f) and h + r_k, dollars a filled share
    queues: np.ndarray  # (K)
    outflows: np.ndarray  # (N, K)
    target: float
    theta: float
    under: float
    over: float

    @property
    def venue_count(self) -> int:
        return len(self.queues)


# --- checks ----------------------------------------------------------------------------------------------------------


def _array(name: str, value: Any, dimensions: int, low: float) -> np.ndarray:
    """A contiguous array of finite doubles within [low, MAX_NUMBER]."""
    try:
        given = np.asarray(value)
    except ValueError:
        raise InputError(f"{name} is {value!r}: its rows must have the same length") from None
    if given.dtype.kind not in "fiu" or given.ndim != dimensions:
        wanted = "(N, K), a row a sample," if dimensions == 2 else "(K)"
        raise InputError(
            f"{name} is an array of {given.dtype} with shape {given.shape}: it must be of numbers, with shape {wanted} "
            f"and N, K at least 1"
        )
    if not given.size:
        raise InputError(f"{name} is empty, with shape {given.shape}: at least one venue and one sample are needed")
    array = np.ascontiguousarray(given, dtype=np.float64)
    if not (array.min() >= low and array.max() <= MAX_NUMBER):  # False for NaN
        place = tuple(int(i) for i in np.argwhere(~((array >= low) & (array <= MAX_NUMBER)))[0])
        where = "".join(f"[{i}]" for i in place)
        raise InputError(f"{name}{where} is {float(array[place])}: it must be a number from {low:g} to {MAX_NUMBER:g}")
    return array


def _is_distribution(outflows: Any) -> bool:
    return callable(getattr(outflows, "cdf", None)) and callable(getattr(outflows, "ppf", None))


def _quantile_samples(distribution: Any) -> np.ndarray:
    """One sample in the middle of each of `QUANTILES` slices of equal probability, with shape (QUANTILES, 1)."""
    samples: np.ndarray = np.asarray(distribution.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES), dtype=float)
    if samples.shape != (QUANTILES,) or np.isnan(samples).any():
        raise InputError(f"outflows is {distribution!r}: its ppf must give one number for each probability")
    clipped: np.ndarray = np.clip(samples, 0.0, MAX_NUMBER).reshape(-1, 1)
    return clipped


def problem_of(
    target: Any,
    half_spread: Any,
    fee: Any,
    rebates: Any,
    queues: Any,
    outflows: Any,
    theta: Any,
    lambda_under: Any,
    lambda_over: Any,
) -> Problem:
    size = real_number("target", target, 1.0 / MAX_NUMBER)
    spread, taker_fee = real_number("half_spread", half_spread), real_number("fee", fee)
    rebate_array = _array("rebates", rebates, 1, -MAX_NUMBER)
    queue_array = _array("queues", queues, 1, 0.0)
    samples = _quantile_samples(outflows) if _is_distribution(outflows) else _array("outflows", outflows, 2, 0.0)
    shapes = {len(rebate_array), len(queue_array), samples.shape[1]}
    if len(shapes) > 1:
        raise InputError(
            f"rebates has {len(rebate_array)} venues, queues {len(queue_array)} and outflows {samples.shape[1]}: "
            "they must have the same"
        )
    if samples.shape[1] > MAX_VENUES or len(samples) > MAX_SAMPLES:
        raise InputError(
            f"outflows has shape {samples.shape}: it must have at most {MAX_SAMPLES} samples of {MAX_VENUES} venues"
        )
    gains = np.empty(len(queue_array) + 1)
    gains[0] = -(spread + taker_fee)
    gains[1:] = spread + rebate_array
    return Problem(
        gains,
        queue_array,
        samples,
        size,
        real_number("theta", theta, 0.0),
        real_number("lambda_under", lambda_under, 0.0),
        real_number("lambda_over", lambda_over, 0.0),
    )


def _parts(name: str, market: Any, limits: Any, venue_count: int) -> np.ndarray:
    """(M, L_1..L_K)."""
    limit_array = _array(f"{name}limits", limits, 1, 0.0)
    if len(limit_array) != venue_count:
        raise InputError(
            f"{name}limits has {len(limit_array)} parts for {venue_count} venues: it must have one for each"
        )
    return np.concatenate(([real_number(f"{name}market", market, 0.0)], limit_array))


def _start(start: Any, problem: Problem) -> np.ndarray:
    if isinstance(start, Placement):
        market, limits = start.market, start.limits
    else:
        try:
            market, limits = start
        except (TypeError, ValueError):
            raise InputError(f"start is {start!r}: it must be a Placement or (market, limits)") from None
    return _parts("start: ", market, limits, problem.venue_count)


def _broken_assumptions(problem: Problem) -> tuple[str, ...]:
    """A1 to A3 of the paper, as warnings with their numbers."""
    take, low, high = -float(problem.gains[0]), float(problem.gains[1:].min()), float(problem.gains[1:].max())
    warnings = []
    if not low > 0.0:
        warnings.append(
            f"A1 does not hold: half_spread + the least rebate is {low:.6g}, and should be above 0: "
            "a limit order there is no cheaper than the mid even when it is filled"
        )
    if not problem.over > max(high, -take):
        warnings.append(
            f"A2 does not hold: lambda_over is {problem.over:.6g}, and should be above half_spread + the largest "
            f"rebate = {high:.6g} and above -(half_spread + fee) = {-take:.6g}: buying more than the target pays"
        )
    if not problem.under > take:
        warnings.append(
            f"A3 does not hold: lambda_under is {problem.under:.6g}, and should be above half_spread + fee = "
            f"{take:.6g}: a missing share is no dearer than a market order; the least lambda_under that trades is "
            f"what is above {take:.6g}"
        )
    return tuple(warnings)


# --- cost ------------------------------------------------------------------------------------------------------------


def _costed(problem: Problem, parts: Sequence[float], each: bool) -> PlacementCost:
    per_sample = np.empty(len(problem.outflows)) if each else NO_SAMPLES
    totals = placement_core.cost(np.array(parts), *problem, SAME * problem.target, per_sample)
    breakdown = _broken_down(problem, parts, totals)
    error = None
    if each and len(per_sample) > 1:
        error = float(per_sample.std(ddof=1)) / math.sqrt(len(per_sample))
    mean = breakdown.spread_and_fees + breakdown.impact + breakdown.penalties
    _, missing, excess, below, above = totals
    return PlacementCost(mean, error, breakdown, missing, excess, below, above, per_sample if each else None)


def _broken_down(problem: Problem, parts: Sequence[float], totals: tuple[float, ...]) -> CostBreakdown:
    gained, missing, excess = totals[:3]
    sent = 0.0
    for part in parts:
        sent += part
    return CostBreakdown(
        0.0 - gained, problem.theta * (sent + missing), problem.under * missing + problem.over * excess
    )


def _mean_cost(problem: Problem, parts: Sequence[float]) -> float:
    return _costed(problem, parts, False).mean


# --- methods: each gives (placement, iterations) ---------------------------------------------------------------------


def step_size(problem: Problem) -> float:
    """gamma = sqrt(K) S / sqrt(N (h+f+theta+lu+lo)^2 + N sum (h+r_k+theta+lu+lo)^2), section 4."""
    squares = 0.0
    for gain in (-problem.gains[0], *problem.gains[1:]):
        squares += (gain + problem.theta + problem.under + problem.over) ** 2
    if squares == 0.0:
        return 0.0
    return float(math.sqrt(problem.venue_count) * problem.target / math.sqrt(len(problem.outflows) * squares))


def _equal_parts(problem: Problem) -> np.ndarray:
    return np.full(problem.venue_count + 1, problem.target / (problem.venue_count + 1))


def _stochastic(problem: Problem, start: np.ndarray | None) -> tuple[list[float], int]:
    begin = _equal_parts(problem) if start is None else np.minimum(start, problem.target)
    answer = placement_core.stochastic(begin, *problem, step_size(problem))
    return answer, len(problem.outflows)


class _End(NamedTuple):
    """Where a descent has ended: the mean cost, the placement, and the moves that it took in all."""

    cost: float
    parts: list[float]
    moves: int


def _corners(problem: Problem) -> np.ndarray:
    """Where `refined` starts from, one placement a row: the cost has many valleys where overfilling is dear.

    All in the market order, all in every limit order, and equal parts with and without a market order; for up to two
    venues every combination of nothing, half and all.
    """
    k, target = problem.venue_count, problem.target
    if k <= 2:
        return np.array(list(itertools.product((0.0, target / 2, target), repeat=k + 1)))
    return np.array([[target] + [0.0] * k, [0.0] + [target] * k, [0.0] + [target / k] * k, _equal_parts(problem)])


def _refined(problem: Problem, start: np.ndarray | None) -> _End:
    """Down from the paper's answer and from the best that a look at some of the samples finds from several starts."""
    if start is not None:
        return _descended(problem, start.reshape(1, -1))
    paper = np.array([_stochastic(problem, None)[0]])
    starts = np.concatenate((paper, _corners(problem)))
    if len(problem.outflows) <= FEW_SAMPLES:
        return _searched(problem, starts)
    stride = -(-len(problem.outflows) // max(FEW_SAMPLES, EXPLORED // len(starts)))
    found = _descended(_every(problem, stride, 0), starts, WORTH_EXPLORING, thorough=True)
    answer = _descended(problem, np.array([paper[0], found.parts]))
    return answer._replace(moves=found.moves + answer.moves)


def _descended(problem: Problem, starts: np.ndarray, worth: float = WORTH_A_MOVE, *, thorough: bool = False) -> _End:
    """The cheapest end of the descents from each start."""
    target = problem.target
    scale = math.ldexp(1.0, GRID_BITS - math.frexp(target)[1])
    lengths = scale, SAME * target, worth * target, REACH * target
    parts, moves = placement_core.refine(starts, *problem, *lengths, GROWTH, thorough)
    return _End(_mean_cost(problem, parts), parts, moves)


def _every(problem: Problem, stride: int, first: int) -> Problem:
    """The problem on one in so many samples."""
    return problem._replace(outflows=np.ascontiguousarray(problem.outflows[first::stride]))


# Of few samples each is a sharp bend in the cost, and a descent gets stuck where bends cross. There is time, then, to
# shake it loose.


def _searched(problem: Problem, starts: np.ndarray) -> _End:
    """From more starts, then shaken and kicked."""
    k, target = problem.venue_count, problem.target
    if k > 2:
        starts = np.concatenate((starts, np.eye(k + 1)[1:] * target))  # all at one venue
    end = _descended(problem, starts, thorough=True)
    if k == 1:
        return end
    for stride in (2, 3):
        for first in range(min(stride, len(problem.outflows))):
            aside = _descended(_every(problem, stride, first), np.array([end.parts]))
            end = _cheaper(end, _descended(problem, np.array([aside.parts])))
    for _ in range(MOST_KICKS):
        kicked = _kicked(problem, end)
        if kicked.cost >= end.cost - WORTH_A_MOVE * target:
            break
        end = kicked
    last = _descended(problem, np.array([end.parts]), thorough=True)
    return _cheaper(end, last)


def _cheaper(a: _End, b: _End) -> _End:
    """One of the two, with the moves of both."""
    return (a if a.cost <= b.cost else b)._replace(moves=a.moves + b.moves)


def _kicked(problem: Problem, end: _End) -> _End:
    """The best descent after one part has been taken away, and on in the direction where that led."""
    best = end
    for i, part in enumerate(end.parts):
        if part > 0.0:
            without = np.array([end.parts])
            without[0, i] = 0.0
            best = _cheaper(best, _descended(problem, without))
    here, way, length = np.array(end.parts), np.array(best.parts) - np.array(end.parts), 2.0
    while length < FARTHEST:
        parts = np.clip(here + length * way, 0.0, problem.target).tolist()
        cost = _mean_cost(problem, parts)
        if cost >= best.cost:
            break
        best = best._replace(cost=cost, parts=parts)
        length *= 2.0
    return _cheaper(best, _descended(problem, np.array([best.parts])))


def _left_inverse(samples: np.ndarray, probability: float) -> float:
    """The least value of the empirical distribution with F(value) >= probability."""
    ordered = np.sort(samples)
    counts = np.arange(1, len(ordered) + 1) / len(ordered)
    rank = int(np.searchsorted(counts, probability, side="left"))
    return float(ordered[rank]) if rank < len(ordered) else math.inf


def _closed_form(problem: Problem, outflows: Any) -> tuple[list[float], int]:
    """Prop. 3: L = clip(F^-1(c/d) - Q, 0, S), M = S - L with c = 2h + f + r, d = lambda_u + h + r + theta."""
    if problem.venue_count != 1:
        raise InputError(f"method is 'closed_form' with {problem.venue_count} venues: it must have one (Prop. 3)")
    gain, queue, target = float(problem.gains[1]), float(problem.queues[0]), problem.target
    c, d = gain - float(problem.gains[0]), problem.under + gain + problem.theta
    if not d > 0.0:
        raise InputError(
            f"lambda_under + half_spread + rebate + theta is {d:g}: it must be above 0 for method 'closed_form'"
        )
    if c <= 0.0:
        limit = 0.0
    elif c >= d:
        limit = target
    else:
        level = c / d
        inverse = outflows.ppf(level) if _is_distribution(outflows) else _left_inverse(problem.outflows[:, 0], level)
        limit = min(max(float(inverse) - queue, 0.0), target)
    return [target - limit, limit], 0


class _Relaxed(NamedTuple):
    parts: list[float]
    iterations: int
    bound: float


def relaxation(problem: Problem) -> dict[str, Any]:
    """Arguments of scipy's linprog for the linear programme in which a venue's fill may be declined.

    Variables are X, and in each sample fills y_k <= min(L_k, room_k), underfill U and overfill O with
    M + sum y + U - O = S. The true problem may not decline a fill, so the value bounds it from below. Costs are summed
    over the samples: HiGHS's tolerances are absolute, and a mean's coefficients would be small beside them.
    """
    from scipy.sparse import coo_array

    n, k = problem.outflows.shape
    room = np.minimum(np.maximum(problem.outflows - problem.queues, 0.0), problem.target)
    row, venue = np.nonzero(room)
    fills, every = np.arange(len(row)), np.arange(n)
    y, u, o = 1 + k + fills, 1 + k + len(row) + every, 1 + k + len(row) + n + every
    columns = 1 + k + len(row) + 2 * n
    objective = np.full(columns, problem.theta * n)
    objective[0] -= problem.gains[0] * n
    objective[y] = -problem.gains[1:][venue]
    objective[u] = problem.theta + problem.under
    objective[o] = problem.over
    ones = np.ones(len(row))
    within = (np.concatenate((ones, -ones)), (np.tile(fills, 2), np.concatenate((y, 1 + venue))))
    filled = (
        np.concatenate((ones, np.ones(2 * n), -np.ones(n))),
        (np.concatenate((row, every, every, every)), np.concatenate((y, np.zeros(n, int), u, o))),
    )
    high = np.full(columns, np.inf)
    high[: 1 + k], high[y] = problem.target, room[row, venue]
    return {
        "c": objective,
        "A_ub": coo_array(within, (len(row), columns)).tocsr(),
        "b_ub": np.zeros(len(row)),
        "A_eq": coo_array(filled, (n, columns)).tocsr(),
        "b_eq": np.full(n, problem.target),
        "bounds": np.column_stack((np.zeros(columns), high)),
    }


def _linear(problem: Problem) -> _Relaxed:
    try:
        from scipy.optimize import linprog
    except ImportError as error:
        raise InputError(
            f"method 'linear' and certify need scipy, which cannot be imported ({error}): pip install 'sor[certify]'"
        ) from None
    result = linprog(**relaxation(problem), method="highs")
    if result.status != 0:
        raise SorError(f"HiGHS found no solution: {result.message}")
    parts = np.clip(result.x[: 1 + problem.venue_count], 0.0, problem.target).tolist()
    return _Relaxed(parts, int(result.nit), float(result.fun) / len(problem.outflows))


# --- rounding --------------------------------------------------------------------------------------------------------


def _rounded(parts: Sequence[float], target: float, lot: int) -> list[float]:
    """Limit orders in whole lots, the nearest; the market order takes what they leave of the total, in whole shares.

    Where the nearest lots are more than the total, those that gained most by it go a lot down instead of up.
    """
    limits = [math.floor(part / lot + 0.5) * float(lot) for part in parts[1:]]
    rest = 0.0
    for before, after in zip(parts, (0.0, *limits), strict=True):
        rest += before - after
    while rest < -0.5:
        most = max(range(len(limits)), key=lambda k: limits[k] - parts[1 + k])
        limits[most] -= lot
        rest += lot
    market = float(min(max(math.floor(rest + 0.5), 0), math.ceil(target)))
    return [market, *limits]


# --- public functions ------------------------------------------------------------------------------------------------


def placement_cost(
    market: float,
    limits: Sequence[float],
    target: float,
    half_spread: float,
    fee: float,
    rebates: Sequence[float],
    queues: Sequence[float],
    outflows: Any,
    *,
    theta: float,
    lambda_under: float,
    lambda_over: float,
    per_sample: bool = False,
) -> PlacementCost:
    """What any placement costs, by formula (5), on samples of the outflows.

    Parameters
    ----------
    market : float
        Shares of the market order, not negative.
    limits : sequence of float, length K
        Shares of the limit order at each venue, not negative.
    per_sample : bool
        Whether the cost on each sample is wanted, too, as an array of N.

    The other parameters, and what is raised, are those of `place`.
    """
    problem = problem_of(target, half_spread, fee, rebates, queues, outflows, theta, lambda_under, lambda_over)
    parts = _parts("", market, limits, problem.venue_count).tolist()
    cost = _costed(problem, parts, True)
    return cost if per_sample else msgspec.structs.replace(cost, per_sample=None)


def place(
    target: float,
    half_spread: float,
    fee: float,
    rebates: Sequence[float],
    queues: Sequence[float],
    outflows: Any,
    *,
    theta: float,
    lambda_under: float,
    lambda_over: float,
    method: Method = "refined",
    certify: bool = False,
    lots: int | None = None,
    start: Placement | tuple[float, Sequence[float]] | None = None,
) -> Placement:
    """The cheapest way to divide an order between a market order and limit orders (the problem stands above).

    Parameters
    ----------
    target : float
        S, shares wanted, above 0.
    half_spread, fee : float
        h and f of the venue that the market order goes to, dollars per share; a negative fee is received.
    rebates : sequence of float, length K
        r_k, received by the maker, dollars per share; negative where the maker pays.
    queues : sequence of float, length K
        Q_k, shares ahead of a new limit order.
    outflows : array of shape (N, K), or a distribution
        Samples of what leaves each queue within the horizon, shares, a row a joint sample. A distribution is an object
        with ``cdf`` and ``ppf``, as those of scipy.stats are; for ``closed_form`` only. Its answer is costed on its
        10,000 quantiles (i + 1/2) / 10,000.
    theta, lambda_under, lambda_over : float
        Impact of each share sent or missing, and the penalties of a share missing and in excess, dollars, not negative.
    method : {"refined", "stochastic", "closed_form", "linear"}
        ``refined`` goes downhill by exact line searches over one part, and over exchanges between two, from the answer
        of ``stochastic``, from corners and from equal parts. Up to 128 samples it does so on all of them and tries to
        get out of where it ends; of more, it chooses between the starts other than the first on some, evenly spaced.
        ``stochastic`` is the paper's section 4: one step on each sample, from ``start`` or equal parts, every part
        kept within [0, S], the average of the iterates. ``closed_form`` is Prop. 3, for one venue; samples take the
        left inverse of their empirical distribution. ``linear`` is the placement of HiGHS where fills could be
        declined, which is a linear programme; it is costed without that.
    certify : bool
        Whether to compute the lower bound, the value of that linear programme; needs the extra ``sor[certify]``.
    lots : int, optional
        Limit orders are rounded to multiples of it, the market order to whole shares, together to no more than was
        found; the rounded answer is costed.
    start : Placement or (market, limits), optional
        Where ``stochastic`` and ``refined`` start. ``refined`` then goes down from there alone: much faster where the
        problem has changed little, but it ends in the valley it is in.

    Returns
    -------
    Placement

    Raises
    ------
    InputError
        Where an argument is not what it may be; the message names it.
    """
    one_of("method", method, METHODS)
    lot = None if lots is None else whole_number("lots", lots, 1)
    if _is_distribution(outflows) and method != "closed_form":
        raise InputError(f"outflows is a distribution and method is {method!r}: it must be an array of samples")
    problem = problem_of(target, half_spread, fee, rebates, queues, outflows, theta, lambda_under, lambda_over)
    begin = None if start is None else _start(start, problem)
    relaxed = _linear(problem) if certify or method == "linear" else None
    if method == "linear" and relaxed is not None:
        parts, iterations = relaxed.parts, relaxed.iterations
    elif method == "closed_form":
        parts, iterations = _closed_form(problem, outflows)
    elif method == "stochastic":
        parts, iterations = _stochastic(problem, begin)
    else:
        _, parts, iterations = _refined(problem, begin)
    cost, rounding = _costed(problem, parts, False), None
    if lot is not None:
        parts, exact = _rounded(parts, problem.target, lot), cost.mean
        cost = _costed(problem, parts, False)
        rounding = cost.mean - exact
    bound = relaxed.bound if certify and relaxed is not None else None
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "place: %d venues, %d samples, %s in %d iterations for %g shares: market %g, limits %s, cost %.6g",
            *(len(problem.queues), len(problem.outflows), method, iterations, problem.target),
            *(parts[0], parts[1:], cost.mean),
        )
    return Placement(
        parts[0],
        tuple(parts[1:]),
        cost.mean,
        cost.breakdown,
        cost.expected_underfill,
        cost.expected_overfill,
        cost.underfill_probability,
        cost.overfill_probability,
        bound,
        None if bound is None else cost.mean - bound,
        rounding,
        method,
        iterations,
        _broken_assumptions(problem),
    )
