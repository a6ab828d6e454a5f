"""Settings: groups by concern, and what each command takes of them. With `sor.kernels` the reader of the environment.

A command's settings are all of its groups in one frozen object; a function asks for the group that it needs.
"""

import os
import shlex
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from sor.errors import InputError
from sor.kafka import security
from sor.kafka.security import MECHANISMS, PROTOCOLS, Connection, Secret
from sor.service import options
from sor.service.options import (
    POSITIONAL,
    Option,
    Settings,
    choice,
    file_path,
    instance,
    moment,
    names,
    number,
    paths,
    servers,
    switch,
    text,
    topic_name,
    whole,
)
from sor.types import (
    ALGORITHMS,
    MAX_ORDER,
    OBJECTIVES,
    PROTECTS,
    SIDES,
    Algorithm,
    CostParameters,
    Objective,
    Protect,
    Side,
)

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

_penalty = number(-1e12, "a finite number, in dollars per share")
_part = number(0, "a number from 0 to 0.9")
_seconds = number(0, "a number of seconds, 0 or more")

# Options that stand in more than one group.
_SIDE = Option("SOR_SIDE", choice(*SIDES), "buy or sell")
_LIMIT_PRICE = Option(
    "SOR_LIMIT_PRICE",
    number(5e-324, "a price above 0"),
    "dollars per share, inclusive, without fees: worse quotes are left alone",
)
_ALGORITHM = Option(
    "SOR_ALGORITHM",
    choice(*ALGORITHMS),
    "brute_force (exact, best quotes), greedy_l2 (all displayed levels) or cont_kukanov (market and limit orders)",
)
_OBJECTIVE = Option(
    "SOR_OBJECTIVE",
    choice(*OBJECTIVES),
    "sweep (displayed shares at least cost), shortfall (against the mid) or notional (the formula as it stands)",
)
_VENUES = Option("SOR_VENUES", text, "venue file (TOML), laid over the built-in directory", file="read")
_POLICY = Option(
    "SOR_POLICY",
    text,
    "policy file (TOML), laid over the built-in rules of the market by date: round lots, fee cap, ticks, protection",
    file="read",
)
_INSTRUMENTS = Option(
    "SOR_INSTRUMENTS",
    text,
    "instruments file (TOML): smallest quantity, tick, round lot and currency of symbols; others trade in shares",
    file="read",
)
_MAX_QUOTE_AGE = Option(
    "SOR_MAX_QUOTE_AGE", _seconds, "seconds of event time after which a venue's quote is stale; off unless given"
)
_SYMBOL = Option("SOR_SYMBOL", text, "route this symbol only and skip the others")
_ALLOW_BAD = Option("SOR_ALLOW_BAD", switch, "exit with 0 although there were bad messages")
_SEED = Option("SOR_SEED", whole(0), "seed of what is drawn: the same gives the same output")
_JOBS = Option("SOR_JOBS", whole(1, 1024), "processes; results are the same for any number")
_DASK = Option(
    "SOR_DASK", text, "address of a Dask scheduler whose workers do it, such as tcp://10.0.0.1:8786; in place of --jobs"
)
_KEEP = Option(
    "SOR_KEEP", text, "folder for work that is done: a run that is started again does only what is missing there"
)
_PRETTY = Option("SOR_PRETTY", switch, "indent the results")
_TOPIC = Option("TOPIC_NAME", topic_name, "topic of the market data")
_ORDERS_TOPIC = Option(
    "SOR_ORDERS_TOPIC",
    topic_name,
    "topic of orders, keyed by symbol: these are routed, and market data only makes their books",
)
_RESULTS_TOPIC = Option("SOR_RESULTS_TOPIC", topic_name, "topic for the results; without it they go to standard output")


class ModelSettings(Settings):
    """What the models of a split go by."""

    lambda_over: Annotated[float, Option("LAMBDA_OVER", _penalty, "penalty for overfill, dollars per share")] = 0.01
    lambda_under: Annotated[float, Option("LAMBDA_UNDER", _penalty, "penalty for underfill, dollars per share")] = 0.005
    theta_queue: Annotated[float, Option("THETA_QUEUE", _penalty, "penalty for either, dollars per share")] = 0.002
    windows: Annotated[int, Option("SOR_WINDOWS", whole(1, 100000), "cont_kukanov: windows of outflows kept")] = 500
    min_windows: Annotated[
        int,
        Option(
            "SOR_MIN_WINDOWS", whole(1, 100000), "cont_kukanov: windows below which the order is for what is displayed"
        ),
    ] = 60


class RoutingSettings(ModelSettings):
    """What is routed on every message, and how."""

    order_size: Annotated[int | Decimal, Option("ORDER_SIZE", options.quantity, "shares to route on every message")] = (
        5000
    )
    side: Annotated[Side, _SIDE] = "buy"
    limit_price: Annotated[float | None, _LIMIT_PRICE] = None
    algorithm: Annotated[Algorithm, _ALGORITHM] = "brute_force"
    greedy_l2: Annotated[bool, Option("GREEDY_L2", switch, "the same as --algorithm greedy_l2")] = False
    objective: Annotated[Objective, _OBJECTIVE] = "sweep"
    step: Annotated[int, Option("STEP", whole(1), "grid of the split, shares (no part in sweep)")] = 100
    protect: Annotated[
        Protect,
        Option(
            "SOR_PROTECT",
            choice(*PROTECTS),
            "nbbo: better protected quotations of exchanges are taken in full before a worse price (Rule 611, as the "
            "policy of the day says); or none",
        ),
    ] = "none"
    horizon: Annotated[
        int,
        Option(
            "SOR_HORIZON",
            whole(1, 7200),
            "cont_kukanov: seconds in which limit orders may fill, and over which outflows are counted",
        ),
    ] = 60
    max_quote_age: Annotated[float | None, _MAX_QUOTE_AGE] = None
    venues: Annotated[str | None, _VENUES] = None
    policy: Annotated[str | None, _POLICY] = None
    instruments: Annotated[str | None, _INSTRUMENTS] = None
    exclude_venues: Annotated[
        tuple[str, ...], Option("SOR_EXCLUDE_VENUES", names, "venue ids that get nothing, comma-separated")
    ] = ()
    venues_from: Annotated[
        str | None,
        Option(
            "SOR_VENUES_FROM",
            choice("publishers", "levels"),
            "what a venue is: each publisher of the feed, or each level of a single feed (venue_0, venue_1, ...); "
            "publishers unless a file turns out to have only one",
        ),
    ] = None
    symbol: Annotated[str | None, _SYMBOL] = None
    max_symbols: Annotated[
        int,
        Option(
            "SOR_MAX_SYMBOLS",
            whole(1),
            "books kept of a file or partition; beyond that those go that have not been heard of for longest",
        ),
    ] = 20000

    @property
    def parameters(self) -> CostParameters:
        return CostParameters(self.lambda_over, self.lambda_under, self.theta_queue, self.step)


class FileSettings(Settings):
    """The recorded feed."""

    csv_file: Annotated[
        str,
        Option("CSV_FILE", text, "CSV or JSON Lines, plain or .gz; - is standard input", flag=POSITIONAL, file="read"),
    ] = "sample.csv"


class FeedSettings(Settings):
    """Recorded files, as one feed."""

    files: Annotated[
        tuple[str, ...],
        Option(
            "",
            paths,
            "files of any format that is read, plain or packed, or addresses of such",
            flag=POSITIONAL,
            file="read",
            many=True,
        ),
    ] = ()
    symbols: Annotated[tuple[str, ...], Option("SOR_SYMBOLS", names, "rows of these alone, comma-separated")] = ()
    start: Annotated[
        int | None,
        Option("SOR_START", moment, "rows from this event time on: ISO 8601, or nanoseconds since the epoch"),
    ] = None
    end: Annotated[int | None, Option("SOR_END", moment, "rows before this event time")] = None
    venues: Annotated[str | None, _VENUES] = None
    instruments: Annotated[str | None, _INSTRUMENTS] = None
    allow_bad: Annotated[bool, _ALLOW_BAD] = False


class OutputSettings(Settings):
    """Files that results, dead letters and counts go to."""

    output: Annotated[
        str | None,
        Option(
            "SOR_OUTPUT",
            text,
            "file for the results; - is standard output; of replay also a name that ends in .parquet, for columns",
            file="written",
        ),
    ] = None
    summary: Annotated[
        str | None, Option("SOR_SUMMARY", file_path, "file for the summary, as JSON", file="written")
    ] = None
    dead_letter_file: Annotated[
        str | None, Option("SOR_DEAD_LETTER_FILE", file_path, "file for messages that cannot be used", file="written")
    ] = None


class EndSettings(Settings):
    """When a run ends, and whether bad messages are a failure."""

    max_messages: Annotated[int | None, Option("SOR_MAX_MESSAGES", whole(1), "end after so many messages")] = None
    allow_bad: Annotated[bool, _ALLOW_BAD] = False


class KafkaSettings(Settings):
    """How to reach the brokers; passwords out of files are filled in on loading."""

    kafka_servers: Annotated[str, Option("KAFKA_SERVERS", servers, "brokers, host:port, comma-separated")] = (
        "localhost:9092"
    )
    connect_timeout: Annotated[
        float, Option("SOR_CONNECT_TIMEOUT", _seconds, "seconds to wait for a broker's first answer")
    ] = 30.0
    security_protocol: Annotated[
        str,
        Option(
            "SOR_SECURITY_PROTOCOL",
            choice(*PROTOCOLS),
            "how to talk to the brokers: plaintext, ssl (encrypted), sasl_plaintext (with a login) or sasl_ssl (both)",
        ),
    ] = "plaintext"
    sasl_mechanism: Annotated[
        str | None,
        Option("SOR_SASL_MECHANISM", choice(*MECHANISMS), "how to log in: plain, scram-sha-256 or scram-sha-512"),
    ] = None
    sasl_username: Annotated[str | None, Option("SOR_SASL_USERNAME", text, "name to log in with")] = None
    sasl_password: Annotated[
        Secret | None,
        Option(
            "SOR_SASL_PASSWORD",
            Secret,
            "password to log in with; no flag, as other users see the flags of a process",
            flag=None,
        ),
    ] = None
    sasl_password_file: Annotated[
        str | None, Option("SOR_SASL_PASSWORD_FILE", text, "file that holds the password", file="read")
    ] = None
    ssl_ca_file: Annotated[
        str | None,
        Option(
            "SOR_SSL_CA_FILE",
            text,
            "certificates of the authorities to trust (PEM); without it those of the system",
            file="read",
        ),
    ] = None
    ssl_cert_file: Annotated[
        str | None, Option("SOR_SSL_CERT_FILE", text, "our own certificate, where brokers demand one", file="read")
    ] = None
    ssl_key_file: Annotated[
        str | None, Option("SOR_SSL_KEY_FILE", text, "private key of our own certificate", file="read")
    ] = None
    ssl_key_password_file: Annotated[
        str | None,
        Option(
            "SOR_SSL_KEY_PASSWORD_FILE",
            text,
            "file that holds the password of the private key, where it has one",
            file="read",
        ),
    ] = None
    ssl_key_password: Secret | None = None  # out of its file

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


class StreamSettings(Settings):
    """A group's stream of messages and results."""

    topic: Annotated[str, _TOPIC] = "market_data"
    group: Annotated[str, Option("SOR_GROUP", text, "consumer group; two groups each get the whole stream")] = "sor"
    start: Annotated[
        str,
        Option(
            "SOR_FROM",
            choice("earliest", "latest"),
            "where a group that has committed nothing starts: earliest or latest",
            flag="--from",
        ),
    ] = "earliest"
    results_topic: Annotated[str | None, _RESULTS_TOPIC] = None
    dead_letter_topic: Annotated[
        str | None, Option("SOR_DEAD_LETTER_TOPIC", topic_name, "topic for messages that cannot be used")
    ] = None
    orders_topic: Annotated[str | None, _ORDERS_TOPIC] = None
    delivery: Annotated[
        str | None,
        Option(
            "SOR_DELIVERY",
            choice("exactly-once", "at-least-once"),
            "exactly-once (to topics; the default where there is a results topic) or at-least-once",
        ),
    ] = None
    instance_id: Annotated[
        str | None,
        Option(
            "SOR_INSTANCE_ID",
            instance,
            "name of this member that stays the same over restarts: its partitions wait for it, and a second process "
            "with the name takes over from the first",
        ),
    ] = None
    client: Annotated[
        str,
        Option(
            "SOR_CLIENT",
            choice("kafka-python", "confluent"),
            "kafka-python, or confluent for more messages a second (confluent-kafka, pip install 'sor[confluent]')",
        ),
    ] = "kafka-python"
    workers: Annotated[int, Option("SOR_WORKERS", whole(1, 256), "processes that share the partitions")] = 1
    bootstrap_messages: Annotated[
        int,
        Option(
            "SOR_BOOTSTRAP_MESSAGES",
            whole(0),
            "messages before the first one to answer that fill the books, where no topic of last quotes can",
        ),
    ] = 10000
    conflate: Annotated[
        bool, Option("SOR_CONFLATE", switch, "route only the newest book of each symbol in a batch, to keep up")
    ] = False
    max_age: Annotated[
        float | None,
        Option(
            "SOR_MAX_AGE",
            _seconds,
            "seconds since a message was written, beyond which nothing is routed on it; off unless given",
        ),
    ] = None
    order_wait: Annotated[
        float,
        Option(
            "SOR_ORDER_WAIT",
            number(0.01, "a number of seconds, 0.01 or more"),
            "seconds that an order waits at most for the market data that was there before it",
        ),
    ] = 5.0
    order_memory: Annotated[
        float,
        Option(
            "SOR_ORDER_MEMORY",
            number(1, "a number of seconds, 1 or more"),
            "seconds for which an order's id is known and gets its first answer again",
        ),
    ] = 86400.0
    commit_timeout: Annotated[
        float,
        Option(
            "SOR_COMMIT_TIMEOUT",
            number(1, "a number of seconds, 1 or more"),
            "seconds for a transaction's end, after which the process ends itself (status 6)",
        ),
    ] = 20.0
    idle_timeout: Annotated[
        float | None, Option("SOR_IDLE_TIMEOUT", _seconds, "end after so many seconds without one")
    ] = None

    @property
    def exactly_once(self) -> bool:
        return self.results_topic is not None and self.delivery != "at-least-once"

    @property
    def memory_topic(self) -> str | None:
        """Topic of the last quotes, or of the answers to orders; None where nothing is kept over a restart."""
        kept = "books" if self.orders_topic is None else "orders"
        return f"{self.group}-{kept}" if self.exactly_once else None


class TelemetrySettings(Settings):
    """Signs of life."""

    heartbeat_file: Annotated[
        str | None,
        Option(
            "SOR_HEARTBEAT_FILE",
            text,
            "file touched every second while the loop turns, for a container's health check",
            file="written",
        ),
    ] = None
    metrics_port: Annotated[
        int | None,
        Option(
            "SOR_METRICS_PORT", whole(1, 65535), "port of /metrics (Prometheus), /healthz and /readyz; off unless given"
        ),
    ] = None
    metrics_host: Annotated[
        str,
        Option(
            "SOR_METRICS_HOST",
            text,
            "address at which they are served: every one of this machine, or 127.0.0.1 to keep them in",
        ),
    ] = "0.0.0.0"  # noqa: S104 - a scraper and a kubelet come from outside of the container
    snapshot_file: Annotated[
        str | None,
        Option(
            "SOR_SNAPSHOT_FILE",
            file_path,
            "file for a worker's counts, instead of a port; its supervisor sets it",
            file="written",
        ),
    ] = None


class SendSettings(Settings):
    """A recorded feed on its way to a topic."""

    venues: Annotated[str | None, _VENUES] = None
    instruments: Annotated[str | None, _INSTRUMENTS] = None
    topic: Annotated[str, _TOPIC] = "market_data"
    speed: Annotated[
        float,
        Option(
            "SOR_SPEED",
            number(0, "a number, 0 or more"),
            "pace: 1 as recorded, 10 ten times as fast, 0 as fast as can be",
        ),
    ] = 0.0
    loop: Annotated[bool, Option("SOR_LOOP", switch, "start the file again at its end, until stopped")] = False
    resume: Annotated[bool, Option("SOR_RESUME", switch, "go on after the rows that the topic has already")] = False


class LogSettings(Settings):
    """Log lines."""

    log_level: Annotated[str, Option("SOR_LOG_LEVEL", choice(*LOG_LEVELS), "debug, info, warning or error")] = "info"
    log_format: Annotated[
        str,
        Option(
            "SOR_LOG_FORMAT",
            choice(*LOG_FORMATS),
            "text for people, or json: one object a line, also for a summary and an error",
        ),
    ] = "text"


class OneOrderSettings(Settings):
    """An order to send; what it leaves out is for the consumer to say, or has to be said."""

    symbol: Annotated[str | None, _SYMBOL] = None
    side: Annotated[Side | None, _SIDE] = None
    quantity: Annotated[int | Decimal | None, Option("SOR_QUANTITY", options.quantity, "shares of the order")] = None
    instruments: Annotated[str | None, _INSTRUMENTS] = None
    limit_price: Annotated[float | None, _LIMIT_PRICE] = None
    algorithm: Annotated[Algorithm | None, _ALGORITHM] = None
    objective: Annotated[Objective | None, _OBJECTIVE] = None
    order_id: Annotated[
        str | None, Option("SOR_ORDER_ID", text, "id of the order; a new one unless given", flag="--id")
    ] = None
    orders_topic: Annotated[str | None, _ORDERS_TOPIC] = None
    results_topic: Annotated[str | None, _RESULTS_TOPIC] = None
    answer_timeout: Annotated[
        float, Option("SOR_ANSWER_TIMEOUT", _seconds, "seconds to wait for the answer", flag="--timeout")
    ] = 30.0
    pretty: Annotated[bool, _PRETTY] = False


class PaperSettings(Settings):
    """The paper's tables and studies."""

    seed: Annotated[int, _SEED] = 1
    training_samples: Annotated[
        int,
        Option(
            "SOR_TRAINING_SAMPLES",
            whole(1000, 1000000),
            "samples that placements are found on; they are judged on others",
        ),
    ] = 10000
    folder: Annotated[
        str | None,
        Option(
            "SOR_FOLDER",
            file_path,
            "folder for the studies of the model: data as CSV, plots as SVG (matplotlib, pip install 'sor[paper]')",
        ),
    ] = None


# --- what a command takes --------------------------------------------------------------------------------------------


class ReplaySettings(RoutingSettings, FileSettings, OutputSettings, EndSettings, LogSettings):
    pretty: Annotated[bool, _PRETTY] = False
    explain: Annotated[
        bool, Option("SOR_EXPLAIN", switch, "tell of the last result why each venue got what it got, as a table")
    ] = False


def in_columns(settings: OutputSettings) -> bool:
    """Whether results are wanted in columns, as the name of their file says."""
    return settings.output is not None and settings.output.endswith(".parquet")


class ConsumeSettings(
    RoutingSettings, OutputSettings, EndSettings, StreamSettings, TelemetrySettings, KafkaSettings, LogSettings
):
    worker: int | None = None  # number of this process among ``workers``


class ProduceSettings(FileSettings, EndSettings, SendSettings, KafkaSettings, LogSettings):
    pass


class OrderSettings(OneOrderSettings, KafkaSettings, LogSettings):
    pass


class CheckSettings(ConsumeSettings, SendSettings):
    """What ``sor consume`` takes or, with a file, what ``sor produce`` takes."""

    csv_file: Annotated[
        str | None, Option("", text, "check what `sor produce FILE` needs; else consume", flag=POSITIONAL, file="read")
    ] = None


class InfoSettings(FeedSettings, LogSettings):
    json: Annotated[bool, Option("SOR_JSON", switch, "one JSON object in place of the table")] = False


class ExplainSettings(LogSettings):
    """Results, and which of them."""

    results: Annotated[
        str | None,
        Option("", text, "results as JSON Lines, plain or packed; - is standard input", flag=POSITIONAL, file="read"),
    ] = None
    symbol: Annotated[str | None, _SYMBOL._replace(help="results of this symbol only")] = None
    row: Annotated[
        int | None, Option("SOR_ROW", whole(1), "which of the results, counted from 1; the last unless given")
    ] = None


class ConvertSettings(FeedSettings, LogSettings):
    depth: Annotated[int, Option("SOR_DEPTH", whole(1, 1000), "levels on each side")] = 1
    output: Annotated[
        str | None, Option("SOR_OUTPUT", file_path, "Parquet file to write; with --by its folder", file="written")
    ] = None
    by: Annotated[
        str | None,
        Option(
            "SOR_BY",
            choice("day", "symbol", "symbol,day", "file"),
            "a file for each day (UTC), symbol, or both; or for each file, of which those that are there are left",
        ),
    ] = None
    jobs: Annotated[int, _JOBS] = 1
    dask: Annotated[str | None, _DASK] = None


class SimulateSettings(LogSettings):
    """A synthetic market, and where it is written to."""

    output: Annotated[
        str | None,
        Option(
            "SOR_OUTPUT",
            file_path,
            "file to write: columns where its name ends in .parquet, the plain form where it ends in .csv",
            file="written",
        ),
    ] = None
    seed: Annotated[int, _SEED] = 1
    date: Annotated[str, Option("SOR_DATE", text, "day of the session, which opens at 9:30 in New York")] = "2024-08-01"
    duration: Annotated[int, Option("SOR_DURATION", whole(10, 23400), "seconds of the session")] = 23400
    mics: Annotated[
        tuple[str, ...],
        Option(
            "SOR_MICS",
            names,
            "venues by MIC, comma-separated, the first with the most flow; without it XNAS, ARCX, IEXG and EDGA",
        ),
    ] = ()
    venues: Annotated[str | None, _VENUES] = None
    levels: Annotated[int, Option("SOR_LEVELS", whole(1, 100), "levels shown on each side; 10 show all")] = 5
    cancellations: Annotated[
        str,
        Option(
            "SOR_CANCELLATIONS",
            choice("uniform", "back", "front", "young"),
            "which order of a queue is cancelled: any, its youngest, its oldest, or rather a young one",
        ),
    ] = "uniform"
    grow: Annotated[
        float, Option("SOR_GROW", _part, "part of the limit orders in whose place one that rests grows, and stays")
    ] = 0.0
    hidden: Annotated[float, Option("SOR_HIDDEN", _part, "part of the limit orders that trade and are not shown")] = (
        0.05
    )
    jumps: Annotated[
        float, Option("SOR_JUMPS", number(0, "a number, 0 or more"), "announced jumps of the value an hour")
    ] = 30.0
    jump_ticks: Annotated[int, Option("SOR_JUMP_TICKS", whole(1, 10), "how far a jump goes, in cents")] = 3
    jump_delay: Annotated[
        float,
        Option(
            "SOR_JUMP_DELAY",
            number(0.001, "a number of seconds, 0.001 or more"),
            "seconds from an announcement within which its jump comes: latency L costs jump-ticks * min(1, L / these)",
        ),
    ] = 1.0
    feed_delay: Annotated[float, Option("SOR_FEED_DELAY", _seconds, "seconds from an event to its receipt")] = 0.0002

    @property
    def knobs(self) -> dict[str, Any]:
        """Those of `sor.backtest.scenario.Scenario` that have its names."""
        names = ("seed", "date", "duration", "cancellations", "grow", "hidden", "jumps", "jump_ticks", "jump_delay")
        return {name: getattr(self, name) for name in (*names, "feed_delay")}


def beside(output: str, what: str) -> str | None:
    """The name of what stands beside a file of columns or CSV; None: its name ends in neither."""
    name, dot, form = output.rpartition(".")
    return f"{name}.{what}.{form}" if name and dot and form in ("parquet", "csv") else None


def truth_files(output: str | None) -> tuple[str, str] | None:
    """Where the truth of a synthetic market stands, its orders and the rest; None: no form of a feed is called so."""
    orders = None if output is None else beside(output, "truth")
    return None if orders is None else (orders, f"{orders.rpartition('.')[0]}.json")


class WorkSettings(FeedSettings, ModelSettings, LogSettings):
    """Orders, and the market that they are worked on."""

    policy: Annotated[str | None, _POLICY] = None
    order_size: Annotated[
        tuple[int | Decimal, ...],
        Option(
            "SOR_ORDER_SIZES", options.quantities, "shares of an order; of several, comma-separated, each is worked"
        ),
    ] = (1000,)
    side: Annotated[str, Option("SOR_SIDES", choice(*SIDES, "both"), "buy, sell or both: one order of each")] = "both"
    orders: Annotated[
        int | None,
        Option(
            "SOR_ORDERS", whole(1, 10**6), "arrivals a symbol and day, at times drawn by the seed; 100 unless given"
        ),
    ] = None
    every: Annotated[
        float | None, Option("SOR_EVERY", options.duration(1e-3), "time between arrivals, in place of a number of them")
    ] = None
    horizon: Annotated[float, Option("SOR_WORK_HORIZON", options.duration(1e-3), "how long an order is worked")] = 300.0
    session: Annotated[str, Option("SOR_SESSION", text, "times of day between which orders are worked")] = "09:30-16:00"
    timezone: Annotated[str, Option("SOR_TIMEZONE", text, "time zone of the session")] = "America/New_York"
    baseline: Annotated[str, Option("SOR_BASELINE", text, "the routing that others are held against")] = "nbbo"
    end_rule: Annotated[
        str,
        Option(
            "SOR_END_RULE", choice("complete", "leave"), "what is left at the end: complete takes it, leave does not"
        ),
    ] = "complete"
    grace: Annotated[
        float, Option("SOR_GRACE", options.duration(0), "how long complete tries to, where too little is shown")
    ] = 60.0
    latency: Annotated[
        str,
        Option("SOR_LATENCY", text, "from us to a venue, and back; or a CSV file with the columns venue and latency"),
    ] = "500us"
    data_delay: Annotated[
        float,
        Option("SOR_DATA_DELAY", options.duration(0), "from a row's time of receipt, or else of its event, to us"),
    ] = 0.0
    placement: Annotated[
        int, Option("SOR_PLACEMENT", whole(1, 7200), "cont_kukanov: seconds in which its limit orders may fill")
    ] = 60
    together: Annotated[
        bool, Option("SOR_TOGETHER", switch, "orders of a symbol use up for each other what they take")
    ] = False
    refresh: Annotated[
        float | None,
        Option(
            "SOR_REFRESH",
            options.duration(1e-3),
            "time after which a level that went out of sight holds other shares than those we took; the horizon unless "
            "given",
        ),
    ] = None
    max_quote_age: Annotated[float | None, _MAX_QUOTE_AGE] = None
    frozen: Annotated[
        str,
        Option(
            "SOR_FROZEN",
            choice("leave", "take"),
            "consolidated quotes behind the best, which the feed no longer updates: leave them, or take them and tell",
        ),
    ] = "leave"
    depth: Annotated[
        int, Option("SOR_DEPTH", whole(1, 1000), "levels on each side; a feed that has fewer is read with those")
    ] = 10
    seed: Annotated[int, _SEED] = 1
    jobs: Annotated[int, _JOBS] = 1
    dask: Annotated[str | None, _DASK] = None
    keep: Annotated[str | None, _KEEP] = None
    json: Annotated[
        str | None, Option("SOR_JSON_FILE", text, "file for the result as JSON; - is standard output", file="written")
    ] = None
    report: Annotated[
        str | None,
        Option(
            "SOR_REPORT",
            file_path,
            "file for a report to look at, .html: one page that opens offline (pip install 'sor[report]')",
            file="written",
        ),
    ] = None


class BacktestSettings(WorkSettings):
    """The ways in which orders are worked."""

    schedule: Annotated[
        tuple[str, ...],
        Option(
            "SOR_SCHEDULE", names, "how much is released by when: immediate, twap:SLICES, vwap, pov:RATE, or several"
        ),
    ] = ("immediate",)
    routing: Annotated[
        tuple[str, ...],
        Option(
            "SOR_ROUTING",
            names,
            "how it is split: brute_force, greedy_l2, cont_kukanov, price_fee, nbbo, best_venue, pro_rata, equal, "
            "single:MIC, or several",
        ),
    ] = ("brute_force", "greedy_l2", "best_venue", "pro_rata", "nbbo")
    queue: Annotated[
        str,
        Option(
            "SOR_QUEUE",
            choice("pessimistic", "proportional", "optimistic", "all"),
            "who is cancelled before an order of ours that rests: none, in proportion, all; or a result for each",
        ),
    ] = "all"
    output: Annotated[
        str | None,
        Option(
            "SOR_OUTPUT",
            file_path,
            "file for the fills, .parquet or .csv; orders go to NAME.parents.parquet or .csv beside it",
            file="written",
        ),
    ] = None


class TuneSettings(WorkSettings):
    """The way whose parameters are tried, and how."""

    schedule: Annotated[
        str, Option("SOR_TUNE_SCHEDULE", text, "how much is released by when: immediate, twap, vwap or pov")
    ] = "immediate"
    routing: Annotated[
        str,
        Option("SOR_TUNE_ROUTING", text, "how it is split: cont_kukanov, brute_force or another one of sor backtest's"),
    ] = "cont_kukanov"
    queue: Annotated[
        str,
        Option(
            "SOR_TUNE_QUEUE",
            choice("pessimistic", "proportional", "optimistic"),
            "who is cancelled before an order of ours that rests: none, in proportion, all",
        ),
    ] = "pessimistic"
    space: Annotated[
        tuple[tuple[str, Any], ...],
        Option(
            "SOR_SPACE",
            options.space,
            "what is tried, comma-separated: lambda_under=0.005..0.5 (a range), horizon=10/30/60 (values); of "
            "cont_kukanov lambda_over, lambda_under, theta_queue, horizon, of twap slices, of pov rate",
        ),
    ] = ()
    search: Annotated[
        str,
        Option(
            "SOR_SEARCH",
            choice("grid", "random", "optuna"),
            "all points, five of a range; points drawn by the seed; or one after the other (pip install 'sor[tune]')",
        ),
    ] = "grid"
    points: Annotated[
        int | None,
        Option("SOR_POINTS", whole(1, 10_000), "how many random draws, or optuna tries a day; 125 unless given"),
    ] = None
    train_days: Annotated[
        int | None,
        Option("SOR_TRAIN_DAYS", whole(1, 10_000), "days before by which a point is chosen; all unless given"),
    ] = None


class VersionSettings(Settings):
    pass


CLASSES: dict[str, type[Settings]] = {
    "demo": LogSettings,
    "replay": ReplaySettings,
    "produce": ProduceSettings,
    "consume": ConsumeSettings,
    "order": OrderSettings,
    "check": CheckSettings,
    "explain": ExplainSettings,
    "info": InfoSettings,
    "convert": ConvertSettings,
    "simulate": SimulateSettings,
    "backtest": BacktestSettings,
    "tune": TuneSettings,
    "paper": PaperSettings,
    "version": VersionSettings,
}


def options_of(command: str) -> list[Option]:
    return options.options_of(CLASSES[command])


def _every_option() -> tuple[Option, ...]:
    """Those of ``check`` are of the commands that it is for."""
    found: dict[str, Option] = {}
    for command in (
        "replay",
        "produce",
        "consume",
        "order",
        "explain",
        "info",
        "convert",
        "simulate",
        "backtest",
        "tune",
        "demo",
        "paper",
    ):
        for option in (one for one in options_of(command) if one.variable):
            known = found.setdefault(option.variable, option)
            found[option.variable] = known._replace(commands=(*known.commands, command))
    return tuple(found.values())


OPTIONS = _every_option()


def load(command: str, flags: Mapping[str, str], environment: Mapping[str, str] | None = None) -> Any:
    """The settings of a command, an object of its class.

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
    settings = CLASSES[command]
    values, given = options.read(settings, flags, os.environ if environment is None else environment)
    for field in ("order_size", "quantity"):
        if isinstance(values.get(field), Decimal) and values["instruments"] is None:
            raise InputError(
                f"{given[field]} is {str(values[field])!r}: it must be a whole number from 1 to {MAX_ORDER}, or with "
                "--instruments a number with decimals"
            )
    if "greedy_l2" in values:
        _merge_greedy(values, given)
    if issubclass(settings, KafkaSettings):
        security.complete(values, given, {option.field: option.title for option in options_of(command)})
    return settings(**values)


def from_environment(command: str) -> list[str]:
    """What the environment sets for a command, as a shell takes it."""
    found = (options.text_of(option, {}, os.environ) for option in options_of(command))
    return [f"{name}={shlex.quote(value)}" for name, value in found if value is not None]


def log_format(command: str, flags: Mapping[str, str], environment: Mapping[str, str] | None = None) -> str:
    """The form that errors are to have, also those in the other settings; a wrong one counts as not set."""
    for option in options_of(command):
        if option.field == "log_format":
            _, value = options.text_of(option, flags, os.environ if environment is None else environment)
            return value.strip().lower() if value and value.strip().lower() in LOG_FORMATS else "text"
    return "text"


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
    values["greedy_l2"] = values["algorithm"] == "greedy_l2"
