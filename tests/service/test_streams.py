"""Standard streams that are closed, full, gone or of another kind; threads; an interpreter without docstrings."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE
from kafka_broker import Servers
from kafka_broker.process import HOST
from topics import Names, committed

from sor import cli
from sor.errors import Exit
from sor.service.settings import OPTIONS

NOWHERE = ["--kafka-servers", "127.0.0.1:1", "--connect-timeout", "0"]
# What prints, with the status that it has on a stream that takes it.
PRINTING = [
    (["replay", "sample.csv", "--max-messages", "5"], 0), (["demo"], 0), (["version"], 0), (["--help"], 0),
    (["consume", "--help"], 0), (["check", *NOWHERE], 3), (["paper", "--training-samples", "1000"], 0),
]  # fmt: skip


def shell(
    checkout: Path, command: list[str], streams: str, limit: str = ":", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    names = {option.variable for option in OPTIONS}
    clean = {name: value for name, value in os.environ.items() if name not in names} | variables
    line = f'{limit}; exec "$0" "$@" {streams}'
    arguments = ["bash", "-c", line, sys.executable, "-m", "sor", *command]
    run = subprocess.run(arguments, cwd=checkout, env=clean, capture_output=True, timeout=5 * PATIENCE, check=False)
    assert b"Traceback" not in run.stderr
    assert b"Exception ignored" not in run.stderr
    return run


@pytest.mark.parametrize(("streams", "why"), [(">&-", b"is closed"), ("> /dev/full", b"No space left on device")])
@pytest.mark.parametrize(("command", "well"), PRINTING, ids=lambda value: value[0] if type(value) is list else "")
def test_output_that_takes_nothing(checkout: Path, command: list[str], well: int, streams: str, why: bytes) -> None:
    run = shell(checkout, command, streams, PYTHONUNBUFFERED="1" if command[-1] == "--help" else "")
    assert run.returncode == Exit.STREAM_FAILED, run.stderr
    assert b"standard output" in run.stderr.splitlines()[-1]
    assert why in run.stderr.splitlines()[-1]


@pytest.mark.parametrize("streams", ["2>&-", "2> /dev/full", "<&-", "<&- 2>&-"])
@pytest.mark.parametrize(("command", "well"), PRINTING[:3], ids=lambda value: value[0] if type(value) is list else "")
def test_the_other_streams_are_not_needed(checkout: Path, command: list[str], well: int, streams: str) -> None:
    run = shell(checkout, command, streams)
    assert run.returncode == well
    assert run.stdout == shell(checkout, command, "").stdout != b""


def test_a_file_does_not_get_the_number_of_a_closed_stream(checkout: Path, tmp_path: Path) -> None:
    """Or log lines would stand among the results."""
    for streams in ("2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        out = tmp_path / "out"
        run = shell(checkout, ["replay", "sample.csv", "--max-messages", "5", "--output", str(out)], streams)
        assert run.returncode == 0, streams
        assert len(out.read_bytes().splitlines()) == 5


def test_standard_input_that_is_closed(checkout: Path) -> None:
    run = shell(checkout, ["replay", "-"], "<&-")
    assert (run.returncode, run.stdout) == (Exit.WRONG_CALL, b"")
    assert b"standard input is closed" in run.stderr


@pytest.mark.parametrize("command", [["replay", "sample.csv"], ["version"]])
def test_a_reader_that_has_gone(checkout: Path, command: list[str]) -> None:
    run = shell(checkout, command, "| true; exit ${PIPESTATUS[0]}")
    assert run.returncode in (0, Exit.BROKEN_PIPE)  # what fits into the pipe may have been taken
    if command[0] == "replay":
        assert run.returncode == Exit.BROKEN_PIPE


SMALL_DISK_KB = 4500  # a batch of results fits, and not two
SMALL_DISK = f"ulimit -f {SMALL_DISK_KB}"
FULL = [
    ("> /dev/full", ":", b"No space left on device"),
    ("> {0}", SMALL_DISK, b"File too large"),
    (">&-", ":", b"is closed"),
]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_fills_up(checkout: Path, tmp_path: Path, unbuffered: str) -> None:
    """Whether Python keeps back what it writes, as in a shell, or not, as in containers."""
    command = ["replay", "sample.csv"]
    run = shell(checkout, command, f"> {tmp_path}/out", SMALL_DISK, PYTHONUNBUFFERED=unbuffered)
    assert run.returncode == Exit.STREAM_FAILED
    assert b"File too large" in run.stderr.splitlines()[-1]
    whole = shell(checkout, command, "").stdout
    assert b"" != (tmp_path / "out").read_bytes() == whole[: SMALL_DISK_KB * 1024] != whole


@pytest.mark.kafka
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_no_message_is_committed_whose_result_was_not_written(
    kafka: Servers, topic: Names, checkout: Path, tmp_path: Path, unbuffered: str
) -> None:
    """At least once, on a disk that is full at once or after a while; who mends it and starts again has them all."""
    market = kafka.create_topic(topic())
    servers = ["--kafka-servers", kafka.bootstrap, "--topic", market]
    assert shell(checkout, ["produce", "sample.csv", *servers], "").returncode == 0
    for number, (streams, limit, why) in enumerate(FULL):
        group, file = topic(f"group-{number}"), tmp_path / str(number)
        command = ["consume", *servers, "--group", group, "--max-messages", "2000", "--log-level", "warning"]
        run = shell(checkout, command, streams.format(file), limit, PYTHONUNBUFFERED=unbuffered)
        assert run.returncode == Exit.STREAM_FAILED, run.stderr
        assert why in run.stderr.splitlines()[-1]
        *whole, _ = file.read_bytes().split(b"\n") if file.exists() else [b""]
        done = committed(kafka, group, market)[0]
        assert done <= len(whole)
        assert bool(done) == bool(whole), "what was written is not answered again"
        command[command.index("2000")] = str(2000 - done)
        rest = shell(checkout, command, "")
        assert rest.returncode == 0, rest.stderr
        answered = [json.loads(line)["source"]["offset"] for line in [*whole[:done], *rest.stdout.splitlines()]]
        assert answered == list(range(2000))


def test_a_port_that_is_taken_is_found_before_a_broker_is_asked(checkout: Path) -> None:
    nobody = ["consume", "--kafka-servers", "127.0.0.1:1", "--connect-timeout", "600"]
    with socket.create_server((HOST, 0)) as taken:
        ours = ["--metrics-host", HOST, "--metrics-port", str(taken.getsockname()[1])]
        foreign = ["--metrics-host", "192.0.2.1", "--metrics-port", "9464"]
        for at in (ours, foreign):
            for workers in ([], ["--workers", "2", "--results-topic", "results"]):
                run = shell(checkout, [*nobody, *at, *workers], "")
                assert (run.returncode, run.stdout) == (Exit.WRONG_CALL, b"")
                assert b"cannot listen at --metrics-host " in run.stderr.splitlines()[-1]


@pytest.mark.parametrize("feed", ["-", "FEED"])
def test_the_file_behind_a_stream_is_not_read_and_written(checkout: Path, tmp_path: Path, feed: str) -> None:
    file = tmp_path / "feed.csv"
    file.write_bytes((checkout / "sample.csv").read_bytes())
    before = file.read_bytes()
    path = str(file) if feed == "FEED" else "-"
    streams = f"< {file}" if feed == "-" else ""
    for more, output in (([], f">> {file}"), ([], f"> {tmp_path}/out 2>> {file}"), (["--output", str(file)], "")):
        run = shell(checkout, ["replay", path, *more], f"{streams} {output}")
        assert run.returncode == Exit.WRONG_CALL
        assert file.read_bytes().startswith(before)
        assert len(file.read_bytes()) < len(before) + 500  # no more than the line that says so


@pytest.mark.parametrize("streams", ["> {0}", "2> {0}"])
def test_a_summary_is_not_where_a_stream_goes(checkout: Path, tmp_path: Path, streams: str) -> None:
    file = tmp_path / "file"
    run = shell(checkout, ["replay", "sample.csv", "--summary", str(file)], streams.format(file))
    assert run.returncode == Exit.WRONG_CALL


def test_both_streams_may_go_to_one_file(checkout: Path, tmp_path: Path) -> None:
    run = shell(checkout, ["replay", "sample.csv", "--max-messages", "5"], f"> {tmp_path}/all 2>&1")
    assert run.returncode == 0


def test_an_encoding_that_has_few_characters(checkout: Path) -> None:
    for command, well in PRINTING:
        assert shell(checkout, command, "", PYTHONIOENCODING="ascii").returncode == well


@pytest.mark.parametrize("command", [["replay", "sample.csv", "--max-messages", "5"], ["version"], ["demo"]])
def test_streams_of_text_as_a_notebook_has_them(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], command: list[str]
) -> None:
    monkeypatch.chdir(checkout)
    assert cli.main(command) == Exit.DONE
    expected = capfdbinary.readouterr().out
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    for _ in range(2):  # main may be called again
        assert cli.main(command) == Exit.DONE
    assert shown.getvalue().encode() == 2 * expected != b""
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(command) == Exit.STREAM_FAILED


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["replay", "sample.csv", "--output", "/dev/null"], Exit.DONE), (["version"], Exit.DONE),
        (["replay", "sample.csv", "--order-size", "0"], Exit.WRONG_CALL), (["demo"], Exit.DONE),
        (["produce", "sample.csv", *NOWHERE], Exit.NO_BROKER), (["consume", *NOWHERE], Exit.NO_BROKER),
    ],
)  # fmt: skip
def test_in_a_thread(checkout: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: Exit) -> None:
    monkeypatch.chdir(checkout)
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(cli.main(arguments)))
    thread.start()
    thread.join()
    assert seen == [status]


@pytest.mark.parametrize("command", [*cli.COMMANDS, None])
def test_help_needs_no_docstrings(checkout: Path, command: str | None) -> None:
    arguments = [*([command] if command else []), "--help"]
    plain = shell(checkout, arguments, "")
    bare = shell(checkout, arguments, "", PYTHONOPTIMIZE="2")
    assert (bare.returncode, bare.stdout) == (0, plain.stdout)
    assert command is None or cli.COMMANDS[command].help.split()[0].encode() in bare.stdout


def test_a_name_that_is_not_utf8(checkout: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/donn\xe9es.csv"
    Path(os.fsdecode(name)).write_bytes((checkout / "sample.csv").read_bytes())
    for form in ("text", "json"):
        run = shell(checkout, ["replay", os.fsdecode(name), "--log-format", form, "--max-messages", "5"], "")
        assert run.returncode in (0, Exit.WRONG_CALL)
        run.stderr.decode()
        gone = shell(checkout, ["replay", os.fsdecode(name) + "x", "--log-format", form], "")
        assert gone.returncode == Exit.WRONG_CALL
        assert "donn\\udce9es" in gone.stderr.decode().replace("\\\\", "\\")
