"""Consume, route and produce over Kafka, against bare loops and a Quix Streams application: rate and latency.

    python benchmarks/stream.py [--messages N] [--repeats N] [--skip PEER ...]

One real broker is started (Java and Maven, as for the tests) and filled with 80-field MBP-10 messages of twelve
symbols in four partitions. Each contender is a process of its own that reads all of them from the start and writes one
result for each, 1,000 messages a transaction. Its rate is taken from the results topic alone, the same way for all:
results after the first 5,000, by the time between the broker's stamps on them. Contenders take turns, so that a slow
spell of the machine hits them alike; medians are compared.

- bare: kafka-python; poll, the same decoder, results made beforehand, commit. No book, no routing.
- bare-confluent: the same on confluent-kafka.
- quix: Quix Streams, exactly once; the same decoder, a book, `sor.allocate` and the same encoder.
- sor, sor-confluent: `sor consume`, exactly once.
- sor-2: two worker processes. The broker and two of them want three cores; on fewer they share.

Latency, at a quarter of the bare loop's rate, is a message's time from the poll that brought it to the
acknowledgement of its result (at least once) or the commit (exactly once): for sor and the bare loop in turn, each
with a stopwatch around the same two calls.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

SYMBOLS = [f"SYM{letter}" for letter in "ABCDEFGHIJKL"]
PARTS = 4
BATCH = 1_000
WARM_UP = 5_000  # results left out: joining the group, first fetches
PEERS = ("bare", "bare-confluent", "quix", "sor", "sor-2", "sor-confluent")
PATIENCE_S = 300.0
STAMPED = {"message.timestamp.type": "LogAppendTime"}  # by the broker: Quix Streams would hand on the input's time


class Stopwatch:
    """Writes how long each batch took, and how many messages it had."""

    def __init__(self) -> None:
        self.file = open(os.environ.get("BENCH_TIMES", os.devnull), "a", buffering=1)  # noqa: SIM115
        self.started, self.count = 0.0, 0

    def polled(self, count: int) -> None:
        self.started, self.count = time.perf_counter(), count

    def done(self) -> None:
        if self.count:
            self.file.write(f"{time.perf_counter() - self.started} {self.count}\n")
        self.count = 0


# --- the contenders, each in a process of its own --------------------------------------------------------------------


def bare(servers: str, topic: str, results: str, answer: bytes, delivery: str) -> None:
    """The least that kafka-python has to do."""
    from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

    from sor.market.databento_json import JsonDecoder

    exactly = delivery == "exactly-once"
    group = str(uuid.uuid4())
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed" if exactly else "read_uncommitted",
        partition_assignment_strategy=(CooperativeStickyAssignor(),),
        fetch_max_wait_ms=100,
    )
    extra = {"transactional_id": group, "retry_backoff_ms": 2} if exactly else {}
    producer = KafkaProducer(
        bootstrap_servers=servers, acks="all", linger_ms=5, batch_size=128 * 1024, compression_type="lz4", **extra
    )
    if exactly:
        producer.init_transactions()
    decode = JsonDecoder(1).decode
    watch = Stopwatch()
    while True:
        polled = consumer.poll(timeout_ms=500, max_records=BATCH)
        if not polled:
            continue
        watch.polled(sum(map(len, polled.values())))
        if exactly:
            producer.begin_transaction()
        sent = []
        for records in polled.values():
            for record in records:
                decode(record.value)
                sent.append(producer.send(results, answer, key=record.key))
        offsets = {tp: OffsetAndMetadata(records[-1].offset + 1, "", -1) for tp, records in polled.items()}
        if exactly:
            producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
            producer.commit_transaction()
        else:
            producer.flush()
            for future in sent:
                future.get(timeout=60)
            watch.done()  # acknowledged; the offsets are another matter
            consumer.commit(offsets)
        if exactly:
            watch.done()


def bare_confluent(servers: str, topic: str, results: str, answer: bytes, delivery: str) -> None:
    """The least that confluent-kafka has to do: the ceiling for whoever builds on it."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    from sor.market.databento_json import JsonDecoder

    group = str(uuid.uuid4())
    common = {"bootstrap.servers": servers}
    consumer = Consumer(
        common
        | {
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    producer = Producer(
        common | {"transactional.id": group, "linger.ms": 5, "compression.type": "lz4", "partitioner": "murmur2_random"}
    )
    producer.init_transactions()
    consumer.subscribe([topic])
    decode = JsonDecoder(1).decode
    while True:
        messages = consumer.consume(BATCH, timeout=0.1)
        if not messages:
            continue
        producer.begin_transaction()
        ends: dict[tuple[str, int], int] = {}
        for message in messages:
            decode(message.value())
            producer.produce(results, answer, message.key())
            ends[message.topic(), message.partition()] = message.offset() + 1
        offsets = [TopicPartition(name, part, end) for (name, part), end in ends.items()]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()


def quix(servers: str, topic: str, results: str, answer: bytes, delivery: str) -> None:
    """The same work as an application of Quix Streams, exactly once."""
    import msgspec
    from quixstreams import Application

    from sor import allocate
    from sor.market.book import Books
    from sor.market.databento_json import JsonDecoder
    from sor.market.venues import VenueDirectory

    app = Application(
        broker_address=servers,
        consumer_group=str(uuid.uuid4()),
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=BATCH,
        commit_interval=1.0,
        loglevel="ERROR",
        auto_create_topics=False,
        producer_extra_config={"linger.ms": 5, "compression.type": "lz4"},
    )
    decode = JsonDecoder(1).decode
    books = Books(VenueDirectory.load())
    template, encode = json.loads(answer), msgspec.json.Encoder().encode

    def route(value: bytes) -> bytes:
        book = books.apply(decode(value))
        split, cost = allocate(5000, book.rows("buy"), 0.01, 0.005, 0.002, resting=False)
        result = template | {"allocation": split, "total_cost": cost}
        return encode(result)

    frame = app.dataframe(app.topic(topic, value_deserializer="bytes"))
    frame = frame.apply(route)
    frame.to_topic(app.topic(results, value_serializer="bytes"))
    app.run()


def sor_consume(client: str, workers: int = 1) -> Callable[..., list[str]]:
    def command(servers: str, topic: str, results: str, delivery: str) -> list[str]:
        arguments = ["consume", "--kafka-servers", servers, "--topic", topic, "--results-topic", results]
        arguments += ["--group", str(uuid.uuid4()), "--delivery", delivery, "--log-level", "warning"]
        arguments += ["--client", client] if client != "kafka-python" else []
        arguments += ["--workers", str(workers)]
        return [sys.executable, "-m", "sor", *arguments]

    return command


def sor_watched(servers: str, topic: str, results: str, answer: bytes, delivery: str) -> None:
    """`sor consume` with a stopwatch around the poll and the sink's commit, which waits for the brokers."""
    from sor.cli import main
    from sor.kafka.sinks import KafkaSink, TransactionalSink
    from sor.kafka.source import KafkaSource

    watch = Stopwatch()
    poll = KafkaSource.poll

    def polled(self: Any, limit: int, wait_s: float | None = None) -> Any:
        batch = poll(self, limit, wait_s)
        watch.polled(len(batch or ()))
        return batch

    def timed(commit: Callable[..., None]) -> Callable[..., None]:
        def committed(self: Any, offsets: Any = None) -> None:
            commit(self, offsets)
            watch.done()

        return committed

    KafkaSource.poll = polled  # type: ignore[method-assign]
    for sink in (KafkaSink, TransactionalSink):
        sink.commit = timed(sink.commit)  # type: ignore[method-assign]
    main(sor_consume("kafka-python")(servers, topic, results, delivery)[3:])


LOOPS = {"bare": bare, "bare-confluent": bare_confluent, "quix": quix, "sor-watched": sor_watched}
COMMANDS = {
    "sor": sor_consume("kafka-python"),
    "sor-2": sor_consume("kafka-python", workers=2),
    "sor-confluent": sor_consume("confluent"),
}


# --- the run ---------------------------------------------------------------------------------------------------------


class Bench:
    """A broker, its input, and what the contenders make of it."""

    def __init__(self, cluster: Any, messages: int) -> None:
        self.messages = messages
        self.cluster = cluster
        self.folder = Path(tempfile.mkdtemp(prefix="sor-bench-"))
        self.rows = self._rows()
        self.answer = self._answer()

    def _rows(self) -> list[str]:
        header, *rows = (ROOT / "sample.csv").read_text().splitlines()
        return [header, *(f"{row.rsplit(',', 1)[0]},{SYMBOLS[i * 7 % 12]}" for i, row in enumerate(rows))]

    def _answer(self) -> bytes:
        """A result of usual size."""
        from sor.cli import main

        feed, out = self.folder / "feed.csv", self.folder / "out.jsonl"
        feed.write_text("\n".join(self.rows) + "\n")
        arguments = ["replay", str(feed), "--output", str(out), "--log-level", "error", "--venues-from", "publishers"]
        stderr, sys.stderr = sys.stderr, open(os.devnull, "w")  # noqa: SIM115 - the summary
        try:
            assert main(arguments) == 0
        finally:
            sys.stderr = stderr
        results = sorted(out.read_bytes().splitlines(), key=len)
        return results[len(results) // 2]

    def fill(self, topic: str) -> None:
        feed = str(self.folder / "feed.csv")
        command = ["produce", feed, "--loop", "--max-messages", str(self.messages), "--log-level", "error"]
        where = ["--kafka-servers", self.cluster.bootstrap, "--topic", topic]
        subprocess.run([sys.executable, "-m", "sor", *command, *where], check=True, stderr=subprocess.DEVNULL)

    def start(
        self, peer: str, topic: str, results: str, delivery: str = "exactly-once", **environment: str
    ) -> subprocess.Popen[bytes]:
        if peer in COMMANDS:
            command = COMMANDS[peer](self.cluster.bootstrap, topic, results, delivery)
        else:
            answer = self.folder / "answer.json"
            answer.write_bytes(self.answer)
            command = [sys.executable, __file__, "--role", peer, self.cluster.bootstrap, topic, results, delivery]
            command += [str(answer)]
        env = os.environ | environment
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env)

    def records(self, topic: str, process: subprocess.Popen[bytes], count: int) -> Iterator[Any]:
        """Committed records of a topic as they come, ``count`` of them."""
        from kafka import KafkaConsumer

        deadline, seen = time.monotonic() + PATIENCE_S, 0
        with KafkaConsumer(
            bootstrap_servers=self.cluster.bootstrap,
            group_id=None,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=10,
        ) as consumer:
            from kafka import TopicPartition

            consumer.assign([TopicPartition(topic, part) for part in range(PARTS)])
            while seen < count:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{topic}: only {seen} of {count} results came")
                for records in consumer.poll(timeout_ms=200).values():
                    for record in records:
                        seen += 1
                        yield record

    def rate(self, peer: str, topic: str) -> float:
        """Results a second."""
        results = self.cluster.create_topic(f"{peer}-{uuid.uuid4().hex[:8]}", PARTS, STAMPED)
        process = self.start(peer, topic, results)
        try:
            while sum(self._ends(results).values()) < self.messages:  # no reader beside the contender
                if process.poll() is not None:
                    raise SystemExit(f"{peer} ended with status {process.returncode}")
                time.sleep(0.5)
            stamps = sorted(record.timestamp for record in self.records(results, process, self.messages))
        finally:
            _end(process)
        stamps = stamps[WARM_UP:]
        return 1e3 * len(stamps) / (stamps[-1] - stamps[0])

    def _ends(self, topic: str) -> dict[Any, int]:
        from kafka import KafkaConsumer, TopicPartition

        with KafkaConsumer(bootstrap_servers=self.cluster.bootstrap, group_id=None) as consumer:
            return consumer.end_offsets([TopicPartition(topic, part) for part in range(PARTS)])  # type: ignore[no-any-return]

    def latency(self, peer: str, delivery: str, rate: float, seconds: float) -> list[float]:
        """Milliseconds of each message from poll to acknowledgement or commit, sorted, at a steady ``rate``."""
        name = uuid.uuid4().hex[:8]
        topic, results = self.cluster.create_topic(f"in-{name}", PARTS), self.cluster.create_topic(f"out-{name}", PARTS)
        times = self.folder / f"times-{name}"
        process = self.start(peer, topic, results, delivery, BENCH_TIMES=str(times))
        count = int(rate * seconds)
        try:
            time.sleep(5)  # it joins its group
            self._send_steadily(topic, rate, count)
            while sum(self._ends(results).values()) < count:
                time.sleep(0.5)
        finally:
            _end(process)
        pairs = [line.split() for line in times.read_text().splitlines()]
        waited = [1e3 * float(took) for took, messages in pairs for _ in range(int(messages))]
        return sorted(waited[len(waited) // 5 :])

    def _send_steadily(self, topic: str, rate: float, count: int) -> None:
        from kafka import KafkaProducer

        from sor.market.databento_json import message_of

        columns = self.rows[0].split(",")
        messages = [(row.rsplit(",", 1)[1], message_of(columns, row.split(","))) for row in self.rows[1:]]
        with KafkaProducer(bootstrap_servers=self.cluster.bootstrap, linger_ms=1) as producer:
            started = time.monotonic()
            for i, (symbol, value) in enumerate(itertools.islice(itertools.cycle(messages), count)):
                while (left := started + i / rate - time.monotonic()) > 0:
                    time.sleep(min(left, 0.002))
                producer.send(topic, value, key=symbol.encode())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    if sys.argv[1:2] == ["--role"]:
        role, servers, topic, results, delivery, answer = sys.argv[2:]
        LOOPS[role](servers, topic, results, Path(answer).read_bytes(), delivery)
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip", action="append", default=[], choices=[*PEERS, "latency"])
    options = parser.parse_args()
    from kafka_broker import Cluster

    with Cluster() as cluster:
        bench = Bench(cluster, options.messages)
        peers = [peer for peer in PEERS if peer not in options.skip]
        topic = cluster.create_topic("market_data", PARTS)
        bench.fill(topic)
        rates: dict[str, list[float]] = {peer: [] for peer in peers}
        for _ in range(options.repeats):
            for peer in peers:
                rates[peer].append(bench.rate(peer, topic))
        report_rates(options.messages, rates)
        if "latency" not in options.skip:
            report_latencies(bench, statistics.median(rates["bare"]) / 4, options.repeats)


def report_rates(messages: int, rates: dict[str, list[float]]) -> None:
    print(f"{messages:,} messages, {len(next(iter(rates.values())))} rounds; results a second: median (least to most)")
    for peer, found in rates.items():
        print(f"  {peer:16} {statistics.median(found):>9,.0f}  ({min(found):,.0f} to {max(found):,.0f})")
    for ours, theirs, goal in (
        ("sor", "bare", 0.9),
        ("sor-2", "sor", 0 if (os.cpu_count() or 1) < 3 else 1.6),
        ("sor-confluent", "quix", 1.2),
        ("sor-confluent", "bare-confluent", 0.5),
    ):
        if ours in rates and theirs in rates:
            ratio = statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))
            met = "" if not goal else f"; goal {goal}: {'met' if ratio >= goal else 'MISSED'} in this run"
            print(f"  {ours} against {theirs}: {ratio:.2f} times{met}")


def report_latencies(bench: Bench, rate: float, repeats: int) -> None:
    for delivery in ("at-least-once", "exactly-once"):
        found: dict[str, list[tuple[float, float]]] = {"bare": [], "sor-watched": []}
        for _ in range(repeats):
            for peer, values in found.items():
                waited = bench.latency(peer, delivery, rate, seconds=10)
                values.append((waited[len(waited) // 2], waited[len(waited) * 99 // 100]))
        print(f"latency at {rate:,.0f} messages a second, {delivery}, ms: median of {repeats} rounds")
        for peer, values in found.items():
            p50, p99 = (statistics.median(column) for column in zip(*values, strict=True))
            print(f"  {peer:16} p50 {p50:.1f}, p99 {p99:.1f}")
        ratio = statistics.median(s[1] / b[1] for s, b in zip(found["sor-watched"], found["bare"], strict=True))
        print(
            f"  p99 of sor against bare: {ratio:.2f} times; goal 1.3: {'met' if ratio <= 1.3 else 'MISSED'} in this run"
        )


if __name__ == "__main__":
    main()
