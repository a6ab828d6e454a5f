"""What the commands share: how one is performed, and how a pipeline is run, watched and reported."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sor.errors import Exit, SorError
from sor.service import logs
from sor.service.logs import report
from sor.service.options import Settings
from sor.service.outputs import abandon, create
from sor.service.settings import ConsumeSettings, LogSettings, ReplaySettings
from sor.service.supervisor import is_orphan
from sor.stream.messages import Source
from sor.stream.pipeline import HINT_AFTER, Answering, Stop, run
from sor.stream.summary import RunSummary

logger = logging.getLogger(__name__)

SIGN_OF_LIFE_S = 0.5


S = TypeVar("S", bound=Settings)


def perform(name: str, load: Callable[[], S], command: Callable[[S], int]) -> int:
    """Run a command, and tell its errors."""
    try:
        settings = load()
        if isinstance(settings, LogSettings):
            logs.configure(settings.log_level, settings.log_format)
        else:
            logs.configure("info", "text")
        with _ended_by_sigterm():
            return command(settings)
    except BrokenPipeError:  # the reader of our output has gone, such as `| head`
        return Exit.BROKEN_PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (SorError, OSError) as error:
        report.error("sor %s: error: %s", name, error)
        return status_of(error)
    finally:
        abandon()


def status_of(error: Exception) -> Exit:
    return error.status if isinstance(error, SorError) else Exit.STREAM_FAILED


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the process also where it is process 1 of a container and would ignore it (status 143)."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_to_end(
    settings: ReplaySettings | ConsumeSettings,
    source: Source,
    pipeline: Answering,
    turned: Callable[[], None] = lambda: None,
    *,
    hint: bool,
    finish_is_done: bool = False,
) -> int:
    """Run the pipeline to its end, report, and say how it went."""
    stop = Stop()
    streaming = settings if isinstance(settings, ConsumeSettings) else None
    watch = Watch(pipeline, hint, streaming.heartbeat_file if streaming else None, turned)
    started = time.perf_counter()
    gc.freeze()  # modules and clients live as long as the run: a full collection over them would hold up a batch
    try:
        with stop.on_signals():
            run(
                source,
                pipeline,
                stopped=lambda: stop() or is_orphan(),
                max_messages=settings.max_messages,
                idle_timeout=streaming.idle_timeout if streaming else None,
                after_poll=watch,
            )
    finally:
        seconds = time.perf_counter() - started
        gc.unfreeze()
        watch.finish()
        tell_summary(settings.summary, pipeline.summary, seconds)
    if stop() and not finish_is_done:
        report.warning(f"sor: stopped after {pipeline.summary.messages:,} messages, before the end")
        return Exit.INTERRUPTED
    return ended(pipeline.summary, settings.allow_bad)


def ended(summary: RunSummary, allow_bad: bool) -> Exit:
    """The status of a run that came to its end."""
    return Exit.BAD_MESSAGES if (summary.bad or summary.rejected) and not allow_bad else Exit.DONE


def tell_summary(path: str | None, summary: RunSummary, seconds: float) -> None:
    """Log it, and write it as JSON where a path is given."""
    for line in summary.lines(seconds):
        report.info(line)
    if path is not None:
        with create(path) as file:
            file.write(json.dumps(summary.as_dict(seconds), indent=2).encode() + b"\n")


class Watch:
    """Signs of life between two polls: progress on a terminal, a heartbeat file, a hint at ``--venues-from``."""

    def __init__(self, pipeline: Answering, hint: bool, heartbeat: str | None, turned: Callable[[], None]) -> None:
        self.pipeline = pipeline
        self.turned = turned
        self.hint = hint
        self.heartbeat = None if heartbeat is None else Path(heartbeat)
        self.terminal = sys.stderr is not None and sys.stderr.isatty()
        self._next = 0.0

    def __call__(self) -> None:
        if self.hint and self.pipeline.summary.messages >= HINT_AFTER:
            self._hint()
        self.turned()
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SIGN_OF_LIFE_S
        if self.heartbeat is not None:
            self.heartbeat.touch()
        if self.terminal:
            print(f"\r{self.pipeline.summary.messages:,} messages", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.hint and self.pipeline.summary.results:
            self._hint()
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _hint(self) -> None:
        self.hint = False
        if len(self.pipeline.publishers) == 1:
            logger.info("only one publisher seen so far: --venues-from levels would route its levels as venues")
