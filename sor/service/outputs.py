"""Files that a run writes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Literal

from sor.errors import InputError
from sor.service.settings import Settings
from sor.stream.files import FileLetters
from sor.stream.messages import Fanout, LogLetters, Sink


def create(path: str, mode: Literal["wb", "ab"] = "wb") -> IO[bytes]:
    """A file to write; `-` is standard output. A consumer appends: what it wrote before a restart is committed."""
    if path == "-":
        return sys.stdout.buffer
    try:
        return open(path, mode)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def letters(settings: Settings, mode: Literal["wb", "ab"] = "wb") -> Sink:
    path = settings.dead_letter_file
    return FileLetters(create(path, mode)) if path is not None else LogLetters()


@contextlib.contextmanager
def closing(fanout: Fanout) -> Iterator[Fanout]:
    try:
        yield fanout
    finally:
        fanout.close()


def refuse_overwriting(settings: Settings, path: str) -> None:
    for name in ("output", "summary", "dead_letter_file"):
        target = getattr(settings, name)
        if target and os.path.exists(target) and os.path.exists(path) and os.path.samefile(target, path):
            raise InputError(f"--{name.replace('_', '-')} is {target!r}: that is the file to read")
