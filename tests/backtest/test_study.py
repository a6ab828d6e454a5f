"""What is measured adds up, what has a known answer has that answer, and what cannot be said is not said."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapes import ARCX, IEXG, OPENS, SECOND, XNAS, quote, tape, trade

import sor
from sor.backtest import Orders, ParentOrder, Rules, Session, Study, days, files, work
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.errors import InputError
from sor.execution.strategies import strategy
from sor.market.feed import Feed
from sor.market.venues import VenueDirectory

ROOT = Path(__file__).resolve().parents[2]
TAKING = ("brute_force", "greedy_l2", "price_fee", "nbbo", "best_venue", "pro_rata", "equal")
FAST = {"horizon": 60 * SECOND, "latency": {"*": (0,)}}


def steady(venues: tuple[int, ...] = (XNAS, IEXG), seconds: int = 3600, size: int = 10_000) -> sor.Batch:
    """A market in which nothing moves and there is always more than enough."""
    rows = [
        quote(t + i / 10, venue, (99.99, size), (100.01, size))
        for t in range(seconds)
        for i, venue in enumerate(venues)
    ]
    return tape(rows)


def study_of(feed: Any, routings: tuple[str, ...] = TAKING, **more: Any) -> Study:
    rules = Rules(**(FAST | more.pop("rules", {})))
    orders = more.pop("orders", Orders(sizes=(500,), sides=("buy", "sell"), number=20))
    schedules = more.pop("schedules", ("immediate",))
    return sor.backtest(feed, orders, [(one, other) for one in schedules for other in routings], rules=rules, **more)


@pytest.fixture(scope="module")
def synthetic() -> list[sor.Batch]:
    return list(SyntheticMarket(Scenario(seed=3, duration=3600)).batches())


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_one_venue_saves_exactly_nothing() -> None:
    one_venue = list(SyntheticMarket(Scenario(seed=5, duration=3600, venues=("XNAS",))).batches())
    study = study_of(one_venue, ("brute_force", "nbbo", "best_venue", "pro_rata", "equal", "single:XNAS"))
    costs = {name: study.parents["shortfall"][study.parents["routing"] == name] for _, name in study.strategies}
    for name, found in costs.items():
        assert (found == costs["nbbo"]).all(), name
    assert "nothing to route between" in study.table()


def test_two_venues_that_differ_by_a_fee_save_exactly_that() -> None:
    directory = VenueDirectory.load()
    fees = {mic: directory.by_mic(mic).figure_at(OPENS).taker_fee for mic in ("XNAS", "IEXG")}  # type: ignore[union-attr]
    assert fees["XNAS"] != fees["IEXG"]
    study = study_of(steady(), ("brute_force", "nbbo", "single:XNAS", "single:IEXG"))
    columns = study.parents
    cheapest = min(fees.values())
    for name, fee in (("brute_force", cheapest), *((f"single:{mic}", fee) for mic, fee in fees.items())):
        mine = columns["routing"] == name
        assert columns["fees_cost"][mine] == pytest.approx(500 * fee, abs=1e-9)
    for _, name in study.strategies:
        mine = columns["routing"] == name
        assert (columns["timing_cost"][mine] == 0.0).all()
        assert (columns["waiting_cost"][mine] == 0.0).all()
        assert columns["spread_cost"][mine] == pytest.approx(500 * 0.01, abs=1e-9)
    single, best = (columns["shortfall"][columns["routing"] == name] for name in ("single:XNAS", "brute_force"))
    assert single - best == pytest.approx(500 * (fees["XNAS"] - cheapest), abs=1e-9)


def test_where_nothing_moves_timing_costs_nothing_on_any_schedule() -> None:
    study = study_of(steady(), ("brute_force",), schedules=("immediate", "twap:7"))
    assert (study.parents["timing_cost"] == 0.0).all()
    assert (study.parents["filled"] == 500).all()


def test_latency_costs_what_the_price_moves_meanwhile() -> None:
    """The price moves up by a cent a second: an order that arrives later pays that."""
    rows = [quote(t, XNAS, (100 + t / 100 - 0.01, 900), (100 + t / 100 + 0.01, 900)) for t in range(1000)]
    orders = [
        ParentOrder(symbol="T", side=side, quantity=100, arrival=OPENS + 500 * SECOND) for side in ("buy", "sell")
    ]
    costs = {}
    for latency in (0, 3 * SECOND):
        study = study_of(tape(rows), ("brute_force",), orders=orders, rules={"latency": {"*": (latency,)}})
        costs[latency] = dict(zip(study.parents["side"].tolist(), study.parents["shortfall"].tolist(), strict=False))
    # The price decided on is gone when a buy arrives, and so it tries again; a sale gets the better price.
    assert costs[0][0] == pytest.approx(100 * 0.01 + 100 * 0.003, abs=1e-9)
    assert costs[3 * SECOND][1] == pytest.approx(100 * 0.01 - 100 * 0.03 + 100 * 0.003, abs=1e-9)
    assert costs[3 * SECOND][0] > costs[0][0] + 100 * 0.3  # it runs after the price until the end rule


# --- parts add up -----------------------------------------------------------------------------------------------------

prices = st.integers(9_990, 10_010).map(lambda cents: cents / 100)
levels = st.tuples(prices, st.integers(0, 800))


@st.composite
def markets(draw: st.DrawFn) -> sor.Batch:
    """Two venues in any state, and prints."""
    rows = []
    for second in range(0, 240, draw(st.integers(2, 9))):
        venue = draw(st.sampled_from([XNAS, IEXG, ARCX]))
        if draw(st.integers(0, 3)) == 0:
            rows.append(trade(second, venue, draw(prices), draw(st.integers(1, 500)), draw(st.sampled_from("NAB"))))
        else:
            rows.append(quote(second, venue, draw(st.none() | levels), draw(st.none() | levels)))
    rows.append(quote(241, XNAS, (99.9, 1), (100.2, 1)))
    return tape([quote(0, XNAS, (99.95, 100), (100.05, 100)), *rows])


class Overbooked:
    """Rests more than it is asked for, at every venue that shows something, and takes a little."""

    def split(self, market: Any, shares: int) -> list[Any]:
        found = [market.rest(venue, shares, price, seconds=20) for venue, (price, _) in market.queues.items()]
        return found + [market.take(one.venue, min(one.size, 1 + shares // 3), one.price) for one in market.offers[:1]]


@pytest.mark.parametrize("complete", [True, False])
@given(market=markets(), size=st.integers(1, 2000), latency=st.sampled_from([0, 10**6, 7 * 10**9]))
def test_parts_add_up_to_what_was_paid(market: sor.Batch, complete: bool, size: int, latency: int) -> None:
    orders = [
        ParentOrder(symbol="T", side=side, quantity=size, arrival=OPENS + 5 * SECOND, end=OPENS + 100 * SECOND)
        for side in ("buy", "sell")
    ]
    rules = {"complete": complete, "latency": {"*": (latency,)}, "grace": 30 * SECOND}
    ways = [("immediate", Overbooked()), ("twap:4", Overbooked()), ("twap:3", "brute_force"), ("pov:0.5", "greedy_l2")]
    if not (market.action == ord("T")).any():
        ways = ways[:3]
    study = sor.backtest(market, orders, ways, rules=Rules(**(FAST | rules)))
    columns = study.parents
    for i in range(len(columns["order"])):
        row = {name: values[i].item() for name, values in columns.items()}
        parts = [row[f"{name}_cost"] for name in ("timing", "waiting", "spread", "fees", "end")]
        assert sum(map(Fraction, parts)) == pytest.approx(row["shortfall"], abs=1e-9)
        assert row["filled"] + row["left"] - row["overfill"] == row["size"]
        mine = np.flatnonzero(_mine(study, row))
        fills = {name: values[mine] for name, values in study.fills.items()}
        assert fills["shares"].sum() == row["filled"]
        sign = -1 if row["side"] else 1
        paid = sum(
            Fraction(n) * Fraction(p) for n, p in zip(fills["shares"].tolist(), fills["price"].tolist(), strict=True)
        )
        moved = sign * (paid - Fraction(row["filled"]) * Fraction(row["mid"])) + sum(
            map(Fraction, fills["fee"].tolist())
        )
        assert float(moved) == pytest.approx(row["shortfall"] - row["end_cost"], abs=1e-6)


def _mine(study: Study, row: dict[str, Any]) -> Any:
    fills = study.fills
    if not len(fills["order"]):
        return np.zeros(0, bool)
    keys = ("order", "schedule", "routing", "queue")
    return np.logical_and.reduce([fills[key] == row[key] for key in keys])


def test_overfill_is_sold_back_and_told(synthetic: list[sor.Batch]) -> None:
    study = study_of(synthetic, (Overbooked(), "nbbo"), rules={"latency": {"*": (SECOND,)}})  # type: ignore[arg-type]
    mine = study.parents["routing"] == "Overbooked"
    assert study.parents["overfill"][mine].sum() > 0
    assert (study.parents["end_cost"][mine & (study.parents["overfill"] > 0)] != 0).all()
    assert (study.parents["overfill"][~mine] == 0).all()


# --- the same whatever works on it ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from sor.market.parquet import ParquetFile

    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("days")
    paths = []
    for date, seed in (("2024-08-01", 1), ("2024-08-02", 2)):
        path = folder / f"{date}.parquet"
        with ParquetFile(path) as file:
            for batch in SyntheticMarket(Scenario(seed=seed, date=date, duration=3600)).batches():
                file.add(batch)
        paths.append(path)
    return paths


WAYS = [("immediate", "brute_force"), ("immediate", "cont_kukanov"), ("twap:5", "greedy_l2")]


@pytest.mark.parametrize("together", [False, True])
def test_the_same_bytes_by_any_number_of_processes(two_days: list[Path], tmp_path: Path, together: bool) -> None:
    found = []
    for jobs in (1, 2, 3):
        rules = Rules(horizon=60 * SECOND, together=together, min_windows=20, placement=10 * SECOND)
        study = sor.backtest(sor.read_feed(two_days, depth=5), Orders(number=10), WAYS, rules=rules, jobs=jobs)
        fills, parents = tmp_path / f"{jobs}.csv", tmp_path / f"{jobs}.parents.csv"
        files.write(study, str(fills), str(parents))
        found.append((fills.read_bytes(), parents.read_bytes(), json.dumps(study.as_dict())))
    assert found[0] == found[1] == found[2]


def test_orders_do_not_depend_on_their_neighbours(synthetic: list[sor.Batch]) -> None:
    """Rules 8 and 11, and that a study of fewer strategies has the same rows."""
    rules = {"min_windows": 20, "placement": 10 * SECOND}
    study = study_of(synthetic, ("brute_force", "cont_kukanov"), orders=Orders(number=12), rules=rules)
    arrivals = sorted(set(study.parents["arrival"].tolist()))
    alone = [ParentOrder(symbol="SIM", side="buy", quantity=1000, arrival=arrivals[5])]
    one = study_of(synthetic, ("cont_kukanov",), orders=alone, rules=rules)
    for queue in range(3):
        costs = [
            it.parents["shortfall"][
                (it.parents["arrival"] == arrivals[5])
                & (it.parents["routing"] == "cont_kukanov")
                & (it.parents["queue"] == queue)
            ].tolist()
            for it in (study, one)
        ]
        assert costs[0] == costs[1]


def test_orders_that_are_together_use_up_what_they_take() -> None:
    rows = [quote(t, XNAS, (99.99, 500), (100.01, 500)) for t in range(600)]
    orders = [ParentOrder(symbol="T", side="buy", quantity=400, arrival=OPENS + 100 * SECOND)] * 2
    rules = {"complete": False}
    alone = study_of(tape(rows), ("brute_force",), orders=orders, rules=rules)
    assert alone.parents["filled"][:1].tolist() == [400]
    assert alone.parents["filled"].sum() == 4 * 400  # with the baseline's
    together = study_of(tape(rows), ("brute_force",), orders=orders, rules=rules | {"together": True})
    assert sorted(together.parents["filled"][together.parents["routing"] == "brute_force"].tolist()) == [100, 400]


# --- what is compared -------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_synthetic_market_is_found() -> None:
    market = SyntheticMarket(Scenario(seed=1))
    study = study_of(
        list(market.batches()),
        ("brute_force", "greedy_l2", "nbbo"),
        orders=Orders(sizes=(1000,), sides=("buy", "sell"), number=100),
        rules={"horizon": 300 * SECOND},
    )
    compared = {names[1]: one for names, _, one in study.compare()}
    (truth,) = market.truth.savings((1000,))
    saved = truth["nbbo_bps"] - truth["best_bps"]
    greedy = compared["greedy_l2"]
    assert greedy.low is not None
    assert greedy.high is not None
    assert greedy.low - 0.05 < -saved < greedy.high + 0.05
    assert compared["brute_force"].high is not None
    assert compared["brute_force"].high < 0.0
    assert "brute_force was" in study.table()
    assert "bps cheaper than nbbo" in study.table()


def test_the_baseline_is_always_there_and_schedules_are_no_routing(synthetic: list[sor.Batch]) -> None:
    study = study_of(synthetic, ("brute_force",), schedules=("immediate", "twap:5"))
    assert ("immediate", "nbbo") in study.strategies
    assert ("twap:5", "nbbo") in study.strategies
    assert [names for names, _, _ in study.compare()] == [
        ("immediate", "brute_force"),
        ("twap:5", "brute_force"),
        ("twap:5", "nbbo"),
    ]
    assert "which is no routing" in study.table()
    with pytest.raises(InputError, match="baseline is 'equal': it must be a routing of the study, brute_force, nbbo"):
        study.compare("equal")


def test_two_strategies_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="strategies has two named immediate x Overbooked: give one a name"):
        study_of(steady(), (Overbooked(), Overbooked()))  # type: ignore[arg-type]
    one = Overbooked()
    assert len(study_of(steady(), (one, one, "nbbo", "nbbo")).strategies) == 2  # type: ignore[arg-type]


def test_the_fields_of_the_answer() -> None:
    found = study_of(steady(), ("brute_force",)).as_dict()
    assert list(found)[:8] == [
        "schema_version", "command", "settings", "versions", "seed", "data", "orders", "strategies",
    ]  # fmt: skip
    assert {"rows", "symbols", "venues", "trades", "gaps", "files"} <= set(found["data"])
    row = found["strategies"][0]
    assert {f"{name}_bps" for name in ("shortfall", "timing", "waiting", "spread", "fees", "end")} <= set(row)
    assert {"difference_bps", "low", "high", "blocks", "better", "p_value", "p_adjusted"} <= set(
        found["comparisons"][0]
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_a_symbol_that_is_not_there() -> None:
    feed = sor.read_feed(ROOT / "sample.csv", symbols="NONE")
    with pytest.raises(InputError, match="the feed has no row that was asked for: left out symbol"):
        study_of(feed)


def test_an_empty_window() -> None:
    feed = sor.read_feed(ROOT / "sample.csv", end="2020-01-01T00:00:00Z")
    with pytest.raises(InputError, match="no row that was asked for: left out time"):
        study_of(feed)


def test_a_window_that_is_too_short_for_an_order() -> None:
    with pytest.raises(InputError, match=r"no order can arrive: on 2024-08-01 rows are from .* needs 60 s"):
        study_of(steady(seconds=30))


def test_an_order_larger_than_all_volume_is_marked() -> None:
    study = study_of(steady(size=300), orders=Orders(sizes=(10**6,), number=3), rules={"grace": SECOND})
    assert (study.parents["left"] > 0).all()
    assert (study.parents["end_cost"] > 0).all()


def test_orders_that_were_most_of_the_market_are_no_evidence() -> None:
    rows = [
        row for t in range(300) for row in (quote(t, XNAS, (99.9, 100 + t), (100.1, 100 + t)), trade(t, XNAS, 100, 1))
    ]
    orders = Orders(sizes=(5000,), number=3)
    study = study_of(tape(rows), ("nbbo",), orders=orders, rules={"horizon": 100 * SECOND})
    assert (study.parents["participation"] > 1.0).all()
    assert "That is more than 10%: a real market would have reacted" in study.table()
    study = study_of(tape(rows), ("nbbo",), orders=Orders(sizes=(1,), number=3), rules={"horizon": 100 * SECOND})
    assert (study.parents["participation"] < 0.1).all()
    assert "a real market would have reacted" not in study.table()


def test_a_venue_that_does_not_quote() -> None:
    with pytest.raises(
        InputError, match=r"routing is 'single:XNSA': 'XNSA' does not quote in this feed, .* XNAS, IEXG"
    ):
        study_of(steady(), ("single:XNSA",))
    with pytest.raises(InputError, match=r"venue id 'XNSA' is not known .did you mean XNYS or XNAS"):
        study_of(steady(), ("nbbo",), rules={"latency": {"*": (0,), "XNSA": (1,)}})
    study_of(steady(), ("nbbo",), rules={"latency": {"*": (0,), "XNYS": (1,)}})  # one that is not in every feed


def test_a_day_without_trades() -> None:
    study = study_of(steady(), ("brute_force",))
    assert "The feed has no trades: participation is not known." in study.table()
    assert study.rows()[0]["participation"] is None
    with pytest.raises(InputError, match="schedule pov follows the volume of trades, and the feed has none"):
        study_of(steady(), ("brute_force",), schedules=("pov:0.1",))


def test_vwap_needs_a_day_before(two_days: list[Path]) -> None:
    rules = Rules(horizon=60 * SECOND)
    with pytest.raises(InputError, match="vwap goes by the volume of earlier days"):
        sor.backtest(sor.read_feed(two_days[:1]), Orders(number=3), [("vwap", "brute_force")], rules=rules)
    study = sor.backtest(sor.read_feed(two_days), Orders(number=3), [("vwap", "brute_force")], rules=rules)
    assert {days.date.fromordinal(day).isoformat() for day in study.parents["day"].tolist()} == {"2024-08-02"}
    assert "no orders on 2024-08-01: vwap knows no earlier day there" in study.table()


def test_a_clock_that_goes_back_is_told() -> None:
    rows = [quote(t - (50 if t % 100 == 0 else 0), XNAS, (99.9, 900), (100.1, 900)) for t in range(60, 900)]
    study = study_of(tape(rows), ("brute_force",))
    assert "Time goes back in 8 rows" in study.table()


def test_a_gap_marks_the_orders_that_live_in_it() -> None:
    rows = [quote(t, XNAS, (99.9, 900), (100.1, 900)) for t in (*range(100), *range(500, 700))]
    orders = [ParentOrder(symbol="T", side="buy", quantity=5000, arrival=OPENS + at * SECOND) for at in (90, 550, 630)]
    study = study_of(tape(rows), ("nbbo",), orders=orders)
    assert study.parents["gap"].tolist() == [True, False, True]
    assert "2 gaps of more than 5 minutes without a row of the session; 2 orders live in one." in " ".join(study.notes)
    begins = [gap["from"] for gap in study.as_dict()["data"]["gaps"]]
    assert begins == ["2024-08-01T13:31:39.000000000Z", "2024-08-01T13:41:39.000000000Z"]


def test_a_feed_that_ends_with_its_session_has_no_gap() -> None:
    rows = [quote(t, XNAS, (99.9, 900), (100.1, 900)) for t in range(600)]
    orders = [ParentOrder(symbol="T", side="buy", quantity=5000, arrival=OPENS + 530 * SECOND)]
    study = study_of(tape(rows), ("nbbo",), orders=orders, session=Session.of("09:30-09:40"))
    assert not study.parents["gap"].any()
    assert not study.data["gaps"]
    assert not any("gap" in note for note in study.notes)


def test_the_age_of_quotes_is_told_and_what_is_stale_has_no_mid() -> None:
    """One venue is there twice a minute: within 20 s of its rows, orders may arrive and are filled."""
    rows = [quote(t, XNAS, (99.9, 900), (100.1, 900)) for t in range(0, 1800, 30)]
    found = {}
    for age in (None, 20 * SECOND):
        study = study_of(tape(rows), ("nbbo",), rules={"max_quote_age": age})
        assert study.as_dict()["settings"]["max_quote_age_seconds"] == (None if age is None else 20)
        assert any("last row was older than 20 s showed nothing" in note for note in study.notes) is (age is not None)
        found[age] = set((study.parents["arrival"] - OPENS) // SECOND % 30)
        assert study.parents["filled"].min() == 500
    assert max(found[None]) > 20 >= max(found[20 * SECOND])


@pytest.mark.parametrize("age", [-1, 1.5, 2**62])
def test_an_age_that_is_none(age: Any) -> None:
    with pytest.raises(InputError, match="max_quote_age"):
        Rules(max_quote_age=age)


def test_frozen_quotes_are_counted_and_told() -> None:
    """IEXG's 300 at 100.02 are behind XNAS's offers from 0.5 s on, and nothing more is told of them."""
    rows = [quote(t, XNAS, (99.9, 900), (100.02 if t == 0 else 100.01, 300)) for t in range(0, 120)]
    batch = tape([*rows[:1], quote(0.5, XNAS, (99.9, 900), (100.01, 300)), *rows[1:]])
    named = np.array([IEXG] + [XNAS] * (len(batch) - 1), np.uint16)
    batch = replace(batch, bid_publisher=np.full(len(batch), XNAS, np.uint16), ask_publisher=named)
    orders = [ParentOrder(symbol="T", side="buy", quantity=500, arrival=OPENS + SECOND)]
    for take, filled, frozen in ((False, 300, 0), (True, 500, 200)):
        study = study_of(batch, ("greedy_l2",), orders=orders, rules={"take_frozen": take, "complete": False})
        mine = study.parents["routing"] == "greedy_l2"
        assert study.parents["filled"][mine] == [filled]
        assert study.parents["frozen"][mine] == [frozen]
        of_fills = study.fills["routing"] == "greedy_l2"
        assert study.fills["shares"][of_fills & study.fills["frozen"]].sum() == frozen
        assert [row["frozen"] for row in study.rows() if row["routing"] == "greedy_l2"] == [frozen]
        assert study.as_dict()["settings"]["frozen"] == ("take" if take else "leave")
        told = (
            "taken as it was last told (frozen): 400 of 1,000 filled shares, in 2 of 2 results."
            if take
            else "not taken."
        )
        assert any("Quotes are consolidated" in note and note.endswith(told) for note in study.notes)
    direct = study_of(tape(rows), ("nbbo",), orders=orders, rules={"take_frozen": True})
    assert any("No quote of this feed is frozen" in note for note in direct.notes)


@pytest.mark.parametrize(("seconds", "rejects", "left_out"), [(2, 2, 0), (50, 6, 2)])
def test_rejects_are_told_and_venues_that_were_left_out(
    monkeypatch: pytest.MonkeyPatch, seconds: int, rejects: int, left_out: int
) -> None:
    """XNAS shows a good offer for 0.1 ms each second, so that nothing is there; here that counts as a reject."""

    class Rejected(work.workers.Worker):  # type: ignore[misc]
        def on_ended(self, number: int, cumulative: int, now: int, rejected: bool = False, *more: Any) -> None:
            super().on_ended(number, cumulative, now, cumulative == 0, *more)

    monkeypatch.setattr(work.workers, "Worker", Rejected)
    rows = [quote(t + late, XNAS, (99, 9), (100 + late, 100)) for t in range(100) for late in (0, 0.0001)]
    order = ParentOrder(
        symbol="T", side="buy", quantity=500, arrival=OPENS, end=OPENS + seconds * SECOND, limit_price=100.0
    )
    rules = {"latency": {"*": (500_000,)}, "complete": False}
    study = study_of(tape(rows), ("brute_force", "nbbo"), orders=[order], rules=rules)
    for name, found in (("rejects", rejects), ("left_out", left_out), ("children", rejects)):
        assert study.parents[name].tolist() == [found] * 2
        assert [row[name] for row in study.rows()] == [found] * 2
    told = f"Venues rejected {2 * rejects} of {2 * rejects} child orders."
    told += " Left out for a while, after some in a row, by number of times: XNAS 4." if left_out else ""
    assert told in study.notes
    assert "Venues rejected" in study.table()


def test_nothing_is_said_of_rejects_where_there_are_none(synthetic: list[sor.Batch]) -> None:
    assert not any("rejected" in note for note in study_of(synthetic, ("nbbo",)).notes)


def test_it_is_known_of_a_feed_whether_rows_of_trades_have_the_book_after_them(synthetic: list[sor.Batch]) -> None:
    assert [day.after_trades for day in days.survey(synthetic, Session())] == [True]
    before = tape([quote(t + late, XNAS, (99, 9), (101, 300 - t)) for t in range(200) for late in (0, 0.5)])
    before.action[1::2] = ord("T")  # each row of a trade shows what the one before it has shown
    assert [day.after_trades for day in days.survey([before], Session())] == [False]
    sims = []
    real = work.market.Market
    with pytest.MonkeyPatch.context() as patch:

        class Told(real):  # type: ignore[misc, valid-type]
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                sims.append(self)

        patch.setattr(work.market, "Market", Told)
        study_of(synthetic, ("nbbo",))
    assert [one.after_trades for one in sims] == [False, True]  # the first pass, which finds it, and the second


def test_a_latency_that_is_longer_than_the_horizon() -> None:
    with pytest.raises(InputError, match="no order would arrive before its end"):
        Rules(horizon=SECOND, latency={"*": (SECOND,)})


def test_the_fields_own_file_has_nothing_to_route_between() -> None:
    """Rows of the trial tasks' kind: one publisher, ten levels that are taken for venues."""
    rows = [
        quote(
            t,
            XNAS,
            [(99.99 - i / 100, 100) for i in range(10)],
            [(100.01 + i / 100 + (t % 7) / 100, 100) for i in range(10)],
        )
        for t in range(1800)
    ]
    study = study_of(tape(rows, depth=10), schedules=("immediate", "twap:10"))
    told = study.table()
    assert "One venue quotes, so there is nothing to route between" in told
    assert "saved by waiting, which is the schedule's doing" in " ".join(told.split())
    costs = [study.parents["shortfall"][study.parents["routing"] == name] for name in ("nbbo", "pro_rata", "equal")]
    assert (costs[0] == costs[1]).all()
    assert (costs[0] == costs[2]).all()


def test_a_recorded_feed_says_that_its_fees_are_of_other_days(shared: Path, tmp_path: Path) -> None:
    recorded = shared / "data" / "lean_ibm_20131007_mbp-1.csv.gz"
    path = tmp_path / "ibm.csv"
    with gzip.open(recorded, "rt") as packed, path.open("w") as file:
        file.writelines(line for line, _ in zip(packed, range(5000), strict=False))
    study = study_of(sor.read_feed(path), ("brute_force",), orders=Orders(number=3))
    assert "Fees are from outside their dates at" in study.table()


@pytest.mark.parametrize(
    ("text", "timezone", "words"),
    [
        ("09:30", "UTC", "two times of day"),
        ("16:00-09:30", "UTC", "two times of day"),
        ("09:30-25:00", "UTC", "two times of day"),
        ("09:30-16:00", "Mars/Olympus", "timezone is 'Mars/Olympus'"),
    ],
)
def test_sessions_that_are_none(text: str, timezone: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Session.of(text, timezone)


def test_a_session_follows_summer_time() -> None:
    session = Session.of("09:30-16:00")
    lengths = set()
    for text, utc in (("2024-03-08", "14:30"), ("2024-03-11", "13:30"), ("2024-11-04", "14:30")):
        day = days.date.fromisoformat(text).toordinal()
        opens, closes = session.times(day)
        assert np.datetime64(opens, "ns") == np.datetime64(f"{text}T{utc}")
        lengths.add(closes - opens)
    assert lengths == {23_400 * SECOND}
    times = np.array([np.datetime64(f"2024-03-{day:02}T03:59:59", "ns").astype(np.int64) for day in (9, 10, 11, 12)])
    assert [days.date.fromordinal(int(day)).day for day in days.days_of(times, "America/New_York")] == [8, 9, 10, 11]


def test_arrivals_have_a_mid_and_their_horizon() -> None:
    day = days.Day(
        "T", 1, 0, 1000 * SECOND, first=0, last=1000 * SECOND, blind=[[0, 100 * SECOND], [300 * SECOND, 800 * SECOND]]
    )
    times, redrawn = days.arrivals(day, 100 * SECOND, 50 * SECOND, 7, 200, None)
    assert len(times) == 200
    assert times == sorted(times)
    assert redrawn > 50
    assert all(100 * SECOND <= time < 300 * SECOND or 800 * SECOND <= time <= 900 * SECOND for time in times)
    grid, skipped = days.arrivals(day, 100 * SECOND, 50 * SECOND, 7, None, 50 * SECOND)
    assert grid == [time * SECOND for time in (100, 150, 200, 250, 800, 850, 900)]
    assert skipped == 11


def test_a_feed_at_another_depth_is_the_same_feed() -> None:
    feed = sor.read_feed(ROOT / "sample.csv", symbols="AAPL", end="2024-08-01T13:40:00Z")
    other = feed.at_depth(3)
    assert isinstance(other, Feed)
    rows, levels = next(iter(feed)), next(iter(other))
    assert levels.depth == 3
    assert levels.bid_price[:, 0].tolist() == rows.bid_price[:, 0].tolist()
    assert feed.skipped == other.skipped


def test_the_folder_may_be_called_and_comes_when_it_is_asked_for() -> None:
    said = "import sor, sys; assert 'sor.backtest' not in sys.modules; sor.Study; assert callable(sor.backtest)"
    more = "; import sor.backtest.work; from sor import *; assert backtest is sor.backtest; assert Orders is sor.Orders"
    subprocess.run([sys.executable, "-c", said + more], check=True)
    with pytest.raises(AttributeError, match="module 'sor' has no attribute 'nothing'"):
        _ = sor.nothing


# --- what a name says ------------------------------------------------------------------------------------------------


def test_cont_kukanov_goes_by_what_its_name_says(synthetic: list[sor.Batch]) -> None:
    """The same as when the run says it, to the bit; and two in one run do not touch each other."""
    named = "cont_kukanov:horizon=10:lambda_under=0.2:lambda_over=0.3"
    rules = {"min_windows": 20, "placement": 10 * SECOND, "parameters": sor.CostParameters(0.3, 0.2, 0.002)}
    arrivals = [
        ParentOrder(symbol="SIM", side="buy", quantity=2000, arrival=int(synthetic[0].time[0]) + minute * 60 * SECOND)
        for minute in (10, 20, 30, 40)
    ]
    stated = study_of(synthetic, ("cont_kukanov",), orders=arrivals, rules=rules)
    rules = {"min_windows": 20, "placement": 60 * SECOND}
    both = study_of(synthetic, ("cont_kukanov", named), orders=arrivals, rules=rules)
    costs = [
        it.parents["shortfall"][it.parents["routing"] == name].tolist()
        for it, name in (
            (stated, "cont_kukanov"),
            (both, "cont_kukanov:lambda_over=0.3:lambda_under=0.2:horizon=10"),
            (both, "cont_kukanov"),
        )
    ]
    assert costs[0] == costs[1] != costs[2]
    assert len(costs[0]) == len(costs[2]) == 12


@pytest.mark.parametrize(
    "named",
    [
        "cont_kukanov:horizon=0",
        "cont_kukanov:horizon=1.5",
        "cont_kukanov:horizon=7201",
        "cont_kukanov:lambda_under=nan",
        "cont_kukanov:lambda_under=1e13",
        "cont_kukanov:lambda_under=1:lambda_under=1",
        "cont_kukanov:step=3",
        "cont_kukanov:lambda_under",
    ],
)
def test_what_cont_kukanov_may_not_be_given(named: str) -> None:
    with pytest.raises(InputError, match=r"routing is .cont_kukanov:.* is none of what it may be given"):
        strategy("immediate", named)
