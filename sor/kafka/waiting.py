"""Waiting with a bound: deadlines, a line where something takes long, the end of the process where it hangs."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

from sor.errors import Exit

logger = logging.getLogger(__name__)

PATIENCE_S = 2.0  # after which a silent broker is worth a line
TICK_S = 0.1  # how late the watchdog may be


class Deadline:
    """A moment so many seconds ahead, on the monotonic clock."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._at - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._at

    def pause(self, seconds: float) -> bool:
        """Sleep, not beyond the deadline; False where it has passed."""
        left = self.left
        if left > 0:
            time.sleep(min(seconds, left))
        return left > 0


class Watchdog:
    """One thread, started when first needed, that acts where a guarded block takes too long."""

    def __init__(self) -> None:
        self._guarded: dict[int, tuple[Deadline, Callable[[], None]]] = {}
        self._numbers = itertools.count()
        self._starting = threading.Lock()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def guard(self, seconds: float, act: Callable[[], None]) -> Iterator[None]:
        """Call ``act``, once and on the watchdog's thread, where the block takes longer."""
        number = next(self._numbers)
        self._guarded[number] = Deadline(seconds), act
        if self._thread is None:
            self._start()
        if not self._busy.is_set():
            self._busy.set()
        try:
            yield
        finally:
            self._guarded.pop(number, None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while True:
            self._busy.wait()
            self._busy.clear()  # before the look: who comes after it sets it again
            while self._guarded:
                for number, (deadline, act) in list(self._guarded.items()):
                    if deadline.passed and self._guarded.pop(number, None) is not None:
                        act()
                time.sleep(TICK_S)


WATCHDOG = Watchdog()


def patience(line: str, seconds: float) -> contextlib.AbstractContextManager[None]:
    """Log ``line`` once where what follows takes long, but not where it is about to fail anyway."""
    if seconds <= 2 * PATIENCE_S:
        return contextlib.nullcontext()
    return WATCHDOG.guard(PATIENCE_S, lambda: logger.warning("%s", line))


def watched(what: str, seconds: float) -> contextlib.AbstractContextManager[None]:
    """End the process where ``what`` takes longer: nobody else would end a wait for a broker that does not answer."""

    def give_up() -> None:
        logger.error(
            "%s took more than %g s: ending, so that a successor can go on (status %d)", what, seconds, Exit.HUNG
        )
        logging.shutdown()
        os._exit(Exit.HUNG)

    return WATCHDOG.guard(seconds, give_up)
