"""The report of a backtest: what was asked, the answer in words, and all that it rests on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from sor.backtest import tables
from sor.backtest.measures import MARKED
from sor.backtest.study import Study
from sor.backtest.work import QUEUES
from sor.errors import InputError, StreamError
from sor.market.fields import iso_of
from sor.report import figures, summaries
from sor.report.html import Markup, Plot, Section, listed, page, paragraph, table, written
from sor.report.origin import origin_of
from sor.report.text import interval, number, percent, price, probability, quantity, seconds, signed
from sor.types import SIDES

SECOND = 10**9
MOST_ROWS = 100  # of a table of one order's children or fills


def write(study: Study, path: str | os.PathLike[str]) -> None:
    """Write a study's report, whole or not at all.

    Raises
    ------
    InputError
        plotly is not installed, or the file cannot be written.
    """
    written(report_of(study), path)


def report_of(study: Study) -> str:
    """The page as text; the same study gives the same.

    Raises
    ------
    InputError
        plotly is not installed.
    """
    drawing = figures.plotly_js()
    report = _Report(study)
    found = [
        Section("limits", "What this cannot tell", [listed(study.notes)]),
        report.shortfall(),
        report.differences(),
        report.sizes(),
        report.venues(),
        report.markouts(),
        report.order(),
        report.data(),
        origin_of(report.told, report.orders()),
    ]
    return page(report.title, report.lead, report.answer(), [one for one in found if one is not None], drawing)


class _Report:
    def __init__(self, study: Study) -> None:
        self.study = study
        self.told = study.as_dict()
        self.ways = summaries.ways_of(study)
        self.rows = [way.row for way in self.ways]
        self.titles = [way.title for way in self.ways]
        self.names = figures.labels(self.titles)
        self.compared = {(*names, queue): one for names, queue, one in study.compare()}
        data = self.told["data"]
        days = data["days"]
        when = f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"
        self.title = f"What did orders in {tables.named(data['symbols'])} cost {when}, and which way was cheaper?"
        self.lead = tables.head(data, self.told["settings"], study.parents) + "."

    def answer(self) -> list[str]:
        return self.study.sentences()

    # --- costs ----------------------------------------------------------------------------------------------------

    def shortfall(self) -> Section:
        costs = self.study.costs()
        middle, low, high = ([getattr(one, name) for one in costs] for name in ("mean_bps", "low", "high"))
        parts = {part: [row[f"{part}_bps"] for row in self.rows] for part in tables.PARTS}
        sums = [row["shortfall_bps"] for row in self.rows]
        in_parts = [
            [title, f"{row['orders']:,}", percent(row["filled"]), number(total), *(number(parts[p][i]) for p in parts)]
            for i, (title, row, total) in enumerate(zip(self.titles, self.rows, sums, strict=True))
        ]
        in_blocks = [
            [title, number(one.mean_bps), one.why or interval(one.low, one.high), one.blocks, one.orders]
            for title, one in zip(self.titles, costs, strict=True)
        ]
        beside = [[way.title, *(show(way.row[key]) for _, key, show in BESIDE)] for way in self.ways]
        unit = "bps of size x mid at arrival"
        return Section(
            "shortfall",
            "What each way cost",
            [
                paragraph(
                    "Shortfall is what an order cost against the mid at its arrival, fees included; less than 0 was "
                    "earned. It adds up from timing, as the mid moved until the schedule released the shares; "
                    "waiting, as it moved on until a child order was sent; spread, paid against the mid of that "
                    "moment; fees; and end, the price of what was left."
                ),
                figures.stacked_parts(
                    "parts", f"Shortfall and its parts, mean over orders, {unit}.", self.names, parts, sums
                ),
                table(
                    f"Shortfall and its parts, mean over orders, {unit}",
                    ["strategy", "orders", "filled", "shortfall", *tables.PARTS],
                    in_parts,
                ),
                paragraph(
                    "How sure is it? Orders of one time saw the same market, so means are taken within blocks of clock "
                    "time first, and the interval is of the means of blocks, each of which weighs the same."
                ),
                figures.intervals(
                    "shortfall-interval",
                    f"Shortfall, mean of blocks with its 95 % interval, {unit}.",
                    "bps",
                    self.names,
                    middle,
                    low,
                    high,
                ),
                table(
                    f"Shortfall by blocks of clock time, {unit}",
                    ["strategy", "mean of blocks", "95 % interval", "blocks", "orders in them"],
                    in_blocks,
                ),
                table(
                    "Beside it: how orders were worked, and spreads in bps, mean over orders",
                    ["strategy", *(name for name, _, _ in BESIDE)],
                    beside,
                ),
            ],
        )

    def differences(self) -> Section | None:
        if not self.compared:
            return None
        study = self.study
        ways = [way for way in self.ways if (*way.names, way.row["queue"]) in self.compared]
        found = list(self.compared.values())
        spread = summaries.spread_of(study.differences())
        titles = [way.title for way in ways]
        rows = [
            [
                way.title,
                self._against(way),
                *(number(value) for value in values),
                signed(one.difference_bps, one.low, one.high),
                one.blocks,
                f"{one.better:,}",
                f"{one.worse:,}",
                f"{one.equal:,}",
                probability(one.p_adjusted),
            ]
            for way, one, values in zip(ways, found, spread, strict=True)
        ]
        return Section(
            "differences",
            f"Order by order, against {study.baseline}",
            [
                paragraph(
                    "The same orders, worked in two ways: the cost of one less that of the other. Less than 0 is "
                    "cheaper than the baseline. A box holds the middle half of the orders, its whiskers 9 of 10; the "
                    "dashed line is the mean. The interval is by blocks, and p is adjusted for the number of "
                    "comparisons (Holm)."
                ),
                figures.boxes(
                    "differences",
                    "Difference to the baseline by order, bps.",
                    "bps less the baseline",
                    figures.labels(titles),
                    spread.T.tolist(),
                ),
                table(
                    "Difference to the baseline by order, bps: quantiles and mean over orders, then by blocks",
                    [
                        "strategy",
                        "held against",
                        "5 %",
                        "25 %",
                        "half",
                        "75 %",
                        "95 %",
                        "mean",
                        "by blocks, 95 % interval",
                        "blocks",
                        "cheaper",
                        "dearer",
                        "equal",
                        "adjusted p",
                    ],
                    rows,
                ),
            ],
        )

    def _against(self, way: summaries.Way) -> str:
        study = self.study
        schedule, routing = way.names
        return f"{study.strategies[0][0] if routing == study.baseline else schedule} x {study.baseline}"

    def sizes(self) -> Section | None:
        sizes = np.unique(self.study.parents["size"])
        if len(sizes) < 2:
            return None
        costs = [self.study.costs(self.study.parents["size"] == size) for size in sizes]
        names = [quantity(size) for size in sizes.tolist()]
        found = [
            (way.title, way.number, way.queue, [one[i].mean_bps for one in costs]) for i, way in enumerate(self.ways)
        ]
        rows = [
            [
                title,
                *(f"{number(m)} ({interval(one[i].low, one[i].high)})" for m, one in zip(means, costs, strict=True)),
            ]
            for i, (title, _, _, means) in enumerate(found)
        ]
        return Section(
            "sizes",
            "Cost against size",
            [
                figures.lines(
                    "sizes",
                    "Shortfall by size of the order, mean of blocks, bps.",
                    ("size of the order", "bps"),
                    names,
                    found,
                ),
                table(
                    "Shortfall by size of the order, mean of blocks and 95 % interval, bps", ["strategy", *names], rows
                ),
            ],
        )

    # --- fills ----------------------------------------------------------------------------------------------------

    def venues(self) -> Section | None:
        if not len(self.study.fills["order"]):
            return None
        found = summaries.venues_of(self.study, self.ways)
        rows = []
        for i, title in enumerate(self.titles):
            kinds = [("taker", found.taker[i]), ("maker", found.maker[i])]
            for kind, parts in kinds if found.maker[i].any() else kinds[:1]:
                fee = [quantity(found.shares[i]), number(found.fees[i], 4)] if kind == "taker" else ["", ""]
                rows.append([title, kind, *fee, *(percent(part) if part else "" for part in parts.tolist())])
        return Section(
            "venues",
            "Where the shares went",
            [
                figures.by_venue(
                    "venues",
                    "Parts of the shares by venue; hatched: as maker.",
                    self.names,
                    found.names,
                    found.taker,
                    found.maker,
                ),
                table(
                    "Parts of the shares by venue, as taker and as maker; fees are of both, less than 0: received",
                    ["strategy", "as", "shares", "fees, $ a share", *found.names],
                    rows,
                ),
            ],
        )

    def markouts(self) -> Section | None:
        if not len(self.study.fills["order"]):
            return None
        found = summaries.fills_of(self.study, self.ways)
        values = summaries.markouts_of(self.study, found)
        marks = list(MARKED)
        drawn = [
            (one.title, one.way.number, one.way.queue, line.tolist())
            for one, line in zip(found, values, strict=True)
            if one.kind == "all"
        ]
        return Section(
            "markouts",
            "After the fills",
            [
                paragraph(
                    "What a share had cost against the mid some time after it was traded. What is still above 0 after "
                    "minutes was paid for good; a line that falls says that the price went on in our direction. Where "
                    "a maker's line rises, the price came through him: he was filled as others knew better."
                ),
                figures.lines(
                    "markouts",
                    "Markouts: price less the mid later (a sale: the other way round), bps.",
                    ("time after the fill", "bps"),
                    marks,
                    drawn,
                ),
                table(
                    "Markouts, price less the mid later (a sale: the other way round), bps of the mid at arrival",
                    ["strategy", *marks],
                    [[one.title, *map(number, line)] for one, line in zip(found, values.tolist(), strict=True)],
                ),
            ],
        )

    # --- one order ------------------------------------------------------------------------------------------------

    def order(self) -> Section:
        heading = "One order, followed"
        chosen = summaries.order_to_follow(self.study, self.ways)
        if chosen is None:
            return Section("order", heading, [paragraph("No order was filled.")])
        way, row = chosen
        order = {name: column[row].item() for name, column in self.study.parents.items()}
        told = paragraph(
            f"Of the strategy whose orders take longest, {way.title}, the one with the median shortfall: order "
            f"{order['order']}, to {SIDES[order['side']]} {quantity(order['size'])} {order['symbol']}, arrived at "
            f"{iso_of(order['arrival'])}. It cost {number(order['shortfall_bps'])} bps, and "
            f"{percent((order['filled'] - order['overfill']) / order['size'])} of it were filled."
        )
        return Section("order", heading, [told, *self._path(way, order), self._fills(way, order)])

    def _path(self, way: summaries.Way, order: dict[str, Any]) -> Iterator[Markup | Plot]:
        if self.study.again is None:
            yield paragraph("The market around it is not shown: the study does not know its feed any more.")
            return
        try:
            found = self.study.again.follow(order["order"], way.number, QUEUES[way.queue], order["done"])
        except (InputError, StreamError) as error:
            yield paragraph(f"The market around it is not shown, as the feed cannot be read again: {error}")
            return
        arrival = order["arrival"]
        children = [
            (
                (one.sent - arrival) / SECOND,
                ((one.over or one.sent) - arrival) / SECOND,
                one.price,
                f"{quantity(one.filled)} of {_what(one.venue, one.shares)}",
            )
            for one in found.children
        ]
        fills = self._fills_of(way, order)
        marks = [
            (
                (one["time"] - arrival) / SECOND,
                one["price"],
                bool(one["maker"]),
                f"{one['venue']}: {quantity(one['shares'])}",
            )
            for one in fills
        ]
        book = [((time - arrival) / SECOND, bid, ask) for time, bid, ask in found.book]
        yield figures.order_path(
            "order",
            "The best bid and offer as the order knew them, its child orders, and its fills.",
            book,
            (found.end - arrival) / SECOND,
            children,
            marks,
        )
        yield table(
            f"Its child orders{_first(children)}; the price is the worst that each may trade at",
            ["sent after, s", "venue", "kind", "rests until, s after", "price", "shares", "filled"],
            [
                [
                    seconds(one.sent - arrival),
                    one.venue,
                    "rests" if one.over else "takes",
                    seconds(one.over - arrival) if one.over else "",
                    price(one.price),
                    quantity(one.shares),
                    quantity(one.filled),
                ]
                for one in found.children[:MOST_ROWS]
            ],
        )

    def _fills_of(self, way: summaries.Way, order: dict[str, Any]) -> list[dict[str, Any]]:
        fills = self.study.fills
        (found,) = (one.chosen for one in summaries.fills_of(self.study, [way]) if one.kind == "all")
        mine = found[fills["order"][found] == order["order"]]
        return [{name: column[i].item() for name, column in fills.items()} for i in mine.tolist()]

    def _fills(self, way: summaries.Way, order: dict[str, Any]) -> Markup:
        fills = self._fills_of(way, order)
        return table(
            f"Its fills{_first(fills)}",
            ["time after, s", "venue", "as", "price", "shares", "fee, $", "mid when sent"],
            [
                [
                    seconds(one["time"] - order["arrival"]),
                    one["venue"],
                    "maker" if one["maker"] else "taker",
                    price(one["price"]),
                    quantity(one["shares"]),
                    number(one["fee"], 4),
                    price(one["mid_sent"]),
                ]
                for one in fills[:MOST_ROWS]
            ],
        )

    # --- what it rests on -----------------------------------------------------------------------------------------

    def data(self) -> Section:
        data = self.told["data"]
        span = sum(day.closes - day.opens for day in self.study.days) / SECOND
        rows = [
            ["symbols", ", ".join(data["symbols"])],
            ["days", ", ".join(data["days"])],
            ["rows", f"{data['rows']:,}"],
            ["levels a side", f"{data['depth']}"],
            ["trades", f"{data['trades']:,}"],
            ["shares traded", f"{data['volume']:,}, of these off exchange {data['off_exchange_volume']:,}"],
            [
                "crossed, locked, one-sided",
                ", ".join(_lasting(data[key], span) for key in ("crossed", "locked", "one_sided")),
            ],
            ["gaps of more than 5 min", f"{len(data['gaps'])}"],
            ["rows back in time", f"{data['backwards']:,}"],
            ["bad rows", _counts(data["bad"])],
            ["rows left out", _counts(data["skipped"])],
            ["arrivals drawn again", f"{data['arrivals_redrawn']:,}"],
        ]
        parts = [
            table("The feed within the sessions", ["of it", "what was found"], rows, words=True),
            table(
                "Venues that quote, with the time from the first to the last row of each, over all days and symbols",
                ["venue", "rows", "hours"],
                [
                    [venue, f"{found['rows']:,}", number(found["seconds"] / 3600)]
                    for venue, found in data["venues"].items()
                ],
            ),
        ]
        if data["gaps"]:
            gaps = [[one["symbol"], one["from"], number(one["seconds"], 0)] for one in data["gaps"][:MOST_ROWS]]
            parts.append(table(f"Gaps{_first(data['gaps'])}", ["symbol", "from", "seconds"], gaps))
        return Section("data", "The data", parts)

    def orders(self) -> dict[str, Any]:
        parents = self.study.parents
        sides = [SIDES[side] for side in np.unique(parents["side"]).tolist()]
        sizes = [quantity(size) for size in np.unique(parents["size"]).tolist()]
        return {"orders": f"{self.told['orders']:,}", "sides": sides, "sizes": sizes}


def _what(venue: str, shares: float) -> str:
    return f"{quantity(shares)} at {venue}"


def _first(rows: list[Any]) -> str:
    return f", the first {MOST_ROWS} of {len(rows):,}" if len(rows) > MOST_ROWS else ""


def _lasting(part: float, span: float) -> str:
    return f"{part:.2%} ({part * span:,.0f} s)"


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{why} {count:,}" for why, count in found.items()) or "none"


BESIDE: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("as maker", "maker", percent),
    ("children", "children", quantity),
    ("cancels", "cancels", quantity),
    ("seconds", "seconds", number),
    ("of the volume", "participation", percent),
    ("effective spread", "effective_spread_bps", number),
    ("quoted spread", "quoted_spread_bps", number),
    ("realised spread", "realised_spread_bps", number),
    ("less VWAP", "vwap_bps", number),
    ("less TWAP", "twap_bps", number),
)
