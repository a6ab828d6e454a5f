"""Runs a command as several processes that share a group's partitions, and starts a dead one again."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any, NamedTuple, Protocol

from sor.stream.pipeline import Stop

logger = logging.getLogger(__name__)

LOOK_S = 0.5  # between two looks at signals and pauses
ASKED_TO_END = (128 + signal.SIGTERM, signal.SIGTERM)  # exit statuses of a worker that had not begun
PATIENCE_S = 60.0  # for workers that have been asked to end


class Restarts(NamedTuple):
    """How often, and when, a worker is started again."""

    give_up_after: int = 5  # failures in a row
    steady_s: float = 60.0  # a worker that lived so long has not failed in a row
    longest_pause_s: float = 30.0


DEFAULT = Restarts()


class Board(Protocol):
    """Where the workers stand, for metrics and health."""

    given_up: str | None

    def started(self, worker: int) -> str: ...

    def ended(self, worker: int) -> None: ...


class Worker:
    """One place among the workers: its process, and how often that has failed."""

    def __init__(self, number: int, start: Callable[[int], Any], restarts: Restarts) -> None:
        self.number = number
        self.restarts = restarts
        self.failures = 0
        self.status: int | None = None  # of the last process that is not started again
        self._start = start
        self.restart()

    def restart(self) -> None:
        self.process = self._start(self.number)
        self.started = time.monotonic()
        self.due: float | None = None  # when it is started again

    def failed(self) -> bool:
        """Note a failure; whether there is to be another try."""
        now = time.monotonic()
        self.failures = 1 if now - self.started > self.restarts.steady_s else self.failures + 1
        self.due = now + min(2.0 ** (self.failures - 1), self.restarts.longest_pause_s)
        return self.failures <= self.restarts.give_up_after


class Supervisor:
    """Keeps workers running until all have ended by themselves, one gives up, or a signal ends them.

    Parameters
    ----------
    count : int
    run : callable
        Called in a new process with the worker's number and the file for its snapshots; returns its exit status.
    final : collection of int
        Exit statuses after which a worker is not started again.
    board : Board
        Is told what happens.
    restarts : Restarts, optional
    """

    def __init__(
        self,
        count: int,
        run: Callable[[int, str], int],
        final: frozenset[int],
        board: Board,
        restarts: Restarts = DEFAULT,
    ) -> None:
        self._run = run
        self._final = final
        self._board = board
        self._spawn = multiprocessing.get_context("spawn")  # Kafka's clients do not survive a fork
        self.workers = [Worker(number, self._start, restarts) for number in range(count)]

    def _start(self, number: int) -> Any:
        file = self._board.started(number)
        process = self._spawn.Process(target=_work, args=(self._run, number, file), name=f"worker-{number}")
        process.start()
        return process

    def watch(self, failed: int) -> int:
        """Look after the workers; returns the largest of their exit statuses, or ``failed`` where one gave up."""
        stop = Stop()
        with stop.on_signals():
            while not stop() and any(worker.status is None for worker in self.workers):
                alive = [worker.process.sentinel for worker in self.workers if worker.status is worker.due is None]
                wait(alive, LOOK_S) if alive else time.sleep(LOOK_S)
                if not all(self._look_at(worker) for worker in self.workers if worker.status is None):
                    self._end()
                    return failed
            self._end()
        return max(0 if worker.status in ASKED_TO_END else worker.status or 0 for worker in self.workers)

    def _look_at(self, worker: Worker) -> bool:
        """Start a worker again where it is due; False where that has been tried often enough."""
        if worker.due is not None:
            if time.monotonic() >= worker.due:
                worker.restart()
            return True
        status = worker.process.exitcode
        if status is None:
            return True
        self._board.ended(worker.number)
        if status in self._final:
            worker.status = status
            return True
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        if not worker.failed():
            self._board.given_up = f"worker {worker.number} {how}, {worker.failures} times in a row: giving up"
            logger.error("%s", self._board.given_up)
            return False
        pause = 0.0 if worker.due is None else worker.due - time.monotonic()
        logger.warning("worker %d %s: starting it again in %.0f s", worker.number, how, pause)
        return True

    def _end(self) -> None:
        """Ask the workers to finish what they are at; whoever does not is killed."""
        for worker in self.workers:
            if worker.process.is_alive():
                worker.process.terminate()
        deadline = time.monotonic() + PATIENCE_S
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                logger.error("worker %d does not end: killed", worker.number)
                worker.process.kill()
                worker.process.join()
            if worker.status is None and worker.due is None:
                worker.status = abs(worker.process.exitcode or 0)


def _work(run: Callable[[int, str], int], number: int, file: str) -> None:
    # Ctrl-C on a terminal reaches every process; until the command listens, the supervisor's SIGTERM will do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(run(number, file))


def is_orphan() -> bool:
    """Whether this process is a worker whose supervisor has gone."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
