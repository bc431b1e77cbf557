"""What `assay bench overlap` prints: speed and memory beside what was found, and the same of datatrove."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import xxhash

from jobs.bench.measure import show
from jobs.bench.overlap import peer
from jobs.bench.overlap.corpus import Corpus
from jobs.bench.overlap.items import FOUND, NOT_FOUND
from jobs.bench.overlap.truth import Verdict, documents_by_kind
from jobs.bench.overlap.variants import Variant


def planted(corpus: Corpus) -> dict[str, int]:
    """Planted stretches by kind."""
    kinds = corpus.truth()["kind"].to_pylist()
    return {kind: kinds.count(kind) for kind in (*FOUND, *NOT_FOUND)}


def report(corpus: Corpus, variants: Sequence[Variant], rounds: int) -> dict[str, Any]:
    rows, results = [], {}
    for variant in variants:
        verdict: Verdict = variant.seen
        results[variant.name.removeprefix("assay, ")] = {
            **_speed(variant), "recall": verdict.recall, "precision": verdict.precision, "planted": verdict.n_planted,
            "found": verdict.n_found, "wrong_items": verdict.n_wrong_items, "digest": verdict.digest,
            "wrong_cuts": verdict.n_wrong_cuts, "is_right": verdict.is_right,
        }  # fmt: skip
        counts = f"{verdict.n_right:,} of {verdict.n_planted:,}"
        right = f"{verdict.n_items - verdict.n_wrong_items:,} of {verdict.n_items:,}"
        rows.append([*_cells(variant), counts, f"{verdict.recall:.4f}", f"{verdict.precision:.4f}", right,
                     f"{len(verdict.documents):,}", verdict.digest])  # fmt: skip
    columns = ["whole corpus", "cores", "s", "MB/s", "peak MiB", "planted found", "recall", "precision", "items right",
               "documents", "digest"]  # fmt: skip
    title = (
        f"{corpus.n_bytes / 1e6:,.0f} MB of text in {corpus.n_documents:,} documents, {len(corpus.shards)} shards; "
        f"{corpus.benchmark.n_items:,} items, n = {corpus.benchmark.n}; medians of {rounds}"
    )
    show(title, columns, rows, ("digest",))
    for variant in variants:
        for difference in variant.seen.wrong:
            sys.stdout.write(f"{variant.name}: {difference}\n")
    return results


def report_compared(part: Corpus, variants: Sequence[Variant]) -> dict[str, Any]:
    """Ours and theirs in pairs over the same shards: seconds, ratios, and what each finds, by kind of plant."""
    results: dict[str, Any] = {
        "bytes": part.n_bytes, "shards": len(part.shards), "datatrove": peer.SETTINGS.format(n=part.benchmark.n),
        "assay_is_faster_by": {},
    }  # fmt: skip
    rows = []
    for ours, theirs in zip(variants[::2], variants[1::2], strict=True):
        faster = theirs.timing.ratio(ours.timing)
        rows += [[*_cells(ours), f"{faster:.1f}", f"{len(ours.seen.documents):,}"],
                 [*_cells(theirs), "1.0", f"{len(theirs.seen):,}"]]  # fmt: skip
        results[ours.name] = {**_speed(ours), "is_right": ours.seen.is_right, "digest": ours.seen.digest}
        results[theirs.name] = {**_speed(theirs), "documents": len(theirs.seen), "digest": _digest(theirs.seen)}
        results["assay_is_faster_by"][f"{ours.cores} core{'s' * (ours.cores > 1)}"] = faster
    title = f"The first {len(part.shards)} shards, {part.n_bytes / 1e6:,.1f} MB: with datatrove, whole commands"
    show(title, ["both", "cores", "s", "MB/s", "peak MiB", "x datatrove", "documents"], rows)
    sys.stdout.write(f"datatrove: {peer.SETTINGS.format(n=part.benchmark.n)}\n")
    found = {"assay": variants[0].seen.documents, "datatrove": variants[1].seen.keys()}
    results["documents_by_kind"] = _by_kind(part, found)
    return results


def _by_kind(part: Corpus, found: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """How many documents with one stretch of a kind, and nothing else planted, each tool reports."""
    by_kind = documents_by_kind(part)
    counts = {
        kind: {"documents": len(by_kind[kind]), **{tool: len(by_kind[kind] & keys) for tool, keys in found.items()}}
        for kind in (*FOUND, *NOT_FOUND)
        if kind in by_kind
    }
    ours, theirs = found["assay"], found["datatrove"]
    rows = [[kind, "yes" if kind in FOUND else "no", *map(str, count.values())] for kind, count in counts.items()]
    show("Documents with one planted stretch", ["kind", "to be found", "documents", *found], rows, ("to be found",))
    sys.stdout.write(
        f"documents reported by both: {len(ours & theirs):,}, by assay alone: {len(ours - theirs):,}, "
        f"by datatrove alone: {len(theirs - ours):,}. It reads every number as 0, so that another number is no "
        "change to it, and stops at a document's first n-gram.\n"
    )
    counts["all"] = {"both": len(ours & theirs), "assay": len(ours - theirs), "datatrove": len(theirs - ours)}
    return counts


def _digest(keys: Iterable[str]) -> str:
    """Of the documents that were removed, whatever their order."""
    return xxhash.xxh64_hexdigest("\n".join(sorted(keys)).encode())


def _cells(variant: Variant) -> list[str]:
    return [variant.name, str(variant.cores), f"{variant.timing.median:.1f}", f"{variant.rate:,.1f}",
            f"{max(variant.peaks) / 2**20:,.0f}"]  # fmt: skip


def _speed(variant: Variant) -> dict[str, Any]:
    return {
        "seconds": variant.seconds,
        "median_s": variant.timing.median,
        "mb_per_s": variant.rate,
        "peak_mib": max(variant.peaks) / 2**20,
    }
