"""`documents`: one row per scored document. A documents part is the receipt for the tokens part of the same name."""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import COMMENTS, PROMPT, Column, Table

ROLLUPS = "rollups"  # written with every part; parts of versions before it was there have none of these columns
ROLLUP_RATIO = 0.2  # share of the tokens that the roll-ups of Min-K% average, the default of those scores


def _rollup(name: str, description: str, **more: object) -> Column:
    """What is kept of a document's tokens: a nullable number, NULL where no token is scored."""
    defaults: dict[str, object] = {"type": pa.float64(), "unit": "nats", "nullable": True, "group": ROLLUPS}
    return Column(name, description=description, **{**defaults, **more})  # type: ignore[arg-type]


DOCUMENTS = Table(
    name="documents",
    row="one scored document",
    key=("run_id", "doc_id"),
    sorted_by=("doc_id",),
    columns=(
        Column("run_id", pa.string(), "the run this row belongs to", is_partition=True),
        Column("doc_id", pa.int64(), "63-bit xxh3 hash of `key`, the same in every run", minimum=0),
        Column("key", pa.string(), "the user's id, else `<source>#<row>`"),
        Column("source", pa.string(), "file the document was read from"),
        Column(
            "row",
            pa.int64(),
            "0-based record in that file (line for JSONL, 0 for a text file)",
            unit="count",
            minimum=0,
        ),
        Column("text", pa.string(), "the document as scored; NULL when dropped with --drop-text", nullable=True),
        Column("n_bytes", pa.int64(), "length in UTF-8", unit="bytes", minimum=0),
        Column("n_chars", pa.int64(), "length in Unicode code points", unit="count", minimum=0),
        Column(
            "n_words",
            pa.int64(),
            "pieces of a split on white space",
            unit="count",
            formula=r"len(re.split(r'\s+', text))",
            minimum=1,
        ),
        Column("n_tokens", pa.int64(), "rows in `tokens`, special tokens included", unit="count", minimum=1),
        Column("n_scored", pa.int64(), "tokens with a prediction", unit="count", minimum=0),
        Column(
            "prompt_bytes",
            pa.int64(),
            "length of the prompt at the start of the text, 0 without one",
            unit="bytes",
            group=PROMPT,
            minimum=0,
        ),
        Column(
            "prompt_tokens",
            pa.int64(),
            "tokens that lie wholly in the prompt; the completion is at position >= prompt_tokens",
            unit="count",
            group=PROMPT,
            minimum=0,
        ),
        Column(
            "comment_tokens",
            pa.int64(),
            "tokens in comments and docstrings; NULL where `in_comment` is",
            unit="count",
            nullable=True,
            group=COMMENTS,
            minimum=0,
        ),
        Column(
            "zlib_bytes",
            pa.int64(),
            "length of zlib.compress(text) at the default level",
            unit="bytes",
            source="arXiv 2012.07805",
            minimum=0,
        ),
        Column("text_sha256", pa.string(), "hex SHA-256 of the UTF-8 text"),
        Column(
            "label",
            pa.int8(),
            "1 member / machine / contaminated, 0 not, NULL unknown",
            nullable=True,
            minimum=0,
            maximum=1,
        ),
        Column("domain", pa.string(), "the user's domain", nullable=True),
        Column(
            "attributes",
            pa.map_(pa.string(), pa.string()),
            "further columns asked for with --keep-columns",
            nullable=True,
        ),
        # Computed from the tokens as stored, so that SQL over `tokens` gives the same to float64 rounding.
        _rollup(
            "logprob_sum",
            "log-probability of the text, summed over its scored tokens",
            maximum=0.0,
            formula="sum_t ln p_t",
        ),
        _rollup("entropy_sum", "entropy of the predictions, summed", minimum=0.0, formula="sum_t entropy_t"),
        _rollup(
            "varentropy_sum",
            "variance of the log-probability under the predictions, summed",
            unit="nats^2",
            minimum=0.0,
            formula="sum_t logprob_std_t^2",
            source="Fast-DetectGPT, arXiv 2310.05130",
        ),
        _rollup("log_rank_sum", "logarithm of the ranks, summed", minimum=0.0, formula="sum_t ln rank_t"),
        _rollup(
            "n_rank_1",
            "tokens that were the most likely one",
            type=pa.int64(),
            unit="count",
            minimum=0,
            formula="#{t : rank_t = 1}",
        ),
        _rollup(
            "min_k_20",
            "score `min_k` at ratio 0.2",
            unit="nats per token",
            maximum=0.0,
            higher_means="more member-like",
            formula="mean of the max(1, floor(0.2 n)) smallest ln p_t",
            source="Min-K% Prob, arXiv 2310.16789",
        ),
        _rollup(
            "min_k_plus_plus_20",
            "score `min_k_plus_plus` at ratio 0.2; NULL also where no z is defined, -inf where a certainty was wrong",
            unit="standard deviations",
            higher_means="more member-like",
            formula="mean of the max(1, floor(0.2 n)) smallest z_t = (ln p_t + entropy_t) / logprob_std_t",
            source="Min-K%++, arXiv 2404.02936",
        ),
    ),
)
