"""One message and its answer, as `sor order` needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kafka import TopicPartition

from sor.kafka.common import ClientError, stream_error
from sor.kafka.kafka_python import connect_consumer, limits_of, new_producer, translated
from sor.kafka.security import Connection
from sor.kafka.waiting import Deadline
from sor.stream.messages import KafkaPlace


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
    timing = connection.timing
    with contextlib.ExitStack() as stack:
        producer = new_producer(connection, [topic, answers_topic], limits_of(connection, [topic]))
        stack.callback(_closed, producer.close, timeout=timing.flush)
        consumer = connect_consumer(connection, "consumer")
        stack.callback(_closed, consumer.close)
        with _asking(f"reading {answers_topic}"):
            places = [TopicPartition(answers_topic, number) for number in consumer.partitions_for_topic(answers_topic)]
            consumer.assign(places)
            for place, end in consumer.end_offsets(places, timeout_ms=int(1e3 * timing.commit)).items():
                consumer.seek(place, end)
        with _asking(f"sending to {topic}"):
            sent = producer.send(topic, value, key=key).get(timeout=timing.flush)
        asked = KafkaPlace(topic, sent.partition, sent.offset)
        deadline = Deadline(timeout)
        with _asking(f"reading {answers_topic}"):
            while not deadline.passed:
                polled = consumer.poll(timeout_ms=int(1e3 * min(timing.poll, deadline.left)) + 1)
                for record in (record for records in polled.values() for record in records):
                    if is_answer(record.key, record.value or b""):
                        return asked, record.value or b""
        return asked, None


@contextlib.contextmanager
def _asking(doing: str) -> Iterator[None]:
    try:
        with translated():
            yield
    except ClientError as error:
        raise stream_error(doing, error) from None


def _closed(close: Callable[..., None], **how: float) -> None:
    with contextlib.suppress(ClientError), translated():  # what went wrong has been told by now
        close(**how)
