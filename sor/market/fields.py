"""Databento's two spellings of a number: decimal and ISO text, or integers of 1e-9 dollars and of nanoseconds.

A price spelled as an integer is in 1e-9 dollars, whether it stands in a CSV cell or in JSON; one with a point or
an exponent is in dollars. A price is absent where it is empty, null, NaN, zero or Databento's undefined value,
and a size where it is empty, null, NaN, zero, negative or undefined: then the level shows nothing.
"""

from __future__ import annotations

import math
import re
from calendar import timegm
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from sor.errors import DataError

UNDEFINED_PRICE = 2**63 - 1
UNDEFINED_SIZE = 2**32 - 1
UNDEFINED_TIME = 2**64 - 1
SMALLEST_INTEGER_PRICE = 100_000  # $0.0001, the finest tick: a smaller integer was meant as dollars
LARGEST_PRICE = 1e9  # dollars
LARGEST_SIZE = 10**12  # shares
LARGEST_TIME = 2**63 - 1
ABSENT = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>"})

_HEAD = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", re.ASCII)
_TAIL = re.compile(r"(?:\.(\d{1,9}))?(?:Z|([+-])([01]\d|2[0-3]):?([0-5]\d))?", re.ASCII)


def price_of(name: str, value: Any) -> float | None:
    """Dollars per share, or None where no price is shown."""
    if type(value) is str:
        if not value:
            return None
        if "." in value and "_" not in value and value.isascii():
            try:
                price = float(value)
            except ValueError:
                raise DataError(f"{name} is {value[:60]!r}: not a price", "price") from None
            if 0.0 < price <= LARGEST_PRICE:
                return price
            return _unusual_price(name, price)
        number = _number(name, value)
    else:
        number = value
    if type(number) is int:
        return _integer_price(name, number)
    if type(number) is float:
        return number if 0.0 < number <= LARGEST_PRICE else _unusual_price(name, number)
    if number is None:
        return None
    raise DataError(f"{name} is {value!r}: not a price", "price")


def _integer_price(name: str, units: int) -> float | None:
    if units in (0, UNDEFINED_PRICE):
        return None
    if 0 < units < SMALLEST_INTEGER_PRICE:
        raise DataError(
            f"{name} is {units}: an integer price is in 1e-9 dollars, so this is below $0.0001; "
            f"write {units}.0 for dollars",
            "price",
        )
    if not 0 < units <= LARGEST_PRICE * 1e9:
        raise DataError(f"{name} is {str(units)[:30]}: an integer price is in 1e-9 dollars, above 0", "price")
    return units / 1e9


def _unusual_price(name: str, price: float) -> float | None:
    if math.isnan(price) or price == 0.0:
        return None
    raise DataError(f"{name} is {price!r}: a price is above 0 and at most {LARGEST_PRICE:g} dollars", "price")


def size_of(name: str, value: Any) -> int:
    """Displayed shares; 0 where none are shown."""
    if type(value) is str:
        value = int(value) if value.isdecimal() and value.isascii() and len(value) < 16 else _number(name, value)
    if type(value) is float:
        if math.isnan(value):
            return 0
        if not value.is_integer():
            raise DataError(f"{name} is {value!r}: a size is a whole number of shares", "size")
        value = int(value)
    if value is None or (type(value) is int and (value <= 0 or value == UNDEFINED_SIZE)):
        return 0
    if type(value) is not int or value > LARGEST_SIZE:
        raise DataError(
            f"{name} is {str(value)[:60]}: a size is a whole number of shares, at most {LARGEST_SIZE}", "size"
        )
    return value


def integer_of(name: str, value: Any, high: int) -> int:
    """A whole number from 0 to ``high``."""
    if type(value) is str:
        value = int(value) if value.isdecimal() and value.isascii() and len(value) < 21 else _number(name, value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= high:
        raise DataError(f"{name} is {str(value)[:60]!r}: it must be a whole number from 0 to {high}", "number")
    return value


def _number(name: str, text: str) -> int | float | None:
    """A number spelled in an unusual way, None where the text says that there is none."""
    text = text.strip()
    if text.lower() in ABSENT:
        return None
    try:
        if "_" in text or len(text) > 40 or not text.isascii():
            raise ValueError
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        raise DataError(f"{name} is {text[:60]!r}: not a number", "number") from None


def time_of(name: str, value: Any) -> int:
    """Nanoseconds since the epoch, UTC, from an ISO 8601 text (no zone: UTC) or an integer of nanoseconds."""
    if type(value) is str:
        if len(value) == 30 and value[19] == "." and value[29] == "Z":  # as Databento writes it
            digits = value[17:19] + value[20:29]
            if digits.isdecimal() and digits.isascii() and digits < "6":
                return _in_range(name, value, _minute(name, value[:17]) * 10**9 + int(digits))
        if value.isdecimal() and value.isascii() and len(value) < 21:
            value = int(value)
        else:
            return _iso_time(name, value)
    if type(value) is not int or not 0 < value < LARGEST_TIME:
        raise _no_time(name, str(value))
    return value


def _iso_time(name: str, text: str) -> int:
    tail = _TAIL.fullmatch(text, 19)
    if tail is None:
        raise _no_time(name, text)
    fraction, sign, hours, minutes = tail.groups()
    time = _seconds(name, text[:19]) * 10**9
    if fraction:
        time += int(fraction.ljust(9, "0"))
    if sign:
        offset = (int(hours) * 60 + int(minutes)) * 60 * 10**9
        time += offset if sign == "-" else -offset
    return _in_range(name, text, time)


def _in_range(name: str, text: str, time: int) -> int:
    if not 0 < time < LARGEST_TIME:
        raise _no_time(name, text)
    return time


def _no_time(name: str, text: str) -> DataError:
    return DataError(
        f"{name} is {text[:60]!r}: it must be an ISO 8601 time or an integer of nanoseconds, within 1970 and 2262",
        "time",
    )


@lru_cache(maxsize=1024)  # a day has 390 minutes of trading
def _minute(name: str, text: str) -> int:
    """Seconds since the epoch at the start of a minute, from ``2024-08-01T13:36:``."""
    return _seconds(name, text + "00")


def _seconds(name: str, text: str) -> int:
    try:
        if _HEAD.fullmatch(text) is None:
            raise ValueError
        return timegm(datetime.fromisoformat(text).timetuple())
    except ValueError:
        raise _no_time(name, text) from None


def iso_of(time: int) -> str:
    """ISO 8601 text of a time in nanoseconds, all nine digits kept: 2024-08-01T13:36:32.491911683Z."""
    minute, rest = divmod(time, 60 * 10**9)
    digits = str(rest + 10**11)  # faster than to ask for eleven digits
    return f"{_calendar(minute)}{digits[1:3]}.{digits[3:]}Z"


@lru_cache(maxsize=1024)
def _calendar(minute: int) -> str:
    return datetime.fromtimestamp(60 * minute, timezone.utc).isoformat()[:17]


def symbol_of(value: Any) -> str:
    if type(value) is not str or not value or len(value) > 64 or not value.isprintable():
        raise DataError(f"symbol is {str(value)[:80]!r}: it must be a printable text of 1 to 64 characters", "symbol")
    return value
