"""Every family against float64, one document at a time: nothing that packing, tiling or windows do may show.

Errors are compared with those of the plain implementation in the same dtype (eager attention, full log-softmax), pooled
over documents; ours may be at most twice as large.
"""

import copy

import families
import oracle
import pytest
import torch

from operators.head import GivenLogits, LogitShape
from operators.model_files import ModelOptions
from operators.models import ScoringModel
from operators.score import ScoreOptions, Scorer
from operators.statistics import TileOptions
from operators.windows import WindowOptions
from schemas.tokens import EXTREMES, NUCLEUS, RENYI, TOPK

LENGTHS = (1, 2, 5, 32, 33, 48, 49, 100, 17, 3)
WINDOWS = WindowOptions(context=32, stride=16)
FEATURES = (EXTREMES, NUCLEUS, RENYI, TOPK)
LOG_PROBS = ("logprob", "logprob_max", "logprob_second", "logprob_uniform", "topk_logprob")
EXACT = ("rank", "top1_id", "topk_id")


def make_scorer(model: torch.nn.Module, features: tuple[str, ...] = FEATURES, batch_tokens: int = 128) -> Scorer:
    tiles = TileOptions(rows=64, columns=128, compiled=False)
    options = ScoreOptions(ModelOptions("made here"), WINDOWS, features, tiles, batch_tokens)
    return Scorer(options, ScoringModel(copy.deepcopy(model)))


def pooled(model: torch.nn.Module, scorer: Scorer) -> tuple[dict[str, torch.Tensor], ...]:
    """(ours, plain, truth), every scored token of all documents concatenated."""
    ids = torch.randint(0, 331, (sum(LENGTHS),), generator=torch.Generator().manual_seed(5))
    columns = scorer.score(ids, LENGTHS)
    found: list[list[dict[str, torch.Tensor]]] = [[], [], []]
    start = 0
    for length in LENGTHS:
        document = ids[start : start + length]
        if length > 1:
            found[0].append({k: torch.from_numpy(v[start + 1 : start + length]) for k, v in columns.items()})
            found[1].append(oracle.plain(model, document, WINDOWS.context, WINDOWS.stride))
            found[2].append(oracle.truth(model, document, WINDOWS.context, WINDOWS.stride))
        start += length
    return tuple({k: torch.cat([part[k] for part in parts]) for k in parts[0]} for parts in found)


def error(got: torch.Tensor, truth: torch.Tensor, name: str) -> torch.Tensor:
    scale = 1.0 if name in LOG_PROBS else truth.abs().clamp_min(1e-3)
    return ((got.double() - truth) / scale).abs()


def rms(values: torch.Tensor) -> float:
    return float(values.pow(2).mean().sqrt())


# Flat, as at initialisation; peaked, as a trained model is on text it knows.
@pytest.mark.parametrize("sharpness", [1.0, 10.0])
@pytest.mark.parametrize("family", [*families.FAMILIES, *families.ALONE])
def test_family_against_float64(family: str, sharpness: float) -> None:
    model = families.make_model(family, sharpness=sharpness)
    scorer = make_scorer(model)
    assert scorer.model.packed == (family in families.FAMILIES)
    assert scorer.model.separate
    ours, plain, truth = pooled(model, scorer)
    for name in ours:
        if name in EXACT:
            continue
        allowed = 2 * rms(error(plain[name], truth[name], name)) + 1e-7
        assert rms(error(ours[name], truth[name], name)) <= allowed, name
    assert error(ours["logprob"], truth["logprob"], "logprob").max() < 5e-5
    noise = 4 * error(plain["logprob"], truth["logprob"], "logprob").max() + 1e-6
    clear = truth["gap"] > noise
    assert clear.float().mean() > 0.9
    assert torch.equal(ours["rank"][clear].long(), truth["rank"][clear])


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2"])
def test_bfloat16_is_no_worse_than_plain(family: str) -> None:
    model = families.make_model(family, sharpness=4.0, dtype=torch.bfloat16)
    ours, plain, truth = pooled(model, make_scorer(model, ()))
    for name in ("logprob", "entropy", "logprob_std"):
        allowed = rms(error(plain[name], truth[name], name))
        assert rms(error(ours[name], truth[name], name)) <= allowed * 1.05, name


def test_head_shapes_are_found_by_trying() -> None:
    shapes = {
        f: make_scorer(families.make_model(f), ()).model.head.shape for f in ("llama", "gemma2", "cohere", "granite")
    }
    assert shapes == {
        "llama": None,
        "gemma2": LogitShape(1.0, 5.0),
        "cohere": LogitShape(0.25),
        "granite": LogitShape(0.25),
    }


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


def test_a_head_that_cannot_be_separated_is_scored_whole(caplog: pytest.LogCaptureFixture) -> None:
    model = OddHead(families.make_model("llama", sharpness=3.0))
    scorer = make_scorer(model)
    assert isinstance(scorer.model.head, GivenLogits)
    assert "its own logits are taken" in caplog.text
    ours, _, truth = pooled(model, scorer)
    for name in ("logprob", "entropy", "logprob_std"):
        assert error(ours[name], truth[name], name).max() < 2e-5
    assert torch.equal(ours["rank"].long(), truth["rank"])


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2", "mamba"])
def test_rows_are_bit_identical_whatever_shares_the_batch(family: str) -> None:
    """Alone, together, reversed, in small and large batches: the same bits for the same document."""
    model = families.make_model(family, sharpness=5.0)
    ids = torch.randint(0, 331, (sum(LENGTHS),), generator=torch.Generator().manual_seed(6))
    documents = list(ids.split(LENGTHS))
    scorer = make_scorer(model)
    together = scorer.score(ids, LENGTHS)
    starts = torch.tensor([0, *LENGTHS]).cumsum(0).tolist()
    for batch_tokens, order in ((128, range(len(LENGTHS))), (1000, reversed(range(len(LENGTHS)))), (16, (7, 0, 4))):
        scorer.batch_tokens = batch_tokens
        chosen = list(order)
        columns = scorer.score(torch.cat([documents[i] for i in chosen]), [LENGTHS[i] for i in chosen])
        place = 0
        for i in chosen:
            for name, values in columns.items():
                here = values[place + 1 : place + LENGTHS[i]]
                assert (here == together[name][starts[i] + 1 : starts[i + 1]]).all(), (name, i)
            place += LENGTHS[i]
        for i in chosen[:3]:
            alone = scorer.score(documents[i], [LENGTHS[i]])
            for name, values in alone.items():
                assert (values[1:] == together[name][starts[i] + 1 : starts[i + 1]]).all(), (name, i)


def test_packing_canary() -> None:
    """Positions that do not restart, or a segment that sees its neighbour: far off, so the probe must see it."""
    model = ScoringModel(families.make_model("llama", sharpness=5.0))
    ids = torch.randint(0, 331, (60,), generator=torch.Generator().manual_seed(1))
    apart = model.hidden(ids, [(0, 20), (20, 60)])
    merged = model.hidden(ids, [(0, 60)])
    torch.testing.assert_close(apart[:20], merged[:20], rtol=1e-4, atol=1e-5)
    assert (apart[20:] - merged[20:]).abs().max() > 0.05
