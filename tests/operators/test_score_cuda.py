"""Scoring on a real device against the float64 oracle: packed, compiled, recorded, fused; and rows that never vary."""

from __future__ import annotations

import families
import numpy as np
import oracle
import pytest
import torch

from operators.model_files import ModelOptions
from operators.models import ScoringModel
from operators.score import ScoreOptions, Scorer
from operators.statistics import TileOptions
from operators.windows import WindowOptions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

WINDOWS = WindowOptions(64, 32)
LENGTHS = [3, 64, 17, 200, 1, 40, 64, 5, 130] * 8


def scorer_of(
    dtype: torch.dtype, batch_tokens: int = 1024, *, deterministic: bool = False, kernel: str = "auto"
) -> Scorer:
    model = families.make_model("llama", sharpness=3.0).to(dtype).to("cuda")
    tiles = TileOptions(kernel=kernel)  # type: ignore[arg-type]
    options = ScoreOptions(ModelOptions("made here"), WINDOWS, (), tiles, batch_tokens)
    return Scorer(options, ScoringModel(model, deterministic=deterministic))


def ids(lengths: list[int]) -> torch.Tensor:
    return torch.randint(0, 331, (sum(lengths),), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kernel", ["torch", "triton"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15)])
def test_numbers_are_those_of_the_oracle(kernel: str, dtype: torch.dtype, tolerance: float) -> None:
    """bfloat16 bodies round; what they are compared with has the same weights and float64 arithmetic."""
    model = families.make_model("llama", sharpness=3.0).to(dtype)
    got = scorer_of(dtype, kernel=kernel).score(ids(LENGTHS), LENGTHS)
    start = 0
    for n in LENGTHS[:9]:
        truth = oracle.truth(model, ids(LENGTHS)[start : start + n], WINDOWS.context, WINDOWS.stride)
        for name in ("logprob", "entropy", "logprob_std"):
            np.testing.assert_allclose(got[name][start + 1 : start + n], truth[name], atol=tolerance, rtol=tolerance)
        start += n


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_deterministic_rows_keep_their_bits_among_any_neighbours(dtype: torch.dtype) -> None:
    scorer = scorer_of(dtype, deterministic=True)
    tokens = ids(LENGTHS)
    together = scorer.score(tokens, LENGTHS)
    starts = np.cumsum([0, *LENGTHS])
    for document in (0, 1, 3, 30):
        a, b = starts[document], starts[document + 1]
        alone = scorer.score(tokens[a:b], [LENGTHS[document]])
        for name, values in alone.items():
            np.testing.assert_array_equal(values, together[name][a:b])


def test_the_same_run_twice_gives_the_same_bits() -> None:
    first, second = (scorer_of(torch.bfloat16).score(ids(LENGTHS), LENGTHS) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
