"""`sor backtest`: what orders would have cost, worked in several ways."""

from __future__ import annotations

import contextlib
import csv
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

from sor.backtest import files
from sor.backtest.days import Session
from sor.backtest.orders import Orders
from sor.backtest.run import backtest as run
from sor.backtest.study import Study
from sor.backtest.tuning import Tuning
from sor.backtest.work import ANYWHERE, QUEUES, Rules
from sor.errors import Exit, InputError
from sor.market.columns import arrow
from sor.market.whole_file import WholeFile
from sor.report.figures import plotly_js
from sor.service import options
from sor.service.feeds import StatusLine, feed_of
from sor.service.logs import report
from sor.service.outputs import say
from sor.service.pipelines import directory_of
from sor.service.settings import BacktestSettings, TuneSettings, WorkSettings, beside, from_environment
from sor.types import SIDES, CostParameters

SECOND = 10**9


def backtest(settings: BacktestSettings) -> int:
    """Work the orders and tell what they cost."""
    if settings.output is not None and settings.output.endswith(".parquet"):
        arrow()  # missed now, and not after all the work
    ways = [(schedule, routing) for schedule in settings.schedule for routing in settings.routing]
    study, status = worked("backtest", settings, lambda feed, orders, **more: run(feed, orders, ways, **more))
    if settings.output is not None:
        parents = str(beside(settings.output, "parents"))
        files.write(study, settings.output, parents)
        report.info(f"wrote {len(study.fills['order']):,} fills to {settings.output}, the orders to {parents}")
    tell(study, settings)
    return status


def worked(command: str, settings: BacktestSettings | TuneSettings, run: Callable[..., Any]) -> tuple[Any, int]:
    """What comes of a command's work, and its exit status."""
    if settings.report is not None:
        plotly_js()
    directory = directory_of(settings)
    feed = feed_of(settings, directory, settings.depth)
    with OrderProgress() as progress:
        try:
            found = run(
                feed,
                orders_of(settings),
                baseline=settings.baseline,
                rules=rules_of(settings),
                session=Session.of(settings.session, settings.timezone),
                directory=directory,
                jobs=settings.jobs,
                dask=settings.dask,
                keep=settings.keep,
                told=progress.tell,
                command=" ".join([*from_environment(command), shlex.join(["sor", *sys.argv[1:]])]),
            )
        except KeyboardInterrupt:
            progress.stopped(settings.keep)
            raise
    return found, Exit.BAD_MESSAGES if feed.bad and not settings.allow_bad else Exit.DONE


def tell(found: Study | Tuning, settings: WorkSettings, ready: Mapping[str, Any] | None = None) -> None:
    """The table on standard output, or there the JSON; and the files."""
    told = json.dumps(found.as_dict() | ({} if ready is None else {"ready": ready}), indent=1, allow_nan=False)
    if settings.report is not None:
        found.report(settings.report)
        report.info(f"wrote the report to {settings.report}")
    if settings.json == "-":
        say(told)
        return
    if settings.json is not None:
        with WholeFile(settings.json) as file, file.writing():
            file.file.write(told.encode() + b"\n")
    say(found.table())
    if ready is not None:
        words = " ".join(f"{name}={value}" for name, value in ready["environment"].items())
        say(f"\nThe best point for {ready['command']}:\n  {ready['flags']}\nor by variables:\n  {words}")


def orders_of(settings: WorkSettings) -> Orders:
    return Orders(
        sizes=settings.order_size,
        sides=SIDES if settings.side == "both" else (settings.side,),  # type: ignore[arg-type]
        number=settings.orders,
        every=None if settings.every is None else round(settings.every * SECOND),
    )


def rules_of(settings: BacktestSettings | TuneSettings) -> Rules:
    horizon = round(settings.horizon * SECOND)
    return Rules(
        horizon=horizon,
        complete=settings.end_rule == "complete",
        grace=round(settings.grace * SECOND),
        latency=latency_of(settings.latency),
        delay=round(settings.data_delay * SECOND),
        queues=QUEUES if settings.queue == "all" else (settings.queue,),
        together=settings.together,
        refresh=horizon if settings.refresh is None else round(settings.refresh * SECOND),
        max_quote_age=None if settings.max_quote_age is None else round(settings.max_quote_age * SECOND),
        take_frozen=settings.frozen == "take",
        seed=settings.seed,
        parameters=CostParameters(settings.lambda_over, settings.lambda_under, settings.theta_queue),
        placement=settings.placement * SECOND,
        windows=settings.windows,
        min_windows=settings.min_windows,
    )


_LONGEST = options.duration(0.0, 3600.0)


def latency_of(text: str) -> dict[str, tuple[int, ...]]:
    """Nanoseconds by venue: of a time, or of a file with the columns venue and latency, where ``*`` is all others."""
    with contextlib.suppress(ValueError):
        return {ANYWHERE: (round(_LONGEST(text) * SECOND),)}
    try:
        with open(text, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"--latency is {text!r}: it must be a time such as 500us, or a CSV file with the columns venue and latency "
            f"({reason})"
        ) from None
    found: dict[str, tuple[int, ...]] = {}
    for number, row in enumerate(rows, 2):
        try:
            drawn = round(_LONGEST(str(row["latency"])) * SECOND)
            found[row["venue"]] = (*found.get(row["venue"], ()), drawn)
        except (KeyError, ValueError):
            raise InputError(
                f"{text}:{number}: it must have a venue and a latency of at most 1h, such as XNAS,250us"
            ) from None
    if ANYWHERE not in found:
        raise InputError(f"{text}: a row for * is missing: the latency of venues that are not named")
    return found


class OrderProgress(StatusLine):
    """A bar, orders worked, and the time that the rest may take."""

    WIDTH = 30

    def __init__(self) -> None:
        super().__init__()
        self._done = self._all = 0

    def tell(self, done: int, every: int) -> None:
        self._done, self._all = done, every
        self.show(self.line)

    def line(self, seconds: float) -> str:
        share = self._done / self._all if self._all else 0.0
        bar = "#" * round(self.WIDTH * share)
        left = f", {round(seconds * (1.0 - share) / share):,} s left" if share else ""
        return f"[{bar:<{self.WIDTH}}] {self._done:,} of {self._all:,} orders{left}"

    def stopped(self, keep: str | None) -> None:
        """Say how far it came, and how to go on."""
        done = f"stopped after {self._done:,} of {self._all:,} orders" if self._all else "stopped before any order"
        if keep is not None and self._done:
            report.warning(f"sor: {done}; what was done is in {keep}, and the same command goes on from there")
            return
        report.warning(
            f"sor: {done}; nothing was written. With --keep FOLDER it would go on from there; fewer "
            "orders (--orders), fewer days (--start, --end) or more processes (--jobs) take less time."
        )
