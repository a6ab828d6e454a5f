# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""What venues show to who works an order, and what of it is spoken for.

One source for both backends, as `sor.market._quotes`: run as it stands, or compiled with the types of `_view.pxd`.
Prices are integers of 1e-9 dollars, **signed so that less is better for who takes**: offers as they are, bids negated.
Side 0 is what a buyer takes, side 1 what a seller takes; an order that rests stands on the other side than it takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sor.market.columns import NO_PRICE
from sor.routing.terms import FREE, rows_of

NOTHING = 2**62  # a price where nothing is shown: worse than any
FIRST_ENTRIES = 8


class View:
    """The levels that each venue shows of one symbol, best first, and the best of all.

    Attributes
    ----------
    venues : list of str
        Their ids, by slot.
    depth : int
        Levels of a venue and side.
    price, size : int64, (2 * venues * depth)
        By side, then slot, then level; a level without shares shows nothing.
    rates : list of Rates
        By slot.
    slots : int
        Venues so far; of more names the others are none yet.
    updates : int64, (venues)
        Rows of each venue so far.
    best : int64, (2)
        The best price of each side, `NOTHING` where there is none; ``best_slot`` is the first venue that shows it.
    last : int64, (2)
        The same, or where there is none the last there was.
    mid2 : int
        Twice the mid, the last one there was; ``has_mid`` says whether it is of now.
    volume : int
        Shares printed so far.
    terms : list of Terms
        What each venue takes, by slot, see `take_terms`; ``ruled`` is whether any of them bind, and ``rules`` are then
        these as the kernels take them.
    """

    def __init__(self, venues: list[str], rates: list[Any], depth: int) -> None:
        slots = len(venues)
        self.venues, self.rates, self.depth, self.slots = venues, rates, depth, slots
        self.width = slots * depth
        self.price = np.full(2 * self.width, NOTHING, np.int64).data
        self.size = np.zeros(2 * self.width, np.int64).data
        self.before = np.full(slots, -1, np.int64).data  # each venue's last row in the arrays in use; -1: none
        self.updates = np.zeros(slots, np.int64).data
        self.best = np.full(2, NOTHING, np.int64).data
        self.best_slot = np.full(2, -1, np.int64).data
        self.last = np.full(2, NOTHING, np.int64).data
        self.last_slot = np.full(2, -1, np.int64).data
        self.mid2 = 0
        self.has_mid = False
        self.volume = 0
        self.terms: list[Any] = [FREE for _ in venues]
        self.ruled = False
        self.rules: Any = None

    def take_terms(self, terms: list[Any]) -> None:
        """Orders have to keep these (`sor.routing.terms.Terms`) from now on."""
        self.terms = terms
        self.ruled = any(one.bind for one in terms)
        self.rules = rows_of(terms) if self.ruled else None

    def begin(self) -> None:
        """Other arrays of rows are in use from now on."""
        for slot in range(self.slots):
            self.before[slot] = -1

    def show_row(self, slot: int, bid_price: Any, bid_size: Any, ask_price: Any, ask_size: Any, row: int) -> int:
        """Replace what a venue shows by a row of arrays (n, depth); bits of the sides that are other now."""
        self.updates[slot] += 1
        first = slot * self.depth
        had = (self.size[first] > 0) + 2 * (self.size[self.width + first] > 0)
        before, changed = self.before[slot], 0
        if before < 0 or self._differ(ask_price, ask_size, row, before):
            changed += self._set(0, slot, ask_price, ask_size, row)
        if before < 0 or self._differ(bid_price, bid_size, row, before):
            changed += 2 * self._set(1, slot, bid_price, bid_size, row)
        self.before[slot] = row
        if (
            self.size[first]
            and self.size[self.width + first]
            and self.price[first] + self.price[self.width + first] < 0
        ):
            self.clear(0, slot)  # crossed in itself: not to be believed
            self.clear(1, slot)
            changed = had
        if changed:
            self._refresh(changed)
        return changed

    def _differ(self, prices: Any, sizes: Any, row: int, before: int) -> bool:
        """Whether two rows show other levels: most rows change one side."""
        for level in range(self.depth):
            if prices[row, level] != prices[before, level] or sizes[row, level] != sizes[before, level]:
                return True
        return False

    def _set(self, side: int, slot: int, prices: Any, sizes: Any, row: int) -> bool:
        first = side * self.width + slot * self.depth
        count, changed = 0, False
        for level in range(self.depth):
            units, shares = prices[row, level], sizes[row, level]
            if units == NO_PRICE or shares <= 0:
                continue
            signed = -units if side else units
            at = first + count
            if count and signed < self.price[at - 1]:
                self._insert(first, at, signed, shares)
                changed = True
            elif self.price[at] != signed or self.size[at] != shares:
                self.price[at], self.size[at] = signed, shares
                changed = True
            count += 1
        for at in range(first + count, first + self.depth):
            if self.size[at]:
                self.price[at], self.size[at] = NOTHING, 0
                changed = True
        return changed

    def _insert(self, first: int, at: int, signed: int, shares: int) -> None:
        """Of levels that are not in order."""
        while at > first and self.price[at - 1] > signed:
            self.price[at], self.size[at] = self.price[at - 1], self.size[at - 1]
            at -= 1
        self.price[at], self.size[at] = signed, shares

    def clear(self, side: int, slot: int) -> bool:
        """Let a side of a venue show nothing; whether it did."""
        self.before[slot] = -1
        first = side * self.width + slot * self.depth
        shown = self.size[first] > 0
        for at in range(first, first + self.depth):
            self.price[at], self.size[at] = NOTHING, 0
        return shown

    def refresh(self) -> None:
        """The best of all venues anew."""
        self._refresh(3)

    def _refresh(self, sides: int) -> None:
        for side in range(2):
            if not sides & (1 << side):
                continue
            best, where = NOTHING, -1
            at = side * self.width
            for slot in range(self.slots):
                if self.size[at] and self.price[at] < best:
                    best, where = self.price[at], slot
                at += self.depth
            self.best[side], self.best_slot[side] = best, where
            if where >= 0:
                self.last[side], self.last_slot[side] = best, where
        self.has_mid = self.best_slot[0] >= 0 and self.best_slot[1] >= 0
        if self.has_mid:
            self.mid2 = self.best[0] - self.best[1]

    def shown(self, side: int, slot: int, price: int) -> int:
        """Shares that a venue shows at a price; -1 where that cannot be seen.

        It can where the price is not behind the last of all levels that there is room for. A side without a level is
        empty where there is room for several and the other side has one; otherwise the venue is not to be seen.
        """
        first = side * self.width + slot * self.depth
        other = (1 - side) * self.width + slot * self.depth
        for at in range(first, first + self.depth):
            if not self.size[at]:
                return 0 if at > first or (self.depth > 1 and self.size[other] > 0) else -1
            if self.price[at] == price:
                return self.size[at]
            if self.price[at] > price:
                return 0
        return -1


class Taken:
    """Shares to be taken off what is shown: entries of side, slot, price, shares, a time and an owner."""

    def __init__(self) -> None:
        self.count = 0
        self.room = FIRST_ENTRIES
        self.entries = np.zeros(6 * FIRST_ENTRIES, np.int64).data

    def add(self, side: int, slot: int, price: int, shares: int, time: int, owner: int) -> None:
        if self.count == self.room:
            larger = np.zeros(12 * self.room, np.int64)
            larger[: 6 * self.room] = self.entries
            self.entries, self.room = larger.data, 2 * self.room
        at = 6 * self.count
        self.entries[at], self.entries[at + 1], self.entries[at + 2] = side, slot, price
        self.entries[at + 3], self.entries[at + 4], self.entries[at + 5] = shares, time, owner
        self.count += 1

    def of(self, side: int, slot: int, price: int) -> int:
        """Shares of all entries of this place."""
        shares = 0
        for at in range(0, 6 * self.count, 6):
            if self.entries[at + 2] == price and self.entries[at + 1] == slot and self.entries[at] == side:
                shares += self.entries[at + 3]
        return shares

    def remove(self, entry: int) -> None:
        """The others keep their order: those of one child stand best level first."""
        self.count -= 1
        for at in range(6 * entry, 6 * self.count):
            self.entries[at] = self.entries[at + 6]
