"""The report of a tuning: what was cheapest on the days that chose it, and what that was worth on the days after."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sor.backtest import tables
from sor.backtest.tuning import Point, Tuning
from sor.report import figures
from sor.report.html import Markup, Plot, Section, listed, page, paragraph, table, written
from sor.report.origin import origin_of
from sor.report.text import interval, number, probability

MOST_POINTS = 100  # of the table


def write(tuning: Tuning, path: str | os.PathLike[str]) -> None:
    """Write a tuning's report, whole or not at all.

    Raises
    ------
    InputError
        plotly is not installed, or the file cannot be written.
    """
    written(report_of(tuning), path)


def report_of(tuning: Tuning) -> str:
    """The page as text; the same tuning gives the same.

    Raises
    ------
    InputError
        plotly is not installed.
    """
    drawing = figures.plotly_js()
    told, study = tuning.as_dict(), tuning.study
    title = f"Which parameters of {tuning.space.schedule} x {tuning.space.routing} were cheapest, and was that luck?"
    lead = f"{tables.head(study.data, study.settings, study.parents)}; {len(tuning.points):,} points tried."
    best = (
        f"Best on all days, which chose it: {tables.point(tuning.best.parameters)}, {number(tuning.best.cost_bps)} bps."
    )
    search = {"search": tuning.search, "space": {name: _values(values) for name, values in told["space"].items()}}
    found = [
        Section("limits", "What this cannot tell", [listed(tuning.notes)]),
        _days(tuning),
        _map(tuning),
        _points(tuning),
        origin_of(told, search),
    ]
    return page(title, lead, [tuning.sentence(), best], [one for one in found if one is not None], drawing)


def _values(values: list[float]) -> str:
    return " to ".join(f"{value:g}" for value in values) if len(values) == 2 else ", ".join(f"{v:g}" for v in values)


def _days(tuning: Tuning) -> Section | None:
    if not tuning.folds:
        return None
    folds, baseline = tuning.folds, tuning.study.baseline
    names = ["in sample", "after it", "plain default", baseline]
    fields = ["in_sample_bps", "out_of_sample_bps", "default_bps", "baseline_bps"]
    days = [fold.day for fold in folds]
    series = [
        (name, i, 0, [getattr(fold, field) for fold in folds])
        for i, (name, field) in enumerate(zip(names, fields, strict=True))
    ]
    rows = [
        [
            fold.day,
            f"{fold.orders:,}",
            *(number(getattr(fold, field)) for field in fields),
            tables.point(fold.parameters),
        ]
        for fold in folds
    ]
    means = [tuning.in_sample_bps, tuning.out_of_sample_bps, tuning.default_bps, tuning.baseline_bps]
    rows.append(["all", f"{sum(fold.orders for fold in folds):,}", *map(number, means), ""])
    savings = [
        [
            "plain default" if name == "default" else name,
            number(None if one.difference_bps is None else 0.0 - one.difference_bps),
            one.why or interval(*(None if end is None else 0.0 - end for end in (one.high, one.low))),
            one.blocks,
            f"{one.better:,}",
            f"{one.worse:,}",
            probability(one.p_adjusted),
        ]
        for name, one in tuning.savings.items()
    ]
    return Section(
        "days",
        "In sample and after it",
        [
            paragraph(
                "For each day the point that was cheapest on the days before was taken. In sample is what it cost on "
                "those days; after it, on the day itself, which had no part in the choice. Where the second is "
                "higher than the first, part of what tuning found was luck."
            ),
            figures.lines("days", "Shortfall by day, mean over orders, bps.", ("day", "bps"), days, series),
            table("Shortfall by day, mean over orders, bps", ["day", "orders", *names, "point chosen"], rows),
            table(
                "What the chosen points saved on the days after, bps by blocks of clock time; less than 0 is a loss",
                ["against", "saved", "95 % interval", "blocks", "cheaper", "dearer", "adjusted p"],
                savings,
            ),
        ],
    )


# --- the map ---------------------------------------------------------------------------------------------------------


def _map(tuning: Tuning) -> Section | None:
    """Two parameters, those that cost changes with most; the others stand as they are at the best point."""
    names = _telling(tuning)
    if len(names) < 2:
        return None
    x, y = names[:2]
    rest = {name: value for name, value in tuning.best.parameters.items() if name not in (x, y)}
    where = f" at {tables.point(rest)}" if rest and tuning.search == "grid" else ""
    title = f"Shortfall by {x} and {y}{where}, mean over orders of all days, bps."
    parts: list[Markup | Plot] = [
        paragraph(
            "A plateau around the best point says that it is no accident of a few orders; a peak by itself is luck. "
            "These are costs on all days, those by which the point was chosen."
        )
    ]
    if tuning.search == "grid":
        parts += _plane(tuning, x, y, rest, title)
    else:
        points = [(point.parameters[x], point.parameters[y], point.cost_bps) for point in tuning.points]
        parts.append(figures.scattered("map", title, (x, y), points))
    beside = [[tables.point(one.parameters), number(one.cost_bps)] for one in (tuning.best, *tuning.neighbours)]
    parts.append(table("The best point, first, and its neighbours", ["point", "bps"], beside))
    return Section("map", "A map of two parameters", parts)


def _plane(tuning: Tuning, x: str, y: str, rest: Mapping[str, float], title: str) -> list[Markup | Plot]:
    listed_ = tuning.space.listed()
    costs = {
        (point.parameters[x], point.parameters[y]): point.cost_bps
        for point in tuning.points
        if all(point.parameters[name] == value for name, value in rest.items())
    }
    grid = [[costs.get((a, b)) for a in listed_[x]] for b in listed_[y]]
    head = [f"{y} \\ {x}", *(f"{a:g}" for a in listed_[x])]
    rows = [[f"{b:g}", *map(number, row)] for b, row in zip(listed_[y], grid, strict=True)]
    labels = [[f"{value:g}" for value in listed_[name]] for name in (x, y)]
    return [figures.heat("map", title, (x, y), labels[0], labels[1], grid), table(title.rstrip("."), head, rows)]


def _telling(tuning: Tuning) -> list[str]:
    """Parameters that vary, those first between whose values mean costs differ most."""
    reach = {}
    for name in tuning.space.values:
        by_value: dict[float, list[float]] = {}
        for point in tuning.points:
            if point.cost_bps is not None:
                by_value.setdefault(point.parameters[name], []).append(point.cost_bps)
        means = [sum(costs) / len(costs) for costs in by_value.values()]
        if len(means) > 1:
            reach[name] = max(means) - min(means)
    return sorted(reach, key=lambda name: -reach[name])


def _points(tuning: Tuning) -> Section:
    def key(point: Point) -> float:
        return float("inf") if point.cost_bps is None else point.cost_bps

    rows: list[list[Any]] = [
        [tables.point(one.parameters), number(one.cost_bps)] for one in sorted(tuning.points, key=key)
    ]
    shown = rows[:MOST_POINTS]
    of = f", the cheapest {MOST_POINTS} of {len(rows):,}" if len(rows) > MOST_POINTS else ""
    told = f"{tuning.differing:,} of the {len(rows):,} points differ in what they cost; the others change no order."
    return Section(
        "points", "All points", [paragraph(told), table(f"Points by cost on all days{of}", ["point", "bps"], shown)]
    )
