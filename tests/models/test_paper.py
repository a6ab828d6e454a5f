"""`sor paper`: the tables, the gap, the studies and the page made of them.

Truth is the paper's print, the exact expectation by the probabilities themselves, the closed form by scipy, and facts
of the model that hold for any numbers. ``python tests/models/test_paper.py`` puts outputs and figures into the page
anew.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sor import InputError, cli, place, placement_cost
from sor.errors import Exit
from sor.kernels import BACKEND
from sor.models import paper, placement
from sor.models import studies as studying
from sor.models.paper import Row
from sor.models.studies import Study
from sor.report import plots

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cont-kukanov.md"
FIGURES = ROOT / "docs" / "figures"
SEED, TRAINING = 1, 10_000  # the command's defaults
BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")

ALL = paper.printed_rows()
CASES = ALL if BACKEND == "cython" else [row for row in ALL if row.size == 1000]  # the other twin has the same bits
ids = pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{row.size}-{row.venues}" for row in CASES])


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [paper.compute(printed, SEED, TRAINING) for printed in CASES]


@pytest.fixture(scope="module")
def studies() -> dict[str, Study]:
    """All studies, from fewer samples and at fewer points."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studying, "JUDGES", 10_000)
        patch.setattr(studying, "TWO_VENUES", [(*study[:3], study[3][::4]) for study in studying.TWO_VENUES])
        patch.setattr(placement, "QUANTILES", 10)  # the closed form's cost, which no study of one venue shows
        return {f"{study.figure}_{study.name}": study for study in studying.studies(SEED, 1000)}


def column(study: Study, name: str) -> np.ndarray:
    return np.array([row[study.columns.index(name)] for row in study.rows])


def first(study: Study) -> np.ndarray:
    return np.array([row[0] for row in study.rows])


# --- outflows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [3.0, 2200.0])
def test_poisson_is_that_of_scipy(mean: float) -> None:
    ours, truth = paper.poisson(mean), stats.poisson(mean)
    values = np.arange(int(mean) + 200)
    assert ours.cdf(values) == pytest.approx(truth.cdf(values), abs=1e-12)
    levels = np.linspace(0.0005, 0.9995, 1000)
    assert ours.ppf(levels).tolist() == truth.ppf(levels).tolist()
    assert ours.cdf(-1) == 0.0


@pytest.mark.parametrize("tail", [1.1, 2.0, 6.0, np.inf])
def test_pareto_is_that_of_scipy(tail: float) -> None:
    ours = paper.Pareto(2200.0, tail)
    truth = stats.expon(scale=2200) if np.isinf(tail) else stats.lomax(tail, scale=2200 * (tail - 1))
    assert truth.mean() == pytest.approx(2200.0)
    levels = np.linspace(0.0, 0.999, 500)
    assert ours.ppf(levels) == pytest.approx(truth.ppf(levels))
    assert ours.cdf(ours.ppf(levels)) == pytest.approx(levels, abs=1e-12)


def test_joint_outflows_have_the_means_and_the_correlation_of_the_model() -> None:
    flows = paper.joint(paper.draw(SEED, 9, 100_000, 1, 2), (2200.0, 2500.0))
    assert flows.mean(axis=0) == pytest.approx([2200.0, 2500.0], abs=1.0)
    variance = 0.6**2 + 0.4**2
    assert flows.var(axis=0) == pytest.approx([2200 * variance, 2500 * variance], rel=0.02)
    assert np.corrcoef(flows.T)[0, 1] == pytest.approx(0.36 / variance, abs=0.01)
    assert paper.mixture().cdf(flows[:, 0]).mean() == pytest.approx(0.5, abs=0.005)


# --- Table 1 ---------------------------------------------------------------------------------------------------------


def test_the_copy_of_the_figures_is_that_of_the_paper(shared: Path) -> None:
    assert (ROOT / "sor" / "models" / "cont_kukanov_tables.csv").read_bytes() == (
        shared / "reference" / "cont_kukanov_tables.csv"
    ).read_bytes()


def test_the_printed_figures_hang_together() -> None:
    """Table 2's parts add up to Table 1's W, and the placements to their sums, within what was rounded."""
    assert [(row.size, row.venues) for row in ALL] == [(s, k) for s in (500, 1000, 5000) for k in range(1, 6)]
    for row in ALL:
        assert sum(row.outcome[:3]) == pytest.approx(row.optimal, abs=0.021)
        assert sum(row.parts) == pytest.approx(row.total, abs=0.5 * (row.venues + 2))


@cache
def expected_fill(limit: float) -> float:
    """E min(L, (xi - Q)^+) of the base case: a double sum over the probabilities."""
    values = np.arange(1600, 2801)
    masses = stats.poisson(2200).pmf(values)
    fills = np.clip(np.add.outer(0.6 * values, 0.4 * values) - 2000.0, 0.0, limit)
    return float(masses @ fills @ masses)


def exact_cost(market: float, limits: list[float], size: int) -> float:
    """W of a placement that sends S in all: it cannot overfill, so (5) is linear in the fills."""
    assert market + sum(limits) == pytest.approx(size)
    filled = sum(expected_fill(limit) for limit in limits)
    missing = size - market - filled
    dollars = 0.023 * market - 0.022 * filled + 0.0005 * (size + missing) + 0.05 * missing
    return 100.0 * dollars / size


@ids
def test_simple_placements_cost_what_the_paper_prints_and_what_probabilities_say(rows: list[Row], case: int) -> None:
    printed = rows[case].printed
    placements = paper.simple_placements(printed.size, printed.venues)
    truth = [exact_cost(market, limits, printed.size) for market, limits in placements]
    assert rows[case].simple == pytest.approx(truth, abs=0.006)
    assert rows[case].simple == pytest.approx(printed.simple, abs=0.03)


@ids
def test_the_optimum_is_no_dearer_than_print_and_cheaper_where_the_paper_has_not_converged(
    rows: list[Row], case: int
) -> None:
    row, printed = rows[case], rows[case].printed
    assert row.optimal <= printed.optimal + 0.02
    if (printed.venues == 1 and printed.size <= 1000) or (printed.venues >= 2 and printed.size == 5000):
        assert row.optimal <= printed.optimal - 0.05
    assert row.error < 0.003
    assert row.optimal < min(row.simple)
    assert row.optimal < row.steps + 1e-4
    if printed.venues > 1:
        assert row.steps == pytest.approx(printed.optimal, abs=0.03)  # as docs/cont-kukanov.md says


@ids
def test_parts_of_the_cost_add_up_and_resemble_print_where_the_paper_has_converged(rows: list[Row], case: int) -> None:
    row, printed = rows[case], rows[case].printed
    assert sum(row.outcome[:3]) == pytest.approx(row.optimal, abs=1e-9)
    assert row.outcome[2] == pytest.approx(5.0 * sum(row.outcome[3:5]) / printed.size)
    assert row.outcome[5] + row.outcome[6] <= 100.0
    if printed.size == 1000 and printed.venues > 1:
        assert row.outcome[:3] == pytest.approx(printed.outcome[:3], abs=0.11)
        assert row.outcome[5:] == pytest.approx(printed.outcome[5:], abs=15.0)


@ids
def test_one_venue_agrees_with_the_closed_form(rows: list[Row], case: int) -> None:
    """Prop. 3 with the distribution of 0.6 xi_0 + 0.4 eps by the probabilities, summed here."""
    row = rows[case]
    if row.printed.venues > 1:
        return
    values = np.arange(1600, 2801)
    masses = stats.poisson(2200).pmf(values)
    tenths = np.add.outer(3 * values, 2 * values).ravel()  # fifths of a share
    weights = np.bincount(tenths, np.multiply.outer(masses, masses).ravel())
    c, d = 2 * 0.02 + 0.003 + 0.002, 0.05 + 0.02 + 0.002 + 0.0005
    limit = float(np.searchsorted(np.cumsum(weights), c / d)) / 5 - 2000
    assert paper.closed_form(row.printed) == pytest.approx(limit, abs=1e-6)
    assert row.found.limits[0] == pytest.approx(limit, abs=2.0)  # a quantile of 10,000 samples
    assert row.found.market + row.found.limits[0] == pytest.approx(row.printed.size)
    assert row.optimal == pytest.approx(exact_cost(row.printed.size - limit, [limit], row.printed.size), abs=0.005)


def test_penalties_for_a_limit_are_the_closed_form_backwards() -> None:
    low, high = paper.penalties_for(270)
    assert low < 0.0258 < high  # ../shared/MODEL.md
    for penalty, limit in ((low - 1e-7, 271), (low + 1e-7, 270), (high - 1e-7, 270), (high + 1e-7, 269)):
        arguments = paper.problem(1000, 1, lambda_under=penalty)
        answer = place(outflows=stats.poisson(2200), method="closed_form", **arguments)
        assert (answer.market, answer.limits) == (1000.0 - limit, (float(limit),))


# --- the gap ---------------------------------------------------------------------------------------------------------


def test_no_placement_is_below_the_bound_on_any_set(rows: list[Row]) -> None:
    for row in rows[:3]:
        found = paper.gaps(row, SEED, sets=4, size=200)
        assert found.shape == (4,)
        assert found.min() >= -1e-7
        assert found.mean() < 0.1
        everything = row._replace(found=place_all(row))
        dearer = (
            paper.gaps(everything, SEED, sets=4, size=200) - found
        )  # by as much as it costs more: one bound for both
        assert dearer.mean() == pytest.approx(row.simple[0] - row.optimal, abs=0.2)


def place_all(row: Row) -> Any:
    """X^M, as an answer."""
    import msgspec

    return msgspec.structs.replace(row.found, market=float(row.printed.size), limits=(0.0,) * row.printed.venues)


def test_the_optimum_has_no_gap_with_one_venue(rows: list[Row]) -> None:
    for row in rows:
        if row.printed.venues == 1:
            assert paper.gaps(row, SEED, sets=5, size=500).mean() < 0.002


def grid_least(centre: np.ndarray, reach: int, step: int, room: np.ndarray, size: int) -> tuple[float, np.ndarray]:
    """The least W by formula (5) over a cube of whole placements at two venues, and where it is."""
    axes = [np.unique(np.clip(np.arange(part - reach, part + reach + 1, step), 0, size)) for part in centre]
    best, where = np.inf, centre
    for market in axes[0]:
        one, two = (np.minimum(axis[:, None], room[:, k]) for k, axis in enumerate(axes[1:]))
        fills = one[:, None, :] + two[None, :, :]
        left = size - market - fills
        cost = (0.0505 * np.maximum(left, 0) + 0.05 * np.maximum(-left, 0) - 0.022 * fills).mean(axis=2)
        cost += 0.0235 * market + 0.0005 * (axes[1][:, None] + axes[2][None, :])
        i, j = np.unravel_index(cost.argmin(), cost.shape)
        if cost[i, j] < best:
            best, where = float(cost[i, j]), np.array([market, axes[1][i], axes[2][j]])
    return 100.0 * best / size, where


def test_with_two_venues_a_whole_grid_has_nothing_cheaper_so_the_gap_is_the_bounds() -> None:
    """Ten shares apart everywhere, then one share apart around the best."""
    flows = paper.joint(paper.draw(SEED, 9, 400, 500, 2), (2200.0, 2200.0))
    answer = place(outflows=flows, certify=True, **paper.problem(500, 2))
    room = np.maximum(flows - 2000.0, 0.0)
    coarse, where = grid_least(np.array([250, 250, 250]), 250, 10, room, 500)
    fine, _ = grid_least(where, 12, 1, room, 500)
    found = 100.0 * answer.expected_cost / 500
    assert found <= fine + 1e-6
    assert fine - found < 0.005
    assert coarse >= fine
    assert 100.0 * answer.gap / 500 > 0.01


# --- studies ---------------------------------------------------------------------------------------------------------


def test_studies_of_one_venue_send_the_order_and_no_more(studies: dict[str, Study]) -> None:
    names = [name for name in studies if name.startswith("one_venue")]
    assert len(names) == 5
    for name in names:
        study = studies[name]
        size = first(study) if name == "one_venue_order_size" else 1000.0
        for flow in {text.split()[1] for text in study.columns[1:]}:
            assert column(study, f"M {flow}") + column(study, f"L {flow}") == pytest.approx(size + 0 * first(study))


@pytest.mark.parametrize("flow", ["poisson", "exponential", "pareto"])
def test_what_moves_one_venue(studies: dict[str, Study], flow: str) -> None:
    """By Prop. 3: L* = clip(F^-1(c/d) - Q, 0, S), and c/d rises with the spread and falls with the penalty."""
    limits = {name: column(study, f"L {flow}") for name, study in studies.items() if f"L {flow}" in study.columns}
    assert (np.diff(limits["one_venue_half_spread"]) >= 0).all()
    assert (np.diff(limits["one_venue_lambda_under"]) <= 0).all()
    assert np.ptp(limits["one_venue_half_spread"]) > 100
    assert np.ptp(limits["one_venue_lambda_under"]) > 50
    queue, size = first(studies["one_venue_queue"]), first(studies["one_venue_order_size"])
    level = (2 * 0.02 + 0.003 + 0.002) / (0.05 + 0.02 + 0.002 + 0.0005)
    truth = {"poisson": stats.poisson(2200), "exponential": stats.expon(scale=2200), "pareto": stats.lomax(2, 0, 2200)}
    quantile = float(truth[flow].ppf(level))
    assert limits["one_venue_queue"] == pytest.approx(np.clip(quantile - queue, 0, 1000))
    assert limits["one_venue_order_size"] == pytest.approx(np.clip(quantile - 2000, 0, size))


def test_a_heavier_tail_is_worth_less(studies: dict[str, Study]) -> None:
    study = studies["one_venue_tail"]
    limits = column(study, "L pareto")
    assert (np.diff(limits) >= 0).all()  # the index rises: the tail gets lighter
    assert limits[0] == 0.0
    assert limits[-1] > 500
    exponential = place(outflows=stats.expon(scale=2200), method="closed_form", **paper.problem(1000, 1, queues=[1000]))
    assert limits[-1] < exponential.limits[0]


def test_what_moves_two_venues(studies: dict[str, Study]) -> None:
    queue, outflow = studies["two_venues_queue"], studies["two_venues_outflow"]
    assert (np.diff(column(queue, "L_1")) <= 5).all()  # of 1,000 samples
    assert (np.diff(column(outflow, "L_1")) >= -5).all()
    assert (np.diff(column(queue, "W, cents a share")) >= -1e-4).all()
    assert (np.diff(column(outflow, "W, cents a share")) <= 1e-4).all()
    used = column(queue, "M") > 0  # the other venue notices nothing as long as there is a market order
    assert used.sum() > 5
    assert np.ptp(column(queue, "L_2")[used]) < 25
    some = used & (column(queue, "L_1") > 0)  # and a longer queue takes share by share
    assert some.sum() > 3
    assert np.diff(column(queue, "L_1")[some]) == pytest.approx(-np.diff(first(queue)[some]), abs=10)
    rebate = studies["two_venues_rebate"]
    gain = column(rebate, "L_1")
    assert 0 < gain[-1] - gain[0] < 100  # for 2.4 cents; a queue of 100 more takes 100 away
    assert (np.diff(column(rebate, "W, cents a share")) <= 1e-9).all()


@pytest.mark.parametrize("name", ["queue", "rebate", "outflow"])
def test_venues_that_are_alike_get_alike(studies: dict[str, Study], name: str) -> None:
    study = studies[f"two_venues_{name}"]
    base = {"queue": 2000.0, "rebate": 0.002, "outflow": 2200.0}[name]
    row = study.rows[int(np.abs(first(study) - base).argmin())]
    assert row[0] == pytest.approx(base)
    assert row[2] == pytest.approx(row[3], abs=30)


def test_correlation_leaves_the_venues_alike(studies: dict[str, Study]) -> None:
    study = studies["two_venues_correlation"]
    assert first(study)[[0, -1]].tolist() == [0.0, 1.0]
    limits = column(study, "L_1")
    assert limits == pytest.approx(column(study, "L_2"), abs=40)
    base = limits[int(np.abs(first(study) - 0.6).argmin())]
    assert limits[0] > base + 20
    assert np.ptp(limits[first(study) > 0.59]) < 20


def test_iterates_average_to_the_answer_of_the_stochastic_method() -> None:
    arguments = paper.problem(1000, 3)
    flows = paper.joint(paper.draw(SEED, 9, 500, 1000, 3), (2200.0,) * 3)
    path = studying.iterates([250.0] * 4, paper.step_size(3, 500, 1000), flows, arguments)
    answer = place(outflows=flows, method="stochastic", **arguments)
    assert path.shape == (500, 4)
    assert path.mean(axis=0) == pytest.approx([answer.market, *answer.limits])


def test_the_iterates_and_what_is_left_after_them(studies: dict[str, Study]) -> None:
    iterates, excess = studies["convergence_iterates"], studies["convergence_excess"]
    limits = column(iterates, "L_1")
    slope = 0.0005 * paper.step_size(2, 1000, 1000)
    assert np.diff(limits[:100]) == pytest.approx(np.full(99, -slope))  # too large to be filled: theta alone pulls
    assert first(excess)[[0, -1]].tolist() == [10.0, 10_000.0]
    for name in excess.columns[1:]:
        left = column(excess, name)
        assert left[-1] < left[0]
        assert left.min() > -0.01


def test_a_limit_order_that_is_never_filled_moves_by_theta_gamma_n() -> None:
    answer = place(outflows=np.zeros((1000, 1)), method="stochastic", **paper.problem(1000, 1))
    moved = 0.0005 * 1000 * paper.step_size(1, 1000, 1000)
    assert 500 - answer.limits[0] == pytest.approx(moved * 1001 / 2000)  # the average of a straight way


def test_the_example_of_a_cost_that_is_not_convex() -> None:
    """Of the page: S = 1, room for 0.7 at both venues."""
    arguments = paper.problem(1, 2) | {"queues": [0.0, 0.0], "outflows": [[0.7, 0.7]]}
    one, other, between = (placement_cost(0.0, limits, **arguments) for limits in ((1.0, 0.4), (0.4, 1.0), (0.7, 0.7)))
    assert one.mean == pytest.approx(other.mean)
    assert (one.expected_overfill, between.expected_overfill) == pytest.approx((0.1, 0.4))
    assert between.mean - one.mean == pytest.approx(0.3 * (0.05 - 0.02 - 0.002))


# --- the command and its files ---------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command on two rows, few judges and no studies but two."""
    monkeypatch.setattr(paper, "printed_rows", lambda: ALL[:2])
    monkeypatch.setattr(paper, "JUDGES", 2_000)
    monkeypatch.setattr(paper, "SETS", 2)
    monkeypatch.setattr(placement, "QUANTILES", 10)
    monkeypatch.setattr(plots, "studies", lambda seed, training: list(studying.one_venue())[-2:])


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["paper", "--training-samples", "1000", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_a_seed_gives_the_same_output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    once = printed(capsys)
    assert printed(capsys) == once
    assert printed(capsys, "--seed", "2") != once
    monkeypatch.setenv("SOR_SEED", "1")
    assert printed(capsys) == once
    assert [section[:7] for section in sections(once)] == ["Table 1", "The pla", "Table 2", "One ven", "The gap"]


@pytest.mark.usefixtures("quick")
def test_without_highs_the_gap_is_left_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sections(printed(capsys))
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    parts = sections(printed(capsys))
    assert parts[:-1] == whole[:-1]
    assert parts[-1] == "The gap to the bound is left out: it needs scipy (pip install 'sor[certify]').\n"


@pytest.mark.usefixtures("quick")
def test_files_hold_the_studies(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    told = re.findall(r"^wrote (.*)$", printed(capsys, "--folder", str(folder)), re.MULTILINE)
    assert sorted(told) == sorted(map(str, folder.iterdir()))
    names = {path.name for path in folder.iterdir()}
    assert names == {"one_venue_half_spread.csv", "one_venue_tail.csv", "one_venue.svg"}
    header, *data = csv.reader(io.StringIO((folder / "one_venue_half_spread.csv").read_text()))
    study = list(studying.one_venue())[-2]
    assert tuple(header) == study.columns
    assert np.array(data, dtype=float) == pytest.approx(np.array(study.rows), rel=1e-5)
    picture = (folder / "one_venue.svg").read_bytes()
    assert words_of(picture) >= set(study.columns)
    assert printed(capsys, "--folder", str(folder))
    assert (folder / "one_venue.svg").read_bytes() == picture


def words_of(picture: bytes) -> set[str]:
    """The texts of an SVG."""
    return {"".join(item.itertext()).strip() for item in ET.fromstring(picture).iter() if item.tag.endswith("}text")}  # noqa: S314


@pytest.mark.usefixtures("quick")
def test_without_matplotlib_the_data_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["paper", "--training-samples", "1000", "--folder", str(tmp_path)]) == Exit.WRONG_CALL
    error = capsys.readouterr().err
    assert "pip install 'sor[paper]'" in error
    assert str(tmp_path) in error
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("quick")
def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file"):
        list(plots.write(str(tmp_path / "file"), SEED, 1000))


@pytest.mark.parametrize("value", ["999", "-1", "many"])
def test_samples_have_a_least_number(capsys: pytest.CaptureFixture[str], value: str) -> None:
    assert cli.main(["paper", f"--training-samples={value}"]) == Exit.WRONG_CALL
    assert f"--training-samples is '{value}': it must be a whole number from 1000" in capsys.readouterr().err


# --- the page --------------------------------------------------------------------------------------------------------


def sections(output: str) -> list[str]:
    return [part.strip("\n") + "\n" for part in output.split("\n\n")]


def same_but_for_rounding(line: str, other: str) -> bool:
    """The same words, and numbers that differ by at most one of the last place: machines round sums differently."""
    if NUMBER.sub("#", line).split() != NUMBER.sub("#", other).split():
        return False
    pairs = zip(NUMBER.findall(line), NUMBER.findall(other), strict=True)
    return all(
        abs(float(a.replace(",", "")) - float(b.replace(",", ""))) <= 1.001 * 10.0 ** -len(a.partition(".")[2])
        for a, b in pairs
    )


def test_how_pages_are_compared() -> None:
    assert same_but_for_rounding("a  1.234 -0.5", "a 1.235  -0.6")
    assert not same_but_for_rounding("a 1.234", "a 1.236")
    assert not same_but_for_rounding("a 1", "b 1")
    assert not same_but_for_rounding("a 1 2", "a 1")


def test_the_page_has_what_the_command_prints(rows: list[Row]) -> None:
    """All but the gaps of large problems; with HYPOTHESIS_PROFILE=ci these as well."""
    some = rows if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else [row for row in rows if row.printed.venues == 2]
    made = [
        (rows, paper.table_1(rows, TRAINING)),
        (rows, paper.placements(rows)),
        (rows, paper.table_2(rows)),
        ([row for row in rows if row.printed.venues == 1], paper.single_venue(rows)),
        (some, paper.certificate(some, SEED)),
    ]
    blocks = {block[:9]: block.splitlines() for block in BLOCK.findall(PAGE.read_text(encoding="utf-8"))}
    assert len(blocks) == len(made)
    for computed, lines in made:
        output = list(lines)
        names = {f"{row.printed.size:4} {row.printed.venues:2}" for row in computed}
        told = [line for line in blocks[output[0][:9]] if not re.match(r" *\d+ +\d ", line) or line[:7] in names]
        assert len(told) == len(output)
        for line, other in zip(told, output, strict=True):
            assert same_but_for_rounding(line, other), f"the page says {line!r}, the command {other!r}"


def test_the_figures_of_the_page_are_there_and_of_these_studies(studies: dict[str, Study]) -> None:
    linked = re.findall(r"!\[.*?\]\((.*?)\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(f"figures/{path.name}" for path in FIGURES.iterdir())
    for link in linked:
        content = (PAGE.parent / link).read_bytes()
        assert len(content) < 60_000
        drawn = [study for study in studies.values() if study.figure == Path(link).stem]
        labels = {name for study in drawn for name in list(study.columns[:1]) + list(study.columns[study.lines])}
        assert labels
        assert labels <= words_of(content)


def update() -> None:
    """Put the command's output into the page, and its figures beside it."""
    text = PAGE.read_text(encoding="utf-8")
    for section in sections("\n".join(paper.report(SEED, TRAINING))):
        title = " ".join(section.split()[:2])
        pattern = re.compile(rf"^(TEXT {re.escape(title)}.*?\n|```text\n{re.escape(title)}.*?^```\n)", re.M | re.S)
        text, count = pattern.subn(lambda _, section=section: f"```text\n{section}```\n", text)
        assert count == 1, title
    PAGE.write_text(text, encoding="utf-8")
    for path in plots.write(str(FIGURES), SEED, TRAINING):
        if path.suffix != ".svg":
            path.unlink()


if __name__ == "__main__":
    update()
