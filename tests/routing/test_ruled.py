"""Venue rules and protected quotations in `Router`: splits, orders, costs and reasons, against every plan there is."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sor.models.static
from sor import (
    Book,
    CostParameters,
    InputError,
    Instrument,
    Level2Venue,
    Order,
    Router,
    RoutingResult,
    Venue,
    VenueRules,
    allocate,
    allocate_exhaustive,
    allocate_greedy_l2,
)
from sor.market.policy import Policy

on_one_twin = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the same for all examples
each_twin = pytest.mark.usefixtures("on_each_twin")

MILL = 0.001  # dollars; all money below is whole mills
LAMBDA_UNDER, THETA = 5, 2  # mills
ROUND = 3  # shares of a round lot, so that every plan can be looked at
PARAMETERS = CostParameters(0.01, LAMBDA_UNDER * MILL, THETA * MILL)
UNUSABLE = ("empty", "stale", "excluded", "over_limit", "crossed")


class Shop(NamedTuple):
    """A venue: (price in mills, shares) from the best level on, a fee in mills, what it takes."""

    name: str
    levels: list[tuple[int, int]]
    fee: int
    rules: dict[str, Any]  # those of `VenueRules`; ticket and min_notional in mills
    exchange: bool = True
    excluded: bool = False

    def rule(self, name: str) -> int:
        return int(self.rules.get(name) or {"lot": 1}.get(name, 0))

    @property
    def most(self) -> float:
        found = self.rules.get("max_quantity")
        return math.inf if found is None else found

    @property
    def ruled(self) -> bool:
        return any(self.rules.get(name) not in (None, neutral) for name, neutral in NEUTRAL.items())

    def as_rules(self) -> VenueRules | None:
        money = {name: self.rules[name] * MILL for name in ("ticket", "min_notional") if name in self.rules}
        return VenueRules(**(self.rules | money)) if self.rules else None


NEUTRAL = {"lot": 1, "min_quantity": 0, "min_notional": 0, "min_execution": 0, "max_quantity": None, "ticket": 0}


class Scene(NamedTuple):
    shops: list[Shop]
    size: int
    side: str
    limit: int | None = None  # mills
    mid: bool = True  # whether the other side shows something

    @property
    def sign(self) -> int:
        return 1 if self.side == "buy" else -1

    def shown(self, shop: Shop) -> list[tuple[int, int]]:
        """Levels that an order may take."""
        if shop.excluded:
            return []
        return [level for level in shop.levels if self.limit is None or self.sign * level[0] <= self.sign * self.limit]

    def book(self, instrument: Instrument | None = None) -> Book:
        book = Book("T", instrument=instrument)
        for shop in self.shops:
            levels = [(price * MILL, size) for price, size in shop.levels]
            far = [(1.0 if self.side == "buy" else 100.0, 100)] if self.mid else []
            bids, asks = (far, levels) if self.side == "buy" else (levels, far)
            book.quote(
                shop.name, bids=bids, asks=asks, fee=shop.fee * MILL, rules=shop.as_rules(), exchange=shop.exchange
            )
        return book

    def order(self) -> Order:
        limit = None if self.limit is None else self.limit * MILL
        return Order("T", self.side, self.size, limit)  # type: ignore[arg-type]

    def routed(self, algorithm: Any = "greedy_l2", objective: Any = "sweep", **more: Any) -> RoutingResult:
        excluded = [shop.name for shop in self.shops if shop.excluded]
        router = Router(PARAMETERS, algorithm, objective, exclude_venues=excluded, **more)
        return router.route(self.order(), self.book())


# --- truth: every plan, in whole mills -------------------------------------------------------------------------------


class Plan(NamedTuple):
    sent: tuple[int, ...]  # shares by shop
    cost: int  # mills, tickets and penalties inside
    worst: float  # signed price, mills

    @property
    def filled(self) -> int:
        return sum(self.sent)


def fills(levels: list[tuple[int, int]], shares: int) -> list[tuple[int, int]]:
    """(price, shares) of an order that takes so many, the best level first."""
    found = []
    for price, size in levels:
        if shares:
            found.append((price, min(size, shares)))
            shares -= found[-1][1]
    assert not shares
    return found


def takes(shop: Shop, shares: int, worth: int) -> bool:
    return (
        shares % shop.rule("lot") == 0
        and shares >= max(shop.rule("min_quantity"), shop.rule("min_execution"))
        and shares <= shop.most
        and worth >= shop.rule("min_notional")
    )


def permitted(shop: Shop, levels: list[tuple[int, int]], size: int) -> list[int]:
    most = min(size, sum(number for _, number in levels))
    orders = range(1, most + 1)
    return [q for q in orders if takes(shop, q, sum(price * n for price, n in fills(levels, q)))]


def plans(scene: Scene, reference: int = 0) -> Iterator[Plan]:
    """All that keep the rules; ``reference``, a signed price, is what prices are measured against."""
    choices = []
    for shop in scene.shops:
        levels, some = scene.shown(shop), [(0, 0, -math.inf)]
        for q in permitted(shop, levels, scene.size):
            taken = fills(levels, q)
            cash = sum((scene.sign * price + shop.fee - reference) * n for price, n in taken)
            some.append((q, cash + shop.rule("ticket"), scene.sign * taken[-1][0]))
        choices.append(some)
    for choice in itertools.product(*choices):
        filled = sum(q for q, _, _ in choice)
        if filled <= scene.size:
            missing = (LAMBDA_UNDER + THETA) * (scene.size - filled)
            cost = sum(dollars for _, dollars, _ in choice) + missing
            yield Plan(tuple(q for q, _, _ in choice), cost, max(price for _, _, price in choice))


def optimum(scene: Scene) -> Plan:
    """Most shares first, least cost second."""
    return min(plans(scene), key=lambda plan: (-plan.filled, plan.cost))


class Guarded(NamedTuple):
    """A protected quotation."""

    shop: int
    price: int  # signed
    size: int
    sendable: bool


def protected(scene: Scene) -> list[Guarded]:
    """The best quotations of exchanges, of a round lot or more; an odd lot beyond it only where it may be sent."""
    found = []
    for i, shop in enumerate(scene.shops):
        if not shop.exchange or not shop.levels or shop.levels[0][1] < ROUND:
            continue
        price, size = shop.levels[0]
        usable = bool(scene.shown(shop))
        if usable and not takes(shop, size, price * size):
            size -= size % ROUND
        orders = [q for q in range(1, scene.size + 1) if takes(shop, q, price * q)]
        sendable = usable and takes(shop, size, price * size) and bool(orders)
        found.append(Guarded(i, scene.sign * price, size, sendable))
    return found


def guarded_optimum(scene: Scene) -> Plan:
    """The same of the plans that take in full each protected quotation better than their worst price."""
    guards = [one for one in protected(scene) if one.sendable]
    kept = (
        plan
        for plan in plans(scene)
        if all(one.price >= plan.worst or plan.sent[one.shop] >= one.size for one in guards)
    )
    return min(kept, key=lambda plan: (-plan.filled, plan.cost))


# --- scenes ----------------------------------------------------------------------------------------------------------


@st.composite
def rules(draw: Any) -> dict[str, Any]:
    each = {
        "lot": st.sampled_from([2, 3, 4, 5]),
        "min_quantity": st.integers(1, 6),
        "min_notional": st.sampled_from([1, 20_000, 35_000, 50_060]),
        "min_execution": st.integers(1, 6),
        "max_quantity": st.integers(0, 8),
        "ticket": st.sampled_from([1, 10, 30, 200]),
    }
    names = draw(st.lists(st.sampled_from(sorted(each)), max_size=3, unique=True))
    return {name: draw(each[name]) for name in names}


@st.composite
def scenes(draw: Any, levels: int = 2, shops: int = 4, ruled: bool = True) -> Scene:
    side = draw(st.sampled_from(["buy", "sell"]))
    sign = 1 if side == "buy" else -1
    found = []
    for i in range(draw(st.integers(1, shops))):
        steps = draw(st.lists(st.integers(0, 4), min_size=1, max_size=levels, unique=True))
        some = [(10_000 + 10 * sign * step, draw(st.integers(1, 7))) for step in sorted(steps)]
        own = draw(rules()) if ruled else {}
        kinds = draw(st.sampled_from([(True, False), (True, False), (True, False), (False, False), (True, True)]))
        found.append(Shop(f"V{i}", some, draw(st.sampled_from([0, 0, 1, 3, -2, 13])), own, *kinds))
    limit = draw(st.sampled_from([None, None, 10_000 + 20 * sign]))
    return Scene(found, draw(st.integers(1, 14)), side, limit)


def plan_of(scene: Scene, result: RoutingResult) -> Plan:
    """The plan of a result, whose shares, orders and sums are looked at one by one."""
    cash, worst, children = 0, -math.inf, []
    for shop, venue in zip(scene.shops, result.venues, strict=True):
        assert venue.venue_id == shop.name
        if not venue.allocation:
            continue
        levels, q = scene.shown(shop), int(venue.allocation)
        assert q in permitted(shop, levels, scene.size), (shop, q)
        taken = fills(levels, q)
        cash += sum((scene.sign * price + shop.fee) * n for price, n in taken) + shop.rule("ticket")
        worst = max(worst, scene.sign * taken[-1][0])
        children += [(shop.name, taken[-1][0], q)] if shop.ruled else [(shop.name, *one) for one in taken]
    sent = [(one.venue_id, round(one.price / MILL), one.quantity) for one in result.child_orders]
    assert sent == children
    assert {(one.type, one.side) for one in result.child_orders} <= {("market", scene.side)}
    plan = Plan(tuple(int(q) for q in result.allocation), cash, worst)
    done, missing = result.execution_summary, scene.size - plan.filled
    assert (done.total_executed, done.underfill, done.overfill) == (plan.filled, missing, 0)
    assert done.cash_spent == pytest.approx(cash * MILL, abs=2e-8)
    penalties = (LAMBDA_UNDER + THETA) * missing
    assert result.total_cost == pytest.approx((cash + penalties) * MILL, abs=2e-8)
    mid = result.reference_price
    if mid is None:
        assert result.shortfall.dollars is None
    else:
        at_mid = plan.filled * scene.sign * mid
        assert result.shortfall.dollars == pytest.approx(cash * MILL - at_mid, abs=2e-8)
    return plan._replace(cost=cash + penalties)


# --- the split -------------------------------------------------------------------------------------------------------


@each_twin
@on_one_twin
@given(scene=scenes())
def test_a_sweep_takes_the_most_and_then_the_cheapest(scene: Scene) -> None:
    result, best = scene.routed(), optimum(scene)
    plan = plan_of(scene, result)
    assert (plan.filled, plan.cost) == (best.filled, best.cost)
    assert result.objective_value == result.total_cost
    given_by = [
        Level2Venue(
            shop.name,
            [(scene.sign * price * MILL, size) for price, size in scene.shown(shop)] or [(scene.sign * 10.0, 0)],
            shop.fee * MILL,
            0.0,
            **told(shop),
        )
        for shop in scene.shops
    ]
    split, cost = allocate_greedy_l2(scene.size, given_by, 0.01, LAMBDA_UNDER * MILL, THETA * MILL)
    assert sum(split) == plan.filled
    assert cost == pytest.approx(result.total_cost, abs=2e-8)
    missing = sum(size for shop in scene.shops for _, size in scene.shown(shop)), scene.size
    warned = [words for words in result.warnings if "are not taken by rules" in words]
    assert len(warned) == (min(missing) > plan.filled)
    assert all(words.startswith(f"{min(missing) - plan.filled} of the displayed") for words in warned)


def told(shop: Shop) -> dict[str, Any]:
    return {name: value for name, value in vars_of(shop.as_rules()).items() if name in NEUTRAL}


def vars_of(found: VenueRules | None) -> dict[str, Any]:
    return {} if found is None else {name: getattr(found, name) for name in found.__struct_fields__}


@each_twin
@on_one_twin
@given(scene=scenes(levels=1, shops=3))
def test_best_quotes_are_split_as_by_the_allocators(scene: Scene) -> None:
    result, best = scene.routed("brute_force"), optimum(scene)
    plan = plan_of(scene, result)
    assert (plan.filled, plan.cost) == (best.filled, best.cost)
    venues = [
        Venue(
            scene.sign * shop.levels[0][0] * MILL,
            scene.shown(shop)[0][1] if scene.shown(shop) else 0,
            shop.fee * MILL,
            0.0,
            **told(shop),
        )
        for shop in scene.shops
    ]
    penalties = 0.01, LAMBDA_UNDER * MILL, THETA * MILL
    for answer in (
        allocate(scene.size, venues, *penalties, resting=False),
        allocate_exhaustive(scene.size, venues, *penalties, resting=False),
    ):
        assert sum(answer.split) == plan.filled
        assert answer.cost == pytest.approx(result.total_cost, abs=2e-8)


@each_twin
@on_one_twin
@given(scene=scenes(levels=1), under=st.sampled_from([0, 5, 20, 60, 3_000]))
def test_a_shortfall_weighs_penalties_against_tickets(scene: Scene, under: int) -> None:
    """Over displayed shares, with prices against the mid; where no venue has rules the rest may rest."""
    if not any(shop.as_rules() for shop in scene.shops):
        return
    router = Router(
        CostParameters(0.01, under * MILL, THETA * MILL),
        objective="shortfall",
        exclude_venues=[shop.name for shop in scene.shops if shop.excluded],
    )
    result = router.route(scene.order(), scene.book())
    reference = scene.sign * round(result.reference_price / MILL * 10) / 10  # type: ignore[operator]

    def value(plan: Plan) -> float:
        return plan.cost - reference * plan.filled + (under - LAMBDA_UNDER) * (scene.size - plan.filled)

    best = min(map(value, plans(scene)))
    found = next(plan for plan in plans(scene) if plan.sent == tuple(result.allocation))
    assert value(found) == pytest.approx(best, abs=1e-6)
    assert result.objective_value == pytest.approx(best * MILL, abs=2e-8)
    true_cost = found.cost + (under - LAMBDA_UNDER) * (scene.size - found.filled)
    assert result.total_cost == pytest.approx(true_cost * MILL, abs=2e-8)
    for shop, venue in zip(scene.shops, result.venues, strict=True):
        check_reason(scene, shop, venue, result, under + THETA + reference)


@given(scene=scenes(levels=1))
def test_without_a_mid_no_shortfall_is_measured(scene: Scene) -> None:
    result = scene._replace(mid=False).routed("brute_force", "shortfall")
    assert result.allocation == [0] * len(scene.shops)
    assert any(words.startswith("no mid") for words in result.warnings)
    for venue in result.venues:
        assert venue.reason.code == ("unmeasured" if venue.status == "ok" else venue.status)


@given(scene=scenes())
def test_rules_and_the_notional_do_not_go_together(scene: Scene) -> None:
    if any(shop.as_rules() for shop in scene.shops):
        with pytest.raises(InputError, match="objective is 'notional', and venues have rules"):
            scene.routed("brute_force", "notional")


@given(scene=scenes(ruled=False), plan=st.sampled_from([("greedy_l2", "sweep"), ("brute_force", "shortfall")]))
def test_rules_that_are_over_leave_nothing_behind(scene: Scene, plan: tuple[str, str]) -> None:
    """A book that is rebuilt after them gives the same bytes."""
    before = scene._replace(shops=[shop._replace(rules={"lot": 5, "ticket": 30}) for shop in scene.shops]).book()
    for quote in scene.book().quotes:
        before.show(quote.order, quote.venue_id, quote.bids, quote.asks, quote.rates, quote.time)
    router = Router(PARAMETERS, *plan)  # type: ignore[arg-type]
    assert router.route(scene.order(), before).to_json() == router.route(scene.order(), scene.book()).to_json()


@given(scene=scenes())
def test_a_copy_keeps_the_rules(scene: Scene) -> None:
    book, router = scene.book(), Router(PARAMETERS, "greedy_l2")
    wanted = router.route(scene.order(), book).to_json()
    for other in (copy.copy(book), copy.deepcopy(book), pickle.loads(pickle.dumps(book))):  # noqa: S301
        assert router.route(scene.order(), other).to_json() == wanted


# --- protected quotations --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A round lot is three shares at any time and price."""
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_text(
        f"schema_version = 1\n[[round_lot]]\ntiers = [{{ lot = {ROUND} }}]\n"
        "sure = true\nverified = true\nsource = 'made up'\n"
    )
    return Policy.load(path)


def traded_through(result: RoutingResult) -> list[str]:
    found = (re.search(r" on (\w+) is traded through: ", words) for words in result.warnings)
    return [one[1] for one in found if one]


@each_twin
@on_one_twin
@given(scene=scenes(), algorithm=st.sampled_from(["greedy_l2", "greedy_l2", "brute_force"]))
def test_no_share_is_taken_before_a_better_protected_quotation(scene: Scene, algorithm: str, policy: Policy) -> None:
    if algorithm == "brute_force":
        scene = scene._replace(shops=[shop._replace(levels=shop.levels[:1]) for shop in scene.shops])
    result = scene.routed(algorithm, protect="nbbo", policy=policy)
    plan, best = plan_of(scene, result), guarded_optimum(scene)
    guards = protected(scene)
    assert all(one.price >= plan.worst or plan.sent[one.shop] >= one.size for one in guards if one.sendable)
    assert (plan.filled, plan.cost) == (best.filled, best.cost)
    better = [one for one in guards if one.price < plan.worst]
    assert {one.iso for one in result.child_orders} <= ({True} if better else {sor.routing.result.msgspec.UNSET})
    assert traded_through(result) == [scene.shops[one.shop].name for one in better if not one.sendable]
    for shop, venue in zip(scene.shops, result.venues, strict=True):
        check_reason(scene, shop, venue, result, None, guarded=True)


@given(scene=scenes())
def test_where_the_policy_protects_nothing_that_is_all_that_is_said(scene: Scene, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "off.toml"
    path.write_text("schema_version = 1\n[choice]\nprotected = 'off'\n")
    off = scene.routed(protect="nbbo", policy=Policy.load(path))
    free = scene.routed()
    told = "protect is nbbo, and by the policy no quotation is protected at this time"
    assert told in off.warnings
    off.warnings.remove(told)
    assert off.to_json() == free.to_json()


@pytest.mark.parametrize(
    ("day", "price", "round_lot"),
    [
        ("2024-08-01", 100.0, 100),
        ("2024-08-01", 400.0, 100),
        ("2026-01-02", 250.0, 100),
        ("2026-01-02", 400.0, 40),
        ("2026-01-02", 2_000.0, 10),
        ("2026-01-02", 20_000.0, 1),
    ],
)
def test_odd_lots_are_not_protected(day: str, price: float, round_lot: int) -> None:
    """By the round lot of the day at the quotation's price; the cheaper total is at the worse price."""
    from sor.market.fields import time_of

    time = time_of("time", f"{day}T15:00:00Z")
    for shown in {round_lot - 1, round_lot} - {0}:
        book = Book("T")
        book.quote("A", bids=[(price - 0.02, 100)], asks=[(price, shown)], fee=0.02, time=time)
        book.quote("B", asks=[(price + 0.01, 500)], time=time)
        result = Router(protect="nbbo").route(Order("T", "buy", 200), book)
        guarded = shown == round_lot
        assert result.allocation == ([shown, 200 - shown] if guarded else [0, 200])
        assert [one.iso for one in result.child_orders] == (
            [True, True] if guarded else [sor.routing.result.msgspec.UNSET]
        )
        assert Router().route(Order("T", "buy", 200), book).allocation == [0, 200]


def test_who_is_barred_is_named_with_what_bars_it() -> None:
    def book(**more: Any) -> Book:
        made = Book("T")
        made.quote("A", asks=[(10.0, 300)], **more)
        made.quote("B", asks=[(10.01, 500)])
        made.quote("C", asks=[(10.02, 500)])
        return made

    order = Order("T", "buy", 400)
    out = Router(protect="nbbo", exclude_venues=["A"]).route(order, book())
    assert out.warnings == ["the protected offer of 300 at 10 on A is traded through: excluded on request"]
    assert out.allocation == [0, 400, 0]
    assert [one.iso for one in out.child_orders] == [True]
    small = Router(protect="nbbo").route(order, book(rules=VenueRules(max_quantity=200)))
    assert "the protected offer of 300 at 10 on A is traded through: its rules take no such order" in small.warnings
    # Who shows a crossed quote, and who is no exchange, has none that is protected.
    assert Router(protect="nbbo", exclude_venues=["A"]).route(order, book(exchange=False)).warnings == []
    crossed = Router(protect="nbbo").route(order, book(bids=[(10.1, 100)]))
    assert crossed.allocation == [0, 400, 0]
    assert "traded through" not in str(crossed.warnings)


def test_protection_goes_with_sweep_only() -> None:
    with pytest.raises(InputError, match="protect is 'nbbo': objective must be sweep"):
        Router(objective="shortfall", protect="nbbo")


# --- reasons ---------------------------------------------------------------------------------------------------------


@each_twin
@on_one_twin
@given(scene=scenes() | scenes(ruled=False))
def test_every_reason_is_true(scene: Scene) -> None:
    result = scene.routed()
    for shop, venue in zip(scene.shops, result.venues, strict=True):
        check_reason(scene, shop, venue, result, None)


def numbers(words: str) -> list[float]:
    return [float(one) for one in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", words)]


def check_reason(
    scene: Scene, shop: Shop, venue: Any, result: RoutingResult, most: float | None, *, guarded: bool = False
) -> None:
    """What is said of a venue, checked by other means; ``most``, mills, is what a share is worth under penalties."""
    code, words = venue.reason.code, venue.reason.words
    levels, q = scene.shown(shop), int(venue.allocation)
    shown, left = sum(n for _, n in levels), scene.size - sum(result.allocation)
    if venue.status in UNUSABLE:
        assert code == venue.status
        return
    if code == "whole":
        assert 0 < q == shown
    elif code == "part":
        assert 0 < q < shown
        assert left == 0
    elif code == "dearer":
        assert q == 0
        assert left == 0 or most is not None
        by = scene.sign * levels[0][0] + shop.fee - dearest_taken(scene, result)
        assert by >= 0
        assert by * MILL == pytest.approx(numbers(words)[0] if "a share" in words else 0.0, abs=1e-9)
    elif code == "ticket":
        assert q == 0
        paid, saved = numbers(words)
        assert paid == pytest.approx(shop.rule("ticket") * MILL)
        assert 0 <= saved <= paid
        if most is None:
            free = scene._replace(shops=[lifted(one, "ticket") if one is shop else one for one in scene.shops])
            best = (guarded_optimum if guarded else optimum)(free)
            assert sum(best.sent) == scene.size - left, "a ticket keeps nobody from more shares"
            cost = result.total_cost / MILL
            assert saved == pytest.approx((cost - best.cost) * MILL, abs=2e-8)
    elif code in ("lot", "minimum", "min_execution", "maximum"):
        check_rule(scene, shop, code, words, q, shown, left)
    elif code == "fit":
        easy = scene._replace(
            shops=[
                lifted(
                    one, "lot", "min_quantity", "min_notional", "min_execution", *(["ticket"] if one is shop else [])
                )
                for one in scene.shops
            ]
        )
        if most is None and not guarded:
            best = optimum(easy)
            assert (-best.filled, best.cost) < (-sum(result.allocation), round(result.total_cost / MILL))
            assert q == 0
    elif code == "protected":
        assert guarded
        free = scene.routed()
        mine = next(one for one in free.venues if one.venue_id == shop.name)
        assert mine.allocation > q or left > 0
    else:
        assert code == "penalties"
        assert most is not None
        if q == 0:  # no order to here pays by itself
            for number in permitted(shop, levels, scene.size):
                paid = sum((scene.sign * price + shop.fee) * n for price, n in fills(levels, number))
                assert paid + shop.rule("ticket") >= most * number - 1e-6


def lifted(shop: Shop, *names: str) -> Shop:
    return shop._replace(rules={name: value for name, value in shop.rules.items() if name not in names})


def dearest_taken(scene: Scene, result: RoutingResult) -> int:
    units = [
        scene.sign * price + shop.fee
        for shop, venue in zip(scene.shops, result.venues, strict=True)
        for price, _ in fills(scene.shown(shop), int(venue.allocation))
    ]
    return max(units)


def check_rule(scene: Scene, shop: Shop, code: str, words: str, q: int, shown: int, left: int) -> None:
    levels, lot = scene.shown(shop), shop.rule("lot")
    if code == "maximum" and q:
        assert q + lot > shop.most == numbers(words)[0]
        assert q + lot <= shown, "more is shown"
        assert left >= 1
        return
    if code == "lot" and q:
        assert numbers(words)[-1] == lot
        n = numbers(words)[0]
        assert n == (shown - q if "behind" in words else left)
        assert n < lot
        return
    assert q == 0
    deep = [*levels, (levels[-1][0], 100)]  # as if more were shown
    if code == "maximum":
        least = min(permitted(lifted(shop, "max_quantity"), deep, 100))
        assert numbers(words) == [shop.most, least]
        assert shop.most < least <= shown
        assert permitted(shop, levels, scene.size) == []
        return
    n = int(numbers(words)[0])
    assert n == {"displayed": shown, "ordered": scene.size}.get(words.split()[2], left)
    assert permitted(shop, levels, n) == [], "so few are no order here"
    own = {"lot": ["lot"], "min_execution": ["min_execution"], "minimum": ["lot", "min_quantity", "min_notional"]}[code]
    alone = shop._replace(rules={name: value for name, value in shop.rules.items() if name in own})
    if code == "minimum" and "worth" not in words:
        alone = shop  # its smallest order: what is the least of all that it takes
        assert numbers(words)[1] == min(permitted(lifted(shop, "max_quantity"), deep, 100))
        assert n < numbers(words)[1]
    elif "worth" in words:
        assert sum(price * some for price, some in fills(levels, min(n, shown))) < shop.rule("min_notional")
        assert numbers(words)[1] == pytest.approx(shop.rule("min_notional") * MILL)
    assert permitted(alone, levels, n) == [], "that rule bars it by itself"


# --- what is not proven ----------------------------------------------------------------------------------------------

NOT_PROVEN = "the split keeps all rules, and is not proven to be the cheapest that does"


def bound_of(result: RoutingResult) -> float | None:
    """Dollars that none of as many shares costs less than; None: nothing is said of a proof."""
    for words in result.warnings:
        if words.startswith(NOT_PROVEN):
            found = re.fullmatch(NOT_PROVEN + r": none of as many shares costs less than (-?[\d.e-]+)", words)
            return -math.inf if found is None else float(found[1])
    return None


@each_twin
@on_one_twin
@given(scene=scenes(), protect=st.sampled_from(["none", "none", "nbbo"]))
def test_what_is_not_proven_keeps_the_rules_and_says_so(scene: Scene, protect: str, policy: Policy) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sor.models.static, "MOST_CELLS", 1)
        result = scene.routed(protect=protect, policy=policy)
    plan, best = plan_of(scene, result), (optimum if protect == "none" else guarded_optimum)(scene)
    bound = bound_of(result)
    if bound is None:
        assert (plan.filled, plan.cost) == (best.filled, best.cost)
        return
    least = min(one.cost for one in plans(scene) if one.filled == plan.filled)
    assert bound <= least * MILL + 1e-9
    assert plan.filled <= best.filled
    guards = [one for one in protected(scene) if one.sendable] if protect == "nbbo" else []
    assert all(one.price >= plan.worst or plan.sent[one.shop] >= one.size for one in guards)


def coins(lot: str, *venues: tuple[float, float], **rules: Any) -> RoutingResult:
    """Half a coin of these venues' (price, size)."""
    coin = Instrument(lot=lot, round_lot="0.001", currency="EUR")
    book = Book("BTC", instrument=coin)
    for i, shown in enumerate(venues):
        book.quote(f"V{i}", asks=[shown], fee=1.5, rules=VenueRules(**rules))
    return Router().route(Order("BTC", "buy", 0.5, instrument=coin), book)


COINS = (60_000.0, 0.2), (60_001.0, 0.21), (60_002.0, 0.35)


def test_coins_in_fine_lots_are_proven_or_within_a_bound() -> None:
    """The optimum by hand: two tickets are cheaper than 0.21 coins at a euro less. Half a coin is 5,000 lots of 0.0001,
    and of 10^-8 more than a table holds.
    """
    optimum = 0.2 * 60_001.5 + 0.3 * 60_003.5 + 2 * 0.25
    exact = coins("0.0001", *COINS, ticket=0.25)
    assert (exact.allocation, exact.currency, bound_of(exact)) == ([0.2, 0, 0.3], "EUR", None)
    assert exact.total_cost == exact.execution_summary.cash_spent == pytest.approx(optimum, abs=1e-8)
    assert [one.reason.code for one in exact.venues] == ["whole", "ticket", "part"]
    words = "its ticket of 0.25 is dearer than the 0.21 that it would save at most"
    assert exact.venues[1].reason.words == words
    fine = coins("0.00000001", *COINS, ticket=0.25)
    bound = bound_of(fine)
    assert bound is not None
    assert bound == pytest.approx(0.2 * 60_001.5 + 0.21 * 60_002.5 + 0.09 * 60_003.5, abs=1e-5), "without rules"
    assert bound <= optimum <= fine.total_cost
    assert fine.execution_summary.total_executed == 0.5
    least = coins("0.00000001", *COINS, min_notional=12_300.0)
    words = "the 0.2 displayed are worth less than its smallest order, 12300"
    assert (least.allocation[0], least.venues[0].reason.words) == (0.0, words)
    assert all(q == 0 or q * 60_001 >= 12_300 for q in least.allocation)
    proven = coins("0.00000001", *COINS[:2], ticket=0.25)
    assert bound_of(proven) is None
    assert proven.total_cost == pytest.approx(0.2 * 60_001.5 + 0.21 * 60_002.5 + 0.5 + 0.09 * 0.007, abs=1e-8)


# --- instruments -----------------------------------------------------------------------------------------------------

HALVES = Instrument(lot="0.5", round_lot=str(ROUND / 2), currency="EUR")


@given(scene=scenes(), protect=st.sampled_from(["none", "nbbo"]))
def test_rules_of_an_instrument_are_of_its_units(scene: Scene, protect: Any, policy: Policy) -> None:
    """As of shares with all rules twice as large: half of all amounts, and the same reasons."""
    book = Book("T", instrument=HALVES)
    for quote, shop in zip(scene.book().quotes, scene.shops, strict=True):
        sides = ([(price, size / 2) for price, size in levels] for levels in (quote.bids, quote.asks))
        bids, asks = sides
        kinds = {"rules": shop.as_rules(), "exchange": shop.exchange}
        book.quote(shop.name, bids=bids, asks=asks, fee=shop.fee * MILL, **kinds)  # type: ignore[arg-type]
    wide = [
        shop._replace(
            rules={name: value if (name, value) == ("lot", 1) else 2 * value for name, value in shop.rules.items()}
        )
        for shop in scene.shops
    ]
    excluded = [shop.name for shop in scene.shops if shop.excluded]
    router = Router(PARAMETERS, "greedy_l2", exclude_venues=excluded, protect=protect, policy=policy)
    one = scene.order()
    result = router.route(Order("T", one.side, one.quantity / 2, one.limit_price, instrument=HALVES), book)
    wanted = router.route(one, scene._replace(shops=wide).book())
    plan_of(scene._replace(shops=wide), wanted)
    assert [2 * q for q in result.allocation] == wanted.allocation
    assert [2 * child.quantity for child in result.child_orders] == [child.quantity for child in wanted.child_orders]
    assert [child.iso for child in result.child_orders] == [child.iso for child in wanted.child_orders]
    assert 2 * result.total_cost == pytest.approx(wanted.total_cost, abs=4e-8)
    assert 2 * result.execution_summary.cash_spent == pytest.approx(wanted.execution_summary.cash_spent, abs=4e-8)
    for mine, other in zip(result.venues, wanted.venues, strict=True):
        assert mine.reason.code == other.reason.code
        if mine.reason.code in ("lot", "minimum", "min_execution", "maximum", "ticket"):
            assert [2 * number for number in numbers(mine.reason.words)] == pytest.approx(numbers(other.reason.words))
        else:
            assert mine.reason.words == other.reason.words
    assert len(result.warnings) == len(wanted.warnings)
    for mine_told, other_told in zip(result.warnings, wanted.warnings, strict=True):
        if "of the displayed" in mine_told:
            assert 2 * numbers(mine_told)[0] == numbers(other_told)[0]
        if "is traded through" in mine_told:
            shown, price = numbers(mine_told)[:2]
            assert [2 * shown, price] == numbers(other_told)[:2]
