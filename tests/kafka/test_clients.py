"""Both Kafka clients behind the same names: what a batch's transaction promises, seen from within the process."""

from __future__ import annotations

import importlib
import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import ModuleType
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka_broker import Servers

from sor.errors import AbortedError, Exit, RefusedError, StreamError
from sor.kafka.common import Identity
from sor.kafka.security import Connection
from sor.kafka.sinks import NEW_PRODUCERS
from sor.stream.messages import DeadLetter, KafkaPlace, Message

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves a socket unclosed now and then where a client is closed soon after its start
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

Names = Callable[..., str]
PATIENCE = 60.0
COUNT = 50  # messages in each partition


@pytest.fixture(params=["kafka-python", "confluent"])
def client(request: pytest.FixtureRequest) -> ModuleType:
    """The module of each client in turn."""
    if request.param == "kafka-python":
        return importlib.import_module("sor.kafka.kafka_python")
    if importlib.util.find_spec("confluent_kafka") is None:
        pytest.skip("confluent-kafka is not installed")
    return importlib.import_module("sor.kafka.confluent")


class Member:
    """A member of a group that copies its messages to another topic, exactly once."""

    def __init__(self, client: ModuleType, servers: Servers, topic: str, group: str, stack: ExitStack) -> None:
        self.connection = Connection(servers.bootstrap, 30)
        identity = Identity(group, None)
        self.connect = partial(client.connect_producer, self.connection, [f"{topic}-out"], identity.transactional_id)
        producer = self.connect()
        self.source = client.open_source(self.connection, topic, identity, "earliest", transactional=True)
        stack.callback(self.source.close)
        self.sink = client.TransactionalSink(
            producer, f"{topic}-out", f"{topic}-out", f"{topic}-out", 30, self.source.is_fenced, self.connect
        )
        stack.callback(self.sink.close)

    def poll(self, limit: int = 10) -> list[Message]:
        """The next messages, waited for."""
        deadline = time.monotonic() + PATIENCE
        while not (batch := self.source.poll(limit)):
            assert time.monotonic() < deadline, "no messages"
        return batch

    def answer(self, batch: list[Message]) -> None:
        self.sink.begin()
        for message in batch:
            self.sink.add("key", b"%d:%d" % (message.partition, message.place.offset))

    def commit(self) -> None:
        self.sink.commit(self.source.offsets())
        self.source.commit()

    def undo(self, unsure: bool = False) -> None:
        self.sink.abort()
        self.source.rewind(unsure)


class Group:
    """A topic with `COUNT` messages in each of two partitions, one to copy it to, and members who do."""

    def __init__(self, client: ModuleType, servers: Servers, name: str, stack: ExitStack) -> None:
        self.client, self.servers, self.name, self._stack = client, servers, name, stack
        for topic in (name, f"{name}-out"):
            servers.create_topic(topic, 2)
        with KafkaProducer(bootstrap_servers=servers.bootstrap) as producer:
            for i in range(COUNT):
                for partition in (0, 1):
                    producer.send(name, b"%d" % i, key=b"k", partition=partition, timestamp_ms=1_000 + i)

    def member(self) -> Member:
        return Member(self.client, self.servers, self.name, f"{self.name}-group", self._stack)

    def copied(self) -> list[bytes]:
        """Values of the committed copies, sorted."""
        values = []
        settings = {"bootstrap_servers": self.servers.bootstrap, "group_id": None}
        with KafkaConsumer(**settings, isolation_level="read_committed", auto_offset_reset="earliest") as consumer:
            places = [TopicPartition(f"{self.name}-out", number) for number in (0, 1)]
            consumer.assign(places)
            ends = consumer.end_offsets(places)
            deadline = time.monotonic() + PATIENCE
            while any(consumer.position(place) < end for place, end in ends.items()):
                assert time.monotonic() < deadline, "the copies cannot be read"
                for records in consumer.poll(timeout_ms=200).values():
                    values += [record.value for record in records]
        return sorted(values)


@pytest.fixture
def group(client: ModuleType, kafka: Servers, topic: Names) -> Iterator[Group]:
    with ExitStack() as stack:
        yield Group(client, kafka, topic("g")[-60:], stack)


EVERYTHING = sorted(b"%d:%d" % (partition, i) for partition in (0, 1) for i in range(COUNT))


def places(batch: list[Message]) -> list[Any]:
    return sorted((message.partition, message.place.offset) for message in batch)


def test_messages_carry_all_that_the_stream_knows(group: Group) -> None:
    member = group.member()
    seen: dict[int, list[Message]] = {0: [], 1: []}
    while sum(map(len, seen.values())) < 2 * COUNT:
        for message in member.poll(1_000):
            seen[message.partition].append(message)
    for partition, messages in seen.items():
        assert [message.place for message in messages] == [
            KafkaPlace(group.name, partition, offset) for offset in range(COUNT)
        ]
        assert [message.value for message in messages] == [b"%d" % i for i in range(COUNT)]
        assert [message.time for message in messages] == [1_000 + i for i in range(COUNT)]
        assert [message.lag for message in messages] == [COUNT - 1 - i for i in range(COUNT)]
        assert {message.key for message in messages} == {b"k"}
    assert member.source.lags == {(group.name, 0): 0, (group.name, 1): 0}
    assert (member.source.partitions, member.source.rebalances) == ({0, 1}, 1)


def test_an_aborted_batch_comes_again_and_leaves_nothing(group: Group) -> None:
    member = group.member()
    first = member.poll()
    member.answer(first)
    member.undo()
    assert group.copied() == []
    again: list[Message] = []
    while len(again) < 2 * COUNT:
        batch = member.poll()
        member.answer(batch)
        member.commit()
        again += batch
    assert set(places(first)) <= set(places(again))
    assert places(again) == [(partition, offset) for partition in (0, 1) for offset in range(COUNT)]
    assert group.copied() == EVERYTHING
    assert (member.sink.committed > 1, member.sink.aborted) == (True, 1)


def test_who_has_lost_its_transaction_goes_on_with_another_producer(group: Group) -> None:
    """As where a broker was away for longer than a transaction may last, but sooner: another takes up the id."""
    member = group.member()
    first = member.poll()
    member.answer(first)
    member.commit()
    member.answer(member.poll())
    member.connect()
    with pytest.raises(AbortedError, match="the brokers have ended it") as caught:
        member.commit()
    assert caught.value.unsure
    member.undo(unsure=True)
    again = places(first)
    while len(again) < 2 * COUNT:
        batch = member.poll()
        member.answer(batch)
        member.commit()
        again += places(batch)
    assert group.copied() == EVERYTHING


def test_a_batch_committed_although_nobody_said_so_does_not_come_again(group: Group) -> None:
    member = group.member()
    first = member.poll()
    member.answer(first)
    member.sink.commit(member.source.offsets())
    member.source.rewind(unsure=True)
    assert not set(places(first)) & set(places(member.poll()))


def test_who_loses_every_transaction_ends(group: Group) -> None:
    member = group.member()
    for _ in range(NEW_PRODUCERS):
        member.answer(member.poll())
        member.connect()
        with pytest.raises(AbortedError):
            member.commit()
        member.undo(unsure=True)
    member.answer(member.poll())
    member.connect()
    with pytest.raises(StreamError, match="a new process goes on from the last commit") as caught:
        member.commit()
    assert not isinstance(caught.value, AbortedError)


def test_what_was_polled_before_a_rebalance_cannot_be_committed_after_it(group: Group) -> None:
    """The group is in a newer generation by then, and another member may have the partition."""
    one = group.member()
    batch = one.poll()
    one.answer(batch)
    two = group.member()
    deadline = time.monotonic() + PATIENCE
    offsets = one.source.offsets()
    while not one.source.lost():  # the first gives a partition to the second only within a poll
        one.source.poll(1)
        two.source.poll(1)
        assert time.monotonic() < deadline, "the second gets nothing"
    with pytest.raises(AbortedError, match="committing a transaction"):
        one.sink.commit(offsets)
    one.sink.abort()
    assert group.copied() == []


class Outcast:
    """A client's consumer whose group has put it out, until it is told otherwise."""

    def __init__(self, consumer: Any, metadata: Any) -> None:
        self._consumer, self._metadata, self.out = consumer, metadata, True

    def __getattr__(self, name: str) -> Any:
        if self.out and name in ("group_metadata", "consumer_group_metadata"):
            return lambda: self._metadata
        return getattr(self._consumer, name)


def metadata_of_a_stranger(group: Group) -> Any:
    """As of a consumer that has not joined yet."""
    servers, name = group.servers.bootstrap, f"{group.name}-group"
    if group.client.__name__.endswith("kafka_python"):
        with KafkaConsumer(bootstrap_servers=servers, group_id=name) as consumer:
            return consumer.group_metadata()
    import confluent_kafka

    stranger = confluent_kafka.Consumer({"bootstrap.servers": servers, "group.id": name})
    try:
        return stranger.consumer_group_metadata()
    finally:
        stranger.close()


def test_who_is_put_out_of_the_group_answers_nothing(group: Group) -> None:
    """For the brokers would take offsets that come without a generation, whoever has the partition by then."""
    member = group.member()
    consumer = member.source.group.consumer
    member.source.group.consumer = outcast = Outcast(consumer, metadata_of_a_stranger(group))
    deadline = time.monotonic() + PATIENCE
    while not consumer.assignment():
        assert member.source.poll(10) == []
        assert time.monotonic() < deadline, "no partitions"
    for _ in range(3):
        assert member.source.poll(10) == []
    outcast.out = False
    first: dict[int, int] = {}
    while len(first) < 2:
        for message in member.poll(2 * COUNT):
            first.setdefault(message.partition, message.place.offset)
    assert first == {0: 0, 1: 0}


NOISE = random.Random(7).randbytes(1_001_000)  # which no compression makes small


@pytest.mark.parametrize("limit", [None, 2_000, 500])
def test_a_letter_is_cut_to_what_its_topic_takes(group: Group, client: ModuleType, limit: int | None) -> None:
    """Whatever the limits of the client, and even where what is told of the message fills the letter."""
    configs = {} if limit is None else {"max.message.bytes": limit}
    out = group.servers.create_topic(f"{group.name}-letters", configs=configs)
    sink = client.KafkaSink(client.connect_producer(Connection(group.servers.bootstrap, 30), [out]), None, out)
    place = KafkaPlace(group.name, 0, 7)
    for value in (b"small", NOISE):
        sink.reject(DeadLetter(value, place, "json", "is none", b"key"))
        sink.commit()
    sink.close()
    with KafkaConsumer(
        bootstrap_servers=group.servers.bootstrap, auto_offset_reset="earliest", group_id=None
    ) as letters:
        letters.assign([TopicPartition(out, 0)])
        found: list[Any] = []
        deadline = time.monotonic() + PATIENCE
        while len(found) < 2:
            assert time.monotonic() < deadline, "no letters"
            found += [record for records in letters.poll(timeout_ms=200).values() for record in records]
    assert NOISE.startswith(found[1].value)
    assert len(found[1].value) >= {None: 1_000_000, 2_000: 1_500, 500: 100}[limit]
    assert dict(found[1].headers)["sor.length"] == b"1001000"


@pytest.mark.parametrize("transactional", [False, True])
def test_a_result_too_large_for_its_topic_is_refused_once(
    group: Group, client: ModuleType, transactional: bool
) -> None:
    """It stops the stream with the brokers' reason: it would not get smaller by being tried again."""
    out = group.servers.create_topic(f"{group.name}-small", configs={"max.message.bytes": 2_000})
    connect = partial(client.connect_producer, Connection(group.servers.bootstrap, 30), [out])
    if transactional:
        identity = Identity(group.name, None)
        port = connect(identity.transactional_id)
        sink = client.TransactionalSink(port, out, None, out, 30, lambda: False, connect)
    else:
        sink = client.KafkaSink(connect(), out, None)
    sink.begin()
    sink.add("key", NOISE[:50_000])
    offsets = None
    if transactional:
        member = group.member()
        member.poll()
        offsets = member.source.offsets()
    with pytest.raises(RefusedError, match=r"MessageSizeTooLarge|MSG_SIZE_TOO_LARGE") as caught:
        sink.commit(offsets)
    assert (caught.value.retriable, caught.value.status) == (False, Exit.WRONG_CALL)
    sink.close()


@pytest.mark.parametrize("limit", [8_000, 1_000])
def test_many_messages_go_to_a_topic_with_a_small_limit(group: Group, client: ModuleType, limit: int) -> None:
    """Each fits; a batch of the client's usual size would not."""
    out = group.servers.create_topic(f"{group.name}-small", configs={"max.message.bytes": limit})
    sink = client.KafkaSink(client.connect_producer(Connection(group.servers.bootstrap, 30), [out]), out, None)
    for _ in range(3):
        for i in range(300):
            sink.add("key", b"%d" % i + NOISE[900 * i : 900 * i + 700])
        sink.commit()
    sink.close()
    with KafkaConsumer(bootstrap_servers=group.servers.bootstrap) as consumer:
        assert consumer.end_offsets([TopicPartition(out, 0)]) == {TopicPartition(out, 0): 900}


def test_the_reader_waits_for_open_transactions(group: Group, client: ModuleType) -> None:
    """And hands out what is committed, from and to the offsets asked for."""
    member = group.member()
    batch = member.poll()
    member.answer(batch)
    member.commit()
    member.answer(batch)
    member.sink.abort()
    reader = client.open_reader(member.connection)
    out = f"{group.name}-out"
    records = []
    for partition in (0, 1):
        first, end = reader.bounds(out, partition)
        records += [record.value for record in reader.records(out, partition, first, end)]
    assert sorted(records) == sorted(b"%d:%d" % (one.partition, one.place.offset) for one in batch)
    assert [(one.offset, one.value) for one in reader.records(group.name, 1, 3, 6)] == [
        (i, b"%d" % i) for i in (3, 4, 5)
    ]
    assert list(reader.records(group.name, 0, 4, 4)) == []
    reader.close()


FOLLOWING = """
import random, sys
from sor.kafka import confluent, kafka_python
from sor.kafka.security import Connection

client = {"confluent": confluent, "kafka_python": kafka_python}[sys.argv[1]]
feed, rng, wanted = client.open_feed(Connection(sys.argv[2], 30), sys.argv[3]), random.Random(sys.argv[5]), {}
for turn in range(120):
    partition = rng.randrange(8)
    if partition in wanted:
        feed.leave(partition)
        del wanted[partition]
    for other in range(8) if turn % 10 == 0 else [partition]:
        if other not in wanted and rng.random() < 0.8:
            wanted[other] = rng.choice([0, rng.randrange(int(sys.argv[4]))])
            feed.follow(other, wanted[other])
    for _ in range(rng.randrange(3)):
        for record in feed.poll(rng.choice([0, 20])):
            assert wanted[record.partition] == record.offset, (turn, record, wanted)
            wanted[record.partition] += 1
        assert all(feed.position(one) == offset for one, offset in wanted.items()), (turn, wanted)
while any(offset < int(sys.argv[4]) for offset in wanted.values()):
    for record in feed.poll(100):
        assert wanted[record.partition] == record.offset, (record, wanted)
        wanted[record.partition] += 1
feed.close()
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_partitions_are_followed_and_left_in_quick_succession(
    client: ModuleType, kafka: Servers, topic: Names, seed: int
) -> None:
    """Message by message, from where they were asked for. A process of its own: librdkafka aborts the one it is in
    where a partition is taken out twice before it has stopped."""
    name, count = topic("t")[-60:], 500
    kafka.create_topic(name, 8)
    with KafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for i in range(8 * count):
            producer.send(name, b"%d" % i, partition=i % 8)
    arguments = [client.__name__.rpartition(".")[2], kafka.bootstrap, name, str(count), str(seed)]
    done = subprocess.run([sys.executable, "-c", FOLLOWING, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_reader_makes_a_topic_like_another(group: Group, client: ModuleType) -> None:
    reader = client.open_reader(Connection(group.servers.bootstrap, 30))
    for _ in range(2):
        reader.make_like(f"{group.name}-books", group.name)
    assert [reader.bounds(f"{group.name}-books", partition) for partition in (0, 1)] == [(0, 0), (0, 0)]
    group.servers.create_topic(f"{group.name}-one", 1)
    with pytest.raises(StreamError, match=r"has 1 partitions: .* has 2, so it needs as many"):
        reader.make_like(f"{group.name}-one", group.name)
    reader.close()
