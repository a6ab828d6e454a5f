"""Settings: flags, variables and defaults, who wins, and what is said about a wrong one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from sor import InputError, cli
from sor.kafka.security import SASL_FIELDS, SSL_FIELDS
from sor.service import rules
from sor.service import settings as config
from sor.service.settings import OPTIONS, load

CLASSIC = {
    "ORDER_SIZE": ("order_size", 5000), "LAMBDA_OVER": ("lambda_over", 0.01), "LAMBDA_UNDER": ("lambda_under", 0.005),
    "THETA_QUEUE": ("theta_queue", 0.002), "STEP": ("step", 100), "GREEDY_L2": ("algorithm", "brute_force"),
    "TOPIC_NAME": ("topic", "market_data"), "CSV_FILE": ("csv_file", "sample.csv"),
    "KAFKA_SERVERS": ("kafka_servers", "localhost:9092"),
}  # fmt: skip
DEFAULTS = dict(CLASSIC.values()) | {
    "side": "buy", "limit_price": None, "objective": "sweep", "max_quote_age": None, "venues": None, "policy": None,
    "exclude_venues": (), "venues_from": None, "symbol": None, "output": None, "pretty": False, "summary": None,
    "allow_bad": False, "dead_letter_file": None, "dead_letter_topic": None, "group": "sor", "start": "earliest",
    "results_topic": None, "max_messages": None, "idle_timeout": None, "speed": 0.0, "loop": False, "log_level": "info",
    "metrics_port": None, "metrics_host": "0.0.0.0", "snapshot_file": None,  # noqa: S104
    "log_format": "text", "security_protocol": "plaintext", **dict.fromkeys([*SASL_FIELDS, *SSL_FIELDS]),
}  # fmt: skip

# Flag: (text, value, another text, another value).
SAMPLES: dict[str, tuple[str, Any, str, Any]] = {
    "--symbols": ("A, B", ("A", "B"), "C", ("C",)),
    "--start": ("2024-08-01T00:00:00Z", 1722470400 * 10**9, "1722470400000000007", 1722470400 * 10**9 + 7),
    "--end": ("2024-08-01T00:00:01Z", 1722470401 * 10**9, "1722470400000000008", 1722470400 * 10**9 + 8),
    "--depth": ("10", 10, "1000", 1000),
    "--by": ("day", "day", "SYMBOL", "symbol"),
    "--date": ("2024-08-02", "2024-08-02", "2025-01-02", "2025-01-02"),
    "--duration": ("10", 10, "23400", 23400),
    "--mics": ("XNAS, ARCX", ("XNAS", "ARCX"), "EDGA", ("EDGA",)),
    "--levels": ("10", 10, "1", 1),
    "--cancellations": ("back", "back", "YOUNG", "young"),
    "--grow": ("0.1", 0.1, "0", 0.0),
    "--hidden": ("0.1", 0.1, "0", 0.0),
    "--jumps": ("0", 0.0, "2.5", 2.5),
    "--jump-ticks": ("1", 1, "10", 10),
    "--jump-delay": ("0.5", 0.5, "2", 2.0),
    "--feed-delay": ("0", 0.0, "0.5", 0.5),
    "--order-size": ("3000", 3000, "7", 7),
    "--side": ("sell", "sell", "BUY", "buy"),
    "--limit-price": ("10.5", 10.5, "1e3", 1000.0),
    "--algorithm": ("greedy_l2", "greedy_l2", "brute_force", "brute_force"),
    "--objective": ("notional", "notional", "shortfall", "shortfall"),
    "--lambda-over": ("0.5", 0.5, "-0.5", -0.5),
    "--lambda-under": ("0.5", 0.5, "0", 0.0),
    "--theta-queue": ("0.5", 0.5, "1", 1.0),
    "--step": ("1", 1, "50", 50),
    "--horizon": ("30", 30, "7200", 7200),
    "--windows": ("100", 100, "1", 1),
    "--min-windows": ("10", 10, "1", 1),
    "--max-quote-age": ("0", 0.0, "2.5", 2.5),
    "--venues": ("a.toml", "a.toml", "b.toml", "b.toml"),
    "--policy": ("a.toml", "a.toml", "b.toml", "b.toml"),
    "--instruments": ("a.toml", "a.toml", "b.toml", "b.toml"),
    "--exclude-venues": ("XNAS, XNYS", ("XNAS", "XNYS"), "BATS", ("BATS",)),
    "--venues-from": ("levels", "levels", "publishers", "publishers"),
    "--symbol": ("AAPL", "AAPL", "MSFT", "MSFT"),
    "--output": ("a", "a", "-", "-"),
    "--summary": ("a", "a", "b", "b"),
    "--dead-letter-file": ("a", "a", "b", "b"),
    "--dead-letter-topic": ("a", "a", "b", "b"),
    "--kafka-servers": ("a:1", "a:1", "b:2", "b:2"),
    "--topic": ("a", "a", "b", "b"),
    "--group": ("a", "a", "b", "b"),
    "--from": ("latest", "latest", "earliest", "earliest"),
    "--results-topic": ("a", "a", "b", "b"),
    "--client": ("confluent", "confluent", "KAFKA-PYTHON", "kafka-python"),
    "--orders-topic": ("a", "a", "b", "b"),
    "--order-wait": ("1", 1.0, "0.5", 0.5),
    "--order-memory": ("60", 60.0, "1.5", 1.5),
    "--quantity": ("1", 1, "500", 500),
    "--id": ("a", "a", "b 2", "b 2"),
    "--row": ("1", 1, "2,000", 2000),
    "--timeout": ("0", 0.0, "2.5", 2.5),
    "--delivery": ("at-least-once", "at-least-once", "exactly-once", "exactly-once"),
    "--instance-id": ("a", "a", "b.c-1_2", "b.c-1_2"),
    "--workers": ("2", 2, "4", 4),
    "--bootstrap-messages": ("0", 0, "500", 500),
    "--max-symbols": ("1", 1, "500", 500),
    "--max-age": ("0", 0.0, "2.5", 2.5),
    "--commit-timeout": ("1", 1.0, "2.5", 2.5),
    "--connect-timeout": ("1", 1.0, "2.5", 2.5),
    "--max-messages": ("1", 1, "2", 2),
    "--idle-timeout": ("1", 1.0, "2.5", 2.5),
    "--heartbeat-file": ("a", "a", "b", "b"),
    "--metrics-port": ("9464", 9464, "1", 1),
    "--metrics-host": ("127.0.0.1", "127.0.0.1", "::", "::"),
    "--snapshot-file": ("a", "a", "b", "b"),
    "--seed": ("0", 0, "7", 7),
    "--training-samples": ("1,000", 1000, "20000", 20_000),
    "--folder": ("a", "a", "b/c", "b/c"),
    "--speed": ("10", 10.0, "0.5", 0.5),
    "--orders": ("5", 5, "1,000", 1000),
    "--every": ("60s", 60.0, "2m", 120.0),
    "--session": ("10:00-15:00", "10:00-15:00", "a", "a"),
    "--timezone": ("UTC", "UTC", "a", "a"),
    "--schedule": ("vwap, twap:3", ("vwap", "twap:3"), "a", ("a",)),
    "--routing": ("nbbo, equal", ("nbbo", "equal"), "a", ("a",)),
    "--baseline": ("equal", "equal", "a", "a"),
    "--end-rule": ("leave", "leave", "COMPLETE", "complete"),
    "--grace": ("0", 0.0, "250ms", 0.25),
    "--latency": ("1ms", "1ms", "a.csv", "a.csv"),
    "--data-delay": ("10us", 1e-5, "0.5", 0.5),
    "--queue": ("optimistic", "optimistic", "ALL", "all"),
    "--placement": ("30", 30, "7200", 7200),
    "--frozen": ("take", "take", "LEAVE", "leave"),
    "--refresh": ("1h", 3600.0, "90s", 90.0),
    "--jobs": ("2", 2, "1024", 1024),
    "--dask": ("tcp://a:1", "tcp://a:1", "b", "b"),
    "--search": ("random", "random", "OPTUNA", "optuna"),
    "--space": ("horizon=10/30", (("horizon", [10.0, 30.0]),), "rate=.1 .. .5", (("rate", (0.1, 0.5)),)),
    "--points": ("5", 5, "1,000", 1000),
    "--train-days": ("1", 1, "20", 20),
    "--keep": ("a", "a", "s3://b/c", "s3://b/c"),
    "--report": ("a.html", "a.html", "b/c.html", "b/c.html"),
    "--log-level": ("debug", "debug", "ERROR", "error"),
    "--log-format": ("json", "json", "TEXT", "text"),
    "--security-protocol": ("ssl", "ssl", "PLAINTEXT", "plaintext"),
}
# Names that have another meaning for `sor backtest`, by their variables.
OTHERS: dict[str, tuple[str, Any, str, Any]] = {
    "SOR_ORDER_SIZES": ("100, 2000", (100, 2000), "7", (7,)),
    "SOR_SIDES": ("sell", "sell", "BOTH", "both"),
    "SOR_WORK_HORIZON": ("30s", 30.0, "2m", 120.0),
    "SOR_TUNE_SCHEDULE": ("twap", "twap", "pov", "pov"),
    "SOR_TUNE_ROUTING": ("nbbo", "nbbo", "equal", "equal"),
    "SOR_TUNE_QUEUE": ("optimistic", "optimistic", "PROPORTIONAL", "proportional"),
    "SOR_JSON_FILE": ("a", "a", "-", "-"),
    "SOR_PROTECT": ("nbbo", "nbbo", "NONE", "none"),
}
# They mean something only together and with files that exist: tests/test_security.py.
OF_SECURITY = {option.name for option in OPTIONS if option.field in (*SASL_FIELDS, *SSL_FIELDS)}
SWITCHES = (
    "--greedy-l2",
    "--pretty",
    "--allow-bad",
    "--loop",
    "--conflate",
    "--resume",
    "--json",
    "--together",
    "--explain",
)
BY_NAME = {option.name: option for option in OPTIONS if option.variable not in OTHERS}
BY_NAME |= {option.variable: option for option in OPTIONS if option.variable in OTHERS}
SAMPLES |= OTHERS


def settings_of(monkeypatch: Any, command: str, *arguments: str, **variables: str) -> Any:
    """What a command line and an environment come to, by the command's own way."""
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    seen: list[Any] = []
    monkeypatch.setitem(cli.COMMANDS, command, cli.COMMANDS[command]._replace(run=lambda it: seen.append(it) or 0))
    monkeypatch.setattr(cli.rules, "refuse", lambda settings: None)  # what goes together has tests of its own
    assert cli.main([command, *arguments]) == 0
    return seen[0]


def error_of(capsys: Any, monkeypatch: Any, command: str, *arguments: str, **variables: str) -> str:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli.main([command, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return str(err)


def field_of(name: str) -> str:
    return BY_NAME[name].field


def command_of(name: str) -> str:
    return BY_NAME[name].commands[0]


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_tests_know_every_option():
    assert set(SAMPLES) | set(SWITCHES) | {"FILE"} | OF_SECURITY == set(BY_NAME)


def test_names_of_variables():
    for option in OPTIONS:
        assert option.variable in CLASSIC or option.variable.startswith("SOR_")
    assert set(CLASSIC) <= {option.variable for option in OPTIONS}
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)
    assert BY_NAME["--side"].variable == "SOR_SIDE"


@pytest.mark.parametrize("command", ["replay", "consume", "produce", "demo"])
def test_defaults(monkeypatch, command):
    settings = settings_of(monkeypatch, command)
    for field in {option.field for option in config.options_of(command)} & set(DEFAULTS):
        found, value = getattr(settings, field), DEFAULTS[field]
        assert (type(found), found) == (type(value), value), field


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "replay",
        "produce",
        "consume",
        "order",
        "check",
        "explain",
        "info",
        "convert",
        "simulate",
        "backtest",
        "version",
    ],
)
def test_help_shows_flags_variables_and_defaults(command):
    run = subprocess.run(
        [sys.executable, "-m", "sor", command, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    text = " ".join(run.stdout.split())
    for option in config.options_of(command):
        assert option.variable in text, option.variable
        assert f"{option.name} " in text or f"{option.name}]" in text
        if option.default not in (None, (), False):
            assert f"{option.variable}, default {option.default}" in text
    assert run.stderr == ""


# --- who wins -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_a_flag_a_variable_and_both(monkeypatch, name):
    one, value, other, other_value = SAMPLES[name]
    option, command = BY_NAME[name], command_of(name)
    name = option.name
    for each in option.commands:
        assert getattr(settings_of(monkeypatch, each, f"{name}={one}"), option.field) == value
    assert getattr(settings_of(monkeypatch, command, name, other), option.field) == other_value
    assert getattr(settings_of(monkeypatch, command, **{option.variable: one}), option.field) == value
    both = settings_of(monkeypatch, command, f"{name}={one}", **{option.variable: other})
    assert getattr(both, option.field) == value
    empty = settings_of(monkeypatch, command, **{option.variable: ""})
    assert getattr(empty, option.field) == option.default


def test_a_wrong_variable_does_not_matter_where_a_flag_is_given(monkeypatch):
    assert settings_of(monkeypatch, "replay", "--order-size", "5", ORDER_SIZE="many").order_size == 5


def test_variables_of_other_commands_are_left_alone(monkeypatch):
    assert not hasattr(settings_of(monkeypatch, "replay", SOR_SPEED="fast", SOR_GROUP="x"), "group")
    assert settings_of(monkeypatch, "replay", SIDE="sell", SYMBOL="X").side == "buy"  # never without the prefix


def test_the_file_by_variable(monkeypatch):
    assert settings_of(monkeypatch, "replay", CSV_FILE="other.csv").csv_file == "other.csv"
    assert settings_of(monkeypatch, "produce", CSV_FILE="").csv_file == "sample.csv"


@pytest.mark.parametrize("name", ["--pretty", "--allow-bad", "--loop"])
def test_switches(monkeypatch, name):
    option, command = BY_NAME[name], command_of(name)
    assert getattr(settings_of(monkeypatch, command, name), option.field) is True
    for text in ("true", "TRUE", "True", "1", "yes", "YES", "Yes"):
        assert getattr(settings_of(monkeypatch, command, **{option.variable: text}), option.field) is True
        assert getattr(settings_of(monkeypatch, command, name, **{option.variable: "0"}), option.field) is True
    for text in ("false", "FALSE", "0", "no", "No", ""):
        assert getattr(settings_of(monkeypatch, command, **{option.variable: text}), option.field) is False
    off = "--no-" + name[2:]
    assert getattr(settings_of(monkeypatch, command, off, **{option.variable: "true"}), option.field) is False


@pytest.mark.parametrize("text", ["2", "maybe", "tru", "None", "-1", "t r u e"])
def test_switches_that_say_neither(monkeypatch, capsys, text):
    err = error_of(capsys, monkeypatch, "replay", SOR_PRETTY=text)
    assert f"SOR_PRETTY is {text!r}: it must be true or false" in err


# --- greedy level 2 --------------------------------------------------------------------------------------------------

GREEDY, EXACT = "greedy_l2", "brute_force"


@pytest.mark.parametrize(
    ("flags", "variables", "algorithm"),
    [
        (["--greedy-l2"], {}, GREEDY),
        ([], {"GREEDY_L2": "true"}, GREEDY),
        ([], {"GREEDY_L2": "no"}, EXACT),
        (["--greedy-l2", "--algorithm", GREEDY], {}, GREEDY),
        (["--no-greedy-l2", "--algorithm", EXACT], {}, EXACT),
        (["--greedy-l2"], {"SOR_ALGORITHM": EXACT}, GREEDY),
        (["--no-greedy-l2"], {"SOR_ALGORITHM": GREEDY}, EXACT),
        (["--algorithm", EXACT], {"GREEDY_L2": "true"}, EXACT),
        (["--algorithm", GREEDY], {"GREEDY_L2": "false"}, GREEDY),
        (["--algorithm", GREEDY], {"GREEDY_L2": "false", "SOR_ALGORITHM": EXACT}, GREEDY),
        (["--greedy-l2"], {"GREEDY_L2": "false", "SOR_ALGORITHM": EXACT}, GREEDY),
        ([], {"GREEDY_L2": "1", "SOR_ALGORITHM": GREEDY}, GREEDY),
    ],
)
def test_greedy_l2_is_an_algorithm(monkeypatch, flags, variables, algorithm):
    assert settings_of(monkeypatch, "replay", *flags, **variables).algorithm == algorithm


@pytest.mark.parametrize(
    ("flags", "variables", "words"),
    [
        (["--greedy-l2", "--algorithm", EXACT], {}, ["--greedy-l2", "--algorithm", EXACT]),
        (["--no-greedy-l2", "--algorithm", GREEDY], {}, ["greedy-l2", "--algorithm", GREEDY]),
        ([], {"GREEDY_L2": "true", "SOR_ALGORITHM": EXACT}, ["GREEDY_L2", "SOR_ALGORITHM", EXACT]),
    ],
)
def test_both_and_different_is_an_error(monkeypatch, capsys, flags, variables, words):
    err = error_of(capsys, monkeypatch, "replay", *flags, **variables)
    assert all(word in err for word in words)


def test_greedy_l2_with_another_objective_is_an_error(monkeypatch, capsys):
    err = error_of(
        capsys, monkeypatch, "replay", "sample.csv", "--greedy-l2", "--objective", "notional", "--log-level=error"
    )
    assert "objective" in err
    assert "notional" in err
    assert "sweep" in err


# --- errors ----------------------------------------------------------------------------------------------------------

WRONG = [
    ("--order-size", "0", "a whole number from 1 to"), ("--order-size", "-5", "a whole number from 1 to"),
    ("--order-size", "1.5", "a whole number from 1 to"), ("--order-size", "many", "a whole number from 1 to"),
    ("--order-size", "1e99", "a whole number from 1 to"), ("--order-size", "9" * 20, "a whole number from 1 to"),
    ("--step", "0", "a whole number from 1 to"), ("--side", "hold", "one of buy, sell"),
    ("--algorithm", "best", "one of brute_force, greedy_l2"), ("--objective", "x", "one of sweep, shortfall, notional"),
    ("--limit-price", "0", "a price above 0"), ("--limit-price", "-1", "a price above 0"),
    ("--limit-price", "nan", "a price above 0"), ("--limit-price", "inf", "a price above 0"),
    ("--lambda-over", "nan", "a finite number"), ("--lambda-under", "inf", "a finite number"),
    ("--theta-queue", "1_0", "a finite number"), ("--theta-queue", "half", "a finite number"),
    ("--max-quote-age", "-1", "a number of seconds, 0 or more"), ("--venues-from", "x", "one of publishers, levels"),
    ("--from", "now", "one of earliest, latest"), ("--speed", "-1", "a number, 0 or more"),
    ("--log-format", "xml", "one of text, json"),
    ("--max-messages", "0", "a whole number from 1 to"), ("--log-level", "loud", "one of debug, info, warning, error"),
    ("--order-wait", "0", "a number of seconds, 0.01 or more"), ("--quantity", "0", "a whole number from 1 to"),
    ("--every", "0", "a time from 0.001 to 86400 s"), ("--grace", "-1s", "a time from 0 to"),
    ("--data-delay", "1 day", "a time from 0 to"), ("--end-rule", "x", "one of complete, leave"),
    ("--metrics-port", "0", "a whole number from 1 to 65535"), ("--metrics-port", "65536", "a whole number from 1 to"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "may_be"), WRONG)
def test_a_wrong_value_is_named_by_where_it_came_from(monkeypatch, capsys, name, value, may_be):
    command, variable = command_of(name), BY_NAME[name].variable
    err = error_of(capsys, monkeypatch, command, f"{name}={value}")
    assert f"sor {command}: error: {name} is {value!r}: it must be {may_be}" in err
    err = error_of(capsys, monkeypatch, command, **{variable: value})
    assert f"sor {command}: error: {variable} is {value!r}: it must be {may_be}" in err


@pytest.mark.parametrize("name", SAMPLES)
def test_an_empty_flag_is_an_error(monkeypatch, capsys, name):
    flag = BY_NAME[name].name
    assert f"{flag} is empty" in error_of(capsys, monkeypatch, command_of(name), f"{flag}=")


def test_excluded_venues_must_exist(monkeypatch, capsys):
    err = error_of(capsys, monkeypatch, "replay", "sample.csv", "--exclude-venues", "XNSA", "--log-level", "error")
    assert "'XNSA'" in err
    assert "XNAS" in err


def test_settings_are_frozen_and_make_parameters():
    settings = load("replay", {"lambda_over": "0.02", "step": "50"}, {})
    assert (settings.parameters.lambda_over, settings.parameters.step) == (0.02, 50)
    with pytest.raises(AttributeError):
        settings.step = 1  # type: ignore[misc]


def test_load_raises_an_input_error():
    with pytest.raises(InputError, match="ORDER_SIZE is 'x': it must be a whole number"):
        load("replay", {}, {"ORDER_SIZE": "x"})


@pytest.mark.parametrize("flag", ["summary", "dead_letter_file"])
def test_only_results_go_to_standard_output(flag):
    with pytest.raises(InputError, match="is '-': it must be a file's path"):
        config.load("replay", {flag: "-"}, {})


def test_one_file_is_not_written_twice():
    with pytest.raises(InputError, match=r"--dead-letter-file is './x': that is the file for --output"):
        rules.refuse(load("replay", {"output": "x", "dead_letter_file": "./x"}, {}))
