"""Files as sources and sinks: recorded feeds, results, dead letters."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
from collections import deque
from collections.abc import Iterator
from typing import IO

import msgspec

from sor.errors import DataError, StreamError
from sor.market import Decoder
from sor.market.databento_json import JsonDecoder
from sor.market.formats import (
    FIRST_BYTES,
    LEARNED,
    MARK,
    Format,
    first_rows_refused,
    format_of,
    is_whole,
    without_lines,
)
from sor.market.instruments import SHARES, Instruments
from sor.market.lines import Lines
from sor.market.packed import Unpacked
from sor.market.venues import VenueDirectory
from sor.stream.messages import BATCH, DeadLetter, FilePlace, Message, Sink

POLL_S = 0.5  # longest wait for a pipe, and so for a signal to be seen


def open_feed(path: str, instruments: Instruments = SHARES, directory: VenueDirectory | None = None) -> FileSource:
    """The messages of a recorded feed, plain or packed, of whatever format it is.

    Parameters
    ----------
    path : str
        ``-`` is standard input.
    instruments : Instruments
        What its symbols are traded in: its decoder gives their sizes in lots.
    directory : VenueDirectory, optional
        Knows the venues that Parquet of the plain form names, by default the built-in one.

    Raises
    ------
    InputError
        The file cannot be opened, is empty, or is of a format that this is not.
    StreamError
        It cannot be read as far as its first line's end.
    """
    file = Unpacked(path)
    try:
        first = file.first_line(FIRST_BYTES)
    except OSError:
        first = b""  # told where it is read
    form = without_lines(first)
    if form is None:
        return FileSource(path, file, instruments)
    return RecordSource(path, file, instruments, form, directory)


class FileSource:
    """Messages of a recorded feed with a row a line.

    Parameters
    ----------
    path : str
    file : Unpacked
        What is there.
    instruments : Instruments

    Raises
    ------
    InputError, StreamError
        As `open_feed`.
    """

    def __init__(self, path: str, file: Unpacked, instruments: Instruments) -> None:
        self.path = path
        self.instruments = instruments
        self.partitions = {0}
        self.name = "-" if path == "-" else shown(os.path.basename(path))
        self._lines = Lines(path, file)
        self._first: list[bytes] = []  # lines read and not yet handed out
        try:
            first = (self._lines.take(1) or [b""])[0]
            self.format = format_of(first, path)
            self._start = _text_of(first)
        except BaseException:
            self.close()
            raise
        if not self.format.has_header:
            self._first = [self._start]

    def decoder(self, depth: int, *, events: bool = False, directory: VenueDirectory | None = None) -> Decoder:
        """The decoder for this file's format, which has learned from its first rows.

        Formats that name venues ask the directory for their publishers, by default the built-in one.

        Raises
        ------
        InputError
            The header, or the first row, is of another schema.
        """
        try:
            known = self.instruments
            decoder = self.format.decoder_of(self._start, depth, directory, events=events, instruments=known)
            decoder.learn([*self._first, *self._lines.ahead(LEARNED)])
        except DataError as error:
            self.close()
            raise first_rows_refused(self.path, self.format, error, self._lines.unfinished == 1) from None
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
        if messages and self._lines.unfinished == number + len(lines) - 1 and not is_whole(self.format, lines[-1]):
            messages[-1] = msgspec.structs.replace(messages[-1], unfinished=True)
        return messages

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


def _text_of(first: bytes) -> bytes:
    """A first line without its byte-order mark; of JSON the object alone."""
    line = first.removeprefix(MARK)
    text = line.strip()
    return text if text.startswith(b"{") else line


class RecordSource(FileSource):
    """Messages of a recorded feed without lines: each record as JSON, its number in the place of a line's."""

    def __init__(
        self,
        path: str,
        file: Unpacked,
        instruments: Instruments,
        form: Format,
        directory: VenueDirectory | None,
    ) -> None:
        self.path = path
        self.instruments = instruments
        self.partitions = {0}
        self.name = "-" if path == "-" else shown(os.path.basename(path))
        self.format = form
        self._file = file
        self._records = form.messages(file, instruments, directory)  # type: ignore[misc]
        self._ready: deque[tuple[int, bytes]] = deque()
        self._ended = False
        self._count = 0
        self._failure: StreamError | None = None
        self._may_wait = not os.path.isfile(path)
        try:
            self._read()  # what it says of itself is looked at before anything else is
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        try:
            found = next(self._records, None)
        except StreamError as error:
            self._failure, found = error, None
        self._ended = found is None
        self._ready.extend(found or ())

    def decoder(self, depth: int, *, events: bool = False, directory: VenueDirectory | None = None) -> Decoder:
        """The decoder of its messages, which has learned from the first ones; they name publishers by number.

        Raises
        ------
        InputError
            They are of another schema.
        """
        decoder = JsonDecoder(depth, events=events, instruments=self.instruments)
        try:
            decoder.learn([message for _, message in itertools.islice(self._ready, LEARNED)])
        except DataError as error:
            self.close()
            raise first_rows_refused(self.path, self.format, error, unfinished=False) from None
        return decoder

    def poll(self, limit: int, wait_s: float | None = None) -> list[Message] | None:
        while not self._ready and not self._ended:
            if self._may_wait and not self._file.raw.waits(POLL_S if wait_s is None else wait_s):
                return []
            self._read()
        if not self._ready:
            if self._failure is not None:
                raise self._failure
            return None
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        self._count = taken[-1][0]
        return [Message(value, FilePlace(self.name, number)) for number, value in taken]

    def place_of(self, partition: int) -> FilePlace:
        return FilePlace(self.name, self._count)

    def close(self) -> None:
        self._file.close()


def shown(name: str) -> str:
    """A file's name as text that can be written anywhere, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def has_one_publisher(
    path: str, rows: int, directory: VenueDirectory | None = None, instruments: Instruments = SHARES
) -> bool:
    """Whether the first ``rows`` messages of a file that can be read all show the book of one publisher."""
    source = open_feed(path, instruments, directory)
    decoder = source.decoder(depth=1, directory=directory)
    publishers = set()
    try:
        # What cannot be read or used is reported when it is routed, not at this look ahead.
        with contextlib.suppress(StreamError):
            for message in itertools.islice(source, rows):
                with contextlib.suppress(DataError):
                    update = decoder.decode(message.whole())
                    if update.consolidated:
                        return False
                    if update.bids is not None:  # who only trades shows no levels
                        publishers.add(update.publisher_id)
                if len(publishers) > 1:
                    break
    finally:
        source.close()
    return len(publishers) == 1


# --- files as sinks -------------------------------------------------------------------------------------------------


class FileResults(Sink):
    """Results as JSON Lines, or indented where people read them; a batch is written at its end."""

    def __init__(self, file: IO[bytes], *, pretty: bool = False) -> None:
        self.file = file
        self.pretty = pretty
        self._batch = io.BytesIO()  # emptied by going back to its start, so that it stays on the same pages

    def add(self, key: str, value: bytes) -> None:
        write = self._batch.write
        write(msgspec.json.format(value, indent=2) if self.pretty else value)
        write(b"\n")

    def settle(self) -> None:
        end = self._batch.tell()
        self._batch.seek(0)
        with self._batch.getbuffer() as written, written[:end] as lines:
            self.file.write(lines)
        self.file.flush()

    def abort(self) -> None:
        self._batch.seek(0)

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
