"""Topics that tests make, fill and read, and small quotes to fill them with."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from commands import PATIENCE, Json
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka_broker import Servers

Names = Callable[..., str]  # of topics: unique ones, by the fixture `topic`

SYMBOLS = [f"SYM{letter}" for letter in "ABCDEFGHIJKL"]
COLUMNS = ["ts_event", "publisher_id", "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00", "symbol"]


# --- quotes ----------------------------------------------------------------------------------------------------------


def quote(symbol: str = "AAPL", seconds: float = 0, **changed: Any) -> Json:
    """A small MBP-1 message of one publisher."""
    time_ns = 1_722_519_360_000_000_000 + round(seconds * 1e9)
    values = [time_ns, 2, 100.0, 100.01, 300, 400, symbol]
    return dict(zip(COLUMNS, values, strict=True)) | changed


def packed(*quotes: Json) -> list[bytes]:
    return [json.dumps(quote).encode() for quote in quotes]


def write_csv(path: Path, quotes: Iterable[Json]) -> Path:
    rows = [",".join(COLUMNS), *(",".join(str(quote[name]) for name in COLUMNS) for quote in quotes)]
    path.write_text("\n".join(rows) + "\n")
    return path


# --- topics ----------------------------------------------------------------------------------------------------------


def send(servers: Servers, topic: str, values: Iterable[bytes | None], part: int = 0) -> None:
    with KafkaProducer(bootstrap_servers=servers.bootstrap) as producer:
        sent = [producer.send(topic, value, key=b"key", partition=part) for value in values]
        for future in sent:
            future.get(timeout=PATIENCE)


def read(servers: Servers, topic: str, isolation: str = "read_uncommitted") -> list[Any]:
    """All records of a topic as it is now, in order within each partition."""
    records = []
    deadline = time.monotonic() + PATIENCE
    with KafkaConsumer(bootstrap_servers=servers.bootstrap) as consumer:
        partitions = _partitions(consumer, topic)
        ends = consumer.end_offsets(partitions)  # those of open transactions, too
    settings = {"bootstrap_servers": servers.bootstrap, "isolation_level": isolation, "auto_offset_reset": "earliest"}
    with KafkaConsumer(**settings, group_id=None) as consumer:
        consumer.assign(partitions)
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            assert time.monotonic() < deadline, f"{topic} cannot be read to {ends}"
            for polled in consumer.poll(timeout_ms=500).values():
                records.extend(polled)
    return records


def _partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]


def ends_of(servers: Servers, topic: str) -> dict[int, int]:
    """Messages in each partition."""
    with KafkaConsumer(bootstrap_servers=servers.bootstrap) as consumer:
        return {part.partition: end for part, end in consumer.end_offsets(_partitions(consumer, topic)).items()}


def committed(servers: Servers, group: str, topic: str) -> dict[int, int]:
    """A group's next offset in each partition, 0 where nothing is committed."""
    with KafkaConsumer(bootstrap_servers=servers.bootstrap, group_id=group) as consumer:
        return {part.partition: consumer.committed(part) or 0 for part in _partitions(consumer, topic)}


def results_in(servers: Servers, topic: str, isolation: str = "read_uncommitted") -> list[Json]:
    return [json.loads(record.value) for record in read(servers, topic, isolation)]


def answered(results: Iterable[Json]) -> Counter[tuple[int, int]]:
    """How often each (partition, offset) was answered."""
    return Counter((result["source"]["partition"], result["source"]["offset"]) for result in results)


def once(ends: dict[int, int]) -> Counter[tuple[int, int]]:
    """Every offset of these partitions, once."""
    return Counter((partition, offset) for partition, end in ends.items() for offset in range(end))


def without_source(results: Iterable[Json]) -> list[Json]:
    """Results but for what a file's do not have."""
    return [{name: value for name, value in result.items() if name not in ("source", "stream")} for result in results]


def by_symbol(results: Iterable[Json]) -> dict[str, list[Json]]:
    """Results but for their source, in order, by symbol."""
    found: dict[str, list[Json]] = {}
    for result in without_source(results):
        found.setdefault(result["symbol"], []).append(result)
    return found
