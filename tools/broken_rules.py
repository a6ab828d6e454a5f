"""By how much a backtest lies where a rule is broken: ``python tools/broken_rules.py``.

Orders on a market that was made (`sor.backtest.synthetic`), worked rightly and wrongly, side by side. The package stays
as it is: a rule is broken by what goes into it, by a routing that cheats, or by how its results are read. docs/rules.md
holds what this prints, and tests/backtest/test_broken_rules.py the direction and the size of each lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

import sor
from sor.backtest import Orders, ParentOrder, Rules, Study
from sor.backtest.comparison import Comparison, Lives, compare
from sor.backtest.scenario import Scenario
from sor.backtest.synthetic import SyntheticMarket
from sor.backtest.work import QUEUES
from sor.market.columns import STANDS, Batch
from sor.market.taq import OFF_EXCHANGE
from sor.market.venues import VenueDirectory
from sor.types import SIDES

SECOND = 10**9
SCENARIO = Scenario(seed=1, duration=7200, depth=1)
DEEP = 5  # levels, where an order goes through several
HORIZON, SOON = 60 * SECOND, 10 * SECOND
BETWEEN = 60 * SECOND  # arrivals
CROWD = 10 * SECOND  # the same, where orders are to meet
HUGE, LARGE, SMALL, TOUCH = 10_000, 5_000, 1_000, 100  # shares of an order; the last are always at the best price
MINUTE = 60 * SECOND  # that a decision looks at
PATIENCE = 10  # s that an order rests before its venue is chosen anew
LATE = 250_000_000  # ns to a venue, where latency is judged
BLOCK_HORIZONS = 7  # three lives: a horizon, the grace of the end rule, and latency
WIDTH = 44


@dataclass(frozen=True)
class Result:
    """Orders as one way worked them."""

    study: Study
    rows: Any  # of the study's parents

    def __getitem__(self, name: str) -> Any:
        return self.study.parents[name][self.rows]

    @property
    def costs(self) -> Any:
        return self["shortfall_bps"]

    @property
    def costs_of_filled(self) -> Any:
        """As if what was not traded did not matter: bps of what was."""
        with np.errstate(invalid="ignore"):
            return (self["shortfall"] - self["end_cost"]) / (self["filled"] * self["mid"]) * 1e4

    def filled(self, within: int) -> float:
        """Part of the size that was traded within so many nanoseconds of the arrival."""
        fills, arrivals = self.study.fills, dict(zip(self["order"].tolist(), self["arrival"].tolist(), strict=True))
        mine = np.logical_and.reduce([fills[name] == self[name][0] for name in ("schedule", "routing", "queue")])
        began = np.array([arrivals[order] for order in fills["order"][mine].tolist()], np.int64)
        return float(fills["shares"][mine][fills["time"][mine] <= began + within].sum() / self["size"].sum())

    @property
    def seconds(self) -> float:
        return float(((self["done"] - self["arrival"]) / SECOND).mean())


@dataclass(frozen=True)
class Line:
    """A result, and what it would have been said to save."""

    way: str
    shortfall_bps: float
    early: float  # part that was filled soon
    filled: float  # within the horizon
    seconds: float  # until nothing more is done
    difference: Comparison | None  # to the baseline, negative is saved; None: it is the baseline


@dataclass(frozen=True)
class Lie:
    rule: str
    broken: str
    right: Line
    wrong: Line

    @property
    def bps(self) -> float:
        """By how much a cost is told too high; mostly it is too low."""
        return self.wrong.shortfall_bps - self.right.shortfall_bps


def line(way: str, mine: Result, base: Result, costs: Any = None) -> Line:
    """A way's line; ``costs`` in bps by order are those of the result where no others are given."""
    costs = mine.costs if costs is None else costs
    differences = costs - base.costs
    known = np.isfinite(differences)
    rules = mine.study.rules
    over = rules.grace + 2 * max(rules.latency["*"])
    opens = np.full(len(costs), mine.study.days[0].opens)
    lives = Lives(*(one[known] for one in (mine["day"], mine["arrival"], mine["end"] + over, opens)))
    difference = None if mine is base else compare(differences[known], lives, HORIZON, BLOCK_HORIZONS)
    mean = float(costs[np.isfinite(costs)].mean())
    return Line(way, mean, mine.filled(SOON), mine.filled(HORIZON), mine.seconds, difference)


# --- routings --------------------------------------------------------------------------------------------------------


class Rest:
    """Rests at the best price of its side, at the venue that shows least there, and chooses anew now and then."""

    name = "rest"

    def split(self, market: Any, shares: int) -> list[Any]:
        sign = 1 if market.side == "buy" else -1
        places = [(-sign * price, size, venue) for venue, (price, size) in market.queues.items()]
        if not places:
            return []
        price, _, venue = min(places)
        return [market.rest(venue, shares, -sign * price, seconds=PATIENCE)]


class Patient:
    """Takes at the best price, but not while the mid is better at some time of a minute that it looks at.

    Parameters
    ----------
    times, mids : array
        Of the whole feed.
    ahead : bool
        Whether the minute is the next one, which nobody knows; else the last.
    """

    def __init__(self, times: Any, mids: Any, ahead: bool) -> None:
        self._times, self._mids, self._ahead = times, mids, ahead
        self.name = "next minute" if ahead else "last minute"

    def split(self, market: Any, shares: int) -> list[Any]:
        begin = market.time if self._ahead else market.time - MINUTE
        first, last = np.searchsorted(self._times, [begin, begin + MINUTE], "right")
        seen = self._mids[max(first - 1, 0) : last]
        better = seen.min() < market.mid if market.side == "buy" else seen.max() > market.mid
        return [] if better else at_the_best(market, shares)


def at_the_best(market: Any, shares: int) -> list[Any]:
    """Orders for what is shown at the best price, venue by venue."""
    pick = min if market.side == "buy" else max
    best = pick((offer.price for offer in market.offers), default=None)
    found = []
    for offer in market.offers:
        taken = min(shares, offer.size) if offer.price == best else 0
        if taken:
            found.append(market.take(offer.venue, taken, offer.price))
            shares -= taken
    return found


# --- feeds and directories -------------------------------------------------------------------------------------------


def mids_of(feed: list[Batch]) -> tuple[Any, Any]:
    """The mid after each quote of a feed that shows one level, and when it is known."""
    best: dict[int, tuple[int, int]] = {}
    times, mids = [], []
    for batch in feed:
        columns = (batch.receipt, batch.publisher, batch.bid_size[:, 0], batch.ask_size[:, 0])
        prices = batch.bid_price[:, 0], batch.ask_price[:, 0]
        for time, publisher, bids, asks, bid, ask in zip(*(one.tolist() for one in (*columns, *prices)), strict=True):
            if bids == STANDS:
                continue
            best[publisher] = bid if bids else 0, ask if asks else 2**62
            times.append(time)
            mids.append((max(bid for bid, _ in best.values()) + min(ask for _, ask in best.values())) / 2e9)
    return np.array(times), np.array(mids)


def without_fees(directory: VenueDirectory) -> VenueDirectory:
    free = {"taker_fee": 0.0, "maker_rebate": 0.0, "sub_dollar": None}
    change = msgspec.structs.replace
    entries = [change(entry, figures=tuple(change(figure, **free) for figure in entry.figures)) for entry in directory]
    return VenueDirectory(entries, change(directory.default, **free))


def shown_anew(feed: list[Batch]) -> list[Batch]:
    """A feed in which a venue shows a share a level just before each of its quotes, so that all others are new."""
    found = []
    for batch in feed:
        rows = np.repeat(np.arange(len(batch)), np.where(batch.quotes, 2, 1))
        before = np.append(rows[1:] == rows[:-1], False)
        copies = batch.take(rows)
        sizes = {
            name: np.where(before[:, None], np.minimum(getattr(copies, name), 1), getattr(copies, name))
            for name in ("bid_size", "ask_size")
        }
        found.append(replace(copies, action=np.where(before, 0, copies.action).astype(np.uint8), **sizes))
    return found


def printed_at(feed: list[Batch], publisher: int) -> list[Batch]:
    """A feed whose prints off exchange are told as those of a venue."""
    return [
        replace(
            batch, publisher=np.where(batch.publisher == OFF_EXCHANGE, publisher, batch.publisher).astype(np.uint16)
        )
        for batch in feed
    ]


# --- what is broken --------------------------------------------------------------------------------------------------


class Trials:
    """The market, and each rule as it is and broken."""

    def __init__(self, scenario: Scenario = SCENARIO) -> None:
        self.scenario = scenario
        self.market = SyntheticMarket(scenario)
        self.feed = list(self.market.batches())
        self.deep = list(SyntheticMarket(replace(scenario, depth=DEEP)).batches())  # of the same market

    def study(
        self,
        routing: Any,
        size: int = SMALL,
        *,
        schedule: str = "immediate",
        orders: Any = None,
        feed: list[Batch] | None = None,
        directory: VenueDirectory | None = None,
        **rules: Any,
    ) -> Callable[..., Result]:
        """One routing beside nbbo, both also at once; called with names, what became of the orders."""
        orders = Orders(sizes=(size,), sides=SIDES, every=BETWEEN) if orders is None else orders
        rules = {"horizon": HORIZON, "queues": (QUEUES[0],)} | rules
        ways = [("immediate", "nbbo"), (schedule, routing)]
        study = sor.backtest(
            self.feed if feed is None else feed, orders, ways, rules=Rules(**rules), directory=directory
        )

        def result(routing: str, schedule: str = "immediate", queue: str = QUEUES[0]) -> Result:
            wanted = {"schedule": schedule, "routing": routing, "queue": QUEUES.index(queue)}
            chosen = np.logical_and.reduce([study.parents[name] == value for name, value in wanted.items()])
            return Result(study, np.flatnonzero(chosen))

        return result

    def filled_twice(self) -> Lie:
        right, wrong = (self.study("nbbo", HUGE, feed=feed)("nbbo") for feed in (self.feed, shown_anew(self.feed)))
        return Lie(
            "2",
            "displayed shares are filled again at each row",
            line("nbbo", right, right),
            line("nbbo", wrong, right),
        )

    def look_ahead(self) -> Lie:
        times, mids = mids_of(self.feed)
        lines = []
        for ahead in (False, True):
            routing = Patient(times, mids, ahead)
            study = self.study(routing)
            lines.append(line(f"patient, by the {routing.name}", study(routing.name), study("nbbo")))
        return Lie("1", "a decision knows the rows of the next minute", *lines)

    def no_fees(self) -> Lie:
        lines = []
        for name, directory in (("fees", None), ("no fees", without_fees(self.market.directory))):
            study = self.study("brute_force", directory=directory)
            lines.append(line(f"brute_force, {name}", study("brute_force"), study("nbbo")))
        return Lie("9", "no venue charges or pays anything", *lines)

    def unequal_shares(self) -> Lie:
        right, wrong = (self.study(Rest(), complete=complete) for complete in (True, False))
        return Lie(
            "end",
            "what was not filled costs nothing",
            line("rest, then taken", right("rest"), right("nbbo")),
            line("rest, the filled alone", wrong("rest"), wrong("nbbo"), wrong("rest").costs_of_filled),
        )

    def waiting_as_routing(self) -> Lie:
        study = self.study("brute_force", LARGE, schedule="twap:10", feed=self.deep)
        mine = study("brute_force", "twap:10")
        return Lie(
            "words",
            "waiting counts as routing",
            line("twap x brute_force, to twap x nbbo", mine, study("nbbo", "twap:10")),
            line("twap x brute_force, to immediate x nbbo", mine, study("nbbo")),
        )

    def no_latency(self) -> Lie:
        right, wrong = (
            self.study("nbbo", orders=self.announced(), latency={"*": (latency,)})("nbbo") for latency in (LATE, 0)
        )
        return Lie(
            "3",
            "orders arrive as they are sent, when a jump is announced",
            line("nbbo, 250 ms away", right, right),
            line("nbbo, no latency", wrong, right),
        )

    def announced(self) -> list[ParentOrder]:
        """Orders in the direction of each jump, when it is announced."""
        last = self.scenario.end - 3 * HORIZON
        return [
            ParentOrder(symbol=self.scenario.symbol, side=SIDES[ticks < 0], quantity=TOUCH, arrival=time)
            for time, _, ticks in self.market.truth.announcements.tolist()
            if time < last
        ]

    def front_of_the_queue(self) -> Lie:
        study = self.study(Rest(), queues=QUEUES)
        return Lie(
            "4",
            "of what is cancelled all was before us",
            *(line(f"rest, {queue}", study("rest", queue=queue), study("nbbo")) for queue in (QUEUES[0], QUEUES[2])),
        )

    def prints_elsewhere(self) -> Lie:
        publisher = self.market.directory.publisher_of(self.scenario.venues[-1])
        lines = []
        for name, feed in (("fill nobody", self.feed), ("fill", printed_at(self.feed, publisher))):
            study = self.study(Rest(), feed=feed)
            lines.append(line(f"rest, prints off exchange {name}", study("rest"), study("nbbo")))
        return Lie("5", "prints off exchange fill orders at a venue", *lines)

    def neighbours(self) -> Lie:
        orders = Orders(sizes=(LARGE,), sides=SIDES, every=CROWD)
        right, wrong = (self.study("nbbo", orders=orders, together=together)("nbbo") for together in (False, True))
        return Lie(
            "8",
            "orders of other moments use up what is shown",
            line("nbbo, an order every 10 s, apart", right, right),
            line("nbbo, an order every 10 s, together", wrong, right),
        )

    def lies(self) -> list[Lie]:
        return [
            self.filled_twice(),
            self.look_ahead(),
            self.no_fees(),
            self.unequal_shares(),
            self.waiting_as_routing(),
            self.no_latency(),
            self.front_of_the_queue(),
            self.prints_elsewhere(),
            self.neighbours(),
        ]


# --- for people ------------------------------------------------------------------------------------------------------


def table(lies: list[Lie]) -> list[str]:
    titles = f"{'shortfall':>12}{'in 10 s':>9}{'in 60 s':>9}{'time':>9}"
    found = [f"{'rule':<7}{'':<{WIDTH}}{titles}   saved against nbbo, 95 % interval"]
    for lie in lies:
        found += ["", f"{lie.rule:<7}{lie.broken}"]
        for name, one in (("right", lie.right), ("wrong", lie.wrong)):
            figures = f"{one.shortfall_bps:>8.2f} bps{one.early:>9.1%}{one.filled:>9.1%}{one.seconds:>7.1f} s"
            found.append(f"  {name:<7}{one.way:<{WIDTH - 2}}{figures}   {saved(one.difference)}")
    return found


def saved(difference: Comparison | None) -> str:
    if difference is None:
        return "the baseline"
    if difference.low is None or difference.high is None or difference.difference_bps is None:
        return "no interval"
    mean, low, high = (
        f"{round(-bps, 2) + 0.0:.2f}" for bps in (difference.difference_bps, difference.high, difference.low)
    )
    return f"{mean} bps ({low} to {high})"


if __name__ == "__main__":
    print("\n".join(table(Trials().lies())))
