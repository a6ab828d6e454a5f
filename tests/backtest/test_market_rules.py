"""The rules of a simulated market, each by a test of its name; rule 4 has `test_queues` besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from small_market import (
    BUY,
    CENT,
    FAR,
    OPTIMISTIC,
    PESSIMISTIC,
    SELL,
    Kernel,
    Resting,
    Row,
    fills,
    kernel,
    market,
    placing,
    rested,
    rows,
    simulated,
)  # fmt: skip
from tapes import OPENS, XNAS, quote, tape

from sor.backtest import work
from sor.backtest.orders import Orders, ParentOrder
from sor.backtest.run import backtest
from sor.backtest.scenario import SECOND, Scenario
from sor.backtest.study import Study
from sor.backtest.synthetic import SyntheticMarket
from sor.backtest.work import Rules
from sor.kernels import BACKEND
from sor.market.columns import NO_PRICE, Batch, joined
from sor.market.feed import read_feed
from sor.market.instruments import Instruments
from sor.market.taq import LeftOut, TaqTrades
from sor.market.venues import DatedRules, VenueDirectory
from sor.routing.terms import Terms
from sor.types import Instrument

DIRECTORY = VenueDirectory.load()
ALL = 10**9  # shares: more than there are
BACKENDS = ("python", "cython")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Kernel:
    return kernel(request.param)


# --- orders that take ------------------------------------------------------------------------------------------------


def steps(on: Kernel, released: Sequence[tuple[int, int]]) -> Any:
    """A schedule: by a time so many shares."""

    class Steps(on.workers.Schedule):  # type: ignore[name-defined, misc]
        def released(self, worker: Any, now: int, volume: int) -> int:
            return max((shares for time, shares in released if time <= now), default=0)

        def next(self, worker: Any, now: int) -> int:
            return min((time for time, _ in released if time > now), default=FAR)

    return Steps()


def taking(on: Kernel, shares: int, time: int = 1, *, side: int = BUY, **other: Any) -> Any:
    """An order that takes all levels that it sees; ``other`` are a routing, schedule, tables, refresh, limit or end."""
    routing = other.get("routing") or on.routings.Sweep(True)
    schedule = other.get("schedule") or on.workers.Schedule()
    refresh = other.get("refresh", FAR)
    used = other.get("used") or (on.market.Used(refresh), on.market.Used(refresh))
    limit, end, delay = other.get("limit", 2**62), other.get("end", FAR), other.get("delay", 0)
    worker = on.workers.Worker(side, shares, limit, time, end, schedule, routing, None, 0, delay)
    return on.market.Sim(0, worker, other.get("queue", PESSIMISTIC), *used, other.get("seed", 1))


def run(on: Kernel, tape: Sequence[Row], sims: Sequence[Any], depth: int = 2, venues: int = 1, **knobs: Any) -> Any:
    one = market(on, venues, depth, **knobs)
    for sim in sims:
        if sim.used.shared and not any(sim.used is table for table in one.tables):
            one.tables.append(sim.used)
            one.sight.append(sim.seen)
        one.begin(sim)
    one.run(rows(on, depth, tape))
    one.finish()
    return one


def priced(sim: Any) -> list[tuple[int, int, int]]:
    """Fills: when, at how many cents, how many shares."""
    return [(fill.time, abs(fill.price) // CENT, fill.shares) for fill, _ in sim.fills]


def sends(sim: Any, until: int) -> list[Any]:
    return [
        (one.sent, one.slot, one.price, one.shares, one.rests, one.mid2, one.opposite)
        for one in sim.worker.children
        if one.sent <= until
    ]


BIDS = [(1000, 500)]


def offer(time: int, *asks: tuple[int, int], bids: Sequence[tuple[int, int]] = BIDS, known: int | None = None) -> Row:
    return Row(time, bids, asks, known=known)


# --- random tapes ----------------------------------------------------------------------------------------------------


def levels(draw: Any, worst: int, step: int) -> list[tuple[int, int]]:
    """Up to three levels, the best first; those of both sides may meet and cross."""
    prices = sorted(draw(st.sets(st.integers(0, 5), max_size=3)), reverse=True)
    return [(worst + step * price, 100 * draw(st.integers(1, 5))) for price in prices]


@st.composite
def tapes(
    draw: Any, first: int = 1, *, least: int = 0, gap: int = 0, late: int = 0, known: int = 0, venues: int = 2
) -> list[Row]:
    """Rows from a time on, each received at most ``late`` after it happened, and none before ``known``."""
    found, time = [], first
    for _ in range(draw(st.integers(least, 12))):
        trade = draw(st.none() | st.tuples(st.sampled_from("ABN"), st.integers(997, 1004), st.integers(1, 9)))
        trade = trade and (trade[0], trade[1], 50 * trade[2])
        known = max(known, time + draw(st.integers(0, late)))
        bids, asks = levels(draw, 996, 1), levels(draw, 1005, -1)
        stands = draw(st.integers(0, 5)) == 0
        slot = draw(st.integers(0, venues - 1))
        found.append(Row(time, None if stands else bids, None if stands else asks, trade, slot, known))
        time += gap + draw(st.integers(0, 3))
    return found


def deciding(on: Kernel, queue: int, seed: int) -> list[Any]:
    """Orders that decide by what they see: one takes in parts, one rests at the best price for a while."""

    class Joins(on.workers.Routing):  # type: ignore[name-defined, misc]
        def split(self, worker: Any, shares: int) -> list[Any]:
            slot = worker.view.best_slot[1 - worker.side]
            if slot < 0:
                return []
            return [on.workers.Child(slot, -worker.view.best[1 - worker.side], min(shares, 200), True, worker.now + 4)]

    schedule = steps(on, [(time, 150 * time) for time in range(1, 40, 3)])
    both = {"queue": queue, "seed": seed, "end": 200}
    first = taking(on, 2_000, schedule=schedule, routing=on.routings.Nbbo(), **both)
    return [first, taking(on, 1_000, 2, side=SELL, routing=Joins(), **both)]


# --- rule 1 ----------------------------------------------------------------------------------------------------------


@given(st.data())
def test_rule_1_no_look_ahead(data: st.DataObject) -> None:
    """Rows that happen later change nothing that was sent or filled before."""
    on = kernel(data.draw(st.sampled_from(BACKENDS)))
    late, delay, latency = (data.draw(st.integers(0, 4)) for _ in range(3))
    head = data.draw(tapes(least=1, late=late))
    cut = head[-1].time + data.draw(st.integers(0, 5))
    queue, depth = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 2))
    found = []
    for _ in range(2):
        tail = data.draw(tapes(cut + 1, late=late, known=head[-1].known or 0))
        sims = deciding(on, queue, 1)
        tape = [row._replace(known=(row.known or 0) + delay) for row in head + tail]
        same = late == delay == 0
        run(on, tape, sims, depth, 2, latency=latency, delay=delay, same=same)
        found.append([(sends(sim, cut), [one for one in fills(sim) if one[0] <= cut]) for sim in sims])
    assert found[0] == found[1]


@given(st.data())
def test_rule_1_what_is_not_known_yet_decides_nothing(data: st.DataObject) -> None:
    """Rows that have happened and are received later, while no report of a fill has come back."""
    on = kernel(data.draw(st.sampled_from(BACKENDS)))
    head = data.draw(tapes(least=1, late=3))
    known = head[-1].known or 0
    cut = known + data.draw(st.integers(0, 9))
    found = []
    for _ in range(2):
        tail = data.draw(tapes(head[-1].time, late=3, known=cut + 1))
        sims = deciding(on, PESSIMISTIC, 1)
        run(on, head + tail, sims, 2, 2, latency=1_000, same=False)
        found.append([sends(sim, cut) for sim in sims])
    assert found[0] == found[1]


def test_rule_1_a_decision_waits_for_the_receipt(backend: Kernel) -> None:
    """Offers of time 10 are received at 17, and taken then as they are at that time."""
    sim = taking(backend, 100)
    tape = [offer(5, known=5), offer(10, (1002, 300), known=17), offer(12, (1001, 300), known=30)]
    run(backend, tape, [sim], same=False)
    assert sends(sim, FAR)[0][:4] == (17, 0, 1002 * CENT, 100)
    assert priced(sim) == [(17, 1001, 100)]


def test_rule_1_what_is_known_at_the_time_of_a_decision_counts(backend: Kernel) -> None:
    """At one time books come first."""
    sim = taking(backend, 100, schedule=steps(backend, [(17, 100)]))
    run(backend, [offer(5, (1002, 300), known=5), offer(10, (1003, 300), known=17)], [sim], same=False)
    assert [one[:4] for one in sends(sim, FAR)] == [(17, 0, 1003 * CENT, 100)]


# --- rule 2 ----------------------------------------------------------------------------------------------------------


def shown(tape: Sequence[Row], side: int, depth: int) -> Counter[tuple[int, int]]:
    """Shares that venues have ever displayed at a price: what came first, and growth.

    A level that a depth feed removes in view, or that the other side reaches, begins anew; one out of sight does not.
    """
    last: dict[tuple[int, int], int] = {}
    found = Counter[tuple[int, int]]()
    sign = 1 if side == BUY else -1
    for row in tape:
        if row.bids is None or row.asks is None:
            continue
        bids, asks = list(row.bids)[:depth], list(row.asks)[:depth]
        if bids and asks and bids[0][0] > asks[0][0]:
            continue  # crossed in itself
        mine, other = (asks, bids) if side == BUY else (bids, asks)
        for slot, price in list(last):
            if slot == row.slot and other and sign * other[0][0] >= sign * price and price not in dict(mine):
                del last[slot, price]
        for price, shares in mine:
            found[row.slot, price] += max(0, shares - last.get((row.slot, price), 0))
            last[row.slot, price] = shares
        for slot, price in list(last):
            in_view = depth > 1 and (len(mine) < depth or sign * price <= sign * mine[-1][0]) and bool(mine or other)
            if slot == row.slot and in_view and price not in dict(mine):
                del last[slot, price]
    return found


def taken(sims: Sequence[Any]) -> Counter[tuple[int, int]]:
    found = Counter[tuple[int, int]]()
    for sim in sims:
        for fill, _ in sim.fills:
            found[fill.child.slot, abs(fill.price) // CENT] += fill.shares
    return found


@given(st.data())
def test_rule_2_a_displayed_share_is_used_once(data: st.DataObject) -> None:
    """Who takes all that is there, whenever it is there, gets each share that was ever displayed, and no more."""
    on = kernel(data.draw(st.sampled_from(BACKENDS)))
    side, depth = data.draw(st.sampled_from([BUY, SELL])), data.draw(st.integers(1, 2))
    tape = data.draw(tapes(gap=1))
    sim = taking(on, ALL, side=side)
    run(on, tape, [sim], depth, 2)
    assert +taken([sim]) == +shown(tape, side, depth)


@given(st.data())
def test_rule_2_a_displayed_share_is_used_once_by_all_together(data: st.DataObject) -> None:
    """With latency, delays and several rows a time: never more than was displayed."""
    on = kernel(data.draw(st.sampled_from(BACKENDS)))
    side, depth = data.draw(st.sampled_from([BUY, SELL])), data.draw(st.integers(1, 2))
    late, delay, latency = (data.draw(st.integers(0, 4)) for _ in range(3))
    tape = [row._replace(known=(row.known or 0) + delay) for row in data.draw(tapes(late=late))]
    used = on.market.Used(FAR, True), on.market.Used(FAR, True)
    sims = [
        taking(on, shares, time, side=side, used=used, delay=delay) for time, shares in ((1, 700), (2, ALL), (5, 9))
    ]
    run(on, tape, sims, depth, 2, latency=latency, delay=delay, same=late == delay == 0)
    most = shown(tape, side, depth)
    assert all(shares <= most[place] for place, shares in taken(sims).items())


def test_rule_2_what_is_shown_for_an_hour_is_filled_once(backend: Kernel) -> None:
    """By orders of an hour together, whatever the time after which what was out of sight is other shares."""
    used = backend.market.Used(300, True), backend.market.Used(300, True)
    sims = [taking(backend, 400, time, used=used, end=time + 50) for time in range(2, 3_600, 100)]
    later = [offer(time, (1002, 500), bids=[(999, time)]) for time in range(7, 3_600, 10)]
    run(backend, [offer(1, (1002, 500)), *later], sims)
    assert [sum(shares for _, shares in fills(sim)) for sim in sims] == [400, 100] + [0] * 34


@pytest.mark.parametrize(
    ("after", "filled"),
    [
        ([offer(10, (1002, 500))], [500]),
        ([offer(10, (1002, 700))], [500, 200]),
        ([offer(10, (1002, 100)), offer(11, (1002, 300))], [500, 200]),
        ([offer(10, (1003, 1)), offer(11, (1002, 500))], [500, 1, 500]),  # removed in view
        ([offer(10), offer(11, (1002, 500))], [500, 500]),
        ([offer(10, (1001, 1), (1000, 1), bids=[]), offer(11, (1002, 500))], [500, 1, 1]),  # no room for it
        ([offer(10, (1001, 9), bids=[(1003, 9)]), offer(11, (1002, 500))], [500]),  # crossed in itself
        ([offer(10, bids=[(1002, 5)]), offer(11, (1002, 500))], [500, 500]),  # the other side was there
        ([Row(10, [], []), offer(11, (1002, 500))], [500]),
        ([offer(10, (1002, 499), bids=[(1002, 5)])], [500]),  # locked in itself
    ],
)
def test_rule_2_when_what_was_used_ends(backend: Kernel, after: list[Row], filled: list[int]) -> None:
    """In a feed with two levels."""
    sim = taking(backend, ALL)
    run(backend, [offer(1, (1002, 500)), *after], [sim])
    assert [shares for _, shares in fills(sim)] == filled


@pytest.mark.parametrize(
    ("after", "filled"),
    [
        ([offer(10, (1003, 1)), offer(11, (1002, 500))], [500, 1]),  # one level may flicker
        ([offer(10, (1001, 1)), offer(11, (1002, 600))], [500, 1, 100]),
        ([offer(10, bids=[(1002, 5)]), offer(11, (1002, 500))], [500, 500]),  # the other side was there
        ([offer(10, (1004, 1), bids=[(1003, 5)]), offer(11, (1002, 500))], [500, 1, 500]),
    ],
)
def test_rule_2_when_what_was_used_ends_in_a_feed_of_best_quotes(
    backend: Kernel, after: list[Row], filled: list[int]
) -> None:
    sim = taking(backend, ALL)
    run(backend, [offer(1, (1002, 500)), *after], [sim], depth=1)
    assert [shares for _, shares in fills(sim)] == filled


@pytest.mark.parametrize(("hidden", "filled"), [(99, [500, 5]), (100, [500, 5, 500])])
def test_rule_2_what_was_out_of_sight_for_long_is_other_shares(backend: Kernel, hidden: int, filled: list[int]) -> None:
    """A feed of best quotes, where a better price hides the level."""
    tape = [offer(1, (1002, 500)), offer(400, (1001, 5)), offer(400 + hidden, (1002, 500))]
    sim = taking(backend, ALL, refresh=100)
    run(backend, tape, [sim], depth=1)
    assert [shares for _, shares in fills(sim)] == filled


USED = kernel(BACKEND).market.Used


class Forgetful:
    """Tables of what was used that a venue's next row ends, made in place of the market's."""

    def __new__(cls, *arguments: Any) -> Any:
        class Unused(USED):  # type: ignore[misc, valid-type]
            def follow(self, view: Any, slot: int, now: int) -> None:
                for entry in reversed(range(self.count)):
                    if self.entries[6 * entry + 1] == slot:
                        self.remove(entry)

        return Unused(*arguments)


def filled_within(study: Study, time: int) -> float:
    """The part of all shares that were filled so soon after the arrival."""
    arrival = dict(zip(study.parents["order"].tolist(), study.parents["arrival"].tolist(), strict=True))
    soon = [
        shares
        for order, when, shares in zip(
            *(study.fills[name].tolist() for name in ("order", "time", "shares")), strict=True
        )
        if when <= arrival[order] + time
    ]
    return float(sum(soon) / study.parents["size"].sum())


def test_rule_2_on_recorded_days_fills_come_too_fast_without_it(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """IBM, a week, orders of 5,000 shares: how much is filled after 10 s."""
    paths = sorted(str(path) for path in (shared / "data" / "ibm_week").glob("*.csv.gz"))
    assert paths
    orders = Orders(sizes=(5_000,), number=50)

    def found() -> Study:
        return backtest(read_feed(paths), orders, [("immediate", "nbbo")], rules=Rules(complete=False))

    once = found()
    monkeypatch.setattr(work.market, "Used", Forgetful)
    again = found()
    parts = filled_within(once, 10 * SECOND), filled_within(again, 10 * SECOND)
    seconds = [float((one.parents["done"] - one.parents["arrival"]).mean()) / 1e9 for one in (once, again)]
    with capsys.disabled():
        print(
            f"\n  IBM, {len(paths)} days: {parts[0]:.0%} filled after 10 s, {parts[1]:.0%} without the rule; {seconds}"
        )
    assert parts[0] + 0.1 < parts[1]
    assert seconds[0] > seconds[1]


# --- rule 3 ----------------------------------------------------------------------------------------------------------


def test_rule_3_an_order_meets_the_book_of_its_arrival(backend: Kernel) -> None:
    """Sent at 1, it arrives at 11; what it gets is told at 21, and an order that may want more is sent then."""
    tape = [offer(1, (1002, 300)), offer(8, (1001, 120), (1002, 300)), offer(12, (1002, 250)), offer(40, (1004, 1))]
    sim = taking(backend, 300)
    run(backend, tape, [sim], latency=10)
    assert priced(sim) == [(11, 1001, 120), (11, 1002, 180)]
    assert sim.worker.executed == 300
    assert sim.at_end[0] == 21


def test_rule_3_nothing_is_taken_at_a_worse_price_than_decided(backend: Kernel) -> None:
    """What is gone is gone, and told as late; then the order is sent anew."""
    sim = taking(backend, 300)
    run(backend, [offer(1, (1002, 300)), offer(8, (1003, 300))], [sim], latency=10)
    assert priced(sim) == [(31, 1003, 300)]
    assert [one[:4] for one in sends(sim, FAR)] == [(1, 0, 1002 * CENT, 300), (21, 0, 1003 * CENT, 300)]
    assert sim.late == 300


def test_rule_3_a_latency_is_drawn_for_each_child(backend: Kernel) -> None:
    """By a seed, the same there and back."""
    tape = [offer(time, (1002, 100), bids=[(999, time)]) for time in range(1, 2_000)]

    def found(seed: int) -> list[tuple[int, int]]:
        schedule = steps(backend, [(50 * i + 1, i + 1) for i in range(30)])
        sim = taking(backend, 30, schedule=schedule, seed=seed)
        one = run(backend, tape, [sim], latency=(3, 8))
        assert one.finished == [sim]
        return [(fill.time, fill.time - fill.child.sent) for fill, _ in sim.fills]

    assert {lag for _, lag in found(1)} == {3, 8}
    assert found(1) == found(1) != found(2)


def test_rule_3_a_delayed_feed_is_seen_late_and_traded_at_once(backend: Kernel) -> None:
    """Known 20 after it happens; the venue has its own book. What was taken is taken off what is seen."""
    tape = [offer(10, (1002, 300), known=30), offer(26, (1002, 100), known=46), offer(90, (1002, 250), known=110)]
    sim = taking(backend, 1_000, delay=20)
    run(backend, tape, [sim], latency=2, delay=20, same=False)
    assert priced(sim) == [(32, 1002, 100), (112, 1002, 150)]


def test_rule_3_what_was_taken_is_taken_off_once(backend: Kernel) -> None:
    """Between its report and the time at which a delayed feed shows it, too."""
    sim = taking(backend, 300, schedule=steps(backend, [(30, 100), (35, 300)]), delay=20)
    run(
        backend,
        [offer(10, (1002, 300), known=30), offer(90, (1002, 7), known=110)],
        [sim],
        latency=2,
        delay=20,
        same=False,
    )
    assert priced(sim) == [(32, 1002, 100), (37, 1002, 200)]


def test_rule_3_a_report_takes_as_long_back(backend: Kernel) -> None:
    told = []

    class Told(backend.workers.Worker):  # type: ignore[name-defined, misc]
        def on_filled(self, number: int, execution: Any, shares: int, now: int, *more: Any) -> list[tuple[int, int]]:
            told.append(now)
            found: list[tuple[int, int]] = super().on_filled(number, execution, shares, now, *more)
            return found

    child = backend.workers.Child(0, 1000 * CENT, 100, True)
    worker = Told(BUY, 100, 2**62, 5, 99, backend.workers.Schedule(), placing(backend)(child), None, 0, 0)
    used = backend.market.Used(FAR), backend.market.Used(FAR)
    sim = backend.market.Sim(0, worker, PESSIMISTIC, *used, 1)
    run(backend, [Row(1, [(1000, 50)], [(1002, 9)]), Row(30, trade=("A", 1000, 90))], [sim], latency=10)
    assert fills(sim) == [(30, 40)]
    assert told == [40]


@pytest.mark.parametrize(("again", "time"), [((0, 30), 35), ((1, 30), 55)])
def test_rule_3_what_was_missed_is_asked_for_at_the_next_row_of_its_venue(
    backend: Kernel, again: tuple[int, int], time: int
) -> None:
    """Gone as the order arrives, and back before that is told: a row that says the same is enough, of that venue."""
    slot, when = again
    tape = [
        offer(1, (1002, 300)), offer(4, (1003, 1)), offer(8, (1002, 300)),
        Row(when, [(1000, 500)], [(1002, 300)] if slot == 0 else [(1009, 1)], slot=slot),
        Row(40, [(1000, 500)], [(1009, 1)], slot=1),
        Row(41, [(1000, 500)], [(1009, 1)], slot=1),
        offer(50, (1002, 300)),
    ]  # fmt: skip
    sim = taking(backend, 300, limit=1002 * CENT)
    run(backend, tape, [sim], venues=2, latency=5)
    assert priced(sim) == [(time, 1002, 300)]


@given(st.data())
def test_rule_3_an_order_is_woken_whenever_it_may_do_something(data: st.DataObject) -> None:
    """One that is asked at each time does the same as one that the market wakes."""
    on = kernel(data.draw(st.sampled_from(BACKENDS)))
    late, delay, latency = (data.draw(st.integers(0, 4)) for _ in range(3))
    tape = [row._replace(known=(row.known or 0) + delay) for row in data.draw(tapes(late=late, least=4))]
    refresh, oldest = data.draw(st.sampled_from([3, 9, FAR])), data.draw(st.sampled_from([2, 5, 2**62]))
    depth = data.draw(st.integers(1, 2))
    same = late == delay == 0
    side = data.draw(st.sampled_from([BUY, SELL]))

    class Often(on.workers.Schedule):  # type: ignore[name-defined, misc]
        def next(self, worker: Any, now: int) -> int:
            return now + 1

    found = []
    for schedule in (Often(), on.workers.Schedule()):
        sim = taking(on, 5_000, 2, side=side, schedule=schedule, refresh=refresh, end=300, delay=delay)
        one = market(on, 2, depth, latency=latency, delay=delay, same=same)
        one.oldest = oldest
        one.begin(sim)
        one.run(rows(on, depth, tape))
        one.finish()
        found.append(sends(sim, FAR))
    assert found[0] == found[1]


# --- rules 4 to 7 ----------------------------------------------------------------------------------------------------


def test_rule_4_a_resting_order_stands_behind_what_is_displayed(backend: Kernel) -> None:
    """The rest is in `test_queues`."""
    tape = [offer(1), Row(10, trade=("A", 1000, 450)), Row(11, trade=("A", 1000, 80)), Row(12, trade=("A", 1000, 90))]
    order = Resting(BUY, 1000 * CENT, 100, 5)
    assert [rested(backend, tape, order, queue, 2) for queue in range(3)] == [[(11, 30), (12, 70)]] * 3


def test_rule_5_prints_of_who_never_quotes_fill_nobody_and_count_as_volume(backend: Kernel) -> None:
    sim = simulated(backend, Resting(BUY, 1000 * CENT, 100, 5), OPTIMISTIC)
    tape = [Row(1, [(1000, 50)], [(1002, 9)]), Row(10, trade=("N", 990, 700), slot=-1), Row(11, trade=("A", 1000, 30))]
    one = run(backend, tape, [sim])
    assert fills(sim) == []
    assert (one.volume, one.prints) == (730, 2)


def test_rule_6_a_feed_without_trades_leaves_all_open() -> None:
    """Orders that rest fill not at all or whenever the queue may have traded, and it is said."""
    batch = feed()
    unsaid = replace(
        batch, action=np.where(batch.quotes & (batch.action == ord("T")), ord("M"), batch.action).astype("u1")
    )
    rules = Rules(complete=False, horizon=100 * SECOND)
    found = {}
    for name, one in (("trades", batch), ("elsewhere", unsaid), ("none", unsaid.take(batch.quotes))):
        study = backtest(one, Orders(sizes=(200,), number=40), [("immediate", Joining())], rules=rules)
        found[name] = [row["filled"] for row in study.rows() if row["routing"] == "joining"]
        assert any("The feed has no trades" in note for note in study.notes) is (name == "none")
    low, _, high = found["none"]
    assert low < found["trades"][PESSIMISTIC] - 0.2  # what is left is where the other side came
    assert high > found["trades"][OPTIMISTIC]
    assert high > low + 0.3
    assert found["elsewhere"] == found["none"]  # prints off exchange tell nothing of a queue


class Joining:
    """An order at the best price of its own side, and nothing else."""

    name = "joining"

    def split(self, market: Any, shares: int) -> list[Any]:
        if not market.fresh or not market.queues:
            return []
        sign = -1 if market.side == "buy" else 1
        venue, (price, _) = min(market.queues.items(), key=lambda one: sign * one[1][0])
        return [market.rest(venue, shares, price)]


@pytest.mark.parametrize(
    "row",
    [
        Row(5, [], []),
        Row(5, [(1003, 9)], [(1002, 900)]),
        Row(5, BIDS, []),
        Row(5, None, None),
        Row(5, BIDS, [(1002, 0)]),
    ],
)
def test_rule_7_what_shows_nothing_or_is_crossed_in_itself_fills_nothing(backend: Kernel, row: Row) -> None:
    """Time goes on, and what comes after it is taken."""
    sim = taking(backend, 700, 2)
    run(backend, [Row(1, BIDS, []), row, offer(9, (1004, 300))], [sim])
    assert priced(sim) == [(9, 1004, 300)]


def test_rule_7_crossed_venues_are_taken(backend: Kernel) -> None:
    """Each by itself is right."""
    sim = taking(backend, 700, 4)
    run(backend, [Row(1, [(1005, 9)], [(1006, 50)]), Row(2, BIDS, [(1002, 70)], slot=1)], [sim], venues=2)
    assert sorted(priced(sim)) == [(4, 1002, 70), (4, 1006, 50)]


def test_rule_7_gaps_are_told(backend: Kernel) -> None:
    """Without a row for longer than 99; `test_measures` has who lives in one."""
    tape = [offer(1, (1002, 9)), offer(60, (1002, 8)), offer(161, (1002, 8)), offer(260, (1002, 9))]
    assert run(backend, tape, [], longest=99).gaps == [(60, 161), (260, FAR)]


@pytest.mark.parametrize(
    ("close", "gaps"),
    [(FAR, [(161, FAR)]), (360, [(161, 360)]), (261, [(161, 261)]), (260, []), (100, []), (50, [])],
)
def test_rule_7_a_feed_that_ends_before_its_session_is_a_gap(
    backend: Kernel, close: int, gaps: list[tuple[int, int]]
) -> None:
    one = market(backend, 1, 2, longest=99)
    one.close = close
    one.run(rows(backend, 2, [offer(1, (1002, 9)), offer(90, (1002, 8)), offer(161, (1002, 8))]))
    one.finish()
    assert one.gaps == gaps


def aged(on: Kernel, tape: Any, sims: Sequence[Any], oldest: int, venues: int = 1, **knobs: Any) -> Any:
    """A market in which a venue's last row may be so old; a tape of rows, or rows."""
    one = market(on, venues, 1, **knobs)
    one.oldest = oldest
    for sim in sims:
        one.begin(sim)
    one.run(rows(on, 1, tape) if isinstance(tape, list) else tape)
    one.finish()
    return one


@pytest.mark.parametrize(("time", "filled"), [(11, [(11, 1002, 70)]), (12, [(30, 1002, 50)])])
def test_rule_7_what_is_stale_fills_nothing_until_the_next_row(
    backend: Kernel, time: int, filled: list[tuple[int, int, int]]
) -> None:
    """The row of 1 is 10 old at 11; a print is no row of the book, and a row that shows the same is."""
    sim = taking(backend, 70, time)
    tape = [offer(1, (1002, 70)), Row(13, trade=("B", 1002, 5)), offer(30, (1002, 50))]
    aged(backend, tape, [sim], 10)
    assert priced(sim) == filled
    again = taking(backend, 70, 12)
    aged(backend, [offer(1, (1002, 70)), offer(9, (1002, 70)), offer(20, (1002, 70))], [again], 10)
    assert priced(again) == [(12, 1002, 70)]


def test_rule_7_an_order_on_its_way_finds_nothing_at_a_venue_that_is_stale_by_then(backend: Kernel) -> None:
    found = []
    for age in (9, 10):
        sim = taking(backend, 70, 6)
        aged(backend, [offer(1, (1002, 70)), offer(40, (1003, 70))], [sim], age, latency=5)
        found.append((priced(sim), sim.late))
    assert found == [([(45, 1003, 70)], 70), ([(11, 1002, 70)], 0)]


def test_rule_7_venues_are_stale_one_by_one(backend: Kernel) -> None:
    """Who shows more first is stale first, and there is no mid once all are."""
    tape = [offer(1, (1001, 70)), offer(5, (1002, 70), bids=[(999, 5)])._replace(slot=1)]
    sims = [taking(backend, 100, time) for time in (11, 12, 16)]
    one = aged(backend, tape, sims, 10, 2)
    assert [sorted(priced(sim)) for sim in sims] == [[(11, 1001, 70), (11, 1002, 30)], [(12, 1002, 70)], []]
    assert one.blind == [[1, 1], [16, 2**62]]
    assert (one.lasting, one.mids / CENT) == (15, 11 * 2001 + 4 * 2001)


def test_rule_7_what_is_stale_makes_the_market_one_sided(backend: Kernel) -> None:
    """Until a row, and no gap by itself."""
    one = aged(backend, [offer(1, (1002, 70)), offer(31, (1002, 70))], [], 10, longest=40)
    assert (one.one_sided, one.gaps[:-1]) == (19, [])
    assert one.blind[:2] == [[1, 1], [12, 31]]


def test_rule_7_a_venue_is_as_old_as_the_feed_that_is_known(backend: Kernel) -> None:
    """Of a feed that is known 20 later: the venue has nothing to take from 12 on, and nobody knows before 32."""
    sims = [taking(backend, 70, time, delay=20) for time in (31, 32)]
    aged(backend, [offer(1, (1002, 70), known=21)], sims, 10, same=False, delay=20)
    assert [len(sim.worker.children) for sim in sims] == [1, 0]
    assert [priced(sim) for sim in sims] == [[], []]


def test_rule_7_of_consolidated_quotes_a_row_is_of_who_it_names(backend: Kernel) -> None:
    """Venue 0 is at the best bid unconfirmed, and its offer is named again."""
    quotes = [(1, (0, 1000, 300), (0, 1002, 200)), (8, (1, 1000, 40), (1, 1002, 40)), (13, (1, 1000, 50), (2, 1002, 9))]
    sim = taking(backend, 1_000, 14)
    aged(backend, consolidated(backend, quotes), [sim], 10, 3)
    assert sorted(priced(sim)) == [(14, 1002, 9), (14, 1002, 40)]


@pytest.mark.parametrize(("time", "filled"), [(111, [500]), (112, [500, 500])])
def test_rule_7_what_is_stale_is_out_of_sight(backend: Kernel, time: int, filled: list[int]) -> None:
    """From 12 on: after `refresh` it is taken to be other shares."""
    sim = taking(backend, ALL, refresh=100)
    aged(backend, [offer(1, (1002, 500)), offer(time, (1002, 500))], [sim], 10)
    assert [shares for _, shares in fills(sim)] == filled


def test_rule_7_orders_are_asked_when_a_venue_is_stale(backend: Kernel) -> None:
    class Second(backend.routings.Sweep):  # type: ignore[name-defined, misc]
        def split(self, worker: Any, shares: int) -> list[Any]:
            return [] if worker.view.best_slot[0] == 0 else super().split(worker, shares)

    sim = taking(backend, 70, 2, routing=Second(True))
    tape = [offer(1, (1001, 70)), offer(1, (1002, 70), bids=[(999, 5)])._replace(slot=1)]
    aged(backend, [*tape, tape[1]._replace(time=9)], [sim], 10, 2)
    assert priced(sim) == [(12, 1002, 70)]


def test_rule_7_mids_until_a_venue_is_stale_are_mids(backend: Kernel) -> None:
    """50 ms after the fill there is one, and a second after it none any more."""
    sim = taking(backend, 70, 2)
    aged(backend, [offer(1, (1002, 70))], [sim], 60 * 10**6)
    [(fill, _)] = sim.fills
    assert fill.later[:2] == [2002 * CENT, None]


def test_rule_7_a_queue_of_a_venue_that_is_stale_is_as_it_was(backend: Kernel) -> None:
    tape = [Row(1, [(1000, 300)], []), Row(40, trade=("A", 1000, 250)), Row(41, trade=("A", 1000, 90))]
    for queue in range(3):
        sim = simulated(backend, Resting(BUY, 1000 * CENT, 100, 5), queue)
        aged(backend, tape, [sim], 10)
        assert fills(sim) == [(41, 40)]


def test_rule_7_consolidated_quotes_behind_the_best_are_not_there(backend: Kernel) -> None:
    """A venue that the feed no longer shows at the best is frozen where it was: it is not taken."""
    one = market(backend, 3, 1)
    sim = taking(backend, 1_000, 25)
    one.begin(sim)
    one.run(consolidated(backend, [(10, (0, 1000, 300), (0, 1002, 200)), (20, (0, 1000, 300), (1, 1001, 40))]))
    assert [one.book.shown(0, slot, price * CENT) for slot, price in ((0, 1002), (1, 1001))] == [-1, 40]
    one.finish()
    assert priced(sim) == [(25, 1001, 40)]


@pytest.mark.parametrize(
    ("then", "filled"),
    [
        ([], [(25, 1001, 40, False), (25, 1002, 200, True)]),
        ([(22, (0, 1000, 300), (0, 1002, 90))], [(25, 1002, 90, False)]),  # told again, and the better one is gone
        (
            [(22, (0, 1000, 300), (2, 1002, 5))],
            [(25, 1002, 5, False), (25, 1002, 200, True)],
        ),  # back at the best, untold
        ([(22, (0, 1000, 300), (2, 1003, 5))], [(25, 1003, 5, False)]),  # better than the best: gone
        ([(22, (0, 1000, 300), (2, 1003, 0))], []),
    ],
)
@pytest.mark.parametrize("known", [0, 2])
def test_rule_2_frozen_quotes_are_taken_where_it_is_asked_for_and_marked(
    backend: Kernel, then: list[Any], filled: list[tuple[int, int, int, bool]], known: int
) -> None:
    """Venue 0 asks 1002 until a better offer comes: what it shows since then is not told. Each share once."""
    for take in (False, True):
        one = market(backend, 3, 1, same=not known, delay=known)
        one.take_frozen = take
        sim = taking(backend, 1_000, 25, delay=known)
        one.begin(sim)
        quotes = [(10, (0, 1000, 300), (0, 1002, 200)), (20, (0, 1000, 300), (1, 1001, 40)), *then]
        one.run(consolidated(backend, quotes, known))
        one.run(consolidated(backend, [(40, (1, 1000, 9), quotes[-1][2])], known))
        one.finish()
        found = sorted((fill.time, abs(fill.price) // CENT, fill.shares, fill.frozen) for fill, _ in sim.fills)
        assert found == [fill for fill in filled if take or not fill[3]]


@pytest.mark.parametrize("time", [3, 20])  # before the order joins, and after
@pytest.mark.parametrize(("queue", "filled"), [(PESSIMISTIC, []), (OPTIMISTIC, [(50, 100)])])
def test_rule_2_a_frozen_queue_is_not_seen(
    backend: Kernel, queue: int, filled: list[tuple[int, int]], time: int
) -> None:
    """Whether frozen quotes are taken or not."""
    for take in (False, True):
        one = market(backend, 2, 1)
        one.take_frozen = take
        sim = simulated(backend, Resting(BUY, 1000 * CENT, 100, 5), queue)
        one.begin(sim)
        one.run(consolidated(backend, [(1, (0, 1000, 300), (0, 1002, 9)), (time, (1, 1001, 300), (0, 1002, 9))]))
        one.run(rows(backend, 1, [Row(50, trade=("A", 1000, 100))]))
        one.finish()
        assert fills(sim) == filled


def consolidated(
    on: Kernel, quotes: Sequence[tuple[int, tuple[int, int, int], tuple[int, int, int]]], later: int = 0
) -> Any:
    """Rows of a time and whose the best bid and offer are, at how many cents, for how many shares; known later."""
    n = len(quotes)
    columns: dict[str, Any] = {name: np.zeros(n, np.int64) for name in ("time", "known", "size")}
    columns |= {name: np.zeros(n, np.uint8) for name in ("action", "side")} | {"price": np.full(n, NO_PRICE)}
    columns["slot"] = np.full(n, -1, np.int16)
    for at, side in ((1, "bid"), (2, "ask")):
        columns[f"{side}_slot"] = np.array([quote[at][0] for quote in quotes], np.int16)
        columns[f"{side}_price"] = np.array([[quote[at][1] * CENT] for quote in quotes], np.int64)
        columns[f"{side}_size"] = np.array([[quote[at][2]] for quote in quotes], np.int64)
    columns["time"] = np.array([quote[0] for quote in quotes], np.int64)
    columns["known"] = columns["time"] + later
    return on.market.Rows({name: array.data for name, array in columns.items()})


# --- rules 8 to 11 ---------------------------------------------------------------------------------------------------


WORLD = Scenario(duration=900, rate=10, price=200, depth=3, feed_delay=0.0)


def feed(scenario: Scenario = WORLD) -> Batch:
    return joined(list(SyntheticMarket(scenario).batches()))


def test_rule_8_parents_do_not_see_each_other_unless_together(backend: Kernel) -> None:
    tape = [offer(1, (1002, 500)), offer(9, (1002, 600))]
    alone = [taking(backend, 400, time) for time in (2, 3)]
    run(backend, tape, alone)
    assert [priced(sim) for sim in alone] == [[(2, 1002, 400)], [(3, 1002, 400)]]
    used = backend.market.Used(FAR, True), backend.market.Used(FAR, True)
    both = [taking(backend, 400, time, used=used) for time in (2, 3)]
    run(backend, tape, both)
    assert [priced(sim) for sim in both] == [[(2, 1002, 400)], [(3, 1002, 100), (9, 1002, 100)]]


def test_rule_8_together_is_of_one_strategy() -> None:
    """Twins get the same shares alone, and other ones together; another strategy is not in their way."""
    twins = [ParentOrder(symbol="SIM", side="buy", quantity=9_000, arrival=WORLD.start + 400 * SECOND)] * 2
    ways = [("immediate", "nbbo"), ("immediate", "best_venue")]
    cost = {}
    for together in (False, True):
        found = backtest(feed(), twins, ways, rules=Rules(horizon=60 * SECOND, together=together)).parents
        for routing in ("nbbo", "best_venue"):
            cost[together, routing] = found["shortfall"][found["routing"] == routing].tolist()
    for routing in ("nbbo", "best_venue"):
        first, second = cost[False, routing]
        assert first == second
        assert len({first, *cost[True, routing]}) > 1
    only = backtest(feed(), twins, ways[:1], rules=Rules(horizon=60 * SECOND, together=True)).parents
    assert only["shortfall"].tolist() == cost[True, "nbbo"]


def test_rule_9_fees_are_those_of_the_day_and_the_price(tmp_path: Path) -> None:
    """A venue changes its fee over night; one whose first figure is later is named."""
    venues = tmp_path / "venues.toml"
    head = '[[venue]]\nmic = "XNAS"\nname = "x"\nmodel = "maker-taker"\npublisher_ids = [2]\n'
    figure = "[[venue.figures]]\nvalid_from = {}\ntaker_fee = {}\nmaker_rebate = 0.0\nsource = 'x'\n"
    figure += "taker_fee_verified = false\nmaker_rebate_verified = false\n"
    venues.write_text(
        "schema_version = 1\n" + head + figure.format("2024-01-01", 0.001) + figure.format("2024-08-02", 0.002)
    )
    found = {}
    for date in ("2023-12-29", "2024-08-01", "2024-08-02"):
        world = replace(WORLD, venues=("XNAS",), date=date)
        study = backtest(
            feed(world),
            Orders(sizes=(100,), number=10),
            rules=Rules(horizon=60 * SECOND),
            directory=VenueDirectory.load(venues),
        )
        found[date] = set(np.round(study.fills["fee"] / study.fills["shares"], 9).tolist())
        assert any("outside their dates at XNAS" in note for note in study.notes) is (date < "2024")
    assert found == {"2023-12-29": {0.001}, "2024-08-01": {0.001}, "2024-08-02": {0.002}}


def test_rule_10_participation_stands_beside_every_result() -> None:
    """Of the window and of the order's life, both of what others print; a warning above a tenth."""
    batch = feed()
    for size, warned in ((10, False), (30_000, True)):
        rules = Rules(horizon=120 * SECOND)
        study = backtest(batch, Orders(sizes=(size,), number=20), rules=rules)
        trades = (batch.action == ord("T")) & (batch.size > 0)
        for i in range(len(study.parents["order"])):
            one = {name: values[i] for name, values in study.parents.items()}
            for until, name in ((one["end"], "participation"), (one["last_fill"], "life_participation")):
                inside = trades & (batch.time > one["arrival"]) & (batch.time <= until)
                volume = float(batch.size[inside].sum())
                assert one[name] == pytest.approx(one["filled"] / volume if volume else np.nan, nan_ok=True)
        assert any("move nobody" in note for note in study.notes)
        assert any("a real market would have reacted" in note for note in study.notes) is warned
        assert {"participation", "life_participation"} <= study.rows()[0].keys()


def test_rule_11_a_parent_does_not_depend_on_its_neighbours() -> None:
    """Each alone is what it is among all, resting ones and their queue models included."""
    batch = feed()
    orders = [
        ParentOrder(symbol="SIM", side=side, quantity=size, arrival=WORLD.start + at * SECOND)
        for at, side, size in ((300, "buy", 700), (300, "buy", 300), (310, "sell", 2_000), (311, "buy", 5_000))
    ]
    ways = [("twap:3", "cont_kukanov"), ("twap:3", "pro_rata"), ("immediate", "cont_kukanov")]
    rules = Rules(horizon=100 * SECOND, placement=10 * SECOND, min_windows=20)
    left_out = ("order",)

    def rows_of(study: Study, number: int) -> Iterator[tuple[Any, ...]]:
        chosen = np.flatnonzero(study.parents["order"] == number)
        for i in chosen.tolist():
            yield tuple(repr(values[i]) for name, values in study.parents.items() if name not in left_out)

    every = backtest(batch, orders, ways, rules=rules)
    assert every.parents["maker"].sum() > 0
    for number, order in enumerate(orders):
        alone = backtest(batch, [order], ways, rules=rules)
        assert list(rows_of(alone, 0)) == list(rows_of(every, number))


# --- rule 12 ---------------------------------------------------------------------------------------------------------


def sends_once(on: Kernel, *children: Any) -> Any:
    """A routing: these, and nothing after them."""
    routing = placing(on)(None)
    routing.children = list(children)
    return routing


def ruled(on: Kernel, terms: Terms, tape: Sequence[Row], sim: Any, latency: int = 0, **knobs: Any) -> Any:
    """The order on a market whose venue has these terms."""
    one = market(on, 1, 2, latency=latency, **knobs)
    one.take_terms([terms])
    one.begin(sim)
    one.run(rows(on, 2, tape))
    one.finish()
    return sim


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("rests", [False, True])
@pytest.mark.parametrize(
    ("terms", "shares", "accepted"),
    [
        (Terms(lot=100), 200, True),
        (Terms(lot=100), 199, False),
        (Terms(lot=100), 201, False),
        (Terms(min_quantity=150), 150, True),
        (Terms(min_quantity=150), 149, False),
        (Terms(max_quantity=150), 150, True),
        (Terms(max_quantity=150), 151, False),
        (Terms(min_notional=1003.0), 100, True),  # 10.03 * 100 is a little less in binary fractions
        (Terms(min_notional=1003.0), 99, False),
        (Terms(min_notional=1003.000001), 100, False),
        (Terms(ticket=0.5), 1, True),
    ],
)
def test_rule_12_an_order_that_breaks_a_venues_rules_is_rejected(
    backend: Kernel, terms: Terms, shares: int, accepted: bool, rests: bool, side: int
) -> None:
    """At 10.03 dollars, where all that it wants is shown."""
    price = 1003 * CENT * (-1 if side == SELL else 1)
    sim = taking(
        backend, ALL, 2, side=side, routing=sends_once(backend, backend.workers.Child(0, price, shares, rests))
    )
    ruled(backend, terms, [Row(1, [(1003, 500)], [(1003, 500)])], sim)
    assert priced(sim) == ([(2, 1003, shares)] if accepted else [])
    assert (sim.worker.rejections, sim.tickets) == ((0, terms.ticket) if accepted else (1, 0.0))
    assert sim.late == 0


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize(
    ("price", "tick", "accepted"),
    [
        (10_005_000_000, 0.005, True),
        (10_004_000_000, 0.005, False),
        (10_004_999_999, 0.005, False),
        (10_050_000_000, 0.05, True),
        (10_010_000_000, 0.05, False),
        (10_010_000_000, 1.001, True),  # 1.001 * 1e9 is a little less in binary fractions
        (10_009_999_990, 1.001, False),
        (7, 0.000000007, True),
        (8, 0.000000007, False),
    ],
)
def test_rule_12_what_rests_rests_on_its_venues_tick(
    backend: Kernel, price: int, tick: float, accepted: bool, side: int
) -> None:
    """In 1e-9 dollars. A tick alone is a rule, too."""
    sim = simulated(backend, Resting(side, price, 100, 2), PESSIMISTIC)
    ruled(backend, Terms(tick=tick), [Row(1, [], [])], sim)
    assert sim.worker.rejections == (0 if accepted else 1)


def test_rule_12_who_takes_is_not_asked_for_a_tick(backend: Kernel) -> None:
    sim = taking(backend, 100, 2)
    ruled(backend, Terms(tick=0.05), [offer(1, (1002, 100))], sim)
    assert priced(sim) == [(2, 1002, 100)]


def test_rule_12_that_an_order_is_rejected_is_told_after_the_way_back(backend: Kernel) -> None:
    """It trades nothing, although all is there. A venue's book and the one that is known have the same rules."""
    told = []

    class Told(backend.workers.Worker):  # type: ignore[name-defined, misc]
        def on_ended(self, number: int, cumulative: int, now: int, rejected: bool = False, *more: Any) -> None:
            told.append((number, cumulative, now, rejected))
            super().on_ended(number, cumulative, now, rejected, *more)

    routing = sends_once(backend, *(backend.workers.Child(0, 1002 * CENT, shares) for shares in (50, 100)))
    worker = Told(BUY, 500, 2**62, 5, 99, backend.workers.Schedule(), routing, None, 0, 0)
    sim = backend.market.Sim(0, worker, PESSIMISTIC, backend.market.Used(FAR), backend.market.Used(FAR), 1)
    one = market(backend, 1, 2, latency=10, same=False)
    terms = [Terms(lot=100.0, ticket=2.0)]
    one.take_terms(terms)
    one.begin(sim)
    one.run(rows(backend, 2, [offer(1, (1002, 300))]))
    one.finish()
    assert told == [(0, 0, 25, True), (1, 100, 25, False)]
    assert (priced(sim), sim.tickets) == ([(15, 1002, 100)], 2.0)
    assert worker.view.terms is one.book.terms is terms
    assert worker.view is not one.book


def test_rule_12_who_breaks_them_again_and_again_is_left_out(backend: Kernel) -> None:
    """With no latency it would be asked and refused for ever."""

    class Again(backend.workers.Routing):  # type: ignore[name-defined, misc]
        def split(self, worker: Any, shares: int) -> list[Any]:
            return [backend.workers.Child(0, 1000 * CENT, 50, True)]

    sim = taking(backend, 100, 2, routing=Again(), end=40 * SECOND)
    ruled(backend, Terms(lot=100), [offer(1)], sim)
    assert [child.sent for child in sim.worker.children] == [2] * 3 + [2 + 30 * SECOND] * 3
    assert (sim.worker.rejections, len(sim.worker.absences)) == (6, 2)


@pytest.mark.parametrize(("least", "filled", "late"), [(250, [150, 100], 50), (251, [], 300)])
def test_rule_12_a_venue_fills_its_least_execution_at_once_or_nothing(
    backend: Kernel, least: int, filled: list[int], late: int
) -> None:
    """Of all levels that the order may take; it is no reject, and a ticket is paid."""
    sim = taking(backend, 300, 2, routing=sends_once(backend, backend.workers.Child(0, 1003 * CENT, 300)))
    ruled(backend, Terms(min_execution=least, ticket=0.5), [offer(1, (1002, 150), (1003, 100))], sim)
    assert [shares for _, shares in fills(sim)] == filled
    assert (sim.worker.rejections, sim.late, sim.tickets) == (0, late, 0.5)


@pytest.mark.parametrize(("shares", "filled"), [(200, [(2, 200)]), (199, [])])
def test_rule_12_an_order_of_less_than_a_least_execution_gets_nothing(
    backend: Kernel, shares: int, filled: list[tuple[int, int]]
) -> None:
    sim = taking(backend, ALL, 2, routing=sends_once(backend, backend.workers.Child(0, 1002 * CENT, shares)))
    ruled(backend, Terms(min_execution=200), [offer(1, (1002, 300))], sim)
    assert (fills(sim), sim.worker.rejections) == (filled, 0)


def test_rule_12_what_was_taken_is_no_part_of_a_least_execution(backend: Kernel) -> None:
    """300 are shown, and after 200 of them were taken 100 are left."""
    routing = sends_once(backend, *(backend.workers.Child(0, 1002 * CENT, shares) for shares in (200, 101)))
    sim = taking(backend, 301, 2, routing=routing)
    ruled(backend, Terms(min_execution=101), [offer(1, (1002, 300))], sim)
    assert fills(sim) == [(2, 200)]


@pytest.mark.parametrize(
    ("tape", "queue", "enough"),
    [
        ([Row(5, trade=("A", 1000, 600))], PESSIMISTIC, 100),  # a print behind 500 that stood before it
        ([Row(5, trade=("A", 1000, 600))], OPTIMISTIC, 100),
        ([offer(5, (1000, 100), bids=[(999, 5)])], PESSIMISTIC, 100),  # the other side comes
        ([offer(5, (1000, 100), bids=[(999, 5)])], OPTIMISTIC, 200),
    ],
)
def test_rule_12_what_rests_is_filled_by_the_least_execution_or_not(
    backend: Kernel, tape: list[Row], queue: int, enough: int
) -> None:
    for least, filled in ((enough, [(5, enough)]), (enough + 1, [])):
        sim = simulated(backend, Resting(BUY, 1000 * CENT, 200, 2), queue)
        ruled(backend, Terms(min_execution=least), [offer(1), *tape], sim)
        assert fills(sim) == filled


@pytest.mark.parametrize(("least", "filled"), [(70, [(5, 70)]), (71, [])])
def test_rule_12_a_least_execution_in_a_feed_without_trades(
    backend: Kernel, least: int, filled: list[tuple[int, int]]
) -> None:
    """The queue of 500 is 0, so that 70 more may have been traded: as many as are behind it."""
    sim = simulated(backend, Resting(BUY, 1000 * CENT, 70, 2), OPTIMISTIC)
    one = market(backend, 1, 2)
    one.traded = False
    one.take_terms([Terms(min_execution=least)])
    one.begin(sim)
    one.run(rows(backend, 2, [offer(1), offer(3, bids=[(1000, 900)]), offer(5, bids=[(1000, 300)])]))
    one.finish()
    assert fills(sim) == filled


def test_rule_12_a_ticket_is_paid_for_each_order_and_again_when_it_is_sent_again(backend: Kernel) -> None:
    """100 are there; what was not there is sent for at the venue's next rows, and in vain."""
    tape = [offer(1, (1002, 300)), offer(4, (1003, 1)), offer(20, (1002, 100)), offer(28, (1003, 1))]
    sim = taking(backend, 300, limit=1002 * CENT)
    ruled(backend, Terms(ticket=0.25), tape, sim, latency=5)
    assert [child.executed for child in sim.worker.children] == [0, 100]
    assert sim.tickets == 0.5


@given(st.data())
def test_rule_12_both_backends_keep_the_same_rules(data: st.DataObject) -> None:
    side, depth, latency = (
        data.draw(st.sampled_from([BUY, SELL])),
        data.draw(st.integers(1, 2)),
        data.draw(st.integers(0, 4)),
    )
    tape, queue = data.draw(tapes(least=4)), data.draw(st.integers(0, 2))
    amounts = st.sampled_from([0, 50, 100, 150])
    terms = [
        Terms(
            float(data.draw(st.sampled_from([1, 50, 100]))),
            float(data.draw(amounts)),
            data.draw(st.sampled_from([0.0, 500.0, 1002.0])),
            float(data.draw(amounts)),
            data.draw(st.sampled_from([float("inf"), 200.0])),
            data.draw(st.sampled_from([0.0, 0.1])),
            data.draw(st.sampled_from([0.0, 0.02])),
        )
        for _ in range(2)
    ]
    found = []
    for on in map(kernel, BACKENDS):
        sim = taking(on, 900, 2, side=side, routing=heedless(on), queue=queue, end=200)
        one = market(on, 2, depth, latency=latency)
        one.take_terms(terms)
        one.begin(sim)
        one.run(rows(on, depth, tape))
        one.finish()
        found.append((sends(sim, FAR), priced(sim), sim.tickets, sim.worker.rejections, sim.late, sim.at_end))
    assert found[0] == found[1]


def heedless(on: Kernel) -> Any:
    """A routing that takes half of what is shown, and rests behind it, by no rule."""

    class Both(on.workers.Routing):  # type: ignore[name-defined, misc]
        def split(self, worker: Any, shares: int) -> list[Any]:
            offers, sign = worker.offers, -1 if worker.side else 1
            rows = ((offers.slot[i], offers.price[i], offers.size[i] // 2) for i in range(offers.count))
            found = [on.workers.Child(*row) for row in rows]
            if worker.fresh:
                found += [on.workers.Child(i % 2, sign * (998 + i) * CENT, 60 * i, True) for i in range(1, 5)]
            return found

    return Both()


class Careless:
    """Takes what one venue shows at its best, by no rule."""

    def __init__(self, venue: str, name: str = "careless") -> None:
        self.venue, self.name = venue, name

    def split(self, market: Any, shares: int) -> list[Any]:
        mine = [one for one in market.offers if one.venue == self.venue][:1]
        return [market.take(one.venue, min(shares, one.size), one.price) for one in mine]


def with_rules(**rules: DatedRules) -> VenueDirectory:
    """The built-in directory, with rules of some of its venues."""
    entries = (
        structs.replace(entry, rules=(rules[entry.venue_id],)) if entry.venue_id in rules else entry
        for entry in DIRECTORY
    )
    return VenueDirectory(entries, DIRECTORY.default)


def test_rule_12_tickets_are_a_part_of_the_fees_and_parts_add_up() -> None:
    """Beside the same orders at a venue without a ticket: that is all that differs."""
    batch, ticket = feed(), 0.35
    rules = Rules(horizon=60 * SECOND, complete=False)
    found = []
    for directory in (DIRECTORY, with_rules(XNAS=DatedRules(ticket=ticket))):
        ways = [("twap:3", Careless("XNAS"))]
        study = backtest(batch, Orders(sizes=(3_000,), number=30), ways, rules=rules, directory=directory)
        found.append(study)
        for i in range(len(study.parents["order"])):
            row = {name: values[i].item() for name, values in study.parents.items()}
            parts = [row[f"{name}_cost"] for name in ("timing", "waiting", "spread", "fees", "end")]
            assert sum(parts) == pytest.approx(row["shortfall"], abs=1e-9)
            assert row["fees_bps"] == pytest.approx(1e4 * row["fees_cost"] / row["size"] / row["mid"], abs=1e-9)
    free, charged = (
        {name: one.parents[name][one.parents["routing"] == "careless"] for name in one.parents} for one in found
    )
    assert charged["tickets"] == pytest.approx(ticket * charged["children"])
    assert len(set(charged["children"].tolist())) > 1
    assert not free["tickets"].any()
    for name in ("fees_cost", "shortfall"):
        assert charged[name] - free[name] == pytest.approx(charged["tickets"], abs=1e-9)
    for name in ("timing_cost", "waiting_cost", "spread_cost", "end_cost", "filled", "children"):
        assert (charged[name] == free[name]).all()
    assert (found[0].fills["fee"] == found[1].fills["fee"]).all()


@pytest.mark.parametrize(
    ("size", "rules", "rejected"),
    [
        (2, DatedRules(lot=2), False),
        (2.5, DatedRules(lot=2), True),
        (1.5, DatedRules(min_quantity=2), True),
        (2, DatedRules(min_quantity=2), False),
        (2, DatedRules(max_quantity=2), False),
        (2.5, DatedRules(max_quantity=2), True),
        (0.5, DatedRules(min_notional=50.005), False),
        (0.5, DatedRules(min_notional=50.006), True),
        (0.5, DatedRules(ticket=0.5), False),
    ],
)
def test_rule_12_rules_are_in_units_of_an_instrument(size: float, rules: DatedRules, rejected: bool) -> None:
    """Of half a coin; its offer is at 100.01."""
    coins = Instruments({"T": Instrument(lot="0.5")})  # type: ignore[arg-type]
    batch = tape([quote(t, XNAS, (99.99, 90), (100.01, 90)) for t in range(90)])
    order = ParentOrder(symbol="T", side="buy", quantity=size, arrival=OPENS + 10 * SECOND)
    one = Rules(horizon=60 * SECOND, complete=False)
    ways, directory = [("immediate", Careless("XNAS"))], with_rules(XNAS=rules)
    parents = backtest(batch, [order], ways, rules=one, directory=directory, instruments=coins).parents
    mine = {name: values[parents["routing"] == "careless"][0].item() for name, values in parents.items()}
    fee = DIRECTORY.by_mic("XNAS").figure_at(OPENS).taker_fee  # type: ignore[union-attr]
    if rejected:
        assert mine["rejects"] == mine["children"] > 0 == mine["filled"] == mine["tickets"]
    else:
        assert (mine["rejects"], mine["filled"], mine["tickets"]) == (0, size, rules.ticket)
        assert mine["fees_cost"] == pytest.approx(size * fee + rules.ticket)


@pytest.mark.parametrize(("price", "lot"), [(249.0, 100), (251.0, 40), (999.0, 40), (1001.0, 10)])
def test_rule_12_a_round_lot_goes_by_the_first_mid_of_the_session(price: float, lot: int) -> None:
    """Not by what was quoted before it, nor by what comes later."""
    opens = 1_767_623_400 * 10**9  # 2026-01-05, 09:30 in New York
    shown = [quote(-5, XNAS, (0.01, 100), (199_999.0, 100))]
    shown += [quote(t, XNAS, (price - 0.01, 900), (price + 0.01, 900)) for t in range(30)]
    shown += [quote(t, XNAS, (3 * price, 900), (3 * price + 0.02, 900)) for t in range(30, 90)]
    found = []
    for size in (lot, lot + 1, 2 * lot):
        order = ParentOrder(symbol="T", side="buy", quantity=size, arrival=opens + 40 * SECOND)
        one = Rules(horizon=20 * SECOND, complete=False)
        directory = with_rules(XNAS=DatedRules(lot="round"))
        ways = [("immediate", Careless("XNAS"))]
        study = backtest(tape(shown, opens=opens), [order], ways, rules=one, directory=directory)
        found.append(study.parents["filled"][study.parents["routing"] == "careless"][0])
    assert found == [lot, 0, 2 * lot]


def test_rule_12_a_study_names_venues_with_rules_and_what_they_are() -> None:
    batch = feed()
    every = DatedRules("round", 10, 1000.0, 200, 50_000, 0.5, 0.005)
    directory = with_rules(XNAS=every, IEXG=DatedRules(lot=200), LTSE=DatedRules(lot=5), ARCX=DatedRules())
    assert {"XNAS", "IEXG"} < set(WORLD.venues)
    assert "LTSE" not in WORLD.venues
    ways, wanted = [("immediate", Careless("IEXG"))], Orders(sizes=(10,), number=5)
    study = backtest(batch, wanted, ways, rules=Rules(horizon=60 * SECOND, complete=False), directory=directory)
    told = (
        "Venues with rules reject what breaks them, and charge their tickets: IEXG (lots of 200); XNAS (round lots, 10 "
        "or more, $1,000 or more, 200 at once or nothing, 50,000 at most, prices on $0.005, a ticket of $0.5)."
    )
    assert study.notes.count(told) == 1
    rejects = int(study.parents["rejects"].sum())
    assert rejects > 0
    assert any(note.startswith(f"Venues rejected {rejects:,} of ") for note in study.notes)
    later = with_rules(XNAS=DatedRules(lot=100, start=2**62))
    early = backtest(batch, wanted, ways, rules=Rules(horizon=60 * SECOND), directory=later)
    assert any(": XNAS (lots of 100, from outside their dates)." in note for note in early.notes)
    none = backtest(batch, wanted, ways, rules=Rules(horizon=60 * SECOND))
    assert not any("Venues" in note for note in none.notes)


# --- prints that are not of the moment -------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["L", "Z", "5", "6", "4", "M", "@  U"])
def test_prints_that_a_feed_flags_are_left_out_where_it_is_read(condition: str) -> None:
    """Late, of an auction, of a derivative: they neither fill nor count."""
    header = b"DATE,TIME_M,EX,SYM_ROOT,SYM_SUFFIX,TR_SCOND,SIZE,PRICE,TR_CORR"
    row = "20240801,9:30:01.000000001,Q,SIM,,{},100,10.00,00"
    trades = TaqTrades(header, DIRECTORY, events=True)
    with pytest.raises(LeftOut):
        trades.decode(row.format(condition).encode())
    assert trades.decode(row.format("@").encode()).event is not None
