"""Peak memory of `sor convert` and `sor info`, which has to be as good as the same however long the feed is.

    python tools/memory.py [--rows N,N] [--symbols N] [--folder FOLDER]

The feed is Databento CSV (MBP-1) of 13 venues, made up: 120 bytes a row, so 2.4 GB where it has 20 million. What is
printed is the largest resident memory of a process that does nothing else, and how many times that of the feed before
it is. Goals: below 500 MB, and the longest feed takes no more than a tenth above the one before; the exit status is 1
where one is missed. (With --by, rows wait for row groups to be full: those of a short feed all of them.)
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEADER = (
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence,"
    "bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00,symbol\n"
)
LINE = "%d,%d,1,%d,1,A,B,0,%d.%02d,100,130,0,%d,%d.%02d,%d.%02d,%d,200,1,1,S%04d\n"
VENUES = (2, 5, 6, 7, 8, 9, 10, 11, 12, 38, 39, 40, 43)
START = 1_722_519_360 * 10**9  # 2024-08-01T13:36:00Z
STEP = 10**6  # nanoseconds between two rows
BLOCK = 50_000  # rows written at a time
GOAL_MB, GOAL_RATIO = 500, 1.1
COMMANDS = {
    "convert": ["convert", "--output", "out.parquet"],
    "convert --depth 10": ["convert", "--output", "out.parquet", "--depth", "10"],
    "convert --by symbol,day": ["convert", "--output", ".", "--by", "symbol,day"],
    "convert --by ... --depth 10": ["convert", "--output", ".", "--by", "symbol,day", "--depth", "10"],
    "info": ["info"],
}


def write_feed(path: str | os.PathLike[str], rows: int, symbols: int) -> None:
    """Each symbol's price goes up and down by cents; venues and symbols take turns."""
    with open(path, "w") as file:
        file.write(HEADER)
        for first in range(0, rows, BLOCK):
            file.write("".join(_line(i, symbols) for i in range(first, min(first + BLOCK, rows))))


def _line(i: int, symbols: int) -> str:
    symbol, cents = i % symbols, i // symbols * 7 % 50
    bid, ask = (100 + symbol, cents), (100 + symbol, cents + 1)
    time_ = START + i * STEP
    return LINE % (time_ + 900, time_, VENUES[i // symbols % 13], *bid, i, *bid, *ask, 100 + i % 900, symbol)


def peak_mb(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Megabytes and seconds of a command that succeeds."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "sor", *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # which it does not know, as it was not asked
    assert process.returncode == 0, arguments
    return usage.ru_maxrss / 1024, time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000000,4000000,20000000", help="of each feed, comma-separated")
    parser.add_argument("--symbols", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="for feed and output; default: a temporary one")
    options = parser.parse_args()
    counts = [int(rows) for rows in options.rows.split(",")]
    missed, before = False, {}
    for rows in counts:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            write_feed(folder / "feed.csv", rows, options.symbols)
            for words, arguments in COMMANDS.items():
                megabytes, seconds = peak_mb([*arguments, "feed.csv"], folder)
                ratio, before[words] = megabytes / before.get(words, megabytes), megabytes
                met = megabytes < GOAL_MB and (ratio <= GOAL_RATIO or rows < counts[-1])
                missed |= not met
                print(
                    f"{rows:>12,} rows  sor {words:<29}{megabytes:8.1f} MB ({ratio:.2f})  {seconds:8.1f} s, "
                    f"{rows / seconds:,.0f} rows a second{'' if met else '  MISSED'}",
                    flush=True,
                )
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
