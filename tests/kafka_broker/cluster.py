"""Clusters of real Kafka brokers, started from the jars for a test and gone after it."""

from __future__ import annotations

import base64
import socket
import struct
import time
import uuid
import warnings
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from .jars import KRAFT_VERSION, find_java, find_or_fetch_jars
from .process import HOST, JavaProcess, Workspace, free_ports

with warnings.catch_warnings():
    # On Python 3.11 and 3.12 the import of kafka-python calls a deprecated function, and warnings are errors.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient

Settings = Mapping[str, object]

# ZooKeeper forgets a killed broker only after this time, and refuses the same broker id until then.
ZOOKEEPER_SESSION_SECONDS = 4.0
ZOOKEEPER_TICK_SECONDS = 0.5

COMMON_SETTINGS: Settings = {
    "auto.create.topics.enable": "false",  # a mistyped topic is to fail
    # A controller takes a restarted broker back only when the session of its former life is over, by default
    # after 9 s. As long, too, the partitions of a dead broker have no leader.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,  # tests of dead members need not wait 6 s
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "log.retention.ms": -1,  # recorded messages bear old time stamps and are not to expire
    # Small: partitions of internal topics, files, buffers and threads that a test has no use for.
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 4,
    "log.segment.bytes": 16 << 20,
    "log.index.size.max.bytes": 1 << 20,
    "offsets.topic.segment.bytes": 4 << 20,
    "log.cleaner.dedupe.buffer.size": 8 << 20,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
}


class Listener(NamedTuple):
    """One more port of every broker, for clients only: the brokers and the tests' own clients use the plain one."""

    protocol: str  # SSL, SASL_PLAINTEXT or SASL_SSL
    settings: Settings  # of this listener alone
    host: str = HOST  # as the brokers give it to clients


class Servers:
    """What a test needs of any Kafka: where it is, and topics."""

    bootstrap: str

    def create_topic(self, name: str, partitions: int = 1, configs: Settings | None = None) -> str:
        """Create a topic with the broker's default replication, wait for its leaders, return its name."""
        values = {key: str(value) for key, value in (configs or {}).items()}
        wanted = {name: {"num_partitions": partitions, "configs": values}}
        with KafkaAdminClient(bootstrap_servers=self.bootstrap) as admin:
            admin.create_topics(wanted, wait_for_metadata=True)
        return name


class External(Servers):
    """Brokers that somebody else runs."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


class Node(JavaProcess):
    """A broker; in KRaft mode it is a controller too."""

    def __init__(
        self, cluster: Cluster, workspace: Workspace, number: int, port: int, more_ports: Mapping[str, int]
    ) -> None:
        super().__init__(workspace, f"broker-{number}", port)
        self.id = number
        self.more_ports = more_ports  # by name of the listener
        self.bootstrap = f"{HOST}:{port}"
        self.properties = self.folder / "server.properties"
        self._cluster = cluster
        self._forgotten_at = 0.0

    def start(self, timeout: float | None = None) -> None:
        """Start again after kill() or stop(), with the same port and data, and wait for the first answer."""
        time.sleep(max(0.0, self._forgotten_at - time.monotonic()))
        self.launch_server()
        self.await_answer(timeout or self._cluster.timeout)

    def launch_server(self) -> None:
        self._cluster.launch(self, "kafka.Kafka", str(self.properties))

    def kill(self) -> None:
        if self.pid and self._cluster.mode == "zookeeper":
            self._forgotten_at = time.monotonic() + ZOOKEEPER_SESSION_SECONDS + 2 * ZOOKEEPER_TICK_SECONDS
        super().kill()

    def answers(self) -> bool:
        """Whether this broker counts itself among the living ones: in service, not merely listening."""
        try:
            return self.id in living_brokers(self.port)
        except (OSError, struct.error):
            return False


def living_brokers(port: int) -> set[int]:
    """Ids of the brokers that the broker at `port` knows to be in service; OSError if it does not answer.

    Asked by hand (a Metadata request, version 1, for no topics): a kafka-python client that finds no broker
    leaves its thread and sockets behind.
    """
    request = struct.pack(">hhihi", 3, 1, 0, -1, 0)
    with socket.create_connection((HOST, port), timeout=2) as connection, connection.makefile("rb") as answer:
        connection.sendall(struct.pack(">i", len(request)) + request)
        _size, _correlation, count = _read(answer, ">iii")
        return {_read_broker(answer) for _ in range(count)}


def _read_broker(answer: BufferedReader) -> int:
    (number,) = _read(answer, ">i")
    _read_string(answer)  # host
    _read(answer, ">i")  # port
    _read_string(answer)  # rack
    return number


def _read_string(answer: BufferedReader) -> None:
    (length,) = _read(answer, ">h")
    answer.read(max(0, length))


def _read(answer: BufferedReader, form: str) -> tuple[int, ...]:
    return struct.unpack(form, answer.read(struct.calcsize(form)))


class Cluster(Servers):
    """Kafka brokers on free loopback ports, from `with Cluster(...) as kafka:` to the end of the block.

    `mode` is "kraft", or "zookeeper" for versions before 4. Topics are replicated on all nodes, and half
    of the replicas or more have to be in sync for a write. `settings` go before the built-in ones.
    `listeners` (KRaft only) are further ports by name, with TLS or a login; `users` are passwords by name, known to
    listeners with SCRAM.
    The end of the block kills the processes and removes their data.
    """

    def __init__(
        self,
        nodes: int = 1,
        version: str = KRAFT_VERSION,
        mode: str = "kraft",
        *,
        settings: Settings | None = None,
        listeners: Mapping[str, Listener] | None = None,
        users: Mapping[str, str] | None = None,
        heap_mb: int = 384,
        timeout: float = 60,
    ) -> None:
        if mode not in ("kraft", "zookeeper"):
            raise ValueError(f"mode is {mode!r}, not 'kraft' or 'zookeeper'")
        if mode == "zookeeper" and (listeners or users):
            raise ValueError("listeners and users are for KRaft only")
        self.version = version
        self.mode = mode
        self.timeout = timeout
        self.nodes: list[Node] = []
        self._count = nodes
        self._settings = dict(settings or {})
        self._listeners = dict(listeners or {})
        self._users = dict(users or {})
        self._heap_mb = heap_mb
        self._java = find_java(version)
        self._jars = find_or_fetch_jars(version)

    def __enter__(self) -> Cluster:
        self._workspace = Workspace()
        try:
            self._start()
        except BaseException:  # KeyboardInterrupt too: nobody else would end what runs by now
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._workspace.close()

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.nodes)

    def at(self, listener: str, host: str = HOST) -> str:
        """Where the brokers listen by that name."""
        return ",".join(f"{host}:{node.more_ports[listener]}" for node in self.nodes)

    def launch(self, process: JavaProcess, main: str, *arguments: str) -> None:
        process.launch(self._java, self._jars, self._heap_mb, main, *arguments)

    def _start(self) -> None:
        # for each node one for clients, one for the controller (the first of them for ZooKeeper), and the listeners'
        ports = free_ports((2 + len(self._listeners)) * self._count)
        clients, others, more = (
            ports[: self._count],
            ports[self._count : 2 * self._count],
            iter(ports[2 * self._count :]),
        )
        self.nodes = [
            Node(self, self._workspace, number, port, dict(zip(self._listeners, more, strict=False)))
            for number, port in enumerate(clients, 1)
        ]
        if self.mode == "kraft":
            self._prepare_kraft(others)
        else:
            self._prepare_zookeeper(others[0])
        for node in self.nodes:  # all before the first wait: a controller alone has no quorum
            node.launch_server()
        for node in self.nodes:
            node.await_answer(self.timeout)

    def _prepare_kraft(self, ports: list[int]) -> None:
        voters = ",".join(f"{node.id}@{HOST}:{port}" for node, port in zip(self.nodes, ports, strict=True))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        for node, port in zip(self.nodes, ports, strict=True):
            clients, controller = f"PLAINTEXT://{node.bootstrap}", f"CONTROLLER://{HOST}:{port}"
            self._write_properties(
                node,
                {
                    "process.roles": "broker,controller",
                    "node.id": node.id,
                    "controller.quorum.voters": voters,
                    "controller.listener.names": "CONTROLLER",
                    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                    "listeners": f"{clients},{controller}",
                    **self._more_listeners(node, clients, controller),
                },
            )
            storage = ("format", f"--cluster-id={cluster_id}", "-c", str(node.properties))
            self.launch(node, "kafka.tools.StorageTool", *storage, *self._credentials())
        for node in self.nodes:
            node.finish(self.timeout)

    def _more_listeners(self, node: Node, clients: str, controller: str) -> dict[str, object]:
        if not self._listeners:
            return {}
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        protocols |= {name: listener.protocol for name, listener in self._listeners.items()}
        ports = node.more_ports.items()
        settings: dict[str, object] = {
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "listeners": ",".join([clients, controller, *(f"{name}://{HOST}:{port}" for name, port in ports)]),
            "advertised.listeners": ",".join(
                [clients, *(f"{name}://{self._listeners[name].host}:{port}" for name, port in ports)]
            ),
        }
        for name, listener in self._listeners.items():
            settings |= {f"listener.name.{name.lower()}.{key}": value for key, value in listener.settings.items()}
        return settings

    def _credentials(self) -> list[str]:
        """The storage tool's options that make the users, as a broker with a login has to know them from the start."""
        return [
            f"--add-scram={mechanism}=[name={name},password={password}]"
            for name, password in self._users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]

    def _prepare_zookeeper(self, port: int) -> None:
        zookeeper = JavaProcess(self._workspace, "zookeeper", port)
        config = zookeeper.folder / "zookeeper.properties"
        _write(
            config,
            {
                "dataDir": zookeeper.folder / "data",
                "clientPort": port,
                "clientPortAddress": HOST,
                "admin.enableServer": "false",
                "tickTime": int(1000 * ZOOKEEPER_TICK_SECONDS),
            },
        )
        self.launch(zookeeper, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config))
        zookeeper.await_answer(self.timeout)
        for node in self.nodes:
            self._write_properties(
                node,
                {
                    "broker.id": node.id,
                    "zookeeper.connect": f"{HOST}:{port}",
                    "zookeeper.session.timeout.ms": int(1000 * ZOOKEEPER_SESSION_SECONDS),
                    "listeners": f"PLAINTEXT://{node.bootstrap}",
                },
            )

    def _write_properties(self, node: Node, settings: Settings) -> None:
        copies, in_sync = self._count, (self._count + 1) // 2
        replication = {
            "log.dirs": node.folder / "data",
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": in_sync,
        }
        _write(node.properties, {**COMMON_SETTINGS, **replication, **settings, **self._settings})


def _write(path: Path, settings: Settings) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
