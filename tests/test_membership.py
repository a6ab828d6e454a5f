"""A member that was away from its group, as kafka-python shows it: what its source goes on from.

The client's part is scripted here, as the case needs a process stopped between two rounds of a rebalance; chaos.py
meets it with a real one (``--kills 0 --pauses 9 --named 1``).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from sor.kafka import KafkaSource

MINE = TopicPartition("input", 1)


class Scripted:
    """Partition 1 of a topic: we have read to 2,000, and the group has committed 5,000."""

    def __init__(self) -> None:
        self.config = {"group_instance_id": None}
        self.member = ("a", 7)
        self.next = 1000
        self.stands = 5000
        self.sought: list[int] = []

    def poll(self, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        records = [SimpleNamespace(offset=self.next + i, value=b"{}", key=b"k", timestamp=0) for i in range(1000)]
        self.next += 1000
        return {MINE: records}

    def group_metadata(self) -> Any:
        return SimpleNamespace(member_id=self.member[0], generation_id=self.member[1])

    def assignment(self) -> set[Any]:
        return {MINE}

    def committed(self, tp: Any, timeout_ms: int) -> int:
        return self.stands

    def seek(self, tp: Any, offset: int) -> None:
        self.sought.append(offset)
        self.next = offset

    def position(self, tp: Any, timeout_ms: int) -> int:
        return self.next

    def highwater(self, tp: Any) -> int:
        return 10_000

    def end_offsets(self, partitions: Any, timeout_ms: int) -> dict[Any, int]:
        return dict.fromkeys(partitions, 10_000)


@pytest.fixture
def consumer() -> Scripted:
    return Scripted()


@pytest.fixture
def forgotten() -> list[set[int]]:
    return []


@pytest.fixture
def source(consumer: Scripted, forgotten: list[set[int]]) -> KafkaSource:
    source = KafkaSource(consumer, forgotten.append, transactional=True)
    assert [message.place.offset for message in source.poll(1000) or ()] == list(range(1000, 2000))  # type: ignore[union-attr]
    return source


@pytest.mark.parametrize("member", [("a", 7), ("a", 8)])
def test_who_has_stayed_goes_on(
    source: KafkaSource, consumer: Scripted, forgotten: list[set[int]], member: tuple[str, int]
) -> None:
    """The same generation, or the next: we were asked, and gave nothing up."""
    consumer.member = member
    batch = source.poll(1000) or []
    assert batch[0].place.offset == 2000  # type: ignore[union-attr]
    assert (consumer.sought, forgotten) == ([], [])


@pytest.mark.parametrize("member", [("b", 8), ("b", 9), ("a", 9)])
def test_who_was_away_goes_on_from_what_is_committed(
    source: KafkaSource, consumer: Scripted, forgotten: list[set[int]], member: tuple[str, int]
) -> None:
    """Another member id: put out and back. Two generations on: what is ours now was perhaps another's in between."""
    consumer.member = member
    assert source.poll(1000) == []  # read from a position that is no longer ours
    assert (consumer.sought, forgotten) == ([5000], [{1}])
    assert source.offsets().positions == {}
    assert source.partitions == {1}
    batch = source.poll(1000) or []
    assert batch[0].place.offset == 5000  # type: ignore[union-attr]
    assert consumer.sought == [5000]  # once


def test_who_is_put_out_answers_nothing_until_it_is_back(
    source: KafkaSource, consumer: Scripted, forgotten: list[set[int]]
) -> None:
    consumer.member = ("", -1)
    assert source.poll(1000) == []
    assert source.offsets().positions == {}
    consumer.member = ("b", 9)
    assert source.poll(1000) == []
    assert (consumer.sought[-1], forgotten) == (5000, [{1}])
