"""Market data as columns: what every format is read into where rows are many."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from sor.market.fields import UNDEFINED_PRICE

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_PRICE = UNDEFINED_PRICE  # in a column of prices: nothing is shown, or nothing said
NO_SEQUENCE = 2**64 - 1
PRICE_UNITS = 1_000_000_000  # of a dollar


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Rows of a feed, in its order; each replaces what its publisher showed before, as a `BookUpdate` does.

    All arrays are C-contiguous and have the same first length, n; those of levels have the shape (n, depth).

    Attributes
    ----------
    symbols : tuple of str
        Names of the symbols, by number.
    symbol : int32
        Number of the row's symbol.
    time : int64
        Event time, nanoseconds since the epoch, UTC.
    receipt : int64
        When the row was received, as ``time``; 0 where it is not told.
    sequence : uint64
        The venue's message number; `NO_SEQUENCE` where it is not told.
    publisher : uint16
        Databento's number of the feed and venue.
    action, side : uint8
        ASCII codes of what has happened, as `sor.market.Event` has them; 0 where it is not told.
    price : int64
        Of what has happened, 1e-9 dollars; `NO_PRICE` where it has none.
    size : int64
        Of what has happened, shares.
    flags : uint8
        The feed's own flags, as Databento numbers them.
    bid_price, ask_price : int64, (n, depth)
        1e-9 dollars; `NO_PRICE` where a level shows nothing.
    bid_size, ask_size : int64, (n, depth)
        Shares; 0 where a level shows nothing.
    bid_publisher, ask_publisher : uint16 or None
        Consolidated quotes only: whose the best bid and the best offer are, 0 where there is none. Then every other
        publisher's side that is not at the new best price is unknown.
    """

    symbols: tuple[str, ...]
    symbol: NDArray[np.int32]
    time: NDArray[np.int64]
    receipt: NDArray[np.int64]
    sequence: NDArray[np.uint64]
    publisher: NDArray[np.uint16]
    action: NDArray[np.uint8]
    side: NDArray[np.uint8]
    price: NDArray[np.int64]
    size: NDArray[np.int64]
    flags: NDArray[np.uint8]
    bid_price: NDArray[np.int64]
    bid_size: NDArray[np.int64]
    ask_price: NDArray[np.int64]
    ask_size: NDArray[np.int64]
    bid_publisher: NDArray[np.uint16] | None = None
    ask_publisher: NDArray[np.uint16] | None = None

    def __len__(self) -> int:
        return len(self.time)

    @property
    def depth(self) -> int:
        """Levels on each side."""
        return int(self.bid_price.shape[1])

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays by their names, without those that are not there."""
        found = ((one.name, getattr(self, one.name)) for one in fields(self) if one.name != "symbols")
        return {name: array for name, array in found if array is not None}

    def take(self, rows: Any) -> Batch:
        """The rows that a slice, a mask or an array of numbers picks."""
        return Batch(self.symbols, **{name: np.ascontiguousarray(one[rows]) for name, one in self.columns().items()})
