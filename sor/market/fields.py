"""What Databento's columns hold: two spellings of every number, record types, and flags.

A price spelled as an integer is in 1e-9 dollars, whether it stands in a CSV cell or in JSON; one with a point or
an exponent is in dollars. A price is absent where it is empty, null, NaN, zero or Databento's undefined value,
and a size where it is empty, null, NaN, zero, negative or undefined: then the level shows nothing.

One value alone cannot say which it is where dollars are written without a point (742000 beside 742100.25), so a file
has one unit and a message has one: whatever contradicts it is refused (`unit_of`, `one_unit`).
"""

from __future__ import annotations

import math
import re
from calendar import timegm
from collections.abc import Iterable
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sor.errors import DataError

UNDEFINED_PRICE = 2**63 - 1
EXACT_UNITS = 2**51  # 1e-9 dollars; of a smaller price each unit is a double of its own
UNDEFINED_SIZE = 2**32 - 1
UNDEFINED_TIME = 2**64 - 1
SMALLEST_INTEGER_PRICE = 100_000  # $0.0001, the finest tick: a smaller integer was meant as dollars
LARGEST_PRICE = 1e9  # dollars
LARGEST_SIZE = 10**12  # shares
SMALLEST_INTEGER_TIME = 631_152_000 * 10**9  # 1990: a smaller integer was meant as seconds, milli- or microseconds
LARGEST_TIME = 2**63 - 1
ABSENT = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>"})
NO_TIME = ABSENT | {"nat", str(UNDEFINED_TIME)}

DOLLARS, UNITS = "dollars", "integers of 1e-9 dollars"  # how prices are spelled

SCHEMAS = {  # by record type; those that are one venue's book need no words
    0: "trades",
    17: "ohlcv",
    18: "status",
    19: "definition",
    20: "imbalance",
    21: "error",
    22: "symbol mapping",
    23: "system",
    24: "statistics",
    32: "ohlcv-1s",
    33: "ohlcv-1m",
    34: "ohlcv-1h",
    35: "ohlcv-1d",
    36: "ohlcv-eod",
    160: "mbo",
    177: "cmbp-1",
    178: "tcbbo",
    192: "cbbo-1s",
    193: "cbbo-1m",
    194: "tcbbo",
    195: "bbo-1s",
    196: "bbo-1m",
    197: "tbbo",
}
BOOKS = frozenset({1, 10})  # MBP-1 and MBP-10
CMBP_1 = 177  # consolidated quotes, one row a change
SIDE_PUBLISHERS = ("bid_pb_00", "ask_pb_00")  # columns of consolidated quotes: whose each side is
FEW_TRADES = 3  # of which a book feed may begin with nothing else
USE_INSTEAD = "MBP-1 or MBP-10 of each venue's own feed, or CMBP-1 of a consolidated one, is needed"

DOUBTS: dict[int, tuple[str, str]] = {  # flags that make a row doubtful, with their names
    4: ("F_MAYBE_BAD_BOOK", "this quote may be wrong"),
    8: ("F_BAD_TS_RECV", "its time of receipt is wrong"),
    256: ("NOT_FIRM", "this quote is not firm"),  # no flag of Databento's, which end at 128: see sor/market/taq.py
}
DOUBTFUL = sum(DOUBTS)
NOT_FIRM = 256

_TIME = re.compile(
    r"(?P<date>\d{4}(?P<dash>-?)\d\d(?P=dash)\d\d)[Tt ]"
    r"(?P<hour>\d\d)(?P<colon>:?)(?P<minute>\d\d)(?P=colon)(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
    r"(?:[Zz]|(?P<sign>[+\u2212-])(?P<off>[01]\d|2[0-3])(?::?(?P<minutes>[0-5]\d))?)?",
    re.ASCII,
)


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
    raise DataError(f"{name} is {str(value)[:60]!r}: not a price", "price")


def dollars_of(name: str, text: str) -> float | None:
    """Dollars per share, with a point or without one; None where no price is shown.

    For formats whose prices are dollars always: `price_of` takes an integer for 1e-9 dollars.
    """
    try:
        if "_" in text or not text.isascii():
            raise ValueError
        price = float(text)
    except ValueError:
        number = _number(name, text)  # a word for none, or an error
        if number is None:
            return None
        price = float(number)
    return price if 0.0 < price <= LARGEST_PRICE else _unusual_price(name, price)


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
    return units / 1_000_000_000  # of two integers, so rounded once


def _unusual_price(name: str, price: float) -> float | None:
    if math.isnan(price) or price == 0.0:
        return None
    raise DataError(f"{name} is {price!r}: a price is above 0 and at most {LARGEST_PRICE:g} dollars", "price")


def units_of(price: float) -> int:
    """A price that `price_of` gave, in whole 1e-9 dollars, at least one: of the shortest number that reads as it."""
    units = round(price * 1e9)
    return max(1, units) if units < EXACT_UNITS else int(Decimal(repr(price)).scaleb(9).to_integral_value())


def unit_of(prices: Iterable[Any]) -> str | None:
    """The unit that prices are spelled in, None where there are none: one with a point says it for all."""
    found = None
    for price in prices:
        unit = _spelling(price)
        if unit == DOLLARS:
            return unit
        found = found or unit
    return found


def one_unit(name: str, price: Any, unit: str | None, where: str) -> None:
    """Refuse a price that is spelled in another unit than its file or message.

    Raises
    ------
    DataError
    """
    if unit == DOLLARS and type(price) is str and "." in price:  # as nearly always
        return
    spelled = _spelling(price)
    if unit is not None and spelled not in (None, unit):
        raise DataError(
            f"{name} is {str(price)[:60]}, which would be {spelled}, and the prices of this {where} are {unit}"
            + (f": write {str(price)[:60]}.0 for dollars" if spelled == UNITS else ""),
            "price",
        )


def _spelling(price: Any) -> str | None:
    try:
        number = _number("", price) if type(price) is str else price
    except DataError:
        return None  # refused where it is decoded
    if type(number) is int:
        return None if number in (0, UNDEFINED_PRICE) else UNITS
    return None if type(number) is not float or math.isnan(number) or number == 0.0 else DOLLARS


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
                time = _minute(name, value[:17]) * 10**9 + int(digits)
                return time if 0 < time < LARGEST_TIME else _in_range(name, value, time)
        if not (value.isdecimal() and value.isascii() and len(value) < 21):
            return _in_range(name, value, _iso_time(name, value))
        value = int(value)
    if type(value) is not int or not SMALLEST_INTEGER_TIME <= value < LARGEST_TIME:
        raise _no_time(name, str(value), _unit_meant(value))
    return value


def receipt_of(name: str, value: Any) -> int:
    """As `time_of`; 0 where no time is told."""
    if value is None or value == UNDEFINED_TIME or (type(value) is float and math.isnan(value)):
        return 0
    if type(value) is str and len(value) != 30 and value.strip().lower() in NO_TIME:
        return 0
    return time_of(name, value)


def _unit_meant(value: Any) -> str:
    """What an integer that is too small to be nanoseconds looks like."""
    if type(value) is not int or not 0 < value < SMALLEST_INTEGER_TIME:
        return ""
    meant = "microseconds" if value >= 10**14 else "milliseconds" if value >= 10**11 else "seconds"
    return f" (an integer before 1990 is not taken for nanoseconds: are these {meant}?)"


def _iso_time(name: str, text: str) -> int:
    """Nanoseconds since the epoch, maybe before it."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise _no_time(name, text)
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if second == 60 or hour == 24:
        raise _no_time(name, text, " (not a leap second, and not the hour 24)")
    date = match["date"].replace("-", "")
    try:
        start = datetime(int(date[:4]), int(date[4:6]), int(date[6:]), hour, minute, second)
    except ValueError:
        raise _no_time(name, text) from None
    seconds = timegm(start.timetuple())
    if match["sign"]:
        offset = (int(match["off"]) * 60 + int(match["minutes"] or 0)) * 60
        seconds += -offset if match["sign"] == "+" else offset
    return seconds * 10**9 + int((match["fraction"] or "").ljust(9, "0"))


def _in_range(name: str, text: str, time: int) -> int:
    if not 0 < time < LARGEST_TIME:
        raise _no_time(name, text)
    return time


def _no_time(name: str, text: str, why: str = "") -> DataError:
    return DataError(
        f"{name} is {text[:60]!r}: it must be an ISO 8601 date and time to the second, with at most nine decimals, "
        f"or an integer of nanoseconds, within 1970 and 2262{why}",
        "time",
    )


@lru_cache(maxsize=1024)  # a day has 390 minutes of trading
def _minute(name: str, text: str) -> int:
    """Seconds since the epoch at the start of a minute, from ``2024-08-01T13:36:``."""
    return _iso_time(name, text + "00") // 10**9


def iso_of(time: int) -> str:
    """ISO 8601 text of a time in nanoseconds, all nine digits kept: 2024-08-01T13:36:32.491911683Z."""
    minute, rest = divmod(time, 60 * 10**9)
    digits = str(rest + 10**11)  # faster than to ask for eleven digits
    return f"{minute_text(minute)}{digits[1:3]}.{digits[3:]}Z"


@lru_cache(maxsize=1024)
def minute_text(minute: int) -> str:
    """A minute since the epoch, up to where its seconds stand: 2024-08-01T13:36:."""
    return datetime.fromtimestamp(60 * minute, timezone.utc).isoformat()[:17]


def symbol_of(value: Any) -> str:
    if type(value) is not str or not value or len(value) > 64 or not value.isprintable():
        if type(value) in (int, float):
            raise DataError(f'symbol is the number {str(value)[:60]}: it must be a text, in quotes ("...")', "symbol")
        raise DataError(f"symbol is {str(value)[:80]!r}: it must be a printable text of 1 to 64 characters", "symbol")
    return value


# --- what a row is ---------------------------------------------------------------------------------------------------


def check_schema(record_type: Any, names_sides: bool = False) -> None:
    """Refuse what is neither one venue's book nor CMBP-1.

    Parameters
    ----------
    record_type
        None or a blank text where a row does not say it: then it is one venue's book.
    names_sides : bool
        The row names the publisher of each side, as consolidated quotes do.

    Raises
    ------
    DataError
    """
    silent = record_type is None or (type(record_type) is str and not record_type.strip())
    number = None if silent else integer_of("rtype", record_type, 255)
    if number is not None and number not in BOOKS and number != CMBP_1:
        raise DataError(f"rtype is {number}, {SCHEMAS.get(number, 'of no known schema')}: {USE_INSTEAD}", "schema")
    if names_sides and number != CMBP_1:
        raise consolidated(" and ".join(SIDE_PUBLISHERS))
    if number == CMBP_1 and not names_sides:
        raise DataError(f"rtype is {CMBP_1}, cmbp-1, without {' and '.join(SIDE_PUBLISHERS)}", "schema")


def consolidated(where: str) -> DataError:
    """The refusal of quotes that name the publisher of each side, and do not say that they are CMBP-1."""
    return DataError(
        f"{where}: these are consolidated quotes, and of those (cmbp-1, cbbo-1s, cbbo-1m, tcbbo) only cmbp-1 tells of "
        f"each change, which rtype {CMBP_1} has to say: {USE_INSTEAD}",
        "schema",
    )


def side_publisher(name: str, value: Any, shown: bool) -> int:
    """Whose a side of consolidated quotes is; 0 where it shows nothing.

    Raises
    ------
    DataError
    """
    if not shown:
        return 0
    publisher = integer_of(name, value, 65535)
    if publisher == 0:
        raise DataError(f"{name} is 0: it is not told whose the side is", "publisher")
    return publisher


def check_trades_only(actions: Iterable[Any], schema: str = "tbbo") -> None:
    """Refuse TBBO, which is told from MBP-1 by its rows alone: each is a trade, with the quotes before it.

    Raises
    ------
    DataError
    """
    trades = 0
    for action in actions:
        if action != "T":
            return
        trades += 1
    if trades >= FEW_TRADES:
        raise DataError(
            f"each of the first {trades} rows is a trade (action T): this is {schema}, whose quotes are those "
            f"before a trade: {USE_INSTEAD}",
            "schema",
        )


def flags_of(value: Any) -> int:
    """The feed's flags, of which those of `DOUBTS` make a row doubtful; none where nothing is said."""
    return integer_of("flags", value, 255) if value not in (None, "") else 0
