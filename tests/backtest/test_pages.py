"""The pages on backtests: their examples print what they say, and no column is left out.

``python tests/backtest/test_pages.py`` puts the outputs of docs/strategies.md, backtest.md and report.md in anew.
"""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from test_readme import BLOCK, commands, output_of, steady

from sor.backtest.comparison import Comparison
from sor.backtest.measures import FillRow, Parent

ROOT = Path(__file__).resolve().parents[2]
MEASURES, STRATEGIES, RULES, GUIDE, REPORT = (
    ROOT / "docs" / f"{name}.md" for name in ("measures", "strategies", "rules", "backtest", "report")
)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return MEASURES.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_order_by_hand_costs_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(MEASURES.read_text(), {}, MEASURES.name, str(MEASURES), 0)
    assert len(examples.examples) > 10
    runner = doctest.DocTestRunner()
    runner.run(examples)
    assert runner.summarize().failed == 0


def test_every_column_has_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, fills, parents, strategies, compared = re.split(
        r"^(?:A fill:|An order:|`--json` has|and under `comparisons`)", section("Columns"), flags=re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec("\n".join(line[4:] for line in MEASURES.read_text().splitlines() if line[:4] in (">>> ", "... ")), names)  # noqa: S102
    row = names["study"].rows()[0]  # type: ignore[attr-defined]
    keys = ("schedule", "routing", "queue", "baseline", *Comparison.__struct_fields__)
    for text, wanted in ((fills, FillRow._fields), (parents, Parent._fields), (strategies, row), (compared, keys)):
        first_cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        assert sorted(re.findall(r"`(\w+)`", " ".join(first_cells))) == sorted(wanted)


def printed(command: str, folder: Path) -> str:
    if not command.startswith("python "):
        return output_of(command, folder)
    words = [sys.executable, *command.split()[1:]]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.stdout


def test_a_strategy_of_ones_own_prints_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (script,) = PYTHON.findall(STRATEGIES.read_text())
    (tmp_path / "mine.py").write_text(script)
    (block,) = BLOCK.findall(STRATEGIES.read_text())
    for command, expected in commands(block):
        assert steady(printed(command, tmp_path)) == steady(expected)


@pytest.mark.parametrize("page", [GUIDE, REPORT], ids=lambda page: page.name)
def test_the_guide_prints_what_it_says(tmp_path: Path, page: Path) -> None:
    """Its commands one after the other, as a reader runs them."""
    for block in BLOCK.findall(page.read_text()):
        for command, expected in commands(block):
            assert steady(output_of(command, tmp_path)) == steady(expected), command


def test_the_guides_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one, on a short day of its own."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    assert output_of("sor simulate --output day.parquet --duration 2400", tmp_path)
    (example,) = PYTHON.findall(GUIDE.read_text())
    names: dict[str, Any] = {}
    exec(example.replace("jobs=4", "jobs=1"), names)  # noqa: S102
    assert len(names["study"].compare("brute_force")) > 0
    assert Path("report.html").exists()


@pytest.mark.parametrize("page", [MEASURES, STRATEGIES, RULES, GUIDE, REPORT], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        other = (page.parent / target) if target else page
        assert other.exists(), target
        titles = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, anchor


def test_the_code_that_rules_name_is_there() -> None:
    """Every file of the page is, and every name in it is somewhere in the package."""
    text = RULES.read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "sor").rglob("*.py"))
    table = text.partition("|---|")[2].partition("\nThree more")[0]
    places = [line.split("|")[3] for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(places) == 11
    for name in re.findall(r"`([^`]+)`", " ".join(places)):
        if "/" in name:
            assert (ROOT / name).exists(), name
        else:
            assert re.search(rf"(class|def) {re.escape(name.rpartition('.')[2])}\b|\b{name}\b", sources), name


def renewed(page: Path, folder: Path) -> None:
    text = page.read_text()
    for block in BLOCK.findall(text):
        for command, expected in commands(block):
            text = text.replace(f"$ {command}\n{expected}", f"$ {command}\n{printed(command, folder)}", 1)
    page.write_text(text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "mine.py").write_text(PYTHON.findall(STRATEGIES.read_text())[0])
        for page in (STRATEGIES, GUIDE, REPORT):
            renewed(page, Path(name))
