"""A venue's book of single orders, with price-time priority: what a synthetic market is made of."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

TICK = 10_000_000  # 1e-9 dollars

# Which order of a queue of n is cancelled, by a uniform number.
CANCELLATIONS: dict[str, Callable[[int, Callable[[], float]], int]] = {
    "uniform": lambda n, uniform: int(n * uniform()),
    "back": lambda n, uniform: n - 1,
    "front": lambda n, uniform: 0,
    "young": lambda n, uniform: int(n * max(uniform(), uniform())),
}


class RestingOrder:
    """One order of a book, and what became of it.

    Attributes
    ----------
    id : int
    side : BookSide
    key : int
        Its price as a `BookSide` sorts it.
    size, grown, left : int
        Shares at its arrival, added later, and not yet executed.
    hidden : bool
        It trades, and is not shown.
    time : int
        Of arrival, nanoseconds since the epoch, as all times.
    front : int
        Shares displayed at its price when it arrived, all of them ahead of it.
    executed : int
    first_fill, completed, cancelled : int
        Times; 0: never.
    place : int
        Where it stands among the live orders of its venue.
    """

    __slots__ = (
        "cancelled", "completed", "executed", "first_fill", "front", "grown", "hidden", "id", "key", "left", "place",
        "side", "size", "time",
    )  # fmt: skip

    def __init__(self, id: int, side: BookSide, key: int, size: int, hidden: bool, time: int) -> None:
        self.id, self.side, self.key, self.hidden, self.time = id, side, key, hidden, time
        self.size = self.left = size
        self.front = side.shown.get(key, 0)
        self.grown = self.executed = self.first_fill = self.completed = self.cancelled = self.place = 0


class BookSide:
    """The bids or the asks of a venue.

    Prices are keys: whole ticks for asks, and for bids the same below 0, so that the least key is always the best.
    At a price displayed orders come first, by their time, then hidden ones by theirs.

    Attributes
    ----------
    book : LimitBook
    sign : int
        1 for asks, -1 for bids.
    code : int
        ASCII code of the side.
    shown : dict of int to int
        Displayed shares by key.
    keys, hidden_keys : list of int
        Keys with displayed and with hidden orders, the best first.
    queues, hidden : dict of int to list of RestingOrder
        By key, the oldest first.
    told : tuple
        The levels that the feed has shown last.
    """

    __slots__ = ("book", "code", "hidden", "hidden_keys", "keys", "queues", "shown", "sign", "told")

    def __init__(self, book: LimitBook, sign: int) -> None:
        self.book, self.sign = book, sign
        self.code = ord("A") if sign > 0 else ord("B")
        self.shown: dict[int, int] = {}
        self.keys: list[int] = []
        self.hidden_keys: list[int] = []
        self.queues: dict[int, list[RestingOrder]] = {}
        self.hidden: dict[int, list[RestingOrder]] = {}
        self.told: tuple[int, ...] = ()

    def queue(self, order: RestingOrder) -> list[RestingOrder]:
        """The orders that an order stands among."""
        return (self.hidden if order.hidden else self.queues)[order.key]

    def add(self, order: RestingOrder) -> None:
        """Put an order behind all of its price."""
        queues, keys = (self.hidden, self.hidden_keys) if order.hidden else (self.queues, self.keys)
        queue = queues.get(order.key)
        if queue is None:
            queue = queues[order.key] = []
            insort(keys, order.key)
        queue.append(order)
        if not order.hidden:
            self.shown[order.key] = self.shown.get(order.key, 0) + order.left
        order.place = len(self.book.live)
        self.book.live.append(order)

    def grow(self, order: RestingOrder, shares: int) -> None:
        """Add shares to an order, which keeps its place."""
        order.left += shares
        order.grown += shares
        if not order.hidden:
            self.shown[order.key] += shares

    def reduce(self, order: RestingOrder, shares: int) -> None:
        """Take shares off an order; one without any leaves the book."""
        order.left -= shares
        if not order.hidden:
            self.shown[order.key] -= shares
        if not order.left:
            self._remove(order)

    def _remove(self, order: RestingOrder) -> None:
        queues, keys = (self.hidden, self.hidden_keys) if order.hidden else (self.queues, self.keys)
        queue = queues[order.key]
        queue.remove(order)
        if not queue:
            del queues[order.key]
            keys.remove(order.key)
            self.shown.pop(order.key, None) if not order.hidden else None
        live = self.book.live
        last = live.pop()
        if last is not order:
            live[order.place] = last
            last.place = order.place

    def first(self, limit: int) -> RestingOrder | None:
        """The order that trades next with one that takes up to a key; None: there is none."""
        if self.hidden_keys and self.hidden_keys[0] <= limit and (not self.keys or self.hidden_keys[0] < self.keys[0]):
            return self.hidden[self.hidden_keys[0]][0]
        if self.keys and self.keys[0] <= limit:
            return self.queues[self.keys[0]][0]
        return None

    def top(self, depth: int) -> tuple[int, ...]:
        """Keys of the best levels displayed, then their sizes; 0 where there is no level."""
        keys = self.keys[:depth]
        none = (0,) * (depth - len(keys))
        return (*keys, *none, *[self.shown[key] for key in keys], *none)


class LimitBook:
    """The book of a venue.

    Attributes
    ----------
    mic : str
    publisher : int
    sides : tuple of BookSide
        Bids and asks.
    live : list of RestingOrder
        All that rest, in no order that means anything.
    sequence : int
        Messages so far, those beyond the depth of the feed included.
    """

    def __init__(self, mic: str, publisher: int) -> None:
        self.mic, self.publisher = mic, publisher
        self.sides = BookSide(self, -1), BookSide(self, 1)
        self.live: list[RestingOrder] = []
        self.sequence = 0
