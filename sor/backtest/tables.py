"""A study on the terminal: the answer in one look."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from sor.backtest.comparison import Comparison
from sor.types import SIDES

WIDTH = 118
PARTS = ("timing", "waiting", "spread", "fees", "end")
SHORT = {"pessimistic": "pess.", "proportional": "prop.", "optimistic": "opt."}


def lines(
    title: str,
    baseline: str,
    rows: Sequence[dict[str, Any]],
    compared: Mapping[tuple[str, str, str | None], Comparison],
    sentences: Sequence[str],
    notes: Sequence[str],
) -> list[str]:
    """A line a strategy and queue model, then what can be said, then what cannot."""
    titles = [title_of(row) for row in rows]
    width = max(len(title) for title in ["strategy", *titles])
    found = [title, ""]
    above = f"{'bps of size x mid at arrival':^51}   less {baseline}, 95 % interval"
    found.append(f"{'':<{width}}{'':>16}{above}")
    names = "".join(f"{name:>8}" for name in PARTS)
    found.append(
        f"{'strategy':<{width}}{'orders':>8}{'filled':>8}{'shortfall':>11} ={names[1:]}   {'bps':<26}{'better':>7}"
    )
    for title, row in zip(titles, rows, strict=True):
        parts = "".join(_number(row[f"{name}_bps"], 8) for name in PARTS)
        one = compared.get((row["schedule"], row["routing"], row["queue"]))
        found.append(
            f"{title:<{width}}{row['orders']:>8,}{_percent(row['filled']):>8}{_number(row['shortfall_bps'], 11)} ="
            f"{parts[1:]}   {_difference(one)}".rstrip()
        )
    found.append("")
    for sentence in sentences:
        found += textwrap.wrap(sentence, WIDTH)
    return [*found, "", "What this cannot tell:", *_noted(notes)]


def tuning(found: Mapping[str, Any], title: str, sentence: str) -> list[str]:
    """A line a day that was judged, then what can be said, and the point to go on with."""
    best, folds, baselines = found["best"], found["folds"], found["baselines"]
    tried = f"{found['points_tried']:,} points of {_plain(best['schedule'])} x {_plain(best['routing'])}"
    how = "the cheapest on days before is judged on the next" if folds else "tuned on one day, and judged on none"
    told = [title, f"{tried}, {found['points_that_differ']:,} of which differ in what they cost; {how}", ""]
    names = "".join(f"{name:>10}" for name in baselines)
    if folds:
        told += [
            f"{'':<10}{'':>9}{'bps, mean over orders':>29}",
            f"{'day':<10}{'orders':>9}{'in sample':>12}{'after it':>10}{names}   point",
        ]
    for fold in folds:
        costs = [fold[f"{name}_bps"] for name in ("in_sample", "out_of_sample", "default", "baseline")]
        told.append(f"{fold['day']:<10}{fold['orders']:>9,}{_costs(costs)}   {point(fold['parameters'])}")
    if folds:
        costs = [found["in_sample_bps"], found["out_of_sample_bps"], *baselines.values()]
        told += [f"{'all':<10}{sum(fold['orders'] for fold in folds):>9,}{_costs(costs)}", ""]
    told += [*textwrap.wrap(sentence, WIDTH), ""]
    costs = [one["cost_bps"] for one in found["neighbours"] if one["cost_bps"] is not None]
    beside = f"; its {len(costs)} neighbours cost {min(costs):.2f} to {max(costs):.2f}" if len(costs) > 1 else ""
    if len(costs) == 1:
        beside = f"; its one neighbour costs {costs[0]:.2f}"
    mean = "no cost" if best["cost_bps"] is None else f"{best['cost_bps']:.2f} bps"
    told += textwrap.wrap(f"Best on all days: {point(best['parameters'])}, {mean}{beside}.", WIDTH)
    return [*told, "", "What this cannot tell:", *_noted(found["notes"])]


def _plain(name: str) -> str:
    """Of a schedule or routing, without its parameters."""
    return name.partition(":")[0]


def _costs(costs: Sequence[float | None]) -> str:
    return "".join(_number(cost, width) for cost, width in zip(costs, (12, 10, 10, 10), strict=True))


def point(parameters: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:g}" for name, value in parameters.items())


def _noted(notes: Sequence[str]) -> list[str]:
    return [line for note in notes for line in textwrap.wrap(note, WIDTH, initial_indent="- ", subsequent_indent="  ")]


def head(data: dict[str, Any], settings: dict[str, Any], parents: dict[str, Any]) -> str:
    """What was worked: symbols, days, orders and their sizes."""
    symbols, days = data["symbols"], data["days"]
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    orders = len(set(parents["order"].tolist()))
    sides = " and ".join(SIDES[side] for side in sorted(set(parents["side"].tolist())))
    sizes = sorted(set(parents["size"].tolist()))
    size = f"{sizes[0]:,g}" if len(sizes) == 1 else f"{sizes[0]:,g} to {sizes[-1]:,g}"
    end = "then taken" if settings["end_rule"] == "complete" else "then left"
    lasting = _duration(settings["horizon_seconds"])
    return f"{named(symbols)}, {when}: {orders:,} orders to {sides} {size}, each worked for {lasting}, {end}"


def named(symbols: Sequence[str]) -> str:
    return ", ".join(symbols[:3]) + (f" and {len(symbols) - 3} more" if len(symbols) > 3 else "")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g} s"


def title_of(row: dict[str, Any]) -> str:
    title = f"{row['schedule']} x {row['routing']}"
    return title if row["queue"] is None else f"{title}, {SHORT[row['queue']]}"


def _number(value: float | None, width: int) -> str:
    if value is None:
        return f"{'-':>{width}}"
    text = f"{value:.2f}"
    return f"{'0.00' if text == '-0.00' else text:>{width}}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _difference(one: Comparison | None) -> str:
    if one is None:
        return "baseline"
    if one.difference_bps is None:
        return f"{'-':<26}{_better(one):>7}"
    if one.low is None or one.high is None:
        shown = [digits(one.difference_bps, 0.01), "no interval"]
    else:
        shown = [digits(number, one.high - one.low) for number in (one.difference_bps, one.low, one.high)]
    interval = " to ".join(shown[1:])
    return f"{f'{shown[0]} ({interval})':<26}{_better(one):>7}"


def _better(one: Comparison) -> str:
    return f"{one.better / one.orders:.0%}" if one.orders else "-"


def digits(number: float, width: float) -> str:
    """With a sign, and as many digits as an interval of this width is worth: two at least, four at most."""
    decimals = 2 if width >= 0.02 else 3 if width >= 0.002 else 4
    text = f"{number:+.{decimals}f}"
    return text if float(text) else f"{0.0:.{decimals}f}"
