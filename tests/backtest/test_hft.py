"""First fills of orders that rest, beside those of hftbacktest 2.4.4, which has the same two models of a queue.

It needs numba and an older numpy, so it stands in an environment of its own: `tests/hft-requirements.txt`.
SOR_TEST_HFT_PYTHON is that one's interpreter, by default the one that runs the tests. CI has it on Python 3.11.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NO_HFT
from small_market import BUY, PESSIMISTIC, PROPORTIONAL
from test_queues import imitated, known

from sor.backtest.scenario import Scenario
from sor.market.columns import NO_PRICE, Batch

PYTHON = os.environ.get("SOR_TEST_HFT_PYTHON", sys.executable)
SCRIPT = Path(__file__).resolve().parents[1] / "hft.py"
ORDERS = 1_000
ONE_VENUE = Scenario(seed=1, duration=6_000, depth=10, price=200, venues=("XNAS",), off_exchange=False)
BOTH, DEPTH, TRADE, BOUGHT, SOLD = 3 << 30, 1, 2, 1 << 29, 1 << 28  # its flags of events
EVENT = np.dtype(
    [("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"), ("order_id", "<u8"),
     ("ival", "<i8"), ("fval", "<f8")]
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if subprocess.run([PYTHON, "-c", "import hftbacktest"], capture_output=True, check=False).returncode:
        pytest.skip(f"{NO_HFT} for {PYTHON}: pip install -r tests/hft-requirements.txt")


def events(batch: Batch) -> Any:
    """Trades, and what each row shows other than the one before."""
    found: list[tuple[int, int, int, float, int, int, int, int]] = []
    shown: list[dict[int, int]] = [{}, {}]
    levels = (batch.bid_price, batch.bid_size, BOUGHT), (batch.ask_price, batch.ask_size, SOLD)

    def add(kind: int, row: int, price: int, shares: int) -> None:
        time = int(batch.time[row])
        found.append((BOTH | kind, time, time, price / 1e9, shares, 0, 0, 0))

    for row in range(len(batch)):
        if batch.action[row] == ord("T"):
            taken = BOUGHT if batch.side[row] == ord("B") else SOLD
            add(TRADE | taken, row, int(batch.price[row]), int(batch.size[row]))
        for side, (prices, sizes, flag) in enumerate(levels):
            now = dict(zip(prices[row].tolist(), sizes[row].tolist(), strict=True))
            now.pop(NO_PRICE, None)
            for price in sorted(now.keys() | shown[side].keys()):
                if now.get(price) != shown[side].get(price):
                    add(DEPTH | flag, row, price, now.get(price, 0))
            shown[side] = now
    return np.array(found, EVENT)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    orders = imitated(ONE_VENUE).orders[:ORDERS]
    path = tmp_path_factory.mktemp("hft") / "given.npz"
    np.savez(
        path,
        events=events(known(ONE_VENUE)[0]),
        times=np.array([order.time for order in orders]),
        buys=np.array([order.side == BUY for order in orders]),
        prices=np.array([order.price / 1e9 for order in orders]),
        sizes=np.array([float(order.shares) for order in orders]),
    )
    return path


def first_fills(given: Path, model: str) -> list[int]:
    target = given.with_name(f"{model}.npy")
    subprocess.run([PYTHON, "-W", "ignore", SCRIPT, given, model, target], check=True, capture_output=True)
    found: list[int] = np.load(target).tolist()
    return found


def ours(queue: int) -> list[tuple[int, int]]:
    """When each was filled first, and with how many shares."""
    return [filled[0] if filled else (0, 0) for filled in imitated(ONE_VENUE).found[queue][:ORDERS]]


def test_the_pessimistic_queue_is_their_risk_adverse_one(given: Path) -> None:
    """To the nanosecond, in all orders."""
    theirs = first_fills(given, "risk_adverse")
    assert len(theirs) == ORDERS
    assert theirs == [time for time, _ in ours(PESSIMISTIC)]
    assert theirs != [time for time, _ in ours(PROPORTIONAL)]


def test_the_proportional_queue_is_their_power_3(given: Path) -> None:
    """But where a first fill is of more than half a share and less than one: they wait for a whole one."""
    theirs = first_fills(given, "power_prob_3")
    others = [
        (time, shares, their) for (time, shares), their in zip(ours(PROPORTIONAL), theirs, strict=True) if time != their
    ]
    assert len(others) <= 0.005 * ORDERS
    assert all(shares == 1 and (their > time or not their) for time, shares, their in others)
