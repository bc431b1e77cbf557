"""Domain fit: how well a model predicts each domain of a run, by byte and by token, and what share of the run it is.

    blocks of documents, sorted by domain -> Sums of each domain -> rows of `domain_fit`
                                                   \\-> their sum: `all`;  their mean: `macro`

    bits_per_byte               -sum ln p over scored tokens / (bytes ln 2): Paloma's, arXiv 2312.10523, and that of
                                lm-evaluation-harness, arXiv 2405.14782, where the run fed a prefix token
    bits_per_byte_extrapolated  sum_d (mean loss x tokens fed) / (bytes ln 2): perplexity correlations, arXiv 2409.05816
    perplexity                  exp(-sum ln p / scored tokens): by token, so for runs of one tokenizer only
    token_share, byte_share     of the sum over domains

All are ratios of sums over documents. A document without a scored token, as one of a single token, says nothing about
the model: it is counted in n_documents and n_undefined, and its bytes, words and fed tokens in nothing. (The cards of
family `fit` keep its bytes.) `macro` is the plain mean over domains, each weighing the same, and its counts are theirs.

Memory: `16 R` bytes a domain besides one block, so that shares can be told once the whole is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from math import log
from typing import Any

import numpy as np
import pyarrow as pa

from operators.mixtures.fit_intervals import exponential, ratio_interval, share_interval
from operators.mixtures.fit_macro import Macro
from operators.mixtures.fit_read import Block
from operators.mixtures.fit_sums import Floats, Sums, perplexity
from schemas import DOMAIN_FIT
from schemas.fits import ALL, DOMAIN, MACRO

MOST_DOMAINS = 20_000  # of a run: 320 MB at 1000 samples
FEWEST_RESAMPLES, MOST_RESAMPLES = 100, 20_000  # of which a quantile can be taken; 160 MB of weights a block

_LN2 = log(2)
_ROUNDING = 1e-9
_SHARES = ("token_share", "token_share_low", "token_share_high", "byte_share")


@dataclass(frozen=True)
class FitSettings:
    """`confidence`: level of the intervals. `resamples`: bootstrap samples of documents, 0 for no intervals.
    `min_documents`: domains with fewer documents that have a scored token are left out of `macro`."""

    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0
    min_documents: int = 1

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.confidence < 1:
            faults.append(f"--confidence {self.confidence:g}: expected a level above 0 and below 1")
        if self.resamples and not FEWEST_RESAMPLES <= self.resamples <= MOST_RESAMPLES:
            faults.append(
                f"--resamples {self.resamples}: expected {FEWEST_RESAMPLES} to {MOST_RESAMPLES}, or 0 for no intervals"
            )
        elif self.resamples and (self.resamples + 1) * (1 - self.confidence) < 1 - _ROUNDING:
            faults.append(
                f"--confidence {self.confidence:g}: {self.resamples:,} samples say nothing of a level above "
                f"{self.resamples / (self.resamples + 1):.4g}: ask for more --resamples"
            )
        if self.min_documents < 1:
            faults.append(f"--min-documents {self.min_documents}: expected 1 or more")
        if self.seed < 0:
            faults.append(f"--seed {self.seed}: expected 0 or more")
        if faults:
            raise ValueError("; ".join(faults))


class TooManyDomainsError(ValueError):
    """A run has more domains than can be told apart in memory."""


def domain_fit(blocks: Iterable[Block], settings: FitSettings) -> pa.Table:
    """The rows of `domain_fit` for one run, sorted as the table is.

    Raises:
        TooManyDomainsError: the run has more than MOST_DOMAINS domains.
    """
    rng = np.random.default_rng(settings.seed)
    whole = Sums.of_none(settings.resamples)
    macro = Macro(settings.resamples)
    domains: list[tuple[dict[str, Any], Floats, Floats]] = []  # with what shares are made of
    for domain, of_domain in groupby(blocks, key=lambda block: block.domain):
        if len(domains) == MOST_DOMAINS:
            raise TooManyDomainsError(
                f"more than {MOST_DOMAINS:,} domains: a domain is a kind of text, of which a corpus has few"
            )
        sums = Sums.of_none(settings.resamples)
        for block in of_domain:
            sums.add_block(block, rng)
        row = {"part": DOMAIN, "domain": domain, **_counts(sums), **_fit(sums, settings)}
        if sums.n_scored_documents >= settings.min_documents:
            macro.add(sums, row)
        whole.add(sums)
        domains.append((row, sums.tokens, sums.drawn_tokens))
    every = {"part": ALL, "domain": None, **_counts(whole), **_fit(whole, settings)}
    rows = [{**every, **dict.fromkeys(_SHARES), **_of_whole(every, every)}]
    for row, tokens_S, drawn_RS in domains:
        low, high = share_interval(tokens_S, drawn_RS, whole, settings.confidence) or (None, None)
        rows.append({**row, **_of_whole(row, every), "token_share_low": low, "token_share_high": high})
    rows.append({"part": MACRO, "domain": None, **dict.fromkeys(_SHARES), **macro.row(settings.confidence)})
    level = settings.confidence if settings.resamples else None
    rows = [{**row, "confidence": level, "n_resamples": settings.resamples} for row in rows]
    return pa.Table.from_pylist(rows, schema=DOMAIN_FIT.arrow())


def _counts(sums: Sums) -> dict[str, int]:
    return {
        "n_documents": sums.n_documents,
        "n_undefined": sums.n_undefined,
        "n_tokens": round(sums["tokens"]),
        "n_fed": sums.n_fed,
        "n_bytes": round(sums["bytes"]),
        "n_words": sums.n_words,
    }


def _fit(sums: Sums, settings: FitSettings) -> dict[str, float | None]:
    """A group's numbers but its shares; NULL where it has nothing to divide by."""
    loss, tokens, n_bytes = (sums[name] for name in ("loss", "tokens", "bytes"))
    bits = exponential(ratio_interval(sums, "loss", "bytes", settings.confidence), 1 / _LN2)
    nats = exponential(ratio_interval(sums, "loss", "tokens", settings.confidence))
    ends = [perplexity(end) for end in nats]
    low, high = (None, None) if None in ends else ends
    return {
        "bits_per_byte": _ratio(loss, n_bytes * _LN2),
        "bits_per_byte_low": bits[0],
        "bits_per_byte_high": bits[1],
        "bits_per_byte_extrapolated": _ratio(sums.extrapolated, n_bytes * _LN2),
        "perplexity": perplexity(_ratio(loss, tokens)),
        "perplexity_low": low,
        "perplexity_high": high,
    }


def _of_whole(row: dict[str, Any], every: dict[str, Any]) -> dict[str, float | None]:
    return {
        "token_share": _ratio(row["n_tokens"], every["n_tokens"]),
        "byte_share": _ratio(row["n_bytes"], every["n_bytes"]),
    }


def _ratio(top: float, bottom: float) -> float | None:
    return top / bottom if bottom else None
