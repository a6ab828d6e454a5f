# C types for `_many_py.py` where it is compiled as `sor.routing._many`: the names are that module's own.
cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t
from sor.market cimport _quotes as quotes

cdef int64_t EXACT, NO_PRICE, STANDS
cdef int DOUBTFUL, CROSSED, LOCKED, NOTHING, DOUBTED
cdef dict STATUS_CODES, STATE_CODES
cdef int OK, EMPTY, UNKNOWN_FEE, NORMAL, LOCKED_STATE, CROSSED_STATE
cdef str OK_TEXT, EMPTY_TEXT, UNKNOWN_FEE_TEXT, NORMAL_TEXT


cdef class Looks:
    cdef double[:, :, ::1] shown
    cdef int32_t[:, ::1] venues
    cdef int64_t[::1] counts, times
    cdef uint8_t[:, ::1] statuses
    cdef double[:, ::1] best
    cdef int64_t[:, ::1] marks
    cdef public Py_ssize_t rows
    cdef readonly Py_ssize_t most, width

    @cython.locals(
        market=quotes.Market, buying=bint, flat="double[::1]", levels=Py_ssize_t, look=Py_ssize_t, limited=bint,
        worst=double, count=Py_ssize_t, slot=Py_ssize_t, usable=Py_ssize_t, status=str, at=Py_ssize_t, warnings=int,
        state=int, code=int, _=Py_ssize_t, left=Py_ssize_t,
    )
    cpdef take(
        self, object order, quotes.BookOfQuotes book, object max_quote_age, object excluded, Py_ssize_t row,
        Py_ssize_t number, Py_ssize_t layout, bint doubted
    )


cdef class Known:
    cdef object order
    cdef str venue_id
    cdef quotes.Rates rates
    cdef int64_t start, end


cdef class Follower:
    cdef list orders
    cdef object max_quote_age, excluded
    cdef Py_ssize_t depth, end
    cdef public dict known
    cdef public list books, layouts
    cdef const int32_t[::1] symbol
    cdef const int64_t[::1] time
    cdef const uint16_t[::1] publisher
    cdef const uint8_t[::1] flags
    cdef const int64_t[:, ::1] bid_price, bid_size, ask_price, ask_size
    cdef bint usual

    @cython.locals(
        room=Py_ssize_t, symbol=Py_ssize_t, time=int64_t, book=quotes.BookOfQuotes, known=Known, bids=list, asks=list
    )
    cpdef Py_ssize_t run(self, Py_ssize_t at, Looks looks) except -1

    @cython.locals(symbol=Py_ssize_t, book=quotes.BookOfQuotes, number=Py_ssize_t)
    cpdef look(self, Py_ssize_t at, Looks looks, bint doubted)


@cython.locals(found=list, level=Py_ssize_t, units=int64_t, size=int64_t)
cdef list levels_of(
    const int64_t[:, ::1] prices, const int64_t[:, ::1] sizes, Py_ssize_t row, Py_ssize_t depth, bint descending
)


@cython.locals(exact=object)
cdef double price_in_dollars(int64_t units) except? -1.0


@cython.locals(look=Py_ssize_t, layout=Py_ssize_t, slot=Py_ssize_t)
cpdef by_venue(
    const int64_t[:, ::1] marks, const int64_t[:, ::1] columns, const uint8_t[:, ::1] statuses, uint8_t[:, ::1] status
)


@cython.locals(
    look=Py_ssize_t, layout=Py_ssize_t, row=Py_ssize_t, filled=double, executed_cash=double, resting_cash=double,
    quantity=int64_t, shown=double, taken=double, middle=double, dollars=double,
)
cpdef tally(
    const double[:, :, ::1] rows, const int32_t[:, ::1] venues, const int64_t[::1] counts,
    const int64_t[:, ::1] marks, const int64_t[:, ::1] columns, const int64_t[:, ::1] splits, const uint8_t[::1] sells,
    const double[:, ::1] best, int64_t[:, ::1] allocation, double[::1] executed, double[:, ::1] sums
)


@cython.locals(i=Py_ssize_t)
cpdef round_all(double[::1] values)
