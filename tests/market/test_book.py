"""The consolidated book: what is carried forward, what replaces what, who is who, and what is charged when."""

from __future__ import annotations

import copy
import logging
import math
import pickle
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sor import Book, CostParameters, DataError, InputError, Order, Outflows, Router
from sor.kernels import pick
from sor.market import BookUpdate, Event
from sor.market.book import TRADES, Books
from sor.market.fields import iso_of
from sor.market.venues import VenueDirectory

NOW = 1_722_519_392_491_911_683  # 2024-08-01
NASDAQ, NYSE, EDGA, ARCA = 2, 9, 7, 43
RATES = pick("sor.market._quotes").Rates(0.0, 0.0)


def update(publisher: int, bid: Any = None, ask: Any = None, time: int = NOW, symbol: str = "AAPL", **more: Any) -> Any:
    """An update; a side is one level, or a list of levels."""
    sides = [side if isinstance(side, list) else [side] for side in (bid, ask)]
    return BookUpdate(symbol, publisher, time, more.get("sequence"), *sides)


def trade(publisher: int, time: int = NOW, symbol: str = "AAPL", side: str = "N", price: float = 10.0) -> BookUpdate:
    """A row that says only what has happened."""
    return BookUpdate(symbol, publisher, time, 77, None, None, Event("T", side, price, 30))


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


# --- consolidated quotes ---------------------------------------------------------------------------------------------

FEED = 95  # publishes the best of all venues


def best(bid: Any = None, ask: Any = None, time: int = NOW, by: int = FEED, **more: Any) -> BookUpdate:
    """Consolidated quotes; a side is (price, size, publisher) or None."""
    shown = [[None if side is None else side[:2]] for side in (bid, ask)]
    owners = [0 if side is None else side[2] for side in (bid, ask)]
    symbol, event, doubts = more.get("symbol", "AAPL"), more.get("event"), more.get("doubts", 0)
    return BookUpdate(symbol, by, time, None, *shown, event, doubts, bid_publisher=owners[0], ask_publisher=owners[1])


def test_a_side_belongs_to_the_publisher_that_the_row_names(books):
    book = books.apply(best((99.0, 1, NASDAQ), (101.0, 2, NYSE)))
    assert shown(book) == {"XNAS": ((99.0, 1), None), "XNYS": (None, (101.0, 2))}
    books.apply(best((99.0, 5, EDGA), (101.0, 2, NYSE)))  # as good as Nasdaq's, which still stands
    assert shown(book) == {"XNAS": ((99.0, 1), None), "EDGA": ((99.0, 5), None), "XNYS": (None, (101.0, 2))}
    books.apply(best((99.0, 5, EDGA), (101.0, 7, EDGA)))
    assert shown(book) == {"XNAS": ((99.0, 1), None), "EDGA": ((99.0, 5), (101.0, 7)), "XNYS": (None, (101.0, 2))}


@pytest.mark.parametrize("price", [99.01, 98.99])
def test_what_is_not_at_the_new_best_is_unknown(books, price):
    """At a better one the others stand somewhere below; at a worse one theirs have gone."""
    books.apply(best((99.0, 1, NASDAQ), (101.0, 2, NASDAQ)))
    books.apply(best((99.0, 3, NYSE), (101.0, 4, NYSE)))
    book = books.apply(best((price, 6, EDGA), (101.0, 4, NYSE)))
    assert shown(book) == {"XNAS": (None, (101.0, 2)), "EDGA": ((price, 6), None), "XNYS": (None, (101.0, 4))}


def test_a_side_that_shows_nothing_is_empty_everywhere(books):
    books.apply(best((99.0, 1, NASDAQ), (101.0, 2, NYSE)))
    book = books.apply(best(None, (101.0, 2, NYSE), time=NOW + 5))
    assert shown(book) == {"XNAS": (None, None), "XNYS": (None, (101.0, 2))}
    books.apply(best(time=NOW + 9))
    assert shown(book) == {"XNAS": (None, None), "XNYS": (None, None)}
    assert book.time == NOW + 9
    empty = books.apply(best(time=NOW + 1, symbol="MSFT"))
    assert (shown(empty), empty.time) == ({}, NOW + 1)


def test_the_feed_is_no_venue_and_gives_no_hint_at_levels(books, directory, caplog):
    book = books.apply(best((99.0, 1, NASDAQ), (101.0, 2, 81)))  # two numbers of Nasdaq's
    assert shown(book) == {"XNAS": ((99.0, 1), (101.0, 2))}
    assert (books.publishers, books.consolidated) == (set(), {FEED})
    assert not caplog.records, "nobody was told of a venue that the directory does not know"


def test_a_side_that_stays_keeps_its_time(books):
    """An age would otherwise be too low for what nobody has confirmed."""
    books.apply(best((99.0, 1, NASDAQ), (101.0, 2, NASDAQ), time=NOW))
    book = books.apply(best((99.0, 5, NYSE), (101.5, 2, NYSE), time=NOW + 100))
    assert {quote.venue_id: quote.time for quote in book.quotes} == {"XNAS": NOW, "XNYS": NOW + 100}
    result = Router(max_quote_age=50).route(Order("AAPL", "sell", 10), book)
    assert [(venue.venue_id, venue.status) for venue in result.venues] == [("XNAS", "stale"), ("XNYS", "ok")]


def test_doubts_are_of_what_the_row_changed(books):
    books.apply(best((99.0, 1, NASDAQ), (101.0, 2, NYSE)))
    book = books.apply(best((99.5, 1, EDGA), (101.0, 2, ARCA), doubts=4))
    assert [warning.partition(":")[0] for warning in book.warnings()] == ["ARCX", "EDGA", "XNAS"]  # XNYS is as it was
    books.apply(best((99.5, 1, EDGA), (101.1, 2, EDGA)))
    assert [warning.partition(":")[0] for warning in book.warnings()] == ["XNAS"]
    books.apply(best((99.4, 1, NASDAQ), (101.1, 2, EDGA)))
    assert book.warnings() == []


def test_levels_take_no_consolidated_quotes(directory):
    books = Books(directory, "levels")
    with pytest.raises(DataError, match="consolidated quotes, and venues_from 'levels'") as caught:
        books.apply(best((99.0, 1, NASDAQ), (101.0, 2, NYSE)))
    assert caught.value.reason == "publisher"
    assert books.by_symbol == {}


FIRST = best((99.0, 300, NASDAQ), (101.0, 200, NYSE))
PUBLISHERS = st.sampled_from([NASDAQ, 81, NYSE, EDGA, 9002])
SIDE = st.one_of(st.none(), st.tuples(st.sampled_from([99.0, 99.1, 99.2]), st.integers(1, 3), PUBLISHERS))
LEVEL = st.one_of(st.none(), st.tuples(st.sampled_from([99.0, 99.1, 99.2]), st.integers(1, 3)))
ROWS = st.lists(
    st.one_of(
        st.builds(best, SIDE, SIDE, st.integers(NOW, NOW + 9), st.sampled_from([FEED, NYSE]), doubts=st.just(0)),
        st.builds(best, SIDE, SIDE, st.integers(NOW, NOW + 9), doubts=st.sampled_from([0, 4])),
        st.builds(update, PUBLISHERS, LEVEL, LEVEL, st.integers(NOW, NOW + 9)),
        st.builds(trade, PUBLISHERS, st.integers(NOW, NOW + 9)),
    ),
    max_size=12,
)


def worked_out(rows: list[BookUpdate], directory: VenueDirectory) -> dict[str, list[Any]]:
    """The rule word for word: by venue, its bid and its ask."""
    venues: dict[str, list[Any]] = {}
    for row in rows:
        if row.bids is None:
            continue
        sides = (row.bids[0], row.bid_publisher), (row.asks[0], row.ask_publisher)
        for i, (level, publisher) in enumerate(sides):
            if not row.consolidated:
                venues.setdefault(directory.venue(row.publisher_id).venue_id, [None, None])[i] = level
                continue
            for quote in venues.values():
                if level is None or (quote[i] is not None and quote[i][0] != level[0]):
                    quote[i] = None
            if level is not None:
                venues.setdefault(directory.venue(publisher).venue_id, [None, None])[i] = level
    return venues


@given(rows=ROWS)
def test_consolidated_quotes_by_the_letter(rows):
    directory = VenueDirectory.load()
    books = Books(directory)
    for count, row in enumerate(rows, 1):
        book = books.apply(row)
        found = {quote.venue_id: [*(quote.bids or [None]), *(quote.asks or [None])] for quote in book.quotes}
        assert found == worked_out(rows[:count], directory)
        assert book.time == max(one.time for one in rows[:count])


def state_of(book: Book) -> Any:
    quotes = [(one.venue_id, one.bids, one.asks, one.time, one.rates.fee) for one in book.quotes]
    return quotes, book.time, book.sequence, book.warnings()


@example(rows=[FIRST, best(), best(by=NYSE)])  # the second changes nothing but the time, and is by a venue's number
@example(rows=[best(time=NOW + 5, by=NYSE), update(NYSE, (99.0, 1), None)])
@given(rows=ROWS.filter(bool))
def test_the_parts_of_consolidated_quotes_bring_the_same_book_back(rows):
    """As a recovery has them: the last of each publisher, in the order of their rows."""
    directory = VenueDirectory.load()
    books, other, kept = Books(directory), Books(directory), {}
    for at, row in enumerate(rows):
        book = books.apply(row)
        for part in books.parts(row):
            kept[TRADES if part.bids is None else part.publisher_id] = at, part, book.time
    for _, part, time in sorted(kept.values(), key=lambda one: one[0]):
        other.restore(part, time, 0)
    assert state_of(other.by_symbol["AAPL"]) == state_of(books.by_symbol["AAPL"])


@given(rows=ROWS.filter(bool), cut=st.integers(0, 11))
def test_consolidated_quotes_are_undone(rows, cut):
    directory = VenueDirectory.load()
    books, other = Books(directory), Books(directory)
    for row in rows[:cut]:
        books.apply(row)
        other.apply(row)
    books.begin()
    for row in rows[cut:]:
        books.apply(row)
    books.undo()
    assert [state_of(book) for book in books.by_symbol.values()] == [state_of(b) for b in other.by_symbol.values()]


def left_at(*rows: BookUpdate, directory: VenueDirectory) -> dict[str, tuple[float, float]]:
    """Shares that have left the bids and the asks of each venue within the step."""
    books = Books(directory, new_outflows=lambda: Outflows(10**9, 5))
    for row in rows:
        book = books.apply(row)
    assert book.outflows is not None
    return {
        quote.venue_id: (queue.bids.left, queue.asks.left)
        for quote in book.quotes
        for queue in [book.outflows._venues[quote.order]]
    }


@pytest.mark.parametrize(
    ("row", "left"),
    [
        (best((99.0, 100, NASDAQ), (101.0, 200, NYSE)), {"XNAS": (200, 0), "XNYS": (0, 0)}),
        (best((98.9, 50, NYSE), (101.0, 200, NYSE)), {"XNAS": (300, 0), "XNYS": (0, 0)}),  # or 99.0 were the best
        (best((99.1, 50, NYSE), (101.0, 200, NYSE)), {"XNAS": (0, 0), "XNYS": (0, 0)}),  # it may stand there still
        (best((99.0, 50, NYSE), (101.0, 150, NYSE)), {"XNAS": (0, 0), "XNYS": (0, 50)}),
        (best(None, (101.0, 200, NYSE)), {"XNAS": (300, 0), "XNYS": (0, 0)}),
        (best(event=Event("R", "N", None, 0)), {"XNAS": (0, 0), "XNYS": (0, 0)}),  # cleared: nobody traded or left
        (
            best((99.0, 300, NASDAQ), (101.0, 200, NYSE), by=NASDAQ, event=Event("T", "A", 99.0, 40)),
            {"XNAS": (40, 0), "XNYS": (0, 0)},
        ),
        (
            best((99.0, 300, NASDAQ), (101.0, 200, NYSE), event=Event("T", "A", 99.0, 40)),  # where is not told
            {"XNAS": (0, 0), "XNYS": (0, 0)},
        ),
    ],
)
def test_what_leaves_the_queues_of_consolidated_quotes(directory, row, left):
    assert left_at(FIRST, row, directory=directory) == left


def test_a_queue_that_comes_back_to_the_best_has_not_left_meanwhile(directory):
    away = best((99.1, 50, NYSE), (101.0, 200, NYSE))
    back = best((99.0, 100, NASDAQ), (101.0, 200, NYSE))
    assert left_at(FIRST, away, back, directory=directory) == {"XNAS": (0, 0), "XNYS": (50, 0)}


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


# --- rows that say only what has happened ----------------------------------------------------------------------------


def test_a_trade_moves_the_time_and_leaves_every_quote(books, directory):
    book = books.apply(update(NASDAQ, (10.0, 100), (10.1, 200)))
    before = shown(book)
    assert books.apply(trade(NASDAQ, NOW + 9)) is book
    books.apply(trade(NYSE, NOW + 7))  # of a venue that has not quoted: it does not become one
    books.apply(trade(9002, NOW + 8))
    assert (shown(book), book.time, book.sequence) == (before, NOW + 9, 77)
    assert [quote.time for quote in book.quotes] == [NOW]
    result = Router().route(Order("AAPL", "buy", 100), book)
    assert result.allocation == [100]
    assert (result.book.time, result.book.sequence) == (iso_of(NOW + 9), 77)


def test_a_quote_gets_stale_as_trades_go_on(books):
    book = books.apply(update(NASDAQ, (10.0, 100), (10.1, 200)))
    books.apply(trade(9002, NOW + 11))
    [venue] = Router(max_quote_age=10).route(Order("AAPL", "buy", 100), book).venues
    assert venue.status == "stale"


def test_a_trade_of_an_unlisted_publisher_asks_for_no_fees(books, caplog):
    books.apply(update(NASDAQ, (10.0, 100), (10.1, 200)))
    books.apply(trade(9002))
    assert caplog.text == ""


def test_the_first_row_of_a_symbol_may_be_a_trade(books):
    book = books.apply(trade(9002))
    assert (shown(book), book.time) == ({}, NOW)
    assert shown(books.apply(update(NASDAQ, None, (10.1, 200)))) == {"XNAS": (None, (10.1, 200))}


@pytest.mark.parametrize("publisher", [NASDAQ, 9002])
def test_a_trade_does_not_say_whose_levels_are_venues(directory, publisher):
    books = Books(directory, "levels")
    books.apply(trade(publisher))
    book = books.apply(update(NYSE, [(10.0, 100), (9.9, 50)], [(10.1, 200)]))
    before = shown(book)
    books.apply(trade(publisher, NOW + 1))
    assert shown(book) == before
    with pytest.raises(DataError, match="takes one feed"):
        books.apply(update(NASDAQ, (10.0, 100)))


@pytest.mark.parametrize("venues_from", ["publishers", "levels"])
def test_trades_are_undone_and_evicted_like_quotes(directory, venues_from):
    books = Books(directory, venues_from, most=2)
    book = books.apply(update(NASDAQ, (10.0, 100), (10.1, 200)))
    before = shown(book), book.time, book.sequence
    books.begin()
    books.apply(trade(NASDAQ, NOW + 5))
    books.apply(trade(NYSE, NOW, "ONLY"))
    books.apply(trade(NYSE, NOW, "MORE"))  # makes room: the book of AAPL, or of ONLY, goes
    assert len(books.by_symbol) == 2
    books.undo()
    book = books.by_symbol["AAPL"]
    assert ((shown(book), book.time, book.sequence), len(books.by_symbol)) == (before, 1)


def test_a_feed_of_trades_alone_is_evicted(directory):
    books = Books(directory, "levels", most=1)
    for symbol in ("ONE", "TWO", "THREE"):
        books.apply(trade(NASDAQ, NOW, symbol))
    assert books.by_symbol.keys() == {"THREE"}
    assert books.evicted == {"ONE": [TRADES], "TWO": [TRADES]}


def test_outflows_take_a_trade_in_a_row_of_its_own(directory):
    """Sellers take 30 of the 100 shares bid; the quote that follows at once shows 70, and is not counted again."""
    second = 10**9
    windows = {}
    for alone in (False, True):
        books = Books(directory, new_outflows=lambda: Outflows(second, 10))
        rows = [update(NASDAQ, (10.0, 100), (10.1, 200), time) for time in range(0, 3 * second, second // 2)]
        after = update(NASDAQ, (10.0, 70), (10.1, 200), 3 * second)
        event = trade(NASDAQ, 3 * second, side="A")
        if alone:
            rows += [event, trade(9002, 3 * second, side="A"), trade(NYSE, 3 * second, side="A"), after]
        else:
            rows.append(BookUpdate("AAPL", NASDAQ, 3 * second, None, after.bids, after.asks, event.event))
        rows += [update(NASDAQ, (10.0, 70), (10.1, 200), time) for time in range(4 * second, 6 * second, second)]
        for row in rows:
            book = books.apply(row)
        windows[alone] = book.outflows.samples("buy", [NASDAQ]).tolist()
    assert windows[True] == windows[False]
    assert sum(shares for [shares] in windows[True]) == 30
