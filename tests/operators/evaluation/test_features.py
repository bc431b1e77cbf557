"""Scores of chosen documents as a matrix: the numbers of the score table, in the order asked for."""

from __future__ import annotations

import math
from pathlib import Path

import labelled
import numpy as np
import pytest

from operators.catalog import connect
from operators.evaluation.features import document_features
from operators.lake import Lake
from operators.scores import ScoreError, kept, score_table


def test_rows_are_the_documents_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = labelled.documents(np.random.default_rng(0), 10, tokens=8)
    labelled.write_run(Lake(str(tmp_path)), "run", made)
    names = ["lrr", "loss", "min_k(ratio=0.5)"]
    with connect(tmp_path) as connection:
        rows = score_table(connection, "run", names)
        expected = {
            (doc_id, variant): math.nan if value is None else value
            for doc_id, variant, value in zip(
                *(rows[c].to_pylist() for c in ("doc_id", "variant", "value")), strict=True
            )
        }
        ids = np.array([*sorted({doc_id for doc_id, _ in expected}, reverse=True)[3:9], 12345])
        for at_once in (kept.SLICE_TOKENS, 40):  # in one range of documents, and in several
            monkeypatch.setattr(kept, "SLICE_TOKENS", at_once)
            found = document_features(connection, "run", ids, names=names)
            assert found.variants == ("lrr", "loss", "min_k(ratio=0.5)")
            assert found.families == ("detection", "membership", "membership")
            assert np.isnan(found.values[-1]).all()  # a document that the run has not
            wanted = [[expected[doc_id, name] for name in found.variants] for doc_id in ids[:-1].tolist()]
            assert found.values[:-1] == pytest.approx(np.array(wanted), nan_ok=True)
        assert set(document_features(connection, "run", ids, families=["membership"]).families) == {"membership"}
        with pytest.raises(ScoreError, match="--transform lowercase"):
            document_features(connection, "run", ids, names=["lowercase"])
