"""Overlap as evidence: which items of a benchmark a corpus holds, by two rules, answers apart.

    overlap_items of one overlap, joined on doc_id with the run's documents --> ItemOverlaps --> evidence

    share:S      an item of whose n-grams the corpus holds at least the share S (as MIMIR)
    any          an item with any n-gram that the corpus holds (as lm-evaluation-harness)
    answers      an item with an n-gram of its answer, or across input and answer, that the corpus holds

Only the rule asked for is held against the threshold. By default that is `share:0.8`: an instruction or a quotation
that many texts share gives an item n-grams that are seen, and with `any` it condemns a benchmark alone. Published
reports draw the line in the same place: PaLM at 70 % of an item's 8-grams (arXiv 2204.02311), Llama 2 at 80 % of its
tokens in matches of ten or more (arXiv 2307.09288); GPT-3 took any 13-gram, but none that more than ten documents hold
(arXiv 2005.14165). There is no p-value: what a corpus holds is a fact. The interval
takes the items as drawn from more like them. Items too short for an n-gram cannot be judged and are counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt

from operators.contamination.evidence import OVERLAP, Evidence
from operators.contamination.rates import SHARE_METHOD, share_interval
from operators.identity import doc_id
from schemas.overlaps import check_overlap

ANY, SHARE = "any", "share"
DEFAULT_SHARE = 0.8
EXAMPLES = 3
SHOWN = 300  # characters of a match

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """When an item counts as overlapping: with any n-gram seen, or with at least `share` of them."""

    share: float | None = None

    @property
    def said(self) -> str:
        return "any n-gram" if self.share is None else f"share >= {self.share:g}"


def parse_rule(text: str) -> Rule:
    """Read `any` or `share:0.8`.

    Raises:
        ValueError: it is neither.
    """
    name, colon, number = text.strip().partition(":")
    if name == ANY and not colon:
        return Rule()
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if name != SHARE or not 0 < share <= 1:
        raise ValueError(f"overlap rule {text!r}: expected 'any' or 'share:S' with S above 0, at most 1")
    return Rule(share)


@dataclass(frozen=True)
class ItemOverlaps:
    """Items that an overlap and a run share, by ascending id: n-grams [N], those seen [N]; of answers and across, too.

    `only_run`, `only_overlap`: items that one of them alone has.
    """

    name: str
    ids: Ids
    keys: tuple[str, ...]
    n_ngrams: Ids
    n_seen: Ids
    answer_ngrams: Ids
    answer_seen: Ids
    only_run: int
    only_overlap: int

    def among(self, ids: Ids) -> ItemOverlaps:
        """Those of a set of items; `only_run` counts the rest of the set."""
        chosen = np.isin(self.ids, ids)
        keys = tuple(key for key, is_in in zip(self.keys, chosen.tolist(), strict=True) if is_in)
        lacking = int(ids.size - chosen.sum())
        return ItemOverlaps(
            self.name, self.ids[chosen], keys, self.n_ngrams[chosen], self.n_seen[chosen],
            self.answer_ngrams[chosen], self.answer_seen[chosen], lacking, self.only_overlap,
        )  # fmt: skip


@dataclass(frozen=True)
class Match:
    """How well an overlap fits a run: items of it, those that the run has by id, and of these by file and record."""

    name: str
    n_items: int
    n_shared: int
    n_same_record: int

    @property
    def is_of_the_same_file(self) -> bool:
        """Ids alone may agree by accident: many benchmarks number their items."""
        return 2 * self.n_same_record > self.n_shared > 0


def matches(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Match]:
    """Every overlap of the lake, by name, and what it shares with a run."""
    rows = connection.execute(
        """
        select o.overlap, count(*), count(d.doc_id), count(*) filter (d.source = o.source and d.row = o.row)
        from overlap_items o
        left join (select doc_id, source, row from documents where run_id = $run_id) d on d.doc_id = o.item_id
        where o.part = 'all'
        group by o.overlap
        order by o.overlap
        """,
        {"run_id": run_id},
    )
    return [Match(check_overlap(name), *counts) for name, *counts in rows.fetchall()]


def read_items(connection: duckdb.DuckDBPyConnection, run_id: str, overlap: str) -> ItemOverlaps:
    """What an overlap says of a run's items."""
    bound = {"run_id": run_id, "overlap": overlap}
    rows = connection.sql(
        """
        select
          d.doc_id,
          any_value(d.key) as key,
          coalesce(sum(o.n_ngrams) filter (o.part = 'all'), 0)::bigint as n_ngrams,
          coalesce(sum(o.n_seen) filter (o.part = 'all'), 0)::bigint as n_seen,
          coalesce(sum(o.n_ngrams) filter (o.part in ('answer', 'across')), 0)::bigint as answer_ngrams,
          coalesce(sum(o.n_seen) filter (o.part in ('answer', 'across')), 0)::bigint as answer_seen
        from overlap_items o
        join documents d on d.doc_id = o.item_id and d.run_id = $run_id
        where o.overlap = $overlap
        group by d.doc_id
        order by d.doc_id
        """,
        params=bound,
    ).to_arrow_table()
    counted = connection.execute(
        """
        select
          (select count(*) from documents where run_id = $run_id),
          (select count(distinct item_id) from overlap_items where overlap = $overlap)
        """,
        bound,
    )
    ((n_run, n_overlap),) = counted.fetchall()
    n_ngrams, n_seen, answer_ngrams, answer_seen = (
        rows[name].to_numpy() for name in ("n_ngrams", "n_seen", "answer_ngrams", "answer_seen")
    )
    ids, keys, shared = rows["doc_id"].to_numpy(), tuple(rows["key"].to_pylist()), rows.num_rows
    rest = n_run - shared, n_overlap - shared
    return ItemOverlaps(overlap, ids, keys, n_ngrams, n_seen, answer_ngrams, answer_seen, *rest)


def read_matches(connection: duckdb.DuckDBPyConnection, overlap: str, keys: Iterable[str]) -> dict[str, str]:
    """The longest match of each of a few items, as a corpus has it: at most `SHOWN` characters. None for an item whose
    n-grams the corpus holds so often that no places are kept."""
    by_id = {doc_id(key): key for key in keys}
    rows = connection.execute(
        """
        select item_id, left(arg_max(text, (n_words, -doc_id, -byte_start)), $shown)
        from overlap_spans
        where overlap = $overlap and list_contains($ids::bigint[], item_id)
        group by item_id
        """,
        {"overlap": overlap, "ids": list(by_id), "shown": SHOWN},
    )
    return {by_id[item]: text for item, text in rows.fetchall()}


def overlap_evidence(
    benchmark: str, items: ItemOverlaps, rule: Rule, max_overlap: float, made: str = ""
) -> list[Evidence]:
    """A row a rule, the one asked for first; and one for answers where the overlap has them.

    Args:
        max_overlap: share of the items that may overlap by `rule`; more is contaminated.
        made: of which n-grams the overlap is, for who reads it.
    """
    judged = items.n_ngrams > 0
    share = np.divide(items.n_seen, items.n_ngrams, out=np.zeros(len(items.ids)), where=judged)
    hits = {
        Rule(): items.n_seen > 0,
        Rule(rule.share or DEFAULT_SHARE): judged & (share >= (rule.share or DEFAULT_SHARE)),
    }
    about = _about(items, int((~judged).sum())) + (f", {made}" if made else "")
    rows = [
        _row(benchmark, items, each.said, hits[each], judged, about, max_overlap if each == rule else None)
        for each in sorted(hits, key=lambda each: each != rule)
    ]
    with_answers = items.answer_ngrams > 0
    if with_answers.any():
        said = "answers or across, any n-gram"
        rows.append(_row(benchmark, items, said, items.answer_seen > 0, with_answers, "", None))
    return rows


def _row(
    benchmark: str,
    items: ItemOverlaps,
    rule: str,
    hits: npt.NDArray[np.bool_],
    judged: npt.NDArray[np.bool_],
    about: str,
    limit: float | None,
) -> Evidence:
    n, n_hits = int(judged.sum()), int((hits & judged).sum())
    over = None if limit is None or not n else n_hits > limit * n
    worst = sorted(np.flatnonzero(hits & judged).tolist(), key=lambda i: (-items.n_seen[i], i))[:EXAMPLES]
    return Evidence(
        benchmark, OVERLAP, f"{items.name}: {rule}", n,
        estimate=n_hits / n if n else None,
        unit="share of items",
        interval=share_interval(n_hits, n) if n else None,
        method=SHARE_METHOD,
        exceeds=over,
        doubt="" if n or limit is None else "no item is as long as an n-gram",
        detail=f"{n_hits:,} of {n:,} items{about}",
        examples=tuple(items.keys[i] for i in worst),
    )  # fmt: skip


def _about(items: ItemOverlaps, n_short: int) -> str:
    counts = (
        (n_short, "shorter than an n-gram"),
        (items.only_run, "not in the overlap"),
        (items.only_overlap, "in the overlap alone"),
    )
    said = [f"{count:,} {what}" for count, what in counts if count]
    return f" ({', '.join(said)})" if said else ""
