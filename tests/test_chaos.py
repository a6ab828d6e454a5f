"""The long runs, short: broken brokers and consumers, and mutated messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import delivery
import fuzz
import pytest
from commands import DONE, Jobs, Json, Start
from kafka_broker import Servers
from kafka_broker.fixtures import need_kafka

HARNESS = Path(__file__).parents[1] / "tools" / "chaos.py"
DEADLINE = 900.0  # seconds; the runs take one or two minutes each on a machine that is not busy


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def broken(start: Start, **options: object) -> Json:
    """The report of a run that found nothing wrong; a process of its own, as its clients lose brokers."""
    need_kafka()
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    job = start(*arguments, script=HARNESS).finish(DONE, DEADLINE)
    report: Json = json.loads(job.out)
    assert report["wrong"] == []
    return report


@pytest.mark.kafka
def test_exactly_once_while_brokers_and_consumers_are_killed(start: Start) -> None:
    report = broken(start, messages=16_000, kills=4, pauses=1, rolling=0)
    assert report["happened"]["broker killed"] == 2
    assert report["happened"].get("consumer killed", 0) + report["happened"].get("worker killed", 0) == 2
    assert report["happened"]["consumer paused"] == sum(report["zombies"].values()) == 1
    assert report["inputs"] == report["results"] + report["letters"] == 16_000
    assert report["letters"] == 16
    assert report["missing"] == report["doubled"] == report["different"] == report["stray"] == 0


@pytest.mark.kafka
def test_at_least_once_doubles_and_the_checker_sees_it(start: Start) -> None:
    options = {"messages": 8_000, "kills": 2, "pauses": 0, "rolling": 0, "brokers": 1, "consumers": 2}
    report = broken(start, **options, delivery="at-least-once")
    assert report["happened"]["consumer killed"] >= 2
    assert report["doubled"] > 0
    assert report["results"] + report["letters"] == report["inputs"] + report["doubled"]
    assert report["missing"] == report["different"] == report["stray"] == 0


@pytest.mark.kafka
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_mutated_messages_are_all_accounted_for(kafka: Servers, tmp_path: Path) -> None:
    report = fuzz.run(kafka, tmp_path, 3_000, seed=1)
    assert report["wrong"] == []
    assert report["summary"]["messages"] == report["results"] + report["letters"] == 3_000
    assert min(report["letters"], report["results"]) > 700
    assert len(report["summary"]["bad"]) >= 6


# --- the checker itself ----------------------------------------------------------------------------------------------


class Topics:
    """Topics as lists, in the place of a broker."""

    def __init__(self, count: int) -> None:
        self.records: dict[str, list[Any]] = {"input": [], "results": [], "letters": []}
        for offset, (key, value) in enumerate(delivery.feed(0, count)):
            place = {"topic": "input", "partition": 0, "offset": offset}
            self.records["input"].append(SimpleNamespace(key=key, value=value, **place))
        for offset, answer in delivery.Replay().answers(self.records["input"]):
            self._add(offset, answer)

    def _add(self, offset: int, answer: delivery.Answer) -> None:
        headers = [("sor.place", b"input:0:%d" % offset), ("sor.reason", answer.reason)]
        stream = b'"stream":{"lag":%d,"age_ms":7,"conflated":0}' % offset
        value = answer.value.replace(b'"stream":null', stream)
        topic = "letters" if answer.kind == b"letter" else "results"
        self.records[topic].append(SimpleNamespace(key=answer.key, value=value, headers=headers))

    def ends(self, servers: str, topic: str) -> dict[Any, int]:
        return {Part(0): len(self.records[topic])}

    def committed_records(
        self, servers: str, topic: str, partition: int | None = None, since: Any = None
    ) -> Iterator[Any]:
        yield from self.records[topic]


class Part:
    def __init__(self, partition: int) -> None:
        self.partition = partition


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    fake = Topics(2_000)
    monkeypatch.setattr(delivery, "ends", fake.ends)
    monkeypatch.setattr(delivery, "committed_records", fake.committed_records)
    return fake


def counts() -> tuple[int, int, int, int]:
    found = delivery.check("nowhere", "input", "results", "letters")
    return found.missing, found.doubled, found.different, found.stray


def test_what_is_right_passes(topics: Topics) -> None:
    assert counts() == (0, 0, 0, 0)
    assert len(topics.records["letters"]) == 2


def test_a_lost_answer_is_missing(topics: Topics) -> None:
    del topics.records["results"][100], topics.records["letters"][0]
    assert counts() == (2, 0, 0, 0)


def test_an_answer_given_again_is_doubled(topics: Topics) -> None:
    topics.records["results"] += topics.records["results"][5:7]
    topics.records["letters"] *= 3
    assert counts() == (0, 6, 0, 0)


def test_an_answer_on_half_a_book_is_different(topics: Topics) -> None:
    half = delivery.Replay()
    late = [answer for _, answer in half.answers(topics.records["input"][1_000:])]
    topics.records["results"] = topics.records["results"][:999]  # one of the first thousand is a dead letter
    topics.records["letters"] = topics.records["letters"][:1]
    for offset, answer in enumerate(late, 1_000):
        topics._add(offset, answer)
    missing, doubled, different, stray = counts()
    assert (missing, doubled, stray) == (0, 0, 0)
    assert 0 < different < 1_000


def test_copies_that_differ_are_different_whichever_comes_last(topics: Topics) -> None:
    good = topics.records["results"][7]
    bad = SimpleNamespace(**vars(good) | {"value": good.value.replace(b'"side":"buy"', b'"side":"sell"')})
    topics.records["results"] = [bad, *topics.records["results"]]
    assert counts() == (0, 1, 1, 0)
    topics.records["results"] = [*topics.records["results"][1:], bad]
    assert counts() == (0, 1, 1, 0)


def test_a_result_of_nothing_is_stray(topics: Topics) -> None:
    good = topics.records["results"][7]
    for old, new in ((b'"offset":7', b'"offset":70000'), (b'"topic":"input"', b'"topic":"other"')):
        topics.records["results"].append(SimpleNamespace(key=good.key, value=good.value.replace(old, new)))
    assert counts() == (0, 0, 0, 2)
