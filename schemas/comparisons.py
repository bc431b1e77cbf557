"""What `assay compare` keeps under a name: how two corpora differ, and what each looks like."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table
from schemas.intervals import CONFIDENCE, interval

_COMPARISON = Column("comparison", pa.string(), "name of the comparison", is_partition=True)

COMPARISONS = Table(
    name="comparisons",
    row="one statistic of one pair of corpora",
    key=("comparison", "a", "b", "statistic", "unit", "n"),
    sorted_by=("a", "b", "statistic", "unit", "n"),
    columns=(
        _COMPARISON,
        Column("a", pa.string(), "one corpus, as it was named"),
        Column("b", pa.string(), "the other"),
        Column(
            "statistic",
            pa.string(),
            "js and its root js_distance, kl (of a from b), tv, hellinger, jaccard; depth and depth_rank_sum (of b, "
            "reference a); ks",
        ),
        Column("unit", pa.string(), "words or tokens, states for depth, a quantity of `corpus_profiles` for ks"),
        Column("n", pa.int32(), "words or tokens of an n-gram; 0 where there are none", minimum=0),
        Column("value", pa.float64(), "bits for js and kl; NULL where it is not defined", nullable=True),
        *interval("value"),
        CONFIDENCE,
        Column(
            "null_mean",
            pa.float64(),
            "its mean over random splits of the documents into corpora of these sizes",
            nullable=True,
        ),
        Column(
            "p_value",
            pa.float64(),
            "chance of as large a difference between corpora of one source",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "p_adjusted",
            pa.float64(),
            "the same, by Holm over every permutation test of the comparison",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column("test", pa.string(), "permutation (of documents), or rank_sum, which does not decide", nullable=True),
        Column("n_permutations", pa.int64(), "relabelings drawn", unit="count", minimum=0),
        Column(
            "n_a",
            pa.int64(),
            "documents of a; pieces of text for ks of piece_compression_ratio",
            unit="count",
            minimum=0,
        ),
        Column("n_b", pa.int64(), "documents or pieces of b", unit="count", minimum=0),
        Column("note", pa.string(), "what is to be known of it; NULL where nothing is", nullable=True),
    ),
)

CORPUS_PROFILES = Table(
    name="corpus_profiles",
    row="one quantile, or the mean, of one quantity over the documents of one corpus",
    key=("comparison", "corpus", "quantity", "quantile"),
    sorted_by=("corpus", "quantity", "quantile"),
    columns=(
        _COMPARISON,
        Column("corpus", pa.string(), "as it was named"),
        Column(
            "quantity",
            pa.string(),
            "bytes, words, tokens (special ones too), bytes_per_token, compression_ratio, piece_compression_ratio",
        ),
        Column("quantile", pa.float64(), "0 to 1; -1 is the mean", minimum=-1, maximum=1),
        Column("value", pa.float64(), "in the quantity's unit; NULL where it is not defined", nullable=True),
        *interval("value"),
        CONFIDENCE,
        Column("n", pa.int64(), "documents, or pieces of text, with the quantity", unit="count", minimum=0),
    ),
)

COMPARISON_TABLES = (COMPARISONS, CORPUS_PROFILES)
