"""The state machine against venues that trade as they like, and reports that come late, twice, disordered or never."""

from __future__ import annotations

import random
from collections import Counter
from heapq import heappop, heappush
from typing import Any, NamedTuple

import machines
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from machines import TICK, Machine, show, view_of

SECOND = 10**9
NOTHING = NEVER = 2**62
REJECTS, LEFT_OUT = 3, 30 * SECOND
SLOTS = 3
LENGTH, GRACE = 120 * SECOND, 60 * SECOND
ALL = 10**6


# --- a market that is played by rules of its own ---------------------------------------------------------------------


class Plan(NamedTuple):
    """An order, how it is worked, and the seed of all that venues and reports do."""

    side: int
    shares: int
    limit: int | None  # cents
    schedule: str
    routing: str
    complete: bool
    delay: int  # seconds
    depth: int
    angry: bool  # the first venue rejects most of what it gets
    strays: bool
    seed: int


plans = st.builds(
    Plan,
    side=st.integers(0, 1),
    shares=st.integers(1, 40),
    limit=st.none() | st.integers(100, 106),
    schedule=st.sampled_from(["immediate", "twap", "pov", "steps"]),
    routing=st.sampled_from(
        ["sweep", "levels", "price_fee", "nbbo", "best", "pro_rata", "equal", "rests", "overbooks"]
    ),
    complete=st.booleans(),
    delay=st.sampled_from([0, 3]),
    depth=st.integers(1, 3),
    angry=st.booleans(),
    strays=st.booleans(),
    seed=st.integers(0, 10**6),
)
TAKING = ("sweep", "levels", "price_fee", "nbbo", "best", "pro_rata", "equal")


def routing_of(machine: Machine, name: str) -> Any:
    """Our own by their classes, and two that rest: what was asked for, or twice that at two venues."""
    workers, routings = machine.workers, machine.routings
    if name in TAKING:
        return {
            "sweep": lambda: routings.Sweep(False),
            "levels": lambda: routings.Sweep(True),
            "price_fee": routings.PriceFee,
            "nbbo": routings.Nbbo,
            "best": routings.BestVenue,
            "pro_rata": routings.ProRata,
            "equal": routings.Equal,
        }[name]()

    class Rests(workers.Routing):
        def split(self, worker: Any, shares: int) -> list[Any]:
            price = -worker.view.best[1 - worker.side]
            slots = (0, 1) if name == "overbooks" else (shares % SLOTS,)
            left_out = any(worker.left_out[slot] > worker.now for slot in slots)
            if not worker.fresh or price == -NOTHING or price > worker.limit or left_out:
                return routings.Sweep(False).split(worker, shares)
            until = worker.now + 20 * SECOND
            return [workers.Child(slot, price, shares, True, until) for slot in slots]

    return Rests()


def schedule_of(machine: Machine, name: str) -> Any:
    workers, schedules = machine.workers, machine.schedules
    if name == "steps":

        class Steps(workers.Schedule):
            """As one of the user's own may be: it goes back, and beyond the order."""

            def released(self, worker: Any, now: int, volume: int) -> int:
                return released_by(worker.shares, "steps", now, volume)

            def next(self, worker: Any, now: int) -> int:
                return now + 10 * SECOND - now % (10 * SECOND)

        return Steps()
    made = {"immediate": schedules.Immediate, "twap": lambda: schedules.Twap(8), "pov": lambda: schedules.Pov(0.5)}
    return made[name]()


def released_by(shares: int, name: str, now: int, volume: int) -> int:
    """What a schedule says at a time, in plain numbers."""
    if name == "immediate":
        return shares
    if name == "twap":
        return shares * (now // (15 * SECOND) + 1) // 8
    if name == "pov":
        return volume // 2
    return [0, 5, 2, 9, 0, 30, 1, 90, 7, 8, 9, 10, 11][min(now // (10 * SECOND), 12)]


class Entry(NamedTuple):
    """Shares that are not to be asked for once more."""

    slot: int
    price: int
    shares: int
    number: int  # of the child that is under way; -1: none
    until: int = NEVER  # or its venue's next row


class World:
    """One order on its way, and all that is plainly known about it: traded, told, working, released, rejected."""

    def __init__(self, machine: Machine, plan: Plan, every_second: bool) -> None:
        self.machine, self.plan, self.every_second = machine, plan, every_second
        self.dice = random.Random(plan.seed)
        self.events: list[Any] = []
        self.count = 0
        self.log: list[Any] = []
        self.view = view_of(machine, plan.depth, [0.003, 0.0, -0.001])
        self.limit = NOTHING if plan.limit is None else -plan.limit * TICK if plan.side else plan.limit * TICK
        crossing = machine.routings.Sweep(True) if plan.complete else None
        schedule, routing = schedule_of(machine, plan.schedule), routing_of(machine, plan.routing)
        self.worker = machine.workers.Worker(
            plan.side, plan.shares, self.limit, 0, LENGTH, schedule, routing, crossing, GRACE, plan.delay * SECOND
        )
        self.children: dict[int, Any] = {}
        self.traded: Counter[int] = Counter()  # what venues really traded, by child
        self.open: set[int] = set()  # children that may trade, at their venue
        self.fills: dict[int, tuple[int, int]] = {}  # told: execution to (child, shares)
        self.told: dict[int, int] = {}  # told: child to its cumulative shares at the end
        self.over: set[int] = set()  # children that are known to have ended
        self.cancelled: set[int] = set()
        self.released = self.executions = self.now = 0
        self.row: Counter[int] = Counter()  # rejects in a row, by venue
        self.out_until: Counter[int] = Counter()
        self.spoken: list[Entry] = []  # under way, reported of late, or not there
        self.pieces = 0
        self._script()

    def at(self, time: int, what: Any, *arguments: Any) -> None:
        self.count += 1
        heappush(self.events, (time, self.count, what, arguments))

    def _script(self) -> None:
        """Rows, prints and reports of children that are not ours, up to the end."""
        dice, last = self.dice, (LENGTH + GRACE) // SECOND + 20
        for slot in range(SLOTS):
            self._row(slot, *self._levels())
        for second in range(1, last):
            if dice.random() < 0.4:
                self.at(second * SECOND, self._row, dice.randrange(SLOTS), *self._levels())
            if dice.random() < 0.2:
                self.at(second * SECOND, self._print, dice.randint(1, 6))
            if self.plan.strays and dice.random() < 0.02:
                self.at(second * SECOND, self._stray, dice.choice([-1, ALL]), dice.randint(1, 3))

    def _levels(self) -> tuple[list[Any], list[Any]]:
        dice, depth = self.dice, self.plan.depth
        mid = dice.randint(101, 105)
        bids = [(mid - 1 - level, dice.choice([0, 3, 9])) for level in range(depth)]
        return bids, [(mid + dice.randint(-1, 1) + level, dice.choice([0, 2, 8])) for level in range(depth)]

    # --- the venues ---

    def _row(self, slot: int, bids: Any, asks: Any) -> None:
        show(self.view, slot, bids, asks)
        self.spoken = [one for one in self.spoken if one.slot != slot or one.number >= 0 or one.until != NEVER]
        if self.worker.wants:
            self.worker.on_book(self.now)

    def _print(self, shares: int) -> None:
        self.view.volume += shares
        if self.worker.schedule.follows_volume:
            self.worker.on_book(self.now)

    def _stray(self, number: int, shares: int) -> None:
        """Somebody traded in our name: whose child it was does not matter for what is left to do."""
        self.executions += 1
        self.traded[number] += shares
        for _ in range(2):
            self._fill(number, self.executions, shares)
        self._end(number, shares, False)

    def _send(self, child: Any) -> None:
        """A child meets its fate, which depends on its number alone."""
        number = child.number
        dice = random.Random(f"{self.plan.seed}/{number}")
        lag = dice.randint(0, 4) * SECOND
        self.open.add(number)
        if dice.random() < (0.9 if self.plan.angry and child.slot == 0 else 0.1):
            self.open.discard(number)
            self._tell(dice, lag, self._end, number, 0, True)
            return
        self._tell(dice, lag, self._accept, number)
        says_end = dice.random() < 0.7
        left = child.shares if dice.random() < 0.4 else dice.randint(0, child.shares)
        while left:
            chunk = dice.randint(1, left)
            left -= chunk
            time = self.now + (dice.randint(1, 40) * SECOND if child.rests else 0)
            self.at(time, self._trade, child, chunk, says_end)
        if not child.rests:
            self.at(self.now, self._close, child, lag)

    def _trade(self, child: Any, shares: int, says_end: bool) -> None:
        number = child.number
        if number not in self.open:
            return
        self.executions += 1
        self.traded[number] += shares
        dice = random.Random(f"{self.plan.seed}/{number}/{self.traded[number]}")
        if not says_end or dice.random() < 0.8:  # else it is lost, and the report of the end makes up for it
            self._tell(dice, dice.randint(0, 9) * SECOND, self._fill, number, (number, self.traded[number]), shares)
        if self.traded[number] == child.shares:
            self.open.discard(number)
            if says_end:
                self._tell(dice, dice.randint(0, 9) * SECOND, self._end, number, child.shares, False)

    def _close(self, child: Any, lag: int) -> None:
        """Expired, or cancelled; nothing is said of one that has ended before."""
        if child.number in self.open:
            self.open.discard(child.number)
            dice = random.Random(f"{self.plan.seed}/{child.number}/end")
            self._tell(dice, lag, self._end, child.number, self.traded[child.number], False)

    def _tell(self, dice: random.Random, lag: int, what: Any, *arguments: Any) -> None:
        for _ in range(dice.choice([1, 1, 1, 2, 3])):
            self.at(self.now + lag, what, *arguments)
            lag += dice.randint(0, 5) * SECOND

    # --- reports ---

    def _accept(self, number: int) -> None:
        self.row[self.children[number].slot] = 0
        self.worker.on_accepted(number, self.now)

    def _fill(self, number: int, execution: Any, shares: int) -> None:
        if execution not in self.fills:
            self.fills[execution] = number, shares
            if number in self.children:
                self.row[self.children[number].slot] = 0
                self._known(number)
        pieces = self.worker.on_filled(number, execution, shares, self.now)
        self.pieces += sum(one for one, _ in pieces)

    def _end(self, number: int, cumulative: int, rejected: bool) -> None:
        if number in self.children:
            slot, first = self.children[number].slot, number not in self.over
            self.told[number] = max(cumulative, self.told.get(number, 0))
            if first and rejected:
                self.row[slot] += 1
                if self.row[slot] == REJECTS:
                    self.row[slot] = 0
                    self.out_until[slot] = self.now + LEFT_OUT
            elif first:
                self.row[slot] = 0
            self._known(number, True)
        self.worker.on_ended(number, cumulative, self.now, rejected)

    def _known(self, number: int, ended: bool = False) -> None:
        """What was under way is over: the feed shows later what was traded, and what was not there is not."""
        child = self.children[number]
        if number in self.over or not (ended or self.done(number) >= child.shares):
            return
        self.over.add(number)
        mine = [one for one in self.spoken if one.number == number]
        self.spoken = [one for one in self.spoken if one.number != number]
        filled = self.done(number)
        for one in mine:
            taken = min(filled, one.shares)
            filled -= taken
            self.spoken.append(one._replace(shares=one.shares - taken, number=-1))
            if self.plan.delay:
                self.spoken.append(one._replace(shares=taken, number=-1, until=self.now + self.plan.delay * SECOND))

    # --- what is plainly known ---

    def done(self, number: int) -> int:
        fills = sum(shares for child, shares in self.fills.values() if child == number)
        return max(fills, self.told.get(number, 0))

    def executed(self) -> int:
        strays = sum(shares for child, shares in self.fills.values() if child not in self.children)
        return strays + sum(self.done(number) for number in self.children)

    def working(self) -> int:
        going = self.children.keys() - self.over
        return sum(self.children[number].shares - self.done(number) for number in going)

    def shown(self, slot: int, price: int) -> int:
        """Shares at a price or better ones, less those that are spoken for."""
        first = self.plan.side * self.view.width + slot * self.view.depth
        shares = 0
        for at in {self.view.price[at] for at in range(first, first + self.view.depth) if self.view.size[at]}:
            if at <= price:
                sizes = [self.view.size[i] for i in range(first, first + self.view.depth) if self.view.price[i] == at]
                shares += max(0, sum(sizes) - self.spoken_for(slot, at))
        return shares

    def spoken_for(self, slot: int, price: int) -> int:
        here = [one for one in self.spoken if (one.slot, one.price) == (slot, price)]
        return sum(one.shares for one in here if one.until > self.now)

    # --- the drive ---

    def run(self) -> World:
        self.worker.begin(self.view, None, 0)
        self._after()
        seconds = iter(range(1, ALL)) if self.every_second else iter(())
        tick = next(seconds, ALL) * SECOND
        while not (self.worker.done and not self.events):
            due = self.events[0][0] if self.events else NEVER
            wake = NEVER if self.worker.done else max(self.worker.wake, self.now)
            ticks = tick if not self.worker.done else NEVER
            assert min(due, wake, ticks) < 1000 * SECOND, "it sleeps for ever"
            if due <= min(wake, ticks):
                self.now, _, what, arguments = heappop(self.events)
                what(*arguments)
            else:
                self.now = min(wake, ticks)
                tick = next(seconds) * SECOND if ticks == self.now else tick
                self.worker.on_time(self.now)
            self._after()
        return self

    def _after(self) -> None:
        """What was wanted is done, and all that is known holds."""
        worker, plan = self.worker, self.plan
        due = released_by(plan.shares, plan.schedule, self.now, self.view.volume) if self.now < LENGTH else plan.shares
        actions = list(worker.out)
        worker.out.clear()
        if not self.closed:
            self.released = max(self.released, min(due, plan.shares))
        assert worker.executed == self.executed() <= self.traded.total()
        assert worker.overfill() == max(0, worker.executed - plan.shares)
        for action in actions:
            assert not self.closed
            if isinstance(action, self.machine.workers.Child):
                self._sent(action)
            else:
                self._cancel(action.child)
        assert worker.working() == self.working()
        if actions and plan.routing in TAKING:
            assert worker.executed + worker.working() <= self.released
        self.closed = self.closed or worker.done
        if self.released <= worker.executed or worker.closing:
            resting = {number for number, child in self.children.items() if child.rests}
            assert resting - self.over <= self.cancelled

    closed = False

    def _sent(self, child: Any) -> None:
        number, slot = child.number, child.slot
        self.log.append((self.now, "send", number, slot, child.price, child.shares, child.rests, child.until))
        assert number == len(self.children)
        assert child.price <= self.limit
        assert self.out_until[slot] <= self.now, "this venue rejects whatever it gets"
        assert self.now < LENGTH + (GRACE if self.plan.complete else 0)
        assert self.worker.executed < self.released
        if not child.rests:
            self._reserve(child)
        self.children[number] = child
        self._send(child)

    def _reserve(self, child: Any) -> None:
        assert child.shares <= self.shown(child.slot, child.price), "this is under way, or was not there"
        left, first = child.shares, self.plan.side * self.view.width + child.slot * self.view.depth
        for at in range(first, first + self.view.depth):
            price, size = self.view.price[at], self.view.size[at]
            size -= self.spoken_for(child.slot, price)
            if size > 0 and left and price <= child.price:
                self.spoken.append(Entry(child.slot, price, min(left, size), child.number))
                left -= min(left, size)

    def _cancel(self, child: Any) -> None:
        number = child.number
        self.log.append((self.now, "cancel", number))
        assert child.rests
        assert number not in self.cancelled | self.over
        self.cancelled.add(number)
        early = child.until > self.now and self.worker.executed < self.released
        assert not early or self.now >= LENGTH
        lag = random.Random(f"{self.plan.seed}/{number}/cancel").randint(0, 6) * SECOND
        self.at(self.now + lag, self._close, child, lag)


# --- whatever comes in -----------------------------------------------------------------------------------------------

SWEEP = Plan(0, 30, None, "immediate", "sweep", True, 3, 1, True, True, 7)


@settings(max_examples=150)
@given(plan=plans)
@example(plan=SWEEP)
@example(plan=SWEEP._replace(routing="overbooks", side=1))
@example(plan=SWEEP._replace(routing="levels", schedule="pov", depth=3))
def test_nothing_is_counted_twice_and_none_is_lost(machine: Machine, plan: Plan) -> None:
    """Whatever order, doubling or delay reports come in; all else that holds, after each event, in `World._after`."""
    world = World(machine, plan, every_second=False).run()
    worker = world.worker
    assert worker.executed == world.traded.total()
    assert worker.working() == 0
    assert worker.strays == world.traded[-1] + world.traded[ALL]
    assert world.pieces == sum(shares for _, shares in world.fills.values())
    assert worker.cancels == len(world.cancelled)
    if plan.routing in TAKING and not plan.strays:
        assert worker.overfill() == 0


IDEMPOTENT = st.sampled_from(["sweep", "nbbo", "pro_rata", "rests", "overbooks"]).map(lambda name: (name, 1))


@given(plan=plans, way=IDEMPOTENT | st.tuples(st.just("levels"), st.integers(1, 3)))
@example(plan=SWEEP._replace(schedule="twap"), way=("rests", 1))
def test_asked_at_wake_times_alone_it_does_the_same_as_asked_each_second(
    machine: Machine, plan: Plan, way: tuple[str, int]
) -> None:
    """With routings that send at once all that they ever would; `World` lets the same actions have the same effects."""
    plan = plan._replace(routing=way[0], depth=way[1])
    waking, asked = (World(machine, plan, every_second).run() for every_second in (False, True))
    assert waking.log == asked.log
    assert (waking.now, waking.worker.executed) == (asked.now, asked.worker.executed)


@given(plan=plans)
def test_both_kernels_do_the_same(plan: Plan) -> None:
    pytest.importorskip("sor.execution._worker", exc_type=ImportError)
    python, cython = (World(machines.machine(kernel), plan, every_second=False).run() for kernel in machines.KERNELS)
    assert python.log == cython.log
    for name in ("executed", "rejections", "cancels", "strays", "now"):
        assert getattr(python.worker, name) == getattr(cython.worker, name)


def test_the_scripts_have_what_they_are_to_try(machine: Machine) -> None:
    """Rejects until a venue is left out, cancels, overfill, fills after the end, doubled and lost ones."""
    seen: Counter[str] = Counter()
    for seed in range(60):
        routing = ("sweep", "rests", "overbooks")[seed % 3]
        world = World(machine, SWEEP._replace(routing=routing, seed=seed, strays=False), False).run()
        seen["left out"] += bool(world.out_until)
        seen["cancelled"] += len(world.cancelled)
        seen["overfilled"] += world.worker.overfill() > 0
        seen["lost"] += world.traded.total() > sum(shares for _, shares in world.fills.values())
        seen["fully executed"] += world.worker.executed == world.plan.shares
    assert all(seen[name] for name in ("left out", "cancelled", "overfilled", "lost", "fully executed")), seen


# --- one thing at a time ---------------------------------------------------------------------------------------------


def begun(machine: Machine, asks: list[Any], routing: Any = None, **more: Any) -> Any:
    """A buyer's worker at time 0; each of ``asks`` is what a venue shows, as levels of (cents, size)."""
    depth = max(len(levels) for levels in asks)
    view = view_of(machine, depth, [0.0] * len(asks))
    for slot, levels in enumerate(asks):
        show(view, slot, [(90, 5)], levels)
    settings = {"shares": 10, "limit": NOTHING, "schedule": machine.schedules.Immediate(), "delay": 0, "grace": GRACE}
    settings |= {"complete": True} | more
    crossing = machine.routings.Sweep(True) if settings["complete"] else None
    routing = machine.routings.Sweep(True) if routing is None else routing
    worker = machine.workers.Worker(
        0, settings["shares"], settings["limit"], 0, LENGTH, settings["schedule"], routing, crossing, settings["grace"],
        settings["delay"],
    )  # fmt: skip
    worker.begin(view, None, 0)
    return worker


def wanted(worker: Any) -> list[tuple[int, ...]]:
    """(slot, shares) of each order that was sent since, and (-1, number) of each that is to be cancelled."""
    found = [(one.slot, one.shares) if hasattr(one, "slot") else (-1, one.child.number) for one in worker.out]
    worker.out.clear()
    return found


def of(machine: Machine, orders: Any) -> Any:
    """A routing that gives what a function of (worker, shares) does."""

    class Of(machine.workers.Routing):
        def split(self, worker: Any, shares: int) -> list[Any]:
            return [machine.workers.Child(*order) for order in orders(worker, shares)]

    return Of()


def test_a_venue_that_rejects_three_times_in_a_row_is_left_out_for_a_while(machine: Machine) -> None:
    worker = begun(machine, [[(100, 10)]])
    for number in range(REJECTS):
        assert wanted(worker) == [(0, 10)]
        worker.on_ended(number, 0, number * SECOND, True)
        worker.on_ended(number, 0, number * SECOND, True)  # this is no other reject
        assert wanted(worker) == []
        show(worker.view, 0, [(90, 5)], [(100, 10)])
        worker.on_book(number * SECOND)
    until = 2 * SECOND + LEFT_OUT
    assert worker.absences == [(0, 2 * SECOND)]
    assert (worker.rejections, wanted(worker), worker.wake) == (REJECTS, [], until)
    show(worker.view, 0, [(90, 5)], [(100, 10)])
    worker.on_book(until - 1)
    assert (wanted(worker), worker.wake) == ([], until)
    worker.on_time(until)
    assert wanted(worker) == [(0, 10)]
    worker.on_ended(REJECTS, 0, until, True)  # now they are counted from the start
    show(worker.view, 0, [(90, 5)], [(100, 10)])
    worker.on_book(until)
    assert wanted(worker) == [(0, 10)]


@pytest.mark.parametrize("between", ["expired", "filled", "accepted"])
def test_rejects_are_in_a_row_only_where_nothing_was_taken_between(machine: Machine, between: str) -> None:
    worker = begun(machine, [[(100, 10)]], shares=100)
    for number in range(2 * REJECTS):
        assert len(wanted(worker)) == 1
        if number % 2:
            worker.on_ended(number, 0, number, True)
        elif between == "expired":
            worker.on_ended(number, 0, number)
        elif between == "filled":
            worker.on_filled(number, "all", 10, number)
        else:
            worker.on_accepted(number, number)
            worker.on_ended(number, 0, number, True)
        show(worker.view, 0, [(90, 5)], [(100, 10)])
        worker.on_book(number)
    assert wanted(worker) != []


def test_nothing_is_sent_to_a_venue_that_is_left_out_not_even_to_rest(machine: Machine) -> None:
    worker = begun(machine, [[(100, 10)]], of(machine, lambda worker, shares: [(0, 99 * TICK, shares, True)]))
    for number in range(REJECTS):
        assert wanted(worker) == [(0, 10)]
        worker.on_ended(number, 0, 0, True)
    assert (wanted(worker), worker.wake) == ([], LEFT_OUT)
    worker.on_time(LEFT_OUT)
    assert wanted(worker) == [(0, 10)]


def test_what_is_under_way_is_taken_off_until_the_feed_shows_it(machine: Machine) -> None:
    """From send to the report, and what was traded for the feed's delay longer; the machine wakes then."""
    worker = begun(machine, [[(100, 6)]], delay=3 * SECOND)
    assert wanted(worker) == [(0, 6)]
    worker.on_book(SECOND)
    assert wanted(worker) == []
    worker.on_filled(0, "a", 6, 2 * SECOND)
    assert (wanted(worker), worker.wake) == ([], 5 * SECOND)
    worker.on_book(5 * SECOND - 1)
    assert wanted(worker) == []
    worker.on_time(5 * SECOND)
    assert wanted(worker) == [(0, 4)]


def test_what_was_not_there_is_not_tried_again_before_the_next_row_of_its_venue(machine: Machine) -> None:
    worker = begun(machine, [[(100, 6)], [(101, 4)]])
    assert wanted(worker) == [(0, 6), (1, 4)]
    worker.on_ended(0, 2, SECOND)
    worker.on_ended(1, 4, SECOND)
    assert worker.executed == 6
    assert wanted(worker) == [(0, 2), (1, 2)]  # of six at the first venue four were not there, of the second all were
    show(worker.view, 1, [(90, 5)], [(101, 4)])
    worker.on_ended(2, 0, SECOND)
    worker.on_ended(3, 0, SECOND)
    assert wanted(worker) == [(1, 2)]
    show(worker.view, 0, [(90, 5)], [(100, 6)])
    worker.on_ended(4, 0, 2 * SECOND)
    assert wanted(worker) == [(0, 4)]


def test_shares_of_several_levels_come_back_from_the_worst(machine: Machine) -> None:
    """A venue gives its best first: what an order got of it lies there, whatever was reserved before it."""
    worker = begun(machine, [[(99, 1), (100, 1), (101, 1)], [(100, 10), (101, 10), (102, 10)]], shares=26)
    assert wanted(worker) == [(0, 3), (1, 23)]
    show(worker.view, 0, [(90, 5)], [])
    worker.on_ended(0, 0, SECOND)
    worker.on_book(SECOND)  # what the first venue has not is forgotten, and other entries move
    assert wanted(worker) == [(1, 3)]
    worker.on_filled(1, "a", 15, 2 * SECOND)
    worker.on_ended(1, 15, 2 * SECOND)
    left = {price: worker.reserved.of(0, 1, price * TICK) for price in (100, 101, 102)}
    assert wanted(worker) == [(1, 8)]  # the first ten are shown again, as far as anybody knows
    assert left == {100: 8, 101: 5, 102: 3 + 3}


def test_an_order_that_has_traded_wholly_is_over_without_another_report(machine: Machine) -> None:
    worker = begun(machine, [[(100, 10)]])
    worker.on_filled(0, "a", 4, 1)
    assert (worker.done, worker.working()) == (False, 6)
    worker.on_filled(0, "b", 6, 2)
    assert (worker.done, worker.working(), worker.executed) == (True, 0, 10)
    worker.on_ended(0, 10, 3)
    worker.on_filled(0, "c", 1, 4)
    assert (worker.executed, worker.overfill(), worker.wake) == (11, 1, NEVER)


def test_a_cumulative_that_is_more_than_the_fills_counts_until_they_come(machine: Machine) -> None:
    worker = begun(machine, [[(100, 10)]])
    assert wanted(worker) == [(0, 10)]
    for cumulative in (7, 5):  # of two reports the later one may have been sent first
        worker.on_ended(0, cumulative, 1)
        assert worker.executed == 7
    show(worker.view, 0, [(90, 5)], [(100, 10)])
    worker.on_book(1)
    assert wanted(worker) == [(0, 3)]
    for execution, shares, executed in [("a", 5, 7), ("a", 5, 7), ("b", 2, 7), ("c", 1, 8)]:
        worker.on_filled(0, execution, shares, 2)
        assert worker.executed == executed


def test_reports_of_orders_that_are_not_ours(machine: Machine) -> None:
    """Shares in our name are shares, and count once; the end of an unknown order says nothing of what is left to do."""
    worker = begun(machine, [[(100, 6)]])
    for number in (-1, 1, 10**9):
        worker.on_accepted(number, 1)
        worker.on_ended(number, 5, 1, True)
        worker.on_filled(number, number, 1, 1)
        worker.on_filled(number, number, 1, 1)
    assert (worker.strays, worker.executed, worker.rejections) == (3, 3, 0)
    assert wanted(worker) == [(0, 6)]
    show(worker.view, 0, [(90, 5)], [(101, 6)])
    worker.on_book(2)
    assert wanted(worker) == [(0, 1)]


def test_two_venues_may_number_their_fills_alike(machine: Machine) -> None:
    worker = begun(machine, [[(100, 6)], [(101, 4)]])
    for number in (0, 1, 0, 1):
        worker.on_filled(number, "1", 3, 1)
    assert worker.executed == 6


def test_shares_that_were_used_are_taken_off(machine: Machine) -> None:
    """Those that somebody else keeps count of; the order sees them no more."""
    worker = begun(machine, [[(100, 6)], [(101, 9)]], shares=4)
    worker.on_ended(0, 0, 1)
    wanted(worker)
    used = machine.views.Taken()
    for side, slot, price, shares in [(0, 0, 100, 5), (0, 1, 101, 9), (1, 0, 100, 6), (0, 0, 101, 6)]:
        used.add(side, slot, price * TICK, shares, 0, 0)
    other = machine.workers.Worker(
        0, 4, NOTHING, 0, LENGTH, machine.schedules.Immediate(), machine.routings.Sweep(True), None, 0, 0
    )
    other.begin(worker.view, used, 2)
    assert wanted(other) == [(0, 1)]


def test_no_more_is_fresh_than_is_asked_for(machine: Machine) -> None:
    """Of ten that are released anew seven are traded already."""
    worker = begun(machine, [[(100, 40)]], schedule=machine.schedules.Twap(2), shares=20)
    assert (worker.fresh, wanted(worker)) == (10, [(0, 10)])
    worker.on_filled(-1, "a", 7, 1)
    worker.on_filled(0, "b", 10, 2)
    worker.on_time(LENGTH // 2)
    assert (worker.fresh, wanted(worker)) == (3, [(0, 3)])


def test_no_child_is_worse_than_the_limit(machine: Machine) -> None:
    asked = [(0, 101 * TICK, 2), (0, 102 * TICK, 2), (0, 100 * TICK, 0), (0, 102 * TICK, 2, True)]
    worker = begun(machine, [[(101, 9)]], of(machine, lambda worker, shares: asked), limit=101 * TICK)
    assert wanted(worker) == [(0, 2)]
    worker = begun(machine, [[(101, 9), (102, 9)]], limit=101 * TICK, shares=20)
    assert wanted(worker) == [(0, 9)]


def test_an_order_for_what_is_not_there_is_not_sent(machine: Machine) -> None:
    """It would come back, and be sent again, and where nothing takes time that has no end."""
    worker = begun(machine, [[(101, 4)]], of(machine, lambda worker, shares: [(0, 105 * TICK, shares)]))
    sent = []
    while found := wanted(worker):
        sent += found
        worker.on_ended(len(sent) - 1, 0, 0)
        assert len(sent) < 10
    assert sent == [(0, 10)]


def test_overbooking_ends_as_soon_as_the_released_shares_are_traded(machine: Machine) -> None:
    """At half the order, too; what is traded on the way is overfill only beyond the order."""
    class_ = machine.workers.Schedule

    class Half(class_):
        def released(self, worker: Any, now: int, volume: int) -> int:
            return 5

    orders = of(machine, lambda worker, shares: [(slot, 99 * TICK, shares, True) for slot in (0, 1)])
    worker = begun(machine, [[(100, 10)], [(100, 10)]], orders, schedule=Half())
    assert wanted(worker) == [(0, 5), (1, 5)]
    worker.on_filled(0, "a", 4, 1)
    assert wanted(worker) == []
    worker.on_filled(1, "b", 1, 2)
    assert wanted(worker) == [(-1, 0), (-1, 1)]
    worker.on_filled(1, "c", 4, 3)
    worker.on_ended(0, 4, 3)
    assert (worker.executed, worker.overfill(), worker.working(), wanted(worker)) == (9, 0, 0, [])
    worker.on_filled(0, "d", 2, 4)
    assert (worker.executed, worker.overfill(), worker.done) == (11, 1, True)


def test_what_rests_is_cancelled_at_its_time(machine: Machine) -> None:
    worker = begun(machine, [[(100, 10)]], of(machine, lambda _, shares: [(0, 99 * TICK, shares, True, 5 * SECOND)]))
    assert (wanted(worker), worker.wake) == ([(0, 10)], 5 * SECOND)
    worker.on_time(5 * SECOND - 1)
    assert wanted(worker) == []
    worker.on_time(5 * SECOND)
    assert (wanted(worker), worker.wake) == ([(-1, 0)], LENGTH)
    worker.on_time(6 * SECOND)
    assert (wanted(worker), worker.cancels) == ([], 1)


def test_what_takes_is_not_cancelled(machine: Machine) -> None:
    """Whatever time it is given: no report can be waited for that way."""
    worker = begun(machine, [[(100, 10)]], of(machine, lambda _, shares: [(0, 100 * TICK, shares, False, SECOND)]))
    assert (wanted(worker), worker.wake) == ([(0, 10)], LENGTH)
    for time in (LENGTH, LENGTH + GRACE):
        worker.on_time(time)
    assert (wanted(worker), worker.wake, worker.done) == ([], NEVER, False)
    worker.on_ended(0, 0, LENGTH + GRACE + 1)
    assert (wanted(worker), worker.done) == ([], True)


@pytest.mark.parametrize(("complete", "grace"), [(True, GRACE), (True, 0), (False, GRACE)])
def test_the_end_rule(machine: Machine, complete: bool, grace: int) -> None:
    """What rests is cancelled; then what is left is crossed, again at each change until the grace is over, or left."""
    rests = of(machine, lambda worker, shares: [(0, 99 * TICK, shares - 4, True)] * (worker.now == 0))
    worker = begun(machine, [[(101, 3)]], rests, complete=complete, grace=grace)
    assert (wanted(worker), worker.wake) == ([(0, 6)], LENGTH)
    worker.on_time(LENGTH)
    assert wanted(worker) == [(-1, 0)] + [(0, 3)] * complete
    assert worker.wake == (LENGTH + grace if complete else NEVER)
    worker.on_ended(0, 0, LENGTH)
    if complete and grace:
        show(worker.view, 0, [(90, 5)], [(102, 7)])
        worker.on_book(LENGTH + grace - 1)
        assert wanted(worker) == [(0, 7)]
        worker.on_ended(2, 0, LENGTH + grace - 1)
        assert wanted(worker) == []
    worker.on_time(LENGTH + grace)
    show(worker.view, 0, [(90, 5)], [(101, 20)])
    worker.on_book(LENGTH + grace)
    assert (wanted(worker), worker.done) == ([], not complete)
    if complete:
        worker.on_ended(1, 0, LENGTH + grace)
    assert (wanted(worker), worker.done, worker.wake) == ([], True, NEVER)


def test_fills_belong_to_the_release_that_was_first(machine: Machine) -> None:
    """Each with twice the mid of its release; what is beyond all releases has the last one's."""
    worker = begun(machine, [[(100, 40)]], schedule=machine.schedules.Twap(4), shares=8)
    for part in range(4):
        worker.on_time(part * LENGTH // 4)
        show(worker.view, 0, [(90, 5)], [(101 + part, 40)])
    mids = [(190 + part) * TICK for part in range(4)]
    assert worker.on_filled(0, "a", 3, LENGTH - 1) == [(2, mids[0]), (1, mids[1])]
    assert worker.on_filled(0, "a", 3, LENGTH - 1) == []
    assert worker.on_filled(1, "b", 4, LENGTH - 1) == [(1, mids[1]), (2, mids[2]), (1, mids[3])]
    assert worker.on_filled(1, "c", 3, LENGTH - 1) == [(1, mids[3]), (2, mids[3])]
