"""Speed and quality of limit and market orders, against named peers on the same samples in the same run.

    pip install -e '.[bench]'
    python benchmarks/placement.py [--quick]

The paper's base case with 12 venues and 1,000 joint samples. Peers are HiGHS (`scipy.optimize.linprog`) on the linear
programme in which fills may be declined, with its model built beforehand, the paper's iteration as a plain numpy loop,
and the kernels' Python twin. Contestants take turns; times are medians over rounds, then over seeded instances.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import scipy
from scipy.optimize import linprog

from sor import BACKEND, _placement_py, place, placement_cost
from sor.kernels import placement_core
from sor.models.placement import Problem, problem_of, relaxation, step_size

VENUES, SAMPLES = 12, 1_000
SLACK = 1e-6  # dollars a share: 1e-4 cents

Run = Callable[[], object]
Times = dict[str, float]  # contestant: median seconds


def instance(seed: int, target: float) -> dict[str, Any]:
    """Correlated Poisson outflows (alpha = 0.6) behind queues of about 2,000."""
    rng = np.random.default_rng(seed)
    return {
        "target": target,
        "half_spread": 0.02,
        "fee": 0.003,
        "rebates": 0.002 + rng.uniform(-0.001, 0.001, VENUES).round(4),
        "queues": rng.integers(1_900, 2_100, VENUES),
        "outflows": 0.6 * rng.poisson(2_200, (SAMPLES, 1)) + 0.4 * rng.poisson(2_200, (SAMPLES, VENUES)),
        "theta": 0.0005,
        "lambda_under": 0.05,
        "lambda_over": 0.05,
    }


def numpy_loop(problem: Problem, gamma: float) -> np.ndarray:
    """The paper's iteration, one sample after the other, as one would write it in numpy."""
    x = np.full(problem.venue_count + 1, problem.target / (problem.venue_count + 1))
    total = np.zeros_like(x)
    g = np.empty_like(x)
    for outflows in problem.outflows:
        filled = x[0] + np.minimum(x[1:], np.maximum(outflows - problem.queues, 0.0)).sum()
        marginal = problem.over * (filled > problem.target)
        marginal -= (problem.under + problem.theta) * (filled < problem.target)
        g[0] = problem.theta - problem.gains[0] + marginal
        g[1:] = problem.theta + (outflows > problem.queues + x[1:]) * (marginal - problem.gains[1:])
        x = np.clip(x - gamma * g, 0.0, problem.target)
        total += x
    return total / len(problem.outflows)


def race(contestants: dict[str, Run], rounds: dict[str, int]) -> Times:
    """Median seconds of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(max(rounds.values())):
        for name, run in contestants.items():
            if turn < rounds[name]:
                begin = perf_counter()
                run()
                times[name].append(perf_counter() - begin)
    return {name: median(values) for name, values in times.items()}


def measure(seed: int, target: float, rounds: int) -> tuple[Times, dict[str, float]]:
    """Times of all contestants on one instance, and what their answers cost, in cents a share."""
    case = instance(seed, target)
    problem = problem_of(*case.values())
    gamma = step_size(problem)
    start = np.full(VENUES + 1, target / (VENUES + 1))
    model = relaxation(problem)
    answer = place(**case)
    later = case | {"outflows": np.roll(case["outflows"], 1, axis=0) + np.eye(1, SAMPLES).T * 25}  # one row has changed
    paper = placement_core.stochastic(start, *problem, gamma)
    assert np.allclose(numpy_loop(problem, gamma), paper, rtol=1e-6, atol=1e-6)
    assert _placement_py.stochastic(start, *problem, gamma) == paper
    contestants: dict[str, Run] = {
        "stochastic, kernel alone": partial(placement_core.stochastic, start, *problem, gamma),
        "stochastic, place()": partial(place, **case, method="stochastic"),
        "stochastic, numpy loop": partial(numpy_loop, problem, gamma),
        "stochastic, Python twin": partial(_placement_py.stochastic, start, *problem, gamma),
        "refined, place()": partial(place, **case),
        "refined, warm start, place()": partial(place, **later, start=answer),
        "HiGHS (linprog), simplex": partial(linprog, **model, method="highs-ds"),
        "HiGHS (linprog), interior point": partial(linprog, **model, method="highs-ipm"),
    }
    slow = {name: max(1, rounds // 10) for name in contestants if name.startswith("HiGHS")}
    some = {name: max(3, rounds // 5) for name in contestants if "loop" in name or "twin" in name}
    often = dict.fromkeys(contestants, rounds) | some | slow
    linear = place(**case, method="linear", certify=True)
    costs = {
        "the paper's X, 1,000 steps": placement_cost(paper[0], paper[1:], **case).mean,
        "refined": answer.expected_cost,
        "HiGHS's placement": linear.expected_cost,
        "lower bound": linear.lower_bound,
    }
    return race(contestants, often), {name: 100.0 * cost / target for name, cost in costs.items()}


def duration(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us" if seconds < 0.01 else f"{seconds * 1e3:,.1f} ms"


def verdict(wanted: str, reached: bool) -> str:
    return f"{wanted}: {'yes' if reached else 'NO'}"


def report(target: float, instances: int, rounds: int) -> None:
    print(f"\n{VENUES} venues, {SAMPLES:,} samples, {target:,.0f} shares; medians over {instances} instances")
    results = [measure(seed, target, rounds) for seed in range(instances)]
    times = {name: median(one[name] for one, _ in results) for name in results[0][0]}
    loop, highs = "stochastic, numpy loop", [name for name in results[0][0] if name.startswith("HiGHS")]
    leads = {name: median(one[name] / one["refined, place()"] for one, _ in results) for name in highs}
    faster = median(one[loop] / one["stochastic, kernel alone"] for one, _ in results)
    notes = {
        "stochastic, kernel alone": verdict("at most 50 us", times["stochastic, kernel alone"] <= 50e-6),
        loop: f"{faster:,.0f} times the kernel's",
        "refined, place()": verdict("at most 10 ms", times["refined, place()"] <= 10e-3),
    }
    for name, lead in leads.items():
        notes[name] = f"{lead:,.0f} times refined's; " + verdict("at least 20", lead >= 20)
    for name, seconds in times.items():
        print(f"  {name:<34}{duration(seconds):>12}  {notes.get(name, '')}".rstrip())
    print("  cents a share:")
    for name in results[0][1]:
        print(f"  {name:<34}{median(cost[name] for _, cost in results):>12.5f}")
    worst = max(cost["refined"] - cost["HiGHS's placement"] for _, cost in results)
    print("  " + verdict("refined never dearer than HiGHS's placement", worst <= 100 * SLACK))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few instances and rounds: does it run")
    quick = parser.parse_args().quick
    print(f"kernels: {BACKEND}; Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}")
    for target in (1_000.0, 5_000.0):
        report(target, *(1, 5) if quick else (3, 30))


if __name__ == "__main__":
    main()
