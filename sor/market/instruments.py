"""Instruments: what a symbol is traded in, and sizes as whole numbers of its smallest quantity, the lot.

A file of the user's own says what a symbol is traded in; of one without an entry sizes are shares::

    schema_version = 1

    [[instrument]]
    symbol = "BTC-USD"
    lot = 0.0001
    tick = 0.01
    round_lot = 0.01
    currency = "USD"

All costs are linear in quantities, so books and kernels know lots only: sizes become lots where a feed is decoded, and
a result's quantities become decimals, and its dollars dollars, where it leaves the router.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from sor.errors import DataError, InputError
from sor.market import toml_file
from sor.market.columns import Batch
from sor.market.fields import ABSENT, LARGEST_SIZE, UNDEFINED_SIZE, size_of
from sor.market.update import BookUpdate, Decoder, Level
from sor.types import DOLLARS, Instrument, exact_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Number = Annotated[Decimal | int, Meta(description="a number above 0, without quotes, such as 0.0001")]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    symbol: Annotated[str, Meta(pattern=r"\S", description="text in quotes, not empty")]
    lot: _Number = 1
    tick: _Number | None = None
    round_lot: _Number | None = None
    currency: Annotated[str, Meta(description='text in quotes, such as "EUR"')] = DOLLARS

    def instrument(self) -> Instrument:
        return Instrument(self.lot, self.tick, self.round_lot, self.currency)  # type: ignore[arg-type]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: int
    instrument: Annotated[list[_Entry], Meta(description="several: write [[instrument]] in double brackets")] = []


class Instruments(Mapping[str, Instrument]):
    """Instruments by symbol; of a symbol that is not there, quantities are shares and prices dollars.

    Parameters
    ----------
    by_symbol : mapping of str to Instrument

    Raises
    ------
    InputError
        A value is no `Instrument`.
    """

    def __init__(self, by_symbol: Mapping[str, Instrument]) -> None:
        self._by_symbol = dict(by_symbol)
        for symbol, instrument in self._by_symbol.items():
            if not isinstance(instrument, Instrument):
                raise InputError(f"the instrument of {symbol!r} is {instrument!r:.200}: it must be an Instrument")

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None) -> Instruments:
        """Those of a TOML file; without one there are none.

        Raises
        ------
        InputError
            It cannot be read or says something that is not understood; the message names the file, the symbol and
            the key, its value and what it may be.
        """
        if path is None:
            return cls({})
        where = os.fspath(path)
        file = toml_file.parsed(toml_file.read(path, "instruments file"), where, _File, name="symbol", exact=True)
        found: dict[str, Instrument] = {}
        for number, entry in enumerate(file.instrument, 1):
            try:
                instrument = entry.instrument()
            except InputError as error:
                raise InputError(f"{where}: instrument {number} ({entry.symbol}): {error}") from None
            if entry.symbol in found:
                raise InputError(f"{where}: symbol {entry.symbol} stands in two entries: it may have one")
            found[entry.symbol] = instrument
        return cls(found)

    def get(self, symbol: str, default: Any = None) -> Any:  # faster than that of a mapping, for every message
        return self._by_symbol.get(symbol, default)

    def __getitem__(self, symbol: str) -> Instrument:
        return self._by_symbol[symbol]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_symbol)

    def __len__(self) -> int:
        return len(self._by_symbol)

    def lots(self) -> dict[str, str]:
        """Lots by symbol, as texts, by which files and topics say what their sizes count; without those that are 1."""
        return {symbol: f"{one.lot.normalize():f}" for symbol, one in sorted(self.items()) if one.lot != 1}


SHARES = Instruments({})


# --- sizes of one row ------------------------------------------------------------------------------------------------


def sizes_of(instruments: Instruments, symbol: str) -> Callable[[str, Any], int]:
    """What reads a symbol's sizes, as `sor.market.fields.size_of`: into lots, where it has an instrument."""
    instrument = instruments.get(symbol) if instruments else None
    return size_of if instrument is None else partial(_size_in_lots, instrument)


def _size_in_lots(instrument: Instrument, name: str, value: Any) -> int:
    if type(value) is str:
        value = value.strip()
        if value.lower() in ABSENT:
            return 0
    elif value is None or value == UNDEFINED_SIZE or (type(value) is float and math.isnan(value)):
        return 0
    try:
        # Below 0 nothing is shown, as among shares.
        return 0 if exact_number(name, value) < 0 else instrument.lots(name, value)
    except InputError as error:
        raise DataError(str(error), "size") from None


class InLots:
    """A decoder of whole shares or coins, whose updates are brought into lots."""

    def __init__(self, decoder: Decoder, instruments: Instruments) -> None:
        self.decoder = decoder
        self._instruments = instruments

    def learn(self, rows: list[bytes]) -> None:
        self.decoder.learn(rows)

    def decode(self, raw: bytes) -> BookUpdate:
        """The update of one message.

        Raises
        ------
        DataError
            As the decoder does; or a size is no multiple of the lot.
        """
        update = self.decoder.decode(raw)
        instrument = self._instruments.get(update.symbol)
        return update if instrument is None or instrument.lot == 1 else _update_in_lots(update, instrument)


def _update_in_lots(update: BookUpdate, instrument: Instrument) -> BookUpdate:
    def levels(side: str, shown: list[Level | None] | None) -> list[Level | None] | None:
        name = f"{side} size"
        return shown and [level and (level[0], _size_in_lots(instrument, name, level[1])) for level in shown]

    event = update.event
    if event is not None:
        event = msgspec.structs.replace(event, size=_size_in_lots(instrument, "size", event.size))
    return msgspec.structs.replace(
        update, bids=levels("bid", update.bids), asks=levels("ask", update.asks), event=event
    )


def update_outside(update: BookUpdate, instruments: Instruments) -> Any:
    """An update with its sizes as they are written for others."""
    instrument = instruments.get(update.symbol)
    if instrument is None:
        return update

    def levels(shown: list[Level | None] | None) -> Any:
        return shown and [level and (level[0], instrument.quantity(level[1])) for level in shown]

    event = update.event
    if event is not None:
        event = msgspec.structs.replace(event, size=instrument.quantity(event.size))
    return msgspec.structs.replace(update, bids=levels(update.bids), asks=levels(update.asks), event=event)


# --- sizes of columns ------------------------------------------------------------------------------------------------


def batch_in_lots(batch: Batch, instruments: Instruments) -> tuple[Batch, NDArray[np.bool_]]:
    """Columns of whole shares or coins in lots, and which rows have a size that is no multiple of its lot."""
    wrong = np.zeros(len(batch), bool)
    columns = {name: getattr(batch, name) for name in ("size", "bid_size", "ask_size")}
    for number, symbol in enumerate(batch.symbols):
        instrument = instruments.get(symbol)
        if instrument is None or instrument.lot == 1:
            continue
        units, lots = instrument.ratio
        rows = np.flatnonzero(batch.symbol == number)
        for name, values in columns.items():
            some = values[rows]
            strange = (some > 0) & ((some % units != 0) | (some > min(LARGEST_SIZE, instrument.most // lots * units)))
            wrong[rows] |= strange.reshape(len(rows), -1).any(axis=1)
            if values is getattr(batch, name):
                columns[name] = values = values.copy()
            values[rows] = np.where((some > 0) & ~strange, some // units * lots, some)
    return replace(batch, **columns), wrong
