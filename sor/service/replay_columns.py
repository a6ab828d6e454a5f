"""`sor replay --output results.parquet`: results in columns, of files that would be too large as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from sor.errors import InputError
from sor.market.columns import Batch
from sor.market.feed import Feed, read_feed
from sor.market.fields import DOUBTS
from sor.market.instruments import SHARES, Instruments
from sor.market.venues import VenueDirectory
from sor.routing.many import Routing
from sor.routing.table import ResultsFile
from sor.service.feeds import Progress, all_or_nothing
from sor.service.pipelines import order_of, plan_of
from sor.service.run import ended, tell_summary
from sor.service.settings import ReplaySettings
from sor.stream.summary import RunSummary


def replay_in_columns(
    settings: ReplaySettings, venues_from: str, directory: VenueDirectory, instruments: Instruments = SHARES
) -> int:
    """Route every row of a recorded feed, many at a time; the answers are those of `sor replay` without columns."""
    if venues_from == "levels":
        raise InputError(
            f"--output is {settings.output!r}: the levels of this feed, which has one publisher, would be the venues, "
            "and such results are written as JSON Lines only; --venues-from publishers takes the publisher as one venue"
        )
    plan = plan_of(settings, venues_from, directory, instruments)
    order = order_of(settings, venues_from)
    run = Routing(order, plan.router, directory, 1, instruments)
    feed = read_feed(settings.csv_file, settings.symbol, depth=plan.depth, instruments=instruments, directory=directory)
    summary, started = RunSummary(), time.perf_counter()
    with all_or_nothing(), Progress(feed) as progress, ResultsFile(str(settings.output), run, plan.router) as file:
        for answers in run.answers(_watched(feed, summary, settings.max_symbols)):
            file.add(answers)
            summary.add_many(answers, order.quantity, run.currencies if instruments else ())
            progress.tell()
    summary.messages, summary.skipped, summary.bad = feed.rows, feed.skipped, feed.bad
    tell_summary(settings.summary, summary, time.perf_counter() - started)
    return ended(summary, settings.allow_bad)


def _watched(feed: Feed, summary: RunSummary, most: int) -> Iterator[Batch]:
    """The feed's batches, with what they are to be counted for."""
    for batch in feed:
        if len(batch.symbols) > most:
            raise InputError(
                f"there are more than {most:,} symbols: columns keep the books of all, so --max-symbols must be larger"
            )
        for bit, (flag, _) in DOUBTS.items():
            if rows := int(np.count_nonzero(batch.flags & (bit & 255))):  # beyond are no flags of a feed's
                summary.doubtful[flag] += rows
        yield batch
