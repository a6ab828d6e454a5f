"""Tries what a run needs, without sending a message: `sor check` before a roll-out, or when something is wrong."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kafka import errors as kafka_errors

from sor import kernels
from sor.errors import ConnectError, DataError, InputError, LeftOut, SorError, StreamError
from sor.kafka import kafka_python as kafka
from sor.kafka import private
from sor.kafka.common import ClientError
from sor.kafka.waiting import Deadline
from sor.market import Decoder
from sor.market.databento_json import JsonDecoder
from sor.market.instruments import Instruments
from sor.market.policy import DOLLARS_FROM, AccessCap
from sor.market.toml_file import day_of
from sor.market.venues import Figure, VenueDirectory, VenueEntry
from sor.service import rules
from sor.service.pipelines import directory_of
from sor.service.settings import (
    CheckSettings,
    ConsumeSettings,
    ProduceSettings,
    RoutingSettings,
    SendSettings,
    StreamSettings,
)
from sor.stream.files import FileSource, open_feed

LONGEST_WAIT_S = 5.0  # for an address to take a connection
ASK_AGAIN_S = 0.2
TAIL = 300  # messages of a partition that are looked at
LONGEST_LOOK_S = 10.0  # at all of them


class Finding(NamedTuple):
    """What came of one check."""

    verdict: str  # ok, warn, FAIL or skip
    what: str
    story: str
    error: Exception | None = None  # of a FAIL

    @property
    def line(self) -> str:
        return f"{self.verdict:4}  {self.what}: {self.story}"


class Skipped(Exception):
    """Something that was not asked for, or cannot be told without changing anything; the message says which."""


class Doubtful(Exception):
    """Something to look into, with which a run goes all the same; the message says what."""


class Use(NamedTuple):
    """A topic that a command uses, and the rights that it needs there."""

    what: str
    name: str | None  # None: not asked for
    option: str  # that names it
    rights: tuple[str, ...]
    like: str | None = None  # it is made where it is missing, with as many partitions as this one


def topics_of_produce(settings: SendSettings) -> list[Use]:
    rights = ("WRITE", "READ") if settings.resume else ("WRITE",)
    return [Use("market data", settings.topic, "--topic", rights)]


def topics_of_consume(settings: StreamSettings) -> list[Use]:
    orders = [Use("orders", settings.orders_topic, "--orders-topic", ("READ",))] if settings.orders_topic else []
    return [
        Use("market data", settings.topic, "--topic", ("READ",)),
        *orders,
        Use("results", settings.results_topic, "--results-topic", ("WRITE",)),
        Use("dead letters", settings.dead_letter_topic, "--dead-letter-topic", ("WRITE",)),
        Use(
            "last quotes" if settings.orders_topic is None else "answers",
            settings.memory_topic,
            "--results-topic, or at-least-once delivery",
            ("READ", "WRITE"),
            settings.orders_topic or settings.topic,
        ),
    ]


def check(settings: CheckSettings) -> Iterator[Finding]:
    """Check what ``sor produce FILE`` needs or, without a file, what ``sor consume`` needs; findings as they come."""
    path = settings.csv_file
    yield _try("settings", lambda: _settings(settings))
    yield _try("kernels", lambda: f"{kernels.BACKEND} ({kernels.WHY})")
    if path is not None:
        yield _try("feed", lambda: _feed(path, settings.venues, settings.instruments))
    else:
        yield _try("venues", lambda: _venues(settings))
        yield _try("fees", lambda: _fees(settings, time.time_ns()))
        if settings.protect != "none":
            yield _try("protection", lambda: _protection(settings, time.time_ns()))
        if settings.instruments is not None:
            yield _try("instruments", lambda: _instruments(settings))
    try:
        admin = kafka.connect_admin(settings.connection)
    except SorError as error:
        yield Finding("FAIL", "brokers", str(error), error)
        yield Finding("skip", "topics and permissions", "no broker to ask")
        return
    try:
        yield from _ask(admin, settings, path)
    finally:
        admin.close()


def _ask(admin: Any, settings: CheckSettings, path: str | None) -> Iterator[Finding]:
    """What only the brokers know."""
    found = _try("brokers", lambda: _brokers(admin, settings.connect_timeout))
    yield found
    if found.error is not None:  # the questions that follow might go to the address that does not answer
        yield Finding("skip", "topics and permissions", "not every broker can be asked")
        return
    patience = settings.connect_timeout
    for use in topics_of_consume(settings) if path is None else topics_of_produce(settings):
        yield _try(use.what, functools.partial(_topic, admin, use), patience)
    if path is None:
        yield _try("symbols", functools.partial(_symbols, admin, settings))
        if settings.orders_topic is not None:
            names = settings.topic, settings.orders_topic
            yield _try("orders beside market data", functools.partial(_alike, admin, *names), patience)
        yield _try(f"group {settings.group}", lambda: _group(admin, settings.group), patience)
        yield _try(f"transactional ids {settings.group}-*", lambda: _transactions(admin, settings), patience)


def _try(what: str, check: Callable[[], str], patience: float = 0) -> Finding:
    try:
        return Finding("ok", what, _patiently(check, patience))
    except Skipped as reason:
        return Finding("skip", what, str(reason))
    except Doubtful as doubt:
        return Finding("warn", what, str(doubt))
    except kafka_errors.KafkaError as error:
        return Finding("FAIL", what, f"{type(error).__name__}: {error}", error)
    except (SorError, OSError) as error:
        return Finding("FAIL", what, str(error), error)


def _patiently(check: Callable[[], str], seconds: float) -> str:
    """Ask again where the brokers are not ready yet, as a new cluster's are before its first group."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except (kafka_errors.KafkaError, StreamError) as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        time.sleep(ASK_AGAIN_S)


# --- on this machine -------------------------------------------------------------------------------------------------


def _settings(settings: CheckSettings) -> str:
    rules.refuse(settings.as_of(ConsumeSettings if settings.csv_file is None else ProduceSettings))
    return "flags and environment are read"


def _feed(path: str, venues: str | None = None, instruments: str | None = None) -> str:
    if path == "-":
        raise Skipped("standard input is not read")
    directory = VenueDirectory.load(venues)
    source = open_feed(path, Instruments.load(instruments), directory)
    try:
        decoder = source.decoder(depth=1, directory=directory)
        symbol = _first_symbol(decoder, source)
        if symbol is None:
            raise InputError(f"{path} has no row")
    except DataError as error:
        raise InputError(f"{path}, first row: {error}") from None
    finally:
        source.close()
    return f"{path} can be read; its first row is of {symbol}"


def _first_symbol(decoder: Decoder, source: FileSource) -> str | None:
    for message in source:
        if message.value:
            with contextlib.suppress(LeftOut):
                return decoder.decode(message.whole()).symbol
    return None


def _venues(settings: RoutingSettings) -> str:
    directory = directory_of(settings)
    excluded = directory.check_ids(settings.exclude_venues)
    origin = "the built-in directory" if settings.venues is None else f"{settings.venues} over the built-in directory"
    ruled = [entry.venue_id for entry in directory if entry.rules]
    told = f"{len(list(directory))} from {origin}" + (f", {len(excluded)} excluded" if excluded else "")
    return told + (f", with rules of {', '.join(ruled)}" if ruled else "")


def _protection(settings: RoutingSettings, now: int) -> str:
    """That what is asked for is in force."""
    answer = directory_of(settings).policy.protected(now)
    doubt = "" if answer.sure else "; not known for sure"
    if not answer.value:
        raise Doubtful(f"by the policy no quotation is protected on {day_of(now)} ({answer.source}{doubt})")
    return f"better protected quotations come first, as the policy says for {day_of(now)}{doubt}"


def _fees(settings: RoutingSettings, now: int) -> str:
    """That no figure for US stocks, which holds from $1 up, is above what an exchange may charge on this day."""
    directory = directory_of(settings)
    cap = directory.policy.access_caps(now)
    allowed = f"${cap.value.dollars:g} a share, below $1 {100 * cap.value.part:g} % of the price"
    if not cap.sure:
        allowed += "; not known for sure"
    found = [above for entry in directory if (above := _above(entry, entry.figure_at(now), cap.value))]
    if found:
        told = f"above the cap of {day_of(now)} ({allowed}: {cap.source})"
        raise Doubtful(f"the taker fee of {', '.join(found)} is {told}")
    return f"no taker fee is above the cap ({allowed})"


def _above(entry: VenueEntry, figure: Figure, cap: AccessCap) -> str:
    if figure.from_price != DOLLARS_FROM:
        return ""
    fee, below = round(figure.taker_fee + figure.fee_bps * DOLLARS_FROM / 1e4, 12), figure.sub_dollar
    found = [f"${fee:g}"] if fee > cap.dollars else []
    if below is not None and below.taker_fee > cap.part:
        found.append(f"{100 * below.taker_fee:g} % of a price below $1")
    return f"{entry.venue_id} ({' and '.join(found)})" if found else ""


def _instruments(settings: RoutingSettings) -> str:
    return f"{len(Instruments.load(settings.instruments))} from {settings.instruments}"


# --- on the brokers --------------------------------------------------------------------------------------------------


def _brokers(admin: Any, timeout: float) -> str:
    """That each address which the brokers give out takes connections: a client has to reach all of them."""
    addresses, speaking = private.brokers_of(admin)
    for host, port in addresses:
        try:
            socket.create_connection((host, port), timeout=min(max(timeout, 1.0), LONGEST_WAIT_S)).close()
        except OSError as error:
            raise ConnectError(
                f"the cluster says that it can be reached at {host}:{port}, which this host cannot ({error}): "
                "is that broker running, and are its advertised.listeners right?"
            ) from None
    version = ".".join(map(str, speaking))
    listed = ", ".join(f"{host}:{port}" for host, port in addresses)
    return f"{len(addresses)} at {listed}, speaking the protocol of Kafka {version}"


def _topic(admin: Any, use: Use) -> str:
    if use.name is None:
        raise Skipped(f"no {use.option}")
    (topic,) = admin.describe_topics([use.name])
    if topic["error_code"]:
        error = kafka_errors.for_code(topic["error_code"])
        if error is kafka_errors.UnknownTopicOrPartitionError and use.like is not None:
            raise Skipped(
                f"topic {use.name} does not exist yet: it is made at the first start, where that is permitted"
            )
        if error is kafka_errors.UnknownTopicOrPartitionError:
            raise StreamError(f"topic {use.name} does not exist, or may not be seen")
        raise StreamError(f"topic {use.name}: {error.__name__}", retriable=error.retriable)
    partitions = topic["partitions"]
    needed = _partitions(admin, use.like) if use.like is not None else 0
    if len(partitions) < needed:
        raise StreamError(f"topic {use.name} has {len(partitions)} partitions: it needs the {needed} of {use.like}")
    without = [part["partition_index"] for part in partitions if part["leader_id"] < 0]
    if without:
        story = f"topic {use.name}: no broker leads partition {', '.join(map(str, without))}"
        raise StreamError(story, retriable=True)
    rights = _rights(f"topic {use.name}", topic["authorized_operations"], use.rights)
    copies = min(len(part["replica_nodes"]) for part in partitions)
    behind = sum(len(part["isr_nodes"]) < len(part["replica_nodes"]) for part in partitions)
    late = f", replicas of {behind} out of sync" if behind else ""
    return f"topic {use.name}, {len(partitions)} partitions, replication {copies}{late}, {rights}"


def _partitions(admin: Any, topic: str) -> int:
    (about,) = admin.describe_topics([topic])
    return len(about["partitions"])


def _alike(admin: Any, market: str, orders: str) -> str:
    here, there = _partitions(admin, market), _partitions(admin, orders)
    if not here or not there:
        raise Skipped("one of them is not there")
    if here != there:
        raise StreamError(f"topic {orders} has {there} partitions and {market} has {here}")
    return f"{here} partitions each"


def _symbols(admin: Any, settings: ConsumeSettings) -> str:
    """That no symbol is in two partitions, as far as the newest messages of each tell: no book of it would be whole."""
    topic, patience = settings.topic, Deadline(LONGEST_LOOK_S)
    decoder = JsonDecoder(depth=1, instruments=Instruments.load(settings.instruments))
    partitions = range(_partitions(admin, topic))
    if len(partitions) < 2:
        raise Skipped(f"topic {topic} has not more than one partition")
    try:
        with contextlib.closing(kafka.PartitionLog(settings.connection, "market data")) as log:
            ends = {partition: log.bounds(topic, partition) for partition in partitions}
            log.assign(topic, {partition: max(first, end - TAIL) for partition, (first, end) in ends.items()})
            homes: defaultdict[str, set[int]] = defaultdict(set)
            while not patience.passed and any(log.position(part) < end for part, (_, end) in ends.items()):
                for record in log.poll(TAIL, settings.connection.timing.poll)[0]:
                    if (symbol := _symbol_of(decoder, record.value)) is not None:
                        homes[symbol].add(record.partition)
    except ClientError as error:  # whether it may be read is told above
        raise Skipped(f"{topic} cannot be read: {error}") from None
    if not homes:
        raise Skipped(f"no market data in {topic} yet")
    scattered = sorted(symbol for symbol, where in homes.items() if len(where) > 1)
    if scattered:
        where = ", ".join(map(str, sorted(homes[scattered[0]])))
        raise StreamError(
            f"{len(scattered)} of {len(homes)} are in more than one partition, such as {scattered[0]} in {where}: no "
            "book of theirs is whole (messages need the symbol as their key, and one partitioner)"
        )
    return f"{len(homes)} among the newest messages, each in one partition"


def _symbol_of(decoder: JsonDecoder, raw: bytes | None) -> str | None:
    try:
        return decoder.decode(raw or b"").symbol
    except DataError:
        return None


def _group(admin: Any, group: str) -> str:
    about = admin.describe_groups([group])[group]
    if about["error"] is not None and "GroupIdNotFound" not in about["error"]:
        number = re.match(r"\[Error (\d+)\]", about["error"])  # the client gives errors of a group as text
        again = number is not None and kafka_errors.for_code(int(number[1])).retriable
        raise StreamError(about["error"], retriable=again)
    if about["error"] is not None or about["group_state"] == "Dead":
        raise Skipped("does not exist yet, so whether it may be read cannot be told")
    rights = _rights("group", about["authorized_operations"], ("READ",))
    return f"{about['group_state']}, {len(about['members'])} members, {rights}"


def _rights(what: str, allowed: list[str] | None, needed: tuple[str, ...]) -> str:
    wanted = " and ".join(needed)
    if allowed is None:  # brokers before 2.3
        return f"the brokers do not say whether it may be used ({wanted})"
    if missing := [right for right in needed if right not in allowed]:
        raise StreamError(f"{what}: permission missing: {', '.join(missing)}")
    return f"permitted: {wanted}"


def _transactions(admin: Any, settings: StreamSettings) -> str:
    """Taking an id would fence its holder, so only a plain refusal can be seen."""
    if settings.results_topic is None:
        raise Skipped("no --results-topic, so none is used")
    with contextlib.suppress(kafka_errors.TransactionalIdNotFoundError):
        admin.describe_transactions([f"{settings.group}-check"])
    raise Skipped("not refused; whether they may be written cannot be told without taking one from its holder")
