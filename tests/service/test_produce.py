"""`sor produce`: its schedule, and what it does after it was killed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands import DONE, STREAM_FAILED, WRONG_CALL, Job, Jobs, Start, wait_for
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import IllegalStateError, OutOfOrderSequenceNumberError
from kafka.future import Future
from kafka.structs import OffsetAndTimestamp
from kafka_broker import Servers
from topics import SYMBOLS, Names, ends_of, quote, read, send, write_csv

from sor.errors import Exit, StreamError
from sor.kafka import kafka_python, private, resume
from sor.kafka.timing import Timing
from sor.market.databento_json import JsonDecoder
from sor.service.produce import NAP_S, Pace, Rows
from sor.service.settings import load

SECOND = 10**9


# --- the schedule, by a clock of our own -----------------------------------------------------------------------------


class Clock:
    """Time passes only in a sleep, which takes a little longer than asked for, and where a test says so."""

    def __init__(self, oversleep: float = 0.0) -> None:
        self.now = 1_000.0
        self.oversleep = oversleep
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.sleeps.append(seconds)
        self.now += seconds + self.oversleep


def pace_by(clock: Clock, speed: float = 1.0, stopped: Callable[[], bool] = lambda: False) -> Pace:
    return Pace(speed, stopped, clock, clock.sleep)


@pytest.mark.parametrize("speed", [1.0, 10.0, 0.5])
def test_an_hour_without_drift(speed: float) -> None:
    """Every sleep is 3 ms too long and every row takes 2 ms; the last row is no later for it than the first ones."""
    clock = Clock(oversleep=0.003)
    pace, began = pace_by(clock, speed), clock.now
    late = []
    for tenth in range(36_001):
        pace.wait(tenth * SECOND // 10 * 10)  # a row a second of event time, ten hours of it
        late.append(clock.now - began - tenth / speed)
        clock.now += 0.002
    assert late[0] == 0
    assert all(-1e-6 < error <= 0.003 + 1e-6 for error in late)
    assert late[-1] == pytest.approx(late[1], abs=0.003 + 1e-6)
    assert pace.latest == pytest.approx(max(late), abs=1e-6)
    assert max(clock.sleeps) <= NAP_S  # for a signal to be seen


def test_after_a_stall_the_schedule_is_caught_up_with() -> None:
    clock = Clock()
    pace, began = pace_by(clock), clock.now
    handed = []
    for second in range(60):
        pace.wait(second * SECOND)
        handed.append(clock.now - began)
        if second == 20:
            clock.now += 10  # the client took so long over this row
    assert handed[:21] == pytest.approx(range(21))
    assert handed[21:31] == pytest.approx([30.0] * 10), "the rows that were due meanwhile go at once"
    assert handed[31:] == pytest.approx(range(31, 60)), "and then all is as if nothing had been"
    assert pace.latest == pytest.approx(9.0)


def test_a_row_dated_back_goes_at_once_and_is_not_late() -> None:
    clock = Clock()
    pace, began = pace_by(clock), clock.now
    for second in (0, 10, 3, 11):
        pace.wait(second * SECOND)
    assert clock.now - began == pytest.approx(11)
    assert pace.latest == pytest.approx(0)


def test_a_new_round_has_a_schedule_of_its_own() -> None:
    clock = Clock()
    pace, began = pace_by(clock), clock.now
    for _ in range(3):
        for second in (5, 6):
            pace.wait(second * SECOND)
        pace.restart()
    assert clock.now - began == pytest.approx(3)
    assert pace.latest == pytest.approx(0)


def test_no_pace_and_a_stop() -> None:
    clock = Clock()
    quick = pace_by(clock, speed=0)
    quick.wait(0)
    quick.wait(3600 * SECOND)
    assert (clock.sleeps, quick.latest) == ([], 0)
    stopped = pace_by(clock, stopped=lambda: len(clock.sleeps) >= 3)
    stopped.wait(0)
    stopped.wait(3600 * SECOND)
    assert clock.sleeps == [NAP_S] * 3


# --- what is sent of a file ------------------------------------------------------------------------------------------

HEADER = b"ts_event,publisher_id,symbol,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00\n"
ROW = b"2024-08-01T13:36:00.000000001Z,2,BRK.A,741500.5,742100.25,2,%d\n"


def sent_of(path: Path, content: bytes) -> tuple[list[tuple[int, int | None]], int]:
    """Row number and ask size of each message of a file, and its bad rows."""
    path.write_bytes(content)
    rows, found = Rows(str(path)), []
    for row in rows:
        update = JsonDecoder().decode(row.message)
        assert (row.symbol, row.time) == (update.symbol, update.time)
        found.append((row.number, None if update.asks[0] is None else update.asks[0][1]))
    rows.source.close()
    return found, rows.bad


def test_a_row_cut_short_is_not_sent_and_keeps_its_number(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    whole = HEADER + ROW % 4000 + b"\n" + ROW % 4001 + ROW % 4002
    assert sent_of(feed, whole[:-3]) == ([(1, 4000), (2, 4001)], 1)
    assert sent_of(feed, whole) == ([(1, 4000), (2, 4001), (3, 4002)], 0)


def test_a_row_in_another_unit_is_not_sent(tmp_path: Path) -> None:
    """As a message of its own it would say nothing of the file's unit."""
    whole = ROW.replace(b"741500.5,742100.25", b"741400,742000")
    for content in (HEADER + ROW % 1 + whole % 2 + ROW % 3, HEADER + whole % 1 + ROW % 2):
        sent, bad = sent_of(tmp_path / "feed.csv", content)
        assert bad == 1
        assert [size for _, size in sent] in ([1, 3], [2])


def test_the_json_of_databento_is_sent_as_it_is(tmp_path: Path) -> None:
    level = {"bid_px": "222810000000", "ask_px": "222830000000", "bid_sz": 200, "ask_sz": 300}
    head = {"ts_event": "1722519360000000001", "rtype": 1, "publisher_id": 2, "instrument_id": 38}
    record = json.dumps({"hd": head, "levels": [level], "symbol": "AAPL"}).encode()
    path = tmp_path / "feed.json"
    assert sent_of(path, record + b"\n" + record) == ([(1, 300), (2, 300)], 0)
    rows = Rows(str(path))
    assert [row.message for row in rows] == [record, record]
    rows.source.close()


TAQ_TRADES = """date,time_m,ex,sym_root,sym_suffix,tr_scond,size,price,tr_corr
2018-01-02,09:30:00.043000,K,BRK,B,F I,100,198.5,00
2018-01-02,09:30:00.092000,P,BRK,B,Q,2,198.5,00
2018-01-02,09:30:00.093000,D,BRK,B,,3,198.51,08
2018-01-02,09:30:00.094000,D,BRK,B,,4,198.52,01
2018-01-02,09:30:00.095000,S,BRK,B,,5,198.53,00
"""
OPEN = 1_514_903_400 * SECOND  # 2018-01-02, 9:30 in New York


def test_a_format_that_names_venues_goes_out_as_messages(tmp_path: Path) -> None:
    """With all levels and what has happened; what is left out on purpose is no bad row, and keeps its number."""
    feed = tmp_path / "trades.csv"
    feed.write_text(TAQ_TRADES)
    rows = Rows(str(feed))
    found = [(row.number, row.symbol, row.time - OPEN, json.loads(row.message)) for row in rows]
    rows.source.close()
    trade = {"symbol": "BRK.B", "action": "T", "side": "N"}
    first = trade | {"ts_event": OPEN + 43 * 10**6, "publisher_id": 8, "price": 198.5, "size": 100}
    last = trade | {"ts_event": OPEN + 94 * 10**6, "publisher_id": 9002, "price": 198.52, "size": 4}
    assert found == [(1, "BRK.B", 43 * 10**6, first), (4, "BRK.B", 94 * 10**6, last)]
    assert (rows.bad, rows.left_out) == (1, {"official_price": 1, "cancelled": 1})

    feed.write_text(
        "time,venue,symbol,bid,ask,bid_size,ask_size,bid_1,ask_1,bid_size_1,ask_size_1\n"
        f"{OPEN},OWNX,A,1.5,1.75,10,20,1.25,2,30,0\n"
    )
    venues = tmp_path / "own.toml"
    venues.write_text(
        'schema_version = 1\n[[venue]]\nmic = "OWNX"\nname = "x"\nmodel = "x"\npublisher_ids = [7001]\n'
        "[[venue.figures]]\nvalid_from = 2000-01-01\ntaker_fee = 0.003\nmaker_rebate = 0.0\n"
        'taker_fee_verified = false\nmaker_rebate_verified = false\nsource = "x"\n'
    )
    rows = Rows(str(feed), str(venues))
    [update] = [JsonDecoder().decode(row.message) for row in rows]
    rows.source.close()
    assert (update.publisher_id, update.bids, update.asks) == (7001, [(1.5, 10), (1.25, 30)], [(1.75, 20), None])


# --- against a broker ------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def rows_of(servers: Servers, topic: str) -> dict[int, list[int]]:
    """The row headers of each partition, in order; messages without one are left out."""
    rows: dict[int, list[int]] = {partition: [] for partition in ends_of(servers, topic)}
    for record in read(servers, topic):
        number = dict(record.headers).get("row")
        if number is not None:
            rows[record.partition].append(int(number))
    return rows


def assert_each_once(rows: dict[int, list[int]], count: int) -> None:
    assert all(before < after for partition in rows.values() for before, after in pairwise(partition))
    assert sorted(row for partition in rows.values() for row in partition) == list(range(1, count + 1))


def bursts(path: Path, count: int, a_second: int = 1_000) -> Path:
    """Rows of twelve symbols, 500 at a time, so that a kill finds many on their way."""
    when = [500 * (i // 500) / a_second for i in range(count)]
    return write_csv(path, [quote(SYMBOLS[i * 7 % 12], seconds=seconds) for i, seconds in enumerate(when)])


def connection_to(servers: Servers) -> Any:
    return load("produce", {"kafka_servers": servers.bootstrap}, {}).connection


@pytest.mark.kafka
def test_killed_again_and_again(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    name, count = kafka.create_topic(topic(), partitions=3), 12_000
    file = bursts(tmp_path / "bursts.csv", count)
    command = ("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name)
    there = 0
    for reached in (600, 2_500, 5_500):
        job = start(*command, "--resume", "--speed", 1)

        def arrived(reached: int = reached, job: Job = job) -> bool:
            assert job.process.poll() is None, job.story("ended before it was killed")
            return sum(ends_of(kafka, name).values()) >= reached

        wait_for(arrived, f"{reached} messages")
        job.kill()
        assert job.process.returncode < 0, job.story("ended before it was killed")
        rows = rows_of(kafka, name)
        assert sum(map(len, rows.values())) > there
        there = sum(map(len, rows.values()))
    last = start(*command, "--resume").finish(DONE)
    assert f"sent {count - there:,} messages to {name}, all acknowledged; 0 bad rows; {there:,} were there" in last.err
    rows = rows_of(kafka, name)
    assert all(rows.values()), "a partition without a row proves nothing"
    assert_each_once(rows, count)
    assert "sent 0 messages" in start(*command, "--resume").finish(DONE).err
    assert sum(ends_of(kafka, name).values()) == count


@pytest.mark.kafka
def test_resume_with_partitions_that_got_unequally_far(
    kafka: Servers, start: Start, topic: Names, tmp_path: Path
) -> None:
    """A partition that has later rows says nothing of another: what is missing there is sent, and that alone."""
    name, count = kafka.create_topic(topic(), partitions=3), 300
    file = bursts(tmp_path / "bursts.csv", count)
    places = {row: kafka_python.partition_of(SYMBOLS[(row - 1) * 7 % 12].encode(), 3) for row in range(1, count + 1)}
    assert set(places.values()) == {0, 1, 2}
    reached = {0: 250, 1: 100, 2: 0}
    with KafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for row, partition in places.items():
            if row <= reached[partition]:
                key = SYMBOLS[(row - 1) * 7 % 12].encode()
                record = producer.send(name, b"{}", key=key, headers=[("row", b"%d" % row)]).get(timeout=30)
                assert record.partition == partition, "another partitioner than kafka-python's"
    job = start("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name, "--resume").finish(DONE)
    assert f"resuming {name} after row " in job.err
    assert "none (partition 2)" in job.err
    assert_each_once(rows_of(kafka, name), count)


@pytest.mark.kafka
def test_resume_counts_what_it_sends_and_tells_bad_rows(
    kafka: Servers, start: Start, topic: Names, tmp_path: Path
) -> None:
    name = kafka.create_topic(topic())
    quotes = [quote(seconds=second) for second in range(10)]
    quotes[2]["ts_event"] = "yesterday"
    file = write_csv(tmp_path / "ten.csv", quotes)
    command = ("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name, "--allow-bad", "--resume")
    first = start(*command, "--max-messages", 3).finish(DONE)
    assert f"resuming {name} from row 1: the topic is empty" in first.err
    second = start(*command, "--max-messages", 4).finish(DONE)
    assert f"resuming {name} after row 4 (partition 0)" in second.err
    assert f"sent 4 messages to {name}, all acknowledged; 1 bad rows; 3 were there already" in second.err
    start(*command).finish(DONE)
    assert rows_of(kafka, name) == {0: [1, 2, 4, 5, 6, 7, 8, 9, 10]}


@pytest.mark.kafka
def test_a_row_that_was_cut_is_sent_whole_by_the_next_resume(
    kafka: Servers, start: Start, topic: Names, tmp_path: Path
) -> None:
    name, feed = kafka.create_topic(topic()), tmp_path / "growing.csv"
    whole = HEADER + b"".join(ROW % size for size in (4000, 4001, 4002, 4003))
    feed.write_bytes(whole[: whole.index(b"4002") + 2])
    command = ("produce", feed, "--kafka-servers", kafka.bootstrap, "--topic", name, "--resume")
    job = start(*command).finish(Exit.BAD_MESSAGES)
    assert "growing.csv:4: unfinished: " in job.err
    feed.write_bytes(whole)
    start(*command).finish(DONE)
    assert [json.loads(record.value)["ask_sz_00"] for record in read(kafka, name)] == [4000, 4001, 4002, 4003]
    assert rows_of(kafka, name) == {0: [1, 2, 3, 4]}


@pytest.mark.kafka
def test_resume_where_others_have_written(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    name = kafka.create_topic(topic())
    file = write_csv(tmp_path / "five.csv", [quote(seconds=second) for second in range(5)])
    command = ("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name, "--resume")
    send(kafka, name, [b"foreign"] * 3)
    job = start(*command, "--max-messages", 2).finish(DONE)
    (line,) = [line for line in job.err.splitlines() if "resuming" in line]
    assert " - WARNING - " in line
    assert f"resuming {name} from row 1: none of the last 100000 messages of a partition has a header row" in line
    send(kafka, name, [b"foreign"] * 3)
    assert f"resuming {name} after row 2 (" in start(*command).finish(DONE).err
    assert rows_of(kafka, name) == {0: [1, 2, 3, 4, 5]}


@pytest.mark.kafka
def test_markers_of_transactions_at_the_end(
    kafka: Servers, start: Start, topic: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offsets without a message; looked back over step by step, and not further than the bound."""
    name, others = kafka.create_topic(topic(), partitions=3), 20
    file = bursts(tmp_path / "bursts.csv", 300)
    start("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name).finish(DONE)
    expected = {partition: max(rows) for partition, rows in rows_of(kafka, name).items()}
    with KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic("id")) as producer:
        producer.init_transactions()
        for i in range(others):
            producer.begin_transaction()
            for partition in range(3):
                producer.send(name, b"foreign", partition=partition)
            producer.flush()  # an abort would drop what is not yet sent
            (producer.commit_transaction if i % 2 else producer.abort_transaction)()
        wait_for(lambda: sum(ends_of(kafka, name).values()) == 300 + 3 * 2 * others, "markers of all transactions")
        monkeypatch.setattr(resume, "LOOK_BACK", (1, 5, 2 * others + 2))
        assert resume.rows_in(connection_to(kafka), name) == resume.RowsSent(expected, empty=False)
        monkeypatch.setattr(resume, "LOOK_BACK", (1, 2 * others))
        found = resume.rows_in(connection_to(kafka), name)
        assert found == resume.RowsSent(dict.fromkeys(range(3), 0), empty=False)
        monkeypatch.undo()
        producer.begin_transaction()  # one left open: read-committed readers would see nothing after it
        for partition in range(3):
            producer.send(name, b"open", partition=partition).get(timeout=30)
        job = start("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name, "--resume").finish(DONE)
        assert "300 were there already" in job.err
        producer.abort_transaction()
    assert_each_once(rows_of(kafka, name), 300)


@pytest.mark.kafka
def test_messages_removed_up_to_the_end(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    name = kafka.create_topic(topic(), partitions=2)
    send(kafka, name, [b"foreign"] * 3, part=1)
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        admin.delete_records({TopicPartition(name, 1): 3})
    found = resume.rows_in(connection_to(kafka), name)
    assert found == resume.RowsSent({0: 0, 1: 0}, empty=True)


@pytest.mark.kafka
def test_resume_is_refused_where_it_cannot_be_right(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    name = kafka.create_topic(topic())
    file = bursts(tmp_path / "bursts.csv", 100)
    command = ("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name)
    refused = start(*command, "--resume", "--loop").finish(WRONG_CALL)
    (line,) = refused.err.splitlines()
    assert "--resume and --loop" in line
    start(*command, "--max-messages", 50).finish(DONE)
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        admin.create_partitions({name: 3})
        wait_for(lambda: len(admin.describe_topics([name])[0]["partitions"]) == 3, "three partitions")
    job = start(*command, "--resume").finish(STREAM_FAILED)
    assert "it has got more partitions since" in job.err.splitlines()[-1]
    assert sum(ends_of(kafka, name).values()) == 50


@pytest.mark.kafka
def test_no_row_passes_one_that_the_brokers_refuse(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    """Else the next --resume would take it for sent."""
    name, count, at = kafka.create_topic(topic(), 1, {"max.message.bytes": 20_000}), 3_000, 1_500
    quotes = [quote(seconds=i / 1_000) for i in range(count)]
    quotes[at - 1]["pad"] = random.Random(4).randbytes(30_000).hex()
    file = tmp_path / "feed.jsonl"
    file.write_text("\n".join(map(json.dumps, quotes)))
    command = ("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name)
    for arguments in (command, (*command, "--resume")):
        job = start(*arguments).finish(STREAM_FAILED)
        assert f"sending to {name}: MessageSizeTooLarge" in job.err.splitlines()[-1]
        (rows,) = rows_of(kafka, name).values()
        assert rows == list(range(1, len(rows) + 1))
        assert len(rows) < at
    del quotes[at - 1]["pad"]
    file.write_text("\n".join(map(json.dumps, quotes)))
    start(*command, "--resume").finish(DONE)
    assert_each_once(rows_of(kafka, name), count)


@pytest.mark.kafka
def test_nothing_that_waits_behind_a_refused_message_is_sent(kafka: Servers, topic: Names) -> None:
    """Batches that are complete and would go out before anybody looks at what became of those before them."""
    name = kafka.create_topic(topic(), 1, {"max.message.bytes": 20_000})
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=60_000, batch_size=10_000)
    confirmed = resume.Confirmed(producer, name)

    def send_all() -> None:
        for row in range(1, 1_001):
            confirmed.send("key", b"x" * (30_000 if row == 500 else 100), row)
        confirmed.finish()

    with pytest.raises(StreamError, match=f"sending to {name}: MessageSizeTooLarge"):
        send_all()
    confirmed.close()
    (rows,) = rows_of(kafka, name).values()
    assert rows == list(range(1, len(rows) + 1))
    assert confirmed.count <= len(rows) < 500


@pytest.mark.kafka
def test_the_producer_is_idempotent(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    """The broker knows it by its id and has numbered its messages: one sent again would be seen to be the same."""
    name = kafka.create_topic(topic())
    file = bursts(tmp_path / "bursts.csv", 100)
    start("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name).finish(DONE)
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        partition = TopicPartition(name, 0)
        (producer,) = admin.describe_producers([partition])[partition].active_producers
    assert producer.producer_id >= 0
    assert producer.last_sequence == 99
    mine = kafka_python.connect_producer(connection_to(kafka), [name]).producer
    assert mine.config["enable_idempotence"]
    mine.close()


@pytest.mark.kafka
def test_produce_says_how_late_it_was(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    name = kafka.create_topic(topic())
    file = write_csv(tmp_path / "paced.csv", [quote(seconds=i / 10) for i in range(5)])
    command = ("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name)
    line = start(*command, "--speed", 1).finish(DONE).err.splitlines()[-1]
    told, late = line.split("; at most ")
    assert told == f"sent 5 messages to {name}, all acknowledged; 0 bad rows"
    milliseconds, rest = late.split(" ", 1)
    assert rest == "ms after they were due"
    assert float(milliseconds) >= 0
    assert "due" not in start(*command).finish(DONE).err, "without a pace nothing is due"


class Stoppable:
    """A producer whose messages are answered by the test; it is its own sender."""

    def __init__(self) -> None:
        self.futures: list[Future] = []
        self.stopped = 0
        self._sender = self

    def send(self, *arguments: object, **more: object) -> Future:
        if self.stopped:
            raise IllegalStateError("closed")
        self.futures.append(Future())
        return self.futures[-1]

    def force_close(self) -> None:
        self.stopped += 1


def test_a_message_given_up_stops_the_producer_at_once() -> None:
    """On its own thread: after some errors kafka-python goes on with the messages behind the one that is lost."""
    producer = Stoppable()
    confirmed = resume.Confirmed(producer, "t")
    for row in range(1, 4):
        confirmed.send("key", b"", row)
    producer.futures[0].success(None)
    assert producer.stopped == 0
    producer.futures[1].failure(OutOfOrderSequenceNumberError("lost"))
    assert producer.stopped == 1
    for _ in range(2):  # each call says what came first
        with pytest.raises(StreamError, match="sending to t: OutOfOrderSequenceNumberError"):
            confirmed.send("key", b"", 4)
    assert len(producer.futures) == 3


# --- rows on their way to the replicas -------------------------------------------------------------------------------


class Lagging:
    """A leader's log and what consumers are shown of it, which is one message more each time they ask."""

    def __init__(self, log: int, shown: int) -> None:
        self.log, self.shown = log, shown

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.shown += 1
        return dict.fromkeys(partitions, self.shown)

    def list_partition_offsets(self, specs: dict[TopicPartition, Any]) -> dict[TopicPartition, Any]:
        assert set(specs.values()) == {OffsetSpec.LATEST}
        return dict.fromkeys(specs, OffsetAndTimestamp(self.log, -1, None))

    def close(self) -> None: ...


def test_the_end_is_that_of_the_log_once_the_replicas_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consumers are shown less for a while: what a killed producer sent last would be sent again."""
    cluster, partition = Lagging(log=10, shown=5), TopicPartition("t", 0)
    monkeypatch.setattr(resume, "connect_admin", lambda connection, kind: cluster)
    monkeypatch.setattr(resume, "ASK_AGAIN_S", 0)
    connection = load("produce", {}, {}).connection
    assert resume._settled_ends(connection, cluster, [partition]) == {partition: 10}
    connection = msgspec.structs.replace(connection, timing=Timing(flush=0.05))
    stuck = Lagging(log=10**9, shown=5)
    monkeypatch.setattr(resume, "connect_admin", lambda connection, kind: stuck)
    with pytest.raises(StreamError, match="the replicas of t did not agree on its end"):
        resume._settled_ends(connection, stuck, [partition])


@pytest.mark.kafka
def test_the_end_of_the_log_is_asked_for_as_a_replica(kafka: Servers, topic: Names) -> None:
    name = kafka.create_topic(topic())
    send(kafka, name, [b"1", b"2", b"3"])
    partition = TopicPartition(name, 0)
    request = private.LogEnds._list_partition_offsets_request({partition: OffsetSpec.LATEST}, 0)
    assert request.replica_id == -2
    admin = kafka_python.connect_admin(connection_to(kafka), private.LogEnds)
    assert admin.list_partition_offsets({partition: OffsetSpec.LATEST})[partition].offset == 3
    admin.close()
