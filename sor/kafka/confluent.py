"""confluent-kafka (librdkafka) behind `Port`, `Group`, `Log` and `Cluster`.

librdkafka calls back on our thread, within a poll. A partition that a rebalance takes away goes at once, with what
the same poll has already brought of it; one that a rebalance brings starts after the poll. So all that a poll returns
of a partition comes from one stay of it here.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sor.errors import InputError, RefusedError, StreamError
from sor.kafka.common import (
    BATCH_BYTES,
    FETCH_MS,
    LARGEST_REQUEST,
    LINGER_MS,
    RECONNECT_MS,
    RETRY_S,
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
from sor.kafka.handshake import greet
from sor.kafka.reader import KafkaFeed, KafkaReader
from sor.kafka.security import Connection
from sor.kafka.sinks import Headers, KafkaSink, TransactionalSink
from sor.kafka.source import KafkaSource, Polled
from sor.kafka.waiting import Deadline
from sor.stream.messages import KafkaPlace, Message

try:
    import confluent_kafka
    from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
    from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType
except ModuleNotFoundError:
    raise InputError("client is 'confluent': confluent-kafka is not installed (pip install 'sor[confluent]')") from None

logger = logging.getLogger(__name__)

CALL_S = 0.5  # longest call while connecting, as no signal is seen within one
REPORT_S = 2.0  # until the client tells why a transaction has failed, on a busy machine
REFUSED_LOGIN = {KafkaError._AUTHENTICATION, KafkaError._SSL}  # waiting does not help
FORBIDDEN = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
REFUSED = FORBIDDEN | {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.POLICY_VIOLATION,
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
}
REBALANCED = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}
UNSETTLED = {  # as while a topic is made, or a leader or coordinator changes
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.REQUEST_TIMED_OUT,
}
UNANSWERED = {
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._DESTROY_BROKER,  # it has gone while it was asked
    KafkaError._NOENT,  # a partition has no leader
}
UNWELCOME = {  # the brokers want no more of a producer
    KafkaError._FATAL,
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
}
CONSEQUENCES = {  # a transaction has failed, by what became of one of its messages
    KafkaError._STATE,
    KafkaError._INCONSISTENT,
}


# --- errors ----------------------------------------------------------------------------------------------------------


def _story(error: Any) -> str:
    return f"{error.name()}: {error.str()}"


def _error_of(error: Any) -> Any:
    """The client's own error within an exception of its."""
    return error.args[0]


def _client_error(error: Any) -> ClientError:
    code, story = error.code(), _story(error)
    if _is_fenced(error):
        return ClientError(Kind.FENCED, story)
    if code in REBALANCED:
        return ClientError(Kind.REBALANCED, story)
    if code in REFUSED:
        return ClientError(Kind.REFUSED, story)
    if code == KafkaError.INCONSISTENT_GROUP_PROTOCOL:
        return ClientError(Kind.FATAL, other_assignors(story))
    again = not error.fatal() and (error.retriable() or code in UNANSWERED | UNSETTLED)
    return ClientError(Kind.RETRIABLE if again else Kind.FATAL, story)


def _is_fenced(error: Any) -> bool:
    """Whether another has this instance id; among the messages only the words say what is fatal."""
    return bool(
        error.code() == KafkaError.FENCED_INSTANCE_ID
        or (error.code() == KafkaError._FATAL and KafkaError(KafkaError.FENCED_INSTANCE_ID).str() in error.str())
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Says what an error of the client comes to."""
    try:
        yield
    except KafkaException as error:
        raise _client_error(_error_of(error)) from None


# --- connecting ------------------------------------------------------------------------------------------------------


class _Errors:
    """Keeps what the client says of its connections: the last error is the reason why nobody answers."""

    def __init__(self) -> None:
        self.last: Any = None

    def __call__(self, error: Any) -> None:
        self.last = error
        logger.debug("%s", error)


class _Lines:
    """Takes librdkafka's log, which repeats every attempt to connect; ours says what matters, once."""

    @staticmethod
    def log(level: int, form: str, *values: Any) -> None:
        logger.debug(form, *values)


def _settings(connection: Connection) -> dict[str, Any]:
    """What every client is told of the brokers."""
    debug = {"debug": "cgrp,eos"} if logger.isEnabledFor(logging.DEBUG) else {}
    return debug | {
        "bootstrap.servers": connection.servers,
        "reconnect.backoff.max.ms": RECONNECT_MS,
        "topic.metadata.refresh.interval.ms": _ms(connection.timing.metadata),
        "logger": _Lines,
        **_security(connection),
    }


def _security(connection: Connection) -> dict[str, Any]:
    """The settings of `sor.kafka.security` under librdkafka's names."""
    settings = {
        "security.protocol": connection.protocol,
        "ssl.ca.location": connection.ca_file,
        "ssl.certificate.location": connection.cert_file,
        "ssl.key.location": connection.key_file,
    }
    if connection.key_password is not None:
        settings["ssl.key.password"] = connection.key_password.reveal()
    if connection.mechanism is not None and connection.password is not None:
        settings["sasl.mechanism"] = connection.mechanism.upper()
        settings["sasl.username"] = connection.username
        settings["sasl.password"] = connection.password.reveal()
    return {name: value for name, value in settings.items() if value is not None}


@contextlib.contextmanager
def _connecting(what: str, connection: Connection) -> Iterator[None]:
    """Says plainly why a client could not be connected."""
    try:
        with awaiting_brokers(connection):
            if not greet(connection):
                raise no_broker(what, connection)
            yield
    except KafkaException as error:
        reason = _error_of(error)
        if reason.code() in UNANSWERED:
            raise no_broker(what, connection) from None
        kind = RefusedError if reason.code() in REFUSED else StreamError
        raise kind(f"{what} at {connection.servers}: {_story(reason)}") from None


def _connected(make: Callable[[dict[str, Any]], Any], settings: dict[str, Any], connection: Connection) -> Any:
    """A client that brokers have answered. Waits are short, as no signal is seen within a call."""
    errors = _Errors()
    client = make(settings | {"error_cb": errors})
    deadline = Deadline(connection.timeout)
    while True:
        try:
            client.list_topics(timeout=CALL_S)
            return client
        except KafkaException:
            client.poll(0)  # which is when errors are told
            if errors.last is not None and errors.last.code() in REFUSED_LOGIN:
                raise KafkaException(errors.last) from None
            if deadline.passed:
                raise


def _connect_consumer(connection: Connection, what: str, more: dict[str, Any]) -> Any:
    settings = _settings(connection) | {
        "group.id": "sor",  # the client wants one, and does not join it where it is given its partitions
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",  # where to go on is ours to say
        "allow.auto.create.topics": False,
        "fetch.wait.max.ms": FETCH_MS,
        "check.crcs": True,
    }
    with _connecting(what, connection):
        return _connected(confluent_kafka.Consumer, settings | more, connection)


def _has(client: Any, topic: str) -> bool:
    """Whether a topic is there, with a leader for every partition."""
    with contextlib.suppress(KafkaException):
        found = client.list_topics(topic, timeout=CALL_S).topics[topic]
        return found.error is None and all(one.leader >= 0 for one in found.partitions.values())
    return False


def _ms(seconds: float) -> int:
    return int(1e3 * seconds)


def _take(consumer: Any, limit: int, wait_s: float) -> list[Any]:
    """What is there, at most ``limit`` messages and errors; where there is nothing, what comes first.

    A batch call alone would wait for the whole batch.
    """
    first = consumer.poll(wait_s)
    if first is None:
        return []
    return [first, *consumer.consume(limit - 1, 0)] if limit > 1 else [first]


# --- sinks -----------------------------------------------------------------------------------------------------------


class _Producer(confluent_kafka.Producer):  # type: ignore[misc]
    """Remembers the first message that was not delivered."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.failure: Any = None
        super().__init__(settings | {"on_delivery": self._note})

    def _note(self, error: Any, message: Any) -> None:
        self.failure = self.failure or error


def connect_producer(
    connection: Connection, topics: Sequence[str], transactional_id: str | None = None
) -> ProducerPort:
    """The producer of a sink to these topics; with an id, its transactions end those of who had it before."""
    timing = connection.timing
    limits = TopicCluster(connection).limits(topics)
    settings = _settings(connection) | {
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": LINGER_MS,
        "batch.size": min([BATCH_BYTES, *limits.values()]),
        "message.max.bytes": LARGEST_REQUEST,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",  # that of kafka-python and of Java: a key keeps its partition
        "allow.auto.create.topics": False,
        "delivery.report.only.error": True,
    }
    if transactional_id is None:
        settings |= {"message.timeout.ms": _ms(timing.flush)}
    else:
        settings |= {"transactional.id": transactional_id, "transaction.timeout.ms": _ms(timing.transaction)}
    with _connecting("producer", connection):
        producer = _connected(_Producer, settings, connection)
    for topic in topics:
        await_topic(topic, connection, functools.partial(_has, producer, topic))
    if transactional_id is not None:
        with _connecting("transactions", connection):
            deadline = Deadline(max(connection.timeout, 1.0))
            _until_answered(lambda: producer.init_transactions(CALL_S), deadline)
    return ProducerPort(producer, limits, connection, transactional=transactional_id is not None)


def _until_answered(call: Callable[[], Any], deadline: Deadline | None = None) -> None:
    """Make a call again where it may yet succeed; without a deadline a watchdog has to look after it."""
    while True:
        try:
            call()
        except KafkaException as error:
            reason = _error_of(error)
            if not reason.retriable() or reason.txn_requires_abort():
                raise
            if not (deadline or Deadline(1.0)).pause(RETRY_S):
                raise
        else:
            return


class ProducerPort:
    """See `sor.kafka.sinks.Port`."""

    def __init__(self, producer: Any, limits: dict[str, int], connection: Connection, *, transactional: bool) -> None:
        self.producer = producer
        self.limits = limits
        self._seconds = connection.timing.flush
        self._transactional = transactional

    def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers | None, partition: int | None
    ) -> None:
        where = -1 if partition is None else partition
        while True:
            try:
                self.producer.produce(topic, value, key, where, headers=headers)
            except BufferError:
                self.producer.poll(RETRY_S)  # the queue is full
            except KafkaException as error:
                raise self._client_error(_error_of(error)) from None
            else:
                return

    def flush(self) -> None:
        with self._translated():
            left = self.producer.flush(self._seconds)
        failure, self.producer.failure = self.producer.failure, None
        if failure is not None:
            raise self._client_error(failure)
        if left:
            raise ClientError(Kind.RETRIABLE, f"{left} not acknowledged within {self._seconds:g} s")

    def begin(self) -> None:
        self.producer.failure = None
        self._ask(self.producer.begin_transaction)

    def commit(self, offsets: Offsets) -> None:
        self._ask(lambda: self.producer.send_offsets_to_transaction(offsets.positions, offsets.generation))
        self._ask(self.producer.commit_transaction)  # which fails where a message was not delivered

    def abort(self) -> None:
        self._ask(self.producer.abort_transaction)

    def _ask(self, call: Callable[[], Any]) -> None:
        with self._translated():
            _until_answered(call)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise self._client_error(_error_of(error)) from None

    def _client_error(self, error: Any) -> ClientError:
        """As above, with the reason in place of what follows from it."""
        if error.fatal() or error.code() in UNWELCOME:
            return ClientError(Kind.DEAD, _story(error))
        if error.code() in CONSEQUENCES and error.txn_requires_abort():
            deadline = Deadline(REPORT_S)  # what became of its messages is told later than that it has failed
            while self.producer.failure is None and not deadline.passed:
                self.producer.poll(RETRY_S)
        return _client_error(self.producer.failure or error)

    def discard(self) -> None:
        self.producer.purge()

    def close(self) -> None:
        if not self._transactional:  # of a transaction, what is not committed by now is not to be
            with translated():
                self.producer.flush(self._seconds)


# --- source ----------------------------------------------------------------------------------------------------------


def open_source(
    connection: Connection, topic: str, identity: Identity, start: str, *, transactional: bool
) -> KafkaSource:
    """The source of a group's member; it starts at ``start`` where nothing is committed."""
    timing = connection.timing
    settings = {
        "group.id": identity.group,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": _ms(timing.session),
        "heartbeat.interval.ms": _ms(timing.heartbeat),
        "max.poll.interval.ms": _ms(timing.between_polls),
    }
    named = identity.member is not None
    if named:
        settings["group.instance.id"] = identity.member
    consumer = _connect_consumer(connection, "consumer", settings)
    generation_in(bytes(consumer.consumer_group_metadata()))  # before the first message, whether it can be read
    if not _has(consumer, topic):
        logger.warning("topic %s does not exist at %s: waiting for it", topic, connection.servers)
    group = GroupMember(consumer, topic, connection, identity)
    return KafkaSource(group, topic, start, transactional=transactional, named=named, timing=timing)


def generation_in(metadata: bytes) -> int:
    """The generation within what librdkafka hands out to be handed back; below 0 is none."""
    mark = b"CGMDv2:"
    if not metadata.startswith(mark):
        raise InputError(
            f"confluent-kafka {confluent_kafka.__version__} is not one that this program knows: it hands out the "
            "group's generation in another form"
        )
    return int.from_bytes(metadata[len(mark) : len(mark) + 4], sys.byteorder, signed=True)


class GroupMember:
    """See `sor.kafka.source.Group`."""

    def __init__(self, consumer: Any, topic: str, connection: Connection, identity: Identity) -> None:
        self.consumer = consumer
        self.topic = topic
        self._identity = identity
        self._members: set[str] = set()  # what the brokers have called it
        self._replaced = False  # by another with its name
        self._timing = connection.timing
        self._cluster = TopicCluster(connection)
        self._look = Deadline(0)
        self._assigned: set[int] = set()
        self._coming: set[int] = set()  # given to us within a poll, and started after it
        self._gone: set[int] = set()  # taken away within a poll
        self._kept: list[Any] = []  # taken while something else was asked
        consumer.subscribe([topic], on_assign=self._given, on_revoke=self._taken_away, on_lost=self._lost)

    def _place(self, partition: int) -> Any:
        return TopicPartition(self.topic, partition)

    def poll(self, limit: int, wait_s: float) -> Polled:
        with self._translated():
            kept, self._kept = self._kept, []
            taken = kept or _take(self.consumer, limit, wait_s)
            if self._replaced:
                raise ClientError(Kind.FENCED, f"another has joined as {self._identity.member}")
            records: dict[int, list[Any]] = {}
            missing = set()
            for record in taken:
                error = record.error()
                if error is None:
                    if record.partition() in self._assigned:
                        records.setdefault(record.partition(), []).append(record)
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    missing.add(record.partition())
                else:
                    self._note(error)
            # Who has been given a newer generation than these messages were polled in holds their partitions in it,
            # too: none goes to another member before `_taken_away` has let go of it. But who has none at all could
            # commit offsets that the brokers do not check.
            generation = bytes(self.consumer.consumer_group_metadata())
        gone, new = self._gone, self._coming
        self._gone, self._coming = set(), set()
        self._assigned |= new
        return Polled(
            {partition: some for partition, some in records.items() if partition in self._assigned - new - gone},
            generation,
            generation_in(generation) >= 0,
            gone,
            new,
            missing & (self._assigned - new),
        )

    def _note(self, error: Any) -> None:
        """An error that came among the messages."""
        if error.fatal() or error.code() in REFUSED | UNWELCOME | {KafkaError.INCONSISTENT_GROUP_PROTOCOL}:
            raise KafkaException(error)
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            logger.warning("the group has given our partitions away: %s", error.str())
        else:
            logger.debug("%s", error)

    # All of these are called within a poll.

    def _given(self, consumer: Any, partitions: list[Any]) -> None:
        consumer.incremental_assign([])  # done for now
        self._members.add(consumer.memberid())
        self._coming |= {place.partition for place in partitions}

    def _taken_away(self, consumer: Any, partitions: list[Any]) -> None:
        gone = {place.partition for place in partitions}
        consumer.incremental_unassign([self._place(number) for number in gone & self._assigned])
        self._coming -= gone
        self._assigned -= gone
        self._gone |= gone

    def _lost(self, consumer: Any, partitions: list[Any]) -> None:
        """A session is over. librdkafka would join anew under its name, and put out whoever has that by now."""
        if self._is_replaced():
            self._replaced = True
            try:
                consumer.unsubscribe()
            except:  # noqa: E722 - confluent-kafka 2.16 raises what is no exception, where it has been told already
                logger.debug("fenced")
        self._taken_away(consumer, partitions)

    def _is_replaced(self) -> bool:
        """Whether another has our name. A coordinator that takes over may know us by a name of before, and fence us."""
        if self._identity.member is None:
            return False
        try:
            members = self._cluster.members(self._identity.group)
        except ClientError as error:
            logger.debug("cannot tell the members of the group: %s", error)
            return False
        return members.get(self._identity.member) not in {None, *self._members}

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with translated():
                yield
        except ClientError as error:
            if error.kind is not Kind.FENCED or self._is_replaced():
                raise
            words = "by no other process: a new one goes on from the last commit"
            raise ClientError(Kind.FATAL, f"{error}, {words}") from None

    def messages(self, partition: int, records: list[Any]) -> list[Message]:
        topic = self.topic
        behind = int(self.consumer.get_watermark_offsets(self._place(partition), cached=True)[1]) - 1
        return [
            Message(
                record.value() or b"",
                KafkaPlace(topic, partition, offset := record.offset()),
                record.key(),
                partition,
                record.timestamp()[1],
                max(0, behind - offset),
            )
            for record in records
        ]

    def start(self, offsets: dict[int, int]) -> None:
        with self._translated():
            self.consumer.incremental_assign(self.positions(offsets))

    def seek(self, partition: int, offset: int) -> None:
        self._kept = [record for record in self._kept if record.partition() != partition]
        if partition not in self._assigned:
            return
        place = TopicPartition(self.topic, partition, offset)
        with self._translated():
            try:
                self.consumer.seek(place)
            except KafkaException:  # where the brokers have not what was to come next, it has stopped reading
                self.consumer.incremental_unassign([place])
                self.consumer.incremental_assign([place])

    def committed(self, partitions: set[int]) -> dict[int, int]:
        with self._translated():
            places = self.consumer.committed(
                [self._place(number) for number in partitions], timeout=self._timing.commit
            )
            for place in places:
                if place.error is not None:
                    raise KafkaException(place.error)
        return {place.partition: place.offset for place in places if place.offset >= 0}

    def commit(self, offsets: dict[int, int]) -> None:
        if not offsets:
            return
        with self._translated():
            places = self.consumer.commit(offsets=self.positions(offsets), asynchronous=False)
            for place in places:
                if place.error is not None:
                    raise KafkaException(place.error)

    def positions(self, offsets: dict[int, int]) -> Any:
        return [TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()]

    def bounds(self, partition: int) -> tuple[int, int]:
        return self._cluster.bounds(self.topic, partition, IsolationLevel.READ_COMMITTED)

    def ends(self, partitions: set[int]) -> dict[int, int]:
        return self._cluster.ends(self.topic, partitions, self._timing.poll)

    def identity(self, *, fresh: bool = False) -> str | None:
        if fresh:
            return self._cluster.identity(self.topic)
        if self._look.passed:
            self._look = Deadline(self._timing.metadata)
            self._cluster.look(self.topic)
        return self._cluster.seen(self.topic)

    def check_fenced(self, partitions: set[int]) -> None:
        """It comes among the messages; those are kept for the next poll."""
        with self._translated():
            for record in _take(self.consumer, 1, 0.0):
                if record.error() is None:
                    self._kept.append(record)
                else:
                    self._note(record.error())

    def close(self) -> None:
        with self._translated():
            self.consumer.close()


# --- apart from a group ----------------------------------------------------------------------------------------------


def open_reader(connection: Connection) -> KafkaReader:
    return KafkaReader(PartitionLog(connection, "reader"), TopicCluster(connection), connection)


def open_feed(connection: Connection, topic: str) -> KafkaFeed:
    return KafkaFeed(PartitionLog(connection, "market data"), TopicCluster(connection), connection, topic)


class PartitionLog:
    """See `sor.kafka.reader.Log`."""

    def __init__(self, connection: Connection, what: str) -> None:
        self._consumer = _connect_consumer(connection, what, {"enable.partition.eof": True})
        self._topic = ""
        self._positions: dict[int, int] = {}
        self._cluster = TopicCluster(connection)

    def assign(self, topic: str, offsets: dict[int, int]) -> None:
        """Partitions that go on as they are stay: librdkafka 2.12 aborts the process where one is taken out again
        before it has stopped after the time before, as when several are added one by one.
        """
        held = {(self._topic, partition, offset) for partition, offset in self._positions.items()}
        wanted = {(topic, partition, offset) for partition, offset in offsets.items()}
        self._topic, self._positions = topic, dict(offsets)
        with translated():
            if gone := held - wanted:
                self._consumer.incremental_unassign([TopicPartition(*place) for place in gone])
            if new := wanted - held:
                self._consumer.incremental_assign([TopicPartition(*place) for place in new])

    def poll(self, limit: int, wait_s: float) -> tuple[list[Record], dict[int, int]]:
        records, missing = [], {}
        with translated():
            for one in _take(self._consumer, limit, wait_s):
                partition, error = one.partition(), one.error()
                if one.topic() != self._topic or partition not in self._positions:
                    if error is not None and (error.fatal() or error.code() in REFUSED):
                        raise KafkaException(error)
                    continue
                if error is None:
                    self._positions[partition] = one.offset() + 1
                    records.append(Record(partition, one.offset(), one.key(), one.value()))
                elif error.code() == KafkaError._PARTITION_EOF:
                    # past what is no message; of an open transaction, its start
                    self._positions[partition] = max(self._positions[partition], one.offset())
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    missing[partition] = self._positions[partition]
                else:
                    raise KafkaException(error)
        return records, missing

    def position(self, partition: int) -> int:
        return self._positions[partition]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self._cluster.bounds(topic, partition, IsolationLevel.READ_UNCOMMITTED)

    def ends(self, topic: str, partitions: set[int], seconds: float) -> dict[int, int]:
        return self._cluster.ends(topic, partitions, seconds)

    def close(self) -> None:
        with translated():
            self._consumer.close()


class TopicCluster:
    """See `sor.kafka.reader.Cluster`; it connects when it is first asked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seconds = connection.timing.commit
        self._client: Any = None
        self._asked: dict[str, Any] = {}  # futures by topic
        self._seen: dict[str, str | None] = {}

    @property
    def _admin(self) -> Any:
        if self._client is None:
            with _connecting("admin client", self._connection):
                self._client = _connected(AdminClient, _settings(self._connection), self._connection)
        return self._client

    def replicas(self, topic: str) -> list[int]:
        with translated():
            found = self._admin.list_topics(topic, timeout=self._seconds).topics[topic]
            if found.error is not None:
                if found.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                    return []
                raise KafkaException(found.error)
        return [len(partition.replicas) for partition in found.partitions.values()]

    def create(self, topic: str, partitions: int, replicas: int, settings: dict[str, str]) -> bool:
        new = NewTopic(topic, partitions, replicas, config=settings)
        with translated():
            try:
                self._admin.create_topics([new])[topic].result(self._seconds)
            except KafkaException as error:
                if _error_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                return False  # another member was faster
            finally:
                deadline = Deadline(self._seconds)
                while not _has(self._admin, topic) and deadline.pause(RETRY_S):
                    pass
        return True

    def limits(self, topics: Sequence[str]) -> dict[str, int]:
        """Bytes that a message may have, of the topics that tell: it takes a right to know."""
        limits = {}
        asked = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
        for resource, future in (self._admin.describe_configs(asked) if asked else {}).items():
            try:
                limits[resource.name] = int(future.result(self._seconds)["max.message.bytes"].value)
            except (KafkaException, KeyError, TypeError, ValueError, TimeoutError) as error:
                logger.debug("%s does not tell how large a message may be: %s", resource.name, error)
        return limits

    def ends(self, topic: str, partitions: set[int], seconds: float) -> dict[int, int]:
        return self._offsets(topic, partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED, seconds)

    def bounds(self, topic: str, partition: int, isolation: IsolationLevel) -> tuple[int, int]:
        """Not from `get_watermark_offsets`: librdkafka asks for both offsets at once, and where the first question
        fails as the second is answered, it returns that answer for both: a full partition looks empty.
        """
        first = self._offsets(topic, {partition}, OffsetSpec.earliest(), isolation, self._seconds)
        end = self._offsets(topic, {partition}, OffsetSpec.latest(), isolation, self._seconds)
        return first[partition], end[partition]

    def _offsets(
        self, topic: str, partitions: set[int], spec: OffsetSpec, isolation: IsolationLevel, seconds: float
    ) -> dict[int, int]:
        asked = {TopicPartition(topic, partition): spec for partition in partitions}
        if not asked:
            return {}
        with translated():
            futures = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=max(seconds, 0.1))
            try:
                return {place.partition: future.result(seconds + 1).offset for place, future in futures.items()}
            except TimeoutError:
                raise ClientError(Kind.RETRIABLE, f"no answer within {seconds:g} s") from None

    def members(self, group: str) -> dict[str | None, str]:
        """What the brokers call the members of a group, by their own names."""
        with translated():
            try:
                found = self._admin.describe_consumer_groups([group])[group].result(self._seconds)
            except TimeoutError:
                raise ClientError(Kind.RETRIABLE, f"no answer within {self._seconds:g} s") from None
        return {member.group_instance_id: member.member_id for member in found.members}

    def identity(self, topic: str) -> str | None:
        self.look(topic)
        with translated():
            try:
                self._asked[topic].result(self._seconds)
            except KafkaException as error:
                if _error_of(error).code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return None
                raise
        return self.seen(topic)

    def look(self, topic: str) -> None:
        """Ask for a topic's id, for `seen`."""
        self._asked |= self._admin.describe_topics(TopicCollection([topic]), request_timeout=self._seconds)

    def seen(self, topic: str) -> str | None:
        """The id that came last."""
        future = self._asked.get(topic)
        if future is not None and future.done():
            with contextlib.suppress(KafkaException):
                found = future.result().topic_id
                self._seen[topic] = None if found is None else str(found)
            del self._asked[topic]
        return self._seen.get(topic)

    def close(self) -> None:
        self._client = None


__all__ = [
    "KafkaSink",
    "TransactionalSink",
    "connect_producer",
    "open_feed",
    "open_reader",
    "open_source",
]
