"""What `assay mixture tokenizer` keeps: a row of `mixtures` a candidate, a row of `mixture_curves` a solver's round.

What has no column of its own (bounds of identification, misfit, samples, seconds, memory) is in the facts of job.json.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipelines.mixture.run import CandidateSample, Inferred
from schemas.mixtures import MIXTURE_CURVES, MIXTURES

METHOD = "tokenizer"


def tables(found: Inferred) -> dict[str, pa.Table]:
    """By table's name, without the partition's column."""
    return {MIXTURES.name: _mixture(found), MIXTURE_CURVES.name: _curve(found)}


def _mixture(found: Inferred) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "method": METHOD,
                "component": row["corpus"],
                "share": row["share"],
                "share_low": row["share_low"],
                "share_high": row["share_high"],
                "unit": "bytes",
                "estimate": row["pair_share"],
                "estimate_low": row["pair_low"],
                "estimate_high": row["pair_high"],
                "confidence": found.sampled.confidence,
                "n": found.inference.steps,
                "note": row["note"],
            }
            for row in shares(found)
        ],
        schema=MIXTURES.arrow(),
    )


def _curve(found: Inferred) -> pa.Table:
    rows = [
        {"method": METHOD, "step": step, "objective": float(each.objective), "n": int(each.constraints)}
        for step, each in enumerate(found.inference.rounds)
    ]
    return pa.Table.from_pylist(rows, schema=MIXTURE_CURVES.arrow())


def shares(found: Inferred) -> list[dict[str, Any]]:
    """A record a candidate, in the order given: shares of bytes and of pairs with intervals, bounds, sample, note."""
    inference, sampled = found.inference, found.sampled
    rows = []
    for place, name in enumerate(inference.names):
        sample = found.samples[name]
        rows.append(
            {
                "corpus": name,
                "share": _share(inference.byte_share[place]),
                "share_low": _share(sampled.byte_low[place]),
                "share_high": _share(sampled.byte_high[place]),
                "possible_low": _share(inference.identified[place][0]),
                "possible_high": _share(inference.identified[place][1]),
                "pair_share": _share(inference.pair_share[place]),
                "pair_low": _share(sampled.pair_low[place]),
                "pair_high": _share(sampled.pair_high[place]),
                **_counted(sample),
                "note": "; ".join(_notes(found, name)) or None,
            }
        )
    return rows


def has_intervals(found: Inferred) -> bool:
    """Whether every candidate had enough documents to be drawn anew."""
    return all(math.isfinite(value) for value in found.sampled.byte_low)


def _share(value: float) -> float | None:
    """A solver's share may lie outside by a rounding; NULL where there is none."""
    number = float(value)
    return min(1.0, max(0.0, number)) if math.isfinite(number) else None


def _counted(sample: CandidateSample) -> dict[str, int]:
    return {
        "documents": sample.documents,
        "bytes": sample.n_bytes,
        "sampled_bytes": sample.sampled_bytes,
        "sampled_pieces": sample.sampled_pieces,
        "words": sample.words,
        "rare_words_left_out": sample.left_out,
        "rejects": sample.rejected.n,
    }


def _notes(found: Inferred, name: str) -> Iterator[str]:
    """What speaks against a share."""
    alike = sorted({other for pair in found.sampled.alike if name in pair for other in pair if other != name})
    if alike:
        yield f"of one kind with {', '.join(alike)}: trust their sum, not how it is split"
    if name in found.inference.empty:
        yield "the sample holds no pair, so its share is 0 by default"
    if not has_intervals(found):
        yield "no interval: a candidate has too few documents to be drawn anew"
    if found.sampled.is_misfit:
        yield "the candidates do not explain the merges: a training corpus may be missing"


def facts(found: Inferred) -> dict[str, Any]:
    """What was found besides the tables, ready for JSON."""
    inference, sampled, bpe = found.inference, found.sampled, found.plan.bpe
    return {
        "tokenizer": {"merges": bpe.n_merges, "steps": bpe.n_steps},
        "merges_used": inference.steps,
        "merges_unseen": inference.merges_unseen,
        "rounds": len(inference.rounds),
        "constraints": inference.constraints,
        "objective": _finite(inference.objective),
        "misfit": _finite(sampled.misfit),
        "is_misfit": bool(sampled.is_misfit),
        "not_told_apart": [list(pair) for pair in sampled.alike],
        "notes": [*found.plan.warnings, *sampled.notes],
        "seconds": {phase: round(seconds, 3) for phase, seconds in found.seconds.items()},
        "peak_mib": {phase: round(peak) for phase, peak in found.peak_mib.items()},
        "samples": {name: {**_counted(sample), **_rejects(sample)} for name, sample in found.samples.items()},
        "possible": {row["corpus"]: [row["possible_low"], row["possible_high"]] for row in shares(found)},
    }


def _rejects(sample: CandidateSample) -> Mapping[str, Any]:
    return {"rejected": {reason: n for reason, (n, _) in sorted(sample.rejected.reasons.items())}}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
