"""What would it have cost? Simulated venues, measures that add up, and comparisons.

``sor.backtest(...)`` is `sor.backtest.run.backtest`: the folder has the name of what it does, and may be called.
"""

import sys
from types import ModuleType
from typing import Any

from sor.backtest.days import Session
from sor.backtest.orders import Orders, ParentOrder
from sor.backtest.run import backtest
from sor.backtest.study import Study
from sor.backtest.tuning import Tuning, tune
from sor.backtest.work import Rules

__all__ = ["Orders", "ParentOrder", "Rules", "Session", "Study", "Tuning", "backtest", "tune"]


class _Called(ModuleType):
    def __call__(self, *arguments: Any, **named: Any) -> Study:
        return backtest(*arguments, **named)


sys.modules[__name__].__class__ = _Called
