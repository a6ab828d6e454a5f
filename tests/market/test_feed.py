"""Feeds: columns are what the row decoders say, on both kernels, from one file or many, as CSV, JSON and Parquet."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import logging
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import load_twin
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_plain import OWN

import sor
from sor.errors import DataError, InputError, StreamError
from sor.market import BookUpdate, Event, columns, databento_csv, feed, parquet
from sor.market.columns import Batch, Columns
from sor.market.databento_csv import CsvDecoder
from sor.market.databento_json import JsonDecoder, message_from, message_of
from sor.market.fields import dollars_of, price_of, receipt_of, units_of
from sor.market.packed import Unpacked
from sor.market.parquet import write_parquet
from sor.market.venues import VenueDirectory
from sor.stream.files import open_feed

SAMPLE = Path(__file__).resolve().parents[2] / "sample.csv"
KERNELS = {"python": "sor.market._rows_py", "cython": "sor.market._rows"}
NO_PRICE, NO_SEQUENCE, NO_SIZE = 2**63 - 1, 2**64 - 1, 2**32 - 1
START = 1722519360 * 10**9  # 2024-08-01T13:36:00Z


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Rows are read on each kernel in turn."""
    monkeypatch.setattr(databento_csv, "rows", load_twin(request.param, KERNELS))
    return str(request.param)


class Row(NamedTuple):
    """One row of a feed, as the tests hold it against others."""

    symbol: str
    time: int
    receipt: int
    sequence: int
    publisher: int
    action: str
    side: str
    price: int
    size: int
    flags: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


def rows_of(batches: Iterable[Batch]) -> list[Row]:
    """Row by row, after a look at what every batch has to be."""
    found = []
    for batch in batches:
        depth = batch.depth
        for name, array in batch.columns().items():
            assert array.flags.c_contiguous, name
            assert array.shape == ((len(batch), depth) if name.startswith(("bid_", "ask_")) else (len(batch),)), name
        values = {name: array.tolist() for name, array in batch.columns().items()}
        for i in range(len(batch)):
            one = {name: value[i] for name, value in values.items()}
            found.append(
                Row(
                    batch.symbols[one["symbol"]],
                    *(one[name] for name in ("time", "receipt", "sequence", "publisher")),
                    chr(one["action"]) if one["action"] else "",
                    chr(one["side"]) if one["side"] else "",
                    *(one[name] for name in ("price", "size", "flags")),
                    tuple(zip(one["bid_price"], one["bid_size"], strict=True)),
                    tuple(zip(one["ask_price"], one["ask_size"], strict=True)),
                )
            )
    return found


def units(price: float | None) -> int:
    return NO_PRICE if price is None else int((Decimal(repr(price)) * 10**9).to_integral_exact())


def row_of(update: BookUpdate, depth: int) -> Row:
    """What a row decoder's update is as a row."""

    def side(levels: list[Any]) -> tuple[tuple[int, int], ...]:
        shown = [(NO_PRICE, 0) if level is None else (units(level[0]), level[1]) for level in levels]
        return tuple(shown + [(NO_PRICE, 0)] * (depth - len(shown)))

    event = update.event
    return Row(
        update.symbol, update.time, update.receipt,
        NO_SEQUENCE if update.sequence is None else update.sequence, update.publisher_id,
        *(("", "", NO_PRICE, 0) if event is None else (event.action, event.side, units(event.price), event.size)),
        update.flags, side(update.bids), side(update.asks),
    )  # fmt: skip


def decoded(decoder: Any, lines: list[bytes], depth: int) -> tuple[list[Row], Counter[str], int]:
    """What the row decoder makes of lines: rows, what is bad by reason, and how many are blank."""
    decoder.learn(lines[:1000])
    rows, bad = [], Counter[str]()
    for line in lines:
        try:
            if line:
                rows.append(row_of(decoder.decode(line), depth))
        except DataError as error:
            bad[error.reason] += 1
    return rows, bad, lines.count(b"")


def written(path: Path, lines: Iterable[bytes], pack: Any = bytes) -> str:
    path.write_bytes(pack(b"".join(line + b"\n" for line in lines)))
    return str(path)


def assert_all_counted(one: sor.Feed, given: int) -> None:
    assert one.rows == given + sum(one.skipped.values()) + sum(one.bad.values())


# --- one row -------------------------------------------------------------------------------------------------------

HEADER = (
    b"ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence,"
    b"bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00,bid_px_01,ask_px_01,bid_sz_01,ask_sz_01,symbol"
)
LINE = (
    b"2024-08-01T13:36:00.000109067Z,2024-08-01T13:36:00.000000001Z,10,6,38,C,A,0,222.82,100,130,95605,829095,"
    b"222.82,222.850000001,200,1200,2,3,222.5,,1000,218,AAPL"
)
WANTED = Row(
    "AAPL", 1722519360000000001, 1722519360000109067, 829095, 6, "C", "A", 222820000000, 100, 130,
    ((222820000000, 200), (222500000000, 1000)), ((222850000001, 1200), (NO_PRICE, 0)),
)  # fmt: skip
SPELLED = {
    "usual": LINE,
    "integers": LINE.replace(b"222.82,", b"222820000000,")
    .replace(b"222.850000001", b"222850000001")
    .replace(b"222.5", b"222500000000")
    .replace(b"13:36:00.000000001Z", b"13:36:00.000000001+0000"),
    "nanoseconds": LINE.replace(b"2024-08-01T13:36:00.000000001Z", b"1722519360000000001"),
    "quoted": LINE.replace(b"AAPL", b'"AAPL"'),
    "nine decimals": LINE.replace(b"222.82,", b"222.820000000,"),
    "zeros and blanks": LINE.replace(b",10,6,", b",010,+6,").replace(b",829095,", b", 829095,"),
}


@pytest.mark.parametrize("line", SPELLED.values(), ids=SPELLED)
def test_a_row_by_hand(kernel: str, tmp_path: Path, line: bytes) -> None:
    found = sor.read_feed(written(tmp_path / "feed", [HEADER, line]), depth=2)
    assert rows_of(found) == [WANTED]
    message = message_of(HEADER.decode().split(","), databento_csv.split_row(line))
    assert rows_of(sor.read_feed(written(tmp_path / "json", [message]), depth=2)) == [WANTED]


def test_levels_that_a_file_does_not_have_show_nothing(tmp_path: Path) -> None:
    (row,) = rows_of(sor.read_feed(written(tmp_path / "feed", [HEADER, LINE]), depth=4))
    assert row == WANTED._replace(bids=WANTED.bids + ((NO_PRICE, 0),) * 2, asks=WANTED.asks + ((NO_PRICE, 0),) * 2)


def test_a_feed_that_tells_little(kernel: str, tmp_path: Path) -> None:
    header = b"ts_event,publisher_id,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,symbol"
    line = b"2024-08-01T13:36:00.000000001Z,2,,222.85,,1200,AAPL"
    wanted = Row(
        "AAPL", START + 1, 0, NO_SEQUENCE, 2, "", "", NO_PRICE, 0, 0, ((NO_PRICE, 0),), ((222850000000, 1200),)
    )
    assert rows_of(sor.read_feed(written(tmp_path / "feed", [header, line, line]))) == [wanted] * 2


def test_types_and_symbols() -> None:
    found = list(sor.read_feed(SAMPLE, depth=3))
    assert sum(map(len, found)) == SAMPLE.read_bytes().count(b"\n") - 1
    kinds = {name: str(array.dtype) for name, array in found[0].columns().items()}
    assert kinds == {
        "symbol": "int32", "time": "int64", "receipt": "int64", "sequence": "uint64", "publisher": "uint16",
        "action": "uint8", "side": "uint8", "price": "int64", "size": "int64", "flags": "uint8",
        "bid_price": "int64", "bid_size": "int64", "ask_price": "int64", "ask_size": "int64",
    }  # fmt: skip
    assert found[0].symbols == ("AAPL",)


@pytest.mark.parametrize(
    ("price", "wanted"),
    [
        (222.82, 222820000000), (0.0001, 100000), (1e-9, 1), (2251799.813685247, 2251799813685247),
        (10000000.01, 10000000010000000), (8388607.999999999, 8388607999999999), (1e9, 10**18),
        (123456789.125, 123456789125000000),
    ],
)  # fmt: skip
def test_units_of_a_price(price: float, wanted: int) -> None:
    assert units_of(price) == wanted
    assert price_of("p", price) == price_of("p", f"{price:.9f}") == price


@example(4503599627370491)  # times 1e9 it is a unit more
@given(st.integers(2**51, 10**16))
def test_the_double_of_nine_decimals_is_a_price_however_large(units: int) -> None:
    text = f"{units // 10**9}.{units % 10**9:09d}"
    price = float(text)
    assert price_of("p", text) == price_of("p", price) == dollars_of("p", text) == price
    assert units_of(price) / 10**9 == price


@pytest.mark.parametrize(
    ("price", "units"),
    [
        ("0.0000000001", 1), ("222.8200000001", 222820000000), ("222.82000000000002", 222820000000),
        ("100.0000000007", 100000000001),
    ],
)  # fmt: skip
def test_a_price_finer_than_nine_decimals_is_whole_units_in_a_column(price: str, units: int) -> None:
    """Such as the sum of 100 and a few hundredths, which many who send JSON make in binary."""
    for value in (price, float(price)):
        assert price_of("p", value) == dollars_of("p", price) == float(price)
        assert units_of(float(price)) == units


@pytest.mark.parametrize("value", [None, "", " ", "NaT", "nan", 2**64 - 1, str(2**64 - 1), float("nan")])
def test_no_time_of_receipt(value: Any) -> None:
    assert receipt_of("ts_recv", value) == 0
    with pytest.raises(DataError):
        receipt_of("ts_recv", "yesterday")


# --- against the row decoders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 10])
def test_the_sample_is_what_the_row_decoders_say(kernel: str, tmp_path: Path, depth: int) -> None:
    header, *lines = SAMPLE.read_bytes().splitlines()
    wanted, _, _ = decoded(CsvDecoder(header, depth, events=True, receipts=True, quick=False), lines, depth)
    assert len(wanted) == len(lines)
    assert rows_of(sor.read_feed(SAMPLE, depth=depth)) == wanted
    names = header.decode().split(",")
    messages = [message_of(names, line.decode().split(",")) for line in lines]
    assert rows_of(sor.read_feed(written(tmp_path / "feed.json", messages), depth=depth)) == wanted


def test_ibm_is_what_the_row_decoder_says(kernel: str, shared: Path, tmp_path: Path) -> None:
    for path in sorted((shared / "data" / "ibm_week").glob("*.csv.gz")):
        header, *lines = gzip.decompress(path.read_bytes()).splitlines()[:4000]
        wanted, bad, _ = decoded(CsvDecoder(header, 1, events=True, receipts=True, quick=False), lines, 1)
        assert not bad
        assert rows_of(sor.read_feed(written(tmp_path / path.name, [header, *lines], gzip.compress))) == wanted


def test_usual_rows_are_not_decoded_one_by_one(kernel: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    decode = CsvDecoder.decode
    monkeypatch.setattr(CsvDecoder, "decode", lambda self, raw: asked.append(raw) or decode(self, raw))
    assert sum(map(len, sor.read_feed(SAMPLE))) > 1000
    if kernel == "cython":
        path = shared / "data" / "ibm_week" / "lean_ibm_20131007_mbp-1.csv.gz"
        assert sum(map(len, sor.read_feed(path))) == 97_544
    assert len(asked) <= 2  # the first of each, which tells the symbol


CELLS = {
    "ts_recv": ["", "NaT", str(2**64 - 1), "never"],
    "ts_event": [
        "2024-02-29T00:00:00.000000000Z", "2023-02-29T00:00:00.000000000Z", "2024-08-01T24:00:00.000000000Z",
        "2024-08-01T13:60:00.000000000Z", "2024-08-01T13:36:60.000000000Z", "2024-08-01 13:36:00.000000000Z",
        "2024-08-01T13:36:00.00000000Z", "1969-12-31T23:59:59.999999999Z", "2262-04-11T23:47:16.854775807Z",
        "2262-04-11T23:47:16.854775806Z", "9999-12-31T23:59:59.999999999Z", "2024-08-01T13:36:00.5+01:00", "", "-1",
        "1722519360", "631152000000000000", "631151999999999999", "9223372036854775806", "9223372036854775807",
        "99999999999999999999", "2024-13-01T00:00:00.000000000Z", "0000-01-01T00:00:00.000000000Z", "1971", "2024-",
        "1970-12-31T23:59:59.999999999Z", "2024-08-01T23:59:59.999999999Z", "1970-01-01T00:00:00.000000000Z",
    ],
    "rtype": ["", "1", "01", "0", "160", "177", "x", "256", "10.0", " "],
    "publisher_id": ["0", "65535", "65536", "-1", "", "2.0", "2.5", "007", "9" * 30],
    "action": ["A", "C", "M", "R", "F", "N", "", "Q", "TT", '"T"', "t"],
    "side": ["B", "A", "N", "", "Q", "BB"],
    "price": ["", "0", "0.0", "222", "222.5", "1e2", "nan", "-5.0", ".5", "5.", "222500000000", "x"],
    "size": ["", "0", "1", str(NO_SIZE), str(10**12), str(10**12 + 1), "1.5", "2.0", "-3", "x", "9" * 20],
    "flags": ["", "0", "4", "12", "255", "256", "-1", "x", "8.0"],
    "sequence": ["", "0", str(2**63 - 1), str(2**63), str(2**64 - 1), str(2**64), "-1", "7.0", "1" * 25, "x"],
    "symbol": ["MSFT", "BRK.B", '"AAPL"', '"A,B"', '"A', "", "x" * 65, "ÄÖ", "A\rB", "AAPLE", "AAP", " AAPL"],
    "instrument_id": ["", "anything", '"a,b"', "ä", "\x7f", "\0"],
}  # fmt: skip
PRICES = [
    "", "0", "0.00", "222.820000000", "222.8200000000", "222.8200000001", "222.82000000001", "1000000000.0",
    "1000000001.0", "2251799.813685248", "2251799.813685247", "9999999.123456789", "12345678.5",
    "123456789.123456789", "0.000000001", "99999999999999999999", "9223372036854775807", "9223372036854775808",
    "222820000000", "99999", "100000", "222", "+222.5", "1e-9", "222_1.5", ".5", "5.", ".", "-", "nan", "NaN", "None",
    "inf", "-1.5", "x", " 222.5", "0222.5", "00000222.5", "2,5",
]  # fmt: skip
for _name in ("bid_px_00", "ask_px_00", "bid_px_01", "ask_px_01"):
    CELLS[_name] = PRICES
for _name in ("bid_sz_00", "ask_sz_00", "bid_sz_01", "ask_sz_01"):
    CELLS[_name] = CELLS["size"]
NAMES = HEADER.decode().split(",")
GOOD = dict(zip(NAMES, LINE.decode().split(","), strict=True))
WHOLE_ROWS = [
    b"",
    b"\r",
    b",",
    b"x",
    b'"',
    b"\xff",
    LINE + b",",
    LINE[:-5],
    LINE + b"\r",
    b" " + LINE,
    LINE * 2,
    LINE.replace(b",38,", b",\xff,"),
]


@st.composite
def odd_lines(draw: Any) -> list[bytes]:
    """Good rows, of which some have cells that are spelled in every way, and what is no row."""
    lines = []
    for _ in range(draw(st.integers(1, 12))):
        cells = dict(GOOD)
        cells["ts_event"] = f"2024-08-01T13:36:{draw(st.integers(0, 59)):02d}.{draw(st.integers(0, 10**9 - 1)):09d}Z"
        cells["symbol"] = draw(st.sampled_from(["AAPL", "AAPL", "MSFT", "A"]))
        for name in draw(st.lists(st.sampled_from(sorted(CELLS)), max_size=3)):
            cells[name] = draw(st.sampled_from(CELLS[name]))
        for name in draw(st.lists(st.sampled_from(["bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00"]), max_size=2)):
            cells[name] = ""
        lines.append(",".join(cells.values()).encode())
        if not draw(st.integers(0, 5)):
            lines.append(draw(st.sampled_from(WHOLE_ROWS)))
    return lines


def in_integers(line: bytes) -> bytes:
    return re.sub(rb"(?<=,)222\.(\d+)(?=,)", lambda match: b"222" + match[1].ljust(9, b"0"), line)


@pytest.mark.parametrize("integers", [False, True], ids=["dollars", "integers"])
def test_every_spelling_is_what_the_row_decoder_says(kernel: str, tmp_path: Path, integers: bool) -> None:
    lines = [",".join({**GOOD, name: cell}.values()).encode() for name in CELLS for cell in CELLS[name]]
    lines = [*[LINE] * 1000, *lines, *WHOLE_ROWS, LINE]  # the first thousand say what prices are
    if integers:
        lines = list(map(in_integers, lines))
    one = sor.read_feed(written(tmp_path / "feed.csv", [HEADER, *lines]), depth=2)
    rows = rows_of(one)
    wanted, bad, _ = decoded(
        CsvDecoder(HEADER, 2, events=True, receipts=True, quick=False), [line.removesuffix(b"\r") for line in lines], 2
    )
    assert rows == wanted
    assert one.bad == bad
    assert len(rows) > 1100
    assert sum(bad.values()) > 100


def answers(lines: list[bytes], learn: bool, **options: Any) -> list[object]:
    """Updates and refusals of a row decoder."""
    decoder = CsvDecoder(HEADER, **options)
    found: list[object] = []
    try:
        decoder.learn(lines if learn else [])
    except DataError as error:
        found.append((error.reason, str(error)))
    for line in lines:
        try:
            found.append(decoder.decode(line))
        except DataError as error:
            found.append((error.reason, str(error)))
    return found


def told_alike(lines: list[bytes], learn: bool, **options: Any) -> list[object]:
    wanted = answers(lines, learn, **options, quick=False)
    assert answers(lines, learn, **options, quick=True) == wanted
    return wanted


@pytest.mark.parametrize("integers", [False, True], ids=["dollars", "integers"])
@pytest.mark.parametrize("asked", [False, True], ids=["routing", "research"])
def test_quick_rows_of_every_spelling(kernel: str, integers: bool, asked: bool) -> None:
    lines = [",".join({**GOOD, name: cell}.values()).encode() for name in CELLS for cell in CELLS[name]]
    lines = [LINE, *lines, *WHOLE_ROWS, LINE]
    if integers:
        lines = list(map(in_integers, lines))
    assert len(told_alike(lines, False, depth=2, events=asked, receipts=asked)) > 100


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=300)
@given(odd_lines(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 3))
def test_quick_rows_are_what_slow_ones_are(
    kernel: str, lines: list[bytes], integers: bool, learn: bool, events: bool, receipts: bool, depth: int
) -> None:
    if integers:
        lines = list(map(in_integers, lines))
    told_alike(lines, learn, depth=depth, events=events, receipts=receipts)


def test_usual_rows_are_read_quickly(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    header, *lines = SAMPLE.read_bytes().splitlines()
    decoder = CsvDecoder(header, quick=True)
    decoder.learn(lines)
    split = []
    cells = CsvDecoder.cells
    monkeypatch.setattr(CsvDecoder, "cells", lambda self, raw: split.append(raw) or cells(self, raw))
    for line in lines:
        decoder.decode(line)
    assert len(split) == len({line.rsplit(b",", 1)[1] for line in lines})  # the first of a symbol


@pytest.mark.parametrize("integers", [False, True], ids=["dollars", "integers"])
def test_the_unit_of_a_file_that_begins_without_prices(kernel: str, tmp_path: Path, integers: bool) -> None:
    """The first row with a price says it."""
    bare = re.sub(rb",222\.\d+", b",", LINE)
    first, other = (in_integers(LINE), LINE) if integers else (LINE, in_integers(LINE))
    one = sor.read_feed(written(tmp_path / "feed.csv", [HEADER, *[bare] * 1001, first, other, other, first]), depth=2)
    nothing = WANTED._replace(price=NO_PRICE, bids=((NO_PRICE, 0),) * 2, asks=((NO_PRICE, 0),) * 2)
    assert rows_of(one) == [nothing] * 1001 + [WANTED] * 2
    assert one.bad == {"price": 2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(odd_lines(), st.booleans(), st.integers(1, 3), st.integers(1, 300))
@example([LINE.replace(b"222.82,", b","), LINE, LINE.replace(b"222.82,", b"222,")], False, 1, 1)
def test_odd_rows_are_what_the_row_decoder_says(
    kernel: str, tmp_path: Path, lines: list[bytes], integers: bool, depth: int, size: int
) -> None:
    """Whatever the spelling; and wherever the file is cut into pieces as it is read."""
    if integers:
        lines = list(map(in_integers, lines))
    path = written(tmp_path / "feed.csv", [HEADER, *lines])
    stripped = [line.removesuffix(b"\r") for line in lines]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sor.market.rows.BLOCK", size)
        patch.setattr("sor.market.packed.Bytes._some", lambda self, _: self._file.read(size))
        patch.setattr(feed, "FEWEST", 2)
        patch.setattr(feed, "ROWS", 4)
        found = read_or_refused(path, depth)
    try:
        decoder = CsvDecoder(HEADER, depth, events=True, receipts=True, quick=False)
        wanted, bad, blank = decoded(decoder, stripped, depth)
    except DataError:
        assert found is None
        return
    assert found is not None
    one, rows = found
    assert rows == wanted
    assert one.bad == bad
    assert one.skipped == Counter({"blank": blank} if blank else {})
    assert_all_counted(one, len(rows))


def read_or_refused(path: str, depth: int) -> tuple[sor.Feed, list[Row]] | None:
    try:
        one = sor.read_feed(path, depth=depth)
        return one, rows_of(one)
    except InputError:
        return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(odd_lines())
def test_odd_messages_are_what_the_row_decoder_says(tmp_path: Path, lines: list[bytes]) -> None:
    decoder = CsvDecoder(HEADER)
    messages = [LINE_MESSAGE]
    for line in lines:
        with contextlib.suppress(DataError):
            messages.append(message_of(NAMES, decoder.cells(line)))
    found = read_or_refused(written(tmp_path / "feed.json", messages), 2)
    try:
        wanted, bad, _ = decoded(JsonDecoder(2, events=True, receipts=True), messages, 2)
    except DataError:
        assert found is None
        return
    assert found is not None
    assert found[1] == wanted
    assert found[0].bad == bad


LINE_MESSAGE = message_of(NAMES, LINE.decode().split(","))


@given(st.lists(st.binary(max_size=60), max_size=5), st.integers(0, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_counted(kernel: str, tmp_path: Path, bites: list[bytes], at: int) -> None:
    content = b"\n".join([HEADER, LINE, *(LINE[:at] + bite + LINE[at:] for bite in bites), LINE]) + b"\n"
    path = tmp_path / "feed.csv"
    path.write_bytes(content)
    found = read_or_refused(str(path), 2)
    assert found is not None
    one, rows = found
    lines = [line.removesuffix(b"\r") for line in content.split(b"\n")[1:-1]]
    assert rows == decoded(CsvDecoder(HEADER, 2, events=True, receipts=True, quick=False), lines, 2)[0]
    assert one.rows == len(lines)
    assert_all_counted(one, len(rows))


def test_a_mark_of_utf8_and_windows_line_breaks(kernel: str, tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(line + b"\r\n" for line in (HEADER, LINE, LINE)))
    assert rows_of(sor.read_feed(path, depth=2)) == [WANTED] * 2
    path.write_bytes(b"\xef\xbb\xbf" + LINE_MESSAGE + b"\r\n")
    assert rows_of(sor.read_feed(path, depth=2)) == [WANTED]


def test_a_last_line_without_its_end(kernel: str, tmp_path: Path) -> None:
    """A row may be a part of one; a JSON object says where it ends."""
    for content, whole, bad in (
        (HEADER + b"\n" + LINE + b"\n" + LINE, 1, {"unfinished": 1}),
        (LINE_MESSAGE + b"\n" + LINE_MESSAGE, 2, {}),
        (LINE_MESSAGE + b"\n" + LINE_MESSAGE[:-1], 1, {"unfinished": 1}),
        (HEADER, 0, {}),
    ):
        path = tmp_path / "feed"
        path.write_bytes(content)
        one = sor.read_feed(path)
        assert sum(map(len, one)) == whole
        assert one.bad == bad
        assert_all_counted(one, whole)


def test_a_line_that_is_too_long_is_one_bad_row(kernel: str, tmp_path: Path) -> None:
    one = sor.read_feed(written(tmp_path / "feed", [HEADER, LINE, b"x" * 3_000_000, LINE]))
    assert sum(map(len, one)) == 2
    assert one.bad == {"cells": 1}


def test_bad_rows_are_told_by_file_and_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = LINE.replace(b",6,", b",-6,")
    path = written(tmp_path / "feed", [HEADER, LINE, bad, b"", *[bad] * 7])
    one = sor.read_feed(path)
    with caplog.at_level(logging.WARNING):
        assert sum(map(len, one)) == 1
    for record, line in zip(caplog.records, (3, 5, 6, 7, 8), strict=False):
        assert record.getMessage().startswith(f"bad row: {path}:{line}: number: publisher_id is '-6'")
    assert len(caplog.records) == feed.TOLD + 1
    assert caplog.records[-1].getMessage() == "8 bad rows in all: number 8"
    assert (one.rows, one.bad, one.skipped) == (10, {"number": 8}, {"blank": 1})
    assert sum(map(len, one)) == 1
    assert one.rows == 10  # counted anew, not on top


# --- many files ----------------------------------------------------------------------------------------------------


def line_at(time: int, symbol: str = "AAPL", sequence: int = 1) -> bytes:
    cells = {**GOOD, "ts_event": str(START + time), "symbol": symbol, "sequence": str(sequence)}
    return ",".join(cells.values()).encode()


def merged(files: list[list[tuple[int, str]]]) -> list[tuple[int, str, int]]:
    """Plain reference: all rows in one list, sorted by newest time so far, file and place."""
    rows = []
    for number, file in enumerate(files):
        newest = itertools.accumulate((time for time, _ in file), max)
        for place, (key, (time, symbol)) in enumerate(zip(newest, file, strict=True)):
            rows.append((key, number, place, time, symbol))
    return [(time, symbol, 1000 * number + place) for _, number, place, time, symbol in sorted(rows)]


some_files = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["A", "B", "C"])), max_size=12), min_size=1, max_size=4
)


def written_files(folder: Path, files: list[list[tuple[int, str]]]) -> list[str]:
    return [
        written(
            folder / f"{number}.csv", [HEADER, *(line_at(t, s, 1000 * number + i) for i, (t, s) in enumerate(rows))]
        )
        for number, rows in enumerate(files)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_files, st.integers(1, 5), st.booleans())
def test_files_are_merged_by_time(tmp_path: Path, files: list[Any], held: int, rising: bool) -> None:
    if rising:
        files = [sorted(file) for file in files]
    paths = written_files(tmp_path, files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "FEWEST", held)
        patch.setattr(feed, "ROWS", 2 * held)
        one = sor.read_feed(paths)
        batches = list(one)
    rows = rows_of(batches)
    assert [(row.time - START, row.symbol, row.sequence) for row in rows] == merged(files)
    assert_all_counted(one, len(rows))
    names = list(dict.fromkeys(row.symbol for row in rows))
    numbers = [number for batch in batches for number in batch.symbol.tolist()]
    assert numbers == [names.index(row.symbol) for row in rows]
    assert all(batch.symbols == tuple(names[: len(batch.symbols)]) for batch in batches)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_files, st.sets(st.sampled_from("ABCD")), st.integers(0, 13), st.integers(0, 13), st.booleans())
def test_filters_leave_out_rows_and_change_no_order(
    tmp_path: Path, files: list[Any], symbols: set[str], start: int, end: int, iso: bool
) -> None:
    paths = written_files(tmp_path, files)
    times = [START + start, START + end]
    bounds = [f"2024-08-01T13:36:00.{time - START:09d}Z" for time in times] if iso else times
    one = sor.read_feed(paths, symbols or None, *bounds)
    wanted = [
        row for row in rows_of(sor.read_feed(paths))
        if (not symbols or row.symbol in symbols) and times[0] <= row.time < times[1]
    ]  # fmt: skip
    assert rows_of(one) == wanted
    assert one.rows == sum(map(len, files))
    assert_all_counted(one, len(wanted))
    assert set(one.skipped) <= {"symbol", "time"}


def test_files_of_different_kinds_are_one_feed(tmp_path: Path) -> None:
    lines = [line_at(time, "AB"[time % 2], time) for time in range(90)]
    paths = [written(tmp_path / "a.csv", [HEADER, *lines[::3]], gzip.compress)]
    messages = [message_of(NAMES, line.decode().split(",")) for line in lines[1::3]]
    paths.append(written(tmp_path / "b.json", messages))
    write_parquet(sor.read_feed(written(tmp_path / "c.csv", [HEADER, *lines[2::3]]), depth=2), tmp_path / "c.parquet")
    paths.append(str(tmp_path / "c.parquet"))
    whole = sor.read_feed(written(tmp_path / "all.csv", [HEADER, *lines]), depth=2)
    for order in itertools.permutations(paths):
        assert rows_of(sor.read_feed(order, depth=2)) == rows_of(whole)


def test_batches_are_neither_large_nor_many(tmp_path: Path) -> None:
    """Rows of two files that alternate come in a few batches."""
    files = [[line_at(2 * time + half) for time in range(40_000)] for half in (0, 1)]
    paths = [written(tmp_path / str(half), [HEADER, *files[half]]) for half in (0, 1)]
    sizes = [len(batch) for batch in sor.read_feed(paths)]
    assert sum(sizes) == 80_000
    assert max(sizes) <= 2**16
    assert len(sizes) <= 4


# --- what does not end well ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 1.0])
def test_an_archive_cut_short_gives_what_is_whole(kernel: str, tmp_path: Path, part: float) -> None:
    noise = random.Random(1)
    lines = [line_at(time, "A", noise.randrange(10**9)) for time in range(5000)]
    content = gzip.compress(b"".join(line + b"\n" for line in (HEADER, *lines)))
    path = tmp_path / "feed.csv.gz"
    path.write_bytes(content[: min(int(len(content) * part), len(content) - 1)])
    other = written(tmp_path / "other.csv", [HEADER, *(line_at(time, "B") for time in range(0, 10_000, 100))])
    for paths in ([path], [path, other], [other, path]):
        one, rows = sor.read_feed(paths), []
        with pytest.raises(StreamError) as caught:
            rows.extend(row for batch in one for row in rows_of([batch]))
        whole = [row for row in rows if row.symbol == "A"]
        assert [row.time for row in whole] == [START + time for time in range(len(whole))]
        assert f"{path}, after line {len(whole) + 1}: the gzip data ends before" in str(caught.value)
        assert len(rows) - len(whole) == (100 if len(paths) > 1 else 0)
        assert len(whole) >= 5000 * part * 0.8
        assert_all_counted(one, len(rows))


def test_before_a_damage_a_feed_gives_what_its_messages_are(kernel: str, tmp_path: Path) -> None:
    """What gzip has unpacked and then finds to be wrong is lost: that is not to be more where more is asked for."""
    content = bytearray(gzip.compress(b"".join(line + b"\n" for line in (HEADER, *map(line_at, range(5000))))))
    content[-8] ^= 1  # of the sum over all
    path = tmp_path / "feed.csv.gz"
    path.write_bytes(content)
    one, source = sor.read_feed(path), open_feed(str(path))
    lines: list[Any] = []
    for reader in (one, source):
        lines.clear()
        with pytest.raises(StreamError, match="incorrect data check"):
            lines.extend(reader)
    source.close()
    assert one.rows == len(lines) > 3_000


def test_an_archive_cut_within_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv.gz"
    path.write_bytes(gzip.compress(HEADER)[:40])
    with pytest.raises(StreamError, match="after line 0"):
        sor.read_feed(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "starts with a blank line"),
        (b"time,price\n1,2\n", "no column ts_event"),
        (b"PK\x03\x04", "zip archive"),
        (HEADER + b"\n" + LINE.replace(b",10,", b",160,") + b"\n", "rtype is 160"),
        (b"[1]", "a JSON array"),
        (b"{\n", "JSON over several lines"),
        (b"\xef\xbb\xbfPAR1", "no column ts_event"),  # a mark is of text
        (b"\xef\xbb\xbfDBN\x03", "no column ts_event"),
    ],
)
def test_files_that_are_no_feed(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "feed"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        list(sor.read_feed([SAMPLE, path]))
    assert str(path) in str(caught.value)
    with pytest.raises(InputError, match=words):
        open_feed(str(path)).decoder(1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"paths": []}, "paths is empty"),
        ({"paths": "there/is/none.csv"}, "cannot read there/is/none.csv"),
        ({"paths": [SAMPLE.parent]}, f"cannot read {SAMPLE.parent}"),
        ({"start": "yesterday"}, "start is 'yesterday'"),
        ({"end": 1722519360}, "are these seconds"),
        ({"end": 1.5}, "end is 1.5"),
        ({"depth": 0}, "depth is 0"),
    ],
)
def test_wrong_calls(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        sor.read_feed(**{"paths": SAMPLE, **arguments})


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    one = sor.read_feed(path, depth=2)
    if os.fork() == 0:
        with open(path, "wb") as pipe:
            pipe.write(HEADER + b"\n" + LINE + b"\n")
        os._exit(0)
    assert rows_of(one) == [WANTED]
    os.wait()
    with pytest.raises(InputError, match="cannot be read again"):
        list(one)


def test_a_feed_that_is_left_closes_its_files(tmp_path: Path) -> None:
    """Else Python would warn, and warnings are errors here."""
    paths = written_files(tmp_path, [[(1, "A")] * 10] * 3)
    for _ in sor.read_feed(paths):
        break


# --- Arrow and Parquet ---------------------------------------------------------------------------------------------


def test_arrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    bare = LINE.replace(b",829095,", b",,").replace(b"2024-08-01T13:36:00.000109067Z", b"").replace(b"AAPL", b"MSFT")
    table = sor.read_feed(written(tmp_path / "feed", [HEADER, LINE, bare]), depth=2).to_arrow()
    assert table.num_rows == 2
    assert table.column("time").type == pyarrow.timestamp("ns", "UTC")
    assert table.column("time").cast("int64").to_pylist() == [START + 1] * 2
    assert table.column("receipt").cast("int64").to_pylist() == [START + 109067, None]
    assert table.column("sequence").to_pylist() == [829095, None]
    assert table.column("symbol").to_pylist() == ["AAPL", "MSFT"]
    assert table.column("bid_price").to_pylist() == [222820000000] * 2
    assert table.column("ask_price_1").to_pylist() == [None] * 2
    assert table.column("ask_size_1").to_pylist() == [0] * 2
    assert sor.read_feed(tmp_path / "feed", symbols="none").to_arrow().num_rows == 0


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "feed.parquet"
    write_parquet(sor.read_feed(SAMPLE), path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (sor.read_feed(SAMPLE).to_arrow, lambda: list(sor.read_feed(path)), lambda: write_parquet([], path)):
        with pytest.raises(InputError, match=re.escape("pip install 'sor[parquet]'")):
            call()


@pytest.mark.parametrize("depth", [1, 10])
def test_parquet_of_a_feed_is_the_feed(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "feed.parquet"
    one = sor.read_feed(SAMPLE, depth=depth)
    assert write_parquet(one, path) == sum(map(len, one))
    again = sor.read_feed(path, depth=depth)
    assert rows_of(again) == rows_of(one)
    assert (again.bad, again.skipped) == ({}, {})
    shallow = sor.read_feed(path, depth=1)
    assert rows_of(shallow) == rows_of(sor.read_feed(SAMPLE, depth=1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=30)
@given(odd_lines())
def test_parquet_of_odd_rows(tmp_path: Path, lines: list[bytes]) -> None:
    path = written(tmp_path / "feed.csv", [HEADER, LINE, *lines])
    found = read_or_refused(path, 2)
    assert found is not None
    write_parquet(found[0], tmp_path / "feed.parquet")
    assert rows_of(sor.read_feed(tmp_path / "feed.parquet", depth=2)) == found[1]


def test_parquet_of_the_ibm_week(shared: Path, tmp_path: Path) -> None:
    paths = sorted((shared / "data" / "ibm_week").glob("*.csv.gz"))
    whole = sor.BACKEND == "cython"
    one = sor.read_feed(paths if whole else paths[:1])
    assert write_parquet(one, tmp_path / "week.parquet") == (516_351 if whole else 97_544)
    before, again = list(one), list(sor.read_feed(tmp_path / "week.parquet"))
    for name in again[0].columns():
        wanted, found = (np.concatenate([batch.columns()[name] for batch in some]) for some in (before, again))
        assert wanted.dtype == found.dtype
        assert np.array_equal(wanted, found), name


def test_the_same_rows_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they come in batches, and whatever symbols came before."""
    monkeypatch.setattr(parquet, "GROUP", 700)
    lines = [line_at(time, "ABCD"[time // 400 % 4], time) for time in range(2100)]
    path = written(tmp_path / "feed.csv", [HEADER, *lines])
    write_parquet(sor.read_feed(path), tmp_path / "1")
    monkeypatch.setattr(feed, "FEWEST", 90)
    monkeypatch.setattr(feed, "ROWS", 90)
    write_parquet(sor.read_feed(path), tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    pyarrow = pytest.importorskip("pyarrow.parquet")
    assert pyarrow.ParquetFile(tmp_path / "1").metadata.num_row_groups == 3
    assert rows_of(sor.read_feed(tmp_path / "1")) == rows_of(sor.read_feed(path))


def test_a_feed_that_breaks_leaves_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv.gz"
    path.write_bytes(gzip.compress(SAMPLE.read_bytes())[:-9])
    with pytest.raises(StreamError):
        write_parquet(sor.read_feed(path), tmp_path / "feed.parquet")
    assert os.listdir(tmp_path) == ["feed.csv.gz"]
    with pytest.raises(InputError, match="cannot write"):
        write_parquet(sor.read_feed(SAMPLE), tmp_path / "no" / "feed.parquet")


def table_of(**more: Any) -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    plain = {
        "time": [START + 1], "venue": ["XNAS"], "symbol": ["AAPL"], "bid": [222.82], "ask": [222.83],
        "bid_size": [100], "ask_size": [36],
    }  # fmt: skip
    plain = {name: value for name, value in {**plain, **more}.items() if value is not None}
    return pyarrow.table(plain)


def read_table(path: Path, table: Any, depth: int = 1) -> tuple[list[Row], Counter[str]]:
    pytest.importorskip("pyarrow.parquet").write_table(table, path)
    one = sor.read_feed(path, depth=depth)
    return rows_of(one), one.bad


PLAIN_ROW = Row(
    "AAPL", START + 1, 0, NO_SEQUENCE, 2, "", "", NO_PRICE, 0, 0, ((222820000000, 100),), ((222830000000, 36),)
)


def test_parquet_with_the_columns_of_the_plain_form(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    stamp = pyarrow.array([(START + 1000) // 1000], pyarrow.timestamp("us"))
    for more, wanted in (
        ({}, PLAIN_ROW),
        ({"venue": [2], "other": [7]}, PLAIN_ROW),
        ({"venue": ["43"]}, PLAIN_ROW._replace(publisher=43)),
        ({"time": ["2024-08-01T13:36:00.000000001Z"], "ask": ["222.83"], "ask_size": [36.0]}, PLAIN_ROW),
        ({"time": stamp}, PLAIN_ROW._replace(time=START + 1000)),
        ({"bid": [Decimal("222.82")]}, PLAIN_ROW),
        ({"bid": [222.82 + 3e-14]}, PLAIN_ROW),
        ({"bid": [222]}, PLAIN_ROW._replace(bids=((222000000000, 100),))),
        ({"bid": pyarrow.array([None], pyarrow.float64())}, PLAIN_ROW._replace(bids=((NO_PRICE, 0),))),
        ({"bid_size": [0], "ask": [float("nan")]}, PLAIN_ROW._replace(bids=((NO_PRICE, 0),), asks=((NO_PRICE, 0),))),
    ):
        assert read_table(tmp_path / "feed", table_of(**more)) == ([wanted], {}), more
    deep = table_of(bid_1=[222.0], ask_1=[223.5], bid_size_1=[7], ask_size_1=[8], bid_2=[221.0])
    assert read_table(tmp_path / "feed", deep, 3) == (
        [
            PLAIN_ROW._replace(
                bids=(*PLAIN_ROW.bids, (222000000000, 7), (NO_PRICE, 0)),
                asks=(*PLAIN_ROW.asks, (223500000000, 8), (NO_PRICE, 0)),
            )
        ],
        {},
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"venue": ["NASDAQ"]}, "venue"), ({"venue": [70_000]}, "number"), ({"bid": ["much"]}, "number"),
        ({"bid": [-0.3]}, "price"), ({"bid_size": [1.5]}, "size"), ({"time": [7]}, "time"),
        ({"time": [None]}, "time"),
        ({"symbol": [""]}, "symbol"), ({"symbol": [7]}, "symbol"), ({"venue": [None]}, "venue"),
    ],
)  # fmt: skip
def test_bad_rows_of_parquet(tmp_path: Path, more: dict[str, Any], reason: str) -> None:
    assert read_table(tmp_path / "feed", table_of(**more)) == ([], {reason: 1})


@pytest.mark.parametrize("time", [1, 65_536, 10**9, START])
def test_a_message_of_an_update_has_its_time(time: int) -> None:
    """A small number would be taken for seconds, and refused."""
    update = BookUpdate("AAPL", 2, time, None, [(222.0, 1)], [(223.0, 1)], receipt=time)
    assert JsonDecoder(1, receipts=True).decode(message_from(update)) == update


def test_venues_of_a_file_of_ones_own(tmp_path: Path) -> None:
    """Wherever a format names them: in columns, and as messages."""
    (tmp_path / "venues.toml").write_text(OWN)
    directory = VenueDirectory.load(tmp_path / "venues.toml")
    parquet, plain = tmp_path / "feed.parquet", tmp_path / "feed.csv"
    table = table_of(venue=["OWNX"])
    pytest.importorskip("pyarrow.parquet").write_table(table, parquet)
    plain.write_text("time,venue,symbol,bid,ask,bid_size,ask_size\n" + f"{START + 1},OWNX,AAPL,222.82,222.83,100,36\n")
    for path in (parquet, plain):
        assert rows_of(sor.read_feed(path, directory=directory)) == [PLAIN_ROW._replace(publisher=7001)]
        source = open_feed(str(path), directory=directory)
        decoder = source.decoder(1, directory=directory)
        assert [decoder.decode(message.value).publisher_id for message in source] == [7001]
        source.close()
    one = sor.read_feed(parquet)
    assert (rows_of(one), one.bad) == ([], {"venue": 1})


def test_parquet_of_quotes_and_trades(tmp_path: Path) -> None:
    """A row is a quote, a trade, or a trade and the quote that it left behind; half a trade is wrong."""
    pyarrow = pytest.importorskip("pyarrow")
    nothing = {name: pyarrow.array([None], pyarrow.float64()) for name in ("bid", "ask", "bid_size", "ask_size")}
    trade = {"price": [222.83], "size": [7], "side": ["buy"]}
    traded = {"action": "T", "side": "B", "price": 222830000000, "size": 7}
    alone = ((NO_PRICE, -1),)
    for more, wanted in (
        (trade, PLAIN_ROW._replace(**traded)),
        (trade | nothing, PLAIN_ROW._replace(**traded, bids=alone, asks=alone)),
        ({"price": [float("nan")], "size": pyarrow.array([None], pyarrow.int64())}, PLAIN_ROW),
        ({"price": [222.83]}, PLAIN_ROW),  # no trade without a column of sizes
    ):
        assert read_table(tmp_path / "feed", table_of(**more)) == ([wanted], {}), more
    assert read_table(tmp_path / "feed", table_of(price=[222.83], size=[0])) == ([], {"trade": 1})


def test_parquet_of_trades(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "trades.parquet"
    trades = {"time": [START + 1] * 5, "venue": ["XNAS"] * 5, "symbol": ["AAPL"] * 5, "size": [7, 7, 7, 0, 7]}
    trades |= {"price": [222.825] * 5, "side": ["buy", "Sell", None, "buy", "left"]}
    pyarrow.parquet.write_table(pyarrow.table(trades), path)
    one = sor.read_feed(path)
    nothing = ((NO_PRICE, -1),)
    trade = Row("AAPL", START + 1, 0, NO_SEQUENCE, 2, "T", "B", 222825000000, 7, 0, nothing, nothing)
    assert rows_of(one) == [trade, trade._replace(side="A"), trade._replace(side="N")]
    assert one.bad == {"trade": 1, "event": 1}
    source = open_feed(str(path))
    decoder = source.decoder(1, events=True)
    assert next(decoder.decode(message.value).event for message in source) == Event("T", "B", 222.825, 7)
    source.close()
    del trades["side"]
    pyarrow.parquet.write_table(pyarrow.table({**trades, "bid": [1.0] * 5}), path)
    with pytest.raises(InputError, match="no column ask, bid_size, ask_size"):
        rows_of(sor.read_feed(path))


def test_types_that_python_has_not(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    for name, kind, value, reason in (
        ("bid", "duration[ns]", 1_001, "number"),
        ("venue", "time64[ns]", 1_001, "venue"),
        ("symbol", "duration[ns]", 1_001, "symbol"),
        ("ask_size", "duration[ns]", 1_001, "size"),
        ("time", "date32", 10**7, "time"),
    ):
        column = pyarrow.array([value], "int32" if kind == "date32" else "int64").view(kind)
        assert read_table(tmp_path / "feed", table_of(**{name: column})) == ([], {reason: 1}), kind


def test_bad_rows_of_the_columnar_form(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files that say they are of it and were changed by others."""
    pyarrow = pytest.importorskip("pyarrow")
    table = sor.read_feed(written(tmp_path / "feed.csv", [HEADER, *[LINE] * 7])).to_arrow()
    for name, values in (
        ("bid_price", [-1, *[5 * 10**9] * 6]),
        ("ask_size", [1, -1, *[1] * 5]),
        ("action", [67, 67, 7, *[67] * 4]),
        ("time", [START, START, START, None, START, START, START]),
    ):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pyarrow.array(values, pyarrow.int64()).cast(table.schema.field(name).type))
    names = pyarrow.array(["A", "A", "A", "A", None, "", "A"]).dictionary_encode()
    table = table.set_column(0, "symbol", names).replace_schema_metadata(dict([parquet.VERSION]))
    rows, bad = read_table(tmp_path / "feed.parquet", table)
    assert [row.symbol for row in rows] == ["A"]
    assert bad == {"price": 1, "size": 1, "event": 1, "time": 1, "symbol": 2}
    assert f"{tmp_path / 'feed.parquet'}:4: time" in caplog.text


def test_an_event_of_the_columnar_form_without_a_side_is_of_none(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = sor.read_feed(written(tmp_path / "feed.csv", [HEADER, LINE])).to_arrow()
    sides = pyarrow.array([0], pyarrow.uint8())
    table = table.set_column(table.schema.get_field_index("side"), "side", sides)
    path = tmp_path / "feed.parquet"
    rows, bad = read_table(path, table.replace_schema_metadata(dict([parquet.VERSION])))
    assert ([row.side for row in rows], bad) == (["N"], {})
    source = open_feed(str(path))
    (message,) = source
    event = source.decoder(1, events=True).decode(message.value).event
    source.close()
    assert event is not None
    assert event.side == "N"


def test_parquet_that_is_no_feed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "feed"
    with pytest.raises(InputError, match="has no column venue: Parquet must have the columns time, venue"):
        read_table(path, table_of(venue=None))
    with pytest.raises(InputError, match="is of form b'9'"):
        read_table(path, table_of().replace_schema_metadata({b"sor.feed": b"9"}))
    table = sor.read_feed(SAMPLE).to_arrow().replace_schema_metadata(dict([parquet.VERSION]))
    wrong = table.set_column(table.schema.get_field_index("price"), "price", table.column("price").cast("float64"))
    with pytest.raises(InputError, match="the column price is double, and must be int64"):
        read_table(path, wrong)
    for twice, name in ((table, "price"), (table_of(), "bid"), (table_of(note=["x"]), "note")):
        with pytest.raises(InputError, match=f"the column '{name}' stands twice"):
            read_table(path, twice.append_column(name, twice.column(name)))


def test_damaged_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP", 500)
    whole = tmp_path / "whole.parquet"
    rows = write_parquet(sor.read_feed(SAMPLE), whole)
    content = whole.read_bytes()
    path = tmp_path / "feed.parquet"
    for part in (content[: len(content) // 2], content[:-1], content[:4]):
        path.write_bytes(part)
        with pytest.raises(StreamError, match=re.escape(f"{path}, after row 0")):
            list(sor.read_feed(path))
    path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match="unpacked"):
        list(sor.read_feed(path))
    pytest.importorskip("pyarrow.parquet").write_table(table_of(), path, compression="none", use_dictionary=False)
    for text in (b"bid_size", b"AAPL"):  # a name, a value
        broken = tmp_path / "broken.parquet"
        broken.write_bytes(path.read_bytes().replace(text, b"\xf3" + text[1:]))
        with pytest.raises(StreamError, match="can't decode"):
            list(sor.read_feed(broken))
    flips = random.Random(7)
    told = 0
    for _ in range(100):
        damaged = bytearray(content)
        damaged[flips.randrange(4, len(content) - 2000)] ^= 1 << flips.randrange(8)
        path.write_bytes(damaged)
        one = sor.read_feed(path)
        with contextlib.suppress(StreamError):
            assert sum(map(len, one)) == rows
            continue
        told += 1
    assert told > 50


def test_unpacked_files_say_how_they_were_packed(tmp_path: Path) -> None:
    for pack, packing in ((bytes, None), (gzip.compress, "gzip")):
        file = Unpacked(written(tmp_path / "feed", [HEADER, LINE], pack))
        assert file.packing == packing
        assert file.first_line(2**20) == HEADER
        assert file.first_line(9) == HEADER[:9]
        assert b"".join(pieces(file)) == HEADER + b"\n" + LINE + b"\n"
        file.close()


def pieces(file: Unpacked) -> Iterator[bytes]:
    while piece := file.read(100):
        yield piece


def test_batches_are_taken_and_joined() -> None:
    (batch,) = sor.read_feed(SAMPLE, depth=2)
    assert len(batch) < 2**16
    halves = batch.take(slice(700)), batch.take(slice(700, None))
    assert rows_of([columns.joined(halves)]) == rows_of(halves) == rows_of([batch])
    consolidated = Batch(batch.symbols, **batch.columns(), bid_publisher=batch.publisher, ask_publisher=batch.publisher)
    with pytest.raises(InputError, match="not one feed"):
        columns.joined([batch, consolidated])


def test_rows_that_are_no_quotes_stand_in_columns_of_either_kind() -> None:
    trade = BookUpdate("AAPL", 9002, 10**18, None, None, None, Event("T", "N", 1.25, 7))
    own = BookUpdate("AAPL", 2, 10**18, None, [(1.0, 1)], [(2.0, 2)])
    best = BookUpdate("AAPL", 95, 10**18, None, [(1.0, 1)], [(2.0, 2)], bid_publisher=2, ask_publisher=9)
    for quote, other, owners in ((own, best, None), (best, own, [0, 2, 2, 0, 2, 0])):
        collected = Columns(1, 4)
        for row in (trade, quote):
            collected.add(row)
        batches = [collected.take()]  # of which the next rows have nothing
        for row in (quote, trade, quote, trade):
            collected.add(row)
        with pytest.raises(DataError, match="consolidated quotes and quotes of a venue's own"):
            collected.add(other)
        batch = columns.joined([*batches, collected.take()])
        assert batch.quotes.tolist() == [False, True, True, False, True, False]
        assert (None if batch.bid_publisher is None else batch.bid_publisher.tolist()) == owners
