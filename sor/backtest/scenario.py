"""What a synthetic market is like, and when what happens in it; docs/simulate.md tells it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from sor.backtest.limit_book import CANCELLATIONS
from sor.errors import DataError, InputError
from sor.market.taq import time_in_new_york
from sor.types import whole_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND = 1_000_000_000  # nanoseconds
OPEN, SESSION = "9:30:00", 23_400  # New York's time, and seconds until 16:00
MOST_EVENTS = 20_000_000
FIRST_DATE, LAST_DATE = "1990-01-01", "2199-12-31"

LIMIT, CANCEL, TAKE, PRINT, NEWS, ANNOUNCE, JUMP, SAMPLE = range(8)  # what happens
PARTS = (0.46, 0.45, 0.06, 0.03)  # of the flow: limit orders, cancellations, orders that take, off-exchange prints

BURST = 6  # times as much flow in a burst
BURSTS_AN_HOUR, SHORTEST_BURST, LONGEST_BURST = 24, 2, 8  # and their seconds


@dataclass(frozen=True)
class Scenario:
    """The knobs of a synthetic market.

    Parameters
    ----------
    seed : int
        The same one gives the same market, to the byte.
    date : str
        Day of the session, which opens at 9:30 in New York.
    duration : int
        Of the session, seconds.
    venues : tuple of str
        MICs, the first with the most flow.
    depth : int
        Levels shown on each side. Nobody quotes more than ten ticks behind the touch, so 10 shows all.
    symbol : str
    price : float
        Where the value starts, dollars, in whole ticks of a cent.
    rate : float
        Limit orders, cancellations, orders that take and prints a second, all together, on average.
    cancellations : str
        Which order of a queue is cancelled: any (`uniform`), its youngest (`back`), its oldest (`front`), or younger
        ones rather than old ones (`young`).
    grow : float
        Part of the limit orders in whose place an order that rests is made larger, and keeps its place.
    hidden : float
        Part of the limit orders that trade and are not shown.
    news : float
        Moves of the value by one tick, up or down alike, an hour.
    jumps : float
        Announced jumps of the value, up or down alike, an hour.
    jump_ticks : int
        How far a jump goes.
    jump_delay : float
        A jump comes at most so many seconds after it is announced, at a time drawn uniformly.
    feed_delay : float
        Seconds from an event to its receipt.
    off_exchange : bool
        Whether trades are printed off exchange, among them those that announce jumps.
    samples : int
        Moments at which it is worked out what routing saves.

    Raises
    ------
    InputError
        A knob is not what it may be.
    """

    seed: int = 1
    date: str = "2024-08-01"
    duration: int = SESSION
    venues: tuple[str, ...] = ("XNAS", "ARCX", "IEXG", "EDGA")
    depth: int = 5
    symbol: str = "SIM"
    price: float = 100.0
    rate: float = 6.0
    cancellations: str = "uniform"
    grow: float = 0.0
    hidden: float = 0.05
    news: float = 180.0
    jumps: float = 30.0
    jump_ticks: int = 3
    jump_delay: float = 1.0
    feed_delay: float = 0.0002
    off_exchange: bool = True
    samples: int = 200

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, 2**63 - 1), ("duration", 10, SESSION), ("depth", 1, 100), ("jump_ticks", 1, 10),
            ("samples", 0, 100_000),
        ):  # fmt: skip
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low, high))
        object.__setattr__(self, "venues", tuple(self.venues))
        if not self.venues or len(set(self.venues)) < len(self.venues):
            raise InputError(f"venues is {self.venues!r}: it must be one MIC or more, each once")
        if self.cancellations not in CANCELLATIONS:
            raise InputError(f"cancellations is {self.cancellations!r}: it must be one of {', '.join(CANCELLATIONS)}")
        for name, least, most in (
            ("price", 1.0, 1e5), ("rate", 0.0, 1e4), ("grow", 0.0, 0.9), ("hidden", 0.0, 0.9), ("news", 0.0, 1e6),
            ("jumps", 0.0, 1e5), ("jump_delay", 1e-3, self.duration / 2), ("feed_delay", 0.0, 60.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and least <= value <= most):
                raise InputError(f"{name} is {value!r}: it must be a number from {least:g} to {most:g}")
        self._check_sums()

    def _check_sums(self) -> None:
        if self.rate * self.duration > MOST_EVENTS:
            raise InputError(f"rate is {self.rate:g} and duration {self.duration}: that is over {MOST_EVENTS:,} events")
        farthest = self.count("news") + self.jump_ticks * self.count("jumps")
        if self.ticks <= farthest + 50:
            raise InputError(f"price is {self.price:g}: with so many moves it must be above {(farthest + 50) / 100:g}")
        self.start  # noqa: B018 - raises where the date is none

    @property
    def ticks(self) -> int:
        """The first value, in ticks."""
        return round(self.price * 100)

    @property
    def start(self) -> int:
        """The opening, nanoseconds since the epoch."""
        try:
            if not (re.fullmatch(r"\d{4}-\d\d-\d\d", self.date) and FIRST_DATE <= self.date <= LAST_DATE):
                raise DataError("", "time")
            return time_in_new_york(self.date, OPEN, 0)
        except DataError:
            raise InputError(f"date is {self.date!r}: it must be a day such as 2024-08-01") from None

    @property
    def end(self) -> int:
        return self.start + self.duration * SECOND

    @property
    def jump_delay_ns(self) -> int:
        return round(self.jump_delay * SECOND)

    def count(self, name: str) -> int:
        """How many of what is told an hour there are in the session."""
        an_hour: float = getattr(self, name)
        return round(an_hour * self.duration / 3600)

    def latency_cost(self, latency: float) -> float:
        """What latency costs an order that is sent, in a jump's direction, when the jump is announced.

        Beside arriving at once, dollars a share before fees, for as many shares as the touch always has (100)::

            cost(L) = jump_ticks * 0.01 * min(1, L / jump_delay)

        Parameters
        ----------
        latency : float
            Seconds.
        """
        return self.jump_ticks * 0.01 * min(1.0, latency / self.jump_delay)

    def as_dict(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True)
class Timetable:
    """When what happens: drawn before the market runs, so that no answer of the market changes it.

    Attributes
    ----------
    time : int64
        Nanoseconds since the epoch, ascending.
    kind : int64
    value : int64
        Ticks of what moves the value, or announces that it will; otherwise 0.
    announcements : int64, (n, 3)
        Time announced, time of the jump, and ticks.
    """

    time: NDArray[np.int64]
    kind: NDArray[np.int64]
    value: NDArray[np.int64]
    announcements: NDArray[np.int64]


def timetable(scenario: Scenario, rng: np.random.Generator) -> Timetable:
    """Draw what happens when: of each kind so many, at independent uniform times, a Poisson flow given its count.

    All arithmetic is of integers, or of single products, so that no machine rounds it otherwise.
    """
    start, span = scenario.start, scenario.duration * SECOND
    flow = _bursty(scenario, rng)
    kinds = np.searchsorted(np.cumsum(PARTS)[:-1], rng.random(len(flow)), "right")
    if not scenario.off_exchange:
        flow, kinds = flow[kinds != PRINT], kinds[kinds != PRINT]
    news = rng.integers(0, span, scenario.count("news"))
    announced = np.sort(rng.integers(0, span - scenario.jump_delay_ns, scenario.count("jumps")))
    jumped = announced + rng.integers(1, scenario.jump_delay_ns + 1, len(announced))
    ticks = _either(rng, len(announced)) * scenario.jump_ticks
    samples = rng.integers(span // 100, span, scenario.samples)
    parts = [
        (flow, kinds, np.zeros(len(flow), np.int64)),
        (news, np.full(len(news), NEWS), _either(rng, len(news))),
        (announced, np.full(len(announced), ANNOUNCE), ticks),
        (jumped, np.full(len(jumped), JUMP), ticks),
        (samples, np.full(len(samples), SAMPLE), np.zeros(len(samples), np.int64)),
    ]
    time, kind, value = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(time, kind="stable")
    announcements = np.stack([announced + start, jumped + start, ticks], axis=1)
    return Timetable(time[order] + start, kind[order], value[order], announcements)


def _either(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """1 or -1, alike."""
    return rng.integers(0, 2, count) * 2 - 1


def _bursty(scenario: Scenario, rng: np.random.Generator) -> NDArray[np.int64]:
    """Times of the flow from the opening on, `BURST` times as dense in some seconds, the same at all venues."""
    seconds = scenario.duration
    weight = np.ones(seconds, np.int64)
    bursts = round(BURSTS_AN_HOUR * seconds / 3600)
    first = rng.integers(0, seconds, bursts)
    for at, length in zip(first, rng.integers(SHORTEST_BURST, LONGEST_BURST + 1, bursts), strict=True):
        weight[at : at + length] = BURST
    unit = SECOND // BURST  # of a second's time that one unit of weight has
    ends = np.cumsum(weight * unit)
    drawn = np.sort(rng.integers(0, ends[-1], round(scenario.rate * seconds)))
    second = np.searchsorted(ends, drawn, "right")
    within = (drawn - (ends[second] - weight[second] * unit)) * BURST // weight[second]
    return second * SECOND + within
