"""Usual JSON messages as updates, key by key.

One source for both backends: run as it stands, or compiled as ``sor.market._messages`` with the C types that
``_messages.pxd`` gives its names (`sor.kernels` picks).

Only what is spelled as it usually is is taken here; any other message is decoded by `sor.market.databento_json`, which
says what is wrong with it, too.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from sor.errors import DataError
from sor.market.fields import (
    BOOKS,
    DOLLARS,
    DOUBTFUL,
    LARGEST_PRICE,
    LARGEST_SIZE,
    LARGEST_TIME,
    SMALLEST_INTEGER_PRICE,
    SMALLEST_INTEGER_TIME,
    UNDEFINED_PRICE,
    UNDEFINED_SIZE,
    UNITS,
    time_of,
)
from sor.market.update import BookUpdate, Level

KNOWN_SYMBOLS = 50_000
LARGEST_UNITS = int(LARGEST_PRICE) * 10**9


class MessageReader:
    """Reads usual messages.

    Parameters
    ----------
    bids, asks : list of (str, str)
        Keys of the price and the size of each level.
    """

    def __init__(self, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
        self.bids, self.asks = bids, asks
        self.symbols: set[str] = set()  # those that are known to be good
        self.unit: str | None = None  # of the prices read last
        self.usual = True  # whether the levels read last were

    def learn(self, symbol: str) -> None:
        """A symbol is good, and its sizes are whole shares: what is usual of it may be read here."""
        if len(self.symbols) < KNOWN_SYMBOLS:
            self.symbols.add(symbol)

    def update(self, message: Any, unit: str | None) -> BookUpdate | None:
        """What a message says, its prices in ``unit`` (None: in either, and all in one); None where it is unusual."""
        if message.hd is not UNSET or message.bid_pb_00 is not UNSET or message.ask_pb_00 is not UNSET:
            return None
        rtype = message.rtype
        if rtype is not UNSET and rtype is not None and rtype not in BOOKS:
            return None
        symbol, publisher = message.symbol, message.publisher_id
        if type(symbol) is not str or symbol not in self.symbols:
            return None
        if type(publisher) is not int or not 0 <= publisher <= 65535:
            return None
        time = message.ts_event
        if type(time) is str:
            try:
                time = time_of("ts_event", time)
            except DataError:
                return None
        elif type(time) is not int or not SMALLEST_INTEGER_TIME <= time < LARGEST_TIME:
            return None
        flags = message.flags
        if flags is UNSET:
            flags = 0
        elif type(flags) is not int or not 0 <= flags <= 255:
            return None
        sequence = message.sequence
        if sequence is UNSET:
            sequence = None
        elif sequence is not None and (type(sequence) is not int or not 0 <= sequence < LARGEST_TIME):
            return None
        self.unit, self.usual = unit, True
        bids = self.levels(message, self.bids)
        asks = self.levels(message, self.asks)
        if not self.usual:
            return None
        return BookUpdate(symbol, publisher, time, sequence, bids, asks, None, flags & DOUBTFUL)

    def levels(self, message: Any, keys: list[tuple[str, str]]) -> list[Level | None]:
        """A side, as many levels as there are; whether each is `usual` is told there."""
        found: list[Level | None] = []
        for price_key, size_key in keys:
            price, size = getattr(message, price_key), getattr(message, size_key)
            if price is UNSET or size is UNSET:
                self.usual = self.usual and len(found) > 0  # the first one must be there
                break
            if size is None:
                shares = 0
            elif type(size) is int and 0 <= size <= LARGEST_SIZE:
                shares = 0 if size == UNDEFINED_SIZE else size
            else:
                self.usual = False
                break
            if price is None:
                found.append(None)
                continue
            if type(price) is float:
                dollars, spelled = price, DOLLARS
                if not 0.0 < dollars <= LARGEST_PRICE:
                    self.usual = False
                    break
            elif type(price) is int and price == UNDEFINED_PRICE:
                found.append(None)
                continue
            elif type(price) is int and SMALLEST_INTEGER_PRICE <= price <= LARGEST_UNITS:
                dollars, spelled = price / 10**9, UNITS
            else:
                self.usual = False
                break
            if self.unit is None:
                self.unit = spelled
            elif self.unit != spelled:
                self.usual = False
                break
            found.append((dollars, size) if shares else None)
        return found
