"""What is searched for: lengths of prefixes, suffixes and spans, and how continuations are sampled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from schemas.spans import NEAR_VERBATIM

MOST_TOKENS = 1 << 20  # of a length, as in the transform `windows`; so that no sum of scores overflows


@dataclass(frozen=True)
class Search:
    """Lengths are in tokens. `stride`: from one suffix to the next, in the documents' own context. `misses`: the share
    that a near-verbatim span stays below. `top_k`: 0 samples from the whole vocabulary. `completion`: prompts are left
    out.

    Raises:
        ValueError: what no search can be; every fault at once.
    """

    prefix: int = 50
    suffix: int = 50
    stride: int = 50
    min_tokens: int = 50
    misses: float = 0.1
    temperature: float = 1.0
    top_k: int = 0
    completion: bool = False

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {getattr(self, name)}: 1 to {MOST_TOKENS:,} tokens"
            for name in ("prefix", "suffix", "stride", "min_tokens")
            if not 1 <= getattr(self, name) <= MOST_TOKENS
        ]
        if not 0 <= self.misses < 1 or self.most_misses == 1:
            faults.append(f"misses is {self.misses}: a share of 0 or more, below 1")
        if not 0 < self.temperature < float("inf"):
            faults.append(f"temperature is {self.temperature}: a number above 0")
        if not 0 <= self.top_k <= MOST_TOKENS:
            faults.append(f"top_k is {self.top_k}: 0 for the whole vocabulary, else 1 to {MOST_TOKENS:,} tokens")
        elif self.temperature != 1 and not self.top_k:
            faults.append(
                f"temperature {self.temperature:g} over the whole vocabulary is not kept in a lake: sample from the "
                "most likely tokens, with a top_k that the run's lists hold"
            )
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def most_misses(self) -> Fraction:
        """The share as it was written, 0.1 is a tenth, to a millionth at least: scores are whole numbers of 64 bits."""
        return Fraction(str(self.misses)).limit_denominator(MOST_TOKENS)

    @property
    def sampling(self) -> str:
        return json.dumps({"temperature": self.temperature, "top_k": self.top_k}, sort_keys=True)

    def windows(self, stride: int) -> dict[str, Any]:
        """What the card `extraction` is bound to, besides the run."""
        return {
            "prefix": self.prefix,
            "suffix": self.suffix,
            "stride": stride,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "completion": self.completion,
        }

    def span_parameters(self, kind: str) -> str:
        """What spans of a kind were searched with, as a JSON object."""
        values: dict[str, Any] = {"min_tokens": self.min_tokens, "completion": self.completion}
        if kind == NEAR_VERBATIM:
            values["misses"] = self.misses
        return json.dumps(values, sort_keys=True)
