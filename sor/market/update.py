"""What every format is decoded into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from sor.errors import DataError
from sor.market.fields import price_of, size_of

Level = tuple[float, int]  # price in dollars per share, displayed size in shares

EVENT = ("action", "side", "price", "size")  # what an event is decoded from, named as the feed names it
ACTIONS = frozenset("ACMTFRN")
EVENT_SIDES = frozenset("BAN")


class Event(msgspec.Struct, frozen=True, gc=False):
    """What a row says has happened.

    Attributes
    ----------
    action : str
        A added, C cancelled, M modified, T traded, F filled, R cleared, N nothing.
    side : str
        B or A, bid or ask: of the order in the book, and of the taker where ``action`` is T; N: not said.
    price : float or None
        Dollars per share.
    size : int
        Shares, or lots where the symbol has an instrument; of a modified order those that it has now.
    """

    action: str
    side: str
    price: float | None
    size: int


def event_of(
    action: object, side: object, price: object, size: object, *, size_of: Callable[[str, Any], int] = size_of
) -> Event | None:
    """The event of these columns, None where they say nothing; ``size_of`` reads the size.

    Raises
    ------
    DataError
        A value that is not what its column holds.
    """
    if not action:
        return None
    if action not in ACTIONS:
        raise DataError(f"action is {str(action)[:60]!r}: it must be one of {', '.join(sorted(ACTIONS))}", "event")
    if side and side not in EVENT_SIDES:
        raise DataError(f"side is {str(side)[:60]!r}: it must be one of {', '.join(sorted(EVENT_SIDES))}", "event")
    return Event(str(action), str(side or "N"), price_of("price", price), size_of("size", size))


def trade_of(side: str, price: float | None, size: int) -> Event:
    """A trade that stands in a row of its own.

    Raises
    ------
    DataError
        Without a price or a size it is none.
    """
    if price is None or not size:
        raise DataError(f"a trade of {size} shares at price {price}: it needs both", "trade")
    return Event("T", side, price, size)


class BookUpdate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One publisher's book after an event; it replaces what that publisher showed before, where it shows anything.

    Or the best bid and offer of many, each with the publisher whose it is (`sor.market.book.Books` knows what follows
    for the others).

    Attributes
    ----------
    symbol : str
    publisher_id : int
        Databento's number of the feed and venue; of consolidated quotes the feed's, or whose the event was.
    time : int
        Event time (``ts_event``), nanoseconds since the epoch, UTC.
    sequence : int or None
        The venue's message number.
    bids, asks : list of (price, size) or None, or None
        By level, sizes in shares, or in lots where the symbol has an instrument; None where a level shows nothing.
        None for both lists: the row says what has happened, and what the publisher shows stands as it was.
    event : Event or None
        What has happened, where the decoder was asked for it and the feed says it.
    doubts : int
        Flags of the feed that make this book doubtful: bits of `sor.market.fields.DOUBTS`.
    receipt : int
        When it was received, as ``time``, where the decoder was asked for it; 0: not told.
    flags : int
        All flags of the feed, where the decoder was asked for them.
    bid_publisher, ask_publisher : int or None
        Consolidated quotes only: whose the best bid and the best offer are, 0 where there is none.
    """

    symbol: str
    publisher_id: int
    time: int
    sequence: int | None
    bids: list[Level | None] | None
    asks: list[Level | None] | None
    event: Event | None = None
    doubts: int = 0
    receipt: int = 0
    flags: int = 0
    bid_publisher: int | None = None
    ask_publisher: int | None = None

    @property
    def consolidated(self) -> bool:
        """Whether each side is of a publisher of its own."""
        return self.bid_publisher is not None


class Decoder(Protocol):
    """Turns one raw message into an update, or raises `sor.errors.DataError` with what is wrong."""

    def decode(self, raw: bytes) -> BookUpdate: ...

    def learn(self, rows: list[bytes]) -> None:
        """Take from a file's first rows what holds for all of them, and refuse a file of another schema."""


class Tally(Protocol):
    """Where a format says what became of rows that are in none of its batches."""

    def refuse(self, row: int, error: DataError) -> None:
        """One that cannot be used, with its number: of the line, or of the record, from 1 on."""

    def skip(self, why: str, rows: int) -> None:
        """So many that are left out on purpose, with a word for why: ``blank``, ``trade``."""
