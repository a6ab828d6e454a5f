"""Our own plain form of market data, for everything that has no format of its own; docs/formats.md tells it.

Quotes are CSV with the columns ``time, venue, symbol, bid, ask, bid_size, ask_size``, further levels ``bid_1`` and so
on; trades ``time, venue, symbol, price, size``, in a file of their own or beside the columns of quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sor.errors import DataError, InputError
from sor.market.fields import ABSENT, dollars_of, integer_of, symbol_of, time_of
from sor.market.instruments import SHARES, Instruments, sizes_of
from sor.market.table import Table, names_of
from sor.market.update import BookUpdate, Event, Level, trade_of
from sor.market.venues import VenueDirectory

ROW = ("time", "venue", "symbol")
LEVEL = ("bid", "ask", "bid_size", "ask_size")
TRADE = ("price", "size")
SIDES = {"": "N", "n": "N", "b": "B", "buy": "B", "a": "A", "sell": "A"}  # of who took, as `sor.market.Event` has them

KNOWN = 10_000  # spellings of venues, and of levels, remembered

_LEVEL_COLUMN = re.compile(r"(?:bid|ask)(?:_size)?(?:_(0|[1-9]\d{0,2}))?", re.ASCII)


def is_plain(header: bytes) -> bool:
    """Whether a first line is that of quotes or trades in the plain form."""
    return set(ROW) <= set(names_of(header))


def decoder(
    header: bytes,
    directory: VenueDirectory,
    depth: int = 10,
    *,
    events: bool = False,
    instruments: Instruments = SHARES,
) -> PlainQuotes | PlainTrades | PlainBoth:
    """The decoder of the rows below a first line.

    Parameters
    ----------
    header : bytes
    directory : VenueDirectory
        Has the publisher of each MIC.
    depth : int
        Levels wanted; a file may have fewer.
    events : bool
        Decode trades as what has happened; without it they are checked, and change nothing.
    instruments : Instruments
        Sizes of their symbols may be decimals, and become lots.

    Raises
    ------
    DataError
        A column is missing, stands twice, or is one of neither quotes nor trades.
    """
    names = set(names_of(header))
    if names.isdisjoint(TRADE):
        return PlainQuotes(header, directory, depth, instruments)
    if any(name.startswith(("bid", "ask")) for name in names):
        return PlainBoth(header, directory, depth, instruments, events=events)
    return PlainTrades(header, directory, instruments, events=events)


class _Rows:
    """What quotes and trades have in common: when, where and of what."""

    def __init__(
        self, header: bytes, required: tuple[str, ...], what: str, directory: VenueDirectory, instruments: Instruments
    ) -> None:
        self.table = Table(header, required, what)
        self._time, self._venue, self._symbol = (self.table.place[name] for name in ROW)
        self._sequence = self.table.place.get("sequence")
        self._directory = directory
        self._instruments = instruments
        self._publishers: dict[str, int] = {}  # by venue as it is spelled

    def learn(self, rows: list[bytes]) -> None:
        """Nothing: prices are dollars, and the header says the rest."""

    def _whose(self, cells: list[str]) -> tuple[str, int, int, int | None]:
        """The row's symbol, publisher, time and sequence."""
        sequence = "" if self._sequence is None else cells[self._sequence]
        return (
            symbol_of(cells[self._symbol]),
            self._publisher(cells[self._venue]),
            time_of("time", cells[self._time]),
            integer_of("sequence", sequence, 2**64 - 1) if sequence else None,
        )

    def _publisher(self, venue: str) -> int:
        found = self._publishers.get(venue)
        if found is None:
            found = self._new_publisher(venue)
            if len(self._publishers) < KNOWN:
                self._publishers[venue] = found
        return found

    def _new_publisher(self, venue: str) -> int:
        if venue.isdecimal() and venue.isascii():
            return integer_of("venue", venue, 65535)
        try:
            return self._directory.publisher_of(venue)
        except InputError as error:
            raise DataError(f"{error}, or a publisher's number", "venue") from None


class PlainQuotes(_Rows):
    """Quotes: each replaces what its venue showed before, all levels of it."""

    def __init__(
        self,
        header: bytes,
        directory: VenueDirectory,
        depth: int = 10,
        instruments: Instruments = SHARES,
        more: tuple[str, ...] = (),
    ) -> None:
        what = "the plain form of quotes" + " with trades" * bool(more)
        super().__init__(header, (*ROW, *LEVEL, *more), what, directory, instruments)
        levels = _levels(self.table.place)
        self._levels = [[self.table.place[name] for name in names] for names in levels[:depth]]
        self._names = levels
        self._known: dict[tuple[str, str], Level | None] = {}  # shares at a price, as they are spelled

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one row.

        Raises
        ------
        DataError
            A wrong number of cells, or a cell that is not what its column holds.
        """
        return self._quote(self.table.cells(raw), None)

    def _quote(self, cells: list[str], event: Event | None) -> BookUpdate:
        symbol, publisher, time, sequence = self._whose(cells)
        size_of = sizes_of(self._instruments, symbol)
        known: dict[tuple[str, str], Level | None] = {} if self._instruments else self._known
        bids: list[Level | None] = []
        asks: list[Level | None] = []
        for names, level in zip(self._names, self._levels, strict=False):
            for i, side in ((0, bids), (1, asks)):
                price, size = spelled = cells[level[i]], cells[level[i + 2]]
                if spelled not in known:
                    if len(known) == KNOWN:
                        known.clear()
                    known[spelled] = _level(names[i], price, names[i + 2], size, size_of)
                side.append(known[spelled])
        return BookUpdate(symbol, publisher, time, sequence, bids, asks, event)


class _Trades(_Rows):
    """Where a row has its trade."""

    def _find_trades(self, events: bool) -> None:
        self._price, self._size = (self.table.place[name] for name in TRADE)
        self._side = self.table.place.get("side")
        self._events = events

    def _trade(self, cells: list[str], symbol: str) -> Event:
        side = "" if self._side is None else cells[self._side]
        price = dollars_of("price", cells[self._price])
        size = sizes_of(self._instruments, symbol)("size", cells[self._size])
        return trade_of(taker_side(side), price, size)


class PlainTrades(_Trades):
    """Trades: each is an event of its venue, whose quote stands as it was."""

    def __init__(
        self, header: bytes, directory: VenueDirectory, instruments: Instruments = SHARES, *, events: bool = False
    ) -> None:
        super().__init__(header, (*ROW, *TRADE), "the plain form of trades", directory, instruments)
        self._find_trades(events)

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one row.

        Raises
        ------
        DataError
            A wrong number of cells, or a cell that is not what its column holds.
        """
        cells = self.table.cells(raw)
        symbol, publisher, time, sequence = self._whose(cells)
        trade = self._trade(cells, symbol)
        return BookUpdate(symbol, publisher, time, sequence, None, None, trade if self._events else None)


class PlainBoth(_Trades, PlainQuotes):
    """Quotes and trades: a row is a quote, a trade, or a trade and the quote that it left behind."""

    def __init__(
        self,
        header: bytes,
        directory: VenueDirectory,
        depth: int = 10,
        instruments: Instruments = SHARES,
        *,
        events: bool = False,
    ) -> None:
        PlainQuotes.__init__(self, header, directory, depth, instruments, TRADE)
        self._find_trades(events)
        self._shown = [self.table.place[name] for names in self._names for name in names]

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one row: without a quote where all cells of levels are empty, and there is a trade.

        Raises
        ------
        DataError
            A wrong number of cells, or a cell that is not what its column holds.
        """
        cells = self.table.cells(raw)
        if _absent(cells[self._price]) and _absent(cells[self._size]):
            return self._quote(cells, None)
        trade = self._trade(cells, symbol_of(cells[self._symbol]))
        told = trade if self._events else None
        if all(_absent(cells[at]) for at in self._shown):
            symbol, publisher, time, sequence = self._whose(cells)
            return BookUpdate(symbol, publisher, time, sequence, None, None, told)
        return self._quote(cells, told)


def _absent(cell: str) -> bool:
    return not cell or cell.strip().lower() in ABSENT


def taker_side(text: str) -> str:
    """The side of who took, as `sor.market.Event` has it."""
    side = SIDES.get(text.lower())
    if side is None:
        raise DataError(f"side is {text[:20]!r}: it must be buy, sell or empty, of who took", "event")
    return side


def _level(price_name: str, price: str, size_name: str, size: str, size_of: Callable[[str, str], int]) -> Level | None:
    dollars, shares = dollars_of(price_name, price), size_of(size_name, size)
    return None if dollars is None or not shares else (dollars, shares)


def _levels(place: dict[str, int]) -> list[tuple[str, ...]]:
    """The columns of each level; one that no whole level has is a mistake, and not something to pass over."""
    levels: list[tuple[str, ...]] = [LEVEL]
    while any(f"{name}_{len(levels)}" in place for name in LEVEL):
        levels.append(tuple(f"{name}_{len(levels)}" for name in LEVEL))
    known = {name for names in levels for name in names}
    missing = sorted(known - place.keys())
    if missing:
        raise DataError(f"no column {', '.join(missing)[:200]} in the header: a level has four", "header")
    strange = sorted(name for name in place if name.startswith(("bid", "ask")) and name not in known)
    if strange:
        why = "no level comes before it" if _LEVEL_COLUMN.fullmatch(strange[0]) else "it may be bid_1, bid_size_1, ..."
        raise DataError(f"the column {strange[0][:60]!r} is of no level: {why}", "header")
    return levels
