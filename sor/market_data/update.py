"""What every format is decoded into."""

from __future__ import annotations

from typing import Protocol

import msgspec

Level = tuple[float, int]  # price in dollars per share, displayed size in shares


class BookUpdate(msgspec.Struct, frozen=True):
    """One publisher's book after an event; it replaces what that publisher showed before.

    Attributes
    ----------
    symbol : str
    publisher_id : int
        Databento's number of the feed and venue.
    time : int
        Event time (``ts_event``), nanoseconds since the epoch, UTC.
    sequence : int or None
        The venue's message number.
    bids, asks : list of (price, size) or None
        By level; None where a level shows nothing.
    """

    symbol: str
    publisher_id: int
    time: int
    sequence: int | None
    bids: list[Level | None]
    asks: list[Level | None]


class Decoder(Protocol):
    """Turns one raw message into an update, or raises `sor.errors.DataError` with what is wrong."""

    def decode(self, raw: bytes) -> BookUpdate: ...
