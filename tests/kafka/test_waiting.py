"""What waits for brokers, and what is used of a client beyond its public names; no broker is needed."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sor.errors import Exit, InputError
from sor.kafka import handshake, kafka_python, private
from sor.kafka.common import ClientError, Kind, retried
from sor.kafka.reader import KafkaFeed
from sor.kafka.security import Connection
from sor.kafka.waiting import Deadline, Watchdog, patience


def test_the_watchdog_acts_once_where_a_block_takes_too_long_and_never_else() -> None:
    watchdog, acted = Watchdog(), []
    with watchdog.guard(0.2, lambda: acted.append("long")):
        for _ in range(200):
            with watchdog.guard(60, lambda: acted.append("short")):
                pass
        assert acted == []
        time.sleep(0.7)
    time.sleep(0.3)
    assert acted == ["long"]
    with watchdog.guard(0.05, lambda: acted.append("again")):  # after it has had nothing to do
        time.sleep(0.5)
    assert acted == ["long", "again"]
    assert sum(thread.name == "watchdog" for thread in threading.enumerate()) <= 2  # this one, and the process's


def test_a_line_is_logged_where_an_answer_takes_long_but_not_where_it_fails_anyway(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sor.kafka.waiting.PATIENCE_S", 0.2)
    with patience("waiting for it", 10):
        time.sleep(0.6)
    with patience("about to fail", 0.3):
        time.sleep(0.4)
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == ["waiting for it"]


def test_a_commit_that_hangs_ends_the_process_with_its_status() -> None:
    program = (
        "import logging, time; logging.basicConfig(); from sor.kafka.waiting import watched\n"
        "with watched('committing', 0.2): time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == Exit.HUNG
    assert "committing took more than 0.2 s: ending, so that a successor can go on (status 6)" in done.stderr


def test_where_market_data_ends_is_asked_again_while_a_broker_goes(caplog: pytest.LogCaptureFixture) -> None:
    """Else orders would be answered at once, with a warning that they need not have."""
    answers: list[Any] = [ClientError(Kind.RETRIABLE, "not the leader"), ClientError(Kind.RETRIABLE, "gone"), {3: 7}]

    def ends(topic: str, partitions: set[int], seconds: float) -> dict[int, int]:
        assert (topic, partitions) == ("market", {3})
        assert 0 <= seconds <= 20
        if isinstance(answers[0], ClientError):
            raise answers.pop(0)
        return answers[0]

    feed = KafkaFeed(SimpleNamespace(ends=ends), None, None, "market")  # type: ignore[arg-type]
    assert feed.ends({3}, 20) == {3: 7}
    assert not caplog.records
    answers[:] = [ClientError(Kind.RETRIABLE, "gone")] * 50
    assert feed.ends({3}, 0.2) == {}
    answers[:] = [ClientError(Kind.REFUSED, "not yours"), {3: 7}]
    assert feed.ends({3}, 20) == {}
    assert [record.message for record in caplog.records] == [
        "cannot tell where market ends: gone",
        "cannot tell where market ends: not yours",
    ]


def test_a_deadline() -> None:
    deadline = Deadline(0.15)
    assert not deadline.passed
    began = time.monotonic()
    while deadline.pause(0.05):
        pass
    assert 0.14 < time.monotonic() - began < 5
    assert (deadline.passed, deadline.left, deadline.pause(9)) == (True, 0.0, False)


@pytest.mark.parametrize(("kind", "calls"), [(Kind.RETRIABLE, 3), (Kind.FATAL, 1), (Kind.REFUSED, 1)])
def test_what_may_yet_be_answered_is_asked_again(kind: Kind, calls: int) -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise ClientError(kind, "not now")
        return "answer"

    if kind is Kind.RETRIABLE:
        assert retried(ask, 10) == "answer"
    else:
        with pytest.raises(ClientError):
            retried(ask, 10)
    assert len(asked) == calls


def test_brokers_are_greeted_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    greeted: list[str] = []
    monkeypatch.setattr(handshake, "_greeted", set())
    monkeypatch.setattr(handshake, "_greet", lambda server, connection: greeted.append(server))
    one, other = Connection("one:1", 1), Connection("two:2", 1)
    assert all(handshake.greet(connection) for connection in (one, one, other, Connection("one:1", 1)))
    assert greeted == ["one:1", "two:2"]


# --- beyond public names ---------------------------------------------------------------------------------------------


def test_a_client_without_a_name_that_is_used_is_refused() -> None:
    """One plain assignment would else do nothing after a renaming, and lose the fence."""
    private.check()

    class Renamed:
        def __init__(self) -> None:
            self._pending = 1

    kinds: list[Any] = [Renamed]
    with pytest.raises(InputError, match=r"Renamed._supports_epoch_bump, Renamed._sender missing.*>=3.0.12,<3.1"):
        private.check(((kinds[0], "_supports_epoch_bump"),), ((kinds[0], "_sender"), (kinds[0], "_pending")))


@pytest.mark.parametrize(
    ("kind", "name"), [*private.METHODS, *private.ATTRIBUTES], ids=lambda value: getattr(value, "__name__", value)
)
def test_each_name_is_looked_for(kind: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (kind, name) in private.METHODS:
        owner = next(one for one in kind.__mro__ if name in vars(one))
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(kind, "__init__", lambda self: None)
    with pytest.raises(InputError, match=f"{kind.__name__}.{name}"):
        private.check()


def test_nobody_else_uses_what_is_private_of_kafka_python() -> None:
    """Outside of one module: its own names with an underscore, after a client's object."""
    import re
    from pathlib import Path

    used = re.compile(r"(?:consumer|producer|admin|client)\)?\._(?!asdict)[a-z_]+")
    folder = Path(private.__file__).parents[1]
    found = {
        f"{path.relative_to(folder)}: {match}"
        for path in folder.rglob("*.py")
        if path.name != "private.py"
        for match in used.findall(path.read_text())
    }
    assert found == set()


def test_a_group_s_generation_in_another_form_is_refused() -> None:
    confluent = pytest.importorskip("sor.kafka.confluent")
    assert confluent.generation_in(b"CGMDv2:\x07\x00\x00\x00group") == 7
    assert confluent.generation_in(b"CGMDv2:\xff\xff\xff\xffgroup") == -1
    with pytest.raises(InputError, match="is not one that this program knows"):
        confluent.generation_in(b"CGMDv3:\x07\x00\x00\x00group")


def test_a_missing_codec_is_named() -> None:
    from kafka.errors import UnsupportedCodecError

    error = kafka_python._client_error(UnsupportedCodecError("Libraries for zstd compression codec not found"))
    assert error.kind is Kind.REFUSED
    assert "zstd compression codec not found: pip install 'kafka-python[lz4,snappy,zstd]'" in str(error)


def test_errors_of_rights_are_refusals() -> None:
    from kafka import errors

    for kind in (errors.TopicAuthorizationFailedError, errors.TransactionalIdAuthorizationFailedError):
        assert kafka_python._client_error(kind("t")).kind is Kind.REFUSED
    confluent = pytest.importorskip("sor.kafka.confluent")
    error = SimpleNamespace(
        code=lambda: confluent.KafkaError.TOPIC_AUTHORIZATION_FAILED,
        name=lambda: "TOPIC_AUTHORIZATION_FAILED",
        str=lambda: "no",
        fatal=lambda: False,
        retriable=lambda: False,
    )
    assert confluent._client_error(error).kind is Kind.REFUSED
