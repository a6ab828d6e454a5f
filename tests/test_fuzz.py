"""Mutated files, in short; `tools/fuzz_files.py` tries as many as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("databento_dbn")
pytest.importorskip("pyarrow")
pytest.importorskip("zstandard")
fuzz_files = pytest.importorskip("fuzz_files")


def test_mutated_files_are_all_accounted_for(tmp_path: Path) -> None:
    report = fuzz_files.run(120, seed=1, keep=tmp_path)
    assert report["wrong"] == {}
    assert sum(report["kinds"].values()) == 120
    assert set(report["kinds"]) == {"status 0", "status 1", "status 2", "status 4"}
    assert list(tmp_path.iterdir()) == []


def test_every_format_is_good_without_a_mutation(tmp_path: Path) -> None:
    """Else nothing but refusals would be tried."""
    for name in fuzz_files.Mutator("1").formats:
        mutator = fuzz_files.Mutator("1")
        mutator.changes = (0,)
        path = tmp_path / name
        path.write_bytes(mutator.formats[name](fuzz_files.market(mutator.random)))
        trial = fuzz_files.Trial(path, tmp_path, mutator.random)
        assert trial.run() == []
        assert trial.outcome == "status 0", name
