"""The routing `cont_kukanov`: a market order and limit orders, as Cont and Kukanov's model places them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sor.errors import InputError
from sor.kernels import pick
from sor.market.update import Event, Level
from sor.models.placement import place
from sor.routing.cont_kukanov import NOT_FOR_SALE
from sor.types import SIDES, CostParameters

if TYPE_CHECKING:
    from sor.execution import _routings_py as routings
    from sor.execution import _worker_py as workers
    from sor.market.outflow import Outflows
else:
    routings = pick("sor.execution._routings")
    workers = pick("sor.execution._worker")


class ContKukanov(workers.Routing):
    """What was just released is placed by `sor.place`; what comes back at the end of its horizon is taken.

    Where the model cannot be solved, as there is no spread or too few windows of outflows are known, all is taken. Of a
    venue with rules the limit order is cut to what it takes, and what is cut off is taken at the next change; tickets
    are left out of the optimum.

    Parameters
    ----------
    outflows : Outflows
        Of the feed alone, kept by who drives; venues are its slots.
    parameters : CostParameters
        ``theta_queue`` is the model's theta.
    min_windows : int
    """

    def __init__(self, outflows: Outflows, parameters: CostParameters, min_windows: int) -> None:
        self.outflows, self.parameters, self.min_windows = outflows, parameters, min_windows
        self.taking = routings.Sweep(False)
        self.unplaced = 0  # orders for which the model could not be solved
        self._time = -1
        self._found: dict[Any, Any] = {}  # placements of this time: orders that differ in the queue model have the same

    def split(self, worker: workers.Worker, shares: int) -> list[workers.Child]:
        if not worker.fresh:
            return self.taking.split(worker, shares)
        placed = self._placed(worker)
        if placed is None:
            self.unplaced += 1
            return self.taking.split(worker, shares)
        market, limits = placed
        taken = market + shares - worker.fresh
        children = self.taking.split(worker, taken) if taken else []
        until = worker.now + self.outflows.horizon
        best = -worker.view.best[1 - worker.side]
        for slot, rests in limits:
            terms = worker.view.terms[slot]
            price = terms.resting(best)
            accepted = terms.cut(rests, abs(price) / 1e9)
            if accepted and price:
                children.append(workers.Child(slot, price, accepted, True, until))
        return children

    def _placed(self, worker: workers.Worker) -> tuple[int, list[tuple[int, int]]] | None:
        view, side = worker.view, worker.side
        best = view.best[1 - side]
        spread = view.best[0] + view.best[1]
        if not view.has_mid or spread < 0 or -best > worker.limit:
            return None
        levels = [slot * view.depth + (1 - side) * view.width for slot in range(view.slots)]
        resting = [
            slot
            for slot, at in enumerate(levels)
            if view.size[at] and view.price[at] == best and worker.left_out[slot] <= worker.now
        ]
        outflows = self.outflows.samples(SIDES[side], resting)
        if len(outflows) < self.min_windows:
            return None
        price = abs(best) / 1e9
        offers = worker.offers
        taking = [
            offers.price[row] / 1e9 + view.rates[offers.slot[row]].fee_at(abs(offers.price[row]) / 1e9)
            for row in range(offers.count)
        ]
        problem = (
            worker.fresh,
            spread / 2e9,
            min(taking) - view.best[side] / 1e9 if taking else NOT_FOR_SALE,
            tuple(view.rates[slot].rebate_at(price) for slot in resting),
            tuple(float(view.size[levels[slot]]) for slot in resting),
        )
        if worker.now != self._time:
            self._time, self._found = worker.now, {}
        key = side, tuple(resting), problem
        if key not in self._found:
            self._found[key] = self._solved(resting, problem, outflows)
        found: tuple[int, list[tuple[int, int]]] | None = self._found[key]
        return found

    def _solved(self, resting: list[int], problem: Any, outflows: Any) -> tuple[int, list[tuple[int, int]]] | None:
        penalties = self.parameters
        try:
            target, half_spread, fee, rebates, queues = problem
            found = place(
                target,
                half_spread,
                fee,
                rebates,
                queues,
                outflows,
                theta=penalties.theta_queue,
                lambda_under=penalties.lambda_under,
                lambda_over=penalties.lambda_over,
                lots=1,
            )
        except InputError:  # a feed may show more than the model takes
            return None
        limits = [(slot, round(rests)) for slot, rests in zip(resting, found.limits, strict=True) if round(rests)]
        return round(found.market), limits


class Follower:
    """Keeps outflows of a view, as it is told of prints and of what venues show."""

    def __init__(self, view: Any, outflows: Outflows) -> None:
        self.view, self.outflows = view, outflows
        self._shown: dict[int, Any] = {}  # by venue, as its last row has it: what is stale since has not left

    def printed(self, slot: int, price: int, shares: int, side: int, now: int) -> None:
        """A trade at a venue that quotes; ``side`` is the ASCII code of who took, 0 where nobody said."""
        if slot >= 0:
            bid, ask = self._shown.get(slot, (None, None))
            self.outflows.observe(slot, now, bid, ask, Event("T", chr(side or 78), price / 1e9, shares))

    def seen(self, slot: int, now: int) -> None:
        """What a venue shows now."""
        shown = self._shown[slot] = self._touch(slot)
        self.outflows.observe(slot, now, *shown)

    def _touch(self, slot: int) -> tuple[Level | None, Level | None]:
        view = self.view
        ask, bid = slot * view.depth, slot * view.depth + view.width
        return (
            (-view.price[bid] / 1e9, view.size[bid]) if view.size[bid] else None,
            (view.price[ask] / 1e9, view.size[ask]) if view.size[ask] else None,
        )
