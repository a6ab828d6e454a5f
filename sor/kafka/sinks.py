"""Topics as sinks, over either client: what becomes of a batch, and of a transaction that goes wrong.

A batch in a transaction::

    idle ──begin──> begun ──commit──> idle            committed, once
                      │ an error
                      ├──> void ──abort──> idle       its messages come again
                      ├──> dead ──abort──> idle       with another producer under the same id; perhaps committed
                      └──> over                       fenced, refused, dead too often: an error for good
"""

from __future__ import annotations

import contextlib
import enum
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sor.errors import AbortedError, StreamError
from sor.kafka.common import ClientError, Kind, Offsets, fenced, stream_error
from sor.kafka.waiting import watched
from sor.market.fields import iso_of
from sor.stream.messages import DeadLetter, Sink

logger = logging.getLogger(__name__)

NEW_PRODUCERS = 3  # in a row, after which it is no accident that the brokers want none
LARGEST_LETTER = 2**20 - 2**13  # bytes of key and value: a message of 1 MB and its headers would not fit the limit
LARGEST_KEY = 2**10  # bytes of a dead letter's key; the key of market data is a symbol
LONGEST_DETAIL = 2**10  # bytes of the words on what is wrong with it
FRAME = 128  # bytes that a message costs beside its key, value and headers, at most

Headers = list[tuple[str, bytes]]


class Port(Protocol):
    """A producer of a client, behind what a sink needs of it; every call may raise `ClientError`."""

    limits: Mapping[str, int]  # bytes that a message to a topic may have, of the topics that tell

    def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers | None, partition: int | None
    ) -> None:
        """Hand over a message; the client chooses the partition by the key where none is given."""

    def flush(self) -> None:
        """Wait until every message has been acknowledged."""

    def begin(self) -> None:
        """Begin a transaction; what is left of an earlier one goes."""

    def commit(self, offsets: Offsets) -> None:
        """Commit the transaction with the offsets; fails where a message of it was not taken."""

    def abort(self) -> None: ...

    def discard(self) -> None:
        """Let go of a producer that the brokers want no more, with what it still holds."""

    def close(self) -> None:
        """End; what is not acknowledged by now is not waited for without end."""


class KafkaSink(Sink):
    """Results, dead letters or both to topics, keyed by symbol; ``commit`` waits for every acknowledgement.

    Parameters
    ----------
    port : Port
    results_topic, letters_topic : str, optional
        None: that kind is not sent.
    """

    def __init__(self, port: Port, results_topic: str | None, letters_topic: str | None) -> None:
        self.port = port
        self.results_topic = results_topic
        self.letters_topic = letters_topic

    def add(self, key: str, value: bytes) -> None:
        if self.results_topic is not None:
            self._send(self.results_topic, value, key.encode())

    def reject(self, letter: DeadLetter) -> None:
        """Send a letter, cut to what its topic takes; what was cut is told by its length."""
        topic = self.letters_topic
        if topic is None:
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
        headers = [(name, text.encode(errors="replace")[:LONGEST_DETAIL]) for name, text in facts.items()]
        room = LARGEST_LETTER
        if topic in self.port.limits:
            told = sum(len(name) + len(text) + 10 for name, text in headers)
            room = min(room, self.port.limits[topic] - told - FRAME)
        self._send(topic, letter.value[: max(0, room - len(key or b""))], key, headers)

    def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> None:
        try:
            self.port.send(topic, value, key, headers, partition)
        except ClientError as error:
            raise self._failure(f"sending to {topic}", error) from None

    def _failure(self, doing: str, error: ClientError) -> StreamError:
        return stream_error(doing, error)

    def commit(self, offsets: Any = None) -> None:
        try:
            self.port.flush()
        except ClientError as error:
            raise self._failure("the brokers did not take a message", error) from None

    def close(self) -> None:
        with contextlib.suppress(ClientError):  # a message not delivered has been told by now
            self.port.close()


class State(enum.Enum):
    """Of a batch; see the top of this module."""

    IDLE = "idle"
    BEGUN = "begun"
    VOID = "void"
    DEAD = "dead"
    OVER = "over"


class TransactionalSink(KafkaSink):
    """As `KafkaSink`, with a batch's messages, the quotes to remember and the offsets in one transaction.

    Parameters
    ----------
    memory_topic : str
        Takes the last quotes, in the partition of their input.
    commit_timeout : float
        Seconds that the brokers have to begin, commit or abort a transaction: the client might wait for ever, so the
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
        port: Port,
        results_topic: str | None,
        letters_topic: str | None,
        memory_topic: str,
        commit_timeout: float,
        fenced: Callable[[], bool],
        renew: Callable[[], Port],
    ) -> None:
        super().__init__(port, results_topic, letters_topic)
        self.memory_topic = memory_topic
        self.committed = self.aborted = 0  # transactions
        self.state = State.IDLE
        self._timeout = commit_timeout
        self._fenced = fenced
        self._renew = renew
        self._renewed = 0  # producers since the last commit

    def begin(self) -> None:
        self._do("beginning", self.port.begin)
        self.state = State.BEGUN

    def remember(self, partition: int, key: bytes, value: bytes | None) -> None:
        self._send(self.memory_topic, value, key, partition=partition)

    def commit(self, offsets: Any = None) -> None:
        self._do("committing", lambda: self.port.commit(offsets))
        self.state = State.IDLE
        self.committed += 1
        self._renewed = 0

    def abort(self) -> None:
        self.aborted += 1
        if self.state is State.DEAD or self._dies_of_aborting():
            self._replace()
        self.state = State.IDLE

    def _dies_of_aborting(self) -> bool:
        what = "aborting a transaction"
        try:
            with watched(what, self._timeout):
                self.port.abort()
        except ClientError as error:
            failure = self._failure(what, error)
            if isinstance(failure, AbortedError) and failure.unsure:
                return True
            self.state = State.OVER
            if isinstance(failure, AbortedError):
                failure = StreamError(f"{failure}; a new process goes on from the last commit")
            raise failure from None
        return False

    def _replace(self) -> None:
        """Go on with another producer; taking up its name ends whatever the last one has left open."""
        self._renewed += 1
        with watched("starting another producer", self._timeout):
            with contextlib.suppress(ClientError):
                self.port.discard()
            self.port = self._renew()

    def _do(self, doing: str, call: Callable[[], None]) -> None:
        what = f"{doing} a transaction"
        try:
            with watched(what, self._timeout):
                call()
        except ClientError as error:
            raise self._failure(what, error) from None

    def _failure(self, doing: str, error: ClientError) -> StreamError:
        """What an error within a transaction comes to, and the state that it leaves."""
        if error.kind is Kind.DEAD:
            return self._dead(doing, error)
        if error.kind in (Kind.REFUSED, Kind.FENCED):
            self._let_go()
            if error.kind is Kind.FENCED and not self._fenced():
                return StreamError(f"{doing}: {error}; a new process goes on from the last commit")
            return stream_error(doing, error)
        self.state = State.VOID
        return AbortedError(f"{doing}: {error}")

    def _dead(self, doing: str, error: ClientError) -> StreamError:
        self.state = State.OVER
        if self._fenced():
            return fenced()
        if self._renewed == NEW_PRODUCERS:
            return StreamError(f"{doing}: {error}; a new process goes on from the last commit")
        self.state = State.DEAD
        return AbortedError(f"{doing}: the brokers have ended it ({error})", unsure=True)

    def _let_go(self) -> None:
        """End a transaction before the stream ends: an open one would hold up who reads the topics."""
        self.state = State.OVER
        with contextlib.suppress(ClientError), watched("aborting a transaction", self._timeout):
            self.port.abort()
