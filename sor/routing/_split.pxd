# C types for `_split_py.py` where it is compiled as `sor.routing._split`: the names are that module's own.
cimport cython
from sor cimport _core as core
from sor.market cimport _quotes as quotes


cdef int WHOLE, LEFT, RESTS, DEARER, PENALTIES, PLANNED, UNMEASURED, BY_STATUS, GIVEN
cdef tuple CODES
cdef str OK, EMPTY
cdef double INFINITE
cdef long long SECOND, MINUTE


@cython.locals(
    market=quotes.Market, warnings=list, fills=Fills, levels=Py_ssize_t, shown="double[:, ::1]", total_cost=double,
    value=double,
)
cpdef routed(
    object order, quotes.BookOfQuotes book, object algorithm, object objective, object parameters,
    object max_quote_age, object excluded, object solve, object stream, object source, object halt
)


cdef class Fills:
    cdef public list allocation, children, texts
    cdef public long long executed
    cdef public double executed_cash, cash, dearest
    cdef public list more
    cdef public int otherwise
    cdef public object reasons


@cython.locals(
    buying=bint, depth=Py_ssize_t, allocation=list, children=list, texts=list, executed=cython.longlong,
    executed_cash=double, resting_cash=double, row=Py_ssize_t, quantity=cython.longlong, place=Py_ssize_t,
    venue=Py_ssize_t, at=Py_ssize_t, quote=quotes.VenueQuote, flat="double[::1]", price=double,
    taken=cython.longlong, fills=Fills, more=list, dearest=double, unit=double,
)
cpdef Fills tally(str side, quotes.BookOfQuotes book, object places, list split)


@cython.locals(after=Py_ssize_t)
cdef bint left_behind(list split, object places, Py_ssize_t row, Py_ssize_t place, Py_ssize_t depth, double[::1] flat)


cdef taking(quotes.VenueQuote quote, str side, double price, long long shares)


@cython.locals(venue=Py_ssize_t, quote=quotes.VenueQuote, at=Py_ssize_t)
cpdef rest(Fills fills, str side, quotes.BookOfQuotes book, quotes.Market market, list limits, list prices)


@cython.locals(price=double)
cdef described(
    quotes.VenueQuote quote, long long shares, str status, bint buying, int why, double by, object given
)


cdef object reason_of(int why, double by, str status)


@cython.locals(middle=double, dollars=double, per_share=double)
cdef shortfall(str side, double executed_cash, long long executed, object mid)


@cython.locals(minute=cython.longlong, rest=cython.longlong, second=cython.longlong)
cdef str text_of(long long time)


@cython.locals(
    side=str, buying=bint, venues=list, texts=list, place=Py_ssize_t, quote=quotes.VenueQuote, flat="double[::1]",
    width=Py_ssize_t, shares=cython.longlong, status=str, by=double, why=int, otherwise=int,
    more=list, allocation=list, statuses=list, dearest=double,
)
cpdef assemble(
    object order, quotes.BookOfQuotes book, quotes.Market market, Fills fills, double total_cost,
    double objective_value, object algorithm, object objective, object parameters, list warnings, object placement,
    object stream, object source
)
