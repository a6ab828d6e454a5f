"""Small recorded markets for tests, written down row by row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sor.market.columns import NO_PRICE, NO_SEQUENCE, STANDS, Batch

OPENS = 1_722_519_000 * 10**9  # 2024-08-01, 09:30 in New York
XNAS, IEXG, ARCX = 2, 38, 43  # publishers of venues whose fees differ on that day
SECOND = 10**9

Side = tuple[float, int] | list[tuple[float, int]] | None


def quote(seconds: float, publisher: int, bid: Side, ask: Side, receipt: float = 0.0) -> dict[str, Any]:
    """What a venue shows from then on, so many seconds after the opening."""
    return {"seconds": seconds, "publisher": publisher, "bid": bid, "ask": ask, "receipt": receipt}


def trade(seconds: float, publisher: int, price: float, size: int, taker: str = "N") -> dict[str, Any]:
    """A print, which says nothing of the book."""
    return {"seconds": seconds, "publisher": publisher, "price": price, "size": size, "taker": taker}


def tape(rows: Iterable[dict[str, Any]], depth: int = 1, symbol: str = "T", opens: int = OPENS) -> Batch:
    """Rows as columns."""
    rows = list(rows)
    n = len(rows)
    columns: dict[str, Any] = {
        "symbol": np.zeros(n, np.int32),
        "time": np.array([opens + round(row["seconds"] * SECOND) for row in rows], np.int64),
        "receipt": np.array(
            [opens + round(row["receipt"] * SECOND) if row.get("receipt") else 0 for row in rows], np.int64
        ),
        "sequence": np.full(n, NO_SEQUENCE, np.uint64),
        "publisher": np.array([row["publisher"] for row in rows], np.uint16),
        "action": np.array([ord("T") if "price" in row else ord("M") for row in rows], np.uint8),
        "side": np.array([ord(row.get("taker", "N")) for row in rows], np.uint8),
        "price": np.array([units(row["price"]) if "price" in row else NO_PRICE for row in rows], np.int64),
        "size": np.array([row.get("size", 0) for row in rows], np.int64),
        "flags": np.zeros(n, np.uint8),
    }
    for name in ("bid", "ask"):
        prices, sizes = np.full((n, depth), NO_PRICE, np.int64), np.zeros((n, depth), np.int64)
        for i, row in enumerate(rows):
            if "price" in row:
                sizes[i] = STANDS
                continue
            shown = row[name]
            for level, (price, size) in enumerate([shown] if isinstance(shown, tuple) else shown or []):
                prices[i, level], sizes[i, level] = units(price), size
        columns[f"{name}_price"], columns[f"{name}_size"] = prices, sizes
    return Batch((symbol,), **columns)


def units(dollars: float) -> int:
    return round(dollars * 1e9)
