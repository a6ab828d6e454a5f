"""Databento MBP-1 and MBP-10 as CSV (``map_symbols`` on, so that there is a symbol column)."""

from __future__ import annotations

import csv

from sor.errors import DataError
from sor.market.fields import integer_of, price_of, size_of, symbol_of, time_of
from sor.market.update import EVENT, BookUpdate, Level, event_of

REQUIRED = ("ts_event", "publisher_id", "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00", "symbol")
KNOWN_LEVELS = 50_000  # spelled levels remembered: a few megabytes
KNOWN_PUBLISHERS = 1_000  # the same of publisher ids


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

    Raises
    ------
    DataError
        A column is missing or stands twice.
    """

    def __init__(self, header: bytes, depth: int = 10, *, events: bool = False) -> None:
        self.columns = [name.strip() for name in split_row(header.removeprefix(b"\xef\xbb\xbf"))]
        place = {name: i for i, name in enumerate(self.columns)}
        missing = [name for name in REQUIRED if name not in place]
        if missing:
            raise DataError(
                f"no column {', '.join(missing)} in the header {', '.join(self.columns)[:200]!r}: Databento MBP-1 or "
                "MBP-10 as CSV is needed (with the symbol mapped)",
                "header",
            )
        if len(place) < len(self.columns):
            raise DataError("a column stands twice in the header", "header")
        self._time, self._publisher, self._symbol = place["ts_event"], place["publisher_id"], place["symbol"]
        self._sequence = place.get("sequence")
        self._bids = _level_columns("bid", place, depth)
        self._asks = _level_columns("ask", place, depth)
        self._event = [place[name] for name in EVENT] if events and place.keys() >= set(EVENT) else None
        self._publishers: dict[str, int] = {}
        self._known: dict[tuple[str, str], Level | None] = {}  # a feed repeats its prices and sizes all day

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one row.

        Raises
        ------
        DataError
            A wrong number of cells, or a cell that is not what its column holds.
        """
        cells = self.cells(raw)
        venue = cells[self._publisher]
        publisher = self._publishers.get(venue)
        if publisher is None:
            publisher = integer_of("publisher_id", venue, 65535)
            if len(self._publishers) < KNOWN_PUBLISHERS:
                self._publishers[venue] = publisher
        sequence = self._sequence
        return BookUpdate(
            symbol_of(cells[self._symbol]),
            publisher,
            time_of("ts_event", cells[self._time]),
            integer_of("sequence", cells[sequence], 2**64 - 1) if sequence is not None and cells[sequence] else None,
            self._levels(cells, self._bids),
            self._levels(cells, self._asks),
            None if self._event is None else event_of(*[cells[at] for at in self._event]),
        )

    def _levels(self, cells: list[str], columns: list[tuple[str, int, str, int]]) -> list[Level | None]:
        levels = []
        known = self._known
        for price_name, price_at, size_name, size_at in columns:
            spelled = cells[price_at], cells[size_at]
            try:
                levels.append(known[spelled])
            except KeyError:
                price, size = price_of(price_name, spelled[0]), size_of(size_name, spelled[1])
                level = (price, size) if size and price is not None else None
                if len(known) >= KNOWN_LEVELS:
                    known.clear()
                known[spelled] = level
                levels.append(level)
        return levels

    def cells(self, raw: bytes) -> list[str]:
        """The row's cells, as many as there are columns."""
        cells = split_row(raw)
        if len(cells) != len(self.columns):
            raise DataError(f"{len(cells)} cells under {len(self.columns)} columns", "cells")
        return cells


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
