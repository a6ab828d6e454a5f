"""Numbers of a study as its report shows them: each array is both drawn and put into a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sor.backtest.measures import MARKED
from sor.backtest.study import Study
from sor.backtest.tables import title_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Way(NamedTuple):
    """A strategy under a queue model: its line of `Study.rows`, and which rows of ``Study.parents`` are its.

    ``number`` is the strategy's in the study, ``queue`` that of the model, also where nothing rests.
    """

    title: str
    row: dict[str, Any]
    number: int
    queue: int
    chosen: NDArray[np.intp]

    @property
    def names(self) -> tuple[str, str]:
        return self.row["schedule"], self.row["routing"]


def ways_of(study: Study) -> list[Way]:
    """In the order of `Study.rows`."""
    return [
        Way(title_of(row), row, study.strategies.index(names), queue, chosen)
        for row, (names, queue, chosen) in zip(study.rows(), study.groups(), strict=True)
    ]


def spread_of(differences: list[NDArray[Any]]) -> NDArray[np.float64]:
    """`QUANTILES` and the mean of each, shape (n, 6); NaN where there is none."""
    found = np.full((len(differences), len(QUANTILES) + 1), np.nan)
    for row, one in zip(found, differences, strict=True):
        if len(one):
            row[:] = [*np.quantile(one, QUANTILES), one.mean()]
    return found


class FillsOf(NamedTuple):
    """Fills of a way, or those of them where it was the maker or the taker."""

    way: Way
    kind: str  # "all", "taker" or "maker"
    chosen: NDArray[np.intp]

    @property
    def title(self) -> str:
        return self.way.title if self.kind == "all" else f"{self.way.title}: {self.kind}"


def fills_of(study: Study, ways: list[Way]) -> list[FillsOf]:
    """All fills of each way, and where it was a maker anywhere both kinds of them."""
    fills = study.fills
    maker = fills["maker"].astype(bool)
    found = []
    for way in ways:
        schedule, routing = way.names
        mine = (fills["schedule"] == schedule) & (fills["routing"] == routing) & (fills["queue"] == way.queue)
        found.append(FillsOf(way, "all", np.flatnonzero(mine)))
        if (mine & maker).any():
            found += [
                FillsOf(way, kind, np.flatnonzero(mine & which))
                for kind, which in (("taker", ~maker), ("maker", maker))
            ]
    return found


@dataclass(frozen=True)
class Venues:
    """Where shares went: ``taker`` and ``maker`` are parts of each way's shares, shape (ways, venues)."""

    names: list[str]
    taker: NDArray[np.float64]
    maker: NDArray[np.float64]
    shares: NDArray[np.float64]
    fees: NDArray[np.float64]  # dollars a share


def venues_of(study: Study, ways: list[Way]) -> Venues:
    fills = study.fills
    names, venue = np.unique(fills["venue"], return_inverse=True)
    taker, maker = np.zeros((2, len(ways), len(names)))
    fees = np.zeros(len(ways))
    for i, one in enumerate(found for found in fills_of(study, ways) if found.kind == "all"):
        fees[i] = fills["fee"][one.chosen].sum()
        for into, which in ((taker, False), (maker, True)):
            mine = one.chosen[fills["maker"][one.chosen].astype(bool) == which]
            np.add.at(into[i], venue.reshape(-1)[mine], fills["shares"][mine])
    shares = (taker + maker).sum(axis=1)
    whole = np.where(shares > 0, shares, np.nan)
    return Venues(names.tolist(), taker / whole[:, None], maker / whole[:, None], shares, fees / whole)


def markouts_of(study: Study, found: list[FillsOf]) -> NDArray[np.float64]:
    """What a share had lost to the mid some time after its fill, shape (n, marks): bps of the mid at arrival.

    s (p - mid later), weighted by shares within an order, then over orders, as `Study.rows` has realised spreads:
    these are twice the markout after 15 s.
    """
    fills, parents = study.fills, study.parents
    orders, first = np.unique(parents["order"], return_index=True)
    known = first[np.searchsorted(orders, fills["order"])]
    sign = np.where(parents["side"][known] == 0, 1.0, -1.0)
    mid = parents["mid"][known]
    values = np.full((len(found), len(MARKED)), np.nan)
    for row, one in zip(values, found, strict=True):
        for i, mark in enumerate(MARKED):
            later = fills[f"mid_{mark}"][one.chosen]
            has = np.isfinite(later) & (mid[one.chosen] > 0)
            mine, later = one.chosen[has], later[has]
            if not len(mine):
                continue
            cost = 1e4 * sign[mine] * (fills["price"][mine] - later) / mid[mine]
            _, order = np.unique(fills["order"][mine], return_inverse=True)
            shares = np.bincount(order.reshape(-1), fills["shares"][mine])
            row[i] = (np.bincount(order.reshape(-1), fills["shares"][mine] * cost) / shares).mean()
    return values


def order_to_follow(study: Study, ways: list[Way]) -> tuple[Way, int] | None:
    """Of the way that takes longest, and is not the baseline, the row of the order with the median shortfall."""
    others = [way for way in ways if way.names[1] != study.baseline] or ways
    costs = study.parents["shortfall_bps"]
    way = max(others, key=lambda one: one.row["seconds"])  # the first of several
    priced = way.chosen[np.isfinite(costs[way.chosen]) & (study.parents["filled"][way.chosen] > 0)]
    if not len(priced):
        return None
    return way, int(priced[np.argsort(costs[priced], kind="stable")[(len(priced) - 1) // 2]])
