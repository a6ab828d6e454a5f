"""What is known of an input partition, and how it comes back after a restart, a rebalance or an abort."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from sor.errors import DataError, StreamError
from sor.market import BookUpdate, Decoder
from sor.market.book import TRADES, Books
from sor.stream.messages import BATCH, KafkaPlace

logger = logging.getLogger(__name__)

SLOW_S = 1.0  # a recovery that takes longer is worth a line
MARK = b"|"  # key of the mark: no symbol and publisher read so
REOPENED = 100  # updates of a symbol for which its results say that its earlier book has gone
REREAD = 100_000  # messages that are read again at most for the sake of symbols that were not routed for a while


class Memory(msgspec.Struct, frozen=True, array_like=True):
    """The last quote of a venue, and what else the book of its symbol knew after it."""

    update: BookUpdate
    depth: int  # levels that were decoded
    book_time: int  # newest event time of the book, which a late quote does not move
    venues: int  # quotes in the book: a level once shown stays in it, empty
    offset: int | None = None  # of the message; None: written by a version that did not keep it


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """Up to where in the input the quotes that are kept are complete, and of what.

    Attributes
    ----------
    offset : int
        The quotes are the last ones before it.
    symbol : str or None
        They are of this symbol only; None: of all.
    others : int or None
        As ``offset``, for those of other symbols; None: of these nothing is known.
    venues_from : str or None
        None: written by a version that did not keep it.
    topic : str or None
        The input's id, which changes where the topic is made anew.
    evicted : bool
        Books have gone for want of room.
    caveat : str or None
        What results have to say of the books, for ``doubtful`` more messages.
    lots : dict
        The smallest quantities, of which sizes are whole numbers, by symbol; one that is not there counts shares.
    """

    offset: int
    symbol: str | None = None
    others: int | None = None
    venues_from: str | None = None
    topic: str | None = None
    evicted: bool = False
    caveat: str | None = None
    doubtful: int = 0
    lots: dict[str, str] = {}

    def end_of(self, symbol: str | None) -> int | None:
        """Up to where all is known of a symbol, None: of all."""
        if self.symbol is None or self.symbol == symbol:
            return self.offset
        return self.others if symbol is not None or self.others is None else min(self.others, self.offset)

    def end_beside(self, symbol: str | None) -> int | None:
        """Up to where all is known of the symbols other than this one; None where there are none, too."""
        if symbol is None:
            return None
        if self.symbol in (None, symbol):
            return self.offset if self.symbol is None else self.others
        return None if self.others is None else min(self.others, self.offset)


class Partition:
    """All state of one input partition: what a batch did to it can be undone, else it goes and is rebuilt as a whole.

    Attributes
    ----------
    books : Books
    mark : Mark
        What is to be said of the quotes when they are remembered; its offset is put in then.
    changed : dict
        Last update by (symbol, publisher id) since the last time that it was remembered, the newest last; with the
        offset of its message, and the newest time and number of venues of its book. Of consolidated quotes what they
        left at each venue that they changed (`sor.market.book.Books.parts`). What only has happened leaves the quotes
        that are kept: its last one is kept beside them, as that of publisher `TRADES`, for the book's time.
    dropped : set of bytes
        Keys of quotes that are kept and no longer right.
    end : int or None
        Offset after the last message answered.
    marked : int or None
        ``end`` when it was last remembered.
    remembered : float
        When that was, on the monotonic clock.
    caveat : str or None
        What results have to say while ``doubtful`` more messages are answered: the books may lack venues.
    reopened : dict
        Updates to come by symbol for which results say that its earlier book has gone for want of room.
    """

    def __init__(self, books: Books) -> None:
        self.books = books
        self.mark = Mark(0)
        self.changed: dict[tuple[str, int], tuple[BookUpdate, int | None, int, int]] = {}
        self.dropped: set[bytes] = set()
        self.end: int | None = None
        self.marked: int | None = None
        self.remembered = -math.inf
        self.caveat: str | None = None
        self.doubtful = 0
        self.reopened: dict[str, int] = {}
        self._before: dict[str, Any] = {}

    def begin(self) -> None:
        """A batch starts: keep what `undo` needs."""
        self._before = {name: value for name, value in vars(self).items() if name not in ("books", "_before")}
        self.changed, self.dropped, self.reopened = self.changed.copy(), self.dropped.copy(), self.reopened.copy()
        self.books.begin()

    def undo(self) -> None:
        """Take back all that has happened since `begin`."""
        vars(self).update(self._before)
        self.books.undo()

    def apply(self, update: BookUpdate, offset: int | None = None) -> int:
        """Bring an update into its book, and keep it for `memories` where its ``offset`` is given.

        Returns
        -------
        int
            Books that had to go for it.
        """
        if self.mark.evicted:
            self._reopen(update.symbol)
        book = self.books.apply(update)
        if offset is not None:
            for part in self.books.parts(update) if update.consolidated else (update,):
                key = part.symbol, TRADES if part.bids is None else part.publisher_id
                self.changed.pop(key, None)  # so that the order is that of the last updates
                self.changed[key] = part, offset, book.time, len(book.quotes)
        return self._drop_evicted() if self.books.evicted else 0

    def caveats(self, symbol: str) -> list[str]:
        """What a result has to say."""
        found = [] if self.caveat is None or not self.doubtful else [self.caveat]
        if symbol in self.reopened:
            found.append("an earlier book of this symbol has gone (--max-symbols): venues may be missing")
        return found

    def _reopen(self, symbol: str) -> None:
        left = self.reopened.pop(symbol, 0) if symbol in self.books.by_symbol else REOPENED
        if left > 1:
            self.reopened[symbol] = left - 1

    def _drop_evicted(self) -> int:
        evicted = self.books.evicted
        self.books.evicted = {}
        if not self.mark.evicted:
            logger.warning(
                "more symbols than --max-symbols: the books of those not heard of for longest go (said once)"
            )
        for symbol, publishers in evicted.items():
            self.reopened.pop(symbol, None)
            for publisher in publishers:
                self.changed.pop((symbol, publisher), None)
                self.dropped.add(key_of(symbol, publisher))
        self.mark = msgspec.structs.replace(self.mark, evicted=True)
        return len(evicted)

    def memories(self, depth: int) -> Iterator[tuple[bytes, bytes | None]]:
        """Key and value of every quote that changed, then the mark that says how far they go.

        A log of these, compacted, brings the books back as they were at the mark, and holds nothing else.
        """
        for key in self.dropped:
            yield key, None
        for (symbol, publisher), (update, offset, newest, venues) in self.changed.items():
            if update.event is not None or update.receipt or update.flags:  # only what an event left behind comes back
                update = msgspec.structs.replace(update, event=None, receipt=0, flags=0)
            yield key_of(symbol, publisher), msgspec.json.encode(Memory(update, depth, newest, venues, offset))
        self.changed, self.dropped = {}, set()
        self.marked = self.end
        doubt = (self.caveat, self.doubtful) if self.doubtful else (None, 0)
        mark = msgspec.structs.replace(self.mark, offset=self.end, caveat=doubt[0], doubtful=doubt[1])
        yield MARK, msgspec.json.encode(mark)


def key_of(symbol: str, publisher: int) -> bytes:
    """Key of what is kept of a quote."""
    return f"{symbol}|{publisher}".encode()


class Record(Protocol):
    """What the reader hands out."""

    offset: int
    key: bytes | None
    value: bytes | None


class Reader(Protocol):
    """Reads a range of a topic's partition, apart from any group."""

    def make_like(self, topic: str, like: str) -> None:
        """Make sure that ``topic`` is there, compacted, with as many partitions and replicas as ``like``."""

    def identity(self, topic: str) -> str | None:
        """The topic's id, which no other topic of that name has had or will have; None where it cannot be told."""

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
    turn : callable
        Called now and then while it goes on.
    limit_s : float
        Seconds that the partitions which have come together may take: the group would give them away to another
        member, which would take as long.
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
        turn: Callable[[], None] = lambda: None,
        limit_s: float = math.inf,
    ) -> None:
        self.reader = reader
        self.decoder = decoder
        self.memory_topic = memory_topic
        self.depth = depth
        self.tail = tail
        self.symbol = symbol
        self.running = False
        self.rebuilt = 0  # messages read so far
        self.turn = turn
        self._limit_s = limit_s
        self._deadline = math.inf
        self._made = False

    def start(self) -> None:
        """Partitions have come: the time that they may take begins."""
        self._deadline = time.monotonic() + self._limit_s

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
            memories, mark = self._kept(place) if self.memory_topic is not None else ({}, None)
            origin = self._fill(state, place, memories, mark)
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
        """Of the reader, with signs of life, and within the time that there is."""
        for record in self.reader.records(topic, partition, start, end):
            self.rebuilt += 1
            if self.rebuilt % BATCH == 0:
                self.turn()
                if time.monotonic() > self._deadline:
                    raise StreamError(
                        f"what {topic}:{partition} holds, at {record.offset} of {end}, could not be read within "
                        f"{self._limit_s:g} s, for which the group waits for a member: more --workers would share it"
                    )
            yield record

    def _kept(self, place: KafkaPlace) -> tuple[dict[bytes, Memory], Mark | None]:
        """The last quotes by their keys, and what is said of them, where that is told."""
        topic, mark = str(self.memory_topic), None
        memories: dict[bytes, Memory] = {}
        self.make_like(topic, place.topic)
        for record in self.records(topic, place.partition, *self.reader.bounds(topic, place.partition)):
            key = record.key or b""
            memories.pop(key, None)
            if record.value is None:
                continue
            try:
                if key == MARK:
                    found = _marks.decode(record.value)
                    mark = Mark(found) if isinstance(found, int) else found
                else:
                    memories[key] = _memories.decode(record.value)
            except msgspec.MsgspecError as error:
                raise StreamError(
                    f"{topic}:{place.partition}:{record.offset} is no quote of this program ({error}): another "
                    "--group, or an empty topic, would start anew"
                ) from None
        return memories, mark

    def _fill(self, state: Partition, place: KafkaPlace, memories: dict[bytes, Memory], mark: Mark | None) -> str:
        """Restore the quotes that are right at ``place``, and read again what they may lack."""
        identity = self.reader.identity(place.topic) if self.memory_topic is not None else None
        useless = self._useless(state, place, mark, identity)
        if useless is not None:
            logger.warning(
                "%s:%d: what %s holds is not used: %s", place.topic, place.partition, self.memory_topic, useless
            )
            state.dropped |= memories.keys()
            memories, mark = {}, None
        beside = None if mark is None else mark.end_beside(self.symbol)
        evicted = mark is not None and mark.evicted
        lots = state.books.instruments.lots()
        state.mark = Mark(0, self.symbol, beside, state.books.venues_from, identity, evicted, lots=lots)
        routed = {key: one for key, one in memories.items() if self.symbol in (None, one.update.symbol)}
        if beside is None:  # nobody would keep them up
            state.dropped |= memories.keys() - routed.keys()
        since = self._since(place, memories, routed, mark)
        if since is None and mark is not None and mark.symbol is not None:
            routed = self._only(state, routed, mark)
        unknown = {key for key, one in routed.items() if _is_later(one, place, mark)}
        state.dropped |= unknown
        known = [one for key, one in routed.items() if key not in unknown]
        for memory in sorted(known, key=lambda one: one.offset or 0):
            try:
                state.books.restore(memory.update, memory.book_time, memory.venues)
            except DataError:  # kept by a version that let a second publisher of levels in
                state.dropped.add(key_of(memory.update.symbol, memory.update.publisher_id))
        if unknown:
            logger.warning(
                "%s:%d goes on at %d: of %d quotes %s knows only later ones, which are not used",
                *(place.topic, place.partition, place.offset, len(unknown), self.memory_topic),
            )
        tail = place.offset - self.tail
        start = tail if since is None else min(since, tail) if unknown or not known else since
        first, count = self._apply(state, place, start)
        if mark is not None and mark.doubtful > count:
            state.caveat, state.doubtful = mark.caveat, mark.doubtful - count
        shallow = sum(one.depth < self.depth for one in known if one.update.bids is not None)
        self._judge(state, place, since, unknown, first, shallow)
        if known:
            return f"{len(known):,} quotes in {self.memory_topic} and {count:,} messages"
        return f"the {count:,} messages before"

    def _useless(self, state: Partition, place: KafkaPlace, mark: Mark | None, identity: str | None) -> str | None:
        """Why nothing that was remembered may be used; None where it may."""
        if mark is None:
            return None
        if None not in (mark.topic, identity) and mark.topic != identity:
            return f"{place.topic} was deleted and made again"
        if mark.venues_from not in (None, state.books.venues_from):
            return f"it is of venues from {mark.venues_from}"
        if mark.lots != state.books.instruments.lots():
            return "its sizes are in the lots of other instruments"
        _, end = self.reader.bounds(place.topic, place.partition)
        if mark.offset > end:
            return f"it goes up to {mark.offset}, and {place.topic} to {end}"
        return None

    def _since(
        self, place: KafkaPlace, memories: dict[bytes, Memory], routed: dict[bytes, Memory], mark: Mark | None
    ) -> int | None:
        """From where on the input has what the quotes that are kept lack; None where they may lack what was before."""
        if mark is None:
            return place.offset if routed else None
        if mark.venues_from is None and memories and not routed:
            return None  # a version that did not say so has routed another symbol
        since = mark.end_of(self.symbol)
        if since is None or (since < mark.offset and place.offset - since > max(REREAD, self.tail)):
            return None
        return since

    def _only(self, state: Partition, routed: dict[bytes, Memory], mark: Mark) -> dict[bytes, Memory]:
        """The quotes of the one symbol that was routed last; those of others are too old."""
        right = {key: one for key, one in routed.items() if one.update.symbol == mark.symbol}
        state.dropped |= routed.keys() - right.keys()
        return right

    def _judge(
        self, state: Partition, place: KafkaPlace, since: int | None, unknown: set[bytes], first: int, shallow: int
    ) -> None:
        """Say what the books may lack, given the first message that was read again."""
        # What consolidated quotes do not name may be missing still: a side that has stayed at the best.
        missing = unknown - (set() if state.books.consolidated else {key_of(*key) for key in state.changed})
        if since is None and first > 0 and place.offset > 0 and self.tail:
            count = place.offset - first
            caveat = f"books rebuilt from {count:,} earlier messages: venues that have not quoted since are missing"
            self._doubt(state, place, caveat, "--bootstrap-messages")
        elif since is not None and since < first <= place.offset and since < place.offset:
            gone = f"{first - since:,} messages after the last quotes kept are gone from the input"
            self._doubt(state, place, gone, "retention")
        elif missing and first > 0:
            self._doubt(state, place, f"{len(missing)} quotes are missing: of these only later ones are known")
        elif shallow:
            caveat = f"{shallow} quotes were kept with fewer levels than are routed now, until their venues quote"
            self._doubt(state, place, caveat)

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
                        state.apply(update, record.offset)
                except DataError:
                    continue  # reported when it was consumed
        return start, count

    def _doubt(self, state: Partition, place: KafkaPlace, caveat: str, see: str | None = None) -> None:
        """Let results say for a while that the books may lack venues."""
        state.caveat = caveat
        state.doubtful = max(self.tail, 1)
        hint = "" if see is None else f" ({see})"
        logger.warning("%s:%d: %s%s", place.topic, place.partition, caveat, hint)


def _is_later(memory: Memory, place: KafkaPlace, mark: Mark | None) -> bool:
    """Whether a quote was shown after ``place``: the group's offsets were set back. Where it cannot be told it was."""
    if memory.offset is not None:
        return memory.offset >= place.offset
    return mark is not None and max(mark.offset, mark.others or 0) > place.offset


_memories = msgspec.json.Decoder(Memory)
_marks: msgspec.json.Decoder[Mark | int] = msgspec.json.Decoder(Mark | int)
