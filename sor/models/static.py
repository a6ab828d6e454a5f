"""The static split, for callers: check once, call the kernel, return plain types.

Every solver minimises, over splits ``q`` of the order ``S`` over venues with price ``p``, displayed size ``a``,
taker fee ``f`` and maker rebate ``r``::

    e_i  = min(q_i, a_i)                       executed at once
    cash = sum e_i (p_i + f_i) - sum (q_i - e_i) r_i
    U    = max(S - sum e_i, 0),  O = max(sum e_i - S, 0)
    cost = cash + theta_queue (U + O) + lambda_under U + lambda_over O
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from sor.errors import InputError
from sor.kernels import MAX_THREADS, core, in_threads
from sor.types import MAX_NUMBER, Allocation, Level2Venue, Venue, real_number, truth, whole_number

logger = logging.getLogger(__name__)

COLUMNS = ("ask", "ask_size", "fee", "rebate")
DOUBLE = np.dtype(np.float64)
SHAPES = {2: "(k, 4)", 3: "(n, k, 4)"}  # of arrays of quotes, by the number of their dimensions


# --- from what callers have to one contiguous (k, 4) array ------------------------------------------------------------


def quotes_of(venues: Any) -> np.ndarray:
    """Rows of (price, size, fee, rebate) from venues, or the caller's own array of them.

    Raises
    ------
    InputError
        No venues, or a number that is not finite or a size below zero, named.
    """
    if isinstance(venues, np.ndarray):
        return _checked_array(venues)
    venues = _listed(venues, "Venue")
    quotes = np.empty((len(venues), 4))
    try:
        core.pack(venues, quotes)
        usable = core.find_unusable(quotes, MAX_NUMBER) < 0
    except (TypeError, AttributeError, OverflowError):
        usable = False
    return quotes if usable else _packed_slowly(venues)


def _listed(venues: Any, kind: str) -> list[Any]:
    try:
        listed = list(venues)
    except TypeError:
        raise InputError(f"venues is {venues!r}: it must be a sequence of {kind}") from None
    if not listed:
        raise InputError("venues is empty: at least one venue is needed")
    return listed


def _packed_slowly(venues: list[Any]) -> np.ndarray:
    """The rows of venues that hold other numbers than plain ones, such as numpy's; names what is no number."""
    rows = []
    for i, venue in enumerate(venues):
        if not all(hasattr(venue, name) for name in COLUMNS):
            raise InputError(f"venues[{i}] is {venue!r}: it must be a Venue(ask, ask_size, fee, rebate)")
        rows.append(_numbers_of(f"venues[{i}]", venue))
    return np.array(rows)


def _numbers_of(where: str, venue: Any) -> list[float]:
    return [
        real_number(f"{where}.{name}", getattr(venue, name), 0.0 if name == "ask_size" else -MAX_NUMBER)
        for name in COLUMNS
    ]


def _checked_array(array: np.ndarray, name: str = "venues", ndim: int = 2) -> np.ndarray:
    """Contiguous quotes of one snapshot; or with three dimensions of any number, whose numbers are looked at later."""
    if type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array: it must be a plain one, without the venues that are masked")
    shape = array.shape
    if array.dtype != DOUBLE or len(shape) != ndim or shape[ndim - 1] != 4:
        raise InputError(
            f"{name} is an array of {array.dtype} with shape {shape}: it must be float64 with shape {SHAPES[ndim]}, "
            "columns ask, ask_size, fee, rebate"
        )
    if not shape[ndim - 2] and 0 not in shape[:-2]:
        raise InputError(f"{name} is empty: at least one venue is needed")
    array = np.ascontiguousarray(array)
    if ndim == 2:
        unusable = core.find_unusable(array, MAX_NUMBER)
        if unusable >= 0:
            _refuse_row(array, name, unusable)
    return array


def _refuse_row(quotes: np.ndarray, name: str, row: int) -> None:
    """Raise for a row of quotes, counted over all snapshots, that has a number which no quote has."""
    place = np.unravel_index(row, quotes.shape[:-1])
    _numbers_of(name + "".join(f"[{i}]" for i in place), Venue(*quotes[place].tolist()))


def level_quotes_of(venues: Any) -> tuple[np.ndarray, list[int]]:
    """Rows of (price, size, fee, rebate), one per (venue, level), and the number of levels of each venue."""
    venues = _listed([venues] if isinstance(venues, Level2Venue) else venues, "Level2Venue")
    try:
        counts = [len(venue.levels) for venue in venues]
        quotes = np.empty((sum(counts), 4))
        core.pack_levels(venues, counts, quotes)
        usable = core.find_unusable(quotes, MAX_NUMBER) < 0 and 0 not in counts
    except (TypeError, AttributeError, ValueError, OverflowError):
        usable = False
    return (quotes, counts) if usable else _levels_packed_slowly(venues)


def _levels_packed_slowly(venues: list[Any]) -> tuple[np.ndarray, list[int]]:
    """As `_packed_slowly`; also for venues without levels, whose fees no row shows."""
    rows = []
    for i, venue in enumerate(venues):
        if not isinstance(venue, Level2Venue):
            raise InputError(f"venues[{i}] is {venue!r}: it must be a Level2Venue(venue_id, levels, fee, rebate)")
        fees = [real_number(f"venues[{i}].{name}", getattr(venue, name)) for name in ("fee", "rebate")]
        try:
            levels = [(price, size) for _, (price, size) in zip(range(len(venue.levels)), venue.levels, strict=True)]
        except (TypeError, ValueError):
            raise InputError(
                f"venues[{i}].levels is {venue.levels!r}: it must be a sequence of (price, size)"
            ) from None
        for j, (price, size) in enumerate(levels):
            where = f"venues[{i}].levels[{j}]"
            rows.append([real_number(f"{where} price", price), real_number(f"{where} size", size, 0.0), *fees])
    return np.array(rows).reshape(-1, 4), [len(venue.levels) for venue in venues]


def _penalties(lambda_over: Any, lambda_under: Any, theta_queue: Any) -> tuple[float, float, float]:
    return (
        real_number("lambda_over", lambda_over),
        real_number("lambda_under", lambda_under),
        real_number("theta_queue", theta_queue),
    )


def _per_snapshot(name: str, given: Any, n: int, check: Callable[..., Any], kinds: str, dtype: type) -> np.ndarray:
    """An array of n from one number for all snapshots, or from an array of one for each."""
    if not isinstance(given, np.ndarray) or not given.ndim:
        return np.full(n, check(name, given), dtype)
    if isinstance(given, np.ma.MaskedArray) or given.dtype.kind not in kinds or given.shape != (n,):
        kind = "a masked array" if isinstance(given, np.ma.MaskedArray) else "an array"
        raise InputError(
            f"{name} is {kind} of {given.dtype} with shape {given.shape}: it must be a number, or a plain array of "
            f"{np.dtype(dtype)} with shape ({n},)"
        )
    for i in (given.argmin(), given.argmax()) if n else ():  # NaN, where there is one, is both
        check(f"{name}[{i}]", given[i].item())
    return np.ascontiguousarray(given, dtype)


def _told_of(searched: str, size: int, answer: Allocation) -> Allocation:
    """Debug mode: what an allocator looked at, and what it chose."""
    logger.debug("%s for %d shares: split %s, cost %.9g", searched, size, answer.split, answer.cost)
    return answer


# --- public functions ------------------------------------------------------------------------------------------------


def compute_cost(
    split: Sequence[float],
    venues: Sequence[Venue],
    order_size: int,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
) -> float:
    """Cost in dollars of any split, its sum above or below ``order_size`` included (the formula above).

    Parameters
    ----------
    split : sequence of float, length k
        Shares sent to each venue, not negative.
    venues : sequence of Venue, length k, or float64 array of shape (k, 4)
    order_size : int
        Shares wanted.
    lambda_over, lambda_under, theta_queue : float
        Dollars per share executed in excess, missing, and either of the two.

    Raises
    ------
    InputError
        Where an argument is not what it may be; the message names it.
    """
    quotes = quotes_of(venues)
    size = whole_number("order_size", order_size, 0)
    try:
        parts = [real_number(f"split[{i}]", q, 0.0) for i, q in enumerate(split)]
    except TypeError:
        raise InputError(f"split is {split!r}: it must be a sequence of numbers") from None
    if len(parts) != len(quotes):
        raise InputError(f"split has {len(parts)} parts for {len(quotes)} venues: it must have one for each")
    penalties = _penalties(lambda_over, lambda_under, theta_queue)
    return core.cost(np.array(parts), quotes, size, *penalties, 0.0)  # type: ignore[no-any-return]


def search_space(order_size: int, venue_count: int, step: int) -> int:
    """Number of splits that `allocate` chooses from: C(n + k - 1, k - 1), times k with a remainder."""
    n, remainder = divmod(order_size, step)
    return math.comb(n + venue_count - 1, venue_count - 1) * (venue_count if remainder else 1)


def _told(count: int) -> str:
    return f"{count:,}" if count < 10**30 else "more than 10^30"


def allocate(
    order_size: int,
    venues: Sequence[Venue],
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    step: int = 100,
    *,
    reference_price: float = 0.0,
    resting: bool = True,
) -> Allocation:
    """The cheapest complete split of an order over venues, at any number of venues.

    Chosen from all splits whose parts are not negative, add up to ``order_size`` and are multiples of ``step``,
    but for one part that also carries ``order_size % step``: the optimum of `allocate_exhaustive`, in O(k^2) for k
    venues however fine the grid (O(k^3) with a remainder), since costs per venue are two straight pieces. Ties:
    working from the first venue to the last, the later venue gets the fewest shares, and the remainder stays with
    the earlier one.

    Parameters
    ----------
    order_size : int
        Shares, not negative.
    venues : sequence of Venue, or float64 array of shape (k, 4)
        An array's columns are ask, ask_size, fee, rebate.
    lambda_over, lambda_under, theta_queue : float
        Penalties, dollars per share.
    step : int
        Grid of the split, shares.
    reference_price : float
        Dollars per share that every price is measured against; the mid makes the cost a shortfall.
    resting : bool
        With False only displayed shares are taken: whole shares, as many of the order as are displayed, at the
        least price + fee (ties: lower price, then the venues' order); ``step`` plays no part.

    Returns
    -------
    Allocation
        ``(split, cost)``: shares per venue, and `compute_cost` of it, prices less the reference, in dollars.

    Raises
    ------
    InputError
        Where an argument is not what it may be.
    """
    quotes = quotes_of(venues)
    size = whole_number("order_size", order_size, 0)
    grid = whole_number("step", step, 1)
    over, under, queue = _penalties(lambda_over, lambda_under, theta_queue)
    reference = real_number("reference_price", reference_price)
    if resting is not True and not truth("resting", resting):
        answer = Allocation._make(core.sweep(quotes, size, over, under, queue, reference))
        searched = "the displayed shares of"
    else:
        answer = Allocation._make(core.allocate(quotes, size, over, under, queue, grid, reference))
        searched = "two straight pieces of each of"
    if logger.isEnabledFor(logging.DEBUG):
        return _told_of(f"allocate: {searched} {len(quotes)} venues in steps of {grid if resting else 1}", size, answer)
    return answer


def allocate_many(
    quotes: np.ndarray,
    size: Any,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    step: int = 100,
    *,
    resting: bool = True,
    reference_price: Any = 0.0,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """`allocate` on each of n snapshots of k venues: the same splits and costs, bit for bit, in one call.

    Python's lock is released meanwhile. The answer does not depend on the number of threads.

    Parameters
    ----------
    quotes : float64 array of shape (n, k, 4)
        Columns ask, ask_size, fee, rebate: dollars per share, and shares. One that is not C-contiguous is copied. A
        venue that shows nothing has size 0. With n = 0 the answer is empty.
    size : int, or array of n integers
        Shares of every order, or of one for each snapshot; not negative.
    lambda_over, lambda_under, theta_queue : float
        Penalties, dollars per share.
    step : int
        Grid of the splits, shares.
    resting : bool
        As for `allocate`: with False only displayed shares are taken.
    reference_price : float, or array of n floats
        Dollars per share that prices are measured against, of every snapshot or of each.
    threads : int
        Number of threads; each takes a row of snapshots of its own.

    Returns
    -------
    splits : int64 array of shape (n, k)
        Shares per venue.
    costs : float64 array of shape (n,)
        Dollars.

    Raises
    ------
    InputError
        Where an argument is not what it may be; a wrong quote is named by snapshot, venue and column, such as
        ``quotes[7][2].ask_size``.
    """
    if not isinstance(quotes, np.ndarray):
        raise InputError(f"quotes is a {type(quotes).__name__}: it must be a float64 array with shape {SHAPES[3]}")
    quotes = _checked_array(quotes, "quotes", 3)
    n, k, _ = quotes.shape
    sizes = _per_snapshot("size", size, n, partial(whole_number, low=0), "iu", np.int64)
    grid = whole_number("step", step, 1)
    penalties = _penalties(lambda_over, lambda_under, theta_queue)
    references = _per_snapshot("reference_price", reference_price, n, real_number, "iuf", np.float64)
    rests = truth("resting", resting)
    number = whole_number("threads", threads, 1, MAX_THREADS)
    splits, costs = np.empty((n, k), np.int64), np.empty(n)

    def solve(part: slice) -> None:
        unusable = core.find_unusable(quotes[part].reshape(-1, 4), MAX_NUMBER)
        if unusable >= 0:
            _refuse_row(quotes, "quotes", part.start * k + unusable)
        orders, answers = (quotes[part], sizes[part], *penalties), (references[part], splits[part], costs[part])
        if rests:
            core.allocate_many(*orders, grid, *answers)
        else:
            core.sweep_many(*orders, *answers)

    in_threads(n, number, solve)
    logger.debug("allocate_many: %d snapshots of %d venues, in %d threads", n, k, number)
    return splits, costs


def allocate_exhaustive(
    order_size: int,
    venues: Sequence[Venue],
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    step: int = 100,
    *,
    reference_price: float = 0.0,
    resting: bool = True,
    max_splits: int = 10**8,
) -> Allocation:
    """The optimum of `allocate` by trying every split: for small cases, and as proof.

    The arguments are those of `allocate`, and ``max_splits``, the largest search space that is tried. With
    ``resting=False`` no split exceeds a displayed size; whole shares are tried one by one, whatever the step.
    Ties: the first split in lexicographic order.

    Raises
    ------
    InputError
        As `allocate`, and where the search space is larger than ``max_splits``.
    """
    quotes = quotes_of(venues)
    size = whole_number("order_size", order_size, 0)
    grid = whole_number("step", step, 1)
    over, under, queue = _penalties(lambda_over, lambda_under, theta_queue)
    reference = real_number("reference_price", reference_price)
    limit = whole_number("max_splits", max_splits, 1)
    total = size
    if not truth("resting", resting):
        total = min(size, sum(math.floor(displayed) for displayed in quotes[:, 1].tolist()))
        grid = 1
    splits = search_space(total, len(quotes), grid)
    if splits > limit:
        raise InputError(
            f"step is {grid}: {total} shares over {len(quotes)} venues have {_told(splits)} splits, more than "
            f"max_splits ({limit:,}); allocate() gives the same optimum without the search"
        )
    answer = Allocation._make(core.exhaustive(quotes, total, size, over, under, queue, grid, reference, resting))
    if logger.isEnabledFor(logging.DEBUG):
        return _told_of(f"allocate_exhaustive: {splits:,} splits over {len(quotes)} venues", size, answer)
    return answer


def allocate_greedy_l2(
    order_size: int,
    venues: Sequence[Level2Venue],
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
) -> Allocation:
    """Fill an order from displayed levels, the cheapest price + fee first, in O(m log m) for m levels.

    A taker earns no rebate, so none is counted. Ties: lower price, then the venues' order, then the level.

    Parameters
    ----------
    order_size : int
        Shares, not negative.
    venues : sequence of Level2Venue
        Levels in any order.
    lambda_over, lambda_under, theta_queue : float
        Penalties, dollars per share: they price what stays unfilled, and choose nothing.

    Returns
    -------
    Allocation
        ``(allocation per venue, cost)``; for the cost each (venue, level) counts as a venue.

    Raises
    ------
    InputError
        Where an argument is not what it may be.
    """
    quotes, counts = level_quotes_of(venues)
    size = whole_number("order_size", order_size, 0)
    fills, cost = core.sweep(quotes, size, *_penalties(lambda_over, lambda_under, theta_queue), 0.0)
    answer = Allocation(core.per_venue(fills, counts), cost)
    if logger.isEnabledFor(logging.DEBUG):
        return _told_of(f"allocate_greedy_l2: {len(quotes)} levels of {len(counts)} venues", size, answer)
    return answer
