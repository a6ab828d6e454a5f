"""Replay against a bare loop, on a recorded feed: rows a second on one core.

    python benchmarks/replay.py FILE [--rows N] [--repeats N] [--algorithm NAME] [--stages]

The peer does the least that a script for the same job must do: read each row with ``csv.DictReader`` and write the
same result with ``json.dumps``. It decodes nothing, keeps no book and routes nothing; its results are made before the
clock starts. Both run in this process, in turn, on the same rows.

``--stages`` tells how long each stage takes of a row: CPU time, the least of the repeats; each stage runs alone over
all rows, or is what a run with it takes longer than one without.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

from sor import BACKEND, Order, Router
from sor.cli import main as sor
from sor.market import BookUpdate, Decoder
from sor.market.book import Books
from sor.market.venues import VenueDirectory
from sor.stream.files import open_feed
from sor.stream.messages import Message

GOALS = {"brute_force": 30_000, "greedy_l2": 0, "cont_kukanov": 2_000}  # rows a second
PAPER = ["--lambda-under", "0.05", "--lambda-over", "0.05", "--theta-queue", "0.0005"]  # penalties that leave a choice


def head(path: str, rows: int) -> bytes:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as file:
        return b"".join(line for line, _ in zip(file, range(rows + 1), strict=False))


def replay(feed: str, output: str, algorithm: str) -> None:
    options = ["--log-level", "error", "--venues-from", "publishers", "--algorithm", algorithm]
    status = sor(["replay", feed, "--output", output, *options, *(PAPER if algorithm == "cont_kukanov" else [])])
    assert status == 0, status


def bare_loop(feed: str, results: list[object], output: str) -> None:
    with open(feed, newline="") as source, open(output, "w") as sink:
        for _, result in zip(csv.DictReader(source), results, strict=True):
            sink.write(json.dumps(result) + "\n")


def timed(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default="sample.csv")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--algorithm", choices=GOALS, default="brute_force")
    parser.add_argument("--stages", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        feed, output = os.path.join(folder, "feed.csv"), os.path.join(folder, "results.jsonl")
        with open(feed, "wb") as file:
            file.write(head(options.file, options.rows))
        if options.stages:
            if options.algorithm == "cont_kukanov":
                parser.error("--stages are those of brute_force and greedy_l2")
            with contextlib.redirect_stderr(io.StringIO()):
                stages(feed, options.algorithm, options.repeats)
            return
        sys.stderr = io.StringIO()  # the summaries
        replay(feed, output, options.algorithm)
        with open(output) as file:
            results = [json.loads(line) for line in file]
        ours, bare = [], []
        for _ in range(options.repeats):
            ours.append(timed(lambda: replay(feed, output, options.algorithm)))
            bare.append(timed(lambda: bare_loop(feed, results, output)))
        sys.stderr = sys.__stderr__
    report(len(results), ours, bare, GOALS[options.algorithm])


def stages(feed: str, algorithm: str, repeats: int) -> None:
    """Print what reading, decoding, the book, routing and encoding take of a row, and the whole command."""
    directory = VenueDirectory.load()
    order_of: dict[str, Order] = {}
    router = Router(algorithm=algorithm)

    def messages() -> list[Message]:
        source, found = open_feed(feed), []
        while (batch := source.poll(1000)) is not None:
            found += batch
        return found

    def decoder() -> Decoder:
        return open_feed(feed).decoder(router.depth, directory=directory)

    def decode() -> list[BookUpdate]:
        one = decoder()
        return [one.decode(message.value) for message in lines]

    def routed(what: str) -> None:
        books = Books(directory, "publishers", router.depth)
        for update in updates:
            book = books.apply(update)
            if what != "book":
                result = router.route(order_of[update.symbol], book)
                if what == "encode":
                    result.to_json()

    lines = messages()
    updates = decode()
    order_of |= {update.symbol: Order(update.symbol, "buy", 5_000) for update in updates}

    def least(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats):
            started = time.process_time()
            call()
            seconds.append(time.process_time() - started)
        return 1e6 * min(seconds) / len(lines)

    found = {"read": least(messages), "decode": least(decode), "book": least(partial(routed, "book"))}
    found["route"] = least(partial(routed, "route")) - found["book"]
    found["encode"] = least(partial(routed, "encode")) - found["book"] - found["route"]
    whole = least(lambda: replay(feed, os.devnull, algorithm))
    found["all else"] = whole - sum(found.values())
    print(f"{len(lines):,} rows, kernels {BACKEND}: CPU time of a row by stage, microseconds, least of {repeats}")
    for name, microseconds in found.items():
        print(f"  {name:10}{microseconds:7.2f}")
    print(f"  {'whole':10}{whole:7.2f}")


def report(rows: int, ours: list[float], bare: list[float], goal: int) -> None:
    ratio = statistics.median(b / o for o, b in zip(ours, bare, strict=True))
    print(f"{rows:,} rows, {len(ours)} runs in turn, kernels {BACKEND}; rows a second: median (least to most)")
    for name, seconds in (("sor replay", ours), ("csv.DictReader + json.dumps", bare)):
        rates = sorted(rows / s for s in seconds)
        print(f"  {name:28} {statistics.median(rates):>9,.0f}  ({rates[0]:,.0f} to {rates[-1]:,.0f})")
    print(f"  sor replay against the bare loop: {ratio:.2f} times as fast")
    if goal:
        met = "met" if statistics.median(rows / s for s in ours) >= goal else "missed"
        print(f"  goal {goal:,} rows a second: {met} in this run")


if __name__ == "__main__":
    main()
