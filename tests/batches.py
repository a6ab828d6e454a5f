"""Feeds in columns with everything odd in them: one-sided, crossed, cleared, doubted, two symbols, time going back."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from sor import Batch
from sor.market.columns import NO_PRICE, NO_SEQUENCE, STANDS
from sor.market.fields import DOUBTS

CENTS = 10_000_000  # in 1e-9 dollars
KNOWN, UNKNOWN, TWO_NAMES = 2, 999, (81, 43)


@st.composite
def rows(draw: Any, depth: int) -> dict[str, Any]:
    sizes = st.integers(0, 3) | st.sampled_from([100, 250, 700])
    prices = st.integers(9_998, 10_003) | st.integers(9_990, 10_010) | st.just(None) | st.integers(50, 120)

    def side() -> tuple[list[int], list[int]]:
        found = [(draw(prices), draw(sizes)) for _ in range(depth)]
        shown = [(NO_PRICE, 0) if price is None or not size else (price * CENTS, size) for price, size in found]
        return [price for price, _ in shown], [size for _, size in shown]

    (bid_price, bid_size), (ask_price, ask_size) = side(), side()
    if draw(st.integers(0, 11)) == 0:
        bid_price = ask_price = [NO_PRICE] * depth
        bid_size = ask_size = [STANDS if draw(st.booleans()) else 0] * depth
        if STANDS in bid_size:
            ask_size = bid_size
    return {
        "symbol": draw(st.integers(0, 1)),
        "time": 1_722_519_360_000_000_000 + draw(st.integers(0, 40)) * 1_000_000_000,
        "publisher": draw(st.sampled_from([KNOWN, *TWO_NAMES, UNKNOWN, 9])),
        "flags": draw(st.sampled_from([0, 0, 0, 0, 128, *(flag for flag in DOUBTS if flag < 256)])),
        "bid_price": bid_price,
        "bid_size": bid_size,
        "ask_price": ask_price,
        "ask_size": ask_size,
    }


def batch_of(found: list[dict[str, Any]], symbols: tuple[str, ...], *, consolidated: bool = False) -> Batch:
    n = len(found)

    def column(name: str, kind: Any) -> Any:
        return np.array([row[name] for row in found], kind)

    owners = {}
    if consolidated:
        for side in ("bid", "ask"):
            shown = [row[f"{side}_price"][0] != NO_PRICE for row in found]
            owners[f"{side}_publisher"] = np.where(shown, column("publisher", np.uint16), 0).astype(np.uint16)
    return Batch(
        symbols,
        symbol=column("symbol", np.int32),
        time=column("time", np.int64),
        receipt=np.zeros(n, np.int64),
        sequence=np.full(n, NO_SEQUENCE, np.uint64),
        publisher=column("publisher", np.uint16),
        action=np.zeros(n, np.uint8),
        side=np.zeros(n, np.uint8),
        price=np.full(n, NO_PRICE, np.int64),
        size=np.zeros(n, np.int64),
        flags=column("flags", np.uint8),
        **{name: column(name, np.int64) for name in ("bid_price", "bid_size", "ask_price", "ask_size")},
        **owners,
    )


@st.composite
def feeds(draw: Any, consolidated: bool | None = None) -> list[Batch]:
    depth = 1 if consolidated else draw(st.sampled_from([1, 1, 2, 10]))
    if consolidated is None:
        consolidated = depth == 1 and draw(st.integers(0, 3)) == 0
    batches = []
    for _ in range(draw(st.integers(1, 3))):
        found = draw(st.lists(rows(depth), min_size=1, max_size=25))
        symbols = draw(st.sampled_from([("A", "B"), ("B", "A")]))
        batches.append(batch_of(found, symbols, consolidated=consolidated))
    return batches
