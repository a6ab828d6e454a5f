"""The same calls in another checkout and in this one: median ratio of alternating rounds, each a process of its own.

    python benchmarks/versus.py OLD_CHECKOUT [--feed FILE] [--rounds N] [--only TEXT]

Only public names are used, so that the checkouts may differ inside. Both need compiled kernels (``python setup.py
build_ext --inplace``). Limits are 1.05, and 1.10 for calls that take less than 5 us.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from timeit import Timer

HERE = Path(__file__).resolve().parent.parent
PENALTIES = (0.01, 0.005, 0.002)
RESTING = ["--algorithm", "cont_kukanov", "--lambda-under", "0.05", "--lambda-over", "0.05", "--theta-queue", "0.0005"]


def calls(feed: str) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, and how often in a measurement."""
    import numpy as np

    from sor import Book, CostParameters, Level2Venue, Order, Router, Venue, allocate, allocate_greedy_l2, compute_cost
    from sor.cli import main

    venues = [Venue(100.10 + i / 100, 500.0 - 10 * i, 0.003, 0.002) for i in range(10)]
    quotes = np.array([(v.ask, v.ask_size, v.fee, v.rebate) for v in venues])
    deep = [Level2Venue(f"V{i}", [(100.1 + j / 100, 90.0) for j in range(10)], 0.003, 0.002) for i in range(16)]
    book = Book("AAPL", depth=10)
    for i in range(10):
        shown = {"bids": [(100.0 - i / 100, 300)], "asks": [(100.1 + i / 100, 300)]}
        book.quote(f"V{i}", **shown, fee=0.003, rebate=0.002)
    order, penalties = Order("AAPL", "buy", 1000), CostParameters(*PENALTIES)
    routers = {
        "Router.route, sweep": Router(penalties),
        "Router.route, greedy_l2": Router(penalties, "greedy_l2"),
        "Router.route, shortfall": Router(penalties, objective="shortfall"),
    }

    def replay(*options: str) -> None:
        assert main(["replay", feed, "--output", os.devnull, "--log-level", "error", *options]) == 0

    return {
        "allocate, array": (partial(allocate, 5000, quotes, *PENALTIES), 20_000),
        "allocate, venues": (partial(allocate, 5000, venues, *PENALTIES), 20_000),
        "allocate_greedy_l2": (partial(allocate_greedy_l2, 5000, deep, *PENALTIES), 5_000),
        "compute_cost": (partial(compute_cost, [100] * 10, venues, 1000, *PENALTIES), 10_000),
        "Order(...)": (partial(Order, "AAPL", "buy", 1000, 100.0, "id", "parent"), 50_000),
        **{name: (partial(router.route, order, book), 5_000) for name, router in routers.items()},
        "result.to_json": (Router(penalties).route(order, book).to_json, 10_000),
        "replay": (partial(replay), 1),
        "replay, greedy_l2": (partial(replay, "--greedy-l2"), 1),
        "replay, cont_kukanov": (partial(replay, *RESTING, "--max-messages", "3000"), 1),
    }


def measure(feed: str, only: str) -> None:
    seconds = {}
    for name, (call, number) in calls(feed).items():
        if only not in name:
            continue
        timer = Timer(call, timer=process_time)  # what else the machine does disturbs it less
        timer.timeit(max(1, number // 10) if number > 1 else 0)
        seconds[name] = min(timer.repeat(9 if number > 1 else 3, number)) / number  # one run alone is off by a tenth
    print(json.dumps(seconds))


def round_of(checkout: Path, feed: str, only: str) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(checkout), "SOR_REQUIRE_EXT": "1"}
    command = [sys.executable, __file__, "--measure", "--feed", feed, "--only", only]
    with tempfile.TemporaryDirectory() as folder:  # not a checkout: its `sor` would be the one
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("old", nargs="?", type=Path)
    parser.add_argument("--feed", default=str(HERE / "sample.csv"), help="recorded market data to replay")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", metavar="TEXT", help="only what has this in its name")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    feed = os.path.abspath(options.feed)
    if options.measure:
        return measure(feed, options.only)
    if options.old is None:
        parser.error("OLD_CHECKOUT is missing")
    old, new = [], []
    for _ in range(options.rounds):
        old.append(round_of(options.old.resolve(), feed, options.only))
        new.append(round_of(HERE, feed, options.only))
    print(f"{options.rounds} alternating rounds; median CPU seconds old and new, median ratio")
    for name in new[0]:
        before, after = (median(one[name] for one in times) for times in (old, new))
        ratio = median(b[name] / a[name] for a, b in zip(old, new, strict=True))
        limit = 1.10 if before < 5e-6 else 1.05
        print(f"  {name:<24}{before:12.3g}{after:12.3g}{ratio:8.3f}{'' if ratio <= limit else f'  above {limit}'}")
    return None


if __name__ == "__main__":
    main()
