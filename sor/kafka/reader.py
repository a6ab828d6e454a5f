"""Partitions read apart from any group, over either client: in ranges for recovery, and followed for their books."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from sor.errors import StreamError
from sor.kafka.common import ClientError, Record, await_topic, retried, stream_error
from sor.kafka.security import Connection
from sor.kafka.waiting import Deadline
from sor.stream.messages import BATCH

logger = logging.getLogger(__name__)


class Log(Protocol):
    """A consumer of a client without a group, of committed messages; every call may raise `ClientError`."""

    def assign(self, topic: str, offsets: dict[int, int]) -> None:
        """Read these partitions, and no others, from these offsets."""

    def poll(self, limit: int, wait_s: float) -> tuple[Sequence[Record], dict[int, int]]:
        """Records that come within a time, and by partition the offsets that the brokers have not."""

    def position(self, partition: int) -> int:
        """Offset after all that has been handed out, and what is no message after it."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Offsets of the first record and after the last one, those of open transactions included."""

    def ends(self, topic: str, partitions: set[int], seconds: float) -> dict[int, int]:
        """Offsets after the last records that can be read."""

    def close(self) -> None: ...


class Cluster(Protocol):
    """A client's questions about topics; every call may raise `ClientError`."""

    def replicas(self, topic: str) -> list[int]:
        """How many each partition has; empty where the topic is not there."""

    def create(self, topic: str, partitions: int, replicas: int, settings: dict[str, str]) -> bool:
        """Make a topic and wait until it can be used; False where it is there by now."""

    def identity(self, topic: str) -> str | None:
        """A topic's id; None where there is no such topic, or its brokers give no ids."""

    def close(self) -> None: ...


@contextlib.contextmanager
def _reading(topic: str, partition: int | None = None) -> Iterator[None]:
    where = topic if partition is None else f"{topic}:{partition}"
    try:
        yield
    except ClientError as error:
        raise stream_error(f"reading {where}", error) from None


class KafkaReader:
    """Reads ranges of partitions, apart from any group (see `sor.stream.recovery.Reader`)."""

    def __init__(self, log: Log, cluster: Cluster, connection: Connection) -> None:
        self._log = log
        self._cluster = cluster
        self._timing = connection.timing

    def make_like(self, topic: str, like: str) -> None:
        with _reading(topic):
            wanted = self._told_replicas(like)
            there = self._told_replicas(topic)
            if not there:
                if self._cluster.create(topic, len(wanted), min(wanted), {"cleanup.policy": "compact"}):
                    logger.info("topic %s made: %d partitions, compacted", topic, len(wanted))
            elif len(there) < len(wanted):
                raise StreamError(
                    f"topic {topic} has {len(there)} partitions: {like} has {len(wanted)}, so it needs as many"
                )

    def _told_replicas(self, topic: str) -> list[int]:
        return retried(lambda: self._cluster.replicas(topic), self._timing.recovery)

    def identity(self, topic: str) -> str | None:
        """The topic's id, which no other topic of that name has had or will have; None where it cannot be told."""
        with _reading(topic):
            return retried(lambda: self._cluster.identity(topic), self._timing.recovery)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        with _reading(topic, partition):  # a topic just made, or a broker that has gone, does not answer at once
            return retried(lambda: self._log.bounds(topic, partition), self._timing.recovery)

    def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        if start >= end:
            return
        deadline = Deadline(self._timing.recovery)
        with _reading(topic, partition):
            self._log.assign(topic, {partition: start})
            while (position := self._log.position(partition)) < end:
                polled, missing = self._log.poll(BATCH, self._timing.poll)
                for gone in missing.values():  # taken away since `start` was told
                    first = self._log.bounds(topic, partition)[0]
                    logger.warning("%s:%d: messages %d to %d are gone", topic, partition, gone, first - 1)
                    self._log.assign(topic, {partition: first})
                yield from (record for record in polled if record.offset < end)
                if polled:
                    deadline = Deadline(self._timing.recovery)
                elif deadline.passed and self._log.position(partition) == position:
                    raise StreamError(
                        f"{topic}:{partition} cannot be read from {position} to {end}: nothing for "
                        f"{self._timing.recovery:g} s",
                        retriable=True,
                    )

    def close(self) -> None:
        with contextlib.suppress(ClientError):
            self._log.close()
            self._cluster.close()


class KafkaFeed:
    """Follows partitions of a topic, apart from any group (see `sor.stream.orders.Feed`)."""

    def __init__(self, log: Log, cluster: Cluster, connection: Connection, topic: str) -> None:
        self.topic = topic
        self._log = log
        self._cluster = cluster
        self._connection = connection
        self._next: dict[int, int] = {}  # what comes next, by partition followed
        self._lost: set[int] = set()
        self._identity: str | None = None  # of the topic
        self._look = Deadline(0)

    def check_alike(self, topic: str) -> None:
        """Make sure that ``topic`` has as many partitions as the feed: a symbol is to be in the same one of both.

        Raises
        ------
        StreamError
            It has not, or one of them does not exist in time.
        """
        feed, other = self._count(self.topic), self._count(topic)
        if feed != other:
            raise StreamError(
                f"topic {topic} has {other} partitions and {self.topic} has {feed}: they need as many, so that the "
                "orders of a symbol are in the partition of its market data"
            )

    def _count(self, topic: str) -> int:
        with _reading(topic):
            await_topic(topic, self._connection, lambda: bool(self._cluster.replicas(topic)))
            return len(self._cluster.replicas(topic))

    def follow(self, partition: int, offset: int) -> None:
        self._next[partition] = offset
        self._assign()

    def leave(self, partition: int) -> None:
        self._next.pop(partition, None)
        self._assign()

    def _assign(self) -> None:
        with _reading(self.topic):
            self._log.assign(self.topic, self._next)

    def poll(self, wait_ms: int) -> Sequence[Record]:
        if not self._next:
            return []
        with _reading(self.topic):
            polled, missing = self._log.poll(BATCH, wait_ms / 1e3)
            self._next = {partition: self._log.position(partition) for partition in self._next}
        for partition, offset in missing.items():
            logger.warning("%s:%d has no message %d any more: its books start anew", self.topic, partition, offset)
            self._lost.add(partition)
        if self._look.passed:
            self._look = Deadline(self._connection.timing.look)
            self._look_whether_it_is_another()
        return polled

    def _look_whether_it_is_another(self) -> None:
        try:
            identity = self._cluster.identity(self.topic)
        except ClientError as error:
            logger.debug("cannot tell the id of %s: %s", self.topic, error)
            return
        if None not in (identity, self._identity) and identity != self._identity:
            logger.warning("topic %s was deleted and made again: its books start anew", self.topic)
            self._lost |= self._next.keys()
        self._identity = identity or self._identity

    def lost(self) -> set[int]:
        """Partitions whose next message is gone, since this was last asked: their books have to be made anew."""
        lost, self._lost = self._lost, set()
        return lost

    def position(self, partition: int) -> int:
        return self._next[partition]

    def ends(self, partitions: set[int], seconds: float) -> dict[int, int]:
        deadline = Deadline(seconds)
        try:  # a partition whose broker has just gone is told of by the next one
            return retried(lambda: self._log.ends(self.topic, partitions, deadline.left), seconds)
        except ClientError as error:
            logger.warning("cannot tell where %s ends: %s", self.topic, error)
            return {}

    def close(self) -> None:
        with contextlib.suppress(ClientError):
            self._log.close()
            self._cluster.close()
