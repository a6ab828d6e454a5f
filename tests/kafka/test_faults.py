"""What brokers, other members and whoever writes a topic can do to a stream, with each client."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commands import DONE, WRONG_CALL, Jobs
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka_broker import Servers
from test_clients import PATIENCE, client
from topics import ends_of, packed, quote, send

from sor.errors import StreamError
from sor.kafka import resume
from sor.kafka.common import ClientError, Identity, Kind, Offsets
from sor.kafka.security import Connection
from sor.kafka.source import KafkaSource
from sor.kafka.timing import Timing

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("refused_connections")]  # brokers that go, in all of them

__all__ = ["client"]  # a fixture
Names = Callable[..., str]
QUICK = Timing(metadata=0.5, look=0.5, settled=0.5, fenced=1.0)


@pytest.fixture
def source_of(client: ModuleType, kafka: Servers) -> Iterator[Callable[..., KafkaSource]]:
    """Opens sources of a group, with short intervals between looks at what has changed."""
    with ExitStack() as stack:

        def opened(topic: str, group: str, start: str = "earliest", *, transactional: bool = False) -> KafkaSource:
            connection = Connection(kafka.bootstrap, 30, timing=QUICK)
            source = client.open_source(connection, topic, Identity(group, None), start, transactional=transactional)
            stack.callback(source.close)
            return source  # type: ignore[no-any-return]

        yield opened


def poll(source: KafkaSource, *, until: Callable[[list[Any]], bool]) -> list[Any]:
    """What comes until that is enough."""
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while not until(found):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s, but {len(found)} messages"
        found += source.poll(1_000, 0.2) or []
    return found


def fill(servers: Servers, topic: str, values: list[bytes]) -> None:
    with KafkaProducer(bootstrap_servers=servers.bootstrap) as producer:
        for value in values:
            producer.send(topic, value, partition=0)


def delete_before(servers: Servers, topic: str, offset: int) -> None:
    with KafkaAdminClient(bootstrap_servers=servers.bootstrap) as admin:
        admin.delete_records({TopicPartition(topic, 0): offset})


def numbers(start: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, end)]


def stands(servers: Servers, group: str, topic: str) -> int | None:
    with KafkaConsumer(bootstrap_servers=servers.bootstrap, group_id=group) as consumer:
        return consumer.committed(TopicPartition(topic, 0))  # type: ignore[no-any-return]


# --- retention, and topics made anew ---------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_retention_took_the_place_of_a_group_that_was_away(
    source_of: Callable[..., KafkaSource], kafka: Servers, topic: Names, caplog: pytest.LogCaptureFixture, start: str
) -> None:
    """It goes on from the first message that is there, whatever `--from` says: that is for a group without a place."""
    name, group = kafka.create_topic(topic()), topic("group")
    fill(kafka, name, numbers(0, 10))
    first = source_of(name, group, "earliest")
    poll(first, until=lambda found: len(found) == 10)
    first.commit()
    first.close()
    fill(kafka, name, numbers(10, 100))
    delete_before(kafka, name, 50)
    source = source_of(name, group, start)
    found = poll(source, until=lambda found: len(found) == 50)
    assert [message.value for message in found] == numbers(50, 100)
    assert source.missing == 40
    told = f"{name}:0: 40 messages were gone before they could be read (retention): going on from 50, not from 10"
    assert [record.message for record in caplog.records if record.levelname == "WARNING" and name in record.message][
        -1:
    ] == [told]
    assert stands(kafka, group, name) == 50, "told once, not at every start"


@pytest.mark.parametrize("transactional", [False, True])
def test_retention_takes_what_a_member_was_about_to_read(
    source_of: Callable[..., KafkaSource], kafka: Servers, topic: Names, transactional: bool
) -> None:
    name, group = kafka.create_topic(topic()), topic("group")
    fill(kafka, name, numbers(0, 10))
    source = source_of(name, group, transactional=transactional)
    poll(source, until=lambda found: len(found) == 10)
    source.commit()
    delete_before(kafka, name, 10)
    source.lost()
    # Nothing of it is in the client's hands: the messages come and go between two of its requests.
    source.group.seek(0, 5)
    source._positions[0] = 5  # as one that was paused there
    fill(kafka, name, numbers(10, 30))
    found = poll(source, until=lambda found: len(found) == 20)
    assert [message.value for message in found] == numbers(10, 30)
    assert (source.missing, source.lost()) == (5, {0})
    assert source.offsets().positions


def make_anew(servers: Servers, name: str, values: list[bytes]) -> None:
    with KafkaAdminClient(bootstrap_servers=servers.bootstrap) as admin:
        admin.delete_topics([name])
        deadline = time.monotonic() + PATIENCE
        while name in admin.list_topics():
            assert time.monotonic() < deadline, "the topic does not go"
            time.sleep(0.05)
        for _ in range(50):  # until the name is free
            try:
                servers.create_topic(name)
                break
            except Exception:  # noqa: BLE001
                time.sleep(0.1)
    fill(servers, name, values)


@pytest.mark.parametrize("count", [5, 60], ids=["shorter", "longer"])
@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_topic_that_is_deleted_and_made_again_is_read_from_its_start(
    source_of: Callable[..., KafkaSource], kafka: Servers, topic: Names, count: int, start: str
) -> None:
    """And its state goes, with the partitions that have it, also where its offsets would go on from where it stood."""
    name, group = kafka.create_topic(topic()), topic("group")
    source = source_of(name, group, start)
    poll(source, until=lambda found: bool(source.partitions))
    fill(kafka, name, numbers(0, 40))
    poll(source, until=lambda found: len(found) == 40)
    source.commit()
    source.lost()
    make_anew(kafka, name, [b"new %d" % number for number in range(count)])
    found: list[Any] = []
    lost: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < deadline, [message.value for message in found]
        batch = source.poll(1_000, 0.2) or []
        if gone := source.lost():
            lost |= gone
            found = []  # what came before is of a log that is not there any more
        found += batch
        source.commit()
    assert [message.value for message in found] == [b"new %d" % number for number in range(count)]
    assert lost == {0}
    assert stands(kafka, group, name) == count


def test_the_reader_tells_one_topic_from_another_of_its_name(client: ModuleType, kafka: Servers, topic: Names) -> None:
    name = kafka.create_topic(topic())
    reader = client.open_reader(Connection(kafka.bootstrap, 30))
    first = reader.identity(name)
    assert first is not None
    assert reader.identity(name) == first
    make_anew(kafka, name, [b"new"])
    assert reader.identity(name) not in (None, first)
    assert reader.identity(topic("nowhere")) is None
    reader.close()


# --- what others write -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
def test_whatever_compression_a_topic_has(
    source_of: Callable[..., KafkaSource], client: ModuleType, kafka: Servers, topic: Names, codec: str
) -> None:
    """The source, the reader and `--resume` read what whoever writes the topic has chosen."""
    name = kafka.create_topic(topic(), configs={"compression.type": codec})
    fill(kafka, name, numbers(0, 10))
    source = source_of(name, topic("group"))
    assert [message.value for message in poll(source, until=lambda found: len(found) == 10)] == numbers(0, 10)
    reader = client.open_reader(Connection(kafka.bootstrap, 30))
    assert [record.value for record in reader.records(name, 0, 0, 10)] == numbers(0, 10)
    reader.close()
    assert resume.rows_in(Connection(kafka.bootstrap, 30), name) == resume.RowsSent({0: 0}, empty=False)


def test_at_least_once_too_what_a_feed_takes_back_is_not_read(
    source_of: Callable[..., KafkaSource], kafka: Servers, topic: Names
) -> None:
    name = kafka.create_topic(topic())
    settings = {"bootstrap_servers": kafka.bootstrap, "transactional_id": topic("id")}
    with KafkaProducer(**settings) as producer:
        producer.init_transactions()
        for value, end in ((b"one", producer.commit_transaction), (b"wrong", producer.abort_transaction)):
            producer.begin_transaction()
            producer.send(name, value, partition=0).get(timeout=PATIENCE)
            end()
    fill(kafka, name, [b"two"])
    source = source_of(name, topic("group"))
    assert [message.value for message in poll(source, until=lambda found: len(found) == 2)] == [b"one", b"two"]


def test_members_with_another_assignor_end_the_stream(
    source_of: Callable[..., KafkaSource], kafka: Servers, topic: Names
) -> None:
    """In the same words, and soon: one that waits in silence for a partition answers nothing either."""
    name, group = kafka.create_topic(topic(), 2), topic("group")
    from kafka.coordinator.assignors.range import RangePartitionAssignor

    settings = {"bootstrap_servers": kafka.bootstrap, "group_id": group}
    with KafkaConsumer(name, **settings, partition_assignment_strategy=(RangePartitionAssignor,)) as other:
        while not other.assignment():
            other.poll(timeout_ms=100)
        over = threading.Event()
        thread = threading.Thread(target=lambda: [other.poll(timeout_ms=100) for _ in iter(over.is_set, True)])
        thread.start()
        try:
            source = source_of(name, group)
            with pytest.raises(StreamError, match="cooperative-sticky assignor, so give this program a --group of its"):
                poll(source, until=lambda found: False)
        finally:
            over.set()
            thread.join()


# --- refused for good ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kafka-python", "confluent"])
@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
def test_results_that_their_topic_refuses_end_the_command_with_the_reason(
    kafka: Servers, topic: Names, tmp_path: Path, name: str, delivery: str
) -> None:
    """With a status that no supervisor starts again; nothing is committed."""
    feed, group = kafka.create_topic(topic()), topic("group")
    results = kafka.create_topic(topic("results"), configs={"max.message.bytes": 300})
    send(kafka, feed, packed(quote(), quote()))
    options = ("--group", group, "--results-topic", results, "--delivery", delivery, "--log-level", "warning")
    with Jobs(tmp_path) as jobs:
        job = jobs.start(
            *("consume", "--kafka-servers", kafka.bootstrap, "--topic", feed, "--client", name, *options)
        ).finish(WRONG_CALL)
    assert "MessageSizeTooLarge" in job.err.splitlines()[-1] or "MSG_SIZE_TOO_LARGE" in job.err.splitlines()[-1]
    assert "answered again" not in job.err
    assert stands(kafka, group, feed) in (None, 0)


def test_a_reason_that_is_told_late_is_awaited(kafka: Servers, topic: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka knows that a transaction has failed before it tells why: on a busy machine, much later."""
    confluent_kafka = pytest.importorskip("confluent_kafka")
    from sor.kafka import confluent

    results = kafka.create_topic(topic("results"), configs={"max.message.bytes": 300})
    port = confluent.connect_producer(Connection(kafka.bootstrap, 30), [results], topic("transactions"))
    poll, late = port.producer.poll, iter(range(5))

    def fail(*offsets: object) -> None:  # as where the failure comes while the offsets are sent
        failed = confluent_kafka.KafkaError(confluent_kafka.KafkaError._STATE, "Erroneous state", False, False, True)
        raise confluent_kafka.KafkaException(failed)

    monkeypatch.setattr(port.producer, "send_offsets_to_transaction", fail)
    monkeypatch.setattr(
        port.producer, "poll", lambda seconds: poll(seconds) if next(late, None) is None else time.sleep(seconds)
    )
    port.begin()
    port.send(results, random.Random(1).randbytes(1_000), None, None, 0)
    with pytest.raises(ClientError) as caught:
        port.commit(Offsets([], None))
    assert caught.value.kind is Kind.REFUSED
    port.abort()


def test_a_file_goes_to_a_topic_with_a_small_limit(
    kafka: Servers, topic: Names, tmp_path: Path, checkout: Path
) -> None:
    """Where each row fits; kafka-python would send 128 KB at a time, split it, and lose count."""
    with Jobs(tmp_path) as jobs:
        name = kafka.create_topic(topic(), 2, configs={"max.message.bytes": 8_000})
        servers = ("--kafka-servers", kafka.bootstrap, "--topic", name)
        assert "sent 2,000 messages" in jobs.start("produce", checkout / "sample.csv", *servers).finish(DONE).err
        assert sum(ends_of(kafka, name).values()) == 2_000
        name = kafka.create_topic(topic("smaller"), configs={"max.message.bytes": 300})
        servers = ("--kafka-servers", kafka.bootstrap, "--topic", name)
        job = jobs.start("produce", checkout / "sample.csv", *servers).finish(4)
        assert f"sending to {name}: MessageSizeTooLarge" in job.err.splitlines()[-1]
        assert ends_of(kafka, name) == {0: 0}
