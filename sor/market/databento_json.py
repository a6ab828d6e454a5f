"""Databento MBP-1, MBP-10 and CMBP-1 as JSON messages, one object each.

Flat, with keys named as the CSV's columns, or as Databento writes them: what all records have within ``hd``, and the
book in ``levels``, a list of ``{"bid_px": ..., "ask_px": ..., "bid_sz": ..., "ask_sz": ...}``. A flat message with the
action T and no key of a book is a trade alone: what its publisher shows stands as it was.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from sor.errors import DataError
from sor.kernels import pick
from sor.market.fields import (
    BOOKS,
    CMBP_1,
    DOLLARS,
    DOUBTFUL,
    SIDE_PUBLISHERS,
    SMALLEST_INTEGER_TIME,
    check_schema,
    check_trades_only,
    flags_of,
    integer_of,
    iso_of,
    one_unit,
    price_of,
    receipt_of,
    side_publisher,
    symbol_of,
    time_of,
    unit_of,
)
from sor.market.instruments import SHARES, Instruments, sizes_of, update_outside
from sor.market.update import EVENT, BookUpdate, Level, event_of, trade_of

if TYPE_CHECKING:
    from sor.market import _messages_py as usual_messages
else:
    usual_messages = pick("sor.market._messages")

LEVELS = 10
HEAD = "ts_recv ts_event rtype publisher_id instrument_id action side depth price size flags ts_in_delta".split()  # noqa: SIM905
BOOK = tuple(
    f"{side}_{what}_{level:02d}" for level in range(LEVELS) for what in ("px", "sz", "ct") for side in ("bid", "ask")
)
REQUIRED = ("ts_event", "publisher_id", "symbol", "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00")
Scalar = int | float | str | None
UNSET = msgspec.UNSET

# Every column is declared: msgspec is slower at skipping a key that it does not know than at decoding one.
_Message = msgspec.defstruct(
    "_Message",
    [
        *((name, Scalar, UNSET) for name in (*HEAD, "sequence", *BOOK, "symbol", *SIDE_PUBLISHERS)),
        *((name, Any, UNSET) for name in ("hd", "levels")),
    ],
    gc=False,
)
_NAN = (b"NaN", b"Infinity")
_ROUTABLE = frozenset({UNSET, None, *BOOKS})  # record types that need no second look
_required = attrgetter(*REQUIRED)
_event = attrgetter(*EVENT)
_prices = attrgetter(*(name for name in BOOK if "_px_" in name))


class JsonDecoder:
    """Decodes messages such as ``{"ts_event": ..., "publisher_id": 2, "bid_px_00": ..., "symbol": "AAPL"}``.

    Parameters
    ----------
    depth : int
        Levels wanted; a message may have fewer.
    events : bool
        Decode what has happened as well, where a message says it.
    receipts : bool
        Decode the time of receipt and keep every flag, too: what research wants, and no routing.
    instruments : Instruments
        Sizes of their symbols may be decimals, and become lots.
    quick : bool
        Read usual messages key by key, where neither is asked for; the answers are the same.
    """

    def __init__(
        self,
        depth: int = LEVELS,
        *,
        events: bool = False,
        receipts: bool = False,
        instruments: Instruments = SHARES,
        quick: bool = True,
    ) -> None:
        self._instruments = instruments
        self._events = events
        self._receipts = receipts
        self._decode = msgspec.json.Decoder(_Message).decode
        self._unit: str | None = None  # of a file's prices; a topic may have several producers
        self._sides = [
            (
                [(f"{side}_px_{i:02d}", f"{side}_sz_{i:02d}") for i in range(min(depth, LEVELS))],
                attrgetter(*(f"{side}_{what}_{i:02d}" for i in range(min(depth, LEVELS)) for what in ("px", "sz"))),
            )
            for side in ("bid", "ask")
        ]
        sides = (keys for keys, _ in self._sides)
        self._quick = usual_messages.MessageReader(*sides) if quick and not events and not receipts else None

    def learn(self, rows: list[bytes]) -> None:
        """Take the unit of the file's prices from its first rows, and refuse a file that begins with another schema.

        Raises
        ------
        DataError
        """
        messages = []
        for row in rows:
            try:
                messages.append(self._read(row))
            except DataError as error:
                if error.reason == "schema" and not messages:
                    raise
        if messages and messages[0].rtype is not UNSET:
            schema = "tcbbo" if messages[0].bid_pb_00 is not UNSET else "tbbo"
            check_trades_only([message.action for message in messages], schema)
        self._unit = unit_of(price for message in messages for price in _prices(message))

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one message.

        Raises
        ------
        DataError
            Not JSON, a key missing, a value that is not what its key holds, or a record of another schema.
        """
        message = self._values(raw)
        if self._quick is not None:
            usual = self._quick.update(message, self._unit)
            if usual is not None:
                return usual
        update = self._decoded(self._checked(message))
        if self._quick is not None and update.symbol not in self._instruments:  # whose sizes may be decimals
            self._quick.learn(update.symbol)
        return update

    def _decoded(self, message: Any) -> BookUpdate:
        alone = UNSET in _required(message) and self._is_trade_alone(message)
        symbol = symbol_of(message.symbol)
        publisher = integer_of("publisher_id", message.publisher_id, 65535)
        time = time_of("ts_event", message.ts_event)
        sequence, event = message.sequence, None
        flags = 0 if message.flags is UNSET else flags_of(message.flags)
        spelled: set[type] = set()
        size_of = sizes_of(self._instruments, symbol)
        bids = None if alone else _levels(message, *self._sides[0], spelled, size_of)
        asks = None if alone else _levels(message, *self._sides[1], spelled, size_of)
        if self._events or alone:
            event = event_of(*(value or None for value in _event(message)), size_of=size_of)
            if event is not None and event.price is not None:
                spelled.add(_kind(message.price))
            if event is not None and alone:
                event = trade_of(event.side, event.price, event.size)
        if len(spelled) > 1 or self._unit is not None:
            self._check_unit(message)
        consolidated = message.bid_pb_00 is not UNSET
        return BookUpdate(
            symbol,
            publisher,
            time,
            None if sequence in (None, UNSET) else integer_of("sequence", sequence, 2**64 - 1),
            bids,
            asks,
            event if self._events else None,
            flags & DOUBTFUL,
            *(self._others(message, flags, bids, asks) if consolidated or self._receipts else ()),
        )

    def _others(self, message: Any, flags: int, *sides: list[Level | None] | None) -> list[int]:
        """Time of receipt, flags, and of a consolidated message whose each side is."""
        found = [0, 0]
        if self._receipts:
            found = [0 if message.ts_recv is UNSET else receipt_of("ts_recv", message.ts_recv), flags]
        for name, levels in zip(SIDE_PUBLISHERS, sides, strict=True):
            if levels is not None and message.bid_pb_00 is not UNSET:
                found.append(side_publisher(name, getattr(message, name), levels[0] is not None))
        return found

    def _is_trade_alone(self, message: Any) -> bool:
        """Whether a message that lacks a key is a trade that shows no book; any other one is refused."""
        missing = [name for name in REQUIRED if getattr(message, name) is UNSET]
        no_book = missing == [name for name in REQUIRED if name in BOOK] and message.bid_pb_00 is UNSET
        if message.action == "T" and no_book:
            return True
        hint = " (is map_symbols off?)" if missing[0] == "symbol" else ""
        raise DataError(f"no key {missing[0]!r} in the message{hint}", "key")

    def _read(self, raw: bytes) -> Any:
        return self._checked(self._values(raw))

    def _values(self, raw: bytes) -> Any:
        try:
            return self._decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _with_nan(raw, error)

    def _checked(self, message: Any) -> Any:
        """The message, which is no record of another schema, with what nested records hold where flat ones have it."""
        if message.hd is not UNSET:
            _flatten(message)
        bid, ask = message.bid_pb_00, message.ask_pb_00
        if bid is not UNSET or ask is not UNSET or message.rtype not in _ROUTABLE:
            check_schema(None if message.rtype is UNSET else message.rtype, bid is not UNSET or ask is not UNSET)
            if (bid is UNSET) != (ask is UNSET):
                raise DataError(f"no key {SIDE_PUBLISHERS[ask is UNSET]!r} in the message", "key")
        return message

    def _check_unit(self, message: Any) -> None:
        unit, where = (self._unit, "file") if self._unit is not None else (unit_of(_prices(message)), "message")
        for names, values_of in self._sides:
            values = iter(values_of(message))
            for (name, _), price, _ in zip(names, values, values, strict=True):
                one_unit(name, price, unit, where)
        if self._events:
            one_unit("price", message.price, unit, where)


def _levels(
    message: Any,
    names: list[tuple[str, str]],
    values_of: Any,
    spelled: set[type],
    size_of: Callable[[str, Any], int],
) -> list[Level | None]:
    """The levels of a side; how their prices are spelled goes into ``spelled``: as int or float."""
    levels: list[Level | None] = []
    values = iter(values_of(message))
    for (price_name, size_name), raw_price, raw_size in zip(names, values, values, strict=True):
        if raw_price is UNSET or raw_size is UNSET:
            break
        price = price_of(price_name, raw_price)
        size = size_of(size_name, raw_size)
        if price is None:
            levels.append(None)
            continue
        spelled.add(float if type(raw_price) is float else _kind(raw_price))
        levels.append((price, size) if size else None)
    return levels


def _kind(price: Any) -> type:
    """How a price is spelled: int in 1e-9 dollars, float in dollars."""
    if type(price) is str and "." in price:
        return float
    return float if unit_of((price,)) == DOLLARS else int


def _flatten(message: Any) -> None:
    """Put what a nested record holds where a flat one has it."""
    if not isinstance(message.hd, dict) or not isinstance(message.levels, list | msgspec.UnsetType):
        raise DataError("hd must be an object and levels a list, as Databento writes them", "json")
    values = [(name, message.hd.get(name, UNSET)) for name in ("ts_event", "rtype", "publisher_id")]
    for i, level in enumerate((message.levels or [])[:LEVELS]):
        if not isinstance(level, dict):
            raise DataError(f"levels[{i}] must be an object", "json")
        values += [(f"{name}_{i:02d}", value) for name, value in level.items()]
    for name, value in values:
        if isinstance(value, dict | list | bool):
            raise DataError(f"{name} is {str(value)[:60]}: it must be a number, a text or null", "json")
        with contextlib.suppress(AttributeError):  # a key that flat messages do not have
            setattr(message, name, value)


def _with_nan(raw: bytes, error: Exception) -> Any:
    """A message that is JSON but for NaN, which Python's own encoder writes for an absent number."""
    reason = DataError(f"not a market data message: {error}", "json")
    if not any(word in raw for word in _NAN):
        raise reason from None
    try:
        return msgspec.convert(json.loads(raw), _Message)
    except (ValueError, RecursionError):
        raise reason from None


def message_from(update: BookUpdate, instruments: Instruments = SHARES) -> bytes:
    """An update of any format as a flat message that `JsonDecoder` reads, with sizes in units of the instruments."""
    update = update_outside(update, instruments)
    message: dict[str, Any] = {"ts_event": _time(update.time), "publisher_id": update.publisher_id}
    message["symbol"] = update.symbol
    if update.sequence is not None:
        message["sequence"] = update.sequence
    if update.receipt:
        message["ts_recv"] = _time(update.receipt)
    if update.flags:
        message["flags"] = update.flags
    if update.event is not None:
        message |= msgspec.structs.asdict(update.event)
    if update.consolidated:
        message |= {"rtype": CMBP_1, "bid_pb_00": update.bid_publisher, "ask_pb_00": update.ask_publisher}
    for side, levels in (("bid", update.bids), ("ask", update.asks)):
        for i, level in enumerate([] if levels is None else levels or [None]):
            price, size = level or (None, 0)
            message |= {f"{side}_px_{i:02d}": price, f"{side}_sz_{i:02d}": size}
    return msgspec.json.encode(message)


def _time(time: int) -> int | str:
    """Nanoseconds; as text where a number would be taken for seconds."""
    return time if time >= SMALLEST_INTEGER_TIME else iso_of(time)


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
