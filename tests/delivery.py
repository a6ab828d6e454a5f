"""Whether the topics of a consumer hold just what an undisturbed replay of its input gives: once, and the same bytes.

The replay goes by the library alone, partition by partition and in the order of offsets: no Kafka, no batches, no
recovery. Of each answer a hash is kept, so that a million messages take 20 MB.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
import warnings
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python reads its schemas the old way
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.errors import KafkaError

from sor.errors import DataError
from sor.market.book import Books
from sor.market.databento_json import JsonDecoder
from sor.market.venues import VenueDirectory
from sor.routing.router import Router
from sor.service import settings as config
from sor.stream.messages import KafkaPlace
from sor.types import Order

SYMBOLS = 40
RARE = 97  # one in so many quotes of a symbol is of a venue that is not heard otherwise: half a book lacks it
BAD_EVERY = 1_000
BAD = (b"junk", b"", b'{"ts_event":1}', b'{"symbol":7', b"\xff\xfe{}", b"null")
SILENCE_S = 120.0  # without a record, though some are to come, before a reader gives up
SHOWN = 5  # places kept of each kind of fault
LETTER_BYTES, KEY_BYTES = 2**20 - 2**13, 2**10  # of a dead letter, and of its key alone; longer ones are cut
STREAM = re.compile(rb'"stream":\{[^{}]*\}')

Message = tuple[bytes | None, bytes | None]  # key, value


class Stuck(RuntimeError):
    """What has to come does not come."""


# --- a feed ----------------------------------------------------------------------------------------------------------


def feed(first: int, count: int) -> Iterator[Message]:
    """Messages number ``first`` and on: symbols of four venues and a rare one, and some that cannot be used."""
    for i in range(first, first + count):
        symbol, visit = i * 7 % SYMBOLS, i // SYMBOLS
        key = b"SYM%02d" % symbol
        if i % BAD_EVERY == BAD_EVERY // 2:
            yield key, BAD[i // BAD_EVERY % len(BAD)]
            continue
        publisher = 5 if visit % RARE == symbol else 1 + (visit * 3 + symbol) % 4
        yield (
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


class Producing:
    """Sends messages to a topic, and knows how many the brokers have acknowledged."""

    def __init__(self, servers: str, topic: str, **options: Any) -> None:
        self.topic = topic
        self.sent = 0
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
        for future in futures:
            future.get(timeout=1)
        self.sent += len(futures)

    def close(self) -> None:
        self._producer.close(timeout=10)


# --- reading ---------------------------------------------------------------------------------------------------------


def ends(servers: str, topic: str) -> dict[Any, int]:
    """The high watermark of each partition: beyond what open transactions have written."""
    with KafkaConsumer(bootstrap_servers=servers, group_id=None) as consumer:
        places = [TopicPartition(topic, part) for part in sorted(consumer.partitions_for_topic(topic) or ())]
        return dict(consumer.end_offsets(places))


def committed_records(servers: str, topic: str, partition: int | None = None) -> Iterator[Any]:
    """The committed records of a topic, partition by partition; waits for transactions that have not ended there."""
    bounds = ends(servers, topic)
    with KafkaConsumer(
        bootstrap_servers=servers, group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    ) as consumer:
        for place, end in bounds.items():
            if partition in (None, place.partition):
                yield from _records(consumer, place, end)


def _records(consumer: Any, place: Any, end: int) -> Iterator[Any]:
    consumer.assign([place])
    consumer.seek(place, 0)
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


def result_of(record: Any) -> Answer:
    return Answer(b"result", record.key, STREAM.sub(b'"stream":null', record.value))


def letter_of(record: Any) -> Answer:
    return Answer(b"letter", record.key, record.value, dict(record.headers)["sor.reason"])


class Replay:
    """What a consumer with no options but its topics answers to the messages of one partition, in their order."""

    def __init__(self) -> None:
        settings = config.load("consume", {}, {})
        self._settings = settings
        self._directory = VenueDirectory.load(settings.venues)
        self._router = Router(settings.parameters, settings.algorithm, settings.objective)
        self._decoder = JsonDecoder(1)

    def answers(self, records: Iterable[Any]) -> Iterator[tuple[int, Answer]]:
        books = Books(self._directory, "publishers", self._router.depth)
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


def check(servers: str, topic: str, results_topic: str, letters_topic: str) -> Verdict:
    """Hold the committed results and dead letters against a replay of the input."""
    verdict = Verdict()
    found = {place.partition: Found(end) for place, end in ends(servers, topic).items()}

    def note(answer: Answer, place: str) -> None:
        name, partition, offset = place.rsplit(":", 2)
        of_input = found.get(int(partition))
        if name != topic or of_input is None or not int(offset) < len(of_input.copies):
            verdict.fault("stray", place)
        else:
            of_input.note(int(offset), answer.digest)

    for record in committed_records(servers, results_topic):
        verdict.results += 1
        note(result_of(record), _source_of(record.value))
    for record in committed_records(servers, letters_topic):
        verdict.letters += 1
        note(letter_of(record), dict(record.headers)["sor.place"].decode())
    for partition in found:
        _compare(servers, topic, partition, found[partition], verdict)
    return verdict


_SOURCE = re.compile(rb'"source":\{"topic":"([^"]*)","partition":(\d+),"offset":(\d+)\}')


def _source_of(result: bytes) -> str:
    match = _SOURCE.search(result)
    return b":".join(match.groups()).decode() if match else "?:-1:-1"


def _compare(servers: str, topic: str, partition: int, found: Found, verdict: Verdict) -> None:
    expected = 0
    for offset, answer in Replay().answers(committed_records(servers, topic, partition)):
        place = f"{topic}:{partition}:{offset}"
        if offset != expected:
            raise Stuck(f"{place} is not the message after {expected - 1}: the input itself has a gap")
        expected += 1
        verdict.inputs += 1
        if not found.copies[offset]:
            verdict.fault("missing", place)
            continue
        if found.copies[offset] > 1:
            verdict.fault("doubled", place, found.copies[offset] - 1)
        if offset in found.unlike or found.digests[offset] != answer.digest:
            verdict.fault("different", place)


def explain(servers: str, topic: str, results_topic: str, place: str) -> list[str]:
    """What an input should have been answered with, and what it was, for a report."""
    _, partition, offset = place.rsplit(":", 2)
    records = committed_records(servers, topic, int(partition))
    expected = next(answer for at, answer in Replay().answers(records) if at == int(offset))
    answers = [record for record in committed_records(servers, results_topic) if _source_of(record.value) == place]
    return [
        f"{place} expected {expected.value!r}",
        *(f"{place} found at {one.partition}:{one.offset} {one.value!r}" for one in answers),
    ]
