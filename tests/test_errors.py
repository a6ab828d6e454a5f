"""Errors go from process to process, and are copied, with all that they say."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from sor import DataError, InputError, SorError, StreamError
from sor.errors import AbortedError, ConnectError, FencedError, LeftOut, RefusedError

ERRORS = [
    SorError("x"),
    InputError("x is 1: it must be 2"),
    DataError("bid is -1: not a price", "price"),
    LeftOut("tr_corr is 08: cancelled", "cancelled"),
    StreamError("gone", retriable=True),
    StreamError("gone", retriable=False),
    ConnectError("nobody"),
    AbortedError("void", unsure=True),
    FencedError("replaced", retriable=False),
    RefusedError("too large"),
]
SPAWN = multiprocessing.get_context("spawn")


def tree(kind: type[BaseException] = SorError) -> Iterator[type[BaseException]]:
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def facts(error: BaseException) -> tuple[Any, ...]:
    return type(error), str(error), error.args, vars(error)


def fail(number: int) -> None:
    raise ERRORS[number]


def test_every_kind_is_among_them() -> None:
    assert {type(error) for error in ERRORS} == set(tree())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "same",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda error, p=p: pickle.loads(pickle.dumps(error, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),  # noqa: S301
    ],
)
def test_copies_and_pickles_say_the_same(error: SorError, same: Callable[[SorError], SorError]) -> None:
    other = same(error)
    assert facts(other) == facts(error)
    assert other is not error
    assert other.status is error.status


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_they_come_out_of_other_processes() -> None:
    """Where an error cannot be unpickled, a pool hangs for ever, and an executor says that it is broken."""
    with SPAWN.Pool(1) as pool:
        for number, wanted in enumerate(ERRORS):
            with pytest.raises(SorError) as caught:
                pool.apply_async(fail, (number,)).get(timeout=60)
            assert facts(caught.value) == facts(wanted)
    with ProcessPoolExecutor(1, SPAWN) as executor:
        for number, wanted in enumerate(ERRORS):
            assert facts(executor.submit(fail, number).exception(60)) == facts(wanted)  # type: ignore[arg-type]
