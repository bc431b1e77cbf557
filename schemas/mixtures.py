"""What the verbs `assay mixture ...` keep under a name: shares of components, however they were estimated."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table
from schemas.intervals import CONFIDENCE, interval

_MIXTURE = Column("mixture", pa.string(), "name of the estimate", is_partition=True)

MIXTURES = Table(
    name="mixtures",
    row="one component of one mixture, with its share by one method",
    key=("mixture", "method", "component"),
    sorted_by=("method", "component"),
    columns=(
        _MIXTURE,
        Column(
            "method",
            pa.string(),
            "em_document, em_token: likelihood; doremi, selective: two runs; tokenizer: merges; "
            "product, sign, sign_cdf, sign_sign, spearman and /linear or /l2: perplexity correlations; "
            "doremi/1, doremi/2, ...: the weights after each step",
        ),
        Column("component", pa.string(), "run, domain or candidate corpus, as it was named"),
        Column(
            "share",
            pa.float64(),
            "its share of the mixture; NULL where the method found none",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        *interval("share", minimum=0, maximum=1),
        Column("unit", pa.string(), "of what it is a share: documents, tokens, bytes or weight"),
        Column(
            "estimate",
            pa.float64(),
            "what stands beside the share: share of bytes by posterior (em), excess loss (nats), share of tokens "
            "selected, correlation, share of pairs",
            nullable=True,
        ),
        *interval("estimate"),
        Column(
            "p_value",
            pa.float64(),
            "of the estimate where nothing links component and errors: models permuted, two-sided",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column(
            "p_adjusted",
            pa.float64(),
            "the same by Holm over the components of the method",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        CONFIDENCE,
        Column("n", pa.int64(), "documents, tokens, models or merges behind it", unit="count", minimum=0),
        Column("note", pa.string(), "why this share is not to be trusted; NULL where nothing speaks against it",
               nullable=True),
    ),
)  # fmt: skip

MIXTURE_CURVES = Table(
    name="mixture_curves",
    row="one step of the fit of one mixture",
    key=("mixture", "method", "step"),
    sorted_by=("method", "step"),
    columns=(
        _MIXTURE,
        Column("method", pa.string(), "as in `mixtures`"),
        Column("step", pa.int64(), "0 is where it began", unit="count", minimum=0),
        Column(
            "objective",
            pa.float64(),
            "em: mean log-likelihood of a document or token (nats); tokenizer: summed slack of the linear program; "
            "doremi: excess loss under the step's weights (nats)",
        ),
        Column("gap", pa.float64(), "most that the optimum can be better, where it is known", nullable=True, minimum=0),
        Column("n", pa.int64(), "constraints held (tokenizer), documents or tokens (em)", unit="count", minimum=0),
    ),
)

MIXTURE_POSTERIORS = Table(
    name="mixture_posteriors",
    row="one component of one document, with the probability that the document is of it",
    key=("mixture", "method", "doc_id", "component"),
    sorted_by=("method", "doc_id", "component"),
    columns=(
        _MIXTURE,
        Column("method", pa.string(), "em_document: of the document; em_token: mean over its tokens"),
        Column("doc_id", pa.int64(), "63-bit hash of the document's key, the same in every run", minimum=0),
        Column("component", pa.string(), "run, as it was named"),
        Column("posterior", pa.float64(), "given the document and the fitted shares", minimum=0, maximum=1),
    ),
)

MIXTURE_TABLES = (MIXTURES, MIXTURE_CURVES, MIXTURE_POSTERIORS)
