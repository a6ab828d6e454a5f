"""Numbers as the tables of a report show them."""

from __future__ import annotations

from sor.backtest import tables

ABSENT = "-"  # what is not known


def number(value: float | None, decimals: int = 2) -> str:
    if value is None or value != value:
        return ABSENT
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def percent(value: float | None) -> str:
    return ABSENT if value is None or value != value else f"{value:.1%}"


def quantity(value: float) -> str:
    return f"{value:,.12g}"


def price(value: float) -> str:
    """Cents at least, and what is finer where it is there."""
    if value != value:
        return ABSENT
    text = f"{value:.6f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"{whole}.{cents:0<2}"


def interval(low: float | None, high: float | None) -> str:
    return "no interval" if low is None or high is None else f"{number(low)} to {number(high)}"


def signed(value: float | None, low: float | None, high: float | None) -> str:
    """A difference as the terminal has it."""
    if value is None:
        return ABSENT
    if low is None or high is None:
        return f"{tables.digits(value, 0.01)} (no interval)"
    found = [tables.digits(one, high - low) for one in (value, low, high)]
    return f"{found[0]} ({found[1]} to {found[2]})"


def probability(value: float | None) -> str:
    return ABSENT if value is None else "below 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 10**9:.6f}"
