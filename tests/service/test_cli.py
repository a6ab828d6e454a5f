"""Commands as people call them: what they print, log and return."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import smart_order_router
import sor
from sor.cli import main

CHECKOUT = Path(__file__).resolve().parents[2]
STAMP = r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2} - "
HEADER = "ts_event,publisher_id,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,symbol\n"
THREE = HEADER + "".join(
    f"2024-08-01T13:36:32.49191168{i}Z,{publisher},100.09,{ask},100,{size},AAPL\n"
    for i, (publisher, ask, size) in enumerate([(2, "100.10", 500), (9, "100.11", 300), (43, "100.12", 800)])
)


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SOR_")}
    for name in ("ORDER_SIZE", "LAMBDA_OVER", "LAMBDA_UNDER", "THETA_QUEUE", "STEP", "GREEDY_L2", "CSV_FILE"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60, env={**environment, **variables},
    )  # fmt: skip


@pytest.fixture
def logged(tmp_path: Path, capfd: Any) -> Any:
    """The log lines of a replay of three venues, without their time."""
    feed = tmp_path / "feed.csv"
    feed.write_text(THREE)

    def replay(*options: str) -> list[str]:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            assert main(["replay", str(feed), "--output", str(tmp_path / "out"), *options]) == 0
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
        found = [line for line in capfd.readouterr().err.splitlines() if re.match(STAMP, line)]
        return [re.sub("^" + STAMP, "", line) for line in found]

    return replay


# --- demonstration --------------------------------------------------------------------------------------------------

DEMO_LINES = [
    "  allocate             XNAS 0, XNYS 1,000, ARCX 0",
    "  allocate_exhaustive  XNAS 0, XNYS 1,000, ARCX 0  of 66 splits",
    "  cost $30,037.45, executes 300 of 1,000",
    "  allocate(..., resting=False)  XNAS 500, XNYS 300, ARCX 200  cost $100,109.60",
    "  allocate(..., reference_price=mid)  XNAS 500, XNYS 300, ARCX 200  shortfall $14.60",
    "  allocate_greedy_l2 of 2,500  XNAS 1,100, XNYS 600, ARCX 800  cost $250,296.50",
    "To compare: everything to XNAS fills 500 and costs $50,054.00 by the formula.",
]


@pytest.mark.parametrize("arguments", [("-m", "sor", "demo"), ("smart_order_router.py",)], ids=" ".join)
def test_the_demonstration(arguments):
    done = run(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert [line for line in done.stdout.splitlines() if line in DEMO_LINES] == DEMO_LINES
    assert "trap" in done.stdout
    assert f"kernels: {sor.BACKEND}" in done.stdout or "SOR_PURE_PYTHON" in os.environ


def test_the_numbers_of_the_demonstration_by_hand():
    trap = 300 * (100.11 + 0.002) - 700 * 0.0015 + 700 * (0.005 + 0.002)
    assert f"${trap:,.2f}" == "$30,037.45"
    swept = 500 * 100.103 + 300 * 100.112 + 200 * 100.1225
    assert f"${swept:,.2f}" == "$100,109.60"
    assert f"${swept - 1000 * 100.095:,.2f}" == "$14.60"
    deep = 500 * 100.103 + 300 * 100.112 + 800 * 100.1225 + 600 * 100.123 + 300 * 100.132
    assert f"${deep:,.2f}" == "$250,296.50"
    assert f"${500 * 100.103 - 500 * 0.002 + 500 * 0.007:,.2f}" == "$50,054.00"


def test_the_demonstration_as_a_function(capsys):
    file = io.StringIO()
    sor.run_test_harness(file)
    assert capsys.readouterr().out == ""
    smart_order_router.run_test_harness()
    assert capsys.readouterr().out == file.getvalue()


def test_the_older_address_has_the_same_names():
    for name in ("Venue", "Level2Venue", "compute_cost", "allocate", "allocate_exhaustive", "allocate_greedy_l2",
                 "run_test_harness", "BACKEND", "Order", "Book", "Router", "RoutingResult", "InputError"):  # fmt: skip
        assert name in smart_order_router.__all__
        assert getattr(smart_order_router, name) is getattr(sor, name)


# --- scripts and the rest of the commands ----------------------------------------------------------------------------


def test_the_consumer_script_has_the_options_of_consume():
    script, command = run("kafka_sor_consumer.py", "--help"), run("-m", "sor", "consume", "--help")
    assert script.returncode == 0
    flags = re.compile(r"--[a-z0-9-]+")
    assert set(flags.findall(script.stdout)) == set(flags.findall(command.stdout))
    assert {
        "--topic",
        "--order-size",
        "--lambda-over",
        "--lambda-under",
        "--theta-queue",
        "--greedy-l2",
        "--group",
    } <= set(flags.findall(script.stdout))


def test_version():
    done = run("-m", "sor", "version")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"sor {sor.__version__}" in done.stdout
    assert re.search(r"kernels: (cython|python) \(.+\)", done.stdout)
    pure = run("-m", "sor", "version", SOR_PURE_PYTHON="1")
    assert "kernels: python (SOR_PURE_PYTHON=1)" in pure.stdout
    refused = run("-m", "sor", "version", SOR_PURE_PYTHON="1", SOR_REQUIRE_EXT="1")
    assert refused.returncode != 0
    assert "SOR_REQUIRE_EXT=1, but SOR_PURE_PYTHON=1" in refused.stderr


def test_help():
    done = run("-m", "sor", "--help")
    assert done.returncode == 0
    for command in ("demo", "replay", "produce", "consume", "check", "version"):
        assert re.search(rf"^    {command} +\w", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["replay", "--no-such-flag"], ["replay", "a", "b"], ["consume", "file.csv"], ["replay", "--pretty=x"],
     ["replay", "--order-size"], ["replay", "--pretty", "--no-pretty"]],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_call_exits_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: sor" in err


# --- log lines --------------------------------------------------------------------------------------------------------


def test_log_lines_carry_their_time_and_level(tmp_path):
    (tmp_path / "feed.csv").write_text(THREE)
    done = run("-m", "sor", "replay", str(tmp_path / "feed.csv"), "--log-level", "debug")
    assert re.search(rf"^{STAMP}INFO - SOR Configuration: Order size: 5000$", done.stderr, re.MULTILINE)
    assert re.search(rf"^{STAMP}DEBUG - SOR Result \[AAPL\]: ", done.stderr, re.MULTILINE)
    assert "SOR Result" not in done.stdout


def test_the_start_lines_say_what_is_done(logged):
    text = "\n".join(logged("--side", "sell", "--order-size", "700", "--limit-price", "99.5"))
    assert "INFO - SOR Configuration: Order size: 700" in text
    for word in ("sell", "99.5", "brute_force", "sweep", "publishers", f"kernels {sor.BACKEND}", "lambda_over 0.01",
                 "lambda_under 0.005", "theta_queue 0.002", "step 100"):  # fmt: skip
        assert word in text
    assert "change no split" in text
    assert "change no split" not in "\n".join(logged("--objective", "notional"))


def test_messages_are_not_logged_unless_asked(logged):
    assert not [line for line in logged() if "Optimiz" in line or "SOR Result" in line]


def test_debug_lines_of_a_sweep(logged):
    lines = [line for line in logged("--log-level", "debug", "--order-size", "1000") if line.startswith("DEBUG")]
    assert lines[-3:] == [
        "DEBUG - Optimizing allocation for 1000 shares across 3 venues",
        f"DEBUG - Optimal allocation: [500, 300, 200] with cost {500 * 100.103 + 300 * 100.113 + 200 * 100.123:.4f}",
        "DEBUG - SOR Result [AAPL]: allocation=[500, 300, 200], cost=$100110.00, fill_rate=100.0%",
    ]
    assert not [line for line in lines if "Evaluating" in line]


@pytest.mark.parametrize("objective", ["notional", "shortfall"])
@pytest.mark.parametrize(("size", "step"), [(5000, 100), (1050, 100), (30, 7)])
def test_debug_lines_of_a_search(logged, objective, size, step):
    lines = logged("--log-level", "debug", "--objective", objective, "--order-size", str(size), "--step", str(step))
    found = [line.split()[3] for line in lines if "Evaluating" in line]
    spaces = [math.comb(size // step + k - 1, k - 1) * (k if size % step else 1) for k in (1, 2, 3)]
    assert found == [str(space) for space in spaces]
    assert lines.index(f"DEBUG - Evaluating {found[2]} possible allocations") > lines.index(
        f"DEBUG - Optimizing allocation for {size} shares across 3 venues"
    )
    assert ("1326" in found) == ((size, step) == (5000, 100))


def test_nothing_is_evaluated_where_nothing_is_searched(tmp_path, capfd):
    feed = tmp_path / "feed.csv"
    feed.write_text(HEADER + "2024-08-01T13:36:32.491911683Z,2,,100.10,0,500,AAPL\n")  # no bid: no mid
    options = ["--objective", "shortfall", "--log-level", "debug", "--venues-from", "publishers"]
    assert main(["replay", str(feed), *options]) == 0
    out, err = capfd.readouterr()
    assert '"allocation":[0]' in out
    assert "Evaluating" not in err


def test_the_trap_is_told_once(logged):
    told = [line for line in logged("--objective", "notional") if "not trading is cheaper" in line]
    assert len(told) == 1
    assert told[0].startswith("WARNING - ")
    assert not [line for line in logged() if "not trading" in line]


@pytest.mark.parametrize("level", ["warning", "error"])
def test_quieter(logged, level):
    assert not [line for line in logged("--log-level", level) if line.startswith(("INFO", "DEBUG"))]


# --- presets ------------------------------------------------------------------------------------------------------


def test_the_presets_of_the_documentation(tmp_path, capfd):
    feed = tmp_path / "feed.csv"
    feed.write_text(THREE)
    for flags, algorithm in (
        ("--order-size 1000 --lambda-over 0.02 --lambda-under 0.01 --theta-queue 0.005", "brute_force"),
        ("--order-size 10000 --lambda-over 0.005 --lambda-under 0.002 --theta-queue 0.001 --greedy-l2", "greedy_l2"),
    ):
        assert main(["replay", str(feed), *flags.split()]) == 0
        assert f'"algorithm":"{algorithm}"' in capfd.readouterr().out
