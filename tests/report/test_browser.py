"""A report in a browser: it opens by itself, is drawn, fits a phone, and is told to who does not see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, chromium

import sor
from sor.backtest import Orders, Rules
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket

pytest.importorskip("plotly", exc_type=ImportError)
pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium (Debian: apt-get install chromium)")

PLOTS = {"parts", "shortfall-interval", "differences", "sizes", "venues", "markouts", "order"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "r.html"
    market = list(SyntheticMarket(Scenario(seed=3, duration=2400)).batches())
    rules = Rules(horizon=60 * 10**9, placement=10 * 10**9, min_windows=20)
    ways = [(one, name) for one in ("immediate", "twap:4") for name in ("greedy_l2", "cont_kukanov")]
    sor.backtest(market, Orders(sizes=(200, 600), number=20), ways, rules=rules).report(path)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.mark.parametrize("width", [375, 1280])
def test_it_opens_by_itself_and_is_drawn(browser: Browser, report: Path, width: int) -> None:
    browser.open(report, width)
    assert browser.complaints() == []
    assert browser.requests() == [report.as_uri()]
    drawn = browser.value(
        """Object.fromEntries(Array.from(document.querySelectorAll(".drawing"), plot =>
             [plot.id, plot.querySelectorAll(":is(.scatterlayer, .boxlayer, .barlayer) path").length]))"""
    )
    assert set(drawn) == {f"plot-{name}" for name in PLOTS}
    assert all(drawn.values()), drawn


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_does_not_move_sideways(browser: Browser, report: Path, width: int, scripts: bool) -> None:
    """Its tables do, each in a box of its own, which the keyboard reaches."""
    browser.open(report, width, scripts=scripts)
    metrics = browser.ask("Page.getLayoutMetrics")
    assert metrics["cssContentSize"]["width"] == metrics["cssLayoutViewport"]["clientWidth"] <= width
    if not scripts:
        return
    boxes = browser.value(
        """Array.from(document.querySelectorAll(".scroll"), one => [one.scrollWidth > one.clientWidth, one.tabIndex])"""
    )
    assert all(tab == 0 for _, tab in boxes)
    assert width > 600 or any(wider for wider, _ in boxes)
    rights = browser.value(
        """Array.from(document.querySelectorAll(".drawing, .drawing svg"), one => one.getBoundingClientRect().right)"""
    )
    assert max(rights) <= width


def nodes(browser: Browser) -> list[dict[str, Any]]:
    found = browser.ask("Accessibility.getFullAXTree")["nodes"]
    return [one for one in found if not one.get("ignored")]


def named(found: list[dict[str, Any]], role: str) -> list[str]:
    return [one["name"]["value"] for one in found if one["role"]["value"] == role]


@pytest.mark.parametrize("scripts", [True, False])
def test_who_does_not_see_it_hears_it(browser: Browser, report: Path, scripts: bool) -> None:
    browser.open(report, scripts=scripts)
    found = nodes(browser)
    headings = named(found, "heading")
    assert headings[0] == "What did orders in SIM cost on 2024-08-01, and which way was cheaper?"
    assert {"What each way cost", "Where the shares went", "How it was made"} <= set(headings)
    tables = named(found, "table")
    assert len(tables) >= 12
    assert all(tables)
    assert "strategy" in named(found, "columnheader")
    assert "twap:4 x cont_kukanov, pess." in named(found, "rowheader")
    assert "Skip to the answer" in named(found, "link")
    assert named(found, "navigation") == ["Contents"]
    plots = [name for name in named(found, "image") if name.startswith("Plot: ")]
    assert len(plots) == (len(PLOTS) if scripts else 0)
    told = "Plots need scripts, which are off: the numbers are in the tables."
    assert (told in named(found, "StaticText")) is not scripts


def test_the_keyboard_goes_through_it(browser: Browser, report: Path) -> None:
    """The first key shows the way to the answer, and what has the focus is marked."""
    browser.open(report)
    for kind in ("keyDown", "keyUp"):
        browser.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    where, left, outline = browser.value(
        """[document.activeElement.textContent, document.activeElement.getBoundingClientRect().left,
            getComputedStyle(document.activeElement).outlineStyle]"""
    )
    assert where == "Skip to the answer"
    assert left >= 0
    assert outline != "none"
