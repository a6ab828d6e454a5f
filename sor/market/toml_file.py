"""TOML files of the user's own: what msgspec finds wrong in one is told in the file's own terms."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from sor.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA_VERSION = 1

MIN_TIME = -(2**63)  # the earliest and the latest time, nanoseconds since the epoch as 64-bit integers
MAX_TIME = 2**63 - 1
NANOSECONDS_A_DAY = 86_400 * 10**9
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2262, 1, 1)  # 64-bit nanoseconds end in April 2262

# What several files may say; a description is what a complaint tells the user. Real fees are below a cent a share and
# below a hundredth of the price, so that more is another unit by mistake.
Dollars = Annotated[
    float,
    Meta(ge=-1.0, le=1.0, description="a number from -1 to 1, dollars per share; is it in cents or basis points?"),
]
Part = Annotated[
    float,
    Meta(ge=-0.05, le=0.05, description="a number from -0.05 to 0.05, a part of the price; is it in percent?"),
]
Text = Annotated[str, Meta(pattern=r"\S", description="text in quotes, not empty")]
Mark = Annotated[bool, Meta(description="true or false, without quotes")]
Day = Annotated[date, Meta(description="a day without quotes, such as 2024-01-01")]

T = TypeVar("T")

_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_KEY = re.compile(r"Object (contains unknown|missing required) field `(.*)`")


def read(path: str | os.PathLike[str], what: str) -> bytes:
    """The content of a file; ``what`` it is called in an error.

    Raises
    ------
    InputError
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{os.fspath(path)}: the {what} cannot be read: {reason}") from error


def parsed(content: bytes, where: str, kind: type[T], *, name: str, exact: bool = False) -> T:
    """The struct that a file holds.

    Parameters
    ----------
    content : bytes
    where : str
        The file, for an error.
    kind : type
        A struct with a ``schema_version``; the descriptions of its fields tell what they may be.
    name : str
        The key that an entry of a list is called by.
    exact : bool
        Numbers with a point are `decimal.Decimal`, digit for digit.

    Raises
    ------
    InputError
        Naming the file, the entry, the key, its value and what it may be.
    """
    top = _loaded(content, where, exact)
    # The version first: a file of another one may have other keys.
    if "schema_version" in top and (type(top["schema_version"]) is not int or top["schema_version"] != SCHEMA_VERSION):
        raise InputError(f"{where}: schema_version is {top['schema_version']!r}: it may be {SCHEMA_VERSION}")
    try:
        return msgspec.convert(top, kind, builtin_types=(date, datetime, time, Decimal))
    except msgspec.ValidationError as error:
        raise InputError(f"{where}{_complaint(str(error), top, kind, name)}") from None


def _loaded(content: bytes, where: str, exact: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8-sig"), parse_float=Decimal if exact else float)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not valid TOML: {error}") from error


def _complaint(message: str, top: dict[str, Any], file: Any, name_key: str) -> str:
    what, _, path = message.partition(" - at `$")
    where, key, value, kind, may_be = _place(path, top, file, name_key)
    if not isinstance(kind, msgspec.inspect.StructType):
        shown = (
            "one table" if isinstance(value, dict) else str(value) if isinstance(value, date | Decimal) else repr(value)
        )
        return f"{where}: {key} is {shown}: it may be {may_be}"
    keys = [field.name for field in kind.fields]
    if not isinstance(value, dict):
        return f"{where} is {value!r}: it may be a table with the keys {', '.join(keys)}"
    wrong = _KEY.fullmatch(what)
    if wrong is None:
        return f"{where}: {what}"
    if wrong[1] == "missing required":
        return f"{where}: missing {wrong[2]}"
    return f"{where}: unknown key {wrong[2]!r}{nearest(wrong[2], keys)}: it may be {', '.join(keys)}"


def _place(path: str, top: dict[str, Any], file: Any, name_key: str) -> tuple[str, str, Any, Any, str]:
    """The entry that a path of msgspec's leads to, and the key there with its value, its type and what it may be."""
    entry: list[str] = []
    key, may_be = "", ""
    value: Any = top
    kind: Any = msgspec.inspect.type_info(file)
    for name, index in _STEP.findall(path):
        if name:
            key, value = name, value[name]
            kind, may_be = _described(next(field.type for field in kind.fields if field.name == name))
            if isinstance(kind, msgspec.inspect.StructType):
                entry.append("[default]" if name == "default" else name)
        elif isinstance(kind, msgspec.inspect.ListType):
            value, kind = value[int(index)], kind.item_type
            called = value.get(name_key) if isinstance(value, dict) else None
            entry.append(f"{key} {int(index) + 1}" + (f" ({called})" if isinstance(called, str) else ""))
    return "".join(f"{', ' if i else ': '}{part}" for i, part in enumerate(entry)), key, value, kind, may_be


def _described(kind: Any) -> tuple[Any, str]:
    """A field's type, without None where that may stand for it, and its description."""
    may_be = ""
    while isinstance(kind, msgspec.inspect.Metadata | msgspec.inspect.UnionType):
        if isinstance(kind, msgspec.inspect.Metadata):
            kind, may_be = kind.type, (kind.extra_json_schema or {}).get("description", may_be)
        else:
            kind = next(one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType))
    return kind, may_be


def start_of(day: date) -> int:
    """The beginning of a day, 00:00 UTC, in nanoseconds since the epoch.

    Raises
    ------
    ValueError
        It is beyond 64 bits; in the words of a complaint about ``valid_from``.
    """
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"valid_from is {day}: it may be {FIRST_DAY} to {LAST_DAY}")
    return (day - FIRST_DAY).days * NANOSECONDS_A_DAY


def day_of(time_ns: int) -> date | str:
    """The UTC day of a time, or the bare number where the calendar has no such day."""
    try:
        return date.fromordinal(FIRST_DAY.toordinal() + time_ns // NANOSECONDS_A_DAY)
    except (ValueError, OverflowError):
        return f"time {time_ns}"


def nearest(word: str, known: Iterable[str], count: int = 1) -> str:
    """Return a proposal of the known words nearest to a wrong one, or no text where none is near."""
    near = difflib.get_close_matches(word, tuple(known), n=count)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
