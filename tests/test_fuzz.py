"""Mutated files, in short; `tools/fuzz_files.py` tries as many as one likes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


def test_a_crash_is_one_file_and_the_rest_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process would die: here the slice ends early."""

    class Ended:
        def __init__(self, target: Any, args: tuple[int, int, int, Path]) -> None:
            self.seed, self.first, self.count, self.folder = args
            self.exitcode = -11 if self.first <= 2 < self.first + self.count else 0

        def start(self) -> None:
            count = 2 - self.first if self.exitcode else self.count
            lines = [f'["{self.seed}-{self.first + i}-csv", "status 0", []]\n' for i in range(count)]
            (self.folder / "told").write_text("".join(lines))
            if self.exitcode:
                (self.folder / f"{self.seed}-2-csv").write_bytes(b"x")

        def join(self) -> None: ...

    monkeypatch.setattr(fuzz_files.multiprocessing, "get_context", lambda kind: SimpleNamespace(Process=Ended))
    report = fuzz_files.run(5, seed=9, keep=tmp_path)
    assert report["wrong"] == {"9-2": ["the process ended with -11"]}
    assert report["kinds"] == {"status 0": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["9-2-csv"]
