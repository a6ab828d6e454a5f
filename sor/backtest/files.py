"""A study's fills and orders as files: columns where the name ends in .parquet, else CSV."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sor.backtest.study import Study, as_columns
from sor.market.columns import arrow
from sor.market.fields import iso_of
from sor.market.parquet import TableFile
from sor.market.whole_file import WholeFile

TIMES = ("time", "sent", "arrival", "end", "done", "first_fill", "last_fill")


def write(study: Study, fills: str, parents: str) -> None:
    """Write both files, or none."""
    with contextlib.ExitStack() as stack:
        kind = _Table if fills.endswith(".parquet") else _Csv
        files: list[Any] = [stack.enter_context(kind(path)) for path in (fills, parents)]
        for file, columns in zip(files, (study.fills, study.parents), strict=True):
            file.add(as_columns(columns))
        for file in files:
            file.complete()


class _Table(TableFile):
    def __init__(self, path: str) -> None:
        super().__init__(path, ())

    def add(self, columns: Mapping[str, Any]) -> None:
        package = arrow()
        found = {}
        for name, values in columns.items():
            if name in TIMES:
                found[name] = package.array(values, mask=values == 0).view(package.timestamp("ns", "UTC"))
            elif values.dtype.kind == "U":
                found[name] = package.array(values.tolist(), package.string()).dictionary_encode()
            elif values.dtype.kind == "f":
                found[name] = package.array(values, mask=np.isnan(values))
            else:
                found[name] = package.array(values)
        self.write(package.table(found))


class _Csv(WholeFile):
    def add(self, columns: Mapping[str, Any]) -> None:
        found = [[_cell(name, value) for value in values.tolist()] for name, values in columns.items()]
        with self.writing():
            self.file.write((",".join(columns) + "\n").encode())
            self.file.writelines((",".join(row) + "\n").encode() for row in zip(*found, strict=True))


def _cell(name: str, value: Any) -> str:
    if name in TIMES:
        return iso_of(value) if value else ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return "" if value != value else repr(value)
    return str(value)
