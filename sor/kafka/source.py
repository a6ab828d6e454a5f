"""A group's topic as a source, over either client: where a member stands, what it has lost, what is to be committed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from sor.errors import FencedError
from sor.kafka.common import ClientError, Kind, Offsets, fenced, retried, stream_error
from sor.kafka.timing import Timing
from sor.kafka.waiting import Deadline
from sor.stream.messages import KafkaPlace, Message

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Polled(NamedTuple):
    """What a poll has brought, by partition."""

    records: dict[int, list[Any]]  # the client's own, of partitions that are ours and not new
    generation: Any  # of the group, in the client's own type: it goes with the offsets
    member: bool = True  # False: the group has put us out
    gone: set[int] = set()  # noqa: RUF012  # taken away, perhaps for a moment only
    new: set[int] = set()  # noqa: RUF012  # given to us; they wait for `Group.start`
    out_of_range: set[int] = set()  # noqa: RUF012  # where the brokers have not what was to come next


class Group(Protocol):
    """A member's consumer of a client, behind what the source needs of it; every call may raise `ClientError`."""

    def poll(self, limit: int, wait_s: float) -> Polled: ...

    def messages(self, partition: int, records: list[Any]) -> list[Message]:
        """Records of a poll, with what is behind each."""

    def start(self, offsets: dict[int, int]) -> None:
        """Read partitions that are new from these offsets."""

    def seek(self, partition: int, offset: int) -> None: ...

    def committed(self, partitions: set[int]) -> dict[int, int]:
        """Where the group stands, as the brokers say now; of partitions of which it has committed something."""

    def commit(self, offsets: dict[int, int]) -> None: ...

    def positions(self, offsets: dict[int, int]) -> Any:
        """Offsets in the client's own types."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """Offsets of the first message, and after the last that can be read."""

    def ends(self, partitions: set[int]) -> dict[int, int]:
        """Offsets after the last messages, as far as they are told soon."""

    def identity(self, *, fresh: bool = False) -> str | None:
        """The topic's id: another, and it was made anew; None where it cannot be told.

        Not ``fresh``: as it was last heard of, without a wait.
        """

    def check_fenced(self, partitions: set[int]) -> None:
        """Raise where another process has joined with this one's instance id, as far as it can be asked."""

    def close(self) -> None: ...


class KafkaSource:
    """Messages of a topic's partitions that the group has given to this consumer.

    Parameters
    ----------
    group : Group
    topic : str
    start : str
        ``earliest`` or ``latest``: where a partition starts of which the group has committed nothing.
    transactional : bool
        The offsets are committed by the sink, with the results.
    named : bool
        The membership is static, so another process may take it over.
    timing : Timing

    Attributes
    ----------
    lags : dict
        Messages left in each partition, by (topic, partition).
    rebalances : int
    missing : int
        Messages that were gone before they could be read.
    """

    def __init__(
        self,
        group: Group,
        topic: str,
        start: str,
        *,
        transactional: bool,
        named: bool = False,
        timing: Timing = Timing(),  # noqa: B008  # frozen
    ) -> None:
        self.group = group
        self.topic = topic
        self.rebalances = 0
        self.missing = 0
        self.lags: dict[tuple[str, int], int] = {}
        self._start = start
        self._transactional = transactional
        self._named = named
        self._timing = timing
        self._assigned: set[int] = set()
        self._lost: set[int] = set()  # since `lost` was asked
        self._offsets: dict[int, int] = {}  # to commit
        self._starts: dict[int, int] = {}  # of the last batch
        self._positions: dict[int, int] = {}  # offsets to be polled next
        self._generation: Any = None
        self._identity: str | None = None  # of the topic
        self._look = Deadline(0)

    @property
    def partitions(self) -> set[int]:
        return set(self._assigned)

    def place_of(self, partition: int) -> KafkaPlace | None:
        """Where a partition's next message, or the last batch's first, stands; None where that is not known."""
        offset = self._starts.get(partition, self._positions.get(partition))
        return None if offset is None else KafkaPlace(self.topic, partition, offset)

    def lost(self) -> set[int]:
        """Partitions whose state has to go, since this was last asked.

        They were taken away, so that another member may have moved on with them, or what they hold is not what it was.
        """
        lost, self._lost = self._lost, set()
        return lost

    def poll(self, limit: int, wait_s: float | None = None) -> list[Message] | None:
        """The next messages, at most ``limit``, waited for at most ``wait_s`` seconds; none is an empty list.

        Raises
        ------
        StreamError
        """
        with self._asking("consuming"):
            polled = self.group.poll(limit, self._timing.poll if wait_s is None else wait_s)
            self._generation = polled.generation
            if polled.gone or polled.new:
                self._rebalanced(polled.gone, polled.new)
            elif self._is_another(self.group.identity()):
                self._start_anew()
                return []
            for partition in polled.out_of_range:
                self._out_of_range(partition)
            messages = self._messages(polled.records)
            if messages and self._transactional and not polled.member:
                # Put out of the group. The brokers do not check offsets that come without a generation.
                self._rewind()
                return []
        if not messages and self._offsets:
            self.commit()  # what an earlier commit left
        if self._look.passed:
            self._look = Deadline(self._timing.look)
            self._look_around(idle=not messages)
        return messages

    def _messages(self, records: dict[int, list[Any]]) -> list[Message]:
        found: list[Message] = []
        self._starts = {}
        for partition, some in records.items():
            messages = self.group.messages(partition, some)
            first, last = messages[0].place, messages[-1]
            self._starts[partition] = first.offset  # type: ignore[union-attr]
            self._offsets[partition] = self._positions[partition] = last.place.offset + 1  # type: ignore[union-attr]
            self.lags[self.topic, partition] = last.lag or 0
            found = found + messages if found else messages
        return found

    # --- the group

    def _rebalanced(self, gone: set[int], new: set[int]) -> None:
        self.rebalances += 1
        self._lost |= gone
        self._assigned = (self._assigned - gone) | new
        names = ", ".join(f"{self.topic}:{number}" for number in sorted(self._assigned)) or "none"
        logger.info("partitions assigned: %s", names)
        for partition in gone:
            for known in (self._offsets, self._starts, self._positions):
                known.pop(partition, None)
            self.lags.pop((self.topic, partition), None)
        if new:
            self._begin(new)

    def _begin(self, partitions: set[int]) -> None:
        """Read partitions from where the group stands.

        One without a commit gets one, so that what arrives while nobody consumes is not lost.
        """
        anew = self._is_another(self._told(lambda: self.group.identity(fresh=True)))
        stands = self._told(lambda: self.group.committed(partitions))
        starts: dict[int, int] = {}
        moved: dict[int, int] = {}  # what the group does not know yet
        for partition in sorted(partitions):
            at = stands.get(partition)
            first, end = self._bounds(partition, at)
            if at is None:
                starts[partition] = moved[partition] = first if anew or self._start == "earliest" else end
            elif first <= at <= end:
                starts[partition] = at
            else:
                starts[partition] = moved[partition] = self._first_there(partition, at, first, end)
        self._positions |= starts
        self.group.start(starts)
        if moved:
            self._commit(moved)

    def _bounds(self, partition: int, at: int | None) -> tuple[int, int]:
        """First offset and end; asked again where the group stands beyond it, as a new leader may be behind."""
        deadline = Deadline(self._timing.settled)
        while True:
            first, end = self._told(lambda: self.group.bounds(partition))
            if at is None or at <= end or not deadline.pause(self._timing.settled / 5):
                return first, end

    def _told(self, question: Callable[[], T]) -> T:
        return retried(question, self._timing.recovery)

    def _out_of_range(self, partition: int) -> None:
        """Go on where the brokers have not what comes next: retention was faster, or the log is another."""
        offset = self._positions[partition]
        self._offsets.pop(partition, None)
        first, end = self._told(lambda: self.group.bounds(partition))
        start = self._first_there(partition, offset, first, end)
        self._go_to({partition: start})

    def _first_there(self, partition: int, offset: int, first: int, end: int) -> int:
        """Tell why a partition goes on from its first message, and not from where it stood."""
        where = f"{self.topic}:{partition}"
        if offset < first:
            self.missing += first - offset
            logger.warning(
                "%s: %d messages were gone before they could be read (retention): going on from %d, not from %d",
                *(where, first - offset, first, offset),
            )
        else:
            logger.warning(
                "%s ends at %d, and %d was to come next: it is another log than before; going on from its first "
                "message, %d",
                *(where, end, offset, first),
            )
        return first

    def _go_to(self, starts: dict[int, int]) -> None:
        """Go on with partitions of ours from other offsets, with nothing known."""
        self._lost |= starts.keys()
        for partition, offset in starts.items():
            self._positions[partition] = offset
            self._starts.pop(partition, None)
            self.group.seek(partition, offset)
        self._commit(starts)

    # --- signs of life, and of what has changed

    def _look_around(self, *, idle: bool) -> None:
        """Ask how much there is: what the client remembers of it would not grow where its fetching stands still."""
        try:
            for partition, end in self.group.ends(self._assigned).items():
                self.lags[self.topic, partition] = max(0, end - self._positions.get(partition, end))
            if self._assigned and self._named and idle:
                self.group.check_fenced(self._assigned)
        except ClientError as error:
            if error.kind is Kind.FENCED:
                raise fenced() from None
            logger.debug("cannot look around: %s", error)  # what was known last holds

    def _is_another(self, identity: str | None) -> bool:
        """Whether the topic with this id is not the one that was read before."""
        if identity is None or identity == self._identity:
            return False
        known, self._identity = self._identity, identity
        return known is not None

    def _start_anew(self) -> None:
        """Read a topic that was deleted and made again from its start."""
        logger.warning("topic %s was deleted and made again: going on from its first messages", self.topic)
        self._offsets, self._starts = {}, {}
        self._go_to({partition: self._told(partial(self.group.bounds, partition))[0] for partition in self._assigned})

    def is_fenced(self) -> bool:
        """Whether another process has joined the group with this one's instance id; waits for it to do so."""
        deadline = Deadline(self._timing.fenced)
        try:
            while self._named:
                with contextlib.suppress(ClientError):
                    self._check_fenced()
                if not deadline.pause(self._timing.poll):
                    break
        except FencedError:
            return True
        return False

    def _check_fenced(self) -> None:
        try:
            self.group.check_fenced(self._assigned)
        except ClientError as error:
            if error.kind is Kind.FENCED:
                raise fenced() from None
            raise

    # --- the batch

    def offsets(self) -> Offsets:
        return Offsets(self.group.positions(self._offsets), self._generation)

    def commit(self) -> None:
        if self._transactional or (self._offsets and self._commit(self._offsets)):
            self._offsets = {}

    def rewind(self, unsure: bool = False) -> None:
        with self._asking("going back"):
            if unsure and self._starts:
                again = self._starts.keys() & self._assigned
                self._starts |= self._told(lambda: self.group.committed(again))
            self._rewind()

    def _rewind(self) -> None:
        for partition, offset in self._starts.items():
            if partition in self._assigned:
                self.group.seek(partition, offset)
                self._positions[partition] = offset
        self._offsets, self._starts = {}, {}

    def _commit(self, offsets: dict[int, int]) -> bool:
        try:
            self.group.commit(offsets)
        except ClientError as error:
            if error.kind is Kind.REBALANCED:
                logger.warning("the group is rebalancing: the last batch may be answered again by another member")
                return True
            if error.kind is not Kind.RETRIABLE:
                raise stream_error("committing offsets", error) from None
            logger.warning("offsets not committed yet (%s); trying again", error)
            return False
        return True

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise stream_error(doing, error) from None

    def close(self) -> None:
        with contextlib.suppress(ClientError):
            self.group.close()
