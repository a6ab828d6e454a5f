"""Commands run as processes, as a user runs them, and watched by what they print."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sor.errors import Exit
from sor.service.settings import OPTIONS

T = TypeVar("T")
Start = Callable[..., "Job"]
Json = dict[str, Any]

PATIENCE = 60.0  # seconds for what ought to happen soon; waited for in full only where a test fails
DONE, BAD, WRONG_CALL, NO_BROKER, STREAM_FAILED = 0, 1, 2, 3, 4


# For what a Kafka client has a part in; the rest is the same code for both, and runs with the default one.
each_client = pytest.mark.parametrize(
    "client",
    [
        "kafka-python",
        pytest.param(
            "confluent",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("confluent_kafka") is None, reason="confluent-kafka is not installed"
            ),
        ),
    ],
)


def wait_for(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return value


class Job:
    """A running command; its output goes to files, so that it never waits for a reader."""

    def __init__(self, folder: Path, command: list[str], environment: dict[str, str], stdin: Path | None) -> None:
        folder.mkdir()
        self.arguments = " ".join(command[1:])
        self._out, self._err = folder / "stdout", folder / "stderr"
        with open(stdin or os.devnull, "rb") as source, self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=source, stdout=out, stderr=err, start_new_session=True
            )

    @property
    def out(self) -> bytes:
        return self._out.read_bytes()

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def results(self) -> list[Json]:
        return [json.loads(line) for line in self.out.splitlines()]

    def says(self, text: str, times: int = 1, seconds: float = PATIENCE) -> None:
        """Wait until standard error holds `text`, `times` over."""

        def said() -> bool:
            assert self.process.poll() is None or self.err.count(text) >= times, self.story(f"ended without {text!r}")
            return self.err.count(text) >= times

        wait_for(said, f"{text!r} from {self.arguments}", seconds)

    def finish(self, status: int, seconds: float = PATIENCE) -> Job:
        """Wait for the command's end with this exit status; whatever it is, it never shows a traceback."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(self.story(f"still runs after {seconds:g} s"))
        assert "Traceback" not in self.err, self.story("a traceback")
        assert self.process.returncode == status, self.story(f"status {self.process.returncode}, not {status}")
        return self

    def signal(self, number: int) -> Job:
        self.process.send_signal(number)
        return self

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def story(self, what: str) -> str:
        end = "\n".join(line[:300] for line in self.err.splitlines()[-25:])
        return f"{self.arguments}: {what}; the end of its standard error:\n{end}"


QUICK = Path(__file__).with_name("quick.py")  # `sor` with shorter waits for who is dead or gone


class Jobs:
    """Starts commands in a folder; the end of the block kills those that still run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[Job] = []

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *error: object) -> None:
        for job in self.jobs:
            job.kill()

    def start(self, *arguments: object, stdin: Path | None = None, script: Path | None = None, **environ: str) -> Job:
        """`sor ARGUMENTS`, or a script, with no settings in the environment but those given."""
        settings = {option.variable for option in OPTIONS}
        environment = {name: value for name, value in os.environ.items() if name not in settings} | environ
        program = [str(script)] if script else ["-m", "sor"]
        command = [sys.executable, *program, *map(str, arguments)]
        job = Job(self.folder / f"job-{len(self.jobs)}", command, environment, stdin)
        self.jobs.append(job)
        return job


def children(job: Job) -> list[int]:
    """Process ids of a supervisor's workers."""
    ids = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children").read_text().split()
    return [int(pid) for pid in ids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def stopped_while_writing(start: Start, command: str, output: Path, feed: bytes) -> Job:
    """A command that reads a feed from a pipe and is stopped by hand once it has begun its output."""
    pipe = output.with_name("pipe")
    os.mkfifo(pipe)
    job = start(command, pipe, "--output", output)
    with pipe.open("wb", buffering=0) as file:
        file.write(feed)
        wait_for(output.with_name(f"{output.name}.part").exists, "it has begun")
        return job.signal(signal.SIGINT).finish(Exit.INTERRUPTED)
