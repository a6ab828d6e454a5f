"""What the modules of both Kafka clients share: patience, identity, the watch over a commit, what a letter says."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

from sor.errors import ConnectError, Exit, FencedError
from sor.kafka.security import Connection
from sor.market.fields import iso_of
from sor.stream.messages import DeadLetter, Sink

logger = logging.getLogger(__name__)

POLL_MS = 500  # longest wait for messages, and so for a signal to be seen
COMMIT_MS = 10_000
FLUSH_S = 60.0
SESSION_MS = 10_000  # after which a member that is not heard of has lost its partitions
HEARTBEAT_MS = 1_000
TRANSACTION_MS = 15_000  # after which the brokers end the transaction of a producer that has died
METADATA_MS = 5_000  # a topic made after the start is seen soon
FETCH_MS = 100  # on an idle topic only: a message ends the wait
LINGER_MS = 5
BATCH_BYTES = 128 * 1024
RECONNECT_MS = 1_000  # the pause grows by default: a broker that comes up would be missed
RECOVERY_S = 60.0  # longer than that, and the brokers would have ended whatever transaction stands in the way
LOOK_S = 5.0  # between two looks at how much there is to read
FENCED_S = 10.0  # for a member to be told that another has joined in its place
NEW_PRODUCERS = 3  # in a row, after which it is no accident that the brokers want none
ASK_AGAIN_S = 0.1
PATIENCE_S = 2.0  # after which a silent broker is worth a line
LARGEST_LETTER = 2**20 - 2**13  # bytes of key and value: a message of 1 MB and its headers would not fit the limit
LARGEST_KEY = 2**10  # bytes of a dead letter's key; the key of market data is a symbol


@contextlib.contextmanager
def patience(line: str, seconds: float) -> Iterator[None]:
    """Log ``line`` once where what follows takes long, but not where it is about to fail anyway."""
    timer = threading.Timer(PATIENCE_S, logger.warning, (line,))
    timer.daemon = True
    if seconds > 2 * PATIENCE_S:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def awaiting_brokers(connection: Connection) -> contextlib.AbstractContextManager[None]:
    seconds = connection.timeout
    return patience(f"no Kafka broker answers at {connection.servers} yet; trying for {seconds:g} s", seconds)


def no_broker(what: str, connection: Connection) -> ConnectError:
    return ConnectError(
        f"no Kafka broker answered at {connection.servers} within {connection.timeout:g} s ({what}): "
        "is it running, and is --kafka-servers right?"
    )


def fenced() -> FencedError:
    return FencedError("fenced: another process has this instance id and has taken over; this one must not go on")


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


class Offsets(NamedTuple):
    """How far a batch goes, and the group's generation when it was polled; in the client's own types."""

    positions: Any
    generation: Any


class TopicSink(Sink, ABC):
    """Results, dead letters or both to topics, keyed by symbol.

    Parameters
    ----------
    results_topic, letters_topic : str, optional
        None: that kind is not sent.
    """

    def __init__(self, results_topic: str | None, letters_topic: str | None) -> None:
        self.results_topic = results_topic
        self.letters_topic = letters_topic

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

    @abstractmethod
    def _send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Any = None, partition: int | None = None
    ) -> None:
        """Hand a message to the client, which chooses the partition by the key where none is given."""


@contextlib.contextmanager
def watched(what: str, seconds: float) -> Iterator[None]:
    """End the process where ``what`` takes longer: nobody else would end a wait for a broker that does not answer."""

    def give_up() -> None:
        logger.error(
            "%s took more than %g s: ending, so that a successor can go on (status %d)", what, seconds, Exit.HUNG
        )
        logging.shutdown()
        os._exit(Exit.HUNG)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
