"""What `assay mixture weights` is asked, and what of it cannot be done: said before the work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from pipelines.config import ConfigError

DOCUMENT, TOKEN = "document", "token"
MAX_COMPONENTS = 64
FEW_DOCUMENTS = {DOCUMENT: 20, TOKEN: 100}  # by grain: below, intervals cover less than their level

_ABOUT = (
    "state", "transform", "context", "stride", "bos_prepended", "special_tokens", "precision",
    "tokenizer_fingerprint",
)  # fmt: skip
_ALIKE = ("context", "stride", "special_tokens")


@dataclass(frozen=True)
class Component:
    """A reference model: the name of its domain, and its run over the documents."""

    name: str
    run_id: str


@dataclass(frozen=True)
class WeightsOptions:
    """What is to be fitted, as the flags of `assay mixture weights` say it.

    `where`: SQL over `documents` of the first run. `grains`: document, token or both.
    """

    lake: str
    components: Sequence[Component]
    name: str
    grains: Sequence[str] = (DOCUMENT,)
    where: str | None = None
    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    overwrite: str | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def runs(self) -> list[str]:
        return [each.run_id for each in self.components]

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.components]

    @property
    def settings(self) -> dict[str, Any]:
        """What is kept beside the result."""
        return {
            "verb": "assay mixture weights",
            "components": {each.name: each.run_id for each in self.components},
            "grains": [*self.grains],
            "where": self.where,
            "resamples": self.resamples,
            "confidence": self.confidence,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class AboutRuns:
    """`cut`: whether runs may predict different bytes of a text. `tokenizers`: a fingerprint a run."""

    cut: bool
    tokenizers: tuple[str | None, ...]
    notes: tuple[str, ...]


def parse_components(references: Sequence[str], named: Sequence[str]) -> tuple[Component, ...]:
    """Components of `--reference RUN`, called as the run, and of `--component NAME=RUN`, in this order.

    Raises:
        ConfigError: fewer than two, too many, two of one name or run, or no `=`.
    """
    pairs = [(name.strip(), run.strip()) for name, _, run in (each.rpartition("=") for each in named)]
    faults = [f"--component {each!r}: expected NAME=RUN"
              for each, pair in zip(named, pairs, strict=True) if not all(pair)]  # fmt: skip
    components = [*(Component(run, run) for run in references), *(Component(*pair) for pair in pairs)]
    for what in ("name", "run_id"):
        values = [getattr(each, what) for each in components]
        twice = sorted({value for value in values if values.count(value) > 1})
        faults += [f"{each!r} is given twice: a component is one run under one name" for each in twice]
    if not 2 <= len(components) <= MAX_COMPONENTS:
        faults.append(
            f"{len(components)} components: give 2 to {MAX_COMPONENTS} runs over the same documents, "
            "--reference RUN or --component NAME=RUN each"
        )
    if faults:
        raise ConfigError("; ".join(dict.fromkeys(faults)))
    return tuple(components)


def check_request(options: WeightsOptions) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ConfigError: it says all that is wrong.
    """
    faults = [f"--grain {each!r}: expected {DOCUMENT} or {TOKEN}" for each in options.grains
              if each not in (DOCUMENT, TOKEN)]  # fmt: skip
    if not 0 < options.confidence < 1:
        faults.append(f"--confidence {options.confidence:g}: expected a share above 0 and below 1")
    elif options.resamples < (least := math.ceil(round(20 / (1 - options.confidence), 6))):
        faults.append(
            f"--resamples {options.resamples}: at --confidence {options.confidence:g} an end would be one of few "
            f"numbers, give {least:,} or more"
        )
    if faults:
        raise ConfigError("; ".join(faults))


def about_runs(connection: duckdb.DuckDBPyConnection, options: WeightsOptions) -> AboutRuns:
    """What the runs have in common, as far as it bears on the shares.

    Raises:
        ConfigError: runs that are not finished, of texts changed in different ways, or of two tokenizers where tokens
            are compared.
    """
    sql = f"select run_id, {', '.join(_ABOUT)} from runs where run_id in (select unnest($runs::varchar[]))"
    rows = connection.sql(sql, params={"runs": options.runs}).to_arrow_table().to_pylist()
    found = {row["run_id"]: row for row in rows}
    by_run = {run: found[run] for run in options.runs}
    faults = [f"run {run} is {row['state']}, not finished: run the command that made it again"
              for run, row in by_run.items() if row["state"] != "finished"]  # fmt: skip
    if said := _differ(by_run, "transform"):
        faults.append(f"{said}: what models say of different texts does not compare")
    tokenizers = tuple(row["tokenizer_fingerprint"] for row in by_run.values())
    is_one_tokenizer = len(set(tokenizers)) == 1 and tokenizers[0] is not None
    if TOKEN in options.grains and not is_one_tokenizer:
        said = _differ(by_run, "tokenizer_fingerprint") or "the runs do not say which tokenizer they used"
        faults.append(f"{said}: --grain {TOKEN} needs one tokenizer (and one --bos); --grain {DOCUMENT} does not")
    if faults:
        raise ConfigError("; ".join(faults))
    predict_all = all(row["bos_prepended"] for row in by_run.values())
    return AboutRuns(not (is_one_tokenizer or predict_all), tokenizers, tuple(_notes(by_run, is_one_tokenizer)))


def _notes(by_run: Mapping[str, Mapping[str, Any]], is_one_tokenizer: bool) -> Iterator[str]:
    for column in _ALIKE:
        if said := _differ(by_run, column):
            yield f"warning: {said}: a model that sees more is likelier for that alone, whatever the domain"
    transform = next(iter(by_run.values()))["transform"]
    if transform is not None:
        yield f"note: the shares are of texts as {transform} changed them"
    if not is_one_tokenizer:
        yield (
            "note: of two tokenizers: each text's probability is that of the one way each tokenizer spells it, which "
            "is somewhat less than that of the text"
        )
    if any(row["precision"] == "compact" for row in by_run.values()):
        yield "note: log-probs are rounded by up to 1/1024 nat a token (--precision compact)"


def _differ(by_run: Mapping[str, Mapping[str, Any]], column: str) -> str:
    """What two runs say differently; empty where all agree."""
    first, *others = by_run
    for other in others:
        mine, theirs = by_run[first][column], by_run[other][column]
        if mine != theirs:
            return f"{column} of {first} is {_said(mine)}, of {other} {_said(theirs)}"
    return ""


def _said(value: object) -> str:
    return "none" if value is None else str(value)
