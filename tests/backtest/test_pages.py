"""The pages on backtests: no column is left out, the example runs, and the code that the rules name is there.

Their commands and doctests are run by tests/test_docs.py, as those of all pages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pages import output_of

from sor.backtest.comparison import Comparison
from sor.backtest.measures import FillRow, Parent

ROOT = Path(__file__).resolve().parents[2]
MEASURES, RULES, GUIDE = (ROOT / "docs" / f"{name}.md" for name in ("measures", "rules", "backtest"))
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return MEASURES.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


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


def test_the_code_that_rules_name_is_there() -> None:
    """Every file of the page is, and every name in it is somewhere in the package."""
    text = RULES.read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "sor").rglob("*.py"))
    table = text.partition("|---|")[2].partition("\nThree more")[0]
    places = [line.split("|")[3] for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(places) == 12
    for name in re.findall(r"`([^`]+)`", " ".join(places)):
        if "/" in name:
            assert (ROOT / name).exists(), name
        else:
            assert re.search(rf"(class|def) {re.escape(name.rpartition('.')[2])}\b|\b{name}\b", sources), name
