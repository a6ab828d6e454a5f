"""Databento MBP-1, MBP-10 and CMBP-1 as CSV (``map_symbols`` on, so that there is a symbol column)."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from sor.errors import DataError
from sor.kernels import BACKEND, pick
from sor.market.columns import NO_PRICE, Columns
from sor.market.fields import (
    BOOKS,
    DOLLARS,
    DOUBTFUL,
    LARGEST_SIZE,
    SIDE_PUBLISHERS,
    UNITS,
    check_schema,
    check_trades_only,
    consolidated,
    flags_of,
    integer_of,
    one_unit,
    price_of,
    receipt_of,
    side_publisher,
    size_of,
    symbol_of,
    time_of,
    unit_of,
)
from sor.market.update import ACTIONS, EVENT, EVENT_SIDES, BookUpdate, Level, event_of

if TYPE_CHECKING:
    from sor.market import _rows_py as rows
else:
    rows = pick("sor.market._rows")

REQUIRED = ("ts_event", "publisher_id", "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00", "symbol")
KNOWN_LEVELS = 50_000  # spelled levels remembered: a few megabytes
POINTED = {None: -1, UNITS: 0, DOLLARS: 1}  # whether a file's prices have a point
KNOWN_KINDS = 50_000  # the same of symbols and publisher ids with record types and flags


class CsvDecoder:
    """Decodes the rows below one header line.

    Parameters
    ----------
    header : bytes
        The file's first line.
    depth : int
        Levels wanted; a file may have fewer.
    events : bool
        Decode what has happened as well, where there are columns for it.
    receipts : bool
        Decode the time of receipt and keep every flag, too: what research wants, and no routing.
    quick : bool
        Read usual rows from their bytes, without a text for each cell; the answers are the same.

    Raises
    ------
    DataError
        A column is missing or stands twice, or the columns are another schema's.
    """

    def __init__(
        self,
        header: bytes,
        depth: int = 10,
        *,
        events: bool = False,
        receipts: bool = False,
        quick: bool = BACKEND == "cython",
    ) -> None:
        self.columns = [name.strip() for name in split_row(header.removeprefix(b"\xef\xbb\xbf"))]
        place = {name: i for i, name in enumerate(self.columns)}
        sides = [place[name] for name in SIDE_PUBLISHERS if name in place]
        if sides and (len(sides) < len(SIDE_PUBLISHERS) or "rtype" not in place):
            raise consolidated("columns bid_pb_00 and ask_pb_00")
        self._publishers = tuple(sides)  # columns, of consolidated quotes only
        self.consolidated = bool(sides)
        missing = [name for name in REQUIRED if name not in place]
        if missing:
            raise DataError(
                f"no column {', '.join(missing)} in the header {', '.join(self.columns)[:200]!r}: Databento MBP-1 or "
                "MBP-10 as CSV is needed (with the symbol mapped)",
                "header",
            )
        twice = [name for i, name in enumerate(self.columns) if place[name] != i]
        if twice:
            raise DataError(f"the column {twice[0][:60]!r} stands twice in the header", "header")
        self._time, self._publisher, self._symbol = place["ts_event"], place["publisher_id"], place["symbol"]
        self._sequence, self._schema, self._flags = place.get("sequence"), place.get("rtype"), place.get("flags")
        self._action = place.get("action")
        self._more = receipts or self.consolidated
        self._receipt = place.get("ts_recv") if receipts else None
        self.receipts = receipts
        self.all_flags = 255 if receipts else 0
        self.bids = _level_columns("bid", place, depth)
        self.asks = _level_columns("ask", place, depth)
        self._prices = [(name, i) for name, i in place.items() if name.startswith(("bid_px_", "ask_px_"))]
        self._event = [place[name] for name in EVENT] if events and place.keys() >= set(EVENT) else None
        self.events = self._event is not None
        if self._event is not None:
            self._prices.append(("price", place["price"]))
        self.unit: str | None = None  # of the file's prices, from the first ones on
        kind = ("symbol", "publisher_id", "rtype", "flags")
        self._kind = itemgetter(*(place[name] for name in kind if name in place))
        self._kinds: dict[Any, tuple[str, int, int]] = {}  # symbol, publisher and flags, as these cells are spelled
        self._known: dict[tuple[str, str], Level | None] = {}  # a feed repeats its prices and sizes all day
        self._quick = QuickRow(self) if quick and len(self.bids) == len(self.asks) else None

    def learn(self, rows: list[bytes]) -> None:
        """Take the unit of the file's prices from its first rows, and refuse a file that begins with another schema.

        Raises
        ------
        DataError
        """
        first = next(self._whole(rows), None)
        if self._schema is not None and first is not None:
            check_schema(first[self._schema], self.consolidated)
            if self._action is not None:
                schema = "tcbbo" if self.consolidated else "tbbo"
                check_trades_only((cells[self._action] for cells in self._whole(rows)), schema)
        self.unit = unit_of(cells[at] for cells in self._whole(rows) for _, at in self._prices)

    def _whole(self, rows: list[bytes]) -> Iterator[list[str]]:
        """The cells of the rows that have all; split as they are asked for, which is seldom more than one."""
        for row in rows:
            with contextlib.suppress(DataError):
                yield self.cells(row)

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one row.

        Raises
        ------
        DataError
            A wrong number of cells, a cell that is not what its column holds, or a row of another schema.
        """
        if self._quick is not None:
            usual = self._quick.decode(raw)
            if usual is not None:
                return usual
        cells = self.cells(raw)
        known = self._kinds.get(self._kind(cells))
        symbol, publisher, flags = self._new_kind(cells) if known is None else known
        unit = self.unit or unit_of(cells[at] for _, at in self._prices)
        sequence, event = self._sequence, None
        if self._event is not None:
            event = event_of(*[cells[at] for at in self._event])
            one_unit("price", cells[self._event[2]], unit, "file")
        time = time_of("ts_event", cells[self._time])
        number = (
            integer_of("sequence", cells[sequence], 2**64 - 1) if sequence is not None and cells[sequence] else None
        )
        bids, asks = self._levels(cells, self.bids, unit), self._levels(cells, self.asks, unit)
        more = self._others(cells, flags, bids, asks) if self._more else ()
        update = BookUpdate(symbol, publisher, time, number, bids, asks, event, flags & DOUBTFUL, *more)
        if unit is not self.unit:
            self.unit = unit
            self._known.clear()  # of rows that were refused
        if self._quick is not None:
            self._quick.learn(symbol)
        return update

    def _levels(
        self, cells: list[str], columns: list[tuple[str, int, str, int]], unit: str | None
    ) -> list[Level | None]:
        levels = []
        known = self._known
        for price_name, price_at, size_name, size_at in columns:
            spelled = cells[price_at], cells[size_at]
            try:
                levels.append(known[spelled])
            except KeyError:
                price, size = price_of(price_name, spelled[0]), size_of(size_name, spelled[1])
                one_unit(price_name, spelled[0], unit, "file")
                level = (price, size) if size and price is not None else None
                if len(known) >= KNOWN_LEVELS:
                    known.clear()
                known[spelled] = level
                levels.append(level)
        return levels

    def _others(self, cells: list[str], flags: int, *sides: list[Level | None]) -> list[int]:
        """Time of receipt, flags, and of a consolidated row whose each side is."""
        found = [0 if self._receipt is None else receipt_of("ts_recv", cells[self._receipt]), flags & self.all_flags]
        for name, at, levels in zip(SIDE_PUBLISHERS, self._publishers, sides, strict=False):
            found.append(side_publisher(name, cells[at], levels[0] is not None))
        return found

    def _new_kind(self, cells: list[str]) -> tuple[str, int, int]:
        if self._schema is not None:
            check_schema(cells[self._schema], self.consolidated)
        flags = 0 if self._flags is None else flags_of(cells[self._flags])
        symbol = symbol_of(cells[self._symbol])
        found = symbol, integer_of("publisher_id", cells[self._publisher], 65535), flags
        if len(self._kinds) < KNOWN_KINDS:
            self._kinds[self._kind(cells)] = found
        return found

    def check_units(self, cells: list[str]) -> None:
        """Refuse a row whose prices are in another unit than the file's, where nothing else of it is decoded."""
        self.unit = self.unit or unit_of(cells[at] for _, at in self._prices)
        pointed = self.unit == DOLLARS
        for name, at in self._prices:
            if ("." in cells[at]) != pointed:
                one_unit(name, cells[at], self.unit, "file")

    def cells(self, raw: bytes) -> list[str]:
        """The row's cells, as many as there are columns."""
        cells = split_row(raw)
        if len(cells) != len(self.columns):
            raise DataError(f"{len(cells)} cells under {len(self.columns)} columns", "cells")
        return cells


class QuickCsv:
    """Reads rows with the usual spellings into columns; a `CsvDecoder` with events and receipts decodes all others."""

    def __init__(self, decoder: CsvDecoder, columns: Columns) -> None:
        self._decoder = decoder
        self._columns = columns
        self._symbols: dict[bytes, int] = {}
        self._rows = _reader(decoder, columns, self._symbols)

    def fill(self, block: bytes, at: int) -> int:
        """Add the rows of whole lines from ``at`` on to the columns, as many as there is room for; where it stopped."""
        for symbol, number in islice(self._columns.symbols.items(), len(self._symbols), None):
            self._symbols[symbol.encode()] = number
        pointed = POINTED[self._decoder.unit]
        self._columns.rows = self._rows.fill(block, at, self._columns.rows, pointed)
        return int(self._rows.at)


class QuickRow:
    """Decodes rows with the usual spellings one by one, for a `CsvDecoder` that decodes all others."""

    def __init__(self, decoder: CsvDecoder) -> None:
        self._decoder = decoder
        self._levels = len(decoder.bids)
        self._symbols: dict[bytes, int] = {}
        self._rows = _reader(decoder, Columns(self._levels, 1), self._symbols)

    def decode(self, raw: bytes) -> BookUpdate | None:
        decoder = self._decoder
        return self._rows.update(raw, self._levels, POINTED[decoder.unit], decoder.all_flags)

    def learn(self, symbol: str) -> None:
        """A symbol of a row that was decoded."""
        spelled = symbol.encode()
        if spelled not in self._symbols and len(self._symbols) < KNOWN_KINDS:
            self._rows.names.append(symbol)
            self._symbols[spelled] = len(self._symbols)


def _reader(decoder: CsvDecoder, columns: Columns, symbols: dict[bytes, int]) -> rows.RowReader:
    """Of rows as a decoder has them, into cells as columns have them."""
    kinds = _kinds(decoder, columns.slot)
    whats = [kinds.get(i, _OTHER) for i in range(len(decoder.columns))]
    kind, slot, empty, high, allowed = map(list, zip(*whats, strict=True))
    return rows.RowReader(kind, slot, empty, high, allowed, symbols, columns.cells)


def _kinds(decoder: CsvDecoder, slot: Callable[..., int]) -> dict[int, _Kind]:
    """What is in the columns that are wanted, by their place."""
    place = {name: i for i, name in enumerate(decoder.columns)}
    kinds = {
        "ts_event": _Kind("time", slot("time")),
        "symbol": _Kind("symbol", slot("symbol")),
        "publisher_id": _Kind("whole", slot("publisher"), high=65535),
        "sequence": _Kind("whole", slot("sequence"), empty=-1, high=2**63 - 1),
        "flags": _Kind("whole", slot("flags"), empty=0, high=255),
        "rtype": _Kind("code", empty=0, high=255, allowed=_table(BOOKS)),
    }
    if decoder.receipts:
        kinds["ts_recv"] = _Kind("time", slot("receipt"), empty=0)
    if decoder.consolidated:  # no row is usual
        kinds["rtype"] = _Kind("code", high=255, allowed=_table(()))
    if decoder.events:
        kinds |= {
            "action": _Kind("letter", slot("action"), allowed=_table(map(ord, ACTIONS))),
            "side": _Kind("letter", slot("side"), empty=ord("N"), allowed=_table(map(ord, EVENT_SIDES))),
            "price": _Kind("price", slot("price"), empty=NO_PRICE),
            "size": _Kind("size", slot("size"), empty=0, high=LARGEST_SIZE),
        }
    for side, levels in (("bid", decoder.bids), ("ask", decoder.asks)):
        for level, (price, _, size, _) in enumerate(levels):
            kinds[price] = _Kind("price", slot(f"{side}_price", level), empty=NO_PRICE)
            kinds[size] = _Kind("size", slot(f"{side}_size", level), empty=0, high=LARGEST_SIZE)
    return {place[name]: kind for name, kind in kinds.items() if name in place}


class _Kind(NamedTuple):
    """What `RowReader` has to know of a column."""

    kind: str
    slot: int = -1
    empty: int | None = None
    high: int = 0
    allowed: bytes = b""


_OTHER = _Kind("other", empty=0)


def _table(allowed: Iterable[int]) -> bytes:
    """1 for each of 256 that is allowed."""
    found = set(allowed)
    return bytes(code in found for code in range(256))


def split_row(raw: bytes) -> list[str]:
    """Cells of one line; a quoted cell may hold a comma but no line break."""
    try:
        text = raw.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error.reason} at byte {error.start}", "encoding") from None
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise DataError(f"not a CSV row: {error}", "csv") from None


def _level_columns(side: str, place: dict[str, int], depth: int) -> list[tuple[str, int, str, int]]:
    columns = []
    for level in range(depth):
        price, size = f"{side}_px_{level:02d}", f"{side}_sz_{level:02d}"
        if price not in place or size not in place:
            break
        columns.append((price, place[price], size, place[size]))
    return columns
