"""Every path of attention against the one that runs a segment at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import families
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from operators.attention import Layout, in_force, interface, paths_taken, plain, varlen
from operators.attention.flex import BLOCK, attend_flex, block_mask, first_keys
from operators.attention.interface import UnsupportedAttentionError, packed_attention
from operators.attention.segments import attend_one, attend_segments
from operators.attention.varlen import attend_varlen, can_varlen, installed, parameters
from operators.models import ScoringModel

CPU = torch.device("cpu")
LENGTHS = (1, 130, 2, 0, 60, 63)  # 256 tokens; one segment crosses a block, one is empty


def bounds_of(lengths: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise([0, *itertools.accumulate(lengths)]))


def qkv(n: int, heads: int = 4, groups: int = 2, width: int = 16, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    g = torch.Generator().manual_seed(n)
    shapes = ((1, heads, n, width), (1, heads // groups, n, width), (1, heads // groups, n, width))
    return [(2 * torch.randn(shape, generator=g)).to(dtype) for shape in shapes]


def layout_of(lengths: Sequence[int], **more: object) -> Layout:
    bounds = bounds_of(lengths)
    cumulative = torch.tensor([0, *(b for _, b in bounds)], dtype=torch.int32)
    return Layout(bounds, max(lengths), cumulative, **more)  # type: ignore[arg-type]


@given(lengths=st.lists(st.integers(1, 200), max_size=8), window=st.none() | st.integers(1, 150))
@settings(max_examples=60, deadline=None)
def test_block_masks_hold_what_a_query_sees(lengths: list[int], window: int | None) -> None:
    n = max(1, -(-sum(lengths) // BLOCK)) * BLOCK
    bounds = bounds_of(lengths)
    layout = plain(bounds)
    segment = np.repeat(np.arange(len(lengths)), lengths)
    segment = np.concatenate([segment, len(lengths) + np.arange(n - len(segment))])
    q, k = np.arange(n)[:, None], np.arange(n)[None]
    expected = (segment[:, None] == segment[None]) & (k <= q) & (True if window is None else k > q - window)
    assert (first_keys(layout, window, n) == expected.argmax(1)).all()
    mask = block_mask(layout, window, n, CPU)
    found = np.zeros((n, n), dtype=bool)
    visible = mask.mask_mod(None, None, torch.arange(n)[:, None], torch.arange(n)[None]).numpy()
    for counts, numbers, tested in (
        (mask.kv_num_blocks, mask.kv_indices, True),
        (mask.full_kv_num_blocks, mask.full_kv_indices, False),
    ):
        for row in range(n // BLOCK):
            for column in numbers[0, 0, row, : counts[0, 0, row]].tolist():
                here = (slice(row * BLOCK, (row + 1) * BLOCK), slice(column * BLOCK, (column + 1) * BLOCK))
                assert not found[here].any()
                found[here] = visible[here] if tested else True
    assert (found == expected).all()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("window", [None, 1, 40, 500])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_flex_is_attention_per_segment(
    groups: int, window: int | None, softcap: float | None, scaling: float | None
) -> None:
    q, k, v = qkv(256, groups=groups)
    layout = layout_of(LENGTHS)
    found = attend_flex(q, k, v, scaling, window, softcap, layout, compiled=False)
    expected = attend_segments(q, k, v, scaling, window, softcap, layout)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


def test_a_block_mask_is_made_once_a_window() -> None:
    q, k, v = qkv(256)
    layout = layout_of(LENGTHS)
    for window in (None, 7, None, 7):
        attend_flex(q, k, v, None, window, None, layout, compiled=False)
    assert set(layout.masks) == {None, 7}


def reference(q: Tensor, k: Tensor, v: Tensor, cumulative: Tensor, scale: float | None, left: int) -> Tensor:
    """What flash attention computes: `[T, H, d]`, keys `i - left .. i`."""
    out = torch.full((q.shape[0], q.shape[1], v.shape[2]), torch.nan)
    for a, b in itertools.pairwise(cumulative.tolist()):
        one = (x[a:b].transpose(0, 1)[None] for x in (q, k, v))
        if b > a:
            out[a:b] = attend_one(*one, scale, None if left < 0 else left + 1, None)[0].transpose(0, 1)
    return out


def first_signature(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):  # type: ignore[no-untyped-def]
    assert is_causal
    assert query.shape == key.shape
    return reference(query, key, value, cu_seq_q, None, -1)


def second_signature(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None,  # type: ignore[no-untyped-def]
                     window_size=(-1, -1)):  # fmt: skip
    assert window_size[1] == 0
    assert query.shape == key.shape
    return reference(query, key, value, cu_seq_q, scale, window_size[0])


def third_signature(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None,  # type: ignore[no-untyped-def]
                    window_size=(-1, -1), enable_gqa=False, seqused_k=None, num_splits=None):  # fmt: skip
    assert enable_gqa == (query.shape != key.shape)
    assert num_splits == 1
    assert max_q == max_k == max(LENGTHS)
    return reference(query, key, value, cu_seq_q, scale, window_size[0])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("function", "window", "scaling", "one_split"),
    [
        (first_signature, None, 0.25, False),
        (first_signature, None, None, False),
        (second_signature, None, 0.7, False),
        (second_signature, 5, None, False),
        (third_signature, 5, 0.7, True),
        (third_signature, None, None, True),
    ],
)
def test_varlen_is_attention_per_segment(
    groups: int, function: Callable[..., Tensor], window: int | None, scaling: float | None, one_split: bool
) -> None:
    """By the signatures that torch's function has had."""
    q, k, v = qkv(256, groups=groups)
    layout = layout_of(LENGTHS, one_split=one_split)
    found = attend_varlen(q, k, v, scaling, window, layout, function)
    expected = attend_segments(q, k, v, scaling, window, None, layout)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "scaling", "window", "softcap", "one_split", "expected"),
    [
        (third_signature, 0.7, 5, None, True, True),
        (third_signature, None, None, 3.0, False, False),
        (second_signature, 0.7, 5, None, False, True),
        (second_signature, 0.7, 5, None, True, False),
        (first_signature, 0.25, None, None, False, True),
        (first_signature, 0.7, None, None, False, False),
        (first_signature, None, 5, None, False, False),
        (None, None, None, None, False, False),
    ],
)
def test_varlen_is_taken_only_for_what_its_version_computes(
    function: Callable[..., Tensor] | None, scaling: float | None, window: int | None, softcap: float | None,
    one_split: bool, expected: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    q, _, v = qkv(256)
    monkeypatch.setattr(varlen, "installed", lambda: function)
    monkeypatch.setattr(varlen, "_fits_device", lambda *_: True)
    layout = layout_of(LENGTHS, one_split=one_split)
    assert can_varlen(q, v, scaling, window, softcap, layout) == expected
    assert not can_varlen(q, v, scaling, window, softcap, plain(layout.bounds))


def test_the_installed_varlen_is_one_we_know() -> None:
    function = installed()
    if function is None:
        pytest.skip("this torch has no variable-length attention")
    known = parameters(function)
    assert {"query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"} <= known
    assert "window_size" in known or "is_causal" in known


class Layer(nn.Module):
    is_causal = True


def test_a_layer_takes_the_first_path_that_can() -> None:
    """On a CPU that is the one of segments, whatever is preferred."""
    q, k, v = qkv(256)
    layout = layout_of(LENGTHS, paths=("varlen", "flex", "segments"))
    with in_force(layout), paths_taken() as taken:
        out, weights = packed_attention(Layer(), q, k, v, None)
    assert taken == ["segments"]
    assert weights is None
    assert torch.equal(out, attend_segments(q, k, v, None, None, None, layout))


@pytest.mark.parametrize("more", [{"s_aux": torch.ones(4)}, {"dropout": 0.1}, {"attention_mask": torch.ones(1)}])
def test_what_is_not_computed_is_refused(more: dict[str, object]) -> None:
    q, k, v = qkv(8)
    with in_force(plain([(0, 8)])), pytest.raises(UnsupportedAttentionError, match="Layer"):
        packed_attention(Layer(), q, k, v, **({"attention_mask": None} | more))  # type: ignore[arg-type]


def test_attention_outside_of_a_layout_is_an_error() -> None:
    q, k, v = qkv(8)
    with pytest.raises(LookupError):
        packed_attention(Layer(), q, k, v, None)


def test_the_opaque_operation_is_the_same_function() -> None:
    """Also its stated shape: a compiled layer believes it."""
    q, k, v = qkv(20)
    layout = plain([(0, 12), (12, 20)])
    with in_force(layout), torch.inference_mode():
        out = interface._opaque(q, k, v, 0.5, 7, 2.0)
        assert torch.equal(out, attend_segments(q, k, v, 0.5, 7, 2.0, layout))
        torch.library.opcheck(
            interface._opaque, (q, k, v, 0.5, None, None), test_utils=("test_schema", "test_faketensor")
        )


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2", "qwen3"])
def test_transformers_builds_no_mask_and_reads_no_position(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at positions on the host makes CUDA wait in every pass, and cannot be recorded."""
    from transformers import masking_utils

    body = ScoringModel(families.make_model(family)).body
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda *_: pytest.fail("positions were read"))
    assert body(torch.arange(40), [(0, 10), (10, 40)]).shape[0] == 40
