"""`sor check`: what it finds right and wrong, and that it changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import DONE, NO_BROKER, STREAM_FAILED, WRONG_CALL, Job, Jobs, Start
from kafka import KafkaAdminClient, errors
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka_broker import Cluster, Servers
from kafka_broker.fixtures import need_kafka
from kafka_broker.process import free_ports
from topics import Names, committed, ends_of, packed, quote, send

from sor.market.venues import VenueDirectory
from sor.service import check
from sor.service.settings import ConsumeSettings

CONSUME = [
    "settings",
    "kernels",
    "venues",
    "fees",
    "brokers",
    "market data",
    "results",
    "dead letters",
    "last quotes",
    "symbols",
    "group",
    "ids",
]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with Jobs(tmp_path) as jobs:
        yield jobs.start


def findings(job: Job) -> dict[str, tuple[str, str]]:
    """What was checked, in order, with verdict and story; nothing goes to standard error."""
    assert job.err == ""
    found = {}
    for line in job.out.decode().splitlines():
        assert line[:4].rstrip() in ("ok", "warn", "FAIL", "skip")
        assert line[4:6] == "  "
        what, story = line[6:].split(": ", 1)
        name = {"group": "group", "transactional": "ids"}.get(what.split()[0], what)
        found[name] = (line[:4].rstrip(), story)
    return found


def verdicts(job: Job) -> dict[str, str]:
    return {what: verdict for what, (verdict, _) in findings(job).items()}


@pytest.mark.kafka
def test_all_is_well_and_nothing_is_changed(kafka: Servers, start: Start, topic: Names) -> None:
    market, results, letters = (kafka.create_topic(topic(name), 3) for name in ("market", "results", "letters"))
    group = topic("group")
    arguments = ("--kafka-servers", kafka.bootstrap, "--topic", market, "--group", group)
    sinks = ("--results-topic", results, "--dead-letter-topic", letters)
    found = findings(start("check", *arguments, *sinks).finish(DONE))
    assert list(found) == CONSUME
    not_to_be_told = {"symbols", "group", "ids", "last quotes"}
    assert found["fees"][1].startswith("no taker fee is above the cap ($0.003 a share, below $1 0.3 % of the price")
    assert {what for what, (verdict, _) in found.items() if verdict != "ok"} == not_to_be_told
    assert found["symbols"][1] == f"no market data in {market} yet"
    assert "does not exist yet" in found["group"][1]
    assert f"{group}-books does not exist yet: it is made" in found["last quotes"][1]
    assert "cannot be told" in found["ids"][1]
    assert found["market data"] == ("ok", f"topic {market}, 3 partitions, replication 1, permitted: READ")
    assert found["results"] == ("ok", f"topic {results}, 3 partitions, replication 1, permitted: WRITE")
    assert found["brokers"][1].startswith(f"1 at {kafka.bootstrap}, speaking the protocol of Kafka ")
    few = kafka.create_topic(f"{group}-books", 2)
    found = findings(start("check", *arguments, *sinks).finish(STREAM_FAILED))
    assert found["last quotes"] == ("FAIL", f"topic {few} has 2 partitions: it needs the 3 of {market}")
    for name in (market, results, letters):
        assert sum(ends_of(kafka, name).values()) == 0
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        assert group not in {about["group_id"] for about in admin.list_groups()}


@pytest.mark.kafka
def test_a_group_that_exists_and_sinks_not_asked_for(kafka: Servers, start: Start, topic: Names) -> None:
    market, group = kafka.create_topic(topic()), topic("group")
    send(kafka, market, packed(quote()))
    arguments = ("--kafka-servers", kafka.bootstrap, "--topic", market, "--group", group)
    start("consume", *arguments, "--max-messages", 1).finish(DONE)
    found = findings(start("check", *arguments).finish(DONE))
    assert found["group"] == ("ok", "Empty, 0 members, permitted: READ")
    assert found["results"] == ("skip", "no --results-topic")
    assert found["dead letters"] == ("skip", "no --dead-letter-topic")
    assert found["last quotes"][0] == "skip"
    assert found["ids"] == ("skip", "no --results-topic, so none is used")


@pytest.mark.kafka
def test_for_produce(kafka: Servers, start: Start, topic: Names, checkout: Path, tmp_path: Path) -> None:
    market = kafka.create_topic(topic(), 2)
    arguments = ("--kafka-servers", kafka.bootstrap, "--topic", market)
    found = findings(start("check", checkout / "sample.csv", *arguments, "--speed", 1).finish(DONE))
    assert list(found) == ["settings", "kernels", "feed", "brokers", "market data"]
    assert found["feed"][1].endswith("its first row is of AAPL")
    assert found["market data"][1].endswith("2 partitions, replication 1, permitted: WRITE")
    resuming = findings(start("check", checkout / "sample.csv", *arguments, "--resume").finish(DONE))
    assert resuming["market data"][1].endswith("permitted: WRITE and READ")
    assert sum(ends_of(kafka, market).values()) == 0
    bad = tmp_path / "bad.csv"
    bad.write_text("ts_event,publisher_id,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,symbol\nyesterday,2,1,2,3,4,AAPL\n")
    for file, word in ((bad, "first row"), (tmp_path / "missing.csv", "cannot read")):
        found = findings(start("check", file, *arguments).finish(WRONG_CALL))
        assert found["feed"][0] == "FAIL"
        assert word in found["feed"][1]
        assert found["market data"][0] == "ok", "one failure does not end the checking"


@pytest.mark.kafka
def test_a_symbol_in_several_partitions(kafka: Servers, start: Start, topic: Names) -> None:
    """As without keys, or with those of venues: each member would have a part of the book, and answer on that."""
    market, group = kafka.create_topic(topic(), 3), topic("group")
    arguments = ("--kafka-servers", kafka.bootstrap, "--topic", market, "--group", group)
    send(kafka, market, packed(quote("MSFT")), part=1)  # before the newest ones, as before the topic was mended
    send(kafka, market, packed(quote("AAPL"), *[quote("MSFT", n) for n in range(check.TAIL)]), part=0)
    send(kafka, market, [*packed(*[quote("IBM", n) for n in range(check.TAIL)]), b"junk", None], part=1)
    found = findings(start("check", *arguments).finish(DONE))
    assert found["symbols"] == ("ok", "2 among the newest messages, each in one partition")
    send(kafka, market, packed(quote("IBM"), quote("ORCL"), quote("AAPL"), quote("MSFT")), part=2)
    found = findings(start("check", *arguments).finish(STREAM_FAILED))
    assert found["symbols"][0] == "FAIL"
    assert found["symbols"][1].startswith("2 of 4 are in more than one partition, such as IBM in 1, 2: no book of")
    one = kafka.create_topic(topic("one"))
    found = findings(start("check", *arguments[:3], one, "--group", group).finish(DONE))
    assert found["symbols"] == ("skip", f"topic {one} has not more than one partition")
    assert set(committed(kafka, group, market).values()) == {0}


@pytest.mark.kafka
def test_topics_that_do_not_exist(kafka: Servers, start: Start, topic: Names) -> None:
    market, missing = kafka.create_topic(topic()), topic("missing")
    arguments = ("--kafka-servers", kafka.bootstrap, "--topic", market, "--results-topic", missing)
    found = findings(start("check", *arguments).finish(STREAM_FAILED))
    assert {what for what, (verdict, _) in found.items() if verdict == "FAIL"} == {"results"}
    assert found["results"][1] == f"topic {missing} does not exist, or may not be seen"
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        assert missing not in admin.list_topics(), "asking has made it"


def test_no_broker(start: Start) -> None:
    servers = f"127.0.0.1:{free_ports(1)[0]}"
    arguments = ("--kafka-servers", servers, "--connect-timeout", 1)
    found = findings(start("check", *arguments).finish(NO_BROKER, seconds=30))
    assert found["brokers"][0] == "FAIL"
    assert f"no Kafka broker answered at {servers} within 1 s" in found["brokers"][1]
    assert found["topics and permissions"] == ("skip", "no broker to ask")
    assert {found[what][0] for what in ("settings", "kernels", "venues")} == {"ok"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--venues", "missing.toml"), "missing.toml"),
        (("--exclude-venues", "NOWHERE"), "NOWHERE"),
    ],
    ids=["file", "venue"],
)
def test_wrong_venues_come_before_a_missing_broker(start: Start, arguments: tuple[str, str], word: str) -> None:
    nobody = ("--kafka-servers", f"127.0.0.1:{free_ports(1)[0]}", "--connect-timeout", 0.5)
    found = findings(start("check", *arguments, *nobody).finish(WRONG_CALL, seconds=30))
    assert found["venues"][0] == "FAIL"
    assert word in found["venues"][1]
    assert found["brokers"][0] == "FAIL"


IN_2024 = 1_722_519_360_000_000_000
FEES = """
schema_version = 1

[[venue]]
mic = "XNAS"
name = "Nasdaq"
model = "ours"
publisher_ids = [2]

[[venue.figures]]
valid_from = 2024-01-01
taker_fee = 0.0035
maker_rebate = 0.0
taker_fee_verified = true
maker_rebate_verified = true
source = "our contract"
"""
BELOW = """
[venue.figures.sub_dollar]
taker_fee = 0.004
maker_rebate = 0.0
taker_fee_verified = true
maker_rebate_verified = true
source = "our contract"
"""


def about_fees(tmp_path: Path, now: int, venues: str | None = None, policy: str | None = None) -> check.Finding:
    files: dict[str, Any] = {}
    for name, content in (("venues", venues), ("policy", policy)):
        if content is not None:
            files[name] = str(tmp_path / f"{name}.toml")
            Path(files[name]).write_text(content)
    return check._try("fees", lambda: check._fees(ConsumeSettings(**files), now))


def test_no_built_in_fee_is_above_the_cap(tmp_path: Path) -> None:
    told = "no taker fee is above the cap ($0.003 a share, below $1 0.3 % of the price)"
    assert about_fees(tmp_path, IN_2024) == check.Finding("ok", "fees", told)


@pytest.mark.parametrize(
    ("venues", "told"),
    [
        (FEES, "XNAS ($0.0035)"),
        (FEES + BELOW, "XNAS ($0.0035 and 0.4 % of a price below $1)"),
        (FEES.replace("0.0035", "0.002") + BELOW, "XNAS (0.4 % of a price below $1)"),
        (FEES.replace("0.0035", "0.0029\nfee_bps = 2"), "XNAS ($0.0031)"),
    ],
)
def test_a_fee_above_the_cap_is_a_warning(tmp_path: Path, venues: str, told: str) -> None:
    found = about_fees(tmp_path, IN_2024, venues)
    assert (found.verdict, found.error) == ("warn", None)
    assert found.story.startswith(
        f"the taker fee of {told} is above the cap of 2024-08-01 ($0.003 a share, below $1 0.3 "
    )
    assert "Rule 610(c) of Regulation NMS" in found.story


@pytest.mark.parametrize("fee", ["0.003", "0.0035\nfrom_price = 0\nfee_bps = 10"])
def test_a_fee_at_the_cap_and_one_that_is_not_of_us_stocks_are_none(tmp_path: Path, fee: str) -> None:
    assert about_fees(tmp_path, IN_2024, FEES.replace("0.0035", fee)).verdict == "ok"


def test_the_cap_is_that_of_the_day_and_of_the_policy_chosen(tmp_path: Path) -> None:
    amended = "schema_version = 1\n[choice]\naccess_cap = 'amended'\n"
    later = IN_2024 + 3 * 365 * 86_400 * 10**9
    assert about_fees(tmp_path, IN_2024, policy=amended).verdict == "ok"
    found = about_fees(tmp_path, later, policy=amended)
    assert found.verdict == "warn"
    assert "XNAS ($0.003 and 0.3 % of a price below $1), XNYS ($0.003), " in found.story
    assert "($0.001 a share, below $1 0.1 % of the price; not known for sure: Amendment of Rule 610(c)" in found.story
    assert "IEXG (0.3 % of a price below $1)" in found.story
    assert about_fees(tmp_path, later).story.endswith("not known for sure)")


def test_a_wrong_policy_is_a_failure(tmp_path: Path) -> None:
    found = about_fees(tmp_path, IN_2024, policy="schema_version = 1\n[choice]\nprotected = 'maybe'\n")
    assert found.verdict == "FAIL"
    assert "choice: protected is 'maybe': it may be present, on, off" in found.story


@pytest.mark.parametrize("wrong", [("--order-size", "many"), ("--speed", "fast"), ("--resume", "--loop")], ids=str)
def test_a_wrong_setting_is_told_first(start: Start, wrong: tuple[str, str]) -> None:
    job = start("check", *wrong).finish(WRONG_CALL)
    (line,) = job.err.splitlines()
    assert line.startswith("sor check: error: --")
    assert job.out == b""


NOT_READY = [errors.CoordinatorLoadInProgressError, errors.NotCoordinatorError]


class Starting:
    """Brokers that have just started: the first answers about a group and a topic are that they are not ready."""

    def __init__(self, *said: type[errors.BrokerResponseError]) -> None:
        self.said = list(said)

    def describe_groups(self, groups: list[str]) -> dict[str, Any]:
        error = str(self.said.pop(0)()) if self.said else None  # as the client puts it
        return {group: {"error": error, "group_state": "Dead", "members": []} for group in groups}

    def describe_topics(self, topics: list[str]) -> list[Any]:
        code = self.said.pop(0).errno if self.said else 0
        parts = [{"partition_index": 0, "leader_id": -1 if self.said else 1, "replica_nodes": [1], "isr_nodes": [1]}]
        return [{"error_code": code, "partitions": parts, "authorized_operations": ["READ"]} for _ in topics]


USE = check.Use("market data", "market", "--topic", ("READ",))
QUESTIONS = {
    "group": (lambda admin: check._group(admin, "mine"), "skip"),
    "topic": (lambda admin: check._topic(admin, USE), "ok"),
}


@pytest.mark.parametrize(("ask", "well"), QUESTIONS.values(), ids=QUESTIONS)
def test_brokers_that_are_not_ready_are_asked_again(ask: Callable[[Any], str], well: str) -> None:
    """For as long as brokers are waited for; what stays as it is, is told at once."""
    assert check._try("it", partial(ask, Starting(*NOT_READY)), 10).verdict == well
    assert check._try("it", partial(ask, Starting(*NOT_READY)), 0).verdict == "FAIL"
    for_good = Starting(errors.GroupAuthorizationFailedError)
    assert check._try("it", partial(ask, for_good), 10).verdict == "FAIL"


# --- clusters of our own ---------------------------------------------------------------------------------------------


@pytest.mark.kafka
def test_an_address_that_is_given_out_and_cannot_be_reached(start: Start) -> None:
    """The commonest trouble of all: the first connection works, and every other goes nowhere."""
    need_kafka()
    port = free_ports(1)[0]
    with Cluster(settings={"advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}"}) as cluster:
        job = start("check", "--kafka-servers", cluster.bootstrap, "--connect-timeout", 5)
        found = findings(job.finish(NO_BROKER))
    assert found["brokers"][0] == "FAIL"
    assert f"can be reached at 127.0.0.1:{port}, which this host cannot" in found["brokers"][1]
    assert "advertised.listeners" in found["brokers"][1]
    assert found["topics and permissions"][0] == "skip"


AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@pytest.mark.kafka
def test_permissions(start: Start, topic: Names) -> None:
    """As everybody's are denied one by one."""
    need_kafka()
    with Cluster(settings=AUTHORIZER) as cluster:
        market, results = cluster.create_topic("market"), cluster.create_topic("results")
        send(cluster, market, packed(quote()))
        arguments = ("--kafka-servers", cluster.bootstrap, "--topic", market, "--group", "mine")
        start("consume", *arguments, "--max-messages", 1).finish(DONE)
        arguments += ("--results-topic", results)
        before = findings(start("check", *arguments).finish(DONE))
        assert before["group"][0] == before["results"][0] == "ok"

        def rule(permission: str, operation: str, kind: str, name: str) -> ACL:
            pattern = ResourcePattern(ResourceType[kind], name)
            return ACL("User:*", "*", ACLOperation[operation], ACLPermissionType[permission], pattern)

        with KafkaAdminClient(bootstrap_servers=cluster.bootstrap) as admin:
            answer = admin.create_acls(
                [
                    rule("ALLOW", "READ", "TOPIC", results),  # and with it to see it, but not to write
                    rule("DENY", "ALL", "TOPIC", market),
                    rule("ALLOW", "DESCRIBE", "GROUP", "mine"),
                    rule("DENY", "ALL", "TRANSACTIONAL_ID", "mine-check"),
                ]
            )
            assert not answer["failed"]
        after = findings(start("check", *arguments).finish(STREAM_FAILED))
        assert after["results"] == ("FAIL", f"topic {results}: permission missing: WRITE")
        assert after["market data"][0] == "FAIL"
        assert after["group"] == ("FAIL", "group: permission missing: READ")
        assert after["ids"][0] == "FAIL"
        assert "TransactionalIdAuthorizationFailed" in after["ids"][1]


def test_rules_and_protection_are_told(tmp_path: Path) -> None:
    """What venues have rules, and whether the protection that is asked for is in force on the day."""
    rules = """
[[venue.rules]]
valid_from = 2024-01-01
ticket = 0.5
verified = true
source = "ours"
"""
    own, policy = tmp_path / "own.toml", tmp_path / "policy.toml"
    own.write_text(FEES.replace("0.0035", "0.003") + rules)
    policy.write_text("schema_version = 1\n[choice]\nprotected = 'off'\n")
    plain = ConsumeSettings(venues=str(own), protect="nbbo")
    (name,) = (entry.venue_id for entry in VenueDirectory.load(own) if entry.rules)
    assert check._venues(plain).endswith(f", with rules of {name}")
    assert check._try("protection", lambda: check._protection(plain, IN_2024)) == check.Finding(
        "ok", "protection", "better protected quotations come first, as the policy says for 2024-08-01"
    )
    off = ConsumeSettings(policy=str(policy), protect="nbbo")
    found = check._try("protection", lambda: check._protection(off, IN_2024))
    assert found.verdict == "warn"
    assert found.story.startswith("by the policy no quotation is protected on 2024-08-01 (")
