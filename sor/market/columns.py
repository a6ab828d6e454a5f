"""Market data as columns: what every format is read into where rows are many."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from sor.errors import DataError, InputError
from sor.market.fields import DOUBTFUL, UNDEFINED_PRICE, units_of
from sor.market.update import BookUpdate, Event, Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_PRICE = UNDEFINED_PRICE  # in a column of prices: nothing is shown, or nothing said
NO_SEQUENCE = 2**64 - 1
STANDS = -1  # in a column of sizes: the row shows no book, and what its publisher showed before stands
NOTHING = {  # what stands in a column where nothing is told or shown
    "receipt": 0,
    "sequence": NO_SEQUENCE,
    "price": NO_PRICE,
    "bid_price": NO_PRICE,
    "ask_price": NO_PRICE,
}
PRICE_UNITS = 1_000_000_000  # of a dollar


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Rows of a feed, in its order; each replaces what its publisher showed before, as a `BookUpdate` does.

    But for those that are no quotes: their sizes are `STANDS`, and what was shown stands.

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
        Of what has happened, shares; lots where the feed has an instrument for the symbol.
    flags : uint8
        The feed's own flags, as Databento numbers them.
    bid_price, ask_price : int64, (n, depth)
        1e-9 dollars; `NO_PRICE` where a level shows nothing.
    bid_size, ask_size : int64, (n, depth)
        As ``size``; 0 where a level shows nothing. `STANDS`: the row says only what has happened, such as a trade, and
        is no quote.
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

    @property
    def quotes(self) -> NDArray[np.bool_]:
        """Which rows are quotes; the others say only what has happened."""
        return np.not_equal(self.bid_size[:, 0], STANDS) | np.not_equal(self.ask_size[:, 0], STANDS)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays by their names, without those that are not there."""
        found = ((one.name, getattr(self, one.name)) for one in fields(self) if one.name != "symbols")
        return {name: array for name, array in found if array is not None}

    def update(self, row: int, depth: int | None = None) -> BookUpdate:
        """A row as a `BookUpdate`, with at most ``depth`` levels."""
        bids, asks = (
            _levels(prices[row, :depth], sizes[row, :depth])
            for prices, sizes in ((self.bid_price, self.bid_size), (self.ask_price, self.ask_size))
        )
        sequence, action, side, flags = (int(one[row]) for one in (self.sequence, self.action, self.side, self.flags))
        stands = self.bid_size[row, 0] == STANDS
        owners = () if stands or self.bid_publisher is None else (self.bid_publisher, self.ask_publisher)
        return BookUpdate(
            self.symbols[self.symbol[row]],
            int(self.publisher[row]),
            int(self.time[row]),
            None if sequence == NO_SEQUENCE else sequence,
            None if stands else bids,
            None if stands else asks,
            Event(chr(action), chr(side), _dollars(self.price[row]), int(self.size[row])) if action else None,
            flags & DOUBTFUL,
            int(self.receipt[row]),
            flags,
            *(int(one[row]) for one in owners if one is not None),
        )

    def take(self, rows: Any) -> Batch:
        """The rows that a slice, a mask or an array of numbers picks."""
        return Batch(self.symbols, **{name: np.ascontiguousarray(one[rows]) for name, one in self.columns().items()})

    def to_arrow(self) -> Any:
        """As a ``pyarrow.RecordBatch`` with columns of the same names.

        Null stands for what is not told or not shown, and symbols are a dictionary. Levels after the best have names
        of their own: ``bid_price_1`` is the next after ``bid_price``.

        Raises
        ------
        InputError
            pyarrow is not installed.
        """
        package = arrow()
        columns = {}
        for name, values in self.columns().items():
            if name == "symbol":
                columns[name] = package.DictionaryArray.from_arrays(
                    values, package.array(self.symbols, package.string())
                )
            elif values.ndim == 1:
                columns[name] = _arrow_array(package, name, values)
            else:
                for level in range(self.depth):
                    columns[level_name(name, level)] = _arrow_array(package, name, values[:, level])
        return package.RecordBatch.from_pydict(columns)


def level_name(name: str, level: int) -> str:
    """What a column of a level is called where each level is a column."""
    return f"{name}_{level}" if level else name


def arrow() -> Any:
    """The package pyarrow.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise InputError("pyarrow is not installed: pip install 'sor[parquet]'") from None


def _arrow_array(package: Any, name: str, values: NDArray[Any]) -> Any:
    nothing = NOTHING.get(name)
    found = package.array(np.ascontiguousarray(values), mask=None if nothing is None else values == nothing)
    return found.view(package.timestamp("ns", "UTC")) if name in ("time", "receipt") else found


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of one batch after another's; a symbol may then have several numbers.

    Raises
    ------
    InputError
        Some are consolidated quotes, and some are not.
    """
    if len(batches) == 1:
        return batches[0]
    columns = [batch.columns() for batch in batches]
    if any(one.keys() != columns[0].keys() for one in columns):
        raise InputError("consolidated quotes and quotes of a venue's own are not one feed: read them one by one")
    known = np.cumsum([0, *(len(batch.symbols) for batch in batches)])
    for one, start in zip(columns, known[:-1], strict=True):
        one["symbol"] = one["symbol"] + np.int32(start)
    symbols = tuple(chain.from_iterable(batch.symbols for batch in batches))
    return Batch(symbols, **{name: np.concatenate([one[name] for one in columns]) for name in columns[0]})


def another_kind() -> DataError:
    """The refusal of consolidated quotes among those of one venue, or the other way round."""
    return DataError("consolidated quotes and quotes of a venue's own are not put into the same columns", "schema")


def numbered(batch: Batch, numbers: dict[str, int]) -> Batch:
    """The batch with other numbers of its symbols: those given, to which new ones are added as they appear."""
    by_symbol = np.array([numbers.get(name, -1) for name in batch.symbols], np.int32)
    new = batch.symbol[by_symbol[batch.symbol] < 0]
    appeared, where = np.unique(new, return_index=True)
    for symbol in appeared[np.argsort(where)]:
        by_symbol[symbol] = numbers.setdefault(batch.symbols[symbol], len(numbers))
    return replace(batch, symbols=tuple(numbers), symbol=by_symbol[batch.symbol])


# --- rows into columns -----------------------------------------------------------------------------------------------

ROWS = 2**16  # of a batch, about
SLOTS = ("time", "receipt", "sequence", "symbol", "publisher", "action", "side", "price", "size", "flags")
LEVELS = ("bid_price", "bid_size", "ask_price", "ask_size")  # the slots after these, for each all levels
NARROW = {"symbol": np.int32, "publisher": np.uint16, "action": np.uint8, "side": np.uint8, "flags": np.uint8}


class Columns:
    """Collects rows, at most ``most`` of them, into a `Batch`.

    Attributes
    ----------
    rows : int
        Collected so far.
    cells : int64, (most, slots)
        A row's values side by side, as one is written after the other: those of `SLOTS`, then the levels.
    symbols : dict
        Numbers by symbol.
    consolidated : bool or None
        Whether the rows are consolidated quotes, as the first quote said.
    """

    def __init__(self, depth: int, most: int = ROWS) -> None:
        self.depth = depth
        self.most = most
        self.symbols: dict[str, int] = {}
        self.rows = 0
        self.consolidated: bool | None = None
        self._owners = np.zeros((most, 2), np.uint16)  # of the best bid and the best offer, where they are told
        nothing = [NO_PRICE] * depth, [0] * depth
        self._none = [0, 0, -1, 0, 0, 0, 0, NO_PRICE, 0, 0, *nothing[0], *nothing[1], *nothing[0], *nothing[1]]
        self.cells = np.empty((most, len(self._none)), np.int64)
        self.cells[:] = self._none

    def slot(self, name: str, level: int = 0) -> int:
        """Where a value stands within a row."""
        if name in SLOTS:
            return SLOTS.index(name)
        return len(SLOTS) + LEVELS.index(name) * self.depth + level

    def number(self, symbol: str) -> int:
        return self.symbols.setdefault(symbol, len(self.symbols))

    def add(self, update: BookUpdate) -> None:
        """One more row.

        Raises
        ------
        DataError
            Consolidated quotes among those of one venue, or the other way round: columns hold one kind, and beside it
            rows that are no quotes.
        """
        if update.consolidated is not self.consolidated and update.bids is not None:
            self._begin(update.consolidated)
        if self.consolidated:
            self._owners[self.rows] = update.bid_publisher or 0, update.ask_publisher or 0
        sequence, event = update.sequence, update.event
        sequence = NO_SEQUENCE if sequence is None else sequence
        self.cells[self.rows] = [
            update.time,
            update.receipt,
            sequence - 2**64 if sequence >= 2**63 else sequence,
            self.number(update.symbol),
            update.publisher_id,
            *((0, 0, NO_PRICE, 0) if event is None else _event(event)),
            update.flags | update.doubts & 255,  # a quote that is not firm shows nothing, and has no flag of the feed's
            *_side(update.bids, self.depth),
            *_side(update.asks, self.depth),
        ]
        self.rows += 1

    def _begin(self, consolidated: bool) -> None:
        quotes = self.cells[: self.rows, self.slot("bid_size")] != STANDS
        if self.consolidated is not None or (consolidated and quotes.any()):
            raise another_kind()
        self.consolidated = consolidated

    def take(self) -> Batch:
        """What has been collected; then there is nothing."""
        cells, depth, at = self.cells[: self.rows], self.depth, len(SLOTS)
        columns: dict[str, NDArray[Any]] = {
            name: cells[:, i].astype(NARROW.get(name, np.int64)) for i, name in enumerate(SLOTS)
        }
        columns["sequence"] = columns["sequence"].view(np.uint64)
        levels: list[NDArray[Any]] = [
            cells[:, at + i * depth : at + (i + 1) * depth].copy() for i in range(len(LEVELS))
        ]
        for prices, sizes in (levels[:2], levels[2:]):
            empty = (prices == NO_PRICE) | (sizes == 0)
            prices[empty], sizes[empty & (sizes != STANDS)] = NO_PRICE, 0
        if self.consolidated:
            owners = self._owners[: self.rows]
            columns |= {"bid_publisher": owners[:, 0].copy(), "ask_publisher": owners[:, 1].copy()}
        self.rows = 0
        return Batch(tuple(self.symbols), **columns, **dict(zip(LEVELS, levels, strict=True)))


def _dollars(units: Any) -> float | None:
    return None if units == NO_PRICE else int(units) / PRICE_UNITS


def _levels(prices: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[Level | None]:
    shown: list[Level | None] = []
    for units, size in zip(prices.tolist(), sizes.tolist(), strict=True):
        price = _dollars(units)
        shown.append((price, size) if price is not None and size > 0 else None)
    return shown


def _event(event: Event) -> tuple[int, int, int, int]:
    return ord(event.action), ord(event.side), NO_PRICE if event.price is None else units_of(event.price), event.size


def _side(levels: Sequence[Level | None] | None, depth: int) -> list[int]:
    """Prices of all levels, then their sizes."""
    if levels is None:
        return [NO_PRICE] * depth + [STANDS] * depth
    shown = [*levels[:depth], *[None] * (depth - len(levels))]
    prices = [NO_PRICE if level is None else units_of(level[0]) for level in shown]
    return prices + [0 if level is None else level[1] for level in shown]
