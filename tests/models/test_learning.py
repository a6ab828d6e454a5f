"""Placements learned from fills: towards known optima, saved and loaded whole, in bounded memory."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor.errors import DataError, InputError
from sor.models.online import Costs, OnlinePlacement, State, bucket, nearest

ROOT = Path(__file__).resolve().parents[2]
S = 1000
BASE = {"half_spread": 0.02, "fee": 0.003, "theta": 0.0005, "lambda_under": 0.05, "lambda_over": 0.05}
ONE = State.of("IBM", "buy", S, [2000])


def fills_of(placed: Any, beyond: np.ndarray) -> tuple[list[bool], float]:
    """What a simulated market does: ``beyond`` are the shares that leave behind the queues ahead, xi_k - Q_k."""
    filled = [bool(shares > limit) for shares, limit in zip(beyond, placed.limits, strict=True)]
    fills = [min(limit, max(shares, 0.0)) for shares, limit in zip(beyond, placed.limits, strict=True)]
    return filled, placed.market + sum(fills)


def train(learner: OnlinePlacement, state: State, costs: Costs, beyond: np.ndarray) -> None:
    for row in beyond:
        placed = learner.trial(state, S)
        learner.learn(state, S, costs, *fills_of(placed, row))


# --- convergence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rounds", "tolerance"), [(None, 0.05), (20_000, 0.07)])
@pytest.mark.parametrize(
    ("queue", "lambda_under"),
    [(1500, 0.05), (2000, 0.05), (1800, 0.08), (100, 0.05), (20_000, 0.05)],  # inside, all limit, all market
)
def test_one_venue_learns_the_closed_form(
    rounds: int | None, tolerance: float, queue: int, lambda_under: float
) -> None:
    """Prop. 3, exponential outflows of mean 2200: L* = clip(F^-1(c/d) - Q, 0, S)."""
    rebate, mean = 0.002, 2200.0
    costs = Costs(**BASE | {"lambda_under": lambda_under}, rebates=(rebate,))
    c = 2 * costs.half_spread + costs.fee + rebate
    d = lambda_under + costs.half_spread + rebate + costs.theta
    best = min(max(-mean * math.log1p(-c / d) - queue, 0.0), S)

    learner = OnlinePlacement(["XNYS"], rounds=rounds)
    before = learner.answer(ONE, S)
    assert before == (S / 2, [S / 2])
    rng = np.random.default_rng(5)
    train(learner, ONE, costs, rng.exponential(mean, (20_000, 1)) - queue)
    market, (limit,) = learner.answer(ONE, S)
    assert limit == pytest.approx(best, abs=tolerance * S)
    assert market == pytest.approx(S - best, abs=tolerance * S)
    assert learner.count(ONE) == 20_000


def expected_cost(parts: np.ndarray, outcomes: np.ndarray, costs: Costs) -> np.ndarray:
    """(5), averaged over equally likely outcomes, for many placements at once; rows of ``parts`` are (M, L_1, ...)."""
    market, limits = parts[:, :1], parts[:, None, 1:]
    fills = np.minimum(limits, np.maximum(outcomes, 0.0)[None])
    executed = market + fills.sum(axis=2)
    under, over = np.maximum(S - executed, 0.0), np.maximum(executed - S, 0.0)
    cost = (costs.half_spread + costs.fee) * market - (fills * (costs.half_spread + np.array(costs.rebates))).sum(
        axis=2
    )
    cost += costs.theta * (parts.sum(axis=1, keepdims=True) + under)
    return (cost + costs.lambda_under * under + costs.lambda_over * over).mean(axis=1)


@pytest.mark.parametrize("rebates", [(0.002, 0.002), (0.0035, -0.001)])
def test_two_venues_approach_the_optimum(rebates: tuple[float, float]) -> None:
    """Outcomes that can be enumerated, correlated; the optimum is that of a fine grid over all placements."""
    costs = Costs(**BASE, rebates=rebates)
    steps = np.arange(-500.0, 1501.0, 100.0)
    outcomes = np.array([(x, 0.5 * x + 0.5 * y) for x, y in itertools.product(steps, repeat=2)])
    grid = np.arange(0.0, S + 1, 50.0)
    everything = np.array(list(itertools.product(grid, repeat=3)))
    grid_cost = expected_cost(everything, outcomes, costs)
    least = grid_cost.min()
    learner = OnlinePlacement(["XNYS", "XNAS"])
    state = State.of("IBM", "sell", S, [2000, 1000])
    start = learner.answer(state, S)
    train(learner, state, costs, outcomes[np.random.default_rng(11).integers(len(outcomes), size=15_000)])
    answer = learner.answer(state, S)
    (first, learned) = expected_cost(np.array([[p.market, *p.limits] for p in (start, answer)]), outcomes, costs)
    assert first - least > 1.0  # dollars: there was something to learn
    assert learned - least < 0.2  # a fiftieth of a cent a share
    assert answer.market + sum(answer.limits) >= S * (1 - 1e-9)


def test_the_step_is_the_papers() -> None:
    costs = Costs(0.02, 0.003, (0.002, 0.001), 0.0005, 0.05, 0.04)
    learner = OnlinePlacement(["a", "b"], rounds=50)
    state = State.of("X", "buy", S, [1, 1])
    market, (first, second) = learner.trial(state, S)
    learner.learn(state, S, costs, [False, True], 900)
    h, f, theta, under, over = 0.02, 0.003, 0.0005, 0.05, 0.04
    total = (h + f + theta + under + over) ** 2 + sum((h + r + theta + under + over) ** 2 for r in (0.002, 0.001))
    gamma = math.sqrt(2) * S / math.sqrt(50 * total)
    moved = (h + f + theta - (under + theta), theta, theta - (h + 0.001) - (under + theta))
    expected = [x - gamma * g for x, g in zip((market, first, second), moved, strict=True)]
    after = learner.trial(state, S)
    assert sum(expected) > S  # no projection
    assert [after.market, *after.limits] == pytest.approx(expected)
    mean = [(x + y) / 2 for x, y in zip((market, first, second), expected, strict=True)]
    answer = learner.answer(state, S)
    assert [answer.market, *answer.limits] == pytest.approx(mean)


def test_without_rounds_the_step_shrinks_with_the_root_of_the_orders() -> None:
    """A limit order that is never filled gives way by theta gamma_n, whatever the others do."""
    learner = OnlinePlacement(["a", "b"])
    state, costs = State.of("X", "buy", S, [1, 1]), Costs(0.02, 0.003, (0.002, 0.001), 0.0005, 0.05, 0.04)
    total = 0.1135**2 + 0.1125**2 + 0.1115**2
    expected = S / 3
    for order in range(1, 6):
        learner.learn(state, S, costs, [False, True], 900)
        expected -= 0.0005 * math.sqrt(2 / (order * total)) * S
        assert learner.trial(state, S).limits[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("executed", "filled", "wanted"),
    [
        (1000.0, (False, False), (0.0235, 0.0005, 0.0005)),
        (1000.0 + 1e-7, (True, None), (0.0235, -0.0215, 0.0)),  # as good as equal
        (1000.0 - 1e-7, (True, None), (0.0235, -0.0215, 0.0)),
        (999.0, (True, False), (-0.027, -0.072, 0.0005)),
        (1001.0, (False, True), (0.0735, 0.0005, 0.0295)),
    ],
)
def test_the_gradient(executed: float, filled: Any, wanted: tuple[float, ...]) -> None:
    """By hand: h .02, f .003, theta .0005, lu = lo = .05, r = (.002, .001)."""
    costs = Costs(**BASE, rebates=(0.002, 0.001))
    assert costs.gradient(filled, executed, 1000.0) == pytest.approx(wanted)


def test_what_is_not_known_teaches_nothing_of_that_venue() -> None:
    learner = OnlinePlacement(["a", "b"])
    state = State.of("X", "buy", S, [1, 1])
    learner.learn(state, S, Costs(**BASE, rebates=(0.002, 0.002)), [True, None], 500)
    market, (first, second) = learner.trial(state, S)
    assert second == S / 3
    assert market > S / 3
    assert first > S / 3


parts = st.lists(st.floats(-3, 3), min_size=1, max_size=5)


@given(parts, st.integers(0, 2**32 - 1))
def test_the_projection_is_the_nearest_point(point: list[float], seed: int) -> None:
    """Of a convex set: no direction to another of its points leads nearer."""
    found = nearest(point)
    assert all(0.0 <= part <= 1.0 for part in found)
    assert sum(found) >= 1.0 - 1e-12
    corners = [corner for corner in itertools.product((0.0, 1.0), repeat=len(point)) if sum(corner) >= 1]
    others = [*corners, *np.random.default_rng(seed).dirichlet(np.ones(len(point)), 20)]
    for other in others:
        assert sum((p - x) * (y - x) for p, x, y in zip(point, found, other, strict=True)) <= 1e-9


# --- states ----------------------------------------------------------------------------------------------------------


def test_buckets_are_powers_of_two() -> None:
    assert [bucket(shares) for shares in (0, 0.5, 1, 1.9, 2, 3, 4, 7, 8, 1e12)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 40]
    alike = State.of("IBM", "buy", 1000, [300, 0], [5000])
    assert alike == State.of("IBM", "buy", 513, [511, 0], [4096])
    assert alike != State.of("IBM", "sell", 1000, [300, 0], [5000])
    assert alike != State.of("IBM", "buy", 1000, [300, 1], [5000])
    assert alike == State("IBM", "buy", 10, (9, 0), (13,))


def test_states_do_not_touch_each_other() -> None:
    learner = OnlinePlacement(["a"])
    other = State.of("IBM", "sell", S, [2000])
    learner.learn(ONE, S, Costs(**BASE, rebates=(0.002,)), [False], 0)
    assert learner.trial(ONE, S) != learner.trial(other, S) == (500.0, [500.0])
    assert (len(learner), learner.count(ONE), learner.count(other)) == (1, 1, 0)  # asking makes no state
    double = learner.trial(ONE, 2 * S)
    assert double.market == 2 * learner.trial(ONE, S).market


def test_memory_is_bounded() -> None:
    learner = OnlinePlacement(["a"], max_states=3)
    costs = Costs(**BASE, rebates=(0.002,))
    states = [State.of("IBM", "buy", S, [2**power]) for power in range(5)]
    for i in (0, 1, 2, 0, 3, 4):
        learner.learn(states[i], S, costs, [True], S)
    assert [learner.count(state) for state in states] == [2, 0, 0, 1, 1]
    assert (len(learner), learner.forgotten) == (3, 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: OnlinePlacement([]), r"venues is \[\]"),
        (lambda: OnlinePlacement(["a", "a"]), "different names"),
        (lambda: OnlinePlacement("ab"), "venues is 'ab'"),
        (lambda: OnlinePlacement([1]), r"venues is \[1\]"),
        (lambda: OnlinePlacement(["a"], rounds=0), "rounds is 0"),
        (lambda: OnlinePlacement(["a"], max_states=0), "max_states is 0"),
        (lambda: OnlinePlacement(["a"]).trial(State.of("X", "buy", 1, [1, 2]), S), "it must have 1 queues"),
        (lambda: OnlinePlacement(["a"]).trial(ONE, -1), "target is -1"),
        (lambda: State.of("X", "bid", 1, [1]), "side is 'bid'"),
        (lambda: State.of("X", "buy", math.nan, [1]), "shares is nan"),
        (lambda: State.of("X", "buy", 1, [-1]), "shares is -1"),
        (lambda: Costs(**BASE, rebates=(math.inf,)), r"rebates\[0\] is inf"),
        (lambda: Costs(**BASE | {"fee": "x"}, rebates=(0,)), "fee is 'x'"),
    ],
)
def test_wrong_arguments(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(
    ("target", "filled", "executed", "words"),
    [
        (0, [True], 0, "target is 0"),
        (S, [True], -1, "executed is -1"),
        (S, [True], math.nan, "executed is nan"),
        (S, [True, False], 1, "filled has 2 values and rebates 1: there are 1 venues"),
    ],
)
def test_a_wrong_lesson_is_not_learned(target: Any, filled: Any, executed: Any, words: str) -> None:
    learner = OnlinePlacement(["a"])
    with pytest.raises(InputError, match=words):
        learner.learn(ONE, target, Costs(**BASE, rebates=(0.002,)), filled, executed)
    assert len(learner) == 0


# --- the file --------------------------------------------------------------------------------------------------------


def taught(orders: int = 40) -> OnlinePlacement:
    learner = OnlinePlacement(["XNYS", "XNAS"], rounds=1000, max_states=6)
    costs = Costs(**BASE, rebates=(0.002, 0.0011))
    rng = np.random.default_rng(3)
    for i in range(orders):
        state = State.of("IBM", "sell" if i % 3 else "buy", S, [2.0 ** (i % 4), 5], [7])
        learner.learn(state, S, costs, *fills_of(learner.trial(state, S), rng.normal(300, 400, 2)))
    return learner


def all_of(learner: OnlinePlacement) -> Any:
    settings = learner.venues, learner.rounds, learner.max_states, learner.forgotten
    return settings, list(learner._states.items())  # with their order, which says who is forgotten next


def test_a_file_holds_every_bit(tmp_path: Path) -> None:
    learner, path = taught(), tmp_path / "learned.json"
    assert learner.forgotten > 0
    learner.save(path)
    loaded = OnlinePlacement.load(str(path))
    assert all_of(loaded) == all_of(learner)
    for both in (learner, loaded):  # and both go on alike
        both.learn(next(iter(both._states)), S, Costs(**BASE, rebates=(0.002, 0.0011)), [True, False], 700)
    assert all_of(loaded) == all_of(learner)
    loaded.save(path)
    assert all_of(OnlinePlacement.load(path)) == all_of(learner)
    assert os.listdir(tmp_path) == ["learned.json"]


def damage(path: Path, **values: Any) -> None:
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: path.write_bytes(b""), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "truncated"),
        (lambda path: path.write_bytes(b"\xff" + path.read_bytes()), "malformed"),
        (lambda path: path.write_bytes(b"[]"), "Expected `object`"),
        (lambda path: path.write_bytes(b"[" * 100_000), "recursion|Expected `object`"),
        (lambda path: damage(path, version=2), "its version is 2: this program reads version 1"),
        (lambda path: damage(path, version="1"), "Expected `int`"),
        (lambda path: damage(path, format="recipes"), "no file of learned placements .format 'recipes'"),
        (lambda path: damage(path, states=[{}]), "missing required field"),
        (
            lambda path: damage(path, states=json.loads(path.read_bytes())["states"] * 2),
            "12 states, 6 of them different",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, harm: Any, words: str) -> None:
    path = tmp_path / "learned.json"
    taught().save(path)
    harm(path)
    with pytest.raises(DataError, match=words) as caught:
        OnlinePlacement.load(path)
    assert str(path) in str(caught.value)
    assert caught.value.reason == "learning"


@pytest.mark.parametrize(
    ("field", "value"),
    [("now", [0.5, 0.5]), ("now", [0.5, 0.5, 1.5]), ("mean", [-0.1, 1, 1]), ("count", 0), ("mean", [])],
)
def test_a_state_that_is_no_placement(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "learned.json"
    taught().save(path)
    states = json.loads(path.read_bytes())["states"]
    states[1][field] = value
    damage(path, states=states)
    with pytest.raises(DataError, match=r"learned\.json: what it holds of State.* is no placement at 2 venues"):
        OnlinePlacement.load(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.json: cannot be read: No such file"):
        OnlinePlacement.load(tmp_path / "nothing.json")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
@pytest.mark.parametrize("moment", ["replace", "fsync"])
def test_killed_while_it_saves(tmp_path: Path, moment: str) -> None:
    """Between writing and replacing: the old file is as it was, and the next one is saved all the same."""
    path = tmp_path / "learned.json"
    taught(5).save(path)
    before = path.read_bytes()
    code = (
        "import os, signal, sys; from sor.models.online import OnlinePlacement\n"
        "learner = OnlinePlacement.load(sys.argv[1]); learner.forgotten = 99\n"
        f"os.{moment} = lambda *a: os.kill(os.getpid(), signal.SIGKILL); learner.save(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(os.listdir(tmp_path)) == 2  # what was being written lies beside it
    taught().save(path)
    assert all_of(OnlinePlacement.load(path)) == all_of(taught())


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "learned.json"
    taught(5).save(path)
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        taught().save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["learned.json"]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301 - our own bytes
def test_a_copy_learns_on_its_own(duplicate: Any) -> None:
    learner, costs = OnlinePlacement(["XNYS"]), Costs(**BASE, rebates=(0.002,))
    train(learner, ONE, costs, np.full((3, 1), 100.0))
    before, other = learner.answer(ONE, S), duplicate(learner)
    assert other.answer(ONE, S) == before
    train(other, ONE, costs, np.full((3, 1), 900.0))
    assert other.answer(ONE, S) != before == learner.answer(ONE, S)
    assert (learner.count(ONE), other.count(ONE)) == (3, 6)
