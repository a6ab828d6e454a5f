"""Work in pieces: here, on several processes, or on a Dask cluster; what is done is kept where that is asked for.

A piece is a pure function of what it is made of, so results are the same bytes however many work on them, whatever
dies on the way, and whether or not a run before has done some of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, NamedTuple

import msgspec

from sor.backtest.days import Day, Session, survey
from sor.backtest.measures import FillRow, Parent
from sor.backtest.work import Found, Job, concatenated, work
from sor.errors import InputError, StreamError
from sor.execution.strategies import strategy
from sor.market import storage
from sor.market.columns import arrow
from sor.market.feed import Feed, Reading, is_pipe
from sor.market.instruments import Instruments
from sor.market.parquet import TableFile
from sor.market.venues import VenueDirectory
from sor.market.whole_file import WholeFile

SCHEMA_VERSION = 1
FOUND = b"sor.found"  # in the metadata of a piece's file: what is no row
RETRIES = 3  # of a piece that failed, as its file could not be read; of one whose worker died Dask has its own number
CONNECT_S = 10
HERE = "jobs is more than 1, or dask or keep is given: the feed must be one of files, as sor.read_feed gives it"


# --- who works -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def workers(processes: int = 1, dask: str | None = None) -> Iterator[Executor | None]:
    """Processes of this machine, or those of a Dask cluster; None: this process alone.

    Raises
    ------
    InputError
        Dask is not installed, or no scheduler answers.
    """
    if dask is not None:
        if processes != 1:
            raise InputError("jobs and dask exclude each other: the cluster has its own number of processes")
        with _client(dask) as client:
            yield client.get_executor(retries=RETRIES, pure=False)
    elif processes == 1:
        yield None
    else:
        import multiprocessing  # here, as most runs do without
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool


def _client(address: str) -> Any:
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise InputError("dask is given, and Dask is not installed: pip install 'sor[dask]'") from None
    try:
        return distributed.Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as error:
        told = str(error).partition("\n")[0]
        raise InputError(
            f"dask is {address[:200]!r}: no scheduler answers there ({told}); it must be an address such as "
            "tcp://10.0.0.1:8786"
        ) from None


def each(pool: Executor | None, do: Callable[[Any], Any], given: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """What a function says of each, as it is done, with its place.

    Raises
    ------
    StreamError
        Whoever worked on it died, again and again; or the scheduler did.
    InputError
        A cluster has other software than we have.
    """
    if pool is None:
        yield from ((i, do(one)) for i, one in enumerate(given))
        return
    waiting: dict[Any, int] = {}
    try:
        waiting.update((pool.submit(do, one), i) for i, one in enumerate(given))
        for one in as_completed(waiting):
            yield waiting[one], one.result()
    except Exception as error:
        name = type(error).__name__
        if name in ("KilledWorker", "BrokenProcessPool"):
            raise StreamError(f"a worker died, and so did those that tried again: {error}") from None
        if name in ("CancelledError", "ClosedClientError"):
            raise StreamError("the scheduler was lost: what is kept need not be done again") from None
        if isinstance(error, RuntimeError) and "deserializ" in str(error):
            raise InputError(
                "the cluster cannot read the work: the same sor, and the module of a strategy of your own, must be "
                "installed for its scheduler and its workers"
            ) from None
        raise
    finally:
        for one in waiting:
            one.cancel()


# --- what there is to do ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What a process reads a feed from: the arguments of a `Feed`."""

    paths: tuple[str, ...]
    symbols: frozenset[str] | None
    start: int
    end: int
    depth: int
    instruments: Instruments
    directory: VenueDirectory

    def feed(self) -> Feed:
        """It is told of once, by who has asked, however often and wherever it is read."""
        feed = Feed(self.paths, self.symbols, self.start, self.end, self.depth, self.instruments, self.directory)
        feed.quiet = True
        return feed


class Piece(NamedTuple):
    """A job, and where its feed lies."""

    job: Job
    source: Source
    version: str  # of `sor`: workers elsewhere may have another


def worked(piece: Piece) -> Found:
    """What became of a piece."""
    _check_version(piece.version)
    return work(piece.job, piece.source.feed(), piece.source.directory, piece.source.instruments)


def packed(piece: Piece) -> bytes:
    """The same to be sent: so many small rows take longer to be unpickled, and one process reads all of them."""
    return msgspec.msgpack.encode(worked(piece))


def unpacked(found: bytes) -> Found:
    return msgspec.msgpack.decode(found, type=Found)


def _check_version(wanted: str) -> None:
    mine = metadata.version("sor")
    if mine != wanted:
        raise InputError(f"a worker has sor {mine}, and the run is of {wanted}: they must be the same")


@dataclass
class Surveyed:
    """What is known of a feed's files: its days, and which files have rows of each."""

    days: list[Day] = field(default_factory=list)
    paths: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)


class _Asked(NamedTuple):
    source: Source
    session: Session
    max_quote_age: int | None
    version: str


def _survey(asked: _Asked) -> Surveyed:
    _check_version(asked.version)
    feed = asked.source.feed()
    days = survey(feed, asked.session, asked.max_quote_age)
    paths = {(day.symbol, day.day): list(feed.paths) for day in days}
    return Surveyed(days, paths, feed.reading())


def surveyed(
    pool: Executor | None, feed: Any, session: Session, max_quote_age: int | None, directory: VenueDirectory
) -> Surveyed:
    """The days of a feed of files, each file by itself; those that share a symbol's day are read together.

    The feed then knows what reading it tells.

    Raises
    ------
    InputError
        The feed is not one of files.
    StreamError
        A file cannot be read to its end.
    """
    if not isinstance(feed, Feed) or any(is_pipe(path) for path in feed.paths):
        raise InputError(HERE)

    def surveys(files: Sequence[tuple[str, ...]]) -> list[Surveyed]:
        version = metadata.version("sor")
        asked = [_Asked(source_of(feed, paths, directory), session, max_quote_age, version) for paths in files]
        told = dict(each(pool, _survey, asked))
        return [told[i] for i in range(len(asked))]

    alone = surveys([(path,) for path in feed.paths])
    groups = _together([{(day.symbol, day.day) for day in one.days} for one in alone])
    parts = [alone[group[0]] for group in groups if len(group) == 1]
    parts += surveys([tuple(feed.paths[i] for i in group) for group in groups if len(group) > 1])
    found = Surveyed()
    for part in parts:
        found.days += part.days
        found.paths |= part.paths
        found.reading.join(part.reading)
    found.days.sort(key=lambda day: (day.day, day.symbol))
    feed.learn(found.reading)
    return found


def _together(keys: Sequence[set[tuple[str, int]]]) -> list[list[int]]:
    """Places of sets that share something with each other, directly or by others between them."""
    groups: list[tuple[set[tuple[str, int]], list[int]]] = []
    for i, mine in enumerate(keys):
        touched = [group for group in groups if group[0] & mine]
        groups = [group for group in groups if not group[0] & mine]
        joined = set(mine).union(*(group[0] for group in touched)), [j for group in touched for j in group[1]] + [i]
        groups.append(joined)
    return [sorted(places) for _, places in groups]


def source_of(feed: Feed, paths: Iterable[str], directory: VenueDirectory, **more: Any) -> Source:
    """Some files of a feed."""
    asked = {"symbols": feed.symbols, "start": feed.start, "end": feed.end, "depth": feed.depth} | more
    return Source(tuple(paths), instruments=feed.instruments, directory=directory, **asked)


def piece_of(job: Job, feed: Feed, known: Surveyed, directory: VenueDirectory) -> Piece:
    """A job with the files that have rows of its days."""
    mine = {path for day in job.days for path in known.paths[day.symbol, day.day]}
    symbols = frozenset(day.symbol for day in job.days)
    end = min(feed.end, max(day.last for day in job.days) + 1)
    paths = [path for path in feed.paths if path in mine]
    return Piece(
        job, source_of(feed, paths, directory, symbols=symbols, end=end, depth=job.depth), metadata.version("sor")
    )


# --- what is kept ----------------------------------------------------------------------------------------------------


def done(
    pool: Executor | None,
    pieces: Sequence[Piece],
    keep: str | None,
    told: Callable[[int], None],
    command: str | None = None,
) -> Iterator[Found]:
    """What became of all pieces, in no order; those that a folder has are taken from there.

    Parameters
    ----------
    keep : path or address, optional
        A folder for what is done.
    told : callable
        Called with the number of orders, times their strategies, that are done.
    """
    ended = 0
    kept = None if keep is None else Kept(keep, pool, pieces, command)
    missing = []
    for i, piece in enumerate(pieces):
        found = None if kept is None else kept.found(i, piece)
        if found is None:
            missing.append(i)
            continue
        ended += len(found.parents)
        yield found
    told(ended)
    for place, sent in each(pool, packed, [pieces[i] for i in missing]):
        found = unpacked(sent)
        if kept is not None:
            kept.add(missing[place], found)
        ended += len(found.parents)
        told(ended)
        yield found


class Kept:
    """A folder of pieces that are done: Parquet of orders and of fills by piece, and a manifest of the newest run.

    A piece's name is a hash of all that it is made of: contents of its files, orders, strategies, rules, fees, and the
    version of `sor`. So what has changed is done again, and what has not is not, whatever the run is called.

    Raises
    ------
    InputError
        The folder cannot be written, or a strategy is an object, of which nothing is known.
    """

    def __init__(self, folder: str, pool: Executor | None, pieces: Sequence[Piece], command: str | None) -> None:
        self._folder = folder
        for piece in pieces:
            for _, *names in piece.job.strategies:
                if not all(isinstance(name, str) for name in names):
                    raise InputError("keep is given: strategies must be names, as what an object does is not known")
        if not storage.is_remote(folder):
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot write {folder}: {error.strerror}") from None
        paths = list(dict.fromkeys(path for piece in pieces for path in piece.source.paths))
        prints = dict(each(pool, storage.fingerprint, paths))
        inputs = {path: prints[i] for i, path in enumerate(paths)}
        self._names = storage.names(folder)
        self._keys = [_key(piece, inputs) for piece in pieces]
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "command": command,
            "versions": {"sor": metadata.version("sor")},
            "seed": pieces[0].job.rules.seed,
            "inputs": list(inputs.values()),
            "pieces": [
                {
                    "name": key,
                    "days": sorted({day.name for day in piece.job.days}),
                    "symbols": sorted(piece.source.symbols or ()),
                    "strategies": [" x ".join(names) for _, *names in piece.job.strategies],
                }
                for key, piece in zip(self._keys, pieces, strict=True)
            ],
        }
        with WholeFile(storage.inside(folder, "manifest.json")) as file, file.writing():
            file.file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")

    def _paths(self, place: int) -> tuple[str, ...]:
        key = self._keys[place]
        return tuple(storage.inside(self._folder, f"{key}.{what}.parquet") for what in ("parents", "fills"))

    def add(self, place: int, found: Found) -> None:
        """Fills first: a piece is there once its orders are."""
        parents, fills = self._paths(place)
        rest = msgspec.json.encode(replace(found, parents=[], fills=[]), order="deterministic")
        _write(fills, concatenated([fill for _, rows in found.fills for fill in rows], FillRow), {})
        _write(parents, concatenated([row for _, row in found.parents], Parent), {FOUND: rest})

    def found(self, place: int, piece: Piece) -> Found | None:
        """None: it is not there, or cannot be read."""
        paths = self._paths(place)
        if not self._names.issuperset(map(os.path.basename, paths)):
            return None
        numbers = {(one.schedule, one.routing): number for number, one in _strategies(piece.job)}
        try:
            (parents, rest), (fills, _) = (
                _read(path, kind) for path, kind in zip(paths, (Parent, FillRow), strict=True)
            )
            found = msgspec.json.decode(rest, type=Found)
        except (OSError, arrow().ArrowException, KeyError, msgspec.MsgspecError):
            return None  # damaged: it is done again
        places = {}
        for row in parents:
            names = row.schedule, row.routing
            at = (row.day, row.order, numbers[names], row.queue)
            places[row.order, names, row.queue] = at
            found.parents.append((at, row))
        by_place: dict[tuple[int, ...], list[FillRow]] = {}
        for fill in fills:
            by_place.setdefault(places[fill.order, (fill.schedule, fill.routing), fill.queue], []).append(fill)
        found.fills = list(by_place.items())
        return found


def _strategies(job: Job) -> Iterator[tuple[int, Any]]:
    return ((number, strategy(*names)) for number, *names in job.strategies)


def _write(path: str, columns: Mapping[str, Any], more: Mapping[bytes, bytes]) -> None:
    package = arrow()
    with TableFile(path, ()) as file:
        arrays = {
            name: package.array(values.tolist() if values.dtype.kind == "U" else values)
            for name, values in columns.items()
        }
        file.write(package.table(arrays).replace_schema_metadata(dict(more)))


def _read(path: str, kind: Any) -> tuple[list[Any], bytes]:
    parquet = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(storage.opened(path) if storage.is_remote(path) else path)
    columns = [table[name].to_pylist() for name in kind._fields]
    return [kind(*row) for row in zip(*columns, strict=True)], (table.schema.metadata or {}).get(FOUND, b"")


def _key(piece: Piece, inputs: Mapping[str, Mapping[str, Any]]) -> str:
    job, source = piece.job, piece.source
    made_of = {
        "schema_version": SCHEMA_VERSION,
        "version": piece.version,
        "files": [{name: told for name, told in inputs[path].items() if name != "path"} for path in source.paths],
        "source": [sorted(source.symbols or ()), source.start, source.end, source.depth],
        "instruments": {symbol: source.instruments.get(symbol) for symbol in sorted(source.symbols or ())},
        "venues": [list(source.directory), source.directory.default, source.directory.policy.entries],
        "rules": job.rules,
        "session": job.session,
        "depth": job.depth,
        "days": job.days,
        "orders": sorted((*key, orders) for key, orders in job.orders.items()),
        "profiles": sorted((*key, profile) for key, profile in job.profiles.items()),
        "strategies": [[one.schedule, one.routing] for _, one in _strategies(job)],
    }
    text = msgspec.json.encode(msgspec.to_builtins(made_of, enc_hook=repr, str_keys=True), order="deterministic")
    return hashlib.sha256(text).hexdigest()[:24]
