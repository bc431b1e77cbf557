"""What domain fit must be read with: unfinished runs, first tokens, intervals that are missing, runs that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.fits import ALL, DOMAIN, MACRO

if TYPE_CHECKING:
    import duckdb

NO_DOMAIN = "(no domain)"
_NAMED = 3  # domains that a note names

# What two runs must agree in for their numbers to be of the same thing.
_SETTINGS = ("context", "stride", "bos_prepended", "special_tokens", "transform", "prompt_column")

_FACTS = """
select model, tokenizer_fingerprint, state, context, stride, bos_prepended, special_tokens, transform
from runs where run_id = $run_id
"""

# The texts, whatever their ids: documents with a scored token, for only those are in the numbers. A sum does not mind
# the order, and two of one text do not cancel.
_TEXTS = """
select domain, count(*) as n, sum(hash(text_sha256)::hugeint)::varchar as digest
from documents
where run_id = $run_id and n_scored > 0
group by domain
"""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run besides its numbers. `texts`: by domain, how many texts and a digest of them."""

    run_id: str
    model: str | None
    tokenizer: str | None
    state: str
    limit: int | None
    settings: Mapping[str, Any]
    texts: Mapping[str | None, tuple[int, str]]


def run_facts(connection: duckdb.DuckDBPyConnection, run_id: str, ledger: Mapping[str, Any]) -> RunFacts:
    """What the ledger says, and which texts the run holds."""
    run = {"run_id": run_id}
    ((model, tokenizer, state, *settings),) = connection.execute(_FACTS, run).fetchall()
    config = ledger.get("config")
    known: Mapping[str, Any] = config if isinstance(config, dict) else {}
    texts = {domain: (n, digest) for domain, n, digest in connection.execute(_TEXTS, run).fetchall()}
    named = dict(zip(_SETTINGS, (*settings, known.get("prompt_column")), strict=True))
    return RunFacts(run_id, model, tokenizer, state, known.get("limit"), named, texts)


def domain_name(domain: str | None) -> str:
    """How a domain is called in a report: no two alike, and none by nothing."""
    if domain is None:
        return NO_DOMAIN
    return repr(domain) if domain in ("", NO_DOMAIN) else domain


def short(name: str, most: int = 40) -> str:
    """A name of at most `most` characters, its middle left out: names often differ at the end."""
    tail = most // 3
    return name if len(name) <= most else f"{name[: most - tail - 3]}...{name[-tail:]}"


def about_runs(runs: Sequence[tuple[RunFacts, pa.Table]]) -> Iterator[str]:
    """What the numbers of the runs must be read with: each starts with `warning` or `note`."""
    said: dict[tuple[str, str], list[str]] = {}  # what is true of several runs is said once
    for facts, rows in runs:
        listed = rows.to_pylist()
        for about in (*_about_run(facts), *_about_rows(listed), *_about_first_tokens(facts, listed)):
            said.setdefault(about, []).append(facts.run_id)
    for (kind, text), names in said.items():
        yield f"{kind}: run{'s' * (len(names) > 1)} {', '.join(names)}: {text}"
    first, *others = (facts for facts, _ in runs)
    for other in others:
        yield from _other_texts(first, other)
        yield from _other_settings(first, other)
    if len({facts.tokenizer for facts, _ in runs}) > 1:
        yield "note: the runs have several tokenizers: bits per byte compare, perplexities and token shares do not"


def _about_run(facts: RunFacts) -> Iterator[tuple[str, str]]:
    if facts.state != "finished":
        yield "warning", f"{facts.state}, so only what is scored so far is in these numbers"
    if facts.limit is not None:
        yield "note", f"only the first {facts.limit:,} records of the corpus were read (--limit)"
    if facts.settings["prompt_column"] is not None:
        yield "note", "the tokens of prompts are in these numbers too"
    if facts.settings["transform"] is not None:
        yield "note", f"the texts were changed before they were scored ({facts.settings['transform']})"


def _about_first_tokens(facts: RunFacts, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """After a text that is not in the numbers, as of a transform, first tokens have a prediction."""
    (every,) = (row for row in rows if row["part"] == ALL)
    if not facts.settings["bos_prepended"] and every["n_tokens"] < every["n_fed"]:
        yield (
            "note",
            "no prefix token was fed, so the first token of a document has no prediction while its bytes count; "
            "bits_per_byte_extrapolated makes up for that",
        )


def _about_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    domains = [row for row in rows if row["part"] == DOMAIN]
    every, macro = (next(row for row in rows if row["part"] == part) for part in (ALL, MACRO))
    undefined = sum(row["n_undefined"] for row in domains)
    if undefined:
        yield (
            "note",
            f"{undefined:,} document{'s' * (undefined != 1)} without a scored token: in no number but n_documents and "
            "n_undefined",
        )
    left_out = _scored(every) - _scored(macro)
    if left_out:
        yield (
            "note",
            f"the macro mean leaves out the domains of {left_out:,} document{'s' * (left_out != 1)}: too small "
            "(--min-documents), or of no bytes",
        )
    if not macro["n_resamples"]:
        yield "note", "no intervals of domains, as --resamples 0 asks"
        return
    bare = [row for row in domains if row["bits_per_byte"] is not None and row["bits_per_byte_low"] is None]
    if bare:
        yield "note", f"{_names(bare)}: too few documents for an interval"
    if macro["bits_per_byte"] is not None and macro["bits_per_byte_low"] is None:
        yield "note", "the macro mean has no interval while one of its domains has none (--min-documents)"


def _scored(row: Mapping[str, Any]) -> int:
    """Documents with a scored token."""
    count: int = row["n_documents"] - row["n_undefined"]
    return count


def _other_texts(first: RunFacts, other: RunFacts) -> Iterator[str]:
    names = sorted(first.texts.keys() | other.texts.keys(), key=lambda name: (name is None, name or ""))
    apart = [name for name in names if first.texts.get(name) != other.texts.get(name)]
    if apart:
        yield (
            f"warning: runs {first.run_id} and {other.run_id} do not hold the same texts of "
            f"{_names([{'domain': name} for name in apart])}: there their numbers do not compare"
        )


def _other_settings(first: RunFacts, other: RunFacts) -> Iterator[str]:
    apart = [name for name in _SETTINGS if first.settings[name] != other.settings[name]]
    said = ", ".join(f"{name} {first.settings[name]} and {other.settings[name]}" for name in apart)
    if apart:
        yield (
            f"warning: runs {first.run_id} and {other.run_id} differ in {said}: part of the difference of their "
            "numbers is that"
        )


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    named = ", ".join(short(NO_DOMAIN if row["domain"] is None else repr(row["domain"])) for row in rows[:_NAMED])
    return f"domain{'s' * (len(rows) != 1)} {named}{f' and {len(rows) - _NAMED} more' * (len(rows) > _NAMED)}"
