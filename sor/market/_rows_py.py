"""Rows of a CSV file as numbers, from the bytes as they lie in the file.

One source for both backends: run as it stands, or compiled as ``sor.market._rows`` with the C types that
``_rows.pxd`` gives its names (`sor.kernels` picks).

Only what is spelled as it usually is is read here. At any other row reading stops, and whoever called decodes that row
cell by cell: nothing is refused here, and no meaning is given to anything that could have another.
"""

from __future__ import annotations

from array import array
from datetime import date
from typing import TYPE_CHECKING, Any

from sor.market.columns import NO_PRICE, PRICE_UNITS
from sor.market.fields import (
    DOUBTFUL,
    EXACT_UNITS,
    LARGEST_TIME,
    SMALLEST_INTEGER_PRICE,
    SMALLEST_INTEGER_TIME,
    UNDEFINED_PRICE,
    UNDEFINED_SIZE,
)
from sor.market.update import BookUpdate, Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sor.market.update import Level

KINDS = ("other", "time", "price", "size", "whole", "code", "letter", "symbol")
OTHER, TIME, PRICE, SIZE, WHOLE, CODE, LETTER, SYMBOL = range(8)
NEEDED = -(2**62)  # what an empty cell means, where there must be something
NEW_LINE, RETURN, QUOTE, COMMA, MINUS, POINT, ZERO, COLON, T, Z = b'\n\r",-.0:TZ'
ASCII = 128
SECOND = 10**9  # ns
EPOCH = date(1970, 1, 1).toordinal()
# Where `sor.market.columns.Columns` has them in a row.
TIME_AT, RECEIPT_AT, SEQUENCE_AT, SYMBOL_AT, PUBLISHER_AT, ACTION_AT, SIDE_AT, PRICE_AT, SIZE_AT, FLAGS_AT = range(10)
LEVELS_AT = 10  # bids' prices and sizes, then those of the asks


class RowReader:
    """Reads usual rows.

    Parameters
    ----------
    kinds : list of str
        What each column holds, of `KINDS`.
    slots : list of int
        Where in a row of cells it goes; -1: nowhere.
    empty : list of int or None
        What an empty cell means; None: there must be something.
    high : list of int
        The largest size, whole number or code.
    allowed : list of bytes
        By column, 1 for each letter or code (of 256) that it may hold, else 0.
    symbols : dict
        Numbers by symbol, as it is spelled; whoever calls adds to it.
    cells : array of int64, (rows, slots)
        Where rows are written.

    Attributes
    ----------
    names : list of str
        Symbols by number, where `update` is called; whoever calls adds to it.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        slots: Sequence[int],
        empty: Sequence[int | None],
        high: Sequence[int],
        allowed: list[bytes],
        symbols: dict[bytes, int],
        cells: NDArray[Any],
    ) -> None:
        self.kinds = array("q", [KINDS.index(kind) for kind in kinds])
        self.slots = array("q", slots)
        self.empty = array("q", [NEEDED if value is None else value for value in empty])
        self.high = array("q", high)
        self.allowed, self.symbols = allowed, symbols
        self.cells = cells
        self.names: list[str] = []
        self.count = len(kinds)
        self.at = 0  # where reading stopped
        self.value = 0  # of the cell read last
        self.day = -1  # of the time read last, as yyyymmdd
        self.midnight = 0  # when it began, ns
        self.last = b""  # the symbol read last
        self.last_number = -1

    def fill(self, block: bytes, at: int, row: int, pointed: int) -> int:
        """Read rows of ``block`` from ``at`` on into the cells from ``row`` on.

        ``pointed``: whether prices have a point (1) or are integers of 1e-9 dollars (0); -1: nobody knows, and a row
        with a price is unusual. Reading stops where the cells or the whole lines of ``block`` end, or before the first
        row that is unusual: `at` is where then.

        Returns
        -------
        int
            The first row of the cells that is free.
        """
        # Every scan stops at a line break, so none goes beyond the last one.
        end = block.rfind(b"\n") + 1
        text = block
        rows = len(self.cells)
        self.at = at
        while row < rows and self.at < end:
            at = self.read_row(text, self.at, end, row, pointed, block)
            if at < 0:
                break
            self.at = at
            row += 1
        return row

    def update(self, line: bytes, levels: int, pointed: int, flags: int) -> BookUpdate | None:
        """One row, without its line break, by way of the first of the cells; None where it is unusual.

        ``flags``: the bits of them that are wanted beside those that doubt the book.
        """
        block = line + b"\n"
        if self.read_row(block, 0, len(block), 0, pointed, block) != len(block):
            return None
        cells = self.cells
        event = None
        if cells[0, ACTION_AT]:
            price = None if cells[0, PRICE_AT] == NO_PRICE else float(cells[0, PRICE_AT] / PRICE_UNITS)
            event = Event(chr(cells[0, ACTION_AT]), chr(cells[0, SIDE_AT]), price, int(cells[0, SIZE_AT]))
        return BookUpdate(
            self.names[cells[0, SYMBOL_AT]],
            int(cells[0, PUBLISHER_AT]),
            int(cells[0, TIME_AT]),
            None if cells[0, SEQUENCE_AT] < 0 else int(cells[0, SEQUENCE_AT]),
            shown(cells, LEVELS_AT, levels),
            shown(cells, LEVELS_AT + 2 * levels, levels),
            event,
            int(cells[0, FLAGS_AT] & DOUBTFUL),
            int(cells[0, RECEIPT_AT]),
            int(cells[0, FLAGS_AT] & flags),
        )

    def read_row(self, text: bytes, at: int, end: int, row: int, pointed: int, block: bytes) -> int:
        """Read the row at ``at``; where the next one begins, or -1 if it is unusual."""
        for column in range(self.count):
            kind = self.kinds[column]
            if text[at] == COMMA or text[at] == NEW_LINE or text[at] == RETURN:
                self.value = self.empty[column]
                if self.value == NEEDED:
                    return -1
            elif kind == OTHER:
                at = passed_over(text, at)
            elif kind == PRICE:
                at = self.read_price(text, at, pointed)
            elif kind == TIME:
                at = self.read_time(text, at, end)
            elif kind == SYMBOL:
                at = self.read_symbol(block, text, at)
            elif kind == LETTER:
                self.value = text[at]
                at = at + 1 if self.allowed[column][text[at]] else -1
            else:
                at = self.read_number(text, at)
                if self.value == UNDEFINED_SIZE and kind == SIZE:
                    self.value = 0
                if self.value > self.high[column] or (kind == CODE and not self.allowed[column][self.value]):
                    return -1
            if at < 0:
                return -1
            if self.slots[column] >= 0:
                self.cells[row, self.slots[column]] = self.value
            if column < self.count - 1:
                if text[at] != COMMA:
                    return -1
                at += 1
        if text[at] == RETURN:
            at += 1
        return at + 1 if text[at] == NEW_LINE else -1

    def read_number(self, text: bytes, at: int) -> int:
        """Its digits; where they end, or -1."""
        start = at
        number = 0
        while ZERO <= text[at] <= ZERO + 9 and at < start + 18:
            number = 10 * number + (text[at] - ZERO)
            at += 1
        if ZERO <= text[at] <= ZERO + 9:  # the nineteenth, which need not fit 64 bits with a sign
            if number > UNDEFINED_PRICE // 10 or (number == UNDEFINED_PRICE // 10 and text[at] > ZERO + 7):
                return -1
            number = 10 * number + (text[at] - ZERO)
            at += 1
        self.value = number
        return at if at > start else -1

    def read_price(self, text: bytes, at: int, pointed: int) -> int:
        start = at
        at = self.read_number(text, at)
        if at < 0:
            return -1
        units = self.value
        if text[at] != POINT:
            if units == 0 or units == UNDEFINED_PRICE:
                self.value = UNDEFINED_PRICE
                return at
            return at if pointed == 0 and SMALLEST_INTEGER_PRICE <= units < EXACT_UNITS else -1
        if pointed != 1 or at > start + 7:
            return -1
        at += 1
        places = 9
        while places > 0:
            if ZERO <= text[at] <= ZERO + 9:
                units = 10 * units + (text[at] - ZERO)
                at += 1
            else:
                units = 10 * units
            places -= 1
        self.value = UNDEFINED_PRICE if units == 0 else units
        return at if units < EXACT_UNITS else -1

    def read_time(self, text: bytes, at: int, end: int) -> int:
        if at + 30 < end and text[at + 4] == MINUS:
            return self.read_iso(text, at)
        at = self.read_number(text, at)
        return at if at >= 0 and SMALLEST_INTEGER_TIME <= self.value < LARGEST_TIME else -1

    def read_iso(self, text: bytes, at: int) -> int:
        """As in 2024-08-01T13:36:32.491911683Z."""
        if (
            text[at + 7] != MINUS or text[at + 10] != T or text[at + 13] != COLON
            or text[at + 16] != COLON or text[at + 19] != POINT or text[at + 29] != Z
        ):  # fmt: skip
            return -1
        year, month, day = digits(text, at, 4), digits(text, at + 5, 2), digits(text, at + 8, 2)
        hour, minute, second = digits(text, at + 11, 2), digits(text, at + 14, 2), digits(text, at + 17, 2)
        rest = digits(text, at + 20, 9)
        if year < 0 or month < 0 or day < 0 or not 0 <= hour < 24 or not 0 <= minute < 60 or not 0 <= second < 60:
            return -1
        if rest < 0:
            return -1
        if 10_000 * year + 100 * month + day != self.day:
            self.midnight = midnight_of(year, month, day)
            self.day = 10_000 * year + 100 * month + day if self.midnight > 0 else -1
        if self.day < 0:
            return -1
        self.value = self.midnight + ((hour * 60 + minute) * 60 + second) * SECOND + rest
        return at + 30

    def read_symbol(self, block: bytes, text: bytes, at: int) -> int:
        last = self.last
        length = len(last)
        same = 0
        while same < length and text[at + same] == last[same]:
            same += 1
        stop = at + same
        if same < length or not (text[stop] == COMMA or text[stop] == NEW_LINE or text[stop] == RETURN):
            while not (text[stop] == COMMA or text[stop] == NEW_LINE or text[stop] == RETURN):
                stop += 1
            last = block[at:stop]
            if last not in self.symbols:
                return -1
            self.last, self.last_number = last, self.symbols[last]
        self.value = self.last_number
        return stop


def shown(cells: NDArray[Any], at: int, levels: int) -> list[Level | None]:
    """What one side shows: prices from ``at`` on, then sizes."""
    found: list[Level | None] = []
    for level in range(at, at + levels):
        if cells[0, level] == NO_PRICE or cells[0, level + levels] == 0:
            found.append(None)
        else:
            found.append((float(cells[0, level] / PRICE_UNITS), int(cells[0, level + levels])))
    return found


def passed_over(text: bytes, at: int) -> int:
    """The end of a cell that nobody asked for; -1 where it is quoted or not ASCII."""
    while text[at] != COMMA and text[at] != NEW_LINE:
        if text[at] == QUOTE or text[at] >= ASCII:
            return -1
        at += 1
    return at - 1 if text[at] == NEW_LINE and text[at - 1] == RETURN else at


def digits(text: bytes, at: int, count: int) -> int:
    """The number that so many digits make, or -1."""
    number = 0
    for i in range(count):
        if not ZERO <= text[at + i] <= ZERO + 9:
            return -1
        number = 10 * number + (text[at + i] - ZERO)
    return number


def midnight_of(year: int, month: int, day: int) -> int:
    """When a day began, ns since the epoch; -1 where there is no such day, or maybe none."""
    if not 1970 < year < 2262:
        return -1
    try:
        return (date(year, month, day).toordinal() - EPOCH) * 86_400 * SECOND
    except ValueError:
        return -1
