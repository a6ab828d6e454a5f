# C types for `_quotes_py.py` where it is compiled as `sor.market._quotes`: the names are that module's own.
cimport cython

cdef str OK, EMPTY
cdef double UNITS
cdef double MID_UNITS
cdef double ROUNDER
cdef double FEE_UNITS


cdef class Rates:
    cdef public double fee, rebate, dollars_from, part_fee, part_rebate, fee_bps, rebate_bps, flat_from
    cdef public bint known, part_known, exchange
    cdef public object rules

    cpdef double fee_at(self, double price) except? -1.0
    cpdef double rebate_at(self, double price) except? -1.0
    cpdef str usable_at(self, double price)


cdef class VenueQuote:
    cdef public str venue_id
    cdef public object order
    cdef public Py_ssize_t place
    cdef public double best_bid, best_ask
    cdef public Rates rates
    cdef public long long time
    cdef public list bids, asks
    cdef public object bid, ask, bid_size, ask_size
    cdef public str to_buy, to_sell
    cdef public object said, text
    cdef public long long said_shares
    cdef public str said_status
    cdef public bint said_buying
    cdef public int said_why
    cdef public double said_by
    cdef public object sent, sent_text
    cdef public str sent_side
    cdef public double sent_price
    cdef public long long sent_shares

    cpdef show(self, list bids, list asks, Rates rates)
    cdef bint fees_differ(self) except -1
    cdef double price_of_fees(self, bint buying) except? -1.0


cdef class BookOfQuotes:
    cdef public str symbol
    cdef public Py_ssize_t depth
    cdef public list quotes
    cdef public long long time
    cdef public object sequence
    cdef public dict doubts
    cdef public bint ruled
    cdef dict _by_order
    cdef object _asks, _bids
    cdef double[::1] _flat_asks
    cdef double[::1] _flat_bids
    cdef double[:, ::1] _ask_rows
    cdef double[:, ::1] _bid_rows

    cdef bint has(self, object order) except -1

    @cython.locals(place=Py_ssize_t, quote=VenueQuote)
    cdef _lay_out(self)

    @cython.locals(at=Py_ssize_t, end=Py_ssize_t)
    cdef _write(self, VenueQuote quote)

    @cython.locals(quote=VenueQuote)
    cpdef show(self, object order, str venue_id, list bids, list asks, Rates rates, long long time)


@cython.locals(price=double, size=double, fee=double, rebate=double, flat_from=double)
cdef write_rows(double[::1] flat, Py_ssize_t at, Py_ssize_t end, list levels, double sign, Rates rates)


cdef class Market:
    cdef public str side, state
    cdef public object bid, ask, mid
    cdef public list statuses

    cpdef list warnings(self)


@cython.locals(
    side=str, buying=bint, marking=bint, oldest=cython.longlong, bid=double, ask=double, statuses=list,
    status=str, quote=VenueQuote,
)
cpdef Market survey(object order, BookOfQuotes book, object max_quote_age, object excluded, bint halted)

cdef str _marked(
    VenueQuote quote, str status, object limit, bint buying, object excluded, long long oldest, bint halted
)


cpdef tuple usable_rows(object order, BookOfQuotes book, Market market, Py_ssize_t levels, bint empty_too)


@cython.locals(status=str)
cdef bint any_usable(list statuses) except -1


@cython.locals(status=str)
cdef bint all_usable(list statuses, bint empty_too) except -1


@cython.locals(scaled=double)
cpdef double rounded(double dollars, double units=*) except? -1.0
