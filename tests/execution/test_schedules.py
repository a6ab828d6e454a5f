"""How much is released by when: never less than before, all by the end, and `next` misses no release."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from types import SimpleNamespace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from machines import Machine, show, view_of

NEVER = 2**62
START = 1722519360 * 10**9


def order(shares, length, start=START):
    return SimpleNamespace(shares=shares, start=start, end=start + length)


def each_nanosecond(schedule, order):
    return [schedule.released(order, now, 0) for now in range(order.start, order.end)]


def by_next(schedule, order):
    """The same from the times alone that `next` gives."""
    found, now = [], order.start
    while now < order.end:
        until = min(schedule.next(order, now), order.end)
        assert until > now
        found += [schedule.released(order, now, 0)] * (until - now)
        now = until
    return found


@given(shares=st.integers(1, 10**6), slices=st.integers(1, 40), length=st.integers(1, 200))
@example(shares=5, slices=7, length=3)
def test_twap_releases_equal_parts_at_equal_times(machine: Machine, shares, slices, length) -> None:
    schedule, parent = machine.schedules.Twap(slices), order(shares, length)
    found = each_nanosecond(schedule, parent)
    for time, released in enumerate(found):
        begun = sum(1 for i in range(slices) if Fraction(length * i, slices) <= time)
        assert released == floor(Fraction(shares * begun, slices))
    assert by_next(schedule, parent) == found == sorted(found)
    assert found[-1] == shares or slices > length  # slices shorter than a nanosecond: the end has the rest


def test_twap_over_a_day_is_exact(machine: Machine) -> None:
    schedule, parent = machine.schedules.Twap(7), order(10, 6 * 3600 * 10**9 + 1)
    now = START
    for part in range(1, 7):
        now = schedule.next(parent, now)
        assert (schedule.released(parent, now - 1, 0), schedule.released(parent, now, 0)) == (
            10 * part // 7,
            10 * (part + 1) // 7,
        )
    assert schedule.next(parent, now) == parent.end


@st.composite
def profiles(draw):
    """(times, volumes): buckets of any length, many of them empty."""
    volumes = draw(st.lists(st.sampled_from([0, 0, 1, 5, 1000]) | st.integers(0, 10**9), min_size=1, max_size=6))
    times = [START]
    for _ in volumes:
        times.append(times[-1] + draw(st.integers(1, 40)))
    return times, volumes


@given(profile=profiles(), shares=st.integers(1, 1000), begin=st.integers(-20, 200), length=st.integers(1, 200))
@example(profile=([START, START + 10, START + 30, START + 40], [5, 0, 5]), shares=20, begin=0, length=40)
@example(profile=([START, START + 3], [0]), shares=20, begin=0, length=3)
@example(profile=([START, START + 3, START + 10], [0, 7]), shares=20, begin=0, length=7)
def test_vwap_releases_by_the_volume_of_earlier_days(machine: Machine, profile, shares, begin, length) -> None:
    """The next twentieth as soon as they had traded those before it, and began to trade more."""
    times, volumes = profile
    assume(START + begin < times[-1])
    schedule, parent = machine.schedules.Vwap(times, volumes), order(shares, length, START + begin)

    def traded(time):
        """Shares from the first bucket up to a time, exactly."""
        total = Fraction(0)
        for first, last, volume in zip(times, times[1:], volumes, strict=False):
            total += volume * Fraction(max(0, min(time, last) - first), last - first)
        return total

    found = each_nanosecond(schedule, parent)
    assert by_next(schedule, parent) == found == sorted(found)
    life = traded(parent.end) - traded(parent.start)
    for passed, released in enumerate(found):
        if life:  # times are whole nanoseconds, rounded down
            low, high = (traded(parent.start + passed + over) - traded(parent.start) for over in (0, 1))
            parts = [sum(1 for i in range(20) if life * i / 20 < edge) for edge in (low, high)]
            assert shares * parts[0] // 20 <= released <= shares * parts[1] // 20
        else:  # nobody traded then: equal times
            begun = sum(1 for i in range(20) if parent.start + length * i // 20 <= parent.start + passed)
            assert released == shares * begun // 20


def test_a_schedule_by_volume_may_be_used_for_several_orders(machine: Machine) -> None:
    schedule = machine.schedules.Vwap([START, START + 100], [50])
    one, other = order(20, 100), order(20, 20)
    assert [schedule.released(parent, START + 10, 0) for parent in (one, other, one)] == [3, 11, 3]


@given(percent=st.integers(1, 100), volume=st.integers(0, 10**12))
@example(percent=29, volume=100)
def test_pov_is_a_part_of_the_volume_exactly(machine: Machine, percent, volume) -> None:
    """0.29 * 100 is less than 29 in doubles."""
    schedule = machine.schedules.Pov(percent / 100)
    assert schedule.released(order(1, 1), START, volume) == percent * volume // 100
    assert schedule.next(None, START) == NEVER
    assert schedule.follows_volume


def test_pov_counts_from_the_arrival_and_takes_all_at_the_end(machine: Machine) -> None:
    """What was printed before is not its volume, and no more is released than was ordered."""
    view = view_of(machine, 1, [0.0])
    show(view, 0, [(99, 5)], [(101, 100)])
    view.volume = 1000
    routing, pov = machine.routings.Sweep(False), machine.schedules.Pov(0.1)
    worker = machine.workers.Worker(0, 30, NEVER, START, START + 100, pov, routing, routing, 10, 0)
    worker.begin(view, None, START)
    for volume, released in [(1000, 0), (1009, 0), (1010, 1), (1155, 15), (2000, 30)]:
        view.volume = volume
        worker.on_book(START + 1)
        assert worker.released == released
    assert worker.wake == START + 100


@pytest.mark.parametrize("name", ["immediate", "twap", "vwap", "pov"])
def test_all_is_released_at_the_end_and_nothing_is_taken_back(machine: Machine, name: str) -> None:
    schedules = machine.schedules
    schedule = {
        "immediate": schedules.Immediate,
        "twap": lambda: schedules.Twap(3),
        "vwap": lambda: schedules.Vwap([START, START + 50, START + 100], [1, 2]),
        "pov": lambda: schedules.Pov(0.001),
    }[name]()
    view = view_of(machine, 1, [0.0])
    routing = machine.routings.Sweep(False)
    worker = machine.workers.Worker(0, 10, NEVER, START, START + 100, schedule, routing, None, 0, 0)
    worker.begin(view, None, START)
    before = 0
    while not worker.done:
        assert before <= worker.released <= 10
        before = worker.released
        worker.on_time(worker.wake)
    assert (worker.released, worker.now) == (10, START + 100)
