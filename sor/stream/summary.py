"""What a run did: counts that always add up, latencies, fills and cost against the mid, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from msgspec import UNSET

from sor.market.fields import DOUBTS
from sor.routing.result import RoutingResult
from sor.types import DOLLARS


class Latencies:
    """Histogram of nanoseconds, buckets 1/16 of a power of two wide: 3 % off at most, whatever the run's length."""

    def __init__(self) -> None:
        self._counts = [0] * (64 * 16)
        self.count = 0
        self.total = 0  # nanoseconds
        self.longest = 0

    def add(self, nanoseconds: int) -> None:
        shift = nanoseconds.bit_length() - 5 if nanoseconds > 31 else 0  # as in _bucket; a call would cost more
        self._counts[shift * 16 + (nanoseconds >> shift)] += 1
        self.count += 1
        self.total += nanoseconds
        if nanoseconds > self.longest:
            self.longest = nanoseconds

    def copy(self) -> Latencies:
        other = Latencies()
        vars(other).update(vars(self) | {"_counts": self._counts.copy()})
        return other

    def percentile(self, percent: float) -> float | None:
        """Nanoseconds below which ``percent`` of the observations lie; None without any."""
        left = self.count * percent / 100
        for bucket, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                shift = max(bucket // 16 - 1, 0)
                return min(((bucket - shift * 16) + 0.5) * 2.0**shift, float(self.longest))
        return None

    def below(self, boundaries: Sequence[int]) -> list[int]:
        """Count of the observations below each boundary, which has to be an edge of buckets.

        Numbers to 32 are, and of larger ones those with no more than five leading binary digits before zeros, such
        as ``2**n`` and ``3 * 2**n``.
        """
        counts = [0, *accumulate(self._counts)]
        return [counts[_bucket(boundary)] for boundary in boundaries]


def _bucket(nanoseconds: int) -> int:
    shift = nanoseconds.bit_length() - 5 if nanoseconds > 31 else 0
    return shift * 16 + (nanoseconds >> shift)


class RunSummary:
    """Counts of a run: ``messages = results + skipped + bad + rejected``, always.

    ``bad`` is what became a dead letter (of orders: with a rejection beside it), by reason. ``rejected`` is orders
    whose answer is no split although their message is a good one, by reason: of these there is no letter.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.results = 0
        self.skipped: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.doubtful: Counter[str] = Counter()  # messages that the feed itself doubts, by its flag
        self.evicted = 0  # books that have gone for want of room
        self.scattered = 0  # symbols seen in more than one partition: no book of theirs is whole
        self.latencies = Latencies()
        self.ordered: float = 0  # shares, or units of an instrument
        self.executed: float = 0
        self.shortfall = self.notional_at_mid = 0.0  # dollars, of results with a mid
        self.elsewhere: dict[str, tuple[float, float]] = {}  # the same two in other currencies

    def doubt(self, flags: int) -> None:
        """A message with flags of `sor.market.fields.DOUBTS`."""
        self.doubtful.update(flag for bit, (flag, _) in DOUBTS.items() if flags & bit)

    def add(self, result: RoutingResult, nanoseconds: int) -> None:
        self.results += 1
        self.latencies.add(nanoseconds)
        self.ordered += result.order_size
        executed = result.execution_summary.total_executed
        self.executed += executed
        mid, dollars = result.reference_price, result.shortfall.dollars
        if not executed or mid is None or dollars is None:
            return
        if result.currency is UNSET:  # as nearly always
            self.shortfall += dollars
            self.notional_at_mid += executed * mid
        else:
            self._add_cost(result.currency, dollars, executed * mid)

    def add_many(self, answers: Mapping[str, Any], quantity: float, currencies: Sequence[str]) -> None:
        """Columns of answers to an order, as `sor.route_many` gives them; they took no time that could be told."""
        executed, mid, dollars = answers["executed"], answers["mid"], answers["shortfall"]
        self.results += len(executed)
        self.ordered += len(executed) * quantity
        self.executed += executed.sum().item()
        measured = (executed > 0) & (mid == mid) & (dollars == dollars)  # not NaN
        if set(currencies) <= {DOLLARS}:
            self._add_cost(DOLLARS, float(dollars[measured].sum()), float((executed[measured] * mid[measured]).sum()))
            return
        names = np.array(currencies)[answers["symbol"]]
        for name in sorted(set(names[measured].tolist())):
            some = measured & (names == name)
            self._add_cost(name, float(dollars[some].sum()), float((executed[some] * mid[some]).sum()))

    def _add_cost(self, currency: str, shortfall: float, at_mid: float) -> None:
        if currency == DOLLARS:
            self.shortfall += shortfall
            self.notional_at_mid += at_mid
        else:
            before = self.elsewhere.get(currency, (0.0, 0.0))
            self.elsewhere[currency] = before[0] + shortfall, before[1] + at_mid

    def copy(self) -> RunSummary:
        """As it stands now, to go back to."""
        other = RunSummary()
        vars(other).update(vars(self))
        other.skipped, other.latencies = self.skipped.copy(), self.latencies.copy()
        other.bad, other.rejected = self.bad.copy(), self.rejected.copy()
        other.doubtful, other.elsewhere = self.doubtful.copy(), self.elsewhere.copy()
        return other

    def as_dict(self, seconds: float) -> dict[str, Any]:
        """The summary as it is written to JSON; what cannot be told is None."""
        microseconds = {
            name: None if value is None else round(value / 1e3, 1)
            for name, value in (
                ("p50", self.latencies.percentile(50)),
                ("p99", self.latencies.percentile(99)),
                ("max", float(self.latencies.longest) if self.latencies.count else None),
            )
        }
        return {
            "messages": self.messages,
            "results": self.results,
            "skipped": dict(self.skipped),
            "bad": dict(self.bad),
            "rejected": dict(self.rejected),
            "doubtful": dict(self.doubtful),
            "seconds": round(seconds, 3),
            "messages_per_second": round(self.messages / seconds, 1) if seconds > 0 else None,
            "latency_us": microseconds,
            "fill_rate": self.executed / self.ordered if self.ordered else None,
            "cost_vs_mid_bps": _bps(self.shortfall, self.notional_at_mid),
            **({"cost_vs_mid_bps_by_currency": self._by_currency()} if self.elsewhere else {}),
        }

    def _by_currency(self) -> dict[str, float | None]:
        """Cost against the mid of each currency: amounts of one are never added to those of another."""
        every = {DOLLARS: (self.shortfall, self.notional_at_mid)} if self.notional_at_mid else {}
        return {name: _bps(*amounts) for name, amounts in sorted((every | self.elsewhere).items())}

    def lines(self, seconds: float) -> list[str]:
        """The summary for people."""
        facts = self.as_dict(seconds)
        latency = facts["latency_us"]
        lines = [
            f"messages {self.messages:,} = results {self.results:,} + skipped {total(self.skipped)}"
            f" + bad {total(self.bad)}" + (f" + rejected {total(self.rejected)}" if self.rejected else ""),
        ]
        if self.results:
            lines += [
                f"time     {seconds:.2f} s, {facts['messages_per_second']:,.0f} messages a second",
                *(
                    [f"latency  p50 {latency['p50']:.0f} us, p99 {latency['p99']:.0f} us, max {latency['max']:.0f} us"]
                    if self.latencies.count
                    else []
                ),
                f"filled   {facts['fill_rate']:.1%} of the shares ordered",
            ]
        if self.doubtful:
            lines.append(f"doubtful {total(self.doubtful)}: the feed says so of these messages")
        if self.evicted:
            lines.append(f"evicted  {self.evicted:,} books, as there were more symbols than --max-symbols")
        if self.scattered:
            lines.append(f"symbols  {self.scattered:,} in more than one partition: no book of theirs is whole")
        for name, bps in facts.get("cost_vs_mid_bps_by_currency", {}).items():
            lines.append(f"cost     {bps:+.2f} bps against the mid, fees included, of what trades in {name}")
        if facts["cost_vs_mid_bps"] is not None and not self.elsewhere:
            lines.append(f"cost     {facts['cost_vs_mid_bps']:+.2f} bps against the mid, fees included")
        return lines


def _bps(shortfall: float, notional_at_mid: float) -> float | None:
    return 1e4 * shortfall / notional_at_mid if notional_at_mid else None


def total(counts: Counter[str]) -> str:
    """The sum of some counts, and what they are of."""
    number = sum(counts.values())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))
    return f"{number:,} ({reasons})" if number else "0"
