"""The demonstration: three venues, both allocators, and the trap in the penalties."""

from __future__ import annotations

import sys
from typing import TextIO

from sor.kernels import BACKEND
from sor.models.static import allocate, allocate_exhaustive, allocate_greedy_l2, compute_cost, search_space
from sor.types import Level2Venue, Venue

NAMES = ("XNAS", "XNYS", "ARCX")
VENUES = [
    Venue(ask=100.10, ask_size=500, fee=0.0030, rebate=0.0020),
    Venue(ask=100.11, ask_size=300, fee=0.0020, rebate=0.0015),
    Venue(ask=100.12, ask_size=800, fee=0.0025, rebate=0.0010),
]
BOOK = [
    Level2Venue("XNAS", [(100.10, 500), (100.12, 600)], 0.0030, 0.0020),
    Level2Venue("XNYS", [(100.11, 300), (100.13, 900)], 0.0020, 0.0015),
    Level2Venue("ARCX", [(100.12, 800)], 0.0025, 0.0010),
]
ORDER_SIZE = 1000
LAMBDA_OVER, LAMBDA_UNDER, THETA_QUEUE = 0.01, 0.005, 0.002
PENALTIES = (LAMBDA_OVER, LAMBDA_UNDER, THETA_QUEUE)


def run_test_harness(file: TextIO | None = None) -> None:
    """Print the demonstration; every number is computed on the way.

    Parameters
    ----------
    file : text file, optional
        Default: standard output.
    """
    out = file or sys.stdout

    def say(line: str = "") -> None:
        print(line, file=out)

    mid = 100.095  # best bid 100.09, best offer 100.10
    say(f"Buy {ORDER_SIZE:,} shares over three venues (kernels: {BACKEND})")
    say("  venue   ask     size  fee     rebate")
    for name, venue in zip(NAMES, VENUES, strict=True):
        say(f"  {name}  {venue.ask:.2f}  {venue.ask_size:>5}  {venue.fee:.4f}  {venue.rebate:.4f}")
    say()
    say(f"1. The cost formula as it stands, penalties {LAMBDA_OVER}/{LAMBDA_UNDER}/{THETA_QUEUE} $ a share (notional)")
    literal = allocate(ORDER_SIZE, VENUES, *PENALTIES)
    proof = allocate_exhaustive(ORDER_SIZE, VENUES, *PENALTIES)
    say(f"  allocate             {_split(literal.split)}")
    say(f"  allocate_exhaustive  {_split(proof.split)}  of {search_space(ORDER_SIZE, 3, 100)} splits")
    say(f"  cost ${literal.cost:,.2f}, executes {_executed(literal.split)} of {ORDER_SIZE:,}")
    say("  The trap: cash is about $100 a share, a missing share is fined less than a cent, so buying little is")
    say("  cheapest. The formula says so, and allocate() returns what it says.")
    say()
    say("2. Displayed shares only, as many as the order wants, at the least price + fee (sweep)")
    sweep = allocate(ORDER_SIZE, VENUES, *PENALTIES, resting=False)
    say(f"  allocate(..., resting=False)  {_split(sweep.split)}  cost ${sweep.cost:,.2f}")
    say(f"  executes {_executed(sweep.split)} of {ORDER_SIZE:,}; what `sor replay` and `sor consume` do by default")
    say()
    say(f"3. Cash measured against the mid of {mid}, missing shares fined 5 cents (shortfall)")
    short = allocate(ORDER_SIZE, VENUES, LAMBDA_OVER, 0.05, THETA_QUEUE, reference_price=mid)
    say(f"  allocate(..., reference_price=mid)  {_split(short.split)}  shortfall ${short.cost:,.2f}")
    say(f"  executes {_executed(short.split)} of {ORDER_SIZE:,}: a cent of penalty weighs as much as a cent of price")
    say()
    say("4. Two levels deep, the cheapest price + fee first (greedy level 2)")
    deep = allocate_greedy_l2(2500, BOOK, *PENALTIES)
    say(f"  allocate_greedy_l2 of 2,500  {_split(deep.split)}  cost ${deep.cost:,.2f}")
    say()
    naive = compute_cost([ORDER_SIZE, 0, 0], VENUES, ORDER_SIZE, *PENALTIES)
    say(f"To compare: everything to {NAMES[0]} fills {VENUES[0].ask_size:.0f} and costs ${naive:,.2f} by the formula.")


def _split(split: list[int]) -> str:
    return ", ".join(f"{name} {shares:,}" for name, shares in zip(NAMES, split, strict=True))


def _executed(split: list[int]) -> str:
    return f"{sum(min(q, int(v.ask_size)) for q, v in zip(split, VENUES, strict=True)):,}"
