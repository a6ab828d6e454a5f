"""Options: what one is, how its text becomes a value, and how a command's settings are read.

An option is defined once, beside the field of the settings that it fills (`sor.service.settings`): flag, environment
variable, default, bounds, help, the commands that take it and the documentation's table all come from there. A flag
wins over its environment variable, which wins over the default; an empty variable counts as not set.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeVar

from sor.errors import DataError, InputError
from sor.market.fields import time_of
from sor.types import MAX_ORDER

S = TypeVar("S", bound="Settings")

BROKERS_OWN = ("__consumer_offsets", "__transaction_state")  # topics that brokers let nobody write to
POSITIONAL = "FILE"  # the name of an option that is an argument without a flag


class Option(NamedTuple):
    """One setting; ``field``, ``default`` and ``commands`` are told by where it stands."""

    variable: str  # of the environment; empty where there is none
    parse: Callable[[Any], Any]
    help: str
    flag: str | None = ""  # where it is not the field's name; None: only a variable, as every user sees the flags
    file: Literal["read", "written"] | None = None  # what is done with the file that it names
    many: bool = False  # several arguments without a flag
    field: str = ""
    default: Any = None
    commands: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        if self.flag is None:
            return self.variable
        return self.flag or "--" + self.field.replace("_", "-")

    @property
    def title(self) -> str:
        """The name with the variable, for a setting that was given by neither."""
        return self.variable if self.flag is None else f"{self.name} ({self.variable})"

    @property
    def is_switch(self) -> bool:
        return self.parse is switch


class Settings:
    """Values by field, else their defaults; frozen. What a command takes are groups, mixed by inheritance."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"settings are frozen: {name}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def as_of(self, settings: type[S]) -> S:
        """What another class takes of them."""
        return settings(**{name: value for name, value in vars(self).items() if hasattr(settings, name)})

    def replaced(self: S, **values: Any) -> S:
        return type(self)(**{**vars(self), **values})


def options_of(settings: type[Settings]) -> list[Option]:
    """The options of a class of settings: those of its groups, in their order, and its own."""
    annotations: dict[str, Any] = {}
    for group in (*settings.__mro__[1:], settings):
        annotations |= inspect.get_annotations(group)
    return [
        option._replace(field=name, default=getattr(settings, name))
        for name, annotation in annotations.items()
        for option in getattr(annotation, "__metadata__", ())
    ]


def read(
    settings: type[Settings], flags: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a class of settings by field, and the flag or variable of those that were given.

    Parameters
    ----------
    settings : subclass of Settings
    flags : mapping of field to text
        What stood on the command line.
    environment : mapping

    Raises
    ------
    InputError
        Naming the flag or variable, its value and what it may be.
    """
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    for option in options_of(settings):
        values[option.field] = option.default
        where, value = text_of(option, flags, environment)
        if value is not None:
            values[option.field] = _parsed(option, where, value)
            given[option.field] = where
    return values, given


def text_of(option: Option, flags: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, Any]:
    """The flag or variable that an option was given by, and its text; None where it was not."""
    if option.field in flags:
        return option.name, flags[option.field]
    return option.variable, environment.get(option.variable) or None


def _parsed(option: Option, where: str, value: Any) -> Any:
    if value == "":
        raise InputError(f"{where} is empty: it must have a value")
    try:
        return option.parse(value)
    except ValueError as error:
        raise InputError(f"{where} is {value!r}: it must be {error}") from None


# --- from text to values ---------------------------------------------------------------------------------------------


def text(value: str) -> str:
    return value


def paths(values: list[str]) -> tuple[str, ...]:
    """Of an option that takes many."""
    if "" in values:
        raise ValueError("the names of files")
    return tuple(values)


def file_path(value: str) -> str:
    if value == "-":
        raise ValueError("a file's path (standard output is for the results)")
    return value


def names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def space(value: str) -> tuple[tuple[str, tuple[float, ...] | list[float]], ...]:
    """Parameters with a range, which is a pair, or a list of values."""
    found = []
    try:
        for part in names(value):
            name, _, values = part.partition("=")
            low, dots, high = values.partition("..")
            given = (float(low), float(high)) if dots else [float(one) for one in values.split("/")]
            found.append((name.strip(), given))
    except ValueError:
        raise ValueError(
            "parameters with a range or values, comma-separated, such as lambda_under=0.005..0.5,horizon=10/30/60"
        ) from None
    if len({name for name, _ in found}) < len(found):
        raise ValueError("parameters that are each named once")
    return tuple(found)


def moment(value: str) -> int:
    """Nanoseconds since the epoch."""
    try:
        return time_of("", int(value) if value.isascii() and value.isdecimal() else value)
    except DataError:
        raise ValueError(
            "a time in ISO 8601 such as 2024-08-01T13:30:00Z (without a zone: UTC), or nanoseconds since the epoch"
        ) from None


def switch(value: str) -> bool:
    """true/false, 1/0, yes/no, on/off."""
    lowered = value.strip().lower()
    if lowered in ("true", "1", "yes", "on"):
        return True
    if lowered in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false (or 1/0, yes/no, on/off)")


def whole(low: int, high: int = MAX_ORDER) -> Callable[[str], int]:
    def parse(value: str) -> int:
        digits = value.strip().replace(",", "")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 17 and low <= int(digits) <= high):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(digits)

    return parse


def quantities(value: str) -> tuple[int | Decimal, ...]:
    """Several, with commas between: no thousands separators then."""
    found = tuple(quantity(part) for part in names(value))
    if not found:
        raise ValueError("a whole number above 0, or several of them with commas between")
    return found


def duration(low: float, high: float = 86_400.0) -> Callable[[str], float]:
    """Seconds, from a number of them or one with a unit."""

    def parse(value: str) -> float:
        match = re.fullmatch(r"\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ns|us|ms|s|m|h|)\s*", value, re.ASCII)
        seconds = float(Decimal(match[1]) * UNITS[match[2]]) if match else -1.0
        if not low <= seconds <= high:
            raise ValueError(f"a time from {low:g} to {high:g} s, such as 500us, 250ms, 30s, 5m or 1h")
        return seconds

    return parse


UNITS = {  # seconds
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}


def quantity(value: str) -> int | Decimal:
    """A whole number, or one with decimals, which only a symbol with an instrument may have."""
    digits = value.strip().replace(",", "")
    if re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,9}", digits) and float(digits) > 0:
        exact = Decimal(digits)
        return int(exact) if exact == int(exact) else exact
    return whole(1)(value)


def number(low: float, what: str) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            parsed = float(value)
        except ValueError:
            parsed = float("nan")
        if not low <= parsed <= 1e12 or "_" in value:
            raise ValueError(what)
        return parsed

    return parse


def choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.strip().lower() not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value.strip().lower()

    return parse


def topic_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in (".", "..", *BROKERS_OWN):
        raise ValueError("a topic's name: 1 to 249 letters, digits, dots, underscores or hyphens")
    return value


def instance(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", value):
        raise ValueError("a name: 1 to 200 letters, digits, dots, underscores or hyphens")
    return value


def servers(value: str) -> str:
    addresses = names(value)
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("host:port, or several of them with commas between")
    if not addresses:
        raise ValueError("host:port, or several of them with commas between")
    return ",".join(addresses)
