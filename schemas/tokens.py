"""`tokens`: one row per token fed to the model.

Key `(run_id, doc_id, position)`, sorted by `doc_id, position`. Row `position = p` describes the prediction **of** token
`p` from the tokens before it:

    position      0      1      2      3
    fed        <bos>    The    cat    sat
    statistics  NULL  p(The) p(cat) p(sat)     the first fed token has no prediction: NULL, never 0

Natural logarithms everywhere (nats). p_v is the model's full-vocabulary next-token distribution, y the token fed.
"""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import COMMENTS, PROMPT, Column, Table

EXTREMES, NUCLEUS, RENYI, TOPK, HIDDEN = "extremes", "nucleus", "renyi", "topk", "hidden"
FEATURE_GROUPS = (EXTREMES, NUCLEUS, RENYI, TOPK, HIDDEN)


def _statistic(name: str, description: str, **more: object) -> Column:
    """A per-token statistic: a nullable float, NULL exactly where there is no prediction."""
    defaults: dict[str, object] = {"type": pa.float32(), "unit": "nats", "nullable": True}
    return Column(name, description=description, **{**defaults, **more})  # type: ignore[arg-type]


TOKENS = Table(
    name="tokens",
    row="one token fed to the model",
    key=("run_id", "doc_id", "position"),
    sorted_by=("doc_id", "position"),
    view_columns={"logprob_mean": "-entropy"},
    columns=(
        Column("run_id", pa.string(), "the run this row belongs to", is_partition=True),
        Column("doc_id", pa.int64(), "63-bit hash of the document's key, the same in every run", minimum=0),
        Column(
            "position", pa.int32(), "0-based place in the ids fed, special tokens included", unit="count", minimum=0
        ),
        Column("token_id", pa.int32(), "vocabulary id of the token fed", minimum=0),
        Column("byte_start", pa.int32(), "first byte of the token in the UTF-8 document", unit="bytes", minimum=0),
        Column("n_bytes", pa.int16(), "length of the token's span; 0 for added tokens", unit="bytes", minimum=0),
        # Spans tile the text, so their ends never fall: the tokens of the prompt come first, empty spans included.
        Column(
            "in_prompt",
            pa.bool_(),
            "whether the token lies wholly in the prompt; one across its end counts as completion",
            group=PROMPT,
            formula="prompt_bytes > 0 and byte_start + n_bytes <= prompt_bytes",
        ),
        Column(
            "in_comment",
            pa.bool_(),
            "whether a comment or docstring of the code holds a byte of the token that is not white space; NULL where "
            "the language is unknown, or the text too long or too slow to lex",
            nullable=True,
            group=COMMENTS,
            source="ATC, Ashkenazi et al. 2025",
        ),
        _statistic(
            "logprob",
            "log-probability of the token fed",
            maximum=0.0,
            higher_means="better predicted",
            formula="ln p_y",
        ),
        _statistic(
            "entropy",
            "Shannon entropy of the prediction over the full vocabulary",
            minimum=0.0,
            higher_means="less certain",
            formula="-sum_v p_v ln p_v",
        ),
        _statistic(
            "logprob_std",
            "p-weighted standard deviation of the log-probability (root of the varentropy)",
            minimum=0.0,
            formula="sqrt(sum_v p_v (ln p_v + entropy)^2)",
            source="Min-K%++, arXiv 2404.02936",
        ),
        _statistic(
            "rank",
            "place of the token by logit, best rank under ties",
            type=pa.int32(),
            unit="1 = most likely",
            minimum=1,
            formula="1 + #{v : l_v > l_y}",
        ),
        _statistic("logprob_max", "log-probability of the most likely token", group=EXTREMES, maximum=0.0),
        _statistic(
            "top1_id",
            "vocabulary id of the most likely token, lowest id under ties",
            type=pa.int32(),
            unit="",
            group=EXTREMES,
            minimum=0,
        ),
        _statistic(
            "mass_above",
            "probability of all tokens strictly more likely than the token fed",
            unit="probability",
            group=NUCLEUS,
            minimum=0.0,
            maximum=1.0,
            formula="sum_{v : l_v > l_y} p_v",
        ),
        # With q the distribution at temperature 2, sum_v sqrt(q_v / V) is
        # exp(3/4 renyi_quarter - 1/4 renyi_half) / sqrt(V): the distances to uniform of that paper.
        _statistic(
            "renyi_quarter",
            "Renyi entropy of order 1/4",
            group=RENYI,
            minimum=0.0,
            formula="4/3 ln sum_v p_v^(1/4)",
            source="Rainproof, arXiv 2212.09171",
            is_later=True,
        ),
        _statistic(
            "renyi_half",
            "Renyi entropy of order 1/2",
            group=RENYI,
            minimum=0.0,
            formula="2 ln sum_v sqrt(p_v)",
            source="MaxRenyi-K%, arXiv 2411.02902",
        ),
        _statistic(
            "renyi_2",
            "Renyi entropy of order 2 (collision entropy)",
            group=RENYI,
            minimum=0.0,
            formula="-ln sum_v p_v^2",
        ),
        _statistic(
            "logprob_second",
            "largest log-probability different from the maximum; NULL where all are equal",
            group=RENYI,
            maximum=0.0,
        ),
        _statistic(
            "rest_entropy",
            "complement term of the modified entropy",
            group=RENYI,
            minimum=0.0,
            formula="-sum_{v != y} p_v ln(1 - p_v)",
            source="Song & Mittal, arXiv 2003.10595",
        ),
        _statistic(
            "logprob_uniform",
            "unweighted mean log-probability over the entries of finite logit",
            group=RENYI,
            maximum=0.0,
            formula="mean_v ln p_v",
            source="Self-Certainty, arXiv 2502.18581",
        ),
        _statistic(
            "topk_id",
            "the k most likely tokens, most likely first",
            type=pa.list_(pa.int32()),
            unit="",
            group=TOPK,
            minimum=0,
        ),
        _statistic(
            "topk_logprob", "their log-probabilities, descending", type=pa.list_(pa.float32()), group=TOPK, maximum=0.0
        ),
        Column(
            "hidden",
            pa.list_(pa.float16()),
            "final hidden state at this position (after the last norm), half precision",
            group=HIDDEN,
        ),
    ),
)
