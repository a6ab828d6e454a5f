"""Fees below a dollar: parts of the price, never figures of dearer stocks; unknown ones are the cap, and said."""

from __future__ import annotations

import copy
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sor import Order, Outflows, Router
from sor.cli import main
from sor.market import BookUpdate
from sor.market.book import Book, Books
from sor.market.policy import Policy
from sor.market.venues import VenueDirectory

HEADER = "ts_event,publisher_id,symbol,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00"
DATE = "2024-08-01T13:36:00.00000000"
NOW = 1_722_519_360_000_000_000  # the same
XNAS, XNYS, IEXG, XBOS, UNLISTED = 2, 9, 38, 3, 60_000
OWN = """
schema_version = 1

[[venue]]
mic = "XNAS"
name = "Nasdaq"
model = "ours"
publisher_ids = [2]

[[venue.figures]]
valid_from = 2024-01-01
taker_fee = 0.002
maker_rebate = 0.001
taker_fee_verified = true
maker_rebate_verified = true
source = "our contract"

[venue.figures.sub_dollar]
taker_fee = 0.002
maker_rebate = 0.0005
taker_fee_verified = true
maker_rebate_verified = true
source = "our contract"
"""


@pytest.fixture
def directory(tmp_path: Path) -> VenueDirectory:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return VenueDirectory.load(path)


POLICY = """
schema_version = 1

[[access_cap]]
dollars = 0.003
part = 0.003
sure = true
verified = true
source = "ours"

[[access_cap]]
valid_from = 2024-08-02
dollars = 0.001
part = 0.001
sure = true
verified = true
source = "ours"
"""
NEXT_DAY = NOW + 86_400 * 10**9


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return Policy.load(path)


def in_bps(tmp_path: Path, from_price: str) -> VenueDirectory:
    """XNAS with a fee and a rebate in basis points beside the dollars."""
    path = tmp_path / "bps.toml"
    own, _, below = OWN.partition("[venue.figures.sub_dollar]")
    more = f"from_price = {from_price}\nfee_bps = 2.0\nrebate_bps = 0.5\n"
    path.write_text(own + more + (f"[venue.figures.sub_dollar]{below}" if from_price == "1" else ""))
    return VenueDirectory.load(path)


def book_of(directory: VenueDirectory, depth: int = 1, **levels: tuple[list[Any], list[Any]]) -> Book:
    """A book of publishers, by ``p2=(bids, asks)``."""
    books = Books(directory, depth=depth)
    for name, (bids, asks) in levels.items():
        books.apply(BookUpdate("PENY", int(name[1:]), NOW, None, bids, asks))
    return books.by_symbol["PENY"]


def routed(book: Book, side: str = "buy", quantity: int = 100, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(
        Router(**options).route(Order("PENY", side, quantity), book).to_json()  # type: ignore[arg-type]
    )
    return result


def fees(result: dict[str, Any]) -> dict[str, tuple[float, float, str]]:
    return {venue["venue_id"]: (venue["fee"], venue["rebate"], venue["status"]) for venue in result["venues"]}


def test_a_flat_fee_does_not_turn_the_order_of_venues_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XNAS asks 0.1001 and IEXG 0.1015: $0.003 a share and $0.001 would make the dearer one the cheaper."""
    feed = tmp_path / "feed.csv"
    rows = [f"{DATE}1,{XNAS},PENY,0.1000,0.1001,5000,5000", f"{DATE}2,{IEXG},PENY,0.1000,0.1015,5000,5000"]
    feed.write_text("\n".join([HEADER, *rows]) + "\n")
    assert main(["replay", str(feed), "--order-size", "5000"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {order["venue_id"]: order["quantity"] for order in last["child_orders"]} == {"XNAS": 5000}
    assert fees(last)["XNAS"] == (0.0003003, 0.0, "ok")
    assert last["total_cost"] == round(float(5000 * Fraction("0.1001") * Fraction("1.003")), 8)


def test_a_policy_of_ones_own_is_asked(policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed = tmp_path / "feed.csv"
    rows = [f"2024-08-0{day}T13:36:00Z,{XNYS},PENY,0.49,0.50,5000,5000" for day in (1, 2)]
    feed.write_text("\n".join([HEADER, *rows]) + "\n")
    told = ("replay", str(feed), "--venues-from", "publishers", "--policy", str(tmp_path / "policy.toml"))
    assert main([*told]) == 0
    found = [fees(json.loads(line))["XNYS"] for line in capsys.readouterr().out.splitlines()]
    assert found == [(0.0015, 0.0, "unknown_fee"), (0.0005, 0.0, "unknown_fee")]


@pytest.mark.parametrize(
    ("ask", "fee"), [(0.9999, 0.9999 * 0.002), (1.0, 0.002), (1.0001, 0.002), (0.0001, 0.0000002), (250.0, 0.002)]
)
def test_dollars_from_one_dollar_on_and_parts_below(directory: VenueDirectory, ask: float, fee: float) -> None:
    found = fees(routed(book_of(directory, p2=([], [(ask, 500)]))))
    assert found["XNAS"][0] == pytest.approx(fee, rel=1e-12)
    assert found["XNAS"][2] == "ok"


@pytest.mark.parametrize("publisher", [XNYS, UNLISTED])
def test_an_unknown_fee_is_the_cap_and_said(directory: VenueDirectory, publisher: int) -> None:
    result = routed(book_of(directory, **{f"p{publisher}": ([(0.49, 100)], [(0.5, 500)])}))
    ((fee, rebate, status),) = fees(result).values()
    assert (fee, rebate, status) == (0.0015, 0.0, "unknown_fee")
    assert result["allocation"] == [100]
    dearer = routed(book_of(directory, **{f"p{publisher}": ([(49.0, 100)], [(50.0, 500)])}))
    assert [row[2] for row in fees(dearer).values()] == ["ok" if publisher == XNYS else "unknown_fee"]


def test_an_inverted_venue_pays_nobody_below_a_dollar(directory: VenueDirectory) -> None:
    """At $1 and more XBOS pays the taker; below, it charges as the others do."""
    assert fees(routed(book_of(directory, p3=([], [(1.5, 100)]))))["XBOS"][0] == -0.0005
    assert fees(routed(book_of(directory, p3=([], [(0.5, 100)]))))["XBOS"][0] == 0.0015


def test_each_level_has_the_fee_of_its_own_price(directory: VenueDirectory) -> None:
    """One venue on both sides of a dollar: what is paid is what the two rates make of the two levels."""
    book = book_of(directory, depth=10, p2=([], [(0.99, 100), (1.01, 100)]))
    result = routed(book, quantity=200, algorithm="greedy_l2")
    exact = 100 * (Fraction("0.99") * Fraction("1.002") + Fraction("1.01") + Fraction("0.002"))
    assert result["total_cost"] == pytest.approx(float(exact), rel=1e-12)
    assert result["execution_summary"]["cash_spent"] == result["total_cost"]
    assert fees(result)["XNAS"][0] == 0.00198  # of the best price


def test_a_buy_and_a_sale_pay_for_their_own_price(directory: VenueDirectory) -> None:
    """The same quote, asked of both sides in turn: nothing said of the one is told of the other."""
    book = book_of(directory, p2=([(0.99, 100)], [(1.01, 100)]))
    for _ in range(2):
        assert fees(routed(book, "buy"))["XNAS"] == (0.002, 0.001, "ok")
        assert fees(routed(book, "sell"))["XNAS"] == (0.00198, 0.000495, "ok")
    sold = routed(book, "sell")
    assert sold["total_cost"] == pytest.approx(-100 * 0.99 * 0.998, rel=1e-12)


def test_a_rebate_below_a_dollar_is_a_part_of_the_price(directory: VenueDirectory) -> None:
    """The formula rests what is not displayed, and subtracts its rebate."""
    book = book_of(directory, p2=([(0.49, 100)], [(0.5, 100)]))
    result = routed(book, quantity=300, objective="notional")
    assert result["allocation"] == [300]
    assert result["execution_summary"]["cash_spent"] == pytest.approx(100 * 0.501 - 200 * 0.00025, rel=1e-12)


def test_limit_orders_rest_for_the_rebate_of_their_own_price(directory: VenueDirectory) -> None:
    """`cont_kukanov`: a buy's limit orders rest at the bid below a dollar, its market order takes the ask above."""
    books = Books(directory, depth=10, new_outflows=lambda: Outflows(2 * 10**9, 50))
    for i in range(20):
        size = 900 - 40 * (i % 3)
        books.apply(BookUpdate("PENY", 2, NOW + i * 10**9, None, [(0.99, size)], [(1.01, 400)]))
    result = routed(books.by_symbol["PENY"], quantity=500, algorithm="cont_kukanov", min_windows=5)
    summary = result["placement"]
    market, limit = summary["market"], summary["limit"]
    assert summary is not None
    filled = summary["expected_executed"] - market
    spread_and_fees = market * (0.01 + 0.002) - filled * (0.01 + 0.0005 * 0.99)
    penalties = 0.002 * (market + limit + summary["expected_underfill"]) + 0.005 * summary["expected_underfill"]
    assert summary["expected_cost"] == pytest.approx(spread_and_fees + penalties, abs=1e-7)


def test_levels_as_venues_below_a_dollar_have_unknown_fees(directory: VenueDirectory) -> None:
    books = Books(directory, "levels")
    books.apply(BookUpdate("PENY", 2, NOW, None, [(0.49, 100), (0.48, 100)], [(0.5, 100), (2.0, 100)]))
    assert fees(routed(books.by_symbol["PENY"])) == {
        "venue_0": (0.0015, 0.0, "unknown_fee"),
        "venue_1": (0.002, 0.0015, "ok"),
    }


def test_a_fee_that_a_caller_states_holds_at_any_price() -> None:
    book = Book("PENY")
    book.quote("A", asks=[(0.5, 100)], fee=0.001, rebate=0.0005)
    assert fees(routed(book))["A"] == (0.001, 0.0005, "ok")


def test_an_unknown_fee_is_the_cap_of_the_day(policy: Policy) -> None:
    books = Books(VenueDirectory.load(policy=policy))
    for time, cap in ((NOW, 0.003), (NEXT_DAY, 0.001), (NOW, 0.003)):
        books.apply(BookUpdate("PENY", XNYS, time, None, [(0.49, 100)], [(0.5, 500)]))
        assert fees(routed(books.by_symbol["PENY"]))["XNYS"] == (0.5 * cap, 0.0, "unknown_fee")


def test_levels_as_venues_have_the_cap_of_the_day(policy: Policy) -> None:
    books = Books(VenueDirectory.load(policy=policy), "levels")
    for time, cap in ((NOW, 0.003), (NEXT_DAY, 0.001)):
        books.apply(BookUpdate("PENY", 2, time, None, [(0.49, 100)], [(0.5, 100)]))
        assert fees(routed(books.by_symbol["PENY"]))["venue_0"] == (0.5 * cap, 0.0, "unknown_fee")


def test_basis_points_are_of_each_levels_own_price(tmp_path: Path) -> None:
    """From $1 up they come beside the dollars; below, the parts of the price hold alone."""
    below = book_of(in_bps(tmp_path, "1"), p2=([], [(0.5, 100)]))
    assert fees(routed(below))["XNAS"] == (0.001, 0.00025, "ok")
    book = book_of(in_bps(tmp_path, "1"), depth=10, p2=([(9.0, 100)], [(10.0, 100), (40.0, 100)]))
    result = routed(book, quantity=200, algorithm="greedy_l2")
    exact = 100 * (Fraction("10.004") + Fraction("40.01"))
    assert result["total_cost"] == pytest.approx(float(exact), rel=1e-12)
    for _ in range(2):  # nothing said of a buy is told of a sale
        assert fees(routed(book, "buy"))["XNAS"] == (0.004, 0.0015, "ok")
        assert fees(routed(book, "sell"))["XNAS"] == (0.0038, 0.00145, "ok")


def test_basis_points_turn_the_order_of_venues_round(tmp_path: Path) -> None:
    book = book_of(in_bps(tmp_path, "1"), p2=([], [(500.0, 100)]), p9=([], [(500.05, 100)]))
    assert {order["venue_id"] for order in routed(book)["child_orders"]} == {"XNYS"}


def test_a_figure_for_all_prices_holds_below_a_dollar(tmp_path: Path) -> None:
    book = book_of(in_bps(tmp_path, "0"), p2=([], [(0.5, 500)]))
    assert fees(routed(book))["XNAS"] == (0.0021, 0.001025, "ok")


def test_a_book_with_basis_points_is_copied(tmp_path: Path) -> None:
    book = book_of(in_bps(tmp_path, "1"), p2=([], [(10.0, 500)]))
    assert routed(copy.deepcopy(book)) == routed(book)


def test_a_venues_rules_come_with_its_rates(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    told = 'verified = true\nsource = "ours"\n'
    path.write_text(
        f"{OWN}\n[[venue.rules]]\nvalid_from = 2024-01-01\nlot = 100\n{told}"
        f'[[venue.rules]]\nvalid_from = 2024-08-02\nlot = "round"\nticket = 0.5\n{told}'
    )
    books = Books(VenueDirectory.load(path))
    day = NOW - NOW % (86_400 * 10**9) + 86_400 * 10**9
    for time, lot, ticket in ((NOW, 100, 0.0), (day - 1, 100, 0.0), (day, "round", 0.5), (NOW, 100, 0.0)):
        found = books.venue(XNAS, time)
        assert (found.rules.lot, found.rules.ticket) == (lot, ticket)
        assert found.start <= time < found.end
    assert books.venue(XNYS, NOW).rules.lot == 1
