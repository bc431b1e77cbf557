"""How well scores separate two classes, said honestly: intervals, adjusted tests, matched lengths, conformal selection.

classes -> area, roc, bootstrap, matching -> report; conformal -> multiplicity
"""

from __future__ import annotations

from operators.evaluation.area import Comparison, auroc, auroc_interval, auroc_p_value, compare_auroc
from operators.evaluation.bootstrap import DRAWS, bootstrap_auroc
from operators.evaluation.classes import CONFIDENCE, Floats, Interval, Values
from operators.evaluation.conformal import conformal_p_values
from operators.evaluation.matching import CALIPER, Matched, match_lengths, matched_auroc
from operators.evaluation.matrix import score_matrix
from operators.evaluation.multiplicity import benjamini_hochberg, bh_adjusted, holm_adjusted
from operators.evaluation.report import Against, Evaluation, evaluate
from operators.evaluation.roc import (
    FPR_LEVELS,
    TPR_LEVEL,
    TprAtFpr,
    fpr_at_tpr,
    fpr_at_tpr_interval,
    tpr_at_fpr,
    tpr_at_fpr_interval,
)

__all__ = [
    "CALIPER",
    "CONFIDENCE",
    "DRAWS",
    "FPR_LEVELS",
    "TPR_LEVEL",
    "Against",
    "Comparison",
    "Evaluation",
    "Floats",
    "Interval",
    "Matched",
    "TprAtFpr",
    "Values",
    "auroc",
    "auroc_interval",
    "auroc_p_value",
    "benjamini_hochberg",
    "bh_adjusted",
    "bootstrap_auroc",
    "compare_auroc",
    "conformal_p_values",
    "evaluate",
    "fpr_at_tpr",
    "fpr_at_tpr_interval",
    "holm_adjusted",
    "match_lengths",
    "matched_auroc",
    "score_matrix",
    "tpr_at_fpr",
    "tpr_at_fpr_interval",
]
