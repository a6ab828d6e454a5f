"""The consolidated book: what is carried forward, what replaces what, who is who, and what is charged when."""

from __future__ import annotations

import copy
import logging
import math
import pickle
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor import Book, CostParameters, DataError, InputError, Order, Outflows, Router
from sor.kernels import pick
from sor.market import BookUpdate
from sor.market.book import Books
from sor.market.venues import VenueDirectory

NOW = 1_722_519_392_491_911_683  # 2024-08-01
NASDAQ, NYSE, EDGA, ARCA = 2, 9, 7, 43
RATES = pick("sor.market._quotes").Rates(0.0, 0.0)


def update(publisher: int, bid: Any = None, ask: Any = None, time: int = NOW, symbol: str = "AAPL", **more: Any) -> Any:
    """An update; a side is one level, or a list of levels."""
    sides = [side if isinstance(side, list) else [side] for side in (bid, ask)]
    return BookUpdate(symbol, publisher, time, more.get("sequence"), *sides)


def shown(book: Book) -> dict[str, tuple[Any, Any]]:
    """Venue to (bid, ask), each (price, size) or None: as a result tells it."""
    result = Router().route(Order(book.symbol, "buy", 1), book)
    assert len({venue.venue_id for venue in result.venues}) == len(result.venues)
    return {
        venue.venue_id: (
            None if venue.bid is None else (venue.bid, venue.bid_size),
            None if venue.ask is None else (venue.ask, venue.ask_size),
        )
        for venue in result.venues
    }


def fees(book: Book) -> dict[str, tuple[float, float]]:
    return {v.venue_id: (v.fee, v.rebate) for v in Router().route(Order(book.symbol, "buy", 1), book).venues}


@pytest.fixture
def directory() -> VenueDirectory:
    return VenueDirectory.load()


@pytest.fixture
def books(directory: VenueDirectory) -> Books:
    return Books(directory)


def test_quotes_are_carried_forward_and_replaced_whole(books):
    books.apply(update(NASDAQ, (99.0, 1), (101.0, 2)))
    book = books.apply(update(NYSE, (98.0, 3), (102.0, 4)))
    assert shown(book) == {"XNAS": ((99.0, 1), (101.0, 2)), "XNYS": ((98.0, 3), (102.0, 4))}
    books.apply(update(NASDAQ, None, (101.5, 9)))
    assert shown(book) == {"XNAS": (None, (101.5, 9)), "XNYS": ((98.0, 3), (102.0, 4))}


def test_venues_stand_in_the_order_of_their_publisher_ids(books):
    for publisher in (ARCA, NASDAQ, NYSE, EDGA):
        book = books.apply(update(publisher, (99.0, 1), (101.0, 2)))
    assert list(shown(book)) == ["XNAS", "EDGA", "XNYS", "ARCX"]


def test_publishers_of_one_mic_are_one_venue(books, directory):
    one, other, *_ = directory.venue(NASDAQ).publisher_ids
    assert one != other
    books.apply(update(one, (99.0, 1), (101.0, 2)))
    book = books.apply(update(other, (99.5, 3), None))
    assert shown(book) == {"XNAS": ((99.5, 3), None)}


def test_an_unknown_publisher_is_a_venue_at_the_default_fee(books, directory, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            book = books.apply(update(60000, (99.0, 1), (101.0, 2)))
    assert len([r for r in caplog.records if "60000" in r.getMessage()]) == 1
    assert fees(book) == {"publisher_60000": (0.003, 0.0)}
    result = Router().route(Order("AAPL", "buy", 5), book)
    assert [venue.status for venue in result.venues] == ["unknown_fee"]
    assert result.allocation == [2]  # it is a venue like any other


def test_symbols_have_books_of_their_own(books):
    books.apply(update(NASDAQ, (99.0, 1), (101.0, 2)))
    book = books.apply(update(NYSE, (9.0, 1), (10.0, 2), symbol="MSFT"))
    assert book.symbol == "MSFT"
    assert list(shown(book)) == ["XNYS"]
    assert list(shown(books.by_symbol["AAPL"])) == ["XNAS"]
    assert books.publishers == {NASDAQ, NYSE}


@given(st.lists(st.tuples(st.sampled_from([2, 9, 7, 43]), st.integers(1, 10**18)), min_size=1, max_size=20))
def test_time_is_the_newest_event_time_and_the_last_quote_wins(events):
    books = Books(VenueDirectory.load())
    last = {}
    for i, (publisher, time) in enumerate(events):
        book = books.apply(update(publisher, (99.0, i + 1), (101.0, i + 1), time=time, sequence=i))
        last[publisher] = i + 1
    result = Router().route(Order("AAPL", "buy", 1), book)
    assert book.time == max(time for _, time in events)
    assert result.book.sequence == len(events) - 1
    assert [venue.ask_size for venue in result.venues] == [last[publisher] for publisher in sorted(last)]


def test_fees_follow_the_date(directory, caplog):
    """Cboe EDGA paid takers until the end of October 2024 and charges them since."""
    day = {
        name: int(datetime(*when, tzinfo=timezone.utc).timestamp()) * 10**9
        for name, when in {"before": (2024, 10, 31, 20), "after": (2024, 11, 1, 13, 30)}.items()
    }
    for order in (("before", "after"), ("after", "before")):
        books = Books(directory)
        for name in order:
            book = books.apply(update(EDGA, (99.0, 1), (101.0, 2), time=day[name]))
            fee, rebate = fees(book)["EDGA"]
            assert (fee, rebate) == ((-0.0016, -0.003) if name == "before" else (0.003, 0.0027))


def test_a_fee_of_long_ago_is_the_first_one_known_and_said_once(books, caplog):
    with caplog.at_level(logging.WARNING):
        for second in range(3):
            book = books.apply(update(NASDAQ, (99.0, 1), (101.0, 2), time=10**18 + second))
    assert fees(book)["XNAS"][0] == 0.003
    assert len([r for r in caplog.records if "no fee is known before 2024-01-01" in r.getMessage()]) == 1


def test_levels_become_venues(directory):
    books = Books(directory, "levels")
    bids, asks = [(99.0, 1), (98.0, 2), None, None], [(101.0, 3), (102.0, 4), (103.0, 5), None]
    book = books.apply(update(NASDAQ, bids, asks))
    assert shown(book) == {
        "venue_0": ((99.0, 1), (101.0, 3)),
        "venue_1": ((98.0, 2), (102.0, 4)),
        "venue_2": (None, (103.0, 5)),
        "venue_3": (None, None),
    }
    assert list(fees(book).values()) == [(0.003, 0.001), (0.002, 0.0015), (0.0025, 0.001), (0.003, 0.001)]


def test_ten_levels_stay_in_their_order(directory):
    book = Books(directory, "levels").apply(update(NASDAQ, [None] * 12, [(100.0 + i, 1) for i in range(12)]))
    assert list(shown(book)) == [f"venue_{i}" for i in range(12)]


def test_an_update_replaces_all_levels(directory):
    books = Books(directory, "levels")
    books.apply(update(NASDAQ, [(99.0, 1), (98.0, 2)], [(101.0, 3), (102.0, 4)]))
    book = books.apply(update(NASDAQ, [(99.0, 1)], [(101.0, 3)]))
    assert shown(book).get("venue_1", (None, None)) == (None, None)


@pytest.mark.parametrize(("bids", "asks"), [(3, 1), (1, 3), (0, 2)])
def test_sides_of_uneven_depth(directory, bids, asks):
    bid_levels, ask_levels = [(99.0 - i, 1) for i in range(bids)], [(101.0 + i, 1) for i in range(asks)]
    book = Books(directory, "levels").apply(update(NASDAQ, bid_levels, ask_levels))
    found = list(shown(book).values())
    assert [bid for bid, _ in found if bid] == bid_levels
    assert [ask for _, ask in found if ask] == ask_levels


def test_levels_of_a_publisher_are_kept_for_greedy_l2(directory):
    book = Books(directory, depth=3).apply(update(NASDAQ, [None] * 4, [(103.0, 3), None, (101.0, 1), (102.0, 2)]))
    result = Router(algorithm="greedy_l2").route(Order("AAPL", "buy", 100), book)
    assert [(c.price, c.quantity) for c in result.child_orders] == [(101.0, 1), (102.0, 2), (103.0, 3)]


def test_venues_from_is_checked(directory):
    with pytest.raises(InputError, match="venues_from is 'rows': it must be one of publishers, levels"):
        Books(directory, "rows")


def test_a_second_publisher_of_levels_is_refused(directory):
    """In the place of the first one's its quotes would replace them without a word."""
    books = Books(directory, "levels")
    book = books.apply(update(NASDAQ, (99.0, 1), (101.0, 2), sequence=1))
    before = shown(book)
    with pytest.raises(DataError, match=r"publisher_id is 9: AAPL's venues are levels of publisher 2") as caught:
        books.apply(update(NYSE, (98.0, 3), (102.0, 4), time=NOW + 1, sequence=2))
    assert caught.value.reason == "publisher"
    assert (shown(book), book.time, book.sequence, books.publishers) == (before, NOW, 1, {NASDAQ})
    books.apply(update(NYSE, (8.0, 3), (9.0, 4), symbol="MSFT"))  # a symbol of its own is in nobody's place
    books.apply(update(NASDAQ, (99.5, 1), (101.0, 2)))
    assert shown(book)["venue_0"] == ((99.5, 1), (101.0, 2))


def test_of_two_publishers_that_were_remembered_one_is_restored(directory, caplog):
    """As a version that let both in has left them: a recovery goes on."""
    books = Books(directory, "levels")
    books.restore(update(NASDAQ, (99.0, 1), (101.0, 2)), NOW, 3)
    before = shown(books.by_symbol["AAPL"])
    with caplog.at_level(logging.WARNING):
        books.restore(update(NYSE, (98.0, 3), (102.0, 4)), NOW + 1, 3)
    assert shown(books.by_symbol["AAPL"]) == before
    assert "not restored: AAPL of publisher 9" in caplog.text


# --- copies ----------------------------------------------------------------------------------------------------------


class OwnBook(Book):
    """A caller's, made in a way of its own."""

    def __init__(self, name: str) -> None:
        super().__init__("AAPL", 3)
        self.name = name


def same_by_pickle(protocol: int) -> Any:
    return lambda book: pickle.loads(pickle.dumps(book, protocol))  # noqa: S301


WAYS = [copy.copy, copy.deepcopy, *(same_by_pickle(p) for p in range(2, pickle.HIGHEST_PROTOCOL + 1))]


def routed(book: Book) -> list[bytes]:
    orders = [Order("AAPL", side, 250) for side in ("buy", "sell")]
    routers = [Router(), Router(algorithm="greedy_l2"), Router(objective="shortfall")]
    return [router.route(order, book).to_json() for router in routers for order in orders]


@pytest.mark.parametrize("same", WAYS)
def test_a_copy_of_a_book_answers_the_same_and_is_independent(same, directory):
    books = Books(directory, depth=3)
    books.apply(update(EDGA, [(0.99, 1), (0.98, 300)], [(1.01, 2), (1.02, 300)], sequence=7))  # fees of two forms
    books.apply(update(60000, None, (1.015, 90), time=NOW + 5))
    own = OwnBook("what if")
    own.quote("B", bids=[(99.0, 100)], asks=[(98.0, 1)], time=5)  # crossed
    own.quote("A", asks=[(100.0 + i, 90) for i in range(3)], fee=0.003)
    for book in (books.by_symbol["AAPL"], own, Book("AAPL")):
        before = routed(book)
        other = same(book)
        assert type(other) is type(book)
        assert routed(other) == before
        assert (other.time, other.sequence, other.depth) == (book.time, book.sequence, book.depth)
        place, name = (book.quotes[0].order, book.quotes[0].venue_id) if book.quotes else (1, "N")
        other.show(place, name, [], [(0.9, 1000)], RATES, 1)
        assert routed(other) != before
        assert routed(book) == before
        book.sequence = 99
        assert other.sequence != 99
    assert (own.name, same(own).name) == ("what if", "what if")


@pytest.mark.parametrize("same", WAYS)
def test_outflows_and_placements_come_along(same, directory):
    """The copy answers as the original does: from the same windows and last placement, its own from then on."""
    books = Books(directory, new_outflows=lambda: Outflows(2 * 10**9, 50))
    router = Router(CostParameters(0.05, 0.05, 0.0005), "cont_kukanov", min_windows=5)
    order = Order("AAPL", "buy", 2000)

    def feed(start, end):
        for second in range(start, end):
            for place, publisher in enumerate((NASDAQ, NYSE, EDGA)):
                size = 300 + 97 * ((second * (place + 3)) % 7)
                book = books.apply(update(publisher, (99.99, size), (100.01, size), time=NOW + second * 10**9))
        return book

    book = feed(0, 20)
    first = router.route(order, book)
    assert first.placement.windows >= 5
    other = same(book)
    assert len(other.placements) == len(book.placements) == 1
    assert router.route(order, other).to_json() == first.to_json()
    later = router.route(order, feed(20, 25)).to_json()
    assert router.route(order, other).to_json() == first.to_json()  # what the original has seen since it has not
    books.by_symbol["AAPL"] = other
    assert router.route(order, feed(20, 25)).to_json() == later != first.to_json()


# --- a caller's own quotes -------------------------------------------------------------------------------------------


def test_a_quote_of_the_callers():
    book = Book("AAPL")
    book.quote("B", bids=[(98.0, 1), (99.0, 2)], asks=[(102.0, 3), (101.0, 4)], fee=0.001, rebate=0.002, time=NOW)
    book.quote("A", asks=[(100.0, 5)])
    assert shown(book) == {"A": (None, (100.0, 5)), "B": ((99.0, 2), (101.0, 4))}  # by name, levels by price
    assert fees(book) == {"A": (0.0, 0.0), "B": (0.001, 0.002)}
    assert book.time == NOW
    book.quote("B")
    assert shown(book)["B"] == (None, None)
    assert book.time == NOW


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"asks": [(0.0, 1)]}, r"asks\[0\] price is 0.0"),
        ({"asks": [(100.0, 1), (-1.0, 1)]}, r"asks\[1\] price is -1.0"),
        ({"bids": [(math.nan, 1)]}, r"bids\[0\] price is nan"),
        ({"bids": [("100", 1)]}, r"bids\[0\] price is '100'"),
        ({"bids": [(None, 1)]}, r"bids\[0\] price is None"),
        ({"bids": [(100.0, 0)]}, r"bids\[0\] size is 0"),
        ({"bids": [(100.0, 1.5)]}, r"bids\[0\] size is 1.5"),
        ({"bids": [(100.0, True)]}, r"bids\[0\] size is True"),
        ({"fee": math.inf}, "fee is inf"),
        ({"rebate": "0"}, "rebate is '0'"),
        ({"time": -1}, "time is -1"),
        ({"time": 1.5}, "time is 1.5"),
    ],
)
def test_a_wrong_quote_is_refused_and_changes_nothing(arguments, name):
    book = Book("AAPL")
    book.quote("A", asks=[(100.0, 5)])
    with pytest.raises(InputError, match=f"{name}: it must be"):
        book.quote("A", **arguments)
    with pytest.raises(InputError):
        book.quote("NEW", **arguments)
    assert shown(book) == {"A": (None, (100.0, 5))}


@pytest.mark.parametrize("levels", [[(100.0,)], [100.0], None, "ab", [(1.0, 2, 3)]])
def test_levels_that_are_no_pairs_are_an_input_error(levels):
    with pytest.raises(InputError, match="asks"):
        Book("AAPL").quote("A", asks=levels)


@pytest.mark.parametrize("depth", [0, -1, 1.5, "1"])
def test_depth_is_checked(depth):
    with pytest.raises(InputError, match=r"depth is .*: it must be a whole number"):
        Book("AAPL", depth)


def test_levels_beyond_the_depth_are_left_out():
    book = Book("AAPL", depth=2)
    book.quote("A", asks=[(100.0 + i, 10) for i in range(5)])
    assert Router(algorithm="greedy_l2").route(Order("AAPL", "buy", 100), book).allocation == [20]
