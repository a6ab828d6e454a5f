"""Settings that are right by themselves and wrong together: all found before the first message."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sor.errors import InputError
from sor.market.storage import is_remote
from sor.service.options import Option, Settings, options_of, topic_name
from sor.service.settings import (
    BacktestSettings,
    ConvertSettings,
    ExplainSettings,
    FeedSettings,
    ModelSettings,
    OneOrderSettings,
    OutputSettings,
    PaperSettings,
    ReplaySettings,
    RoutingSettings,
    SendSettings,
    SimulateSettings,
    StreamSettings,
    TuneSettings,
    beside,
    in_columns,
    truth_files,
)
from sor.types import MAX_NUMBER

STREAMS = {"standard output", "standard error"}  # which may go to one file


def refuse(settings: Settings) -> None:
    """Refuse settings that do not go together.

    Raises
    ------
    InputError
        Naming them, and what each may be.
    """
    if isinstance(settings, StreamSettings):
        _check_delivery(settings)
        _check_topics(settings)
    if isinstance(settings, RoutingSettings):
        check_routing(settings)
    if isinstance(settings, SendSettings):
        check_sending(settings)
    if isinstance(settings, OneOrderSettings):
        _check_order(settings)
    if isinstance(settings, FeedSettings):
        _check_feed(settings)
    if isinstance(settings, ExplainSettings) and settings.results is None:
        raise InputError("FILE is missing: name a file of results, as sor replay --output writes it")
    if isinstance(settings, OutputSettings) and in_columns(settings):
        _check_columns(settings)
    check_files(settings)
    if isinstance(settings, BacktestSettings | TuneSettings):
        _check_work(settings)


# --- what is routed --------------------------------------------------------------------------------------------------


def check_routing(settings: RoutingSettings) -> None:
    if settings.algorithm != "brute_force" and settings.objective != "sweep":
        raise InputError(
            f"--objective is {settings.objective!r}: {settings.algorithm} takes what is displayed, so it must be sweep"
        )
    if settings.protect != "none" and settings.objective != "sweep":
        raise InputError(
            f"--protect is {settings.protect!r}, and --objective {settings.objective!r}: only under sweep do protected "
            "quotations come first"
        )
    if settings.algorithm == "cont_kukanov":
        _check_penalties(settings, "--algorithm")
        if settings.order_size > MAX_NUMBER:
            most = f"with --algorithm cont_kukanov it must be at most {MAX_NUMBER:.0f}"
            raise InputError(f"--order-size is {settings.order_size}: {most}")
    by_orders = isinstance(settings, StreamSettings) and settings.orders_topic is not None
    if settings.algorithm == "cont_kukanov" or by_orders:
        _check_windows(settings)


def _check_windows(settings: ModelSettings) -> None:
    if settings.windows < settings.min_windows:
        raise InputError(
            f"--min-windows is {settings.min_windows} and --windows {settings.windows}: so many are never kept, and "
            "--min-windows must be at most as many"
        )


def _check_penalties(settings: ModelSettings, flag: str) -> None:
    for field in ("theta_queue", "lambda_under", "lambda_over"):
        value = getattr(settings, field)
        if value < 0:
            raise InputError(f"{_flag(field)} is {value:g}: with {flag} cont_kukanov it must be 0 or more")


def _check_order(settings: OneOrderSettings) -> None:
    for field in ("symbol", "side", "quantity", "orders_topic", "results_topic"):
        if getattr(settings, field) is None:
            raise InputError(f"{_flag(field)} is missing: an order needs it")
    if settings.orders_topic == settings.results_topic:
        raise InputError(f"--orders-topic is {settings.orders_topic!r}: that is --results-topic")


def check_sending(settings: SendSettings) -> None:
    if settings.resume and settings.loop:
        raise InputError(
            "--resume and --loop: the rows of one round are numbered as those of the next; give one of them"
        )


# --- topics ----------------------------------------------------------------------------------------------------------


def _check_delivery(settings: StreamSettings) -> None:
    if settings.results_topic is None and settings.delivery == "exactly-once":
        raise InputError("--delivery is 'exactly-once': it needs --results-topic, as files know no transactions")
    if settings.orders_topic is not None and settings.conflate:
        raise InputError("--conflate and --orders-topic: no order is left out; give one of them")
    if settings.workers == 1:
        return
    if settings.results_topic is None:
        raise InputError(f"--workers is {settings.workers}: more than 1 need --results-topic to write to")
    for option in _files_of(settings, "written"):
        if option.field in ("output", "summary", "dead_letter_file"):
            path = getattr(settings, option.field)
            raise InputError(f"{option.name} is {path!r}: {settings.workers} workers cannot share it")


def _check_topics(settings: StreamSettings) -> None:
    """No topic has two roles: what reads it would take the one's messages for the other's, or feed on itself."""
    roles: list[tuple[str, str | None]] = [
        ("--topic", settings.topic),
        ("--results-topic", settings.results_topic),
        ("--dead-letter-topic", settings.dead_letter_topic),
    ]
    if settings.orders_topic is not None:
        roles.insert(0, ("--orders-topic", settings.orders_topic))
    for kept, what in (("books", "its last quotes"), ("orders", "which orders it knows")):
        memory = f"{settings.group}-{kept}"
        try:
            topic_name(memory)
        except ValueError as error:
            if settings.exactly_once:
                raise InputError(
                    f"--group is {settings.group!r}: {memory!r} is where the group keeps {what}, and must be {error}"
                ) from None
        roles.append((f"where the group keeps {what}", memory))
    for number, (option, name) in enumerate(roles):
        for other, taken in roles[number + 1 :]:
            if name is None or taken is None or not option.startswith("--"):
                continue
            if name == taken:
                raise InputError(f"{option} is {name!r}: that is {other}, and each needs a topic of its own")
            if name.replace(".", "_") == taken.replace(".", "_"):
                raise InputError(
                    f"{option} is {name!r} and {taken!r} is {other}: brokers take no two topics that differ only in "
                    ". and _"
                )


# --- results in columns ----------------------------------------------------------------------------------------------


def _check_columns(settings: OutputSettings) -> None:
    """What columns do not have."""
    start = f"--output is {settings.output!r}, for results in columns"
    if not isinstance(settings, ReplaySettings):
        raise InputError(f"{start}: only sor replay writes them, and sor consume writes JSON Lines")
    if settings.algorithm == "cont_kukanov":
        raise InputError(f"{start}: those of --algorithm cont_kukanov are written as JSON Lines only")
    if settings.venues_from == "levels":
        raise InputError(f"{start}: those of --venues-from levels are written as JSON Lines only")
    for field in ("pretty", "explain", "dead_letter_file", "max_messages"):
        if getattr(settings, field):
            raise InputError(f"{start}: {_flag(field)} goes with JSON Lines only")


# --- recorded feeds --------------------------------------------------------------------------------------------------


def _check_feed(settings: FeedSettings) -> None:
    if not settings.files:
        raise InputError("FILE is missing: name one or more")
    if isinstance(settings, ConvertSettings) and settings.output is None:
        what = "the Parquet file to write" if settings.by is None else "a folder for the Parquet files"
        raise InputError(f"--output is missing: it must be {what}")
    if isinstance(settings, ConvertSettings) and settings.by != "file":
        for field in ("jobs", "dask"):
            if getattr(settings, field) not in (1, None):
                raise InputError(f"{_flag(field)} goes with --by file only: other files are made of several")


def _check_work(settings: BacktestSettings | TuneSettings) -> None:
    if "-" in settings.files:
        raise InputError("FILE is '-': a backtest reads its files twice, so they must be files")
    if settings.orders is not None and settings.every is not None:
        raise InputError("--orders and --every: a number of arrivals, or the time between them; give one of them")
    if settings.dask is not None and settings.jobs != 1:
        raise InputError("--jobs and --dask: the cluster has its own number of processes; give one of them")
    routing = settings.routing if isinstance(settings, BacktestSettings) else (settings.routing,)
    if any(one.partition(":")[0] == "cont_kukanov" for one in routing):
        _check_windows(settings)
        _check_penalties(settings, "--routing")
    if settings.report is not None and not settings.report.endswith(".html"):
        raise InputError(f"--report is {settings.report!r}: its name must end in .html")
    if isinstance(settings, TuneSettings):
        if settings.points is not None and settings.search == "grid":
            raise InputError("--points goes with --search random or optuna: a grid has all of its points")
    elif (
        isinstance(settings, BacktestSettings)
        and settings.output is not None
        and beside(settings.output, "parents") is None
    ):
        raise InputError(f"--output is {settings.output!r}: its name must end in .parquet or .csv")


# --- files -----------------------------------------------------------------------------------------------------------


def check_files(settings: Settings) -> None:
    """Nothing that is read is written to, nothing is written twice, and what is to be written can be.

    Raises
    ------
    InputError
    """
    read: dict[Any, str] = {}
    for option in _files_of(settings, "read"):
        value = getattr(settings, option.field)
        for path in value if option.many else (value,):
            for key in _keys(path, sys.stdin):
                read.setdefault(key, option.name)
    written: dict[Any, str] = {}
    for name, path, stream in _targets(settings):
        subject = name if stream is not None else f"{name} is {path!r}"
        for key in _keys(path, stream):
            if key in read:
                raise InputError(f"{subject}: that is the file to read ({read[key]})")
            other = written.setdefault(key, name)
            if other != name and not {name, other} <= STREAMS:
                raise InputError(f"{subject}: that is the file for {other}")
        if stream is None:
            _check_writable(name, path)
    if isinstance(settings, PaperSettings) and settings.folder is not None:
        _check_folder("--folder", settings.folder)
    if isinstance(settings, ConvertSettings) and settings.by is not None and not is_remote(str(settings.output)):
        _check_folder("--output", str(settings.output))


def _files_of(settings: Settings, how: str) -> Iterator[Option]:
    """Options that name a file which is read or written."""
    for option in options_of(type(settings)):
        if option.file == how and getattr(settings, option.field) is not None:
            yield option


def _targets(settings: Settings) -> Iterator[tuple[str, str, Any]]:
    """What is written: option or stream, path, and the stream where it is one."""
    for option in _files_of(settings, "written"):
        path = getattr(settings, option.field)
        if path != "-" and getattr(settings, "by", None) is None and not is_remote(path):
            yield option.name, path, None
            if option.field == "snapshot_file":
                yield option.name, path + ".new", None
    if isinstance(settings, BacktestSettings):
        parents = beside(settings.output or "", "parents")
        if parents is not None and not is_remote(parents):
            yield "the orders beside --output", parents, None
    if isinstance(settings, SimulateSettings):
        for path in truth_files(settings.output) or ():
            yield "the truth beside --output", path, None
    if not isinstance(settings, OutputSettings) or settings.output in (None, "-"):
        yield "standard output", "-", sys.stdout
    yield "standard error", "-", sys.stderr


def _keys(path: str, stream: Any) -> Iterator[Any]:
    """What tells a file from others, whatever it is called; nothing for devices and pipes, which keep nothing."""
    try:
        found = os.fstat(stream.fileno()) if path == "-" else os.stat(path)
    except FileNotFoundError:
        real = os.path.realpath(path)
        try:
            folder = os.stat(os.path.dirname(real))
        except OSError:
            return
        yield folder.st_dev, folder.st_ino, os.path.basename(real)
    except (OSError, ValueError, AttributeError):  # no such folder, or a stream without a file
        return
    else:
        if stat.S_ISREG(found.st_mode):
            yield found.st_dev, found.st_ino


def _check_writable(what: str, path: str) -> None:
    """As far as it can be told without changing anything; a file that was not there is made and taken away again."""
    there = os.path.lexists(path)
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(21, "Is a directory")
        if not there:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            os.unlink(path)
        elif os.path.isfile(path):
            os.close(os.open(path, os.O_WRONLY))
        elif not os.path.exists(path):  # a link that leads nowhere yet
            _check_writable(what, os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {getattr(error, 'strerror', error)} ({what})") from None


def _check_folder(name: str, folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe = Path(folder) / ".sor-probe"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(f"{name} is {folder!r}: cannot write there: {error.strerror}") from None


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")
