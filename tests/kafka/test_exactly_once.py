"""`sor consume --results-topic`: one result for every input, whatever is killed, paused or taken over."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import BAD, DONE, QUICK, WRONG_CALL, Job, Jobs, Json, Start, children, each_client, wait_for
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka_broker import Cluster, Servers
from kafka_broker.fixtures import need_kafka
from topics import send

from sor.errors import Exit
from sor.kafka.timing import Timing
from sor.stream.recovery import MARK

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves a socket unclosed now and then where a client is closed soon after its start
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

Names = Callable[..., str]
PARTS = 3
ROWS = 6_000
SESSION_S = Timing().session
COLUMNS = ["ts_event", "publisher_id", "sequence", "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00", "symbol"]


@pytest.fixture
def client() -> str:
    """The client that the test's commands use; `each_client` takes them in turn."""
    return "kafka-python"


@pytest.fixture
def start(tmp_path: Path, client: str) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield functools.partial(jobs.start, SOR_CLIENT=client, script=QUICK)


def short(name: str) -> str:
    """The end of a topic's name, as others are made of it; no hyphen first, which would be a flag."""
    return name[-60:].lstrip("-")


class Stream:
    """An input topic, its results and their checker."""

    def __init__(self, servers: Servers, name: str, feed: str | None = None) -> None:
        self.servers = servers
        self.input = feed or servers.create_topic(f"{name}-input", PARTS)
        self.results = servers.create_topic(f"{name}-results", PARTS)
        self.group = f"{name}-group"

    def consume(self, start: Start, *arguments: object, group: str | None = None, results: str | None = None) -> Job:
        return start(
            *("consume", "--kafka-servers", self.servers.bootstrap, "--topic", self.input, "--log-level", "warning"),
            *("--group", group or self.group, "--results-topic", results or self.results, *arguments),
        )

    def read(self, topic: str) -> list[Any]:
        """All committed records of a topic, by partition; waits for transactions that have not ended there yet."""
        records: list[Any] = []
        with KafkaConsumer(bootstrap_servers=self.servers.bootstrap, group_id=None) as consumer:
            places = [TopicPartition(topic, part) for part in sorted(consumer.partitions_for_topic(topic))]
            ends = consumer.end_offsets(places)
        with KafkaConsumer(
            bootstrap_servers=self.servers.bootstrap, group_id=None, isolation_level="read_committed"
        ) as consumer:
            for place in places:
                consumer.assign([place])
                consumer.seek(place, 0)
                while consumer.position(place) < ends[place]:
                    records += consumer.poll(timeout_ms=200).get(place, [])
        return records

    def answers(self, topic: str | None = None) -> dict[tuple[int, int], list[Json]]:
        """Results by the input that they answer, without what depends on the clock."""
        found: dict[tuple[int, int], list[Json]] = {}
        for record in self.read(topic or self.results):
            result = json.loads(record.value)
            del result["stream"]
            found.setdefault((result["source"]["partition"], result["source"]["offset"]), []).append(result)
        return found

    def members(self) -> int:
        """Members of the group; one that has joined ends in good order when it is asked to."""
        with KafkaAdminClient(bootstrap_servers=self.servers.bootstrap) as admin:
            return len(admin.describe_groups([self.group])[self.group]["members"])

    def committed(self, group: str | None = None) -> int:
        """Messages that the group is done with."""
        with KafkaConsumer(bootstrap_servers=self.servers.bootstrap, group_id=group or self.group) as consumer:
            return sum(consumer.committed(TopicPartition(self.input, part)) or 0 for part in range(PARTS))

    def wait_until_done(self, *jobs: Job, count: int = ROWS) -> None:
        def done() -> bool:
            assert any(job.process.poll() is None for job in jobs), jobs[0].story("all have ended")
            return self.committed() == count

        wait_for(done, "everything answered", 120)


@pytest.fixture(scope="module")
def feed(kafka: Servers, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve symbols of four venues, in three partitions."""
    folder = tmp_path_factory.mktemp("feed")
    file = folder / "feed.csv"
    rows = [
        [10**18 + i * 10**6, 1 + i * 7 % 4, i, 100 - i % 5 / 100, 100.01 + i % 7 / 100, 100 + i % 900, 1 + i % 700,
         f"SYM{i * 5 % 12:02d}"]
        for i in range(ROWS)
    ]  # fmt: skip
    file.write_text("\n".join(",".join(map(str, row)) for row in [COLUMNS, *rows]) + "\n")
    name = kafka.create_topic(f"feed-{time.time_ns()}", PARTS)
    with Jobs(folder) as jobs:
        jobs.start("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name).finish(DONE)
    return name


@pytest.fixture(scope="module")
def undisturbed(
    kafka: Servers, feed: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], list[Json]]:
    """What one consumer answers that nobody disturbs."""
    stream = Stream(kafka, f"undisturbed-{time.time_ns()}", feed)
    with Jobs(tmp_path_factory.mktemp("undisturbed")) as jobs:
        stream.consume(jobs.start, "--max-messages", ROWS).finish(DONE)
    answers = stream.answers()
    assert len(answers) == ROWS
    assert len({place[0] for place in answers}) == PARTS
    return answers


@pytest.fixture
def stream(kafka: Servers, topic: Names, feed: str) -> Stream:
    return Stream(kafka, short(topic()), feed)


# --- killed, and started again ---------------------------------------------------------------------------------------


@each_client
def test_killed_again_and_again(stream: Stream, start: Start, undisturbed: Any) -> None:
    """Each process is killed at some moment of its work; what they commit together is what one would have."""
    kills = 0
    for moment in (0.0, 0.05, 0.2, 0.4, 0.8, 1.2):
        job = stream.consume(start, "--max-messages", ROWS)
        before = stream.committed()
        while job.process.poll() is None and stream.committed() == before:
            time.sleep(0.01)
        time.sleep(moment / 4)
        if job.process.poll() is None:
            job.kill()
            kills += 1
        if stream.committed() == ROWS:
            break
    assert kills, "nothing was disturbed"
    if stream.committed() < ROWS:
        job = stream.consume(start)
        stream.wait_until_done(job)
        job.signal(signal.SIGTERM).finish(DONE)
    assert stream.answers() == undisturbed


@each_client
def test_bounded_runs_hand_over_their_books(stream: Stream, start: Start, undisturbed: Any) -> None:
    for count in (1, 500, 1_500):
        stream.consume(start, "--max-messages", count).finish(DONE)
    job = stream.consume(start, "--max-messages", ROWS - 2_001).finish(DONE)
    assert "books rebuilt" not in job.err  # which is a line of level info
    assert stream.answers() == undisturbed
    kept = stream.read(f"{stream.group}-books")
    assert {record.partition for record in kept} == set(range(PARTS))
    quotes = {f"SYM{i * 5 % 12:02d}|{1 + i * 7 % 4}".encode() for i in range(ROWS)}
    assert {MARK} < {record.key for record in kept} <= quotes | {MARK}


@each_client
def test_a_paused_process_is_replaced_and_does_not_come_back(stream: Stream, start: Start, undisturbed: Any) -> None:
    """Stopped for longer than its session and its transaction may last, it wakes up to find itself fenced."""
    sleeper = stream.consume(start, "--log-level", "info")
    sleeper.says("SOR Result", 300)
    sleeper.signal(signal.SIGSTOP)
    taken = stream.committed()
    other = stream.consume(start)
    wait_for(lambda: stream.committed() > taken or stream.committed() == ROWS, "the other has taken over", 90)
    time.sleep(6)
    sleeper.signal(signal.SIGCONT)
    stream.wait_until_done(other, sleeper)
    time.sleep(1)
    for job in (sleeper, other):
        job.signal(signal.SIGTERM)
        job.process.wait(60)
        assert "Traceback" not in job.err, job.story("a traceback")
    assert stream.answers() == undisturbed


@each_client
def test_members_that_come_and_go(stream: Stream, start: Start, undisturbed: Any) -> None:
    jobs = [stream.consume(start)]
    wait_for(lambda: stream.committed() > 0, "the first has begun")
    for _ in range(2):
        jobs.append(stream.consume(start))
        time.sleep(1)
    jobs[0].signal(signal.SIGTERM).finish(DONE)
    stream.wait_until_done(*jobs[1:])
    wait_for(lambda: stream.members() == 2, "both have come, though there may be nothing left for them")
    for job in jobs[1:]:
        job.signal(signal.SIGTERM).finish(DONE)
    assert stream.answers() == undisturbed


# --- workers ---------------------------------------------------------------------------------------------------------


def test_workers_share_the_partitions_and_a_killed_one_is_replaced(
    stream: Stream, start: Start, undisturbed: Any
) -> None:
    job = stream.consume(start, "--workers", 2)
    wait_for(lambda: len(children(job)) == 2 and stream.committed() > 0, "two workers at work")
    os.kill(children(job)[0], signal.SIGKILL)
    job.says("worker 0 was killed by signal 9: starting it again in 1 s")
    stream.wait_until_done(job)
    wait_for(lambda: len(children(job)) == 2, "two workers again")
    job.signal(signal.SIGTERM).finish(DONE)
    assert stream.answers() == undisturbed


def test_workers_end_with_their_supervisor(stream: Stream, start: Start) -> None:
    job = stream.consume(start, "--workers", 2)
    wait_for(lambda: len(children(job)) == 2, "two workers")
    ids = children(job)
    job.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in ids), "the workers' end")


@pytest.mark.parametrize("flag", ["--output", "--summary", "--dead-letter-file"])
def test_workers_do_not_write_to_one_file(start: Start, flag: str) -> None:
    job = start("consume", "--results-topic", "r", "--workers", 2, flag, "some-file").finish(WRONG_CALL)
    assert f"{flag} is 'some-file': 2 workers cannot share it" in job.err


# --- names, and hanging commits --------------------------------------------------------------------------------------


@each_client
def test_a_second_process_with_the_same_name_takes_over(stream: Stream, start: Start, undisturbed: Any) -> None:
    first = stream.consume(start, "--instance-id", "pod-0", "--log-level", "info")
    first.says("SOR Result", 100)
    second = stream.consume(start, "--instance-id", "pod-0")
    first.finish(Exit.FENCED)
    assert "another process has this instance id and has taken over" in first.err
    stream.wait_until_done(second)
    second.signal(signal.SIGTERM).finish(DONE)
    assert stream.answers() == undisturbed


@each_client
def test_one_that_wakes_up_does_not_put_out_who_took_its_place(stream: Stream, start: Start, undisturbed: Any) -> None:
    """Its session being over, librdkafka would join anew with the same name, as if it were the newer of the two."""
    sleeper = stream.consume(start, "--instance-id", "pod-0", "--log-level", "info")
    sleeper.says("SOR Result", 100)
    sleeper.signal(signal.SIGSTOP)
    other = stream.consume(start, "--instance-id", "pod-0", "--log-level", "info")
    other.says("partitions assigned")
    time.sleep(SESSION_S + 2)
    sleeper.signal(signal.SIGCONT)
    sleeper.finish(Exit.FENCED)
    stream.wait_until_done(other)
    other.signal(signal.SIGTERM).finish(DONE)
    assert stream.answers() == undisturbed


def test_a_named_member_finds_its_partitions_again(stream: Stream, start: Start) -> None:
    """A static member leaves without a rebalance; the one that stays keeps to its own partitions."""
    one = stream.consume(start, "--instance-id", "pod-0", "--log-level", "info")
    two = stream.consume(start, "--instance-id", "pod-1", "--log-level", "info")
    wait_for(lambda: one.err.count("partitions assigned") and two.err.count("partitions assigned"), "both have some")
    stream.wait_until_done(one, two)
    time.sleep(2)
    told = two.err.count("partitions assigned")
    one.signal(signal.SIGTERM).finish(DONE)
    again = stream.consume(start, "--instance-id", "pod-0", "--log-level", "info")
    again.says("partitions assigned")
    assert two.err.count("partitions assigned") == told, "the other was disturbed"


@each_client
def test_a_commit_that_hangs_ends_the_process(start: Start, topic: Names, tmp_path: Path) -> None:
    need_kafka()
    with Cluster() as cluster:
        stream = Stream(cluster, short(topic()))
        file = tmp_path / "feed.csv"
        row = [10**18, 1, 1, 100.0, 100.01, 5, 5, "A"]
        file.write_text("\n".join(",".join(map(str, line)) for line in [COLUMNS, *[row] * 20_000]) + "\n")
        start("produce", file, "--kafka-servers", cluster.bootstrap, "--topic", stream.input).finish(DONE)
        job = stream.consume(start, "--commit-timeout", 3, "--log-level", "info")
        wait_for(lambda: stream.committed() > 0, "the first commit")  # now all that comes has been made and met before
        (node,) = cluster.nodes
        node.pause()
        job.finish(Exit.HUNG)
        (line,) = [line for line in job.err.splitlines() if " - ERROR - " in line]
        assert re.search(r"a transaction took more than 3 s: ending, so that a successor can go on \(status 6\)", line)
        node.resume()
        after = stream.consume(start)
        stream.wait_until_done(after, count=20_000)
        after.signal(signal.SIGTERM).finish(DONE)
        assert {len(results) for results in stream.answers().values()} == {1}
        assert len(stream.answers()) == 20_000


# --- dead letters, conflation, age -----------------------------------------------------------------------------------


def test_dead_letters_are_of_the_same_transaction(kafka: Servers, topic: Names, start: Start, tmp_path: Path) -> None:
    stream = Stream(kafka, short(topic()))
    letters = kafka.create_topic(topic("letters"))
    file = tmp_path / "feed.jsonl"
    values = dict(zip(COLUMNS, [10**18, 1, 1, 100.0, 100.01, 5, 5, "A"], strict=True))
    file.write_text("\n".join([json.dumps(values)] * 50) + "\n")
    start("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", stream.input).finish(DONE)
    send(kafka, stream.input, [b"junk", b"", json.dumps(values | {"symbol": 7}).encode()], part=1)
    options = ("--dead-letter-topic", letters, "--max-messages", 53, "--log-level", "warning")
    stream.consume(start, *options).finish(BAD)
    found = [record.value or b"" for record in stream.read(letters)]
    assert sorted(found)[:2] == [b"", b"junk"]
    assert len(found) == 3
    assert Counter(len(results) for results in stream.answers().values()) == {1: 50}
    assert stream.committed() == 53


def test_conflation_routes_the_newest_book_of_each_symbol(
    stream: Stream, start: Start, undisturbed: Any, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.json"
    stream.consume(start, "--conflate", "--max-messages", ROWS, "--summary", summary).finish(DONE)
    facts = json.loads(summary.read_text())
    assert facts["messages"] == ROWS == facts["results"] + facts["skipped"]["conflated"]
    records = [json.loads(record.value) for record in stream.read(stream.results)]
    assert len(records) == facts["results"] < ROWS
    assert sum(1 + record["stream"]["conflated"] for record in records) == ROWS
    for record in records:
        del record["stream"]
        assert [record] == undisturbed[record["source"]["partition"], record["source"]["offset"]]


def test_what_is_too_old_is_answered_with_zeros(stream: Stream, start: Start) -> None:
    time.sleep(1.1)
    stream.consume(start, "--max-age", 1, "--max-messages", 5).finish(DONE)
    records = [json.loads(record.value) for record in stream.read(stream.results)]
    assert len(records) == 5
    for record in records:
        assert record["stream"]["age_ms"] > 1_000
        assert record["execution_summary"]["total_executed"] == 0
        assert {venue["status"] for venue in record["venues"]} == {"stale"}
        assert re.search(r"nothing routed: the message is [\d.]+ s old, more than 1 s", record["warnings"][0])
        assert record["stream"]["lag"] is not None


# --- at least once: the log's tail -----------------------------------------------------------------------------------


def test_at_least_once_fills_the_books_from_the_messages_before(stream: Stream, start: Start, undisturbed: Any) -> None:
    """Enough of them, and the results are those of one that saw everything; too few, and each says so for a while."""
    option = ("--delivery", "at-least-once")
    for count in (2_000, ROWS - 2_000):
        stream.consume(start, *option, "--max-messages", count).finish(DONE)
    assert stream.answers() == undisturbed
    short = Stream(stream.servers, f"{stream.group}-short", stream.input)
    short.consume(start, *option, "--max-messages", 3_000).finish(DONE)
    short.consume(start, *option, "--max-messages", ROWS - 3_000, "--bootstrap-messages", 10).finish(DONE)
    warned = sum("rebuilt from" in str(answer[0]["warnings"]) for answer in short.answers().values())
    assert 10 <= warned <= 10 * PARTS


def test_exactly_once_needs_a_topic(start: Start) -> None:
    job = start("consume", "--delivery", "exactly-once").finish(WRONG_CALL)
    assert "--delivery is 'exactly-once': it needs --results-topic" in job.err
