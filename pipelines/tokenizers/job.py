"""What `assay tokenizers` is asked for: every fault is named at once, in the words of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from operators.lake import Lake
from operators.read import ReadOptions
from operators.results import check_free
from operators.tokenizer_statistics.probe import ProfileOptions
from pipelines.config import ConfigError, ScoreConfig
from pipelines.previous import Listing, list_input
from pipelines.tokenizers.sources import NamedTokenizer, fingerprint, found, parse_tokenizers
from schemas.results import PROFILE

BLOCK_BYTES = 1 << 20  # of text tokenized at once
_READING = ("input", "format", "text_column", "text_template", "id_column", "domain_column", "limit",
            "max_document_bytes")  # fmt: skip


@dataclass(frozen=True)
class TokenizersJob:
    """`reading`: where the lake and the input are, how texts are read, and which engine does it.

    `parallel_column`: records of several domains that share its value are translations of each other. `baseline`: the
    domain that premiums are against, None for the one of most documents. `confidence`: level of the intervals.
    """

    name: str
    tokenizers: tuple[NamedTokenizer, ...]
    reading: ScoreConfig
    options: ProfileOptions
    parallel_column: str | None = None
    baseline: str | None = None
    confidence: float = 0.95
    overwrite: str | None = None

    @classmethod
    def parse(
        cls,
        *,
        name: str | None = None,
        tokenizer: Sequence[str] = (),
        parallel_column: str | None = None,
        baseline: str | None = None,
        check_share: float = 0.1,
        confidence: float = 0.95,
        seed: int = 0,
        overwrite: str | None = None,
        **fields: Any,
    ) -> TokenizersJob:
        """Validate. `fields` are those of `ScoreConfig`.

        Raises:
            ConfigError: one line a fault.
        """
        tokenizers, faults = parse_tokenizers(tokenizer)
        if name is None:
            faults.append("--name: is needed: what the result is called in the lake")
        if not 0 < confidence < 1:
            faults.append(f"--confidence: {confidence:g} is to lie between 0 and 1")
        faults += _domain_faults(fields, parallel_column, baseline)
        try:
            options = ProfileOptions(check_share=check_share, seed=seed)
        except ValueError as error:
            faults.append(f"--check-share or --seed: {error}")
        try:
            keep = () if parallel_column is None else (parallel_column,)
            reading = ScoreConfig.parse(model="none", run_id="tokenizers", keep_columns=keep, **{"input": (), **fields})
        except ConfigError as error:
            faults += [_in_words(line) for line in str(error).splitlines()]
        if faults or name is None:
            raise ConfigError("\n".join(faults))
        return cls(name, tokenizers, reading, options, parallel_column, baseline, confidence, overwrite)

    def read_options(self) -> ReadOptions:
        reading = self.reading
        return ReadOptions(
            text_column=reading.text_column,
            text_template=reading.text_template,
            id_column=reading.id_column,
            domain_column=reading.domain_column,
            keep_columns=reading.keep_columns,
            block_bytes=BLOCK_BYTES,
            max_document_bytes=reading.max_document_bytes,
        )

    def settings(self) -> dict[str, Any]:
        """What was asked, for the result's job."""
        asked = self.reading.public()
        return {
            **{name: asked[name] for name in _READING},
            "tokenizers": {each.name: each.path for each in self.tokenizers},
            "parallel_column": self.parallel_column,
            "baseline": self.baseline,
            "check_share": self.options.check_share,
            "confidence": self.confidence,
            "seed": self.options.seed,
        }


def _domain_faults(fields: Mapping[str, Any], parallel_column: str | None, baseline: str | None) -> Iterator[str]:
    if fields.get("domain_column") is None:
        for flag, value in (("--parallel-column", parallel_column), ("--baseline", baseline)):
            if value is not None:
                yield f"{flag}: needs --domain-column, the column that says which domain or language a text is of"
    if parallel_column is not None and parallel_column == fields.get("id_column"):
        yield (
            f"--parallel-column: {parallel_column!r} is --id-column, too, under which translations would be repeats of "
            "one record; leave --id-column out"
        )


def _in_words(line: str) -> str:
    if line.startswith("--input:") and "at least 1 item" in line:
        return "--input: is needed: files, folders, globs or URIs of the texts"
    return f"--input-{line[2:]}" if line.startswith("--format:") else line


@dataclass(frozen=True)
class TokenizersPlan:
    """A validated job. `job.tokenizers` are local by now; `fingerprints`: by name, as in `runs`."""

    job: TokenizersJob
    lake: Lake
    listing: Listing
    fingerprints: Mapping[str, str]

    @property
    def same(self) -> list[list[str]]:
        """Names under which one tokenizer is given more than once."""
        by_print: dict[str, list[str]] = {}
        for name, each in self.fingerprints.items():
            by_print.setdefault(each, []).append(name)
        return [names for names in by_print.values() if len(names) > 1]


def plan_tokenizers(job: TokenizersJob) -> TokenizersPlan:
    """Check a job against the world it runs in.

    Raises:
        ConfigError, InputError, ResultError, StorageError: what is wrong with the job, its input, its name or a
            tokenizer.
    """
    lake = Lake(job.reading.lake, job.reading.storage_options)
    check_free(lake, PROFILE, job.name, job.overwrite)
    local, faults = [], []
    for each in job.tokenizers:
        try:
            local.append(found(each))
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    listing = list_input(job.reading)
    fields = {name: getattr(job, name) for name in job.__dataclass_fields__}
    return TokenizersPlan(
        TokenizersJob(**{**fields, "tokenizers": tuple(local)}),
        lake,
        listing,
        {each.name: fingerprint(each) for each in local},
    )
