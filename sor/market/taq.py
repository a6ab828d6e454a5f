"""US TAQ as WRDS writes it: CSV of quotes by exchange, and of trades in a file of their own.

What is taken from it, and what it cannot tell, stands in docs/formats.md. Codes were looked up in public sources, which
stand beside each table; NYSE's own specification of Daily TAQ could not be read.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sor.errors import DataError, InputError, LeftOut
from sor.market.fields import LARGEST_SIZE, LARGEST_TIME, NOT_FIRM, dollars_of, integer_of, size_of, symbol_of
from sor.market.table import Table, names_of
from sor.market.update import BookUpdate, Level, trade_of
from sor.market.venues import VenueDirectory

ROW = ("date", "time_m", "ex", "sym_root", "sym_suffix")
QUOTES = (*ROW, "bid", "bidsiz", "ask", "asksiz", "qu_cond")
TRADES = (*ROW, "tr_scond", "size", "price", "tr_corr")
KNOWN = 50_000  # symbols with exchanges remembered, as they are spelled

# Letters of the participants of CTA and UTP. From the list of exchanges that Massive (formerly Polygon) gives out at
# api.massive.com/v3/reference/exchanges; Q for Nasdaq, and all others but F and G, from Alpaca's list in
# github.com/alpacahq/user-docs (market-data/alpaca-data-api-v2). PSX is XPHL there; the venue directory has its
# segment's own MIC.
EXCHANGES = {
    "A": "XASE",
    "B": "XBOS",
    "C": "XCIS",
    "F": "TXSE",
    "G": "24EQ",
    "H": "EPRL",
    "I": "XISE",
    "J": "EDGA",
    "K": "EDGX",
    "L": "LTSE",
    "M": "XCHI",
    "N": "XNYS",
    "P": "ARCX",
    "Q": "XNAS",
    "T": "XNAS",
    "U": "MEMX",
    "V": "IEXG",
    "W": "CBSX",
    "X": "XPSX",
    "Y": "BATY",
    "Z": "BATS",
}
FINRA = "D"  # trades that were reported to FINRA: no venue shows them before they happen
OFF_EXCHANGE = 9002  # their publisher: a number that Databento does not use
PROCESSORS = {"E": "UTP's", "S": "CTA's"}  # letters of the processors themselves, from Massive's list

# What one unit of bidsiz and asksiz is, in shares, from a day on (the latest first). Since 2025-11-03 the processors
# send shares, rounded down to the round lot of the stock (dxfeed.com/support-for-round-lot-changes); before that,
# numbers of round lots, taken for 100 shares. That TAQ's files changed with them on that day was not verified.
SIZE_UNITS = (("20251103", 1), ("", 100))

# Quote conditions, from NYSE's page on Daily TAQ (nyxdata.com/data-products/daily-taq) as public course notes quote it;
# 4 and UTP's F, U, X and Y from Alpaca's list, which refers to the specifications of CQS and UQDF. Firm are those that
# count for the national best: UTP's own list says so of A, B, H, O, R and Y (barchart.com/solutions/client,
# ddfplus_feedspecs_uqdf_quotecondition.txt), the filters of Holden and Jacobsen (2014) of A, B, H, O, R and W.
FIRM = {
    "": "no condition",
    "A": "slow or manual offer",
    "B": "slow or manual bid",
    "H": "slow or manual on both sides",
    "O": "opening quote",
    "R": "regular",
    "W": "slow on both sides, from a set list",
    "Y": "regular, one-sided",
}
WITHDRAWN = {
    "C": "closing",
    "D": "news dissemination",
    "E": "slow bid at a liquidity replenishment point or gap quote",
    "F": "the same of the offer; UTP: fast trading, at best efforts",
    "G": "trading range indication",
    "I": "order imbalance",
    "J": "news dissemination of a related security",
    "K": "news pending of a related security",
    "L": "closed",
    "M": "additional information",
    "N": "non-firm",
    "P": "news pending",
    "Q": "additional information on a related security",
    "S": "due to a related security",
    "T": "resume",
    "U": "as E and F on both sides; UTP: manual and non-firm",
    "V": "in view of the common stock",
    "X": "equipment changeover; UTP: order influx",
    "Z": "no open, no resume",
    "4": "on-demand intraday auction",
}
CANCELLED = "B"  # in the column qu_cancel, which many extracts leave out; Holden and Jacobsen take these out, too

# Sale conditions, from Alpaca's lists of CTS and UTDF (as above), which refer to the processors' specifications; J from
# NYSE's page on TAQ (nysetechnologies.nyx.com/en/Data-Products/taq-web). These are trades at the venue, when they say:
# regular, automatic, sweep, odd lot, split, extended hours, yellow flag, stopped stock, 611 exempt;
TRADED = frozenset(" @EFISTY18")
# and these are not: somewhere else, at another time, at a price made otherwise, or no trade at all.
LEFT_OUT = {
    "A": "special",  # acquisition
    "B": "average_price",  # UTP: several trades bunched into one print
    "C": "settlement",  # cash, the same day
    "D": "special",  # distribution
    "G": "out_of_sequence",  # bunched and sold
    "H": "price_variation",
    "J": "block",  # NYSE's rule 127
    "K": "block",  # rules 127 (NYSE) and 155 (American)
    "L": "late",  # sold last
    "M": "official_price",  # of the close: repeats a trade
    "N": "settlement",  # next day
    "O": "auction",  # opening
    "P": "late",  # at a price of earlier
    "Q": "official_price",  # of the open
    "R": "settlement",  # seller's option
    "U": "out_of_sequence",  # in extended hours
    "V": "contingent",
    "W": "average_price",
    "X": "cross",
    "Z": "out_of_sequence",
    "4": "derivative",
    "5": "auction",  # reopening
    "6": "auction",  # closing
    "7": "contingent",  # qualified
    "9": "official_price",  # a close that the listing market corrects
}

# Correction indicators, as Polygon documented them (in QuantConnect Lean, ToolBox/Polygon, beside NYSE's page on TAQ):
# a row 01 has the time of the trade and its corrected data, so that it is the trade; 12 repeats what was wrong.
GOOD = ("00", "01")
CORRECTIONS = {
    "07": "error",  # marked as erroneous later
    "08": "cancelled",  # later
    "10": "cancel_record",
    "11": "error_record",
    "12": "correction_record",
}

_DAY = re.compile(r"(\d{4})(-?)(\d\d)\2(\d\d)", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}:\d\d):([0-5]\d)(?:\.(\d{1,9}))?", re.ASCII)


def is_taq(header: bytes) -> bool:
    """Whether a first line is that of quotes or trades of TAQ."""
    return {"time_m", "ex", "sym_root"} <= set(names_of(header))


def decoder(header: bytes, directory: VenueDirectory, *, events: bool = False) -> TaqQuotes | TaqTrades:
    """The decoder of the rows below a first line.

    Parameters
    ----------
    header : bytes
    directory : VenueDirectory
        Has the publisher of each MIC.
    events : bool
        Decode trades as what has happened; without it they are checked, and change nothing.

    Raises
    ------
    DataError
        A column is missing or stands twice.
    InputError
        This machine has no time zone data.
    """
    new_york()
    if {"price", "tr_corr", "tr_scond"} & set(names_of(header)):
        return TaqTrades(header, directory, events=events)
    return TaqQuotes(header, directory)


class _Rows:
    """What quotes and trades have in common: when, where and of what."""

    def __init__(self, header: bytes, required: tuple[str, ...], what: str, directory: VenueDirectory) -> None:
        self.table = Table(header, required, what)
        self._at = [self.table.place[name] for name in required]
        self._nanos = self.table.place.get("time_m_nano")  # within the microsecond; WRDS has it since 2018
        self._directory = directory
        self._known: dict[tuple[str, str, str], tuple[str, int]] = {}  # symbol and publisher

    def learn(self, rows: list[bytes]) -> None:
        """Nothing: prices are dollars, and the header says the rest."""

    def _whose(self, exchange: str, root: str, suffix: str) -> tuple[str, int]:
        spelled = exchange, root, suffix
        found = self._known.get(spelled)
        if found is None:
            root, suffix = root.strip(), suffix.strip()
            found = symbol_of(f"{root}.{suffix}" if root and suffix else root), self._publisher(exchange.strip())
            if len(self._known) < KNOWN:
                self._known[spelled] = found
        return found

    def _publisher(self, exchange: str) -> int:
        if exchange == FINRA:
            return OFF_EXCHANGE
        if exchange in PROCESSORS:
            raise DataError(f"ex is {exchange}: {PROCESSORS[exchange]} own prices, of no venue", "exchange")
        if exchange not in EXCHANGES:
            letters = ", ".join(sorted((*EXCHANGES, FINRA)))
            raise DataError(f"ex is {exchange[:20]!r}: it must be one of {letters}", "exchange")
        try:
            return self._directory.publisher_of(EXCHANGES[exchange])
        except InputError as error:
            raise DataError(f"ex is {exchange}: {error}", "exchange") from None

    def _time(self, cells: list[str], day: str, clock: str) -> int:
        nanos = "" if self._nanos is None else cells[self._nanos]
        return time_in_new_york(day, clock, integer_of("time_m_nano", nanos, 999) if nanos.strip() else 0)


class TaqQuotes(_Rows):
    """Quotes: each replaces what its exchange showed before; one that is not firm shows nothing."""

    def __init__(self, header: bytes, directory: VenueDirectory) -> None:
        super().__init__(header, QUOTES, "TAQ of quotes", directory)
        self._cancel = self.table.place.get("qu_cancel")

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one row.

        Raises
        ------
        LeftOut
            FINRA's alternative display facility: no venue that orders are routed to.
        DataError
        """
        cells = self.table.cells(raw)
        day, clock, exchange, root, suffix, bid, bid_size, ask, ask_size, condition = [cells[at] for at in self._at]
        symbol, publisher = self._whose(exchange, root, suffix)
        time = self._time(cells, day, clock)
        unit = unit_of_sizes(day)
        bids, asks = _level("bid", bid, bid_size, unit), _level("ask", ask, ask_size, unit)
        if publisher == OFF_EXCHANGE:
            raise LeftOut(f"ex is {FINRA}: a quote of FINRA's display facility", "off_exchange")
        if self._is_firm(condition.strip(), cells):
            return BookUpdate(symbol, publisher, time, None, [bids], [asks])
        return BookUpdate(symbol, publisher, time, None, [None], [None], None, NOT_FIRM)

    def _is_firm(self, condition: str, cells: list[str]) -> bool:
        if condition not in FIRM and condition not in WITHDRAWN:
            raise DataError(f"qu_cond is {condition[:20]!r}: no quote condition of CTA or UTP", "condition")
        return condition in FIRM and (self._cancel is None or cells[self._cancel].strip() != CANCELLED)


class TaqTrades(_Rows):
    """Trades: each is an event of its exchange, whose quote stands as it was."""

    def __init__(self, header: bytes, directory: VenueDirectory, *, events: bool = False) -> None:
        super().__init__(header, TRADES, "TAQ of trades", directory)
        self._events = events

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one row.

        Raises
        ------
        LeftOut
            No trade at the venue when the row says: late, auctioned, cancelled and so on; the reason says which.
        DataError
        """
        cells = self.table.cells(raw)
        day, clock, exchange, root, suffix, condition, size, price, correction = [cells[at] for at in self._at]
        symbol, publisher = self._whose(exchange, root, suffix)
        time = self._time(cells, day, clock)
        _check_correction(correction.strip())
        _check_condition(condition)
        trade = trade_of("N", dollars_of("price", price), size_of("size", size))
        return BookUpdate(symbol, publisher, time, None, None, None, trade if self._events else None)


def _check_correction(code: str) -> None:
    code = code and code.zfill(2)  # what was a number on the way has lost its 0
    if code in GOOD:
        return
    if code in CORRECTIONS:
        raise LeftOut(f"tr_corr is {code}: {CORRECTIONS[code]}", CORRECTIONS[code])
    raise DataError(f"tr_corr is {code[:20]!r}: it must be one of {', '.join((*GOOD, *CORRECTIONS))}", "correction")


def _check_condition(codes: str) -> None:
    """Of several reasons to leave a row out the first one counts."""
    if len(codes) <= 4 and TRADED.issuperset(codes):  # as nearly always
        return
    unknown = [code for code in codes if code not in LEFT_OUT and code not in TRADED]
    if unknown or len(codes) > 4:
        raise DataError(f"tr_scond is {codes[:20]!r}: not up to four sale conditions of CTA or UTP", "condition")
    reason = next(LEFT_OUT[code] for code in codes if code in LEFT_OUT)
    raise LeftOut(f"tr_scond is {codes!r}: {reason}", reason)


def _level(side: str, price: str, size: str, unit: int) -> Level | None:
    dollars, shares = dollars_of(side, price), unit * size_of(f"{side}siz", size)
    if shares > LARGEST_SIZE:
        raise DataError(f"{side}siz is {size[:60]}: {shares} shares, above {LARGEST_SIZE}", "size")
    return None if dollars is None or not shares else (dollars, shares)


def unit_of_sizes(day: str) -> int:
    """Shares that one unit of a quote's size is on a day, ``2018-01-02`` or ``20180102``."""
    digits = day.strip().replace("-", "")
    return next(unit for since, unit in SIZE_UNITS if digits >= since)


# --- New York time ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def new_york() -> ZoneInfo:
    try:
        return ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError:
        raise InputError("TAQ has New York time, and this machine has no time zone data: pip install tzdata") from None


def time_in_new_york(day: str, clock: str, nanos: int = 0) -> int:
    """Nanoseconds since the epoch, UTC.

    Parameters
    ----------
    day : str
        ``2018-01-02`` or ``20180102``.
    clock : str
        ``9:30:00`` with at most nine decimals.
    nanos : int
        What comes on top where the decimals end at microseconds.

    Raises
    ------
    DataError
        No such day or time, or an hour that New York has twice or not at all as its clocks change. That is between 1
        and 3 on a Sunday morning, when nobody trades.
    """
    match = _CLOCK.fullmatch(clock.strip())
    if match is None:
        raise _no_time(day, clock)
    fraction = match[3] or ""
    time = (_minute(day.strip(), match[1]) + int(match[2])) * 10**9 + int(fraction.ljust(9, "0"))
    return time if len(fraction) > 6 else time + nanos


@lru_cache(maxsize=1024)  # a day has 390 minutes of trading
def _minute(day: str, clock: str) -> int:
    """Seconds since the epoch at the start of a minute, ``9:30``."""
    match = _DAY.fullmatch(day)
    hour, minute = map(int, clock.split(":"))
    try:
        if match is None:
            raise ValueError
        local = datetime(int(match[1]), int(match[3]), int(match[4]), hour, minute, tzinfo=new_york())
        seconds = round(local.timestamp())
    except (ValueError, OverflowError):
        raise _no_time(day, clock) from None
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        raise _no_time(day, clock, ": New York has this hour twice or not at all, as its clocks change")
    if not 0 < seconds < LARGEST_TIME // 10**9 - 60:
        raise _no_time(day, clock, ": not within 1970 and 2262")
    return seconds


def _no_time(day: str, clock: str, why: str = "") -> DataError:
    wanted = "date and time_m must be as 2018-01-02 (or 20180102) and 9:30:00 with at most nine decimals"
    return DataError(f"date is {day[:20]!r} and time_m {clock[:30]!r}{why or ': ' + wanted}", "time")
