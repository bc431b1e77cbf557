"""The operator over Arrow: what it adds, where NULLs stand, and which documents it refuses."""

from __future__ import annotations

import copy

import families
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from operators.model_files import ModelError, ModelOptions
from operators.models import ScoringModel
from operators.score import ScoreOptions, Scorer
from operators.statistics import TileOptions
from operators.windows import WindowOptions
from schemas import FEATURE_GROUPS
from schemas.flow import TOKENIZED, scored

WINDOWS = WindowOptions(16, 8)


def scorer_of(model: torch.nn.Module, features: tuple[str, ...] = FEATURE_GROUPS) -> Scorer:
    options = ScoreOptions(
        ModelOptions("made here"), WINDOWS, features, TileOptions(rows=32, columns=64, compiled=False)
    )
    return Scorer(options, ScoringModel(copy.deepcopy(model)))


def block(*documents: list[int] | None) -> pa.Table:
    """A tokenized block; None is a record that was rejected before."""
    rows = [
        {"source": "s", "row": i, "key": str(i), "text": "x" * len(ids), "token_id": ids,
         "byte_start": list(range(len(ids))), "n_bytes": [1] * len(ids)} if ids is not None
        else {"source": "s", "row": i, "reason": "empty_text"}
        for i, ids in enumerate(documents)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=TOKENIZED)


@pytest.fixture(scope="module")
def llama() -> torch.nn.Module:
    return families.make_model("llama", sharpness=3.0)


@pytest.mark.parametrize("documents", [(), (None,), (None, None), ([5],), ([5], None, [6])])
@pytest.mark.parametrize("features", [(), FEATURE_GROUPS], ids=["core", "all"])
def test_blocks_without_predictions(
    llama: torch.nn.Module, documents: tuple[list[int] | None, ...], features: tuple[str, ...]
) -> None:
    out = scorer_of(llama, features)(block(*documents))
    assert out.schema.equals(scored(features))
    for i, ids in enumerate(documents):
        assert out["logprob"][i].as_py() == (None if ids is None else [None])


def test_rows_keep_their_order_and_rejects_stay_rejects(llama: torch.nn.Module) -> None:
    out = scorer_of(llama)(block([1, 2, 3], None, list(range(40))))
    assert out["row"].to_pylist() == [0, 1, 2]
    assert out["reason"].to_pylist() == [None, "empty_text", None]
    assert [None if v is None else len(v) for v in out["entropy"].to_pylist()] == [3, None, 40]


def test_null_stands_only_at_the_first_token(llama: torch.nn.Module) -> None:
    out = scorer_of(llama)(block(list(range(40)), [7, 8]))
    for name in out.schema.names:
        if name in TOKENIZED.names or name == "hidden":
            continue
        for values in out[name].to_pylist():
            assert [v is None for v in values] == [True] + [False] * (len(values) - 1), name


def test_hidden_states_are_those_of_the_window_that_scores_the_token(llama: torch.nn.Module) -> None:
    ids = torch.randint(0, 331, (30,), generator=torch.Generator().manual_seed(3))
    kept = np.array(scorer_of(llama)(block(ids.tolist()))["hidden"][0].as_py(), dtype=np.float16)
    assert kept.shape == (30, 48)
    with torch.no_grad():
        for start, stop, first in ((0, 16, 0), (8, 24, 16), (16, 30, 24)):
            states = llama.model(input_ids=ids[None, start:stop]).last_hidden_state[0, first - start :]
            np.testing.assert_allclose(kept[first:stop], states.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("features", [(), ("hidden",)])
def test_a_document_with_broken_statistics_is_a_reject(llama: torch.nn.Module, features: tuple[str, ...]) -> None:
    broken = copy.deepcopy(llama)
    with torch.no_grad():
        broken.model.embed_tokens.weight[300] = torch.nan
    model = ScoringModel(copy.deepcopy(llama))
    model.model.load_state_dict(broken.state_dict())
    scorer = scorer_of(llama, features)
    scorer.model, scorer.statistics.head = model, model.head
    out = scorer(block([1, 2, 3], [4, 300, 5], [6, 7]))
    assert out["reason"].to_pylist() == [None, "non_finite_score", None]
    assert out["text"].to_pylist() == ["xxx", None, "xx"]
    assert out["logprob"][1].as_py() is None
    assert "float32" in out["detail"][1].as_py()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mamba"])
def test_a_document_scored_alone_is_its_row_of_the_block(family: str) -> None:
    """Whoever takes a block apart, to find the document that kills its worker, writes the same bits."""
    scorer = scorer_of(families.make_model(family, sharpness=3.0))
    rng = np.random.default_rng(4)
    together = block(None, *(rng.integers(0, 331, n).tolist() for n in (1, 2, 3, 16, 17, 40, 25)), [7])
    whole = scorer(together)
    for i in range(len(together)):
        assert scorer(together.slice(i, 1)).equals(whole.slice(i, 1)), together["token_id"][i]
    assert whole.filter(pc.is_valid(whole["logprob"])).num_rows == 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoints_are_scored(dtype: torch.dtype) -> None:
    out = scorer_of(families.make_model("llama", dtype=dtype))(block(list(range(20))))
    assert np.isfinite(np.array(out["logprob"][0].as_py()[1:])).all()


def test_unknown_features_are_refused() -> None:
    with pytest.raises(ValueError, match="choose from extremes"):
        ScoreOptions(ModelOptions("x"), WINDOWS, ("colour",))


def test_the_fused_kernel_gives_the_same_columns(llama: torch.nn.Module) -> None:
    """Interpreted where there is no CUDA device; the hidden states are the same bits, the head's sums are not."""
    pytest.importorskip("triton")
    documents = block([1, 2, 3], None, list(range(40)), [9] * 17)
    tiled = scorer_of(llama)(documents)
    options = ScoreOptions(
        ModelOptions("made here"), WINDOWS, FEATURE_GROUPS, TileOptions(rows=128, compiled=False, kernel="triton")
    )
    fused = Scorer(options, ScoringModel(copy.deepcopy(llama)))
    assert fused.statistics.name == "triton"
    got = fused(documents)
    assert got.schema == tiled.schema
    for name in ("logprob", "entropy", "logprob_std", "mass_above", "renyi_quarter", "renyi_half", "rest_entropy"):
        expected, values = (pc.list_flatten(table[name]).to_numpy(zero_copy_only=False) for table in (tiled, got))
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    assert got["hidden"].equals(tiled["hidden"])
    assert got["rank"].equals(tiled["rank"])


def test_a_kernel_that_cannot_run_here_says_why(llama: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET")
    options = ScoreOptions(ModelOptions("made here"), WINDOWS, (), TileOptions(kernel="triton"))
    with pytest.raises(
        ModelError, match=r"--kernel: triton cannot run here: it needs a CUDA device, and the model is on cpu"
    ):
        Scorer(options, ScoringModel(copy.deepcopy(llama)))
