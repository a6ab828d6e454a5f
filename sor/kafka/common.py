"""What the modules of both Kafka clients share: identity, what an error of theirs means, what is a stream's end."""

from __future__ import annotations

import contextlib
import enum
import logging
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sor.errors import ConnectError, FencedError, RefusedError, StreamError
from sor.kafka.security import Connection
from sor.kafka.waiting import Deadline, patience

logger = logging.getLogger(__name__)

T = TypeVar("T")

FETCH_MS = 100  # on an idle topic only: a message ends the wait
LINGER_MS = 5
BATCH_BYTES = 128 * 1024
LARGEST_REQUEST = 64 * 2**20  # bytes; the topic's own limit is to decide, and not the client's
RECONNECT_MS = 1_000  # the pause grows by default: a broker that comes up would be missed
RETRY_S = 0.05


class Kind(enum.Enum):
    """What an error of a client comes to."""

    RETRIABLE = "retriable"  # asking again may help
    REBALANCED = "rebalanced"  # the group has moved on
    DEAD = "dead"  # the brokers want no more of the producer
    FENCED = "fenced"  # another process has this one's instance id
    REFUSED = "refused"  # for good: a limit, a right or a setting is in the way
    FATAL = "fatal"  # anything else that asking again does not mend


class ClientError(Exception):
    """An error of a client library, in words that both share."""

    def __init__(self, kind: Kind, story: str) -> None:
        super().__init__(story)
        self.kind = kind


def stream_error(doing: str, error: ClientError) -> StreamError:
    """What ends a stream where a client says so."""
    if error.kind is Kind.FENCED:
        return fenced()
    if error.kind is Kind.REFUSED:
        return RefusedError(f"{doing}: {error}")
    return StreamError(f"{doing}: {error}", retriable=error.kind is Kind.RETRIABLE)


def retried(call: Callable[[], T], seconds: float) -> T:
    """The call's value, asked for again where it may yet come; else its last `ClientError`."""
    deadline = Deadline(seconds)
    while True:
        try:
            return call()
        except ClientError as error:
            if error.kind is not Kind.RETRIABLE or not deadline.pause(RETRY_S):
                raise


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


def await_topic(topic: str, connection: Connection, there: Callable[[], bool]) -> None:
    """Wait until a topic is there; `StreamError` where nobody makes it in time."""
    seconds = max(connection.timeout, 1.0)
    deadline = Deadline(seconds)
    where = f"topic {topic} does not exist at {connection.servers}"
    with patience(f"{where} yet; waiting for it", connection.timeout):
        while not there():
            if not deadline.pause(RETRY_S):
                raise StreamError(f"{where}, and nobody made it within {connection.timeout:g} s", retriable=True)


def other_assignors(story: str) -> str:
    return (
        f"the group has members that share its partitions in another way ({story}): all of them have to use the "
        "cooperative-sticky assignor, so give this program a --group of its own"
    )


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


class Record(NamedTuple):
    """A message as the reader and the feed hand it out."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
