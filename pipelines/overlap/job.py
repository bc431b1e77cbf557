"""What an overlap is asked to do: a benchmark, a corpus, how n-grams are made, and what follows from a match.

    flags -> two readings (of the corpus, of the benchmark), options of the n-grams, a rule -> OverlapJob

Both sides are read as scoring reads a corpus, so an item has the doc_id that it has in a run over the same files with
the same id column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operators.overlap import NORMALISATIONS, OverlapOptions
from operators.read import ReadOptions
from pipelines.config import ConfigError, ScoreConfig
from schemas.overlaps import check_overlap

CORPUS, BENCHMARK = "corpus", "benchmark"  # the two sides, as their records are named in progress and in rejects

BLOCK_BYTES = 1 << 20  # of text compared at once
TOKENS = "tokens"  # the normalisation that needs a tokenizer
_SHARED = ("lake", "engine", "address", "storage_options")
# The flags that name what scoring calls otherwise, by side.
_FLAGS = {
    CORPUS: {
        "input": "corpus",
        "format": "corpus-format",
        "text-column": "corpus-text-column",
        "text-template": "corpus-text-template",
        "id-column": "corpus-id-column",
    },
    BENCHMARK: {
        "input": "benchmark",
        "format": "benchmark-format",
        "text-column": "input-column",
        "text-template": "input-template",
    },
}


@dataclass(frozen=True)
class OverlapJob:
    """`corpus`: how the corpus is read, in which lake the overlap is kept, and which engine compares. `benchmark`: how
    items are read: their text is the input, `answer_column` the answer where items have one.

    `tokenizer`: whose ids are compared under normalisation `tokens`. `overwrite`: whether what the lake has under this
    name may be dropped first.
    """

    name: str
    corpus: ScoreConfig
    benchmark: ScoreConfig
    options: OverlapOptions
    answer_column: str | None = None
    tokenizer: Path | None = None
    overwrite: bool = False

    @classmethod
    def parse(
        cls,
        *,
        name: str,
        overwrite: str | None = None,
        options: Mapping[str, Any] | None = None,
        answer_column: str | None = None,
        tokenizer: str | None = None,
        corpus: Mapping[str, Any],
        benchmark: Mapping[str, Any],
        **shared: Any,
    ) -> OverlapJob:
        """Validate, naming every fault at once in the words of the command line.

        Args:
            options: fields of `OverlapOptions` that are not to be its defaults.
            corpus, benchmark: fields of `ScoreConfig` that say how each side is read.
            shared: `lake`, `engine`, `address`, `storage_options`.

        Raises:
            ConfigError: one line a fault.
        """
        faults = [*_name_faults(name, overwrite)]
        sides = {}
        for side, fields in ((CORPUS, corpus), (BENCHMARK, benchmark)):
            try:
                sides[side] = _reading(side, fields, shared)
            except ConfigError as error:
                faults += [line for line in str(error).splitlines() if line not in faults]
        ngrams, said = _options(options or {}, tokenizer)
        faults += said
        if faults or ngrams is None:
            raise ConfigError("\n".join(faults))
        path = None if tokenizer is None else Path(tokenizer).expanduser()
        job = cls(name, sides[CORPUS], sides[BENCHMARK], ngrams, answer_column, path, overwrite is not None)
        for side in (CORPUS, BENCHMARK):
            try:
                job.read_options(side)
            except ValueError as error:
                faults.append(f"--{side}: {error}")
        if faults:
            raise ConfigError("\n".join(faults))
        return job

    def read_options(self, side: str) -> ReadOptions:
        """How one side is read: of an item the answer beside its text."""
        reading = self.corpus if side == CORPUS else self.benchmark
        answer = (self.answer_column,) if side == BENCHMARK and self.answer_column is not None else ()
        return ReadOptions(
            text_column=reading.text_column,
            text_template=reading.text_template,
            id_column=reading.id_column,
            keep_columns=answer,
            block_bytes=BLOCK_BYTES,
            max_document_bytes=reading.max_document_bytes,
        )


def _name_faults(name: str, overwrite: str | None) -> Iterator[str]:
    try:
        check_overlap(name)
    except ValueError as error:
        yield f"--name: {error}"
    if overwrite is not None and overwrite != name:
        yield f"--overwrite: it names {overwrite!r}, the overlap is {name!r}: repeat the name there to replace it"


def _reading(side: str, fields: Mapping[str, Any], shared: Mapping[str, Any]) -> ScoreConfig:
    """One side as scoring would read it; no model is asked for.

    Raises:
        ConfigError: in the words of this verb.
    """
    given = {name: value for name, value in (*shared.items(), *fields.items()) if value is not None}
    given.setdefault("input", ())
    try:
        return ScoreConfig.parse(model="none", run_id=side, **given)
    except ConfigError as error:
        raise ConfigError("\n".join(_renamed(line, side) for line in str(error).splitlines())) from None


def _renamed(line: str, side: str) -> str:
    if line.startswith("--input:") and "at least 1 item" in line:
        return f"--{side}: is needed: files, folders, globs or URIs of the {side}"
    return re.sub(r"--([a-z-]+)", lambda flag: f"--{_FLAGS[side].get(flag[1], flag[1])}", line)


def _options(fields: Mapping[str, Any], tokenizer: str | None) -> tuple[OverlapOptions | None, list[str]]:
    faults = []
    normalisation = fields.get("normalisation", OverlapOptions.normalisation)
    if normalisation == TOKENS and tokenizer is None:
        faults.append("--tokenizer: is needed with --normalization tokens: a folder with a tokenizer, or its file")
    if normalisation != TOKENS and tokenizer is not None:
        faults.append("--tokenizer: goes with --normalization tokens alone; words are cut without one")
    if normalisation not in NORMALISATIONS:
        known = ", ".join(NORMALISATIONS)
        return None, [*faults, f"--normalization: {normalisation!r} is unknown; choose from {known}"]
    try:
        return OverlapOptions(**fields), faults
    except ValueError as error:
        return None, [*faults, f"--ngram, --drop, --margin or --most-items: {error}"]
