"""US TAQ: New York time, exchanges, sizes by date, conditions and corrections, worked out by hand; all is counted."""

from __future__ import annotations

import gzip
import json
import zoneinfo
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import outcome

from sor.cli import main
from sor.errors import DataError, InputError, LeftOut
from sor.market import BookUpdate, Event, taq
from sor.market.book import Books
from sor.market.columns import NO_PRICE, STANDS, Batch
from sor.market.databento_json import JsonDecoder, message_from
from sor.market.feed import Feed, read_feed
from sor.market.fields import DOUBTS, iso_of
from sor.market.formats import format_of
from sor.market.parquet import write_parquet
from sor.market.venues import VenueDirectory

DIRECTORY = VenueDirectory.load()
QUOTES = "date,time_m,ex,sym_root,sym_suffix,bid,bidsiz,ask,asksiz,qu_cond"
TRADES = "date,time_m,ex,sym_root,sym_suffix,tr_scond,size,price,tr_corr"
FIRST_QUOTE = "2018-01-02,09:30:00.042000,K,XXX,,158.0,3,158.5,1,R"
FIRST_TRADE = "2018-01-02,09:30:00.043000,K,XXX,,F,100,158.3,00"
QUOTE = dict(zip(QUOTES.split(","), FIRST_QUOTE.split(","), strict=True))
TRADE = dict(zip(TRADES.split(","), FIRST_TRADE.split(","), strict=True))
OPEN = 1_514_903_400 * 10**9  # 2018-01-02T14:30:00Z: 17,532 days and 14.5 hours
MS = 10**6
EDGX, ARCA, BZX, NYSE = 8, 43, 5, 9  # first publishers of the venue directory
SAMPLE = "data/taq/taq_xxx_20180102_{}.csv.gz"


def sample(shared: Path, kind: str) -> list[bytes]:
    with gzip.open(shared / SAMPLE.format(kind)) as file:
        return file.read().splitlines()


def quote(**cells: str) -> BookUpdate:
    return decoded(QUOTE, cells)


def trade(*, events: bool = True, **cells: str) -> BookUpdate:
    return decoded(TRADE, cells, events=events)


def decoded(row: dict[str, str], cells: dict[str, str], *, events: bool = True) -> BookUpdate:
    cells = row | cells
    decoder = taq.decoder(",".join(cells).encode(), DIRECTORY, events=events)
    return decoder.decode(",".join(cells.values()).encode())


def reason_of(call: Any, **cells: str) -> str:
    with pytest.raises(DataError) as caught:
        call(**cells)
    assert caught.value.reason.isidentifier()
    return ("left out: " if isinstance(caught.value, LeftOut) else "") + caught.value.reason


# --- the first rows of the sample ------------------------------------------------------------------------------------


def test_the_first_quotes_of_the_sample(shared):
    header, *rows = sample(shared, "quotes")[:5]
    decoder = taq.decoder(header, DIRECTORY)
    assert [decoder.decode(row) for row in rows] == [
        BookUpdate("XXX", EDGX, OPEN + 42 * MS, None, [(158.0, 300)], [(158.5, 100)]),
        BookUpdate("XXX", ARCA, OPEN + 92 * MS, None, [(158.01, 100)], [(158.39, 2000)]),
        BookUpdate("XXX", BZX, OPEN + 94 * MS, None, [(158.25, 100)], [(158.8, 500)]),
        BookUpdate("XXX", NYSE, OPEN + 115 * MS, None, [(158.39, 100)], [(158.5, 1800)]),
    ]


def test_the_first_trades_of_the_sample(shared):
    header, *rows = sample(shared, "trades")[:5]
    decoder = taq.decoder(header, DIRECTORY, events=True)
    assert decoder.decode(rows[0]) == BookUpdate(
        "XXX", EDGX, OPEN + 43 * MS, None, None, None, Event("T", "N", 158.3, 100)
    )
    assert decoder.decode(rows[1]).event == Event("T", "N", 158.3, 2)
    with pytest.raises(LeftOut):  # Arca's official opening price, which repeats a trade
        decoder.decode(rows[2])
    assert decoder.decode(rows[3]).event == Event("T", "N", 158.31, 98)


def test_every_row_of_the_sample_is_accounted_for(shared, tmp_path, capfd):
    """Conditions of the 76,812 trades, counted apart from the package, make the reasons: '4 B' 304, '4 I' 79, ..."""
    found = {}
    for kind in ("quotes", "trades"):
        summary, output = tmp_path / "summary.json", tmp_path / f"{kind}.jsonl"
        feed = str(shared / SAMPLE.format(kind))
        assert main(["replay", feed, "--summary", str(summary), "--output", str(output), "--log-level", "error"]) == 0
        found[kind] = json.loads(summary.read_text())
    quotes, trades = found["quotes"], found["trades"]
    assert (quotes["messages"], quotes["results"], quotes["skipped"], quotes["bad"]) == (130_618, 130_618, {}, {})
    assert (trades["messages"], trades["results"], trades["bad"]) == (76_812, 76_316, {})
    assert trades["skipped"] == {
        "derivative": 304 + 79 + 7,  # 4 B, 4 I, 4
        "contingent": 25 + 1 + 1,  # 7 V, 7 I, 7 B
        "settlement": 24 + 14 + 7 + 6 + 4,  # N, N I, R, C I, R I
        "out_of_sequence": 12 + 5,  # ZI, Z
        "official_price": 4,  # Q
        "auction": 2,  # O
        "average_price": 1,  # B
    }
    counted = Counter(row.split(b",")[5] for row in sample(shared, "trades")[1:])
    whole = sum(counted[code] for code in (b"", b"I", b"F", b"F I", b"FT"))
    assert whole == trades["results"]
    capfd.readouterr()


# --- the header ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [QUOTE, TRADE], ids=["quotes", "trades"])
def test_columns_in_any_case_and_order_and_more_of_them(row):
    plain = decoded(row, {})
    turned = {" SPARE": "x"} | {name.upper(): cell for name, cell in reversed(row.items())}
    assert decoded({}, turned) == plain
    assert format_of(b"\xef\xbb\xbf" + ",".join(turned).encode(), "feed").name == "TAQ of WRDS as CSV"


@pytest.mark.parametrize("row", [QUOTE, TRADE], ids=["quotes", "trades"])
def test_a_column_that_is_missing_or_twice(row):
    for name in row:
        if name not in ("time_m", "ex", "sym_root", "tr_scond"):
            header = ",".join(one for one in row if one != name)
            with pytest.raises(DataError, match=name):
                taq.decoder(header.encode(), DIRECTORY)
        with pytest.raises(DataError, match="twice"):
            taq.decoder((",".join(row) + f",{name.upper()}").encode(), DIRECTORY)


def test_other_files_are_not_taken_for_it():
    assert format_of(b"ts_event,publisher_id,symbol", "feed").name == "Databento CSV"
    assert not taq.is_taq(b'"no end')


# --- New York time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "clock", "utc"),
    [
        ("2018-01-02", "09:30:00.042000", "2018-01-02T14:30:00.042000000Z"),
        ("20180102", "9:30:00.042", "2018-01-02T14:30:00.042000000Z"),  # as SAS writes an hour
        ("2018-01-02", "16:00:00", "2018-01-02T21:00:00.000000000Z"),
        ("2018-07-02", "09:30:00.123456789", "2018-07-02T13:30:00.123456789Z"),
        ("2018-03-09", "09:30:00", "2018-03-09T14:30:00.000000000Z"),  # Friday before the clocks go forward
        ("2018-03-12", "09:30:00", "2018-03-12T13:30:00.000000000Z"),  # and Monday after
        ("2018-11-02", "09:30:00", "2018-11-02T13:30:00.000000000Z"),  # Friday before they go back
        ("2018-11-05", "09:30:00", "2018-11-05T14:30:00.000000000Z"),
        ("2018-03-11", "01:59:59.999999999", "2018-03-11T06:59:59.999999999Z"),
        ("2018-03-11", "03:00:00", "2018-03-11T07:00:00.000000000Z"),
        ("2018-11-04", "00:59:59", "2018-11-04T04:59:59.000000000Z"),
        ("2018-11-04", "02:00:00", "2018-11-04T07:00:00.000000000Z"),
        ("2006-04-03", "09:30:00", "2006-04-03T13:30:00.000000000Z"),  # the law of before 2007: first Sunday of April
        ("2026-12-07", "20:30:00", "2026-12-08T01:30:00.000000000Z"),  # late trading is of the next day in UTC
    ],
)
def test_new_york_time(day, clock, utc):
    assert iso_of(quote(date=day, time_m=clock).time) == utc
    assert iso_of(trade(date=day, time_m=clock).time) == utc


@pytest.mark.parametrize(
    ("day", "clock"), [("2018-03-11", "02:30:00"), ("2018-11-04", "01:00:00"), ("20181104", "1:59:59")]
)
def test_an_hour_that_comes_twice_or_not_at_all_is_refused(day, clock):
    assert reason_of(quote, date=day, time_m=clock) == "time"
    with pytest.raises(DataError, match="twice or not at all"):
        quote(date=day, time_m=clock)


@pytest.mark.parametrize(
    ("day", "clock"),
    [
        ("2018-01-02", ""), ("", "09:30:00"), ("2018-13-02", "09:30:00"), ("2018-0102", "09:30:00"),
        ("02JAN2018", "09:30:00"), ("2018-01-02", "24:00:00"), ("2018-01-02", "09:60:00"), ("2018-01-02", "09:30:60"),
        ("2018-01-02", "09:30"), ("2018-01-02", "09:30:00.1234567890"), ("2018-01-02", "-9:30:00"),
        ("1969-12-31", "09:30:00"), ("2262-12-31", "09:30:00"), ("0001-01-01", "00:00:00"), ("9999-12-31", "23:59:59"),
        ("\uff120180102", "09:30:00"),
    ],
)  # fmt: skip
def test_no_such_time(day, clock):
    assert reason_of(quote, date=day, time_m=clock) == "time"


def test_nanoseconds_in_a_column_of_their_own():
    """As WRDS has them since 2018: on top of microseconds, and once where the time has nine decimals already."""
    assert quote(time_m_nano="789").time == OPEN + 42 * MS + 789
    assert quote(time_m_nano="").time == OPEN + 42 * MS
    assert quote(time_m="09:30:00.042000789", time_m_nano="789").time == OPEN + 42 * MS + 789
    assert reason_of(quote, time_m_nano="1000") == "number"


def test_no_time_zone_data(monkeypatch):
    def missing(name):
        raise zoneinfo.ZoneInfoNotFoundError(name)

    taq.new_york.cache_clear()
    monkeypatch.setattr(taq, "ZoneInfo", missing)
    with pytest.raises(InputError, match="pip install tzdata"):
        taq.decoder(QUOTES.encode(), DIRECTORY)


# --- exchanges and symbols -------------------------------------------------------------------------------------------

VENUES = {
    "A": "XASE", "B": "XBOS", "C": "XCIS", "H": "EPRL", "J": "EDGA", "K": "EDGX", "L": "LTSE", "M": "XCHI", "N": "XNYS",
    "P": "ARCX", "Q": "XNAS", "T": "XNAS", "U": "MEMX", "V": "IEXG", "X": "XPSX", "Y": "BATY", "Z": "BATS",
}  # fmt: skip


@pytest.mark.parametrize("letter", VENUES)
def test_the_venue_of_a_letter(letter):
    for update in (quote(ex=letter), trade(ex=letter)):
        assert DIRECTORY.venue(update.publisher_id).venue_id == VENUES[letter]


@pytest.mark.parametrize("letter", ["F", "G", "I", "W"])
def test_an_exchange_that_the_directory_does_not_list_needs_an_entry(letter, tmp_path):
    assert reason_of(quote, ex=letter) == "exchange"
    mic = taq.EXCHANGES[letter]
    with pytest.raises(DataError, match=f"ex is {letter}: venue '{mic}' is not in the venue directory"):
        quote(ex=letter)
    own = tmp_path / "own.toml"
    own.write_text(
        f'schema_version = 1\n[[venue]]\nmic = "{mic}"\nname = "x"\nmodel = "x"\npublisher_ids = [7001]\n'
        "[[venue.figures]]\nvalid_from = 2000-01-01\ntaker_fee = 0.003\nmaker_rebate = 0.0\n"
        'taker_fee_verified = false\nmaker_rebate_verified = false\nsource = "x"\n'
    )
    row = ",".join((QUOTE | {"ex": letter}).values()).encode()
    assert taq.decoder(QUOTES.encode(), VenueDirectory.load(own)).decode(row).publisher_id == 7001


@pytest.mark.parametrize("letter", ["E", "S", "", "k", "KK", "1", "é"])
def test_a_letter_of_no_exchange(letter):
    assert reason_of(quote, ex=letter) == reason_of(trade, ex=letter) == "exchange"


def test_off_exchange_trades_and_never_quotes():
    assert trade(ex="D") == BookUpdate("XXX", 9002, OPEN + 43 * MS, None, None, None, Event("T", "N", 158.3, 100))
    assert reason_of(quote, ex="D") == "left out: off_exchange"


def test_a_symbol_is_root_and_suffix():
    assert quote(sym_root="BRK", sym_suffix="B").symbol == "BRK.B"
    assert quote(sym_root=" XXX ", sym_suffix=" ").symbol == "XXX"
    assert reason_of(quote, sym_root="", sym_suffix="B") == "symbol"


# --- sizes and prices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "shares"), [("2018-01-02", 300), ("20251031", 300), ("2025-10-31", 300), ("2025-11-03", 3), ("20260105", 3)]
)
def test_sizes_of_quotes_are_round_lots_and_since_november_2025_shares(day, shares):
    assert quote(date=day).bids == [(158.0, shares)]
    assert trade(date=day).event == Event("T", "N", 158.3, 100)  # those of trades have been shares all along


@pytest.mark.parametrize(
    ("cells", "bids", "asks"),
    [
        ({"bid": "0", "bidsiz": "0"}, [None], [(158.5, 100)]),
        ({"ask": "0.0"}, [(158.0, 300)], [None]),
        ({"bid": "", "ask": ""}, [None], [None]),
        ({"bidsiz": "0"}, [None], [(158.5, 100)]),
        ({"asksiz": ""}, [(158.0, 300)], [None]),
        ({"bid": "158"}, [(158.0, 300)], [(158.5, 100)]),  # without a point dollars all the same
        ({"bid": "0.0001"}, [(0.0001, 300)], [(158.5, 100)]),
    ],
)
def test_what_a_side_shows(cells, bids, asks):
    update = quote(**cells)
    assert (update.bids, update.asks, update.doubts) == (bids, asks, 0)


@pytest.mark.parametrize(
    ("call", "cells", "reason"),
    [
        (quote, {"bid": "-1"}, "price"), (quote, {"ask": "inf"}, "price"), (quote, {"ask": "x"}, "number"),
        (quote, {"bidsiz": "1.5"}, "size"), (quote, {"bidsiz": "100000000000"}, "size"),
        (quote, {"asksiz": "x"}, "number"),
        (trade, {"price": "0"}, "trade"), (trade, {"price": ""}, "trade"), (trade, {"size": "0"}, "trade"),
        (trade, {"size": "-5"}, "trade"), (trade, {"price": "1e10"}, "price"), (trade, {"size": "x"}, "number"),
    ],
)  # fmt: skip
def test_no_price_and_no_size(call, cells, reason):
    assert reason_of(call, **cells) == reason


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["", " ", *"ABHORWY"])
def test_a_firm_quote(code):
    update = quote(qu_cond=code)
    assert (update.bids, update.asks, update.doubts) == ([(158.0, 300)], [(158.5, 100)], 0)


@pytest.mark.parametrize("code", "CDEFGIJKLMNPQSTUVXZ4")
def test_a_quote_that_is_not_firm_shows_nothing_and_is_counted(code):
    update = quote(qu_cond=code)
    assert (update.bids, update.asks) == ([None], [None])
    assert DOUBTS[update.doubts][0] == "NOT_FIRM"


def test_all_letters_are_known():
    assert {"", "4", *map(chr, range(65, 91))} == taq.FIRM.keys() | taq.WITHDRAWN.keys()
    assert not taq.FIRM.keys() & taq.WITHDRAWN.keys()
    assert not taq.TRADED & taq.LEFT_OUT.keys()


@pytest.mark.parametrize("code", ["r", "RR", "1", "?", "é"])
def test_no_such_quote_condition(code):
    assert reason_of(quote, qu_cond=code) == "condition"


def test_a_quote_that_was_cancelled_shows_nothing():
    assert quote(qu_cancel="B").bids == [None]
    assert quote(qu_cancel="").bids == quote(qu_cancel="A").bids == [(158.0, 300)]


@pytest.mark.parametrize("codes", ["", " ", "@", "E", "F", "I", "S", "T", "Y", "1", "8", "F I", "@F I", "FT", "@ TI"])
def test_a_trade_at_the_venue(codes):
    assert trade(tr_scond=codes).event == Event("T", "N", 158.3, 100)


SALES = {
    "A": "special", "B": "average_price", "C": "settlement", "D": "special", "G": "out_of_sequence",
    "H": "price_variation", "J": "block", "K": "block", "L": "late", "M": "official_price", "N": "settlement",
    "O": "auction", "P": "late", "Q": "official_price", "R": "settlement", "U": "out_of_sequence", "V": "contingent",
    "W": "average_price", "X": "cross", "Z": "out_of_sequence", "4": "derivative", "5": "auction", "6": "auction",
    "7": "contingent", "9": "official_price", "4 B": "derivative", "7 V": "contingent", "N  I": "settlement",
    "ZI": "out_of_sequence", "@O X": "auction", "F4I": "derivative",
}  # fmt: skip


@pytest.mark.parametrize("codes", SALES)
def test_a_sale_condition_that_leaves_a_trade_out(codes):
    assert reason_of(trade, tr_scond=codes) == f"left out: {SALES[codes]}"


@pytest.mark.parametrize("codes", ["2", "f", "F?", "F   I", "@@@@@"])
def test_no_such_sale_condition(codes):
    assert reason_of(trade, tr_scond=codes) == "condition"


@pytest.mark.parametrize("code", ["00", "0", "01", "1", " 00 "])
def test_a_trade_that_stands_as_it_is_or_corrected(code):
    assert trade(tr_corr=code).event is not None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("07", "error"), ("7", "error"), ("08", "cancelled"), ("10", "cancel_record"), ("11", "error_record"),
        ("12", "correction_record"),
    ],
)  # fmt: skip
def test_a_correction_that_leaves_a_trade_out(code, reason):
    assert reason_of(trade, tr_corr=code) == f"left out: {reason}"


@pytest.mark.parametrize("code", ["", "02", "13", "x", "000"])
def test_no_such_correction(code):
    assert reason_of(trade, tr_corr=code) == "correction"


# --- books -----------------------------------------------------------------------------------------------------------


def test_a_trade_is_checked_where_nobody_asks_for_it():
    assert trade(events=False).event is None
    with pytest.raises(DataError):
        trade(events=False, price="0")


def test_trades_leave_the_book_and_make_no_venue():
    books = Books(DIRECTORY)
    books.apply(quote())
    book = books.apply(trade(ex="D", time_m="09:30:07"))
    books.apply(trade(time_m="09:30:05"))
    assert [(one.venue_id, one.bids, one.asks) for one in book.quotes] == [("EDGX", [(158.0, 300)], [(158.5, 100)])]
    assert (book.time, book.quotes[0].time) == (OPEN + 7 * 10**9, OPEN + 42 * MS)


def test_a_quote_that_is_not_firm_takes_the_last_one_away_and_says_so():
    books = Books(DIRECTORY)
    books.apply(quote())
    book = books.apply(quote(qu_cond="N"))
    assert [(one.bids, one.asks) for one in book.quotes] == [([], [])]
    assert book.warnings() == ["EDGX: the feed says that this quote is not firm (NOT_FIRM)"]
    assert books.apply(quote()).warnings() == []


@pytest.mark.parametrize("update", [quote(), quote(bid="0"), trade(), trade(ex="D"), quote(ask="", bid="")])
def test_as_a_message_it_is_the_same(update):
    assert JsonDecoder(1, events=True).decode(message_from(update)) == update


# --- anything else ---------------------------------------------------------------------------------------------------


@given(row=st.sampled_from([QUOTE, TRADE]), data=st.data())
def test_a_mutated_cell_is_decoded_left_out_or_refused(row, data):
    name = data.draw(st.sampled_from(list(row)))
    near = st.text(st.sampled_from("0123456789.:-+eE ABDRZ@_/"), max_size=22)
    cell = data.draw(st.one_of(st.text(max_size=20), near, st.floats().map(str), st.integers().map(str)))
    decoder = taq.decoder(",".join(row).encode(), DIRECTORY, events=True)
    raw = ",".join((row | {name: cell}).values()).encode(errors="surrogatepass")
    update = outcome(decoder.decode, raw)
    if isinstance(update, BookUpdate):
        assert 0 < update.time < 2**63
        levels = [level for level in [*(update.bids or []), *(update.asks or [])] if level is not None]
        assert all(price > 0 and size > 0 for price, size in levels)
        assert (update.bids is None) == (update.event is not None) == (row is TRADE)


@given(header=st.binary(max_size=60), row=st.binary(max_size=80))
def test_bytes_of_any_kind(header, row):
    for start in (b"", QUOTES.encode() + b",", TRADES.encode() + b","):
        outcome(lambda head: taq.decoder(head, DIRECTORY).decode(row), start + header)


def test_what_is_left_out_is_skipped_and_no_dead_letter(tmp_path: Path, capfd):
    rows = [TRADE, TRADE | {"tr_corr": "08"}, TRADE | {"tr_scond": "Z"}, TRADE | {"price": "x"}]
    feed, letters, facts = (tmp_path / name for name in ("feed.csv", "letters", "facts"))
    feed.write_text("\n".join([TRADES, *(",".join(row.values()) for row in rows)]) + "\n")
    assert main(["replay", str(feed), "--dead-letter-file", str(letters), "--summary", str(facts)]) == 1
    summary = json.loads(facts.read_text())
    assert (summary["messages"], summary["results"]) == (4, 1)
    assert (summary["skipped"], summary["bad"]) == ({"cancelled": 1, "out_of_sequence": 1}, {"number": 1})
    assert len(letters.read_text().splitlines()) == 1
    assert "skipped 2 (cancelled 1, out_of_sequence 1)" in capfd.readouterr().err


# --- as columns ------------------------------------------------------------------------------------------------------


def columns(paths: Any, depth: int = 2) -> tuple[Feed, Batch]:
    feed = read_feed(paths, depth=depth)
    [batch] = feed
    return feed, batch


def write(path: Path, header: str, *rows: dict[str, str]) -> Path:
    path.write_text("\n".join([header, *(",".join(row.values()) for row in rows)]) + "\n")
    return path


def test_quotes_and_trades_are_one_feed_in_columns(tmp_path):
    """What trades leave out is skipped by reason; a quote that is not firm shows nothing, in a feed without flags."""
    quotes = write(tmp_path / "quotes.csv", QUOTES, QUOTE, QUOTE | {"qu_cond": "N", "time_m": "09:31:00"})
    left_out = [TRADE | {"tr_corr": "08"}, TRADE | {"tr_scond": "Z"}, TRADE | {"price": "x"}]
    trades = write(tmp_path / "trades.csv", TRADES, TRADE, *left_out, TRADE | {"ex": "D", "size": "7"})
    feed, batch = columns([quotes, trades])
    assert (feed.skipped, feed.bad) == ({"cancelled": 1, "out_of_sequence": 1}, {"number": 1})
    assert batch.publisher.tolist() == [EDGX, EDGX, 9002, EDGX]
    assert batch.quotes.tolist() == [True, False, False, True]
    assert batch.bid_size[:, 0].tolist() == [300, STANDS, STANDS, 0]
    assert batch.ask_price[:, 0].tolist() == [158_500_000_000, NO_PRICE, NO_PRICE, NO_PRICE]
    assert batch.price.tolist() == [NO_PRICE, 158_300_000_000, 158_300_000_000, NO_PRICE]
    assert (batch.size.tolist(), batch.flags.tolist()) == ([0, 100, 7, 0], [0] * 4)
    assert (batch.action.tolist(), batch.side.tolist()) == ([0, ord("T"), ord("T"), 0], [0, ord("N"), ord("N"), 0])


@pytest.mark.parametrize("depth", [1, 3])
def test_they_come_back_from_parquet(tmp_path, depth):
    trades = write(tmp_path / "trades.csv", TRADES, TRADE, TRADE | {"ex": "D"})
    _, batch = columns(trades)
    write_parquet([batch], tmp_path / "trades.parquet")
    feed, found = columns(tmp_path / "trades.parquet", depth)
    assert (feed.bad, feed.skipped) == ({}, {})
    assert found.quotes.tolist() == [False, False]
    for name in ("time", "publisher", "action", "price", "size"):
        assert getattr(found, name).tolist() == getattr(batch, name).tolist()


def test_the_sample_is_one_feed(shared):
    """Merged by time, which goes back in neither file; the rows are those of `sor replay`."""
    feed = read_feed([shared / SAMPLE.format("quotes"), shared / SAMPLE.format("trades")])
    rows = quotes = 0
    newest = 0
    for batch in feed:
        rows += len(batch)
        quotes += int(batch.quotes.sum())
        assert batch.time[0] >= newest
        assert (np.diff(batch.time) >= 0).all()
        newest = batch.time[-1]
    assert (rows, quotes) == (130_618 + 76_316, 130_618)
    assert (sum(feed.skipped.values()), feed.bad) == (496, {})
