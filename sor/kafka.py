"""Kafka as source and sink, on kafka-python; imported only by the commands that need it.

At least once: a batch's results are acknowledged by the brokers before its offsets are committed, so a crash
repeats messages and loses none.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from sor.errors import StreamError
from sor.market_data.fields import iso_of
from sor.streams import DeadLetter, KafkaPlace, Message, Sink

logger = logging.getLogger(__name__)

POLL_MS = 500  # longest wait for messages, and so for a signal to be seen
COMMIT_MS = 10_000
FLUSH_S = 60.0
PATIENCE_S = 2.0  # after which a silent broker is worth a line
LARGEST_LETTER = 900_000  # bytes: a message of 1 MB and its headers would not fit the brokers' limit
IN_FLIGHT = 10_000  # messages sent and not yet confirmed by ``produce``


class ConnectError(StreamError):
    """No broker answered in time."""


@contextlib.contextmanager
def _told(what: str, servers: str, seconds: float) -> Iterator[None]:
    """Says once, where connecting takes long, that it is still tried; then says plainly that it failed."""
    timer = threading.Timer(
        PATIENCE_S, logger.warning, ("no Kafka broker answers at %s yet; trying for %g s", servers, seconds)
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError):
        raise ConnectError(
            f"no Kafka broker answered at {servers} within {seconds:g} s ({what}): "
            "is it running, and is --kafka-servers right?",
            retriable=True,
        ) from None
    except kafka_errors.KafkaError as error:
        raise StreamError(f"{what} at {servers}: {error}") from None
    finally:
        timer.cancel()


def connect_consumer(servers: str, topic: str, group: str, start: str, connect_timeout: float) -> Any:
    """A group consumer of ``topic``, subscribed; it starts at ``start`` where nothing is committed."""
    with _told("consumer", servers, connect_timeout):
        consumer = KafkaConsumer(
            bootstrap_servers=servers.split(","),
            bootstrap_timeout_ms=int(connect_timeout * 1000),
            group_id=group,
            auto_offset_reset=start,
            enable_auto_commit=False,
            partition_assignment_strategy=(CooperativeStickyAssignor(),),
            session_timeout_ms=10_000,
            fetch_max_wait_ms=10,
            metadata_max_age_ms=5_000,  # a topic made after the start is seen soon
            allow_auto_create_topics=False,
        )
        if topic not in consumer.topics():
            logger.warning("topic %s does not exist at %s: waiting for it", topic, servers)
        consumer.subscribe([topic])
    return consumer


def connect_producer(servers: str, connect_timeout: float) -> Any:
    """An idempotent producer whose messages all in-sync replicas acknowledge."""
    with _told("producer", servers, connect_timeout):
        return KafkaProducer(
            bootstrap_servers=servers.split(","),
            bootstrap_timeout_ms=int(connect_timeout * 1000),
            acks="all",
            linger_ms=5,
            batch_size=128 * 1024,
            compression_type="lz4",
            max_block_ms=int(max(connect_timeout, 1.0) * 1000),
        )


class KafkaSource:
    """Messages of a topic's partitions that the group has given to this consumer.

    Parameters
    ----------
    consumer : kafka.KafkaConsumer
    forget : callable
        Called with the partitions taken away, whose state has to go: another member may move on with them.
    """

    def __init__(self, consumer: Any, forget: Callable[[set[int]], None] = lambda partitions: None) -> None:
        self.consumer = consumer
        self._forget = forget
        self._assigned: set[Any] = set()
        self._offsets: dict[Any, Any] = {}

    def poll(self, limit: int) -> list[Message] | None:
        try:
            polled = self.consumer.poll(timeout_ms=POLL_MS, max_records=limit)
        except kafka_errors.KafkaError as error:
            raise StreamError(f"consuming: {type(error).__name__}: {error}") from None
        self._notice_rebalance()
        self._offsets = {
            partition: OffsetAndMetadata(records[-1].offset + 1, "", -1) for partition, records in polled.items()
        }
        return [
            Message(record.value or b"", KafkaPlace(partition.topic, partition.partition, record.offset))
            for partition, records in polled.items()
            for record in records
        ]

    def _notice_rebalance(self) -> None:
        assigned = self.consumer.assignment()
        if assigned == self._assigned:
            return
        gone = self._assigned - assigned
        self._assigned = set(assigned)
        names = ", ".join(f"{tp.topic}:{tp.partition}" for tp in sorted(assigned)) or "none"
        logger.info("partitions assigned: %s", names)
        if gone:
            self._forget({partition.partition for partition in gone})

    def commit(self) -> None:
        if not self._offsets:
            return
        try:
            self.consumer.commit(self._offsets, timeout_ms=COMMIT_MS)
        except (kafka_errors.CommitFailedError, kafka_errors.RebalanceInProgressError):
            logger.warning("the group is rebalancing: the last batch may be answered again by another member")
        except kafka_errors.KafkaTimeoutError:
            logger.warning("offsets were not committed within %g s; the next batch commits them", COMMIT_MS / 1000)
        except kafka_errors.KafkaError as error:
            raise StreamError(f"committing offsets: {type(error).__name__}: {error}") from None

    def close(self) -> None:
        self.consumer.close(autocommit=False, timeout_ms=COMMIT_MS)


class KafkaSink(Sink):
    """Results, dead letters or both to topics, keyed by symbol; ``commit`` waits for every acknowledgement.

    Parameters
    ----------
    producer : kafka.KafkaProducer
    results_topic, letters_topic : str, optional
        None: that kind is not sent.
    """

    def __init__(self, producer: Any, results_topic: str | None, letters_topic: str | None) -> None:
        self.producer = producer
        self.results_topic = results_topic
        self.letters_topic = letters_topic
        self._pending: list[Any] = []

    def add(self, key: str, value: bytes) -> None:
        if self.results_topic is not None:
            self._send(self.results_topic, value, key.encode())

    def reject(self, letter: DeadLetter) -> None:
        if self.letters_topic is None:
            return
        facts = {
            "sor.place": ":".join(str(part) for part in (letter.place.__class__.__name__, *_fields(letter.place))),
            "sor.reason": letter.reason,
            "sor.detail": letter.detail,
            "sor.time": iso_of(time.time_ns()),
            "sor.length": str(len(letter.value)),
        }
        headers = [(name, text.encode(errors="replace")) for name, text in facts.items()]
        self._send(self.letters_topic, letter.value[:LARGEST_LETTER], None, headers)

    def _send(self, topic: str, value: bytes, key: bytes | None, headers: Any = None) -> None:
        try:
            self._pending.append(self.producer.send(topic, value, key=key, headers=headers))
        except kafka_errors.KafkaError as error:
            raise StreamError(f"sending to {topic}: {type(error).__name__}: {error}") from None

    def commit(self) -> None:
        flush(self.producer, self._pending)
        self._pending.clear()

    def abort(self) -> None:
        self._pending.clear()

    def close(self) -> None:
        self.producer.close(timeout=FLUSH_S)


def _fields(place: Any) -> list[Any]:
    return [getattr(place, name) for name in place.__struct_fields__]


def flush(producer: Any, futures: Any) -> None:
    """Wait until every message has been acknowledged.

    Raises
    ------
    StreamError
        One was not, or not in time.
    """
    try:
        producer.flush(timeout=FLUSH_S)
        for future in futures:
            future.get(timeout=0.001)
    except kafka_errors.KafkaError as error:
        raise StreamError(f"the brokers did not take a message: {type(error).__name__}: {error}") from None


class Confirmed:
    """Sends messages and counts those that the brokers have acknowledged, with a bound on those in flight."""

    def __init__(self, producer: Any, topic: str) -> None:
        self.producer = producer
        self.topic = topic
        self.count = 0
        self._waiting: deque[Any] = deque()

    def send(self, key: str, value: bytes, row: int) -> None:
        try:
            future = self.producer.send(self.topic, value, key=key.encode(), headers=[("row", str(row).encode())])
        except kafka_errors.KafkaError as error:
            raise StreamError(f"sending to {self.topic}: {type(error).__name__}: {error}") from None
        self._waiting.append(future)
        if len(self._waiting) >= IN_FLIGHT:
            self._await_oldest()

    def _await_oldest(self) -> None:
        try:
            self._waiting.popleft().get(timeout=FLUSH_S)
        except kafka_errors.KafkaError as error:
            raise StreamError(f"the brokers did not take a message: {type(error).__name__}: {error}") from None
        self.count += 1

    def finish(self) -> None:
        """Wait for what is still in flight."""
        flush(self.producer, [])
        while self._waiting:
            self._await_oldest()


__all__ = [
    "Confirmed",
    "ConnectError",
    "KafkaSink",
    "KafkaSource",
    "connect_consumer",
    "connect_producer",
]
