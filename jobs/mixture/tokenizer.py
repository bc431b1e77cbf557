"""`assay mixture tokenizer`: flags -> job -> plan -> inference -> tables of the lake, figure and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.score import unescaped
from pipelines.config import ConfigError
from pipelines.logs import configure_logs
from pipelines.mixture.job import TokenizerMixtureJob

if TYPE_CHECKING:
    from pipelines.mixture.run import Inferred

_NUMBERS = ("max_merges", "resamples", "confidence", "seed")


def run_tokenizer(
    flags: dict[str, Any], *, figure: Path | None, fmt: str | None, output: Path | None, dry_run: bool = False
) -> None:
    """Run the verb; see `assay mixture tokenizer --help` for the flags.

    Raises:
        ConfigError, ResultError, InputError: what is wrong with the job.
        RunError, OSError: it failed on the way; nothing is kept then.
    """
    from jobs.figures import check_figure
    from jobs.mixture.tokenizer_report import show, show_figure, show_plan, warn_of_rejects
    from jobs.output import choose_format
    from pipelines.mixture.plan import plan_tokenizer_mixture
    from pipelines.mixture.run import infer_tokenizer_mixture

    configure_logs()
    chosen = choose_format(fmt, output)
    check_figure(figure)
    plan = plan_tokenizer_mixture(tokenizer_job(flags))
    if dry_run:
        show_plan(plan, output)
        return
    found = infer_tokenizer_mixture(plan)
    for name, sample in found.samples.items():
        warn_of_rejects(name, sample.rejected)
    keep(found)
    if figure is not None:
        show_figure(found, figure)
    show(found, chosen, output)


def tokenizer_job(flags: dict[str, Any]) -> TokenizerMixtureJob:
    """The job that flags of the command line ask for.

    Raises:
        ConfigError: one line a fault.
    """
    fields = dict(flags)
    if "text_template" in fields:
        fields["text_template"] = unescaped(fields["text_template"])
    if "corpora_format" in fields:
        fields["format"] = fields.pop("corpora_format")
    numbers = {name: fields.pop(name) for name in _NUMBERS if name in fields}
    try:
        return TokenizerMixtureJob.parse(numbers=numbers, **fields)
    except ConfigError as error:
        # `--format` is this verb's flag for its report.
        raise ConfigError(str(error).replace("--format:", "--corpora-format:")) from None


def keep(found: Inferred) -> str:
    """Write the tables and make the catalog anew; returns the first table's path in the lake.

    Raises:
        OSError: the storage failed.
    """
    from jobs.mixture.tokenizer_rows import facts, tables
    from pipelines.catalog import publish_result
    from pipelines.plan import package_versions
    from schemas.results import MIXTURE

    job, lake = found.plan.job, found.plan.lake
    settings = {**job.public(), "versions": package_versions()}
    return publish_result(lake, MIXTURE, job.name, tables(found), settings=settings, facts=facts(found))
