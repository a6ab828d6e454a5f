"""A member that was away from its group, as kafka-python shows it: what its source goes on from.

The client's part is scripted here, as the case needs a process stopped between two rounds of a rebalance; chaos.py
meets it with a real one (``--kills 0 --pauses 9 --named 1``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import ConsumerGroupMetadata, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka_broker import Servers

from sor.errors import AbortedError
from sor.kafka.common import Offsets
from sor.kafka.kafka_python import GroupMember, connect_producer
from sor.kafka.security import Connection
from sor.kafka.sinks import TransactionalSink
from sor.kafka.source import KafkaSource
from sor.kafka.waiting import Deadline

MINE = TopicPartition("input", 1)


class Scripted:
    """Partition 1 of a topic: we have read to 2,000, and the group has committed 5,000."""

    def __init__(self) -> None:
        self.member = ("a", 7)
        self.next = 1000
        self.stands = 5000
        self.sought: list[int] = []
        self._coordinator = SimpleNamespace(_offset_fetch_futures={}, request_rejoin=lambda: None)
        self._manager = SimpleNamespace(cluster=SimpleNamespace(topic_id=lambda topic: None))

    def poll(self, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        records = [SimpleNamespace(offset=self.next + i, value=b"{}", key=b"k", timestamp=0) for i in range(1000)]
        self.next += 1000
        return {MINE: records}

    def group_metadata(self) -> Any:
        return SimpleNamespace(member_id=self.member[0], generation_id=self.member[1])

    def assignment(self) -> set[Any]:
        return {MINE}

    def committed(self, tp: Any, timeout_ms: int) -> int:
        late = self._coordinator._offset_fetch_futures  # an answer that nobody has waited for comes first
        return late.pop(frozenset([tp]), self.stands)  # type: ignore[no-any-return]

    def seek(self, tp: Any, offset: int) -> None:
        self.sought.append(offset)
        self.next = offset

    def position(self, tp: Any, timeout_ms: int) -> int:
        return self.next

    def beginning_offsets(self, partitions: Any, timeout_ms: int) -> dict[Any, int]:
        return dict.fromkeys(partitions, 0)

    def highwater(self, tp: Any) -> int:
        return 10_000

    def end_offsets(self, partitions: Any, timeout_ms: int) -> dict[Any, int]:
        return dict.fromkeys(partitions, 10_000)


@pytest.fixture
def consumer() -> Scripted:
    return Scripted()


def source_of(consumer: Scripted, *, named: bool = False) -> KafkaSource:
    connection = Connection("nowhere:1", 1)
    group = GroupMember(consumer, MINE.topic, connection, named=named)
    return KafkaSource(group, MINE.topic, "earliest", transactional=True, named=named, timing=connection.timing)


@pytest.fixture
def source(consumer: Scripted) -> KafkaSource:
    consumer.stands = 1000
    source = source_of(consumer)
    assert source.poll(1000) == []  # what came before the group was asked where it stands
    assert offsets_of(source.poll(1000)) == range(1000, 2000)
    assert source.lost() == set()
    consumer.stands = 5000
    consumer.sought.clear()
    return source


def offsets_of(batch: Any) -> range:
    offsets = [message.place.offset for message in batch]
    assert offsets == list(range(offsets[0], offsets[-1] + 1))
    return range(offsets[0], offsets[-1] + 1)


@pytest.mark.parametrize("member", [("a", 7), ("a", 8)])
def test_who_has_stayed_goes_on(source: KafkaSource, consumer: Scripted, member: tuple[str, int]) -> None:
    """The same generation, or the next: we were asked, and gave nothing up."""
    consumer.member = member
    assert offsets_of(source.poll(1000)) == range(2000, 3000)
    assert (consumer.sought, source.lost()) == ([], set())


@pytest.mark.parametrize("member", [("b", 8), ("b", 9), ("a", 9)])
def test_who_was_away_goes_on_from_what_is_committed(
    source: KafkaSource, consumer: Scripted, member: tuple[str, int]
) -> None:
    """Another member id: put out and back. Two generations on: what is ours now was perhaps another's in between."""
    consumer.member = member
    consumer._coordinator._offset_fetch_futures[frozenset([MINE])] = 1000
    assert source.poll(1000) == []  # read from a position that is no longer ours
    assert (consumer.sought, source.lost()) == ([5000], {1})
    assert source.offsets().positions == {}
    assert source.partitions == {1}
    assert offsets_of(source.poll(1000)) == range(5000, 6000)
    assert consumer.sought == [5000]  # once


def test_who_is_put_out_answers_nothing_until_it_is_back(source: KafkaSource, consumer: Scripted) -> None:
    consumer.member = ("", -1)
    assert source.poll(1000) == []
    assert source.offsets().positions == {}
    consumer.member = ("b", 9)
    assert source.poll(1000) == []
    assert (consumer.sought[-1], source.lost()) == (5000, {1})


def test_a_partition_begins_where_the_group_stands_whatever_the_client_has_read(consumer: Scripted) -> None:
    consumer._coordinator._offset_fetch_futures[frozenset([MINE])] = 1000  # and so it has read from there
    source = source_of(consumer)
    assert source.poll(1000) == []
    assert source.offsets().positions == {}
    assert offsets_of(source.poll(1000)) == range(5000, 6000)


def test_asking_whether_it_is_fenced_moves_no_offset_back(consumer: Scripted) -> None:
    """The question is a commit of what is committed: by now, and not when it was asked some time ago."""
    committed: list[int] = []
    consumer.commit = lambda offsets, timeout_ms: committed.extend(at.offset for at in offsets.values())  # type: ignore[attr-defined]
    source = source_of(consumer, named=True)
    source.poll(1000)
    committed.clear()
    consumer.stands = 9000
    consumer._coordinator._offset_fetch_futures[frozenset([MINE])] = 5000
    consumer.poll = lambda **_: {}  # type: ignore[method-assign]
    source._look = Deadline(0)
    source.poll(1000)
    assert committed == [9000]


@pytest.mark.kafka
def test_offsets_of_an_aborted_transaction_do_not_come_with_the_next(kafka: Servers, topic: Callable[..., str]) -> None:
    """Another member may have moved on since with these partitions: it must not be moved back."""
    out, group = kafka.create_topic(topic("out")), topic("group")
    theirs, ours = (TopicPartition(kafka.create_topic(topic(name)), 0) for name in ("theirs", "ours"))
    connect = partial(connect_producer, Connection(kafka.bootstrap, 30), [out], topic("id"))
    sink = TransactionalSink(connect(), out, None, out, 30, lambda: False, connect)
    sink.begin()
    sink.add("key", b"one")
    with pytest.raises(AbortedError, match=r"UnknownMember|IllegalGeneration"):
        sink.commit(Offsets({theirs: OffsetAndMetadata(7, "", -1)}, ConsumerGroupMetadata(group, 5, "nobody", None)))
    sink.abort()
    sink.begin()
    sink.add("key", b"two")
    sink.commit(Offsets({ours: OffsetAndMetadata(3, "", -1)}, ConsumerGroupMetadata(group)))
    sink.close()
    settings = {"bootstrap_servers": kafka.bootstrap, "group_id": group, "isolation_level": "read_committed"}
    with KafkaConsumer(**settings) as consumer:
        assert consumer.committed(ours) == 3
        assert consumer.committed(theirs) is None
