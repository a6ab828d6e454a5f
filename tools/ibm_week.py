"""All rows of recorded days: `route_many` and `Router.route` say the same, on both kernels, whatever the days come as.

    python tools/ibm_week.py FOLDER [--days N] [--every N] [--kernels NAME,NAME]

FOLDER has a day of Databento MBP-1 a file, `*.csv.gz`. By each algorithm (but `cont_kukanov`, which is no matter of
columns) and objective an order of either side is routed on every row, with a bound on the age of quotes and a limit at
the day's median, which binds half of the time. Each answer of `route_many` is compared with that of `Router.route`, bit
for bit; a sum over all columns says whether the kernels agree. Each day is written as Parquet, JSON and DBN, too, and
has to be the same feed. A line for each; the exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from dbn_files import write_mbp_1
from row_by_row import PLANS, check_answers

import sor
from sor import Batch, CostParameters, Order, Router, read_feed, route_many
from sor.market.columns import NO_PRICE
from sor.market.databento_json import message_of
from sor.market.parquet import write_parquet

KERNELS = {"cython": "0", "python": "1"}  # and what SOR_PURE_PYTHON is
AGE = 30 * 10**9  # nanoseconds, of the oldest quote that is used


def orders_of(batches: list[Batch]) -> list[Order]:
    """One of either side, whole and with a remainder."""
    prices = np.concatenate([batch.bid_price[:, 0] for batch in batches])
    limit = float(np.median(prices[prices != NO_PRICE])) / 1e9
    return [Order("*", "buy", 5_000, limit), Order("*", "sell", 1_250, limit)]


def digest(columns: dict[str, np.ndarray[Any, Any]]) -> str:
    found = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name]
        found.update(
            name.encode() + (repr(values.tolist()).encode() if values.dtype.kind in "OU" else values.tobytes())
        )
    return found.hexdigest()[:16]


def day_of(path: Path, every: int) -> Iterator[dict[str, Any]]:
    """Route a day by every plan, and compare every so manieth row of it."""
    batches = list(read_feed(path))
    orders = orders_of(batches)
    for plan in PLANS:
        started = time.monotonic()
        columns = route_many(batches, orders, None, *plan, max_quote_age=AGE)
        count = check_answers(columns, batches, orders, Router(CostParameters(), *plan, max_quote_age=AGE), every)
        seconds = round(time.monotonic() - started, 1)
        told = {"kernels": sor.BACKEND, "plan": "-".join(plan), "answers": len(columns["row"]), "compared": count}
        yield told | {"sum": digest(columns), "seconds": seconds}


def formats_of(path: Path) -> dict[str, str]:
    """Sums over the feed of a day, as it stands and in every other format."""
    with tempfile.TemporaryDirectory() as name:
        found = {one: Path(name, f"day.{one}") for one in ("parquet", "json", "dbn")}
        batches = list(read_feed(path))
        write_parquet(batches, found["parquet"])
        write_mbp_1(batches, found["dbn"])
        with gzip.open(path, "rt", newline="") as file, found["json"].open("wb") as lines:
            header, *rows = csv.reader(file)
            lines.writelines(message_of(header, row) + b"\n" for row in rows)
        return {one: feed_sum(file) for one, file in {"csv": path, **found}.items()}


def feed_sum(path: Path) -> str:
    """Of all columns, and of each row's symbol by name."""
    batches = list(read_feed(path))
    columns = {name: np.concatenate([batch.columns()[name] for batch in batches]) for name in batches[0].columns()}
    symbols = np.concatenate([np.array(batch.symbols)[batch.symbol] for batch in batches])
    return digest(columns | {"symbol": symbols})


def told_by(kernels: str, path: Path, every: int) -> list[dict[str, Any]]:
    """What `day_of` says in a process with these kernels."""
    command = [sys.executable, __file__, str(path), "--every", str(every), "--one"]
    environment = os.environ | {"SOR_PURE_PYTHON": KERNELS[kernels]}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(one["kernels"] == kernels for one in found), f"{kernels}: not to be had here"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--days", type=int, help="the first so many; default: all")
    parser.add_argument("--every", type=int, default=1, help="compare every so manieth row; default: all")
    parser.add_argument("--kernels", default=",".join(KERNELS))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        for found in day_of(options.folder, options.every):
            print(json.dumps(found), flush=True)
        return 0
    differ = 0
    for path in sorted(options.folder.glob("*.csv.gz"))[: options.days]:
        sums = formats_of(path)
        differ += len(set(sums.values())) > 1
        print(path.name, json.dumps({"feeds": sums}), flush=True)
        told = [told_by(kernels, path, options.every) for kernels in options.kernels.split(",")]
        for plans in zip(*told, strict=True):
            differ += len({one["sum"] for one in plans}) > 1
            print(path.name, *map(json.dumps, plans), sep="\n  ", flush=True)
    print("all the same" if not differ else f"{differ} DIFFER")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
