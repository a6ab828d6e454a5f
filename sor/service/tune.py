"""`sor tune`: which parameters would have been cheapest, and whether they were on days after."""

from __future__ import annotations

import shlex

from sor.backtest.tuning import OF_SCHEDULE, Tuning
from sor.backtest.tuning import tune as run
from sor.errors import InputError
from sor.execution.strategies import PENALTIES
from sor.service.backtest import tell, worked
from sor.service.settings import TuneSettings, options_of


def tune(settings: TuneSettings) -> int:
    """Try the points and tell what came of them, with the flags that the best one is for `sor consume`."""
    space = dict(settings.space) or None
    if space is None and settings.routing != "cont_kukanov":
        raise InputError("--space is missing: it has a default for --routing cont_kukanov only")
    found, status = worked(
        "tune",
        settings,
        lambda feed, orders, **more: run(
            feed,
            orders,
            settings.schedule,
            settings.routing,
            space,
            search=settings.search,
            points=settings.points,
            train_days=settings.train_days,
            **more,
        ),
    )
    ready = ready_of(found, settings)
    tell(found, settings, ready)
    return status


def ready_of(found: Tuning, settings: TuneSettings) -> dict[str, object]:
    """The best point as flags and variables: of `sor consume` where it is a routing of its own, else of a backtest."""
    best = found.best
    if settings.schedule in OF_SCHEDULE or settings.routing != "cont_kukanov":
        given = {"schedule": best.schedule, "routing": best.routing}
        command = "backtest"
    else:
        values = {name: getattr(settings, name) for name in PENALTIES} | {"horizon": settings.placement}
        values |= best.parameters
        given = {"algorithm": "cont_kukanov"} | {name: f"{value:.15g}" for name, value in values.items()}
        command = "consume"
    known = {option.field: option for option in options_of(command)}
    return {
        "command": f"sor {command}",
        "flags": shlex.join([word for name, value in given.items() for word in (known[name].name, value)]),
        "environment": {known[name].variable: value for name, value in given.items()},
    }
