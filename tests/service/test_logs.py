"""Log lines as JSON: every line that a command writes to standard error is one object, also its last."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from commands import BAD, DONE, NO_BROKER, PATIENCE, WRONG_CALL, Job, Jobs
from kafka_broker.process import HOST, free_ports

from sor.service.logs import JsonLines

KEYS = ["time", "level", "logger", "message"]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def lines_of(job: Job) -> list[dict[str, str]]:
    """Each line of standard error, every one an object of these keys."""
    lines = [json.loads(line) for line in job.err.splitlines()]
    assert lines
    for line in lines:
        assert list(line) == KEYS
        assert line["time"].endswith("Z")
        age = datetime.now(timezone.utc) - datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
        assert timedelta(0) <= age + timedelta(seconds=1) < timedelta(minutes=10)
    return lines


def formatted(**values: Any) -> str:
    record = logging.makeLogRecord({"name": "sor.x", "levelname": "WARNING", "levelno": logging.WARNING, **values})
    return JsonLines().format(record)


def test_an_object_a_line() -> None:
    line = formatted(msg='%s says "é\u2028"\n', args=("AAPL",), created=1_722_519_360.25)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2024-08-01T13:36:00.250Z", "level": "warning", "logger": "sor.x", "message": 'AAPL says "é\u2028"\n'
    }  # fmt: skip


def test_an_exception_is_text() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        line = formatted(msg="failed", exc_info=sys.exc_info())
    assert "\n" not in line
    found = json.loads(line)
    assert found["message"] == "failed"
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith("\nValueError: no such thing")


def test_what_is_no_text_is_still_a_line() -> None:
    """A name with bytes that are no UTF-8 comes as lone surrogates, which no stream can write as they are."""
    line = formatted(msg="cannot read %s", args=(b"\xff.csv".decode("utf-8", "surrogateescape"),))
    assert json.loads(line)["message"] == "cannot read \udcff.csv"
    io.TextIOWrapper(io.BytesIO(), encoding="ascii").write(line)


@pytest.mark.parametrize(("flags", "variables"), [(["--log-format", "json"], {}), ([], {"SOR_LOG_FORMAT": "json"})])
def test_a_replay(start: Any, checkout: Path, flags: list[str], variables: dict[str, str]) -> None:
    arguments = ["replay", checkout / "sample.csv", "--max-messages", 3, "--log-level", "debug"]
    job = start(*arguments, *flags, **variables)
    lines = lines_of(job.finish(DONE))
    found = {(line["level"], line["logger"]) for line in lines}
    assert {("info", "sor.service.pipelines"), ("debug", "sor.stream.pipeline"), ("info", "sor.report")} <= found
    assert "SOR Configuration: Order size: 5000" in [line["message"] for line in lines]
    assert "messages 3 = results 3 + skipped 0 + bad 0" in [line["message"] for line in lines]
    assert len(job.results) == 3


def test_the_summary_whatever_the_level(start: Any, tmp_path: Path, checkout: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text((checkout / "sample.csv").read_text().splitlines()[0] + "\nnonsense\n")
    lines = lines_of(start("replay", feed, "--log-level", "error", "--log-format", "json").finish(BAD))
    assert {line["logger"] for line in lines} == {"sor.report"}
    assert lines[0]["message"] == "messages 1 = results 0 + skipped 0 + bad 1 (cells 1)"


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "message"),
    [
        (["replay", "no.csv", "--log-format=json"], {}, WRONG_CALL, "sor replay: error: cannot read no.csv: "),
        (["replay", "--step=x", "--log-format=json"], {}, WRONG_CALL, "sor replay: error: --step is 'x': it must be"),
        (["consume"], {"SOR_LOG_FORMAT": "JSON", "STEP": "x"}, WRONG_CALL, "sor consume: error: STEP is 'x': it must"),
        (
            ["consume", "--connect-timeout=0", "--log-format=json", "--log-level=error", "--kafka-servers", "DEAD"],
            {}, NO_BROKER, "sor consume: error: no Kafka broker answered at "
        ),
    ],
)  # fmt: skip
def test_the_error_that_ends_a_command(
    start: Any, arguments: list[str], variables: dict[str, str], status: int, message: str
) -> None:
    dead = f"{HOST}:{free_ports(1)[0]}"
    job = start(*(argument.replace("DEAD", dead) for argument in arguments), **variables).finish(status)
    last = lines_of(job)[-1]
    assert (last["level"], last["logger"]) == ("error", "sor.report")
    assert last["message"].startswith(message)


def test_a_wrong_format_is_told_as_text(start: Any) -> None:
    job = start("replay", SOR_LOG_FORMAT="xml").finish(WRONG_CALL)
    assert job.err == "sor replay: error: SOR_LOG_FORMAT is 'xml': it must be one of text, json\n"


CLIENT = """
import logging, sor.service.logs
sor.service.logs.configure("debug", "text")
from kafka import KafkaAdminClient
try:
    KafkaAdminClient(bootstrap_servers="{dead}", bootstrap_timeout_ms=100, security_protocol="SASL_PLAINTEXT",
                     sasl_mechanism="PLAIN", sasl_plain_username="me", sasl_plain_password="hush-hush")
except Exception as error:
    logging.info("%s", type(error).__name__)
"""


def test_the_client_does_not_tell_its_settings() -> None:
    """Among them the password; a process of its own, as a client that finds no broker leaves its thread behind."""
    code = CLIENT.format(dead=f"{HOST}:{free_ports(1)[0]}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert " - INFO - KafkaTimeoutError" in done.stderr
    assert "hush-hush" not in done.stderr
