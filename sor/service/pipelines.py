"""Pipelines as the settings say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from sor import kernels
from sor.errors import InputError
from sor.market import Decoder
from sor.market.book import Books
from sor.market.instruments import Instruments
from sor.market.outflow import Outflows
from sor.market.policy import Policy
from sor.market.venues import VenueDirectory
from sor.routing.router import Router
from sor.service.settings import ConsumeSettings, RoutingSettings, WorkSettings
from sor.stream.messages import Sink
from sor.stream.orders import DEPTH, Feed, NewRouter, OrderPipeline, OrderRecovery, Terms
from sor.stream.pipeline import Pipeline
from sor.stream.recovery import Recovery
from sor.types import Instrument, Order

logger = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What is to be routed and how: all of the settings that can be wrong, before anything is connected."""

    settings: RoutingSettings
    venues_from: str
    new_router: NewRouter
    router: Router
    new_books: Callable[[int], Books]  # so many levels deep
    directory: VenueDirectory
    instruments: Instruments

    @property
    def events(self) -> bool:
        return wants_events(self.settings)

    @property
    def depth(self) -> int:
        """Levels that have to be decoded: best quotes are enough for ``brute_force`` over publishers."""
        return 1 if self.settings.algorithm == "brute_force" and self.venues_from == "publishers" else DEPTH


def plan_of(
    settings: RoutingSettings,
    venues_from: str,
    directory: VenueDirectory | None = None,
    instruments: Instruments | None = None,
) -> Plan:
    """The plan of the settings, with their venue directory and instruments where these have been loaded already.

    Raises
    ------
    InputError
    """
    directory = directory or directory_of(settings)
    instruments = Instruments.load(settings.instruments) if instruments is None else instruments
    new_router = _routers(settings, directory)

    def new_books(depth: int) -> Books:
        return Books(directory, venues_from, depth, _new_outflows(settings), settings.max_symbols, instruments)

    new_books(1)
    return Plan(settings, venues_from, new_router, new_router(None, None), new_books, directory, instruments)


def directory_of(settings: RoutingSettings | WorkSettings) -> VenueDirectory:
    """The venues with the rules of the market.

    Raises
    ------
    InputError
    """
    return VenueDirectory.load(settings.venues, Policy.load(settings.policy))


def new_pipeline(
    plan: Plan,
    decoder: Decoder,
    sink: Sink,
    *,
    recovery: Recovery | None = None,
    conflate: bool = False,
    max_age: float | None = None,
    log_level: int = logging.DEBUG,
) -> Pipeline:
    """What routes one order on every message."""
    settings, depth = plan.settings, plan.router.depth
    return Pipeline(
        decoder,
        lambda: plan.new_books(depth),
        plan.router,
        order_of(settings, plan.venues_from),
        sink,
        symbol=settings.symbol,
        conflate=conflate,
        max_age=max_age,
        recovery=recovery,
        log_level=log_level,
    )


def order_of(settings: RoutingSettings, venues_from: str) -> Order:
    """The one order of a run, for any symbol; it is told, with how it is routed."""
    size = settings.order_size
    # Decimals are checked against the lot of each symbol that they are for.
    any_lot = None if isinstance(size, int) else Instrument(lot=Decimal(1).scaleb(int(size.as_tuple().exponent)))
    order = Order("*", settings.side, size, settings.limit_price, instrument=any_lot)  # type: ignore[arg-type]
    logger.info("SOR Configuration: Order size: %s", size)
    limit = "" if settings.limit_price is None else f", limit {settings.limit_price:g}"
    _log_configuration(settings, venues_from, f"{settings.side}{limit}")
    return order


def new_order_pipeline(
    plan: Plan, settings: ConsumeSettings, sink: Sink, feed: Feed, recovery: OrderRecovery
) -> OrderPipeline:
    """What routes orders."""
    age = settings.max_age
    terms = Terms(None if age is None else 1e3 * age, settings.order_wait, round(1e3 * settings.order_memory))
    what = f"orders from {settings.orders_topic}, books from {settings.topic}"
    _log_configuration(settings, plan.venues_from, what)
    known = plan.instruments
    return OrderPipeline(lambda: plan.new_books(DEPTH), plan.new_router, sink, feed, recovery, terms, instruments=known)


def _routers(settings: RoutingSettings, directory: VenueDirectory) -> NewRouter:
    """Makes routers as the settings say, with an algorithm and an objective of an order's own."""
    age = settings.max_quote_age
    excluded = directory.check_ids(settings.exclude_venues)
    ruled = [entry.venue_id for entry in directory if entry.rules]
    if ruled and settings.objective == "notional":
        raise InputError(
            f"--objective is 'notional', and {settings.venues} has rules of {', '.join(ruled)}: it must be sweep or "
            "shortfall"
        )
    return lambda algorithm, objective: Router(
        settings.parameters,
        algorithm or settings.algorithm,
        objective or settings.objective,
        max_quote_age=None if age is None else round(age * 1e9),
        exclude_venues=excluded,
        min_windows=settings.min_windows,
        protect=settings.protect,
        policy=directory.policy,
    )


def _new_outflows(settings: RoutingSettings) -> Callable[[], Outflows] | None:
    """What each book counts, where it is needed."""
    if settings.algorithm != "cont_kukanov":
        return None
    return partial(Outflows, settings.horizon * 10**9, settings.windows)


def wants_events(settings: RoutingSettings) -> bool:
    """Whether what has happened is of interest, beside what it has left."""
    return settings.algorithm == "cont_kukanov"


def _log_configuration(settings: RoutingSettings, venues_from: str, what: str) -> None:
    par = settings.parameters
    if kernels.BACKEND == "python":
        logger.warning("pure-Python kernels, the same results but slower: %s", kernels.WHY)
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
