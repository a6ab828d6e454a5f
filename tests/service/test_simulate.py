"""`sor simulate`: a feed and its truth, whole or not at all, that every other command reads."""

from __future__ import annotations

import csv
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import DONE, WRONG_CALL, Jobs, Start, wait_for

import sor
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.errors import Exit, InputError
from sor.market import whole_file
from sor.market.columns import joined
from sor.market.fields import time_of
from sor.service.settings import CLASSES, SimulateSettings
from sor.service.simulate import simulate

pytest.importorskip("pyarrow")

SHORT = ("--duration", "600", "--levels", "3")
FILES = {form: sorted([f"day.{form}", f"day.truth.{form}", "day.truth.json"]) for form in ("csv", "parquet")}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def made(folder: Path, form: str = "csv", **settings: object) -> Path:
    """A short day in a file."""
    path = folder / f"day.{form}"
    assert simulate(SimulateSettings(**{"output": str(path), "duration": 600, "levels": 3} | settings)) == DONE
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_feed_and_its_truth(start: Start, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"day.{form}"
    lines = start("simulate", "--output", path, *SHORT).finish(DONE).err.splitlines()
    assert names_in(tmp_path) == FILES[form]
    rows = sum(map(len, sor.read_feed(path)))
    orders = len(SyntheticMarket(Scenario(duration=600)).truth.orders["id"])
    assert lines[0] == f"wrote {rows:,} rows of 4 venues to {path}"
    truth = f"{tmp_path}/day.truth"
    assert lines[1] == f"wrote the fate of {orders:,} orders to {truth}.{form}, the rest to {truth}.json"
    assert lines[2].startswith("routing: 1,000 shares at once cost ")
    assert lines[3] == (
        "latency: an order sent at the announcement of a jump pays $0.0300 a share more after 1 s, in proportion before"
    )
    command = lines[4].split()
    assert command[:2] == ["next:", "sor"]
    assert command[2] in CLASSES
    assert command[3:] == [str(path)]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_is_read_is_what_was_made(tmp_path: Path, form: str) -> None:
    """The plain form has trades of what has happened, and no time of receipt; columns have all."""
    wanted = joined(list(SyntheticMarket(Scenario(duration=600, depth=3)).batches()))
    found = joined(list(sor.read_feed(made(tmp_path, form), depth=3)))
    columns = wanted.columns()
    if form == "csv":
        trades = wanted.action == ord("T")
        assert np.array_equal(found.action == ord("T"), trades)
        for name in ("action", "side", "price", "size"):
            assert np.array_equal(getattr(found, name)[trades], columns.pop(name)[trades])
        del columns["receipt"]
    for name, column in columns.items():
        assert np.array_equal(getattr(found, name), column), name
    assert found.symbols == wanted.symbols


def test_the_truth_is_the_same_in_both_forms(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    truth = SyntheticMarket(Scenario(duration=600, depth=3)).truth.orders
    made(tmp_path), made(tmp_path, "parquet")
    table = pyarrow.read_table(tmp_path / "day.truth.parquet")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "day.truth.csv").read_text())))
    assert table.column_names == list(rows[0]) == list(truth)
    for name, values in truth.items():
        column, cells = table[name], [row[name] for row in rows]
        if name in ("time", "first_fill", "completed", "cancelled"):
            assert column.cast("int64").fill_null(0).to_pylist() == values.tolist()
            assert [time_of("", cell) if cell else 0 for cell in cells] == values.tolist()
        else:
            assert column.to_pylist() == values.tolist()
            if name == "price":
                assert [round(float(cell) * 1e9) for cell in cells] == values.tolist()
            else:
                assert cells == [str(int(one) if name == "hidden" else one) for one in values.tolist()]


def test_what_is_known_beside_it(tmp_path: Path) -> None:
    made(tmp_path, seed=5, jump_ticks=2, jump_delay=0.5)
    facts = json.loads((tmp_path / "day.truth.json").read_text())
    scenario = facts["scenario"]
    scenario["venues"] = tuple(scenario["venues"])
    wanted = Scenario(seed=5, duration=600, depth=3, jump_ticks=2, jump_delay=0.5)
    assert Scenario(**scenario) == wanted
    assert {one["latency"]: one["dollars_per_share"] for one in facts["latency"]["examples"]} == {
        latency: wanted.latency_cost(latency) for latency in (0.001, 0.01, 0.1, 1.0)
    }
    truth = SyntheticMarket(wanted).truth
    assert facts["routing"] == truth.savings()
    assert [list(one.values()) for one in facts["announcements"]] == truth.announcements.tolist()
    assert all(one["best_bps"] <= one["nbbo_bps"] for one in facts["routing"])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, form: str) -> None:
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        made(tmp_path / name, form, seed=seed)
        contents.append([(tmp_path / name / file).read_bytes() for file in FILES[form]])
    assert contents[0] == contents[1]
    assert all(one != other for one, other in zip(contents[0], contents[2], strict=True))


def test_the_page_says_what_is_printed(start: Start, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text()
    shown = page.partition("$ sor simulate --output day.csv\n")[2].partition("```")[0]
    assert start("simulate", "--output", "day.csv").finish(DONE).err == shown


def test_other_commands_read_it(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    start("simulate", "--output", path, *SHORT, "--mics", "XNAS,EDGA", "--cancellations", "back").finish(DONE)
    table = start("info", path).finish(DONE).out.decode()
    assert "XNAS" in table
    assert "EDGA" in table
    job = start("replay", path, "--log-level", "error").finish(DONE)
    assert {venue["venue_id"] for venue in job.results[-1]["venues"]} >= {"XNAS", "EDGA"}
    start("convert", path, "--output", tmp_path / "again.parquet", "--depth", 3).finish(DONE)


def test_a_day_with_a_venue_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'schema_version = 1\n[[venue]]\nmic = "OWNX"\nname = "Own"\nmodel = "flat"\npublisher_ids = [7001]\n'
        "[[venue.figures]]\nvalid_from = 2000-01-01\ntaker_fee = 0.0\nmaker_rebate = 0.0\n"
        'taker_fee_verified = true\nmaker_rebate_verified = true\nsource = "ours"\n'
    )
    path = made(tmp_path, venues=str(own), mics=("XNAS", "OWNX"))
    assert ",OWNX,SIM," in path.read_text()
    facts = json.loads((tmp_path / "day.truth.json").read_text())
    assert set(facts["routing"][0]["venues"]) == {"XNAS", "OWNX"}


# --- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_stopped_by_hand(start: Start, tmp_path: Path, form: str) -> None:
    job = start("simulate", "--output", tmp_path / f"day.{form}")
    wait_for((tmp_path / f"day.{form}.part").exists, "it has begun")
    job.signal(signal.SIGINT).finish(Exit.INTERRUPTED)
    assert job.err.splitlines()[-1] == "sor: stopped before the end, so nothing was written"
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("file", [0, 1, 2])
def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, file: int) -> None:
    """Whichever of the files it is that has no room, what was there before is there still."""
    before = {name: f"{name} of before".encode() for name in FILES[form]}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    synced = []

    def fsync(number: int) -> None:
        synced.append(number)
        if len(synced) == file + 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", fsync)
    with pytest.raises(InputError, match=r"cannot write .*day.*: No space left on device"):
        made(tmp_path, form)
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before


# --- wrong calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--output is missing: it must be a file whose name ends in .parquet or .csv"),
        (["--output", "day.txt"], "--output is 'day.txt': it must be a file whose name ends in .parquet or .csv"),
        (["--output", "-"], "--output is '-'"),
        (["--output", "no/day.csv"], "cannot write no/day.csv"),
        (["--output", "x.csv", "--date", "2024-02-30"], "--date is '2024-02-30': it must be a day such as"),
        (["--output", "x.csv", "--mics", "XNSA"], "venue 'XNSA' is not in the venue directory (did you mean"),
        (["--output", "x.csv", "--mics", "XNAS,XNAS"], "--mics is ('XNAS', 'XNAS'): it must be one MIC or more"),
        (["--output", "x.csv", "--grow", "0.95"], "--grow is 0.95: it must be a number from 0 to 0.9"),
        (["--output", "x.csv", "--jump-delay", "20000"], "--jump-delay is 20000.0: it must be a number from 0.001 to"),
        (["--output", "x.csv", "--jumps", "9999"], "--price is 100: with so many moves it must be above"),
        (["--output", "x.csv", "--cancellations", "some"], "--cancellations is 'some': it must be one of uniform"),
        (["--output", "x.csv", "--duration", "9"], "--duration is '9': it must be a whole number from 10 to 23400"),
        (["--output", "x.csv", "--levels", "0"], "--levels is '0': it must be a whole number from 1 to 100"),
    ],
)
def test_wrong_calls(start: Start, tmp_path: Path, arguments: list[str], words: str) -> None:
    job = start("simulate", *arguments).finish(WRONG_CALL)
    assert words in job.err.splitlines()[-1]
    assert names_in(tmp_path / "job-0") == [
        "stderr",
        "stdout",
    ]


def test_what_the_truth_would_overwrite_is_looked_at_before(start: Start, tmp_path: Path) -> None:
    (tmp_path / "day.truth.json").mkdir()
    job = start("simulate", "--output", tmp_path / "day.csv").finish(WRONG_CALL)
    assert "day.truth.json: Is a directory (the truth beside --output)" in job.err.splitlines()[-1]


def test_venues_are_not_written_over(start: Start, tmp_path: Path) -> None:
    own = tmp_path / "day.csv"
    own.write_text("schema_version = 1\n")
    job = start("simulate", "--output", own, "--venues", own).finish(WRONG_CALL)
    assert "that is the file to read (--venues)" in job.err.splitlines()[-1]
