"""`sor info`: what it prints of a recorded feed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import BAD, DONE, STREAM_FAILED, WRONG_CALL, Jobs, Start

SAMPLE = Path(__file__).parents[2] / "sample.csv"
HEADER = "ts_event,publisher_id,action,side,price,size,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,symbol"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def written(path: Path, rows: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


ROWS = [  # minutes, publisher, action, bid, ask, symbol
    (0, 2, "A", 100, 101, "A"),
    (1, 2, "T", 100, 101, "A"),
    (2, 43, "A", 101, 102, "A"),  # locks for a minute
    (3, 43, "C", 99, 102, "A"),
    (13, 2, "T", 100, 101, "A"),  # after a gap
    (12, 2, "A", 7, 8, "B"),  # late
    (14, 2, "A", 7, 8, "B"),
]


def feed(tmp_path: Path) -> Path:
    rows = [
        f"2024-08-01T14:{minute:02d}:00Z,{publisher},{action},B,100.0,5,{bid:.2f},{ask:.2f},10,10,{symbol}"
        for minute, publisher, action, bid, ask, symbol in ROWS
    ]
    return written(tmp_path / "feed.csv", rows)


def test_the_table(start: Start, tmp_path: Path) -> None:
    job = start("info", feed(tmp_path)).finish(DONE)
    assert job.out.decode().splitlines() == [
        "files    1 (Databento CSV): feed.csv",
        "rows     7 = 7 quotes + bad 0",
        "trades   2",
        "time     2024-08-01T14:00:00.000000000Z to 2024-08-01T14:14:00.000000000Z, 1 rows older than one before",
        "gaps     1 longer than 5 min, the longest 10 min from 2024-08-01T14:03:00.000000000Z",
        "symbols  2: A 5, B 2",
        "market   normal 80.00%, locked 20.00% of 5 min",
        "",
        "venue                     rows   at best bid   at best offer",
        "XNAS                         5         80.0%          100.0%",
        "ARCX                         2         20.0%            0.0%",
    ]


def test_the_same_as_json(start: Start, tmp_path: Path) -> None:
    found = json.loads(start("info", feed(tmp_path), "--json").finish(DONE).out)
    assert found["files"] == [{"path": str(tmp_path / "feed.csv"), "format": "Databento CSV"}]
    assert (found["rows"], found["quotes"], found["trades"], found["backwards"]) == (7, 7, 2, 1)
    assert found["gaps"] == [{"seconds": 600.0, "from": "2024-08-01T14:03:00.000000000Z"}]
    assert found["market"] == {"normal": 0.8, "locked": 0.2, "crossed": 0.0, "one_sided": 0.0, "empty": 0.0}
    assert found["market_seconds"] == 300.0
    assert found["venues"]["ARCX"] == {"rows": 2, "best_bid": 0.2, "best_offer": 0.0}


def test_what_is_bad_and_what_is_left_out(start: Start, tmp_path: Path) -> None:
    path = feed(tmp_path)
    path.write_text(path.read_text() + "junk\n\n")
    job = start("info", path, "--symbols", "B").finish(BAD)
    assert job.out.decode().splitlines()[1] == "rows     9 = 2 quotes + skipped 6 (blank 1, symbol 5) + bad 1 (cells 1)"
    start("info", path, "--allow-bad").finish(DONE)
    assert "FILE is missing" in start("info").finish(WRONG_CALL).err
    assert "nowhere" in start("info", "nowhere.csv").finish(WRONG_CALL).err


def test_a_damaged_archive_is_no_success(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "feed.csv.gz"
    path.write_bytes(gzip.compress(SAMPLE.read_bytes())[:-2_000])
    job = start("info", path).finish(STREAM_FAILED)
    assert "feed.csv.gz, after line" in job.err.splitlines()[-1]


def test_nothing_but_a_header(start: Start, tmp_path: Path) -> None:
    lines = start("info", written(tmp_path / "feed.csv", [])).finish(DONE).out.decode().splitlines()
    assert lines[1:5] == [
        "rows     0 = 0 quotes + bad 0",
        "trades   not told: no row says what has happened",
        "gaps     none longer than 5 min",
        "symbols  none",
    ]


def test_several_files_and_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sor", "info", str(feed(tmp_path)), "-", "--json"]
    with SAMPLE.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert [one["format"] for one in found["files"]] == ["Databento CSV"] * 2
    assert (found["rows"], set(found["symbols"])) == (2_007, {"A", "B", "AAPL"})


def test_consolidated_quotes(start: Start, tmp_path: Path) -> None:
    header = "rtype,ts_event,publisher_id,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_pb_00,ask_pb_00,symbol"
    rows = [
        f"177,{10**18 + second * 10**9},95,100.0,100.1,5,5,{bid},43,A" for second, bid in ((0, 2), (3, 43), (4, 43))
    ]
    lines = start("info", written(tmp_path / "feed.csv", rows, header)).finish(DONE).out.decode().splitlines()
    assert "quotes   consolidated: the best bid and offer of all venues, and whose they are" in lines
    shares = {line.split()[0]: line.split()[2:] for line in lines[lines.index("") + 2 :]}
    assert shares["XNAS"] == ["75.0%", "0.0%"]
    assert shares["ARCX"] == ["25.0%", "100.0%"]
