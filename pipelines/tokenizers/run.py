"""Profiles tokenizers over a corpus and keeps the result: no model, no GPU.

    job -> listing -> units -> counts by unit, each once (`tally`) -> statistics -> a result `tokenizer_statistics`

Nothing is written before all is counted: a command that was stopped begins anew, and the lake keeps what it had. Memory
is bounded by tokenizers, domains and vocabularies (operators/tokenizer_statistics/counts.py), not by documents.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from operators.tokenizer_statistics.parallel import premium_rows
from operators.tokenizer_statistics.rows import StatisticsOptions, statistic_rows
from pipelines.catalog import publish_result
from pipelines.config import ConfigError
from pipelines.plan import package_versions
from pipelines.score import RunError
from pipelines.tally import Corpus, Rejected, surveying, tally
from pipelines.tokenizers.job import TokenizersPlan
from pipelines.tokenizers.parallel import Aligner, Paired
from pipelines.tokenizers.profile import Profiled, ProfileWork, Sizes, load_profiler
from schemas.results import PROFILE
from schemas.tokenizer_statistics import TOKENIZER_STATISTICS

_SCRATCH = f"{TOKENIZER_STATISTICS.name}/progress"
_TOO_MANY = "TooManyDomainsError"


@dataclass(frozen=True)
class Profile:
    """`rows`: of `TOKENIZER_STATISTICS` without its partition. `pair_documents`: by tokenizer, how many documents its
    conditional entropies are of. `paired`: where there is parallel text."""

    rows: pa.Table
    sizes: Sizes
    rejected: Rejected
    pair_documents: dict[str, int]
    baseline: str | None
    paired: Paired | None

    @property
    def documents(self) -> int:
        return sum(self.sizes.documents.values())

    @property
    def n_bytes(self) -> int:
        return sum(self.sizes.n_bytes.values())

    def facts(self) -> dict[str, Any]:
        """What is kept beside the statistics."""
        return {
            "documents": self.documents,
            "bytes": self.n_bytes,
            "baseline": self.baseline,
            "pair_documents": self.pair_documents,
            "rejects": {reason: n for reason, (n, _) in self.rejected.reasons.items()},
            "parallel": None if self.paired is None else self.paired.facts(),
            "versions": package_versions(),
        }


def profile_tokenizers(plan: TokenizersPlan) -> Profile:
    """Count, keep the result and return it.

    Raises:
        ConfigError: the baseline is no domain of the corpus, or there are too many domains.
        RunError: a worker failed, or nothing at all could be counted; nothing is written then.
    """
    job = plan.job
    profiler = load_profiler(job.tokenizers, job.options)
    with contextlib.ExitStack() as stack:
        aligner = None
        if job.parallel_column is not None:
            aligner = stack.enter_context(Aligner([each.name for each in job.tokenizers], job.options.groups))
        profiled = Profiled(profiler.none(), aligner)
        rejected = _count(plan, profiled)
        if not profiled.sizes.documents:
            raise RunError(f"no document was counted; {rejected.said or 'the input holds no record'}")
        baseline = _baseline(plan, profiled.sizes)
        paired = None if aligner is None or baseline is None else aligner.paired(baseline)
    profile = _statistics(plan, profiled, rejected, baseline, paired)
    _keep(plan, profile)
    return profile


def _count(plan: TokenizersPlan, profiled: Profiled) -> Rejected:
    job = plan.job
    work = ProfileWork(job.tokenizers, job.options, job.parallel_column)
    corpus = Corpus(job.name, plan.listing, job.read_options(), plan.lake, _SCRATCH)
    try:
        with surveying(job.reading.engine, job.reading.address) as surveyor:
            return tally(corpus, work, profiled.add, surveyor, "profiling")
    except RunError as error:
        if _TOO_MANY in str(error):  # an engine may hand on its text alone
            said = str(error).partition(f"{_TOO_MANY}: ")[2]
            raise ConfigError(f"--domain-column {job.reading.domain_column}: {said}") from error
        raise


def _baseline(plan: TokenizersPlan, sizes: Sizes) -> str | None:
    """The domain that premiums are against; None where there are no two domains."""
    asked, known = plan.job.baseline, sorted(d for d in sizes.documents if d is not None)
    if asked is not None and asked not in known:
        shown = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
        raise ConfigError(
            f"--baseline: no document is of {asked!r}; domains are {shown or 'missing from every record'}"
        )
    return asked if asked is not None else sizes.largest if len(known) > 1 else None


def _statistics(
    plan: TokenizersPlan, profiled: Profiled, rejected: Rejected, baseline: str | None, paired: Paired | None
) -> Profile:
    job, counts = plan.job, profiled.counts
    probes = load_profiler(job.tokenizers, job.options).probes
    tables = [statistic_rows(counts, probes, StatisticsOptions(job.confidence, baseline))]
    if paired is not None and baseline is not None:
        tables.append(premium_rows(paired.aligned, probes, baseline, job.confidence))
    rows = pa.concat_tables(tables)
    prints = pa.array([plan.fingerprints[name] for name in rows["tokenizer"].to_pylist()], pa.string())
    rows = rows.set_column(rows.column_names.index("tokenizer_fingerprint"), "tokenizer_fingerprint", prints)
    pairs = {probe.name: counts.pair_documents(p) for p, probe in enumerate(probes)}
    return Profile(rows, profiled.sizes, rejected, pairs, baseline, paired)


def _keep(plan: TokenizersPlan, profile: Profile) -> None:
    job = plan.job
    tables = {TOKENIZER_STATISTICS.name: profile.rows}
    publish_result(plan.lake, PROFILE, job.name, tables, settings=job.settings(), facts=profile.facts())
