"""The harness that starts real Kafka: each broker works, keeps its data and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka_broker import Cluster, Servers, Unavailable, find_or_fetch_jars, unavailable
from kafka_broker.fixtures import need_kafka

Names = Callable[..., str]


def send(servers: str, topic: str, *values: bytes) -> None:
    with KafkaProducer(bootstrap_servers=servers) as producer:
        for value in values:
            producer.send(topic, value, partition=0).get(timeout=30)


def read(servers: str, topic: str, count: int, seconds: float = 30) -> list[bytes]:
    """The first `count` messages of partition 0."""
    values: list[bytes] = []
    deadline = time.monotonic() + seconds
    with KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", group_id=None) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        while len(values) < count and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=500).values():
                values.extend(record.value for record in records)
    return values


@pytest.fixture(scope="module")
def fragile() -> Iterator[Cluster]:
    """A broker of this module's own, to be killed."""
    need_kafka()
    with Cluster() as cluster:
        yield cluster


@pytest.mark.kafka
@pytest.mark.parametrize("kind", ["kafka", "kafka_zookeeper"])
def test_round_trip(kind: str, request: pytest.FixtureRequest, topic: Names) -> None:
    servers: Servers = request.getfixturevalue(kind)
    name = servers.create_topic(topic(), partitions=2)
    send(servers.bootstrap, name, b"one", b"two")
    assert read(servers.bootstrap, name, 2) == [b"one", b"two"]


@pytest.mark.kafka
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_restart_keeps_address_and_data(fragile: Cluster, topic: Names, end: str) -> None:
    node = fragile.nodes[0]
    name = fragile.create_topic(topic())
    send(fragile.bootstrap, name, b"before")
    getattr(node, end)()
    assert not node.answers()
    node.start()
    send(fragile.bootstrap, name, b"after")
    assert read(fragile.bootstrap, name, 2) == [b"before", b"after"]


@pytest.mark.kafka
def test_restart_on_zookeeper(kafka_zookeeper: Cluster, topic: Names) -> None:
    name = kafka_zookeeper.create_topic(topic())
    send(kafka_zookeeper.bootstrap, name, b"before")
    kafka_zookeeper.nodes[0].kill()
    kafka_zookeeper.nodes[0].start()
    assert read(kafka_zookeeper.bootstrap, name, 1) == [b"before"]


@pytest.mark.kafka
def test_a_paused_broker_does_not_answer(fragile: Cluster) -> None:
    node = fragile.nodes[0]
    node.pause()
    assert not node.answers()
    node.resume()
    node.await_answer(30)


@pytest.mark.kafka
@pytest.mark.usefixtures("refused_connections")
def test_two_of_three_nodes_keep_what_was_written(topic: Names) -> None:
    need_kafka()
    with Cluster(nodes=3) as cluster:
        name = cluster.create_topic(topic())
        send(cluster.bootstrap, name, b"to three")
        cluster.nodes[0].kill()
        send(cluster.bootstrap, name, b"to two")
        assert read(cluster.bootstrap, name, 2) == [b"to three", b"to two"]
        cluster.nodes[0].start()


VICTIM = """
import time
from kafka_broker import Cluster
with Cluster() as cluster:
    print(cluster.nodes[0].pid, cluster.nodes[0].folder.parent, flush=True)
    time.sleep(600)
"""


@pytest.mark.kafka
def test_the_broker_dies_with_a_killed_python() -> None:
    need_kafka()
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", VICTIM]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        broker, folder = victim.stdout.readline().split()
        assert Path(folder).is_dir()
        victim.kill()
    deadline = time.monotonic() + 20
    while (runs(int(broker)) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not runs(int(broker))
    assert not Path(folder).exists()


def runs(pid: int) -> bool:
    """Whether the process is there and more than a zombie, which a container without an init never reaps."""
    try:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    except FileNotFoundError:
        pytest.skip("no ps")
    return bool(state.strip()) and not state.startswith("Z")


@pytest.fixture
def fake_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in Maven's place, before an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def install(script: str) -> None:
        (tmp_path / "mvn").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "mvn").chmod(0o755)

    return install


def test_the_reason_is_maven_s_own(fake_maven: Callable[[str], None], tmp_path: Path) -> None:
    fake_maven("echo '[INFO] busy'; echo '[ERROR] no route to host'; exit 1")
    with pytest.raises(Unavailable, match="no route to host"):
        find_or_fetch_jars("4.1.1")
    assert [path.name for path in (tmp_path / "cache" / "sor-tests").iterdir()] == ["kafka-4.1.1.lock"]


def test_two_at_once_fetch_once(fake_maven: Callable[[str], None], tmp_path: Path) -> None:
    copy = 'for word; do case $word in -DoutputDirectory=*) mkdir "${word#*=}";; esac; done'
    fake_maven(f"sleep 0.3; echo run >> {tmp_path}/runs; {copy}")
    threads = [threading.Thread(target=find_or_fetch_jars, args=("4.1.1",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert find_or_fetch_jars("4.1.1") == tmp_path / "cache" / "sor-tests" / "kafka-4.1.1"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_the_reason_is_missing_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unavailable() == "no java on PATH"
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert unavailable() == f"no java in JAVA_HOME ({tmp_path})"
