"""The heat map of `assay tokenizers`: domains by tokenizers; premiums on parallel text, else bytes per token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from jobs.figures import draw_heatmap
from pipelines.tokenizers.job import TokenizersPlan
from pipelines.tokenizers.run import Profile

_NO_DOMAIN = "(no domain)"


def draw(path: Path, plan: TokenizersPlan, profile: Profile) -> None:
    """Draw the heat map to a file that ends in .svg or .png."""
    rows = profile.rows
    premiums = rows.filter(pc.equal(rows["statistic"], "premium"))
    if len(premiums):
        shown = premiums
        title, legend = f"Tokens against {profile.baseline}, on translations", "tokens / tokens of the baseline"
    else:
        shown = rows.filter(pc.equal(rows["statistic"], "bytes_per_token"))
        title, legend = "Bytes per token", "bytes of UTF-8 per token"
    by_domain = shown.filter(pc.equal(shown["part"], "domain"))
    shown = by_domain if len(by_domain) else shown
    tokenizers = [each.name for each in plan.job.tokenizers]
    domains = list(dict.fromkeys(shown["domain"].to_pylist()))
    values = np.full((len(domains), len(tokenizers)), np.nan)
    for row in shown.select(["domain", "tokenizer", "value"]).to_pylist():
        if row["value"] is not None:
            values[domains.index(row["domain"]), tokenizers.index(row["tokenizer"])] = row["value"]
    nameless = _NO_DOMAIN if len(by_domain) else "all"
    names = [nameless if domain is None else domain for domain in domains]
    draw_heatmap(path, values, names, tokenizers, title=title, legend=legend)
