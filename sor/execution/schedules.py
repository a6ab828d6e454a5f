"""How much of an order is released by when."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from typing import TYPE_CHECKING

from sor.kernels import pick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sor.execution import _worker_py as workers
else:
    workers = pick("sor.execution._worker")

Immediate = workers.Schedule  # all at the arrival


class Twap(workers.Schedule):
    """Equal parts at equal times, the first at the arrival."""

    def __init__(self, slices: int) -> None:
        self.slices = slices

    def released(self, worker: workers.Worker, now: int, volume: int) -> int:
        begun = (now - worker.start) * self.slices // (worker.end - worker.start) + 1
        return worker.shares * min(begun, self.slices) // self.slices

    def next(self, worker: workers.Worker, now: int) -> int:
        length = worker.end - worker.start
        begun = (now - worker.start) * self.slices // length + 1
        return worker.start - (-begun * length // self.slices)  # rounded up, as a slice begins when `released` says so


class Vwap(workers.Schedule):
    """By the volume that earlier days had at these times of the day.

    Parameters
    ----------
    times : sequence of int
        Beginnings of buckets, then the end of the last, nanoseconds since the epoch.
    volumes : sequence of int
        Shares of each bucket, on earlier days.
    """

    PARTS = 20  # of the order, released one after the other

    def __init__(self, times: Sequence[int], volumes: Sequence[int]) -> None:
        self.times = list(times)
        self.sums = [0]
        for shares in volumes:
            self.sums.append(self.sums[-1] + shares)
        self._life = (0, 0)
        self._due: list[int] = []

    def released(self, worker: workers.Worker, now: int, volume: int) -> int:
        return worker.shares * bisect_right(self._releases(worker), now) // self.PARTS

    def next(self, worker: workers.Worker, now: int) -> int:
        due = self._releases(worker)
        later = bisect_right(due, now)
        return due[later] if later < len(due) else worker.end

    def _releases(self, worker: workers.Worker) -> list[int]:
        """When each part is released, found once for an order's life."""
        life = worker.start, worker.end
        if life != self._life:
            self._life, self._due = life, [self._time(*life, part) for part in range(self.PARTS)]
        return self._due

    def _time(self, start: int, end: int, part: int) -> int:
        """When earlier days began to trade that part of what they traded within a life; exact, as ties are usual."""
        first, last = self._volume(start), self._volume(end)
        if last == first:  # nobody traded then: equal times
            return start + (end - start) * part // self.PARTS
        wanted = first + (last - first) * part / self.PARTS
        bucket = max(0, min(bisect_right(self.sums, wanted), len(self.sums) - 1) - 1)
        shares = self.sums[bucket + 1] - self.sums[bucket]
        into = (wanted - self.sums[bucket]) / shares if shares else 0
        time = self.times[bucket] + int(into * (self.times[bucket + 1] - self.times[bucket]))
        return max(start, min(time, end))

    def _volume(self, time: int) -> Fraction:
        """Shares before a time of the day."""
        bucket = max(0, min(bisect_right(self.times, time), len(self.sums) - 1) - 1)
        begun, ends = self.times[bucket], self.times[bucket + 1]
        into = min(max(Fraction(time - begun, ends - begun), Fraction(0)), Fraction(1))
        return self.sums[bucket] + into * (self.sums[bucket + 1] - self.sums[bucket])


class Pov(workers.Schedule):
    """A share of what all print, off-exchange prints among it; our own orders are no part of it."""

    follows_volume = True

    def __init__(self, rate: float) -> None:
        self.parts, self.whole = Fraction(str(rate)).as_integer_ratio()  # as it was written: 0.29 of 100 are 29

    def released(self, worker: workers.Worker, now: int, volume: int) -> int:
        return volume * self.parts // self.whole
