"""A backtest's report: its numbers are the study's, what comes from outside is escaped, and it is always the same."""

from __future__ import annotations

import hashlib
import itertools
import sys
from bisect import bisect_right
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import DONE, WRONG_CALL, Jobs
from read_page import Page
from tapes import IEXG, OPENS, SECOND, XNAS, quote, tape

import sor
from sor.backtest import Orders, ParentOrder, Rules, Study
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.backtest.work import QUEUES
from sor.errors import InputError
from sor.report.html import Markup, Plot, Section, element
from sor.report.html import page as framed
from sor.report.study import report_of
from sor.service import backtest as service
from sor.service.settings import BacktestSettings, SimulateSettings
from sor.service.simulate import simulate

pytest.importorskip("plotly", exc_type=ImportError)

RULES = Rules(horizon=40 * SECOND, placement=10 * SECOND, min_windows=20)
WAYS = [(schedule, name) for schedule in ("immediate", "twap:4") for name in ("brute_force", "cont_kukanov", "nbbo")]
SIZES = (200, 600)


def worked(feed: Any, sizes: tuple[int, ...] = SIZES, **more: Any) -> Study:
    orders = Orders(sizes=sizes, sides=("buy", "sell"), number=30)
    return sor.backtest(feed, orders, WAYS, **({"rules": RULES} | more))


@pytest.fixture(scope="module")
def batches() -> list[sor.Batch]:
    return list(SyntheticMarket(Scenario(seed=3, duration=3600)).batches())


@pytest.fixture(scope="module")
def study(batches: list[sor.Batch]) -> Study:
    return worked(batches)


@pytest.fixture(scope="module")
def text(study: Study) -> str:
    return report_of(study)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def shown(value: float, decimals: int = 2) -> str:
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def costs_of(study: Study) -> dict[tuple[str, str, int], dict[int, float]]:
    """Basis points by way and order."""
    found: dict[Any, dict[int, float]] = defaultdict(dict)
    names = ("schedule", "routing", "queue", "order", "shortfall_bps")
    for *way, order, cost in zip(*(study.parents[name].tolist() for name in names), strict=True):
        found[tuple(way)][order] = cost
    return found


# --- its numbers -----------------------------------------------------------------------------------------------------


def test_the_answer_comes_first(page: Page, study: Study) -> None:
    assert page.headings[0] == (1, "What did orders in SIM cost on 2024-08-01, and which way was cheaper?")
    assert page.text.index(study.sentences()[0]) < page.text.index(page.headings[1][1])
    for sentence in study.sentences():
        assert sentence in page.text
    for note in study.notes:
        assert note in page.text
    assert study.table().splitlines()[0] in page.text


def test_headings_are_in_order(page: Page) -> None:
    levels = [level for level, _ in page.headings]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_shortfall_and_its_parts(page: Page, study: Study) -> None:
    bars = page.plots["parts"]["data"]
    table = page.table("Shortfall and its parts")
    assert [bar["name"] for bar in bars] == ["timing", "waiting", "spread", "fees", "end", "shortfall"]
    for i, row in enumerate(study.rows()):
        for bar in bars:
            assert bar["x"][i] == row[f"{bar['name']}_bps"]
            assert table[i][bar["name"]] == shown(bar["x"][i])
        assert sum(bar["x"][i] for bar in bars[:5]) == pytest.approx(bars[5]["x"][i], abs=1e-9)
    assert len(table) == len(study.rows()) == 10


def test_intervals_of_the_shortfall(page: Page, study: Study) -> None:
    (dots,) = page.plots["shortfall-interval"]["data"]
    for i, (row, found) in enumerate(zip(page.table("Shortfall by blocks"), study.costs(), strict=True)):
        assert found.low is not None
        assert found.high is not None
        assert found.mean_bps is not None
        assert found.blocks >= 10
        assert dots["x"][i] == found.mean_bps
        assert dots["error_x"]["array"][i] == pytest.approx(found.high - found.mean_bps)
        assert dots["error_x"]["arrayminus"][i] == pytest.approx(found.mean_bps - found.low)
        assert row["95 % interval"] == f"{shown(found.low)} to {shown(found.high)}"


def test_differences_are_paired(page: Page, study: Study) -> None:
    (box,) = page.plots["differences"]["data"]
    costs = costs_of(study)
    table = page.table("Difference to the baseline")
    assert len(table) == 9
    for i, row in enumerate(table):
        schedule, _, rest = row["strategy"].partition(" x ")
        routing, _, model = rest.partition(", ")
        queue = {"": 0, "pess.": 0, "prop.": 1, "opt.": 2}[model]
        against = "immediate" if routing == "nbbo" else schedule
        assert row["held against"] == f"{against} x nbbo"
        other = costs[against, "nbbo", 0]
        found = [cost - other[order] for order, cost in costs[schedule, routing, queue].items()]
        for name, part in (("lowerfence", 0.05), ("q1", 0.25), ("median", 0.5), ("q3", 0.75), ("upperfence", 0.95)):
            assert box[name][i] == pytest.approx(np.quantile(found, part), abs=1e-12)
        assert box["mean"][i] == pytest.approx(np.mean(found), abs=1e-12)
        assert row["5 %"] == shown(box["lowerfence"][i])
        assert row["mean"] == shown(box["mean"][i])


def test_where_the_shares_went(page: Page, study: Study) -> None:
    shares: dict[Any, float] = defaultdict(float)
    names = ("schedule", "routing", "queue", "venue", "maker", "shares")
    for *key, number in zip(*(study.fills[name].tolist() for name in names), strict=True):
        shares[tuple(key)] += number
    bars = page.plots["venues"]["data"]
    makers = 0
    for i, (way, queue, _) in enumerate(study.groups()):
        whole = sum(number for key, number in shares.items() if key[:3] == (*way, queue))
        assert sum(bar["x"][i] for bar in bars) == pytest.approx(100.0)
        for bar in bars:
            venue, _, kind = bar["name"].partition(", ")
            makers += bar["x"][i] > 0 and kind == "maker"
            found = shares.get((*way, queue, venue, kind == "maker"), 0.0)
            assert bar["x"][i] == pytest.approx(100 * found / whole)
    assert makers > 3
    rows = [row for row in page.table("Parts of the shares") if row["as"] == "maker"]
    assert {row["strategy"].partition(" x ")[2].partition(",")[0] for row in rows} == {"cont_kukanov"}


def test_markouts_after_15_s_are_half_the_realised_spread(page: Page, study: Study) -> None:
    lines = page.plots["markouts"]["data"]
    for line, row in zip(lines, study.rows(), strict=True):
        assert line["x"] == ["50ms", "1s", "15s", "60s", "300s"]
        assert 2 * line["y"][2] == pytest.approx(row["realised_spread_bps"])
    table = {row["strategy"]: row for row in page.table("Markouts")}
    assert table["immediate x brute_force"]["15s"] == shown(lines[0]["y"][2])
    assert table["twap:4 x cont_kukanov, pess.: maker"]["50ms"] != table["twap:4 x cont_kukanov, pess.: taker"]["50ms"]


def test_each_size_costs_what_it_costs_alone(page: Page, batches: list[sor.Batch]) -> None:
    lines = page.plots["sizes"]["data"]
    for place, size in enumerate(SIZES):
        alone = worked(batches, sizes=(size,))
        for line, found in zip(lines, alone.costs(), strict=True):
            assert line["y"][place] == pytest.approx(found.mean_bps)
        assert "sizes" not in Page(report_of(alone)).plots


# --- one order -------------------------------------------------------------------------------------------------------


def test_one_order_is_followed(page: Page, study: Study) -> None:
    """Worked again it does the same, between the quotes that it saw."""
    rows = [row for row in study.rows() if row["routing"] != "nbbo"]
    slowest = max(rows, key=lambda row: row["seconds"])
    assert (slowest["schedule"], slowest["routing"]) == ("twap:4", "cont_kukanov")
    queue = ("pessimistic", "proportional", "optimistic").index(slowest["queue"])
    parents = study.parents
    mine = (parents["schedule"] == "twap:4") & (parents["routing"] == "cont_kukanov") & (parents["queue"] == queue)
    costs = np.sort(parents["shortfall_bps"][mine])
    row = int(np.flatnonzero(mine & (parents["shortfall_bps"] == costs[(len(costs) - 1) // 2]))[0])
    assert f"order {parents['order'][row]}, to" in page.text
    children = page.table("Its child orders")
    assert sum(float(child["filled"].replace(",", "")) for child in children) == parents["filled"][row]
    assert len(children) == parents["children"][row]
    assert {child["kind"] for child in children} >= {"rests"}
    fills = page.table("Its fills")
    plot = {one["name"]: one for one in page.plots["order"]["data"]}
    assert sum(float(fill["shares"].replace(",", "")) for fill in fills) == parents["filled"][row]
    assert len(fills) == sum(len(plot[name]["x"]) for name in plot if name.startswith("filled"))
    bid, ask = (
        max((x, y) for x, y in zip(one["x"], one["y"], strict=True) if x <= 0)[1]
        for one in (plot["best bid"], plot["best offer"])
    )
    assert (bid + ask) / 2 == pytest.approx(parents["mid"][row])


def test_a_feed_that_is_used_up_is_told(batches: list[sor.Batch]) -> None:
    found = Page(report_of(worked(iter(batches))))
    assert "the feed cannot be read again: the feed was an iterator" in found.text
    assert "order" not in found.plots
    assert found.table("Its fills")


@pytest.mark.parametrize(("together", "delay"), [(False, 0), (True, 0), (True, 2_000_000)])
def test_an_order_does_the_same_again(batches: list[sor.Batch], together: bool, delay: int) -> None:
    """Also one that others took shares from; and the book is the one that it went by."""
    rules = Rules(horizon=40 * SECOND, placement=10 * SECOND, min_windows=20, together=together, delay=delay)
    study = worked(batches, rules=rules)
    assert study.again is not None
    parents, fills = study.parents, study.fills
    seen = 0
    for row in range(0, len(parents["order"]), 47):
        names = str(parents["schedule"][row]), str(parents["routing"][row])
        queue = QUEUES[parents["queue"][row]]
        order, done = int(parents["order"][row]), int(parents["done"][row])
        found = study.again.follow(order, study.strategies.index(names), queue, done)
        assert sum(child.filled for child in found.children) == parents["filled"][row]
        assert len(found.children) == parents["children"][row]
        mine = (fills["order"] == order) & (fills["queue"] == parents["queue"][row])
        mine &= (fills["schedule"] == names[0]) & (fills["routing"] == names[1])
        times = [time for time, _, _ in found.book]
        assert times == sorted(set(times))
        assert found.begin == times[0] < parents["arrival"][row]
        for sent, mid in zip(fills["sent"][mine].tolist(), fills["mid_sent"][mine].tolist(), strict=True):
            _, bid, ask = found.book[bisect_right(times, sent) - 1]
            if bid is not None and ask is not None:
                assert (bid + ask) / 2 == pytest.approx(mid)
                seen += 1
        for child in found.children:
            if child.over and child.filled == child.shares:
                its = mine & (fills["sent"] == child.sent) & (fills["venue"] == child.venue)
                assert child.over == fills["time"][its].max()
            assert child.over == 0 or child.sent <= child.over <= done
    assert seen > 20


# --- what comes from outside -----------------------------------------------------------------------------------------

BAD = '<b>&"x</script><script>alert(1)</script>'


class Odd:
    """A routing with a name that is no text for HTML."""

    name = BAD

    def split(self, market: Any, shares: int) -> list[Any]:
        return [market.take(market.offers[0].venue, shares, market.offers[0].price)] if market.offers else []


def test_what_comes_from_data_is_escaped() -> None:
    rows = [quote(t, venue, (99.99, 900), (100.01, 900)) for t in range(600) for venue in (XNAS, IEXG)]
    orders = [ParentOrder(symbol=BAD, side="buy", quantity=100, arrival=OPENS + 60 * SECOND)]
    study = sor.backtest(tape(rows, symbol=BAD), orders, [("immediate", Odd())], rules=Rules(horizon=60 * SECOND))
    study.command = f"sor backtest '{BAD}'"
    study.notes.append(BAD)
    study.data["files"] = [BAD]
    study.data["bad"] = {BAD: 1}
    text = report_of(study)
    assert "<b>" not in text
    assert "<script>alert" not in text
    page = Page(text)
    assert page.text.count(BAD) > 8
    labels = page.plots["parts"]["data"][0]["y"]
    assert labels[0] == "&lt;b&gt;&amp;&quot;x&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;, pess."
    assert page.tables["Input files"][1] == [BAD, "-", "no file that can be read again"]


class Patient:
    """Rests one share where it does not trade, for as long as it may."""

    name = "patient"

    def split(self, market: Any, shares: int) -> list[Any]:
        return [market.rest("XNAS", 1, 50.0)] if market.fresh else []


def test_what_rests_is_over_with_its_order() -> None:
    rows = [quote(t, venue, (99.99, 900), (100.01, 900)) for t in range(600) for venue in (XNAS, IEXG)]
    order = ParentOrder(symbol="T", side="buy", quantity=100, arrival=OPENS + 60 * SECOND)
    study = sor.backtest(tape(rows), [order], [("immediate", Patient())], rules=Rules(horizon=60 * SECOND))
    assert study.again is not None
    done = int(study.parents["done"][0])
    resting = study.again.follow(0, 0, "pessimistic", done).children[0]
    assert (resting.venue, resting.price, resting.shares, resting.filled) == ("XNAS", 50.0, 1.0, 0.0)
    assert order.arrival + 60 * SECOND <= resting.over <= done


def test_a_page_holds_any_text() -> None:
    """In its scripts, too: a plot's text that ends them ends nothing."""
    plot = Plot("a", BAD, [{"type": "bar", "name": BAD}], {})
    text = framed(
        BAD, BAD, [BAD], [Section("s", BAD, [plot, element("p", BAD, Markup("<i>b</i>"), title=BAD)])], "x < y"
    )
    assert "<b>" not in text
    assert "<script>alert" not in text
    assert "<i>b</i>" in text
    assert "<script>x < y</script>" in text
    assert Page(text).plots["a"]["data"][0]["name"] == BAD


def test_where_nothing_was_filled_and_nothing_is_compared() -> None:
    rows = [quote(t, venue, (99.99, 900), (100.01, 900)) for t in range(600) for venue in (XNAS, IEXG)]
    order = ParentOrder(symbol="T", side="buy", quantity=100, arrival=OPENS + 60 * SECOND, limit_price=50.0)
    rules = Rules(horizon=60 * SECOND, complete=False)
    page = Page(report_of(sor.backtest(tape(rows), [order], [("immediate", "nbbo")], rules=rules)))
    assert "No order was filled." in page.text
    assert set(page.plots) == {"parts", "shortfall-interval"}
    assert page.table("Shortfall by blocks")[0]["95 % interval"].startswith("too few blocks")


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("day") / "day.csv"
    assert simulate(SimulateSettings(output=str(path), duration=1800, levels=3)) == DONE
    return path


FEW = ("--orders", "8", "--horizon", "60s", "--placement", "10", "--min-windows", "20", "--routing", "cont_kukanov")


def test_the_command_writes_it_always_the_same(day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.html"
    with Jobs(tmp_path) as jobs:
        found = []
        for _ in range(2):
            job = jobs.start("backtest", day, *FEW, "--report", target, SOR_SEED="7").finish(DONE)
            assert f"wrote the report to {target}" in job.err
            found.append(target.read_bytes())
            target.unlink()
    assert found[0] == found[1]
    page = Page(found[0].decode())
    assert f"SOR_SEED=7 sor backtest {day} " in page.text
    assert "order" in page.plots
    settings = {row["setting"]: row["value"] for row in page.table("Settings")}
    assert settings["seed"] == "7"
    assert settings["session"] == "9:30:00 to 16:00:00, America/New_York"
    assert settings["sizes"] == "1,000"
    digest = hashlib.sha256(day.read_bytes()).hexdigest()
    assert page.tables["Input files"][1] == [str(day), f"{day.stat().st_size:,}", digest]


def test_the_method_writes_it(study: Study, text: str, tmp_path: Path) -> None:
    study.report(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == text
    with pytest.raises(InputError, match="cannot write"):
        study.report(tmp_path / "nowhere" / "r.html")


def test_a_missing_plotly_is_missed_before_the_work(
    day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Study
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setattr(service, "run", lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(InputError, match=r"plotly, which is not installed: pip install 'sor\[report\]'"):
        service.backtest(BacktestSettings(files=(str(day),), report=str(tmp_path / "r.html")))
    with pytest.raises(InputError, match="plotly"):
        study.report(tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_another_name_is_refused(day: Path, tmp_path: Path) -> None:
    with Jobs(tmp_path) as jobs:
        job = jobs.start("backtest", day, "--report", "r.pdf").finish(WRONG_CALL)
    assert "--report is 'r.pdf': its name must end in .html" in job.err


def test_a_line_has_no_more_steps_than_a_screen() -> None:
    from sor.report.figures import MOST_STEPS, thinned

    book = [(float(i), 1.0 * i, 2.0 * i) for i in range(50_000)]
    found = thinned(book)
    assert MOST_STEPS <= len(found) <= MOST_STEPS + 1
    assert found[-1] == book[-1]
    assert thinned(book[:MOST_STEPS]) == book[:MOST_STEPS]
