"""Kafka as source and sink, on kafka-python; imported only by the commands that need it.

Exactly once: a batch's results, dead letters, books and offsets are one transaction, and the offsets go with the
group's generation of when the batch was polled, so that who has lost its partitions cannot commit.
At least once: a batch's results are acknowledged by the brokers before its offsets are committed, so a crash
repeats messages and loses none.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.partitioner import murmur2

from sor.config import Connection
from sor.errors import HUNG, AbortedError, ConnectError, FencedError, StreamError
from sor.handshake import greet, login_keywords
from sor.market_data.fields import iso_of
from sor.streams import BATCH, DeadLetter, KafkaPlace, Message, Sink

logger = logging.getLogger(__name__)

POLL_MS = 500  # longest wait for messages, and so for a signal to be seen
COMMIT_MS = 10_000
FLUSH_S = 60.0
TRANSACTION_MS = 15_000  # after which the brokers end the transaction of a producer that has died
RECOVERY_S = 60.0  # longer than that, and the brokers would have ended whatever transaction stands in the way
LOOK_S = 5.0  # between two looks at how much there is to read
FENCED_S = 10.0  # for a member to be told that another has joined in its place
PATIENCE_S = 2.0  # after which a silent broker is worth a line
LARGEST_LETTER = 2**20 - 2**13  # bytes of key and value: a message of 1 MB and its headers would not fit the limit
LARGEST_KEY = 2**10  # bytes of a dead letter's key; the key of market data is a symbol
IN_FLIGHT = 10_000  # messages sent and not yet confirmed by ``produce``
NEVER_MS = 2**31 - 1  # 24 days: no message is given up while those after it are delivered
LOOK_BACK = (1_000, 10_000, 100_000)  # offsets before a partition's end in which ``row`` headers are looked for
ASK_AGAIN_S = 0.1


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


class Identity(NamedTuple):
    """Who a consumer is in its group."""

    group: str
    instance: str | None  # stable over restarts: the membership is static; None: a member like any other
    worker: int = 0

    @property
    def member(self) -> str | None:
        return None if self.instance is None else f"{self.instance}-{self.worker}"

    @property
    def transactional_id(self) -> str:
        """Who starts anew under this name ends the transactions of who had it before."""
        return f"{self.group}-{self.instance or uuid.uuid4()}-{self.worker}"


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


def connect_producer(
    connection: Connection, topics: Sequence[str], transactional_id: str | None = None, **more: Any
) -> Any:
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
            enable_idempotence=True,  # the default, but one that gives way in silence to settings in its way
            linger_ms=5,
            batch_size=128 * 1024,
            compression_type="lz4",
            max_block_ms=int(max(connection.timeout, 1.0) * 1000),
            **_common(connection),
            **more,
        )
    where = f"topic {{}} does not exist at {connection.servers}"
    for topic in topics:
        try:
            with _patience(f"{where.format(topic)} yet; waiting for it", connection.timeout):
                producer.partitions_for(topic)
        except kafka_errors.KafkaError:
            producer.close(timeout=0)
            raise StreamError(f"{where.format(topic)}, and nobody made it within {connection.timeout:g} s") from None
    if transactional_id is not None:
        # Where the brokers have ended its transaction, this client would get itself a new epoch behind our back: it
        # would fence whoever has taken its place, and send the rest of the old batch without a transaction.
        producer._transaction_manager._supports_epoch_bump = lambda: False
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
                fetch_max_wait_ms=100,
                **_common(connection),
            )
            self._last = KafkaConsumer(  # sees where a log ends beyond open transactions
                group_id=None, enable_auto_commit=False, isolation_level="read_uncommitted", **_common(connection)
            )

    def make_like(self, topic: str, like: str) -> None:
        admin = connect_admin(self.connection)
        with contextlib.closing(admin), _connecting("admin client", self.connection):
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


class Offsets(NamedTuple):
    """How far a batch goes, and the group's generation when it was polled."""

    positions: dict[Any, Any]
    generation: Any


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
        self._look_again = 0.0
        self._static = consumer.config["group_instance_id"] is not None

    @property
    def partitions(self) -> set[int]:
        return {tp.partition for tp in self._assigned}

    def place_of(self, partition: int) -> KafkaPlace | None:
        for tp in self._assigned:
            if tp.partition == partition:
                offset = self._starts.get(tp)
                if offset is None:
                    offset = self._position(tp)
                return None if offset is None else KafkaPlace(tp.topic, partition, offset)
        return None

    def _position(self, tp: Any) -> int | None:
        try:
            return self.consumer.position(tp, timeout_ms=COMMIT_MS)  # type: ignore[no-any-return]
        except kafka_errors.KafkaError as error:
            logger.warning("cannot tell where %s:%d stands: %s", tp.topic, tp.partition, _story(error))
            return None

    def poll(self, limit: int) -> list[Message] | None:
        try:
            polled = self.consumer.poll(timeout_ms=POLL_MS, max_records=limit)
            # In this order: who has been given a newer generation than these records were polled in has, by then,
            # also let go of the partitions that it lost.
            self._generation = self.consumer.group_metadata()
            assigned = set(self.consumer.assignment())
        except kafka_errors.FencedInstanceIdError:
            raise _fenced() from None
        except kafka_errors.KafkaError as error:
            raise StreamError(f"consuming: {_story(error)}") from None
        if assigned != self._assigned:
            self._rebalanced(assigned, polled)
        polled = {tp: records for tp, records in polled.items() if tp in assigned}
        if not polled and self._offsets:
            self.commit()  # what an earlier commit left
        self._starts = {tp: records[0].offset for tp, records in polled.items()}
        self._offsets |= {tp: _next(records[-1].offset + 1) for tp, records in polled.items()}
        if time.monotonic() >= self._look_again:
            self._look_at_ends()
            if self._static and not polled:
                self._check_fenced()
        return [message for tp, records in polled.items() for message in self._messages(tp, records)]

    def _look_at_ends(self) -> None:
        """Ask how much there is: what the client remembers of it would not grow where its fetching stands still."""
        self._look_again = time.monotonic() + LOOK_S
        try:
            ends = self.consumer.end_offsets(list(self._assigned), timeout_ms=POLL_MS)
            lags = {tp: end - (self.consumer.position(tp, timeout_ms=POLL_MS) or end) for tp, end in ends.items()}
        except (kafka_errors.KafkaError, ValueError):
            return  # a broker that does not answer: what was known last holds
        self.lags = {(tp.topic, tp.partition): max(0, lag) for tp, lag in lags.items()}

    def _messages(self, tp: Any, records: Sequence[Any]) -> Iterator[Message]:
        end = self.consumer.highwater(tp) or records[-1].offset + 1
        self.lags[tp.topic, tp.partition] = max(0, end - 1 - records[-1].offset)
        for record in records:
            place = KafkaPlace(tp.topic, tp.partition, record.offset)
            lag = max(0, end - 1 - record.offset)
            yield Message(record.value or b"", place, record.key, tp.partition, record.timestamp, lag)

    def is_fenced(self) -> bool:
        """Whether another process has joined the group with this one's instance id; waits for it to do so."""
        deadline = time.monotonic() + FENCED_S
        try:
            while self._static and time.monotonic() < deadline:
                self._check_fenced()
                time.sleep(POLL_MS / 1e3)
        except FencedError:
            return True
        return False

    def _check_fenced(self) -> None:
        """A fenced member is told so only where it commits, so commit once more what is committed."""
        try:
            found = {tp: self.consumer.committed(tp, timeout_ms=COMMIT_MS) for tp in list(self._assigned)[:1]}
            self.consumer.commit({tp: _next(at) for tp, at in found.items() if at is not None}, timeout_ms=COMMIT_MS)
        except kafka_errors.FencedInstanceIdError:
            raise _fenced() from None
        except kafka_errors.KafkaError as error:
            logger.debug("cannot tell whether this member is fenced: %s", _story(error))

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
            raise _fenced() from None
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
        self._counts: dict[str, int] = {}  # of partitions, by topic

    def begin(self) -> None:
        self._counts = {}  # a topic may have got more

    def _partition(self, topic: str, key: bytes | None) -> int | None:
        """Where the client would put the key; it takes longer to find that out, message by message."""
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = len(self.producer.partitions_for(topic))
        return None if key is None else partition_of(key, count)

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
        key = letter.key
        if key is not None and len(key) > LARGEST_KEY:
            facts["sor.key_length"] = str(len(key))
            key = key[:LARGEST_KEY]
        headers = [(name, text.encode(errors="replace")) for name, text in facts.items()]
        self._send(self.letters_topic, letter.value[: LARGEST_LETTER - len(key or b"")], key, headers)

    def _send(self, topic: str, value: bytes, key: bytes | None, headers: Any = None) -> None:
        try:
            partition = self._partition(topic, key)
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
        super().begin()
        try:
            self.producer.begin_transaction()
        except kafka_errors.KafkaError as error:
            self._fail("beginning a transaction", error)

    def remember(self, partition: int, key: bytes, value: bytes) -> None:
        self._send(self.memory_topic, value, key, partition=partition)

    def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: Any = None, partition: int | None = None
    ) -> None:
        try:
            if partition is None:
                partition = self._partition(topic, key)
            self.producer.send(topic, value, key=key, headers=headers, partition=partition)
        except kafka_errors.KafkaError as error:
            self._fail("sending within a transaction", error)

    def commit(self, offsets: Any = None) -> None:
        what = "committing a transaction"
        try:
            with _watched(what, self._timeout):
                self.producer.send_offsets_to_transaction(offsets.positions, offsets.generation)
                self.producer.commit_transaction()
        except kafka_errors.KafkaError as error:
            self._fail(what, error)
        self.committed += 1

    def abort(self) -> None:
        self.aborted += 1
        what = "aborting a transaction"
        try:
            with _watched(what, self._timeout):
                self.producer.abort_transaction()
        except kafka_errors.KafkaError as error:
            self._fail(what, error, last=True)

    def _fail(self, what: str, error: Exception, last: bool = False) -> NoReturn:
        """Raise what an error comes to; ``last``: the transaction cannot be aborted."""
        if not last and not self.producer._transaction_manager.has_fatal_error():
            raise AbortedError(f"{what}: {_story(error)}") from None
        if self._fenced():
            raise _fenced() from None
        raise StreamError(f"{what}: {_story(error)}; a new process goes on from the last commit") from None


def _fenced() -> FencedError:
    return FencedError("fenced: another process has this instance id and has taken over; this one must not go on")


@contextlib.contextmanager
def _watched(what: str, seconds: float) -> Iterator[None]:
    """End the process where ``what`` takes longer: the client has no time-out of its own for it."""

    def give_up() -> None:
        logger.error("%s took more than %g s: ending, so that a successor can go on (status %d)", what, seconds, HUNG)
        logging.shutdown()
        os._exit(HUNG)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
    """Sends messages in order and counts those that the brokers have acknowledged, with a bound on those in flight.

    Each partition gets its messages without a gap, whatever fails: the producer sends one batch of a partition at a
    time, gives none up while it lives, and stops for good when the brokers refuse one. So what is in a partition is
    all that was to go there up to some row, and `rows_in` can tell where to go on.
    """

    def __init__(self, producer: Any, topic: str) -> None:
        self.producer = producer
        self.topic = topic
        self.count = 0
        self._waiting: deque[Any] = deque()
        self._failure: Exception | None = None

    def send(self, key: str, value: bytes, row: int) -> None:
        try:
            future = self.producer.send(self.topic, value, key=key.encode(), headers=[("row", str(row).encode())])
        except kafka_errors.KafkaError as error:
            raise self._failed(error) from None
        future.add_errback(self._stop)
        self._waiting.append(future)
        while self._waiting and (self._waiting[0].is_done or len(self._waiting) >= IN_FLIGHT):
            self._await_oldest()

    def _stop(self, error: Exception) -> None:
        """On the producer's thread, before it sends a partition's next batch: no message may get in past a gap."""
        self._failure = self._failure or error
        self.producer._sender.force_close()

    def _await_oldest(self) -> None:
        try:
            self._waiting.popleft().get(timeout=FLUSH_S)
        except kafka_errors.KafkaError as error:
            self._stop(error)
            raise self._failed(error) from None
        self.count += 1

    def _failed(self, error: Exception) -> StreamError:
        return StreamError(f"sending to {self.topic}: {_story(self._failure or error)}")  # the first is the reason

    def finish(self) -> None:
        """Wait for what is still in flight."""
        try:
            self.producer.flush(timeout=FLUSH_S)
        except kafka_errors.KafkaError as error:
            self._stop(error)
        while self._waiting:
            self._await_oldest()

    def close(self) -> None:
        with contextlib.suppress(kafka_errors.KafkaError):  # a message not delivered has been told by now
            self.producer.close(timeout=FLUSH_S)


# --- what a topic has already ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=100_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Where a message with this key goes: what kafka-python and the Java client do by default."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class RowsSent(NamedTuple):
    """How far a producer has come, by partition."""

    rows: dict[int, int]  # the largest row in each partition's tail, 0 where there is none
    empty: bool  # the topic has no message at all

    def has(self, symbol: str, row: int) -> bool:
        return row <= self.rows[partition_of(symbol.encode(), len(self.rows))]


def rows_in(connection: Connection, topic: str) -> RowsSent:
    """The largest ``row`` header in the tail of each partition.

    One producer sends a file's rows in order, and Kafka keeps the order within a partition. So a row is in the topic
    if, and only if, its number is not above the largest in the tail of *its* partition, that of its symbol. The
    largest of the whole topic would not do: when a producer dies, a later row may be in one partition while an
    earlier one, bound for another, is not.

    Read is back to `LOOK_BACK` offsets before the end, further where the nearer ones have no row; markers of
    transactions and gaps left by compaction are offsets without a message. It is read uncommitted: the rows are not
    part of a transaction, and one that somebody has left open would hide those after it.

    Raises
    ------
    ConnectError, StreamError
        Also where a row is in a partition that its key does not lead to: the topic has got more partitions since.
    """
    with _connecting("consumer", connection):
        consumer = KafkaConsumer(group_id=None, enable_auto_commit=False, **_common(connection))
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        ends = _settled_ends(connection, consumer, partitions)
        begins = consumer.beginning_offsets(partitions)
        rows: dict[int, int] = {}
        for back in LOOK_BACK:
            starts = {tp: max(begins[tp], ends[tp] - back) for tp in partitions if tp.partition not in rows}
            rows |= _rows_between(consumer, starts, ends, len(partitions))
    except kafka_errors.KafkaError as error:
        raise StreamError(f"reading the end of {topic}: {_story(error)}") from None
    finally:
        consumer.close(autocommit=False, timeout_ms=COMMIT_MS)
    return RowsSent({tp.partition: rows.get(tp.partition, 0) for tp in partitions}, begins == ends)


class _LogEnds(KafkaAdminClient):  # type: ignore[misc]
    """Asks as a replica for the end of a log, where a consumer is told only how far all replicas have got."""

    @staticmethod
    def _list_partition_offsets_request(*arguments: Any) -> Any:
        request = KafkaAdminClient._list_partition_offsets_request(*arguments)
        request.replica_id = -2  # "debugging": any client may
        return request


def _settled_ends(connection: Connection, consumer: Any, partitions: list[Any]) -> dict[Any, int]:
    """The ends of partitions, once all replicas have all that the leaders had when asked.

    What a killed producer sent last may be in a leader's log and not yet be shown to consumers, for half a minute
    where a replica has just died. Who took it for missing would send it again.
    """
    admin = connect_admin(connection, _LogEnds)
    deadline = time.monotonic() + FLUSH_S
    try:
        with _patience(f"waiting until the replicas of {partitions[0].topic} agree on its end", FLUSH_S):
            while time.monotonic() < deadline:
                with _unless_final():
                    logs = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
                    ends: dict[Any, int] = consumer.end_offsets(partitions)
                    if all(ends[tp] >= logs[tp].offset for tp in partitions):
                        return ends
                time.sleep(ASK_AGAIN_S)
    finally:
        admin.close()
    raise StreamError(
        f"the replicas of {partitions[0].topic} did not agree on its end within {FLUSH_S:g} s", retriable=True
    )


@contextlib.contextmanager
def _unless_final() -> Iterator[None]:
    """Lets errors pass that asking again may mend, as while a partition has no leader."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        if not (isinstance(error, kafka_errors.KafkaTimeoutError) or error.retriable):
            raise


def _rows_between(consumer: Any, starts: dict[Any, int], ends: dict[Any, int], count: int) -> dict[int, int]:
    """The largest ``row`` header by partition, of partitions that have any."""
    left = {tp for tp, start in starts.items() if start < ends[tp]}
    consumer.assign(sorted(left))
    for tp in left:
        consumer.seek(tp, starts[tp])
    rows: dict[int, int] = {}
    deadline = time.monotonic() + FLUSH_S
    while left:
        if time.monotonic() > deadline:
            raise kafka_errors.KafkaTimeoutError(f"nothing more came within {FLUSH_S:g} s")
        for tp, records in consumer.poll(timeout_ms=POLL_MS).items():
            deadline = time.monotonic() + FLUSH_S
            numbers = [number for record in records if (number := _row_of(record, count))]
            rows[tp.partition] = max([*numbers, rows.get(tp.partition, 0)])
        left = {tp for tp in left if consumer.position(tp, timeout_ms=COMMIT_MS) < ends[tp]}
    return {partition: row for partition, row in rows.items() if row}


def _row_of(record: Any, count: int) -> int | None:
    text: bytes = dict(record.headers).get("row") or b""
    if not text.isdigit() or len(text) > 18:
        return None
    if record.key is not None and (due := partition_of(record.key, count)) != record.partition:
        raise StreamError(
            f"{record.topic} has row {int(text)} in partition {record.partition} and not in {due}, where its key "
            f"leads among {count}: it has got more partitions since, so --resume cannot tell which rows it has"
        )
    return int(text)


def connect_admin(connection: Connection, kind: Any = KafkaAdminClient) -> Any:
    """A client for questions about the cluster."""
    configuration = _common(connection)
    del configuration["allow_auto_create_topics"]  # it makes none of itself
    with _connecting("admin", connection):
        return kind(**configuration)


__all__ = [
    "Confirmed",
    "Identity",
    "KafkaReader",
    "KafkaSink",
    "KafkaSource",
    "RowsSent",
    "connect_admin",
    "connect_consumer",
    "TransactionalSink",
    "connect_producer",
    "partition_of",
    "rows_in",
]
