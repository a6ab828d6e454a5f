"""The commands: they parse, call and print."""

from __future__ import annotations

import argparse
import contextlib
import io
import platform
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from sor import kernels
from sor.errors import Exit
from sor.service import logs, outputs, rules
from sor.service import settings as config
from sor.service.logs import report
from sor.service.options import POSITIONAL, Option
from sor.service.outputs import say
from sor.service.run import perform, status_of


class Command(NamedTuple):
    help: str
    run: Callable[[Any], int]


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run a command; returns its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: the process's own, without its name.
    command : str, optional
        A fixed command, for scripts that are one.
    """
    outputs.hold_standard_streams()
    logs.configure_report("text")
    argv = list(sys.argv[1:] if argv is None else argv)
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):  # argparse drops what a stream does not take
            words = [command, *argv] if command else argv
            arguments = vars(_parser(command, words).parse_args(words))
    except SystemExit:  # of --help, or of a wrong call
        if not told.getvalue():
            raise
        return perform("--help", config.LogSettings, lambda _: _print(told.getvalue()))
    name = arguments.pop("command")
    logs.configure_report(config.log_format(name, arguments))
    return perform(name, lambda: _settings(name, arguments), COMMANDS[name].run)


def _print(text: str) -> int:
    say(text.removesuffix("\n"))
    return Exit.DONE


def _settings(name: str, arguments: dict[str, str]) -> Any:
    settings = config.load(name, arguments)
    if name == "check":  # which tells the rest that is wrong among what else it finds
        rules.check_sending(settings)
    else:
        rules.refuse(settings)
    return settings


def _parser(fixed: str | None, words: Sequence[str]) -> argparse.ArgumentParser:
    """Of all commands, with the options of those that are among the words: the others' would take longer to make."""
    parser = argparse.ArgumentParser(
        prog=None if fixed else "sor",
        description="A smart order router: splits an order over trading venues at the least cost.",
        epilog="Every option may also be given as the environment variable in brackets; flags win.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help, argument_default=argparse.SUPPRESS)
        found = config.options_of(name) if name in words else []
        for option in found:
            _add_option(sub, option)
        unflagged = [f"{option.variable} ({option.help})" for option in found if option.flag is None]
        sub.epilog = f"By variable only: {', '.join(unflagged)}." if unflagged else None
    return parser


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    default = "" if option.default in (None, (), False) else f", default {option.default}"
    text = (f"{option.help} [{option.variable}{default}]" if option.variable else option.help).replace("%", "%%")
    if option.flag == POSITIONAL:
        parser.add_argument(option.field, metavar=POSITIONAL, nargs="*" if option.many else "?", help=text)
    elif option.is_switch:
        group = parser.add_mutually_exclusive_group()
        group.add_argument(option.name, dest=option.field, action="store_const", const="true", help=text)
        no = option.name.replace("--", "--no-", 1)
        group.add_argument(no, dest=option.field, action="store_const", const="false", help=argparse.SUPPRESS)
    elif option.flag is not None:
        parser.add_argument(option.name, dest=option.field, metavar=option.field.upper(), help=text)


# --- commands: their modules are imported where they are used ---------------------------------------------------------


def demo(settings: config.LogSettings) -> int:
    from sor.service.demo import run_test_harness

    shown = io.StringIO()
    run_test_harness(shown)
    return _print(shown.getvalue())


def replay(settings: config.ReplaySettings) -> int:
    from sor.service.replay import replay

    return replay(settings)


def produce(settings: config.ProduceSettings) -> int:
    from sor.service.produce import produce
    from sor.stream.summary import total

    done = produce(settings)
    line = f"sent {done.confirmed:,} messages to {settings.topic}, all acknowledged; {done.bad:,} bad rows"
    if done.left_out:
        line += f"; left out {total(done.left_out)}"
    if settings.resume:
        line += f"; {done.there:,} were there already"
    if settings.speed > 0:
        line += f"; at most {1000 * done.latest:.1f} ms after they were due"
    report.info(line)
    if not done.finished and not settings.loop:
        return Exit.INTERRUPTED
    return Exit.BAD_MESSAGES if done.bad and not settings.allow_bad else Exit.DONE


def consume(settings: config.ConsumeSettings) -> int:
    from sor.service.consume import consume

    return consume(settings)


def order(settings: config.OrderSettings) -> int:
    from sor.service.order import send_order

    return send_order(settings)


def check(settings: config.CheckSettings) -> int:
    from sor.service.check import check

    status = Exit.DONE
    for finding in check(settings):
        say(finding.line)
        if finding.error is not None and status == Exit.DONE:
            status = status_of(finding.error)
    return status


def explain(settings: config.ExplainSettings) -> int:
    from sor.service.explain import explain

    return explain(settings)


def info(settings: config.InfoSettings) -> int:
    from sor.service.info import info

    return info(settings)


def convert(settings: config.ConvertSettings) -> int:
    from sor.service.convert import convert

    return convert(settings)


def simulate(settings: config.SimulateSettings) -> int:
    from sor.service.simulate import simulate

    return simulate(settings)


def backtest(settings: config.BacktestSettings) -> int:
    from sor.service.backtest import backtest

    return backtest(settings)


def tune(settings: config.TuneSettings) -> int:
    from sor.service.tune import tune

    return tune(settings)


def paper(settings: config.PaperSettings) -> int:
    from sor.models.paper import report
    from sor.report.plots import write

    for line in report(settings.seed, settings.training_samples):
        say(line)
    if settings.folder is not None:
        for written in write(settings.folder, settings.seed, settings.training_samples):
            say(f"wrote {written}")
    return Exit.DONE


def version(settings: config.VersionSettings) -> int:
    say(f"sor {metadata.version('sor')}")
    say(f"kernels: {kernels.BACKEND} ({kernels.WHY})")
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {metadata.version(name)}" for name in ("numpy", "msgspec", "kafka-python")]
    say(", ".join(parts))
    return Exit.DONE


COMMANDS = {
    "demo": Command("three venues, both allocators, and the trap in the penalties", demo),
    "replay": Command("route every row of a recorded feed", replay),
    "produce": Command("send a recorded feed to a Kafka topic, keyed by symbol", produce),
    "consume": Command("route every message of a Kafka topic", consume),
    "order": Command("send an order to a topic of orders, and print its answer", order),
    "check": Command("try what a run needs, sending nothing: settings, venues, brokers, topics, permissions", check),
    "explain": Command("why each venue got what it got: a table of one result", explain),
    "info": Command("what is in recorded feeds: symbols, venues, times, gaps, the state of the market", info),
    "convert": Command("write recorded feeds as Parquet, in columns", convert),
    "simulate": Command("make a market of which everything is known, and write its feed and the truth", simulate),
    "backtest": Command("what orders would have cost, worked in several ways on recorded feeds", backtest),
    "tune": Command("which parameters would have been cheapest, and whether they are on days after", tune),
    "paper": Command("the tables of Cont and Kukanov's paper beside ours, and studies of their model", paper),
    "version": Command("the versions, and which kernels are in use and why", version),
}
