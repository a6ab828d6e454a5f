"""Studies of what moves the optimum of Cont and Kukanov's model, about the paper's base case.

docs/cont-kukanov.md explains what comes out; `sor.report.plots` writes and draws it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from sor.models.paper import (
    ALPHA,
    JUDGE,
    JUDGES,
    MEAN,
    QUEUE,
    REBATE,
    SIZE,
    STEPS,
    STUDY,
    TRAIN,
    Pareto,
    Parts,
    draw,
    joint,
    poisson,
    problem,
    step_size,
)
from sor.models.placement import Placement, place, placement_cost


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
