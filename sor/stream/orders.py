"""Orders as a stream: each is answered once, on the books that the market data beside it has made."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from sor.errors import DataError, InputError, SorError, StreamError
from sor.market import Decoder
from sor.market.book import Books
from sor.market.fields import symbol_of
from sor.market.instruments import SHARES, Instruments
from sor.routing.result import SCHEMA_VERSION, Count, Text
from sor.routing.router import Router
from sor.stream.messages import BATCH, DeadLetter, KafkaPlace, Message, Sink, Source, StreamState
from sor.stream.pipeline import Scattered, age_of, log_result, too_old
from sor.stream.recovery import MARK, Partition, Reader, Record, Recovery
from sor.stream.summary import RunSummary
from sor.types import Order

logger = logging.getLogger(__name__)

DEPTH = 10  # levels kept of every venue: any order may ask for greedy_l2
LONGEST_ID = 128  # characters
LONGEST_REASON = 500  # characters: it may quote what it complains of
LONGEST_KEY = 1024  # bytes of a record's own key that are given back
MOST_FORGOTTEN = 2 * BATCH  # at a time: more than can come, and no more than a transaction takes in its time
FORGET_S = 10.0  # between two times where there is less to forget than that
MOST_RECENT = 256  # answers held until their places are looked for
MOST_HELD = 64 * 2**20  # bytes of answers held where no topic keeps them
NEAR = 200  # offsets between two answers that are read at one go
IDLE_S = 0.1  # longest wait for orders where no market data comes
BUSY_S = 0.001  # and where it does
FEED_MS = 20  # longest wait for market data where it comes

NewRouter = Callable[[Any, Any], Router]


# --- what goes in and out --------------------------------------------------------------------------------------------


class OrderMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An order as it is sent; two are the same order where all their fields are equal.

    Attributes
    ----------
    id : str
        Of the caller; with ``symbol`` it tells the order from all others.
    symbol, side, quantity, limit_price, parent_id
        As in `sor.types.Order`: a quantity with decimals is of a symbol with an instrument.
    algorithm, objective : str, optional
        In place of the router's own.
    """

    id: str
    symbol: str
    side: str
    quantity: int | float
    limit_price: float | None = None
    algorithm: str | None = None
    objective: str | None = None
    parent_id: str | None = None

    def checked(self, instruments: Instruments = SHARES) -> Order:
        """The same for a router; raises `InputError` where a value is not what it may be."""
        side: Any = self.side
        instrument = instruments.get(self.symbol)
        return Order(self.symbol, side, self.quantity, self.limit_price, self.id, self.parent_id, instrument)


class _OfShares(OrderMessage, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    quantity: int


class OrderPlace(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Where an order stands, and the last message of the market data that its book had taken in."""

    topic: Annotated[Text, Meta(description="Kafka topic.")]
    partition: Annotated[Count, Meta(description="Partition of the topic, from 0.")]
    offset: Annotated[Count, Meta(description="Offset within the partition, from 0.")]
    market_data: Annotated[
        KafkaPlace | None,
        Meta(
            description="How far the market data of the order's partition had been read; null where no book was "
            "looked at."
        ),
    ]


class OrderNames(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What an order is called, as far as it can be read."""

    id: Annotated[Text | None, Meta(description="Id of the order; null where it cannot be read.")]
    symbol: Annotated[Text | None, Meta(description="Symbol of the order; null where it cannot be read.")]


class Rejection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to an order that cannot be routed (``rejection`` in sor/routing/result.schema.json)."""

    order: Annotated[OrderNames, Meta(description="Which order it is.")]
    status: Annotated[
        Literal["rejected"],
        Meta(description="Tells a rejection from a result, which has no status."),
    ]
    reason: Annotated[Text, Meta(description="What is wrong with the order, a sentence for people.")]
    schema_version: Annotated[Literal[1], Meta(description="Version of this schema, without unit.")]
    source: Annotated[OrderPlace, Meta(description="An order of a topic of orders.")]


def order_of(raw: bytes, instruments: Instruments = SHARES) -> OrderMessage:
    """The order of a message, whose quantity may have decimals where its symbol has an instrument.

    Raises
    ------
    DataError
        Not JSON, a field missing, unknown, or not what it may be.
    """
    try:
        message = _decoded(raw, instruments)
        _name("id", message.id)
        symbol_of(message.symbol)
        if message.parent_id is not None:
            _name("parent_id", message.parent_id)
        message.checked(instruments)
    except RecursionError:
        raise DataError("nested too deeply", "order") from None
    except (msgspec.DecodeError, UnicodeDecodeError, DataError, InputError) as error:
        raise DataError(str(error), "order") from None
    return message


def _decoded(raw: bytes, instruments: Instruments) -> OrderMessage:
    try:
        return OrderMessage(*msgspec.structs.astuple(_of_shares.decode(raw)))
    except msgspec.ValidationError:
        message = None
        with contextlib.suppress(msgspec.ValidationError):
            message = _messages.decode(raw) if instruments else None
        if message is None or message.symbol not in instruments:
            raise
    quantity = message.quantity
    return msgspec.structs.replace(message, quantity=int(quantity)) if quantity == int(quantity) else message


def is_answer(asked: OrderMessage, key: bytes | None, value: bytes) -> bool:
    """Whether a record of the results answers an order: an order of another symbol may have the same id."""
    if key != asked.id.encode():
        return False
    head = _head_of(value)
    return asked.symbol in (head.symbol, head.order.symbol)


def is_rejection(value: bytes) -> bool:
    """Whether an answer is none with a split."""
    return bool(_head_of(value).status == "rejected")


class _Names(msgspec.Struct, frozen=True):
    id: Any = None
    symbol: Any = None


class _Head(msgspec.Struct):
    """What tells of an answer whose it is: a result has its symbol, a rejection has it in the order."""

    symbol: Any = None
    order: _Names = _Names()
    status: Any = None


def _head_of(value: bytes) -> _Head:
    try:
        return _heads.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Head()  # something else


def names_of(raw: bytes) -> OrderNames:
    """Id and symbol of a message that is no order; None where it has none that could be one."""
    try:
        names = _names.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return OrderNames(None, None)
    return OrderNames(_checked(_name, "id", names.id), _checked(symbol_of, names.symbol))


def _name(what: str, value: Any) -> str:
    if type(value) is not str or not value or len(value) > LONGEST_ID or not value.isprintable():
        raise DataError(
            f"{what} is {str(value)[:80]!r}: it must be a printable text of 1 to {LONGEST_ID} characters", "order"
        )
    return value


def _checked(check: Callable[..., str], *arguments: Any) -> str | None:
    try:
        return check(*arguments)
    except DataError:
        return None


# --- what is known ---------------------------------------------------------------------------------------------------


class Answered(msgspec.Struct, frozen=True):
    """An order with its first answer, as it is kept."""

    time: int  # of the answer, milliseconds since the epoch
    order: OrderMessage
    result: msgspec.Raw  # the very bytes


class KeptMark(msgspec.Struct, frozen=True):
    """Of which topic the orders are that are kept."""

    topic: str  # the id of the topic of orders
    start: int  # offset of the first record that is of it: those before were of a topic that has been deleted


class Desk:
    """All state of one partition of orders: what a batch did to it can be undone, else it is rebuilt as a whole.

    An order is known by a digest of what it is called; kept with it are a digest of its terms, the time of its answer,
    and where that answer lies in the topic: some 170 bytes, while an answer has thousands.

    Attributes
    ----------
    market : Partition
        The books of the same partition of the market data.
    next : int
        Offset of the market data that comes next.
    late : str or None
        What results have to say where the books are not as new as the order.
    known : dict
        Entries by digest, the oldest first.
    recent : dict
        Answers by digest of those whose place in the topic is not known yet, the oldest first.
    seen : int
        Offset up to which the topic has been looked through for them.
    """

    def __init__(self, books: Books) -> None:
        self.market = Partition(books)
        self.next = 0
        self.late: str | None = None
        self.known: dict[bytes, bytes] = {}
        self.recent: dict[bytes, bytes] = {}
        self.seen = 0
        self.mark: KeptMark | None = None  # to be written
        self._held = 0  # bytes of recent answers
        self._batch: dict[bytes, tuple[bytes, Answered]] = {}  # with the keys of the records
        self._gone: dict[bytes, bytes | None] = {}  # to be forgotten with this batch, with the keys of the records
        self._marking = False
        self._pause = 0.0  # until when nothing is forgotten, on the monotonic clock

    def stand(self) -> None:
        """The last batch took place: what it brought is known from now on."""
        for name in self._gone:
            self.known.pop(name, None)
            self._held -= len(self.recent.pop(name, b""))
        for name, (_, answered) in self._batch.items():
            self.learn(name, answered.order, answered.time, UNSEEN)
            self.recent[name] = bytes(answered.result)
            self._held += len(answered.result)
        if self._marking:
            self.mark = None
        self.undo()

    def undo(self) -> None:
        """The last batch did not take place."""
        self._batch, self._gone, self._marking = {}, {}, False

    def learn(self, name: bytes, order: OrderMessage, time: int, offset: int) -> None:
        """Know an order by a digest; ``offset`` is where its answer lies."""
        self.known.pop(name, None)  # so that the oldest comes first
        self.known[name] = _ENTRY.pack(digest_of(msgspec.json.encode(order)), time, offset)

    def keep(self, answered: Answered) -> None:
        """Remember an answer."""
        key = key_of(answered.order)
        self._batch[digest_of(key)] = key, answered

    def answer_to(self, asked: OrderMessage, since: int) -> tuple[bool, bytes | int] | None:
        """What is known by the name of an order, from a time on (milliseconds since the epoch).

        Returns
        -------
        same : bool
            Whether it is the same order.
        answer : bytes or int
            The answer, or where it lies in the topic.
        """
        name = digest_of(key_of(asked))
        if name in self._batch:
            _, answered = self._batch[name]
            return answered.order == asked, bytes(answered.result)
        entry = self.known.get(name)
        if entry is None:
            return None
        terms, time, offset = _ENTRY.unpack(entry)
        if time < since:
            return None
        return terms == digest_of(msgspec.json.encode(asked)), offset if offset != UNSEEN else self.recent[name]

    def found(self, name: bytes, offset: int) -> None:
        """An answer has been seen in the topic."""
        answer = self.recent.pop(name, None)
        if answer is not None:
            self._held -= len(answer)
            terms, time, _ = _ENTRY.unpack(self.known[name])
            self.known[name] = _ENTRY.pack(terms, time, offset)

    def place_of(self, name: bytes) -> int:
        """Where an answer lies in the topic."""
        return int(_ENTRY.unpack(self.known[name])[2])

    def let_go(self) -> None:
        """Where no topic keeps the answers: forget the oldest that are too many to be held here."""
        while self._held > MOST_HELD:
            name = next(iter(self.recent))
            self._held -= len(self.recent.pop(name))
            del self.known[name]

    def expired(self, before: int) -> dict[bytes, int]:
        """Answers from before a time, with their places, the oldest first; not too many, and now and then."""
        now = time.monotonic()
        if now < self._pause:
            return {}
        old: dict[bytes, int] = {}
        for name, entry in itertools.islice(self.known.items(), MOST_FORGOTTEN):
            _, answered, offset = _ENTRY.unpack(entry)
            if answered >= before:
                self._pause = now + FORGET_S
                break
            old[name] = offset
        return old

    def forget(self, keys: dict[bytes, bytes | None]) -> None:
        """Forget answers, by digest; with each goes the key of its record, where it has one."""
        self._gone = keys

    def news(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Key and value of what changed; a log of these, compacted, brings the known orders back."""
        if self.mark is not None:
            self._marking = True
            yield MARK, msgspec.json.encode(self.mark)
        for name, key in self._gone.items():
            if key is not None and name not in self._batch:
                yield key, None
        for key, answered in self._batch.values():
            yield key, msgspec.json.encode(answered)


def key_of(order: OrderMessage) -> bytes:
    """Key of what is kept of an order."""
    # Not joined by a character: a symbol or an id might have it, and two orders would share a key.
    return msgspec.json.encode((order.symbol, order.id))


def digest_of(data: bytes) -> bytes:
    """Sixteen bytes that nothing else has."""
    return blake2b(data, digest_size=16).digest()


_ENTRY = struct.Struct("<16sqq")  # of a known order: digest of its terms, time of the answer, and its place
UNSEEN = -1  # place of an answer that is recent


class OrderRecovery(Recovery):
    """Brings a desk to where it stood: its books from the market data's tail, its orders from where they are kept.

    Parameters
    ----------
    reader : Reader
    decoder : Decoder
    feed_topic, orders_topic : str
        Partition i of the one makes the books for partition i of the other.
    kept_topic : str, optional
        Topic of the answers (compacted, partitioned as the orders). Without it a new desk knows none.
    tail : int
        Messages of market data that fill the books.
    symbol : str, optional
        The only symbol that is routed.
    """

    def __init__(
        self,
        reader: Reader,
        decoder: Decoder,
        feed_topic: str,
        orders_topic: str,
        kept_topic: str | None,
        *,
        tail: int,
        symbol: str | None = None,
        turn: Callable[[], None] = lambda: None,
        limit_s: float = math.inf,
    ) -> None:
        super().__init__(reader, decoder, None, depth=DEPTH, tail=tail, symbol=symbol, turn=turn, limit_s=limit_s)
        self.feed_topic = feed_topic
        self.orders_topic = orders_topic
        self.kept_topic = kept_topic

    def restore(self, desk: Desk, partition: int) -> None:
        """Fill the empty ``desk`` of a partition.

        Raises
        ------
        StreamError
        """
        self.running = True
        try:
            if self.kept_topic is not None:
                self._known(desk, self.kept_topic, partition)
            _, desk.next = self.reader.bounds(self.feed_topic, partition)
            self.fill(desk.market, KafkaPlace(self.feed_topic, partition, desk.next))
        finally:
            self.running = False
        desk.market.changed.clear()  # that is for who remembers books

    def _known(self, desk: Desk, topic: str, partition: int) -> None:
        self.make_like(topic, self.orders_topic)
        identity = self.reader.identity(self.orders_topic)
        start, desk.seen = self.reader.bounds(topic, partition)
        mark: KeptMark | None = None
        for record in self.records(topic, partition, start, desk.seen):
            try:
                if record.key == MARK:
                    mark = _marks.decode(record.value or b"")
                    continue
                _identities.decode(record.key or b"")
                name = digest_of(record.key or b"")
                desk.known.pop(name, None)
                if record.value is not None:
                    answered = _answers.decode(record.value)
                    desk.learn(name, answered.order, answered.time, record.offset)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise StreamError(
                    f"{topic}:{partition}:{record.offset} is no order of this program ({error}): another --group, "
                    "or an empty topic, would start anew"
                ) from None
        self._check_topic(desk, mark, identity)
        logger.info("orders of %s:%d known: %d", self.orders_topic, partition, len(desk.known))

    def _check_topic(self, desk: Desk, mark: KeptMark | None, identity: str | None) -> None:
        """Let go of orders that were in a topic which has been deleted: they expire at once."""
        if mark is None or identity not in (None, mark.topic):
            start = 0 if mark is None else desk.seen
            desk.mark = mark = None if identity is None else KeptMark(identity, start)
        if mark is None or not mark.start:
            return
        for name, entry in desk.known.items():
            terms, _, offset = _ENTRY.unpack(entry)
            if offset < mark.start:
                desk.known[name] = _ENTRY.pack(terms, 0, offset)

    def look_through(self, desk: Desk, partition: int, most: int = MOST_RECENT) -> None:
        """Find where recent answers lie, once there are many of them."""
        if self.kept_topic is not None and len(desk.recent) > most:
            _, end = self.reader.bounds(self.kept_topic, partition)
            for record in self.reader.records(self.kept_topic, partition, desk.seen, end):
                if record.value is not None:
                    desk.found(digest_of(record.key or b""), record.offset)
            desk.seen = end

    def forget(self, desk: Desk, partition: int, before: int) -> None:
        """Forget answers from before a time."""
        old = desk.expired(before)
        if UNSEEN in old.values():
            self.look_through(desk, partition, 0)
            old = {name: desk.place_of(name) for name in old}
        kept = self.kept(partition, old.values()) if old else {}
        desk.forget({name: kept[place].key if place in kept else None for name, place in old.items()})

    def kept(self, partition: int, offsets: Iterable[int]) -> dict[int, Record]:
        """Records of the answers at these places, as far as they are still there."""
        found: dict[int, Record] = {}
        for start, end in _ranges(sorted({offset for offset in offsets if offset != UNSEEN})):
            for record in self.reader.records(str(self.kept_topic), partition, start, end):
                found[record.offset] = record
            self.turn()
        return found


def _ranges(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Few ranges that have all of these, which are sorted."""
    start = end = None
    for offset in offsets:
        if start is None or end is None:
            start = offset
        elif offset - end >= NEAR:
            yield start, end
            start = offset
        end = offset + 1
    if start is not None and end is not None:
        yield start, end


_messages = msgspec.json.Decoder(OrderMessage)
_of_shares = msgspec.json.Decoder(_OfShares)
_heads = msgspec.json.Decoder(_Head)
_names = msgspec.json.Decoder(_Names)
_identities = msgspec.json.Decoder(tuple[str, str])
_answers = msgspec.json.Decoder(Answered)
_marks = msgspec.json.Decoder(KeptMark)


# --- answering -------------------------------------------------------------------------------------------------------


class FeedRecord(Record, Protocol):
    partition: int


class Feed(Protocol):
    """Partitions of the market data, followed apart from any group."""

    topic: str

    def follow(self, partition: int, offset: int) -> None:
        """Read a partition too, from ``offset``."""

    def leave(self, partition: int) -> None:
        """Read a partition no more."""

    def poll(self, wait_ms: int) -> Sequence[FeedRecord]:
        """Records that come within a time, in order within each partition."""

    def lost(self) -> set[int]:
        """Partitions whose books have to be made anew, since this was last asked."""

    def position(self, partition: int) -> int:
        """Offset after all that has been handed out."""

    def ends(self, partitions: set[int], seconds: float) -> dict[int, int]:
        """Offsets after the last records; those missing could not be told in time."""


class Terms(NamedTuple):
    """What holds for all orders."""

    max_age_ms: float | None  # of an order when it is answered; None: any
    wait_s: float  # for the books to be as new as the order
    memory_ms: int  # for which an order is known


class OrderPipeline:
    """Answers every order with its result, its first result or a rejection.

    Parameters
    ----------
    new_books : callable
        Makes the empty books of a partition, `DEPTH` levels deep.
    new_router : callable
        Makes the router for an algorithm and an objective, None for the default; raises `InputError`.
    sink : Sink
    feed : Feed
        Where the market data comes from.
    recovery : OrderRecovery
        How a partition's state comes back.
    terms : Terms
    instruments : Instruments
        What symbols are traded in: those of the books.
    log_level : int
        Level of the lines that every result logs.
    """

    def __init__(
        self,
        new_books: Callable[[], Books],
        new_router: NewRouter,
        sink: Sink,
        feed: Feed,
        recovery: OrderRecovery,
        terms: Terms,
        *,
        instruments: Instruments = SHARES,
        log_level: int = logging.INFO,
    ) -> None:
        self._instruments = instruments
        self.sink = sink
        self.feed = feed
        self.recovery = recovery
        self.terms = terms
        self.summary = RunSummary()
        self.age_ms: int | None = None  # of the last order, when it was answered
        self._new_books = new_books
        self._new_router = new_router
        self._routers: dict[tuple[str | None, str | None], Router] = {}
        self._desks: dict[int, Desk] = {}
        self._scattered = Scattered()
        self._busy = False  # market data came at the last turn
        self._level = log_level
        self._logs = logger.isEnabledFor(log_level)

    @property
    def publishers(self) -> set[int]:
        """Publisher ids seen."""
        return set().union(*(desk.market.books.publishers for desk in self._desks.values()))

    def wait_s(self) -> float:
        """How long the source may wait for orders: not while the books have to be kept up with the market data."""
        return BUSY_S if self._busy else IDLE_S

    def prepare(self, source: Source) -> None:
        """Rebuild the state of the partitions that are new, and bring the books of all forward."""
        self.forget(self.feed.lost())
        new = source.partitions - self._desks.keys()
        if new:
            self.recovery.start()
        for partition in new:
            desk = Desk(self._new_books())
            self.recovery.restore(desk, partition)
            self.feed.follow(partition, desk.next)
            self._desks[partition] = desk
        if new:
            self._scattered.look_at_all(self._books(), self.summary)
        self._busy = self._follow(FEED_MS if self._busy else 0)

    def _books(self) -> dict[int, Books]:
        return {partition: desk.market.books for partition, desk in self._desks.items()}

    def process(self, batch: list[Message]) -> None:
        """Answer a batch, and hand what is now known to the sink."""
        partitions = {message.partition for message in batch}
        self._await_books(partitions)
        for partition in partitions:
            desk = self._desks[partition]
            self.recovery.look_through(desk, partition)
            self.recovery.forget(desk, partition, self._since())
        asked = [self._asked(message) for message in batch]
        first = self._first_answers(batch, asked)
        for message, order in zip(batch, asked, strict=True):
            if isinstance(order, str):
                self._refuse(message, order)
            else:
                self._answer(message, self._desks[message.partition], order, first)
            self.summary.messages += 1
        for partition in partitions:
            for key, value in self._desks[partition].news():
                self.sink.remember(partition, key, value)

    def stand(self) -> None:
        for desk in self._desks.values():
            desk.stand()
            if self.recovery.kept_topic is None:
                desk.let_go()

    def undo(self) -> None:
        """The last batch did not take place: its orders are not known. The books stay where the market data is."""
        for desk in self._desks.values():
            desk.undo()

    def forget(self, partitions: set[int]) -> None:
        """Throw away the state of partitions: another member moves on with them, or what they hold has changed."""
        for partition in partitions:
            if self._desks.pop(partition, None) is not None:
                self.feed.leave(partition)

    # --- market data

    def _follow(self, wait_ms: int) -> bool:
        """Bring market data into the books; whether there was any."""
        records = self.feed.poll(wait_ms)
        for record in records:
            self._apply(self._desks[record.partition].market, record)
        for partition, desk in self._desks.items():
            desk.next = self.feed.position(partition)
        return bool(records)

    def _apply(self, market: Partition, record: FeedRecord) -> None:
        value = record.value or b""
        try:
            update = self.recovery.decoder.decode(value)
            if self.recovery.symbol in (None, update.symbol):
                new = update.symbol not in market.books.by_symbol
                self.summary.evicted += market.apply(update)
                if new and len(self._desks) > 1:
                    self._scattered.look(update.symbol, record.partition, self._books(), self.summary)
                market.doubtful = max(0, market.doubtful - 1)
        except DataError as error:
            place = KafkaPlace(self.feed.topic, record.partition, record.offset)
            DeadLetter(value, place, error.reason, str(error), record.key).tell()

    def _await_books(self, partitions: set[int]) -> None:
        """Wait, within the bound, until the books have taken in what was there when their orders arrived."""
        deadline = time.monotonic() + self.terms.wait_s
        ends = self.feed.ends(partitions, self.terms.wait_s)
        while any(self._desks[partition].next < end for partition, end in ends.items()):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._follow(min(FEED_MS, int(1e3 * left) + 1))
            self.recovery.turn()
        for partition in partitions:
            desk = self._desks[partition]
            desk.late = self._late(desk, ends.get(partition))

    def _late(self, desk: Desk, end: int | None) -> str | None:
        within = f"within {self.terms.wait_s:g} s"
        if end is None:
            return f"market data may be missing: its end could not be told {within}"
        if desk.next < end:
            return f"market data is missing: {end - desk.next:,} messages before the order were not read {within}"
        return None

    # --- orders

    def _asked(self, message: Message) -> OrderMessage | str:
        """The order of a message, or why it is none."""
        try:
            asked = order_of(message.value, self._instruments)
            self._router(asked)
        except (DataError, InputError) as error:
            return str(error)[:LONGEST_REASON]
        return asked

    def _refuse(self, message: Message, reason: str) -> None:
        """Answer what is no order."""
        self._reject(message, names_of(message.value), reason)
        self.summary.bad["order"] += 1
        self.sink.reject(DeadLetter(message.value, message.place, "order", reason, message.key))

    def _first_answers(self, batch: list[Message], asked: list[OrderMessage | str]) -> dict[tuple[int, int], bytes]:
        """Answers that lie in the topic, of the orders of a batch that come again, by partition and offset."""
        places: dict[int, set[int]] = {}
        since = self._since()
        for message, order in zip(batch, asked, strict=True):
            known = None if isinstance(order, str) else self._desks[message.partition].answer_to(order, since)
            if known is not None and known[0] and isinstance(known[1], int):
                places.setdefault(message.partition, set()).add(known[1])
        first: dict[tuple[int, int], bytes] = {}
        for partition, offsets in places.items():
            kept = self.recovery.kept(partition, offsets)
            gone = sorted(offsets - kept.keys())
            if gone:
                logger.warning(
                    "%s:%d: %d first answers are gone, such as that at %d: their orders are answered anew",
                    *(self.recovery.kept_topic, partition, len(gone), gone[0]),
                )
            for offset in offsets & kept.keys():
                first[partition, offset] = bytes(_answers.decode(kept[offset].value or b"").result)
        return first

    def _answer(self, message: Message, desk: Desk, asked: OrderMessage, first: dict[tuple[int, int], bytes]) -> None:
        started = time.perf_counter_ns()
        same, known = desk.answer_to(asked, self._since()) or (True, None)
        if isinstance(known, int) and same:
            known = first.get((message.partition, known))  # None: somebody has deleted it
        if known is None:
            result = self._first_answer(message, desk, asked, self._router(asked), started)
            desk.keep(Answered(_now_ms(), asked, msgspec.Raw(result)))
        elif same:
            self.sink.add(asked.id, bytes(known))
            self.summary.skipped["repeated"] += 1
        else:
            reason = "an order with this id and symbol and other terms has been answered: it needs an id of its own"
            self._reject(message, OrderNames(asked.id, asked.symbol), reason, "terms")

    def _first_answer(self, message: Message, desk: Desk, asked: OrderMessage, router: Router, started: int) -> bytes:
        book = desk.market.books.by_symbol.get(asked.symbol)
        place = self._place(message, desk)
        warnings = [] if desk.late is None else [desk.late]
        warnings += desk.market.caveats(asked.symbol)
        if book is None:
            reason = f"no market data of {asked.symbol} in {self.feed.topic}:{message.partition}"
            if self.recovery.symbol not in (None, asked.symbol):
                reason = f"only {self.recovery.symbol} is routed here (--symbol)"
            elif warnings:
                reason += f" ({'; '.join(warnings)})"
            return self._reject(message, OrderNames(asked.id, asked.symbol), reason, "symbol", place)
        stream, halt = None, None
        if message.time is not None:
            stream = StreamState(message.lag, age_of(message.time), 0)
            self.age_ms = stream.age_ms
            halt = too_old(stream, self.terms.max_age_ms)
        try:
            result = router.route(asked.checked(self._instruments), book, stream=stream, source=place, halt=halt)
        except SorError as error:  # such as a quantity that cannot be placed: no fault of the stream
            reason = str(error)[:LONGEST_REASON]
            return self._reject(message, OrderNames(asked.id, asked.symbol), reason, "routing", place)
        result.warnings.extend(warnings)
        line = result.to_json()
        self.sink.add(asked.id, line)
        self.summary.add(result, time.perf_counter_ns() - started)
        if self._logs:
            log_result(result, self._level)
        return line

    def _since(self) -> int:
        """When the oldest answer was given that is still known."""
        return _now_ms() - self.terms.memory_ms

    def _router(self, asked: OrderMessage) -> Router:
        key = asked.algorithm, asked.objective
        router = self._routers.get(key)
        if router is None:
            router = self._routers[key] = self._new_router(*key)
        return router

    def _reject(
        self,
        message: Message,
        names: OrderNames,
        reason: str,
        word: str | None = None,
        place: OrderPlace | None = None,
    ) -> bytes:
        """Answer with a rejection, counted by ``word`` where there is no dead letter to count."""
        place = place or self._place(message, None)
        line = msgspec.json.encode(Rejection(names, "rejected", reason, SCHEMA_VERSION, place))
        key = names.id if names.id is not None else (message.key or b"")[:LONGEST_KEY].decode(errors="replace")
        self.sink.add(key, line)
        if word is not None:
            self.summary.rejected[word] += 1
        logger.log(self._level, "order %s of %s rejected: %s", names.id, names.symbol, reason)
        return line

    def _place(self, message: Message, desk: Desk | None) -> OrderPlace:
        topic, partition, offset = msgspec.structs.astuple(message.place)
        book = None if desk is None or not desk.next else KafkaPlace(self.feed.topic, partition, desk.next - 1)
        return OrderPlace(topic, partition, offset, book)


def _now_ms() -> int:
    return round(time.time() * 1e3)
