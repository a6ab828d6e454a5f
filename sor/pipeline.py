"""Source → router → sink: the loop that replay and live routing share."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from sor.allocation import search_space
from sor.book import Books
from sor.errors import DataError
from sor.market_data import Decoder
from sor.metrics import RunSummary
from sor.router import USABLE, Router
from sor.streams import BATCH, LONGEST_LINE, DeadLetter, FilePlace, KafkaPlace, Message, Sink, Source
from sor.types import Order, RoutingResult

logger = logging.getLogger(__name__)

HINT_AFTER = 1000  # messages of one publisher only, after which live routing asks whether levels were meant


class Stop:
    """Becomes true on SIGTERM or Ctrl-C, so that a batch can be finished; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
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


class Pipeline:
    """Answers every message with one result, one skip or one dead letter.

    Parameters
    ----------
    decoder : Decoder
    books : Books
        The state that messages build up.
    router : Router
    order : Order
        What is routed on every message; its symbol is replaced by the message's.
    sink : Sink
    symbol : str, optional
        Other symbols are skipped.
    log_level : int
        Level of the lines that every message logs.
    """

    def __init__(
        self,
        decoder: Decoder,
        books: Books,
        router: Router,
        order: Order,
        sink: Sink,
        *,
        symbol: str | None = None,
        log_level: int = logging.DEBUG,
    ) -> None:
        self.decoder = decoder
        self.books = books
        self.router = router
        self.sink = sink
        self.symbol = symbol
        self.summary = RunSummary()
        self._template = order
        self._orders: dict[str, Order] = {}
        self._partitions: dict[str, int] = {}  # of the symbols seen
        self._level = log_level
        self._logs = logger.isEnabledFor(log_level)
        self._trap_told = router.objective == "sweep"  # which has no trap

    def process(self, message: Message) -> None:
        """Answer one message."""
        self._answer(message)
        self.summary.messages += 1  # last, so that the counts add up also where a sink fails on the way

    def _answer(self, message: Message) -> None:
        summary = self.summary
        started = time.perf_counter_ns()
        if not message.value and isinstance(message.place, FilePlace):
            summary.skipped["blank"] += 1
            return
        try:
            update = self.decoder.decode(message.value)
        except DataError as error:
            cut = f" (cut at {LONGEST_LINE:,} bytes)" if len(message.value) == LONGEST_LINE else ""
            letter = DeadLetter(message.value, message.place, error.reason, str(error) + cut, message.key)
            self.sink.reject(letter)
            summary.bad[error.reason] += 1
            return
        if self.symbol is not None and update.symbol != self.symbol:
            summary.skipped["symbol"] += 1
            return
        book = self.books.apply(update)
        result = self.router.route(self._order(update.symbol, message), book, source=message.place)
        self.sink.add(update.symbol, result.to_json())
        summary.add(result, time.perf_counter_ns() - started)
        if self._logs:
            self._log(result)
        if result.warnings and not self._trap_told:
            self._tell_trap(result)

    def _order(self, symbol: str, message: Message) -> Order:
        order = self._orders.get(symbol)
        if order is None:
            one = self._template
            order = Order(symbol, one.side, one.quantity, one.limit_price, one.id, one.parent_id)
            self._orders[symbol] = order
            if isinstance(message.place, KafkaPlace):
                self._partitions[symbol] = message.place.partition
        return order

    def forget(self, partitions: set[int]) -> None:
        """Throw away the state of partitions that another consumer may move on with."""
        for symbol in [s for s, partition in self._partitions.items() if partition in partitions]:
            del self._orders[symbol], self._partitions[symbol]
            self.books.by_symbol.pop(symbol, None)

    def _log(self, result: RoutingResult) -> None:
        venues = sum(venue.status in USABLE for venue in result.venues)
        log, level = logger.log, self._level
        log(level, "Optimizing allocation for %d shares across %d venues", result.order_size, venues)
        searched = result.objective == "notional" or (result.objective == "shortfall" and result.reference_price)
        if searched and venues:
            count = search_space(result.order_size, venues, self.router.parameters.step)
            log(level, "Evaluating %d possible allocations", count)
        log(level, "Optimal allocation: %s with cost %.4f", result.allocation, result.objective_value)
        log(
            level,
            "SOR Result [%s]: allocation=%s, cost=$%.2f, fill_rate=%.1f%%",
            result.symbol,
            result.allocation,
            result.total_cost,
            100 * result.execution_summary.fill_rate,
        )

    def _tell_trap(self, result: RoutingResult) -> None:
        for warning in result.warnings:
            if warning.startswith("with these penalties"):
                logger.warning("%s (said once; every result concerned carries it)", warning)
                self._trap_told = True


def run(
    source: Source,
    pipeline: Pipeline,
    *,
    stopped: Callable[[], bool] = lambda: False,
    max_messages: int | None = None,
    idle_timeout: float | None = None,
    after_poll: Callable[[], None] = lambda: None,
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
    """
    sink = pipeline.sink
    left = max_messages
    last = time.monotonic()
    while not stopped() and (left is None or left > 0):
        batch = source.poll(BATCH if left is None else min(BATCH, left))
        if batch is None:
            break
        after_poll()
        if not batch:
            if idle_timeout is not None and time.monotonic() - last >= idle_timeout:
                logger.info("no message for %g s: ending", idle_timeout)
                break
            continue
        last = time.monotonic()
        if left is not None:
            left -= len(batch)
        sink.begin()
        for message in batch:
            pipeline.process(message)
        sink.commit()
        source.commit()
