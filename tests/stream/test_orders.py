"""Orders as a stream: what they may be, that each is answered once, and on which books."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import msgspec
import pytest
from commands import (
    DONE,
    PATIENCE,
    QUICK,
    STREAM_FAILED,
    WRONG_CALL,
    Job,
    Jobs,
    Json,
    Start,
    each_client,
    wait_for,
)
from conftest import CHECKOUT
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka_broker import Servers

from sor import cli
from sor.errors import AbortedError, DataError, InputError, StreamError
from sor.kafka.security import Connection
from sor.market.book import Books
from sor.market.databento_json import JsonDecoder
from sor.market.instruments import SHARES, Instruments
from sor.market.outflow import Outflows
from sor.market.venues import VenueDirectory
from sor.routing.result import RoutingResult
from sor.routing.router import Router
from sor.service.settings import OPTIONS
from sor.stream import orders
from sor.stream.messages import DeadLetter, KafkaPlace, Message, Sink
from sor.stream.orders import (
    DEPTH,
    Desk,
    OrderMessage,
    OrderPipeline,
    OrderRecovery,
    Terms,
    is_rejection,
    names_of,
    order_of,
)
from sor.stream.pipeline import run
from sor.stream.recovery import MARK
from sor.types import CostParameters, Instrument, Order

SCHEMA = json.loads((CHECKOUT / "sor" / "routing" / "result.schema.json").read_text())
RESULT = jsonschema.Draft202012Validator(SCHEMA)
REJECTION = jsonschema.Draft202012Validator(SCHEMA["$defs"]["rejection"])
REJECTED, NO_ANSWER = 7, 8
DIRECTORY = VenueDirectory.load(None)
NOW_MS = 1_800_000_000_000


def packed(**fields: Any) -> bytes:
    """An order's bytes; None leaves a field out."""
    values = {"id": "a", "symbol": "AAPL", "side": "buy", "quantity": 100} | fields
    return json.dumps({name: value for name, value in values.items() if value is not None}).encode()


def quote(symbol: str = "AAPL", publisher: int = 2, ask: float = 100.01, size: float = 400, **more: Any) -> bytes:
    """A message of market data."""
    values = {
        "ts_event": 1_722_519_360_000_000_000, "publisher_id": publisher, "symbol": symbol,
        "bid_px_00": 100.0, "ask_px_00": ask, "bid_sz_00": 300, "ask_sz_00": size,
    }  # fmt: skip
    return json.dumps(values | more).encode()


# --- what an order may be --------------------------------------------------------------------------------------------


def test_an_order_with_all_its_fields() -> None:
    message = order_of(
        packed(limit_price=10, algorithm="greedy_l2", objective="sweep", parent_id="p", side="sell", id="é 1")
    )
    assert message == OrderMessage("é 1", "AAPL", "sell", 100, 10.0, "greedy_l2", "sweep", "p")
    order = message.checked()
    assert (order.id, order.parent_id, order.limit_price, order.quantity) == ("é 1", "p", 10.0, 100)
    assert order_of(msgspec.json.encode(message)) == message


def test_null_is_as_good_as_nothing() -> None:
    assert order_of(packed()) == order_of(b'{"id":"a","symbol":"AAPL","side":"buy","quantity":100,"limit_price":null}')


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "truncated"),
        (b"buy 100 AAPL", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"id": "\xff"}', "utf-8"),
        (b"[]", "Expected `object`"),
        (b'{"id":' + b"[" * 100_000, "Expected `str`"),
        (packed(id=None), "required field `id`"),
        (packed(symbol=None), "required field `symbol`"),
        (packed(side=None), "required field `side`"),
        (packed(quantity=None), "required field `quantity`"),
        (packed(limit=10), "unknown field `limit`"),
        (packed(id=""), "id is ''"),
        (packed(id="x" * 129), "1 to 128 characters"),
        (packed(id="a\nb"), "printable"),
        (packed(id=5), "Expected `str`"),
        (packed(parent_id=""), "parent_id is ''"),
        (packed(symbol="x" * 65), "symbol is"),
        (packed(side="hold"), "side is 'hold'"),
        (packed(quantity=0), "quantity is 0"),
        (packed(quantity=-5), "quantity is -5"),
        (packed(quantity="5"), "Expected `int`"),
        (packed(quantity=1.5), "Expected `int`"),
        (packed(quantity=True), "Expected `int`"),
        (packed(quantity=10**40), "quantity is"),
        (packed(limit_price=0), "limit_price is 0"),
        (packed(limit_price=-1), "limit_price is -1"),
        (packed(limit_price="10"), "Expected `float"),
        (packed(limit_price=float("nan")), "malformed"),
    ],
)
def test_what_is_no_order(raw: bytes, words: str) -> None:
    with pytest.raises(DataError) as caught:
        order_of(raw)
    assert words in str(caught.value)
    assert caught.value.reason == "order"


def test_names_are_read_where_they_can_be() -> None:
    names = [
        names_of(raw)
        for raw in (packed(side="hold"), packed(id=5), packed(symbol=None), b"{", b'{"x":' + b"[" * 100_000, b"[]")
    ]
    assert [(one.id, one.symbol) for one in names] == [
        ("a", "AAPL"), (None, "AAPL"), ("a", None), (None, None), (None, None), (None, None),
    ]  # fmt: skip


def test_mutated_orders_are_orders_or_data_errors() -> None:
    """Whatever the bytes, nothing else is raised, and what is named can be sent on."""
    draw = random.Random(7)
    good = bytearray(packed(limit_price=100.5, algorithm="greedy_l2", parent_id="é"))
    seen = Counter[bool]()
    for _ in range(3_000):
        raw = bytearray(good)
        for _ in range(draw.randint(1, 2)):
            raw[draw.randrange(len(raw))] = draw.choice(b"0123456789abcdef-. {}[]\xff\x00")
        if draw.random() < 0.1:
            raw = raw[: draw.randrange(len(raw))]
        try:
            order_of(bytes(raw))
            seen[True] += 1
        except DataError:
            seen[False] += 1
        msgspec.json.encode(names_of(bytes(raw)))
    assert min(seen[True], seen[False]) > 100


# --- a pipeline without Kafka ----------------------------------------------------------------------------------------


class Kept(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    partition: int = 0


class Log:
    """Topics of one partition in memory; a reader of them and a feed."""

    topic = "market_data"

    def __init__(self) -> None:
        self.records_of: dict[str, list[Kept]] = {"market_data": [], "sor-orders": []}
        self.made: list[tuple[str, str]] = []
        self.followed: dict[int, int] = {}
        self.visible: int | None = None  # market data that can be polled; None: all
        self.blind = False  # the end cannot be told
        self.polls = 0
        self.reads = 0  # ranges asked for
        self.ids: dict[str, str] = {}  # of topics

    def add(self, topic: str, value: bytes | None, key: bytes | None = None) -> None:
        log = self.records_of[topic]
        log.append(Kept(len(log), key, value))

    # as a reader

    def identity(self, topic: str) -> str | None:
        return self.ids.get(topic)

    def make_like(self, topic: str, like: str) -> None:
        self.made.append((topic, like))

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.records_of[topic])

    def records(self, topic: str, partition: int, start: int, end: int) -> Iterator[Kept]:
        self.reads += 1
        yield from self.records_of[topic][start:end]

    # as a feed

    def follow(self, partition: int, offset: int) -> None:
        self.followed[partition] = offset

    def leave(self, partition: int) -> None:
        del self.followed[partition]

    def poll(self, wait_ms: int) -> Sequence[Kept]:
        self.polls += 1
        if not self.followed:
            return []
        found = self.records_of["market_data"][self.followed[0] : self.visible]
        self.followed[0] += len(found)
        return found

    def lost(self) -> set[int]:
        return set()

    def position(self, partition: int) -> int:
        return self.followed[partition]

    def ends(self, partitions: set[int], seconds: float) -> dict[int, int]:
        return {} if self.blind else {partition: len(self.records_of["market_data"]) for partition in partitions}


class Noted(Sink):
    """Takes everything down; what is to be remembered goes to the log."""

    remembers = True

    def __init__(self, log: Log) -> None:
        self.log = log
        self.added: list[tuple[str, bytes]] = []
        self.letters: list[DeadLetter] = []

    def add(self, key: str, value: bytes) -> None:
        self.added.append((key, value))

    def reject(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def remember(self, partition: int, key: bytes, value: bytes | None) -> None:
        self.log.add("sor-orders", value, key)


class OneSource:
    """A source whose only partition is 0."""

    def __init__(self) -> None:
        self.partitions = {0}

    def place_of(self, partition: int) -> KafkaPlace:
        return KafkaPlace("orders", partition, 0)


class Bench:
    """A pipeline with its surroundings."""

    def __init__(
        self,
        log: Log,
        *,
        tail: int = 100,
        wait: float = 0.05,
        memory: int = 3_600_000,
        max_age_ms: float | None = None,
        symbol: str | None = None,
        objective: str = "sweep",
        new_router: Callable[[Any, Any], Router] | None = None,
        new_outflows: Callable[[], Outflows] | None = None,
        turn: Callable[[], None] = lambda: None,
        instruments: Instruments = SHARES,
    ) -> None:
        self.log = log
        self.sink = Noted(log)
        decoder = JsonDecoder(DEPTH, instruments=instruments)
        self.recovery = OrderRecovery(
            log, decoder, "market_data", "orders", "sor-orders", tail=tail, symbol=symbol, turn=turn
        )
        self.pipeline = OrderPipeline(
            lambda: Books(DIRECTORY, "publishers", DEPTH, new_outflows, instruments=instruments),
            new_router or (lambda algorithm, own: Router(None, algorithm or "brute_force", own or objective)),
            self.sink,
            log,
            self.recovery,
            Terms(max_age_ms, wait, memory),
            instruments=instruments,
        )
        self.count = 0
        self.turn()

    def turn(self) -> None:
        self.pipeline.prepare(OneSource())  # type: ignore[arg-type]

    def send(self, *values: bytes, key: bytes | None = b"AAPL", time_ms: int | None = None) -> list[Json]:
        """Answers to a batch of orders."""
        batch = []
        for value in values:
            batch.append(Message(value, KafkaPlace("orders", 0, self.count), key, 0, time_ms, 0))
            self.count += 1
        before = len(self.sink.added)
        self.turn()
        self.pipeline.process(batch)
        self.pipeline.stand()
        answers = [json.loads(line) for _, line in self.sink.added[before:]]
        for answer in answers:
            (REJECTION if "status" in answer else RESULT).validate(answer)
        assert len(answers) == len(values)
        summary = self.pipeline.summary
        assert summary.messages == self.count
        assert self.count == summary.results + summary.skipped["repeated"] + sum(
            (summary.bad + summary.rejected).values()
        )
        return answers


@pytest.fixture
def log() -> Log:
    """Market data of AAPL at two venues."""
    log = Log()
    log.add("market_data", quote(publisher=2, ask=100.01))
    log.add("market_data", quote(publisher=43, ask=100.02, size=1000))
    return log


def test_an_order_is_routed_on_the_book(log: Log) -> None:
    bench = Bench(log)
    [result] = bench.send(packed(quantity=500, parent_id="p"))
    assert bench.sink.added[0][0] == "a"
    assert result["order"] == {"id": "a", "parent_id": "p"}
    assert (result["order_size"], result["side"], sum(result["allocation"])) == (500, "buy", 500)
    assert result["source"] == {
        "topic": "orders", "partition": 0, "offset": 0,
        "market_data": {"topic": "market_data", "partition": 0, "offset": 1},
    }  # fmt: skip
    assert result["warnings"] == []
    assert result["stream"] is None


COINS = Instruments({"BTC": Instrument(lot="0.0001", currency="EUR"), "TON": Instrument(lot=10)})


def test_an_order_of_a_part_of_a_coin(log: Log) -> None:
    log.add("market_data", quote(publisher=2, ask=100.5, size=0.01, symbol="BTC"))
    bench = Bench(log, instruments=COINS)
    first, again, whole, share = bench.send(
        packed(id="1", symbol="BTC", quantity=0.0037),
        packed(id="1", symbol="BTC", quantity=0.0037),
        packed(id="2", symbol="BTC", quantity=2),
        packed(id="3", quantity=100),
    )
    assert (first["order_size"], first["allocation"], first["currency"]) == (0.0037, [0.0037], "EUR")
    assert (whole["order_size"], whole["allocation"]) == (2.0, [0.01])
    assert first == again
    assert bench.send(packed(id="2", symbol="BTC", quantity=2.0)) == [whole]
    assert (share["order_size"], "currency" in share) == (100, False)
    assert bench.pipeline.summary.skipped == {"repeated": 2}
    other, share = bench.send(packed(id="1", symbol="BTC", quantity=0.0038), packed(id="4", quantity=1.5))
    assert "other terms" in other["reason"]
    assert share["reason"] == "Expected `int`, got `float` - at `$.quantity`"
    assert not bench.send(packed(id="5", symbol="BTC", quantity=0.00375))[0]["reason"].find("quantity is 0.00375")


def test_answers_to_orders_of_coins_come_back(log: Log) -> None:
    log.add("market_data", quote(publisher=2, ask=100.5, size=0.01, symbol="BTC"))
    order = packed(id="1", symbol="BTC", quantity=0.0037)
    [first] = Bench(log, instruments=COINS).send(order)
    log.add("market_data", quote(publisher=2, ask=99.5, size=0.01, symbol="BTC"))
    assert Bench(log, instruments=COINS).send(order) == [first]


def test_a_lot_of_more_than_one_unit(log: Log) -> None:
    log.add("market_data", quote(publisher=2, ask=100.5, size=40, bid_sz_00=50, symbol="TON"))
    bench = Bench(log, instruments=COINS)
    result, answer = bench.send(packed(id="1", symbol="TON", quantity=30), packed(id="2", symbol="TON", quantity=35))
    assert result["allocation"] == [30]
    assert answer["reason"] == "quantity is 35: it must be a multiple of the lot 10, from 10 to 1000000000000000"


def test_market_data_that_came_before_an_order_is_in_its_book(log: Log) -> None:
    bench = Bench(log)
    log.add("market_data", quote(publisher=2, ask=100.5))
    [result] = bench.send(packed())
    assert result["source"]["market_data"]["offset"] == 2
    assert [venue["ask"] for venue in result["venues"]] == [100.5, 100.02]
    assert [venue["allocation"] for venue in result["venues"]] == [0, 100]


def test_orders_do_not_use_up_what_is_displayed(log: Log) -> None:
    first, second = Bench(log).send(packed(id="1", quantity=1400), packed(id="2", quantity=1400))
    assert first["allocation"] == second["allocation"] == [400, 1000]


def test_a_limit_price_and_an_algorithm_of_its_own(log: Log) -> None:
    deep = {"bid_px_01": 99.9, "bid_sz_01": 10, "ask_px_01": 100.015, "ask_sz_01": 50}
    log.add("market_data", quote(publisher=2, ask=100.01, **deep))
    bench = Bench(log, objective="notional")
    plain, limited, deeper = bench.send(
        packed(id="1", objective="sweep", quantity=5000),
        packed(id="2", objective="sweep", quantity=5000, limit_price=100.01),
        packed(id="3", objective="sweep", algorithm="greedy_l2", quantity=5000),
    )
    assert (plain["algorithm"], plain["allocation"]) == ("brute_force", [400, 1000])
    assert limited["allocation"] == [400, 0]
    assert (deeper["algorithm"], deeper["allocation"]) == ("greedy_l2", [450, 1000])
    [defaults] = bench.send(packed(id="4"))
    assert defaults["objective"] == "notional"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"algorithm": "magic"}, "algorithm is 'magic'"),
        ({"objective": "profit"}, "objective is 'profit'"),
        ({"algorithm": "greedy_l2", "objective": "shortfall"}, "greedy_l2 takes what is displayed"),
    ],
)
def test_an_algorithm_or_objective_that_is_none(log: Log, fields: Json, words: str) -> None:
    bench = Bench(log)
    [answer] = bench.send(packed(**fields))
    assert words in answer["reason"]
    assert bench.pipeline.summary.bad == {"order": 1}


def test_a_bad_order_is_rejected_and_kept_whole(log: Log) -> None:
    bench = Bench(log)
    raws = [packed(quantity=-1), b"nonsense", b"", packed(side="x" * 1_000_000)]
    answers = bench.send(*raws)
    assert [key for key, _ in bench.sink.added] == ["a", "AAPL", "AAPL", "a"]
    assert [(one["order"]["id"], one["order"]["symbol"]) for one in answers] == [
        ("a", "AAPL"), (None, None), (None, None), ("a", "AAPL"),
    ]  # fmt: skip
    assert answers[0]["reason"].startswith("quantity is -1")
    assert answers[0]["source"] == {"topic": "orders", "partition": 0, "offset": 0, "market_data": None}
    assert max(len(line) for _, line in bench.sink.added) < 1_000, "it has to fit into a message"
    assert [letter.value for letter in bench.sink.letters] == raws
    assert bench.pipeline.summary.bad == {"order": 4}
    assert log.records_of["sor-orders"] == [], "what is no order has no identity"


class Refusing(Router):
    """Refuses what has 13 shares, as an algorithm refuses what is beyond its bounds."""

    def route(self, order: Order, *arguments: Any, **more: Any) -> RoutingResult:
        if order.quantity == 13:
            raise InputError("quantity is 13: that is unlucky")
        return super().route(order, *arguments, **more)


def test_what_routing_refuses_is_one_rejection_and_not_the_end(log: Log) -> None:
    bench = Bench(log, new_router=lambda algorithm, objective: Refusing())
    refused, routed, again, other = bench.send(
        packed(quantity=13), packed(id="b"), packed(quantity=13), packed(quantity=14)
    )
    assert refused["reason"] == "quantity is 13: that is unlucky"
    assert refused["source"]["market_data"]["offset"] == 1
    assert routed["allocation"] == [100, 0]
    assert again == refused, "it is an answer like any other"
    assert "other terms" in other["reason"]
    assert bench.pipeline.summary.rejected == {"routing": 1, "terms": 1}
    assert (bench.pipeline.summary.bad, bench.sink.letters) == ({}, [])


def test_under_protection_an_order_of_another_objective_is_rejected(log: Log) -> None:
    bench = Bench(
        log,
        new_router=lambda algorithm, objective: Router(
            None, algorithm or "brute_force", objective or "sweep", protect="nbbo"
        ),
    )
    refused, routed = bench.send(packed(objective="shortfall"), packed(id="b"))
    assert "protect is 'nbbo': objective must be sweep" in refused["reason"]
    assert routed["allocation"] == [100, 0]


def test_a_quantity_beyond_what_can_be_placed(log: Log) -> None:
    """With enough windows of outflows the model is asked; it takes no number so large."""
    second = 10**9
    for i in range(6):
        log.add("market_data", quote(publisher=2, bid_sz_00=300 - i, ts_event=1_722_519_360 * second + i * second))
    bench = Bench(
        log,
        new_router=lambda algorithm, objective: Router(
            CostParameters(0.05, 0.05, 0.0005), "cont_kukanov", min_windows=1
        ),
        new_outflows=lambda: Outflows(second, 5),
    )
    refused, routed = bench.send(packed(quantity=1_000_000_000_001), packed(id="b"))
    assert "1000000000001" in refused.get("reason", str(refused.get("warnings")))
    assert routed["placement"] is not None


@pytest.mark.parametrize(
    ("key", "expected"), [(None, ""), (b"\xff", "\N{REPLACEMENT CHARACTER}"), (b"x" * 9999, "x" * 1024)]
)
def test_the_key_of_a_rejection_without_an_id(log: Log, key: bytes | None, expected: str) -> None:
    bench = Bench(log)
    bench.send(b"nonsense", key=key)
    assert bench.sink.added[0][0] == expected


def test_an_unknown_symbol_is_rejected(log: Log) -> None:
    bench = Bench(log)
    [answer] = bench.send(packed(symbol="MSFT"))
    assert answer["reason"] == "no market data of MSFT in market_data:0"
    assert answer["source"]["market_data"]["offset"] == 1
    assert bench.pipeline.summary.rejected == {"symbol": 1}
    assert bench.sink.letters == []
    log.add("market_data", quote("MSFT"))
    again, new = bench.send(packed(symbol="MSFT"), packed(symbol="MSFT", id="b"))
    assert again == answer, "the first answer stands, also where it is a rejection"
    assert new["allocation"] == [100]


def test_only_one_symbol_is_routed(log: Log) -> None:
    log.add("market_data", quote("MSFT"))
    bench = Bench(log, symbol="MSFT")
    [answer] = bench.send(packed())
    assert answer["reason"] == "only MSFT is routed here (--symbol)"
    assert bench.send(packed(symbol="MSFT"))[0]["allocation"] == [100]


# --- identity --------------------------------------------------------------------------------------------------------


def test_the_same_order_gets_the_first_result_again(log: Log) -> None:
    bench = Bench(log)
    bench.send(packed(), packed())
    log.add("market_data", quote(publisher=2, ask=100.5))
    bench.send(packed(), packed(limit_price=None, quantity=100))
    assert len({line for _, line in bench.sink.added}) == 1
    assert [key for key, _ in bench.sink.added] == ["a"] * 4
    assert (bench.pipeline.summary.results, bench.pipeline.summary.skipped) == (1, {"repeated": 3})
    assert len(log.records_of["sor-orders"]) == 1


@pytest.mark.parametrize(
    "other", [{"quantity": 101}, {"side": "sell"}, {"limit_price": 5}, {"algorithm": "brute_force"}, {"parent_id": "x"}]
)
def test_other_terms_under_a_known_id_are_rejected(log: Log, other: Json) -> None:
    bench = Bench(log)
    first, answer, again = bench.send(packed(), packed(**other), packed())
    assert "other terms" in answer["reason"]
    assert again == first, "the first result stands"
    assert bench.pipeline.summary.rejected == {"terms": 1}


def test_an_id_is_of_a_symbol(log: Log) -> None:
    log.add("market_data", quote("MSFT", ask=50.0))
    bench = Bench(log)
    one, other = bench.send(packed(), packed(symbol="MSFT"))
    assert (one["symbol"], other["symbol"]) == ("AAPL", "MSFT")


def test_symbols_and_ids_do_not_run_together(log: Log) -> None:
    log.add("market_data", quote("A|B"))
    log.add("market_data", quote("A"))
    bench = Bench(log)
    bench.send(packed(symbol="A|B", id="C"), packed(symbol="A", id="B|C"))
    assert len({record.key for record in log.records_of["sor-orders"]}) == 2


def test_a_successor_knows_the_orders(log: Log) -> None:
    """The state of a partition comes back from the topic; what an abort undid does not."""
    first = Bench(log)
    first.send(packed(id="1"), packed(id="2", symbol="NONE"))
    log.add("market_data", quote(publisher=2, ask=100.5))
    second = Bench(log)
    second.send(packed(id="1"), packed(id="2", symbol="NONE"), packed(id="1", quantity=7), packed(id="3"))
    assert second.sink.added[:2] == first.sink.added, "the same bytes"
    assert "other terms" in json.loads(second.sink.added[2][1])["reason"]
    assert json.loads(second.sink.added[3][1])["venues"][0]["ask"] == 100.5
    assert log.made == [("sor-orders", "orders")] * 2


def test_what_an_abort_undoes_is_answered_anew(log: Log) -> None:
    bench = Bench(log)
    [first] = bench.send(packed())
    log.records_of["sor-orders"].clear()  # the transaction did not take place
    log.add("market_data", quote(publisher=2, ask=100.5))
    bench.pipeline.forget({0})
    assert log.followed == {}
    [second] = bench.send(packed())
    assert (first["venues"][0]["ask"], second["venues"][0]["ask"]) == (100.01, 100.5)


def test_orders_are_forgotten_in_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [NOW_MS]
    monkeypatch.setattr(orders, "_now_ms", lambda: clock[0])
    monkeypatch.setattr(orders, "FORGET_S", 0.0)
    bench = Bench(log, memory=1_000)
    bench.send(packed(id="1"))
    clock[0] += 600
    bench.send(packed(id="2"))
    clock[0] += 600  # the first is 1.2 s old, the second 0.6 s
    log.add("market_data", quote(publisher=2, ask=100.5))
    renewed, known = bench.send(packed(id="1", quantity=7), packed(id="2"))
    assert (renewed["order_size"], known["venues"][0]["ask"]) == (7, 100.01)
    clock[0] += 5_000
    bench.send(packed(id="3"))
    left: dict[bytes | None, bytes | None] = {}
    for record in log.records_of["sor-orders"]:
        left[record.key] = record.value
    assert {key for key, value in left.items() if value is not None} == {b'["AAPL","3"]'}
    successor = Bench(log, memory=1_000)
    assert [one["order_size"] for one in successor.send(packed(id="1", quantity=9))] == [9]


def test_not_too_much_is_forgotten_at_a_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not forgotten yet is not known either."""
    clock = [NOW_MS]
    monkeypatch.setattr(orders, "_now_ms", lambda: clock[0])
    monkeypatch.setattr(orders, "FORGET_S", 0.0)
    monkeypatch.setattr(orders, "MOST_FORGOTTEN", 3)
    bench = Bench(log, memory=1_000)
    bench.send(*(packed(id=str(number)) for number in range(5)))
    clock[0] += 2_000
    renewed = bench.send(packed(id="4", quantity=7))
    assert [one["order_size"] for one in renewed] == [7]
    assert sum(record.value is None for record in log.records_of["sor-orders"]) == 3
    left = [orders.digest_of(b'["AAPL","%d"]' % number) for number in (3, 4)]
    assert list(bench.pipeline._desks[0].known) == left


class Rewinding(OneSource):
    """Gives a batch until it has been committed."""

    def __init__(self, *values: bytes) -> None:
        super().__init__()
        self.values = values
        self.committed = self.rewound = 0

    def lost(self) -> set[int]:
        return set()

    def poll(self, limit: int, wait_s: float | None = None) -> list[Message] | None:
        if self.committed:
            return None
        return [Message(value, KafkaPlace("orders", 0, i), b"AAPL") for i, value in enumerate(self.values)]

    def offsets(self) -> None: ...

    def commit(self) -> None:
        self.committed += 1

    def rewind(self, unsure: bool = False) -> None:
        self.rewound += 1

    def close(self) -> None: ...


class Aborting(Noted):
    """A transactional sink whose first commit does not take place."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.aborted = 0
        self.pending: list[tuple[bytes, bytes | None]] = []

    def remember(self, partition: int, key: bytes, value: bytes | None) -> None:
        self.pending.append((key, value))

    def commit(self, offsets: Any = None) -> None:
        if not self.aborted:
            raise AbortedError("a coordinator moved")
        for key, value in self.pending:
            super().remember(0, key, value)

    def abort(self) -> None:
        self.aborted += 1
        self.added, self.pending = [], []
        self.log.add("market_data", quote(publisher=2, ask=100.5))


def test_an_aborted_batch_is_answered_again_by_the_loop(log: Log) -> None:
    bench = Bench(log)
    bench.pipeline.sink = sink = Aborting(log)
    source = Rewinding(packed(), packed(), b"rubbish")
    run(source, bench.pipeline, pause_s=0)
    assert (source.rewound, source.committed, sink.aborted) == (1, 1, 1)
    results = [json.loads(line) for _, line in sink.added]
    assert [one["venues"][0]["ask"] for one in results[:2]] == [100.5, 100.5], "with what is known now"
    summary = bench.pipeline.summary
    assert (summary.messages, summary.results, summary.skipped, summary.bad) == (3, 1, {"repeated": 1}, {"order": 1})
    assert len(log.records_of["sor-orders"]) == 1


class Batches(Rewinding):
    """Batches of one order each, by partition."""

    def __init__(self, *orders: tuple[int, bytes]) -> None:
        super().__init__()
        self.partitions = {0, 1}
        self.orders = orders

    def poll(self, limit: int, wait_s: float | None = None) -> list[Message] | None:
        if self.committed == len(self.orders):
            return None
        partition, value = self.orders[self.committed]
        return [Message(value, KafkaPlace("orders", partition, self.committed), b"AAPL", partition)]


class Refused(Noted):
    """A transactional sink that once refuses a step of its second batch."""

    def __init__(self, log: Log, step: str) -> None:
        super().__init__(log)
        self.step = step
        self.commits = 0

    def begin(self) -> None:
        self._refuse("begin")

    def commit(self, offsets: Any = None) -> None:
        self._refuse("commit")
        self.commits += 1

    def _refuse(self, step: str) -> None:
        if step == self.step and self.commits == 1:
            self.step = ""
            raise AbortedError("a coordinator moved")


@pytest.mark.parametrize("step", ["begin", "commit"])
@pytest.mark.parametrize("partition", [0, 1])
def test_what_took_place_stays_known_when_a_later_batch_is_void(log: Log, step: str, partition: int) -> None:
    """Of its own partition, before it has begun, and of others; else an order is answered a second time."""
    bench = Bench(log)
    bench.pipeline.sink = sink = Refused(log, step)
    source = Batches((0, packed(id="1")), (partition, packed(id="2")), (0, packed(id="1")))
    run(source, bench.pipeline, pause_s=0)
    assert source.rewound == 1
    assert sink.added[-1] == sink.added[0]
    assert bench.pipeline.summary.skipped == {"repeated": 1}


@pytest.mark.parametrize(("key", "value"), [(b'["AAPL","1"]', b"{}"), (b"\xff", b"{}"), (None, None), (b"AAPL", None)])
def test_a_topic_of_something_else_is_refused(log: Log, key: bytes | None, value: bytes | None) -> None:
    log.add("sor-orders", value, key)
    with pytest.raises(StreamError, match="sor-orders:0:0 is no order of this program"):
        Bench(log)


# --- waiting for the book --------------------------------------------------------------------------------------------


def test_an_order_waits_until_its_book_has_caught_up(log: Log) -> None:
    turns: list[int] = []

    def turn() -> None:
        turns.append(log.polls)
        if len(turns) == 5:
            log.visible = None

    bench = Bench(log, wait=PATIENCE, turn=turn)
    turns.clear()
    log.visible = 2
    log.add("market_data", quote(publisher=2, ask=100.5))
    [result] = bench.send(packed())
    assert len(turns) >= 5
    assert result["venues"][0]["ask"] == 100.5
    assert result["warnings"] == []


def test_the_wait_has_a_bound(log: Log) -> None:
    bench = Bench(log, wait=0.05)
    log.visible = 2
    log.add("market_data", quote(publisher=2, ask=100.5))
    log.add("market_data", quote("MSFT"))
    result, rejected = bench.send(packed(), packed(symbol="MSFT"))
    missing = "market data is missing: 2 messages before the order were not read within 0.05 s"
    assert result["warnings"] == [missing]
    assert result["source"]["market_data"]["offset"] == 1
    assert rejected["reason"] == f"no market data of MSFT in market_data:0 ({missing})"
    log.visible = None
    assert bench.send(packed(id="b"))[0]["warnings"] == []


def test_an_end_that_cannot_be_told(log: Log) -> None:
    bench = Bench(log)
    log.blind = True
    [result] = bench.send(packed())
    assert result["warnings"] == ["market data may be missing: its end could not be told within 0.05 s"]


def test_books_from_a_tail_have_a_caveat(log: Log) -> None:
    """Until as many messages have come as the tail is long."""
    bench = Bench(log, tail=1)
    [result] = bench.send(packed(id="1"))
    assert len(result["venues"]) == 1
    caveat = "books rebuilt from 1 earlier messages: venues that have not quoted since are missing"
    assert result["warnings"] == [caveat]
    [rejected] = bench.send(packed(symbol="MSFT"))
    assert rejected["reason"] == f"no market data of MSFT in market_data:0 ({caveat})"
    log.add("market_data", quote(publisher=2))
    assert bench.send(packed(id="2"))[0]["warnings"] == []


def test_bad_market_data_is_told_and_passed_over(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(DeadLetter, "tell", lambda letter: told.append(letter.shown()))
    bench = Bench(log)
    log.add("market_data", b"rubbish")
    [result] = bench.send(packed())
    assert result["source"]["market_data"]["offset"] == 2
    assert [line.partition(": ")[0] for line in told] == ["market_data:0:2"]


def test_an_order_too_old_gets_nothing(log: Log) -> None:
    bench = Bench(log, max_age_ms=10_000)
    written = round(time.time() * 1e3)
    old, new = *bench.send(packed(id="1"), time_ms=written - 60_000), *bench.send(packed(id="2"), time_ms=written)
    assert (sum(old["allocation"]), sum(new["allocation"])) == (0, 100)
    assert "more than 10 s" in old["warnings"][0]
    assert old["stream"]["age_ms"] >= 60_000


def test_the_source_waits_less_while_market_data_comes(log: Log) -> None:
    bench = Bench(log)
    bench.turn()
    assert bench.pipeline.wait_s() == orders.IDLE_S
    log.add("market_data", quote())
    bench.turn()
    assert bench.pipeline.wait_s() == orders.BUSY_S


def test_a_desk_expires_from_the_oldest() -> None:
    desk = Desk(Books(DIRECTORY))
    for number in range(4):
        desk.keep(orders.Answered(number, OrderMessage(str(number), "A", "buy", 1), msgspec.Raw(b"{}")))
    assert len(list(desk.news())) == 4
    desk.stand()
    old = desk.expired(2)
    assert list(old) == [orders.digest_of(b'["A","0"]'), orders.digest_of(b'["A","1"]')]
    desk.forget(dict(zip(old, (b'["A","0"]', b'["A","1"]'), strict=True)))
    assert list(desk.news()) == [(b'["A","0"]', None), (b'["A","1"]', None)]
    desk.undo()
    assert len(desk.known) == 4, "the batch did not take place"
    desk.forget(dict.fromkeys(old))
    desk.stand()
    assert len(desk.known) == 2
    assert list(desk.news()) == []


def test_orders_are_known_at_200_bytes_each() -> None:
    """Those answered here and those of a predecessor; the answers stay in the topic, and come from there."""
    count = 100_000
    desk = Desk(Books(DIRECTORY))
    result = msgspec.Raw(b"{" + b" " * 2_000 + b"}")
    log = Log()
    recovery = OrderRecovery(log, JsonDecoder(1), "market_data", "orders", "sor-orders", tail=0)
    tracemalloc.start()
    try:
        for start in range(0, count, 500):
            for number in range(start, start + 500):
                desk.keep(orders.Answered(NOW_MS, OrderMessage(f"order-{number:030d}", "AAPL", "buy", 100), result))
            for offset, (key, value) in enumerate(desk.news(), start):
                # On a broker these bytes are not ours.
                log.records_of["sor-orders"].append(Kept(offset, key, b"" if value is not None else None))
            desk.stand()
            recovery.look_through(desk, 0)
            log.records_of["sor-orders"] = [Kept(start + 499, None, None)] * (start + 500)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    held -= sys.getsizeof(log.records_of["sor-orders"])
    assert len(desk.known) == count
    assert held < 200 * count, f"{held / count:.0f} bytes an order"


def test_a_restart_knows_orders_and_loads_no_answers(log: Log) -> None:
    first = Bench(log)
    for start in range(0, 3_000, 500):
        first.send(*(packed(id=str(number)) for number in range(start, start + 500)))
    answers = dict(first.sink.added)
    assert len(first.pipeline._desks[0].recent) <= orders.MOST_RECENT + 500
    assert len(first.pipeline._desks[0].known) == 3_000
    log.add("market_data", quote(publisher=2, ask=100.5))
    for bench in (first, Bench(log)):
        bench.sink.added.clear()
        reads = log.reads
        chosen = [7, 2_999, 0, 1_500, 1_501, 7]
        bench.send(*(packed(id=str(number)) for number in chosen), packed(id="8", quantity=1))
        assert bench.sink.added[:-1] == [(str(number), answers[str(number)]) for number in chosen]
        assert "other terms" in json.loads(bench.sink.added[-1][1])["reason"]
        assert log.reads - reads <= 4, "what lies close together is read at one go"
    assert bench.pipeline._desks[0].recent == {}


def test_a_first_answer_that_somebody_has_deleted_is_given_anew(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    Bench(log).send(packed(), packed(id="b"))
    successor = Bench(log)
    log.records_of["sor-orders"][0] = log.records_of["sor-orders"][1]
    log.add("market_data", quote(publisher=2, ask=100.5))
    anew, known = successor.send(packed(), packed(id="b"))
    assert (anew["venues"][0]["ask"], known["venues"][0]["ask"]) == (100.5, 100.01)
    assert (
        "sor-orders:0: 1 first answers are gone, such as that at 0: their orders are answered anew" in caplog.messages
    )


def test_where_no_topic_keeps_answers_the_oldest_go(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least once: there is nothing to read them from, and memory has a bound."""
    monkeypatch.setattr(orders, "MOST_HELD", 10_000)
    bench = Bench(log)
    bench.recovery.kept_topic = None
    for number in range(50):
        bench.send(packed(id=str(number)))
    desk = bench.pipeline._desks[0]
    assert len(desk.known) == len(desk.recent) < 20
    assert sum(map(len, desk.recent.values())) <= 10_000
    log.add("market_data", quote(publisher=2, ask=100.5))
    old, new = bench.send(packed(id="0"), packed(id="49"))
    assert (old["venues"][0]["ask"], new["venues"][0]["ask"]) == (100.5, 100.01)


def test_orders_of_a_topic_that_was_made_anew_are_not_known(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ids may come again, as other orders; what was known goes little by little, whoever restarts meanwhile."""
    monkeypatch.setattr(orders, "MOST_FORGOTTEN", 3)
    log.ids["orders"] = "first"
    Bench(log).send(*(packed(id=str(number)) for number in range(8)))
    log.ids["orders"] = "second"
    for number in range(5):
        [answer] = Bench(log).send(packed(id=str(number), quantity=7))
        assert answer["order_size"] == 7
    [again] = Bench(log).send(packed(id="0", quantity=7))
    assert again["source"]["offset"] == 0
    Bench(log).send(b"rubbish")
    left = {record.key: record.value for record in log.records_of["sor-orders"]}
    assert [key for key, value in left.items() if value is None] == [b'["AAPL","%d"]' % number for number in (5, 6, 7)]


# --- settings --------------------------------------------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    assert cli.main(list(arguments)) == WRONG_CALL
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--orders-topic", "market_data"), "--orders-topic is 'market_data': that is --topic"),
        (("--orders-topic", "r", "--results-topic", "r"), "--orders-topic is 'r': that is --results-topic"),
        (("--orders-topic", "d", "--dead-letter-topic", "d"), "--orders-topic is 'd': that is --dead-letter-topic"),
        (("--orders-topic", "sor-orders"), "where the group keeps which orders it knows"),
        (("--orders-topic", "o", "--results-topic", "sor-orders"), "--results-topic is 'sor-orders'"),
        (("--orders-topic", "o", "--conflate"), "--conflate and --orders-topic"),
        (("--orders-topic", "o", "--greedy-l2", "--objective", "notional"), "greedy_l2 takes what is displayed"),
    ],
)
def test_settings_that_do_not_go_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refusal(capsys, monkeypatch, "consume", *arguments)


ORDER = {"--symbol": "A", "--side": "buy", "--quantity": "1", "--orders-topic": "o", "--results-topic": "r"}


@pytest.mark.parametrize("missing", ORDER)
def test_what_an_order_needs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    given = [text for pair in ORDER.items() if pair[0] != missing for text in pair]
    assert f"{missing} is missing" in refusal(capsys, monkeypatch, "order", *given)


def test_an_id_that_is_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = [text for pair in ORDER.items() for text in pair]
    assert "1 to 128 characters" in refusal(capsys, monkeypatch, "order", *given, "--id", "x" * 129)


def test_whose_answer_it_is() -> None:
    asked = OrderMessage("1", "A", "buy", 1)
    rejection = b'{"order":{"id":"1","symbol":"A"},"status":"rejected"}'
    assert orders.is_answer(asked, b"1", b'{"symbol":"A"}')
    assert orders.is_answer(asked, b"1", rejection)
    assert not orders.is_answer(asked, b"2", b'{"symbol":"A"}')
    assert not orders.is_answer(asked, b"1", b'{"symbol":"B"}')
    assert not orders.is_answer(asked, b"1", b"rubbish")
    assert not orders.is_answer(asked, None, b'{"symbol":"A"}')
    assert orders.is_rejection(rejection)
    assert not orders.is_rejection(b'{"symbol":"A"}')


def test_the_schema_of_a_rejection_forbids_what_it_does_not_name() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    place = {"topic": "o", "partition": 0, "offset": 0, "market_data": None}
    good = {
        "order": {"id": None, "symbol": None}, "status": "rejected", "reason": "x", "schema_version": 1, "source": place
    }  # fmt: skip
    assert REJECTION.is_valid(good)
    assert not RESULT.is_valid(good)
    spoils: list[Json] = [{"status": "ok"}, {"reason": ""}, {"extra": 1}, {"source": {"topic": "o"}}, {"order": {}}]
    for spoilt in spoils:
        assert not REJECTION.is_valid(good | spoilt), spoilt


# --- on a real broker ------------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> str:
    """The client that the test's commands use; `each_client` takes them in turn."""
    return "kafka-python"


@pytest.fixture
def start(tmp_path: Path, client: str) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield partial(jobs.start, SOR_CLIENT=client, script=QUICK)


class Market(NamedTuple):
    """Topics for orders on a broker, and the arguments that name them."""

    servers: Servers
    market: str
    orders: str
    results: str
    group: str

    @property
    def kafka(self) -> tuple[str, ...]:
        return "--kafka-servers", self.servers.bootstrap

    @property
    def consume(self) -> tuple[str, ...]:
        topics = ("--topic", self.market, "--orders-topic", self.orders, "--results-topic", self.results)
        return "consume", *self.kafka, *topics, "--group", self.group, "--allow-bad"

    def order(
        self, *more: object, symbol: str = "AAPL", side: str = "buy", quantity: object = 300
    ) -> tuple[object, ...]:
        topics = ("--orders-topic", self.orders, "--results-topic", self.results)
        return "order", *self.kafka, *topics, "--symbol", symbol, "--side", side, "--quantity", quantity, *more


@pytest.fixture
def place(kafka: Servers, start: Start, topic: Callable[..., str]) -> Market:
    """Two partitions each, sample.csv in the market data."""
    unique = uuid.uuid4().hex[:8]
    names = [f"{stem}-{unique}" for stem in ("market", "orders", "results")]
    for name in names:
        kafka.create_topic(name, 2)
    start("produce", CHECKOUT / "sample.csv", "--kafka-servers", kafka.bootstrap, "--topic", names[0]).finish(DONE)
    return Market(kafka, *names, f"group-{unique}")


def committed_records(servers: Servers, topic: str) -> list[Any]:
    """Records of a topic as it is now, but for those of transactions not committed."""
    records: list[Any] = []
    options = {"auto_offset_reset": "earliest", "isolation_level": "read_committed"}
    with KafkaConsumer(bootstrap_servers=servers.bootstrap, group_id=None, **options) as consumer:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        deadline = time.monotonic() + PATIENCE
        while any(consumer.position(one) < end for one, end in ends.items()):
            assert time.monotonic() < deadline, f"{topic} cannot be read to {ends}"
            for polled in consumer.poll(timeout_ms=200).values():
                records.extend(polled)
    return records


def send(servers: Servers, topic: str, *values: tuple[bytes, bytes]) -> None:
    """(key, value) each."""
    with KafkaProducer(bootstrap_servers=servers.bootstrap) as producer:
        for future in [producer.send(topic, value, key=key) for key, value in values]:
            future.get(timeout=PATIENCE)


def answer_of(job: Job, status: int) -> Json:
    answer: Json = json.loads(job.finish(status).out)
    (REJECTION if status == REJECTED else RESULT).validate(answer)
    return answer


@pytest.mark.kafka
@each_client
def test_orders_are_answered_once_over_a_crash(place: Market, start: Start) -> None:
    """Repeats before and after a SIGKILL get the first result, byte for byte; everything is answered exactly once."""
    consumer = start(*place.consume)
    first = answer_of(start(*place.order("--id", "one")), DONE)
    assert (first["symbol"], first["order"]["id"], first["order_size"]) == ("AAPL", "one", 300)
    source = first["source"]
    assert source["topic"] == place.orders
    assert source["market_data"] == {"topic": place.market, "partition": source["partition"], "offset": 1_999}
    assert "rebuilt" not in " ".join(first["warnings"])

    jobs = [start(*place.order(*more, "--pretty")) for more in ((), ("--id", "one"))]
    assert json.loads(jobs[0].finish(DONE).out)["order"]["id"] not in (None, "one")
    assert b"\n  " in jobs[0].out
    assert json.loads(jobs[1].finish(DONE).out) == first
    deep = answer_of(start(*place.order("--algorithm", "greedy_l2", side="sell", quantity=9_000)), DONE)
    assert (deep["algorithm"], deep["side"]) == ("greedy_l2", "sell")
    children = Counter(child["venue_id"] for child in deep["child_orders"])
    assert max(children.values()) > 1, "several levels of one venue"
    assert "other terms" in answer_of(start(*place.order("--id", "one", quantity=301)), REJECTED)["reason"]
    assert "no market data of NONE" in answer_of(start(*place.order(symbol="NONE")), REJECTED)["reason"]

    consumer.signal(signal.SIGKILL).process.wait()
    send(place.servers, place.orders, (b"AAPL", b"rubbish"))
    consumer = start(*place.consume)
    again = answer_of(start(*place.order("--id", "one")), DONE)
    assert again == first
    assert "other terms" in answer_of(start(*place.order("--id", "one", side="sell")), REJECTED)["reason"]
    consumer.signal(signal.SIGTERM).finish(DONE)

    asked = committed_records(place.servers, place.orders)
    answers = committed_records(place.servers, place.results)
    assert len(answers) == len(asked) == 9
    assert Counter(record.key for record in answers) == Counter(
        json.loads(record.value)["id"].encode() if record.value != b"rubbish" else b"AAPL" for record in asked
    )
    routed = Counter(record.value for record in answers if record.key == b"one" and not is_rejection(record.value))
    assert list(routed.values()) == [3], "the same bytes"
    kept = [one for one in committed_records(place.servers, f"{place.group}-orders") if one.key != MARK]
    assert len(kept) == len({record.key for record in kept}) == 4
    assert {record.partition for record in kept if b'"AAPL"' in record.key} == {source["partition"]}


def wait_for_answers(place: Market, count: int) -> None:
    wait_for(lambda: len(committed_records(place.servers, place.results)) >= count, f"{count} answers")


@pytest.mark.kafka
def test_an_order_of_coins_from_the_command_line(place: Market, start: Start, tmp_path: Path) -> None:
    coins = tmp_path / "coins.toml"
    coins.write_text('schema_version = 1\n[[instrument]]\nsymbol = "BTC"\nlot = 0.0001\ncurrency = "EUR"\n')
    start(*place.consume, "--instruments", coins)
    send(place.servers, place.market, (b"BTC", quote("BTC", size=0.01)))
    order = partial(place.order, "--instruments", coins, symbol="BTC")
    answer = answer_of(start(*order(quantity="0.0037")), DONE)
    assert (answer["order_size"], answer["allocation"], answer["currency"]) == (0.0037, [0.0037], "EUR")
    start(*order(quantity="0.00375")).finish(WRONG_CALL)
    assert "currency" not in answer_of(start(*place.order()), DONE)


@pytest.mark.kafka
def test_orders_under_sigkills(place: Market, start: Start) -> None:
    """As many answers for each id as orders, all the same bytes, while quotes move and consumers die."""
    arguments = (*place.consume, "--instance-id", "one", "--log-level", "warning")
    draw = random.Random(11)
    ids = [f"id-{number}" for number in range(60)]
    sent = Counter[bytes]()
    for round_ in range(4):
        consumer = start(*arguments)
        chosen = [draw.choice(ids) for _ in range(150)]
        sent.update(one.encode() for one in chosen)
        send(place.servers, place.market, (b"AAPL", quote(ask=100.0 + round_, bid_px_00=99.0 + round_)))
        send(place.servers, place.orders, *((b"AAPL", packed(id=one)) for one in chosen))
        if round_ < 3:
            more = 1 + len(committed_records(place.servers, place.results))
            wait_for_answers(place, more)
            consumer.signal(signal.SIGKILL).process.wait()
    total = sum(sent.values())
    wait_for_answers(place, total)
    consumer.signal(signal.SIGTERM).finish(DONE)
    answers = committed_records(place.servers, place.results)
    assert Counter(record.key for record in answers) == sent
    assert len({(record.key, record.value) for record in answers}) == len(sent), "one answer for each id"
    asks = {venue["ask"] for record in answers for venue in json.loads(record.value)["venues"]}
    assert len(asks & {100.0, 101.0, 102.0, 103.0}) > 1, "routed anew, they would differ"


@pytest.mark.kafka
@pytest.mark.parametrize("client", ["kafka_python", "confluent"])
def test_a_feed_follows_leaves_and_comes_back(place: Market, client: str) -> None:
    module: Any = pytest.importorskip(f"sor.kafka.{client}")
    feed = module.open_feed(Connection(place.servers.bootstrap, 30.0), place.market)

    def offsets(count: int) -> list[int]:
        found: list[int] = []
        wait_for(lambda: found.extend(one.offset for one in feed.poll(100)) or len(found) >= count, "records")
        return found

    try:
        assert feed.poll(0) == []
        ends = feed.ends({0, 1}, PATIENCE)
        [full] = [number for number, end in ends.items() if end]
        assert ends[full] == 2_000
        feed.follow(full, 1_990)
        feed.follow(1 - full, 0)
        assert offsets(10) == list(range(1_990, 2_000))
        assert (feed.position(full), feed.position(1 - full)) == (2_000, 0)
        feed.leave(full)
        feed.leave(1 - full)
        assert feed.poll(0) == []
        feed.follow(full, 1_995)
        assert offsets(5) == list(range(1_995, 2_000))
        assert feed.ends({7}, 0.5) == {}, "a partition that is not there"
    finally:
        feed.close()


@pytest.mark.kafka
@each_client
def test_market_data_goes_on_beside_the_orders(place: Market, start: Start) -> None:
    """The book has what was there when the order came, and the group is not subscribed to the market data."""
    start(*place.consume)
    before = answer_of(start(*place.order()), DONE)
    send(place.servers, place.market, (b"AAPL", quote(ask=7.0, bid_px_00=6.0, size=50)))
    after = answer_of(start(*place.order()), DONE)
    assert after["source"]["market_data"]["offset"] == before["source"]["market_data"]["offset"] + 1
    assert 7.0 in [venue["ask"] for venue in after["venues"]]
    send(place.servers, place.market, (b"NEW", quote("NEW")))
    assert answer_of(start(*place.order(symbol="NEW")), DONE)["allocation"] == [300]
    with KafkaConsumer(bootstrap_servers=place.servers.bootstrap, group_id=place.group) as consumer:
        assert {consumer.committed(TopicPartition(place.market, number)) for number in (0, 1)} == {None}
    assert len(committed_records(place.servers, place.results)) == 3, "market data gives no results"


@pytest.mark.kafka
def test_two_workers_share_the_orders(place: Market, start: Start) -> None:
    """A partition that moves takes its orders along."""
    symbols = [f"S{number}" for number in range(8)]
    send(place.servers, place.market, *((symbol.encode(), quote(symbol)) for symbol in symbols))
    values = [(symbol.encode(), packed(symbol=symbol, id=f"id-{symbol}")) for symbol in symbols]
    one = start(*place.consume)
    send(place.servers, place.orders, *values)

    def answers() -> list[Any]:
        return committed_records(place.servers, place.results)

    wait_for(lambda: len(answers()) == 8, "the first answers")
    two = start(*place.consume)
    two.says("partitions assigned: " + place.orders)
    send(place.servers, place.orders, *values)
    wait_for(lambda: len(answers()) >= 16, "the answers of both")
    for job in (one, two):
        job.signal(signal.SIGTERM).finish(DONE)
    found = answers()
    assert len(found) == 16
    assert Counter(record.value for record in found).most_common()[-1][1] == 2, "the same bytes"


@pytest.mark.kafka
def test_orders_to_standard_output(place: Market, start: Start) -> None:
    """At least once: the same answers, but nobody keeps the orders over a restart."""
    send(place.servers, place.orders, (b"AAPL", packed()), (b"AAPL", packed()), (b"k", b"\xff"))
    arguments = [text for text in place.consume if text not in ("--results-topic", place.results)]
    job = start(*arguments, "--max-messages", 3).finish(DONE)
    lines = {json.dumps(one): one for one in job.results}
    assert len(job.results) == 3
    assert len(lines) == 2
    assert sorted("status" in one for one in lines.values()) == [False, True]
    assert "messages 3 = results 1 + skipped 1 (repeated 1) + bad 1 (order 1)" in job.err


@pytest.mark.kafka
def test_topics_of_unlike_partitions_are_refused(kafka: Servers, place: Market, start: Start) -> None:
    kafka.create_topic(f"{place.orders}-3", 3)
    job = start(*place._replace(orders=f"{place.orders}-3").consume).finish(STREAM_FAILED)
    assert f"topic {place.orders}-3 has 3 partitions and {place.market} has 2" in job.err


@pytest.mark.kafka
def test_check_knows_the_orders(kafka: Servers, place: Market, start: Start) -> None:
    found = start("check", *place.consume[1:]).finish(DONE).out.decode()
    assert f"ok    orders: topic {place.orders}, 2 partitions" in found
    assert "ok    orders beside market data: 2 partitions each" in found
    kafka.create_topic(f"{place.orders}-3", 3)
    unlike = start("check", *place._replace(orders=f"{place.orders}-3").consume[1:]).finish(STREAM_FAILED)
    assert f"FAIL  orders beside market data: topic {place.orders}-3 has 3 partitions" in unlike.out.decode()
    missing = start("check", *place._replace(orders="nothing-there").consume[1:]).finish(STREAM_FAILED)
    assert "skip  orders beside market data: one of them is not there" in missing.out.decode()


@pytest.mark.kafka
def test_nobody_answers(place: Market, start: Start) -> None:
    job = start(*place.order("--timeout", 1, "--id", "lonely")).finish(NO_ANSWER)
    assert job.out == b""
    assert f"no answer to lonely ({place.orders}:" in job.err
    missing = place._replace(orders="nothing-there")
    job = start(*missing.order("--connect-timeout", 1)).finish(STREAM_FAILED)
    assert "topic nothing-there does not exist" in job.err
