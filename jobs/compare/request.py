"""What `assay compare` is asked for: its flags, read, and checked against what the lake has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.conditions import documents_where
from jobs.query import check_run
from operators.comparison.corpora import Corpus, by_column, draw, kept_columns
from operators.comparison.divergences import DIVERGENCES
from operators.comparison.grams import LONGEST
from operators.scores.variants import did_you_mean
from pipelines.config import ConfigError
from schemas.runs import check_run_id

if TYPE_CHECKING:
    import duckdb

WORDS, TOKENS = "words", "tokens"
UNITS = (WORDS, TOKENS)
ALWAYS = ("js", "js_distance")  # what the figure shows
MOST_CORPORA = 20
MOST_NAME = 64  # characters


@dataclass(frozen=True)
class Named:
    """One `--corpus`: its name, its run, and the condition its documents meet, None for all of them."""

    name: str
    run_id: str
    condition: str | None = None


@dataclass(frozen=True)
class CompareOptions:
    """What is asked for, as the flags say it.

    Either `corpora`, two or more; or `run_id` and `by`, a column whose values are the corpora, those in `groups` or
    all. `depth`: None for where the runs have hidden states. `most_documents`: of a corpus, drawn by `seed`.
    """

    lake: str
    name: str
    corpora: Sequence[Named] = ()
    run_id: str | None = None
    by: str | None = None
    groups: Sequence[str] = ()
    units: Sequence[str] = (WORDS,)
    ngrams: Sequence[int] = (1, 2)
    statistics: Sequence[str] = ()
    depth: bool | None = None
    permutations: int = 1000
    most_documents: int = 10_000
    confidence: float = 0.95
    seed: int = 0
    overwrite: str | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Divergences to compute, in the order of their registry."""
        return tuple(name for name in DIVERGENCES if name in {*ALWAYS, *self.statistics})

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked for, as the result keeps it."""
        return {
            "corpora": [vars(each) for each in self.corpora], "run_id": self.run_id, "by": self.by,
            "groups": list(self.groups), "units": list(self.units), "ngrams": list(self.ngrams),
            "statistics": list(self.names), "depth": self.depth, "permutations": self.permutations,
            "most_documents": self.most_documents, "confidence": self.confidence, "seed": self.seed,
        }  # fmt: skip


def parse_corpus(text: str) -> Named:
    """`NAME=RUN` or `NAME=RUN:CONDITION`.

    Raises:
        ConfigError: it is neither, or the name has control characters or more than `MOST_NAME` characters.
    """
    name, equals, rest = text.partition("=")
    run_id, colon, condition = rest.partition(":")
    if not equals or not name.strip() or not run_id or (colon and not condition.strip()):
        raise ConfigError(
            f"--corpus {text!r}: expected NAME=RUN or NAME=RUN:CONDITION, as in \"web=monday:domain = 'web'\""
        )
    if not name.isprintable() or len(name) > MOST_NAME:
        raise ConfigError(f"--corpus {name!r}: a name has at most {MOST_NAME} characters, all printable")
    try:
        check_run_id(run_id)
    except ValueError as error:
        raise ConfigError(f"--corpus {name!r}: {error}") from None
    return Named(name, run_id, condition if colon else None)


def check_options(options: CompareOptions) -> None:
    """Raise every fault that the flags have by themselves.

    Raises:
        ConfigError: they contradict each other, or a number is out of range.
    """
    faults = [*_corpora_faults(options), *_number_faults(options)]
    unknown = [name for name in options.statistics if name not in DIVERGENCES]
    faults += [f"--statistic {name!r}{did_you_mean(name, DIVERGENCES)}; there are {', '.join(DIVERGENCES)}"
               for name in unknown]  # fmt: skip
    if faults:
        raise ConfigError("\n".join(faults))


def _corpora_faults(options: CompareOptions) -> list[str]:
    names = [each.name for each in options.corpora]
    twice = sorted({name for name in names if names.count(name) > 1})
    of_column = [flag for flag, given in (("--run-id", options.run_id), ("--by", options.by)) if given is not None]
    faults = [f"--corpus: two of them are called {', '.join(map(repr, twice))}"] if twice else []
    if names and (of_column or options.groups):
        faults.append("--corpus names the corpora one by one, --run-id with --by takes them from a column: give one")
    elif names and len(names) < 2:
        faults.append("--corpus: give two or more")
    elif not names and len(of_column) < 2:
        faults.append("give --corpus NAME=RUN[:CONDITION] twice or more, or --run-id RUN --by COLUMN")
    if len(names) > MOST_CORPORA:
        faults.append(f"--corpus: at most {MOST_CORPORA} are compared at once, each with each")
    return faults


def _number_faults(options: CompareOptions) -> list[str]:
    faults = []
    if not all(1 <= n <= LONGEST for n in options.ngrams):
        faults.append(f"--ngram: expected 1 to {LONGEST} words or tokens")
    if not 0 < options.confidence < 1:
        faults.append(f"--confidence {options.confidence:g}: expected a level above 0 and below 1")
    return faults


def resolve(options: CompareOptions, connection: duckdb.DuckDBPyConnection) -> tuple[list[Corpus], list[str]]:
    """The documents of every corpus, and notes on those that are in none.

    Raises:
        ConfigError: no such run or column, a corpus without two documents, or too many of them.
        QueryError: DuckDB refused a condition or failed on it.
    """
    for run_id in sorted({*(each.run_id for each in options.corpora), *filter(None, [options.run_id])}):
        check_run(options.lake, run_id, options.storage_options)
    corpora, notes = _by_value(options, connection) if options.by is not None else (_by_name(options), [])
    small = [corpus for corpus in corpora if len(corpus) < 2]
    if small:
        found = ", ".join(f"{corpus.name!r} has {len(corpus)}" for corpus in small)
        raise ConfigError(f"a corpus needs two documents or more: {found}")
    return corpora, notes


def _by_name(options: CompareOptions) -> list[Corpus]:
    corpora = []
    for each in options.corpora:
        documents = documents_where(
            options.lake, each.run_id, each.condition or "true", f"--corpus {each.name}", options.storage_options
        )
        corpora.append(draw(each.name, each.run_id, documents.doc_ids, options.most_documents, options.seed))
    return corpora


def _by_value(options: CompareOptions, connection: duckdb.DuckDBPyConnection) -> tuple[list[Corpus], list[str]]:
    run_id, column = str(options.run_id), str(options.by)
    known = kept_columns(connection, run_id)
    if column not in known:
        raise ConfigError(f"--by: run {run_id} has no column {column!r}{did_you_mean(column, known)}; it has "
                          f"{', '.join(known)}")  # fmt: skip
    values, without = by_column(connection, run_id, column)
    lacking = [name for name in options.groups if name not in values]
    if lacking:
        raise ConfigError(f"--group: no document of run {run_id} has {column} {', '.join(map(repr, lacking))}")
    asked = options.groups or [name for name, ids in values.items() if ids.size > 1]
    chosen = {name: values[name] for name in dict.fromkeys(asked)}
    if not 2 <= len(chosen) <= MOST_CORPORA:
        what = "were chosen" if options.groups else "have two documents or more"
        raise ConfigError(
            f"--by {column}: {len(chosen):,} of its values in run {run_id} {what}, and 2 to {MOST_CORPORA} are "
            "compared at once, each with each; --group VALUE chooses some"
        )
    corpora = [draw(name, run_id, ids, options.most_documents, options.seed) for name, ids in chosen.items()]
    notes = [f"note: {without:,} documents without a {column} are in no corpus"] if without else []
    if not options.groups and len(values) > len(chosen):
        notes.append(f"note: {len(values) - len(chosen):,} values of {column} have one document each and are left out")
    return corpora, notes
