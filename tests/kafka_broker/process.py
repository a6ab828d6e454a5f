"""Java programs as child processes that never outlive the tests."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

HOST = "127.0.0.1"

# Reads lines of process groups, "-12 -34", each line replacing the one before. The pipe ends when this Python
# process closes it or dies, by whatever signal: then what still runs is killed and the folder removed.
# (PR_SET_PDEATHSIG would kill a broker as soon as the *thread* that started it ends, and asks for preexec_fn,
# which Python 3.12 warns of.)
GUARD = """
while read -r line; do groups=$line; done
[ -z "$groups" ] || kill -s KILL -- $groups
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"""

# Quick to start rather than fast for hours, and nothing left in /tmp by a process that is killed.
JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData"]
LOGGING = [
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    # without the long lists of settings
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
]


class BrokerError(RuntimeError):
    """A process of the cluster did not start, ended or does not answer; the message holds its log's tail."""


RANGES = 5  # of ports, one for each process of a parallel test run


def free_ports(count: int, but: Collection[int] = ()) -> list[int]:
    """Free loopback ports, all different, and none of those in `but`.

    They lie below the range the kernel gives to outgoing connections: a port of that range may be taken by
    any client while a broker is down, even by the very client that tries to reach the broker. A broker takes
    seconds until it binds its own, so each process of a parallel test run has a range to itself.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + worker % RANGES * (10_000 // RANGES)
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(first, first + 10_000 // RANGES)
        if port not in ports and port not in but and _is_free(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Workspace:
    """A temporary folder and the Java processes that run in it; close(), or Python's end, removes both."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sor-kafka-"))
        self.processes: list[JavaProcess] = []
        self._guard = subprocess.Popen(
            [shutil.which("sh") or "/bin/sh", "-c", GUARD, "guard", str(self.folder)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C on the terminal does not reach it
        )

    def tell_guard(self) -> None:
        groups = " ".join(f"-{process.pid}" for process in self.processes if process.pid)
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{groups}\n".encode())

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self._guard.communicate()  # closes the pipe and waits


class JavaProcess:
    """One Java program, with a folder and a log of its own, that can be ended and started again."""

    def __init__(self, workspace: Workspace, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.folder = workspace.folder / name
        self.log = self.folder / "log.txt"
        self._workspace = workspace
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "tmp").mkdir(parents=True)
        workspace.processes.append(self)

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def launch(self, java: str, jars: Path, heap_mb: int, main: str, *arguments: str) -> None:
        """Start the program in a process group of its own, so that Ctrl-C leaves its end to us."""
        if self.pid:
            raise BrokerError(f"{self.name} runs already")
        memory = [f"-Xmx{heap_mb}m", f"-Djava.io.tmpdir={self.folder / 'tmp'}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [java, *JVM, *LOGGING, *memory, "-cp", f"{jars}/*", main, *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._workspace.tell_guard()

    def finish(self, timeout: float) -> None:
        """Wait for a program that ends by itself, and with success."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.error(f"did not end in {timeout:.0f} s") from None
        if status != 0:
            raise self.error(f"ended with status {status}")

    def kill(self) -> None:
        """SIGKILL: the process ends on the spot, with nothing put in order."""
        self._end(signal.SIGKILL, timeout=None)

    def stop(self, timeout: float = 30) -> None:
        """SIGTERM: an orderly end, or SIGKILL if that takes longer than `timeout` seconds."""
        try:
            self._end(signal.SIGTERM, timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, but nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _end(self, number: signal.Signals, timeout: float | None) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._send(number)
        self._send(signal.SIGCONT)  # a paused process takes SIGTERM only when it runs again
        self._process.wait(timeout)
        self._workspace.tell_guard()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def await_answer(self, timeout: float) -> None:
        """Wait until answers() is true; the process's end or the time-out raises BrokerError."""
        deadline = time.monotonic() + timeout
        while not self.answers():
            if self.pid is None:
                raise self.error("ended before it answered")
            if time.monotonic() > deadline:
                raise self.error(f"does not answer after {timeout:.0f} s")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether the port is open; subclasses ask more."""
        try:
            socket.create_connection((HOST, self.port), timeout=2).close()
        except OSError:
            return False
        return True

    def error(self, what: str, lines: int = 30) -> BrokerError:
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        return BrokerError("\n".join([f"{self.name} {what}; the end of its log:", *tail]))
