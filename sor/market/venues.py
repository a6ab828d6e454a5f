"""Which venue stands behind a publisher id, and what it charges and pays at a given time.

The directory that comes with the package is ``venues.toml`` beside this module; its header explains the form.
A file of the user's own has the same form and is laid over it::

    directory = VenueDirectory.load("my_venues.toml")    # or load() for the built-in one alone
    entry = directory.venue(2)                           # XNAS
    figure = entry.figure_at(1_700_000_000_000_000_000)
    figure.taker_fee, figure.maker_rebate                # dollars per share, from $1 up
    figure.sub_dollar                                    # parts of the price, below $1; None: nobody stated them
    entry.rules_at(1_700_000_000_000_000_000).lot        # what it takes; 1 where no rule is known

Signs: ``taker_fee`` is paid by the taker, ``maker_rebate`` is received by the maker; at an inverted venue
both are negative.
"""

import importlib.resources
import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from sor.errors import InputError
from sor.market import toml_file
from sor.market.policy import DOLLARS_FROM, Policy
from sor.market.toml_file import MAX_TIME, MIN_TIME, Day, Dollars, Mark, Part, Text, day_of, nearest, start_of
from sor.types import MAX_ORDER, VenueRules

__all__ = ["Figure", "SubDollar", "VenueDirectory", "VenueEntry", "DatedRules"]

logger = logging.getLogger(__name__)

# (taker fee, maker rebate) in $ per share of the venues that the levels of one book are shown as, in turn.
LEVEL_RATES = ((0.003, 0.001), (0.002, 0.0015), (0.0025, 0.001))

_NUMBERED_VENUE = re.compile(r"(publisher|venue)_(0|[1-9][0-9]{0,18})")

# What a venue file may say, beside what any file may; a description is what a complaint tells the user.
Mic = Annotated[
    str, Meta(pattern=r"\A[A-Z0-9]{4}\Z", description="text in quotes, 4 upper-case letters or digits (ISO 10383)")
]
Bps = Annotated[float, Meta(ge=-500.0, le=500.0, description="a number from -500 to 500, basis points of the price")]
Shares = Annotated[int, Meta(ge=0, le=MAX_ORDER, description="a whole number of shares, 0 or more")]
PublisherIds = Annotated[
    tuple[Annotated[int, Meta(ge=0)], ...],
    Meta(description="a list of whole numbers, 0 or more, such as [2, 46]"),
]


class SubDollar(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What a venue charges and pays below $1: parts of the price, signs as in `Figure`.

    Attributes
    ----------
    taker_fee, maker_rebate : float
        0.003 is 0.3 % of the price.
    taker_fee_verified, maker_rebate_verified : bool
        Whether the number was read in the source named.
    source : str
        Where the numbers come from.
    """

    taker_fee: Part
    maker_rebate: Part
    taker_fee_verified: Mark
    maker_rebate_verified: Mark
    source: Text


class Figure(msgspec.Struct, frozen=True, gc=False):
    """What a venue charges and pays within ``[start, end)``.

    Dates are taken at 00:00 UTC. Regular US trading, within 13:30 to 21:00 UTC, never straddles that. In
    winter the last hour of late trading (19:00 to 20:00 Eastern) comes after it, with the next day's figures.

    Attributes
    ----------
    taker_fee : float
        Dollars per share paid by who takes liquidity at $1 or more; negative where the taker is paid.
    maker_rebate : float
        Dollars per share received by who provides it; negative where the maker pays.
    start, end : int
        UTC nanoseconds since the epoch. ``end`` is the start of the venue's next figure, or 2**63 - 1.
    taker_fee_verified, maker_rebate_verified : bool
        Whether the number was read in the source named, and is not general knowledge.
    source : str
        Where the numbers come from.
    valid_from : date
        The day of ``start``; the day of ``end`` in a figure used for the time before it
        (`VenueEntry.figure_at`); ``date.min`` in figures that belong to no day.
    sub_dollar : SubDollar or None
        The same below $1; None where nobody stated it, and the cap of the day (`Policy.access_cap`) stands in.
    from_price : float
        The price from which the figure holds, dollars: 1, or 0 for one that holds at all prices.
    fee_bps, rebate_bps : float
        Basis points of the price, beside the dollars a share.
    """

    taker_fee: float
    maker_rebate: float
    start: int
    end: int
    taker_fee_verified: bool
    maker_rebate_verified: bool
    source: str
    valid_from: date
    sub_dollar: SubDollar | None = None
    from_price: float = DOLLARS_FROM
    fee_bps: float = 0.0
    rebate_bps: float = 0.0


class DatedRules(msgspec.Struct, frozen=True, gc=False):
    """What a venue takes within ``[start, end)``; without arguments it takes everything, for nothing.

    Attributes
    ----------
    lot : int or "round"
        Shares: orders are multiples of it. 1 where odd lots are taken; "round" where orders are multiples of the round
        lot of the day (`lot_at`).
    min_quantity, min_notional : int, float
        An order is at least so many shares, and so many dollars.
    min_execution : int
        Shares that it fills at once, or nothing.
    max_quantity : int or None
        An order is of so many shares at most.
    ticket : float
        Dollars for each order sent.
    tick : float or None
        Prices of limit orders are multiples of it, dollars.
    start, end : int
        UTC nanoseconds since the epoch. ``end`` is the start of the venue's next rules, or 2**63 - 1.
    verified : bool
        Whether the rules were read in the source named.
    source : str
    valid_from : date or None
        The day of ``start``; that of ``end`` in rules used for the time before them (`VenueEntry.rules_at`).
    """

    lot: int | Literal["round"] = 1
    min_quantity: int = 0
    min_notional: float = 0.0
    min_execution: int = 0
    max_quantity: int | None = None
    ticket: float = 0.0
    tick: float | None = None
    start: int = MIN_TIME
    end: int = MAX_TIME
    verified: bool = False
    source: str = ""
    valid_from: date | None = None

    def lot_at(self, policy: Policy, time: int, price: float) -> int:
        """Shares that orders are multiples of.

        Parameters
        ----------
        policy : Policy
            Tells the round lot of the day.
        time : int
            UTC nanoseconds since the epoch.
        price : float
            What the round lot goes by, dollars a share (`Policy.round_lot`).

        Raises
        ------
        InputError
        """
        return policy.round_lot(time, price).value if self.lot == "round" else self.lot

    @property
    def bind(self) -> bool:
        """Whether there is anything that the venue does not take, or asks a ticket for."""
        return any(
            getattr(self, name) != getattr(NO_RULES, name)
            for name in VenueRules.__struct_fields__
            if hasattr(self, name)
        )


NO_RULES = DatedRules()
_Dated = TypeVar("_Dated", Figure, DatedRules)


class VenueEntry(msgspec.Struct, frozen=True, dict=True):
    """A venue with the history of its fees and rules.

    Attributes
    ----------
    venue_id : str
        The MIC (ISO 10383); ``publisher_N`` where the directory does not know the publisher; ``venue_N`` for
        a level of one book that is shown as a venue.
    name, model : str
        For people: the name, and how it charges ("maker-taker", "inverted", ...).
    publisher_ids : tuple of int
        Databento publisher ids that show the book of this venue.
    figures : tuple of Figure
        At least one, by ascending ``start``, without gaps.
    known : bool
        False where the figures are the default ones because the directory does not know the venue.
    rules : tuple of DatedRules
        By ascending ``start``, without gaps; none where no rule is known.
    exchange : bool
        Whether it is one whose best round-lot quotation may be protected (Rule 611); False of who is not listed.
    """

    venue_id: str
    name: str
    model: str
    publisher_ids: tuple[int, ...]
    figures: tuple[Figure, ...]
    known: bool
    rules: tuple[DatedRules, ...] = ()
    exchange: bool = True

    def figure_at(self, time_ns: int) -> Figure:
        """Return the figure valid at a time.

        Before the earliest figure its rates are used all the same, as a `Figure` that ends where the earliest
        one starts; a warning says so the first time. The figure returned holds while
        ``figure.start <= t < figure.end``, so a caller can keep it until then.

        Parameters
        ----------
        time_ns : int
            UTC nanoseconds since the epoch.
        """
        return self._held(self.figures, "fee", time_ns)

    def rules_at(self, time_ns: int) -> DatedRules:
        """Return what the venue takes at a time, in the same way; `NO_RULES` where none is known at all."""
        return self._held(self.rules, "rule", time_ns) if self.rules else NO_RULES

    def _held(self, history: tuple[_Dated, ...], what: str, time_ns: int) -> _Dated:
        for one in reversed(history):
            if one.start <= time_ns:
                return one
        return self._before(history[0], what, time_ns)

    def _before(self, earliest: _Dated, what: str, time_ns: int) -> _Dated:
        # Kept in __dict__: a note of this entry, and so of its directory, that is no part of its value.
        stretched: _Dated | None = self.__dict__.get(what)
        if stretched is None:
            logger.warning(
                "venue %s: no %s is known before %s; using the earliest one for %s",
                self.venue_id,
                what,
                earliest.valid_from,
                day_of(time_ns),
            )
            stretched = msgspec.structs.replace(earliest, start=MIN_TIME, end=earliest.start)
            self.__dict__[what] = stretched
        return stretched


class VenueDirectory:
    """The venues by publisher id and by MIC, with a default for those that nobody listed.

    Iterating gives the listed entries: built-in ones in the order of their file, then the user's new ones.

    Parameters
    ----------
    entries : iterable of VenueEntry
        The venues listed.
    default : Figure
        What a venue that is not listed is taken to charge and pay.
    policy : Policy, optional
        The market's rules by date, by default the built-in ones: fees that nobody stated are the cap of the day.

    Raises
    ------
    InputError
        If two entries share a venue id or a publisher id.
    """

    def __init__(self, entries: Iterable[VenueEntry], default: Figure, policy: Policy | None = None) -> None:
        self.default = default
        self.policy = Policy.load() if policy is None else policy
        listed = tuple(entries)
        self._by_mic = _by_mic(listed, "entries")
        self._by_publisher = _by_publisher(listed, "entries")
        self._unlisted: dict[int, VenueEntry] = {}
        self._levels: dict[int, VenueEntry] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None, policy: Policy | None = None) -> "VenueDirectory":
        """Read the built-in directory, and lay a file of the user's own over it.

        Parameters
        ----------
        path : path, optional
            A TOML file of the form of the built-in one. Each of its entries replaces the built-in entry of
            the same MIC as a whole, or is added; its ``[default]``, if any, replaces the built-in default.
        policy : Policy, optional
            As for the directory itself.

        Raises
        ------
        InputError
            If the file cannot be read or says something that is not understood; the message names the file,
            the venue, the key, its value and what it may be.
        """
        builtin = importlib.resources.files("sor.market").joinpath("venues.toml").read_bytes()
        entries, default = _parse(builtin, "sor/market/venues.toml")
        if path is not None:
            own_entries, own_default = _parse(toml_file.read(path, "venue file"), os.fspath(path))
            entries |= own_entries
            default = own_default or default
            hint = ": an entry for either venue in this file, without the id, settles it"
            _by_publisher(entries.values(), f"{os.fspath(path)}, merged with the built-in directory", hint)
        if default is None:
            raise InputError("sor/market/venues.toml: [default] is missing")
        return cls(entries.values(), default, policy)

    def __iter__(self) -> Iterator[VenueEntry]:
        return iter(self._by_mic.values())

    def __len__(self) -> int:
        return len(self._by_mic)

    def venue(self, publisher_id: int) -> VenueEntry:
        """Return the venue whose book a publisher shows.

        A publisher that is not listed becomes the venue ``publisher_N`` with the default figures and
        ``known`` False, and a warning says so the first time.
        """
        entry = self._by_publisher.get(publisher_id)
        if entry is None:
            entry = self._unlisted.get(publisher_id)
        return self._add_unlisted(publisher_id) if entry is None else entry

    def by_mic(self, mic: str) -> VenueEntry | None:
        """Return the listed venue with this MIC, or None."""
        return self._by_mic.get(mic)

    def publisher_of(self, mic: str) -> int:
        """Return the publisher id that stands for a listed venue: its first one.

        Raises
        ------
        InputError
            If no venue has this MIC (the message proposes the nearest ones), or it has no publisher id.
        """
        entry = self._by_mic.get(mic)
        if entry is None:
            near = nearest(mic.upper(), self._by_mic, 2)
            raise InputError(
                f"venue {mic[:60]!r} is not in the venue directory{near}: it may be one of {', '.join(self._by_mic)}, "
                "or of a venue file (--venues)"
            )
        if not entry.publisher_ids:
            raise InputError(f"venue {mic} has no publisher id in the venue directory: give it one (--venues)")
        return entry.publisher_ids[0]

    def level_venue(self, level: int) -> VenueEntry:
        """Return the venue that a level of a single book is shown as, where levels stand in for venues.

        Parameters
        ----------
        level : int
            0 or more. The venue is called ``venue_N``; its fee and rebate are made up: `LEVEL_RATES` in turn.

        Raises
        ------
        InputError
            If the level is negative.
        """
        entry = self._levels.get(level)
        if entry is None:
            if level < 0:
                raise InputError(f"level is {level}: it may be 0 or more")
            fee, rebate = LEVEL_RATES[level % len(LEVEL_RATES)]
            figure = _timeless_figure(fee, rebate, "made up: a level of one book shown as a venue")
            entry = VenueEntry(f"venue_{level}", f"level {level} of one book", "made up", (), (figure,), known=True)
            self._levels[level] = entry
        return entry

    def check_ids(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return venue ids without repetitions, having checked that each can be the id of a venue.

        Parameters
        ----------
        ids : iterable of str
            Listed MICs, ``publisher_N`` for a publisher that is not listed, ``venue_N`` for a level.

        Raises
        ------
        InputError
            If an id is none of these; the message proposes the nearest ones.
        """
        checked = tuple(dict.fromkeys(ids))
        for venue_id in checked:
            if venue_id not in self._by_mic:
                self._check_numbered(venue_id)
        return checked

    def _check_numbered(self, venue_id: str) -> None:
        match = _NUMBERED_VENUE.fullmatch(venue_id)
        if match is None:
            guess = nearest(venue_id.upper(), self._by_mic, 2) or nearest(venue_id, ("publisher_N", "venue_N"))
            raise InputError(
                f"venue id {venue_id!r} is not known{guess}: it may be one of {', '.join(self._by_mic)}, "
                "or publisher_N for a publisher id not listed, or venue_N for a level of one book"
            )
        listed = self._by_publisher.get(int(match[2])) if match[1] == "publisher" else None
        if listed is not None:
            raise InputError(f"venue id {venue_id!r} is not in use: publisher {match[2]} is {listed.venue_id}")

    def _add_unlisted(self, publisher_id: int) -> VenueEntry:
        logger.warning(
            "publisher id %d is not in the venue directory: it becomes venue publisher_%d with the default "
            "taker fee of %g and maker rebate of %g $ per share; give the right ones in a file (--venues)",
            publisher_id,
            publisher_id,
            self.default.taker_fee,
            self.default.maker_rebate,
        )
        name = f"publisher {publisher_id}"
        entry = VenueEntry(
            f"publisher_{publisher_id}", name, "unknown", (publisher_id,), (self.default,), known=False, exchange=False
        )
        self._unlisted[publisher_id] = entry
        return entry


# --- reading a file --------------------------------------------------------------------------------------------------


class _FigureTable(msgspec.Struct, forbid_unknown_fields=True):
    valid_from: Day
    taker_fee: Dollars
    maker_rebate: Dollars
    taker_fee_verified: Mark
    maker_rebate_verified: Mark
    source: Text
    sub_dollar: SubDollar | None = None
    from_price: Annotated[float, Meta(description="1, or 0 for a figure that holds at all prices, dollars")] = 1.0
    fee_bps: Bps = 0.0
    rebate_bps: Bps = 0.0

    def __post_init__(self) -> None:
        start_of(self.valid_from)
        if self.from_price not in (0.0, DOLLARS_FROM):
            raise ValueError(f"from_price is {self.from_price:g}: it may be 1, or 0 for all prices")
        if self.from_price == 0.0 and self.sub_dollar is not None:
            raise ValueError("from_price is 0: there may be no sub_dollar then, as the figure holds at all prices")

    def held(self) -> Figure:
        return Figure(**msgspec.structs.asdict(self), start=start_of(self.valid_from), end=MAX_TIME)


class _RulesTable(msgspec.Struct, forbid_unknown_fields=True):
    valid_from: Day
    verified: Mark
    source: Text
    lot: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_ORDER)] | Literal["round"],
        Meta(description='a whole number of shares, 1 or more, or "round" for the round lot of the day'),
    ] = 1
    min_quantity: Shares = 0
    min_notional: Annotated[float, Meta(ge=0.0, le=1e12, description="a number of dollars, 0 or more")] = 0.0
    min_execution: Shares = 0
    max_quantity: Annotated[int, Meta(ge=1, le=MAX_ORDER, description="a whole number of shares, 1 or more")] | None = (
        None
    )
    ticket: Annotated[float, Meta(ge=0.0, le=1e6, description="a number of dollars, 0 or more")] = 0.0
    tick: Annotated[float, Meta(gt=0.0, le=1e6, description="a number above 0, dollars")] | None = None

    def __post_init__(self) -> None:
        start_of(self.valid_from)
        least = max(self.min_quantity, self.min_execution, 0 if self.lot == "round" else self.lot)
        if self.max_quantity is not None and self.max_quantity < least:
            raise ValueError(f"max_quantity is {self.max_quantity}: it may be {least} or more, by the other rules")

    def held(self) -> DatedRules:
        return DatedRules(**msgspec.structs.asdict(self), start=start_of(self.valid_from))


class _VenueTable(msgspec.Struct, forbid_unknown_fields=True):
    mic: Mic
    name: Text
    model: Text
    publisher_ids: PublisherIds
    figures: Annotated[
        list[_FigureTable], Meta(min_length=1, description="one or more: write [[venue.figures]] in double brackets")
    ]

    rules: Annotated[list[_RulesTable], Meta(description="several: write [[venue.rules]] in double brackets")] = []
    exchange: Mark = True

    def __post_init__(self) -> None:
        if len(set(self.publisher_ids)) < len(self.publisher_ids):
            ids = list(self.publisher_ids)
            raise ValueError(f"publisher_ids is {ids}: it may be a list that names each id once")
        for what, tables in (("figures", self.figures), ("rules", self.rules)):
            days = sorted(table.valid_from for table in tables)
            for day, following in itertools.pairwise(days):
                if day == following:
                    raise ValueError(f"valid_from is {day} in two {what}: each needs its own day")

    def entry(self) -> VenueEntry:
        figures, rules = _chained(table.held() for table in self.figures), _chained(one.held() for one in self.rules)
        return VenueEntry(self.mic, self.name, self.model, self.publisher_ids, figures, True, rules, self.exchange)


def _chained(history: Iterable[_Dated]) -> tuple[_Dated, ...]:
    """By ascending day, each ending where the next begins."""
    ordered: list[_Dated] = sorted(history, key=_start)
    starts = (*(one.start for one in ordered), MAX_TIME)
    return tuple(msgspec.structs.replace(one, end=end) for one, end in zip(ordered, starts[1:], strict=True))


def _start(one: Figure | DatedRules) -> int:
    return one.start


class _DefaultTable(msgspec.Struct, forbid_unknown_fields=True):
    taker_fee: Dollars
    maker_rebate: Dollars


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: int
    default: _DefaultTable | None = None
    venue: Annotated[list[_VenueTable], Meta(description="several: write [[venue]] in double brackets")] = []


def _parse(content: bytes, where: str) -> tuple[dict[str, VenueEntry], Figure | None]:
    """Return the entries of a venue file by MIC, and its default figures if it gives any."""
    file = toml_file.parsed(content, where, _File, name="mic")
    entries = [table.entry() for table in file.venue]
    _by_publisher(entries, where)
    rates = file.default
    source = "default for venues that the directory does not know"
    default = None if rates is None else _timeless_figure(rates.taker_fee, rates.maker_rebate, source)
    return _by_mic(entries, where), default


def _timeless_figure(taker_fee: float, maker_rebate: float, source: str) -> Figure:
    """Return a figure, not verified, that holds at all times."""
    return Figure(taker_fee, maker_rebate, MIN_TIME, MAX_TIME, False, False, source, date.min)


def _by_mic(entries: Iterable[VenueEntry], where: str) -> dict[str, VenueEntry]:
    found: dict[str, VenueEntry] = {}
    for entry in entries:
        if found.setdefault(entry.venue_id, entry) is not entry:
            raise InputError(f"{where}: mic {entry.venue_id} stands in two entries: a venue may have one")
    return found


def _by_publisher(entries: Iterable[VenueEntry], where: str, hint: str = "") -> dict[int, VenueEntry]:
    found: dict[int, VenueEntry] = {}
    for entry in entries:
        for number in entry.publisher_ids:
            other = found.setdefault(number, entry)
            if other is not entry:
                both = f"{other.venue_id} and {entry.venue_id}"
                raise InputError(f"{where}: publisher id {number} is in publisher_ids of both {both}{hint}")
    return found
