"""Pure-Python twin of `_core.pyx`: same names, arguments, tie-breaks and order of floating-point operations.

A row of ``quotes`` is (price, size, fee, rebate): dollars per share, shares, dollars per share paid by the taker,
dollars per share received by the maker. Callers have checked every argument.

No ``sum`` of floats here: it compensates since Python 3.12, and the twins must agree bit for bit.
"""

from __future__ import annotations

from heapq import heapify, heappop
from itertools import islice
from math import floor, inf
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Quotes = Any  # a (k, 4) array of float64
    Row = list[float]
    Answer = tuple[list[int], float]


class Penalties(NamedTuple):
    order_size: float
    over: float
    under: float
    queue: float
    reference: float


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


# --- packing ---------------------------------------------------------------------------------------------------------


def within(number: float, limit: float) -> bool:
    """-limit <= number <= limit; False for NaN."""
    return abs(number) <= limit


def find_unusable(quotes: Quotes, limit: float) -> int:
    """Index of the first row with a number beyond +-limit, NaN or a negative size; -1 where there is none."""
    for i, (price, size, fee, rebate) in enumerate(quotes.tolist()):
        if not (
            within(price, limit)
            and within(size, limit)
            and size >= 0.0
            and within(fee, limit)
            and within(rebate, limit)
        ):
            return i
    return -1


def plain(number: Any) -> float:
    """A float or an int, neither more (a bool, a numpy scalar) nor less: the caller looks closer at the rest."""
    if type(number) is not float and type(number) is not int:
        raise TypeError
    return float(number)


def pack(venues: Sequence[Any], quotes: Quotes) -> None:
    """Write each venue's (ask, ask_size, fee, rebate) into its row; TypeError where one is no plain number."""
    for i, venue in enumerate(venues):
        quotes[i] = plain(venue.ask), plain(venue.ask_size), plain(venue.fee), plain(venue.rebate)


def pack_levels(venues: Sequence[Any], counts: Sequence[int], quotes: Quotes) -> None:
    """Write a row for every (venue, level), venues in order, ``counts`` levels each, as many as there are rows.

    TypeError where one is no plain number, ValueError where a venue has more or fewer levels.
    """
    row = 0
    for venue, count in zip(venues, counts, strict=True):
        left = count
        fee, rebate = plain(venue.fee), plain(venue.rebate)
        for price, size in venue.levels:
            if left == 0:
                raise ValueError("more levels than counted")
            quotes[row] = plain(price), plain(size), fee, rebate
            row += 1
            left -= 1
        if left:
            raise ValueError("fewer levels than counted")


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


def cost_many(
    splits: Any,
    quotes: Quotes,
    order_sizes: Any,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    costs: Any,
) -> None:
    """`cost` of a split of every snapshot with true prices, into the last one."""
    for i, order_size in enumerate(order_sizes.tolist()):
        costs[i] = cost(splits[i], quotes[i], order_size, lambda_over, lambda_under, theta_queue, 0.0)


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


def sweep_many(
    quotes: Quotes,
    order_sizes: Any,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    references: Any,
    splits: Any,
    costs: Any,
) -> None:
    """`sweep` of every snapshot, into the last two."""
    penalties = lambda_over, lambda_under, theta_queue
    for i, (order_size, reference) in enumerate(zip(order_sizes.tolist(), references.tolist(), strict=True)):
        splits[i], costs[i] = sweep(quotes[i], order_size, *penalties, reference)


def per_venue(fills: list[int], counts: list[int]) -> list[int]:
    """Sums of shares over groups of rows, ``counts`` rows each: from levels to venues."""
    rows = iter(fills)
    return [sum(islice(rows, count)) for count in counts]


# --- the exact allocator: the cheapest step first --------------------------------------------------------------------
#
# In a complete split (sum q = S) nothing is overfilled, and cost = sum g(q): slope ``take`` up to the displayed size,
# ``rest`` beyond. Where take <= rest, g is convex: such venues share any number of steps at least cost by taking the
# cheapest next one again and again, in runs of equal steps. Elsewhere g is concave: of two such venues with steps one
# can give all of its own to the other at no cost, so at most one has any; and as convex runs are straight, it takes
# over at the end of one, and takes all that is left. Those splits are few, however fine the grid: O(k) runs by k
# venues, tried once for every venue that may carry the remainder.


class Leg:
    """One venue, inside a complete split."""

    __slots__ = ("extra", "rest", "size", "sunk", "take", "taken")

    def __init__(self, take: float, rest: float, size: float) -> None:
        self.take = take  # price + fee - reference - base, per share executed
        self.rest = rest  # lambda_under + theta_queue - rebate - base, per share beyond the displayed size
        self.size = size  # displayed shares: the break
        self.extra = 0.0  # shares beside whole steps: the remainder of the order where it is carried, else 0
        self.sunk = 0.0  # cost of these
        self.taken = 0.0  # steps so far


class Run(NamedTuple):
    """Steps in a row that cost the same at a venue."""

    rank: float  # the largest slope up to here at this venue: rounded slopes may fall, and its runs keep their order
    slope: float  # cost of a step
    steps: float
    venue: int


def leg_cost(q: float, leg: Leg) -> float:
    """g(q) = e (p + f) + (q - e)(lambda_under + theta_queue - r)."""
    e = executed(q, leg.size)
    return e * leg.take + (q - e) * leg.rest


def convex(leg: Leg) -> bool:
    return leg.take <= leg.rest


def give(leg: Leg, remainder: float) -> None:
    leg.extra = remainder
    leg.sunk = leg_cost(remainder, leg)


def legs_of(rows: list[Row], pen: Penalties) -> list[Leg]:
    """With sum q = S a cost per share common to all (base) changes no choice: without it the sums stay accurate."""
    legs = [
        Leg((price - pen.reference) + fee, (pen.under + pen.queue) - rebate, size) for price, size, fee, rebate in rows
    ]
    base = min((min(leg.take, leg.rest) for leg in legs), default=inf)
    for leg in legs:
        leg.take -= base
        leg.rest -= base
    return legs


def order_of_taking(run: Run) -> tuple[float, int]:
    """The cheapest first (ties: the first venue)."""
    return run.rank, run.venue


class Plan:
    """The splits worth a look, and the best of them."""

    def __init__(self, legs: list[Leg], step: float, steps: float) -> None:
        self.legs = legs
        self.concave = [leg for leg in legs if not convex(leg)]
        self.step = step  # shares of a step
        self.steps = steps  # to share out
        self.carrier = 0  # venue that carries the remainder
        self.best = [0.0] * len(legs)  # steps per venue of the best split so far
        self.best_carrier = 0
        self.cost = inf  # its cost, less ``base`` per share

    def runs_of(self, venue: int) -> Iterator[Run]:
        """The straight pieces of a convex g, until all steps are taken."""
        leg = self.legs[venue]
        rank = taken = 0.0
        while taken < self.steps:
            displayed = (leg.size - leg.extra) - self.step * taken
            if displayed >= self.step:
                slope = leg.take * self.step
                steps = float(floor(displayed / self.step))
            elif displayed > 0.0:
                slope = leg.take * displayed + leg.rest * (self.step - displayed)
                steps = 1.0
            else:
                slope = leg.rest * self.step
                steps = self.steps
            rank = max(rank, slope)
            yield Run(rank, slope, steps, venue)
            taken += steps

    def preferred(self) -> bool:
        """At equal cost: from the last venue to the first, rather not the remainder, then the fewest steps."""
        for i in range(len(self.legs) - 1, -1, -1):
            if (i == self.carrier) != (i == self.best_carrier):
                return i == self.best_carrier
            if self.legs[i].taken != self.best[i]:
                return self.legs[i].taken < self.best[i]
        return False

    def keep(self, cost: float) -> None:
        self.cost = cost
        self.best_carrier = self.carrier
        self.best = [leg.taken for leg in self.legs]

    def offer(self, cost: float) -> None:
        """Keep the steps taken, where they are the best split so far."""
        if cost < self.cost or (cost == self.cost and self.preferred()):
            self.keep(cost)

    def offer_concave(self, left: float, spent: float) -> None:
        """Give all that is left to one concave venue: each in turn."""
        for leg in self.concave:
            leg.taken = left
            self.offer(spent + (leg_cost(self.step * left + leg.extra, leg) - leg.sunk))
            leg.taken = 0.0

    def share_out(self, runs: list[Run]) -> None:
        """All splits that can be best while this carrier holds the remainder; no slope is negative: cost only rises."""
        left, spent = self.steps, self.legs[self.carrier].sunk
        for leg in self.legs:
            leg.taken = 0.0
        for run in runs:
            if left == 0.0 or spent > self.cost:
                break
            self.offer_concave(left, spent)
            count = min(run.steps, left)
            self.legs[run.venue].taken += count
            left -= count
            spent += run.slope * count
        if left > 0.0:
            self.offer_concave(left, spent)
        else:
            self.offer(spent)

    def solve(self, remainder: float) -> list[float]:
        """The optimal split, in shares."""
        venues = range(len(self.legs))
        for carrier in venues if remainder > 0.0 else venues[:1]:
            self.carrier = carrier
            give(self.legs[carrier], remainder)
            runs = [run for i in venues if convex(self.legs[i]) for run in self.runs_of(i)]
            self.share_out(sorted(runs, key=order_of_taking))
            give(self.legs[carrier], 0.0)
        return [self.step * m + (remainder if i == self.best_carrier else 0.0) for i, m in enumerate(self.best)]


def allocate(
    quotes: Quotes,
    order_size: int,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    step: int,
    reference: float,
) -> Answer:
    """Optimum over complete splits in multiples of ``step`` (one part also carries the remainder)."""
    pen = Penalties(float(order_size), lambda_over, lambda_under, theta_queue, reference)
    rows = quotes.tolist()
    n, remainder = divmod(order_size, step)
    plan = Plan(legs_of(rows, pen), float(step), float(n))
    return answer(plan.solve(float(remainder)), rows, pen)


def allocate_many(
    quotes: Quotes,
    order_sizes: Any,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    step: int,
    references: Any,
    splits: Any,
    costs: Any,
) -> None:
    """`allocate` of every snapshot, into the last two."""
    penalties = lambda_over, lambda_under, theta_queue
    for i, (order_size, reference) in enumerate(zip(order_sizes.tolist(), references.tolist(), strict=True)):
        splits[i], costs[i] = allocate(quotes[i], order_size, *penalties, step, reference)


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
