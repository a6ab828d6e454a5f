# C types for `_market_py.py` where it is compiled as `sor.backtest._market`: the names are that module's own.
cimport cython
from libc.stdint cimport int16_t, int64_t, uint8_t
from sor.execution cimport _view as views
from sor.execution cimport _worker as workers

cdef int64_t NEVER, NOTHING, NO_PRICE, STANDS
cdef int PESSIMISTIC, PROPORTIONAL, OPTIMISTIC
cdef int PRINTED, TOLD_AGAIN
cdef int ARRIVES, REPORTED, ENDS, ENDED, REJECTED, TIME, BEGINS, SEEN, WINDOW
cdef uint8_t TRADED, BUYER, SELLER
cdef double UNKNOWN, NEARLY


cdef class Rows:
    cdef const int64_t[::1] time, known, price, size
    cdef const int16_t[::1] slot, bid_slot, ask_slot
    cdef const uint8_t[::1] action, side
    cdef const int64_t[:, ::1] bid_price, bid_size, ask_price, ask_size
    cdef bint consolidated
    cdef readonly Py_ssize_t count


cdef class Used(views.Taken):
    cdef public int64_t refresh, stamp
    cdef public dict printed
    cdef public bint shared

    @cython.locals(at=Py_ssize_t)
    cpdef take(self, int side, Py_ssize_t slot, int64_t price, int64_t shares, int64_t now)

    @cython.locals(
        entry=Py_ssize_t, at=Py_ssize_t, shown=int64_t, hidden=bint, late=bint,
    )
    cpdef follow(self, views.View view, Py_ssize_t slot, int64_t now)

    @cython.locals(other=Py_ssize_t)
    cdef bint _ended(self, views.View view, int side, Py_ssize_t slot, int64_t price, int64_t shown) except -1

    cdef int64_t of_print(self, int64_t number, int64_t now) except -1


cdef class Heard:
    cdef public views.View view
    cdef public list times
    cdef public int64_t next


cdef class Rest:
    cdef public Sim sim
    cdef public workers.Child child
    cdef public int side
    cdef public int64_t price, left, last, printed, printed_at, shown_at
    cdef public double front


cdef class Sim:
    cdef public object number, seed, at_begin, at_window, at_last, at_end
    cdef public workers.Worker worker
    cdef public int queue
    cdef public Used used, seen
    cdef public list rests, fills
    cdef public bint waits
    cdef public int64_t timer, late, executions
    cdef public double tickets


cdef class Fill:
    cdef public int64_t number, time, price, shares
    cdef public bint maker, frozen
    cdef public workers.Child child
    cdef public list later


cdef class Market:
    cdef public views.View book, view
    cdef public bint same, sighted, traded, ruled
    cdef public int64_t delay, longest, opens, close, now, sequence, rows, prints, volume, first, last, next_mark
    cdef public int64_t since, oldest, next_stale, first_mid2
    cdef public Heard heard, known
    cdef public bint take_frozen, missing, after_trades
    cdef public int64_t shown_trades
    cdef public list frozen
    cdef public int64_t crossed, locked, one_sided
    cdef public list latency, due, live, told, tables, sight, resting, behind, gaps, marks, finished, listeners, blind
    cdef public Py_ssize_t resters, seen_at, stamp_at, stamp_end
    cdef Rows stamp
    cdef public int changed
    cdef public double mids, lasting, turnover

    cpdef begin(self, Sim sim)

    @cython.locals(at=Py_ssize_t, end=Py_ssize_t, now=int64_t)
    cpdef run(self, Rows rows)

    cpdef finish(self)

    @cython.locals(due=int64_t, known=int64_t, later=int64_t)
    cdef _advance(self, int64_t until)

    cdef _push(self, int64_t time, int kind, Sim sim, object what, int64_t number)

    @cython.locals(row=Py_ssize_t)
    cdef _stamp(self, Rows rows, Py_ssize_t at, Py_ssize_t end, int64_t now)

    cdef _sight(self, int64_t now)

    cdef bint _trades(self, Rows rows, Py_ssize_t row) except -1

    @cython.locals(due=int64_t, fill=Fill, i=Py_ssize_t)
    cdef _mark(self, int64_t now)

    @cython.locals(begin=int64_t, span=int64_t, spread=int64_t)
    cdef _last(self, int64_t now)

    @cython.locals(begin=int64_t, end=int64_t)
    cdef _gap(self, int64_t until)

    @cython.locals(slot=Py_ssize_t, changed=int, traded=bint)
    cdef _quote(self, Rows rows, Py_ssize_t row, int64_t now)

    cdef _hear(self, Heard heard, Py_ssize_t slot, int64_t now)

    cdef _age(self, int64_t now)

    @cython.locals(view=views.View, first=int64_t, stale=list, slot=Py_ssize_t, time=int64_t, shown=int, table=Used)
    cdef _forget_stale(self, Heard heard, int64_t now, bint happens)

    @cython.locals(
        side=int, owner=int, price=int64_t, shares=int64_t, signed=int64_t, slot=Py_ssize_t, at=Py_ssize_t
    )
    cdef _consolidated(self, views.View view, Rows rows, Py_ssize_t row, int64_t now, bint happens)

    @cython.locals(frozen=bint)
    cdef _behind(self, views.View view, int side, Py_ssize_t slot, int64_t best, bint happens)

    cdef bint _is_frozen(self, int side, Py_ssize_t slot) except -1

    @cython.locals(table=Used)
    cdef _shown(self, Py_ssize_t slot, int changed, int64_t now)

    @cython.locals(table=Used)
    cdef _seen(self, Py_ssize_t slot, int changed, int64_t now)

    @cython.locals(rows=Rows, time=int64_t)
    cdef int64_t _known(self) except? -1

    cdef Rows _first_behind(self)

    @cython.locals(rows=Rows, row=Py_ssize_t, slot=Py_ssize_t, changed=int)
    cdef _learn(self, int64_t known)

    @cython.locals(changed=int, ended=bint, sim=Sim, worker=workers.Worker)
    cdef _ask(self)

    @cython.locals(worker=workers.Worker, child=workers.Child)
    cdef bint _do(self, Sim sim) except -1

    cdef int64_t _lag(self, Sim sim, workers.Child child) except? -1

    @cython.locals(worker=workers.Worker)
    cdef _begin(self, Sim sim)

    @cython.locals(view=views.View, span=int64_t)
    cdef _so_far(self, int side)

    @cython.locals(rest=Rest)
    cdef _end(self, Sim sim)

    @cython.locals(time=int64_t, kind=int, sim=Sim, number=int64_t)
    cdef _happen(self, object due)

    @cython.locals(sim=Sim)
    cdef _settle(self)

    @cython.locals(taken=int64_t, lag=int64_t)
    cdef _arrive(self, Sim sim, workers.Child child)

    @cython.locals(shares=int64_t, tick=int64_t)
    cdef bint _rejects(self, workers.Child child) except -1

    cdef bint _too_few(self, Py_ssize_t slot, int64_t shares) except -1

    @cython.locals(book=views.View, first=Py_ssize_t, at=Py_ssize_t, size=int64_t, found=int64_t)
    cdef int64_t _there(self, Sim sim, int side, Py_ssize_t slot, int64_t worst, int64_t most) except? -1

    @cython.locals(
        book=views.View, side=int, slot=Py_ssize_t, first=Py_ssize_t, at=Py_ssize_t, size=int64_t, price=int64_t,
        taken=int64_t,
    )
    cdef int64_t _take(self, Sim sim, workers.Child child) except? -1

    @cython.locals(fill=Fill, due=int64_t, i=Py_ssize_t)
    cdef _fill(self, Sim sim, workers.Child child, int64_t price, int64_t shares, bint maker)

    @cython.locals(worker=workers.Worker, child=workers.Child)
    cdef _tell(self, Sim sim, Fill fill)

    @cython.locals(rest=Rest)
    cdef _withdraw(self, Sim sim, workers.Child child)

    @cython.locals(rest=Rest, shown=int64_t, others=list, at=Py_ssize_t)
    cdef _join(self, Sim sim, workers.Child child, int64_t taken)

    @cython.locals(rows=Rows, row=Py_ssize_t)
    cdef _joins_before(self, Rest rest)

    cdef _leave(self, Rest rest)

    @cython.locals(shares=int64_t, price=int64_t, slot=Py_ssize_t, rest=Rest)
    cdef _print(self, Rows rows, Py_ssize_t row, int64_t now)

    @cython.locals(price=int64_t)
    cdef _trade(self, Rest rest, Rows rows, Py_ssize_t row, int64_t now)

    @cython.locals(used=Used, over=double, front=double, filled=int64_t)
    cdef _printed(self, Rest rest, int64_t price, int64_t shares, int64_t number, int64_t now)

    cdef _forget(self, Rest rest, int64_t now)

    @cython.locals(child=workers.Child)
    cdef _made(self, Rest rest, int64_t shares)

    @cython.locals(book=views.View, rest=Rest, shown=int64_t, other=Py_ssize_t)
    cdef _queue(self, Py_ssize_t slot, int64_t now)

    @cython.locals(gone=int64_t, printed=int64_t, over=double, filled=int64_t)
    cdef _less(self, Rest rest, int64_t shown, int64_t now)

    @cython.locals(
        sim=Sim, left=int64_t, side=int, book=views.View, first=Py_ssize_t, filled=int64_t, at=Py_ssize_t,
        size=int64_t, price=int64_t, known=int64_t, there=int64_t,
    )
    cdef _reached(self, Rest rest, Py_ssize_t slot, int64_t now)
