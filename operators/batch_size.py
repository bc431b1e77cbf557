"""Finds how many tokens a forward pass may hold in a device's memory: worked out roughly, then tried.

    config -> bytes a token, roughly -> a pass that should fit with ease -> bytes a token, measured -> a larger ...

A pass is at most `GROWTH` times as large as the largest that fitted, and what does not fit is halved or met in the
middle. Two passes are usual. The price: seconds at the start of each actor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from operators.failures import is_out_of_memory

GROWTH = 8
STEP = 128  # tokens; attention kernels work on blocks of this many
PASSES_HELD = 2  # a recorded pass keeps its memory beside that of plain ones
WORTH = 1.25  # times more tokens, or another pass is not worth its time
_EASE = 4  # the rough number may be wrong by this
_SPARE = 0.05  # of the device: its driver, its libraries, and holes in the memory


def room(*, total: int, free: int, held: int, unused: int, share: float) -> int:
    """Bytes that a process may still take on a device of `total`, of which `free` are nobody's; `held`: by this
    process's tensors; `unused`: kept by its allocator for later. All in bytes; `share`: of the device, its own."""
    own = int((share - _SPARE * share) * total) - held
    return max(0, min(own, free + unused - int(_SPARE * share * total)))


def rough_bytes(config: Any, itemsize: int) -> int:
    """Bytes that a token takes in the widest layer of a model's body, by its config; numbers of `itemsize` bytes.

    The residual stream four times (once in float32), queries, keys and values, and the three products of a gated
    feed-forward layer; of a mixture, those of the experts that a token visits. Where layers differ, the config holds a
    list (Gemma 3n), and the largest counts.
    """

    def said(name: str, otherwise: int) -> int:
        value = getattr(config, name, None)
        return int((max(value, default=0) if isinstance(value, list | tuple) else value) or otherwise)

    width, heads = said("hidden_size", 1024), said("num_attention_heads", 1)
    kept, each = said("num_key_value_heads", heads), said("head_dim", width // heads or 1)
    inner, experts = said("intermediate_size", 4 * width), said("num_experts_per_tok", 1)
    return itemsize * (4 * width + (heads + 2 * kept) * each + 3 * experts * inner) + 4 * width


def find_batch_tokens(measure: Callable[[int], int], room_bytes: int, *, rough: int, least: int, most: int) -> int:
    """The most tokens, from `least` to `most`, whose pass leaves room for what is kept beside it.

    `measure(tokens)`: runs one pass and returns the most bytes that it took at once; where memory runs out, it raises
    as torch does. `rough`: bytes a token, about. `least` is returned even where its pass does not fit: whoever scores
    meets that again, and says what to do.
    """
    usable, least = room_bytes / PASSES_HELD, min(least, most)
    fits, tokens = 0, _between(least, usable / (_EASE * rough), most)
    while True:
        used = _measured(measure, tokens)
        if used is not None and used <= usable:
            fits = tokens
            following = _between(least, min(GROWTH * fits, 0.9 * usable * fits / max(1, used)), most)
            if (following < WORTH * fits and following < most) or following <= fits:
                return fits
        else:
            following = _between(least, (fits + tokens) / 2, most)
            if following >= tokens or (fits and following < WORTH * fits):
                return fits or least
        tokens = following


def _measured(measure: Callable[[int], int], tokens: int) -> int | None:
    """None where memory runs out."""
    try:
        return measure(tokens)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return None


def _between(least: int, tokens: float, most: int) -> int:
    """Whole steps of tokens, within the bounds."""
    return max(least, min(most, int(tokens) // STEP * STEP))
