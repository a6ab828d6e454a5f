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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from sor.errors import InputError
from sor.kernels import MAX_THREADS, core, in_threads
from sor.types import (
    MAX_NUMBER,
    MAX_ORDER,
    PARTS,
    Allocation,
    Level2Venue,
    Venue,
    VenueRules,
    real_number,
    rules_of,
    truth,
    whole_number,
)

logger = logging.getLogger(__name__)

COLUMNS = ("ask", "ask_size", "fee", "rebate")
DOUBLE = np.dtype(np.float64)
RULES = ("lot", "min_quantity", "min_notional", "min_execution", "max_quantity", "ticket", "fee_bps")
PLAIN, PLAIN_LEVELS = Venue(0.0, 0.0, 0.0, 0.0), Level2Venue("", (), 0.0, 0.0)  # without rules
MOST_CELLS = 10**7  # of the tables of one split under rules: a tenth of a second, and up to 200 MB
NEARLY = 1 - 1e-12  # of a least notional: products of decimals are off by a part in 10^15
RULES_REST = "resting is True: venues with rules are for displayed shares only, which is resting=False"
SHAPES = {2: "(k, 4)", 3: "(n, k, 4)"}  # of arrays of quotes, by the number of their dimensions


# --- from what callers have to one contiguous (k, 4) array ------------------------------------------------------------


def quotes_of(venues: Any, rules: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of (price, size, fee, rebate) from venues, or the caller's own array of them; and rows of rules, if any.

    Fees and rebates in basis points are then part of the others.

    Raises
    ------
    InputError
        No venues, or a number that is not finite or a size below zero, named.
    """
    if isinstance(venues, np.ndarray):
        quotes = _checked_array(venues)
        return (quotes, None) if rules is None else _with_rules(quotes, _checked_rules(rules, len(quotes)))
    if rules is not None:
        raise InputError(f"rules is {type(rules).__name__}: venues that are no array have rules of their own")
    venues = _listed(venues, "Venue")
    quotes, ruled = np.empty((len(venues), 4)), True
    try:
        ruled = core.pack(venues, quotes, PLAIN)
        usable = core.find_unusable(quotes, MAX_NUMBER) < 0
    except (TypeError, AttributeError, OverflowError):
        usable = False
    if not usable:
        quotes = _packed_slowly(venues)
    return _ruled(venues, quotes) if ruled else (quotes, None)


def _ruled(venues: list[Any], quotes: np.ndarray, counts: list[int] | None = None) -> tuple[np.ndarray, Any]:
    """With their rules, where one has any; ``counts`` rows each."""
    rules, rebates = zip(*(rules_of(f"venues[{i}]", venue) for i, venue in enumerate(venues)), strict=True)
    if all(rule == _NO_RULES for rule in rules) and not any(rebates):
        return quotes, None
    return _with_rules(quotes, np.array(rules), counts, np.array(rebates))


_NO_RULES = rules_of("", PLAIN)[0]


def _with_rules(
    quotes: np.ndarray, rules: np.ndarray, counts: list[int] | None = None, rebates: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Parts of the price become dollars a share."""
    for column, points in ((2, rules[:, 6]), (3, rebates)):
        if points is not None and any(points.tolist()):
            each = points if counts is None else np.repeat(points, counts)
            quotes = quotes.copy()
            quotes[..., column] += np.abs(quotes[..., 0]) * each / PARTS
    return quotes, rules


def _checked_rules(given: Any, k: int) -> np.ndarray:
    """An array of rules of k venues, contiguous."""
    shape = (k, len(RULES))
    if type(given) is not np.ndarray or given.dtype != DOUBLE or given.shape != shape:
        kind = f"an array of {given.dtype} with shape {given.shape}" if isinstance(given, np.ndarray) else repr(given)
        raise InputError(f"rules is {kind}: it must be float64 with shape {shape}, columns {', '.join(RULES)}")
    rules: np.ndarray = np.ascontiguousarray(given)
    row = core.find_unruly(rules, MAX_ORDER, MAX_NUMBER, PARTS)
    if row >= 0:
        values = dict(zip(RULES, rules[row].tolist(), strict=True))
        if values["max_quantity"] == math.inf:
            del values["max_quantity"]
        rules_of(f"rules[{row}]", VenueRules(**values))
    return rules


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


def level_quotes_of(venues: Any) -> tuple[np.ndarray, np.ndarray | None, list[int]]:
    """Rows of (price, size, fee, rebate), one per (venue, level); any rules; and the number of levels of each venue."""
    venues = _listed([venues] if isinstance(venues, Level2Venue) else venues, "Level2Venue")
    try:
        counts = [len(venue.levels) for venue in venues]
        quotes = np.empty((sum(counts), 4))
        ruled = core.pack_levels(venues, counts, quotes, PLAIN_LEVELS)
        usable = core.find_unusable(quotes, MAX_NUMBER) < 0 and 0 not in counts
    except (TypeError, AttributeError, ValueError, OverflowError):
        usable = False
    if not usable:
        ruled = True
        quotes, counts = _levels_packed_slowly(venues)
    return (*_ruled(venues, quotes, counts), counts) if ruled else (quotes, None, counts)


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


# --- under rules -----------------------------------------------------------------------------------------------------


def _no_rules(k: int) -> np.ndarray:
    return np.tile(_NO_RULES, (k, 1))


def _by_rules(
    quotes: np.ndarray,
    counts: list[int],
    rules: np.ndarray | None,
    size: int,
    penalties: tuple[float, float, float],
    reference: float,
    fill_first: bool,
) -> Allocation:
    """The split of venues of ``counts`` rows each."""
    ruled = _no_rules(len(counts)) if rules is None else rules
    fills, cost, bound = rows_by_rules(quotes, counts, ruled, size, penalties, reference, fill_first)
    answer = Allocation(core.per_venue(fills, counts), cost)
    if bound is not None:
        answer._bound = bound
    return answer


def rows_by_rules(
    quotes: np.ndarray,
    counts: list[int],
    rules: np.ndarray,
    size: int,
    penalties: tuple[float, float, float],
    reference: float = 0.0,
    fill_first: bool = True,
) -> tuple[list[int], float, float | None]:
    """Shares by row, their cost, and where that is not proven to be the least, what it cannot be less than."""
    fills, cost, proven = core.sweep_by_rules(
        quotes, counts, rules, NEARLY, size, *penalties, reference, fill_first, MOST_CELLS
    )
    return fills, cost, None if proven else _bound(quotes, fills, size, penalties, reference, fill_first)


def _bound(
    quotes: np.ndarray,
    fills: list[int],
    size: int,
    penalties: tuple[float, float, float],
    reference: float,
    fill_first: bool,
) -> float:
    """What as many shares cost without rules; or, where penalties weigh, as many as pay."""
    _, under, queue = penalties
    if fill_first:
        wanted = sum(fills)
    else:
        wanted, quotes = size, quotes.copy()
        quotes[(quotes[:, 0] - reference) + quotes[:, 2] > under + queue, 1] = 0.0
    least, _ = core.sweep(quotes, wanted, *penalties, reference)
    return core.cost(np.array(least, float), quotes, size, *penalties, reference)  # type: ignore[no-any-return]


class SplitsAndCosts(NamedTuple):
    """The two parts of `Allocations`."""

    splits: np.ndarray
    costs: np.ndarray


class Allocations(SplitsAndCosts):
    """What `allocate_many` returns: a pair of arrays.

    Attributes
    ----------
    unproven : mapping of int to float
        The bounds of the snapshots whose splits are not proven (see `sor.Allocation`), by their index.
    """

    unproven: Mapping[int, float] = MappingProxyType({})


# --- public functions ------------------------------------------------------------------------------------------------


def compute_cost(
    split: Sequence[float],
    venues: Sequence[Venue],
    order_size: int,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    *,
    rules: np.ndarray | None = None,
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
    rules : float64 array of shape (k, 7), optional
        Of an array of venues, as for `allocate`. A venue that shares are sent to costs its ticket, too; whether the
        split keeps the rules is not asked.

    Raises
    ------
    InputError
        Where an argument is not what it may be; the message names it.
    """
    quotes, ruled = quotes_of(venues, rules)
    size = whole_number("order_size", order_size, 0)
    try:
        parts = [real_number(f"split[{i}]", q, 0.0) for i, q in enumerate(split)]
    except TypeError:
        raise InputError(f"split is {split!r}: it must be a sequence of numbers") from None
    if len(parts) != len(quotes):
        raise InputError(f"split has {len(parts)} parts for {len(quotes)} venues: it must have one for each")
    penalties = _penalties(lambda_over, lambda_under, theta_queue)
    cost: float = core.cost(np.array(parts), quotes, size, *penalties, 0.0)
    if ruled is not None:
        for part, ticket in zip(parts, ruled[:, 5].tolist(), strict=True):
            if part > 0.0:
                cost += ticket
    return cost


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
    rules: np.ndarray | None = None,
    fill_first: bool = True,
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
    rules : float64 array of shape (k, 7), optional
        What the venues of an array let one send, with ``resting=False``: columns lot, min_quantity, min_notional,
        min_execution, max_quantity (infinite where there is none), ticket, fee_bps, as `VenueRules` tells. Venues that
        are objects have rules of their own. Under rules as many shares as they allow are taken, whatever a last share
        costs in tickets, and then those of the least cost; of several such splits one, the same with both kernels.
    fill_first : bool
        With False, and ``resting=False``, shares are taken only as far as they cost less than the penalties of missing
        them, tickets included.

    Returns
    -------
    Allocation
        ``(split, cost)``: shares per venue, and `compute_cost` of it, prices less the reference, in dollars. It is
        ``proven``, but where the tables of a split under rules would have more than 10 million cells: then it keeps the
        rules, and ``bound`` is what as many shares cost without any.

    Raises
    ------
    InputError
        Where an argument is not what it may be; rules with ``resting=True``.
    """
    quotes, ruled = quotes_of(venues, rules)
    size = whole_number("order_size", order_size, 0)
    grid = whole_number("step", step, 1)
    over, under, queue = _penalties(lambda_over, lambda_under, theta_queue)
    reference = real_number("reference_price", reference_price)
    first = fill_first is True or truth("fill_first", fill_first)
    if resting is True or truth("resting", resting):
        if ruled is not None:
            raise InputError(RULES_REST)
        answer = Allocation._make(core.allocate(quotes, size, over, under, queue, grid, reference))
        searched = "two straight pieces of each of"
    elif ruled is None and first:
        answer = Allocation._make(core.sweep(quotes, size, over, under, queue, reference))
        searched = "the displayed shares of"
    else:
        answer = _by_rules(quotes, [1] * len(quotes), ruled, size, (over, under, queue), reference, first)
        searched = "the displayed shares, under rules, of"
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
    rules: np.ndarray | None = None,
    fill_first: bool = True,
) -> Allocations:
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
    rules : float64 array of shape (k, 7), optional
        As for `allocate`, with ``resting=False``; the same venues in every snapshot.
    fill_first : bool
        As for `allocate`.

    Returns
    -------
    splits : int64 array of shape (n, k)
        Shares per venue.
    costs : float64 array of shape (n,)
        Dollars. The pair has an attribute, too: ``unproven``, the bounds of snapshots whose splits are not proven.

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
    rests, first = truth("resting", resting), truth("fill_first", fill_first)
    number = whole_number("threads", threads, 1, MAX_THREADS)
    splits, costs, proven = np.empty((n, k), np.int64), np.empty(n), np.ones(n, np.uint8)
    shown, ruled = quotes, None
    if rules is not None or not (rests or first):
        shown, ruled = _with_rules(quotes, _no_rules(k) if rules is None else _checked_rules(rules, k))
    if ruled is not None and rests:
        raise InputError(RULES_REST)

    def solve(part: slice) -> None:
        unusable = core.find_unusable(quotes[part].reshape(-1, 4), MAX_NUMBER)
        if unusable >= 0:
            _refuse_row(quotes, "quotes", part.start * k + unusable)
        orders, answers = (sizes[part], *penalties), (splits[part], costs[part])
        if rests:
            core.allocate_many(quotes[part], *orders, grid, references[part], *answers)
        elif ruled is None:
            core.sweep_many(quotes[part], *orders, references[part], *answers)
        else:
            how = references[part], first, MOST_CELLS
            core.sweep_by_rules_many(shown[part], ruled, NEARLY, *orders, *how, *answers, proven[part])

    in_threads(n, number, solve)
    logger.debug("allocate_many: %d snapshots of %d venues, in %d threads", n, k, number)
    answer = Allocations(splits, costs)
    if not proven.all():
        answer.unproven = {
            int(i): _bound(shown[i], splits[i].tolist(), int(sizes[i]), penalties, float(references[i]), first)
            for i in np.flatnonzero(proven == 0)
        }
    return answer


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
    rules: np.ndarray | None = None,
    fill_first: bool = True,
) -> Allocation:
    """The optimum of `allocate` by trying every split: for small cases, and as proof.

    The arguments are those of `allocate`, and ``max_splits``, the largest search space that is tried. With
    ``resting=False`` no split exceeds a displayed size; whole shares are tried one by one, whatever the step.
    Ties: the first split in lexicographic order. Under rules each venue's quantities that keep them are tried with all
    of the others'.

    Raises
    ------
    InputError
        As `allocate`, and where the search space is larger than ``max_splits``.
    """
    quotes, ruled = quotes_of(venues, rules)
    size = whole_number("order_size", order_size, 0)
    grid = whole_number("step", step, 1)
    penalties = _penalties(lambda_over, lambda_under, theta_queue)
    reference = real_number("reference_price", reference_price)
    limit = whole_number("max_splits", max_splits, 1)
    rests, first = truth("resting", resting), truth("fill_first", fill_first)
    if rests and ruled is not None:
        raise InputError(RULES_REST)
    if not rests and (ruled is not None or not first):
        return _every_split_by_rules(quotes, ruled, size, penalties, reference, first, limit)
    total = size
    if not rests:
        total = min(size, sum(math.floor(displayed) for displayed in quotes[:, 1].tolist()))
        grid = 1
    splits = search_space(total, len(quotes), grid)
    _bounded(splits, limit, f"step is {grid}: {total}", len(quotes))
    answer = Allocation._make(core.exhaustive(quotes, total, size, *penalties, grid, reference, rests))
    if logger.isEnabledFor(logging.DEBUG):
        return _told_of(f"allocate_exhaustive: {splits:,} splits over {len(quotes)} venues", size, answer)
    return answer


def _bounded(splits: int, limit: int, what: str, venues: int) -> None:
    if splits > limit:
        raise InputError(
            f"{what} shares over {venues} venues have {_told(splits)} splits, more than "
            f"max_splits ({limit:,}); allocate() gives the same optimum without the search"
        )


def _every_split_by_rules(
    quotes: np.ndarray,
    rules: np.ndarray | None,
    size: int,
    penalties: tuple[float, float, float],
    reference: float,
    fill_first: bool,
    limit: int,
) -> Allocation:
    """The best of what one gets by a quantity a venue, each of which keeps its venue's rules."""
    ruled = (_no_rules(len(quotes)) if rules is None else rules).tolist()
    rows = quotes.tolist()
    lots = [
        range(0, int(min(shown, size, rule[4])) + 1, int(rule[0]))
        for (_, shown, *_), rule in zip(rows, ruled, strict=True)
    ]
    splits = math.prod(map(len, lots))
    _bounded(splits, limit, f"order_size is {size}: its", len(quotes))
    choices = [
        [q for q in some if q == 0 or (q >= max(least, at_once) and abs(price) * q >= worth * NEARLY)]
        for some, (price, *_), (_, least, worth, at_once, *_) in zip(lots, rows, ruled, strict=True)
    ]
    tickets = [rule[5] for rule in ruled]
    answer = Allocation._make(
        core.exhaustive_by_rules(quotes, choices, tickets, size, *penalties, reference, fill_first)
    )
    if logger.isEnabledFor(logging.DEBUG):
        return _told_of(f"allocate_exhaustive: {splits:,} splits by rules over {len(quotes)} venues", size, answer)
    return answer


def allocate_greedy_l2(
    order_size: int,
    venues: Sequence[Level2Venue],
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
) -> Allocation:
    """Fill an order from displayed levels, the cheapest price + fee first, in O(m log m) for m levels.

    A taker earns no rebate, so none is counted. Ties: lower price, then the venues' order, then the level. Under rules
    of the venues it is the split of `allocate` under rules, each level a piece of its venue's cost.

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
        ``(allocation per venue, cost)``; for the cost each (venue, level) counts as a venue, with one ticket a venue.

    Raises
    ------
    InputError
        Where an argument is not what it may be.
    """
    quotes, ruled, counts = level_quotes_of(venues)
    size = whole_number("order_size", order_size, 0)
    penalties = _penalties(lambda_over, lambda_under, theta_queue)
    if ruled is None:
        fills, cost = core.sweep(quotes, size, *penalties, 0.0)
        answer = Allocation(core.per_venue(fills, counts), cost)
    else:
        answer = _by_rules(quotes, counts, ruled, size, penalties, 0.0, True)
    if logger.isEnabledFor(logging.DEBUG):
        return _told_of(f"allocate_greedy_l2: {len(quotes)} levels of {len(counts)} venues", size, answer)
    return answer
