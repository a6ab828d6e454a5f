"""Kafka as source and sink, on confluent-kafka (librdkafka): names and semantics of `kafka_python`.

librdkafka calls back on our thread, within a poll. A partition that a rebalance takes away goes at once, with what
the same poll has already brought of it; one that a rebalance brings starts after the poll. So all that a poll returns
of a partition comes from one stay of it here.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sor.errors import AbortedError, InputError, SorError, StreamError
from sor.kafka.common import (
    BATCH_BYTES,
    COMMIT_MS,
    FENCED_S,
    FETCH_MS,
    FLUSH_S,
    HEARTBEAT_MS,
    LINGER_MS,
    LOOK_S,
    METADATA_MS,
    NEW_PRODUCERS,
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
from sor.kafka.handshake import greet
from sor.kafka.security import Connection
from sor.stream.messages import BATCH, KafkaPlace, Message

try:
    import confluent_kafka
    from confluent_kafka import KafkaError, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
except ModuleNotFoundError:
    raise InputError("client is 'confluent': confluent-kafka is not installed (pip install 'sor[confluent]')") from None

logger = logging.getLogger(__name__)

POLL_S = POLL_MS / 1000
COMMIT_S = COMMIT_MS / 1000
RETRY_S = 0.05

REFUSED = {KafkaError._AUTHENTICATION, KafkaError._SSL}  # waiting does not help
FORBIDDEN = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}
REBALANCED = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}
UNANSWERED = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._WAIT_COORD, KafkaError._ALL_BROKERS_DOWN}
UNWELCOME = {  # the brokers want no more of a producer
    KafkaError._FATAL,
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
}


def _story(error: Any) -> str:
    return f"{error.name()}: {error.str()}"


def _error_of(error: Any) -> Any:
    """The client's own error within an exception of its."""
    return error.args[0]


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
        "topic.metadata.refresh.interval.ms": METADATA_MS,
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


def _for_reading(connection: Connection, isolation: str) -> dict[str, Any]:
    return _settings(connection) | {
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": isolation,
        "allow.auto.create.topics": False,
        "fetch.wait.max.ms": FETCH_MS,
        "check.crcs": True,
    }


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
        raise StreamError(f"{what} at {connection.servers}: {_story(reason)}") from None


def _connected(make: Callable[[dict[str, Any]], Any], settings: dict[str, Any], seconds: float) -> tuple[Any, Any]:
    """A client that brokers have answered, and the metadata of their topics.

    Waits are short, as no signal is seen within a call.
    """
    errors = _Errors()
    client = make(settings | {"error_cb": errors})
    deadline = time.monotonic() + seconds
    while True:
        try:
            return client, client.list_topics(timeout=POLL_S)
        except KafkaException:
            client.poll(0)  # which is when errors are told
            if errors.last is not None and errors.last.code() in REFUSED:
                raise KafkaException(errors.last) from None
            if time.monotonic() > deadline:
                raise


def _has(client: Any, topic: str) -> bool:
    """Whether a topic is there, with a leader for every partition."""
    with contextlib.suppress(KafkaException):
        found = client.list_topics(topic, timeout=POLL_S).topics[topic]
        return found.error is None and all(one.leader >= 0 for one in found.partitions.values())
    return False


def connect_producer(connection: Connection, topics: Sequence[str], transactional_id: str | None = None) -> Any:
    """An idempotent producer whose messages all in-sync replicas acknowledge, for topics that exist."""
    settings = _settings(connection) | {
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": LINGER_MS,
        "batch.size": BATCH_BYTES,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",  # that of kafka-python and of Java: a key keeps its partition
        "allow.auto.create.topics": False,
        "delivery.report.only.error": True,
    }
    if transactional_id is None:
        settings |= {"message.timeout.ms": int(FLUSH_S * 1000)}
    else:
        settings |= {"transactional.id": transactional_id, "transaction.timeout.ms": TRANSACTION_MS}
    with _connecting("producer", connection):
        producer, _ = _connected(_Producer, settings, connection.timeout)
    deadline = time.monotonic() + max(connection.timeout, 1.0)
    where = f"topic {{}} does not exist at {connection.servers}"
    for topic in topics:
        with patience(f"{where.format(topic)} yet; waiting for it", connection.timeout):
            while not _has(producer, topic):
                if time.monotonic() > deadline:
                    raise StreamError(
                        f"{where.format(topic)}, and nobody made it within {connection.timeout:g} s"
                    ) from None
                time.sleep(RETRY_S)
    if transactional_id is not None:
        with _connecting("transactions", connection):
            _until_answered(lambda: producer.init_transactions(POLL_S), time.monotonic() + max(connection.timeout, 1.0))
    return producer


def _until_answered(call: Callable[[], Any], deadline: float | None = None) -> None:
    """Make a call again where it may yet succeed."""
    while True:
        try:
            call()
        except KafkaException as error:
            late = deadline is not None and time.monotonic() > deadline
            if late or not _error_of(error).retriable() or _error_of(error).txn_requires_abort():
                raise
            time.sleep(RETRY_S)
        else:
            return


class _Producer(confluent_kafka.Producer):  # type: ignore[misc]
    """Remembers the first message that was not delivered."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.failure: Any = None
        super().__init__(settings | {"on_delivery": self._note})

    def _note(self, error: Any, message: Any) -> None:
        self.failure = self.failure or error


# --- reading apart from a group --------------------------------------------------------------------------------------


class Record(NamedTuple):
    offset: int
    value: bytes | None


class KafkaReader:
    """Reads ranges of partitions, apart from any group (see `sor.stream.recovery.Reader`)."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        nobody = {"group.id": "sor"}  # the client wants one, and never joins it
        at_ends = {"enable.partition.eof": True, "auto.offset.reset": "earliest"}
        with _connecting("reader", connection):
            settings = _for_reading(connection, "read_committed") | nobody | at_ends
            self._consumer, _ = _connected(confluent_kafka.Consumer, settings, connection.timeout)
            # sees where a log ends beyond open transactions
            settings = _for_reading(connection, "read_uncommitted") | nobody
            self._last, _ = _connected(confluent_kafka.Consumer, settings, connection.timeout)

    def make_like(self, topic: str, like: str) -> None:
        connection = self.connection
        with _connecting("admin client", connection):
            admin, metadata = _connected(AdminClient, _settings(connection), connection.timeout)
            wanted = list(metadata.topics[like].partitions.values())
            there = metadata.topics[topic].partitions if topic in metadata.topics else {}
            if not there:
                replicas = min(len(partition.replicas) for partition in wanted)
                settings = {"cleanup.policy": "compact"}
                new = NewTopic(topic, len(wanted), replicas, config=settings)
                try:
                    admin.create_topics([new])[topic].result(COMMIT_S)
                    logger.info("topic %s made: %d partitions, compacted", topic, len(wanted))
                except KafkaException as error:
                    if _error_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another member was faster
                        raise
                deadline = time.monotonic() + COMMIT_S
                while not _has(admin, topic) and time.monotonic() < deadline:
                    time.sleep(RETRY_S)
            elif len(there) < len(wanted):
                raise StreamError(
                    f"topic {topic} has {len(there)} partitions: {like} has {len(wanted)}, so it needs as many"
                )

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        deadline = time.monotonic() + RECOVERY_S
        while True:
            try:
                first, last = self._last.get_watermark_offsets(TopicPartition(topic, partition), timeout=COMMIT_S)
            except KafkaException as error:  # a topic just made, or a broker that has gone
                if time.monotonic() > deadline:
                    raise StreamError(f"reading {topic}:{partition}: {_story(_error_of(error))}") from None
                time.sleep(RETRY_S)
            else:
                return first, last

    def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        if start >= end:
            return
        position, deadline = start, time.monotonic() + RECOVERY_S
        try:
            self._consumer.assign([TopicPartition(topic, partition, start)])
            while position < end:
                taken = [one for one in _take(self._consumer, BATCH) if one.partition() == partition]
                for one in taken:
                    if one.topic() != topic:
                        continue
                    error = one.error()
                    if error is None:
                        position = one.offset() + 1
                        if position <= end:
                            yield Record(one.offset(), one.value())
                    elif error.code() == KafkaError._PARTITION_EOF:
                        position = one.offset()  # past what is no message; of an open transaction, its start
                    else:
                        raise KafkaException(error)
                if taken:
                    deadline = time.monotonic() + RECOVERY_S
                elif time.monotonic() > deadline:
                    raise StreamError(
                        f"{topic}:{partition} cannot be read from {position} to {end}: nothing for {RECOVERY_S:g} s"
                    )
        except KafkaException as error:
            raise StreamError(f"reading {topic}:{partition}: {_story(_error_of(error))}") from None

    def close(self) -> None:
        self._consumer.close()
        self._last.close()


def _take(consumer: Any, limit: int, wait_s: float = POLL_S) -> list[Any]:
    """What is there, at most ``limit`` messages and errors; where there is nothing, what comes first.

    A batch call alone would wait for the whole batch.
    """
    first = consumer.poll(wait_s)
    if first is None:
        return []
    return [first, *consumer.consume(limit - 1, 0)] if limit > 1 else [first]


# --- source ----------------------------------------------------------------------------------------------------------


def open_source(
    connection: Connection,
    topic: str,
    identity: Identity,
    start: str,
    forget: Callable[[set[int]], None],
    *,
    transactional: bool,
    wait_ms: Callable[[], int] | None = None,
) -> KafkaSource:
    """The source of a group's member; it starts at ``start`` where nothing is committed."""
    settings = _for_reading(connection, "read_committed" if transactional else "read_uncommitted") | {
        "group.id": identity.group,
        "auto.offset.reset": start,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
    }
    if identity.member is not None:
        settings["group.instance.id"] = identity.member
    with _connecting("consumer", connection):
        consumer, metadata = _connected(confluent_kafka.Consumer, settings, connection.timeout)
    if topic not in metadata.topics:
        logger.warning("topic %s does not exist at %s: waiting for it", topic, connection.servers)
    named = identity.member is not None
    return KafkaSource(consumer, topic, start, forget, transactional=transactional, named=named, wait_ms=wait_ms)


class KafkaSource:
    """Messages of a topic's partitions that the group has given to this consumer.

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
    topic : str
    start : str
        ``earliest`` or ``latest``: where a partition starts of which the group has committed nothing.
    forget : callable
        Called with the partitions taken away, whose state has to go: another member may move on with them.
    transactional : bool
        The offsets are committed by the sink, with the results.
    named : bool
        The membership is static, so another process may take it over.
    wait_ms : callable, optional
        How long a poll may wait for a message.
    """

    def __init__(
        self,
        consumer: Any,
        topic: str,
        start: str,
        forget: Callable[[set[int]], None],
        *,
        transactional: bool,
        named: bool = False,
        wait_ms: Callable[[], int] | None = None,
    ) -> None:
        self.consumer = consumer
        self.topic = topic
        self.rebalances = 0
        self.lags: dict[tuple[str, int], int] = {}
        self._start = start
        self._named = named
        self._forget = forget
        self._transactional = transactional
        self._wait_ms = wait_ms or (lambda: POLL_MS)
        self._assigned: set[int] = set()
        self._coming: set[int] = set()  # given to us within a poll, and started after it
        self._gone: set[int] = set()  # taken away within a poll
        self._offsets: dict[int, int] = {}  # to commit
        self._starts: dict[int, int] = {}  # of the last batch
        self._positions: dict[int, int] = {}  # offsets to be polled next, as far as they are known
        self._look_again = 0.0
        self._generation = b""
        consumer.subscribe([topic], on_assign=self._given, on_revoke=self._taken_away)

    @property
    def partitions(self) -> set[int]:
        return set(self._assigned)

    def place_of(self, partition: int) -> KafkaPlace | None:
        """Where a partition's next message, or the last batch's first, stands; None where that is not known."""
        offset = self._starts.get(partition, self._positions.get(partition))
        return None if offset is None else KafkaPlace(self.topic, partition, offset)

    def poll(self, limit: int) -> list[Message] | None:
        with self._asking("consuming"):
            taken = _take(self.consumer, limit, self._wait_ms() / 1e3)
            messages = self._messages(taken)
            self._settle()
            if messages and self._transactional and not self._is_member():
                self._rewind()
                return []
        if not messages and self._offsets:
            self.commit()  # what an earlier commit left
        if time.monotonic() >= self._look_again:
            self._look_at_ends()
        return messages

    def _look_at_ends(self) -> None:
        """Ask how much there is: what the client remembers of it would not grow where its fetching stands still."""
        self._look_again = time.monotonic() + LOOK_S
        for number, position in self._positions.items():
            try:
                place = TopicPartition(self.topic, number)
                _, end = self.consumer.get_watermark_offsets(place, timeout=POLL_S)
            except KafkaException:
                return  # a broker that does not answer: what was known last holds
            self.lags[self.topic, number] = max(0, end - position)

    def _messages(self, taken: list[Any]) -> list[Message]:
        """Messages of partitions that are still ours; notes how far they go."""
        topic, assigned, ends = self.topic, self._assigned, {}
        starts: dict[int, int] = {}
        messages = []
        for record in taken:
            error = record.error()
            if error is not None:
                self._note(error)
                continue
            partition, offset = record.partition(), record.offset()
            if partition not in assigned:
                continue
            if partition not in starts:
                starts[partition] = offset
                ends[partition] = self._end(partition)
            self._offsets[partition] = offset + 1
            place = KafkaPlace(topic, partition, offset)
            lag = max(0, ends[partition] - 1 - offset)
            time_ms = record.timestamp()[1]
            messages.append(Message(record.value() or b"", place, record.key(), partition, time_ms, lag))
        self._starts = starts
        self._positions |= {number: self._offsets[number] for number in starts}
        self.lags |= {(topic, number): max(0, ends[number] - self._offsets[number]) for number in starts}
        return messages

    def _end(self, partition: int) -> int:
        """Where a partition ended at the last answer."""
        return int(self.consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)[1])

    def _note(self, error: Any) -> None:
        """An error that came among the messages."""
        if error.fatal() or error.code() in FORBIDDEN | UNWELCOME:
            raise KafkaException(error)
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            logger.warning("the group has given our partitions away: %s", error.str())
        else:
            logger.debug("%s", error)

    def _is_member(self) -> bool:
        """Take the group's generation for `offsets`; False where the group has put us out.

        Who has been given a newer generation than these messages were polled in holds their partitions in it, too:
        none goes to another member before `_taken_away` has let go of it. But who has none at all could commit
        offsets that the brokers do not check.
        """
        self._generation = bytes(self.consumer.consumer_group_metadata())
        return _generation_in(self._generation) >= 0

    # Both are called within a poll.

    def _given(self, consumer: Any, partitions: list[Any]) -> None:
        consumer.incremental_assign([])  # done for now
        self._coming |= {place.partition for place in partitions}

    def _taken_away(self, consumer: Any, partitions: list[Any]) -> None:
        gone = {place.partition for place in partitions}
        consumer.incremental_unassign([TopicPartition(self.topic, number) for number in gone & self._assigned])
        self._coming -= gone
        self._assigned -= gone
        self._gone |= gone

    def _settle(self) -> None:
        """Say and do what a rebalance within the last poll has brought."""
        gone, coming = self._gone, self._coming
        if not gone and not coming:
            return
        self._gone, self._coming = set(), set()
        self._assigned |= coming
        self.rebalances += 1
        names = ", ".join(f"{self.topic}:{number}" for number in sorted(self._assigned)) or "none"
        logger.info("partitions assigned: %s", names)
        for number in gone:
            for known in (self._offsets, self._starts, self._positions):
                known.pop(number, None)
            self.lags.pop((self.topic, number), None)
        if gone:
            self._forget(gone)
        if coming:
            self._begin(sorted(coming))

    def _begin(self, partitions: list[int]) -> None:
        """Start reading; where nothing is committed, commit the start, so that what arrives while nobody consumes
        is not lost.
        """
        starts: dict[int, int] = {}
        try:
            known = self._committed(partitions)
            self._positions |= known
            for number in set(partitions) - known.keys():
                place = TopicPartition(self.topic, number)
                first, end = self.consumer.get_watermark_offsets(place, timeout=COMMIT_S)
                starts[number] = first if self._start == "earliest" else end
        except KafkaException as error:
            logger.warning("cannot tell where the group stands: %s", _story(_error_of(error)))
        if starts:
            self._positions |= starts
            self._commit(starts)
        self.consumer.incremental_assign(
            [TopicPartition(self.topic, n, starts.get(n, confluent_kafka.OFFSET_STORED)) for n in partitions]
        )

    def _committed(self, partitions: Iterable[int]) -> dict[int, int]:
        """Where the group stands, of the partitions of which it has committed something."""
        places = self.consumer.committed([TopicPartition(self.topic, n) for n in partitions], timeout=COMMIT_S)
        for place in places:
            if place.error is not None:
                raise KafkaException(place.error)
        return {place.partition: place.offset for place in places if place.offset >= 0}

    def is_fenced(self) -> bool:
        """Whether another process has joined the group with this one's instance id; waits for it to do so.

        What it polls meanwhile is dropped: a batch that failed is rewound whole.
        """
        deadline = time.monotonic() + FENCED_S
        try:
            while self._named and time.monotonic() < deadline:
                for record in _take(self.consumer, 1):
                    if record.error() is not None:
                        self._note(record.error())
        except KafkaException as error:
            return _is_fenced(_error_of(error))
        return False

    def offsets(self) -> Offsets:
        return Offsets(self._places(self._offsets), self._generation)

    def _places(self, offsets: dict[int, int]) -> list[Any]:
        return [TopicPartition(self.topic, number, offset) for number, offset in offsets.items()]

    def rewind(self, unsure: bool = False) -> None:
        with self._asking("going back"):
            if unsure and self._assigned:
                self._starts |= self._committed(self._assigned)
            self._rewind()

    def _rewind(self) -> None:
        for place in self._places(self._starts):
            if place.partition in self._assigned:
                self.consumer.seek(place)
                self._positions[place.partition] = place.offset
        self._offsets, self._starts = {}, {}

    def commit(self) -> None:
        if self._transactional or (self._offsets and self._commit(self._offsets)):
            self._offsets = {}

    def _commit(self, offsets: dict[int, int]) -> bool:
        error = self._commit_error(offsets)
        if error is None:
            return True
        if _is_fenced(error):
            raise fenced()
        if error.code() in REBALANCED:
            logger.warning("the group is rebalancing: the last batch may be answered again by another member")
            return True
        if not (error.retriable() or error.code() in UNANSWERED):
            raise StreamError(f"committing offsets: {_story(error)}")
        logger.warning("offsets not committed yet (%s); trying again", _story(error))
        return False

    def _commit_error(self, offsets: dict[int, int]) -> Any:
        try:
            places = self.consumer.commit(offsets=self._places(offsets), asynchronous=False)
        except KafkaException as error:
            return _error_of(error)
        return next((place.error for place in places if place.error is not None), None)

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            reason = _error_of(error)
            raise fenced() if _is_fenced(reason) else StreamError(f"{doing}: {_story(reason)}") from None

    def close(self) -> None:
        self.consumer.close()


def _generation_in(metadata: bytes) -> int:
    """The generation within what librdkafka hands out to be handed back; below 0 is none."""
    mark = b"CGMDv2:"
    if not metadata.startswith(mark):
        raise StreamError(f"this version of confluent-kafka ({confluent_kafka.version()}) is not known here")
    return int.from_bytes(metadata[len(mark) : len(mark) + 4], sys.byteorder, signed=True)


def _is_fenced(error: Any) -> bool:
    """Whether another has this instance id; among the messages only the words say what is fatal."""
    return error.code() == KafkaError.FENCED_INSTANCE_ID or (
        error.code() == KafkaError._FATAL and KafkaError(KafkaError.FENCED_INSTANCE_ID).str() in error.str()
    )


# --- sinks -----------------------------------------------------------------------------------------------------------


class KafkaSink(TopicSink):
    """Results, dead letters or both to topics; ``commit`` waits for every acknowledgement.

    Parameters
    ----------
    producer : as of `connect_producer`
    results_topic, letters_topic : str, optional
        None: that kind is not sent.
    """

    def __init__(self, producer: Any, results_topic: str | None, letters_topic: str | None) -> None:
        super().__init__(results_topic, letters_topic)
        self.producer = producer

    def _send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Any = None, partition: int | None = None
    ) -> None:
        try:
            self._queue(topic, value, key, headers, partition)
        except KafkaException as error:
            raise self._failure(f"sending to {topic}", _error_of(error)) from None

    def _queue(self, topic: str, value: bytes | None, key: bytes | None, headers: Any, partition: int | None) -> None:
        while True:
            try:
                self.producer.produce(topic, value, key, -1 if partition is None else partition, headers=headers)
            except BufferError:
                self.producer.poll(RETRY_S)  # the queue is full
            else:
                return

    def _failure(self, what: str, error: Any) -> SorError:
        return StreamError(f"{what}: {_story(error)}")

    def commit(self, offsets: Any = None) -> None:
        left = self.producer.flush(FLUSH_S)
        failure, self.producer.failure = self.producer.failure, None
        if failure is not None or left:
            story = f"{left} not acknowledged within {FLUSH_S:g} s" if failure is None else _story(failure)
            raise StreamError(f"the brokers did not take a message: {story}")

    def close(self) -> None:
        self.producer.flush(FLUSH_S)


class TransactionalSink(KafkaSink):
    """As `KafkaSink`, with a batch's messages, the quotes to remember and the offsets in one transaction.

    Parameters
    ----------
    memory_topic : str
        Takes the last quotes, in the partition of their input.
    commit_timeout : float
        Seconds that the brokers have to commit or abort a transaction: then the process ends itself, and its
        successor goes on from the last commit.
    fenced : callable
        Whether another process has taken this one's place, where a producer is no longer welcome.
    renew : callable
        Makes another producer with the same transactional id, where the brokers want no more of this one although
        nobody has taken its place: they have ended its transaction, as it took too long.
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
        renew: Callable[[], Any],
    ) -> None:
        super().__init__(producer, results_topic, letters_topic)
        self.memory_topic = memory_topic
        self.committed = self.aborted = 0  # transactions
        self._timeout = commit_timeout
        self._fenced = fenced
        self._renew = renew
        self._renewed = 0  # times since the last commit
        self._dead = False  # the brokers want no more of the producer

    def begin(self) -> None:
        self._ask("beginning", self.producer.begin_transaction)

    def remember(self, partition: int, key: bytes, value: bytes | None) -> None:
        self._send(self.memory_topic, value, key, partition=partition)

    def commit(self, offsets: Any = None) -> None:
        self._ask(
            "committing",
            lambda: self.producer.send_offsets_to_transaction(offsets.positions, offsets.generation),
            self.producer.commit_transaction,  # which fails where a message was not delivered
        )
        self.committed += 1
        self._renewed = 0

    def abort(self) -> None:
        self.aborted += 1
        if self._dead:
            self._replace()
        else:
            self._ask("aborting", self.producer.abort_transaction)

    def _replace(self) -> None:
        """Go on with another producer; taking up its name ends whatever the last one has left open."""
        self._renewed += 1
        self.producer.purge()
        with watched("starting another producer", self._timeout):
            self.producer = self._renew()
        self._dead = False

    def _ask(self, doing: str, *calls: Callable[[], Any]) -> None:
        what = f"{doing} a transaction"
        try:
            with watched(what, self._timeout):
                for call in calls:
                    _until_answered(call)
        except KafkaException as error:
            raise self._failure(what, _error_of(error), last=doing == "aborting") from None

    def _failure(self, what: str, error: Any, last: bool = False) -> SorError:
        """What an error within a transaction comes to; ``last``: the transaction cannot be aborted."""
        self._dead = error.fatal() or error.code() in UNWELCOME
        if not self._dead and not last:
            return AbortedError(f"{what}: {_story(error)}")
        if self._dead and self._fenced():
            return fenced()
        if last or self._renewed == NEW_PRODUCERS:
            return StreamError(f"{what}: {_story(error)}; a new process goes on from the last commit")
        return AbortedError(f"{what}: the brokers have ended it ({_story(error)})", unsure=True)

    def close(self) -> None:
        """What is not committed by now is not to be."""


__all__ = [
    "KafkaReader",
    "KafkaSink",
    "KafkaSource",
    "TransactionalSink",
    "connect_producer",
    "open_source",
]
