# C types for `_view_py.py` where it is compiled as `sor.execution._view`: the names are that module's own.
cimport cython
from libc.stdint cimport int64_t

cdef int64_t NOTHING, NO_PRICE
cdef Py_ssize_t FIRST_ENTRIES


cdef class View:
    cdef readonly list venues, rates
    cdef readonly Py_ssize_t depth, width
    cdef public Py_ssize_t slots
    cdef public int64_t[::1] price, size, before, updates, best, best_slot, last, last_slot
    cdef public int64_t mid2, volume
    cdef public bint has_mid, ruled
    cdef public list terms
    cdef public object rules

    @cython.locals(slot=Py_ssize_t)
    cpdef int begin(self) except -1

    @cython.locals(before=Py_ssize_t, first=Py_ssize_t, had=int, changed=int)
    cpdef int show_row(
        self, Py_ssize_t slot, const int64_t[:, ::1] bid_price, const int64_t[:, ::1] bid_size,
        const int64_t[:, ::1] ask_price, const int64_t[:, ::1] ask_size, Py_ssize_t row
    ) except -1

    @cython.locals(level=Py_ssize_t)
    cdef bint _differ(
        self, const int64_t[:, ::1] prices, const int64_t[:, ::1] sizes, Py_ssize_t row, Py_ssize_t before
    ) except -1

    @cython.locals(
        first=Py_ssize_t, count=Py_ssize_t, changed=bint, level=Py_ssize_t, units=int64_t, shares=int64_t,
        signed=int64_t, at=Py_ssize_t,
    )
    cdef bint _set(
        self, int side, Py_ssize_t slot, const int64_t[:, ::1] prices, const int64_t[:, ::1] sizes, Py_ssize_t row
    ) except -1

    cdef int _insert(self, Py_ssize_t first, Py_ssize_t at, int64_t signed, int64_t shares) except -1

    @cython.locals(first=Py_ssize_t, shown=bint, at=Py_ssize_t)
    cpdef bint clear(self, int side, Py_ssize_t slot) except -1

    cpdef int refresh(self) except -1

    @cython.locals(side=int, best=int64_t, where=Py_ssize_t, at=Py_ssize_t, slot=Py_ssize_t)
    cdef int _refresh(self, int sides) except -1

    @cython.locals(first=Py_ssize_t, other=Py_ssize_t, at=Py_ssize_t)
    cpdef int64_t shown(self, int side, Py_ssize_t slot, int64_t price) except? -2


cdef class Taken:
    cdef readonly Py_ssize_t count, room
    cdef public int64_t[::1] entries

    @cython.locals(at=Py_ssize_t)
    cpdef int add(
        self, int64_t side, int64_t slot, int64_t price, int64_t shares, int64_t time, int64_t owner
    ) except -1

    @cython.locals(shares=int64_t, at=Py_ssize_t)
    cpdef int64_t of(self, int64_t side, int64_t slot, int64_t price) except? -1

    @cython.locals(at=Py_ssize_t)
    cpdef int remove(self, Py_ssize_t entry) except -1
