"""Writes a feed in the plain form: quotes and trades in one CSV file."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from sor.errors import InputError
from sor.market.columns import NO_PRICE, NO_SEQUENCE, PRICE_UNITS, STANDS, Batch, level_name
from sor.market.fields import iso_of
from sor.market.venues import VenueDirectory
from sor.market.whole_file import WholeFile

KNOWN = 4096  # sides remembered
TRADED = ord("T")
SIDES = {ord("B"): "buy", ord("A"): "sell"}


class PlainFile(WholeFile):
    """A CSV file of the plain form, to be filled within a ``with``: it has its name once that has ended well.

    The form has quotes and trades: of what has happened otherwise only the quote is kept, and no time of receipt and
    no flag.

    Parameters
    ----------
    path : path
    depth : int
        Levels on each side of all batches.
    directory : VenueDirectory
        Names the venues of publishers; one that stands for no venue goes by its number.

    Attributes
    ----------
    rows : int
        Added so far.

    Raises
    ------
    InputError
        The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], depth: int, directory: VenueDirectory) -> None:
        super().__init__(path)
        self.rows = 0
        self._depth = depth
        self._prices = Prices()
        self._venues = _Venues(directory)
        self._side = lru_cache(KNOWN)(self._levels)  # the side that a row does not change is as it was

    def begin(self) -> None:
        levels = [
            level_name(name, level)
            for side in ("bid", "ask")
            for level in range(self._depth)
            for name in (side, f"{side}_size")
        ]
        self._write(["time", "venue", "symbol", "sequence", *levels, "price", "size", "side"])

    def add(self, batch: Batch) -> None:
        """Write rows of shares, each of one venue.

        Raises
        ------
        InputError
            Another depth, or consolidated quotes, which the form does not have; or the file cannot be written.
        """
        if batch.depth != self._depth or batch.bid_publisher is not None:
            raise InputError(f"batch has {batch.depth} levels: it must have {self._depth}, and be of single venues")
        sides = [
            map(self._side, map(tuple, price.tolist()), map(tuple, size.tolist()))
            for price, size in ((batch.bid_price, batch.bid_size), (batch.ask_price, batch.ask_size))
        ]
        names = [batch.symbols[number] for number in batch.symbol.tolist()]
        columns: list[list[Any]] = [getattr(batch, one).tolist() for one in ("time", "publisher", "sequence")]
        events = [getattr(batch, one).tolist() for one in ("action", "price", "size", "side")]
        for time, publisher, sequence, symbol, bids, asks, *event in zip(*columns, names, *sides, *events, strict=True):
            told = "" if sequence == NO_SEQUENCE else str(sequence)
            self._write([iso_of(time), self._venues[publisher], symbol, told, bids, asks, *self._trade(*event)])
        self.rows += len(batch)

    def _write(self, cells: list[str]) -> None:
        with self.writing():
            self.file.write((",".join(cells) + "\n").encode())

    def _levels(self, prices: tuple[int, ...], sizes: tuple[int, ...]) -> str:
        """Prices and sizes in turn; a best level that shows nothing has the size 0, as empty cells are no quote."""
        if sizes[0] == STANDS:
            return "," * (2 * len(sizes) - 1)
        cells = []
        for price, size in zip(prices, sizes, strict=True):
            cells += [self._prices[price], str(size)] if size else ["", ""]
        cells[1] = cells[1] or "0"
        return ",".join(cells)

    def _trade(self, action: int, price: int, size: int, side: int) -> tuple[str, str, str]:
        if action != TRADED or price == NO_PRICE:
            return "", "", ""
        return self._prices[price], str(size), SIDES.get(side, "")


class Prices(dict[int, str]):
    """Exact dollars of integers of 1e-9 dollars, two decimals at least."""

    def __missing__(self, units: int) -> str:
        whole, part = divmod(units, PRICE_UNITS)
        digits = f"{part:09d}".rstrip("0")
        text = self[units] = f"{whole}.{digits:0<2}"
        return text


class _Venues(dict[int, str]):
    """Venues of publishers as the plain form names them: by their MIC where that stands for just this publisher."""

    def __init__(self, directory: VenueDirectory) -> None:
        super().__init__()
        self._names = {one.publisher_ids[0]: one.venue_id for one in directory if one.publisher_ids}

    def __missing__(self, publisher: int) -> str:
        name = self[publisher] = self._names.get(publisher, str(publisher))
        return name
