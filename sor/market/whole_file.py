"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sor.errors import InputError
from sor.market import storage

if TYPE_CHECKING:
    from typing import Self


class WholeFile:
    """A file to be filled within a ``with``: it has its name once that has ended well, and before that another one.

    Parameters
    ----------
    path : path
        Or an address: then it is filled in the folder of temporary files, and copied there.

    Attributes
    ----------
    path : str
    file : binary file

    Raises
    ------
    InputError
        The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._part = f"{self.path}.part"
        if storage.is_remote(self.path):
            name = f"sor-{uuid.uuid4().hex}.part"
            self._part = os.path.join(tempfile.gettempdir(), name)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Says which file it is that cannot be written."""
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from None

    def begin(self) -> None:
        """Write what the file begins with."""

    def end(self) -> None:
        """Write what is held, as there is no more to come."""

    def leave(self) -> None:
        """Let go of what writes to the file, whether or not it was completed."""

    def complete(self) -> None:
        """Write all to the disk, so that only the name is missing.

        Of files that belong together each is completed before the first ``with`` ends.
        """
        if not self.file.closed:
            self.end()
            with self.writing():
                self.file.flush()
                os.fsync(self.file.fileno())
                self.file.close()

    def __enter__(self) -> Self:
        try:
            with self.writing():
                self.file = open(self._part, "wb")
                self.begin()
        except BaseException as error:  # somebody may stop it just here
            if hasattr(self, "file") or not isinstance(error, InputError):
                self._drop()
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self.complete()
                if storage.is_remote(self.path):
                    storage.put(self._part, self.path)
                else:
                    with self.writing():
                        os.replace(self._part, self.path)
        finally:
            self.leave()
            self._drop()

    def _drop(self) -> None:
        """Close the file, and take it away where it has not got its name."""
        with contextlib.suppress(OSError, AttributeError):  # of a full disk, again; or it was not opened
            self.file.close()
        if os.path.exists(self._part):
            os.unlink(self._part)
