"""Loss by vocabulary type against plain loops: means, clustered intervals, spellings, whatever the batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import memorized_runs
import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from operators.lake import Lake, Part
from operators.mixtures.fit_vocabulary import Types, document_sums, rows, vocabulary_fit
from schemas import DOCUMENTS, VOCABULARY_FIT

RUN = memorized_runs.RUN


def made() -> list[memorized_runs.Document]:
    rng = np.random.default_rng(4)
    found = []
    for i in range(30):
        hits: list[bool | None] = [None, *(rng.random(int(rng.integers(1, 50))) < 0.5).tolist()]
        found.append(memorized_runs.document(f"k{i}", rng, hits))
    return [*found, memorized_runs.document("one", rng, [None])]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("vocabulary") / "lake"))
    memorized_runs.write_run(lake, RUN, made(), block=4)
    return lake


def expected(documents: list[memorized_runs.Document], level: float) -> dict[int, dict[str, Any]]:
    """Rows in plain Python; the ids of these documents are positions, so each document holds a type once at most."""
    losses: dict[int, list[float]] = {}
    for each in documents:
        for token, value in enumerate(each.logprobs):
            if value is not None:
                losses.setdefault(token, []).append(-value)
    total = sum(sum(values) for values in losses.values())
    return {
        token: {
            "n": len(values),
            "n_documents": len(values),
            "mean_loss": np.mean(values),
            "loss_share": sum(values) / total,
            "interval": interval(np.array(values), np.ones(len(values)), level),
        }
        for token, values in losses.items()
    }


def interval(loss: np.ndarray[Any, Any], n: np.ndarray[Any, Any], level: float) -> tuple[float, float] | None:
    """The definition of the module's docstring."""
    if len(loss) < 2:
        return None
    mean = loss.sum() / n.sum()
    influence = (loss - mean * n) / loss.sum()
    carried = (influence**2).sum() ** 2 / (influence**4).sum()
    reach = stats.t.ppf((1 + level) / 2, max(carried, 1)) * math.sqrt((influence**2).sum())
    return mean * math.exp(-reach), mean * math.exp(reach)


@pytest.mark.parametrize("batch", [1 << 20, 7])
def test_numbers_equal_a_plain_loop_whatever_the_batches(lake: Lake, batch: int) -> None:
    table = vocabulary_fit(lake, RUN, 0.9, batch=batch)
    assert VOCABULARY_FIT.validate(table) == []
    want = expected(made(), 0.9)
    got = {row["token_id"]: row for row in table.to_pylist()}
    assert list(got) == sorted(want)
    for token, row in got.items():
        ends = want[token].pop("interval")
        for name, value in want[token].items():
            assert row[name] == pytest.approx(value, rel=1e-9), (token, name)
        found = (row["mean_loss_low"], row["mean_loss_high"])
        assert found == ((None, None) if ends is None else pytest.approx(ends, rel=1e-6))
        assert row["confidence"] == 0.9
    assert sum(row["loss_share"] for row in got.values()) == pytest.approx(1)


def test_occurrences_of_one_document_stand_together() -> None:
    """Ten documents, the first with most of the occurrences: the error is that of documents."""
    rng = np.random.default_rng(0)
    n = np.array([200.0, *[5.0] * 9])
    loss = n * rng.lognormal(0, 0.5, 10)
    types = Types()
    types.add(np.array([7]), document_sums(np.zeros(10, np.intp), loss, n))
    (row,) = rows(types, 0.95).to_pylist()
    assert (row["token_id"], row["n"], row["n_documents"]) == (7, 245, 10)
    assert row["mean_loss"] == pytest.approx(loss.sum() / n.sum())
    assert (row["mean_loss_low"], row["mean_loss_high"]) == pytest.approx(interval(loss, n, 0.95), rel=1e-9)


def test_types_add_up_in_any_order() -> None:
    rng = np.random.default_rng(1)
    parts = [(np.array(ids), rng.random((len(ids), 11))) for ids in ([3, 5], [1], [5, 9], [1, 3, 9])]
    first, second = Types(), Types()
    for ids, sums in parts:
        first.add(ids, sums)
    for ids, sums in reversed(parts):
        second.add(ids, sums)
    assert first.ids.tolist() == second.ids.tolist() == [1, 3, 5, 9]
    assert first.sums_VP == pytest.approx(second.sums_VP)
    assert first.sums_VP[2] == pytest.approx(parts[0][1][1] + parts[2][1][0])


def test_losses_that_are_nothing_or_alike() -> None:
    types = Types()
    types.add(np.array([0]), document_sums(np.zeros(3, np.intp), np.zeros(3), np.ones(3)))
    types.add(np.array([1]), document_sums(np.zeros(3, np.intp), np.full(3, 0.3), np.ones(3)))
    certain, alike = rows(types, 0.95).to_pylist()
    assert (certain["mean_loss"], certain["mean_loss_low"], certain["mean_loss_high"]) == (0, None, None)
    assert alike["mean_loss_low"] == alike["mean_loss_high"] == pytest.approx(0.3)
    assert certain["loss_share"] == 0


def test_an_infinite_loss_leaves_shares_without_a_number() -> None:
    """`verify` reports such tokens; their types are still told apart."""
    types = Types()
    types.add(np.array([0, 1]), document_sums(np.array([0, 0, 1, 1]), np.array([math.inf, 1, 1, 2]), np.ones(4)))
    table = rows(types, 0.95)
    assert VOCABULARY_FIT.validate(table) == []
    endless, finite = table.to_pylist()
    assert (endless["mean_loss"], endless["mean_loss_low"], endless["loss_share"]) == (math.inf, None, None)
    assert (finite["mean_loss"], finite["loss_share"]) == (1.5, None)


def test_a_type_is_spelt_as_its_first_occurrence_is(lake: Lake) -> None:
    """In the order of the parts and in them of documents; NULL for half a character and for no byte."""
    by_id = {}
    for each in made():
        by_id[each.text] = each
    spelt: dict[int, str | None] = {}
    for part in lake.readable_tokens(RUN):
        with lake.storage.parquet(Part(DOCUMENTS.name, RUN, part.name).path) as file:
            documents = file.read(columns=["doc_id", "text"]).sort_by("doc_id").to_pylist()
        for row in documents:
            document = by_id[row["text"]]
            for token, (piece, value) in enumerate(zip(document.pieces, document.logprobs, strict=True)):
                if value is None or token in spelt:
                    continue
                try:
                    spelt[token] = piece.decode() or None
                except UnicodeDecodeError:
                    spelt[token] = None
    table = vocabulary_fit(lake, RUN, 0.95, batch=11)
    assert dict(zip(table["token_id"].to_pylist(), table["text"].to_pylist(), strict=True)) == spelt
    assert None in spelt.values()
    assert len(set(spelt.values())) > 4


def test_without_texts_nothing_is_spelt(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    memorized_runs.write_run(lake, RUN, made(), keep_text=False)
    table = vocabulary_fit(lake, RUN, 0.95)
    assert table["text"].null_count == len(table) > 0


def test_a_run_without_a_scored_token_has_no_types(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    memorized_runs.write_run(lake, RUN, [made()[-1]])
    table = vocabulary_fit(lake, RUN, 0.95)
    assert len(table) == 0
    assert table.schema.equals(VOCABULARY_FIT.arrow())
    assert isinstance(table, pa.Table)
