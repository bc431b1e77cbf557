"""A machine that does not see the input or the lake says so: nothing is rejected for it, and nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import runs
import small
from runs import rows

from operators.lake import Lake
from operators.verify import verify
from pipelines.plan import make_plan
from pipelines.score import RunError, score_corpus

pytestmark = pytest.mark.usefixtures("no_catalog")


@pytest.mark.parametrize("more", [{}, {"id_column": "text"}])
def test_an_input_that_is_not_here_is_no_reject(model_folder: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    (tmp_path / "in").mkdir()
    small.write_corpus(tmp_path / "in" / "a.jsonl", 9)
    plan = make_plan(runs.config(model_folder, tmp_path / "in", tmp_path / "lake", **more))
    shutil.move(tmp_path / "in", tmp_path / "away")
    with pytest.raises(RunError, match=f"has no folder {tmp_path}/in, where the input is: .*every node sees"):
        score_corpus(plan)
    shutil.move(tmp_path / "away", tmp_path / "in")
    ledger = runs.run(model_folder, tmp_path / "in", tmp_path / "lake", **more)
    assert (ledger["totals"]["documents"], ledger["totals"]["rejects"]) == (9, 0)
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_a_lake_that_is_another_one_here_takes_no_part(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from a node that has a disk of its own under the lake's path: the driver's ledger is not there."""
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.steps.ledger_path", lambda run_id: f"runs/{run_id} of the driver.json")
        with pytest.raises(RunError, match=r"has no .*, which the driver has written: a lake that many machines write"):
            runs.run(model_folder, corpus, tmp_path)
    assert not (tmp_path / "tokens").exists()
    runs.run(model_folder, corpus, tmp_path)
    assert len(rows(tmp_path, "documents"))
