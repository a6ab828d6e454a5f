# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled kernels of the static split model; `_core_py` is their twin, equal bit for bit.

A row of ``quotes`` is (price, size, fee, rebate): dollars per share, shares, dollars per share paid by the taker,
dollars per share received by the maker. Callers have checked every argument.
"""

from libc.math cimport INFINITY, ceil, fabs, floor
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc, qsort

from msgspec.structs import astuple as _astuple

cdef enum:
    BLOCK = 64  # splits costed at a time by the enumeration
    RUNS = 3    # of steps that cost the same at a venue: whole ones up to the displayed size, one across it, the others
    ROOM = 512  # doubles of memory on the stack: enough for 16 venues
    FIELDS = 4  # of a venue, before its rules
    MANY = 1000  # rows that it is worth while to let go of Python's lock for


cdef struct Quote:  # one row
    double price
    double size
    double fee
    double rebate


cdef struct Rule:  # one row of rules
    double lot
    double min_quantity
    double min_notional
    double min_execution
    double max_quantity
    double ticket
    double fee_bps


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


cdef inline bint whole(double number, double most) noexcept nogil:
    """A whole number from 0 to most."""
    return 0.0 <= number and number <= most and floor(number) == number


def find_unruly(const double[:, ::1] rules, double most, double limit, double parts):
    """Index of the first row with a number that no rule has; -1 where there is none."""
    cdef const Rule* row = <const Rule*>&rules[0, 0]
    cdef Py_ssize_t i
    for i in range(rules.shape[0]):
        if not (row.lot >= 1.0 and whole(row.lot, most) and whole(row.min_quantity, most)
                and 0.0 <= row.min_notional and row.min_notional <= limit and whole(row.min_execution, most)
                and (row.max_quantity == INFINITY or whole(row.max_quantity, most))
                and 0.0 <= row.ticket and row.ticket <= limit and within(row.fee_bps, parts)):
            return i
        row += 1
    return -1


cdef inline double plain(object number) except? -1.0:
    """A float or an int, neither more (a bool, a numpy scalar) nor less: the caller looks closer at the rest."""
    if type(number) is not float and type(number) is not int:
        raise TypeError
    return number


cdef inline bint same(tuple fields, tuple sample) noexcept:
    """Whether the rules behind them are the same objects: it takes no time; what is equal is looked at closer."""
    cdef Py_ssize_t i
    for i in range(FIELDS, len(sample)):
        if fields[i] is not sample[i]:
            return False
    return True


def pack(list venues, double[:, ::1] quotes, object sample):
    """Write each venue's (ask, ask_size, fee, rebate) into its row; TypeError where one is no plain number.

    Whether they may have rules: all that are of the sample's kind and hold its very rules have none.
    """
    cdef Quote* row = rows_of(quotes)
    cdef type kind = type(sample)
    cdef tuple neutral = _astuple(sample), fields
    cdef bint ruled = False
    for venue in venues:
        if type(venue) is kind:
            fields = _astuple(venue)
            ruled = ruled or not same(fields, neutral)
        else:
            fields = (venue.ask, venue.ask_size, venue.fee, venue.rebate)
            ruled = True
        row.price = plain(fields[0])
        row.size = plain(fields[1])
        row.fee = plain(fields[2])
        row.rebate = plain(fields[3])
        row += 1
    return ruled


def pack_levels(list venues, list counts, double[:, ::1] quotes, object sample):
    """Write a row for every (venue, level), venues in order, ``counts`` levels each, as many as there are rows.

    TypeError where one is no plain number, ValueError where a venue has more or fewer levels. Whether they may have
    rules, as `pack`.
    """
    cdef Quote* row = rows_of(quotes)
    cdef type kind = type(sample)
    cdef tuple neutral = _astuple(sample), fields
    cdef bint ruled = False
    cdef double fee, rebate
    cdef Py_ssize_t left
    for venue, count in zip(venues, counts):
        left = count
        if type(venue) is kind:
            fields = _astuple(venue)
            ruled = ruled or not same(fields, neutral)
        else:
            fields = (None, venue.levels, venue.fee, venue.rebate)
            ruled = True
        fee = plain(fields[2])
        rebate = plain(fields[3])
        for price, size in fields[1]:
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
    return ruled


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


# --- displayed shares under the rules of venues ------------------------------------------------------------------
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

cdef struct Level:       # of a venue, the cheapest first
    double sum           # price + fee
    double price
    double cost          # price + fee - reference - base, a share
    int64_t displayed    # whole shares
    Py_ssize_t row


cdef struct Piece:       # lots in a row that cost the same at a venue
    Py_ssize_t venue
    int64_t first        # lots before them
    int64_t lots
    int64_t units
    double spent         # cost of those before, less ``base`` a share
    double cost          # of one
    double slope         # relaxed cost of a unit
    double rank          # the largest up to here at this venue: rounded ones may fall


cdef struct Ruled:       # a venue under its rules
    Level* levels
    Level* last          # behind them
    Piece* pieces
    Py_ssize_t count     # of pieces
    int64_t lot
    int64_t unit         # units of a lot
    int64_t most         # lots of the largest order
    int64_t least        # lots of the smallest one
    int64_t sent         # units
    double ticket
    bint stepped
    int32_t* choice      # lots here, by the total over this and the stepped venues before it


cdef struct Desk:        # the venues, and the order of those that are not stepped
    Py_ssize_t venues
    Ruled* ruled
    Level* levels
    Piece* pieces
    Piece* line          # pieces of venues that are not stepped, in order of taking
    Py_ssize_t waiting   # of these
    Ruled** stepped
    Py_ssize_t steps     # of these
    int64_t units        # that may be sent in all
    int64_t grid         # shares of a unit
    bint fill_first
    double* table        # least cost of each total over the stepped venues
    int64_t reach        # its last total
    int64_t cells        # filled in tables
    double* split        # shares by row


cdef int order_of_levels(const void* a, const void* b) noexcept nogil:
    """As `cheaper`."""
    cdef const Level* x = <const Level*>a
    cdef const Level* y = <const Level*>b
    if x.sum != y.sum:
        return -1 if x.sum < y.sum else 1
    if x.price != y.price:
        return -1 if x.price < y.price else 1
    return -1 if x.row < y.row else 1


cdef int order_of_pieces(const void* a, const void* b) noexcept nogil:
    """The cheapest first (ties: the first venue)."""
    cdef const Piece* x = <const Piece*>a
    cdef const Piece* y = <const Piece*>b
    if x.rank != y.rank:
        return -1 if x.rank < y.rank else 1
    if x.venue != y.venue:
        return -1 if x.venue < y.venue else 1
    return -1 if x.first < y.first else 1


cdef inline bint usable(const Ruled* venue) noexcept nogil:
    return venue.least <= venue.most


cdef inline int64_t shares_worth(const Ruled* venue, double notional) noexcept nogil:
    """The fewest that are worth so many dollars; more than are displayed where all are worth less."""
    cdef const Level* level = venue.levels
    cdef int64_t shares = 0
    cdef double worth = 0.0, price
    while level != venue.last:
        if worth >= notional:
            return shares
        price = fabs(level.price)
        if worth + price * level.displayed >= notional:
            return shares + <int64_t>ceil((notional - worth) / price)
        worth += price * level.displayed
        shares += level.displayed
        level += 1
    return shares if worth >= notional else shares + 1


cdef inline void set_ruled(Ruled* venue, const Rule* rule, double nearly, int64_t order_size) noexcept nogil:
    cdef int64_t most = 0, least
    cdef const Level* level = venue.levels
    while level != venue.last:
        most += level.displayed
        level += 1
    most = <int64_t>rule.max_quantity if rule.max_quantity < most else most
    venue.lot = <int64_t>rule.lot
    venue.ticket = rule.ticket
    venue.unit = 1
    venue.most = min(most, order_size) // venue.lot
    least = max(<int64_t>1, <int64_t>rule.min_quantity, <int64_t>rule.min_execution,
                shares_worth(venue, rule.min_notional * nearly))
    venue.least = (least + venue.lot - 1) // venue.lot
    venue.sent = venue.count = 0
    venue.stepped = False
    venue.choice = NULL


cdef inline void cut(Ruled* venue, Py_ssize_t number, Piece* room) noexcept nogil:
    """Make the pieces: whole lots of a level, and each lot that straddles levels."""
    cdef const Level* level = venue.levels
    cdef int64_t left = level.displayed, first = 0, lots, missing
    cdef double spent = 0.0, cost
    venue.pieces = room
    while first < venue.most:
        if left == 0:
            level += 1
            left = level.displayed
            continue
        if left >= venue.lot:
            lots = min(left // venue.lot, venue.most - first)
            cost = level.cost * venue.lot
            left -= lots * venue.lot
        else:
            lots = 1
            cost = level.cost * left
            missing = venue.lot - left
            while missing > 0:
                level += 1
                left = min(level.displayed, missing)
                cost += level.cost * left
                missing -= left
                left = level.displayed - left
        room.venue = number
        room.first = first
        room.lots = lots
        room.spent = spent
        room.cost = cost
        spent += cost * lots
        first += lots
        room += 1
        venue.count += 1


cdef inline void relax(Ruled* venue) noexcept nogil:
    """The ticket spread over the largest order, and parts of lots."""
    cdef double spread = venue.ticket / (venue.most * venue.unit), rank = -INFINITY
    cdef Py_ssize_t i
    cdef Piece* piece
    for i in range(venue.count):
        piece = venue.pieces + i
        piece.units = piece.lots * venue.unit
        piece.slope = piece.cost / venue.unit + spread
        rank = max(rank, piece.slope)
        piece.rank = rank


cdef inline bint broken(const Ruled* venue) noexcept nogil:
    """Whether what is sent breaks a rule, or costs more than it does relaxed."""
    if venue.stepped or venue.sent == 0:
        return False
    if venue.sent % venue.unit or venue.sent < venue.least * venue.unit:
        return True
    return venue.ticket > 0.0 and venue.sent < venue.most * venue.unit


cdef void slide(const double* table, int64_t reach, double* grown, int64_t grown_reach, int32_t* choice, int64_t unit,
                int64_t low, int64_t high, double begin, const Piece* piece, double* values,
                int32_t* places) noexcept nogil:
    """Offer ``low`` to ``high`` lots to each total: behind the cheapest total before them, in a sliding window."""
    cdef int64_t offset, x, y, before, head, tail
    cdef double value, total, cost = piece.cost
    for offset in range(min(unit, reach + 1)):
        head = tail = 0
        for x in range(low, (grown_reach - offset) // unit + 1):
            y = x - low
            before = offset + y * unit
            if before <= reach and table[before] < INFINITY:
                value = table[before] - cost * y
                while tail > head and values[tail - 1] > value:
                    tail -= 1
                values[tail] = value
                places[tail] = <int32_t>y
                tail += 1
            while head < tail and places[head] < x - high:
                head += 1
            if head < tail:
                y = places[head]
                total = table[offset + y * unit] + (begin + cost * ((x - y) - piece.first))
                if total < grown[offset + x * unit]:
                    grown[offset + x * unit] = total
                    choice[offset + x * unit] = <int32_t>(x - y)


cdef void line_up(Desk* d) noexcept nogil:
    """Where penalties weigh, costs are less what a missing share costs: pieces above 0 do not pay."""
    cdef Py_ssize_t i, j
    d.waiting = 0
    for i in range(d.venues):
        for j in range(d.ruled[i].count):
            if d.fill_first or d.ruled[i].pieces[j].rank <= 0.0:
                d.line[d.waiting] = d.ruled[i].pieces[j]
                d.waiting += 1
    qsort(d.line, d.waiting, sizeof(Piece), order_of_pieces)


cdef void send(Desk* d, int64_t total, int64_t rest) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t part
    cdef Ruled* venue
    for i in range(d.venues):
        d.ruled[i].sent = 0
    for i in range(d.waiting):
        part = min(rest, d.line[i].units)
        d.ruled[d.line[i].venue].sent += part
        rest -= part
    for i in range(d.steps - 1, -1, -1):
        venue = d.stepped[i]
        venue.sent = venue.choice[total] * venue.unit
        total -= venue.sent


cdef void try_totals(Desk* d) noexcept nogil:
    """The best total over the stepped venues, with what the others make of the rest; sent to each venue."""
    cdef int64_t capacity = 0, best_total = 0, most = -1, start = 0, total, rest, more
    cdef double best = INFINITY, spent = 0.0, cost
    cdef Py_ssize_t i, at = 0
    for i in range(d.waiting):
        capacity += d.line[i].units
    for total in range(d.reach, -1, -1):
        if d.table[total] == INFINITY:
            continue
        rest = min(d.units - total, capacity)
        while at < d.waiting and start + d.line[at].units < rest:
            spent += d.line[at].slope * d.line[at].units
            start += d.line[at].units
            at += 1
        cost = d.table[total] + spent
        if rest > start:
            cost += d.line[at].slope * (rest - start)
        more = total + rest - most
        if (more > 0 or (more == 0 and cost <= best)) if d.fill_first else (cost <= best):
            best = cost
            best_total = total
            most = total + rest
    send(d, best_total, most - best_total)


cdef int step(Desk* d, Ruled* venue, int64_t most_cells) noexcept nogil:
    """Take a venue into the table: 1; 0 where that has too many cells, -1 without memory."""
    cdef int64_t reach = min(d.units, d.reach + venue.most * venue.unit), window = d.reach // venue.unit + 1
    cdef int64_t i, low, high
    cdef double* grown
    cdef double* values
    cdef Piece* piece
    if reach >= most_cells:
        return 0
    d.cells += (reach + 1) * venue.count
    if d.cells > most_cells:
        return 0
    venue.choice = <int32_t*>calloc(reach + 1, sizeof(int32_t))
    grown = <double*>malloc((reach + 1) * sizeof(double))
    values = <double*>malloc(window * (sizeof(double) + sizeof(int32_t)))
    if venue.choice == NULL or grown == NULL or values == NULL:
        free(grown)
        free(values)
        return -1
    venue.stepped = True
    for i in range(reach + 1):
        grown[i] = d.table[i] if i <= d.reach else INFINITY
    for i in range(venue.count):
        piece = venue.pieces + i
        low = max(venue.least, piece.first + 1)
        high = piece.first + piece.lots
        if low <= high:
            slide(d.table, d.reach, grown, reach, venue.choice, venue.unit, low, high, venue.ticket + piece.spent,
                  piece, values, <int32_t*>(values + window))
    free(values)
    free(d.table)
    d.table = grown
    d.reach = reach
    d.stepped[d.steps] = venue
    d.steps += 1
    return 1


cdef void leave(Desk* d) noexcept nogil:
    """Pieces of stepped venues leave the line."""
    cdef Py_ssize_t i, count = 0
    for i in range(d.waiting):
        if not d.ruled[d.line[i].venue].stepped:
            d.line[count] = d.line[i]
            count += 1
    d.waiting = count


cdef void make_room(Desk* d, int64_t left) noexcept nogil:
    """For the smallest order of one more venue: others give what it lacks, the dearest first."""
    cdef int64_t spare = 0, lacks = 0, lots, part
    cdef Py_ssize_t i
    cdef Ruled* taker = NULL
    cdef Ruled* giver
    for i in range(d.venues):
        giver = d.ruled + i
        if giver.sent > 0:
            spare += giver.sent - giver.least * giver.unit
    for i in range(d.waiting):
        taker = d.ruled + d.line[i].venue
        lacks = taker.least * taker.unit - left
        if taker.sent == 0 and lacks <= spare:
            break
    else:
        return
    for i in range(d.waiting - 1, -1, -1):
        giver = d.ruled + d.line[i].venue
        if lacks > 0 and giver.sent > 0:
            lots = (lacks + giver.unit - 1) // giver.unit
            part = min(lots * giver.unit, giver.sent - giver.least * giver.unit)
            giver.sent -= part
            lacks -= part
    taker.sent = taker.least * taker.unit


cdef void repair(Desk* d) noexcept nogil:
    """Whole lots of what is sent, no order below the smallest; what is left where it fits, the cheapest first."""
    cdef int64_t left = d.units, more
    cdef Py_ssize_t i
    cdef Ruled* venue
    for i in range(d.venues):
        venue = d.ruled + i
        venue.sent -= venue.sent % venue.unit
        if venue.sent < venue.least * venue.unit:
            venue.sent = 0
        left -= venue.sent
    if not d.fill_first:
        return
    line_up(d)
    for i in range(d.waiting):
        venue = d.ruled + d.line[i].venue
        more = min(left, venue.most * venue.unit - venue.sent)
        more -= more % venue.unit
        if venue.sent + more >= venue.least * venue.unit:
            venue.sent += more
            left -= more
    if left > 0:
        make_room(d, left)


cdef int settle(Desk* d, int64_t most_cells) noexcept nogil:
    """1 where what is sent is proven to be the best; 0 where it keeps the rules, -1 without memory."""
    cdef Py_ssize_t i
    cdef bint kept
    cdef int done
    line_up(d)
    while True:
        try_totals(d)
        kept = True
        for i in range(d.venues):
            if broken(d.ruled + i):
                kept = False
                done = step(d, d.ruled + i, most_cells)
                if done < 1:
                    if done == 0:
                        repair(d)
                    return done
        if kept:
            return 1
        leave(d)


cdef inline int64_t common_divisor(int64_t a, int64_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef void set_desk(Desk* d, const Quote* quotes, const int64_t* counts, const Rule* rules, double nearly,
                   const Penalties* pen) noexcept nogil:
    """A cost common to all shares changes no choice among splits of as many: without it the sums stay accurate."""
    cdef int64_t order_size = <int64_t>pen.order_size, rows = 0
    cdef double base = INFINITY if d.fill_first else pen.under + pen.queue
    cdef Py_ssize_t i, j
    cdef Level* level = d.levels
    cdef Piece* room = d.pieces
    cdef Ruled* venue
    d.grid = 0
    for i in range(d.venues):
        rows += counts[i]
    if d.fill_first:
        for i in range(rows):
            base = min(base, (quotes[i].price - pen.reference) + quotes[i].fee)
    rows = 0
    for i in range(d.venues):
        venue = d.ruled + i
        venue.levels = level
        for j in range(rows, rows + counts[i]):
            level.sum = quotes[j].price + quotes[j].fee
            level.price = quotes[j].price
            level.cost = ((quotes[j].price - pen.reference) + quotes[j].fee) - base
            level.displayed = <int64_t>quotes[j].size
            level.row = j
            level += 1
        rows += counts[i]
        venue.last = level
        if counts[i] > 1:
            qsort(venue.levels, counts[i], sizeof(Level), order_of_levels)
        set_ruled(venue, rules + i, nearly, order_size)
        if usable(venue):
            d.grid = common_divisor(venue.lot, d.grid)
    d.grid = max(d.grid, <int64_t>1)
    for i in range(d.venues):
        venue = d.ruled + i
        if usable(venue):
            venue.unit = venue.lot // d.grid
            cut(venue, i, room)
            relax(venue)
            room += venue.count
    d.units = order_size // d.grid


cdef double fill_by_rules(Desk* d, const Quote* quotes, Py_ssize_t rows, const Penalties* pen) noexcept nogil:
    """The shares of each row into ``split``; returns their cost, with tickets."""
    cdef int64_t left, part
    cdef double cost
    cdef Py_ssize_t i
    cdef Level* level
    for i in range(d.venues):
        left = d.ruled[i].sent * d.grid
        level = d.ruled[i].levels
        while level != d.ruled[i].last:
            part = min(left, level.displayed)
            d.split[level.row] = <double>part
            left -= part
            level += 1
    cost = split_cost(d.split, quotes, rows, pen)
    for i in range(d.venues):
        if d.ruled[i].sent:
            cost += d.ruled[i].ticket
    return cost


cdef Desk* new_desk(Py_ssize_t venues, Py_ssize_t rows) except NULL:
    """Memory for one, in a single piece; `free` it."""
    cdef Py_ssize_t a_venue = sizeof(Ruled) + sizeof(Ruled*), a_row = sizeof(Level) + 4 * sizeof(Piece) + sizeof(double)
    cdef Desk* d = <Desk*>malloc(sizeof(Desk) + venues * a_venue + rows * a_row)
    if d == NULL:
        raise MemoryError
    d.venues = venues
    d.ruled = <Ruled*>(d + 1)
    d.stepped = <Ruled**>(d.ruled + venues)
    d.levels = <Level*>(d.stepped + venues)
    d.pieces = <Piece*>(d.levels + rows)  # two a level at most: its whole lots, and one that it ends
    d.line = d.pieces + 2 * rows
    d.split = <double*>(d.line + 2 * rows)
    return d


cdef int solve_by_rules(Desk* d, const Quote* quotes, const int64_t* counts, const Rule* rules, double nearly,
                        const Penalties* pen, int64_t most_cells) noexcept nogil:
    """As `settle`; nothing but the desk's own memory is left to be freed."""
    cdef Py_ssize_t i
    cdef int proven = -1
    d.steps = d.reach = d.cells = 0
    d.table = <double*>malloc(sizeof(double))
    if d.table == NULL:
        return -1
    d.table[0] = 0.0
    set_desk(d, quotes, counts, rules, nearly, pen)
    proven = settle(d, most_cells)
    free(d.table)
    for i in range(d.venues):
        free(d.ruled[i].choice)
    return proven


def sweep_by_rules(const double[:, ::1] quotes, list counts, const double[:, ::1] rules, double nearly,
                   int64_t order_size, double lambda_over, double lambda_under, double theta_queue, double reference,
                   bint fill_first, int64_t most_cells):
    """`sweep` of venues of ``counts`` rows each under rules: (shares by row, cost, whether that is proven the least).

    As many shares as the rules allow and then the least cost (``fill_first``), or the least cost with penalties.
    """
    cdef Penalties pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
    cdef Py_ssize_t i, k = len(counts), m = quotes.shape[0]
    cdef int64_t* sizes = <int64_t*>malloc(k * sizeof(int64_t))
    cdef Desk* d = NULL
    cdef int proven
    cdef double cost
    if sizes == NULL:
        raise MemoryError
    try:
        for i in range(k):
            sizes[i] = counts[i]
        d = new_desk(k, m)
        d.fill_first = fill_first
        with nogil:
            proven = solve_by_rules(d, rows_of(quotes), sizes, <const Rule*>&rules[0, 0], nearly, &pen, most_cells)
            if proven >= 0:
                cost = fill_by_rules(d, rows_of(quotes), m, &pen)
        if proven < 0:
            raise MemoryError
        return [<int64_t>d.split[i] for i in range(m)], cost, proven == 1
    finally:
        free(sizes)
        free(d)


def sweep_by_rules_many(const double[:, :, ::1] quotes, const double[:, ::1] rules, double nearly,
                        const int64_t[::1] order_sizes, double lambda_over, double lambda_under, double theta_queue,
                        const double[::1] references, bint fill_first, int64_t most_cells, int64_t[:, ::1] splits,
                        double[::1] costs, unsigned char[::1] proven):
    """`sweep_by_rules` of every snapshot of venues of one row each, into the last three."""
    cdef Penalties pen = Penalties(0.0, lambda_over, lambda_under, theta_queue, 0.0)
    cdef Py_ssize_t i, j, k = quotes.shape[1]
    cdef int64_t* sizes = <int64_t*>malloc(k * sizeof(int64_t))
    cdef Desk* d = NULL
    cdef int done = 0
    cdef const Quote* rows
    if sizes == NULL:
        raise MemoryError
    try:
        d = new_desk(k, k)
        d.fill_first = fill_first
        with nogil:
            for j in range(k):
                sizes[j] = 1
            for i in range(quotes.shape[0]):
                rows = <const Quote*>&quotes[i, 0, 0]
                pen.order_size = <double>order_sizes[i]
                pen.reference = references[i]
                done = solve_by_rules(d, rows, sizes, <const Rule*>&rules[0, 0], nearly, &pen, most_cells)
                if done < 0:
                    break
                costs[i] = fill_by_rules(d, rows, k, &pen)
                proven[i] = done
                for j in range(k):
                    splits[i, j] = <int64_t>d.split[j]
        if done < 0:
            raise MemoryError
    finally:
        free(sizes)
        free(d)


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


cdef struct Choices:         # of every venue: whole numbers of shares, the smallest first
    Py_ssize_t venues
    const int64_t* shares
    const int64_t* ends      # of each venue's
    const double* tickets
    Penalties pen
    bint fill_first
    double* split            # where the search stands
    double* found            # the best split so far
    double cost
    double filled


cdef void enumerate_choices(Choices* c, const Quote* quotes, Py_ssize_t venue, double filled) noexcept nogil:
    cdef int64_t i
    cdef Py_ssize_t j
    cdef double cost
    if venue < c.venues:
        for i in range(c.ends[venue - 1] if venue else 0, c.ends[venue]):
            if filled + c.shares[i] > c.pen.order_size:
                break
            c.split[venue] = <double>c.shares[i]
            enumerate_choices(c, quotes, venue + 1, filled + c.shares[i])
        return
    if c.fill_first and filled < c.filled:
        return
    cost = split_cost(c.split, quotes, c.venues, &c.pen)
    for j in range(c.venues):
        if c.split[j] > 0.0:
            cost += c.tickets[j]
    if cost < c.cost or (c.fill_first and filled > c.filled):
        c.cost = cost
        c.filled = filled
        for j in range(c.venues):
            c.found[j] = c.split[j]


def exhaustive_by_rules(const double[:, ::1] quotes, list choices, list tickets, int64_t order_size,
                        double lambda_over, double lambda_under, double theta_queue, double reference,
                        bint fill_first):
    """The best of all splits of the order made of a choice a venue, the smallest first; ties: the first of them."""
    cdef Choices c
    cdef Py_ssize_t i, k = quotes.shape[0], count = 0
    cdef list every = [shares for some in choices for shares in some]
    cdef double* memory = <double*>malloc(3 * k * sizeof(double) + (k + len(every)) * sizeof(int64_t))
    cdef int64_t* ends = <int64_t*>(memory + 3 * k)
    if memory == NULL:
        raise MemoryError
    try:
        for i in range(k):
            memory[i] = memory[k + i] = 0.0
            memory[2 * k + i] = tickets[i]
            count += len(choices[i])
            ends[i] = count
        for i in range(count):
            ends[k + i] = every[i]
        c.venues = k
        c.shares = ends + k
        c.ends = ends
        c.tickets = memory + 2 * k
        c.pen = Penalties(order_size, lambda_over, lambda_under, theta_queue, reference)
        c.fill_first = fill_first
        c.split = memory
        c.found = memory + k
        c.cost = INFINITY
        c.filled = -1.0
        with nogil:
            enumerate_choices(&c, rows_of(quotes), 0, 0.0)
        return [<int64_t>c.found[i] for i in range(k)], c.cost
    finally:
        free(memory)
