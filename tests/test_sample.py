"""What the project's synthetic market data promises, computed from ``sample.csv`` with the csv module alone.

Nothing of ``sor`` or of the generator is imported here: neither may vouch for itself.
"""

import csv
import itertools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SAMPLE = Path(__file__).resolve().parents[1] / "sample.csv"
GENERATOR = Path(__file__).parents[1] / "tools" / "make_sample.py"
LEVELS = range(10)
SHARES = 5000

# Taker fees at the date of the sample, in 1/1000 cent a share; rates without volume tiers.
TAKER_FEES = {"2": 300, "9": 300, "43": 300, "5": 300, "8": 300, "15": 300, "16": 295, "6": -20}


def generate(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GENERATOR), "--output", str(output), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def cents(text: str) -> int:
    dollars, decimals = text.split(".")
    assert len(decimals) == 2
    return int(dollars) * 100 + int(decimals)


def levels(row: dict[str, str], side: str) -> list[tuple[int, int, int]]:
    """(price in cents, size, orders) of the levels that are there, best first."""
    cells = [[row[f"{side}_{what}_{depth:02d}"] for what in ("px", "sz", "ct")] for depth in LEVELS]
    return [(cents(price), int(size), int(count)) for price, size, count in cells if price]


def share(flags) -> float:
    flags = list(flags)
    return sum(flags) / len(flags)


@pytest.fixture(scope="module")
def rows():
    with SAMPLE.open(newline="", encoding="ascii") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def books(rows):
    """(publisher, its bids, its asks) of every row."""
    return [(row["publisher_id"], levels(row, "bid"), levels(row, "ask")) for row in rows]


@pytest.fixture(scope="module")
def markets(books):
    """After every row, the last (bids, asks) of every publisher seen so far."""
    known, after = {}, []
    for publisher, bids, asks in books:
        known[publisher] = (bids, asks)
        after.append(dict(known))
    return after


@pytest.fixture(scope="module")
def steps(rows, books):
    """(row, previous levels, levels) by publisher, levels being {side: {price: (size, orders)}}."""
    last, found = {}, []
    for row, (publisher, bids, asks) in zip(rows, books, strict=True):
        book = {"B": {p: rest for p, *rest in bids}, "A": {p: rest for p, *rest in asks}}
        if publisher in last:
            found.append((row, last[publisher], book))
        last[publisher] = book
    return found


# -- the file --------------------------------------------------------------------------------------


def test_the_committed_file_is_what_the_generator_writes(tmp_path):
    done = generate(tmp_path / "again.csv")
    assert (done.returncode, done.stderr) == (0, "")
    same = (tmp_path / "again.csv").read_bytes() == SAMPLE.read_bytes()
    assert same, "sample.csv is not make_sample.py's output: run `python tools/make_sample.py`"


def test_options_of_the_generator(tmp_path):
    done = generate(tmp_path / "other.csv", "--seed", "7", "--rows", "20", "--symbol", "MSFT")
    assert (done.returncode, done.stderr) == (0, "")
    other = (tmp_path / "other.csv").read_text(encoding="ascii").splitlines()
    assert len(other) == 21
    assert all(line.endswith(",MSFT") for line in other[1:])
    assert other[1].split(",")[13:] != SAMPLE.read_text(encoding="ascii").splitlines()[1].split(",")[13:]


@pytest.mark.parametrize(("option", "value"), [("--rows", "0"), ("--symbol", "A,B"), ("--symbol", "")])
def test_the_generator_refuses_what_would_not_be_a_sample(tmp_path, option, value):
    done = generate(tmp_path / "bad.csv", option, value)
    assert done.returncode == 2
    assert f"error: {option} " in done.stderr
    assert not (tmp_path / "bad.csv").exists()


def test_columns_are_databentos_in_its_order(rows):
    message = ["ts_recv", "ts_event", "rtype", "publisher_id", "instrument_id", "action", "side", "depth"]
    message += ["price", "size", "flags", "ts_in_delta", "sequence"]
    level = ("bid_px", "ask_px", "bid_sz", "ask_sz", "bid_ct", "ask_ct")
    levels = [f"{name}_{depth:02d}" for depth in LEVELS for name in level]
    assert list(rows[0]) == [*message, *levels, "symbol"]


def test_size(rows):
    assert 1900 <= len(rows) <= 2100
    assert SAMPLE.stat().st_size < 1_500_000


def test_one_symbol_on_at_least_six_exchanges(rows):
    assert {(row["symbol"], row["rtype"], row["instrument_id"]) for row in rows} == {("AAPL", "10", "38")}
    publishers = Counter(row["publisher_id"] for row in rows)
    assert len(publishers) >= 6
    assert set(publishers) == set(TAKER_FEES)
    assert min(publishers.values()) > 0.05 * len(rows)  # every one of them matters
    assert {row["publisher_id"] for row in rows[:30]} == set(publishers)


# -- time ------------------------------------------------------------------------------------------


def test_times_are_ordered(rows):
    # Texts of one width sort as the times do.
    spelling = re.compile(r"2024-08-01T13:3\d:\d\d\.\d{9}Z")
    assert all(spelling.fullmatch(row["ts_recv"]) and spelling.fullmatch(row["ts_event"]) for row in rows)
    received = [row["ts_recv"] for row in rows]
    assert received == sorted(received)
    assert all(row["ts_recv"] >= row["ts_event"] for row in rows)


def test_every_exchange_keeps_its_own_order(rows):
    for publisher in TAKER_FEES:
        own = [row for row in rows if row["publisher_id"] == publisher]
        assert all(a["ts_event"] <= b["ts_event"] for a, b in itertools.pairwise(own))
        assert all(int(a["sequence"]) < int(b["sequence"]) for a, b in itertools.pairwise(own))


def test_ts_in_delta_lies_within_the_way_of_the_message(rows):
    for row in rows:
        way = int(row["ts_recv"][-10:-1]) - int(row["ts_event"][-10:-1])
        assert 0 < int(row["ts_in_delta"]) <= way % 10**9


def test_arrivals_come_in_bursts(rows):
    times = [int(row["ts_recv"][17:19]) * 10**9 + int(row["ts_recv"][20:29]) for row in rows]
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    mean = sum(gaps) / len(gaps)
    assert gaps[len(gaps) // 2] < mean / 10  # of a Poisson process: about 0.7 of the mean


# -- the book of one exchange ----------------------------------------------------------------------


def test_levels_are_ordered_full_and_plausible(books):
    for _, bids, asks in books:
        bid_prices, ask_prices = [p for p, *_ in bids], [p for p, *_ in asks]
        assert all(a > b for a, b in itertools.pairwise(bid_prices))
        assert all(a < b for a, b in itertools.pairwise(ask_prices))
        assert all(1 <= count <= size for _, size, count in bids + asks)
        assert all(22000 < price < 22500 for price in bid_prices + ask_prices)


def test_missing_levels_are_at_the_end_and_empty(rows):
    for row in rows:
        for side in ("bid", "ask"):
            there = [row[f"{side}_px_{depth:02d}"] != "" for depth in LEVELS]
            assert there == sorted(there, reverse=True)
            gone = [depth for depth in LEVELS if not there[depth]]
            assert all(row[f"{side}_{what}_{depth:02d}"] == "0" for depth in gone for what in ("sz", "ct"))


def test_no_book_is_crossed_and_few_lack_a_side(books):
    assert all(bids[0][0] < asks[0][0] for _, bids, asks in books if bids and asks)
    assert 0 < share(not bids or not asks for _, bids, asks in books) < 0.02


def test_ten_levels_on_all_exchanges_but_the_thin_one(books):
    assert {publisher for publisher, bids, asks in books if len(bids) < 10 or len(asks) < 10} == {"6"}


def test_sizes_are_round_lots_odd_lots_and_a_few_blocks(rows):
    added = [int(row["size"]) for row in rows if row["action"] == "A"]
    assert 0.10 < share(size < 100 for size in added) < 0.30
    assert share(size % 100 == 0 for size in added) > 0.60
    assert 0 < share(size >= 1000 for size in added) < 0.10


def test_deeper_levels_are_larger(books):
    touch = [side[0][1] for _, *sides in books for side in sides if len(side) == 10]
    fifth = [side[4][1] for _, *sides in books for side in sides if len(side) == 10]
    assert sum(fifth) > 1.2 * sum(touch)


# -- messages explain the books --------------------------------------------------------------------


def test_only_adds_cancels_modifies_and_trades(rows):
    actions = Counter(row["action"] for row in rows)
    assert set(actions) == set("ACMT")
    assert min(actions.values()) > 0.02 * len(rows)
    assert {row["side"] for row in rows} == {"A", "B"}


def test_other_levels_stay_as_they_were(steps):
    """But for the last ones shown: they slip out of sight at an add and come into sight at a cancel."""
    for row, before, after in steps:
        for side in "AB":
            old, new = before[side], after[side]
            touched = {cents(row["price"])} if side == row["side"] and row["action"] != "T" else set()
            assert all(old[price] == new[price] for price in old.keys() & new.keys() - touched)
            lost, won = old.keys() - new.keys() - touched, new.keys() - old.keys() - touched
            assert len(lost) <= (row["action"] == "A")
            assert len(won) <= (row["action"] == "C")
            assert lost <= {list(old)[-1]} if old else not lost
            assert won <= {list(new)[-1]} if new else not won


def test_add_and_cancel_change_their_level_by_one_order(steps):
    for row, before, after in steps:
        if row["action"] not in "AC":
            continue
        price, sign = cents(row["price"]), 1 if row["action"] == "A" else -1
        old_size, old_count = before[row["side"]].get(price, (0, 0))
        new_size, new_count = after[row["side"]].get(price, (0, 0))
        assert (new_size - old_size, new_count - old_count) == (sign * int(row["size"]), sign)
        where = after if row["action"] == "A" else before  # a cancel may take the whole level away
        assert list(where[row["side"]]).index(price) == int(row["depth"])


def test_modify_keeps_the_number_of_orders(steps):
    for row, before, after in steps:
        if row["action"] == "M":
            price = cents(row["price"])
            old, new = before[row["side"]][price], after[row["side"]][price]
            assert list(after[row["side"]]).index(price) == int(row["depth"])
            assert old[1] == new[1]
            assert 0 < int(row["size"]) <= new[0] != old[0]


def test_trade_meets_the_touch_and_the_next_message_takes_the_shares_away(rows):
    for row, following in itertools.pairwise(rows):
        if row["action"] == "T":
            passive = "ask" if row["side"] == "B" else "bid"
            assert (row["price"], row["depth"], row["flags"]) == (row[f"{passive}_px_00"], "0", "0")
            assert int(row["size"]) <= int(row[f"{passive}_sz_00"])
            same = ("publisher_id", "ts_event", "ts_recv", "price", "size", "depth")
            assert [row[name] for name in same] == [following[name] for name in same]
            assert (following["action"], following["side"]) == ("C", passive[0].upper())
        else:
            assert row["flags"] == "128"  # the last message of its event


# -- the market of all exchanges -------------------------------------------------------------------


def touch_size(market, side: int) -> int:
    return sum(sides[side][0][1] for sides in market.values() if sides[side])


def test_half_of_the_rows_fill_the_order_at_the_touch(markets):
    for side in (0, 1):
        assert 0.40 < share(touch_size(market, side) >= SHARES for market in markets) < 0.60


def test_touch_fills_are_not_one_stretch_of_the_file(markets):
    filled = [touch_size(market, 1) >= SHARES for market in markets]
    assert sum(a != b for a, b in itertools.pairwise(filled)) > 30
    assert all(0.1 < share(filled[i : i + 400]) < 0.9 for i in range(0, 2000, 400))


def test_depth_fills_the_order_once_some_exchanges_are_known(markets):
    deep = [sum(size for _, asks in market.values() for _, size, _ in asks) >= SHARES for market in markets]
    assert 0.9 < share(deep) < 1
    assert not deep[0]


def test_market_is_seldom_locked_or_crossed(markets):
    def spread(market) -> int:
        best_bid = max(bids[0][0] for bids, _ in market.values() if bids)
        return min(asks[0][0] for _, asks in market.values() if asks) - best_bid

    spreads = [spread(market) for market in markets]
    assert 0 < share(ticks <= 0 for ticks in spreads) < 0.03
    assert share(ticks in (1, 2) for ticks in spreads) > 0.9


def asks_of(market) -> dict[str, int]:
    return {publisher: asks[0][0] for publisher, (_, asks) in market.items() if asks}


def test_no_exchange_is_the_cheapest_all_the_time(markets):
    """Price and taker fee together; exchanges that tie all count, which is the strict reading."""
    cheapest = Counter()
    for market in markets:
        costs = {venue: price * 1000 + TAKER_FEES[venue] for venue, price in asks_of(market).items()}
        cheapest.update(venue for venue, cost in costs.items() if cost == min(costs.values()))
    assert max(cheapest.values()) < 0.40 * len(markets)
    assert min(cheapest[publisher] for publisher in TAKER_FEES) > 0.05 * len(markets)


def test_prices_often_tie_where_fees_differ(markets):
    def fees_at_the_best(market) -> set[int]:
        asks = asks_of(market)
        return {TAKER_FEES[publisher] for publisher, price in asks.items() if price == min(asks.values())}

    assert share(len(fees_at_the_best(market)) > 1 for market in markets) > 0.3


def test_the_best_price_is_often_on_some_exchanges_only(markets):
    def at_the_best(market) -> float:
        asks = asks_of(market)
        return share(price == min(asks.values()) for price in asks.values())

    assert share(at_the_best(market) < 1 for market in markets) > 0.5


def test_the_price_moves_by_several_ticks(markets):
    assert len({min(asks_of(market).values()) for market in markets}) >= 8
