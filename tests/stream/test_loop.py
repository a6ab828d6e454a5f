"""The loop over batches: what is final when, what a void batch leaves, and what ends it."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream.test_state import Batches, pipeline_of, quote

from sor.errors import AbortedError, DataError, InputError, StreamError
from sor.market.book import Books
from sor.routing.result import RoutingResult
from sor.routing.router import Router
from sor.stream.files import FileLetters, FileResults
from sor.stream.messages import DeadLetter, Fanout, LogLetters, Message, Sink
from sor.stream.pipeline import MOST_ABORTS, run
from sor.types import Order


class Topics(Sink):
    """A transaction that does not take place now and then; ``voids`` says how often before each that does."""

    def __init__(self, voids: list[int]) -> None:
        self.results: list[bytes] = []
        self.letters: list[DeadLetter] = []
        self.log: list[str] = []
        self._voids = iter(voids)
        self._left = next(self._voids, 0)
        self._batch: tuple[list[bytes], list[DeadLetter]] = ([], [])

    def begin(self) -> None:
        self._batch = ([], [])

    def add(self, key: str, value: bytes) -> None:
        self._batch[0].append(value)

    def reject(self, letter: DeadLetter) -> None:
        self._batch[1].append(letter)

    def commit(self, offsets: Any = None) -> None:
        if self._left:
            self._left -= 1
            raise AbortedError("a coordinator moved")
        self._left = next(self._voids, 0)
        self.results += self._batch[0]
        self.letters += self._batch[1]


@given(
    voids=st.lists(st.integers(0, MOST_ABORTS - 1), max_size=8),
    sizes=st.lists(st.integers(1, 4), max_size=8),
    bad=st.sets(st.integers(0, 9)),
)
def test_files_beside_a_topic_hold_what_it_holds(voids: list[int], sizes: list[int], bad: set[int]) -> None:
    feed = [quote(i, 1 + i % 3, 100.0 + i) for i in range(10)]
    feed = [Message(b"junk", one.place) if i in bad else one for i, one in enumerate(feed)]
    topics, results, letters = Topics(voids), io.BytesIO(), io.BytesIO()
    beside: list[Sink] = [FileResults(results), FileLetters(letters)]
    for sinks in ([topics, *beside], [*beside, Topics([])]):
        pipeline = pipeline_of(Fanout(sinks), None, "brute_force", "publishers")
        run(Batches(feed, sizes), pipeline, pause_s=0)
        assert pipeline.summary.bad == ({"json": len(bad)} if bad else {})
        if topics in sinks:
            assert results.getvalue().splitlines() == topics.results
            assert [json.loads(line)["place"]["offset"] for line in letters.getvalue().splitlines()] == sorted(bad)
    assert len(topics.letters) == len(bad)


@pytest.mark.parametrize("topics_first", [True, False])
def test_what_cannot_be_taken_back_comes_after_what_may_refuse(topics_first: bool) -> None:
    """Whatever the order of the sinks; and the source's own commit is the last."""
    steps: list[str] = []

    class Noting(Topics):
        def commit(self, offsets: Any = None) -> None:
            super().commit(offsets)
            steps.append("topics")

    class NotedFile(io.BytesIO):
        def write(self, data: Any) -> int:
            steps.append("file")
            return super().write(data)

    class Noted(Batches):
        def commit(self) -> None:
            steps.append("offsets")

    sinks: list[Sink] = [Noting([2]), FileResults(NotedFile())]
    sink = Fanout(sinks if topics_first else sinks[::-1])
    run(Noted([quote(0, 1, 100.0)], []), pipeline_of(sink, None, "brute_force", "publishers"), pause_s=0)
    assert steps == ["topics", "file", "offsets"]


def test_letters_of_a_void_batch_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    junk = Message(b"junk", quote(0, 1, 100.0).place)
    with caplog.at_level(logging.WARNING):
        sink = Fanout([LogLetters(), Topics([3])])
        run(Batches([junk], []), pipeline_of(sink, None, "brute_force", "publishers"), pause_s=0)
    assert caplog.text.count("dead letter:") == 1


def test_a_batch_that_is_always_void_ends_the_run_with_its_reason() -> None:
    pipeline = pipeline_of(Topics([10**9]), None, "brute_force", "publishers")
    with pytest.raises(StreamError, match="a coordinator moved; 6 batches in a row were void") as caught:
        run(Batches([quote(0, 1, 100.0)], []), pipeline, pause_s=0)
    assert not isinstance(caught.value, AbortedError)
    assert pipeline.summary.messages == 0


def test_void_batches_are_counted_in_a_row_and_waited_for() -> None:
    pauses: list[float] = []
    feed = [quote(i, 1, 100.0) for i in range(3)]
    pipeline = pipeline_of(Topics([MOST_ABORTS - 1] * 3), None, "brute_force", "publishers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sor.stream.pipeline.time.sleep", pauses.append)
        run(Batches(feed, [1] * 18), pipeline, pause_s=0.5)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0] * 3
    assert pipeline.summary.results == 3


class Refusing(Router):
    def route(self, order: Order, *arguments: Any, **more: Any) -> RoutingResult:
        result = super().route(order, *arguments, **more)
        if result.venues[0].ask == 666.0:
            raise InputError("a price that nobody can work with")
        return result


class Particular(Books):
    """Takes no quote of publisher 9."""

    def apply(self, update: Any) -> Any:
        if update.publisher_id == 9:
            raise DataError("publisher_id is 9: the levels are those of another one", "publisher")
        return super().apply(update)


@pytest.mark.parametrize("conflate", [False, True])
def test_what_a_book_or_routing_refuses_is_a_dead_letter(conflate: bool) -> None:
    from stream.test_state import DIRECTORY

    feed = [quote(0, 1, 100.0), quote(1, 9, 99.0), quote(2, 1, 666.0), quote(3, 1, 101.0), quote(4, 9, 99.0)]
    topics = Topics([])
    pipeline = pipeline_of(topics, None, "brute_force", "publishers", conflate=conflate)
    pipeline.router = Refusing()
    pipeline._new_books = lambda: Particular(DIRECTORY)
    run(Batches(feed, [5]), pipeline)
    summary = pipeline.summary
    reasons = {"publisher": 2} if conflate else {"publisher": 2, "routing": 1}
    assert (summary.messages, summary.bad) == (5, reasons)
    assert (
        [json.loads(result)["venues"][0]["ask"] for result in topics.results] == [101.0] if conflate else [100.0, 101.0]
    )
    assert summary.messages == summary.results + sum(summary.bad.values()) + sum(summary.skipped.values())
    assert {letter.reason: letter.detail for letter in topics.letters}["publisher"].startswith("publisher_id is 9")
