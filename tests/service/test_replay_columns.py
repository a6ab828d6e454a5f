"""`sor replay --output results.parquet`: the results of JSON Lines, in columns."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import BAD, DONE, STREAM_FAILED, WRONG_CALL, Jobs, Start, stopped_while_writing

from sor.routing import many, table
from sor.service import replay_columns
from sor.service.settings import ReplaySettings
from sor.types import Warnings

pq = pytest.importorskip("pyarrow.parquet")

SAMPLE = Path(__file__).parents[2] / "sample.csv"
SPLIT = ("--objective", "shortfall", "--lambda-under", "0.05", "--theta-queue", "0.01")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def told(result: dict[str, Any]) -> dict[str, Any]:
    """What a row of columns has of a result."""
    book, summary, shortfall = result["book"], result["execution_summary"], result["shortfall"]
    sent = [(venue["venue_id"], venue["allocation"]) for venue in result["venues"] if venue["allocation"]]
    return {
        "time": result["timestamp"],
        "symbol": result["symbol"],
        "side": result["side"],
        "quantity": result["order_size"],
        "state": book["state"],
        "venue": [venue for venue, _ in sent],
        "allocation": [shares for _, shares in sent],
        "executed": summary["total_executed"],
        "fill_rate": summary["fill_rate"],
        "bid": book["bid"],
        "ask": book["ask"],
        "mid": result["reference_price"],
        "cash_spent": summary["cash_spent"],
        "total_cost": result["total_cost"],
        "objective_value": result["objective_value"],
        "shortfall": shortfall["dollars"],
        "shortfall_bps": shortfall["bps"],
    }


def columns(path: Path) -> list[dict[str, Any]]:
    found = pq.read_table(path)
    times = found.column("time").cast("int64").to_pylist()
    rows = found.drop_columns(["time"]).to_pylist()
    assert [row.pop("row") for row in rows] == list(range(len(rows)))
    assert {row.pop("order") for row in rows} <= {0}
    return [{"time": f"{time // 10**9}.{time % 10**9:09d}", **row} for time, row in zip(times, rows, strict=True)]


def seconds(text: str) -> str:
    """As above, of a result's time."""
    from sor.market.fields import time_of

    return f"{time_of('time', text) // 10**9}.{text[20:29]}"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--side", "sell", "--order-size", "700"),
        ("--algorithm", "greedy_l2", "--limit-price", "222.85"),
        (*SPLIT, "--exclude-venues", "XNAS,EPRL"),
        ("--objective", "notional", "--max-quote-age", "0.5", "--order-size", "300"),
    ],
    ids=["sweep", "sell", "greedy_l2", "shortfall", "notional"],
)
def test_the_same_results(start: Start, tmp_path: Path, options: tuple[str, ...]) -> None:
    lines, path = tmp_path / "results.jsonl", tmp_path / "results.parquet"
    counts = []
    for output in (lines, path):
        summary = tmp_path / "summary.json"
        start("replay", SAMPLE, *options, "--output", output, "--summary", summary).finish(DONE)
        counts.append(json.loads(summary.read_text()))
    results = [json.loads(line) for line in lines.read_text().splitlines()]
    rows = columns(path)
    assert len(rows) == 2_000
    for row, result in zip(rows, results, strict=True):
        assert bool(row.pop("warnings")) == bool(result["warnings"])
        wanted = told(result)
        assert row == {**wanted, "time": seconds(wanted["time"])}
    for one in counts:
        del one["seconds"], one["messages_per_second"], one["latency_us"]
    costs = [one.pop("cost_vs_mid_bps") for one in counts]
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)
    assert counts[0] == counts[1]


FIGURES = """model = "ours"
[[venue.figures]]
valid_from = 2024-01-01
taker_fee = 0.001
maker_rebate = 0.0
fee_bps = 0.1
taker_fee_verified = true
maker_rebate_verified = true
source = "ours"
"""
VENUES = f"""schema_version = 1
[[venue]]
mic = "XNAS"
name = "lots of a hundred, and from the next day on smallest orders"
publisher_ids = [2]
{FIGURES}
[[venue.rules]]
valid_from = 2024-01-01
lot = 100
verified = true
source = "ours"
[[venue.rules]]
valid_from = 2024-08-02
min_quantity = 250
ticket = 0.5
verified = true
source = "ours"
[[venue]]
mic = "EDGX"
name = "round lots"
publisher_ids = [8]
{FIGURES}
[[venue.rules]]
valid_from = 2024-01-01
lot = "round"
min_execution = 80
verified = true
source = "ours"
"""
POLICY = """schema_version = 1
[[round_lot]]
tiers = [{ up_to = 222.8, lot = 100 }, { lot = 40 }]
sure = true
verified = true
source = "made up"
[[round_lot]]
valid_from = 2024-08-02
tiers = [{ lot = 30 }]
sure = true
verified = true
source = "made up"
"""


@pytest.mark.parametrize(
    ("options", "ruled"),
    [
        ((), True),
        (("--protect", "nbbo", "--side", "sell", "--order-size", "1500"), True),
        (("--protect", "nbbo", "--exclude-venues", "XNAS", "--order-size", "1250"), False),
        (("--algorithm", "greedy_l2", "--limit-price", "222.9", "--order-size", "2777"), True),
        (SPLIT, True),
    ],
    ids=["sweep", "protect", "protect alone", "greedy_l2", "shortfall"],
)
def test_the_same_results_under_rules(start: Start, tmp_path: Path, options: tuple[str, ...], ruled: bool) -> None:
    """Whose days and whose round lots change in the middle of the feed; a venue's are those of the day of its quote."""
    rows = SAMPLE.read_text().splitlines()[:1_001]
    feed, venues, policy = (tmp_path / name for name in ("feed.csv", "venues.toml", "policy.toml"))
    feed.write_text("\n".join(rows[:501] + [row.replace("2024-08-01T", "2024-08-02T") for row in rows[501:]]) + "\n")
    venues.write_text(VENUES)
    policy.write_text(POLICY)
    files = ("--venues", venues, "--policy", policy) if ruled else ("--policy", policy)
    for output in ("results.jsonl", "results.parquet"):
        start("replay", feed, *options, *files, "--output", tmp_path / output).finish(DONE)
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    found = columns(tmp_path / "results.parquet")
    assert len(found) == len(results) == 1_000
    for row, result in zip(found, results, strict=True):
        assert row.pop("warnings") == many.warnings_of(result["warnings"])
        wanted = told(result)
        assert row == {**wanted, "time": seconds(wanted["time"])}
    protect = "nbbo" if "--protect" in options else "none"
    terms = json.loads(pq.read_schema(tmp_path / "results.parquet").metadata[b"sor.results"])
    assert terms["protect"] == protect
    assert any("iso" in child for result in results for child in result["child_orders"]) == (protect == "nbbo")
    if ruled:
        days = [results[:500], results[500:]]
        assert [kept_by("XNAS", *some) for some in days] == [{"a hundred"}, {"at least 250"}]
        assert kept_by("EDGX", *days[1]) == {"thirty"}
        assert kept_by("EDGX", *days[0]) <= {"forty", "a hundred"}


def kept_by(mic: str, *results: Any) -> set[str]:
    """How one could describe what a venue got; its last quotes of the day before may have other rules."""
    shares = [venue["allocation"] for result in results[50:] for venue in result["venues"] if venue["venue_id"] == mic]
    sent = {number for number in shares if number}
    assert sent
    names = {100: "a hundred", 40: "forty", 30: "thirty"}
    found = {name for lot, name in names.items() if all(number % lot == 0 for number in sent)}
    return found or ({"at least 250"} if min(sent) >= 250 else set())


def test_rules_and_the_notional_do_not_go_together(start: Start, tmp_path: Path) -> None:
    venues = tmp_path / "venues.toml"
    venues.write_text(VENUES)
    for output in ("results.jsonl", "results.parquet"):
        words = ("replay", SAMPLE, "--venues", venues, "--objective", "notional", "--output", tmp_path / output)
        job = start(*words).finish(WRONG_CALL)
        said = f"--objective is 'notional', and {venues} has rules of XNAS, EDGX: it must be sweep or shortfall"
        assert said in job.err.splitlines()[-1]


def test_protection_goes_with_sweep_only(start: Start) -> None:
    job = start("replay", SAMPLE, "--protect", "nbbo", "--objective", "shortfall").finish(WRONG_CALL)
    assert "--protect is 'nbbo', and --objective 'shortfall': " in job.err.splitlines()[-1]


def test_the_file_says_what_its_rows_have_in_common(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    start("replay", SAMPLE, *SPLIT, "--output", path).finish(DONE)
    terms = json.loads(pq.read_schema(path).metadata[b"sor.results"])
    assert (terms["version"], terms["algorithm"], terms["objective"]) == (1, "brute_force", "shortfall")
    assert terms["parameters"]["lambda_under"] == 0.05
    nothing = dict.fromkeys(("limit_price", "id", "parent_id"))
    assert terms["orders"] == [{"symbol": "*", "side": "buy", "quantity": 5000} | nothing]
    assert terms["warnings"] == {str(one.value): one.name.lower() for one in Warnings}
    again = tmp_path / "again.parquet"
    start("replay", SAMPLE, *SPLIT, "--output", again).finish(DONE)
    assert again.read_bytes() == path.read_bytes()


def test_venues_and_symbols_that_come_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In other chunks of answers than the first, and in other row groups."""
    monkeypatch.setattr(many, "LOOKS", 16)
    monkeypatch.setattr(table, "GROUP", 48)
    lines = SAMPLE.read_text().splitlines()
    other = [line.replace("AAPL", "MSFT") for line in lines[1_000:1_100]]
    feed = tmp_path / "feed.csv"
    feed.write_text("\n".join([*lines[:1_000], *other, *lines[1_100:1_200]]) + "\n")
    rows = []
    for name in ("parts.parquet", "whole.parquet"):
        path = tmp_path / name
        replay_columns.replay_in_columns(settings_of(feed, path), "publishers", replay_columns.VenueDirectory.load())
        rows.append(columns(path))
        monkeypatch.undo()
    assert len(rows[0]) == 1_199
    assert rows[0] == rows[1]
    assert pq.ParquetFile(tmp_path / "parts.parquet").num_row_groups > 10


def settings_of(feed: Path, path: Path, **more: Any) -> ReplaySettings:
    return ReplaySettings(csv_file=str(feed), output=str(path), **more)


def test_bad_rows_are_counted(start: Start, tmp_path: Path) -> None:
    lines = SAMPLE.read_text().splitlines()
    lines[100:100] = ["", "nonsense", lines[50].replace("222.", "-222.")]
    feed, summary = tmp_path / "feed.csv", tmp_path / "summary.json"
    feed.write_text("\n".join(lines) + "\n")
    counts = []
    for output in ("results.jsonl", "results.parquet"):
        start("replay", feed, "--output", tmp_path / output, "--summary", summary).finish(BAD)
        found = json.loads(summary.read_text())
        counts.append({name: found[name] for name in ("messages", "results", "skipped", "bad")})
    assert counts[0] == counts[1]
    assert counts[0]["messages"] == 2_003
    start("replay", feed, "--output", tmp_path / "results.parquet", "--allow-bad").finish(DONE)


def test_one_symbol(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    job = start("replay", SAMPLE, "--symbol", "MSFT", "--output", path).finish(DONE)
    assert "messages 2,000 = results 0 + skipped 2,000 (symbol 2,000) + bad 0" in job.err
    assert columns(path) == []


def test_a_damaged_archive_leaves_nothing(start: Start, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv.gz"
    feed.write_bytes(gzip.compress(SAMPLE.read_bytes())[:-2_000])
    job = start("replay", feed, "--output", tmp_path / "results.parquet").finish(STREAM_FAILED)
    assert "feed.csv.gz, after line" in job.err.splitlines()[-1]
    assert list(tmp_path.glob("*.parquet*")) == []


def test_stopped_by_hand(start: Start, tmp_path: Path) -> None:
    job = stopped_while_writing(start, "replay", tmp_path / "results.parquet", SAMPLE.read_bytes()[:20_000])
    assert job.err.splitlines()[-1] == "sor: stopped before the end, so nothing was written"
    assert list(tmp_path.glob("*.parquet*")) == []


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("consume", (), "sor consume writes JSON Lines"),
        ("replay", ("--pretty",), "--pretty goes with JSON Lines only"),
        ("replay", ("--explain",), "--explain goes with JSON Lines only"),
        ("replay", ("--dead-letter-file", "letters"), "--dead-letter-file goes with JSON Lines only"),
        ("replay", ("--max-messages", "5"), "--max-messages goes with JSON Lines only"),
        ("replay", ("--algorithm", "cont_kukanov"), "--algorithm cont_kukanov are written as JSON Lines only"),
        ("replay", ("--venues-from", "levels"), "--venues-from levels are written as JSON Lines only"),
        ("replay", ("--max-symbols", "1"), "more than 1 symbols"),
    ],
)
def test_what_columns_do_not_have(
    start: Start, tmp_path: Path, command: str, options: tuple[str, ...], words: str
) -> None:
    feed = tmp_path / "feed.csv"
    text = SAMPLE.read_text()
    feed.write_text(text + text.splitlines()[-1].replace("AAPL", "MSFT") + "\n")
    named = (feed,) if command == "replay" else ()
    job = start(command, *named, "--output", tmp_path / "results.parquet", *options).finish(WRONG_CALL)
    assert words in job.err.splitlines()[-1]
    assert list(tmp_path.glob("*.parquet*")) == []


def test_levels_of_one_publisher(start: Start, tmp_path: Path) -> None:
    """Where the results as JSON Lines would be of levels, those in columns are not silently others."""
    header, first = SAMPLE.read_text().splitlines()[:2]
    (tmp_path / "feed.csv").write_text(f"{header}\n{first}\n")
    job = start("replay", tmp_path / "feed.csv", "--output", tmp_path / "results.parquet").finish(WRONG_CALL)
    assert "--venues-from publishers takes the publisher as one venue" in job.err.splitlines()[-1]
    more = ("--output", tmp_path / "results.parquet", "--venues-from", "publishers")
    start("replay", tmp_path / "feed.csv", *more).finish(DONE)
    assert len(columns(tmp_path / "results.parquet")) == 1
