"""`sor convert`: feeds as Parquet, whole or not at all, and the same feed as before."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memory
import numpy as np
import pytest
from commands import BAD, DONE, STREAM_FAILED, WRONG_CALL, Jobs, Start, stopped_while_writing

import sor
from sor.market import parquet
from sor.service import convert, feeds
from sor.stream.summary import total

pytest.importorskip("pyarrow")

SAMPLE = Path(__file__).parents[2] / "sample.csv"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def rows_of(feed: sor.Feed) -> list[Any]:
    return [
        (
            batch.symbols[batch.symbol[row]],
            [(name, values[row].tolist()) for name, values in batch.columns().items()][1:],
        )
        for batch in feed
        for row in range(len(batch))
    ]


def same(one: sor.Feed, other: sor.Feed) -> bool:
    found = rows_of(one)
    return bool(found and found == rows_of(other))


def test_a_feed_stays_what_it_was(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "day.parquet"
    job = start("convert", SAMPLE, "--output", path, "--depth", 10).finish(DONE)
    assert job.err.splitlines()[-1] == f"wrote 2,000 rows to {path}"
    assert same(sor.read_feed(path, depth=10), sor.read_feed(SAMPLE, depth=10))
    again = tmp_path / "again.parquet"
    start("convert", path, "--output", again, "--depth", 10).finish(DONE)
    assert again.read_bytes() == path.read_bytes()


def test_what_was_not_asked_for_is_told(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    times = "--start", "2024-08-01T13:36:04Z", "--end", "1722519368993518345"
    job = start("convert", SAMPLE, "--output", path, "--symbols", "AAPL", *times).finish(DONE)
    feed = sor.read_feed(SAMPLE, "AAPL", "2024-08-01T13:36:04Z", 1722519368993518345)
    assert same(sor.read_feed(path), feed)
    left = total(feed.skipped)
    rows = feed.rows - sum(feed.skipped.values())
    assert 0 < rows < 2_000
    assert job.err.splitlines()[-1] == f"wrote {rows:,} rows to {path}; left out {left}"


@pytest.mark.parametrize("by", ["day", "symbol", "symbol,day"])
def test_a_file_for_each(start: Start, tmp_path: Path, by: str) -> None:
    header, *rows = SAMPLE.read_text().splitlines()
    names = header.split(",")
    symbol, time = names.index("symbol"), names.index("ts_event")
    changed = []
    for i, row in enumerate(rows):
        cells = row.split(",")
        cells[symbol] = ["AAPL", "BRK/B"][i % 2]
        cells[time] = f"2024-08-0{1 + i // 1_500}T23:00:{i // 60 % 60:02d}.{i:09d}Z"
        changed.append(",".join(cells))
    feed = tmp_path / "feed.csv"
    feed.write_text("\n".join([header, *changed]) + "\n")
    folder = tmp_path / "parts"
    job = start("convert", feed, "--output", folder, "--by", by).finish(DONE)
    days, symbols = ("2024-08-01", "2024-08-02"), ("AAPL", "BRK%2FB")
    wanted = {"day": days, "symbol": symbols, "symbol,day": [f"{one}-{day}" for one in symbols for day in days]}[by]
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.parquet" for name in wanted)
    assert job.err.splitlines()[-1] == f"wrote 2,000 rows to {len(wanted)} files in {folder}"
    assert same(sor.read_feed(sorted(folder.iterdir())), sor.read_feed(feed))


def test_more_files_than_can_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MOST_FILES", 0)
    with pytest.raises(sor.InputError, match="--by makes more than 0 files: convert some symbols at a time"):
        run(tmp_path / "parts", by="day")
    assert list((tmp_path / "parts").iterdir()) == []


def test_few_rows_are_held_of_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MOST_HELD", 8_000)
    monkeypatch.setattr(parquet, "GROUP", 300)
    run(tmp_path / "parts", by="symbol,day")
    assert same(sor.read_feed(sorted((tmp_path / "parts").iterdir())), sor.read_feed(SAMPLE))


@pytest.mark.parametrize("depth", [1, 10])
def test_what_is_held_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    """Ten levels take five times as much as one."""
    monkeypatch.setattr(convert, "MOST_HELD", 100_000)
    feed = sor.read_feed(SAMPLE, depth=depth)
    (batch,) = feed
    with contextlib.ExitStack() as stack:
        parts = convert.Parts(str(tmp_path), "symbol", feed, stack)
        parts.add(batch.take(slice(1_000)))
        parts.add(batch.take(slice(1_000, None)))
        held = sum(file.held for file in parts.files.values())
        assert held * sum(column.nbytes for column in batch.columns().values()) <= 100_000 * len(batch)
    assert sor.read_feed(tmp_path / "AAPL.parquet", depth=depth).to_arrow().num_rows == 2_000


@pytest.mark.parametrize("words", ["convert", "info"])
def test_a_longer_feed_takes_no_more_memory(tmp_path: Path, words: str) -> None:
    """In short; `tools/memory.py` tries 20 million rows."""
    peaks = []
    for rows in (200_000, 600_000):
        memory.write_feed(tmp_path / "feed.csv", rows, symbols=40)
        peaks.append(memory.peak_mb([*memory.COMMANDS[words], "feed.csv"], tmp_path)[0])
    assert peaks[1] < 1.3 * peaks[0]


def run(folder: Path, by: str | None) -> None:
    folder.mkdir(exist_ok=True)
    convert.convert(convert.ConvertSettings(files=(str(SAMPLE),), output=str(folder), by=by))


def test_a_damaged_archive_leaves_nothing(start: Start, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv.gz"
    feed.write_bytes(gzip.compress(SAMPLE.read_bytes())[:-2_000])
    for more in ((), ("--by", "day")):
        job = start("convert", feed, "--output", tmp_path / "out", *more).finish(STREAM_FAILED)
        assert "feed.csv.gz, after line" in job.err.splitlines()[-1]
    assert [path.name for path in tmp_path.rglob("*.p*")] == []


def test_stopped_by_hand(start: Start, tmp_path: Path) -> None:
    """Nothing is left, and that is said."""
    job = stopped_while_writing(start, "convert", tmp_path / "day.parquet", SAMPLE.read_bytes()[:20_000])
    assert job.err.splitlines()[-1] == "sor: stopped before the end, so nothing was written"
    assert list(tmp_path.glob("day*")) == []


def test_damaged_parquet_is_told_where_it_is_routed(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "day.parquet"
    path.write_bytes(b"PAR1" + bytes(100))
    job = start("replay", path).finish(STREAM_FAILED)
    assert f"{path}, after row 0: " in job.err.splitlines()[-1]
    assert job.out == b""


def test_bad_rows(start: Start, tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    lines = SAMPLE.read_text().splitlines()
    feed.write_text("\n".join([*lines, "junk", lines[-1]]) + "\n")
    path = tmp_path / "day.parquet"
    job = start("convert", feed, "--output", path).finish(BAD)
    assert job.err.splitlines()[-1] == f"wrote 2,001 rows to {path}; bad 1 (cells 1)"
    assert "feed.csv:2002: cells:" in job.err
    start("convert", feed, "--output", path, "--allow-bad").finish(DONE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "FILE is missing"),
        ([SAMPLE], "--output is missing: it must be the Parquet file to write"),
        ([SAMPLE, "--by", "day"], "--output is missing: it must be a folder"),
        ([SAMPLE, "--by", "hour", "--output", "x"], "--by is 'hour'"),
        (["nowhere.csv", "--output", "x"], "nowhere.csv"),
        ([SAMPLE, "--output", "x", "--start", "noon"], "--start is 'noon': it must be a time in ISO 8601"),
        ([SAMPLE, "--output", "x", "--depth", "0"], "--depth is '0'"),
        ([SAMPLE, "--output", "-"], "--output is '-'"),
        ([SAMPLE, "", "--output", "x"], "FILE is"),
    ],
)
def test_wrong_calls(start: Start, tmp_path: Path, arguments: list[str], words: str) -> None:
    job = start("convert", *arguments).finish(WRONG_CALL)
    assert words in job.err.splitlines()[-1]


def test_what_is_read_is_not_written_to(start: Start, tmp_path: Path) -> None:
    day = tmp_path / "2024-08-01.parquet"
    start("convert", SAMPLE, "--output", day).finish(DONE)
    before = day.read_bytes()
    assert "that is the file to read" in start("convert", day, SAMPLE, "--output", day).finish(WRONG_CALL).err
    job = start("convert", day, "--output", tmp_path, "--by", "day").finish(WRONG_CALL)
    assert "2024-08-01.parquet is a file to read" in job.err
    assert day.read_bytes() == before


@pytest.mark.parametrize("depth", [1, 10])
def test_replay_gives_the_same_results_from_parquet(start: Start, tmp_path: Path, depth: int) -> None:
    """With flags and times of receipt; a row that is refused is a dead letter, and not lost."""
    path = tmp_path / "day.parquet"
    start("convert", SAMPLE, "--output", path, "--depth", depth).finish(DONE)
    algorithm = "--algorithm", "greedy_l2" if depth > 1 else "brute_force"
    results = []
    for feed in (SAMPLE, path):
        job = start("replay", feed, *algorithm).finish(DONE)
        results.append(re.sub(rb'"source":\{[^}]*\}', b'"source":0', job.out).splitlines())
    assert results[0] == results[1]
    assert json.loads(results[1][0])["book"]["sequence"] is not None


def test_refused_rows_of_parquet_are_dead_letters(start: Start, tmp_path: Path) -> None:
    (batch,) = sor.read_feed(SAMPLE)
    sizes = batch.bid_size.copy()
    sizes[[3, 77, 1999]] = -7
    wrong = sor.Batch(**{"symbols": batch.symbols} | batch.columns() | {"bid_size": sizes})
    path, summary, letters = tmp_path / "day.parquet", tmp_path / "summary", tmp_path / "letters"
    parquet.write_parquet([wrong], path)
    start("replay", path, "--summary", summary, "--dead-letter-file", letters).finish(BAD)
    counts = json.loads(summary.read_text())
    assert (counts["messages"], counts["results"], sum(counts["bad"].values())) == (2_000, 1_997, 3)
    places = [json.loads(line)["place"]["line"] for line in letters.read_text().splitlines()]
    assert places == [4, 78, 2000]


def test_progress_says_how_far_it_is() -> None:
    feed = sor.read_feed([SAMPLE, SAMPLE])
    seen = Counter[bool]()
    for _ in feed:
        seen[0.0 < feed.share() <= 1.0] += 1
    assert seen == {True: len(list(feed))}
    assert feed.share() == 1.0
    feed.rows = 12_345_678
    assert feeds.progress_line(feed, 10.0) == "12,345,678 rows, 100%, 0 min 00 s left"
    feed._shares = [lambda: 0.25]
    assert feeds.progress_line(feed, 10.0) == "12,345,678 rows, 12%, 1 min 10 s left"
    feed._shares = []
    assert feeds.progress_line(feed, 10.0) == "12,345,678 rows"


def test_flags_come_back(tmp_path: Path) -> None:
    """What the feed doubts is doubted of Parquet, too."""
    (batch,) = sor.read_feed(SAMPLE)
    assert (batch.flags != 0).any()
    path = tmp_path / "day.parquet"
    parquet.write_parquet([batch], path)
    (back,) = sor.read_feed(path)
    assert np.array_equal(back.flags, batch.flags)


# --- file by file -----------------------------------------------------------------------------------------------------


@pytest.fixture
def halves(tmp_path: Path) -> list[Path]:
    """The sample in two files."""
    lines = SAMPLE.read_text().splitlines(keepends=True)
    found = [tmp_path / "one.csv", tmp_path / "day.two.csv.gz"]
    found[0].write_text("".join(lines[:900]))
    found[1].write_bytes(gzip.compress("".join([lines[0], *lines[900:]]).encode()))
    return found


def test_each_file_by_any_number_of_processes(start: Start, tmp_path: Path, halves: list[Path]) -> None:
    found = []
    for jobs in (1, 2):
        folder = tmp_path / f"out-{jobs}"
        job = start("convert", *halves, "--by", "file", "--output", folder, "--jobs", jobs).finish(DONE)
        assert job.err.splitlines()[-1] == f"wrote 2,000 rows to 2 files in {folder}"
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    assert sorted(found[0]) == ["day.two.parquet", "one.parquet"]
    assert same(sor.read_feed(folder / "one.parquet"), sor.read_feed(halves[0]))


def test_a_file_that_is_there_is_left(start: Start, tmp_path: Path, halves: list[Path]) -> None:
    folder = tmp_path / "out"
    words = ("convert", *halves, "--by", "file", "--output", folder)
    start(*words).finish(DONE)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    job = start(*words).finish(DONE)
    assert job.err.splitlines()[-1] == f"wrote 0 rows to 0 files in {folder}; 2 were there"
    halves[0].write_text("".join(halves[0].read_text().splitlines(keepends=True)[:500]))
    (folder / "day.two.parquet").write_bytes(b"PAR1, and then nothing")
    start(*words).finish(DONE)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert all(before[name] != after[name] for name in before)
    assert same(sor.read_feed(folder / "one.parquet"), sor.read_feed(halves[0]))
    start(*words, "--depth", 2).finish(DONE)
    assert all(after[path.name] != path.stat().st_mtime_ns for path in folder.iterdir())


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_rows_of_a_file_are_told(start: Start, tmp_path: Path, halves: list[Path], jobs: int) -> None:
    with open(halves[0], "a") as file:
        file.write("rubbish\n")
    job = start("convert", *halves, "--by", "file", "--output", tmp_path / "out", "--jobs", jobs).finish(BAD)
    assert f"bad row: {halves[0]}:901: " in job.err
    assert job.err.splitlines()[-1].startswith(f"wrote 2,000 rows to 2 files in {tmp_path / 'out'}; bad ")


def test_files_that_cannot_be_told_apart_are_refused(start: Start, tmp_path: Path, halves: list[Path]) -> None:
    other = tmp_path / "more" / "one.csv"
    other.parent.mkdir()
    other.write_bytes(halves[0].read_bytes())
    job = start("convert", halves[0], other, "--by", "file", "--output", tmp_path / "out").finish(WRONG_CALL)
    assert "would both become one.parquet" in job.err
    start("convert", SAMPLE, "--by", "file", "--output", tmp_path / "out").finish(DONE)
    job = start("convert", tmp_path / "out" / "sample.parquet", "--by", "file", "--output", tmp_path / "out")
    assert "is a file to read" in job.finish(WRONG_CALL).err
    job = start("convert", SAMPLE, "--output", tmp_path / "day.parquet", "--jobs", 2).finish(WRONG_CALL)
    assert job.err == "sor convert: error: --jobs goes with --by file only: other files are made of several\n"
