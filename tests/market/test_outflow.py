"""Queue outflows: what leaves the touch, counted once; joint windows; gaps, late rows, new venues; bounded memory."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import math
import pickle
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_sample import Exchange, Profile

from sor.errors import InputError
from sor.market import Event
from sor.market.databento_csv import CsvDecoder
from sor.market.outflow import MAX_STEPS, MAX_VENUES, SECOND, Outflows
from sor.models.placement import place

SAMPLE = Path(__file__).resolve().parents[2] / "sample.csv"
START = 10**6 * SECOND


def counted(rows: list[Any], **options: Any) -> tuple[int, int]:
    """(bids, asks) that left one venue by these rows of (bid, ask, event): all within the second after the first."""
    outflows = Outflows(SECOND, 1, **options)
    outflows.observe(1, START, None, None)
    for i, (bid, ask, event) in enumerate(rows):
        outflows.observe(1, START + SECOND + i, bid, ask, event)
    outflows.observe(1, START + 2 * SECOND, rows[-1][0], rows[-1][1])
    (bids,), (asks,) = (outflows.samples(side, [1])[0] for side in ("buy", "sell"))
    return int(bids), int(asks)


def bids_of(*levels: Any) -> int:
    """Bids that left by successive quotes alone; the same of asks with negated prices."""
    rows = [(level, None, None) for level in levels]
    mirrored = [(None, level and (-level[0], level[1]), None) for level in levels]
    left = counted(rows)
    assert counted(mirrored) == left[::-1]
    assert left[1] == 0
    return left[0]


def cancelled(price: float, size: int, side: str = "B") -> Event:
    return Event("C", side, price, size)


def traded(price: float | None, size: int, taker: str = "A") -> Event:
    return Event("T", taker, price, size)


# --- what counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "left"),
    [
        ([(10.0, 500)], 0),  # nothing was known before
        ([(10.0, 500), (10.0, 300)], 200),
        ([(10.0, 500), (10.0, 700)], 0),
        ([(10.0, 500), (10.0, 700), (10.0, 100)], 600),
        ([(10.0, 500), (9.99, 900)], 500),  # the price is lost
        ([(10.0, 500), None], 500),
        ([(10.0, 500), None, (10.0, 200)], 500),
        ([(10.0, 500), (10.01, 100)], 0),  # a better price: the queue still stands behind it
        ([(10.0, 500), (10.01, 100), (10.0, 400)], 100),
        ([None, None], 0),
    ],
)
def test_inferred_from_quotes(levels: list[Any], left: int) -> None:
    assert bids_of(*levels) == left


B5, B4, B3, LOWER, ASK = (10.0, 500), (10.0, 400), (10.0, 300), (9.99, 800), (10.02, 100)


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        ([(B5, ASK, None), (B4, ASK, cancelled(10.0, 100))], 100),
        ([(B5, ASK, None), (B3, ASK, cancelled(10.0, 100))], 100),  # a row was lost: only what is said
        ([(B5, ASK, None), (B5, ASK, cancelled(9.99, 100))], 0),  # behind the touch
        ([(B5, ASK, None), (LOWER, ASK, cancelled(10.0, 500))], 500),
        ([(B5, ASK, None), (LOWER, ASK, cancelled(10.0, 10**6))], 500),  # no more than was shown
        ([(B5, ASK, None), (B4, ASK, cancelled(10.0, 0))], 100),  # a size of 0 says nothing
        ([(B5, ASK, None), (B5, ASK, traded(10.0, 100)), (B4, ASK, cancelled(10.0, 100))], 100),  # one, not two
        ([(B5, ASK, None), (B5, ASK, traded(10.0, 100)), (B4, ASK, Event("M", "B", 10.0, 50))], 100),  # a part fill
        ([(B5, ASK, None), (B4, ASK, traded(10.0, 100))], 100),  # the book after the trade, in its own row
        ([(B5, ASK, None), (B5, ASK, traded(10.0, 100)), (B3, ASK, cancelled(10.0, 200))], 200),
        ([(B5, ASK, None), (B5, ASK, traded(10.0, 300))], 300),  # of a hidden order: it was met all the same
        ([(B5, ASK, None), (B5, ASK, traded(10.01, 300))], 0),  # inside the spread
        ([(B5, ASK, None), (B5, ASK, traded(10.0, 100)), (B5, ASK, traded(9.99, 200))], 300),  # through the touch
        ([(B5, ASK, None), (B5, ASK, traded(10.0, 100, "N"))], 0),  # nobody says who took
        ([(B5, ASK, None), (B5, ASK, traded(None, 100))], 0),
        ([(None, ASK, None), (None, ASK, traded(10.0, 100))], 0),  # no queue is known there
        ([(B5, ASK, None), (B4, ASK, Event("A", "B", 10.0, 400))], 100),  # the IBM recording's way
        ([(B5, ASK, None), (None, None, Event("R", "N", None, 0)), (B4, ASK, None)], 0),  # cleared
        ([(B5, ASK, None), (B4, (9.98, 100), None), (B3, ASK, None)], 0),  # crossed: not believed, nor what follows
    ],
)
def test_stated_by_events(rows: list[Any], left: int) -> None:
    """On the venue's own event times, which a trade and its cancel share."""
    outflows = Outflows(SECOND, 1)
    outflows.observe(1, START, None, None)
    for bid, ask, event in rows:
        outflows.observe(1, START + SECOND, bid, ask, event)
    outflows.observe(1, START + 2 * SECOND, rows[-1][0], rows[-1][1])
    assert outflows.samples("buy", [1]).tolist() == [[left]]
    assert outflows.samples("sell", [1]).tolist() == [[0]]


def test_a_trade_stands_for_removals_of_its_own_event_only() -> None:
    assert counted([(B5, ASK, None), (B5, ASK, traded(10.0, 100)), (B4, ASK, cancelled(10.0, 100))]) == (200, 0)


def test_a_trade_where_no_ask_is_shown() -> None:
    assert counted([(B5, None, None), (B5, None, traded(10.0, 100, "B"))]) == (0, 0)


def test_sums_stay_exact_however_large_the_sizes() -> None:
    huge = [((10.0, 10**12), None, None), ((9.0, 10**12), None, None), ((8.0, 1), None, None)]
    assert counted(huge) == (10**12, 0)


def test_no_window_holds_more_than_place_takes() -> None:
    """Each step is within the bound, and the window of two is not: the largest number stands for what is above it."""
    outflows = Outflows(2 * SECOND, 10)
    for second, bid in enumerate([None, (10.0, 10**12), (9.0, 10**12), (8.0, 1), (8.0, 1), (8.0, 1), (8.0, 1)]):
        outflows.observe(1, START + second * SECOND, bid, None)
    table = outflows.samples("buy", [1])
    assert table[:, 0].tolist() == [10**12, 10**12, 10**12, 0.0]  # the sum is no less exact for it
    placed = place(100, 0.01, 0.003, [0.002], [10.0], table, theta=0.0005, lambda_under=0.05, lambda_over=0.05)
    assert placed.limits == (100.0,)


def test_trades_only() -> None:
    rows = [(B5, ASK, None), (B4, ASK, cancelled(10.0, 100)), (B4, ASK, traded(10.0, 100)), (None, ASK, None)]
    assert counted(rows) == (600, 0)
    assert counted(rows, cancellations=False) == (100, 0)


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ([(B5, ASK, None)], None),
        ([(B5, ASK, None), (B4, ASK, None)], "inferred"),
        ([(B5, ASK, None), (B4, ASK, Event("C", "B", 10.0, 0))], "inferred"),
        ([(B5, ASK, None), (B4, ASK, cancelled(10.0, 100))], "events"),
        ([(B5, ASK, None), (B5, ASK, traded(10.0, 100))], "events"),
        ([(B5, ASK, None), (B3, ASK, traded(10.0, 100))], "events"),  # the rest went in a row that says what happened
        ([(B5, ASK, None), (B4, ASK, Event("M", "B", 10.0, 50))], "events"),
        ([(B5, ASK, None), (B4, ASK, cancelled(10.0, 100)), (B3, ASK, None)], "mixed"),
        ([(B5, (10.02, 200), None), (B4, (10.02, 200), cancelled(10.0, 100)), (B4, ASK, None)], "mixed"),
    ],
)
def test_source(rows: list[Any], source: str | None) -> None:
    outflows = Outflows()
    for i, (bid, ask, event) in enumerate(rows):
        outflows.observe("X", START + i, bid, ask, event)
    assert outflows.source("X") == source
    assert outflows.source("Y") is None


# --- against the truth of a simulated exchange -----------------------------------------------------------------------


def simulated_rows(seed: int, rows: int) -> tuple[list[Any], dict[str, int]]:
    """Rows (bid, ask, event) of one exchange with orders in queues, and the shares that truly left each touch."""
    exchange = Exchange(Profile("SIM", 1, 8, orders=3.0, weight=1, reaction=1, feed=1), random.Random(seed), 80_000)
    rng, out, truth = exchange.rng, [], {"B": 0, "A": 0}

    def touch(side: str) -> Any:
        price = exchange.prices(side)[0]
        return price / 100, sum(exchange.book[side][price])

    def record(change: Any = None) -> None:
        event = change and Event(change.action, change.side, change.price / 100, change.size)
        out.append((touch("B"), touch("A"), event))

    record()
    while len(out) < rows:
        side, before = rng.choice("AB"), {s: touch(s) for s in "AB"}
        kind = rng.randrange(4)
        if kind == 0:
            record(exchange.add(side, exchange.prices(side)[0] + rng.choice([0, 0, 1 if side == "B" else -1])))
        elif kind == 1:
            depth = rng.choice([0, 0, 1])
            record(exchange.cancel(side, depth, rng.randrange(len(exchange.book[side][exchange.prices(side)[depth]]))))
        elif kind == 2:
            for change in exchange.trade(side):
                record(change)
        else:
            record(exchange.modify(side, 0))
        exchange.extend(side)
        price, size = before[side]
        now = sum(exchange.book[side].get(round(price * 100), []))
        truth[side] += max(size - now, 0)
        if touch("B") >= touch("A"):  # the side that came too near starts again elsewhere
            return out, truth
    return out, truth


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("with_events", [True, False])
def test_what_truly_left_is_counted_once(seed: int, with_events: bool) -> None:
    rows, truth = simulated_rows(seed, 300)
    assert min(truth.values()) > 0
    outflows = Outflows(SECOND, 1)
    bid, ask, _ = rows[0]
    outflows.observe(1, START + SECOND - 1, bid, ask)
    time = START + SECOND
    for bid, ask, event in rows[1:]:
        time += event.action in "TA"  # what a trade does to the book has the trade's time
        outflows.observe(1, time, bid, ask, event if with_events else None)
    outflows.observe(1, START + 2 * SECOND, bid, ask)
    assert outflows.samples("buy", [1]).tolist() == [[truth["B"]]]
    assert outflows.samples("sell", [1]).tolist() == [[truth["A"]]]
    assert outflows.source(1) == ("events" if with_events else "inferred")


# --- windows ---------------------------------------------------------------------------------------------------------

STEP = 10  # nanoseconds
VENUES = ["p", "q", "r"]
waits = st.sampled_from([0, 0, 1, 3, 9, 10, 11, 35]) | st.integers(-25, 60)
histories = st.lists(st.tuples(st.sampled_from(VENUES), waits, st.integers(0, 9), st.integers(0, 9)), max_size=80)


def windows_by_hand(rows: list[Any], horizon: int) -> list[dict[str, tuple[int, int]]]:
    """All windows from the list of rows (venue, time, bid size, ask size): what left each venue that was known.

    One price a side, so that what leaves is a smaller size. No ring, no running sum: a window is counted from the
    list of all that ever left.
    """
    windows: list[dict[str, tuple[int, int]]] = []
    stretches: list[list[Any]] = []
    newest = -math.inf
    for venue, time, *sizes in rows:
        if abs(time - newest) > horizon:
            stretches.append([])
            newest = time
        newest = max(newest, time)
        stretches[-1].append((venue, newest, sizes))  # a late row counts when it comes
    for stretch in stretches:
        left, first, last = [], {}, {}
        for venue, time, sizes in stretch:
            gone = [max(0, a - b) for a, b in zip(last.get(venue, sizes), sizes, strict=True)]
            left.append((venue, time, gone))
            last[venue] = sizes
            first.setdefault(venue, time)
        begin = (stretch[0][1] // STEP + 1) * STEP
        while begin + horizon <= stretch[-1][1]:
            windows.append(
                {
                    venue: tuple(
                        sum(
                            gone[side] for name, time, gone in left if name == venue and begin <= time < begin + horizon
                        )
                        for side in (0, 1)
                    )
                    for venue in first
                    if first[venue] < begin
                }
            )
            begin += STEP
    return windows


@given(histories, st.integers(1, 4), st.integers(1, 7))
def test_windows_against_a_recount(history: list[Any], steps: int, most: int) -> None:
    time, rows = 1000, []
    for venue, wait, bid, ask in history:
        time = max(time + wait, 0)
        rows.append((venue, time, bid, ask))
    outflows = Outflows(steps * STEP, most, every=STEP)
    for venue, time, bid, ask in rows:
        outflows.observe(venue, time, (10.0, bid) if bid else None, (11.0, ask) if ask else None)
        outflows.samples("buy", VENUES)  # what is asked for in between changes nothing
    windows = windows_by_hand(rows, steps * STEP)[-most:]
    assert outflows.count == len(windows)
    for venues in (["p"], ["q", "p"], VENUES):
        for index, side in enumerate(("buy", "sell")):
            known = [window for window in windows if set(venues) <= set(window)]
            table = outflows.samples(side, venues)
            assert table.shape == (len(known), len(venues))
            assert table.tolist() == [[window[venue][index] for venue in venues] for window in known]


def test_the_recount_sees_windows() -> None:
    rows = [("p", 1000 + 5 * i, 9 - i % 9, 5) for i in range(20)]
    assert len(windows_by_hand(rows, 3 * STEP)) == 6
    assert windows_by_hand(rows, 3 * STEP)[0] == {"p": (6, 0)}  # rows 2 to 7


def drain(outflows: Outflows, venue: Any, seconds: range, size: int = 10**6) -> None:
    """A venue whose bid loses as many shares as the second's number."""
    for second in seconds:
        size -= second
        outflows.observe(venue, START + second * SECOND, (10.0, size), (11.0, 1))


def test_samples_are_contiguous_kept_and_not_written_to() -> None:
    outflows = Outflows(2 * SECOND, 3)
    drain(outflows, "x", range(5))
    drain(outflows, "y", range(4, 9))
    table = outflows.samples("buy", ["x"])
    assert table.dtype == np.float64
    assert table.flags.c_contiguous
    assert not table.flags.writeable
    assert outflows.samples("buy", ("x",)) is table
    outflows.observe("y", START + 8 * SECOND + 5, (10.0, 1), (11.0, 1))  # within the second
    assert outflows.samples("buy", ["x"]) is table
    outflows.observe("y", START + 9 * SECOND, (10.0, 1), (11.0, 1))
    assert outflows.samples("buy", ["x"]) is not table
    assert table.tolist() == [[4.0], [0.0], [0.0]]  # of the windows before that: the third to seventh second's
    assert outflows.samples("buy", ["y", "x"]).flags.c_contiguous


def test_venues_stay_together() -> None:
    """What two venues do at the same time stands in the same row, in the order that was asked for."""
    outflows = Outflows(SECOND, 50)
    size = {"x": 10**6, "y": 10**6}
    for second in range(60):
        for venue, factor in (("x", 1), ("y", 3)):
            size[venue] -= factor * (second % 7)
            outflows.observe(venue, START + second * SECOND + factor, (10.0, size[venue]), None)
    table = outflows.samples("buy", ["y", "x"])
    assert len(table) == 50
    assert len(set(table[:, 1])) == 7
    assert (table[:, 0] == 3 * table[:, 1]).all()


def test_a_venue_counts_from_the_windows_that_it_was_known_at_the_start_of() -> None:
    outflows = Outflows(3 * SECOND, 100)
    drain(outflows, "x", range(8))
    outflows.observe("y", START + 7 * SECOND, (10.0, 5), None)
    drain(outflows, "x", range(8, 13))
    assert outflows.count == 9
    assert len(outflows.samples("buy", ["x"])) == 9
    assert outflows.samples("buy", ["y"]).tolist() == [[0.0], [0.0]]  # windows from seconds 8 and 9 on
    assert len(outflows.samples("buy", ["x", "y"])) == 2
    assert outflows.samples("buy", ["x", "z"]).shape == (0, 2)
    assert outflows.samples("buy", []).shape == (9, 0)


def test_after_a_gap_a_venue_counts_again_when_it_has_come_back() -> None:
    """`y` stays away: nothing is known of its queue, and no quiet window is made up for it."""
    outflows = Outflows(2 * SECOND, 100)
    for second in range(5):
        for venue in "xy":
            outflows.observe(venue, START + second * SECOND, (10.0, 100 - second), None)
    before = len(outflows.samples("buy", ["y"]))
    later = START + 1000 * SECOND
    for second in range(12):
        outflows.observe("x", later + second * SECOND, (10.0, 100 - second), None)
        if second >= 6:
            outflows.observe("y", later + second * SECOND + 1, (10.0, 100 - second), None)
    assert len(outflows.samples("buy", ["x"])) == before + 9  # whole windows end with seconds 2 to 10
    assert len(outflows.samples("buy", ["y"])) == before + 3  # those that began with second 7 or later
    assert len(outflows.samples("buy", ["x", "y"])) == before + 3


def test_a_queue_that_is_gone_after_a_gap_says_nothing_of_the_source() -> None:
    outflows = Outflows(SECOND, 10)
    outflows.observe("x", START, (10.0, 100), None)
    outflows.observe("x", START + 1000 * SECOND, (10.0, 5), None)
    assert outflows.source("x") is None
    outflows.observe("x", START + 1000 * SECOND + 1, (10.0, 4), None)
    assert outflows.source("x") == "inferred"


def test_quiet_seconds_are_samples_and_a_night_is_none() -> None:
    outflows = Outflows(60 * SECOND, 5000)
    for second in (*range(10), 60, 70):
        outflows.observe("x", START + second * SECOND, (10.0, 1000 - second), None)
    assert outflows.count == 10  # windows that end with seconds 60 to 69
    outflows.observe("x", START + 10**5 * SECOND, None, None)  # the next day, the queue is gone
    assert outflows.count == 10
    drain(outflows, "x", range(10**5 + 1, 10**5 + 61))
    assert outflows.count == 10
    before = outflows.samples("buy", ["x"]).tolist()
    drain(outflows, "x", range(10**5 + 61, 10**5 + 62))
    after = outflows.samples("buy", ["x"]).tolist()
    assert after[:-1] == before
    assert after[-1] == [sum(range(10**5 + 2, 10**5 + 61))]  # not the queue that was lost overnight


def test_a_time_gone_astray_costs_a_window_and_not_the_day() -> None:
    outflows = Outflows(5 * SECOND, 5000)
    drain(outflows, "x", range(20))
    kept = outflows.count
    outflows.observe("x", 2**62, (10.0, 5), None)
    drain(outflows, "x", range(20, 40))
    assert outflows.count == kept + 14


def test_late_rows_count_when_they_come() -> None:
    outflows = Outflows(2 * SECOND, 10)
    drain(outflows, "x", range(3))
    outflows.observe("y", START, (10.0, 50), None)
    outflows.observe("y", START + 2 * SECOND + 1, (10.0, 40), None)
    drain(outflows, "x", range(3, 4))
    outflows.observe("y", START + 2 * SECOND + 2, (10.0, 10), None)  # late by less than a second
    drain(outflows, "x", range(4, 6))
    assert outflows.samples("buy", ["y"])[-1].tolist() == [30.0]


def test_memory_is_bounded() -> None:
    outflows = Outflows(10 * SECOND, 20)
    for second in range(100):
        outflows.observe(second % 3, START + second * SECOND, (10.0, 5), None)
    full = outflows.nbytes
    for second in range(100, 1000):
        outflows.observe(second % 3, START + second * SECOND, (10.0, 5), None)
    assert outflows.nbytes == full == 8 * 2 * 3 * (20 + 10 + 1)
    for side in ("buy", "sell"):
        for mask in range(200):
            outflows.samples(side, [mask % 3] * (mask % 50 + 1))
    assert outflows.nbytes <= full + 32 * 20 * 50 * 8
    for venue in range(3 * MAX_VENUES):
        outflows.observe(venue, START + 1000 * SECOND, (10.0, 5), None)
    assert outflows.nbytes == 8 * 2 * MAX_VENUES * (20 + 10 + 1)
    assert outflows.samples("buy", [MAX_VENUES + 1]).shape == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"horizon": 0}, "horizon is 0"),
        ({"horizon": SECOND + 1}, "whole number of steps of 1000000000"),
        ({"horizon": (MAX_STEPS + 1) * SECOND}, f"at most {MAX_STEPS}"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": 10**9}, "samples is 1000000000"),
        ({"every": -1}, "every is -1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Outflows(**arguments)


def test_wrong_side() -> None:
    with pytest.raises(InputError, match="side is 'bids': it must be one of buy, sell"):
        Outflows().samples("bids", [])


# --- feeds -----------------------------------------------------------------------------------------------------------


def test_the_sample_states_its_outflows() -> None:
    """By hand from the cells: C at the touch as it says, and M by the queue; trades are within the C behind them."""
    rows = list(csv.DictReader(io.StringIO(SAMPLE.read_text())))
    lines = SAMPLE.read_bytes().splitlines()
    decoder = CsvDecoder(lines[0], events=True)
    outflows = Outflows(SECOND, 100)
    wanted: dict[Any, int] = defaultdict(int)
    shown: dict[Any, Any] = {}
    second, newest, publishers = 0, "", sorted({int(row["publisher_id"]) for row in rows})
    windows: list[Any] = []
    for row, line in zip(rows, lines[1:], strict=True):
        newest = max(newest, row["ts_event"])
        if int(newest[17:19]) != second:
            windows.append(dict(wanted))
            wanted.clear()
            second = int(newest[17:19])
        publisher = int(row["publisher_id"])
        for side, name in (("B", "bid"), ("A", "ask")):
            touch = row[f"{name}_px_00"], int(row[f"{name}_sz_00"])
            price, size = shown.get((publisher, side), ("", 0))
            if row["action"] == "C" and row["side"] == side and row["price"] == price:
                wanted[publisher, side] += int(row["size"])
            elif row["action"] == "M" and row["side"] == side and price == touch[0]:
                wanted[publisher, side] += max(0, size - touch[1])
            shown[publisher, side] = touch
        update = decoder.decode(line)
        outflows.observe(publisher, update.time, update.bids[0], update.asks[0], update.event)
    assert outflows.count == len(windows) - 1 == 17
    for side, name in (("buy", "B"), ("sell", "A")):
        table = outflows.samples(side, publishers)
        assert table.sum() > 10_000
        complete = windows[-len(table) :]
        assert table.tolist() == [[window.get((publisher, name), 0) for publisher in publishers] for window in complete]
    assert {outflows.source(publisher) for publisher in publishers} == {"events"}


def test_the_ibm_recording_is_inferred(shared: Path) -> None:
    """Windows of a minute, the last 500, against a recount from the cells of the rows that they span."""
    path = shared / "data" / "lean_ibm_20131007_mbp-1.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    decoder = CsvDecoder(lines[0], 1, events=True)
    updates = [decoder.decode(line) for line in lines[1:]]
    outflows = Outflows()
    for update in updates:
        outflows.observe(update.publisher_id, update.time, update.bids[0], update.asks[0], update.event)
    publishers = sorted({update.publisher_id for update in updates})
    assert {outflows.source(publisher) for publisher in publishers} == {"inferred"}
    assert outflows.count == 500
    left: dict[Any, np.ndarray] = {}
    last: dict[Any, Any] = {}
    end = updates[-1].time // SECOND
    seconds = end - (updates[0].time // SECOND)
    for update in updates:
        second = end - 1 - update.time // SECOND  # before the last whole one
        for side in ("bids", "asks"):
            key, now = (update.publisher_id, side), getattr(update, side)[0]
            before = last.get(key)
            if before is not None and second >= 0:
                better = now is not None and (now[0] > before[0] if side == "bids" else now[0] < before[0])
                stands = before[1] if better else now[1] if now is not None and now[0] == before[0] else 0
                left.setdefault(key, np.zeros(seconds))[second] += max(0, before[1] - stands)
            last[key] = now
    for side, name in (("buy", "bids"), ("sell", "asks")):
        table = outflows.samples(side, publishers)
        assert table.shape == (500, len(publishers))
        for column, publisher in zip(table.T, publishers, strict=True):
            of_venue = left[publisher, name]
            assert column[::-1].tolist() == [of_venue[k : k + 60].sum() for k in range(500)]


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of docs/outflows.md, one after the other."""
    page = (SAMPLE.parent / "docs" / "outflows.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines = SAMPLE.read_bytes().splitlines()
    decoder = CsvDecoder(lines[0], events=True)
    names: dict[str, Any] = {"updates": [decoder.decode(line) for line in lines[1:]]}
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, names)  # noqa: S102
    assert len(blocks) == 2
    assert names["xi"].shape == (0, 3)  # the sample is shorter than a minute
    assert names["learner"].count(names["state"]) == 1


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301 - our own bytes
def test_a_copy_counts_on_its_own(duplicate: Any) -> None:
    def go_on(outflows: Outflows, seconds: range, left: int) -> None:
        for i in seconds:
            outflows.observe(1, START + i * SECOND, (10.0, 10_000 - left * i), (10.1, 100))

    outflows = Outflows(2 * SECOND, 50)
    go_on(outflows, range(20), 7)
    before, other = outflows.samples("buy", [1]).copy(), duplicate(outflows)
    assert np.array_equal(other.samples("buy", [1]), before)
    go_on(other, range(20, 40), 9)
    assert other.count == outflows.count + 20
    assert np.array_equal(outflows.samples("buy", [1]), before)
    go_on(outflows, range(20, 40), 9)
    assert np.array_equal(outflows.samples("buy", [1]), other.samples("buy", [1]))
