# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled kernels of the static split model; `_core_py` is their twin, equal bit for bit.

A row of ``quotes`` is (price, size, fee, rebate): dollars per share, shares, dollars per share paid by the taker,
dollars per share received by the maker. Callers have checked every argument.
"""

from libc.math cimport INFINITY, fabs, floor
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

cdef enum:
    PRICE = 0
    SIZE = 1
    FEE = 2
    REBATE = 3
    BLOCK = 64  # splits costed at a time by the enumeration


cdef struct Penalties:
    double order_size
    double over
    double under
    double queue
    double reference


# --- scalar formulas ---------------------------------------------------------------------------------------------

cdef inline double executed(double q, double size) noexcept nogil:
    """e = min(q, a)."""
    return q if q < size else size


cdef inline double cash(double q, double e, double price, double fee, double rebate) noexcept nogil:
    """e (p + f) - (q - e) r."""
    return e * (price + fee) - (q - e) * rebate


cdef inline double penalised(double spent, double filled, Penalties pen) noexcept nogil:
    """cash + theta (U + O) + lambda_under U + lambda_over O."""
    cdef double gap = pen.order_size - filled
    cdef double under = gap if gap > 0.0 else 0.0
    cdef double over = -gap if -gap > 0.0 else 0.0
    return spent + pen.queue * (under + over) + pen.under * under + pen.over * over


cdef inline bint within(double number, double limit) noexcept nogil:
    """-limit <= number <= limit; False for NaN."""
    return fabs(number) <= limit


# --- packing -----------------------------------------------------------------------------------------------------

def find_unusable(const double[:, ::1] quotes, double limit):
    """Index of the first row with a number beyond +-limit, NaN or a negative size; -1 where there is none."""
    cdef Py_ssize_t i
    for i in range(quotes.shape[0]):
        if not (within(quotes[i, PRICE], limit) and within(quotes[i, SIZE], limit) and quotes[i, SIZE] >= 0.0
                and within(quotes[i, FEE], limit) and within(quotes[i, REBATE], limit)):
            return i
    return -1


cdef inline double plain(object number) except? -1.0:
    """A float or an int, neither more (a bool, a numpy scalar) nor less: the caller looks closer at the rest."""
    if type(number) is not float and type(number) is not int:
        raise TypeError
    return number


def pack(list venues, double[:, ::1] quotes):
    """Write each venue's (ask, ask_size, fee, rebate) into its row; TypeError where one is no plain number."""
    cdef Py_ssize_t i
    for i in range(len(venues)):
        venue = venues[i]
        quotes[i, PRICE] = plain(venue.ask)
        quotes[i, SIZE] = plain(venue.ask_size)
        quotes[i, FEE] = plain(venue.fee)
        quotes[i, REBATE] = plain(venue.rebate)


def pack_levels(list venues, double[:, ::1] quotes):
    """Write a row for every (venue, level), venues in order; TypeError where one is no plain number."""
    cdef Py_ssize_t row = 0
    cdef double fee, rebate
    for venue in venues:
        fee = plain(venue.fee)
        rebate = plain(venue.rebate)
        for price, size in venue.levels:
            quotes[row, PRICE] = plain(price)
            quotes[row, SIZE] = plain(size)
            quotes[row, FEE] = fee
            quotes[row, REBATE] = rebate
            row += 1


# --- cost of a given split ---------------------------------------------------------------------------------------

cdef double split_cost(const double* split, const double[:, ::1] quotes, const Penalties* pen) noexcept nogil:
    cdef double spent = 0.0, filled = 0.0, e
    cdef Py_ssize_t i
    for i in range(quotes.shape[0]):
        e = executed(split[i], quotes[i, SIZE])
        filled += e
        spent += cash(split[i], e, quotes[i, PRICE] - pen.reference, quotes[i, FEE], quotes[i, REBATE])
    return penalised(spent, filled, pen[0])


def cost(const double[::1] split, const double[:, ::1] quotes, double order_size, double lambda_over,
         double lambda_under, double theta_queue, double reference):
    """Cost in dollars of any split, its sum above or below the order included."""
    cdef Penalties pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    if quotes.shape[0] == 0:
        return penalised(0.0, 0.0, pen)
    return split_cost(&split[0], quotes, &pen)


cdef object answer(const double* split, const double[:, ::1] quotes, const Penalties* pen):
    """(split as a list of int, cost): what every solver returns."""
    cdef Py_ssize_t i, k = quotes.shape[0]
    cdef list shares = [0] * k
    for i in range(k):
        if split[i] != 0.0:
            shares[i] = <int64_t>split[i]
    return shares, split_cost(split, quotes, pen)


# --- displayed shares only: the cheapest first -------------------------------------------------------------------

cdef inline bint cheaper(Py_ssize_t a, Py_ssize_t b, const double[:, ::1] quotes) noexcept nogil:
    """Order of filling: price + fee, then price, then row."""
    cdef double x = quotes[a, PRICE] + quotes[a, FEE], y = quotes[b, PRICE] + quotes[b, FEE]
    if x != y:
        return x < y
    if quotes[a, PRICE] != quotes[b, PRICE]:
        return quotes[a, PRICE] < quotes[b, PRICE]
    return a < b


cdef void sift_down(Py_ssize_t* heap, Py_ssize_t root, Py_ssize_t count, const double[:, ::1] quotes) noexcept nogil:
    cdef Py_ssize_t row = heap[root], child = 2 * root + 1
    while child < count:
        if child + 1 < count and cheaper(heap[child + 1], heap[child], quotes):
            child += 1
        if not cheaper(heap[child], row, quotes):
            break
        heap[root] = heap[child]
        root = child
        child = 2 * root + 1
    heap[root] = row


cdef void fill_cheapest(double left, const double[:, ::1] quotes, Py_ssize_t* heap, double* split) noexcept nogil:
    """A heap, as most orders are filled long before every row has been sorted."""
    cdef Py_ssize_t count = quotes.shape[0], i
    cdef double displayed
    for i in range(count):
        heap[i] = i
        split[i] = 0.0
    for i in range(count // 2 - 1, -1, -1):
        sift_down(heap, i, count, quotes)
    while count > 0 and left > 0.0:
        displayed = floor(quotes[heap[0], SIZE])
        split[heap[0]] = displayed if displayed < left else left
        left -= split[heap[0]]
        count -= 1
        heap[0] = heap[count]
        sift_down(heap, 0, count, quotes)


def sweep(const double[:, ::1] quotes, int64_t order_size, double lambda_over, double lambda_under,
          double theta_queue, double reference):
    """Whole displayed shares at the least price + fee, until the order is filled or nothing is left."""
    cdef Penalties pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    cdef Py_ssize_t k = quotes.shape[0]
    cdef double* split = <double*>malloc(k * (sizeof(double) + sizeof(Py_ssize_t)))
    if split == NULL:
        raise MemoryError
    try:
        with nogil:
            fill_cheapest(<double>order_size, quotes, <Py_ssize_t*>(split + k), split)
        return answer(split, quotes, &pen)
    finally:
        free(split)


def per_venue(list fills, list counts):
    """Sums of shares over groups of rows, ``counts`` rows each: from levels to venues."""
    cdef list split = []
    cdef Py_ssize_t count, row = 0, end
    cdef int64_t shares
    for count in counts:
        shares = 0
        end = row + count
        while row < end:
            shares += <int64_t>fills[row]
            row += 1
        split.append(shares)
    return split


# --- the exact allocator: the cheapest step first ----------------------------------------------------------------
#
# In a complete split (sum q = S) nothing is overfilled, and cost = sum g(q): slope ``take`` up to the displayed size,
# ``rest`` beyond. Where take <= rest, g is convex: such venues share any number of steps at least cost by taking the
# cheapest next one again and again, in runs of equal steps. Elsewhere g is concave: of two such venues with steps one
# can give all of its own to the other at no cost, so at most one has any; and as convex runs are straight, it takes
# over at the end of one, and takes all that is left. Those splits are few, however fine the grid: O(k) runs by k
# venues, tried once for every venue that may carry the remainder.

cdef struct Leg:  # one venue
    double take   # price + fee - reference - base, per share executed
    double rest   # lambda_under + theta_queue - rebate - base, per share beyond the displayed size
    double size   # displayed shares: the break
    double extra  # shares beside whole steps: the remainder of the order where it is carried, else 0
    double taken  # steps so far
    double slope  # cost of the next step
    double run    # number of steps that cost as much


cdef struct Plan:
    Py_ssize_t venues
    Leg* legs
    double step          # shares of a step
    double steps         # to share out
    Py_ssize_t carrier   # venue that carries the remainder
    double* best         # steps per venue of the best split so far
    Py_ssize_t best_carrier
    double cost          # its cost, less ``base`` per share


cdef inline double leg_cost(double q, const Leg* leg) noexcept nogil:
    """g(q) = e (p + f) + (q - e)(lambda_under + theta_queue - r)."""
    cdef double e = executed(q, leg.size)
    return e * leg.take + (q - e) * leg.rest


cdef inline bint convex(const Leg* leg) noexcept nogil:
    return leg.take <= leg.rest


cdef void set_legs(Plan* p, const double[:, ::1] quotes, const Penalties* pen) noexcept nogil:
    """With sum q = S a cost per share common to all (base) changes no choice: without it the sums stay accurate."""
    cdef double base = INFINITY
    cdef Py_ssize_t i
    for i in range(p.venues):
        p.legs[i].take = (quotes[i, PRICE] - pen.reference) + quotes[i, FEE]
        p.legs[i].rest = (pen.under + pen.queue) - quotes[i, REBATE]
        p.legs[i].size = quotes[i, SIZE]
        p.legs[i].extra = 0.0
        base = min(base, p.legs[i].take, p.legs[i].rest)
    for i in range(p.venues):
        p.legs[i].take -= base
        p.legs[i].rest -= base


cdef inline void next_run(const Plan* p, Leg* leg) noexcept nogil:
    """Slope and length of the straight piece of g ahead; the step across the break is a piece of its own."""
    cdef double displayed = (leg.size - leg.extra) - p.step * leg.taken
    if displayed >= p.step:
        leg.slope = leg.take * p.step
        leg.run = floor(displayed / p.step)
    elif displayed > 0.0:
        leg.slope = leg.take * displayed + leg.rest * (p.step - displayed)
        leg.run = 1.0
    else:
        leg.slope = leg.rest * p.step
        leg.run = p.steps


cdef bint preferred(const Plan* p) noexcept nogil:
    """At equal cost: from the last venue to the first, rather not the remainder, then the fewest steps."""
    cdef Py_ssize_t i
    for i in range(p.venues - 1, -1, -1):
        if (i == p.carrier) != (i == p.best_carrier):
            return i == p.best_carrier
        if p.legs[i].taken != p.best[i]:
            return p.legs[i].taken < p.best[i]
    return False


cdef void offer(Plan* p, double cost) noexcept nogil:
    """Keep the steps taken, where they are the best split so far."""
    cdef Py_ssize_t i
    if cost > p.cost or (cost == p.cost and not preferred(p)):
        return
    p.cost = cost
    p.best_carrier = p.carrier
    for i in range(p.venues):
        p.best[i] = p.legs[i].taken


cdef void offer_concave(Plan* p, double left, double spent) noexcept nogil:
    """Give all that is left to one concave venue: each in turn."""
    cdef Py_ssize_t i
    cdef Leg* leg
    for i in range(p.venues):
        leg = p.legs + i
        if not convex(leg):
            leg.taken = left
            offer(p, spent + (leg_cost(p.step * left + leg.extra, leg) - leg_cost(leg.extra, leg)))
            leg.taken = 0.0


cdef Leg* cheapest_convex(const Plan* p) noexcept nogil:
    """The convex venue with the cheapest next step (ties: the first); NULL where no venue is convex."""
    cdef Leg* chosen = NULL
    cdef Py_ssize_t i
    for i in range(p.venues):
        if convex(p.legs + i) and (chosen == NULL or p.legs[i].slope < chosen.slope):
            chosen = p.legs + i
    return chosen


cdef void share_out(Plan* p) noexcept nogil:
    """All splits that can be best while this carrier holds the remainder."""
    cdef double left = p.steps, spent = leg_cost(p.legs[p.carrier].extra, p.legs + p.carrier), count
    cdef Py_ssize_t i
    cdef Leg* leg
    for i in range(p.venues):
        p.legs[i].taken = 0.0
        next_run(p, p.legs + i)
    while left > 0.0:
        offer_concave(p, left, spent)
        leg = cheapest_convex(p)
        if leg == NULL:
            return
        count = min(leg.run, left)
        leg.taken += count
        left -= count
        spent += leg.slope * count
        next_run(p, leg)
    offer(p, spent)


cdef void solve(Plan* p, double remainder) noexcept nogil:
    """Leaves the optimal split, in shares, in ``best``."""
    cdef Py_ssize_t i, carrier
    p.cost = INFINITY
    p.best_carrier = 0
    for carrier in range(p.venues if remainder > 0.0 else min(p.venues, 1)):
        p.carrier = carrier
        p.legs[carrier].extra = remainder
        share_out(p)
        p.legs[carrier].extra = 0.0
    for i in range(p.venues):
        p.best[i] = p.step * p.best[i] + (remainder if i == p.best_carrier else 0.0)


def allocate(const double[:, ::1] quotes, int64_t order_size, double lambda_over, double lambda_under,
             double theta_queue, int64_t step, double reference):
    """Optimum over complete splits in multiples of ``step`` (one part also carries the remainder)."""
    cdef Penalties pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    cdef Plan p
    cdef int64_t n = order_size // step
    p.venues = quotes.shape[0]
    p.step = <double>step
    p.steps = <double>n
    p.best = <double*>malloc(p.venues * (sizeof(double) + sizeof(Leg)))
    if p.best == NULL:
        raise MemoryError
    p.legs = <Leg*>(p.best + p.venues)
    try:
        with nogil:
            set_legs(&p, quotes, &pen)
            solve(&p, <double>(order_size - n * step))
        return answer(p.best, quotes, &pen)
    finally:
        free(p.best)


# --- enumeration: every split, by the formula itself -------------------------------------------------------------

cdef struct Search:
    Py_ssize_t venues
    int64_t row           # n + 1
    const double* filled  # (venues, row): executed shares of m steps; of n - m steps for the last venue
    const double* spent   # (venues, row): cash, likewise
    Penalties pen
    int64_t* path         # steps per venue, where the search stands
    int64_t* found        # steps per venue of the best split so far
    double cost           # its cost
    bint resting          # may a part exceed the displayed size?


cdef void tabulate(const Search* s, const double[:, ::1] quotes, Py_ssize_t i, double step, double extra,
                   double* filled, double* spent) noexcept nogil:
    """The formula's terms for venue i and every number of steps; infinite cash bars what may not be sent."""
    cdef double q, e
    cdef int64_t m, at
    for m in range(s.row):
        at = i * s.row + (s.row - 1 - m if i == s.venues - 1 else m)
        q = step * m + extra
        e = executed(q, quotes[i, SIZE])
        filled[at] = e
        spent[at] = cash(q, e, quotes[i, PRICE] - s.pen.reference, quotes[i, FEE], quotes[i, REBATE])
        if not s.resting and e < q:
            spent[at] = INFINITY


cdef inline void cost_block(const double* spent_a, const double* spent_b, const double* filled_a,
                            const double* filled_b, double spent, double filled, Penalties pen, int64_t count,
                            double* totals) noexcept nogil:
    """Costs of ``count`` splits in a loop without branches, which compilers turn into vector instructions."""
    cdef int64_t m
    for m in range(count):
        totals[m] = penalised((spent + spent_a[m]) + spent_b[m], (filled + filled_a[m]) + filled_b[m], pen)


cdef inline bint last_two(Search* s, int64_t left, double filled, double spent) noexcept nogil:
    """Every way to share ``left`` steps between the last two venues."""
    cdef const double* filled_a = s.filled + (s.venues - 2) * s.row
    cdef const double* filled_b = filled_a + s.row + (s.row - 1 - left)
    cdef const double* spent_a = s.spent + (s.venues - 2) * s.row
    cdef const double* spent_b = spent_a + s.row + (s.row - 1 - left)
    cdef double[BLOCK] totals
    cdef double best = s.cost
    cdef int64_t start = 0, m, count, chosen = -1
    while start <= left:
        count = min(<int64_t>BLOCK, left + 1 - start)
        cost_block(spent_a + start, spent_b + start, filled_a + start, filled_b + start, spent, filled, s.pen,
                   count, totals)
        for m in range(count):
            if totals[m] < best:
                best = totals[m]
                chosen = start + m
        start += BLOCK
    if chosen < 0:
        return False
    s.cost = best
    s.path[s.venues - 2] = chosen
    s.path[s.venues - 1] = left - chosen
    return True


cdef bint enumerate_from(Search* s, Py_ssize_t venue, int64_t left, double filled, double spent) noexcept nogil:
    """Depth first over the venues; True where a cheaper split was found."""
    cdef int64_t m
    cdef Py_ssize_t i
    cdef bint better = False
    if venue == s.venues - 2:
        better = last_two(s, left, filled, spent)
        if better:
            for i in range(s.venues):
                s.found[i] = s.path[i]
        return better
    for m in range(left + 1):
        s.path[venue] = m
        if enumerate_from(s, venue + 1, left - m, filled + s.filled[venue * s.row + m],
                          spent + s.spent[venue * s.row + m]):
            better = True
    return better


cdef void search_all(Search* s, const double[:, ::1] quotes, double step, double remainder, double* filled,
                     double* spent, double* split) noexcept nogil:
    """The whole space once for every venue that may carry the remainder."""
    cdef Py_ssize_t i, carrier, k = s.venues
    for i in range(k):
        tabulate(s, quotes, i, step, 0.0, filled, spent)
    for carrier in range(k if remainder > 0.0 else 1):
        tabulate(s, quotes, carrier, step, remainder, filled, spent)
        if enumerate_from(s, 0, s.row - 1, 0.0, 0.0):
            for i in range(k):
                split[i] = step * s.found[i]
            split[carrier] += remainder
        tabulate(s, quotes, carrier, step, 0.0, filled, spent)


def exhaustive(const double[:, ::1] quotes, int64_t total, int64_t order_size, double lambda_over,
               double lambda_under, double theta_queue, int64_t step, double reference, bint resting):
    """The cheapest of all splits of ``total`` shares; ties: the first in lexicographic order, first carrier first."""
    cdef Search s
    cdef Py_ssize_t k = quotes.shape[0]
    cdef int64_t n = total // step, remainder = total - n * step
    cdef int64_t cells = 2 * k * (n + 1) if k > 1 else 0  # one venue leaves nothing to tabulate
    cdef double* memory = <double*>malloc((k + cells) * sizeof(double) + 2 * k * sizeof(int64_t))
    if memory == NULL:
        raise MemoryError
    s.pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    s.venues = k
    s.row = n + 1
    s.filled = memory + k
    s.spent = s.filled + k * s.row
    s.path = <int64_t*>(s.spent + k * s.row)
    s.found = s.path + k
    s.cost = INFINITY
    s.resting = resting
    try:
        memory[0] = <double>total
        if k > 1:
            with nogil:
                search_all(&s, quotes, <double>step, <double>remainder, memory + k, memory + k + k * s.row, memory)
        return answer(memory, quotes, &s.pen)
    finally:
        free(memory)
