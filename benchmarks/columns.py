"""Recorded feeds in columns: reading each format, and an order routed on every row, against what does the same.

    python benchmarks/columns.py FEED... [--rounds N]

FEED is Databento CSV, plain or .gz, of venues' own quotes at the best prices. Its rows are written as Parquet, and as
DBN with Databento's own library, so that all formats hold the same. Peers: polars reading the same CSV (`pip install
'sor[bench]'`), Databento's decoder of DBN, which makes an object a record, with and without taking the columns out of
them, and a loop over `Router.route`. Medians of alternating rounds, one thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import sor
from sor import Order, Router, read_feed, route_many
from sor.market.book import Books
from sor.market.parquet import write_parquet
from sor.market.venues import VenueDirectory
from sor.routing.many import ANY

ORDER = Order(ANY, "buy", 5_000)
GOAL = 600_000  # rows a second from Parquet to routed columns
PEER = "DBN, by databento-dbn"
LOOPED = 20_000  # rows of the loop, which takes twenty times as long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("feed", nargs="+", metavar="FEED")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parquet = Path(folder) / "feed.parquet"
        rows = write_parquet(read_feed(options.feed), parquet)
        ways = ways_of(options.feed, str(parquet)) | dbn_ways(options.feed, Path(folder) / "feed.dbn")
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                seconds[name].append(timed(way))
    print(f"{rows:,} rows, kernels {sor.BACKEND}, {options.rounds} rounds; median seconds, and rows a second")
    found = {name: median(times) for name, times in seconds.items()}
    for name, time_ in found.items():
        count = min(LOOPED, rows) if name.startswith("loop") else rows
        print(f"  {name:<44}{time_:8.3f} {count / time_:14,.0f}")
    routed = rows / found["Parquet, routed: sweep"]
    print(
        f"Parquet to routed columns: {routed:,.0f} rows a second, goal {GOAL:,}{'' if routed >= GOAL else ': NOT met'}"
    )
    loop = min(LOOPED, rows) / found["loop over Router.route: sweep"]
    print(f"that is {routed / loop:.1f} times a loop over Router.route on rows that are read already")
    if "DBN, read" in found:
        objects, columns = (found[f"{PEER} into {what}"] / found["DBN, read"] for what in ("objects", "columns"))
        print(f"DBN read: Databento's decoder takes {objects:.1f} times that into objects, {columns:.1f} into columns")
    if "CSV, read by polars" in found:
        limit = found["Parquet, routed: sweep"] + 2 * found["CSV, read by polars"]
        csv = found["CSV, routed: sweep"]
        print(f"CSV routed: {csv:.3f} s, goal {limit:.3f}{'' if csv <= limit else ': NOT met'}")


def timed(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def read(paths: list[str] | str) -> Callable[[], object]:
    return lambda: sum(map(len, read_feed(paths)))


def ways_of(csv: list[str], parquet: str) -> dict[str, Callable[[], object]]:
    def routed(paths: list[str] | str, objective: str = "sweep") -> Callable[[], object]:
        return lambda: route_many(read_feed(paths), ORDER, objective=objective)

    ways = {
        "Parquet, read": read(parquet),
        "Parquet, routed: sweep": routed(parquet),
        "Parquet, routed: shortfall": routed(parquet, "shortfall"),
        "CSV, read": read(csv),
        "CSV, routed: sweep": routed(csv),
        "loop over Router.route: sweep": loop_of(parquet),
    }
    try:
        import polars
    except ImportError:
        print("polars is not installed: no peer for reading CSV")
    else:
        ways["CSV, read by polars"] = lambda: [polars.read_csv(path) for path in csv]
    return ways


take = attrgetter("ts_event", "ts_recv", "sequence", "publisher_id", "price", "size", "flags")
touch = attrgetter("bid_px", "ask_px", "bid_sz", "ask_sz")


def dbn_ways(csv: list[str], path: Path) -> dict[str, Callable[[], object]]:
    try:
        import databento_dbn
        from dbn_files import write_mbp_1
    except ImportError:
        print("databento-dbn is not installed: no DBN, and no peer for reading it")
        return {}
    write_mbp_1(read_feed(csv), path)

    def objects() -> list[Any]:
        decoder = databento_dbn.DBNDecoder()
        decoder.write(path.read_bytes())
        return decoder.decode()[1:]  # the first one is the metadata

    def columns() -> object:
        found = ((take(one), touch(one.levels[0])) for one in objects())
        return [np.array(column) for column in zip(*((*row, *level) for row, level in found), strict=True)]

    return {"DBN, read": read(str(path)), f"{PEER} into objects": objects, f"{PEER} into columns": columns}


def loop_of(parquet: str) -> Callable[[], object]:
    """Updates that are there already, each brought into its book and routed on."""
    directory = VenueDirectory.load()
    updates = []
    for batch in read_feed(parquet):
        updates += [batch.update(row) for row in range(min(len(batch), LOOPED - len(updates)))]

    def loop() -> None:
        books, router = Books(directory), Router()
        orders: dict[str, Order] = {}
        for update in updates:
            order = orders.setdefault(update.symbol, Order(update.symbol, ORDER.side, ORDER.quantity))
            router.route(order, books.apply(update))

    return loop


if __name__ == "__main__":
    main()
