"""Kafka as source and sink, on kafka-python; imported only by the commands that need it.

Exactly once: a batch's results, dead letters, books and offsets are one transaction, and the offsets go with the
group's generation of when the batch was polled, so that who has lost its partitions cannot commit.
At least once: a batch's results are acknowledged by the brokers before its offsets are committed, so a crash
repeats messages and loses none.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from sor.config import Connection
from sor.errors import AbortedError, StreamError
from sor.kafka_common import (
    BATCH_BYTES,
    COMMIT_MS,
    FENCED_S,
    FETCH_MS,
    FLUSH_S,
    HEARTBEAT_MS,
    LINGER_MS,
    METADATA_MS,
    POLL_MS,
    RECONNECT_MS,
    RECOVERY_S,
    SESSION_MS,
    TRANSACTION_MS,
    Identity,
    Offsets,
    TopicSink,
    awaiting_brokers,
    fenced,
    no_broker,
    patience,
    watched,
)
from sor.streams import BATCH, KafkaPlace, Message

logger = logging.getLogger(__name__)

IN_FLIGHT = 10_000  # messages sent and not yet confirmed by ``produce``


@contextlib.contextmanager
def _connecting(what: str, connection: Connection) -> Iterator[None]:
    """Says plainly why a client could not be connected."""
    try:
        with awaiting_brokers(connection):
            yield
    except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError):
        raise no_broker(what, connection) from None
    except kafka_errors.KafkaError as error:
        raise StreamError(f"{what} at {connection.servers}: {_story(error)}") from None


def _story(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _common(connection: Connection, admin: bool = False) -> dict[str, Any]:
    common = {
        "bootstrap_servers": connection.servers.split(","),
        "bootstrap_timeout_ms": int(connection.timeout * 1000),
        "reconnect_backoff_max_ms": RECONNECT_MS,
    }
    return common if admin else common | {"allow_auto_create_topics": False}


def connect_consumer(
    connection: Connection, topic: str, identity: Identity, start: str, transactional: bool = False
) -> Any:
    """A group consumer of ``topic``, subscribed; it starts at ``start`` where nothing is committed."""
    with _connecting("consumer", connection):
        consumer = KafkaConsumer(
            group_id=identity.group,
            group_instance_id=identity.member,
            auto_offset_reset=start,
            enable_auto_commit=False,
            isolation_level="read_committed" if transactional else "read_uncommitted",
            partition_assignment_strategy=(CooperativeStickyAssignor(),),
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            fetch_max_wait_ms=FETCH_MS,
            metadata_max_age_ms=METADATA_MS,
            **_common(connection),
        )
        if topic not in consumer.topics():
            logger.warning("topic %s does not exist at %s: waiting for it", topic, connection.servers)
        consumer.subscribe([topic])
    return consumer


def connect_producer(connection: Connection, topics: Sequence[str], transactional_id: str | None = None) -> Any:
    """An idempotent producer whose messages all in-sync replicas acknowledge, for topics that exist."""
    transactions = {
        "transactional_id": transactional_id,
        "transaction_timeout_ms": TRANSACTION_MS,
        "retry_backoff_ms": 2,  # what a transaction waits where the brokers are not yet done with the one before
    }
    with _connecting("producer", connection):
        producer = KafkaProducer(
            **(transactions if transactional_id is not None else {}),
            acks="all",
            linger_ms=LINGER_MS,
            batch_size=BATCH_BYTES,
            compression_type="lz4",
            max_block_ms=int(max(connection.timeout, 1.0) * 1000),
            **_common(connection),
        )
    where = f"topic {{}} does not exist at {connection.servers}"
    for topic in topics:
        try:
            with patience(f"{where.format(topic)} yet; waiting for it", connection.timeout):
                producer.partitions_for(topic)
        except kafka_errors.KafkaError:
            producer.close(timeout=0)
            raise StreamError(f"{where.format(topic)}, and nobody made it within {connection.timeout:g} s") from None
    if transactional_id is not None:
        with _connecting("transactions", connection):
            producer.init_transactions()
    return producer


class KafkaReader:
    """Reads ranges of partitions, apart from any group (see `sor.state.Reader`)."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        with _connecting("reader", connection):
            self._consumer = KafkaConsumer(
                group_id=None,
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_max_wait_ms=FETCH_MS,
                **_common(connection),
            )
            self._last = KafkaConsumer(  # sees where a log ends beyond open transactions
                group_id=None, enable_auto_commit=False, isolation_level="read_uncommitted", **_common(connection)
            )

    def make_like(self, topic: str, like: str) -> None:
        connection = self.connection
        with (
            _connecting("admin client", connection),
            contextlib.closing(KafkaAdminClient(**_common(connection, admin=True))) as admin,
        ):
            found = {one["name"]: one["partitions"] for one in admin.describe_topics([like, topic])}
            wanted, there = found.get(like, []), found.get(topic, [])
            if not there:
                replicas = min(len(partition["replica_nodes"]) for partition in wanted)
                settings = {"cleanup.policy": "compact"}
                new = {"num_partitions": len(wanted), "replication_factor": replicas, "configs": settings}
                with contextlib.suppress(kafka_errors.TopicAlreadyExistsError):  # another member was faster
                    admin.create_topics({topic: new}, wait_for_metadata=True)
                    logger.info("topic %s made: %d partitions, compacted", topic, len(wanted))
            elif len(there) < len(wanted):
                raise StreamError(
                    f"topic {topic} has {len(there)} partitions: {like} has {len(wanted)}, so it needs as many"
                )

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        place = TopicPartition(topic, partition)
        with _reading(topic, partition):
            first = self._last.beginning_offsets([place])[place]
            return first, self._last.end_offsets([place])[place]

    def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
        place = TopicPartition(topic, partition)
        deadline = time.monotonic() + RECOVERY_S
        with _reading(topic, partition):
            self._consumer.assign([place])
            self._consumer.seek(place, start)
            while (position := self._consumer.position(place)) is not None and position < end:
                polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=BATCH).get(place, ())
                yield from (record for record in polled if record.offset < end)
                if polled:
                    deadline = time.monotonic() + RECOVERY_S
                elif time.monotonic() > deadline:
                    raise StreamError(
                        f"{topic}:{partition} cannot be read from {position} to {end}: nothing for {RECOVERY_S:g} s"
                    )

    def close(self) -> None:
        self._consumer.close()
        self._last.close()


@contextlib.contextmanager
def _reading(topic: str, partition: int) -> Iterator[None]:
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise StreamError(f"reading {topic}:{partition}: {_story(error)}") from None


def open_source(
    connection: Connection,
    topic: str,
    identity: Identity,
    start: str,
    forget: Callable[[set[int]], None],
    *,
    transactional: bool,
) -> KafkaSource:
    """The source of a group's member; it starts at ``start`` where nothing is committed."""
    consumer = connect_consumer(connection, topic, identity, start, transactional)
    return KafkaSource(consumer, forget, transactional=transactional)


class KafkaSource:
    """Messages of a topic's partitions that the group has given to this consumer.

    Parameters
    ----------
    consumer : kafka.KafkaConsumer
    forget : callable
        Called with the partitions taken away, whose state has to go: another member may move on with them.
    transactional : bool
        The offsets are committed by the sink, with the results.
    """

    def __init__(
        self,
        consumer: Any,
        forget: Callable[[set[int]], None] = lambda partitions: None,
        *,
        transactional: bool = False,
    ) -> None:
        self.consumer = consumer
        self.rebalances = 0
        self.lags: dict[tuple[str, int], int] = {}
        self._forget = forget
        self._transactional = transactional
        self._assigned: set[Any] = set()
        self._offsets: dict[Any, Any] = {}  # to commit
        self._starts: dict[Any, int] = {}  # of the last batch
        self._generation: Any = None

    @property
    def assigned(self) -> int:
        """Number of partitions."""
        return len(self._assigned)

    def poll(self, limit: int) -> list[Message] | None:
        try:
            polled = self.consumer.poll(timeout_ms=POLL_MS, max_records=limit)
            # In this order: who has been given a newer generation than these records were polled in has, by then,
            # also let go of the partitions that it lost.
            self._generation = self.consumer.group_metadata()
            assigned = set(self.consumer.assignment())
        except kafka_errors.FencedInstanceIdError:
            raise fenced() from None
        except kafka_errors.KafkaError as error:
            raise StreamError(f"consuming: {_story(error)}") from None
        if assigned != self._assigned:
            self._rebalanced(assigned, polled)
        polled = {tp: records for tp, records in polled.items() if tp in assigned}
        if polled and self._transactional and self._generation.generation_id < 0:
            # Put out of the group. The brokers do not check offsets that come without a generation.
            self._starts = {tp: records[0].offset for tp, records in polled.items()}
            self.rewind()
            return []
        if not polled and self._offsets:
            self.commit()  # what an earlier commit left
        self._starts = {tp: records[0].offset for tp, records in polled.items()}
        self._offsets |= {tp: _next(records[-1].offset + 1) for tp, records in polled.items()}
        return [message for tp, records in polled.items() for message in self._messages(tp, records)]

    def _messages(self, tp: Any, records: Sequence[Any]) -> Iterator[Message]:
        end = self.consumer.highwater(tp) or records[-1].offset + 1
        self.lags[tp.topic, tp.partition] = max(0, end - 1 - records[-1].offset)
        for record in records:
            place = KafkaPlace(tp.topic, tp.partition, record.offset)
            lag = max(0, end - 1 - record.offset)
            yield Message(record.value or b"", place, record.key, tp.partition, record.timestamp, lag)

    def is_fenced(self) -> bool:
        """Whether another process has joined the group with this one's instance id."""
        deadline = time.monotonic() + FENCED_S
        try:
            while time.monotonic() < deadline:
                self.consumer.poll(timeout_ms=POLL_MS, max_records=1)
        except kafka_errors.FencedInstanceIdError:
            return True
        except kafka_errors.KafkaError:
            return False
        return False

    def offsets(self) -> Offsets:
        return Offsets(self._offsets, self._generation)

    def rewind(self) -> None:
        held = self.consumer.assignment()
        for tp, offset in self._starts.items():
            if tp in held:
                self.consumer.seek(tp, offset)
        self._offsets, self._starts = {}, {}

    def _rebalanced(self, assigned: set[Any], polled: dict[Any, Any]) -> None:
        self.rebalances += 1
        gone, new = self._assigned - assigned, assigned - self._assigned
        self._assigned = assigned
        names = ", ".join(f"{tp.topic}:{tp.partition}" for tp in sorted(assigned)) or "none"
        logger.info("partitions assigned: %s", names)
        for tp in gone:
            self._offsets.pop(tp, None)
            self.lags.pop((tp.topic, tp.partition), None)
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
        if self._transactional or (self._offsets and self._commit(self._offsets)):
            self._offsets = {}

    def _commit(self, offsets: dict[Any, Any]) -> bool:
        try:
            self.consumer.commit(offsets, timeout_ms=COMMIT_MS)
        except kafka_errors.FencedInstanceIdError:
            raise fenced() from None
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


class KafkaSink(TopicSink):
    """Results, dead letters or both to topics; ``commit`` waits for every acknowledgement.

    Parameters
    ----------
    producer : kafka.KafkaProducer
    results_topic, letters_topic : str, optional
        None: that kind is not sent.
    """

    def __init__(self, producer: Any, results_topic: str | None, letters_topic: str | None) -> None:
        super().__init__(results_topic, letters_topic)
        self.producer = producer
        self._pending: list[Any] = []

    def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: Any = None, partition: int | None = None
    ) -> None:
        try:
            self._pending.append(self.producer.send(topic, value, key=key, headers=headers, partition=partition))
        except kafka_errors.KafkaError as error:
            raise StreamError(f"sending to {topic}: {_story(error)}") from None

    def commit(self, offsets: Any = None) -> None:
        flush(self.producer, self._pending)
        self._pending.clear()

    def abort(self) -> None:
        self._pending.clear()

    def close(self) -> None:
        self.producer.close(timeout=FLUSH_S)


class TransactionalSink(KafkaSink):
    """As `KafkaSink`, with a batch's messages, the quotes to remember and the offsets in one transaction.

    Parameters
    ----------
    memory_topic : str
        Takes the last quotes, in the partition of their input.
    commit_timeout : float
        Seconds that the brokers have to begin, commit or abort a transaction: the client would wait for ever, so the
        process ends itself, and its successor goes on from the last commit.
    fenced : callable
        Whether another process has taken this one's place, where a producer is no longer welcome.
    """

    remembers = True

    def __init__(
        self,
        producer: Any,
        results_topic: str | None,
        letters_topic: str | None,
        memory_topic: str,
        commit_timeout: float,
        fenced: Callable[[], bool],
    ) -> None:
        super().__init__(producer, results_topic, letters_topic)
        self.memory_topic = memory_topic
        self.committed = self.aborted = 0  # transactions
        self._timeout = commit_timeout
        self._fenced = fenced

    def begin(self) -> None:
        with self._transaction("beginning"):
            self.producer.begin_transaction()

    def remember(self, partition: int, key: bytes, value: bytes) -> None:
        self._send(self.memory_topic, value, key, partition=partition)

    def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: Any = None, partition: int | None = None
    ) -> None:
        with self._transaction("sending within"):
            self.producer.send(topic, value, key=key, headers=headers, partition=partition)

    def commit(self, offsets: Any = None) -> None:
        with self._transaction("committing"):
            self.producer.send_offsets_to_transaction(offsets.positions, offsets.generation)
            self.producer.commit_transaction()
        self.committed += 1

    def abort(self) -> None:
        self.aborted += 1
        with self._transaction("aborting"):
            self.producer.abort_transaction()

    @contextlib.contextmanager
    def _transaction(self, doing: str) -> Iterator[None]:
        what = f"{doing} a transaction"
        try:
            with watched(what, self._timeout) if doing != "sending within" else contextlib.nullcontext():
                yield
        except (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError) as error:
            if self._fenced():
                raise fenced() from None
            raise StreamError(f"{what}: it took too long, and the brokers have ended it ({_story(error)})") from None
        except kafka_errors.KafkaError as error:
            if doing == "aborting" or self.producer._transaction_manager.has_fatal_error():
                raise StreamError(f"{what}: {_story(error)}") from None
            raise AbortedError(f"{what}: {_story(error)}") from None


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
    "FLUSH_S",
    "Confirmed",
    "Identity",
    "KafkaReader",
    "KafkaSink",
    "KafkaSource",
    "TransactionalSink",
    "connect_consumer",
    "connect_producer",
    "open_source",
]
