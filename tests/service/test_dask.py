"""`--dask` as a user gives it: the same bytes as without, and the try-out of docs/cluster.md as it stands there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from commands import DONE, STREAM_FAILED, Jobs, Start, wait_for
from dask_cluster import DASK, Cluster, cluster, free_port
from pages import agree, blocks

from sor.service.settings import SimulateSettings
from sor.service.simulate import simulate

distributed = pytest.importorskip("distributed", reason="Dask is not installed")

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "cluster.md"
DATES = ("2024-08-01", "2024-08-02")
FEW = ("--orders", 6, "--horizon", "30s", "--placement", 10, "--min-windows", 20)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


@pytest.fixture(scope="module")
def both() -> Iterator[Cluster]:
    """One with two workers, for all tests of the file."""
    with cluster(2) as found:
        yield found


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("days")
    found = [folder / f"{date}.csv" for date in DATES]
    for seed, path in enumerate(found, 1):
        assert simulate(SimulateSettings(output=str(path), date=path.stem, seed=seed, duration=900)) == DONE
    return found


def test_files_are_converted_by_a_cluster(start: Start, both: Cluster, days: list[Path], tmp_path: Path) -> None:
    words = ("convert", *days, "--by", "file", "--output")
    job = start(*words, tmp_path / "there", "--dask", both.address).finish(DONE)
    assert job.err.splitlines()[-1].endswith(f"rows to 2 files in {tmp_path / 'there'}")
    start(*words, tmp_path / "here").finish(DONE)
    here, there = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("here", "there"))
    assert sorted(there) == [f"{date}.parquet" for date in DATES]
    assert here == there
    job = start(*words, tmp_path / "there", "--dask", both.address).finish(DONE)
    assert job.err.splitlines()[-1] == f"wrote 0 rows to 0 files in {tmp_path / 'there'}; 2 were there"


@pytest.mark.parametrize(
    "words",
    [("backtest", "--routing", "brute_force,cont_kukanov"), ("tune", "--space", "lambda_under=0.001/0.5")],
    ids=["backtest", "tune"],
)
def test_a_cluster_gives_the_same_bytes(start: Start, both: Cluster, days: list[Path], words: tuple[str, ...]) -> None:
    command = (words[0], *days, *words[1:], *FEW, "--json", "-")
    here = start(*command, "--jobs", 1).finish(DONE)
    there = start(*command, "--dask", both.address).finish(DONE)
    assert len(here.out) > 1000
    assert there.out.replace(f"--dask {both.address}".encode(), b"--jobs 1") == here.out


def test_a_worker_that_is_asked_to_leave_does(both: Cluster) -> None:
    """By what the manifest has it do before its pod ends. The last test that has two."""
    (pod,) = yaml.safe_load_all((ROOT / "deploy" / "dask" / "worker.yaml").read_text())
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    program, *rest = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "python"
    command = [sys.executable, *(word.replace("tcp://dask-scheduler:8786", both.address) for word in rest)]
    subprocess.run(command, env=os.environ | {"POD_NAME": "worker-1"}, check=True, timeout=60)
    assert both.workers[1].wait(30) == 0
    assert both.workers[0].poll() is None


def test_a_scheduler_that_is_lost_is_one_line(start: Start, both: Cluster, days: list[Path]) -> None:
    """Dask has more to say of that. The last test that has one."""
    both.workers[0].send_signal(signal.SIGSTOP)
    job = start("backtest", *days, *FEW, "--dask", both.address)
    with distributed.Client(both.address) as client:
        wait_for(lambda: any(client.processing().values()), "a worker has something to do")
    both.scheduler.kill()
    job.finish(STREAM_FAILED)
    assert job.err == "sor backtest: error: the scheduler was lost: what is kept need not be done again\n"


def test_the_guide_does_what_it_says(tmp_path: Path) -> None:
    """cluster.md: its commands one after the other, in one shell, as some of them stay in the background."""
    port = str(free_port())
    commands = [one for block in blocks(GUIDE) if block.how == "run by" for one in block.commands]
    script = ["trap 'kill -9 $(jobs -p)' EXIT"]
    for command, _ in commands:
        script += [command.replace("8786", port), "echo '=== done'"]
        if command.startswith("dask scheduler"):
            script.append(f"until (echo > /dev/tcp/127.0.0.1/{port}) 2> wait.log; do sleep 0.1; done")
    variables = {"PATH": f"{DASK.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    printed = re.sub(r"^bash: line .* Killed .*\n", "", done.stdout, flags=re.MULTILINE).split("=== done\n")
    for (command, expected), text in zip(commands, printed, strict=False):
        assert agree(text, expected)[0] == agree(text, expected)[1], command
    assert len(printed) == len(commands) + 1
