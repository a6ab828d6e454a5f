"""Strategies by name: schedule x routing, two names, so that what timing did is never passed off as what routing did.

One of the user's own is a class with one method; its routing sees a `Sight`::

    class Cheapest:
        def split(self, market, shares):
            sign = 1 if market.side == "buy" else -1
            best = min(market.offers, key=lambda offer: sign * offer.price + offer.fee, default=None)
            return [] if best is None else [market.take(best.venue, min(shares, best.size), best.price)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from sor.errors import InputError
from sor.execution.resting import ContKukanov
from sor.execution.schedules import Immediate, Pov, Twap, Vwap
from sor.kernels import pick
from sor.routing.terms import Terms
from sor.types import SIDES, CostParameters, Side, real_number, whole_number

if TYPE_CHECKING:
    from sor.execution import _routings_py as routings
    from sor.execution import _worker_py as workers
    from sor.market.outflow import Outflows
else:
    routings = pick("sor.execution._routings")
    workers = pick("sor.execution._worker")

SCHEDULES = ("immediate", "twap:SLICES", "vwap", "pov:RATE")
ROUTINGS = (
    "brute_force",
    "greedy_l2",
    "cont_kukanov",
    "price_fee",
    "nbbo",
    "best_venue",
    "pro_rata",
    "equal",
    "single:MIC",
)
TAKING: dict[str, Callable[[], Any]] = {
    "brute_force": lambda: routings.Sweep(False),
    "greedy_l2": lambda: routings.Sweep(True),
    "price_fee": routings.PriceFee,
    "nbbo": routings.Nbbo,
    "best_venue": routings.BestVenue,
    "pro_rata": routings.ProRata,
    "equal": routings.Equal,
}
MOST_SLICES = 100_000
MOST_DOLLARS = 4e9  # a price's units of 1e-9 dollars stay below `workers.NOTHING`
MOST_SECONDS = 1e9
MOST_PENALTY = 1e12  # dollars per share
MOST_HORIZON = 7200  # seconds of `cont_kukanov`
PENALTIES = ("lambda_over", "lambda_under", "theta_queue")
PLACED_BY = (*PENALTIES, "horizon")  # what may be said of `cont_kukanov` in its name


class Setting(NamedTuple):
    """What a strategy may need of the day that it works in."""

    parameters: CostParameters
    min_windows: int
    outflows: Outflows | None = None
    profile: tuple[list[int], list[int]] | None = None  # `Vwap`'s times and volumes


class Strategy(NamedTuple):
    """Two names, and how objects of them are made.

    Attributes
    ----------
    stated : mapping of str to float
        Of `PLACED_BY` what the routing's name says; the rest is the run's.
    """

    schedule: str
    routing: str
    make_schedule: Callable[[Setting], Any]
    make_routing: Callable[[Setting], Any]
    stated: Mapping[str, float]

    @property
    def rests(self) -> bool:
        """Whether it has limit orders, so that results depend on the queue model."""
        return self.routing not in TAKING and self.venue is None

    @property
    def venue(self) -> str | None:
        """The only one that it goes to."""
        return self.routing.partition(":")[2] if self.routing.startswith("single:") else None

    @property
    def needs_outflows(self) -> bool:
        return self.routing.partition(":")[0] == "cont_kukanov"

    def placement(self, otherwise: int) -> int:
        """Over which outflows are counted, and limit orders rest: nanoseconds."""
        return int(self.stated["horizon"]) * 10**9 if "horizon" in self.stated else otherwise

    @property
    def needs_profile(self) -> bool:
        return self.schedule == "vwap"

    @property
    def needs_trades(self) -> bool:
        return self.schedule.startswith("pov")


def strategy(schedule: Any, routing: Any) -> Strategy:
    """A schedule and a routing, each by its name or an object of the user's own.

    Raises
    ------
    InputError
        It is neither.
    """
    schedule_name, make_schedule = _schedule(schedule)
    routing_name, make_routing, stated = _routing(routing)
    return Strategy(schedule_name, routing_name, make_schedule, make_routing, stated)


def _schedule(value: Any) -> tuple[str, Callable[[Setting], Any]]:
    if hasattr(value, "released") and not isinstance(value, type):
        return _own_name("schedule", value, SCHEDULES), lambda _: OwnSchedule(value)
    name, _, argument = str(value).partition(":")
    if name == "immediate" and not argument:
        return name, lambda _: Immediate()
    if name == "vwap" and not argument:
        return name, lambda setting: Vwap(*setting.profile)
    if name == "twap" and argument.isascii() and argument.isdecimal() and len(argument) < 10:
        slices = whole_number("slices of twap", int(argument), 1, MOST_SLICES)
        return f"twap:{slices}", lambda _: Twap(slices)
    if name == "pov":
        rate = _rate(argument)
        return f"pov:{rate:.15g}", lambda _: Pov(rate)
    raise InputError(
        f"schedule is {str(value)[:80]!r}: it must be one of {', '.join(SCHEDULES)}, such as twap:10, pov:0.1, "
        "or an object that has `released`"
    )


def _rate(text: str) -> float:
    rate = _number(text)
    if not 0.0 < rate <= 1.0:
        raise InputError(f"rate of pov is {text[:40]!r}: it must be a number above 0, at most 1, such as pov:0.1")
    return rate


def _routing(value: Any) -> tuple[str, Callable[[Setting], Any], dict[str, float]]:
    if hasattr(value, "split") and not isinstance(value, (str, type)):
        return _own_name("routing", value, ROUTINGS), lambda _: OwnRouting(value), {}
    name, _, argument = str(value).partition(":")
    if name in TAKING and not argument:
        return name, lambda _: TAKING[name](), {}
    if name == "single" and argument:
        return f"single:{argument}", lambda _: routings.Single(argument), {}
    if name == "cont_kukanov":
        stated = _stated(argument)
        return _stating(name, stated), lambda setting: _cont_kukanov(setting, stated), stated
    raise InputError(
        f"routing is {str(value)[:80]!r}: it must be one of {', '.join(ROUTINGS)}, such as single:XNAS, "
        "or an object that has `split`"
    )


def _cont_kukanov(setting: Any, stated: Mapping[str, float]) -> ContKukanov:
    penalties = {name: stated[name] for name in PENALTIES if name in stated}
    return ContKukanov(setting.outflows, replace(setting.parameters, **penalties), setting.min_windows)


def _stated(argument: str) -> dict[str, float]:
    """Of ``horizon=30:lambda_under=0.05``, in the order of `PLACED_BY`."""
    found: dict[str, float] = {}
    for one in argument.split(":") if argument else []:
        name, _, value = one.partition("=")
        number = _number(value)
        most = MOST_HORIZON if name == "horizon" else MOST_PENALTY
        whole = name != "horizon" or (number == number // 1 and number >= 1)
        if name not in PLACED_BY or name in found or not 0.0 <= number <= most or not whole:
            raise InputError(
                f"routing is {f'cont_kukanov:{argument}'[:80]!r}: {one[:40]!r} is none of what it may be given, "
                f"{', '.join(PENALTIES)}, dollars per share from 0 on, and horizon, whole seconds, each once, such as "
                "cont_kukanov:horizon=30:lambda_under=0.05"
            )
        found[name] = number
    return {name: found[name] for name in PLACED_BY if name in found}


def _stating(name: str, stated: Mapping[str, float]) -> str:
    return ":".join([name, *(f"{key}={value:.15g}" for key, value in stated.items())])


def _number(text: str) -> float:
    """Not a number where it is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _name_of(own: Any) -> str:
    return str(getattr(own, "name", type(own).__name__))


def _own_name(what: str, own: Any, ours: tuple[str, ...]) -> str:
    """Never one of ours: results are told apart by names, and what a strategy needs is known by them."""
    name = _name_of(own)
    if name.partition(":")[0] in {one.partition(":")[0] for one in ours}:
        raise InputError(f"name of a {what} is {name[:80]!r}: it must be another than that of ours")
    return name


# --- the user's own --------------------------------------------------------------------------------------------------


class Offer(NamedTuple):
    """Shares that may be taken: dollars per share, fee included in none."""

    venue: str
    price: float
    size: int
    fee: float


class Sight:
    """What a routing of the user's own sees: what may be taken now, and what its own side shows.

    Attributes
    ----------
    side : {"buy", "sell"}
    time : int
        Nanoseconds since the epoch, UTC.
    bid, ask, mid : float or None
        Of all venues, dollars.
    offers : list of Offer
        Each venue's levels on the side that is taken, best first, less what is used or under way, within the limit.
    queues : dict of venue to (price, size)
        The best level of each venue on our own side.
    fresh : int
        Of the shares to split, those that were not asked for before.
    """

    def __init__(self, worker: workers.Worker) -> None:
        self._worker = worker
        view = worker.view
        self.side: Side = SIDES[worker.side]
        self.time, self.fresh = worker.now, worker.fresh
        self.ask = view.best[0] / 1e9 if view.best_slot[0] >= 0 else None
        self.bid = -view.best[1] / 1e9 if view.best_slot[1] >= 0 else None
        self.mid = view.mid2 / 2e9 if view.has_mid else None

    @property
    def offers(self) -> list[Offer]:
        worker, found = self._worker, []
        offers, view = worker.offers, worker.view
        for row in range(offers.count):
            slot, price = offers.slot[row], abs(offers.price[row]) / 1e9
            found.append(Offer(view.venues[slot], price, offers.size[row], view.rates[slot].fee_at(price)))
        return found

    @property
    def queues(self) -> dict[str, tuple[float, int]]:
        view = self._worker.view
        first = (1 - self._worker.side) * view.width
        places = ((view.venues[slot], first + slot * view.depth) for slot in range(view.slots))
        return {venue: (abs(view.price[at]) / 1e9, view.size[at]) for venue, at in places if view.size[at]}

    def terms(self, venue: str) -> Terms:
        """What a venue takes; it rejects other orders."""
        terms: Terms = self._worker.view.terms[self._slot(venue)]
        return terms

    def take(self, venue: str, shares: int, price: float) -> Any:
        """An order for so many shares at this price or a better one; what is not there then comes back."""
        return workers.Child(self._slot(venue), self._signed(price), whole_number("shares", shares, 1))

    def rest(self, venue: str, shares: int, price: float, seconds: float | None = None) -> Any:
        """An order that rests at a price, at most for so long."""
        order = workers.Child(self._slot(venue), self._signed(price), whole_number("shares", shares, 1), True)
        if seconds is not None:
            order.until = self.time + int(real_number("seconds", seconds, 1e-9, MOST_SECONDS) * 1e9)
        return order

    def _slot(self, venue: str) -> int:
        venues = self._worker.view.venues
        if venue not in venues:
            raise InputError(f"venue is {venue!r}: it must be one that quotes: {', '.join(venues)}")
        return int(venues.index(venue))

    def _signed(self, price: float) -> int:
        units = round(real_number("price", price, 1e-9, MOST_DOLLARS) * 1e9)
        return -units if self._worker.side else units


class OwnRouting(workers.Routing):
    def __init__(self, own: Any) -> None:
        self.own = own

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        given = self.own.split(Sight(worker), shares)
        if not isinstance(given, Iterable):
            raise self._wrong(given)
        found = list(given)
        for i, order in enumerate(found):
            if not isinstance(order, workers.Child) or order.number >= 0 or any(order is one for one in found[:i]):
                raise self._wrong(order)
        return found

    def _wrong(self, given: Any) -> InputError:
        return InputError(
            f"split of {_name_of(self.own)} gave {str(given)[:80]}: it must give a list of what take() and rest() do, "
            "each once"
        )


class OwnSchedule(workers.Schedule):
    """One that says shares by the time since arrival; it is asked once a second, and when shares are printed."""

    follows_volume = True

    def __init__(self, own: Any) -> None:
        self.own = own

    def released(self, worker: workers.Worker, now: int, volume: int) -> int:
        found = self.own.released(worker.shares, (now - worker.start) / 1e9, (worker.end - worker.start) / 1e9, volume)
        return min(whole_number(f"released of {_name_of(self.own)}", found, 0), worker.shares)

    def next(self, worker: workers.Worker, now: int) -> int:
        return now + 10**9
