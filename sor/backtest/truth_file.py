"""Files of the truth of a synthetic market: its orders as a table, and the rest as JSON."""

from __future__ import annotations

import json
import os

import numpy as np

from sor.backtest.truth import Truth
from sor.market.columns import arrow
from sor.market.fields import iso_of
from sor.market.parquet import TableFile
from sor.market.plain_file import Prices
from sor.market.whole_file import WholeFile

TIMES = ("time", "first_fill", "completed", "cancelled")
NAMES = ("venue", "side")


class OrdersTable(TableFile):
    """Orders as Parquet: prices in 1e-9 dollars, times with null where something never happened."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, ("id", "time"))

    def add(self, truth: Truth) -> None:
        package = arrow()
        columns = {}
        for name, values in truth.orders.items():
            if name in TIMES:
                columns[name] = package.array(values, mask=values == 0).view(package.timestamp("ns", "UTC"))
            elif name in NAMES:
                columns[name] = package.array(values.tolist(), package.string()).dictionary_encode()
            else:
                columns[name] = package.array(values)
        self.write(package.table(columns))


class OrdersCsv(WholeFile):
    """Orders as CSV: prices in dollars, times in ISO 8601, empty where something never happened, hidden 1 or 0."""

    def add(self, truth: Truth) -> None:
        prices, columns = Prices(), []
        for name, values in truth.orders.items():
            if name in TIMES:
                columns.append([iso_of(time) if time else "" for time in values.tolist()])
            elif name == "price":
                columns.append([prices[price] for price in values.tolist()])
            else:
                columns.append(list(map(str, (values.astype(np.int64) if name == "hidden" else values).tolist())))
        with self.writing():
            self.file.write((",".join(truth.orders) + "\n").encode())
            self.file.writelines((",".join(row) + "\n").encode() for row in zip(*columns, strict=True))


class Facts(WholeFile):
    """The rest, as a JSON object."""

    def add(self, truth: Truth) -> None:
        with self.writing():
            self.file.write(json.dumps(truth.as_dict(), indent=1).encode() + b"\n")
