"""Placements learned from fills, one order after another (Cont and Kukanov, section 4); see docs/outflows.md."""

from __future__ import annotations

import copy
import math
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import force_setattr

from sor.errors import DataError, InputError
from sor.types import SIDES, Side, one_of, real_number, whole_number

FORMAT = "sor online placement"
VERSION = 1
MAX_STATES = 10**6
EQUAL = 1e-9  # of the target: shares that differ by less are the same number after rounding


class State(msgspec.Struct, frozen=True):
    """What a placement is learned for: orders alike in these share one.

    Attributes
    ----------
    symbol : str
    side : {"buy", "sell"}
    size : int
        Bucket of the order's shares.
    queues : tuple of K ints
        Buckets of the queues ahead, by venue.
    volumes : tuple of ints
        Buckets of what the volume of late is measured by: one number, one a venue, or none.
    """

    symbol: str
    side: Side
    size: int
    queues: tuple[int, ...]
    volumes: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, symbol: str, side: Side, quantity: float, queues: Sequence[float], volumes: Sequence[float] = ()
    ) -> State:
        """The state of these shares, each in its `bucket`."""
        one_of("side", side, SIDES)
        return cls(symbol, side, bucket(quantity), tuple(map(bucket, queues)), tuple(map(bucket, volumes)))


def bucket(shares: float) -> int:
    """Powers of two: 0 below one share, then n from 2^(n-1) to below 2^n shares.

    >>> [bucket(shares) for shares in (0, 1, 2, 3, 4, 1000)]
    [0, 1, 2, 2, 3, 10]
    """
    return int(real_number("shares", shares, 0.0)).bit_length()


class Costs(msgspec.Struct, frozen=True):
    """What an order's placement costs, dollars per share.

    Attributes
    ----------
    half_spread, fee : float
        Of the market order: h and f.
    rebates : tuple of K floats
        Of limit orders, by venue: r_k.
    theta : float
        Impact.
    lambda_under, lambda_over : float
        Penalties of shares missing and in excess.
    """

    half_spread: float
    fee: float
    rebates: tuple[float, ...]
    theta: float
    lambda_under: float
    lambda_over: float

    def __post_init__(self) -> None:
        for name in ("half_spread", "fee", "theta", "lambda_under", "lambda_over"):
            force_setattr(self, name, real_number(name, getattr(self, name)))
        rebates = tuple(real_number(f"rebates[{i}]", rebate) for i, rebate in enumerate(self.rebates))
        force_setattr(self, "rebates", rebates)

    def gradient(self, filled: Sequence[bool | None], executed: float, target: float) -> list[float]:
        """g(X, xi) of section 4, from the indicators of what happened; 0 where an indicator is not known.

        ``g_0 = h + f + theta - (lu + theta) 1{A<S} + lo 1{A>S}``
        ``g_k = theta + 1{xi_k > Q_k + L_k} (-(h + r_k) - (lu + theta) 1{A<S} + lo 1{A>S})``
        """
        penalty = 0.0  # of one share more
        if executed < target - EQUAL * target:
            penalty = -(self.lambda_under + self.theta)
        elif executed > target + EQUAL * target:
            penalty = self.lambda_over
        saved = {None: 0.0, False: self.theta}
        return [self.half_spread + self.fee + self.theta + penalty] + [
            self.theta - (self.half_spread + rebate) + penalty if full else saved[full]
            for full, rebate in zip(filled, self.rebates, strict=True)
        ]

    def steepness(self) -> float:
        """Bound on the square of the gradient's length: what the step is measured by."""
        rest = self.theta + self.lambda_under + self.lambda_over
        return math.fsum((self.half_spread + more + rest) ** 2 for more in (self.fee, *self.rebates))


class Placed(NamedTuple):
    """Shares of the market order, and of the limit order at each venue."""

    market: float
    limits: list[float]


class _Learned(msgspec.Struct):
    """Shares of the target in 0..1, the market order's first: where it stands, the mean so far, updates."""

    now: list[float]
    mean: list[float]
    count: int = 0


class OnlinePlacement:
    """Placements by state, which the fills of each order make better.

    Parameters
    ----------
    venues : sequence of str
        Names of the K venues that limit orders go to, in the order of every other argument.
    rounds : int, optional
        Orders a state is to be learned from: the step is then the paper's constant one for N = ``rounds``, which
        also follows a market that changes. None: it shrinks with the square root of their number.
    max_states : int
        States kept; beyond that, the one that was not learned from for the longest time is forgotten.

    Attributes
    ----------
    forgotten : int
        How many that were.

    Raises
    ------
    InputError
        Where an argument is not what it may be.

    Notes
    -----
    ``X <- proj(X - gamma g(X, indicators))``, where X are shares of the target S, so that orders of one state may
    differ in size. The projection is the nearest point with every part in [0, S] and M + sum L_k >= S: a convex set
    that has the optimum (Prop. 1). After N orders the cost of the mean is within O(1 / sqrt(N)) of the least, up to
    a logarithm, where cost is convex in X. With several venues and lambda_over > 0 it need not be: then this finds a
    local optimum.
    """

    def __init__(self, venues: Sequence[str], *, rounds: int | None = None, max_states: int = 10_000) -> None:
        self.venues = tuple(venues)
        named = not isinstance(venues, str) and all(isinstance(venue, str) for venue in self.venues)
        if not (named and self.venues and len(set(self.venues)) == len(self.venues)):
            raise InputError(f"venues is {venues!r}: it must be a sequence of different names, at least one")
        self.rounds = None if rounds is None else whole_number("rounds", rounds, 1)
        self.max_states = whole_number("max_states", max_states, 1, MAX_STATES)
        self.forgotten = 0
        self._states: dict[State, _Learned] = {}  # the one learned from last comes last

    def __len__(self) -> int:
        return len(self._states)

    def __copy__(self) -> OnlinePlacement:
        """Independent of this one, as `copy.deepcopy`: what is learned is kept in place."""
        return copy.deepcopy(self)

    def count(self, state: State) -> int:
        """Orders that the state was learned from."""
        learned = self._states.get(state)
        return learned.count if learned else 0

    def trial(self, state: State, target: float) -> Placed:
        """What to send so as to learn: X as it stands. The indicators for `learn` are those of this placement."""
        return self._placed(self._of(state).now, target)

    def answer(self, state: State, target: float) -> Placed:
        """What has been learned: the mean of all X so far, no limit order above S - M (more could only be too much)."""
        mean = self._of(state).mean
        return self._placed([mean[0], *(min(part, 1.0 - mean[0]) for part in mean[1:])], target)

    def learn(self, state: State, target: float, costs: Costs, filled: Sequence[bool | None], executed: float) -> None:
        """Update a state by what became of its `trial` by the end of the horizon.

        Parameters
        ----------
        state : State
        target : float
            Shares S of the order.
        costs : Costs
            As they were for this order.
        filled : sequence of K bools, or None
            Whether the limit order at each venue was filled wholly; where none was sent, whether the queue that it
            would have stood behind was used up; None: not known, and its part stays as it is.
        executed : float
            Shares A that were bought or sold, market order and fills.

        Raises
        ------
        InputError
            Where an argument is not what it may be.
        """
        target = real_number("target", target, math.ulp(0.0))
        executed = real_number("executed", executed, 0.0)
        if len(filled) != len(self.venues) or len(costs.rebates) != len(self.venues):
            raise InputError(
                f"filled has {len(filled)} values and rebates {len(costs.rebates)}: there are {len(self.venues)} venues"
            )
        gradient = costs.gradient(filled, executed, target)
        learned = self._keep(state)
        step = self._step(costs, learned.count + 1)
        learned.now = nearest([part - step * slope for part, slope in zip(learned.now, gradient, strict=True)])
        learned.count += 1
        weight = 1.0 / (learned.count + 1)  # the start is one of the iterates
        learned.mean = [old + weight * (new - old) for old, new in zip(learned.mean, learned.now, strict=True)]

    def _step(self, costs: Costs, number: int) -> float:
        """gamma / S of section 4."""
        steepness = costs.steepness()
        orders = number if self.rounds is None else self.rounds
        return math.sqrt(len(self.venues) / (orders * steepness)) if steepness > 0.0 else 0.0

    @staticmethod
    def _placed(parts: list[float], target: float) -> Placed:
        target = real_number("target", target, 0.0)
        return Placed(parts[0] * target, [part * target for part in parts[1:]])

    def _of(self, state: State) -> _Learned:
        learned = self._states.get(state)
        if learned is None:
            if len(state.queues) != len(self.venues):
                raise InputError(f"state is {state}: it must have {len(self.venues)} queues, one a venue")
            equal = [1.0 / (len(self.venues) + 1)] * (len(self.venues) + 1)
            learned = _Learned(equal, list(equal))
        return learned

    def _keep(self, state: State) -> _Learned:
        learned = self._of(state)
        self._states.pop(state, None)
        self._states[state] = learned
        if len(self._states) > self.max_states:
            del self._states[next(iter(self._states))]
            self.forgotten += 1
        return learned

    # --- the file ---

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to a file, which holds either what it held or the whole of the new, whenever this ends.

        Only its owner may read it.

        Raises
        ------
        OSError
            Where the file cannot be written: what was there is still there.
        """
        settings = _Settings(self.venues, self.rounds, self.max_states, self.forgotten)
        states = [_Saved(state, *msgspec.structs.astuple(learned)) for state, learned in self._states.items()]
        _replace(Path(path).resolve(), msgspec.json.encode(_File(FORMAT, VERSION, settings, states)) + b"\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> OnlinePlacement:
        """What `save` has written, equal in every bit.

        Raises
        ------
        InputError
            The file cannot be read.
        DataError
            It is damaged, of another kind, or of a version that this program does not know.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"{os.fspath(path)}: cannot be read: {error.strerror}") from None
        try:
            return cls._from(raw)
        except (ValueError, RecursionError) as error:  # msgspec's errors and InputError among them
            raise DataError(f"{os.fspath(path)}: {error}", "learning") from None

    @classmethod
    def _from(cls, raw: bytes) -> OnlinePlacement:
        head = msgspec.json.decode(raw, type=_Head)
        if head.format != FORMAT:
            raise ValueError(f"this is no file of learned placements (format {head.format[:60]!r})")
        if head.version != VERSION:
            raise ValueError(f"its version is {head.version}: this program reads version {VERSION}")
        file = msgspec.json.decode(raw, type=_File)
        settings = file.settings
        self = cls(settings.venues, rounds=settings.rounds, max_states=settings.max_states)
        self.forgotten = settings.forgotten
        parts = len(self.venues) + 1
        for saved in file.states:
            fit = len(saved.now) == len(saved.mean) == parts == len(saved.state.queues) + 1
            if not (fit and saved.count > 0 and all(0.0 <= part <= 1.0 for part in saved.now + saved.mean)):
                raise ValueError(f"what it holds of {saved.state} is no placement at {parts - 1} venues")
            self._states[saved.state] = _Learned(saved.now, saved.mean, saved.count)
        if not len(file.states) == len(self._states) <= self.max_states:
            different = len(self._states)
            raise ValueError(
                f"it holds {len(file.states)} states, {different} of them different: at most {self.max_states}"
            )
        return self


class _Head(msgspec.Struct):
    format: str
    version: int


class _Settings(msgspec.Struct):
    venues: tuple[str, ...]
    rounds: int | None
    max_states: int
    forgotten: int


class _Saved(msgspec.Struct):
    state: State
    now: list[float]
    mean: list[float]
    count: int


class _File(_Head):
    settings: _Settings
    states: list[_Saved]


def nearest(parts: list[float]) -> list[float]:
    """The point with parts in [0, 1] and a sum of at least 1 that is nearest to this one.

    ``clip(parts + tau, 0, 1)`` with the least tau >= 0 that gives the sum. Between two values of tau at which a part
    enters or leaves the open interval the sum is linear.
    """
    clipped = [min(max(part, 0.0), 1.0) for part in parts]
    total = math.fsum(clipped)
    if total >= 1.0:
        return clipped
    shift = 0.0
    for bend in sorted(bend for part in parts for bend in (-part, 1.0 - part) if bend > 0.0):
        moving = sum(1 for part in parts if -part <= shift < 1.0 - part)
        if moving and total + moving * (bend - shift) >= 1.0:
            shift += (1.0 - total) / moving
            break
        total += moving * (bend - shift)
        shift = bend
    return [min(max(part + shift, 0.0), 1.0) for part in parts]


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file, to the disk, and only then in its place."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a loss of power; a system without such a call does without."""
    flags: Any = getattr(os, "O_DIRECTORY", None)
    if flags is None:
        return
    descriptor = os.open(folder, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
