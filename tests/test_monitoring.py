"""Rules, their own tests, and every query of the dashboard, read by Prometheus's own tool; and what they ask for."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import DONE, Jobs, wait_for
from kafka_broker import Servers
from kafka_broker.process import free_ports

from sor.service.telemetry import NAMES

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana" / "sor.json").read_text())
ALERTS = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
SERVICES = yaml.safe_load((ROOT / "docker-compose-sor.yml").read_text())["services"]
PORT = 9464


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


# --- scraped for real ------------------------------------------------------------------------------------------------


def asked(port: int, path: str, **query: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return json.load(answer)


@pytest.mark.kafka
def test_a_real_prometheus_scrapes_a_real_consumer(
    promtool: str, kafka: Servers, topic: Callable[..., str], tmp_path: Path
) -> None:
    """Two workers at work; every query of the dashboard has an answer, and no rule fails or fires."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("no prometheus: it is in Debian's package of that name")
    ours, theirs = free_ports(2)
    data, results = kafka.create_topic(topic("data"), 2), kafka.create_topic(topic("results"), 2)
    servers = ("--kafka-servers", kafka.bootstrap, "--topic", data)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FOLDER / "alerts.yml")],
        "scrape_configs": [{"job_name": "sor", "static_configs": [{"targets": [f"127.0.0.1:{ours}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    with Jobs(tmp_path) as jobs:
        options = ("--results-topic", results, "--group", topic("group"), "--workers", 2, "--metrics-port", ours)
        consumer = jobs.start("consume", *servers, *options, "--log-level", "warning")
        scraper = subprocess.Popen(
            [prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
             f"--web.listen-address=127.0.0.1:{theirs}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            jobs.start("produce", ROOT / "sample.csv", *servers).finish(DONE)

            def value(query: str) -> list[str]:
                try:
                    found = asked(theirs, "/api/v1/query", query=query)["data"]["result"]
                except OSError:
                    return []  # not up yet
                return [one["value"][1] for one in found]

            wait_for(lambda: value("sor_results_total") == ["2000"], "2,000 results seen by Prometheus")
            assert value("sor_workers") == ["2"]
            wait_for(lambda: value("sum(sor_partitions)") == ["2"], "both partitions")

            def unanswered() -> set[str]:
                filled = {n: q.replace("$__rate_interval", "1m").replace("$job", ".*") for n, q in QUERIES.items()}
                return {name for name, query in filled.items() if not value(query)}

            wait_for(lambda: not unanswered(), f"an answer to every query of the dashboard: {unanswered()}")

            def rules() -> list[Any]:
                groups = asked(theirs, "/api/v1/rules")["data"]["groups"]
                return [rule for group in groups for rule in group["rules"]]

            wait_for(lambda: {rule["health"] for rule in rules()} == {"ok"}, "every rule evaluated")
            assert len(rules()) == len(ALERTS)
            assert not [rule["name"] for rule in rules() if rule["state"] == "firing"]
        finally:
            scraper.terminate()
            scraper.wait(30)
        consumer.signal(signal.SIGTERM).finish(DONE)
