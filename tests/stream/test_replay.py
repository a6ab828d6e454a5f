"""`sor replay`: nothing unaccounted for, whatever the file; every output, every way to end."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sor.cli import main

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE = CHECKOUT / "sample.csv"
SCHEMA = json.loads((CHECKOUT / "sor" / "routing" / "result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SAMPLE_LINES = SAMPLE.read_bytes().splitlines()

HEADER = b"ts_event,publisher_id,sequence,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,symbol"
GOOD = b"2024-08-01T13:36:32.491911683Z,2,7,222.82,222.83,100,36,AAPL"
OTHER = b"2024-08-01T13:36:32.491911684Z,9,8,50.00,50.01,100,36,MSFT"
EMPTY_ASK = b"2024-08-01T13:36:32.491911683Z,2,7,222.82,,100,0,AAPL"
BAD = {
    b"2024-08-01T13:36:32.491911683Z,2,7,abc,222.83,100,36,AAPL": "number",
    b"2024-08-01T13:36:32.491911683Z,2,7,222.82,222,100,36,AAPL": "price",
    b"2024-08-01T13:36:32.491911683Z,2,7,222.82,222.83,1.5,36,AAPL": "size",
    b"yesterday,2,7,222.82,222.83,100,36,AAPL": "time",
    b"2024-08-01T13:36:32.491911683Z,2,7,222.82,222.83,100,36,": "symbol",
    b"2024-08-01T13:36:32.491911683Z,2": "cells",
    b"   ": "cells",
    b"\xff\xfe\x00garbage": "encoding",
    b'2024-08-01T13:36:32.491911683Z,"2,7,222.82,222.83,100,36,AAPL': "csv",
}


class Done(NamedTuple):
    status: int
    results: list[dict[str, Any]]
    err: str
    summary: dict[str, Any]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """No variable of the machine's, no file of the checkout's."""
    for name in list(os.environ):
        if name.startswith("SOR_") and name not in ("SOR_REQUIRE_EXT", "SOR_PURE_PYTHON"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def replay(tmp_path: Path, capfdbinary: Any) -> Callable[..., Done]:
    """Replay bytes or a path in this process."""

    def run(content: bytes | Path, *options: str, name: str = "feed.csv") -> Done:
        path = content if isinstance(content, Path) else tmp_path / name
        if not isinstance(content, Path):
            path.write_bytes(content)
        summary = tmp_path / "the-summary.json"
        summary.unlink(missing_ok=True)
        status = main(["replay", str(path), "--summary", str(summary), *options])
        out, err = capfdbinary.readouterr()
        facts = json.loads(summary.read_text()) if summary.exists() else {}
        if facts:
            assert_adds_up(facts)
        pretty = "--pretty" in options
        return Done(status, [] if pretty else [json.loads(line) for line in out.splitlines()], err.decode(), facts)

    return run


def assert_adds_up(summary: dict[str, Any]) -> None:
    skipped, bad = sum(summary["skipped"].values()), sum(summary["bad"].values())
    assert summary["messages"] == summary["results"] + skipped + bad


def lines(*rows: bytes, end: bytes = b"\n") -> bytes:
    return end.join([HEADER, *rows]) + end


def command(*options: str, **more: Any) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-m", "sor", "replay", *options],
        "cwd": CHECKOUT,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        **more,
    }


# --- counts ----------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    rows=st.lists(
        st.sampled_from([GOOD, OTHER, EMPTY_ASK, b"", *BAD])
        | st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")),
        max_size=30,
    ),
    end=st.sampled_from([b"\n", b"\r\n"]),
    only=st.sampled_from([None, "AAPL", "TSLA"]),
    last=st.booleans(),
)
def test_no_row_is_unaccounted_for(rows, end, only, last):
    with tempfile.TemporaryDirectory() as folder:
        feed, out, facts, letters = (Path(folder, name) for name in ("feed.csv", "out", "facts", "letters"))
        content = lines(*rows, end=end)
        feed.write_bytes(content if last else content.removesuffix(end))
        options = ["--output", out, "--summary", facts, "--dead-letter-file", letters, "--log-level", "error"]
        with redirect_stderr(io.StringIO()) as err:
            status = main(["replay", *map(str, [feed, *options]), *(["--symbol", only] if only else [])])
        summary = json.loads(facts.read_text())
        results = [json.loads(line) for line in out.read_bytes().splitlines()]
        dead = [json.loads(line) for line in letters.read_bytes().splitlines()]

    assert_adds_up(summary)
    read, unfinished = feed_lines(content if last else content.removesuffix(end))
    assert summary["messages"] == len(read)
    assert summary["results"] == len(results)
    assert sum(summary["bad"].values()) == len(dead)
    assert status == (1 if dead else 0)
    if only is None:
        assert "symbol" not in summary["skipped"]
    # Every line is answered, skipped or bad, and none twice.
    places = [r["source"]["line"] for r in results] + [d["place"]["line"] for d in dead]
    assert len(set(places)) == len(places)
    for result in results:
        assert read[result["source"]["line"] - 2] in (GOOD, OTHER, EMPTY_ASK)
        assert only in (None, result["symbol"])
    for letter in dead:
        raw = read[letter["place"]["line"] - 2]
        assert base64.b64decode(letter["raw_base64"]) == raw
        if letter["place"]["line"] == unfinished:
            assert letter["reason"] == "unfinished"
            continue
        assert letter["reason"] == BAD.get(raw, letter["reason"])
        assert raw not in (GOOD, OTHER, EMPTY_ASK, b"")
    assert unfinished in (None, *(letter["place"]["line"] for letter in dead))
    assert sum(raw == b"" for raw in read) == summary["skipped"].get("blank", 0)
    assert f"messages {len(read):,} = results {len(results):,}" in err.getvalue()


def feed_lines(content: bytes) -> tuple[list[bytes], int | None]:
    """Lines below the header without their ends, a line feed or a carriage return and a line feed; the number of the
    last one where it has no end."""
    *parts, rest = content.split(b"\n")
    found = [part.removesuffix(b"\r") for part in parts]
    return ([*found, rest] if rest else found)[1:], len(found) + 1 if rest and found else None


def test_the_whole_sample(replay):
    done = replay(SAMPLE)
    assert done.status == 0
    assert done.summary["messages"] == done.summary["results"] == len(done.results) == len(SAMPLE_LINES) - 1
    assert done.summary["skipped"] == done.summary["bad"] == {}
    for number, (result, row) in enumerate(zip(done.results, SAMPLE_LINES[1:], strict=True), 2):
        assert result["source"] == {"file": "sample.csv", "line": number}
        assert row.split(b",")[1].decode() <= result["timestamp"]  # ts_event, or a newer one seen before
        assert result["stream"] is None
    for result in done.results[::50]:
        VALIDATOR.validate(result)
    executed = sum(r["execution_summary"]["total_executed"] for r in done.results)
    assert done.summary["fill_rate"] == pytest.approx(executed / 5000 / len(done.results))
    dollars = sum(r["shortfall"]["dollars"] for r in done.results if r["reference_price"])
    at_mid = sum(r["execution_summary"]["total_executed"] * r["reference_price"] for r in done.results)
    assert done.summary["cost_vs_mid_bps"] == pytest.approx(1e4 * dollars / at_mid)
    assert list(done.summary) == [
        "messages", "results", "skipped", "bad", "rejected", "doubtful", "seconds", "messages_per_second", "latency_us",
        "fill_rate", "cost_vs_mid_bps"]  # fmt: skip
    latency = done.summary["latency_us"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]


def test_symbol_skips_the_others(replay):
    done = replay(lines(GOOD, OTHER, GOOD, b"", OTHER), "--symbol", "AAPL")
    assert done.status == 0
    assert [r["symbol"] for r in done.results] == ["AAPL", "AAPL"]
    assert done.summary["skipped"] == {"symbol": 2, "blank": 1}


def test_symbols_have_books_of_their_own(replay):
    done = replay(lines(GOOD, OTHER, GOOD))
    assert [[v["venue_id"] for v in r["venues"]] for r in done.results] == [["venue_0"], ["venue_0"], ["venue_0"]] or [
        [v["venue_id"] for v in r["venues"]] for r in done.results
    ] == [["XNAS"], ["XNYS"], ["XNAS"]]


def test_a_row_that_shows_nothing_still_gets_its_result(replay):
    done = replay(lines(EMPTY_ASK))
    (result,) = done.results
    assert done.status == 0
    assert (result["allocation"], result["execution_summary"]["fill_rate"]) == ([0], 0)
    assert result["warnings"] == ["nothing to buy: no venue shows a usable ask (1 empty)"]
    VALIDATOR.validate(result)


def test_bad_rows(replay, tmp_path):
    letters = tmp_path / "dead.jsonl"
    rows = [GOOD, *BAD, GOOD]
    done = replay(lines(*rows), "--dead-letter-file", str(letters))
    assert done.status == 1
    assert len(done.results) == 2
    found = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [base64.b64decode(letter["raw_base64"]) for letter in found] == list(BAD)
    assert [letter["reason"] for letter in found] == list(BAD.values())
    assert [letter["place"] for letter in found] == [{"file": "feed.csv", "line": i} for i in range(3, 3 + len(BAD))]
    assert all(letter["detail"] for letter in found)
    assert f"bad {len(BAD)} (" in done.err
    assert replay(lines(*rows), "--allow-bad").status == 0


def test_bad_rows_are_logged_where_no_file_takes_them(replay):
    raw = next(iter(BAD))
    err = replay(lines(raw)).err
    assert "feed.csv:2: number: bid_px_00 is 'abc': not a number" in err
    assert base64.b64encode(raw).decode() in err


def test_max_messages(replay):
    done = replay(lines(*[GOOD] * 10), "--max-messages", "4")
    assert (done.status, len(done.results), done.summary["messages"]) == (0, 4, 4)
    assert replay(lines(*[GOOD] * 2100), "--max-messages", "2050").summary["messages"] == 2050


# --- what is written where -------------------------------------------------------------------------------------------


def test_output_goes_to_a_file(replay, tmp_path):
    path = tmp_path / "out.jsonl"
    done = replay(lines(GOOD, GOOD), "--output", str(path))
    assert done.results == []
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2
    assert len(replay(lines(GOOD, GOOD), "--output", "-").results) == 2


def test_pretty_is_the_same_data(tmp_path, capfdbinary):
    (tmp_path / "feed.csv").write_bytes(lines(GOOD))
    outputs = []
    for options in ([], ["--pretty"]):
        assert main(["replay", str(tmp_path / "feed.csv"), *options]) == 0
        outputs.append(capfdbinary.readouterr().out)
    plain, pretty = outputs
    assert json.loads(plain) == json.loads(pretty)
    assert plain.count(b"\n") == 1
    assert pretty.startswith(b'{\n  "symbol": "AAPL",\n')


@pytest.mark.parametrize("option", ["--output", "--summary", "--dead-letter-file"])
def test_a_file_that_cannot_be_written(option, tmp_path, capfd):
    (tmp_path / "feed.csv").write_bytes(lines(GOOD))
    assert main(["replay", str(tmp_path / "feed.csv"), option, str(tmp_path / "no" / "x")]) == 2
    assert f"cannot write {tmp_path}/no/x: No such file" in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--summary", "--dead-letter-file"])
def test_the_input_is_never_written_over(option, tmp_path, capfd):
    feed = tmp_path / "feed.csv"
    feed.write_bytes(lines(GOOD))
    status = main(["replay", str(feed), option, f"{tmp_path}/../{tmp_path.name}/feed.csv"])
    assert feed.read_bytes() == lines(GOOD)
    assert status == 2
    assert option in capfd.readouterr().err


def test_a_full_disk_is_a_failed_stream():
    run = subprocess.run(timeout=60, **command("sample.csv", "--max-messages", "20", "--output", "/dev/full"))
    assert run.returncode == 4
    assert b"sor replay: error: " in run.stderr
    assert b"No space left on device" in run.stderr
    assert b"Traceback" not in run.stderr


def test_stdout_holds_results_only_and_stderr_the_rest(replay, capfdbinary):
    done = replay(lines(GOOD, *BAD), "--log-level", "debug")
    assert len(done.results) == 1  # each line of stdout was JSON
    assert "SOR Result [AAPL]" in done.err
    for line in done.err.splitlines():
        assert not line.startswith("{")


# --- sources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["feed.csv.gz", "feed.csv", "feed"])
def test_gzip_is_known_by_its_content(replay, name):
    done = replay(gzip.compress(lines(GOOD, OTHER)), name=name)
    assert (done.status, len(done.results)) == (0, 2)
    assert done.results[0]["source"]["file"] == name
    assert replay(lines(GOOD), name="feed.csv.gz").status == 0  # and so is what only has the suffix


def test_gzip_of_several_members(replay):
    assert len(replay(gzip.compress(lines(GOOD)) + gzip.compress(GOOD + b"\n")).results) == 2


@pytest.mark.parametrize("options", [(), ("--venues-from", "publishers")], ids=["looked ahead", "told"])
def test_a_truncated_gzip_fails_but_answers_what_it_held(replay, options):
    whole = gzip.compress(b"\n".join(SAMPLE_LINES))
    part = whole[: len(whole) // 2]
    readable = zlib.decompressobj(31).decompress(part)
    rows = readable.count(b"\n") - 1
    assert rows > 500
    done = replay(part, *options)
    assert done.status == 4
    assert "feed.csv" in done.err
    assert "end-of-stream" in done.err
    assert len(done.results) == rows
    assert done.summary["bad"] == {}


def test_a_corrupt_gzip_fails(replay):
    whole = bytearray(gzip.compress(b"\n".join(SAMPLE_LINES)))
    whole[len(whole) // 2] ^= 0xFF
    done = replay(bytes(whole))
    assert done.status in (1, 4)  # flipped bits may decode to garbage before the checksum is read
    assert re.search(r"error: .*feed.csv, after line \d+: ", done.err)
    assert "Traceback" not in done.err
    assert replay(b"\x1f\x8b" + b"junk" * 10).status == 4


PACKINGS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda content: pytest.importorskip("zstandard").ZstdCompressor().compress(content),
}
packings = pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)


@packings
def test_packed_files(replay, pack):
    """Known by how they begin; whole, of several members, or of many rows."""
    for content in (pack(lines(GOOD, OTHER)), pack(lines(GOOD)) + pack(OTHER + b"\n")):
        done = replay(content)
        assert (done.status, len(done.results)) == (0, 2)
    many = [SAMPLE_LINES[1:][i % 1000] for i in range(5000)]
    whole = replay(pack(b"\n".join([SAMPLE_LINES[0], *many]) + b"\n"))
    assert (whole.status, len(whole.results)) == (0, 5000)
    assert replay(b"\n".join([SAMPLE_LINES[0], *many]) + b"\n").results == whole.results


@packings
def test_damaged_archives(replay, pack):
    """Whole lines before the damage are answered; nothing that is left out is left out in silence."""
    rows = [*SAMPLE_LINES, b""]
    whole = pack(b"\n".join(rows))
    more = pack(b"\n".join(rows[1:]))
    for part in (whole[: len(whole) // 2], whole[:-1], whole + more[:-3], whole + b"garbage", whole[:20]):
        done = replay(part, "--venues-from", "publishers")
        assert done.status == 4, len(part)
        assert done.summary.get("bad", {}) == {}
        assert re.search(r"error: .*feed.csv, after line \d+: ", done.err)
        for result in done.results[: len(SAMPLE_LINES) - 1]:
            cells = SAMPLE_LINES[result["source"]["line"] - 1].split(b",")
            assert result["symbol"].encode() == cells[-1]
    assert len(done.results) == 0


@packings
def test_an_archive_cut_within_its_header_is_damaged(replay, pack):
    whole = pack(HEADER[:-20])
    done = replay(whole[: len(whole) - 9])
    assert done.status == 4
    assert "no column" not in done.err


@packings
def test_packed_standard_input_in_pieces(pack, tmp_path):
    content = pack(lines(*[GOOD, OTHER] * 100))
    out = tmp_path / "out"
    process = subprocess.Popen(**command("-", "--output", str(out), stdin=subprocess.PIPE, bufsize=0))
    for i in range(len(content)):
        process.stdin.write(content[i : i + 1])
        time.sleep(0.5 if i < 1 else 0)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.read_bytes().count(b"\n") == 200


def test_a_bomb_takes_no_memory(tmp_path):
    """A hundred megabytes of one byte are a hundred bytes of bzip2."""
    bomb = tmp_path / "feed.csv.bz2"
    bomb.write_bytes(bz2.compress(lines(GOOD)) + bz2.compress(b"x" * 100_000_000) + bz2.compress(b"\n" + GOOD + b"\n"))
    status, kilobytes = status_and_peak(bomb, "--dead-letter-file", str(tmp_path / "dead"))
    assert status == 1
    assert kilobytes < 150_000


def messages(*rows: bytes) -> bytes:
    made = []
    for row in rows:
        cells: dict[str, Any] = dict(zip(HEADER.decode().split(","), row.decode().split(","), strict=True))
        cells |= {key: int(cells[key]) for key in ("publisher_id", "sequence")}
        made.append(json.dumps(cells).encode() + b"\n")
    return b"".join(made)


def test_json_lines(replay, tmp_path):
    done = replay(messages(GOOD, OTHER, GOOD) + b"{broken\n\n", name="feed.jsonl")
    assert (done.status, len(done.results)) == (1, 3)
    assert done.summary["bad"] == {"json": 1}
    assert done.summary["skipped"] == {"blank": 1}
    assert [r["source"]["line"] for r in done.results] == [1, 2, 3]
    from_csv = replay(lines(GOOD, OTHER, GOOD)).results
    for one, other in zip(done.results, from_csv, strict=True):
        assert one | {"source": None} == other | {"source": None}


def a_tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("feed.csv")
        member.size = len(lines(GOOD))
        archive.addfile(member, io.BytesIO(lines(GOOD)))
    return packed.getvalue()


HUGE = b"1" + b"0" * 400
POISON = {
    "a price beyond any float": messages(GOOD).replace(b'"222.83"', HUGE),
    "an uneven number of levels": messages(GOOD).replace(b"{", b'{"bid_px_01": "222.81", "bid_sz_01": 5, ', 1),
    "a time beyond 64 bits": messages(GOOD).replace(b"2024-", b"9999-"),
    "a time before 1970": messages(GOOD).replace(b"2024-", b"1800-"),
    "bare NaN and a wrong type": messages(GOOD).replace(b'"AAPL"', b"NaN"),
    "deeply nested": b"[" * 100_000 + b"\n",
    "a lone surrogate": messages(GOOD).replace(b'"AAPL"', b'"\\ud800"'),
    "a lone surrogate beside NaN": messages(GOOD).replace(b'"AAPL"', b'"\\ud800", "price": NaN'),
}


@pytest.mark.parametrize("venues_from", ["publishers", "levels"])
@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_no_message_stops_the_stream(replay, poison, venues_from):
    done = replay(messages(GOOD) + poison + messages(GOOD), "--venues-from", venues_from, "--greedy-l2")
    assert done.summary["messages"] == 3
    assert len(done.results) >= 2
    assert done.results[-1]["source"]["line"] == 3
    assert done.results[-1]["timestamp"] == "2024-08-01T13:36:32.491911683Z"
    for result in done.results:
        VALIDATOR.validate(result)


def test_a_file_with_more_bid_than_ask_levels(replay):
    header = HEADER + b",bid_px_01,bid_sz_01"
    done = replay(header + b"\n" + GOOD + b",222.81,500\n", "--side", "sell", "--venues-from", "levels")
    assert done.status == 0
    assert done.results[0]["allocation"] == [100, 500]


def test_a_level_that_the_feed_no_longer_shows_is_gone(replay):
    """An update replaces what its publisher showed before, in levels as in publishers."""
    deep = messages(GOOD).replace(
        b"{", b'{"ask_px_01": "222.84", "ask_sz_01": 7, "bid_px_01": null, "bid_sz_01": 0, ', 1
    )
    done = replay(deep + messages(GOOD), "--venues-from", "levels")
    assert [r["allocation"] for r in done.results] == [[36, 7], [36, 0]]


WRONG_FILES = {
    "empty": (b"", "is empty"),
    "empty gzip": (gzip.compress(b""), "is empty"),
    "blank first line": (b"\n" + HEADER, "blank line"),
    "missing column": (HEADER.replace(b"ask_px_00", b"other") + b"\n" + GOOD, "no column ask_px_00"),
    "binary": (bytes(range(128, 256)) * 10, "not UTF-8"),
    "DBN cut": (b"DBN\x01" + bytes(100), "its metadata are damaged"),
    "a JSON array": (b"[" + messages(GOOD).strip() + b"]", "a JSON array: one object a line"),
    "a JSON array over lines": (b"[\n" + messages(GOOD) + b"]", "a JSON array: one object a line"),
    "JSON over lines": (json.dumps(json.loads(messages(GOOD)), indent=1).encode(), "JSON over several lines"),
    "UTF-16": (lines(GOOD).decode().encode("utf-16"), "UTF-16 text: iconv"),
    "UTF-16, most significant first": (b"\xfe\xff" + lines(GOOD).decode().encode("utf-16-be"), "UTF-16 text: iconv"),
    "UTF-16 without a mark": (lines(GOOD).decode().encode("utf-16-le"), "UTF-16 text without a byte-order mark"),
    "zip": (b"PK\x03\x04" + bytes(100), "a zip archive"),
    "compress": (b"\x1f\x9d\x90" + bytes(100), "a .Z archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive"),
    "lz4": (b"\x04\x22\x4d\x18" + bytes(100), "an lz4 archive"),
    "lzma": (lzma.compress(lines(GOOD), format=lzma.FORMAT_ALONE), "a .lzma archive"),
    "tar": (a_tar(), "a tar archive"),
    "tar.gz": (gzip.compress(a_tar()), "a tar archive"),
    "packed twice": (gzip.compress(bz2.compress(lines(GOOD))), "packed twice"),
    "DBN in gzip": (gzip.compress(b"DBN\x01" + bytes(100)), "its metadata are damaged"),
    "DBN of another schema": (
        b"DBN\x03" + (120).to_bytes(4, "little") + bytes(120),
        "its schema is mbo: MBP-1 or MBP-10",
    ),
    "consolidated": (
        HEADER + b",bid_pb_00,ask_pb_00\n" + GOOD + b",81,81\n",
        "consolidated quotes, and of those (cmbp-1",
    ),
    "tcbbo": (b"rtype," + HEADER + b",bid_pb_00,ask_pb_00\n178," + GOOD + b",81,81\n", "rtype is 178, tcbbo: MBP-1"),
    "snapshots": (b"rtype," + HEADER + b"\n195," + GOOD + b"\n", "bbo-1s: MBP-1 or MBP-10"),
    "consolidated JSON": (messages(GOOD).replace(b"{", b'{"rtype": 177, '), "cmbp-1, without bid_pb_00 and ask_pb_00"),
    "quotes before trades": (
        b"rtype,action," + HEADER + (b"\n1,T," + GOOD) * 5 + b"\n",
        "each of the first 5 rows is a trade (action T)",
    ),
    "text": (b"hello\n", "no column ts_event"),
    "NUL": (bytes(5000), "no column"),
}


@pytest.mark.parametrize(("content", "message"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_of_another_kind(replay, content, message):
    done = replay(content)
    assert done.status == 2
    assert message in done.err
    assert "feed.csv" in done.err
    assert "Traceback" not in done.err


def test_a_file_that_is_not_there(replay, tmp_path):
    done = replay(tmp_path / "nothing.csv")
    assert (done.status, done.results) == (2, [])
    assert f"cannot read {tmp_path}/nothing.csv: No such file or directory" in done.err
    assert replay(tmp_path).status == 2  # a folder


def test_a_header_alone(replay):
    for content in (HEADER, HEADER + b"\n", HEADER + b"\r\n"):
        done = replay(content)
        assert (done.status, done.results) == (0, [])
        assert done.summary["messages"] == 0
        assert done.summary["fill_rate"] is done.summary["cost_vs_mid_bps"] is done.summary["latency_us"]["p50"] is None


@pytest.mark.parametrize("feed", [lines(GOOD, OTHER), messages(GOOD, OTHER), b" " + messages(GOOD, OTHER)])
def test_a_byte_order_mark(replay, feed):
    done = replay(b"\xef\xbb\xbf" + feed)
    assert (done.status, len(done.results)) == (0, 2)


DATABENTO = [
    {
        "ts_recv": f"2024-08-01T13:36:00.{i}00000000Z",
        "hd": {"ts_event": f"2024-08-01T13:36:00.{i}00000000Z", "rtype": 1, "publisher_id": p, "instrument_id": 38},
        "action": "A", "side": "B", "depth": 0, "price": "222.810000000", "size": 100, "flags": 128,
        "ts_in_delta": 1000, "sequence": i,
        "levels": [{"bid_px": f"222.8{i}0000000", "ask_px": "222.840000000", "bid_sz": 200, "ask_sz": 300}],
        "symbol": "AAPL",
    }
    for i, p in ((1, 2), (2, 9), (3, 7))
]  # fmt: skip


def test_the_json_lines_of_databento(replay):
    feed = b"".join(json.dumps(record).encode() + b"\n" for record in DATABENTO)
    done = replay(feed, name="feed.json")
    assert (done.status, len(done.results)) == (0, 3)
    last = done.results[-1]
    assert [venue["bid"] for venue in last["venues"]] == [222.81, 222.83, 222.82]  # by publisher
    assert last["timestamp"] == "2024-08-01T13:36:00.300000000Z"
    VALIDATOR.validate(last)


def test_prices_of_one_file_have_one_unit(replay):
    header = b"ts_event,publisher_id,symbol,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00\n"
    rows = [
        b"2024-08-01T13:36:00.000000001Z,2,BRK.A,741500.5,742100.25,2,3\n",
        b"2024-08-01T13:36:00.100000000Z,9,BRK.A,741400,742000,1,2\n",
    ]
    for feed in (rows, rows[::-1]):
        for options in ((), ("--venues-from", "publishers")):
            done = replay(header + b"".join(feed), *options)
            assert (done.status, len(done.results), done.summary["bad"]) == (1, 1, {"price": 1})
            assert done.results[0]["venues"][0]["ask"] == 742100.25
            assert "the prices of this file are dollars: write 741400.0 for dollars" in done.err


def test_a_name_that_is_no_text(tmp_path):
    """Any bytes name a file."""
    feed = os.path.join(os.fsencode(tmp_path), b"donn\xe9es.csv")
    with open(feed, "wb") as file:
        file.write(lines(GOOD, *BAD))
    letters = tmp_path / "dead.jsonl"
    for more in ((), ("--log-format", "json"), ("--dead-letter-file", str(letters)), ("--venues-from", "publishers")):
        run = subprocess.run(timeout=60, **command(feed, *more))
        assert run.returncode == 1
        assert json.loads(run.stdout)["source"]["file"] == "donn\\xe9es.csv"
        assert b"Traceback" not in run.stderr
    assert json.loads(letters.read_text().splitlines()[0])["place"]["file"] == "donn\\xe9es.csv"
    missing = subprocess.run(timeout=60, **command(feed + b"x"))
    assert missing.returncode == 2
    assert b"Traceback" not in missing.stderr


@pytest.mark.parametrize("cut", [1, 2, 3, 5, len(GOOD), len(GOOD) + 1])
def test_a_last_line_without_an_end_is_no_row(replay, tmp_path, cut):
    """A cut row may look whole: AAPL becomes AAP, a size of 36 becomes 3."""
    whole = lines(OTHER, GOOD)
    letters = tmp_path / "dead.jsonl"
    done = replay(whole[:-cut], "--dead-letter-file", str(letters))
    rest = whole[:-cut].rpartition(b"\n")[2]
    assert [r["source"]["line"] for r in done.results] == [2]
    assert done.summary["bad"] == ({"unfinished": 1} if rest else {})
    assert done.status == (1 if rest else 0)
    dead = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [base64.b64decode(letter["raw_base64"]) for letter in dead] == ([rest] if rest else [])
    if rest:
        assert dead[0]["place"] == {"file": "feed.csv", "line": 3}
        assert "end it with a line break" in dead[0]["detail"]


def test_standard_input_that_ends_in_the_middle():
    run = subprocess.run(timeout=60, **command("-", "--venues-from", "publishers"), input=lines(GOOD, GOOD)[:-4])
    assert run.returncode == 1
    assert run.stdout.count(b"\n") == 1
    assert b"-:3: unfinished: the last line has no end" in run.stderr


def test_the_last_object_needs_no_end(replay):
    """Unlike a row it says itself where it ends."""
    feed = messages(GOOD, OTHER)
    done = replay(feed.removesuffix(b"\n"), name="feed.jsonl")
    assert (done.status, len(done.results)) == (0, 2)
    for cut in (2, 3, 20):
        done = replay(feed[:-cut], name="feed.jsonl")
        assert (done.status, len(done.results), done.summary["bad"]) == (1, 1, {"unfinished": 1})


def test_an_unfinished_header_is_told(replay):
    done = replay(HEADER[:-3])
    assert done.status == 2
    assert "the line has no end: is the file still being written?" in done.err


def test_a_line_of_three_megabytes_is_one_bad_row(replay):
    done = replay(lines(GOOD, GOOD + b"x" * 3_000_000, GOOD, b"y," * 1_500_000, GOOD))
    assert done.status == 1
    assert [r["source"]["line"] for r in done.results] == [2, 4, 6]
    assert done.summary["messages"] == 5
    assert sum(done.summary["bad"].values()) == 2
    assert len(done.err) < 10_000


def test_standard_input():
    run = subprocess.run(timeout=60, **command("-"), input=lines(GOOD, GOOD))
    assert run.returncode == 0
    assert [json.loads(line)["source"] for line in run.stdout.splitlines()] == [
        {"file": "-", "line": 2},
        {"file": "-", "line": 3},
    ]
    assert b"--venues-from levels" in run.stderr  # one publisher only: a hint, but no guess
    assert b"venues from publishers" in run.stderr
    assert json.loads(run.stdout.splitlines()[0])["venues"][0]["venue_id"] == "XNAS"


def test_standard_input_of_two_publishers_gets_no_hint():
    run = subprocess.run(timeout=60, **command("-"), input=gzip.compress(lines(GOOD, OTHER)))
    assert run.returncode == 0
    assert b"--venues-from" not in run.stderr


def test_standard_input_that_is_closed():
    run = subprocess.run(["/bin/sh", "-c", 'exec "$0" -m sor replay - <&-', sys.executable], cwd=CHECKOUT,
                         capture_output=True, check=False, timeout=60)  # fmt: skip
    assert run.returncode == 2
    assert b"Traceback" not in run.stderr


@pytest.mark.parametrize("what", ["/dev/null", "write only"])
def test_odd_standard_input(tmp_path, what):
    """With a folder there Python itself does not start."""
    flags = os.O_WRONLY | os.O_CREAT if what == "write only" else os.O_RDONLY
    descriptor = os.open(tmp_path / "file" if what == "write only" else what, flags)
    try:
        run = subprocess.run(timeout=60, **command("-", stdin=descriptor))
    finally:
        os.close(descriptor)
    assert run.returncode == 2
    assert b"Traceback" not in run.stderr
    assert re.search(rb"error: (cannot read -: \w+|- is empty)", run.stderr)


def test_standard_input_that_does_not_block():
    """Whoever has the other end may have set that; nothing there yet is not the end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = subprocess.Popen(**command("-", stdin=reading))
    try:
        for piece in (lines(GOOD), GOOD[:9], GOOD[9:] + b"\n"):
            time.sleep(2)  # it has begun by then, and looks at what is not there
            os.write(writing, piece)
        os.close(writing)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(reading)
    assert process.returncode == 0
    assert out.count(b"\n") == 2


def test_what_the_feed_doubts_is_a_warning(replay):
    header = HEADER + b",flags\n"
    nasdaq, nyse = GOOD, GOOD.replace(b"Z,2,", b"Z,9,")
    rows = [nasdaq + b",132", nyse + b",128", OTHER + b",128", nyse + b",140", nasdaq + b",130", nyse + b",0"]
    done = replay(header + b"\n".join(rows) + b"\n")
    nyse_words = (
        "XNYS: the feed says that this quote may be wrong (F_MAYBE_BAD_BOOK) and that its time of receipt is wrong"
    )
    xnas = "XNAS: the feed says that this quote may be wrong (F_MAYBE_BAD_BOOK)"
    both = [xnas, nyse_words + " (F_BAD_TS_RECV)"]
    assert [r["warnings"] for r in done.results] == [[xnas], [xnas], [], both, both[1:], []]
    assert done.status == 0
    assert done.summary["doubtful"] == {"F_MAYBE_BAD_BOOK": 2, "F_BAD_TS_RECV": 1}
    assert "doubtful 3 (F_BAD_TS_RECV 1, F_MAYBE_BAD_BOOK 2)" in done.err
    for result in done.results:
        VALIDATOR.validate(result)
    plain = replay(header + b"\n".join(row.rpartition(b",")[0] + b",128" for row in rows) + b"\n")
    assert [r | {"warnings": []} for r in done.results] == plain.results
    assert plain.summary["doubtful"] == {}
    levels = replay(header + rows[0] + b"\n" + GOOD + b",0\n", "--venues-from", "levels")
    assert [r["warnings"] for r in levels.results] == [[xnas], []]


# --- what a venue is -------------------------------------------------------------------------------------------------


def test_one_publisher_means_levels_and_says_so(replay):
    rows = [row for row in SAMPLE_LINES[1:] if row.split(b",")[3] == b"2"][:5]
    feed = b"\n".join([SAMPLE_LINES[0], *rows])
    done = replay(feed)
    assert re.search(r" - INFO - only one publisher in the first 10,?000 rows of .*--venues-from levels", done.err)
    assert [v["venue_id"] for v in done.results[0]["venues"]] == [f"venue_{i}" for i in range(10)]
    fees = [(v["fee"], v["rebate"]) for v in done.results[0]["venues"]]
    assert fees[:4] == [(0.003, 0.001), (0.002, 0.0015), (0.0025, 0.001), (0.003, 0.001)]
    cells = dict(zip(SAMPLE_LINES[0].split(b","), rows[0].split(b","), strict=True))
    for i, venue in enumerate(done.results[0]["venues"]):
        size = int(cells[b"ask_sz_%02d" % i])
        assert (venue["ask"], venue["ask_size"]) == ((float(cells[b"ask_px_%02d" % i]), size) if size else (None, 0))
    told = replay(feed, "--venues-from", "publishers")
    assert [v["venue_id"] for v in told.results[0]["venues"]] == ["XNAS"]
    assert "only one publisher" not in told.err


def test_several_publishers_are_venues(replay):
    done = replay(lines(GOOD, OTHER.replace(b"MSFT", b"AAPL")))
    assert [v["venue_id"] for v in done.results[1]["venues"]] == ["XNAS", "XNYS"]
    assert "only one publisher" not in done.err


def test_the_look_ahead_ends_after_ten_thousand_rows(replay):
    late = replay(lines(*[GOOD] * 10_000, OTHER), "--max-messages", "1")
    assert late.results[0]["venues"][0]["venue_id"] == "venue_0"
    early = replay(lines(*[GOOD] * 9_999, OTHER), "--max-messages", "1")
    assert early.results[0]["venues"][0]["venue_id"] == "XNAS"


# --- the issue's example ---------------------------------------------------------------------------------------------

ISSUE = json.loads("""
{"symbol": "AAPL", "timestamp": "2024-08-01T13:36:32.491911683Z", "order_size": 5000, "algorithm": "brute_force",
 "venues": [{"venue_id": "XNAS", "ask": 222.83, "ask_size": 36, "fee": 0.003, "rebate": 0.001, "allocation": 36}],
 "allocation": [36], "total_cost": 8056.736,
 "execution_summary": {"total_executed": 36, "underfill": 4964, "overfill": 0, "cash_spent": 8021.988,
                       "fill_rate": 0.0072},
 "parameters": {"lambda_over": 0.01, "lambda_under": 0.005, "theta_queue": 0.002, "step": 100}}
""")

OWN_VENUES = """
schema_version = 1
[[venue]]
mic = "XNAS"
name = "Nasdaq"
model = "maker-taker"
publisher_ids = [2]
[[venue.figures]]
valid_from = 2024-01-01
taker_fee = 0.003
maker_rebate = 0.001
taker_fee_verified = true
maker_rebate_verified = true
source = "our contract"
"""


def test_the_example_of_the_issue(replay, tmp_path):
    (tmp_path / "own.toml").write_text(OWN_VENUES)
    done = replay(lines(GOOD), "--venues", str(tmp_path / "own.toml"), "--venues-from", "publishers")
    (result,) = done.results
    assert list(result)[: len(ISSUE)] == list(ISSUE)

    def same(found: Any, wanted: Any) -> None:
        if isinstance(wanted, dict):
            assert [key for key in found if key in wanted] == list(wanted)
            for key in wanted:
                same(found[key], wanted[key])
        elif isinstance(wanted, list):
            assert len(found) == len(wanted)
            for one, other in zip(found, wanted, strict=True):
                same(one, other)
        elif isinstance(wanted, float):
            assert found == pytest.approx(wanted, abs=1e-9, rel=0)
        else:
            assert (type(found), found) == (type(wanted), wanted)

    same(result, ISSUE)


# --- the end -------------------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away(tmp_path):
    facts = tmp_path / "facts.json"
    shell = f'"$0" -m sor replay sample.csv --summary {facts} | head -1; exit ${{PIPESTATUS[0]}}'
    run = subprocess.run(
        ["bash", "-c", shell, sys.executable], cwd=CHECKOUT, capture_output=True, check=False, timeout=60
    )
    assert run.returncode == 141
    assert run.stdout.count(b"\n") == 1
    assert b"Traceback" not in run.stderr
    assert b"Exception" not in run.stderr
    assert_adds_up(json.loads(facts.read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_slow_pipe_at_once_with_a_summary(number):
    process = subprocess.Popen(**command("-", stdin=subprocess.PIPE, bufsize=0))
    try:
        process.stdin.write(lines(*[GOOD] * 50))  # fewer than fill a pipe with results
        assert json.loads(process.stdout.readline())["source"]["line"] == 2
        time.sleep(0.3)  # it waits for the pipe now
        process.send_signal(number)
        deadline = time.monotonic() + 5
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is not None, "still waiting for the pipe 5 s after the signal"
        out, err = process.communicate()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert b"messages 50 = results 50" in err
    assert out.count(b"\n") == 49


def test_results_of_a_slow_pipe_do_not_wait_for_a_thousand_rows():
    process = subprocess.Popen(**command("-", stdin=subprocess.PIPE, bufsize=0))
    try:
        process.stdin.write(lines(GOOD))
        os.set_blocking(process.stdout.fileno(), False)
        deadline, line = time.monotonic() + 5, None
        while not line and time.monotonic() < deadline:
            time.sleep(0.02)
            line = process.stdout.read()
        assert line
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_that_comes_in_pieces_is_the_same_feed(pack, tmp_path):
    """Pieces end within lines and between the bytes of a line's end; long lines come in many of them."""
    rows = [row for i in range(300) for row in (GOOD.replace(b",36,", b",%d," % (i + 1)), OTHER)]
    content = pack(lines(*rows, b"", GOOD + b"x" * 200_000, GOOD, end=b"\r\n"))
    whole = subprocess.run(timeout=60, **command("-"), input=content)
    results = tmp_path / "results"
    process = subprocess.Popen(**command("-", "--output", str(results), stdin=subprocess.PIPE, bufsize=0))
    try:
        sizes = itertools.cycle([1, 2, 61, 62, 63, 997, 4096])
        at = 0
        while at < len(content):
            at += process.stdin.write(content[at : at + next(sizes)])
            if at < 2000:
                time.sleep(0.002)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    out = results.read_bytes()
    assert whole.returncode == process.returncode == 1
    assert out == whole.stdout
    assert out.count(b"\n") == len(rows) + 1


def status_and_peak(path: Path, *options: str) -> tuple[int, int]:
    """Exit status of a replay, and the kilobytes that it takes at most (its own: ``ru_maxrss`` counts the parent's)."""
    script = (
        "import sys; from pathlib import Path; from sor.cli import main;"
        "status = main(['replay', *sys.argv[1:], '--output', '/dev/null']);"
        "print(status, *[line.split()[1] for line in Path('/proc/self/status').open() if 'VmHWM' in line])"
    )
    command = [sys.executable, "-c", script, str(path), *options]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True, timeout=120)
    status, kilobytes = run.stdout.split()
    return int(status), int(kilobytes)


def peak_memory(path: Path) -> int:
    status, kilobytes = status_and_peak(path)
    assert status == 0
    return kilobytes


def test_memory_stays_flat(tmp_path):
    rows, nanoseconds = SAMPLE_LINES[1:], iter(range(10**9))

    def fresh() -> bytes:  # other times and sequence numbers all along, so that nothing can be kept by value
        chunk = []
        for row in rows:
            cells = row.split(b",")
            cells[1] = b"%d" % (1_722_519_360_000_000_000 + next(nanoseconds) * 1_000_003)
            cells[12] = b"%d" % next(nanoseconds)
            chunk.append(b",".join(cells))
        return b"\n".join(chunk) + b"\n"

    short, long = tmp_path / "short.csv", tmp_path / "long.csv"
    for path, times in ((short, 2), (long, 20)):
        with path.open("wb") as file:
            file.write(SAMPLE_LINES[0] + b"\n")
            for _ in range(times):
                file.write(fresh())
    assert peak_memory(long) < 1.15 * peak_memory(short)
