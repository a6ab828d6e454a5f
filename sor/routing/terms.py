"""What a venue lets one send to it, in the numbers of one book: its rules on a day, at a price, in its unit."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sor.market.policy import Policy
from sor.models.static import NEARLY
from sor.types import Instrument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Terms(NamedTuple):
    """The rules of one venue: shares (lots of an instrument), and dollars of one share a lot.

    The first six are the kernels' columns; a seventh there, parts of the price, is in the fees of a book already.
    """

    lot: float = 1.0
    min_quantity: float = 0.0
    min_notional: float = 0.0
    min_execution: float = 0.0
    max_quantity: float = math.inf
    ticket: float = 0.0
    tick: float = 0.0  # dollars; 0: any price

    @property
    def bind(self) -> bool:
        """Whether they are any for who takes what is displayed."""
        return self[:6] != FREE[:6]

    def whole(self, shares: int) -> int:
        """Of so many shares those of the largest order, whatever it is worth; 0 where it would be too small."""
        most = shares if shares < self.max_quantity else int(self.max_quantity)
        most -= most % int(self.lot)
        return 0 if most < self.min_quantity or most < self.min_execution else most

    def enough(self, worth: float) -> bool:
        """Whether an order may be worth so many dollars."""
        return worth >= self.min_notional * NEARLY

    def cut(self, shares: int, price: float) -> int:
        """Of so many shares at one price those of the largest order that the venue takes; 0: none."""
        most = self.whole(shares)
        return most if self.enough(most * price) else 0

    def resting(self, price: int) -> int:
        """The nearest price on the tick that is none the worse: in 1e-9 dollars, a sell's negated."""
        tick = round(self.tick * 1e9)
        return price - price % tick if tick else price

    def takes(self, shares: int, price: float) -> bool:
        """Whether an order for so many shares at one price may be sent."""
        return self.whole(shares) == shares and self.enough(abs(price) * shares)


FREE = Terms()


def terms_of(rules: Any, policy: Policy, time: int, price: float | None, instrument: Instrument | None = None) -> Terms:
    """The terms of `VenueRules` or `DatedRules`; None: of who takes everything.

    Parameters
    ----------
    price : float or None
        By which the round lot goes where a lot is "round", dollars; None: 100 shares, as nothing is known.
    instrument : Instrument, optional
        Rules are of its units, terms of its lots. Its round lot stands for that of the day, and its tick for no tick.
    """
    tick = 0.0 if instrument is None or instrument.tick is None else float(instrument.tick)
    if rules is None:
        return FREE if tick == 0.0 else FREE._replace(tick=tick)
    units, lots = (1, 1) if instrument is None else instrument.ratio
    if rules.lot == "round":
        lot = round_lot_at(policy, time, price, instrument)
    else:  # the least that is a multiple of both; 1 is what a file has that says nothing of lots
        lot = 1 if rules.lot == 1 else Fraction(rules.lot * lots, units).numerator
    most = math.inf if rules.max_quantity is None else float(rules.max_quantity * lots // units)
    return Terms(
        float(lot),
        float(-(-rules.min_quantity * lots // units)),
        rules.min_notional * lots / units,
        float(-(-rules.min_execution * lots // units)),
        most,
        rules.ticket * lots / units,
        rules.tick or tick,
    )


def round_lot_at(policy: Policy, time: int, price: float | None, instrument: Instrument | None = None) -> int:
    """The round lot of the day, or that of an instrument in its lots."""
    if instrument is None:
        return policy.round_lot(time, 100.0 if price is None else price).value
    return 1 if instrument.round_lot is None else instrument.lots("round_lot", instrument.round_lot, 1)


def rows_of(terms: Sequence[Terms]) -> NDArray[np.float64]:
    """As the kernels take them."""
    rows = np.zeros((len(terms), 7))
    rows[:, :6] = np.array([one[:6] for one in terms]).reshape(-1, 6)  # also of none
    return rows
