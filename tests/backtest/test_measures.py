"""What is not known is not measured: no number stands where there was no mid, or no best price of the other side."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from tapes import IEXG, OPENS, SECOND, XNAS, quote, tape, trade

import sor
from sor.backtest import ParentOrder, Rules, Study
from sor.backtest.measures import BESIDE

PARTS = ("timing", "waiting", "spread", "fees", "end")


class Rests:
    def split(self, market: Any, shares: int) -> list[Any]:
        return [market.rest(venue, shares, price, 5) for venue, (price, _) in list(market.queues.items())[:1]]


def study_of(
    rows: list[Any], routing: Any, side: str = "buy", quantity: int = 100, depth: int = 1, **rules: Any
) -> Study:
    order = ParentOrder(symbol="T", side=side, quantity=quantity, arrival=OPENS + 10 * SECOND)  # type: ignore[arg-type]
    settings: dict[str, Any] = {"horizon": 30 * SECOND, "latency": {"*": (0,)}, "queues": ("pessimistic",)} | rules
    return sor.backtest(tape(rows, depth), [order], [("immediate", routing)], rules=Rules(**settings))


def first(study: Study, routing: str) -> dict[str, Any]:
    (at,) = (study.parents["routing"] == routing).nonzero()[0]
    return {name: column[at].item() for name, column in study.parents.items()}


def one_sided(side: str, until: float) -> list[Any]:
    """Ninety seconds in which the side that an order of ``side`` takes shows nothing until then."""
    full = (99.99, 500), (100.01, 500)
    half = (full[0], None) if side == "buy" else (None, full[1])
    return [quote(t, XNAS, *(half if t < until else full)) for t in range(90)]


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("until", [20, 1000])
def test_without_a_mid_until_the_arrival_there_is_no_cost(side: str, until: int) -> None:
    """Whether it is filled later or never: there is nothing to hold the price against."""
    study = study_of(one_sided(side, until), "nbbo", side)
    row = first(study, "nbbo")
    assert row["filled"] == (100.0 if until == 20 else 0.0)
    assert row["no_mid"]
    costs = [row["mid"], row["shortfall"], *(row[f"{part}_{unit}"] for part in PARTS for unit in ("cost", "bps"))]
    assert all(math.isnan(cost) for cost in [*costs, *(row[name] for name in BESIDE)])
    assert "1 of 1 results have no cost, as there was no mid until they arrived." in study.notes
    assert not any("the last one stands for it" in note for note in study.notes)
    assert study.rows()[0]["shortfall_bps"] is None
    json.dumps(study.as_dict(), allow_nan=False)


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_child_that_saw_no_other_side_has_no_quoted_spread(side: str) -> None:
    sign = 1 if side == "buy" else -1
    near, far = 100 - sign * 0.01, 100 + sign * 0.01

    def shown(seconds: float, price: float, *others: float) -> Any:
        own, other = (price, 500), (others[0], 500) if others else None
        return quote(seconds, XNAS, *((own, other) if side == "buy" else (other, own)))

    rows = [
        shown(0, near, far),
        shown(5, near),
        trade(12, XNAS, near - sign * 0.01, 900, "A" if side == "buy" else "B"),
        shown(13, near - sign * 0.02),
        shown(60, near, far),
    ]
    study = study_of(rows, Rests(), side)
    row = first(study, "Rests")
    assert (row["filled"], row["maker"]) == (100.0, 100.0)
    assert row["effective_spread_bps"] == pytest.approx(-2.0)
    assert math.isnan(row["quoted_spread_bps"])
    assert math.isnan(row["price_improvement_bps"])
    assert math.isnan(study.fills["national_best"][0])
    assert study.fills["mid_sent"][0] == 100.0
    assert study.rows()[0]["effective_to_quoted"] is None


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_improvement_and_dis_improvement_are_told_apart(side: str) -> None:
    """Two levels are decided on; one share in five is dearer, and while they are under way a better price comes."""
    sign = 1 if side == "buy" else -1

    def shown(seconds: float, *levels: tuple[float, int]) -> Any:
        other = [(100 + sign * price, size) for price, size in levels]
        own = [(100 - sign * 0.02, 500)]
        return quote(seconds, XNAS, *((own, other) if side == "buy" else (other, own)))

    rows = [shown(0, (0.02, 80), (0.03, 20)), shown(10.5, (0.01, 50), (0.03, 50)), shown(80, (0.01, 50), (0.03, 50))]
    study = study_of(rows, "greedy_l2", side, depth=2, latency={"*": (SECOND,)})
    row = first(study, "greedy_l2")
    assert row["filled"] == 100.0
    assert row["price_improvement_bps"] == pytest.approx(50 * 0.01 / 100 / 100 * 1e4)
    assert row["price_disimprovement_bps"] == pytest.approx(50 * 0.01 / 100 / 100 * 1e4)
    assert row["quoted_spread_bps"] == pytest.approx(4.0)
    assert row["effective_spread_bps"] == pytest.approx(2 * (0.5 * 0.01 + 0.5 * 0.03) / 100 * 1e4)
    assert study.rows()[0]["effective_to_quoted"] == pytest.approx(1.0)


def test_the_first_fill_is_the_first_that_happened_and_not_the_first_that_was_reported() -> None:
    rows = [quote(t, venue, (99.99, 500), (100.01, 100)) for t in range(90) for venue in (XNAS, IEXG)]
    latency = {"*": (SECOND,), "IEXG": (5 * SECOND,)}
    row = first(study_of(rows, "nbbo", quantity=200, latency=latency), "nbbo")
    assert row["first_fill"] == OPENS + 11 * SECOND
    assert row["last_fill"] == OPENS + 15 * SECOND
