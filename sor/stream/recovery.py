"""What is known of an input partition, and how it comes back after a restart, a rebalance or an abort."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from sor.errors import DataError, StreamError
from sor.market import BookUpdate, Decoder
from sor.market.book import Books
from sor.stream.messages import BATCH, KafkaPlace

logger = logging.getLogger(__name__)

SLOW_S = 1.0  # a recovery that takes longer is worth a line
MARK = b"|"  # key of the mark: no symbol and publisher read so


class Partition:
    """All state of one input partition: thrown away as a whole, and rebuilt by `Recovery` alone.

    Attributes
    ----------
    books : Books
    changed : dict
        Last update by (symbol, publisher id) since the last time that it was remembered, the newest last.
    end : int or None
        Offset after the last message answered.
    marked : int or None
        ``end`` when it was last remembered.
    remembered : float
        When that was, on the monotonic clock.
    caveat : str or None
        What results have to say while ``doubtful`` more messages are answered: the books may lack venues.
    """

    def __init__(self, books: Books) -> None:
        self.books = books
        self.changed: dict[tuple[str, int], BookUpdate] = {}
        self.end: int | None = None
        self.marked: int | None = None
        self.remembered = -math.inf
        self.caveat: str | None = None
        self.doubtful = 0

    def note(self, update: BookUpdate) -> None:
        """Keep an update for `memories`."""
        key = update.symbol, update.publisher_id
        self.changed.pop(key, None)  # so that the order is that of the last updates
        self.changed[key] = update

    def memories(self, depth: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of every quote that changed, then the mark that says how far they go.

        A log of these, compacted, brings the books back as they were at the mark.
        """
        for (symbol, publisher), update in self.changed.items():
            book = self.books.by_symbol[symbol]
            if update.event is not None:  # it has happened; only what it left behind is to come back
                update = msgspec.structs.replace(update, event=None)
            memory = Memory(update, depth, book.time, len(book.quotes))
            yield f"{symbol}|{publisher}".encode(), msgspec.json.encode(memory)
        self.changed = {}
        self.marked = self.end
        yield MARK, msgspec.json.encode(self.end)


class Memory(msgspec.Struct, frozen=True, array_like=True):
    """The last quote of a venue, and what else the book of its symbol knew then."""

    update: BookUpdate
    depth: int  # levels that were decoded
    book_time: int  # newest event time of the book, which a late quote does not move
    venues: int  # quotes in the book: a level once shown stays in it, empty


class Record(Protocol):
    """What the reader hands out."""

    offset: int
    key: bytes | None
    value: bytes | None


class Reader(Protocol):
    """Reads a range of a topic's partition, apart from any group."""

    def make_like(self, topic: str, like: str) -> None:
        """Make sure that ``topic`` is there, compacted, with as many partitions and replicas as ``like``."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Offsets of the first record and after the last one, those of open transactions included."""

    def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        """Committed records from ``start`` to before ``end``, once all transactions there have ended."""


class Recovery:
    """Rebuilds the books of a partition before its first result.

    Parameters
    ----------
    reader : Reader
    decoder : Decoder
    memory_topic : str, optional
        Topic of the last quotes (compacted, partitioned as the input): the books come back as they were, with what the
        input has had since. Without it, or where it holds nothing yet, they are filled from the messages before the
        first one to answer.
    depth : int
        Levels that routing needs.
    tail : int
        Number of those messages.
    symbol : str, optional
        The only symbol that is routed.
    """

    def __init__(
        self,
        reader: Reader,
        decoder: Decoder,
        memory_topic: str | None,
        *,
        depth: int,
        tail: int,
        symbol: str | None = None,
    ) -> None:
        self.reader = reader
        self.decoder = decoder
        self.memory_topic = memory_topic
        self.depth = depth
        self.tail = tail
        self.symbol = symbol
        self.running = False
        self.rebuilt = 0  # messages read so far
        self.turn: Callable[[], None] = lambda: None  # called now and then while it goes on
        self._made = False

    def fill(self, state: Partition, place: KafkaPlace) -> None:
        """Bring the empty ``state`` to where it stood before the message at ``place``.

        Raises
        ------
        StreamError
        """
        started = time.monotonic()
        self.running = True
        self.turn()
        try:
            memories, mark = self._remembered(place) if self.memory_topic is not None else ([], None)
            if memories:
                origin = self._from_memory(state, place, memories, mark)
            else:
                origin = self._from_tail(state, place, mark)
        finally:
            self.running = False
        seconds = time.monotonic() - started
        logger.info(
            "books of %s:%d rebuilt from %s%s",
            place.topic,
            place.partition,
            origin,
            f" in {seconds:.1f} s" if seconds > SLOW_S else "",
        )

    def make_like(self, topic: str, like: str) -> None:
        """Make the topic of what is remembered, where it is not there; asked once."""
        if not self._made:
            self.reader.make_like(topic, like)
            self._made = True

    def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        """Of the reader, with signs of life."""
        for record in self.reader.records(topic, partition, start, end):
            self.rebuilt += 1
            if self.rebuilt % BATCH == 0:
                self.turn()
            yield record

    def _from_memory(self, state: Partition, place: KafkaPlace, memories: list[Memory], mark: int | None) -> str:
        """Restore the quotes, and apply the messages after them."""
        for memory in memories:
            state.books.restore(memory.update, memory.book_time, memory.venues)
        since = place.offset if mark is None else mark
        first, count = self._apply(state, place, since)
        shallow = sum(memory.depth < self.depth for memory in memories)
        if first > since:
            self._doubt(
                state,
                place,
                f"{first - since:,} messages after the last quotes kept are gone from the input",
                "retention",
            )
        elif shallow:
            caveat = f"{shallow} quotes were kept with fewer levels than are routed now, until their venues quote"
            self._doubt(state, place, caveat)
        return f"{len(memories):,} quotes in {self.memory_topic} and {count:,} messages after them"

    def _remembered(self, place: KafkaPlace) -> tuple[list[Memory], int | None]:
        """The last quotes, in the order of their updates, and the offset that they go up to, where that is told."""
        topic, mark, others = str(self.memory_topic), None, False
        memories: dict[tuple[str, int], Memory] = {}
        self.make_like(topic, place.topic)
        for record in self.records(topic, place.partition, *self.reader.bounds(topic, place.partition)):
            try:
                memory = _memories.decode(record.value or b"")
            except msgspec.MsgspecError as error:
                raise StreamError(
                    f"{topic}:{place.partition}:{record.offset} is no quote of this program ({error}): another "
                    "--group, or an empty topic, would start anew"
                ) from None
            if isinstance(memory, int):
                mark = memory
            elif self.symbol in (None, memory.update.symbol):
                key = memory.update.symbol, memory.update.publisher_id
                memories.pop(key, None)
                memories[key] = memory
            else:
                others = True
        if mark is not None and mark > place.offset:
            logger.warning(
                "%s:%d goes on at %d: what %s holds is of later messages (up to %d), and is not used",
                *(place.topic, place.partition, place.offset, topic, mark),
            )
            return [], None
        if others and not memories:  # another --symbol was routed: what is known of ours ends nowhere
            return [], None
        return list(memories.values()), mark

    def _from_tail(self, state: Partition, place: KafkaPlace, mark: int | None) -> str:
        """Apply the messages before; at a ``mark`` without quotes the books were empty, so they are all there is."""
        start = place.offset - self.tail
        first, count = self._apply(state, place, start if mark is None else min(start, mark))
        if mark is None and first > 0 and place.offset > 0 and self.tail:
            caveat = f"books rebuilt from {count:,} earlier messages: venues that have not quoted since are missing"
            self._doubt(state, place, caveat, "--bootstrap-messages")
        return f"the {count:,} messages before"

    def _apply(self, state: Partition, place: KafkaPlace, start: int) -> tuple[int, int]:
        """Apply the input's messages from ``start`` to the one at ``place``; the first that is there, and how many."""
        if start >= place.offset:
            return start, 0
        first, _ = self.reader.bounds(place.topic, place.partition)
        start, count = max(start, first), 0
        if start < place.offset:
            for record in self.records(place.topic, place.partition, start, place.offset):
                count += 1
                try:
                    update = self.decoder.decode(record.value or b"")
                    if self.symbol in (None, update.symbol):
                        state.books.apply(update)
                        state.note(update)
                except DataError:
                    continue  # reported when it was consumed
        return start, count

    def _doubt(self, state: Partition, place: KafkaPlace, caveat: str, see: str | None = None) -> None:
        """Let results say for a while that the books may lack venues."""
        state.caveat = caveat
        state.doubtful = max(self.tail, 1)
        hint = "" if see is None else f" ({see})"
        logger.warning("%s:%d: %s%s", place.topic, place.partition, caveat, hint)


_memories: msgspec.json.Decoder[Memory | int] = msgspec.json.Decoder(Memory | int)
