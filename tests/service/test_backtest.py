"""`sor backtest` as a user runs it: its table, its files, and what it says where something is wrong."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import DONE, WRONG_CALL, Jobs, Start
from tapes import OPENS

from sor import InputError, cli
from sor.errors import Exit
from sor.service import backtest as service
from sor.service.backtest import OrderProgress, latency_of
from sor.service.pipelines import directory_of
from sor.service.settings import SimulateSettings, TuneSettings
from sor.service.simulate import simulate

FEW = ("--orders", "8", "--horizon", "60s", "--placement", "10", "--min-windows", "20")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("day") / "day.csv"
    assert simulate(SimulateSettings(output=str(path), duration=1800, levels=3)) == DONE
    return path


def test_the_table_answers_in_one_look(start: Start, day: Path) -> None:
    job = start("backtest", day, *FEW).finish(DONE)
    lines = job.out.decode().splitlines()
    assert lines[0] == "SIM, 2024-08-01: 16 orders to buy and sell 1,000, each worked for 1 min, then taken"
    assert lines[3].split()[:4] == ["strategy", "orders", "filled", "shortfall"]
    rows = [line.split()[2] for line in lines if line.startswith("immediate x")]
    assert rows == ["brute_force", "greedy_l2", "best_venue", "pro_rata", "nbbo"]
    assert "baseline" in lines[8]
    assert "What this cannot tell:" in lines
    assert any(
        line.startswith("- Our orders move nobody here: that is a bound, not a fact. They were") for line in lines
    )
    assert re.search(r"nothing can be said of brute_force: too few blocks \(\d; 10 are needed\)", " ".join(lines))
    assert job.err == ""


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_files_and_json(start: Start, day: Path, tmp_path: Path, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    output, answer = tmp_path / f"fills.{form}", tmp_path / "answer.json"
    job = start("backtest", day, *FEW, "--routing", "cont_kukanov", "--output", output, "--json", answer).finish(DONE)
    found = json.loads(answer.read_text())
    assert [(row["routing"], row["queue"]) for row in found["strategies"]] == [
        ("cont_kukanov", "pessimistic"),
        ("cont_kukanov", "proportional"),
        ("cont_kukanov", "optimistic"),
        ("nbbo", None),
    ]
    assert found["orders"] == 16
    assert found["command"].startswith("sor backtest ")
    parents = tmp_path / f"fills.parents.{form}"
    if form == "csv":
        rows = list(csv.DictReader(parents.read_text().splitlines()))
        fills = list(csv.DictReader(output.read_text().splitlines()))
        shortfall = np.array([float(row["shortfall_bps"]) for row in rows if row["routing"] == "nbbo"])
    else:
        from pyarrow import parquet

        # Without the times: their nanoseconds as Python's objects need a package more.
        rows, fills = (
            parquet.read_table(path, columns=columns).to_pylist()
            for path, columns in ((parents, ["side", "day", "routing", "shortfall_bps"]), (output, ["shares"]))
        )
        shortfall = np.array([row["shortfall_bps"] for row in rows if row["routing"] == "nbbo"])
    assert len(rows) == 4 * 16
    assert float(shortfall.mean()) == pytest.approx(found["strategies"][3]["shortfall_bps"], rel=1e-12)
    assert {row["side"] for row in rows} == {"buy", "sell"}
    assert {row["day"] for row in rows} == {"2024-08-01"}
    assert job.err.startswith(f"wrote {len(fills):,} fills to {output}, the orders to {parents}")


def test_json_on_standard_output(start: Start, day: Path) -> None:
    job = start("backtest", day, *FEW, "--json", "-", "--queue", "pessimistic", "--side", "sell", "--every", "5m")
    found = json.loads(
        start("backtest", day, "--horizon", "60s", "--json=-", "--side=sell", "--every=5m").finish(DONE).out
    )
    assert found["orders"] == 5
    assert (found["settings"]["max_quote_age_seconds"], found["settings"]["frozen"]) == (None, "leave")
    assert [round(gap["seconds"]) for gap in found["data"]["gaps"]] == [6 * 3600]  # the feed is of half an hour
    asked = ("--max-quote-age", "20", "--frozen", "take")
    found = json.loads(start("backtest", day, "--horizon", "60s", "--json=-", "--every=5m", *asked).finish(DONE).out)
    assert (found["settings"]["max_quote_age_seconds"], found["settings"]["frozen"]) == (20, "take")
    assert any("older than 20 s" in note for note in found["notes"])
    assert "--orders and --every" in job.finish(WRONG_CALL).err


def test_the_same_by_one_process_and_two(start: Start, day: Path, tmp_path: Path) -> None:
    found = []
    for jobs in ("1", "2"):
        output = tmp_path / f"{jobs}.csv"
        ways = ("--routing", "brute_force,cont_kukanov", "--schedule", "immediate,twap:5")
        out = start("backtest", day, *FEW, *ways, "--jobs", jobs, "--output", output).finish(DONE).out
        found.append((out, output.read_bytes(), (tmp_path / f"{jobs}.parents.csv").read_bytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "FILE is missing: name one or more"),
        (["{day}", "--symbols", "NONE"], "the feed has no row that was asked for: left out symbol"),
        (["{day}", "--end", "2020-01-01T00:00:00Z"], "the feed has no row that was asked for: left out time"),
        (["{day}", "--horizon", "1h"], "no order can arrive: on 2024-08-01 rows are from"),
        (["{day}", "--session", "04:00-05:00"], "no order can arrive"),
        (["{day}", "--latency", "400s"], "latency is 400000000000 ns and horizon 300000000000 ns"),
        (["{day}", "--latency", "fast"], "--latency is 'fast': it must be a time such as 500us, or a CSV file"),
        (["{day}", "--routing", "best"], "routing is 'best': it must be one of brute_force, greedy_l2"),
        (["{day}", "--schedule", "twap:0"], "slices of twap is 0: it must be a whole number from 1"),
        (["{day}", "--schedule", "vwap"], "schedule vwap goes by the volume of earlier days"),
        (["{day}", "--schedule", "pov:2"], "rate of pov is '2': it must be a number above 0, at most 1"),
        (["{day}", "--session", "noon"], "session is 'noon': it must be two times of day, such as 09:30-16:00"),
        (["{day}", "--timezone", "Nowhere"], "timezone is 'Nowhere'"),
        (["{day}", "--output", "fills.txt"], "--output is 'fills.txt': its name must end in .parquet or .csv"),
        (["{day}", "--output", "{day}"], "that is the file to read"),
        (["{day}", "--order-size", "10.5"], "order size is Decimal('10.5'): it must be a whole number"),
        (["{day}", "--routing", "single:XNSA"], "'XNSA' does not quote in this feed, it must be one of"),
        (["-"], "FILE is '-': a backtest reads its files twice"),
        (["missing.csv"], "missing.csv"),
    ],
)
def test_what_is_wrong_is_named(start: Start, day: Path, arguments: list[str], words: str) -> None:
    job = start("backtest", *(argument.format(day=day) for argument in arguments)).finish(WRONG_CALL)
    assert words in job.err
    assert job.err.startswith("sor backtest: error: ")
    assert job.err.count("\n") == 1
    assert job.out == b""


def test_latencies_by_venue(tmp_path: Path) -> None:
    path = tmp_path / "latency.csv"
    path.write_text("venue,latency\nXNAS,250us\nXNAS,1ms\n*,0.5\n")
    assert latency_of(str(path)) == {"XNAS": (250_000, 1_000_000), "*": (500_000_000,)}
    assert latency_of("20ms") == {"*": (20_000_000,)}
    for text, words in (("venue,latency\nXNAS,1us\n", "a row for . is missing"), ("a,b\n1,2\n", ":2: it must have")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            latency_of(str(path))


def test_a_package_that_is_missing_is_missed_before_the_work(
    day: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(service, "run", lambda *_, **__: pytest.fail("orders were worked"))
    output = tmp_path / "fills.parquet"
    assert cli.main(["backtest", str(day), "--output", str(output)]) == WRONG_CALL
    assert "pyarrow is not installed: pip install 'sor[parquet]'" in capsys.readouterr().err


def test_progress_on_a_terminal() -> None:
    progress = OrderProgress()
    progress._done, progress._all = 250, 1000
    assert progress.line(10.0) == "[########                      ] 250 of 1,000 orders, 30 s left"


def test_a_stop_by_hand_says_what_was_done(day: Path, tmp_path: Path) -> None:
    """On a terminal, so that the bar tells when it has begun."""
    parent, child = pty.openpty()
    words = [sys.executable, "-m", "sor", "backtest", str(day), "--orders", "20000", "--horizon", "60s"]
    process = subprocess.Popen(
        [*words, "--output", str(tmp_path / "fills.csv")],
        stderr=child,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(child)
    said = b""
    while b" of 200,000 orders" not in said:
        said += os.read(parent, 4096)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == Exit.INTERRUPTED
    while b"nothing was written" not in said:
        said += os.read(parent, 4096)
    os.close(parent)
    assert b"stopped after " in said
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_quotes(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    times = [np.datetime64(OPENS + i * 10**9, "ns") for i in range(0, 3000, 10)]
    path.write_text("time,venue,symbol,price,size\n" + "".join(f"{time}Z,XNAS,T,10.0,100\n" for time in times))
    job = start("backtest", path).finish(WRONG_CALL)
    assert "no order can arrive" in job.err


def test_venues_keep_their_rules(start: Start, day: Path, tmp_path: Path) -> None:
    """In a backtest they would reject what breaks them; in a replay nothing is sent that does."""
    text = """schema_version = 1
[[venue]]
mic = "XNAS"
name = "ticket"
model = "ticket"
publisher_ids = [2]
[[venue.figures]]
valid_from = 2024-01-01
taker_fee = 0.0
maker_rebate = 0.0
taker_fee_verified = true
maker_rebate_verified = true
source = "ours"
[[venue.rules]]
valid_from = 2024-01-01
ticket = 0.25
verified = true
source = "ours"
"""
    own = tmp_path / "own.toml"
    own.write_text(text)
    told = "XNAS (a ticket of $0.25)"
    words = ("--venues", own, *FEW, "--routing", "single:XNAS", "--output", tmp_path / "fills.csv")
    assert told in " ".join(start("backtest", day, *words).finish(DONE).out.decode().split())
    with (tmp_path / "fills.parents.csv").open() as file:
        parents = list(csv.DictReader(file))
    assert {row["rejects"] for row in parents} == {"0"}
    assert max(float(row["tickets"]) for row in parents) > 0
    for row in parents:
        if row["routing"] == "single:XNAS":
            assert float(row["tickets"]) == 0.25 * int(row["children"])
    assert directory_of(TuneSettings(venues=str(own), files=(str(day),))).by_mic("XNAS").rules[0].ticket == 0.25  # type: ignore[union-attr]
    sample = Path(__file__).parents[2] / "sample.csv"
    start("replay", sample, "--venues", own, "--output", tmp_path / "results.jsonl").finish(DONE)
