"""Applies a transform to the blocks of a run: texts on their way to the tokenizer, tokens on their way to the model.

    READ      --> texts  --> READ        every transform of texts; the documents of a prefix leave as rejects
    TOKENIZED --> tokens --> TOKENIZED   unprompted: the prompt's tokens go, the completion's stay as they were read;
                                         windows: the text's own tokens stay

A record keeps its key, source, row and metadata. Where it has a prompt, only the text after it is changed. What comes
out of a record depends on its key, its text and the transform alone, so that a retried block is the same to the bit.
Shapes: `D` rows of a block, `T` tokens of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from operators.transform.lists import FlatTokens, reject, with_columns
from operators.transform.perturb import KINDS
from operators.transform.pieces import random_of
from operators.transform.shuffle import shuffled
from operators.transform.spec import Transform
from operators.transform.windows import only_texts
from schemas.rejects import Reason

TextChange = Callable[[str, str], str]  # of a key and a text


@dataclass(frozen=True)
class BlockTransform:
    """A transform as the steps of a run apply it. `used`: keys of the documents that the prefix is made of."""

    transform: Transform
    used: frozenset[str] = frozenset()

    def texts(self, block: pa.Table) -> pa.Table:
        """A block of schema `flow.READ`, changed; rows keep their order."""
        change = text_change(self.transform)
        if change is None and not self.used:
            return block
        columns = {name: block[name].to_pylist() for name in ("key", "text", "prompt_bytes", "reason", "detail")}
        for row, (key, text, border, reason, _) in enumerate(zip(*columns.values(), strict=True)):
            if reason is not None:
                continue
            if key in self.used:
                reject(columns, row, Reason.USED_AS_PREFIX, "it is part of the prefix fed before the others")
            elif change is not None:
                prompt, own = split(text, border)
                new = change(key, own)
                columns["text"][row] = prompt + new
                if own and not new:
                    reject(columns, row, Reason.EMPTY_AFTER_TRANSFORM, f"{self.transform.canonical} leaves nothing")
        return with_columns(block, {name: columns[name] for name in ("text", "reason", "detail")})

    def tokens(self, block: pa.Table, n_before: int, n_after: int = 0) -> pa.Table:
        """A block of schema `flow.TOKENIZED`, changed. `n_before`, `n_after`: tokens that the tokenizer feeds around
        every text."""
        if self.transform.name == "windows":
            return only_texts(block, n_before, n_after, self.transform)
        return without_prompts(block, n_before) if self.transform.name == "unprompted" else block


def text_change(transform: Transform) -> TextChange | None:
    """What a transform does to a text; None where it leaves texts as they are."""
    name, canonical = transform.name, transform.canonical
    if name == "lowercase":
        return lambda key, text: text.lower()
    if name not in ("perturb", "shuffle"):
        return None
    what = transform.get("kind" if name == "perturb" else "unit")
    draw = (name, str(what), transform.number("seed"), transform.number("copy"))
    if name == "shuffle":
        return lambda key, text: shuffled(text, draw[1], random_of(key, *draw))
    rate = transform.get("rate")
    if not isinstance(rate, float):
        raise ValueError(f"{canonical} has no rate")
    kind = KINDS[draw[1]]
    return lambda key, text: kind.change(text, rate, random_of(key, *draw))


def split(text: str, prompt_bytes: int | None) -> tuple[str, str]:
    """Prompt and completion; without a prompt column everything is completion."""
    if not prompt_bytes:
        return "", text
    encoded = text.encode()
    return encoded[:prompt_bytes].decode(), encoded[prompt_bytes:].decode()


def without_prompts(block: pa.Table, n_before: int) -> pa.Table:
    """The completions alone, in the tokens that they have behind their prompts.

    The tokens fed before every text stay, those wholly in the prompt go: where prompts are flagged as `in_prompt`, the
    i-th token that is not is the i-th token of the text here. Spans move to the completion's start; a token across
    the border is clipped to what it covers of the completion. A record without a completion becomes a reject.
    """
    columns = {name: block[name].to_pylist() for name in ("text", "prompt_bytes", "reason", "detail")}
    for row, (text, border, reason, _) in enumerate(zip(*columns.values(), strict=True)):
        if reason is None:
            columns["text"][row] = split(text, border)[1]
            columns["prompt_bytes"][row] = 0
            if not columns["text"][row]:
                reject(columns, row, Reason.EMPTY_AFTER_TRANSFORM, "there is nothing after the prompt")
    kept = [reason is None for reason in columns["reason"]]
    return with_columns(_without_prompt_tokens(block, n_before, pa.array(kept, pa.bool_())), columns)


def _without_prompt_tokens(block: pa.Table, n_before: int, kept_D: pa.BooleanArray) -> pa.Table:
    """The lists of the rows kept without the prompt's tokens, NULL in the others."""
    tokens = FlatTokens.of(block, kept_D)
    border_T = np.repeat(tokens.rows["prompt_bytes"].to_numpy(), tokens.lengths_K)
    starts = tokens.columns["byte_start"].astype(np.int64)
    ends = starts + tokens.columns["n_bytes"]
    kept_T = (tokens.place_T < n_before) | (border_T == 0) | (ends > border_T)
    new_starts = np.maximum(starts - border_T, 0)
    spans = {"byte_start": new_starts, "n_bytes": np.maximum(ends - border_T, 0) - new_starts}
    return replace(tokens, columns=tokens.columns | spans).into(block, kept_T)
