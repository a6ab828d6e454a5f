"""`sor convert`: recorded feeds as Parquet."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np

from sor.errors import Exit, InputError
from sor.market.columns import Batch
from sor.market.feed import Feed
from sor.market.parquet import ParquetFile
from sor.market.venues import VenueDirectory
from sor.service.feeds import Progress, all_or_nothing, feed_of
from sor.service.logs import report
from sor.service.settings import ConvertSettings
from sor.stream.summary import total

MOST_FILES = 256  # open at a time
MOST_HELD = 160 * 2**20  # bytes of rows that wait for their row groups, in all files together
DAY = 86_400 * 10**9


def convert(settings: ConvertSettings) -> int:
    """Write a feed's columns to one file, or to one for each symbol or day."""
    feed = feed_of(settings, VenueDirectory.load(settings.venues), settings.depth)
    output = str(settings.output)
    with all_or_nothing(), contextlib.ExitStack() as stack, Progress(feed) as progress:
        parts = None if settings.by is None else Parts(output, settings.by, feed, stack)
        target = stack.enter_context(ParquetFile(output, feed.instruments)) if parts is None else parts
        for batch in feed:
            target.add(batch)
            progress.tell()
    where = output
    if parts is not None:
        where = f"{len(parts.files):,} file{'s' * (len(parts.files) != 1)} in {output}"
    bad = sum(feed.bad.values())
    rows = feed.rows - bad - sum(feed.skipped.values())
    line = f"wrote {rows:,} rows to {where}"
    if feed.skipped:
        line += f"; left out {total(feed.skipped)}"
    if bad:
        line += f"; bad {total(feed.bad)}"
    report.info(line)
    return Exit.BAD_MESSAGES if bad and not settings.allow_bad else Exit.DONE


class Parts:
    """Files of a folder, one for each day or symbol or both; they have their names once all has been written."""

    def __init__(self, folder: str, by: str, feed: Feed, stack: contextlib.ExitStack) -> None:
        self.files: dict[tuple[str, int], ParquetFile] = {}
        self._folder, self._feed, self._stack = folder, feed, stack
        self._by_symbol, self._by_day = "symbol" in by, "day" in by

    def add(self, batch: Batch) -> None:
        for (symbol, day), part in self._split(batch):
            file = self.files.get((symbol, day))
            if file is None:
                file = self.files[symbol, day] = self._new(symbol, day)
            file.add(part)
        row = sum(column.itemsize * column[:1].size for column in batch.columns().values())  # bytes
        while row * sum(file.held for file in self.files.values()) > MOST_HELD:
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
        for other in self._feed.paths:
            if os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other):
                raise InputError(f"--output is {self._folder!r}: {path} is a file to read")
        return self._stack.enter_context(ParquetFile(path, self._feed.instruments))
