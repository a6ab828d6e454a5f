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
from sor.service.pipelines import depth_of, new_order_pipeline, new_pipeline, wants_events
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
    with contextlib.ExitStack() as stack:
        fanout = stack.enter_context(closing(Fanout(_file_sinks(settings))))
        pipeline = _answering(settings, fanout)
        connect = _connector(client, settings, identity)
        producer = connect()
        source = client.open_source(
            settings.connection,
            topic,
            identity,
            settings.start,
            transactional=settings.exactly_once,
        )
        stack.callback(source.close)
        sink = _topic_sink(client, settings, producer, source, connect)
        fanout.join(sink)
        reader = client.open_reader(settings.connection)
        stack.callback(reader.close)
        recovery = _recovery(client, settings, stack, pipeline, reader)
        turned = _telemetry(settings, stack, pipeline, lambda: _stream_state(source, sink, pipeline, recovery))
        recovery.turn = turned
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


def _answering(settings: ConsumeSettings, sink: Sink) -> Pipeline | OrderPipeline:
    """What answers: every message of the market data, or orders on its books."""
    venues_from = settings.venues_from or "publishers"
    if settings.orders_topic is not None:
        return new_order_pipeline(settings, venues_from, sink)
    decoder = JsonDecoder(depth_of(settings, venues_from), events=wants_events(settings))
    return new_pipeline(
        settings, decoder, venues_from, sink, logging.INFO, conflate=settings.conflate, max_age=settings.max_age
    )


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
    client: Any, settings: ConsumeSettings, stack: contextlib.ExitStack, pipeline: Pipeline | OrderPipeline, reader: Any
) -> Recovery:
    """How the state of a partition comes back; given to the pipeline."""
    memory, tail, symbol = settings.memory_topic, settings.bootstrap_messages, settings.symbol
    if isinstance(pipeline, Pipeline):
        depth = pipeline.router.depth
        pipeline.recovery = Recovery(reader, pipeline.decoder, memory, depth=depth, tail=tail, symbol=symbol)
        return pipeline.recovery
    orders = str(settings.orders_topic)
    feed = client.open_feed(settings.connection, settings.topic)
    stack.callback(feed.close)
    feed.check_alike(orders)
    decoder = JsonDecoder(DEPTH, events=wants_events(settings))
    return pipeline.connect(
        feed, OrderRecovery(reader, decoder, settings.topic, orders, memory, tail=tail, symbol=symbol)
    )


def _telemetry(
    settings: ConsumeSettings, stack: contextlib.ExitStack, pipeline: Answering, state: Callable[[], Any]
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
