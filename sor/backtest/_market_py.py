# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The simulated market of one symbol and day: recorded rows go by, and orders are worked on them.

One source for both backends, as `sor.market._quotes`. The rules stand in docs/rules.md, by these numbers:
1 no look-ahead, 2 a displayed share is used once, 3 latency, 4 queues, 5 and 6 prints, 7 what fills nothing,
12 what venues reject.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Any

from sor.execution import _view_py as views  # compiled, these are `_view` and `_worker`, as `_market.pxd` says
from sor.execution import _worker_py as workers
from sor.market.columns import NO_PRICE, STANDS
from sor.models.static import NEARLY
from sor.routing.terms import FREE

NEVER, NOTHING = 2**62, 2**62
PESSIMISTIC, PROPORTIONAL, OPTIMISTIC = 0, 1, 2
TRADED, BUYER, SELLER = ord("T"), ord("B"), ord("A")
PRINTED, TOLD_AGAIN = 4, 8
ARRIVES, REPORTED, ENDS, ENDED, REJECTED, TIME, BEGINS, SEEN, WINDOW = range(9)  # kinds of what is due
MARKS = (50 * 10**6, 10**9, 15 * 10**9, 60 * 10**9, 300 * 10**9)  # nanoseconds after a fill at which the mid is marked
UNKNOWN = -1.0  # as the front of an order at a level that was never seen
MIX, GOLDEN = 0xBF58476D1CE4E5B9, 0x9E3779B97F4A7C15  # of splitmix64


class Rows:
    """A batch of one symbol, in the order of `time`, with whole stamps: no row that comes later has a time of these."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.time = columns["time"]
        self.known = columns["known"]
        self.slot = columns["slot"]
        self.action, self.side = columns["action"], columns["side"]
        self.price, self.size = columns["price"], columns["size"]
        self.bid_price, self.bid_size = columns["bid_price"], columns["bid_size"]
        self.ask_price, self.ask_size = columns["ask_price"], columns["ask_size"]
        self.consolidated = "bid_slot" in columns
        self.bid_slot: Any = columns.get("bid_slot")
        self.ask_slot: Any = columns.get("ask_slot")
        self.count = len(self.time)


class Used(views.Taken):
    """Rule 2: what we have taken of displayed shares and the feed still shows, at each venue, side and price."""

    def __init__(self, refresh: int, shared: bool = False) -> None:
        views.Taken.__init__(self)
        self.refresh = refresh
        self.shared = shared  # by orders of all times, so that it is followed all day
        self.stamp = -1
        self.printed: dict[int, int] = {}  # shares of each print of this stamp that have filled orders of this group

    def take(self, side: int, slot: int, price: int, shares: int, now: int) -> None:
        for at in range(0, 6 * self.count, 6):
            if self.entries[at + 2] == price and self.entries[at + 1] == slot and self.entries[at] == side:
                self.entries[at + 3] += shares
                return
        self.add(side, slot, price, shares, now, 0)

    def follow(self, view: views.View, slot: int, now: int) -> None:
        """After a row of a venue: what it shows less of than was used is gone, and so is what its feed removes.

        What goes out of sight is kept for `refresh`; an entry's owner is 1 where it is, its time that of when it went.
        """
        entry = 0
        while entry < self.count:
            at = 6 * entry
            if self.entries[at + 1] != slot:
                entry += 1
                continue
            shown = view.shown(self.entries[at], slot, self.entries[at + 2])
            hidden = self.entries[at + 5] == 1
            late = hidden and now - self.entries[at + 4] >= self.refresh
            if late or self._ended(view, self.entries[at], slot, self.entries[at + 2], shown):
                self.remove(entry)
                continue
            if shown > 0:
                self.entries[at + 5] = 0
                if shown < self.entries[at + 3]:
                    self.entries[at + 3] = shown
            elif not hidden:
                self.entries[at + 4], self.entries[at + 5] = now, 1
            entry += 1

    def _ended(self, view: views.View, side: int, slot: int, price: int, shown: int) -> bool:
        """Whether the other side has come to a price in its place, or a depth feed has removed it in view."""
        other = (1 - side) * view.width + slot * view.depth
        if shown > 0:
            return False
        return (view.size[other] > 0 and view.price[other] <= -price) or (shown == 0 and view.depth > 1)

    def of_print(self, number: int, now: int) -> int:
        """Shares of a print, of a number within its stamp, that have filled orders of this group."""
        if self.stamp != now:
            self.stamp = now
            self.printed.clear()
        return self.printed.get(number, 0)


class Heard:
    """Rule 7: when each venue of a book had its last row, and when the first of them may be stale."""

    def __init__(self, view: views.View) -> None:
        self.view = view
        self.times = [NEVER for _ in view.venues]
        self.next = NEVER  # none is stale before


class Rest:
    """An order of ours in a queue; ``price`` is that of its child, signed as who takes sees it."""

    def __init__(self, sim: Sim, child: workers.Child) -> None:
        self.sim, self.child = sim, child
        self.side = 1 - sim.worker.side  # of the book that it stands in
        self.price = -child.price  # as that side has it
        self.left = child.shares - child.executed
        self.front = UNKNOWN
        self.last = -1  # shares shown at its price when last seen; -1: never
        self.printed = 0  # shares printed there since, which the book may not show yet
        self.printed_at = self.shown_at = -1


class Sim:
    """One order, worked in one way under one queue model."""

    def __init__(self, number: int, worker: workers.Worker, queue: int, used: Used, seen: Used, seed: int) -> None:
        self.number, self.worker, self.queue, self.used, self.seen = number, worker, queue, used, seen
        self.seed = seed
        self.rests: list[Rest] = []
        self.timer = NEVER
        self.waits = False  # to decide, once all of this time has been told
        self.fills: list[Any] = []  # (Fill, its shares by release)
        self.late = 0  # shares sent for and not there
        self.tickets = 0.0  # of orders that were not rejected: dollars of one share a lot
        # The market so far, see `Market._so_far`: at arrival, at the end that was set, at the last fill, when done.
        self.at_begin: Any = None
        self.at_window: Any = None
        self.at_last: Any = None
        self.at_end: Any = None
        self.executions = 0


class Fill:
    """Shares that were traded at the venue of a child, and the mids after that; ``price`` is signed as the child's."""

    def __init__(self, number: int, time: int, price: int, shares: int, maker: bool, child: workers.Child) -> None:
        self.number, self.time, self.price, self.shares = number, time, price, shares
        self.maker, self.child = maker, child
        self.frozen = False  # taken from a quote that the feed no longer updates
        self.later: list[int | None] = [None] * len(MARKS)  # twice the mid


class Market:
    """The day of one symbol: the book at the venues, the book that is known, and what is due.

    Parameters
    ----------
    venues, rates
        Ids and `Rates`, by slot.
    depth : int
    latency : list of sequences of int
        By slot: nanoseconds from us to the venue, and back; of several, one is drawn for each order.
    delay : int
        Of the feed, after the times of receipt that it has.
    same : bool
        Whether rows are known as soon as they happen, so that there is one book only.
    longest : int
        Nanoseconds without a row of the symbol that are a gap.
    opens, close : int
        The session: times of the market's state count within it, and there are no mids after it.
    """

    def __init__(
        self,
        venues: list[str],
        rates: list[Any],
        depth: int,
        latency: list[Any],
        delay: int,
        same: bool,
        longest: int,
        opens: int,
        close: int,
    ) -> None:
        self.book = views.View(venues, rates, depth)
        self.view = self.book if same else views.View(venues, rates, depth)
        self.same, self.delay, self.longest = same, delay, longest
        self.opens, self.close = opens, close
        self.latency = latency
        self.ruled = False  # whether any venue has rules, for who rests too: its tick is one
        self.now = 0
        self.due: list[Any] = []
        self.sequence = 0
        self.live: list[Sim] = []
        self.told: list[Sim] = []  # that wait to decide
        self.tables: list[Used] = []  # those of live orders, each once
        self.sight: list[Used] = []
        self.resting: list[list[Rest]] = [[] for _ in venues]
        self.resters = 0
        self.changed = 0  # since orders were asked: sides of the known book, `PRINTED`, `TOLD_AGAIN`
        self.missing = False  # whether an order waits for any row of a venue where something was not there
        self.behind: list[Rows] = []  # rows that happened and are not known yet, from `seen_at` on
        self.seen_at = 0
        self.rows = self.prints = 0
        self.first_mid2 = 0  # twice the first mid of the session; 0: none yet
        self.mids = self.lasting = 0.0  # sum of twice the mid times its time, and that time
        self.turnover = 0.0
        self.volume = 0
        self.gaps: list[Any] = []
        self.first = self.last = 0
        self.since = 0  # what the book shows it has shown from then on
        self.take_frozen = False  # whether consolidated quotes are kept where the feed no longer updates them
        self.frozen = [False for _ in range(2 * len(venues))]  # those of the book, by side and then slot
        self.oldest = NEVER  # nanoseconds: a venue whose last row is older shows nothing until its next one
        self.next_stale = NEVER
        self.heard = Heard(self.book)
        self.known = self.heard if same else Heard(self.view)
        self.stamp: Any = None  # rows of the last stamp, from and to
        self.stamp_at = self.stamp_end = 0
        self.marks: list[Any] = [deque() for _ in MARKS]  # fills that wait for a later mid
        self.next_mark = NEVER
        self.crossed = self.locked = self.one_sided = 0
        self.finished: list[Sim] = []
        self.listeners: list[Any] = []  # told of what becomes known: prints, and what venues show
        self.blind: list[list[int]] = []  # times from and to which there was no mid
        self.sighted = False
        self.shown_trades = 0  # rows of trades that change what their venue shows, less those that do not
        self.after_trades = False  # whether rows of trades have the book after them: known of the feed, not of the row
        self.traded = True  # whether the feed tells trades, so that it tells them from cancellations

    def take_terms(self, terms: list[Any]) -> None:
        """What each venue takes, by slot (`sor.routing.terms.Terms`): who works an order knows it, and it is kept."""
        self.book.take_terms(terms)
        self.view.take_terms(terms)
        self.ruled = any(one != FREE for one in terms)

    # --- time -----------------------------------------------------------------------------------------------------

    def begin(self, sim: Sim) -> None:
        """Let an order arrive at its start."""
        self._push(sim.worker.start, BEGINS, sim, None, 0)
        self._push(sim.worker.end, WINDOW, sim, None, 0)

    def run(self, rows: Rows) -> None:
        """All that happens up to the last stamp of some rows."""
        at = 0
        self.book.begin()
        if not self.same:
            self.behind.append(rows)
        while at < rows.count:
            now = rows.time[at]
            if self.changed or self.due or self.told or not self.same or self.next_stale < now:
                self._advance(now)
            end = at + 1
            while end < rows.count and rows.time[end] == now:
                end += 1
            self._stamp(rows, at, end, now)
            at = end

    def finish(self) -> None:
        """No more rows: time goes on until all orders are at their end, and the session."""
        self._advance(NEVER)
        if self.rows:
            self._gap(self.close)
        if self.next_mark <= self.close:
            self._mark(self.close)

    def _advance(self, until: int) -> None:
        """Whatever is due before a time, in its order; at one time books, then reports, then decisions."""
        while True:
            due = self.due[0][0] if self.due else NEVER
            known = NEVER if self.same else self._known()
            later = due if due < known else known
            later = later if later < self.next_stale else self.next_stale
            if self.told and later > self.now:
                self._settle()
                continue
            if self.changed and later > self.now:
                self._ask()
                continue
            if later >= until:
                return
            if self.next_stale == later < known:
                self._age(later)
            elif known <= due:
                self._learn(known)
            else:
                self.now = due
                self._happen(heappop(self.due))

    def _push(self, time: int, kind: int, sim: Sim, what: Any, number: int) -> None:
        self.sequence += 1
        heappush(self.due, (time, self.sequence, kind, sim, what, number))

    # --- rows -----------------------------------------------------------------------------------------------------

    def _stamp(self, rows: Rows, at: int, end: int, now: int) -> None:
        """The rows of one time: prints first, then the quotes after them."""
        if self.next_mark < now:
            self._mark(now)
        if self.rows:
            self._last(now)
            if now - self.last > self.longest:
                self._gap(now)
        else:
            self.first = now
            self.blind.append([now, NEVER])
        self.now = self.last = self.since = now
        self.rows += end - at
        self.stamp, self.stamp_at, self.stamp_end = rows, at, end
        for row in range(at, end):
            if self._trades(rows, row):
                self._print(rows, row, now)
        for row in range(at, end):
            if rows.consolidated and rows.bid_size[row, 0] != STANDS:
                self._consolidated(self.book, rows, row, now, True)
            elif rows.slot[row] >= 0 and rows.bid_size[row, 0] != STANDS:
                self._quote(rows, row, now)
        if self.same:
            self.view.volume = self.volume
        if self.book.has_mid is not self.sighted:
            self._sight(now)

    def _sight(self, now: int) -> None:
        """There is a mid again, or none any more."""
        self.sighted = self.book.has_mid
        if self.sighted:
            self.blind[len(self.blind) - 1][1] = now
        else:
            self.blind.append([now, NEVER])

    def _trades(self, rows: Rows, row: int) -> bool:
        return bool(rows.action[row] == TRADED and rows.price[row] != NO_PRICE and rows.size[row] > 0)

    def _mark(self, now: int) -> None:
        """Fills for which it is time get the mid as it has been up to now."""
        self.next_mark = NEVER
        for i, waiting in enumerate(self.marks):
            while waiting:
                due = waiting[0].time + MARKS[i]
                if due >= now and not now == self.close == due:
                    self.next_mark = due if due < self.next_mark else self.next_mark
                    break
                fill = waiting.popleft()
                if due <= self.close and self.book.has_mid:
                    fill.later[i] = self.book.mid2

    def _last(self, now: int) -> None:
        """What the book has shown since it was last other, by its time."""
        begin = self.since if self.since > self.opens else self.opens
        span = (now if now < self.close else self.close) - begin
        if span <= 0:
            return
        if self.book.has_mid:
            if self.first_mid2 == 0:
                self.first_mid2 = self.book.mid2
            self.mids += float(self.book.mid2) * span
            self.lasting += span
            spread = self.book.best[0] + self.book.best[1]
            if spread == 0:
                self.locked += span
            elif spread < 0:
                self.crossed += span
        else:
            self.one_sided += span

    def _gap(self, until: int) -> None:
        """The time since the last row as far as it is of the session, where it is long."""
        begin = self.last if self.last > self.opens else self.opens
        end = until if until < self.close else self.close
        if end - begin > self.longest:
            self.gaps.append((begin, end))

    def _quote(self, rows: Rows, row: int, now: int) -> None:
        slot = rows.slot[row]
        if self.oldest != NEVER:
            self._hear(self.heard, slot, now)
        changed = self.book.show_row(slot, rows.bid_price, rows.bid_size, rows.ask_price, rows.ask_size, row)
        self._shown(slot, changed, now)
        traded = rows.action[row] == TRADED
        if traded:
            self.shown_trades += 1 if changed else -1
        # A trade that leaves the book as it was says nothing of it where the feed shows later what it took; where rows
        # have the book after their trade, as much came behind as was taken.
        if self.resters and self.resting[slot] and (changed or not traded or self.after_trades):
            self._queue(slot, now)

    def _hear(self, heard: Heard, slot: int, now: int) -> None:
        """A row of a venue: what it shows is not stale before it is older than that may be."""
        heard.times[slot] = now
        if heard.next == NEVER:
            heard.next = now + self.oldest + 1
            self.next_stale = heard.next if heard.next < self.next_stale else self.next_stale

    def _age(self, now: int) -> None:
        """A venue of a book may be stale by now."""
        self.now = now
        if self.heard.next <= now:
            if self.next_mark < now:
                self._mark(now)
            self._last(now)
            self.since = now
            self._forget_stale(self.heard, now, True)
            if self.book.has_mid is not self.sighted:
                self._sight(now)
        if self.known.next <= now:
            self._forget_stale(self.known, now, False)
        self.next_stale = self.heard.next if self.heard.next < self.known.next else self.known.next

    def _forget_stale(self, heard: Heard, now: int, happens: bool) -> None:
        """Let venues whose last row is too old show nothing, and find when the next one is."""
        view, first, stale = heard.view, NEVER, []
        for slot in range(view.slots):
            time = heard.times[slot]
            if time + self.oldest < now:
                heard.times[slot] = NEVER
                shown = view.clear(0, slot) + 2 * view.clear(1, slot)
                stale.append((slot, shown))
            elif time < first:
                first = time
        heard.next = first + self.oldest + 1 if first < NEVER else NEVER
        view.refresh()
        # As after a row that shows nothing, but that nobody has told it: no queue is known to be less.
        for slot, shown in stale:
            if happens:
                for table in self.tables:
                    table.follow(view, slot, now)
            if view is self.view:
                for table in self.sight:
                    table.follow(view, slot, now)
                if self.live:
                    self.changed |= shown

    def _consolidated(self, view: views.View, rows: Rows, row: int, now: int, happens: bool) -> None:
        """A new best of all venues: whose it is, and nothing more of those that are not at it."""
        for side in range(2):
            owner = rows.bid_slot[row] if side else rows.ask_slot[row]
            price = rows.bid_price[row, 0] if side else rows.ask_price[row, 0]
            shares = rows.bid_size[row, 0] if side else rows.ask_size[row, 0]
            signed = NOTHING if price == NO_PRICE or shares <= 0 else -price if side else price
            if self.oldest != NEVER and owner >= 0 and signed != NOTHING:
                self._hear(self.heard if happens else self.known, owner, now)
            for slot in range(view.slots):
                at = side * view.width + slot * view.depth
                if slot == owner and signed != NOTHING:
                    view.price[at], view.size[at] = signed, shares
                    view.updates[slot] += 1
                    if happens:
                        self.frozen[side * len(self.latency) + slot] = False
                elif view.size[at] and view.price[at] != signed:
                    self._behind(view, side, slot, signed, happens)
        view.refresh()
        for slot in range(view.slots):
            if happens:
                self._shown(slot, 3, now)
                if self.resters and self.resting[slot]:
                    self._queue(slot, now)
            else:
                self._seen(slot, 3, now)

    def _behind(self, view: views.View, side: int, slot: int, best: int, happens: bool) -> None:
        """A side of a venue that is not at the new best: it may stand behind that, and cannot be before it."""
        frozen = self.take_frozen and view.price[side * view.width + slot * view.depth] > best
        if not frozen:
            view.clear(side, slot)
            view.updates[slot] += 1
        if happens:
            self.frozen[side * len(self.latency) + slot] = frozen

    def _is_frozen(self, side: int, slot: int) -> bool:
        return bool(self.take_frozen and self.frozen[side * len(self.latency) + slot])

    def _shown(self, slot: int, changed: int, now: int) -> None:
        """After a venue's row: what was used, and what is known."""
        if changed and self.tables:
            for table in self.tables:
                if table.count:
                    table.follow(self.book, slot, now)
        if self.same:
            self._seen(slot, changed, now)

    def _seen(self, slot: int, changed: int, now: int) -> None:
        if changed and self.live:
            self.changed |= changed
        if self.missing:
            self.changed |= TOLD_AGAIN
        if changed and self.sight:
            for table in self.sight:
                if table.count:
                    table.follow(self.view, slot, now)
        if self.listeners:
            for listener in self.listeners:
                listener.seen(slot, now)

    def _known(self) -> int:
        """When the next row becomes known."""
        while self.behind and self.seen_at == self._first_behind().count:
            self.behind.pop(0)
            self.seen_at = 0
            self.view.begin()
        if not self.behind:
            return NEVER
        rows = self._first_behind()
        time: int = rows.known[self.seen_at]
        return time if time > self.now else self.now

    def _first_behind(self) -> Rows:
        return self.behind[0]

    def _learn(self, known: int) -> None:
        """The next row becomes known."""
        rows, row = self._first_behind(), self.seen_at
        self.now = known
        self.seen_at += 1
        if self._trades(rows, row):
            self.view.volume += rows.size[row]
            self.changed |= PRINTED
            for listener in self.listeners:
                listener.printed(rows.slot[row], rows.price[row], rows.size[row], rows.side[row], known)
        if rows.bid_size[row, 0] == STANDS:
            return
        if rows.consolidated:
            self._consolidated(self.view, rows, row, known, False)
        elif rows.slot[row] >= 0:
            slot = rows.slot[row]
            if self.oldest != NEVER:
                self._hear(self.known, slot, known)
            changed = self.view.show_row(slot, rows.bid_price, rows.bid_size, rows.ask_price, rows.ask_size, row)
            self._seen(slot, changed, known)

    # --- decisions ------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Orders that may want something of the book as it is known now."""
        changed, self.changed = self.changed, 0
        ended = self.missing = False
        for sim in self.live:
            worker = sim.worker
            self.missing |= worker.wants and worker.missed
            if (
                (worker.wants and changed & (1 << worker.side))
                or (changed & PRINTED and worker.schedule.follows_volume)
                or (changed & TOLD_AGAIN and worker.may_ask_again())
            ):
                worker.on_book(self.now)
                if self._do(sim):
                    ended = True
        if ended:
            self.live = [sim for sim in self.live if not sim.worker.done]

    def _do(self, sim: Sim) -> bool:
        """What an order wants done; whether it is at its end."""
        worker = sim.worker
        if worker.out:
            for action in worker.out:
                if isinstance(action, workers.Child):
                    self._push(self.now + self._lag(sim, action), ARRIVES, sim, action, 0)
                else:
                    child = action.child
                    self._push(self.now + self._lag(sim, child), ENDS, sim, child, 0)
            worker.out.clear()
        if worker.done:
            self._end(sim)
            return True
        self.missing |= worker.wants and worker.missed
        if worker.wake < sim.timer:
            sim.timer = worker.wake
            self._push(worker.wake, TIME, sim, None, 0)
        return False

    def _lag(self, sim: Sim, child: workers.Child) -> int:
        """One way to a venue, or back: the same for all that goes for one child."""
        drawn = self.latency[child.slot]
        if len(drawn) == 1:
            return int(drawn[0])
        mixed = (sim.seed + (child.number + 1) * GOLDEN) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 30)) * MIX) & (2**64 - 1)
        return int(drawn[(mixed ^ (mixed >> 27)) % len(drawn)])

    def _begin(self, sim: Sim) -> None:
        worker = sim.worker
        sim.at_begin = self._so_far(worker.side)
        self.live.append(sim)
        if not any(sim.used is table for table in self.tables):
            self.tables.append(sim.used)
            self.sight.append(sim.seen)
        worker.begin(self.view, sim.seen, self.now)
        if self._do(sim):
            self.live.remove(sim)

    def _so_far(self, side: int) -> Any:
        view = self.view
        span = self.now - self.since if self.rows and self.book.has_mid else 0
        mids = self.mids + float(self.book.mid2) * span
        far, near = ((view.last[one], view.last_slot[one], view.best_slot[one] >= 0) for one in (side, 1 - side))
        return self.now, view.mid2, view.has_mid, self.volume, self.turnover, mids, self.lasting + span, far, near

    def _end(self, sim: Sim) -> None:
        sim.at_end = self._so_far(sim.worker.side)
        self.finished.append(sim)
        for rest in list(sim.rests):
            self._leave(rest)
        if not sim.used.shared:
            self.tables = [table for table in self.tables if table is not sim.used]
            self.sight = [table for table in self.sight if table is not sim.seen]

    # --- what is due ----------------------------------------------------------------------------------------------

    def _happen(self, due: Any) -> None:
        time, _, kind, sim, what, number = due
        if kind == BEGINS:
            self._begin(sim)
            return
        if kind == ARRIVES:
            self._arrive(sim, what)
            return
        if kind == WINDOW:
            sim.at_window = self._so_far(sim.worker.side)
            return
        if kind == ENDS:
            self._withdraw(sim, what)
            return
        if kind == SEEN:
            sim.seen.take(sim.worker.side, what.child.slot, what.price, what.shares, time)
        elif kind == REPORTED:
            self._tell(sim, what)
        elif kind == ENDED:
            sim.worker.on_ended(what.number, number, time, False, True)
        elif kind == REJECTED:
            sim.worker.on_ended(what.number, 0, time, True, True)
        else:
            sim.timer = NEVER
        if not sim.waits:
            sim.waits = True
            self.told.append(sim)

    def _settle(self) -> None:
        """Orders that were told something decide once all of this time has been told."""
        told, self.told = self.told, []
        for sim in told:
            sim.waits = False
            if sim.at_end is None:
                sim.worker.on_time(self.now)
                if self._do(sim):
                    self.live.remove(sim)

    def _arrive(self, sim: Sim, child: workers.Child) -> None:
        """Rule 3: a child meets the book that its venue has now."""
        lag = self._lag(sim, child)
        if self.ruled:
            if self._rejects(child):
                self._push(self.now + lag, REJECTED, sim, child, 0)
                return
            sim.tickets += self.book.terms[child.slot].ticket
        taken = self._take(sim, child)
        if child.rests and taken < child.shares:
            self._join(sim, child, taken)
            return
        sim.late += child.shares - taken
        self._push(self.now + lag, ENDED, sim, child, taken)

    def _rejects(self, child: workers.Child) -> bool:
        """Rule 12: whether an order is none that its venue takes."""
        terms, shares = self.book.terms[child.slot], child.shares
        if shares % terms.lot or shares < terms.min_quantity or shares > terms.max_quantity:
            return True
        if abs(child.price) / 1e9 * shares < terms.min_notional * NEARLY:
            return True
        tick = round(terms.tick * 1e9)
        return bool(child.rests and tick and child.price % tick)

    def _too_few(self, slot: int, shares: int) -> bool:
        """Rule 12: whether a venue fills no so few shares at once."""
        return bool(self.ruled and shares < self.book.terms[slot].min_execution)

    def _there(self, sim: Sim, side: int, slot: int, worst: int, most: int) -> int:
        """Displayed shares that are not used, up to a price and a number."""
        book = self.book
        first = side * book.width + slot * book.depth
        found = 0
        for at in range(first, first + book.depth):
            if book.size[at] == 0 or book.price[at] > worst or found >= most:
                break
            size = book.size[at] - sim.used.of(side, slot, book.price[at])
            found += size if size > 0 else 0
        return found if found < most else most

    def _take(self, sim: Sim, child: workers.Child) -> int:
        """Displayed shares that are not used, best level first, up to the child's price; each level is a fill."""
        book, side, slot = self.book, sim.worker.side, child.slot
        if self.ruled and self._too_few(slot, self._there(sim, side, slot, child.price, child.shares)):
            return 0
        first = side * book.width + slot * book.depth
        taken = 0
        for at in range(first, first + book.depth):
            size, price = book.size[at], book.price[at]
            if size == 0 or price > child.price or taken == child.shares:
                break
            size -= sim.used.of(side, slot, price)
            if size > 0:
                size = size if size < child.shares - taken else child.shares - taken
                sim.used.take(side, slot, price, size, self.now)
                taken += size
                self._fill(sim, child, price, size, False)
        return taken

    def _fill(self, sim: Sim, child: workers.Child, price: int, shares: int, maker: bool) -> None:
        """A fill, which is reported later."""
        sim.executions += 1
        fill = Fill(sim.executions, self.now, price, shares, maker, child)
        for i, waiting in enumerate(self.marks):
            waiting.append(fill)
            due = self.now + MARKS[i]
            self.next_mark = due if due < self.next_mark else self.next_mark
        sim.at_last = self._so_far(sim.worker.side)
        fill.frozen = not maker and self._is_frozen(sim.worker.side, child.slot)
        self._push(self.now + self._lag(sim, child), REPORTED, sim, fill, 0)

    def _tell(self, sim: Sim, fill: Fill) -> None:
        """A fill's report; from then on, or when its feed would show it, the order sees these shares no more."""
        worker, child = sim.worker, fill.child
        if not fill.maker:
            if self.delay:
                self._push(self.now + self.delay, SEEN, sim, fill, 0)
            else:
                sim.seen.take(worker.side, child.slot, fill.price, fill.shares, self.now)
        sim.fills.append((fill, worker.on_filled(child.number, fill.number, fill.shares, self.now, True)))

    def _withdraw(self, sim: Sim, child: workers.Child) -> None:
        """The end of a child that rests, where it is not over."""
        for rest in sim.rests:
            if rest.child is child:
                self._leave(rest)
                self._push(self.now + self._lag(sim, child), ENDED, sim, child, child.shares - rest.left)
                return

    # --- queues: rule 4 -------------------------------------------------------------------------------------------

    def _join(self, sim: Sim, child: workers.Child, taken: int) -> None:
        """Behind all that is displayed at its price; of orders of ours a print fills those at better prices first."""
        rest = Rest(sim, child)
        rest.left = child.shares - taken
        shown = self.book.shown(rest.side, child.slot, rest.price)
        if self._is_frozen(rest.side, child.slot):
            shown = -1
        rest.shown_at = self.now
        if shown >= 0:
            rest.front, rest.last = float(shown), shown
        elif sim.queue == OPTIMISTIC:
            rest.front = 0.0
        sim.rests.append(rest)
        others = self.resting[child.slot]
        at = len(others)
        while at and others[at - 1].price > rest.price:
            at -= 1
        others.insert(at, rest)
        self.resters += 1
        if sim.queue == OPTIMISTIC and self.stamp is not None and self.last == self.now:
            self._joins_before(rest)

    def _joins_before(self, rest: Rest) -> None:
        """All that was printed in the stamp in which an order joins, as if it had been there before."""
        rows = self.stamp
        for row in range(self.stamp_at, self.stamp_end):
            if rest.left and rows.slot[row] == rest.child.slot and self._trades(rows, row):
                self._trade(rest, rows, row, self.now)

    def _leave(self, rest: Rest) -> None:
        rest.sim.rests.remove(rest)
        self.resting[rest.child.slot].remove(rest)
        self.resters -= 1

    def _print(self, rows: Rows, row: int, now: int) -> None:
        """A trade of others: it counts as volume, and where its venue has orders of ours, it may fill them."""
        shares, price, slot = rows.size[row], rows.price[row], rows.slot[row]
        self.volume += shares
        self.turnover += float(price) * shares
        self.prints += 1
        if self.same:
            self.changed |= PRINTED
            for listener in self.listeners:
                listener.printed(rows.slot[row], rows.price[row], rows.size[row], rows.side[row], now)
        if slot < 0 or not self.resting[slot]:
            return
        for rest in list(self.resting[slot]):
            self._trade(rest, rows, row, now)

    def _trade(self, rest: Rest, rows: Rows, row: int, now: int) -> None:
        """A print at the venue of an order: nothing where it took from the other side, or at a better price."""
        if rows.side[row] == (SELLER if rest.side == 0 else BUYER):
            return
        price = -rows.price[row] if rest.side else rows.price[row]
        if price >= rest.price:
            self._printed(rest, price, rows.size[row], row, now)

    def _printed(self, rest: Rest, price: int, shares: int, number: int, now: int) -> None:
        used = rest.sim.used
        over = float(shares - used.of_print(number, now))
        if price == rest.price:
            self._forget(rest, now)
            rest.printed += shares
            rest.printed_at = now
            if rest.front == UNKNOWN:
                return
            front = rest.front
            rest.front = front - over if front > over else 0.0
            over -= front
        elif rest.sim.queue != PESSIMISTIC:
            over = float(rest.left)
        filled = int(over + 0.5) if over > 0.0 else 0
        filled = filled if filled < rest.left else rest.left
        if filled > 0 and not self._too_few(rest.child.slot, filled):
            used.printed[number] = used.of_print(number, now) + filled
            self._made(rest, filled)

    def _forget(self, rest: Rest, now: int) -> None:
        """Prints of an earlier stamp that the book has shown since, or in that stamp, explain nothing any more."""
        if rest.printed_at <= rest.shown_at < now:
            rest.printed = 0

    def _made(self, rest: Rest, shares: int) -> None:
        """Shares of ours that were taken."""
        child = rest.child
        rest.left -= shares
        self._fill(rest.sim, child, child.price, shares, True)
        if rest.left == 0:
            self._leave(rest)
            self._push(self.now + self._lag(rest.sim, child), ENDED, rest.sim, child, child.shares)

    def _queue(self, slot: int, now: int) -> None:
        """After a row of a venue: what has left the queues before our orders, and whether the other side is there."""
        book = self.book
        for rest in list(self.resting[slot]):
            shown = -1 if self._is_frozen(rest.side, slot) else book.shown(rest.side, slot, rest.price)
            if shown >= 0:
                self._less(rest, shown, now)
            elif rest.sim.queue == OPTIMISTIC:
                rest.front = 0.0
            if not rest.left:
                continue
            other = (1 - rest.side) * book.width + slot * book.depth
            if book.size[other] and book.price[other] <= rest.child.price:
                self._reached(rest, slot, now)

    def _less(self, rest: Rest, shown: int, now: int) -> None:
        """The queue is seen to hold so many shares."""
        self._forget(rest, now)
        rest.shown_at = now
        over = 0.0
        if rest.front == UNKNOWN:
            rest.front = float(shown)
        elif rest.last > shown:
            gone = rest.last - shown
            printed = gone if gone < rest.printed else rest.printed
            rest.printed -= printed
            gone -= printed
            if rest.sim.queue == OPTIMISTIC:
                over = gone - rest.front
                rest.front = -over if over < 0.0 else 0.0
            elif rest.sim.queue == PROPORTIONAL and gone:
                rest.front -= gone * rest.front / (rest.last - printed)
        if rest.front > shown:
            rest.front = float(shown)
        rest.last = shown
        if over >= 1.0 and not self.traded:  # rule 6: all of it may have been traded
            filled = int(over) if over < rest.left else rest.left
            if not self._too_few(rest.child.slot, filled):
                self._made(rest, filled)

    def _reached(self, rest: Rest, slot: int, now: int) -> None:
        """The other side shows our price, or a better one: whoever shows it would have taken us.

        Each share of it once, and none that we have taken there: it is still shown as nobody told the feed.
        """
        sim, left = rest.sim, rest.left
        side, book = 1 - rest.side, self.book
        if self.ruled:
            there = self._there(sim, side, slot, rest.child.price, left)
            if self._too_few(slot, there if sim.queue == PESSIMISTIC else left):
                return
        first = side * book.width + slot * book.depth
        filled = 0
        for at in range(first, first + book.depth):
            size, price = book.size[at], book.price[at]
            if size == 0 or price > rest.child.price or filled == left:
                break
            size -= sim.used.of(side, slot, price)
            if size > 0:
                size = size if size < left - filled else left - filled
                sim.used.take(side, slot, price, size, now)
                known = now + self._lag(sim, rest.child) + self.delay
                self._push(known, SEEN, sim, Fill(0, now, price, size, True, rest.child), 0)
                filled += size
        if filled:
            self._made(rest, filled if sim.queue == PESSIMISTIC else left)
