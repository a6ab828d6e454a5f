"""Strategies by name, and those of the user's own: what they see, what they may give, and what is refused."""

from __future__ import annotations

import re
import textwrap
from types import SimpleNamespace

import pytest
from machines import TICK, Machine, show, view_of

from sor.errors import InputError
from sor.routing.terms import Terms

NEVER = 2**62
START = 1722519360 * 10**9
SECOND = 10**9
SCHEDULES = "it must be one of immediate, twap:SLICES, vwap, pov:RATE, such as twap:10, pov:0.1, or an object"
ROUTINGS = (
    "it must be one of brute_force, greedy_l2, cont_kukanov, price_fee, nbbo, best_venue, pro_rata, equal, "
    "single:MIC, such"
)


def working(machine: Machine, routing, schedule="immediate", side=0, shares=100, limit=NEVER, depth=1, terms=None):
    """A worker of a strategy, at its arrival: three venues, of which the second is dear and the third free."""
    made = machine.strategies.strategy(schedule, routing)
    view = view_of(machine, depth, [0.003, 0.03, 0.0])
    if terms is not None:
        view.take_terms(terms)
    show(view, 0, [(98, 40), (97, 1)][:depth], [(101, 30), (103, 5)][:depth])
    show(view, 1, [(99, 10)], [(100, 20)])
    show(view, 2, [(98, 5)], [(102, 50)])
    setting = machine.strategies.Setting(None, 1)
    worker = machine.workers.Worker(
        side, shares, limit, START, START + 600 * SECOND, made.make_schedule(setting), made.make_routing(setting),
        None, 0, 0,
    )  # fmt: skip
    worker.begin(view, None, START)
    return worker


def sent(worker):
    return [(one.slot, one.shares, abs(one.price) // TICK, one.rests) for one in worker.out]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("", f"schedule is '': {SCHEDULES}"),
        ("twap", f"schedule is 'twap': {SCHEDULES}"),
        ("twap:0", "slices of twap is 0: it must be a whole number from 1 to 100000"),
        ("twap:100001", "slices of twap is 100001: it must be a whole number from 1 to 100000"),
        ("twap:-1", f"schedule is 'twap:-1': {SCHEDULES}"),
        ("twap:1.5", f"schedule is 'twap:1.5': {SCHEDULES}"),
        ("twap:٣", f"schedule is 'twap:٣': {SCHEDULES}"),
        ("twap:10000000000000000000", f"schedule is 'twap:10000000000000000000': {SCHEDULES}"),
        ("vwap:3", f"schedule is 'vwap:3': {SCHEDULES}"),
        ("immediate:1", f"schedule is 'immediate:1': {SCHEDULES}"),
        ("pov", "rate of pov is '': it must be a number above 0, at most 1, such as pov:0.1"),
        ("pov:0", "rate of pov is '0': it must be a number above 0, at most 1"),
        ("pov:nan", "rate of pov is 'nan': it must be a number above 0, at most 1"),
        ("pov:1.01", "rate of pov is '1.01': it must be a number above 0, at most 1"),
        ("nbbo", f"schedule is 'nbbo': {SCHEDULES}"),
        (None, f"schedule is 'None': {SCHEDULES}"),
    ],
)
def test_a_schedule_that_is_none_is_refused(machine: Machine, schedule, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        machine.strategies.strategy(schedule, "nbbo")


@pytest.mark.parametrize("routing", ["", "NBBO", "nbbo:1", "single", "single:", "twap:3", None, 3])
def test_a_routing_that_is_none_is_refused(machine: Machine, routing) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(f'routing is {str(routing)!r}: {ROUTINGS}')}"):
        machine.strategies.strategy("immediate", routing)


@pytest.mark.parametrize(
    ("schedule", "routing", "names"),
    [
        ("twap:007", "single:XNAS", ("twap:7", "single:XNAS")),
        ("pov:1", "nbbo", ("pov:1", "nbbo")),
        ("pov:1e-1", "equal", ("pov:0.1", "equal")),
        ("pov:0.12345678", "equal", ("pov:0.12345678", "equal")),  # two rates never have one name
    ],
)
def test_names_are_those_that_results_have(machine: Machine, schedule, routing, names) -> None:
    made = machine.strategies.strategy(schedule, routing)
    assert (made.schedule, made.routing) == names


def test_a_strategy_says_what_it_needs(machine: Machine) -> None:
    strategy = machine.strategies.strategy
    for name in (*machine.strategies.TAKING, "single:XNAS"):
        assert not strategy("immediate", name).rests
    assert strategy("immediate", "cont_kukanov").rests
    assert strategy("immediate", "cont_kukanov").needs_outflows
    assert not strategy("immediate", "nbbo").needs_outflows
    assert [strategy(one, "nbbo").needs_profile for one in ("immediate", "vwap", "pov:0.1")] == [False, True, False]
    assert [strategy(one, "nbbo").needs_trades for one in ("immediate", "vwap", "pov:0.1")] == [False, False, True]


@pytest.mark.parametrize("name", ["single:V2", "single:XXXX"])
def test_single_waits_where_its_venue_shows_nothing(machine: Machine, name: str) -> None:
    assert sent(working(machine, name)) == ([(2, 50, 102, False)] if name == "single:V2" else [])


# --- the user's own --------------------------------------------------------------------------------------------------


def documented(machine: Machine):
    """The class that the module's docstring shows."""
    _, _, text = machine.strategies.__doc__.partition("::\n")
    found: dict = {}
    exec(textwrap.dedent(text), found)  # noqa: S102
    return found["Cheapest"]


@pytest.mark.parametrize(("side", "order"), [(0, (0, 30, 101, False)), (1, (2, 5, 98, False))])
def test_the_documented_example_takes_from_the_cheapest_venue(machine: Machine, side, order) -> None:
    """To a buyer 1.00 + 0.03 is dearer than 1.01 + 0.003, and a seller gets least from the dear venue."""
    own = documented(machine)
    assert sent(working(machine, own(), side=side)) == [order]
    assert machine.strategies.strategy("immediate", own()).routing == "Cheapest"
    assert machine.strategies.strategy("immediate", own()).rests


class Seeing:
    """Keeps what it is shown."""

    def split(self, market, shares):
        self.market, self.shares = market, shares
        self.offers, self.queues = market.offers, market.queues
        return []


def test_what_a_routing_of_ones_own_sees(machine: Machine) -> None:
    own = Seeing()
    worker = working(machine, own, depth=2, limit=102 * TICK)
    assert (own.shares, own.market.side, own.market.time, own.market.fresh) == (100, "buy", START, 100)
    assert (own.market.bid, own.market.ask, own.market.mid) == (0.99, 1.0, 0.995)
    assert own.offers == [("V0", 1.01, 30, 0.003), ("V1", 1.0, 20, 0.03), ("V2", 1.02, 50, 0.0)]
    assert own.queues == {"V0": (0.98, 40), "V1": (0.99, 10), "V2": (0.98, 5)}
    worker.on_book(START + 1)
    assert (own.shares, own.market.fresh) == (100, 0)
    show(worker.view, 1, [], [])
    worker.on_book(START + 2)
    assert own.queues == {"V0": (0.98, 40), "V2": (0.98, 5)}


def test_a_routing_of_ones_own_sees_what_venues_take_and_is_not_cut(machine: Machine) -> None:
    seen = []

    def orders(market, shares):
        seen.extend([market.terms("V0"), market.terms("V1")])
        return [market.take("V0", 30, market.offers[0].price), market.rest("V1", 5, 0.985)]

    terms = [Terms(), Terms(lot=100.0, min_notional=50.0, ticket=0.5, tick=0.01), Terms(lot=100.0)]
    assert sent(working(machine, own_split(orders), terms=terms)) == [(0, 30, 101, False), (1, 5, 98, True)]
    assert seen == terms[:2]
    assert (seen[1].lot, seen[1].min_notional, seen[1].max_quantity, seen[1].bind) == (100, 50, float("inf"), True)
    assert (seen[1].cut(230, 1.0), seen[1].cut(230, 0.2)) == (200, 0)
    with pytest.raises(InputError, match=r"^venue is 'V9': it must be one that quotes: V0, V1, V2"):
        working(machine, own_split(lambda market, shares: market.terms("V9")))


def test_a_seller_sees_prices_as_they_are(machine: Machine) -> None:
    own = Seeing()
    working(machine, own, side=1, depth=2, limit=-98 * TICK)
    assert (own.market.side, own.market.bid, own.market.ask) == ("sell", 0.99, 1.0)
    assert own.offers == [("V0", 0.98, 40, 0.003), ("V1", 0.99, 10, 0.03), ("V2", 0.98, 5, 0.0)]
    assert own.queues == {"V0": (1.01, 30), "V1": (1.0, 20), "V2": (1.02, 50)}


def test_an_empty_market_has_no_prices(machine: Machine) -> None:
    own = Seeing()
    worker = working(machine, own)
    for slot in range(3):
        show(worker.view, slot, [], [])
    worker.on_book(START + 1)
    assert (own.market.bid, own.market.ask, own.market.mid, own.offers, own.queues) == (None, None, None, [], {})


def own_split(orders, name="mine"):
    return SimpleNamespace(split=lambda market, shares: orders(market, shares), name=name)


@pytest.mark.parametrize("side", [0, 1])
def test_orders_of_ones_own_take_and_rest(machine: Machine, side) -> None:
    def orders(market, shares):
        yield market.take("V2", 5, market.ask + 0.02 if market.side == "buy" else market.bid - 0.01)
        yield market.rest("V1", shares - 5, market.bid if market.side == "buy" else market.ask, seconds=1.5)

    worker = working(machine, own_split(orders), side=side)
    take, rest = ((2, 5, 98, False), (1, 95, 100, True)) if side else ((2, 5, 102, False), (1, 95, 99, True))
    assert sent(worker) == [take, rest]
    assert all((one.price < 0) == bool(side) for one in worker.out)
    assert worker.wake == worker.out[1].until == START + 1_500_000_000


WRONG = "it must give a list of what take() and rest() do, each once"


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        (lambda market, shares: None, f"split of mine gave None: {WRONG}"),
        (lambda market, shares: 7, f"split of mine gave 7: {WRONG}"),
        (lambda market, shares: [("V0", 5, 1.01)], f"split of mine gave ('V0', 5, 1.01): {WRONG}"),
        (lambda market, shares: {"V0": 5}, f"split of mine gave V0: {WRONG}"),
        (lambda market, shares: [market.take("V0", 5, 1.01)] * 2, "split of mine gave <"),
        (lambda market, shares: [market.take("V9", 5, 1.01)], "venue is 'V9': it must be one that quotes: V0, V1, V2"),
        (lambda market, shares: [market.take("V0", 0, 1.01)], "shares is 0: it must be a whole number from 1"),
        (lambda market, shares: [market.take("V0", 1.5, 1.01)], "shares is 1.5: it must be a whole number from 1"),
        (lambda market, shares: [market.take("V0", -5, 1.01)], "shares is -5: it must be a whole number from 1"),
        (lambda market, shares: [market.take("V0", 5, float("nan"))], "price is nan: it must be a number from 1e-09"),
        (lambda market, shares: [market.take("V0", 5, float("inf"))], "price is inf: it must be a number from 1e-09"),
        (lambda market, shares: [market.take("V0", 5, -1.01)], "price is -1.01: it must be a number from 1e-09"),
        (lambda market, shares: [market.take("V0", 5, None)], "price is None: it must be a number from 1e-09"),
        (lambda market, shares: [market.rest("V0", 5, 1e10)], "price is 10000000000.0: it must be a number from"),
        (lambda market, shares: [market.rest("V0", 5, 0.9, 0)], "seconds is 0: it must be a number from 1e-09"),
        (lambda market, shares: [market.rest("V0", 5, 0.9, 1e30)], "seconds is 1e+30: it must be a number from 1e-09"),
        (lambda market, shares: [market.rest("V0", 5, 0.9, "1")], "seconds is '1': it must be a number from 1e-09"),
    ],
)
def test_nonsense_of_ones_own_routing_is_refused(machine: Machine, orders, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        working(machine, own_split(orders))


def test_an_order_is_given_once_in_its_life(machine: Machine) -> None:
    kept = []

    def orders(market, shares):
        kept.append(kept[0] if kept else market.take("V0", 5, 1.01))
        return kept[-1:]

    worker = working(machine, own_split(orders))
    with pytest.raises(InputError, match=r"^split of mine gave <.*: it must give a list .* each once"):
        worker.on_book(START + 1)


def test_what_cannot_be_meant_goes_nowhere(machine: Machine) -> None:
    """Beyond the limit, or for what nobody shows; more than is shown is sent, and what is not there comes back."""

    def orders(market, shares):
        return [
            market.take("V0", 10, 0.5),
            market.take("V2", 10, 1.02),
            market.rest("V1", 10, 1.02),
            market.take("V0", 10_000, 1.01),
        ]

    worker = working(machine, own_split(orders), limit=101 * TICK)
    assert sent(worker) == [(0, 10_000, 101, False)]
    worker.on_ended(0, 30, START + 1)
    worker.on_book(START + 1)
    assert worker.executed == 30
    assert worker.working() in (0, 10_000)


def own_released(released, name="mine"):
    return SimpleNamespace(released=released, name=name)


def test_a_schedule_of_ones_own_is_asked_each_second_and_by_volume(machine: Machine) -> None:
    seen = []

    def released(shares, seconds, length, volume):
        seen.append((shares, seconds, length, volume))
        return 10 * int(seconds) + volume

    worker = working(machine, "nbbo", own_released(released))
    assert (worker.released, worker.wake, seen) == (0, START + SECOND, [(100, 0.0, 600.0, 0)])
    worker.on_time(START + SECOND)
    assert (worker.released, worker.wake) == (10, START + 2 * SECOND)
    worker.view.volume += 7
    assert worker.schedule.follows_volume
    worker.on_book(START + SECOND + 1)
    assert worker.released == 17


@pytest.mark.parametrize(("given", "released"), [([5, 3, 8], [5, 5, 8]), ([5.0, 10**15, 2], [5, 100, 100])])
def test_a_schedule_takes_nothing_back_and_releases_no_more_than_the_order(machine: Machine, given, released) -> None:
    told = iter(given)
    worker = working(machine, "nbbo", own_released(lambda *_: next(told)))
    found = [worker.released]
    for second in (1, 2):
        worker.on_time(START + second * SECOND)
        found.append(worker.released)
    assert found == released


@pytest.mark.parametrize("given", [-1, 1.5, None, "5", float("nan"), True])
def test_nonsense_of_ones_own_schedule_is_refused(machine: Machine, given) -> None:
    with pytest.raises(InputError, match=r"^released of mine is .*: it must be a whole number from 0"):
        working(machine, "nbbo", own_released(lambda *_: given))


@pytest.mark.parametrize(
    ("schedule", "routing", "message"),
    [
        (own_released(lambda *_: 0, "pov"), "nbbo", "name of a schedule is 'pov': it must be another than"),
        (own_released(lambda *_: 0, "twap:9"), "nbbo", "name of a schedule is 'twap:9': it must be another than"),
        ("immediate", own_split(lambda *_: [], "nbbo"), "name of a routing is 'nbbo': it must be another than"),
        ("immediate", Seeing, "routing is \"<class 'test_own_strategies.Seeing'>\": it must be one of brute_force"),
    ],
)
def test_what_is_ones_own_has_a_name_of_its_own_and_is_an_object(machine: Machine, schedule, routing, message) -> None:
    """One called nbbo would take the baseline's place, and one that rests would be worked as one that takes."""
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        machine.strategies.strategy(schedule, routing)
