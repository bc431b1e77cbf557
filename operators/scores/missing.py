"""What a run lacks for a score, in words, and the command that makes it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from operators.score_cards import Companion, Score
from operators.scores.companions import Neighbourhood, Run
from operators.transform import parse_transform
from schemas import FEATURE_GROUPS
from schemas.columns import COMMENTS

COPIES = 10  # of a random change, where a score averages over several


@dataclass(frozen=True)
class Missing:
    """A score that a run cannot give. `command` may have `...` where only the user knows what to write."""

    score: str
    family: str
    why: str
    command: str

    def __str__(self) -> str:
        return f"{self.score}: {self.why}. What makes it: {self.command}"


def lacks_groups(card: Score, groups: Sequence[str], run: Run) -> Missing:
    """A score of columns that the run did not keep: the run has to be scored again."""
    features = [group for group in FEATURE_GROUPS if group in groups or group in (run.features or ())]
    flags = [f"--features {','.join(features)}"] * any(group in FEATURE_GROUPS for group in groups)
    if COMMENTS in groups:
        flags += ["--language NAME"]
        flags += ["--prompt-column COLUMN"] * ("in_prompt" in card.reads["tokens"])  # NULL in a run without prompts
    why = (
        f"the run was scored without {' and '.join(groups)}: score it again, under another --run-id or, to replace it, "
        f"with --overwrite {run.run_id}"
    )
    return Missing(card.name, card.family, why, f"assay score ... --run-id NAME {' '.join(flags)}")


def lacks_companion(
    card: Score, companions: Sequence[Companion], labels: Sequence[str], around: Neighbourhood, lake: str
) -> list[Missing]:
    """One for each companion that has no candidate; one for all where they have, but none that fit what is wanted."""
    lacking = [c for c in companions if not around.candidates(c, labels)]
    if lacking:
        return [_lacks(card, companion, around, lake) for companion in lacking]
    known = ["; ".join(each.label for each in choice) for choice in around.choices(companions)]
    if known:
        why = f"there is none for {'; '.join(labels)}, only for {' or '.join(known)}"
    else:
        why = "its transformed runs differ in more than what sets them apart (other shots or seeds)"
    commands = [_lacks(card, companion, around, lake).command for companion in companions]
    return [Missing(card.name, card.family, why, " and ".join(commands))]


def _lacks(card: Score, companion: Companion, around: Neighbourhood, lake: str) -> Missing:
    run, lake = around.run, shlex.quote(lake)
    if companion.kind == "reference":
        command = f"assay scores {lake} --run-id {run.run_id} --reference RUN"
    elif companion.kind == "frequencies":
        model = "MODEL" if run.model is None else shlex.quote(run.model)
        command = f"assay frequencies {lake} --name NAME --input ... --model {model}"
    else:
        return _lacks_transform(card, companion, around, lake)
    return Missing(card.name, card.family, f"it needs {companion.said}", command)


def _lacks_transform(card: Score, companion: Companion, around: Neighbourhood, lake: str) -> Missing:
    unfinished = around.unfinished(companion)
    spec, copies = companion.such_as, f" --copies {COPIES}" if companion.is_list else ""
    why, name = f"it needs {companion.said}", transformed_run_id(around.run.run_id, spec)
    if unfinished is not None and unfinished.transform is not None:
        spec, copies, name = unfinished.transform.canonical, "", unfinished.run_id
        why = f"{why}; run {name} is {unfinished.state}"
    command = (
        f"assay score --transform {shlex.quote(spec)}{copies} --base-run {around.run.run_id} --run-id {name} "
        f"--lake {lake}"
    )
    return Missing(card.name, card.family, why, command)


def transformed_run_id(run_id: str, spec: str) -> str:
    """A name for the run that a hint makes: that of its base run, the transform's, and what sets it apart."""
    transform = parse_transform(spec)
    parts = [transform.name, *(str(value) for _, value in transform.values)]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([run_id, *parts]))[:128]
