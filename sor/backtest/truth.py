"""What no feed tells of a synthetic market: the fate of every order, and what routing can save."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sor.backtest.limit_book import TICK, RestingOrder
from sor.backtest.scenario import Scenario
from sor.market.columns import PRICE_UNITS
from sor.market.venues import VenueDirectory

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = (100, 500, 1000, 2500)  # of the orders that routing is tried on, shares
LATENCIES = (0.001, 0.01, 0.1, 1.0)  # seconds

Level = tuple[int, int, int]  # price, number of the venue, shares


class Sample(NamedTuple):
    """What all venues show at a moment: all levels, prices and the value in ticks."""

    time: int
    value: int
    bids: list[Level]
    asks: list[Level]


class Truth:
    """The truth of a day.

    Parameters
    ----------
    scenario : Scenario
    directory : VenueDirectory
    orders : list of RestingOrder
    samples : list of Sample
    announcements : int64, (n, 3)

    Attributes
    ----------
    orders : dict of str to array
        One entry an order that rested, by ``id``, in the order of arrival; docs/simulate.md lists the columns.
    announcements : int64, (n, 3)
        Of each announced jump when it was announced, when it came, and its ticks.
    samples : list of Sample
    """

    def __init__(
        self,
        scenario: Scenario,
        directory: VenueDirectory,
        orders: list[RestingOrder],
        samples: list[Sample],
        announcements: NDArray[np.int64],
    ) -> None:
        self.scenario = scenario
        self.orders = _columns(orders)
        self.samples = samples
        self.announcements = announcements
        entries = [directory.by_mic(mic) for mic in scenario.venues]
        rates = [entry.figure_at(scenario.start).taker_fee for entry in entries if entry is not None]
        self.fees = [round(rate * PRICE_UNITS) for rate in rates]

    def latency_cost(self, latency: float) -> float:
        """As `Scenario.latency_cost`."""
        return self.scenario.latency_cost(latency)

    def savings(self, sizes: Sequence[int] = SIZES) -> list[dict[str, Any]]:
        """What an immediate order costs at the sampled moments, by the true books and with taker fees.

        A cost is against the mid, in bps of it, positive where it costs: buys and sells of each size at each moment,
        with all that is displayed.

        - ``best``: the least there is: levels by price and fee, which is exact, as each share costs its level's;
        - ``nbbo``: the venues at the best price, in proportion to what they show, then those at the next price;
        - by MIC: all to this venue, down its own book.

        Returns
        -------
        list of dict
            For each size: ``orders``, those that all venues together fill; ``best_bps`` and ``nbbo_bps``, their mean
            costs; ``saved_bps``, by how much the best is cheaper than nbbo; and ``venues``, for each the ``orders``
            that it fills alone, what they cost there (``bps``), and what the best saves on these (``saved_bps``).
        """
        return [self._saving(size) for size in sizes]

    def _saving(self, size: int) -> dict[str, Any]:
        orders = [(sample, sign) for sample in self.samples for sign in (1, -1)]
        costs = [self.costs(sample, sign, size) for sample, sign in orders]
        whole = [one for one in costs if one["best"] is not None]
        venues = {}
        for mic in self.scenario.venues:
            alone = [one for one in whole if one[mic] is not None]
            saved = [one[mic] - one["best"] for one in alone]
            venues[mic] = {"orders": len(alone), "bps": _mean([one[mic] for one in alone]), "saved_bps": _mean(saved)}
        return {
            "size": size,
            "orders": len(whole),
            "best_bps": _mean([one["best"] for one in whole]),
            "nbbo_bps": _mean([one["nbbo"] for one in whole]),
            "saved_bps": _mean([one["nbbo"] - one["best"] for one in whole]),
            "venues": venues,
        }

    def costs(self, sample: Sample, sign: int, size: int) -> dict[str, Any]:
        """Costs in bps of the mid of an order of so many shares, 1 to buy and -1 to sell; None: too few displayed."""
        levels = [(sign * price, venue, shares) for price, venue, shares in (sample.asks if sign > 0 else sample.bids)]
        mid = sign * sample.value * TICK
        dear = sorted((price * TICK + self.fees[venue], price, venue, shares) for price, venue, shares in levels)
        found = {"best": _bps(_walked([(cost, shares) for cost, _, _, shares in dear], size), size, mid)}
        found["nbbo"] = _bps(self._by_price(levels, size), size, mid)
        for number, mic in enumerate(self.scenario.venues):
            own = [(cost, shares) for cost, _, venue, shares in dear if venue == number]
            found[mic] = _bps(_walked(own, size), size, mid)
        return found

    def _by_price(self, levels: list[Level], size: int) -> float | None:
        """Cash by price alone, shared at a price in proportion to what is shown."""
        at: dict[int, list[tuple[int, int]]] = {}
        for price, venue, shares in levels:
            at.setdefault(price, []).append((shares, self.fees[venue]))
        cash, left = 0.0, size
        for price in sorted(at):
            shown = sum(shares for shares, _ in at[price])
            fees = sum(shares * fee for shares, fee in at[price])
            taken = min(left, shown)
            cash += taken * price * TICK + taken * fees / shown
            left -= taken
        return cash if left == 0 else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the scenario, what latency costs, what routing saves, and the announcements."""
        names = "time", "jump_time", "ticks"
        return {
            "schema_version": 1,
            "scenario": self.scenario.as_dict(),
            "orders": len(self.orders["id"]),
            "latency": {
                "dollars_per_share": "jump_ticks * 0.01 * min(1, latency / jump_delay)",
                "of": "an order of 100 shares sent at an announcement, in its direction, before fees, "
                "beside one that arrives at once",
                "examples": [{"latency": one, "dollars_per_share": self.latency_cost(one)} for one in LATENCIES],
            },
            "routing": self.savings(),
            "announcements": [dict(zip(names, one, strict=True)) for one in self.announcements.tolist()],
        }


def _walked(levels: list[tuple[int, int]], size: int) -> float | None:
    """Cash for so many shares of levels in turn."""
    cash, left = 0, size
    for cost, shares in levels:
        taken = min(left, shares)
        cash += taken * cost
        left -= taken
    return cash if left == 0 else None


def _bps(cash: float | None, size: int, mid: int) -> float | None:
    return None if cash is None else (cash - size * mid) / (size * abs(mid)) * 1e4


def _mean(values: list[float]) -> float | None:
    total = 0.0
    for value in values:
        total += value
    return total / len(values) if values else None


def _columns(orders: list[RestingOrder]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {
        "id": np.array([order.id for order in orders], np.int64),
        "venue": np.array([order.side.book.mic for order in orders], "U4"),
        "side": np.array(["buy" if order.side.sign < 0 else "sell" for order in orders], "U4"),
        "price": np.array([order.key * order.side.sign for order in orders], np.int64) * TICK,
        "size": np.array([order.size for order in orders], np.int64),
        "hidden": np.array([order.hidden for order in orders], bool),
    }
    for name in ("time", "front", "grown", "executed", "first_fill", "completed", "cancelled"):
        found[name] = np.array([getattr(order, name) for order in orders], np.int64)
    return found
