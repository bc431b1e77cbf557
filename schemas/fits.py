"""What `assay mixture fit` keeps: how well a model predicts each domain of a run, and each type of its vocabulary."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table
from schemas.intervals import CONFIDENCE, interval

DOMAIN, ALL, MACRO = "domain", "all", "macro"

_RUN = Column("run_id", pa.string(), "the run", is_partition=True)

DOMAIN_FIT = Table(
    name="domain_fit",
    row="one domain of one run, or what all of them come to, with how well the model predicts it",
    key=("run_id", "part", "domain"),
    sorted_by=("part", "domain"),
    columns=(
        _RUN,
        Column("part", pa.string(), "domain; all: every document; macro: the unweighted mean over domains"),
        Column(
            "domain", pa.string(), "the documents' domain; NULL: those without one, or not of a domain", nullable=True
        ),
        Column("n_documents", pa.int64(), "documents, those without a scored token included", unit="count", minimum=0),
        Column("n_undefined", pa.int64(), "of them, those without a scored token", unit="count", minimum=0),
        Column("n_tokens", pa.int64(), "scored tokens", unit="tokens", minimum=0),
        Column("n_fed", pa.int64(), "tokens fed of the documents with a scored token", unit="tokens", minimum=0),
        Column("n_bytes", pa.int64(), "bytes of the documents with a scored token", unit="bytes", minimum=0),
        Column("n_words", pa.int64(), "words of the same documents", unit="words", minimum=0),
        Column(
            "token_share",
            pa.float64(),
            "share of the run's scored tokens",
            nullable=True,
            formula="n_tokens / sum over domains",
            minimum=0,
            maximum=1,
        ),
        *interval("token_share", minimum=0, maximum=1),
        Column(
            "byte_share",
            pa.float64(),
            "share of the run's bytes, the same under every tokenizer",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "bits_per_byte",
            pa.float64(),
            "scored tokens' loss by byte of text: comparable across tokenizers",
            unit="bits per byte",
            nullable=True,
            formula="-sum_t ln p_t / (n_bytes ln 2)",
            higher_means="worse predicted",
            source="Magnusson et al. 2023, arXiv 2312.10523",
            minimum=0,
        ),
        *interval("bits_per_byte", minimum=0),
        Column(
            "bits_per_byte_extrapolated",
            pa.float64(),
            "the convention of perplexity-correlations: tokens fed without a prediction count as average ones",
            unit="bits per byte",
            nullable=True,
            formula="sum_d (mean loss of d * fed tokens of d) / (n_bytes ln 2)",
            source="Thrush et al. 2024, arXiv 2409.05816",
            minimum=0,
        ),
        Column(
            "perplexity",
            pa.float64(),
            "by token: comparable between runs of one tokenizer only",
            nullable=True,
            formula="exp(-sum_t ln p_t / n_tokens)",
            higher_means="worse predicted",
            minimum=0,
        ),
        *interval("perplexity", minimum=0),
        CONFIDENCE,
        Column(
            "n_resamples",
            pa.int64(),
            "bootstrap samples of documents behind the intervals, studentised on the logarithm",
            minimum=0,
        ),
    ),
)

VOCABULARY_FIT = Table(
    name="vocabulary_fit",
    row="one type of the vocabulary in one run, with the loss on its occurrences",
    key=("run_id", "token_id"),
    sorted_by=("token_id",),
    columns=(
        _RUN,
        Column("token_id", pa.int32(), "vocabulary id", minimum=0),
        Column("text", pa.string(), "how a document spells it; NULL without one, or not whole text", nullable=True),
        Column("n", pa.int64(), "scored occurrences", unit="count", minimum=1),
        Column("n_documents", pa.int64(), "documents that hold them", unit="count", minimum=1),
        Column(
            "mean_loss",
            pa.float64(),
            "mean loss of the occurrences",
            unit="nats",
            formula="-avg ln p_t",
            higher_means="worse predicted",
            source="Magnusson et al. 2023, arXiv 2312.10523",
            minimum=0,
        ),
        *interval("mean_loss", minimum=0),
        Column("loss_share", pa.float64(), "share of the run's loss", nullable=True, minimum=0, maximum=1),
        CONFIDENCE,
    ),
)

FIT_TABLES = (DOMAIN_FIT, VOCABULARY_FIT)
