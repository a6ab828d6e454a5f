"""The vocabulary: what goes into a router, with a unit on every number."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import force_setattr

from sor.errors import InputError

Side = Literal["buy", "sell"]
Algorithm = Literal["brute_force", "greedy_l2", "cont_kukanov"]
Objective = Literal["sweep", "shortfall", "notional"]
MarketState = Literal["normal", "locked", "crossed", "one_sided", "empty"]
Status = Literal["ok", "empty", "stale", "excluded", "over_limit", "crossed", "unknown_fee"]

SIDES: tuple[Side, ...] = ("buy", "sell")
ALGORITHMS: tuple[Algorithm, ...] = ("brute_force", "greedy_l2", "cont_kukanov")
STATUSES: tuple[Status, ...] = ("ok", "empty", "stale", "excluded", "over_limit", "crossed", "unknown_fee")
USABLE: frozenset[Status] = frozenset(("ok", "unknown_fee"))
OBJECTIVES: tuple[Objective, ...] = ("sweep", "shortfall", "notional")

MAX_ORDER = 2**53  # shares; whole numbers beyond it are not exact in a double
MAX_NUMBER = 1e12  # bound on prices, sizes, fees and penalties: sums of their products stay far from overflow


# --- checks ----------------------------------------------------------------------------------------------------------


def _is_no_number(value: Any) -> bool:
    """What Python would convert to a number, and a caller did not mean as one; numpy's bool goes by its name."""
    return isinstance(value, (str, bytes)) or type(value).__name__ in ("bool", "bool_")


def whole_number(name: str, value: Any, low: int, high: int = MAX_ORDER) -> int:
    """``value`` as an int within [low, high]; a float or numpy number will do where it is whole."""
    if type(value) is int and low <= value <= high:
        return value
    try:
        number = int(value)
        if _is_no_number(value) or number != value or not low <= number <= high:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is {value!r}: it must be a whole number from {low} to {high}") from None
    return number


def real_number(name: str, value: Any, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
    """``value`` as a finite float within [low, high]."""
    if type(value) is float and low <= value <= high:
        return value
    try:
        number = float(value)
        if _is_no_number(value) or not low <= number <= high:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is {value!r}: it must be a number from {low:g} to {high:g}") from None
    return number


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise InputError(f"{name} is {value!r}: it must be one of {', '.join(choices)}")
    return value


# --- input -----------------------------------------------------------------------------------------------------------


class Venue(msgspec.Struct, frozen=True, gc=False):
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
    """

    ask: float
    ask_size: float
    fee: float
    rebate: float


class Level2Venue(msgspec.Struct, frozen=True):
    """One venue's displayed levels on the side that is taken.

    Parameters
    ----------
    venue_id : str
    levels : sequence of (price, size)
        Dollars per share and shares, in any order.
    fee, rebate : float
        As for `Venue`.
    """

    venue_id: str
    levels: Any
    fee: float
    rebate: float


class Order(msgspec.Struct, frozen=True):
    """What is to be bought or sold.

    Parameters
    ----------
    symbol : str
    side : {"buy", "sell"}
    quantity : int
        Shares, at least 1.
    limit_price : float, optional
        Dollars per share, inclusive, fees not counted: worse quotes are left alone.
    id, parent_id : str, optional
        Copied into the result.

    Raises
    ------
    InputError
        Where a value is not what it may be.
    """

    symbol: str
    side: Side
    quantity: int
    limit_price: float | None = None
    id: str | None = None
    parent_id: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.symbol, str) or not self.symbol:
            raise InputError(f"symbol is {self.symbol!r}: it must be a non-empty string")
        one_of("side", self.side, SIDES)
        # numpy scalars and whole floats are welcome, but plain numbers go on from here.
        force_setattr(self, "quantity", whole_number("quantity", self.quantity, 1))
        if self.limit_price is not None:
            force_setattr(self, "limit_price", real_number("limit_price", self.limit_price, math.ulp(0.0)))


class CostParameters(msgspec.Struct, frozen=True, gc=False):
    """Penalties of the static split (dollars per share) and its grid (shares).

    Raises
    ------
    InputError
        Where a penalty is not a finite number or the step is below 1.
    """

    lambda_over: float = 0.01
    lambda_under: float = 0.005
    theta_queue: float = 0.002
    step: int = 100

    def __post_init__(self) -> None:
        for name in ("lambda_over", "lambda_under", "theta_queue"):
            force_setattr(self, name, real_number(name, getattr(self, name)))
        force_setattr(self, "step", whole_number("step", self.step, 1))


# --- output ----------------------------------------------------------------------------------------------------------


class Allocation(NamedTuple):
    """Shares per venue, in the venues' order, and the minimised cost in dollars."""

    split: list[int]
    cost: float
