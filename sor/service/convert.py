"""`sor convert`: recorded feeds as Parquet."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np

from sor.errors import Exit, InputError
from sor.market.columns import Batch, arrow
from sor.market.feed import Feed, read_feed
from sor.market.parquet import ParquetFile
from sor.service.logs import report
from sor.service.settings import ConvertSettings, FeedSettings
from sor.stream.summary import total

TOLD_S = 0.5  # between two lines of progress
MOST_FILES = 256  # open at a time
MOST_HELD = 2**21  # rows that wait for their row groups, in all files together
DAY = 86_400 * 10**9


def feed_of(settings: FeedSettings, depth: int = 1) -> Feed:
    start, end = _time(settings.start), _time(settings.end)
    return read_feed(settings.files, settings.symbols or None, start, end, depth)


def _time(value: str | None) -> str | int | None:
    return int(value) if value is not None and value.isascii() and value.isdecimal() else value


def convert(settings: ConvertSettings) -> int:
    """Write a feed's columns to one file, or to one for each symbol or day."""
    arrow()
    feed = feed_of(settings, settings.depth)
    output = str(settings.output)
    files = 1
    with contextlib.ExitStack() as stack, Progress(feed) as progress:
        one = stack.enter_context(ParquetFile(output)) if settings.by is None else None
        parts = Parts(output, settings.by or "", feed.paths, stack)
        for batch in feed:
            if one is not None:
                one.add(batch)
            else:
                parts.add(batch)
            progress.tell()
    if one is None:
        files = len(parts.files)
    bad = sum(feed.bad.values())
    rows = feed.rows - bad - sum(feed.skipped.values())
    where = output if one is not None else f"{files:,} files in {output}"
    line = f"wrote {rows:,} rows to {where}"
    if feed.skipped:
        line += f"; left out {total(feed.skipped)}"
    if bad:
        line += f"; bad {total(feed.bad)}"
    report.info(line)
    return Exit.BAD_MESSAGES if bad and not settings.allow_bad else Exit.DONE


class Parts:
    """Files of a folder, one for each day or symbol or both; they have their names once all has been written."""

    def __init__(self, folder: str, by: str, read: tuple[str, ...], stack: contextlib.ExitStack) -> None:
        self.files: dict[tuple[str, int], ParquetFile] = {}
        self._folder, self._read, self._stack = folder, read, stack
        self._by_symbol, self._by_day = "symbol" in by, "day" in by

    def add(self, batch: Batch) -> None:
        for (symbol, day), part in self._split(batch):
            file = self.files.get((symbol, day))
            if file is None:
                file = self.files[symbol, day] = self._new(symbol, day)
            file.add(part)
        while sum(file.held for file in self.files.values()) > MOST_HELD:
            max(self.files.values(), key=lambda file: file.held).flush()

    def _split(self, batch: Batch) -> Iterator[tuple[tuple[str, int], Batch]]:
        """Parts of a batch by symbol and day, the first to appear first."""
        days = batch.time // DAY if self._by_day else np.zeros(len(batch), np.int64)
        symbols = batch.symbol if self._by_symbol else np.zeros(len(batch), np.int32)
        keys = np.stack([symbols.astype(np.int64), days], axis=1)
        found, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        for i in np.argsort(first):
            symbol, day = found[i].tolist()
            yield (batch.symbols[symbol] if self._by_symbol else "", day), batch.take(which.reshape(-1) == i)

    def _new(self, symbol: str, day: int) -> ParquetFile:
        if len(self.files) == MOST_FILES:
            raise InputError(f"--by makes more than {MOST_FILES} files: convert some symbols at a time (--symbols)")
        date = str(np.datetime64(day, "D")) if self._by_day else ""
        name = "-".join(part for part in (quote(symbol, safe=""), date) if part) + ".parquet"
        path = os.path.join(self._folder, name)
        for other in self._read:
            if os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other):
                raise InputError(f"--output is {self._folder!r}: {path} is a file to read")
        return self._stack.enter_context(ParquetFile(path))


class Progress:
    """On a terminal: rows so far, which part of the files has been read, and the time that the rest may take."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def tell(self) -> None:
        now = time.monotonic()
        if self._terminal and now - self._told >= TOLD_S:
            self._told = now
            print(f"\r\033[K{progress_line(self._feed, now - self._started)}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def progress_line(feed: Feed, seconds: float) -> str:
    share = feed.share()
    if share <= 0.0:
        return f"{feed.rows:,} rows"
    left = round(seconds * (1.0 - share) / share)
    return f"{feed.rows:,} rows, {share:.0%}, {left // 60} min {left % 60:02d} s left"
