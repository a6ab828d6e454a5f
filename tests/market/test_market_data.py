"""Decoders of market data: two formats, two spellings of every number, one update; garbage gives `DataError` only."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import load_twin
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sor.errors import DataError
from sor.market import BookUpdate, Event
from sor.market.databento_csv import CsvDecoder
from sor.market.databento_json import JsonDecoder, message_from, message_of
from sor.market.fields import iso_of, time_of

SAMPLE = Path(__file__).resolve().parents[2] / "sample.csv"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
LATEST = 2**63 - 2  # nanoseconds
IN_1990 = 631_152_000 * 10**9  # integers before are seconds, milliseconds or microseconds
NO_PRICE, NO_SIZE = 2**63 - 1, 2**32 - 1

COLUMNS = "ts_event publisher_id sequence bid_px_00 ask_px_00 bid_sz_00 ask_sz_00 symbol".split()  # noqa: SIM905
GOOD = ["2024-08-01T13:36:32.491911683Z", "2", "7", "222.82", "222.83", "100", "36", "AAPL"]
ISO_TIME = 1722519392491911683  # 2024-08-01T13:36:32.491911683Z

with SAMPLE.open("rb") as _file:
    SAMPLE_LINES = _file.read().splitlines()
SAMPLE_HEADER, SAMPLE_ROWS = SAMPLE_LINES[0], SAMPLE_LINES[1:]


def csv_update(columns: list[str] = COLUMNS, cells: list[str] = GOOD, depth: int = 10) -> BookUpdate:
    return CsvDecoder(",".join(columns).encode(), depth).decode(",".join(cells).encode())


def json_update(depth: int = 10, **values: Any) -> BookUpdate:
    """The good row as a message, with changes; a value of ``...`` takes the key away."""
    message: dict[str, Any] = {**dict(zip(COLUMNS, GOOD, strict=True)), "publisher_id": 2, "sequence": 7, **values}
    message = {key: value for key, value in message.items() if value is not ...}
    return JsonDecoder(depth).decode(json.dumps(message).encode())


def changed(**cells: str) -> list[str]:
    return [cells.get(column, cell) for column, cell in zip(COLUMNS, GOOD, strict=True)]


def outcome(decode: Any, *arguments: Any, **keywords: Any) -> BookUpdate | str:
    """The update, or the reason that there is none; any other exception is the test's failure."""
    try:
        update = decode(*arguments, **keywords)
    except DataError as error:
        caught = error
    else:
        assert_sound(update)
        return update
    assert caught.reason.isidentifier()
    assert str(caught)
    return caught.reason


def outcome_of(call: Any, *arguments: Any) -> Any:
    """What a call returns, or the reason of its `DataError`."""
    try:
        return call(*arguments)
    except DataError as error:
        return error.reason


def assert_sound(update: BookUpdate) -> None:
    """What every later stage relies on."""
    assert isinstance(update, BookUpdate)
    assert type(update.symbol) is str
    assert 1 <= len(update.symbol) <= 64
    assert type(update.publisher_id) is int
    assert 0 <= update.publisher_id <= 65535
    assert type(update.time) is int
    assert 0 < update.time < NO_PRICE
    assert update.sequence is None or (type(update.sequence) is int and 0 <= update.sequence < 2**64)
    for level in (*update.bids, *update.asks):
        if level is not None:
            price, size = level
            assert type(price) is float
            assert 0 < price <= 1e9
            assert type(size) is int
            assert 0 < size <= 10**12


# --- two spellings, two formats, two depths ------------------------------------------------------------------------

WANTED = BookUpdate("AAPL", 2, ISO_TIME, 7, [(222.82, 100)], [(222.83, 36)])
SPELLINGS = {
    "decimal and ISO": {},
    "integers": {"ts_event": str(ISO_TIME), "bid_px_00": "222820000000", "ask_px_00": "222830000000"},
    "nine decimals": {"bid_px_00": "222.820000000", "ask_px_00": "222.830000000"},
    "offset": {"ts_event": "2024-08-01T09:36:32.491911683-04:00"},
    "offset without colon": {"ts_event": "2024-08-01T19:06:32.491911683+0530"},
    "blank for T, no zone": {"ts_event": "2024-08-01 13:36:32.491911683"},
    "exponent": {"bid_px_00": "2.2282e2"},
}


@pytest.mark.parametrize("cells", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_the_same_update_in_csv(cells):
    assert csv_update(cells=changed(**cells)) == WANTED


@pytest.mark.parametrize("values", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_the_same_update_in_json(values):
    assert json_update(**values) == WANTED


@pytest.mark.parametrize(
    "values",
    [
        {"bid_px_00": 222.82, "ask_px_00": 222.83, "bid_sz_00": 100, "ask_sz_00": 36, "ts_event": ISO_TIME},
        {"bid_px_00": 222820000000, "ask_px_00": 222830000000, "bid_sz_00": 100.0, "ask_sz_00": "36"},
        {"publisher_id": "2", "sequence": "7"},
        {"publisher_id": 2.0, "an extra key": {"of": ["any", "kind"]}},
    ],
)
def test_json_numbers(values):
    assert json_update(**values) == WANTED


def test_ten_levels_with_holes():
    columns, cells = list(COLUMNS[:3]), list(GOOD[:3])
    for level in range(10):
        columns += [f"{side}_{what}_{level:02d}" for what in ("px", "sz", "ct") for side in ("bid", "ask")]
        cells += [f"{200 - level}.5", "" if level == 4 else f"{201 + level}.5", str(level), str(10 + level), "1", "1"]
    columns.append("symbol")
    cells.append("AAPL")
    wanted_bids = [None, *((200.5 - level, level) for level in range(1, 10))]  # size 0 at the first level
    wanted_asks = [None if level == 4 else (201.5 + level, 10 + level) for level in range(10)]
    for update in (csv_update(columns, cells), JsonDecoder().decode(message_of(columns, cells))):
        assert (update.bids, update.asks) == (wanted_bids, wanted_asks)
    for depth in (1, 3):
        for update in (csv_update(columns, cells, depth), JsonDecoder(depth).decode(message_of(columns, cells))):
            assert (update.bids, update.asks) == (wanted_bids[:depth], wanted_asks[:depth])


def test_all_rows_of_the_sample_against_the_csv_module():
    decoder = CsvDecoder(SAMPLE_HEADER)
    rows = csv.DictReader(io.StringIO(b"\n".join(SAMPLE_LINES).decode()))
    for line, row in zip(SAMPLE_ROWS, rows, strict=True):
        update = decoder.decode(line)
        assert (update.symbol, update.publisher_id, update.sequence) == (
            row["symbol"],
            int(row["publisher_id"]),
            int(row["sequence"]),
        )
        assert iso_of(update.time) == row["ts_event"]
        for side, levels in (("bid", update.bids), ("ask", update.asks)):
            for i, level in enumerate(levels):
                price, size = row[f"{side}_px_{i:02d}"], int(row[f"{side}_sz_{i:02d}"])
                assert level == ((float(Decimal(price)), size) if price and size else None)


# --- time ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, LATEST))
@example(1)
@example(LATEST)
@example(10**9 - 1)
@example(IN_1990 - 1)
@example(IN_1990)
def test_all_nine_digits_survive(time):
    text = iso_of(time)
    assert len(text) == 30
    assert text.endswith("Z")
    assert (EPOCH + timedelta(seconds=time // 10**9)).strftime("%Y-%m-%dT%H:%M:%S") == text[:19]
    assert int(text[20:29]) == time % 10**9
    assert time_of("ts_event", text) == time
    for number in (str(time), time):
        assert outcome_of(time_of, "ts_event", number) == (time if time >= IN_1990 else "time")


@given(st.integers(10**14, LATEST - 10**14), st.integers(-14 * 60, 14 * 60), st.booleans())
def test_offsets(time, minutes, colon):
    local = iso_of(time + minutes * 60 * 10**9)[:-1]
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    assert time_of("ts_event", f"{local}{sign}{hours:02d}{':' if colon else ''}{rest:02d}") == time
    if rest == 0:
        assert time_of("ts_event", f"{local}{sign}{hours:02d}") == time


@pytest.mark.parametrize(
    "text",
    [
        "2024-08-01T13:36:32.491911683z",
        "2024-08-01t13:36:32,491911683Z",
        "20240801T133632.491911683Z",
        "20240801T093632,491911683-04",
        "2024-08-01T19:06:32.491911683+05:30",
        "2024-08-01T09:36:32.491911683\u221204:00",  # the minus sign that the standard has
        "2024-08-01T13:36:32.491911683+00",
        "2024-08-01T13:36:32.491911683-00:00",
        "2024-08-02T13:35:32.491911683+23:59",
    ],
)
def test_every_form_of_iso_8601_to_the_second(text):
    assert time_of("ts_event", text) == ISO_TIME


@pytest.mark.parametrize(
    ("number", "unit"), [(1722519392, "seconds"), (1722519392491, "milliseconds"), (1722519392491911, "microseconds")]
)
def test_a_time_in_another_unit_is_not_taken_for_nanoseconds(number, unit):
    for decode in (lambda: csv_update(cells=changed(ts_event=str(number))), lambda: json_update(ts_event=number)):
        with pytest.raises(DataError, match=f"are these {unit}\\?") as caught:
            decode()
        assert caught.value.reason == "time"


@pytest.mark.parametrize("digits", range(10))
def test_fewer_digits_of_a_second(digits):
    text = "2024-08-01T13:36:32" + (f".{'491911683'[:digits]}" if digits else "") + "Z"
    assert time_of("ts_event", text) == ISO_TIME // 10 ** (9 - digits) * 10 ** (9 - digits)


BAD_TIMES = {
    "empty": "",
    "words": "yesterday",
    "a date alone": "2024-08-01",
    "no such day": "2024-02-30T00:00:00.000000000Z",
    "ten digits": "2024-08-01T13:36:32.4919116831Z",
    "undefined": str(2**64 - 1),
    "beyond 64 bits": str(2**63),
    "zero": "0",
    "negative": "-5",
    "a float": "1722519392.5",
    "late, short": "2300-01-01T00:00:00Z",
    "late, nine digits": "2300-01-01T00:00:00.000000000Z",
    "before 1970, short": "1969-12-31T23:59:59Z",
    "before 1970, nine digits": "1969-12-31T23:59:59.000000000Z",
    "underscore in the fraction": "2024-08-01T13:36:32.12_456789Z",
    "sign in the fraction": "2024-08-01T13:36:32.-00000001Z",
    "blank in the fraction": "2024-08-01T13:36:32. 12345678Z",
    "other digits": "2024-08-01T13:36:32.12345678\uff11Z",
    "an offset beyond a day": "2024-08-01T13:36:32.123456789+99:99",
    "a leap second, nine digits": "2016-12-31T23:59:60.000000000Z",
    "a leap second, short": "2016-12-31T23:59:60Z",
    "61 seconds, nine digits": "2024-08-01T13:36:61.000000000Z",
    "99 seconds, nine digits": "2024-08-01T13:36:99.999999999Z",
    "60 minutes": "2024-08-01T13:60:00.000000000Z",
    "the hour 24, nine digits": "2024-08-01T24:00:00.000000000Z",
    "the hour 24, short": "2024-08-01T24:00:00Z",
    "the hour 25": "2024-08-01T25:00:00.000000000Z",
    "an offset with seconds": "2024-08-01T13:36:32+05:30:15",
    "half extended": "2024-0801T13:36:32Z",
    "a week": "2024-W31-4T13:36:32Z",
    "a day of the year": "2024-214T13:36:32Z",
    "a sign and no offset": "2024-08-01T13:36:32+",
}


@pytest.mark.parametrize("text", BAD_TIMES.values(), ids=BAD_TIMES)
def test_what_is_no_time(text):
    assert outcome(csv_update, cells=changed(ts_event=text)) == "time"
    assert outcome(json_update, ts_event=text) in ("time", "key")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        # Nineteen characters, as many as a time without a zone has; some Pythons read them, some do not.
        ("2024-01-15T10:30+01", 1705311000 * 10**9),
        ("2024-01-15T10+01:00", 1705309200 * 10**9),
        ("2024-01-15T103045.1", 1705314645 * 10**9 + 10**8),
    ],
)
def test_a_short_time_is_right_or_refused_but_never_another_time(text, time):
    found = outcome(csv_update, cells=changed(ts_event=text))
    assert found == "time" or found.time == time


def test_json_times_that_are_no_text():
    for value in (None, 1.5e18, -1, 0, 2**63, 2**64 - 1, 2**80, True, [], {}):
        assert outcome(json_update, ts_event=value) in ("time", "json")


# --- prices and sizes ------------------------------------------------------------------------------------------------

NOTHING = {
    "empty": ("", None),
    "undefined price": (str(NO_PRICE), NO_PRICE),
    "nan": ("nan", float("nan")),
    "NaN": ("NaN", float("nan")),
    "zero": ("0", 0),
    "zero with a point": ("0.0", 0.0),
}


@pytest.mark.parametrize(("cell", "value"), NOTHING.values(), ids=NOTHING)
def test_no_price(cell, value):
    wanted = BookUpdate("AAPL", 2, ISO_TIME, 7, [(222.82, 100)], [None])
    assert csv_update(cells=changed(ask_px_00=cell)) == wanted
    assert json_update(ask_px_00=value) == wanted
    assert json_update(ask_px_00=cell) == wanted


@pytest.mark.parametrize(
    ("cell", "value"),
    [("", None), ("0", 0), ("-3", -3), ("nan", float("nan")), (str(NO_SIZE), NO_SIZE), ("0.0", 0.0), ("-1.0", -1.0)],
)
def test_no_size(cell, value):
    wanted = BookUpdate("AAPL", 2, ISO_TIME, 7, [None], [(222.83, 36)])
    assert csv_update(cells=changed(bid_sz_00=cell)) == wanted
    assert json_update(bid_sz_00=value) == wanted
    assert json_update(bid_sz_00=cell) == wanted


def test_bare_nan_in_json_is_nothing():
    assert b"NaN" in json.dumps({"x": float("nan")}).encode()  # what Python writes, and JSON does not know
    update = json_update(bid_px_00=float("nan"), bid_sz_00=float("nan"))
    assert update == BookUpdate("AAPL", 2, ISO_TIME, 7, [None], [(222.83, 36)])
    assert outcome(json_update, bid_px_00=float("inf")) == "price"
    assert outcome(json_update, ask_sz_00=float("-inf")) == "size"


@pytest.mark.parametrize("cell", ["222", "1", "99999"])
def test_an_integer_too_small_for_nanodollars_is_refused(cell):
    with pytest.raises(DataError, match=rf"ask_px_00 is {cell}: an integer price is in 1e-9 dollars") as caught:
        csv_update(cells=changed(ask_px_00=cell))
    assert caught.value.reason == "price"
    assert f"{cell}.0" in str(caught.value)  # how to write dollars
    assert outcome(json_update, ask_px_00=int(cell)) == "price"
    assert csv_update(cells=changed(ask_px_00=f"{cell}.0")).asks == [(float(cell), 36)]
    assert json_update(ask_px_00=float(cell)).asks == [(float(cell), 36)]


def test_the_smallest_integer_price_is_the_finest_tick():
    assert csv_update(cells=changed(bid_px_00="", ask_px_00="100000")).asks == [(0.0001, 36)]


@given(st.integers(100_000, 10**18))
@example(18014398509481983)  # rounded to a double before it is divided, it is $18014398.509481985
def test_integer_and_decimal_prices_are_the_same_number(units):
    text = f"{units // 10**9}.{units % 10**9:09d}"
    wanted = [(float(Fraction(units, 10**9)), 36)]
    for price in (str(units), text):
        assert csv_update(cells=changed(bid_px_00="", ask_px_00=price)).asks == wanted
        assert json_update(bid_px_00=None, ask_px_00=price).asks == wanted
    assert json_update(bid_px_00=None, ask_px_00=units).asks == wanted
    number = json.dumps({**dict(zip(COLUMNS, GOOD, strict=True)), "bid_px_00": None, "ask_px_00": "?"})
    assert JsonDecoder().decode(number.replace('"?"', text).encode()).asks == wanted
    nested = JsonDecoder().decode(databento_json(units=units))
    assert nested.asks == wanted


# --- one unit --------------------------------------------------------------------------------------------------------

WHOLE = {"bid_px_00": "741400", "ask_px_00": "742000"}  # as some write $741,400 and $742,000
POINTED = {"bid_px_00": "741500.5", "ask_px_00": "742100.25"}
MIXED = [{**WHOLE, "ask_px_00": "742100.25"}, {**WHOLE, "bid_px_00": "741500.5"}]


def test_prices_of_a_file_have_one_unit():
    """A column of dollars, some of them written without a point, is never read as 1e-9 dollars here and there."""
    rows = [",".join(changed(**cells)).encode() for cells in (WHOLE, POINTED, *MIXED)]
    decoder = CsvDecoder(",".join(COLUMNS).encode())
    decoder.learn(rows)
    for row in (rows[0], *rows[2:]):
        with pytest.raises(
            DataError, match=r"px_00 is 74[12][04]00, .* this file are dollars: write 74[12][04]00\.0"
        ) as caught:
            decoder.decode(row)
        assert caught.value.reason == "price"
    assert decoder.decode(rows[1]).asks == [(742100.25, 36)]


@pytest.mark.parametrize("first", [WHOLE, POINTED])
def test_where_nothing_could_be_learned_the_first_good_row_decides(first):
    other = POINTED if first is WHOLE else WHOLE
    decoder = CsvDecoder(",".join(COLUMNS).encode())
    assert outcome(decoder.decode, ",".join(changed(**other, symbol="")).encode()) == "symbol"  # decides nothing
    good = decoder.decode(",".join(changed(**first)).encode())
    assert good.bids == [(0.0007414 if first is WHOLE else 741500.5, 100)]
    assert outcome(decoder.decode, ",".join(changed(**other)).encode()) == "price"
    assert outcome(decoder.decode, ",".join(changed(**first)).encode()) == good


@pytest.mark.parametrize("cells", MIXED)
@pytest.mark.parametrize("number", [str, lambda cell: json.loads(cell)])
def test_prices_of_a_message_have_one_unit(cells, number):
    values = {name: number(cell) for name, cell in cells.items()}
    with pytest.raises(DataError, match=r"is 74[12][04]00, which would be integers of 1e-9 dollars") as caught:
        json_update(**values)
    assert caught.value.reason == "price"
    assert outcome(json_update, **{**values, "bid_px_00": 0, "ask_px_00": None}) == json_update(
        bid_px_00=None, ask_px_00=None
    )


def test_prices_of_a_file_of_messages_have_one_unit():
    decoder = JsonDecoder()
    rows = [json.dumps({**dict(zip(COLUMNS, GOOD, strict=True)), **cells}).encode() for cells in (WHOLE, POINTED)]
    decoder.learn(rows)
    assert outcome(decoder.decode, rows[0]) == "price"
    assert decoder.decode(rows[1]).asks == [(742100.25, 36)]


def test_an_event_is_in_the_unit_of_the_quotes():
    row = ",".join([*GOOD, "T", "A", "222820000000", "100"]).encode()
    header = ",".join([*COLUMNS, "action", "side", "price", "size"]).encode()
    message = message_of([*COLUMNS, "action", "side", "price", "size"], row.decode().split(","))
    for decode in (CsvDecoder(header, events=True).decode, JsonDecoder(events=True).decode):
        raw = row if decode.__self__.__class__ is CsvDecoder else message
        assert outcome(decode, raw) == "price"


HUGE = "1" + "0" * 400
BAD_CELLS = [
    ("ask_px_00", "abc", {"price", "number"}),
    ("ask_px_00", "-222.83", {"price"}),
    ("ask_px_00", "-222830000000", {"price"}),
    ("ask_px_00", "1.2.3", {"price"}),
    ("ask_px_00", "inf", {"price"}),
    ("ask_px_00", "1e300", {"price"}),
    ("ask_px_00", "2_22.83", {"price", "number"}),
    ("ask_px_00", "\uff12.\uff15", {"price", "number"}),
    ("ask_px_00", HUGE, {"price", "number"}),
    ("ask_sz_00", "many", {"size", "number"}),
    ("ask_sz_00", "1.5", {"size"}),
    ("ask_sz_00", "1_0", {"size", "number"}),
    ("ask_sz_00", "inf", {"size"}),
    ("ask_sz_00", "1e13", {"size"}),
    ("ask_sz_00", "٣", {"size", "number"}),
    ("ask_sz_00", HUGE, {"size", "number"}),
    ("publisher_id", "XNAS", {"number"}),
    ("publisher_id", "", {"number"}),
    ("publisher_id", "-1", {"number"}),
    ("publisher_id", "65536", {"number"}),
    ("publisher_id", "2.5", {"number"}),
    ("sequence", "one", {"number"}),
    ("sequence", str(2**64), {"number"}),
    ("symbol", "", {"symbol"}),
    ("symbol", "A" * 65, {"symbol"}),
    ("symbol", "A\x00B", {"symbol"}),
    ("symbol", "A\u2028B", {"symbol"}),
]


@pytest.mark.parametrize(("column", "cell", "reasons"), BAD_CELLS, ids=[f"{c[0]}={c[1][:12]!r}" for c in BAD_CELLS])
def test_a_cell_of_the_wrong_kind(column, cell, reasons):
    with pytest.raises(DataError) as caught:
        csv_update(cells=changed(**{column: cell}))
    assert caught.value.reason in reasons
    assert column in str(caught.value)
    assert len(str(caught.value)) < 300  # whatever stands in the cell
    assert outcome(json_update, **{column: cell}) == caught.value.reason


@pytest.mark.parametrize("key", ["bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00", "publisher_id", "sequence"])
def test_numbers_in_json_that_fit_nowhere(key):
    for digits in ("1" + "0" * 25, HUGE, "-" + HUGE, "9" * 5000, "1e400"):
        for extra in (b"}", b',"price":NaN}'):  # both ways to read a message
            raw = json.dumps(dict(zip(COLUMNS, GOOD, strict=True)) | {key: 0}).encode()
            raw = raw.replace(b'"%s": 0' % key.encode(), b'"%s": %s' % (key.encode(), digits.encode()))[:-1] + extra
            found = outcome(JsonDecoder().decode, raw)
            assert isinstance(found, str) or (digits[0] == "-" and "_sz_" in key), (digits[:10], found)


@pytest.mark.parametrize("key", [key for key in COLUMNS if key != "sequence"])
def test_a_key_missing_or_of_another_type(key):
    assert outcome(json_update, **{key: ...}) == "key"
    for value in (True, [1], {"a": 1}):
        assert isinstance(outcome(json_update, **{key: value}), str)


def test_no_sequence_is_none():
    for update in (
        json_update(sequence=...),
        json_update(sequence=None),
        csv_update(cells=changed(sequence="")),
        csv_update(COLUMNS[:2] + COLUMNS[3:], GOOD[:2] + GOOD[3:]),
    ):
        assert update.sequence is None
        assert update.symbol == "AAPL"


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"NaN", b'"text"', b"[" * 50_000, b'{"a":' * 50_000, b"\xff\xfe{}", b"{}x", b"{NaN"],
)
def test_what_is_no_message(raw):
    assert outcome(JsonDecoder().decode, raw) in ("json", "key")


# --- rows and headers --------------------------------------------------------------------------------------------


def test_columns_may_be_reordered_and_joined_by_others():
    columns, cells = ["comment", *reversed(COLUMNS)], ["hello", *reversed(GOOD)]
    assert csv_update(columns, cells) == WANTED


def test_quoted_cells():
    decoder = CsvDecoder(b'comment,"ts_event",' + ",".join(COLUMNS[1:]).encode())
    row = '"a ""quoted"", comma",' + ",".join(f'"{cell}"' for cell in GOOD)
    assert decoder.decode(row.encode()) == WANTED
    assert outcome(decoder.decode, row.encode()[:-1]) == "csv"


def test_byte_order_mark_and_line_ends():
    header, row = ",".join(COLUMNS).encode(), ",".join(GOOD).encode()
    for start in (b"", b"\xef\xbb\xbf"):
        for end in (b"", b"\n", b"\r\n"):
            assert CsvDecoder(start + header + end).decode(row + end) == WANTED


@pytest.mark.parametrize("column", [column for column in COLUMNS if column != "sequence"])
def test_a_column_missing(column):
    with pytest.raises(DataError, match=column) as caught:
        CsvDecoder(",".join(c for c in COLUMNS if c != column).encode())
    assert caught.value.reason == "header"


def test_a_column_twice():
    with pytest.raises(DataError, match="the column 'ask_px_00' stands twice") as caught:
        CsvDecoder(",".join([*COLUMNS, "ask_px_00"]).encode())
    assert caught.value.reason == "header"


@pytest.mark.parametrize("cells", [GOOD[:-1], [*GOOD, "x"], [""]])
def test_a_wrong_number_of_cells(cells):
    assert outcome(csv_update, cells=cells) == "cells"


def test_bytes_that_are_no_text():
    decoder = CsvDecoder(",".join(COLUMNS).encode())
    assert outcome(decoder.decode, b"\xff" + ",".join(GOOD).encode()) == "encoding"
    assert outcome(CsvDecoder, b"\xff\xfe") == "encoding"


# --- what a row is ---------------------------------------------------------------------------------------------------


def databento_json(*, pretty: bool = False, units: int = 222830000000, count: int = 1, **more: Any) -> bytes:
    """A record as Databento's encoders write it, with numbers in text."""

    def dollars(value: int | None) -> str | None:
        if value is None:
            return None if pretty else str(NO_PRICE)
        return f"{value // 10**9}.{value % 10**9:09d}" if pretty else str(value)

    time = GOOD[0] if pretty else str(ISO_TIME)
    shown = [
        {
            "bid_px": dollars(None),
            "ask_px": dollars(units + i * 10**7),
            "bid_sz": 0,
            "ask_sz": 36 + i,
            "bid_ct": 0,
            "ask_ct": 1,
        }
        for i in range(count)
    ]
    head = {"ts_event": time, "rtype": 1 if count == 1 else 10, "publisher_id": 2, "instrument_id": 38}
    record = {
        "ts_recv": time, "hd": head, "action": "A", "side": "N", "depth": 0, "price": dollars(units), "size": 5,
        "flags": 128, "ts_in_delta": 1000, "sequence": 7, "levels": shown, "symbol": "AAPL",
    }  # fmt: skip
    record |= {key: value for key, value in more.items() if key not in head}
    head = {key: value for key, value in {**head, **more}.items() if key in head and value is not ...}
    record |= {"hd": more.get("hd", head)}
    return json.dumps({key: value for key, value in record.items() if value is not ...}).encode()


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("depth", [1, 10])
def test_the_json_of_databento(pretty, count, depth):
    raw = databento_json(pretty=pretty, count=count)
    asks = [(float(Decimal(22283 + i) / 100), 36 + i) for i in range(min(count, depth))]
    wanted = BookUpdate("AAPL", 2, ISO_TIME, 7, [None] * len(asks), asks)
    assert JsonDecoder(depth).decode(raw) == wanted
    event = Event("A", "N", 222.83, 5)
    assert JsonDecoder(depth, events=True, receipts=True).decode(raw) == msgspec.structs.replace(
        wanted, event=event, receipt=ISO_TIME, flags=128
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"levels": ...}, "key"), ({"levels": []}, "key"), ({"symbol": ...}, "key"), ({"levels": [7]}, "json"),
        ({"levels": {"bid_px": 1}}, "json"), ({"hd": 7}, "json"), ({"hd": {}}, "key"), ({"publisher_id": True}, "json"),
        ({"rtype": []}, "json"), ({"levels": [{"bid_px": {}}]}, "json"), ({"levels": [{"bid_px": "1.5"}]}, "key"),
    ],
)  # fmt: skip
def test_broken_json_of_databento(more, reason):
    assert outcome(JsonDecoder().decode, databento_json(**more)) == reason


# --- quick messages --------------------------------------------------------------------------------------------------

READERS = {"python": "sor.market._messages_py", "cython": "sor.market._messages"}
USUAL = {
    "ts_event": ISO_TIME, "publisher_id": 2, "symbol": "AAPL", "sequence": 7, "flags": 128, "rtype": 10,
    "bid_px_00": 222.82, "bid_sz_00": 100, "ask_px_00": 222.83, "ask_sz_00": 36,
    "bid_px_01": 222.81, "bid_sz_01": 400, "ask_px_01": 222.85, "ask_sz_01": 200,
}  # fmt: skip
ODD = [
    ..., None, 0, -1, 1, 7, 255, 256, 65535, 65536, 0.0, -0.5, 1e-10, 1e9, 1000000001.0, 2.0, 99_999, 100_000, 10**18,
    10**18 + 1, 10**12, 10**12 + 1, NO_PRICE, NO_SIZE, 2**63, 2**64 - 1, 2**64, 222_820_000_000, 222.82, True, "", "7",
    "222.82", "AAPL", "MSFT", "B\u00e9", "A\u0000", "2024-08-01T13:36:32.491911683Z", "2024-08-01", "nan", [], {},
]  # fmt: skip
NUMBERS = {"price": [222.5, 222_500_000_000, None, NO_PRICE], "size": [0, 5, None, NO_SIZE]}


@st.composite
def odd_messages(draw: Any) -> list[bytes]:
    """Usual messages, of which some have values of any kind."""
    found = []
    for _ in range(draw(st.integers(1, 8))):
        message: dict[str, Any] = dict(USUAL)
        for name in draw(st.lists(st.sampled_from(sorted(message)), max_size=3)):
            usual = NUMBERS["price"] if "_px_" in name else NUMBERS["size"] if "_sz_" in name else ODD
            message[name] = draw(st.sampled_from(usual if draw(st.integers(0, 2)) else ODD))
        if not draw(st.integers(0, 9)):
            more = draw(st.sampled_from(["hd", "levels", "bid_pb_00", "ask_pb_00", "action", "ts_recv"]))
            message[more] = draw(st.sampled_from(ODD))
        units = draw(st.integers(0, 3)) == 0
        found.append(
            json.dumps(
                {
                    name: round(value * 1e9) if units and "_px_" in name and type(value) is float else value
                    for name, value in message.items()
                    if value is not ...
                }
            ).encode()
        )
    return found


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Usual messages are read on each kernel in turn."""
    monkeypatch.setattr("sor.market.databento_json.usual_messages", load_twin(request.param, READERS))


def told(raw: list[bytes], learn: bool, **options: Any) -> list[Any]:
    """Updates and refusals, of a decoder that has seen the usual message; a message's words are told, too."""
    decoder = JsonDecoder(**options)
    found: list[Any] = []
    try:
        decoder.learn(raw if learn else [])
    except DataError as error:
        found.append((error.reason, str(error)))
    for message in [json.dumps(USUAL).encode(), *raw, *raw]:
        try:
            found.append(decoder.decode(message))
        except DataError as error:
            found.append((error.reason, str(error)))
    return found


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(odd_messages(), st.booleans(), st.integers(1, 3))
def test_quick_messages_are_what_slow_ones_are(reader, raw, learn, depth):
    assert told(raw, learn, depth=depth, quick=True) == told(raw, learn, depth=depth, quick=False)


def test_quick_messages_of_every_kind(reader: None) -> None:
    raw = [
        json.dumps({key: value for key, value in {**USUAL, name: odd}.items() if value is not ...}).encode()
        for name in USUAL
        for odd in ODD
    ]
    for learn in (False, True):
        found = told(raw, learn, quick=True)
        assert found == told(raw, learn, quick=False)
        assert sum(type(one) is tuple for one in found) > 300


def test_usual_messages_are_read_quickly(reader: None, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = [message_of(SAMPLE_HEADER.decode().split(","), row.decode().split(",")) for row in SAMPLE_ROWS]
    decoder = JsonDecoder(10)
    slow = []
    decoded = JsonDecoder._decoded
    monkeypatch.setattr(JsonDecoder, "_decoded", lambda self, one: slow.append(one) or decoded(self, one))
    for message in raw:
        decoder.decode(message)
    assert len(slow) == 1  # the first of the symbol


SCHEMAS = {0: "trades", 22: "symbol mapping", 160: "mbo", 178: "tcbbo", 192: "cbbo-1s", 193: "cbbo-1m", 194: "tcbbo",
           195: "bbo-1s", 196: "bbo-1m", 197: "tbbo", 99: "no known schema"}  # fmt: skip


@pytest.mark.parametrize(("number", "name"), SCHEMAS.items())
def test_another_schema_is_known_by_its_record_type(number, name):
    flat = {**dict(zip(COLUMNS, GOOD, strict=True)), "rtype": number}
    cases = [
        (CsvDecoder(",".join(["rtype", *COLUMNS]).encode()), ",".join([str(number), *GOOD]).encode()),
        (JsonDecoder(), json.dumps(flat).encode()),
        (JsonDecoder(), json.dumps(flat | {"rtype": str(number)}).encode()),
        (JsonDecoder(), databento_json(rtype=number)),
        (JsonDecoder(), databento_json(rtype=number, levels=...)),
    ]
    for decoder, raw in cases:
        for call in (decoder.decode, lambda raw, decoder=decoder: decoder.learn([raw])):
            with pytest.raises(DataError, match=rf"rtype is {number}, .*{name}: MBP-1 or MBP-10 .* needed") as caught:
                call(raw)
            assert caught.value.reason == "schema"


@pytest.mark.parametrize("rtype", ["1", "10", "", " ", "\u2028"])
def test_books_and_rows_without_a_record_type_go_on(rtype):
    assert CsvDecoder(",".join(["rtype", *COLUMNS]).encode()).decode(",".join([rtype, *GOOD]).encode()) == WANTED
    assert json_update(rtype=rtype) == json_update(rtype=int(rtype) if rtype.strip() else None) == WANTED


def test_consolidated_quotes_are_known_by_their_columns():
    with pytest.raises(DataError, match=r"consolidated quotes, .* MBP-1 or MBP-10") as caught:
        CsvDecoder(",".join([*COLUMNS, "bid_pb_00", "ask_pb_00"]).encode())
    assert caught.value.reason == "schema"
    assert outcome(json_update, ask_pb_00=81) == "schema"
    level = {"bid_px": "1.5", "ask_px": "1.6", "bid_sz": 1, "ask_sz": 1, "bid_pb": 81, "ask_pb": 81}
    assert outcome(JsonDecoder().decode, databento_json(levels=[level], rtype=...)) == "schema"


PUBLISHERS = ["bid_pb_00", "ask_pb_00"]
CONSOLIDATED = CsvDecoder(",".join(["rtype", *COLUMNS, *PUBLISHERS]).encode())


def consolidated(bid_pb: Any = 88, ask_pb: Any = 81, rtype: Any = 177, **cells: str) -> list[BookUpdate | str]:
    """What becomes of a CMBP-1 row as CSV, as flat JSON, and as Databento nests it."""
    row = changed(**cells)
    flat = dict(zip(COLUMNS, row, strict=True)) | {"rtype": rtype, "bid_pb_00": bid_pb, "ask_pb_00": ask_pb}
    level = {"bid_px": flat["bid_px_00"], "ask_px": flat["ask_px_00"], "bid_sz": flat["bid_sz_00"],
             "ask_sz": flat["ask_sz_00"], "bid_pb": bid_pb, "ask_pb": ask_pb}  # fmt: skip
    nested = {
        "hd": {"ts_event": flat["ts_event"], "rtype": rtype, "publisher_id": flat["publisher_id"]},
        "levels": [level],
        **{name: flat[name] for name in ("symbol", "sequence")},
    }
    csv_row = ",".join([str(rtype), *row, *("" if one is None else str(one) for one in (bid_pb, ask_pb))]).encode()
    return [
        outcome(CONSOLIDATED.decode, csv_row),
        outcome(JsonDecoder().decode, json.dumps(flat).encode()),
        outcome(JsonDecoder().decode, message_of(CONSOLIDATED.columns, csv_row.decode().split(","))),
        outcome(JsonDecoder().decode, json.dumps(nested).encode()),
    ]


def test_consolidated_quotes_name_the_publisher_of_each_side():
    wanted = msgspec.structs.replace(WANTED, bid_publisher=88, ask_publisher=81)
    assert wanted.consolidated
    assert not WANTED.consolidated
    for found in consolidated():
        assert found == wanted


def test_a_side_that_shows_nothing_is_nobodys():
    for found in consolidated(bid_px_00="", bid_pb=0):
        assert (found.bids, found.bid_publisher, found.ask_publisher) == ([None], 0, 81)
    for found in consolidated(ask_sz_00="0", ask_pb=81):
        assert (found.asks, found.bid_publisher, found.ask_publisher) == ([None], 88, 0)
    for found in consolidated(ask_sz_00="0", ask_pb=None):
        assert found.ask_publisher == 0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"bid_pb": 0}, "publisher"),  # whose it is would have to be guessed
        ({"bid_pb": 65536}, "number"),
        ({"ask_pb": "x"}, "number"),
        ({"ask_pb": None}, "number"),
        ({"rtype": 1}, "schema"),
        ({"rtype": ""}, "schema"),  # it may be a snapshot a minute
        ({"rtype": 192}, "schema"),
    ],
)
def test_broken_consolidated_quotes(more, reason):
    assert consolidated(**more) == [reason] * 4


def test_consolidated_quotes_lack_what_makes_them_so():
    row = dict(zip(COLUMNS, GOOD, strict=True)) | {"rtype": 177}
    with pytest.raises(DataError, match="rtype is 177, cmbp-1, without bid_pb_00 and ask_pb_00") as caught:
        JsonDecoder().decode(json.dumps(row).encode())
    assert caught.value.reason == "schema"
    with pytest.raises(DataError, match="no key 'ask_pb_00'"):
        JsonDecoder().decode(json.dumps(row | {"bid_pb_00": 2}).encode())
    for columns in (["rtype", *COLUMNS, "bid_pb_00"], [*COLUMNS, *PUBLISHERS]):
        with pytest.raises(DataError, match=r"consolidated quotes, .* MBP-1 or MBP-10"):
            CsvDecoder(",".join(columns).encode())


def test_consolidated_quotes_before_trades_are_known_by_their_rows():
    columns = ["rtype", "action", *COLUMNS, *PUBLISHERS]
    rows = [["177", action, *GOOD, "2", "2"] for action in "TTT"]
    for decoder, raw in (
        (CsvDecoder(",".join(columns).encode()), [",".join(row).encode() for row in rows]),
        (JsonDecoder(), [message_of(columns, row) for row in rows]),
    ):
        with pytest.raises(DataError, match="this is tcbbo"):
            decoder.learn(raw)


def test_quotes_before_trades_are_known_by_their_rows():
    """TBBO has the record type of MBP-1."""
    columns = ["rtype", "action", *COLUMNS]
    for actions, refused in (("TTT", True), ("TTA", False), ("AAA", False), ("TT", False)):
        rows = [["1", action, *GOOD] for action in actions]
        for decoder, raw in (
            (CsvDecoder(",".join(columns).encode()), [",".join(row).encode() for row in rows]),
            (JsonDecoder(), [message_of(columns, row) for row in rows]),
        ):
            assert outcome_of(decoder.learn, raw) == ("schema" if refused else None)


def test_a_symbol_that_is_a_number():
    for number in (600519, 600519.5):
        with pytest.raises(DataError, match=rf"symbol is the number {number}: it must be a text, in quotes"):
            json_update(symbol=number)


@pytest.mark.parametrize(
    ("flags", "doubts"), [("", 0), ("0", 0), ("128", 0), ("130", 0), ("132", 4), ("8", 8), ("255", 12)]
)
def test_flags_that_make_a_row_doubtful(flags, doubts):
    wanted = msgspec.structs.replace(WANTED, doubts=doubts)
    assert CsvDecoder(",".join(["flags", *COLUMNS]).encode()).decode(",".join([flags, *GOOD]).encode()) == wanted
    assert json_update(flags=int(flags) if flags else None) == wanted
    assert JsonDecoder().decode(databento_json(flags=int(flags) if flags else None)).doubts == doubts


@pytest.mark.parametrize("flags", ["many", "-1", "256", "1.5"])
def test_flags_of_another_kind(flags):
    decoder = CsvDecoder(",".join(["flags", *COLUMNS]).encode())
    assert outcome(decoder.decode, ",".join([flags, *GOOD]).encode()) == "number"
    assert outcome(json_update, flags=flags) == "number"


# --- fuzz ------------------------------------------------------------------------------------------------------------

BITES = st.sampled_from(
    [b"", b"nan", b"NaN", b"-1", b"0", b"1e999", b"1_0", b'"', b'""', b"\\", b"\x00", b"\xff", b"\xc3\xa9", b"Infinity",
     b"9223372036854775807", b"4294967295", b"18446744073709551615", b"null", b"true", b"[]", b"{}", b"-0", b"1.5",
     b" ", b"2024-08-01T13:36:32.491911683Z", b"+5", b"1" * 30, b"1" + b"0" * 400, b"\xe2\x80\xa8", b"A" * 70,
     b"0x10", b".5"]
) | st.binary(max_size=6)  # fmt: skip


@st.composite
def mutated_cells(draw: Any) -> tuple[list[str], bytes]:
    """A row of the sample with some cells replaced by what ought not to stand there."""
    cells = draw(st.sampled_from(SAMPLE_ROWS)).split(b",")
    named = SAMPLE_HEADER.split(b",")
    places = [named.index(n.encode()) for n in COLUMNS] + list(range(len(cells)))
    for place in draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        cells[place] = draw(BITES)
    return [name.decode() for name in named], b",".join(cells)


@st.composite
def mutated_messages(draw: Any) -> bytes:
    cells = draw(st.sampled_from(SAMPLE_ROWS)).decode().split(",")
    raw = message_of(SAMPLE_HEADER.decode().split(","), cells)
    members = raw[1:-1].split(b",")
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(members) - 1))
        key, _, _ = members[place].partition(b":")
        members[place] = key + b":" + draw(BITES | BITES.map(lambda bite: b'"' + bite + b'"'))
    return b"{" + b",".join(members) + b"}"


@given(st.binary(max_size=200))
def test_fuzzed_bytes_into_both_decoders(raw):
    outcome(JsonDecoder().decode, raw)
    outcome(CsvDecoder(b",".join(column.encode() for column in COLUMNS)).decode, raw)
    with contextlib.suppress(DataError):
        CsvDecoder(raw)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mutated_cells())
def test_mutated_rows_and_the_same_rows_as_messages(case):
    columns, row = case
    decoder = CsvDecoder(SAMPLE_HEADER)
    found = outcome(decoder.decode, row)
    try:
        cells = decoder.cells(row)
    except DataError:
        assert isinstance(found, str)
        return
    sent = outcome(JsonDecoder().decode, message_of(columns, cells))
    assert sent == found or (
        isinstance(sent, str) and isinstance(found, str)
    )  # refused by both, maybe for another word


@given(mutated_messages())
@example(b'{"symbol": NaN, "ts_event": true}')
def test_mutated_messages(raw):
    outcome(JsonDecoder().decode, raw)


@given(st.binary(max_size=8), st.integers(0, 10**4), st.integers(0, 2**31))
def test_bytes_put_into_a_row_anywhere(bite, at, which):
    row = SAMPLE_ROWS[which % len(SAMPLE_ROWS)]
    at %= len(row)
    outcome(CsvDecoder(SAMPLE_HEADER).decode, row[:at] + bite + row[at + len(bite) :])


# --- a row sent as a message ---------------------------------------------------------------------------------------


def test_every_row_of_the_sample_survives_as_a_message():
    decoder, reader = CsvDecoder(SAMPLE_HEADER), JsonDecoder()
    for row in SAMPLE_ROWS:
        message = message_of(decoder.columns, decoder.cells(row))
        assert reader.decode(message) == decoder.decode(row)
        assert list(json.loads(message)) == decoder.columns


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "tab\there", "ä"])
def test_columns_of_any_name_survive_as_a_message(name):
    header = ",".join(COLUMNS) + ',"' + name.replace('"', '""') + '"'
    decoder = CsvDecoder(header.encode())
    row = (",".join(GOOD) + ",7").encode()
    message = message_of(decoder.columns, decoder.cells(row))
    assert json.loads(message)[name] == 7
    assert JsonDecoder().decode(message) == decoder.decode(row) == WANTED


def test_blanks_around_column_names_survive_as_a_message():
    decoder = CsvDecoder(", ".join(COLUMNS).encode())
    row = ",".join(GOOD).encode()
    assert decoder.decode(row) == WANTED
    assert JsonDecoder().decode(message_of(decoder.columns, decoder.cells(row))) == WANTED


def test_numbers_go_into_a_message_digit_for_digit():
    message = message_of(["ts_event", "bid_px_00", "ask_px_00", "flags", "symbol"], ["12", "222.820", "", "08", "34"])
    assert message == b'{"ts_event":"12","bid_px_00":222.820,"ask_px_00":null,"flags":"08","symbol":"34"}'


# --- events ----------------------------------------------------------------------------------------------------------

ANYTHING = (
    st.none()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["A", "T", "C", "B", "N", "222.82", 10**11, 100])
)
EVENT_COLUMNS = [*COLUMNS, "action", "side", "price", "size"]
EVENTS = [
    (["T", "A", "222.82", "100"], Event("T", "A", 222.82, 100)),
    (["C", "B", "222.820000000", "100"], Event("C", "B", 222.82, 100)),
    (["C", "", "222.82", "0"], Event("C", "N", 222.82, 0)),  # the IBM recording's size
    (["R", "N", "", "0"], Event("R", "N", None, 0)),
    (["", "", "", ""], None),
]


@pytest.mark.parametrize(("cells", "event"), EVENTS)
def test_events(cells: list[str], event: Event | None) -> None:
    row = ",".join([*GOOD, *cells]).encode()
    header = ",".join(EVENT_COLUMNS).encode()
    wanted = msgspec.structs.replace(WANTED, event=event)
    assert CsvDecoder(header, events=True).decode(row) == wanted
    message = message_of(EVENT_COLUMNS, [*GOOD, *cells])
    assert JsonDecoder(events=True).decode(message) == wanted
    assert CsvDecoder(header).decode(row) == JsonDecoder().decode(message) == WANTED  # nobody asked


def test_events_of_a_feed_without_them() -> None:
    assert CsvDecoder(",".join(COLUMNS).encode(), events=True).decode(",".join(GOOD).encode()) == WANTED
    assert JsonDecoder(events=True).decode(message_of(COLUMNS, GOOD)) == WANTED


@pytest.mark.parametrize(
    ("cells", "reason", "words"),
    [
        (["X", "A", "222.82", "100"], "event", "action is 'X': it must be one of A, C, F, M, N, R, T"),
        (["T", "Q", "222.82", "100"], "event", "side is 'Q': it must be one of A, B, N"),
        (["T", "A", "much", "100"], "number", "price is 'much'"),
        (["T", "A", "222.82", "1.5"], "size", "size is"),
    ],
)
def test_broken_events(cells: list[str], reason: str, words: str) -> None:
    row, header = ",".join([*GOOD, *cells]).encode(), ",".join(EVENT_COLUMNS).encode()
    for decode, raw in (
        (CsvDecoder(header, events=True).decode, row),
        (JsonDecoder(events=True).decode, message_of(EVENT_COLUMNS, [*GOOD, *cells])),
    ):
        with pytest.raises(DataError, match=words) as caught:
            decode(raw)
        assert caught.value.reason == reason
    assert CsvDecoder(header).decode(row) == WANTED


@given(st.dictionaries(st.sampled_from(["action", "side", "price", "size"]), ANYTHING))
def test_any_event_is_decoded_or_refused(values: dict[str, Any]) -> None:
    with contextlib.suppress(DataError):
        message = {**dict(zip(COLUMNS, GOOD, strict=True)), **values}
        event = JsonDecoder(events=True).decode(json.dumps(message).encode()).event
        assert event is None or (event.action in list("ACMTFRN") and event.side in list("BAN") and event.size >= 0)


def test_the_sample_has_an_event_in_every_row() -> None:
    decoder = CsvDecoder(SAMPLE_HEADER, events=True)
    json_decoder = JsonDecoder(events=True)
    for line in SAMPLE_ROWS:
        update = decoder.decode(line)
        assert update.event is not None
        assert json_decoder.decode(message_of(decoder.columns, decoder.cells(line))) == update


def test_an_update_without_an_event_is_kept_as_before() -> None:
    """What is remembered of quotes is JSON: its bytes are those of the versions that knew no events and no flags."""
    assert b"event" not in msgspec.json.encode(WANTED)
    assert b"doubts" not in msgspec.json.encode(WANTED)
    event = msgspec.structs.replace(WANTED, event=Event("T", "A", 222.82, 100))
    assert msgspec.json.decode(msgspec.json.encode(event), type=BookUpdate) == event
    assert msgspec.json.decode(msgspec.json.encode(WANTED), type=BookUpdate) == WANTED


# --- trades alone ----------------------------------------------------------------------------------------------------

TRADE_ALONE = {"ts_event": ISO_TIME, "publisher_id": 2, "symbol": "AAPL", "action": "T", "price": 222.825, "size": 7}


def test_a_message_of_a_trade_alone_leaves_the_quotes():
    raw = json.dumps(TRADE_ALONE).encode()
    wanted = BookUpdate("AAPL", 2, ISO_TIME, None, None, None, Event("T", "N", 222.825, 7))
    assert JsonDecoder(events=True).decode(raw) == wanted
    assert JsonDecoder().decode(raw) == msgspec.structs.replace(wanted, event=None)
    told = json.dumps(TRADE_ALONE | {"side": "B", "sequence": 9, "price": 222825000000}).encode()
    wanted = msgspec.structs.replace(wanted, sequence=9, event=Event("T", "B", 222.825, 7))
    assert JsonDecoder(events=True).decode(told) == wanted


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"action": "A"}, "key"), ({"action": None}, "key"), ({"bid_px_00": 1.5}, "key"), ({"ask_sz_00": 5}, "key"),
        ({"rtype": 0}, "schema"), ({"price": None}, "trade"), ({"size": 0}, "trade"), ({"size": None}, "trade"),
        ({"price": 7}, "price"), ({"symbol": ""}, "symbol"), ({"ts_event": 5}, "time"),
        ({"rtype": 177}, "schema"), ({"rtype": 177, "bid_pb_00": 2, "ask_pb_00": 2}, "key"),
    ],
)  # fmt: skip
def test_a_message_that_is_no_trade_alone(values, reason, events):
    assert outcome_of(JsonDecoder(events=events).decode, json.dumps(TRADE_ALONE | values).encode()) == reason


@pytest.mark.parametrize("name", ["symbol", "ts_event", "publisher_id"])
def test_a_trade_alone_has_to_say_of_what(name):
    values = {key: value for key, value in TRADE_ALONE.items() if key != name}
    with pytest.raises(DataError, match=f"no key '{name}'"):
        JsonDecoder().decode(json.dumps(values).encode())


price_of_a_level = st.none() | st.tuples(st.integers(1, 10**8).map(lambda cents: cents / 100), st.integers(1, 10**6))


@given(
    bids=st.lists(price_of_a_level, min_size=1, max_size=10),
    asks=st.lists(price_of_a_level, min_size=1, max_size=10),
    sequence=st.none() | st.integers(0, 2**64 - 1),
    event=st.none() | st.builds(Event, st.just("T"), st.sampled_from("BAN"), st.just(1.25), st.integers(1, 9)),
    alone=st.booleans(),
    owners=st.none() | st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
)
def test_an_update_as_a_message_is_read_as_it_was(bids, asks, sequence, event, alone, owners):
    event = Event("T", "N", 1e-05, 3) if alone and event is None else event
    update = BookUpdate("AAPL", 2, ISO_TIME, sequence, None if alone else bids, None if alone else asks, event)
    if owners is not None and not alone:
        whose = owners[0] if bids[0] else 0, owners[1] if asks[0] else 0
        update = msgspec.structs.replace(update, bid_publisher=whose[0], ask_publisher=whose[1])
    assert JsonDecoder(events=True).decode(message_from(update)) == update
