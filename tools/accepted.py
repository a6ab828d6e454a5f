"""Orders of every routing at venues that reject what breaks their rules: ``python tools/accepted.py``.

Venues with rules drawn at random show books drawn at random, parent orders are worked on these, and each order that is
sent is judged by its venue. How it judges is written here once more, in whole numbers, from what docs/allocator.md says
of rules: nothing of ours is asked. tests/execution/test_accepted.py tries some thousands.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from sor.routing.terms import Terms
from sor.types import CostParameters

CENT = 10**7  # of 1e-9 dollars
SECOND = 10**9
NEVER = 2**62
STEPS = 12  # changes of the book in the life of a parent order
ROUTINGS = (
    "brute_force",
    "greedy_l2",
    "price_fee",
    "nbbo",
    "best_venue",
    "pro_rata",
    "equal",
    "single:V0",
    "cont_kukanov",
)
ROWS = 64  # of a venue


class Rule(NamedTuple):
    """What a venue takes: shares and dollars, the tick in cents; 0: no tick."""

    lot: int
    min_quantity: int
    min_notional: int
    min_execution: int
    max_quantity: int | None
    ticket: float
    tick: int

    def terms(self) -> Terms:
        most = float("inf") if self.max_quantity is None else float(self.max_quantity)
        least = float(self.min_quantity), float(self.min_notional), float(self.min_execution)
        return Terms(float(self.lot), *least, most, self.ticket, self.tick / 100)


def rejects(rule: Rule, order: Any, shown: list[tuple[int, int]]) -> str | None:
    """Why a venue takes an order not; ``shown``: prices (1e-9 dollars, a bid's negated) and sizes, the best first."""
    shares, price = order.shares, abs(order.price)
    if shares <= 0 or shares % rule.lot:
        return "lot"
    if shares < rule.min_quantity:
        return "minimum"
    if rule.max_quantity is not None and shares > rule.max_quantity:
        return "maximum"
    if shares < rule.min_execution:
        return "execution"
    if shares * price < rule.min_notional * (10**9 - 1):  # a part of 10^-9 less will do, as venues count in floats
        return "notional"
    if order.rests:
        return "tick" if rule.tick and (price == 0 or price % (rule.tick * CENT)) else None
    there = sum(size for signed, size in shown if signed <= order.price)
    return "execution" if there < rule.min_execution else None


class Fee:
    """What a venue charges, dollars a share."""

    def __init__(self, fee: float) -> None:
        self.fee = fee

    def fee_at(self, price: float) -> float:
        return self.fee

    def rebate_at(self, price: float) -> float:
        return self.fee - 0.001


class Outflows:
    """What has left queues, known from the start."""

    horizon = 60 * SECOND

    def __init__(self, samples: np.ndarray) -> None:
        self.table = samples

    def samples(self, side: str, venues: list[int]) -> np.ndarray:
        return np.ascontiguousarray(self.table[:, : len(venues)])


def drawn_rule(draw: Random, cents: int) -> Rule:
    """Many venues have no rule, and most have few."""
    if draw.random() < 0.2:
        return Rule(1, 0, 0, 0, None, 0.0, 0)

    def some(*values: Any) -> Any:
        return values[0] if draw.random() < 0.6 else draw.choice(values)

    return Rule(
        some(1, 100, 10, 7),
        some(0, 150, 200, 1000),
        some(0, *(cents * shares // 100 for shares in (110, 240, 330, 720))),
        some(0, 50, 300),
        some(None, 100, 250, 2_000),
        some(0.0, 0.5, 3.0),
        some(0, 1, 5, 10),
    )


def drawn_rows(draw: np.random.Generator, depth: int, cents: int) -> list[Any]:
    """Columns of a venue's rows, as `View.show_row` takes them; a level in ten shows nothing."""
    columns: list[Any] = []
    for sign in (-1, 1):
        steps = draw.integers(0, 3, (ROWS, depth))
        steps[:, 1:] += 1
        prices = np.maximum(cents + sign * (1 + steps.cumsum(axis=1)), 1) * CENT
        sizes = draw.choice([0, 37, 60, 100, 150, 200, 300, 500, 1_000], (ROWS, depth), p=[0.1, 0.1, *[0.8 / 7] * 7])
        columns += [prices.astype(np.int64), sizes.astype(np.int64)]
    return columns


class Place:
    """Venues, what they take and what they show."""

    def __init__(self, machine: Any, seed: int, told: bool) -> None:
        self.draw = Random(seed)
        table = np.random.default_rng(seed)
        venues, self.depth, cents = (
            self.draw.randint(1, 8),
            self.draw.randint(1, 4),
            self.draw.choice([30, 1_000, 9_999]),
        )
        self.rules = [drawn_rule(self.draw, cents) for _ in range(venues)]
        self.rows = [drawn_rows(table, self.depth, cents) for _ in range(venues)]
        self.outflows = Outflows(table.poisson(900, (8, venues)).astype(float))
        rates = [Fee(self.draw.choice([0.003, 0.0, -0.001, 0.0012])) for _ in range(venues)]
        self.view = machine.views.View([f"V{slot}" for slot in range(venues)], rates, self.depth)
        if told:
            self.view.take_terms([rule.terms() for rule in self.rules])
        for slot in range(venues):
            self.show(slot)

    def show(self, slot: int) -> None:
        """Any of its rows."""
        self.view.show_row(slot, *self.rows[slot], self.draw.randrange(ROWS))

    def shown(self, side: int, slot: int) -> list[tuple[int, int]]:
        first = side * self.view.width + slot * self.depth
        return [
            (self.view.price[at], self.view.size[at]) for at in range(first, first + self.depth) if self.view.size[at]
        ]


def worker_of(machine: Any, place: Place, name: str) -> Any:
    strategies, draw = machine.strategies, place.draw
    made = strategies.strategy("twap:3", name)
    setting = strategies.Setting(CostParameters(lambda_over=0.02, lambda_under=0.03), 8, place.outflows)
    return machine.workers.Worker(
        draw.randrange(2), draw.choice([99, 300, 1_000, 2_345, 5_000]), NEVER, 0, STEPS * SECOND,
        made.make_schedule(setting), made.make_routing(setting), strategies.TAKING["greedy_l2"](), SECOND, 0,
    )  # fmt: skip


def worked(machine: Any, place: Place, name: str, found: Counter[tuple[str, str | None]]) -> None:
    """A parent order to its end: every order is judged, and those that are taken trade in part."""
    worker = worker_of(machine, place, name)
    worker.begin(place.view, None, 0)
    draw, resting = place.draw, []
    for step in range(1, STEPS + 2):
        out, now = list(worker.out), step * SECOND
        worker.out.clear()
        for order in out:
            if hasattr(order, "child"):
                worker.on_ended(order.child.number, order.child.done(), now, False, True)
                continue
            why = rejects(place.rules[order.slot], order, place.shown(worker.side, order.slot))
            found[name, why] += 1
            if why is not None:
                worker.on_ended(order.number, 0, now, True, True)
            elif order.rests:
                resting.append(order)
            else:
                filled(worker, order, draw.choice([order.shares, order.shares, order.shares // 2]), now)
                worker.on_ended(order.number, order.done(), now, False, True)
        for order in resting:
            if order.alive and draw.random() < 0.3:
                filled(worker, order, draw.randint(1, order.working()), now)
        if worker.done:
            break
        for slot in range(len(place.rules)):
            if draw.random() < 0.5:
                place.show(slot)
        worker.on_book(now)


def filled(worker: Any, order: Any, shares: int, now: int) -> None:
    if shares:
        worker.on_filled(order.number, (now, order.done()), shares, now, True)


def run(machine: Any, orders: int, seed: int, told: bool = True) -> Counter[tuple[str, str | None]]:
    """So many orders or a few more, by routing and why they were rejected; ``told``: whether they know the rules."""
    found: Counter[tuple[str, str | None]] = Counter()
    while found.total() < orders:
        place = Place(machine, seed, told)
        for name in ROUTINGS:
            worked(machine, place, name, found)
        seed += 1
    return found


def main() -> int:
    from sor.execution import strategies
    from sor.kernels import BACKEND, pick

    machine = SimpleNamespace(
        views=pick("sor.execution._view"), workers=pick("sor.execution._worker"), strategies=strategies
    )
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    found = run(machine, given.orders, given.seed)
    for name in ROUTINGS:
        reasons = {str(why): count for (one, why), count in found.items() if one == name}
        print(f"{name:12} {reasons.pop('None', 0):9,} taken", *(f"{count:,} {why}" for why, count in reasons.items()))
    rejected = sum(count for (_, why), count in found.items() if why is not None)
    seconds = time.monotonic() - begun
    print(f"{found.total():,} orders, {rejected:,} rejected ({BACKEND}, seed {given.seed}, {seconds:.0f} s)")
    return 1 if rejected else 0


if __name__ == "__main__":
    sys.exit(main())
