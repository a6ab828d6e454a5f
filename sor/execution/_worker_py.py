"""The state machine of a parent order: reports, times and books in, orders to send and to cancel out.

One source for both backends, as `sor.market._quotes`. Pure: it knows no clock, no venue and no simulation; whoever
drives it gives it the time with every event, and does what `Worker.out` then holds. Prices are signed as in `_view`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sor.execution import _view_py as views  # compiled, its classes are those of `_view`, as `_worker.pxd` says

NEVER = 2**62  # a time that does not come
NOTHING = 2**62
REJECTS = 3  # in a row, after which a venue is left out
LEFT_OUT_NS = 30 * 10**9  # for so long
GONE = -1  # as the time of an entry: until the venue's next row


class Child:
    """An order to one venue.

    Attributes
    ----------
    number : int
        From 0 within its parent, given when it is sent.
    slot : int
        Of the venue.
    price : int
        The worst that it may trade at; one that rests, rests there.
    shares : int
    rests : bool
        False: immediate or cancel.
    until : int
        When one that rests is to be cancelled; `NEVER`.
    sent : int
    mid2, opposite : int
        Twice the mid, and the best price of the side that is taken, when it was sent.
    executed : int
        Shares of the fills that were reported.
    told : int
        Cumulative shares of its last report; ``alive`` until there is one that ends it.
    """

    def __init__(self, slot: int, price: int, shares: int, rests: bool = False, until: int = NEVER) -> None:
        self.slot, self.price, self.shares, self.rests, self.until = slot, price, shares, rests, until
        self.number = -1
        self.sent = self.mid2 = self.opposite = 0
        self.executed = self.told = 0
        self.alive = True
        self.cancelling = False

    def done(self) -> int:
        """Shares that are known to have been traded: a fill's report may be later than that of the end, or lost."""
        return self.executed if self.executed > self.told else self.told

    def working(self) -> int:
        """Shares that may still trade."""
        return self.shares - self.done() if self.alive and self.shares > self.done() else 0


class Cancel:
    """Wanted: the end of a child that rests."""

    def __init__(self, child: Child) -> None:
        self.child = child


class Schedule:
    """How many shares are released by when. One of the user's own has `released` and, where time matters, `next`."""

    follows_volume = False  # whether it is to be asked whenever shares are printed

    def released(self, worker: Worker, now: int, volume: int) -> int:
        """Shares released so far, never fewer than before; ``volume``: printed by all since the arrival."""
        return worker.shares

    def next(self, worker: Worker, now: int) -> int:
        """When it is to be asked again at the latest; `NEVER`."""
        return NEVER


class Routing:
    """How shares are split over venues, and as what; each has its own `split`, the user's too: docs/strategies.md."""

    def split(self, worker: Worker, shares: int) -> list[Child]:
        """Orders for at most so many shares, of what `Worker` shows; none is to wait for a change."""
        raise NotImplementedError  # abstract: there is no split that would do for all


class Offers:
    """What an order may take, a row a venue's level: less what is under way and what else is spoken for."""

    def __init__(self, rows: int) -> None:
        self.count = 0
        self.best = NOTHING  # the best price of all, that of shares under way among them
        self.slot = np.zeros(rows, np.int64).data
        self.price = np.zeros(rows, np.int64).data
        self.size = np.zeros(rows, np.int64).data
        self.first = np.zeros(rows, np.uint8).data  # whether it is the venue's best of those that are left


class Worker:
    """A parent order on its way.

    Parameters
    ----------
    side : int
        0 buy, 1 sell.
    shares : int
    limit : int
        The worst price, signed; `NOTHING`: none.
    start, end : int
        Arrival, and when the end rule holds.
    schedule, routing : Schedule, Routing
    crossing : Routing or None
        The end rule: works what is left after ``end``, for ``grace``. None: it is left.
    grace : int
        Nanoseconds.
    delay : int
        Of the feed: how long after a report the book shows what it told.

    Attributes
    ----------
    executed, overfill : int
        Shares that are known to have been traded, and those beyond the order.
    out : list of Child and Cancel
        What to do after the last event, in this order; whoever does it clears it.
    wake : int
        When `on_time` is to be called at the latest.
    wants : bool
        Whether a change of the book may lead to orders.
    done : bool
        Nothing is working and nothing will be sent.
    fresh : int
        Of the shares asked for in `Routing.split`, those that were not asked for before.
    """

    def __init__(
        self,
        side: int,
        shares: int,
        limit: int,
        start: int,
        end: int,
        schedule: Schedule,
        routing: Routing,
        crossing: Routing | None,
        grace: int,
        delay: int,
    ) -> None:
        self.side, self.shares, self.limit, self.start, self.end = side, shares, limit, start, end
        self.schedule, self.routing, self.crossing = schedule, routing, crossing
        self.grace, self.delay = grace, delay
        self.now = start
        self.view: Any = None
        self.used: Any = None
        self.offers: Any = None
        self.children: list[Child] = []
        self.executions: set[Any] = set()
        self.strays = 0  # shares of fills of children that are not ours
        self.executed = self.released = self.fresh = self.asked = 0
        self.live: list[Child] = []
        self.begun_at_volume = 0
        self.out: list[Any] = []
        self.wake = start
        self.wants = self.done = self.ending = self.closing = False
        self.missed = False  # something was not there, and is not asked for before its venue's next row
        self.reserved = views.Taken()
        self.rejects: Any = None
        self.left_out: Any = None
        self.rejections = 0
        self.absences: list[tuple[int, int]] = []  # venues that were left out, and since when
        self.cancels = 0
        self.tranches: list[Any] = []  # [shares not yet filled, twice the mid] of each release
        self.next_tranche = 0

    # --- events ---------------------------------------------------------------------------------------------------

    def begin(self, view: views.View, used: views.Taken | None, now: int) -> None:
        """The arrival. ``view`` is the book that this order is shown from now on, ``used`` what is to be taken off."""
        self.view, self.used = view, used
        self.offers = Offers(view.width)
        self.rejects = np.zeros(view.slots, np.int64).data
        self.left_out = np.zeros(view.slots, np.int64).data
        self.begun_at_volume = view.volume
        self.on_time(now)

    def on_time(self, now: int) -> None:
        self.now = now
        self._decide()

    def on_book(self, now: int) -> None:
        """The book has changed."""
        self.now = now
        self._decide()

    def on_filled(
        self, number: int, execution: Any, shares: int, now: int, more: bool = False
    ) -> list[tuple[int, int]]:
        """A fill; its shares by release, each with twice the mid of then. One that was told before counts nothing.

        ``execution`` tells the fills of one child apart: two venues may number theirs alike. ``more``: other reports
        are at hand, so nothing is decided before the last, or `on_time`.
        """
        self.now = now
        if (number, execution) in self.executions:
            return []
        self.executions.add((number, execution))
        if not 0 <= number < len(self.children):
            self.strays += shares
            self.executed += shares
        else:
            child = self.children[number]
            before = child.done()
            child.executed += shares
            self.executed += child.done() - before
            self.rejects[child.slot] = 0
            if child.alive and not child.working():
                self._over(child)  # a venue need not say more of an order that has traded wholly
        pieces = self._pieces(shares)
        if not more:
            self._decide()
        return pieces

    def on_accepted(self, number: int, now: int) -> None:
        """A venue has taken an order, so its rejects are not in a row: nothing else depends on this report."""
        self.now = now
        if 0 <= number < len(self.children):
            self.rejects[self.children[number].slot] = 0

    def on_ended(self, number: int, cumulative: int, now: int, rejected: bool = False, more: bool = False) -> None:
        """Cancelled, expired or rejected, with all that it has traded: the rest goes back."""
        self.now = now
        if 0 <= number < len(self.children):
            child = self.children[number]
            before = child.done()
            if cumulative > child.told:
                child.told = cumulative
            self.executed += child.done() - before
            if child.alive:
                self._over(child)
                if rejected:
                    self._rejected(child.slot)
                else:
                    self.rejects[child.slot] = 0
        if not more:
            self._decide()

    def may_ask_again(self) -> bool:
        """Whether a venue where something was not there has had a row since: it need not have changed what it shows."""
        if self.wants and self.missed:
            for at in range(0, 6 * self.reserved.count, 6):
                if self._is_over(at):
                    return True
        return False

    def overfill(self) -> int:
        return self.executed - self.shares if self.executed > self.shares else 0

    def working(self) -> int:
        """Shares that may still trade."""
        shares = 0
        for child in self.live:
            shares += child.working()
        return shares

    # --- what it does ---------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        self.wants = False
        if self.done:
            return
        self._release()
        if self.ending and self.now >= self.end + self.grace:
            self.closing = True
        if self.now >= self.end and not self.ending:
            self.ending = True
            self._cancel_all()
            if self.crossing is None:
                self.closing = True
        if self.executed >= self.shares:
            self.closing = True
        if self.closing or self.executed >= self.released:
            self._cancel_all()
        else:
            self._cancel_late()
        if self.closing:
            self.done = not self.live
        else:
            self._ask()
        self._set_wake()

    def _release(self) -> None:
        due = self.shares
        if not self.ending and self.now < self.end:
            due = self.schedule.released(self, self.now, self.view.volume - self.begun_at_volume)
            due = self.shares if due > self.shares else due
        if due > self.released:
            self.tranches.append([due - self.released, self.view.mid2])
            self.released = due

    def _pieces(self, shares: int) -> list[tuple[int, int]]:
        """Shares by release, the first one first; what is more than was released belongs to the last."""
        found = []
        while shares > 0:
            if self.next_tranche == len(self.tranches):
                found.append((shares, self.tranches[-1][1] if self.tranches else self.view.mid2))
                break
            left, mid2 = self.tranches[self.next_tranche]
            taken = left if left < shares else shares
            found.append((taken, mid2))
            shares -= taken
            if taken == left:
                self.next_tranche += 1
            else:
                self.tranches[self.next_tranche][0] = left - taken
        return found

    def _ask(self) -> None:
        go = self.released - self.executed - self.working()
        if go <= 0:
            return
        fresh = self.released - self.asked
        self.fresh = fresh if fresh < go else go
        self.asked = self.released
        self.look()
        routing = self.crossing if self.ending and self.crossing is not None else self.routing
        for child in routing.split(self, go):
            self._send(child)
        self.wants = self.released - self.executed > self.working()

    def _send(self, child: Child) -> None:
        """Unless it may not be sent, or is to take what is not there: that would come back again and again."""
        if child.shares <= 0 or child.price > self.limit or self.left_out[child.slot] > self.now:
            return
        if not child.rests and not self._reserve(child, len(self.children)):
            return
        child.number = len(self.children)
        child.sent, child.mid2, child.opposite = self.now, self.view.mid2, self.view.best[self.side]
        self.children.append(child)
        self.live.append(child)
        self.out.append(child)

    def _over(self, child: Child) -> None:
        """Nothing more of it can trade."""
        child.alive = False
        self.live.remove(child)
        self._free(child)

    def _cancel_all(self) -> None:
        for child in self.live:
            self._cancel(child)

    def _cancel_late(self) -> None:
        for child in self.live:
            if child.until <= self.now:
                self._cancel(child)

    def _cancel(self, child: Child) -> None:
        if child.rests and not child.cancelling:
            child.cancelling = True
            self.cancels += 1
            self.out.append(Cancel(child))

    def _rejected(self, slot: int) -> None:
        self.rejections += 1
        self.rejects[slot] += 1
        if self.rejects[slot] >= REJECTS:
            self.rejects[slot] = 0
            self.left_out[slot] = self.now + LEFT_OUT_NS
            self.absences.append((slot, self.now))

    def _set_wake(self) -> None:
        """The earliest time at which something is to be done although nothing happens."""
        if self.closing:
            self.wake = NEVER
            return
        wake = self.end + self.grace if self.ending else self.end
        if not self.ending:
            due = self.schedule.next(self, self.now)
            wake = due if self.now < due < wake else wake
        for child in self.live:
            if child.rests and not child.cancelling and child.until < wake:
                wake = child.until
        if self.wants:
            for at in range(0, 6 * self.reserved.count, 6):
                until = self.reserved.entries[at + 4]
                if self.now < until < wake:
                    wake = until
            for slot in range(self.view.slots):
                if self.now < self.left_out[slot] < wake:
                    wake = self.left_out[slot]
        self.wake = wake

    # --- what may be taken ----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Fill `offers` with what may be taken now, and what is under way taken off."""
        self._expire()
        view, offers, side = self.view, self.offers, self.side
        offers.count, offers.best = 0, NOTHING
        at = side * view.width
        for slot in range(view.slots):
            if view.size[at] and self.left_out[slot] <= self.now:
                first = True
                for level in range(view.depth):
                    size, price = view.size[at + level], view.price[at + level]
                    if size == 0 or price > self.limit:
                        break
                    size -= self._spoken_for(slot, price)
                    if price < offers.best and (size > 0 or self._under_way(slot, price)):
                        offers.best = price
                    if size > 0:
                        count = offers.count
                        offers.slot[count], offers.price[count], offers.size[count] = slot, price, size
                        offers.first[count] = first
                        offers.count = count + 1
                        first = False
            at += view.depth

    def _spoken_for(self, slot: int, price: int) -> int:
        shares = 0
        if self.reserved.count:
            shares += self.reserved.of(self.side, slot, price)
        if self.used is not None and self.used.count:
            shares += self.used.of(self.side, slot, price)
        return shares

    def _under_way(self, slot: int, price: int) -> bool:
        for at in range(0, 6 * self.reserved.count, 6):
            here = self.reserved.entries[at + 1] == slot and self.reserved.entries[at + 2] == price
            if here and self.reserved.entries[at + 4] == NEVER:
                return True
        return False

    def _reserve(self, child: Child, number: int) -> bool:
        """Take what an order is to take off what its venue shows, from the best level on; whether there is any."""
        view, left, side = self.view, child.shares, self.side
        first = side * view.width + child.slot * view.depth
        for at in range(first, first + view.depth):
            size, price = view.size[at], view.price[at]
            if size == 0 or price > child.price or left == 0:
                break
            size -= self._spoken_for(child.slot, price)
            if size > 0:
                size = left if left < size else size
                self.reserved.add(side, child.slot, price, size, NEVER, number)
                left -= size
        return left < child.shares

    def _free(self, child: Child) -> None:
        """An order has been reported: what it has taken the feed will show, and the rest was not there."""
        filled, entry = child.done(), 0
        while entry < self.reserved.count:
            at = 6 * entry
            if self.reserved.entries[at + 5] != child.number or self.reserved.entries[at + 4] != NEVER:
                entry += 1
                continue
            shares = self.reserved.entries[at + 3]
            taken = filled if filled < shares else shares
            filled -= taken
            side, slot, price = self.side, child.slot, self.reserved.entries[at + 2]
            self.reserved.remove(entry)
            if taken and self.delay:
                self.reserved.add(side, slot, price, taken, self.now + self.delay, child.number)
            if shares > taken:
                self.reserved.add(side, slot, price, shares - taken, GONE, self.view.updates[slot])
                self.missed = True

    def _expire(self) -> None:
        entry = 0
        self.missed = False
        while entry < self.reserved.count:
            at = 6 * entry
            if self._is_over(at) or 0 <= self.reserved.entries[at + 4] <= self.now:
                self.reserved.remove(entry)
                continue
            if self.reserved.entries[at + 4] == GONE:
                self.missed = True
            entry += 1

    def _is_over(self, at: int) -> bool:
        """An entry of what was not there, whose venue has had a row since."""
        seen = self.view.updates[self.reserved.entries[at + 1]]
        return bool(self.reserved.entries[at + 4] == GONE and self.reserved.entries[at + 5] != seen)
