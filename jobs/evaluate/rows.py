"""An evaluation as rows for CSV and as one JSON object: every number, missing ones empty or null."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.evaluate.results import Labelled, Selection
from operators.blind import BlindResult
from operators.evaluation import Evaluation, Interval, Matched, TprAtFpr
from operators.evaluation.roc import TPR_LEVEL

SELECTION = pa.schema(
    [
        ("score", pa.string()),
        ("doc_id", pa.int64()),
        ("key", pa.string()),
        ("value", pa.float64()),
        ("p_value", pa.float64()),
        ("p_bh", pa.float64()),
    ]
)


def labelled_rows(result: Labelled) -> pa.Table:
    """A row for each score and each blind baseline; a column that does not apply is NULL."""
    rows = [_score(each, result.matched[each.name]) for each in result.evaluations]
    rows += [_blind(each) for each in result.blind]
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [_known(row.get(name)) for row in rows] for name in names})


def labelled_json(result: Labelled) -> str:
    """One object: what was compared, a member for each score and blind baseline, and what has to be said with it."""
    found = {
        "run_id": result.run_id,
        "label": result.label,
        "cluster": result.cluster,
        "n_positive": result.n_positive,
        "n_negative": result.n_negative,
        "n_unlabelled": result.n_unlabelled,
        "n_clusters": None if result.cluster is None else {"1": result.n_clusters(1), "0": result.n_clusters(0)},
        "length_matched_pairs": result.n_pairs,
        "draws": result.draws,
        "seed": result.seed,
        "scores": [_score(each, result.matched[each.name]) for each in result.evaluations],
        "blind": [_blind(each) for each in result.blind],
        "notes": result.notes(),
        "missing": [{"score": m.score, "why": m.why, "command": m.command} for m in result.missing],
    }
    return json.dumps(_finite(found), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def selection_rows(result: Selection) -> pa.Table:
    """The documents selected, by score and then by p-value, those of the highest values first."""
    tables = []
    for name, selected in result.selected.items():
        places = np.flatnonzero(selected)
        places = places[np.lexsort((-result.values[name][places], result.p_values[name][places]))]
        columns = {
            "score": pa.repeat(pa.scalar(name, pa.string()), places.size),
            "doc_id": result.doc_ids[places],
            "key": [result.keys[doc_id] for doc_id in result.doc_ids[places].tolist()],
            "value": result.values[name][places],
            "p_value": result.p_values[name][places],
            "p_bh": result.adjusted[name][places],
        }
        tables.append(pa.table(columns, schema=SELECTION))
    return pa.concat_tables(tables)


def _score(found: Evaluation, matched: Matched) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": "score",
        "name": found.name,
        "n_positive": found.n_positive,
        "n_negative": found.n_negative,
        "undefined_positive": found.undefined_positive,
        "undefined_negative": found.undefined_negative,
        "auroc": found.auroc,
        **_ends("auroc", found.auroc_interval),
        **_ends("auroc_bootstrap", found.auroc_bootstrap),
        "p_value": found.p_value,
        "p_holm": found.p_holm,
        "p_bh": found.p_bh,
    }
    for point in found.tpr_at_fpr:
        row |= _point(point)
    name = f"fpr_at_tpr_{TPR_LEVEL:g}"
    row |= {name: found.fpr_at_tpr, **_ends(name, found.fpr_at_tpr_interval)}
    row |= {"matched_pairs": matched.n_pairs, "matched_auroc": matched.auroc, **_ends("matched", matched.interval)}
    if found.against is not None:
        pair = found.against.delong
        row |= {
            "baseline": found.against.baseline,
            "common_positive": pair.n_positive,
            "common_negative": pair.n_negative,
            "difference": pair.difference,
            **_ends("difference", pair.interval),
            **_ends("difference_bootstrap", found.against.bootstrap),
            "difference_p_value": pair.p_value,
            "difference_p_holm": found.against.p_holm,
        }
    return row


def _point(point: TprAtFpr) -> dict[str, Any]:
    name = f"tpr_at_fpr_{point.level:g}"
    return {
        name: point.tpr,
        **_ends(name, point.interval),
        f"{name}_achieved": point.fpr,
        f"{name}_threshold": point.threshold,
        f"{name}_resolvable": point.resolvable,
    }


def _blind(found: BlindResult) -> dict[str, Any]:
    return {
        "kind": "blind",
        "name": found.features,
        "n_positive": found.n_positive,
        "n_negative": found.n_negative,
        "auroc": found.auroc,
        **_ends("auroc", found.interval),
        "flagged": found.is_flagged,
    }


def _ends(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}


def _known(value: Any) -> Any:
    """NaN says "not defined" here, as NULL does in a table."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value
