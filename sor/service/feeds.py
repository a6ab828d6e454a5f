"""What the commands on whole feeds share: which feed, and how far it has been read."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sor.market.feed import Feed, read_feed
from sor.market.instruments import Instruments
from sor.market.venues import VenueDirectory
from sor.service.logs import report
from sor.service.settings import FeedSettings

if TYPE_CHECKING:
    from typing import Self

TOLD_S = 0.5  # between two lines of progress


def feed_of(settings: FeedSettings, directory: VenueDirectory, depth: int = 1) -> Feed:
    instruments = Instruments.load(settings.instruments)
    return read_feed(
        settings.files, settings.symbols or None, settings.start, settings.end, depth, instruments, directory
    )


@contextlib.contextmanager
def all_or_nothing() -> Iterator[None]:
    """Says, where a command that writes all or nothing is stopped by hand, that it was nothing."""
    try:
        yield
    except KeyboardInterrupt:
        report.warning("sor: stopped before the end, so nothing was written")
        raise


class StatusLine:
    """A line on standard error that is written over again and again, where that is a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def show(self, text: Callable[[float], str]) -> None:
        """Write what comes of the seconds so far, unless that was done just now."""
        now = time.monotonic()
        if self._terminal and now - self._told >= TOLD_S:
            self._told = now
            print(f"\r\033[K{text(now - self._started)}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Progress(StatusLine):
    """Rows so far, which part of the files has been read, and the time that the rest may take."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed

    def tell(self) -> None:
        self.show(lambda seconds: progress_line(self._feed, seconds))


def progress_line(feed: Feed, seconds: float) -> str:
    share = feed.share()
    if share <= 0.0:
        return f"{feed.rows:,} rows"
    left = round(seconds * (1.0 - share) / share)
    return f"{feed.rows:,} rows, {share:.0%}, {left // 60} min {left % 60:02d} s left"
