"""Pure-Python twin of `_core.pyx`: same names, arguments, tie-breaks and order of floating-point operations.

A row of ``quotes`` is (price, size, fee, rebate): dollars per share, shares, dollars per share paid by the taker,
dollars per share received by the maker. Callers have checked every argument.

No ``sum`` of floats here: it compensates since Python 3.12, and the twins must agree bit for bit.
"""

from __future__ import annotations

from heapq import heapify, heappop
from itertools import islice
from math import ceil, floor, gcd, inf
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import astuple as _astuple

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


def find_unruly(rules: Any, most: float, limit: float, parts: float) -> int:
    """Index of the first row with a number that no rule has; -1 where there is none."""
    for i, (lot, min_quantity, min_notional, min_execution, max_quantity, ticket, fee_bps) in enumerate(rules.tolist()):
        if not (
            lot >= 1.0
            and whole(lot, most)
            and whole(min_quantity, most)
            and 0.0 <= min_notional <= limit
            and whole(min_execution, most)
            and (max_quantity == inf or whole(max_quantity, most))
            and 0.0 <= ticket <= limit
            and within(fee_bps, parts)
        ):
            return i
    return -1


def whole(number: float, most: float) -> bool:
    """A whole number from 0 to most."""
    return 0.0 <= number <= most and floor(number) == number


def plain(number: Any) -> float:
    """A float or an int, neither more (a bool, a numpy scalar) nor less: the caller looks closer at the rest."""
    if type(number) is not float and type(number) is not int:
        raise TypeError
    return float(number)


def pack(venues: Sequence[Any], quotes: Quotes, sample: Any) -> bool:
    """Write each venue's (ask, ask_size, fee, rebate) into its row; TypeError where one is no plain number.

    Whether they may have rules: all that are of the sample's kind and hold its very rules have none.
    """
    kind, neutral, ruled = type(sample), _astuple(sample)[4:], False
    for i, venue in enumerate(venues):
        if type(venue) is kind:
            ask, ask_size, fee, rebate, *rules = _astuple(venue)
            ruled = ruled or not same(rules, neutral)
        else:
            ask, ask_size, fee, rebate = venue.ask, venue.ask_size, venue.fee, venue.rebate
            ruled = True
        quotes[i] = plain(ask), plain(ask_size), plain(fee), plain(rebate)
    return ruled


def same(rules: Sequence[Any], neutral: Sequence[Any]) -> bool:
    """Whether they are the same objects: it takes no time, and what is equal to them is looked at closer."""
    return all(rule is one for rule, one in zip(rules, neutral, strict=True))


def pack_levels(venues: Sequence[Any], counts: Sequence[int], quotes: Quotes, sample: Any) -> bool:
    """Write a row for every (venue, level), venues in order, ``counts`` levels each, as many as there are rows.

    TypeError where one is no plain number, ValueError where a venue has more or fewer levels. Whether they may have
    rules, as `pack`.
    """
    kind, neutral, ruled, row = type(sample), _astuple(sample)[4:], False, 0
    for venue, count in zip(venues, counts, strict=True):
        left = count
        if type(venue) is kind:
            _, levels, taken, given, *rules = _astuple(venue)
            ruled = ruled or not same(rules, neutral)
        else:
            levels, taken, given = venue.levels, venue.fee, venue.rebate
            ruled = True
        fee, rebate = plain(taken), plain(given)
        for price, size in levels:
            if left == 0:
                raise ValueError("more levels than counted")
            quotes[row] = plain(price), plain(size), fee, rebate
            row += 1
            left -= 1
        if left:
            raise ValueError("fewer levels than counted")
    return ruled


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


# --- displayed shares under the rules of venues ----------------------------------------------------------------------
#
# At a venue nothing costs nothing; from its least order on it is a ticket and straight pieces over multiples of its
# lot, each dearer than the one before. Relaxed (any part of a lot, no least order, the ticket spread over the largest
# order) that is convex, and the cheapest piece first is the optimum over all venues. Where it sends to each venue what
# the rules allow, at its true cost, it is the optimum under the rules, too. A venue where it does not becomes a stepped
# one: a table has the least true cost of each total over these, and the relaxed others take what is left, for each
# total. And so on, until the rules are kept: seldom are many venues stepped.
#
# A row of ``rules`` is (lot, min_quantity, min_notional, min_execution, max_quantity, ticket, fee_bps), the last one in
# the fees of ``quotes`` already, and so ``nearly`` a least notional is reached. Totals are in units: shares over the
# greatest common divisor of the lots.


class Piece:
    """Lots in a row that cost the same at a venue."""

    __slots__ = ("cost", "first", "lots", "rank", "slope", "spent", "units", "venue")

    def __init__(self, venue: int, first: int, lots: int, spent: float, cost: float) -> None:
        self.venue = venue
        self.first = first  # lots before them
        self.lots = lots
        self.spent = spent  # cost of those before, less ``base`` a share
        self.cost = cost  # of one
        self.units = 0
        self.slope = 0.0  # relaxed cost of a unit
        self.rank = 0.0  # the largest up to here at this venue: rounded ones may fall


class Ruled:
    """A venue under its rules."""

    def __init__(self, order: list[int], rows: list[Row], rule: Row, nearly: float, order_size: int) -> None:
        lot, min_quantity, min_notional, min_execution, max_quantity, ticket, _ = rule
        self.order = order  # its rows, the cheapest first
        self.displayed = [int(rows[row][1]) for row in order]  # whole shares
        self.lot = int(lot)
        self.ticket = ticket
        self.unit = 1  # units of a lot
        most = sum(self.displayed)
        most = int(max_quantity) if max_quantity < most else most
        self.most = min(most, order_size) // self.lot  # lots of the largest order
        least = max(1, int(min_quantity), int(min_execution), self.shares_worth(min_notional * nearly, rows))
        self.least = (least + self.lot - 1) // self.lot  # lots of the smallest one
        self.sent = 0  # units
        self.pieces: list[Piece] = []
        self.stepped = False
        self.choice: list[int] = []  # lots here, by the total over this and the stepped venues before it

    def usable(self) -> bool:
        return self.least <= self.most

    def shares_worth(self, notional: float, rows: list[Row]) -> int:
        """The fewest that are worth so many dollars; more than are displayed where all are worth less."""
        shares, worth = 0, 0.0
        for row, displayed in zip(self.order, self.displayed, strict=True):
            if worth >= notional:
                return shares
            price = abs(rows[row][0])
            if worth + price * displayed >= notional:
                return shares + ceil((notional - worth) / price)
            worth += price * displayed
            shares += displayed
        return shares if worth >= notional else shares + 1

    def cut(self, venue: int, costs: list[float]) -> None:
        """Make the pieces: whole lots of a level, and each lot that straddles levels."""
        at, left, first, spent = 0, self.displayed[0], 0, 0.0
        while first < self.most:
            if left == 0:
                at += 1
                left = self.displayed[at]
                continue
            if left >= self.lot:
                lots = min(left // self.lot, self.most - first)
                cost = costs[self.order[at]] * self.lot
                left -= lots * self.lot
            else:
                lots, cost = 1, costs[self.order[at]] * left
                missing = self.lot - left
                while missing > 0:
                    at += 1
                    left = min(self.displayed[at], missing)
                    cost += costs[self.order[at]] * left
                    missing -= left
                    left = self.displayed[at] - left
            self.pieces.append(Piece(venue, first, lots, spent, cost))
            spent += cost * lots
            first += lots

    def relax(self) -> None:
        """The ticket spread over the largest order, and parts of lots."""
        spread = self.ticket / (self.most * self.unit)
        rank = -inf
        for piece in self.pieces:
            piece.units = piece.lots * self.unit
            piece.slope = piece.cost / self.unit + spread
            rank = max(rank, piece.slope)
            piece.rank = rank

    def broken(self) -> bool:
        """Whether what is sent breaks a rule, or costs more than it does relaxed."""
        if self.stepped or self.sent == 0:
            return False
        if self.sent % self.unit or self.sent < self.least * self.unit:
            return True
        return self.ticket > 0.0 and self.sent < self.most * self.unit


def order_of_pieces(piece: Piece) -> tuple[float, int, int]:
    """The cheapest first (ties: the first venue)."""
    return piece.rank, piece.venue, piece.first


def slide(
    table: list[float],
    grown: list[float],
    choice: list[int],
    unit: int,
    low: int,
    high: int,
    begin: float,
    piece: Piece,
) -> None:
    """Offer ``low`` to ``high`` lots to each total: behind the cheapest total before them, in a sliding window."""
    for offset in range(min(unit, len(table))):
        values: list[float] = []
        places: list[int] = []
        head = 0
        for x in range(low, (len(grown) - 1 - offset) // unit + 1):
            y = x - low
            before = offset + y * unit
            if before < len(table) and table[before] < inf:
                value = table[before] - piece.cost * y
                while len(values) > head and values[-1] > value:
                    values.pop()
                    places.pop()
                values.append(value)
                places.append(y)
            while head < len(places) and places[head] < x - high:
                head += 1
            if head < len(places):
                y = places[head]
                total = table[offset + y * unit] + (begin + piece.cost * ((x - y) - piece.first))
                if total < grown[offset + x * unit]:
                    grown[offset + x * unit] = total
                    choice[offset + x * unit] = x - y


class Desk:
    """The venues that may be sent to, and the order of those that are not stepped."""

    def __init__(self, venues: list[Ruled], units: int, fill_first: bool) -> None:
        self.venues = venues
        self.units = units  # that may be sent in all
        self.fill_first = fill_first
        self.line: list[Piece] = []  # pieces of venues that are not stepped, in order of taking
        self.stepped: list[Ruled] = []
        self.table = [0.0]  # least cost of each total over the stepped venues
        self.cells = 0  # filled in tables

    def line_up(self) -> None:
        """Where penalties weigh, costs are less what a missing share costs: pieces above 0 do not pay."""
        pieces = [piece for venue in self.venues for piece in venue.pieces if self.fill_first or piece.rank <= 0.0]
        self.line = sorted(pieces, key=order_of_pieces)

    def try_totals(self) -> None:
        """The best total over the stepped venues, with what the others make of the rest; sent to each venue."""
        capacity = sum(piece.units for piece in self.line)
        best, best_total, most = inf, 0, -1
        at, start, spent = 0, 0, 0.0
        for total in range(len(self.table) - 1, -1, -1):
            if self.table[total] == inf:
                continue
            rest = min(self.units - total, capacity)
            while at < len(self.line) and start + self.line[at].units < rest:
                spent += self.line[at].slope * self.line[at].units
                start += self.line[at].units
                at += 1
            cost = self.table[total] + spent
            if rest > start:
                cost += self.line[at].slope * (rest - start)
            more = total + rest - most
            if (more > 0 or (more == 0 and cost <= best)) if self.fill_first else (cost <= best):
                best, best_total, most = cost, total, total + rest
        self.send(best_total, most - best_total)

    def send(self, total: int, rest: int) -> None:
        for venue in self.venues:
            venue.sent = 0
        for piece in self.line:
            part = min(rest, piece.units)
            self.venues[piece.venue].sent += part
            rest -= part
        for venue in reversed(self.stepped):
            venue.sent = venue.choice[total] * venue.unit
            total -= venue.sent

    def step(self, venue: Ruled, most_cells: int) -> bool:
        """Take a venue into the table; False where that has too many cells."""
        reach = min(self.units, len(self.table) - 1 + venue.most * venue.unit)
        if reach >= most_cells:
            return False
        self.cells += (reach + 1) * len(venue.pieces)
        if self.cells > most_cells:
            return False
        venue.stepped = True
        venue.choice = [0] * (reach + 1)
        grown = self.table + [inf] * (reach + 1 - len(self.table))
        for piece in venue.pieces:
            low = max(venue.least, piece.first + 1)
            high = piece.first + piece.lots
            if low <= high:
                slide(self.table, grown, venue.choice, venue.unit, low, high, venue.ticket + piece.spent, piece)
        self.table = grown
        self.stepped.append(venue)
        return True

    def repair(self) -> None:
        """Whole lots of what is sent, no order below the smallest; what is left where it fits, the cheapest first."""
        left = self.units
        for venue in self.venues:
            venue.sent -= venue.sent % venue.unit
            if venue.sent < venue.least * venue.unit:
                venue.sent = 0
            left -= venue.sent
        if not self.fill_first:
            return
        self.line_up()
        for piece in self.line:
            venue = self.venues[piece.venue]
            more = min(left, venue.most * venue.unit - venue.sent)
            more -= more % venue.unit
            if venue.sent + more >= venue.least * venue.unit:
                venue.sent += more
                left -= more
        if left > 0:
            self.make_room(left)

    def make_room(self, left: int) -> None:
        """For the smallest order of one more venue: others give what it lacks, the dearest first."""
        spare = sum(venue.sent - venue.least * venue.unit for venue in self.venues if venue.sent > 0)
        for piece in self.line:
            taker = self.venues[piece.venue]
            lacks = taker.least * taker.unit - left
            if taker.sent == 0 and lacks <= spare:
                break
        else:
            return
        for piece in reversed(self.line):
            giver = self.venues[piece.venue]
            if lacks > 0 and giver.sent > 0:
                lots = (lacks + giver.unit - 1) // giver.unit
                part = min(lots * giver.unit, giver.sent - giver.least * giver.unit)
                giver.sent -= part
                lacks -= part
        taker.sent = taker.least * taker.unit

    def solve(self, most_cells: int) -> bool:
        """Whether what is sent is proven to be the best; else it keeps the rules."""
        self.line_up()
        while True:
            self.try_totals()
            broken = [venue for venue in self.venues if venue.broken()]
            if not broken:
                return True
            for venue in broken:
                if not self.step(venue, most_cells):
                    self.repair()
                    return False
            self.line = [piece for piece in self.line if not self.venues[piece.venue].stepped]


def ruled_desk(
    rows: list[Row], counts: list[int], rules: list[Row], nearly: float, pen: Penalties, fill_first: bool
) -> tuple[Desk, int]:
    """The desk, and the shares of a unit.

    A cost common to all shares changes no choice among splits of as many: without it the sums stay accurate.
    """
    taking = [(price - pen.reference) + fee for price, _, fee, _ in rows]
    base = min(taking, default=0.0) if fill_first else pen.under + pen.queue
    costs = [cost - base for cost in taking]
    venues, end = [], 0
    for count, rule in zip(counts, rules, strict=True):
        order = sorted(range(end, end + count), key=lambda row: (rows[row][0] + rows[row][2], rows[row][0], row))
        venues.append(Ruled(order, rows, rule, nearly, int(pen.order_size)))
        end += count
    grid = gcd(*(venue.lot for venue in venues if venue.usable())) or 1
    for i, venue in enumerate(venues):
        if venue.usable():
            venue.unit = venue.lot // grid
            venue.cut(i, costs)
            venue.relax()
    return Desk(venues, int(pen.order_size) // grid, fill_first), grid


def sweep_by_rules(
    quotes: Quotes,
    counts: list[int],
    rules: Any,
    nearly: float,
    order_size: int,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    reference: float,
    fill_first: bool,
    most_cells: int,
) -> tuple[list[int], float, bool]:
    """`sweep` of venues of ``counts`` rows each under rules: (shares by row, cost, whether that is proven the least).

    As many shares as the rules allow and then the least cost (``fill_first``), or the least cost with penalties.
    """
    pen = Penalties(float(order_size), lambda_over, lambda_under, theta_queue, reference)
    rows = quotes.tolist()
    desk, grid = ruled_desk(rows, counts, rules.tolist(), nearly, pen, fill_first)
    proven = desk.solve(most_cells)
    split = [0.0] * len(rows)
    for venue in desk.venues:
        left = venue.sent * grid
        for row, displayed in zip(venue.order, venue.displayed, strict=True):
            part = min(left, displayed)
            split[row] = float(part)
            left -= part
    cost = split_cost(split, rows, pen)
    for venue in desk.venues:
        if venue.sent:
            cost += venue.ticket
    return [int(q) for q in split], cost, proven


def sweep_by_rules_many(
    quotes: Quotes,
    rules: Any,
    nearly: float,
    order_sizes: Any,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    references: Any,
    fill_first: bool,
    most_cells: int,
    splits: Any,
    costs: Any,
    proven: Any,
) -> None:
    """`sweep_by_rules` of every snapshot of venues of one row each, into the last three."""
    penalties = lambda_over, lambda_under, theta_queue
    counts = [1] * len(rules)
    for i, (order_size, reference) in enumerate(zip(order_sizes.tolist(), references.tolist(), strict=True)):
        splits[i], costs[i], proven[i] = sweep_by_rules(
            quotes[i], counts, rules, nearly, order_size, *penalties, reference, fill_first, most_cells
        )


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


def exhaustive_by_rules(
    quotes: Quotes,
    choices: list[list[int]],
    tickets: list[float],
    order_size: int,
    lambda_over: float,
    lambda_under: float,
    theta_queue: float,
    reference: float,
    fill_first: bool,
) -> Answer:
    """The best of all splits of the order made of a choice a venue, the smallest first; ties: the first of them."""
    pen = Penalties(float(order_size), lambda_over, lambda_under, theta_queue, reference)
    rows = quotes.tolist()
    split, found, best, most = [0.0] * len(rows), [0.0] * len(rows), inf, -1.0

    def enumerate_choices(venue: int, filled: float) -> None:
        nonlocal best, most, found
        if venue < len(rows):
            for choice in choices[venue]:
                if filled + choice > pen.order_size:
                    break
                split[venue] = float(choice)
                enumerate_choices(venue + 1, filled + choice)
            return
        if fill_first and filled < most:
            return
        cost = split_cost(split, rows, pen)
        for q, ticket in zip(split, tickets, strict=True):
            if q > 0.0:
                cost += ticket
        if cost < best or (fill_first and filled > most):
            best, most, found = cost, filled, split[:]

    enumerate_choices(0, 0.0)
    return [int(q) for q in found], best
