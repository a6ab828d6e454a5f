"""Memory of one undisturbed consumer: as much at the end as after the first tenth of its messages.

    python tools/soak.py [--messages N] [--client NAME] [--orders] [--algorithm NAME]

The resident memory of `sor consume --results-topic` is read when the group has committed a tenth of the messages, and
again when it has committed all. One line of JSON; the exit status is 1 where it grew by more than 10 %; with
``--orders``, each of which is remembered, by more than 10 % and 200 bytes an order.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from commands import Jobs
from delivery import Message, Producing, Progress, Stuck, feed
from kafka_broker import Cluster

PARTS = 8
SLICE = 10_000  # messages produced at a time
SILENCE_S = 120.0  # without a commit
MOST = 1.10  # times as much memory
BYTES = 200  # that an order may be remembered in
MARKET = 8_000  # messages of market data that orders are routed on


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    if match is None:
        raise Stuck(f"process {pid} has ended")
    return int(match[1]) / 1024


def await_count(progress: Progress, count: int) -> None:
    before, moved = -1, time.monotonic()
    while (total := progress.total()) < count:
        if total != before:
            before, moved = total, time.monotonic()
        elif time.monotonic() - moved > SILENCE_S:
            raise Stuck(f"nothing committed for {SILENCE_S:g} s, at {total:,} of {count:,}")
        time.sleep(0.2)


def produce(producing: Producing, count: int, draw: Callable[[int, int], Iterator[Message]]) -> None:
    while producing.sent < count:
        producing.send(draw(producing.sent, min(SLICE, count - producing.sent)))


def orders(first: int, count: int) -> Iterator[Message]:
    """New orders, all that can be routed."""
    for i in range(first, first + count):
        symbol = b"SYM%02d" % (i % 40)
        yield symbol, b'{"id":"order-%d","symbol":"%s","side":"buy","quantity":500}' % (i, symbol)


def run(options: argparse.Namespace) -> dict[str, float]:
    count, topic = options.messages, "orders" if options.orders else "input"
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        for name in ("input", "orders", "results", "letters"):
            cluster.create_topic(name, PARTS)
        producing = Producing(cluster.bootstrap, topic, compression_type="lz4")
        stack.callback(producing.close)
        if options.orders:
            market = Producing(cluster.bootstrap, "input")
            stack.callback(market.close)
            market.send(feed(0, MARKET))
        jobs = stack.enter_context(Jobs(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sor-soak-")))))
        job = jobs.start(
            *("consume", "--kafka-servers", cluster.bootstrap, "--topic", "input", "--group", "soak"),
            *("--results-topic", "results", "--dead-letter-topic", "letters", "--log-level", "error"),
            *(("--client", options.client) if options.client else ()),
            *(("--orders-topic", "orders") if options.orders else ()),
            *(("--algorithm", options.algorithm) if options.algorithm else ()),
        )
        progress = Progress(cluster.bootstrap, topic, "soak", PARTS)
        stack.callback(progress.close)
        started = time.monotonic()
        draw = orders if options.orders else feed
        producer = threading.Thread(target=produce, args=(producing, count, draw), daemon=True)
        producer.start()
        await_count(progress, count // 10)
        early = resident_mb(job.process.pid)
        await_count(progress, count)
        late = resident_mb(job.process.pid)
        producer.join()
        kept_mb = BYTES * (count - count // 10) / 2**20 if options.orders else 0.0
        return {
            "messages": count,
            "rss_mb_at_a_tenth": round(early, 1),
            "rss_mb_at_the_end": round(late, 1),
            "ratio": round((late - kept_mb) / early, 3),
            "seconds": round(time.monotonic() - started, 1),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--client", help="handed to `sor consume`; default: nothing is")
    parser.add_argument("--orders", action="store_true", help="the messages are orders")
    parser.add_argument("--algorithm", help="handed to `sor consume`; default: nothing is")
    options = parser.parse_args()
    report = run(options)
    print(json.dumps(report))
    return 0 if report["ratio"] <= MOST else 1


if __name__ == "__main__":
    raise SystemExit(main())
