"""Write the synthetic market data of ``sample.csv``: ``python tools/make_sample.py``.

Eight US exchanges quote one stock around a common efficient price. The rows have the columns and the meaning
of MBP-10 of Databento: each is one message of one exchange, with its ten best levels after that message.
A trade (T) leaves the book as it was; the cancel (C) behind it takes the shares away.

No number is recorded data. All randomness is one ``random.Random``, whose draws are the same on every Python.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

OUTPUT = Path(__file__).resolve().parents[1] / "sample.csv"
SEED = 1943  # half of its rows can fill 5,000 shares at the touch; nine in ten other seeds: 28 to 76 percent
ROWS = 2000
SYMBOL = "AAPL"

START = int(datetime(2024, 8, 1, 13, 36, tzinfo=timezone.utc).timestamp()) * 10**9
OPENING_PRICE = 22283  # cents, which are the tick
STEP = 8  # the efficient price moves in eighths of a tick: most moves shift some venues' quotes, not all
LEVELS = 10
RTYPE, INSTRUMENT_ID = 10, 38
MICROSECOND, MILLISECOND = 10**3, 10**6
LAST_OF_EVENT = 128  # Databento's flag on the last message of one event
BUY, SELL = "B", "A"
SIDES = (BUY, SELL)


@dataclass(frozen=True)
class Profile:
    """What makes one exchange differ from another."""

    mic: str
    publisher_id: int
    half_spread: int  # eighths of a tick
    orders: float  # usual number of orders at the touch
    weight: int  # share of the messages that no price move explains
    reaction: int  # us until it sees a move of the efficient price
    feed: int  # us from its matching engine to the recorder
    levels: int = LEVELS + 2  # kept on each side; what lies below the tenth appears only when it moves up


# The thinnest first, as they are introduced in this order: the first rows cannot fill a large order.
PROFILES = (
    Profile("BATY", 6, half_spread=8, orders=1.7, weight=6, reaction=420, feed=95, levels=4),
    Profile("EPRL", 16, half_spread=7, orders=2.0, weight=7, reaction=500, feed=120),
    Profile("MEMX", 15, half_spread=6, orders=2.4, weight=9, reaction=350, feed=105),
    Profile("XNYS", 9, half_spread=6, orders=2.7, weight=10, reaction=600, feed=240),
    Profile("EDGX", 8, half_spread=5, orders=2.9, weight=12, reaction=300, feed=90),
    Profile("BATS", 5, half_spread=5, orders=3.1, weight=14, reaction=250, feed=90),
    Profile("ARCX", 43, half_spread=4, orders=3.3, weight=17, reaction=200, feed=230),
    Profile("XNAS", 2, half_spread=4, orders=4.2, weight=25, reaction=120, feed=160),
)

MOVES = (-7, -4, -2, 2, 4, 7)  # eighths of a tick
MOVE_SHARE = 0.06  # of the ticks of the market's clock
VIEW_NOISE = 2  # eighths: venues' quoting agents do not agree on the efficient price
BURST_SHARE = 0.8  # of the waits are short, so arrivals come in clusters
SHORT_WAIT, LONG_WAIT = 250 * MICROSECOND, 130 * MILLISECOND
LEAVE_WAIT = 20 * MICROSECOND  # between the orders that flee a price,
JOIN_WAIT = 700 * MICROSECOND  # and before new ones come: by then most venues have left, so few markets lock
TRADE_SHARE = 0.25  # of the orders that leave the touch; the others are cancelled
MODIFY_SHARE = 0.08
QUICK_SHARE = 0.6  # of the usual queue is there at once after a new price; the rest comes in time
WITHDRAW_SHARE = 0.15  # how often a thin venue's agent takes one side away at a move
RETURN_SHARE = 0.4  # and how often it brings it back at a later one


def draw_order_size(rng: random.Random) -> int:
    """Shares: odd lots, mostly one round lot, and a heavy tail of blocks."""
    kind = rng.random()
    if kind < 0.20:
        return rng.randint(1, 99)
    if kind < 0.70:
        return 100
    if kind < 0.92:
        return 100 * rng.randint(2, 5)
    return 100 * min(40, int(5 / (1 - rng.random())))  # a Pareto tail, cut at 4,000


@dataclass(frozen=True)
class Change:
    """What a message says happened."""

    action: str
    side: str
    depth: int
    price: int
    size: int


@dataclass
class Exchange:
    """One venue's book: on each side, price in cents -> sizes of the orders in their queue."""

    profile: Profile
    rng: random.Random
    view: int  # efficient price as its quoting agents see it, eighths of a tick
    book: dict[str, dict[int, list[int]]] = field(default_factory=lambda: {BUY: {}, SELL: {}})
    withdrawn: str = ""
    sequence: int = 0
    last_recv: int = 0

    def __post_init__(self) -> None:
        self.sequence = self.rng.randint(100_000, 900_000)
        for side in SIDES:
            self.extend(side)

    def target(self, side: str) -> int:
        """Price its agents want to quote: away from their view by the half-spread, rounded outwards."""
        half = self.profile.half_spread
        return (self.view - half) // STEP if side == BUY else -(-(self.view + half) // STEP)

    def prices(self, side: str) -> list[int]:
        """Prices of one side, the best first."""
        return sorted(self.book[side], reverse=side == BUY)

    def wanted(self, depth: int) -> float:
        """Orders usual at a level: queues grow longer behind the touch."""
        return self.profile.orders * (1 + 0.25 * min(depth, 6))

    def extend(self, side: str) -> None:
        """Fill the side up with deeper levels."""
        away = -1 if side == BUY else 1
        prices = self.prices(side)
        price = prices[-1] if prices else self.target(side) - away
        for depth in range(len(prices), self.profile.levels):
            price += away * (2 if self.rng.random() < 0.06 else 1)  # now and then a tick without orders
            count = max(1, round(self.wanted(depth) * self.rng.uniform(0.5, 1.5)))
            self.book[side][price] = [draw_order_size(self.rng) for _ in range(count)]

    def add(self, side: str, price: int) -> Change:
        size = draw_order_size(self.rng)
        self.book[side].setdefault(price, []).append(size)
        return Change("A", side, self.prices(side).index(price), price, size)

    def cancel(self, side: str, depth: int, position: int) -> Change:
        price = self.prices(side)[depth]
        queue = self.book[side][price]
        size = queue.pop(position)
        if not queue:
            del self.book[side][price]
        return Change("C", side, depth, price, size)

    def trade(self, side: str) -> Iterator[Change]:
        """The front order of the queue at the touch trades: T with the book before it, then C."""
        price = self.prices(side)[0]
        aggressor = SELL if side == BUY else BUY
        yield Change("T", aggressor, 0, price, self.book[side][price][0])
        yield self.cancel(side, 0, 0)

    def modify(self, side: str, depth: int) -> Change:
        """Give one order of the level another size; the message carries the new one."""
        price = self.prices(side)[depth]
        queue = self.book[side][price]
        position = self.rng.randrange(len(queue))
        old = queue[position]
        queue[position] = old // 2 if old > 1 else 100
        return Change("M", side, depth, price, queue[position])

    def next_correction(self) -> tuple[str, str] | None:
        """What brings the quotes to the target: ("leave" or "join", side); leave first, lest it cross."""
        for side in SIDES:
            if self.book[side] and (side == self.withdrawn or self.lead(side) > 0):
                return "leave", side
        for side in SIDES:
            if side != self.withdrawn and (not self.book[side] or self.lead(side) < 0 or self.is_short(side)):
                return "join", side
        return None

    def lead(self, side: str) -> int:
        """Ticks by which the touch is better than the target."""
        ticks = self.prices(side)[0] - self.target(side)
        return ticks if side == BUY else -ticks

    def is_short(self, side: str) -> bool:
        """Whether the queue at the touch is new or run down, so that others hurry to join it."""
        return len(self.book[side][self.prices(side)[0]]) < QUICK_SHARE * self.profile.orders

    def look(self, efficient: int) -> None:
        """Form a new view; the agent of a thin venue may leave a side alone for a while."""
        self.view = efficient + self.rng.randint(-VIEW_NOISE, VIEW_NOISE)
        if self.profile.levels >= LEVELS:
            return
        if self.withdrawn:
            self.withdrawn = "" if self.rng.random() < RETURN_SHARE else self.withdrawn
        elif self.rng.random() < WITHDRAW_SHARE:
            self.withdrawn = self.rng.choice(SIDES)


class Market:
    """Event queue in matching-engine time; rows leave it sorted by the recorder's time."""

    def __init__(self, seed: int, symbol: str) -> None:
        self.rng = random.Random(seed)
        self.symbol = symbol
        self.efficient = OPENING_PRICE * STEP + STEP // 2
        self.exchanges = [Exchange(profile, self.rng, self.efficient) for profile in PROFILES]
        self.rows: list[tuple[int, str]] = []
        self.queue: list[tuple[int, int, Callable[..., None], tuple[Exchange, ...]]] = []
        self.pushed = 0
        for number, exchange in enumerate(self.exchanges):
            self.at(START + number * MILLISECOND, self.chatter, exchange)
        self.at(START + len(self.exchanges) * MILLISECOND, self.tick)

    def run(self, rows: int) -> list[str]:
        spare = 100  # rows still on their way when the last wanted one arrives
        while len(self.rows) < rows + spare:
            time, _, happen, arguments = heapq.heappop(self.queue)
            happen(time, *arguments)
        self.rows.sort(key=lambda row: row[0])  # stable: an exchange's own order stays
        return [text for _, text in self.rows[:rows]]

    def at(self, time: int, happen: Callable[..., None], *arguments: Exchange) -> None:
        self.pushed += 1  # breaks ties, so functions are never compared
        heapq.heappush(self.queue, (time, self.pushed, happen, arguments))

    def wait(self, mean: int) -> int:
        return 1 + int(self.rng.expovariate(1) * mean)

    def tick(self, time: int) -> None:
        """The market's clock: perhaps a move, one message of some venue, and the next tick soon or later."""
        if self.rng.random() < MOVE_SHARE:
            self.efficient += self.rng.choice(MOVES)
            for exchange in self.exchanges:
                self.at(time + self.wait(exchange.profile.reaction * MICROSECOND), self.look, exchange)
        (speaker,) = self.rng.choices(self.exchanges, [e.profile.weight for e in self.exchanges])
        self.at(time, self.chatter, speaker)
        mean = SHORT_WAIT if self.rng.random() < BURST_SHARE else LONG_WAIT
        self.at(time + self.wait(mean), self.tick)

    def look(self, time: int, exchange: Exchange) -> None:
        exchange.look(self.efficient)
        self.follow(time, exchange)

    def follow(self, time: int, exchange: Exchange) -> None:
        """One message towards the target quotes, and the next one after a moment."""
        correction = exchange.next_correction()
        if correction is None:
            return
        what, side = correction
        if what == "leave":
            self.leave(time, exchange, side, 0)
        else:
            self.emit(time, exchange, [exchange.add(side, exchange.target(side))])
        following = exchange.next_correction()
        mean = LEAVE_WAIT if following and following[0] == "leave" else JOIN_WAIT
        self.at(time + self.wait(mean), self.follow, exchange)

    def chatter(self, time: int, exchange: Exchange) -> None:
        """A message without news: queues drift about their usual length."""
        side = self.rng.choice([side for side in SIDES if side != exchange.withdrawn])
        prices = exchange.prices(side)[:LEVELS]
        if 0 < len(prices) < min(LEVELS, exchange.profile.levels):  # a thin venue rebuilds its depth
            self.emit(time, exchange, [exchange.add(side, prices[-1] + (-1 if side == BUY else 1))])
        elif prices:
            self.stir(time, exchange, side, min(int(self.rng.expovariate(0.8)), len(prices) - 1))
        self.at(time + self.wait(exchange.profile.reaction * MICROSECOND), self.follow, exchange)

    def stir(self, time: int, exchange: Exchange, side: str, depth: int) -> None:
        """Modify, add or take out an order; the longer the queue, the likelier one leaves."""
        price = exchange.prices(side)[depth]
        count, wanted = len(exchange.book[side][price]), exchange.wanted(depth)
        if self.rng.random() < MODIFY_SHARE:
            self.emit(time, exchange, [exchange.modify(side, depth)])
        elif self.rng.random() * (wanted + count) < wanted:
            self.emit(time, exchange, [exchange.add(side, price)])
        else:
            self.leave(time, exchange, side, depth)

    def leave(self, time: int, exchange: Exchange, side: str, depth: int) -> None:
        """Take an order out, traded or cancelled; what an agent withdraws does not trade."""
        if depth == 0 and side != exchange.withdrawn and self.rng.random() < TRADE_SHARE:
            self.emit(time, exchange, exchange.trade(side))
            return
        queue = exchange.book[side][exchange.prices(side)[depth]]
        self.emit(time, exchange, [exchange.cancel(side, depth, self.rng.randrange(len(queue)))])

    def emit(self, time: int, exchange: Exchange, changes: Iterable[Change]) -> None:
        """Record the messages of one event, each with the book as it stands when the message is drawn."""
        sent = time + self.wait(20 * MICROSECOND)
        arrived = sent + exchange.profile.feed * MICROSECOND + self.wait(8 * MICROSECOND)
        exchange.last_recv = max(exchange.last_recv, arrived)  # a feed keeps its order
        for change in changes:
            exchange.sequence += self.rng.randint(1, 40)  # other stocks share the venue's counter
            self.rows.append((exchange.last_recv, self.row(time, sent, exchange, change)))
            if exchange.profile.levels > LEVELS:  # levels out of sight, so that ten remain when one goes
                for side in SIDES:
                    exchange.extend(side)

    def row(self, time: int, sent: int, exchange: Exchange, change: Change) -> str:
        recv, flags = exchange.last_recv, 0 if change.action == "T" else LAST_OF_EVENT
        message = [timestamp(recv), timestamp(time), RTYPE, exchange.profile.publisher_id, INSTRUMENT_ID]
        message += [change.action, change.side, change.depth, decimal(change.price), change.size]
        message += [flags, recv - sent, exchange.sequence]
        levels = [cell for depth in range(LEVELS) for cell in level_cells(exchange, depth)]
        return ",".join(map(str, [*message, *levels, self.symbol]))


def level_cells(exchange: Exchange, depth: int) -> list[str]:
    """Prices, sizes and order counts of bid and ask; a level that is not there has no price."""
    queues = []
    for side in SIDES:
        prices = exchange.prices(side)
        queues.append((prices[depth], exchange.book[side][prices[depth]]) if depth < len(prices) else None)
    return [
        *(decimal(level[0]) if level else "" for level in queues),
        *(str(sum(level[1])) if level else "0" for level in queues),
        *(str(len(level[1])) if level else "0" for level in queues),
    ]


def decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def timestamp(nanoseconds: int) -> str:
    seconds, fraction = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def header() -> str:
    message = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size"
    fields = ("bid_px", "ask_px", "bid_sz", "ask_sz", "bid_ct", "ask_ct")
    levels = [f"{name}_{depth:02d}" for depth in range(LEVELS) for name in fields]
    return ",".join([message, "flags,ts_in_delta,sequence", *levels, "symbol"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write synthetic MBP-10 messages of eight exchanges as CSV.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=ROWS, help="messages to write (default: %(default)s)")
    parser.add_argument("--symbol", default=SYMBOL, help="default: %(default)s")
    given = parser.parse_args()
    if given.rows < 1:
        parser.error(f"--rows {given.rows}: must be 1 or more")
    if not (given.symbol.isascii() and given.symbol.replace(".", "").isalnum()):
        parser.error(f"--symbol {given.symbol!r}: must be ASCII letters, digits and dots")
    return given


def main() -> None:
    given = arguments()
    lines = [header(), *Market(given.seed, given.symbol).run(given.rows)]
    # Bytes, because text mode would write other line ends on Windows.
    given.output.write_bytes("".join(f"{line}\n" for line in lines).encode("ascii"))


if __name__ == "__main__":
    main()
