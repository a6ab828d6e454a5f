"""Files of Databento's DBN, made with Databento's own library: its metadata, and records as it lays them out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import databento_dbn as dbn
import numpy as np

from sor import Batch

DAY = 86_400 * 10**9  # nanoseconds
NO_TIME = 2**64 - 1
LAYOUTS: dict[str, np.dtype[Any]] = {
    schema: np.dtype(record._dtypes)
    for schema, record in (("mbp-1", dbn.MBP1Msg), ("mbp-10", dbn.MBP10Msg), ("cmbp-1", dbn.CMBP1Msg))
}


def head(schema: str, version: int, ids: Mapping[str, int], first: dt.date, end: dt.date) -> bytes:
    """What a file begins with whose instrument ids stand for these symbols from one day to another."""
    mappings = [
        SimpleNamespace(
            raw_symbol=name, intervals=[SimpleNamespace(start_date=first, end_date=end, symbol=str(number))]
        )
        for name, number in ids.items()
    ]
    kinds = dbn.SType.from_str("raw_symbol"), dbn.SType.from_str("instrument_id")
    named = dbn.Schema.from_str(schema)
    return bytes(dbn.Metadata("XNAS.ITCH", 0, *kinds, named, [*ids], mappings=mappings, version=version))


def write_mbp_1(batches: Iterable[Batch], path: Path) -> None:
    """Write rows of venues' own quotes, all that the schema has of them."""
    found = list(batches)
    ids: dict[str, int] = {}
    for batch in found:
        for name in batch.symbols:
            ids.setdefault(name, len(ids) + 1)
    days = [int(edge) // DAY for edge in (min(b.time.min() for b in found), max(b.receipt.max() for b in found))]
    first, last = (dt.date(1970, 1, 1) + dt.timedelta(days=day) for day in days)
    with path.open("wb") as file:
        file.write(head("mbp-1", 3, ids, first, last + dt.timedelta(days=2)))
        for batch in found:
            file.write(_records(batch, ids).tobytes())


def _records(batch: Batch, ids: Mapping[str, int]) -> np.ndarray[Any, Any]:
    records = np.zeros(len(batch), LAYOUTS["mbp-1"])
    records["length"], records["rtype"] = records.itemsize // 4, 1
    records["publisher_id"], records["sequence"], records["flags"] = batch.publisher, batch.sequence, batch.flags
    records["instrument_id"] = np.array([ids[name] for name in batch.symbols])[batch.symbol]
    records["ts_event"] = batch.time
    records["ts_recv"] = np.where(batch.receipt == 0, np.uint64(NO_TIME), batch.receipt.astype(np.uint64))
    records["action"], records["side"] = batch.action.view("S1"), batch.side.view("S1")
    records["price"], records["size"] = batch.price, batch.size
    for side in ("bid", "ask"):
        records[f"{side}_px_00"] = getattr(batch, f"{side}_price")[:, 0]
        records[f"{side}_sz_00"] = getattr(batch, f"{side}_size")[:, 0]
    return records
