# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled kernels of the placement model; `_placement_py` is their twin, equal bit for bit.

A placement is an array of K + 1 parts: the market order M, then the limit orders L_1..L_K, in shares. ``gains`` has
what a filled share of each part brings (dollars): -(h + f) for the market order, h + r_k for a limit order. With
room_k = (xi_k - Q_k)^+ the cost of a placement X on one row xi of ``outflows`` is

    v = theta (sum X + (S-A)^+) - sum gain_i fill_i + lambda_u (S-A)^+ + lambda_o (A-S)^+,   A = sum fill_i,    (5)
    fill_0 = M,  fill_k = min(L_k, room_k)                                                                     (1)

and its mean over the rows is what is minimised. Callers have checked every argument.
"""

from libc.math cimport INFINITY, fabs, rint
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc, qsort

cdef enum:
    CROWD = 64  # events of a bucket that are sorted by insertion


# --- scalar formulas ---------------------------------------------------------------------------------------------

cdef inline double room_of(double outflow, double queue) noexcept nogil:
    """(xi - Q)^+: shares that reach a limit order behind the queue."""
    cdef double room = outflow - queue
    return room if room > 0.0 else 0.0


cdef inline double least(double a, double b) noexcept nogil:
    return a if a < b else b


cdef inline double most(double a, double b) noexcept nogil:
    return a if a > b else b


cdef inline double clamp(double value, double high) noexcept nogil:
    """The nearest number in [0, high]."""
    return least(most(value, 0.0), high)


# --- cost of a given placement -----------------------------------------------------------------------------------

def cost(const double[::1] placement, const double[::1] gains, const double[::1] queues,
         const double[:, ::1] outflows, double target, double theta, double under, double over, double tolerance,
         double[::1] per_sample):
    """Means over the samples: (gains, underfill, overfill, share of samples below and above the target).

    A gap of up to ``tolerance`` shares is none. Fills ``per_sample``, one cost a row, where it is not empty.
    """
    cdef Py_ssize_t n = outflows.shape[0], k = outflows.shape[1], row, i, below = 0, above = 0
    cdef double sent = 0.0, gained, filled, fill, missing, excess
    cdef double all_gained = 0.0, all_missing = 0.0, all_excess = 0.0
    cdef bint each = per_sample.shape[0] > 0
    for i in range(k + 1):
        sent += placement[i]
    for row in range(n):
        filled = placement[0]
        gained = gains[0] * placement[0]
        for i in range(k):
            fill = least(placement[i + 1], room_of(outflows[row, i], queues[i]))
            filled += fill
            gained += gains[i + 1] * fill
        missing = target - filled if target - filled > tolerance else 0.0
        excess = filled - target if filled - target > tolerance else 0.0
        below += missing > 0.0
        above += excess > 0.0
        all_gained += gained
        all_missing += missing
        all_excess += excess
        if each:
            per_sample[row] = theta * (sent + missing) - gained + under * missing + over * excess
    return all_gained / n, all_missing / n, all_excess / n, <double>below / n, <double>above / n


# --- stochastic approximation ------------------------------------------------------------------------------------

cdef void step(double* x, double* average, const double* gains, const double* queues, const double* outflows,
               Py_ssize_t k, double target, double theta, double short_of, double over, double gamma) noexcept nogil:
    """X -= gamma g(X, xi), each part kept within [0, S]; g_0 and g_k as in section 4 of the paper."""
    cdef Py_ssize_t i
    cdef double filled = x[0], marginal, room, slope_here
    for i in range(k):
        filled += least(x[i + 1], room_of(outflows[i], queues[i]))
    marginal = -short_of if filled < target else (over if filled > target else 0.0)
    for i in range(k):
        room = outflows[i] - queues[i]
        slope_here = marginal - gains[i + 1]
        slope_here = theta + (slope_here if room > x[i + 1] else 0.0)
        x[i + 1] = clamp(x[i + 1] - gamma * slope_here, target)
        average[i + 1] += x[i + 1]
    x[0] = clamp(x[0] - gamma * (theta + (marginal - gains[0])), target)
    average[0] += x[0]


def stochastic(const double[::1] start, const double[::1] gains, const double[::1] queues,
               const double[:, ::1] outflows, double target, double theta, double under, double over, double gamma):
    """The average of the iterates, one step for each row, as a list."""
    cdef Py_ssize_t n = outflows.shape[0], k = outflows.shape[1], row, i
    cdef double* x = <double*>malloc(2 * (k + 1) * sizeof(double))
    if x == NULL:
        raise MemoryError
    cdef double* average = x + k + 1
    try:
        for i in range(k + 1):
            x[i] = start[i]
            average[i] = 0.0
        with nogil:
            for row in range(n):
                step(x, average, &gains[0], &queues[0], &outflows[row, 0], k, target, theta, under + theta, over,
                     gamma)
        return [average[i] / n for i in range(k + 1)]
    finally:
        free(x)


# --- descent by exact line searches ------------------------------------------------------------------------------
#
# Sizes are put on a grid of a power of two, the target / 2^39 or finer: sums are then exact, and so is A = S. Part 0,
# the market order, has room for the whole target in every sample. Part K + 1 stands for shares that are not sent: it
# has no room, no gain and no cost, and an exchange with it is a move of one part alone.

cdef struct Event:
    double at
    signed char rising  # change of the number of samples where part i fills further
    signed char falling  # ... where part j fills less
    signed char under  # ... of the samples below the target where A rises, less those where it falls
    signed char over  # ... the same above the target


cdef struct Counts:
    int64_t rising
    int64_t falling
    int64_t under
    int64_t over


cdef struct Search:  # the best point of a line, and what it saves (dollars, summed over the samples)
    double at
    double saved


cdef struct Descent:
    Py_ssize_t n
    Py_ssize_t parts  # K + 1
    Py_ssize_t words  # of a set of samples, one bit each
    double target
    double theta
    double short_of  # lambda_u + theta
    double over  # lambda_o
    double same  # shares: a difference that is none
    double reach  # shares that a line is searched for at first
    double growth  # of promises with each move: what was learnt gets old
    double scale  # points of the grid a share, a power of two
    double tolerance  # dollars, summed over the samples: a move has to save more
    double* gains  # (K + 2)
    double* room  # (K + 2, n)
    double* x  # (K + 2)
    double* filled  # (n): A
    double* best  # (K + 1): the cheapest end so far
    double* ups  # (K + 1): the slope as part i grows, summed over the samples
    double* downs  # (K + 1): the slope as it shrinks
    double* exchanges  # (K + 1, K + 1): the slope as one part grows by as much as the other shrinks
    double* promise  # (K + 2, K + 2): what a line saved by the square of its slope; infinite where not searched yet
    uint64_t* beyond  # (K + 1, words): samples with room > x
    uint64_t* reached  # (K + 1, words): samples with room >= x
    uint64_t* short_set  # (words): A < S
    uint64_t* level_set  # (words): A = S
    Event* events  # (4 n + 1)
    Event* ordered  # (4 n + 2): with the end of the line
    Py_ssize_t* buckets  # (4 n + 3)


cdef inline int64_t popcount(uint64_t v) noexcept nogil:
    v = v - ((v >> 1) & <uint64_t>0x5555555555555555)
    v = (v & <uint64_t>0x3333333333333333) + ((v >> 2) & <uint64_t>0x3333333333333333)
    v = (v + (v >> 4)) & <uint64_t>0x0F0F0F0F0F0F0F0F
    return <int64_t>((v * <uint64_t>0x0101010101010101) >> 56)


# --- a line: x_i = s, x_j = total - s

cdef inline Py_ssize_t put(Event* events, Py_ssize_t count, Counts* first, double low, double high, double at,
                           int rising, int falling, int under, int over) noexcept nogil:
    """One more change of slope; up to low it is there from the start, from high on it does not matter."""
    if at >= high:
        return count
    if at <= low:
        first.rising += rising
        first.falling += falling
        first.under += under
        first.over += over
        return count
    events[count] = Event(at, rising, falling, under, over)
    return count + 1


cdef Py_ssize_t list_events(Descent* d, Py_ssize_t i, Py_ssize_t j, double total, double low, double high,
                            Counts* first) noexcept nogil:
    """Where slopes change; in each sample A = rest + min(s, room_i) + min(total - s, room_j) rises, is level, falls."""
    cdef Py_ssize_t row, count = 0
    cdef double room_i, turn, peak, excess
    cdef const double* rooms_i = d.room + i * d.n
    cdef const double* rooms_j = d.room + j * d.n
    for row in range(d.n):
        room_i = rooms_i[row]
        turn = total - rooms_j[row]
        peak = (d.filled[row] - least(d.x[i], room_i) - least(d.x[j], rooms_j[row])
                + least(room_i + rooms_j[row], total))
        excess = peak - d.target
        if excess <= 0.0:
            count = put(d.events, count, first, low, high, room_i, -1, 0, -1, 0)
            count = put(d.events, count, first, low, high, turn, 0, 1, -1, 0)
        else:
            count = put(d.events, count, first, low, high, room_i, -1, 0, 0, -1)
            count = put(d.events, count, first, low, high, turn, 0, 1, 0, -1)
            count = put(d.events, count, first, low, high, least(room_i, turn) - excess, 0, 0, -1, 1)
            count = put(d.events, count, first, low, high, most(room_i, turn) + excess, 0, 0, -1, 1)
    return count


cdef int by_position(const void* a, const void* b) noexcept nogil:
    cdef double x = (<const Event*>a).at, y = (<const Event*>b).at
    return (x > y) - (x < y)


cdef void insertion_sort(Event* events, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef Event event
    for i in range(1, count):
        event = events[i]
        j = i
        while j > 0 and events[j - 1].at > event.at:
            events[j] = events[j - 1]
            j -= 1
        events[j] = event


cdef void sort_events(Descent* d, Py_ssize_t count, double low, double high) noexcept nogil:
    """By position, into ``ordered``, through buckets of equal width. The order of equal ones plays no part."""
    cdef Py_ssize_t e, b, begin, size
    cdef double scale = count / (high - low)
    for b in range(count + 2):
        d.buckets[b] = 0
    for e in range(count):
        d.buckets[<Py_ssize_t>((d.events[e].at - low) * scale)] += 1
    for b in range(1, count + 2):
        d.buckets[b] += d.buckets[b - 1]
    for e in range(count):
        b = <Py_ssize_t>((d.events[e].at - low) * scale)
        d.buckets[b] -= 1
        d.ordered[d.buckets[b]] = d.events[e]
    for b in range(count + 1):
        begin = d.buckets[b]
        size = d.buckets[b + 1] - begin
        if size > CROWD:
            qsort(d.ordered + begin, size, sizeof(Event), by_position)
        elif size > 1:
            insertion_sort(d.ordered + begin, size)


cdef inline double slope(Descent* d, Py_ssize_t i, Py_ssize_t j, Counts* c, double impact) noexcept nogil:
    """Of the cost summed over the samples; from whole numbers, so that no rounding adds up along the line."""
    return (impact - d.gains[i] * <double>c.rising + d.gains[j] * <double>c.falling
            - d.short_of * <double>c.under + d.over * <double>c.over)


cdef Search search(Descent* d, Py_ssize_t i, Py_ssize_t j, double reach) noexcept nogil:
    """The cheapest of the ways to divide x_i + x_j between the two that are within ``reach`` shares from here."""
    cdef double total = d.x[i] + d.x[j], impact = 0.0, value = 0.0, here = 0.0, least_value = 0.0, at
    cdef double low = most(total - d.target, most(d.x[i] - reach, 0.0))
    cdef double high = least(least(total, d.target), d.x[i] + reach)
    cdef Counts counts = Counts(d.n, 0, d.n, 0)
    cdef Search best = Search(low, 0.0)
    cdef Py_ssize_t e, count
    if high <= low:
        return best
    if j == d.parts:
        impact = d.theta * d.n
    count = list_events(d, i, j, total, low, high, &counts)
    count = put(d.events, count, &counts, low, high, d.x[i], 0, 0, 0, 0)
    sort_events(d, count, low, high)
    d.ordered[count].at = high
    at = low
    for e in range(count + 1):
        value += slope(d, i, j, &counts, impact) * (d.ordered[e].at - at)
        at = d.ordered[e].at
        if at == d.x[i]:
            here = value
        if value < least_value:
            least_value = value
            best.at = at
        if e < count:
            counts.rising += d.ordered[e].rising
            counts.falling += d.ordered[e].falling
            counts.under += d.ordered[e].under
            counts.over += d.ordered[e].over
    best.saved = here - least_value
    return best


# --- sets of samples, and slopes from their sizes

cdef void mark_part(Descent* d, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t row
    cdef uint64_t* beyond = d.beyond + i * d.words
    cdef uint64_t* reached = d.reached + i * d.words
    cdef const double* room = d.room + i * d.n
    cdef double x = d.x[i]
    for row in range(d.words):
        beyond[row] = 0
        reached[row] = 0
    for row in range(d.n):
        beyond[row >> 6] |= (<uint64_t>(room[row] > x)) << (row & 63)
        reached[row >> 6] |= (<uint64_t>(room[row] >= x)) << (row & 63)


cdef void mark_filled(Descent* d) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(d.words):
        d.short_set[row] = 0
        d.level_set[row] = 0
    for row in range(d.n):
        d.short_set[row >> 6] |= (<uint64_t>(d.filled[row] < d.target)) << (row & 63)
        d.level_set[row >> 6] |= (<uint64_t>(d.filled[row] == d.target)) << (row & 63)


cdef void find_slopes(Descent* d) noexcept nogil:
    """g of section 4, summed over the samples, to the right and to the left of every part."""
    cdef Py_ssize_t i, word
    cdef int64_t beyond, beyond_short, reached, reached_short
    cdef uint64_t short_or_level
    for i in range(d.parts):
        beyond = beyond_short = reached = reached_short = 0
        for word in range(d.words):
            short_or_level = d.short_set[word] | d.level_set[word]
            beyond += popcount(d.beyond[i * d.words + word])
            beyond_short += popcount(d.beyond[i * d.words + word] & d.short_set[word])
            reached += popcount(d.reached[i * d.words + word])
            reached_short += popcount(d.reached[i * d.words + word] & short_or_level)
        d.ups[i] = (d.theta * d.n - d.gains[i] * <double>beyond - d.short_of * <double>beyond_short
                    + d.over * <double>(beyond - beyond_short))
        d.downs[i] = (d.gains[i] * <double>reached + d.short_of * <double>reached_short
                      - d.over * <double>(reached - reached_short) - d.theta * d.n)


cdef void find_exchange_slopes(Descent* d) noexcept nogil:
    """Slopes of two parts add up, but where A = S and both fill: there A stays, and neither penalty arises."""
    cdef Py_ssize_t up, down, word
    cdef int64_t both
    for up in range(d.parts):
        for down in range(d.parts):
            both = 0
            for word in range(d.words):
                both += popcount(d.level_set[word] & d.beyond[up * d.words + word] & d.reached[down * d.words + word])
            d.exchanges[up * d.parts + down] = d.ups[up] + d.downs[down] - (d.short_of + d.over) * <double>both


# --- moves

cdef void move(Descent* d, Py_ssize_t i, Py_ssize_t j, double at) noexcept nogil:
    """x_i to ``at``, x_j by as much the other way."""
    cdef Py_ssize_t row
    cdef double total = d.x[i] + d.x[j], other = total - at
    cdef const double* rooms_i = d.room + i * d.n
    cdef const double* rooms_j = d.room + j * d.n
    for row in range(d.n):
        d.filled[row] += (least(at, rooms_i[row]) - least(d.x[i], rooms_i[row])
                          + least(other, rooms_j[row]) - least(d.x[j], rooms_j[row]))
    d.x[i] = at
    d.x[j] = other
    mark_part(d, i)
    if j < d.parts:
        mark_part(d, j)
    mark_filled(d)
    for row in range((d.parts + 1) * (d.parts + 1)):
        d.promise[row] *= d.growth


cdef inline bint promises(Descent* d, Py_ssize_t up, Py_ssize_t down, double slope_here) noexcept nogil:
    """Whether a line may save enough: what it does goes with the square of the slope, as on a parabola."""
    return slope_here * slope_here * d.promise[up * (d.parts + 1) + down] > d.tolerance


cdef double steepest(Descent* d, Py_ssize_t* i, Py_ssize_t* j) noexcept nogil:
    """The steepest way down that promises enough, as (i up, j down), and its slope; 0 where there is none."""
    cdef Py_ssize_t up, down, none = d.parts
    cdef double slope_here, best = 0.0
    for up in range(d.parts):
        slope_here = least(d.ups[up] if d.x[up] < d.target else 0.0, d.downs[up] if d.x[up] > 0.0 else 0.0)
        if slope_here < best and promises(d, up, none, slope_here):
            best = slope_here
            i[0] = up
            j[0] = none
    for up in range(d.parts):
        if d.x[up] >= d.target:
            continue
        for down in range(d.parts):
            if down == up or d.x[down] <= 0.0:
                continue
            slope_here = d.exchanges[up * d.parts + down]
            if slope_here < best and promises(d, up, down, slope_here):
                best = slope_here
                i[0] = up
                j[0] = down
    return best


cdef double try_line(Descent* d, Py_ssize_t i, Py_ssize_t j, double reach) noexcept nogil:
    """Search a line, all of it where ``reach`` is short, and go to its best point if that pays; what it saves."""
    cdef Search found
    if j == d.parts:
        d.x[j] = d.target - d.x[i]
    found = search(d, i, j, reach)
    if fabs(found.at - d.x[i]) >= reach:
        found = search(d, i, j, d.target)
    if found.saved > d.tolerance:
        move(d, i, j, found.at)
    return found.saved


cdef int64_t descend(Descent* d) noexcept nogil:
    """Down the steepest line, until K + 1 in a row have not been worth a move; how many moves it took."""
    cdef Py_ssize_t i = 0, j = 0, fruitless = 0
    cdef int64_t moves = 0
    cdef double slope_here, saved
    for i in range((d.parts + 1) * (d.parts + 1)):
        d.promise[i] = INFINITY
    find_slopes(d)
    find_exchange_slopes(d)
    while fruitless < d.parts:
        slope_here = steepest(d, &i, &j)
        if slope_here == 0.0:
            break
        saved = try_line(d, i, j, d.reach)
        d.promise[i * (d.parts + 1) + j] = saved / (slope_here * slope_here)
        fruitless += 1
        if saved > d.tolerance:
            fruitless = 0
            moves += 1
            find_slopes(d)
            find_exchange_slopes(d)
    return moves


cdef int64_t leap(Descent* d) noexcept nogil:
    """Every line, also those that begin uphill: the cost is not convex; how many moves it took."""
    cdef Py_ssize_t i, j
    cdef int64_t moves = 0
    for i in range(d.parts):
        for j in range(i + 1, d.parts + 1):
            moves += try_line(d, i, j, d.target) > d.tolerance
    return moves


cdef void go_to(Descent* d, const double* start) noexcept nogil:
    """A start, put on the grid; what rounding took from the last part returns to it where the parts made up S."""
    cdef Py_ssize_t i, row, last = 0
    cdef double exact = 0.0, rest = d.target
    for i in range(d.parts):
        d.x[i] = clamp(rint(start[i] * d.scale) / d.scale, d.target)
        exact += start[i]
        rest -= d.x[i]
        if d.x[i] > 0.0:
            last = i
    if fabs(exact - d.target) <= d.same:
        d.x[last] = clamp(d.x[last] + rest, d.target)
    for i in range(d.parts):
        mark_part(d, i)
    for row in range(d.n):
        d.filled[row] = 0.0
        for i in range(d.parts):
            d.filled[row] += least(d.x[i], d.room[i * d.n + row])
    mark_filled(d)


cdef double cost_here(Descent* d) noexcept nogil:
    """Summed over the samples."""
    cdef double value = 0.0, gap
    cdef Py_ssize_t i, row
    for i in range(d.parts):
        for row in range(d.n):
            value += d.theta * d.x[i] - d.gains[i] * least(d.x[i], d.room[i * d.n + row])
    for row in range(d.n):
        gap = d.target - d.filled[row]
        value += d.short_of * gap if gap > 0.0 else -d.over * gap
    return value


cdef void make_room(Descent* d, const double[::1] queues, const double[:, ::1] outflows) noexcept nogil:
    cdef Py_ssize_t row, i
    for row in range(d.n):
        d.room[row] = d.target
        d.room[d.parts * d.n + row] = 0.0
        for i in range(1, d.parts):
            d.room[i * d.n + row] = least(rint(room_of(outflows[row, i - 1], queues[i - 1]) * d.scale) / d.scale,
                                          d.target)


cdef bint reserve(Descent* d) noexcept nogil:
    """One block of memory for everything, freed through ``room``; False where there is none."""
    cdef Py_ssize_t n = d.n, parts = d.parts, sets = 2 * (parts + 1) * d.words
    cdef Py_ssize_t doubles = (parts + 2) * n + 2 * (parts + 1) * (parts + 1) + 5 * (parts + 2)
    cdef char* block = <char*>malloc((doubles + sets) * 8 + (8 * n + 3) * sizeof(Event)
                                     + (4 * n + 3) * sizeof(Py_ssize_t))
    if block == NULL:
        return False
    d.room = <double*>block
    d.filled = d.room + (parts + 1) * n
    d.x = d.filled + n
    d.ups = d.x + parts + 2
    d.downs = d.ups + parts + 2
    d.gains = d.downs + parts + 2
    d.best = d.gains + parts + 2
    d.promise = d.best + parts + 2
    d.exchanges = d.promise + (parts + 1) * (parts + 1)
    d.beyond = <uint64_t*>(d.room + doubles)
    d.reached = d.beyond + parts * d.words
    d.short_set = d.reached + parts * d.words
    d.level_set = d.short_set + d.words
    d.events = <Event*>(d.beyond + sets)
    d.ordered = d.events + 4 * n + 1
    d.buckets = <Py_ssize_t*>(d.ordered + 4 * n + 2)
    return True


cdef int64_t best_of(Descent* d, const double[:, ::1] starts, bint thorough) noexcept nogil:
    """Descend from every start, and leap from the cheapest end; how many moves it took."""
    cdef Py_ssize_t s, i
    cdef int64_t moves = 0, leaps = 1
    cdef double value, least_value = INFINITY
    for s in range(starts.shape[0]):
        go_to(d, &starts[s, 0])
        moves += descend(d)
        value = cost_here(d)
        if value < least_value:
            least_value = value
            for i in range(d.parts):
                d.best[i] = d.x[i]
    go_to(d, d.best)
    while thorough and leaps > 0:
        leaps = leap(d)
        if leaps > 0:
            moves += leaps + descend(d)
    return moves


def refine(const double[:, ::1] starts, const double[::1] gains, const double[::1] queues,
           const double[:, ::1] outflows, double target, double theta, double under, double over, double scale,
           double same, double tolerance, double reach, double growth, bint thorough):
    """(placement as a list, number of moves): the cheapest end of the descents from each row of ``starts``.

    Sizes are multiples of 1 / ``scale`` shares, a power of two; a start whose sum is within ``same`` shares of the
    target makes up the target. A move saves more than ``tolerance`` dollars of the mean; lines are searched for
    ``reach`` shares first. With ``thorough`` every line through the answer is searched from end to end, not only those
    that lead down at once.
    """
    cdef Descent d
    cdef Py_ssize_t i
    cdef int64_t moves
    d.n = outflows.shape[0]
    d.parts = outflows.shape[1] + 1
    d.words = (d.n + 63) >> 6
    d.scale = scale
    d.target = rint(target * scale) / scale
    d.theta = theta
    d.short_of = under + theta
    d.over = over
    d.same = same
    d.reach = rint(reach * scale) / scale
    d.growth = growth
    d.tolerance = tolerance * d.n
    if not reserve(&d):
        raise MemoryError
    try:
        for i in range(d.parts):
            d.gains[i] = gains[i]
        d.gains[d.parts] = 0.0
        with nogil:
            make_room(&d, queues, outflows)
            moves = best_of(&d, starts, thorough)
        return [d.x[i] for i in range(d.parts)], moves
    finally:
        free(d.room)
