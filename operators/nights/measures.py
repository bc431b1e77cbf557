"""What is watched of a night: each number is a ratio of two sums over its documents, defined here once.

    bits_per_byte       -sum ln p / (bytes ln 2), documents with a scored token
    mean_logprob        sum ln p / scored tokens, nats: a token's, not a document's
    tokens_per_byte     tokens fed / bytes: how well the tokenizer fits; up where scripts or formats are new to it
    one_byte_share      tokens of one byte / tokens of any: up where it falls back on bytes and single letters
    log_document_bytes  mean of ln bytes: lengths have long tails, and a plain mean would be that of a few documents
    rejects_share       records rejected / records read
    twin_share          documents whose text another document of the night has, too
    repeated_share      documents whose text a shard of another name held on an earlier night
    domain_share        bytes of a domain / bytes
    score_mean          mean of a score: of the roll-ups min_k_20 and min_k_plus_plus_20, and of kept ones
    above_quantile      documents whose roll-up is above what 5 % of the first night's were above (of 20 or more)
    auroc               of a score, where documents have labels: see `operators.evaluation`
    overlap_items       share of a benchmark's items found in the night's shards: a count, no estimate

Per domain: bits_per_byte, tokens_per_byte, domain_share.

Two of them depend on how much there is to find a text in: twin_share rises with the documents of a night, so one that
covers missed nights has more; repeated_share rises with the nights that are looked back at, so nights are compared
by it only once there are as many as are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.nights import ALL, SCORE

_SCORED = "n_scored > 0 and logprob_sum is not null"
ROLLED_UP = ("min_k_20", "min_k_plus_plus_20")
QUANTILE = 0.95  # of a score on the first night; what lies above it is watched
BITS_PER_BYTE, TOKENS_PER_BYTE, DOMAIN_SHARE = "bits_per_byte", "tokens_per_byte", "domain_share"
REJECTS_SHARE, ONE_BYTE_SHARE = "rejects_share", "one_byte_share"
TWIN_SHARE, REPEATED_SHARE = "twin_share", "repeated_share"
SCORE_MEAN, ABOVE_QUANTILE, AUROC, OVERLAP_ITEMS = "score_mean", "above_quantile", "auroc", "overlap_items"

UNITS = {
    BITS_PER_BYTE: "bits per byte",
    "mean_logprob": "nats per token",
    TOKENS_PER_BYTE: "tokens per byte",
    "log_document_bytes": "ln bytes",
    SCORE_MEAN: "score",
    AUROC: "area",
}  # others are shares
TITLES = {
    BITS_PER_BYTE: "bits per byte",
    "mean_logprob": "mean log-prob of a token",
    TOKENS_PER_BYTE: "tokens per byte",
    ONE_BYTE_SHARE: "tokens of one byte",
    "log_document_bytes": "mean log length of documents",
    REJECTS_SHARE: "records rejected",
    TWIN_SHARE: "texts that are there twice tonight",
    REPEATED_SHARE: "texts seen on an earlier night in another shard",
    DOMAIN_SHARE: "share of the bytes",
    SCORE_MEAN: "mean score",
    ABOVE_QUANTILE: f"documents above the {QUANTILE:.0%} point of the first night",
    AUROC: "AUROC",
    OVERLAP_ITEMS: "benchmark items found in tonight's shards",
}


@dataclass(frozen=True)
class Ratio:
    """sum of `top` / sum of `bottom` over the documents where `where` holds: SQL over the columns of `documents`."""

    name: str
    top: str
    bottom: str
    where: str = "true"
    by_domain: bool = False
    is_share: bool = False
    part: str = ALL
    subject: str = ""


RATIOS = (
    Ratio(BITS_PER_BYTE, "-logprob_sum / ln(2)", "n_bytes", _SCORED, by_domain=True),
    Ratio("mean_logprob", "logprob_sum", "n_scored", _SCORED),
    Ratio(TOKENS_PER_BYTE, "n_tokens", "n_bytes", by_domain=True),
    Ratio("log_document_bytes", "ln(greatest(n_bytes, 1))", "1"),
)
ROLLUP_RATIOS = tuple(Ratio(SCORE_MEAN, name, "1", f"isfinite({name})", part=SCORE, subject=name) for name in ROLLED_UP)
