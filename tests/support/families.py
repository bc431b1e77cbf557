"""Small models of the families that people score, made here with random weights: no download, a fraction of a
second."""

from __future__ import annotations

import torch
import transformers
from torch import nn

_SHAPE = {"vocab_size": 331, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_ROPE = {**_SHAPE, "intermediate_size": 96, "max_position_embeddings": 128}
_GROUPED = {**_ROPE, "num_key_value_heads": 2}

FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**_GROUPED),
    "llama_tied": lambda: transformers.LlamaConfig(**_GROUPED, tie_word_embeddings=True),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=331, n_embd=48, n_layer=2, n_head=4, n_positions=128),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_ROPE),
    "qwen2": lambda: transformers.Qwen2Config(**_GROUPED),
    "qwen3": lambda: transformers.Qwen3Config(**_GROUPED, head_dim=16),
    "mistral": lambda: transformers.MistralConfig(**_GROUPED, sliding_window=16, head_dim=12),
    "gemma2": lambda: transformers.Gemma2Config(
        **_GROUPED, head_dim=16, sliding_window=16, final_logit_softcapping=5.0, attn_logit_softcapping=7.0
    ),
    "cohere": lambda: transformers.CohereConfig(**_GROUPED, logit_scale=0.25),
    "granite": lambda: transformers.GraniteConfig(**_GROUPED, logits_scaling=4.0),
    "phi": lambda: transformers.PhiConfig(**_ROPE),
    "opt": lambda: transformers.OPTConfig(
        **_SHAPE, ffn_dim=96, max_position_embeddings=128, word_embed_proj_dim=48, activation_function="gelu"
    ),
}
ALONE = {
    "bloom": lambda: transformers.BloomConfig(vocab_size=331, hidden_size=48, n_layer=2, n_head=4),
    "mamba": lambda: transformers.MambaConfig(vocab_size=331, hidden_size=48, num_hidden_layers=2, state_size=8),
}


def make_model(family: str, *, seed: int = 0, sharpness: float = 1.0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A seeded model in evaluation mode; `sharpness` blows up the head, from flat predictions to peaked ones."""
    torch.manual_seed(seed)
    config = {**FAMILIES, **ALONE}[family]()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, None)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.4 / parameter.shape[-1] ** 0.5 * (1 if "embed" in name else 2))
        model.get_output_embeddings().weight.mul_(sharpness)
    return model.to(dtype).eval()
