"""Databento's binary format, judged by Databento's own library: it makes the files, and says what is in them."""

from __future__ import annotations

import base64
import bz2
import datetime as dt
import gzip
import io
import itertools
import json
import lzma
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import sor
from sor.cli import main
from sor.errors import DataError, InputError, SorError, StreamError
from sor.market import BookUpdate
from sor.market.columns import NO_PRICE, NO_SEQUENCE, Batch
from sor.market.databento_csv import CsvDecoder
from sor.market.databento_json import JsonDecoder
from sor.market.dbn import CHUNK, Run, batches, messages, messages_of
from sor.market.dbn import RECORDS as OURS
from sor.market.fields import UNITS
from sor.market.packed import Unpacked
from sor.service import check
from sor.service.produce import Rows
from sor.stream.files import has_one_publisher, open_feed

dbn = pytest.importorskip("databento_dbn")
zstandard = pytest.importorskip("zstandard")

DAY = 86_400 * 10**9
NOW = 19_936 * DAY + 49_000 * 10**9  # 2024-08-01, 13:36:40 UTC
RECORDS = {"mbp-1": dbn.MBP1Msg, "mbp-10": dbn.MBP10Msg, "cmbp-1": dbn.CMBP1Msg}
DTYPES = {name: np.dtype(record._dtypes) for name, record in RECORDS.items()}
RTYPES = {"mbp-1": 1, "mbp-10": 10, "cmbp-1": 177}
IDS = {"AAPL": 38, "MSFT": 10_888}
DOLLAR = 10**9
UNDEFINED = 2**63 - 1


def interval(symbol: str, start: str = "2024-08-01", end: str = "2024-08-02") -> SimpleNamespace:
    first, last = dt.date.fromisoformat(start), dt.date.fromisoformat(end)
    return SimpleNamespace(start_date=first, end_date=last, symbol=symbol)


def head(
    schema: str | None = "mbp-1",
    version: int = 3,
    mappings: Any = None,
    stypes: tuple[str, str] | None = None,
    **more: Any,
) -> bytes:
    """A file's beginning, as the vendor's library writes it."""
    if mappings is None:
        mappings = {symbol: [interval(str(number))] for symbol, number in IDS.items()}
    listed = [SimpleNamespace(raw_symbol=name, intervals=intervals) for name, intervals in mappings.items()]
    kinds = [dbn.SType.from_str(one) for one in stypes or ("raw_symbol", "instrument_id")]
    named = None if schema is None else dbn.Schema.from_str(schema)
    return bytes(dbn.Metadata("XNAS.ITCH", 0, *kinds, named, [*mappings], mappings=listed, version=version, **more))


def row(schema: str = "mbp-1", number: int = 0, **values: Any) -> np.ndarray:
    """A record with the vendor's own names and places; ``values`` replace what it has."""
    record = np.zeros((), DTYPES[schema])
    record["length"], record["rtype"] = record.nbytes // 4, RTYPES[schema]
    record["publisher_id"], record["instrument_id"], record["action"], record["side"] = 2, IDS["AAPL"], b"A", b"B"
    record["ts_event"], record["ts_recv"], record["flags"] = NOW + number, NOW + number + 7, 128
    record["price"], record["size"] = 222 * DOLLAR, 5
    for level in range(10 if schema == "mbp-10" else 1):
        record[f"bid_px_{level:02d}"], record[f"ask_px_{level:02d}"] = (222 - level) * DOLLAR, (223 + level) * DOLLAR
        record[f"bid_sz_{level:02d}"], record[f"ask_sz_{level:02d}"] = 100 + number, 200 + level
    if schema == "cmbp-1":
        record["bid_pb_00"], record["ask_pb_00"] = 43, 9
    else:
        record["sequence"] = number
    for name, value in values.items():
        record[name] = value
    return record


def rows(count: int, schema: str = "mbp-1") -> bytes:
    return b"".join(row(schema, number).tobytes() for number in range(count))


def packed(path: Path, content: bytes, pack: Callable[[bytes], bytes] = bytes) -> Path:
    path.write_bytes(pack(content))
    return path


class Tally:
    def __init__(self) -> None:
        self.refused: list[tuple[int, str]] = []
        self.words: list[str] = []
        self.skipped = 0

    def refuse(self, number: int, error: DataError) -> None:
        self.refused.append((number, error.reason))
        self.words.append(str(error))

    def skip(self, why: str, count: int) -> None:
        assert why == "system"
        self.skipped += count


def read(path: Path, depth: int = 10) -> tuple[list[Batch], Tally, str | None]:
    """What there is, what became of the rest, and why it ended."""
    tally, found, file = Tally(), [], Unpacked(str(path))
    try:
        found.extend(batches(file, depth, tally))
    except StreamError as error:
        return found, tally, str(error)
    finally:
        file.close()
    for batch in found:
        for name, column in batch.columns().items():
            assert len(column) == len(batch), name
            assert column.flags.c_contiguous, name
    return found, tally, None


Row = dict[str, Any]


def told(found: list[Batch]) -> list[Row]:
    """The rows of batches, one by one, with the symbol's name."""
    result = []
    for batch in found:
        columns = {name: column.tolist() for name, column in batch.columns().items()}
        columns["symbol"] = [batch.symbols[number] for number in columns["symbol"]]
        result += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return result


def in_columns(update: BookUpdate, depth: int) -> Row:
    """An update as a row of columns says it."""

    def prices(levels: list[Any]) -> list[int]:
        shown = [NO_PRICE if level is None else round(level[0] * 1e9) for level in levels]
        return shown + [NO_PRICE] * (depth - len(shown))

    def sizes(levels: list[Any]) -> list[int]:
        return [0 if level is None else level[1] for level in levels] + [0] * (depth - len(levels))

    event = update.event
    price = None if event is None else event.price
    found = {
        "symbol": update.symbol,
        "time": update.time,
        "receipt": update.receipt,
        "sequence": NO_SEQUENCE if update.sequence is None else update.sequence,
        "publisher": update.publisher_id,
        "action": 0 if event is None else ord(event.action),
        "side": 0 if event is None else ord(event.side),
        "price": NO_PRICE if price is None else round(price * 1e9),
        "size": 0 if event is None else event.size,
        "flags": update.flags,
        "bid_price": prices(update.bids),
        "bid_size": sizes(update.bids),
        "ask_price": prices(update.asks),
        "ask_size": sizes(update.asks),
    }
    if update.consolidated:
        found |= {"bid_publisher": update.bid_publisher, "ask_publisher": update.ask_publisher}
    return found


def as_text(content: bytes, encoding: Any, pretty: bool = False) -> bytes:
    """The file as the vendor's library spells it."""
    out = io.BytesIO()
    transcoder = dbn.Transcoder(out, encoding, dbn.Compression.NONE, pretty, pretty, map_symbols=True)
    transcoder.write(content)
    transcoder.flush()
    return out.getvalue()


# --- real files ------------------------------------------------------------------------------------------------------


def test_nasdaq_mbp_1(shared):
    """The four records of the vendor's sample, written out."""
    ((batch,), tally, ended) = read(shared / "data" / "XNAS.ITCH_test_data.mbp-1.dbn.zst", 1)
    assert (batch.symbols, tally.refused, tally.skipped, ended) == (("NVDA",), [], 0, None)
    assert batch.symbol.tolist() == [0, 0, 0, 0]
    assert batch.time.tolist() == [1609146088297098637, 1609146088297194641, 1609146093580213335, 1609146112948319734]
    assert batch.receipt.tolist() == [
        1609146088297109209, 1609146088297205224, 1609146093580223478, 1609146112948330298
    ]  # fmt: skip
    assert batch.sequence.tolist() == [289000, 289001, 290662, 296425]
    assert batch.publisher.tolist() == [2] * 4
    assert (batch.action.tobytes(), batch.side.tobytes()) == (b"AAAA", b"NNNN")
    assert batch.price.tolist() == [502_000_000_000, 512_010_000_000, 539_000_000_000, 519_750_000_000]
    assert batch.size.tolist() == [2, 1, 17, 1]
    assert batch.flags.tolist() == [130] * 4
    assert batch.bid_price.tolist() == [[502_000_000_000], [512_010_000_000], [512_010_000_000], [519_750_000_000]]
    assert batch.bid_size.tolist() == [[2], [1], [1], [1]]
    assert batch.ask_price.tolist() == [[NO_PRICE], [NO_PRICE], [539_000_000_000], [539_000_000_000]]
    assert batch.ask_size.tolist() == [[0], [0], [17], [17]]
    assert batch.bid_publisher is batch.ask_publisher is None


def test_a_book_that_was_cleared(shared):
    ((batch,), _, _) = read(shared / "data" / "EQUS.MINI_test_data.mbp-1.dbn.zst", 1)
    assert batch.symbols == ("QQQ",)
    assert batch.action.tobytes() == b"RAAA"
    assert batch.price.tolist() == [NO_PRICE, 307_940_000_000, 307_890_000_000, 307_890_000_000]
    assert batch.bid_price[:, 0].tolist() == [NO_PRICE, NO_PRICE, 307_890_000_000, 307_890_000_000]
    assert batch.bid_size[:, 0].tolist() == [0, 0, 800, 1500]
    assert batch.ask_size[:, 0].tolist() == [0, 600, 600, 600]


def test_ten_levels(shared):
    ((batch,), _, _) = read(shared / "data" / "dbn_test_data.mbp-10.v3.dbn.zst")
    assert (batch.symbols, batch.sequence.tolist()) == (("ESH1",), [1170352, 1170356])
    bids = [3_720_250_000_000 - 250_000_000 * level for level in range(10)]
    asks = [3_720_500_000_000 + 250_000_000 * level for level in range(10)]
    assert batch.bid_price.tolist() == [bids, bids]
    assert batch.ask_price.tolist() == [asks, asks]
    assert batch.bid_size.tolist() == [
        [24, 31, 32, 39, 50, 42, 44, 64, 53, 67],
        [24, 30, 32, 39, 50, 42, 44, 64, 53, 67],
    ]
    assert batch.ask_size.tolist() == [[10, 34, 39, 28, 33, 45, 55, 59, 49, 44]] * 2
    (shallow,), _, _ = read(shared / "data" / "dbn_test_data.mbp-10.v3.dbn.zst", 3)
    assert shallow.bid_price.tolist() == [bids[:3], bids[:3]]


def test_consolidated(shared):
    ((batch,), _, _) = read(shared / "data" / "dbn_test_data.cmbp-1.v3.dbn.zst", 1)
    assert batch.symbols == ("ESH1",)
    assert batch.time.tolist() == [1609160400006001487, 1609160400006146661]
    assert batch.sequence.tolist() == [NO_SEQUENCE, NO_SEQUENCE]  # CMBP-1 has none
    assert batch.bid_price.tolist() == [[3_720_250_000_000], [3_720_250_000_000]]
    assert batch.ask_size.tolist() == [[11], [12]]
    assert batch.bid_publisher.tolist() == batch.ask_publisher.tolist() == [1, 1]
    assert batch.bid_publisher.dtype == np.uint16


# --- against the vendor's own library --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("schema", RECORDS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_every_version_schema_and_packing(tmp_path, version, schema, pack):
    content = head(schema, version) + rows(100, schema)
    found, tally, ended = read(packed(tmp_path / "a.file", content, pack))  # its name says nothing
    assert (tally.refused, ended) == ([], None)
    header, *lines = as_text(content, dbn.Encoding.CSV).splitlines()
    decoder = CsvDecoder(header, 10, events=True, receipts=True)
    assert told(found) == [in_columns(decoder.decode(line), 10) for line in lines]
    assert len(lines) == 100


def test_the_time_of_sending_after_each_record(tmp_path):
    """Live data may have it (ts_out); the length of a record includes it."""
    levels = dbn.BidAskPair(222 * DOLLAR, 223 * DOLLAR, 5, 6)
    sent = [
        bytes(dbn.MBP1Msg(2, 38, NOW + i, 222 * DOLLAR, 5, dbn.Action.ADD, dbn.Side.BID, 0, NOW + 9, sequence=i,
                          levels=levels, ts_out=NOW + 50 + i))
        for i in range(3)
    ]  # fmt: skip
    assert {len(one) for one in sent} == {88}
    found, tally, ended = read(packed(tmp_path / "a.dbn", head(ts_out=True) + b"".join(sent)))
    assert [one["sequence"] for one in told(found)] == [0, 1, 2]
    assert [one["time"] for one in told(found)] == [NOW, NOW + 1, NOW + 2]
    assert (tally.refused, ended) == ([], None)


PRICES = st.sampled_from([222 * DOLLAR, 222_830_000_000, 100_000, 10**18, 0, UNDEFINED, 1, -5, 99_999, 10**18 + 1])
SIZES = st.sampled_from([0, 1, 100, 2**32 - 2, 2**32 - 1])
TIMES = st.sampled_from([NOW, NOW, NOW, NOW + 1, 0, 631_152_000 * 10**9, 631_152_000 * 10**9 - 1, 2**63 - 1, 2**64 - 1])
ODD = st.fixed_dictionaries(
    {},
    optional={
        "ts_event": TIMES, "ts_recv": TIMES, "price": PRICES, "size": SIZES, "flags": st.integers(0, 255),
        "publisher_id": st.integers(0, 65535), "instrument_id": st.sampled_from([38, 38, 10_888, 7]),
        "action": st.sampled_from([bytes([code]) for code in (*b"ACMTFRN", 0, *b"axZ ", 200)]),
        "side": st.sampled_from([b"A", b"B", b"N", b"\0", b"X", b"\xff"]),
        "bid_px_00": PRICES, "ask_px_00": PRICES, "bid_sz_00": SIZES, "ask_sz_00": SIZES,
    },
)  # fmt: skip
MORE = {
    "mbp-1": {"sequence": st.integers(0, 2**32 - 1)},
    "mbp-10": {"sequence": st.integers(0, 2**32 - 1), "bid_px_03": PRICES, "ask_sz_03": SIZES, "ask_px_09": PRICES},
    "cmbp-1": {"bid_pb_00": st.sampled_from([0, 2, 65535]), "ask_pb_00": st.sampled_from([0, 9])},
}


@st.composite
def odd_rows(draw: st.DrawFn, most: int = 6) -> tuple[str, list[np.ndarray]]:
    schema = draw(st.sampled_from([*RECORDS]))
    values = st.tuples(ODD, st.fixed_dictionaries({}, optional=MORE[schema]))
    return schema, [
        row(schema, i, **one, **more) for i, (one, more) in enumerate(draw(st.lists(values, max_size=most)))
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=odd_rows(), depth=st.sampled_from([1, 3, 10]))
def test_odd_values_are_what_they_are_in_the_other_formats(tmp_path, case, depth):
    """Columns, messages and the vendor's CSV of the same records: the same rows, and refused for the same reasons."""
    schema, records = case
    path = packed(tmp_path / "a.dbn", head(schema) + b"".join(record.tobytes() for record in records))
    if len(records) > 2 and {record["action"].item() for record in records} == {b"T"}:
        with pytest.raises(InputError, match=r"is a trade \(action T\)"):
            read(path, depth)
        return
    found, tally, _ = read(path, depth)
    by_message, refused = {}, []
    file = Unpacked(str(path))
    for number, message in itertools.chain.from_iterable(messages(file)):
        try:
            by_message[number] = in_columns(JsonDecoder(depth, events=True, receipts=True).decode(message), depth)
        except DataError as error:
            refused.append((number, error.reason))
    file.close()
    assert told(found) == [*by_message.values()]
    assert tally.refused == refused
    assert len(by_message) + len(refused) == len(records)
    for number, record in enumerate(records, 1):
        if (
            record["action"] in [bytes([one]) for one in b"ACMTFRN"]
            and record["side"] in (b"A", b"B", b"N")
            and record["ts_recv"] != 2**64 - 1
        ):
            assert by_message.get(number) == as_the_vendor_says(schema, record, depth)


def as_the_vendor_says(schema: str, record: np.ndarray, depth: int) -> Row | None:
    """The row decoder on the vendor's CSV; None: it refuses the row."""
    header, line = as_text(head(schema) + record.tobytes(), dbn.Encoding.CSV).splitlines()
    decoder = CsvDecoder(header, depth, events=True, receipts=True)
    decoder.unit = UNITS
    try:
        return in_columns(decoder.decode(line), depth)
    except DataError:
        return None


def test_what_is_not_told(tmp_path):
    """A side: then it is nobody's (N); an action: then nothing has happened, whatever else stands there."""
    content = head() + row(side=b"\0").tobytes() + row(action=b"\0", side=b"A").tobytes()
    ((batch,), tally, _) = read(packed(tmp_path / "a.dbn", content))
    assert (batch.action.tobytes(), batch.side.tobytes()) == (b"A\0", b"N\0")
    assert (batch.price.tolist(), batch.size.tolist()) == ([222 * DOLLAR, NO_PRICE], [5, 0])
    assert tally.refused == []


@given(case=odd_rows())
def test_messages_hold_what_the_vendors_json_does(case):
    schema, records = case
    names = [name for name in DTYPES[schema].names if name != "length" and not name.startswith("_")]
    undefined = {name: UNDEFINED if "px" in name or name == "price" else 2**64 - 1 for name in names}
    for record in records:
        run = Run(
            np.ones(1, np.int64),
            RTYPES[schema],
            np.frombuffer(record.tobytes(), OURS[RTYPES[schema]]),
            np.zeros(1, np.int32),
        )
        (found,) = [json.loads(one) for one in messages_of(run, ["AAPL"])]
        assert found.pop("symbol") == "AAPL"
        assert found.keys() == set(names)
        for name in names:
            value = record[name].item()
            if isinstance(value, bytes):
                value = value.decode("latin-1") or None
            elif value == undefined[name] and (name[:2] == "ts" or "px" in name or name == "price"):
                value = None
            assert found[name] == value, name


# --- symbols ---------------------------------------------------------------------------------------------------------


def symbols_of(tmp_path: Path, content: bytes) -> list[str | int]:
    """The symbol of each row, or the number of a record that has none."""
    found, tally, _ = read(packed(tmp_path / "a.dbn", content), 1)
    assert {reason for _, reason in tally.refused} <= {"symbol"}
    rows_told = {one["sequence"]: one["symbol"] for one in told(found)}
    return [rows_told.get(number, number) for number in range(len(rows_told) + len(tally.refused))]


def on_days(*days: int, schema: str = "mbp-1", **more: Any) -> bytes:
    """A row on each of these days of August 2024."""
    return b"".join(
        row(schema, i, ts_event=NOW + (day - 1) * DAY, ts_recv=NOW + (day - 1) * DAY, sequence=i, **more).tobytes()
        for i, day in enumerate(days)
    )


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_instrument_id_is_another_symbol_on_another_day(tmp_path, version):
    mappings = {
        "AAPL": [interval("38", "2024-08-01", "2024-08-03"), interval("40", "2024-08-03", "2024-08-04")],
        "MSFT": [interval("38", "2024-08-03", "2024-08-05")],
    }
    content = head(version=version, mappings=mappings) + on_days(1, 2, 3, 4, 5) + row(instrument_id=40).tobytes()
    assert symbols_of(tmp_path, head(version=version, mappings=mappings) + on_days(1, 2, 3, 4, 5)) == [
        "AAPL", "AAPL", "MSFT", "MSFT", 4
    ]  # fmt: skip
    lines = as_text(content, dbn.Encoding.CSV).splitlines()
    assert [line.rsplit(b",")[-1] for line in lines[1:]] == [b"AAPL", b"AAPL", b"MSFT", b"MSFT", b"", b""]


def test_days_begin_at_midnight_utc_of_the_time_of_receipt(tmp_path):
    mappings = {
        "AAPL": [interval("38", "2024-08-01", "2024-08-02")],
        "MSFT": [interval("38", "2024-08-02", "2024-08-03")],
    }
    midnight = (NOW // DAY + 1) * DAY
    times = [(midnight - 2, midnight - 1), (midnight - 1, midnight), (midnight, 2**64 - 1), (midnight - 1, 2**64 - 1)]
    content = b"".join(row(number=i, ts_event=a, ts_recv=b).tobytes() for i, (a, b) in enumerate(times))
    assert symbols_of(tmp_path, head(mappings=mappings) + content) == ["AAPL", "MSFT", "MSFT", "AAPL"]


def test_metadata_that_map_ids_to_symbols(tmp_path):
    mappings = {"38": [interval("AAPL", "2024-08-01", "2024-08-02"), interval("META", "2024-08-02", "2024-08-03")]}
    content = head(mappings=mappings, stypes=("instrument_id", "raw_symbol")) + on_days(1, 2, 3)
    assert symbols_of(tmp_path, content) == ["AAPL", "META", 2]


def test_metadata_that_map_no_ids(tmp_path):
    content = head(mappings={"ES.c.0": [interval("ESH1")]}, stypes=("continuous", "raw_symbol")) + rows(1)
    with pytest.raises(InputError, match="its symbols are not mapped to instrument ids"):
        read(packed(tmp_path / "a.dbn", content))


MAPPINGS = st.dictionaries(
    st.sampled_from(["AAPL", "MSFT", "META", "X"]),
    st.lists(st.tuples(st.sampled_from(["38", "39", ""]), st.integers(1, 6), st.integers(1, 4)), max_size=3),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mappings=MAPPINGS, days=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_any_mapping_is_the_vendors(tmp_path, mappings, days):
    """Whatever overlaps, and with intervals that have no id, as old files do."""
    listed = {
        symbol: [
            interval(one, f"2024-08-{start:02d}", f"2024-08-{start + length:02d}") for one, start, length in intervals
        ]
        for symbol, intervals in mappings.items()
    }
    content = head(mappings=listed) + on_days(*days)
    lines = as_text(content, dbn.Encoding.CSV).splitlines()[1:]
    expected = [line.rsplit(b",")[-1].decode() or i for i, line in enumerate(lines)]
    assert symbols_of(tmp_path, content) == expected


def mapping(instrument: int, symbol: str, version: int = 3) -> bytes:
    """What live data say when a subscription begins."""
    if version == 1:
        return bytes(dbn.SymbolMappingMsgV1(0, instrument, NOW, "asked", symbol, 0, 2**64 - 1))
    kinds = dbn.SType.RAW_SYMBOL, dbn.SType.RAW_SYMBOL
    return bytes(dbn.SymbolMappingMsg(0, instrument, NOW, kinds[0], "asked", kinds[1], symbol, 0, 2**64 - 1))


@pytest.mark.parametrize("version", [1, 3])
def test_live_data_map_as_they_go(tmp_path, version):
    content = b"".join(
        [
            head(None, version, mappings={}),
            row(number=0).tobytes(),
            mapping(38, "AAPL", version),
            mapping(40, "MSFT", version),
            bytes(dbn.SystemMsg(NOW, "Heartbeat")) if version == 3 else b"",
            row(number=1).tobytes(),
            row(number=2, instrument_id=40).tobytes(),
            mapping(38, "META", version),
            row(number=3).tobytes(),
        ]
    )
    assert symbols_of(tmp_path, content) == [0, "AAPL", "MSFT", "META"]
    _, tally, _ = read(tmp_path / "a.dbn")
    assert tally.skipped == (4 if version == 3 else 3)
    assert tally.refused == [(1, "symbol")]


@pytest.mark.parametrize("symbol", ["A" * 65, "\t", "A\x7f"])
def test_a_symbol_that_is_no_symbol(tmp_path, symbol):
    assert symbols_of(tmp_path, head(mappings={symbol: [interval("38")]}) + rows(2)) == [0, 1]


# --- other records, other files --------------------------------------------------------------------------------------


def test_records_of_other_schemas_are_refused_one_by_one(tmp_path):
    trade = bytes(dbn.TradeMsg(2, 38, NOW, DOLLAR, 5, dbn.Action.TRADE, dbn.Side.BID, 0, NOW))
    short = row().tobytes()
    short = bytes([12]) + short[1:48]  # says that it is MBP-1, and has no book
    content = head(None) + rows(2) + trade * 2 + rows(1) + short + row("mbp-10", 9).tobytes() + row("cmbp-1").tobytes()
    found, tally, ended = read(packed(tmp_path / "a.dbn", content))
    assert tally.refused == [(3, "schema"), (4, "schema"), (6, "key"), (8, "schema")]
    assert "rtype is 0, trades: MBP-1 or MBP-10" in tally.words[0]
    assert "consolidated quotes and quotes of a venue's own are not put into the same columns" in tally.words[-1]
    assert ended is None
    assert [len(batch) for batch in found] == [2, 1, 1]
    assert [one["bid_size"][9] for one in told(found)] == [0, 0, 0, 109]
    assert all(batch.bid_publisher is None for batch in found)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300, 1000])
def test_runs_of_any_length(tmp_path, count):
    """Records between others, in chunks whose ends cut them."""
    part = rows(count) + bytes(dbn.SystemMsg(NOW, "Heartbeat")) + rows(count)
    times = CHUNK // len(part) + 2
    found, tally, ended = read(packed(tmp_path / "a.dbn", head() + part * times), 1)
    assert np.concatenate([batch.sequence for batch in found]).tolist() == [*range(count), *range(count)] * times
    assert (tally.skipped, tally.refused, ended) == (times, [], None)


@pytest.mark.parametrize("schema", [one.value for one in dbn.Schema.variants() if one.value not in RECORDS])
def test_other_schemas_are_refused_by_name(tmp_path, schema):
    with pytest.raises(InputError, match=rf"a.dbn: its schema is {schema}: MBP-1 or MBP-10 .* needed"):
        read(packed(tmp_path / "a.dbn", head(schema)))


def test_live_data_that_begin_with_another_schema(tmp_path):
    trade = bytes(dbn.TradeMsg(2, 38, NOW, DOLLAR, 5, dbn.Action.TRADE, dbn.Side.BID, 0, NOW))
    with pytest.raises(InputError, match=r"a.dbn: rtype is 0, trades: MBP-1"):
        read(packed(tmp_path / "a.dbn", head(None) + mapping(38, "AAPL") + trade + rows(1)))


@pytest.mark.parametrize(("schema", "name"), [("mbp-1", "tbbo"), ("cmbp-1", "tcbbo")])
def test_quotes_before_trades_are_known_by_their_rows(tmp_path, schema, name):
    trades = b"".join(row(schema, i, action=b"T").tobytes() for i in range(3))
    with pytest.raises(InputError, match=rf"each of the first 3 rows is a trade \(action T\): this is {name}"):
        read(packed(tmp_path / "a.dbn", head(None) + trades))
    found, _, _ = read(packed(tmp_path / "a.dbn", head(None) + trades + row(schema, 4).tobytes()))
    assert sum(map(len, found)) == 4


def test_versions(tmp_path):
    for version in (0, 4, 255):
        with pytest.raises(InputError, match=rf"it is DBN of version {version}; 1 to 3 are read"):
            read(packed(tmp_path / "a.dbn", b"DBN" + bytes([version]) + head()[4:] + rows(1)))


def test_a_file_without_records(tmp_path):
    assert read(packed(tmp_path / "a.dbn", head()))[0] == []


# --- files that are cut or damaged -----------------------------------------------------------------------------------


@given(cut=st.integers(0, 2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_anywhere_gives_what_is_whole(tmp_path, cut):
    content = head() + rows(5)
    begun = len(content) - 5 * 80
    cut %= len(content)
    path = packed(tmp_path / "a.dbn", content[:cut])
    if cut < begun:
        with pytest.raises(InputError, match=r"a\.dbn: (its metadata end too early: the file is cut|is no DBN)"):
            read(path)
        return
    found, tally, ended = read(path)
    whole, rest = divmod(cut - begun, 80)
    assert [one["sequence"] for one in told(found)] == [*range(whole)]
    assert tally.refused == []
    if rest:
        assert ended == f"{path}, after record {whole}: the file ends within a record, of which it has {rest} bytes"
    else:
        assert ended is None


def test_a_cut_archive_gives_what_is_whole(tmp_path):
    rng = np.random.default_rng(3)
    noise = rng.integers(1, 10**6, 20_000)  # so that it does not pack well
    content = head() + b"".join(row(number=i, size=int(size)).tobytes() for i, size in enumerate(noise[:5000]))
    path = packed(tmp_path / "a.dbn", gzip.compress(content)[:-2000])
    found, _, ended = read(path)
    count = sum(map(len, found))
    assert 1000 < count < 5000
    assert [one["sequence"] for one in told(found)] == [*range(count)]
    assert str(ended).startswith(f"{path}, after record {count}: the gzip data ends before")


@pytest.mark.parametrize("pack", [lzma.compress, zstandard.compress, gzip.compress])
def test_a_feed_of_a_cut_archive_gives_what_its_messages_are(tmp_path, pack):
    """A first line is not looked for in it: there is no line break before the cut."""
    noise = np.random.default_rng(5).integers(128, 256, (4_000, 4), np.uint8).view(np.uint32)[:, 0].tolist()
    content = head() + b"".join(row(sequence=value).tobytes() for value in noise)
    assert b"\n" not in content
    path = tmp_path / "a.dbn"
    path.write_bytes(pack(content)[:-4_000])
    feed, given = sor.read_feed(path), []
    with pytest.raises(StreamError, match=rf"{path}, after record \d+: the .* data ends before"):
        given.extend(len(batch) for batch in feed)
    source, messages = open_feed(str(path)), []
    with pytest.raises(StreamError):
        messages.extend(source)
    source.close()
    assert feed.rows == len(messages) > 1_000


def test_a_record_that_cannot_be(tmp_path):
    for length in (0, 1, 3):
        path = packed(tmp_path / "a.dbn", head() + rows(3) + bytes([length]) + bytes(99))
        found, _, ended = read(path)
        assert sum(map(len, found)) == 3
        assert ended == f"{path}, after record 3: a record of {4 * length} bytes: the file is damaged"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@example(flips=[(4, 255), (5, 255), (6, 255)], version=3)
@given(
    flips=st.lists(st.tuples(st.integers(0, 1300), st.integers(0, 255)), max_size=8), version=st.sampled_from([1, 2, 3])
)
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path, flips, version):
    content = bytearray(head(version=version) + rows(5) + mapping(3, "X") + row("cmbp-1").tobytes())
    for at, value in flips:
        content[at % len(content)] = value
    path = packed(tmp_path / "a.dbn", bytes(content))
    found, said = [], None
    try:
        found, _, said = read(path)
    except SorError as error:
        said = str(error)
    assert said is None or str(path) in said
    for batch in found:
        assert (batch.time > 0).all()
        assert (batch.bid_price > 0).all()
        assert (batch.bid_size >= 0).all()


def test_memory_does_not_grow_with_the_file(tmp_path):
    path, part = tmp_path / "a.dbn", rows(1000)
    with path.open("wb") as file:
        file.write(head())
        for _ in range(400):  # 32 MB
            file.write(part)
    tracemalloc.start()
    try:
        file = Unpacked(str(path))
        count = sum(len(batch) for batch in batches(file, 1, Tally()))
        _, peak = tracemalloc.get_traced_memory()
        file.close()
    finally:
        tracemalloc.stop()
    assert count == 400_000
    assert peak < 12 * 2**20


# --- as a feed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", RECORDS)
def test_every_format_gives_the_same_feed(tmp_path, schema):
    content = head(schema) + rows(30, schema) + row(schema, 30, bid_px_00=UNDEFINED, bid_sz_00=0).tobytes()
    paths = [
        packed(tmp_path / "a.dbn.zst", content, zstandard.compress),
        packed(tmp_path / "a.csv", as_text(content, dbn.Encoding.CSV)),
        packed(tmp_path / "pretty.csv", as_text(content, dbn.Encoding.CSV, True)),
        packed(tmp_path / "a.json", as_text(content, dbn.Encoding.JSON)),
        packed(tmp_path / "pretty.json", as_text(content, dbn.Encoding.JSON, True)),
    ]
    feeds = [sor.read_feed(path, depth=10) for path in paths]
    first, *others = [told(list(feed)) for feed in feeds]
    assert len(first) == 31
    assert all(other == first for other in others)
    assert [feed.rows for feed in feeds] == [31] * 5


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def replayed(path: Path, capfdbinary: Any, *options: str) -> tuple[int, list[Any], str]:
    status = main(["replay", str(path), *options])
    out, err = capfdbinary.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err.decode()


def without_source(results: list[Any]) -> list[Any]:
    return [{name: value for name, value in one.items() if name != "source"} for one in results]


@pytest.mark.parametrize("schema", RECORDS)
def test_replay_gives_the_same_results_as_of_csv_and_json(commands, tmp_path, capfdbinary, schema):
    content = head(schema) + rows(20, schema)
    _, wanted, _ = replayed(packed(tmp_path / "a.csv", as_text(content, dbn.Encoding.CSV)), capfdbinary)
    assert len(wanted) == 20
    for pretty in (False, True):
        json_file = packed(tmp_path / "a.json", as_text(content, dbn.Encoding.JSON, pretty))
        _, found, _ = replayed(json_file, capfdbinary)
        assert without_source(found) == without_source(wanted)
    path = packed(tmp_path / "a.csv", content, zstandard.compress)  # whatever it is called
    status, results, _ = replayed(path, capfdbinary)
    assert status == 0
    assert without_source(results) == without_source(wanted)
    assert [one["source"] for one in results] == [{"file": "a.csv", "line": line} for line in range(1, 21)]


def test_replay_counts_every_record(commands, tmp_path, capfdbinary):
    """A record that is bad is one dead letter, with all that it holds; those of the system are no messages."""
    trade = bytes(dbn.TradeMsg(2, 38, NOW, DOLLAR, 5, dbn.Action.TRADE, dbn.Side.BID, 0, NOW))
    content = (
        head(None)
        + rows(1)
        + bytes(dbn.SystemMsg(NOW, "Heartbeat"))
        + trade
        + row(number=1, instrument_id=5).tobytes()
        + row(number=2, bid_px_00=-5).tobytes()
        + rows(1)
    )
    path = packed(tmp_path / "a.dbn", content)
    status, results, err = replayed(path, capfdbinary, "--dead-letter-file", "letters", "--venues-from", "publishers")
    assert status == 1
    assert [one["source"]["line"] for one in results] == [1, 6]
    assert "messages 5 = results 2 + skipped 0 + bad 3" in err
    letters = [json.loads(line) for line in (tmp_path / "letters").read_text().splitlines()]
    assert [(one["place"]["line"], one["reason"]) for one in letters] == [(3, "schema"), (4, "symbol"), (5, "price")]
    raw = [json.loads(base64.b64decode(one["raw_base64"])) for one in letters]
    assert raw[0] == {"rtype": 0, "record": trade.hex()}
    assert (raw[2]["bid_px_00"], raw[2]["symbol"]) == (-5, "AAPL")


def test_replay_of_a_cut_file(commands, tmp_path, capfdbinary):
    path = packed(tmp_path / "a.dbn", (head() + rows(3))[:-1])
    status, results, err = replayed(path, capfdbinary)
    assert (status, len(results)) == (4, 2)
    assert "after record 2: the file ends within a record, of which it has 79 bytes" in err


def test_levels_of_one_publisher_are_found(commands, tmp_path, capfdbinary):
    one = packed(tmp_path / "a.dbn", head("mbp-10") + rows(3, "mbp-10"))
    several = packed(tmp_path / "b.dbn", head("cmbp-1") + rows(3, "cmbp-1"))
    assert has_one_publisher(str(one), 100)
    assert not has_one_publisher(str(several), 100)
    _, results, _ = replayed(several, capfdbinary)
    assert [(venue["venue_id"], venue["bid"], venue["ask"]) for venue in results[-1]["venues"]] == [
        ("XNYS", None, 223.0),
        ("ARCX", 222.0, None),
    ]


def test_produce_sends_what_a_json_decoder_takes(tmp_path, caplog):
    content = head(None) + rows(2) + bytes(dbn.SystemMsg(NOW, "Heartbeat")) + row(instrument_id=5).tobytes() + rows(1)
    produced = Rows(str(packed(tmp_path / "a.dbn", content)))
    sent = list(produced)
    produced.source.close()
    assert [(one.number, one.symbol, one.time) for one in sent] == [
        (1, "AAPL", NOW),
        (2, "AAPL", NOW + 1),
        (4, "AAPL", NOW),
    ]
    assert produced.bad == 1
    assert "a.dbn:4: symbol" in caplog.text
    decoder = JsonDecoder()
    assert [decoder.decode(one.message).bids for one in sent] == [[(222.0, 100)], [(222.0, 101)], [(222.0, 100)]]


def test_check_reads_its_first_record(tmp_path):
    path = packed(tmp_path / "a.dbn", head() + rows(2))
    assert check._feed(str(path)) == f"{path} can be read; its first row is of AAPL"


def test_records_that_come_by_a_pipe_are_answered_as_they_come(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    go_on, content = threading.Event(), head() + rows(3)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(content[:-100])
            go_on.wait(60)
            pipe.write(content[-100:])

    writer = threading.Thread(target=write)
    writer.start()
    source = open_feed(str(path))
    try:
        assert [message.place.line for message in source.poll(10) or []] == [1]
        assert source.poll(10, 0.01) == []
        go_on.set()
        assert [message.place.line for message in source] == [2, 3]
    finally:
        go_on.set()
        writer.join()
        source.close()
