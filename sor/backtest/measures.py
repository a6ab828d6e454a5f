"""What an order cost, in parts that add up: timing, waiting, spread and depth, fees, and the end.

With s = +1 for a buy and -1 for a sell, P0 the mid at arrival, and for a fill of n shares at p: m the mid when the
schedule released them, r the mid when their child was sent,

    shortfall = s sum n (m - P0)  +  s sum n (r - m)  +  s sum n (p - r)  +  fees  +  end
                timing               waiting             spread and depth

where fees are those of fills and the tickets of orders sent, and the end prices what is left, or sells back what
overfilled, at the opposite quote with the taker's fee. Prices are integers of 1e-9 dollars and mids are kept doubled,
so all but fees is exact, in integers of half a billionth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

HALVES = 2e9  # of a dollar: what one unit of a part is
NOTHING = 2**62  # as the best price that a child saw: there was none
MARKED = ("50ms", "1s", "15s", "60s", "300s")  # times of markouts, as `MARKS` of the market has them


class WorkedOrder(NamedTuple):
    """A parent order as a piece of work has it: ``size`` in lots."""

    number: int
    symbol: str
    side: int
    size: int
    arrival: int
    end: int
    limit: int


class Parent(NamedTuple):
    """What became of one order, worked in one way.

    Dollars but for ``*_bps``, which are of size x mid at arrival; sizes in units; times in nanoseconds since the epoch.
    NaN is what is not known: where there was no mid until the arrival, that are all costs.
    """

    order: int
    symbol: str
    day: int
    side: int
    size: float
    arrival: int
    end: int
    schedule: str
    routing: str
    queue: int
    mid: float
    filled: float
    left: float
    overfill: float
    shortfall: float
    timing_cost: float
    waiting_cost: float
    spread_cost: float
    fees_cost: float
    end_cost: float
    shortfall_bps: float
    timing_bps: float
    waiting_bps: float
    spread_bps: float
    fees_bps: float
    end_bps: float
    done: int
    first_fill: int
    last_fill: int
    maker: float
    children: int
    cancels: int
    rejects: int
    left_out: int
    tickets: float
    not_there: float
    frozen: float
    window_volume: float
    life_volume: float
    participation: float
    life_participation: float
    vwap_bps: float
    twap_bps: float
    effective_spread_bps: float
    quoted_spread_bps: float
    price_improvement_bps: float
    price_disimprovement_bps: float
    realised_spread_bps: float
    no_mid: bool
    gap: bool


class FillRow(NamedTuple):
    """A fill; prices and mids in dollars a share, ``fee`` in dollars (negative: received), times as in `Parent`.

    ``national_best`` is that of the side that was taken when the child was sent. NaN is what was not there.
    """

    order: int
    schedule: str
    routing: str
    queue: int
    time: int
    sent: int
    venue: str
    maker: bool
    frozen: bool
    shares: float
    price: float
    fee: float
    mid_released: float
    mid_sent: float
    national_best: float
    mid_50ms: float
    mid_1s: float
    mid_15s: float
    mid_60s: float
    mid_300s: float


NAN = float("nan")


class Parts(NamedTuple):
    """Parts of a shortfall in halves of a billionth dollar, but for the fees in dollars, of one share a lot.

    Tickets are in the fees.
    """

    timing: int
    waiting: int
    spread: int
    end: int
    fees: float
    end_fee: float

    @property
    def exact(self) -> int:
        """All but fees."""
        return self.timing + self.waiting + self.spread + self.end


def parts_of(sim: Any, rates: list[Any]) -> Parts:
    """The parts of one order's shortfall; its fills are those of the simulation."""
    worker = sim.worker
    sign = -1 if worker.side else 1
    arrival = sign * sim.at_begin[1]
    timing = waiting = spread = 0
    fees: float = sim.tickets
    for fill, pieces in sim.fills:
        child, sent = fill.child, sign * fill.child.mid2
        for shares, mid2 in pieces:
            timing += shares * (sign * mid2 - arrival)
            waiting += shares * (sent - sign * mid2)
            spread += shares * (2 * fill.price - sent)
        fees += fill.shares * fee_of(rates[child.slot], abs(fill.price), fill.maker)
    left, overfill = max(0, worker.shares - worker.executed), worker.overfill()
    (far, far_slot, _), (near, near_slot, _) = sim.at_end[-2:]
    end, end_fee = 0, 0.0
    if left:
        end += left * (2 * far - arrival)
        end_fee += left * fee_of(rates[far_slot], abs(far), False)
    if overfill:
        end += overfill * (2 * near + arrival)
        end_fee += overfill * fee_of(rates[near_slot], abs(near), False)
    return Parts(timing, waiting, spread, end, fees, end_fee)


def fee_of(rates: Any, price: int, maker: bool) -> float:
    """Dollars a share, by the price in 1e-9 dollars: paid by who takes, received (negative) by who rests."""
    return float(-rates.rebate_at(price / 1e9) if maker else rates.fee_at(price / 1e9))


def measured(
    order: WorkedOrder,
    day: int,
    names: tuple[str, str],
    sim: Any,
    rates: list[Any],
    gaps: list[Any],
    lot: tuple[int, int],
) -> Parent:
    """One order's row: its parts, and what stands beside them.

    Parameters
    ----------
    gaps : list of (from, to)
        When the feed had no rows.
    lot : (units, lots)
        What a lot is, as `sor.Instrument.ratio` has it.
    """
    worker = sim.worker
    parts = parts_of(sim, rates)
    units = lot[0] / lot[1]
    parts_in_dollars = {
        "timing": parts.timing / HALVES,
        "waiting": parts.waiting / HALVES,
        "spread": parts.spread / HALVES,
        "fees": parts.fees,
        "end": parts.end / HALVES + parts.end_fee,
        "shortfall": parts.exact / HALVES + parts.fees + parts.end_fee,
    }
    mid = _mid(sim.at_begin[1])
    dollars = {name: part * units if mid == mid else NAN for name, part in parts_in_dollars.items()}
    bps = 1e4 / (mid * worker.shares * units)
    times = [fill.time for fill, _ in sim.fills]
    window, life = _volumes(sim)
    executed = worker.executed
    values: dict[str, Any] = {
        "order": order.number,
        "symbol": order.symbol,
        "day": day,
        "side": order.side,
        "size": worker.shares * units,
        "arrival": order.arrival,
        "end": order.end,
        "schedule": names[0],
        "routing": names[1],
        "queue": sim.queue,
        "mid": mid,
        "filled": executed * units,
        "left": max(0, worker.shares - executed) * units,
        "overfill": worker.overfill() * units,
        "done": sim.at_end[0],
        "first_fill": min(times, default=0),  # reports come in another order than fills, where latencies differ
        "last_fill": max(times, default=0),
        "maker": sum(fill.shares for fill, _ in sim.fills if fill.maker) * units,
        "children": len(worker.children),
        "cancels": worker.cancels,
        "rejects": worker.rejections,
        "left_out": len(worker.absences),
        "tickets": sim.tickets * units,
        "not_there": sim.late * units,
        "frozen": sum(fill.shares for fill, _ in sim.fills if fill.frozen) * units,
        "window_volume": window * units,
        "life_volume": life * units,
        "participation": executed / window if window else NAN,
        "life_participation": executed / life if life else NAN,
        "no_mid": not (sim.at_begin[2] and sim.at_end[2]),
        "gap": any(begin < sim.at_end[0] and order.arrival < end for begin, end in gaps),
    }
    values |= {name if name == "shortfall" else f"{name}_cost": cost for name, cost in dollars.items()}
    values |= {f"{name}_bps": cost * bps for name, cost in dollars.items()}
    return Parent(**(values | _beside(sim, worker, executed)))


def _volumes(sim: Any) -> tuple[int, int]:
    """Shares that others printed in the order's window, and from its arrival to its last fill."""
    begin = sim.at_begin[3]
    return sim.at_window[3] - begin, (sim.at_last[3] if sim.at_last is not None else begin) - begin


def _beside(sim: Any, worker: Any, filled: int) -> dict[str, float]:
    """Slippage against the market's VWAP and TWAP of the window, spreads and price improvement: bps, by share."""
    begin, window = sim.at_begin, sim.at_window
    sign = -1 if worker.side else 1
    mid = begin[1] / 2
    if not filled or not mid:
        return dict.fromkeys(BESIDE, NAN)
    paid = sign * sum(fill.shares * fill.price for fill, _ in sim.fills) / filled
    volume, lasting = window[3] - begin[3], window[6] - begin[6]
    vwap = (window[4] - begin[4]) / volume if volume else NAN
    twap = (window[5] - begin[5]) / lasting / 2 if lasting else NAN
    effective = quoted = improved = worsened = realised = 0.0
    counted = shown = took = 0
    for fill, _ in sim.fills:
        child = fill.child
        effective += fill.shares * (2 * fill.price - sign * child.mid2)
        if child.opposite != NOTHING:
            quoted += fill.shares * (2 * child.opposite - sign * child.mid2)
            shown += fill.shares
            if not fill.maker:
                better = fill.shares * (child.opposite - fill.price)
                improved += max(better, 0)
                worsened += max(-better, 0)
                took += fill.shares
        later = fill.later[REALISED]
        if later is not None:
            realised += fill.shares * (2 * fill.price - sign * later)
            counted += fill.shares
    scale = 1e4 / mid
    return {
        "vwap_bps": sign * (paid - vwap) * scale,
        "twap_bps": sign * (paid - twap) * scale,
        "effective_spread_bps": effective / filled * scale,
        "quoted_spread_bps": quoted / shown * scale if shown else NAN,
        "price_improvement_bps": improved / took * scale if took else NAN,
        "price_disimprovement_bps": worsened / took * scale if took else NAN,
        "realised_spread_bps": realised / counted * scale if counted else NAN,
    }


BESIDE = (
    "vwap_bps",
    "twap_bps",
    "effective_spread_bps",
    "quoted_spread_bps",
    "price_improvement_bps",
    "price_disimprovement_bps",
    "realised_spread_bps",
)
REALISED = 2  # of the times of markouts that which the realised spread is told by: 15 s


def fills_of(
    order: WorkedOrder, names: tuple[str, str], sim: Any, rates: list[Any], venues: list[str], units: float
) -> list[FillRow]:
    """One order's fills, in the order in which they were reported."""
    rows = []
    for fill, pieces in sim.fills:
        child = fill.child
        released = sum(shares * mid2 for shares, mid2 in pieces) / fill.shares
        rows.append(
            FillRow(
                order.number,
                *names,
                sim.queue,
                fill.time,
                child.sent,
                venues[child.slot],
                fill.maker,
                fill.frozen,
                fill.shares * units,
                abs(fill.price) / 1e9,
                fill.shares * fee_of(rates[child.slot], abs(fill.price), fill.maker) * units,
                _mid(released),
                _mid(child.mid2),
                NAN if child.opposite == NOTHING else abs(child.opposite) / 1e9,
                *(NAN if mid2 is None else mid2 / HALVES for mid2 in fill.later),
            )
        )
    return rows


def _mid(mid2: float) -> float:
    """Dollars, of twice a mid; 0 where there was none yet."""
    return mid2 / HALVES if mid2 else NAN
