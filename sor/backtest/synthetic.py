"""A market of one symbol, made order by order, of which everything is known; docs/simulate.md tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.random import Generator, default_rng  # numpy imports it late, and an interrupt meanwhile is lost

from sor.backtest.limit_book import CANCELLATIONS, TICK, BookSide, LimitBook, RestingOrder
from sor.backtest.scenario import (
    ANNOUNCE,
    CANCEL,
    JUMP,
    LIMIT,
    NEWS,
    PRINT,
    SAMPLE,
    SECOND,
    TAKE,
    Scenario,
    timetable,
)
from sor.backtest.truth import Sample, Truth
from sor.market.columns import NO_PRICE, ROWS, STANDS, Batch
from sor.market.taq import OFF_EXCHANGE
from sor.market.venues import VenueDirectory

BEHIND = 10  # ticks behind the touch that nobody quotes
OFFSETS = (0,) * 8 + (1,) * 4 + (2,) * 3 + (3, 3, 4, 4, 5, 6, 7, 8, 9)  # ticks behind the touch of limit orders
LOTS = (1,) * 10 + (2,) * 4 + (3, 3, 4, 5, 5, 10)  # sizes of orders, in round lots
ODD = 0.12  # part of the orders that are an odd lot
ROUND = 100  # shares
CROWDED = 100  # orders of a venue, from which on no cancellation is passed over
JOINS = 0.6  # with which a venue's maker is there at once when the touch moves
OPENING = 3  # orders a level that the day begins with
LEAST = 100  # shares that the touch shows always, at all venues together

BUY, SELL = ord("B"), ord("A")
ADDED, CANCELLED, GROWN, TRADED = map(ord, "ACMT")

# Time, sequence, publisher, action, side, ticks and size of what has happened, and the levels of both sides after it.
Row = tuple[int, int, int, int, int, int, int, tuple[int, ...], tuple[int, ...]]
NO_BOOK = ()


class SyntheticMarket:
    """A market, made when it is first asked for; the same scenario gives the same rows and the same truth.

    Parameters
    ----------
    scenario : Scenario
    directory : VenueDirectory, optional
        Publishers and fees of the venues, by default the built-in one.

    Raises
    ------
    InputError
        A venue is not in the directory.

    Examples
    --------
    >>> market = SyntheticMarket(Scenario(seed=7, duration=600))
    >>> rows = sum(len(batch) for batch in market.batches())
    >>> market.truth.orders["executed"].sum()
    """

    def __init__(self, scenario: Scenario, directory: VenueDirectory | None = None) -> None:
        self.scenario = scenario
        self.directory = VenueDirectory.load() if directory is None else directory
        self._publishers = [self.directory.publisher_of(mic) for mic in scenario.venues]
        self._made: MarketDay | None = None
        self._truth: Truth | None = None

    def batches(self) -> Iterator[Batch]:
        """The feed: a row an event that its venue shows, with the book after it."""
        return self._day().tape.batches(self.scenario)

    @property
    def truth(self) -> Truth:
        """What no feed tells."""
        if self._truth is None:
            day = self._day()
            self._truth = Truth(self.scenario, self.directory, day.orders, day.samples, day.announcements)
        return self._truth

    def _day(self) -> MarketDay:
        if self._made is None:
            books = [LimitBook(mic, number) for mic, number in zip(self.scenario.venues, self._publishers, strict=True)]
            self._made = MarketDay(self.scenario, books)
            self._made.run()
        return self._made


class _Tape:
    """Rows as they happen."""

    def __init__(self, depth: int) -> None:
        self.rows: list[Row] = []
        self._depth = depth
        self._printed = 0

    def add(self, side: BookSide, time: int, action: int, code: int, key: int, size: int) -> None:
        """A message of a venue, where it trades or changes what is shown."""
        book = side.book
        book.sequence += 1
        top = side.top(self._depth)
        if action != TRADED and top == side.told:
            return
        side.told = top
        bids, asks = book.sides
        self.rows.append(
            (time, book.sequence, book.publisher, action, code, key * side.sign, size, bids.told, asks.told)
        )

    def print(self, time: int, code: int, ticks: int, size: int) -> None:
        """A trade off exchange."""
        self._printed += 1
        self.rows.append((time, self._printed, OFF_EXCHANGE, TRADED, code, ticks, size, NO_BOOK, NO_BOOK))

    def batches(self, scenario: Scenario) -> Iterator[Batch]:
        for at in range(0, len(self.rows), ROWS):
            yield _batch(self.rows[at : at + ROWS], scenario)


def _batch(rows: list[Row], of: Scenario) -> Batch:
    stands = (0,) * of.depth + (STANDS,) * of.depth
    time, sequence, publisher, action, side, ticks, size, bids, asks = zip(*rows, strict=True)
    levels = {}
    for name, shown in (("bid", bids), ("ask", asks)):
        told = np.array([one or stands for one in shown], np.int64)
        keys, sizes = told[:, : of.depth], told[:, of.depth :]
        levels[f"{name}_price"] = np.where(keys == 0, NO_PRICE, np.abs(keys) * TICK)
        levels[f"{name}_size"] = np.ascontiguousarray(sizes)
    times = np.array(time, np.int64)
    return Batch(
        (of.symbol,),
        symbol=np.zeros(len(rows), np.int32),
        time=times,
        receipt=times + round(of.feed_delay * SECOND),
        sequence=np.array(sequence, np.uint64),
        publisher=np.array(publisher, np.uint16),
        action=np.array(action, np.uint8),
        side=np.array(side, np.uint8),
        price=np.array(ticks, np.int64) * TICK,
        size=np.array(size, np.int64),
        flags=np.zeros(len(rows), np.uint8),
        **levels,
    )


class MarketDay:
    """The books of all venues, and what happens to them.

    Parameters
    ----------
    scenario : Scenario
    books : list of LimitBook
        Empty ones, of the scenario's venues.

    Attributes
    ----------
    tape
        Rows of the feed; ``tape.batches(scenario)`` has them as columns.
    orders : list of RestingOrder
        All that ever rested, in the order of arrival.
    samples : list of Sample
    value : int
        Ticks.
    announcements : int64, (n, 3)
        As in `Timetable`, once it has run.
    """

    def __init__(self, scenario: Scenario, books: list[LimitBook]) -> None:
        self.scenario = scenario
        self.books = books
        self.tape = _Tape(scenario.depth)
        self.orders: list[RestingOrder] = []
        self.samples: list[Sample] = []
        self.value = scenario.ticks
        self._now = 0
        self._rng = default_rng(scenario.seed)
        self._uniform = _uniform(self._rng)
        self._pick = CANCELLATIONS[scenario.cancellations]
        self._flow = [1.0 / (1 + i) for i in range(len(books))]
        for side in (side for book in books for side in book.sides):
            side.told = side.top(scenario.depth)

    def run(self) -> None:
        plan = timetable(self.scenario, self._rng)
        self.announcements = plan.announcements
        self._open()
        happen: dict[int, Callable[[int], None]] = {
            LIMIT: self._limit, CANCEL: self._cancel, TAKE: self._take, PRINT: self._print, NEWS: self._move,
            ANNOUNCE: self._announce, JUMP: self._move, SAMPLE: self._sample,
        }  # fmt: skip
        acts = [happen[kind] for kind in range(len(happen))]
        events = zip(plan.time.tolist(), plan.kind.tolist(), plan.value.tolist(), strict=True)
        for number, (time, kind, value) in enumerate(events):
            self._begin(number, time)
            acts[kind](value)

    def _begin(self, number: int, time: int) -> None:
        """The next event is here."""
        if time > self._now:
            self._now = time - 1

    def _tick(self) -> int:
        """The time of the next message: no two have one, but for the trades of one order."""
        self._now += 1
        return self._now

    # --- messages ---

    def _post(self, side: BookSide, key: int, size: int, hidden: bool = False) -> None:
        order = RestingOrder(len(self.orders) + 1, side, key, size, hidden, self._tick())
        self.orders.append(order)
        side.add(order)
        if not hidden:
            self.tape.add(side, order.time, ADDED, side.code, key, size)

    def _withdraw(self, order: RestingOrder) -> None:
        time, size, side = self._tick(), order.left, order.side
        order.cancelled = time
        side.reduce(order, size)
        order.left = size
        if not order.hidden:
            self.tape.add(side, time, CANCELLED, side.code, order.key, size)

    def _withdraw_all(self, side: BookSide, hidden: bool, key: int) -> None:
        queues = side.hidden if hidden else side.queues
        while queue := queues.get(key):
            self._withdraw(queue[self._pick(len(queue), self._uniform)])

    def _execute(self, side: BookSide, limit: int, quantity: int) -> int:
        """Trade with what rests on a side, the best first, up to a key; the shares that are left."""
        time, code = 0, BUY if side.sign > 0 else SELL
        while quantity and (order := side.first(limit)) is not None:
            time = time or self._tick()
            size = min(quantity, order.left)
            quantity -= size
            order.executed += size
            order.first_fill = order.first_fill or time
            side.reduce(order, size)
            if not order.left:
                order.completed = time
            self.tape.add(side, time, TRADED, code, order.key, size)
        return quantity

    # --- what happens ---

    def _open(self) -> None:
        self._now = self.scenario.start - 1
        for book in self.books:
            for side in book.sides:
                for key in range(self._touch(side), self._touch(side) + BEHIND):
                    for _ in range(OPENING):
                        self._post(side, key, self._size())

    def _limit(self, _: int) -> None:
        uniform = self._uniform
        book = self._venue(self.books)
        side = book.sides[uniform() < 0.5]
        if self.scenario.grow and uniform() < self.scenario.grow:
            self._grow(book)
            return
        size = self._size()
        if self.scenario.hidden and uniform() < self.scenario.hidden:
            between = side.sign * self.value  # half of the hidden ones stand between the best quotes
            across = book.sides[side.sign < 0].hidden
            inside = uniform() < 0.5 and -between not in across
            self._post(side, between if inside else between + 1, size, hidden=True)
        else:
            self._post(side, self._touch(side) + OFFSETS[int(len(OFFSETS) * uniform())], size)

    def _grow(self, book: LimitBook) -> None:
        order = self._any(book)
        if order is None or order.hidden:
            return
        shares = self._size()
        order.side.grow(order, shares)
        self.tape.add(order.side, self._tick(), GROWN, order.side.code, order.key, order.left)

    def _cancel(self, _: int) -> None:
        book = self._venue(self.books)
        if CROWDED * self._uniform() < len(book.live):
            order = self._any(book)
            if order is not None:
                queue = order.side.queue(order)
                self._withdraw(queue[self._pick(len(queue), self._uniform)])
                self._anchor(order.side.sign)

    def _take(self, _: int) -> None:
        """An order that takes at the best price of all venues, and at no other."""
        sign = 1 if self._uniform() < 0.5 else -1
        left = self._size()
        if self._uniform() < 0.1:
            left *= 10
        sides = [book.sides[sign > 0] for book in self.books]
        touch = self._touch(sides[0])
        sides = [side for side in sides if self._shown(side, touch)]
        while left and sides:
            side = self._venue([one.book for one in sides]).sides[sign > 0]
            sides.remove(side)
            left = self._execute(side, touch, left)
        self._anchor(sign)

    def _print(self, _: int) -> None:
        self.tape.print(self._tick(), ord("N"), self.value, self._size())

    def _announce(self, ticks: int) -> None:
        if self.scenario.off_exchange:
            self.tape.print(self._tick(), BUY if ticks > 0 else SELL, self.value, ROUND)

    def _move(self, ticks: int) -> None:
        """The value moves: informed traders take what is stale, owners withdraw the rest, makers quote anew."""
        self.value += ticks
        stale = [book.sides[ticks > 0] for book in self.books]
        touch = self._touch(stale[0])
        for side in stale:
            self._execute(side, touch - 2, 2**62)
            part = max(
                0.0, 2.0 * self._uniform() - 1.0
            )  # at the price that is now the value, half of them take nothing
            self._execute(side, touch - 1, int(part * (self._shown(side, touch - 1) + 1)))
        for side in stale:
            for hidden, keys in ((False, side.keys), (True, side.hidden_keys)):
                while keys and keys[0] < touch:
                    self._withdraw_all(side, hidden, keys[0])
        for book in self.books:
            self._requote(book.sides[ticks > 0], 1)
            self._requote(book.sides[ticks < 0], abs(ticks))
        for sign in (-1, 1):
            self._anchor(sign)

    def _requote(self, side: BookSide, levels: int) -> None:
        """A maker quotes the levels that have come to be behind the touch; nobody quotes far behind."""
        touch = self._touch(side)
        for key in range(touch, touch + levels):
            if not self._shown(side, key) and self._uniform() < JOINS:
                self._post(side, key, ROUND * (1 + int(5 * self._uniform())))
        for hidden, keys in ((False, side.keys), (True, side.hidden_keys)):
            while keys and keys[-1] >= touch + BEHIND:
                self._withdraw_all(side, hidden, keys[-1])

    def _anchor(self, sign: int) -> None:
        """Somebody always shows shares at the touch, so that only the value moves it."""
        sides = [book.sides[sign > 0] for book in self.books]
        touch = self._touch(sides[0])
        shown = 0
        for side in sides:
            shown += self._shown(side, touch)
        if shown < LEAST:
            side = self._venue(self.books).sides[sign > 0]
            self._post(side, touch, ROUND * (2 + int(4 * self._uniform())))

    def _sample(self, _: int) -> None:
        shown = [
            [(key * side.sign, venue, side.shown[key]) for venue, book in enumerate(self.books)
             for side in (book.sides[ask],) for key in side.keys]
            for ask in (0, 1)
        ]  # fmt: skip
        self.samples.append(Sample(self._tick(), self.value, shown[0], shown[1]))

    # --- draws ---

    def _touch(self, side: BookSide) -> int:
        """The key of the best displayed price: a tick away from the value."""
        return side.sign * self.value + 1

    def _shown(self, side: BookSide, key: int) -> int:
        """Displayed shares at a price, by which traders decide."""
        return side.shown.get(key, 0)

    def _size(self) -> int:
        u = self._uniform()
        if u < ODD:
            return 1 + int(u * (99 / ODD))
        return ROUND * LOTS[int(len(LOTS) * self._uniform())]

    def _venue(self, books: list[LimitBook]) -> LimitBook:
        """One of some venues, by their flow."""
        flow = [weight for weight, book in zip(self._flow, self.books, strict=True) if book in books]
        total = 0.0
        for weight in flow:
            total += weight
        at = self._uniform() * total
        for weight, book in zip(flow, books, strict=True):
            at -= weight
            if at < 0.0:
                return book
        return books[-1]

    def _any(self, book: LimitBook) -> RestingOrder | None:
        live = book.live
        return live[int(len(live) * self._uniform())] if live else None


def _uniform(rng: Generator) -> Callable[[], float]:
    """Uniform numbers one by one, drawn many at a time."""

    def drawn() -> Iterator[float]:
        while True:
            yield from rng.random(2**14).tolist()

    return drawn().__next__
