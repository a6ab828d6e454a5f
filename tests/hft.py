"""When hftbacktest fills orders that rest: a script, as it needs packages that the tests need not have.

Of ``orders.npz`` (the events of one venue in its own form, and orders by time) under a queue model it writes, for
each order, when it was filled; 0: never.
"""

from __future__ import annotations

import sys

import numpy as np
from hftbacktest import GTC, LIMIT, BacktestAsset, HashMapMarketDepthBacktest
from numba import njit

FILLED = 3
MODELS = {
    "risk_adverse": lambda asset: asset.risk_adverse_queue_model(),
    "power_prob_3": lambda asset: asset.power_prob_queue_model3(1.0),
}


@njit
def first_fills(market, times, buys, prices, sizes, now, end):
    for i in range(len(times)):
        market.elapse(times[i] - now)  # its own clock begins with the first of these
        now = times[i]
        if buys[i]:
            market.submit_buy_order(0, i + 1, prices[i], sizes[i], GTC, LIMIT, False)
        else:
            market.submit_sell_order(0, i + 1, prices[i], sizes[i], GTC, LIMIT, False)
    market.elapse(end - now)
    found = np.zeros(len(times), np.int64)
    for i in range(len(times)):
        order = market.orders(0).get(i + 1)
        if order is not None and order.status == FILLED:
            found[i] = order.exch_timestamp
    return found


def main(source: str, model: str, target: str) -> None:
    given = np.load(source)
    events = given["events"]  # an asset has no hold of its data
    asset = BacktestAsset().data(events).linear_asset(1.0).constant_order_latency(0, 0)
    asset = MODELS[model](asset).no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
    market = HashMapMarketDepthBacktest([asset.tick_size(0.01).lot_size(1.0)])
    columns = (given[name] for name in ("times", "buys", "prices", "sizes"))
    np.save(target, first_fills(market, *columns, int(events["exch_ts"][0]), int(events["exch_ts"][-1]) + 1))


if __name__ == "__main__":
    main(*sys.argv[1:])
