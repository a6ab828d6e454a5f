"""What venues show, against a plain model; and shares that are taken off it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from machines import TICK, Machine, columns_of, show, view_of

NOTHING = 2**62
SLOTS = 3

prices = st.integers(100, 106) | st.none()
levels = st.lists(st.tuples(prices, st.sampled_from([0, 1, 2, 5])), max_size=4)


@st.composite
def feeds(draw):
    """(depth, rows of (slot, bids, asks)); levels in any order, some without a price or a size, some venues crossed."""
    depth = draw(st.integers(1, 4))
    sides = levels.map(lambda found: found[:depth])
    return depth, draw(st.lists(st.tuples(st.integers(0, SLOTS - 1), sides, sides), max_size=8))


def believed(bids, asks):
    """(asks, bids) of a venue as signed (price, size), best first; none where it is crossed in itself."""
    sides = [
        [(sign * price * TICK, size) for price, size in found if price is not None and size > 0]
        for sign, found in ((1, asks), (-1, bids))
    ]
    sides = [sorted(side, key=lambda level: level[0]) for side in sides]
    return [[], []] if all(sides) and sides[0][0][0] + sides[1][0][0] < 0 else sides


def shown_by(view, side, slot):
    first = side * view.width + slot * view.depth
    places = range(first, first + view.depth)
    found = [(view.price[at], view.size[at]) for at in places]
    assert all(level == (NOTHING, 0) for level in found if level[1] == 0)
    assert found == sorted(found, key=lambda level: level[0])
    return [level for level in found if level[1]]


@given(feed=feeds())
def test_a_view_shows_what_its_venues_said_last(machine: Machine, feed) -> None:
    depth, rows = feed
    view = view_of(machine, depth, [0.0] * SLOTS)
    book = {slot: [[], []] for slot in range(SLOTS)}
    last, mid2, updates = [NOTHING, NOTHING], None, Counter()
    columns = columns_of(depth, [row[1:] for row in rows])
    for number, (slot, bids, asks) in enumerate(rows):
        before, book[slot] = book[slot], believed(bids, asks)
        changed = view.show_row(slot, *columns, number)
        other = sum((before[side] != book[slot][side]) << side for side in (0, 1))
        in_order = bids == sorted(bids, key=lambda level: -(level[0] or 0)) and asks == sorted(asks, key=str)
        assert changed == other or (changed & other == other and not in_order)
        updates[slot] += 1
        best = [min((book[one][side][0][0] for one in book if book[one][side]), default=NOTHING) for side in (0, 1)]
        for side in (0, 1):
            assert all(shown_by(view, side, one) == book[one][side] for one in book)
            where = [one for one in book if book[one][side] and book[one][side][0][0] == best[side]]
            assert (view.best[side], view.best_slot[side]) == (best[side], where[0] if where else -1)
            last[side] = best[side] if where else last[side]
            assert view.last[side] == last[side]
        assert view.has_mid is (NOTHING not in best)
        mid2 = best[0] - best[1] if view.has_mid else mid2
        assert view.mid2 == (mid2 or 0)
        assert view.updates[slot] == updates[slot]


@given(feed=feeds(), price=st.integers(99, 107), side=st.sampled_from([0, 1]))
def test_shares_at_a_price_are_seen_or_said_to_be_out_of_sight(machine: Machine, feed, price: int, side: int) -> None:
    depth, rows = feed
    view = view_of(machine, depth, [0.0] * SLOTS)
    book = {slot: [[], []] for slot in range(SLOTS)}
    for slot, bids, asks in rows:
        show(view, slot, bids, asks)
        book[slot] = believed(bids, asks)
    signed = -price * TICK if side else price * TICK
    for slot, sides in book.items():
        levels = sides[side]
        sizes = [size for at, size in levels if at == signed]
        found = view.shown(side, slot, signed)
        if sizes:
            assert found in sizes
        elif levels and signed < levels[-1][0]:
            assert found == 0  # it would stand before a level that is shown
        elif depth == 1 or len(levels) == depth or not any(sides):
            assert found == -1  # behind all that there is room for, or nothing of one level or of the venue at all
        else:
            assert found == 0  # there is room, and it is not there


@pytest.mark.parametrize(("bid", "ask", "stands"), [(100, 101, True), (100, 100, True), (101, 100, False)])
def test_a_venue_that_is_crossed_in_itself_shows_nothing(machine: Machine, bid: int, ask: int, stands: bool) -> None:
    view = view_of(machine, 2)
    show(view, 0, [(99, 1)], [(102, 1)])
    assert show(view, 0, [(bid, 3), (99, 9)], [(ask, 4), (103, 9)]) == 3
    assert bool(shown_by(view, 0, 0)) is bool(shown_by(view, 1, 0)) is stands
    assert view.has_mid is stands
    assert view.mid2 == (bid + ask if stands else 201) * TICK
    assert view.last[0] == (ask if stands else 102) * TICK


def test_two_venues_may_cross_each_other(machine: Machine) -> None:
    view = view_of(machine, 1)
    show(view, 0, [(102, 1)], [(103, 1)])
    show(view, 1, [(99, 1)], [(100, 1)])
    assert (view.best[0], view.best[1], view.mid2) == (100 * TICK, -102 * TICK, 202 * TICK)


def test_a_venue_that_stays_crossed_is_no_change(machine: Machine) -> None:
    view = view_of(machine, 1)
    show(view, 0, [(99, 1)], [(102, 1)])
    assert show(view, 0, [(103, 1)], [(102, 1)]) == 3
    assert show(view, 0, [(104, 1)], [(102, 1)]) == 0
    assert show(view, 0, [], [(102, 1)]) == 1


entries = st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(1, 3), st.integers(1, 9))


@given(added=st.lists(entries, max_size=40), removed=st.lists(st.integers(0, 39), max_size=20))
@example(added=[(0, 0, 1, 1)] * 20, removed=[0, 3])
def test_taken_shares_are_those_of_the_entries_that_are_left(machine: Machine, added, removed) -> None:
    """In their order: an order's levels are freed best first."""
    taken = machine.views.Taken()
    plain = []
    for number, (side, slot, price, shares) in enumerate(added):
        taken.add(side, slot, price, shares, 7, number)
        plain.append((side, slot, price, shares, 7, number))
    for number in removed:
        if number < len(plain):
            taken.remove(number)
            del plain[number]
    assert [tuple(taken.entries[6 * at : 6 * at + 6]) for at in range(taken.count)] == plain
    for side in range(2):
        for slot in range(3):
            for price in range(1, 4):
                assert taken.of(side, slot, price) == sum(one[3] for one in plain if one[:3] == (side, slot, price))
