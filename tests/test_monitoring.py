"""Rules, their own tests, and every query of the dashboard, read by Prometheus's own tool; and what they ask for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana" / "sor.json").read_text())
ALERTS = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
SERVICES = yaml.safe_load((ROOT / "docker-compose-sor.yml").read_text())["services"]
PORT = 9464

# What `sor consume --metrics-port` exports, as in PromQL; a histogram by its base name.
NAMES = (
    "sor_routing_latency_seconds",
    "sor_messages_total",
    "sor_results_total",
    "sor_skipped_total",
    "sor_dead_letters_total",
    "sor_shares_ordered_total",
    "sor_shares_executed_total",
    "sor_shortfall_dollars",
    "sor_notional_at_mid_dollars_total",
    "sor_lag_messages",
    "sor_data_age_seconds",
    "sor_rebalances_total",
    "sor_transactions_total",
    "sor_partitions",
    "sor_bootstrapping",
    "sor_worker_restarts_total",
    "sor_workers",
    "sor_last_progress_timestamp_seconds",
    "sor_build_info",
)


@pytest.fixture(scope="session")
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("no promtool: it is in Debian's package prometheus")
    return path


def said(promtool: str, *arguments: str | Path) -> str:
    """What promtool says to a call that must succeed."""
    answer = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


# --- rules -----------------------------------------------------------------------------------------------------------


def test_prometheus_takes_the_configuration_and_the_rules(promtool: str) -> None:
    said(promtool, "check", "config", FOLDER / "prometheus.yml")
    assert f"{len(ALERTS)} rules found" in said(promtool, "check", "rules", FOLDER / "alerts.yml")


def test_the_rules_pass_their_own_tests(promtool: str) -> None:
    said(promtool, "test", "rules", FOLDER / "alerts_test.yml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_is_tested_where_it_fires_and_where_it_must_not(alert: dict[str, Any]) -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert["alert"]]
    assert {bool(case.get("exp_alerts")) for case in cases} == {True, False}


# --- the dashboard ---------------------------------------------------------------------------------------------------

PANELS = DASHBOARD["panels"]
QUERIES = {f"{panel['title']} {one['refId']}": one["expr"] for panel in PANELS for one in panel["targets"]}


def test_prometheus_takes_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    assert len(QUERIES) >= len(PANELS)
    expressions = [query.replace("$__rate_interval", "5m").replace("$job", ".*") for query in QUERIES.values()]
    assert not any("$" in expression for expression in expressions)
    rules = [{"record": f"query_{i}", "expr": expression} for i, expression in enumerate(expressions)]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))  # JSON is YAML
    assert f"{len(QUERIES)} rules found" in said(promtool, "check", "rules", path)


def names_in(query: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bsor_\w+", query)}


@pytest.mark.parametrize("query", [*QUERIES.values(), *(rule["expr"] for rule in ALERTS)])
def test_queries_ask_for_what_is_exported(query: str) -> None:
    assert names_in(query)
    assert names_in(query) <= set(NAMES)


def test_the_dashboard_shows_all_that_is_exported() -> None:
    assert set().union(*map(names_in, QUERIES.values())) == set(NAMES)


def test_the_dashboard_takes_any_data_source() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert names_in(variables["job"]["definition"]) <= set(NAMES)
    sources = [panel["datasource"] for panel in PANELS]
    sources += [one["datasource"] for panel in PANELS for one in panel["targets"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in PANELS):
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


# --- together in the compose file ------------------------------------------------------------------------------------


def test_prometheus_scrapes_the_consumers_of_the_compose_file() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["port"] == PORT
    serving = {name for name, one in SERVICES.items() if one.get("environment", {}).get("SOR_METRICS_PORT") == PORT}
    assert set(found["names"]) == serving == {"consumer", "consumer-l2"}


def test_grafana_is_told_where_prometheus_is() -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana" / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES
    (provider,) = yaml.safe_load((FOLDER / "grafana" / "dashboards.yml").read_text())["providers"]
    mounts = [volume.split(":") for volume in SERVICES["grafana"]["volumes"]]
    assert [provider["options"]["path"], "sor.json"] in [target.rsplit("/", 1) for _, target, _ in mounts]
    assert {target.rsplit("/", 1)[0] for _, target, _ in mounts} == {
        "/etc/grafana/provisioning/datasources",
        "/etc/grafana/provisioning/dashboards",
        provider["options"]["path"],
    }


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_monitoring_is_locked_in(name: str) -> None:
    """Of the official images, by version, on demand, on this machine only, without rights."""
    service = SERVICES[name]
    assert service["profiles"] == ["monitoring"]
    assert re.fullmatch(r"(prom/prometheus:v|grafana/grafana:)\d+\.\d+\.\d+", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert int(service["user"].split(":")[0]) > 0
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    files = [volume.split(":") for volume in service["volumes"] if volume.startswith("./")]
    assert all((ROOT / source).exists() and mode == "ro" for source, _, mode in files)
