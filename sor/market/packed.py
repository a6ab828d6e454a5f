"""Bytes of a file or pipe as they come, and what unpacks them: known by how they begin, not by a name."""

from __future__ import annotations

import importlib
import os
import select
import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from sor.errors import InputError
from sor.market import storage

START = 6  # bytes that tell a packing
CHUNK = 2**16  # bytes read at a time
SMALL = 2**12  # the same where nothing bounds what they unpack to
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Bytes:
    """A file's bytes, of which the first ones may be looked at before they are read.

    Raises
    ------
    InputError
        The file cannot be opened.
    """

    def __init__(self, file: Any, *, keep_open: bool) -> None:
        self._file = file
        self._read: Callable[[int], bytes | None] = getattr(file, "read1", file.read)
        self._keep_open = keep_open
        self._start = b""

    def peek(self, size: int) -> bytes:
        """The first bytes: as many, unless the file has fewer."""
        while len(self._start) < size and (more := self._some(CHUNK)):
            self._start += more
        return self._start

    def read(self, size: int) -> bytes:
        """At least one byte and at most ``size`` (or what was looked at); nothing at the end."""
        start, self._start = self._start, b""
        return start or self._some(size)

    def share(self) -> float:
        """Which part of a file has been read; 0 of a pipe."""
        try:
            size = os.fstat(self._file.fileno()).st_size
            return min(1.0, self._file.tell() / size) if size else 0.0
        except (OSError, ValueError, AttributeError):
            return 0.0

    def waits(self, seconds: float) -> bool:
        """Whether there is something to read within so many seconds."""
        return bool(self._start or select.select([self._file], [], [], seconds)[0])

    def _some(self, size: int) -> bytes:
        while (found := self._read(size)) is None:  # a descriptor that does not block, and nothing there yet
            select.select([self._file], [], [])
        if not found and self._does_not_block():  # a buffer gives the same there for "not yet" and for the end
            select.select([self._file], [], [])
            found = self._read(size) or b""
        return found

    def _does_not_block(self) -> bool:
        try:
            return not os.get_blocking(self._file.fileno())
        except (AttributeError, OSError, ValueError):  # not a file of the system's
            return False

    def close(self) -> None:
        if not self._keep_open:
            self._file.close()


def opened(path: str) -> Bytes:
    """The bytes of a file, here or at an address, or of standard input."""
    if storage.is_remote(path):
        return Bytes(storage.opened(path), keep_open=False)
    try:
        if path != "-":
            return Bytes(open(path, "rb", buffering=0), keep_open=False)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if sys.stdin is None:
        raise InputError("standard input is closed: there is nothing to read")
    return Bytes(sys.stdin.buffer, keep_open=True)


class Unpacked:
    """A file's bytes, unpacked where they are packed; the first ones may be looked at before they are read.

    Attributes
    ----------
    packing : str or None
        How it is packed.

    Raises
    ------
    InputError
        The file cannot be opened, or nothing is installed that unpacks it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.raw = opened(path)
        self._start = b""
        try:
            self.packing = packing_of(self.raw.peek(START))
            self._file = self.raw if self.packing is None else Packed(self.raw, self.packing)
        except OSError as error:
            self.raw.close()
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        except InputError as error:
            self.raw.close()
            raise InputError(f"{path} {error}") from None

    def first_line(self, most: int) -> bytes:
        """The first line without its line break, or its first ``most`` bytes; all stay to be read.

        Raises
        ------
        OSError
            It is damaged, or ends too early.
        """
        while b"\n" not in self._start and len(self._start) < most and (more := self._file.read(CHUNK)):
            self._start += more
        return self._start[: most + 1].partition(b"\n")[0][:most].removesuffix(b"\r")

    def read(self, size: int) -> bytes:
        """At least one byte and at most about ``size`` (or what was looked at); nothing at the end.

        Raises
        ------
        OSError
            It is damaged, or ends too early.
        """
        start, self._start = self._start, b""
        return start or self._file.read(size)

    def share(self) -> float:
        """About which part of the file has been read; 0 where it cannot be told."""
        return self.raw.share()

    def close(self) -> None:
        self.raw.close()


def packing_of(start: bytes) -> str | None:
    """The packing that bytes begin with."""
    return next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)


class Unpacker(Protocol):
    """Unpacks one member: what `bz2`, `lzma` and `compression.zstd` of the standard library have in common."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, size: int, /) -> bytes: ...


class Packed:
    """What packed bytes hold, member after member; unlike `bz2.BZ2File` it passes nothing over between them.

    Raises
    ------
    InputError
        Nothing is installed that unpacks them.
    """

    def __init__(self, raw: Bytes, packing: str) -> None:
        self._raw = raw
        self._packing = packing
        self._new, self._errors = _unpacker(packing)
        self._member: Unpacker | None = None  # None between two
        self._rest = b""  # read, and not yet given to a member
        self._failure: OSError | None = None  # that ended it: an unpacker is not to be asked once more

    def read(self, size: int) -> bytes:
        """At least one byte and at most about ``size``, or `CHUNK`; nothing at the end.

        So what is lost before a damage does not depend on how much is asked for.

        Raises
        ------
        OSError
            It is damaged, or ends too early; so it does each time.
        """
        try:
            if self._failure is None:
                return self._unpacked(min(size, CHUNK))
        except OSError as error:
            self._failure = error
        raise self._failure

    def _unpacked(self, size: int) -> bytes:
        while True:
            ended = False
            if self._member is not None and self._member.eof:
                self._rest, self._member = self._member.unused_data, None
            if self._member is None:
                data = self._after_padding()
                if not data:
                    return b""
                self._member = self._new()
            elif self._member.needs_input:
                data = self._more()
                ended = not data
            else:
                data = b""
            try:
                found = self._member.decompress(data, size)
            except self._errors as error:
                raise OSError(f"the {self._packing} data is damaged: {error}") from None
            if found:
                return found
            if ended and not self._member.eof:
                raise OSError(f"the {self._packing} data ends before its end-of-stream marker")

    def _more(self) -> bytes:
        data, self._rest = self._rest or self._raw.read(CHUNK), b""
        return data

    def _after_padding(self) -> bytes:
        while (data := self._more()) and not (data := data.lstrip(b"\0")):
            pass
        return data


class _Gzip:
    """`zlib` with the face of the others."""

    def __init__(self) -> None:
        self._one = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._one.eof

    @property
    def needs_input(self) -> bool:
        return not self._one.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._one.unused_data

    def decompress(self, data: bytes, size: int) -> bytes:
        return self._one.decompress(self._one.unconsumed_tail + data, size)


class _Zstd:
    """The package `zstandard` with the face of the others; it is given little at a time, as it unpacks all of that."""

    def __init__(self, package: Any) -> None:
        self._one = package.ZstdDecompressor().decompressobj()
        self._input = b""

    @property
    def eof(self) -> bool:
        return bool(self._one.eof)

    @property
    def needs_input(self) -> bool:
        return not self._input

    @property
    def unused_data(self) -> bytes:
        return bytes(self._one.unused_data) + self._input

    def decompress(self, data: bytes, size: int) -> bytes:
        data = self._input + data
        self._input = data[SMALL:]
        return bytes(self._one.decompress(data[:SMALL]))


def _unpacker(packing: str) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """What makes an unpacker of one member, and the errors that it raises."""
    try:
        if packing == "gzip":
            return _Gzip, (zlib.error,)
        if packing == "bzip2":
            return importlib.import_module("bz2").BZ2Decompressor, (OSError,)
        if packing == "xz":
            lzma = importlib.import_module("lzma")
            return lzma.LZMADecompressor, (lzma.LZMAError,)
        try:
            zstd = importlib.import_module("compression.zstd")  # from Python 3.14 on
        except ImportError:
            zstd = importlib.import_module("zstandard")
            return lambda: _Zstd(zstd), (zstd.ZstdError,)
        return zstd.ZstdDecompressor, (zstd.ZstdError,)
    except ImportError:
        what = "pip install zstandard lets it be read" if packing == "zstd" else "this Python was built without it"
        raise InputError(f"is packed with {packing}: {what}, or unpack it") from None
