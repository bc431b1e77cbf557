"""`pairs`: one row per token of a document that two models with one tokenizer have scored.

p is the run that predicts, q the run that is measured: `xent` is what q pays for p's expectations.
"""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import Column, Table


def _divergence(name: str, description: str, formula: str, **more: object) -> Column:
    defaults: dict[str, object] = {"type": pa.float32(), "unit": "nats", "nullable": True, "minimum": 0.0}
    return Column(name, description=description, formula=formula, **{**defaults, **more})  # type: ignore[arg-type]


PAIRS = Table(
    name="pairs",
    row="one token of one document under two models",
    key=("p_run", "q_run", "doc_id", "position"),
    sorted_by=("doc_id", "position"),
    columns=(
        Column("p_run", pa.string(), "run of the model that predicts", is_partition=True),
        Column("q_run", pa.string(), "run of the model that is measured", is_partition=True),
        Column("doc_id", pa.int64(), "document, as in `documents`", minimum=0),
        Column("position", pa.int32(), "place in the ids fed, as in `tokens`", unit="count", minimum=0),
        _divergence("xent", "cross-entropy of q under p", "-sum_v p_v ln q_v", source="Binoculars, arXiv 2401.12070"),
        _divergence("xstd", "standard deviation of ln q under p", "sqrt(Var_{v~p} ln q_v)"),
        _divergence("kl", "Kullback-Leibler divergence of q from p", "sum_v p_v ln(p_v / q_v)"),
        _divergence("jsd", "Jensen-Shannon divergence", "(KL(p||m) + KL(q||m)) / 2, m = (p + q) / 2"),
        _divergence("tv", "total variation distance", "sum_v |p_v - q_v| / 2", unit="probability", maximum=1.0),
    ),
)
