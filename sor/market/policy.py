"""The market's rules by date, as data: round lots, the access fee cap, ticks, and whether quotations are protected.

What comes with the package is ``policy.toml`` beside this module; its header explains the form, and a file of the
user's own is laid over it::

    policy = Policy.load("my_policy.toml")                    # or load() for the built-in one alone
    policy.round_lot(1_767_225_600_000_000_000, 300.0).value  # 40 shares
    policy.protected(1_767_225_600_000_000_000)               # Answer(value=True, sure=True, ...)

Times are UTC nanoseconds since the epoch and prices dollars a share, above 0 (a sale's, too). An answer says itself
whether it was known for that time (``sure``).
"""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, TypeVar

import msgspec
from msgspec import Meta

from sor.errors import InputError
from sor.market import toml_file
from sor.market.toml_file import MAX_TIME, MIN_TIME, Day, Mark, Text, nearest, start_of
from sor.types import real_number, whole_number

DOLLARS_FROM = 1.0  # price, dollars: below it US venues charge a part of the price, and ticks are finer
BUILT_IN = "sor/market/policy.toml"
PRESENT = "present"  # the choice of the entries without a name

V = TypeVar("V")

_Shares = Annotated[int, Meta(ge=1, description="a whole number of shares, 1 or more")]
_Price = Annotated[float, Meta(gt=0.0, le=1e9, description="a number above 0, dollars per share")]
_Tick = Annotated[float, Meta(gt=0.0, le=1.0, description="a number above 0, up to 1, dollars")]
_Cap = Annotated[
    float, Meta(ge=0.0, le=1.0, description="a number from 0 to 1, dollars per share; is it in cents or basis points?")
]
_PartCap = Annotated[
    float, Meta(ge=0.0, le=0.05, description="a number from 0 to 0.05, a part of the price; is it in percent?")
]


@dataclass(frozen=True)
class Answer(Generic[V]):
    """What a policy says of a time.

    Attributes
    ----------
    value
    sure : bool
        False where it was not known when the policy was written, or is an alternative that was chosen: what is taken.
    verified : bool
        Whether the figures were read in the source named.
    source : str
    start, end : int
        It is said of the times within [start, end), UTC nanoseconds since the epoch.
    """

    value: V
    sure: bool
    verified: bool
    source: str
    start: int
    end: int


# --- what a file says ------------------------------------------------------------------------------------------------


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all entries have; ``start`` is that of its day, and the earliest time for one without."""

    sure: Mark
    verified: Mark
    source: Text
    valid_from: Day | None = None
    state: Text | None = None

    def __post_init__(self) -> None:
        if self.state == PRESENT:
            raise ValueError(f"state is {PRESENT!r}: it may be another name; the entries without one are the present")
        if self.valid_from is not None:
            start_of(self.valid_from)

    @property
    def start(self) -> int:
        return MIN_TIME if self.valid_from is None else start_of(self.valid_from)

    def answer(self, value: V, end: int) -> Answer[V]:
        return Answer(value, self.sure, self.verified, self.source, self.start, end)


class _Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lot: _Shares
    up_to: _Price | None = None


class RoundLots(_Entry, frozen=True, kw_only=True):
    """Round lots by price: tiers by ascending price, the last without end."""

    tiers: Annotated[list[_Tier], Meta(min_length=1, description="a list of tables with up_to and lot")]

    def __post_init__(self) -> None:
        super().__post_init__()
        *bounds, last = (tier.up_to for tier in self.tiers)
        if None in bounds or last is not None:
            raise ValueError("the last of the tiers, and no other, may be without up_to")
        if any(low >= high for low, high in itertools.pairwise(bounds)):  # type: ignore[operator]
            raise ValueError(f"up_to of the tiers is {bounds}: it may be ascending prices")

    def at(self, price: float) -> int:
        """Shares."""
        return next(tier.lot for tier in self.tiers if tier.up_to is None or price <= tier.up_to)


class AccessCap(_Entry, frozen=True, kw_only=True):
    """The most that who takes the best quote of an exchange may be charged.

    Attributes
    ----------
    dollars : float
        A share, at $1 or more.
    part : float
        Of the price, below $1.
    """

    dollars: _Cap
    part: _PartCap

    def at(self, price: float) -> float:
        """Dollars a share."""
        return self.dollars if price >= DOLLARS_FROM else self.part * price


class Ticks(_Entry, frozen=True, kw_only=True):
    """The least steps between prices of displayed orders, dollars: narrower where the quoted spread is narrow."""

    tick: _Tick
    tick_below_dollar: _Tick
    narrow_tick: _Tick | None = None
    narrow_spread: _Price | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.narrow_tick is None) != (self.narrow_spread is None):
            raise ValueError("narrow_tick and narrow_spread may only be given together")

    def at(self, price: float, spread: float | None) -> float:
        """Dollars."""
        if price < DOLLARS_FROM:
            return self.tick_below_dollar
        if self.narrow_tick is None or self.narrow_spread is None or spread is None:
            return self.tick
        return self.narrow_tick if spread <= self.narrow_spread else self.tick


class Protection(_Entry, frozen=True, kw_only=True):
    """Whether quotations are protected."""

    on: Mark


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    round_lot: Text | None = None
    access_cap: Text | None = None
    tick: Text | None = None
    protected: Text | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: int
    choice: _Choice = msgspec.field(default_factory=_Choice)
    round_lot: Annotated[list[RoundLots], Meta(description="several: write [[round_lot]] in double brackets")] = []
    access_cap: Annotated[list[AccessCap], Meta(description="several: write [[access_cap]] in double brackets")] = []
    tick: Annotated[list[Ticks], Meta(description="several: write [[tick]] in double brackets")] = []
    protected: Annotated[list[Protection], Meta(description="several: write [[protected]] in double brackets")] = []


# --- the policy ------------------------------------------------------------------------------------------------------

E = TypeVar("E", bound=_Entry)


class Policy:
    """The market's rules by date; made by `load`.

    Attributes
    ----------
    choice : dict of str to str
        The alternative that is taken of each list; "present" where none is.
    """

    SUBJECTS: ClassVar = ("round_lot", "access_cap", "tick", "protected")

    def __init__(self, file: _File, where: str) -> None:
        self.choice = {subject: getattr(file.choice, subject) or PRESENT for subject in self.SUBJECTS}
        self._round_lots = _chain("round_lot", file.round_lot, self.choice, where)
        self._access_caps = _chain("access_cap", file.access_cap, self.choice, where)
        self._ticks = _chain("tick", file.tick, self.choice, where)
        self._protected = _chain("protected", file.protected, self.choice, where)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Policy:
        """Read the built-in policy, and lay a file of the user's own over it.

        Parameters
        ----------
        path : path, optional
            A TOML file of the form of the built-in one. Each list that it has replaces the built-in list as a whole,
            and each choice the built-in choice.

        Raises
        ------
        InputError
            It cannot be read or says something that is not understood; the message names the file, the entry, the key,
            its value and what it may be.
        """
        if path is None:
            return builtin_policy()
        where, file = os.fspath(path), builtin()
        own = _parsed(toml_file.read(path, "policy file"), where)
        for subject in cls.SUBJECTS:
            if getattr(own, subject):
                setattr(file, subject, getattr(own, subject))
            if getattr(own.choice, subject) is not None:
                setattr(file.choice, subject, getattr(own.choice, subject))
        return cls(file, where)

    @property
    def entries(self) -> tuple[Sequence[_Entry], ...]:
        """All that holds, by subject and then by ascending start."""
        return self._round_lots, self._access_caps, self._ticks, self._protected

    def round_lot(self, time: int, price: float) -> Answer[int]:
        """The round lot of a stock, shares.

        Parameters
        ----------
        time : int
        price : float
            What its round lot goes by: the average close of the last March or September. A price of the day is nearly
            always on the same side of a bound.

        Raises
        ------
        InputError
        """
        entry, end = _at(self._round_lots, time)
        return entry.answer(entry.at(_above_0(price)), end)

    def access_cap(self, time: int, price: float) -> Answer[float]:
        """The most that a taker may be charged at a price, dollars a share.

        Raises
        ------
        InputError
        """
        entry, end = _at(self._access_caps, time)
        return entry.answer(entry.at(_above_0(price)), end)

    def access_caps(self, time: int) -> Answer[AccessCap]:
        """The cap at all prices: dollars a share from $1 up, a part of the price below."""
        entry, end = _at(self._access_caps, time)
        return entry.answer(entry, end)

    def tick(self, time: int, price: float, spread: float | None = None) -> Answer[float]:
        """The least step between prices of displayed orders, dollars.

        Parameters
        ----------
        time : int
        price : float
        spread : float, optional
            The time-weighted quoted spread of the stock in the last evaluation period, dollars, by which ticks go after
            the amendment of Rule 612. Without it the wider tick is told: its prices lie on the narrower, too.

        Raises
        ------
        InputError
        """
        entry, end = _at(self._ticks, time)
        wide = None if spread is None else real_number("spread", spread, 0.0)
        return entry.answer(entry.at(_above_0(price), wide), end)

    def protected(self, time: int) -> Answer[bool]:
        """Whether who trades at a worse price has to take every better protected quotation, too (Rule 611).

        Raises
        ------
        InputError
        """
        entry, end = _at(self._protected, time)
        return entry.answer(entry.on, end)


@functools.cache
def builtin_policy() -> Policy:
    """The one that comes with the package: nothing changes a policy."""
    return Policy(builtin(), BUILT_IN)


def builtin() -> _File:
    """What the file says that comes with the package."""
    return _parsed(importlib.resources.files("sor.market").joinpath("policy.toml").read_bytes(), BUILT_IN)


def _parsed(content: bytes, where: str) -> _File:
    return toml_file.parsed(content, where, _File, name="state")


def _chain(subject: str, entries: Sequence[E], choice: dict[str, str], where: str) -> list[E]:
    """The entries that hold, by ascending start: those without a name, up to the first of the alternative chosen."""
    chosen = choice[subject]
    names = [PRESENT, *dict.fromkeys(entry.state for entry in entries if entry.state is not None)]
    if chosen not in names:
        raise InputError(
            f"{where}: choice: {subject} is {chosen!r}{nearest(chosen, names)}: it may be {', '.join(names)}"
        )
    for name in names:
        days = sorted(entry.start for entry in entries if (entry.state or PRESENT) == name)
        if name == PRESENT and (not days or days[0] != MIN_TIME):
            raise InputError(
                f"{where}: {subject}: an entry without valid_from and without state is missing: one holds before all "
                "others"
            )
        if len(set(days)) < len(days):
            raise InputError(
                f"{where}: {subject}: two entries of {name!r} have the same valid_from: each needs its own"
            )
    alternative = sorted((entry for entry in entries if entry.state == chosen), key=_start)
    until = alternative[0].start if alternative else MAX_TIME
    present = (entry for entry in entries if entry.state is None and entry.start < until)
    return [*sorted(present, key=_start), *alternative]


def _start(entry: _Entry) -> int:
    return entry.start


def _at(chain: Sequence[E], time: int) -> tuple[E, int]:
    """The entry that holds at a time, and the beginning of the next; the last has no end."""
    when = whole_number("time", time, MIN_TIME, MAX_TIME)
    end = MAX_TIME
    for entry in reversed(chain[1:]):
        if entry.start <= when:
            return entry, end
        end = entry.start
    return chain[0], end


def _above_0(price: float) -> float:
    return real_number("price", price, 5e-324)
