"""What can go wrong, by who has to act.

SorError
├── InputError   a wrong call or a wrong setting: the caller mends it      (also a ValueError)
├── DataError    a message that cannot be used: it goes to the dead letters (also a ValueError)
└── StreamError  a broker or a file that fails: ``retriable`` says whether trying again can help
    ├── ConnectError  no broker answered in time
    ├── AbortedError  a batch is void, and comes again
    ├── RefusedError  the brokers refuse something for good: whoever runs this has to act
    └── FencedError   another process has taken this one's place
"""

HUNG = 6  # exit status of a process that ends itself, as a commit hangs


class SorError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(SorError, ValueError):
    """A wrong argument or setting; the message names it, its value and what it may be."""


class DataError(SorError, ValueError):
    """A message or row that cannot be used.

    The message says what is wrong with it; ``reason`` is the short word that bad messages are counted by.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class StreamError(SorError):
    """A source or a sink failed."""

    def __init__(self, message: str, *, retriable: bool = False) -> None:
        super().__init__(message)
        self.retriable = retriable


class ConnectError(StreamError):
    """No broker answered in time."""

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


class FencedError(StreamError):
    """Another process has the same instance id, and has taken this one's place."""
