"""Memory of one undisturbed consumer: as much at the end as after the first tenth of its messages.

    python tools/soak.py [--messages N] [--client NAME]

The resident memory of `sor consume --results-topic` is read when the group has committed a tenth of the messages, and
again when it has committed all. One line of JSON; the exit status is 1 where it grew by more than 10 %.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from commands import Jobs
from delivery import Producing, Progress, Stuck, feed
from kafka_broker import Cluster

PARTS = 8
SLICE = 10_000  # messages produced at a time
SILENCE_S = 120.0  # without a commit
MOST = 1.10  # times as much memory


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


def produce(producing: Producing, count: int) -> None:
    while producing.sent < count:
        producing.send(feed(producing.sent, min(SLICE, count - producing.sent)))


def run(count: int, client: str | None) -> dict[str, float]:
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster())
        for topic in ("input", "results", "letters"):
            cluster.create_topic(topic, PARTS)
        producing = Producing(cluster.bootstrap, "input", compression_type="lz4")
        stack.callback(producing.close)
        jobs = stack.enter_context(Jobs(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sor-soak-")))))
        job = jobs.start(
            *("consume", "--kafka-servers", cluster.bootstrap, "--topic", "input", "--group", "soak"),
            *("--results-topic", "results", "--dead-letter-topic", "letters", "--log-level", "error"),
            *(("--client", client) if client else ()),
        )
        progress = Progress(cluster.bootstrap, "input", "soak", PARTS)
        stack.callback(progress.close)
        started = time.monotonic()
        producer = threading.Thread(target=produce, args=(producing, count), daemon=True)
        producer.start()
        await_count(progress, count // 10)
        early = resident_mb(job.process.pid)
        await_count(progress, count)
        late = resident_mb(job.process.pid)
        producer.join()
        return {
            "messages": count,
            "rss_mb_at_a_tenth": round(early, 1),
            "rss_mb_at_the_end": round(late, 1),
            "ratio": round(late / early, 3),
            "seconds": round(time.monotonic() - started, 1),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--client", help="handed to `sor consume`; default: nothing is")
    options = parser.parse_args()
    report = run(options.messages, options.client)
    print(json.dumps(report))
    return 0 if report["ratio"] <= MOST else 1


if __name__ == "__main__":
    raise SystemExit(main())
