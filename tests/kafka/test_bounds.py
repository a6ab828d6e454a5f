"""Where a partition begins and ends, asked for as its leader changes: between the client and the broker stands who
answers the first question as a broker does that has just lost a partition, together with the answer to the second.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

import pytest
from kafka_broker import Cluster, External
from kafka_broker.fixtures import need_kafka
from kafka_broker.process import HOST, free_ports
from test_clients import client
from topics import send

from sor.kafka.common import Identity
from sor.kafka.security import Connection

pytestmark = pytest.mark.kafka

__all__ = ["client"]  # a fixture
LIST_OFFSETS, NOT_LEADER = 2, 6
EARLIEST = struct.pack(">q", -2)
COUNT = 7


class Between:
    """Passes on what clients and a broker say, and makes so many answers about a partition's begin errors."""

    def __init__(self, port: int, broker: int) -> None:
        self.errors = 0  # to come
        self._broker = broker
        self._server = socket.create_server((HOST, port))
        self._sockets = [self._server]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=self._until_closed, args=(work, *arguments))
        self._threads.append(thread)
        thread.start()

    def _until_closed(self, work: object, *arguments: object) -> None:
        with suppress(OSError, EOFError):
            work(*arguments)  # type: ignore[operator]
        for one in arguments:
            if isinstance(one, socket.socket):
                _wake(one)

    def _accept(self) -> None:
        while True:
            near, _ = self._server.accept()
            far = socket.create_connection((HOST, self._broker))
            self._sockets += [near, far]
            asked: dict[int, tuple[int, bool]] = {}
            self._start(self._questions, near, far, asked)
            self._start(self._answers, far, near, asked)

    def _questions(self, near: socket.socket, far: socket.socket, asked: dict[int, tuple[int, bool]]) -> None:
        while True:
            frame = _frame(near)
            key, version, number = struct.unpack_from(">hhi", frame)
            if key == LIST_OFFSETS:
                asked[number] = version, EARLIEST in frame
            far.sendall(_framed(frame))

    def _answers(self, far: socket.socket, near: socket.socket, asked: dict[int, tuple[int, bool]]) -> None:
        held = b""
        while True:
            try:
                far.settimeout(0.2 if held else None)
                frame = _frame(far)
            except TimeoutError:  # no second question
                near.sendall(held)
                held = b""
                continue
            version, first = asked.pop(struct.unpack_from(">i", frame)[0], (0, False))
            if first and self.errors:
                self.errors -= 1
                # The error is followed by time, offset, epoch, and from version 6 on by three ends of tags.
                struct.pack_into(">h", frame, len(frame) - (25 if version >= 6 else 22), NOT_LEADER)
                held += _framed(frame)
            else:
                near.sendall(held + _framed(frame))
                held = b""

    def close(self) -> None:
        for one in self._sockets:
            _wake(one)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()


def _wake(one: socket.socket) -> None:
    """End what waits for it; closing it would not."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _frame(source: socket.socket) -> bytearray:
    (size,) = struct.unpack(">i", _exactly(source, 4))
    return _exactly(source, size)


def _exactly(source: socket.socket, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _framed(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


@pytest.fixture
def between() -> Iterator[tuple[Between, Connection]]:
    """Stands at the port that a broker of our own gives to clients."""
    need_kafka()
    (port,) = free_ports(1)
    with Cluster(settings={"advertised.listeners": f"PLAINTEXT://{HOST}:{port}"}) as cluster:
        between = Between(port, int(cluster.bootstrap.rpartition(":")[2]))
        try:
            yield between, Connection(f"{HOST}:{port}", 30)
        finally:
            between.close()


def test_a_partition_is_not_taken_for_empty(client: ModuleType, between: tuple[Between, Connection]) -> None:
    """Or nothing would be known of what it holds."""
    middle, connection = between
    servers = External(connection.servers)
    name = servers.create_topic("bounds")
    send(servers, name, [b"something"] * COUNT)
    reader = client.open_reader(connection)
    for _ in range(10):
        middle.errors = 1
        assert reader.bounds(name, 0) == (0, COUNT)
        assert not middle.errors
    source = client.open_source(connection, name, Identity("group", None), "earliest", transactional=False)
    assert source.group.bounds(0) == (0, COUNT)
    source.close()
    reader.close()
