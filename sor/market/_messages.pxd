# C types for `_messages_py.py` where it is compiled as `sor.market._messages`: the names are that module's own.
cimport cython
from libc.stdint cimport int64_t

cdef object UNSET, LARGEST_SIZE, LARGEST_TIME, SMALLEST_INTEGER_TIME, UNDEFINED_SIZE, UNDEFINED_PRICE, LARGEST_UNITS
cdef object SMALLEST_INTEGER_PRICE, BOOKS, DOLLARS, UNITS
cdef double LARGEST_PRICE
cdef Py_ssize_t KNOWN_SYMBOLS


cdef class MessageReader:
    cdef list bids, asks
    cdef set symbols
    cdef object unit
    cdef bint usual

    cpdef learn(self, str symbol)

    cpdef object update(self, object message, object unit)

    @cython.locals(found=list, dollars=double, shares=int64_t)
    cdef list levels(self, object message, list keys)
