"""`route_many` gives what `Router.route` gives after each row, bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import CENTS, KNOWN, batch_of, feeds
from hypothesis import given, settings
from hypothesis import strategies as st
from row_by_row import NAMES, PLANS, check_all, with_rules

import sor
from sor import Batch, CostParameters, InputError, Instrument, Instruments, Order, read_feed, route_many
from sor.market.instruments import SHARES
from sor.market.policy import Policy
from sor.market.venues import VenueDirectory
from sor.routing import many
from sor.types import Warnings

DIRECTORY = VenueDirectory.load()


# --- feeds with everything odd in them -------------------------------------------------------------------------------


@st.composite
def many_orders(draw: Any) -> list[Order]:
    return [
        Order(
            draw(st.sampled_from([many.ANY, "A", "B"])),
            draw(st.sampled_from(["buy", "sell"])),
            draw(st.integers(1, 4) | st.sampled_from([500, 1_050, 10**9])),
            draw(st.none() | st.sampled_from([100.0, 100.01, 99.99, 0.9])),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]


PENALTIES = [CostParameters(), CostParameters(0.5, 0.6, 0.1, 1), CostParameters(0.0, 200.0, 0.01, 7)]


@given(
    feed=feeds(),
    orders=many_orders(),
    plan=st.sampled_from(PLANS),
    parameters=st.sampled_from(PENALTIES),
    age=st.none() | st.integers(0, 20).map(lambda seconds: seconds * 1_000_000_000),
    exclude=st.sampled_from([(), ("XNAS",), ("XNAS", "nobody")]),
    looks=st.sampled_from([1, 3, 1_000]),
)
@settings(max_examples=150)
def test_the_router_says_the_same(
    feed: list[Batch],
    orders: list[Order],
    plan: tuple[str, str],
    parameters: CostParameters,
    age: int | None,
    exclude: tuple[str, ...],
    looks: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "LOOKS", looks)  # so that few rows are solved at a time
        check_all(feed, orders, plan, parameters=parameters, max_quote_age=age, exclude_venues=exclude, threads=2)


# Of the feeds' venues, some seconds before and after midnight: other rules, none any more, and the first ones.
RULED = with_rules(
    {
        "XNAS": [{"day": "2024-01-01", "lot": 100, "ticket": 0.5}, {"day": "2024-08-02", "min_quantity": 150}],
        "XNYS": [{"day": "2024-01-01", "lot": "round", "min_notional": 5_000.0}, {"day": "2024-08-02"}],
        "ARCX": [{"day": "2024-08-02", "max_quantity": 2, "ticket": 0.01}],
    }
)
TO_MIDNIGHT = 1_722_556_800_000_000_000 - 1_722_519_380_000_000_000  # so that the feeds' times lie around it


@given(
    feed=feeds(),
    orders=many_orders(),
    plan=st.sampled_from([plan for plan in PLANS if plan[1] != "notional"]),
    parameters=st.sampled_from(PENALTIES),
    age=st.none() | st.integers(0, 20).map(lambda seconds: seconds * 1_000_000_000),
    exclude=st.sampled_from([(), ("XNAS",)]),
    kinds=st.sampled_from([(RULED, "none"), (RULED, "nbbo"), (DIRECTORY, "nbbo")]),
    coins=st.booleans(),
    looks=st.sampled_from([1, 3, 1_000]),
)
@settings(max_examples=100)
def test_the_router_says_the_same_under_rules_and_protection(
    feed: list[Batch],
    orders: list[Order],
    plan: tuple[str, str],
    parameters: CostParameters,
    age: int | None,
    exclude: tuple[str, ...],
    kinds: tuple[VenueDirectory, str],
    coins: bool,
    looks: int,
) -> None:
    directory, protect = kinds
    protect = protect if plan[1] == "sweep" else "none"
    feed = [dataclasses.replace(batch, time=batch.time + TO_MIDNIGHT) for batch in feed]
    if coins:  # of so many lots that each size is an order of either symbol
        orders = [Order(many.ANY, one.side, 35 * min(one.quantity, 1_000), one.limit_price) for one in orders]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "LOOKS", looks)
        check_all(
            feed,
            orders,
            plan,
            parameters=parameters,
            max_quote_age=age,
            exclude_venues=exclude,
            directory=directory,
            protect=protect,
            instruments=COINS if coins else SHARES,
        )


def test_rules_are_kept_from_their_day_on_and_told_in_bits() -> None:
    """By hand: 250 shown at the only venue; a lot of 100, and from the next day on at least 300."""
    day = 1_722_520_000_000_000_000
    row = {
        "symbol": 0, "publisher": KNOWN, "flags": 0,
        "bid_price": [9_999 * CENTS], "bid_size": [100], "ask_price": [10_000 * CENTS], "ask_size": [250],
    }  # fmt: skip
    batch = batch_of([row | {"time": day}, row | {"time": day + 86_400 * 10**9}], ("A",))
    directory = with_rules({"XNAS": [{"day": "2024-01-01", "lot": 100}, {"day": "2024-08-02", "min_quantity": 300}]})
    columns = route_many(batch, Order("A", "buy", 400), directory=directory)
    assert columns["executed"].tolist() == [200, 0]
    assert columns["warnings"].tolist() == [Warnings.RULES, Warnings.RULES]
    free = route_many(batch, Order("A", "buy", 400))
    assert (free["executed"].tolist(), free["warnings"].tolist()) == ([250, 250], [0, 0])
    assert {name: values.dtype for name, values in free.items()} == {
        name: values.dtype for name, values in columns.items()
    }


def test_columns_of_protection_are_told_in_bits(tmp_path: Path) -> None:
    day = 1_722_520_000_000_000_000
    near = {
        "symbol": 0, "time": day, "publisher": KNOWN, "flags": 0,
        "bid_price": [9_999 * CENTS], "bid_size": [100], "ask_price": [10_000 * CENTS], "ask_size": [200],
    }  # fmt: skip
    batch = batch_of([near, near | {"publisher": 9, "ask_price": [10_001 * CENTS]}], ("A",))
    order = Order("A", "buy", 100)
    through = route_many(batch, order, exclude_venues=["XNAS"], protect="nbbo")
    assert through["warnings"].tolist() == [Warnings.NOTHING, Warnings.TRADED_THROUGH]
    path = tmp_path / "policy.toml"
    path.write_text("schema_version = 1\n[choice]\nprotected = 'off'\n")
    off = Policy.load(path)
    for given_to in ({"policy": off}, {"directory": VenueDirectory.load(policy=off)}):
        columns = route_many(batch, order, protect="nbbo", **given_to)
        assert columns["warnings"].tolist() == [Warnings.UNPROTECTED] * 2
    no_rows = route_many([], order, protect="nbbo")
    assert {name: values.dtype for name, values in no_rows.items() if name not in NAMES} == {
        name: values.dtype for name, values in through.items() if name not in NAMES
    }


def test_what_is_not_proven_is_told_in_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sor.models.static.MOST_CELLS", 1)
    row = {
        "symbol": 0, "time": 10**18, "publisher": KNOWN, "flags": 0,
        "bid_price": [9_999 * CENTS], "bid_size": [100], "ask_price": [10_000 * CENTS], "ask_size": [250],
    }  # fmt: skip
    batch = batch_of([row, row | {"publisher": 9, "ask_price": [10_001 * CENTS]}], ("A",))
    rules = [{"day": "2001-01-01", "lot": 7, "min_quantity": 120, "ticket": 1.0}]
    columns = route_many(batch, Order("A", "buy", 300), directory=with_rules({"XNAS": rules, "XNYS": rules}))
    assert columns["warnings"][-1] & Warnings.UNPROVEN


COINS = Instruments(
    {"A": Instrument(lot="0.0001", round_lot="0.0007", currency="EUR"), "B": Instrument(lot=0.125, currency="USDT")}
)


@given(
    feed=feeds(),
    terms=st.lists(st.tuples(st.sampled_from("AB*"), st.sampled_from(["buy", "sell"]), st.integers(1, 2_000))),
    plan=st.sampled_from(PLANS),
    parameters=st.sampled_from(PENALTIES),
    coins=st.sampled_from([COINS, Instruments({"A": COINS["A"]}), Instruments({"B": Instrument(lot=10)})]),
    looks=st.sampled_from([1, 3, 1_000]),
)
@settings(max_examples=100)
def test_the_router_says_the_same_of_coins(
    feed: list[Batch],
    terms: list[tuple[str, Any, int]],
    plan: tuple[str, str],
    parameters: CostParameters,
    coins: Instruments,
    looks: int,
) -> None:
    """An order is of so many lots; one for any symbol of so many whole units."""
    orders = [Order(many.ANY, "buy", 20)]
    for symbol, side, lots in terms:
        instrument = coins.get(symbol)
        size = 10 * lots if instrument is None else instrument.quantity(lots)
        orders.append(Order(symbol, side, size, instrument=instrument))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "LOOKS", looks)
        check_all(feed, orders, plan, parameters=parameters, instruments=coins)


def test_figures_of_coins_are_decimals_in_their_currency(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(
        "time,venue,symbol,bid,ask,bid_size,ask_size\n"
        "2024-08-01T13:36:32Z,XNAS,A,99,100,0.5,0.0137\n2024-08-01T13:36:33Z,XNAS,C,9,10,5,6\n"
    )
    feed = read_feed(path, instruments=COINS)
    columns = route_many(feed, [Order("A", "buy", 0.0137, instrument=COINS["A"]), Order("C", "buy", 5)])
    assert columns["allocation"].tolist() == [[0.0137], [5.0]]
    assert columns["executed"].tolist() == [0.0137, 5.0]
    fee = columns["total_cost"][1] / 5 - 10
    assert columns["total_cost"][0] == pytest.approx(0.0137 * (100 + fee), rel=1e-12)
    assert dict(zip(columns["symbols"].tolist(), columns["currencies"].tolist(), strict=True)) == {
        "A": "EUR",
        "C": "USD",
    }
    shares = route_many(read_feed(path), Order("C", "buy", 5))
    assert "currencies" not in shares
    assert shares["allocation"].dtype == shares["executed"].dtype == np.int64


def test_instruments_have_to_be_those_of_the_feed(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("time,venue,symbol,bid,ask,bid_size,ask_size\n2024-08-01T13:36:32Z,XNAS,A,99,100,5,6\n")
    order = Order("A", "buy", 1)
    for feed, wrong in ((read_feed(path), COINS), (read_feed(path, instruments=COINS), SHARES)):
        with pytest.raises(InputError, match="instruments are other ones than those that the feed was read with"):
            route_many(feed, order, instruments=wrong)
    with pytest.raises(InputError, match=r"instrument is Instrument.*: it must be that of A, None"):
        route_many(read_feed(path), Order("A", "buy", 0.5, instrument=COINS["A"]))
    tons = Instruments({"A": Instrument(lot=10)})
    with pytest.raises(InputError, match="quantity is 1: it must be a multiple of the lot 10"):
        route_many(list(read_feed(path)), Order(many.ANY, "buy", 1), instruments=tons)


@pytest.mark.parametrize("plan", PLANS if sor.BACKEND == "cython" else PLANS[1:2])  # which are slow in Python
def test_a_day_of_ibm(shared: Path, plan: tuple[str, str]) -> None:
    """Every fiftieth row of a day, both sides, with a limit and without, whole and with a remainder."""
    batches = list(read_feed(shared / "data" / "ibm_week" / "lean_ibm_20131008_mbp-1.csv.gz"))
    orders = [Order("IBM", "buy", 500), Order("IBM", "sell", 1_250), Order(many.ANY, "buy", 5_000, 181.5)]
    assert check_all(batches, orders, plan, every=50, max_quote_age=30 * 10**9) > 3_000


def test_a_day_of_ibm_is_the_same_feed_in_every_format(shared: Path) -> None:
    """In short, as the one before: `tools/ibm_week.py` takes all rows of all days."""
    pytest.importorskip("pyarrow")
    sums = pytest.importorskip("ibm_week").formats_of(shared / "data" / "lean_ibm_20131007_mbp-1.csv.gz")
    assert sums.keys() == {"csv", "parquet", "json", "dbn"}
    assert len(set(sums.values())) == 1


def test_the_sample_by_all_that_reads_it(tmp_path: Path) -> None:
    """The file's rows in columns are what its messages are: one feed, one answer."""
    path = Path(__file__).parents[2] / "sample.csv"
    feed = read_feed(path)
    columns = route_many(feed, Order(many.ANY, "buy", 5_000))
    assert len(columns["row"]) == feed.rows
    assert check_all(list(feed), [Order(many.ANY, "buy", 5_000)], PLANS[0]) == feed.rows


# --- arguments -------------------------------------------------------------------------------------------------------


def quotes() -> Batch:
    row = {
        "symbol": 0, "time": 10**18, "publisher": KNOWN, "flags": 0,
        "bid_price": [9_999 * CENTS], "bid_size": [100], "ask_price": [10_000 * CENTS], "ask_size": [100],
    }  # fmt: skip
    return batch_of([row], ("A",))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"orders": []}, "orders is empty"),
        ({"orders": ["buy"]}, r"orders\[0\] is 'buy'"),
        ({"algorithm": "cont_kukanov"}, "sor.Router alone routes by it"),
        ({"algorithm": "best"}, "algorithm is 'best'"),
        ({"threads": 0}, "threads is 0"),
        ({"max_quote_age": -1}, "max_quote_age is -1"),
        ({"exclude_venues": "XNAS"}, "not one text"),
        ({"protect": "best"}, "protect is 'best'"),
        ({"protect": "nbbo", "objective": "shortfall"}, "protect is 'nbbo': objective must be sweep"),
        ({"policy": "mine"}, "policy is 'mine'"),
    ],
)
def test_wrong_arguments(changed: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {"feed": quotes(), "orders": Order("A", "buy", 10)} | changed
    with pytest.raises(InputError, match=words):
        route_many(**arguments)


def test_no_rows_and_no_order_for_them() -> None:
    for feed, order in (([], Order("A", "buy", 1)), (quotes(), Order("B", "buy", 1))):
        columns = route_many(feed, order)
        assert all(len(values) == 0 for name, values in columns.items() if name not in NAMES)


def test_a_batch_with_fewer_levels_than_the_one_before() -> None:
    deep = batch_of(
        [{"symbol": 0, "time": 0, "publisher": 2, "flags": 0} | {
            name: [0, 0] for name in ("bid_price", "bid_size", "ask_price", "ask_size")
        }],
        ("A",),
    )  # fmt: skip
    with pytest.raises(InputError, match="a batch has 1 levels, and one before it had 2"):
        route_many([deep, quotes()], Order("A", "buy", 1), algorithm="greedy_l2")
