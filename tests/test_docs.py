"""README.md and docs/: commands print what pages say, examples return it, links lead somewhere, nothing is left out."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import get_args

import from_code
import pages
import pytest
from pages import PAGES, README, ROOT, agree, blocks, name_of, output_of, prepare

import sor
from sor import cli
from sor.errors import Exit
from sor.market.policy import Policy
from sor.market.venues import VenueDirectory
from sor.routing.result import ReasonCode
from sor.service.settings import CLASSES, options_of

REFERENCE = ROOT / "docs" / "reference"
TEXTS = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
OTHERS_FLAGS = {"--desired-count", "--profile"}  # of the AWS client and of Docker


def read(page: Path) -> str:
    return from_code.filled(page.read_text(encoding="utf-8"))


def having(how: str) -> list[Path]:
    return [page for page in PAGES if any(block.how == how for block in blocks(page))]


@pytest.mark.parametrize("page", having(""), ids=name_of)
def test_commands_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    """One after the other, as a reader runs them."""
    prepare(page, tmp_path)
    for block in blocks(page):
        for command, expected in block.commands if not block.how else ():
            printed, told = agree(output_of(command, tmp_path), expected)
            assert printed == told, command


@pytest.mark.kafka
@pytest.mark.parametrize("page", having("run with"), ids=name_of)
def test_commands_with_a_broker_print_what_the_page_says(page: Path, tmp_path: Path, kafka) -> None:
    prepare(page, tmp_path)
    for name in ("market_data", "sor_results"):
        kafka.create_topic(name)
    for block in blocks(page):
        for command, expected in block.commands if block.how == "run with" else ():
            printed, told = agree(output_of(command, tmp_path, kafka.bootstrap), expected)
            assert printed == told, command


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text()], ids=name_of)
def test_examples_return_what_the_page_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(page.read_text(encoding="utf-8"), {}, page.name, str(page), 0)
    assert len(examples.examples) > 1
    runner = doctest.DocTestRunner()
    runner.run(examples)
    assert runner.summarize().failed == 0


def test_every_command_is_run_or_says_why_not() -> None:
    assert {block.how for page in PAGES for block in blocks(page)} == {"", "not run", "run with", "run by"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"^```console", text, re.MULTILINE)) == len(blocks(page)), page
        assert not re.search(r"^```(sh|bash|shell)?\n(\$ |sor )", re.sub(FENCE, _opening, text), re.MULTILINE), page
        for block in blocks(page):
            if block.how == "run by":
                assert page.name in (ROOT / block.what).read_text(), page
            if not block.how:
                programs = {part.split()[0] for command, _ in block.commands for part in command.split(" && ")}
                assert programs <= {"sor", "python", "pip"}, page


def _opening(fence: re.Match[str]) -> str:
    return "\n".join(fence[0].splitlines()[:2])


def test_the_page_of_commands_has_all() -> None:
    text = read(REFERENCE / "commands.md")
    for name in cli.COMMANDS:
        assert f"| `sor {name}" in text
        assert f"\n## sor {name}\n" in text
    for option in (one for name in CLASSES for one in options_of(name)):
        assert f"`{option.name}`" in text


def test_the_page_of_results_has_all_reasons() -> None:
    told = re.findall(r"^\| (`.*?`) \|", (REFERENCE / "results.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(code for row in told for code in re.findall(r"`(\w+)`", row)) == sorted(get_args(ReasonCode))


def test_the_page_of_exit_statuses_has_all() -> None:
    told = re.findall(r"^\| (\d+) \| `(\w+)` \|", read(REFERENCE / "exit-statuses.md"), re.MULTILINE)
    assert told == [(str(int(status)), status.name) for status in Exit]


def test_the_page_of_the_library_has_all() -> None:
    shown = re.findall(r":: sor\.(?:\w+\.)*(\w+)$", read(REFERENCE / "api.md"), re.MULTILINE)
    assert sorted(shown) == sorted(name for name in sor.__all__ if name != "BACKEND")


def test_flags_and_variables_on_the_pages_are_those_of_sor() -> None:
    """Those that stand in backticks, not the ones of other programs in blocks."""
    options = [option for name in CLASSES for option in options_of(name)]
    known = {option.name for option in options}
    known |= {option.name.replace("--", "--no-", 1) for option in options if option.is_switch}
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        assert set(re.findall(r"`(--[a-z0-9-]+)(?: [^`]*)?`", text)) <= known | OTHERS_FLAGS, page
        variables = {"SOR_REQUIRE_EXT", "SOR_PURE_PYTHON", *(option.variable for option in options)}
        assert set(re.findall(r"\bSOR_[A-Z_]+", text)) <= variables, page


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """To files, and to headings as GitHub and the site name them."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", FENCE.sub("", read(page))):
        other = (page.parent / target) if target else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_files_on_the_page_of_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    found = re.findall(r"^```toml\n(.*?)^```$", (REFERENCE / "files.md").read_text(encoding="utf-8"), FENCE.flags)
    assert len(found) == 4
    for text in found:
        path.write_text(text, encoding="utf-8")
        kinds = {"[[venue]]": VenueDirectory, "[choice]": Policy, "[[instrument]]": sor.Instruments}
        (kind,) = (kind for mark, kind in kinds.items() if mark in text)
        kind.load(path)


def test_the_readme_is_short() -> None:
    """Somebody has five minutes; what is more belongs into docs/."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 160


def test_outputs_are_put_in_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they would be printed; what a page leaves out it leaves out again."""
    monkeypatch.setattr(pages, "output_of", lambda command, folder, servers: f"{command} 1\n2\n3\n")
    page = tmp_path / "page.md"
    page.write_text("```console\n$ a\nold\n...\n$ b\n```\n<!-- not run: why -->\n```console\n$ c\n```\n")
    pages.renew(page, None)
    assert page.read_text() == (
        "```console\n$ a\na 1\n...\n$ b\nb 1\n2\n3\n```\n<!-- not run: why -->\n```console\n$ c\n```\n"
    )


def test_what_troubleshooting_quotes_is_what_commands_print() -> None:
    """Of three words in a row most stand so in the sources; numbers and names vary, and sides."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "sor").rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # texts over several lines
    rows = re.findall(r"^\| (.*?) \|", read(ROOT / "docs" / "troubleshooting.md"), re.MULTILINE)
    messages = [found[1].split() for row in rows if (found := re.match(r"`([^`]* [^`]*)`", row))]
    assert len(messages) > 15
    for words in messages:
        threes = [words[i : i + 3] for i in range(len(words) - 2)]
        fixed = [" ".join(three) for three in threes if not re.search(r"\d|_|\.\.|[A-Z]{3}", " ".join(three))]
        assert sum(three in sources for three in fixed) >= 0.4 * len(fixed), words
