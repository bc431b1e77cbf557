"""Floating-point operations of a forward pass, and what a device could do: the share of its peak that is achieved.

A matrix of `n` numbers costs `2 n` operations a token (arXiv 2001.08361, section 2.1). Attention costs besides, in
every layer that attends, `2 heads (d_qk + d_v)` for each pair of a token and one that it sees; pairs that the causal
mask or a sliding window hides are not counted. Of a mixture of experts only those that a token goes through count.
Tables that are looked up cost nothing. Layers of other kinds (recurrent, convolutional) are counted by their matrices
alone, so the share is then a little too low, never too high.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Dense peaks in 1e12 operations a second (no sparsity) by the makers' data sheets: half precision with float32 sums,
# then float32 without TF32, which scoring never uses. Names as `torch.cuda.get_device_name` gives them; the first that
# fits counts. A device that is not here has no peak: a guess would look like a measurement.
_PEAKS: tuple[tuple[str, float | None, float | None, float | None], ...] = (
    # name                    bfloat16  float16  float32
    (r"\bMIG\b", None, None, None),  # a slice of a GPU: its share of the peak is not in its name
    (r"GB200", 2500, 2500, 80),  # NVIDIA GB200 NVL72 data sheet 2024, a GPU
    (r"\bB200", 2250, 2250, 75),  # NVIDIA DGX B200 data sheet 2024, a GPU
    (r"H200 NVL", 835, 835, 60),  # NVIDIA H200 data sheet, NVL
    (r"GH200|H200", 989, 989, 67),  # NVIDIA H200, GH200 data sheets
    (r"H100 PCIe", 756, 756, 51),  # NVIDIA H100 data sheet
    (r"H100 NVL", 835, 835, 60),  # NVIDIA H100 NVL data sheet
    (r"H100", 989, 989, 67),  # NVIDIA H100 data sheet, SXM5
    (r"A100\b", 312, 312, 19.5),  # NVIDIA A100 data sheet
    (r"A30\b", 165, 165, 10.3),  # NVIDIA A30 data sheet
    (r"A40\b", 149.7, 149.7, 37.4),  # NVIDIA A40 data sheet
    (r"A10\b", 125, 125, 31.2),  # NVIDIA A10 data sheet
    (r"L40S", 362, 362, 91.6),  # NVIDIA L40S data sheet
    (r"L40\b", 181, 181, 90.5),  # NVIDIA L40 data sheet
    (r"L4\b", 121, 121, 30.3),  # NVIDIA L4 data sheet
    (r"V100-SXM", None, 125, 15.7),  # NVIDIA V100 data sheet; no bfloat16 units
    (r"T4\b", None, 65, 8.1),  # NVIDIA T4 data sheet; no bfloat16 units
    (r"MI300X", 1307.4, 1307.4, 81.7),  # AMD Instinct MI300X data sheet, vector float32
)


def peak_flops(device_name: str, dtype: torch.dtype) -> float | None:
    """Operations a second that a device can do at most in a dtype; None where that is not known."""
    for pattern, bfloat16, float16, float32 in _PEAKS:
        if re.search(pattern, device_name):
            found = {torch.bfloat16: bfloat16, torch.float16: float16, torch.float32: float32}.get(dtype)
            return None if found is None else found * 1e12
    return None


@dataclass(frozen=True)
class ForwardCost:
    """What a model's forward pass costs. `body`: numbers in the matrices that a token is multiplied with, `head`: in
    the vocabulary's. `spans`: for each layer that attends, how many tokens one sees at most, None for all.
    `pair`: operations for each pair of tokens in such a layer."""

    body: float
    head: float
    spans: tuple[int | None, ...]
    pair: float

    @classmethod
    def of(cls, model: nn.Module) -> ForwardCost | None:
        """The cost of a Hugging Face causal LM; None where it has experts and its config does not say how many of
        them a token goes through."""
        config: Any = model.config
        config = config.get_text_config(decoder=True)
        head = model.get_output_embeddings()  # type: ignore[operator]
        looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        looked_up |= {id(p) for p in head.parameters()} if head is not None else set()
        active = _active_share(config)
        body = 0.0
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2 or id(parameter) in looked_up or name.endswith("bias"):
                continue
            if _is_experts(name, parameter, config):
                if active is None:
                    return None
                body += active * parameter.numel()
            else:
                body += parameter.numel()
        numbers = sum(p.numel() for p in head.parameters() if p.dim() == 2) if head is not None else 0
        return cls(body, numbers, _spans(config), _pair_cost(config))

    def flops(self, fed: Iterable[int], predicted: int) -> float:
        """Operations for windows of `fed` tokens each, of which `predicted` in all are predicted."""
        lengths = list(fed)
        windows, layers = Counter(lengths), Counter(self.spans)
        pairs = sum(many * like * _pairs(n, span) for span, like in layers.items() for n, many in windows.items())
        return 2.0 * self.body * sum(lengths) + 2.0 * self.head * predicted + self.pair * pairs


def _pairs(n: int, span: int | None) -> int:
    """Pairs of a token and one at or before it that it sees, in a window of `n` tokens."""
    full = n if span is None else min(n, span)
    return full * (full + 1) // 2 + (n - full) * full


def _is_experts(name: str, parameter: nn.Parameter, config: Any) -> bool:
    """Whether a token goes through a share of it only: by its name, or a matrix for each of the experts in one."""
    if "shared" in name:
        return False
    return "experts" in name or (parameter.dim() == 3 and parameter.shape[0] == _experts(config))


def _experts(config: Any) -> int | None:
    counts = (getattr(config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts"))
    return next((n for n in counts if n), None)


def _active_share(config: Any) -> float | None:
    """The share of its experts that a token goes through; None where the config does not say."""
    each, total = getattr(config, "num_experts_per_tok", None), _experts(config)
    return min(1.0, each / total) if each and total else None


def _spans(config: Any) -> tuple[int | None, ...]:
    """How far each layer that attends looks back."""
    layers = int(getattr(config, "num_hidden_layers", 0) or 0)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None and hasattr(config, "attention_layers"):  # GPT-Neo
        return tuple(config.window_size if kind == "local" else None for kind in config.attention_layers)
    if kinds is None:
        slides = window if getattr(config, "use_sliding_window", True) else None
        return (slides,) * layers if getattr(config, "num_attention_heads", None) else ()
    spans = {"full_attention": None, "sliding_attention": window}
    return tuple(spans[kind] for kind in kinds if kind in spans)


def _pair_cost(config: Any) -> float:
    heads = getattr(config, "num_attention_heads", None) or 0
    if not heads:
        return 0.0
    width = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads
    keys = getattr(config, "qk_head_dim", None) or width
    values = getattr(config, "v_head_dim", None) or width
    return 2.0 * heads * (keys + values)
