"""Routes orders on every row of a feed, in columns: the answers of `sor.Router`, many at a time.

Where venues have rules, or quotations are protected, they are given by `sor.Router` itself, one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sor.errors import InputError
from sor.kernels import MAX_THREADS, core, in_threads, pick
from sor.market.book import Book, Books
from sor.market.columns import Batch, numbered
from sor.market.instruments import SHARES, Instruments
from sor.market.policy import Policy
from sor.market.venues import VenueDirectory
from sor.routing.result import RoutingResult
from sor.routing.router import Router
from sor.types import (
    DOLLARS,
    MARKET_STATES,
    STATUSES,
    Algorithm,
    CostParameters,
    Objective,
    Order,
    Protect,
    Warnings,
    whole_number,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sor.routing import _many_py as many
else:
    many = pick("sor.routing._many")

LOOKS = 2**11  # solved at a time: as many as a core's cache holds
ABSENT = 255  # in a column of statuses: the venue has not quoted yet
ANY = "*"  # as the symbol of an order: it is routed on every symbol's rows


def route_many(
    feed: Iterable[Batch] | Batch,
    orders: Order | Iterable[Order],
    parameters: CostParameters | None = None,
    algorithm: Algorithm = "brute_force",
    objective: Objective = "sweep",
    *,
    max_quote_age: int | None = None,
    exclude_venues: Collection[str] = (),
    directory: VenueDirectory | None = None,
    threads: int = 1,
    instruments: Instruments | None = None,
    protect: Protect = "none",
    policy: Policy | None = None,
) -> dict[str, NDArray[Any]]:
    """Route orders on every row of a feed: what `sor.Router` answers after each, bit for bit, as columns.

    Parameters
    ----------
    feed : Feed, Batch or several
        Rows in their order, such as `sor.read_feed` gives. Each replaces what its publisher showed before.
    orders : Order or several
        Each is routed anew after every row of its symbol; one for ``*`` after every row.
    parameters, algorithm, objective, max_quote_age, exclude_venues, protect
        As for `sor.Router`; ``greedy_l2`` looks at as many levels as the feed was read with. ``cont_kukanov`` learns
        from row to row and is routed by `sor.Router` alone.
    directory : VenueDirectory, optional
        Venues with their fees and rules, by default the built-in ones.
    threads : int
        Of the solver.
    instruments : Instruments, optional
        Those that the feed was read with; by default a `Feed`'s own.
    policy : Policy, optional
        As for `sor.Router`; by default that of the directory.

    Returns
    -------
    dict of str to array
        n answers, in the order of the rows, and for each in that of the orders. Prices and costs are in dollars, NaN
        where there is none.

        - ``row``, ``order``: numbers of the feed's row and of the order, from 0;
        - ``time``: newest event time of the book, nanoseconds since the epoch, UTC; ``symbol``: number of its name;
        - ``bid``, ``ask``, ``mid``; ``state``: number in ``states``;
        - ``allocation``, ``status`` (n, V): shares sent to each of ``venues``, and the number of its status in
          ``statuses``; 255: it has not quoted yet;
        - ``executed``: shares at once; ``fill_rate``; ``cash_spent``, ``total_cost``, ``objective_value``,
          ``shortfall``: dollars; ``shortfall_bps``: of the mid;
        - ``warnings``: bits of `sor.types.Warnings`;
        - ``symbols``, ``venues``, ``states``, ``statuses``: the names that the numbers above stand for.

        With instruments, ``allocation`` and ``executed`` are floats, in units, and ``currencies`` names by symbol what
        its dollars are.

    Raises
    ------
    InputError
        Where an argument is not what it may be, such as a quantity that is no multiple of a symbol's lot; or as
        iterating over the feed does.
    StreamError
        The feed cannot be read to its end.

    Notes
    -----
    Where the directory has venues with rules, or with ``protect``, each answer is asked of `sor.Router`: that takes as
    long as it does, on one thread.

    Examples
    --------
    >>> columns = route_many(read_feed("sample.csv"), Order("AAPL", "buy", 500))
    >>> columns["total_cost"][-1], columns["allocation"][-1]
    """
    directory = VenueDirectory.load(policy=policy) if directory is None else directory
    router = Router(
        parameters,
        algorithm,
        objective,
        max_quote_age=max_quote_age,
        exclude_venues=exclude_venues,
        protect=protect,
        policy=directory.policy if policy is None else policy,
    )
    known = getattr(feed, "instruments", instruments)
    if instruments is not None and known != instruments:
        raise InputError("instruments are other ones than those that the feed was read with")
    run = Routing(orders, router, directory, threads, known or SHARES)
    return run.joined(list(run.answers([feed] if isinstance(feed, Batch) else feed)))


class Routing:
    """Orders and the books that they are routed on, as a feed goes by.

    Attributes
    ----------
    symbols : tuple of str
        Names by the numbers that answers have.
    instruments : Instruments
    venues : list of (position, venue_id)
        By the columns of an answer's ``allocation`` and ``status``; more come with time.
    """

    def __init__(
        self,
        orders: Order | Iterable[Order],
        router: Router,
        directory: VenueDirectory | None,
        threads: int,
        instruments: Instruments = SHARES,
    ) -> None:
        if router.algorithm == "cont_kukanov":
            raise InputError(
                "algorithm is 'cont_kukanov': it learns from row to row, and sor.Router alone routes by it"
            )
        self.orders = [orders] if isinstance(orders, Order) else list(orders)
        for i, order in enumerate(self.orders):
            if not isinstance(order, Order):
                raise InputError(f"orders[{i}] is {order!r:.200}: it must be an Order")
        if not self.orders:
            raise InputError("orders is empty: at least one is needed")
        self.symbols: tuple[str, ...] = ()
        self.venues: list[tuple[Any, str]] = []
        self._router = router
        self._directory = VenueDirectory.load() if directory is None else directory
        self._threads = whole_number("threads", threads, 1, MAX_THREADS)
        # Then the router is asked for each answer.
        self._asks = router.protect != "none" or any(entry.rules for entry in self._directory)
        self._asked: list[_Asked] = []  # for columns yet to come
        self._own: dict[tuple[int, str], Order] = {}  # orders with symbols, by their numbers
        self._sells = np.array([order.side == "sell" for order in self.orders], np.uint8)
        self.instruments = instruments
        # Of an order for any symbol they are known with the symbol.
        named = [order.symbol != ANY or not instruments for order in self.orders]
        sizes = [
            self._size(order, order.symbol) if known else 0 for order, known in zip(self.orders, named, strict=True)
        ]
        self._sizes = np.array(sizes, np.int64)
        self._layouts: dict[tuple[Any, ...], int] = {}  # positions of a book's venues
        self._columns: list[list[int]] = []  # of the answers, by layout
        self._columns_of = np.empty((0, 0), np.int64)  # the same as an array, see `_columns_by_layout`
        self._depth = 0  # of the books, once there are some
        self._rows = 0  # of all batches before
        self._numbers: dict[str, int] = {}  # of symbols
        self._symbol_of = np.empty(0, np.int32)  # by row of the batch

    def _size(self, order: Order, symbol: str) -> int:
        """An order's size: shares, or lots of the symbol's instrument."""
        instrument = self.instruments.get(symbol)
        if order.instrument not in (None, instrument) and order.symbol != ANY:
            raise InputError(f"instrument is {order.instrument!r}: it must be that of {symbol}, {instrument!r}")
        size = whole_number if instrument is None else instrument.lots
        return size("quantity", order.quantity, 1)

    @property
    def currencies(self) -> list[str]:
        """What the dollars of each symbol are, by its number."""
        every = (self.instruments.get(symbol) for symbol in self.symbols)
        return [one.currency if one else DOLLARS for one in every]

    def answers(self, feed: Iterable[Batch]) -> Iterator[dict[str, NDArray[Any]]]:
        """Columns of the answers to some rows after another's; those of venues may become more."""
        for one in feed:
            batch = numbered(one, self._numbers)
            if not self._depth:
                self._begin(batch.depth)
            if batch.depth < self._depth:
                raise InputError(f"a batch has {batch.depth} levels, and one before it had {self._depth}")
            self.symbols, self._symbol_of = batch.symbols, batch.symbol
            yield from self._batch_asked(batch) if self._asks else self._batch(batch)
            self._rows += len(batch)

    def _begin(self, depth: int) -> None:
        self._depth = depth = min(depth, self._router.depth)
        self._books = Books(self._directory, "publishers", depth, instruments=self.instruments)
        orders = [(order, None if order.symbol == ANY else order.symbol) for order in self.orders]
        self._follower = many.Follower(orders, self._router.max_quote_age, self._router.excluded, depth)
        self._new_looks(depth, 1)

    def _new_looks(self, width: int, venues: int) -> None:
        most = max(LOOKS, len(self.orders))
        self._taken: dict[str, NDArray[Any]] = {
            "shown": np.zeros((most, width, 4)),
            "venues": np.zeros((most, width), np.int32),
            "counts": np.zeros(most, np.int64),
            "times": np.zeros(most, np.int64),
            "statuses": np.empty((most, venues), np.uint8),
            "best": np.empty((most, 3)),
            "marks": np.zeros((most, 5), np.int64),
        }
        self._looks = many.Looks({name: array.data for name, array in self._taken.items()})
        self._clear(most)

    def _clear(self, rows: int) -> None:
        self._taken["best"][:rows] = np.nan
        self._looks.rows = 0

    def _batch(self, batch: Batch) -> Iterator[dict[str, NDArray[Any]]]:
        follower, books = self._follower, self._books
        follower.begin({name: array.data for name, array in batch.columns().items()})
        new = len(batch.symbols) - len(follower.books)
        follower.books += [None] * new
        follower.layouts += [0] * new
        at = 0
        while at < len(batch):
            at = follower.run(at, self._looks)
            if at == len(batch):
                break
            if self._looks.rows + len(self.orders) > self._looks.most:
                yield self._solved()
                continue
            book = books.apply(batch.update(at, self._depth))
            self._know(int(batch.publisher[at]), int(batch.time[at]), int(batch.symbol[at]))
            width = len(book.quotes) * book.depth
            if width > self._looks.width:
                if self._looks.rows:
                    yield self._solved()
                self._new_looks(width, len(book.quotes))
            follower.look(at, self._looks, bool(book.doubts))
            at += 1
        if self._looks.rows:
            yield self._solved()

    def _know(self, publisher: int, time: int, symbol: int) -> None:
        """Let the follower know of what the books know now."""
        books, follower = self._books, self._follower
        book = books.by_symbol[self.symbols[symbol]]
        follower.books[symbol] = book
        follower.layouts[symbol] = self._layout(book)
        if publisher in books.publishers:
            entry, rates, start, end, _ = books.venue(publisher, time)
            follower.known[publisher] = many.Known(entry.publisher_ids[0], entry.venue_id, rates, start, end)

    def _layout(self, book: Book) -> int:
        """The number of a book's venues in their order."""
        positions = tuple(quote.order for quote in book.quotes)
        layout = self._layouts.setdefault(positions, len(self._layouts))
        if layout == len(self._columns):
            self._columns.append([self._column(quote) for quote in book.quotes])
        return layout

    def _column(self, quote: Any) -> int:
        venue = quote.order, quote.venue_id
        if venue not in self.venues:
            self.venues.append(venue)
        return self.venues.index(venue)

    # --- one by one

    def _batch_asked(self, batch: Batch) -> Iterator[dict[str, NDArray[Any]]]:
        for at in range(len(batch)):
            book = self._books.apply(batch.update(at, self._depth))
            symbol, layout = int(batch.symbol[at]), self._layout(book)
            for number, order in enumerate(self.orders):
                if order.symbol in (ANY, book.symbol):
                    result = self._router.route(self._order_for(book.symbol, number), book)
                    self._asked.append(_Asked(at + self._rows, number, book.time, symbol, layout, result))
            if len(self._asked) >= LOOKS:
                yield self._told()
        if self._asked:
            yield self._told()

    def _order_for(self, symbol: str, number: int) -> Order:
        own = self._own.get((number, symbol))
        if own is None:
            one, instrument = self.orders[number], self.instruments.get(symbol)
            own = Order(symbol, one.side, one.quantity, one.limit_price, instrument=instrument)
            self._own[number, symbol] = own
        return own

    def _told(self) -> dict[str, NDArray[Any]]:
        """The columns of the results, which are then forgotten."""
        asked, self._asked = self._asked, []
        results = [one.result for one in asked]
        amount = np.float64 if self.instruments else np.int64
        shape = len(asked), len(self.venues)
        allocation, status = np.zeros(shape, amount), np.full(shape, ABSENT, np.uint8)
        for i, (one, result) in enumerate(zip(asked, results, strict=True)):
            columns = self._columns[one.layout]
            allocation[i, columns] = result.allocation
            status[i, columns] = [STATUSES.index(venue.status) for venue in result.venues]

        def of(kind: type, numbers: Iterable[Any]) -> NDArray[Any]:
            """NaN for None, where they are doubles."""
            return np.array(list(numbers), kind)

        return {
            "row": of(np.int64, (one.row for one in asked)),
            "order": of(np.int32, (one.order for one in asked)),
            "time": of(np.int64, (one.time for one in asked)),
            "symbol": of(np.int32, (one.symbol for one in asked)),
            "bid": of(np.float64, (one.book.bid for one in results)),
            "ask": of(np.float64, (one.book.ask for one in results)),
            "mid": of(np.float64, (one.reference_price for one in results)),
            "state": of(np.uint8, (MARKET_STATES.index(one.book.state) for one in results)),
            "allocation": allocation,
            "status": status,
            "executed": of(amount, (one.execution_summary.total_executed for one in results)),
            "fill_rate": of(np.float64, (one.execution_summary.fill_rate for one in results)),
            "cash_spent": of(np.float64, (one.execution_summary.cash_spent for one in results)),
            "total_cost": of(np.float64, (one.total_cost for one in results)),
            "objective_value": of(np.float64, (one.objective_value for one in results)),
            "shortfall": of(np.float64, (one.shortfall.dollars for one in results)),
            "shortfall_bps": of(np.float64, (one.shortfall.bps for one in results)),
            "warnings": of(np.uint16, (warnings_of(one.warnings) for one in results)),
        }

    # --- answers

    def _solved(self) -> dict[str, NDArray[Any]]:
        """The answers to the looks taken, which are then forgotten."""
        n = self._looks.rows
        taken = {name: array[:n] for name, array in self._taken.items()}
        row, order, _, state, warnings = taken["marks"].T.copy()
        symbol = self._symbol_of[row]
        sizes, steps = self._in_lots(order, symbol) if self.instruments else (self._sizes[order], None)
        sells = self._sells[order]
        splits, total, value, more = self._solve(taken, sizes, sells, steps)
        allocation = np.zeros((n, len(self.venues)), np.int64)
        status = np.full((n, len(self.venues)), ABSENT, np.uint8)
        executed, sums = np.empty(n), np.full((n, 3), np.nan)
        columns_of = self._columns_by_layout()
        answers = (columns_of, splits, sells, taken["best"], allocation, executed, sums)
        looks = (taken[name].data for name in ("shown", "venues", "counts", "marks"))
        many.tally(*looks, *(one.data for one in answers))
        many.by_venue(*(one.data for one in (taken["marks"], columns_of, taken["statuses"], status)))
        for costs in (total, value):
            many.round_all(costs.data)
        columns = {
            "row": row + self._rows,
            "order": order.astype(np.int32),
            "time": taken["times"].copy(),
            "symbol": symbol.copy(),
            "bid": taken["best"][:, 0].copy(),
            "ask": taken["best"][:, 1].copy(),
            "mid": taken["best"][:, 2].copy(),
            "state": state.astype(np.uint8),
            "allocation": allocation,
            "status": status,
            "executed": executed.astype(np.int64),
            "fill_rate": executed / sizes,
            "cash_spent": sums[:, 0].copy(),
            "total_cost": total,
            "objective_value": value,
            "shortfall": sums[:, 1].copy(),
            "shortfall_bps": sums[:, 2].copy(),
            "warnings": (warnings | more).astype(np.uint16),
        }
        self._clear(n)
        if self.instruments:
            self._bring_outside(columns)
        return columns

    def _in_lots(
        self, orders: NDArray[np.int64], symbols: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sizes of the looks' orders and the grids of their splits, in lots where the symbol has an instrument."""
        pairs, which = np.unique(np.stack([orders, symbols], axis=1), axis=0, return_inverse=True)
        sizes, steps = np.empty(len(pairs), np.int64), np.empty(len(pairs), np.int64)
        step = self._router.parameters.step
        for i, (order, symbol) in enumerate(pairs.tolist()):
            instrument = self.instruments.get(self.symbols[symbol])
            sizes[i] = self._size(self.orders[order], self.symbols[symbol])
            steps[i] = step if instrument is None else instrument.grid(step)
        return sizes[which.reshape(-1)], steps[which.reshape(-1)]

    def _bring_outside(self, columns: dict[str, NDArray[Any]]) -> None:
        """Quantities in units, and costs in whole dollars of their currency, as in `sor.routing.outside`."""
        for name in ("allocation", "executed"):
            columns[name] = columns[name].astype(np.float64)
        for symbol in np.unique(columns["symbol"]):
            instrument = self.instruments.get(self.symbols[symbol])
            if instrument is None:
                continue
            units, lots = instrument.ratio
            rows = np.flatnonzero(columns["symbol"] == symbol)
            for name in ("allocation", "executed"):
                columns[name][rows] = columns[name][rows] * units / lots
            for name in ("cash_spent", "total_cost", "objective_value", "shortfall"):
                dollars = columns[name][rows] * units / lots
                many.round_all(dollars.data)
                columns[name][rows] = dollars

    def _solve(
        self,
        taken: dict[str, NDArray[Any]],
        sizes: NDArray[np.int64],
        sells: NDArray[np.uint8],
        steps: NDArray[np.int64] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Shares per row of quotes, their cost with true prices, the value that was minimised, and more warnings."""
        quotes, counts, mid = taken["shown"], taken["counts"], taken["best"][:, 2]
        quotes = np.ascontiguousarray(quotes[:, : counts.max(initial=0)])  # most often all of it
        splits = np.zeros(quotes.shape[:2], np.int64)
        total, value, warnings = np.empty(len(sizes)), np.empty(len(sizes)), np.zeros(len(sizes), np.int64)
        references = np.zeros(len(sizes))
        if self._router.objective == "sweep":
            self._in_parts(core.sweep_many, quotes, sizes, (), references, splits, total)
            return splits, total, total.copy(), warnings
        if self._router.objective == "shortfall":
            unmeasured = np.isnan(mid)
            warnings[unmeasured] = Warnings.NO_MID
            counts = np.where(unmeasured, 0, counts)
            references = np.where(unmeasured, 0.0, np.where(sells, -mid, mid))
        for count, step, rows in self._alike(counts, steps):
            some, size, reference = np.ascontiguousarray(quotes[rows, :count]), sizes[rows], references[rows]
            split, cost = np.zeros((len(rows), count), np.int64), np.empty(len(rows))
            if count:
                self._in_parts(core.allocate_many, some, size, (step,), reference, split, cost)
                warnings[rows] |= np.where(self._idle(some, reference), Warnings.IDLE, 0)
                value[rows] = cost
            if not count or self._router.objective == "shortfall":
                core.cost_many(split.astype(float), some, size, *self._penalties(), cost)
            if not count:
                value[rows] = cost
            splits[rows, :count], total[rows] = split, cost
        return splits, total, value, warnings

    def _alike(
        self, counts: NDArray[np.int64], steps: NDArray[np.int64] | None
    ) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
        """Looks with as many venues (one that shows nothing is not there, as it could be rested at) and one grid."""
        for count in np.unique(counts):
            rows = np.flatnonzero(counts == count)
            if steps is None:
                yield int(count), int(self._router.parameters.step), rows
                continue
            for step in np.unique(steps[rows]):
                yield int(count), int(step), rows[steps[rows] == step]

    def _penalties(self) -> tuple[float, float, float]:
        one = self._router.parameters
        return one.lambda_over, one.lambda_under, one.theta_queue

    def _in_parts(
        self,
        solve: Any,
        quotes: NDArray[Any],
        sizes: NDArray[Any],
        grid: tuple[int, ...],
        references: NDArray[Any],
        *answers: NDArray[Any],
    ) -> None:
        def of(part: slice) -> None:
            given = quotes[part], sizes[part], *self._penalties(), *grid, references[part]
            solve(*given, *(answer[part] for answer in answers))

        in_threads(len(sizes), self._threads, of)

    def _idle(self, quotes: NDArray[Any], references: NDArray[Any]) -> NDArray[np.bool_]:
        """As `sor.routing.router.idle_warning`."""
        trading = (quotes[:, :, 0] - references[:, None] + quotes[:, :, 2]).min(axis=1)
        least = trading + quotes[:, :, 3].max(axis=1) - self._router.parameters.theta_queue
        return np.asarray(self._router.parameters.lambda_under < least)

    def _columns_by_layout(self) -> NDArray[np.int64]:
        """By layout and place in a book, the column of the venue there; -1 behind the last one."""
        if len(self._columns_of) < len(self._columns):
            width = max(map(len, self._columns))
            self._columns_of = np.array([one + [-1] * (width - len(one)) for one in self._columns], np.int64)
        return self._columns_of

    def nothing(self) -> dict[str, NDArray[Any]]:
        """The columns of no answers, where a feed had no rows."""
        self._begin(1)
        return self._told() if self._asks else self._solved()

    def joined(self, answers: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """All answers in one, the venues in the order of `sor.RoutingResult`, with the names that numbers stand for."""
        answers = answers or [self.nothing()]
        columns = {name: np.concatenate([one[name] for one in answers]) for name in answers[0] if name not in WIDE}
        order = sorted(range(len(self.venues)), key=lambda i: self.venues[i][0])
        for name, nothing in WIDE.items():
            wide = np.empty((len(columns["row"]), len(order)), answers[0][name].dtype)
            at = 0
            for one in answers:
                part = one[name]
                missing = len(order) - part.shape[1]  # venues that came later
                part = np.pad(part, ((0, 0), (0, missing)), constant_values=nothing) if missing else part
                np.take(part, order, axis=1, out=wide[at : at + len(part)], mode="clip")
                at += len(part)
            columns[name] = wide
        columns["symbols"] = np.array(self.symbols, np.str_)
        if self.instruments:
            columns["currencies"] = np.array(self.currencies, np.str_)
        columns["venues"] = np.array([self.venues[i][1] for i in order], np.str_)
        return columns | {"states": np.array(MARKET_STATES), "statuses": np.array(STATUSES)}


class _Asked(NamedTuple):
    """A result with its place."""

    row: int
    order: int
    time: int
    symbol: int
    layout: int
    result: RoutingResult


def warnings_of(sentences: list[str]) -> int:
    """Bits of `Warnings` for what a result warns of."""
    return sum({bit for bit, words in SAID.items() for sentence in sentences if words in sentence})


SAID = {  # words of the sentence by which a result says what a bit says
    Warnings.CROSSED: "market crossed: ",
    Warnings.LOCKED: "market locked: ",
    Warnings.NOTHING: ": no venue shows a usable ",
    Warnings.DOUBTED: ": the feed says that ",
    Warnings.NO_MID: "no mid, as one side of the market shows nothing",
    Warnings.IDLE: "with these penalties not trading is cheaper",
    Warnings.RULES: " are not taken by rules (",
    Warnings.UNPROVEN: "is not proven to be the cheapest",
    Warnings.TRADED_THROUGH: " is traded through: ",
    Warnings.UNPROTECTED: "no quotation is protected",
}
WIDE = {"allocation": 0, "status": ABSENT}  # columns with a number for each venue, and that of one not there yet
