"""Databento MBP-1 and MBP-10 as JSON messages, one flat object each, keys named as the CSV's columns."""

from __future__ import annotations

import json
import re
from operator import attrgetter
from typing import Any

import msgspec

from sor.errors import DataError
from sor.market.fields import integer_of, price_of, size_of, symbol_of, time_of
from sor.market.update import EVENT, BookUpdate, Level, event_of

LEVELS = 10
HEAD = "ts_recv ts_event rtype publisher_id instrument_id action side depth price size flags ts_in_delta".split()  # noqa: SIM905
BOOK = tuple(
    f"{side}_{what}_{level:02d}" for level in range(LEVELS) for what in ("px", "sz", "ct") for side in ("bid", "ask")
)
Scalar = int | float | str | None

# Every column is declared: msgspec is slower at skipping a key that it does not know than at decoding one.
_Message = msgspec.defstruct(
    "_Message",
    [(name, Scalar, msgspec.UNSET) for name in (*HEAD, "sequence", *BOOK, "symbol")],
    gc=False,
)
_NAN = (b"NaN", b"Infinity")


class JsonDecoder:
    """Decodes messages such as ``{"ts_event": ..., "publisher_id": 2, "bid_px_00": ..., "symbol": "AAPL"}``.

    Parameters
    ----------
    depth : int
        Levels wanted; a message may have fewer.
    events : bool
        Decode what has happened as well, where a message says it.
    """

    def __init__(self, depth: int = LEVELS, *, events: bool = False) -> None:
        self._event = attrgetter(*EVENT) if events else None
        self._decode = msgspec.json.Decoder(_Message).decode
        self._sides = [
            (
                [(f"{side}_px_{i:02d}", f"{side}_sz_{i:02d}") for i in range(min(depth, LEVELS))],
                attrgetter(*(f"{side}_{what}_{i:02d}" for i in range(min(depth, LEVELS)) for what in ("px", "sz"))),
            )
            for side in ("bid", "ask")
        ]

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one message.

        Raises
        ------
        DataError
            Not JSON, a key missing, or a value that is not what its key holds.
        """
        message: Any
        try:
            message = self._decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = _with_nan(raw, error)
        for name in ("ts_event", "publisher_id", "symbol", "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00"):
            if getattr(message, name) is msgspec.UNSET:
                raise DataError(f"no key {name!r} in the message", "key")
        sequence = message.sequence
        return BookUpdate(
            symbol_of(message.symbol),
            integer_of("publisher_id", message.publisher_id, 65535),
            time_of("ts_event", message.ts_event),
            None if sequence in (None, msgspec.UNSET) else integer_of("sequence", sequence, 2**64 - 1),
            _levels(message, *self._sides[0]),
            _levels(message, *self._sides[1]),
            None if self._event is None else event_of(*(value or None for value in self._event(message))),
        )


def _levels(message: Any, names: list[tuple[str, str]], values_of: Any) -> list[Level | None]:
    levels: list[Level | None] = []
    values = iter(values_of(message))
    for (price_name, size_name), raw_price, raw_size in zip(names, values, values, strict=True):
        if raw_price is msgspec.UNSET or raw_size is msgspec.UNSET:
            break
        price = price_of(price_name, raw_price)
        size = size_of(size_name, raw_size)
        levels.append((price, size) if size and price is not None else None)
    return levels


def _with_nan(raw: bytes, error: Exception) -> Any:
    """A message that is JSON but for NaN, which Python's own encoder writes for an absent number."""
    reason = DataError(f"not a market data message: {error}", "json")
    if not any(word in raw for word in _NAN):
        raise reason from None
    try:
        return msgspec.convert(json.loads(raw), _Message)
    except (ValueError, RecursionError):
        raise reason from None


_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_TEXT = frozenset({"ts_recv", "ts_event", "action", "side", "symbol"})


def message_of(columns: list[str], cells: list[str]) -> bytes:
    """A CSV row as a JSON message: numbers digit for digit as they stand, empty cells null, the rest text."""
    return b"{" + b",".join(map(_member, columns, cells)) + b"}"


def _member(column: str, cell: str) -> bytes:
    name = msgspec.json.encode(column)
    if not cell:
        return name + b":null"
    if column not in _TEXT and _JSON_NUMBER.fullmatch(cell):
        return name + b":" + cell.encode()
    return name + b":" + msgspec.json.encode(cell)
