"""Source → router → sink: the loop that replay and live routing share."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from sor.errors import AbortedError, DataError, LeftOut, SorError, StreamError
from sor.market import BookUpdate, Decoder
from sor.market.book import Book, Books
from sor.market.lines import LONGEST_LINE
from sor.models.static import search_space
from sor.routing.result import RoutingResult
from sor.routing.router import Router
from sor.stream.messages import (
    BATCH,
    DeadLetter,
    FilePlace,
    KafkaPlace,
    Message,
    Sink,
    Source,
    StreamState,
)
from sor.stream.recovery import Partition, Recovery
from sor.stream.summary import RunSummary
from sor.types import DOLLARS, SMALLEST_LOT, USABLE, Order, exact_number

logger = logging.getLogger(__name__)

REMEMBER_S = 1.0  # between two times that a partition's last quotes are written
MOST_ABORTS = 6  # in a row, after which the reason is one that stays
HINT_AFTER = 1000  # messages of one publisher only, after which live routing asks whether levels were meant

MOST_TOLD = 20  # symbols in more than one partition

TRAPS = ("with these penalties", "A1 ", "A2 ", "A3 ")  # how warnings begin that lie in the settings


class Stop:
    """Becomes true on SIGTERM or Ctrl-C, so that a batch can be finished; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # signals are another's there
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True


class Answering(Protocol):
    """What `run` drives: here `Pipeline`, and for a topic of orders `sor.stream.orders.OrderPipeline`."""

    sink: Sink
    summary: RunSummary
    age_ms: int | None

    @property
    def publishers(self) -> set[int]:
        """Publisher ids seen."""

    def wait_s(self) -> float | None:
        """How long the source may wait for messages; None: as it likes."""

    def prepare(self, source: Source) -> None:
        """Rebuild the state of the partitions that are new."""

    def process(self, batch: list[Message]) -> None:
        """Answer a batch, and hand what is to be remembered to the sink."""

    def stand(self) -> None:
        """The last batch took place: what it did to the state is not to be taken back any more."""

    def undo(self) -> None:
        """The last batch did not take place: take back what it did to the state; nothing where it had not begun."""

    def forget(self, partitions: set[int]) -> None:
        """Throw away the state of partitions: another member moves on with them, or what they hold has changed."""


class Pipeline:
    """Answers every message with one result, one skip or one dead letter.

    Parameters
    ----------
    decoder : Decoder
    new_books : callable
        Makes the empty books of a partition.
    router : Router
    order : Order
        What is routed on every message; its symbol and instrument are replaced by the message's.
    sink : Sink
    symbol : str, optional
        Other symbols are skipped.
    conflate : bool
        Route only the newest book of each symbol in a batch; the other messages update it and are skipped.
    max_age : float, optional
        Seconds since a message was written, beyond which nothing is routed on it.
    recovery : Recovery, optional
        Fills the books of a partition before its first message.
    log_level : int
        Level of the lines that every message logs.
    """

    def __init__(
        self,
        decoder: Decoder,
        new_books: Callable[[], Books],
        router: Router,
        order: Order,
        sink: Sink,
        *,
        symbol: str | None = None,
        conflate: bool = False,
        max_age: float | None = None,
        recovery: Recovery | None = None,
        log_level: int = logging.DEBUG,
    ) -> None:
        self.decoder = decoder
        self.router = router
        self.sink = sink
        self.symbol = symbol
        self.recovery = recovery
        self.summary = RunSummary()
        self.age_ms: int | None = None  # of the last message, when it was answered
        self._new_books = new_books
        self._conflate = conflate
        self._max_age_ms = None if max_age is None else 1e3 * max_age
        self._template = order
        self._orders: dict[str, Order] = {}
        self._partitions: dict[int, Partition] = {}
        self._remembers = sink.remembers
        self._scattered = Scattered()
        self._several = False  # partitions
        self._batch: set[int] = set()  # partitions whose state the last batch has changed
        self._level = log_level
        self._logs = logger.isEnabledFor(log_level)
        self._trap_told = router.objective == "sweep" and router.algorithm != "cont_kukanov"  # which have no trap

    @property
    def publishers(self) -> set[int]:
        """Publisher ids seen."""
        return set().union(*(state.books.publishers for state in self._partitions.values()))

    def wait_s(self) -> float | None:
        return None

    def prepare(self, source: Source) -> None:
        """Rebuild the state of the partitions that are new."""
        new = source.partitions - self._partitions.keys()
        if new and self.recovery is not None:
            self.recovery.start()
        for partition in new:
            place = source.place_of(partition)
            if place is None:
                continue
            state = Partition(self._new_books())
            if self.recovery is not None and isinstance(place, KafkaPlace):
                self.recovery.fill(state, place)
                if self.router.algorithm == "cont_kukanov":
                    logger.info("outflows of %s:%d start anew with these messages", place.topic, partition)
            self._partitions[partition] = state
        if new:
            self._several = len(self._partitions) > 1
            self._scattered.look_at_all(self._books(), self.summary)

    def _books(self) -> dict[int, Books]:
        return {partition: state.books for partition, state in self._partitions.items()}

    def process(self, batch: list[Message]) -> None:
        """Answer a batch, and hand what is new in the books to the sink."""
        if self._remembers:
            for partition in {message.partition for message in batch}:
                self._begin(partition)
        if self._conflate:
            self._answer_newest(batch)
        else:
            for message in batch:
                self._answer(message)
        if self._remembers:
            self._remember(batch)

    def forget(self, partitions: set[int]) -> None:
        """Throw away the state of partitions: another member moves on with them, or what they hold has changed."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def stand(self) -> None:
        self._batch = set()

    def undo(self) -> None:
        """The last batch did not take place: the books are as they were before it."""
        for partition in self._batch & self._partitions.keys():
            self._partitions[partition].undo()
        self._batch = set()

    def _begin(self, partition: int) -> Partition:
        """State that is about to change within this batch."""
        state = self._partitions[partition]
        if partition not in self._batch:
            self._batch.add(partition)
            state.begin()
        return state

    def _answer(self, message: Message) -> None:
        started = time.perf_counter_ns()
        update = self._decoded(message)
        state = None if update is None else self._applied(message, update)
        if update is not None and state is not None:
            self._route(message, update, state, started)
        self.summary.messages += 1  # last, so that the counts add up also where a sink fails on the way

    def _answer_newest(self, batch: list[Message]) -> None:
        """As `_answer`, message by message, but only the last of each symbol gets a result."""
        started = time.perf_counter_ns()
        last: dict[tuple[int, str], tuple[Message, BookUpdate, Partition]] = {}
        counts: Counter[tuple[int, str]] = Counter()
        for message in batch:
            update = self._decoded(message)
            state = None if update is None else self._applied(message, update)
            if update is not None and state is not None:
                key = message.partition, update.symbol
                if last.pop(key, None) is not None:  # so that the results come in the order of their messages
                    self.summary.skipped["conflated"] += 1
                    self.summary.messages += 1
                last[key] = message, update, state
                counts[key] += 1
            else:
                self.summary.messages += 1
        for key, (message, update, state) in last.items():
            self._route(message, update, state, started, counts[key] - 1)
            self.summary.messages += 1
            started = time.perf_counter_ns()

    def _decoded(self, message: Message) -> BookUpdate | None:
        """The update to apply; None where the message has been skipped or rejected."""
        summary = self.summary
        if not message.value and isinstance(message.place, FilePlace):
            summary.skipped["blank"] += 1
            return None
        try:
            update = self.decoder.decode(message.whole() if message.unfinished else message.value)
        except LeftOut as error:
            summary.skipped[error.reason] += 1
            return None
        except DataError as error:
            cut = f" (cut at {LONGEST_LINE:,} bytes)" if len(message.value) == LONGEST_LINE else ""
            self._reject(message, error.reason, str(error) + cut)
            return None
        if self.symbol is not None and update.symbol != self.symbol:
            summary.skipped["symbol"] += 1
            return None
        if update.doubts:
            summary.doubt(update.doubts)
        return update

    def _reject(self, message: Message, reason: str, detail: str) -> None:
        self.sink.reject(DeadLetter(message.value, message.place, reason, detail, message.key))
        self.summary.bad[reason] += 1

    def _applied(self, message: Message, update: BookUpdate) -> Partition | None:
        """The state that an update has been brought into; None where its book refuses it."""
        state = self._partitions[message.partition]
        try:
            if self._several and update.symbol not in state.books.by_symbol:
                self._scattered.look(update.symbol, message.partition, self._books(), self.summary)
            offset = message.place.offset if self._remembers else None  # type: ignore[union-attr]
            if evicted := state.apply(update, offset):
                self.summary.evicted += evicted
        except DataError as error:
            self._reject(message, error.reason, str(error))
            return None
        return state

    def _route(self, message: Message, update: BookUpdate, state: Partition, started: int, conflated: int = 0) -> None:
        stream, halt = None, None
        if message.time is not None:
            stream = StreamState(message.lag, age_of(message.time), conflated)
            self.age_ms = stream.age_ms
            halt = too_old(stream, self._max_age_ms)
        book = state.books.by_symbol[update.symbol]
        try:
            result = self.router.route(self._order(book), book, stream=stream, source=message.place, halt=halt)
        except SorError as error:  # a market that an algorithm cannot work with: this message's fault, not the stream's
            self._reject(message, "routing", str(error))
            return
        if state.doubtful or state.reopened:
            result.warnings.extend(state.caveats(update.symbol))
            state.doubtful = max(0, state.doubtful - 1)
        self.sink.add(update.symbol, result.to_json())
        self.summary.add(result, time.perf_counter_ns() - started)
        if self._logs:
            log_result(result, self._level)
        if result.warnings and not self._trap_told:
            self._tell_trap(result)

    def _order(self, book: Book) -> Order:
        order = self._orders.get(book.symbol)
        if order is None:
            one, instrument = self._template, book.instrument
            order = Order(book.symbol, one.side, one.quantity, one.limit_price, one.id, one.parent_id, instrument)
            self._orders[book.symbol] = order
        return order

    def _remember(self, batch: list[Message]) -> None:
        """Hand new quotes to the sink: a partition's first ones at once, then one partition's at a time.

        What is not remembered yet is read from the input again by a successor, so it has to be little and not nothing:
        remembering all of each batch would double what a small one writes.
        """
        for partition, place in {message.partition: message.place for message in batch}.items():
            if isinstance(place, KafkaPlace):
                self._partitions[partition].end = place.offset + 1
        now = time.monotonic()
        due = sorted(
            (state.remembered, partition)
            for partition, state in self._partitions.items()
            if state.end != state.marked and now - state.remembered >= REMEMBER_S
        )
        new = [partition for remembered, partition in due if remembered < 0]
        for partition in new or [partition for _, partition in due[:1]]:
            state = self._begin(partition)
            state.remembered = now
            for key, value in state.memories(self.router.depth):
                self.sink.remember(partition, key, value)

    def _tell_trap(self, result: RoutingResult) -> None:
        for warning in result.warnings:
            if warning.startswith(TRAPS):
                logger.warning("%s (said once; every result concerned carries it)", warning)
                self._trap_told = True


class Scattered:
    """Looks out for symbols in more than one partition, as of a feed without keys: each has a part of their quotes."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look(self, symbol: str, partition: int, books: dict[int, Books], summary: RunSummary) -> None:
        """A symbol has come to a partition; ``books`` are those of all partitions."""
        if symbol in self._told:
            return
        others = [other for other, some in books.items() if other != partition and symbol in some.by_symbol]
        if others:
            self._told.add(symbol)
            summary.scattered = len(self._told)
            if summary.scattered <= MOST_TOLD:
                logger.warning(
                    "%s is in partitions %d and %d: its books are not whole (messages need the symbol as their key)%s",
                    *(
                        symbol,
                        others[0],
                        partition,
                        "; more of these are only counted" * (summary.scattered == MOST_TOLD),
                    ),
                )

    def look_at_all(self, books: dict[int, Books], summary: RunSummary) -> None:
        """Partitions have come, with books."""
        if len(books) > 1:
            for partition, some in books.items():
                for symbol in some.by_symbol:
                    self.look(symbol, partition, books, summary)


def age_of(written: int) -> int:
    """Milliseconds since a message was written, by our clock; 0 where that of the writer is ahead."""
    return max(0, round(time.time() * 1e3) - written)


def too_old(stream: StreamState, max_age_ms: float | None) -> str | None:
    """Why nothing may be routed on a message; None where it may."""
    if max_age_ms is None or stream.age_ms is None or stream.age_ms <= max_age_ms:
        return None
    return f"nothing routed: the message is {stream.age_ms / 1e3:g} s old, more than {max_age_ms / 1e3:g} s"


def log_result(result: RoutingResult, level: int) -> None:
    """The lines that every result logs."""
    venues = sum(venue.status in USABLE for venue in result.venues)
    log = logger.log
    log(level, "Optimizing allocation for %s shares across %d venues", result.order_size, venues)
    searched = result.objective == "notional" or (result.objective == "shortfall" and result.reference_price)
    if searched and venues:
        size, step = (int(exact_number("", one) / SMALLEST_LOT) for one in (result.order_size, result.parameters.step))
        count = search_space(size, venues, step)
        log(level, "Evaluating %d possible allocations", count)
    cost = f"{result.total_cost:.2f}"
    log(level, "Optimal allocation: %s with cost %.4f", result.allocation, result.objective_value)
    log(
        level,
        "SOR Result [%s]: allocation=%s, cost=%s, fill_rate=%.1f%%",
        result.symbol,
        result.allocation,
        f"${cost}" if result.currency in (msgspec.UNSET, DOLLARS) else f"{cost} {result.currency}",
        100 * result.execution_summary.fill_rate,
    )


def run(
    source: Source,
    pipeline: Answering,
    *,
    stopped: Callable[[], bool] = lambda: False,
    max_messages: int | None = None,
    idle_timeout: float | None = None,
    after_poll: Callable[[], None] = lambda: None,
    pause_s: float = 0.25,
) -> None:
    """Process batches until the source ends, ``stopped`` says so, or a bound is reached.

    A batch is answered whole before it is committed, so after a crash its messages come again: nothing is lost.

    Parameters
    ----------
    max_messages : int, optional
        Messages to process.
    idle_timeout : float, optional
        Seconds without a message after which the run ends.
    after_poll : callable
        Called after each poll, for progress and signs of life.
    pause_s : float
        Seconds to wait after a batch that was void; after each further one in a row twice as long.

    Raises
    ------
    StreamError
        Also where `MOST_ABORTS` batches in a row were void.
    """
    left = max_messages
    aborts = 0  # in a row
    last = time.monotonic()
    while not stopped() and (left is None or left > 0):
        batch = source.poll(BATCH if left is None else min(BATCH, left), pipeline.wait_s())
        if batch is None:
            break
        if lost := source.lost():
            pipeline.forget(lost)
        after_poll()
        pipeline.prepare(source)
        if not batch:
            if idle_timeout is not None and time.monotonic() - last >= idle_timeout:
                logger.info("no message for %g s: ending", idle_timeout)
                break
            continue
        last = time.monotonic()
        error = _answered(source, pipeline, batch)
        if error is None:
            aborts = 0
            if left is not None:
                left -= len(batch)
            continue
        aborts += 1
        if aborts == MOST_ABORTS:
            raise StreamError(f"{error}; {aborts} batches in a row were void, so another try would be, too") from error
        time.sleep(pause_s * 2 ** (aborts - 1))


def _answered(source: Source, pipeline: Answering, batch: list[Message]) -> AbortedError | None:
    """Answer a batch whole, or not at all: then it has been undone, and comes again, and why is returned."""
    before = pipeline.summary.copy()
    try:
        pipeline.sink.begin()
        pipeline.process(batch)
        _commit(source, pipeline.sink)
    except AbortedError as error:
        logger.warning("%s: its %d messages are answered again", error, len(batch))
        pipeline.summary = before
        if error.unsure:  # it may have taken place, and then the source goes on after it
            pipeline.forget({message.partition for message in batch})
        pipeline.undo()
        pipeline.sink.abort()
        source.rewind(error.unsure)
        return error
    pipeline.stand()
    return None


def _commit(source: Source, sink: Sink) -> None:
    """Make a batch final: the only place that decides in which order.

    First what may still refuse it: the transaction, or without one the brokers' acknowledgements. Then what cannot be
    taken back: files and the log. Where offsets are no part of a transaction, they come last, so that a crash before
    that repeats messages and loses none. With a transaction, a crash between the first two steps leaves files without
    the batch: it is in the topics, and is not answered again.
    """
    sink.commit(source.offsets())
    sink.settle()
    source.commit()
