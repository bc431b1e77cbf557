"""What `assay evaluate` is asked, and what of it cannot be done: said before the work, with what to do instead."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from operators.evaluation import FPR_LEVELS
from operators.evaluation.documents import LABEL, Documents
from operators.score_cards import load_scores
from operators.scores.variants import did_you_mean
from pipelines.config import ConfigError


@dataclass(frozen=True)
class EvaluateOptions:
    """What is to be evaluated, as the flags of `assay evaluate` say it.

    `draws`: None takes 2,000, fewer over 20,000 documents, and none over 200,000, where DeLong's intervals and the
    bootstrap's are the same to three digits. `fdr` (None: 0.1) and `smooth`, random places among equals in conformal
    p-values, are of a selection.
    """

    lake: str
    run_id: str
    families: Sequence[str] = ()
    scores: Sequence[str] = ()
    references: Sequence[str] = ()
    label: str = LABEL
    cluster: str | None = None
    baseline: str | None = None
    levels: Sequence[float] = FPR_LEVELS
    draws: int | None = None
    seed: int = 0
    held_out: bool = False
    fdr: float | None = None
    smooth: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)


def parse_levels(text: str) -> tuple[float, ...]:
    """The rates of `--fpr`, ascending.

    Raises:
        ConfigError: one is not a number.
    """
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise ConfigError(f"--fpr {text!r}: expected numbers with commas, such as 0.001,0.01,0.05") from None


def check_request(options: EvaluateOptions, output: Path | None, figure: Path | None) -> None:
    """Refuse at once what would fail after the work is done.

    Raises:
        ConfigError: it says all that is wrong.
    """
    files = [path for path in (output, figure) if path is not None]
    faults = [f"--fpr {level:g}: expected a share above 0 and below 1" for level in options.levels if not 0 < level < 1]
    faults += ["--fpr: name at least one level"] * (not options.levels)
    faults += [
        f"no folder {str(path.parent)!r} to write {path.name!r} to" for path in files if not path.parent.is_dir()
    ]
    if options.fdr is not None and not 0 < options.fdr < 1:
        faults.append(f"--fdr {options.fdr:g}: expected a share above 0 and below 1")
    if figure is not None and figure.suffix.lower() not in (".svg", ".png"):
        faults.append(f"--figure {figure}: expected a name that ends in .svg or .png")
    if options.held_out and (ignored := _of_labels(options)):
        faults.append(f"{', '.join(ignored)}: beside --held-out nothing is compared with labels; leave out")
    if figure is not None and options.held_out:
        faults.append("--figure draws ROC curves, which need both labels; --held-out has one")
    if faults:
        raise ConfigError("; ".join(faults))


def _of_labels(options: EvaluateOptions) -> list[str]:
    """The flags given that only an evaluation against labels reads."""
    given = {
        "--baseline": options.baseline is not None,
        "--draws": options.draws is not None,
        "--fpr": tuple(options.levels) != FPR_LEVELS,
    }
    return [flag for flag, is_given in given.items() if is_given]


def check_clusters(options: EvaluateOptions, known: Documents) -> None:
    """Refuse one cluster of a class: nothing is left that could vary.

    Raises:
        ConfigError: it says which class.
    """
    if known.clusters is None:
        return
    alone = [label for label in (1, 0) if known.n_clusters(label) < 2]
    if alone:
        of_each = "all documents" if np.unique(known.clusters).size == 1 else "the documents of each label"
        found = of_each if len(alone) == 2 else f"all documents of label {alone[0]}"
        raise ConfigError(
            f"--cluster {options.cluster}: {found} come from one {options.cluster}: name a kept column "
            "(--keep-columns) that says which documents belong together, or leave --cluster out"
        )


def check_baseline(options: EvaluateOptions, names: Collection[str]) -> None:
    """Refuse a baseline that is not evaluated.

    Raises:
        ConfigError: with the name that may be meant, or the flag that adds it.
    """
    name = options.baseline
    if name is None or name in names:
        return
    scores = [card.name for card in load_scores().values() if card.is_per_document]
    if name.partition("(")[0] in scores:
        raise ConfigError(f"--baseline {name} is not among the scores evaluated: add --score {shlex.quote(name)}")
    hint = did_you_mean(name, {*names, *scores}) or f"; evaluated are {', '.join(names)}"
    raise ConfigError(f"--baseline: no score {name!r} to compare with{hint}")


def no_classes(options: EvaluateOptions, documents: Documents) -> str:
    """What the labels lack, and how to give it."""
    how = "or say where they are: --label \"domain = 'train'\""
    if not documents.count(0) and not documents.count(1):
        need = f"Score it with --label-column COLUMN (1 member, 0 held out), {how}"
        return f"run {options.run_id!r} has no labelled documents: nothing to compare its scores with. {need}"
    lacking = 0 if not documents.count(0) else 1
    return f"{counted(documents)}: documents of label {lacking} are needed. Give them that label, {how}"


def counted(documents: Documents) -> str:
    """How many documents there are of each label, in words."""
    n_unlabelled = int(np.isnan(documents.labels).sum())
    return f"{documents.count(1)} documents of label 1, {documents.count(0)} of label 0, {n_unlabelled} without"
