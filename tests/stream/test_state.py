"""Books rebuilt from what was remembered, or from the log's tail, route as those that saw everything."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_by_row import with_rules

from sor.errors import AbortedError, DataError, StreamError
from sor.market.book import Books
from sor.market.databento_json import JsonDecoder
from sor.market.instruments import Instruments
from sor.market.outflow import Outflows
from sor.market.venues import VenueDirectory
from sor.routing.router import Router
from sor.stream.messages import KafkaPlace, Message, Sink
from sor.stream.pipeline import Pipeline, run
from sor.stream.recovery import MARK, Partition, Recovery
from sor.types import CostParameters, Instrument, Order

TOPIC, MEMORY = "input", "group-books"
DIRECTORY = VenueDirectory.load()
DEPTH = 3


class Entry(NamedTuple):
    offset: int
    value: bytes | None
    key: bytes | None = None


class Log:
    """Topics of one partition, in memory; a Reader of them. Compaction keeps each key's last record in its place."""

    def __init__(self, **topics: list[Entry]) -> None:
        self.topics: dict[str, list[Entry]] = topics
        self.keys: dict[str, list[bytes]] = {}

    def make_like(self, topic: str, like: str) -> None:
        self.topics.setdefault(topic, [])

    def identity(self, topic: str) -> str | None:
        return None

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        entries = self.topics[topic]
        return (entries[0].offset, entries[-1].offset + 1) if entries else (0, 0)

    def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Entry]:
        return (entry for entry in self.topics[topic] if start <= entry.offset < end)


class Remembering(Sink):
    """Keeps results, and the compacted memory."""

    remembers = True

    def __init__(self) -> None:
        self.results: list[bytes] = []
        self.memory: dict[bytes, Entry] = {}
        self.failures = 0  # commits to come that are void
        self.refusals: Iterator[bool] = itertools.repeat(False)  # batches to come that cannot begin
        self._batch: tuple[list[bytes], list[tuple[bytes, bytes]]] = ([], [])
        self._next = 0

    def begin(self) -> None:
        self._batch = ([], [])
        if next(self.refusals):
            raise AbortedError("beginning a transaction")

    def add(self, key: str, value: bytes) -> None:
        self._batch[0].append(value)

    def remember(self, partition: int, key: bytes, value: bytes) -> None:
        self._batch[1].append((key, value))

    def commit(self, offsets: Any = None) -> None:
        if self.failures:
            self.failures -= 1
            raise AbortedError("committing a transaction")
        self.results += self._batch[0]
        for key, value in self._batch[1]:
            self.memory.pop(key, None)
            self.memory[key] = Entry(self._next, value, key)
            self._next += 1

    def log(self, feed: list[Message], first: int = 0) -> Log:
        """What is in the topics, the input from its ``first`` message on."""
        entries = [Entry(offset, message.value) for offset, message in enumerate(feed)]
        return Log(**{TOPIC: entries[first:], MEMORY: list(self.memory.values())})


class Batches:
    """A source of one partition that can be rewound."""

    def __init__(self, messages: list[Message], sizes: list[int], start: int = 0) -> None:
        self.messages = messages
        self.partitions = {0}
        self._sizes = iter(sizes)
        self._start = self._end = start

    @property
    def position(self) -> int:
        """What comes next."""
        return self._end

    def place_of(self, partition: int) -> Any:
        return self.messages[self._start].place

    def lost(self) -> set[int]:
        return set()

    def poll(self, limit: int, wait_s: float | None = None) -> list[Message] | None:
        self._start = self._end
        if self._start == len(self.messages):
            self._start = 0
            return None
        self._end = min(len(self.messages), self._start + next(self._sizes, len(self.messages)))
        return self.messages[self._start : self._end]

    def offsets(self) -> int:
        return self._end

    def commit(self) -> None: ...

    def rewind(self, unsure: bool = False) -> None:
        self._end = self._start

    def close(self) -> None: ...


def message_of(
    offset: int,
    symbol: str,
    publisher: int,
    time: int,
    levels: list[tuple[Any, ...]],
    flags: int = 128,
    owners: tuple[int, int] | None = None,
) -> Message:
    """One publisher's book, or (``owners``) the best of all with whose they are."""
    values: dict[str, Any] = {"symbol": symbol, "publisher_id": publisher, "ts_event": time, "sequence": offset}
    values["flags"] = flags
    if owners is not None:
        levels = levels[:1]
        values |= {"rtype": 177, "bid_pb_00": owners[0], "ask_pb_00": owners[1]}
    for i, (bid, bid_size, ask, ask_size) in enumerate(levels):
        values |= {f"bid_px_{i:02d}": bid, f"bid_sz_{i:02d}": bid_size}
        values |= {f"ask_px_{i:02d}": ask, f"ask_sz_{i:02d}": ask_size}
    return Message(json.dumps(values).encode(), KafkaPlace(TOPIC, 0, offset))


def trade_of(offset: int, symbol: str, publisher: int, time: int) -> Message:
    """A trade alone, which shows no book."""
    values = {"symbol": symbol, "publisher_id": publisher, "ts_event": time, "sequence": offset}
    values |= {"action": "T", "price": 100.5, "size": 7}
    return Message(json.dumps(values).encode(), KafkaPlace(TOPIC, 0, offset))


price = st.one_of(st.none(), st.integers(9_990, 10_010).map(lambda cents: cents / 100))
size = st.integers(0, 500)
levels = st.lists(st.tuples(price, size, price, size), min_size=1, max_size=DEPTH)
updates = st.tuples(st.sampled_from("AB"), st.sampled_from([1, 2, 3, 9, 999]), st.integers(1, 50), levels)


@st.composite
def feeds(draw: st.DrawFn, unit: int = 1) -> list[Message]:
    """Late events, publishers that no directory knows, and a message now and then that cannot be used."""
    feed = []
    for offset, (symbol, publisher, ticks, shown) in enumerate(draw(st.lists(updates, min_size=1, max_size=25))):
        time = unit * ticks
        flags = draw(st.sampled_from([128, 128, 4, 12]))  # good, or doubted by the feed
        owners = draw(st.none() | st.tuples(st.sampled_from([1, 2, 999]), st.sampled_from([1, 9, 999])))
        message = message_of(offset, symbol, publisher, 10**18 + time, shown, flags, owners)
        if draw(st.integers(0, 5)) == 0:
            message = trade_of(offset, symbol, publisher, 10**18 + time)
        if draw(st.integers(0, 9)) == 0:
            message = Message(b"junk", message.place)
        feed.append(message)
    return feed


Make = Callable[..., Pipeline]


def pipeline_of(
    sink: Sink,
    log: Log | None,
    algorithm: str,
    venues_from: str,
    tail: int = 0,
    *,
    conflate: bool = False,
    symbol: str | None = None,
    directory: VenueDirectory = DIRECTORY,
    protect: Any = "none",
) -> Pipeline:
    depth = DEPTH if algorithm == "greedy_l2" or venues_from == "levels" else 1
    decoder, router = JsonDecoder(depth), Router(algorithm=algorithm, protect=protect)  # type: ignore[arg-type]
    recovery = None if log is None else Recovery(log, decoder, MEMORY, depth=router.depth, tail=tail, symbol=symbol)
    books = lambda: Books(directory, venues_from, router.depth)  # noqa: E731
    return Pipeline(
        decoder, books, router, Order("*", "buy", 700), sink, symbol=symbol, conflate=conflate, recovery=recovery
    )


KINDS = pytest.mark.parametrize(
    ("algorithm", "venues_from"),
    [("brute_force", "publishers"), ("greedy_l2", "publishers"), ("brute_force", "levels")],
)


@KINDS
@pytest.mark.parametrize("remember_s", [0.0, 60.0])
@given(feed=feeds(), cut=st.integers(0, 25), sizes=st.lists(st.integers(1, 6), max_size=12))
def test_a_successor_answers_as_one_that_saw_everything(
    algorithm: str, venues_from: str, remember_s: float, feed: list[Message], cut: int, sizes: list[int]
) -> None:
    """Whatever the feed, the batches and the moment of the change, and however much is remembered: the same bytes."""
    alone = Remembering()
    run(Batches(feed, [1] * len(feed)), pipeline_of(alone, None, algorithm, venues_from))
    shared = Remembering()
    cut = min(cut, len(feed) - 1)
    if cut:
        with mock.patch("sor.stream.pipeline.REMEMBER_S", remember_s):
            run(Batches(feed[:cut], sizes), pipeline_of(shared, None, algorithm, venues_from))
    run(Batches(feed[cut:], sizes), pipeline_of(shared, shared.log(feed), algorithm, venues_from))
    assert shared.results == alone.results


@KINDS
@given(feed=feeds(), failures=st.integers(1, 4), sizes=st.lists(st.integers(1, 6), max_size=12))
def test_a_batch_that_was_void_leaves_nothing_behind(
    algorithm: str, venues_from: str, feed: list[Message], failures: int, sizes: list[int]
) -> None:
    alone = Remembering()
    run(Batches(feed, []), pipeline_of(alone, None, algorithm, venues_from))
    shaken = Remembering()

    class Fresh(Log):  # the memory as it is at each recovery
        def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Entry]:
            return iter(shaken.memory.values()) if topic == MEMORY else super().records(topic, partition, start, end)

    shaken.failures = failures
    pipeline = pipeline_of(shaken, Fresh(**shaken.log(feed).topics), algorithm, venues_from)
    run(Batches(feed, sizes), pipeline, pause_s=0)
    assert shaken.results == alone.results
    summary = pipeline.summary
    assert summary.messages == len(feed) == summary.results + sum(summary.bad.values())


HOUR = 3_600 * 10**9
# The feeds begin at 2001-09-09T01:46:40Z and take two days.
RULED = with_rules(
    {
        "XNAS": [{"day": "2001-09-01", "lot": 100, "ticket": 0.5}, {"day": "2001-09-10"}],
        "XBOS": [{"day": "2001-09-10", "lot": "round"}, {"day": "2001-09-11", "min_quantity": 50}],
        "XNYS": [{"day": "2001-09-01"}, {"day": "2001-09-11", "max_quantity": 120, "min_notional": 3_000.0}],
    }
)


@pytest.mark.parametrize("algorithm", ["brute_force", "greedy_l2"])
@pytest.mark.parametrize("protect", ["none", "nbbo"])
@given(feed=feeds(HOUR), cut=st.integers(1, 25), sizes=st.lists(st.integers(1, 6), max_size=12), void=st.booleans())
def test_rules_and_protection_come_back(
    algorithm: str, protect: str, feed: list[Message], cut: int, sizes: list[int], void: bool
) -> None:
    """A venue's rules are those of the day of its quote, also to a successor and after a batch that was void."""

    def pipeline(sink: Sink, log: Log | None) -> Pipeline:
        return pipeline_of(sink, log, algorithm, "publishers", directory=RULED, protect=protect)

    alone, shared = Remembering(), Remembering()
    run(Batches(feed, [1] * len(feed)), pipeline(alone, None))
    shared.failures = int(void)
    with mock.patch("sor.stream.pipeline.REMEMBER_S", 0.0):
        run(Batches(feed[:cut], sizes), pipeline(shared, Log(**{TOPIC: [], MEMORY: []})), pause_s=0)
    if cut < len(feed):
        run(Batches(feed[cut:], sizes), pipeline(shared, shared.log(feed)))
    assert shared.results == alone.results


class Session(NamedTuple):
    """What one process does, and with which options; before it starts the group may have been moved."""

    symbol: str | None
    algorithm: str
    venues_from: str
    go_to: int | None  # set back to, or forward
    retention: int  # offset before which the input has been deleted
    batches: list[int]
    voids: int  # commits that do not take place
    flushes: bool  # every batch is remembered


sessions = st.builds(
    Session,
    st.sampled_from([None, None, "A", "B"]),
    st.sampled_from(["brute_force", "brute_force", "greedy_l2"]),
    st.sampled_from(["publishers", "publishers", "publishers", "levels"]),
    st.one_of(st.none(), st.integers(0, 30)),
    st.one_of(st.just(0), st.just(0), st.integers(0, 30)),
    st.lists(st.integers(1, 4), max_size=4),
    st.integers(0, 2),
    st.booleans(),
)


def shown(books: Books) -> dict[str, Any]:
    """All that a result shows of books."""
    return {
        symbol: (book.time, book.sequence, [(one.venue_id, one.time, one.bids, one.asks) for one in book.quotes])
        for symbol, book in books.by_symbol.items()
    }


def replayed(feed: list[Message], session: Session) -> dict[str, Any]:
    decoder = JsonDecoder(DEPTH if session.algorithm == "greedy_l2" or session.venues_from == "levels" else 1)
    books = Books(DIRECTORY, session.venues_from, Router(algorithm=session.algorithm).depth)  # type: ignore[arg-type]
    for message in feed:
        with contextlib.suppress(DataError):
            update = decoder.decode(message.value)
            if session.symbol in (None, update.symbol):
                books.apply(update)
    return shown(books)


@settings(max_examples=150)
@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from("ABC"),
            st.sampled_from([0, 1, 2, 3]),
            st.integers(-5, 5),
            st.none() | st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3])),
            st.booleans(),
        ),
        min_size=30,
        max_size=30,
    ),
    plan=st.lists(sessions, min_size=2, max_size=6),
    tail=st.sampled_from([1, 3, 100]),
)
def test_no_history_gives_a_book_of_the_future(kinds: list[Any], plan: list[Session], tail: int) -> None:
    """Answered, remembered, crashed, set back, with other options, while the input's start goes: the books are
    those of a replay of the whole input, or say what they may lack; and they never hold what has not happened yet.
    """
    feed = [
        message_of(
            i,
            symbol,
            publisher,
            10**18 + 10 * i + late * 10,
            [(50.0 if stays else 99.0 - i, 100, 100.0 + i, 100), (9.0, 1, 900.0, 1)],
            owners=owners,
        )
        if publisher
        else trade_of(i, symbol, 9002, 10**18 + 10 * i + late * 10)
        for i, (symbol, publisher, late, owners, stays) in enumerate(kinds)
    ]
    memory, position, start, doubted = Remembering(), 0, 0, False
    for session in plan:
        start = max(start, session.retention)
        position = max(position if session.go_to is None else session.go_to, start)
        log = memory.log(feed, start)
        pipeline = pipeline_of(memory, log, session.algorithm, session.venues_from, tail, symbol=session.symbol)
        source = Batches(feed, session.batches, position)
        if position == len(feed):
            continue
        pipeline.prepare(source)
        state = pipeline._partitions[0]
        found, expected = shown(state.books), replayed(feed[:position], session)
        doubted |= state.caveat is not None
        if not doubted:
            assert found == expected
        for _, _, quotes in found.values():
            asks = [ask for quote in quotes for ask, _ in quote[3] if ask < 900]
            assert all(ask < 100 + position for ask in asks), "a book of the future"
        memory.failures = session.voids
        with mock.patch("sor.stream.pipeline.REMEMBER_S", 0.0 if session.flushes else 60.0):
            run(source, pipeline, pause_s=0, max_messages=sum(session.batches) or None if session.batches else 0)
        memory.failures = 0
        position = source.position
        if not doubted:
            assert shown(state.books) == replayed(feed[:position], session)


def quote(offset: int, publisher: int, ask: float, time: int = 0) -> Message:
    return message_of(offset, "A", publisher, 10**18 + (time or offset), [(99.0, 100, ask, 100)])


def state_from(feed: list[Message], offset: int, tail: int, depth: int = 1) -> Partition:
    log = Log(**{TOPIC: [Entry(i, message.value) for i, message in enumerate(feed)], MEMORY: []})
    state = Partition(Books(DIRECTORY))
    Recovery(log, JsonDecoder(1), MEMORY, depth=depth, tail=tail).fill(state, KafkaPlace(TOPIC, 0, offset))
    return state


def test_without_a_memory_the_messages_before_fill_the_books() -> None:
    feed = [quote(0, 1, 100.0), quote(1, 2, 100.1), quote(2, 3, 100.2)]
    whole = state_from(feed, offset=2, tail=10)
    assert [q.ask for q in whole.books.by_symbol["A"].quotes] == [100.0, 100.1]
    assert list(whole.changed) == [("A", 1), ("A", 2)], "what was read is to be remembered with the first commit"
    assert whole.caveat is None, "the log begins with these: nothing can be missing"
    part = state_from(feed, offset=2, tail=1)
    assert [q.ask for q in part.books.by_symbol["A"].quotes] == [100.1]
    assert "venues that have not quoted since are missing" in str(part.caveat)
    assert part.doubtful == 1


def test_results_say_for_how_long_a_book_may_lack_venues() -> None:
    feed = [quote(i, 1 + i % 3, 100.0) for i in range(8)]
    log = Log(**{TOPIC: [Entry(i, message.value) for i, message in enumerate(feed)], MEMORY: []})
    sink = Remembering()
    run(Batches(feed[4:], []), pipeline_of(sink, log, "brute_force", "publishers", tail=2))
    said = ["rebuilt from 2 earlier messages" in str(json.loads(result)["warnings"]) for result in sink.results]
    assert said == [True, True, False, False]


def test_a_memory_of_fewer_levels_is_told() -> None:
    shallow, deep = Remembering(), Remembering()
    run(Batches([quote(0, 1, 100.0)], []), pipeline_of(shallow, None, "brute_force", "publishers"))
    feed = [quote(0, 1, 100.0), quote(1, 2, 100.0)]
    run(Batches(feed[1:], []), pipeline_of(deep, shallow.log(feed), "greedy_l2", "publishers"))
    assert "1 quotes were kept with fewer levels" in str(json.loads(deep.results[0])["warnings"])


def test_a_mark_without_quotes_is_where_the_books_begin() -> None:
    """The first batch had nothing of use, and the next ones are not remembered yet."""
    junk = quote(0, 1, 100.0)
    feed = [Message(b"junk", junk.place), *(quote(i, i, 100.0 + i) for i in range(1, 5))]
    sink = Remembering()
    run(Batches(feed, [1]), pipeline_of(sink, None, "brute_force", "publishers"))
    assert list(sink.memory) == [MARK]
    for tail in (0, 2, 10):
        state = Partition(Books(DIRECTORY))
        recovery = Recovery(sink.log(feed), JsonDecoder(1), MEMORY, depth=1, tail=tail)
        recovery.fill(state, KafkaPlace(TOPIC, 0, 4))
        assert ([q.ask for q in state.books.by_symbol["A"].quotes], state.caveat) == ([101.0, 102.0, 103.0], None)


def test_quotes_of_another_symbol_say_nothing_of_ours() -> None:
    """The group has routed B alone: what A showed before the mark was not remembered."""
    feed = [quote(0, 1, 100.0), quote(1, 2, 101.0), message_of(2, "B", 1, 10**18, [(1.0, 1, 2.0, 1)])]
    feed += [quote(3, 3, 103.0)]
    sink = Remembering()
    pipeline = pipeline_of(sink, None, "brute_force", "publishers")
    pipeline.symbol = "B"
    run(Batches(feed, []), pipeline)
    state = Partition(Books(DIRECTORY))
    recovery = Recovery(sink.log(feed), JsonDecoder(1), MEMORY, depth=1, tail=3, symbol="A")
    recovery.fill(state, KafkaPlace(TOPIC, 0, 4))
    assert [q.ask for q in state.books.by_symbol["A"].quotes] == [101.0, 103.0]
    assert "venues that have not quoted since are missing" in str(state.caveat)


def test_each_batch_remembers_one_partition_whose_turn_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a partition's first batch at once, so that no successor has to do without its mark."""
    sink, now = Remembering(), [100.0]
    written: list[tuple[int, bytes]] = []
    monkeypatch.setattr(sink, "remember", lambda partition, key, value: written.append((partition, key)))
    monkeypatch.setattr("sor.stream.pipeline.time.monotonic", lambda: now[0])
    pipeline = pipeline_of(sink, None, "brute_force", "publishers")
    for partition in range(3):
        pipeline._partitions[partition] = Partition(Books(DIRECTORY))
    sent = [0] * 3

    def batch(*partitions: int) -> list[int]:
        """Which partitions are remembered after a batch of a message of each of these."""
        messages = []
        for partition in partitions:
            message = quote(sent[partition], 1, 100.0)
            sent[partition] += 1
            messages.append(Message(message.value, KafkaPlace(TOPIC, partition, sent[partition]), None, partition))
        written.clear()
        pipeline.process(messages)
        assert written == [(number, key) for number, _ in written[::2] for key in (b"A|1", MARK)]
        return [number for number, _ in written[::2]]

    assert batch(0, 1) == [0, 1]
    assert batch(0, 1) == []
    now[0] += 0.5
    assert batch(1, 2) == [2]
    now[0] += 0.6
    assert [batch(1), batch(1), batch(1)] == [[0], [1], []]
    now[0] += 9
    assert [batch(0), batch(0), batch(2), batch(1)] == [[0], [1], [2], []]  # 1 had a message left


def remembered(feed: list[Message], count: int, first: int = 0) -> tuple[Partition, str]:
    """A partition before message ``count`` where all of ``feed`` was remembered, and the input has lost its start."""
    sink = Remembering()
    run(Batches(feed, []), pipeline_of(sink, None, "brute_force", "publishers"))
    state = Partition(Books(DIRECTORY))
    recovery = Recovery(sink.log([*feed, *feed], first), JsonDecoder(1), MEMORY, depth=1, tail=10)
    recovery.fill(state, KafkaPlace(TOPIC, 0, count))
    return state, str(state.caveat)


def test_what_was_remembered_of_later_messages_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    """The group's offsets were set back, to answer again: books of the future are wrong there."""
    feed = [quote(i, 1 + i, 100.0 + i) for i in range(4)]
    state, _ = remembered(feed, 2)
    assert [q.ask for q in state.books.by_symbol["A"].quotes] == [100.0, 101.0]
    assert "goes on at 2: of 2 quotes group-books knows only later ones, which are not used" in caplog.text


def test_quotes_in_other_lots_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    """Else a size would be taken for another after the instruments have changed."""
    feed = [quote(0, 1, 100.0), quote(1, 2, 100.1)]
    coins = Instruments({"A": Instrument(lot=0.1)})
    sink = Remembering()
    decoder, books = JsonDecoder(1, instruments=coins), partial(Books, DIRECTORY, instruments=coins)
    recovery = Recovery(sink.log(feed), decoder, MEMORY, depth=1, tail=0)
    run(Batches(feed, []), Pipeline(decoder, books, Router(), Order("*", "buy", 7), sink, recovery=recovery))
    for instruments, sizes in ((coins, [1000, 1000]), (Instruments({}), [])):
        state = Partition(Books(DIRECTORY, instruments=instruments))
        recovery = Recovery(sink.log(feed), JsonDecoder(1, instruments=instruments), MEMORY, depth=1, tail=0)
        recovery.fill(state, KafkaPlace(TOPIC, 0, 2))
        assert [one.ask_size for book in state.books.by_symbol.values() for one in book.quotes] == sizes
    assert "its sizes are in the lots of other instruments" in caplog.text


def test_a_side_that_consolidated_quotes_have_not_named_since_is_told_as_missing() -> None:
    """What was remembered of venue 2 is of later; the messages read again name its offer, and not its bid."""
    rows = [(2, 100, 2, 101.0), *((1, 50, 2, 101.1 + i / 10) for i in range(5)), (2, 70, 2, 102.0)]
    feed = [
        message_of(i, "A", 95, 10**18 + i, [(99.0, size, ask, 100)], owners=(bidder, asker))
        for i, (bidder, size, asker, ask) in enumerate(rows)
    ]
    state, caveat = remembered(feed, 6, first=3)
    assert [(q.venue_id, q.bid, q.ask) for q in state.books.by_symbol["A"].quotes] == [
        ("publisher_1", 99.0, None),
        ("XNAS", None, 101.5),
    ]
    assert caveat == "1 quotes are missing: of these only later ones are known"
    state, caveat = remembered(feed, 6)  # the input is all there
    assert state.books.by_symbol["A"].quotes[1].bid == 99.0
    assert caveat == "None"


def test_messages_after_the_last_quotes_kept_that_are_gone_are_told(caplog: pytest.LogCaptureFixture) -> None:
    feed = [quote(i, 1 + i, 100.0 + i) for i in range(4)]
    state, caveat = remembered(feed, 7, first=6)
    assert caveat == "2 messages after the last quotes kept are gone from the input"
    assert (state.doubtful, caveat in caplog.text) == (10, True)
    assert remembered(feed, 4, first=6)[1] == "None"


def test_a_foreign_record_in_the_memory_is_an_error_that_names_it() -> None:
    log = Log(**{TOPIC: [Entry(0, b"")], MEMORY: [Entry(7, b"who put this here?")]})
    with pytest.raises(StreamError, match="group-books:0:7 is no quote of this program"):
        Recovery(log, JsonDecoder(1), MEMORY, depth=1, tail=0).fill(
            Partition(Books(DIRECTORY)), KafkaPlace(TOPIC, 0, 0)
        )


def results_of(feed: list[Message], cut: int, venues_from: str = "publishers") -> tuple[list[bytes], list[bytes]]:
    """What one that saw everything answers, and what a member and its successor do."""
    alone, shared = Remembering(), Remembering()
    run(Batches(feed, []), pipeline_of(alone, None, "brute_force", venues_from))
    run(Batches(feed[:cut], []), pipeline_of(shared, None, "brute_force", venues_from))
    run(Batches(feed[cut:], []), pipeline_of(shared, shared.log(feed), "brute_force", venues_from))
    return alone.results, shared.results


def test_the_sequence_of_the_last_message_comes_back_whichever_venue_sent_it() -> None:
    first = Remembering()
    feed = [quote(0, 1, 100.0), quote(1, 2, 100.0), quote(2, 1, 100.0)]
    run(Batches(feed, []), pipeline_of(first, None, "brute_force", "publishers"))
    state = Partition(Books(DIRECTORY))
    Recovery(first.log(feed), JsonDecoder(1), MEMORY, depth=1, tail=0).fill(state, KafkaPlace(TOPIC, 0, 3))
    assert state.books.by_symbol["A"].sequence == 2


def test_a_level_once_shown_comes_back_empty() -> None:
    one, three = [(99.0, 100, 100.0, 100)], [(99.0 - i, 100, 100.0 + i, 100) for i in range(3)]
    feed = [message_of(i, "A", 1, 10**18 + i, shown) for i, shown in enumerate([three, one, one])]
    alone, shared = results_of(feed, cut=2, venues_from="levels")
    assert len(json.loads(alone[-1])["venues"]) == 3
    assert shared == alone


def outcome(feed: list[Message], sizes: list[int], sink: Remembering, most: int | None) -> tuple[Any, Any, Pipeline]:
    """Results and memory."""
    router = Router(CostParameters(0.05, 0.05, 0.0005), "cont_kukanov", min_windows=1)
    books = lambda: Books(DIRECTORY, "publishers", 10, lambda: Outflows(10**9, 20), most)  # noqa: E731
    pipeline = Pipeline(JsonDecoder(10, events=True), books, router, Order("*", "buy", 700), sink)
    with mock.patch("sor.stream.pipeline.REMEMBER_S", 0.0):
        run(Batches(feed, sizes), pipeline, pause_s=0)
    return sink.results, {key: entry.value for key, entry in sink.memory.items()}, pipeline


@pytest.mark.parametrize("most", [None, 2])
def test_an_undone_batch_leaves_outflows_and_placements_as_they_were(most: int | None) -> None:
    """So the answers are those of a run without aborts, byte for byte, and so is what is remembered."""
    draw = random.Random(3)
    feed = []
    for i in range(120):
        levels = [(99.99, draw.randint(100, 400), 100.01, draw.randint(100, 400))]
        feed.append(message_of(i, draw.choice("AAAAAABCD"), draw.choice([1, 2, 3]), 10**18 + i * 200_000_000, levels))
    quiet = outcome(feed, [7] * 200, Remembering(), most)
    assert any(json.loads(result).get("placement") for result in quiet[0])
    void, refused = Remembering(), Remembering()
    void.failures = 5
    refused.refusals = itertools.cycle([False, True])  # every batch but the first: what stands before it stays
    for sink in (void, refused):
        shaken = outcome(feed, [7] * 200, sink, most)
        assert shaken[:2] == quiet[:2]
        assert shaken[2].summary.evicted == quiet[2].summary.evicted > (0 if most else -1)


def test_an_abort_leaves_the_other_partitions_alone_and_reads_nothing_again() -> None:
    """Also the one whose turn it was to be remembered in that batch."""
    sink, log = Remembering(), Log(**{TOPIC: [], MEMORY: []})
    pipeline = pipeline_of(sink, log, "brute_force", "publishers")
    for partition in (0, 1):
        pipeline._partitions[partition] = Partition(Books(DIRECTORY))
    with mock.patch("sor.stream.pipeline.REMEMBER_S", 0.0):
        pipeline.process([Message(quote(i, 1 + i, 100.0).value, KafkaPlace(TOPIC, i, 7), None, i) for i in (0, 1)])
        pipeline.stand()
        pipeline.process([Message(quote(8, 3, 101.0).value, KafkaPlace(TOPIC, 1, 8), None, 1)])
        pipeline.stand()
        before = {number: shown(state.books) for number, state in pipeline._partitions.items()}
        other = pipeline._partitions[1]
        changed, marked = dict(other.changed), other.marked
        pipeline.process([Message(quote(9, 1, 99.0).value, KafkaPlace(TOPIC, 0, 8), None, 0)])
        pipeline.undo()
    assert {number: shown(state.books) for number, state in pipeline._partitions.items()} == before
    assert (other.changed, other.marked) == (changed, marked)
    assert pipeline.prepare(Batches([quote(0, 1, 1.0)], [])) is None  # type: ignore[func-returns-value]
    assert shown(pipeline._partitions[0].books) == before[0]


def answered(sink: Remembering, feed: list[Message], start: int, end: int, **options: Any) -> Partition:
    """Answer a part of the feed as a new member does; the state that it begins with."""
    pipeline = pipeline_of(sink, sink.log(feed), "brute_force", "publishers", **options)
    source = Batches(feed, [end - start], start)
    pipeline.prepare(source)
    state = pipeline._partitions[0]
    begun = shown(state.books), state.caveat
    if end > start:
        run(source, pipeline, max_messages=end - start)
    state.begun = begun  # type: ignore[attr-defined]
    return state


def asks(state: Partition, symbol: str = "A") -> list[Any]:
    begun: Any = state.begun  # type: ignore[attr-defined]
    return [quote[3][0][0] for quote in begun[0][symbol][2]] if symbol in begun[0] else []


def test_a_smaller_mark_over_later_quotes_does_not_bring_back_the_future() -> None:
    """Ten messages, set back to 4, two answered, a crash: at 6 the third venue shows what it showed before."""
    feed = [quote(i, 1 + i % 5, 100.0 + i) for i in range(10)]
    sink = Remembering()
    answered(sink, feed, 0, 10)
    answered(sink, feed, 4, 5, tail=2)
    state = answered(sink, feed, 5, 6, tail=2)
    assert asks(state) == [102.0, 103.0, 104.0]  # in the order of the publishers
    assert "3 quotes are missing" in state.begun[1], "what is doubted stays so"  # type: ignore[attr-defined]
    assert asks(answered(sink, feed, 6, 6, tail=2)) == [105.0, 102.0, 103.0, 104.0]
    sink = Remembering()
    answered(sink, feed, 0, 10)
    answered(sink, feed, 4, 6, tail=100)
    whole = answered(sink, feed, 6, 6, tail=100)
    assert asks(whole) == [105.0, 101.0, 102.0, 103.0, 104.0]


def test_what_was_not_routed_for_a_while_is_read_again() -> None:
    """All, then A only, then all: B is where it went meanwhile."""
    rows = [("A", 100.0), ("B", 50.0), ("A", 101.0), ("B", 51.0), ("A", 102.0), ("A", 103.0)]
    feed = [message_of(i, symbol, 1, 10**18 + i, [(1.0, 1, ask, 1)]) for i, (symbol, ask) in enumerate(rows)]
    sink = Remembering()
    answered(sink, feed, 0, 2)
    only = answered(sink, feed, 2, 5, symbol="A")
    assert (asks(only), asks(only, "B")) == ([100.0], [])
    state = answered(sink, feed, 5, 6)
    assert (asks(state), asks(state, "B"), state.begun[1]) == ([102.0], [51.0], None)  # type: ignore[attr-defined]


def test_what_was_not_routed_for_too_long_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sor.stream.recovery.REREAD", 2)
    rows = [("A", 100.0), ("B", 50.0), ("A", 101.0), ("B", 51.0), ("A", 102.0), ("A", 103.0), ("A", 104.0)]
    feed = [message_of(i, symbol, 1, 10**18 + i, [(1.0, 1, ask, 1)]) for i, (symbol, ask) in enumerate(rows)]
    sink = Remembering()
    answered(sink, feed, 0, 2)
    answered(sink, feed, 2, 5, symbol="A", tail=1)
    state = answered(sink, feed, 5, 6, tail=1)
    assert (asks(state), asks(state, "B")) == ([102.0], [])
    assert "venues that have not quoted since are missing" in state.begun[1]  # type: ignore[attr-defined]
    assert b"B|1" not in {key for key, entry in sink.memory.items() if entry.value is not None}


def test_a_topic_made_anew_takes_its_books_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Whether its id tells, or only that it has not so many messages."""
    old = [quote(i, 1 + i, 100.0 + i) for i in range(6)]
    new = [quote(i, 9, 200.0 + i) for i in range(8)]
    for first, second in (("one", "two"), (None, None)):
        sink = Remembering()
        with mock.patch.object(Log, "identity", return_value=first):
            answered(sink, old, 0, 6)
        feed = new if first else new[:5]
        with mock.patch.object(Log, "identity", return_value=second):
            state = answered(sink, feed, 3, 4, tail=100)
            assert asks(state) == [202.0]
            assert asks(answered(sink, feed, 4, 4)) == [203.0], "and nothing of it is left"
    assert "input was deleted and made again" in caplog.text
    assert "it goes up to 6, and input to 5" in caplog.text


def test_the_newest_time_of_a_book_comes_back_although_the_last_quote_was_late() -> None:
    feed = [
        quote(0, 1, 100.0, time=1),
        quote(1, 2, 100.0, time=90),
        quote(2, 2, 101.0, time=5),
        quote(3, 1, 100.0, time=6),
    ]
    for cut in (2, 3):
        alone, shared = results_of(feed, cut)
        assert shared == alone
    sink = Remembering()
    answered(sink, feed, 0, 3)
    state = answered(sink, feed, 3, 3)
    assert state.books.by_symbol["A"].time == 10**18 + 90
    assert max(one.time for one in state.books.by_symbol["A"].quotes) == 10**18 + 5


# --- more symbols than there is room for -----------------------------------------------------------------------------


def many(sink: Sink, log: Log | None, most: int, tail: int = 100) -> Pipeline:
    recovery = None if log is None else Recovery(log, JsonDecoder(1), MEMORY, depth=1, tail=tail)
    books = lambda: Books(DIRECTORY, "publishers", 1, None, most)  # noqa: E731
    return Pipeline(JsonDecoder(1), books, Router(), Order("*", "buy", 700), sink, recovery=recovery)


def test_the_books_heard_of_last_stay_and_the_others_are_forgotten_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    rows = ["A", "B", "A", "C", "B", "D", "A", "B"]
    feed = [message_of(i, symbol, 1 + i % 2, 10**18 + i, [(99.0, 1, 100.0 + i, 1)]) for i, symbol in enumerate(rows)]
    sink = Remembering()
    pipeline = many(sink, None, 2)
    with mock.patch("sor.stream.pipeline.REMEMBER_S", 0.0):
        run(Batches(feed, [1] * len(feed)), pipeline)
    assert list(pipeline._partitions[0].books.by_symbol) == ["A", "B"]
    assert pipeline.summary.evicted == 5
    assert "evicted  5 books" in "\n".join(pipeline.summary.lines(1.0))
    assert caplog.text.count("more symbols than --max-symbols") == 1
    kept = {key for key, entry in sink.memory.items() if entry.value is not None}
    assert kept == {b"A|1", b"B|2", MARK}
    said = ["an earlier book of this symbol has gone" in str(json.loads(result)["warnings"]) for result in sink.results]
    assert said == [False, False, False, False, True, True, True, True], "a book that begins anew may lack venues"


def test_of_consolidated_quotes_nothing_is_kept_of_a_book_that_has_gone() -> None:
    """Not of the venues, known here by another number (81) than their first, and not of rows without any."""
    nothing, something = (None, 0, None, 0), (99.0, 1, 100.0, 1)
    feed = [
        message_of(i, symbol, 95, 10**18 + i, [nothing if symbol in "BD" else something], owners=(81, 9))
        for i, symbol in enumerate("ABCDE")
    ]
    sink = Remembering()
    with mock.patch("sor.stream.pipeline.REMEMBER_S", 0.0):
        run(Batches(feed, [1] * len(feed)), many(sink, None, 1))
    kept = {key for key, entry in sink.memory.items() if entry.value is not None}
    assert kept == {b"E|2", b"E|9", MARK}


@given(
    symbols=st.lists(st.sampled_from("ABCDE"), min_size=2, max_size=30), cut=st.integers(1, 29), most=st.integers(1, 4)
)
def test_a_successor_keeps_the_same_books(symbols: list[str], cut: int, most: int) -> None:
    feed = [message_of(i, one, 1 + i % 3, 10**18 + i, [(99.0, 1, 100.0 + i, 1)]) for i, one in enumerate(symbols)]
    cut = min(cut, len(feed) - 1)
    alone, shared = Remembering(), Remembering()
    whole = many(alone, None, most)
    run(Batches(feed, []), whole)
    with mock.patch("sor.stream.pipeline.REMEMBER_S", 60.0):
        run(Batches(feed[:cut], [3] * 10), many(shared, None, most))
    second = many(shared, shared.log(feed), most)
    run(Batches(feed[cut:], []), second)
    assert shown(second._partitions[0].books) == shown(whole._partitions[0].books)


def test_as_many_symbols_as_are_kept_fit() -> None:
    """Twenty thousand books of ten venues, as the default has it, in a fifth of what a container gets."""
    books = Books(DIRECTORY, "publishers", 1, None, 20_000)
    decoder = JsonDecoder(1)
    update = decoder.decode(quote(0, 1, 100.0).value)
    tracemalloc.start()
    try:
        for i in range(2_000):
            for publisher in range(1, 11):
                books.apply(msgspec.structs.replace(update, symbol=f"S{i}", publisher_id=publisher))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held * 10 < 512 * 2**20 / 2, f"{held / 2_000:.0f} bytes a book"


# --- one symbol in several partitions --------------------------------------------------------------------------------


def test_a_symbol_in_several_partitions_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = pipeline_of(Remembering(), None, "brute_force", "publishers")
    messages = [Message(quote(i, 1, 100.0).value, KafkaPlace(TOPIC, i % 3, i), None, i % 3) for i in range(9)]

    class Three(Batches):
        partitions = {0, 1, 2}  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__(messages, [])
            self.partitions = {0, 1, 2}

    run(Three(), pipeline)
    assert caplog.text.count("A is in partitions 0 and 1") == 1
    assert caplog.text.count("in partitions") == 1
    assert pipeline.summary.scattered == 1
    assert "symbols  1 in more than one partition" in "\n".join(pipeline.summary.lines(1.0))


def test_a_recovery_that_takes_too_long_says_so() -> None:
    feed = [quote(i, 1, 100.0) for i in range(2_500)]
    turns: list[int] = []
    log = Remembering().log(feed)
    recovery = Recovery(log, JsonDecoder(1), None, depth=1, tail=10_000, turn=lambda: turns.append(1), limit_s=0.0)
    recovery.start()
    with pytest.raises(StreamError, match=r"input:0 holds, at 999 of 2500, could not be read within 0 s"):
        recovery.fill(Partition(Books(DIRECTORY)), KafkaPlace(TOPIC, 0, 2_500))
    assert len(turns) == 2
    recovery = Recovery(log, JsonDecoder(1), None, depth=1, tail=10_000, limit_s=60.0)
    recovery.start()
    recovery.fill(Partition(Books(DIRECTORY)), KafkaPlace(TOPIC, 0, 2_500))


def test_trades_of_a_book_that_has_gone_are_forgotten_with_its_quotes() -> None:
    state = Partition(Books(DIRECTORY, most=1))
    decoder = JsonDecoder(1)
    for message in (quote(0, 2, 100.0), trade_of(1, "A", 9002, 10**18 + 5)):
        state.apply(decoder.decode(message.value), message.place.offset)  # type: ignore[union-attr]
    state.end = 2
    kept = [key for key, value in state.memories(1) if value is not None]
    assert kept == [b"A|2", b"A|-1", MARK]
    state.apply(decoder.decode(message_of(2, "B", 2, 10**18 + 6, [(99.0, 1, 100.0, 1)]).value), 2)
    state.end = 3
    assert {key for key, value in state.memories(1) if value is None} == {b"A|2", b"A|-1"}
