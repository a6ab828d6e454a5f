"""Sends a recorded feed to a topic, at the pace it was recorded with."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sor import kafka
from sor.config import Settings
from sor.errors import DataError, InputError
from sor.market_data import Decoder
from sor.market_data.databento_csv import CsvDecoder
from sor.market_data.databento_json import message_of
from sor.market_data.fields import symbol_of, time_of
from sor.pipeline import Stop
from sor.streams import DeadLetter, FileSource, LogLetters

logger = logging.getLogger(__name__)

NAP_S = 0.2  # longest sleep, and so for a signal to be seen


class Pace:
    """Waits until a row's event is due: ``speed`` times as fast as recorded, 0 without waiting."""

    def __init__(self, speed: float, stopped: Callable[[], bool]) -> None:
        self.speed = speed
        self._stopped = stopped
        self._first: int | None = None  # event time of the first row
        self._started = 0.0

    def wait(self, event_time: int) -> None:
        if self._first is None:
            self._first, self._started = event_time, time.monotonic()
        due = self._started + (event_time - self._first) / 1e9 / self.speed
        while not self._stopped() and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, NAP_S))


class Row(NamedTuple):
    number: int  # from 1, the header and blank lines not counted
    symbol: str
    time: int  # of the event, nanoseconds
    message: bytes


class Rows:
    """A file's rows as messages; what cannot be sent is counted and logged."""

    def __init__(self, path: str) -> None:
        self.source = FileSource(path)
        self.bad = 0
        self._letters = LogLetters()
        self._convert = _converter(self.source.decoder(depth=1))

    def __iter__(self) -> Iterator[Row]:
        number = 0
        for message in self.source:
            if not message.value:
                continue
            number += 1
            try:
                yield Row(number, *self._convert(message.value))
            except DataError as error:
                self.bad += 1
                self._letters.reject(DeadLetter(message.value, message.place, error.reason, str(error)))


def _converter(decoder: Decoder) -> Callable[[bytes], tuple[str, int, bytes]]:
    """From a line to (symbol, event time, JSON message)."""

    def from_json(raw: bytes) -> tuple[str, int, bytes]:
        update = decoder.decode(raw)
        return update.symbol, update.time, raw

    if not isinstance(decoder, CsvDecoder):
        return from_json
    columns = decoder.columns
    time_at, symbol_at = columns.index("ts_event"), columns.index("symbol")

    def from_csv(raw: bytes) -> tuple[str, int, bytes]:
        cells = decoder.cells(raw)
        return symbol_of(cells[symbol_at]), time_of("ts_event", cells[time_at]), message_of(columns, cells)

    return from_csv


def produce(settings: Settings, path: str) -> tuple[int, int, bool]:
    """Send a file's rows, keyed by symbol, and wait until the brokers have acknowledged every one.

    Returns
    -------
    confirmed, bad : int
        Messages acknowledged, and rows that could not be sent.
    finished : bool
        False where a signal ended it before the end.

    Raises
    ------
    InputError, StreamError
    """
    if settings.loop and not os.path.isfile(path):
        raise InputError(f"--loop: {path} cannot be read again from its start")
    rows = Rows(path)  # a file that cannot be read is told before a broker is waited for
    producer = kafka.connect_producer(settings.connection, [settings.topic])
    topic = kafka.Confirmed(producer, settings.topic)
    stop, bad, left = Stop(), 0, settings.max_messages
    logger.info("producing %s to %s at %s", path, settings.topic, settings.kafka_servers)
    try:
        with stop.on_signals():
            while True:
                sent = _send(rows, topic, Pace(settings.speed, stop), stop, left)
                rows.source.close()
                bad += rows.bad
                left = None if left is None else left - sent
                if not settings.loop or not sent or left == 0 or stop():
                    break
                rows = Rows(path)
            topic.finish()
    finally:
        producer.close(timeout=kafka.FLUSH_S)
        logger.info("%d messages acknowledged by %s, %d bad rows", topic.count, settings.topic, bad)
    return topic.count, bad, not stop()


def _send(rows: Rows, topic: kafka.Confirmed, pace: Pace, stop: Stop, left: int | None) -> int:
    sent = 0
    for row in rows:
        if pace.speed > 0:
            pace.wait(row.time)
        if stop():
            break
        topic.send(row.symbol, row.message, row.number)
        sent += 1
        if sent == left:
            break
    return sent
