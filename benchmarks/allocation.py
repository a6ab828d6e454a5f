"""Speed of the static split, against named peers that solve the same problems in the same run.

    pip install -e '.[bench]'
    python benchmarks/allocation.py [--quick]

Peers are HiGHS (`scipy.optimize.milp`), CP-SAT (OR-tools), a plain Python enumeration written here and the kernels'
Python twin. Peers get their models built beforehand: only solving is timed, and every peer has to find the cost that
`allocate` finds, to 1e-9 relative. Under venue rules HiGHS is asked for the most shares and then for the least cost,
and `allocate` has to send as many at no more, in whole numbers. Contestants take turns, times are medians over rounds,
then over seeded random instances; a ratio is the median over instances of the ratio of an instance's medians.

What two threads gain is judged where two cores are free: there two processes that solve the same at once take hardly
longer than one alone. How many times one's work they get done is printed beside it, as nothing does better.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import comb, isclose
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from timeit import Timer

import numpy as np
import ortools
import scipy
from ortools.sat.python import cp_model
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from sor import (
    BACKEND,
    Level2Venue,
    Venue,
    _core_py,
    allocate,
    allocate_exhaustive,
    allocate_greedy_l2,
    allocate_many,
)
from sor.kernels import core
from sor.models.static import MOST_CELLS, NEARLY, level_quotes_of

ORDER = 5_000  # shares
MICRO = 1_000_000  # CP-SAT wants whole numbers: micro-dollars are exact here
SNAPSHOTS = 20_000  # of one call of allocate_many
FREE = 1.9  # times one process's work that two at once get done, where two cores are free
MIN_BATCH = 0.0005  # seconds that one measurement lasts at least

Run = Callable[[], object]
Times = dict[str, float]  # contestant: median seconds


# --- problems --------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One instance; numbers are whole hundredths of a cent or coarser."""

    venues: list[Venue]
    step: int
    under: float  # lambda_under
    reference: float
    over: float = 0.01
    queue: float = 0.002

    @property
    def steps(self) -> int:
        return ORDER // self.step

    @property
    def quotes(self) -> np.ndarray:
        return np.array([(v.ask, v.ask_size, v.fee, v.rebate) for v in self.venues])

    @property
    def penalties(self) -> tuple[float, float, float]:
        return self.over, self.under, self.queue

    def slopes(self) -> list[tuple[float, float]]:
        """Dollars per share executed, and per share beyond the displayed size, of a complete split."""
        return [(v.ask - self.reference + v.fee, self.under + self.queue - v.rebate) for v in self.venues]

    def cost(self, split: list[int]) -> float:
        """Cost of a complete split by the formula."""
        total = 0.0
        for q, v, (take, rest) in zip(split, self.venues, self.slopes(), strict=True):
            executed = min(q, v.ask_size)
            total += executed * take + (q - executed) * rest
        return total


def instances(objective: str, venue_count: int, step: int, count: int) -> list[Case]:
    """Random quotes within six cents of the mid, missing a share priced among them: a real decision.

    The last notional one has the default penalties, with which no trade is cheapest.
    """
    rng = random.Random(f"{objective} {venue_count}")  # the same quotes at every step
    cases = []
    for _ in range(count):
        mid = rng.randrange(9_000, 11_000) / 100
        venues = [
            Venue(
                round(mid + rng.randint(1, 6) / 100, 2),
                float(rng.choice([100 * rng.randint(1, 12), rng.randint(1, 1_500)])),
                rng.randint(-20, 30) / 10_000,
                rng.randint(-10, 32) / 10_000,
            )
            for _ in range(venue_count)
        ]
        reference = mid if objective == "shortfall" else 0.0
        under = round((0.0 if reference else mid) + rng.randint(20, 60) / 1_000, 3)
        cases.append(Case(venues, step, under, reference))
    if objective == "notional":
        cases[-1].under = 0.005
    return cases


# --- peers -----------------------------------------------------------------------------------------------------------
#
# Variables per venue: steps m, executed shares e <= min(step m, size). The cost e take + (step m - e) rest makes e as
# large as it may be where take <= rest. Elsewhere a binary b says whether all that is displayed is taken:
# step m - e <= (order - size) b and e >= size b. Where size >= order, e = step m without it.


@dataclass
class Highs:
    """The model as a mixed-integer linear programme; dollars per share that all venues cost are left out."""

    case: Case

    def __post_init__(self) -> None:
        case, k = self.case, len(self.case.venues)
        size = np.minimum([v.ask_size for v in case.venues], ORDER)
        slopes = np.array(case.slopes())
        slopes -= slopes.min()
        concave = slopes[:, 0] > slopes[:, 1]
        m, e, b = np.eye(3 * k)[:k], np.eye(3 * k)[k : 2 * k], np.eye(3 * k)[2 * k :]
        unexecuted = case.step * m - e
        self.objective = slopes[:, 0] @ e + slopes[:, 1] @ unexecuted
        self.integrality = np.repeat([1, 0, 1], k)
        self.bounds = Bounds(0, np.concatenate([np.full(k, case.steps), size, concave]))
        self.constraints = [
            LinearConstraint(m.sum(axis=0), case.steps, case.steps),
            LinearConstraint(unexecuted, 0, np.inf),
            LinearConstraint((unexecuted - (ORDER - size)[:, None] * b)[concave], -np.inf, 0),
            LinearConstraint((e - size[:, None] * b)[concave], 0, np.inf),
        ][: 4 if concave.any() else 2]

    def solve(self) -> OptimizeResult:
        return milp(
            self.objective,
            integrality=self.integrality,
            bounds=self.bounds,
            constraints=self.constraints,
            options={"mip_rel_gap": 0.0},
        )

    def split(self) -> list[int]:
        result = self.solve()
        assert result.status == 0, result.message
        return [self.case.step * round(m) for m in result.x[: len(self.case.venues)]]


@dataclass
class CpSat:
    """The same model in whole micro-dollars, solved by one worker (more only take longer to start)."""

    case: Case

    def __post_init__(self) -> None:
        case = self.case
        slopes = [[round(slope * MICRO) for slope in pair] for pair in case.slopes()]
        base = min(min(pair) for pair in slopes)
        self.model, self.steps, cost = cp_model.CpModel(), [], []
        for venue, (take, rest) in zip(case.venues, slopes, strict=True):
            size = min(int(venue.ask_size), ORDER)
            m = self.model.new_int_var(0, case.steps, "")
            e = self.model.new_int_var(0, size, "")
            self.model.add(e <= case.step * m)
            if take > rest:
                b = self.model.new_bool_var("")
                self.model.add(e == size).only_enforce_if(b)
                self.model.add(e == case.step * m).only_enforce_if(~b)
            self.steps.append(m)
            cost.append((take - rest) * e + (rest - base) * case.step * m)
        self.model.add(sum(self.steps) == case.steps)
        self.model.minimize(sum(cost))
        self.solver = cp_model.CpSolver()
        self.solver.parameters.num_workers = 1

    def solve(self) -> int:
        return self.solver.solve(self.model)

    def split(self) -> list[int]:
        assert self.solve() == cp_model.OPTIMAL
        return [self.case.step * self.solver.value(m) for m in self.steps]


def compositions(steps: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write ``steps`` as a sum of ``parts`` whole numbers."""
    if parts == 1:
        yield (steps,)
        return
    for first in range(steps + 1):
        for others in compositions(steps - first, parts - 1):
            yield (first, *others)


def enumerate_plainly(case: Case) -> list[int]:
    """Every split, costs looked up in a table per venue, as one would write it in Python."""
    tables = []
    for venue, (take, rest) in zip(case.venues, case.slopes(), strict=True):
        parts = [(q, min(q, venue.ask_size)) for q in range(0, ORDER + 1, case.step)]
        tables.append([e * take + (q - e) * rest for q, e in parts])
    best = min(
        compositions(case.steps, len(tables)),
        key=lambda split: sum([table[m] for table, m in zip(tables, split, strict=True)]),
    )
    return [case.step * m for m in best]


# --- measuring -------------------------------------------------------------------------------------------------------


def race(contestants: dict[str, Run], rounds: int, slow_rounds: int) -> Times:
    """Median seconds of each contestant; they take turns, each as often as fills a batch, slow ones less often."""
    timers = {name: Timer(run) for name, run in contestants.items()}
    numbers, times = {}, {name: [] for name in timers}
    for name, timer in timers.items():
        once = min(timer.timeit(1) for _ in range(2))  # warms up, too
        numbers[name] = max(1, int(MIN_BATCH / max(once, 1e-7)))
    for turn in range(rounds):
        for name, timer in timers.items():
            if numbers[name] > 1 or turn < slow_rounds:
                times[name].append(timer.timeit(numbers[name]) / numbers[name])
    return {name: median(values) for name, values in times.items()}


def check(case: Case, finders: dict[str, Callable[[], list[int]]], wanted: float) -> None:
    """Every peer's split is complete, on the grid, and costs what it should."""
    for name, find in finders.items():
        split = find()
        assert sum(split) == ORDER, (name, split)
        assert all(q >= 0 and q % case.step == 0 for q in split), (name, split)
        assert isclose(case.cost(split), wanted, rel_tol=1e-9, abs_tol=1e-9), (name, case.cost(split), wanted)


def solvers(case: Case, rounds: int) -> Times:
    quotes, venues, k = case.quotes, case.venues, {"reference_price": case.reference}
    arguments = (quotes, ORDER, *case.penalties, case.step, case.reference)
    highs, cp_sat = Highs(case), CpSat(case)
    wanted = allocate(ORDER, venues, *case.penalties, case.step, **k)
    check(case, {"HiGHS": highs.split, "CP-SAT": cp_sat.split, "allocate": lambda: wanted.split}, wanted.cost)
    assert _core_py.allocate(*arguments) == wanted
    return race(
        {
            "allocate, array": partial(allocate, ORDER, quotes, *case.penalties, case.step, **k),
            "allocate, Venue objects": partial(allocate, ORDER, venues, *case.penalties, case.step, **k),
            "kernel alone": partial(core.allocate, *arguments),
            "Python twin": partial(_core_py.allocate, *arguments),
            "HiGHS (scipy.optimize.milp)": highs.solve,
            "CP-SAT (OR-tools)": cp_sat.solve,
        },
        rounds,
        max(3, rounds // 5),
    )


def enumerations(case: Case, rounds: int) -> Times:
    quotes, k = case.quotes, {"reference_price": case.reference}
    arguments = (ORDER, quotes, *case.penalties, case.step)
    wanted = allocate(*arguments, **k)
    check(
        case,
        {
            "allocate_exhaustive": lambda: allocate_exhaustive(*arguments, **k).split,
            "plain Python": lambda: enumerate_plainly(case),
        },
        wanted.cost,
    )
    return race(
        {
            "allocate, array": partial(allocate, *arguments, **k),
            "allocate_exhaustive": partial(allocate_exhaustive, *arguments, **k),
            "plain Python enumeration": partial(enumerate_plainly, case),
        },
        rounds,
        1,
    )


def greedy(seed: int, rounds: int) -> Times:
    rng = random.Random(seed)
    venues = [
        Level2Venue(
            f"venue {i}",
            [
                (round(100 + rng.randint(1, 5) / 100 + level / 100, 2), float(rng.randint(1, 900)))
                for level in range(10)
            ],
            0.003,
            0.002,
        )
        for i in range(16)
    ]
    quotes, _, _ = level_quotes_of(venues)
    penalties = (0.01, 0.005, 0.002)
    return race(
        {
            "allocate_greedy_l2, objects": partial(allocate_greedy_l2, ORDER, venues, *penalties),
            "kernel alone": partial(core.sweep, quotes, ORDER, *penalties, 0.0),
            "Python twin": partial(_core_py.sweep, quotes, ORDER, *penalties, 0.0),
        },
        rounds,
        rounds,
    )


# --- venue rules -----------------------------------------------------------------------------------------------------


@dataclass
class Ruled:
    """Displayed shares of venues with tickets, smallest orders and lots; as many as they allow, at the least cost."""

    quotes: np.ndarray
    rules: np.ndarray  # columns lot, min_quantity, min_notional, min_execution, max_quantity, ticket, fee_bps

    def __post_init__(self) -> None:
        """The model for HiGHS: whole lots m and a binary b by venue, least b <= m <= most b."""
        k, lot = len(self.quotes), self.rules[:, 0]
        lots, used = np.eye(2 * k)[:k], np.eye(2 * k)[k:]
        least, most = np.ceil(self.rules[:, 1] / lot), np.floor(np.minimum(self.quotes[:, 1], ORDER) / lot)
        self.shares = lot @ lots
        self.cash = ((self.quotes[:, 0] + self.quotes[:, 2] - 100.0) * lot) @ lots + self.rules[:, 5] @ used
        self.bounds = Bounds(0, np.concatenate([most, np.ones(k)]))
        self.constraints = [
            LinearConstraint(lots - least[:, None] * used, 0, np.inf),
            LinearConstraint(lots - most[:, None] * used, -np.inf, 0),
        ]

    def solve(self, objective: np.ndarray, low: float, high: float) -> list[int]:
        result = milp(
            objective,
            integrality=np.ones(len(objective)),
            bounds=self.bounds,
            constraints=[*self.constraints, LinearConstraint(self.shares, low, high)],
            options={"mip_rel_gap": 0.0},
        )
        assert result.status == 0, result.message
        lots = result.x[: len(self.quotes)]
        return [round(m) * int(lot) for m, lot in zip(lots, self.rules[:, 0].tolist(), strict=True)]

    def highs(self) -> list[int]:
        """The most shares first, the least cost of as many second."""
        most = sum(self.solve(-self.shares, 0, ORDER))
        return self.solve(self.cash, most, most)

    def judged(self, split: list[int]) -> tuple[int, int]:
        """(shares missing, cost in hundredths of a cent) of a split that keeps the rules: the less, the better."""
        cost = 0
        for q, (price, size, fee, _), (lot, least, _, _, _, ticket, _) in zip(
            split, self.quotes.tolist(), self.rules.tolist(), strict=True
        ):
            assert q == 0 or (q % lot == 0 and least <= q <= size), (q, lot, least, size)
            cost += (round(price * 10_000) + round(fee * 10_000)) * q + (round(ticket * 10_000) if q else 0)
        assert sum(split) <= ORDER, split
        return ORDER - sum(split), cost


def ruled_instances(lots: list[int], count: int) -> list[Ruled]:
    rng = random.Random(f"rules {lots}")
    cases = []
    for _ in range(count):
        rows, rules = [], []
        for _ in range(10):
            size = float(rng.choice([100 * rng.randint(1, 12), rng.randint(1, 1_500)]))
            rows.append((100 + rng.randint(1, 6) / 100, size, rng.randint(-20, 30) / 10_000, 0.002))
            least, ticket = rng.choice([0, 100, 200, 300]), rng.choice([0.0, 0.25, 0.5, 1.0, 2.0])
            rules.append((rng.choice(lots), least, 0.0, 0.0, np.inf, ticket, 0.0))
        cases.append(Ruled(np.array(rows), np.array(rules)))
    return cases


def by_rules(case: Ruled, rounds: int) -> Times:
    penalties = (0.01, 0.005, 0.002)
    ours = partial(allocate, ORDER, case.quotes, *penalties, resting=False, rules=case.rules)
    kernel = (case.quotes, [1] * len(case.quotes), case.rules, NEARLY, ORDER, *penalties, 0.0, True, MOST_CELLS)
    answer = ours()
    assert answer.proven
    assert case.judged(answer.split) <= case.judged(case.highs())
    assert core.sweep_by_rules(*kernel)[0] == _core_py.sweep_by_rules(*kernel)[0] == answer.split
    return race(
        {
            "allocate with rules, array": ours,
            "kernel alone": partial(core.sweep_by_rules, *kernel),
            "allocate without rules, array": partial(allocate, ORDER, case.quotes, *penalties, resting=False),
            "Python twin": partial(_core_py.sweep_by_rules, *kernel),
            "HiGHS (scipy.optimize.milp)": case.highs,
        },
        rounds,
        max(3, rounds // 5),
    )


def answer_calls(run: Run, calls: Connection) -> None:
    while calls.recv():
        run()
        calls.send(True)


@contextlib.contextmanager
def beside(run: Run) -> Iterator[Run]:
    """The same here and in another process at once."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    other = context.Process(target=answer_calls, args=(run, theirs))
    other.start()

    def both() -> None:
        ours.send(True)
        run()
        ours.recv()

    yield both
    ours.send(False)
    other.join()


def many(size: int, resting: bool, rounds: int) -> Times:
    """Seconds a snapshot, of the same arrays."""
    cases = instances("shortfall", 10, 100, SNAPSHOTS)
    quotes, mids = np.array([case.quotes for case in cases]), [case.reference for case in cases]
    rows, penalties = list(quotes), (0.01, 0.04, 0.002)
    at_once = partial(allocate_many, quotes, size, *penalties, resting=resting, reference_price=np.array(mids))

    def loop() -> list[tuple[list[int], float]]:
        return [
            allocate(size, one, *penalties, resting=resting, reference_price=mid)
            for one, mid in zip(rows, mids, strict=True)
        ]

    answers = loop()
    for threads in (1, 2):
        splits, costs = at_once(threads=threads)
        assert list(zip(splits.tolist(), costs.tolist(), strict=True)) == answers
    with beside(at_once) as both:
        times = race(
            {
                "allocate_many, one thread": at_once,
                "allocate_many, two threads": partial(at_once, threads=2),
                "two processes, each with all": both,
                "a loop over allocate": loop,
            },
            rounds,
            rounds,
        )
    return {name: seconds / SNAPSHOTS for name, seconds in times.items()}


# --- the table -------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "us"), (1e3, "ms")):
        if seconds * factor < 1_000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def ratio(times: list[Times], name: str, base: str) -> float:
    return median(one[name] / one[base] for one in times)


def row(name: str, figure: str, ratio_text: str = "", goal: str = "", met: bool | None = None) -> None:
    verdict = "" if met is None else "met" if met else "MISSED"
    print(f"  {name:<34}{figure:>10}  {ratio_text:>10}  {goal:<24}{verdict}".rstrip())


def at_most(times: list[Times], name: str, limit: float, base: str) -> None:
    figure = median(one[name] for one in times)
    row(name, duration(figure), f"{ratio(times, name, base):,.2f}", f"at most {duration(limit)}", figure <= limit)


def report(times: list[Times], goals: dict[str, float], leads: dict[str, float]) -> None:
    """A line per contestant, ratios to the first; ``goals`` in seconds, ``leads`` as ratios of HiGHS to one."""
    base, highs = next(iter(times[0])), "HiGHS (scipy.optimize.milp)"
    for name in times[0]:
        if name in goals:
            at_most(times, name, goals[name], base)
        else:
            row(name, duration(median(one[name] for one in times)), f"{ratio(times, name, base):,.2f}")
    for name, lead in leads.items():
        value = ratio(times, highs, name)
        row(f"HiGHS / {name}", "", f"{value:,.0f}", f"at least {lead:,.0f}", value >= lead)


def report_many(times: Times, rate: float) -> None:
    """``rate``: snapshots a second that one thread is to reach."""
    one, two, both, loop = times.values()
    for name, seconds in times.items():
        row(name, duration(seconds), f"{seconds / one:,.2f}")
    row("snapshots a second, one thread", f"{1 / one:,.0f}", "", f"at least {rate:,.0f}", 1 / one >= rate)
    row("the loop / one thread", "", f"{loop / one:,.2f}", "at least 2.5", loop / one >= 2.5)
    free = 2 * one / both >= FREE
    row("two processes at once / one", "", f"{2 * one / both:,.2f}", f"{FREE}: two cores are free")
    row("one thread / two", "", f"{one / two:,.2f}", "at least 1.7 on two cores", one / two >= 1.7 if free else None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the static split against named peers.")
    parser.add_argument("--quick", action="store_true", help="fewer instances and rounds")
    quick = parser.parse_args().quick
    count, rounds = (2, 9) if quick else (6, 35)
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, "
        f"ortools {ortools.__version__}, BACKEND {BACKEND}\n"
        f"{count} instances, {rounds} rounds, {ORDER:,} shares; medians, ratios to the first of each group"
    )
    for step, limit in ((100, 3e-6), (1, 150e-6)):
        for objective in ("notional", "shortfall"):
            print(f"\n10 venues, step {step}, {objective}")
            times = [solvers(case, rounds) for case in instances(objective, 10, step, count)]
            leads = {"allocate, array": 2_000, "allocate, Venue objects": 1_000}
            report(times, {"allocate, array": limit}, leads if step == 100 else {})
    for k in (3, 4, 5):
        splits = comb(ORDER // 100 + k - 1, k - 1)
        print(f"\n{k} venues, step 100, shortfall: {splits:,} splits")
        times = [enumerations(case, rounds) for case in instances("shortfall", k, 100, min(count, 3))]
        report(times, {}, {})
        each = median(one["allocate_exhaustive"] for one in times) / splits
        row("allocate_exhaustive, a split", duration(each), "", *(("at most 3 ns", each <= 3e-9) if k > 3 else ()))
    print("\ngreedy level 2: 16 venues of 10 levels")
    times = [greedy(seed, rounds) for seed in range(count)]
    report(times, {"allocate_greedy_l2, objects": 10e-6, "kernel alone": 10e-6}, {})
    for lots, limit in (([100], 10e-6), ([1], 250e-6), ([1, 100], 250e-6)):
        print(f"\nvenue rules: 10 venues with tickets and smallest orders, lots of {' and '.join(map(str, lots))}")
        times = [by_rules(case, rounds) for case in ruled_instances(lots, 2 * count)]
        report(times, {"allocate with rules, array": limit}, {})
        worst = max(one["allocate with rules, array"] for one in times)
        row("the slowest instance", duration(worst))
    for name, size, resting, rate in (
        ("displayed shares", ORDER, False, 1_500_000),
        ("shortfall, step 100", ORDER, True, 1_000_000),
        ("shortfall, step 100 and a remainder of 50", ORDER + 50, True, 250_000),
    ):
        print(f"\nmany snapshots: {SNAPSHOTS:,} of 10 venues, {name}")
        report_many(many(size, resting, rounds), rate)


if __name__ == "__main__":
    main()
