"""Is a difference real? Truth is scipy, studies whose true mean is known, hand-written examples, and symmetry."""

from __future__ import annotations

import doctest
import itertools
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sor import InputError
from sor.backtest import comparison
from sor.backtest.comparison import Comparison, Lives, adjust, compare, holm, mean_of, sentence, t_cdf, t_quantile

HORIZON = 600 * 10**9  # ns
BLOCK = 5 * HORIZON
SESSION = 10**18  # ns: when the first day's session starts
DAY = 86_400 * 10**9  # ns


def lives(offsets: Any, days: Any = None, life: Any = 1) -> Lives:
    """Parents that arrive so many nanoseconds after their day's session has started."""
    offsets = np.asarray(offsets, dtype=np.int64)
    days = np.zeros(len(offsets), dtype=np.int64) if days is None else np.asarray(days, dtype=np.int64)
    starts = SESSION + days * DAY
    return Lives(days, starts + offsets, starts + offsets + life, starts)


def a_block_each(values: Any, life: int = 1) -> tuple[np.ndarray, Lives, int]:
    """Arguments of a study of one parent a block."""
    return np.asarray(values, dtype=float), lives(BLOCK * np.arange(len(values)), life=life), HORIZON


def made(difference: float, low: float | None, high: float | None, **changes: Any) -> Comparison:
    """A comparison as it stands before a sentence, found at 1 % unless told otherwise."""
    usual = {"blocks": 38, "orders": 950, "left_out": 230, "better": 600, "worse": 340, "equal": 10, "p_value": 0.01}
    usual |= {"p_adjusted": 0.01, "autocorrelation": 0.02, "why": None}
    return Comparison(difference_bps=difference, low=low, high=high, **(usual | changes))


# --- coverage --------------------------------------------------------------------------------------------------------

STEPS = 10  # of the market's noise, a horizon
STUDIES = 3_000


@dataclass
class Studies:
    """Studies without a difference: a parent's is the noise that its symbol's market shows during its life."""

    differences: np.ndarray  # (studies, parents)
    arrivals: np.ndarray  # the same, ns since the session has started
    days: np.ndarray  # (parents,)

    def compare(self, study: int) -> Comparison:
        return compare(self.differences[study], lives(self.arrivals[study], self.days, HORIZON), HORIZON)


def null_studies(seed: int, studies: int, days: int, blocks_a_day: int) -> Studies:
    """Two symbols that share half of their noise; some twenty parents a block, each for a horizon."""
    random = np.random.default_rng([seed, days])
    parents, steps = 20 * blocks_a_day * days, blocks_a_day * 5 * STEPS
    own, shared = (random.standard_normal((studies, days, number, steps), dtype=np.float32) for number in (2, 1))
    paths = np.cumsum(own + shared, axis=3, dtype=np.float64)
    paths = np.concatenate((np.zeros_like(paths[..., :1]), paths), axis=3)
    arrivals = random.integers(0, blocks_a_day * BLOCK - HORIZON, (studies, parents))
    day, symbol, study = np.arange(parents) % days, random.integers(0, 2, parents), np.arange(studies)[:, None]
    begun = arrivals * STEPS // HORIZON
    moved = paths[study, day, symbol, begun + STEPS] - paths[study, day, symbol, begun]
    return Studies(moved, arrivals, day)


def coverage(seed: int, studies: int, days: int, blocks_a_day: int) -> float:
    """How often an interval of 95 % holds the true mean, 0."""
    drawn = null_studies(seed, studies, days, blocks_a_day)
    found = [drawn.compare(study) for study in range(studies)]
    assert {one.blocks for one in found} == {days * blocks_a_day}
    return float(np.mean([one.low <= 0.0 <= one.high for one in found]))


@pytest.mark.parametrize(("days", "blocks_a_day"), [(5, 8), (10, 7)])
def test_an_interval_holds_the_truth_in_95_of_100_studies(days: int, blocks_a_day: int) -> None:
    assert 0.93 <= coverage(1, STUDIES, days, blocks_a_day) <= 0.97


def test_p_values_of_studies_without_a_difference_are_uniform() -> None:
    drawn = null_studies(2, 1_000, 5, 8)
    p_values = [drawn.compare(study).p_value for study in range(1_000)]
    for level in (0.1, 0.5, 0.9):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=0.05)


def test_parents_taken_for_independent_ones_hold_it_far_less_often() -> None:
    """A t interval on parents and a percentile bootstrap of them: neighbours saw the same market."""
    drawn = null_studies(1, 500, 5, 8).differences
    count = drawn.shape[1]
    reach = 1.96 * drawn.std(axis=1, ddof=1) / math.sqrt(count)
    assert np.mean(np.abs(drawn.mean(axis=1)) <= reach) < 0.7
    weights = np.random.default_rng(3).multinomial(count, np.full(count, 1.0 / count), size=400) / count
    low, high = np.quantile(drawn @ weights.T, [0.025, 0.975], axis=1)
    assert np.mean((low <= 0.0) & (high >= 0.0)) < 0.7


def test_dependence_beyond_a_block_shows_in_the_autocorrelation() -> None:
    noise = np.random.default_rng(4).standard_normal(400)
    slow = list(itertools.accumulate(noise.tolist(), lambda before, new: 0.6 * before + new))
    assert compare(*a_block_each(slow)).autocorrelation == pytest.approx(0.6, abs=0.1)
    assert compare(*a_block_each(noise)).autocorrelation == pytest.approx(0.0, abs=0.1)


def test_an_end_that_depends_on_how_an_order_went_moves_the_mean() -> None:
    """Dear orders that last longer are left out more often; with the longest life for all the mean is right, 0.5."""
    random = np.random.default_rng(7)
    share, days = random.random(50_000), random.integers(0, 100, 50_000)
    arrivals = random.integers(0, 8 * BLOCK - HORIZON, 50_000)
    known = compare(share, lives(arrivals, days, HORIZON), HORIZON)
    seen = compare(share, lives(arrivals, days, (share * HORIZON).astype(int)), HORIZON)
    assert known.low < 0.5 < known.high
    assert seen.high < 0.49


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_a_t_test_on_block_means() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(5)
    days, offsets = random.integers(0, 4, 300), random.integers(0, 6 * BLOCK, 300)
    values = random.normal(-0.3, 1.0, 300)
    blocks, left_out = defaultdict(list), 0
    for day, offset, value in zip(days.tolist(), offsets.tolist(), values.tolist(), strict=True):
        if offset % BLOCK + HORIZON > BLOCK:
            left_out += 1
        else:
            blocks[day, offset // BLOCK].append(value)
    used = [value for block in blocks.values() for value in block]
    test = stats.ttest_1samp([np.mean(block) for block in blocks.values()], 0.0)
    low, high = test.confidence_interval(0.95)
    found = compare(values, lives(offsets, days, HORIZON), HORIZON)
    middle = (low + high) / 2
    assert (found.difference_bps, found.low, found.high) == pytest.approx((middle, low, high), abs=1e-12)
    assert found.p_value == pytest.approx(test.pvalue, rel=1e-9)
    assert (found.blocks, found.orders, found.left_out) == (len(blocks), len(used), left_out)
    assert left_out > 20
    assert (found.better, found.worse) == (sum(value < 0 for value in used), sum(value > 0 for value in used))
    assert (found.p_adjusted, found.why) == (None, None)


def test_the_mean_of_one_number_has_the_same_interval() -> None:
    values, when, horizon = a_block_each(np.random.default_rng(6).normal(2.0, 1.0, 20))
    alone, held = mean_of(values, when, horizon), compare(values, when, horizon)
    assert alone.mean_bps == held.difference_bps
    for name in set(alone.__struct_fields__) - {"mean_bps"}:
        assert getattr(alone, name) == getattr(held, name)


@pytest.mark.parametrize("horizons", [3, 5, 8])
def test_a_parent_that_reaches_into_the_next_block_is_left_out(horizons: int) -> None:
    length = horizons * HORIZON
    lasting = [length, length + 1, 1, 2, 0]  # to the next block's first instant, beyond it, and from just before it
    found = compare(
        [1.0, 50.0, 2.0, 50.0, 9.0], lives([0, 0, length - 1, length - 1, length], life=lasting), HORIZON, horizons
    )
    assert (found.blocks, found.orders, found.left_out) == (2, 3, 2)
    assert found.difference_bps == (1.5 + 9.0) / 2


def test_every_block_weighs_the_same() -> None:
    found = compare([1.0, 1.0, 1.0, 5.0], lives([0, 1, 2, BLOCK]), HORIZON)
    assert (found.difference_bps, found.blocks, found.orders) == (3.0, 2, 4)


def test_blocks_count_from_the_session_and_not_from_midnight() -> None:
    when = lives([0, BLOCK - 1, BLOCK, 2 * BLOCK - 1])
    shifted = Lives(when.day, *(np.asarray(column) + 12345 for column in when[1:]))
    for one in (when, shifted):
        assert compare([1.0, 3.0, 10.0, 20.0], one, HORIZON).difference_bps == (2.0 + 15.0) / 2


def test_blocks_of_all_symbols_are_the_same_where_their_sessions_are_not() -> None:
    """What opens later is counted from the earlier one: otherwise two blocks would show the same time."""
    when = lives([BLOCK - 3, BLOCK - 3, BLOCK + 3])
    late = when._replace(session_start=np.array([SESSION, SESSION + BLOCK - 3, SESSION + BLOCK - 3]))
    found = compare([1.0, 3.0, 8.0], late, HORIZON)
    assert (found.blocks, found.difference_bps) == (2, (2.0 + 8.0) / 2)


def test_a_block_never_crosses_a_day() -> None:
    """Trading round the clock: a day that is no whole number of blocks ends within one."""
    length = 2 * BLOCK + 100
    days = np.array([0, 0, 1, 0])
    arrivals = SESSION + np.array([2 * BLOCK, length - 2, length, length - 1])
    when = Lives(days, arrivals, arrivals + 2, SESSION + days * length)
    found = compare([1.0, 3.0, 10.0, 99.0], when, HORIZON)
    assert (found.blocks, found.difference_bps) == (2, (2.0 + 10.0) / 2)
    assert (found.orders, found.left_out) == (3, 1)  # the last is still there when the next day begins


def test_days_of_any_numbering() -> None:
    values, when, horizon = np.arange(12.0), lives(np.zeros(12), np.arange(12)), HORIZON
    dates = when._replace(day=20250130 + 70 * np.arange(12))
    assert compare(values, dates, horizon) == compare(values, when, horizon)
    assert compare(values, when, horizon).blocks == 12


# --- where there is no interval, or no doubt -------------------------------------------------------------------------


def test_under_ten_blocks_there_is_no_interval() -> None:
    nine, ten = (compare(*a_block_each(range(count))) for count in (9, 10))
    assert (nine.low, nine.high, nine.p_value, nine.autocorrelation) == (None,) * 4
    assert (nine.difference_bps, nine.blocks) == (4.0, 9)
    assert nine.why == "too few blocks (9; 10 are needed)"
    assert ten.why is None
    assert None not in (ten.low, ten.high, ten.p_value)
    assert ten.autocorrelation is None  # of nine pairs


def test_no_parents_and_none_that_lies_within_a_block() -> None:
    nothing = compare([], Lives([], [], [], []), HORIZON)
    assert (nothing.difference_bps, nothing.blocks, nothing.orders, nothing.left_out) == (None, 0, 0, 0)
    assert nothing.why == "too few blocks (0; 10 are needed)"
    long = compare(*a_block_each(range(12), life=BLOCK + 1))
    assert (long.difference_bps, long.low, long.orders, long.left_out) == (None, None, 0, 12)
    assert long.why == "no block holds an order's whole life (12 reach into the next one)"
    assert adjust([nothing, long]) == [nothing, long]


@pytest.mark.parametrize(("value", "p_value"), [(0.1, 0.0), (-1e-13, 0.0), (0.0, 1.0), (-0.0, 1.0), (1 / 3, 0.0)])
@pytest.mark.parametrize("count", [12, 49])
def test_where_nothing_varies_the_interval_is_a_point(value: float, p_value: float, count: int) -> None:
    """49 times a number, a 49th of it, is not always that number."""
    found = compare(np.full(count * 49, value), lives(np.repeat(BLOCK * np.arange(count), 49)), HORIZON)
    assert (found.low, found.difference_bps, found.high, found.p_value) == (value, value, value, p_value)
    assert found.autocorrelation is None
    assert math.copysign(1.0, found.difference_bps) == (-1.0 if value < 0 else 1.0)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e12])
def test_figures_of_any_size(size: float) -> None:
    """Squares of the smallest would vanish."""
    usual, scaled = (compare(*a_block_each(factor * np.sin(np.arange(30.0)))) for factor in (1.0, size))
    assert (scaled.low, scaled.high) == pytest.approx((size * usual.low, size * usual.high), rel=1e-12)
    assert scaled.p_value == pytest.approx(usual.p_value, rel=1e-9)
    assert scaled.autocorrelation == pytest.approx(usual.autocorrelation, rel=1e-9)


def test_a_difference_beyond_all_doubt() -> None:
    values = np.full(20, 1e12)
    values[0] -= 1e-3
    found = compare(*a_block_each(values))
    assert found.low < found.difference_bps < found.high
    assert found.p_value < 1e-200


# --- autocorrelation -------------------------------------------------------------------------------------------------


def test_autocorrelation_by_hand() -> None:
    turning = [1.0, -1.0] * 8
    assert compare(*a_block_each(turning)).autocorrelation == pytest.approx(-1.0)
    rounded = [0.5412268555474342, 0.2768912040453708] * 7  # whose quotient of sums is -1.0000000000000004
    assert compare(*a_block_each(rounded)).autocorrelation == -1.0
    rising = [float(number) for number in range(11)]
    before, after = np.arange(-5.0, 5.0), np.arange(-4.0, 6.0)
    expected = before @ after / math.sqrt((before @ before) * (after @ after))
    assert compare(*a_block_each(rising)).autocorrelation == pytest.approx(expected)


def test_autocorrelation_is_of_neighbours_on_one_day() -> None:
    """Not across days, and not across a block that holds nothing."""
    values = [1.0, -1.0] * 12
    days = np.repeat(np.arange(12), 2)
    overnight = compare(values, lives(np.tile([0, BLOCK], 12), days), HORIZON)
    assert overnight.autocorrelation == pytest.approx(-1.0)
    apart, alone = lives(np.tile([0, 2 * BLOCK], 12), days), lives(np.zeros(24), np.arange(24))
    later = lives(BLOCK * np.arange(24), np.arange(24))  # each in the next block, but of the next day
    assert [compare(values, one, HORIZON).autocorrelation for one in (apart, alone, later)] == [None] * 3
    together = [-2.0, -1.0, 1.0, 2.0] * 6  # on one day alike, from one day to the next not
    alike = compare(together, lives(np.tile([0, BLOCK], 12), days), HORIZON)
    assert alike.autocorrelation == pytest.approx(0.8)


# --- symmetry --------------------------------------------------------------------------------------------------------

PARENT = st.tuples(
    st.integers(0, 3), st.integers(0, 8_000), st.integers(0, 200), st.floats(-100, 100, allow_subnormal=False)
)
PARENTS = st.lists(PARENT, min_size=1, max_size=80)


def small(parents: list[tuple[int, int, int, float]]) -> tuple[np.ndarray, Lives, int]:
    """With a horizon of 100 ns, so that there are some twenty blocks."""
    days, offsets, spans, values = (np.array(column) for column in zip(*parents, strict=True))
    return values.astype(float), lives(offsets, days, spans), 100


def test_a_mean_is_that_of_exact_sums() -> None:
    values = [1e12, 0.1, -1e12, 0.2]
    found = {compare(one, lives([0] * 4), HORIZON).difference_bps for one in itertools.permutations(values)}
    assert found == {math.fsum(values) / 4}


@given(st.data())
def test_the_order_of_parents_changes_nothing(data: st.DataObject) -> None:
    parents = data.draw(PARENTS)
    assert compare(*small(parents)) == compare(*small(data.draw(st.permutations(parents))))


@given(PARENTS, st.floats(-100, 100))
@example([(0, 500 * block, 0, 0.1 * block) for block in range(12)], 0.7)
def test_a_shift_of_all_differences_shifts_the_interval(parents: list[Any], shift: float) -> None:
    values, when, horizon = small(parents)
    first, second = compare(values, when, horizon), compare(values + shift, when, horizon)
    for name in ("difference_bps", "low", "high"):
        before, after = getattr(first, name), getattr(second, name)
        assert (before is None) == (after is None)
        assert before is None or after == pytest.approx(before + shift, abs=1e-9)
    assert (first.blocks, first.orders, first.left_out) == (second.blocks, second.orders, second.left_out)


@given(PARENTS)
@example([(0, 500 * block, 0, 0.1 * block) for block in range(12)])
def test_mirrored_differences_mirror_the_interval(parents: list[Any]) -> None:
    values, when, horizon = small(parents)
    first, second = compare(values, when, horizon), compare(-values, when, horizon)
    turned = {"better": second.worse, "worse": second.better}
    if second.difference_bps is not None:
        turned["difference_bps"] = -second.difference_bps
    if second.low is not None:
        turned |= {"low": -second.high, "high": -second.low}
    assert first == msgspec.structs.replace(second, **turned)


@given(PARENTS)
@example([(0, 500 * block, 0, 0.1 * block) for block in range(12)])
def test_figures_hang_together(parents: list[Any]) -> None:
    found = compare(*small(parents))
    assert found.better + found.worse + found.equal == found.orders
    assert found.orders + found.left_out == len(parents)
    assert found.blocks <= found.orders
    assert (found.low is None) == (found.p_value is None) == (found.why is not None) == (found.blocks < 10)
    assert found.autocorrelation is None or -1.0 <= found.autocorrelation <= 1.0
    if found.low is not None:
        assert found.low <= found.difference_bps <= found.high
        assert 0.0 <= found.p_value <= 1.0
        if abs(found.p_value - 0.05) > 1e-6:
            assert (found.p_value < 0.05) == (found.low > 0.0 or found.high < 0.0)


# --- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"difference_bps": [1.0, math.nan]}, "difference_bps[1] is nan: no number from -1e+12 to 1e+12"),
        ({"difference_bps": [math.inf, 1.0]}, "difference_bps[0] is inf"),
        ({"difference_bps": [1.0, None]}, "difference_bps must be one column of numbers; it is of shape (2,)"),
        ({"difference_bps": [[1.0, 2.0]]}, "difference_bps must be one column of numbers; it is of shape (1, 2)"),
        ({"difference_bps": ["1", "2"]}, "difference_bps must be one column of numbers"),
        ({"difference_bps": [True, False]}, "difference_bps must be one column of numbers"),
        ({"difference_bps": np.ma.array([1.0, 2.0], mask=[0, 1])}, "difference_bps must be one column of numbers"),
        ({"difference_bps": [1.0]}, "day has 2 entries and difference_bps 1: they must be of the same parents"),
        ({"day": [0]}, "day has 1 entries and difference_bps 2"),
        ({"day": [0.0, 0.0]}, "day must be one column of whole numbers"),
        ({"arrival": [SESSION + 0.5, SESSION]}, "arrival must be one column of whole numbers"),
        ({"arrival": np.array(["2025-01-01"] * 2, "M8[ns]")}, "arrival must be one column of whole numbers"),
        ({"arrival": [SESSION, SESSION - 1]}, f"arrival[1] is {SESSION - 1}: before its session starts"),
        ({"end": [SESSION + 9, SESSION]}, f"end[1] is {SESSION}: before its arrival"),
        ({"end": np.array([2**63, 1], np.uint64)}, f"end[0] is {2**63}: not within 0 and 2**62"),
        ({"session_start": [-1, SESSION]}, "session_start[0] is -1: not within 0 and 2**62"),
        ({"day": [1, 2]}, "session_start of day 2 is no later than that of day 1"),
        ({"day": [1, 2], "session_start": [SESSION, SESSION + 2]}, "after the next day's session has started"),
        ({"horizon": 0}, "horizon is 0: it must be a whole number from 1 to 86400000000000"),
        ({"horizon": 1.5}, "horizon is 1.5"),
        ({"block_horizons": 2}, "block_horizons is 2: it must be a whole number from 3 to 1000"),
    ],
)
def test_wrong_input_is_named(changes: dict[str, Any], message: str) -> None:
    times = {"day": [0, 0], "arrival": [SESSION + 5, SESSION + 6], "end": [SESSION + 9] * 2}
    usual = {"difference_bps": [1.0, 2.0], **times, "session_start": [SESSION] * 2, "horizon": HORIZON}
    given_ = usual | changes
    when = Lives(*(given_.pop(name) for name in Lives._fields))
    with pytest.raises(InputError, match=re.escape(message)):
        compare(given_.pop("difference_bps"), when, **given_)


def test_the_right_input_that_those_differ_from_is_taken() -> None:
    found = compare([1, 2], lives([5, 6]), HORIZON, 3)
    assert (found.difference_bps, found.blocks) == (1.5, 1)


def test_a_wrong_mean_is_named_by_its_own_name() -> None:
    with pytest.raises(InputError, match=r"values_bps\[0\] is nan"):
        mean_of([math.nan], lives([0]), HORIZON)


# --- Holm ------------------------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """0.01 x 4; 0.02 x 3; 0.03 x 2 = 0.06 again; 0.04 x 1 below that, so 0.06."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R's p.adjust
    assert holm([0.03, None, 0.01]) == pytest.approx([0.03, None, 0.02])
    assert holm([0.6, 0.7, 0.0]) == [1.0, 1.0, 0.0]
    assert (holm([]), holm([None]), holm([0.2])) == ([], [None], [0.2])


@given(st.lists(st.none() | st.floats(0.0, 1.0)))
def test_holm_keeps_the_order_and_makes_nothing_smaller(p_values: list[float | None]) -> None:
    adjusted = holm(p_values)
    assert [p is None for p in adjusted] == [p is None for p in p_values]
    pairs = sorted((raw, new) for raw, new in zip(p_values, adjusted, strict=True) if raw is not None)
    assert all(raw <= new <= min(1.0, len(pairs) * raw + 1e-300) or raw == new for raw, new in pairs)
    assert [new for _, new in pairs] == sorted(new for _, new in pairs)
    assert not pairs or pairs[0][1] == min(1.0, len(pairs) * pairs[0][0])


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan, "0.1"])
def test_what_is_no_p_value_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="p_values is"):
        holm([0.5, wrong])


def test_adjusted_comparisons_are_those_given_with_one_figure_more() -> None:
    found = [made(-0.4, -0.7, -0.1, p_value=p, p_adjusted=None) for p in (0.03, 0.01)]
    found.insert(1, made(-0.4, None, None, p_value=None, p_adjusted=None, why="too few blocks (7; 10 are needed)"))
    adjusted = adjust(found)
    assert [one.p_adjusted for one in adjusted] == pytest.approx([0.03, None, 0.02])
    assert [msgspec.structs.replace(one, p_adjusted=None) for one in adjusted] == found


# --- in words --------------------------------------------------------------------------------------------------------

CHEAPER = made(-0.4, -0.7, -0.1)
FEW = made(-0.4, None, None, blocks=7, p_value=None, p_adjusted=None, why="too few blocks (7; 10 are needed)")


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (CHEAPER, "x was 0.4 bps cheaper than nbbo, 95 % interval 0.1 to 0.7 over 38 blocks"),
        (made(0.4, 0.1, 0.7), "x was 0.4 bps dearer than nbbo, 95 % interval 0.1 to 0.7 over 38 blocks"),
        (FEW, "nothing can be said of x: too few blocks (7; 10 are needed)"),
        (
            made(-0.25, -0.7, 0.2, p_value=0.3, p_adjusted=0.6),
            "nothing can be said of x, 95 % interval 0.7 bps cheaper to 0.2 dearer over 38 blocks",
        ),
        (
            made(-0.4, -0.79, -0.01, p_value=0.04, p_adjusted=0.081),
            "nothing can be said of x, 95 % interval 0.01 to 0.8 bps cheaper over 38 blocks, "
            "but its p-value among all comparisons is 0.081",
        ),
        (
            made(0.0, -0.3, 0.3, p_value=1.0, p_adjusted=1.0),
            "nothing can be said of x, 95 % interval 0.3 bps cheaper to 0.3 dearer over 38 blocks",
        ),
        (
            made(0.0, 0.0, 0.0, better=0, worse=0, equal=950, p_value=1.0, p_adjusted=1.0),
            "x was exactly the same as nbbo in all 950 orders compared",
        ),
        (
            made(0.0, None, None, blocks=1, orders=1, better=0, worse=0, equal=1, p_value=None, p_adjusted=None),
            "x was exactly the same as nbbo in the one order compared",
        ),
        (  # small numbers, and a width far smaller than the difference
            made(-0.00042, -0.00071, -0.00013),
            "x was 0.0004 bps cheaper than nbbo, 95 % interval 0.0001 to 0.0007 over 38 blocks",
        ),
        (
            made(-0.4137, -0.8267, -0.0007),
            "x was 0.4 bps cheaper than nbbo, 95 % interval 0.0007 to 0.8 over 38 blocks",
        ),
        (
            made(12.3456, 12.3123, 12.3789),
            "x was 12.35 bps dearer than nbbo, 95 % interval 12.31 to 12.38 over 38 blocks",
        ),
        (made(-0.4, -0.6, -0.2), "x was 0.40 bps cheaper than nbbo, 95 % interval 0.20 to 0.60 over 38 blocks"),
        (made(-0.3, -0.3, -0.3), "x was 0.3000 bps cheaper than nbbo, 95 % interval 0.3000 to 0.3000 over 38 blocks"),
        (made(-2e-9, -3e-9, -1e-9), "x was 2e-09 bps cheaper than nbbo, 95 % interval 1e-09 to 3e-09 over 38 blocks"),
        (made(250.0, 50.0, 450.0), "x was 250.0 bps dearer than nbbo, 95 % interval 50.0 to 450.0 over 38 blocks"),
    ],
)
def test_what_a_comparison_says(one: Comparison, words: str) -> None:
    assert sentence([("x", one)], "nbbo") == words


def test_several_strategies_are_one_sentence() -> None:
    unsure = made(-0.25, -0.7, 0.2, p_value=0.3, p_adjusted=0.6)
    text = sentence([("brute_force", CHEAPER), ("cont_kukanov", unsure), ("equal", FEW)], "nbbo")
    assert text == (
        "brute_force was 0.4 bps cheaper than nbbo, 95 % interval 0.1 to 0.7 over 38 blocks; "
        "nothing can be said of cont_kukanov, 95 % interval 0.7 bps cheaper to 0.2 dearer over 38 blocks; "
        "nothing can be said of equal: too few blocks (7; 10 are needed)"
    )
    assert sentence([], "nbbo") == "nothing was compared with nbbo"
    nothing = compare([], Lives([], [], [], []), HORIZON)
    assert sentence([("x", nothing)], "nbbo") == "nothing can be said of x: too few blocks (0; 10 are needed)"


def test_the_adjusted_p_value_decides() -> None:
    assert sentence([("x", made(-0.4, -0.7, -0.1, p_adjusted=0.05))], "nbbo").startswith("x was 0.4 bps cheaper")
    assert sentence([("x", made(-0.4, -0.7, -0.1, p_adjusted=0.051))], "nbbo").startswith("nothing can be said of x")
    with pytest.raises(InputError, match=r"the comparison of x has no p_adjusted"):
        sentence([("x", made(-0.4, -0.7, -0.1, p_adjusted=None))], "nbbo")


def of_an_interval(low: float, high: float, p_adjusted: float) -> str:
    return sentence([("x", made((low + high) / 2, low, high, p_adjusted=p_adjusted))], "nbbo")


def is_shown(text: str, size: float, half_width: float) -> bool:
    """To six decimals and a fifth of the half width, without a sign, and as 0 only where it is 0."""
    near = abs(float(text) - size) <= 0.21 * half_width + 1e-3 * size + 5e-7
    return near and not text.startswith("-") and (float(text) == 0.0) == (size == 0.0)


SIZE = st.floats(1e-12, 1e6)
UNSURE = re.compile(r"nothing can be said of x, 95 % interval (\S+) bps cheaper to (\S+) dearer over 38 blocks")
SURE = re.compile(r"x was (\S+) bps (cheaper|dearer) than nbbo, 95 % interval (\S+) to (\S+) over 38 blocks")


@given(SIZE, SIZE)
@example(0.04, 0.04)
@example(1e-9, 1e3)
def test_an_interval_around_0_is_read_without_signs(below: float, above: float) -> None:
    found = UNSURE.fullmatch(of_an_interval(-below, above, 0.2))
    assert found is not None
    assert is_shown(found[1], below, (above + below) / 2)
    assert is_shown(found[2], above, (above + below) / 2)


@given(SIZE, st.floats(0.0, 1e6), st.sampled_from([-1.0, 1.0]))
@example(0.1, 0.6, -1.0)
@example(1e-9, 1e3, 1.0)
def test_an_interval_beside_0_is_read_in_the_direction_of_the_word(near: float, width: float, sign: float) -> None:
    low, high = sorted((sign * near, sign * (near + width)))
    found = SURE.fullmatch(of_an_interval(low, high, 0.05))
    assert found is not None
    assert found[2] == ("cheaper" if sign < 0 else "dearer")
    for text, size in zip(found.group(1, 3, 4), (near + width / 2, near, near + width), strict=True):
        assert is_shown(text, size, width / 2)


@given(st.lists(st.floats(-100, 100), min_size=12, max_size=30))
@example([-1.0] * 12)
@example([1.0] * 11 + [1.5])
@example([0.0] * 12)
def test_what_is_found_is_what_is_said(values: list[float]) -> None:
    (found,) = adjust([compare(*a_block_each(values))])
    text = sentence([("x", found)], "nbbo")
    if not any(values):
        assert text.startswith("x was exactly the same as nbbo")
    elif found.p_value > 0.05:
        assert text.startswith("nothing can be said of x, ")
    else:
        assert re.match(rf"x was \S+ bps {'cheaper' if found.difference_bps < 0 else 'dearer'} than nbbo", text)


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(comparison).attempted > 0
    assert doctest.testmod(comparison).failed == 0


# --- Student's t -----------------------------------------------------------------------------------------------------

LEVELS = [0.5, 0.5001, 0.6, 0.75, 0.9, 0.975, 0.995, 0.9999]


def test_t_quantiles_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    freedoms = np.arange(1, 1001)
    truth = stats.t.ppf(np.array(LEVELS), freedoms[:, None])
    ours = np.array([[t_quantile(level, freedom) for level in LEVELS] for freedom in freedoms.tolist()])
    assert np.abs(ours - truth).max() < 1e-10
    assert [t_quantile(1.0 - level, 7) for level in LEVELS] == pytest.approx([-t_quantile(p, 7) for p in LEVELS])


@pytest.mark.parametrize("freedom", [1, 2, 9, 38, 1000])
def test_t_distribution_is_that_of_scipy_far_into_its_tails(freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = [0.0, 1e-4, 0.3, 1.0, 2.0, 5.0, 30.0, 1e4]
    assert [t_cdf(value, freedom) for value in values] == pytest.approx(stats.t.cdf(values, freedom), abs=1e-12)
    tails = stats.t.sf(values, freedom)
    assert [t_cdf(-value, freedom) for value in values] == pytest.approx(tails, rel=1e-9, abs=1e-300)
    assert (t_cdf(-math.inf, freedom), t_cdf(math.inf, freedom)) == (0.0, 1.0)


def test_t_with_one_degree_of_freedom_is_cauchy() -> None:
    for level in (1e-12, 0.01, 0.3, 0.8, 0.99):
        assert t_quantile(level, 1) == pytest.approx(-1.0 / math.tan(math.pi * level), rel=1e-9)


@pytest.mark.parametrize(("level", "freedom"), [(0.0, 5), (1.0, 5), (math.nan, 5), (0.5, 0), (0.5, math.nan)])
def test_no_quantile_outside_its_domain(level: float, freedom: float) -> None:
    with pytest.raises(InputError, match=r"^(probability|freedom) is"):
        t_quantile(level, freedom)
