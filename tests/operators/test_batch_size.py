"""How many tokens a pass may hold: the arithmetic, and the search against a device that is made up."""

from __future__ import annotations

import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from operators.batch_size import PASSES_HELD, STEP, find_batch_tokens, room, rough_bytes

GIB = 1 << 30


class Device:
    """A pass takes `fixed` bytes and `each` a token; above `memory` bytes it runs out."""

    def __init__(self, memory: int, each: float, fixed: int = 0) -> None:
        self.memory, self.each, self.fixed = memory, each, fixed
        self.passes: list[int] = []

    def __call__(self, tokens: int) -> int:
        self.passes.append(tokens)
        used = int(self.fixed + self.each * tokens)
        if used > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return used


def test_with_plenty_of_memory_two_passes_find_the_most() -> None:
    device = Device(60 * GIB, each=300_000)
    assert find_batch_tokens(device, 60 * GIB, rough=2_000_000, least=2048, most=16384) == 16384
    assert len(device.passes) == 2


@given(
    memory=st.integers(1 << 20, 80 * GIB),
    each=st.floats(100, 1e7),
    fixed=st.integers(0, GIB),
    rough=st.integers(100, 10**7),
    least=st.sampled_from([128, 512, 2048, 8192]),
    most=st.sampled_from([8192, 16384]),
)
def test_what_is_found_fits_or_is_the_least(
    memory: int, each: float, fixed: int, rough: int, least: int, most: int
) -> None:
    device = Device(memory, each, fixed)
    found = find_batch_tokens(device, memory, rough=rough, least=least, most=most)
    assert least <= found <= most
    assert found == least or PASSES_HELD * (fixed + each * found) <= memory + PASSES_HELD
    assert found in (*device.passes, least)
    assert len(device.passes) <= 20
    fits = int((memory / PASSES_HELD - fixed) / each) // STEP * STEP
    if fits >= least:  # a pass that would have been a good deal larger fits too only where it was not worth trying
        assert found >= min(most, fits) / 2


def test_other_failures_of_a_pass_are_raised() -> None:
    def broken(tokens: int) -> int:
        raise RuntimeError("device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        find_batch_tokens(broken, GIB, rough=1000, least=128, most=16384)


def test_a_share_of_a_device_is_kept_to_however_much_is_free() -> None:
    whole = room(total=80 * GIB, free=60 * GIB, held=16 * GIB, unused=GIB, share=1.0)
    assert whole == 61 * GIB - 4 * GIB  # what is free and a spare twentieth
    quarter = room(total=80 * GIB, free=60 * GIB, held=16 * GIB, unused=GIB, share=0.25)
    assert quarter == 19 * GIB - 16 * GIB
    assert room(total=80 * GIB, free=GIB, held=0, unused=0, share=1.0) == 0
    assert room(total=80 * GIB, free=60 * GIB, held=30 * GIB, unused=0, share=0.25) == 0


def test_rough_bytes_by_hand() -> None:
    llama = types.SimpleNamespace(
        hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, intermediate_size=14336
    )
    by_hand = 2 * (4 * 4096 + (32 + 16) * 128 + 3 * 14336) + 4 * 4096
    assert rough_bytes(llama, 2) == by_hand
    mixture = types.SimpleNamespace(**vars(llama), num_experts_per_tok=2)
    assert rough_bytes(mixture, 2) == by_hand + 2 * 3 * 14336
    plain = types.SimpleNamespace(hidden_size=768, num_attention_heads=12)
    assert rough_bytes(plain, 4) == 4 * (4 * 768 + 36 * 64 + 3 * 3072) + 4 * 768
    uneven = types.SimpleNamespace(**{**vars(llama), "intermediate_size": [8192, 14336]})  # a width for each layer
    assert rough_bytes(uneven, 2) == by_hand
