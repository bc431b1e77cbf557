"""The manifests of infra/kuberay: sound by KubeRay's own definitions, read by Ray's autoscaler, at one with each other.

The definitions lie beside the project where it is developed; without them those tests are skipped and the others stay.
What the manifests start is run in test_as_written.py.
"""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import as_written
import definitions
import pytest
import yaml
from as_written import INFRA, ROOT, cluster_spec, groups, quantity

DEFINITIONS = ROOT.parent / "shared" / "kuberay"
MANIFESTS = {
    "RayCluster": "raycluster.yaml",
    "RayJob": "rayjob.yaml",
    "RayCronJob": "raycronjob.yaml",
}
JOBS_AT = "/etc/assay"
RAY_SHARE = 0.3  # of a node's memory that Ray takes for its object store unless told otherwise


def manifest(kind: str) -> dict[str, Any]:
    (document,) = as_written.documents(INFRA / "kuberay" / MANIFESTS[kind])
    unfolded: dict[str, Any] = json.loads(json.dumps(document))  # what YAML's anchors share is no longer shared
    return unfolded


def definition(kind: str) -> dict[str, Any]:
    path = DEFINITIONS / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the project")
    return definitions.read_definition(path)


def pods(kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every pod a manifest makes, with a name for messages."""
    document = manifest(kind)
    for group in groups(cluster_spec(document)):
        yield group["groupName"], group["template"]["spec"]
    job = document["spec"].get("jobTemplate", document["spec"])
    if "submitterPodTemplate" in job:
        yield "submitter", job["submitterPodTemplate"]["spec"]


def project_version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


@pytest.mark.parametrize("kind", MANIFESTS)
def test_definitions_accept_manifests(kind: str) -> None:
    assert definitions.faults(manifest(kind), definition(kind)) == []


def test_definitions_refuse_what_a_server_would() -> None:
    """The check itself: a misspelt field at any depth, a wrong type, what is missing, a key that stands twice."""
    known = definition("RayJob")
    pod = ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec")
    for path, name, value, message in [
        (("spec",), "entryPoint", "true", "'entryPoint' was unexpected"),
        (("spec",), "backoffLimit", "two", "'two' is not of type 'integer'"),
        (("spec", "rayClusterSpec"), "headGroupSpec", {}, "'template' is a required property"),
        (pod, "serviceAccount_name", "x", "'serviceAccount_name' was unexpected"),
        ((*pod, "containers", 0, "securityContext"), "runAsUser", "10001", "'10001' is not of type 'integer'"),
        ((*pod, "containers", 0, "resources", "limits"), "cpu", 1.5, "is not valid under any of the given schemas"),
        ((*pod, "containers", 0), "env", [{"name": "A"}, {"name": "A"}], "('A',) stands there twice"),
        (("spec",), "managedBy", "me", "rule in CEL"),
    ]:
        broken = copy.deepcopy(manifest("RayJob"))
        inside: Any = broken
        for part in path:
            inside = inside[part]
        inside[name] = value
        found = definitions.faults(broken, known)
        assert len(found) == 1, (name, found)
        assert message in found[0]
    assert definitions.faults({**manifest("RayJob"), "apiVersion": "ray.io/v2"}, known) == [
        "apiVersion: v2 is not served; v1, v1alpha1"
    ]
    assert "is not what the definition is of" in definitions.faults(manifest("RayCluster"), known)[0]


def test_one_cluster_in_three_manifests() -> None:
    assert (
        cluster_spec(manifest("RayJob")) == cluster_spec(manifest("RayCluster")) == cluster_spec(manifest("RayCronJob"))
    )


def test_ray_reads_the_groups_as_they_are_meant() -> None:
    """By the code of Ray's autoscaler that reads the resource in a cluster."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    document = manifest("RayCluster")
    document["metadata"]["namespace"] = "default"
    read = autoscaling_config._derive_autoscaling_config_from_ray_cr(document)
    kinds = read["available_node_types"]
    assert kinds["headgroup"]["resources"]["CPU"] == 0, "nothing but the driver runs on the head"
    assert kinds["cpu"]["min_workers"] == 1
    assert "GPU" not in kinds["cpu"]["resources"]
    gpus = {name: kind for name, kind in kinds.items() if "GPU" in kind["resources"]}
    assert {name: kind["resources"]["GPU"] for name, kind in gpus.items()} == {"l4-spot": 1, "l4": 1, "h100-spot": 8}
    assert {kind["min_workers"] for kind in gpus.values()} == {0}, "GPUs are given back"
    for name, kind in gpus.items():
        accelerator = kind["labels"]["ray.io/accelerator-type"]
        assert kind["resources"][f"accelerator_type:{accelerator}"] == 1, name
    # Preemptible first, then others of the same kind.
    assert gpus["l4-spot"]["priority"] > gpus["l4"]["priority"]
    assert gpus["l4-spot"]["resources"] == gpus["l4"]["resources"]


def test_ray_is_the_version_of_the_constraints() -> None:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for kind in MANIFESTS:
        assert f"ray=={cluster_spec(manifest(kind))['rayVersion']}" in pinned


def test_images_are_those_that_the_dockerfile_says() -> None:
    dockerfile = (INFRA / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for kind in MANIFESTS:
        for name, pod in pods(kind):
            (container,) = pod["containers"]
            asks = "nvidia.com/gpu" in container["resources"]["limits"]
            assert container["image"].endswith(f"/assay:{project_version()}-{'cuda' if asks else 'cpu'}"), (kind, name)
            assert f"-t {container['image']} " in dockerfile, (kind, name)


def test_pods_have_no_rights_that_they_do_not_need() -> None:
    """What Kubernetes calls the restricted standard for pods; the user is the image's."""
    user = (INFRA / "docker" / "Dockerfile").read_text(encoding="utf-8").split("USER ")[1].split()[0]
    for kind in MANIFESTS:
        for name, pod in pods(kind):
            context, (container,) = pod["securityContext"], pod["containers"]
            assert f"{context['runAsUser']}:{context['runAsGroup']}" == user, (kind, name)
            assert context["runAsNonRoot"], (kind, name)
            assert context["seccompProfile"]["type"] == "RuntimeDefault", (kind, name)
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }, (kind, name)
            # The head's autoscaler talks to the API server; nothing else does.
            assert pod.get("automountServiceAccountToken", True) == (name == "head"), (kind, name)
        assert cluster_spec(manifest(kind))["authOptions"] == {"mode": "token"}


def test_nodes_ask_for_what_they_use() -> None:
    for group in groups(cluster_spec(manifest("RayCluster"))):
        name, pod = group["groupName"], group["template"]["spec"]
        (container,) = pod["containers"]
        limits = container["resources"]["limits"]
        assert container["resources"]["requests"] == limits, f"{name}: or it is evicted, or its GPU shared"
        assert group["rayStartParams"].get("num-gpus") == limits.get("nvidia.com/gpu"), name
        (shared,) = [each["emptyDir"] for each in pod["volumes"] if each["name"] == "shm"]
        assert shared["medium"] == "Memory"
        assert quantity(shared["sizeLimit"]) >= RAY_SHARE * quantity(limits["memory"]), (
            f"{name}: the store goes to disk"
        )
        (cache,) = [each["emptyDir"] for each in pod["volumes"] if each["name"] == "cache"]
        assert quantity(cache["sizeLimit"]) < quantity(limits["ephemeral-storage"]), f"{name}: evicted by its model"
        tolerated = {each["key"] for each in pod.get("tolerations", ())}
        selected = pod.get("nodeSelector", {})
        assert ("nvidia.com/gpu" in tolerated) == ("nvidia.com/gpu" in limits), name
        spot = group.get("labels", {}).get("ray.io/market-type") == "spot"
        assert (selected.get("karpenter.sh/capacity-type") == "spot") == spot, name
        assert ("karpenter.sh/capacity-type" in tolerated) == spot, name
        if spot:
            assert pod["terminationGracePeriodSeconds"] <= 30, f"{name}: a node is gone by then"


def test_the_head_stays_and_lets_its_driver_end() -> None:
    """A head that goes takes the job with it. test_as_written.py runs what it does before it goes."""
    head, *workers = groups(cluster_spec(manifest("RayCluster")))
    metadata, pod = head["template"]["metadata"], head["template"]["spec"]
    assert metadata["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    avoided = {each["key"]: each["values"] for each in term["matchExpressions"] if each["operator"] == "NotIn"}
    for group in workers:
        assert "affinity" not in group["template"]["spec"]
        assert "lifecycle" not in group["template"]["spec"]["containers"][0]
        for key, value in group["template"]["spec"].get("nodeSelector", {}).items():
            assert key not in avoided or value in avoided[key], f"{key}: the head may be where these are"
    (container,) = pod["containers"]
    (wait,) = [each["value"] for each in container["env"] if each["name"] == "RAY_JOB_STOP_WAIT_TIME_S"]
    assert int(wait) < pod["terminationGracePeriodSeconds"]


def test_what_manifests_refer_to_is_there() -> None:
    """Volumes of mounts, the ConfigMap, the ServiceAccount, and the Secret with its keys, which the page makes."""
    (account,) = as_written.documents(INFRA / "kuberay" / "account.yaml")
    page = (INFRA / "running" / "kubernetes.md").read_text(encoding="utf-8")
    config_map = yaml.safe_load((INFRA / "jobs" / "kustomization.yaml").read_text(encoding="utf-8"))
    (generated,) = config_map["configMapGenerator"]
    for group in groups(cluster_spec(manifest("RayCluster"))):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["serviceAccountName"] == account["metadata"]["name"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert volumes["jobs"]["configMap"]["name"] == generated["name"]
        assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["jobs"] == JOBS_AT
        for variable in container["env"]:
            if "valueFrom" in variable:
                secret = variable["valueFrom"]["secretKeyRef"]
                assert f"create secret generic {secret['name']} " in page
                assert f"--from-file={secret['key']}=" in page or f"--from-literal={secret['key']}=" in page
        assert not [each for each in container["env"] if "SECRET" in each["name"] and "value" in each]


@pytest.mark.parametrize("kind", ["RayJob", "RayCronJob"])
def test_jobs_run_a_file_of_the_config_map_and_leave_nothing_behind(kind: str) -> None:
    spec = manifest(kind)["spec"]
    job = spec.get("jobTemplate", spec)
    command, *_, path = shlex.split(job["entrypoint"])
    assert command == "assay"
    assert Path(path).parent == Path(JOBS_AT)
    config_map = yaml.safe_load((INFRA / "jobs" / "kustomization.yaml").read_text(encoding="utf-8"))
    assert Path(path).name in config_map["configMapGenerator"][0]["files"]
    assert (INFRA / "jobs" / Path(path).name).exists()
    assert job["shutdownAfterJobFinishes"]
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["activeDeadlineSeconds"] > 0
    assert job["backoffLimit"] >= 0


def test_the_night_is_over_before_the_next_and_in_its_own_time_zone() -> None:
    spec = manifest("RayCronJob")["spec"]
    minute, hour, *every = spec["schedule"].split()
    assert every == ["*", "*", "*"]
    assert minute.isdecimal()
    assert hour.isdecimal()
    assert spec["jobTemplate"]["activeDeadlineSeconds"] < 24 * 3600
    assert spec["jobTemplate"]["backoffLimit"] == 0, "a night tried again would hide the exit code of its findings"
    job = yaml.safe_load((INFRA / "jobs" / "nightly.yaml").read_text(encoding="utf-8"))
    assert job["nightly"]["timezone"] == spec["timeZone"]


def test_kubectl_reads_what_yaml_makes_of_anchors() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here")
    for file in (*MANIFESTS.values(), "account.yaml"):
        path = INFRA / "kuberay" / file
        read = [kubectl, "annotate", "--local", "-f", str(path), "a=b", "-o", "json"]
        shown = json.loads(subprocess.run(read, capture_output=True, check=True, timeout=60).stdout)
        assert shown.get("spec") == as_written.documents(path)[0].get("spec")
    rendered = subprocess.run(
        [kubectl, "kustomize", str(INFRA / "jobs")], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    data = yaml.safe_load(rendered)["data"]
    assert data == {name: (INFRA / "jobs" / name).read_text(encoding="utf-8") for name in data}
    assert set(data) == {"membership.yaml", "nightly.yaml"}
