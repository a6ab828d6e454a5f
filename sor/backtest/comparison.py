"""Is the difference between two ways of working the same parent orders real?

Each parent i has one difference d_i, the strategy's cost less the baseline's in basis points: negative is cheaper.
Parents whose lives overlap see the same market, so they are no independent observations. Blocks of clock time of
``BLOCK_HORIZONS`` horizons, each with all symbols, sides and sizes of its time, nearly are::

    m_b = mean of d_i over the parents that live within block b              b = 1..B
    m   = mean of m_b        s^2 = sum (m_b - m)^2 / (B - 1)                                                      (1)
    m -/+ t_{B-1}(0.975) s / sqrt(B)                                         the interval                         (2)
    p   = P(|T_{B-1}| >= |m| sqrt(B) / s)                                    without a difference                 (3)

Every block weighs the same, however many parents it holds. A block crosses no day, and a parent whose life reaches
into the next block is in none. Under ``FEWEST_BLOCKS`` blocks there is a mean and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from sor.errors import InputError
from sor.types import MAX_NUMBER, real_number, whole_number

BLOCK_HORIZONS = 5
SHORTEST_BLOCK, LONGEST_BLOCK = 3, 1_000  # horizons: in shorter ones neighbours share too much of what they saw
FEWEST_BLOCKS = 10
LEVEL = 0.05  # of a chance finding; intervals are of 1 - LEVEL
MOST_DECIMALS = 6  # of a printed number; a smaller one is written with its power of ten
LONGEST_HORIZON = 86_400 * 10**9  # ns, a day
LATEST = 2**62  # ns since the epoch: a sum of two such times fits in 64 bits
SETTLED = 1e-15  # relative change at which a continued fraction or a root has its value


# --- results ---------------------------------------------------------------------------------------------------------


class Mean(msgspec.Struct, frozen=True, kw_only=True):
    """The mean of one number a parent, such as a strategy's cost.

    Attributes
    ----------
    mean_bps : float or None
        Equation (1), basis points; None where no parent lies within a block.
    low, high : float or None
        Equation (2), basis points; None where there are too few blocks.
    blocks : int
        Blocks that hold a parent.
    orders, left_out : int
        Parents within the blocks, and those whose lives reach into the next one.
    p_value : float or None
        Equation (3), of a true mean of 0; None where there is no interval.
    autocorrelation : float or None
        Of means of blocks that follow each other on one day, within [-1, 1]: what is far from 0 says that dependence
        reaches beyond a block, and the interval is too short. None under ``FEWEST_BLOCKS`` such pairs, or where the
        means do not vary.
    why : str or None
        Why there is no interval.
    """

    mean_bps: float | None
    low: float | None
    high: float | None
    blocks: int
    orders: int
    left_out: int
    p_value: float | None
    autocorrelation: float | None
    why: str | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy less its baseline, on the same parents: negative is cheaper.

    Attributes
    ----------
    difference_bps, low, high, blocks, orders, left_out, p_value, autocorrelation, why
        As in `Mean`.
    better, worse, equal : int
        Parents within the blocks in which the strategy was cheaper, dearer, and the same to the last bit.
    p_adjusted : float or None
        The p-value by Holm's method within its family; `adjust` fills it in.
    """

    difference_bps: float | None
    low: float | None
    high: float | None
    blocks: int
    orders: int
    left_out: int
    better: int
    worse: int
    equal: int
    p_value: float | None
    p_adjusted: float | None = None
    autocorrelation: float | None
    why: str | None


# --- means and differences -------------------------------------------------------------------------------------------


class Lives(NamedTuple):
    """When the parents of a study lived.

    Attributes
    ----------
    day : array of int, shape (N,)
        The trading day, in any numbering that rises with time.
    arrival, end : array of int, shape (N,)
        Nanoseconds since the epoch. ``end`` is the later one of the strategies compared, and best what was known at
        arrival (horizon and grace): where it depends on how an order went, those that went badly are left out.
    session_start : array of int, shape (N,)
        Nanoseconds: from where the blocks of its day count. Of several on one day the earliest counts for all, so
        that a block holds all that happened in its time.
    """

    day: ArrayLike
    arrival: ArrayLike
    end: ArrayLike
    session_start: ArrayLike


def mean_of(values_bps: ArrayLike, lives: Lives, horizon: int, block_horizons: int = BLOCK_HORIZONS) -> Mean:
    """The mean of one number a parent, with its interval by blocks of clock time.

    Parameters
    ----------
    values_bps : array of shape (N,)
        Basis points, such as the cost of each parent.
    lives : Lives
    horizon : int
        Nanoseconds, one for the study.
    block_horizons : int
        Horizons a block, at least 3.

    Raises
    ------
    InputError
        Where arrays differ in length or hold what is no number, a parent ends before it arrives or arrives outside
        its day, days are out of order, or a length is out of range.
    """
    return _mean(_blocks("values_bps", values_bps, lives, _length(horizon, block_horizons)))


def compare(difference_bps: ArrayLike, lives: Lives, horizon: int, block_horizons: int = BLOCK_HORIZONS) -> Comparison:
    """A strategy held against its baseline.

    Parameters
    ----------
    difference_bps : array of shape (N,)
        Basis points: the strategy's cost of a parent less the baseline's cost of the same one.
    lives, horizon, block_horizons
        As in `mean_of`.

    Raises
    ------
    InputError
        As `mean_of` does.
    """
    found = _blocks("difference_bps", difference_bps, lives, _length(horizon, block_horizons))
    result = msgspec.structs.asdict(_mean(found))
    return Comparison(
        difference_bps=result.pop("mean_bps"),
        better=int(np.count_nonzero(found.values < 0.0)),
        worse=int(np.count_nonzero(found.values > 0.0)),
        equal=int(np.count_nonzero(found.values == 0.0)),
        **result,
    )


class _Blocks(NamedTuple):
    """What lies within blocks, in the order of time."""

    values: np.ndarray  # of the parents, block by block
    means: list[float]  # (B,)
    followed: np.ndarray  # (B - 1,): whether the next of them is the next block of the same day
    left_out: int


def _length(horizon: int, block_horizons: int) -> int:
    """Of a block, nanoseconds."""
    horizons = whole_number("block_horizons", block_horizons, SHORTEST_BLOCK, LONGEST_BLOCK)
    return horizons * whole_number("horizon", horizon, 1, LONGEST_HORIZON)


def _blocks(name: str, values: ArrayLike, lives: Lives, length: int) -> _Blocks:
    numbers = _numbers(name, values)
    columns = zip(Lives._fields, lives, strict=True)
    days, arrivals, ends, starts = (_integers(key, column, name, len(numbers)) for key, column in columns)
    _refuse(ends < arrivals, "end", ends, "before its arrival")
    _refuse(arrivals < starts, "arrival", arrivals, "before its session starts")
    which, origins, overs = _sessions(days, arrivals, starts)
    block = (arrivals - origins[which]) // length
    inside = ends - origins[which] <= np.minimum((block + 1) * length, overs[which] - origins[which])
    which, block, numbers = which[inside], block[inside], numbers[inside]
    order = np.lexsort((block, which))
    which, block, numbers = which[order], block[order], numbers[order]
    firsts = np.flatnonzero(np.diff(which, prepend=-1) | np.diff(block, prepend=-1))
    means = [_exact_mean(part.tolist()) for part in np.split(numbers, firsts[1:])] if len(numbers) else []
    followed = (np.diff(which[firsts]) == 0) & (np.diff(block[firsts]) == 1)
    return _Blocks(numbers, means, followed, len(inside) - len(numbers))


def _sessions(days: np.ndarray, arrivals: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each parent's place among the days (N,); each day's earliest session start, and that of the next day (D,)."""
    names, which = np.unique(days, return_inverse=True)
    origins = np.full(len(names), LATEST, dtype=np.int64)
    np.minimum.at(origins, which, starts)
    for place in np.flatnonzero(np.diff(origins) <= 0)[:1]:
        raise InputError(f"session_start of day {names[place + 1]} is no later than that of day {names[place]}")
    overs = np.append(origins[1:], LATEST)
    _refuse(arrivals >= overs[which], "arrival", arrivals, "after the next day's session has started")
    return which, origins, overs


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    array = _column(name, values, "iuf").astype(np.float64)
    _refuse(~(np.abs(array) <= MAX_NUMBER), name, array, f"no number from {-MAX_NUMBER:g} to {MAX_NUMBER:g}")
    return array


def _integers(name: str, values: ArrayLike, of: str, count: int) -> np.ndarray:
    array = _column(name, values, "iu")
    if len(array) != count:
        raise InputError(f"{name} has {len(array)} entries and {of} {count}: they must be of the same parents")
    _refuse((array < 0) | (array >= LATEST), name, array, "not within 0 and 2**62")
    return array.astype(np.int64)


def _column(name: str, values: ArrayLike, kinds: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or isinstance(values, np.ma.MaskedArray) or (array.size and array.dtype.kind not in kinds):
        what = "whole numbers" if kinds == "iu" else "numbers"
        raise InputError(f"{name} must be one column of {what}; it is of shape {array.shape} and type {array.dtype}")
    return array


def _refuse(bad: np.ndarray, name: str, values: np.ndarray, what: str) -> None:
    for place in np.flatnonzero(bad)[:1]:
        raise InputError(f"{name}[{place}] is {values[place]}: {what}")


def _exact_mean(values: list[float]) -> float:
    """Whatever their order, and of equal numbers that number."""
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def _mean(found: _Blocks) -> Mean:
    means, blocks = found.means, len(found.means)
    low = high = p_value = why = None
    if blocks >= FEWEST_BLOCKS:
        low, high, p_value = _interval(means)
    elif blocks or not found.left_out:
        why = f"too few blocks ({blocks}; {FEWEST_BLOCKS} are needed)"
    else:
        why = f"no block holds an order's whole life ({found.left_out} reach into the next one)"
    return Mean(
        mean_bps=_exact_mean(means) if means else None,
        low=low,
        high=high,
        blocks=blocks,
        orders=len(found.values),
        left_out=found.left_out,
        p_value=p_value,
        autocorrelation=_autocorrelation(np.array(means), found.followed),
        why=why,
    )


def _interval(means: list[float]) -> tuple[float, float, float]:
    """Equations (2) and (3). Means that do not vary leave no doubt: the interval is a point."""
    count, mean = len(means), _exact_mean(means)
    error = math.hypot(*(value - mean for value in means)) / math.sqrt((count - 1) * count)
    if error == 0.0:
        return mean, mean, float(mean == 0.0)
    reach = t_quantile(1.0 - LEVEL / 2.0, count - 1) * error
    return mean - reach, mean + reach, _outside(mean / error, count - 1)


def _autocorrelation(means: np.ndarray, followed: np.ndarray) -> float | None:
    """r = sum x_b x_{b+1} / sqrt(sum x_b^2 sum x_{b+1}^2) over pairs of neighbours, with x = m_b - m."""
    if np.count_nonzero(followed) < FEWEST_BLOCKS:
        return None
    apart = means - _exact_mean(means.tolist())
    apart /= np.abs(apart).max() or 1.0  # their squares neither overflow nor vanish
    before, after = apart[:-1][followed], apart[1:][followed]
    scale = math.sqrt(float(before @ before) * float(after @ after))
    return min(1.0, max(-1.0, float(before @ after) / scale)) if scale else None


# --- several comparisons ---------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values of a family, in the order given.

    With p_(1) <= .. <= p_(n) the adjusted ones are max over j <= k of min(1, (n - j + 1) p_(j)): to reject where these
    are at most 5 % rejects a true hypothesis anywhere in the family with a chance of at most 5 %. None is not in it.

    Raises
    ------
    InputError
        Where a p-value is not within [0, 1].
    """
    known = [(real_number("p_values", p, 0.0, 1.0), place) for place, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        adjusted[place] = largest = max(largest, min(1.0, (len(known) - rank) * p))
    return adjusted


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with ``p_adjusted``; they must be every difference to the baseline in the study."""
    adjusted = holm([one.p_value for one in comparisons])
    return [msgspec.structs.replace(one, p_adjusted=p) for one, p in zip(comparisons, adjusted, strict=True)]


# --- in words --------------------------------------------------------------------------------------------------------


def sentence(compared: Sequence[tuple[str, Comparison]], baseline: str) -> str:
    """What comparisons to one baseline say, in plain words, a clause for each.

    A difference is told where its adjusted p-value is at most 5 %. Numbers are basis points without a sign, in the
    direction that the words say.

    Raises
    ------
    InputError
        Where a comparison has a p-value that `adjust` has not seen.

    Examples
    --------
    >>> cheaper = Comparison(
    ...     difference_bps=-0.4, low=-0.7, high=-0.1, blocks=38, orders=950, left_out=230, better=600, worse=340,
    ...     equal=10, p_value=0.01, p_adjusted=0.01, autocorrelation=0.02, why=None)
    >>> sentence([("brute_force", cheaper)], "nbbo")
    'brute_force was 0.4 bps cheaper than nbbo, 95 % interval 0.1 to 0.7 over 38 blocks'
    """
    if not compared:
        return f"nothing was compared with {baseline}"
    return "; ".join(_clause(name, one, baseline) for name, one in compared)


def _clause(name: str, one: Comparison, baseline: str) -> str:
    if one.orders and one.equal == one.orders:
        everywhere = f"all {one.orders:,} orders compared" if one.orders > 1 else "the one order compared"
        return f"{name} was exactly the same as {baseline} in {everywhere}"
    if one.difference_bps is None or one.low is None or one.high is None or one.p_value is None:
        return f"nothing can be said of {name}: {one.why}"
    if one.p_adjusted is None:
        raise InputError(f"the comparison of {name} has no p_adjusted: adjust() all of the study first")
    shown, low, high = _shown(one.difference_bps, one.low, one.high)
    interval, blocks = f"{100.0 * (1.0 - LEVEL):g} % interval", f"over {one.blocks} blocks"
    side, near, far = ("cheaper", high, low) if one.difference_bps < 0.0 else ("dearer", low, high)
    if one.p_adjusted <= LEVEL:
        return f"{name} was {shown} bps {side} than {baseline}, {interval} {near} to {far} {blocks}"
    if one.low < 0.0 < one.high:
        return f"nothing can be said of {name}, {interval} {low} bps cheaper to {high} dearer {blocks}"
    among = f"but its p-value among all comparisons is {one.p_adjusted:.2g}"
    return f"nothing can be said of {name}, {interval} {near} to {far} bps {side} {blocks}, {among}"


def _shown(difference: float, low: float, high: float) -> list[str]:
    """Without signs, rounded by a fifth of the interval's half width at most."""
    decimals = _decimals(max((high - low) / 5.0, abs(difference) / 1000.0))
    return [_unsigned(abs(number), decimals) for number in (difference, low, high)]


def _unsigned(size: float, decimals: int) -> str:
    """What is not 0 gets as many more as show that."""
    text = f"{size:.{decimals}f}"
    if float(text) or not size:
        return text
    text = f"{size:.{_decimals(size)}f}"
    return text if float(text) else f"{size:.0e}"


def _decimals(size: float) -> int:
    """Down to the first digit of ``size`` that is not 0."""
    return min(MOST_DECIMALS, max(1, -math.floor(math.log10(size)))) if size else 1


# --- Student's t distribution ----------------------------------------------------------------------------------------


def t_cdf(value: float, freedom: float) -> float:
    """P(T <= value) with ``freedom`` degrees of freedom."""
    beyond = 0.5 * _outside(value, freedom)
    return beyond if value < 0.0 else 1.0 - beyond


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: float) -> float:
    """The value that T stays below with a ``probability`` within (0, 1).

    Newton's method on the upper tail. The normal quantile lies closer to 0, and above 0 the distribution function is
    concave, so each step goes up and none goes too far.
    """
    if not 0.0 < probability < 1.0:
        raise InputError(f"probability is {probability}: it must lie between 0 and 1")
    if not freedom >= 1.0:
        raise InputError(f"freedom is {freedom}: it must be at least 1")
    tail = min(probability, 1.0 - probability)
    value = abs(NormalDist().inv_cdf(tail))
    while (step := (0.5 * _outside(value, freedom) - tail) / _t_density(value, freedom)) > SETTLED * value:
        value += step
    return value if probability >= 0.5 else -value


def _outside(value: float, freedom: float) -> float:
    """P(|T| >= |value|) = I_x(n / 2, 1 / 2) at x = n / (n + value^2), n the degrees of freedom."""
    length = math.hypot(value, math.sqrt(freedom))
    return _incomplete_beta(0.5 * freedom, 0.5, freedom / length / length, (value / length) ** 2)


def _t_density(value: float, freedom: float) -> float:
    log = math.lgamma(0.5 * freedom + 0.5) - math.lgamma(0.5 * freedom) - 0.5 * math.log(math.pi * freedom)
    return math.exp(log - 0.5 * (freedom + 1.0) * math.log1p(value * value / freedom))


def _incomplete_beta(a: float, b: float, x: float, y: float) -> float:
    """I_x(a, b), regularised, with y = 1 - x given beside x, as one of the two may be tiny."""
    if x <= 0.0 or y <= 0.0:
        return float(y <= 0.0)
    log_x, log_y = (math.log(x), math.log1p(-x)) if x < y else (math.log1p(-y), math.log(y))
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * log_x + b * log_y)
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(a, b, x) / a
    return 1.0 - front * _fraction(b, a, y) / b


def _fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d_1 / (1 + d_2 / (1 + ..))) by Lentz's method, for x below (a + 1) / (a + b + 2).

    d_{2m} = m (b - m) x / ((a + 2m - 1)(a + 2m)), d_{2m+1} = -(a + m)(a + b + m) x / ((a + 2m)(a + 2m + 1)).
    """
    upper, lower, value, change, term = 1.0, 0.0, 1.0, 0.0, 0
    while abs(change - 1.0) > SETTLED:
        term += 1
        m, odd = divmod(term, 2)
        if odd:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1.0 / (1.0 + part * lower)
        upper = 1.0 + part / upper
        change = upper * lower
        value *= change
    return 1.0 / value
