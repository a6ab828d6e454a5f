"""What becomes of a batch whatever a client says: the state machine of both, on a scripted broker and no network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor.errors import AbortedError, Exit, FencedError, RefusedError, StreamError
from sor.kafka.common import ClientError, Kind, Offsets
from sor.kafka.sinks import NEW_PRODUCERS, KafkaSink, State, TransactionalSink

COUNT = 12  # messages of the input
BATCH = 3


class Broker:
    """What is committed, by whom the id is held, and where the group stands."""

    def __init__(self) -> None:
        self.committed: list[bytes] = []
        self.offset = 0
        self.epoch = 0
        self.taken = False  # another process has this one's place


class Scripted:
    """A producer that fails as it is told to, before or after what it was asked for has taken place."""

    def __init__(self, broker: Broker, faults: list[tuple[str, Kind, bool]]) -> None:
        self.limits: dict[str, int] = {}
        self.broker = broker
        self.faults = faults
        broker.epoch += 1
        self.epoch = broker.epoch
        self.open: list[bytes] | None = None
        self.dead = False

    def _step(self, name: str, act: Callable[[], None]) -> None:
        if self.dead or self.epoch != self.broker.epoch:
            raise ClientError(Kind.DEAD, "fenced")
        fault = self.faults.pop(0) if self.faults and self.faults[0][0] == name else None
        if fault is None:
            act()
            return
        _, kind, after = fault
        self.dead = kind is Kind.DEAD
        if after and kind is Kind.DEAD:  # it took place, and only nobody said so; all other errors mean that it did not
            act()
        raise ClientError(kind, f"{kind.value} at {name}")

    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: Any, partition: int | None) -> None:
        def act() -> None:
            assert self.open is not None, "sent outside of a transaction"
            self.open.append(value or b"")

        self._step("send", act)

    def flush(self) -> None:
        raise AssertionError("a transaction is committed, not flushed")

    def begin(self) -> None:
        def act() -> None:
            assert self.open is None, "begun twice"
            self.open = []

        self._step("begin", act)

    def commit(self, offsets: Offsets) -> None:
        def act() -> None:
            assert self.open is not None, "committed outside of a transaction"
            self.broker.committed += self.open
            self.broker.offset = offsets.positions
            self.open = None

        self._step("commit", act)

    def abort(self) -> None:
        def act() -> None:
            self.open = None

        self._step("abort", act)

    def discard(self) -> None:
        raise ClientError(Kind.FATAL, "even this fails")

    def close(self) -> None: ...


kinds = st.sampled_from([Kind.RETRIABLE, Kind.REBALANCED, Kind.DEAD, Kind.REFUSED, Kind.FATAL])
faults = st.lists(st.tuples(st.sampled_from(["begin", "send", "commit", "abort"]), kinds, st.booleans()), max_size=12)


@given(faults=faults, taken=st.booleans())
def test_each_message_is_committed_once_or_the_stream_ends_with_a_reason(
    faults: list[tuple[str, Kind, bool]], taken: bool
) -> None:
    """A loop as `sor.stream.pipeline.run` has it; after an end a new process goes on from where the group stands."""
    broker = Broker()
    ends = 0
    while broker.offset < COUNT:
        fenced = taken and ends == 0
        error, state = end_of(broker, faults, fenced)
        if error is not None:
            ends += 1
            assert not isinstance(error, AbortedError)
            assert state is State.OVER
            assert isinstance(error, FencedError) <= fenced
            assert ends <= 12, "no end"
    assert broker.committed == [b"%d" % number for number in range(COUNT)]


def end_of(broker: Broker, faults: list[tuple[str, Kind, bool]], fenced: bool) -> tuple[StreamError | None, State]:
    """One process, to its end: why, and in which state."""
    sink = TransactionalSink(
        Scripted(broker, faults), "results", None, "memory", 30, lambda: fenced, lambda: Scripted(broker, faults)
    )
    try:
        work_through(broker, sink)
    except StreamError as error:
        return error, sink.state
    return None, sink.state


def work_through(broker: Broker, sink: TransactionalSink) -> None:
    position = broker.offset
    voids = 0
    while position < COUNT:
        end = min(COUNT, position + BATCH)
        try:
            sink.begin()
            for number in range(position, end):
                sink.add("key", b"%d" % number)
            sink.commit(Offsets(end, None))
            assert (sink.state, broker.offset) == (State.IDLE, end)
            position = end
        except AbortedError as error:
            voids += 1
            assert voids < 100, "it never ends"
            assert sink.state in (State.VOID, State.DEAD)
            sink.abort()
            assert sink.state is State.IDLE
            if error.unsure:
                position = broker.offset
            else:
                assert position == broker.offset, "taken for void, and committed"


def sink_with(faults: list[tuple[str, Kind, bool]], fenced: bool = False) -> TransactionalSink:
    broker = Broker()
    return TransactionalSink(
        Scripted(broker, faults), "results", None, "memory", 30, lambda: fenced, lambda: Scripted(broker, faults)
    )


def commit(sink: TransactionalSink) -> None:
    sink.begin()
    sink.add("key", b"value")
    sink.commit(Offsets(1, None))


@pytest.mark.parametrize("at", ["begin", "send", "commit"])
@pytest.mark.parametrize("kind", [Kind.RETRIABLE, Kind.REBALANCED, Kind.FATAL])
def test_what_leaves_the_producer_alive_makes_the_batch_void(at: str, kind: Kind) -> None:
    sink = sink_with([(at, kind, False)])
    with pytest.raises(AbortedError, match=f"{kind.value} at {at}") as caught:
        commit(sink)
    assert (caught.value.unsure, sink.state) == (False, State.VOID)
    sink.abort()
    commit(sink)
    assert (sink.committed, sink.aborted, sink.state) == (1, 1, State.IDLE)


@pytest.mark.parametrize("at", ["begin", "send", "commit"])
def test_a_dead_producer_is_replaced_so_often_and_no_more(at: str) -> None:
    sink = sink_with([(at, Kind.DEAD, False)] * (NEW_PRODUCERS + 1))
    for _ in range(NEW_PRODUCERS):
        with pytest.raises(AbortedError, match="the brokers have ended it") as caught:
            commit(sink)
        assert (caught.value.unsure, sink.state) == (True, State.DEAD)
        before = sink.port
        sink.abort()
        assert sink.port is not before
    with pytest.raises(StreamError, match="a new process goes on from the last commit") as final:
        commit(sink)
    assert not isinstance(final.value, AbortedError)
    assert sink.state is State.OVER


def test_a_commit_is_a_new_start_for_the_count_of_producers() -> None:
    sink = sink_with([("commit", Kind.DEAD, False)] * 2 * NEW_PRODUCERS)
    for _ in range(2):
        for _ in range(NEW_PRODUCERS):
            with pytest.raises(AbortedError):
                commit(sink)
            sink.abort()
        held, sink.port.faults = sink.port.faults, []  # type: ignore[attr-defined]
        commit(sink)
        sink.port.faults = held  # type: ignore[attr-defined]
    assert sink.committed == 2


def test_who_is_fenced_ends() -> None:
    sink = sink_with([("commit", Kind.DEAD, False)], fenced=True)
    with pytest.raises(FencedError):
        commit(sink)
    assert sink.state is State.OVER


@pytest.mark.parametrize("at", ["send", "commit"])
def test_what_is_refused_is_not_tried_again_and_leaves_no_transaction(at: str) -> None:
    sink = sink_with([(at, Kind.REFUSED, False)])
    with pytest.raises(RefusedError, match=f"refused at {at}") as caught:
        commit(sink)
    assert (caught.value.status, sink.state) == (Exit.WRONG_CALL, State.OVER)
    assert sink.port.open is None  # type: ignore[attr-defined]


def test_a_batch_that_cannot_be_aborted_ends_the_stream_unless_the_producer_is_dead() -> None:
    sink = sink_with([("commit", Kind.RETRIABLE, False), ("abort", Kind.FATAL, False)])
    with pytest.raises(AbortedError):
        commit(sink)
    with pytest.raises(StreamError, match="fatal at abort; a new process goes on") as caught:
        sink.abort()
    assert not isinstance(caught.value, AbortedError)
    sink = sink_with([("commit", Kind.RETRIABLE, False), ("abort", Kind.DEAD, False)])
    with pytest.raises(AbortedError):
        commit(sink)
    sink.abort()
    commit(sink)
    assert (sink.committed, sink.aborted) == (1, 1)


class Unacknowledged(Scripted):
    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: Any, partition: int | None) -> None: ...

    def flush(self) -> None:
        raise ClientError(self.faults[0][1], "why")

    def close(self) -> None:
        raise ClientError(Kind.RETRIABLE, "not closed in time")


@pytest.mark.parametrize(
    ("kind", "error"), [(Kind.RETRIABLE, StreamError), (Kind.FATAL, StreamError), (Kind.REFUSED, RefusedError)]
)
def test_a_message_that_is_not_acknowledged_stops_the_stream(kind: Kind, error: type[StreamError]) -> None:
    sink = KafkaSink(Unacknowledged(Broker(), [("flush", kind, False)]), "results", None)
    sink.add("key", b"value")
    with pytest.raises(error, match="the brokers did not take a message: why") as caught:
        sink.commit()
    assert caught.value.retriable == (kind is Kind.RETRIABLE)
    sink.close()  # raises nothing
