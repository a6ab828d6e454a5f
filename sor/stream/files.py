"""Files as sources and sinks: recorded feeds, results, dead letters."""

from __future__ import annotations

import base64
import contextlib
import gzip
import itertools
import json
import os
import select
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from sor.errors import DataError, InputError, StreamError
from sor.market import Decoder
from sor.market.databento_csv import CsvDecoder
from sor.market.databento_json import JsonDecoder
from sor.stream.messages import BATCH, LONGEST_LINE, DeadLetter, FilePlace, Message, Sink

CHUNK = 2**16  # bytes read at a time
POLL_S = 0.5  # longest wait for a pipe, and so for a signal to be seen


class Lines:
    """Lines of a file or pipe, plain or gzip, as they come.

    A line longer than `LONGEST_LINE` is cut there, so that no input can take all memory.

    Raises
    ------
    InputError
        The file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0  # lines handed out
        self._raw = _open(path)
        self._ready: deque[bytes] = deque()
        self._rest = b""  # the start of a line whose end has not come yet
        self._cutting = False  # within a line too long
        self._ended = False
        self._failure: StreamError | None = None
        try:
            start = self._raw.peek(2)[:2]
        except OSError as error:
            self._raw.close()
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        self._file: Any = gzip.GzipFile(fileobj=self._raw) if start == b"\x1f\x8b" else self._raw
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

    def _more_within(self, wait: float | None) -> bool:
        if self._peeked or wait is None:
            self._peeked = False
            return True
        return bool(select.select([self._raw], [], [], wait)[0])

    def _read(self) -> None:
        try:
            chunk = self._file.read1(CHUNK)
        except (OSError, EOFError, zlib.error) as error:
            after = self.count + len(self._ready)
            self._failure = StreamError(f"{self.path}, after line {after}: {error}")
            chunk = b""
        if not chunk:
            self._ended = True
            if self._rest and not self._cutting:
                self._add(self._rest)
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
        if self.path != "-":
            self._file.close()
            self._raw.close()  # GzipFile leaves it open


def _open(path: str) -> Any:
    try:
        if path != "-":
            return open(path, "rb")
        if sys.stdin is None:
            raise InputError("standard input is closed: there is nothing to read")
        return sys.stdin.buffer
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


class FileSource:
    """Messages of a recorded feed: Databento MBP-1 or MBP-10 as CSV or JSON Lines, plain or gzip.

    Parameters
    ----------
    path : str
        ``-`` is standard input.

    Raises
    ------
    InputError
        The file cannot be opened, is empty, or is of a format that this is not.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.partitions = {0}
        self.name = "-" if path == "-" else os.path.basename(path)
        self.header: bytes | None = None
        self._lines = Lines(path)
        self._first: list[bytes] = []  # lines read and not yet handed out
        try:
            first = self._first_line()
        except BaseException:
            self.close()
            raise
        if first.lstrip().startswith(b"{"):
            self._first = [first]
        else:
            self.header = first

    def _first_line(self) -> bytes:
        lines = self._lines.take(1)
        if not lines or not lines[0].strip():
            raise InputError(f"{self.path} is empty or starts with a blank line: it must be Databento MBP-1 or MBP-10")
        if lines[0].startswith((b"DBN", b"\x28\xb5\x2f\xfd")):
            raise InputError(
                f"{self.path} holds Databento's binary format or zstd: export it as CSV "
                "(pretty_px, pretty_ts and map_symbols may be on), plain or .gz"
            )
        return lines[0]

    def decoder(self, depth: int, *, events: bool = False) -> Decoder:
        """The decoder for this file's format."""
        if self.header is None:
            return JsonDecoder(depth, events=events)
        try:
            return CsvDecoder(self.header, depth, events=events)
        except DataError as error:
            self.close()
            raise InputError(f"{self.path}, line 1: {error}") from None

    def poll(self, limit: int) -> list[Message] | None:
        if self._first:
            lines: list[bytes] | None = [self._first.pop()]
            number = 1
        else:
            number = self._lines.count + 1
            lines = self._lines.take(limit, POLL_S)
        if lines is None:
            return None
        return [Message(line, FilePlace(self.name, number + i)) for i, line in enumerate(lines)]

    def place_of(self, partition: int) -> FilePlace:
        return FilePlace(self.name, self._lines.count)

    def offsets(self) -> None:
        """A file remembers nothing."""

    def commit(self) -> None: ...

    def rewind(self, unsure: bool = False) -> None: ...

    def close(self) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[Message]:
        while (batch := self.poll(BATCH)) is not None:
            yield from batch


def has_one_publisher(path: str, rows: int) -> bool:
    """Whether the first ``rows`` messages of a file that can be read all come from one publisher."""
    source = FileSource(path)
    decoder = source.decoder(depth=1)
    publishers = set()
    try:
        # What cannot be read or used is reported when it is routed, not at this look ahead.
        with contextlib.suppress(StreamError):
            for message in itertools.islice(source, rows):
                with contextlib.suppress(DataError):
                    publishers.add(decoder.decode(message.value).publisher_id)
                if len(publishers) > 1:
                    break
    finally:
        source.close()
    return len(publishers) == 1


# --- files as sinks -------------------------------------------------------------------------------------------------


class FileResults(Sink):
    """Results as JSON Lines, or indented where people read them; a batch is one write."""

    def __init__(self, file: IO[bytes], *, pretty: bool = False) -> None:
        self.file = file
        self.pretty = pretty
        self._lines: list[bytes] = []

    def add(self, key: str, value: bytes) -> None:
        self._lines.append(msgspec.json.format(value, indent=2) if self.pretty else value)

    def settle(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self.file.write(b"\n".join(lines) + b"\n")
        self.file.flush()

    def abort(self) -> None:
        self._lines = []

    def close(self) -> None:
        self.file.close()


class FileLetters(Sink):
    """Dead letters as JSON Lines: place, reason, detail and the raw bytes in base64."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self._lines: list[bytes] = []

    def reject(self, letter: DeadLetter) -> None:
        line = {
            "place": msgspec.to_builtins(letter.place),
            "reason": letter.reason,
            "detail": letter.detail,
            "raw_base64": base64.b64encode(letter.value).decode(),
        }
        self._lines.append(json.dumps(line).encode() + b"\n")

    def settle(self) -> None:
        lines, self._lines = self._lines, []
        self.file.writelines(lines)
        self.file.flush()

    def abort(self) -> None:
        self._lines = []

    def close(self) -> None:
        self.file.close()
