"""Pytest fixtures for tests against real brokers; a plugin module.

SOR_TEST_KAFKA_SERVERS names brokers to use in place of a started one (`kafka` only: the one on ZooKeeper is
always our own). With SOR_REQUIRE_KAFKA=1 a missing broker fails the test where it would be skipped.
"""

from __future__ import annotations

import functools
import gc
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterator

import pytest

from . import KRAFT_VERSION, ZOOKEEPER_VERSION, Cluster, External, Servers, unavailable

_reason = functools.cache(unavailable)  # a fetch that fails is slow: once a run


def need_kafka(version: str = KRAFT_VERSION) -> None:
    """Skip the calling test or fixture where no broker of `version` can be started."""
    reason = _reason(version)
    if reason is None:
        return
    message = f"no Kafka {version}: {reason}"
    if os.environ.get("SOR_REQUIRE_KAFKA") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Servers]:
    """One broker for all tests, which therefore leave it running; who wants to break one starts a Cluster."""
    servers = os.environ.get("SOR_TEST_KAFKA_SERVERS")
    if servers:
        yield External(servers)
        return
    need_kafka()
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka_older() -> Iterator[Servers]:
    """One broker of the last series before 4, without ZooKeeper."""
    need_kafka(ZOOKEEPER_VERSION)
    with Cluster(version=ZOOKEEPER_VERSION, mode="kraft") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka_zookeeper() -> Iterator[Servers]:
    """One broker of the older kind, on ZooKeeper."""
    need_kafka(ZOOKEEPER_VERSION)
    with Cluster(version=ZOOKEEPER_VERSION, mode="zookeeper") as cluster:
        yield cluster


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes topic names, no two alike, from which the test can be told: topic() or topic("orders")."""
    test = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:80].strip("-")

    def unique(stem: str = "topic") -> str:
        return f"{stem}-{test}-{uuid.uuid4().hex[:8]}"

    return unique


@pytest.fixture
def refused_connections(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """For tests whose clients meet a dead broker: kafka-python 3.0.12 leaves a refused socket unclosed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        yield
        # Collect the sockets now, and not in a later test that is not prepared for the warning. The captured
        # log holds them: its records have the client's exceptions, and these the frames they went through.
        for phase in ("setup", "call"):
            caplog.get_records(phase).clear()
        gc.collect()
