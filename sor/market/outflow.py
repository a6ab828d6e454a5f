"""Queue outflows learned from the feed: shares that left the touch of each venue, over windows of one horizon.

What counts, what is assumed and what the samples may be used for stands in docs/outflows.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from sor.errors import InputError
from sor.market import Event, Level
from sor.types import SIDES, Side, one_of, whole_number

Origin = Literal["events", "inferred", "mixed"]

SECOND = 10**9  # nanoseconds
MAX_STEPS = 7200  # of a window; with the next bound its sums stay exact in a double
MAX_SHARES = 10**12  # of a step, and of a window: no order and no queue is larger, and `sor.place` takes no more
MAX_SAMPLES = 100_000
MAX_VENUES = 256
UNKNOWN = 2**62
MAX_TABLES = 32  # arrays kept between two steps


class _Queue:
    """What one side of a venue shows at its touch, and what has left it since the step began."""

    __slots__ = ("inferred", "left", "price", "resting", "sign", "size", "stated", "taker", "traded")

    def __init__(self, sign: int, resting: str, taker: str) -> None:
        self.sign = sign  # of a better price
        self.resting = resting  # sides as the feed names them: of the orders in this queue,
        self.taker = taker  # and of the orders that trade with them
        self.stated = self.inferred = False  # where its outflows came from
        self.left = 0
        self.forget()

    def forget(self) -> None:
        """Nothing is known to stand here, so nothing can be seen to leave."""
        self.price, self.size, self.traded = 0.0, 0, 0

    def show(self, level: Level | None) -> None:
        self.price, self.size = level or (0.0, 0)

    def missing(self, level: Level | None) -> int:
        """Shares that stood here and do not now; behind a better price they still stand."""
        if level is None:
            return self.size
        price, size = level
        if price == self.price:
            return max(self.size - size, 0)
        return 0 if (price - self.price) * self.sign > 0 else self.size

    def observe(self, level: Level | None, event: Event | None, cancellations: bool) -> None:
        gone, stated = self.missing(level), False
        if event is not None:
            action = event.action
            stated = action == "M"  # says that an order changed; by how much, only the queue does
            if action == "T":
                self._trade(event)
                stated = True
            elif action == "C" and event.side == self.resting and event.price == self.price and event.size:
                gone, stated = min(event.size, self.size), True
        self.show(level)
        if gone and cancellations:
            traded = min(gone, self.traded)  # counted already, as a trade
            self.traded -= traded
            if gone > traded:
                self.left += gone - traded
                self.stated |= stated
                self.inferred |= not stated

    def _trade(self, event: Event) -> None:
        """A trade at this price, or at a worse one: it would have met our order. Inside the spread it would not."""
        price = event.price
        if event.side == self.taker and self.size and price is not None and (price - self.price) * self.sign <= 0:
            self.left += event.size
            self.traded += event.size
            self.stated |= event.size > 0


class _Venue:
    __slots__ = ("asks", "bids", "place", "since", "time")

    def __init__(self, place: int) -> None:
        self.place = place
        self.since = UNKNOWN  # the first step at whose start it was known
        self.time = -1  # of its last row
        self.bids = _Queue(1, "B", "A")
        self.asks = _Queue(-1, "A", "B")

    def forget(self) -> None:
        self.bids.forget()
        self.asks.forget()

    def take(self) -> tuple[int, int]:
        """What has left since the last call: bids, asks."""
        left = self.bids.left, self.asks.left
        self.bids.left = self.asks.left = 0
        return left

    def copy(self) -> _Venue:
        other = copy.copy(self)
        other.bids, other.asks = copy.copy(self.bids), copy.copy(self.asks)
        return other


class Outflows:
    """Joint samples of the venues' outflows, for one symbol.

    Parameters
    ----------
    horizon : int
        Length T of a window, nanoseconds: a whole number of steps, at most 7200.
    samples : int
        Windows kept, the newest; the attribute ``most``.
    every : int
        Length of a step, nanoseconds of event time: one window ends at the end of each.
    cancellations : bool
        False: only trades count, which needs a feed that has them.

    Raises
    ------
    InputError
        Where an argument is not what it may be.

    Notes
    -----
    Windows that overlap share what happened in the time they share: N samples are worth about N * every / horizon
    independent ones. They start with the first row, and anew after a gap longer than the horizon; samples stay.
    """

    def __init__(
        self, horizon: int = 60 * SECOND, samples: int = 500, *, every: int = SECOND, cancellations: bool = True
    ) -> None:
        self.every = whole_number("every", every, 1)
        self.horizon = whole_number("horizon", horizon, 1)
        if self.horizon % self.every or self.horizon > MAX_STEPS * self.every:
            raise InputError(
                f"horizon is {horizon}: it must be a whole number of steps of {every} nanoseconds, at most {MAX_STEPS}"
            )
        self.cancellations = bool(cancellations)
        self._steps = self.horizon // self.every
        self.most = whole_number("samples", samples, 1, MAX_SAMPLES)
        self._venues: dict[Hashable, _Venue] = {}
        self._recorded = 0
        self._tables: dict[tuple[Side, tuple[Hashable, ...]], np.ndarray] = {}
        self._bins = np.zeros((self._steps, 2, 0))  # shares by step, side and venue, a ring
        self._window = np.zeros((2, 0))  # their sum
        self._samples = np.zeros((self.most, 2, 0))  # a ring; NaN where a venue was not known
        self._time = -self.horizon - 1  # the newest event time; this one makes the first row end a gap
        self._end = 0  # of the step that is going on
        self._step = 0  # its number; step 0 began before the first row

    @property
    def count(self) -> int:
        """Windows kept; those in which given venues were all known: the length of `samples`."""
        return min(self._recorded, self.most)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays; it depends on the number of venues, and on no number of rows."""
        arrays = (self._bins, self._window, self._samples, *self._tables.values())
        return sum(array.nbytes for array in arrays)

    def __copy__(self) -> Outflows:
        """Independent of this one: what it counts is kept in arrays that change in place."""
        return self.copy()

    def copy(self) -> Outflows:
        """Another one that knows the same, and goes its own way."""
        other = object.__new__(Outflows)
        for name, value in vars(self).items():
            setattr(other, name, value.copy() if isinstance(value, np.ndarray | dict) else value)
        other._venues = {name: venue.copy() for name, venue in self._venues.items()}
        return other

    def source(self, venue: Hashable) -> Origin | None:
        """Whether the feed's rows stated what left the venue or its quotes implied it; None where nothing left."""
        known = self._venues.get(venue)
        if known is None:
            return None
        stated = known.bids.stated or known.asks.stated
        inferred = known.bids.inferred or known.asks.inferred
        if stated and inferred:
            return "mixed"
        return "events" if stated else "inferred" if inferred else None

    def samples(self, side: Side, venues: Sequence[Hashable]) -> np.ndarray:
        """Outflows of the queues that limit orders of a side stand in: a buy's are bids.

        Parameters
        ----------
        side : {"buy", "sell"}
        venues : sequence of K venues, as `observe` knows them

        Returns
        -------
        ndarray, float64, (N, K), contiguous, not to be written to
            Shares; a row a window, the oldest first. Windows in which one of the venues was not yet known are left
            out. Until a step ends the same array comes again.
        """
        key = side, tuple(venues)
        table = self._tables.get(key)
        if table is None:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            table = self._tables[key] = self._table(SIDES.index(one_of("side", side, SIDES)), key[1])
        return table

    def _table(self, side: int, venues: tuple[Hashable, ...]) -> np.ndarray:
        known = [self._venues[venue].place for venue in venues if venue in self._venues]
        oldest = self._recorded % self.most  # where the ring is not full, the end of what it holds: none come before
        table = self._samples[: self.count, side][:, known]
        table = np.concatenate((table[oldest:], table[:oldest]))
        table = table[~np.isnan(table).any(axis=1)] if len(known) == len(venues) else np.empty((0, len(venues)))
        table.flags.writeable = False
        return table

    def observe(
        self,
        venue: Hashable,
        time: int,
        bid: Level | None,
        ask: Level | None,
        event: Event | None = None,
        *,
        bids_known: bool = True,
        asks_known: bool = True,
    ) -> None:
        """Take in one row of the feed.

        Parameters
        ----------
        venue : hashable
            The same for all rows of a venue, such as its place in the book.
        time : int
            Event time, nanoseconds. A row later than the newest by up to the horizon counts when it comes.
        bid, ask : (price, size) or None
            The venue's touch after the event.
        event : Event, optional
            What the row says has happened.
        bids_known, asks_known : bool
            False where only the market's best is known, which ``bid`` or ``ask`` is then: what stood before a worse
            one has left, and nothing is known to stand there from now on.
        """
        known = self._venues.get(venue) or self._add(venue)
        if known is None:
            return
        if self._time <= time < self._end:
            self._time = time
        else:
            self._move(time)
        if known.since == UNKNOWN:
            known.since = self._step + 1
        bids, asks = known.bids, known.asks
        if time != known.time:
            known.time = time
            bids.traded = asks.traded = 0  # a trade and what it does to the book have one event time
        if bids_known and asks_known and bid is not None and ask is not None and bid[0] > ask[0]:
            known.forget()  # no venue shows that
        elif event is not None and event.action == "R":  # the book is cleared, as at a halt: nobody traded or left
            bids.show(bid)
            asks.show(ask)
        else:
            bids.observe(bid, event, self.cancellations)
            asks.observe(ask, event, self.cancellations)
        if not bids_known:
            bids.forget()
        if not asks_known:
            asks.forget()

    def _add(self, venue: Hashable) -> _Venue | None:
        """Room for a venue: nothing has left it before it was known."""
        if len(self._venues) == MAX_VENUES:
            return None
        known = self._venues[venue] = _Venue(len(self._venues))
        self._bins = _widened(self._bins, 0.0)
        self._window = _widened(self._window, 0.0)
        self._samples = _widened(self._samples, math.nan)
        return known

    def _move(self, time: int) -> None:
        """To another step, or not: a late row belongs to the newest."""
        if abs(time - self._time) > self.horizon:
            self._restart(time)
        elif time > self._time:
            while time >= self._end:
                self._close()
            self._time = time

    def _restart(self, time: int) -> None:
        """Begin the windows anew; the step in which that happens is no whole one, and no window has it."""
        for venue in self._venues.values():
            venue.forget()
            venue.since = UNKNOWN
        self._bins[:] = 0.0
        self._window[:] = 0.0
        self._time = time
        self._end = (time // self.every + 1) * self.every
        self._step = 0

    def _close(self) -> None:
        """End a step: its shares into the window, the oldest step's out of it, and a sample where it is whole."""
        slot = self._bins[self._step % self._steps]
        self._window -= slot
        left = np.array([venue.take() for venue in self._venues.values()], dtype=np.float64)
        slot[:] = np.minimum(left, MAX_SHARES).T
        self._window += slot
        start = self._step - self._steps + 1
        if start > 0:
            known = np.array([venue.since <= start for venue in self._venues.values()])
            window = np.minimum(self._window, MAX_SHARES)
            self._samples[self._recorded % self.most] = np.where(known, window, math.nan)
            self._recorded += 1
            self._tables.clear()
        self._step += 1
        self._end += self.every


def _widened(array: np.ndarray, value: float) -> np.ndarray:
    return np.concatenate((array, np.full((*array.shape[:-1], 1), value)), axis=-1)
