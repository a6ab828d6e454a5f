"""sor: a smart order router. Splits an order over trading venues at the least cost.

>>> from sor import Venue, allocate
>>> venues = [Venue(100.10, 500, 0.003, 0.002), Venue(100.11, 300, 0.002, 0.0015)]
>>> allocate(600, venues, 0.01, 0.005, 0.002, resting=False).split
[500, 100]
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from sor.errors import DataError, InputError, SorError, StreamError
from sor.kernels import BACKEND
from sor.market.book import Book
from sor.market.columns import Batch
from sor.market.feed import Feed, read_feed
from sor.market.instruments import Instruments
from sor.market.outflow import Outflows
from sor.models.online import OnlinePlacement
from sor.models.placement import Placement, place, placement_cost
from sor.models.static import allocate, allocate_exhaustive, allocate_greedy_l2, allocate_many, compute_cost
from sor.routing.many import route_many
from sor.routing.result import RoutingResult
from sor.routing.router import Router
from sor.service.demo import run_test_harness
from sor.types import (
    Allocation,
    CostParameters,
    Instrument,
    Level2Venue,
    Order,
    Venue,
    VenueRules,
)

if TYPE_CHECKING:
    __version__: str
    from sor.backtest import Orders, ParentOrder, Rules, Session, Study, Tuning, backtest, tune

__all__ = [
    "BACKEND",
    "Allocation",
    "Batch",
    "Book",
    "CostParameters",
    "DataError",
    "Feed",
    "InputError",
    "Instrument",
    "Instruments",
    "Level2Venue",
    "OnlinePlacement",
    "Order",
    "Orders",
    "Outflows",
    "ParentOrder",
    "Placement",
    "Router",
    "RoutingResult",
    "Rules",
    "Session",
    "SorError",
    "StreamError",
    "Study",
    "Tuning",
    "Venue",
    "VenueRules",
    "allocate",
    "allocate_exhaustive",
    "allocate_greedy_l2",
    "allocate_many",
    "backtest",
    "compute_cost",
    "place",
    "placement_cost",
    "read_feed",
    "route_many",
    "run_test_harness",
    "tune",
]

# What takes long to import and most runs do without; ``backtest`` is the folder, which may be called.
_LATER = ("Orders", "ParentOrder", "Rules", "Session", "Study", "Tuning", "backtest", "tune")


def __getattr__(name: str) -> Any:
    if name == "__version__":  # as it was installed
        return importlib.import_module("importlib.metadata").version("sor")
    if name not in _LATER:
        raise AttributeError(f"module 'sor' has no attribute {name!r}")
    module = importlib.import_module("sor.backtest")
    return module if name == "backtest" else getattr(module, name)


logging.getLogger(__name__).addHandler(logging.NullHandler())
