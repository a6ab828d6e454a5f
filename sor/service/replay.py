"""`sor replay`: a recorded feed, routed row by row."""

from __future__ import annotations

import contextlib
import logging
import os

from sor.market.instruments import Instruments
from sor.market.venues import VenueDirectory
from sor.service.explain import explained
from sor.service.logs import report
from sor.service.outputs import closing, create, letters
from sor.service.pipelines import directory_of, new_pipeline, plan_of, wants_events
from sor.service.replay_columns import replay_in_columns
from sor.service.run import run_to_end
from sor.service.settings import ReplaySettings, in_columns
from sor.stream.files import FileResults, has_one_publisher, open_feed
from sor.stream.messages import Fanout, Sink

logger = logging.getLogger(__name__)

LOOK_AHEAD = 10_000  # rows of a file read to see whether it has one publisher only


def replay(settings: ReplaySettings) -> int:
    """Route every row of a recorded feed."""
    path = settings.csv_file
    directory = directory_of(settings)
    instruments = Instruments.load(settings.instruments)
    venues_from = settings.venues_from or (
        "publishers" if wants_events(settings) else _venues_of(path, directory, instruments)
    )
    if in_columns(settings):
        return replay_in_columns(settings, venues_from, directory, instruments)
    source = open_feed(path, instruments, directory)
    with contextlib.ExitStack() as stack:
        stack.callback(source.close)
        results = FileResults(create(settings.output or "-"), pretty=settings.pretty)
        last = LastResult()
        sinks = [results, letters(settings), *([last] if settings.explain else [])]
        sink = stack.enter_context(closing(Fanout(sinks)))
        plan = plan_of(settings, venues_from, directory, instruments)
        decoder = source.decoder(plan.depth, events=plan.events, directory=directory)
        pipeline = new_pipeline(plan, decoder, sink)
        hint = settings.venues_from is None and not os.path.isfile(path)
        status = run_to_end(settings, source, pipeline, hint=hint)
    if last.value is not None:
        report.info(f"\n{explained(last.value)}")
    return status


class LastResult(Sink):
    """Keeps the newest result."""

    def __init__(self) -> None:
        self.value: bytes | None = None

    def add(self, key: str, value: bytes) -> None:
        self.value = value


def _venues_of(path: str, directory: VenueDirectory, instruments: Instruments) -> str:
    """What a venue is, where nobody said: a look at the file; a pipe or a topic cannot be looked ahead at."""
    if not os.path.isfile(path) or not has_one_publisher(path, LOOK_AHEAD, directory, instruments):
        return "publishers"
    logger.info(
        "only one publisher in the first %d rows of %s: its levels are routed as venues (--venues-from levels)",
        LOOK_AHEAD,
        path,
    )
    return "levels"
