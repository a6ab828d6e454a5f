"""The pages and their commands: found in README.md and docs/, run as a reader runs them, and their outputs put in anew.

    python tests/pages.py [--kafka HOST:PORT] [PAGE ...]

A block of the language ``console`` has commands, each after ``$ ``, and what they print; a line ``...`` stands for the
rest. All blocks of a page run in one folder, one after the other, with `sample.csv` and what the page has as files
(``<!-- file: NAME -->`` in front of a block). Other comments in front of a console block say how it is run:
``<!-- not run: WHY -->``, ``<!-- run with: a broker -->``, ``<!-- run by: A TEST'S FILE -->``.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"(?:^<!-- (not run|run with|run by): ([^\n]+) -->\n)?^```console\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w*\n(.*?)^```$", re.M | re.S)

# What differs from run to run and machine to machine.
VOLATILE = [
    (re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ", re.MULTILINE), "DATE - "),
    (re.compile(r"^time .*$", re.MULTILINE), "TIME"),
    (re.compile(r"^latency .*$", re.MULTILINE), "LATENCY"),
    (re.compile(r"kernels:? (cython|python)"), "kernels ANY"),
    (re.compile(r"^.*pure-Python kernels.*\n", re.MULTILINE), ""),
]


class Block(NamedTuple):
    """A console block, and what the comment in front of it says."""

    how: str  # "" where it is run as it stands
    what: str  # with, by, or why not
    text: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """(command, expected output)."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def prepare(page: Path, folder: Path) -> None:
    """The files that the commands of a page find."""
    shutil.copy(ROOT / "sample.csv", folder)
    for name, text in FILE.findall(page.read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")


def output_of(line: str, folder: Path, servers: str = "localhost:9092") -> str:
    """What a line of commands prints, on both streams; installations are passed over, as CI runs them as they stand."""
    commands = line.replace("localhost:9092", servers).split(" && ")
    printed = "".join(_output_of(command, folder) for command in commands if not command.startswith("pip install"))
    return printed.replace(servers, "localhost:9092")


def _output_of(command: str, folder: Path) -> str:
    program, *words = shlex.split(command)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOR_") or k == "SOR_PURE_PYTHON"}
    if program == "python":
        environment["PYTHONPATH"] = str(ROOT)
    words = [sys.executable if program == "python" else str(Path(sys.executable).with_name(program)), *words]
    # One pipe for both streams, as on a terminal.
    done = subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    return done.stdout


def steady(text: str) -> str:
    for pattern, replacement in VOLATILE:
        text = pattern.sub(replacement, text)
    return text.rstrip()


def agree(printed: str, expected: str) -> tuple[str, str]:
    """Both without what differs from run to run, and without what the page leaves out."""
    lines, told = steady(printed).splitlines(), steady(expected).splitlines()
    if told[-1:] == ["..."]:
        lines, told = lines[: len(told) - 1], told[:-1]
    return "\n".join(lines), "\n".join(told)


def renew(page: Path, servers: str | None) -> None:
    """Put the outputs of a page in anew; those that need a broker only with its address."""
    with tempfile.TemporaryDirectory() as name:
        prepare(page, Path(name))
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(lambda found: _renewed(found, Path(name), servers), text), encoding="utf-8")


def _renewed(found: re.Match[str], folder: Path, servers: str | None) -> str:
    block = Block(*found.groups(default=""))
    if block.how not in ("", "run with") or (block.how and servers is None):
        return found[0]
    head = found[0].partition("```console\n")[0]
    told = ""
    for command, before in block.commands:
        told += f"$ {command}\n{_told(output_of(command, folder, servers or 'localhost:9092'), before)}"
    return f"{head}```console\n{told}```"


def _told(printed: str, before: str) -> str:
    lines = printed.rstrip().splitlines()
    if before.endswith("...\n"):
        lines = [*lines[: before.count("\n") - 1], "..."]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kafka", metavar="HOST:PORT")
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES)
    given = parser.parse_args()
    for page in given.pages:
        renew(page.resolve(), given.kafka)
