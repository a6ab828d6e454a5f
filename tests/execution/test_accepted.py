"""Venue rules: the exact split is the allocator's, the greedy one what it says, and no venue rejects what is sent."""

from __future__ import annotations

import math

import accepted
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from machines import TICK, Machine
from test_baselines import BASELINES, FEES, bests, books, flat, limits, offering, rows_of, sides, split

import sor
from sor.routing.terms import FREE, Terms

RULES = ("lot", "min_quantity", "min_notional", "min_execution", "max_quantity", "ticket")
terms = st.builds(
    Terms,
    lot=st.sampled_from([1.0, 1.0, 2.0, 3.0]),
    min_quantity=st.sampled_from([0.0, 0.0, 2.0, 5.0]),
    min_notional=st.sampled_from([0.0, 0.0, 2.03, 4.1]),
    min_execution=st.sampled_from([0.0, 0.0, 3.0]),
    max_quantity=st.sampled_from([math.inf, math.inf, 4.0, 1.0]),
    ticket=st.sampled_from([0.0, 0.02, 0.5]),
)
many = st.lists(terms, min_size=4, max_size=4)


def rules_of(one: Terms) -> dict[str, float | None]:
    """As a venue of the allocator's has them."""
    found = one._asdict()
    return {name: None if found[name] == math.inf else found[name] for name in RULES}


def takes(one: Terms, shares: int, price: float, worth: float) -> bool:
    """Whether an order keeps the rules, by its own price and by what the levels ask."""
    return (
        shares % one.lot == 0
        and max(one.min_quantity, one.min_execution) <= shares <= one.max_quantity
        and min(shares * price, worth) >= one.min_notional * (1 - 1e-9)
    )


def worth_of(rows, slot: int, shares: int) -> tuple[float, float]:
    """The last price and the dollars that so many shares of a venue's levels ask."""
    price = worth = 0.0
    for _, cents, size in (row for row in rows if row[0] == slot and shares):
        part = min(size, shares)
        price, worth, shares = cents / 100, worth + part * cents / 100, shares - part
    assert not shares
    return price, worth


def largest(one: Terms, rows, slot: int, shares: int) -> int:
    """The largest order of at most so many shares that a venue takes, by trying each."""
    tried = range(min(shares, sum(size for place, _, size in rows if place == slot)), 0, -1)
    return next((part for part in tried if takes(one, part, *worth_of(rows, slot, part))), 0)


# --- the exact split -------------------------------------------------------------------------------------------------


@given(side=sides, venues=flat, shares=st.integers(1, 14), given_terms=many)
def test_brute_force_under_rules_splits_as_allocate_does(machine: Machine, side, venues, shares, given_terms) -> None:
    chosen = given_terms[: len(venues)]
    assume(any(one.bind for one in chosen))
    found = split(machine.routings.Sweep(False), offering(machine, side, 1, venues, terms=chosen), shares)
    sign = -1 if side else 1
    shown = [
        sor.Venue(sign * price / 100, size, FEES[i], 0.0, **rules_of(chosen[i]))
        for i, [(price, size)] in enumerate(venues)
    ]
    expected = sor.allocate(shares, shown, 0.0, 0.0, 0.0, resting=False)
    assert expected.proven
    assert [found.get(slot, (0, 0))[0] for slot in range(len(venues))] == list(expected.split)


@given(side=sides, book=books(), shares=st.integers(1, 20), given_terms=many)
@example(side=0, book=(1, [[(100, 5)]]), shares=9, given_terms=[FREE._replace(lot=2.0)] * 4)  # less than is wanted
def test_greedy_l2_under_rules_splits_as_allocate_greedy_l2_does(
    machine: Machine, side, book, shares, given_terms
) -> None:
    depth, venues = book
    chosen = given_terms[: len(venues)]
    assume(any(one.bind for one in chosen))
    sign = -1 if side else 1
    shown = [
        sor.Level2Venue(
            f"V{i}", [(sign * price / 100, size) for price, size in levels], FEES[i], 0.0, **rules_of(chosen[i])
        )
        for i, levels in enumerate(venues)
    ]
    expected = sor.allocate_greedy_l2(shares, shown, 0.0, 0.0, 0.0).split
    rows = rows_of(side, venues, None)
    for slot, part in enumerate(expected):  # a sale's own price may be too low, see below
        assume(not part or takes(chosen[slot], part, *worth_of(rows, slot, part)))
    found = split(machine.routings.Sweep(True), offering(machine, side, depth, venues, terms=chosen), shares)
    assert [found.get(slot, (0, 0))[0] for slot in range(len(venues))] == list(expected)
    for slot, (part, cents) in found.items():
        assert cents == round(100 * worth_of(rows, slot, part)[0])


def test_rules_bind_on_what_is_left_of_the_displayed_shares(machine: Machine) -> None:
    worker = offering(machine, 0, 1, [[(100, 5)], [(101, 9)]], terms=[FREE._replace(lot=3.0), FREE])
    worker.reserved.add(0, 0, 100 * TICK, 3, NEVER, 0)
    worker.look()
    assert split(machine.routings.Sweep(False), worker, 6) == {1: (6, 101)}


NEVER = 2**62


@pytest.mark.parametrize(
    ("sizes", "shares", "found"),
    [
        ((3, 9), 5, {}),  # five are worth 4.90 at the levels, and 4.75 at 0.95
        ((3, 9), 6, {0: (6, 95)}),
        ((5, 9), 5, {0: (5, 100)}),
    ],
)
def test_a_sale_is_worth_enough_at_its_own_price(machine: Machine, sizes, shares, found) -> None:
    """Which is that of its last level: a venue sees no other."""
    levels = [(100, sizes[0]), (95, sizes[1])]
    for name in (machine.routings.Sweep(True), machine.routings.PriceFee()):
        worker = offering(machine, 1, 2, [levels], terms=[FREE._replace(min_notional=4.9)])
        assert split(name, worker, shares) == found


@given(side=sides, book=books(), shares=st.integers(1, 20), given_terms=many)
def test_the_exact_split_is_never_behind_the_greedy_one(machine: Machine, side, book, shares, given_terms) -> None:
    """As many shares or more, and of as many none that costs less: in whole 1e-4 dollars, tickets included."""
    depth, venues = book
    chosen = [one._replace(min_notional=0.0) for one in given_terms[: len(venues)]]
    rows = rows_of(side, venues, None)

    def judged(routing):
        found = split(routing, offering(machine, side, depth, venues, terms=chosen), shares)
        cost = sum(round(chosen[slot].ticket * 10_000) for slot in found)
        for slot, (part, _) in found.items():
            cost += round((-1 if side else 1) * worth_of(rows, slot, part)[1] * 10_000) + part * round(
                FEES[slot] * 10_000
            )
        return -sum(part for part, _ in found.values()), cost

    assert judged(machine.routings.Sweep(True)) <= judged(machine.routings.PriceFee())


# --- price + fee first, and the rules at last ------------------------------------------------------------------------


def in_turn(side, rows):
    """By price + fee, then price, then venue and level."""
    sign = -1 if side else 1
    return sorted(rows, key=lambda row: (sign * row[1] * 100 + round(FEES[row[0]] * 10_000), sign * row[1], row[0]))


@given(side=sides, book=books(), limit=limits, shares=st.integers(1, 40))
def test_price_fee_without_rules_is_greedy_l2(machine: Machine, side, book, limit, shares) -> None:
    depth, venues = book
    sweep, greedy = machine.routings.Sweep(True), machine.routings.PriceFee()
    orders = [
        [
            (one.slot, one.price, one.shares)
            for one in routing.split(offering(machine, side, depth, venues, limit), shares)
        ]
        for routing in (sweep, greedy)
    ]
    assert orders[0] == orders[1]


@given(side=sides, book=books(), shares=st.integers(1, 20), given_terms=many)
def test_price_fee_cuts_and_gives_the_rest_to_the_next(machine: Machine, side, book, shares, given_terms) -> None:
    """Split without rules; each venue's order cut; what was cut off to the next in turn, as far as it fits."""
    depth, venues = book
    chosen = [one._replace(ticket=0.0) for one in given_terms[: len(venues)]]
    rows = rows_of(side, venues, None)
    left, sent = shares, dict.fromkeys(range(len(venues)), 0)
    for slot, _, size in in_turn(side, rows):
        sent[slot] += min(size, left)
        left -= min(size, left)
    sent = {slot: largest(chosen[slot], rows, slot, part) for slot, part in sent.items()}
    left = shares - sum(sent.values())
    shown = dict.fromkeys(sent, 0)
    for slot, _, size in in_turn(side, rows):
        shown[slot] += size
        more = largest(chosen[slot], rows, slot, min(shown[slot], sent[slot] + left))
        left, sent[slot] = left - max(more - sent[slot], 0), max(more, sent[slot])
    found = split(machine.routings.PriceFee(), offering(machine, side, depth, venues, terms=chosen), shares)
    assert {slot: part for slot, (part, _) in found.items()} == {slot: part for slot, part in sent.items() if part}


def test_price_fee_does_not_look_at_tickets(machine: Machine) -> None:
    """Of two shares at a cent less it saves two cents, and pays a dollar for them."""
    worker = offering(machine, 0, 1, [[(100, 8)], [(99, 2)]], terms=[FREE, FREE._replace(ticket=1.0)])
    assert split(machine.routings.PriceFee(), worker, 8) == {0: (6, 100), 1: (2, 99)}
    assert split(machine.routings.Sweep(True), worker, 8) == {0: (8, 100)}


# --- baselines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "plain"), BASELINES)
@given(side=sides, book=books(), shares=st.integers(1, 40), given_terms=many)
def test_a_baseline_sends_each_venue_what_it_takes(
    machine: Machine, name, plain, side, book, shares, given_terms
) -> None:
    depth, venues = book
    made = getattr(machine.routings, name)
    routing = made("V1") if name == "Single" else made()
    chosen = given_terms[: len(venues)]
    found = split(routing, offering(machine, side, depth, venues, terms=chosen), shares)
    rows = rows_of(side, venues, None)
    wanted = {
        slot: largest(chosen[slot], bests(rows), slot, part) for slot, (part, _) in plain(side, rows, shares).items()
    }
    assert {slot: part for slot, (part, _) in found.items()} == {slot: part for slot, part in wanted.items() if part}


# --- venues that reject ----------------------------------------------------------------------------------------------


def test_no_order_is_rejected(machine: Machine) -> None:
    """The million is ``python tools/accepted.py``."""
    found = accepted.run(machine, 50_000, seed=10**6)
    assert {why for _, why in found} == {None}
    assert all(found[name, None] > 1000 for name in accepted.ROUTINGS)


def test_who_does_not_know_the_rules_is_rejected(machine: Machine) -> None:
    found = accepted.run(machine, 10_000, seed=10**6, told=False)
    every = {"lot", "minimum", "maximum", "notional", "execution"}
    for name in accepted.ROUTINGS:
        assert {why for one, why in found if one == name} >= every
    assert found["cont_kukanov", "tick"] > 0


def test_whole_numbers_of_the_largest_orders(machine: Machine) -> None:
    """A lot and a maximum of orders beyond any table: not proven, and within the rules."""
    rules = [FREE._replace(lot=7.0), FREE._replace(lot=11.0, max_quantity=2.0**52), FREE._replace(min_quantity=2.0**50)]
    worker = offering(machine, 0, 1, [[(100, 2**50)], [(101, 2**53)], [(102, 2**53)]], terms=rules)
    for routing in (machine.routings.Sweep(True), machine.routings.PriceFee()):
        found = split(routing, worker, 10**9)
        assert all(part % rules[slot].lot == 0 for slot, (part, _) in found.items())
        assert 10**9 - sum(part for part, _ in found.values()) < 11
    assert np.isfinite(worker.view.rules[1, 4])
