"""`cont_kukanov` as a routing: what `sor.place` says of what the book shows, and all that it cannot say is taken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from machines import TICK, Machine, show, view_of

import sor
from sor.errors import InputError
from sor.market.outflow import Outflows
from sor.routing.terms import FREE, Terms
from sor.types import CostParameters

NEVER = 2**62
SECOND = 10**9
LENGTH = 600 * SECOND
FEES = (0.003, 0.001, 0.002)
PARAMETERS = CostParameters(lambda_over=0.02, lambda_under=0.06, theta_queue=0.001)
SAMPLES = np.array([[120.0, 10.0], [300.0, 0.0], [90.0, 80.0], [0.0, 0.0], [250.0, 200.0]] * 8)


class Known:
    """Outflows that are known from the start."""

    horizon = 60 * SECOND

    def __init__(self, samples: np.ndarray = SAMPLES) -> None:
        self.table, self.asked = samples, []

    def samples(self, side, venues):
        self.asked.append((side, tuple(venues)))
        return self.table[:, : len(venues)]


def shown(machine: Machine, side=0):
    """Bids at 99, 99 and 98 of a buyer; for a seller all is mirrored at 100."""
    view = view_of(machine, 1, FEES)
    for slot, (near, size, far, there) in enumerate([(99, 70, 102, 90), (99, 20, 101, 260), (98, 500, 101, 0)]):
        levels = [(near, size)], [(far, there)]
        levels = levels if side == 0 else ([(200 - far, there)], [(200 - near, size)])
        show(view, slot, *levels)
    return view


def working(machine: Machine, outflows, side=0, view=None, limit=NEVER):
    """A worker of two releases of 300 shares, at the first."""
    routing = machine.resting.ContKukanov(outflows, PARAMETERS, 40)
    schedule = machine.schedules.Twap(2)
    worker = machine.workers.Worker(side, 600, limit, 0, LENGTH, schedule, routing, None, 0, 0)
    worker.begin(shown(machine, side) if view is None else view, None, 0)
    return worker


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_released_is_placed_as_place_says(machine: Machine, side: int) -> None:
    """Fees and rebates are those of the venues, a market order pays what taking costs beyond half the spread."""
    outflows = Known()
    worker = working(machine, outflows, side)
    assert outflows.asked == [(("buy", "sell")[side], (0, 1))]
    offers = [(1.02, 0.003), (1.01, 0.001)] if side == 0 else [(0.98, 0.003), (0.99, 0.001)]
    sign = -1 if side else 1
    fee = min(sign * price + fee for price, fee in offers) - sign * (1.01 if side == 0 else 0.99)
    expected = sor.place(
        300, 0.01, fee, [fee - 0.001 for fee in FEES[:2]], [70, 20], SAMPLES,
        theta=0.001, lambda_under=0.06, lambda_over=0.02, lots=1,
    )  # fmt: skip
    assert expected.market > 0
    assert min(expected.limits) > 0
    market = [one for one in worker.out if not one.rests]
    rests = [one for one in worker.out if one.rests]
    assert sum(one.shares for one in market) == round(expected.market)
    assert [(one.slot, one.shares) for one in rests] == [(i, round(shares)) for i, shares in enumerate(expected.limits)]
    assert {abs(one.price) for one in rests} == {(99 if side == 0 else 101) * TICK}
    assert {one.until for one in rests} == {60 * SECOND}
    assert worker.routing.unplaced == 0


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("terms", "kept"),
    [
        (Terms(lot=40.0), lambda shares: shares // 40 * 40),
        (Terms(min_quantity=1000.0), lambda shares: 0),
        (Terms(max_quantity=17.0), lambda shares: 17),
        (Terms(min_notional=1e6), lambda shares: 0),
        (Terms(ticket=9.0), lambda shares: shares),
    ],
)
def test_limit_orders_are_cut_to_what_venues_take(machine: Machine, side: int, terms: Terms, kept) -> None:
    """And the model knows nothing of it."""
    rests = {one.slot: one.shares for one in working(machine, Known(), side).out if one.rests}
    view = shown(machine, side)
    view.take_terms([terms, FREE, FREE])
    cut = {one.slot: one.shares for one in working(machine, Known(), side, view).out if one.rests}
    assert rests[0] > 40
    assert rests[0] % 40
    assert cut == {slot: shares for slot, shares in (rests | {0: kept(rests[0])}).items() if shares}


@pytest.mark.parametrize(
    ("side", "tick", "price"), [(0, 0.01, 99), (0, 0.05, 95), (1, 0.01, 101), (1, 0.05, 105), (0, 2.0, None)]
)
def test_a_limit_order_lies_on_the_tick_on_the_passive_side(machine: Machine, side: int, tick: float, price) -> None:
    view = shown(machine, side)
    view.take_terms([FREE._replace(tick=tick), FREE, FREE])
    found = {one.slot: abs(one.price) // TICK for one in working(machine, Known(), side, view).out if one.rests}
    own = 99 if side == 0 else 101
    assert found == ({1: own} if price is None else {0: price, 1: own})


def test_what_comes_back_is_taken_and_only_what_is_new_is_placed(machine: Machine) -> None:
    worker = working(machine, outflows := Known())
    orders = list(worker.out)
    worker.out.clear()
    worker.on_time(60 * SECOND)
    assert all(not hasattr(one, "slot") for one in worker.out)
    worker.out.clear()
    for one in orders:
        worker.on_ended(one.number, 0, 61 * SECOND)
    for slot in range(3):
        show(worker.view, slot, [(99, 50)] if slot < 2 else [], [(101, 500)])
    worker.on_book(62 * SECOND)
    assert sum(one.shares for one in worker.out) == 300
    assert not any(one.rests for one in worker.out)
    assert len(outflows.asked) == 1
    for one in worker.out:
        worker.on_filled(one.number, one.number, one.shares, 63 * SECOND)
    worker.on_time(LENGTH // 2)
    assert (worker.fresh, len(outflows.asked)) == (300, 2)
    assert any(one.rests for one in worker.out)


@pytest.mark.parametrize("why", ["few windows", "no windows", "crossed", "one side", "beyond the limit", "too much"])
def test_where_nothing_can_be_placed_all_is_taken(machine: Machine, why: str) -> None:
    outflows = Known(SAMPLES[:3] if why == "few windows" else SAMPLES)
    limit = 98 * TICK if why == "beyond the limit" else NEVER
    view = view_of(machine, 1, FEES)
    bids = [] if why == "one side" else [(103 if why == "crossed" else 99, 10**13 if why == "too much" else 70)]
    show(view, 0, bids, [(104, 5)])
    show(view, 1, [], [(101 if why != "beyond the limit" else 98, 60)])
    worker = working(machine, Outflows() if why == "no windows" else outflows, view=view, limit=limit)
    assert [one.rests for one in worker.out] in ([False], [False, False])
    assert worker.routing.unplaced == 1


def test_a_venue_that_is_left_out_is_not_rested_at(machine: Machine) -> None:
    worker = working(machine, outflows := Known())
    worker.left_out[0] = NEVER
    for one in list(worker.out):
        worker.on_ended(one.number, one.shares, 1)
    worker.out.clear()
    worker.on_time(LENGTH // 2)
    assert outflows.asked[-1] == ("buy", (1,))
    assert 0 not in [one.slot for one in worker.out]


def test_equal_problems_of_one_time_are_solved_once(machine: Machine, monkeypatch) -> None:
    """Orders that differ in their queue model ask the same; another time, side or size is another problem."""
    solved = []

    def place(*arguments, **more):
        solved.append(arguments)
        raise InputError("more than the model takes")

    monkeypatch.setattr(machine.resting, "place", place)
    routing = machine.resting.ContKukanov(Known(), PARAMETERS, 40)
    counts = []
    for side, shares, now in [(0, 300, 0), (0, 300, 0), (1, 300, 0), (0, 300, 0), (0, 200, 0), (0, 300, 1)]:
        all_at_once = machine.schedules.Immediate()
        worker = machine.workers.Worker(side, shares, NEVER, now, LENGTH, all_at_once, routing, None, 0, 0)
        worker.begin(shown(machine, side), None, now)
        counts.append(len(solved))
    assert counts == [1, 1, 2, 2, 3, 4]
    assert routing.unplaced == 6


def test_outflows_are_kept_of_what_the_view_shows(machine: Machine) -> None:
    told = []
    outflows = SimpleNamespace(observe=lambda *arguments: told.append(arguments))
    view = view_of(machine, 2, FEES)
    follower = machine.resting.Follower(view, outflows)
    show(view, 1, [(99, 7), (98, 1)], [(101, 3)])
    follower.seen(1, 5)
    show(view, 1, [], [(101, 3)])
    follower.seen(1, 5)
    show(view, 1, [], [])  # what is stale is not shown; nobody has told that it has left
    follower.printed(1, 101 * TICK, 4, ord("B"), 6)
    follower.printed(1, 101 * TICK, 4, 0, 7)
    follower.printed(-1, 101 * TICK, 4, 0, 8)  # a venue that does not quote
    assert told[:2] == [(1, 5, (0.99, 7), (1.01, 3)), (1, 5, None, (1.01, 3))]
    assert [one[:4] for one in told[2:]] == [(1, 6, None, (1.01, 3)), (1, 7, None, (1.01, 3))]
    assert [(one[4].side, one[4].price, one[4].size) for one in told[2:]] == [("B", 1.01, 4), ("N", 1.01, 4)]
