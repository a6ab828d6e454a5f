"""`sor explain`, `sor replay --explain` and `RoutingResult.explain`: the table is that of the result's JSON."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import DONE, STREAM_FAILED, WRONG_CALL, Job, Jobs, Start, wait_for

from sor import Book, Instrument, Order, Router, RoutingResult, VenueRules
from sor.errors import Exit

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample.csv"
OLD = "note     this result is of an earlier version, which gave no reasons: its statuses stand there"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def of_three_venues() -> RoutingResult:
    """One that is taken whole, one in part, one that is dearer, one that shows nothing; EDGA pays who takes."""
    book = Book("AAPL")
    quotes = {"XNAS": (222.83, 36, 0.003), "EDGA": (222.83, 1400, -0.0016), "XNYS": (222.84, 10, 0.003)}
    for venue, (ask, size, fee) in quotes.items():
        book.quote(venue, bids=[(222.81, 100)], asks=[(ask, size)], fee=fee, rebate=0.0)
    book.quote("IEXG", bids=[(222.80, 5)], asks=[], fee=0.001, rebate=0.0)
    return Router().route(Order("AAPL", "buy", 1410, id="7f3a"), book)


def of_one_venue() -> Book:
    book = Book("AAPL")
    book.quote("XNAS", bids=[(222.81, 100)], asks=[(222.83, 10)], fee=0.003, rebate=0.25)
    return book


TABLE = """\
order    buy 1,410 AAPL, id 7f3a, at 1970-01-01T00:00:00.000000000Z
by       brute_force, objective sweep
filled   1,410 at once, 100.0%
cost     +0.38 bps against the mid of 222.82, fees included

venue  best ask  displayed      fee   sent  status  why
EDGA     222.83      1,400  -0.0016  1,400  ok      all that may be taken here is taken
XNAS     222.83         36   0.0030     10  ok      the order needs no more
XNYS     222.84         10   0.0030      0  ok      0.01 a share dearer than the dearest share taken
IEXG          -          0   0.0010      0  empty   nothing is displayed on the side that is taken"""


def test_the_table() -> None:
    """Its cost by hand: 1,400 at half a cent more than the mid of 222.82 less 16 mils, 10 at a cent and 3 mils."""
    assert f"{1e4 * (1400 * (0.01 - 0.0016) + 10 * 0.013) / 1410 / 222.82:+.2f}" == "+0.38"
    assert of_three_venues().explain() == TABLE


def test_a_result_that_its_holder_has_changed_is_told_as_it_stands() -> None:
    result = of_three_venues()
    result.warnings.append("the feed doubts this")
    assert result.explain() == f"{TABLE}\n\nwarning  the feed doubts this"


# --- against the JSON, read independently ----------------------------------------------------------------------------


def number(cell: str) -> float | None:
    return None if cell == "-" else float(cell.replace(",", ""))


def rows_of(text: str) -> list[dict[str, str]]:
    """Cells by the places of the head's names: numbers end under them, words begin there."""
    lines = text.split("\n\n")[1].splitlines()
    names = re.split(r"  +", lines[0])
    found = []
    for line in lines[1:]:
        cells = line.split(None, len(names) - 1)
        assert line[lines[0].index("why") :] == cells[-1]
        assert line[: lines[0].index("sent") + 4].split()[-1] == cells[4]
        found.append(dict(zip(names, cells, strict=True)))
    return found


def check(text: str, result: dict[str, Any]) -> None:
    """A table by the result's JSON alone."""
    side, sign = ("ask", 1) if result["side"] == "buy" else ("bid", -1)

    def rank(venue: dict[str, Any]) -> tuple[bool, float]:
        price = venue[side]
        return venue["allocation"] == 0, float("inf") if price is None else sign * price + venue["fee"]

    rows = rows_of(text)
    expected = sorted(result["venues"], key=rank)
    assert [row["venue"] for row in rows] == [venue["venue_id"] for venue in expected]
    for row, venue in zip(rows, expected, strict=True):
        assert number(row[f"best {side}"]) == venue[side]
        assert number(row["displayed"]) == venue[f"{side}_size"]
        assert number(row["fee"]) == venue["fee"]
        assert number(row["sent"]) == venue["allocation"]
        assert row["status"] == venue["status"]
        assert row["why"] == venue["reason"]["words"]
    heading, end = text.split("\n\n")[0], text.split("\n\n")[2:]
    assert heading.startswith(f"order    {result['side']} {result['order_size']:,} {result['symbol']}")
    bps = result["shortfall"]["bps"]
    assert (bps is not None and f"cost     {bps:+.2f} bps" in heading) or (bps is None and "cost     no" in heading)
    told = "\n".join(end).splitlines()
    assert [line[9:] for line in told if line.startswith("warning  ")] == result["warnings"]
    left = result["execution_summary"]["underfill"]
    resting = sum(child["quantity"] for child in result["child_orders"] if child["type"] == "limit")
    unfilled = f"unfilled {left:,}" + (f", and orders for {resting:,} rest" if resting else "")
    assert [line for line in told if line.startswith("unfilled")] == [unfilled] * bool(left)


@pytest.mark.parametrize(
    "options",
    [
        ["--order-size", "900"],
        ["--side", "sell", "--limit-price", "222.80", "--exclude-venues", "BATY,EDGX"],
        ["--algorithm", "greedy_l2", "--max-quote-age", "0.5", "--order-size", "9000"],
        ["--objective", "notional"],
        ["--algorithm", "cont_kukanov", "--horizon", "1", "--min-windows", "2"],
    ],
    ids=lambda options: options[0][2:],
)
def test_every_table_is_that_of_its_json(start: Start, tmp_path: Path, options: list[str]) -> None:
    results = tmp_path / "results.jsonl"
    start("replay", SAMPLE, *options, "--output", results, "--log-level", "error").finish(DONE)
    lines = results.read_text().splitlines()
    for row in (1, 700, len(lines)):
        text = start("explain", results, "--row", row).finish(DONE).out.decode()
        check(text.rstrip("\n"), json.loads(lines[row - 1]))
    assert start("explain", results).finish(DONE).out.decode() == text  # the last unless it is said


def test_coins_have_their_decimals() -> None:
    instrument = Instrument("0.00000001", currency="EUR")
    book = Book("BTC-EUR", instrument=instrument)
    book.quote("XNAS", bids=[(59_990.0, 0.5)], asks=[(60_000.00000001, 0.01370001)], fee=0.1 + 0.2, rebate=0.0)
    book.quote("XNYS", bids=[], asks=[(61_000.0, 2.0)], fee=0.0, rebate=0.0)
    text = Router().route(Order("BTC-EUR", "buy", 0.0137, instrument=instrument), book).explain()
    assert text.splitlines()[0].startswith("order    buy 0.0137 BTC-EUR at ")
    assert "prices   in EUR" in text
    first, second = rows_of(text)
    assert (first["best ask"], first["displayed"], first["fee"], first["sent"]) == (
        "60,000.00000001", "0.01370001", "0.30", "0.0137",
    )  # fmt: skip
    assert second["best ask"] == "61,000.00000000"


def test_small_differences_are_told_in_decimals() -> None:
    book = Book("AAPL")
    book.quote("EPRL", bids=[(222.81, 100)], asks=[(222.83, 10)], fee=0.00295, rebate=0.0)
    book.quote("XNAS", bids=[(222.81, 100)], asks=[(222.83, 10)], fee=0.003, rebate=0.0)
    text = Router().route(Order("AAPL", "buy", 10), book).explain()
    assert text.endswith("0.00005 a share dearer than the dearest share taken")


def test_what_rests_is_not_told_as_taken() -> None:
    """`notional` rests the order at the dearer venue, for its rebate, and takes nothing there: see the trap."""
    result = Router(objective="notional").route(Order("AAPL", "buy", 1410), of_one_venue())
    assert result.execution_summary.total_executed == 10
    (row,) = rows_of(result.explain())
    assert (row["sent"], row["why"]) == ("1,410", "an order rests here for what is not taken at once")
    assert result.explain().endswith("unfilled 1,400, and orders for 1,400 rest")


def test_without_a_mid_no_cost_is_told() -> None:
    book = Book("AAPL")
    book.quote("XNAS", bids=[], asks=[(10.0, 5)], fee=0.0, rebate=0.0)
    text = Router().route(Order("AAPL", "buy", 7), book).explain()
    assert "cost     not measured, as there is no mid" in text
    assert text.endswith("unfilled 2")
    assert "cost     not measured" in Router().route(Order("AAPL", "buy", 7), Book("AAPL")).explain()


def test_what_a_rule_leaves_is_said_with_the_rule() -> None:
    book = Book("AAPL")
    book.quote("XNAS", bids=[(9.99, 50)], asks=[(10.0, 50)], fee=0.0, rebate=0.0, rules=VenueRules(lot=100))
    text = Router().route(Order("AAPL", "buy", 100), book).explain()
    (row,) = rows_of(text)
    assert "100" in row["why"]
    assert row["why"] in text.split("\n\n")[2]
    assert text.endswith("unfilled 100")


# --- which result ----------------------------------------------------------------------------------------------------


def results_of(symbols: str) -> list[dict[str, Any]]:
    """One of each letter, of as many shares as its place."""
    line = json.loads(of_three_venues().to_json())
    return [line | {"symbol": symbol, "order_size": place} for place, symbol in enumerate(symbols, 1)]


def written(path: Path, results: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(result) + "\n" for result in results))
    return path


@pytest.mark.parametrize(
    ("options", "which"),
    [
        ([], "buy 4 B,"),
        (["--row", "1"], "buy 1 A,"),
        (["--row", "3"], "buy 3 A,"),
        (["--symbol", "A"], "buy 3 A,"),
        (["--symbol", "B", "--row", "1"], "buy 2 B,"),
    ],
)
def test_which_result(start: Start, tmp_path: Path, options: list[str], which: str) -> None:
    path = written(tmp_path / "results.jsonl", results_of("ABAB"))
    assert which in start("explain", path, *options).finish(DONE).out.decode().splitlines()[0]


def test_packed_and_standard_input(start: Start, tmp_path: Path) -> None:
    line = of_three_venues().to_json() + b"\n"
    packed = tmp_path / "results.jsonl.gz"
    packed.write_bytes(gzip.compress(line))
    assert start("explain", packed).finish(DONE).out.decode() == f"{TABLE}\n"
    assert start("explain", "-", stdin=packed).finish(DONE).out.decode() == f"{TABLE}\n"
    plain = tmp_path / "results.jsonl"
    plain.write_bytes(line.rstrip())  # a whole object needs no line break
    assert start("explain", "-", stdin=plain).finish(DONE).out.decode() == f"{TABLE}\n"


REJECTION = {
    "order": {"id": "7f3a", "symbol": "AAPL"},
    "status": "rejected",
    "reason": "quantity is -5: it must be a whole number",
    "schema_version": 1,
    "source": {"topic": "orders", "partition": 0, "offset": 17, "market_data": None},
}


@pytest.mark.parametrize(
    ("order", "called"),
    [
        ({"id": "7f3a", "symbol": "AAPL"}, "order 7f3a of AAPL"),
        ({"id": None, "symbol": None}, "an order"),
    ],
)
def test_a_rejection_is_a_sentence(start: Start, tmp_path: Path, order: dict[str, Any], called: str) -> None:
    path = written(tmp_path / "results.jsonl", [*results_of("A"), REJECTION | {"order": order}])
    assert start("explain", path).finish(DONE).out.decode() == (
        f"{called} (orders:0:17) was rejected, so no venue got anything: quantity is -5: it must be a whole number\n"
    )
    job = start("explain", path, "--symbol", "AAPL")
    job.finish(DONE if order["symbol"] else WRONG_CALL)  # the rejection is of the symbol that it names


def test_results_of_other_versions(start: Start, tmp_path: Path) -> None:
    """The first had no reasons; a later one may have more keys, and codes that nobody knows yet."""
    (old,) = results_of("A")
    for venue in old["venues"]:
        del venue["reason"]
    text = start("explain", written(tmp_path / "old", [old])).finish(DONE).out.decode()
    assert [(row["venue"], row["why"]) for row in rows_of(text)] == [
        ("EDGA", "ok"), ("XNAS", "ok"), ("XNYS", "ok"), ("IEXG", "empty"),
    ]  # fmt: skip
    assert text.splitlines().count(OLD) == 1
    (new,) = results_of("A")
    new["weather"] = new["venues"][0]["weather"] = "fine"
    new["venues"][0]["reason"] = {"code": "weather", "words": "it rains there"}
    text = start("explain", written(tmp_path / "new", [new])).finish(DONE).out.decode()
    assert "it rains there" in text
    assert OLD not in text


# --- what is wrong ---------------------------------------------------------------------------------------------------

GOOD = json.dumps(results_of("A")[0]).encode()


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", [], "results.jsonl has no results\n"),
        (b"\n\n", [], "results.jsonl has no results\n"),
        (GOOD + b"\n", ["--symbol", "B"], "results.jsonl has no results of 'B'\n"),
        (GOOD + b"\n", ["--row", "2"], "--row is 2: "),
        (GOOD + b"\n", ["--row", "2"], "results.jsonl has 1 results\n"),
        (GOOD + b"\n", ["--row", "0"], "--row is '0': it must be a whole number from 1"),
        (GOOD + b"\njunk\n", [], "results.jsonl, line 2: it must be a result"),
        (GOOD + b"\njunk\n", ["--symbol", "A"], "results.jsonl, line 2: it must be a result"),
        (GOOD + b"\n{}\n", [], "missing required field `symbol`"),
        (GOOD + b'\n{"status": "rejected"}\n', [], "missing required field `order`"),
        (GOOD + b"\n\xff\xfe\n", [], "results.jsonl, line 2: it must be a result"),
        (GOOD + b"\n" + b"[" * 200_000 + b"\n", [], "results.jsonl, line 2: it must be a result"),
        (json.dumps(results_of("A")[0], indent=2).encode() + b"\n", [], "(without --pretty)"),
        (GOOD + b"\n" + GOOD[:-9], [], "is the file still being written?"),
    ],
    ids=range(14),
)
def test_what_cannot_be_explained(start: Start, tmp_path: Path, content: bytes, options: list[str], words: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(content)
    job = start("explain", path, *options).finish(WRONG_CALL)
    assert job.out == b""
    assert job.err.startswith("sor explain: error: ")
    assert job.err.count("\n") == 1
    assert words in job.err


def test_a_good_result_before_a_bad_line_is_explained(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(GOOD + b"\njunk\n")
    start("explain", path, "--row", 1).finish(DONE)


def test_files_that_are_not_there_or_damaged(start: Start, tmp_path: Path) -> None:
    assert "FILE is missing" in start("explain").finish(WRONG_CALL).err
    assert "cannot read nowhere" in start("explain", "nowhere").finish(WRONG_CALL).err
    path = tmp_path / "results.jsonl.gz"
    path.write_bytes(gzip.compress(SAMPLE.read_bytes())[:-2_000])
    assert "results.jsonl.gz, after line" in start("explain", path).finish(STREAM_FAILED).err


# --- pipes and signals -----------------------------------------------------------------------------------------------


def test_who_reads_has_gone(tmp_path: Path) -> None:
    path = written(tmp_path / "results.jsonl", results_of("A"))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sor", "explain", str(path)], stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (Exit.BROKEN_PIPE, b"")


def opened(job: Job, pipe: Path) -> bool:
    folder = Path(f"/proc/{job.process.pid}/fd")
    return any(os.path.realpath(each) == str(pipe) for each in folder.iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_control_c(start: Start, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    job = start("explain", pipe)
    with pipe.open("wb"):
        wait_for(lambda: opened(job, pipe), "the pipe's being read")
        job.signal(signal.SIGINT).finish(Exit.INTERRUPTED)
    assert job.out == b""


# --- sor replay --explain --------------------------------------------------------------------------------------------


def test_replay_explains_its_last_result(start: Start, tmp_path: Path) -> None:
    """After the summary, and beside the results, which are as they are without it."""
    results = tmp_path / "results.jsonl"
    quiet = ("--log-level", "error", "--max-messages", 1500)  # more than a batch
    plain = start("replay", SAMPLE, *quiet).finish(DONE)
    job = start("replay", SAMPLE, "--explain", *quiet).finish(DONE)
    assert job.out == plain.out
    results.write_bytes(job.out)
    table = start("explain", results).finish(DONE).out.decode()
    assert table.startswith("order    buy 5,000 AAPL")
    summary, _, told = job.err.partition("\n\n")
    assert summary.splitlines()[-1].startswith("cost ")
    assert told == table


def test_replay_explains_as_json_where_logs_are(start: Start) -> None:
    job = start("replay", SAMPLE, "--explain", "--max-messages", 1, "--log-format", "json").finish(DONE)
    last = json.loads(job.err.splitlines()[-1])
    assert last["message"].strip().startswith("order    buy 5,000 AAPL")


def test_replay_explains_nothing_where_nothing_was_routed(start: Start) -> None:
    job = start("replay", SAMPLE, "--explain", "--symbol", "MSFT", "--log-level", "error").finish(DONE)
    assert "venue" not in job.err
