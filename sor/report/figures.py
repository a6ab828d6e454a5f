"""Plots of a study, as plotly takes them: plain lists, so that the same numbers give the same text."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from sor.errors import InputError
from sor.report.html import Plot
from sor.report.text import ABSENT

INK, LINE, MUTED = "#1d2433", "#d0d5dd", "#566074"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#6a4c93", "#8c6d1f")  # told apart by all
MORE_COLOURS = ("#4d4d4d", "#b3b3b3", "#9ecae1", "#fdd49e", "#a1d99b", "#fcae91", "#dadaeb", "#d9cfa3")
OF_PARTS = {"timing": "#56b4e9", "waiting": "#e69f00", "spread": "#0072b2", "fees": "#9aa1ad", "end": "#d55e00"}
DASHES = ("solid", "dash", "dot")
MOST_STEPS = 4000  # of a line: more than a screen has pixels
LESS = "less than 0: earned"


def plotly_js() -> str:
    """The source of plotly.js.

    Raises
    ------
    InputError
        plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError("a report needs plotly, which is not installed: pip install 'sor[report]'") from None
    return str(get_plotlyjs())


def known(values: Iterable[float | None]) -> list[float | None]:
    """Numbers as JSON has them: null is what is not known."""
    return [None if value is None or not math.isfinite(value) else float(value) for value in values]


def labels(titles: Sequence[str]) -> list[str]:
    """Names of strategies on an axis: the schedule only where there are several, and then on a line of its own."""
    schedules = {title.partition(" x ")[0] for title in titles}
    short = [title.partition(" x ")[2] if len(schedules) == 1 else title for title in titles]
    return [html.escape(title).replace(" x ", " x<br>", 1) for title in short]


def layout(height: int, x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    axis = {"automargin": True, "fixedrange": True, "gridcolor": "#e8eaee", "linecolor": LINE, "zerolinecolor": MUTED}
    return {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "dragmode": False,
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": axis | x,
        "yaxis": axis | y,
        **more,
    }


def _named(x_title: str, rows: int, **more: Any) -> dict[str, Any]:
    """The layout of a plot with a line a strategy."""
    return layout(110 + 34 * rows, {"title": {"text": x_title}}, {"autorange": "reversed", "type": "category"}, **more)


def intervals(name: str, title: str, x_title: str, names: list[str], middle: Any, low: Any, high: Any) -> Plot:
    """A dot a strategy, with its interval where there is one."""
    return Plot(
        name,
        title,
        [
            {
                "type": "scatter",
                "mode": "markers",
                "x": known(middle),
                "y": names,
                "marker": {"size": 9, "color": COLOURS[0]},
                "error_x": _error(middle, low, high),
                "showlegend": False,
            }
        ],
        _named(x_title, len(names)),
    )


def _error(middle: Any, low: Any, high: Any) -> dict[str, Any]:
    def reach(ends: Any) -> list[float]:
        return [
            0.0 if end is None or value is None else abs(end - value) for end, value in zip(ends, middle, strict=True)
        ]

    return {"type": "data", "symmetric": False, "array": reach(high), "arrayminus": reach(low), "thickness": 2}


def stacked_parts(name: str, title: str, names: list[str], parts: dict[str, list[float | None]], sums: Any) -> Plot:
    bars: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": part,
            "x": known(values),
            "y": names,
            "marker": {"color": OF_PARTS[part]},
        }
        for part, values in parts.items()
    ]
    diamonds = {
        "type": "scatter",
        "mode": "markers",
        "name": "shortfall",
        "x": known(sums),
        "y": names,
        "marker": {"symbol": "diamond", "size": 9, "color": INK, "line": {"color": "#fff", "width": 1}},
    }
    return Plot(name, title, [*bars, diamonds], _named(f"bps; {LESS}", len(names), barmode="relative", bargap=0.35))


def boxes(name: str, title: str, x_title: str, names: list[str], columns: Sequence[Sequence[float]]) -> Plot:
    """A box a strategy, from quantiles of 5, 25, 50, 75 and 95 %, and a mean."""
    keys = ("lowerfence", "q1", "median", "q3", "upperfence", "mean")
    data = {
        "type": "box",
        "orientation": "h",
        "y": names,
        "boxpoints": False,
        "boxmean": True,
        "line": {"color": COLOURS[0]},
        "showlegend": False,
    }
    data |= {key: known(column) for key, column in zip(keys, columns, strict=True)}
    return Plot(name, title, [data], _named(x_title, len(names)))


def by_venue(name: str, title: str, names: list[str], venues: list[str], taker: Any, maker: Any) -> Plot:
    """A bar a strategy, a piece a venue; hatched where it was the maker."""
    data = []
    for i, venue in enumerate(venues):
        every = COLOURS + MORE_COLOURS
        shown = html.escape(venue)
        for kind, values in (("taker", taker), ("maker", maker)):
            if kind == "maker" and not values[:, i].any():
                continue
            pattern = {"pattern": {"shape": "/", "fillmode": "overlay", "fgcolor": "#fff"}} if kind == "maker" else {}
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": f"{shown}, maker" if kind == "maker" else shown,
                    "legendgroup": shown,
                    "showlegend": kind == "taker",
                    "x": known(100 * values[:, i]),
                    "y": names,
                    "marker": {"color": every[i % len(every)]} | pattern,
                }
            )
    return Plot(name, title, data, _named("% of its shares", len(names), barmode="stack", bargap=0.35))


def lines(
    name: str,
    title: str,
    axes: tuple[str, str],
    x: list[str],
    found: Sequence[tuple[str, int, int, Sequence[float | None]]],
) -> Plot:
    """A line a strategy over categories.

    Parameters
    ----------
    found : list of (title, number, queue, values)
        The number gives the colour, the queue model the dash.
    """
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": shown.replace("<br>", " "),
            "x": x,
            "y": known(values),
            "line": {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[queue]},
        }
        for (_, number, queue, values), shown in zip(found, labels([one[0] for one in found]), strict=True)
    ]
    return Plot(
        name,
        title,
        data,
        layout(340 + 20 * len(found), {"title": {"text": axes[0]}, "type": "category"}, {"title": {"text": axes[1]}}),
    )


def heat(
    name: str, title: str, axes: tuple[str, str], x: list[str], y: list[str], values: Sequence[Sequence[float | None]]
) -> Plot:
    """A field a pair of values, with its number; darker is cheaper."""
    told = {
        "type": "heatmap",
        "x": x,
        "y": y,
        "z": [known(row) for row in values],
        "texttemplate": "%{z:.2f}",
        "colorscale": "Blues",
        "colorbar": {"title": {"text": "bps"}, "thickness": 12},
        "xgap": 1,
        "ygap": 1,
    }
    return Plot(name, title, [told], _plane(axes, "category"))


def scattered(
    name: str, title: str, axes: tuple[str, str], points: Sequence[tuple[float, float, float | None]]
) -> Plot:
    """A dot a point; darker is cheaper."""
    x, y, costs = (list(column) for column in zip(*points, strict=True))
    marker = {
        "size": 10,
        "color": known(costs),
        "colorscale": "Blues",
        "line": {"color": MUTED, "width": 1},
        "colorbar": {"title": {"text": "bps"}, "thickness": 12},
    }
    told = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": y,
        "marker": marker,
        "text": [ABSENT if cost is None else f"{cost:.2f} bps" for cost in costs],
    }
    kinds = ["log" if min(values) > 0 and max(values) >= 10 * min(values) else "linear" for values in (x, y)]
    return Plot(name, title, [told], _plane(axes, *kinds))


def _plane(axes: tuple[str, str], x_kind: str, y_kind: str | None = None) -> dict[str, Any]:
    x, y = (
        {"title": {"text": axis}, "type": kind} for axis, kind in zip(axes, (x_kind, y_kind or x_kind), strict=True)
    )
    return layout(420, x, y)


def order_path(
    name: str,
    title: str,
    book: Sequence[tuple[float, float | None, float | None]],
    end: float,
    children: Sequence[tuple[float, float, float, str]],
    fills: Sequence[tuple[float, float, bool, str]],
) -> Plot:
    """One order in the market.

    Parameters
    ----------
    book : list of (seconds, bid, ask)
    end : float
        To when the book's last row stands.
    children : list of (seconds sent, seconds when over, price, text)
        One that takes has the same time twice.
    fills : list of (seconds, price, maker, text)
    """
    book = thinned(book)
    times = [*(row[0] for row in book), end]
    data: list[dict[str, Any]] = []
    for side, colour, values in (("best offer", COLOURS[3], 2), ("best bid", COLOURS[0], 1)):
        prices = [row[values] for row in book]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": side,
                "x": times,
                "y": known([*prices, *prices[-1:]]),
                "line": {"shape": "hv", "color": colour, "width": 1.5},
            }
        )
    resting = [one for one in children if one[1] > one[0]]
    if resting:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "resting",
                "x": [value for sent, over, _, _ in resting for value in (sent, over, None)],
                "y": [value for _, _, price, _ in resting for value in (price, price, None)],
                "line": {"color": COLOURS[2], "width": 3},
                "hoverinfo": "skip",
            }
        )
    marks = [
        ("sent", "line-ns-open", MUTED, [(sent, price, text) for sent, _, price, text in children]),
        ("filled as taker", "triangle-up", INK, [(at, price, text) for at, price, maker, text in fills if not maker]),
        ("filled as maker", "circle", COLOURS[2], [(at, price, text) for at, price, maker, text in fills if maker]),
    ]
    data += [
        {
            "type": "scatter",
            "mode": "markers",
            "name": kind,
            "x": [at for at, _, _ in found],
            "y": [price for _, price, _ in found],
            "text": [html.escape(text) for _, _, text in found],
            "marker": {"symbol": symbol, "size": 9, "color": colour},
        }
        for kind, symbol, colour, found in marks
        if found
    ]
    x = {"title": {"text": "seconds after its arrival"}, "zeroline": True}
    return Plot(name, title, data, layout(460, x, {"title": {"text": "dollars"}, "tickformat": ".4~f"}))


def thinned(
    book: Sequence[tuple[float, float | None, float | None]],
) -> Sequence[tuple[float, float | None, float | None]]:
    """At most `MOST_STEPS`: of steps of equal length the last row of each."""
    if len(book) <= MOST_STEPS:
        return book
    begin = book[0][0]
    width = (book[-1][0] - begin) / MOST_STEPS
    return list({int((row[0] - begin) / width): row for row in book}.values())
