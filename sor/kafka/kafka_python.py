"""kafka-python behind `Port`, `Group`, `Log` and `Cluster`; imported only by the commands that need it.

Its threads run beside ours: a rebalance may come at any time, so the source is told of it by comparing what is
assigned before and after a poll.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.partitioner import murmur2

from sor.errors import RefusedError, StreamError
from sor.kafka import private
from sor.kafka.common import (
    BATCH_BYTES,
    FETCH_MS,
    LARGEST_REQUEST,
    LINGER_MS,
    RECONNECT_MS,
    ClientError,
    Identity,
    Kind,
    Offsets,
    Record,
    await_topic,
    awaiting_brokers,
    no_broker,
    other_assignors,
)
from sor.kafka.handshake import greet, login_keywords
from sor.kafka.reader import KafkaFeed, KafkaReader
from sor.kafka.security import Connection
from sor.kafka.sinks import Headers, KafkaSink, TransactionalSink
from sor.kafka.source import KafkaSource, Polled
from sor.stream.messages import KafkaPlace, Message

logger = logging.getLogger(__name__)

REFUSED = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidRecordError,
    kafka_errors.InvalidTimestampError,
    kafka_errors.InvalidTopicError,
    kafka_errors.PolicyViolationError,
    kafka_errors.UnsupportedCompressionTypeError,
    kafka_errors.UnsupportedCodecError,
    kafka_errors.UnsupportedForMessageFormatError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailedError,
)
REBALANCED = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


# --- errors ----------------------------------------------------------------------------------------------------------


def _story(error: Exception) -> str:
    told = str(error)
    name = type(error).__name__
    return told if told.startswith(name) else f"{name}: {told}"


def _client_error(error: Exception) -> ClientError:
    if isinstance(error, kafka_errors.FencedInstanceIdError):
        return ClientError(Kind.FENCED, _story(error))
    if isinstance(error, REBALANCED):
        return ClientError(Kind.REBALANCED, _story(error))
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        return ClientError(Kind.REFUSED, f"{_story(error)}: pip install 'kafka-python[lz4,snappy,zstd]'")
    if isinstance(error, REFUSED):
        return ClientError(Kind.REFUSED, _story(error))
    if isinstance(error, kafka_errors.InconsistentGroupProtocolError):
        return ClientError(Kind.FATAL, other_assignors(_story(error)))
    again = isinstance(error, kafka_errors.KafkaTimeoutError) or getattr(error, "retriable", False)
    return ClientError(Kind.RETRIABLE if again else Kind.FATAL, _story(error))


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Says what an error of the client comes to."""
    try:
        yield
    except (kafka_errors.KafkaError, OSError) as error:
        raise _client_error(error) from None


# --- connecting ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connecting(what: str, connection: Connection) -> Iterator[None]:
    """Says plainly why a client could not be connected."""
    try:
        with awaiting_brokers(connection):
            if not greet(connection):
                raise no_broker(what, connection)
            yield
    except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError):
        raise no_broker(what, connection) from None
    except kafka_errors.KafkaError as error:
        kind = RefusedError if isinstance(error, REFUSED) else StreamError
        raise kind(f"{what} at {connection.servers}: {_story(error)}") from None


def settings_of(connection: Connection) -> dict[str, Any]:
    """What every client is told of the brokers."""
    secret = connection.key_password
    return {
        "bootstrap_servers": connection.servers.split(","),
        "bootstrap_timeout_ms": int(connection.timeout * 1000),
        "reconnect_backoff_max_ms": RECONNECT_MS,
        "security_protocol": connection.protocol.upper(),
        "ssl_cafile": connection.ca_file,
        "ssl_certfile": connection.cert_file,
        "ssl_keyfile": connection.key_file,
        "ssl_password": None if secret is None else secret.reveal(),
        **login_keywords(connection),
    }


def connect_admin(connection: Connection, kind: Any = KafkaAdminClient) -> Any:
    """A client for questions about the cluster."""
    with connecting("admin", connection):
        return kind(**settings_of(connection))


def connect_consumer(connection: Connection, what: str, **more: Any) -> Any:
    """A consumer of committed messages; without more, apart from any group."""
    own: dict[str, Any] = {
        "group_id": None,
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "auto_offset_reset": "none",  # where to go on is ours to say
        "allow_auto_create_topics": False,
        "fetch_max_wait_ms": FETCH_MS,
        "metadata_max_age_ms": _ms(connection.timing.metadata),
    }
    with connecting(what, connection):
        return KafkaConsumer(**settings_of(connection), **(own | more))


def new_producer(connection: Connection, topics: Sequence[str], limits: dict[str, int], **more: Any) -> Any:
    """An idempotent producer whose messages all in-sync replicas acknowledge, for topics that exist.

    A batch is never larger than what its topic takes: the client would split it where the brokers refuse it, and number
    the parts like messages that are on their way already.
    """
    with connecting("producer", connection):
        producer = KafkaProducer(
            **settings_of(connection),
            acks="all",
            enable_idempotence=True,  # the default, but one that gives way in silence to settings in its way
            allow_auto_create_topics=False,
            linger_ms=LINGER_MS,
            batch_size=min([BATCH_BYTES, *limits.values()]),
            max_request_size=LARGEST_REQUEST,
            compression_type="lz4",
            max_block_ms=_ms(max(connection.timeout, 1.0)),
            **more,
        )
    try:
        for topic in topics:
            await_topic(topic, connection, functools.partial(_has, producer, topic))
    except StreamError:
        producer.close(timeout=0)
        raise
    return producer


def _has(producer: Any, topic: str) -> bool:
    with contextlib.suppress(kafka_errors.KafkaError):
        return bool(producer.partitions_for(topic))
    return False


def limits_of(connection: Connection, topics: Sequence[str]) -> dict[str, int]:
    """Bytes that a message may have, of the topics that tell: it takes a right to know."""
    admin = connect_admin(connection)
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": None}) for topic in topics]
    try:
        found = admin.describe_configs(asked, config_filter="all").get("topic", {})
        return {topic: int(told["max.message.bytes"]["value"]) for topic, told in found.items()}
    except (kafka_errors.KafkaError, KeyError, TypeError, ValueError) as error:
        logger.debug("the topics do not tell how large a message may be: %s", error)
        return {}
    finally:
        admin.close()


def _ms(seconds: float) -> int:
    return math.ceil(1e3 * seconds)


# --- sinks -----------------------------------------------------------------------------------------------------------


def connect_producer(
    connection: Connection, topics: Sequence[str], transactional_id: str | None = None
) -> ProducerPort:
    """The producer of a sink to these topics; with an id, its transactions end those of who had it before."""
    limits = limits_of(connection, topics)
    if transactional_id is None:
        return ProducerPort(new_producer(connection, topics, limits), limits, connection)
    producer = new_producer(
        connection,
        topics,
        limits,
        transactional_id=transactional_id,
        transaction_timeout_ms=_ms(connection.timing.transaction),
        retry_backoff_ms=2,  # what a transaction waits where the brokers are not yet done with the one before
    )
    private.without_new_epochs(producer)
    with connecting("transactions", connection):
        producer.init_transactions()
    return ProducerPort(producer, limits, connection)


class ProducerPort:
    """See `sor.kafka.sinks.Port`.

    Messages are sent all at once where a batch is committed: the client's own thread would take its turns between two
    of them, and send a few at a time.
    """

    def __init__(self, producer: Any, limits: dict[str, int], connection: Connection) -> None:
        self.producer = producer
        self.limits = limits
        self._transactional = producer.config["transactional_id"] is not None
        self._seconds = connection.timing.flush
        self._queue: list[tuple[str, bytes | None, bytes | None, Headers | None, int | None]] = []
        self._sent: list[Any] = []
        self._counts: dict[str, int] = {}  # of partitions, by topic

    def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers | None, partition: int | None
    ) -> None:
        self._queue.append((topic, value, key, headers, partition))

    def _send_all(self) -> None:
        queue, self._queue = self._queue, []
        self._counts = {}  # a topic may have got more
        self._sent = [
            self.producer.send(
                topic, value, key, headers, self._partition(topic, key) if partition is None else partition
            )
            for topic, value, key, headers, partition in queue
        ]

    def _partition(self, topic: str, key: bytes | None) -> int | None:
        """Where the client would put the key; it takes longer to find that out, message by message."""
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = len(self.producer.partitions_for(topic))
        return None if key is None else partition_of(key, count)

    def flush(self) -> None:
        with self._translated():
            self._send_all()
            flush(self.producer, self._sent, self._seconds)

    def begin(self) -> None:
        self._queue, self._sent = [], []
        private.forget_offsets(self.producer)
        with self._translated():
            self.producer.begin_transaction()

    def commit(self, offsets: Offsets) -> None:
        with self._translated():
            self._send_all()
            private.send_offsets(self.producer, offsets.positions, offsets.generation)
            # It would wait for these too, but for ever where the brokers refuse one while it does.
            flush(self.producer, self._sent, self._seconds)
            self.producer.commit_transaction()

    def abort(self) -> None:
        with self._translated():
            self.producer.abort_transaction()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """As `translated`, with the reason in place of what follows from it."""
        try:
            yield
        except (kafka_errors.KafkaError, OSError) as error:
            if not self._transactional:
                raise _client_error(error) from None
            if private.is_dead(self.producer):
                raise ClientError(Kind.DEAD, _story(error)) from None
            raise _client_error(private.cause_of(self.producer) or self._first_failure() or error) from None

    def _first_failure(self) -> Exception | None:
        return next((future.exception for future in self._sent if future.failed()), None)

    def discard(self) -> None:
        private.drop_messages(self.producer)
        with translated():
            self.producer.close(timeout=1)

    def close(self) -> None:
        with translated():
            self.producer.close(timeout=self._seconds)


def flush(producer: Any, futures: Sequence[Any], seconds: float) -> None:
    """Wait until every message has been acknowledged; a `KafkaError` where one was not, or not in time."""
    with contextlib.suppress(kafka_errors.UnknownError):  # of a batch that was split: its messages are waited for below
        producer.flush(timeout=seconds)
    for future in futures:
        if not future.succeeded():
            future.get(timeout=seconds)


@functools.lru_cache(maxsize=100_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Where a message with this key goes: what kafka-python and the Java client do by default."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


# --- source ----------------------------------------------------------------------------------------------------------


def open_source(
    connection: Connection, topic: str, identity: Identity, start: str, *, transactional: bool
) -> KafkaSource:
    """The source of a group's member; it starts at ``start`` where nothing is committed."""
    timing = connection.timing
    consumer = connect_consumer(
        connection,
        "consumer",
        group_id=identity.group,
        group_instance_id=identity.member,
        partition_assignment_strategy=(CooperativeStickyAssignor(),),
        session_timeout_ms=_ms(timing.session),
        heartbeat_interval_ms=_ms(timing.heartbeat),
        max_poll_interval_ms=_ms(timing.between_polls),
    )
    with connecting("consumer", connection):
        if topic not in consumer.topics():
            logger.warning("topic %s does not exist at %s: waiting for it", topic, connection.servers)
        consumer.subscribe([topic])
    named = identity.member is not None
    group = GroupMember(consumer, topic, connection, named=named)
    return KafkaSource(group, topic, start, transactional=transactional, named=named, timing=timing)


class GroupMember:
    """See `sor.kafka.source.Group`."""

    def __init__(self, consumer: Any, topic: str, connection: Connection, *, named: bool = False) -> None:
        self.consumer = consumer
        self.topic = topic
        self._timing = connection.timing
        self._wait_ms = _ms(connection.timing.commit)
        self._assigned: set[int] = set()
        self._who: tuple[str, int] | None = None  # we were in the group, and in which generation
        self._returning = named  # perhaps: the group may know it from before

    def _place(self, partition: int) -> Any:
        return TopicPartition(self.topic, partition)

    def poll(self, limit: int, wait_s: float) -> Polled:
        found, missing = {}, set()
        with translated():
            try:
                found = self.consumer.poll(timeout_ms=_ms(wait_s), max_records=limit)
            except kafka_errors.NoOffsetForPartitionError:
                pass  # of a partition that is new, and is started below
            except (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError) as error:
                missing = {place.partition for place in error.args[0]}
            # In this order: who has been given a newer generation than these records were polled in has, by then,
            # also let go of the partitions that it lost.
            generation = self.consumer.group_metadata()
            assigned = {place.partition for place in self.consumer.assignment()}
        if self._returning and generation.generation_id >= 0:
            self._returning = False
            # A named member that comes back gets its last assignment, without a rebalance. Were all killed between the
            # two rounds of a cooperative one, the partitions given up in the first would be nobody's for ever. Where
            # all is well it moves nothing.
            private.join_again(self.consumer)
        before, self._assigned = self._assigned, assigned
        gone, new = before - assigned, assigned - before
        if self._was_away(generation):
            logger.info("came back to the group: going on from what it has committed")
            gone, new = before, assigned
        records = {place.partition: some for place, some in found.items()}
        return Polled(
            {partition: some for partition, some in records.items() if partition in assigned - new},
            generation,
            generation.generation_id >= 0,
            gone,
            new,
            missing & (assigned - new),
        )

    def _was_away(self, generation: Any) -> bool:
        """Whether others may have answered for our partitions since the last poll, although they are ours again.

        The client keeps the positions of a member that is put out of the group while it joins again, and between two
        polls a partition can be given away and come back.
        """
        member, number = generation.member_id, generation.generation_id
        if number < 0:
            return False
        last, self._who = self._who, (member, number)
        return last is not None and (last[0] != member or number > last[1] + 1)

    def messages(self, partition: int, records: list[Any]) -> list[Message]:
        topic = self.topic
        behind = (self.consumer.highwater(self._place(partition)) or records[-1].offset + 1) - 1
        return [
            Message(
                record.value or b"",
                KafkaPlace(topic, partition, record.offset),
                record.key,
                partition,
                record.timestamp,
                max(0, behind - record.offset),
            )
            for record in records
        ]

    def start(self, offsets: dict[int, int]) -> None:
        for partition, offset in offsets.items():
            self.seek(partition, offset)

    def seek(self, partition: int, offset: int) -> None:
        place = self._place(partition)
        if place in self.consumer.assignment():  # which the client's thread may have changed
            with contextlib.suppress(kafka_errors.IllegalStateError, AssertionError):
                self.consumer.seek(place, offset)

    def committed(self, partitions: set[int]) -> dict[int, int]:
        found = {}
        with translated():
            for partition in partitions:
                private.forget_answers(self.consumer)
                at = self.consumer.committed(self._place(partition), timeout_ms=self._wait_ms)
                if at is not None:
                    found[partition] = at
        return found

    def commit(self, offsets: dict[int, int]) -> None:
        with translated():
            self.consumer.commit(self.positions(offsets), timeout_ms=self._wait_ms)

    def positions(self, offsets: dict[int, int]) -> Any:
        return {self._place(partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}

    def bounds(self, partition: int) -> tuple[int, int]:
        return _bounds(self.consumer, self._place(partition), self._wait_ms)

    def ends(self, partitions: set[int]) -> dict[int, int]:
        places = [self._place(partition) for partition in partitions]
        with translated():
            ends = self.consumer.end_offsets(places, timeout_ms=_ms(self._timing.poll)) if places else {}
        return {place.partition: end for place, end in ends.items()}

    def identity(self, *, fresh: bool = False) -> str | None:
        return private.topic_id(self.consumer, self.topic)

    def check_fenced(self, partitions: set[int]) -> None:
        """A fenced member is told so only where it commits, so commit once more what is committed."""
        self.commit(self.committed(set(sorted(partitions)[:1])))

    def close(self) -> None:
        with translated():
            self.consumer.close(autocommit=False, timeout_ms=self._wait_ms)


def _bounds(consumer: Any, place: Any, timeout_ms: int) -> tuple[int, int]:
    with translated():
        first = consumer.beginning_offsets([place], timeout_ms=timeout_ms)[place]
        return first, consumer.end_offsets([place], timeout_ms=timeout_ms)[place]


# --- apart from a group ----------------------------------------------------------------------------------------------


def open_reader(connection: Connection) -> KafkaReader:
    return KafkaReader(PartitionLog(connection, "reader"), TopicCluster(connection), connection)


def open_feed(connection: Connection, topic: str) -> KafkaFeed:
    return KafkaFeed(PartitionLog(connection, "market data"), TopicCluster(connection), connection, topic)


class PartitionLog:
    """See `sor.kafka.reader.Log`."""

    def __init__(self, connection: Connection, what: str) -> None:
        self._connection = connection
        self._wait_ms = _ms(connection.timing.commit)
        self._consumer = connect_consumer(connection, what)
        self._positions: dict[Any, int] = {}
        self._last: Any = None  # a consumer that sees where a log ends beyond open transactions

    def assign(self, topic: str, offsets: dict[int, int]) -> None:
        self._positions = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        with translated():
            self._consumer.assign(list(self._positions))
            for place, offset in self._positions.items():
                self._consumer.seek(place, offset)

    def poll(self, limit: int, wait_s: float) -> tuple[list[Record], dict[int, int]]:
        with translated():
            try:
                polled = self._consumer.poll(timeout_ms=_ms(wait_s), max_records=limit)
            except (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError) as error:
                return [], {place.partition: self._positions[place] for place in error.args[0]}
            for place, last in self._positions.items():
                position = self._consumer.position(place, timeout_ms=self._wait_ms)
                self._positions[place] = last if position is None else position
        return [
            Record(place.partition, record.offset, record.key, record.value)
            for place, records in polled.items()
            for record in records
        ], {}

    def position(self, partition: int) -> int:
        return next(offset for place, offset in self._positions.items() if place.partition == partition)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        if self._last is None:
            self._last = connect_consumer(self._connection, "reader", isolation_level="read_uncommitted")
        return _bounds(self._last, TopicPartition(topic, partition), self._wait_ms)

    def ends(self, topic: str, partitions: set[int], seconds: float) -> dict[int, int]:
        places = [TopicPartition(topic, partition) for partition in partitions]
        with translated():
            ends = self._consumer.end_offsets(places, timeout_ms=_ms(seconds))
        return {place.partition: end for place, end in ends.items()}

    def close(self) -> None:
        with translated():
            self._consumer.close()
            if self._last is not None:
                self._last.close()


class TopicCluster:
    """See `sor.kafka.reader.Cluster`; it connects when it is first asked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client: Any = None

    @property
    def _admin(self) -> Any:
        if self._client is None:
            self._client = connect_admin(self._connection)
        return self._client

    def _about(self, topic: str) -> Any:
        with translated():
            (about,) = self._admin.describe_topics([topic])
        error = kafka_errors.for_code(about["error_code"])
        if error is kafka_errors.UnknownTopicOrPartitionError:
            return {"partitions": [], "topic_id": None}
        if error is not kafka_errors.NoError:
            raise _client_error(error())
        return about

    def replicas(self, topic: str) -> list[int]:
        return [len(partition["replica_nodes"]) for partition in self._about(topic)["partitions"]]

    def create(self, topic: str, partitions: int, replicas: int, settings: dict[str, str]) -> bool:
        new = {"num_partitions": partitions, "replication_factor": replicas, "configs": settings}
        with translated():
            try:
                self._admin.create_topics({topic: new}, wait_for_metadata=True)
            except kafka_errors.TopicAlreadyExistsError:  # another member was faster
                return False
        return True

    def identity(self, topic: str) -> str | None:
        found = self._about(topic)["topic_id"]
        return None if found is None else str(found)

    def close(self) -> None:
        if self._client is not None:
            with translated():
                self._client.close()


__all__ = [
    "KafkaSink",
    "TransactionalSink",
    "connect_admin",
    "connect_producer",
    "open_feed",
    "open_reader",
    "open_source",
]
