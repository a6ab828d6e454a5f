"""`sor explain`: why each venue got what it got, of one result among those that a run has written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from sor.errors import Exit, InputError
from sor.market.lines import Blocks, split_lines, unfinished
from sor.market.packed import Unpacked
from sor.routing.explained import Told, explanation
from sor.service.outputs import say
from sor.service.settings import ExplainSettings
from sor.stream.orders import Rejection, is_rejection

_results = msgspec.json.Decoder(Told)
_rejections = msgspec.json.Decoder(Rejection)


class Line(NamedTuple):
    """A line of a file of results, and whether its end has been seen."""

    place: str
    text: bytes
    whole: bool


def explain(settings: ExplainSettings) -> int:
    """Print one result of a file as a table."""
    path, symbol, row = str(settings.results), settings.symbol, settings.row
    count, found = 0, None
    for line in _lines(path):
        if symbol is None or _symbol_of(_answer(line)) == symbol:
            count, found = count + 1, line
            if count == row:
                break
    of_it = "" if symbol is None else f" of {symbol!r}"
    if found is None:
        raise InputError(f"{path} has no results{of_it}")
    if row is not None and count < row:
        raise InputError(f"--row is {row}: {path} has {count:,} results{of_it}")
    say(_told(_answer(found)))
    return Exit.DONE


def explained(value: bytes) -> str:
    """What is told of a result as JSON, or of the rejection of an order."""
    return _told(_decoded(value))


def _lines(path: str) -> Iterator[Line]:
    file = Unpacked(path)
    try:
        texts = ((text, block.endswith(b"\n")) for block in Blocks(file) for text in split_lines(block))
        for number, (text, whole) in enumerate(texts, 1):
            if text.strip():
                yield Line(f"{path}, line {number}", text, whole)
    finally:
        file.close()


def _answer(line: Line) -> Told | Rejection:
    try:
        return _decoded(line.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = error if line.whole else unfinished()
        raise InputError(f"{line.place}: it must be a result, one line of JSON (without --pretty): {why}") from None


def _decoded(value: bytes) -> Told | Rejection:
    return _rejections.decode(value) if is_rejection(value) else _results.decode(value)


def _symbol_of(answer: Told | Rejection) -> str | None:
    return answer.symbol if isinstance(answer, Told) else answer.order.symbol


def _told(answer: Told | Rejection) -> str:
    if isinstance(answer, Told):
        return explanation(answer)
    name, place = answer.order, answer.source
    called = "an order" if name.id is None else f"order {name.id}"
    of_it = "" if name.symbol is None else f" of {name.symbol}"
    where = f"{place.topic}:{place.partition}:{place.offset}"
    return f"{called}{of_it} ({where}) was rejected, so no venue got anything: {answer.reason}"
