"""Parquet: the columnar form itself, and any file with the columns of the plain form.

The columnar form has the columns of `Batch.to_arrow`; docs/formats.md lists them. Other files need ``time, venue,
symbol, bid, ask, bid_size, ask_size``, and may have more levels: ``bid_1`` and so on, and trades beside them: ``price,
size``; or, of trades alone, ``time, venue, symbol, price, size``.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.json import decode, encode
from msgspec.structs import replace

from sor.errors import DataError, InputError, StreamError
from sor.market import storage
from sor.market.columns import (
    LEVELS,
    NO_PRICE,
    NOTHING,
    PRICE_UNITS,
    ROWS,
    SLOTS,
    STANDS,
    Batch,
    Columns,
    arrow,
    joined,
    level_name,
    numbered,
)
from sor.market.databento_json import LEVELS as MOST_LEVELS
from sor.market.databento_json import message_from
from sor.market.fields import (
    LARGEST_PRICE,
    LARGEST_SIZE,
    LARGEST_TIME,
    integer_of,
    price_of,
    symbol_of,
    time_of,
)
from sor.market.instruments import SHARES, Instruments, sizes_of
from sor.market.packed import Unpacked
from sor.market.plain import taker_side
from sor.market.update import ACTIONS, EVENT_SIDES, BookUpdate, Level, Tally, trade_of
from sor.market.venues import VenueDirectory
from sor.market.whole_file import WholeFile
from sor.types import MOST_LOTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

BEGINS = b"PAR1"
VERSION = (b"sor.feed", b"1")  # in the file's metadata: that it is the columnar form, and which
LOTS = b"sor.lots"  # there, too: lots by symbol as JSON, where not all sizes are shares
MADE_OF = b"sor.made_of"  # there, too, of a file that need not be made again
GROUP = 2**17  # rows of a row group, which are read at a time
RISING = ("time", "receipt", "sequence")  # columns whose differences are small
CONSOLIDATED = ("bid_publisher", "ask_publisher")
PLAIN = ("time", "venue", "symbol", "bid", "ask", "bid_size", "ask_size")
TRADES = ("time", "venue", "symbol", "price", "size")


def write_parquet(
    batches: Iterable[Batch], path: str | os.PathLike[str], instruments: Instruments | None = None
) -> int:
    """Write a feed's columns; the same rows give the same bytes, however they come in batches.

    Parameters
    ----------
    batches : iterable of Batch
        Such as a `Feed`, all of one depth.
    path : path
        It has its name once it is whole.
    instruments : Instruments, optional
        Those that the batches were read with, by default a feed's own.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    InputError
        pyarrow is not installed, or the file cannot be written; or as the feed does.
    StreamError
        As the feed does; then there is no file.
    """
    with ParquetFile(path, getattr(batches, "instruments", SHARES) if instruments is None else instruments) as file:
        for batch in batches:
            file.add(batch)
    return file.rows


class TableFile(WholeFile):
    """A Parquet file, to be filled within a ``with``: it has its name once that has ended well.

    Parameters
    ----------
    path : path
    rising : tuple of str
        Columns whose differences are small.

    Attributes
    ----------
    rows : int
        Added so far.

    Raises
    ------
    InputError
        pyarrow is not installed, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], rising: tuple[str, ...]) -> None:
        arrow()
        super().__init__(path)
        self.rows = 0
        self._rising = rising
        self._writer: Any = None

    def write(self, table: Any) -> None:
        """Write an Arrow table, or a batch, as a row group."""
        with self.writing():
            if self._writer is None:
                self._writer = importlib.import_module("pyarrow.parquet").ParquetWriter(
                    self.file,
                    table.schema,
                    compression="zstd",
                    use_dictionary=[name for name in table.schema.names if name not in self._rising],
                    column_encoding=dict.fromkeys(self._rising, "DELTA_BINARY_PACKED"),
                    write_page_checksum=True,
                )
            self._writer.write(table, row_group_size=GROUP)

    def flush(self) -> None:
        """Write what has been added and is held."""

    def end(self) -> None:
        self.flush()
        with self.writing():
            self._writer.close()

    def leave(self) -> None:
        """A writer that is still open would write on when it is collected."""
        if self._writer is not None and self._writer.is_open:
            with contextlib.suppress(Exception):
                self._writer.close()
            self._writer.is_open = False


class ParquetFile(TableFile):
    """A file of the columnar form.

    Parameters
    ----------
    path : path
    instruments : Instruments
        Those that its batches are read with: their lots stand in the file.
    made_of : bytes, optional
        What tells where its rows come from; `made_of` reads it.

    Attributes
    ----------
    held : int
        Rows added that wait for their row group to be full.
    """

    def __init__(
        self, path: str | os.PathLike[str], instruments: Instruments = SHARES, made_of: bytes | None = None
    ) -> None:
        super().__init__(path, RISING)
        lots = instruments.lots()
        self._metadata = dict([VERSION]) | ({LOTS: encode(lots)} if lots else {})
        if made_of is not None:
            self._metadata[MADE_OF] = made_of
        self.held = 0
        self._batches: list[Batch] = []

    def add(self, batch: Batch) -> None:
        self.rows += len(batch)
        self.held += len(batch)
        self._batches.append(batch)
        while self.held > GROUP:
            whole = joined(self._batches)
            self._batches = [whole.take(slice(GROUP, None))]
            self.held -= GROUP
            self._write(whole.take(slice(GROUP)))

    def flush(self) -> None:
        if self.held or self._writer is None:
            whole, self._batches, self.held = joined(self._batches or [Columns(1, 0).take()]), [], 0
            self._write(whole)

    def _write(self, group: Batch) -> None:
        """A row group, with the symbols that appear in it."""
        self.write(numbered(group, {}).to_arrow().replace_schema_metadata(self._metadata))


def made_of(path: str) -> bytes | None:
    """What a file says of where its rows come from; None: nothing, or there is none that is whole."""
    package, parquet = arrow(), importlib.import_module("pyarrow.parquet")
    try:
        if not storage.exists(path):
            return None
        metadata = parquet.read_schema(storage.opened(path) if storage.is_remote(path) else path).metadata or {}
    except (OSError, package.ArrowException):
        return None
    found: bytes | None = metadata.get(MADE_OF)
    return found


def read_parquet(
    file: Unpacked,
    depth: int,
    tally: Tally,
    instruments: Instruments = SHARES,
    directory: VenueDirectory | None = None,
) -> Iterator[Batch]:
    """The rows of a Parquet file, a part of a row group at a time; sizes are in lots where there are instruments.

    Venues that the plain form names are those of the directory, by default of the built-in one.

    Raises
    ------
    InputError
        pyarrow is not installed, the file is packed or a pipe, it has other columns, or its sizes count other lots.
    StreamError
        It is damaged; all rows before that have been given.
    """
    package, parquet = arrow(), importlib.import_module("pyarrow.parquet")
    remote = storage.is_remote(file.path)
    if not (remote or os.path.isfile(file.path)) or file.packing is not None:
        raise InputError(f"{file.path} is Parquet, which is read from a file only, unpacked and no pipe")
    row = 0
    try:
        # A buffer ahead would keep what it has read of every row group.
        where = storage.opened(file.path) if remote else file.path
        with parquet.ParquetFile(where, pre_buffer=False, page_checksum_verification=True) as source:
            names, rows_of = _form(source.schema_arrow, depth, file.path, instruments, directory)
            for part in source.iter_batches(ROWS, columns=names):
                yield rows_of(part, depth, row + 1, tally)
                row += part.num_rows
    except (OSError, UnicodeDecodeError, package.ArrowException) as error:  # names and texts are not checked when read
        raise StreamError(f"{file.path}, after row {row}: {error}") from None


class _Refused:
    """Holds what is refused of the rows being read."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}

    def refuse(self, row: int, error: DataError) -> None:
        self.rows[row] = str(error)

    def skip(self, why: str, rows: int) -> None:
        """Nothing is left out of Parquet."""


def messages(
    file: Unpacked, instruments: Instruments = SHARES, directory: VenueDirectory | None = None
) -> Iterator[list[tuple[int, bytes]]]:
    """The rows as JSON that `JsonDecoder` takes, or refuses where they are refused, with their numbers from 1 on.

    Raises
    ------
    InputError
    StreamError
        As `read_parquet`.
    """
    refused, row = _Refused(), 1
    for batch in read_parquet(file, MOST_LEVELS, refused, instruments, directory):
        end = row + len(batch) + len(refused.rows)
        good = iter(range(len(batch)))
        yield [
            (number, encode({"refused": refused.rows[number]}))
            if number in refused.rows
            else (number, message_from(_shallow(batch.update(next(good))), instruments))
            for number in range(row, end)
        ]
        row = end
        refused.rows.clear()


def _shallow(update: BookUpdate) -> BookUpdate:
    """Without levels at the end that show nothing on either side."""
    depth = max(
        (i for side in (update.bids or (), update.asks or ()) for i, one in enumerate(side, 1) if one), default=1
    )
    bids, asks = (None if side is None else side[:depth] for side in (update.bids, update.asks))
    return replace(update, bids=bids, asks=asks)


def _form(
    schema: Any, depth: int, path: str, instruments: Instruments, directory: VenueDirectory | None
) -> tuple[list[str], Callable[[Any, int, int, Tally], Batch]]:
    """The columns to read, and what makes rows of them."""
    version = (schema.metadata or {}).get(VERSION[0])
    if version not in (None, VERSION[1]):
        raise InputError(f"{path} is of form {version!r}: this version of sor reads {VERSION[1]!r}")
    required = list(PLAIN) if version is None else [*SLOTS, *LEVELS]
    if version is None and not {*PLAIN[3:]} & {*schema.names} and {*TRADES} <= {*schema.names}:
        required = list(TRADES)
    missing = [name for name in required if name not in schema.names]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}: Parquet must have the columns {', '.join(required)}, and has "
            f"{', '.join(schema.names)[:200]}"
        )
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise InputError(f"{path}: the column {twice[0][:60]!r} stands twice")
    more = [level_name(name, level) for level in range(1, depth) for name in required if name in (*LEVELS, *PLAIN[3:])]
    names = [*required, *(name for name in [*more, *CONSOLIDATED] if name in schema.names)]
    if version is None:
        terms = instruments, directory or VenueDirectory.load()
        if required == list(TRADES):
            return [*names, *({"side"} & {*schema.names})], partial(_plain_rows, partial(_trade, *terms))
        levels = [[level_name(name, level) for name in PLAIN[3:]] for level in range(depth)]
        levels = [level for level in levels if {*level} <= {*names}]
        if {*TRADES} <= {*schema.names}:
            names += [*TRADES[3:], *({"side"} & {*schema.names})]
        return names, partial(_plain_rows, partial(_quotes, *terms, levels))
    wanted = Columns(depth, 0).take().to_arrow().schema
    for name in names:
        kind = schema.field(name).type
        if name != "symbol" and name not in CONSOLIDATED and kind != wanted.field(name).type:
            raise InputError(f"{path}: the column {name} is {kind}, and must be {wanted.field(name).type}")
    lots = decode((schema.metadata or {}).get(LOTS, b"{}"), type=dict[str, str])
    check_lots = partial(_check_lots, path, lots, instruments)
    return names, partial(_columnar_rows, check_lots, MOST_LOTS if lots else LARGEST_SIZE)


def _check_lots(path: str, lots: dict[str, str], instruments: Instruments, symbols: Iterable[str]) -> None:
    """Refuse sizes that count other lots than those of the instruments."""
    wanted = instruments.lots()
    for symbol in symbols:
        held, lot = lots.get(symbol, "1"), wanted.get(symbol, "1")
        if held != lot:
            raise InputError(
                f"{path} has sizes of {symbol} in lots of {held}, and its instrument's lot is {lot}: read it with the "
                "instruments that it was written with, or write it anew"
            )


# --- the columnar form -----------------------------------------------------------------------------------------------


def _columnar_rows(
    check_lots: Callable[[Iterable[str]], None], most: int, part: Any, depth: int, row: int, tally: Tally
) -> Batch:
    columns = {name: _numbers(part, name) for name in part.schema.names if name != "symbol"}
    symbols = part.column("symbol")
    symbols = symbols if hasattr(symbols, "dictionary") else symbols.dictionary_encode()
    names = tuple(str(name) for name in symbols.dictionary.to_pylist())
    check_lots(names)
    for name in LEVELS:
        levels = [columns.pop(level_name(name, level), None) for level in range(depth)]
        none = np.full(part.num_rows, NOTHING.get(name, 0), np.int64)
        columns[name] = np.stack([none if level is None else level for level in levels], axis=1)
    columns["side"] = np.where((columns["action"] != 0) & (columns["side"] == 0), np.uint8(ord("N")), columns["side"])
    batch = Batch(names, symbols.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32), **columns)
    return _without(batch, _wrong(batch, most), row, tally)


def _numbers(part: Any, name: str) -> NDArray[Any]:
    column = part.column(name)
    if name in ("time", "receipt"):
        column = column.view("int64")
    if column.null_count:
        column = column.fill_null(NOTHING.get(name.rstrip("_0123456789"), 0))
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _wrong(batch: Batch, most: int) -> dict[str, NDArray[np.bool_]]:
    """The rows that no feed can have written, by reason."""
    actions, sides = np.zeros(256, bool), np.zeros(256, bool)
    actions[[0, *map(ord, ACTIONS)]] = sides[[0, *map(ord, EVENT_SIDES)]] = True
    names = np.array([*map(_is_symbol, batch.symbols), False])
    quotes = batch.quotes[:, None]
    prices = _no_price(batch.price) | (_no_price(batch.bid_price) | _no_price(batch.ask_price)).any(axis=1)
    sizes = _no_size(batch.size, most)
    for shown in (batch.bid_size, batch.ask_size):
        sizes |= (_no_size(shown, most) & (quotes | (shown != STANDS))).any(axis=1)
    times = (batch.time <= 0) | (batch.time >= LARGEST_TIME) | (batch.receipt < 0) | (batch.receipt >= LARGEST_TIME)
    return {
        "symbol": ~names[batch.symbol],
        "time": times,
        "event": ~(actions[batch.action] & sides[batch.side]),
        "price": prices,
        "size": sizes,
    }


def _no_price(units: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(((units <= 0) | (units > LARGEST_PRICE * PRICE_UNITS)) & (units != NO_PRICE))


def _no_size(sizes: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    return np.asarray((sizes < 0) | (sizes > most))


def _is_symbol(name: str) -> bool:
    try:
        return bool(symbol_of(name))
    except DataError:
        return False


def _without(batch: Batch, wrong: dict[str, NDArray[np.bool_]], row: int, tally: Tally) -> Batch:
    """The batch without wrong rows, which are told."""
    left = np.ones(len(batch), bool)
    for reason, rows in wrong.items():
        for i in np.flatnonzero(rows & left):
            tally.refuse(row + int(i), DataError(f"no {reason} that a feed can have", reason))
        left &= ~rows
    return batch if left.all() else batch.take(left)


# --- the plain form --------------------------------------------------------------------------------------------------


def _plain_rows(read: Callable[[dict[str, Any]], BookUpdate], part: Any, depth: int, row: int, tally: Tally) -> Batch:
    columns = Columns(depth, part.num_rows)
    values = {name: _values(part.column(name)) for name in part.schema.names}
    for i in range(part.num_rows):
        try:
            columns.add(read({name: column[i] for name, column in values.items()}))
        except DataError as error:
            tally.refuse(row + i, error)
    return columns.take()


def _values(column: Any) -> list[Any]:
    """As Python has them; times in nanoseconds."""
    if str(column.type).startswith("timestamp"):
        column = column.cast("timestamp[ns]").view("int64")
    if arrow().types.is_temporal(column.type):  # of which Python has not all, as spans in nanoseconds; no column is one
        return [column.type] * len(column)
    return list(column.to_pylist())


def _quotes(
    instruments: Instruments, directory: VenueDirectory, levels: list[list[str]], row: dict[str, Any]
) -> BookUpdate:
    trade = None
    if not (_absent(row.get("price")) and _absent(row.get("size"))):
        trade = _trade(instruments, directory, row)
        if all(_absent(row[name]) for names in levels for name in names):
            return trade
    symbol = symbol_of(row["symbol"])
    size_of = sizes_of(instruments, symbol)
    bids: list[Level | None] = []
    asks: list[Level | None] = []
    for bid, ask, bid_size, ask_size in levels:
        for side, price_name, size_name in ((bids, bid, bid_size), (asks, ask, ask_size)):
            price, size = _dollars(price_name, row[price_name]), size_of(size_name, row[size_name])
            side.append(None if price is None or not size else (price, size))
    publisher, time = _publisher(directory, row["venue"]), time_of("time", row["time"])
    return BookUpdate(symbol, publisher, time, None, bids, asks, None if trade is None else trade.event)


def _absent(value: Any) -> bool:
    return value is None or value != value or value == ""


def _trade(instruments: Instruments, directory: VenueDirectory, row: dict[str, Any]) -> BookUpdate:
    symbol, side = symbol_of(row["symbol"]), row.get("side") or ""
    price, size = _dollars("price", row["price"]), sizes_of(instruments, symbol)("size", row["size"])
    trade = trade_of(taker_side(str(side)), price, size)
    publisher, time = _publisher(directory, row["venue"]), time_of("time", row["time"])
    return BookUpdate(symbol, publisher, time, None, None, None, trade)


def _dollars(name: str, value: Any) -> float | None:
    """A price, which is in dollars with a point or without."""
    text = "" if value is None else str(value).strip()
    return price_of(name, f"{text}.0" if text.isdecimal() else text)


def _publisher(directory: VenueDirectory, venue: Any) -> int:
    """The publisher that a venue's MIC stands for, or a publisher's number."""
    if type(venue) is int or (type(venue) is str and venue.isdecimal()):
        return integer_of("venue", venue, 65535)
    entry = directory.by_mic(venue) if type(venue) is str else None
    if entry is None or not entry.publisher_ids:
        raise DataError(
            f"venue is {str(venue)[:60]!r}: it must be a MIC of the venue directory, or a publisher", "venue"
        )
    return entry.publisher_ids[0]
