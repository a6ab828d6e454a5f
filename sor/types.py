"""The vocabulary: what goes into a router, with a unit on every number."""

from __future__ import annotations

import enum
import math
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from sor.errors import InputError

Side = Literal["buy", "sell"]
Algorithm = Literal["brute_force", "greedy_l2", "cont_kukanov"]
Objective = Literal["sweep", "shortfall", "notional"]
Protect = Literal["none", "nbbo"]
MarketState = Literal["normal", "locked", "crossed", "one_sided", "empty"]
Status = Literal["ok", "empty", "stale", "excluded", "over_limit", "crossed", "unknown_fee"]

SIDES: tuple[Side, ...] = ("buy", "sell")
ALGORITHMS: tuple[Algorithm, ...] = ("brute_force", "greedy_l2", "cont_kukanov")
STATUSES: tuple[Status, ...] = ("ok", "empty", "stale", "excluded", "over_limit", "crossed", "unknown_fee")
MARKET_STATES: tuple[MarketState, ...] = ("normal", "locked", "crossed", "one_sided", "empty")
USABLE: frozenset[Status] = frozenset(("ok", "unknown_fee"))
PROTECTS: tuple[Protect, ...] = ("none", "nbbo")
OBJECTIVES: tuple[Objective, ...] = ("sweep", "shortfall", "notional")


class Warnings(enum.IntFlag):
    """What a result warns of, as bits of a column; `sor.RoutingResult` has the same in words."""

    CROSSED = 1
    LOCKED = 2
    NOTHING = 4  # no venue shows anything usable on the side that is taken
    DOUBTED = 8  # the feed itself doubts a quote
    NO_MID = 16  # objective shortfall, and a side of the market shows nothing
    IDLE = 32  # with these penalties not trading is cheaper than trading at any venue
    RULES = 64  # displayed shares that the order wants are not taken, as venues' rules leave no way
    UNPROVEN = 128  # the split keeps all rules, and is not proven to be the cheapest that does
    TRADED_THROUGH = 256  # a better protected quotation that may not be sent for
    UNPROTECTED = 512  # protection was asked for, and by the policy there is none at this time


DOLLARS = "USD"
MAX_ORDER = 2**53  # shares; whole numbers beyond it are not exact in a double
LONGEST_NUMBER = 60  # characters
LONGEST_SHOWN = 500  # characters of a wrong value in a message
MOST_LOTS = 10**15  # of any instrument: a quantity of fifteen digits is a double that is written with these digits
SMALLEST_LOT, LARGEST_LOT = Decimal("0.000000001"), Decimal(1_000_000)
EXACT = Context(prec=2 * LONGEST_NUMBER, traps=[Inexact, InvalidOperation, Overflow])  # a result that is not: an error
MAX_NUMBER = 1e12  # bound on prices, sizes, fees and penalties: sums of their products stay far from overflow


# --- checks ----------------------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    """For people, in one line; of a number of thousands of digits Python makes no text."""
    try:
        text = " ".join(repr(value).split("\n"))
    except ValueError:
        return f"{type(value).__name__} of very many digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _is_number(value: Any) -> bool:
    """Whether a caller meant one. Python would convert more: text, bool, arrays, masked, complex and times of numpy."""
    kind = type(value)
    if kind is bool or not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
        return False
    dtype_kind = getattr(getattr(value, "dtype", None), "kind", "f")  # numpy's, which is not imported for this
    return dtype_kind in ("i", "u", "f") and not getattr(value, "ndim", 0) and not hasattr(value, "mask")


def whole_number(name: str, value: Any, low: int, high: int = MAX_ORDER) -> int:
    """``value`` as an int within [low, high]; a float or numpy number will do where it is whole."""
    if type(value) is int and low <= value <= high:
        return value
    try:
        if not _is_number(value):
            raise ValueError
        number = int(value)
        if number != value or not low <= number <= high:
            raise ValueError
    except (TypeError, ArithmeticError, ValueError):
        raise InputError(f"{name} is {_shown(value)}: it must be a whole number from {low} to {high}") from None
    return number


def real_number(name: str, value: Any, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
    """``value`` as a finite float within [low, high]."""
    if type(value) is float and low <= value <= high:
        return value
    try:
        if not _is_number(value):
            raise ValueError
        number = float(value)
        if not low <= number <= high:
            raise ValueError
    except (TypeError, ArithmeticError, ValueError):
        raise InputError(f"{name} is {_shown(value)}: it must be a number from {low:g} to {high:g}") from None
    return number


def text(name: str, value: Any, *, empty: bool = False) -> str:
    """``value`` as a str that can be written as UTF-8; a text of a kind of its own, such as numpy's, will do."""
    if type(value) is str and value and value.isascii():
        return value
    try:
        if not isinstance(value, str) or not (value or empty):
            raise ValueError
        value.encode()
    except ValueError:
        raise InputError(f"{name} is {_shown(value)}: it must be a {'' if empty else 'non-empty '}string") from None
    return str.__str__(value)


def truth(name: str, value: Any) -> bool:
    """``value`` where it is True or False; other things that count as either were meant otherwise."""
    if value is True or value is False:
        return value is True
    raise InputError(f"{name} is {_shown(value)}: it must be True or False")


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if isinstance(value, str) and value in choices:
        return choices[choices.index(value)]  # also for a text of a kind of its own
    raise InputError(f"{name} is {_shown(value)}: it must be one of {', '.join(choices)}")


def exact_number(name: str, value: Any) -> Decimal:
    """``value`` as the decimal that it is written as: a float as its shortest text, a text digit for digit."""
    try:
        if isinstance(value, str):
            if "_" in value or not value.isascii() or len(value) > LONGEST_NUMBER:
                raise ValueError
            number = Decimal(value)
        elif not _is_number(value):
            raise ValueError
        elif isinstance(value, int | Decimal):
            number = Decimal(value)
        else:
            number = Decimal(repr(float(value)))
        if not number.is_finite():
            raise ValueError
    except (TypeError, ArithmeticError, ValueError):
        raise InputError(f"{name} is {_as_written(value)}: it must be a number") from None
    return number


def _as_written(value: Any) -> str:
    """For people; of a decimal its digits, as they stand in a file."""
    return str(value)[:LONGEST_SHOWN] if isinstance(value, Decimal) else _shown(value)


# --- input -----------------------------------------------------------------------------------------------------------


class VenueRules(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """What a venue lets one send to it. Each is optional, and without any a venue takes what is displayed.

    Parameters
    ----------
    lot : int
        Orders are multiples of it, shares.
    min_quantity : int
        An order is at least so many shares, or none is sent.
    min_notional : float
        An order is worth at least so many dollars at true prices, or none is sent.
    min_execution : int
        So many shares are filled at once, or none: where fewer are displayed none is sent.
    max_quantity : int, optional
        An order is at most so many shares.
    ticket : float
        Dollars for each order sent.
    fee_bps, rebate_bps : float
        Parts of the price, without its sign, beside ``fee`` and ``rebate``: hundredths of a percent.
    tick : float, optional
        Prices of limit orders are multiples of it; who takes what is displayed does not ask.
    """

    lot: int = 1
    min_quantity: int = 0
    min_notional: float = 0.0
    min_execution: int = 0
    max_quantity: int | None = None
    ticket: float = 0.0
    fee_bps: float = 0.0
    rebate_bps: float = 0.0
    tick: float | None = None


PARTS = 10_000.0  # basis points of a whole
_NEUTRAL = VenueRules()


def rules_of(where: str, venue: Any) -> tuple[tuple[float, ...], float]:
    """The rules of a venue as the kernels take them, and its rebate in basis points; a tick is only looked at.

    Raises
    ------
    InputError
        One is not what it may be; ``where`` says of which venue.
    """

    def given(name: str) -> tuple[str, Any]:
        return f"{where}.{name}", getattr(venue, name, getattr(_NEUTRAL, name))

    name, most = given("max_quantity")
    row = (
        float(whole_number(*given("lot"), 1)),
        float(whole_number(*given("min_quantity"), 0)),
        real_number(*given("min_notional"), 0.0),
        float(whole_number(*given("min_execution"), 0)),
        math.inf if most is None else float(whole_number(name, most, 0)),
        real_number(*given("ticket"), 0.0),
        real_number(*given("fee_bps"), -PARTS, PARTS),
    )
    name, tick = given("tick")
    if tick is not None:
        real_number(name, tick, math.ulp(0.0))
    return row, real_number(*given("rebate_bps"), -PARTS, PARTS)


class Venue(VenueRules, frozen=True, gc=False, repr_omit_defaults=True):
    """One venue's best quote on the side that is taken.

    Parameters
    ----------
    ask : float
        Price, dollars per share (for a sell: minus the bid).
    ask_size : float
        Displayed size, shares.
    fee : float
        Paid by the taker, dollars per share; negative where the venue pays the taker.
    rebate : float
        Received by the maker, dollars per share; negative where the maker pays.
    **rules
        By keyword: those of `VenueRules`.
    """

    ask: float
    ask_size: float
    fee: float
    rebate: float


class Level2Venue(VenueRules, frozen=True, repr_omit_defaults=True):
    """One venue's displayed levels on the side that is taken.

    Parameters
    ----------
    venue_id : str
    levels : sequence of (price, size)
        Dollars per share and shares, in any order.
    fee, rebate : float
        As for `Venue`.
    **rules
        By keyword: those of `VenueRules`. The levels share the venue's smallest order, ticket and lots.
    """

    venue_id: str
    levels: Any
    fee: float
    rebate: float


class Instrument(msgspec.Struct, frozen=True, dict=True):
    """What a symbol is traded in, where that is not whole shares for dollars.

    Quantities in whole lots are exact. A number may be a decimal, a text, an int or a float, which stands for its
    shortest text.

    Parameters
    ----------
    lot : Decimal
        The smallest quantity, such as 0.0001 coin: from 1e-9 to 10^6, and it or 1 / lot is whole.
    tick : Decimal, optional
        Prices are multiples of it; told, and a rule for orders that rest in a backtest.
    round_lot : Decimal, optional
        What is usually traded, a multiple of the lot: the grid of the split, in place of the step of `CostParameters`.
    currency : str
        Of prices, fees and penalties: two to ten upper-case letters or digits.

    Raises
    ------
    InputError
        Where a value is not what it may be.
    """

    lot: Decimal = Decimal(1)
    tick: Decimal | None = None
    round_lot: Decimal | None = None
    currency: str = DOLLARS

    def __post_init__(self) -> None:
        lot = exact_number("lot", self.lot)
        if not SMALLEST_LOT <= lot <= LARGEST_LOT or 1 not in Fraction(lot).as_integer_ratio():
            raise InputError(f"lot is {lot}: it must be from 0.000000001 to 1000000, and it or 1 / lot whole")
        force_setattr(self, "lot", lot)
        if self.tick is not None:
            tick = exact_number("tick", self.tick)
            if not 0 < tick <= LARGEST_LOT:
                raise InputError(f"tick is {tick}: it must be above 0, and at most 1000000")
            force_setattr(self, "tick", tick)
        if self.round_lot is not None:
            self.lots("round_lot", self.round_lot, 1)
            force_setattr(self, "round_lot", exact_number("round_lot", self.round_lot))
        name = text("currency", self.currency)
        if not (2 <= len(name) <= 10 and name.isascii() and name.isalnum() and name == name.upper()):
            raise InputError(f"currency is {_shown(name)}: it must be two to ten upper-case letters or digits")

    @cached_property
    def ratio(self) -> tuple[int, int]:
        """The lot as a fraction: units a lot, and lots a unit, of which one is 1."""
        return Fraction(self.lot).as_integer_ratio()

    @cached_property
    def most(self) -> int:
        """The largest number of lots: a quantity has fifteen digits at most, with the decimals of its lot."""
        decimals = max(0, -int(self.lot.normalize().as_tuple().exponent))
        return MOST_LOTS // int(self.lot.scaleb(decimals))

    def lots(self, name: str, value: Any, low: int = 0) -> int:
        """A quantity in lots.

        Raises
        ------
        InputError
            It is no number, no multiple of the lot, or not from ``low`` to `most` lots; ``name`` says what it is.
        """
        units, lots = self.ratio
        if type(value) is int and units == 1 and low <= value * lots <= self.most:
            return value * lots
        exact = exact_number(name, value)
        try:
            number = EXACT.multiply(exact, lots) if units == 1 else EXACT.divide(exact, units)
            if low <= number <= self.most and number == int(number):
                return int(number)
        except ArithmeticError:  # a number of more digits than any multiple has
            pass
        lot, least, most = (format((count * self.lot).normalize(), "f") for count in (1, low, self.most))
        given = _as_written(value)
        raise InputError(f"{name} is {given}: it must be a multiple of the lot {lot}, from {least} to {most}")

    def quantity(self, lots: float) -> int | float:
        """What so many lots are outside: an int where a lot is whole, else the float next to the exact decimal."""
        units, lots_a_unit = self.ratio
        return lots * units if lots_a_unit == 1 else lots / lots_a_unit

    def grid(self, step: float) -> int:
        """The grid of a split in lots: the round lot, or else ``step`` units, rounded up to whole lots."""
        units, lots = self.ratio
        if self.round_lot is not None:
            return self.lots("round_lot", self.round_lot)
        return min(-(-int(step) * lots // units), MAX_ORDER)


class Order(msgspec.Struct, frozen=True):
    """What is to be bought or sold.

    Parameters
    ----------
    symbol : str
    side : {"buy", "sell"}
    quantity : int or float
        Shares, at least 1. With an instrument a multiple of its lot, such as 0.0137.
    limit_price : float, optional
        Dollars per share, inclusive, fees not counted: worse quotes are left alone.
    id, parent_id : str, optional
        Copied into the result.
    instrument : Instrument, optional
        That of the book that it is routed on.

    Raises
    ------
    InputError
        Where a value is not what it may be.
    """

    symbol: str
    side: Side
    quantity: int | float
    limit_price: float | None = None
    id: str | None = None
    parent_id: str | None = None
    instrument: Instrument | None = None

    def __post_init__(self) -> None:
        # Numpy's scalars and whole floats are welcome, but plain numbers and texts go on from here.
        # What is plain already stays as it is: an order is made for every message.
        if type(self.symbol) is not str or not self.symbol.isascii() or not self.symbol:
            force_setattr(self, "symbol", text("symbol", self.symbol))
        if type(self.side) is not str or self.side not in SIDES:
            force_setattr(self, "side", one_of("side", self.side, SIDES))
        if self.instrument is not None:
            force_setattr(self, "quantity", _quantity_of(self.instrument, self.quantity))
        elif type(self.quantity) is not int or not 1 <= self.quantity <= MAX_ORDER:
            force_setattr(self, "quantity", whole_number("quantity", self.quantity, 1))
        price = self.limit_price
        if price is not None and (type(price) is not float or not 0.0 < price <= MAX_NUMBER):
            force_setattr(self, "limit_price", real_number("limit_price", self.limit_price, math.ulp(0.0)))
        if self.id is not None and (type(self.id) is not str or not self.id.isascii()):
            force_setattr(self, "id", text("id", self.id, empty=True))
        if self.parent_id is not None and (type(self.parent_id) is not str or not self.parent_id.isascii()):
            force_setattr(self, "parent_id", text("parent_id", self.parent_id, empty=True))


def _quantity_of(instrument: Instrument, quantity: Any) -> int | float:
    if not isinstance(instrument, Instrument):
        raise InputError(f"instrument is {_shown(instrument)}: it must be an Instrument")
    return instrument.quantity(instrument.lots("quantity", quantity, 1))


class CostParameters(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Penalties of the static split (dollars per share) and its grid (shares).

    Raises
    ------
    InputError
        Where a penalty is not a finite number or the step is below 1.
    """

    lambda_over: Annotated[float, Meta(description="Penalty of overfill, dollars per share.")] = 0.01
    lambda_under: Annotated[float, Meta(description="Penalty of underfill, dollars per share.")] = 0.005
    theta_queue: Annotated[
        float, Meta(description="Penalty of underfill and of overfill alike, dollars per share.")
    ] = 0.002
    # A part of 1 only in the result of a symbol with an instrument, whose round lot stands in for it.
    step: Annotated[
        Annotated[int, Meta(ge=1)] | Annotated[float, Meta(gt=0)],
        Meta(description="Grid of the split, shares; no part in the objective sweep."),
    ] = 100

    def __post_init__(self) -> None:
        for name in ("lambda_over", "lambda_under", "theta_queue"):
            force_setattr(self, name, real_number(name, getattr(self, name)))
        force_setattr(self, "step", whole_number("step", self.step, 1))


# --- output ----------------------------------------------------------------------------------------------------------


class SplitAndCost(NamedTuple):
    """The two parts of an `Allocation`."""

    split: list[int]
    cost: float


class Allocation(SplitAndCost):
    """Shares per venue, in the venues' order, and the minimised cost in dollars: a pair of these two.

    Attributes
    ----------
    bound : float
        No split of as many shares costs less: the cost itself, but where ``proven`` is False.
    proven : bool
        Whether the split is known to be the optimum. It is, but for venue rules on a grid that is too fine.
    """

    _bound: float | None = None

    @property
    def bound(self) -> float:
        return self.cost if self._bound is None else self._bound

    @property
    def proven(self) -> bool:
        return self._bound is None
