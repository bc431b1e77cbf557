"""Memorised items as evidence: those whose end greedy decoding writes from what comes before it.

    run with prompts    the end of an item is its answer: every token of the completion is the greedy choice
    run without         the end is the last window of the item in `extractions`, strict ones where there are any

One pass over the text answers this, as greedy decoding writes a text exactly where each of its tokens is the greedy
choice (Carlini et al. 2023, arXiv 2202.07646). The greedy choice is `top1_id`, else the first of `topk_id`, else
rank 1, which counts both tokens of an exact tie. One end an item: more windows would be more chances for longer items.

Short ends are guessed, so answers of fewer than `min_tokens` tokens are left out and counted. Beside a clean set the
shares are compared by Fisher's exact test; items are taken as independent. Without one there is a share and no test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.contamination.evidence import MEMORISED, Evidence
from operators.contamination.rates import (
    DIFFERENCE_METHOD,
    SHARE_METHOD,
    difference_interval,
    higher_rate_p_value,
    share_interval,
)
from operators.lake import Lake, Part
from operators.scores.origin import Origin, parse_origin, run_state
from schemas import EXTRACTIONS
from schemas.extractions import STRICT
from schemas.tokens import EXTREMES, TOPK

EXAMPLES = 3
MIN_TOKENS = 8  # of an answer that counts

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """What kind of window an end is: its context, and how many tokens it has before it and itself."""

    context: str
    prefix_tokens: int
    suffix_tokens: int

    @property
    def said(self) -> str:
        return f"last {self.suffix_tokens} tokens after {self.prefix_tokens}, {self.context} context"


@dataclass(frozen=True)
class Ends:
    """The ends of items, by ascending id: tokens [N], and whether every one is the greedy choice [N].

    `windows` is None where the ends are answers. `n_without`: items that have no end.
    """

    ids: Ids
    keys: tuple[str, ...]
    n_tokens: Ids
    is_written: npt.NDArray[np.bool_]
    windows: Windows | None
    n_without: int = 0

    def among(self, ids: Ids) -> Ends:
        """Those of a set of items; `n_without` counts the rest of the set."""
        chosen = np.isin(self.ids, ids)
        keys = tuple(key for key, is_in in zip(self.keys, chosen.tolist(), strict=True) if is_in)
        lacking = int(ids.size - chosen.sum())
        return Ends(self.ids[chosen], keys, self.n_tokens[chosen], self.is_written[chosen], self.windows, lacking)

    def longer(self, min_tokens: int) -> npt.NDArray[np.bool_]:
        """Which ends are too long to be guessed [N]; all windows are as long as they were asked for."""
        return self.n_tokens >= (0 if self.windows else min_tokens)


def has_prompts(connection: duckdb.DuckDBPyConnection, run_id: str) -> bool:
    """Whether a document of the run has a prompt."""
    sql = "select coalesce(bool_or(prompt_bytes > 0), false) from documents where run_id = $run_id"
    ((found,),) = connection.execute(sql, {"run_id": run_id}).fetchall()
    return bool(found)


def read_answers(connection: duckdb.DuckDBPyConnection, run_id: str, features: Sequence[str]) -> Ends:
    """The completions of documents that have a prompt. Tokens put after a text (EOS) are no part of it.

    `features`: those that the run kept, which decide how the greedy choice is known.
    """
    greedy = "rank = 1"
    if EXTREMES in features or TOPK in features:
        greedy = "top1_id = token_id" if EXTREMES in features else "topk_id[1] = token_id"
    rows = connection.sql(
        f"""
        select
          t.doc_id,
          any_value(d.key) as key,
          count(*) as n_tokens,
          bool_and(coalesce({greedy}, false)) as is_written
        from tokens t
        join documents d on d.doc_id = t.doc_id and d.run_id = t.run_id
        where t.run_id = $run_id and d.prompt_bytes > 0 and not t.in_prompt
          and (t.n_bytes > 0 or t.byte_start < d.n_bytes)
        group by t.doc_id
        order by t.doc_id
        """,
        params={"run_id": run_id},
    ).to_arrow_table()
    return Ends(
        rows["doc_id"].to_numpy(),
        tuple(rows["key"].to_pylist()),
        rows["n_tokens"].to_numpy(),
        rows["is_written"].to_numpy(),
        None,
    )


def read_windows(connection: duckdb.DuckDBPyConnection, run_id: str, kind: Windows | None = None) -> Ends | None:
    """The last window of each document in `extractions`, of a kind; None where there is none.

    Without `kind`: strict windows rather than those in their document, and of these the kind that has the most.
    """
    chosen = kind or _commonest(connection, run_id)
    if chosen is None:
        return None
    rows = connection.sql(
        """
        select
          e.doc_id,
          any_value(d.key) as key,
          any_value(e.suffix_tokens)::bigint as n_tokens,
          arg_max(e.is_extractable, (e.byte_start, e.position)) as is_written
        from extractions e
        join documents d on d.doc_id = e.doc_id and d.run_id = e.run_id
        where e.run_id = $run_id and e.context = $context
          and e.prefix_tokens = $prefix_tokens and e.suffix_tokens = $suffix_tokens
        group by e.doc_id
        order by e.doc_id
        """,
        params={"run_id": run_id, **vars(chosen)},
    ).to_arrow_table()
    if not rows.num_rows:
        return None
    columns = rows["doc_id"], rows["n_tokens"], rows["is_written"]
    ids, n_tokens, is_written = (column.to_numpy() for column in columns)
    return Ends(ids, tuple(rows["key"].to_pylist()), n_tokens, is_written, chosen)


def are_current(lake: Lake, run_id: str, context: str) -> bool:
    """Whether the windows that the lake keeps of a run, in one context, are of its runs as they are now."""
    part = Part(EXTRACTIONS.name, run_id, Origin(context, (), {}).part_name)
    try:
        with lake.storage.parquet(part.path) as file:
            states = parse_origin(file.schema_arrow).states
        return all(state == run_state(lake.read_run(run)) for run, state in states.items())
    except (FileNotFoundError, ValueError, pa.ArrowException):
        return False


def _commonest(connection: duckdb.DuckDBPyConnection, run_id: str) -> Windows | None:
    found = connection.execute(
        """
        select context, prefix_tokens, suffix_tokens
        from extractions
        where run_id = $run_id
        group by context, prefix_tokens, suffix_tokens
        order by context = $strict desc, count(*) desc, suffix_tokens desc, prefix_tokens desc
        limit 1
        """,
        {"run_id": run_id, "strict": STRICT},
    ).fetchall()
    return Windows(*found[0]) if found else None


def memorised_evidence(
    benchmark: str, ends: Ends, base: Ends | None = None, *, min_tokens: int = MIN_TOKENS, doubt: str = ""
) -> Evidence:
    """The share of items whose end is written; beside a clean set (`base`), how much larger than there.

    `doubt`: why the sets cannot be compared, though both are there.
    """
    test = f"answers of >= {min_tokens} tokens" if ends.windows is None else ends.windows.said
    hits, n = _counts(ends, min_tokens)
    said = f"{hits:,} of {n:,} items{_left_out(ends, n)}"
    worst = np.flatnonzero(ends.is_written & ends.longer(min_tokens))[:EXAMPLES].tolist()
    row = Evidence(benchmark, MEMORISED, test, n, examples=tuple(ends.keys[i] for i in worst))
    if not n:
        return replace(row, doubt="no item has such an end", detail=said)
    base_hits, base_n = (0, 0) if base is None else _counts(base, min_tokens)
    if base is None or not base_n:
        why = "no clean set to compare with" if base is None else "no item of the clean set has such an end"
        return replace(
            row, estimate=hits / n, unit="share of items", interval=share_interval(hits, n), method=SHARE_METHOD,
            detail=f"{said}; {why}",
        )  # fmt: skip
    return replace(
        row,
        estimate=hits / n - base_hits / base_n,
        unit="share of items more than of the clean set",
        interval=difference_interval(hits, n, base_hits, base_n),
        method=DIFFERENCE_METHOD,
        p_value=higher_rate_p_value(hits, n, base_hits, base_n),
        doubt=doubt,
        detail=f"{said}, {base_hits:,} of {base_n:,} of the clean set{_left_out(base, base_n)}",
    )


def _counts(ends: Ends, min_tokens: int) -> tuple[int, int]:
    counted = ends.longer(min_tokens)
    return int((ends.is_written & counted).sum()), int(counted.sum())


def _left_out(ends: Ends, n: int) -> str:
    short = int(ends.ids.size) - n
    said = [f"{count:,} {what}" for count, what in ((short, "shorter"), (ends.n_without, "without an end")) if count]
    return f" ({', '.join(said)})" if said else ""
