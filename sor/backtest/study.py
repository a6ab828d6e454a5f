"""What orders cost when worked in several ways: tables, comparisons, and what cannot be told."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from sor.backtest import comparison, tables
from sor.backtest.comparison import Comparison, Lives, Mean
from sor.backtest.days import SECOND, Day
from sor.backtest.followed import Again
from sor.backtest.measures import BESIDE, FillRow, Parent
from sor.backtest.orders import Plan
from sor.backtest.work import QUEUES, Found, Rules, concatenated
from sor.errors import InputError
from sor.kernels import BACKEND
from sor.market.fields import iso_of
from sor.market.venues import DatedRules, VenueDirectory
from sor.types import SIDES

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

SCHEMA_VERSION = 1
LARGE = 0.1  # participation above which the recorded market would have reacted
COARSE = 10**6  # nanoseconds
ODD_PRINTS = ("late", "auction", "derivative", "cancelled", "error")  # as `sor.market.taq` calls them


@dataclass
class Study:
    """What orders cost when worked in several ways on the same market.

    Attributes
    ----------
    parents, fills : dict of str to array
        A row an order and way, and a row a fill: the fields of `sor.backtest.measures.Parent` and `FillRow`.
    strategies : list of (schedule, routing)
    baseline : str
        The routing that others are held against, at the same schedule.
    days : list of Day
    notes : list of str
        What the data cannot tell, and what else must be said of the result.
    again : Again or None
        Works one of its orders once more.
    """

    parents: dict[str, NDArray[Any]]
    fills: dict[str, NDArray[Any]]
    strategies: list[tuple[str, str]]
    baseline: str
    days: list[Day]
    rules: Rules
    settings: dict[str, Any]
    data: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    command: str | None = None
    again: Again | None = None

    def rows(self) -> list[dict[str, Any]]:
        """A row a strategy and queue model: means over orders, basis points of size x mid at arrival."""
        return [self._row(*names, queue, chosen) for names, queue, chosen in self.groups()]

    def groups(self) -> list[tuple[tuple[str, str], int, NDArray[np.intp]]]:
        """Every way's (schedule, routing), queue model by number, and rows in ``parents``; in the order of `rows`."""
        columns, found = self.parents, []
        for names in self.strategies:
            for queue in range(len(QUEUES)):
                mine = (
                    (columns["schedule"] == names[0]) & (columns["routing"] == names[1]) & (columns["queue"] == queue)
                )
                if mine.any():
                    found.append((names, queue, np.flatnonzero(mine)))
        return found

    def _row(self, schedule: str, routing: str, queue: int, chosen: NDArray[np.intp]) -> dict[str, Any]:
        columns = {name: values[chosen] for name, values in self.parents.items()}
        row: dict[str, Any] = {
            "schedule": schedule,
            "routing": routing,
            "queue": QUEUES[queue] if self._rests(schedule, routing) else None,
            "orders": len(chosen),
            "filled": _ratio(columns["filled"] - columns["overfill"], columns["size"]),
            "shortfall_bps": _mean(columns["shortfall_bps"]),
        }
        row |= {f"{part}_bps": _mean(columns[f"{part}_bps"]) for part in tables.PARTS}
        row |= {
            "maker": _ratio(columns["maker"], columns["filled"]),
            "overfill": float(columns["overfill"].sum()),
            "children": int(columns["children"].sum()),
            "cancels": int(columns["cancels"].sum()),
            "rejects": int(columns["rejects"].sum()),
            "left_out": int(columns["left_out"].sum()),
            "not_there": float(columns["not_there"].sum()),
            "frozen": float(columns["frozen"].sum()),
            "seconds": _mean((columns["done"] - columns["arrival"]) / SECOND),
            "participation": _ratio(columns["filled"], columns["window_volume"]),
            "life_participation": _ratio(*_worked(columns)),
        }
        row |= {name: _mean(columns[name]) for name in BESIDE}
        quoted = row["quoted_spread_bps"]
        row["effective_to_quoted"] = row["effective_spread_bps"] / quoted if quoted else None
        return row

    def _rests(self, schedule: str, routing: str) -> bool:
        return any(
            one == (schedule, routing) and rests
            for one, rests in zip(self.strategies, self.settings["rests"], strict=True)
        )

    # --- comparisons ----------------------------------------------------------------------------------------------

    def compare(self, baseline: str | None = None) -> list[tuple[tuple[str, str], str | None, Comparison]]:
        """Every other way against the baseline's routing at the same schedule, then the schedules by that routing.

        Returns
        -------
        list of ((schedule, routing), queue model or None, Comparison)
            Differences are strategy less baseline, paired by order: negative is cheaper. Adjusted p-values are by Holm,
            over all of the list.

        Raises
        ------
        InputError
            The baseline is no routing of the study.
        """
        wanted = self.baseline if baseline is None else baseline
        if wanted not in {routing for _, routing in self.strategies}:
            known = ", ".join(dict.fromkeys(routing for _, routing in self.strategies))
            raise InputError(f"baseline is {wanted!r}: it must be a routing of the study, {known}")
        pairs = self._pairs(wanted)
        adjusted = comparison.adjust([self.compared(mine, other) for _, _, mine, other in pairs])
        return [
            (names, QUEUES[queue] if self._rests(*names) else None, one)
            for (names, queue, _, _), one in zip(pairs, adjusted, strict=True)
        ]

    def _pairs(self, baseline: str) -> list[tuple[tuple[str, str], int, NDArray[np.intp], NDArray[np.intp]]]:
        """Every way with its rows in ``parents``, and those of what it is held against."""
        groups = self.groups()
        by_names: dict[tuple[str, str], NDArray[np.intp]] = {}
        for names, _, chosen in groups:
            by_names.setdefault(names, chosen)
        first = self.strategies[0][0]
        return [
            (names, queue, chosen, by_names[(first if names[1] == baseline else names[0], baseline)])
            for names, queue, chosen in groups
            if names != (first, baseline)
        ]

    def differences(self) -> list[NDArray[Any]]:
        """What `compare` is about, for each of its rows: every order's difference in bps, where both have a cost."""
        costs = self.parents["shortfall_bps"]
        found = [costs[mine] - costs[other] for _, _, mine, other in self._pairs(self.baseline)]
        return [one[np.isfinite(one)] for one in found]

    def costs(self, of: NDArray[np.bool_] | None = None) -> list[Mean]:
        """The shortfall of every way with its interval by blocks, in the order of `rows`.

        Parameters
        ----------
        of : array of bool, optional
            Which rows of ``parents`` count.
        """
        costs = self.parents["shortfall_bps"]
        chosen = [one if of is None else one[of[one]] for _, _, one in self.groups()]
        return [comparison.mean_of(*self._in_blocks(costs[one], one)) for one in chosen]

    def compared(self, mine: NDArray[np.intp], other: NDArray[np.intp]) -> Comparison:
        """Rows of the parents against others of the same orders."""
        costs = self.parents["shortfall_bps"]
        return comparison.compare(*self._in_blocks(costs[mine] - costs[other], mine))

    def _in_blocks(self, values: NDArray[Any], mine: NDArray[np.intp]) -> tuple[NDArray[Any], Lives, int, int]:
        """Of orders that have one their values and lives, and the lengths of blocks: what `comparison` asks for."""
        columns, rules = self.parents, self.rules
        longest = 2 * max(max(drawn) for drawn in rules.latency.values()) + rules.delay
        over = rules.grace if rules.complete else 0
        opened = np.array([day.opens for day in self.days])
        numbers = {day.day: i for i, day in enumerate(self.days)}
        opens = opened[[numbers[day] for day in columns["day"][mine].tolist()]]
        opens = np.minimum(opens, columns["arrival"][mine])
        lives = Lives(columns["day"][mine], columns["arrival"][mine], columns["end"][mine] + over + longest, opens)
        kept = np.isfinite(values)
        lives = Lives(*(np.asarray(one)[kept] for one in lives))
        life = rules.horizon + over + longest
        horizons = max(comparison.BLOCK_HORIZONS, -(-3 * life // rules.horizon))
        return values[kept], lives, rules.horizon, horizons

    def sentences(self) -> list[str]:
        """What can be said, in plain words: routings at each schedule, then schedules."""
        said = []
        compared = self.compare()
        first = self.strategies[0][0]
        schedules = list(dict.fromkeys(schedule for schedule, _ in self.strategies))
        for schedule in schedules:
            clauses = [
                (_titled(names[1], queue), one)
                for names, queue, one in compared
                if names[0] == schedule and names[1] != self.baseline
            ]
            if clauses:
                told = comparison.sentence(self._held(clauses), self.baseline)
                said.append(f"{schedule}: {told}." if len(schedules) > 1 else f"{told}.")
        timed = [(names[0], one) for names, _, one in compared if names[1] == self.baseline]
        if timed:
            told = comparison.sentence(timed, f"{first}, both by {self.baseline}")
            said.append(f"What schedules did, which is no routing: {told}.")
        return said or [f"Nothing is compared: {self.baseline} is the only routing."]

    def _held(self, clauses: list[tuple[str, Comparison]]) -> list[tuple[str, Comparison]]:
        """Of a strategy that rests only what holds under the pessimistic model is said."""
        return [(name, one) for name, one in clauses if not name.endswith((QUEUES[1], QUEUES[2]))]

    # --- for people -----------------------------------------------------------------------------------------------

    def table(self) -> str:
        """The answer as text: a line a strategy, what can be said, and what the data cannot tell."""
        compared = {(*names, queue): one for names, queue, one in self.compare()}
        head = tables.head(self.data, self.settings, self.parents)
        return "\n".join(tables.lines(head, self.baseline, self.rows(), compared, self.sentences(), self.notes))

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the answer as one HTML file, which opens without a network; see docs/report.md.

        Raises
        ------
        InputError
            The file cannot be written, or plotly is not installed.
        """
        from sor.report.study import write  # the one import from below: see `ASKED_FOR` in tests/test_guards.py

        write(self, path)

    def as_dict(self) -> dict[str, Any]:
        """The answer as what goes into JSON; absent is None."""
        compared = [
            {
                "schedule": names[0],
                "routing": names[1],
                "queue": queue,
                "baseline": {
                    "schedule": self.strategies[0][0] if names[1] == self.baseline else names[0],
                    "routing": self.baseline,
                },
                **msgspec.structs.asdict(one),
            }
            for names, queue, one in self.compare()
        ]
        strategies = {"strategies": self.rows(), "comparisons": compared, "notes": self.notes}
        return {"schema_version": SCHEMA_VERSION, **self.origin(), **strategies}

    def origin(self) -> dict[str, Any]:
        """Of `as_dict` how it was made, and of what."""
        return {
            "command": self.command,
            "settings": {name: value for name, value in self.settings.items() if name != "rests"},
            "versions": _versions(),
            "seed": self.rules.seed,
            "data": self.data,
            "orders": len(set(self.parents["order"].tolist())),
        }


def _titled(routing: str, queue: str | None) -> str:
    return routing if queue is None else f"{routing} {queue}"


def _mean(values: NDArray[Any]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> float | None:
    total = float(whole.sum())
    return float(part.sum()) / total if total else None


def _worked(columns: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Shares filled and those printed meanwhile, of orders that took a second or more: in less hardly anyone trades."""
    slow = columns["last_fill"] - columns["arrival"] >= SECOND
    return columns["filled"][slow], columns["life_volume"][slow]


def _versions() -> dict[str, str]:
    return {
        "sor": metadata.version("sor"),
        "kernels": BACKEND,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def study_of(planned: Plan, found: Found, feed: Any, directory: VenueDirectory, baseline: str) -> Study:
    rules = planned.rules
    parents = concatenated([row for _, row in found.parents], Parent)
    fills = concatenated([fill for _, rows in found.fills for fill in rows], FillRow)
    strategies = [(one.schedule, one.routing) for _, _, one in planned.ways]
    settings = {
        "strategies": [f"{schedule} x {routing}" for schedule, routing in strategies],
        "baseline": baseline,
        "rests": [one.rests for _, _, one in planned.ways],
        "horizon_seconds": rules.horizon / SECOND,
        "end_rule": "complete" if rules.complete else "leave",
        "grace_seconds": rules.grace / SECOND,
        "latency_ns": {venue: list(drawn) for venue, drawn in rules.latency.items()},
        "feed_delay_ns": rules.delay,
        "queues": list(rules.queues),
        "together": rules.together,
        "refresh_seconds": rules.refresh / SECOND,
        "frozen": "take" if rules.take_frozen else "leave",
        "max_quote_age_seconds": None if rules.max_quote_age is None else rules.max_quote_age / SECOND,
        "session": list(planned.session),
        "placement_seconds": rules.placement / SECOND,
        "windows": rules.windows,
        "min_windows": rules.min_windows,
        "penalties": {
            name: value for name, value in msgspec.structs.asdict(rules.parameters).items() if name != "step"
        },
    }
    study = Study(
        parents, fills, strategies, baseline, planned.days, rules, settings, data_of(planned, feed, directory)
    )
    study.notes = planned.notes + notes_of(study, found, planned, directory)
    return study


def venues_of(days: Sequence[Day], directory: VenueDirectory) -> dict[str, dict[str, float]]:
    """Rows of each venue, and the seconds from its first to its last, over all days and symbols."""
    found: dict[str, dict[str, float]] = {}
    for day in days:
        for publisher, (rows, first, last) in sorted(day.publishers.items()):
            venue = found.setdefault(directory.venue(publisher).venue_id, {"rows": 0, "seconds": 0.0})
            venue["rows"] += rows
            venue["seconds"] += (last - first) / SECOND
    return found


def data_of(planned: Plan, feed: Any, directory: VenueDirectory) -> dict[str, Any]:
    """What the feed is: rows, venues, gaps, and the state of the market within the sessions."""
    days = planned.days
    span = sum(day.closes - day.opens for day in days)
    return {
        "files": list(getattr(feed, "paths", ())),
        "rows": sum(day.rows for day in days),
        "symbols": sorted({day.symbol for day in days}),
        "days": sorted({day.name for day in days}),
        "venues": venues_of(days, directory),
        "depth": planned.depth,
        "consolidated": any(day.consolidated for day in days),
        "trades": sum(day.prints for day in days),
        "volume": sum(day.volume for day in days),
        "off_exchange_volume": sum(day.off_exchange for day in days),
        "backwards": sum(day.backwards for day in days),
        "gaps": [
            {"symbol": day.symbol, "from": iso_of(begin), "seconds": (end - begin) / SECOND}
            for day in days
            for begin, end in day.gaps
        ],
        "grain_ns": min(day.grain for day in days),
        "crossed": sum(day.crossed for day in days) / span,
        "locked": sum(day.locked for day in days) / span,
        "one_sided": sum(day.one_sided for day in days) / span,
        "arrivals_redrawn": planned.redrawn,
        "bad": dict(getattr(feed, "bad", {})),
        "skipped": dict(getattr(feed, "skipped", {})),
    }


def notes_of(study: Study, found: Found, planned: Plan, directory: VenueDirectory) -> list[str]:
    """What the data cannot tell, and what else must be said, each time."""
    data, columns = study.data, study.parents
    shares = [
        ("in their windows", _ratio(columns["filled"], columns["window_volume"])),
        ("while they were worked", _ratio(*_worked(columns))),
    ]
    told = ", ".join(f"{share:.2%} of what was traded {what}" for what, share in shares if share is not None)
    notes = ["Our orders move nobody here: that is a bound, not a fact." + (f" They were {told}." if told else "")]
    if any(share is not None and share > LARGE for _, share in shares):
        notes.append(
            f"That is more than {LARGE:.0%}: a real market would have reacted, so these costs are no evidence."
        )
    if not data["trades"]:
        notes.append(
            "The feed has no trades: participation is not known, and what rests fills between not at all and always."
            if any(study.settings["rests"])
            else "The feed has no trades: participation is not known."
        )
    if any(study.settings["rests"]) and data["grain_ns"] >= COARSE:
        notes.append(
            f"Times are whole {'seconds' if data['grain_ns'] > COARSE else 'milliseconds'}: what came first within one "
            "is not known, so what rests may do worse or better than its range."
        )
    left_out = ", ".join(f"{why} {data['skipped'][why]:,}" for why in ODD_PRINTS if data["skipped"].get(why))
    if left_out:
        notes.append(f"Prints that fill nobody were left out: {left_out}.")
    if len(data["venues"]) == 1:
        notes.append(
            "One venue quotes, so there is nothing to route between: levels of one book are no venues, and what is "
            "saved by splitting over them is saved by waiting, which is the schedule's doing."
        )
    if data["consolidated"]:
        notes.append(_frozen(study))
    elif planned.rules.take_frozen:
        notes.append("No quote of this feed is frozen: each venue's rows tell all that it shows.")
    if (
        not data["consolidated"]
        and data["depth"] == 1
        and any(routing == "greedy_l2" for _, routing in study.strategies)
    ):
        notes.append("The feed shows one level a venue: greedy_l2 and price_fee can do no more than brute_force.")
    if planned.rules.max_quote_age is not None:
        notes.append(
            f"A venue whose last row was older than {planned.rules.max_quote_age / SECOND:g} s showed nothing and "
            "filled nothing until its next one."
        )
    if found.fees_from:
        notes.append(f"Fees are from outside their dates at {', '.join(sorted(found.fees_from))}.")
    if found.default_fees:
        notes.append(f"Fees are a default, which nobody stated, at {', '.join(sorted(found.default_fees))}.")
    ruled = _ruled(planned.days, directory)
    if ruled:
        notes.append(f"Venues with rules reject what breaks them, and charge their tickets: {ruled}.")
    if data["gaps"]:
        hit = len(set(columns["order"][columns["gap"]].tolist()))
        several = f"{len(data['gaps'])} gaps" if len(data["gaps"]) > 1 else "1 gap"
        notes.append(f"{several} of more than 5 minutes without a row of the session; {hit} orders live in one.")
    if data["backwards"]:
        notes.append(f"Time goes back in {data['backwards']:,} rows: they count as of the newest time before them.")
    if data["crossed"] > 0.01:
        notes.append(
            f"The market is crossed {data['crossed']:.0%} of the session: quotes are not all of the same time."
        )
    unknown = np.isnan(columns["mid"])
    if unknown.any():
        notes.append(
            f"{int(unknown.sum()):,} of {len(unknown):,} results have no cost, as there was no mid until they arrived."
        )
    blind = int((columns["no_mid"] & ~unknown).sum())
    if blind:
        notes.append(
            f"{blind:,} of {len(columns['no_mid']):,} results had no mid at arrival or end: the last one stands for it."
        )
    rejects = int(columns["rejects"].sum())
    if rejects:
        times = ", ".join(f"{venue} {count:,}" for venue, count in sorted(found.left_out.items()))
        left = f" Left out for a while, after some in a row, by number of times: {times}." if times else ""
        notes.append(f"Venues rejected {rejects:,} of {int(columns['children'].sum()):,} child orders.{left}")
    if found.unplaced:
        notes.append(f"cont_kukanov could not place {found.unplaced:,} times, and took what was shown.")
    return notes


def _ruled(days: Sequence[Day], directory: VenueDirectory) -> str:
    """Venues that had rules on a day, each with those; empty: none had."""
    found: dict[str, list[str]] = {}
    for day in days:
        for publisher in sorted(day.publishers):
            entry = directory.venue(publisher)
            told = found.setdefault(entry.venue_id, [])
            rules = entry.rules_at(day.opens)
            if rules.bind and (words := _in_words(rules, day.opens < entry.rules[0].start)) not in told:
                told.append(words)
    return "; ".join(f"{venue} {', later '.join(told)}" for venue, told in sorted(found.items()) if told)


def _in_words(rules: DatedRules, early: bool) -> str:
    """What a venue takes; ``early``: before the first date that rules of it are known of."""
    least, most = rules.min_notional, rules.max_quantity
    told = [
        "round lots" if rules.lot == "round" else f"lots of {rules.lot:,}" if rules.lot > 1 else "",
        f"{rules.min_quantity:,} or more" if rules.min_quantity else "",
        f"${least:,.15g} or more" if least else "",
        f"{rules.min_execution:,} at once or nothing" if rules.min_execution else "",
        "" if most is None else f"{most:,} at most",
        "" if rules.tick is None else f"prices on ${rules.tick:.15g}",
        f"a ticket of ${rules.ticket:,.15g}" if rules.ticket else "",
        "from outside their dates" if early else "",
    ]
    return f"({', '.join(words for words in told if words)})"


def _frozen(study: Study) -> str:
    """What is done with quotes of a consolidated feed that it no longer updates."""
    unknown = "Quotes are consolidated: what venues show behind the best is not known, and is"
    if not study.rules.take_frozen:
        return f"{unknown} not taken."
    columns = study.parents
    taken, filled = columns["frozen"].sum(), columns["filled"].sum()
    results = int((columns["frozen"] > 0).sum())
    return (
        f"{unknown} taken as it was last told (frozen): {taken:,.15g} of {filled:,.15g} filled shares, "
        f"in {results:,} of {len(columns['frozen']):,} results."
    )


def day_name(number: int) -> str:
    return date.fromordinal(number).isoformat()


def as_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as they are written: days, sides and queue models by name."""
    found = dict(columns)
    if "day" in found:
        found["day"] = np.array([day_name(day) for day in found["day"].tolist()])
        found["side"] = np.array([SIDES[side] for side in found["side"].tolist()])
    found["queue"] = np.array([QUEUES[queue] for queue in found["queue"].tolist()])
    return found
