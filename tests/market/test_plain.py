"""Our own plain form: one unit, one meaning a column, venues by name or number; mistakes are named with their row."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import feeds
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from outcomes import outcome

from sor.cli import main
from sor.errors import DataError, InputError
from sor.market import BookUpdate, Event, plain
from sor.market.book import Books
from sor.market.columns import Batch, joined
from sor.market.databento_csv import CsvDecoder
from sor.market.databento_json import JsonDecoder, message_from
from sor.market.feed import read_feed
from sor.market.fields import iso_of
from sor.market.formats import format_of
from sor.market.plain_file import PlainFile
from sor.market.venues import VenueDirectory

SAMPLE = Path(__file__).resolve().parents[2] / "sample.csv"
DIRECTORY = VenueDirectory.load()
QUOTES = "time,venue,symbol,bid,ask,bid_size,ask_size"
TRADES = "time,venue,symbol,price,size"
TIME = 1_722_519_392_491_911_683  # 2024-08-01T13:36:32.491911683Z
QUOTE = dict(zip(QUOTES.split(","), f"{iso_of(TIME)},XNAS,AAPL,222.82,222.83,100,36".split(","), strict=True))
TRADE = dict(zip(TRADES.split(","), f"{TIME},XNYS,AAPL,222.825,7".split(","), strict=True))
OWN = """schema_version = 1
[[venue]]
mic = "OWNX"
name = "Own"
model = "flat"
publisher_ids = [7001]
[[venue.figures]]
valid_from = 2000-01-01
taker_fee = 0.001
maker_rebate = 0.0
taker_fee_verified = true
maker_rebate_verified = true
source = "ours"
"""


def decoded(row: dict[str, str], *, depth: int = 10, events: bool = True, **cells: str) -> BookUpdate:
    cells = row | cells
    return plain.decoder(",".join(cells).encode(), DIRECTORY, depth, events=events).decode(
        ",".join(cells.values()).encode()
    )


def reason_of(row: dict[str, str], **cells: str) -> str:
    with pytest.raises(DataError) as caught:
        decoded(row, **cells)
    assert str(caught.value)
    return caught.value.reason


def header_error(header: str) -> str:
    with pytest.raises(DataError) as caught:
        plain.decoder(header.encode(), DIRECTORY)
    assert caught.value.reason == "header"
    return str(caught.value)


# --- quotes and trades -----------------------------------------------------------------------------------------------


def test_a_quote():
    assert decoded(QUOTE) == BookUpdate("AAPL", 2, TIME, None, [(222.82, 100)], [(222.83, 36)])
    assert decoded(QUOTE, time=str(TIME), venue="2") == decoded(QUOTE)
    assert decoded(QUOTE, sequence="12").sequence == 12
    assert decoded(QUOTE, sequence="").sequence is None


def test_a_trade():
    assert decoded(TRADE) == BookUpdate("AAPL", 9, TIME, None, None, None, Event("T", "N", 222.825, 7))
    assert decoded(TRADE, events=False).event is None


@pytest.mark.parametrize(
    ("side", "event"), [("", "N"), ("N", "N"), ("buy", "B"), ("Sell", "A"), ("B", "B"), ("a", "A")]
)
def test_the_side_of_a_trade_is_that_of_who_took(side, event):
    assert decoded(TRADE, side=side).event == Event("T", event, 222.825, 7)


@pytest.mark.parametrize("price", ["222", "222.0", "2.22e2", " 222 "])
def test_a_price_is_dollars_always(price):
    """One unit: an integer is no 1e-9 dollars here, also where a file has both."""
    assert decoded(QUOTE, bid=price).bids == [(222.0, 100)]
    assert decoded(TRADE, price=price).event == Event("T", "N", 222.0, 7)


@pytest.mark.parametrize("cells", [{"bid": ""}, {"bid": "0"}, {"bid": "NaN"}, {"bid_size": ""}, {"bid_size": "0"}])
def test_a_side_that_shows_nothing(cells):
    update = decoded(QUOTE, **cells)
    assert (update.bids, update.asks) == ([None], [(222.83, 36)])


def test_levels_by_suffix():
    deeper = {"bid_1": "222.81", "ask_1": "222.84", "bid_size_1": "5", "ask_size_1": "6"}
    deepest = {"ask_size_2": "8", "bid_2": "222.80", "ask_2": "", "bid_size_2": "7"}
    update = decoded(QUOTE | deeper | deepest)
    assert update.bids == [(222.82, 100), (222.81, 5), (222.80, 7)]
    assert update.asks == [(222.83, 36), (222.84, 6), None]
    assert decoded(QUOTE | deeper | deepest, depth=2).bids == [(222.82, 100), (222.81, 5)]
    assert decoded(QUOTE | deeper, depth=1).bids == [(222.82, 100)]


def test_columns_in_any_case_and_order_and_others_beside_them():
    turned = {"note": "x"} | {name.upper(): cell for name, cell in reversed(QUOTE.items())}
    assert decoded({}, **turned) == decoded(QUOTE)
    assert format_of(",".join(turned).encode(), "feed").name == "plain CSV"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (QUOTES.replace(",ask_size", ""), "no column ask_size"),
        (QUOTES + ",bid", "'bid' stands twice"),
        (QUOTES + ",bid_1,ask_1,bid_size_1", "no column ask_size_1"),
        (QUOTES + ",bid_2,ask_2,bid_size_2,ask_size_2", "'ask_2' is of no level: no level comes before it"),
        (QUOTES + ",bid_sise_1", "'bid_sise_1' is of no level"),
        (QUOTES + ",bid_01,ask_01,bid_size_01,ask_size_01", "'ask_01' is of no level"),
        (QUOTES + ",price", "no column size in the header"),
        (QUOTES + ",size", "no column price in the header"),
        (TRADES + ",bid", "no column ask, bid_size, ask_size in the header"),
        ("time,venue,symbol,price", "no column size"),
        ("time,venue,symbol", "no column bid, ask, bid_size, ask_size"),
    ],
)
def test_a_header_that_is_wrong(header, said):
    assert said in header_error(header)


@pytest.mark.parametrize(
    ("row", "cells", "reason"),
    [
        (QUOTE, {"time": "yesterday"}, "time"), (QUOTE, {"time": "1722519392"}, "time"),
        (QUOTE, {"symbol": ""}, "symbol"),
        (QUOTE, {"bid": "-1"}, "price"), (QUOTE, {"ask": "x"}, "number"), (QUOTE, {"bid_size": "1.5"}, "size"),
        (QUOTE, {"venue": "65536"}, "number"), (QUOTE, {"venue": ""}, "venue"), (QUOTE, {"sequence": "-1"}, "number"),
        (QUOTE, {"bid": "1e10"}, "price"), (QUOTE, {"bid": "\uff11"}, "number"), (QUOTE, {"bid": "1_0"}, "number"),
        (TRADE, {"price": ""}, "trade"), (TRADE, {"size": "0"}, "trade"), (TRADE, {"side": "x"}, "event"),
        (TRADE, {"price": "inf"}, "price"),
    ],
)  # fmt: skip
def test_a_cell_that_is_wrong(row, cells, reason):
    assert reason_of(row, **cells) == reason


def test_cells_that_are_not_as_many_as_columns():
    decoder = plain.decoder(QUOTES.encode(), DIRECTORY)
    for row in (b"1,2,3", b"", b"\xff,,,,,,"):
        with pytest.raises(DataError):
            decoder.decode(row)


# --- quotes and trades in one file -----------------------------------------------------------------------------------

EMPTY = dict.fromkeys(("bid", "ask", "bid_size", "ask_size"), "")
BOTH = QUOTE | {"price": "222.83", "size": "7", "side": "buy"}
TRADED = Event("T", "B", 222.83, 7)


def test_a_row_is_a_quote_or_a_trade_or_both():
    quote, trade = BookUpdate("AAPL", 2, TIME, None, [(222.82, 100)], [(222.83, 36)]), {"price": "", "size": ""}
    assert decoded(BOTH, **trade) == quote
    assert decoded(BOTH, **EMPTY) == BookUpdate("AAPL", 2, TIME, None, None, None, TRADED)
    assert decoded(BOTH) == replace(quote, event=TRADED)
    assert decoded(BOTH, events=False) == quote
    assert decoded(BOTH, **EMPTY, events=False) == BookUpdate("AAPL", 2, TIME, None, None, None)
    assert decoded(BOTH, side="") == replace(quote, event=Event("T", "N", 222.83, 7))


@pytest.mark.parametrize("cells", [EMPTY, dict.fromkeys(EMPTY, " NaN "), dict.fromkeys(EMPTY, "null")])
def test_a_trade_alone_has_no_cells_of_quotes_at_any_level(cells):
    deeper = {"bid_1": "222.81", "ask_1": "", "bid_size_1": "5", "ask_size_1": ""}
    assert decoded(BOTH, **cells).bids is None
    assert decoded(BOTH, **cells | deeper).bids == [None, (222.81, 5)]
    assert decoded(BOTH, **cells | deeper, depth=1).bids == [None]  # levels that are not wanted say that it is a quote


def test_a_quote_of_nothing():
    """Without a trade all cells may be empty; beside one a 0 says that the venue shows nothing now."""
    assert decoded(BOTH, **EMPTY, price="", size="").bids == [None]
    assert decoded(BOTH, **EMPTY | {"bid_size": "0"}) == BookUpdate("AAPL", 2, TIME, None, [None], [None], TRADED)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [({"size": ""}, "trade"), ({"price": ""}, "trade"), ({"price": "x"}, "number"), ({"side": "x"}, "event")],
)
def test_half_a_trade_is_wrong(cells, reason):
    assert reason_of(BOTH, **cells) == reason
    assert reason_of(BOTH | EMPTY, **cells) == reason


def updates_of(folder: Path, *files: tuple[str, list[str]]) -> list[BookUpdate]:
    """The rows of files, each of a header and rows, merged by time."""
    paths = [folder / f"{number}.csv" for number in range(len(files))]
    for path, (header, rows) in zip(paths, files, strict=True):
        path.write_text("\n".join([header, *rows]) + "\n")
    return [batch.update(i) for batch in read_feed(paths) for i in range(len(batch))]


def test_a_file_of_both_is_that_of_quotes_and_that_of_trades(tmp_path):
    shown, start = "222.82,222.83,100,36", [f"{TIME + i},XNAS,AAPL" for i in range(4)]
    both = [f"{start[0]},{shown},,,", f"{start[1]},,,,,222.8,5,sell", f"{start[2]},{shown},222.83,9,"]
    quotes = [f"{start[0]},{shown}", f"{start[2]},{shown}"]
    trades = [f"{start[1]},222.8,5,sell", f"{start[2]},222.83,9,"]
    one = updates_of(tmp_path, (f"{QUOTES},price,size,side", both))
    two = updates_of(tmp_path, (f"{TRADES},side", trades), (QUOTES, quotes))
    assert [(row.time, row.event) for row in one if row.event] == [(row.time, row.event) for row in two if row.event]
    assert [replace(row, event=None) for row in one if row.bids] == [row for row in two if row.bids]
    assert (len(one), len(two)) == (3, 4)


@pytest.mark.parametrize("depth", [1, 2])
def test_what_is_written_in_the_plain_form_is_read_as_it_was(depth, tmp_path):
    (batch,) = read_feed(SAMPLE, depth=depth)
    path = tmp_path / "day.csv"
    with PlainFile(path, depth, DIRECTORY) as file:
        file.add(batch)
    assert file.rows == len(batch)
    (back,) = read_feed(path, depth=depth)
    for name in ("time", "publisher", "sequence", "bid_price", "bid_size", "ask_price", "ask_size"):
        assert np.array_equal(getattr(back, name), getattr(batch, name)), name
    trades = batch.action == ord("T")
    assert np.array_equal(back.action == ord("T"), trades)
    for name in ("price", "size", "side"):
        assert np.array_equal(getattr(back, name)[trades], getattr(batch, name)[trades]), name


@given(feed=feeds(consolidated=False))
def test_anything_that_columns_hold_is_read_as_it_was(tmp_path_factory, feed):
    """One-sided, empty, and rows that are no quotes, which are trades here."""
    path = tmp_path_factory.mktemp("plain") / "feed.csv"
    batch = joined(feed)
    n = len(batch)
    columns = batch.columns() | {
        "action": np.full(n, ord("T"), np.uint8), "side": np.full(n, ord("N"), np.uint8),
        "price": np.arange(1, n + 1) * 123_456_789, "size": np.arange(1, n + 1),
    }  # fmt: skip
    batch = Batch(batch.symbols, **columns)
    with PlainFile(path, batch.depth, DIRECTORY) as file:
        file.add(batch)
    back = joined(list(read_feed(path, depth=batch.depth)))
    for name in (
        "time",
        "publisher",
        "price",
        "size",
        "side",
        "action",
        "bid_price",
        "bid_size",
        "ask_price",
        "ask_size",
    ):
        assert np.array_equal(getattr(back, name), getattr(batch, name)), name


def test_the_plain_form_has_no_consolidated_quotes(tmp_path):
    (batch,) = read_feed(SAMPLE)
    with pytest.raises(InputError, match="1 levels: it must have 2"), PlainFile(tmp_path / "x", 2, DIRECTORY) as file:
        file.add(batch)
    assert list(tmp_path.iterdir()) == []


# --- venues ----------------------------------------------------------------------------------------------------------


def test_an_unknown_venue_is_named_with_the_nearest_ones(tmp_path, capfd):
    feed, letters = tmp_path / "feed.csv", tmp_path / "letters"
    rows = [QUOTE, QUOTE | {"venue": "XNSA"}, QUOTE | {"venue": "xnas"}]
    feed.write_text("\n".join([QUOTES, *(",".join(row.values()) for row in rows)]) + "\n")
    assert main(["replay", str(feed), "--dead-letter-file", str(letters)]) == 1
    first, second = [json.loads(line) for line in letters.read_text().splitlines()]
    assert (first["place"], first["reason"]) == ({"file": "feed.csv", "line": 3}, "venue")
    assert "venue 'XNSA' is not in the venue directory (did you mean XNYS or XNAS?)" in first["detail"]
    assert "did you mean XNAS" in second["detail"]
    assert second["place"]["line"] == 4
    assert base64.b64decode(first["raw_base64"]).decode() == ",".join(rows[1].values())
    capfd.readouterr()


def test_a_venue_of_the_users_own_file(tmp_path, capfd):
    own, feed = tmp_path / "own.toml", tmp_path / "feed.csv"
    own.write_text(OWN)
    rows = [QUOTE | {"venue": "OWNX"}, QUOTE | {"venue": "XNAS"}]
    feed.write_text("\n".join([QUOTES, *(",".join(row.values()) for row in rows)]) + "\n")
    assert main(["replay", str(feed), "--venues", str(own)]) == 0
    last = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert [(venue["venue_id"], venue["fee"]) for venue in last["venues"]] == [("XNAS", 0.003), ("OWNX", 0.001)]


def test_a_venue_without_a_publisher_id(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(OWN.replace("[7001]", "[]"))
    decoder = plain.decoder(QUOTES.encode(), VenueDirectory.load(own))
    with pytest.raises(DataError, match="OWNX has no publisher id"):
        decoder.decode(",".join((QUOTE | {"venue": "OWNX"}).values()).encode())


# --- against Databento's spelling ------------------------------------------------------------------------------------


def plain_of(feed: list[bytes]) -> str:
    """A Databento CSV file in the plain form, its numbers as they are spelled there."""
    header, *rows = [line.decode().split(",") for line in feed]
    levels = [i for i in range(10) if f"bid_px_{i:02d}" in header]
    names = {"time": "ts_event", "venue": "publisher_id", "symbol": "symbol"}
    for i in levels:
        end = f"_{i}" if i else ""
        for side in ("bid", "ask"):
            names |= {f"{side}{end}": f"{side}_px_{i:02d}", f"{side}_size{end}": f"{side}_sz_{i:02d}"}
    places = [header.index(name) for name in names.values()]
    return "\n".join([",".join(names), *(",".join(row[at] for at in places) for row in rows)]) + "\n"


@pytest.mark.parametrize("options", [(), ("--greedy-l2",), ("--venues-from", "publishers", "--side", "sell")])
def test_the_sample_in_the_plain_form_gives_the_same_results(options, tmp_path, capfd):
    """But for where a row stands and its sequence, which the plain form may have and this file has not."""
    feed = tmp_path / "feed.csv"
    feed.write_text(plain_of(SAMPLE.read_bytes().splitlines()))
    found = []
    for path in (SAMPLE, feed):
        assert main(["replay", str(path), "--log-level", "error", *options]) == 0
        found.append([without_place(json.loads(line)) for line in capfd.readouterr().out.splitlines()])
    assert len(found[0]) == len(SAMPLE.read_bytes().splitlines()) - 1
    assert found[0] == found[1]


def without_place(result: dict[str, Any]) -> dict[str, Any]:
    del result["source"], result["book"]["sequence"]
    return result


def test_the_ibm_week_in_the_plain_form_gives_the_same_updates(shared):
    """Every 50th row of a recorded day with eleven publishers, one-sided quotes and trades."""
    with gzip.open(shared / "data" / "ibm_week" / "lean_ibm_20131007_mbp-1.csv.gz") as file:
        lines = file.read().splitlines()
    feed = [lines[0], *lines[1::50]]
    header, *rows = plain_of(feed).splitlines()
    theirs, ours = CsvDecoder(feed[0], 1), plain.decoder(header.encode(), DIRECTORY, 1)
    for their_row, our_row in zip(feed[1:], rows, strict=True):
        their, our = theirs.decode(their_row), ours.decode(our_row.encode())
        assert (our.symbol, our.publisher_id, our.time) == (their.symbol, their.publisher_id, their.time)
        assert (our.bids, our.asks) == (their.bids, their.asks)


# --- through books and topics ----------------------------------------------------------------------------------------


def test_a_trade_leaves_the_book():
    books = Books(DIRECTORY)
    books.apply(decoded(QUOTE))
    book = books.apply(decoded(TRADE, time=str(TIME + 5)))
    assert [(one.venue_id, one.bid, one.ask, one.time) for one in book.quotes] == [("XNAS", 222.82, 222.83, TIME)]
    assert book.time == TIME + 5


@pytest.mark.parametrize("update", [decoded(QUOTE), decoded(TRADE, side="buy"), decoded(QUOTE, bid="", sequence="7")])
def test_as_a_message_it_is_the_same(update):
    assert JsonDecoder(10, events=True).decode(message_from(update)) == update


@given(row=st.sampled_from([QUOTE, TRADE]), data=st.data())
def test_a_mutated_cell_is_decoded_or_refused(row, data):
    name = data.draw(st.sampled_from(list(row)))
    near = st.text(st.sampled_from("0123456789.:-+eETZXNAS /_"), max_size=32)
    cell = data.draw(st.one_of(st.text(max_size=20), near, st.floats().map(str), st.integers().map(str)))
    decoder = plain.decoder(",".join(row).encode(), DIRECTORY, events=True)
    raw = ",".join((row | {name: cell}).values()).encode(errors="surrogatepass")
    update = outcome(decoder.decode, raw)
    if isinstance(update, BookUpdate):
        assert 0 < update.time < 2**63
        assert (update.bids is None) == (update.event is not None) == (row is TRADE)


@given(header=st.binary(max_size=60), row=st.binary(max_size=80))
def test_bytes_of_any_kind(header, row):
    for start in (b"", QUOTES.encode() + b",", TRADES.encode() + b","):
        outcome(lambda head: plain.decoder(head, DIRECTORY).decode(row), start + header)
