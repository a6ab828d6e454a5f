"""Settings: one table of options, one frozen object. The only reader of environment variables but `sor.kernels`.

A flag wins over its environment variable, which wins over the default; an empty variable counts as not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from sor.errors import InputError
from sor.kafka import security
from sor.kafka.security import MECHANISMS, PROTOCOLS, Connection, Secret
from sor.types import ALGORITHMS, MAX_ORDER, OBJECTIVES, SIDES, CostParameters

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


class Settings(msgspec.Struct, frozen=True):
    """Everything that a command can be told; units are in the options' help."""

    order_size: int
    side: Any
    limit_price: float | None
    algorithm: Any
    objective: Any
    lambda_over: float
    lambda_under: float
    theta_queue: float
    step: int
    horizon: int
    windows: int
    min_windows: int
    max_quote_age: float | None
    venues: str | None
    exclude_venues: tuple[str, ...]
    venues_from: str | None
    symbol: str | None
    csv_file: str
    output: str | None
    pretty: bool
    summary: str | None
    allow_bad: bool
    dead_letter_file: str | None
    dead_letter_topic: str | None
    kafka_servers: str
    topic: str
    group: str
    start: str
    results_topic: str | None
    orders_topic: str | None
    order_wait: float
    order_memory: float
    quantity: int | None
    order_id: str | None
    answer_timeout: float
    delivery: str | None
    instance_id: str | None
    workers: int
    client: str
    bootstrap_messages: int
    conflate: bool
    max_age: float | None
    commit_timeout: float
    connect_timeout: float
    max_messages: int | None
    idle_timeout: float | None
    heartbeat_file: str | None
    metrics_port: int | None
    metrics_host: str
    snapshot_file: str | None
    speed: float
    loop: bool
    resume: bool
    seed: int
    training_samples: int
    folder: str | None
    log_level: str
    log_format: str
    security_protocol: str
    sasl_mechanism: str | None
    sasl_username: str | None
    sasl_password: Secret | None
    sasl_password_file: str | None
    ssl_ca_file: str | None
    ssl_cert_file: str | None
    ssl_key_file: str | None
    ssl_key_password_file: str | None
    ssl_key_password: Secret | None
    worker: int | None = None  # number of this process among ``workers``

    @property
    def parameters(self) -> CostParameters:
        return CostParameters(self.lambda_over, self.lambda_under, self.theta_queue, self.step)

    @property
    def exactly_once(self) -> bool:
        return self.results_topic is not None and self.delivery != "at-least-once"

    @property
    def memory_topic(self) -> str | None:
        """Topic of the last quotes, or of the answers to orders; None where nothing is kept over a restart."""
        kept = "books" if self.orders_topic is None else "orders"
        return f"{self.group}-{kept}" if self.exactly_once else None

    @property
    def connection(self) -> Connection:
        return Connection(
            self.kafka_servers,
            self.connect_timeout,
            self.security_protocol,
            self.sasl_mechanism,
            self.sasl_username,
            self.sasl_password,
            self.ssl_ca_file,
            self.ssl_cert_file,
            self.ssl_key_file,
            self.ssl_key_password,
        )


# --- from text to values ---------------------------------------------------------------------------------------------


def text(value: str) -> str:
    return value


def file_path(value: str) -> str:
    if value == "-":
        raise ValueError("a file's path (standard output is for the results)")
    return value


def names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def flag(value: str) -> bool:
    """true/false, 1/0, yes/no, on/off."""
    lowered = value.strip().lower()
    if lowered in ("true", "1", "yes", "on"):
        return True
    if lowered in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false (or 1/0, yes/no, on/off)")


def whole(low: int, high: int = MAX_ORDER) -> Callable[[str], int]:
    def parse(value: str) -> int:
        digits = value.strip().replace(",", "")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 17 and low <= int(digits) <= high):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(digits)

    return parse


def number(low: float, what: str) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            parsed = float(value)
        except ValueError:
            parsed = float("nan")
        if not low <= parsed <= 1e12 or "_" in value:
            raise ValueError(what)
        return parsed

    return parse


def choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.strip().lower() not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value.strip().lower()

    return parse


def topic_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in (".", ".."):
        raise ValueError("a topic's name: 1 to 249 letters, digits, dots, underscores or hyphens")
    return value


def instance(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", value):
        raise ValueError("a name: 1 to 200 letters, digits, dots, underscores or hyphens")
    return value


def servers(value: str) -> str:
    addresses = names(value)
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("host:port, or several of them with commas between")
    if not addresses:
        raise ValueError("host:port, or several of them with commas between")
    return ",".join(addresses)


_penalty = number(-1e12, "a finite number, in dollars per share")
_seconds = number(0, "a number of seconds, 0 or more")


# --- the table -------------------------------------------------------------------------------------------------------


class Option(NamedTuple):
    """One setting: its field, environment variable, default, parser, help and the commands that take it."""

    field: str
    variable: str
    default: Any
    parse: Callable[[str], Any]
    help: str
    commands: tuple[str, ...]
    flag: str | None = ""  # where it is not the field's name; None: only a variable, as every user sees the flags

    @property
    def name(self) -> str:
        if self.flag is None:
            return self.variable
        return self.flag or "--" + self.field.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        return self.parse is flag


_ROUTE = ("replay", "consume")
_ORDER = (*_ROUTE, "order")
_STREAM = ("produce", "consume")
_KAFKA = (*_STREAM, "order")
_ALL = ("replay", "produce", "consume", "order", "demo")
# An order says no more than it has to: what it leaves out is for the consumer to say, or has to be said.
_LEFT_OPEN = ("side", "algorithm", "objective")

OPTIONS = (
    Option("order_size", "ORDER_SIZE", 5000, whole(1), "shares to route on every message", _ROUTE),
    Option("side", "SOR_SIDE", "buy", choice(*SIDES), "buy or sell", _ORDER),
    Option(
        "limit_price",
        "SOR_LIMIT_PRICE",
        None,
        number(5e-324, "a price above 0"),
        "dollars per share, inclusive, without fees: worse quotes are left alone",
        _ORDER,
    ),
    Option(
        "algorithm",
        "SOR_ALGORITHM",
        "brute_force",
        choice(*ALGORITHMS),
        "brute_force (exact, best quotes), greedy_l2 (all displayed levels) or cont_kukanov (market and limit orders)",
        _ORDER,
    ),
    Option("greedy_l2", "GREEDY_L2", False, flag, "the same as --algorithm greedy_l2", _ROUTE),
    Option(
        "objective",
        "SOR_OBJECTIVE",
        "sweep",
        choice(*OBJECTIVES),
        "sweep (displayed shares at least cost), shortfall (against the mid) or notional (the formula as it stands)",
        _ORDER,
    ),
    Option("lambda_over", "LAMBDA_OVER", 0.01, _penalty, "penalty for overfill, dollars per share", _ROUTE),
    Option("lambda_under", "LAMBDA_UNDER", 0.005, _penalty, "penalty for underfill, dollars per share", _ROUTE),
    Option("theta_queue", "THETA_QUEUE", 0.002, _penalty, "penalty for either, dollars per share", _ROUTE),
    Option("step", "STEP", 100, whole(1), "grid of the split, shares (no part in sweep)", _ROUTE),
    Option(
        "horizon",
        "SOR_HORIZON",
        60,
        whole(1, 7200),
        "cont_kukanov: seconds in which limit orders may fill, and over which outflows are counted",
        _ROUTE,
    ),
    Option("windows", "SOR_WINDOWS", 500, whole(1, 100_000), "cont_kukanov: windows of outflows kept", _ROUTE),
    Option(
        "min_windows",
        "SOR_MIN_WINDOWS",
        60,
        whole(1, 100_000),
        "cont_kukanov: windows below which the order is for what is displayed",
        _ROUTE,
    ),
    Option(
        "max_quote_age",
        "SOR_MAX_QUOTE_AGE",
        None,
        _seconds,
        "seconds of event time after which a venue's quote is stale; off unless given",
        _ROUTE,
    ),
    Option("venues", "SOR_VENUES", None, text, "venue file (TOML), laid over the built-in directory", _ROUTE),
    Option("exclude_venues", "SOR_EXCLUDE_VENUES", (), names, "venue ids that get nothing, comma-separated", _ROUTE),
    Option(
        "venues_from",
        "SOR_VENUES_FROM",
        None,
        choice("publishers", "levels"),
        "what a venue is: each publisher of the feed, or each level of a single feed (venue_0, venue_1, ...); "
        "publishers unless a file turns out to have only one",
        _ROUTE,
    ),
    Option("symbol", "SOR_SYMBOL", None, text, "route this symbol only and skip the others", _ORDER),
    Option("csv_file", "CSV_FILE", "sample.csv", text, "file to read when none is named", ("replay", "produce")),
    Option("output", "SOR_OUTPUT", None, text, "file for the results; - is standard output", _ROUTE),
    Option("pretty", "SOR_PRETTY", False, flag, "indent the results", ("replay", "order")),
    Option("summary", "SOR_SUMMARY", None, file_path, "file for the summary, as JSON", _ROUTE),
    Option(
        "allow_bad", "SOR_ALLOW_BAD", False, flag, "exit with 0 although there were bad messages", (*_ROUTE, "produce")
    ),
    Option(
        "dead_letter_file", "SOR_DEAD_LETTER_FILE", None, file_path, "file for messages that cannot be used", _ROUTE
    ),
    Option(
        "dead_letter_topic",
        "SOR_DEAD_LETTER_TOPIC",
        None,
        topic_name,
        "topic for messages that cannot be used",
        ("consume",),
    ),
    Option("kafka_servers", "KAFKA_SERVERS", "localhost:9092", servers, "brokers, host:port, comma-separated", _KAFKA),
    Option("topic", "TOPIC_NAME", "market_data", topic_name, "topic of the market data", _STREAM),
    Option("group", "SOR_GROUP", "sor", text, "consumer group; two groups each get the whole stream", ("consume",)),
    Option(
        "start",
        "SOR_FROM",
        "earliest",
        choice("earliest", "latest"),
        "where a group that has committed nothing starts: earliest or latest",
        ("consume",),
        "--from",
    ),
    Option(
        "results_topic",
        "SOR_RESULTS_TOPIC",
        None,
        topic_name,
        "topic for the results; without it they go to standard output",
        ("consume", "order"),
    ),
    Option(
        "orders_topic",
        "SOR_ORDERS_TOPIC",
        None,
        topic_name,
        "topic of orders, keyed by symbol: these are routed, and market data only makes their books",
        ("consume", "order"),
    ),
    Option(
        "order_wait",
        "SOR_ORDER_WAIT",
        5.0,
        number(0.01, "a number of seconds, 0.01 or more"),
        "seconds that an order waits at most for the market data that was there before it",
        ("consume",),
    ),
    Option(
        "order_memory",
        "SOR_ORDER_MEMORY",
        86_400.0,
        number(1, "a number of seconds, 1 or more"),
        "seconds for which an order's id is known and gets its first answer again",
        ("consume",),
    ),
    Option("quantity", "SOR_QUANTITY", None, whole(1), "shares of the order", ("order",)),
    Option("order_id", "SOR_ORDER_ID", None, text, "id of the order; a new one unless given", ("order",), "--id"),
    Option(
        "answer_timeout",
        "SOR_ANSWER_TIMEOUT",
        30.0,
        _seconds,
        "seconds to wait for the answer",
        ("order",),
        "--timeout",
    ),
    Option(
        "delivery",
        "SOR_DELIVERY",
        None,
        choice("exactly-once", "at-least-once"),
        "exactly-once (to topics; the default where there is a results topic) or at-least-once",
        ("consume",),
    ),
    Option(
        "instance_id",
        "SOR_INSTANCE_ID",
        None,
        instance,
        "name of this member that stays the same over restarts: its partitions wait for it, and a second process "
        "with the name takes over from the first",
        ("consume",),
    ),
    Option(
        "client",
        "SOR_CLIENT",
        "kafka-python",
        choice("kafka-python", "confluent"),
        "kafka-python, or confluent for more messages a second (confluent-kafka, pip install 'sor[confluent]')",
        ("consume",),
    ),
    Option("workers", "SOR_WORKERS", 1, whole(1, 256), "processes that share the partitions", ("consume",)),
    Option(
        "bootstrap_messages",
        "SOR_BOOTSTRAP_MESSAGES",
        10_000,
        whole(0),
        "messages before the first one to answer that fill the books, where no topic of last quotes can",
        ("consume",),
    ),
    Option(
        "conflate",
        "SOR_CONFLATE",
        False,
        flag,
        "route only the newest book of each symbol in a batch, to keep up",
        ("consume",),
    ),
    Option(
        "max_age",
        "SOR_MAX_AGE",
        None,
        _seconds,
        "seconds since a message was written, beyond which nothing is routed on it; off unless given",
        ("consume",),
    ),
    Option(
        "commit_timeout",
        "SOR_COMMIT_TIMEOUT",
        20.0,
        number(1, "a number of seconds, 1 or more"),
        "seconds for a transaction's end, after which the process ends itself (status 6)",
        ("consume",),
    ),
    Option(
        "connect_timeout",
        "SOR_CONNECT_TIMEOUT",
        30.0,
        _seconds,
        "seconds to wait for a broker's first answer",
        _KAFKA,
    ),
    Option(
        "max_messages",
        "SOR_MAX_MESSAGES",
        None,
        whole(1),
        "end after so many messages",
        (*_STREAM, "replay"),
    ),
    Option("idle_timeout", "SOR_IDLE_TIMEOUT", None, _seconds, "end after so many seconds without one", ("consume",)),
    Option(
        "heartbeat_file",
        "SOR_HEARTBEAT_FILE",
        None,
        text,
        "file touched every second while the loop turns, for a container's health check",
        ("consume",),
    ),
    Option(
        "metrics_port",
        "SOR_METRICS_PORT",
        None,
        whole(1, 65535),
        "port of /metrics (Prometheus), /healthz and /readyz; off unless given",
        ("consume",),
    ),
    Option(
        "metrics_host",
        "SOR_METRICS_HOST",
        "0.0.0.0",  # noqa: S104 - a scraper and a kubelet come from outside of the container
        text,
        "address at which they are served: every one of this machine, or 127.0.0.1 to keep them in",
        ("consume",),
    ),
    Option(
        "snapshot_file",
        "SOR_SNAPSHOT_FILE",
        None,
        file_path,
        "file for a worker's counts, instead of a port; its supervisor sets it",
        ("consume",),
    ),
    Option(
        "security_protocol",
        "SOR_SECURITY_PROTOCOL",
        "plaintext",
        choice(*PROTOCOLS),
        "how to talk to the brokers: plaintext, ssl (encrypted), sasl_plaintext (with a login) or sasl_ssl (both)",
        _KAFKA,
    ),
    Option(
        "sasl_mechanism",
        "SOR_SASL_MECHANISM",
        None,
        choice(*MECHANISMS),
        "how to log in: plain, scram-sha-256 or scram-sha-512",
        _KAFKA,
    ),
    Option("sasl_username", "SOR_SASL_USERNAME", None, text, "name to log in with", _KAFKA),
    Option(
        "sasl_password",
        "SOR_SASL_PASSWORD",
        None,
        Secret,
        "password to log in with; no flag, as other users see the flags of a process",
        _KAFKA,
        None,
    ),
    Option("sasl_password_file", "SOR_SASL_PASSWORD_FILE", None, text, "file that holds the password", _KAFKA),
    Option(
        "ssl_ca_file",
        "SOR_SSL_CA_FILE",
        None,
        text,
        "certificates of the authorities to trust (PEM); without it those of the system",
        _KAFKA,
    ),
    Option("ssl_cert_file", "SOR_SSL_CERT_FILE", None, text, "our own certificate, where brokers demand one", _KAFKA),
    Option("ssl_key_file", "SOR_SSL_KEY_FILE", None, text, "private key of our own certificate", _KAFKA),
    Option(
        "ssl_key_password_file",
        "SOR_SSL_KEY_PASSWORD_FILE",
        None,
        text,
        "file that holds the password of the private key, where it has one",
        _KAFKA,
    ),
    Option(
        "speed",
        "SOR_SPEED",
        0.0,
        number(0, "a number, 0 or more"),
        "pace: 1 as recorded, 10 ten times as fast, 0 as fast as can be",
        ("produce",),
    ),
    Option("loop", "SOR_LOOP", False, flag, "start the file again at its end, until stopped", ("produce",)),
    Option("resume", "SOR_RESUME", False, flag, "go on after the rows that the topic has already", ("produce",)),
    Option("seed", "SOR_SEED", 1, whole(0), "seed of the samples: the same gives the same output", ("paper",)),
    Option(
        "training_samples",
        "SOR_TRAINING_SAMPLES",
        10_000,
        whole(1_000, 1_000_000),
        "samples that placements are found on; they are judged on others",
        ("paper",),
    ),
    Option(
        "folder",
        "SOR_FOLDER",
        None,
        file_path,
        "folder for the studies of the model: data as CSV, plots as SVG (matplotlib, pip install 'sor[paper]')",
        ("paper",),
    ),
    Option("log_level", "SOR_LOG_LEVEL", "info", choice(*LOG_LEVELS), "debug, info, warning or error", _ALL),
    Option(
        "log_format",
        "SOR_LOG_FORMAT",
        "text",
        choice(*LOG_FORMATS),
        "text for people, or json: one object a line, also for a summary and an error",
        _ALL,
    ),
)
_NAMES = {
    option.field: option.variable if option.flag is None else f"{option.name} ({option.variable})" for option in OPTIONS
}


def options_of(command: str) -> list[Option]:
    """Those that a command takes; ``check`` takes those of the commands that it is for, and a file only by name."""
    if command == "check":
        return [option for option in OPTIONS if set(_STREAM) & set(option.commands) and option.field != "csv_file"]
    found = [option for option in OPTIONS if command in option.commands]
    if command == "order":
        return [option._replace(default=None) if option.field in _LEFT_OPEN else option for option in found]
    return found


# --- loading ---------------------------------------------------------------------------------------------------------


def load(command: str, flags: Mapping[str, str], environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of a command.

    Parameters
    ----------
    command : str
    flags : mapping of field to text
        What stood on the command line.
    environment : mapping, optional
        Default: the process's own.

    Raises
    ------
    InputError
        Naming the flag or variable, its value and what it may be.
    """
    environment = os.environ if environment is None else environment
    values = {option.field: option.default for option in OPTIONS}
    given: dict[str, str] = {}
    for option in options_of(command):
        values[option.field] = option.default
        where, value = _given(option, flags, environment)
        if value is not None:
            values[option.field] = _parsed(option, where, value)
            given[option.field] = where
    _merge_greedy(values, given)
    _refuse_one_file_twice(values)
    if values["resume"] and values["loop"]:
        raise InputError(
            "--resume and --loop: the rows of one round are numbered as those of the next; give one of them"
        )
    security.complete(values, given, _NAMES)
    return Settings(**values)


def log_format(command: str, flags: Mapping[str, str], environment: Mapping[str, str] | None = None) -> str:
    """The form that errors are to have, also those in the other settings; a wrong one counts as not set."""
    environment = os.environ if environment is None else environment
    for option in options_of(command):
        if option.field == "log_format":
            value = (_given(option, flags, environment)[1] or "").strip().lower()
            return value if value in LOG_FORMATS else str(option.default)
    return "text"


def _given(option: Option, flags: Mapping[str, str], environment: Mapping[str, str]) -> tuple[str, str | None]:
    """The flag or variable that an option was given by, and its text; None where it was not."""
    if option.field in flags:
        return option.name, flags[option.field]
    return option.variable, environment.get(option.variable) or None


def _parsed(option: Option, where: str, value: str) -> Any:
    if value == "":
        raise InputError(f"{where} is empty: it must have a value")
    try:
        return option.parse(value)
    except ValueError as error:
        raise InputError(f"{where} is {value!r}: it must be {error}") from None


def _merge_greedy(values: dict[str, Any], given: Mapping[str, str]) -> None:
    """``--greedy-l2`` is ``--algorithm greedy_l2``; a flag wins over a variable, both and different is an error."""
    if "greedy_l2" in given:
        other = given.get("algorithm")
        wanted = "greedy_l2" if values["greedy_l2"] else "brute_force"
        same_rank = other is not None and other.startswith("--") == given["greedy_l2"].startswith("--")
        if same_rank and values["algorithm"] != wanted:
            raise InputError(
                f"{given['greedy_l2']} is {str(values['greedy_l2']).lower()} but {other} is {values['algorithm']}: "
                "give one of them, or both alike"
            )
        if other is None or given["greedy_l2"].startswith("--"):
            values["algorithm"] = wanted
    del values["greedy_l2"]


def check_delivery(settings: Settings) -> None:
    """What `consume` asks beyond single settings.

    Raises
    ------
    InputError
    """
    if settings.results_topic is None and settings.delivery == "exactly-once":
        raise InputError("--delivery is 'exactly-once': it needs --results-topic, as files know no transactions")
    _check_orders(settings)
    if settings.workers == 1:
        return
    if settings.results_topic is None:
        raise InputError(f"--workers is {settings.workers}: more than 1 need --results-topic to write to")
    for field in ("output", "summary", "dead_letter_file"):
        if getattr(settings, field) is not None:
            name = "--" + field.replace("_", "-")
            raise InputError(f"{name} is {getattr(settings, field)!r}: {settings.workers} workers cannot share it")


def _check_orders(settings: Settings) -> None:
    topic = settings.orders_topic
    if topic is None:
        return
    kept = f"{settings.group}-orders"
    for what, other in (
        ("--topic", settings.topic),
        ("--results-topic", settings.results_topic),
        ("--dead-letter-topic", settings.dead_letter_topic),
        ("where the group keeps which orders it knows", kept),
    ):
        if topic == other:
            raise InputError(f"--orders-topic is {topic!r}: that is {what}, and orders need a topic of their own")
    if settings.results_topic == kept:
        raise InputError(f"--results-topic is {kept!r}: that is where the group keeps which orders it knows")
    if settings.conflate:
        raise InputError("--conflate and --orders-topic: no order is left out; give one of them")


def _refuse_one_file_twice(values: Mapping[str, Any]) -> None:
    taken: dict[str, str] = {}
    for field in ("output", "summary", "dead_letter_file"):
        path = values[field]
        if path in (None, "-"):
            continue
        other = taken.setdefault(os.path.realpath(path), field)
        if other != field:
            raise InputError(f"{field} is {path!r}: that is the file for {other}")
