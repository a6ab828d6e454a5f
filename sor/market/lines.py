"""Lines of a file, a pipe or standard input, plain or packed."""

from __future__ import annotations

import itertools
import os
from collections import deque

from sor.errors import StreamError
from sor.market.packed import CHUNK, Unpacked

LONGEST_LINE = 2**20  # bytes; what is longer is no market data


class Lines:
    """Lines of a file or pipe, plain or packed, as they come.

    A line longer than `LONGEST_LINE` is cut there, so that no input can take all memory. A line that the input ends in
    has no end: it is handed out, and `unfinished`; the rest of a line in a damaged archive is not.

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

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0
        self.unfinished: int | None = None
        self._ready: deque[bytes] = deque()
        self._rest = b""  # the start of a line whose end has not come yet
        self._cutting = False  # within a line too long
        self._ended = False
        self._failure: StreamError | None = None
        self._file = Unpacked(path)
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
            chunk = self._file.read(CHUNK)
        except (OSError, EOFError) as error:
            after = self.count + len(self._ready)
            self._failure = StreamError(f"{self.path}, after line {after}: {error}")
            self._ended = True
            return
        if not chunk:
            self._ended = True
            if self._rest and not self._cutting:
                self._ready.append(self._rest)
                self.unfinished = self.count + len(self._ready)
            return
        first, *others = chunk.split(b"\n")
        self._rest += first
        for start in others:
            if not self._cutting:
                self._add(self._rest)
            self._rest, self._cutting = start, False
        if len(self._rest) > LONGEST_LINE:
            if not self._cutting:
                self._add(self._rest[:LONGEST_LINE])
            self._rest, self._cutting = b"", True

    def _add(self, line: bytes) -> None:
        self._ready.append(line[:-1] if line.endswith(b"\r") else line)

    def close(self) -> None:
        self._file.close()
