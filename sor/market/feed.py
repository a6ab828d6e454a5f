"""Recorded market data as columns, from one file or many."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sor.errors import DataError, InputError, StreamError
from sor.market.columns import ROWS, Batch, Columns, arrow, joined, numbered
from sor.market.fields import LARGEST_TIME, iso_of, time_of
from sor.market.formats import FIRST_BYTES, Format, format_of, without_lines
from sor.market.instruments import SHARES, Instruments, batch_in_lots
from sor.market.lines import LONGEST_LINE
from sor.market.packed import Unpacked
from sor.market.rows import read_rows
from sor.market.storage import matching
from sor.market.venues import VenueDirectory
from sor.types import whole_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

TOLD = 5  # bad rows that the log tells one by one
FEWEST = 2**12  # rows of a file held at a time, where many are merged
MOST_LEVELS = 1000


@dataclass
class Reading:
    """What reading a feed, or some of its files, tells beside rows: see `Feed`."""

    rows: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    formats: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)  # of the first bad rows

    def join(self, other: Reading) -> None:
        self.rows += other.rows
        self.bad += other.bad
        self.skipped += other.skipped
        self.formats |= other.formats
        self.told += other.told


class Feed:
    """Rows of recorded market data, batch by batch; what `read_feed` returns.

    It can be iterated again and again, and holds a few batches at a time, however long its files are.

    Attributes
    ----------
    paths : tuple of str
    symbols : frozenset of str or None
    start, end : int
        Nanoseconds since the epoch; what was asked for.
    depth : int
        Levels on each side of each batch.
    formats : dict
        Names of the formats by path; of a pipe once it is read.
    rows : int
        Rows that the last iteration has read: those that it gave, and those below.
    bad : Counter
        Rows that could not be used, by reason; the log tells the first ones, by file and line.
    skipped : Counter
        Rows left out on purpose: ``symbol`` and ``time``, as they were not asked for, ``blank`` lines, and what a
        format names.
    instruments : Instruments
        Of the symbols whose sizes are in lots.
    """

    def __init__(
        self,
        paths: Iterable[str],
        symbols: frozenset[str] | None,
        start: int,
        end: int,
        depth: int,
        instruments: Instruments = SHARES,
        directory: VenueDirectory | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self.depth = depth
        self.instruments = instruments
        self.rows = 0
        self.bad: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.symbols, self.start, self.end = symbols, start, end
        self._directory = directory
        self.formats: dict[str, str] = {}
        self.quiet = False  # where somebody else tells of bad rows, by `learn`
        self._told: list[str] = []
        self._used_up: set[str] = set()  # pipes that have been read
        self._shares: list[Callable[[], float]] = []  # of each file that has been read
        for path in self.paths:
            if not is_pipe(path):
                with closing(Unpacked(path)) as file:
                    self.formats[path] = _format_of(file).name

    def __iter__(self) -> Iterator[Batch]:
        """Batches of some 65,536 rows, the last ones with fewer.

        Raises
        ------
        InputError
            A file cannot be opened, or is of no known format.
        StreamError
            A file cannot be read to its end: what is whole, in all files, has been given.
        """
        self.rows, self.bad, self.skipped, self._told = 0, Counter(), Counter(), []
        self._shares = [lambda: 0.0] * len(self.paths)
        most = max(FEWEST, ROWS // len(self.paths))
        files = [_File(self._read(number, path, most)) for number, path in enumerate(self.paths)]
        try:
            numbers: dict[str, int] = {}
            for batch in _regrouped(_merged(files) if len(files) > 1 else files[0]):
                yield numbered(batch, numbers)
            self._tell()
            failures = [str(file.failure) for file in files if file.failure is not None]
            if failures:
                raise StreamError("; ".join(failures))
        finally:
            for file in files:
                file.close()

    def share(self) -> float:
        """About which part of all files the iteration has read; nothing is known of pipes and of Parquet being read."""
        return sum(share() for share in self._shares) / len(self.paths)

    def at_depth(self, depth: int) -> Feed:
        """The same feed with other levels."""
        return Feed(self.paths, self.symbols, self.start, self.end, depth, self.instruments, self._directory)

    def reading(self) -> Reading:
        """What the last iteration has told."""
        return Reading(self.rows, self.bad, self.skipped, dict(self.formats), self._told)

    def learn(self, told: Reading) -> None:
        """Know, and tell of bad rows, what somebody has been told who has read all of it."""
        self.rows, self.bad, self.skipped, self.formats = told.rows, told.bad, told.skipped, told.formats
        for line in told.told[:TOLD]:
            logger.warning("%s", line)
        self._tell()

    def to_arrow(self) -> Any:
        """All rows as a ``pyarrow.Table``, in memory; its columns are those of `Batch.to_arrow`.

        Raises
        ------
        InputError
            pyarrow is not installed; or as iteration does.
        StreamError
        """
        package = arrow()
        found = [batch.to_arrow() for batch in self] or [Columns(self.depth, 0).take().to_arrow()]
        return package.Table.from_batches(found).unify_dictionaries()

    def _read(self, number: int, path: str, most: int) -> Iterator[tuple[NDArray[np.int64], Batch]]:
        """Batches of a file that have rows that are wanted, each with the keys by which files are merged."""
        if is_pipe(path):
            if path in self._used_up:
                raise InputError(f"{path} is a pipe, which has been read: it cannot be read again")
            self._used_up.add(path)
        newest = 0
        with closing(Unpacked(path)) as file:
            self._shares[number] = file.share
            form = _format_of(file)
            self.formats[path] = form.name
            tally = _Tally(self, path)
            if form.batches is None:
                batches = read_rows(file, form, self.depth, tally, most, self.instruments, self._directory)
            else:
                batches = form.batches(file, self.depth, tally, self.instruments, self._directory)
            for batch in batches:
                self.rows += len(batch)
                if self.instruments and not form.decimals:
                    batch = self._in_lots(batch, path)
                keys = np.maximum.accumulate(np.maximum(batch.time, newest))
                newest = int(keys[-1]) if len(keys) else newest
                wanted = self._wanted(batch)
                if wanted is not None:
                    keys, batch = keys[wanted], batch.take(wanted)
                if len(keys):
                    yield keys, batch
        self._shares[number] = lambda: 1.0

    def _in_lots(self, batch: Batch, path: str) -> Batch:
        """Rows of whole shares or coins in lots, without those that have a size which is no multiple of its lot."""
        batch, wrong = batch_in_lots(batch, self.instruments)
        if not wrong.any():
            return batch
        for row in np.flatnonzero(wrong)[: max(0, TOLD - sum(self.bad.values()))]:
            symbol, time = batch.symbols[batch.symbol[row]], iso_of(int(batch.time[row]))
            lot = f"{self.instruments[symbol].lot:f}"
            self.warn(f"bad row: {path}: size: of {symbol} at {time}: no multiple of the lot {lot}")
        self.bad["size"] += int(wrong.sum())
        return batch.take(~wrong)

    def _wanted(self, batch: Batch) -> NDArray[np.bool_] | None:
        """Which rows were asked for; None: all."""
        wanted = np.ones(len(batch), bool)
        if self.symbols is not None:
            names = np.array([name in self.symbols for name in batch.symbols], bool)
            wanted = names[batch.symbol]
            self._skip("symbol", len(wanted) - int(wanted.sum()))
        if self.start > 0 or self.end < LARGEST_TIME:
            asked = int(wanted.sum())
            wanted &= (batch.time >= self.start) & (batch.time < self.end)
            self._skip("time", asked - int(wanted.sum()))
        return None if wanted.all() else wanted

    def _skip(self, why: str, rows: int) -> None:
        if rows:
            self.skipped[why] += rows

    def warn(self, line: str) -> None:
        """Of a bad row."""
        self._told.append(line)
        if not self.quiet:
            logger.warning("%s", line)

    def _tell(self) -> None:
        bad = sum(self.bad.values())
        if bad > TOLD and not self.quiet:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.bad.most_common())
            logger.warning("%d bad rows in all: %s", bad, reasons)


def read_feed(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    symbols: str | Iterable[str] | None = None,
    start: str | int | None = None,
    end: str | int | None = None,
    depth: int = 1,
    instruments: Instruments = SHARES,
    directory: VenueDirectory | None = None,
) -> Feed:
    """Recorded market data as columns.

    Several files are one feed: their rows are merged by the newest time that their file has shown so far, so that
    each file keeps its order even where its time goes back; between equal times the order is that of the paths.

    Parameters
    ----------
    paths : path or several
        Files of any format that is known, plain or packed; ``-`` is standard input, which can be read once. They may
        be addresses such as ``s3://bucket/day.parquet``, and of these also patterns: ``s3://bucket/*.parquet``.
    symbols : str or several, optional
        Only rows of these.
    start, end : str or int, optional
        Only rows whose own event time is at or after ``start``, and before ``end``: ISO 8601 text (no zone: UTC) or
        integers of nanoseconds since the epoch. What was shown before ``start`` is then not known.
    depth : int
        Levels on each side; what a file does not have shows nothing.
    instruments : Instruments, optional
        Sizes of their symbols are whole numbers of lots; a row whose sizes are none is bad.
    directory : VenueDirectory, optional
        Knows the venues of formats that name them, by default the built-in one.

    Returns
    -------
    Feed
        To be iterated, as often as wanted: `Batch` after `Batch`.

    Raises
    ------
    InputError
        No path, a file that cannot be read or is of no known format, a time that is none, or a wrong depth.

    Examples
    --------
    >>> feed = read_feed("sample.csv", symbols="AAPL", end="2024-08-01T13:36:30")
    >>> for batch in feed:
    ...     print(len(batch), batch.symbols, batch.bid_price[0], batch.bid_size[0])
    """
    given = [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    found = [path for one in given for path in matching(one)]
    if not found:
        raise InputError("paths is empty: it must name one file or more")
    wanted = None if symbols is None else frozenset([symbols] if isinstance(symbols, str) else symbols)
    return Feed(
        found,
        wanted,
        _time("start", start, 0),
        _time("end", end, LARGEST_TIME),
        whole_number("depth", depth, 1, MOST_LEVELS),
        instruments,
        directory,
    )


def _time(name: str, value: str | int | None, otherwise: int) -> int:
    if value is None:
        return otherwise
    try:
        return time_of(name, value if type(value) is str else whole_number(name, value, 0, LARGEST_TIME))
    except DataError as error:
        raise InputError(str(error)) from None


def is_pipe(path: str) -> bool:
    """Whether it can be read once only."""
    return path == "-" or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path))


def _format_of(file: Unpacked) -> Format:
    try:
        return without_lines(file.first_line(FIRST_BYTES)) or format_of(file.first_line(LONGEST_LINE), file.path)
    except (OSError, EOFError) as error:
        raise StreamError(f"{file.path}, after line 0: {error}") from None


@dataclass
class _Tally:
    """What becomes of a file's rows that are in no batch."""

    feed: Feed
    path: str

    def refuse(self, row: int, error: DataError) -> None:
        self.feed.rows += 1
        self.feed.bad[error.reason] += 1
        if sum(self.feed.bad.values()) <= TOLD:
            self.feed.warn(f"bad row: {self.path}:{row}: {error.reason}: {error}")

    def skip(self, why: str, rows: int) -> None:
        self.feed.rows += rows
        self.feed.skipped[why] += rows


# --- many files as one -----------------------------------------------------------------------------------------------


class _File:
    """A file's rows, of which those that have not been given are held with their keys, a batch at a time."""

    def __init__(self, batches: Iterator[tuple[NDArray[np.int64], Batch]]) -> None:
        self.failure: StreamError | None = None
        self._batches = batches

    def refill(self) -> bool:
        """Hold the next batch; whether there is one."""
        try:
            self.keys, self.batch = next(self._batches)
        except StopIteration:
            return False
        except StreamError as error:
            self.failure = error
            return False
        return True

    def split(self, rows: int) -> tuple[NDArray[np.int64], Batch]:
        """Give the first rows."""
        first = self.keys[:rows], self.batch.take(slice(rows))
        self.keys, self.batch = self.keys[rows:], self.batch.take(slice(rows, None))
        return first

    def __iter__(self) -> Iterator[Batch]:
        while self.refill():
            yield self.batch

    def close(self) -> None:
        self._batches.close()  # type: ignore[attr-defined]


def _merged(files: list[_File]) -> Iterator[Batch]:
    """Rows of all files by their keys; between equal ones, in the order of the files."""
    live = [file for file in files if file.refill()]
    while live:
        # Of what comes later nothing has a smaller key than `bound`, and with just that only the files from `last` on.
        bound = min(file.keys[-1] for file in live)
        last = next(i for i, file in enumerate(live) if file.keys[-1] == bound)
        counts = [np.searchsorted(file.keys, bound, "right" if i <= last else "left") for i, file in enumerate(live)]
        parts = [file.split(int(count)) for file, count in zip(live, counts, strict=True) if count]
        order = np.argsort(np.concatenate([keys for keys, _ in parts]), kind="stable")
        batch = joined([batch for _, batch in parts])
        yield batch if len(parts) == 1 else batch.take(order)
        live = [file for file in live if len(file.keys) or file.refill()]


def _regrouped(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Small batches put together."""
    held: list[Batch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= ROWS // 2:
            yield joined(held)
            held = []
    if held:
        yield joined(held)
