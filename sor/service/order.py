"""`sor order`: one order to a topic of orders, and its answer."""

from __future__ import annotations

import uuid
from decimal import Decimal
from functools import partial

import msgspec

from sor.errors import DataError, Exit, InputError
from sor.market.instruments import Instruments
from sor.service.logs import report
from sor.service.outputs import say
from sor.service.settings import OrderSettings
from sor.stream.orders import OrderMessage, is_answer, is_rejection, order_of


def send_order(settings: OrderSettings) -> int:
    """Send an order, and print its answer; returns an exit status."""
    quantity = settings.quantity or 0
    asked = OrderMessage(
        settings.order_id or str(uuid.uuid4()),
        str(settings.symbol),
        str(settings.side),
        float(quantity) if isinstance(quantity, Decimal) else quantity,
        settings.limit_price,
        settings.algorithm,
        settings.objective,
    )
    value = msgspec.json.encode(asked)
    try:
        order_of(value, Instruments.load(settings.instruments))
    except DataError as error:
        raise InputError(str(error)) from None
    from sor.kafka.ask import ask

    place, answer = ask(
        settings.connection,
        (str(settings.orders_topic), asked.symbol.encode(), value),
        str(settings.results_topic),
        partial(is_answer, asked),
        settings.answer_timeout,
    )
    if answer is None:
        where = f"{place.topic}:{place.partition}:{place.offset}"
        seconds = settings.answer_timeout
        report.error("sor order: no answer to %s (%s) within %g s; one may still come", asked.id, where, seconds)
        return Exit.NO_ANSWER
    say(msgspec.json.format(answer, indent=2 if settings.pretty else -1).decode())
    return Exit.REJECTED if is_rejection(answer) else Exit.DONE
