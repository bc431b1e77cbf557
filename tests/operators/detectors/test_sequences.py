"""What networks read of tokens, against the definitions spelled out a document at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import labelled
import lakes
import numpy as np
import pytest

from operators.catalog import connect
from operators.detectors import sequences
from operators.detectors.card import DetectorError, Kind, Sequences
from operators.detectors.sequences import COLUMNS, layout, read_batches
from operators.lake import Lake
from operators.parquet import encode
from schemas import TOKENS


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lake")
    made = labelled.documents(np.random.default_rng(0), 12, tokens=18)
    labelled.write_run(Lake(str(path)), "run", made)
    labelled.write_run(Lake(str(path)), "bare", made, features=("extremes",))
    lakes.write_run(Lake(str(path)), "prompts", prompts={0: 6}, model={"vocab_size": 50})
    return path


def tokens(connection: duckdb.DuckDBPyConnection, run_id: str, doc_id: int, kind: Kind) -> list[dict[str, Any]]:
    sql = f"""select {", ".join(COLUMNS[kind])} from tokens where run_id = $run and doc_id = $doc
      and logprob is not null and not coalesce(in_prompt, false) order by position"""
    return connection.sql(sql, params={"run": run_id, "doc": doc_id}).to_arrow_table().to_pylist()


def ids(connection: duckdb.DuckDBPyConnection, run_id: str) -> np.ndarray[Any, Any]:
    sql = "select doc_id from documents where run_id = $run"
    return connection.sql(sql, params={"run": run_id}).to_arrow_table()["doc_id"].to_numpy()


def los_net(row: dict[str, Any], vocabulary: int) -> list[float]:
    top = [float(value) for value in row["topk_logprob"]]
    mean = sum(top) / len(top)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in top) / (len(top) - 1))
    z = [max(-10.0, min(10.0, (value - mean) / deviation)) for value in [*top, row["logprob"]]]
    zero_based = row["rank"] - 1
    return [*z, 2 * (0.5 - zero_based / vocabulary), 1 - 2 * math.log(row["rank"]) / math.log(vocabulary)]


def pawn(row: dict[str, Any]) -> list[float]:
    return [row["logprob"], row["entropy"], row["logprob_max"], math.log(row["rank"]), row["mass_above"]]


@pytest.mark.parametrize("kind", ["los_net", "pawn"])
@pytest.mark.parametrize("run_id", ["run", "prompts"])
def test_channels_are_those_of_the_definition(lake: Path, kind: Kind, run_id: str) -> None:
    vocabulary = 50 if run_id == "prompts" else labelled.VOCABULARY
    with connect(lake) as connection:
        inputs = layout(connection, run_id, kind, width=8)
        assert inputs.positions == (100 if kind == "los_net" else 512)
        (batch,) = read_batches(connection, run_id, inputs, ids(connection, run_id))
        for place, doc_id in enumerate(batch.doc_ids.tolist()):
            rows = tokens(connection, run_id, doc_id, kind)
            expected = [los_net(row, vocabulary) if kind == "los_net" else pawn(row) for row in rows]
            assert batch.values[place, : len(rows)] == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5)
            assert batch.mask[place].tolist() == [True] * len(rows) + [False] * (inputs.positions - len(rows))
            assert not batch.values[place, len(rows) :].any()


def test_batches_hold_so_many_documents_and_only_those_asked_for(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(lake) as connection:
        inputs = layout(connection, "run", "pawn", width=8, positions=5)
        every = np.sort(ids(connection, "run"))
        (whole,) = read_batches(connection, "run", inputs, every)
        monkeypatch.setattr(sequences, "BATCH_BYTES", 4 * 5 * 5 * 5)  # documents of five tokens, five numbers each
        parts = list(read_batches(connection, "run", inputs, every[::-2]))
    assert [part.doc_ids.size for part in parts] == [5, 5, 2]
    assert np.array_equal(np.concatenate([part.doc_ids for part in parts]), every[1::2])
    assert np.array_equal(np.concatenate([part.values for part in parts]), whole.values[1::2])
    assert whole.mask.shape == (24, 5)
    assert whole.mask.all()


def test_a_run_without_the_columns_says_how_to_make_them(lake: Path) -> None:
    with connect(lake) as connection:
        with pytest.raises(DetectorError, match="score the corpus with --features topk"):
            layout(connection, "bare", "los_net", width=8)
        inputs = layout(connection, "bare", "pawn", width=8)
        with pytest.raises(DetectorError, match="--features extremes,nucleus"):
            list(read_batches(connection, "bare", inputs, ids(connection, "bare")))
        longer = Sequences(
            kind="los_net", channels=("z_1",), positions=5, top_k=labelled.TOP_K + 1, vocab_size=500, width=8
        )
        with pytest.raises(DetectorError, match=f"--top-k {labelled.TOP_K + 1}"):
            list(read_batches(connection, "run", longer, ids(connection, "run")))


def test_impossible_tokens_and_flat_predictions_stay_finite(tmp_path: Path) -> None:
    """-inf where a probability is 0, and rows whose log-probs are all the same."""
    lake = Lake(str(tmp_path))
    made = labelled.documents(np.random.default_rng(1), 3, tokens=6)
    labelled.write_run(lake, "run", made)
    part = lake.parts("tokens", "run")[0]
    table = lakes.read(lake, part)
    flat = [None if value is None else [-1.0] * labelled.TOP_K for value in table["topk_logprob"].to_pylist()]
    sunk = [None if value is None else -math.inf for value in table["logprob"].to_pylist()]
    for name, values in (("topk_logprob", flat), ("logprob", sunk)):
        table = lakes.put(name, lambda _, v=values: v)(table)
    lake.storage.write(part.path, encode(table, TOKENS))
    with connect(tmp_path) as connection:
        for kind in ("los_net", "pawn"):
            inputs = layout(connection, "run", kind, width=8)  # type: ignore[arg-type]
            for batch in read_batches(connection, "run", inputs, ids(connection, "run")):
                assert np.isfinite(batch.values).all()
                assert batch.mask.any(axis=1).all()
