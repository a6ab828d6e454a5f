"""Files as sources and sinks: recorded feeds, results, dead letters."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from typing import IO

import msgspec

from sor.errors import DataError, InputError, StreamError
from sor.market import Decoder
from sor.market.databento_csv import CsvDecoder
from sor.market.databento_json import JsonDecoder
from sor.market.lines import Lines
from sor.market.packed import packing_of
from sor.stream.messages import BATCH, DeadLetter, FilePlace, Message, Sink

POLL_S = 0.5  # longest wait for a pipe, and so for a signal to be seen
LEARNED = 1000  # rows that tell what holds for a file, such as the unit of its prices

MARK = b"\xef\xbb\xbf"  # byte-order mark of UTF-8
OTHERS = (  # what a file of another kind begins with
    ((b"DBN",), "Databento's binary format: export it as CSV (pretty_px, pretty_ts and map_symbols may be on)"),
    ((b"\xff\xfe", b"\xfe\xff"), "UTF-16 text: iconv -f UTF-16 -t UTF-8 makes it readable"),
    ((b"[",), "a JSON array: one object a line is needed, which jq -c '.[]' writes"),
    ((b"PK\x03\x04",), "a zip archive (or a spreadsheet): unpack it, or pack it with gzip"),
    ((b"\x1f\x9d", b"\x1f\xa0"), "a .Z archive of compress: unpack it, or pack it with gzip"),
    ((b"7z\xbc\xaf\x27\x1c",), "a 7z archive: unpack it, or pack it with gzip"),
    ((b"Rar!",), "a rar archive: unpack it, or pack it with gzip"),
    ((b"\x04\x22\x4d\x18",), "an lz4 archive: unpack it, or pack it with gzip"),
    ((b"\xff\x06\x00\x00sNaPpY",), "a snappy archive: unpack it, or pack it with gzip"),
    ((b"\x5d\x00\x00",), "a .lzma archive: unpack it, or pack it with xz"),
    ((b"PAR1",), "a parquet file: write it as CSV"),
    ((b"ARROW1", b"FEA1"), "an Arrow file: write it as CSV"),
    ((b"\x89HDF",), "an HDF5 file: write it as CSV"),
)


class FileSource:
    """Messages of a recorded feed: Databento MBP-1 or MBP-10 as CSV or JSON Lines, plain or packed.

    Parameters
    ----------
    path : str
        ``-`` is standard input.

    Raises
    ------
    InputError
        The file cannot be opened, is empty, or is of a format that this is not.
    StreamError
        It cannot be read as far as its first line's end.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.partitions = {0}
        self.name = "-" if path == "-" else shown(os.path.basename(path))
        self.header: bytes | None = None
        self._lines = Lines(path)
        self._first: list[bytes] = []  # lines read and not yet handed out
        try:
            first = self._first_line()
        except BaseException:
            self.close()
            raise
        if first.startswith(b"{"):
            self._first = [first]
        else:
            self.header = first

    def _first_line(self) -> bytes:
        lines = self._lines.take(1)
        if not lines or not lines[0].removeprefix(MARK).strip():
            raise InputError(f"{self.path} is empty or starts with a blank line: it must be Databento MBP-1 or MBP-10")
        line = lines[0].removeprefix(MARK)
        packing = packing_of(line)
        if packing is not None:
            raise InputError(f"{self.path} is packed twice: unpack it once")
        if line[257:262] == b"ustar":
            raise InputError(f"{self.path} is a tar archive: unpack it")
        for starts, what in OTHERS:
            if line.startswith(starts):
                raise InputError(f"{self.path} is {what}")
        if b"\0" in line[:2] and line[:2] != b"\0\0":
            raise InputError(f"{self.path} is UTF-16 text without a byte-order mark, or no text")
        text = line.strip()
        if text == b"{":
            raise InputError(f"{self.path} is JSON over several lines: one object a line is needed, as jq -c writes it")
        return text if text.startswith(b"{") else line

    def decoder(self, depth: int, *, events: bool = False) -> Decoder:
        """The decoder for this file's format, which has learned from its first rows.

        Raises
        ------
        InputError
            The header, or the first row, is of another schema.
        """
        decoder: Decoder
        try:
            if self.header is None:
                decoder = JsonDecoder(depth, events=events)
            else:
                decoder = CsvDecoder(self.header, depth, events=events)
            decoder.learn([*self._first, *self._lines.ahead(LEARNED)])
        except DataError as error:
            self.close()
            end = " (the line has no end: is the file still being written?)" if self._lines.unfinished == 1 else ""
            raise InputError(f"{self.path}, line 1: {error}{end}" if self.header else f"{self.path}: {error}") from None
        return decoder

    def poll(self, limit: int, wait_s: float | None = None) -> list[Message] | None:
        if self._first:
            lines: list[bytes] | None = [self._first.pop()]
            number = 1
        else:
            number = self._lines.count + 1
            lines = self._lines.take(limit, POLL_S if wait_s is None else wait_s)
        if lines is None:
            return None
        messages = [Message(line, FilePlace(self.name, number + i)) for i, line in enumerate(lines)]
        if messages and self._lines.unfinished == number + len(lines) - 1 and not self._is_whole(lines[-1]):
            messages[-1] = msgspec.structs.replace(messages[-1], unfinished=True)
        return messages

    def _is_whole(self, line: bytes) -> bool:
        """Whether a line without an end has all its parts: a cut object is no JSON, a cut row may well be a row."""
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.header is None and isinstance(msgspec.json.decode(line), dict)
        return False

    def place_of(self, partition: int) -> FilePlace:
        return FilePlace(self.name, self._lines.count)

    def lost(self) -> set[int]:
        return set()

    def offsets(self) -> None:
        """A file remembers nothing."""

    def commit(self) -> None: ...

    def rewind(self, unsure: bool = False) -> None: ...

    def close(self) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[Message]:
        while (batch := self.poll(BATCH)) is not None:
            yield from batch


def shown(name: str) -> str:
    """A file's name as text that can be written anywhere, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


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
                    publishers.add(decoder.decode(message.whole()).publisher_id)
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
