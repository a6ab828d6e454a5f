"""`sor simulate`: a synthetic market, and the truth beside it."""

from __future__ import annotations

import contextlib

from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.backtest.truth import Truth
from sor.backtest.truth_file import Facts, OrdersCsv, OrdersTable
from sor.errors import Exit, InputError
from sor.market.parquet import ParquetFile
from sor.market.plain_file import PlainFile
from sor.market.venues import VenueDirectory
from sor.service.feeds import all_or_nothing
from sor.service.logs import report
from sor.service.settings import SimulateSettings, truth_files

TOLD_SIZE = 1000  # shares of the orders that routing's savings are told of


def simulate(settings: SimulateSettings) -> int:
    """Write a day's feed, the fate of its orders, and what is known of it; all of them or none."""
    output, beside = str(settings.output), truth_files(settings.output)
    if beside is None:
        what = "missing" if settings.output is None else repr(output)
        raise InputError(f"--output is {what}: it must be a file whose name ends in .parquet or .csv")
    orders_path, facts_path = beside
    directory = VenueDirectory.load(settings.venues)
    columnar = output.endswith(".parquet")
    with all_or_nothing(), contextlib.ExitStack() as stack:
        market = SyntheticMarket(scenario_of(settings), directory)
        day: ParquetFile | PlainFile
        day = ParquetFile(output) if columnar else PlainFile(output, settings.levels, directory)
        stack.enter_context(day)
        orders = OrdersTable(orders_path) if columnar else OrdersCsv(orders_path)
        stack.enter_context(orders)
        facts = stack.enter_context(Facts(facts_path))
        for batch in market.batches():
            day.add(batch)
        truth = market.truth
        orders.add(truth)
        facts.add(truth)
        for file in (day, orders, facts):
            file.complete()
    report.info(f"wrote {day.rows:,} rows of {len(truth.scenario.venues)} venues to {output}")
    report.info(f"wrote the fate of {len(truth.orders['id']):,} orders to {orders_path}, the rest to {facts_path}")
    for line in known(truth):
        report.info(line)
    report.info(f"next: sor backtest {output}")
    return Exit.DONE


def scenario_of(settings: SimulateSettings) -> Scenario:
    """The scenario that the settings describe.

    Raises
    ------
    InputError
        They describe none; it names the flag.
    """
    try:
        return Scenario(venues=settings.mics or Scenario.venues, depth=settings.levels, **settings.knobs)
    except InputError as error:
        name, _, rest = str(error).partition(" ")
        flag = {"venues": "mics", "depth": "levels"}.get(name, name).replace("_", "-")
        raise InputError(f"--{flag} {rest}") from None


def known(truth: Truth) -> list[str]:
    """What can be known of a market that was made, in two lines."""
    scenario = truth.scenario
    lines = []
    (saving,) = truth.savings((TOLD_SIZE,))
    if saving["orders"]:
        lines.append(
            f"routing: {TOLD_SIZE:,} shares at once cost {saving['best_bps']:.2f} bps at best and "
            f"{saving['nbbo_bps']:.2f} bps by price alone"
        )
    if scenario.count("jumps"):
        lines.append(
            f"latency: an order sent at the announcement of a jump pays ${scenario.latency_cost(1e9):.4f} a share more "
            f"after {scenario.jump_delay:g} s, in proportion before"
        )
    return lines
