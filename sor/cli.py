"""The commands: they parse, call and print."""

from __future__ import annotations

import argparse
import platform
import sys
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata

import msgspec

from sor import kernels
from sor.errors import DataError, Exit, InputError
from sor.service import demo, logs
from sor.service import settings as config
from sor.service.logs import report
from sor.service.run import perform, status_of
from sor.service.settings import Settings
from sor.stream.orders import OrderMessage, is_answer, is_rejection, order_of

# --- entry -----------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run a command; returns its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: the process's own, without its name.
    command : str, optional
        A fixed command, for scripts that are one.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = vars(_parser(command).parse_args([command, *argv] if command else argv))
    name = arguments.pop("command")
    path = arguments.pop("file", None)
    logs.configure_report(config.log_format(name, arguments))
    return perform(name, lambda: config.load(name, arguments), lambda settings: COMMANDS[name](settings, path))


def _parser(fixed: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=None if fixed else "sor",
        description="A smart order router: splits an order over trading venues at the least cost.",
        epilog="Every option may also be given as the environment variable in brackets; flags win.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        summary = (function.__doc__ or "").strip().splitlines()[0]
        sub = commands.add_parser(name, help=summary, description=summary, argument_default=argparse.SUPPRESS)
        if name in ("replay", "produce"):
            sub.add_argument(
                "file",
                metavar="FILE",
                nargs="?",
                help="CSV or JSON Lines, plain or .gz; - is standard input [CSV_FILE, default sample.csv]",
            )
        if name == "check":
            sub.add_argument(
                "file", metavar="FILE", nargs="?", help="check what `sor produce FILE` needs; else consume"
            )
        for option in config.options_of(name):
            _add_option(sub, option)
        unflagged = [f"{option.variable} ({option.help})" for option in config.options_of(name) if option.flag is None]
        sub.epilog = f"By variable only: {', '.join(unflagged)}." if unflagged else None
    return parser


def _add_option(parser: argparse.ArgumentParser, option: config.Option) -> None:
    default = "" if option.default in (None, (), False) else f", default {option.default}"
    text = f"{option.help} [{option.variable}{default}]".replace("%", "%%")
    if option.is_switch:
        group = parser.add_mutually_exclusive_group()
        group.add_argument(option.name, dest=option.field, action="store_const", const="true", help=text)
        no = option.name.replace("--", "--no-", 1)
        group.add_argument(no, dest=option.field, action="store_const", const="false", help=argparse.SUPPRESS)
    elif option.field != "csv_file" and option.flag is not None:  # FILE is its flag
        parser.add_argument(option.name, dest=option.field, metavar=option.field.upper(), help=text)


# --- commands --------------------------------------------------------------------------------------------------------


def demonstrate(settings: Settings, path: str | None) -> int:
    """three venues, both allocators, and the trap in the penalties"""
    demo.run_test_harness()
    return Exit.DONE


def replay(settings: Settings, path: str | None) -> int:
    """route every row of a recorded feed"""
    from sor.service.replay import replay

    return replay(settings, path)


def consume(settings: Settings, path: str | None) -> int:
    """route every message of a Kafka topic"""
    from sor.service.consume import consume

    return consume(settings)


def order(settings: Settings, path: str | None) -> int:
    """send an order to a topic of orders, and print its answer"""
    for name in ("symbol", "side", "quantity", "orders_topic", "results_topic"):
        if getattr(settings, name) is None:
            raise InputError(f"--{name.replace('_', '-')} is missing: an order needs it")
    asked = OrderMessage(
        settings.order_id or str(uuid.uuid4()),
        str(settings.symbol),
        settings.side,
        settings.quantity or 0,
        settings.limit_price,
        settings.algorithm,
        settings.objective,
    )
    value = msgspec.json.encode(asked)
    try:
        order_of(value)
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
    print(msgspec.json.format(answer, indent=2 if settings.pretty else -1).decode())
    return Exit.REJECTED if is_rejection(answer) else Exit.DONE


def produce(settings: Settings, path: str | None) -> int:
    """send a recorded feed to a Kafka topic, keyed by symbol"""
    from sor.service import produce as producing

    done = producing.produce(settings, path or settings.csv_file)
    line = f"sent {done.confirmed:,} messages to {settings.topic}, all acknowledged; {done.bad:,} bad rows"
    if settings.resume:
        line += f"; {done.there:,} were there already"
    if settings.speed > 0:
        line += f"; at most {1000 * done.latest:.1f} ms after they were due"
    report.info(line)
    if not done.finished and not settings.loop:
        return Exit.INTERRUPTED
    return Exit.BAD_MESSAGES if done.bad and not settings.allow_bad else Exit.DONE


def check(settings: Settings, path: str | None) -> int:
    """try what a run needs, sending nothing: settings, venues, brokers, topics, permissions"""
    from sor.service import check as checking

    status = Exit.DONE
    for finding in checking.check(settings, path):
        print(finding.line, flush=True)
        if finding.error is not None and status == Exit.DONE:
            status = status_of(finding.error)
    return status


def paper(settings: Settings, path: str | None) -> int:
    """the tables of Cont and Kukanov's paper beside ours, and studies of their model"""
    from sor.models.paper import report
    from sor.report.plots import write

    for line in report(settings.seed, settings.training_samples):
        print(line, flush=True)
    if settings.folder is not None:
        for written in write(settings.folder, settings.seed, settings.training_samples):
            print(f"wrote {written}", flush=True)
    return Exit.DONE


def version(settings: Settings, path: str | None) -> int:
    """the versions, and which kernels are in use and why"""
    print(f"sor {metadata.version('sor')}")
    print(f"kernels: {kernels.BACKEND} ({kernels.WHY})")
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {metadata.version(name)}" for name in ("numpy", "msgspec", "kafka-python")]
    print(", ".join(parts))
    return Exit.DONE


COMMANDS: dict[str, Callable[[Settings, str | None], int]] = {
    "demo": demonstrate,
    "replay": replay,
    "produce": produce,
    "consume": consume,
    "order": order,
    "check": check,
    "paper": paper,
    "version": version,
}
