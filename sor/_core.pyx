# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled kernels of the static split model; `_core_py` is their twin, equal bit for bit.

A row of ``quotes`` is (price, size, fee, rebate): dollars per share, shares, dollars per share paid by the taker,
dollars per share received by the maker. Callers have checked every argument.
"""

from libc.math cimport INFINITY, fabs, floor
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

cdef enum:
    BLOCK = 64  # splits costed at a time by the enumeration
    RUNS = 3    # of steps that cost the same at a venue: whole ones up to the displayed size, one across it, the others
    ROOM = 512  # doubles of memory on the stack: enough for 16 venues
    MANY = 1000  # rows that it is worth while to let go of Python's lock for


cdef struct Quote:  # one row
    double price
    double size
    double fee
    double rebate


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

cdef inline Quote* rows_of(const double[:, ::1] quotes) noexcept nogil:
    return <Quote*>&quotes[0, 0]


cdef inline Py_ssize_t first_unusable(const Quote* row, Py_ssize_t k, double limit) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(k):
        if not (within(row.price, limit) and within(row.size, limit) and row.size >= 0.0
                and within(row.fee, limit) and within(row.rebate, limit)):
            return i
        row += 1
    return -1


def find_unusable(const double[:, ::1] quotes, double limit):
    """Index of the first row with a number beyond +-limit, NaN or a negative size; -1 where there is none."""
    cdef Py_ssize_t found, k = quotes.shape[0]
    if k < MANY:
        return first_unusable(rows_of(quotes), k, limit)
    with nogil:
        found = first_unusable(rows_of(quotes), k, limit)
    return found


cdef inline double plain(object number) except? -1.0:
    """A float or an int, neither more (a bool, a numpy scalar) nor less: the caller looks closer at the rest."""
    if type(number) is not float and type(number) is not int:
        raise TypeError
    return number


def pack(list venues, double[:, ::1] quotes):
    """Write each venue's (ask, ask_size, fee, rebate) into its row; TypeError where one is no plain number."""
    cdef Quote* row = rows_of(quotes)
    for venue in venues:
        row.price = plain(venue.ask)
        row.size = plain(venue.ask_size)
        row.fee = plain(venue.fee)
        row.rebate = plain(venue.rebate)
        row += 1


def pack_levels(list venues, list counts, double[:, ::1] quotes):
    """Write a row for every (venue, level), venues in order, ``counts`` levels each, as many as there are rows.

    TypeError where one is no plain number, ValueError where a venue has more or fewer levels.
    """
    cdef Quote* row = rows_of(quotes)
    cdef double fee, rebate
    cdef Py_ssize_t left
    for venue, count in zip(venues, counts):
        left = count
        fee = plain(venue.fee)
        rebate = plain(venue.rebate)
        for price, size in venue.levels:
            if left == 0:
                raise ValueError("more levels than counted")
            row.price = plain(price)
            row.size = plain(size)
            row.fee = fee
            row.rebate = rebate
            row += 1
            left -= 1
        if left:
            raise ValueError("fewer levels than counted")


# --- cost of a given split ---------------------------------------------------------------------------------------

cdef inline double split_cost(const double* split, const Quote* quotes, Py_ssize_t k,
                              const Penalties* pen) noexcept nogil:
    cdef double spent = 0.0, filled = 0.0, e
    cdef Py_ssize_t i
    for i in range(k):
        e = executed(split[i], quotes[i].size)
        filled += e
        spent += cash(split[i], e, quotes[i].price - pen.reference, quotes[i].fee, quotes[i].rebate)
    return penalised(spent, filled, pen[0])


def cost(const double[::1] split, const double[:, ::1] quotes, double order_size, double lambda_over,
         double lambda_under, double theta_queue, double reference):
    """Cost in dollars of any split, its sum above or below the order included."""
    cdef Penalties pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    return split_cost(&split[0], rows_of(quotes), quotes.shape[0], &pen)


def cost_many(const double[:, ::1] splits, const double[:, :, ::1] quotes, const int64_t[::1] order_sizes,
              double lambda_over, double lambda_under, double theta_queue, double[::1] costs):
    """`cost` of a split of every snapshot with true prices, into the last one."""
    cdef Penalties pen = Penalties(0.0, lambda_over, lambda_under, theta_queue, 0.0)
    cdef Py_ssize_t i
    with nogil:
        for i in range(quotes.shape[0]):
            pen.order_size = <double>order_sizes[i]
            costs[i] = split_cost(&splits[i, 0], <const Quote*>&quotes[i, 0, 0], quotes.shape[1], &pen)


cdef tuple answer(const double* split, const Quote* quotes, Py_ssize_t k, const Penalties* pen):
    """(split as a list of int, cost): what every solver returns."""
    cdef Py_ssize_t i
    cdef list shares = [0] * k
    for i in range(k):
        if split[i] != 0.0:
            shares[i] = <int64_t>split[i]
    return shares, split_cost(split, quotes, k, pen)


cdef inline double write_answer(const double* split, const Quote* quotes, Py_ssize_t k, const Penalties* pen,
                                int64_t* shares) noexcept nogil:
    """As `answer`, into a row of an array; returns the cost."""
    cdef Py_ssize_t i
    for i in range(k):
        shares[i] = <int64_t>split[i]
    return split_cost(split, quotes, k, pen)


# --- displayed shares only: the cheapest first -------------------------------------------------------------------

cdef inline bint cheaper(Py_ssize_t a, Py_ssize_t b, const Quote* quotes) noexcept nogil:
    """Order of filling: price + fee, then price, then row."""
    cdef double x = quotes[a].price + quotes[a].fee, y = quotes[b].price + quotes[b].fee
    if x != y:
        return x < y
    if quotes[a].price != quotes[b].price:
        return quotes[a].price < quotes[b].price
    return a < b


cdef inline void sift_down(Py_ssize_t* heap, Py_ssize_t root, Py_ssize_t count, const Quote* quotes) noexcept nogil:
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


cdef inline void fill_cheapest(double left, const Quote* quotes, Py_ssize_t count, Py_ssize_t* heap,
                               double* split) noexcept nogil:
    """A heap, as most orders are filled long before every row has been sorted."""
    cdef Py_ssize_t i
    cdef double displayed
    for i in range(count):
        heap[i] = i
        split[i] = 0.0
    for i in range(count // 2 - 1, -1, -1):
        sift_down(heap, i, count, quotes)
    while count > 0 and left > 0.0:
        displayed = floor(quotes[heap[0]].size)
        split[heap[0]] = displayed if displayed < left else left
        left -= split[heap[0]]
        count -= 1
        heap[0] = heap[count]
        sift_down(heap, 0, count, quotes)


cdef double* sweep_memory(Py_ssize_t k) except NULL:
    """A split, and the heap behind it."""
    cdef double* split = <double*>malloc(k * (sizeof(double) + sizeof(Py_ssize_t)))
    if split == NULL:
        raise MemoryError
    return split


cpdef tuple sweep(const double[:, ::1] quotes, int64_t order_size, double lambda_over, double lambda_under,
                  double theta_queue, double reference):
    """Whole displayed shares at the least price + fee, until the order is filled or nothing is left."""
    cdef Penalties pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    cdef Py_ssize_t k = quotes.shape[0]
    cdef double* split = sweep_memory(k)
    try:
        if k < MANY:
            fill_cheapest(pen.order_size, rows_of(quotes), k, <Py_ssize_t*>(split + k), split)
        else:
            with nogil:
                fill_cheapest(pen.order_size, rows_of(quotes), k, <Py_ssize_t*>(split + k), split)
        return answer(split, rows_of(quotes), k, &pen)
    finally:
        free(split)


def sweep_many(const double[:, :, ::1] quotes, const int64_t[::1] order_sizes, double lambda_over,
               double lambda_under, double theta_queue, const double[::1] references, int64_t[:, ::1] splits,
               double[::1] costs):
    """`sweep` of every snapshot, into the last two."""
    cdef Penalties pen = Penalties(0.0, lambda_over, lambda_under, theta_queue, 0.0)
    cdef Py_ssize_t i, k = quotes.shape[1]
    cdef double* split = sweep_memory(k)
    cdef const Quote* rows
    with nogil:
        for i in range(quotes.shape[0]):
            rows = <const Quote*>&quotes[i, 0, 0]
            pen.order_size = <double>order_sizes[i]
            pen.reference = references[i]
            fill_cheapest(pen.order_size, rows, k, <Py_ssize_t*>(split + k), split)
            costs[i] = write_answer(split, rows, k, &pen, &splits[i, 0])
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
    double sunk   # cost of these
    double taken  # steps so far


cdef struct Run:  # steps in a row that cost the same at a venue
    double rank   # the largest slope up to here at this venue: rounded slopes may fall, and its runs keep their order
    double slope  # cost of a step
    double steps
    Py_ssize_t venue


cdef struct Plan:
    Py_ssize_t venues
    Leg* legs
    Py_ssize_t* concave  # venues that are
    Py_ssize_t concaves
    Run* runs            # of the convex venues, in order of taking, where none carries the remainder
    Py_ssize_t run_count
    Run* carried         # room for the same where one does
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


cdef inline void give(Leg* leg, double remainder) noexcept nogil:
    leg.extra = remainder
    leg.sunk = leg_cost(remainder, leg)


cdef void set_legs(Plan* p, const Quote* quotes, const Penalties* pen) noexcept nogil:
    """With sum q = S a cost per share common to all (base) changes no choice: without it the sums stay accurate."""
    cdef double base = INFINITY
    cdef Py_ssize_t i
    for i in range(p.venues):
        p.legs[i].take = (quotes[i].price - pen.reference) + quotes[i].fee
        p.legs[i].rest = (pen.under + pen.queue) - quotes[i].rebate
        p.legs[i].size = quotes[i].size
        base = min(base, p.legs[i].take, p.legs[i].rest)
    for i in range(p.venues):
        p.legs[i].take -= base
        p.legs[i].rest -= base
        p.legs[i].extra = p.legs[i].sunk = 0.0


cdef inline void insert(Run* runs, Py_ssize_t count, const Run* run) noexcept nogil:
    """Into sorted ones, the cheapest first (ties: the first venue)."""
    cdef Py_ssize_t i = count
    while i > 0 and (run.rank < runs[i - 1].rank or (run.rank == runs[i - 1].rank and run.venue < runs[i - 1].venue)):
        runs[i] = runs[i - 1]
        i -= 1
    runs[i] = run[0]


cdef Py_ssize_t insert_runs(const Plan* p, Py_ssize_t venue, Run* runs, Py_ssize_t count) noexcept nogil:
    """The straight pieces of a convex g, until all steps are taken; returns the new count.

    Never more than RUNS: behind whole steps that leave some of the order, which are exact in a double, less than a
    step is displayed.
    """
    cdef const Leg* leg = p.legs + venue
    cdef double taken = 0.0, displayed
    cdef Run run
    run.rank = 0.0
    run.venue = venue
    while taken < p.steps:
        displayed = (leg.size - leg.extra) - p.step * taken
        if displayed >= p.step:
            run.slope = leg.take * p.step
            run.steps = floor(displayed / p.step)
        elif displayed > 0.0:
            run.slope = leg.take * displayed + leg.rest * (p.step - displayed)
            run.steps = 1.0
        else:
            run.slope = leg.rest * p.step
            run.steps = p.steps
        run.rank = max(run.rank, run.slope)
        insert(runs, count, &run)
        count += 1
        taken += run.steps
    return count


cdef void set_runs(Plan* p) noexcept nogil:
    """Sorts venues into concave ones and the runs of the others."""
    cdef Py_ssize_t i
    p.concaves = p.run_count = 0
    for i in range(p.venues):
        if convex(p.legs + i):
            p.run_count = insert_runs(p, i, p.runs, p.run_count)
        else:
            p.concave[p.concaves] = i
            p.concaves += 1


cdef bint preferred(const Plan* p) noexcept nogil:
    """At equal cost: from the last venue to the first, rather not the remainder, then the fewest steps."""
    cdef Py_ssize_t i
    for i in range(p.venues - 1, -1, -1):
        if (i == p.carrier) != (i == p.best_carrier):
            return i == p.best_carrier
        if p.legs[i].taken != p.best[i]:
            return p.legs[i].taken < p.best[i]
    return False


cdef void keep(Plan* p, double cost) noexcept nogil:
    cdef Py_ssize_t i
    p.cost = cost
    p.best_carrier = p.carrier
    for i in range(p.venues):
        p.best[i] = p.legs[i].taken


cdef inline void offer(Plan* p, double cost) noexcept nogil:
    """Keep the steps taken, where they are the best split so far."""
    if cost < p.cost or (cost == p.cost and preferred(p)):
        keep(p, cost)


cdef inline void offer_concave(Plan* p, double left, double spent) noexcept nogil:
    """Give all that is left to one concave venue: each in turn."""
    cdef double shares = p.step * left, cost
    cdef Py_ssize_t i
    cdef Leg* leg
    for i in range(p.concaves):
        leg = p.legs + p.concave[i]
        cost = spent + (leg_cost(shares + leg.extra, leg) - leg.sunk)
        if cost <= p.cost:
            leg.taken = left
            offer(p, cost)
            leg.taken = 0.0


cdef void share_out(Plan* p, const Run* runs, Py_ssize_t run_count) noexcept nogil:
    """All splits that can be best while this carrier holds the remainder; no slope is negative, so cost only rises."""
    cdef double left = p.steps, spent = p.legs[p.carrier].sunk, count
    cdef Py_ssize_t i
    for i in range(p.venues):
        p.legs[i].taken = 0.0
    for i in range(run_count):
        if left == 0.0 or spent > p.cost:
            break
        offer_concave(p, left, spent)
        count = min(runs[i].steps, left)
        p.legs[runs[i].venue].taken += count
        left -= count
        spent += runs[i].slope * count
    if left > 0.0:
        offer_concave(p, left, spent)
    else:
        offer(p, spent)


cdef void share_out_beside(Plan* p, double remainder) noexcept nogil:
    """As `share_out`, where this carrier holds one."""
    cdef Leg* leg = p.legs + p.carrier
    cdef Py_ssize_t i, count = 0
    give(leg, remainder)
    if convex(leg):
        for i in range(p.run_count):
            p.carried[count] = p.runs[i]
            count += p.runs[i].venue != p.carrier  # its own are written over: no branch to be guessed wrong
        count = insert_runs(p, p.carrier, p.carried, count)
        share_out(p, p.carried, count)
    else:
        share_out(p, p.runs, p.run_count)
    give(leg, 0.0)


cdef void solve(Plan* p, double remainder) noexcept nogil:
    """Leaves the optimal split, in shares, in ``best``."""
    cdef Py_ssize_t i, carrier
    p.cost = INFINITY
    p.best_carrier = 0
    set_runs(p)
    for carrier in range(p.venues if remainder > 0.0 else min(p.venues, 1)):
        p.carrier = carrier
        share_out_beside(p, remainder)
    for i in range(p.venues):
        p.best[i] = p.step * p.best[i] + (remainder if i == p.best_carrier else 0.0)


cdef void optimise(Plan* p, const Quote* quotes, int64_t order_size, int64_t step, const Penalties* pen) noexcept nogil:
    """Leaves the optimal split, in shares, in ``best``."""
    cdef int64_t n = order_size // step
    p.step = <double>step
    p.steps = <double>n
    set_legs(p, quotes, pen)
    solve(p, <double>(order_size - n * step))


cdef int reserve(Plan* p, Py_ssize_t venues, double* room) except -1:
    """Memory for that many, in ``room`` (of ROOM) if they are few; `release` frees it."""
    cdef Py_ssize_t size = venues * (sizeof(double) + sizeof(Py_ssize_t) + sizeof(Leg) + 2 * RUNS * sizeof(Run))
    p.venues = venues
    p.best = room if size <= ROOM * <Py_ssize_t>sizeof(double) else <double*>malloc(size)
    if p.best == NULL:
        raise MemoryError
    p.concave = <Py_ssize_t*>(p.best + venues)
    p.legs = <Leg*>(p.concave + venues)
    p.runs = <Run*>(p.legs + venues)
    p.carried = p.runs + RUNS * venues
    return 0


cdef inline void release(Plan* p, const double* room) noexcept nogil:
    if p.best != room:
        free(p.best)


def allocate(const double[:, ::1] quotes, int64_t order_size, double lambda_over, double lambda_under,
             double theta_queue, int64_t step, double reference):
    """Optimum over complete splits in multiples of ``step`` (one part also carries the remainder)."""
    cdef Penalties pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    cdef double[ROOM] room
    cdef Plan p
    reserve(&p, quotes.shape[0], room)
    try:
        with nogil:
            optimise(&p, rows_of(quotes), order_size, step, &pen)
        return answer(p.best, rows_of(quotes), p.venues, &pen)
    finally:
        release(&p, room)


def allocate_many(const double[:, :, ::1] quotes, const int64_t[::1] order_sizes, double lambda_over,
                  double lambda_under, double theta_queue, int64_t step, const double[::1] references,
                  int64_t[:, ::1] splits, double[::1] costs):
    """`allocate` of every snapshot, into the last two."""
    cdef Penalties pen = Penalties(0.0, lambda_over, lambda_under, theta_queue, 0.0)
    cdef double[ROOM] room
    cdef Plan p
    cdef const Quote* rows
    cdef Py_ssize_t i
    reserve(&p, quotes.shape[1], room)
    with nogil:
        for i in range(quotes.shape[0]):
            rows = <const Quote*>&quotes[i, 0, 0]
            pen.order_size = <double>order_sizes[i]
            pen.reference = references[i]
            optimise(&p, rows, order_sizes[i], step, &pen)
            costs[i] = write_answer(p.best, rows, p.venues, &pen, &splits[i, 0])
        release(&p, room)


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


cdef void tabulate(const Search* s, const Quote* quotes, Py_ssize_t i, double step, double extra,
                   double* filled, double* spent) noexcept nogil:
    """The formula's terms for venue i and every number of steps; infinite cash bars what may not be sent."""
    cdef double q, e
    cdef int64_t m, at
    for m in range(s.row):
        at = i * s.row + (s.row - 1 - m if i == s.venues - 1 else m)
        q = step * m + extra
        e = executed(q, quotes[i].size)
        filled[at] = e
        spent[at] = cash(q, e, quotes[i].price - s.pen.reference, quotes[i].fee, quotes[i].rebate)
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


cdef void search_all(Search* s, const Quote* quotes, double step, double remainder, double* filled,
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
                search_all(&s, rows_of(quotes), <double>step, <double>remainder, memory + k, memory + k + k * s.row,
                           memory)
        return answer(memory, rows_of(quotes), k, &s.pen)
    finally:
        free(memory)
