"""What was cheapest is told beside what it cost on days that it was not chosen by."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import DONE, WRONG_CALL, Jobs, Start
from hypothesis import given
from hypothesis import strategies as st

import sor
from sor import cli
from sor.backtest import Orders, Rules, comparison
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.backtest.tuning import POINTS, Range, Space, Tuning, tune
from sor.errors import InputError
from sor.market.parquet import write_parquet

SECOND = 10**9
DATES = ("2024-08-01", "2024-08-02", "2024-08-05", "2024-08-06")
RULES = Rules(horizon=30 * SECOND, placement=10 * SECOND, min_windows=20, queues=("pessimistic",))
ORDERS = Orders(sizes=(800,), sides=("buy", "sell"), number=6)
SPACE = {"lambda_under": (0.001, 0.5), "horizon": [5, 10]}


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("days")
    return [written(folder, number + 11, date) for number, date in enumerate(DATES)]


def written(folder: Path, seed: int, date: str) -> str:
    path = str(folder / f"{date}.parquet")
    write_parquet(SyntheticMarket(Scenario(seed=seed, duration=900, date=date)).batches(), path)
    return path


def tuned(paths: list[str], space: Any = SPACE, **more: Any) -> Tuning:
    names = {"rules": RULES, "space": space} | more
    return tune(sor.read_feed(paths), ORDERS, **names)


@pytest.fixture(scope="module")
def found(days: list[str]) -> Tuning:
    return tuned(days)


def costs_of(paths: list[str], names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Costs and days of a strategy's orders, worked alone; orders arrive after the longest horizon of the tuning."""
    rules = Rules(horizon=30 * SECOND, placement=10 * SECOND, min_windows=20, queues=("pessimistic",))
    study = sor.backtest(sor.read_feed(paths), ORDERS, [names, ("immediate", "cont_kukanov")], rules=rules)
    mine = study.parents["routing"] == names[1]
    return study.parents["shortfall_bps"][mine], study.parents["day"][mine]


# --- walking forward --------------------------------------------------------------------------------------------------


def test_every_number_is_that_of_backtests_one_by_one(days: list[str], found: Tuning) -> None:
    alone = {(point.schedule, point.routing): costs_of(days, (point.schedule, point.routing)) for point in found.points}
    assert len(alone) == 10
    for point in found.points:
        assert point.cost_bps == alone[point.schedule, point.routing][0].mean()
    everything = {names: costs.mean() for names, (costs, _) in alone.items()}
    assert (found.best.schedule, found.best.routing) == min(everything, key=everything.__getitem__)
    default = costs_of(days, found.default)
    nbbo = costs_of(days, ("immediate", "nbbo"))
    names = sorted(set(default[1].tolist()))
    assert [fold.day for fold in found.folds] == list(DATES[1:])
    for i, fold in enumerate(found.folds, 1):
        before = {key: costs[np.isin(day, names[:i])].mean() for key, (costs, day) in alone.items()}
        chosen = min(before, key=before.__getitem__)
        assert (fold.schedule, fold.routing) == chosen
        assert fold.in_sample_bps == before[chosen]
        assert fold.out_of_sample_bps == alone[chosen][0][alone[chosen][1] == names[i]].mean()
        assert fold.default_bps == default[0][default[1] == names[i]].mean()
        assert fold.baseline_bps == nbbo[0][nbbo[1] == names[i]].mean()
        assert fold.tuned_on == list(DATES[:i])
        assert fold.orders == 12
    assert found.out_of_sample_bps == pytest.approx(np.mean([fold.out_of_sample_bps for fold in found.folds]))
    assert found.in_sample_bps == pytest.approx(np.mean([fold.in_sample_bps for fold in found.folds]))


def test_savings_are_those_of_the_points_that_were_chosen(found: Tuning) -> None:
    """The difference of means over orders; blocks weigh a little differently, so within their spread."""
    costs = found.as_dict()
    assert list(found.savings) == ["default", "nbbo"]
    for name, one in found.savings.items():
        assert one.orders + one.left_out == 36
        told = costs["savings_bps"][name]
        assert told["saving_bps"] == -one.difference_bps
        assert (told["low"], told["high"]) == (-one.high if one.high else None, -one.low if one.low else None)
        assert told["better"] == one.better
    assert found.savings == dict(zip(found.savings, comparison.adjust(list(found.savings.values())), strict=True))


@pytest.mark.parametrize("search", ["grid", "random", "optuna"])
def test_a_day_has_no_part_in_what_it_is_judged_by(days: list[str], tmp_path: Path, search: str) -> None:
    """The last day replaced by another one: all that was chosen for it, and all before, stays the same."""
    more = {"search": search} | ({} if search == "grid" else {"points": 5})
    before = tuned(days[:3], **more)
    after = tuned([*days[:2], written(tmp_path, 99, DATES[2])], **more)
    assert before.folds[0] == after.folds[0]
    assert before.folds[1].parameters == after.folds[1].parameters
    assert before.folds[1].in_sample_bps == after.folds[1].in_sample_bps
    assert before.folds[1].out_of_sample_bps != after.folds[1].out_of_sample_bps


def test_days_before_may_be_few(days: list[str]) -> None:
    found = tuned(days, train_days=2)
    assert [fold.tuned_on for fold in found.folds] == [list(DATES[0:2]), list(DATES[1:3])]


def test_one_day_is_judged_by_nothing(days: list[str]) -> None:
    found = tuned(days[:1])
    assert found.folds == []
    assert found.savings == {}
    told = found.as_dict()
    assert told["out_of_sample_bps"] is None
    assert told["baselines"]["default"] is not None
    assert "says nothing of the next" in found.table()


def test_an_order_is_judged_a_horizon_after_those_that_chose(days: list[str], found: Tuning) -> None:
    from sor.backtest.tuning import _Costs

    costs = _Costs(found.study, found.space, [point.parameters for point in found.points], found.default)
    day = costs.days[1]
    assert len(costs._judged(costs.days[:1], day)) == 12
    ends = costs._end.copy()
    costs._end = np.where(costs._day == costs.days[0], np.sort(costs._arrival[costs._day == day])[5], ends)
    late = costs._judged(costs.days[:1], day)
    assert 0 < len(late) < 7
    assert costs._arrival[late].min() >= costs._end[costs._day == costs.days[0]].max() + RULES.horizon


# --- the same whoever works -------------------------------------------------------------------------------------------


def same(one: Tuning, other: Tuning) -> bool:
    return json.dumps(one.as_dict()) == json.dumps(other.as_dict())


def test_the_same_by_processes_and_again(days: list[str], found: Tuning, tmp_path: Path) -> None:
    assert same(tuned(days, jobs=2, keep=str(tmp_path)), found)
    assert same(tuned(days, keep=str(tmp_path)), found)


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_what_is_drawn_is_drawn_by_the_seed(days: list[str], search: str) -> None:
    one, two = (tuned(days[:2], search=search, points=4) for _ in range(2))
    assert same(one, two)
    other = tuned(days[:2], search=search, points=4, rules=Rules(**(vars(RULES) | {"seed": 7})))
    assert [point.parameters for point in one.points] != [point.parameters for point in other.points]
    assert len(one.points) >= 4


def test_optuna_without_optuna(monkeypatch: pytest.MonkeyPatch, days: list[str]) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'sor\[tune\]'"):
        tuned(days, search="optuna")


# --- what may be tried ------------------------------------------------------------------------------------------------


def test_a_grid_has_every_point_once() -> None:
    space = Space.of("twap", "cont_kukanov", {"slices": [2, 4], "lambda_under": (0.01, 0.16), "theta_queue": [0, 0.1]})
    listed = space.listed()
    assert listed["lambda_under"] == (0.01, 0.02, 0.04, 0.08, 0.16)
    points = space.grid()
    assert {tuple(point.values()) for point in points} == set(
        itertools.product((2, 4), listed["lambda_under"], (0, 0.1))
    )
    assert len(points) == 20
    assert space.names(points[0]) == ("twap:2", "cont_kukanov:lambda_under=0.01:theta_queue=0")


def test_the_default_space_has_as_many_points_as_are_drawn() -> None:
    assert len(Space.of("immediate", "cont_kukanov", None).grid()) == POINTS


@given(st.floats(1e-6, 1e3), st.floats(1.0001, 1e6), st.floats(0, 1))
def test_a_range_goes_there_and_back(low: float, ratio: float, share: float) -> None:
    one = Range(low, low * ratio)
    value = one.at(share)
    assert low * (1 - 1e-9) <= value <= low * ratio * (1 + 1e-9)
    assert one.share(value) == pytest.approx(share, abs=1e-6)


def test_neighbours_are_one_step_away(found: Tuning) -> None:
    listed = found.space.listed()

    def at(parameters: dict[str, float]) -> list[int]:
        return [listed[name].index(value) for name, value in parameters.items()]

    best = at(found.best.parameters)
    mine = [at(one.parameters) for one in found.neighbours]
    theirs = [
        at(one.parameters)
        for one in found.points
        if sum(abs(a - b) for a, b in zip(at(one.parameters), best, strict=True)) == 1
    ]
    assert mine == theirs
    assert mine


@pytest.mark.parametrize(
    ("schedule", "routing", "space", "said"),
    [
        ("immediate", "brute_force", {"lambda_under": [1, 2]}, "change no split of it"),
        ("immediate", "nbbo", {"horizon": [10, 20]}, "change no split of it"),
        ("immediate", "cont_kukanov", {"step": [1, 2]}, "a step changes nothing"),
        ("immediate", "cont_kukanov", {"slices": [1, 2]}, "it is of twap only"),
        ("twap", "brute_force", {"rate": [0.1]}, "it is of pov only"),
        ("twap", "brute_force", {"speed": [1]}, "it must be one of lambda_over"),
        ("twap", "brute_force", {}, "space is empty"),
        ("twap", "brute_force", {"slices": (5, 5)}, "a range must go"),
        ("twap", "brute_force", {"slices": []}, "a list of numbers that differ"),
        ("twap", "brute_force", {"slices": [2, 2]}, "a list of numbers that differ"),
        ("pov", "brute_force", {"rate": [2.0]}, "rate of pov is"),
        ("immediate", "cont_kukanov", {"lambda_under": [-1.0]}, "is none of what it may be given"),
    ],
)
def test_what_changes_nothing_is_refused(days: list[str], schedule: str, routing: str, space: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tuned(days[:1], space, schedule=schedule, routing=routing)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Any:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


ORDER_WORDS = ("--orders", 6, "--order-size", 800, "--horizon", "30s", "--refresh", "300s", "--depth", 1)
WORDS = (*ORDER_WORDS, "--placement", 10, "--min-windows", 20)


def test_the_command_prints_flags_that_consume_takes(start: Start, days: list[str], found: Tuning) -> None:
    space = "lambda_under=0.001..0.5,horizon=5/10"
    job = start("tune", *days, *WORDS, "--space", space, "--json", "-").finish(DONE)
    told = json.loads(job.out)
    assert told["points"] == json.loads(json.dumps(found.as_dict()["points"]))
    assert told["best_parameters"] == found.best.parameters
    settings = cli.config.load("consume", parsed(told["ready"]["flags"].split()))
    assert {name: getattr(settings, name) for name in found.best.parameters} == found.best.parameters
    assert settings.algorithm == "cont_kukanov"
    known = {option.variable for option in cli.config.options_of("consume")}
    assert set(told["ready"]["environment"]) <= known
    job = start("tune", *days, *WORDS, "--space", space).finish(DONE)
    said = job.out.decode()
    assert told["ready"]["flags"] in said
    assert "Against the plain default:" in said


def parsed(words: list[str]) -> dict[str, str]:
    parser = cli._parser("consume", ["consume"])
    return {name: value for name, value in vars(parser.parse_args(["consume", *words])).items() if name != "command"}


def test_the_command_tunes_a_schedule(start: Start, days: list[str]) -> None:
    words = ("--schedule", "twap", "--routing", "brute_force")
    job = start("tune", *days[:2], *WORDS, *words, "--space", "slices=2/5", "--json", "-").finish(DONE)
    told = json.loads(job.out)
    assert told["ready"]["command"] == "sor backtest"
    assert told["ready"]["flags"] == f"--schedule twap:{told['best_parameters']['slices']:g} --routing brute_force"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--space", "lambda_under"), "--space"),
        (("--space", "lambda_under=1,lambda_under=2"), "each named once"),
        (("--routing", "brute_force"), "--space is missing"),
        (("--routing", "brute_force", "--space", "lambda_over=1/2"), "change no split of it"),
        (("--points", 3), "--points goes with --search random or optuna"),
        (("--jobs", 2, "--dask", "tcp://a:1"), "give one of them"),
    ],
)
def test_wrong_words(start: Start, days: list[str], words: tuple[Any, ...], said: str) -> None:
    assert said in start("tune", *days[:1], *WORDS, *words).finish(WRONG_CALL).err
