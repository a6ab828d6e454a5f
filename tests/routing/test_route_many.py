"""`route_many` gives what `Router.route` gives after each row, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batches import CENTS, KNOWN, batch_of, feeds
from hypothesis import given, settings
from hypothesis import strategies as st
from row_by_row import NAMES, PLANS, check_all

import sor
from sor import Batch, CostParameters, InputError, Order, read_feed, route_many
from sor.market.venues import VenueDirectory
from sor.routing import many

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
