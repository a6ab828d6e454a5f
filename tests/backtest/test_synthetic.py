"""A synthetic market: judged by a matching model of its own, by its truth, and by what is known in closed form."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sor.backtest.scenario import SECOND, Scenario
from sor.backtest.synthetic import LEAST, SyntheticMarket
from sor.backtest.truth import Sample, Truth
from sor.errors import InputError
from sor.market.columns import NO_PRICE, STANDS, Batch, joined
from sor.market.venues import VenueDirectory

CENT = 10_000_000
DIRECTORY = VenueDirectory.load()
BUSY = Scenario(duration=120, rate=30, news=2_000, jumps=1_000, jump_delay=0.5, hidden=0.2, depth=10, price=200)
NEVER = 2**63 - 1


def made(scenario: Scenario) -> tuple[Batch, Truth]:
    market = SyntheticMarket(scenario)
    return joined(list(market.batches())), market.truth


@pytest.fixture(scope="module")
def busy() -> tuple[Batch, Truth]:
    return made(BUSY)


def levels(batch: Batch, row: int, side: str) -> list[tuple[int, int]]:
    prices, sizes = getattr(batch, f"{side}_price")[row], getattr(batch, f"{side}_size")[row]
    return [(price, size) for price, size in zip(prices.tolist(), sizes.tolist(), strict=True) if price != NO_PRICE]


# --- an independent matching model -----------------------------------------------------------------------------------


class Tiny:
    """Orders of one venue in one list each side; the next to trade is searched for anew each time."""

    def __init__(self) -> None:
        self.orders: dict[str, list[dict[str, Any]]] = {"buy": [], "sell": []}

    def next(self, side: str) -> dict[str, Any]:
        """By price, then displayed before hidden, then time."""
        sign = -1 if side == "buy" else 1
        return min(self.orders[side], key=lambda one: (sign * one["price"], one["hidden"], one["time"]))

    def levels(self, side: str) -> list[tuple[int, int]]:
        shown = Counter[int]()
        for one in self.orders[side]:
            if not one["hidden"]:
                shown[one["price"]] += one["left"]
        return sorted(shown.items(), reverse=side == "buy")

    def queue(self, order: dict[str, Any]) -> list[int]:
        same = ("price", "hidden")
        return [one["id"] for one in self.orders[order["side"]] if all(one[name] == order[name] for name in same)]

    def take(self, order: dict[str, Any]) -> None:
        self.orders[order["side"]].remove(order)


def rows_of(truth: Truth) -> list[dict[str, Any]]:
    names = list(truth.orders)
    return [
        dict(zip(names, row, strict=True)) for row in zip(*(one.tolist() for one in truth.orders.values()), strict=True)
    ]


def matched(batch: Batch, truth: Truth) -> Iterator[tuple[int, str, Any, Tiny]]:
    """Arrivals and cancellations out of the truth and trades out of the feed, by time, each with its book after it.

    A trade, by the number of its row, fills the order that is next in the book: its ``fills`` say when and how much. Of
    an order ``ahead`` are the shares displayed at its price when it arrived, ``queue`` the ids that it stood among when
    it was cancelled.
    """
    mics = {DIRECTORY.publisher_of(mic): mic for mic in truth.scenario.venues}
    books = {mic: Tiny() for mic in mics.values()}
    events: list[tuple[int, int, str, Any]] = []
    for one in rows_of(truth):
        one |= {"left": one["size"], "fills": []}
        events.append((one["time"], 0, "arrive", one))
        if one["cancelled"]:
            events.append((one["cancelled"], 0, "cancel", one))
    trades = np.flatnonzero((batch.action == ord("T")) & np.isin(batch.publisher, list(mics)))
    events += [(int(batch.time[row]), int(row), "trade", int(row)) for row in trades]
    for time, _, what, it in sorted(events, key=lambda event: event[:2]):
        book = books[mics[int(batch.publisher[it])] if what == "trade" else it["venue"]]
        if what == "cancel":
            it["queue"] = book.queue(it)
            book.take(it)
        elif what == "arrive":
            it["ahead"] = dict(book.levels(it["side"])).get(it["price"], 0)
            book.orders[it["side"]].append(it)
        else:
            order = book.next("sell" if batch.side[it] == ord("B") else "buy")
            assert order["price"] == batch.price[it]
            order["fills"].append((time, int(batch.size[it])))
            order["left"] -= int(batch.size[it])
            assert order["left"] >= 0
            if not order["left"]:
                book.take(order)
        yield time, what, it, book


def test_price_time_priority(busy: tuple[Batch, Truth]) -> None:
    """Each trade is at the price of the order that the tiny model says, and the fate of each is that of the truth."""
    orders = [it for _, what, it, _ in matched(*busy) if what == "arrive"]
    assert len(orders) == len(busy[1].orders["id"])
    for one in orders:
        assert one["executed"] == sum(size for _, size in one["fills"])
        assert one["first_fill"] == (one["fills"][0][0] if one["fills"] else 0)
        assert one["completed"] == (one["fills"][-1][0] if one["executed"] == one["size"] else 0)
    assert {len(one["fills"]) for one in orders} >= {0, 1, 2, 3}
    assert sum(one["hidden"] and one["executed"] > 0 for one in orders) > 50


def test_no_two_orders_of_a_venue_could_trade(busy: tuple[Batch, Truth]) -> None:
    """Hidden ones, too."""
    for _, _, _, book in matched(*busy):
        if book.orders["buy"] and book.orders["sell"]:
            assert book.next("buy")["price"] < book.next("sell")["price"]


def test_each_row_shows_the_orders_that_live(busy: tuple[Batch, Truth]) -> None:
    """And what has no row changes nothing that is shown."""
    batch, truth = busy
    rows = dict(zip(zip(batch.time.tolist(), batch.publisher.tolist(), strict=True), range(len(batch)), strict=True))
    told: dict[int, Any] = {}
    seen = Counter[str]()
    for time, what, it, book in matched(batch, truth):
        shown = book.levels("buy")[: BUSY.depth], book.levels("sell")[: BUSY.depth]
        row = it if what == "trade" else rows.get((time, DIRECTORY.publisher_of(it["venue"])))
        if row is None:
            assert shown == told.get(id(book), ([], []))
        else:
            assert shown == (levels(batch, row, "bid"), levels(batch, row, "ask"))
            seen[what] += 1
        told[id(book)] = shown
        assert what != "arrive" or it["front"] == it["ahead"]
    assert min(seen[what] for what in ("arrive", "cancel", "trade")) > 500
    assert seen.total() == batch.quotes.sum()


@pytest.mark.parametrize("policy", ["back", "front", "uniform", "young"])
def test_which_order_of_a_queue_is_cancelled(policy: str) -> None:
    cancelled = [it for _, what, it, _ in matched(*made(replace(BUSY, cancellations=policy))) if what == "cancel"]
    queues = [(one["id"], one["queue"]) for one in cancelled if len(one["queue"]) > 1]
    ranks = np.array([queue.index(order) / (len(queue) - 1) for order, queue in queues])
    assert len(ranks) > 500
    wanted = {"back": 1.0, "front": 0.0, "uniform": 0.5}.get(policy)
    error = ranks.std() / len(ranks) ** 0.5
    assert ranks.mean() > 0.55 if wanted is None else abs(ranks.mean() - wanted) <= 4 * error


@pytest.mark.parametrize("grow", [0.0, 0.3])
def test_shares_are_conserved(grow: float) -> None:
    batch, truth = made(replace(BUSY, grow=grow))
    orders = truth.orders
    shares = orders["size"] + orders["grown"]
    assert (orders["executed"] <= shares).all()
    assert np.array_equal(orders["completed"] > 0, orders["executed"] == shares)
    assert not ((orders["cancelled"] > 0) & (orders["completed"] > 0)).any()
    assert np.array_equal(orders["first_fill"] > 0, orders["executed"] > 0)
    for mic in BUSY.venues:
        trades = (batch.action == ord("T")) & (batch.publisher == DIRECTORY.publisher_of(mic))
        assert batch.size[trades].sum() == orders["executed"][orders["venue"] == mic].sum()
    assert (orders["grown"] > 0).any() == (batch.action == ord("M")).any() == (grow > 0)
    for time, later in (("time", "first_fill"), ("time", "cancelled"), ("first_fill", "completed")):
        told = orders[later] > 0
        assert (orders[time][told] <= orders[later][told]).all()


def test_orders_that_grow_keep_their_place() -> None:
    """What lives at the end is what the last rows show, and it has grown."""
    batch, truth = made(replace(BUSY, grow=0.3))
    orders = truth.orders
    alive = (orders["cancelled"] == 0) & (orders["completed"] == 0) & ~orders["hidden"]
    for mic in BUSY.venues:
        row = np.flatnonzero(batch.publisher == DIRECTORY.publisher_of(mic))[-1]
        for side, name in (("buy", "bid"), ("sell", "ask")):
            shown = Counter[int]()
            for i in np.flatnonzero(alive & (orders["venue"] == mic) & (orders["side"] == side)):
                shown[int(orders["price"][i])] += int(orders["size"][i] + orders["grown"][i] - orders["executed"][i])
            assert levels(batch, row, name) == sorted(shown.items(), reverse=side == "buy")
    grown = batch.action == ord("M")
    assert (batch.size[grown] > 0).all()


# --- the feed --------------------------------------------------------------------------------------------------------


def test_the_same_seed_is_the_same_market() -> None:
    """On any machine: the digest was taken on one."""

    def digest(scenario: Scenario) -> str:
        batch, truth = made(scenario)
        columns = [*batch.columns().values(), *(truth.orders[name] for name in ("executed", "completed", "cancelled"))]
        return hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in columns)).hexdigest()[:16]

    found = digest(BUSY)
    assert found == digest(BUSY) == "d2820e8494490b7e"
    assert found != digest(replace(BUSY, seed=2))


def test_times_sequences_and_receipts(busy: tuple[Batch, Truth]) -> None:
    """No two messages have one time, but for the trades of one order that takes."""
    batch, truth = busy
    assert (np.diff(batch.time) >= 0).all()
    same = np.flatnonzero(np.diff(batch.time) == 0)
    for row in same:
        assert batch.action[row] == batch.action[row + 1] == ord("T")
        assert (batch.publisher[row], batch.side[row]) == (batch.publisher[row + 1], batch.side[row + 1])
    assert len(same) > 50
    assert (batch.receipt - batch.time == round(BUSY.feed_delay * SECOND)).all()
    assert (batch.time >= BUSY.start).all()
    assert (batch.time < BUSY.end + 10_000).all()
    for publisher in np.unique(batch.publisher):
        assert (np.diff(batch.sequence[batch.publisher == publisher].astype(np.int64)) > 0).all()
    moments = np.concatenate([truth.orders["time"], truth.orders["cancelled"][truth.orders["cancelled"] > 0]])
    assert len(np.unique(moments)) == len(moments)


def test_nothing_is_crossed_and_the_touch_is_always_there(busy: tuple[Batch, Truth]) -> None:
    """No venue in itself, nor one by another; but for the moments of a move, the best quotes are two cents apart."""
    batch, _ = busy
    shown: dict[int, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
    wide = 0
    for row in range(len(batch)):
        if batch.bid_size[row, 0] == STANDS:
            continue
        shown[int(batch.publisher[row])] = levels(batch, row, "bid"), levels(batch, row, "ask")
        bids = [side[0] for side, _ in shown.values() if side]
        asks = [side[0] for _, side in shown.values() if side]
        if len(shown) < len(BUSY.venues) or not bids or not asks:
            continue
        bid, ask = max(bids)[0], min(asks)[0]
        assert bid < ask
        last = row + 1 == len(batch) or batch.time[row + 1] - batch.time[row] > 10
        if last:
            assert ask - bid == 2 * CENT
            assert sum(size for price, size in bids if price == bid) >= LEAST
            assert sum(size for price, size in asks if price == ask) >= LEAST
        wide += last
    assert wide > 1_000


def test_the_top_of_the_book_is_that_of_all_levels(busy: tuple[Batch, Truth]) -> None:
    """The depth of the feed changes nothing but what it shows."""
    deep, truth = busy
    top, same = made(replace(BUSY, depth=1))
    assert all(np.array_equal(one, same.orders[name]) for name, one in truth.orders.items())
    keys = dict(zip(zip(deep.publisher.tolist(), deep.sequence.tolist(), strict=True), range(len(deep)), strict=True))
    rows = [keys[key] for key in zip(top.publisher.tolist(), top.sequence.tolist(), strict=True)]
    for name in ("time", "action", "side", "price", "size"):
        assert np.array_equal(getattr(deep, name)[rows], getattr(top, name))
    for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
        assert np.array_equal(getattr(deep, name)[rows, :1], getattr(top, name))
    assert len(top) < len(deep)


def test_flows_of_venues_are_joint() -> None:
    batch, _ = made(Scenario(duration=3_600, news=0, jumps=0, rate=20))
    second = ((batch.time - batch.time[0]) // SECOND).astype(int)
    counts = [
        np.bincount(second[batch.publisher == number], minlength=3_600)[60:] for number in np.unique(batch.publisher)
    ]
    assert np.corrcoef(counts)[np.triu_indices(5, 1)].min() > 0.3


def test_prints_off_exchange_are_no_quotes() -> None:
    batch, truth = made(BUSY)
    off = batch.publisher == 9002
    assert off.sum() > 50
    assert np.array_equal(off, batch.bid_size[:, 0] == STANDS)
    signals = off & (batch.side != ord("N"))
    assert np.array_equal(np.where(batch.side[signals] == ord("B"), 1, -1), np.sign(truth.announcements[:, 2]))
    assert (np.abs(batch.time[signals] - truth.announcements[:, 0]) < 1_000).all()
    without, _ = made(replace(BUSY, off_exchange=False))
    assert (without.publisher != 9002).all()


# --- what is known in closed form ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_cost_of_latency(seed: int) -> None:
    """Orders of 100 shares at announcements, in the direction of their jump: what the touch costs when they arrive."""
    scenario = Scenario(seed=seed, jumps=1_500, news=600, jump_delay=1.0, rate=3, price=500, depth=1, samples=0)
    batch, truth = made(scenario)
    times, best = touches(batch)
    announced, _, ticks = truth.announcements.T
    sign = np.sign(ticks)

    def price(latency: float) -> Any:
        at = np.searchsorted(times, announced + round(latency * SECOND) + 1_000, "right") - 1
        return np.where(sign > 0, best[at, 1], best[at, 0]) * sign / 1e9

    start = price(0.0)
    for latency in (0.05, 0.3, 0.8, 1.0, 3.0):
        cost = price(latency) - start
        error = cost.std() / len(cost) ** 0.5
        assert abs(cost.mean() - scenario.latency_cost(latency)) < 3.5 * error
        assert error < 0.0005
    assert scenario.latency_cost(0.3) == pytest.approx(0.009)
    assert scenario.latency_cost(9.0) == pytest.approx(0.03)


def test_informed_traders_take_whatever_they_gain_by() -> None:
    """At a jump owners withdraw what stands at the new value; what stands on its wrong side has been taken before."""
    batch, truth = made(Scenario(duration=3_600, jumps=300, news=0, jump_delay=0.1))
    times, best = touches(batch)
    orders, taken = truth.orders, 0
    for _, time, ticks in truth.announcements.tolist():
        value = best[np.searchsorted(times, time) - 1].sum() // 2 + ticks * CENT
        stale = orders["side"] == ("sell" if ticks > 0 else "buy")
        loses = stale & ((value - orders["price"]) * np.sign(ticks) > 0) & (orders["time"] < time)
        ended = np.where(orders["cancelled"] > 0, orders["cancelled"], orders["completed"])
        there = loses & ((ended == 0) | (ended >= time))
        assert (orders["completed"][there] > 0).all()
        assert (ended[there] < time + 1_000).all()
        taken += there.sum()
    assert taken > 1_000


def touches(batch: Batch) -> tuple[Any, Any]:
    """The best bid and offer of all venues after each quote."""
    found = dict.fromkeys(np.unique(batch.publisher[batch.quotes]).tolist(), (0, NEVER))
    best = []
    quotes = batch.take(batch.quotes)
    columns = quotes.publisher, quotes.bid_price[:, 0], quotes.ask_price[:, 0]
    for publisher, bid, ask in zip(*(column.tolist() for column in columns), strict=True):
        found[publisher] = 0 if bid == NO_PRICE else bid, ask
        best.append((max(bid for bid, _ in found.values()), min(ask for _, ask in found.values())))
    return quotes.time, np.array(best)


def test_at_one_venue_routing_saves_nothing() -> None:
    _, truth = made(Scenario(duration=600, venues=("XNAS",), samples=50))
    for one in truth.savings():
        assert one["orders"] > 50
        assert one["saved_bps"] == pytest.approx(0.0, abs=1e-9)
        assert one["venues"]["XNAS"]["saved_bps"] == 0.0


def test_of_two_venues_that_differ_by_a_fee_routing_saves_just_that() -> None:
    """By price alone the fee is the mean of both; XNAS takes 0.0030, IEXG 0.0010."""
    truth = Truth(Scenario(venues=("XNAS", "IEXG")), DIRECTORY, [], [], np.zeros((0, 3), np.int64))
    same = [(10_001, 0, 500), (10_001, 1, 500), (10_002, 0, 500), (10_002, 1, 500)]
    sample = Sample(1, 10_000, [(20_000 - price, venue, size) for price, venue, size in same], same)
    for sign in (1, -1):
        cost = truth.costs(sample, sign, 500)
        assert cost == pytest.approx({"best": 1.1, "nbbo": 1.2, "XNAS": 1.3, "IEXG": 1.1})
        deep = truth.costs(sample, sign, 1_000)
        assert deep == pytest.approx({"best": 1.2, "nbbo": 1.2, "XNAS": 1.8, "IEXG": 1.6})
        assert truth.costs(sample, sign, 1_001)["XNAS"] is None


def test_the_best_cost_is_that_of_all_splits() -> None:
    """Every way to take 5 shares of four levels."""
    truth = Truth(Scenario(venues=("XNAS", "EDGA", "IEXG")), DIRECTORY, [], [], np.zeros((0, 3), np.int64))
    asks = [(10_001, 0, 2), (10_001, 1, 1), (10_002, 2, 3), (10_003, 1, 4)]
    for size in (1, 3, 5, 10):
        cash = [
            sum(n * (price * CENT + truth.fees[venue]) for n, (price, venue, _) in zip(split, asks, strict=True))
            for split in itertools.product(*(range(shares + 1) for _, _, shares in asks))
            if sum(split) == size
        ]
        wanted = (min(cash) - size * 10_000 * CENT) / (size * 10_000 * CENT) * 1e4
        assert truth.costs(Sample(1, 10_000, [], asks), 1, size)["best"] == pytest.approx(wanted, abs=1e-12)
    assert truth.costs(Sample(1, 10_000, [], asks), 1, 11)["best"] is None


def test_samples_are_the_true_books(busy: tuple[Batch, Truth]) -> None:
    batch, truth = busy
    numbers = [DIRECTORY.publisher_of(mic) for mic in BUSY.venues]
    for sample in truth.samples[::20]:
        for name, found in (("bid", sample.bids), ("ask", sample.asks)):
            shown = []
            for venue, number in enumerate(numbers):
                row = np.flatnonzero((batch.publisher == number) & (batch.time <= sample.time))[-1]
                shown += [(price // CENT, venue, size) for price, size in levels(batch, row, name)]
            assert sorted(found) == sorted(shown)


def test_without_news_the_value_stays() -> None:
    batch, truth = made(Scenario(duration=600, news=0, jumps=0, samples=20))
    assert {sample.value for sample in truth.samples} == {10_000}
    assert batch.ask_price[:, 0].min() == 10_001 * CENT
    assert len(truth.announcements) == 0


# --- knobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"seed": -1}, "seed is -1"), ({"duration": 5}, "duration is 5"), ({"depth": 0}, "depth is 0"),
        ({"venues": ()}, "venues is ()"), ({"venues": ("XNAS", "XNAS")}, "each once"),
        ({"cancellations": "some"}, "cancellations is 'some': it must be one of uniform, back, front, young"),
        ({"price": 0.5}, "price is 0.5: it must be a number from 1 to"), ({"price": float("nan")}, "price is nan"),
        ({"price": 15}, "price is 15: with so many moves it must be above"), ({"grow": 1}, "grow is 1: it must be"),
        ({"hidden": "x"}, "hidden is 'x'"), ({"jump_delay": 20, "duration": 10}, "jump_delay is 20"),
        ({"rate": 9_999}, "that is over 20,000,000 events"), ({"date": "2024-13-01"}, "date is '2024-13-01'"),
        ({"date": "today"}, "it must be a day such as 2024-08-01"), ({"jump_ticks": 11}, "jump_ticks is 11"),
        ({"feed_delay": -1}, "feed_delay is -1"),
    ],
)  # fmt: skip
def test_wrong_knobs(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Scenario(**knobs)
    assert words in str(caught.value)


def test_a_venue_that_nobody_knows() -> None:
    with pytest.raises(InputError, match="venue 'XNSA' is not in the venue directory"):
        SyntheticMarket(Scenario(venues=("XNSA",)))


@pytest.mark.parametrize(("date", "hour"), [("2024-08-01", 13), ("2024-12-02", 14)])
def test_the_session_opens_in_new_york(date: str, hour: int) -> None:
    start = Scenario(date=date).start
    assert np.datetime64(start, "ns") == np.datetime64(f"{date}T{hour}:30")
    assert Scenario(date=date).end - start == 23_400 * SECOND
