"""`Router.route` against a plain recomputation: every number of a result follows from the book and the order.

The truth here is kept in fractions and shares no code with the router: venues are tuples, loops are loops.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import pickle
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import msgspec
import numpy as np
import pytest
import schema
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from sor import Book, CostParameters, InputError, Order, Router

CHECKOUT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((CHECKOUT / "sor" / "routing" / "result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

NOW = 1_722_519_392_491_911_683
NOW_TEXT = "2024-08-01T13:36:32.491911683Z"
SECOND = 10**9
README_PENALTIES = CostParameters()

FIRST_KEYS = """
    symbol timestamp order_size algorithm venues allocation total_cost execution_summary parameters schema_version
    order side objective objective_value reference_price shortfall book child_orders warnings stream source
""".split()  # noqa: SIM905
# Keys of results of cont_kukanov, of symbols with an instrument, of orders under protection; and a later one.
NOT_ALWAYS = ("placement", "currency", "iso", "reason")
KEYS = {
    "venues": "venue_id ask ask_size fee rebate allocation bid bid_size status reason",
    "execution_summary": "total_executed underfill overfill cash_spent fill_rate",
    "parameters": "lambda_over lambda_under theta_queue step",
    "order": "id parent_id",
    "shortfall": "dollars per_share bps",
    "book": "time bid ask sequence state",
    "child_orders": "venue_id type side price quantity",
}


class Shown(NamedTuple):
    """A venue; levels are (price, size) from the best on."""

    bids: list[tuple[float, int]]
    asks: list[tuple[float, int]]
    fee: float = 0.0
    rebate: float = 0.0
    age: int = 0  # nanoseconds before NOW


class Scene(NamedTuple):
    venues: list[Shown]
    side: str = "buy"
    quantity: int = 1000
    limit: float | None = None
    algorithm: str = "brute_force"
    objective: str = "sweep"
    parameters: CostParameters = README_PENALTIES
    max_age: int | None = None
    excluded: frozenset[str] = frozenset()


def book_of(venues: list[Shown]) -> Book:
    book = Book("AAPL")
    for i, venue in enumerate(venues):
        book.quote(f"V{i}", bids=venue.bids, asks=venue.asks, fee=venue.fee, rebate=venue.rebate, time=NOW - venue.age)
    return book


def route(scene: Scene) -> dict[str, Any]:
    router = Router(
        scene.parameters,
        scene.algorithm,
        scene.objective,
        max_quote_age=scene.max_age,
        exclude_venues=scene.excluded,
    )
    order = Order("AAPL", scene.side, scene.quantity, scene.limit, "o1", "p1")
    result: dict[str, Any] = json.loads(router.route(order, book_of(scene.venues)).to_json())
    return result


def exact(number: float) -> Fraction:
    """The decimal that a float was written as."""
    return Fraction(repr(number))


def near(number: float, truth: Fraction, scale: float = 1.0) -> bool:
    return math.isclose(number, truth, rel_tol=1e-9, abs_tol=1e-9 * max(scale, 1.0))


# --- the truth -----------------------------------------------------------------------------------------------------


class Truth(NamedTuple):
    statuses: list[str]
    bid: float | None
    ask: float | None
    mid: Fraction | None


def truth_of(scene: Scene) -> Truth:
    newest = max((NOW - venue.age for venue in scene.venues), default=0)
    statuses, bids, asks = [], [], []
    for i, venue in enumerate(scene.venues):
        levels = venue.asks if scene.side == "buy" else venue.bids
        if scene.max_age is not None and newest - (NOW - venue.age) > scene.max_age:
            statuses.append("stale")
            continue
        if venue.bids and venue.asks and venue.bids[0][0] > venue.asks[0][0]:
            statuses.append("crossed")
            continue
        bids += [price for price, _ in venue.bids]
        asks += [price for price, _ in venue.asks]
        if f"V{i}" in scene.excluded:
            statuses.append("excluded")
        elif not levels:
            statuses.append("empty")
        elif not within_limit(scene, levels[0][0]):
            statuses.append("over_limit")
        else:
            statuses.append("ok")
    bid, ask = max(bids, default=None), min(asks, default=None)
    mid = None if bid is None or ask is None else (exact(bid) + exact(ask)) / 2
    return Truth(statuses, bid, ask, mid)


def within_limit(scene: Scene, price: float) -> bool:
    if scene.limit is None:
        return True
    return price <= scene.limit if scene.side == "buy" else price >= scene.limit


def offers_of(scene: Scene, truth: Truth) -> list[tuple[Fraction, int, int, int]]:
    """What may be taken: (signed price + fee, shares, venue, level), one entry a level."""
    offers = []
    for i, (venue, status) in enumerate(zip(scene.venues, truth.statuses, strict=True)):
        if status == "ok":
            levels = venue.asks if scene.side == "buy" else venue.bids
            for level, (price, size) in enumerate(levels[: None if scene.algorithm == "greedy_l2" else 1]):
                if within_limit(scene, price):
                    sign = 1 if scene.side == "buy" else -1
                    offers.append((sign * exact(price) + exact(venue.fee), size, i, level))
    return offers


def least_cash(scene: Scene, truth: Truth) -> tuple[int, Fraction]:
    """Shares that can be had, and the least cash for them: the cheapest first."""
    left, cash = scene.quantity, Fraction(0)
    for cost, size, _, _ in sorted(offers_of(scene, truth)):
        cash += min(left, size) * cost
        left -= min(left, size)
    return scene.quantity - left, cash


def best_by_enumeration(scene: Scene, truth: Truth) -> Fraction | None:
    """The least objective over all splits of the documented search space; None where none is searched."""
    offers = offers_of(scene, truth)
    if not offers or (scene.objective == "shortfall" and truth.mid is None):
        return None
    par, size = scene.parameters, scene.quantity
    reference = Fraction(0)
    if scene.objective == "shortfall":
        reference = truth.mid if scene.side == "buy" else -truth.mid
    under = exact(par.lambda_under) + exact(par.theta_queue)
    steps, rest = divmod(size, par.step)
    best = None
    for parts in itertools.product(range(steps + 1), repeat=len(offers)):
        if sum(parts) != steps:
            continue
        for odd in range(len(offers) if rest else 1):
            cost = Fraction(0)
            for i, ((price, shown, venue, _), part) in enumerate(zip(offers, parts, strict=True)):
                shares = part * par.step + (rest if i == odd else 0)
                taken = min(shares, shown)
                cost += taken * (price - reference)
                cost += (shares - taken) * (under - exact(scene.venues[venue].rebate))
            best = cost if best is None else min(best, cost)
    return best


def audit(scene: Scene, result: dict[str, Any]) -> Truth:
    """Check every key of a result; returns the truth."""
    VALIDATOR.validate(result)
    truth = truth_of(scene)
    sign = 1 if scene.side == "buy" else -1
    size, par = scene.quantity, scene.parameters
    assert result["symbol"] == "AAPL"
    assert result["order_size"] == size
    assert result["algorithm"] == scene.algorithm
    assert result["objective"] == scene.objective
    assert result["side"] == scene.side
    assert result["order"] == {"id": "o1", "parent_id": "p1"}
    assert result["parameters"] == {
        "lambda_over": par.lambda_over,
        "lambda_under": par.lambda_under,
        "theta_queue": par.theta_queue,
        "step": par.step,
    }
    assert result["source"] is result["stream"] is None

    # The book.
    assert [venue["status"] for venue in result["venues"]] == truth.statuses
    assert [venue["venue_id"] for venue in result["venues"]] == [f"V{i}" for i in range(len(scene.venues))]
    for venue, shown in zip(result["venues"], scene.venues, strict=True):
        assert (venue["fee"], venue["rebate"]) == (shown.fee, shown.rebate)
        assert (venue["ask"], venue["ask_size"]) == (shown.asks[0] if shown.asks else (None, 0))
        assert (venue["bid"], venue["bid_size"]) == (shown.bids[0] if shown.bids else (None, 0))
    state = (
        ("empty" if truth.bid is truth.ask else "one_sided")
        if truth.mid is None
        else "normal"
        if truth.bid < truth.ask
        else "locked"
        if truth.bid == truth.ask
        else "crossed"
    )
    assert (result["book"]["bid"], result["book"]["ask"]) == (truth.bid, truth.ask)
    assert result["book"]["state"] == state
    assert result["book"]["time"] == result["timestamp"]
    if truth.mid is None:
        assert result["reference_price"] is None
    else:
        assert Fraction(repr(result["reference_price"])) == truth.mid

    # Who gets what.
    assert result["allocation"] == [venue["allocation"] for venue in result["venues"]]
    sent, executed, cash, executed_cash = [0] * len(scene.venues), 0, Fraction(0), Fraction(0)
    places = set()
    for child in result["child_orders"]:
        i = int(child["venue_id"][1:])
        levels = scene.venues[i].asks if scene.side == "buy" else scene.venues[i].bids
        usable = levels if scene.algorithm == "greedy_l2" else levels[:1]
        sizes = [shown for price, shown in usable if price == child["price"]]
        assert sizes, "an order at a price that the venue does not show"
        assert truth.statuses[i] == "ok"
        assert child["side"] == scene.side
        assert within_limit(scene, child["price"])
        assert (i, child["price"], child["type"]) not in places
        places.add((i, child["price"], child["type"]))
        sent[i] += child["quantity"]
        if child["type"] == "market":
            assert child["quantity"] <= sum(sizes)
            executed += child["quantity"]
            executed_cash += child["quantity"] * (sign * exact(child["price"]) + exact(scene.venues[i].fee))
        else:
            assert scene.objective != "sweep"
            cash -= child["quantity"] * exact(scene.venues[i].rebate)
    cash += executed_cash
    assert sent == result["allocation"]

    # What it comes to.
    scale = float(abs(cash)) + size
    summary = result["execution_summary"]
    assert summary["total_executed"] == executed <= size
    assert summary["underfill"] == size - executed
    assert summary["overfill"] == 0
    assert summary["fill_rate"] == pytest.approx(executed / size, abs=0, rel=1e-15)
    assert near(summary["cash_spent"], cash, scale)
    fine = (size - executed) * (exact(par.theta_queue) + exact(par.lambda_under))
    assert near(result["total_cost"], cash + fine, scale)
    reference = Fraction(0)
    if scene.objective == "shortfall" and truth.mid is not None:
        reference = sign * truth.mid
    assert near(result["objective_value"], cash + fine - executed * reference, scale)
    if truth.mid is None:
        assert result["shortfall"] == {"dollars": None, "per_share": None, "bps": None}
    else:
        dollars = executed_cash - executed * sign * truth.mid
        assert near(result["shortfall"]["dollars"], dollars, scale)
        if executed:
            assert near(result["shortfall"]["per_share"], dollars / executed)
            assert near(result["shortfall"]["bps"], 10_000 * dollars / executed / truth.mid, 100)
        else:
            assert result["shortfall"] == {"dollars": 0.0, "per_share": None, "bps": None}

    # Whether it says so where nothing can be done.
    if "ok" not in truth.statuses:
        assert not any(result["allocation"])
        assert any(warning.startswith(f"nothing to {scene.side}") for warning in result["warnings"])
    elif scene.objective == "shortfall" and truth.mid is None:
        assert not any(result["allocation"])
        assert any("no mid" in warning for warning in result["warnings"])
    elif scene.objective == "sweep":
        shares, least = least_cash(scene, truth)
        assert executed == sum(result["allocation"]) == shares
        assert near(summary["cash_spent"], least, scale)
    else:
        assert sum(result["allocation"]) == size
    assert any("crossed" in warning for warning in result["warnings"]) == (state == "crossed" or _only_crossed(truth))
    assert any("locked" in warning for warning in result["warnings"]) == (state == "locked")
    return truth


def _only_crossed(truth: Truth) -> bool:
    return "ok" not in truth.statuses and "crossed" in truth.statuses


# --- books and orders ----------------------------------------------------------------------------------------------

FEES = [0.003, 0.0, 0.001, -0.0016, 0.00295]
REBATES = [0.002, 0.0, -0.003, 0.0016]


@st.composite
def levels(draw: Any, side: str, largest: int) -> list[tuple[float, int]]:
    """Levels around 100 dollars, now and then locked or crossed with those of the other side."""
    count = draw(st.integers(0, 4))
    ticks = sorted(draw(st.lists(st.integers(-1, 6), min_size=count, max_size=count, unique=True)))
    sign, middle = (1, 10_002) if side == "ask" else (-1, 10_000)
    return [((middle + sign * tick) / 100, draw(st.integers(1, largest))) for tick in ticks]


@st.composite
def scenes(draw: Any, objectives: tuple[str, ...] = ("sweep", "shortfall", "notional"), small: bool = False) -> Scene:
    algorithm = draw(st.sampled_from(["brute_force", "greedy_l2"])) if "sweep" in objectives else "brute_force"
    step = draw(st.sampled_from([1, 3] if small else [1, 7, 100, 10_000]))
    quantity = draw(st.integers(1, 5 * step) if small else st.integers(1, 3000))
    venues = [
        Shown(
            draw(levels("bid", 6 if small else 1500)),
            draw(levels("ask", 6 if small else 1500)),
            draw(st.sampled_from(FEES)),
            draw(st.sampled_from(REBATES)),
            draw(st.sampled_from([0, 0, SECOND, 3 * SECOND])),
        )
        for _ in range(draw(st.integers(1, 3 if small else 6)))
    ]
    penalty = st.sampled_from([0.005, 0.01, 0.0, 0.05, 0.0123, 150.0])
    return Scene(
        venues,
        draw(st.sampled_from(["buy", "sell"])),
        quantity,
        draw(st.none() | st.integers(9_996, 10_006).map(lambda cents: cents / 100)),
        algorithm,
        "sweep" if algorithm == "greedy_l2" else draw(st.sampled_from(objectives)),
        CostParameters(draw(penalty), draw(penalty), draw(st.sampled_from([0.002, 0.0])), step),
        draw(st.sampled_from([None, None, 0, SECOND])),
        frozenset(draw(st.sampled_from([[], [], ["V0"], ["V1", "V2"]]))),
    )


def market(*venues: tuple[float, int, float, int], **more: Any) -> Scene:
    """A scene of (bid, size, ask, size) venues without fees; a size of 0 shows nothing."""
    shown = [Shown([(bid, n)] if n else [], [(ask, m)] if m else []) for bid, n, ask, m in venues]
    return Scene(shown, **more)


# --- the result as a whole ------------------------------------------------------------------------------------------


@settings(max_examples=250)
@given(scenes())
@example(Scene([Shown([], [])]))
@example(Scene([Shown([(100.0, 5)], [(99.0, 5)])], "sell"))
def test_every_number_of_a_result_follows_from_the_book(scene):
    audit(scene, route(scene))


@settings(max_examples=120)
@given(scenes(("shortfall", "notional"), small=True))
def test_the_split_is_the_best_of_the_search_space(scene):
    result = route(scene)
    truth = audit(scene, result)
    best = best_by_enumeration(scene, truth)
    if best is None:
        assert not any(result["allocation"])
    else:
        assert near(result["objective_value"], best, 1000)
        assert all(
            q % scene.parameters.step in (0, scene.quantity % scene.parameters.step) for q in result["allocation"]
        )


@settings(max_examples=60)
@given(scenes(("sweep",)))
def test_a_sweep_is_the_optimum_of_the_linear_programme(scene):
    result = route(scene)
    offers = offers_of(scene, truth_of(scene))
    assume(offers)
    wanted = min(scene.quantity, sum(size for _, size, _, _ in offers))
    found = linprog(
        [float(cost) for cost, _, _, _ in offers],
        A_eq=np.ones((1, len(offers))),
        b_eq=[wanted],
        bounds=[(0, size) for _, size, _, _ in offers],
    )
    assert found.status == 0
    assert result["execution_summary"]["total_executed"] == wanted
    assert result["execution_summary"]["cash_spent"] == pytest.approx(found.fun, rel=1e-9, abs=1e-7)


def dyadic_levels(draw: Any, base: int, sign: int) -> list[tuple[float, int]]:
    ticks = sorted(draw(st.lists(st.integers(0, 5), max_size=4, unique=True)))
    return [((base + sign * tick) / 64, draw(st.integers(1, 900))) for tick in ticks]


@st.composite
def dyadic_scenes(draw: Any) -> Scene:
    """Numbers whose sums are exact in binary, so that a mirror changes nothing by rounding."""
    fees = st.integers(-8, 16).map(lambda n: n / 2**12)
    venues = [
        Shown(dyadic_levels(draw, 6400, -1), dyadic_levels(draw, 6401, 1), draw(fees), draw(fees))
        for _ in range(draw(st.integers(1, 5)))
    ]
    algorithm, objective = draw(
        st.sampled_from([("brute_force", "sweep"), ("greedy_l2", "sweep"), ("brute_force", "shortfall")])
    )
    penalties = CostParameters(
        0.25, draw(st.sampled_from([0.0, 1 / 128, 0.125])), 1 / 512, draw(st.sampled_from([1, 100]))
    )
    limit = draw(st.none() | st.integers(6396, 6406).map(lambda n: n / 64))
    return Scene(venues, "buy", draw(st.integers(1, 2500)), limit, algorithm, objective, penalties)


@settings(max_examples=200)
@given(dyadic_scenes(), st.sampled_from([100.0, 101.5, 250.0]))
def test_a_sell_is_the_mirror_image_of_a_buy(scene, centre):
    def mirrored(side: list[tuple[float, int]]) -> list[tuple[float, int]]:
        return [(2 * centre - price, size) for price, size in side]

    venues = [Shown(mirrored(v.asks), mirrored(v.bids), v.fee, v.rebate) for v in scene.venues]
    limit = None if scene.limit is None else 2 * centre - scene.limit
    bought, sold = route(scene), route(scene._replace(venues=venues, side="sell", limit=limit))
    assert sold["allocation"] == bought["allocation"]
    assert [v["status"] for v in sold["venues"]] == [v["status"] for v in bought["venues"]]
    for key in ("total_executed", "underfill", "overfill", "fill_rate"):
        assert sold["execution_summary"][key] == bought["execution_summary"][key]
    executed = bought["execution_summary"]["total_executed"]
    moved = executed * 2 * centre  # what the mirror adds to every share's price
    assert sold["execution_summary"]["cash_spent"] == pytest.approx(bought["execution_summary"]["cash_spent"] - moved)
    assert sold["total_cost"] == pytest.approx(bought["total_cost"] - moved, abs=1e-6)
    if scene.objective == "shortfall":
        assert sold["objective_value"] == bought["objective_value"]
    assert sold["shortfall"]["dollars"] == bought["shortfall"]["dollars"]
    assert sold["shortfall"]["per_share"] == bought["shortfall"]["per_share"]
    assert [(c["venue_id"], c["type"], c["quantity"]) for c in sold["child_orders"]] == [
        (c["venue_id"], c["type"], c["quantity"]) for c in bought["child_orders"]
    ]
    assert len(sold["warnings"]) == len(bought["warnings"])


@given(dyadic_scenes())
def test_greedy_and_exact_sweep_agree_where_only_the_touch_is_shown(scene):
    touch = [v._replace(bids=v.bids[:1], asks=v.asks[:1]) for v in scene.venues]
    exact_one = route(scene._replace(venues=touch, algorithm="brute_force", objective="sweep"))
    greedy = route(scene._replace(venues=touch, algorithm="greedy_l2", objective="sweep"))
    assert greedy["total_cost"] == pytest.approx(exact_one["total_cost"], rel=1e-12)


# --- examples that people can check ------------------------------------------------------------------------------


def test_a_buy_and_a_sell_with_their_signs():
    scene = market((99.98, 300, 100.00, 200), (99.97, 500, 100.02, 900))
    scene = scene._replace(venues=[v._replace(fee=0.003) for v in scene.venues], quantity=600)
    bought, sold = route(scene), route(scene._replace(side="sell"))
    assert bought["allocation"] == [200, 400]
    assert bought["execution_summary"]["cash_spent"] == pytest.approx(200 * 100.003 + 400 * 100.023)
    assert bought["reference_price"] == sold["reference_price"] == 99.99
    assert bought["shortfall"]["dollars"] == pytest.approx(200 * 0.013 + 400 * 0.033)
    assert sold["allocation"] == [300, 300]
    assert sold["execution_summary"]["cash_spent"] == pytest.approx(-300 * 99.977 - 300 * 99.967)
    assert sold["total_cost"] == sold["execution_summary"]["cash_spent"] < 0
    assert sold["shortfall"]["dollars"] == pytest.approx(300 * 0.013 + 300 * 0.023)
    assert sold["shortfall"]["bps"] == pytest.approx(0.018 / 99.99 * 1e4)
    assert bought["timestamp"] == NOW_TEXT


@pytest.mark.parametrize("algorithm", ["brute_force", "greedy_l2"])
@pytest.mark.parametrize(
    ("side", "limit", "status"),
    [("buy", 100.02, "ok"), ("buy", 100.01, "over_limit"), ("sell", 99.97, "ok"), ("sell", 99.98, "over_limit")],
)
def test_a_limit_is_inclusive_and_counts_no_fees(algorithm, side, limit, status):
    venues = [Shown([(99.97, 50)], [(100.02, 50)], 0.003), Shown([(99.99, 10)], [(100.0, 10)], 0.003)]
    scene = Scene(venues, side, 100, limit, algorithm)
    result = route(scene)
    audit(scene, result)
    assert [v["status"] for v in result["venues"]] == [status, "ok"]
    assert result["allocation"] == [50 if status == "ok" else 0, 10]


def test_greedy_l2_stops_at_the_limit_inside_a_venue():
    scene = Scene([Shown([], [(100.0, 10), (100.01, 20), (100.02, 40)])], limit=100.01, algorithm="greedy_l2")
    result = route(scene)
    assert result["allocation"] == [30]
    assert [(c["price"], c["quantity"]) for c in result["child_orders"]] == [(100.0, 10), (100.01, 20)]
    assert (result["venues"][0]["ask"], result["venues"][0]["ask_size"]) == (100.0, 10)  # the touch


def test_a_taker_earns_no_rebate():
    cheap = Shown([], [(100.0, 100)], 0.001, 0.0)
    dear = Shown([], [(100.0, 100)], 0.003, 0.9)
    for algorithm in ("brute_force", "greedy_l2"):
        assert route(Scene([dear, cheap], quantity=100, algorithm=algorithm))["allocation"] == [0, 100]


def test_an_inverted_venue_is_worth_a_tick_less():
    paying = Shown([], [(100.0, 100)], 0.003, 0.002)
    paid = Shown([], [(100.0, 100)], -0.0016, -0.003)
    result = route(Scene([paying, paid], quantity=100))
    assert result["allocation"] == [0, 100]
    assert result["execution_summary"]["cash_spent"] == pytest.approx(100 * 99.9984)


def test_crossed_and_locked_markets_are_reported_and_used():
    crossed = route(market((100.05, 10, 100.10, 10), (99.90, 10, 100.00, 10)))
    assert crossed["book"]["state"] == "crossed"
    assert crossed["warnings"] == ["market crossed: best bid 100.05 above best offer 100.0"]
    assert crossed["allocation"] == [10, 10]
    locked = route(market((100.0, 10, 100.10, 10), (99.90, 10, 100.00, 10)))
    assert locked["book"]["state"] == "locked"
    assert locked["warnings"] == ["market locked: best bid and offer both 100.0"]
    assert locked["reference_price"] == 100.0


def test_a_venue_crossed_in_itself_gets_nothing_and_sets_no_best_price():
    result = route(market((101.0, 10, 99.0, 10), (99.9, 10, 100.0, 10)))
    assert [v["status"] for v in result["venues"]] == ["crossed", "ok"]
    assert result["allocation"] == [0, 10]
    assert (result["book"]["bid"], result["book"]["ask"]) == (99.9, 100.0)
    assert result["book"]["state"] == "normal"


@pytest.mark.parametrize("algorithm", ["brute_force", "greedy_l2"])
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_nothing_displayed_is_an_answer_too(algorithm, side):
    other = [(100.0, 10)]
    shown = Shown(other if side == "buy" else [], [] if side == "buy" else other)
    for scene in (Scene([shown, Shown([], [])], side, algorithm=algorithm), Scene([], side, algorithm=algorithm)):
        result = route(scene)
        assert result["allocation"] == [0] * len(scene.venues)
        assert result["execution_summary"] == {
            "total_executed": 0, "underfill": 1000, "overfill": 0, "cash_spent": 0.0, "fill_rate": 0.0}  # fmt: skip
        assert result["total_cost"] == pytest.approx(1000 * 0.007)
        assert result["child_orders"] == []
        assert len(result["warnings"]) == 1
        VALIDATOR.validate(result)


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_shortfall_without_a_mid_routes_nothing(side):
    shown = [(100.0, 10)]
    scene = Scene([Shown([] if side == "buy" else shown, shown if side == "buy" else [])], side, objective="shortfall")
    result = route(scene)
    audit(scene, result)
    assert result["allocation"] == [0]
    assert result["execution_summary"]["fill_rate"] == 0
    assert result["reference_price"] is None


def test_stale_quotes_count_for_nothing():
    venues = [Shown([(99.9, 5)], [(100.0, 5)], age=2 * SECOND), Shown([(99.8, 5)], [(100.1, 5)])]
    for bound, statuses in ((2 * SECOND, ["ok", "ok"]), (2 * SECOND - 1, ["stale", "ok"]), (None, ["ok", "ok"])):
        result = route(Scene(venues, max_age=bound))
        assert [v["status"] for v in result["venues"]] == statuses
        assert result["book"]["ask"] == (100.0 if statuses[0] == "ok" else 100.1)
        assert (result["venues"][0]["ask"], result["venues"][0]["ask_size"]) == (100.0, 5)  # still shown


def test_excluded_venues_get_nothing_but_set_the_best_price():
    result = route(market((99.9, 5, 100.0, 5), (99.8, 5, 100.1, 5))._replace(excluded=frozenset({"V0"})))
    assert [v["status"] for v in result["venues"]] == ["excluded", "ok"]
    assert result["allocation"] == [0, 5]
    assert result["book"]["ask"] == 100.0


# --- the trap in the penalties --------------------------------------------------------------------------------------

TRAP = re.compile(r"not trading is cheaper.*lambda_under is (\S+), and the least that trades here is (\S+)")


def trap_of(result: dict[str, Any]) -> float | None:
    found = [match for warning in result["warnings"] if (match := TRAP.search(warning))]
    assert len(found) <= 1
    return float(found[0][2]) if found else None


def with_under(scene: Scene, lambda_under: float) -> Scene:
    old = scene.parameters
    return scene._replace(parameters=CostParameters(old.lambda_over, lambda_under, old.theta_queue, old.step))


def test_the_trap_of_the_readme():
    venues = [
        Shown([(100.09, 100)], [(100.10, 500)], 0.003, 0.002),
        Shown([], [(100.11, 300)], 0.002, 0.0015),
        Shown([], [(100.12, 800)], 0.0025, 0.001),
    ]
    result = route(Scene(venues, objective="notional"))
    assert result["allocation"] == [0, 1000, 0]
    assert result["total_cost"] == result["objective_value"] == pytest.approx(30_037.45)
    assert trap_of(result) is not None
    assert [(c["type"], c["quantity"]) for c in result["child_orders"]] == [("market", 300), ("limit", 700)]


@st.composite
def trapped(draw: Any, cents: int, rebates: list[float]) -> Scene:
    """Books where trading is worth its while from some lambda_under on; sizes on the grid."""
    venues = [
        Shown(
            [((cents - draw(st.integers(1, 5))) / 100, 100)],
            [((cents + draw(st.integers(1, 5))) / 100, 100 * draw(st.integers(1, 8)))],
            draw(st.sampled_from(FEES)),
            draw(st.sampled_from(rebates)),
        )
        for _ in range(draw(st.integers(2, 4)))
    ]
    objective = draw(st.sampled_from(["shortfall", "notional"]))
    return Scene(venues, quantity=5000, objective=objective, parameters=CostParameters(0.01, -5000.0, 0.002, 100))


def cheapest_is_taken(scene: Scene, result: dict[str, Any]) -> bool:
    offers = offers_of(scene, truth_of(scene))
    least = min(cost for cost, _, _, _ in offers)
    return all(result["allocation"][i] >= size for cost, size, i, _ in offers if cost == least)


@pytest.mark.parametrize(
    ("cents", "rebates"),
    [(1_234, [0.002]), (450_037, [-0.003]), (1_234, REBATES)],
    ids=["one rebate", "a dear stock", "several rebates"],
)
@given(data=st.data())
def test_the_least_lambda_under_that_trades_is_what_it_says(cents, rebates, data):
    scene = data.draw(trapped(cents, rebates))
    least = trap_of(route(scene))
    assert least is not None
    below = route(with_under(scene, least - 2e-4))
    assert trap_of(below) is not None, "a little less, and it is still said"
    assert sum(q > 0 for q in below["allocation"]) == 1 or len(rebates) > 1
    above = route(with_under(scene, least + 2e-4))
    assert trap_of(above) is None, "a little more, and the warning goes"
    assert cheapest_is_taken(scene, above), "a little more, and it trades"


@given(scenes(("sweep",)))
def test_a_sweep_never_complains_of_the_penalties(scene):
    assert trap_of(route(scene)) is None


# --- the call ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["shortfall", "notional"])
def test_greedy_l2_knows_no_other_objective(objective):
    with pytest.raises(InputError, match=f"objective is '{objective}'.*must be sweep"):
        Router(algorithm="greedy_l2", objective=objective)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"algorithm": "best"}, "algorithm"), ({"objective": "x"}, "objective"), ({"max_quote_age": -1}, "max_quote_age"),
     ({"max_quote_age": 1.5}, "max_quote_age")],
)  # fmt: skip
def test_a_wrong_router_is_refused(arguments, name):
    with pytest.raises(InputError, match=f"{name} is {next(iter(arguments.values()))!r}: it must be"):
        Router(**arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("", "buy", 1), "symbol"), ((None, "buy", 1), "symbol"), (("A", "hold", 1), "side"),
        (("A", "buy", 0), "quantity"), (("A", "buy", -5), "quantity"), (("A", "buy", 1.5), "quantity"),
        (("A", "buy", "100"), "quantity"), (("A", "buy", math.nan), "quantity"), (("A", "buy", 10**17), "quantity"),
        (("A", "buy", 1, 0), "limit_price"), (("A", "buy", 1, -1.0), "limit_price"),
        (("A", "buy", 1, math.nan), "limit_price"), (("A", "buy", 1, "9"), "limit_price"),
        (("A", "buy", 1, math.inf), "limit_price"),
    ],
)  # fmt: skip
def test_a_wrong_order_is_refused(arguments, name):
    with pytest.raises(InputError, match=f"{name} is .*: it must be"):
        Order(*arguments)


@pytest.mark.parametrize("number", [float, np.int64, np.float64], ids=["float", "numpy int64", "numpy float64"])
def test_whole_numbers_of_other_types_serialise_as_whole_numbers(number):
    """A float or a numpy number will do where it is whole (`sor.types.whole_number`): then all the way."""
    book = Book("AAPL")
    book.quote("V0", asks=[(100.0, number(50))])
    parameters = CostParameters(step=number(100))
    result = Router(parameters).route(Order("AAPL", "buy", number(200)), book)
    line = result.to_json()
    VALIDATOR.validate(json.loads(line))
    for text in (b'"order_size":200,', b'"ask_size":50,', b'"step":100}', b'"allocation":[50]'):
        assert text in line


def test_numpy_prices_serialise():
    book = Book("AAPL")
    book.quote("V0", asks=[(np.float64(100.0), 50)], bids=np.array([[99.0, 10.0], [98.0, 20.0]]).tolist())
    result = Router().route(Order("AAPL", "buy", 20, np.float64(101.0)), book)
    assert json.loads(result.to_json())["book"]["ask"] == 100.0


def test_the_largest_order_is_routed_like_any_other():
    scene = market((99.0, 5, 100.0, 5), (99.0, 5, 100.0, 5), objective="notional", quantity=2**53)
    assert sum(route(scene)["allocation"]) == 2**53
    assert route(scene._replace(objective="sweep"))["allocation"] == [5, 5]


def test_ids_and_sources_are_carried():
    book = book_of([Shown([(99.0, 1)], [(100.0, 1)])])
    source = {"file": "a.csv", "line": 2}
    stream = {"lag": 3, "age_ms": 2, "conflated": 0}
    line = Router().route(Order("AAPL", "buy", 1, id="x", parent_id="y"), book, source=source, stream=stream).to_json()
    result = json.loads(line)
    VALIDATOR.validate(result)
    assert (result["order"], result["source"], result["stream"]) == ({"id": "x", "parent_id": "y"}, source, stream)
    assert b"\n" not in line


@settings(max_examples=30)
@given(scenes())
def test_the_same_question_gets_the_same_answer(scene):
    assert route(scene) == route(scene)


# --- schema --------------------------------------------------------------------------------------------------------


def test_keys_stand_in_the_documented_order():
    result = route(market((99.0, 1, 100.0, 1)))
    described = [name for name in SCHEMA["properties"] if name not in NOT_ALWAYS]
    assert list(result) == FIRST_KEYS == described == SCHEMA["required"]
    assert FIRST_KEYS[-1] == "source"
    for key, names in KEYS.items():
        part, described = result[key], SCHEMA["properties"][key]
        if isinstance(part, list):
            part, described = part[0], described["items"]
        told = [name for name in described["properties"] if name != "iso"]
        assert list(part) == names.split() == told
        assert described["required"] == [name for name in told if name not in NOT_ALWAYS]


def test_the_schema_describes_every_key_and_forbids_others():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def walk(node: dict[str, Any], path: str) -> int:
        if "anyOf" in node:
            assert node.get("description") or "|" in path or path.endswith("stream"), path
            choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
            if choices[0].get("type") == "object":
                return sum(walk(choice, f"{path}|") for choice in choices)
            return 1
        if "items" in node:
            return walk(node["items"], path)
        assert node.get("description"), path
        if node.get("type") != "object":
            return 1
        assert node["additionalProperties"] is False, path
        assert node["required"] == [name for name in node["properties"] if name not in NOT_ALWAYS], path
        return sum(walk(child, f"{path}.{name}") for name, child in node["properties"].items())

    assert walk(SCHEMA, "result") >= 50
    result = route(market((99.0, 1, 100.0, 1)))
    for spoil in (
        lambda r: r.pop("source"),
        lambda r: r.update(extra=1),
        lambda r: r["venues"][0].update(status="fine"),
        lambda r: r["book"].update(bid=0.0),
        lambda r: r.update(timestamp="2024-08-01T13:36:32Z"),
        lambda r: r["execution_summary"].update(fill_rate=1.1),
        lambda r: r.update(source={"file": "a"}),
    ):
        spoiled = json.loads(json.dumps(result))
        spoil(spoiled)
        assert not VALIDATOR.is_valid(spoiled)
    assert VALIDATOR.is_valid(result)


def test_the_committed_schema_is_that_of_the_structs():
    """`python tools/schema.py` writes it anew; what it says of sizes, the structs and the JSON do."""
    line = route(market((99.0, 1, 100.0, 1)))
    assert [type(line["venues"][0][name]) for name in ("bid_size", "ask_size")] == [int, int]
    assert schema.COMMITTED.read_text(encoding="utf-8") == schema.written()


# --- both twins, whole files ---------------------------------------------------------------------------------------


def replayed(path: Path, pure: bool, *options: str) -> bytes:
    environment = {**os.environ, "SOR_PURE_PYTHON": "1" if pure else "0"}
    environment.pop("SOR_REQUIRE_EXT", None)
    run = subprocess.run(
        [sys.executable, "-m", "sor", "replay", str(path), *options],
        capture_output=True, check=True, timeout=60, env=environment, cwd=CHECKOUT,
    )  # fmt: skip
    assert (b"kernels python" if pure else b"kernels cython") in run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def compiled() -> None:
    if os.environ.get("SOR_REQUIRE_EXT", "0") in ("", "0"):
        pytest.importorskip("sor._core", exc_type=ImportError)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--greedy-l2", "--side", "sell"),
        ("--objective", "shortfall", "--order-size", "1234", "--lambda-under", "0.01"),
    ],
    ids=["sweep", "greedy_l2", "shortfall"],
)
def test_both_twins_give_the_same_bytes_on_the_sample(options):
    options = (*options, "--max-messages", "600")
    fast, slow = (replayed(CHECKOUT / "sample.csv", pure, *options) for pure in (False, True))
    assert fast == slow
    assert fast.count(b"\n") == 600


@pytest.mark.usefixtures("compiled")
def test_both_twins_give_the_same_bytes_on_recorded_quotes(shared):
    recorded = shared / "data" / "lean_ibm_20131007_mbp-1.csv.gz"
    fast, slow = (replayed(recorded, pure, "--max-messages", "5000") for pure in (False, True))
    assert fast == slow
    assert fast.count(b"\n") == 5000
    for line in fast.splitlines()[::250]:
        VALIDATOR.validate(json.loads(line))


def test_an_order_for_another_symbol_is_refused():
    with pytest.raises(InputError, match=r"order is for 'MSFT': it must be for the book's symbol, 'AAPL'"):
        Router().route(Order("MSFT", "buy", 1), Book("AAPL"))


def test_one_text_is_no_collection_of_venues():
    with pytest.raises(InputError, match="exclude_venues is 'XNAS'"):
        Router(exclude_venues="XNAS")


@pytest.mark.parametrize("name", ["lambda_over", "lambda_under", "theta_queue"])
def test_penalties_that_a_placement_refuses_are_refused_before_the_first_message(name):
    with pytest.raises(InputError, match=rf"{name} is -0.0005: it must be a number from 0 to 1e\+12"):
        Router(CostParameters(**{name: -0.0005}), "cont_kukanov")
    assert Router(CostParameters(**{name: -0.0005}), "greedy_l2").parameters


def test_an_order_larger_than_a_placement_takes_is_refused():
    book, router = book_of([Shown([(99.0, 1)], [(100.0, 1)])]), Router(algorithm="cont_kukanov")
    with pytest.raises(InputError, match=f"quantity is {10**12 + 1}: it must be a whole number from 1 to {10**12}"):
        router.route(Order("AAPL", "buy", 10**12 + 1), book)
    assert router.route(Order("AAPL", "buy", 10**12), book).execution_summary.total_executed == 1


# --- copies and threads ----------------------------------------------------------------------------------------------


def same_by_pickle(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301


@pytest.mark.parametrize("same", [copy.copy, copy.deepcopy, same_by_pickle])
@pytest.mark.parametrize("algorithm", ["brute_force", "greedy_l2", "cont_kukanov"])
def test_copies_of_routers_orders_and_results_are_as_good(same, algorithm):
    book = book_of([Shown([(99.0, 1)], [(100.0, 1)])])
    router = Router(CostParameters(step=7), algorithm, max_quote_age=5, exclude_venues={"X"}, min_windows=3)
    order = Order("AAPL", "buy", 3, 100.5, "id", "parent")
    result = router.route(order, book)
    assert same(order) == order
    assert vars(same(router)) == vars(router)
    assert same(router).route(same(order), book).to_json() == result.to_json()
    assert same(result) == result
    assert same(result).to_json() == result.to_json()


def test_a_result_that_was_changed_says_so():
    """The router keeps the text of venues that have not changed: it must not outlive them."""
    result = Router().route(Order("AAPL", "buy", 1), book_of([Shown([(99.0, 1)], [(100.0, 1)])]))
    changed = msgspec.structs.replace(result, venues=(), warnings=["what if"])
    assert json.loads(changed.to_json())["venues"] == []
    assert changed.to_json() == msgspec.json.encode(changed)
    assert result.to_json() == msgspec.json.encode(result)
    result.child_orders.clear()
    result.allocation[0] = 0
    assert json.loads(result.to_json())["child_orders"] == []
    assert result.to_json() == msgspec.json.encode(result)


def test_an_order_that_a_venue_gets_again_says_what_it_is_now():
    """The router keeps that text, too."""
    book = book_of([Shown([(99.0, 5)], [(100.0, 5), (100.5, 5)]), Shown([(99.0, 5)], [(100.25, 5)])])
    for algorithm in ("brute_force", "greedy_l2"):
        router = Router(algorithm=algorithm)
        for side, quantity in (("buy", 9), ("buy", 9), ("buy", 8), ("sell", 8), ("buy", 15), ("buy", 3), ("sell", 3)):
            result = router.route(Order("AAPL", side, quantity), book)
            assert result.to_json() == msgspec.json.encode(result)
            assert {child.side for child in result.child_orders} == {side}
            assert sum(child.quantity for child in result.child_orders) == min(quantity, sum(result.allocation))


def test_books_and_routers_of_their_own_work_in_threads():
    """Nothing is shared but what does not change; a book is for one thread at a time."""

    def work(seed):
        rng, book, lines = random.Random(seed), Book("AAPL"), []
        router = Router(objective=rng.choice(["sweep", "shortfall"]))
        for _ in range(300):
            price = 100 + rng.randrange(100) / 100
            book.quote(f"V{rng.randrange(5)}", bids=[(price - 1, rng.randrange(1, 99))], asks=[(price, 50)])
            order = Order("AAPL", rng.choice(["buy", "sell"]), rng.randrange(1, 200))
            lines.append(router.route(order, book).to_json())
        return lines

    wanted = [work(seed) for seed in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(8))) == wanted
    finally:
        sys.setswitchinterval(interval)
