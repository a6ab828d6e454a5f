"""The README's commands print what it says, and its Python examples return what it says.

``python tests/test_readme.py`` puts the outputs and the table of options into the README anew.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sor.service import settings as config

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"^\| flag \| variable .*?(?=\n\n)", re.MULTILINE | re.DOTALL)

# What differs from run to run and machine to machine.
VOLATILE = [
    (re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ", re.MULTILINE), "DATE - "),
    (re.compile(r"^time .*$", re.MULTILINE), "TIME"),
    (re.compile(r"^latency .*$", re.MULTILINE), "LATENCY"),
    (re.compile(r"kernels:? (cython|python)"), "kernels ANY"),
    (re.compile(r"^.*pure-Python kernels.*\n", re.MULTILINE), ""),
]


def commands(block: str) -> list[tuple[str, str]]:
    """(command, expected output) of a console block."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def runnable(command: str) -> str | None:
    """What of a command can be run here: no installation and no containers; CI runs those as they stand."""
    if command.startswith("pip install"):
        command = command.partition(" && ")[2]
    return None if command.startswith(("docker ", "python -m pytest")) or not command else command


def output_of(command: str, folder: Path, servers: str | None = None) -> str:
    if servers is not None:
        command = command.replace("localhost:9092", servers)
    return "".join(_output_of(part, folder) for part in command.split(" && "))


def _output_of(command: str, folder: Path) -> str:
    words = shlex.split(command)
    words[0] = str(Path(sys.executable).with_name(words[0]))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOR_") or k == "SOR_PURE_PYTHON"}
    # One pipe for both streams, as on a terminal.
    done = subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    return done.stdout


def steady(text: str) -> str:
    for pattern, replacement in VOLATILE:
        text = pattern.sub(replacement, text)
    return text.rstrip()


def all_commands() -> list[tuple[str, str]]:
    found = [pair for block in BLOCK.findall(README.read_text()) for pair in commands(block)]
    return [(command, expected) for command, expected in found if runnable(command)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "sample.csv", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "expected"), [pair for pair in all_commands() if "kafka" not in pair[0]], ids=lambda text: text[:50]
)
def test_command_prints_what_the_readme_says(command: str, expected: str, folder: Path) -> None:
    assert steady(output_of(runnable(command), folder)) == steady(expected)


@pytest.mark.kafka
def test_kafka_commands_print_what_the_readme_says(folder: Path, kafka) -> None:
    for name in ("market_data", "sor_results"):
        kafka.create_topic(name)
    pairs = [pair for pair in all_commands() if "kafka" in pair[0]]
    assert [command.split()[1] for command, _ in pairs] == ["produce", "consume"]
    for command, expected in pairs:
        printed = output_of(command, folder, kafka.bootstrap).replace(kafka.bootstrap, "localhost:9092")
        assert steady(printed) == steady(expected)


def test_python_examples_return_what_the_readme_says() -> None:
    examples = doctest.DocTestParser().get_doctest(README.read_text(), {}, "README.md", str(README), 0)
    assert len(examples.examples) > 15
    runner = doctest.DocTestRunner()
    runner.run(examples)
    assert runner.summarize().failed == 0


def option_table() -> str:
    lines = ["| flag | variable | default | for | meaning |", "|---|---|---|---|---|"]
    for option in config.OPTIONS:
        default = f"{option.default:g}" if type(option.default) is float else str(option.default).lower()
        default = "" if option.default in (None, ()) else f"`{default}`"
        name = f"`{option.name}`" if option.flag is not None else ""
        lines.append(f"| {name} | `{option.variable}` | {default} | {', '.join(option.commands)} | {option.help} |")
    return "\n".join(lines)


def test_table_of_options_is_complete() -> None:
    assert TABLE.search(README.read_text()).group() == option_table()


def test_every_command_and_exit_status_is_documented() -> None:
    from sor import cli
    from sor.errors import Exit

    text = README.read_text()
    for name in cli.COMMANDS:
        assert f"| `sor {name}" in text
    told = [int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert told == list(Exit) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 141]


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target


def update(servers: str | None) -> None:
    """Put the outputs in anew; those that need Kafka only with a broker's address."""
    import tempfile

    text = README.read_text()
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(ROOT / "sample.csv", name)
        for command, expected in all_commands():
            if "kafka" in command and servers is None:
                continue
            printed = output_of(runnable(command), Path(name), servers)
            printed = printed.replace(servers or "localhost:9092", "localhost:9092").rstrip() + "\n"
            text = text.replace(f"$ {command}\n{expected}", f"$ {command}\n{printed}", 1)
    text = TABLE.sub(lambda _: option_table(), text).replace("CONFIGTABLE\n", option_table() + "\n")
    README.write_text(text)


if __name__ == "__main__":
    update(sys.argv[1] if len(sys.argv) > 1 else None)
