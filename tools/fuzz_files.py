"""Mutated files of every format through all that reads files: no crash, no traceback, no hang, every row told.

    python tools/fuzz_files.py [--inputs N] [--seed N] [--keep FOLDER]
    python tools/fuzz_files.py --again FILE...

A file is drawn, rows and columns are mutated, then its bytes, then how it is packed and what it is called. It goes
through `sor replay`, `sor.read_feed` with `sor.route_many`, `sor info` and `sor convert`, each within `SECONDS`.
Wrong are any exception but the package's own, an exit status that is not documented, a row that is not
accounted for, and two of them that disagree. A file that something is wrong with is put into ``--keep``, named after
seed and number; ``--again`` tries such files once more. One line of JSON; the exit status is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import datetime as dt
import faulthandler
import gzip
import io
import json
import lzma
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from dbn_files import head

import sor
from sor.cli import COMMANDS
from sor.errors import SorError
from sor.market import feed as market_feed
from sor.market.dbn import RECORDS
from sor.market.fields import iso_of
from sor.market.parquet import write_parquet
from sor.market.venues import VenueDirectory
from sor.service import rules
from sor.service import settings as config
from sor.service.logs import configure_report
from sor.service.run import perform

SECONDS = 20.0  # that one file may take in one of the ways; most take some milliseconds
MEMORY = 6 * 2**30  # bytes of address space that a process may have
SLICE = 1_000  # files of a process
STATUSES = {0, 1, 2, 4}  # of commands that read files and nothing else
UNASKED = ("time", "schema")  # refused in columns alone: a wrong time of receipt, consolidated rows among others
OF_EVENTS = ("event", "price", "number", "size")  # where routing does not ask what has happened
NOW = 1_722_519_360 * 10**9  # 2024-08-01T13:36:00Z
VENUES = {2: "XNAS", 43: "ARCX", 9: "XNYS", 5: "BATS"}  # publishers, and their MICs
LETTERS = {2: "Q", 43: "P", 9: "N", 5: "Z"}  # as TAQ has them
DAYS = dt.date(2024, 8, 1), dt.date(2024, 8, 2)
IDS = {"AAPL": 38, "IBM": 10_888, "BRK.B": 7}
NUMBERS = (
    10**400,
    2**64,
    2**63,
    2**63 - 1,
    -(2**63),
    10**18,
    10**15,
    65_536,
    99_999,
    256,
    1,
    0,
    -1,
    1e308,
    5e-324,
    -0.0,
)
TEXTS = (
    "",
    " ",
    "NULL",
    "NaN",
    "inf",
    "-",
    "1e400",
    "0x10",
    "1_000",
    "\uff11",
    "\u00b2",
    "\u00e9",
    "\ud800",
    "\0",
    '"',
    "a" * 100,
)
TEXTS += ("1" * 5_000, "9" * 25, "2024-02-30T25:61:00Z", "9999-12-31T23:59:59.999999999Z", "1677-01-01", "1e5", "00")
Row = dict[str, Any]


# --- good files ------------------------------------------------------------------------------------------------------


def market(draw: random.Random) -> list[Row]:
    """Rows of a market, in words of no format."""
    symbols, rows, now = draw.sample(sorted(IDS), draw.randint(1, 3)), [], NOW
    for number in range(draw.choice([1, 2, 5, 20, 40])):
        now += draw.choice([0, 1, 10**6, 10**9])
        bid = 18_000 + draw.randrange(9)
        row = {"time": now, "publisher": draw.choice(sorted(VENUES)), "symbol": draw.choice(symbols), "number": number}
        row |= {"bid": bid, "ask": bid + draw.randrange(-1, 4), "sizes": [draw.randrange(1, 9) * 100 for _ in range(2)]}
        row |= {"action": draw.choice("ACMTFN"), "side": draw.choice("BAN"), "size": draw.randrange(1, 500)}
        rows.append(row)
    return rows


def databento(rows: list[Row], levels: int, spelling: str) -> list[Row]:
    """Columns of MBP-1, MBP-10 or (no levels) CMBP-1, as integers, or as Databento spells them for people."""
    found = []
    for row in rows:
        one: Row = {"ts_recv": row["time"] + 900, "ts_event": row["time"], "rtype": levels or 177}
        one |= {"publisher_id": row["publisher"], "instrument_id": IDS[row["symbol"]], "action": row["action"]}
        one |= {"side": row["side"], "depth": 0, "price": row["bid"], "size": row["size"], "flags": 128}
        one |= {"ts_in_delta": 1, "sequence": row["number"]}
        for level in range(levels or 1):
            one |= {f"bid_px_{level:02d}": row["bid"] - level, f"ask_px_{level:02d}": row["ask"] + level}
            one |= {f"bid_sz_{level:02d}": row["sizes"][0], f"ask_sz_{level:02d}": row["sizes"][1]}
            one |= {f"bid_ct_{level:02d}": 1, f"ask_ct_{level:02d}": 1} if levels else {}
        one |= {} if levels else {"bid_pb_00": row["publisher"], "ask_pb_00": 43}
        for name in one:
            if name == "price" or "_px_" in name:
                one[name] = one[name] * 10**7 if spelling == "integers" else one[name] / 100
            elif name in ("ts_recv", "ts_event") and spelling == "text":
                one[name] = iso_of(one[name])
        found.append(one | {"symbol": row["symbol"]})
    return found


def nested(rows: list[Row]) -> list[Row]:
    """As Databento's own JSON has them."""
    found = []
    for row in databento(rows, 1, "integers"):
        head = {name: row[name] for name in ("ts_event", "rtype", "publisher_id", "instrument_id")}
        level = {name.removesuffix("_00"): row[name] for name in row if name.endswith("_00")}
        rest = {name: value for name, value in row.items() if name not in head and not name.endswith("_00")}
        found.append({"hd": head, **rest, "levels": [level]})
    return found


def taq(rows: list[Row], trades: bool) -> list[Row]:
    found = []
    for row in rows:
        root, _, suffix = row["symbol"].partition(".")
        one: Row = {"date": "2024-08-01", "time_m": iso_of(row["time"])[11:-1], "ex": LETTERS[row["publisher"]]}
        one |= {"sym_root": root, "sym_suffix": suffix}
        if trades:
            one |= {"tr_scond": "F", "size": row["size"], "price": row["bid"] / 100, "tr_corr": "00"}
        else:
            one |= {"bid": row["bid"] / 100, "bidsiz": 3, "ask": row["ask"] / 100, "asksiz": 1, "qu_cond": "R"}
        found.append(one)
    return found


def plain(rows: list[Row], what: str) -> list[Row]:
    """Quotes, trades, or both in one file, where some rows are a quote and some a trade alone."""
    found = []
    for number, row in enumerate(rows):
        one: Row = {"time": iso_of(row["time"]), "venue": VENUES[row["publisher"]], "symbol": row["symbol"]}
        trade: Row = {"price": row["bid"] / 100, "size": row["size"], "side": "buy"}
        quote: Row = {"bid": row["bid"] / 100, "ask": row["ask"] / 100, "bid_size": 100, "ask_size": 200}
        quote |= {"bid_1": row["bid"] / 100 - 1, "ask_1": row["ask"] / 100 + 1, "bid_size_1": 5, "ask_size_1": 6}
        if what == "both":
            trade = trade if number % 3 else dict.fromkeys(trade, "")
            quote = quote if number % 3 < 2 else dict.fromkeys(quote, "")
        one |= {"quotes": quote, "trades": trade, "both": quote | trade}[what]
        found.append(one)
    return found


def records(rows: list[Row], levels: int) -> np.ndarray:
    """The same as DBN's records."""
    kind = RECORDS[levels or 177]
    found = np.zeros(len(rows), kind)
    found["length"] = kind.itemsize // 4
    for record, row in zip(found, databento(rows, levels, "integers"), strict=True):
        for name, value in row.items():
            field, _, level = name.rpartition("_")
            if level.isdecimal():
                record["levels"][int(level)][field] = value
            elif name in (kind.names or ()):
                record[name] = ord(value) if isinstance(value, str) else value
    return found


# --- mutations -------------------------------------------------------------------------------------------------------

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".bz2": lambda data: bz2.compress(data, 1),
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
}
ENDINGS = ("", ".csv", ".json", ".dbn", ".parquet", ".txt", *PACKINGS)


class Mutator:
    """Draws files; each method of `formats` makes the bytes of one.

    Parameters
    ----------
    seed : str
        What the one file is drawn from.
    """

    def __init__(self, seed: str) -> None:
        self.random = draw = random.Random(seed)
        self.changes: tuple[int, ...] = (0, 1, 1, 2, 4)  # of rows and columns
        self.formats: dict[str, Callable[[list[Row]], bytes]] = {
            **{
                f"csv-{levels}-{kind}": self._csv(levels, kind)
                for levels in (0, 1, 10)
                for kind in ("text", "integers")
            },
            "csv-usual": lambda rows: as_csv(databento(rows, draw.choice([1, 10]), "text")),
            **{f"json-{levels}": self._json(levels) for levels in (0, 1, 10)},
            "json-nested": lambda rows: self._as_json(nested(rows)),
            **{f"dbn-{levels}": self._dbn(levels) for levels in (0, 1, 10)},
            **{f"taq-{trades}": lambda rows, trades=trades: self._as_csv(taq(rows, trades)) for trades in (0, 1)},
            **{
                f"plain-{what}": lambda rows, what=what: self._as_csv(plain(rows, what))
                for what in ("quotes", "trades", "both")
            },
            "parquet": self._parquet,
            "parquet-plain": self._parquet_plain,
        }

    def file(self) -> tuple[str, str, bytes]:
        """The format that it began as, the end of its name, and its bytes."""
        draw = self.random
        name = draw.choice(sorted(self.formats))
        content = self.formats[name](market(draw))
        if draw.random() < 0.4:
            content = self.bytes_of(content)
        ending = draw.choice(sorted(PACKINGS)) if not name.startswith("parquet") or draw.random() < 0.1 else ""
        packed = PACKINGS[ending](content)
        if draw.random() < 0.25:
            packed = self.bytes_of(packed)
        elif draw.random() < 0.05:
            packed = draw.choice([packed + packed, packed + b"\0" * 512 + packed, PACKINGS[ending](packed)])
        return name, ending if draw.random() < 0.8 else draw.choice(ENDINGS), packed

    def table(self, rows: list[Row]) -> list[Row]:
        """Rows with other columns, or other values."""
        draw = self.random
        for _ in range(draw.choice(self.changes)):
            kind = draw.choice([self._column, self._value, self._value, self._value, self._order])
            rows = kind(rows) or rows
        return rows

    def _column(self, rows: list[Row]) -> list[Row]:
        """Left out, renamed, put under another name, or new."""
        one, two = self.random.choice(list(rows[0])), self.random.choice(list(rows[0]))
        kind = self.random.choice(["drop", "rename", "swap", "more", "null"])
        if kind == "drop":
            return [{name: value for name, value in row.items() if name != one} for row in rows]
        if kind == "more":
            return [row | {self._name(): self._odd()} for row in rows]
        if kind == "null":
            return [row | {one: None} for row in rows]
        new = {one: self._name()} if kind == "rename" else {one: two, two: one}
        return [{new.get(name, name): value for name, value in row.items()} for row in rows]

    def _name(self) -> str:
        return self.random.choice(
            ["bid_2", "bid_px_10", "SYMBOL", "bid_pb_00", "sequence", "price", "side", "é", "a\nb", ""]
        )

    def _value(self, rows: list[Row]) -> list[Row]:
        """Odd values: in a cell, or all the way down a column."""
        name, odd = self.random.choice(list(rows[0])), self._odd()
        chosen = range(len(rows)) if self.random.random() < 0.3 else [self.random.randrange(len(rows))]
        return [row | {name: odd} if i in chosen else row for i, row in enumerate(rows)]

    def _order(self, rows: list[Row]) -> list[Row]:
        """Columns in another order, rows in another order, or again and again."""
        names = self.random.sample(list(rows[0]), len(rows[0]))
        turned = [{name: row[name] for name in names if name in row} for row in rows]
        return self.random.choice([turned, rows[::-1], rows * self.random.choice([2, 60])])

    def _odd(self) -> Any:
        value = self.random.choice(self.random.choice([NUMBERS, TEXTS, (None, True, [], {}, [[1]], {"a": 1})]))
        return self.random.randrange(-(2**70), 2**70) if self.random.random() < 0.1 else value

    def _csv(self, levels: int, spelling: str) -> Callable[[list[Row]], bytes]:
        return lambda rows: self._as_csv(databento(rows, levels, spelling))

    def _as_csv(self, rows: list[Row]) -> bytes:
        draw, rows = self.random, self.table(rows)
        ends = "\r\n" if draw.random() < 0.1 else "\n"
        quoted = draw.random() < 0.1
        return as_csv(rows, ends, quoted)

    def _json(self, levels: int) -> Callable[[list[Row]], bytes]:
        return lambda rows: self._as_json(databento(rows, levels, self.random.choice(["text", "integers", "floats"])))

    def _as_json(self, rows: list[Row]) -> bytes:
        lines = [json.dumps(row) for row in self.table(rows)]
        return ("\n".join(lines) + self.random.choice(["\n", "\n", ""])).encode()

    def _dbn(self, levels: int) -> Callable[[list[Row]], bytes]:
        schema = {0: "cmbp-1", 1: "mbp-1", 10: "mbp-10"}[levels]
        return lambda rows: self._as_dbn(schema, records(rows, levels))

    def _as_dbn(self, schema: str, found: np.ndarray) -> bytes:
        draw = self.random
        changes = draw.choice(self.changes)
        if changes and draw.random() < 0.1:
            schema = draw.choice(["trades", "mbp-1", "mbp-10", "cmbp-1", "tcbbo", "ohlcv-1s"])
        start = head(schema, draw.choice([1, 2, 3]), IDS, *DAYS)
        for _ in range(changes):
            if draw.random() < 0.15:
                start = start[:8] + self._flipped(start[8:])
            record = found[draw.randrange(len(found))]
            name = draw.choice(found.dtype.names)
            if name == "levels":
                record = record["levels"][draw.randrange(len(record["levels"]))]
                name = draw.choice([one for one in record.dtype.names if one[0] != "_"])
            size = record.dtype[name].itemsize
            bits = draw.choice(
                [0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, draw.getrandbits(8 * size)]
            )
            record[name] = np.frombuffer(bits.to_bytes(size, "little"), record.dtype[name])[0]
        return start + b"".join(found[i].tobytes() for i in range(len(found)))

    def _parquet(self, rows: list[Row]) -> bytes:
        """The columnar form, with columns of other types or names, or with values that no feed has."""
        table = columnar(as_csv(databento(rows, 1, "text")), self.random.choice([1, 2]))
        for _ in range(self.random.choice(self.changes)):
            table = self._column_of(table)
        return as_parquet(table)

    def _parquet_plain(self, rows: list[Row]) -> bytes:
        table = arrow_of(self.table(plain(rows, "quotes")))
        for _ in range(self.random.choice(self.changes) // 2):
            table = self._column_of(table)
        return as_parquet(table)

    def _column_of(self, table: pa.Table) -> pa.Table:
        draw = self.random
        at = draw.randrange(table.num_columns)
        name, column = table.column_names[at], table.column(at).combine_chunks()
        kind = draw.choice(["drop", "rename", "twice", "null", "type", "value", "value"])
        if kind == "drop":
            return table.remove_column(at)
        if kind == "rename":
            return table.rename_columns([*table.column_names[:at], self._name(), *table.column_names[at + 1 :]])
        if kind == "twice":
            return table.append_column(name, column)
        if kind == "null":
            return table.set_column(at, name, pa.nulls(len(column), column.type))
        if kind == "type":
            others = [
                pa.string(),
                pa.binary(),
                pa.float64(),
                pa.int32(),
                pa.list_(pa.int64()),
                pa.duration("ns"),
                pa.time64("ns"),
                pa.timestamp("s"),
                pa.null(),
            ]
            with contextlib.suppress(pa.ArrowException):
                return table.set_column(at, name, column.cast(draw.choice(others), safe=False))
            return table
        is_time = pa.types.is_temporal(column.type) and column.type.bit_width == 64  # Python has none in nanoseconds
        values = column.view("int64").to_pylist() if is_time else column.to_pylist()
        values[draw.randrange(len(values))] = draw.choice([*TEXTS, None] if name == "symbol" else [*NUMBERS[3:], None])
        with contextlib.suppress(pa.ArrowException, OverflowError, TypeError, UnicodeEncodeError):
            changed = pa.array(values, pa.int64()).view(column.type) if is_time else None
            return table.set_column(at, name, pa.array(values, column.type) if changed is None else changed)
        return table

    def bytes_of(self, data: bytes) -> bytes:
        """Cut, flipped, spliced, of another encoding, or with other bytes at either end."""
        draw = self.random
        kind = draw.choice(
            [self._flipped, self._flipped, self._cut, self._cut, self._spliced, self._encoded, self._around]
        )
        return kind(data)

    def _flipped(self, data: bytes) -> bytes:
        raw = bytearray(data)
        for _ in range(self.random.choice([1, 1, 2, 8, 50]) if raw else 0):
            raw[self.random.randrange(len(raw))] ^= 1 << self.random.randrange(8)
        return bytes(raw)

    def _cut(self, data: bytes) -> bytes:
        return data[: self.random.randint(0, len(data))]

    def _spliced(self, data: bytes) -> bytes:
        one, two, three = sorted(self.random.randint(0, len(data)) for _ in range(3))
        return self.random.choice(
            [data[:one] + data[two:], data[:two] + data[one:], data[:two] + data[one:three] + data[two:]]
        )

    def _encoded(self, data: bytes) -> bytes:
        text = data.decode("latin-1")
        return text.encode(self.random.choice(["utf-8", "utf-16", "utf-16-le", "utf-32"]))

    def _around(self, data: bytes) -> bytes:
        marks = (
            b"\xef\xbb\xbf",
            b"\n",
            b"\0",
            b" ",
            b"PAR1",
            b"DBN",
            b"\x1f\x8b",
            b"{",
            b"\r",
            b"\n\n\n",
            b"[",
            b'"',
            b"{}\n",
        )
        mark = self.random.choice(marks)
        return self.random.choice([mark + data, data + mark, data.replace(b"\n", mark), data.removesuffix(b"\n")])


def as_csv(rows: list[Row], ends: str = "\n", quoted: bool = False) -> bytes:
    """All columns of the first row; a value that is none is an empty cell."""
    mark = '"' if quoted else ""
    lines = [list(rows[0])] + [["" if row.get(name) is None else row.get(name) for name in rows[0]] for row in rows]
    return "".join(",".join(f"{mark}{cell}{mark}" for cell in line) + ends for line in lines).encode(
        "utf-8", "surrogatepass"
    )


def arrow_of(rows: list[Row]) -> pa.Table:
    """A column of mixed types is one of texts."""
    columns = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            columns[name] = pa.array(
                [None if one is None else str(one).encode("ascii", "replace").decode() for one in values]
            )
    return pa.table(columns)


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink, row_group_size=7)
    except pa.ArrowException:  # an odd type that Parquet has not
        return b"PAR1"
    return sink.getvalue()


def columnar(csv: bytes, depth: int) -> pa.Table:
    """Rows as the columnar form has them."""
    with tempfile.TemporaryDirectory() as folder:
        feed, path = Path(folder, "feed.csv"), Path(folder, "feed.parquet")
        feed.write_bytes(csv)
        write_parquet(sor.read_feed(feed, depth=depth), path)
        return pq.read_table(path)


# --- what reads them -------------------------------------------------------------------------------------------------


class Hung(BaseException):
    """An input took too long; no ``except Exception`` holds it up."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `Hung` after so many seconds."""

    def end(number: int, frame: Any) -> None:
        raise Hung

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


class Trial:
    """One file, read in all ways; what is wrong is put down.

    Attributes
    ----------
    wrong : list of str
    """

    def __init__(self, path: Path, folder: Path, draw: random.Random) -> None:
        self.path, self.folder, self.random = path, folder, draw
        self.wrong: list[str] = []
        self.outcome = ""
        self._depth = draw.choice([1, 10])
        self._feed: sor.Feed | None = None
        self._given = 0
        self._error: str | None = None

    def run(self) -> list[str]:
        """What is wrong. Where `Hung` cannot be raised, as it hangs in code that is not Python, the process ends."""
        faulthandler.dump_traceback_later(5 * SECONDS, exit=True)
        for way in (self._read, self._replay, self._info, self._convert):
            try:
                with within(SECONDS):
                    way()
            except Hung:
                self._say(f"{way.__name__}: hangs")
            except BaseException:  # noqa: BLE001 - that is what is looked for
                self._say(f"{way.__name__}: {traceback.format_exc()}")
        faulthandler.cancel_dump_traceback_later()
        return self.wrong

    def _say(self, what: str) -> None:
        self.wrong.append(what[-3_000:])

    def _expect(self, true: bool, what: str) -> None:
        if not true:
            self._say(what)

    def _read(self) -> None:
        """As columns, each batch routed."""
        objective = self.random.choice(["sweep", "shortfall", "notional"])
        batches = []
        try:
            self._feed = sor.read_feed(self.path, depth=self._depth)
            for batch in self._feed:
                self._given += len(batch)
                batches.append(batch)
        except SorError as error:
            self._error = type(error).__name__
        feed = self._feed
        if feed is not None:
            told = self._given + feed.bad.total() + feed.skipped.total()
            self._expect(feed.rows == told, f"read_feed: {feed.rows} rows, of which {told} are told")
        routed = sor.route_many(batches, sor.Order("*", "buy", 500, None), objective=objective)
        self._expect(
            len(routed["row"]) == self._given, f"route_many: {len(routed['row'])} answers to {self._given} rows"
        )

    def _command(self, name: str, files: str, **options: str) -> tuple[int, str, str]:
        """A command's status, output and errors, without the parsing of its words, which takes as long as the rest."""

        def load() -> Any:
            settings = config.load(name, {files: str(self.path) if name == "replay" else [str(self.path)], **options})
            rules.refuse(settings)
            return settings

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            configure_report("text")
            status = perform(name, load, COMMANDS[name].run)
        told = err.getvalue()
        self._expect(status in STATUSES, f"sor {name}: status {status}: {told}")
        self._expect("Traceback" not in told, f"sor {name}: {told}")
        self._expect(status in (0, 1) or "error: " in told, f"sor {name}: status {status} without a word")
        return int(status), out.getvalue(), told

    def _agree(self, what: str, status: int) -> None:
        """Whether a command on the feed ended as the feed did."""
        bad = self._feed is not None and self._feed.bad.total() > 0
        wanted = {None: int(bad), "InputError": 2}.get(self._error, 4)
        self._expect(status == wanted, f"sor {what}: status {status}, and read_feed ends with {self._error}, bad {bad}")

    def _replay(self) -> None:
        whose = self.random.choice(["publishers", "publishers", "publishers", "levels", None])
        algorithm = "brute_force" if self._depth == 1 else self.random.choice(["greedy_l2", "cont_kukanov"])
        if whose == "levels":
            algorithm = "greedy_l2"
        names = {name: str(self.folder / name) for name in ("summary", "output", "dead_letter_file")}
        for path in names.values():
            Path(path).unlink(missing_ok=True)
        options = names | {"log_level": "error", "algorithm": algorithm} | ({"venues_from": whose} if whose else {})
        status, _, told = self._command("replay", "csv_file", **options)
        self.outcome = f"status {status}"
        if not os.path.exists(names["summary"]):
            self._expect(status in (2, 4), f"sor replay: status {status}, and no summary")
            same = self._error is not None or not self._alike()
            self._expect(same, f"sor replay: {told}, and read_feed gives {self._given} rows")
            return
        facts = json.loads(Path(names["summary"]).read_text())
        lines = {name: Path(path).read_bytes().count(b"\n") for name, path in names.items()}
        bad, skipped = sum(facts["bad"].values()), sum(facts["skipped"].values())
        answered = facts["results"] + skipped + bad
        self._expect(
            facts["messages"] == answered, f"sor replay: {facts['messages']} messages, {answered} accounted for"
        )
        written = lines["output"], lines["dead_letter_file"]
        self._expect(written == (facts["results"], bad), f"sor replay: wrote {written} lines, and says {facts}")
        self._expect(status not in (0, 1) or status == int(bad > 0), f"sor replay: status {status}, bad {bad}")
        if whose == "publishers" and self._alike():
            self._compare(facts, algorithm == "cont_kukanov")

    def _alike(self) -> bool:
        """Whether a replay looks at as many levels as the feed did: of Parquet always at all of them."""
        return self._depth > 1 or self._feed is None or "Parquet" not in self._feed.formats.values()

    def _compare(self, facts: dict[str, Any], events: bool) -> None:
        """Both have the same rows. Columns hold more of each, and so refuse what a message is not asked for."""
        feed = self._feed
        if feed is None:
            self._say(f"sor replay: {facts}, and read_feed refuses the file")
            return
        system = feed.skipped["system"]
        self._expect(facts["messages"] == feed.rows - system, f"{facts} of a replay, {feed.rows} rows of a feed")
        more = facts["results"] - self._given
        unasked = sum(feed.bad[reason] for reason in (UNASKED if events else UNASKED + OF_EVENTS))
        self._expect(0 <= more <= unasked, f"{facts} of a replay, {self._given} good rows of a feed, bad {feed.bad}")

    def _info(self) -> None:
        status, out, _ = self._command("info", "files", json="true")
        if self._depth > 1:  # it looks at the best prices
            return
        self._agree("info", status)
        if self._feed is not None and out:
            facts = json.loads(out)
            same = facts["rows"], facts["bad"], facts["skipped"]
            wanted = self._feed.rows, dict(self._feed.bad), dict(self._feed.skipped)
            self._expect(same == wanted, f"sor info says {same}, read_feed {wanted}")

    def _convert(self) -> None:
        target = self.folder / "converted"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        by = self.random.choice([None, None, None, "day", "symbol", "symbol,day"])
        output = target if by else target / "out.parquet"
        options = {"output": str(output), "depth": str(self._depth)} | ({"by": by} if by else {})
        status, _, _ = self._command("convert", "files", **options)
        self._agree("convert", status)
        found = [str(path) for path in target.iterdir()]
        if status in (0, 1):
            rows = sum(pq.read_metadata(path).num_rows for path in found)
            self._expect(rows == self._given, f"sor convert: {rows} rows written of {self._given}")
        else:
            self._expect(not found, f"sor convert: status {status}, and {found} is there")


# --- many of them ----------------------------------------------------------------------------------------------------


def prepared() -> None:
    """What holds for a whole process: warnings are errors, memory is bounded, nothing is loaded or awaited twice."""
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    VenueDirectory.load = cache(VenueDirectory.load)  # type: ignore[method-assign]
    market_feed.ROWS, market_feed.FEWEST = 32, 16  # several batches of few rows
    os.fsync = lambda file: None  # type: ignore[assignment]  # nothing here has to outlive a power cut


def try_slice(seed: int, first: int, count: int, folder: Path) -> None:
    """Files from a number on, with a line for each; one stays in the folder where this process does not."""
    prepared()
    with (folder / "told").open("w") as told:
        for number in range(first, first + count):
            name, ending, content = Mutator(f"{seed}:{number}").file()
            path = folder / f"{seed}-{number}-{name}{ending}"
            path.write_bytes(content)
            trial = Trial(path, folder / "work", random.Random(number))
            if trial.run():
                shutil.copy(path, folder / "kept")
            path.unlink()
            print(json.dumps([path.name, trial.outcome, trial.wrong]), file=told, flush=True)


def run(count: int, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """Try so many files, some hundred in a process; where one crashes another goes on after the file."""
    wrong: dict[str, list[str]] = {}
    kinds: Counter[str] = Counter()
    started, first = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    while first < count:
        with tempfile.TemporaryDirectory(prefix="sor-fuzz-") as name:
            folder = Path(name)
            for inner in ("work", "kept"):
                (folder / inner).mkdir()
            process = context.Process(target=try_slice, args=(seed, first, min(SLICE, count - first), folder))
            process.start()
            process.join()
            told = [json.loads(line) for line in (folder / "told").read_text().splitlines()]
            wrong |= {file: found for file, _, found in told if found}
            kinds.update(outcome for _, outcome, _ in told)
            first += len(told)
            if process.exitcode != 0:
                wrong[f"{seed}-{first}"] = [f"the process ended with {process.exitcode}"]
                first += 1
                for path in folder.glob(f"{seed}-*"):
                    shutil.copy(path, folder / "kept")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copytree(folder / "kept", keep, dirs_exist_ok=True)
        if sys.stderr.isatty():
            print(f"\r{first:,} files, {len(wrong)} wrong", end="", file=sys.stderr, flush=True)
    return {"seed": seed, "files": count, "kinds": kinds, "seconds": round(time.monotonic() - started), "wrong": wrong}


def again(paths: list[Path]) -> dict[str, Any]:
    """Try files that are there."""
    prepared()
    with tempfile.TemporaryDirectory(prefix="sor-fuzz-") as folder:
        wrong = {}
        for path in paths:
            tried = (Trial(path, Path(folder), random.Random(seed)).run() for seed in range(20))
            if found := next(filter(None, tried), None):
                wrong[str(path)] = found
    return {"files": len(paths), "wrong": wrong}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for files that something is wrong with")
    parser.add_argument("--again", type=Path, nargs="+", metavar="FILE", help="try these, each twenty times")
    options = parser.parse_args()
    report = again(options.again) if options.again else run(options.inputs, options.seed, options.keep)
    print(json.dumps(report))
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
