"""What `assay tokenizers` says beside its numbers: what they cannot show, what was left out, and how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.errors import printable
from operators.tokenizer_statistics.jackknife import MIN_GROUPS
from operators.tokenizer_statistics.registry import STATISTICS
from pipelines.tokenizers.job import TokenizersPlan
from pipelines.tokenizers.run import Profile

FEW_DOCUMENTS = 200  # behind an interval
MOST_UNKNOWN = 0.1  # share of the tokens; with more, lengths are not comparable
_NAME = 22  # characters of a tokenizer or of a domain
_SHOWN = 5  # domains

Row = Mapping[str, Any]


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
    rows = profile.rows.to_pylist()
    if any(row["value_low"] is not None and row["n"] < FEW_DOCUMENTS for row in rows):
        yield (
            f"intervals of fewer than {FEW_DOCUMENTS} documents cover less often than they say, most of all of how "
            "numbers are split: 88 % instead of 95 in simulations of 40 documents"
        )
    if n_sure := sum(map(_agrees, rows)):
        yield (
            f"{n_sure:,} values have no interval: all groups of documents give the same, as a share of 0 or 1, or "
            f"fewer than {MIN_GROUPS} groups hold documents; that is no proof that other documents would give it, too"
        )
    for name, n in profile.pair_documents.items():
        if n < profile.documents:
            yield (
                f"{name}: pairs of tokens were kept of {n:,} of {profile.documents:,} documents, drawn by key, for all "
                "would not fit into memory; conditional entropies are of those"
            )
    yield from _unknown_notes(rows)
    yield from _baseline_notes(plan, profile)


def _agrees(row: Row) -> bool:
    """Whether a value that should have an interval has none."""
    return row["value"] is not None and row["value_low"] is None and STATISTICS[row["statistic"]].interval


def _unknown_notes(rows: Sequence[Row]) -> Iterator[str]:
    """Domains that a tokenizer cannot write; Petrov et al. leave out languages of so many unknown tokens."""
    unknown: dict[str, list[str]] = {}
    for row in rows:
        if row["part"] == "domain" and row["statistic"] == "unknown_tokens" and (row["value"] or 0) > MOST_UNKNOWN:
            unknown.setdefault(row["tokenizer"], []).append("(no domain)" if row["domain"] is None else row["domain"])
    for tokenizer, domains in unknown.items():
        more = f" and {len(domains) - _SHOWN:,} more" if len(domains) > _SHOWN else ""
        yield (
            f"warning: {cut(tokenizer)}: more than {100 * MOST_UNKNOWN:g} % of the tokens are unknown ones in "
            f"{', '.join(map(cut, domains[:_SHOWN]))}{more}: its lengths and premiums there say little"
        )


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
