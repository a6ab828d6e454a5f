"""How long a backtest would take on a cluster: rates measured here, and what they come to.

    python benchmarks/cluster.py [--rounds N] [--days N] [--symbols N] [--rows N] [--arrivals N] [--workers N]

A synthetic day, repeated and squeezed into one session until it has as many rows as a day of a symbol in the example,
is worked here, and its results are sent through a scheduler by two workers. The rest is arithmetic, and is called so:
nothing is run on a hundred machines, and no time is spent waiting for a bucket. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import distributed
import msgspec
import numpy as np

import sor
from sor.backtest import Orders, Rules, Session
from sor.backtest.orders import Plan, ways_of
from sor.backtest.pieces import each, piece_of, surveyed, unpacked, worked
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.backtest.work import Found
from sor.market.columns import Batch, joined
from sor.market.instruments import SHARES
from sor.market.parquet import write_parquet
from sor.market.venues import VenueDirectory

WAYS = [("immediate", name) for name in ("brute_force", "greedy_l2", "nbbo", "best_venue", "pro_rata", "equal")]
WAYS += [("immediate", "cont_kukanov"), ("twap:10", "cont_kukanov")]
RULES, SESSION, DEPTH = Rules(), Session(), 10
SENT = 100  # pieces that only send what is there
MB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--days", type=int, default=250)
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1_000_000, help="a symbol and day")
    parser.add_argument("--arrivals", type=int, default=100, help="a symbol and day; a buy and a sale at each")
    parser.add_argument("--workers", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.parquet"
        rows = write_parquet([day_of(options.rows)], path)
        print(f"kernels {sor.BACKEND}, {options.rounds} rounds; a synthetic day of {rows:,} rows, {DEPTH} levels,")
        print(f"{path.stat().st_size / MB:.0f} MB of Parquet, {len(WAYS)} strategies x {2 * options.arrivals} orders")
        Estimate(path, rows, options).tell()


def day_of(rows: int) -> Batch:
    """The same session again and again, each in its part of one session."""
    day = joined(list(SyntheticMarket(Scenario(seed=1, depth=DEPTH)).batches()))
    copies = max(1, round(rows / len(day)))
    columns = {name: np.concatenate([values] * copies) for name, values in day.columns().items()}
    first = int(day.time[0])
    length = int(day.time[-1]) - first + 10**9
    later = np.repeat(np.arange(copies) * length, len(day))
    columns["time"] = first + (columns["time"] - first + later) // copies
    columns["receipt"] = first + (columns["receipt"] - first + later) // copies
    return Batch(day.symbols, **columns)


def seconds(way: Callable[[], Any]) -> float:
    """Of processor time, which neighbours on the machine change little."""
    started = time.process_time()
    way()
    return time.process_time() - started


def hold(found: list[Found], dask_worker: Any) -> None:
    """A worker has what it is to send."""
    dask_worker.found = found


def sent(number: int) -> bytes:
    found = distributed.get_worker().found
    return msgspec.msgpack.encode(found[number % len(found)])


def come(pool: Any, number: int) -> list[Found]:
    return [unpacked(one) for _, one in each(pool, sent, range(number))]


def memory_mb(what: str) -> float:
    """Of this process: VmRSS, what it has, or VmHWM, the most that it had."""
    status = Path("/proc/self/status").read_text()  # getrusage counts what the parent had, too
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


class Estimate:
    """Rates of one day of a symbol, and the example made of many."""

    def __init__(self, path: Path, rows: int, options: argparse.Namespace) -> None:
        self.rows, self.options = rows, options
        self.directory = VenueDirectory.load()
        self.feed = sor.read_feed(path, depth=DEPTH)
        known = self.survey()
        self.pieces = self.cut(known, options.arrivals, WAYS)
        self.alone = self.cut(known, 1, WAYS[:1])
        self.measure()

    def survey(self) -> Any:
        return surveyed(None, self.feed, SESSION, None, self.directory)

    def cut(self, known: Any, arrivals: int, ways: list[tuple[str, str]]) -> list[Any]:
        orders = Orders(sides=("buy", "sell"), number=arrivals)
        plan = Plan(known.days, ways_of(ways, "nbbo"), orders, RULES, SESSION, SHARES)
        return [piece_of(job, self.feed, known, self.directory) for job in plan.jobs()]

    def measure(self) -> None:
        first, one_pass, work, coming = [], [], [], []
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs="ERROR"
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            pool = client.get_executor(pure=False)
            list(each(pool, worked, self.pieces))
            self.peak = max(client.run(memory_mb, "VmHWM").values())
            self.found = [worked(piece) for piece in self.pieces]
            client.run(hold, self.found)
            come(pool, 2)  # workers have imported what they need
            before = memory_mb("VmRSS")
            here = come(pool, SENT)
            self.grown = (memory_mb("VmRSS") - before) / len(here)
            del here
            for _ in range(self.options.rounds):
                first.append(seconds(self.survey))
                one_pass.append(seconds(lambda: [worked(piece) for piece in self.alone]))
                work.append(seconds(lambda: [worked(piece) for piece in self.pieces]))
                coming.append(seconds(lambda: come(pool, SENT)))
        self.first, self.one_pass, self.work = median(first), median(one_pass), median(work)
        self.sent = median(coming) / SENT

    def tell(self) -> None:
        options, pieces = self.options, len(self.pieces)
        lives = sum(len(one.parents) for one in self.found)
        per_life = (self.work - pieces * self.one_pass) / lives
        million = self.rows / 1e6
        held = sum(len(msgspec.msgpack.encode(one)) for one in self.found) / MB
        print("measured, seconds of processor time:")
        print(f"  {self.first / million:8.2f} s   the first pass over a million rows")
        print(f"  {self.one_pass / million:8.2f} s   a piece's pass over a million rows, with next to no orders")
        print(f"  {1000 * per_life:8.2f} s   a thousand lives: an order in one way, under one queue model")
        print(f"  {1000 * self.sent:8.1f} ms  of client and scheduler for a piece's {held / pieces:.1f} MB of rows")
        print(f"  {self.grown:8.1f} MB  of the client's memory for these rows")
        print(f"  {self.peak:8.0f} MB  the most memory that a worker had")
        days = options.days * options.symbols
        hours = days * (self.first + self.work) / 3600
        print(
            f"computed, not run: {options.days} days of {options.symbols} symbols, {days * million:,.0f} million rows\n"
            f"  {days * pieces:,} pieces, {pieces} a symbol and day, {days * lives / 1e6:.1f} million lives\n"
            f"  {hours:8.1f} hours of one core\n"
            f"  {60 * hours / options.workers:8.1f} minutes of {options.workers} workers\n"
            f"  {days * pieces * self.sent / 60:8.1f} minutes of the client and the scheduler, at the same time\n"
            f"  {days * held / 1024:8.1f} GB of rows are sent\n"
            f"  {days * pieces * self.grown / 1024:8.1f} GB of the client's memory hold them"
        )


if __name__ == "__main__":
    sys.exit(main())
