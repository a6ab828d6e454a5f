"""What is known of an input partition, and how it comes back after a restart, a rebalance or an abort."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from sor.book import Books
from sor.errors import DataError, StreamError
from sor.market_data import BookUpdate, Decoder
from sor.streams import BATCH, KafkaPlace

logger = logging.getLogger(__name__)

SLOW_S = 1.0  # a recovery that takes longer is worth a line


class Partition:
    """All state of one input partition: thrown away as a whole, and rebuilt by `Recovery` alone.

    Attributes
    ----------
    books : Books
    changed : dict
        Last update by (symbol, publisher id) since the last commit, the newest last.
    caveat : str or None
        What results have to say while ``doubtful`` more messages are answered: the books may lack venues.
    """

    def __init__(self, books: Books) -> None:
        self.books = books
        self.changed: dict[tuple[str, int], BookUpdate] = {}
        self.caveat: str | None = None
        self.doubtful = 0

    def note(self, update: BookUpdate) -> None:
        """Keep an update for `memories`."""
        key = update.symbol, update.publisher_id
        self.changed.pop(key, None)  # so that the order is that of the last updates
        self.changed[key] = update

    def memories(self, depth: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of every quote that changed; a log of these, compacted, brings the books back as they are."""
        for (symbol, publisher), update in self.changed.items():
            book = self.books.by_symbol[symbol]
            if update.event is not None:  # it has happened; only what it left behind is to come back
                update = msgspec.structs.replace(update, event=None)
            memory = Memory(update, depth, book.time, len(book.quotes))
            yield f"{symbol}|{publisher}".encode(), msgspec.json.encode(memory)
        self.changed = {}


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
        Topic of the last quotes (compacted, partitioned as the input): the books come back as they were. Without
        it, or where it holds nothing yet, they are filled from the messages before the first one to answer.
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
            count = self._from_memory(state, place) if self.memory_topic is not None else 0
            origin = f"{count:,} quotes in {self.memory_topic}"
            if not count:
                count = self._from_tail(state, place)
                origin = f"the {count:,} messages before"
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

    def _from_memory(self, state: Partition, place: KafkaPlace) -> int:
        topic, count, shallow = str(self.memory_topic), 0, 0
        self.make_like(topic, place.topic)
        for record in self.records(topic, place.partition, *self.reader.bounds(topic, place.partition)):
            try:
                memory = _memories.decode(record.value or b"")
            except msgspec.MsgspecError as error:
                raise StreamError(
                    f"{topic}:{place.partition}:{record.offset} is no quote of this program ({error}): another "
                    "--group, or an empty topic, would start anew"
                ) from None
            if self.symbol in (None, memory.update.symbol):
                shallow += memory.depth < self.depth
                state.books.restore(memory.update, memory.book_time, memory.venues)
                count += 1
        if shallow:
            state.caveat = f"{shallow} quotes were kept with fewer levels than are routed now, until their venues quote"
            state.doubtful = max(self.tail, 1)
            logger.warning("%s:%d: %s", place.topic, place.partition, state.caveat)
        return count

    def _from_tail(self, state: Partition, place: KafkaPlace) -> int:
        first, _ = self.reader.bounds(place.topic, place.partition)
        start = max(first, place.offset - self.tail)
        count = 0
        if start < place.offset:
            for record in self.records(place.topic, place.partition, start, place.offset):
                count += 1
                try:
                    update = self.decoder.decode(record.value or b"")
                except DataError:
                    continue  # reported when it was consumed
                if self.symbol in (None, update.symbol):
                    state.books.apply(update)
                    state.note(update)
        if start > 0 and place.offset > 0 and self.tail:
            state.caveat = (
                f"books rebuilt from {count:,} earlier messages: venues that have not quoted since are missing"
            )
            state.doubtful = self.tail
            logger.warning("%s:%d: %s (--bootstrap-messages)", place.topic, place.partition, state.caveat)
        return count


_memories = msgspec.json.Decoder(Memory)
