"""Matching by length, the matrix of scores, and what is read of a run's documents."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import labelled
import numpy as np
import pyarrow as pa
import pytest

from operators.evaluation import auroc, match_lengths, matched_auroc, score_matrix
from operators.evaluation.documents import read_documents, read_keys, read_texts
from operators.evaluation.run_scores import RunScores, reading, run_scores
from operators.lake import Lake
from operators.query import QueryError
from operators.scores import ScoreError
from operators.scores.kept import keep_detector
from schemas import SCORES

# Lengths


def by_length(rng: np.random.Generator, count: int) -> tuple[Any, Any]:
    """Lengths and labels where the longer a document, the likelier its label is 1."""
    lengths = np.round(rng.lognormal(6, 0.7, count))
    return lengths, (np.log(lengths) + rng.normal(0, 0.7, count) > 6).astype(np.float64)


def test_matched_lengths_say_nothing() -> None:
    """The label follows the length alone: AUROC of the length far above 1/2, and 1/2 on matched documents."""
    matched, covered = [], []
    for seed in range(30):
        lengths, labels = by_length(np.random.default_rng(seed), 600)
        assert auroc(lengths, labels) > 0.7
        pairs = match_lengths(lengths, labels, seed=seed)
        found = matched_auroc(lengths, labels, pairs)
        assert found.n_pairs == len(pairs) > 100
        matched.append(found.auroc)
        covered.append(found.auroc if 0.5 in found.interval else math.nan)
    assert np.mean(matched) == pytest.approx(0.5, abs=0.01)
    assert max(abs(np.array(matched) - 0.5)) < 0.02


def test_a_score_beside_length_stays() -> None:
    lengths, labels = by_length(np.random.default_rng(1), 2000)
    scores = np.random.default_rng(2).normal(labels, 1)
    found = matched_auroc(scores, labels, match_lengths(lengths, labels))
    assert found.auroc == pytest.approx(0.76, abs=0.04)
    assert found.auroc in found.interval


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_nearest_and_used_once(seed: int) -> None:
    """Each pair lies within the caliper; one positive alone gets the nearest negative there is."""
    rng = np.random.default_rng(seed)
    lengths, labels = rng.integers(1, 500, 300).astype(float), rng.integers(0, 2, 300).astype(float)
    pairs = match_lengths(lengths, labels, caliper=0.1, seed=seed)
    assert (labels[pairs] == [1, 0]).all()
    assert np.unique(pairs).size == pairs.size
    assert (abs(np.diff(np.log(lengths[pairs]), axis=1)) <= 0.1).all()
    left = np.setdiff1d(np.arange(300), pairs)
    distances = abs(np.log(lengths[left[labels[left] == 1]][:, None] / lengths[left[labels[left] == 0]]))
    assert distances.min(initial=1) > 0.1  # nobody is left who could have been paired
    only = np.where(labels == 1, np.nan, labels)
    only[7] = 1.0
    ((_, partner),) = match_lengths(lengths, only, caliper=9)
    others = np.flatnonzero(only == 0)
    nearest = abs(np.log(lengths[others] / lengths[7])).min()
    assert abs(np.log(lengths[partner] / lengths[7])) == pytest.approx(nearest)


def test_matching_is_seeded_and_takes_what_it_gets() -> None:
    lengths, labels = by_length(np.random.default_rng(3), 300)
    assert np.array_equal(match_lengths(lengths, labels, seed=1), match_lengths(lengths, labels, seed=1))
    assert not np.array_equal(match_lengths(lengths, labels, seed=1), match_lengths(lengths, labels, seed=2))
    assert match_lengths([10, 10.4, 0, None, 12], [1, 0, 1, 0, 0]).tolist() == [[0, 1]]
    assert len(match_lengths([1, 1000], [1, 0])) == 0
    assert len(match_lengths([], [])) == 0
    nothing = matched_auroc([1.0, 2.0], [1, 0], match_lengths([1, 1000], [1, 0]))
    assert nothing.n_pairs == 0
    assert math.isnan(nothing.auroc)
    with pytest.raises(ValueError, match="caliper"):
        match_lengths([1], [1], caliper=-1)


def test_a_pair_goes_where_one_side_is_undefined() -> None:
    pairs = np.array([[0, 1], [2, 3], [4, 5]])
    found = matched_auroc([1, 0, math.nan, 5, 2, 3], [1, 0, 1, 0, 1, 0], pairs)
    assert (found.n_pairs, found.auroc) == (2, 0.5)


# The matrix

HOSTILE = "x'); drop table scores; --\x00$\\alpha$"


def long_table(rows: list[tuple[int, str, float | None]]) -> pa.Table:
    ids, names, values = zip(*rows, strict=True)
    return pa.table({"doc_id": pa.array(ids, pa.int64()), "variant": names, "value": pa.array(values, pa.float64())})


def test_matrix_equals_a_dictionary() -> None:
    rng = np.random.default_rng(5)
    ids = rng.choice(1 << 62, 50, replace=False)
    names = ["loss", HOSTILE, "min_k(ratio=0.1)"]
    cells = {(int(i), name): (None if rng.random() < 0.2 else rng.normal()) for i in ids for name in names}
    cells = {key: value for key, value in cells.items() if rng.random() < 0.8}
    rows = [(i, name, value) for (i, name), value in cells.items()]
    rng.shuffle(rows)
    wanted = rng.permutation(np.r_[ids[:30], [1, 2]])
    whole = long_table(rows)
    pieces = [whole.slice(0, 13), *whole.slice(13).to_batches(max_chunksize=9)]
    encoded = whole.set_column(1, "variant", whole["variant"].dictionary_encode())
    for table in (whole, pieces, encoded):
        found, matrix = score_matrix(table, wanted)
        assert found == list(dict.fromkeys(name for _, name, _ in rows))
        assert matrix.shape == (32, 3)
        for row, doc_id in zip(matrix, wanted, strict=True):
            for name, value in zip(found, row, strict=True):
                expected = cells.get((int(doc_id), name))
                assert math.isnan(value) if expected is None else value == expected


def test_matrix_of_nothing() -> None:
    assert score_matrix(long_table([(1, "a", 2.0)]), [])[1].shape == (0, 1)
    assert score_matrix([], [3, 4])[1].shape == (2, 0)
    old = long_table([(1, "a", math.inf)]).rename_columns(["doc_id", "score", "value"])
    assert score_matrix(old, [1])[1].tolist() == [[math.inf]]


def test_matrix_refuses_two_values_of_a_document() -> None:
    with pytest.raises(ValueError, match="named twice"):
        score_matrix(long_table([(1, "a", 2.0)]), [1, 1])
    for rows in ([long_table([(1, "a", 2.0), (1, "a", None)])], [long_table([(1, "a", None)])] * 2):
        with pytest.raises(ValueError, match="two values"):
            score_matrix(rows, [1])


# Documents of a lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("lake"))
    rng = np.random.default_rng(6)
    made = [
        dataclasses.replace(
            document,
            key=f"{HOSTILE}{i}",
            label=document.label if i < 60 else None,
            domain=None if i % 5 == 0 else f"d{i % 4}'",
            attributes={"book": str(i // 3)} | ({HOSTILE: "x"} if i < 4 else {}),
        )
        for i, document in enumerate(labelled.documents(rng, 40, shift=0.5))
    ]
    labelled.write_run(Lake(folder), "r", made)
    labelled.write_run(Lake(folder), "other", made[:4])
    return folder


def test_documents_of_a_run(lake: str) -> None:
    found = read_documents(lake, "r", cluster="domain")
    assert len(found) == 80
    assert (np.diff(found.doc_ids) > 0).all()
    assert (found.count(1), found.count(0), int(np.isnan(found.labels).sum())) == (30, 30, 20)
    assert found.clusters is not None
    assert np.isnan(found.clusters).sum() == 16
    assert np.unique(found.clusters[~np.isnan(found.clusters)]).size == 4
    assert (found.n_bytes > 0).all()


@pytest.mark.parametrize(("cluster", "groups"), [("book", 27), ("source", 1), (HOSTILE, 1)])
def test_clusters_are_columns_and_attributes(lake: str, cluster: str, groups: int) -> None:
    clusters = read_documents(lake, "r", cluster=cluster).clusters
    assert clusters is not None
    assert np.unique(clusters[~np.isnan(clusters)]).size == groups


def test_labels_may_be_any_expression(lake: str) -> None:
    found = read_documents(lake, "r", label="domain = 'd1''' -- a comment")
    assert set(found.labels[~np.isnan(found.labels)]) == {0.0, 1.0}
    assert found.count(1) == 16
    with pytest.raises(ValueError, match=r"expected 1, 0 or NULL, found"):
        read_documents(lake, "r", label="n_bytes")
    for hostile in ("1) from documents; drop view tokens; --", "(select content from read_text('/etc/hostname'))", "x"):
        with pytest.raises(QueryError):
            read_documents(lake, "r", label=hostile)
    with pytest.raises(ValueError, match="no document has one"):
        read_documents(lake, "r", cluster="nothing")


def test_texts_are_of_the_documents_asked_for(lake: str) -> None:
    documents = read_documents(lake, "r")
    with reading(lake) as connection:
        some, rows = read_texts(connection, "r", documents, ("label", "text", "n_bytes"), most=7)
        keys = read_keys(connection, "r", some.doc_ids)
    assert (some.count(1), some.count(0), len(some)) == (7, 7, 14)
    assert rows["doc_id"].to_pylist() == some.doc_ids.tolist()
    assert rows["label"].to_pylist() == some.labels.tolist()
    assert [len(text) for text in rows["text"].to_pylist()] == some.n_bytes.tolist()
    assert set(some.doc_ids[some.labels == 1]) == set(documents.doc_ids[documents.labels == 1][:7])
    assert set(keys) == set(some.doc_ids.tolist())
    assert all(key.startswith(HOSTILE) for key in keys.values())


def test_texts_are_of_bounded_size(lake: str) -> None:
    """Of each class the first that fit into half of the bytes."""
    documents = read_documents(lake, "r")
    with reading(lake) as connection:
        some, rows = read_texts(connection, "r", documents, ("text",), most=100, most_bytes=1000)
    for label in (0, 1):
        sizes = documents.n_bytes[documents.labels == label]
        assert some.count(label) == int((sizes.cumsum() <= 500).sum()) > 5
    assert sum(map(len, rows["text"].to_pylist())) <= 1000


def test_scores_of_a_run_are_columns(lake: str) -> None:
    documents = read_documents(lake, "r")
    with reading(lake) as connection:
        found = run_scores(Lake(lake), connection, "r", documents.doc_ids, names=["loss", "min_k(ratio=0.5)"])
        everything = run_scores(Lake(lake), connection, "r", documents.doc_ids)
        with pytest.raises(ScoreError, match="nonsense"):
            run_scores(Lake(lake), connection, "r", documents.doc_ids, names=["nonsense"])
    assert found.names == ("loss", "min_k(ratio=0.5)")
    assert found.values.shape == (80, 2)
    assert not np.isnan(found.values).any()
    known = ~np.isnan(documents.labels)
    assert auroc(found.columns()["loss"][known], documents.labels[known]) > 0.8
    assert {"loss", "min_k", "fast_detectgpt"} <= set(everything.names)
    assert "perplexity" not in everything.names  # higher is a worse fit: nothing about labels
    assert "lowercase" in {missing.score for missing in everything.missing}


def test_learned_scores_are_read_as_stored_of_the_run_as_it_is(lake: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "lake")
    shutil.copytree(lake, copy)
    documents = read_documents(copy, "r")
    for variant in ("pawn(x)", HOSTILE):
        rows = [
            {"run_id": "r", "doc_id": int(i), "family": "learned", "score": "pawn", "variant": variant,
             "parameters": "{}", "value": float(n)}
            for n, i in enumerate(documents.doc_ids)
        ]  # fmt: skip
        keep_detector(Lake(copy), "r", pa.Table.from_pylist(rows, schema=SCORES.arrow(with_partitions=True)))

    def found(**asked: Any) -> RunScores:
        with reading(copy) as connection:
            return run_scores(Lake(copy), connection, "r", documents.doc_ids, **asked)

    one = found(names=["pawn(x)"])
    assert (one.names, one.missing) == (("pawn(x)",), ())
    assert one.values[:, 0].tolist() == list(range(80))
    assert set(found(families=["learned"]).names) == {"pawn(x)", HOSTILE}
    assert "pawn(x)" in found().names
    ledger = Lake(copy).read_run("r")
    Lake(copy).write_run("r", ledger | {"finished_at": "2026-11-22T00:00:00+00:00"})  # it went on since
    for asked in ({"names": ["pawn(x)"]}, {"families": ["learned"]}, {}):
        later = found(**asked)
        assert "pawn(x)" not in later.names
        (why,) = [each for each in later.missing if each.score == "pawn(x)"]
        assert why.why == "its scores are of the run as it was before"
        assert why.command.startswith("assay scores")
    assert "loss" in later.names


def test_no_learned_scores_are_said_where_they_are_asked_for(lake: str) -> None:
    with reading(lake) as connection:
        asked = run_scores(Lake(lake), connection, "r", np.zeros(0, dtype=np.int64), families=["learned"])
        by_default = run_scores(Lake(lake), connection, "r", np.zeros(0, dtype=np.int64))
    assert asked.names == ()
    assert [each.why for each in asked.missing] == ["no detector's scores are kept for the run"]
    assert "learned" not in {each.family for each in by_default.missing}


def test_failing_statements_are_query_errors(lake: str) -> None:
    with pytest.raises(QueryError, match="nothing"), reading(lake) as connection:
        connection.execute("select nothing from documents")
