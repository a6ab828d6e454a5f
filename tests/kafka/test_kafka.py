"""`sor produce` and `sor consume` against a real Kafka, run as processes, as a user runs them."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import (
    BAD,
    DONE,
    NO_BROKER,
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
from kafka_broker import Cluster, Servers
from kafka_broker.fixtures import need_kafka
from kafka_broker.process import free_ports
from topics import (
    SYMBOLS,
    Names,
    answered,
    by_symbol,
    committed,
    ends_of,
    once,
    packed,
    quote,
    read,
    results_in,
    send,
    without_source,
    write_csv,
)

from sor.errors import Exit

pytestmark = pytest.mark.kafka

LONG = 4_000  # messages: too many to be answered before a signal arrives


# --- commands as processes -------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> str:
    """The client that the test's commands use; `each_client` takes them in turn."""
    return "kafka-python"


@pytest.fixture
def start(tmp_path: Path, client: str) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield functools.partial(jobs.start, SOR_CLIENT=client, script=QUICK)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """As `start`, for what the whole module shares."""
    with Jobs(tmp_path_factory.mktemp("commands")) as jobs:
        yield jobs.start


# --- feeds -----------------------------------------------------------------------------------------------------------


class Feed(NamedTuple):
    """A topic and what it was filled from."""

    servers: Servers
    topic: str
    file: Path
    ends: dict[int, int]

    @property
    def arguments(self) -> tuple[str, ...]:
        return "--kafka-servers", self.servers.bootstrap, "--topic", self.topic


def fill(servers: Servers, start: Start, file: Path, name: str, partitions: int, *arguments: object) -> Feed:
    """A new topic with a file's rows, sent by `sor produce`."""
    unique = f"{name}-{time.time_ns()}"
    servers.create_topic(unique, partitions)
    start("produce", file, "--kafka-servers", servers.bootstrap, "--topic", unique, *arguments).finish(DONE)
    return Feed(servers, unique, file, ends_of(servers, unique))


@pytest.fixture(scope="module")
def sample(kafka: Servers, commands: Start, checkout: Path) -> Feed:
    """sample.csv in a topic of one partition."""
    return fill(kafka, commands, checkout / "sample.csv", "sample", 1)


@pytest.fixture(scope="module")
def mixed(kafka: Servers, commands: Start, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Feed:
    """sample.csv's rows dealt out to twelve symbols, in three partitions."""
    header, *rows = (checkout / "sample.csv").read_text().splitlines()
    file = tmp_path_factory.mktemp("mixed") / "mixed.csv"
    dealt = [f"{row.rsplit(',', 1)[0]},{SYMBOLS[i * 7 % 12]}" for i, row in enumerate(rows)]
    file.write_text("\n".join([header, *dealt]) + "\n")
    return fill(kafka, commands, file, "mixed", 3)


@pytest.fixture(scope="module")
def long(kafka: Servers, commands: Start, checkout: Path) -> Feed:
    """A feed that takes a while."""
    return fill(kafka, commands, checkout / "sample.csv", "long", 1, "--loop", "--max-messages", LONG)


@pytest.fixture(scope="module")
def replayed(commands: Start, checkout: Path) -> list[Json]:
    """What `sor replay sample.csv` prints."""
    return commands("replay", checkout / "sample.csv").finish(DONE).results


@pytest.fixture(scope="module")
def fragile() -> Iterator[Cluster]:
    """A broker of this module's own, to be stopped."""
    need_kafka()
    with Cluster() as cluster:
        yield cluster


# --- from a file to results ------------------------------------------------------------------------------------------


@each_client
def test_results_on_stdout_are_those_of_replay(
    sample: Feed, start: Start, topic: Names, replayed: list[Json], tmp_path: Path
) -> None:
    summary = tmp_path / "summary.json"
    group = ("--group", topic("group"), "--idle-timeout", 2)
    job = start("consume", *sample.arguments, *group, "--summary", summary).finish(DONE)
    assert len(replayed) == 2_000
    assert without_source(job.results) == without_source(replayed)
    assert [result["source"] for result in job.results] == [
        {"topic": sample.topic, "partition": 0, "offset": offset} for offset in range(2_000)
    ]
    assert "source" in job.results[0]
    facts = json.loads(summary.read_text())
    assert (facts["messages"], facts["results"], facts["skipped"], facts["bad"]) == (2_000, 2_000, {}, {})
    assert "messages 2,000 = results 2,000 + skipped 0 + bad 0" in job.err


def test_log_lines_of_consume(sample: Feed, start: Start, topic: Names) -> None:
    bounds = ("--group", topic("group"), "--max-messages", 3)
    job = start("consume", *sample.arguments, *bounds, "--objective", "shortfall").finish(DONE)
    stamp = r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - INFO - "
    for line, times in (
        ("SOR Configuration: Order size: 5000$", 1),
        (r"Optimizing allocation for 5000 shares across \d+ venues$", 3),
        (r"Evaluating \d+ possible allocations$", 3),
        (r"Optimal allocation: \[[\d, ]*\] with cost ", 3),
        (r"SOR Result \[AAPL\]: allocation=\[[\d, ]*\], cost=\$-?[\d.]+, fill_rate=[\d.]+%$", 3),
    ):
        assert len(re.findall(stamp + line, job.err)) == times, job.story(line)
    quiet = start("consume", *sample.arguments, *bounds, "--log-level", "warning").finish(DONE)
    assert " - INFO - " not in quiet.err
    assert len(quiet.results) == 3


@each_client
def test_debug_logging_stays_on_stderr(sample: Feed, start: Start, topic: Names) -> None:
    bounds = ("--group", topic("group"), "--max-messages", 2)
    job = start("consume", *sample.arguments, *bounds, "--log-level", "debug").finish(DONE)
    assert len(job.results) == 2
    assert " - DEBUG - " in job.err
    assert "Logging error" not in job.err


@each_client
def test_limit_orders_over_kafka_are_those_of_replay(sample: Feed, start: Start, topic: Names) -> None:
    """Outflows are counted from the messages, as from the rows of the file."""
    penalties = ("--lambda-under", 0.05, "--lambda-over", 0.05, "--theta-queue", 0.0005)
    options = ("--algorithm", "cont_kukanov", "--horizon", 2, "--min-windows", 5, *penalties, "--log-level", "warning")
    replay = start("replay", sample.file, *options).finish(DONE)
    group = ("--group", topic("group"), "--idle-timeout", 2)
    job = start("consume", *sample.arguments, *group, *options).finish(DONE)
    assert without_source(job.results) == without_source(replay.results)
    kinds = {order["type"] for result in job.results for order in result["child_orders"]}
    assert kinds == {"market", "limit"}


def test_results_to_a_topic_are_keyed_by_symbol(mixed: Feed, start: Start, topic: Names) -> None:
    """Twelve symbols from three partitions into two: each symbol's results are those of replay, in their order."""
    replay = start("replay", mixed.file)
    results = mixed.servers.create_topic(topic("results"), partitions=2)
    out = ("--results-topic", results, "--group", topic("group"), "--idle-timeout", 2)
    job = start("consume", *mixed.arguments, *out, "--log-level", "warning").finish(DONE)
    assert job.out == b""
    assert min(mixed.ends.values()) > 0, "a partition without a symbol tests nothing"
    records = read(mixed.servers, results)
    values = [json.loads(record.value) for record in records]
    assert [record.key for record in records] == [value["symbol"].encode() for value in values]
    assert {record.partition for record in records} == {0, 1}
    assert len({(record.key, record.partition) for record in records}) == len(SYMBOLS)
    assert answered(values) == once(mixed.ends)
    assert by_symbol(values) == by_symbol(replay.finish(DONE).results)


def test_both_clients_put_a_key_in_the_same_partition(mixed: Feed, start: Start, topic: Names) -> None:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    results = mixed.servers.create_topic(topic("results"), partitions=5)
    homes = []
    for client in ("kafka-python", "confluent"):
        before = ends_of(mixed.servers, results)
        out = ("--results-topic", results, "--group", topic("group"), "--max-messages", 2_000)
        start("consume", *mixed.arguments, *out, "--log-level", "warning", SOR_CLIENT=client).finish(DONE)
        records = [record for record in read(mixed.servers, results) if record.offset >= before[record.partition]]
        homes.append({(record.key, record.partition) for record in records})
    assert homes[0] == homes[1]
    assert len(homes[0]) == len(SYMBOLS)


def test_output_beside_a_results_topic(sample: Feed, start: Start, topic: Names, tmp_path: Path) -> None:
    results = sample.servers.create_topic(topic("results"))
    both = ("--results-topic", results, "--max-messages", 5, "--group", topic("group"))
    job = start("consume", *sample.arguments, *both, "--output", "-").finish(DONE)
    assert len(job.results) == 5
    assert job.out.splitlines() == [record.value for record in read(sample.servers, results)]
    file = tmp_path / "results.jsonl"
    job = start("consume", *sample.arguments, *both, "--output", file).finish(DONE)
    assert job.out == b""
    assert file.read_bytes().splitlines() == [record.value for record in read(sample.servers, results)][5:]
    assert len(file.read_bytes().splitlines()) == 5


@each_client
@pytest.mark.parametrize("kind", ["kafka_zookeeper", "kafka_older"])
def test_older_brokers_in_both_modes(
    request: pytest.FixtureRequest, kind: str, start: Start, topic: Names, checkout: Path, replayed: list[Json]
) -> None:
    """Kafka 3.9, with ZooKeeper and without: exactly once, as ever."""
    older: Servers = request.getfixturevalue(kind)
    feed = fill(older, start, checkout / "sample.csv", topic("sample"), 1)
    results = older.create_topic(topic("results"))
    out = ("--results-topic", results, "--group", topic("group"), "--max-messages", 2_000)
    start("consume", *feed.arguments, *out, "--log-level", "warning").finish(DONE)
    values = results_in(older, results)
    assert answered(values) == once({0: 2_000})
    assert without_source(values) == without_source(replayed)


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_consumer_script(sample: Feed, start: Start, topic: Names, checkout: Path) -> None:
    options = "--order-size 3000 --lambda-over 0.015 --lambda-under 0.008 --theta-queue 0.003 --greedy-l2"
    job = start(
        *(*sample.arguments, *options.split(), "--idle-timeout", 3, "--group", topic("group")),
        script=checkout / "kafka_sor_consumer.py",
    ).finish(DONE)
    assert answered(job.results) == once({0: 2_000})
    assert {(result["algorithm"], result["order_size"]) for result in job.results} == {("greedy_l2", 3_000)}
    expected = {"lambda_over": 0.015, "lambda_under": 0.008, "theta_queue": 0.003, "step": 100}
    assert all(result["parameters"] == expected for result in job.results)
    assert job.err.count("INFO - SOR Result [AAPL]: ") == 2_000
    assert "kernels " in job.err
    some = [result for result in job.results if len(result["child_orders"]) > len(result["venues"])]
    assert some, "greedy level 2 never went beyond the touch"


def test_settings_from_the_environment(sample: Feed, start: Start, topic: Names) -> None:
    environment = {
        "ORDER_SIZE": "700",
        "LAMBDA_OVER": "0.5",
        "SOR_SIDE": "sell",
        "TOPIC_NAME": sample.topic,
        "KAFKA_SERVERS": sample.servers.bootstrap,
        "SOR_GROUP": topic("group"),
        "GREEDY_L2": "yes",
        "SOR_MAX_MESSAGES": "4",
        "SIDE": "neither",  # not ours
    }
    first = start("consume", **environment).finish(DONE).results
    assert [(r["order_size"], r["side"], r["algorithm"]) for r in first] == [(700, "sell", "greedy_l2")] * 4
    assert {r["parameters"]["lambda_over"] for r in first} == {0.5}
    flags = ("--order-size", 900, "--no-greedy-l2", "--max-messages", 2)
    second = start("consume", *flags, **environment).finish(DONE).results
    assert [(r["order_size"], r["side"], r["algorithm"]) for r in second] == [(900, "sell", "brute_force")] * 2
    assert [r["source"]["offset"] for r in first + second] == list(range(6)), "SOR_GROUP was not the group"


# --- groups ----------------------------------------------------------------------------------------------------------


def assigned(job: Job) -> set[int]:
    """The partitions that the job's last word on them names."""
    lines = [line for line in job.err.splitlines() if "partitions assigned: " in line]
    names = lines[-1].partition("partitions assigned: ")[2] if lines else "none"
    return set() if names == "none" else {int(name.rpartition(":")[2]) for name in names.split(", ")}


@pytest.mark.parametrize("second", ["the same", "the other"])
@each_client
def test_two_consumers_share_a_stream(mixed: Feed, start: Start, topic: Names, client: str, second: str) -> None:
    """Also where they use different clients: a group can be moved from one to the other, member by member."""
    if second == "the other":
        pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    name = mixed.servers.create_topic(topic(), partitions=3)
    group, results = topic("group"), mixed.servers.create_topic(topic("results"))
    servers = ("--kafka-servers", mixed.servers.bootstrap, "--topic", name)
    consume = ("consume", *servers, "--group", group, "--results-topic", results, "--output", "-")

    def produce_and_wait() -> None:
        start("produce", mixed.file, *servers).finish(DONE)
        ends = ends_of(mixed.servers, name)
        wait_for(lambda: committed(mixed.servers, group, name) == ends, "everything answered and committed")

    one = start(*consume)
    produce_and_wait()
    assert answered(one.results) == once(mixed.ends), "the first consumer alone"
    others = {"kafka-python": "confluent", "confluent": "kafka-python"}
    two = start(*consume, SOR_CLIENT=client if second == "the same" else others[client])
    wait_for(lambda: assigned(two) and assigned(one) | assigned(two) == {0, 1, 2}, "the partitions shared")
    wait_for(lambda: not assigned(one) & assigned(two), "no partition in two hands")
    produce_and_wait()
    shares = {partition for partition, _ in answered(two.results)}
    assert 0 < len(shares) < 3
    one.signal(signal.SIGTERM).finish(DONE)
    wait_for(lambda: assigned(two) == {0, 1, 2}, "all partitions taken over from the one that left")
    produce_and_wait()
    two.signal(signal.SIGTERM).finish(DONE)
    assert answered([*one.results, *two.results]) == once({p: 3 * end for p, end in mixed.ends.items()})
    assert answered(results_in(mixed.servers, results)) == answered([*one.results, *two.results])


def test_two_groups_each_get_everything(mixed: Feed, start: Start, topic: Names) -> None:
    jobs = [
        start("consume", *mixed.arguments, "--group", topic(f"group{i}"), "--max-messages", 2_000) for i in range(2)
    ]
    for job in jobs:
        assert answered(job.finish(DONE).results) == once(mixed.ends)


@each_client
def test_max_messages_and_the_committed_offset(sample: Feed, start: Start, topic: Names) -> None:
    """A restart goes on after what is committed; --from has no say any more."""
    group = topic("group")
    offsets = []
    for limit, where in ((50, "earliest"), (70, "latest"), (30, "earliest")):
        bounds = ("--group", group, "--max-messages", limit, "--from", where)
        job = start("consume", *sample.arguments, *bounds).finish(DONE)
        offsets.append([result["source"]["offset"] for result in job.results])
    assert offsets == [list(range(50)), list(range(50, 120)), list(range(120, 150))]
    assert committed(sample.servers, group, sample.topic) == {0: 150}


@each_client
def test_idle_timeout_of_a_silent_topic(kafka: Servers, start: Start, topic: Names) -> None:
    name = kafka.create_topic(topic())
    began = time.monotonic()
    bounds = ("--idle-timeout", 1, "--group", topic("group"))
    job = start("consume", "--kafka-servers", kafka.bootstrap, "--topic", name, *bounds).finish(DONE)
    assert time.monotonic() - began > 1
    assert job.out == b""
    assert "messages 0 = results 0 + skipped 0 + bad 0" in job.err


@each_client
def test_from_latest_passes_over_what_is_there(kafka: Servers, start: Start, topic: Names) -> None:
    name = kafka.create_topic(topic())
    send(kafka, name, packed(quote(), quote()))
    servers = ("--kafka-servers", kafka.bootstrap, "--topic", name)
    job = start("consume", *servers, "--group", topic("group"), "--from", "latest")
    job.says("partitions assigned")

    def probed() -> bool:
        """Send until one is answered: nobody tells when exactly the consumer has found the end."""
        send(kafka, name, packed(quote()))
        return bool(job.out)

    wait_for(probed, "an answer to what came after the start")
    results = job.signal(signal.SIGTERM).finish(DONE).results
    offsets = [result["source"]["offset"] for result in results]
    assert offsets[0] >= 2
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


@each_client
def test_from_latest_loses_nothing_over_a_restart(kafka: Servers, start: Start, topic: Names) -> None:
    """What comes to a partition while its group is away, and was silent before, is answered at the restart."""
    name, group = kafka.create_topic(topic(), partitions=2), topic("group")
    consume = ("consume", "--kafka-servers", kafka.bootstrap, "--topic", name, "--group", group, "--from", "latest")
    job = start(*consume)
    job.says("partitions assigned")

    def probed() -> bool:
        send(kafka, name, packed(quote("ONE")), part=1)
        return bool(job.out)

    wait_for(probed, "an answer from partition 1")
    job.signal(signal.SIGTERM).finish(DONE)
    send(kafka, name, packed(quote("ZERO")), part=0)
    results = start(*consume, "--idle-timeout", 2).finish(DONE).results
    assert [result["source"] for result in results if result["symbol"] == "ZERO"] == [
        {"topic": name, "partition": 0, "offset": 0}
    ]


# --- stops -----------------------------------------------------------------------------------------------------------


@each_client
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_and_restart(long: Feed, start: Start, topic: Names, number: signal.Signals) -> None:
    """The batch is finished and committed: nothing is lost, nothing comes twice."""
    group, results = topic("group"), long.servers.create_topic(topic("results"))
    consume = ("consume", *long.arguments, "--group", group, "--results-topic", results)
    job = start(*consume)
    job.says("SOR Result [AAPL]", 10)
    job.signal(number).finish(DONE, seconds=20)
    first = results_in(long.servers, results)
    assert 0 < len(first) < LONG, "the signal came too late to test anything"
    assert f"messages {len(first):,} = results {len(first):,} + skipped 0 + bad 0" in job.err
    assert committed(long.servers, group, long.topic) == {0: len(first)}
    start(*consume, "--log-level", "warning", "--max-messages", LONG - len(first)).finish(DONE)
    assert answered(results_in(long.servers, results)) == once({0: LONG})


@each_client
def test_a_killed_consumer_loses_nothing(long: Feed, start: Start, topic: Names) -> None:
    group, results = topic("group"), long.servers.create_topic(topic("results"))
    consume = ("consume", *long.arguments, "--group", group, "--results-topic", results)
    job = start(*consume)
    job.says("SOR Result [AAPL]", 1_500)
    job.kill()
    left_off = committed(long.servers, group, long.topic)[0]
    assert left_off < LONG, "killed too late to test anything"
    assert set(once({0: left_off})) <= set(answered(results_in(long.servers, results))), "committed before it was out"
    # The group waits for the dead member's session to end before it gives the partition away.
    start(*consume, "--log-level", "warning", "--max-messages", LONG - left_off).finish(DONE)
    assert set(answered(results_in(long.servers, results))) == set(once({0: LONG}))
    assert committed(long.servers, group, long.topic) == {0: LONG}


def test_a_second_run_keeps_the_results_of_the_first(sample: Feed, start: Start, topic: Names, tmp_path: Path) -> None:
    """Their offsets are committed, so nobody will answer those messages again."""
    file, group = tmp_path / "results.jsonl", topic("group")
    for _ in range(2):
        start("consume", *sample.arguments, "--group", group, "--max-messages", 5, "--output", file).finish(DONE)
    offsets = [json.loads(line)["source"]["offset"] for line in file.read_bytes().splitlines()]
    assert offsets == list(range(10))


# --- bad messages ----------------------------------------------------------------------------------------------------

GOOD = packed(quote(), quote("MSFT", 1))
UNUSABLE: dict[str, bytes | None] = {
    "empty": b"",
    "null value": None,  # deletes a key of a compacted topic; there is nothing in it to route
    "text": b"hello",
    "binary": b"\x00\x80\xff\xfe",
    "truncated": GOOD[0][:-20],
    "array": b"[" + GOOD[0] + b"]",
    "null": b"null",
    "blank": b"  ",
    "no symbol": packed({name: value for name, value in quote().items() if name != "symbol"})[0],
    "publisher": packed(quote(publisher_id="XNAS"))[0],
    "list for a price": packed(quote(ask_px_00=[100.01]))[0],
    "negative price": packed(quote(ask_px_00=-5.0))[0],
    "size": packed(quote(bid_sz_00=1.5))[0],
    "boolean": packed(quote(bid_px_00=True))[0],
    "infinite": packed(quote(bid_px_00=float("inf")))[0],
    "not UTF-8": GOOD[0].replace(b"AAPL", b"\xffAPL"),
    "surrogate": packed(quote("A\ud800"))[0],
    "deep": b"[" * 200_000,
    "deep value": GOOD[0][:-1] + b', "extra": ' + b'{"a":' * 100_000,
    "long": random.Random(1).randbytes(900_000),
}


@pytest.fixture(scope="module")
def dirty(kafka: Servers, tmp_path_factory: pytest.TempPathFactory) -> Feed:
    """A good message, then the unusable ones with a good one after each."""
    name = kafka.create_topic(f"dirty-{time.time_ns()}")
    values: list[bytes | None] = [GOOD[1]]
    for raw in UNUSABLE.values():
        values += [raw, GOOD[0]]
    send(kafka, name, values)
    return Feed(kafka, name, tmp_path_factory.mktemp("dirty"), ends_of(kafka, name))


BAD_OFFSETS = range(1, 2 * len(UNUSABLE), 2)
RAW = [raw or b"" for raw in UNUSABLE.values()]


def check_sums(summary: Path, results: int, bad: int, skipped: int) -> Counter[str]:
    """All messages are accounted for; the bad ones by reason."""
    facts = json.loads(summary.read_text())
    assert facts["results"] == results
    assert sum(facts["bad"].values()) == bad
    assert sum(facts["skipped"].values()) == skipped
    assert facts["messages"] == results + bad + skipped
    return Counter(facts["bad"])


@each_client
def test_bad_messages_to_a_topic(dirty: Feed, start: Start, topic: Names, tmp_path: Path) -> None:
    letters, group, summary = dirty.servers.create_topic(topic("letters")), topic("group"), tmp_path / "summary.json"
    options = ("--dead-letter-topic", letters, "--group", group, "--idle-timeout", 2, "--summary", summary)
    job = start("consume", *dirty.arguments, *options).finish(BAD)
    assert [result["source"]["offset"] for result in job.results] == [0, *(offset + 1 for offset in BAD_OFFSETS)]
    reasons = check_sums(summary, len(UNUSABLE) + 1, len(UNUSABLE), 0)
    records = read(dirty.servers, letters)
    assert [record.value or b"" for record in records] == RAW
    headers = [{name: value.decode() for name, value in record.headers} for record in records]
    assert Counter(facts["sor.reason"] for facts in headers) == reasons
    for facts, offset, raw in zip(headers, BAD_OFFSETS, RAW, strict=True):
        assert facts["sor.place"].endswith(f"{dirty.topic}:0:{offset}")
        assert facts["sor.length"] == str(len(raw))
        assert facts["sor.detail"]
        assert facts["sor.time"][:2] == "20"
    assert committed(dirty.servers, group, dirty.topic) == dirty.ends, "a bad message is to come once"
    assert f"bad {len(UNUSABLE)} (" in job.err


def test_bad_messages_to_a_file(dirty: Feed, start: Start, topic: Names, tmp_path: Path) -> None:
    letters, summary = tmp_path / "letters.jsonl", tmp_path / "summary.json"
    options = ("--dead-letter-file", letters, "--group", topic("group"), "--idle-timeout", 2, "--summary", summary)
    job = start("consume", *dirty.arguments, *options, "--allow-bad", "--symbol", "MSFT").finish(DONE)
    assert [result["symbol"] for result in job.results] == ["MSFT"]
    reasons = check_sums(summary, 1, len(UNUSABLE), len(UNUSABLE))
    lines = [json.loads(line) for line in letters.read_bytes().splitlines()]
    assert [base64.b64decode(line["raw_base64"]) for line in lines] == RAW
    assert [line["place"] for line in lines] == [
        {"topic": dirty.topic, "partition": 0, "offset": offset} for offset in BAD_OFFSETS
    ]
    assert Counter(line["reason"] for line in lines) == reasons


def test_bad_messages_in_the_log(dirty: Feed, start: Start, topic: Names) -> None:
    job = start("consume", *dirty.arguments, "--group", topic("group"), "--idle-timeout", 2).finish(BAD)
    lines = [line for line in job.err.splitlines() if " - WARNING - dead letter: " in line]
    assert len(lines) == len(UNUSABLE)
    for line, offset, raw in zip(lines, BAD_OFFSETS, RAW, strict=True):
        assert f"{dirty.topic}:0:{offset}: " in line
        assert base64.b64encode(raw[:30]).decode().rstrip("=")[:38] in line
        assert len(line) < 2_000


def test_letters_of_an_earlier_run_are_kept(dirty: Feed, start: Start, topic: Names, tmp_path: Path) -> None:
    letters, group = tmp_path / "letters.jsonl", topic("group")
    for _ in range(2):
        options = ("--dead-letter-file", letters, "--group", group, "--max-messages", 4)
        start("consume", *dirty.arguments, *options).finish(BAD)
    offsets = [json.loads(line)["place"]["offset"] for line in letters.read_bytes().splitlines()]
    assert offsets == [1, 3, 5, 7]


# --- brokers and topics that are not there ---------------------------------------------------------------------------


def lines_but_configuration(job: Job) -> list[str]:
    return [line for line in job.err.splitlines() if "SOR Configuration" not in line]


@each_client
@pytest.mark.parametrize(
    "command",
    [("consume",), ("consume", "--results-topic", "results"), ("produce", "sample.csv")],
    ids=["consume", "consume to a topic", "produce"],
)
def test_no_broker(start: Start, checkout: Path, command: tuple[str, ...]) -> None:
    servers = f"127.0.0.1:{free_ports(1)[0]}"
    words = [str(checkout / word) if word == "sample.csv" else word for word in command]
    began = time.monotonic()
    job = start(*words, "--kafka-servers", servers, "--connect-timeout", 2).finish(NO_BROKER, seconds=15)
    assert time.monotonic() - began < 10
    assert job.out == b""
    (line,) = lines_but_configuration(job)
    assert line.startswith(f"sor {command[0]}: error: no Kafka broker answered at {servers} within 2 s")


@each_client
def test_interrupted_while_there_is_no_broker(start: Start) -> None:
    job = start("consume", "--kafka-servers", f"127.0.0.1:{free_ports(1)[0]}")
    job.says("no Kafka broker answers at")
    began = time.monotonic()
    job.signal(signal.SIGINT).process.wait(PATIENCE)
    assert time.monotonic() - began < 5
    assert len(lines_but_configuration(job)) == 1, job.story("more than the one line")


@each_client
def test_a_broker_that_comes_late(
    fragile: Cluster, start: Start, topic: Names, checkout: Path, replayed: list[Json]
) -> None:
    name, (node,) = fragile.create_topic(topic()), fragile.nodes
    node.stop()
    servers = ("--kafka-servers", fragile.bootstrap, "--topic", name, "--connect-timeout", 30)
    produce = start("produce", checkout / "sample.csv", *servers)
    consume = start("consume", *servers, "--group", topic("group"), "--max-messages", 2_000)
    for job in (produce, consume):
        job.says(f"no Kafka broker answers at {fragile.bootstrap} yet")
        assert len(lines_but_configuration(job)) == 1, job.story("more than one line on a broker that is not there")
    node.start()
    produce.says(" - INFO - producing ", seconds=5)  # seen soon, however long it was away: no long pauses in trying
    consume.says(" - INFO - consuming ", seconds=5)
    assert "sent 2,000 messages" in produce.finish(DONE).err
    assert without_source(consume.finish(DONE).results) == without_source(replayed)


@each_client
def test_a_broker_that_restarts(fragile: Cluster, start: Start, topic: Names, checkout: Path) -> None:
    """Stopped while one command sends and another answers, both wait for it and lose nothing."""
    name, group, (node,) = fragile.create_topic(topic()), topic("group"), fragile.nodes
    results = fragile.create_topic(topic("results"))
    servers = ("--kafka-servers", fragile.bootstrap, "--topic", name)
    consume = start("consume", *servers, "--group", group, "--results-topic", results)
    consume.says("partitions assigned")
    produce = start("produce", checkout / "sample.csv", *servers, "--loop", "--max-messages", 20_000)
    consume.says("SOR Result [AAPL]", 500)
    assert produce.process.poll() is None, "the stream was over before the broker was stopped"
    node.stop()
    assert produce.process.poll() is None, "the stream was over before the broker was stopped"
    node.start()
    assert "sent 20,000 messages" in produce.finish(DONE).err
    assert ends_of(fragile, name) == {0: 20_000}, "the producer lost or doubled messages"

    def finished() -> bool:
        nonlocal consume
        if consume.process.poll() == Exit.HUNG:  # as whoever runs it would start it again
            consume = start("consume", *servers, "--group", group, "--results-topic", results)
        assert consume.process.poll() is None, consume.story("gave up")
        return committed(fragile, group, name) == {0: 20_000}

    wait_for(finished, "everything answered and committed")
    consume.signal(signal.SIGTERM).finish(DONE)
    assert answered(results_in(fragile, results, "read_committed")) == once({0: 20_000})


@each_client
def test_a_topic_that_comes_late(kafka: Servers, start: Start, topic: Names) -> None:
    name = topic()
    servers = ("--kafka-servers", kafka.bootstrap, "--topic", name)
    job = start("consume", *servers, "--group", topic("group"), "--max-messages", 2)
    job.says(f"topic {name} does not exist")
    assert job.err.count("does not exist") == 1
    kafka.create_topic(name, partitions=2)
    send(kafka, name, packed(quote("ONE")), part=0)
    send(kafka, name, packed(quote("TWO")), part=1)
    assert answered(job.finish(DONE, seconds=30).results) == once({0: 1, 1: 1})


@each_client
def test_a_results_topic_that_is_not_there(sample: Feed, start: Start, topic: Names, tmp_path: Path) -> None:
    """The command fails, saying which topic, and what it did not answer stays uncommitted."""
    missing, group, summary = topic("missing"), topic("group"), tmp_path / "summary.json"
    options = ("--results-topic", missing, "--group", group, "--connect-timeout", 2, "--summary", summary)
    job = start("consume", *sample.arguments, *options, "--log-level", "warning").finish(STREAM_FAILED)
    assert missing in job.err.splitlines()[-1]
    assert committed(sample.servers, group, sample.topic) == {0: 0}
    assert not summary.exists()  # nothing was begun


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (("--kafka-servers", "localhost:port"), "localhost:port"),
        (("--topic", "no such name!"), "no such name!"),
        (("--results-topic", "no such name!"), "no such name!"),
    ],
    ids=["port", "topic", "results topic"],
)
def test_settings_that_kafka_cannot_take(sample: Feed, start: Start, wrong: tuple[str, str], named: str) -> None:
    """One line that names the value, and the status of a wrong call."""
    settings = {"--kafka-servers": sample.servers.bootstrap, "--topic": sample.topic, "--group": "nobody"}
    settings |= dict([wrong])
    flags = [word for pair in settings.items() for word in pair]
    job = start("consume", *flags, "--max-messages", 1, "--connect-timeout", 2).finish(WRONG_CALL)
    assert named in job.err.splitlines()[-1]


# --- produce ---------------------------------------------------------------------------------------------------------


def test_produce_says_what_was_acknowledged(mixed: Feed, checkout: Path, start: Start, topic: Names) -> None:
    """Same symbol, same partition, in the file's order; `row` counts the file's rows."""
    name = mixed.servers.create_topic(topic(), partitions=3)
    job = start("produce", mixed.file, "--kafka-servers", mixed.servers.bootstrap, "--topic", name).finish(DONE)
    assert f"sent 2,000 messages to {name}, all acknowledged; 0 bad rows" in job.err
    records = read(mixed.servers, name)
    assert len(records) == 2_000
    assert [record.key.decode() for record in records] == [json.loads(record.value)["symbol"] for record in records]
    assert len({(record.key, record.partition) for record in records}) == len(SYMBOLS)
    rows: dict[bytes, list[int]] = {}
    for record in records:
        ((header, number),) = record.headers
        assert header == "row"
        rows.setdefault(record.key, []).append(int(number))
    assert all(numbers == sorted(numbers) for numbers in rows.values())
    assert sorted(number for numbers in rows.values() for number in numbers) == list(range(1, 2_001))
    first = next(record for record in records if record.headers == [("row", b"1")])
    header, row = mixed.file.read_text().splitlines()[:2]
    for column, cell in zip(header.split(","), row.split(","), strict=True):
        value = json.loads(first.value)[column]
        assert value is None if cell == "" else str(value) == cell or float(value) == float(cell)


@pytest.mark.parametrize(("speed", "seconds"), [(1, 2.0), (4, 1.0)])
def test_produce_keeps_the_pace(
    kafka: Servers, start: Start, topic: Names, tmp_path: Path, speed: int, seconds: float
) -> None:
    name = kafka.create_topic(topic())
    due = [seconds * part for part in (0, 0.05, 0.5, 0.55, 1)]
    file = write_csv(tmp_path / "paced.csv", [quote(seconds=speed * when) for when in due])
    start("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name, "--speed", speed).finish(DONE)
    times = [record.timestamp / 1e3 for record in read(kafka, name)]  # of the sending
    late = [sent - times[0] - when for sent, when in zip(times, due, strict=True)]
    assert min(late) > -0.4, f"too early: {late}"  # the first waits for the topic's metadata
    assert max(late) < 1.2, f"too late: {late}"


def test_produce_in_a_loop(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    name = kafka.create_topic(topic())
    file = write_csv(tmp_path / "five.csv", [quote(seconds=second, sequence=1) for second in range(5)])
    servers = ("--kafka-servers", kafka.bootstrap, "--topic", name, "--loop")
    job = start("produce", file, *servers, "--max-messages", 12).finish(DONE)
    assert f"sent 12 messages to {name}" in job.err
    rows = [int(dict(record.headers)["row"]) for record in read(kafka, name)]
    assert rows == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]
    endless = start("produce", file, *servers)
    wait_for(lambda: ends_of(kafka, name)[0] >= 40, "an endless feed")
    endless.signal(signal.SIGTERM).finish(DONE, seconds=20)
    assert f"sent {ends_of(kafka, name)[0] - 12:,} messages" in endless.err


def test_produce_counts_bad_rows(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    name = kafka.create_topic(topic())
    file = write_csv(tmp_path / "bad.csv", [quote(), quote(ts_event="yesterday"), quote("", 1), quote("MSFT", 2)])
    with file.open("ab") as more:
        more.write(b"too,few\n\xff\xfe\n\n")
    command = ("produce", file, "--kafka-servers", kafka.bootstrap, "--topic", name)
    job = start(*command).finish(BAD)
    assert f"sent 2 messages to {name}, all acknowledged; 4 bad rows" in job.err
    assert [f"bad.csv:{line}: " in job.err for line in range(2, 8)] == [False, True, True, False, True, True]
    assert [(record.key, dict(record.headers)["row"]) for record in read(kafka, name)] == [
        (b"AAPL", b"1"),
        (b"MSFT", b"4"),
    ]
    start(*command, "--allow-bad").finish(DONE)


def test_produce_json_lines_from_a_pipe(kafka: Servers, start: Start, topic: Names, tmp_path: Path) -> None:
    name = kafka.create_topic(topic())
    lines = packed(*(quote(symbol, i) for i, symbol in enumerate(SYMBOLS)))
    plain, packed_file = tmp_path / "feed.jsonl", tmp_path / "feed.jsonl.gz"
    plain.write_bytes(b"\n".join(lines) + b"\n")
    packed_file.write_bytes(gzip.compress(plain.read_bytes()))
    command = ("--kafka-servers", kafka.bootstrap, "--topic", name)
    for file in (plain, packed_file):
        job = start("produce", "-", *command, stdin=file).finish(DONE)
        assert "sent 12 messages" in job.err
    assert [(record.key.decode(), record.value) for record in read(kafka, name)] == 2 * list(
        zip(SYMBOLS, lines, strict=True)
    )


def test_produce_a_file_that_cannot_be_read(start: Start, tmp_path: Path) -> None:
    """Told at once, before any broker is waited for."""
    empty = tmp_path / "empty.csv"
    empty.touch()
    servers = ("--kafka-servers", f"127.0.0.1:{free_ports(1)[0]}", "--connect-timeout", 60)
    for file in (tmp_path / "missing.csv", tmp_path, empty):
        job = start("produce", file, *servers).finish(WRONG_CALL, seconds=20)
        (line,) = job.err.splitlines()
        assert line.startswith("sor produce: error: ")
        assert str(file) in line
    job = start("produce", "-", *servers, "--loop", stdin=empty).finish(WRONG_CALL, seconds=20)
    assert "--loop" in job.err


def test_produce_to_a_topic_that_is_not_there(kafka: Servers, start: Start, topic: Names, checkout: Path) -> None:
    """It may fail or wait, but it says which topic does not exist."""
    name = topic("missing")
    servers = ("--kafka-servers", kafka.bootstrap, "--topic", name, "--connect-timeout", 2)
    job = start("produce", checkout / "sample.csv", *servers).finish(STREAM_FAILED, seconds=20)
    assert f"topic {name} does not exist" in job.err
