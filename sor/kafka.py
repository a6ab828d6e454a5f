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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from sor.config import Connection
from sor.errors import ConnectError, StreamError
from sor.handshake import greet, login_keywords
from sor.market_data.fields import iso_of
from sor.streams import DeadLetter, KafkaPlace, Message, Sink

logger = logging.getLogger(__name__)

POLL_MS = 500  # longest wait for messages, and so for a signal to be seen
COMMIT_MS = 10_000
FLUSH_S = 60.0
PATIENCE_S = 2.0  # after which a silent broker is worth a line
LARGEST_LETTER = 2**20 - 2**13  # bytes: a message of 1 MB and its headers would not fit the brokers' limit
IN_FLIGHT = 10_000  # messages sent and not yet confirmed by ``produce``


@contextlib.contextmanager
def _patience(line: str, seconds: float) -> Iterator[None]:
    """Log ``line`` once where what follows takes long, but not where it is about to fail anyway."""
    timer = threading.Timer(PATIENCE_S, logger.warning, (line,))
    timer.daemon = True
    if seconds > 2 * PATIENCE_S:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _connecting(what: str, connection: Connection) -> Iterator[None]:
    """Says plainly why a client could not be connected."""
    servers, seconds = connection.servers, connection.timeout
    silence = ConnectError(
        f"no Kafka broker answered at {servers} within {seconds:g} s ({what}): "
        "is it running, and is --kafka-servers right?"
    )
    try:
        with _patience(f"no Kafka broker answers at {servers} yet; trying for {seconds:g} s", seconds):
            if not greet(connection):
                raise silence
            yield
    except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError):
        raise silence from None
    except kafka_errors.KafkaError as error:
        raise StreamError(f"{what} at {servers}: {_story(error)}") from None


def _story(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _common(connection: Connection) -> dict[str, Any]:
    return {
        "bootstrap_servers": connection.servers.split(","),
        "bootstrap_timeout_ms": int(connection.timeout * 1000),
        "reconnect_backoff_max_ms": 1_000,  # it grows to 30 s by default: a broker that comes up would be missed
        "allow_auto_create_topics": False,
        **_security(connection),
    }


def _security(connection: Connection) -> dict[str, Any]:
    """The settings of `sor.security` under kafka-python's names."""
    secret = connection.key_password
    return {
        "security_protocol": connection.protocol.upper(),
        "ssl_cafile": connection.ca_file,
        "ssl_certfile": connection.cert_file,
        "ssl_keyfile": connection.key_file,
        "ssl_password": None if secret is None else secret.reveal(),
        **login_keywords(connection),
    }


def connect_consumer(connection: Connection, topic: str, group: str, start: str) -> Any:
    """A group consumer of ``topic``, subscribed; it starts at ``start`` where nothing is committed."""
    with _connecting("consumer", connection):
        consumer = KafkaConsumer(
            group_id=group,
            auto_offset_reset=start,
            enable_auto_commit=False,
            partition_assignment_strategy=(CooperativeStickyAssignor(),),
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            fetch_max_wait_ms=100,  # on an idle topic only: a message ends the wait
            metadata_max_age_ms=5_000,  # a topic made after the start is seen soon
            **_common(connection),
        )
        if topic not in consumer.topics():
            logger.warning("topic %s does not exist at %s: waiting for it", topic, connection.servers)
        consumer.subscribe([topic])
    return consumer


def connect_producer(connection: Connection, topics: Sequence[str]) -> Any:
    """An idempotent producer whose messages all in-sync replicas acknowledge, for topics that exist."""
    with _connecting("producer", connection):
        producer = KafkaProducer(
            acks="all",
            linger_ms=5,
            batch_size=128 * 1024,
            compression_type="lz4",
            max_block_ms=int(max(connection.timeout, 1.0) * 1000),
            **_common(connection),
        )
    where = f"topic {{}} does not exist at {connection.servers}"
    for topic in topics:
        try:
            with _patience(f"{where.format(topic)} yet; waiting for it", connection.timeout):
                producer.partitions_for(topic)
        except kafka_errors.KafkaError:
            producer.close(timeout=0)
            raise StreamError(f"{where.format(topic)}, and nobody made it within {connection.timeout:g} s") from None
    return producer


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
            raise StreamError(f"consuming: {_story(error)}") from None
        if self.consumer.assignment() != self._assigned:
            self._rebalanced(polled)
        if not polled and self._offsets:
            self.commit()  # what an earlier commit left
        self._offsets |= {tp: _next(records[-1].offset + 1) for tp, records in polled.items()}
        return [
            Message(record.value or b"", KafkaPlace(tp.topic, tp.partition, record.offset), record.key)
            for tp, records in polled.items()
            for record in records
        ]

    def _rebalanced(self, polled: dict[Any, Any]) -> None:
        assigned = set(self.consumer.assignment())
        gone, new = self._assigned - assigned, assigned - self._assigned
        self._assigned = assigned
        names = ", ".join(f"{tp.topic}:{tp.partition}" for tp in sorted(assigned)) or "none"
        logger.info("partitions assigned: %s", names)
        if new:
            logger.info("the books of %d new partitions start empty and fill as venues quote", len(new))
        for tp in gone:
            self._offsets.pop(tp, None)
        if gone:
            self._forget({tp.partition for tp in gone})
        self._commit_start(new, polled)

    def _commit_start(self, partitions: set[Any], polled: dict[Any, Any]) -> None:
        """Commit where a partition without a commit starts, so that what arrives while nobody consumes is not lost."""
        try:
            starts = {
                tp: polled[tp][0].offset if tp in polled else self.consumer.position(tp, timeout_ms=COMMIT_MS)
                for tp in partitions
                if self.consumer.committed(tp, timeout_ms=COMMIT_MS) is None
            }
        except kafka_errors.KafkaError as error:
            logger.warning("cannot tell where the group stands: %s", _story(error))
            return
        known = {tp: _next(offset) for tp, offset in starts.items() if offset is not None}
        if known:
            self._commit(known)

    def commit(self) -> None:
        if self._offsets and self._commit(self._offsets):
            self._offsets = {}

    def _commit(self, offsets: dict[Any, Any]) -> bool:
        try:
            self.consumer.commit(offsets, timeout_ms=COMMIT_MS)
        except (kafka_errors.CommitFailedError, kafka_errors.RebalanceInProgressError):
            logger.warning("the group is rebalancing: the last batch may be answered again by another member")
        except kafka_errors.KafkaError as error:
            if not (isinstance(error, kafka_errors.KafkaTimeoutError) or error.retriable):
                raise StreamError(f"committing offsets: {_story(error)}") from None
            logger.warning("offsets not committed yet (%s); trying again", _story(error))
            return False
        return True

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
            "sor.place": letter.where,
            "sor.reason": letter.reason,
            "sor.detail": letter.detail,
            "sor.time": iso_of(time.time_ns()),
            "sor.length": str(len(letter.value)),
        }
        headers = [(name, text.encode(errors="replace")) for name, text in facts.items()]
        self._send(self.letters_topic, letter.value[:LARGEST_LETTER], letter.key, headers)

    def _send(self, topic: str, value: bytes, key: bytes | None, headers: Any = None) -> None:
        try:
            self._pending.append(self.producer.send(topic, value, key=key, headers=headers))
        except kafka_errors.KafkaError as error:
            raise StreamError(f"sending to {topic}: {_story(error)}") from None

    def commit(self) -> None:
        flush(self.producer, self._pending)
        self._pending.clear()

    def abort(self) -> None:
        self._pending.clear()

    def close(self) -> None:
        self.producer.close(timeout=FLUSH_S)


def _next(offset: int) -> Any:
    return OffsetAndMetadata(offset, "", -1)


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
        raise StreamError(f"the brokers did not take a message: {_story(error)}") from None


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
            raise StreamError(f"sending to {self.topic}: {_story(error)}") from None
        self._waiting.append(future)
        if len(self._waiting) >= IN_FLIGHT:
            self._await_oldest()

    def _await_oldest(self) -> None:
        try:
            self._waiting.popleft().get(timeout=FLUSH_S)
        except kafka_errors.KafkaError as error:
            raise StreamError(f"the brokers did not take a message: {_story(error)}") from None
        self.count += 1

    def finish(self) -> None:
        """Wait for what is still in flight."""
        flush(self.producer, [])
        while self._waiting:
            self._await_oldest()


__all__ = [
    "Confirmed",
    "KafkaSink",
    "KafkaSource",
    "connect_consumer",
    "connect_producer",
]
