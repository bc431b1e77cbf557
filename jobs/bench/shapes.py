"""Models to measure on, made here with random weights: speed depends on shape, not on what the weights have learned."""

from __future__ import annotations

from typing import Any

from pipelines.config import ConfigError

SHAPES = ("gpt2-small", "wide")
CONTEXT = 1024


def model_config(shape: str) -> Any:
    """`gpt2-small`: 12 layers, width 768, vocabulary 50,257. `wide`: 4 layers, width 256, vocabulary 32,000."""
    import transformers

    if shape == "gpt2-small":
        return transformers.GPT2Config(n_positions=CONTEXT)
    if shape == "wide":
        return transformers.LlamaConfig(
            vocab_size=32_000,
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
        )
    raise ConfigError(f"--shape {shape}: choose from {', '.join(SHAPES)}")


def random_model(shape: str, dtype: str, seed: int = 0) -> Any:
    """A seeded model whose predictions are neither flat nor degenerate."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = model_config(shape)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4.0)
    return model.to(getattr(torch, dtype)).eval()
