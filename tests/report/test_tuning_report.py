"""A tuning's report: in sample beside the days after, and a map whose numbers are those of its points."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser, chromium
from read_page import Page

import sor
from sor.backtest import Orders, Rules, Tuning
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.report.tuning import report_of

pytest.importorskip("plotly", exc_type=ImportError)

RULES = Rules(horizon=30 * 10**9, placement=10 * 10**9, min_windows=20, queues=("pessimistic",))
SPACE = {"lambda_under": (0.001, 0.5), "horizon": [5, 10], "theta_queue": [0, 0.01]}


@pytest.fixture(scope="module")
def market() -> list[sor.Batch]:
    dates = ("2024-08-01", "2024-08-02", "2024-08-05")
    return [
        batch
        for seed, date in enumerate(dates, 1)
        for batch in SyntheticMarket(Scenario(seed=seed, duration=900, date=date)).batches()
    ]


def tuned(market: list[sor.Batch], search: str = "grid") -> Tuning:
    return sor.tune(
        market, Orders(number=8), space=SPACE, rules=RULES, search=search, points=None if search == "grid" else 7
    )


@pytest.fixture(scope="module")
def tuning(market: list[sor.Batch]) -> Tuning:
    return tuned(market)


@pytest.fixture(scope="module")
def page(tuning: Tuning) -> Page:
    return Page(report_of(tuning))


def test_the_answer_comes_first(page: Page, tuning: Tuning) -> None:
    assert tuning.sentence() in page.text
    assert page.text.index(tuning.sentence()) < page.text.index("What this cannot tell")
    assert all(note in page.text for note in tuning.notes)


def test_days_stand_side_by_side(page: Page, tuning: Tuning) -> None:
    rows = page.table("Shortfall by day")
    assert [row["day"] for row in rows] == [*(fold.day for fold in tuning.folds), "all"]
    for row, fold in zip(rows, tuning.folds, strict=False):
        assert [row["in sample"], row["after it"]] == [f"{fold.in_sample_bps:.2f}", f"{fold.out_of_sample_bps:.2f}"]
        assert [row["plain default"], row["nbbo"]] == [f"{fold.default_bps:.2f}", f"{fold.baseline_bps:.2f}"]
    drawn = {one["name"]: one["y"] for one in page.plots["days"]["data"]}
    assert drawn["in sample"] == [fold.in_sample_bps for fold in tuning.folds]
    assert drawn["after it"] == [fold.out_of_sample_bps for fold in tuning.folds]


def test_the_map_is_a_plane_through_the_best_point(page: Page, tuning: Tuning) -> None:
    """Each field is a point that differs from the best one in two parameters only."""
    (told,) = page.plots["map"]["data"]
    axes = [page.plots["map"]["layout"][axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
    costs = {tuple(sorted(point.parameters.items())): point.cost_bps for point in tuning.points}
    fields = 0
    for y, row in zip(told["y"], told["z"], strict=True):
        for x, cost in zip(told["x"], row, strict=True):
            point = tuning.best.parameters | {axes[0]: float(x), axes[1]: float(y)}
            assert cost == costs[tuple(sorted(point.items()))]
            fields += 1
    assert fields == len(told["x"]) * len(told["y"]) >= 4
    assert min(min(row) for row in told["z"]) == tuning.best.cost_bps


def test_points_that_were_drawn_are_dots(market: list[sor.Batch]) -> None:
    tuning = tuned(market, "random")
    (told,) = Page(report_of(tuning)).plots["map"]["data"]
    assert told["marker"]["color"] == [point.cost_bps for point in tuning.points]


def test_all_points_are_there_the_cheapest_first(page: Page, tuning: Tuning) -> None:
    rows = page.table("Points by cost")
    assert len(rows) == len(tuning.points) == 20
    assert [row["bps"] for row in rows] == sorted((row["bps"] for row in rows), key=float)


def test_the_same_tuning_gives_the_same_page(market: list[sor.Batch], tuning: Tuning, tmp_path: Path) -> None:
    tuning.report(tmp_path / "t.html")
    assert (tmp_path / "t.html").read_text() == report_of(tuned(market))


@pytest.mark.skipif(chromium() is None, reason="there is no Chromium (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [375, 1280])
def test_it_is_drawn(tuning: Tuning, tmp_path: Path, width: int) -> None:
    tuning.report(tmp_path / "t.html")
    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "t.html", width)
        assert browser.complaints() == []
        assert browser.requests() == [(tmp_path / "t.html").as_uri()]
        count = "document.querySelectorAll('#plot-days .scatterlayer path, #plot-map :is(.heatmaplayer, .hm) *').length"
        assert browser.value(count) > 4
        metrics = browser.ask("Page.getLayoutMetrics")
        assert metrics["cssContentSize"]["width"] == metrics["cssLayoutViewport"]["clientWidth"] <= width
