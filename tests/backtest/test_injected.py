"""Orders that are really in the market, held against what a backtest says without them; and the page that tells it.

``python tests/backtest/test_injected.py`` puts the output into docs/rules.md anew.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import injected
import numpy as np
import pytest
from injected import DIRECTORY, MOMENT, NEVER, SCENARIO, SEEDS, Case, CommonDay, Place, place_of, run, trials

from sor.backtest.limit_book import TICK
from sor.backtest.scenario import Scenario
from sor.market.columns import Batch, joined
from sor.types import SIDES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "rules.md"
BLOCK = re.compile(r"(?<=^\$ python tools/injected\.py\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
FEW = range(1, 6)
BUSY = replace(SCENARIO, rate=30, news=1_500, price=200.0, hidden=0.2)  # prices move all the time


@pytest.fixture(scope="module")
def by_size() -> list[list[Case]]:
    return trials()


def feed_of(day: CommonDay) -> Batch:
    return joined(list(day.tape.batches(day.scenario)))


def bytes_of(batch: Batch) -> dict[str, bytes]:
    columns = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: one.tobytes() for name, one in columns.items() if isinstance(one, np.ndarray)}


@pytest.mark.parametrize("scenario", [SCENARIO, BUSY], ids=["calm", "busy"])
@pytest.mark.parametrize("seed", FEW)
def test_an_order_that_nobody_sees_or_meets_leaves_the_same_bytes(seed: int, scenario: Scenario) -> None:
    """Far from the market, and not shown."""
    scenario = replace(scenario, seed=seed)
    away = Place("buy", seed % 4, behind=60, hidden=True)
    without, beside = run(scenario), run(scenario, away, 500)
    assert beside.ours is not None
    assert beside.ours in beside.ours.side.book.live
    assert beside.fate == (0, NEVER, NEVER)
    assert len(bytes_of(feed_of(without))) > 10
    assert bytes_of(feed_of(beside)) == bytes_of(feed_of(without))


@pytest.mark.parametrize("behind", [0, 1, 3])
@pytest.mark.parametrize("seed", FEW)
def test_until_it_trades_an_order_that_nobody_looks_at_changes_nothing(seed: int, behind: int) -> None:
    """However large it is."""
    scenario = replace(BUSY, seed=seed, hidden=0.0)
    without, beside = run(scenario), run(scenario, Place("buy", seed % 4, behind), 100_000, seen=False)
    traded = beside.fate.first_fill
    posted = [[one for one in orders_of(day) if one[0] < traded] for day in (without, beside)]
    assert len(posted[0]) > 500
    assert posted[0] == posted[1]


@pytest.mark.parametrize("seed", FEW)
def test_when_it_has_traded_most_goes_on_as_without_it(seed: int) -> None:
    """What another would have sold it sold; the numbers of all events are the same."""
    scenario = replace(BUSY, seed=seed, hidden=0.0)
    without, beside = run(scenario), run(scenario, place_of(scenario), 5_000)
    cancelled, with_ours = (
        {(one.cancelled, one.key) for one in day.orders if one.cancelled} for day in (without, beside)
    )
    assert beside.fate.filled > 0
    assert len(cancelled) > 500
    assert cancelled != with_ours
    assert len(cancelled & with_ours) > 0.8 * len(cancelled)


def orders_of(day: CommonDay) -> list[tuple[int, ...]]:
    """When each came, and where."""
    return [(one.time, one.side.book.publisher, one.key, one.size) for one in day.orders]


def test_a_share_is_inside_or_was_taken_by_who_wanted_more_than_there_was(by_size: list[list[Case]]) -> None:
    """Who takes all of a level would have taken ours, too, and no feed has what was not there to be taken."""
    shares = by_size[0]
    assert {one.shares for one in shares} == {1}
    out = [(seed, case) for seed, case in zip(SEEDS, shares, strict=True) if False in case.inside(seen=False)]
    assert 0 < len(out) < len(shares) / 8
    for seed, case in out:
        true = case.true[False]
        assert true.filled == 1
        assert true.first_fill < case.found[-1].first_fill - MOMENT
        assert emptied(replace(SCENARIO, seed=seed), true.first_fill)


def emptied(scenario: Scenario, time: int) -> bool:
    """Whether the feed without us shows a trade of the last shares at our price and venue then."""
    place = place_of(scenario)
    ours: Any = run(scenario, place, 1).ours
    feed, price = feed_of(run(scenario)), abs(ours.key) * TICK
    rows = np.flatnonzero(
        (feed.time == time) & (feed.publisher == DIRECTORY.publisher_of(scenario.venues[place.venue]))
    )
    traded = bool((feed.price[rows] == price).any()) and set(feed.action[rows].tolist()) == {ord("T")}
    shown = (feed.bid_price, feed.ask_price)[SIDES.index(place.side)][rows[-1]]
    return traded and price not in shown


def test_who_is_seen_is_met_more_often(by_size: list[list[Case]]) -> None:
    """It is alone at its price for a while, and takers come to it who went elsewhere."""
    for some in by_size:
        unseen, seen = (sum(case.true[which].filled / case.shares for case in some) for which in (0, 1))
        assert seen > max(unseen, sum(case.found[-1].filled / case.shares for case in some))
        out = [case for case in some if case.inside(seen=True)[1] is False]
        sooner = sum(case.true[True].first_fill < case.found[-1].first_fill for case in out)
        assert sooner > 0.8 * len(out) > 0


def test_the_range_of_a_backtest_is_one(by_size: list[list[Case]]) -> None:
    for case in (case for some in by_size for case in some):
        low, middle, high = case.found
        assert low.filled <= middle.filled <= high.filled <= case.shares
        assert high.first_fill <= middle.first_fill <= low.first_fill


def test_inside() -> None:
    """At an end of the range is inside; what never came, nor was said to, is not counted."""
    low, high = injected.Fate(10, 50_000, NEVER), injected.Fate(90, 20_000, NEVER)
    true = injected.Fate(90, 20_000 - MOMENT, NEVER), injected.Fate(91, 50_001 + MOMENT, 60_000)
    case = Case(100, true, (low, low, high))
    assert case.inside(seen=False) == (True, True, None)
    assert case.inside(seen=True) == (False, False, False)


def test_the_page_says_what_is_printed(by_size: list[list[Case]]) -> None:
    assert BLOCK.findall(PAGE.read_text()) == ["\n".join(injected.table(by_size)) + "\n"]


if __name__ == "__main__":
    printed = "\n".join(injected.table(trials())) + "\n"
    PAGE.write_text(BLOCK.sub(lambda _: printed, PAGE.read_text()))
