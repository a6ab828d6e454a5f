# C types for `_worker_py.py` where it is compiled as `sor.execution._worker`: the names are that module's own.
cimport cython
from libc.stdint cimport int64_t, uint8_t
from sor.execution cimport _view as views

cdef int64_t NEVER, NOTHING, REJECTS, LEFT_OUT_NS, GONE


cdef class Child:
    cdef public Py_ssize_t number, slot
    cdef public int64_t price, shares, until, sent, mid2, opposite, executed, told
    cdef public bint rests, alive, cancelling

    cpdef int64_t done(self) except? -1
    cpdef int64_t working(self) except? -1


cdef class Cancel:
    cdef public Child child


cdef class Schedule:
    cpdef int64_t released(self, Worker worker, int64_t now, int64_t volume) except? -1
    cpdef int64_t next(self, Worker worker, int64_t now) except? -1


cdef class Routing:
    cpdef list split(self, Worker worker, int64_t shares)


cdef class Offers:
    cdef public Py_ssize_t count
    cdef public int64_t best
    cdef public int64_t[::1] slot, price, size
    cdef public uint8_t[::1] first


cdef class Worker:
    cdef public int side
    cdef public int64_t shares, limit, start, end, grace, delay, now, strays, executed, released, fresh, asked
    cdef public int64_t begun_at_volume, wake, rejections, cancels
    cdef public Schedule schedule
    cdef public Routing routing, crossing
    cdef public views.View view
    cdef public views.Taken used, reserved
    cdef public Offers offers
    cdef public list children, live, out, tranches, absences
    cdef public set executions
    cdef public bint wants, done, ending, closing, missed
    cdef public int64_t[::1] rejects, left_out
    cdef public Py_ssize_t next_tranche

    cpdef begin(self, views.View view, views.Taken used, int64_t now)
    cpdef on_time(self, int64_t now)
    cpdef on_book(self, int64_t now)

    @cython.locals(child=Child, before=int64_t)
    cpdef list on_filled(self, Py_ssize_t number, object execution, int64_t shares, int64_t now, bint more=*)

    cpdef on_accepted(self, Py_ssize_t number, int64_t now)

    @cython.locals(child=Child, before=int64_t)
    cpdef on_ended(self, Py_ssize_t number, int64_t cumulative, int64_t now, bint rejected=*, bint more=*)

    @cython.locals(at=Py_ssize_t)
    cpdef bint may_ask_again(self) except -1

    cpdef int64_t overfill(self) except? -1

    @cython.locals(shares=int64_t, child=Child)
    cpdef int64_t working(self) except? -1

    cdef _decide(self)

    @cython.locals(due=int64_t)
    cdef _release(self)

    @cython.locals(taken=int64_t, left=int64_t)
    cdef list _pieces(self, int64_t shares)

    @cython.locals(go=int64_t, fresh=int64_t, routing=Routing, child=Child)
    cdef _ask(self)

    cdef _send(self, Child child)
    cdef _over(self, Child child)

    @cython.locals(child=Child)
    cdef _cancel_all(self)

    @cython.locals(child=Child)
    cdef _cancel_late(self)

    cdef _cancel(self, Child child)
    cdef _rejected(self, Py_ssize_t slot)

    @cython.locals(wake=int64_t, due=int64_t, child=Child, at=Py_ssize_t, until=int64_t, slot=Py_ssize_t)
    cdef _set_wake(self)

    @cython.locals(
        view=views.View, offers=Offers, side=int, at=Py_ssize_t, slot=Py_ssize_t, level=Py_ssize_t, first=bint,
        size=int64_t, price=int64_t, count=Py_ssize_t,
    )
    cpdef look(self)

    @cython.locals(shares=int64_t)
    cdef int64_t _spoken_for(self, Py_ssize_t slot, int64_t price) except? -1

    @cython.locals(at=Py_ssize_t, here=bint)
    cdef bint _under_way(self, Py_ssize_t slot, int64_t price) except -1

    @cython.locals(
        view=views.View, left=int64_t, side=int, first=Py_ssize_t, at=Py_ssize_t, size=int64_t, price=int64_t,
    )
    cdef bint _reserve(self, Child child, int64_t number) except -1

    @cython.locals(
        filled=int64_t, entry=Py_ssize_t, at=Py_ssize_t, shares=int64_t, taken=int64_t, side=int, slot=Py_ssize_t,
        price=int64_t,
    )
    cdef _free(self, Child child)

    @cython.locals(entry=Py_ssize_t, at=Py_ssize_t)
    cdef _expire(self)

    @cython.locals(seen=int64_t)
    cdef bint _is_over(self, Py_ssize_t at) except -1
