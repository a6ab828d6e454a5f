"""Ways to split released shares over venues: what is to be judged, and what it is judged against.

Where venues have rules (`View.ruled`), every order keeps those of its venue. One source for both backends, as
`sor.market._quotes`. All of these take; what rests stands in `resting.py`.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from sor.execution import _worker_py as workers  # compiled, its classes are those of `_worker`, as `_routings.pxd` says
from sor.kernels import core
from sor.models.static import MOST_CELLS, NEARLY
from sor.types import MAX_ORDER

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

    def accepted(self, worker: workers.Worker, taken: list[int]) -> list[workers.Child]:
        """The same of one row a venue, where each gets no more than it takes under its rules."""
        offers = worker.offers
        if worker.view.ruled:
            terms = worker.view.terms
            for row in range(offers.count):
                if taken[row]:
                    taken[row] = terms[offers.slot[row]].cut(taken[row], abs(offers.price[row]) / 1e9)
        return self.children(offers, taken)

    def of_one(self, worker: workers.Worker, row: int, shares: int) -> list[workers.Child]:
        """All from one row, as far as it goes."""
        taken = [0] * worker.offers.count
        size = worker.offers.size[row]
        taken[row] = size if size < shares else shares
        return self.accepted(worker, taken)


class Sweep(Taking):
    """Least price + fee first, by the router's own kernels: of each venue's best level, or of all levels.

    Under rules as many shares as they allow, and of the splits that do that the cheapest, tickets included.
    """

    def __init__(self, every_level: bool) -> None:
        self.every_level = every_level
        self.quotes: Any = np.zeros((0, 4))

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        sizes = [offers.size[row] if offers.first[row] or self.every_level else 0 for row in range(offers.count)]
        total = 0
        for size in sizes:
            total += size
        if total == 0:
            return []
        if worker.view.ruled:
            return self.by_rules(worker, sizes, shares)
        if total > shares:
            sizes = self.cheapest(worker, sizes, shares)
        return self.children(offers, sizes)

    def cheapest(self, worker: workers.Worker, sizes: list[int], shares: int) -> list[int]:
        found: list[int] = core.sweep(self.rows(worker, sizes), shares, FREE, FREE, FREE, FREE)[0]
        return found

    def by_rules(self, worker: workers.Worker, sizes: list[int], shares: int) -> list[workers.Child]:
        rules, free = worker.view.rules.copy(), (FREE, FREE, FREE, FREE)
        rows = self.rows(worker, sizes)
        counts = [0] * len(rules)
        for row in range(worker.offers.count):
            counts[worker.offers.slot[row]] += 1
        while True:
            taken, _, _ = core.sweep_by_rules(rows, counts, rules, NEARLY, shares, *free, True, MOST_CELLS)
            children = self.children(worker.offers, taken)
            if not self.raised(worker, children, rules):
                return children

    def raised(self, worker: workers.Worker, children: list[workers.Child], rules: Any) -> bool:
        """Whether sales are worth too little at their own price, which their venues go by: these are to be larger."""
        found = False
        for child in children:
            terms, price = worker.view.terms[child.slot], abs(child.price) / 1e9
            if not terms.enough(child.shares * price):
                least = terms.min_notional / price if price else MAX_ORDER
                rules[child.slot, 1] = min(max(child.shares + 1, ceil(least)), MAX_ORDER)
                found = True
        return found

    def rows(self, worker: workers.Worker, sizes: list[int]) -> Any:
        """The offers as kernels take them."""
        offers, count = worker.offers, worker.offers.count
        if len(self.quotes) < count:
            self.quotes = np.zeros((2 * count, 4))
        rows = self.quotes[:count]
        cells = rows.data
        for row in range(count):
            price = offers.price[row] / 1e9
            cells[row, 0], cells[row, 1] = price, sizes[row]
            cells[row, 2] = worker.view.rates[offers.slot[row]].fee_at(-price if worker.side else price)
        return rows


class PriceFee(Sweep):
    """What most routers do: least price + fee first over all levels, and rules where an order is sent.

    Each venue is sent what it takes of the shares that it would give at its turn, and the next gets the rest; tickets
    are not looked at.
    """

    def __init__(self) -> None:
        super().__init__(True)

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers, slots = worker.offers, worker.view.slots
        shown, sent = [0] * slots, [0] * slots
        left = shares
        for row in self.in_turn(worker):
            if left == 0:
                break
            slot = offers.slot[row]
            shown[slot] += offers.size[row]
            wanted = sent[slot] + left
            order = self.taken_by(worker, slot, shown[slot] if shown[slot] < wanted else wanted)
            if order > sent[slot]:
                left -= order - sent[slot]
                sent[slot] = order
        return self.children(offers, self.best_first(offers, sent))

    def in_turn(self, worker: workers.Worker) -> list[int]:
        offers = worker.offers
        rows = self.rows(worker, [offers.size[row] for row in range(offers.count)]).tolist()
        return [row for _, _, row in sorted([(cells[0] + cells[2], cells[0], row) for row, cells in enumerate(rows)])]

    def taken_by(self, worker: workers.Worker, slot: int, shares: int) -> int:
        """Of so many shares of a venue's best levels those that it takes."""
        if not worker.view.ruled:
            return shares
        offers, terms = worker.offers, worker.view.terms[slot]
        order: int = terms.whole(shares)
        left, price, worth = order, 0.0, 0.0
        for row in range(offers.count):
            if left and offers.slot[row] == slot:
                price = abs(offers.price[row]) / 1e9
                part = offers.size[row] if offers.size[row] < left else left
                worth += part * price
                left -= part
        return order if terms.enough(order * price if worker.side else worth) else 0

    def best_first(self, offers: workers.Offers, sent: list[int]) -> list[int]:
        """Shares by row from those by slot."""
        taken = []
        for row in range(offers.count):
            slot, size = offers.slot[row], offers.size[row]
            part = size if size < sent[slot] else sent[slot]
            sent[slot] -= part
            taken.append(part)
        return taken


class Nbbo(Taking):
    """The venues at the best price and no other, in proportion to what they show; what is over, in their order.

    While all that is shown at the best price is under way, no other price is the best.
    """

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        shown = [offers.size[row] if offers.price[row] == offers.best else 0 for row in range(offers.count)]
        return self.accepted(worker, in_proportion(shown, shares))


class BestVenue(Taking):
    """All to the venue at the best price; of several to that which shows most, then to the first."""

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        best, size = -1, 0
        for row in range(offers.count):
            if offers.price[row] == offers.best and offers.size[row] > size:
                best, size = row, offers.size[row]
        return self.of_one(worker, best, shares) if size else []


class ProRata(Taking):
    """All venues that show something, in proportion to it, each at its own best price."""

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers = worker.offers
        shown = [offers.size[row] if offers.first[row] else 0 for row in range(offers.count)]
        return self.accepted(worker, in_proportion(shown, shares))


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
        return self.accepted(worker, taken)


class Single(Taking):
    """One venue only; nothing where it shows nothing."""

    def __init__(self, venue: str) -> None:
        self.venue = venue

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        offers, venues = worker.offers, worker.view.venues
        for row in range(offers.count):
            if offers.first[row] and venues[offers.slot[row]] == self.venue:
                return self.of_one(worker, row, shares)
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
