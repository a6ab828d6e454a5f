"""Where messages come from and where results go: files here, Kafka in `sor.kafka`."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import itertools
import json
import logging
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

import msgspec

from sor.errors import DataError, InputError, StreamError
from sor.market_data import Decoder
from sor.market_data.databento_csv import CsvDecoder
from sor.market_data.databento_json import JsonDecoder

logger = logging.getLogger(__name__)

BATCH = 1000  # messages between two commits
LONGEST_LINE = 2**20  # bytes; what is longer is no market data
SHOWN_BYTES = 200  # of a bad message in a log line


class FilePlace(msgspec.Struct, frozen=True, gc=False):
    """A line of a file; the file's name comes without its folder, so that results compare."""

    file: str
    line: int


class KafkaPlace(msgspec.Struct, frozen=True, gc=False):
    topic: str
    partition: int
    offset: int


Place = FilePlace | KafkaPlace


class Message(msgspec.Struct, frozen=True, gc=False):
    """One input: its raw bytes and where they stand."""

    value: bytes
    place: Place


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """An input that could not be used, with the reason."""

    value: bytes
    place: Place
    reason: str  # the short word that it is counted by
    detail: str  # the whole story

    def shown(self) -> str:
        """One line for people: place, reason and the first bytes in base64."""
        place = ":".join(str(value) for value in msgspec.structs.astuple(self.place))
        raw = base64.b64encode(self.value[:SHOWN_BYTES]).decode()
        return f"{place}: {self.reason}: {self.detail} (first {SHOWN_BYTES} bytes in base64: {raw})"


class Source(Protocol):
    """Batches of messages; what has been answered is committed batch by batch."""

    def poll(self, limit: int) -> list[Message] | None:
        """The next messages, at most ``limit``; none yet (an empty list), or None at the end."""

    def commit(self) -> None:
        """All messages of the last batch have been answered, and the answers are out."""

    def close(self) -> None: ...


class Sink:
    """Takes results and dead letters; this one lets them go. ``commit`` returns when they are safely out."""

    def begin(self) -> None:
        """A batch starts."""

    def add(self, key: str, value: bytes) -> None:
        """A result of the symbol ``key``, as one line of JSON."""

    def reject(self, letter: DeadLetter) -> None:
        """An input that could not be used."""

    def commit(self) -> None:
        """The batch is complete."""

    def abort(self) -> None:
        """The batch is void."""

    def close(self) -> None: ...


class Fanout(Sink):
    """Hands everything to several sinks, in order."""

    def __init__(self, sinks: list[Sink]) -> None:
        self.sinks: list[Sink] = []
        self._adds: list[Callable[[str, bytes], None]] = []  # of the sinks that take results
        for sink in sinks:
            self.join(sink)

    def join(self, sink: Sink) -> None:
        """Add a sink."""
        self.sinks.append(sink)
        if type(sink).add is not Sink.add:
            self._adds.append(sink.add)

    def begin(self) -> None:
        for sink in self.sinks:
            sink.begin()

    def add(self, key: str, value: bytes) -> None:
        for add in self._adds:
            add(key, value)

    def reject(self, letter: DeadLetter) -> None:
        for sink in self.sinks:
            sink.reject(letter)

    def commit(self) -> None:
        for sink in self.sinks:
            sink.commit()

    def abort(self) -> None:
        for sink in self.sinks:
            sink.abort()

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


class FileResults(Sink):
    """Results as JSON Lines, or indented where people read them."""

    def __init__(self, file: IO[bytes], *, pretty: bool = False) -> None:
        self.file = file
        self.pretty = pretty

    def add(self, key: str, value: bytes) -> None:
        if self.pretty:
            value = msgspec.json.format(value, indent=2)
        self.file.write(value + b"\n")

    def commit(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.flush()
        if self.file is not sys.stdout.buffer:
            self.file.close()


class FileLetters(Sink):
    """Dead letters as JSON Lines: place, reason, detail and the raw bytes in base64."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def reject(self, letter: DeadLetter) -> None:
        line = {
            "place": msgspec.to_builtins(letter.place),
            "reason": letter.reason,
            "detail": letter.detail,
            "raw_base64": base64.b64encode(letter.value).decode(),
        }
        self.file.write(json.dumps(line).encode() + b"\n")

    def commit(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class LogLetters(Sink):
    """Where no dead-letter sink is named, a warning each: nothing is dropped in silence."""

    def reject(self, letter: DeadLetter) -> None:
        logger.warning("dead letter: %s", letter.shown())


# --- files as sources ------------------------------------------------------------------------------------------------


class FileSource:
    """Lines of a recorded feed: Databento MBP-1 or MBP-10 as CSV or JSON Lines, plain or gzip.

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
        self.name = "-" if path == "-" else os.path.basename(path)
        self._file = _open(path)
        self._line = 0
        self.header: bytes | None = None
        first = self._first_line()
        self._pending = [first]
        if not first.lstrip().startswith(b"{"):
            self.header = self._pending.pop()

    def _first_line(self) -> bytes:
        line = self._readline()
        if not line.strip():
            raise InputError(f"{self.path} is empty or starts with a blank line: it must be Databento MBP-1 or MBP-10")
        if line.startswith(b"DBN") or line.startswith(b"\x28\xb5\x2f\xfd"):
            raise InputError(
                f"{self.path} holds Databento's binary format or zstd: export it as CSV "
                "(pretty_px, pretty_ts and map_symbols may be on), plain or .gz"
            )
        return line

    def decoder(self, depth: int) -> Decoder:
        """The decoder for this file's format."""
        if self.header is None:
            return JsonDecoder(depth)
        try:
            return CsvDecoder(self.header, depth)
        except DataError as error:
            raise InputError(f"{self.path}, line 1: {error}") from None

    def _readline(self) -> bytes:
        try:
            line: bytes = self._file.readline(LONGEST_LINE)
            while line and len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                rest = self._file.readline(LONGEST_LINE)  # a line too long: keep its head, pass over the rest
                if rest.endswith(b"\n") or not rest:
                    break
        except (OSError, EOFError, zlib.error) as error:
            raise StreamError(f"{self.path}, after line {self._line}: {error}") from None
        return line

    def poll(self, limit: int) -> list[Message] | None:
        batch: list[Message] = []
        while len(batch) < limit:
            line = self._pending.pop() if self._pending else self._readline()
            if not line:
                break
            self._line += 1
            batch.append(Message(line.rstrip(b"\r\n"), FilePlace(self.name, self._line + (self.header is not None))))
        return batch or None

    def commit(self) -> None:
        """A file remembers nothing."""

    def close(self) -> None:
        if self.path != "-":
            self._file.close()

    def __iter__(self) -> Iterator[Message]:
        while batch := self.poll(BATCH):
            yield from batch


def _open(path: str) -> Any:
    try:
        raw: Any = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
        if not isinstance(raw, io.BufferedReader):
            raw = io.BufferedReader(raw)
        start = raw.peek(2)[:2]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if start != b"\x1f\x8b":
        return raw
    unpacked: Any = gzip.GzipFile(fileobj=raw)
    return io.BufferedReader(unpacked, 2**17)  # reads lines in C, where GzipFile does it in Python


def has_one_publisher(path: str, rows: int) -> bool:
    """Whether the first ``rows`` messages of a file that can be read all come from one publisher."""
    source = FileSource(path)
    decoder = source.decoder(depth=1)
    publishers = set()
    try:
        for message in itertools.islice(source, rows):
            with contextlib.suppress(DataError):  # counted and reported when it is routed, not at this look ahead
                publishers.add(decoder.decode(message.value).publisher_id)
            if len(publishers) > 1:
                break
    finally:
        source.close()
    return len(publishers) == 1
