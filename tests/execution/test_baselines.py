"""Ways to split shares that are taken, against plain restatements of what each of them says."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from machines import TICK, Machine, show, view_of

import sor

NEVER = 2**62
LENGTH = 100
FEES = (0.003, 0.0, -0.001, 0.0012)


def offering(machine: Machine, side, depth, venues, limit=None, fees=FEES, terms=None):
    """A worker that has asked for nothing yet; ``venues``: what each shows on the side that is taken."""

    class Nothing(machine.workers.Schedule):
        def released(self, worker, now, volume):
            return 0

    view = view_of(machine, depth, fees[: len(venues)])
    if terms is not None:
        view.take_terms(terms)
    for slot, levels in enumerate(venues):
        bids, asks = (levels, [(200, 1)]) if side else ([(50, 1)], levels)
        show(view, slot, bids, asks)
    signed = NEVER if limit is None else -limit * TICK if side else limit * TICK
    worker = machine.workers.Worker(side, 10**9, signed, 0, LENGTH, Nothing(), None, None, 0, 0)
    worker.begin(view, None, 0)
    worker.look()
    return worker


def split(routing, worker, shares):
    """Slot to (shares, cents); one order a venue, all of them immediate or cancel."""
    found = routing.split(worker, shares)
    assert all(child.shares > 0 and not child.rests and child.until == NEVER for child in found)
    assert len({child.slot for child in found}) == len(found)
    return {child.slot: (child.shares, abs(child.price) // TICK) for child in found}


sizes = st.sampled_from([0, 1, 2, 3, 5])
flat = st.lists(st.tuples(st.integers(100, 103), sizes).map(lambda level: [level]), min_size=1, max_size=4)


@st.composite
def books(draw):
    """(depth, what each venue shows): levels of a venue at prices of their own."""
    depth = draw(st.integers(1, 3))
    levels = st.lists(st.tuples(st.integers(100, 105), sizes), max_size=depth, unique_by=lambda level: level[0])
    return depth, draw(st.lists(levels, min_size=1, max_size=4))


def rows_of(side, venues, limit):
    """(slot, cents, size) that may be taken, a venue's best first."""
    sign = -1 if side else 1
    return [
        (slot, price, size)
        for slot, levels in enumerate(venues)
        for price, size in sorted(levels, key=lambda level: sign * level[0])
        if size and (limit is None or sign * price <= sign * limit)
    ]


def bests(rows):
    """The first row of each venue."""
    return [row for i, row in enumerate(rows) if row[0] not in {other[0] for other in rows[:i]}]


limits = st.none() | st.integers(100, 105)
sides = st.integers(0, 1)


# --- least price + fee -----------------------------------------------------------------------------------------------


def cheapest(side, rows, shares):
    """The least cost of all ways to take as many shares as there are, by trying each; in 1e-4 dollars."""
    units = [round((-price if side else price) * 100 + FEES[slot] * 10_000) for slot, price, _ in rows]
    wanted = min(shares, sum(size for *_, size in rows))
    ways = product(*(range(size + 1) for *_, size in rows))
    return min(sum(map(int.__mul__, way, units)) for way in ways if sum(way) == wanted)


def cost_of(side, rows, taken):
    """Of so many shares a venue: it gives its best first."""
    cost = 0
    for slot, (shares, _) in taken.items():
        for _, price, size in (row for row in rows if row[0] == slot):
            part = min(size, shares)
            cost += part * round((-price if side else price) * 100 + FEES[slot] * 10_000)
            shares -= part
        assert not shares
    return cost


@given(side=sides, book=books(), limit=limits, shares=st.integers(1, 12), every=st.booleans())
def test_a_sweep_takes_the_least_price_and_fee(machine: Machine, side, book, limit, shares, every) -> None:
    """Of each venue's best level, or of all levels: as cheap as the cheapest of all ways."""
    depth, venues = book
    rows = rows_of(side, venues, limit)
    rows = rows if every else bests(rows)
    found = split(machine.routings.Sweep(every), offering(machine, side, depth, venues, limit), shares)
    assert sum(part for part, _ in found.values()) == min(shares, sum(size for *_, size in rows))
    assume(np.prod([size + 1 for *_, size in rows]) < 3000)
    assert cost_of(side, rows, found) == cheapest(side, rows, shares)
    for slot, (part, price) in found.items():  # at the price of the last level that it needs
        sizes = [(size, at) for one, at, size in rows if one == slot]
        assert price == next(at for i, (_, at) in enumerate(sizes) if sum(s for s, _ in sizes[: i + 1]) >= part)


@given(side=sides, venues=flat, shares=st.integers(1, 12))
def test_brute_force_splits_as_allocate_does(machine: Machine, side, venues, shares) -> None:
    found = split(machine.routings.Sweep(False), offering(machine, side, 1, venues), shares)
    sign = -1 if side else 1
    rows = np.array([(sign * price / 100, size, FEES[i], 0.0) for i, [(price, size)] in enumerate(venues)])
    expected = sor.allocate(shares, rows, 0.0, 0.0, 0.0, 1, resting=False).split
    assert [found.get(slot, (0, 0))[0] for slot in range(len(venues))] == list(expected)


@given(side=sides, book=books(), shares=st.integers(1, 20))
def test_greedy_l2_splits_as_allocate_greedy_l2_does(machine: Machine, side, book, shares) -> None:
    depth, venues = book
    found = split(machine.routings.Sweep(True), offering(machine, side, depth, venues), shares)
    sign = -1 if side else 1
    levels = [[(sign * price / 100, size) for price, size in levels] for levels in venues]
    level2 = [sor.Level2Venue(f"V{i}", one, FEES[i], 0.0) for i, one in enumerate(levels)]
    expected = sor.allocate_greedy_l2(shares, level2, 0.0, 0.0, 0.0).split
    assert [found.get(slot, (0, 0))[0] for slot in range(len(venues))] == list(expected)


def test_below_a_dollar_the_fee_is_that_of_the_level(machine: Machine) -> None:
    class Part:
        def fee_at(self, price):
            return 0.03 if price >= 1.0 else 0.0

    worker = offering(machine, 1, 1, [[(100, 5)], [(99, 5)]])
    worker.view.rates[:] = [Part(), Part()]
    assert split(machine.routings.Sweep(False), worker, 7) == {1: (5, 99), 0: (2, 100)}  # 0.97 is less than 0.99
    worker = offering(machine, 0, 1, [[(100, 5)], [(99, 5)]])
    worker.view.rates[:] = [Part(), Part()]
    assert split(machine.routings.Sweep(False), worker, 7) == {1: (5, 99), 0: (2, 100)}


# --- baselines -------------------------------------------------------------------------------------------------------


def shared_out(sizes, shares):
    """Whole parts in proportion to sizes; what is over one by one from the first on; no more than each size."""
    if sum(sizes) <= shares:
        return list(sizes)
    parts = [shares * size // sum(sizes) for size in sizes]
    for i in range(len(sizes)):
        if sum(parts) < shares and parts[i] < sizes[i]:
            parts[i] += 1
    return parts


def nbbo(side, rows, shares):
    """The venues at the best price and no other."""
    best = (max if side else min)((price for _, price, _ in rows), default=None)
    at_best = [row for row in rows if row[1] == best]
    parts = shared_out([size for *_, size in at_best], shares)
    return {slot: (part, best) for (slot, *_), part in zip(at_best, parts, strict=True) if part}


def best_venue(side, rows, shares):
    """All to one: the best price, then the largest size, then the first."""
    if not rows:
        return {}
    slot, price, size = min(rows, key=lambda row: (-row[1] if side else row[1], -row[2], row[0]))
    return {slot: (min(size, shares), price)}


def pro_rata(side, rows, shares):
    """All that show something, by what they show at their best."""
    parts = shared_out([size for *_, size in bests(rows)], shares)
    return {slot: (part, price) for (slot, price, _), part in zip(bests(rows), parts, strict=True) if part}


def equal(side, rows, shares):
    """The same in equal parts, what is over to the first, each at most what it shows."""
    firsts = bests(rows)
    parts = [shares // len(firsts) + (i < shares % len(firsts)) for i in range(len(firsts))]
    taken = [(slot, price, min(part, size)) for (slot, price, size), part in zip(firsts, parts, strict=True)]
    return {slot: (part, price) for slot, price, part in taken if part}


def single(side, rows, shares):
    """One venue, and nothing where it shows nothing."""
    return {slot: (min(size, shares), price) for slot, price, size in bests(rows) if slot == 1}


BASELINES = [("Nbbo", nbbo), ("BestVenue", best_venue), ("ProRata", pro_rata), ("Equal", equal), ("Single", single)]


@pytest.mark.parametrize(("name", "plain"), BASELINES)
@given(side=sides, book=books(), limit=limits, shares=st.integers(1, 40))
@example(side=0, book=(1, [[(101, 5)], [(100, 3)], [(100, 2)]]), limit=None, shares=3)
@example(side=1, book=(2, [[(100, 5), (99, 9)], [(100, 5)], [(100, 7)], []]), limit=100, shares=11)
def test_a_baseline_does_what_it_says(machine: Machine, name, plain, side, book, limit, shares) -> None:
    depth, venues = book
    made = getattr(machine.routings, name)
    routing = made("V1") if name == "Single" else made()
    found = split(routing, offering(machine, side, depth, venues, limit), shares)
    rows = rows_of(side, venues, limit)
    assert found == plain(side, rows, shares)
    shown = Counter({slot: sum(row[2] for row in rows if row[0] == slot) for slot, *_ in rows})
    assert all(part <= shown[slot] for slot, (part, _) in found.items())
    assert sum(part for part, _ in found.values()) <= shares


@given(sizes=st.lists(st.integers(1, 2**53), min_size=1, max_size=4), shares=st.integers(1, 2**53))
@example(sizes=[2**53, 2**53 - 1], shares=2**53)
def test_proportions_of_the_largest_sizes_are_exact(machine: Machine, sizes, shares) -> None:
    """Their products are beyond 64 bits."""
    worker = offering(machine, 0, 1, [[(100, size)] for size in sizes])
    parts = [part for part in shared_out(sizes, shares) if part]
    assert [part for part, _ in split(machine.routings.ProRata(), worker, shares).values()] == parts


@pytest.mark.parametrize("name", ["Nbbo", "BestVenue"])
def test_a_price_of_which_all_is_under_way_is_still_the_best(machine: Machine, name: str) -> None:
    """Else these would walk up the book as often as they are asked. What was not there is no price any more."""
    routing = getattr(machine.routings, name)()
    worker = machine.workers.Worker(0, 20, NEVER, 0, LENGTH, machine.schedules.Immediate(), routing, None, 0, 0)
    view = view_of(machine, 1)
    for slot, price in enumerate((100, 101, 102)):
        show(view, slot, [(90, 1)], [(price, 5)])
    worker.begin(view, None, 0)
    worker.on_book(1)
    worker.on_book(2)
    assert [(child.slot, child.shares) for child in worker.out] == [(0, 5)]
    worker.on_ended(0, 0, 3)
    worker.on_book(4)
    assert [(child.slot, child.shares) for child in worker.out] == [(0, 5), (1, 5)]
    show(view, 2, [(90, 1)], [(99, 5)])
    worker.on_book(5)
    assert [(child.slot, child.shares) for child in worker.out] == [(0, 5), (1, 5), (2, 5)]


def test_a_venue_that_is_left_out_has_no_price(machine: Machine) -> None:
    worker = offering(machine, 0, 1, [[(100, 5)], [(101, 9)]])
    worker.left_out[0] = 1
    worker.look()
    assert split(machine.routings.Nbbo(), worker, 20) == {1: (9, 101)}
