"""What `sor info` measures, against books that are followed row by row."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from batches import KNOWN, TWO_NAMES, feeds
from hypothesis import given, settings
from hypothesis import strategies as st

from sor import Batch
from sor.market import profile
from sor.market.book import Books
from sor.market.columns import numbered
from sor.market.profile import Profile
from sor.market.venues import VenueDirectory
from sor.routing.router import quotes
from sor.types import MARKET_STATES, Order

DIRECTORY = VenueDirectory.load()


def followed(batches: list[Batch]) -> tuple[Counter[str], Counter[int], Counter[int]]:
    """Times by state, and at the best bid and offer by publisher, from `Books`, a row at a time."""
    books = Books(DIRECTORY)
    states, at_bid, at_ask = Counter[str](), Counter[int](), Counter[int]()
    newest: dict[str, int] = {}
    for batch in batches:
        for row in range(len(batch)):
            update = batch.update(row, 1)
            book = books.by_symbol.get(update.symbol)
            time = max(update.time, newest.get(update.symbol, update.time))
            lasted = time - newest.get(update.symbol, time)
            newest[update.symbol] = time
            if book is not None and lasted <= profile.LONGEST:
                market = quotes.survey(Order(update.symbol, "buy", 1), book, None, (), False)
                states[market.state] += lasted
                for quote in book.quotes:
                    at_bid[quote.order] += lasted * (market.bid is not None and quote.best_bid == market.bid)
                    at_ask[quote.order] += lasted * (market.ask is not None and quote.best_ask == market.ask)
            books.apply(update)
    return states, at_bid, at_ask


def positive(counts: Counter[Any]) -> dict[Any, int]:
    return {name: count for name, count in counts.items() if count}


@given(feed=feeds(consolidated=False), longest=st.sampled_from([10**9, 20 * 10**9, 300 * 10**9]))
@settings(max_examples=100)
def test_times_are_those_of_the_books(feed: list[Batch], longest: int) -> None:
    kept, profile.LONGEST = profile.LONGEST, longest
    try:
        found = Profile(DIRECTORY)
        for batch in feed:
            found.add(batch)
        states, at_bid, at_ask = followed(feed)
    finally:
        profile.LONGEST = kept
    assert positive(Counter(dict(zip(MARKET_STATES, found.states.tolist(), strict=True)))) == positive(states)
    assert positive(found.at_bid) == positive(at_bid)
    assert positive(found.at_ask) == positive(at_ask)
    assert found.rows == sum(map(len, feed)) == sum(found.symbols.values()) == sum(found.publishers.values())
    assert KNOWN in DIRECTORY.venue(KNOWN).publisher_ids
    assert set(found.publishers) <= {DIRECTORY.venue(one).publisher_ids[0] for one in (KNOWN, *TWO_NAMES, 999, 9)}


@given(feed=feeds(consolidated=True))
@settings(max_examples=50)
def test_the_best_of_consolidated_quotes_is_whose_they_say(feed: list[Batch]) -> None:
    found = Profile(DIRECTORY)
    for batch in feed:
        found.add(batch)
    at_bid, shown, newest = Counter[int](), defaultdict[str, int](int), dict[str, int]()
    for batch in feed:
        for row in range(len(batch)):
            update = batch.update(row)
            time = max(update.time, newest.get(update.symbol, 0))
            owner = shown[update.symbol]
            if owner and update.symbol in newest:
                at_bid[DIRECTORY.venue(owner).publisher_ids[0]] += time - newest[update.symbol]
            newest[update.symbol] = time
            if update.bids is not None:
                shown[update.symbol] = (update.bid_publisher or 0) if update.bids[0] else 0
    assert positive(found.at_bid) == positive(at_bid)
    assert found.consolidated


@given(feed=feeds(), cut=st.integers(1, 30))
@settings(max_examples=50)
def test_batches_do_not_matter(feed: list[Batch], cut: int) -> None:
    numbers: dict[str, int] = {}
    pieces = []
    for batch in feed:
        one = numbered(batch, numbers)
        pieces += [one.take(slice(at, at + cut)) for at in range(0, len(one), cut)]
    whole, parts = Profile(DIRECTORY), Profile(DIRECTORY)
    for one in feed:
        whole.add(one)
    for one in pieces:
        parts.add(one)
    for name in ("rows", "quotes", "trades", "backwards", "first", "last", "symbols", "publishers", "gaps"):
        assert getattr(whole, name) == getattr(parts, name), name
    assert (whole.at_bid, whole.at_ask) == (parts.at_bid, parts.at_ask)
    assert np.array_equal(whole.states, parts.states)


def test_gaps_and_rows_that_are_late() -> None:
    times = [0, 10, 5, 400, 399, 900]
    batch = batch_at([1_000 + time for time in times])
    found = Profile(DIRECTORY)
    for at in range(len(times)):
        found.add(batch.take(slice(at, at + 1)))
    assert found.backwards == 2
    assert found.gaps == [(500 * 10**9, 1_400 * 10**9), (390 * 10**9, 1_010 * 10**9)]
    assert (found.first, found.last) == (1_000 * 10**9, 1_900 * 10**9)
    assert int(found.states.sum()) == 10 * 10**9


def batch_at(seconds: list[int]) -> Batch:
    from batches import CENTS, batch_of

    row = {"symbol": 0, "publisher": KNOWN, "flags": 0}
    row |= {"bid_price": [100 * CENTS], "bid_size": [1], "ask_price": [101 * CENTS], "ask_size": [1]}
    return batch_of([row | {"time": time * 10**9} for time in seconds], ("A",))


def test_nothing_is_in_an_empty_feed() -> None:
    found = Profile(DIRECTORY)
    found.add(batch_at([1]).take(slice(0)))
    assert (found.rows, found.first, found.gaps, list(itertools.chain(found.symbols))) == (0, None, [], [])
