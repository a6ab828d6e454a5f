"""Databento's binary format, DBN, versions 1 to 3: records of MBP-1, MBP-10 and CMBP-1.

A file begins with what was asked for and which symbol an instrument id stands for on which days. Records follow, each
with its length, in units of four bytes, and its type: so those of one type stand in the file as numpy has a structured
array, and are read as one. The layout of the three schemas is the same in all versions.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from sor.errors import DataError, InputError, StreamError
from sor.market.columns import NO_PRICE, NO_SEQUENCE, PRICE_UNITS, Batch, another_kind
from sor.market.databento_json import JsonDecoder
from sor.market.fields import (
    CMBP_1,
    LARGEST_PRICE,
    LARGEST_TIME,
    SMALLEST_INTEGER_PRICE,
    SMALLEST_INTEGER_TIME,
    UNDEFINED_PRICE,
    UNDEFINED_SIZE,
    UNDEFINED_TIME,
    USE_INSTEAD,
    check_trades_only,
    symbol_of,
)
from sor.market.update import ACTIONS, EVENT_SIDES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sor.market.packed import Unpacked
    from sor.market.update import Tally

MAGIC = b"DBN"
VERSIONS = (1, 2, 3)
CHUNK = 2**20  # bytes of records taken together
LONGEST_METADATA = 2**28  # bytes: a million symbols
SMALLEST_RECORD = 16  # bytes: what all records begin with
DAY = 86_400 * 10**9  # nanoseconds
LARGEST_UNITS = int(LARGEST_PRICE) * PRICE_UNITS
FIRST_ROWS = 1000  # which tell quotes before trades from all quotes

SYMBOL_MAPPING = 22
PASSED_OVER = frozenset({SYMBOL_MAPPING, 23})  # record types of the system's own
INSTRUMENT_ID = 0  # of the kinds of symbols
NO_SCHEMA = 2**16 - 1  # live data, which may have several
SCHEMA_NAMES = (
    *("mbo", "mbp-1", "mbp-10", "tbbo", "trades", "ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition"),
    *("statistics", "status", "imbalance", "ohlcv-eod", "cmbp-1", "cbbo-1s", "cbbo-1m", "tcbbo", "bbo-1s", "bbo-1m"),
)
READ = ("mbp-1", "mbp-10", "cmbp-1")

_HEAD = [("length", "u1"), ("rtype", "u1"), ("publisher_id", "<u2"), ("instrument_id", "<u4"), ("ts_event", "<u8")]
_EVENT = [("price", "<i8"), ("size", "<u4"), ("action", "u1"), ("side", "u1"), ("flags", "u1"), ("depth", "u1")]
_TIMES = [("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4")]
_QUOTE = [("bid_px", "<i8"), ("ask_px", "<i8"), ("bid_sz", "<u4"), ("ask_sz", "<u4")]
_COUNTS = [("bid_ct", "<u4"), ("ask_ct", "<u4")]
_SIDES = [("bid_pb", "<u2"), ("_1", "V2"), ("ask_pb", "<u2"), ("_2", "V2")]


def _record(levels: int, rest: list[tuple[str, str]]) -> np.dtype[Any]:
    return np.dtype([*_HEAD, *_EVENT, *_TIMES, ("levels", [*_QUOTE, *rest], (levels,))])


RECORDS = {1: _record(1, _COUNTS), 10: _record(10, _COUNTS), CMBP_1: _record(1, _SIDES)}  # by record type

_KNOWN_ACTIONS = np.zeros(256, bool)
_KNOWN_ACTIONS[[0, *map(ord, ACTIONS)]] = True
_KNOWN_SIDES = np.zeros(256, bool)
_KNOWN_SIDES[[0, *map(ord, EVENT_SIDES)]] = True


# --- what a file begins with -----------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """The days on which an instrument id stands for a symbol."""

    start: int  # days since the epoch
    end: int  # the day after the last
    instrument: int
    symbol: str


class Metadata(NamedTuple):
    """What a file says of itself.

    Attributes
    ----------
    version : int
    dataset : str
    schema : str or None
        None: live data, of whatever was subscribed to.
    ts_out : bool
        The time of sending follows each record.
    intervals : list of Interval
    """

    version: int
    dataset: str
    schema: str | None
    ts_out: bool
    intervals: list[Interval]


def metadata_of(version: int, content: bytes) -> Metadata:
    """Decode what follows the length.

    Raises
    ------
    InputError
        It is damaged, or of a kind that is not read.
    """
    fields = _Fields(content)
    dataset, schema = fields.text(16), fields.number(2)
    fields.skip(32 if version == 1 else 24)  # start, end, limit, and number of records
    stype_in, stype_out, ts_out = fields.number(1), fields.number(1), fields.number(1)
    length = 22 if version == 1 else fields.number(2)
    fields.skip(47 if version == 1 else 53)
    if fields.number(4):
        raise InputError("its metadata describe fields of their own, which are not read")
    for _ in range(3):  # symbols asked for, found on some days, and not found
        fields.skip(fields.number(4) * length)
    intervals = []
    if INSTRUMENT_ID in (stype_in, stype_out):
        intervals = _intervals(fields, length, inverse=stype_out != INSTRUMENT_ID)
    elif fields.number(4):
        raise InputError(
            "its symbols are not mapped to instrument ids, and records have no other: ask for instrument_id"
        )
    name = None if schema == NO_SCHEMA else SCHEMA_NAMES[schema] if schema < len(SCHEMA_NAMES) else f"number {schema}"
    return Metadata(version, dataset, name, bool(ts_out), intervals)


def _intervals(fields: _Fields, length: int, inverse: bool) -> list[Interval]:
    found = []
    for _ in range(fields.number(4)):
        name = fields.text(length)
        for _ in range(fields.number(4)):
            start, end, other = fields.day(), fields.day(), fields.text(length)
            symbol, instrument = (other, name) if inverse else (name, other)
            known = other and instrument.isdecimal() and int(instrument) < 2**32  # old files have intervals without
            if known and start < end:
                found.append(Interval(start, end, int(instrument), symbol))
    return found


class _Fields:
    """Reads bytes one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def skip(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._content):
            raise InputError("its metadata are damaged: they end too early")
        return self._content[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.skip(size), "little")

    def text(self, size: int) -> str:
        return _text(self.skip(size))

    def day(self) -> int:
        """Days since the epoch, of a number such as 20240801."""
        number = self.number(4)
        try:
            day = np.datetime64(f"{number // 10_000:04d}-{number // 100 % 100:02d}-{number % 100:02d}", "D")
        except ValueError:
            raise InputError(f"its metadata are damaged: {number} is no date") from None
        return max(0, int(day.astype(np.int64)))


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("ascii", "backslashreplace")


class Symbols:
    """Numbers of symbols by instrument id and day, in the order in which they came.

    Attributes
    ----------
    names : list of str
    """

    def __init__(self, intervals: list[Interval]) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._by_instrument: dict[int, list[tuple[int, int, int]]] = {}  # (start, end, number)
        self._changed = True  # what follows is to be made anew
        self._keys = np.empty(0, np.uint64)  # instrument and first day of each interval, rising
        self._ends = self._found = np.empty(0, np.int64)  # the day after the last, and the symbol's number
        for one in intervals:
            self._by_instrument.setdefault(one.instrument, []).append((one.start, one.end, self._number(one.symbol)))

    def map(self, instrument: int, symbol: str) -> None:
        """From now on an instrument id stands for this symbol, as live data say it."""
        self._by_instrument[instrument] = [(0, 2**31, self._number(symbol))]
        self._changed = True

    def find(self, instruments: NDArray[np.uint32], days: NDArray[np.int64]) -> NDArray[np.int32]:
        """Numbers of the symbols; -1 where there is none."""
        if self._changed:
            self._lay_out()
        keys = instruments.astype(np.uint64) << np.uint64(32) | days.astype(np.uint64)
        at = np.searchsorted(self._keys, keys, side="right") - 1
        same = (self._keys[at] >> np.uint64(32)) == instruments
        return np.where((at >= 0) & same & (days < self._ends[at]), self._found[at], -1).astype(np.int32)

    def _number(self, symbol: str) -> int:
        try:
            symbol_of(symbol)
        except DataError:
            return -1
        number = self._numbers.setdefault(symbol, len(self.names))
        if number == len(self.names):
            self.names.append(symbol)
        return number

    def _lay_out(self) -> None:
        rows = [
            (instrument << 32 | start, end, number)
            for instrument in sorted(self._by_instrument)
            for start, end, number in _without_overlaps(self._by_instrument[instrument])
        ] or [(2**64 - 1, 0, -1)]
        keys, ends, found = zip(*rows, strict=True)
        self._keys = np.array(keys, np.uint64)
        self._ends, self._found = np.array(ends, np.int64), np.array(found, np.int64)
        self._changed = False


def _without_overlaps(intervals: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """By day; of two that hold for a day the later one counts, as for the vendor's own map."""
    if len(intervals) == 1:
        return intervals
    days = sorted({day for start, end, _ in intervals for day in (start, end)})
    found = []
    for start, end in itertools.pairwise(days):
        number = next((number for first, last, number in reversed(intervals) if first <= start < last), None)
        if number is not None:
            found.append((start, end, number))
    return found


# --- records ---------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """Records that follow one another and are of one type and length.

    Attributes
    ----------
    numbers : int64
        Counted from 1.
    rtype : int
    rows : ndarray
        Structured where they are of a book; else bytes, (n, length).
    symbol : int32
        Number of each row's symbol, -1: none. Empty where they are not of a book.
    """

    numbers: NDArray[np.int64]
    rtype: int
    rows: NDArray[Any]
    symbol: NDArray[np.int32]

    def take(self, which: Any) -> Run:
        """Those that a slice or a mask picks."""
        return Run(self.numbers[which], self.rtype, self.rows[which], self.symbol[which])


class DbnFile:
    """The records of a file, in runs.

    Parameters
    ----------
    file : Unpacked
        At its start.

    Raises
    ------
    InputError
        It is no DBN, damaged at its start, or of another version or schema.
    """

    def __init__(self, file: Unpacked) -> None:
        self._file = file
        self._rest = b""
        self._ended = False
        self._failure: str | None = None
        self._is_file = os.path.isfile(file.path)
        self.count = 0  # records handed out
        try:
            self.metadata = self._read_metadata()
        except InputError as error:
            raise InputError(f"{file.path}: {error}") from None
        self.symbols = Symbols(self.metadata.intervals)
        self._extra = 8 if self.metadata.ts_out else 0  # bytes after each record

    def _read_metadata(self) -> Metadata:
        start = self._exactly(8)
        if start[:3] != MAGIC:
            raise InputError("is no DBN")
        version, length = struct.unpack("<BI", start[3:])
        if version not in VERSIONS:
            raise InputError(f"it is DBN of version {version}; {VERSIONS[0]} to {VERSIONS[-1]} are read")
        if length > LONGEST_METADATA:
            raise InputError(f"its metadata are damaged: they would have {length:,} bytes")
        found = metadata_of(version, self._exactly(length))
        if found.schema is not None and found.schema not in READ:
            raise InputError(f"its schema is {found.schema}: {USE_INSTEAD}")
        return found

    def _exactly(self, size: int) -> bytes:
        self._fill(size - len(self._rest))
        if len(self._rest) < size:
            raise InputError(f"its metadata end too early: {self._failure or 'the file is cut'}")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _fill(self, least: int) -> None:
        """Read on for at least so many bytes, unless there are fewer."""
        parts = [self._rest]
        while least > 0 and not self._ended:
            try:
                more = self._file.read(CHUNK)
            except (OSError, EOFError) as error:
                self._failure, more = str(error), b""
            self._ended = not more
            parts.append(more)
            least -= len(more)
        self._rest = b"".join(parts)

    def runs(self) -> Iterator[list[Run]]:
        """The records, a list for each chunk of the file.

        Raises
        ------
        StreamError
            The file ends within a record, or is damaged; all records before that have been handed out.
        """
        least = CHUNK if self._is_file else 0  # what comes by a pipe is not waited for
        while not self._ended:
            self._fill(least)
            least = max(least, 1)
            found, end = self._runs_of(self._rest)
            self._rest = self._rest[end:]
            if found:
                yield found
            if self._failure is None and self._rest and self._rest[0] * 4 < SMALLEST_RECORD:
                self._failure, self._ended = f"a record of {self._rest[0] * 4} bytes: the file is damaged", True
        if self._failure is None and self._rest:
            self._failure = f"the file ends within a record, of which it has {len(self._rest)} bytes"
        if self._failure is not None:
            raise StreamError(f"{self._file.path}, after record {self.count}: {self._failure}")

    def _runs_of(self, chunk: bytes) -> tuple[list[Run], int]:
        """The runs of whole records, and where the last one ends."""
        view = np.frombuffer(chunk, np.uint8)
        found, at = [], 0
        while at < len(chunk):
            length = chunk[at] * 4
            most = (len(chunk) - at) // length if length >= SMALLEST_RECORD else 0
            if not most:
                break
            count = _alike(view[at : at + most * length].reshape(most, length))
            numbers = np.arange(self.count + 1, self.count + count + 1, dtype=np.int64)
            found.append(self._run(numbers, chunk[at + 1], length, chunk, at))
            self.count += count
            at += count * length
        return found, at

    def _run(self, numbers: NDArray[np.int64], rtype: int, length: int, chunk: bytes, at: int) -> Run:
        rows: NDArray[Any]
        count = len(numbers)
        record = RECORDS.get(rtype)
        if record is None or record.itemsize + self._extra != length:
            rows = np.frombuffer(chunk, np.uint8, count * length, at).reshape(count, length)
            if rtype == SYMBOL_MAPPING:
                self._map(rows)
            return Run(numbers, rtype, rows, np.empty(0, np.int32))
        if self._extra:
            record = np.dtype([("record", record), ("ts_out", "<u8")])
        rows = np.frombuffer(chunk, record, count, at)
        if self._extra:
            rows = rows["record"]
        times: NDArray[np.uint64] = np.where(rows["ts_recv"] == UNDEFINED_TIME, rows["ts_event"], rows["ts_recv"])
        days = (times // np.uint64(DAY)).astype(np.int64)
        return Run(numbers, rtype, rows, self.symbols.find(rows["instrument_id"], days))

    def _map(self, rows: NDArray[np.uint8]) -> None:
        """Take in what live data say of symbols: from version 2 on their names are longer."""
        names = slice(89, 160) if rows.shape[1] >= 176 else slice(38, 60)
        for row in rows:
            raw = row.tobytes()
            if len(raw) >= 80:
                self.symbols.map(int.from_bytes(raw[4:8], "little"), _text(raw[names]))


def _alike(block: NDArray[np.uint8]) -> int:
    """How many records, from the first on, have its length and type; a block twice as long at a time is looked at."""
    count, step, first = 1, 64, block[0, :2]
    while count < len(block):
        differ = (block[count : count + step, :2] != first).any(axis=1)
        if differ.any():
            return count + int(differ.argmax())
        count, step = count + len(differ), 2 * step
    return len(block)


# --- rows as columns -------------------------------------------------------------------------------------------------


def batches(file: Unpacked, depth: int, tally: Tally) -> Iterator[Batch]:
    """The rows of a file as columns, in its order.

    Parameters
    ----------
    file : Unpacked
    depth : int
        Levels wanted; those that a schema has not show nothing.
    tally : Tally
        Is told of records that cannot be used, and how many are of the system and no market's.

    Raises
    ------
    InputError
        It is no DBN, damaged at its start, or of another version or schema.
    StreamError
        It ends within a record, or is damaged; all rows before that have been handed out.
    """
    dbn = DbnFile(file)
    judge = JsonDecoder(depth, events=True, receipts=True)
    begun, consolidated = False, None
    for runs in dbn.runs():
        begun = begun or _check_first(file.path, runs, dbn.symbols.names, judge)
        for run in runs:
            if run.rtype in PASSED_OVER:
                tally.skip("system", len(run.rows))
                continue
            good = _usable(run, depth, dbn.symbols.names, judge, tally)
            if good is None or not len(good.rows):
                continue
            if consolidated is None:
                consolidated = run.rtype == CMBP_1
            if consolidated is (run.rtype == CMBP_1):
                yield _batch(good, depth, tuple(dbn.symbols.names))
                continue
            for number in good.numbers.tolist():
                tally.refuse(number, another_kind())


def _check_first(path: str, runs: list[Run], names: list[str], judge: JsonDecoder) -> bool:
    """Refuse a file that begins with another schema, as its messages are; whether there was something to tell it by."""
    market = [run for run in runs if run.rtype not in PASSED_OVER]
    if not market:
        return False
    books = [run for run in market if len(run.symbol)]
    actions = (chr(action) for run in books for action in run.rows["action"][:FIRST_ROWS].tolist())
    try:
        if not len(market[0].symbol):
            judge.learn(messages_of(market[0].take(slice(1)), names))
        if books:
            schema = "tcbbo" if books[0].rtype == CMBP_1 else "tbbo"
            check_trades_only(itertools.islice(actions, FIRST_ROWS), schema)
    except DataError as error:
        raise InputError(f"{path}: {error}") from None
    return True


def _usable(run: Run, depth: int, names: list[str], judge: JsonDecoder, tally: Tally) -> Run | None:
    """The rows that can be used. What looks unusual is judged as any message is, so that the reasons are the same."""
    doubtful = np.ones(len(run.rows), bool) if not len(run.symbol) else _doubtful(run, depth)
    if not doubtful.any():
        return run
    for at in np.flatnonzero(doubtful).tolist():
        one = run.take(slice(at, at + 1))
        try:
            judge.decode(messages_of(one, names)[0])
            doubtful[at] = False
        except DataError as error:
            tally.refuse(int(one.numbers[0]), error)
    return run.take(~doubtful) if len(run.symbol) else None


def _doubtful(run: Run, depth: int) -> NDArray[np.bool_]:
    """Rows with a value that may not be what its field holds."""
    rows, levels = run.rows, run.rows["levels"][:, :depth]
    found: NDArray[np.bool_]
    found = (run.symbol < 0) | (rows["ts_event"] < SMALLEST_INTEGER_TIME) | (rows["ts_event"] >= LARGEST_TIME)
    receipt = rows["ts_recv"]
    found |= (receipt != UNDEFINED_TIME) & ((receipt < SMALLEST_INTEGER_TIME) | (receipt >= LARGEST_TIME))
    found |= ~_KNOWN_ACTIONS[rows["action"]] | ~_KNOWN_SIDES[rows["side"]] | _no_price(rows["price"])
    for side in ("bid", "ask"):
        found |= _no_price(levels[f"{side}_px"]).any(axis=1)
        if run.rtype == CMBP_1:
            _, sizes = _side(levels[f"{side}_px"], levels[f"{side}_sz"], 1)
            found |= ((levels[f"{side}_pb"] == 0) & (sizes > 0)).any(axis=1)
    return found


def _no_price(prices: NDArray[np.int64]) -> NDArray[np.bool_]:
    """What is neither a price nor one of the two ways to say that there is none."""
    found: NDArray[np.bool_] = (prices < SMALLEST_INTEGER_PRICE) | (prices > LARGEST_UNITS)
    found &= (prices != UNDEFINED_PRICE) & (prices != 0)
    return found


def _batch(run: Run, depth: int, symbols: tuple[str, ...]) -> Batch:
    rows, levels = run.rows, run.rows["levels"][:, :depth]
    told = rows["action"] != 0
    bid_price, bid_size = _side(levels["bid_px"], levels["bid_sz"], depth)
    ask_price, ask_size = _side(levels["ask_px"], levels["ask_sz"], depth)
    consolidated = run.rtype == CMBP_1
    return Batch(
        symbols,
        run.symbol,
        time=rows["ts_event"].astype(np.int64),
        receipt=np.where(rows["ts_recv"] < LARGEST_TIME, rows["ts_recv"], 0).astype(np.int64),
        sequence=np.full(len(rows), NO_SEQUENCE, np.uint64) if consolidated else rows["sequence"].astype(np.uint64),
        publisher=rows["publisher_id"].astype(np.uint16),
        action=rows["action"].astype(np.uint8),
        side=np.where(told & (rows["side"] == 0), ord("N"), np.where(told, rows["side"], 0)).astype(np.uint8),
        price=np.where(told & (rows["price"] != 0), rows["price"], NO_PRICE),
        size=np.where(told & (rows["size"] != UNDEFINED_SIZE), rows["size"], 0).astype(np.int64),
        flags=rows["flags"].astype(np.uint8),
        bid_price=bid_price,
        bid_size=bid_size,
        ask_price=ask_price,
        ask_size=ask_size,
        bid_publisher=_whose(levels["bid_pb"], bid_size) if consolidated else None,
        ask_publisher=_whose(levels["ask_pb"], ask_size) if consolidated else None,
    )


def _side(
    prices: NDArray[np.int64], sizes: NDArray[np.uint32], depth: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """So many levels, each of which shows a price and a size, or neither."""
    shown = (prices != UNDEFINED_PRICE) & (prices != 0) & (sizes != 0) & (sizes != UNDEFINED_SIZE)
    found_prices = np.full((len(prices), depth), NO_PRICE, np.int64)
    found_sizes = np.zeros((len(prices), depth), np.int64)
    found_prices[:, : prices.shape[1]] = np.where(shown, prices, NO_PRICE)
    found_sizes[:, : prices.shape[1]] = np.where(shown, sizes, 0)
    return found_prices, found_sizes


def _whose(publishers: NDArray[np.uint16], sizes: NDArray[np.int64]) -> NDArray[np.uint16]:
    return np.where(sizes[:, 0] > 0, publishers[:, 0], 0).astype(np.uint16)


# --- rows as messages ------------------------------------------------------------------------------------------------


def messages(file: Unpacked) -> Iterator[list[tuple[int, bytes]]]:
    """The records of a file as messages, each with its number, a list for each chunk; none of the system's own.

    Raises
    ------
    InputError, StreamError
        As `batches`.
    """
    dbn = DbnFile(file)
    for runs in dbn.runs():
        yield [
            found
            for run in runs
            if run.rtype not in PASSED_OVER
            for found in zip(run.numbers.tolist(), messages_of(run, dbn.symbols.names), strict=True)
        ]


def messages_of(run: Run, names: list[str]) -> list[bytes]:
    """Records as JSON with the keys of Databento's CSV and integers as they stand; null where nothing is defined.

    A record that is not of a book, or not as long as it should be, has its bytes as hexadecimal digits: no decoder
    takes it, and whoever reads the dead letters has all of it.
    """
    if not len(run.symbol):
        return [msgspec.json.encode({"rtype": run.rtype, "record": row.tobytes().hex()}) for row in run.rows]
    columns = {name: _values(name, run.rows[name]) for name in _names(run.rtype)}
    names_of_levels = [name for name in run.rows.dtype["levels"].base.names or () if name[0] != "_"]
    for level in range(run.rows["levels"].shape[1]):
        one = run.rows["levels"][:, level]
        columns |= {f"{name}_{level:02d}": _values(name, one[name]) for name in names_of_levels}
    columns["symbol"] = [names[number] if number >= 0 else None for number in run.symbol.tolist()]
    keys = list(columns)
    encode = msgspec.json.Encoder().encode
    return [encode(dict(zip(keys, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _names(rtype: int) -> list[str]:
    names = [name for name, _ in (*_TIMES[:1], *_HEAD[4:], *_HEAD[1:4], *_EVENT, *_TIMES[1:])]
    return [name for name in names if rtype != CMBP_1 or name not in ("depth", "sequence")]


def _values(name: str, column: NDArray[Any]) -> list[Any]:
    values = column.tolist()
    if name in ("action", "side"):
        return [chr(value) if value else None for value in values]
    undefined = (
        UNDEFINED_PRICE if name == "price" or name.endswith("_px") else UNDEFINED_TIME if name[:3] == "ts_" else None
    )
    return values if undefined is None else [None if value == undefined else value for value in values]
