"""infra/jobs: each passes `assay check`, and what it names stands in the places that start it."""

from __future__ import annotations

from pathlib import Path

import pytest
from as_written import INFRA

from jobs.job_file import read_job_file, words

FILES = sorted(path for path in (INFRA / "jobs").glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_is_sound(path: Path) -> None:
    job = read_job_file(path)
    assert job.verb == (("nightly",) if "nightly" in path.name else ("score",))
    assert words(job)[0] == job.verb[0]
    if job.verb == ("nightly",):
        assert job.of_a_night()["lake"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_says_what_to_change(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("verb:")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "To change:" in head


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_is_started_by_something(path: Path) -> None:
    starters = [*(INFRA / "kuberay").iterdir(), INFRA / "compose" / "compose.yaml", *(INFRA / "systemd").iterdir()]
    assert [file.name for file in starters if f"/etc/assay/{path.name}" in file.read_text(encoding="utf-8")]


def test_on_clusters_that_scale_from_nothing_gpus_are_asked_for() -> None:
    for name in ("membership.yaml", "nightly.yaml"):
        fields = read_job_file(INFRA / "jobs" / name).fields
        assert fields["gpus_per_actor"] == 1
        assert fields["actors"] <= fields["max_actors"]
