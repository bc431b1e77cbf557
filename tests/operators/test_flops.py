"""Operations of a forward pass: the formula, against what torch counts on the model itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    JetMoeConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from operators.flops import ForwardCost, peak_flops

LLAMA = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def counted(model: torch.nn.Module, n: int) -> float:
    """What torch counts for one window; its attention computes the masked half, too."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, n, dtype=torch.long))
    return float(counter.get_total_flops())


@pytest.mark.parametrize("n", [8, 33])
@pytest.mark.parametrize("tied", [False, True])
def test_a_dense_model_costs_what_torch_counts(n: int, tied: bool) -> None:
    model = LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=tied, attn_implementation="eager")).eval()
    cost = ForwardCost.of(model)
    assert cost is not None
    masked = cost.pair * 3 * (n * n - n * (n + 1) / 2)
    assert cost.flops([n], n) + masked == counted(model, n)


def test_windows_add_up_and_only_predictions_cost_the_head() -> None:
    cost = ForwardCost(body=10, head=100, spans=(None,), pair=1)
    assert cost.flops([4, 2], 3) == 2 * 10 * 6 + 2 * 100 * 3 + (10 + 3)
    assert cost.flops([], 0) == 0


def test_a_sliding_window_hides_pairs() -> None:
    """Six tokens that see three at most: 1 + 2 + 3 + 3 + 3 + 3 pairs."""
    assert ForwardCost(0, 0, (3,), 1).flops([6], 0) == 15
    assert ForwardCost(0, 0, (None,), 1).flops([6], 0) == 21


def test_tables_that_are_looked_up_cost_nothing() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    cost = ForwardCost.of(model)
    assert cost is not None
    assert cost.body == 2 * (32 * 96 + 32 * 32 + 2 * 32 * 128)
    assert cost.head == 97 * 32


def test_of_experts_only_those_that_a_token_goes_through_count() -> None:
    config = MixtralConfig(**LLAMA, num_local_experts=8, num_experts_per_tok=2)
    cost = ForwardCost.of(MixtralForCausalLM(config))
    attention, router, expert = 32 * 32 * 2 + 32 * 16 * 2, 32 * 8, 3 * 32 * 48
    assert cost is not None
    assert cost.body == 3 * (attention + router + 2 * expert)


SMALL: dict[str, Any] = {**LLAMA, "head_dim": 8, "num_experts_per_tok": 2, "experts_implementation": "eager"}
MIXTURES = {
    "qwen3_moe": {"num_experts": 8, "moe_intermediate_size": 24},
    "qwen2_moe": {"num_experts": 8, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
    "olmoe": {"num_experts": 8},
    "gpt_oss": {"num_local_experts": 8, "sliding_window": 8},
    "granitemoeshared": {"num_local_experts": 8, "shared_intermediate_size": 40},
}
DENSE = {
    "gemma2": {"sliding_window": 8},
    "mistral": {"sliding_window": 8},
    "gpt_neox": {},
    "cohere2": {"sliding_window": 8},
    "falcon": {"head_dim": None},
}


@pytest.mark.parametrize("family", [*MIXTURES, *DENSE])
def test_families_cost_what_torch_counts(family: str) -> None:
    """Grouped queries, experts each alone (torch then counts those in use), shared ones, tied heads, windows."""
    said = {**SMALL, **MIXTURES.get(family, {}), **DENSE.get(family, {})}
    config = CONFIG_MAPPING[family](**{name: value for name, value in said.items() if value is not None})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    cost, n = ForwardCost.of(model), 33
    assert cost is not None
    hidden = sum(n * n - ForwardCost(0, 0, (span,), 1).flops([n], 0) for span in cost.spans)
    assert len(cost.spans) == 3
    assert cost.flops([n], n) + cost.pair * hidden == counted(model, n)


def test_layers_of_gpt_neo_that_look_back_a_window() -> None:
    config = GPTNeoConfig(vocab_size=97, hidden_size=32, num_layers=2, num_heads=4, window_size=8,
                          attention_types=[[["global", "local"], 1]])  # fmt: skip
    cost = ForwardCost.of(AutoModelForCausalLM.from_config(config))
    assert cost is not None
    assert cost.spans == (None, 8)


def test_experts_in_one_matrix_are_known_by_its_shape() -> None:
    """JetMoe names them after what they do."""
    config = JetMoeConfig(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1, kv_channels=16,
                          num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2)  # fmt: skip
    cost = ForwardCost.of(AutoModelForCausalLM.from_config(config))
    assert cost is not None
    mlp, attention = 2 * (2 * 48 * 32 + 32 * 48) + 8 * 32, 2 * (2 * 32 * 32) + 2 * 32 + 64 * 32
    assert cost.body == mlp + attention


@pytest.mark.parametrize("said", [{"num_local_experts": 8}, {"num_experts_per_tok": 2}, {}])
def test_experts_that_the_config_is_silent_about_are_not_guessed(said: dict[str, int]) -> None:
    model = MixtralForCausalLM(MixtralConfig(**LLAMA, num_local_experts=8, num_experts_per_tok=2))
    silent = SimpleNamespace(num_attention_heads=4, hidden_size=32, num_hidden_layers=3, **said)
    silent.get_text_config = lambda decoder: silent
    model.config = silent
    assert ForwardCost.of(model) is None


@pytest.mark.parametrize(
    ("name", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989e12),
        ("NVIDIA H100 PCIe", torch.bfloat16, 756e12),
        ("NVIDIA H200", torch.float32, 67e12),
        ("NVIDIA H200 NVL", torch.bfloat16, 835e12),
        ("NVIDIA RTX A1000 Laptop GPU", torch.bfloat16, None),
        ("NVIDIA A100-SXM4-80GB", torch.float16, 312e12),
        ("NVIDIA L4", torch.bfloat16, 121e12),
        ("NVIDIA L40S", torch.bfloat16, 362e12),
        ("Tesla V100-SXM2-16GB", torch.bfloat16, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", torch.bfloat16, None),
        ("NVIDIA GeForce RTX 4090", torch.bfloat16, None),
        ("NVIDIA H100 80GB HBM3", torch.float64, None),
    ],
)
def test_peaks_are_those_of_the_data_sheets_or_none(name: str, dtype: torch.dtype, peak: float | None) -> None:
    assert peak_flops(name, dtype) == peak
