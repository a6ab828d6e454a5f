"""Ways to split released shares over venues: what is to be judged, and what it is judged against.

One source for both backends, as `sor.market._quotes`. All of these take; what rests stands in `resting.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sor.execution import _worker_py as workers  # compiled, its classes are those of `_worker`, as `_routings.pxd` says
from sor.kernels import core

FREE = 0.0  # penalties, where displayed shares are taken: they change no split


class Taking(workers.Routing):
    """Orders from shares by row of the offers: one a venue, at the worst price of its rows."""

    def children(self, offers: workers.Offers, taken: list[int]) -> list[workers.Child]:
        found: list[workers.Child] = []
        child: Any = None
        for row in range(offers.count):
            shares = taken[row]
            if not shares:
                continue
            if child is not None and child.slot == offers.slot[row]:
                child.shares += shares
                child.price = offers.price[row]
            else:
                child = workers.Child(offers.slot[row], offers.price[row], shares)
                found.append(child)
        return found


class Sweep(Taking):
    """Least price + fee first, by the router's own kernel: of each venue's best level, or of all levels."""

    def __init__(self, every_level: bool) -> None:
        self.every_level = every_level
        self.quotes: Any = np.zeros((0, 4))

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        sizes = [offers.size[row] if offers.first[row] or self.every_level else 0 for row in range(offers.count)]
        total = 0
        for size in sizes:
            total += size
        if total > shares:
            sizes = self.cheapest(worker, sizes, shares)
        return self.children(offers, sizes) if total else []

    def cheapest(self, worker: workers.Worker, sizes: list[int], shares: int) -> list[int]:
        offers, count = worker.offers, worker.offers.count
        if len(self.quotes) < count:
            self.quotes = np.zeros((2 * count, 4))
        rows = self.quotes[:count]
        cells = rows.data
        for row in range(count):
            price = offers.price[row] / 1e9
            cells[row, 0], cells[row, 1] = price, sizes[row]
            cells[row, 2] = worker.view.rates[offers.slot[row]].fee_at(-price if worker.side else price)
        found: list[int] = core.sweep(rows, shares, FREE, FREE, FREE, FREE)[0]
        return found


class Nbbo(Taking):
    """The venues at the best price and no other, in proportion to what they show; what is over, in their order.

    While all that is shown at the best price is under way, no other price is the best.
    """

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        shown = [offers.size[row] if offers.price[row] == offers.best else 0 for row in range(offers.count)]
        return self.children(offers, in_proportion(shown, shares))


class BestVenue(Taking):
    """All to the venue at the best price; of several to that which shows most, then to the first."""

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        slot, size = -1, 0
        for row in range(offers.count):
            if offers.price[row] == offers.best and offers.size[row] > size:
                slot, size = offers.slot[row], offers.size[row]
        return [workers.Child(slot, offers.best, size if size < shares else shares)] if size else []


class ProRata(Taking):
    """All venues that show something, in proportion to it, each at its own best price."""

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        shown = [offers.size[row] if offers.first[row] else 0 for row in range(offers.count)]
        return self.children(offers, in_proportion(shown, shares))


class Equal(Taking):
    """All venues that show something, in equal parts, none more than it shows."""

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        venues = 0
        for row in range(offers.count):
            venues += offers.first[row]
        if not venues:
            return []
        part, over = shares // venues, shares % venues
        taken = []
        for row in range(offers.count):
            wanted = 0
            if offers.first[row]:
                wanted = part + (1 if over > 0 else 0)
                over -= 1
            size = offers.size[row]
            taken.append(size if size < wanted else wanted)
        return self.children(offers, taken)


class Single(Taking):
    """One venue only; nothing where it shows nothing."""

    def __init__(self, venue: str) -> None:
        self.venue = venue

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers, venues = worker.offers, worker.view.venues
        for row in range(offers.count):
            if offers.first[row] and venues[offers.slot[row]] == self.venue:
                size = offers.size[row]
                return [workers.Child(offers.slot[row], offers.price[row], size if size < shares else shares)]
        return []


def in_proportion(shown: list[int], shares: int) -> list[int]:
    """Whole shares in proportion to what is shown, at most that; what is over, one by one from the first on."""
    total = 0
    for size in shown:
        total += size
    if total <= shares:
        return shown
    taken = [shares * size // total for size in shown]
    over = shares
    for part in taken:
        over -= part
    for i, size in enumerate(shown):
        if over == 0:
            break
        if taken[i] < size:
            taken[i] += 1
            over -= 1
    return taken
