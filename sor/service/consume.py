"""`sor consume`: a topic, routed message by message, or its orders on the books that it makes."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from sor.errors import Exit
from sor.kafka.common import Identity
from sor.market.databento_json import JsonDecoder
from sor.service.outputs import closing, create, letters
from sor.service.pipelines import Plan, new_order_pipeline, new_pipeline, plan_of
from sor.service.run import perform, run_to_end
from sor.service.settings import ConsumeSettings
from sor.service.supervisor import Supervisor
from sor.stream.files import FileResults
from sor.stream.messages import Fanout, Sink
from sor.stream.orders import DEPTH, OrderPipeline, OrderRecovery
from sor.stream.pipeline import Answering, Pipeline
from sor.stream.recovery import Recovery

logger = logging.getLogger(__name__)

# Of a worker: nothing that starting it again could mend.
FINAL = frozenset({Exit.DONE, Exit.BAD_MESSAGES, Exit.WRONG_CALL, Exit.FENCED})


def consume(settings: ConsumeSettings) -> int:
    """Route every message of a Kafka topic."""
    if settings.workers > 1 and settings.worker is None:
        return _supervise(settings)
    client = _client(settings.client)
    identity = Identity(settings.group, settings.instance_id, settings.worker or 0)
    topic = settings.orders_topic or settings.topic
    plan = plan_of(settings, settings.venues_from or "publishers")
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(closing(Fanout(_file_sinks(settings))))
        telemetry = _telemetry(settings, stack)

        def turned(last: bool = False) -> None:  # called once all of these are there
            if telemetry is not None:
                telemetry.turned(pipeline.summary, lambda: _stream_state(source, topics, pipeline, recovery), last=last)

        reader = client.open_reader(settings.connection)
        stack.callback(reader.close)
        recovery, feed = _recovery(client, settings, plan, stack, reader, turned)
        connect = _connector(client, settings, identity)
        producer = connect()
        source = client.open_source(
            settings.connection, topic, identity, settings.start, transactional=settings.exactly_once
        )
        stack.callback(source.close)
        topics = _topic_sink(client, settings, producer, source, connect)
        stack.callback(topics.close)
        sink = Fanout([*files.sinks, topics])
        pipeline: Pipeline | OrderPipeline
        if isinstance(recovery, OrderRecovery):
            pipeline = new_order_pipeline(plan, settings, sink, feed, recovery)
        else:
            pipeline = new_pipeline(
                plan,
                recovery.decoder,
                sink,
                recovery=recovery,
                conflate=settings.conflate,
                max_age=settings.max_age,
                log_level=logging.INFO,
            )
        stack.callback(turned, last=True)
        how = "exactly once" if settings.exactly_once else "at least once"
        logger.info("consuming %s from %s as group %s, %s", topic, settings.kafka_servers, settings.group, how)
        return run_to_end(settings, source, pipeline, turned, hint=settings.venues_from is None, finish_is_done=True)


def _file_sinks(settings: ConsumeSettings) -> list[Sink]:
    """What of results and dead letters goes to no topic."""
    sinks: list[Sink] = []
    if settings.results_topic is None or settings.output is not None:
        sinks.append(FileResults(create(settings.output or "-", "ab")))
    if settings.dead_letter_file is not None or settings.dead_letter_topic is None:
        sinks.append(letters(settings, "ab"))
    return sinks


def _connector(client: Any, settings: ConsumeSettings, identity: Identity) -> Callable[[], Any]:
    """What connects a producer, each time with the same transactional id; None where no topic is written to."""
    topics = [topic for topic in (settings.results_topic, settings.dead_letter_topic) if topic is not None]
    transactional_id = identity.transactional_id if settings.exactly_once else None
    return lambda: client.connect_producer(settings.connection, topics, transactional_id) if topics else None


def _topic_sink(client: Any, settings: ConsumeSettings, producer: Any, source: Any, connect: Callable[[], Any]) -> Sink:
    if producer is None:
        return Sink()
    topics = settings.results_topic, settings.dead_letter_topic
    if settings.memory_topic is None:
        return client.KafkaSink(producer, *topics)  # type: ignore[no-any-return]
    return client.TransactionalSink(  # type: ignore[no-any-return]
        producer, *topics, settings.memory_topic, settings.commit_timeout, source.is_fenced, connect
    )


def _recovery(
    client: Any,
    settings: ConsumeSettings,
    plan: Plan,
    stack: contextlib.ExitStack,
    reader: Any,
    turn: Callable[[], None],
) -> tuple[Recovery, Any]:
    """How the state of a partition comes back, and for orders where the market data comes from."""
    bounds: dict[str, Any] = {
        "tail": settings.bootstrap_messages,
        "symbol": settings.symbol,
        "turn": turn,
        "limit_s": 0.8 * settings.connection.timing.between_polls,
    }
    if settings.orders_topic is None:
        decoder = JsonDecoder(plan.depth, events=plan.events, instruments=plan.instruments)
        return Recovery(reader, decoder, settings.memory_topic, depth=plan.router.depth, **bounds), None
    orders = settings.orders_topic
    feed = client.open_feed(settings.connection, settings.topic)
    stack.callback(feed.close)
    feed.check_alike(orders)
    decoder = JsonDecoder(DEPTH, events=plan.events, instruments=plan.instruments)
    return OrderRecovery(reader, decoder, settings.topic, orders, settings.memory_topic, **bounds), feed


def _telemetry(settings: ConsumeSettings, stack: contextlib.ExitStack) -> Any:
    """Serves metrics and health, or hands them to the supervisor; None where nobody asks for them."""
    if settings.metrics_port is None and settings.snapshot_file is None:
        return None
    from sor.service.telemetry import Telemetry, serving

    telemetry = Telemetry(settings.snapshot_file)
    if settings.metrics_port is not None and settings.snapshot_file is None:
        stack.enter_context(serving(telemetry.status, settings.metrics_host, settings.metrics_port))
    return telemetry


def _stream_state(source: Any, sink: Any, pipeline: Answering, recovery: Recovery) -> Any:
    from sor.service.telemetry import StreamState

    return StreamState(
        lags=source.lags,
        assigned=len(source.partitions),
        bootstrapping=recovery.running,
        rebuilt=recovery.rebuilt,
        rebalances=source.rebalances,
        missing=source.missing,
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


def _supervise(settings: ConsumeSettings) -> int:
    """Run the command in several processes."""
    from sor.service.telemetry import Workers, serving

    logger.info("starting %d workers", settings.workers)
    with contextlib.ExitStack() as stack:
        workers = Workers(stack.enter_context(tempfile.TemporaryDirectory(prefix="sor-")))
        if settings.metrics_port is not None:
            stack.enter_context(serving(workers.status, settings.metrics_host, settings.metrics_port))
        work = partial(_run_worker, settings)
        return Supervisor(settings.workers, work, FINAL, workers).watch(Exit.STREAM_FAILED)


def _run_worker(settings: ConsumeSettings, number: int, snapshot_file: str) -> int:
    return perform("consume", lambda: settings.replaced(worker=number, snapshot_file=snapshot_file), consume)
