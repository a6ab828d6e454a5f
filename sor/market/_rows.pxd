# C types for `_rows_py.py` where it is compiled as `sor.market._rows`: the names are that module's own.
cimport cython
from libc.stdint cimport int64_t

cdef int OTHER, TIME, PRICE, SIZE, WHOLE, CODE, LETTER, SYMBOL
cdef int64_t NEEDED, SECOND
cdef int64_t UNDEFINED_PRICE, UNDEFINED_SIZE, SMALLEST_INTEGER_PRICE, EXACT_UNITS, SMALLEST_INTEGER_TIME, LARGEST_TIME
cdef int64_t NO_PRICE, DOUBTFUL
cdef double PRICE_UNITS
cdef Py_ssize_t TIME_AT, RECEIPT_AT, SEQUENCE_AT, SYMBOL_AT, PUBLISHER_AT, ACTION_AT, SIDE_AT, PRICE_AT, SIZE_AT
cdef Py_ssize_t FLAGS_AT, LEVELS_AT
cdef int NEW_LINE, RETURN, QUOTE, COMMA, MINUS, POINT, ZERO, COLON, T, Z, ASCII


cdef class RowReader:
    cdef const int64_t[::1] kinds, slots, empty, high
    cdef list allowed
    cdef dict symbols
    cdef public list names
    cdef int64_t[:, ::1] cells
    cdef Py_ssize_t count
    cdef readonly Py_ssize_t at
    cdef int64_t value, midnight, day, last_number
    cdef bytes last

    @cython.locals(text="const unsigned char*", end=Py_ssize_t, rows=Py_ssize_t)
    cpdef Py_ssize_t fill(self, bytes block, Py_ssize_t at, Py_ssize_t row, int pointed) except -1

    @cython.locals(block=bytes)
    cpdef object update(self, bytes line, Py_ssize_t levels, int pointed, int64_t flags)

    @cython.locals(column=Py_ssize_t, kind=int64_t)
    cdef Py_ssize_t read_row(
        self, const unsigned char* text, Py_ssize_t at, Py_ssize_t end, Py_ssize_t row, int pointed, bytes block
    ) except -2

    @cython.locals(number=int64_t, start=Py_ssize_t)
    cdef Py_ssize_t read_number(self, const unsigned char* text, Py_ssize_t at) noexcept

    @cython.locals(units=int64_t, start=Py_ssize_t, places=int)
    cdef Py_ssize_t read_price(self, const unsigned char* text, Py_ssize_t at, int pointed) noexcept

    cdef Py_ssize_t read_time(self, const unsigned char* text, Py_ssize_t at, Py_ssize_t end) except -2

    @cython.locals(
        year=int64_t, month=int64_t, day=int64_t, hour=int64_t, minute=int64_t, second=int64_t, rest=int64_t
    )
    cdef Py_ssize_t read_iso(self, const unsigned char* text, Py_ssize_t at) except -2

    @cython.locals(last=bytes, length=Py_ssize_t, same=Py_ssize_t, stop=Py_ssize_t)
    cdef Py_ssize_t read_symbol(self, bytes block, const unsigned char* text, Py_ssize_t at) except -2


@cython.locals(level=Py_ssize_t, found=list)
cdef list shown(int64_t[:, ::1] cells, Py_ssize_t at, Py_ssize_t levels)


cdef Py_ssize_t passed_over(const unsigned char* text, Py_ssize_t at) noexcept


@cython.locals(number=int64_t, i=int)
cdef int64_t digits(const unsigned char* text, Py_ssize_t at, int count) noexcept
