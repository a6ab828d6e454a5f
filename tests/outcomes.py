"""What a decoder makes of a row, for tests that feed it anything."""

from __future__ import annotations

from typing import Any

from sor.errors import DataError
from sor.market import BookUpdate


def outcome(decode: Any, raw: bytes) -> BookUpdate | DataError:
    """The update, or why there is none; any other exception is the test's failure."""
    try:
        update = decode(raw)
    except DataError as error:
        caught = error
    else:
        assert isinstance(update, BookUpdate)
        return update
    assert caught.reason.isidentifier()
    assert str(caught)
    return caught
