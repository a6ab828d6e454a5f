# What compiled code calls of `_core.pyx` without a detour by Python.
from libc.stdint cimport int64_t

cpdef tuple sweep(const double[:, ::1] quotes, int64_t order_size, double lambda_over, double lambda_under,
                  double theta_queue, double reference)
