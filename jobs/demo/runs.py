"""The runs of the demo: the corpus itself, and everything that scores compare it with.

    demo                 corpus, model                          through the engine asked for, resumable
    demo-lowercase       its texts in lower case                assay score --base-run demo --transform lowercase
    demo-swapped-1..     its texts with words swapped           ... --transform perturb:kind=swap_words
    demo-after-0, -1     after a held-out text, after a member  ... --transform prefix:label=0
    demo-reference       another model, which saw neither class
    background           how common tokens are                  assay frequencies

All but the first are scored in this process: they are small, and starting a cluster takes longer than they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from operators.lake import Lake
from pipelines.base_run import inherited
from pipelines.config import ScoreConfig

RUN, REFERENCE, BACKGROUND = "demo", "other", "background"
SWAPS = 3
TRANSFORMS = {
    f"{RUN}-lowercase": "lowercase",
    **{f"{RUN}-swapped-{n}": f"perturb:kind=swap_words,copy={n}" for n in range(1, SWAPS + 1)},
    f"{RUN}-after-0": "prefix:label=0,shots=1",
    f"{RUN}-after-1": "prefix:label=1,shots=1",
}
KEPT = ("source_file", "line", "copies")

Say = Callable[[str], None]


def score_all(corpus: Path, background: Path, model: Path, reference: Path, lake: Path, engine: str, say: Say) -> None:
    """Make every run that is not there yet; runs of another corpus or model are replaced."""
    columns = {"id_column": "id", "label_column": "label", "domain_column": "domain", "keep_columns": KEPT}
    base = {"input": (str(corpus),), "lake": str(lake), **columns}
    groups = ("extremes", "renyi")  # what max_renyi, max_prob_gap and modified_entropy read
    score_run({**base, "model": str(model), "run_id": RUN, "engine": engine, "features": groups}, say)
    for fields in _companions(base, lake, reference):
        score_run(fields, say)
    _count(background, model, lake, say)


def _companions(base: Mapping[str, Any], lake: Path, reference: Path) -> Iterator[dict[str, Any]]:
    yield {**base, "model": str(reference), "run_id": REFERENCE, "engine": "inline"}
    for run_id, transform in TRANSFORMS.items():
        fields = {"lake": str(lake), "run_id": run_id, "base_run": RUN, "transform": transform, "engine": "inline"}
        yield inherited(fields)


def score_run(fields: Mapping[str, Any], say: Say) -> None:
    """Make the run of these fields unless it is there; one of another corpus or model is replaced."""
    from pipelines.plan import make_plan
    from pipelines.previous import ResumeError
    from pipelines.score import score_corpus

    config = ScoreConfig.parse(**fields)
    try:
        plan = make_plan(config)
    except ResumeError:
        say(f"{config.run_id}: corpus or model changed since the last time: scoring anew")
        Lake(config.lake).remove_run(config.run_id)
        plan = make_plan(config)
    if plan.finished:
        say(f"{config.run_id}: scored already")
        return
    ledger = score_corpus(plan)
    totals = ledger["totals"]
    counts = f"{totals['documents']:,} documents, {totals['tokens']:,} tokens in {ledger['seconds']:.0f} s"
    say(f"{config.run_id}: {counts} ({_command(config)})")


def _command(config: ScoreConfig) -> str:
    """The command that does the same, without the columns."""
    if config.transform is None:
        return f"assay score --model {config.model} --input {config.input[0]} --lake {config.lake} ..."
    return f"assay score --base-run {config.base_run} --transform {config.transform} ..."


def _count(background: Path, model: Path, lake: Path, say: Say) -> None:
    from pipelines.frequencies import FrequenciesJob, count_corpus, plan_frequencies

    job = FrequenciesJob.parse(
        lake=str(lake), name=BACKGROUND, input=(str(background),), model=str(model), engine="inline",
        overwrite=BACKGROUND,
    )  # fmt: skip
    counted = count_corpus(plan_frequencies(job)).counts
    say(f"{BACKGROUND}: {counted.tokens:,} tokens counted (assay frequencies --input {background} ...)")
