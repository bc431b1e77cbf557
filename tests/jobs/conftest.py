"""The lake that `assay contamination` is tested on and two verdicts on it: read only, made once a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import judged
import pytest


@pytest.fixture(scope="session")
def judged_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judged")
    judged.make_lake(path)
    return path


@pytest.fixture(scope="session")
def fresh_alone(judged_lake: Path) -> dict[str, Any]:
    return judged.as_json(judged_lake, "--benchmark", "fresh")


@pytest.fixture(scope="session")
def judgement(judged_lake: Path) -> dict[str, Any]:
    benchmarks = ["--benchmark", "seen", "--benchmark", "fresh"]
    return judged.as_json(judged_lake, *benchmarks, "--clean", "clean", *judged.ONE_SCORE)
