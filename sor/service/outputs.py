"""Files and streams that a run writes to."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, Literal

from sor.errors import InputError, StreamError
from sor.service.settings import OutputSettings
from sor.stream.files import FileLetters
from sor.stream.messages import Fanout, LogLetters, Sink


class StandardOutput:
    """Standard output as a file of bytes, whatever it is: a pipe, a full disk, a notebook's, or closed.

    Raises
    ------
    StreamError
        Where it is closed, or nothing can be written to it.
    """

    def __init__(self) -> None:
        if sys.stdout is None:
            raise StreamError("standard output is closed: there is nowhere to write")
        self._stream = sys.stdout
        self._bytes: Any = getattr(sys.stdout, "buffer", None)  # None: of text only

    def write(self, data: bytes | memoryview) -> None:
        with _told():
            if self._bytes is None:
                self._stream.write(str(data, "utf-8", "replace"))
                return
            left = memoryview(data)
            while left:  # where Python does not buffer (-u), a disk that fills up takes a part, and says so by a number
                taken = self._bytes.write(left)
                if taken is None:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                left = left[taken:]

    def writelines(self, lines: Iterable[bytes]) -> None:
        self.write(b"".join(lines))

    def flush(self) -> None:
        with _told():
            self._stream.flush()

    def close(self) -> None:
        """It stays open, as it is not ours."""
        self.flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # a ValueError where somebody has closed it
        reason = getattr(error, "strerror", None) or error
        raise StreamError(f"cannot write to standard output: {reason}") from None


def say(line: str) -> None:
    """Print a line; a character that the stream's encoding does not have is escaped."""
    out = StandardOutput()
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    out.write((line + "\n").encode(encoding if hasattr(sys.stdout, "buffer") else "utf-8", "backslashreplace"))
    out.flush()


def hold_standard_streams() -> None:
    """Put the null device where a standard stream is closed, so that no file of ours gets its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def abandon() -> None:
    """Give up what standard output does not take, or the interpreter would try again at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def create(path: str, mode: Literal["wb", "ab"] = "wb") -> IO[bytes]:
    """A file to write; `-` is standard output. A consumer appends: what it wrote before a restart is committed."""
    if path == "-":
        return StandardOutput()  # type: ignore[return-value]  # as much of a file as a sink needs
    try:
        return open(path, mode)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def letters(settings: OutputSettings, mode: Literal["wb", "ab"] = "wb") -> Sink:
    path = settings.dead_letter_file
    return FileLetters(create(path, mode)) if path is not None else LogLetters()


@contextlib.contextmanager
def closing(fanout: Fanout) -> Iterator[Fanout]:
    try:
        yield fanout
    finally:
        fanout.close()
