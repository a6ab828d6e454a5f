"""Which parameters would have been cheapest, and were they cheaper on days that they were not chosen by?

A point is a strategy whose name says its parameters, so trying points is a backtest of as many strategies. They are
judged by **walking forward**: the point that was cheapest on the days before is held against the plain default and a
baseline on the next day, at least a horizon after the last order it was chosen by. What is cheapest on the days that
it was chosen by always looks good there; only the days after say whether it is.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sor.backtest import comparison, tables
from sor.backtest.comparison import Comparison
from sor.backtest.days import SECOND, Session
from sor.backtest.orders import Orders, ParentOrder
from sor.backtest.run import backtest
from sor.backtest.study import Study, day_name
from sor.backtest.work import Rules
from sor.errors import InputError
from sor.execution.strategies import PLACED_BY, strategy
from sor.market.venues import VenueDirectory
from sor.types import one_of, real_number, whole_number

SCHEMA_VERSION = 1
SEARCHES = ("grid", "random", "optuna")
OF_SCHEDULE = {"twap": "slices", "pov": "rate"}
WHOLE = ("horizon", "slices")
STEPS = 5  # that a range is in a grid
POINTS = 125  # that a random search draws, and optuna tries a day, unless told
MOST_POINTS = 10_000
WIDE = 10.0  # from which ratio of its ends on a range is gone through by factors
DIGITS = 4  # of a value that is drawn: more would pretend to know
SPACE = {  # of `cont_kukanov`, unless told
    "lambda_over": (0.001, 0.1),
    "lambda_under": (0.005, 0.5),
    "horizon": [10, 20, 40, 80, 160],
}


# --- what may be tried -----------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """Numbers from one to another, both included; where they lie far apart, evenly by factors."""

    low: float
    high: float

    def at(self, share: float) -> float:
        if self.low > 0.0 and self.high / self.low >= WIDE:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + (self.high - self.low) * share

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        if self.low > 0.0 and self.high / self.low >= WIDE:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


Values = Range | tuple[float, ...]


@dataclass(frozen=True)
class Space:
    """What is tried: values of parameters by name, for one schedule and routing.

    Raises
    ------
    InputError
        A parameter changes nothing for this strategy, or its values are none.
    """

    schedule: str
    routing: str
    values: Mapping[str, Values]

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("space is empty: it must name a parameter or more, such as lambda_under=0.005..0.5")
        for name in self.values:
            self._check(name)

    @classmethod
    def of(cls, schedule: str, routing: str, given: Mapping[str, Any] | None) -> Space:
        """With the values given: a list of them, or a pair, which is a range."""
        if given is None:
            given = SPACE if routing == "cont_kukanov" else {}
        return cls(schedule, routing, {name: _values(name, values) for name, values in given.items()})

    def _check(self, name: str) -> None:
        if name in PLACED_BY:
            if self.routing != "cont_kukanov":
                raise InputError(
                    f"space has {name}, and {self.routing} takes what is released at once: penalties and a horizon "
                    "change no split of it; they are cont_kukanov's"
                )
        elif name in OF_SCHEDULE.values():
            if OF_SCHEDULE.get(self.schedule) != name:
                of = next(schedule for schedule, its in OF_SCHEDULE.items() if its == name)
                raise InputError(f"space has {name}, and the schedule is {self.schedule}: it is of {of} only")
        elif name == "step":
            raise InputError("space has step: strategies split to the share, so a step changes nothing")
        else:
            known = ", ".join((*PLACED_BY, *OF_SCHEDULE.values()))
            raise InputError(f"space has {name[:60]!r}: it must be one of {known}")

    def names(self, point: Mapping[str, float]) -> tuple[str, str]:
        """The strategy of a point."""
        schedule, routing = self.schedule, self.routing
        for name, value in point.items():
            if name in PLACED_BY:
                routing += f":{name}={value:.15g}"
            else:
                schedule += f":{value:.15g}"
        found = strategy(schedule, routing)
        return found.schedule, found.routing

    def listed(self) -> dict[str, tuple[float, ...]]:
        """Each parameter's values; of a range as many as a grid has."""
        return {
            name: tuple(dict.fromkeys(_rounded(name, values.at(i / (STEPS - 1))) for i in range(STEPS)))
            if isinstance(values, Range)
            else values
            for name, values in self.values.items()
        }

    def grid(self) -> list[dict[str, float]]:
        listed = self.listed()
        number = math.prod(len(values) for values in listed.values())
        if number > MOST_POINTS:
            raise InputError(f"space has {number:,} points: a grid may have {MOST_POINTS:,}; or let some be drawn")
        return [dict(zip(listed, chosen, strict=True)) for chosen in itertools.product(*listed.values())]

    def drawn(self, number: int, seed: int) -> list[dict[str, float]]:
        """So many that differ, or fewer where there are no more."""
        random = np.random.default_rng(seed)
        found: dict[tuple[float, ...], dict[str, float]] = {}
        for _ in range(100 * number):
            point = {
                name: _kept(values, name, values.at(float(random.random())))
                if isinstance(values, Range)
                else values[int(random.integers(len(values)))]
                for name, values in self.values.items()
            }
            found.setdefault(tuple(point.values()), point)
            if len(found) == number:
                break
        return list(found.values())

    def place(self, point: Mapping[str, float]) -> NDArray[np.float64]:
        """Of a point within a cube whose sides are 1."""
        found = []
        for name, values in self.values.items():
            if isinstance(values, Range):
                found.append(values.share(point[name]))
            else:
                found.append(values.index(point[name]) / max(1, len(values) - 1))
        return np.array(found)


def _values(name: str, given: Any) -> Values:
    if isinstance(given, Range) or (isinstance(given, tuple) and len(given) == 2):
        low, high = (real_number(f"space {name}", value) for value in given)
        if not low < high:
            raise InputError(
                f"space {name} is {low:g} to {high:g}: a range must go from a lower number to a higher one"
            )
        return Range(low, high)
    values = tuple(_rounded(name, real_number(f"space {name}", value), 15) for value in given)
    if not values or len(set(values)) < len(values):
        raise InputError(f"space {name} is {list(given)!r:.80}: it must be a range, or a list of numbers that differ")
    return tuple(sorted(values))


def _rounded(name: str, value: float, digits: int = DIGITS) -> float:
    return float(round(value)) if name in WHOLE else float(f"{value:.{digits}g}")


# --- what was found --------------------------------------------------------------------------------------------------


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters, and what their strategy cost on all days: basis points, the mean over orders."""

    parameters: dict[str, float]
    schedule: str
    routing: str
    cost_bps: float | None
    orders: int


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """A day, judged by what was cheapest on days before; all costs are means over orders, basis points."""

    day: str
    tuned_on: list[str]
    parameters: dict[str, float]
    schedule: str
    routing: str
    orders: int
    in_sample_bps: float
    out_of_sample_bps: float
    default_bps: float
    baseline_bps: float


@dataclass
class Tuning:
    """What came of trying points.

    Attributes
    ----------
    study : Study
        The points, the plain default and the baseline, each a strategy of it.
    space : Space
    points : list of Point
        In the order in which they were tried.
    best : Point
        Cheapest on all days: what one would go on with, and in sample.
    neighbours : list of Point
        Those next to it; where they cost much more, it is luck.
    folds : list of Fold
        One for each day that was judged, in the order of time; none of a feed of one day.
    savings : dict of str to Comparison
        Of the walk forward, against ``default`` and the baseline: negative is cheaper.
    """

    study: Study
    space: Space
    search: str
    points: list[Point]
    best: Point
    neighbours: list[Point]
    folds: list[Fold]
    default: tuple[str, str]
    savings: dict[str, Comparison]
    differing: int
    notes: list[str] = field(default_factory=list)

    @property
    def in_sample_bps(self) -> float | None:
        """What the chosen points cost on the days that they were chosen by, weighed as the days that were judged."""
        return self._mean("in_sample_bps")

    @property
    def out_of_sample_bps(self) -> float | None:
        return self._mean("out_of_sample_bps")

    @property
    def default_bps(self) -> float | None:
        """Of the plain default, on the days that were judged; of one day, on that."""
        return self._mean("default_bps") if self.folds else self._cost(self.default)

    @property
    def baseline_bps(self) -> float | None:
        return self._mean("baseline_bps") if self.folds else self._cost((self.default[0], self.study.baseline))

    def _mean(self, name: str) -> float | None:
        orders = sum(fold.orders for fold in self.folds)
        return sum(getattr(fold, name) * fold.orders for fold in self.folds) / orders if orders else None

    def _cost(self, names: tuple[str, str]) -> float | None:
        columns = self.study.parents
        mean = _mean(columns["shortfall_bps"][(columns["schedule"] == names[0]) & (columns["routing"] == names[1])])
        return None if math.isnan(mean) else mean

    def sentence(self) -> str:
        """What can be said of the point that was chosen each day, in plain words."""
        if not self.folds:
            return "One day can be tuned on and not judged: what is best on it says nothing of the next."
        clauses = [comparison.sentence([("the tuned one", one)], name) for name, one in self.savings.items()]
        held = ["the plain default", *list(self.savings)[1:]]
        return " ".join(f"Against {name}: {clause}." for name, clause in zip(held, clauses, strict=True))

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the answer as one HTML file, which opens without a network; see docs/report.md.

        Raises
        ------
        InputError
            The file cannot be written, or plotly is not installed.
        """
        from sor.report.tuning import write  # from below, as a study does

        write(self, path)

    def table(self) -> str:
        """The answer as text."""
        study = self.study
        title = tables.head(study.data, study.settings, study.parents)
        return "\n".join(tables.tuning(self.as_dict(), title, self.sentence()))

    def as_dict(self) -> dict[str, Any]:
        """The answer as what goes into JSON; absent is None."""
        return {
            "schema_version": SCHEMA_VERSION,
            **self.study.origin(),
            "search": self.search,
            "space": {name: list(values) for name, values in self.space.values.items()},
            "ranges": [name for name, values in self.space.values.items() if isinstance(values, Range)],
            "points_tried": len(self.points),
            "points_that_differ": self.differing,
            "best_parameters": self.best.parameters,
            "best": msgspec.to_builtins(self.best),
            "neighbours": msgspec.to_builtins(self.neighbours),
            "in_sample_bps": self.in_sample_bps,
            "out_of_sample_bps": self.out_of_sample_bps,
            "baselines": {"default": self.default_bps, self.study.baseline: self.baseline_bps},
            "savings_bps": {name: _saving(one) for name, one in self.savings.items()},
            "folds": msgspec.to_builtins(self.folds),
            "points": msgspec.to_builtins(self.points),
            "notes": self.notes,
        }


def _saving(one: Comparison) -> dict[str, Any]:
    """A difference with its sign turned: positive is cheaper than what it is held against."""
    found = msgspec.structs.asdict(one)
    mean, low, high = (found.pop(name) for name in ("difference_bps", "low", "high"))
    turned = {"saving_bps": mean, "low": high, "high": low}
    return {name: None if value is None else 0.0 - value for name, value in turned.items()} | found


# --- trying ----------------------------------------------------------------------------------------------------------


def tune(
    feed: Any,
    orders: Orders | Sequence[ParentOrder],
    schedule: str = "immediate",
    routing: str = "cont_kukanov",
    space: Mapping[str, Any] | None = None,
    *,
    search: str = "grid",
    points: int | None = None,
    train_days: int | None = None,
    baseline: str = "nbbo",
    rules: Rules | None = None,
    session: Session | None = None,
    directory: VenueDirectory | None = None,
    jobs: int = 1,
    dask: str | None = None,
    keep: str | None = None,
    told: Callable[[int, int], None] | None = None,
    command: str | None = None,
) -> Tuning:
    """Try parameters of one strategy, and judge those that were cheapest on the days after.

    Parameters
    ----------
    feed, orders, baseline, rules, session, directory, jobs, dask, keep, told, command
        As for `backtest`. Orders are judged by one queue model, the first of ``rules.queues``.
    schedule, routing : str
        What is tuned, without parameters: ``immediate``, ``twap``, ``vwap`` or ``pov``, and a routing.
    space : mapping, optional
        Values by parameter: a list, or a pair for a range, which in a grid is five values. Of ``cont_kukanov``
        ``lambda_over, lambda_under, theta_queue`` (dollars per share) and ``horizon`` (seconds), of ``twap``
        ``slices``, of ``pov`` ``rate``.
    search : {"grid", "random", "optuna"}
        All points; so many, drawn by ``rules.seed``; or one after the other where earlier ones were cheap, anew for
        each day that is judged, so that it knows only the days before.
    points : int, optional
        How many are drawn, or tried a day.
    train_days : int, optional
        By how many days before a point is chosen, by default all.

    Returns
    -------
    Tuning

    Raises
    ------
    InputError
        As `backtest` does; or of a parameter that changes nothing for this strategy; or optuna is missing.
    StreamError
        The feed cannot be read to its end.
    """
    one_of("search", search, SEARCHES)
    number = whole_number("points", POINTS if points is None else points, 1, MOST_POINTS)
    if train_days is not None:
        whole_number("train_days", train_days, 1)
    wanted = Space.of(schedule, routing, space)
    rules = Rules() if rules is None else rules
    default = _default(wanted, rules)
    rules = replace(rules, queues=rules.queues[:1], placement=_longest(wanted, rules))

    def study(tried: Sequence[Mapping[str, float]], told: Callable[[int, int], None] | None = None) -> Study:
        return backtest(
            feed,
            orders,
            [default, *(wanted.names(point) for point in tried)],
            baseline=baseline,
            rules=rules,
            session=session,
            directory=directory,
            jobs=jobs,
            dask=dask,
            keep=keep,
            told=told,
            command=command,
        )

    if search == "optuna":
        return _one_by_one(wanted, default, study, number, train_days, rules, told)
    tried = wanted.grid() if search == "grid" else wanted.drawn(number, rules.seed)
    costs = _Costs(study(tried, told), wanted, tried, default)
    return costs.tuning(search, [costs.cheapest(days) for days, _ in costs.folds(train_days)], train_days)


def _default(space: Space, rules: Rules) -> tuple[str, str]:
    """The strategy as it is when nothing is said; its horizon is stated, as the run's is the longest of all points."""
    schedule = {"twap": "twap:10", "pov": "pov:0.1"}.get(space.schedule, space.schedule)
    routing = space.routing
    if routing == "cont_kukanov":
        routing += f":horizon={rules.placement // SECOND}"
    found = strategy(schedule, routing)
    return found.schedule, found.routing


def _longest(space: Space, rules: Rules) -> int:
    """So that orders arrive at the same times whatever is tried: warm-ups go by the longest horizon."""
    values = space.values.get("horizon", ())
    return max([rules.placement, *(round(value) * SECOND for value in values)])


class _Costs:
    """Costs of all points, order by order."""

    def __init__(
        self, study: Study, space: Space, tried: Sequence[Mapping[str, float]], default: tuple[str, str]
    ) -> None:
        self.study, self.space, self.default = study, space, default
        self.tried = [dict(point) for point in tried]
        self._names = [space.names(point) for point in self.tried]
        columns = study.parents
        rows: dict[tuple[str, str], list[int]] = {}  # in one pass: there may be thousands of points
        for row, names in enumerate(zip(columns["schedule"].tolist(), columns["routing"].tolist(), strict=True)):
            rows.setdefault(names, []).append(row)
        self._rows = {names: np.array(found) for names, found in rows.items()}
        self._costs = np.array([columns["shortfall_bps"][self._rows[names]] for names in self._names])
        self._day = columns["day"][self._rows[default]]
        self._arrival = columns["arrival"][self._rows[default]]
        self._end = columns["end"][self._rows[default]]
        self.days = sorted(set(self._day.tolist()))

    def folds(self, train_days: int | None) -> list[tuple[list[int], int]]:
        """Days to choose by, and the one to judge."""
        first = 1 if train_days is None else train_days
        starts = [0 if train_days is None else i - train_days for i in range(first, len(self.days))]
        return [
            (self.days[start:i], self.days[i]) for start, i in zip(starts, range(first, len(self.days)), strict=True)
        ]

    def cost(self, places: Sequence[int], days: Sequence[int]) -> list[float]:
        """Mean costs of points on some days."""
        chosen = np.isin(self._day, days)
        return [_mean(self._costs[place][chosen]) for place in places]

    def cheapest(self, days: Sequence[int]) -> int:
        """The place of the point that was; of equal ones the first that was tried."""
        return int(np.argmin(np.nan_to_num(self.cost(range(len(self.tried)), days), nan=np.inf)))

    def tuning(self, search: str, chosen: Sequence[int], train_days: int | None) -> Tuning:
        """With the point that was chosen for each day that is judged."""
        study = self.study
        baseline = (self.default[0], study.baseline)
        folds, mine = [], []
        for (days, judged), place in zip(self.folds(train_days), chosen, strict=True):
            orders = self._judged(days, judged)
            if not len(orders):
                continue
            mine.append((place, orders))
            costs = [self._on(names, orders) for names in (self._names[place], self.default, baseline)]
            folds.append(
                Fold(
                    day=day_name(judged),
                    tuned_on=[day_name(day) for day in days],
                    parameters=self.tried[place],
                    schedule=self._names[place][0],
                    routing=self._names[place][1],
                    orders=len(orders),
                    in_sample_bps=self.cost([place], days)[0],
                    out_of_sample_bps=costs[0],
                    default_bps=costs[1],
                    baseline_bps=costs[2],
                )
            )
        points = [self._point(place) for place in range(len(self.tried))]
        best = self.cheapest(self.days)
        notes = [*study.notes, *self._edges(best)] + (
            [] if folds else ["One day: its best point was judged on no other."]
        )
        return Tuning(
            study,
            self.space,
            search,
            points,
            points[best],
            [points[place] for place in self._beside(best, search)],
            folds,
            self.default,
            self._savings(mine, baseline),
            len({row.tobytes() for row in self._costs}),
            notes,
        )

    def _judged(self, days: Sequence[int], judged: int) -> NDArray[np.intp]:
        """Orders of a day, from a horizon after the last one that was chosen by."""
        over = self._end[np.isin(self._day, days)].max() + self.study.rules.horizon
        return np.flatnonzero((self._day == judged) & (self._arrival >= over))

    def _on(self, names: tuple[str, str], orders: NDArray[np.intp]) -> float:
        return _mean(self.study.parents["shortfall_bps"][self._rows[names][orders]])

    def _point(self, place: int) -> Point:
        costs = self._costs[place]
        mean = _mean(costs)
        return Point(
            parameters=self.tried[place],
            schedule=self._names[place][0],
            routing=self._names[place][1],
            cost_bps=None if math.isnan(mean) else mean,
            orders=len(costs),
        )

    def _beside(self, best: int, search: str) -> list[int]:
        """Points a step from it in one parameter; where there is no grid, the nearest ones, two a parameter."""
        places = np.array([self.space.place(point) for point in self.tried])
        apart = np.abs(places - places[best])
        if search == "grid":
            listed = self.space.listed()
            at = [[listed[name].index(value) for name, value in point.items()] for point in self.tried]
            steps = np.abs(np.array(at) - np.array(at[best])).sum(axis=1)
            return [int(place) for place in np.flatnonzero(steps == 1)]
        order = np.argsort(np.sqrt((apart**2).sum(axis=1)), kind="stable")
        return [int(place) for place in order if place != best][: 2 * len(self.space.values)]

    def _edges(self, best: int) -> list[str]:
        """Where cheaper points may lie outside of what was tried."""
        found = []
        for name in self.space.values:
            values = {point[name] for point in self.tried}
            if len(values) > 1 and self.tried[best][name] in (min(values), max(values)):
                found.append(name)
        at = "The best point lies at the end of what was tried of"
        return [f"{at} {', '.join(found)}: beyond it may be cheaper ones."] if found else []

    def _savings(
        self, mine: Sequence[tuple[int, NDArray[np.intp]]], baseline: tuple[str, str]
    ) -> dict[str, Comparison]:
        if not mine:
            return {}
        chosen = np.concatenate([self._rows[self._names[place]][orders] for place, orders in mine])
        orders = np.concatenate([orders for _, orders in mine])
        held = {"default": self.default, baseline[1]: baseline}
        found = [self.study.compared(chosen, self._rows[names][orders]) for names in held.values()]
        return dict(zip(held, comparison.adjust(found), strict=True))


def _mean(costs: NDArray[np.float64]) -> float:
    known = costs[np.isfinite(costs)]
    return float(known.mean()) if len(known) else math.nan


# --- one after the other ---------------------------------------------------------------------------------------------


def _one_by_one(
    space: Space,
    default: tuple[str, str],
    study: Callable[..., Study],
    number: int,
    train_days: int | None,
    rules: Rules,
    told: Callable[[int, int], None] | None,
) -> Tuning:
    """A search for each day that is judged, which sees costs of the days before only, and one on all days.

    Each trial is a backtest, whose work may be spread; the trials wait for each other.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise InputError("search is 'optuna', which is not installed: pip install 'sor[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known: dict[tuple[str, str], Study] = {}
    tried: list[dict[str, float]] = []
    first = study([])
    days = _Costs(first, space, [], default)
    goals = [*days.folds(train_days), (days.days, None)]
    lives = number * len(goals)
    trials = itertools.count(1)

    def cost_of(point: dict[str, float], days: Sequence[int]) -> float:
        names = space.names(point)
        if names not in known:
            known[names] = study([point])
            tried.append(point)
        if told is not None:
            told(next(trials), lives)
        return _Costs(known[names], space, [point], default).cost([0], days)[0]

    chosen = []
    for place, (before, _) in enumerate(goals):
        sampler = optuna.samplers.TPESampler(seed=(rules.seed + place) % 2**32)
        search = optuna.create_study(sampler=sampler)

        def trial(asked: Any, before: Sequence[int] = before) -> float:
            return cost_of(
                {name: _kept(values, name, _asked(asked, name, values)) for name, values in space.values.items()},
                before,
            )

        search.optimize(trial, n_trials=number)
        chosen.append({name: _kept(space.values[name], name, value) for name, value in search.best_params.items()})
    together = _Costs(_joined(first, list(known.values())), space, tried, default)
    return together.tuning("optuna", [_place(tried, point) for point in chosen[:-1]], train_days)


def _place(tried: Sequence[dict[str, float]], point: dict[str, float]) -> int:
    return next(place for place, one in enumerate(tried) if one == point)


def _kept(values: Values, name: str, value: float) -> float:
    """Of a range with few digits."""
    return _rounded(name, value) if isinstance(values, Range) else float(value)


def _asked(trial: Any, name: str, values: Values) -> float:
    if not isinstance(values, Range):
        return float(trial.suggest_categorical(name, list(values)))
    if name in WHOLE:
        return float(trial.suggest_int(name, math.ceil(values.low), math.floor(values.high)))
    by_factors = values.low > 0.0 and values.high / values.low >= WIDE
    return float(trial.suggest_float(name, values.low, values.high, log=by_factors))


def _joined(first: Study, others: Sequence[Study]) -> Study:
    """Studies of the same orders as one of all their strategies."""

    def rows(columns: Mapping[str, NDArray[Any]], new: set[tuple[str, str]]) -> NDArray[np.bool_]:
        names = zip(columns["schedule"].tolist(), columns["routing"].tolist(), strict=True)
        return np.array([one in new for one in names], dtype=bool)

    strategies, rests = list(first.strategies), list(first.settings["rests"])
    parents, fills = [first.parents], [first.fills]
    for one in others:
        new = {names for names in one.strategies if names not in strategies}
        for found, columns in ((parents, one.parents), (fills, one.fills)):
            chosen = rows(columns, new)
            found.append({name: values[chosen] for name, values in columns.items()})
        rests += [it for names, it in zip(one.strategies, one.settings["rests"], strict=True) if names in new]
        strategies += [names for names in one.strategies if names in new]

    def together(found: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}

    settings = first.settings | {
        "rests": rests,
        "strategies": [f"{schedule} x {routing}" for schedule, routing in strategies],
    }
    return replace(first, parents=together(parents), fills=together(fills), strategies=strategies, settings=settings)
