"""The supervisor of `--workers`, with processes that do nothing but end: who is started again, and for how long."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from sor.errors import Exit, FencedError, InputError, RefusedError, StreamError
from sor.service.consume import FINAL
from sor.service.supervisor import Restarts, Supervisor, Worker
from sor.service.telemetry import Workers

FOR_EVER = 60.0  # seconds, to these tests
KILLED = -signal.SIGKILL


def act(folder: str, ends: dict[int, list[int]], number: int, snapshot_file: str) -> int:
    """A worker: ends as its list says, one entry a start; with its list at an end, it stays until it is ended."""
    starts = Path(folder, str(number))
    with starts.open("a") as file:
        file.write("started\n")
    turn = starts_of(folder, number) - 1
    if turn >= len(ends[number]):
        time.sleep(FOR_EVER)
    if ends[number][turn] == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    return ends[number][turn]


def starts_of(folder: str | Path, number: int) -> int:
    return len(Path(folder, str(number)).read_text().splitlines())


def supervised(folder: Path, ends: dict[int, list[int]], restarts: Restarts) -> tuple[int, Workers]:
    board = Workers(str(folder))
    supervisor = Supervisor(len(ends), partial(act, str(folder), ends), FINAL, board, restarts)
    status = supervisor.watch(Exit.STREAM_FAILED)
    assert not any(worker.process.is_alive() for worker in supervisor.workers)
    return status, board


@pytest.mark.parametrize(
    ("end", "how"), [(4, "ended with status 4"), (KILLED, "was killed by signal 9")], ids=["status", "signal"]
)
def test_gives_up_after_so_many_failures_in_a_row(tmp_path: Path, end: int, how: str) -> None:
    """With the status of a failed stream; the others are ended, and whoever asks for the health is told why."""
    status, board = supervised(tmp_path, {0: [end] * 9, 1: []}, Restarts(2, FOR_EVER, 0.0))
    assert status == Exit.STREAM_FAILED
    assert (starts_of(tmp_path, 0), starts_of(tmp_path, 1)) == (3, 1)
    assert board.given_up == f"worker 0 {how}, 3 times in a row: giving up"
    assert board.status().unhealthy == board.status().unready == board.given_up
    assert board.status().restarts == 2


def test_failures_of_a_steady_worker_are_none_in_a_row(tmp_path: Path) -> None:
    status, board = supervised(tmp_path, {0: [4, 4, 4, 0]}, Restarts(1, 0.001, 0.0))
    assert status == Exit.DONE
    assert starts_of(tmp_path, 0) == 4
    assert board.given_up is None


@pytest.mark.parametrize(
    "end", [Exit.DONE, *sorted({error.status for error in (InputError, RefusedError, FencedError)})]
)
def test_what_no_start_mends_is_not_started_again(tmp_path: Path, end: Exit) -> None:
    """The command ends with the worst of its workers' ends."""
    status, board = supervised(tmp_path, {0: [end] * 9, 1: [Exit.DONE] * 9}, Restarts(9, FOR_EVER, 0.0))
    assert status == end
    assert (starts_of(tmp_path, 0), starts_of(tmp_path, 1)) == (1, 1)
    assert board.given_up is None


def test_what_a_new_start_may_mend_is_not_final() -> None:
    assert not FINAL & {StreamError.status, Exit.NO_BROKER, Exit.HUNG}


def test_pauses_grow_to_the_longest() -> None:
    worker = Worker(0, lambda number: None, Restarts())
    pauses = []
    for _ in range(7):
        before = time.monotonic()
        tried = worker.failed()
        assert worker.due is not None
        pauses.append((round(worker.due - before), tried))
    assert pauses == [(1, True), (2, True), (4, True), (8, True), (16, True), (30, False), (30, False)]
