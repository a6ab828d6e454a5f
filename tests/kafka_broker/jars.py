"""Java and Apache Kafka's jars: found, or fetched once with Maven and kept in the user's cache."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KRAFT_VERSION = "4.1.1"
ZOOKEEPER_VERSION = "3.9.1"  # of the last series that still runs on ZooKeeper

POM = Path(__file__).with_name("pom.xml")
FETCH_SECONDS = 600


class Unavailable(RuntimeError):
    """No broker can be had on this machine; the message says why."""


def unavailable(version: str = KRAFT_VERSION) -> str | None:
    """Why no broker of `version` can be started here, or None; fetches the jars when they are missing."""
    try:
        find_java(version)
        find_or_fetch_jars(version)
    except Unavailable as reason:
        return str(reason)
    return None


def find_java(version: str = KRAFT_VERSION) -> str:
    """Java's path, from JAVA_HOME or else PATH, if it is new enough for Kafka `version`."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    if java is None:
        raise Unavailable(f"no java in JAVA_HOME ({home})" if home else "no java on PATH")
    needed = 17 if int(version.split(".")[0]) >= 4 else 8
    if _java_release(java) < needed:
        raise Unavailable(f"Kafka {version} needs Java {needed}, but {java} is older or does not run")
    return java


def _java_release(java: str) -> int:
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr)  # Java 8 calls itself 1.8
    return int(found[1]) if found else 0


def find_or_fetch_jars(version: str = KRAFT_VERSION) -> Path:
    """The folder of Kafka's jars; raises Unavailable when they are not there and cannot be fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sor-tests")
    jars = cache / f"kafka-{version}"
    if jars.is_dir():
        return jars
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Not every Maven bears two writers in its own store: a second process waits, and then finds the jars.
        with _locked(cache / f"kafka-{version}.lock"):
            if not jars.is_dir():
                _fetch(version, jars)
    except OSError as error:
        raise Unavailable(f"Kafka's jars cannot be kept in {cache}: {error}") from error
    return jars


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(version: str, jars: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=jars.parent) as work:
        fetched = Path(work, "jars")
        _maven("dependency:copy-dependencies", f"-Dkafka.version={version}", f"-DoutputDirectory={fetched}")
        fetched.rename(jars)  # in one step: the folder's name promises that it is complete


def _maven(*arguments: str) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("no mvn on PATH to fetch Kafka's jars with")
    command = [maven, "-q", "-B", "-ntp", "-Dstyle.color=never", "-f", str(POM), *arguments]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        done = subprocess.run(command, **quiet, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"Maven did not fetch Kafka's jars in {FETCH_SECONDS} s") from None
    if done.returncode != 0:
        raise Unavailable(f"Maven could not fetch Kafka's jars: {_first_error(done.stdout)}")


def _first_error(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("[ERROR]")]
    return (errors or lines or ["it said nothing"])[0]
