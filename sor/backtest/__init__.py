"""What would it have cost? Simulated venues, measures that add up, and comparisons.

As a name of `sor` it is the function, ``sor.backtest(...)``; its modules are imported by ``from sor.backtest import``.
"""

from sor.backtest.days import Session
from sor.backtest.orders import Orders, ParentOrder
from sor.backtest.run import backtest
from sor.backtest.study import Study
from sor.backtest.work import Rules

__all__ = ["Orders", "ParentOrder", "Rules", "Session", "Study", "backtest"]
