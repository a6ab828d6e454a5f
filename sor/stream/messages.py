"""Where messages come from and where results go; files in `sor.stream.files`, Kafka in `sor.kafka`."""

from __future__ import annotations

import base64
import logging
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from sor.market.lines import unfinished
from sor.routing.result import AtLeastOne, Count, Text

logger = logging.getLogger(__name__)

BATCH = 1000  # messages between two commits
POLL_S = 0.5  # longest wait for a pipe, and so for a signal to be seen
SHOWN_BYTES = 200  # of a bad message in a log line


class FilePlace(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A line of a file; the file's name comes without its folder, so that results compare."""

    file: Annotated[Text, Meta(description="Name of the file without its folder; - is standard input.")]
    line: Annotated[AtLeastOne, Meta(description="Line of the file, from 1, the header counted.")]


class KafkaPlace(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A message of a topic."""

    topic: Annotated[Text, Meta(description="Kafka topic.")]
    partition: Annotated[Count, Meta(description="Partition of the topic, from 0.")]
    offset: Annotated[Count, Meta(description="Offset within the partition, from 0.")]


Place = FilePlace | KafkaPlace


class Message(msgspec.Struct, frozen=True, gc=False):
    """One input: its raw bytes, where they stand, and its key where the stream has keys."""

    value: bytes
    place: Place
    key: bytes | None = None
    partition: int = 0
    time: int | None = None  # of the record, milliseconds since the epoch
    lag: int | None = None  # messages behind it in its partition, when it was polled
    unfinished: bool = False  # the input ended within it

    def whole(self) -> bytes:
        """Its bytes; a `sor.errors.DataError` where they may be a part of it only."""
        if self.unfinished:
            raise unfinished()
        return self.value


class StreamState(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """How far a result is behind its stream."""

    lag: Annotated[
        Count | None,
        Meta(description="Messages that wait behind this one in its partition; null where unknown."),
    ]
    age_ms: Annotated[
        int | None,
        Meta(description="Time since the message was written to its topic, milliseconds."),
    ]
    conflated: Annotated[
        Count,
        Meta(description="Older messages of the symbol left out for this one (--conflate)."),
    ]


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """An input that could not be used, with the reason."""

    value: bytes
    place: Place
    reason: str  # the short word that it is counted by
    detail: str  # the whole story
    key: bytes | None = None

    @property
    def where(self) -> str:
        """file:line or topic:partition:offset."""
        return ":".join(str(value) for value in msgspec.structs.astuple(self.place))

    def shown(self) -> str:
        """One line for people: place, reason and the first bytes in base64."""
        raw = base64.b64encode(self.value[:SHOWN_BYTES]).decode()
        return f"{self.where}: {self.reason}: {self.detail} (first {SHOWN_BYTES} bytes in base64: {raw})"

    def tell(self) -> None:
        """Log it."""
        logger.warning("dead letter: %s", self.shown())


class Source(Protocol):
    """Batches of messages; what has been answered is committed batch by batch."""

    @property
    def partitions(self) -> set[int]:
        """Those that messages may come from now."""

    def place_of(self, partition: int) -> Place | None:
        """The first message of the last batch in a partition, or the next to come; None where it cannot be told."""

    def poll(self, limit: int, wait_s: float | None = None) -> list[Message] | None:
        """The next messages, at most ``limit``; none yet (an empty list), or None at the end.

        They are waited for at most ``wait_s`` seconds, by default as long as the source likes to.
        """

    def lost(self) -> set[int]:
        """Partitions whose state has to go, since this was last asked: taken away, or not what they were."""

    def offsets(self) -> Any:
        """How far the last batch goes, for `Sink.commit`."""

    def commit(self) -> None:
        """All messages of the last batch have been answered, and the answers are out."""

    def rewind(self, unsure: bool = False) -> None:
        """The last batch is void: what is still ours of it comes again; ``unsure``: unless it was committed."""

    def close(self) -> None: ...


class Sink:
    """Takes results and dead letters; this one lets them go.

    A batch ends by ``commit`` and then ``settle``, or by ``abort``: what may still refuse it does so in ``commit``, and
    what cannot be taken back is written in ``settle``.
    """

    remembers = False  # whether `remember` is of use

    def begin(self) -> None:
        """A batch starts."""

    def add(self, key: str, value: bytes) -> None:
        """A result, as one line of JSON; ``key`` is its symbol, or the id of its order."""

    def reject(self, letter: DeadLetter) -> None:
        """An input that could not be used."""

    def remember(self, partition: int, key: bytes, value: bytes | None) -> None:
        """State of a partition, for who takes it over; the last value of a key counts, None is to forget it."""

    def commit(self, offsets: Any = None) -> None:
        """The batch, which goes up to ``offsets``, is complete; returns when the brokers have it."""

    def settle(self) -> None:
        """The batch is final: write what no broker holds."""

    def abort(self) -> None:
        """The batch is void."""

    def close(self) -> None: ...


class Fanout(Sink):
    """Hands everything to several sinks, in order."""

    def __init__(self, sinks: list[Sink]) -> None:
        self.sinks = sinks
        self.remembers = any(sink.remembers for sink in sinks)
        self._adds = [sink.add for sink in sinks if type(sink).add is not Sink.add]  # of those that take results
        if len(self._adds) == 1:
            self.add = self._adds[0]  # type: ignore[method-assign]  # as nearly always: no detour for each result

    def begin(self) -> None:
        for sink in self.sinks:
            sink.begin()

    def add(self, key: str, value: bytes) -> None:
        for add in self._adds:
            add(key, value)

    def reject(self, letter: DeadLetter) -> None:
        for sink in self.sinks:
            sink.reject(letter)

    def remember(self, partition: int, key: bytes, value: bytes | None) -> None:
        for sink in self.sinks:
            sink.remember(partition, key, value)

    def commit(self, offsets: Any = None) -> None:
        for sink in self.sinks:
            sink.commit(offsets)

    def settle(self) -> None:
        for sink in self.sinks:
            sink.settle()

    def abort(self) -> None:
        for sink in self.sinks:
            sink.abort()

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


class LogLetters(Sink):
    """Where no dead-letter sink is named, a warning each: nothing is dropped in silence."""

    def __init__(self) -> None:
        self._letters: list[DeadLetter] = []

    def reject(self, letter: DeadLetter) -> None:
        self._letters.append(letter)

    def settle(self) -> None:
        letters, self._letters = self._letters, []
        for letter in letters:
            letter.tell()

    def abort(self) -> None:
        self._letters = []
