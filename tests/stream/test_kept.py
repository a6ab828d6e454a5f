"""What an earlier version has kept is used: ``data/kept-by-1.json`` holds records as that version wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from stream.test_orders import Bench, Log, packed, quote
from stream.test_state import DIRECTORY, MEMORY, TOPIC, Entry, asks, shown
from stream.test_state import Log as Topics

from sor.market.book import Books
from sor.market.databento_json import JsonDecoder
from sor.stream.messages import KafkaPlace
from sor.stream.recovery import MARK, Partition, Recovery

KEPT = json.loads((Path(__file__).parent / "data" / "kept-by-1.json").read_text())


def test_books_of_an_earlier_version_come_back() -> None:
    """As a replay has them; and the next mark is of this version."""
    feed = [Entry(i, value.encode()) for i, value in enumerate(KEPT["feed"])]
    kept = [Entry(i, value.encode(), key.encode()) for i, (key, value) in enumerate(KEPT["books"])]
    state = Partition(Books(DIRECTORY))
    recovery = Recovery(Topics(**{TOPIC: feed, MEMORY: kept}), JsonDecoder(1), MEMORY, depth=1, tail=0)
    recovery.fill(state, KafkaPlace(TOPIC, 0, 6))
    expected = Books(DIRECTORY)
    for entry in feed:
        expected.apply(JsonDecoder(1).decode(entry.value or b""))
    assert (shown(state.books), state.caveat) == (shown(expected), None)
    state.end = 6
    assert dict(state.memories(1)) == {MARK: b'{"offset":6,"venues_from":"publishers"}'}


def test_books_of_an_earlier_version_are_not_used_before_their_end() -> None:
    """They do not say which message a quote is of, so that after a set-back none can be trusted."""
    feed = [Entry(i, value.encode()) for i, value in enumerate(KEPT["feed"])]
    kept = [Entry(i, value.encode(), key.encode()) for i, (key, value) in enumerate(KEPT["books"])]
    state = Partition(Books(DIRECTORY))
    recovery = Recovery(Topics(**{TOPIC: feed, MEMORY: kept}), JsonDecoder(1), MEMORY, depth=1, tail=10)
    recovery.fill(state, KafkaPlace(TOPIC, 0, 2))
    state.begun = shown(state.books), state.caveat  # type: ignore[attr-defined]
    assert asks(state) == [100.0, 101.0]


def test_orders_of_an_earlier_version_are_known() -> None:
    log = Log()
    log.add("market_data", quote(publisher=2, ask=100.5))
    for key, value in KEPT["orders"]:
        log.add("sor-orders", value.encode(), key.encode())
    bench = Bench(log, memory=10**15)
    bench.send(packed(id="one"), packed(id="two", symbol="NONE"), packed(id="three", limit_price=100.01))
    assert [[key, line.decode()] for key, line in bench.sink.added] == KEPT["answers"]
    [other] = bench.send(packed(id="one", quantity=7))
    assert "other terms" in other["reason"]
