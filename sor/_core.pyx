# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled kernels of the static split model; `_core_py` is their twin, equal bit for bit.

A row of ``quotes`` is (price, size, fee, rebate): dollars per share, shares, dollars per share paid by the taker,
dollars per share received by the maker. Callers have checked every argument.
"""

from libc.math cimport INFINITY, floor
from libc.stdint cimport int32_t, int64_t
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


cdef struct Leg:  # one venue inside a complete split (sum q = S): g(q) has two straight pieces
    double take   # price + fee - reference - base, per share executed
    double rest   # lambda_under + theta_queue - rebate - base, per share beyond the displayed size
    double size   # displayed shares: the break


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


cdef inline double leg_cost(double q, Leg leg) noexcept nogil:
    """g(q) = e (p + f) + (q - e)(lambda_under + theta_queue - r)."""
    cdef double e = executed(q, leg.size)
    return e * leg.take + (q - e) * leg.rest


cdef inline bint within(double number, double low, double limit) noexcept nogil:
    """low <= number <= limit; False for NaN."""
    return number >= low and number <= limit


# --- packing -----------------------------------------------------------------------------------------------------

def find_unusable(const double[:, ::1] quotes, double limit):
    """Index of the first row with a number beyond +-limit, NaN or a negative size; -1 where there is none."""
    cdef Py_ssize_t i
    for i in range(quotes.shape[0]):
        if not (within(quotes[i, PRICE], -limit, limit) and within(quotes[i, SIZE], 0.0, limit)
                and within(quotes[i, FEE], -limit, limit) and within(quotes[i, REBATE], -limit, limit)):
            return i
    return -1


def pack(list venues, double[:, ::1] quotes):
    """Write each venue's (ask, ask_size, fee, rebate) into its row."""
    cdef Py_ssize_t i
    for i in range(len(venues)):
        venue = venues[i]
        quotes[i, PRICE] = venue.ask
        quotes[i, SIZE] = venue.ask_size
        quotes[i, FEE] = venue.fee
        quotes[i, REBATE] = venue.rebate


def pack_levels(list venues, double[:, ::1] quotes):
    """Write a row for every (venue, level), venues in order."""
    cdef Py_ssize_t row = 0
    cdef double fee, rebate
    for venue in venues:
        fee = venue.fee
        rebate = venue.rebate
        for price, size in venue.levels:
            quotes[row, PRICE] = price
            quotes[row, SIZE] = size
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
    return [<int64_t>split[i] for i in range(quotes.shape[0])], split_cost(split, quotes, pen)


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


# --- the exact allocator: a (min,+) dynamic programme over venues ------------------------------------------------

cdef inline Leg leg_of(const double[:, ::1] quotes, Py_ssize_t i, const Penalties* pen, double base) noexcept nogil:
    return Leg(
        ((quotes[i, PRICE] - pen.reference) + quotes[i, FEE]) - base,
        ((pen.under + pen.queue) - quotes[i, REBATE]) - base,
        quotes[i, SIZE],
    )


cdef double cheapest_slope(const double[:, ::1] quotes, const Penalties* pen) noexcept nogil:
    """With sum q = S a cost per share common to all venues changes no choice: without it the sums stay accurate."""
    cdef double base = INFINITY
    cdef Py_ssize_t i
    cdef Leg leg
    for i in range(quotes.shape[0]):
        leg = leg_of(quotes, i, pen, 0.0)
        base = min(base, leg.take, leg.rest)
    return base


cdef inline int64_t last_whole_step(double size, double extra, double step, int64_t n) noexcept nogil:
    """Largest m <= n with m step + extra <= size; -1 where there is none."""
    cdef double m = floor((size - extra) / step)
    if m < 0.0:
        return -1
    return n if m > <double>n else <int64_t>m


cdef void first_venue(int64_t n, double step, double extra, Leg leg, double* best) noexcept nogil:
    cdef int64_t m
    for m in range(n + 1):
        best[m] = leg_cost(step * m + extra, leg)


cdef void displayed_piece(const double* before, int64_t n, double step, double extra, Leg leg, int64_t displayed,
                          double* keys, int32_t* window, double* best, int32_t* steps) noexcept nogil:
    """best[M] over m <= displayed: there g only tilts ``before``, so a monotone queue holds the minimum."""
    cdef double take = leg.take * step, offset = leg.take * extra, tilt, key
    cdef int64_t total, head = 0, tail = 0
    for total in range(n + 1):
        tilt = take * total
        key = before[total] - tilt
        while tail > head and keys[tail - 1] >= key:
            tail -= 1
        keys[tail] = key
        window[tail] = <int32_t>total
        tail += 1
        if window[head] < total - displayed:
            head += 1
        best[total] = keys[head] + (tilt + offset)
        steps[total] = <int32_t>(total - window[head])


cdef void resting_piece(const double* before, int64_t n, double step, double extra, Leg leg, int64_t displayed,
                        double* best, int32_t* steps) noexcept nogil:
    """best[M] over m > displayed as well, where cheaper: the window only grows, so a running minimum will do."""
    cdef double rest = leg.rest * step, offset = leg.rest * extra + leg.size * (leg.take - leg.rest)
    cdef double key, value, least = INFINITY
    cdef int64_t newest, total = displayed, source = 0
    for newest in range(n - displayed):
        total += 1
        key = before[newest] - rest * newest
        if key <= least:
            least = key
            source = newest
        value = least + (rest * total + offset)
        if value < best[total]:
            best[total] = value
            steps[total] = <int32_t>(total - source)


cdef void add_venue(const double* before, int64_t n, double step, double extra, Leg leg, double* keys,
                    int32_t* window, double* best, int32_t* steps) noexcept nogil:
    """best[M] = min over m of before[M - m] + g(m step + extra), and the m that gives it, in O(n).

    Ties: the fewest shares for this, the later venue.
    """
    cdef int64_t displayed = last_whole_step(leg.size, extra, step, n), total
    if displayed >= 0:
        displayed_piece(before, n, step, extra, leg, displayed, keys, window, best, steps)
    else:
        for total in range(n + 1):
            best[total] = INFINITY
    resting_piece(before, n, step, extra, leg, displayed, best, steps)


cdef int64_t last_venue(const double* before, int64_t n, double step, double extra, Leg leg,
                        double* best) noexcept nogil:
    """Only the full order matters at the last venue: its m, its cost in ``best``; ties: the fewest shares."""
    cdef int64_t m, chosen = 0
    cdef double value
    best[0] = before[n] + leg_cost(extra, leg)
    for m in range(1, n + 1):
        value = before[n - m] + leg_cost(step * m + extra, leg)
        if value < best[0]:
            best[0] = value
            chosen = m
    return chosen


cdef struct Tables:
    double* best[4]     # [0], [1]: remainder not placed / placed; [2], [3]: the next venue's, then swapped
    double* other       # best of the alternative that places the remainder here
    double* keys
    int32_t* window
    int32_t* alternative
    int32_t* steps[2]   # per remainder state: k - 2 rows of ``row`` steps taken
    int64_t row         # n + 1
    double base         # cost per share that every venue has at least


cdef void swap_states(Tables* t) noexcept nogil:
    t.best[0], t.best[2] = t.best[2], t.best[0]
    t.best[1], t.best[3] = t.best[3], t.best[1]


cdef void place_remainder(Tables* t, int64_t n, double step, double remainder, Leg leg,
                          int32_t* steps) noexcept nogil:
    """Remainder placed up to this venue: before it, or (where cheaper) at it, noted as -1 - m."""
    cdef int64_t total
    add_venue(t.best[1], n, step, 0.0, leg, t.keys, t.window, t.best[3], steps)
    add_venue(t.best[0], n, step, remainder, leg, t.keys, t.window, t.other, t.alternative)
    for total in range(n + 1):
        if t.other[total] < t.best[3][total]:
            t.best[3][total] = t.other[total]
            steps[total] = -1 - t.alternative[total]


cdef void forward(Tables* t, const double[:, ::1] quotes, const Penalties* pen, int64_t n, double step,
                  double remainder) noexcept nogil:
    """Fill the tables venue by venue, all but the last."""
    cdef Py_ssize_t i, k = quotes.shape[0]
    cdef Leg leg = leg_of(quotes, 0, pen, t.base)
    first_venue(n, step, 0.0, leg, t.best[0])
    if remainder > 0.0:
        first_venue(n, step, remainder, leg, t.best[1])
    for i in range(1, k - 1):
        leg = leg_of(quotes, i, pen, t.base)
        if remainder > 0.0:
            place_remainder(t, n, step, remainder, leg, t.steps[1] + (i - 1) * t.row)
        add_venue(t.best[0], n, step, 0.0, leg, t.keys, t.window, t.best[2], t.steps[0] + (i - 1) * t.row)
        swap_states(t)


cdef void backtrack(Tables* t, const double[:, ::1] quotes, const Penalties* pen, int64_t n, double step,
                    double remainder, double* split) noexcept nogil:
    """Read the optimal split off the tables, from the last venue to the first."""
    cdef Py_ssize_t i, k = quotes.shape[0]
    cdef Leg leg = leg_of(quotes, k - 1, pen, t.base)
    cdef double value, alternative
    cdef double extra[2]  # by state: what is left of the remainder
    cdef int state = remainder > 0.0
    cdef int64_t m = last_venue(t.best[state], n, step, 0.0, leg, &value), here
    extra[0] = 0.0
    extra[1] = remainder
    split[k - 1] = step * m
    if state:
        here = last_venue(t.best[0], n, step, remainder, leg, &alternative)
        if alternative < value:
            m = here
            split[k - 1] = step * m + remainder
            state = 0
    for i in range(k - 2, 0, -1):
        n -= m
        m = t.steps[state][(i - 1) * t.row + n]
        if m < 0:  # the remainder went here
            m = -1 - m
            split[i] = step * m + remainder
            state = 0
        else:
            split[i] = step * m
    split[0] = step * (n - m) + extra[state]


cdef void solve(double* memory, const double[:, ::1] quotes, const Penalties* pen, int64_t n, double step,
                double remainder, double* split) noexcept nogil:
    cdef Tables t
    cdef int i
    t.row = n + 1
    t.base = cheapest_slope(quotes, pen)
    for i in range(4):
        t.best[i] = memory + i * t.row
    t.other = memory + 4 * t.row
    t.keys = memory + 5 * t.row
    t.window = <int32_t*>(memory + 6 * t.row)
    t.alternative = t.window + t.row
    t.steps[0] = t.alternative + t.row
    t.steps[1] = t.steps[0] + (quotes.shape[0] - 2) * t.row
    forward(&t, quotes, pen, n, step, remainder)
    backtrack(&t, quotes, pen, n, step, remainder, split)


def allocate(const double[:, ::1] quotes, int64_t order_size, double lambda_over, double lambda_under,
             double theta_queue, int64_t step, double reference):
    """Optimum over complete splits in multiples of ``step`` (one part also carries the remainder), in O(k n)."""
    cdef Penalties pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    cdef Py_ssize_t k = quotes.shape[0]
    cdef int64_t n = order_size // step, remainder = order_size - n * step
    cdef int64_t rows = (k - 2 if k > 2 else 0) * (2 if remainder else 1)
    cdef double* memory = <double*>malloc(
        (6 * (n + 1) + k) * sizeof(double) + (2 + rows) * (n + 1) * sizeof(int32_t))
    if memory == NULL:
        raise MemoryError
    try:
        memory[0] = <double>order_size
        if k > 1:
            with nogil:
                solve(memory + k, quotes, &pen, n, <double>step, <double>remainder, memory)
        return answer(memory, quotes, &pen)
    finally:
        free(memory)


# --- enumeration: every split, by the formula itself -------------------------------------------------------------

cdef struct Search:
    Py_ssize_t venues
    int64_t row           # n + 1
    const double* filled  # (venues, row): executed shares of m steps
    const double* spent   # (venues, row): cash of m steps
    Penalties pen
    int64_t* path         # steps per venue, where the search stands
    int64_t* found        # steps per venue of the best split so far
    double cost           # its cost
    bint resting          # may a part exceed the displayed size?


cdef void tabulate(const Search* s, const double[:, ::1] quotes, Py_ssize_t i, double step, double extra,
                   double* filled, double* spent) noexcept nogil:
    """The formula's terms for venue i and every number of steps; infinite cash bars what may not be sent."""
    cdef double q, e
    cdef int64_t m
    for m in range(s.row):
        q = step * m + extra
        e = executed(q, quotes[i, SIZE])
        filled[i * s.row + m] = e
        spent[i * s.row + m] = cash(q, e, quotes[i, PRICE] - s.pen.reference, quotes[i, FEE], quotes[i, REBATE])
        if not s.resting and e < q:
            spent[i * s.row + m] = INFINITY


cdef inline void cost_block(const double* spent_a, const double* spent_b, const double* filled_a, const double* filled_b,
                     double spent, double filled, Penalties pen, int64_t count, double* totals) noexcept nogil:
    """Costs of ``count`` splits in a loop without branches, which compilers turn into vector instructions."""
    cdef int64_t m
    for m in range(count):
        totals[m] = penalised((spent + spent_a[m]) + spent_b[-m], (filled + filled_a[m]) + filled_b[-m], pen)


cdef inline bint last_two(Search* s, int64_t left, double filled, double spent) noexcept nogil:
    """Every way to share ``left`` steps between the last two venues."""
    cdef const double* filled_a = s.filled + (s.venues - 2) * s.row
    cdef const double* filled_b = filled_a + s.row + left
    cdef const double* spent_a = s.spent + (s.venues - 2) * s.row
    cdef const double* spent_b = spent_a + s.row + left
    cdef double[BLOCK] totals
    cdef double best = s.cost
    cdef int64_t start = 0, m, count, chosen = -1
    while start <= left:
        count = min(<int64_t>BLOCK, left + 1 - start)
        cost_block(spent_a + start, spent_b - start, filled_a + start, filled_b - start, spent, filled, s.pen,
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
    cdef double* memory = <double*>malloc((k + 2 * k * (n + 1)) * sizeof(double) + 2 * k * sizeof(int64_t))
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
