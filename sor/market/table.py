"""Rows of a CSV file whose columns go by name, in any case and order."""

from __future__ import annotations

from collections.abc import Iterable

from sor.errors import DataError
from sor.market.databento_csv import split_row


def names_of(header: bytes) -> list[str]:
    """The names in a first line, in lower case; a line that is no CSV has none."""
    try:
        return [name.strip().lower() for name in split_row(header.removeprefix(b"\xef\xbb\xbf"))]
    except DataError:
        return []


class Table:
    """The columns of a file.

    Parameters
    ----------
    header : bytes
        The file's first line.
    required : iterable of str
        Columns that it must have; it may have more.
    what : str
        What such a file is called in an error.

    Attributes
    ----------
    place : dict of str to int
        Where each column stands.

    Raises
    ------
    DataError
        A column is missing or stands twice.
    """

    def __init__(self, header: bytes, required: Iterable[str], what: str) -> None:
        names = names_of(header)
        self.place = {name: i for i, name in enumerate(names)}
        missing = [name for name in required if name not in self.place]
        if missing:
            shown = ", ".join(names)[:200]
            raise DataError(f"no column {', '.join(missing)} in the header {shown!r}: {what} has it", "header")
        twice = [name for i, name in enumerate(names) if self.place[name] != i]
        if twice:
            raise DataError(f"the column {twice[0][:60]!r} stands twice in the header", "header")
        self._count = len(names)

    def cells(self, raw: bytes) -> list[str]:
        """The cells of a row, as many as there are columns."""
        cells = split_row(raw)
        if len(cells) != self._count:
            raise DataError(f"{len(cells)} cells under {self._count} columns", "cells")
        return cells
