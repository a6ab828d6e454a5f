"""Instruments: exact lots, a file that says what is wrong with it, and sizes in lots from every format."""

from __future__ import annotations

import gzip
import logging
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sor
from sor import DataError, InputError, Instrument, Instruments, Order
from sor.market.databento_json import JsonDecoder, message_from
from sor.market.parquet import write_parquet
from sor.stream.files import open_feed
from sor.types import MOST_LOTS

LOTS = ["0.000000001", "0.00000001", "0.0001", "0.001", "0.0025", "0.125", "0.5", "1", "10", "100", "1000000"]
COIN = Instrument(lot="0.0001", tick="0.01", round_lot="0.01", currency="EUR")
COINS = Instruments({"BTC-EUR": COIN})
HEADER = "time,venue,symbol,bid,ask,bid_size,ask_size"
QUOTES = f"""{HEADER}
2024-08-01T13:36:32.000000001Z,XNAS,BTC-EUR,59990,60000,0.5,0.0137
2024-08-01T13:36:32.000000002Z,XNYS,AAPL,222.82,222.83,100,36
2024-08-01T13:36:32.000000003Z,XNYS,BTC-EUR,59980,60010.5,12,0.01
"""
TRADES = """time,venue,symbol,price,size,side
2024-08-01T13:36:32.000000001Z,XNAS,BTC-EUR,60000,0.0037,buy
"""
DATABENTO = """ts_recv,ts_event,rtype,publisher_id,action,side,price,size,flags,sequence,\
bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,symbol
2024-08-01T13:36:32.000000002Z,2024-08-01T13:36:32.000000001Z,1,2,A,B,59990.0,3,0,1,59990.0,60000.0,5,7,BTC-EUR
2024-08-01T13:36:32.000000003Z,2024-08-01T13:36:32.000000002Z,1,2,A,B,222.82,3,0,2,222.82,222.83,5,7,AAPL
"""


def updates_of(path: Path, instruments: Instruments) -> list[Any]:
    """As `sor replay` decodes a file."""
    source = open_feed(str(path), instruments)
    try:
        decoder = source.decoder(10, events=True)
        return [decoder.decode(message.whole()) for message in source]
    finally:
        source.close()


def rows_of(feed: sor.Feed) -> list[Any]:
    return [batch.update(row) for batch in feed for row in range(len(batch))]


# --- exact numbers ---------------------------------------------------------------------------------------------------


@given(st.sampled_from(LOTS), st.integers(1, MOST_LOTS) | st.integers(0, 9).map(lambda less: MOST_LOTS - less))
def test_so_many_lots_are_a_quantity_and_back(lot: str, lots: int) -> None:
    """By text, by Decimal, and by the double that JSON carries: to fifteen digits it is as exact."""
    instrument = Instrument(lot=lot)
    lots = lots * instrument.most // MOST_LOTS or 1
    exact = Decimal(lot) * lots
    assert instrument.lots("x", str(exact)) == instrument.lots("x", exact) == lots
    outside = instrument.quantity(lots)
    assert Fraction(outside) == Fraction(exact) or outside == float(exact)
    assert instrument.lots("x", outside) == lots
    assert type(outside) is (int if Decimal(lot) >= 1 else float)
    assert Order("A", "buy", outside, instrument=instrument).quantity == outside


@given(st.sampled_from(LOTS), st.integers(0, 10**9), st.decimals("0.001", "0.999", places=3))
def test_what_is_no_multiple_is_refused(lot: str, lots: int, part: Decimal) -> None:
    value = Decimal(lot) * (lots + part)
    with pytest.raises(
        InputError, match=rf"x is {value}: it must be a multiple of the lot {Decimal(lot):f}, from 0 to"
    ):
        Instrument(lot=lot).lots("x", value)


@pytest.mark.parametrize("lot", LOTS)
def test_a_quantity_of_more_digits_than_a_double_keeps_is_refused(lot: str) -> None:
    instrument = Instrument(lot=lot)
    assert instrument.lots("x", Decimal(lot) * instrument.most) == instrument.most
    with pytest.raises(InputError, match=r"x is .*: it must be a multiple of the lot"):
        instrument.lots("x", Decimal(lot) * (instrument.most + 1))


def test_a_lot_is_what_it_is_written_as() -> None:
    assert Instrument(lot=0.0001) == Instrument(lot="0.0001") == Instrument(lot=Decimal("0.00010"))
    assert len({Instrument(lot=0.0001), Instrument(lot="0.00010")}) == 1
    assert Instrument(lot=0.1).lots("x", 0.3) == 3  # 0.1 * 3 is not 0.3 in doubles
    assert Instrument(lot="1e-8").lots("x", "0.00000001") == 1
    assert Instrument(lot="1e-8").quantity(1) == 1e-8
    assert Instrument().lots("x", np.int64(7)) == 7
    assert Instrument(lot=0.5).lots("x", np.float32(1.5)) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [("lot", value) for value in (0, -1, "0.3", 1.5, 1e-10, 2 * 10**6, "nan", "inf", "x", "", "1_0", None, True, [1])]
    + [("tick", value) for value in (0, -0.01, "x", True)]
    + [("round_lot", value) for value in (0, 0.00015, "x", False)]
    + [("currency", value) for value in ("", "eur", "E", "EURO-COINS", "Ä1", 7, "LONGERTHANTEN")],
)
def test_a_wrong_instrument_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{field} is "):
        Instrument(**({"lot": "0.0001"} | {field: value}))


@pytest.mark.parametrize(
    "value",
    [0, -1, 0.00001, "x", "nan", 10**12, 10**6000, "1e999999999", "1e-999999999", None, True],
    ids=lambda value: f"{value!r:.9}" if value != 10**6000 else "huge",
)
def test_a_wrong_quantity_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="quantity is "):
        Order("BTC-EUR", "buy", value, instrument=COIN)


def test_without_an_instrument_an_order_is_of_whole_shares() -> None:
    with pytest.raises(InputError, match=r"quantity is 1\.5: it must be a whole number from 1"):
        Order("AAPL", "buy", 1.5)
    with pytest.raises(InputError, match="instrument is 'x': it must be an Instrument"):
        Order("AAPL", "buy", 1, instrument="x")  # type: ignore[arg-type]


# --- the file --------------------------------------------------------------------------------------------------------

FILE = """schema_version = 1

[[instrument]]
symbol = "BTC-EUR"
lot = 0.0001
tick = 0.01
round_lot = 0.01
currency = "EUR"

[[instrument]]
symbol = "ETH-USD"
lot = 1e-8

[[instrument]]
symbol = "BRK.A"
"""


def test_a_file_of_instruments(tmp_path: Path) -> None:
    path = tmp_path / "i.toml"
    path.write_text(FILE)
    found = Instruments.load(path)
    assert dict(found) == {"BTC-EUR": COIN, "ETH-USD": Instrument(lot="0.00000001"), "BRK.A": Instrument()}
    assert found.lots() == {"BTC-EUR": "0.0001", "ETH-USD": "0.00000001"}
    assert dict(Instruments.load(None)) == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lot = 0.0001", "lot = 0", ["instrument 1 (BTC-EUR)", "lot is 0"]),
        ("lot = 0.0001", "lot = 0.3", ["instrument 1 (BTC-EUR)", "lot is 0.3"]),
        ("lot = 1e-8", 'lot = "1e-8"', ["instrument 2 (ETH-USD)", "lot is '1e-8'", "without quotes"]),
        ("lot = 1e-8", "lots = 1e-8", ["instrument 2 (ETH-USD)", "unknown key 'lots' (did you mean lot?)"]),
        ("lot = 1e-8", "lot = nan", ["instrument 2 (ETH-USD)", "lot is NaN"]),
        ("round_lot = 0.01", "round_lot = 0.00015", ["instrument 1 (BTC-EUR)", "round_lot is 0.00015"]),
        ('currency = "EUR"', "currency = 7", ["instrument 1 (BTC-EUR)", "currency is 7", "text in quotes"]),
        ('currency = "EUR"', 'currency = "€"', ["instrument 1 (BTC-EUR)", "currency is '€'"]),
        ('symbol = "BRK.A"', 'symbol = "BTC-EUR"', ["symbol BTC-EUR stands in two entries"]),
        ('symbol = "BRK.A"', "", ["instrument 3: missing symbol"]),
        ("schema_version = 1", "schema_version = 2", ["schema_version is 2"]),
        ("[[instrument]]", "[[instruments]]", ["unknown key 'instruments' (did you mean instrument?)"]),
        ("lot = 1e-8", "lot = ", ["not valid TOML"]),
    ],
)
def test_a_wrong_file_is_told_by_file_symbol_and_key(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    path = tmp_path / "i.toml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(InputError) as caught:
        Instruments.load(path)
    assert all(word in str(caught.value) for word in [str(path), *words]), caught.value


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the instruments file cannot be read: No such file"):
        Instruments.load(tmp_path / "none.toml")


# --- sizes of feeds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 10])
def test_decimals_of_the_plain_form_are_lots(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "q.csv"
    path.write_text(QUOTES)
    feed = sor.read_feed(path, depth=depth, instruments=COINS)
    found = [(one.symbol, one.bids[0][1], one.asks[0][1]) for one in rows_of(feed)]
    assert found == [("BTC-EUR", 5000, 137), ("AAPL", 100, 36), ("BTC-EUR", 120_000, 100)]
    assert [(one.symbol, one.bids[0][1], one.asks[0][1]) for one in updates_of(path, COINS)] == found
    assert not feed.bad


def test_decimals_of_trades_are_lots(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TRADES)
    assert [one.event.size for one in updates_of(path, COINS)] == [37]
    assert [one.event.size for one in rows_of(sor.read_feed(path, instruments=COINS))] == [37]


def test_without_an_entry_decimals_are_bad_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(QUOTES)
    feed = sor.read_feed(path)
    assert [one.symbol for one in rows_of(feed)] == ["AAPL"]
    assert feed.bad == {"size": 2}


@pytest.mark.parametrize("size", ["0.00001", "1e-5", "abc", "1_0", "100000000001", "inf"])
def test_a_size_that_is_no_multiple_is_a_bad_row(tmp_path: Path, size: str) -> None:
    path = tmp_path / "q.csv"
    path.write_text(f"{HEADER}\n2024-08-01T13:36:32Z,XNAS,BTC-EUR,59990,60000,0.5,{size}\n")
    feed = sor.read_feed(path, instruments=COINS)
    assert rows_of(feed) == []
    assert feed.bad == {"size": 1}
    with pytest.raises(DataError, match="ask_size is ") as caught:
        updates_of(path, COINS)
    assert caught.value.reason == "size"


@pytest.mark.parametrize("size", ["", "0", "0.0", "nan", "NULL", "-1", "-0.5"])
def test_sizes_that_show_nothing(tmp_path: Path, size: str) -> None:
    path = tmp_path / "q.csv"
    path.write_text(f"{HEADER}\n2024-08-01T13:36:32Z,XNAS,BTC-EUR,59990,60000,0.5,{size}\n")
    (row,) = rows_of(sor.read_feed(path, instruments=COINS))
    assert row.asks == [None]
    assert row == updates_of(path, COINS)[0]


def test_whole_coins_of_other_formats_are_lots(tmp_path: Path) -> None:
    """Read quickly into columns, slowly into columns (a size with a point), and row by row."""
    path = tmp_path / "d.csv"
    slow = DATABENTO.replace(",5,7,BTC-EUR", ",5.0,7.0,BTC-EUR").replace(",3,0,1,", ",3.0,0,1,")
    for text in (DATABENTO, slow):
        path.write_text(text)
        shares, coins = rows_of(sor.read_feed(path)), rows_of(sor.read_feed(path, instruments=COINS))
        assert [(one.bids[0][1], one.asks[0][1], one.event.size) for one in shares] == [(5, 7, 3)] * 2
        assert [(one.bids[0][1], one.asks[0][1], one.event.size) for one in coins] == [
            (50_000, 70_000, 30_000),
            (5, 7, 3),
        ]
        assert [(one.bids, one.asks, one.event) for one in updates_of(path, COINS)] == [
            (one.bids, one.asks, one.event) for one in coins
        ]


def test_columns_of_shares_are_not_changed_in_place(tmp_path: Path) -> None:
    from sor.market.instruments import batch_in_lots

    path = tmp_path / "d.csv"
    path.write_text(DATABENTO)
    (batch,) = sor.read_feed(path)
    before = batch.bid_size.copy()
    batch_in_lots(batch, COINS)
    assert (batch.bid_size == before).all()


def test_whole_units_that_are_no_lots_are_bad_rows_and_told(tmp_path: Path, caplog: Any) -> None:
    tons = Instruments({"BTC-EUR": Instrument(lot=5)})
    path = tmp_path / "d.csv"
    path.write_text(DATABENTO)
    feed = sor.read_feed(path, instruments=tons)
    with caplog.at_level(logging.WARNING):
        assert [one.symbol for one in rows_of(feed)] == ["AAPL"]
    assert feed.bad == {"size": 1}
    assert feed.rows == 2
    assert "of BTC-EUR at 2024-08-01T13:36:32.000000001Z: no multiple of the lot 5" in caplog.text
    path.write_text(DATABENTO.replace("59990.0,3,0", "59990.0,10,0").replace("5,7,BTC", "5,20,BTC"))
    (row, _) = rows_of(sor.read_feed(path, instruments=tons))
    assert (row.bids[0][1], row.asks[0][1], row.event.size) == (1, 4, 2)
    assert feed.bad == {"size": 1}


def test_more_than_so_many_lots_are_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(DATABENTO.replace("5,7,BTC", "5,1000000000,BTC"))
    tiny = Instruments({"BTC-EUR": Instrument(lot="1e-9")})
    feed = sor.read_feed(path, instruments=tiny)
    assert [one.symbol for one in rows_of(feed)] == ["AAPL"]
    with pytest.raises(DataError, match=r"it must be a multiple of the lot 0\.000000001, from 0 to 1000000"):
        updates_of(path, tiny)


@pytest.mark.parametrize("size", ["0.0137", '"0.0137"', "1.37e-2"])
def test_decimals_in_json(size: str) -> None:
    raw = (
        '{"ts_event":1722519392491911683,"publisher_id":2,"bid_px_00":59990.0,"ask_px_00":60000.0,"bid_sz_00":2,'
        f'"ask_sz_00":{size},"symbol":"BTC-EUR"}}'
    ).encode()
    update = JsonDecoder(1, instruments=COINS).decode(raw)
    assert (update.bids, update.asks) == ([(59990.0, 20_000)], [(60000.0, 137)])
    assert JsonDecoder(1, instruments=COINS).decode(message_from(update, COINS)) == update
    assert b'"ask_sz_00":0.0137' in message_from(update, COINS)
    with pytest.raises(DataError):
        JsonDecoder(1).decode(raw)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def test_parquet_holds_lots_and_says_so(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    source, path = tmp_path / "q.csv", tmp_path / "q.parquet"
    source.write_text(QUOTES)
    feed = sor.read_feed(source, instruments=COINS)
    assert write_parquet(feed, path) == 3
    assert parquet.read_schema(path).metadata[b"sor.lots"] == b'{"BTC-EUR":"0.0001"}'
    again = sor.read_feed(path, instruments=COINS)
    assert rows_of(again) == rows_of(feed)
    assert [(one.bids, one.asks) for one in updates_of(path, COINS)] == [(one.bids, one.asks) for one in rows_of(feed)]
    with pytest.raises(InputError, match=r"has sizes of BTC-EUR in lots of 0\.0001, and its instrument's lot is 1"):
        rows_of(sor.read_feed(path))
    with pytest.raises(InputError, match=r"in lots of 0\.0001, and its instrument's lot is 0\.001"):
        rows_of(sor.read_feed(path, instruments=Instruments({"BTC-EUR": Instrument(lot="0.001")})))
    with pytest.raises(InputError, match=r"in lots of 0\.0001"):
        open_feed(str(path))


def test_parquet_of_shares_has_the_bytes_that_it_had(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    source = tmp_path / "q.csv"
    source.write_text("\n".join(line for line in QUOTES.splitlines() if "BTC" not in line) + "\n")
    for name, instruments in (("a", Instruments({})), ("b", Instruments({"AAPL": Instrument(currency="USD")}))):
        write_parquet(sor.read_feed(source, instruments=instruments), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert parquet.read_schema(tmp_path / "a").metadata == {b"sor.feed": b"1"}
    with pytest.raises(InputError, match=r"AAPL in lots of 1, and its instrument's lot is 0\.5"):
        rows_of(sor.read_feed(tmp_path / "a", instruments=Instruments({"AAPL": Instrument(lot=0.5)})))


def test_the_plain_form_in_parquet_may_have_decimals(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "time": [1722519392491911683, 1722519392491911684],
        "venue": ["XNAS", "XNAS"],
        "symbol": ["BTC-EUR", "BTC-EUR"],
        "bid": [59990.0, 59990.0],
        "ask": [60000.0, 60000.0],
        "bid_size": [0.5, 0.5],
        "ask_size": [0.0137, 0.00001],
    }
    path = tmp_path / "p.parquet"
    parquet.write_table(arrow.table(columns), path)
    feed = sor.read_feed(path, instruments=COINS)
    assert [(one.bids, one.asks) for one in rows_of(feed)] == [([(59990.0, 5000)], [(60000.0, 137)])]
    assert feed.bad == {"size": 1}
    source = open_feed(str(path), COINS)
    decoder = source.decoder(1)
    good, bad = (message.whole() for message in source)
    source.close()
    assert decoder.decode(good).asks == [(60000.0, 137)]
    with pytest.raises(DataError):
        decoder.decode(bad)
    assert b"it must be a multiple of the lot 0.0001" in bad


def test_packed_files_have_lots_too(tmp_path: Path) -> None:
    path = tmp_path / "q.csv.gz"
    path.write_bytes(gzip.compress(QUOTES.encode()))
    assert rows_of(sor.read_feed(path, instruments=COINS))[0].asks == [(60000.0, 137)]


def test_what_the_page_says_of_a_file_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    (text,) = (one for one in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[[instrument]]" in one)
    (tmp_path / "coins.toml").write_text(text)
    assert dict(Instruments.load(tmp_path / "coins.toml")) == dict(COINS)
    (tmp_path / "quotes.csv").write_text(QUOTES)
    code = next(one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Instruments.load" in one)
    names: dict[str, Any] = {"sor": sor}
    monkeypatch.chdir(tmp_path)
    exec(code, names)  # noqa: S102 - the page's own
    assert names["answers"]["allocation"].tolist() == [[0.0137, 0.0], [0.0137, 0.0]]
