"""The files that make a cluster: each is what its program reads, pinned, and closed to strangers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
RAY_UP = ("on-premises", "aws", "gcp")
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line and " " not in line
)
VERSION = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))
    if not isinstance(value, dict | list):
        yield path, value


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_takes_the_file(name: str) -> None:
    """By the schema that ships with Ray, as written and as Ray completes it."""
    import jsonschema
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents(f"{name}.yaml")
    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    validate_config(prepare_config(config))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "max_worker": 1}, schema)


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_starts_with_a_token_and_shows_its_dashboard_to_nobody(name: str) -> None:
    (config,) = documents(f"{name}.yaml")
    heads, workers = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    starts = [line for line in (*heads, *workers) if "ray start" in line]
    assert len(starts) == 2
    everywhere = config.get("docker", {}).get("run_options", [])
    for setting in ("RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0"):
        assert f"--env {setting}" in everywhere or all(setting in line for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert not re.search(r"0\.0\.0\.0|--ray-client", " ".join(starts))
    ((remote, local),) = [pair for pair in config["file_mounts"].items() if "token" in pair[0]]
    assert (remote.endswith("/.ray/auth_token"), local) == (True, "~/.ray/auth_token")
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_a_cloud_gives_no_node_a_public_address_and_lets_workers_go(name: str) -> None:
    (config,) = documents(f"{name}.yaml")
    assert config["provider"]["use_internal_ips"] is True
    assert config["docker"]["image"] == f"REGISTRY/flowsearch:{VERSION}-gpu"
    assert config["available_node_types"]["gpu"]["min_workers"] == 0
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


@pytest.mark.parametrize("name", RAY_UP)
def test_what_a_user_must_replace_is_listed_at_the_top(name: str) -> None:
    text = (CLUSTER / f"{name}.yaml").read_text()
    head = text[: text.index("cluster_name")]
    values = " ".join(str(value) for _, value in leaves(documents(f"{name}.yaml")[0]))
    placeholders = set(re.findall(r"\b[A-Z][A-Z_]+(?:_\d)?\b", values)) - {
        "RAY_AUTH_MODE",
        "RAY_USAGE_STATS_ENABLED",
        "RAY_HEAD_IP",
        "PERSISTENT",
        "SPOT",
        "TERMINATE",
    }
    assert placeholders
    assert [word for word in placeholders if word not in head] == []


BASE = re.findall(r"^FROM (\S+)$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)[0]


def test_the_image_has_the_pinned_ray_and_one_of_our_pythons() -> None:
    found = re.fullmatch(r"rayproject/ray:([\d.]+)-py(3)(\d+)-\$\{PLATFORM\}", BASE)
    assert found is not None
    assert found[1] == PINS["ray"]
    low, high = map(
        int, re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[0]
    )
    assert low <= int(found[3]) < high


def test_the_dockerfile_is_one() -> None:
    """Known instructions, sources that exist and are sent, a user who is not root, and no start without a token."""
    text = re.sub(r"\\\n\s*", " ", (CLUSTER / "Dockerfile").read_text())
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert [name for name, _ in steps if name not in {"ARG", "FROM", "ENV", "USER", "RUN", "WORKDIR", "COPY"}] == []
    assert next(name for name, _ in steps if name != "ARG") == "FROM"
    assert [said for name, said in steps if name == "USER"][-1] == "ray"
    (settings,) = [said.split() for name, said in steps if name == "ENV"]
    assert {"RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0"} <= set(settings)
    sources = [word for name, said in steps if name == "COPY" for word in said.split()[:-1] if not word.startswith("-")]
    sent = (CLUSTER / "Dockerfile.dockerignore").read_text().split()
    assert [source for source in sources if not (ROOT / source).exists() or f"!{source}" not in sent] == []
    assert sent[0] == "*"
    (install,) = [said for name, said in steps if name == "RUN" and "pip install" in said]
    assert "-c constraints.txt" in install
    args = {said.partition("=")[0] for name, said in steps if name == "ARG"}
    used = set(re.findall(r"--build-arg (\w+)=", (CLUSTER / "Dockerfile").read_text()))
    assert used <= args


def pods(name: str) -> list[dict[str, Any]]:
    """The pod templates of a KubeRay file: the head's, then the workers'."""
    spec = documents(name)[0]["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.parametrize(("name", "kind"), [("raycluster.yaml", "RayCluster"), ("rayjob.yaml", "RayJob")])
def test_kuberay_takes_the_file(name: str, kind: str) -> None:
    document = documents(name)[0]
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", kind)
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    spec = document["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    assert set(cluster) - set(spec if kind == "RayJob" else ()) == {
        "rayVersion",
        "authOptions",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    }
    assert cluster["rayVersion"] == PINS["ray"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    if kind == "RayJob":
        assert spec["shutdownAfterJobFinishes"] is True
        assert min(spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"], spec["backoffLimit"]) > 0
        assert spec["submissionMode"] == "K8sJobMode"


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_pods_are_bounded_unprivileged_and_share_the_results(name: str) -> None:
    for pod in pods(name):
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["image"] == f"flowsearch:{VERSION}-gpu"
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["volumeMounts"] == [{"name": "results", "mountPath": "/results"}]
        (volume,) = pod["volumes"]
        assert volume == {"name": "results", "persistentVolumeClaim": {"claimName": "flowsearch-results"}}
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]


def test_the_namespace_is_closed_and_its_claim_is_shared() -> None:
    _, claim, policy = documents("raycluster.yaml")
    assert (claim["kind"], claim["metadata"]["name"]) == ("PersistentVolumeClaim", "flowsearch-results")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert policy["kind"] == "NetworkPolicy"
    assert policy["spec"]["podSelector"] == {}
    own, operator = policy["spec"]["ingress"]
    assert own == {"from": [{"podSelector": {}}]}
    assert [port["port"] for port in operator["ports"]] == [8265]


(COMPOSE,) = documents("compose.yaml")


def test_compose_has_only_keys_that_it_knows() -> None:
    assert set(COMPOSE) == {"name", "x-node", "services", "networks", "volumes"}
    known = {"image", "build", "environment", "networks", "restart", "security_opt", "shm_size", "command"}
    for service in COMPOSE["services"].values():
        assert set(service) <= known | {"ports", "volumes", "depends_on"}
        assert set(service.get("depends_on", [])) <= set(COMPOSE["services"])
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (CLUSTER / source).exists()


def test_compose_publishes_to_this_machine_only_and_wants_a_token_and_a_password() -> None:
    for service in COMPOSE["services"].values():
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", []))
        assert "no-new-privileges:true" in service["security_opt"]
        assert "privileged" not in service
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    for name in ("head", "worker"):
        settings = COMPOSE["services"][name]["environment"]
        assert settings["RAY_AUTH_MODE"] == "token"
        assert settings["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
        assert COMPOSE["services"][name]["image"] == f"flowsearch:{VERSION}"
    grafana = COMPOSE["services"]["grafana"]["environment"]
    assert grafana["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_prometheus_reads_the_list_that_ray_writes_where_compose_puts_it() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    (config,) = documents("prometheus.yml")
    (job,) = config["scrape_configs"]
    (found,) = job["file_sd_configs"]
    assert found["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]
    assert "ray:/tmp/ray:ro" in COMPOSE["services"]["prometheus"]["volumes"]
    assert "ray:/tmp/ray" in COMPOSE["services"]["head"]["volumes"]


def test_grafana_finds_its_source_and_its_dashboards_where_compose_puts_them() -> None:
    (sources,) = documents("grafana/provisioning/datasources/prometheus.yaml")
    (source,) = sources["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "9090" in COMPOSE["services"]["prometheus"]["ports"][0]
    (providers,) = documents("grafana/provisioning/dashboards/flowsearch.yaml")
    (provider,) = providers["providers"]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/flowsearch.json" in mounted


def test_the_grafana_dashboard_asks_the_source_that_there_is() -> None:
    dashboard = json.loads((CLUSTER / "grafana" / "flowsearch.json").read_text())
    (sources,) = documents("grafana/provisioning/datasources/prometheus.yaml")
    uids = {str(value) for path, value in leaves(dashboard) if path[-2:] == ("datasource", "uid")}
    assert {uid for uid in uids if not uid.startswith(("$", "-"))} <= {sources["datasources"][0]["uid"]}


def test_the_batch_script_is_one() -> None:
    path = str(CLUSTER / "slurm.sbatch")
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--exclude=SC1091,SC2046", path], check=True)
    options = re.findall(r"^#SBATCH (--[a-z-]+)=?(.*)$", Path(path).read_text(), re.MULTILINE)
    assert dict(options)["--exclusive"] == ""
    assert dict(options)["--signal"] == "B:USR1@120"


def test_no_file_names_a_public_address_or_a_path_of_ours() -> None:
    for file in CLUSTER.rglob("*"):
        if file.is_file() and file.suffix != ".json":
            text = file.read_text()
            assert not re.search(r"/home/(?!ray\b)|/Users/|:latest", text), file
            for line in text.splitlines():
                assert "0.0.0.0" not in line or file.name == "compose.yaml", (file, line)


def test_the_readme_has_every_file_and_every_published_port() -> None:
    text = (CLUSTER / "README.md").read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert [link for link in links if not (CLUSTER / link).exists()] == []
    files = {file.name for file in CLUSTER.iterdir() if file.is_file()} - {"README.md", "Dockerfile.dockerignore"}
    assert files <= set(links)
    ports = {port.split(":")[1] for service in COMPOSE["services"].values() for port in service.get("ports", [])}
    for port in ports | {"6379", "10001", "22"}:
        assert re.search(rf"^\| {port}\b", text, re.MULTILINE), port
