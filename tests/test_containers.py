"""What the container files promise and a run of them (stack.sh) would not miss: settings, defaults, the context."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sor.service.settings import OPTIONS, options_of

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose-sor.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BY_VARIABLE = {option.variable: option for option in OPTIONS}

# Set as environment of our services: all but the broker's, the interfaces' and the topic script's own.
SET = set(re.findall(r"^ +([A-Z][A-Z0-9_]*):", COMPOSE, re.MULTILINE))
SET = {name for name in SET if not name.startswith(("KAFKA_", "GF_")) or name in BY_VARIABLE}
SET -= {"TOPICS", "PYTHON_VERSION"}
# Differs from the command's default on purpose: a pace to watch, and results and dead letters in topics.
OWN_DEFAULTS = {"SOR_SPEED": 1.0, "SOR_RESULTS_TOPIC": "sor_results", "SOR_DEAD_LETTER_TOPIC": "sor_dead_letters"}
# Not for the shell to change: they stand in `command:` or in the image, want a package that is not in it or a mounted
# file, or would end a service; and the broker of the file, which nobody else reaches, demands neither TLS nor a login.
# Orders are for a consumer of their own.
LEFT_OUT = {
    *(option.variable for option in OPTIONS if option.field.startswith(("sasl_", "ssl_", "security_"))),
    "CSV_FILE",
    "SOR_CLIENT",
    "SOR_CONNECT_TIMEOUT",
    "SOR_DEAD_LETTER_FILE",
    "SOR_HEARTBEAT_FILE",
    "SOR_IDLE_TIMEOUT",
    "SOR_INSTANCE_ID",
    "SOR_INSTRUMENTS",
    "SOR_METRICS_HOST",
    "SOR_ORDERS_TOPIC",
    "SOR_ORDER_MEMORY",
    "SOR_ORDER_WAIT",
    "SOR_OUTPUT",
    "SOR_POLICY",
    "SOR_RESUME",
    "SOR_SNAPSHOT_FILE",
    "SOR_SUMMARY",
    "SOR_VENUES",
}


def test_compose_sets_only_variables_that_sor_reads() -> None:
    assert SET - BY_VARIABLE.keys() == set()


def test_every_setting_of_the_services_can_be_made_in_the_shell() -> None:
    """A new option has to be passed on in the compose file, or left out above with a reason."""
    options = {option.variable for command in ("consume", "produce") for option in options_of(command)}
    assert options - SET == LEFT_OUT


def test_compose_has_the_defaults_of_the_commands() -> None:
    given = set(re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", COMPOSE))
    given = {(name, value) for name, value in given if name in BY_VARIABLE}
    assert {"ORDER_SIZE", "LAMBDA_OVER", "LAMBDA_UNDER", "THETA_QUEUE", "STEP"} <= dict(given).keys()
    for name, value in given:
        option = BY_VARIABLE[name]
        assert option.parse(value) == OWN_DEFAULTS.get(name, option.default), name


def test_the_context_holds_what_the_image_copies_and_no_more() -> None:
    copied = {
        source.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
    line = re.search(r"^py-modules = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert line is not None
    assert {f"{module}.py" for module in re.findall(r'"(\w+)"', line[1])} <= copied


def test_the_container_run_is_a_script() -> None:
    script = ROOT / "tests" / "stack.sh"
    assert os.access(script, os.X_OK)
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    subprocess.run([bash, "-n", str(script)], check=True)
