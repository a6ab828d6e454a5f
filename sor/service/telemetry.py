"""Metrics and health over HTTP: a snapshot of the run, taken now and then, read by Prometheus and by probes.

The loop counts as it always does; once a second `Telemetry` copies the counts, so a message costs nothing more.
Worker processes write their snapshots to files, which their supervisor (`Workers`) merges when it is asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sor.errors import InputError
from sor.kernels import BACKEND
from sor.market.fields import DOUBTS
from sor.stream.summary import RunSummary

logger = logging.getLogger(__name__)

SNAPSHOT_S = 1.0  # least time between two snapshots
STALLED_S = 60.0  # without movement, after which a run that has something to do is not healthy

# Upper bounds of the histogram in nanoseconds: 2**n and 1.5 * 2**n from 8 us to 1.6 s, edges of `Latencies`' buckets.
BOUNDARIES = tuple(factor << power for power in range(12, 30) for factor in (2, 3))

# Labels that stand at 0 from the start: `increase` does not see the first count of a series that was not there.
SKIPPED = ("symbol",)
BAD = ("event", "json", "key", "number", "order", "price", "publisher", "schema", "size", "symbol", "time", "trade")
REJECTED = ("routing", "symbol", "terms")
DOUBTFUL = tuple(flag for flag, _ in DOUBTS.values())

HELP = {
    "sor_routing_latency_seconds": "From a message's bytes to its encoded result, without Kafka",
    "sor_messages_total": "Messages taken: results, skipped, dead letters and rejected",
    "sor_results_total": "Results",
    "sor_skipped_total": "Messages left out on purpose, by reason",
    "sor_dead_letters_total": "Messages that could not be used, by reason",
    "sor_rejected_total": "Orders rejected although their message is a good one (no dead letter), by reason",
    "sor_doubtful_total": "Messages that the feed itself doubts, by its flag; used all the same",
    "sor_evicted_books_total": "Books that have gone, as a partition had more symbols than --max-symbols",
    "sor_scattered_symbols_total": "Symbols seen in more than one partition: no book of theirs is whole",
    "sor_shares_ordered_total": "Shares that results were to place",
    "sor_shares_executed_total": "Shares that results placed; by those ordered, the fill rate",
    "sor_shortfall_dollars": "Cost against the mid, fees included, so far; may fall",
    "sor_notional_at_mid_dollars_total": "Shares placed times the mid; the shortfall by it is the cost against the mid",
    "sor_lag_messages": "Messages of a partition not taken yet; absent where it cannot be told",
    "sor_data_age_seconds": "Age of the last message when it was taken; absent before the first",
    "sor_rebalances_total": "Changes of the partitions that this consumer has",
    "sor_missing_messages_total": "Messages that were gone before they could be read",
    "sor_transactions_total": "Transactions by outcome, committed or aborted",
    "sor_partitions": "Partitions assigned",
    "sor_bootstrapping": "1 while books are rebuilt before the first result",
    "sor_worker_restarts_total": "Workers started again after they had ended",
    "sor_workers": "Workers running; 1 without a supervisor",
    "sor_last_progress_timestamp_seconds": "When a message was last answered; absent before the first",
    "sor_build_info": "Version, and kernels in use",
}
NAMES = tuple(HELP)  # as in PromQL; the histogram by its base name


# --- what is known ---------------------------------------------------------------------------------------------------


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What the source and the sink know at the moment."""

    lags: dict[tuple[str, int], int]  # messages not taken yet by topic and partition; without those unknown
    assigned: int  # partitions
    bootstrapping: bool
    rebuilt: int  # messages read so far to rebuild books: a bootstrap that goes on is not stalled
    rebalances: int
    missing: int = 0  # messages gone before they could be read
    committed: int  # transactions
    aborted: int
    age_ms: float | None  # of the last message, when it was taken


NO_STREAM = StreamState(
    lags={}, assigned=0, bootstrapping=False, rebuilt=0, rebalances=0, committed=0, aborted=0, age_ms=None
)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment.

    ``turned`` and ``moved`` are seconds of the monotonic clock, which all processes of a machine share.
    """

    turned: float  # when the loop last came round
    moved: float  # when it last got on, or had nothing to do
    progressed: float | None = None  # seconds since the epoch: when a message was last answered
    messages: int = 0
    results: int = 0
    skipped: dict[str, int] = {}
    bad: dict[str, int] = {}
    rejected: dict[str, int] = {}
    doubtful: dict[str, int] = {}
    evicted: int = 0  # books
    scattered: int = 0  # symbols
    below: tuple[int, ...] = (0,) * len(BOUNDARIES)  # results faster than each boundary
    timed: int = 0  # results whose latency is known
    nanoseconds: int = 0  # of all these together
    ordered: int | float = 0
    executed: int | float = 0
    shortfall: float = 0.0
    notional_at_mid: float = 0.0
    stream: StreamState = NO_STREAM


class Status(msgspec.Struct, frozen=True):
    """What is served: one snapshot of all, and how they are."""

    snapshot: Snapshot
    workers: int
    restarts: int
    unhealthy: str | None  # why; None where it is well
    unready: str | None


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One snapshot of several: counts add up, of two that have the same partition the newer one knows its lag."""
    every = sorted(snapshots, key=lambda one: one.turned)
    streams = [one.stream for one in every]
    return Snapshot(
        turned=max(one.turned for one in every),
        moved=max(one.moved for one in every),
        progressed=max((one.progressed for one in every if one.progressed is not None), default=None),
        messages=sum(one.messages for one in every),
        results=sum(one.results for one in every),
        skipped=_added(one.skipped for one in every),
        bad=_added(one.bad for one in every),
        rejected=_added(one.rejected for one in every),
        doubtful=_added(one.doubtful for one in every),
        evicted=sum(one.evicted for one in every),
        scattered=sum(one.scattered for one in every),
        below=tuple(map(sum, zip(*(one.below for one in every), strict=True))),
        timed=sum(one.timed for one in every),
        nanoseconds=sum(one.nanoseconds for one in every),
        ordered=sum(one.ordered for one in every),
        executed=sum(one.executed for one in every),
        shortfall=sum(one.shortfall for one in every),
        notional_at_mid=sum(one.notional_at_mid for one in every),
        stream=StreamState(
            lags={partition: lag for stream in streams for partition, lag in stream.lags.items()},
            assigned=sum(stream.assigned for stream in streams),
            bootstrapping=any(stream.bootstrapping for stream in streams),
            rebuilt=sum(stream.rebuilt for stream in streams),
            rebalances=sum(stream.rebalances for stream in streams),
            missing=sum(stream.missing for stream in streams),
            committed=sum(stream.committed for stream in streams),
            aborted=sum(stream.aborted for stream in streams),
            age_ms=max((stream.age_ms for stream in streams if stream.age_ms is not None), default=None),
        ),
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _ended(snapshot: Snapshot) -> Snapshot:
    """What stays of a process that has ended: its counts."""
    stream = msgspec.structs.replace(snapshot.stream, lags={}, assigned=0, bootstrapping=False, age_ms=None)
    return msgspec.structs.replace(snapshot, stream=stream)


# --- health ----------------------------------------------------------------------------------------------------------


def unhealthy(snapshot: Snapshot, now: float, stalled_after: float = STALLED_S) -> str | None:
    """Why a run is not healthy; None where it is.

    Nothing to do is healthy, and so is a lag that cannot be told, as in an outage of the brokers, which no restart
    mends. Not healthy is a loop that does not come round, and one that answers nothing while messages wait.
    """
    if now - snapshot.turned > stalled_after:
        return f"the loop has not come round for {now - snapshot.turned:.0f} s"
    if now - snapshot.moved > stalled_after:
        waiting = sum(snapshot.stream.lags.values())
        return f"no message answered for {now - snapshot.moved:.0f} s while {waiting:,} wait"
    return None


def unready(snapshot: Snapshot, now: float, stalled_after: float = STALLED_S) -> str | None:
    """Why a run answers no messages at the moment; None where it does, or would if there were any."""
    if snapshot.stream.bootstrapping:
        return f"rebuilding books: {snapshot.stream.rebuilt:,} messages read"
    if not snapshot.stream.assigned:
        return "no partition assigned"
    return unhealthy(snapshot, now, stalled_after)


def _has_moved(before: Snapshot, messages: int, stream: StreamState) -> bool:
    waiting = sum(stream.lags.values())
    return (
        messages != before.messages
        or stream.rebuilt != before.stream.rebuilt
        or waiting == 0
        or waiting < sum(before.stream.lags.values())
    )


# --- the loop's side -------------------------------------------------------------------------------------------------


class Telemetry:
    """Takes the snapshots of one process.

    Parameters
    ----------
    file : str, optional
        Where each snapshot is written, for the supervisor of a worker.
    clock : callable
        Seconds; monotonic, and the same for all processes.
    """

    def __init__(self, file: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._due = now = clock()
        self._latest = Snapshot(turned=now, moved=now)

    def turned(self, summary: RunSummary, state: Callable[[], StreamState], *, last: bool = False) -> None:
        """The loop has come round, with a batch or without; at most once a second this takes a snapshot.

        Parameters
        ----------
        summary : RunSummary
        state : callable
            Asked only where a snapshot is due.
        last : bool
            Take one in any case, so that nothing is missing at the end.
        """
        now = self._clock()
        if now < self._due and not last:
            return
        self._due = now + SNAPSHOT_S
        self._latest = _taken(self._latest, summary, state(), now)
        if self._file is not None:
            self._write(self._file)

    def _write(self, file: str) -> None:
        try:
            with open(file + ".new", "wb") as new:
                new.write(msgspec.msgpack.encode(self._latest))
            os.replace(file + ".new", file)
        except OSError as error:  # the stream goes on; the supervisor sees that this worker is silent
            logger.warning("metrics and health stand still: cannot write %s: %s", file, error.strerror)

    def status(self) -> Status:
        """How this process is; may be called from another thread."""
        one, now = self._latest, self._clock()
        return Status(one, 1, 0, unhealthy(one, now), unready(one, now))


def _taken(before: Snapshot, summary: RunSummary, stream: StreamState, now: float) -> Snapshot:
    return Snapshot(
        turned=now,
        moved=now if _has_moved(before, summary.messages, stream) else before.moved,
        progressed=time.time() if summary.messages != before.messages else before.progressed,
        messages=summary.messages,
        results=summary.results,
        skipped=dict(summary.skipped),
        bad=dict(summary.bad),
        rejected=dict(summary.rejected),
        doubtful=dict(summary.doubtful),
        evicted=summary.evicted,
        scattered=summary.scattered,
        below=tuple(summary.latencies.below(BOUNDARIES)),
        timed=summary.latencies.count,
        nanoseconds=summary.latencies.total,
        ordered=summary.ordered,
        executed=summary.executed,
        shortfall=summary.shortfall,
        notional_at_mid=summary.notional_at_mid,
        stream=stream,
    )


# --- the supervisor's side -------------------------------------------------------------------------------------------


class Workers:
    """Merges the snapshots of worker processes, those that have ended included: no count falls at a restart.

    A worker killed within a second of its last snapshot takes the counts since then with it.

    Parameters
    ----------
    folder : str
        For the workers' files; of this supervisor alone.
    clock : callable
        That of `Telemetry`.
    """

    def __init__(self, folder: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[int, float] = {}  # when each was started
        self._seen: set[int] = set()
        self._past = Snapshot(turned=0.0, moved=0.0)
        self._restarts = 0
        self.given_up: str | None = None  # set by the supervisor: why it starts no more workers

    def started(self, worker: int) -> str:
        """Just before a worker is started, for the first time or again; returns the file for its snapshots."""
        with self._lock:
            self._restarts += worker in self._seen
            self._seen.add(worker)
            self._running[worker] = self._clock()
        return self._file(worker)

    def ended(self, worker: int) -> None:
        """Once the worker's process is gone."""
        with self._lock:
            last = self._read(worker, self._running.pop(worker))
            self._past = _ended(merge([self._past, last]))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._file(worker))

    def status(self) -> Status:
        """How they all are: healthy if every running one is, ready if one is, as there may be more than partitions."""
        now = self._clock()
        with self._lock:
            running = {worker: self._read(worker, since) for worker, since in sorted(self._running.items())}
            merged = merge([self._past, *running.values()])
        ill = _reasons({worker: unhealthy(one, now) for worker, one in running.items()})
        idle = _reasons({worker: unready(one, now) for worker, one in running.items()})
        return Status(
            merged,
            len(running),
            self._restarts,
            self.given_up or "; ".join(ill) or None,
            self.given_up or ("; ".join(idle) or "no worker is running" if len(idle) == len(running) else None),
        )

    def _read(self, worker: int, since: float) -> Snapshot:
        try:
            with open(self._file(worker), "rb") as file:
                return msgspec.msgpack.decode(file.read(), type=Snapshot)
        except FileNotFoundError:  # not once round yet
            return Snapshot(turned=since, moved=since)

    def _file(self, worker: int) -> str:
        return os.path.join(self._folder, f"worker-{worker}")


def _reasons(by_worker: Mapping[int, str | None]) -> list[str]:
    return [f"worker {worker}: {reason}" for worker, reason in by_worker.items() if reason is not None]


# --- Prometheus ------------------------------------------------------------------------------------------------------


class RunCollector(Collector):
    """Turns the status at the time of a scrape into metrics."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        one, stream = status.snapshot, status.snapshot.stream
        yield _histogram(one)
        yield _counter("sor_messages_total", one.messages)
        yield _counter("sor_results_total", one.results)
        yield _counters("sor_skipped_total", "reason", dict.fromkeys(SKIPPED, 0) | one.skipped)
        yield _counters("sor_dead_letters_total", "reason", dict.fromkeys(BAD, 0) | one.bad)
        yield _counters("sor_rejected_total", "reason", dict.fromkeys(REJECTED, 0) | one.rejected)
        yield _counters("sor_doubtful_total", "flag", dict.fromkeys(DOUBTFUL, 0) | one.doubtful)
        yield _counter("sor_evicted_books_total", one.evicted)
        yield _counter("sor_scattered_symbols_total", one.scattered)
        yield _counter("sor_shares_ordered_total", one.ordered)
        yield _counter("sor_shares_executed_total", one.executed)
        yield _gauge("sor_shortfall_dollars", one.shortfall)
        yield _counter("sor_notional_at_mid_dollars_total", one.notional_at_mid)
        yield _lags(stream.lags)
        yield _gauge("sor_data_age_seconds", None if stream.age_ms is None else stream.age_ms / 1e3)
        yield _counter("sor_rebalances_total", stream.rebalances)
        yield _counter("sor_missing_messages_total", stream.missing)
        outcomes = {"committed": stream.committed, "aborted": stream.aborted}
        yield _counters("sor_transactions_total", "outcome", outcomes)
        yield _gauge("sor_partitions", stream.assigned)
        yield _gauge("sor_bootstrapping", stream.bootstrapping)
        yield _counter("sor_worker_restarts_total", status.restarts)
        yield _gauge("sor_workers", status.workers)
        yield _gauge("sor_last_progress_timestamp_seconds", one.progressed)
        yield _build_info()


def _histogram(one: Snapshot) -> Metric:
    buckets = [(repr(bound / 1e9), float(count)) for bound, count in zip(BOUNDARIES, one.below, strict=True)]
    name = "sor_routing_latency_seconds"
    return HistogramMetricFamily(name, HELP[name], [*buckets, ("+Inf", float(one.timed))], one.nanoseconds / 1e9)


def _counter(name: str, value: float) -> Metric:
    return CounterMetricFamily(name, HELP[name], value)


def _counters(name: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, HELP[name], labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _gauge(name: str, value: float | None) -> Metric:
    """Without a sample where there is no value."""
    return GaugeMetricFamily(name, HELP[name], None if value is None else float(value))


def _lags(lags: Mapping[tuple[str, int], int]) -> Metric:
    family = GaugeMetricFamily("sor_lag_messages", HELP["sor_lag_messages"], labels=["topic", "partition"])
    for (topic, partition), lag in sorted(lags.items()):
        family.add_metric([topic, str(partition)], lag)
    return family


def _build_info() -> Metric:
    facts = {"version": metadata.version("sor"), "kernels": BACKEND}
    return InfoMetricFamily("sor_build", HELP["sor_build_info"], facts)


# --- HTTP ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(status: Callable[[], Status], host: str, port: int) -> Iterator[int]:
    """Serve /metrics, /healthz and /readyz from a thread of its own while the block runs; gives the port.

    Parameters
    ----------
    status : callable
        `Telemetry.status` or `Workers.status`; asked at each request.
    host : str
        The address to listen at; 0.0.0.0 or :: for every one of this machine.
    port : int
        0 for any that is free.

    Raises
    ------
    InputError
        The port is in use, or the address is not of this machine.
    """
    try:
        server = make_server(host, port, _application(status), _Server, _QuietHandler)
    except OSError as error:
        raise InputError(
            f"cannot listen at --metrics-host {host}, --metrics-port {port}: {error.strerror or error}"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    logger.info("metrics at http://%s:%d/metrics, health at /healthz and /readyz", host, server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _application(status: Callable[[], Status]) -> Callable[..., Iterable[bytes]]:
    registry = CollectorRegistry()
    registry.register(RunCollector(status))
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        if path == "/healthz":
            code, line = _answer(status().unhealthy, "healthy")
        elif path == "/readyz":
            code, line = _answer(status().unready, "ready")
        else:
            code, line = "404 Not Found", "there are /metrics, /healthz and /readyz"
        start_response(code, [("Content-Type", "text/plain; charset=utf-8")])
        return [line.encode() + b"\n"]

    return application


def _answer(reason: str | None, well: str) -> tuple[str, str]:
    return ("200 OK", well) if reason is None else ("503 Service Unavailable", reason)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which can take long where there is no name service."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    timeout = 10  # seconds for a request: who opens a connection and says nothing holds no thread for ever

    def log_message(self, format: str, *arguments: Any) -> None:
        logger.debug("metrics: " + format, *arguments)
