"""Answers of `Routing` as a Parquet file: results in columns, for files that as JSON would be too large to use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.json import encode
from msgspec.structs import asdict

from sor.market.columns import arrow
from sor.market.parquet import GROUP, TableFile
from sor.types import Warnings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sor.routing.many import Routing
    from sor.routing.router import Router
    from sor.types import Order

Answers = dict[str, "NDArray[Any]"]
FORM = "sor.results"  # in the file's metadata, with what all of its rows have in common
VERSION = 1
DOLLARS = ("bid", "ask", "mid", "cash_spent", "total_cost", "objective_value", "shortfall", "shortfall_bps")


class ResultsFile(TableFile):
    """Answers, to be added within a ``with``; docs/formats.md lists the columns.

    Parameters
    ----------
    path : path
        It has its name once it is whole.
    run : Routing
        Whose answers they are.
    router : Router
        What its terms are, for the file's metadata.

    Raises
    ------
    InputError
        pyarrow is not installed, or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], run: Routing, router: Router) -> None:
        super().__init__(path, ("row", "time"))
        self._run = run
        self._held: list[Answers] = []
        self._waiting = 0  # rows of these
        terms = {
            "version": VERSION,
            "algorithm": router.algorithm,
            "objective": router.objective,
            "protect": router.protect,
            "parameters": router.parameters,
            "orders": [_without_instrument(order) for order in run.orders],
            "warnings": {str(one.value): one.name.lower() for one in Warnings if one.name},
        }
        self._metadata = {FORM: encode(terms)}

    def add(self, answers: Answers) -> None:
        rows = len(answers["row"])
        self._held.append(answers)
        self.rows += rows
        self._waiting += rows
        if self._waiting >= GROUP:
            self.flush()

    def flush(self) -> None:
        if self._held or self._writer is None:
            table = _table(self._run.joined(self._held), self._run)
            self._held, self._waiting = [], 0
            self.write(table.replace_schema_metadata(self._metadata))


def _without_instrument(order: Order) -> dict[str, Any]:
    terms = asdict(order)
    del terms["instrument"]
    return terms


def _table(answers: Answers, run: Routing) -> Any:
    """Joined answers as an Arrow table; null stands for what there is not."""
    package = arrow()
    order = answers["order"]
    venue, allocation = _sent(answers["allocation"], answers["venues"])
    return package.table(
        {
            "row": answers["row"],
            "time": package.array(answers["time"]).view(package.timestamp("ns", "UTC")),
            "symbol": _names(answers["symbol"], answers["symbols"]),
            "order": order,
            "side": _names(order, [one.side for one in run.orders]),
            "quantity": np.array([one.quantity for one in run.orders], answers["executed"].dtype)[order],
            "state": _names(answers["state"], answers["states"]),
            "venue": venue,
            "allocation": allocation,
            "executed": answers["executed"],
            "fill_rate": answers["fill_rate"],
            **{name: package.array(answers[name], mask=np.isnan(answers[name])) for name in DOLLARS},
            "warnings": answers["warnings"],
            **({"currency": _names(answers["symbol"], answers["currencies"])} if run.instruments else {}),
        }
    )


def _names(numbers: NDArray[Any], names: Any) -> Any:
    package = arrow()
    return package.DictionaryArray.from_arrays(numbers.astype(np.int32), package.array(list(names), package.string()))


def _sent(shares: NDArray[Any], venues: NDArray[Any]) -> tuple[Any, Any]:
    """Lists of the venues that get shares, and of how many each gets."""
    package = arrow()
    row, column = np.nonzero(shares)
    ends = np.zeros(len(shares) + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=len(shares)), out=ends[1:])
    names = package.array(venues.tolist(), package.string()).take(package.array(column))
    lists = package.ListArray.from_arrays
    return lists(ends, names), lists(ends, package.array(shares[row, column]))
