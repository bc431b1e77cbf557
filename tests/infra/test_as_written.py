"""What infra/ starts, started as it is written there: the Dockerfile's steps, and in its image each entrypoint.

No container engine and no Kubernetes is needed: tests/support/containers.py makes containers of Linux namespaces, and
tests/support/images.py carries out the Dockerfile in one. Real are the user, paths, commands, flags, ports, host names,
secrets as files or variables, job files, three Ray nodes with token authentication and the S3 server. Replaced are the
base image, apt-get and the package index (tests/support/base_image.py), what the engines themselves do
(tests/support/as_written.py), GPUs, which Ray only counts here, and the sizes: a node has one processor, the model is
tiny, no kernel is compiled.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import as_written
import base_image
import containers
import images
import pytest
import small
from as_written import INFRA, ROOT
from filelock import FileLock

pytestmark = pytest.mark.cluster
DOCKERFILE = INFRA / "docker" / "Dockerfile"

KEY, SECRET, TOKEN = "assaytestkey", "assaytestsecretvalue", "dG9rZW4tb2YtdGhlLXRlc3Rz"
CREDENTIALS = f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
S3_SECRET = {"access-key-id": KEY, "secret-access-key": SECRET, "endpoint": "http://s3:9000"}
# rclone, which stands for the object store of a cloud here, does not send the checksums that newer clients ask for.
RCLONE = {"AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required", "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}
EAGER = {"TORCHDYNAMO_DISABLE": "1"}  # to compile kernels takes a CPU longer than all the rest; the values are the same
DAY = 24 * 3600
DOCUMENTS = 12
PATIENCE = 180.0  # seconds until a service answers: ten where nothing else runs
DYNAMIC_USER = "64000:64000"  # systemd takes one between 61184 and 65519


@dataclass(frozen=True)
class Nodes:
    """`head` and `worker` as infra/compose has them, `gpu` as a group of infra/kuberay; `s3` serves the bucket."""

    image: images.Image
    services: Mapping[str, Any]
    head: containers.Container
    s3: containers.Container

    def settings(self) -> dict[str, Any]:
        return self.image.settings(self.services["head"]["environment"])

    def run_row(self, run_id: str) -> dict[str, Any]:
        text = (self.s3.root / f"data/assay/lake/runs/{run_id}.json").read_text(encoding="utf-8")
        loaded: dict[str, Any] = json.loads(text)
        return loaded


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/base and corpus/, as the job files name them, written the day before: nights leave fresh files alone."""
    folder = tmp_path_factory.mktemp("bucket")
    model = small.make_model_folder(folder / "models" / "base")
    for path in model.iterdir():
        path.chmod(0o644)  # weights are saved for their owner alone
    (folder / "corpus").mkdir()
    small.write_corpus(folder / "corpus" / "corpus.jsonl", DOCUMENTS)
    yesterday = time.time() - DAY
    os.utime(folder / "corpus" / "corpus.jsonl", (yesterday, yesterday))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[containers.World]:
    if reason := containers.missing() or base_image.missing(DOCKERFILE):
        pytest.skip(reason)
    with containers.world(tmp_path_factory.mktemp("world"), ("s3", "head", "worker", "gpu")) as made:
        yield made


@pytest.fixture(scope="module")
def base(world: containers.World, tmp_path_factory: pytest.TempPathFactory) -> str:
    return base_image.layer(world, tmp_path_factory.mktemp("base") / "files")


@pytest.fixture(scope="module")
def image(world: containers.World, base: str, tmp_path_factory: pytest.TempPathFactory) -> images.Image:
    """Built once a session: the processes of pytest-xdist have one folder above their own."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_TESTRUNUID" in os.environ else own) / "assay-image"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            folder = tmp_path_factory.mktemp("image")
            images.save(world, images.build(world, base, DOCKERFILE, ROOT, folder), folder / "saved")
            (folder / "saved").rename(shared)
    return images.load(world, base, shared)


@pytest.fixture(scope="module")
def nodes(
    world: containers.World, image: images.Image, bucket: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    services = as_written.compose_services({"ASSAY_WORKER_CPUS": "1"})
    logs = tmp_path_factory.mktemp("logs")
    healthy = services["head"]["healthcheck"]["test"][1:]
    alive = [word for word in healthy if ":8265" not in word]
    with ExitStack() as stack:
        s3, head, worker, gpu = (
            stack.enter_context(world.container(name, () if name == "s3" else image.layers))
            for name in ("s3", "head", "worker", "gpu")
        )
        _serve(s3, services["s3"], bucket, logs)
        for container in (head, worker, gpu):
            _put_files(container)
        _start(image, head, services["head"], logs)
        head.until(healthy, PATIENCE)
        _start(image, worker, services["worker"], logs)
        group = _group("l4-spot")
        gpu.start(as_written.ray_start(group, "head"), log=logs / "gpu", **image.settings(_pod_environment(group)))
        for container in (worker, gpu):
            container.until(alive, PATIENCE)
        head.until(healthy, PATIENCE)  # an engine asks again and again
        yield Nodes(image, services, head, s3)


def _start(image: images.Image, container: containers.Container, service: Mapping[str, Any], logs: Path) -> None:
    argv = image.argv(service["command"], service["entrypoint"])
    container.start(argv, log=logs / container.name, **image.settings({**service["environment"], **EAGER}))


def _serve(s3: containers.Container, service: Mapping[str, Any], bucket: Path, logs: Path) -> None:
    rclone = containers.beside_python("rclone")
    s3.add(rclone, "/usr/local/bin/rclone")
    s3.add(bucket, "/data/assay")
    _put_files(s3)
    s3.start([*service["entrypoint"], *service["command"]], log=logs / "s3")
    answers = ["wget", "--quiet", "--spider", "--server-response", "http://s3:9000"]
    s3.until(answers, PATIENCE, accept=(0, 8))  # 8: with an error, as it asks for a key


def _put_files(container: containers.Container) -> None:
    """What an engine mounts: secrets and job files."""
    container.write("/run/secrets/credentials", CREDENTIALS)
    container.write("/run/secrets/ray-token", TOKEN)
    container.add(INFRA / "jobs", "/etc/assay")


def _group(name: str) -> dict[str, Any]:
    """A group of workers of the RayJob's cluster, with one processor and little memory."""
    (document,) = as_written.documents(INFRA / "kuberay" / "rayjob.yaml")
    (found,) = [each for each in as_written.groups(as_written.cluster_spec(document)) if each["groupName"] == name]
    group: dict[str, Any] = json.loads(json.dumps(found))
    group["template"]["spec"]["containers"][0]["resources"]["limits"] |= {"cpu": "1", "memory": "4Gi"}
    return group


def _pod_environment(group: Mapping[str, Any]) -> dict[str, str]:
    """The variables of the manifest, secrets looked up, and those that KubeRay adds for authOptions."""
    (container,) = group["template"]["spec"]["containers"]
    variables = {
        each["name"]: each["value"] if "value" in each else S3_SECRET[each["valueFrom"]["secretKeyRef"]["key"]]
        for each in container["env"]
    }
    return {**variables, **RCLONE, **EAGER, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


def _submitter(file: str) -> list[str]:
    """As KubeRay's submitter does; its output is the job's log, its exit code says whether the job succeeded."""
    (document,) = as_written.documents(INFRA / "kuberay" / file)
    spec = document["spec"]
    entrypoint = shlex.split(spec.get("jobTemplate", spec)["entrypoint"])
    return ["ray", "job", "submit", "--address", "http://head:8265", "--", *entrypoint]


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("RUN false", "ended with 1"),
        ("RUN apt-get install --yes no-such-package", "no packages found matching no-such-package"),
        ("RUN pip install 'ray<2'", "No matching distribution found"),
        ("RUN echo ray==1 > c && PIP_CONSTRAINT=c pip install ray", "conflicting dependencies"),
        ("COPY tests ./tests", "no such file in the context: tests"),
        ("HEALTHCHECK CMD true", "HEALTHCHECK is not known"),
        ("FROM python:3.9-slim", "must be the image's Python"),
    ],
)
def test_a_dockerfile_that_does_not_build_fails_here_too(
    world: containers.World, base: str, tmp_path: Path, instruction: str, message: str
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM python:3.11.14-slim-bookworm\n{instruction}\n", encoding="utf-8")
    with pytest.raises((ValueError, RuntimeError), match=message):
        images.build(world, base, tmp_path / "Dockerfile", ROOT, tmp_path)


def test_image(world: containers.World, image: images.Image) -> None:
    """Nothing of it can be changed by its user, nothing is left over from building, login shells find its commands."""
    assert (image.user, image.workdir, image.entrypoint) == ("10001:10001", "/home/assay", ("assay",))
    assert image.installed == ("g++", "wget")
    questions = {
        "help": shlex.join(image.argv(None)),
        "user": "id --user --real",
        "commands": "bash -lc 'command -v assay ray'",
        "code": "python -c 'import jobs, operators, ray; print(jobs.__file__, ray.__version__)'",
        "sql": "find /opt/assay/lib/python3*/site-packages/operators -name '*.sql' | wc -l",
        "home": "touch ~/a /cache/a && echo written",
        "installation": "touch /opt/assay/a || find /opt/assay -writable -not -type l",
        "pip": "python -m pip --version || echo no pip",
        "tests": "ls -d /build /opt/assay/lib/python3*/site-packages/tests || true",
    }
    with world.container("image", image.layers) as container:
        said = {name: container.run(["sh", "-c", question], **image.settings()) for name, question in questions.items()}
    assert {name: done.returncode for name, done in said.items()} == dict.fromkeys(questions, 0)
    assert "Score corpora with language models" in said["help"].stdout
    assert said["user"].stdout.strip() == "10001"
    assert said["commands"].stdout.split() == ["/opt/assay/bin/assay", "/opt/assay/bin/ray"]
    place, version = said["code"].stdout.split()
    assert place.startswith("/opt/assay/")
    assert f"ray=={version}" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert int(said["sql"].stdout) == len([*(ROOT / "operators").rglob("*.sql")])
    assert said["home"].stdout == "written\n"
    assert said["installation"].stdout.strip() == "touch: cannot touch '/opt/assay/a': Permission denied"
    assert said["pip"].stdout.endswith("no pip\n")
    assert said["tests"].stdout.count("No such file") == 2


def test_the_head_lets_its_driver_end(world: containers.World, image: images.Image) -> None:
    """What Kubernetes runs before the pod goes, with a stand-in of the driver that takes a while to end."""
    (document,) = as_written.documents(INFRA / "kuberay" / "rayjob.yaml")
    (container,) = as_written.cluster_spec(document)["headGroupSpec"]["template"]["spec"]["containers"]
    stop = container["lifecycle"]["preStop"]["exec"]["command"]
    driver = "#!/bin/bash\ntrap 'sleep 1; touch ended; exit' TERM\ntouch started\nwhile :; do sleep 0.1; done\n"
    with world.container("head", image.layers) as head:
        assert head.run(stop, **image.settings()).returncode in (0, 1), "nothing to stop, and nothing to wait for"
        head.write("/opt/assay/bin/assay", driver, 0o755)
        process = head.start(["/opt/assay/bin/assay", "run", "/etc/assay/membership.yaml"], **image.settings())
        head.until(["test", "-e", "/home/assay/started"], PATIENCE)
        head.run(stop, **image.settings())
        assert (head.root / "home/assay/ended").exists()
        assert process.wait(PATIENCE) == 0


def test_clusters_run_their_jobs(nodes: Nodes) -> None:
    """At the same time, on the same nodes, in one lake: `docker compose run score`, the RayJob and the RayCronJob."""
    compose = nodes.image.argv(nodes.services["score"]["command"])
    commands = (compose, _submitter("rayjob.yaml"), _submitter("raycronjob.yaml"))
    started = [nodes.head.start(argv, **nodes.settings()) for argv in commands]
    for process in started:
        output, _ = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == 0, (process.args, output)
        assert SECRET not in output
    (summary,) = (nodes.s3.root / "data/assay/lake/nights/web").glob("????-??-??.json")
    for run_id in ("first", "membership", f"web-{summary.stem}"):
        row = nodes.run_row(run_id)
        assert row["state"] == "finished", row
        assert SECRET not in json.dumps(row)


def test_systemd_has_a_good_night(world: containers.World, image: images.Image, bucket: Path) -> None:
    """ExecStart with the unit's variables, folders and credentials, as a user who owns nothing else."""
    service = as_written.unit(INFRA / "systemd" / "assay-nightly.service")["Service"]
    credentials = "/run/credentials/assay-nightly.service"
    words = shlex.split(" ".join(service["Environment"]))
    environment = {**dict(word.replace("%d", credentials).split("=", 1) for word in words), **EAGER}
    with world.container("box", image.layers) as box:
        for line in service["LoadCredential"]:
            name, _, path = line.partition(":")
            box.write(path, CREDENTIALS)
            box.write(f"{credentials}/{name}", CREDENTIALS)
        box.add(bucket / "models" / "base", "/srv/assay/model")
        box.add(bucket / "corpus", "/srv/assay/corpus")
        box.add(INFRA / "jobs", "/etc/assay")
        for kind, parent in (("StateDirectory", "/var/lib"), ("CacheDirectory", "/var/cache")):
            made = ["install", "--directory", f"--owner={DYNAMIC_USER.split(':')[0]}", f"{parent}/{service[kind][0]}"]
            assert box.run(made).returncode == 0
        (command,) = service["ExecStart"]
        (folder,) = service["WorkingDirectory"]
        done = box.run(shlex.split(command), user=DYNAMIC_USER, environment=environment, cwd=folder)
        assert done.returncode == 0, done.stdout
        status = box.run(["/opt/assay/bin/assay", "status", "/var/lib/assay/lake"], environment={"HOME": "/root"})
        assert status.returncode == 0, status.stdout
        lake = box.root / "var/lib/assay/lake"
        (summary,) = (lake / "nights" / "web").glob("????-??-??.json")
        row = json.loads((lake / "runs" / f"web-{summary.stem}.json").read_text(encoding="utf-8"))
    assert row["state"] == "finished"
