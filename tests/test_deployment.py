"""What is in `deploy/` and what docs/deploy.md and docs/monitor.md say of it: valid by schema, and true of the code."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import kubernetes_validate
import pytest
import yaml
from botocore.exceptions import ParamValidationError
from dask.utils import parse_bytes
from moto import mock_aws

from sor import cli
from sor.service import rules
from sor.service import settings as config
from sor.service.settings import options_of

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
GUIDE = (ROOT / "docs" / "deploy.md").read_text()
RUNBOOK = (ROOT / "docs" / "monitor.md").read_text()
ALERTS = ROOT / "deploy" / "monitoring" / "alerts.yml"
USER = int(re.search(r"^USER (\d+):\1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1])
VARIABLES = {option.variable for option in options_of("consume")}
FLAGS = {option.name: option.field for option in options_of("consume")}


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path.name, document


DOCUMENTS = list(documents())
BY_KIND = {document["kind"]: document for _, document in DOCUMENTS}
OURS = [document for _, document in DOCUMENTS if document["kind"] not in ("Kustomization",)]
# Kinds whose schemas come with their own operator, or with kubectl.
BEYOND = {"Kustomization", "ScaledObject", "TriggerAuthentication"}
TASK = json.loads((ROOT / "deploy" / "ecs" / "task-definition.json").read_text())
CONTAINER = TASK["containerDefinitions"][0]


def loaded(command: list[str], environment: dict[str, str]) -> config.Settings:
    """The settings that a container's command and environment come to."""
    name, *flags = command
    given = {FLAGS[flag]: value for flag, value in zip(flags[::2], flags[1::2], strict=True)}
    return config.load(name, given, environment)


def assert_is_production(settings: config.Settings) -> None:
    """Exactly once, to topics, with metrics, behind a login and TLS."""
    assert settings.exactly_once
    assert settings.dead_letter_topic is not None
    assert settings.metrics_port == 9464
    assert settings.security_protocol == "sasl_ssl"
    assert settings.sasl_username == "somebody"
    assert settings.instance_id is None  # copies of one template share it


# --- Kubernetes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
@pytest.mark.parametrize(
    "document",
    [document for document in OURS if document["kind"] not in BEYOND],
    ids=lambda document: document["kind"],
)
def test_objects_fit_the_schema(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_schema_is_strict() -> None:
    document = yaml.safe_load((FOLDER / "deployment.yaml").read_text())
    document["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_has_every_file_but_the_option() -> None:
    kustomization = BY_KIND["Kustomization"]
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert files - set(kustomization["resources"]) == {"scaledobject.yaml"}
    assert set(kustomization["resources"]) <= files
    (image,) = kustomization["images"]
    assert image["name"] == pod()["containers"][0]["image"]


def pod() -> dict[str, Any]:
    return BY_KIND["Deployment"]["spec"]["template"]["spec"]


def test_the_pod_has_no_rights() -> None:
    context = pod()["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, USER, USER)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    (container,) = pod()["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_is_probed_where_it_listens() -> None:
    (container,) = pod()["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert [str(port) for port in ports.values()] == container["args"][-1:]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == set(ports)


def test_selectors_find_the_pods() -> None:
    labels = BY_KIND["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert all(spread["labelSelector"]["matchLabels"] == labels for spread in pod()["topologySpreadConstraints"])


def test_the_settings_of_kubernetes_load(tmp_path: Path) -> None:
    (container,) = pod()["containers"]
    (map_reference,) = container["envFrom"]
    data = BY_KIND["ConfigMap"]["data"]
    assert map_reference == {"configMapRef": {"name": BY_KIND["ConfigMap"]["metadata"]["name"]}}
    secrets = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"]}
    assert data.keys() | secrets.keys() <= VARIABLES
    assert secrets.keys() == {"SOR_SASL_USERNAME", "SOR_SASL_PASSWORD"}  # and not in the ConfigMap
    assert not secrets.keys() & data.keys()

    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert mounts["tmp"] == "/tmp"  # noqa: S108 - where the image has its heartbeat
    (item,) = volumes["kafka"]["secret"]["items"]
    assert data["SOR_SSL_CA_FILE"] == f"{mounts['kafka']}/{item['path']}"

    here = {name: value for name, value in data.items() if name != "SOR_SSL_CA_FILE"}
    assert_is_production(loaded(container["args"], here | dict.fromkeys(secrets, "somebody")))


def test_autoscaling_looks_at_what_is_deployed() -> None:
    """What can be said of KEDA's objects without their schemas."""
    data = BY_KIND["ConfigMap"]["data"]
    scaled, login = BY_KIND["ScaledObject"], BY_KIND["TriggerAuthentication"]
    assert {scaled["apiVersion"], login["apiVersion"]} == {"keda.sh/v1alpha1"}
    assert scaled["spec"]["scaleTargetRef"]["name"] == BY_KIND["Deployment"]["metadata"]["name"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "kafka"
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    facts = trigger["metadata"]
    assert all(isinstance(value, str) for value in facts.values())  # KEDA takes no numbers here
    assert (facts["bootstrapServers"], facts["topic"]) == (data["KAFKA_SERVERS"], data["TOPIC_NAME"])
    assert facts["consumerGroup"] == data["SOR_GROUP"]
    assert facts["sasl"] == data["SOR_SASL_MECHANISM"].replace("-sha-", "_sha")
    names = {one["name"] for one in login["spec"]["secretTargetRef"]}
    (container,) = pod()["containers"]
    assert names == {one["valueFrom"]["secretKeyRef"]["name"] for one in container["env"]}
    assert scaled["spec"]["minReplicaCount"] == BY_KIND["Deployment"]["spec"]["replicas"]
    assert f"--create --topic market_data --partitions {scaled['spec']['maxReplicaCount']} " in GUIDE


# --- Dask on Kubernetes ----------------------------------------------------------------------------------------------


DASK_FOLDER = ROOT / "deploy" / "dask"
DASK = [one for path in sorted(DASK_FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]
DASK_PODS = {one["metadata"]["name"]: one["spec"]["template"] for one in DASK if "template" in one.get("spec", {})}
DASK_GUIDE = (ROOT / "docs" / "cluster.md").read_text()


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
@pytest.mark.parametrize(
    "document",
    [document for document in DASK if document["kind"] not in BEYOND],
    ids=lambda document: f"{document['kind']}-{document['metadata']['name']}",
)
def test_objects_of_dask_fit_the_schema(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_kustomization_of_dask_has_every_file() -> None:
    (kustomization,) = (one for one in DASK if one["kind"] == "Kustomization")
    files = {path.name for path in DASK_FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    (image,) = kustomization["images"]
    assert {one["spec"]["containers"][0]["image"] for one in DASK_PODS.values()} == {image["name"]}
    assert f"{image['newName']}:{image['newTag']}" in DASK_GUIDE
    assert image["newTag"] == BY_KIND["Kustomization"]["images"][0]["newTag"]


@pytest.mark.parametrize("name", DASK_PODS)
def test_pods_of_dask_have_no_rights(name: str) -> None:
    spec, (ours,) = DASK_PODS[name]["spec"], pod()["containers"]
    assert {key: spec["securityContext"][key] for key in ("runAsNonRoot", "runAsUser")} == {
        "runAsNonRoot": True,
        "runAsUser": USER,
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    (container,) = spec["containers"]
    assert container["securityContext"] == ours["securityContext"]
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108 - all that is written


def test_only_pods_of_dask_talk_to_each_other() -> None:
    (policy,) = (one["spec"] for one in DASK if one["kind"] == "NetworkPolicy")
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"from": [{"podSelector": policy["podSelector"]}]}]
    for one in DASK_PODS.values():
        assert policy["podSelector"]["matchLabels"].items() <= one["metadata"]["labels"].items()


def test_pods_of_dask_find_the_scheduler() -> None:
    (service,) = (one for one in DASK if one["kind"] == "Service")
    assert service["spec"]["selector"] == DASK_PODS["dask-scheduler"]["metadata"]["labels"]
    address = f"tcp://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    worker, client = (DASK_PODS[name]["spec"]["containers"][0] for name in ("dask-worker", "sor-backtest"))
    assert address in worker["args"]
    assert f"--dask={address}" in client["args"]
    assert f'Client("{address}")' in worker["lifecycle"]["preStop"]["exec"]["command"][-1]
    for one in DASK:
        if one["kind"] == "Deployment":
            assert one["spec"]["selector"]["matchLabels"] == one["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_dask_takes_its_flags(name: str) -> None:
    main = importlib.import_module(f"distributed.cli.dask_{name}").main
    (container,) = DASK_PODS[f"dask-{name}"]["spec"]["containers"]
    assert container["command"] == ["dask"]
    command, *words = container["args"]
    assert command == name
    given = main.make_context(name, words).params
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert given["dashboard_address"] == f":{ports['http']}"
    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    if name == "scheduler":
        assert given["port"] == str(ports["dask"])
        return
    assert given["nthreads"] == 1
    assert not given["nanny"]
    assert parse_bytes(given["memory_limit"]) == parse_bytes(container["resources"]["limits"]["memory"] + "B")
    (name_of_pod,) = container["env"]
    assert given["name"] == f"$({name_of_pod['name']})"


def test_sor_takes_the_flags_of_the_run() -> None:
    (container,) = DASK_PODS["sor-backtest"]["spec"]["containers"]
    parsed = vars(cli._parser("backtest", ["backtest"]).parse_args(container["args"]))
    settings = config.load("backtest", {name: value for name, value in parsed.items() if name != "command"}, {})
    rules.refuse(settings)
    assert settings.keep is not None
    assert settings.output is not None
    assert [path.partition("/")[0] for path in (*settings.files, settings.keep, settings.output)] == ["s3:"] * 3


def test_the_guides_image_is_made_of_ours() -> None:
    (text,) = re.findall(r"^```dockerfile\n(.*?)^```$", DASK_GUIDE, re.MULTILINE | re.DOTALL)
    base, root, install, user = text.splitlines()
    (ours,) = BY_KIND["Kustomization"]["images"]
    assert base == f"FROM {ours['newName']}:{ours['newTag']}"
    assert (root, user) == ("USER root", f"USER {USER}:{USER}")
    (extra,) = re.findall(r"pip install --no-cache-dir 'sor\[(\w+)\]' ", install)
    assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


# --- ECS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def aws() -> Iterator[Any]:
    """Clients of a stand-in that knows no account but its own."""
    with mock_aws():
        yield lambda service: boto3.client(service, region_name="us-east-1")


def test_ecs_takes_the_task_definition(aws: Any) -> None:
    """And makes the service that the guide describes."""
    ecs, ec2 = aws("ecs"), aws("ec2")
    answer = ecs.register_task_definition(**TASK)["taskDefinition"]
    (container,) = answer["containerDefinitions"]
    assert {key: container[key] for key in CONTAINER} == CONTAINER
    assert {key: answer[key] for key in ("networkMode", "cpu", "memory")} == {
        key: TASK[key] for key in ("networkMode", "cpu", "memory")
    }
    ecs.create_cluster(clusterName="trading")
    network = {
        "subnets": [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2]],
        "securityGroups": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
        "assignPublicIp": "DISABLED",
    }
    service = ecs.create_service(
        cluster="trading",
        serviceName="sor",
        taskDefinition="sor",
        desiredCount=2,
        launchType="FARGATE",
        deploymentConfiguration={
            "minimumHealthyPercent": 50,
            "maximumPercent": 100,
            "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        },
        networkConfiguration={"awsvpcConfiguration": network},
    )["service"]
    assert service["taskDefinition"] == answer["taskDefinitionArn"]


def test_ecs_takes_no_unknown_key(aws: Any) -> None:
    container = CONTAINER | {"readOnlyRootFilesystem": True}
    with pytest.raises(ParamValidationError, match="readOnlyRootFilesystem"):
        aws("ecs").register_task_definition(**TASK | {"containerDefinitions": [container]})


def test_the_task_has_no_rights() -> None:
    assert TASK["networkMode"] == "awsvpc"
    assert TASK["requiresCompatibilities"] == ["FARGATE"]
    assert "taskRoleArn" not in TASK
    assert CONTAINER["user"] == f"{USER}:{USER}"
    assert CONTAINER["readonlyRootFilesystem"] is True
    assert CONTAINER["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
    assert str(CONTAINER["portMappings"][0]["containerPort"]) == CONTAINER["command"][-1]
    assert f"127.0.0.1:{CONTAINER['command'][-1]}/healthz" in CONTAINER["healthCheck"]["command"][-1]


def test_the_settings_of_ecs_load() -> None:
    environment = {one["name"]: one["value"] for one in CONTAINER["environment"]}
    secrets = {one["name"]: one["valueFrom"] for one in CONTAINER["secrets"]}
    assert (environment.keys() | secrets.keys()) - VARIABLES == {"TMPDIR"}
    assert secrets.keys() == {"SOR_SASL_USERNAME", "SOR_SASL_PASSWORD"}
    assert all(arn.startswith("arn:aws:secretsmanager:") for arn in secrets.values())
    assert_is_production(loaded(CONTAINER["command"], environment | dict.fromkeys(secrets, "somebody")))


# --- the pages -------------------------------------------------------------------------------------------------------


def test_every_alert_says_where_its_section_is() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert rules
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"docs/monitor.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
    section = RUNBOOK[RUNBOOK.index("\n## Alerts\n") :]
    assert re.findall(r"^### (.+)$", section, re.MULTILINE) == [rule["alert"] for rule in rules]
