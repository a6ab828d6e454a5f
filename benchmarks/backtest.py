"""Orders worked on recorded feeds: how long a day and a week take, and the loop over rows against hftbacktest's.

    python benchmarks/backtest.py FEED... [--rounds N] [--jobs N]

FEED are recorded days, one file each; they are written as Parquet first. The peer, hftbacktest, replays the same
single-venue feed: a synthetic one, with one level and with ten, its rows turned into the peer's events beforehand. It
needs an older numpy, so an environment of its own: `pip install '.[parquet,report]' -r tests/hft-requirements.txt`.
Medians of alternating rounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))

import numpy as np
from browser import Browser, chromium

import sor
from sor.backtest import Orders
from sor.backtest.days import Stamps
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.kernels import pick
from sor.market.columns import NO_PRICE, STANDS, Batch, joined
from sor.market.parquet import write_parquet

market = pick("sor.backtest._market")

DAY_GOAL = 0.5  # seconds: a day, 400 orders of 1,000 shares, one way, reading included
ROWS_GOAL = 3_000_000  # rows a second of the loop without orders
WEEK_GOAL = 60.0  # seconds
REPORT_GOAL = 8  # MB
OPEN_GOAL = 3.0  # seconds until all of it is drawn by Chromium
TUNE_GOAL = 60.0  # seconds: 125 points that differ, 100 orders, a day
SPACE = {"theta_queue": (0.0, 0.01), "lambda_under": (0.005, 0.05), "horizon": [10, 20, 40, 80, 160]}
COPIES = 20  # of the synthetic feed, one after the other
WEEK = [("immediate", name) for name in ("brute_force", "greedy_l2", "nbbo", "best_venue", "pro_rata", "equal")]
WEEK += [("immediate", "cont_kukanov"), ("twap:10", "cont_kukanov")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("feed", nargs="*", metavar="FEED")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--day", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.day:
        print(json.dumps(measured(options.day)))
        return
    print(f"kernels {sor.BACKEND}, {options.rounds} rounds")
    for depth in (1, 10):
        loops(depth, options.rounds)
    if options.feed:
        with tempfile.TemporaryDirectory() as folder:
            days = [Path(folder) / f"{number}.parquet" for number in range(len(options.feed))]
            for path, day in zip(options.feed, days, strict=True):
                write_parquet(sor.read_feed(path), day)
            day_of(days[0], options.rounds)
            memory(days)
            week(days, options.jobs)
            tuned(days[0], options.jobs)


def goal(met: bool) -> str:
    return "met" if met else "NOT met"


def timed(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


# --- studies ---------------------------------------------------------------------------------------------------------


def study(paths: list[Path] | list[str]) -> Any:
    orders = Orders(sizes=(1000,), sides=("buy",), number=400)
    return sor.backtest(sor.read_feed(paths), orders, [("immediate", "nbbo")])


def day_of(path: Path, rounds: int) -> None:
    seconds = median(timed(lambda: study([path])) for _ in range(rounds))
    print(f"a day of {len(joined(list(sor.read_feed(path)))):,} rows, 400 orders of 1,000 shares, one way:")
    print(f"  reading, working and measuring {seconds:.3f} s, goal {DAY_GOAL} {goal(seconds <= DAY_GOAL)}")


def measured(paths: list[str]) -> dict[str, float]:
    seconds = timed(lambda: study(paths))
    status = Path("/proc/self/status").read_text()  # getrusage counts what the parent had, too
    return {"seconds": seconds, "megabytes": int(status.partition("VmHWM:")[2].split()[0]) / 1024}


def memory(days: list[Path]) -> None:
    print("peak of memory of a process, the same study on more days:")
    for count in sorted({1, len(days)}):
        command = [sys.executable, __file__, "--day", *map(str, days[:count])]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"  {count} days {found['megabytes']:8.0f} MB, {found['seconds']:.2f} s")


def week(days: list[Path], jobs: int) -> None:
    orders = Orders(sizes=(1000,), sides=("buy", "sell"), number=100)
    found: list[Any] = []
    seconds = timed(lambda: found.append(sor.backtest(sor.read_feed(days), orders, WEEK, jobs=jobs)))
    worked = len(found[0].parents["order"])
    print(f"{len(days)} days, 8 strategies, both sides, 100 arrivals a day, three queue models, {jobs} processes:")
    print(f"  {worked:,} orders worked in {seconds:.1f} s, goal {WEEK_GOAL:.0f} {goal(seconds <= WEEK_GOAL)}")
    report = days[0].with_name("report.html")
    seconds = timed(lambda: found[0].report(report))
    size = report.stat().st_size / 1e6
    print(f"  its report in {seconds:.1f} s: {size:.1f} MB, goal {REPORT_GOAL} {goal(size <= REPORT_GOAL)}")
    opened(report)


def opened(report: Path) -> None:
    if chromium() is None:
        print("  there is no Chromium to open it")
        return
    with Browser(report.with_name("profile")) as browser:
        first, *more = (browser.open(report, 1280) for _ in range(6))
    seconds = median(more)
    met = goal(seconds <= OPEN_GOAL)
    print(f"  opened and drawn in {seconds:.2f} s, freshly started in {first:.2f} s, goal {OPEN_GOAL:g} {met}")


def tuned(day: Path, jobs: int) -> None:
    orders = Orders(sizes=(5000,), sides=("buy",), number=100)
    found: list[Any] = []
    feed = sor.read_feed(day)
    seconds = timed(lambda: found.append(sor.tune(feed, orders, space=SPACE, search="random", points=125, jobs=jobs)))
    told = f"{len(found[0].points)} points of cont_kukanov, {found[0].differing} of which differ, 100 orders of 5,000"
    print(f"{told}, {jobs} processes:\n  {seconds:.1f} s, goal {TUNE_GOAL:.0f} {goal(seconds <= TUNE_GOAL)}")


# --- the loop over rows ----------------------------------------------------------------------------------------------


def loops(depth: int, rounds: int) -> None:
    scenario = Scenario(seed=1, venues=("XNAS",), depth=depth, off_exchange=False)
    feed = copies(joined(list(SyntheticMarket(scenario).batches())))
    ways: dict[str, Callable[[], object]] = {"sor": ours(feed)}
    try:
        ways |= peers(feed)
    except ImportError as error:
        print(f"the peer is not there: {error}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    print(f"the loop over {len(feed):,} rows of one venue, levels {depth}, without orders, rows a second:")
    found = {name: len(feed) / median(times) for name, times in seconds.items()}
    for name, rate in found.items():
        print(f"  {name:<44}{rate:14,.0f}")
    print(f"  goal {ROWS_GOAL:,} {goal(found['sor'] >= ROWS_GOAL)}")
    hashed = [rate for name, rate in found.items() if "hash map" in name]
    if hashed:
        ratio = found["sor"] / hashed[0]
        print(f"  {ratio:.2f} times hftbacktest's hash map depth, goal 1 {goal(ratio > 1.0)}")


def copies(day: Batch) -> Batch:
    """The same day again and again, one after the other."""
    length = int(day.time[-1] - day.time[0]) + 10**9
    columns = {name: np.concatenate([values] * COPIES) for name, values in day.columns().items()}
    later = np.repeat(np.arange(COPIES) * length, len(day))
    columns["time"] = columns["time"] + later
    columns["receipt"] = columns["time"].copy()
    return Batch(day.symbols, **columns)


def ours(feed: Batch) -> Callable[[], object]:
    slots = {int(feed.publisher[0]): 0}
    reader = Stamps(slots, 0, feed.depth)
    parts = [part for part in (reader.of(feed), reader.rest()) if part is not None]

    def run() -> int:
        one = market.Market(["XNAS"], [None], feed.depth, [(0,)], 0, True, 2**62, 0, 2**62)
        for part in parts:
            one.run(part)
        one.finish()
        return int(one.rows)

    return run


def peers(feed: Batch) -> dict[str, Callable[[], object]]:
    import hftbacktest as hft

    events = events_of(feed, hft)
    elapsed = int(events["local_ts"][-1] - events["local_ts"][0]) + 10**9

    def run(kind: Any) -> Callable[[], object]:
        def once() -> int:
            asset = (
                hft.BacktestAsset()
                .data(events)
                .linear_asset(1.0)
                .constant_order_latency(0, 0)
                .risk_adverse_queue_model()
                .no_partial_fill_exchange()
                .trading_value_fee_model(0.0, 0.0)
                .tick_size(0.01)
                .lot_size(1)
                .roi_lb(0.0)
                .roi_ub(1000.0)
            )
            test = kind([asset])
            code = int(test.elapse(elapsed))
            test.close()
            return code

        once()  # compiled
        return once

    print(f"the peer's events: {len(events):,}, {len(events) / len(feed):.2f} a row")
    return {
        "hftbacktest, hash map depth": run(hft.HashMapMarketDepthBacktest),
        "hftbacktest, array depth": run(hft.ROIVectorMarketDepthBacktest),
    }


def events_of(feed: Batch, hft: Any) -> Any:
    """The changes of levels, and the trades, as the peer has them."""
    found: list[tuple[int, int, float, float]] = []
    shown: list[dict[int, int]] = [{}, {}]
    sides = (
        (hft.BUY_EVENT, feed.bid_price.tolist(), feed.bid_size.tolist()),
        (hft.SELL_EVENT, feed.ask_price.tolist(), feed.ask_size.tolist()),
    )
    both = hft.EXCH_EVENT | hft.LOCAL_EVENT
    trades = zip(feed.action.tolist(), feed.side.tolist(), feed.price.tolist(), feed.size.tolist(), strict=True)
    for row, (time_, (action, side, price, size)) in enumerate(zip(feed.time.tolist(), trades, strict=True)):
        if action == ord("T"):
            taker = hft.BUY_EVENT if side == ord("B") else hft.SELL_EVENT
            found.append((hft.TRADE_EVENT | taker | both, time_, price / 1e9, float(size)))
        for number, (flag, prices, sizes) in enumerate(sides):
            if sizes[row][0] == STANDS:
                continue
            levels = {p: n for p, n in zip(prices[row], sizes[row], strict=True) if p != NO_PRICE and n > 0}
            before, shown[number] = shown[number], levels
            changed = {p: levels.get(p, 0) for p in before.keys() | levels.keys() if before.get(p) != levels.get(p)}
            found += [(hft.DEPTH_EVENT | flag | both, time_, p / 1e9, float(n)) for p, n in sorted(changed.items())]
    events = np.zeros(len(found), hft.event_dtype)
    kinds, times, prices_, sizes_ = zip(*found, strict=True)
    events["ev"], events["exch_ts"], events["local_ts"] = kinds, times, times
    events["px"], events["qty"] = prices_, sizes_
    return events


if __name__ == "__main__":
    main()
