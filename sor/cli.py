"""The commands: they parse, call and print."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from sor import kernels
from sor.errors import DataError, Exit, InputError, SorError
from sor.kafka.common import Identity
from sor.market import Decoder
from sor.market.book import Books
from sor.market.databento_json import JsonDecoder
from sor.market.outflow import Outflows
from sor.market.venues import VenueDirectory
from sor.routing.router import Router
from sor.service import demo, logs
from sor.service import settings as config
from sor.service.logs import report
from sor.service.settings import Settings
from sor.service.supervisor import Supervisor, is_orphan
from sor.stream.files import FileLetters, FileResults, FileSource, has_one_publisher
from sor.stream.messages import Fanout, LogLetters, Sink, Source
from sor.stream.orders import (
    DEPTH,
    OrderMessage,
    OrderPipeline,
    OrderRecovery,
    Terms,
    is_answer,
    is_rejection,
    order_of,
)
from sor.stream.pipeline import HINT_AFTER, Answering, Pipeline, Stop, run
from sor.stream.recovery import Recovery
from sor.stream.summary import RunSummary
from sor.types import Order

logger = logging.getLogger(__name__)

# Of a worker: nothing that starting it again could mend.
FINAL = frozenset({Exit.DONE, Exit.BAD_MESSAGES, Exit.WRONG_CALL, Exit.FENCED})
LOOK_AHEAD = 10_000  # rows of a file read to see whether it has one publisher only
SIGN_OF_LIFE_S = 0.5


# --- entry -----------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run a command; returns its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: the process's own, without its name.
    command : str, optional
        A fixed command, for scripts that are one.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = vars(_parser(command).parse_args([command, *argv] if command else argv))
    name = arguments.pop("command")
    path = arguments.pop("file", None)
    logs.configure_report(config.log_format(name, arguments))
    return _perform(name, lambda: config.load(name, arguments), path)


def _perform(name: str, load: Callable[[], Settings], path: str | None) -> int:
    """Run a command, and tell its errors."""
    try:
        settings = load()
        logs.configure(settings.log_level, settings.log_format)
        with _ended_by_sigterm():
            return COMMANDS[name](settings, path)
    except BrokenPipeError:  # the reader of our output has gone, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (SorError, OSError) as error:
        report.error("sor %s: error: %s", name, error)
        return _status_of(error)


def _status_of(error: Exception) -> Exit:
    return error.status if isinstance(error, SorError) else Exit.STREAM_FAILED


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the process also where it is process 1 of a container and would ignore it (status 143)."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(fixed: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=None if fixed else "sor",
        description="A smart order router: splits an order over trading venues at the least cost.",
        epilog="Every option may also be given as the environment variable in brackets; flags win.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        summary = (function.__doc__ or "").strip().splitlines()[0]
        sub = commands.add_parser(name, help=summary, description=summary, argument_default=argparse.SUPPRESS)
        if name in ("replay", "produce"):
            sub.add_argument(
                "file",
                metavar="FILE",
                nargs="?",
                help="CSV or JSON Lines, plain or .gz; - is standard input [CSV_FILE, default sample.csv]",
            )
        if name == "check":
            sub.add_argument(
                "file", metavar="FILE", nargs="?", help="check what `sor produce FILE` needs; else consume"
            )
        for option in config.options_of(name):
            _add_option(sub, option)
        unflagged = [f"{option.variable} ({option.help})" for option in config.options_of(name) if option.flag is None]
        sub.epilog = f"By variable only: {', '.join(unflagged)}." if unflagged else None
    return parser


def _add_option(parser: argparse.ArgumentParser, option: config.Option) -> None:
    default = "" if option.default in (None, (), False) else f", default {option.default}"
    text = f"{option.help} [{option.variable}{default}]".replace("%", "%%")
    if option.is_switch:
        group = parser.add_mutually_exclusive_group()
        group.add_argument(option.name, dest=option.field, action="store_const", const="true", help=text)
        no = option.name.replace("--", "--no-", 1)
        group.add_argument(no, dest=option.field, action="store_const", const="false", help=argparse.SUPPRESS)
    elif option.field != "csv_file" and option.flag is not None:  # FILE is its flag
        parser.add_argument(option.name, dest=option.field, metavar=option.field.upper(), help=text)


# --- commands --------------------------------------------------------------------------------------------------------


def demonstrate(settings: Settings, path: str | None) -> int:
    """three venues, both allocators, and the trap in the penalties"""
    demo.run_test_harness()
    return Exit.DONE


def replay(settings: Settings, path: str | None) -> int:
    """route every row of a recorded feed"""
    path = path or settings.csv_file
    venues_from = settings.venues_from or ("publishers" if _events(settings) else _venues_of(path))
    source = FileSource(path)
    with contextlib.ExitStack() as stack:
        stack.callback(source.close)
        _refuse_overwriting(settings, path)
        results = FileResults(_create(settings.output or "-"), pretty=settings.pretty)
        sink = stack.enter_context(_closing(Fanout([results, _letters(settings)])))
        decoder = source.decoder(_depth(settings, venues_from), events=_events(settings))
        pipeline = _pipeline(settings, decoder, venues_from, sink, logging.DEBUG)
        return _run(settings, source, pipeline, hint=settings.venues_from is None and not os.path.isfile(path))


def consume(settings: Settings, path: str | None) -> int:
    """route every message of a Kafka topic"""
    config.check_delivery(settings)
    if settings.workers > 1 and settings.worker is None:
        return _supervise(settings)
    client = _client(settings.client)
    identity = Identity(settings.group, settings.instance_id, settings.worker or 0)
    topic = settings.orders_topic or settings.topic
    with contextlib.ExitStack() as stack:
        fanout = stack.enter_context(_closing(Fanout(_file_sinks(settings))))
        pipeline = _answering(settings, fanout)
        connect = _connector(client, settings, identity)
        producer = connect()
        source = client.open_source(
            settings.connection,
            topic,
            identity,
            settings.start,
            pipeline.forget,
            transactional=settings.exactly_once,
            wait_ms=pipeline.wait_ms if isinstance(pipeline, OrderPipeline) else None,
        )
        stack.callback(source.close)
        sink = _topic_sink(client, settings, producer, source, connect)
        fanout.join(sink)
        reader = client.KafkaReader(settings.connection)
        stack.callback(reader.close)
        recovery = _recovery(settings, stack, pipeline, reader)
        turned = _telemetry(settings, stack, pipeline, lambda: _stream_state(source, sink, pipeline, recovery))
        recovery.turn = turned
        how = "exactly once" if settings.exactly_once else "at least once"
        logger.info("consuming %s from %s as group %s, %s", topic, settings.kafka_servers, settings.group, how)
        return _run(settings, source, pipeline, turned, hint=settings.venues_from is None, finish_is_done=True)


def _file_sinks(settings: Settings) -> list[Sink]:
    """What of results and dead letters goes to no topic."""
    sinks: list[Sink] = []
    if settings.results_topic is None or settings.output is not None:
        sinks.append(FileResults(_create(settings.output or "-", "ab")))
    if settings.dead_letter_file is not None or settings.dead_letter_topic is None:
        sinks.append(_letters(settings, "ab"))
    return sinks


def _answering(settings: Settings, sink: Sink) -> Pipeline | OrderPipeline:
    """What answers: every message of the market data, or orders on its books."""
    venues_from = settings.venues_from or "publishers"
    if settings.orders_topic is not None:
        return _order_pipeline(settings, venues_from, sink)
    decoder = JsonDecoder(_depth(settings, venues_from), events=_events(settings))
    return _pipeline(settings, decoder, venues_from, sink, logging.INFO)


def _connector(client: Any, settings: Settings, identity: Identity) -> Callable[[], Any]:
    """What connects a producer, each time with the same transactional id; None where no topic is written to."""
    topics = [topic for topic in (settings.results_topic, settings.dead_letter_topic) if topic is not None]
    transactional_id = identity.transactional_id if settings.exactly_once else None
    return lambda: client.connect_producer(settings.connection, topics, transactional_id) if topics else None


def _topic_sink(client: Any, settings: Settings, producer: Any, source: Any, connect: Callable[[], Any]) -> Sink:
    if producer is None:
        return Sink()
    topics = settings.results_topic, settings.dead_letter_topic
    if settings.memory_topic is None:
        return client.KafkaSink(producer, *topics)  # type: ignore[no-any-return]
    return client.TransactionalSink(  # type: ignore[no-any-return]
        producer, *topics, settings.memory_topic, settings.commit_timeout, source.is_fenced, connect
    )


def _recovery(
    settings: Settings, stack: contextlib.ExitStack, pipeline: Pipeline | OrderPipeline, reader: Any
) -> Recovery:
    """How the state of a partition comes back; given to the pipeline."""
    memory, tail, symbol = settings.memory_topic, settings.bootstrap_messages, settings.symbol
    if isinstance(pipeline, Pipeline):
        depth = pipeline.router.depth
        pipeline.recovery = Recovery(reader, pipeline.decoder, memory, depth=depth, tail=tail, symbol=symbol)
        return pipeline.recovery
    from sor.kafka import kafka_python as kafka  # whatever the client: a few messages at a time

    orders = str(settings.orders_topic)
    feed = kafka.KafkaFeed(settings.connection, settings.topic)
    stack.callback(feed.close)
    feed.check_alike(orders)
    decoder = JsonDecoder(DEPTH, events=_events(settings))
    return pipeline.connect(
        feed, OrderRecovery(reader, decoder, settings.topic, orders, memory, tail=tail, symbol=symbol)
    )


def _telemetry(
    settings: Settings, stack: contextlib.ExitStack, pipeline: Answering, state: Callable[[], Any]
) -> Callable[[], None]:
    """Serve metrics and health, or hand them to the supervisor; what it returns is to be called at every turn."""
    if settings.metrics_port is None and settings.snapshot_file is None:
        return lambda: None
    from sor.service.telemetry import Telemetry, serving

    telemetry = Telemetry(settings.snapshot_file)
    if settings.metrics_port is not None and settings.snapshot_file is None:
        stack.enter_context(serving(telemetry.status, settings.metrics_host, settings.metrics_port))
    stack.callback(lambda: telemetry.turned(pipeline.summary, state, last=True))
    return lambda: telemetry.turned(pipeline.summary, state)


def _stream_state(source: Any, sink: Any, pipeline: Answering, recovery: Recovery) -> Any:
    from sor.service.telemetry import StreamState

    return StreamState(
        lags=source.lags,
        assigned=len(source.partitions),
        bootstrapping=recovery.running,
        rebuilt=recovery.rebuilt,
        rebalances=source.rebalances,
        committed=getattr(sink, "committed", 0),
        aborted=getattr(sink, "aborted", 0),
        age_ms=pipeline.age_ms,
    )


def _client(name: str) -> Any:
    """The module of a Kafka client, imported only where it is used; both offer the same names."""
    if name == "confluent":
        from sor.kafka import confluent

        return confluent
    from sor.kafka import kafka_python as kafka

    return kafka


def _supervise(settings: Settings) -> int:
    """Run the command in several processes."""
    from sor.service.telemetry import Workers, serving

    logger.info("starting %d workers", settings.workers)
    with contextlib.ExitStack() as stack:
        workers = Workers(stack.enter_context(tempfile.TemporaryDirectory(prefix="sor-")))
        if settings.metrics_port is not None:
            stack.enter_context(serving(workers.status, settings.metrics_host, settings.metrics_port))
        work = partial(_run_worker, settings)
        return Supervisor(settings.workers, work, FINAL, workers).watch(Exit.STREAM_FAILED)


def _run_worker(settings: Settings, number: int, snapshot_file: str) -> int:
    return _perform(
        "consume", lambda: msgspec.structs.replace(settings, worker=number, snapshot_file=snapshot_file), None
    )


def order(settings: Settings, path: str | None) -> int:
    """send an order to a topic of orders, and print its answer"""
    for name in ("symbol", "side", "quantity", "orders_topic", "results_topic"):
        if getattr(settings, name) is None:
            raise InputError(f"--{name.replace('_', '-')} is missing: an order needs it")
    asked = OrderMessage(
        settings.order_id or str(uuid.uuid4()),
        str(settings.symbol),
        settings.side,
        settings.quantity or 0,
        settings.limit_price,
        settings.algorithm,
        settings.objective,
    )
    value = msgspec.json.encode(asked)
    try:
        order_of(value)
    except DataError as error:
        raise InputError(str(error)) from None
    from sor.kafka import kafka_python as kafka

    place, answer = kafka.ask(
        settings.connection,
        (str(settings.orders_topic), asked.symbol.encode(), value),
        str(settings.results_topic),
        partial(is_answer, asked),
        settings.answer_timeout,
    )
    if answer is None:
        where = f"{place.topic}:{place.partition}:{place.offset}"
        seconds = settings.answer_timeout
        report.error("sor order: no answer to %s (%s) within %g s; one may still come", asked.id, where, seconds)
        return Exit.NO_ANSWER
    print(msgspec.json.format(answer, indent=2 if settings.pretty else -1).decode())
    return Exit.REJECTED if is_rejection(answer) else Exit.DONE


def produce(settings: Settings, path: str | None) -> int:
    """send a recorded feed to a Kafka topic, keyed by symbol"""
    from sor.service import produce as producing

    done = producing.produce(settings, path or settings.csv_file)
    line = f"sent {done.confirmed:,} messages to {settings.topic}, all acknowledged; {done.bad:,} bad rows"
    if settings.resume:
        line += f"; {done.there:,} were there already"
    if settings.speed > 0:
        line += f"; at most {1000 * done.latest:.1f} ms after they were due"
    report.info(line)
    if not done.finished and not settings.loop:
        return Exit.INTERRUPTED
    return Exit.BAD_MESSAGES if done.bad and not settings.allow_bad else Exit.DONE


def check(settings: Settings, path: str | None) -> int:
    """try what a run needs, sending nothing: settings, venues, brokers, topics, permissions"""
    from sor.service import check as checking

    status = Exit.DONE
    for finding in checking.check(settings, path):
        print(finding.line, flush=True)
        if finding.error is not None and status == Exit.DONE:
            status = _status_of(finding.error)
    return status


def paper(settings: Settings, path: str | None) -> int:
    """the tables of Cont and Kukanov's paper beside ours, and studies of their model"""
    from sor.models import paper as computing

    for line in computing.report(settings.seed, settings.training_samples):
        print(line, flush=True)
    if settings.folder is not None:
        for written in computing.write(settings.folder, settings.seed, settings.training_samples):
            print(f"wrote {written}", flush=True)
    return Exit.DONE


def version(settings: Settings, path: str | None) -> int:
    """the versions, and which kernels are in use and why"""
    print(f"sor {metadata.version('sor')}")
    print(f"kernels: {kernels.BACKEND} ({kernels.WHY})")
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {metadata.version(name)}" for name in ("numpy", "msgspec", "kafka-python")]
    print(", ".join(parts))
    return Exit.DONE


# --- what commands share ---------------------------------------------------------------------------------------------


def _venues_of(path: str) -> str:
    """What a venue is, where nobody said: a look at the file; a pipe or a topic cannot be looked ahead at."""
    if not os.path.isfile(path) or not has_one_publisher(path, LOOK_AHEAD):
        return "publishers"
    logger.info(
        "only one publisher in the first %d rows of %s: its levels are routed as venues (--venues-from levels)",
        LOOK_AHEAD,
        path,
    )
    return "levels"


def _depth(settings: Settings, venues_from: str) -> int:
    """Levels that have to be decoded: best quotes are enough for ``brute_force`` over publishers."""
    return 1 if settings.algorithm == "brute_force" and venues_from == "publishers" else 10


def _events(settings: Settings) -> bool:
    """Whether what has happened is of interest, beside what it has left."""
    return bool(settings.algorithm == "cont_kukanov")


def _letters(settings: Settings, mode: Literal["wb", "ab"] = "wb") -> Sink:
    path = settings.dead_letter_file
    return FileLetters(_create(path, mode)) if path is not None else LogLetters()


def _refuse_overwriting(settings: Settings, path: str) -> None:
    for name in ("output", "summary", "dead_letter_file"):
        target = getattr(settings, name)
        if target and os.path.exists(target) and os.path.exists(path) and os.path.samefile(target, path):
            raise InputError(f"--{name.replace('_', '-')} is {target!r}: that is the file to read")


def _create(path: str, mode: Literal["wb", "ab"] = "wb") -> IO[bytes]:
    """A file to write; `-` is standard output. A consumer appends: what it wrote before a restart is committed."""
    if path == "-":
        return sys.stdout.buffer
    try:
        return open(path, mode)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


@contextlib.contextmanager
def _closing(fanout: Fanout) -> Iterator[Fanout]:
    try:
        yield fanout
    finally:
        fanout.close()


def _pipeline(settings: Settings, decoder: Decoder, venues_from: str, sink: Sink, log_level: int) -> Pipeline:
    directory = VenueDirectory.load(settings.venues)
    router = _routers(settings, directory)(None, None)
    order = Order("*", settings.side, settings.order_size, settings.limit_price)
    _log_configuration(settings, venues_from)
    return Pipeline(
        decoder,
        lambda: Books(directory, venues_from, router.depth, _new_outflows(settings)),
        router,
        order,
        sink,
        symbol=settings.symbol,
        conflate=settings.conflate,
        max_age=settings.max_age,
        log_level=log_level,
    )


def _new_outflows(settings: Settings) -> Callable[[], Outflows] | None:
    """What each book counts, where it is needed."""
    if settings.algorithm != "cont_kukanov":
        return None
    return partial(Outflows, settings.horizon * 10**9, settings.windows)


def _order_pipeline(settings: Settings, venues_from: str, sink: Sink) -> OrderPipeline:
    directory = VenueDirectory.load(settings.venues)
    new_router = _routers(settings, directory)
    new_router(None, None)  # so that defaults that do not go together are told at the start
    age = settings.max_age
    terms = Terms(None if age is None else 1e3 * age, settings.order_wait, round(1e3 * settings.order_memory))
    _log_configuration(settings, venues_from)
    return OrderPipeline(lambda: Books(directory, venues_from, DEPTH, _new_outflows(settings)), new_router, sink, terms)


def _routers(settings: Settings, directory: VenueDirectory) -> Callable[[Any, Any], Router]:
    """Makes routers as the settings say, with an algorithm and an objective of an order's own."""
    age = settings.max_quote_age
    excluded = directory.check_ids(settings.exclude_venues)
    return lambda algorithm, objective: Router(
        settings.parameters,
        algorithm or settings.algorithm,
        objective or settings.objective,
        max_quote_age=None if age is None else round(age * 1e9),
        exclude_venues=excluded,
        min_windows=settings.min_windows,
    )


def _log_configuration(settings: Settings, venues_from: str) -> None:
    par = settings.parameters
    if kernels.BACKEND == "python":
        logger.warning("pure-Python kernels, the same results but slower: %s", kernels.WHY)
    if settings.orders_topic is None:
        logger.info("SOR Configuration: Order size: %d", settings.order_size)
        limit = "" if settings.limit_price is None else f", limit {settings.limit_price:g}"
        what = f"{settings.side}{limit}"
    else:
        what = f"orders from {settings.orders_topic}, books from {settings.topic}"
    logger.info(
        "SOR Configuration: %s, algorithm %s, objective %s, venues from %s, kernels %s",
        what,
        settings.algorithm,
        settings.objective,
        venues_from,
        kernels.BACKEND,
    )
    if settings.algorithm == "cont_kukanov":
        logger.info(
            "SOR Configuration: outflows over %d s, %d windows at most, %d needed; they start empty",
            settings.horizon,
            settings.windows,
            settings.min_windows,
        )
    sweep = settings.objective == "sweep" and settings.algorithm != "cont_kukanov"
    note = "; they change no split, as sweep takes displayed shares" if sweep else ""
    logger.info(
        "SOR Configuration: lambda_over %g, lambda_under %g, theta_queue %g, step %d%s",
        par.lambda_over,
        par.lambda_under,
        par.theta_queue,
        par.step,
        note,
    )


def _run(
    settings: Settings,
    source: Source,
    pipeline: Answering,
    turned: Callable[[], None] = lambda: None,
    *,
    hint: bool,
    finish_is_done: bool = False,
) -> int:
    """Run the pipeline to its end, report, and say how it went."""
    stop = Stop()
    watch = Watch(pipeline, hint, settings.heartbeat_file, turned)
    started = time.perf_counter()
    gc.freeze()  # modules and clients live as long as the run: a full collection over them would hold up a batch
    try:
        with stop.on_signals():
            run(
                source,
                pipeline,
                stopped=lambda: stop() or is_orphan(),
                max_messages=settings.max_messages,
                idle_timeout=settings.idle_timeout,
                after_poll=watch,
            )
    finally:
        seconds = time.perf_counter() - started
        gc.unfreeze()
        watch.finish()
        _report(settings, pipeline.summary, seconds)
    if stop() and not finish_is_done:
        report.warning(f"sor: stopped after {pipeline.summary.messages:,} messages, before the end")
        return Exit.INTERRUPTED
    return Exit.BAD_MESSAGES if pipeline.summary.bad and not settings.allow_bad else Exit.DONE


def _report(settings: Settings, summary: RunSummary, seconds: float) -> None:
    for line in summary.lines(seconds):
        report.info(line)
    if settings.summary is not None:
        with _create(settings.summary) as file:
            file.write(json.dumps(summary.as_dict(seconds), indent=2).encode() + b"\n")


class Watch:
    """Signs of life between two polls: progress on a terminal, a heartbeat file, a hint at ``--venues-from``."""

    def __init__(self, pipeline: Answering, hint: bool, heartbeat: str | None, turned: Callable[[], None]) -> None:
        self.pipeline = pipeline
        self.turned = turned
        self.hint = hint
        self.heartbeat = None if heartbeat is None else Path(heartbeat)
        self.terminal = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self) -> None:
        if self.hint and self.pipeline.summary.messages >= HINT_AFTER:
            self._hint()
        self.turned()
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SIGN_OF_LIFE_S
        if self.heartbeat is not None:
            self.heartbeat.touch()
        if self.terminal:
            print(f"\r{self.pipeline.summary.messages:,} messages", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.hint and self.pipeline.summary.results:
            self._hint()
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _hint(self) -> None:
        self.hint = False
        if len(self.pipeline.publishers) == 1:
            logger.info("only one publisher seen so far: --venues-from levels would route its levels as venues")


COMMANDS: dict[str, Callable[[Settings, str | None], int]] = {
    "demo": demonstrate,
    "replay": replay,
    "produce": produce,
    "consume": consume,
    "order": order,
    "check": check,
    "paper": paper,
    "version": version,
}
