"""Pure-Python twin of `_placement.pyx`: same names, arguments, tie-breaks and order of floating-point operations.

A placement is an array of K + 1 parts: the market order M, then the limit orders L_1..L_K, in shares. ``gains`` has
what a filled share of each part brings (dollars): -(h + f) for the market order, h + r_k for a limit order. With
room_k = (xi_k - Q_k)^+ the cost of a placement X on one row xi of ``outflows`` is

    v = theta (sum X + (S-A)^+) - sum gain_i fill_i + lambda_u (S-A)^+ + lambda_o (A-S)^+,   A = sum fill_i,    (5)
    fill_0 = M,  fill_k = min(L_k, room_k)                                                                     (1)

and its mean over the rows is what is minimised. Callers have checked every argument.

No ``sum`` of floats here: it compensates since Python 3.12, and the twins must agree bit for bit.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = Any  # of float64


# --- scalar formulas -------------------------------------------------------------------------------------------------


def room_of(outflow: float, queue: float) -> float:
    """(xi - Q)^+: shares that reach a limit order behind the queue."""
    room = outflow - queue
    return room if room > 0.0 else 0.0


def clamp(value: float, high: float) -> float:
    """The nearest number in [0, high]."""
    value = value if value > 0.0 else 0.0
    return value if value < high else high


# --- cost of a given placement ---------------------------------------------------------------------------------------


def cost(
    placement: Array,
    gains: Array,
    queues: Array,
    outflows: Array,
    target: float,
    theta: float,
    under: float,
    over: float,
    tolerance: float,
    per_sample: Array,
) -> tuple[float, float, float, float, float]:
    """Means over the samples: (gains, underfill, overfill, share of samples below and above the target).

    A gap of up to ``tolerance`` shares is none. Fills ``per_sample``, one cost a row, where it is not empty.
    """
    market, *limits = placement.tolist()
    market_gain, *limit_gains = gains.tolist()
    queue_list, rows = queues.tolist(), outflows.tolist()
    sent = 0.0 + market
    for limit in limits:
        sent += limit
    all_gained = all_missing = all_excess = 0.0
    below = above = 0
    costs = []
    for row in rows:
        filled = market
        gained = market_gain * market
        for limit, gain, queue, outflow in zip(limits, limit_gains, queue_list, row, strict=True):
            room = room_of(outflow, queue)
            fill = limit if limit < room else room
            filled += fill
            gained += gain * fill
        missing = target - filled if target - filled > tolerance else 0.0
        excess = filled - target if filled - target > tolerance else 0.0
        below += missing > 0.0
        above += excess > 0.0
        all_gained += gained
        all_missing += missing
        all_excess += excess
        costs.append(theta * (sent + missing) - gained + under * missing + over * excess)
    if len(per_sample):
        per_sample[:] = costs
    n = len(rows)
    return all_gained / n, all_missing / n, all_excess / n, below / n, above / n


# --- stochastic approximation ----------------------------------------------------------------------------------------


def stochastic(
    start: Array,
    gains: Array,
    queues: Array,
    outflows: Array,
    target: float,
    theta: float,
    under: float,
    over: float,
    gamma: float,
) -> list[float]:
    """The average of the iterates, one step for each row, as a list: X -= gamma g(X, xi), section 4 of the paper."""
    x: list[float] = start.tolist()
    market_gain, *limit_gains = gains.tolist()
    queue_list, rows = queues.tolist(), outflows.tolist()
    average = [0.0] * len(x)
    short_of = under + theta
    for row in rows:
        filled = x[0]
        for limit, queue, outflow in zip(x[1:], queue_list, row, strict=True):
            room = room_of(outflow, queue)
            filled += limit if limit < room else room
        marginal = -short_of if filled < target else (over if filled > target else 0.0)
        for i, (gain, queue, outflow) in enumerate(zip(limit_gains, queue_list, row, strict=True), 1):
            slope = theta + (marginal - gain if outflow - queue > x[i] else 0.0)
            x[i] = clamp(x[i] - gamma * slope, target)
            average[i] += x[i]
        x[0] = clamp(x[0] - gamma * (theta + (marginal - market_gain)), target)
        average[0] += x[0]
    return [value / len(rows) for value in average]


# --- descent by exact line searches ----------------------------------------------------------------------------------
#
# Sizes are put on a grid of a power of two, the target / 2^39 or finer: sums are then exact, and so is A = S. Part 0,
# the market order, has room for the whole target in every sample. Part K + 1 stands for shares that are not sent: it
# has no room, no gain and no cost, and an exchange with it is a move of one part alone.


class Descent:
    """A placement on its way down; sets of samples are bits of whole numbers."""

    def __init__(
        self,
        gains: list[float],
        queues: list[float],
        outflows: list[list[float]],
        target: float,
        theta: float,
        short_of: float,
        over: float,
        scale: float,
        same: float,
        tolerance: float,
        reach: float,
        growth: float,
    ) -> None:
        self.n = len(outflows)
        self.parts = len(gains)
        self.scale = scale  # points of the grid a share, a power of two
        self.target = round(target * self.scale) / self.scale
        self.theta = theta
        self.short_of = short_of
        self.over = over
        self.same = same  # shares: a difference that is none
        self.reach = round(reach * scale) / scale  # shares that a line is searched for at first
        self.growth = growth  # of promises with each move: what was learnt gets old
        self.tolerance = tolerance * self.n  # dollars, summed over the samples: a move has to save more
        self.gains = [*gains, 0.0]
        self.room = [[self.target] * self.n, *(self.room_behind(i, q, outflows) for i, q in enumerate(queues))]
        self.room.append([0.0] * self.n)
        self.x = [0.0] * (self.parts + 1)
        self.filled = [0.0] * self.n  # A
        self.ups = [0.0] * self.parts  # the slope as part i grows, summed over the samples
        self.downs = [0.0] * self.parts  # the slope as it shrinks
        self.exchanges = [[0.0] * self.parts for _ in range(self.parts)]  # ... as one part takes from another
        self.promise: dict[tuple[int, int], float] = {}  # what a line saved by the square of its slope
        self.beyond = [0] * self.parts  # samples with room > x
        self.reached = [0] * self.parts  # samples with room >= x
        self.short_set = 0  # A < S
        self.level_set = 0  # A = S

    def room_behind(self, venue: int, queue: float, outflows: list[list[float]]) -> list[float]:
        scale = self.scale
        rooms = [round(room_of(row[venue], queue) * scale) / scale for row in outflows]
        return [room if room < self.target else self.target for room in rooms]

    # --- a line: x_i = s, x_j = total - s

    def events(self, i: int, j: int, total: float) -> list[tuple[float, int, int, int, int]]:
        """Changes of slope: (s, samples where part i fills further, where j fills less, A rises below S, above S).

        In each sample A = rest + min(s, room_i) + min(total - s, room_j) rises, is level, falls; the last two count
        the samples where it rises, less those where it falls.
        """
        x_i, x_j, target = self.x[i], self.x[j], self.target
        found = []
        for filled, room_i, room_j in zip(self.filled, self.room[i], self.room[j], strict=True):
            turn = total - room_j
            both = room_i + room_j
            peak = filled - (x_i if x_i < room_i else room_i) - (x_j if x_j < room_j else room_j)
            excess = peak + (both if both < total else total) - target
            if excess <= 0.0:
                found.append((room_i, -1, 0, -1, 0))
                found.append((turn, 0, 1, -1, 0))
            else:
                found.append((room_i, -1, 0, 0, -1))
                found.append((turn, 0, 1, 0, -1))
                found.append(((room_i if room_i < turn else turn) - excess, 0, 0, -1, 1))
                found.append(((room_i if room_i > turn else turn) + excess, 0, 0, -1, 1))
        found.sort(key=lambda event: event[0])
        return found

    def search(self, i: int, j: int, reach: float) -> tuple[float, float]:
        """The cheapest of the ways to divide x_i + x_j between the two within ``reach`` shares, and what it saves."""
        impact = self.theta * self.n if j == self.parts else 0.0
        total = self.x[i] + self.x[j]
        low = max(total - self.target, self.x[i] - reach, 0.0)
        high = min(total, self.target, self.x[i] + reach)
        if high <= low:
            return low, 0.0
        rising, falling, under, over = self.n, 0, self.n, 0
        value = here = least = 0.0
        at = best = low
        gain_i, gain_j, here_at = self.gains[i], self.gains[j], self.x[i]
        passed = here_at == low
        for where, d_rising, d_falling, d_under, d_over in [*self.events(i, j, total), (high, 0, 0, 0, 0)]:
            if where > low:
                slope = impact - gain_i * rising + gain_j * falling - self.short_of * under + self.over * over
                if not passed and where >= here_at:
                    value += slope * (here_at - at)
                    at = here_at
                    here = value
                    passed = True
                    if value < least:
                        least, best = value, at
                if where > high:
                    where = high
                value += slope * (where - at)
                at = where
                if value < least:
                    least, best = value, at
                if at >= high:
                    break
            rising += d_rising
            falling += d_falling
            under += d_under
            over += d_over
        return best, here - least

    # --- sets of samples, and slopes from their sizes

    def mark_part(self, i: int) -> None:
        x = self.x[i]
        self.beyond[i] = bits([room > x for room in self.room[i]])
        self.reached[i] = bits([room >= x for room in self.room[i]])

    def mark_filled(self) -> None:
        self.short_set = bits([filled < self.target for filled in self.filled])
        self.level_set = bits([filled == self.target for filled in self.filled])

    def find_slopes(self) -> None:
        """g of section 4, summed over the samples, to the right and to the left of every part."""
        short_or_level = self.short_set | self.level_set
        for i in range(self.parts):
            beyond, beyond_short = self.beyond[i].bit_count(), (self.beyond[i] & self.short_set).bit_count()
            reached, reached_short = self.reached[i].bit_count(), (self.reached[i] & short_or_level).bit_count()
            self.ups[i] = (
                self.theta * self.n
                - self.gains[i] * beyond
                - self.short_of * beyond_short
                + self.over * (beyond - beyond_short)
            )
            self.downs[i] = (
                self.gains[i] * reached
                + self.short_of * reached_short
                - self.over * (reached - reached_short)
                - self.theta * self.n
            )

    def find_exchange_slopes(self) -> None:
        """Slopes of two parts add up, but where A = S and both fill: there A stays, and neither penalty arises."""
        for i, (up, beyond) in enumerate(zip(self.ups, self.beyond, strict=True)):
            level = self.level_set & beyond
            for j, (down, reached) in enumerate(zip(self.downs, self.reached, strict=True)):
                self.exchanges[i][j] = up + down - (self.short_of + self.over) * (level & reached).bit_count()

    # --- moves

    def move(self, i: int, j: int, at: float) -> None:
        """x_i to ``at``, x_j by as much the other way."""
        x_i, x_j = self.x[i], self.x[j]
        other = x_i + x_j - at
        for row, (room_i, room_j) in enumerate(zip(self.room[i], self.room[j], strict=True)):
            self.filled[row] += min(at, room_i) - min(x_i, room_i) + min(other, room_j) - min(x_j, room_j)
        self.x[i], self.x[j] = at, other
        self.mark_part(i)
        if j < self.parts:
            self.mark_part(j)
        self.mark_filled()
        for line in self.promise:
            self.promise[line] *= self.growth

    def promises(self, line: tuple[int, int], slope: float) -> bool:
        """Whether a line may save enough: what it does goes with the square of the slope, as on a parabola."""
        return slope * slope * self.promise.get(line, inf) > self.tolerance

    def steepest(self) -> tuple[float, tuple[int, int]]:
        """The steepest way down that promises enough: its slope and (i up, j down); 0 where there is none."""
        best, line = 0.0, (0, 0)
        for i in range(self.parts):
            up = self.ups[i] if self.x[i] < self.target else 0.0
            down = self.downs[i] if self.x[i] > 0.0 else 0.0
            slope = up if up < down else down
            if slope < best and self.promises((i, self.parts), slope):
                best, line = slope, (i, self.parts)
        for up_part in range(self.parts):
            if self.x[up_part] >= self.target:
                continue
            for down_part in range(self.parts):
                if up_part == down_part or self.x[down_part] <= 0.0:
                    continue
                slope = self.exchanges[up_part][down_part]
                if slope < best and self.promises((up_part, down_part), slope):
                    best, line = slope, (up_part, down_part)
        return best, line

    def try_line(self, i: int, j: int, reach: float) -> float:
        """Search a line, all of it where ``reach`` is short, and go to its best point if that pays; what it saves."""
        if j == self.parts:
            self.x[j] = self.target - self.x[i]
        at, saved = self.search(i, j, reach)
        if abs(at - self.x[i]) >= reach:
            at, saved = self.search(i, j, self.target)
        if saved > self.tolerance:
            self.move(i, j, at)
        return saved

    def descend(self) -> int:
        """Down the steepest line, until K + 1 in a row have not been worth a move; how many moves it took."""
        moves = fruitless = 0
        self.promise.clear()
        self.find_slopes()
        self.find_exchange_slopes()
        while fruitless < self.parts:
            slope, line = self.steepest()
            if slope == 0.0:
                break
            saved = self.try_line(*line, self.reach)
            self.promise[line] = saved / (slope * slope)
            fruitless += 1
            if saved > self.tolerance:
                fruitless = 0
                moves += 1
                self.find_slopes()
                self.find_exchange_slopes()
        return moves

    def leap(self) -> int:
        """Every line, also those that begin uphill: the cost is not convex; how many moves it took."""
        moves = 0
        for i in range(self.parts):
            for j in range(i + 1, self.parts + 1):
                moves += self.try_line(i, j, self.target) > self.tolerance
        return moves

    def go_to(self, start: Sequence[float]) -> None:
        """A start, put on the grid; what rounding took from the last part returns to it where the parts made up S."""
        exact, rest, last = 0.0, self.target, 0
        for i, part in enumerate(start):
            self.x[i] = clamp(round(part * self.scale) / self.scale, self.target)
            exact += part
            rest -= self.x[i]
            if self.x[i] > 0.0:
                last = i
        if abs(exact - self.target) <= self.same:
            self.x[last] = clamp(self.x[last] + rest, self.target)
        for i in range(self.parts):
            self.mark_part(i)
        for row in range(self.n):
            self.filled[row] = 0.0
            for i in range(self.parts):
                self.filled[row] += min(self.x[i], self.room[i][row])
        self.mark_filled()

    def cost_here(self) -> float:
        """Summed over the samples."""
        value = 0.0
        for x, gain, rooms in zip(self.x[: self.parts], self.gains, self.room, strict=False):
            for room in rooms:
                value += self.theta * x - gain * (x if x < room else room)
        for filled in self.filled:
            gap = self.target - filled
            value += self.short_of * gap if gap > 0.0 else -self.over * gap
        return value


def bits(flags: list[bool]) -> int:
    """A set of samples."""
    return int("".join(["1" if flag else "0" for flag in flags]), 2)


def refine(
    starts: Array,
    gains: Array,
    queues: Array,
    outflows: Array,
    target: float,
    theta: float,
    under: float,
    over: float,
    scale: float,
    same: float,
    tolerance: float,
    reach: float,
    growth: float,
    thorough: bool,
) -> tuple[list[float], int]:
    """(placement as a list, number of moves): the cheapest end of the descents from each row of ``starts``.

    Sizes are multiples of 1 / ``scale`` shares, a power of two; a start whose sum is within ``same`` shares of the
    target makes up the target. A move saves more than ``tolerance`` dollars of the mean; lines are searched for
    ``reach`` shares first. With ``thorough`` every line through the answer is searched from end to end, not only those
    that lead down at once.
    """
    samples = gains.tolist(), queues.tolist(), outflows.tolist()
    d = Descent(*samples, target, theta, under + theta, over, scale, same, tolerance, reach, growth)
    moves = 0
    best: list[float] = []
    least = inf
    for start in starts.tolist():
        d.go_to(start)
        moves += d.descend()
        value = d.cost_here()
        if value < least:
            least = value
            best = d.x[: d.parts]
    d.go_to(best)
    leaps = 1 if thorough else 0
    while leaps > 0:
        leaps = d.leap()
        if leaps > 0:
            moves += leaps + d.descend()
    return d.x[: d.parts], moves
