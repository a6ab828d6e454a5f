# C types for `_routings_py.py` where it is compiled as `sor.execution._routings`: the names are that module's own.
cimport cython
from libc.stdint cimport int64_t
from sor.execution cimport _worker as workers

cdef double FREE, NEARLY
cdef int64_t MOST_CELLS


cdef class Taking(workers.Routing):
    @cython.locals(row=Py_ssize_t, shares=int64_t, child=workers.Child)
    cdef list children(self, workers.Offers offers, list taken)

    @cython.locals(offers=workers.Offers, row=Py_ssize_t)
    cdef list accepted(self, workers.Worker worker, list taken)

    @cython.locals(size=int64_t)
    cdef list of_one(self, workers.Worker worker, Py_ssize_t row, int64_t shares)


cdef class Sweep(Taking):
    cdef bint every_level
    cdef object quotes

    @cython.locals(offers=workers.Offers, row=Py_ssize_t, total=int64_t, size=int64_t)
    cpdef list split(self, workers.Worker worker, int64_t shares)

    cdef list cheapest(self, workers.Worker worker, list sizes, int64_t shares)

    @cython.locals(row=Py_ssize_t, children=list)
    cdef list by_rules(self, workers.Worker worker, list sizes, int64_t shares)

    @cython.locals(child=workers.Child, price=double, found=bint)
    cdef bint raised(self, workers.Worker worker, list children, object rules) except -1

    @cython.locals(offers=workers.Offers, count=Py_ssize_t, row=Py_ssize_t, cells="double[:, ::1]", price=double)
    cdef rows(self, workers.Worker worker, list sizes)


cdef class PriceFee(Sweep):
    @cython.locals(
        offers=workers.Offers, slots=Py_ssize_t, left=int64_t, row=Py_ssize_t, slot=Py_ssize_t, wanted=int64_t,
        order=int64_t,
    )
    cpdef list split(self, workers.Worker worker, int64_t shares)

    @cython.locals(offers=workers.Offers)
    cdef list in_turn(self, workers.Worker worker)

    @cython.locals(
        offers=workers.Offers, order=int64_t, left=int64_t, part=int64_t, price=double, worth=double, row=Py_ssize_t,
    )
    cdef int64_t taken_by(self, workers.Worker worker, Py_ssize_t slot, int64_t shares) except? -1

    @cython.locals(row=Py_ssize_t, slot=Py_ssize_t, size=int64_t, part=int64_t)
    cdef list best_first(self, workers.Offers offers, list sent)


cdef class Nbbo(Taking):
    @cython.locals(offers=workers.Offers, row=Py_ssize_t)
    cpdef list split(self, workers.Worker worker, int64_t shares)


cdef class BestVenue(Taking):
    @cython.locals(offers=workers.Offers, row=Py_ssize_t, best=Py_ssize_t, size=int64_t)
    cpdef list split(self, workers.Worker worker, int64_t shares)


cdef class ProRata(Taking):
    @cython.locals(offers=workers.Offers, row=Py_ssize_t)
    cpdef list split(self, workers.Worker worker, int64_t shares)


cdef class Equal(Taking):
    @cython.locals(
        offers=workers.Offers, row=Py_ssize_t, venues=int64_t, part=int64_t, over=int64_t, wanted=int64_t, size=int64_t,
    )
    cpdef list split(self, workers.Worker worker, int64_t shares)


cdef class Single(Taking):
    cdef public str venue

    @cython.locals(offers=workers.Offers, row=Py_ssize_t)
    cpdef list split(self, workers.Worker worker, int64_t shares)


@cython.locals(total=int64_t, size=int64_t, over=int64_t, part=int64_t, i=Py_ssize_t)
cdef list in_proportion(list shown, object shares)  # no C integer, as its product with a size may be beyond 64 bits
