"""Holds the tables of `assay overlap` against what was planted: every match, every item's counts, every document.

    recall      planted stretches that `overlap_spans` has, at their bytes, of all that are to be found
    precision   rows of `overlap_spans` that are such a stretch, of all rows

`overlap_items` must hold the counts that follow from the truth once for each part of each item, those never planted
included; `decontamination` must cut the stretches that are to be found and nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from jobs.bench.overlap.corpus import Corpus, document_id
from jobs.bench.overlap.items import Benchmark
from schemas.overlaps import OVERLAP_TABLES

Span = tuple[str, int, int, int, int, int, int]  # shard, row, first byte, bytes, item, first word, words
Cut = tuple[str, int, int, int]  # the first four of them
_WORST = 5  # differences that are shown


@dataclass(frozen=True)
class Verdict:
    """`documents`: those with a cut. `wrong`: some of what differs, in words. `digest`: of all matches found, the same
    for the same matches."""

    n_planted: int
    n_found: int
    n_right: int
    n_wrong_items: int
    n_items: int
    documents: frozenset[str]
    n_wrong_cuts: int
    digest: str
    wrong: tuple[str, ...]

    @property
    def recall(self) -> float:
        return self.n_right / self.n_planted if self.n_planted else 1.0

    @property
    def precision(self) -> float:
        return self.n_right / self.n_found if self.n_found else 1.0

    @property
    def is_right(self) -> bool:
        return self.recall == self.precision == 1.0 and not self.n_wrong_items and not self.n_wrong_cuts


def check(corpus: Corpus, lake: Path, name: str) -> Verdict:
    """Compare the overlap `name` of a lake with the truth, over the shards that the corpus holds."""
    from operators.identity import doc_id

    ids = {
        corpus.benchmark.key(index): doc_id(corpus.benchmark.key(index)) for index in range(corpus.benchmark.n_items)
    }
    truth = [row for row in truth_rows(corpus) if row["is_found"]]
    planted = Counter(_planted(row, ids) for row in truth)
    found = Counter(_found(read(lake, "overlap_spans", name)))
    items = list(_wrong_items(corpus.benchmark, truth, ids, read(lake, "overlap_items", name)))
    cut, to_cut = Counter(_cuts(read(lake, "decontamination", name))), Counter(span[:4] for span in planted.elements())
    differs = [f"missed {span}" for span in planted - found] + [f"not planted {span}" for span in found - planted]
    digest = xxhash.xxh64_hexdigest("\n".join(map(str, sorted(found.elements()))).encode())
    differs += [message for _, message in items]
    differs += [f"not cut {at}" for at in to_cut - cut] + [f"cut for nothing {at}" for at in cut - to_cut]
    return Verdict(
        n_planted=planted.total(), n_found=found.total(), n_right=(planted & found).total(),
        n_wrong_items=len({key for key, _ in items}), n_items=corpus.benchmark.n_items,
        documents=frozenset(document_id(shard, row) for shard, row, *_ in cut),
        n_wrong_cuts=((to_cut - cut) | (cut - to_cut)).total(), digest=digest,
        wrong=tuple(differs[:_WORST]),
    )  # fmt: skip


def truth_rows(corpus: Corpus) -> list[dict[str, Any]]:
    """The truth over the shards that the corpus holds: those that are compared may be a part of all."""
    shards = {path.name for path in corpus.shards}
    return [row for row in corpus.truth().to_pylist() if row["shard"] in shards]


def read(lake: Path, table: str, name: str) -> pa.Table:
    """A table of an overlap, empty where it has no rows."""
    files = sorted((lake / table / f"overlap={name}").glob("*.parquet"))
    if not files:
        return next(known for known in OVERLAP_TABLES if known.name == table).arrow().empty_table()
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])


def documents_by_kind(corpus: Corpus) -> dict[str, set[str]]:
    """Documents that hold one planted stretch alone, by its kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for row in truth_rows(corpus):
        kinds[document_id(row["shard"], row["row"])].append(row["kind"])
    by_kind: dict[str, set[str]] = defaultdict(set)
    for key, found in kinds.items():
        if len(found) == 1:
            by_kind[found[0]].add(key)
    return dict(by_kind)


def _planted(row: Mapping[str, Any], ids: Mapping[str, int]) -> Span:
    return (row["shard"], row["row"], row["byte_start"], row["n_bytes"], ids[row["item"]], row["item_word"],
            row["n_words"])  # fmt: skip


def _found(spans: pa.Table) -> Iterator[Span]:
    names = ("source", "row", "byte_start", "n_bytes", "item_id", "item_word", "n_words")
    for source, *numbers in zip(*(spans[name].to_pylist() for name in names), strict=True):
        yield (PurePosixPath(source).name, *numbers)


def _cuts(cuts: pa.Table) -> Iterator[Cut]:
    columns = (cuts[name].to_pylist() for name in ("source", "row", "byte_start", "n_bytes"))
    for source, row, start, n_bytes in zip(*columns, strict=True):
        yield PurePosixPath(source).name, row, start, n_bytes


def _wrong_items(
    benchmark: Benchmark, truth: list[dict[str, Any]], ids: Mapping[str, int], items: pa.Table
) -> Iterator[tuple[str, str]]:
    """Every part of an item whose counts are not those that follow from the truth: the item, and what differs."""
    planted: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in truth:
        planted[row["item_index"]].append(row)
    names = ("item_id", "part", "n_ngrams", "n_seen", "share_seen", "longest_match", "n_documents")
    found: dict[tuple[int, str], list[tuple[Any, ...]]] = defaultdict(list)
    for item_id, part, *counts in zip(*(items[name].to_pylist() for name in names), strict=True):
        found[item_id, part].append(tuple(counts))
    for index in range(benchmark.n_items):
        key = benchmark.key(index)
        for part, wanted in _expected(benchmark, index, planted[index]).items():
            stored = found.pop((ids[key], part), [])
            if [counts if part == "all" else counts[:3] for counts in stored] != [wanted]:
                yield key, f"{key}, {part}: {stored}, not {wanted}"
    yield from ((str(item_id), f"item {item_id}, {part}: in no benchmark") for item_id, part in found)


def _expected(benchmark: Benchmark, index: int, planted: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """(n-grams, seen, share) by part; of the item as a whole also its longest match and the documents with one."""
    n, n_input = benchmark.n, int(benchmark.n_input[index])
    seen = {gram for row in planted for gram in range(row["item_word"], row["item_word"] + row["n_words"] - n + 1)}
    parts = Counter("input" if g + n <= n_input else "answer" if g >= n_input else "across" for g in seen)
    parts["all"] = len(seen)
    grams = benchmark.n_grams(index)
    counts = {part: (grams[part], parts[part], parts[part] / grams[part] if grams[part] else None) for part in grams}
    longest = max((row["n_words"] for row in planted), default=0)
    return {**counts, "all": (*counts["all"], longest, len({(row["shard"], row["row"]) for row in planted}))}
