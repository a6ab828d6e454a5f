"""How a backtest lies where a rule is broken: the direction and the rough size of each lie, and the page that tells it.

``python tests/backtest/test_broken_rules.py`` puts the output into docs/rules.md anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import broken_rules
import pytest
from broken_rules import LATE, Lie, Line, Trials

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "rules.md"
BLOCK = re.compile(r"(?<=^\$ python tools/broken_rules\.py\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def trials() -> Trials:
    return Trials()


@pytest.fixture(scope="module")
def lies(trials: Trials) -> dict[str, Lie]:
    return {lie.rule: lie for lie in trials.lies()}


def saved(one: Line) -> tuple[float, float, float]:
    """Basis points, and their interval."""
    found = one.difference
    assert found is not None
    assert found.blocks >= 10
    assert found.difference_bps is not None
    assert found.low is not None
    assert found.high is not None
    return -found.difference_bps, -found.high, -found.low


def test_shares_that_are_filled_twice_come_too_fast(lies: dict[str, Lie]) -> None:
    """What they cost may go either way: fresh shares at the best price are cheap, and so is to wait."""
    lie = lies["2"]
    assert lie.wrong.seconds < lie.right.seconds / 2
    assert lie.wrong.early > lie.right.early + 0.25
    assert abs(lie.bps) < 0.2


def test_a_decision_that_looks_ahead_buys_for_nothing(lies: dict[str, Lie]) -> None:
    """The same rule on the minute before is worth nothing, as the value moves up and down alike."""
    lie = lies["1"]
    assert lie.wrong.shortfall_bps < lie.right.shortfall_bps - 1.0
    assert saved(lie.wrong)[1] > 0.5
    assert saved(lie.right)[1] < 0.05


def test_without_fees_there_is_less_to_route_by(lies: dict[str, Lie]) -> None:
    lie = lies["9"]
    assert saved(lie.right)[1] > 0.05
    assert saved(lie.wrong) == pytest.approx((0.0, 0.0, 0.0), abs=0.01)
    assert -0.3 < lie.bps < -0.02


def test_who_buys_less_seems_cheap(lies: dict[str, Lie]) -> None:
    lie = lies["end"]
    assert lie.wrong.filled == pytest.approx(lie.right.filled, abs=0.02)
    assert lie.wrong.filled < 0.6
    assert lie.wrong.shortfall_bps < 0.0 < lie.right.shortfall_bps
    assert saved(lie.wrong)[0] > saved(lie.right)[0] + 1.0


def test_waiting_is_no_routing(lies: dict[str, Lie]) -> None:
    lie = lies["words"]
    assert lie.bps == 0.0
    assert saved(lie.wrong)[0] > 5 * saved(lie.right)[0] > 0.0


def test_latency_costs_what_the_market_was_made_to_take(trials: Trials, lies: dict[str, Lie]) -> None:
    lie = lies["3"]
    known = trials.scenario.latency_cost(LATE / 1e9) / trials.scenario.price * 1e4
    _, low, high = saved(lie.wrong)
    assert low - 0.1 < known < high + 0.1
    assert lie.bps == pytest.approx(-known, abs=0.4)
    assert lie.right.seconds > lie.wrong.seconds


def test_the_front_of_the_queue_fills_more_and_sooner(lies: dict[str, Lie]) -> None:
    lie = lies["4"]
    assert lie.wrong.filled > lie.right.filled + 0.05
    assert lie.wrong.seconds < lie.right.seconds
    assert lie.bps < -0.05


def test_prints_off_exchange_would_fill_what_they_never_met(lies: dict[str, Lie]) -> None:
    lie = lies["5"]
    assert lie.wrong.filled > lie.right.filled + 0.02
    assert lie.bps < 0.0


def test_neighbours_leave_nothing(lies: dict[str, Lie]) -> None:
    lie = lies["8"]
    assert lie.wrong.filled < 0.1 < 0.9 < lie.right.filled
    assert lie.wrong.seconds > 5 * lie.right.seconds


def test_the_page_says_what_is_printed(lies: dict[str, Lie]) -> None:
    assert BLOCK.findall(PAGE.read_text()) == ["\n".join(broken_rules.table(list(lies.values()))) + "\n"]


if __name__ == "__main__":
    printed = "\n".join(broken_rules.table(Trials().lies())) + "\n"
    PAGE.write_text(BLOCK.sub(lambda _: printed, PAGE.read_text()))
