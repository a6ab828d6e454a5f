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
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.partitioner import murmur2

from sor.errors import AbortedError, FencedError, StreamError
from sor.kafka.common import (
    ASK_AGAIN_S,
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
from sor.kafka.handshake import greet, login_keywords
from sor.kafka.security import Connection
from sor.stream.messages import BATCH, KafkaPlace, Message

logger = logging.getLogger(__name__)

IN_FLIGHT = 10_000  # messages sent and not yet confirmed by ``produce``
NEVER_MS = 2**31 - 1  # 24 days: no message is given up while those after it are delivered
LOOK_BACK = (1_000, 10_000, 100_000)  # offsets before a partition's end in which ``row`` headers are looked for


@contextlib.contextmanager
def _connecting(what: str, connection: Connection) -> Iterator[None]:
    """Says plainly why a client could not be connected."""
    try:
        with awaiting_brokers(connection):
            if not greet(connection):
                raise no_broker(what, connection)
            yield
    except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError):
        raise no_broker(what, connection) from None
    except kafka_errors.KafkaError as error:
        raise StreamError(f"{what} at {connection.servers}: {_story(error)}") from None


def _story(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _common(connection: Connection) -> dict[str, Any]:
    return {
        "bootstrap_servers": connection.servers.split(","),
        "bootstrap_timeout_ms": int(connection.timeout * 1000),
        "reconnect_backoff_max_ms": RECONNECT_MS,
        "allow_auto_create_topics": False,
        **_security(connection),
    }


def _security(connection: Connection) -> dict[str, Any]:
    """The settings of `sor.kafka.security` under kafka-python's names."""
    secret = connection.key_password
    return {
        "security_protocol": connection.protocol.upper(),
        "ssl_cafile": connection.ca_file,
        "ssl_certfile": connection.cert_file,
        "ssl_keyfile": connection.key_file,
        "ssl_password": None if secret is None else secret.reveal(),
        **login_keywords(connection),
    }


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
            linger_ms=LINGER_MS,
            batch_size=BATCH_BYTES,
            compression_type="lz4",
            max_block_ms=int(max(connection.timeout, 1.0) * 1000),
            **_common(connection),
            **more,
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
        # Where the brokers have ended its transaction, this client would get itself a new epoch behind our back: it
        # would fence whoever has taken its place, and send the rest of the old batch without a transaction.
        producer._transaction_manager._supports_epoch_bump = lambda: False
        with _connecting("transactions", connection):
            producer.init_transactions()
    return producer


class KafkaReader:
    """Reads ranges of partitions, apart from any group (see `sor.stream.recovery.Reader`)."""

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
def _reading(topic: str, partition: int | None = None) -> Iterator[None]:
    where = topic if partition is None else f"{topic}:{partition}"
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise StreamError(f"reading {where}: {_story(error)}") from None


class KafkaFeed:
    """Follows partitions of a topic, apart from any group (see `sor.stream.orders.Feed`)."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self.topic = topic
        self._connection = connection
        self._next: dict[Any, int] = {}  # what comes next, by partition followed
        with _connecting("market data", connection):
            self._consumer = KafkaConsumer(
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # where the broker has deleted what comes next
                isolation_level="read_committed",
                fetch_max_wait_ms=100,
                metadata_max_age_ms=5_000,
                **_common(connection),
            )

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
        seconds = self._connection.timeout
        deadline = time.monotonic() + seconds
        where = f"topic {topic} does not exist at {self._connection.servers}"
        with _reading(topic), patience(f"{where} yet; waiting for it", seconds):
            while not (partitions := self._consumer.partitions_for_topic(topic)):
                if time.monotonic() > deadline:
                    raise StreamError(f"{where}, and nobody made it within {seconds:g} s")
                time.sleep(POLL_MS / 1e3)
        return len(partitions)

    def follow(self, partition: int, offset: int) -> None:
        place = TopicPartition(self.topic, partition)
        self._next[place] = offset
        self._consumer.assign(list(self._next))
        self._consumer.seek(place, offset)

    def leave(self, partition: int) -> None:
        self._next.pop(TopicPartition(self.topic, partition), None)
        self._consumer.assign(list(self._next))

    def poll(self, wait_ms: int) -> list[Any]:
        if not self._next:
            return []
        with _reading(self.topic):
            polled = self._consumer.poll(timeout_ms=wait_ms, max_records=BATCH)
            for place, offset in self._next.items():
                position = self._consumer.position(place, timeout_ms=POLL_MS)
                self._next[place] = offset if position is None else position
        return [record for records in polled.values() for record in records]

    def position(self, partition: int) -> int:
        return self._next[TopicPartition(self.topic, partition)]

    def ends(self, partitions: set[int], seconds: float) -> dict[int, int]:
        places = [TopicPartition(self.topic, partition) for partition in partitions]
        try:
            ends = self._consumer.end_offsets(places, timeout_ms=int(1e3 * seconds))
        except kafka_errors.KafkaError as error:
            logger.warning("cannot tell where %s ends: %s", self.topic, _story(error))
            return {}
        return {place.partition: end for place, end in ends.items()}

    def close(self) -> None:
        self._consumer.close()


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
    consumer = connect_consumer(connection, topic, identity, start, transactional)
    return KafkaSource(consumer, forget, transactional=transactional, wait_ms=wait_ms)


class KafkaSource:
    """Messages of a topic's partitions that the group has given to this consumer.

    Parameters
    ----------
    consumer : kafka.KafkaConsumer
    forget : callable
        Called with the partitions taken away, whose state has to go: another member may move on with them.
    transactional : bool
        The offsets are committed by the sink, with the results.
    wait_ms : callable, optional
        Asked at each poll for the longest wait for messages.
    """

    def __init__(
        self,
        consumer: Any,
        forget: Callable[[set[int]], None] = lambda partitions: None,
        *,
        transactional: bool = False,
        wait_ms: Callable[[], int] | None = None,
    ) -> None:
        self.consumer = consumer
        self.rebalances = 0
        self.lags: dict[tuple[str, int], int] = {}
        self._forget = forget
        self._transactional = transactional
        self._wait_ms = wait_ms or (lambda: POLL_MS)
        self._assigned: set[Any] = set()
        self._offsets: dict[Any, Any] = {}  # to commit
        self._starts: dict[Any, int] = {}  # of the last batch
        self._generation: Any = None
        self._member: tuple[str, int] | None = None  # who we were in the group, and in which generation
        self._look_again = 0.0
        self._static = consumer.config["group_instance_id"] is not None
        self._returning = self._static  # perhaps: the group may know it from before

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
            polled = self.consumer.poll(timeout_ms=self._wait_ms(), max_records=limit)
            # In this order: who has been given a newer generation than these records were polled in has, by then,
            # also let go of the partitions that it lost.
            self._generation = self.consumer.group_metadata()
            assigned = set(self.consumer.assignment())
        except kafka_errors.FencedInstanceIdError:
            raise fenced() from None
        except kafka_errors.KafkaError as error:
            raise StreamError(f"consuming: {_story(error)}") from None
        if self._returning and self._generation.generation_id >= 0:
            self._join_once_more()
        if self._was_away():
            self._start_over(assigned)
            return []
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
        if time.monotonic() >= self._look_again:
            self._look_at_ends()
            if self._static and not polled:
                self._check_fenced()
        return [message for tp, records in polled.items() for message in self._messages(tp, records)]

    def _was_away(self) -> bool:
        """Whether others may have answered for our partitions since the last poll, although they are ours again.

        The client keeps the positions of a member that is put out of the group while it joins again, and between two
        polls a partition can be given away and come back.
        """
        member, generation = self._generation.member_id, self._generation.generation_id
        if generation < 0:
            return False
        last, self._member = self._member, (member, generation)
        return last is not None and (last[0] != member or generation > last[1] + 1)

    def _start_over(self, assigned: set[Any]) -> None:
        """Go on with every partition from what the group has committed, as if it were new."""
        logger.info("came back to the group: going on from what it has committed")
        self._forget({tp.partition for tp in self._assigned})
        self._assigned, self._starts, self._offsets = set(), {}, {}
        self.lags.clear()
        self._rebalanced(assigned, {})

    def _look_at_ends(self) -> None:
        """Ask how much there is: what the client remembers of it would not grow where its fetching stands still."""
        self._look_again = time.monotonic() + LOOK_S
        try:
            ends = self.consumer.end_offsets(list(self._assigned), timeout_ms=POLL_MS)
            lags = {tp: end - (self.consumer.position(tp, timeout_ms=POLL_MS) or end) for tp, end in ends.items()}
        except (kafka_errors.KafkaError, ValueError):
            return  # a broker that does not answer: what was known last holds
        self.lags = {(tp.topic, tp.partition): max(0, lag) for tp, lag in lags.items()}

    def _join_once_more(self) -> None:
        """Ask for another rebalance, which moves nothing where all is well.

        A named member that comes back gets its last assignment, without a rebalance. Were all killed between the two
        rounds of a cooperative one, the partitions given up in the first would be nobody's for ever.
        """
        self._returning = False
        self.consumer._coordinator.request_rejoin()

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
            found = {tp: self._committed(tp) for tp in list(self._assigned)[:1]}
            self.consumer.commit({tp: _next(at) for tp, at in found.items() if at is not None}, timeout_ms=COMMIT_MS)
        except kafka_errors.FencedInstanceIdError:
            raise fenced() from None
        except kafka_errors.KafkaError as error:
            logger.debug("cannot tell whether this member is fenced: %s", _story(error))

    def offsets(self) -> Offsets:
        return Offsets(self._offsets, self._generation)

    def rewind(self, unsure: bool = False) -> None:
        held = self.consumer.assignment()
        again = {tp: offset for tp, offset in self._starts.items() if tp in held}
        for tp, offset in again.items():
            self.consumer.seek(tp, offset)
        self._offsets, self._starts = {}, {}
        if unsure:
            self._find_starts(set(again), {})

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
        self._find_starts(new, polled)

    def _find_starts(self, partitions: set[Any], polled: dict[Any, Any]) -> None:
        """Begin where the group stands, whatever the client has found; what it has read from elsewhere is dropped.

        A partition without a commit gets one, so that what arrives while nobody consumes is not lost.
        """
        starts = {}
        try:
            for tp in partitions:
                stands = self._committed(tp)
                found = polled[tp][0].offset if tp in polled else self.consumer.position(tp, timeout_ms=COMMIT_MS)
                if stands is None:
                    starts[tp] = found
                elif stands != found:
                    polled.pop(tp, None)
                    self.consumer.seek(tp, stands)
                    logger.info("%s:%d goes on at %d, not at %s", tp.topic, tp.partition, stands, found)
        except kafka_errors.KafkaError as error:
            if self._transactional:
                raise StreamError(f"cannot tell where the group stands: {_story(error)}") from None
            logger.warning("cannot tell where the group stands: %s", _story(error))
        known = {tp: _next(offset) for tp, offset in starts.items() if offset is not None}
        if known:
            self._commit(known)

    def _committed(self, tp: Any) -> int | None:
        """What the group has committed, as the brokers say now.

        kafka-python keeps a request whose answer it did not wait for, and would give that answer, however old, to the
        next who asks for the same partitions.
        """
        self.consumer._coordinator._offset_fetch_futures.clear()
        return self.consumer.committed(tp, timeout_ms=COMMIT_MS)  # type: ignore[no-any-return]

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
        self._queue: list[tuple[str, bytes | None, bytes | None, Any, int | None]] = []
        self._counts: dict[str, int] = {}  # of partitions, by topic

    def begin(self) -> None:
        self._queue = []
        self._counts = {}  # a topic may have got more

    def _partition(self, topic: str, key: bytes | None) -> int | None:
        """Where the client would put the key; it takes longer to find that out, message by message."""
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = len(self.producer.partitions_for(topic))
        return None if key is None else partition_of(key, count)

    def _send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Any = None, partition: int | None = None
    ) -> None:
        # All at once in `commit`: the client's own thread would take its turns between two messages, and send a few of
        # them at a time.
        self._queue.append((topic, value, key, headers, partition))

    def _send_all(self) -> list[Any]:
        queue, self._queue = self._queue, []
        return [
            self.producer.send(
                topic, value, key, headers, self._partition(topic, key) if partition is None else partition
            )
            for topic, value, key, headers, partition in queue
        ]

    def commit(self, offsets: Any = None) -> None:
        try:
            futures = self._send_all()
        except kafka_errors.KafkaError as error:
            raise StreamError(f"sending: {_story(error)}") from None
        flush(self.producer, futures)

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

    def begin(self) -> None:
        super().begin()
        # What an aborted transaction had left to commit kafka-python would commit with the next: offsets of partitions
        # that another member may have moved on with.
        self.producer._transaction_manager._pending_txn_offset_commits.clear()
        try:
            self.producer.begin_transaction()
        except kafka_errors.KafkaError as error:
            self._fail("beginning a transaction", error)

    def remember(self, partition: int, key: bytes, value: bytes | None) -> None:
        self._send(self.memory_topic, value, key, partition=partition)

    def commit(self, offsets: Any = None) -> None:
        what = "committing a transaction"
        try:
            self._send_all()
            with watched(what, self._timeout):
                self.producer.send_offsets_to_transaction(offsets.positions, offsets.generation)
                self.producer.commit_transaction()
        except kafka_errors.KafkaError as error:
            self._fail(what, error)
        self.committed += 1
        self._renewed = 0

    def abort(self) -> None:
        self.aborted += 1
        if self._is_dead():
            self._replace()
            return
        what = "aborting a transaction"
        try:
            with watched(what, self._timeout):
                self.producer.abort_transaction()
        except kafka_errors.KafkaError as error:
            self._fail(what, error, last=True)

    def _is_dead(self) -> bool:
        return self.producer._transaction_manager.has_fatal_error()  # type: ignore[no-any-return]

    def _replace(self) -> None:
        """Go on with another producer; taking up its name ends whatever the last one has left open."""
        self._renewed += 1
        self.producer._sender.force_close()  # else closing waits for messages that nobody will take
        with contextlib.suppress(kafka_errors.KafkaError):
            self.producer.close(timeout=1)
        with watched("starting another producer", self._timeout):
            self.producer = self._renew()

    def _fail(self, what: str, error: Exception, last: bool = False) -> NoReturn:
        """Raise what an error within a transaction comes to; ``last``: the transaction cannot be aborted."""
        if not last and not self._is_dead():
            raise AbortedError(f"{what}: {_story(error)}") from None
        if self._fenced():
            raise fenced() from None
        if last or self._renewed == NEW_PRODUCERS:
            raise StreamError(f"{what}: {_story(error)}; a new process goes on from the last commit") from None
        raise AbortedError(f"{what}: the brokers have ended it ({_story(error)})", unsure=True) from None


def ask(
    connection: Connection,
    question: tuple[str, bytes, bytes],
    answers_topic: str,
    is_answer: Callable[[bytes | None, bytes], bool],
    timeout: float,
) -> tuple[KafkaPlace, bytes | None]:
    """Send one message and wait for what answers it.

    Parameters
    ----------
    question : (topic, key, value)
    answers_topic : str
        Read, committed messages only, from where it ended before the question was sent.
    is_answer : callable
        Whether a (key, value) is the answer.
    timeout : float
        Seconds to wait.

    Returns
    -------
    place : KafkaPlace
        Of the question.
    answer : bytes or None
        None where there was none in time.

    Raises
    ------
    ConnectError, StreamError
    """
    topic, key, value = question
    with contextlib.ExitStack() as stack:
        producer = connect_producer(connection, [topic, answers_topic])
        stack.callback(producer.close, timeout=FLUSH_S)
        with _connecting("consumer", connection):
            consumer = KafkaConsumer(
                group_id=None, enable_auto_commit=False, isolation_level="read_committed", **_common(connection)
            )
        stack.callback(consumer.close)
        with _reading(answers_topic):
            places = [TopicPartition(answers_topic, number) for number in consumer.partitions_for_topic(answers_topic)]
            consumer.assign(places)
            for place, end in consumer.end_offsets(places, timeout_ms=COMMIT_MS).items():
                consumer.seek(place, end)
        try:
            sent = producer.send(topic, value, key=key).get(timeout=FLUSH_S)
        except kafka_errors.KafkaError as error:
            raise StreamError(f"sending to {topic}: {_story(error)}") from None
        asked = KafkaPlace(topic, sent.partition, sent.offset)
        deadline = time.monotonic() + timeout
        with _reading(answers_topic):
            while (left := deadline - time.monotonic()) > 0:
                for records in consumer.poll(timeout_ms=min(POLL_MS, int(1e3 * left) + 1)).values():
                    for record in records:
                        if is_answer(record.key, record.value or b""):
                            return asked, record.value or b""
        return asked, None


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
            if not future.succeeded():
                future.get(timeout=FLUSH_S)  # it has failed, or waits for a batch that had to be split
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
        with patience(f"waiting until the replicas of {partitions[0].topic} agree on its end", FLUSH_S):
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
    "KafkaFeed",
    "KafkaReader",
    "KafkaSink",
    "KafkaSource",
    "RowsSent",
    "connect_admin",
    "connect_consumer",
    "TransactionalSink",
    "open_source",
    "ask",
    "connect_producer",
    "partition_of",
    "rows_in",
]
