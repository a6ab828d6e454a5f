"""Rows of a file in a topic: sent without a gap, counted as they are acknowledged, and where to go on."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec

from sor.errors import StreamError
from sor.kafka import private
from sor.kafka.common import ClientError, Kind, stream_error
from sor.kafka.kafka_python import connect_admin, connect_consumer, limits_of, new_producer, partition_of, translated
from sor.kafka.security import Connection
from sor.kafka.waiting import Deadline, patience

IN_FLIGHT = 10_000  # messages sent and not yet confirmed by ``produce``
NEVER_MS = 2**31 - 1  # 24 days: no message is given up while those after it are delivered
LOOK_BACK = (1_000, 10_000, 100_000)  # offsets before a partition's end in which ``row`` headers are looked for
ASK_AGAIN_S = 0.1
POLL_MS = 500
ANSWER_MS = 10_000


def connect(connection: Connection, topic: str) -> Confirmed:
    """What sends rows to a topic that exists."""
    limits = limits_of(connection, [topic])
    producer = new_producer(connection, [topic], limits, delivery_timeout_ms=NEVER_MS)
    return Confirmed(producer, topic, connection.timing.flush)


class Confirmed:
    """Sends messages in order and counts those that the brokers have acknowledged, with a bound on those in flight.

    Each partition gets its messages without a gap, whatever fails: the producer sends one batch of a partition at a
    time, gives none up while it lives, and stops for good when the brokers refuse one. So what is in a partition is
    all that was to go there up to some row, and `rows_in` can tell where to go on.
    """

    def __init__(self, producer: Any, topic: str, seconds: float = 60.0) -> None:
        self.producer = producer
        self.topic = topic
        self._seconds = seconds  # to wait for an acknowledgement
        self.count = 0
        self._waiting: deque[Any] = deque()
        self._failure: Exception | None = None

    def send(self, key: str, value: bytes, row: int) -> None:
        with self._sending():
            future = self.producer.send(self.topic, value, key=key.encode(), headers=[("row", str(row).encode())])
        future.add_errback(self._stop)
        self._waiting.append(future)
        while self._waiting and (self._waiting[0].is_done or len(self._waiting) >= IN_FLIGHT):
            self._await_oldest()

    def _stop(self, error: Exception) -> None:
        """On the producer's thread, before it sends a partition's next batch: no message may get in past a gap."""
        self._failure = self._failure or error
        private.drop_messages(self.producer)

    def _await_oldest(self) -> None:
        with self._sending():
            self._waiting.popleft().get(timeout=self._seconds)
        self.count += 1

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        try:
            with translated():
                try:
                    yield
                except kafka_errors.KafkaError as error:
                    self._stop(error)
                    raise (self._failure or error) from None  # the first is the reason
        except ClientError as error:
            raise StreamError(f"sending to {self.topic}: {error}", retriable=error.kind is Kind.RETRIABLE) from None

    def finish(self) -> None:
        """Wait for what is still in flight."""
        with contextlib.suppress(kafka_errors.KafkaError):  # each message tells what became of it
            self.producer.flush(timeout=self._seconds)
        while self._waiting:
            self._await_oldest()

    def close(self) -> None:
        with contextlib.suppress(ClientError), translated():  # a message not delivered has been told by now
            self.producer.close(timeout=self._seconds)


# --- what a topic has already ----------------------------------------------------------------------------------------


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
    consumer = connect_consumer(connection, "consumer", isolation_level="read_uncommitted")
    seconds = connection.timing.flush
    try:
        with translated():
            partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            ends = _settled_ends(connection, consumer, partitions)
            begins = consumer.beginning_offsets(partitions)
            rows: dict[int, int] = {}
            for back in LOOK_BACK:
                starts = {tp: max(begins[tp], ends[tp] - back) for tp in partitions if tp.partition not in rows}
                rows |= _rows_between(consumer, starts, ends, len(partitions), seconds)
    except ClientError as error:
        raise stream_error(f"reading the end of {topic}", error) from None
    finally:
        with contextlib.suppress(ClientError), translated():
            consumer.close(autocommit=False)
    return RowsSent({tp.partition: rows.get(tp.partition, 0) for tp in partitions}, begins == ends)


def _settled_ends(connection: Connection, consumer: Any, partitions: list[Any]) -> dict[Any, int]:
    """The ends of partitions, once all replicas have all that the leaders had when asked.

    What a killed producer sent last may be in a leader's log and not yet be shown to consumers, for half a minute
    where a replica has just died. Who took it for missing would send it again.
    """
    admin = connect_admin(connection, private.LogEnds)
    seconds = connection.timing.flush
    deadline = Deadline(seconds)
    try:
        with patience(f"waiting until the replicas of {partitions[0].topic} agree on its end", seconds):
            while not deadline.passed:
                with _unless_final():
                    logs = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
                    ends: dict[Any, int] = consumer.end_offsets(partitions)
                    if all(ends[tp] >= logs[tp].offset for tp in partitions):
                        return ends
                deadline.pause(ASK_AGAIN_S)
    finally:
        admin.close()
    raise StreamError(
        f"the replicas of {partitions[0].topic} did not agree on its end within {seconds:g} s", retriable=True
    )


@contextlib.contextmanager
def _unless_final() -> Iterator[None]:
    """Lets errors pass that asking again may mend, as while a partition has no leader."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        if not (isinstance(error, kafka_errors.KafkaTimeoutError) or error.retriable):
            raise


def _rows_between(
    consumer: Any, starts: dict[Any, int], ends: dict[Any, int], count: int, seconds: float
) -> dict[int, int]:
    """The largest ``row`` header by partition, of partitions that have any."""
    left = {tp for tp, start in starts.items() if start < ends[tp]}
    consumer.assign(sorted(left))
    for tp in left:
        consumer.seek(tp, starts[tp])
    rows: dict[int, int] = {}
    deadline = Deadline(seconds)
    while left:
        if deadline.passed:
            raise kafka_errors.KafkaTimeoutError(f"nothing more came within {seconds:g} s")
        for tp, records in consumer.poll(timeout_ms=POLL_MS).items():
            deadline = Deadline(seconds)
            numbers = [number for record in records if (number := _row_of(record, count))]
            rows[tp.partition] = max([*numbers, rows.get(tp.partition, 0)])
        left = {tp for tp in left if consumer.position(tp, timeout_ms=ANSWER_MS) < ends[tp]}
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
