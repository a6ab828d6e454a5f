"""Whether the topics of a consumer hold just what an undisturbed replay of its input gives: once, and the same bytes.

The replay goes by the library alone, partition by partition and in the order of offsets: no Kafka, no batches, no
recovery. Of each answer a hash is kept, so that a million messages take 20 MB.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python reads its schemas the old way
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.errors import KafkaError

from sor.errors import DataError, InputError
from sor.market.book import Books
from sor.market.databento_json import JsonDecoder
from sor.market.venues import VenueDirectory
from sor.routing.router import Router
from sor.service import settings as config
from sor.stream.messages import KafkaPlace
from sor.stream.orders import DEPTH, OrderNames, OrderPlace, names_of, order_of
from sor.types import Order

SYMBOLS = 40
RARE = 97  # one in so many quotes of a symbol is of a venue that is not heard otherwise: half a book lacks it
BAD_EVERY = 1_000
BAD = (b"junk", b"", b'{"ts_event":1}', b'{"symbol":7', b"\xff\xfe{}", b"null")
SILENCE_S = 120.0  # without a record, though some are to come, before a reader gives up
QUOTE = ("venue_id", "ask", "ask_size", "fee", "rebate", "bid", "bid_size")
SHOWN = 5  # places kept of each kind of fault
LETTER_BYTES, KEY_BYTES = 2**20 - 2**13, 2**10  # of a dead letter, and of its key alone; longer ones are cut
STREAM = re.compile(rb'"stream":\{[^{}]*\}')
View = Callable[[bytes], bytes]  # of a result: what of it is compared

Message = tuple[bytes | None, bytes | None]  # key, value


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Stuck(RuntimeError):
    """What has to come does not come."""


# --- a feed ----------------------------------------------------------------------------------------------------------


def feed(first: int, count: int) -> Iterator[Message]:
    """Messages number ``first`` and on: symbols of four venues and a rare one, and some that cannot be used."""
    return map(message, range(first, first + count))


def message(i: int) -> Message:
    """Message number ``i`` of the feed."""
    symbol, visit = i * 7 % SYMBOLS, i // SYMBOLS
    key = b"SYM%02d" % symbol
    if i % BAD_EVERY == BAD_EVERY // 2:
        return key, BAD[i // BAD_EVERY % len(BAD)]
    publisher = 5 if visit % RARE == symbol else 1 + (visit * 3 + symbol) % 4
    return (
        key,
        b'{"ts_event":%d,"publisher_id":%d,"sequence":%d,"bid_px_00":%.2f,"ask_px_00":%.2f,'
        b'"bid_sz_00":%d,"ask_sz_00":%d,"symbol":"%s"}'
        % (
            10**18 + i * 10**6,
            publisher,
            i,
            100 - i % 5 / 100,
            100.01 + i % 7 / 100,
            1 + i % 900,
            1 + i % 1300,
            key,
        ),
    )


REPEATED, OTHER_TERMS, JUNK, REFUSED, RESTING = 3, 17, 23, 29, 31  # one in so many orders is of such a kind


def order(i: int) -> Message:
    """Order number ``i``: most are new, some come again, some cannot be answered with a split."""
    if i % REPEATED == REPEATED - 1:  # from among the last thousand, with that one's key and so its partition
        return order(i - 1 - i * 7919 % min(i, 1_000))
    symbol = b"SYM%02d" % (i * 11 % SYMBOLS)
    if i % JUNK == 1:
        return symbol, b'{"id":"o%d","symbol":7}' % i
    if i % OTHER_TERMS == 1:
        key, first = order(i - 1)
        return key, (first or b"").replace(b'"quantity":', b'"quantity":1')
    more = b""
    quantity = 100 + i % 4_000
    if i % REFUSED == 1:
        more, quantity = b',"algorithm":"cont_kukanov"', 10**12 + 1 + i
    elif i % RESTING == 1:
        more = b',"algorithm":"cont_kukanov"'
    return symbol, b'{"id":"o%d","symbol":"%s","side":"%s","quantity":%d%s}' % (
        i,
        symbol,
        (b"buy", b"sell")[i % 2],
        quantity,
        more,
    )


def orders(first: int, count: int) -> Iterator[Message]:
    """Orders number ``first`` and on."""
    return map(order, range(first, first + count))


class Producing:
    """Sends messages to a topic, and knows how many the brokers have acknowledged."""

    def __init__(self, servers: str, topic: str, **options: Any) -> None:
        self.topic = topic
        self.sent = 0
        self.numbers: dict[int, array[int]] = {}  # by partition, in the order of offsets
        self._producer = KafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            linger_ms=20,
            batch_size=128 << 10,
            max_request_size=2 << 20,
            max_block_ms=300_000,
            delivery_timeout_ms=300_000,
            **options,
        )

    def send(self, messages: Iterable[Message]) -> None:
        futures = [self._producer.send(self.topic, value, key=key) for key, value in messages]
        self._producer.flush(timeout=300)
        places = [future.get(timeout=1) for future in futures]
        for number, place in sorted(enumerate(places, self.sent), key=lambda one: one[1].offset):
            numbers = self.numbers.setdefault(place.partition, array("I"))
            if place.offset != len(numbers):
                raise Stuck(f"message {number} is at {place}, not the one after {len(numbers) - 1}")
            numbers.append(number)
        self.sent += len(futures)

    def records(self, partition: int, message: Callable[[int], Message] = message) -> Iterator[Record]:
        """What was sent to a partition, whether the brokers still have it or not."""
        for offset, number in enumerate(self.numbers.get(partition, ())):
            yield Record(self.topic, partition, offset, *message(number))

    def close(self) -> None:
        self._producer.close(timeout=10)


# --- reading ---------------------------------------------------------------------------------------------------------


def ends(servers: str, topic: str) -> dict[Any, int]:
    """The high watermark of each partition: beyond what open transactions have written."""
    with KafkaConsumer(bootstrap_servers=servers, group_id=None) as consumer:
        places = [TopicPartition(topic, part) for part in sorted(consumer.partitions_for_topic(topic) or ())]
        return dict(consumer.end_offsets(places))


def starts(servers: str, topic: str) -> dict[int, int]:
    """The first offset that each partition still has."""
    with KafkaConsumer(bootstrap_servers=servers, group_id=None) as consumer:
        places = [TopicPartition(topic, part) for part in sorted(consumer.partitions_for_topic(topic) or ())]
        return {place.partition: offset for place, offset in consumer.beginning_offsets(places).items()}


def committed_records(
    servers: str, topic: str, partition: int | None = None, since: Mapping[Any, int] | None = None
) -> Iterator[Any]:
    """The committed records of a topic, partition by partition; waits for transactions that have not ended there."""
    bounds = ends(servers, topic)
    with KafkaConsumer(
        bootstrap_servers=servers, group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    ) as consumer:
        for place, end in bounds.items():
            if partition in (None, place.partition):
                yield from _records(consumer, place, (since or {}).get(place, 0), end)


def _records(consumer: Any, place: Any, start: int, end: int) -> Iterator[Any]:
    consumer.assign([place])
    consumer.seek(place, start)
    deadline = time.monotonic() + SILENCE_S
    while (position := consumer.position(place)) < end:
        polled = consumer.poll(timeout_ms=500, max_records=2_000).get(place, [])
        yield from (record for record in polled if record.offset < end)
        if polled:
            deadline = time.monotonic() + SILENCE_S
        elif time.monotonic() > deadline:
            raise Stuck(f"{place.topic}:{place.partition} cannot be read from {position} to {end}")


class Progress:
    """How far a group has come; asks brokers that may be gone, and then answers what it knew."""

    def __init__(self, servers: str, topic: str, group: str, partitions: int) -> None:
        self.commits = 0  # moves seen
        self._client = {"bootstrap_servers": servers, "group_id": group, "enable_auto_commit": False}
        self._places = [TopicPartition(topic, part) for part in range(partitions)]
        self._known = dict.fromkeys(self._places, 0)
        self._consumer: Any = None

    def by_partition(self) -> dict[int, int]:
        try:
            if self._consumer is None:
                self._consumer = KafkaConsumer(**self._client)
            for place in self._places:
                offset = self._consumer.committed(place, timeout_ms=5_000) or 0
                self.commits += offset != self._known[place]
                self._known[place] = offset
        except KafkaError:
            self.close()
        return {place.partition: offset for place, offset in self._known.items()}

    def total(self) -> int:
        return sum(self.by_partition().values())

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(KafkaError, OSError):
                consumer.close(autocommit=False, timeout_ms=1_000)


# --- what ought to be there ------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """A result or a dead letter, as its bytes on a topic but for what depends on the clock."""

    kind: bytes
    key: bytes | None
    value: bytes
    reason: bytes = b""

    @property
    def digest(self) -> int:
        content = repr((self.kind, self.key, self.reason)).encode() + self.value
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def all_of(result: bytes) -> bytes:
    """A result's bytes, but for what depends on the clock."""
    return STREAM.sub(b'"stream":null', result)


def book_of(result: bytes) -> bytes:
    """What a result says of its book, where its split depends on what came before: that of ``cont_kukanov`` does."""
    found = json.loads(result)
    if "venues" not in found:
        return result
    quotes = [{name: one[name] for name in QUOTE} for one in found["venues"]]
    return json.dumps([found["symbol"], found["order_size"], found["source"], found["book"], quotes]).encode()


def result_of(record: Any, view: View = all_of) -> Answer:
    return Answer(b"result", record.key, view(record.value))


def letter_of(record: Any) -> Answer:
    return Answer(b"letter", record.key, record.value, dict(record.headers)["sor.reason"])


class Replay:
    """What a consumer with no options but its topics answers to the messages of one partition, in their order.

    ``deep``: it decodes all levels and what has happened, as ``cont_kukanov`` does, and so refuses more.
    """

    def __init__(self, *, deep: bool = False) -> None:
        settings = config.load("consume", {}, {})
        self._settings = settings
        self._directory = VenueDirectory.load(settings.venues)
        self._router = Router(settings.parameters, settings.algorithm, settings.objective)
        self._depth = DEPTH if deep else self._router.depth
        self._decoder = JsonDecoder(self._depth, events=deep)

    def answers(self, records: Iterable[Any]) -> Iterator[tuple[int, Answer]]:
        books = Books(self._directory, "publishers", self._depth)
        for record in records:
            yield record.offset, self._answer(books, record)

    def _answer(self, books: Books, record: Any) -> Answer:
        value = record.value or b""
        try:
            update = self._decoder.decode(value)
        except DataError as error:
            key = None if record.key is None else record.key[:KEY_BYTES]
            return Answer(b"letter", key, value[: LETTER_BYTES - len(key or b"")], error.reason.encode())
        books.apply(update)
        order = Order(update.symbol, self._settings.side, self._settings.order_size)
        place = KafkaPlace(record.topic, record.partition, record.offset)
        result = self._router.route(order, books.by_symbol[update.symbol], source=place)
        return Answer(b"result", update.symbol.encode(), result.to_json())


class OrderReplay:
    """What a consumer of orders answers to those of one partition, where all market data was there before them.

    A repeated order has the answer of the first: that one has two copies, and it none.
    """

    def __init__(self, view: View = all_of) -> None:
        settings = config.load("consume", {"results_topic": "results"}, {})
        self._directory = VenueDirectory.load(settings.venues)
        self._settings = settings
        self._view = view
        self.copies: Counter[int] = Counter()  # by offset
        self.first: dict[int, int] = {}  # the offset that answers another

    def answers(self, orders: Iterable[Any], market: Iterable[Any]) -> Iterator[tuple[int, Answer]]:
        books, decoder, last = Books(self._directory, "publishers", DEPTH), JsonDecoder(DEPTH), None
        for record in market:
            last = KafkaPlace(record.topic, record.partition, record.offset)
            with contextlib.suppress(DataError):
                books.apply(decoder.decode(record.value or b""))
        known: dict[tuple[str, str], tuple[Any, int]] = {}
        for record in orders:
            place = OrderPlace(record.topic, record.partition, record.offset, None)
            try:
                asked = order_of(record.value or b"")
            except DataError:
                yield self._rejected(record, names_of(record.value or b""), place)
                continue
            terms, first = known.setdefault((asked.symbol, asked.id), (asked, record.offset))
            if first != record.offset and terms == asked:
                self.copies[first] += 1
                self.first[record.offset] = first
            elif first != record.offset:
                yield self._rejected(record, OrderNames(asked.id, asked.symbol), place)
            else:
                answer = self._answer(asked, books, record, msgspec.structs.replace(place, market_data=last))
                if answer is None:  # refused by routing: that is its answer, whoever repeats it
                    yield self._rejected(record, OrderNames(asked.id, asked.symbol), place)
                else:
                    self.copies[record.offset] += 1
                    yield record.offset, answer

    def _rejected(self, record: Any, names: Any, place: Any) -> tuple[int, Answer]:
        """Of a rejection only that it is one is compared: its words are for people."""
        self.copies[record.offset] += 1
        return record.offset, Answer(b"rejected", names.id and names.id.encode(), b"")

    def _answer(self, asked: Any, books: Books, record: Any, place: Any) -> Answer | None:
        algorithm = asked.algorithm or self._settings.algorithm
        try:
            router = Router(self._settings.parameters, algorithm, asked.objective or self._settings.objective)
            result = router.route(asked.checked(), books.by_symbol[asked.symbol], source=place)
        except InputError:
            return None
        if asked.quantity > 10**12 and algorithm == "cont_kukanov":
            return None
        return Answer(b"result", asked.id.encode(), self._view(result.to_json()))


# --- the verdict -----------------------------------------------------------------------------------------------------


class Verdict:
    """Counts of what is wrong, with the first places of each kind."""

    def __init__(self) -> None:
        self.inputs = self.results = self.letters = 0
        self.missing = self.doubled = self.different = self.stray = 0
        self.places: dict[str, list[str]] = {}

    def fault(self, kind: str, place: str, count: int = 1) -> None:
        setattr(self, kind, getattr(self, kind) + count)
        shown = self.places.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(place)

    def count(self, place: str, copies: int, wanted: int) -> None:
        """Note how many answers an input has, and how many it should have."""
        if copies < wanted:
            self.fault("missing", place, wanted - copies)
        elif copies > wanted:
            self.fault("doubled", place, copies - wanted)

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Found:
    """Answers found for the messages of one input partition."""

    def __init__(self, size: int) -> None:
        self.copies = array("H", bytes(2 * size))
        self.digests = array("Q", bytes(8 * size))
        self.unlike: set[int] = set()  # offsets whose copies are not all the same

    def note(self, offset: int, digest: int) -> None:
        if self.copies[offset] and self.digests[offset] != digest:
            self.unlike.add(offset)
        self.copies[offset] += 1
        self.digests[offset] = digest


class Ledger:
    """How often the inputs of a topic are to be answered: once each, but for what was done to the group on purpose."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int, int, int, bytes | None]] = []
        self._doubtful: dict[int, int] = {}

    def again(self, partition: int, start: int, end: int) -> None:
        """The group was set back: inputs that had been answered come again."""
        self._spans.append((partition, start, end, 1, None))

    def only(self, partition: int, start: int, end: int, symbol: bytes) -> None:
        """Only one symbol was routed; what is no market data has a dead letter all the same."""
        self._spans.append((partition, start, end, -1, symbol))

    def gone(self, partition: int, start: int, end: int) -> None:
        """Retention was faster than the group; what is answered after that may lack what is gone."""
        self._spans.append((partition, start, end, -1, None))
        self._doubtful[partition] = min(start, self._doubtful.get(partition, start))

    def copies(self, partition: int, offset: int, answer: Answer) -> int:
        """Answers that an input is to have."""
        count = 1
        for of, start, end, change, symbol in self._spans:
            left_out = symbol is not None and (answer.kind == b"letter" or answer.key == symbol)
            if of == partition and start <= offset < end and not left_out:
                count += change
        return count

    def compares(self, partition: int, offset: int) -> bool:
        """Whether the answer has to be that of an undisturbed replay."""
        return offset < self._doubtful.get(partition, offset + 1)


def check(
    servers: str,
    topic: str,
    results_topic: str,
    letters_topic: str,
    *,
    inputs: Callable[[int], Iterable[Any]] | None = None,
    ledger: Ledger | None = None,
    since: Mapping[Any, int] | None = None,
    view: View = all_of,
) -> Verdict:
    """Hold the committed results and dead letters against a replay of the input.

    Parameters
    ----------
    inputs : callable, optional
        The records of a partition, in order from offset 0; default: those that the brokers have.
    ledger : Ledger, optional
        How often each is to be answered; default: once.
    since : mapping, optional
        Offsets of the results and letters from which on they count.
    view : callable
        What of a result is compared.
    """
    verdict = Verdict()
    found = {place.partition: Found(end) for place, end in ends(servers, topic).items()}
    inputs = inputs or (lambda partition: committed_records(servers, topic, partition))

    def note(answer: Answer, place: str) -> None:
        name, partition, offset = place.rsplit(":", 2)
        of_input = found.get(int(partition))
        if name != topic or of_input is None or not int(offset) < len(of_input.copies):
            verdict.fault("stray", place)
        else:
            of_input.note(int(offset), answer.digest)

    for record in committed_records(servers, results_topic, since=since):
        verdict.results += 1
        note(result_of(record, view), _source_of(record.value))
    for record in committed_records(servers, letters_topic, since=since):
        verdict.letters += 1
        note(letter_of(record), dict(record.headers)["sor.place"].decode())
    for partition, of_input in found.items():
        _compare(topic, partition, inputs(partition), of_input, verdict, ledger or Ledger(), view)
    return verdict


_SOURCE = re.compile(rb'"source":\{"topic":"([^"]*)","partition":(\d+),"offset":(\d+)[,}]')


def _source_of(result: bytes) -> str:
    match = _SOURCE.search(result)
    return b":".join(match.groups()).decode() if match else "?:-1:-1"


def _compare(
    topic: str, partition: int, inputs: Iterable[Any], found: Found, verdict: Verdict, ledger: Ledger, view: View
) -> None:
    for expected, (offset, answer) in enumerate(Replay(deep=view is book_of).answers(inputs)):
        place = f"{topic}:{partition}:{offset}"
        if offset != expected:
            raise Stuck(f"{place} is not the message after {expected - 1}: the input itself has a gap")
        verdict.inputs += 1
        verdict.count(place, found.copies[offset], ledger.copies(partition, offset, answer))
        if answer.kind == b"result":
            answer = answer._replace(value=view(answer.value))
        if (
            found.copies[offset]
            and ledger.compares(partition, offset)
            and (offset in found.unlike or found.digests[offset] != answer.digest)
        ):
            verdict.fault("different", place)


def check_orders(servers: str, topic: str, orders: Producing, market: Producing, **more: Any) -> Verdict:
    """Hold the committed answers to orders, and their dead letters, against a replay; see `check`.

    ``again`` are the (partition, start, end) that the group was set back over.
    """
    view, again = more.get("view", all_of), more.get("again", [])
    verdict, found = Verdict(), {partition: Found(len(numbers)) for partition, numbers in orders.numbers.items()}
    for record in committed_records(servers, topic):
        verdict.results += 1
        name, partition, offset = _source_of(record.value).rsplit(":", 2)
        if name != orders.topic or int(offset) >= len(found[int(partition)].copies):
            verdict.fault("stray", f"{name}:{partition}:{offset}")
        elif b'"status":"rejected"' in record.value:
            key = None if b'"id":null' in record.value else record.key
            found[int(partition)].note(int(offset), Answer(b"rejected", key, b"").digest)
        else:
            found[int(partition)].note(int(offset), result_of(record, view).digest)
    for partition, of_partition in found.items():
        replay, books = OrderReplay(view), market.records(partition)
        expected = dict(replay.answers(orders.records(partition, order), books))
        for of, start, end in again:
            if of == partition:
                replay.copies.update(replay.first.get(offset, offset) for offset in range(start, end))
        for offset, copies in enumerate(of_partition.copies):
            place = f"{orders.topic}:{partition}:{offset}"
            verdict.inputs += 1
            verdict.count(place, copies, replay.copies[offset])
            answer = expected.get(offset)  # None: a known order's, which has the first one's answer
            if copies and (
                offset in of_partition.unlike or answer is None or of_partition.digests[offset] != answer.digest
            ):
                verdict.fault("different", place)
    return verdict


def explain(servers: str, producing: Producing, results_topic: str, place: str) -> list[str]:
    """What an input should have been answered with, and what it was, for a report."""
    _, partition, offset = place.rsplit(":", 2)
    records = producing.records(int(partition))
    expected = next(answer for at, answer in Replay().answers(records) if at == int(offset))
    answers = [record for record in committed_records(servers, results_topic) if _source_of(record.value) == place]
    return [
        f"{place} expected {expected.value!r}",
        *(f"{place} found at {one.partition}:{one.offset} {one.value!r}" for one in answers),
    ]
