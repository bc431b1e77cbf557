"""Models to measure on, made here with random weights: speed depends on shape, not on what the weights have learned.

`gpt2-small` (12 layers, width 768, vocabulary 50,257) is what one core can still score; in `wide` (4 layers, width 256,
vocabulary 32,000) the head outweighs the body; `small` (4 layers, width 128, vocabulary 8192) is fast enough on a core
for what surrounds a model to show; `1b` (16 layers, width 2048, 32 heads over 8 keys, vocabulary 128,256, as the
smallest Llama 3) is for accelerators; `tiny` tries the code, not the machine.
"""

from __future__ import annotations

from typing import Any

import typer

SHAPES = ("gpt2-small", "wide")
DEVICE_SHAPES = ("1b", "tiny")
CONTEXT = 1024

# (vocabulary, width, mlp, layers, heads, key heads, context). Embeddings are not tied: with random weights a tied model
# would only ever predict the token it has just read.
_LLAMAS = {
    "wide": (32_000, 256, 688, 4, 4, 4, CONTEXT),
    "small": (8192, 128, 344, 4, 4, 4, CONTEXT),
    "1b": (128_256, 2048, 8192, 16, 32, 8, 2048),
    "tiny": (512, 64, 128, 2, 4, 2, 256),
}


def model_config(shape: str) -> Any:
    """The transformers config of a shape named above."""
    import transformers

    if shape == "gpt2-small":
        return transformers.GPT2Config(n_positions=CONTEXT)
    if shape not in _LLAMAS:
        raise typer.BadParameter(f"--shape {shape}: choose from {', '.join(('gpt2-small', *_LLAMAS))}")
    vocabulary, width, mlp, layers, heads, keys, context = _LLAMAS[shape]
    return transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        max_position_embeddings=context,
    )


def random_model(shape: str, dtype: str, seed: int = 0, device: str = "cpu") -> Any:
    """A seeded model, made on `device`, whose predictions are neither flat nor degenerate."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = model_config(shape)
    with torch.device(device), torch.no_grad():
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.get_output_embeddings().weight.mul_(4.0)
    return model.to(getattr(torch, dtype)).eval()
