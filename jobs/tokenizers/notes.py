"""What `assay tokenizers` says beside its numbers: what they cannot show, what was left out, and how much."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.errors import printable
from pipelines.tokenizers.job import TokenizersPlan
from pipelines.tokenizers.run import Profile

_NAME = 22  # characters of a tokenizer or of a domain


def cut(text: str, most: int = _NAME) -> str:
    """One line of at most `most` characters, hostile ones escaped; what is cut out of the middle is `...`."""
    safe = printable(text).replace("\n", "\\n")
    return safe if len(safe) <= most else f"{safe[: most - 10]}...{safe[-7:]}"


def notes(plan: TokenizersPlan, profile: Profile) -> Iterator[str]:
    """What the numbers cannot show, what was left out and how many."""
    job, groups = plan.job, plan.job.options.groups
    for names in plan.same:
        yield f"warning: {', '.join(names)} are one and the same tokenizer"
    yield (
        f"in brackets: {100 * job.confidence:g} % intervals, from leaving out one of {groups} groups of documents at a "
        "time; `assay tokenizers --list` says what each number is, and why some have no interval"
    )
    if job.options.check_share < 1:
        yield f"whether texts survive and are cut alike is checked on {100 * job.options.check_share:g} % of documents"
    for name, n in profile.pair_documents.items():
        if n < profile.documents:
            yield (
                f"{name}: pairs of tokens were kept of {n:,} of {profile.documents:,} documents, drawn by key, for all "
                "would not fit into memory; conditional entropies are of those"
            )
    yield from _baseline_notes(plan, profile)


def _baseline_notes(plan: TokenizersPlan, profile: Profile) -> Iterator[str]:
    job, paired = plan.job, profile.paired
    if profile.baseline is not None and job.baseline is None:
        yield f"premiums are against {cut(profile.baseline)}, the domain of most documents: --baseline names another"
    if profile.baseline is not None and job.parallel_column is None:
        yield (
            "premium_by_bytes compares different texts; where records are translations, --parallel-column names the "
            "column that says of what"
        )
    if job.parallel_column is None:
        return
    if paired is None or not paired.texts:
        yield f"warning: no two domains share a value of {job.parallel_column!r}: there are no premiums on translations"
        return
    if paired.ambiguous:
        yield (
            f"warning: {paired.ambiguous:,} values of {job.parallel_column!r} stand for more than one text of a domain "
            "and were not paired"
        )
    if paired.unpaired:
        partner = cut(paired.baseline)
        yield f"{paired.unpaired:,} texts have no partner in {partner} and are in no premium on translations"
