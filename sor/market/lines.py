"""Lines of a file, a pipe or standard input, plain or packed."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator

from sor.errors import DataError, StreamError
from sor.market.packed import CHUNK, Unpacked

LONGEST_LINE = 2**20  # bytes; what is longer is no market data


class Blocks:
    """Whole lines of a file as they come, many in one piece, each with its line break.

    A line longer than `LONGEST_LINE` is cut there, so that no input can take all memory. A line that the input ends in
    is handed out without a line break, by itself; the rest of a line in a damaged archive is not.

    Attributes
    ----------
    count : int
        Lines handed out.
    """

    def __init__(self, file: Unpacked, size: int = CHUNK) -> None:
        self.count = 0
        self._file = file
        self._size = size
        self._rest = b""  # the start of a line whose end has not come yet
        self._cutting = False  # within a line too long
        self._ended = False
        self._ready: deque[bytes] = deque()  # looked at
        self._failure: StreamError | None = None

    def more(self) -> bytes | None:
        """The lines that end within the next bytes; none yet, or None at the end.

        Raises
        ------
        StreamError
            The file cannot be read on; all lines before that have been handed out.
        """
        if self._ended:
            return None
        try:
            chunk = self._file.read(self._size)
        except (OSError, EOFError) as error:
            raise StreamError(f"{self._file.path}, after line {self.count}: {error}") from None
        if not chunk:
            rest, self._rest, self._ended = self._rest, b"", True
            self.count += bool(rest)
            return rest or None
        block = self._whole(chunk)
        self.count += block.count(b"\n")
        return block

    def _whole(self, chunk: bytes) -> bytes:
        end = chunk.rfind(b"\n") + 1
        start = chunk.find(b"\n") + 1 if self._cutting else 0
        if end:
            block, self._rest, self._cutting = self._rest + chunk[start:end], chunk[end:], False
        else:
            block, self._rest = b"", b"" if self._cutting else self._rest + chunk
        if len(self._rest) > LONGEST_LINE:
            block += self._rest[:LONGEST_LINE] + b"\n"
            self._rest, self._cutting = b"", True
        return block

    def ahead(self, limit: int) -> list[bytes]:
        """The first lines, at most ``limit``, which stay to be read."""
        lines: list[bytes] = []
        while len(lines) < limit and self._failure is None:
            try:
                block = self.more()
            except StreamError as error:
                self._failure = error
                break
            if block is None:
                break
            self._ready.append(block)
            lines += split_lines(block)
        return lines[:limit]

    def __iter__(self) -> Iterator[bytes]:
        while self._ready:
            yield self._ready.popleft()
        if self._failure is not None:
            raise self._failure
        while (block := self.more()) is not None:
            yield block


def split_lines(block: bytes) -> list[bytes]:
    """Lines without their line breaks."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line[:-1] if line.endswith(b"\r") else line for line in lines] if b"\r" in block else lines


def unfinished() -> DataError:
    """The refusal of a line that the input ends in: one that was cut may look whole."""
    return DataError(
        "the last line has no end, so this may be a part of it: is the file still being written? "
        "If it is whole, end it with a line break",
        "unfinished",
    )


class Lines:
    """Lines of a file or pipe, plain or packed, as they come: those of `Blocks`, one by one.

    Attributes
    ----------
    count : int
        Lines handed out.
    unfinished : int or None
        Number of the last line, where nothing says that it is whole.

    Raises
    ------
    InputError
        The file cannot be opened.
    """

    def __init__(self, path: str, file: Unpacked | None = None) -> None:
        self.count = 0
        self.unfinished: int | None = None
        self._ready: deque[bytes] = deque()
        self._ended = False
        self._failure: StreamError | None = None
        self._file = Unpacked(path) if file is None else file
        self._blocks = Blocks(self._file)
        self._may_wait = not os.path.isfile(path)
        self._peeked = True  # what was peeked at is there, whatever the pipe says

    def take(self, limit: int, wait: float | None = None) -> list[bytes] | None:
        """At most ``limit`` lines without their line breaks; none yet (after ``wait`` seconds), or None at the end.

        Raises
        ------
        StreamError
            The file cannot be read on; all lines before that have been handed out.
        """
        while len(self._ready) < limit and not self._ended:
            if self._may_wait and (self._ready or not self._more_within(wait)):
                break
            self._read()
        if self._failure is not None and not self._ready:
            raise self._failure
        if not self._ready and self._ended:
            return None
        lines = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        self.count += len(lines)
        return lines

    def ahead(self, limit: int) -> list[bytes]:
        """The next lines, at most ``limit``, which stay to be taken; of a pipe those that have come already."""
        while len(self._ready) < limit and not self._ended and not self._may_wait:
            self._read()
        return list(itertools.islice(self._ready, limit))

    def _more_within(self, wait: float | None) -> bool:
        if self._peeked or wait is None:
            self._peeked = False
            return True
        return self._file.raw.waits(wait)

    def _read(self) -> None:
        try:
            block = self._blocks.more()
        except StreamError as error:
            self._failure = error
            block = None
        if block is None:
            self._ended = True
            return
        if block and not block.endswith(b"\n"):
            self.unfinished = self._blocks.count
            self._ready.append(block)
        else:
            self._ready.extend(split_lines(block))

    def close(self) -> None:
        self._file.close()
