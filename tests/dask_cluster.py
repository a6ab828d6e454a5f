"""A Dask scheduler and its workers on this machine, started as people start them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

DASK = Path(sys.executable).with_name("dask")


class Cluster(NamedTuple):
    """Where its scheduler listens, and its processes."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def cluster(workers: int, **variables: str) -> Iterator[Cluster]:
    """A scheduler that so many workers have come to; the end of the block kills all."""
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    port = str(free_port())
    address = f"tcp://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ | variables}
        started.append(subprocess.Popen([str(DASK), *words, "--no-dashboard"], **quiet))  # type: ignore[call-overload]

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", port)
        for number in range(workers):
            start("worker", address, "--name", f"worker-{number}", "--nthreads", "1", "--no-nanny")
        with distributed.Client(address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
        yield Cluster(address, started[0], started[1:])
    finally:
        for process in started:
            process.kill()
            process.wait()
