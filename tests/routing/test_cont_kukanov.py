"""The algorithm `cont_kukanov` in the router: what it reads off a book, what it sends, and when it has no plan."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sor import Book, CostParameters, InputError, Instrument, Order, Outflows, Router, place, placement_cost
from sor.cli import main
from sor.kernels import pick
from sor.market import BookUpdate, Event
from sor.market.book import Books
from sor.market.venues import VenueDirectory
from sor.routing import cont_kukanov
from sor.routing.terms import Terms
from sor.stream.recovery import MARK, Partition

CHECKOUT = Path(__file__).resolve().parents[2]
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((CHECKOUT / "sor" / "routing" / "result.schema.json").read_text())
)
quotes = pick("sor.market._quotes")
SECOND = 10**9
WIDE = CostParameters(lambda_over=0.05, lambda_under=0.05, theta_queue=0.0005)  # of the paper
PENALTIES = {"theta": 0.0005, "lambda_under": 0.05, "lambda_over": 0.05}


class Recorded:
    """Outflows that stand, by venue; what the router asks of `Outflows`."""

    horizon = 60 * SECOND
    most = 500

    def __init__(self, samples: dict[str, np.ndarray]) -> None:
        self.by_venue = samples
        self.asked: list[tuple[str, list[str]]] = []

    def samples(self, side: str, venues: list[str]) -> np.ndarray:
        self.asked.append((side, list(venues)))
        return np.ascontiguousarray(np.column_stack([self.by_venue[venue] for venue in venues]))

    def source(self, venue: str) -> str:
        return "events"


def samples_of(seed: int = 5, count: int = 400) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    common = draw.poisson(2200, count)
    return {name: np.floor(0.6 * common + 0.4 * draw.poisson(2200, count)) for name in ("A", "B", "C")}


def book_of(side: str = "buy", outflows: Any = None) -> Book:
    """Three venues, best 10.00 to 10.04; A and B show the best on our side, C a worse one. A sell's is the mirror."""
    book = Book("IBM")
    near = [(10.0, 2000), (9.99, 500)], [(10.0, 1500)], [(9.98, 900)]
    far = [(10.04, 300), (10.05, 400)], [(10.04, 200)], [(10.05, 1000)]
    for name, own, other, rates in zip("ABC", near, far, [(0.003, 0.002), (0.001, 0.0), (0.003, 0.003)], strict=True):
        bids, asks = own, other
        if side == "sell":
            bids = [(20.04 - price, size) for price, size in other]
            asks = [(20.04 - price, size) for price, size in own]
        book.quote(name, bids=bids, asks=asks, fee=rates[0], rebate=rates[1], time=7 * SECOND)
    book.outflows = outflows
    return book


def routed(book: Book, order: Order, parameters: CostParameters = WIDE, **options: Any) -> dict[str, Any]:
    result = json.loads(Router(parameters, "cont_kukanov", **options).route(order, book).to_json())
    VALIDATOR.validate(result)
    return result  # type: ignore[no-any-return]


def orders_of(result: dict[str, Any], kind: str) -> dict[tuple[str, float], int]:
    return {(o["venue_id"], o["price"]): o["quantity"] for o in result["child_orders"] if o["type"] == kind}


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_the_model_is_that_of_place_on_what_the_book_shows(side: str) -> None:
    outflows = Recorded(samples_of())
    order = Order("IBM", side, 1200)  # type: ignore[arg-type]
    result = routed(book_of(side, outflows), order)
    samples = np.column_stack([outflows.by_venue["A"], outflows.by_venue["B"]])
    # The cheapest share to take is B's: 10.04 + 0.001 is 2.1 cents from the mid.
    arguments = (1200, 0.02, 0.001, [0.002, 0.0], [2000.0, 1500.0], samples)
    best = place(*arguments, **PENALTIES, lots=1)
    sent = orders_of(result, "limit")
    own = 10.0 if side == "buy" else 10.04
    limits = [sent.get((name, own), 0) for name in "AB"]
    assert sum(sent.values()) == sum(limits)  # none elsewhere
    assert (result["placement"]["market"], *limits) == (best.market, *best.limits)
    assert sum(limits) > 100  # the case has something to decide
    assert best.market > 100
    cost = placement_cost(best.market, limits, *arguments, **PENALTIES)
    summary = result["placement"]
    assert summary["expected_cost"] == pytest.approx(cost.mean, abs=1e-8)
    assert summary["expected_underfill"] == pytest.approx(cost.expected_underfill, abs=1e-6)
    assert summary["overfill_probability"] == cost.overfill_probability
    assert (summary["windows"], summary["horizon"], summary["outflows"]) == (400, 60.0, "events")
    assert outflows.asked == [(side, ["A", "B"])]


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_the_books_of_a_result_balance(side: str) -> None:
    result = routed(book_of(side, Recorded(samples_of())), Order("IBM", side, 1200))  # type: ignore[arg-type]
    market, limit = orders_of(result, "market"), orders_of(result, "limit")
    summary = result["placement"]
    by_venue = dict.fromkeys("ABC", 0)
    for (name, _), shares in (*market.items(), *limit.items()):
        by_venue[name] += shares
    assert result["allocation"] == [by_venue[name] for name in "ABC"]
    assert sum(market.values()) == summary["market"] == result["execution_summary"]["total_executed"]
    assert sum(limit.values()) == summary["limit"]
    mid = 10.02 if side == "buy" else -10.02
    assert result["objective_value"] == summary["expected_cost"]
    expected = summary["expected_cost"] + mid * summary["expected_executed"]
    assert result["total_cost"] == pytest.approx(expected, rel=1e-12)
    assert summary["expected_executed"] == pytest.approx(
        1200 - summary["expected_underfill"] + summary["expected_overfill"]
    )


def test_the_market_order_takes_the_cheapest_displayed_shares() -> None:
    """With queues that nothing leaves, all is taken: B's 200 at 10.041, A's at 10.043, then the second levels."""
    still = {name: np.zeros(100) for name in "ABC"}
    result = routed(book_of(outflows=Recorded(still)), Order("IBM", "buy", 800))
    market = orders_of(result, "market")
    assert orders_of(result, "limit") == {}
    assert market[("B", 10.04)] == 200
    assert market[("A", 10.04)] == 300
    assert sum(shares for (_, price), shares in market.items() if price == 10.05) == 300


def test_shares_that_are_not_displayed_are_told() -> None:
    still = {name: np.zeros(100) for name in "ABC"}
    result = routed(book_of(outflows=Recorded(still)), Order("IBM", "buy", 5000))
    assert result["execution_summary"]["total_executed"] == 1900
    assert "of the market order's 5000 shares 3100 are not displayed" in result["warnings"]


def test_a_limit_price_binds_both_kinds_of_orders() -> None:
    outflows = Recorded(samples_of())
    passive = routed(book_of(outflows=outflows), Order("IBM", "buy", 1200, limit_price=10.01))
    assert passive["placement"]["market"] == 0
    assert passive["placement"]["limit"] > 0
    assert "nothing may be taken at once: limit orders only" in passive["warnings"]
    assert not any(warning.startswith("A3") for warning in passive["warnings"])
    neither = routed(book_of(outflows=outflows), Order("IBM", "buy", 1200, limit_price=9.5))
    assert neither["placement"] is None
    assert neither["child_orders"] == []
    assert "no venue at the national best may be rested at" in neither["warnings"][-1]


def test_nothing_rests_at_an_excluded_or_stale_venue() -> None:
    outflows = Recorded(samples_of())
    result = routed(book_of(outflows=outflows), Order("IBM", "buy", 1200), exclude_venues=["A"])
    assert outflows.asked[-1][1] == ["B"]
    assert {name for name, _ in orders_of(result, "limit")} <= {"B"}
    book = book_of(outflows=outflows)
    book.quote("D", bids=[(9.0, 1)], time=100 * SECOND)  # all others are old now
    result = routed(book, Order("IBM", "buy", 1200), max_quote_age=SECOND)
    assert orders_of(result, "limit") == {}


def test_a_venue_with_nothing_to_take_may_be_rested_at() -> None:
    book = book_of(outflows=Recorded(samples_of()))
    book.quote("B", bids=[(10.0, 1500)], fee=0.001, time=7 * SECOND)
    result = routed(book, Order("IBM", "buy", 1200))
    venue = result["venues"][1]
    assert (venue["ask"], venue["status"]) == (None, "ok")
    assert venue["allocation"] == orders_of(result, "limit")[("B", 10.0)] > 0


@pytest.mark.parametrize(
    ("outflows", "reason"),
    [
        (None, "no outflows are kept of this book"),
        (Recorded(samples_of(count=59)), "only 59 windows of 60 s of outflows are known so far, 60 are needed"),
    ],
)
def test_without_a_plan_displayed_shares_are_taken(outflows: Any, reason: str) -> None:
    order = Order("IBM", "buy", 1200)
    result = routed(book_of(outflows=outflows), order)
    greedy = json.loads(Router(WIDE, "greedy_l2").route(order, book_of()).to_json())
    assert result["placement"] is None
    assert [result[key] for key in ("allocation", "child_orders", "total_cost")] == [
        greedy[key] for key in ("allocation", "child_orders", "total_cost")
    ]
    assert result["warnings"] == [f"cont_kukanov has no plan, so the whole order is for what is displayed: {reason}"]
    assert "placement" not in greedy


def test_a_market_without_a_spread_has_no_plan() -> None:
    book = book_of(outflows=Recorded(samples_of()))
    book.quote("C", asks=[(9.99, 100)], time=7 * SECOND)
    result = routed(book, Order("IBM", "buy", 1200))
    assert result["book"]["state"] == "crossed"
    assert result["placement"] is None
    assert "the market is crossed, so there is no spread to earn" in result["warnings"][-1]


def test_the_penalties_trap_is_told_with_the_least_penalty_that_trades() -> None:
    result = routed(book_of(outflows=Recorded(samples_of())), Order("IBM", "buy", 1200), CostParameters())
    (warning,) = [warning for warning in result["warnings"] if warning.startswith("A3")]
    assert "lambda_under is 0.005" in warning
    assert "0.021" in warning
    assert result["placement"]["market"] == 0


def test_the_same_question_has_the_same_answer_and_a_warm_start_costs_little() -> None:
    """Books that change venue by venue: warm answers against cold ones, both costed on the same samples."""
    outflows, draw = Recorded(samples_of()), np.random.default_rng(3)
    warm = book_of(outflows=outflows)
    losses = []
    for i in range(40):
        sizes = [int(size) for size in draw.integers(500, 3000, 2)]
        cold = book_of(outflows=outflows)
        for book in (warm, cold):
            for name, size, rebate in zip("AB", sizes, (0.002, 0.0), strict=True):
                book.quote(
                    name, bids=[(10.0, size)], asks=[(10.04, 300)], fee=0.003, rebate=rebate, time=(8 + i) * SECOND
                )
        order = Order("IBM", "buy", 1200)
        one, two = routed(warm, order), routed(cold, order)
        losses.append(one["objective_value"] - two["objective_value"])
        assert routed(warm, order) == one
    assert max(losses) <= 1e-4 * 12  # dollars: 1e-4 cents a share
    assert len(warm.placements) == 1


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each search has started from; the searches are the true ones."""
    found: list[Any] = []

    def placed(*arguments: Any, **options: Any) -> Any:
        found.append(options["start"])
        return place(*arguments, **options)

    monkeypatch.setattr(cont_kukanov, "place", placed)
    return found


def test_a_start_belongs_to_its_venues_whoever_comes_between(starts: list[Any]) -> None:
    """A venue that shows up later comes first by its name, and moves the others' places in the book."""
    outflows = Recorded(samples_of())
    book = Book("IBM")
    for name, size in (("B", 2000), ("C", 1500)):
        book.quote(name, bids=[(10.0, size)], asks=[(10.04, 300)], fee=0.001, rebate=0.002, time=7 * SECOND)
    book.outflows = outflows
    first = orders_of(routed(book, Order("IBM", "buy", 1200)), "limit")
    limits = [first.get((name, 10.0), 0) for name in "BC"]
    assert len(set(limits)) == 2
    book.quote("A", bids=[(10.0, 2500)], asks=[(10.04, 300)], fee=0.001, rebate=0.001, time=8 * SECOND)
    routed(book, Order("IBM", "buy", 1200))
    assert starts[0] is None
    assert starts[1][1] == [0.0, *limits]


def test_a_search_from_everywhere_once_a_horizon(starts: list[Any]) -> None:
    """60 s: warm until then, however often it was asked in between, and after a full search warm again."""
    book = book_of(outflows=Recorded(samples_of()))
    for second in (7, 20, 40, 67, 68, 90, 128, 129, 400):
        book.quote(
            "A", bids=[(10.0, 2000 + second)], asks=[(10.04, 300)], fee=0.003, rebate=0.002, time=second * SECOND
        )
        routed(book, Order("IBM", "buy", 1200))
    assert [start is None for start in starts] == [True, False, False, False, True, False, False, True, True]


# --- whatever may come: no error out of a running stream -------------------------------------------------------------


def test_what_the_model_does_not_take_is_a_reason() -> None:
    """A queue beyond its bounds: no plan, and the whole order by what is displayed."""
    book = book_of(outflows=Recorded(samples_of()))
    book.quote("A", bids=[(10.0, 10**13)], asks=[(10.04, 300)], time=7 * SECOND)
    wide = routed(book, Order("IBM", "buy", 1200))
    assert wide["placement"] is None
    assert wide["execution_summary"]["total_executed"] == 1200
    assert "queues[0] is 10000000000000.0" in wide["warnings"][-1]


def test_more_windows_than_are_kept_are_never_known() -> None:
    outflows = Outflows(SECOND, 5)
    for i in range(20):
        outflows.observe("A", i * SECOND, (10.0, 2000), None)
    result = routed(book_of(outflows=outflows), Order("IBM", "buy", 1200), min_windows=10)
    assert "min_windows is 10, and no more than 5 windows are kept: there is never a plan" in result["warnings"][-1]


PRICES = st.sampled_from([9.98, 9.99, 10.0, 10.01, 10.02]) | st.floats(1e-9, 1e9)
SIZES = st.sampled_from([100, 2000, 10**12]) | st.integers(1, 10**12)
SIDES = st.lists(st.one_of(st.none(), st.tuples(PRICES, SIZES)), min_size=1, max_size=3)
EVENTS = st.none() | st.builds(
    Event, st.sampled_from("ACMTFRN"), st.sampled_from("BAN"), st.none() | PRICES, st.just(0) | SIZES
)
WAITS = st.integers(0, 3) | st.sampled_from([-5, 60, 10**9])  # tenths of a second
UPDATES = st.lists(st.tuples(st.sampled_from([2, 9, 60_000]), WAITS, SIDES, SIDES, EVENTS), min_size=1, max_size=40)
PENALTIES_OF = st.sampled_from([0.0, 0.0005, 0.05]) | st.floats(0, 1e12)


@given(
    UPDATES,
    st.builds(CostParameters, PENALTIES_OF, PENALTIES_OF, PENALTIES_OF),
    st.tuples(st.sampled_from(["buy", "sell"]), st.sampled_from([1, 250, 10**12]) | st.integers(1, 10**12)),
    st.none() | PRICES,
    st.tuples(st.integers(1, 3), st.integers(1, 50), st.integers(1, 5), st.booleans()),
)
@settings(max_examples=60, deadline=None)
@example(
    [(2, 3, [(10.0 - i % 2, 10**12)], [(10.02, 100)], None) for i in range(40)],
    CostParameters(0.05, 0.05, 0.0005),
    ("buy", 1000),
    None,
    (3, 50, 1, True),
)
def test_no_update_and_no_legal_setting_ends_a_stream(
    updates: list[Any], parameters: CostParameters, order: tuple[Any, int], limit: float | None, options: Any
) -> None:
    steps, windows, needed, cancellations = options

    def new_outflows() -> Outflows:
        return Outflows(steps * SECOND // 5, windows, every=SECOND // 5, cancellations=cancellations)

    books = Books(DIRECTORY, depth=10, new_outflows=new_outflows)
    router = Router(parameters, "cont_kukanov", min_windows=needed)
    time = 10**6 * SECOND
    for i, (publisher, wait, bids, asks, event) in enumerate(updates):
        time += wait * SECOND // 10
        book = books.apply(BookUpdate("IBM", publisher, time, i, bids, asks, event))
        result = router.route(Order("IBM", order[0], order[1], limit), book)
        assert json.loads(result.to_json())["order_size"] == order[1]


def test_other_objectives_are_refused() -> None:
    with pytest.raises(InputError, match=r"objective is 'shortfall': cont_kukanov takes what is displayed"):
        Router(algorithm="cont_kukanov", objective="shortfall")


# --- outflows of a feed's books --------------------------------------------------------------------------------------

DIRECTORY = VenueDirectory.load()


def update_of(time: int, size: int, event: Event | None = None) -> BookUpdate:
    return BookUpdate("IBM", 2, time, None, [(10.0, size)], [(10.02, 100)], event)


def test_books_keep_outflows_of_what_they_see_and_not_of_what_is_restored() -> None:
    books = Books(DIRECTORY, new_outflows=lambda: Outflows(SECOND, 10))
    for i in range(6):
        books.apply(update_of(i * SECOND + 1, 1000 - 100 * i))
    book = books.by_symbol["IBM"]
    assert book.outflows is not None
    venue = book.quotes[0].order
    assert book.outflows.samples("buy", [venue])[:, 0].tolist() == [100.0] * 4
    books.restore(update_of(5 * SECOND + 5, 10), 5 * SECOND + 5, 1)
    books.apply(update_of(6 * SECOND + 1, 400))
    books.apply(update_of(7 * SECOND + 1, 300))
    assert book.outflows.samples("buy", [venue])[:, 0].tolist() == [100.0] * 6  # the 10 shares were not looked at
    assert Books(DIRECTORY).apply(update_of(1, 1)).outflows is None


def test_what_is_remembered_of_a_quote_has_no_event() -> None:
    state = Partition(Books(DIRECTORY))
    plain, told = update_of(1, 5), update_of(1, 5, Event("C", "B", 10.0, 5))
    values = []
    for update in (plain, told):
        state.apply(update, offset=7)
        values += [value for key, value in state.memories(1) if key != MARK]
    assert values[0] == values[1]


def test_levels_have_no_queues() -> None:
    with pytest.raises(InputError, match="cont_kukanov needs venues with queues"):
        Books(DIRECTORY, "levels", new_outflows=Outflows)


# --- the command -----------------------------------------------------------------------------------------------------


def test_replay_of_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.jsonl"
    options = ["--algorithm", "cont_kukanov", "--horizon", "2", "--windows", "100", "--min-windows", "5"]
    assert main(["replay", str(CHECKOUT / "sample.csv"), "--output", str(out), *options]) == 0
    results = [json.loads(line) for line in out.read_text().splitlines()]
    for result in results[::50]:
        VALIDATOR.validate(result)
    planned = [result for result in results if result["placement"] is not None]
    assert planned
    assert all(result["placement"]["windows"] >= 5 for result in planned)
    assert all(result["placement"]["outflows"] in ("events", "mixed") for result in planned[-20:])
    log = capsys.readouterr().err
    assert "outflows over 2 s, 100 windows at most, 5 needed; they start empty" in log
    assert log.count("A3 does not hold") == 1  # said once, carried by every result


def test_levels_as_venues_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    sample = str(CHECKOUT / "sample.csv")
    assert main(["replay", sample, "--algorithm", "cont_kukanov", "--venues-from", "levels"]) == 2
    assert "cont_kukanov needs venues with queues of their own" in capsys.readouterr().err


def test_the_ibm_recording(shared: Path, tmp_path: Path) -> None:
    """Real one-sided quotes: outflows are inferred, and market and limit orders come out together."""
    feed, out = tmp_path / "ibm.csv", tmp_path / "results.jsonl"
    with gzip.open(shared / "data" / "lean_ibm_20131007_mbp-1.csv.gz") as file:
        feed.write_bytes(b"".join(itertools.islice(file, 2501)))
    options = ["--lambda-under", "0.05", "--lambda-over", "0.1", "--theta-queue", "0.0005", "--output", str(out)]
    limits = ["--algorithm", "cont_kukanov", "--log-level", "error"]
    assert main(["replay", str(feed), *options, *limits]) == 0
    both = 0
    for line in out.read_text().splitlines()[::3]:
        result = json.loads(line)
        summary = result["placement"]
        if summary is not None:
            assert summary["outflows"] in ("inferred", None)
            assert sum(o["quantity"] for o in result["child_orders"] if o["type"] == "limit") == summary["limit"]
            both += summary["market"] > 0 and summary["limit"] > 0
    assert both > 20


# --- what venues take ------------------------------------------------------------------------------------------------


def planned(side: str, terms: Any = None, instrument: Any = None) -> tuple[Any, Any]:
    """The plan, and the market that it was made on."""
    book = book_of(side, Recorded(samples_of()))
    book.instrument = instrument
    order = Order("IBM", side, 1200)  # type: ignore[arg-type]
    market = quotes.survey(order, book, None, (), False)
    rows = np.array([[10.04, 300, 0.003, 0.002], [10.04, 200, 0.001, 0.0]])
    rows[:, 0] = rows[:, 0] if side == "buy" else -10.0
    return cont_kukanov.plan(order, book, market, rows, WIDE, 2, terms), market


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_limit_orders_are_cut_and_what_is_expected_is_of_what_is_sent(side: str) -> None:
    free, market = planned(side)
    terms = [Terms(lot=100.0, ticket=5.0), Terms(min_notional=1e6), Terms()]
    found, _ = planned(side, terms)
    first = dict(free.limits)[0]
    assert first % 100
    assert 1 in dict(free.limits)
    assert found.limits == [(0, first // 100 * 100)]
    assert found.prices == [market.bid if side == "buy" else market.ask]
    assert (found.market, found.summary.limit) == (free.market, first // 100 * 100)
    samples = np.column_stack([samples_of()["A"], samples_of()["B"]])
    fee = 0.001
    sent = [first // 100 * 100, 0]
    cost = placement_cost(free.market, sent, 1200, 0.02, fee, [0.002, 0.0], [2000.0, 1500.0], samples, **PENALTIES)
    assert found.objective_value == pytest.approx(cost.mean, rel=1e-9)
    assert found.summary.underfill_probability == cost.underfill_probability
    assert found.summary.expected_underfill == pytest.approx(cost.expected_underfill, abs=1e-6)


@pytest.mark.parametrize(("side", "tick", "price"), [("buy", 0.03, 9.99), ("sell", 0.03, 10.05), ("buy", 0.01, 10.0)])
def test_limit_orders_lie_on_the_tick_on_the_passive_side(side: str, tick: float, price: float) -> None:
    found, market = planned(side, [Terms(tick=tick), Terms(), Terms()])
    own = market.bid if side == "buy" else market.ask
    assert dict(zip((at for at, _ in found.limits), found.prices, strict=True)) == {0: price, 1: own}


def test_an_instruments_tick_is_a_rule() -> None:
    found, _ = planned("buy", None, Instrument(lot="1", tick="0.04"))
    assert found.prices == [10.0, 10.0]
    found, _ = planned("buy", None, Instrument(lot="1", tick="0.03"))
    assert found.prices == [9.99, 9.99]
