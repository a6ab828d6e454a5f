"""Which venue stands behind a publisher id, and what it charges and pays at a given time.

The directory that comes with the package is ``venues.toml`` beside this module; its header explains the form.
A file of the user's own has the same form and is laid over it::

    directory = VenueDirectory.load("my_venues.toml")    # or load() for the built-in one alone
    entry = directory.venue(2)                           # XNAS
    figure = entry.figure_at(1_700_000_000_000_000_000)
    figure.taker_fee, figure.maker_rebate                # dollars per share

Signs: ``taker_fee`` is paid by the taker, ``maker_rebate`` is received by the maker; at an inverted venue
both are negative.
"""

import difflib
import importlib.resources
import itertools
import logging
import math
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec

from sor.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Figure", "VenueEntry", "VenueDirectory"]

logger = logging.getLogger(__name__)

MIN_TIME = -(2**63)  # the earliest and the latest time, nanoseconds since the epoch as 64-bit integers
MAX_TIME = 2**63 - 1
NANOSECONDS_A_DAY = 86_400 * 10**9

SCHEMA_VERSION = 1
FEE_LIMIT = 1.0  # $ per share; real figures are below a cent, so more than this is another unit by mistake
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2262, 1, 1)  # 64-bit nanoseconds end in April 2262

# (taker fee, maker rebate) in $ per share of the venues that the levels of one book are shown as, in turn.
LEVEL_RATES = ((0.003, 0.001), (0.002, 0.0015), (0.0025, 0.001))

_MIC = re.compile(r"[A-Z0-9]{4}")
_NUMBERED_VENUE = re.compile(r"(publisher|venue)_(0|[1-9][0-9]{0,18})")


class Figure(msgspec.Struct, frozen=True, gc=False):
    """What a venue charges and pays within ``[start, end)``.

    Dates are taken at 00:00 UTC. Regular US trading, within 13:30 to 21:00 UTC, never straddles that. In
    winter the last hour of late trading (19:00 to 20:00 Eastern) comes after it, with the next day's figures.

    Attributes
    ----------
    taker_fee : float
        Dollars per share paid by who takes liquidity; negative where the taker is paid.
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
    """

    taker_fee: float
    maker_rebate: float
    start: int
    end: int
    taker_fee_verified: bool
    maker_rebate_verified: bool
    source: str
    valid_from: date


class VenueEntry(msgspec.Struct, frozen=True, dict=True):
    """A venue with the history of its fees.

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
    """

    venue_id: str
    name: str
    model: str
    publisher_ids: tuple[int, ...]
    figures: tuple[Figure, ...]
    known: bool

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
        for figure in reversed(self.figures):
            if figure.start <= time_ns:
                return figure
        return self._figure_before(time_ns)

    def _figure_before(self, time_ns: int) -> Figure:
        # Kept in __dict__: a note of this entry, and so of its directory, that is no part of its value.
        stretched: Figure | None = self.__dict__.get("figure_before")
        if stretched is None:
            earliest = self.figures[0]
            logger.warning(
                "venue %s: no fee is known before %s; using the earliest one for %s",
                self.venue_id,
                earliest.valid_from,
                _day_of(time_ns),
            )
            stretched = msgspec.structs.replace(earliest, start=MIN_TIME, end=earliest.start)
            self.__dict__["figure_before"] = stretched
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

    Raises
    ------
    InputError
        If two entries share a venue id or a publisher id.
    """

    def __init__(self, entries: Iterable[VenueEntry], default: Figure) -> None:
        self.default = default
        listed = tuple(entries)
        self._by_mic = _by_mic(listed, "entries")
        self._by_publisher = _by_publisher(listed, "entries")
        self._unlisted: dict[int, VenueEntry] = {}
        self._levels: dict[int, VenueEntry] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> "VenueDirectory":
        """Read the built-in directory, and lay a file of the user's own over it.

        Parameters
        ----------
        path : path, optional
            A TOML file of the form of the built-in one. Each of its entries replaces the built-in entry of
            the same MIC as a whole, or is added; its ``[default]``, if any, replaces the built-in default.

        Raises
        ------
        InputError
            If the file cannot be read or says something that is not understood; the message names the file,
            the venue, the key, its value and what it may be.
        """
        builtin = importlib.resources.files("sor.market").joinpath("venues.toml").read_bytes()
        entries, default = _parse(builtin, "sor/market/venues.toml")
        if path is not None:
            own_entries, own_default = _parse(_read(path), os.fspath(path))
            entries |= own_entries
            default = own_default or default
            hint = ": an entry for either venue in this file, without the id, settles it"
            _by_publisher(entries.values(), f"{os.fspath(path)}, merged with the built-in directory", hint)
        if default is None:
            raise InputError("sor/market/venues.toml: [default] is missing")
        return cls(entries.values(), default)

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
            guess = _near(venue_id.upper(), self._by_mic, 2) or _near(venue_id, ("publisher_N", "venue_N"))
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
        entry = VenueEntry(f"publisher_{publisher_id}", name, "unknown", (publisher_id,), (self.default,), known=False)
        self._unlisted[publisher_id] = entry
        return entry


# Reading a file. Checks raise InputError with a text that begins with `where`: the file, and the venue in it.

_TOP_KEYS = ("schema_version",)
_TOP_OPTIONAL = ("default", "venue")
_DEFAULT_KEYS = ("taker_fee", "maker_rebate")
_VENUE_KEYS = ("mic", "name", "model", "publisher_ids", "figures")
_FIGURE_KEYS = (
    "valid_from",
    "taker_fee",
    "maker_rebate",
    "taker_fee_verified",
    "maker_rebate_verified",
    "source",
)


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{os.fspath(path)}: the venue file cannot be read: {reason}") from error


def _parse(content: bytes, where: str) -> tuple[dict[str, VenueEntry], Figure | None]:
    """Return the entries of a venue file by MIC, and its default figures if it gives any."""
    top = _load_toml(content, where)
    # The version first: a file of another one may have other keys.
    if "schema_version" in top and (type(top["schema_version"]) is not int or top["schema_version"] != SCHEMA_VERSION):
        raise InputError(f"{where}: schema_version is {top['schema_version']!r}: it may be {SCHEMA_VERSION}")
    _check_keys(top, where, _TOP_KEYS, _TOP_OPTIONAL)
    tables = _tables(top.get("venue", []), where, "venue")
    entries = [_entry(table, f"{where}: venue {number}") for number, table in enumerate(tables, 1)]
    _by_publisher(entries, where)
    default = _default(top["default"], f"{where}: [default]") if "default" in top else None
    return _by_mic(entries, where), default


def _load_toml(content: bytes, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not valid TOML: {error}") from error


def _default(table: Any, where: str) -> Figure:
    _check_keys(table, where, _DEFAULT_KEYS)
    fee, rebate = (_dollars(table, where, key) for key in _DEFAULT_KEYS)
    return _timeless_figure(fee, rebate, "default for venues that the directory does not know")


def _timeless_figure(taker_fee: float, maker_rebate: float, source: str) -> Figure:
    """Return a figure, not verified, that holds at all times."""
    return Figure(taker_fee, maker_rebate, MIN_TIME, MAX_TIME, False, False, source, date.min)


def _entry(table: Any, where: str) -> VenueEntry:
    if isinstance(table, dict) and isinstance(table.get("mic"), str):
        where = f"{where} ({table['mic']})"
    _check_keys(table, where, _VENUE_KEYS)
    mic = _text(table, where, "mic")
    if not _MIC.fullmatch(mic):
        raise InputError(f"{where}: mic is {mic!r}: it may be 4 upper-case letters or digits (ISO 10383)")
    name, model = _text(table, where, "name"), _text(table, where, "model")
    publisher_ids = _publisher_ids(table, where)
    return VenueEntry(mic, name, model, publisher_ids, _figures(table["figures"], where), known=True)


def _figures(value: Any, where: str) -> tuple[Figure, ...]:
    """Return the figures of a venue by ascending day, each ending where the next begins."""
    tables = _tables(value, where, "venue.figures")
    if not tables:
        raise InputError(f"{where}: figures is empty: it may be one [[venue.figures]] or more")
    figures = [_figure(table, f"{where}, figures {number}") for number, table in enumerate(tables, 1)]
    figures.sort(key=lambda figure: figure.start)
    for figure, following in itertools.pairwise(figures):
        if figure.start == following.start:
            raise InputError(f"{where}: valid_from is {figure.valid_from} in two figures: each needs its own day")
    ends = [figure.start for figure in figures[1:]] + [MAX_TIME]
    return tuple(msgspec.structs.replace(figure, end=end) for figure, end in zip(figures, ends, strict=True))


def _figure(table: Any, where: str) -> Figure:
    _check_keys(table, where, _FIGURE_KEYS)
    valid_from = _day(table, where, "valid_from")
    return Figure(
        taker_fee=_dollars(table, where, "taker_fee"),
        maker_rebate=_dollars(table, where, "maker_rebate"),
        start=(valid_from - date(1970, 1, 1)).days * NANOSECONDS_A_DAY,
        end=MAX_TIME,
        taker_fee_verified=_flag(table, where, "taker_fee_verified"),
        maker_rebate_verified=_flag(table, where, "maker_rebate_verified"),
        source=_text(table, where, "source"),
        valid_from=valid_from,
    )


def _check_keys(table: Any, where: str, required: Collection[str], optional: Collection[str] = ()) -> None:
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}: it may be a table with the keys {', '.join(required)}")
    allowed = (*required, *optional)
    for key in table:
        if key not in allowed:
            raise InputError(f"{where}: unknown key {key!r}{_near(key, allowed)}: it may be {', '.join(allowed)}")
    missing = [key for key in required if key not in table]
    if missing:
        raise InputError(f"{where}: missing {', '.join(missing)}")


def _tables(value: Any, where: str, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: {key} is not a list of tables: write [[{key}]] in double brackets")
    return value


def _text(table: Mapping[str, Any], where: str, key: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value.strip():
        raise _refusal(table, where, key, "text in quotes, not empty")
    return value


def _flag(table: Mapping[str, Any], where: str, key: str) -> bool:
    value = table[key]
    if not isinstance(value, bool):
        raise _refusal(table, where, key, "true or false, without quotes")
    return value


def _day(table: Mapping[str, Any], where: str, key: str) -> date:
    value = table[key]
    if not isinstance(value, date) or isinstance(value, datetime):
        raise _refusal(table, where, key, "a day without quotes, such as 2024-01-01")
    if not FIRST_DAY <= value <= LAST_DAY:
        raise InputError(f"{where}: {key} is {value}: it may be {FIRST_DAY} to {LAST_DAY}")
    return value


def _dollars(table: Mapping[str, Any], where: str, key: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(table, where, key, "a number, dollars per share")
    if isinstance(value, float) and not math.isfinite(value):
        raise _refusal(table, where, key, "a finite number, dollars per share")
    if abs(value) > FEE_LIMIT:
        limit = f"{-FEE_LIMIT:g} to {FEE_LIMIT:g} dollars per share; is it in cents or basis points?"
        raise _refusal(table, where, key, limit)
    return float(value)


def _publisher_ids(table: Mapping[str, Any], where: str) -> tuple[int, ...]:
    ids = table["publisher_ids"]
    if not isinstance(ids, list) or not all(type(number) is int and number >= 0 for number in ids):
        raise _refusal(table, where, "publisher_ids", "a list of whole numbers, 0 or more, such as [2, 46]")
    if len(set(ids)) < len(ids):
        raise _refusal(table, where, "publisher_ids", "a list that names each id once")
    return tuple(ids)


def _refusal(table: Mapping[str, Any], where: str, key: str, may_be: str) -> InputError:
    value = table[key]
    shown = str(value) if isinstance(value, date) else repr(value)
    return InputError(f"{where}: {key} is {shown}: it may be {may_be}")


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


def _near(word: str, known: Iterable[str], count: int = 1) -> str:
    """Return a proposal of the known words nearest to a wrong one, or no text where none is near."""
    near = difflib.get_close_matches(word, tuple(known), n=count)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _day_of(time_ns: int) -> date | str:
    """Return the UTC day of a time, or the bare number where the calendar has no such day."""
    try:
        return date.fromordinal(FIRST_DAY.toordinal() + time_ns // NANOSECONDS_A_DAY)
    except (ValueError, OverflowError):
        return f"time {time_ns}"
