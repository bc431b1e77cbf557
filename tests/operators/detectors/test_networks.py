"""The scale of a network's channels: from the documents that it is fitted on, whatever parts they come in."""

from __future__ import annotations

import pytest
import torch

from operators.detectors.networks import Scale


@pytest.mark.parametrize("size", [1, 7, 50])
def test_a_scale_is_the_same_in_parts_and_whole(size: int) -> None:
    torch.manual_seed(0)
    values, mask = 3 + 5 * torch.randn(50, 6, 4), torch.rand(50, 6) < 0.7
    values[..., 1], values[..., 2] = 1e4 + values[..., 1] / 100, 2.5  # far from 0; constant
    mask[10:20] = False
    scale = Scale(4)
    scale.fit(zip(values.split(size), mask.split(size), strict=True))
    tokens = values[mask].double()
    assert scale.mean == pytest.approx(tokens.mean(dim=0).float(), rel=1e-6)
    expected = tokens.std(dim=0, correction=0).float()
    expected[2] = 1.0
    assert scale.deviation == pytest.approx(expected, rel=1e-6)
    scaled = scale(values, mask)
    assert float(scaled[mask][:, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert not scaled[~mask].any()
