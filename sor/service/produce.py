"""Sends a recorded feed to a topic, at the pace it was recorded with."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sor.errors import DataError, InputError, LeftOut, SorError
from sor.kafka import resume
from sor.market import BookUpdate
from sor.market.databento_csv import CsvDecoder
from sor.market.databento_json import LEVELS, JsonDecoder, message_from, message_of
from sor.market.fields import symbol_of, time_of
from sor.market.instruments import InLots, Instruments
from sor.market.venues import VenueDirectory
from sor.service.settings import ProduceSettings
from sor.stream.files import FileSource, open_feed
from sor.stream.messages import DeadLetter
from sor.stream.pipeline import Stop

logger = logging.getLogger(__name__)

NAP_S = 0.2  # longest sleep, and so for a signal to be seen


class Pace:
    """Waits until a row's event is due: ``speed`` times as fast as recorded, 0 without waiting.

    Every row is due at a time counted from the start, not from the row before, so errors do not add up: after a
    stall rows follow at once until the schedule is kept again.

    Attributes
    ----------
    latest : float
        The longest that a row was handed on after it was due, in seconds.
    """

    def __init__(
        self,
        speed: float,
        stopped: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.speed = speed
        self.latest = 0.0
        self._stopped = stopped
        self._clock = clock
        self._sleep = sleep
        self.restart()

    def restart(self) -> None:
        """The next row is due at once."""
        self._first: int | None = None  # event time of the first row
        self._started = self._due = 0.0

    def wait(self, event_time: int) -> None:
        if self.speed <= 0:
            return
        if self._first is None:
            self._first, self._started = event_time, self._clock()
        due = self._started + (event_time - self._first) / 1e9 / self.speed
        self._due = max(self._due, due)  # a row dated back comes after the one before it all the same
        while not self._stopped() and (left := self._due - self._clock()) > 0:
            self._sleep(min(left, NAP_S))
        self.latest = max(self.latest, self._clock() - self._due)


class Row(NamedTuple):
    number: int  # from 1, the header and blank lines not counted
    symbol: str
    time: int  # of the event, nanoseconds
    message: bytes


class Rows:
    """A file's rows as messages; what cannot be sent is counted and logged, what is left out on purpose is counted."""

    def __init__(self, path: str, venues: str | None = None, instruments: str | None = None) -> None:
        directory = VenueDirectory.load(venues)
        self.source = open_feed(path, Instruments.load(instruments), directory)
        self.bad = 0
        self.left_out: Counter[str] = Counter()  # on purpose, by reason
        self._convert = _converter(self.source, directory)

    def __iter__(self) -> Iterator[Row]:
        number = 0
        for message in self.source:
            if not message.value:
                continue
            number += 1
            try:
                yield Row(number, *self._convert(message.whole()))
            except LeftOut as error:
                self.left_out[error.reason] += 1
            except DataError as error:
                self.bad += 1
                DeadLetter(message.value, message.place, error.reason, str(error)).tell()


def _converter(source: FileSource, directory: VenueDirectory) -> Callable[[bytes], tuple[str, int, bytes]]:
    """From a line to (symbol, event time, JSON message), whose sizes are in units of the instruments."""
    instruments = source.instruments
    decoder = source.decoder(depth=1, directory=directory)

    def from_json(raw: bytes) -> tuple[str, int, bytes]:
        update = decoder.decode(raw)
        return update.symbol, update.time, raw

    if isinstance(decoder, JsonDecoder):
        return from_json
    if isinstance(decoder, InLots):
        decoder = decoder.decoder
    if not isinstance(decoder, CsvDecoder):
        whole = source.decoder(LEVELS, events=True, directory=directory)
        return lambda raw: _from_update(whole.decode(raw), instruments)
    columns = decoder.columns
    time_at, symbol_at = columns.index("ts_event"), columns.index("symbol")

    def from_csv(raw: bytes) -> tuple[str, int, bytes]:
        cells = decoder.cells(raw)
        decoder.check_units(cells)
        return symbol_of(cells[symbol_at]), time_of("ts_event", cells[time_at]), message_of(columns, cells)

    return from_csv


def _from_update(update: BookUpdate, instruments: Instruments) -> tuple[str, int, bytes]:
    return update.symbol, update.time, message_from(update, instruments)


class Outcome(NamedTuple):
    confirmed: int  # messages acknowledged
    bad: int  # rows that could not be sent
    left_out: Counter[str]  # rows that say nothing to act on, by reason
    there: int  # rows that the topic had already
    latest: float  # the longest that a message was handed to the client after it was due, seconds
    finished: bool  # False where a signal ended it before the end


def produce(settings: ProduceSettings) -> Outcome:
    """Send a file's rows, keyed by symbol, and wait until the brokers have acknowledged every one.

    Raises
    ------
    InputError, StreamError
    """
    path = settings.csv_file
    if settings.loop and not os.path.isfile(path):
        raise InputError(f"--loop: {path} cannot be read again from its start")
    # A file that cannot be read is told before a broker is waited for.
    rows = Rows(path, settings.venues, settings.instruments)
    try:
        topic = resume.connect(settings.connection, settings.topic)
    except SorError:
        rows.source.close()
        raise
    stop, bad, there, left = Stop(), 0, 0, settings.max_messages
    left_out: Counter[str] = Counter()
    pace = Pace(settings.speed, stop)
    try:
        before = _rows_before(settings) if settings.resume else None
        logger.info("producing %s to %s at %s", path, settings.topic, settings.kafka_servers)
        with stop.on_signals():
            while True:
                sent, passed = _send(rows, topic, pace, stop, left, before)
                rows.source.close()
                bad, there = bad + rows.bad, there + passed
                left_out += rows.left_out
                left = None if left is None else left - sent
                if not settings.loop or not sent or left == 0 or stop():
                    break
                rows = Rows(path, settings.venues, settings.instruments)
                pace.restart()
            topic.finish()
    finally:
        topic.close()
        logger.info("%d messages acknowledged by %s, %d bad rows", topic.count, settings.topic, bad)
    return Outcome(topic.count, bad, left_out, there, pace.latest, not stop())


def _rows_before(settings: ProduceSettings) -> resume.RowsSent:
    """What the topic has already, said in one line."""
    sent = resume.rows_in(settings.connection, settings.topic)
    if any(sent.rows.values()):
        rows = ", ".join(f"{row or 'none'} (partition {partition})" for partition, row in sent.rows.items())
        logger.info("resuming %s after row %s", settings.topic, rows)
    elif sent.empty:
        logger.info("resuming %s from row 1: the topic is empty", settings.topic)
    else:
        logger.warning(
            "resuming %s from row 1: none of the last %d messages of a partition has a header row, "
            "so they are not from sor produce",
            settings.topic,
            resume.LOOK_BACK[-1],
        )
    return sent


def _send(
    rows: Rows, topic: resume.Confirmed, pace: Pace, stop: Stop, left: int | None, before: resume.RowsSent | None
) -> tuple[int, int]:
    """Send rows; returns how many, and how many were there before."""
    sent = there = 0
    for row in rows:
        if stop():
            break
        if before is not None and before.has(row.symbol, row.number):
            there += 1
            continue
        pace.wait(row.time)
        if stop():
            break
        topic.send(row.symbol, row.message, row.number)
        sent += 1
        if sent == left:
            break
    return sent, there
