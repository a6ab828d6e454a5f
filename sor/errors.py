"""What can go wrong, by who has to act, and the exit status that it becomes.

SorError
├── InputError   a wrong call or a wrong setting: the caller mends it      (also a ValueError)
├── DataError    a message that cannot be used: it goes to the dead letters (also a ValueError)
│   └── LeftOut  one that is left out on purpose: it is skipped, and counted by its reason
└── StreamError  a broker or a file that fails: ``retriable`` says whether trying again can help
    ├── ConnectError  no broker answered in time
    ├── AbortedError  a batch is void, and comes again
    ├── RefusedError  the brokers refuse something for good: whoever runs this has to act
    └── FencedError   another process has taken this one's place
"""

from __future__ import annotations

import copyreg
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit statuses of the commands."""

    DONE = 0
    BAD_MESSAGES = 1  # it ran to its end, and some messages could not be used
    WRONG_CALL = 2
    NO_BROKER = 3
    STREAM_FAILED = 4
    FENCED = 5  # another process has taken this one's place
    HUNG = 6  # a process that ends itself, as a commit hangs
    REJECTED = 7  # the order, by its answer
    NO_ANSWER = 8  # to the order, in time
    INTERRUPTED = 130  # by a signal, before the end
    BROKEN_PIPE = 141  # the reader of the output has gone


class SorError(Exception):
    """Base of every error that this package raises on purpose.

    ``status`` is what a command exits with that it ends.
    """

    status = Exit.STREAM_FAILED

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied as it stands: made from its arguments anew it would lack those of its own `__init__`."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class InputError(SorError, ValueError):
    """A wrong argument or setting; the message names it, its value and what it may be."""

    status = Exit.WRONG_CALL


class DataError(SorError, ValueError):
    """A message or row that cannot be used.

    The message says what is wrong with it; ``reason`` is the short word that bad messages are counted by.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class LeftOut(DataError):
    """A row that is a good one and says nothing to act on, such as a trade that was cancelled later.

    ``reason`` is the short word that skipped messages are counted by.
    """


class StreamError(SorError):
    """A source or a sink failed."""

    def __init__(self, message: str, *, retriable: bool = False) -> None:
        super().__init__(message)
        self.retriable = retriable


class ConnectError(StreamError):
    """No broker answered in time."""

    status = Exit.NO_BROKER

    def __init__(self, message: str) -> None:
        super().__init__(message, retriable=True)


class AbortedError(StreamError):
    """A batch's transaction did not take place: its messages come again, to this process or to another.

    ``unsure``: or the brokers did commit it, and only did not say so; the group's offsets tell.
    """

    def __init__(self, message: str, *, unsure: bool = False) -> None:
        super().__init__(message, retriable=True)
        self.unsure = unsure


class RefusedError(StreamError):
    """The brokers refuse something for good, as a limit, a permission or a setting is in the way."""

    status = Exit.WRONG_CALL  # which no supervisor starts again


class FencedError(StreamError):
    """Another process has the same instance id, and has taken this one's place."""

    status = Exit.FENCED
