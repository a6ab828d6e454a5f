"""Splits where venues have rules, or where better protected quotations come first: slower, and as exact.

Displayed shares are taken, as many as the rules allow, at the least cost with tickets; a venue with rules gets one
order over all of its levels, as these share its ticket and its smallest order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sor.kernels import core, pick
from sor.models.static import NEARLY, rows_by_rules
from sor.routing.reasons import SAID, dearer
from sor.routing.result import ChildOrder, Reason
from sor.routing.terms import FREE, Terms, round_lot_at, rows_of, terms_of
from sor.types import USABLE, Instrument

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sor.market._quotes_py import Market
    from sor.market.book import Book
    from sor.market.policy import Policy

splits = pick("sor.routing._split")
rounded = pick("sor.market._quotes").rounded

Penalties = tuple[float, float, float]


class Offers(NamedTuple):
    """Rows that may be taken (price, size, fee, rebate), venue by venue."""

    rows: NDArray[np.float64]
    counts: list[int]  # rows of each venue
    venues: list[int]  # their places in the book
    terms: list[Terms]

    def starts(self) -> list[int]:
        return [0, *accumulate(self.counts[:-1])] if self.counts else []


class Taken(NamedTuple):
    """Shares by row of the offers, and dollars with tickets and penalties."""

    shares: list[int]
    cost: float
    bound: float | None = None  # where the cost is not proven to be the least: it cannot be less than this
    held: frozenset[int] = frozenset()  # venues that were not free, as better protected quotations came first

    @property
    def filled(self) -> int:
        return sum(self.shares)


class Protected(NamedTuple):
    """A protected quotation: the best round-lot quotation of an exchange (Rule 611)."""

    venue: int  # its place in the book
    price: float  # signed, as a row's
    size: int  # all that is displayed; its round lots, where its venue takes only these
    row: int  # of the offers; -1 where it may not be taken
    why: str  # then, the reason


def offers_of(book: Book, market: Market, rows: NDArray[Any], places: Sequence[int] | None, policy: Policy) -> Offers:
    """What may be taken, with each venue's terms at this time.

    Parameters
    ----------
    rows, places
        As `sor.market._quotes.usable_rows` gives them.
    """
    shown: list[int] = np.flatnonzero(rows[:, 1] > 0.0).tolist()
    of_row = ((row if places is None else places[row]) // book.depth for row in shown)
    counts = Counter(of_row)  # in the order of the book
    terms = terms_in(book, market, policy)
    found = list(counts.values()), list(counts), [terms[at] for at in counts]
    return Offers(np.ascontiguousarray(rows[shown]), *found)


def terms_in(book: Book, market: Market, policy: Policy) -> list[Terms]:
    """What each venue of a book takes; where a lot is "round", by the mid, or by what one side shows."""
    price = next((one for one in (market.mid, market.ask, market.bid) if one is not None), None)
    return [terms_of(quote.rates.rules, policy, book.time, price, book.instrument) for quote in book.quotes]


# --- the split -------------------------------------------------------------------------------------------------------


def cheapest(offers: Offers, size: int, penalties: Penalties, reference: float = 0.0, fill_first: bool = True) -> Taken:
    """Most shares first and least cost second; or, where penalties weigh, the least cost."""
    if fill_first and not any(terms.bind for terms in offers.terms):
        return Taken(*core.sweep(offers.rows, size, *penalties, reference))
    rules = rows_of(offers.terms)
    return Taken(*rows_by_rules(offers.rows, offers.counts, rules, size, penalties, reference, fill_first))


def protected_quotations(book: Book, market: Market, offers: Offers, size: int, policy: Policy) -> list[Protected]:
    """Those of exchanges on the side that is taken, stale and crossed ones left out; ``size`` is the order's."""
    buying, found = market.side == "buy", []
    starts = dict(zip(offers.venues, offers.starts(), strict=True))
    for venue, (quote, status) in enumerate(zip(book.quotes, market.statuses, strict=True)):
        price, shown = (quote.ask, quote.ask_size) if buying else (quote.bid, quote.bid_size)
        if price is None or not quote.rates.exchange or status in ("stale", "crossed"):
            continue
        lot = round_lot_at(policy, book.time, price, book.instrument)
        if shown < lot:
            continue
        row, why = starts.get(venue, -1), "" if status in USABLE else SAID[status].words
        if row >= 0:
            terms = offers.terms[offers.venues.index(venue)]
            if not terms.takes(shown, price):
                shown = shown // lot * lot  # an odd lot is not protected
            if not terms.takes(shown, price) or least_order(terms, [shown], [price]) > size:
                row, why = -1, "its rules take no such order"
        found.append(Protected(venue, price if buying else -price, shown, row, why))
    return found


def behind_protected(offers: Offers, size: int, penalties: Penalties, protected: list[Protected]) -> Taken:
    """The cheapest split in which no share is taken at a worse price than a protected quotation that is not sent for.

    Where the worst price of a split is W, all protected quotations better than W are taken in full; so for each W
    that there is, the cheapest split of the rest up to W is found, and the best of these is the answer.
    """
    free = cheapest(offers, size, penalties)
    sent = [one for one in protected if one.row >= 0]
    prices = offers.rows[:, 0].tolist()
    worst = worst_price(prices, free.shares)
    if all(one.price >= worst or free.shares[one.row] >= one.size for one in sent):
        return free
    best = free._replace(shares=[0] * len(prices), cost=math.inf)
    for price in sorted(set(prices)):
        first = {one.row: one.size for one in sent if one.price < price}
        if sum(first.values()) > size:
            break
        found = _up_to(offers, size, penalties, price, first)
        if (found.filled, -found.cost) > (best.filled, -best.cost):
            best = found
    per_venue = core.per_venue
    ours, theirs = per_venue(best.shares, offers.counts), per_venue(free.shares, offers.counts)
    held = frozenset(venue for venue, q, p in zip(offers.venues, ours, theirs, strict=True) if q < p)
    return best._replace(held=held)


def _up_to(offers: Offers, size: int, penalties: Penalties, price: float, first: dict[int, int]) -> Taken:
    """The cheapest split up to a price, some rows of it taken in full."""
    rows = offers.rows.copy()
    rows[rows[:, 0] > price, 1] = 0.0
    terms, start = list(offers.terms), 0
    for i, count in enumerate(offers.counts):
        if start in first:  # the order for the rest is the same one: its ticket is paid, and it is large enough
            done = first[start]
            terms[i] = FREE._replace(lot=terms[i].lot, max_quantity=terms[i].max_quantity - done)
            rows[start, 1] -= done
        start += count
    rest = cheapest(offers._replace(rows=rows, terms=terms), size - sum(first.values()), penalties)
    shares = list(rest.shares)
    for row, whole in first.items():
        shares[row] += whole
    bound = None if rest.bound is None else -math.inf
    return Taken(shares, cost_of(offers, shares, size, penalties), bound)


def cost_of(offers: Offers, shares: list[int], size: int, penalties: Penalties) -> float:
    """Dollars at true prices, with tickets and penalties."""
    cost: float = core.cost(np.array(shares, float), offers.rows, size, *penalties, 0.0)
    return cost + tickets_of(offers, shares)


def tickets_of(offers: Offers, shares: list[int]) -> float:
    """Dollars for the orders that a split sends."""
    sent = core.per_venue(shares, offers.counts)
    return sum(terms.ticket for terms, number in zip(offers.terms, sent, strict=True) if number)


def worst_price(prices: list[float], shares: list[int]) -> float:
    return max((price for price, number in zip(prices, shares, strict=True) if number), default=-math.inf)


# --- what it means ---------------------------------------------------------------------------------------------------


def fills_of(book: Book, market: Market, offers: Offers, taken: Taken, iso: bool) -> Any:
    """As `sor.routing._split.tally`: one order a venue that has rules, else one a level."""
    side, buying = market.side, market.side == "buy"
    allocation = [0] * len(book.quotes)
    children: list[ChildOrder] = []
    rows = offers.rows.tolist()
    for venue, terms, start, count in zip(offers.venues, offers.terms, offers.starts(), offers.counts, strict=True):
        venue_id, first = book.quotes[venue].venue_id, len(children)
        for row in range(start, start + count):
            number = taken.shares[row]
            if not number:
                continue
            allocation[venue] += number
            at = rows[row][0] if buying else -rows[row][0]
            if terms.bind and len(children) > first:  # levels are in order: this is the worst so far
                children[-1] = ChildOrder(venue_id, "market", side, at, children[-1].quantity + number)
            else:
                children.append(ChildOrder(venue_id, "market", side, at, number))
    if iso:
        children = [ChildOrder(one.venue_id, one.type, one.side, one.price, one.quantity, True) for one in children]
    fills = splits.Fills(allocation, children, list(children), [0] * len(allocation))
    fills.executed = taken.filled
    cash = core.cost(np.array(taken.shares, float), offers.rows, 0, 0.0, 0.0, 0.0, 0.0)
    fills.executed_cash = fills.cash = cash + tickets_of(offers, taken.shares)
    return fills


def traded_through(book: Book, market: Market, offers: Offers, taken: Taken, protected: list[Protected]) -> list[str]:
    """Protected quotations better than the worst price that are not sent for: each with what bars it."""
    worst = worst_price(offers.rows[:, 0].tolist(), taken.shares)
    quoted = "offer" if market.side == "buy" else "bid"
    return [
        f"the protected {quoted} of {book.quantity(one.size)} at {abs(one.price):.10g} on "
        f"{book.quotes[one.venue].venue_id} is traded through: {one.why}"
        for one in protected
        if one.price < worst and one.row < 0
    ]


def unproven(book: Book, taken: Taken) -> str:
    """A table would have had too many cells: said, with what is known of the least cost."""
    told = "the split keeps all rules, and is not proven to be the cheapest that does"
    if taken.bound is None or taken.bound == -math.inf:
        return told
    bound = taken.bound if book.instrument is None else dollars_outside(taken.bound, book.instrument)
    return f"{told}: none of as many shares costs less than {bound:.10g}"


# --- why -------------------------------------------------------------------------------------------------------------


class Why:
    """Reasons of a split under rules, venue by venue; ``solve`` is what made it of offers."""

    def __init__(
        self,
        book: Book,
        market: Market,
        offers: Offers,
        taken: Taken,
        size: int,
        most_for_one: float | None,
        solve: Callable[[Offers], Taken],
    ) -> None:
        self.book, self.market, self.offers, self.taken, self.size = book, market, offers, taken, size
        self.most_for_one = most_for_one  # dollars a share, above which it is cheaper to miss it; None: never
        self.solve = solve
        self.units: list[float] = (offers.rows[:, 0] + offers.rows[:, 2]).tolist()
        self.sizes: list[int] = offers.rows[:, 1].astype(np.int64).tolist()
        self.left = size - taken.filled
        got = [unit for unit, number in zip(self.units, taken.shares, strict=True) if number]
        self.dearest = max(got, default=-math.inf)

    def reasons(self) -> list[Reason]:
        # What could be used has rows, but where nothing can be measured.
        found = [SAID["unmeasured" if status in USABLE else status] for status in self.market.statuses]
        start = 0
        for i, (venue, count) in enumerate(zip(self.offers.venues, self.offers.counts, strict=True)):
            found[venue] = self._reason(i, start)
            start += count
        return found

    def _reason(self, i: int, start: int) -> Reason:
        terms, end = self.offers.terms[i], start + self.offers.counts[i]
        sizes = self.sizes[start:end]
        sent, shown = sum(self.taken.shares[start:end]), sum(sizes)
        if self.size == 0:
            return SAID["planned"]
        if sent == shown:
            return SAID["whole"]
        if sent:
            return self._no_more(terms, sent, shown)
        return self._none(i, start, sizes)

    def _no_more(self, terms: Terms, sent: int, shown: int) -> Reason:
        told, lot = self.book.quantity, int(terms.lot)
        if self.left == 0:
            return SAID["part"]
        if sent + lot > terms.max_quantity and sent + lot <= shown:
            return Reason("maximum", f"it takes {told(int(terms.max_quantity))} at most")
        if sent + lot > shown:
            return Reason("lot", f"the {told(shown - sent)} behind are no whole lot of {told(lot)}")
        if self.left < lot:
            return Reason("lot", f"the {told(self.left)} left of the order are no whole lot of {told(lot)}")
        if self.taken.held:
            return SAID["protected"]
        return SAID["penalties"] if self.most_for_one is not None else self._fit()

    def _none(self, i: int, start: int, sizes: list[int]) -> Reason:
        terms, shown = self.offers.terms[i], sum(sizes)
        by = self.units[start] - self.dearest
        if not terms.bind and self.left == 0 and 0.0 <= by < math.inf and not self.taken.held:
            return dearer(rounded(by))  # as most are
        prices: list[float] = np.abs(self.offers.rows[start : start + len(sizes), 0]).tolist()
        least = least_order(terms, sizes, prices)
        most = int(min(shown, terms.max_quantity) // terms.lot * terms.lot)
        for shares, where, most_here in ((shown, "displayed", most), (self.size, "ordered", self.size)):
            if most_here < least:
                return self._too_little(terms, shares, least, where, worth_of(shares, sizes, prices))
        if self.left and self.left < least and self.most_for_one is None:
            return self._too_little(terms, self.left, least, "left of the order", worth_of(self.left, sizes, prices))
        if self.offers.venues[i] in self.taken.held or (self.taken.held and self.left):
            return SAID["protected"]
        if 0.0 <= by < math.inf and (self.left == 0 or self.most_for_one is not None):
            return dearer(rounded(by))
        if self.most_for_one is not None and self.units[start] + terms.ticket / most >= self.most_for_one:
            return SAID["penalties"]
        saved = self._saved(i, start, start + len(sizes)) if terms.ticket > 0.0 else None
        if saved is None:
            return self._fit()
        ticket, less = (f"{self._dollars(dollars):.10g}" for dollars in (terms.ticket, rounded(saved)))
        return Reason("ticket", f"its ticket of {ticket} is dearer than the {less} that it would save at most")

    def _too_little(self, terms: Terms, shares: int, least: int, where: str, worth: float) -> Reason:
        """So few shares, displayed or left, are no order that the venue takes."""
        told, lot = self.book.quantity, int(terms.lot)
        few = f"the {told(shares)} {where} are"
        if terms.max_quantity < least <= shares:
            return Reason("maximum", f"it takes {told(int(terms.max_quantity))} at most, and {told(least)} at least")
        if least == lot > max(terms.min_quantity, terms.min_execution):
            return Reason("lot", f"{few} no whole lot of {told(lot)}")
        if shares < terms.min_execution:
            at_once = told(int(terms.min_execution))
            return Reason("min_execution", f"{few} fewer than the {at_once} that it fills at once")
        if worth < terms.min_notional * NEARLY:
            smallest = f"{self._dollars(terms.min_notional):.10g}"
            return Reason("minimum", f"{few} worth less than its smallest order, {smallest}")
        return Reason("minimum", f"{few} fewer than its smallest order, {told(least)}")

    def _saved(self, i: int, start: int, end: int) -> float | None:
        """What is saved by sending something there, but for the ticket; None: without one it got nothing either."""
        if self.taken.bound is not None:  # to ask again would take long, and prove nothing
            return None
        terms = list(self.offers.terms)
        terms[i] = terms[i]._replace(ticket=0.0)
        other = self.solve(self.offers._replace(terms=terms))
        return max(self.taken.cost - other.cost, 0.0) if any(other.shares[start:end]) else None

    def _fit(self) -> Reason:
        return FIT if self.taken.bound is None else UNPROVEN

    def _dollars(self, dollars: float) -> float:
        """Of lots of an instrument, in whole."""
        return dollars if self.book.instrument is None else dollars_outside(dollars, self.book.instrument)


FIT = Reason("fit", "lots and smallest orders of all venues leave no place for it")
UNPROVEN = Reason("fit", "the split that was found has no place for it, and is not proven to be the cheapest")


def dollars_outside(dollars: float, instrument: Instrument) -> float:
    units, lots = instrument.ratio
    return dollars * units / lots


def least_order(terms: Terms, sizes: list[int], prices: list[float]) -> int:
    """Shares of the smallest order that a venue takes; more than it shows where that is worth too little."""
    worth, shares = 0.0, 0
    wanted = terms.min_notional * NEARLY
    for size, price in zip(sizes, prices, strict=True):
        if worth + price * size >= wanted:
            shares += max(0, math.ceil((wanted - worth) / price))
            worth = wanted
            break
        worth += price * size
        shares += size
    if worth < wanted:
        shares += 1
    least = max(1, int(terms.min_quantity), int(terms.min_execution), shares)
    return int(-(-least // terms.lot) * terms.lot)


def worth_of(shares: int, sizes: list[int], prices: list[float]) -> float:
    """Dollars of the first shares at true prices; beyond what is shown, none."""
    worth = 0.0
    for size, price in zip(sizes, prices, strict=True):
        worth += price * min(size, shares)
        shares -= min(size, shares)
    return worth


RULES = ("lot", "minimum", "min_execution", "maximum", "fit", "protected")


def unfilled_by_rules(book: Book, offers: Offers, taken: Taken, size: int, reasons: list[Reason]) -> list[str]:
    """What is displayed, wanted and not taken, with the rules that it is not taken for."""
    shown = int(offers.rows[:, 1].sum())
    missing = min(size, shown) - taken.filled
    barred = [(at, reasons[at]) for at in offers.venues if reasons[at].code in RULES]
    if missing <= 0 or not barred:
        return []
    told = "; ".join(f"{book.quotes[at].venue_id}: {reason.words}" for at, reason in barred)
    return [f"{book.quantity(missing)} of the displayed shares that the order wants are not taken by rules ({told})"]
