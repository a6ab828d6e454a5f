"""Pure-Python twin of `_core.pyx`: same names, arguments, tie-breaks and order of floating-point operations.

A row of ``quotes`` is (price, size, fee, rebate): dollars per share, shares, dollars per share paid by the taker,
dollars per share received by the maker. Callers have checked every argument.

No ``sum`` of floats here: it compensates since Python 3.12, and the twins must agree bit for bit.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop
from math import floor, inf
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    Quotes = Any  # a (k, 4) array of float64
    Row = list[float]
    Answer = tuple[list[int], float]


class Penalties(NamedTuple):
    order_size: float
    over: float
    under: float
    queue: float
    reference: float


class Leg(NamedTuple):
    """One venue inside a complete split (sum q = S): g(q) has two straight pieces."""

    take: float  # price + fee - reference - base, per share executed
    rest: float  # lambda_under + theta_queue - rebate - base, per share beyond the displayed size
    size: float  # displayed shares: the break


# --- scalar formulas -------------------------------------------------------------------------------------------------


def executed(q: float, size: float) -> float:
    """e = min(q, a)."""
    return q if q < size else size


def cash(q: float, e: float, price: float, fee: float, rebate: float) -> float:
    """e (p + f) - (q - e) r."""
    return e * (price + fee) - (q - e) * rebate


def penalised(spent: float, filled: float, pen: Penalties) -> float:
    """cash + theta (U + O) + lambda_under U + lambda_over O."""
    gap = pen.order_size - filled
    under = gap if gap > 0.0 else 0.0
    over = -gap if -gap > 0.0 else 0.0
    return spent + pen.queue * (under + over) + pen.under * under + pen.over * over


def leg_cost(q: float, leg: Leg) -> float:
    """g(q) = e (p + f) + (q - e)(lambda_under + theta_queue - r)."""
    e = executed(q, leg.size)
    return e * leg.take + (q - e) * leg.rest


# --- packing ---------------------------------------------------------------------------------------------------------


def within(number: float, low: float, limit: float) -> bool:
    """low <= number <= limit; False for NaN."""
    return low <= number <= limit


def find_unusable(quotes: Quotes, limit: float) -> int:
    """Index of the first row with a number beyond +-limit, NaN or a negative size; -1 where there is none."""
    for i, (price, size, fee, rebate) in enumerate(quotes.tolist()):
        if not (
            within(price, -limit, limit)
            and within(size, 0.0, limit)
            and within(fee, -limit, limit)
            and within(rebate, -limit, limit)
        ):
            return i
    return -1


def pack(venues: Sequence[Any], quotes: Quotes) -> None:
    """Write each venue's (ask, ask_size, fee, rebate) into its row."""
    for i, venue in enumerate(venues):
        quotes[i] = (venue.ask, venue.ask_size, venue.fee, venue.rebate)


def pack_levels(venues: Sequence[Any], quotes: Quotes) -> None:
    """Write a row for every (venue, level), venues in order."""
    row = 0
    for venue in venues:
        for price, size in venue.levels:
            quotes[row] = (price, size, venue.fee, venue.rebate)
            row += 1


# --- cost of a given split -------------------------------------------------------------------------------------------


def split_cost(split: Sequence[float], rows: list[Row], pen: Penalties) -> float:
    spent = 0.0
    filled = 0.0
    for q, (price, size, fee, rebate) in zip(split, rows, strict=True):
        e = executed(q, size)
        filled += e
        spent += cash(q, e, price - pen.reference, fee, rebate)
    return penalised(spent, filled, pen)


def cost(
    split: Any,
    quotes: Quotes,
    order_size: float,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    reference: float,
) -> float:
    """Cost in dollars of any split, its sum above or below the order included."""
    pen = Penalties(float(order_size), lambda_over, lambda_under, theta_queue, reference)
    return split_cost(split.tolist(), quotes.tolist(), pen)


def answer(split: list[float], rows: list[Row], pen: Penalties) -> Answer:
    """(split as a list of int, cost): what every solver returns."""
    return [int(q) for q in split], split_cost(split, rows, pen)


# --- displayed shares only: the cheapest first -----------------------------------------------------------------------


def sweep(
    quotes: Quotes,
    order_size: int,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    reference: float,
) -> Answer:
    """Whole displayed shares at the least price + fee, until the order is filled or nothing is left."""
    pen = Penalties(float(order_size), lambda_over, lambda_under, theta_queue, reference)
    rows = quotes.tolist()
    split = [0.0] * len(rows)
    heap = [(price + fee, price, i) for i, (price, _, fee, _) in enumerate(rows)]
    heapify(heap)  # most orders are filled long before every row has been sorted
    left = pen.order_size
    while heap and left > 0.0:
        i = heappop(heap)[2]
        displayed = float(floor(rows[i][1]))
        split[i] = displayed if displayed < left else left
        left -= split[i]
    return answer(split, rows, pen)


# --- the exact allocator: a (min,+) dynamic programme over venues ----------------------------------------------------


def leg_of(row: Row, pen: Penalties, base: float) -> Leg:
    price, size, fee, rebate = row
    return Leg(((price - pen.reference) + fee) - base, ((pen.under + pen.queue) - rebate) - base, size)


def cheapest_slope(rows: list[Row], pen: Penalties) -> float:
    """With sum q = S a cost per share common to all venues changes no choice: without it the sums stay accurate."""
    base = inf
    for row in rows:
        leg = leg_of(row, pen, 0.0)
        base = min(base, leg.take, leg.rest)
    return base


def last_whole_step(size: float, extra: float, step: float, n: int) -> int:
    """Largest m <= n with m step + extra <= size; -1 where there is none."""
    m = floor((size - extra) / step)
    return max(-1, min(m, n))


def first_venue(n: int, step: float, extra: float, leg: Leg) -> list[float]:
    return [leg_cost(step * m + extra, leg) for m in range(n + 1)]


def displayed_piece(
    before: list[float],
    step: float,
    extra: float,
    leg: Leg,
    displayed: int,
    best: list[float],
    steps: list[int],
) -> None:
    """best[M] over m <= displayed: there g only tilts ``before``, so a monotone queue holds the minimum."""
    take, offset = leg.take * step, leg.take * extra
    window: deque[tuple[float, int]] = deque()
    for total, cost_before in enumerate(before):
        tilt = take * total
        key = cost_before - tilt
        while window and window[-1][0] >= key:
            window.pop()
        window.append((key, total))
        if window[0][1] < total - displayed:
            window.popleft()
        best[total] = window[0][0] + (tilt + offset)
        steps[total] = total - window[0][1]


def resting_piece(
    before: list[float],
    step: float,
    extra: float,
    leg: Leg,
    displayed: int,
    best: list[float],
    steps: list[int],
) -> None:
    """best[M] over m > displayed as well, where cheaper: the window only grows, so a running minimum will do."""
    rest, offset = leg.rest * step, leg.rest * extra + leg.size * (leg.take - leg.rest)
    least, source, total = inf, 0, displayed
    for newest in range(len(before) - 1 - displayed):
        total += 1
        key = before[newest] - rest * newest
        if key <= least:
            least, source = key, newest
        value = least + (rest * total + offset)
        if value < best[total]:
            best[total] = value
            steps[total] = total - source


def add_venue(before: list[float], n: int, step: float, extra: float, leg: Leg) -> tuple[list[float], list[int]]:
    """best[M] = min over m of before[M - m] + g(m step + extra), and the m that gives it, in O(n).

    Ties: the fewest shares for this, the later venue.
    """
    best, steps = [inf] * (n + 1), [0] * (n + 1)
    displayed = last_whole_step(leg.size, extra, step, n)
    if displayed >= 0:
        displayed_piece(before, step, extra, leg, displayed, best, steps)
    resting_piece(before, step, extra, leg, displayed, best, steps)
    return best, steps


def last_venue(before: list[float], n: int, step: float, extra: float, leg: Leg) -> tuple[int, float]:
    """Only the full order matters at the last venue: its m and its cost; ties: the fewest shares."""
    chosen, best = 0, before[n] + leg_cost(extra, leg)
    for m in range(1, n + 1):
        value = before[n - m] + leg_cost(step * m + extra, leg)
        if value < best:
            chosen, best = m, value
    return chosen, best


def place_remainder(
    placed: list[float], unplaced: list[float], n: int, step: float, remainder: float, leg: Leg
) -> tuple[list[float], list[int]]:
    """Remainder placed up to this venue: before it, or (where cheaper) at it, noted as -1 - m."""
    best, steps = add_venue(placed, n, step, 0.0, leg)
    other, alternative = add_venue(unplaced, n, step, remainder, leg)
    for total in range(n + 1):
        if other[total] < best[total]:
            best[total] = other[total]
            steps[total] = -1 - alternative[total]
    return best, steps


def solve(rows: list[Row], pen: Penalties, n: int, step: float, remainder: float) -> list[float]:
    """Fill the tables venue by venue, then read the optimal split off them, from the last venue to the first."""
    base = cheapest_slope(rows, pen)
    legs = [leg_of(row, pen, base) for row in rows]
    unplaced = first_venue(n, step, 0.0, legs[0])
    placed = first_venue(n, step, remainder, legs[0]) if remainder > 0.0 else []
    steps: list[list[list[int]]] = [[], []]  # by state of the remainder (1: still to be met on the way back)
    for leg in legs[1:-1]:
        if remainder > 0.0:
            placed, taken = place_remainder(placed, unplaced, n, step, remainder, leg)
            steps[1].append(taken)
        unplaced, taken = add_venue(unplaced, n, step, 0.0, leg)
        steps[0].append(taken)

    state = 1 if remainder > 0.0 else 0
    split = [0.0] * len(rows)
    m, value = last_venue(placed if state else unplaced, n, step, 0.0, legs[-1])
    split[-1] = step * m
    if state:
        here, alternative = last_venue(unplaced, n, step, remainder, legs[-1])
        if alternative < value:
            m, state = here, 0
            split[-1] = step * m + remainder
    for i in range(len(rows) - 2, 0, -1):
        n -= m
        m = steps[state][i - 1][n]
        if m < 0:  # the remainder went here
            m, state = -1 - m, 0
            split[i] = step * m + remainder
        else:
            split[i] = step * m
    split[0] = step * (n - m) + (remainder if state else 0.0)
    return split


def allocate(
    quotes: Quotes,
    order_size: int,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    step: int,
    reference: float,
) -> Answer:
    """Optimum over complete splits in multiples of ``step`` (one part also carries the remainder), in O(k n)."""
    pen = Penalties(float(order_size), lambda_over, lambda_under, theta_queue, reference)
    rows = quotes.tolist()
    n, remainder = divmod(order_size, step)
    if len(rows) == 1:
        return answer([pen.order_size], rows, pen)
    return answer(solve(rows, pen, n, float(step), float(remainder)), rows, pen)


# --- enumeration: every split, by the formula itself -----------------------------------------------------------------


class Search:
    """Every split of ``n`` steps over the venues, and the cheapest seen; the tables hold the formula's terms."""

    def __init__(self, rows: list[Row], pen: Penalties, n: int, step: float, resting: bool) -> None:
        self.rows, self.pen, self.n, self.step, self.resting = rows, pen, n, step, resting
        self.filled = [[0.0] * (n + 1) for _ in rows]
        self.spent = [[0.0] * (n + 1) for _ in rows]
        self.path = [0] * len(rows)
        self.found = [0] * len(rows)
        self.cost = inf
        for i in range(len(rows)):
            self.tabulate(i, 0.0)

    def tabulate(self, i: int, extra: float) -> None:
        """The formula's terms for venue i and every number of steps; infinite cash bars what may not be sent."""
        price, size, fee, rebate = self.rows[i]
        for m in range(self.n + 1):
            q = self.step * m + extra
            e = executed(q, size)
            self.filled[i][m] = e
            self.spent[i][m] = cash(q, e, price - self.pen.reference, fee, rebate)
            if not self.resting and e < q:
                self.spent[i][m] = inf

    def last_two(self, left: int, filled: float, spent: float) -> bool:
        """Every way to share ``left`` steps between the last two venues."""
        filled_a, filled_b = self.filled[-2], self.filled[-1]
        spent_a, spent_b = self.spent[-2], self.spent[-1]
        chosen = -1
        for m in range(left + 1):
            total = penalised(
                (spent + spent_a[m]) + spent_b[left - m],
                (filled + filled_a[m]) + filled_b[left - m],
                self.pen,
            )
            if total < self.cost:
                self.cost = total
                chosen = m
        if chosen < 0:
            return False
        self.path[-2:] = chosen, left - chosen
        self.found = self.path[:]
        return True

    def enumerate_from(self, venue: int, left: int, filled: float, spent: float) -> bool:
        """Depth first over the venues; True where a cheaper split was found."""
        if venue == len(self.rows) - 2:
            return self.last_two(left, filled, spent)
        better = False
        for m in range(left + 1):
            self.path[venue] = m
            better |= self.enumerate_from(
                venue + 1, left - m, filled + self.filled[venue][m], spent + self.spent[venue][m]
            )
        return better


def exhaustive(
    quotes: Quotes,
    total: int,
    order_size: int,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    step: int,
    reference: float,
    resting: bool,
) -> Answer:
    """The cheapest of all splits of ``total`` shares; ties: the first in lexicographic order, first carrier first."""
    pen = Penalties(float(order_size), lambda_over, lambda_under, theta_queue, reference)
    rows = quotes.tolist()
    n, remainder = divmod(total, step)
    split = [float(total)]
    if len(rows) > 1:
        search = Search(rows, pen, n, float(step), resting)
        for carrier in range(len(rows) if remainder else 1):
            search.tabulate(carrier, float(remainder))
            if search.enumerate_from(0, n, 0.0, 0.0):
                split = [float(step) * m for m in search.found]
                split[carrier] += float(remainder)
            search.tabulate(carrier, 0.0)
    return answer(split, rows, pen)
