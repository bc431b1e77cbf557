"""`assay mixture doremi` and `assay mixture select`: flags and help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.app import (
    Figure,
    Lake,
    OutputFile,
    OverwriteName,
    ResultFormat,
    ResultName,
    StorageOptions,
    errors,
    example,
)
from jobs.cli.mixture.app import mixture

if TYPE_CHECKING:
    from jobs.mixture.reweight_request import ReweightOptions

By = Annotated[str, typer.Option(help="domain, or a column that the run kept.", metavar="COLUMN")]
Confidence = Annotated[float, typer.Option(help="Level of the intervals.", min=0.5, max=0.999)]
Resamples = Annotated[int, typer.Option(help="Bootstrap samples of documents.", min=100, max=10_000)]
Seed = Annotated[int, typer.Option(help="Of the samples.", min=0)]
ReferenceRun = Annotated[
    str, typer.Option(help="Run of the same documents by the reference model, of the same tokenizer.", metavar="RUN_ID")
]


@mixture.command(
    epilog=example(
        "assay mixture doremi lake --proxy small --reference large --name weights",
        "assay mixture doremi lake --proxy step1000 --proxy step2000 --reference large --steps --name game",
    )
)
def doremi(
    lake: Lake,
    proxy: Annotated[
        list[str],
        typer.Option(
            help="Run by the proxy model. Repeatable: one step for each checkpoint, in order.", metavar="RUN_ID"
        ),
    ],
    reference: ReferenceRun,
    name: ResultName,
    eta: Annotated[float, typer.Option(help="Step size.", min=1e-6)] = 1.0,
    smoothing: Annotated[float, typer.Option(help="Part of the weights that is dealt evenly.", min=0, max=1)] = 1e-3,
    start: Annotated[
        str, typer.Option(help="uniform, or a JSON file of weights by domain.", metavar="WEIGHTS.json|uniform")
    ] = "uniform",
    by: By = "domain",
    steps: Annotated[bool, typer.Option("--steps", help="Keep the weights after each step too.")] = False,
    confidence: Confidence = 0.95,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    overwrite: OverwriteName = None,
    figure: Figure = None,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """Which domains to train on more: weights by a proxy's excess loss over a reference, clipped per token (DoReMi)."""
    with errors():
        from jobs.mixture.reweight import DoremiOptions, run_doremi

        resampling = {"resamples": resamples, "confidence": confidence, "seed": seed}
        options = _request(lake, name, overwrite, storage_options, proxy, reference, by, resampling, figure)
        run_doremi(options, DoremiOptions(eta, smoothing, start, steps), format and format.value, output)


@mixture.command(
    epilog=example(
        "assay mixture select lake --current base --reference expert --keep 0.6 --name tokens",
        "assay sql lake \"from mixtures where mixture = 'tokens' order by share desc\"",
    )
)
def select(
    lake: Lake,
    current: Annotated[str, typer.Option(help="Run by the model that is to be trained.", metavar="RUN_ID")],
    reference: ReferenceRun,
    name: ResultName,
    keep: Annotated[float, typer.Option(help="Share of all tokens to select.", min=0.001, max=1)] = 0.6,
    by: By = "domain",
    confidence: Confidence = 0.95,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    overwrite: OverwriteName = None,
    figure: Figure = None,
    format: ResultFormat = None,  # noqa: A002 - the flag's name
    output: OutputFile = None,
    storage_options: StorageOptions = None,
) -> None:
    """Where the tokens worth training on lie: the top share by excess loss over a reference (selective training)."""
    with errors():
        from jobs.mixture.reweight_select import run_select

        resampling = {"resamples": resamples, "confidence": confidence, "seed": seed}
        options = _request(lake, name, overwrite, storage_options, [current], reference, by, resampling, figure)
        run_select(options, keep, format and format.value, output)


def _request(
    lake: str,
    name: str,
    overwrite: str | None,
    storage_options: str | None,
    runs: Sequence[str],
    reference: str,
    by: str,
    resampling: Mapping[str, Any],
    figure: Path | None,
) -> ReweightOptions:
    """What both verbs are asked."""
    from jobs.mixture.reweight_output import Keeping
    from jobs.mixture.reweight_request import ReweightOptions
    from jobs.query import read_options
    from operators.mixtures.reweight_estimates import Resampling

    keeping = Keeping(lake, name, overwrite, read_options(storage_options))
    return ReweightOptions(keeping, runs, reference, by, Resampling(**resampling), figure)
