"""How long the parts of a stream wait for each other; seconds."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True):
    """Bounds and intervals of everything that waits for brokers; tests are given shorter ones."""

    poll: float = 0.5  # longest wait for messages, and so for a signal to be seen
    commit: float = 10.0  # for the answer to a question, or to a commit of offsets
    flush: float = 60.0  # for messages to be acknowledged
    session: float = 10.0  # after which a member that is not heard of has lost its partitions
    heartbeat: float = 1.0
    between_polls: float = 1800.0  # after which a member has left its group: a recovery may take long
    transaction: float = 15.0  # after which the brokers end the transaction of a producer that has died
    metadata: float = 5.0  # a topic made after the start is seen soon
    recovery: float = 60.0  # for a message: the brokers would have ended whatever transaction stands in the way
    look: float = 5.0  # between two looks at how much there is to read
    fenced: float = 10.0  # for a member to be told that another has joined in its place
    settled: float = 3.0  # for a log to show again the end that it had
