"""The public names of `sor` under their older address; run as a script it shows three venues being routed.

python smart_order_router.py
"""

from sor import (
    BACKEND,
    Allocation,
    Book,
    CostParameters,
    InputError,
    Level2Venue,
    Order,
    Router,
    RoutingResult,
    Venue,
    allocate,
    allocate_exhaustive,
    allocate_greedy_l2,
    compute_cost,
    run_test_harness,
)

__all__ = [
    "BACKEND",
    "Allocation",
    "Book",
    "CostParameters",
    "InputError",
    "Level2Venue",
    "Order",
    "Router",
    "RoutingResult",
    "Venue",
    "allocate",
    "allocate_exhaustive",
    "allocate_greedy_l2",
    "compute_cost",
    "run_test_harness",
]

if __name__ == "__main__":
    import sys

    from sor.cli import main

    sys.exit(main(command="demo"))
