"""A fixed prefix before every window: against float64, one window at a time, and nothing of it in the rows."""

from __future__ import annotations

import copy

import families
import numpy as np
import oracle
import pyarrow as pa
import pytest
import torch

from operators.model_files import ModelOptions
from operators.models import ScoringModel
from operators.score import ScoreOptions, Scorer
from operators.statistics import TileOptions
from operators.windows import Segment, WindowOptions, pack, segments, windows
from schemas import FEATURE_GROUPS
from schemas.flow import TOKENIZED
from schemas.tokens import EXTREMES, HIDDEN

PREFIX = (7, 300, 12, 0, 45)
WINDOWS = WindowOptions(16, 8, PREFIX)
LENGTHS = (1, 2, 15, 16, 17, 40, 3, 33)
WHOLE = [(0, 16, 0), (8, 24, 16), (16, 32, 24), (24, 40, 32)]  # of a document of 40 tokens: start, stop, first scored


def scorer_of(
    model: torch.nn.Module, features: tuple[str, ...] = (), options: WindowOptions = WINDOWS, batch_tokens: int = 64
) -> Scorer:
    tiles = TileOptions(rows=32, columns=64, compiled=False)
    return Scorer(
        ScoreOptions(ModelOptions("made here"), options, features, tiles, batch_tokens),
        ScoringModel(copy.deepcopy(model)),
    )


@torch.no_grad()
def behind_the_prefix(model: torch.nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every statistic of a document: each window fed alone behind the prefix, in the dtype of `model`."""
    model.set_attn_implementation("eager")
    rows, scored = [], 0
    for start in range(0, len(ids), 8):
        stop = min(start + 16, len(ids))
        fed = torch.tensor([*PREFIX, *ids[start:stop].tolist()])
        logits = model(input_ids=fed[None], use_cache=False).logits[0]
        rows.append(logits[len(PREFIX) + scored - start - 1 : -1])
        scored = stop
        if stop == len(ids):
            break
    return oracle.statistics(torch.cat(rows), ids)


def rms(values: torch.Tensor) -> float:
    return float(values.pow(2).mean().sqrt())


# Packed; with windows of its own in attention; not packed; a head that cannot be taken apart is tested below.
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom"])
def test_every_token_is_predicted_behind_the_prefix(family: str) -> None:
    model = families.make_model(family, sharpness=3.0)
    ids = torch.randint(0, 331, (sum(LENGTHS),), generator=torch.Generator().manual_seed(5))
    columns = scorer_of(model, (EXTREMES,)).score(ids, LENGTHS)
    parts = torch.split(ids, LENGTHS)
    truth, plain = ([behind_the_prefix(m, part) for part in parts] for m in (copy.deepcopy(model).double(), model))
    for name in ("logprob", "entropy", "logprob_std", "logprob_max"):
        exact = torch.cat([t[name] for t in truth])
        error = torch.from_numpy(columns[name]).double() - exact
        assert rms(error) <= 2 * rms(torch.cat([p[name] for p in plain]).double() - exact) + 1e-7, name
    clear = torch.cat([t["gap"] for t in truth]) > 1e-4
    assert clear.float().mean() > 0.9
    assert np.array_equal(columns["rank"][clear], torch.cat([t["rank"] for t in truth])[clear])


class OddHead(torch.nn.Module):
    """Wraps a model so that its logits are no linear map of its last hidden state."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config

    def __getattr__(self, name: str):
        return super().__getattr__(name) if name in ("inner", "_modules") else getattr(self.inner, name)

    def forward(self, input_ids: torch.Tensor, logits_to_keep: object = 0, **more: object):
        out = self.inner(input_ids=input_ids, logits_to_keep=logits_to_keep, **more)
        out.logits = out.logits + 0.3 * torch.sin(out.logits)
        return out


def test_a_head_that_cannot_be_taken_apart_is_scored_whole() -> None:
    model = OddHead(families.make_model("llama", sharpness=3.0))
    ids = torch.randint(0, 331, (sum(LENGTHS),), generator=torch.Generator().manual_seed(5))
    scorer = scorer_of(model)
    assert not scorer.model.separate
    columns = scorer.score(ids, LENGTHS)
    truth = [behind_the_prefix(copy.deepcopy(model).double(), part) for part in torch.split(ids, LENGTHS)]
    for name in ("logprob", "entropy", "logprob_std"):
        exact = torch.cat([t[name] for t in truth])
        assert (torch.from_numpy(columns[name]).double() - exact).abs().max() < 2e-5, name


def test_no_row_is_null_and_hidden_states_are_those_of_the_document() -> None:
    model = families.make_model("llama", sharpness=3.0)
    ids = torch.randint(0, 331, (40,), generator=torch.Generator().manual_seed(3)).tolist()
    rows = [
        {"source": "s", "row": i, "key": str(i), "text": "x" * len(own), "token_id": own,
         "byte_start": list(range(len(own))), "n_bytes": [1] * len(own)}
        for i, own in enumerate((ids, ids[:1]))
    ]  # fmt: skip
    out = scorer_of(model, FEATURE_GROUPS)(pa.Table.from_pylist(rows, schema=TOKENIZED))
    for name in out.schema.names[len(TOKENIZED) :]:
        assert [len(values) for values in out[name].to_pylist()] == [40, 1]
        assert not [v for values in out[name].to_pylist() for v in values if v is None], name
    kept = np.array(out[HIDDEN][0].as_py(), dtype=np.float16)
    with torch.no_grad():
        for start, stop, first in WHOLE:
            fed = torch.tensor([*PREFIX, *ids[start:stop]])[None]
            states = model.model(input_ids=fed).last_hidden_state[0, len(PREFIX) + first - start :]
            np.testing.assert_allclose(kept[first:stop], states.numpy(), rtol=2e-3, atol=2e-3)


def test_rows_do_not_depend_on_what_shares_their_batch() -> None:
    model = families.make_model("llama", sharpness=3.0)
    ids = torch.randint(0, 331, (sum(LENGTHS),), generator=torch.Generator().manual_seed(5))
    together = scorer_of(model, batch_tokens=256).score(ids, LENGTHS)
    alone = scorer_of(model, batch_tokens=64)
    start = 0
    for n in LENGTHS:
        one = alone.score(ids[start : start + n], (n,))
        assert np.array_equal(one["logprob"], together["logprob"][start : start + n])
        start += n


def test_windows_behind_a_prefix_score_every_token_once() -> None:
    found = list(windows(0, 40, WINDOWS))
    assert [(w.start, w.stop, w.score_from) for w in found] == WHOLE
    assert [len(w) for w in found] == [16 + len(PREFIX)] * 4
    assert [w.skip for w in found] == [len(PREFIX) + first - start for start, _, first in WHOLE]
    assert list(windows(3, 1, WINDOWS)) == [Segment(3, 0, 1, 0, len(PREFIX))]
    assert WINDOWS.most_fed == 16 + len(PREFIX)


def test_a_batch_counts_the_prefix() -> None:
    batches = list(pack(segments([16] * 9, WINDOWS), 64))
    assert sum(map(len, batches)) == 9
    assert max(sum(map(len, batch)) for batch in batches) <= 64
