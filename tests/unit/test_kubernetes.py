"""Checks of `config/kubernetes` that need no cluster.

`tests/kit/custom_resources.json` has the schemas of the specs that are not Kubernetes' own: parts
of the CustomResourceDefinitions of KEDA and of the Prometheus operator, without descriptions.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml
from pydantic import SecretStr
from starlette.routing import Route
from typer.testing import CliRunner

from streamer.cli import app
from streamer.gateway import server
from streamer.gateway.events import FLUSH_S
from streamer.settings import Settings, load
from streamer.topics import DEFAULT_PARTITIONS
from tools import docs, kubernetes

FOLDER = docs.ROOT / "config" / "kubernetes"
LAYERS = ["base", "overlays/monitored", "overlays/autoscaled", "gateway"]
VERSIONS = ["1.27", kubernetes_validate.latest_version()]
CUSTOM = json.loads(
    (docs.ROOT / "tests" / "kit" / "custom_resources.json").read_text(encoding="utf-8")
)

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
Resource = dict[str, Json]


def _read(path: Path) -> Resource:
    return cast(Resource, yaml.safe_load(path.read_text(encoding="utf-8")))


def _at(value: Json, *path: str | int) -> Json:
    """What a resource has at a path of keys and indexes."""
    for part in path:
        if isinstance(part, int):
            assert isinstance(value, list)
            value = value[part]
        else:
            assert isinstance(value, dict)
            value = value[part]
    return value


def _items(value: Json) -> list[Json]:
    assert isinstance(value, list)
    return value


def _files() -> Iterator[Path]:
    """The resources' files, as far as kustomizations name them."""
    for layer in LAYERS:
        for name in _items(_read(FOLDER / layer / "kustomization.yaml")["resources"]):
            if str(name).endswith(".yaml"):
                yield FOLDER / layer / str(name)


RESOURCES = {str(path.relative_to(FOLDER)): _read(path) for path in _files()}
OF_KIND, OF_GATEWAY = (
    {str(each["kind"]): each for name, each in RESOURCES.items() if ("gateway" in name) is whether}
    for whether in (False, True)
)
"""The workers' resources, and the gateway's."""


def _check(resource: Resource) -> None:
    """Raise an error of jsonschema if Kubernetes, or the operator, would reject the resource."""
    name = f"{resource['apiVersion']} {resource['kind']}"
    if name in CUSTOM:
        assert resource.keys() == {"apiVersion", "kind", "metadata", "spec"}
        jsonschema.validate(resource["spec"], CUSTOM[name])
    else:
        for version in VERSIONS:
            kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("name", RESOURCES)
def test_each_resource_is_valid(name: str) -> None:
    _check(RESOURCES[name])


def test_a_misspelt_field_is_invalid() -> None:
    for resource in RESOURCES.values():
        spec = cast(Resource, resource["spec"])
        with pytest.raises(jsonschema.ValidationError):
            _check({**resource, "spec": {**spec, "replica": 1}})


def test_every_file_is_used() -> None:
    known = {FOLDER / layer / "kustomization.yaml" for layer in LAYERS} | set(_files())
    assert set(FOLDER.rglob("*.yaml")) == known


@pytest.mark.parametrize("layer", LAYERS)
def test_kustomize_builds_each_layer(layer: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: the overlays are not built")
    built = subprocess.run(
        [kubectl, "kustomize", str(FOLDER / layer)], capture_output=True, text=True, check=True
    )
    assert built.stderr == ""
    resources = [cast(Resource, each) for each in yaml.safe_load_all(built.stdout)]
    for resource in resources:
        _check(resource)
    (deployment,) = (each for each in resources if each["kind"] == "Deployment")
    assert ("replicas" in cast(Resource, deployment["spec"])) is (layer != "overlays/autoscaled")
    image = _at(deployment, "spec", "template", "spec", "containers", 0, "image")
    assert image == "streamer:0.1.0"


@pytest.mark.parametrize("of_kind", [OF_KIND, OF_GATEWAY], ids=["worker", "gateway"])
def test_everything_selects_its_pods(of_kind: dict[str, Resource]) -> None:
    labels = _at(of_kind["Deployment"], "spec", "template", "metadata", "labels")
    for kind, path in {
        "Deployment": ("selector",),
        "PodDisruptionBudget": ("selector",),
        "NetworkPolicy": ("podSelector",),
        "PodMonitor": ("selector",),
    }.items():
        assert _at(of_kind[kind], "spec", *path, "matchLabels") == labels, kind
    if "Service" in of_kind:
        assert _at(of_kind["Service"], "spec", "selector") == labels


def test_keda_scales_the_workers() -> None:
    target = _at(OF_KIND["ScaledObject"], "spec", "scaleTargetRef", "name")
    assert target == _at(OF_KIND["Deployment"], "metadata", "name")


def test_each_pod_has_an_id_of_its_own() -> None:
    (found,) = (
        variable
        for variable in _items(_container()["env"])
        if _at(variable, "name") == "STREAMER_WORKER__ID"
    )
    assert _at(found, "valueFrom", "fieldRef", "fieldPath") == "metadata.name"


def test_pods_have_time_to_drain() -> None:
    grace = _at(_pod(), "terminationGracePeriodSeconds")
    assert isinstance(grace, int)
    assert grace > Settings().worker.shutdown_timeout_s + 20


def test_the_metrics_port_is_the_workers() -> None:
    (port,) = _items(_container()["ports"])
    assert port == {"name": "metrics", "containerPort": Settings().metrics.port}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert _at(_container()[probe], "httpGet", "port") == "metrics"
    assert _at(OF_KIND["PodMonitor"], "spec", "podMetricsEndpoints", 0, "port") == "metrics"
    assert _at(OF_KIND["NetworkPolicy"], "spec", "ingress", 0, "ports", 0, "port") == "metrics"


def test_the_settings_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in _items(_container()["env"]):
        monkeypatch.setenv(str(_at(variable, "name")), "a value of the cluster")
    settings = load(FOLDER / "base" / "streamer.toml")
    key = settings.accounts["default"].api_key_file
    mounts = {_at(m, "name"): _at(m, "mountPath") for m in _items(_container()["volumeMounts"])}
    (secrets,) = (v for v in _items(_pod()["volumes"]) if _at(v, "name") == "secrets")
    path = _at(secrets, "secret", "items", 0, "path")
    assert str(key) == f"{mounts['secrets']}/{path}"
    arguments = _items(_container()["args"])
    assert arguments == ["run", "--config", f"{mounts['config']}/streamer.toml"]


def test_keda_watches_the_lag_of_the_group() -> None:
    settings = load(FOLDER / "base" / "streamer.toml")
    spec = OF_KIND["ScaledObject"]["spec"]
    metadata = _at(spec, "triggers", 0, "metadata")
    assert _at(metadata, "bootstrapServers") == settings.kafka.bootstrap_servers
    assert _at(metadata, "consumerGroup") == settings.kafka.group_id
    assert _at(metadata, "topic") == settings.topics.recipients
    assert _at(spec, "minReplicaCount") == 1
    assert _at(spec, "maxReplicaCount") == DEFAULT_PARTITIONS


@pytest.mark.parametrize("of_kind", [OF_KIND, OF_GATEWAY], ids=["worker", "gateway"])
def test_containers_can_do_little(of_kind: dict[str, Resource]) -> None:
    pod = _at(of_kind["Deployment"], "spec", "template", "spec")
    assert _at(pod, "automountServiceAccountToken") is False
    assert _at(pod, "securityContext", "runAsNonRoot") is True
    security = _at(pod, "containers", 0, "securityContext")
    assert _at(security, "readOnlyRootFilesystem") is True
    assert _at(security, "allowPrivilegeEscalation") is False
    assert _at(security, "capabilities") == {"drop": ["ALL"]}


def test_a_gateway_can_be_spared() -> None:
    replicas = _at(OF_GATEWAY["Deployment"], "spec", "replicas")
    assert isinstance(replicas, int)
    assert replicas >= 2
    assert _at(OF_GATEWAY["PodDisruptionBudget"], "spec", "maxUnavailable") == 1


def test_gateways_have_time_to_finish() -> None:
    grace = _at(_gateway_pod(), "terminationGracePeriodSeconds")
    stop = str(_at(_gateway(), "lifecycle", "preStop", "exec", "command", 2))
    before_s = int(stop.rpartition("(")[2].rstrip(")"))
    assert isinstance(grace, int)
    assert grace > before_s + server.END_S + FLUSH_S


def test_the_internet_reaches_what_it_needs() -> None:
    ingress = OF_GATEWAY["Ingress"]
    (rule,) = _items(_at(ingress, "spec", "rules"))
    prefixes = {str(_at(path, "path")) for path in _items(_at(rule, "http", "paths"))}
    settings = load(FOLDER / "gateway" / "gateway.toml")
    routes = {
        f"/{route.path.split('/')[1]}"
        for route in server.make_gateway(_with_secret(settings)).app().routes
        if isinstance(route, Route)
    }
    assert routes - prefixes == {"/healthz", "/readyz", "/metrics"}
    assert prefixes < routes
    base = urlsplit(settings.unsubscribe.base_url or "")
    assert (base.hostname, base.path) == (_at(rule, "host"), "/u")
    assert _items(_at(ingress, "spec", "tls", 0, "hosts")) == [base.hostname]
    for path in _items(_at(rule, "http", "paths")):
        backend = _at(path, "backend", "service")
        assert _at(backend, "name") == _at(OF_GATEWAY["Service"], "metadata", "name")
        assert _at(backend, "port", "name") == _at(
            OF_GATEWAY["Service"], "spec", "ports", 0, "name"
        )


def test_the_gateways_port_is_the_same_everywhere() -> None:
    (port,) = _items(_gateway()["ports"])
    arguments = [str(each) for each in _items(_gateway()["args"])]
    assert port == {"name": "http", "containerPort": int(arguments[arguments.index("--port") + 1])}
    for probe in ("livenessProbe", "readinessProbe"):
        assert _at(_gateway()[probe], "httpGet", "port") == "http"
    assert _at(OF_GATEWAY["Service"], "spec", "ports", 0, "targetPort") == "http"
    assert _at(OF_GATEWAY["PodMonitor"], "spec", "podMetricsEndpoints", 0, "port") == "http"
    assert _at(OF_GATEWAY["NetworkPolicy"], "spec", "ingress", 0, "ports", 0, "port") == "http"


def test_the_gateways_settings_can_be_loaded() -> None:
    settings = load(FOLDER / "gateway" / "gateway.toml")
    mounts = {_at(m, "name"): _at(m, "mountPath") for m in _items(_gateway()["volumeMounts"])}
    (secrets,) = (v for v in _items(_gateway_pod()["volumes"]) if _at(v, "name") == "secrets")
    path = _at(secrets, "secret", "items", 0, "path")
    secret = settings.accounts["default"].webhook_secret_file
    assert str(secret) == f"{mounts['secrets']}/{path}"
    arguments = [str(each) for each in _items(_gateway()["args"])]
    assert arguments[-1] == f"{mounts['config']}/gateway.toml"
    # The help comes only if everything before it is understood.
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    workers = load(FOLDER / "base" / "streamer.toml")
    assert settings.kafka == workers.kafka
    assert settings.topics == workers.topics


def _with_secret(settings: Settings) -> Settings:
    secret = SecretStr("of sixteen bytes at least")
    unsubscribe = settings.unsubscribe.model_copy(update={"secret": secret})
    return settings.model_copy(update={"unsubscribe": unsubscribe})


def _gateway_pod() -> Resource:
    return cast(Resource, _at(OF_GATEWAY["Deployment"], "spec", "template", "spec"))


def _gateway() -> Resource:
    (container,) = _items(_gateway_pod()["containers"])
    return cast(Resource, container)


def test_the_rules_are_the_alerts() -> None:
    assert kubernetes.RULE.read_text(encoding="utf-8") == kubernetes.rule()


def _pod() -> Resource:
    return cast(Resource, _at(OF_KIND["Deployment"], "spec", "template", "spec"))


def _container() -> Resource:
    (container,) = _items(_pod()["containers"])
    return cast(Resource, container)
