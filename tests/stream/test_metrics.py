"""Counts, percentiles and sums of a run."""

from __future__ import annotations

import math
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sor import Book, Instrument, Order, Router, RoutingResult
from sor.stream.summary import Latencies, RunSummary


def filled(values: list[int]) -> Latencies:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    return latencies


nanoseconds = st.integers(0, 100) | st.integers(0, 10**7) | st.integers(0, 10**12) | st.integers(0, 2**62)


@given(st.lists(nanoseconds, min_size=1, max_size=200), st.sampled_from([1, 25, 50, 75, 90, 99, 99.9, 100]))
@example([0], 50)
@example([2**62], 99)
@example(list(range(1, 101)), 50)
def test_percentiles_are_within_a_thirtieth_of_the_truth(values, percent):
    """The truth: the least observation that at least so many percent do not exceed."""
    truth = sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]
    found = filled(values).percentile(percent)
    # Below 32 ns each number is a bucket of its own, shown by its middle.
    assert found == pytest.approx(truth, rel=0.032, abs=0.5)
    assert found <= max(values)


@given(st.lists(nanoseconds, min_size=1, max_size=50))
def test_percentiles_rise(values):
    latencies = filled(values)
    found = [latencies.percentile(percent) for percent in range(1, 101)]
    assert found == sorted(found)
    assert (latencies.count, latencies.longest) == (len(values), max(values))


def test_a_copy_stays_as_it_was():
    summary = RunSummary()
    for value in (5, 700, 10**6):
        summary.latencies.add(value)
    summary.bad["json"] += 2
    copy = summary.copy()
    summary.latencies.add(10**9)
    summary.bad["json"] += 1
    assert vars(copy.latencies) == vars(filled([5, 700, 10**6]))
    summary.rejected["terms"] += 1
    assert (copy.bad, copy.rejected) == ({"json": 2}, {})


def test_no_observation_has_no_percentile():
    assert Latencies().percentile(50) is None


def test_memory_does_not_grow_with_the_observations():
    latencies = filled(list(range(0, 10**6, 37)))
    tracemalloc.start()
    try:
        for value in range(50_000):
            latencies.add(value * 7919)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 20_000


def result_of(quantity: int, bids: list[tuple[float, int]], asks: list[tuple[float, int]], side: str = "buy"):
    book = Book("AAPL")
    book.quote("V0", bids=bids, asks=asks)
    return Router().route(Order("AAPL", side, quantity), book)


def test_a_run_that_saw_nothing():
    facts = RunSummary().as_dict(0.0)
    assert facts == {
        "messages": 0,
        "results": 0,
        "skipped": {},
        "bad": {},
        "rejected": {},
        "doubtful": {},
        "seconds": 0.0,
        "messages_per_second": None,
        "latency_us": {"p50": None, "p99": None, "max": None},
        "fill_rate": None,
        "cost_vs_mid_bps": None,
    }
    assert RunSummary().lines(0.0) == ["messages 0 = results 0 + skipped 0 + bad 0"]


def test_the_sums_of_a_run():
    summary = RunSummary()
    summary.messages = 10
    summary.rejected["terms"] = 3
    summary.skipped["symbol"] = 2
    summary.bad["price"] = summary.bad["cells"] = 1
    summary.add(result_of(100, [(99.0, 10)], [(101.0, 50)]), 10_000)  # 50 shares at 1 dollar above the mid
    summary.add(result_of(100, [(99.0, 10)], [(101.0, 50)], "sell"), 20_000)  # 10 shares at 1 dollar below it
    summary.add(result_of(100, [], [(101.0, 100)]), 30_000)  # no mid: counts as filled, not as a cost
    facts = summary.as_dict(2.0)
    assert facts["messages"] == facts["results"] + sum(
        count for kind in ("skipped", "bad", "rejected") for count in facts[kind].values()
    )
    assert facts["fill_rate"] == pytest.approx((50 + 10 + 100) / 300)
    assert facts["cost_vs_mid_bps"] == pytest.approx(1e4 * 60 / (60 * 100.0))
    assert facts["messages_per_second"] == 5.0
    assert facts["latency_us"]["p50"] == pytest.approx(20, rel=0.04)
    assert facts["latency_us"]["max"] == 30.0
    text = "\n".join(summary.lines(2.0))
    assert "messages 10 = results 3 + skipped 2 (symbol 2) + bad 2 (cells 1, price 1) + rejected 3 (terms 3)" in text
    assert "53.3% of the shares ordered" in text
    assert "+100.00 bps" in text


def result_in(instrument: Instrument) -> RoutingResult:
    """Half a unit at 1 above the mid of 100."""
    book = Book("X", 1, instrument)
    book.quote("V0", bids=[(99.0, 1)], asks=[(101.0, 1)])
    return Router().route(Order("X", "buy", 0.5, instrument=instrument), book)


def test_currencies_are_never_added_up():
    summary = RunSummary()
    summary.add(result_in(Instrument(lot=0.1)), 10_000)
    dollars = RunSummary.as_dict(summary, 1.0)
    assert dollars["cost_vs_mid_bps"] == 100.0
    assert "cost_vs_mid_bps_by_currency" not in dollars
    before = summary.copy()
    for _ in range(3):
        summary.add(result_in(Instrument(lot=0.1, currency="EUR")), 10_000)
    summary.add(result_of(100, [(99.5, 10)], [(100.5, 50)]), 10_000)  # shares, so dollars
    assert (summary.shortfall, summary.notional_at_mid) == (0.5 + 25.0, 50.0 + 5000.0)
    assert summary.elsewhere == {"EUR": (1.5, 150.0)}
    assert before.elsewhere == {}
    facts = summary.as_dict(1.0)
    assert facts["cost_vs_mid_bps"] == pytest.approx(1e4 * 25.5 / 5050)
    assert facts["cost_vs_mid_bps_by_currency"] == {"EUR": 100.0, "USD": facts["cost_vs_mid_bps"]}
    costs = [line for line in summary.lines(1.0) if line.startswith("cost")]
    assert costs == [
        "cost     +100.00 bps against the mid, fees included, of what trades in EUR",
        "cost     +50.50 bps against the mid, fees included, of what trades in USD",
    ]


def test_one_currency_that_is_not_the_dollar_is_told():
    summary = RunSummary()
    summary.add(result_in(Instrument(lot=0.1, currency="EUR")), 10_000)
    assert summary.as_dict(1.0)["cost_vs_mid_bps"] is None
    assert [line for line in summary.lines(1.0) if line.startswith("cost")] == [
        "cost     +100.00 bps against the mid, fees included, of what trades in EUR"
    ]


def test_a_run_of_bad_messages_only():
    summary = RunSummary()
    summary.messages, summary.bad["json"] = 3, 3
    assert summary.lines(1.0) == ["messages 3 = results 0 + skipped 0 + bad 3 (json 3)"]
    assert summary.as_dict(1.0)["fill_rate"] is None
