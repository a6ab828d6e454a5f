"""Snapshots, their merging over workers, health, and what is served of them."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

import sor
from sor import Book, InputError, Order, Router
from sor.service import telemetry
from sor.service.telemetry import (
    BAD,
    BOUNDARIES,
    NAMES,
    NO_STREAM,
    REJECTED,
    SNAPSHOT_S,
    STALLED_S,
    Snapshot,
    Status,
    StreamState,
    Telemetry,
    Workers,
    merge,
    serving,
    unhealthy,
    unready,
)
from sor.stream.summary import Latencies, RunSummary

LOCAL = "127.0.0.1"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def state(lag: int | None = 0, **changes: Any) -> StreamState:
    """One partition, ready, with a lag or one that cannot be told."""
    lags = {} if lag is None else {("market", 0): lag}
    return msgspec.structs.replace(NO_STREAM, **({"lags": lags, "assigned": 1} | changes))


def routed(results: int = 1, nanoseconds: int = 20_000) -> RunSummary:
    """A run whose every result buys 50 of 100 shares, 1 dollar above the mid of 100."""
    book = Book("AAPL")
    book.quote("V0", bids=[(99.0, 10)], asks=[(101.0, 50)])
    result = Router().route(Order("AAPL", "buy", 100), book)
    summary = RunSummary()
    for _ in range(results):
        summary.add(result, nanoseconds)
        summary.messages += 1
    return summary


class Page:
    """What a scrape saw: samples by name and labels, in both formats alike."""

    def __init__(self, port: int) -> None:
        status, text, kind = get(port, "/metrics")
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        self.samples = _samples(parser.text_string_to_metric_families(text))
        status, text, kind = get(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert (status, kind.split(";")[0]) == (200, "application/openmetrics-text")
        assert _samples(openmetrics.text_string_to_metric_families(text)) == self.samples

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))


def _samples(families: Any) -> dict[Any, float]:
    found = [sample for family in families for sample in family.samples]
    samples = {(one.name, frozenset(one.labels.items())): one.value for one in found}
    assert len(samples) == len(found)  # no series twice
    return samples


def get(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://{LOCAL}:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers["Content-Type"]


class Board:
    """A served status that a test sets."""

    def __init__(self) -> None:
        self.status = Telemetry().status

    def __call__(self) -> Status:
        return self.status()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Board, int]]:
    board = Board()
    with serving(board, LOCAL, 0) as port:
        yield board, port


@pytest.fixture
def scrape(served: Any) -> Any:
    board, port = served

    def scraped(status: Any) -> Page:
        board.status = status
        return Page(port)

    return scraped


# --- the histogram ---------------------------------------------------------------------------------------------------

near_boundaries = st.builds(lambda boundary, off: boundary + off, st.sampled_from(BOUNDARIES), st.integers(-1, 1))


@given(st.lists(near_boundaries | st.integers(0, 10**5) | st.integers(0, 2**40), max_size=200))
@example(list(BOUNDARIES))
def test_counts_below_boundaries_are_exact(values):
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    assert latencies.below(BOUNDARIES) == [sum(value < boundary for value in values) for boundary in BOUNDARIES]
    assert latencies.total == sum(values)


def test_boundaries_reach_from_ten_microseconds_to_a_second():
    assert list(BOUNDARIES) == sorted(set(BOUNDARIES))
    assert BOUNDARIES[0] <= 10_000
    assert BOUNDARIES[-1] >= 10**9
    assert all(high / low <= 1.5 for low, high in pairwise(BOUNDARIES))


def test_the_histogram_served_is_that_of_the_latencies(scrape):
    summary = RunSummary()
    latencies = [3_000, 8_191, 8_192, 12_288, 50_000, 50_000, 2 * 10**9]
    for nanoseconds in latencies:
        summary.latencies.add(nanoseconds)
    watch = Telemetry()
    watch.turned(summary, state)
    page = scrape(watch.status)
    name = "sor_routing_latency_seconds"
    buckets = {
        float(dict(labels)["le"]): value
        for (sample, labels), value in page.samples.items()
        if sample == f"{name}_bucket"
    }
    assert len(buckets) == len(BOUNDARIES) + 1
    for bound, count in buckets.items():
        assert count == sum(nanoseconds / 1e9 < bound for nanoseconds in latencies)
    assert page(f"{name}_count") == len(latencies)
    assert page(f"{name}_sum") == pytest.approx(sum(latencies) / 1e9)


# --- what is served --------------------------------------------------------------------------------------------------


def test_everything_that_a_run_says(scrape):
    summary = routed(4)
    summary.skipped["symbol"], summary.skipped["conflated"] = 3, 2
    summary.bad["price"] = 5
    summary.rejected["terms"] = 2
    summary.evicted, summary.scattered = 3, 4
    summary.doubtful["F_BAD_TS_RECV"] = 6
    summary.messages += 12
    watch = Telemetry()
    before = time.time()
    stream = StreamState(
        lags={("market", 0): 7, ("orders", 11): 0},
        assigned=2,
        bootstrapping=True,
        rebuilt=9,
        rebalances=3,
        missing=8,
        committed=6,
        aborted=1,
        age_ms=250.0,
    )
    watch.turned(summary, lambda: stream)
    page = scrape(watch.status)
    assert page("sor_messages_total") == 16
    assert page("sor_results_total") == 4
    assert page("sor_skipped_total", reason="symbol") == 3
    assert page("sor_skipped_total", reason="conflated") == 2
    assert page("sor_dead_letters_total", reason="price") == 5
    assert page("sor_dead_letters_total", reason="json") == 0
    assert page("sor_rejected_total", reason="terms") == 2
    assert page("sor_rejected_total", reason="symbol") == 0
    assert page("sor_doubtful_total", flag="F_BAD_TS_RECV") == 6
    assert page("sor_evicted_books_total") == 3
    assert page("sor_scattered_symbols_total") == 4
    assert page("sor_doubtful_total", flag="F_MAYBE_BAD_BOOK") == 0
    assert page("sor_shares_ordered_total") == 400
    assert page("sor_shares_executed_total") == 200
    assert page("sor_shortfall_dollars") == pytest.approx(summary.shortfall)
    assert page("sor_shortfall_dollars") > 0
    assert page("sor_notional_at_mid_dollars_total") == pytest.approx(20_000)
    assert page("sor_lag_messages", topic="market", partition="0") == 7
    assert page("sor_lag_messages", topic="orders", partition="11") == 0
    assert page("sor_data_age_seconds") == 0.25
    assert page("sor_rebalances_total") == 3
    assert page("sor_missing_messages_total") == 8
    assert page("sor_transactions_total", outcome="committed") == 6
    assert page("sor_transactions_total", outcome="aborted") == 1
    assert page("sor_partitions") == 2
    assert page("sor_bootstrapping") == 1
    assert page("sor_worker_restarts_total") == 0
    assert page("sor_workers") == 1
    assert before <= page("sor_last_progress_timestamp_seconds") <= time.time()
    assert page("sor_build_info", version=sor.__version__, kernels=sor.BACKEND) == 1
    names = {name for name, _ in page.samples}
    histogram = {NAMES[0] + end for end in ("_bucket", "_count", "_sum")}
    assert names == set(NAMES[1:]) | histogram


def test_what_is_not_known_is_absent(scrape):
    page = scrape(Telemetry().status)
    for name in ("sor_data_age_seconds", "sor_lag_messages", "sor_last_progress_timestamp_seconds"):
        assert not any(found == name for found, _ in page.samples)
    assert page("sor_messages_total") == 0
    assert page("sor_transactions_total", outcome="aborted") == 0


def test_reasons_of_bad_messages_stand_at_zero_from_the_start():
    """Those that reading JSON can give, as the sources have them; a new one has to join the list."""
    folder = Path(sor.__file__).parent / "market"
    found = {
        call.args[1].value
        for name in ("fields.py", "databento_json.py", "update.py", "book.py")
        for call in ast.walk(ast.parse((folder / name).read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "DataError"
    }
    assert found | {"order"} == set(BAD)  # and a message that is no order


def test_reasons_of_rejections_stand_at_zero_from_the_start():
    """Those that the sources count orders by; a new one has to join the list."""
    calls = ast.walk(ast.parse(Path(sor.__file__).with_name("stream").joinpath("orders.py").read_text()))
    words = [
        call.args[3]
        for call in calls
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "_reject" and len(call.args) > 3
    ]
    assert {word.value for word in words} == set(REJECTED)


def test_a_shortfall_may_fall_and_names_of_topics_are_escaped(scrape):
    one = Snapshot(turned=0.0, moved=0.0, shortfall=-2.5, bad={'a"b\\c\n': 1})
    page = scrape(lambda: Status(one, 1, 0, None, None))
    assert page("sor_shortfall_dollars") == -2.5
    assert page("sor_dead_letters_total", reason='a"b\\c\n') == 1


# --- snapshots -------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_taken_once_a_second_and_at_the_end():
    clock = Clock()
    watch = Telemetry(clock=clock)
    asked = []

    def asking() -> StreamState:
        asked.append(clock.now)
        return state()

    seen = []
    summary = routed(0)
    for _ in range(5):
        summary.messages += 1
        watch.turned(summary, asking)
        seen.append(watch.status().snapshot.messages)
        clock.now += SNAPSHOT_S / 2
    assert seen == [1, 1, 3, 3, 5]
    assert len(asked) == 3
    summary.messages += 1
    clock.now -= SNAPSHOT_S / 4
    watch.turned(summary, asking)
    assert watch.status().snapshot.messages == 5
    watch.turned(summary, asking, last=True)
    assert watch.status().snapshot.messages == 6


def test_a_snapshot_does_not_change_when_the_run_goes_on():
    watch = Telemetry()
    summary = routed(1)
    summary.bad["json"] = 1
    watch.turned(summary, state)
    one = watch.status().snapshot
    before = msgspec.json.encode(one.bad), one.below
    summary.bad["json"] += 1
    summary.latencies.add(1)
    assert (msgspec.json.encode(one.bad), one.below) == before


def test_progress_is_a_message_answered():
    clock = Clock()
    watch = Telemetry(clock=clock)
    summary = routed(0)
    watch.turned(summary, state)
    assert watch.status().snapshot.progressed is None
    summary.messages += 1
    clock.now += SNAPSHOT_S
    watch.turned(summary, state)
    progressed = watch.status().snapshot.progressed
    assert progressed == pytest.approx(time.time(), abs=300)
    clock.now += SNAPSHOT_S
    watch.turned(summary, state)
    assert watch.status().snapshot.progressed == progressed


def test_a_file_that_cannot_be_written_does_not_stop_the_stream(tmp_path, caplog):
    watch = Telemetry(str(tmp_path / "gone" / "worker-0"))
    watch.turned(routed(1), state)
    assert watch.status().snapshot.results == 1
    assert "cannot write" in caplog.text
    assert "No such file" in caplog.text


# --- merging ---------------------------------------------------------------------------------------------------------


def snapshot(**changes: Any) -> Snapshot:
    return Snapshot(**({"turned": 1000.0, "moved": 1000.0, "stream": state()} | changes))


def test_merging_adds_counts_and_unites_partitions():
    one = snapshot(
        turned=5.0,
        moved=4.0,
        progressed=100.0,
        messages=10,
        results=6,
        skipped={"symbol": 1},
        bad={"json": 2, "price": 1},
        rejected={"terms": 1},
        evicted=1,
        below=tuple(range(len(BOUNDARIES))),
        timed=6,
        nanoseconds=600,
        ordered=100,
        executed=50,
        shortfall=-1.5,
        notional_at_mid=10.0,
        stream=state(
            lags={("t", 0): 1, ("t", 1): 2}, assigned=2, rebalances=1, committed=3, aborted=1, age_ms=5.0, rebuilt=4
        ),
    )
    other = snapshot(
        turned=6.0,
        moved=3.0,
        messages=20,
        results=20,
        bad={"json": 1},
        rejected={"terms": 2},
        evicted=2,
        scattered=5,
        doubtful={"F_BAD_TS_RECV": 4},
        below=(1,) * len(BOUNDARIES),
        timed=20,
        nanoseconds=1,
        ordered=1,
        executed=1,
        shortfall=1.0,
        notional_at_mid=1.0,
        stream=state(lags={("t", 1): 9, ("u", 1): 4}, assigned=1, bootstrapping=True, rebalances=2, committed=1),
    )
    expected = snapshot(
        turned=6.0,
        moved=4.0,
        progressed=100.0,
        messages=30,
        results=26,
        skipped={"symbol": 1},
        bad={"json": 3, "price": 1},
        rejected={"terms": 3},
        evicted=3,
        scattered=5,
        doubtful={"F_BAD_TS_RECV": 4},
        below=tuple(count + 1 for count in range(len(BOUNDARIES))),
        timed=26,
        nanoseconds=601,
        ordered=101,
        executed=51,
        shortfall=-0.5,
        notional_at_mid=11.0,
        stream=state(
            lags={("t", 0): 1, ("t", 1): 9, ("u", 1): 4},
            assigned=3,
            bootstrapping=True,
            rebalances=3,
            committed=4,
            aborted=1,
            age_ms=5.0,
            rebuilt=4,
        ),
    )
    assert merge([one, other]) == expected
    assert merge([other, one]) == expected  # the newer lag of a partition wins, whatever the order
    assert merge([one]) == one


def work(workers: Workers, worker: int, clock: Clock, summary: RunSummary, stream: StreamState | None = None) -> None:
    """A worker's one turn; only the file links it to its supervisor."""
    Telemetry(workers._file(worker), clock).turned(summary, lambda: stream or state())


def test_counts_of_restarted_workers_never_fall(tmp_path, scrape):
    clock = Clock()
    workers = Workers(str(tmp_path), clock)
    pages = [scrape(workers.status)]

    def look() -> Page:
        pages.append(scrape(workers.status))
        return pages[-1]

    for worker in (0, 1):
        workers.started(worker)
        look()
        stream = state(lags={("t", worker): 5}, committed=2, aborted=1, rebalances=1, age_ms=10.0 + worker)
        work(workers, worker, clock, routed(10 + worker), stream)
    page = look()
    assert (page("sor_workers"), page("sor_results_total"), page("sor_partitions")) == (2, 21, 2)
    assert page("sor_data_age_seconds") == 0.011

    workers.ended(1)
    page = look()
    assert (page("sor_workers"), page("sor_results_total"), page("sor_partitions")) == (1, 21, 1)
    assert page("sor_lag_messages", topic="t", partition="1") is None  # nobody has it now
    assert page("sor_data_age_seconds") == 0.01
    assert page("sor_worker_restarts_total") == 0

    workers.started(1)
    assert look()("sor_worker_restarts_total") == 1
    work(workers, 1, clock, routed(1), state(lags={("t", 1): 3}, committed=1))
    page = look()
    assert (page("sor_results_total"), page("sor_partitions")) == (22, 2)
    assert page("sor_transactions_total", outcome="committed") == 5
    assert page("sor_lag_messages", topic="t", partition="1") == 3
    workers.ended(1)  # and once more, also before it ever came round
    look()
    workers.started(1)
    workers.ended(1)
    page = look()
    assert (page("sor_workers"), page("sor_results_total")) == (1, 22)
    assert page("sor_worker_restarts_total") == 2
    counters = [key for key in pages[-1].samples if key[0].endswith(("_total", "_bucket", "_count", "_sum"))]
    assert len(counters) > 40
    for key in counters:
        values = [page.samples.get(key, 0.0) for page in pages]
        assert values == sorted(values), key


def test_a_snapshot_survives_its_file(tmp_path):
    clock = Clock()
    workers = Workers(str(tmp_path), clock)
    file = workers.started(3)
    watch = Telemetry(file, clock)
    summary = routed(2)
    summary.bad["json"] = 1
    summary.executed += 0.5  # of a coin
    watch.turned(summary, lambda: state(lags={("a.b", 4): 2}, age_ms=1.5))
    assert workers.status().snapshot == merge([Snapshot(turned=0.0, moved=0.0), watch.status().snapshot])
    assert [path.name for path in tmp_path.iterdir()] == ["worker-3"]


WORKER = """
import sys
from sor.stream.summary import RunSummary
from sor.service.telemetry import NO_STREAM, Telemetry
watch = Telemetry(sys.argv[1])
summary = RunSummary()
for _ in range(2000):
    summary.messages += 1
    summary.latencies.add(1000)
    watch.turned(summary, lambda: NO_STREAM, last=True)
"""


def test_a_snapshot_is_never_seen_half_written(tmp_path):
    """Another process writes as fast as it can while this one reads; both have the same clock."""
    workers = Workers(str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", WORKER, workers.started(0)])
    try:
        seen = 0
        while process.poll() is None:
            one = workers.status().snapshot
            assert one.messages >= seen
            assert one.timed == one.messages
            seen = one.messages
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    status = workers.status()
    assert status.snapshot.messages == 2000
    assert 0 <= time.monotonic() - status.snapshot.turned < STALLED_S
    assert status.unhealthy is None


# --- health ----------------------------------------------------------------------------------------------------------

JUST, LONG = STALLED_S, STALLED_S + 1


@pytest.mark.parametrize(
    ("turned", "moved", "reason"),
    [
        (0, 0, None),
        (JUST, JUST, None),
        (0, LONG, "no message answered for 61 s while 1,200 wait"),
        (LONG, LONG, "the loop has not come round for 61 s"),
    ],
)
def test_health_by_the_times(turned, moved, reason):
    one = snapshot(turned=5000.0 - turned, moved=5000.0 - moved, stream=state(1200))
    assert unhealthy(one, 5000.0) == reason
    assert unready(one, 5000.0) == reason


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (state(), None),
        (state(5), None),
        (state(assigned=0), "no partition assigned"),
        (state(bootstrapping=True, rebuilt=1234), "rebuilding books: 1,234 messages read"),
        (state(assigned=0, bootstrapping=True), "rebuilding books: 0 messages read"),
    ],
)
def test_ready_is_with_partitions_and_books(stream, reason):
    one = snapshot(stream=stream)
    assert unready(one, 1000.0) == reason
    assert unhealthy(one, 1000.0) is None


# Of each second, what it brings: (messages answered, lag, messages read to rebuild books).
@pytest.mark.parametrize(
    ("seconds", "well"),
    [
        pytest.param(lambda second: (0, 0, 0), True, id="idle"),
        pytest.param(lambda second: (1, second, 0), True, id="too slow, but moving"),
        pytest.param(lambda second: (0, None, 0), True, id="lag unknown"),
        pytest.param(lambda second: (0, 10 + second, 0), False, id="stuck while lag grows"),
        pytest.param(lambda second: (0, 10, 0), False, id="stuck on what was there"),
        pytest.param(lambda second: (0, 500 - second, 0), True, id="lag shrinks"),
        pytest.param(lambda second: (0, 10 + second, 1), True, id="rebuilding"),
        pytest.param(lambda second: (second % 50 == 0, 10 + second, 0), True, id="a message every 50 s"),
        pytest.param(lambda second: (second < 30, 10 + second, 0), False, id="stuck after a while"),
        pytest.param(lambda second: (second > 90, 10, 0), True, id="well again"),
        pytest.param(lambda second: (0, 5 * (second > 99), 0), True, id="messages after a long silence"),
        pytest.param(lambda second: (0, 5 if second > 60 else None, 0), True, id="brokers back"),
    ],
)
def test_health_by_what_the_run_does(seconds, well):
    clock = Clock()
    watch = Telemetry(clock=clock)
    summary = routed(0)
    rebuilt = 0
    for second in range(120):
        answered, lag, read = seconds(second)
        summary.messages += answered
        rebuilt += read
        stream = state(lag, rebuilt=rebuilt)
        watch.turned(summary, lambda stream=stream: stream)
        clock.now += SNAPSHOT_S
    assert (watch.status().unhealthy is None) == well
    clock.now += STALLED_S  # whatever it was, now the loop hangs
    assert "not come round" in watch.status().unhealthy
    assert "not come round" in watch.status().unready


def test_workers_are_healthy_together_and_ready_with_one(tmp_path):
    clock = Clock()
    workers = Workers(str(tmp_path), clock)
    status = workers.status()
    assert (status.workers, status.unhealthy, status.unready) == (0, None, "no worker is running")
    workers.started(0)
    workers.started(1)
    status = workers.status()
    assert status.unhealthy is None
    assert status.unready == "worker 0: no partition assigned; worker 1: no partition assigned"
    work(workers, 0, clock, routed(1))
    assert workers.status().unready is None  # worker 1 may be a spare
    clock.now += LONG
    work(workers, 0, clock, routed(1))
    status = workers.status()
    assert status.unhealthy == "worker 1: the loop has not come round for 61 s"
    assert status.unready is None
    workers.ended(1)
    assert workers.status().unhealthy is None  # it is not running; the supervisor will start it again
    workers.started(1)
    assert workers.status().unhealthy is None
    workers.given_up = "worker 1 ended 5 times in a minute"
    status = workers.status()
    assert status.unhealthy == status.unready == workers.given_up


# --- HTTP ------------------------------------------------------------------------------------------------------------


def test_probes_are_answered(served):
    board, port = served
    one = Snapshot(turned=0.0, moved=0.0)
    board.status = lambda: Status(one, 1, 0, None, "no partition assigned")
    assert get(port, "/healthz")[:2] == (200, "healthy\n")
    assert get(port, "/readyz")[:2] == (503, "no partition assigned\n")
    board.status = lambda: Status(one, 1, 0, "it hangs", None)
    assert get(port, "/healthz")[:2] == (503, "it hangs\n")
    assert get(port, "/readyz?verbose=1")[:2] == (200, "ready\n")
    assert get(port, "/")[:2] == (404, "there are /metrics, /healthz and /readyz\n")


def test_a_scrape_while_the_run_goes_on(served):
    """The loop's dictionaries get new keys all the time; a scrape never sees that."""
    board, port = served
    watch = Telemetry()
    board.status = watch.status
    done = threading.Event()

    def loop() -> None:
        summary = RunSummary()
        while not done.is_set():
            summary.messages += 1
            summary.bad[f"reason {summary.messages % 5000}"] += 1
            watch.turned(summary, state, last=True)
            time.sleep(0)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        for _ in range(20):
            assert get(port, "/metrics")[0] == 200
    finally:
        done.set()
        thread.join()


def test_a_silent_connection_holds_up_nobody(served):
    _, port = served
    with socket.create_connection((LOCAL, port), timeout=30):
        assert get(port, "/healthz")[0] in (200, 503)


def test_a_port_in_use_is_an_error_that_names_it(served):
    _, port = served
    with pytest.raises(InputError, match=rf"--metrics-host {LOCAL}, --metrics-port {port}: Address already in use"):
        serving(Telemetry().status, LOCAL, port).__enter__()


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(InputError, match=r"--metrics-host 192\.0\.2\.1, --metrics-port 9464: Cannot assign"):
        serving(Telemetry().status, "192.0.2.1", 9464).__enter__()


def test_the_port_is_free_again_afterwards():
    with serving(Telemetry().status, "0.0.0.0", 0) as port:  # noqa: S104
        assert get(port, "/healthz")[0] == 200
    with serving(Telemetry().status, LOCAL, port) as again:
        assert again == port


def test_the_names_are_those_of_the_dashboards():
    assert len(NAMES) == len(set(NAMES)) == 24
    assert all(telemetry.HELP[name] for name in NAMES)
