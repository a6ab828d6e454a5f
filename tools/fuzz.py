"""Mutated messages through `sor consume`, exactly once: none ends it, none holds it up, all are accounted for.

    python tools/fuzz.py [--messages N] [--seed N] [--client NAME] [--orders] [--algorithm NAME]

Flipped bytes, truncation, wrong types, huge numbers, wrong encodings, deep nesting, nothing, 1 MB, strange keys. The
summary, the two topics and a replay (`delivery.check`) have to agree on every message. With ``--orders`` it is orders
that are mutated, and each has to have an answer. One line of JSON goes to
standard output; the exit status is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from commands import BAD, Jobs
from delivery import Message, Producing, Verdict, all_of, book_of, check, committed_records
from kafka_broker import Cluster, Servers

from sor.market.databento_json import BOOK, HEAD

PARTS = 4
MB = 1_000_000
LARGEST = 1_048_500  # bytes of key and value that a broker takes by default
NUMBERS = (10**400, -(10**400), 2**63 - 1, 2**64, -1, 0, 1e308, 5e-324, -0.0, 1e-9, 99_999, 10**18, 65_536)
VALUES = (None, True, False, [], {}, "", "text", "1e400", "NaN", "1" * 5_000, [[[]]], {"a": [1]}, "\ud800", "\x00")


def levels(random: random.Random) -> dict[str, Any]:
    """A good message of all 80 columns."""
    row: dict[str, Any] = dict.fromkeys(HEAD, 1)
    row |= {name: random.randrange(1, 900) for name in BOOK}
    row |= {name: (100 if "bid" in name else 100.01) + random.randrange(9) / 100 for name in BOOK if "_px_" in name}
    row |= {
        "action": random.choice("ACMT"),
        "side": random.choice("BAN"),
        "price": 100.0,
        "size": random.randrange(1, 900),
    }
    symbol, time = f"SYM{random.randrange(12):02d}", 10**18 + random.randrange(10**12)
    return row | {"ts_event": time, "publisher_id": random.randrange(1, 6), "sequence": 1, "symbol": symbol}


def terms(random: random.Random) -> dict[str, Any]:
    """A good order."""
    row: dict[str, Any] = {"id": f"o{random.randrange(10**6)}", "symbol": f"SYM{random.randrange(12):02d}"}
    row |= {"side": random.choice(["buy", "sell"]), "quantity": random.randrange(1, 10**4)}
    return row | {"algorithm": random.choice([None, "greedy_l2", "cont_kukanov"]), "limit_price": None}


READ = ("ts_event", "publisher_id", "sequence", "symbol", "bid_px_00", "ask_px_00", "bid_sz_00", "ask_sz_00")
Draw = Callable[[random.Random], dict[str, Any]]


class Mutator:
    """Draws messages; each kind is a method that makes bytes of a good message.

    Parameters
    ----------
    draw : callable
        Draws a good message.
    read : sequence of str
        Its columns that matter; they are drawn as often as all others together.
    """

    def __init__(self, seed: int, draw: Draw = levels, read: Sequence[str] = READ) -> None:
        self.random = random.Random(seed)
        self.draw = draw
        self.read = read
        self.columns = list(draw(random.Random(0)))
        self.kinds: list[Callable[[dict[str, Any]], bytes | None]] = [
            *(self.good, self.flipped, self.truncated, self.spliced, self.typed, self.typed, self.huge, self.huge),
            *(self.without_a_key, self.encoded, self.nested, self.nothing, self.repeated, self.not_finite),
        ]
        self.long = [self.long_text, self.long_number, self.long_noise, self.long_blank, self.long_nest]

    def messages(self, count: int) -> Iterator[Message]:
        long_every = max(1, min(1_000, count // 10))
        for number in range(count):
            row = self.draw(self.random)
            key = row["symbol"].encode()
            kinds = self.long if number % long_every == 7 else self.kinds
            value = self.random.choice(kinds)(row)
            if number % 50 == 3:
                key = self.random.choice([None, b"", b"\xff\x00", b"k" * 300])
            if number % long_every == 11:
                key = b"k" * self.random.choice([9_000, 200_000, LARGEST])  # with the value, as much as there may be
                value = b"x" * (LARGEST - len(key))
            yield key, b"" if key is value is None else value  # the client refuses a message of nothing at all

    def good(self, row: dict[str, Any]) -> bytes:
        return json.dumps(row).encode()

    def flipped(self, row: dict[str, Any]) -> bytes:
        raw = bytearray(self.good(row))
        for _ in range(self.random.randrange(1, 9)):
            raw[self.random.randrange(len(raw))] = self.random.randrange(256)
        return bytes(raw)

    def truncated(self, row: dict[str, Any]) -> bytes:
        raw = self.good(row)
        return raw[: self.random.randrange(len(raw))]

    def spliced(self, row: dict[str, Any]) -> bytes:
        """A piece left out, or put in somewhere else."""
        raw = self.good(row)
        one, two = sorted(self.random.sample(range(len(raw)), 2))
        return raw[:one] + raw[two:] + self.random.choice([b"", raw[one:two]])

    def typed(self, row: dict[str, Any]) -> bytes:
        row[self._column()] = self.random.choice(VALUES)
        return self.good(row)

    def huge(self, row: dict[str, Any]) -> bytes:
        row[self._column()] = self.random.choice(NUMBERS)
        return self.good(row)

    def without_a_key(self, row: dict[str, Any]) -> bytes:
        del row[self._column()]
        return self.good(row)

    def encoded(self, row: dict[str, Any]) -> bytes:
        row["symbol"] = "SÿM\u20ac"
        text = json.dumps(row, ensure_ascii=False)
        kind = self.random.choice(["utf-16", "utf-32", "cp1252", "utf-8-sig", "gzip"])
        return gzip.compress(text.encode(), 1) if kind == "gzip" else text.encode(kind)

    def nested(self, row: dict[str, Any]) -> bytes:
        return self._nest(row, self.random.choice([10, 1_000, 20_000]))

    def nothing(self, row: dict[str, Any]) -> bytes | None:
        return self.random.choice([None, b"", b" ", b"\n", b"{}", b"[]", b"null", b"0", b'""', b"\x00"])

    def repeated(self, row: dict[str, Any]) -> bytes:
        """Twice the same key, or two messages in one."""
        raw = self.good(row)
        return self.random.choice([raw[:-1] + b',"symbol":"TWICE"}', raw + raw, raw + b"\n"])

    def not_finite(self, row: dict[str, Any]) -> bytes:
        row[self._column()] = self.random.choice([float("nan"), float("inf"), float("-inf")])
        if self.random.random() < 0.3:
            row["flags"] = self.random.choice(["1" * 5_000, 10**400])
        return self.good(row)

    def long_text(self, row: dict[str, Any]) -> bytes:
        row[self._column()] = "x" * MB
        return self.good(row)

    def long_number(self, row: dict[str, Any]) -> bytes:
        column = self._column()
        row[column] = "#"
        number = self.random.choice([b"9" * MB, b"0." + b"0" * MB + b"1", b"1e" + b"9" * MB])
        return self.good(row).replace(b'"#"', number)

    def long_noise(self, row: dict[str, Any]) -> bytes:
        return self.random.randbytes(LARGEST - 20)

    def long_blank(self, row: dict[str, Any]) -> bytes:
        """A good message, but for its length."""
        return self.good(row) + b" " * MB

    def long_nest(self, row: dict[str, Any]) -> bytes:
        return self._nest(row, 150_000)

    def _nest(self, row: dict[str, Any], depth: int) -> bytes:
        row["ts_recv"] = "#"
        start, end = self.random.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"[", b"")])
        deep = start * depth + self.random.choice([b"1", b"NaN"]) + end * depth
        return self.random.choice([deep, self.good(row).replace(b'"#"', deep)])

    def _column(self) -> str:
        return self.random.choice(self.random.choice([self.read, self.columns]))


def run(
    servers: Servers,
    folder: Path,
    count: int,
    seed: int,
    client: str | None = None,
    algorithm: str | None = None,
    orders: bool = False,
) -> dict[str, Any]:
    """Send mutated messages, consume them with one process, and report; topics are named after the folder."""
    market, *topics = [
        servers.create_topic(f"{folder.name}-{name}", PARTS) for name in ("market", "input", "results", "letters")
    ]
    mutator = Mutator(seed, terms, ("id", "symbol", "side", "quantity")) if orders else Mutator(seed)
    if orders:
        send(servers, market, good_market(seed, 1_000), 1_000)
    send(servers, topics[0], mutator.messages(count), count)
    summary = folder / "summary.json"
    with Jobs(folder / "jobs") as jobs:
        jobs.folder.mkdir()
        jobs.start(
            *("consume", "--kafka-servers", servers.bootstrap, "--group", topics[0], "--summary", summary),
            *(("--topic", market, "--orders-topic", topics[0]) if orders else ("--topic", topics[0])),
            *("--results-topic", topics[1], "--dead-letter-topic", topics[2], "--max-messages", count),
            *("--log-level", "error", *(("--client", client) if client else ())),
            *(("--algorithm", algorithm, "--min-windows", "2", "--horizon", "1") if algorithm else ()),
        ).finish(BAD, seconds=60 + count / 100)
    facts = json.loads(summary.read_text())
    counts = {name: facts[name] for name in ("messages", "results", "skipped", "bad", "rejected") if name in facts}
    report: dict[str, Any] = {"seed": seed, "summary": counts}
    if orders:
        answers = sum(1 for _ in committed_records(servers.bootstrap, topics[1]))
        wrong = [] if answers == count == counts["messages"] else [f"{count:,} orders, {answers:,} answers, {counts}"]
        return report | {"wrong": wrong, "results": answers}
    verdict = check(servers.bootstrap, *topics, view=book_of if algorithm == "cont_kukanov" else all_of)
    return report | {"wrong": faults(counts, verdict, count), **verdict.as_dict()}


def good_market(seed: int, count: int) -> Iterator[Message]:
    mutator = Mutator(seed)
    for _ in range(count):
        row = levels(mutator.random)
        yield row["symbol"].encode(), mutator.good(row)


def send(servers: Servers, topic: str, messages: Iterator[Message], count: int) -> None:
    producing = Producing(servers.bootstrap, topic)
    while producing.sent < count:
        producing.send(itertools.islice(messages, 1_000))
    producing.close()


def faults(counts: dict[str, Any], verdict: Verdict, count: int) -> list[str]:
    skipped, bad = sum(counts["skipped"].values()), sum(counts["bad"].values())
    wrong = [f"{name}: {getattr(verdict, name)}" for name in ("missing", "doubled", "different", "stray")]
    wrong = [text for text in wrong if not text.endswith(": 0")]
    if not count == verdict.inputs == counts["messages"] == counts["results"] + skipped + bad:
        wrong.append(f"{count:,} sent, {verdict.inputs:,} in the topic, the summary says {counts}")
    if (verdict.results, verdict.letters) != (counts["results"], bad):
        wrong.append(f"{verdict.results:,} results and {verdict.letters:,} dead letters, the summary says {counts}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--client", help="handed to `sor consume`; default: nothing is")
    parser.add_argument("--algorithm", help="handed to `sor consume`; default: nothing is")
    parser.add_argument("--orders", action="store_true", help="it is orders that are mutated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sor-fuzz-") as folder, Cluster() as cluster:
        more = options.client, options.algorithm, options.orders
        report = run(cluster, Path(folder), options.messages, options.seed, *more)
    print(json.dumps(report))
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
