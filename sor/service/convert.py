"""`sor convert`: recorded feeds as Parquet."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import numpy as np
from msgspec.json import encode

from sor.errors import Exit, InputError
from sor.market.columns import Batch, arrow
from sor.market.feed import Feed, Reading, is_pipe
from sor.market.parquet import ParquetFile, made_of
from sor.market.storage import fingerprint, inside
from sor.market.venues import VenueDirectory
from sor.service.feeds import Progress, StatusLine, all_or_nothing, feed_of
from sor.service.logs import report
from sor.service.settings import ConvertSettings
from sor.stream.summary import total

if TYPE_CHECKING:
    from sor.backtest.pieces import Source

MOST_FILES = 256  # open at a time
MOST_HELD = 160 * 2**20  # bytes of rows that wait for their row groups, in all files together
PACKED = (".gz", ".zst", ".bz2", ".xz")
DAY = 86_400 * 10**9


def convert(settings: ConvertSettings) -> int:
    """Write a feed's columns to one file, or to one for each symbol or day, or each file."""
    directory = VenueDirectory.load(settings.venues)
    feed = feed_of(settings, directory, settings.depth)
    output = str(settings.output)
    if settings.by == "file":
        return _by_file(settings, feed, directory, output)
    with all_or_nothing(), contextlib.ExitStack() as stack, Progress(feed) as progress:
        parts = None if settings.by is None else Parts(output, settings.by, feed, stack)
        target = stack.enter_context(ParquetFile(output, feed.instruments)) if parts is None else parts
        for batch in feed:
            target.add(batch)
            progress.tell()
    where = output
    if parts is not None:
        where = f"{len(parts.files):,} file{'s' * (len(parts.files) != 1)} in {output}"
    return _told(settings, where, feed)


def _told(settings: ConvertSettings, where: str, feed: Feed) -> int:
    line = f"wrote {feed.rows - feed.bad.total() - feed.skipped.total():,} rows to {where}"
    if feed.skipped:
        line += f"; left out {total(feed.skipped)}"
    if feed.bad:
        line += f"; bad {total(feed.bad)}"
    report.info(line)
    return Exit.BAD_MESSAGES if feed.bad and not settings.allow_bad else Exit.DONE


# --- file by file ----------------------------------------------------------------------------------------------------


class _Task(NamedTuple):
    source: Source
    output: str


class _Written(NamedTuple):
    reading: Reading
    there: bool  # before


def _by_file(settings: ConvertSettings, feed: Feed, directory: VenueDirectory, folder: str) -> int:
    """Each file by itself, by whoever works; one that is there, and was made of the same, is left."""
    from sor.backtest.pieces import each, source_of, workers

    outputs: dict[str, str] = {}
    for path in feed.paths:
        name = f"{_stem(os.path.basename(path))}.parquet"
        if name in outputs:
            raise InputError(f"--by file: {outputs[name]} and {path} would both become {name}")
        outputs[name] = path
    if len(outputs) < len(feed.paths) or any(is_pipe(path) for path in feed.paths):
        raise InputError("--by file: FILE must be files, each named once, and no pipes")
    tasks = [_Task(source_of(feed, [path], directory), inside(folder, name)) for name, path in outputs.items()]
    _check_apart(feed.paths, [task.output for task in tasks], folder)
    arrow()  # missed now, and by who has asked
    read = Reading()
    ended = left = 0
    with StatusLine() as line, workers(settings.jobs, settings.dask) as pool:
        try:
            for _, one in each(pool, _written, tasks):
                ended, left = ended + 1, left + one.there
                read.join(one.reading)
                line.show(partial("{} of {} files, {:.0f} s".format, ended, len(tasks)))
        except KeyboardInterrupt:
            report.warning(f"sor: stopped after {ended} of {len(tasks)} files: the same command goes on from there")
            raise
    where = f"{ended - left:,} file{'s' * (ended - left != 1)} in {folder}"
    feed.learn(read)
    return _told(settings, where + (f"; {left:,} were there" if left else ""), feed)


def _stem(name: str) -> str:
    """Without the endings that say how a file is packed and what it is."""
    stem, ending = os.path.splitext(name)
    return os.path.splitext(stem)[0] if ending in PACKED else stem


def _check_apart(paths: Sequence[str], outputs: Sequence[str], folder: str) -> None:
    for output in outputs:
        for path in paths:
            if os.path.exists(output) and os.path.exists(path) and os.path.samefile(path, output):
                raise InputError(f"--output is {folder!r}: {output} is a file to read")


def _written(task: _Task) -> _Written:
    feed = task.source.feed()
    (path,) = task.source.paths
    asked = [feed.symbols and sorted(feed.symbols), feed.start, feed.end, feed.depth, feed.instruments.lots()]
    content = {name: value for name, value in fingerprint(path).items() if name != "path"}
    venues = [list(task.source.directory), task.source.directory.default]
    made = hashlib.sha256(encode([metadata.version("sor"), content, asked, venues], enc_hook=repr)).hexdigest().encode()
    if made_of(task.output) == made:
        return _Written(Reading(), True)
    with ParquetFile(task.output, feed.instruments, made) as file:
        for batch in feed:
            file.add(batch)
    return _Written(feed.reading(), False)


# --- by symbol and day -----------------------------------------------------------------------------------------------


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
        path = inside(self._folder, name)
        _check_apart(self._feed.paths, [path], self._folder)
        return self._stack.enter_context(ParquetFile(path, self._feed.instruments))
