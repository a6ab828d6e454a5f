"""The tables of Cont and Kukanov's paper next to ours, and studies of what moves the optimum.

docs/cont-kukanov.md explains what comes out. Base case of the paper (arXiv 1210.1625v4, section 6): outflows
``xi_k = alpha xi_0 + (1 - alpha) eps_k``, all parts independent and Poisson. W is the expected cost in cents a share.
"""

from __future__ import annotations

import csv
import importlib.resources
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sor.errors import InputError
from sor.models.placement import Placement, PlacementCost, place, placement_cost

Parts = tuple[float, ...]

PENALTIES = {"theta": 0.0005, "lambda_under": 0.05, "lambda_over": 0.05}  # dollars a share, as are the next three
HALF_SPREAD, FEE, REBATE = 0.02, 0.003, 0.002
QUEUE, MEAN, ALPHA = 2000.0, 2200.0, 0.6  # shares; shares; weight of what the venues' outflows have in common

JUDGES = 100_000  # fresh samples that every placement is judged on
STEPS = 1_000  # of the paper's stochastic approximation
SETS, SET_SIZE = 10, 500  # sets of samples for the bound, and samples of each
TRAIN, JUDGE, BOUND, STUDY = range(4)  # what samples are for: each use has its own


# --- outflows --------------------------------------------------------------------------------------------------------


class Discrete:
    """A distribution over a few numbers, with the methods that `place` asks for."""

    def __init__(self, values: np.ndarray, probabilities: np.ndarray) -> None:
        order = np.argsort(values)
        self.values = values[order]
        self.below = np.cumsum(probabilities[order])  # P(xi <= value)

    def cdf(self, value: Any) -> Any:
        return np.concatenate(([0.0], self.below))[np.searchsorted(self.values, value, side="right")]

    def ppf(self, probability: Any) -> Any:
        """The left inverse: the least value with P(xi <= value) >= probability."""
        place_of = np.searchsorted(self.below, probability, side="left")
        return self.values[np.minimum(place_of, len(self.values) - 1)]


class Pareto:
    """P(xi > x) = (1 + x / scale)^-tail, with a given mean; an infinite tail index is the exponential distribution."""

    def __init__(self, mean: float, tail: float) -> None:
        self.mean, self.tail, self.scale = mean, tail, mean * (tail - 1.0)

    def cdf(self, value: Any) -> Any:
        if math.isinf(self.tail):
            return -np.expm1(-np.asarray(value) / self.mean)
        return 1.0 - (1.0 + np.asarray(value) / self.scale) ** -self.tail

    def ppf(self, probability: Any) -> Any:
        if math.isinf(self.tail):
            return -self.mean * np.log1p(-np.asarray(probability))
        return self.scale * ((1.0 - np.asarray(probability)) ** (-1.0 / self.tail) - 1.0)


def _masses(mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and probabilities of a Poisson distribution, but for tails below 1e-25."""
    reach = 12.0 * math.sqrt(mean) + 30.0
    values = np.arange(max(0, math.floor(mean - reach)), math.ceil(mean + reach) + 1)
    logs = [value * math.log(mean) - mean - math.lgamma(value + 1) for value in values.tolist()]
    return values.astype(float), np.exp(logs)


@cache
def poisson(mean: float) -> Discrete:
    return Discrete(*_masses(mean))


@cache
def mixture(alpha: float = ALPHA) -> Discrete:
    """Of one venue's outflow alpha xi_0 + (1 - alpha) eps."""
    values, masses = _masses(MEAN)
    sums = np.add.outer(alpha * values, (1.0 - alpha) * values)
    return Discrete(sums.ravel(), np.multiply.outer(masses, masses).ravel())


def joint(uniforms: np.ndarray, means: tuple[float, ...], alpha: float = ALPHA) -> np.ndarray:
    """Samples of all venues' outflows, (N, K), from uniform numbers (N, K + 1), the first for what all share."""
    own = [poisson(mean).ppf(column) for mean, column in zip(means, uniforms.T[1:], strict=True)]
    shared = [poisson(mean).ppf(uniforms[:, 0]) for mean in means]
    return alpha * np.column_stack(shared) + (1.0 - alpha) * np.column_stack(own)


def draw(seed: int, use: int, count: int, size: int, venues: int) -> np.ndarray:
    """Uniform numbers for one use in one row of the tables."""
    return np.random.default_rng([seed, use, size, venues]).random((count, venues + 1))


# --- the tables ------------------------------------------------------------------------------------------------------


class Printed(NamedTuple):
    """A row of the paper's tables: % of S, cents a share, shares, %."""

    size: int
    venues: int
    parts: Parts
    total: float
    simple: Parts  # W of X^M, X^L and X^E
    optimal: float
    outcome: Parts  # fees, impact, penalties; shares under and over; probabilities of either, %


class Row(NamedTuple):
    """The same computed: what was found, and what that costs on fresh samples."""

    printed: Printed
    found: Placement
    judged: PlacementCost
    simple: Parts  # W of X^M, X^L and X^E
    steps: float  # W of the paper's stochastic approximation

    @property
    def parts(self) -> Parts:
        return tuple(100.0 * part / self.printed.size for part in (self.found.market, *self.found.limits))

    @property
    def optimal(self) -> float:
        return self.cents(self.judged.mean)

    @property
    def error(self) -> float:
        return self.cents(self.judged.standard_error or 0.0)

    @property
    def outcome(self) -> Parts:
        cost = self.judged
        dollars = cost.breakdown.spread_and_fees, cost.breakdown.impact, cost.breakdown.penalties
        shares = cost.expected_underfill, cost.expected_overfill
        chances = 100.0 * cost.underfill_probability, 100.0 * cost.overfill_probability
        return (*map(self.cents, dollars), *shares, *chances)

    def cents(self, dollars: float) -> float:
        return 100.0 * dollars / self.printed.size


def printed_rows() -> list[Printed]:
    text = importlib.resources.files("sor.models").joinpath("cont_kukanov_tables.csv").read_text(encoding="ascii")
    return [_printed(row) for row in csv.DictReader(text.splitlines())]


def _printed(row: dict[str, str]) -> Printed:
    outcome = "fees", "impact", "penalties", "underfill_shares", "overfill_shares", "underfill_pct", "overfill_pct"
    return Printed(
        int(row["S"]),
        int(row["K"]),
        (float(row["M_pct"]), *map(float, row["L_pct"].split("|"))),
        float(row["total_pct"]),
        (float(row["W_market"]), float(row["W_limit"]), float(row["W_equal"])),
        float(row["W_optimal"]),
        tuple(float(row[name]) for name in outcome),
    )


def problem(size: float, venues: int, **changes: Any) -> dict[str, Any]:
    """Arguments of `place` for the base case, without the outflows."""
    base = {"target": size, "half_spread": HALF_SPREAD, "fee": FEE, **PENALTIES}
    return base | {"rebates": [REBATE] * venues, "queues": [QUEUE] * venues} | changes


def simple_placements(size: float, venues: int) -> list[tuple[float, list[float]]]:
    """X^M all in the market order, X^L all in one limit order, X^E equal parts."""
    equal, nothing = size / (venues + 1), [0.0] * (venues - 1)
    return [(size, [0.0, *nothing]), (0.0, [size, *nothing]), (equal, [equal] * venues)]


def compute(printed: Printed, seed: int, training: int) -> Row:
    """Solve one row on some samples, and judge it on others."""
    size, venues = printed.size, printed.venues
    means, arguments = (MEAN,) * venues, problem(size, venues)
    samples = joint(draw(seed, TRAIN, training, size, venues), means)
    fresh = joint(draw(seed, JUDGE, JUDGES, size, venues), means)

    def judge(market: float, limits: Any) -> PlacementCost:
        return placement_cost(market, limits, outflows=fresh, **arguments)

    found = place(outflows=samples, **arguments)
    steps = place(outflows=samples[:STEPS], method="stochastic", **arguments)
    simple = tuple(100.0 * judge(*placement).mean / size for placement in simple_placements(size, venues))
    return Row(
        printed, found, judge(found.market, found.limits), simple, 100.0 * judge(steps.market, steps.limits).mean / size
    )


def gaps(row: Row, seed: int, sets: int, size: int) -> np.ndarray:
    """W of X* less HiGHS's bound on each of several sets of samples, cents a share.

    The least of a mean over samples is on average below the least of the expectation, and a set's cost of X* on average
    its expected cost, as X* was found on other samples. So the mean is at least how far X* is from the optimum.
    """
    shares, venues = row.printed.size, row.printed.venues
    arguments = problem(shares, venues)
    samples = joint(draw(seed, BOUND, sets * size, shares, venues), (MEAN,) * venues)
    differences = []
    for outflows in samples.reshape(sets, size, venues):
        bound = place(outflows=outflows, method="linear", certify=True, **arguments).lower_bound or 0.0
        cost = placement_cost(row.found.market, row.found.limits, outflows=outflows, **arguments).mean
        differences.append(row.cents(cost - bound))
    return np.array(differences)


def closed_form(printed: Printed) -> float:
    """L* of Prop. 3 for a row with one venue, shares; by the distribution itself, no samples."""
    return place(outflows=mixture(), method="closed_form", **problem(printed.size, 1)).limits[0]


def penalties_for(limit: int, size: int = 1000) -> tuple[float, float]:
    """Prop. 3 backwards: L* is `limit` for lambda_u from the first to below the second, Poisson outflow of one venue.

    L* = F^-1(c/d) - Q is `limit` where F(Q + limit - 1) < c/d <= F(Q + limit).
    """
    c = 2 * HALF_SPREAD + FEE + REBATE
    rest = HALF_SPREAD + REBATE + PENALTIES["theta"]
    low, high = (c / float(poisson(MEAN).cdf(QUEUE + value)) - rest for value in (limit, limit - 1))
    return low, high


# --- what is printed -------------------------------------------------------------------------------------------------


def report(seed: int, training: int) -> Iterator[str]:
    """All lines; sections are parted by empty ones."""
    rows = [compute(printed, seed, training) for printed in printed_rows()]
    for section in (table_1(rows, training), placements(rows), table_2(rows), single_venue(rows)):
        yield from section
        yield ""
    yield from certificate(rows, seed)


def table_1(rows: list[Row], training: int) -> Iterator[str]:
    yield f"Table 1. Expected cost W, cents a share of S, on {JUDGES:,} fresh samples, next to print."
    yield "X^M: all in the market order. X^L: all in one limit order. X^E: equal parts. X*: the optimum, found on"
    yield f"{training:,} samples. steps: {STEPS:,} steps of the paper's stochastic approximation, from equal parts."
    yield "   S  K       X^M           X^L           X^E               X*"
    yield "           ours print    ours print    ours print    ours print    diff  error   steps"
    for row in rows:
        printed = row.printed
        pairs = zip((*row.simple, row.optimal), (*printed.simple, printed.optimal), strict=True)
        costs = "".join(f"{ours:8.3f} {print_:5.2f}" for ours, print_ in pairs)
        yield f"{_name(row)}{costs} {row.optimal - printed.optimal:+7.3f} {row.error:6.3f} {row.steps:7.3f}"


def placements(rows: list[Row]) -> Iterator[str]:
    yield "The placements X* = (M | L_1 | ... | L_K), % of S, and their sums."
    yield f"   S  K  {'ours':<29}  sum  {'print':<29}  sum"
    for row in rows:
        printed = row.printed
        ours, theirs = (f"{_parts(parts):<29}" for parts in (row.parts, printed.parts))
        yield f"{_name(row)}  {ours} {sum(row.parts):4.0f}  {theirs} {printed.total:4.0f}"


def table_2(rows: list[Row]) -> Iterator[str]:
    yield "Table 2. Where the cost of X* comes from (cents a share of S), and how an order ends."
    yield "            fees         impact       penalties     shares under   shares over   P(under), %   P(over), %"
    yield "   S  K" + "    ours print" * 7
    for row in rows:
        formats = (("8.2f", "5.2f"),) * 3 + (("8.1f", "5.0f"),) * 4
        triples = zip(row.outcome, row.printed.outcome, formats, strict=True)
        yield _name(row) + "".join(f"{ours:{wide}} {theirs:{narrow}}" for ours, theirs, (wide, narrow) in triples)


def single_venue(rows: list[Row]) -> Iterator[str]:
    low, high = penalties_for(270)
    yield "One venue: L* in shares by the closed form (Prop. 3) and found on samples."
    yield "   S  K  closed  samples"
    for row in rows:
        if row.printed.venues == 1:
            yield f"{_name(row)} {closed_form(row.printed):7.1f} {row.found.limits[0]:8.1f}"
    slow = 100.0 * PENALTIES["theta"] * STEPS * step_size(1, STEPS, SIZE) / SIZE
    yield f"A limit order that no sample fills moves by theta gamma N = {slow:.1f}% of S in N = {STEPS:,} steps."
    yield f"With Poisson({MEAN:.0f}) outflow and S = 1000 it is (730, 270) for lambda_u from {low:.5f} to {high:.5f}."


def certificate(rows: list[Row], seed: int) -> Iterator[str]:
    if not _has_highs():
        yield "The gap to the bound is left out: it needs scipy (pip install 'sor[certify]')."
        return
    yield "The gap: no placement costs less than the bound, in expectation. Cents a share of S; bound and gap are means"
    yield f"over {SETS} sets of {SET_SIZE} samples of their own, with the gap's standard error."
    yield "   S  K      X*   bound     gap  error"
    for row in rows:
        found = gaps(row, seed, SETS, SET_SIZE)
        gap, error = float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found))
        yield f"{_name(row)} {row.optimal:7.3f} {row.optimal - gap:7.3f} {gap:7.3f} {error:6.3f}"


def _name(row: Row) -> str:
    return f"{row.printed.size:4} {row.printed.venues:2}"


def _parts(parts: Parts) -> str:
    return " | ".join(f"{part:2.0f}" for part in parts)


def _has_highs() -> bool:
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        return False
    return True


# --- studies ---------------------------------------------------------------------------------------------------------


class Study(NamedTuple):
    """One table of data: the first column is what was changed. Its figure is named by the first part of its name."""

    figure: str
    name: str
    columns: tuple[str, ...]
    rows: list[Parts]
    lines: slice = slice(1, None)  # the columns that are drawn
    unit: str = "shares"
    logarithmic: bool = False


Change = Callable[[float], dict[str, Any]]

FLOWS = {"poisson": poisson(MEAN), "exponential": Pareto(MEAN, math.inf), "pareto": Pareto(MEAN, 2.0)}
SIZE = 1000.0  # of the order in the studies
SHORT = 1000.0  # queue in the study of tails: behind the base case's no such outflow is worth a limit order

ONE_VENUE: tuple[tuple[str, str, Change, np.ndarray], ...] = (
    ("lambda_under", "lambda_u, $ a share", lambda value: {"lambda_under": value}, np.linspace(0.024, 0.08, 29)),
    ("queue", "queue Q, shares", lambda value: {"queues": [value]}, np.linspace(0, 3000, 31)),
    ("order_size", "order size S, shares", lambda value: {"target": value}, np.linspace(50, 1500, 30)),
    ("half_spread", "half-spread h, $ a share", lambda value: {"half_spread": value}, np.linspace(0.002, 0.046, 23)),
)
TWO_VENUES: tuple[tuple[str, str, Change, np.ndarray], ...] = (
    ("queue", "queue Q_1, shares", lambda value: {"queues": [value, QUEUE]}, np.linspace(1000, 3000, 41)),
    ("rebate", "rebate r_1, $ a share", lambda value: {"rebates": [value, REBATE]}, np.linspace(-0.01, 0.014, 25)),
    ("outflow", "mean outflow of venue 1, shares", lambda value: {"means": (value, MEAN)}, np.linspace(1400, 3000, 33)),
    ("correlation", "alpha", lambda value: {"alpha": value}, np.linspace(0, 1, 21)),
)


def one_venue() -> Iterator[Study]:
    """M* and L* by the closed form for three outflows of one mean, and for Pareto tails of any heaviness."""
    for name, axis, change, values in ONE_VENUE:
        columns = axis, *(f"{part} {flow}" for flow in FLOWS for part in ("M", "L"))
        rows = [_by_closed_form(value, change(value), list(FLOWS.values())) for value in values.tolist()]
        yield Study("one_venue", name, columns, rows)
    tails = np.linspace(1.1, 6.0, 50).tolist()
    rows = [_by_closed_form(tail, {"queues": [SHORT]}, [Pareto(MEAN, tail)]) for tail in tails]
    yield Study("one_venue", "tail", (f"tail index, queue of {SHORT:.0f}", "M pareto", "L pareto"), rows)


def _by_closed_form(value: float, changes: dict[str, Any], flows: list[Any]) -> Parts:
    arguments = problem(SIZE, 1) | changes
    found = [place(outflows=flow, method="closed_form", **arguments) for flow in flows]
    return (value, *(part for answer in found for part in (answer.market, *answer.limits)))


def two_venues(seed: int, training: int) -> Iterator[Study]:
    """The split when one venue, or what the venues share, changes; the same uniform numbers throughout."""
    uniforms = draw(seed, STUDY, training, int(SIZE), 2)
    for name, axis, change, values in TWO_VENUES:
        rows = [_split(value, change(value), uniforms) for value in values.tolist()]
        yield Study("two_venues", name, (axis, "M", "L_1", "L_2", "W, cents a share"), rows, slice(1, 4))


def _split(value: float, changes: dict[str, Any], uniforms: np.ndarray) -> Parts:
    outflows = joint(uniforms, changes.pop("means", (MEAN, MEAN)), changes.pop("alpha", ALPHA))
    found = place(outflows=outflows, **problem(SIZE, 2) | changes)
    return value, found.market, *found.limits, 100.0 * found.expected_cost / SIZE


def iterates(start: list[float], gamma: float, outflows: np.ndarray, arguments: dict[str, Any]) -> np.ndarray:
    """X_1 to X_N of the paper's section 4, (N, K + 1): one step on each sample, every part kept within [0, S]."""
    gains = np.array([-(arguments["half_spread"] + arguments["fee"])] + [arguments["half_spread"]] * (len(start) - 1))
    gains[1:] += arguments["rebates"]
    target, theta = arguments["target"], arguments["theta"]
    x, path = np.array(start), []
    for room in np.maximum(outflows - arguments["queues"], 0.0):
        executed = x[0] + np.minimum(x[1:], room).sum()
        under, over = executed < target, executed > target
        marginal = -(arguments["lambda_under"] + theta) * under + arguments["lambda_over"] * over
        moved = np.concatenate(([True], room > x[1:]))
        x = np.clip(x - gamma * (theta + moved * (marginal - gains)), 0.0, target)
        path.append(x)
    return np.array(path)


def step_size(venues: int, steps: int, size: float) -> float:
    """gamma of section 4 for equal rebates."""
    rest = PENALTIES["theta"] + PENALTIES["lambda_under"] + PENALTIES["lambda_over"]
    squares = (HALF_SPREAD + FEE + rest) ** 2 + venues * (HALF_SPREAD + REBATE + rest) ** 2
    return float(math.sqrt(venues) * size / math.sqrt(steps * squares))


def convergence(seed: int, longest: int) -> Iterator[Study]:
    """The iterates with two venues, and how much dearer than ours the paper's answer is after N steps."""
    arguments = problem(SIZE, 2)
    outflows = joint(draw(seed, STUDY, STEPS, int(SIZE), 2), (MEAN, MEAN))
    path = iterates([SIZE / 3] * 3, step_size(2, STEPS, SIZE), outflows, arguments)
    counts = np.arange(1, STEPS + 1)
    table = np.column_stack((counts, path, np.cumsum(path, axis=0) / counts[:, None]))
    parts = "step", "M", "L_1", "L_2", "mean of M", "mean of L_1", "mean of L_2"
    yield Study("convergence", "iterates", parts, [tuple(row) for row in table.tolist()])
    cases = (500, 1), (1000, 1), (1000, 2), (5000, 2), (5000, 5)
    counts_of_steps = [longest // part for part in (1000, 300, 100, 30, 10, 3, 1)]
    series = [_excess(size, venues, counts_of_steps, seed) for size, venues in cases]
    rows = [tuple(row) for row in zip(map(float, counts_of_steps), *series, strict=True)]
    names = ("steps N", *(f"S={size} K={venues}" for size, venues in cases))
    yield Study("convergence", "excess", names, rows, unit="cents a share above refined", logarithmic=True)


def _excess(size: int, venues: int, counts: list[int], seed: int) -> list[float]:
    """W of the paper's answer after N steps less that of `refined` on all samples, on fresh ones."""
    arguments, means = problem(size, venues), (MEAN,) * venues
    samples = joint(draw(seed, TRAIN, max(counts), size, venues), means)
    fresh = joint(draw(seed, JUDGE, JUDGES, size, venues), means)

    def judged(answer: Placement) -> float:
        return 100.0 * placement_cost(answer.market, answer.limits, outflows=fresh, **arguments).mean / size

    best = judged(place(outflows=samples, **arguments))
    after = [judged(place(outflows=samples[:count], method="stochastic", **arguments)) for count in counts]
    return [cost - best for cost in after]


def studies(seed: int, training: int) -> Iterator[Study]:
    yield from one_venue()
    yield from two_venues(seed, training)
    yield from convergence(seed, 10 * training)


# --- files -----------------------------------------------------------------------------------------------------------


def write(folder: str, seed: int, training: int) -> Iterator[Path]:
    """Write each study's data as CSV, and plots as SVG; gives the paths as they are written.

    Raises
    ------
    InputError
        Where the folder cannot be written to; where matplotlib is missing, after the data has been written.
    """
    done = []
    for study in studies(seed, training):
        path = Path(folder) / f"{study.figure}_{study.name}.csv"
        _save(path, _csv(study))
        done.append(study)
        yield path
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"plots need matplotlib, which cannot be imported ({error}): pip install 'sor[paper]'; "
            f"the data is in {folder}"
        ) from None
    for figure in dict.fromkeys(study.figure for study in done):
        path = Path(folder) / f"{figure}.svg"
        _save(path, _drawn([study for study in done if study.figure == figure]))
        yield path


def _csv(study: Study) -> str:
    lines = [study.columns, *([f"{value:.6g}" for value in row] for row in study.rows)]
    return "".join(",".join(f'"{cell}"' if "," in cell else cell for cell in line) + "\n" for line in lines)


def _save(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _drawn(panels: list[Study]) -> str:
    """A figure with one panel for each study, as SVG; the same text in every run."""
    import io

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    fonts = {"font.size": 8, "font.sans-serif": ["DejaVu Sans"]}  # which comes with matplotlib
    with rc_context({"svg.hashsalt": "sor", "svg.fonttype": "none"} | fonts):
        high = -(-len(panels) // 2)
        figure = Figure(figsize=(9, 3 * high), layout="constrained")
        for axes, study in zip(figure.subplots(high, 2, squeeze=False).flat, panels, strict=False):
            _panel(axes, study)
        for axes in figure.axes[len(panels) :]:
            axes.set_axis_off()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", buffer.getvalue())  # hundredths of a point are fine enough
    return "\n".join(line.strip() for line in text.splitlines()) + "\n"


def _panel(axes: Any, study: Study) -> None:
    """Market orders dashed, limit orders solid, in one colour where they belong together."""
    if study.logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.locator_params(nbins=5)
    x = [row[0] for row in study.rows]
    colours: dict[str, str] = {}
    for column, name in list(enumerate(study.columns))[study.lines]:
        head, _, flow = name.partition(" ")
        colour = colours.setdefault(flow or head, f"C{len(colours)}") if study.figure == "one_venue" else None
        style = "--" if head == "M" else "-"
        axes.plot(x, [row[column] for row in study.rows], style, color=colour, label=name, linewidth=1)
    axes.set_xlabel(study.columns[0])
    axes.set_ylabel(study.unit)
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(fontsize=6)
