"""Work in pieces gives the same bytes, whoever does it, whatever dies on the way, and whatever was done before."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask_cluster import cluster
from msgspec import structs
from tapes import ARCX, IEXG, OPENS, SECOND, XNAS, quote, tape, trade

import sor
from sor.backtest import Orders, Rules, Session, Study, orders, pieces
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.errors import InputError, StreamError
from sor.market import storage
from sor.market.parquet import write_parquet
from sor.market.policy import Policy
from sor.market.venues import DatedRules, VenueDirectory

WAYS = (
    ("immediate", "brute_force"),
    ("immediate", "cont_kukanov"),
    ("immediate", "cont_kukanov:horizon=5:lambda_under=0.2"),
    ("twap:3", "equal"),
)
RULES = Rules(horizon=30 * SECOND, placement=10 * SECOND, min_windows=20)
ORDERS = Orders(sizes=(500,), sides=("buy", "sell"), number=8)
BUILT_IN = VenueDirectory.load()


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three days, a file each."""
    folder, found = tmp_path_factory.mktemp("days"), []
    for number, day in enumerate(("2024-08-01", "2024-08-02", "2024-08-05")):
        market = SyntheticMarket(Scenario(seed=number + 1, duration=900, date=day))
        found.append(str(folder / f"{day}.parquet"))
        write_parquet(market.batches(), found[-1])
    return found


def study_of(paths: list[str], strategies: Any = WAYS, wanted: Any = ORDERS, **more: Any) -> Study:
    return sor.backtest(sor.read_feed(paths), wanted, strategies, rules=more.pop("rules", RULES), **more)


def same(one: Study, other: Study) -> bool:
    return json.dumps(one.as_dict()) == json.dumps(other.as_dict()) and all(
        mine[name].tobytes() == yours[name].tobytes()
        for mine, yours in ((one.parents, other.parents), (one.fills, other.fills))
        for name in mine
    )


@pytest.fixture(scope="module")
def alone(days: list[str]) -> Study:
    return study_of(days)


# --- what is kept -----------------------------------------------------------------------------------------------------


def works(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is worked from now on."""
    seen: list[Any] = []
    real = pieces.worked
    monkeypatch.setattr(pieces, "worked", lambda piece: seen.append(piece) or real(piece))
    return seen


def test_a_run_that_is_started_again_does_what_is_missing(
    days: list[str], alone: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, folder = works(monkeypatch), str(tmp_path / "kept")
    told: list[tuple[int, int]] = []
    assert same(study_of(days, keep=folder), alone)
    number = len(seen)
    assert number == 3
    assert same(study_of(days, keep=folder, told=lambda *how_far: told.append(how_far)), alone)
    assert len(seen) == number
    assert told[-1] == (3 * 16 * 10, 3 * 16 * 10)  # days, orders, and ways with nbbo, three models where they rest
    files = sorted(tmp_path.joinpath("kept").glob("*.parents.parquet"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-100])
    assert same(study_of(days, keep=folder), alone)
    assert len(seen) == number + 2
    assert not list(tmp_path.joinpath("kept").glob("*.part"))


def test_a_run_that_is_stopped_goes_on(days: list[str], alone: Study, tmp_path: Path) -> None:
    def stop(done: int, every: int) -> None:
        if 0 < done < every:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study_of(days, keep=str(tmp_path), told=stop)
    assert len(list(tmp_path.glob("*.parents.parquet"))) == 1
    assert same(study_of(days, keep=str(tmp_path)), alone)


@pytest.mark.parametrize(
    "change",
    [
        {"rules": Rules(horizon=30 * SECOND, placement=10 * SECOND, min_windows=20, seed=2)},
        {"wanted": Orders(sizes=(400,), sides=("buy", "sell"), number=8)},
        {"strategies": WAYS[:2]},
        {"session": Session(closes=57_000)},
    ],
    ids=["rules", "orders", "strategies", "session"],
)
def test_what_was_asked_otherwise_is_done_anew(
    days: list[str], tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study_of(days, keep=str(tmp_path))
    seen = works(monkeypatch)
    changed = study_of(days, keep=str(tmp_path), **change)
    assert len(seen) == 3
    assert same(changed, study_of(days, **change))


def test_under_another_policy_it_is_done_anew(days: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study_of(days[:1], keep=str(tmp_path / "kept"))
    file = tmp_path / "policy.toml"
    file.write_text("schema_version = 1\n[choice]\nprotected = 'off'\n")
    seen = works(monkeypatch)
    study_of(days[:1], keep=str(tmp_path / "kept"), directory=VenueDirectory.load(policy=Policy.load(file)))
    assert len(seen) == 1


def test_a_file_with_other_content_is_done_anew(
    days: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [str(tmp_path / Path(path).name) for path in days]
    for path, copy in zip(days, mine, strict=True):
        Path(copy).write_bytes(Path(path).read_bytes())
    study_of(mine, keep=str(tmp_path / "kept"))
    market = SyntheticMarket(Scenario(seed=9, duration=900, date="2024-08-02"))
    write_parquet(market.batches(), mine[1])
    seen = works(monkeypatch)
    assert same(study_of(mine, keep=str(tmp_path / "kept")), study_of(mine))
    assert [piece.source.paths for piece in seen] == [(mine[1],)]


def test_the_manifest_names_inputs_and_pieces(days: list[str], tmp_path: Path) -> None:
    import hashlib

    study_of(days, keep=str(tmp_path), command="sor backtest ...")
    told = json.loads((tmp_path / "manifest.json").read_bytes())
    assert told["command"] == "sor backtest ..."
    assert [one["path"] for one in told["inputs"]] == days
    assert [one["sha256"] for one in told["inputs"]] == [
        hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in days
    ]
    names = {path.name.partition(".")[0] for path in tmp_path.glob("*.parquet")}
    assert {one["name"] for one in told["pieces"]} == names
    assert [one["days"] for one in told["pieces"]] == [["2024-08-01"], ["2024-08-02"], ["2024-08-05"]]


class Own:
    def split(self, market: Any, shares: int) -> list[Any]:
        return []


def test_what_cannot_be_kept_is_refused(days: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="strategies must be names"):
        study_of(days, [("immediate", Own())], keep=str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file"):
        study_of(days, keep=str(tmp_path / "file"))
    with pytest.raises(InputError, match="must be one of files"):
        sor.backtest(list(sor.read_feed(days)), ORDERS, WAYS, rules=RULES, keep=str(tmp_path / "kept"))


# --- bad rows ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """A day with eight rows that are none."""
    good = tmp_path / "good.csv"
    batches = SyntheticMarket(Scenario(seed=1, duration=900)).batches()
    rows = ["time,venue,symbol,bid,ask,bid_size,ask_size"]
    for batch in batches:
        shown = np.flatnonzero((batch.bid_size[:, 0] > 0) & (batch.ask_size[:, 0] > 0))
        for i in shown.tolist():
            time = np.datetime64(int(batch.time[i]), "ns")
            prices = batch.bid_price[i, 0] / 1e9, batch.ask_price[i, 0] / 1e9
            rows.append(f"{time}Z,XNAS,SIM,{prices[0]},{prices[1]},{batch.bid_size[i, 0]},{batch.ask_size[i, 0]}")
    rows[100:100] = ["rubbish"] * 8
    good.write_text("\n".join(rows) + "\n")
    return str(good)


@pytest.mark.parametrize("how", [{}, {"jobs": 2}, {"keep": True}], ids=["at once", "processes", "kept"])
def test_bad_rows_are_told_once_whoever_reads_them(
    damaged: str, tmp_path: Path, how: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    if "keep" in how:
        how = {"keep": str(tmp_path / "kept")}
    feed = sor.read_feed(damaged)
    sor.backtest(feed, ORDERS, [("immediate", "equal")], rules=RULES, **how)
    assert feed.bad.total() == 8
    told = [line for line in caplog.messages if line.startswith("bad row: ")]
    assert [line.partition(": ")[2].partition(":")[0] for line in told] == [damaged] * 5
    assert len(set(told)) == 5
    assert [line for line in caplog.messages if line.startswith("8 bad rows in all: ")]
    assert len(caplog.messages) == 6


def test_a_missing_package_is_missed_before_files_are_read(
    days: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("sor.backtest.run.surveyed", lambda *_: pytest.fail("the files were read"))
    feed = sor.read_feed(days)
    with pytest.raises(InputError, match=r"pip install 'sor\[parquet\]'"):
        sor.backtest(feed, ORDERS, WAYS, rules=RULES, keep=str(tmp_path))


# --- many workers -----------------------------------------------------------------------------------------------------


def test_files_that_share_a_day_are_one_market(tmp_path: Path) -> None:
    rows: dict[int, list[Any]] = {XNAS: [], IEXG: [], ARCX: []}
    for i in range(2000):
        venue = (XNAS, IEXG, ARCX)[i % 3]
        rows[venue].append(quote(i / 4, venue, (99.99, 100 + i % 7), (100.01 + i % 2 * 0.01, 90 + i % 11)))
        rows[venue].append(trade(i / 4, venue, 100.01, 10))
    paths = []
    for venue, mine in rows.items():
        paths.append(str(tmp_path / f"{venue}.parquet"))
        write_parquet([tape(mine)], paths[-1])
    other = str(tmp_path / "next.parquet")
    write_parquet([tape(rows[XNAS], opens=OPENS + 86_400 * SECOND)], other)
    feed = sor.read_feed([*paths, other])
    known = pieces.surveyed(None, feed, Session(), None, VenueDirectory.load())
    assert [sorted(map(os.path.basename, one)) for one in known.paths.values()] == [
        ["next.parquet"],
        ["2.parquet", "38.parquet", "43.parquet"],
    ]
    ways = [("immediate", "brute_force"), ("immediate", "equal")]
    assert same(study_of([*paths, other], ways), study_of([*paths, other], ways, jobs=2))


class Deadly:
    """A routing that takes its process with it."""

    def split(self, market: Any, shares: int) -> list[Any]:
        os._exit(9)


def test_venues_with_rules_are_the_same_for_any_number_of_processes(days: list[str], tmp_path: Path) -> None:
    """And what was kept without the rules is done anew."""
    by_mic = {"XNAS": DatedRules("round", ticket=0.5), "IEXG": DatedRules(min_execution=300, tick=0.02)}
    directory = VenueDirectory(
        (structs.replace(one, rules=(by_mic[one.venue_id],)) if one.venue_id in by_mic else one for one in BUILT_IN),
        BUILT_IN.default,
    )
    wanted = Orders(sizes=(450,), sides=("buy", "sell"), number=8)
    free = study_of(days[:2], wanted=wanted, keep=str(tmp_path))
    found = study_of(days[:2], wanted=wanted, directory=directory)
    assert found.parents["tickets"].sum() > 0
    assert not same(found, free)
    for how in ({"jobs": 2}, {"keep": str(tmp_path)}, {"keep": str(tmp_path)}):
        assert same(study_of(days[:2], wanted=wanted, directory=directory, **how), found)


def test_a_process_that_dies_is_told(days: list[str]) -> None:
    with pytest.raises(StreamError, match="a worker died"):
        study_of(days[:1], [("immediate", Deadly())], jobs=2)


def test_a_worker_of_another_version_is_told(days: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = pieces.source_of
    asked = pieces._Asked(real(sor.read_feed(days), days, VenueDirectory.load()), Session(), None, "0.0.1")
    with pytest.raises(InputError, match=r"a worker has sor .*, and the run is of 0\.0\.1"):
        pieces._survey(asked)


# --- Dask -------------------------------------------------------------------------------------------------------------


def test_workers_that_are_killed_change_nothing(
    days: list[str], alone: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three are killed once the first piece of eighteen is done."""
    monkeypatch.setattr(orders, "LIVES", 30)
    with cluster(3) as (address, _, workers):
        left: list[int] = []

        def kill(done: int, every: int) -> None:
            if done and not left:
                left.append(every - done)
                for worker in workers[:2]:
                    worker.send_signal(signal.SIGKILL)

        found = study_of(days, dask=address, keep=str(tmp_path), told=kill)
        assert left[0] > 240
        assert same(found, alone)
        assert [worker.wait(10) for worker in workers[:2]] == [-signal.SIGKILL] * 2
        assert len(list(tmp_path.glob("*.parents.parquet"))) == 18
        assert same(study_of(days, keep=str(tmp_path)), alone)


def test_a_piece_that_kills_its_workers_ends(days: list[str]) -> None:
    known = {"PYTHONPATH": os.pathsep.join(sys.path), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    told = "a worker died, and so did those that tried again"
    with cluster(1, **known) as (address, *_), pytest.raises(StreamError, match=told):
        study_of(days[:1], [("immediate", Deadly())], dask=address)


def test_a_cluster_without_the_strategys_module_is_told(days: list[str]) -> None:
    known = {"PYTHONPATH": str(Path(sor.__file__).parents[1])}
    with cluster(1, **known) as (address, *_), pytest.raises(InputError, match="the cluster cannot read the work"):
        study_of(days[:1], [("immediate", Own())], dask=address)


def test_a_scheduler_that_is_lost_is_told(days: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was done until then is kept."""
    monkeypatch.setattr(orders, "LIVES", 30)
    monkeypatch.setattr(pieces, "CONNECT_S", 5)
    with cluster(1) as (address, scheduler, _):

        def kill(done: int, every: int) -> None:
            if done:
                scheduler.kill()

        with pytest.raises(StreamError, match="the scheduler was lost: what is kept need not be done again"):
            study_of(days, dask=address, keep=str(tmp_path), told=kill)
        assert len(list(tmp_path.glob("*.parents.parquet"))) >= 1


def test_no_scheduler_is_told(days: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr(pieces, "CONNECT_S", 1)
    with pytest.raises(InputError, match=r"dask is 'tcp://127.0.0.1:9': no scheduler answers there"):
        study_of(days, dask="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="jobs and dask exclude each other"):
        study_of(days, dask="tcp://127.0.0.1:9", jobs=2)


# --- files elsewhere --------------------------------------------------------------------------------------------------


def test_files_at_an_address_are_read_and_kept_there(
    days: list[str], alone: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    there = [f"file://{path}" for path in days]
    keep = f"file://{tmp_path}/kept"
    found = study_of(there, keep=keep)
    assert all(found.parents[name].tobytes() == alone.parents[name].tobytes() for name in alone.parents)
    seen = works(monkeypatch)
    assert same(study_of(there, keep=keep), found)
    assert not seen
    pattern = f"file://{Path(days[0]).parent}/2024-08-0*.parquet"
    assert sor.read_feed([pattern, days[0]]).paths == (*there, days[0])
    with pytest.raises(InputError, match=r"cannot read .*csv: no file there has such a name"):
        sor.read_feed(pattern.replace("parquet", "csv"))
    packed = "memory://sor/day.csv.gz"
    path = tmp_path / "day.csv.gz"
    import gzip

    path.write_bytes(gzip.compress(b"time,venue,symbol,price,size\n2024-08-01T14:00:00Z,XNAS,T,10.0,100\n"))
    storage.put(str(path), packed)
    assert len(next(iter(sor.read_feed(packed)))) == 1
    with pytest.raises(InputError, match="cannot read memory://sor/nothing"):
        sor.read_feed("memory://sor/nothing")
    with pytest.raises(InputError, match="cannot read nosuch://"):
        sor.read_feed("nosuch://bucket/day.csv")
