"""Counts the tokens of a corpus: `read -> tokenize -> count`, one table of counts a unit, added up and then written.

    job -> listing -> units -> counts by unit, each once (`tally`) -> a part of `frequencies`

Work is spread over units as it is for scoring; a worker and the driver hold the counts of one vocabulary. Nothing is
written before all is counted: a command that was stopped begins anew, and the lake keeps what it had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operators.lake import Lake, frequencies_path
from operators.model_files import read_config
from operators.model_places import ModelPlace
from operators.read import ReadOptions
from operators.token_counts import CountedCorpus, CountOptions, Fingerprints, TokenCounts
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.tokenize_load import load_tokenizer
from pipelines.catalog import refresh_catalog
from pipelines.config import ConfigError, ScoreConfig
from pipelines.count import Counted, TokenWork
from pipelines.plan import package_versions
from pipelines.previous import Listing, list_input
from pipelines.score import RunError
from pipelines.steps import TokenizeStep
from pipelines.tally import Corpus, surveying, tally
from schemas.frequencies import check_corpus

BLOCK_BYTES = 1 << 20  # of text tokenized at once
_COUNTED = "counted"  # the run id that reading asks for; no run is made
_SCRATCH = "frequencies/progress"  # a lake in the lake: what readers must know of repeats lies there meanwhile


@dataclass(frozen=True)
class FrequenciesJob:
    """What to count. `reading`: where the lake and the input are, how texts are read and made into ids, and which
    engine does it; of its model only the tokenizer is used, and the width of the softmax unless `tokenizer` is given.

    `first_tokens`: of each document only so many are counted. `overwrite`: whether counts of this name may be replaced.
    """

    corpus: str
    reading: ScoreConfig
    tokenizer: str | None = None
    first_tokens: int | None = None
    overwrite: bool = False

    @classmethod
    def parse(
        cls,
        *,
        name: str,
        model: str | None = None,
        tokenizer: str | None = None,
        first_tokens: int | None = None,
        overwrite: str | None = None,
        **fields: Any,
    ) -> FrequenciesJob:
        """Validate, naming every fault at once in the words of the command line. `fields` are those of `ScoreConfig`.

        Raises:
            ConfigError: one line a fault.
        """
        faults = [*_name_faults(name, overwrite)]
        if (model is None) == (tokenizer is None):
            faults.append("--model or --tokenizer: give one of them, to say whose tokens are counted")
        if not fields.get("input"):
            faults.append("--input or --from-run: give one of them, to say what is counted")
            fields["input"] = "none"  # what else is wrong is still found
        try:
            reading = ScoreConfig.parse(model=model or tokenizer or "none", run_id=_COUNTED, **fields)
        except ConfigError as error:
            faults.append(str(error))
        if faults:
            raise ConfigError("\n".join(faults))
        return cls(name, reading, tokenizer, first_tokens, overwrite is not None)


def _name_faults(name: str, overwrite: str | None) -> Iterator[str]:
    try:
        check_corpus(name)
    except ValueError as error:
        yield f"--name: {error}"
    if overwrite is not None and overwrite != name:
        yield f"--overwrite: it names {overwrite!r}, the corpus is {name!r}: repeat the name there to replace it"


@dataclass(frozen=True)
class FrequenciesPlan:
    """A validated job."""

    job: FrequenciesJob
    lake: Lake
    listing: Listing
    place: ModelPlace | str
    options: CountOptions
    fingerprints: Fingerprints

    def step(self) -> TokenizeStep:
        reading = self.job.reading
        options = TokenizeOptions(bos=reading.bos, special_tokens=reading.special_tokens)
        return TokenizeStep(self.place, options, self.options.width)

    def read_options(self) -> ReadOptions:
        reading = self.job.reading
        return ReadOptions(
            text_column=reading.text_column,
            text_template=reading.text_template,
            id_column=reading.id_column,
            block_bytes=BLOCK_BYTES,
            max_document_bytes=reading.max_document_bytes,
        )


def plan_frequencies(job: FrequenciesJob) -> FrequenciesPlan:
    """Check a job against the world it runs in.

    Raises:
        ConfigError, InputError, ModelError, StorageError: what is wrong with the job, its input or its tokenizer.
    """
    reading = job.reading
    lake = Lake(reading.lake, reading.storage_options)
    check_free(lake, job.corpus, overwrite=job.overwrite)
    listing = list_input(reading)
    place, folder, width = _vocabulary(job)
    options = TokenizeOptions(bos=reading.bos, special_tokens=reading.special_tokens)
    try:
        tokenizer = DocumentTokenizer.load(folder, options, vocab_size=width)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from None
    around = CountOptions(width, len(tokenizer.prefix), len(tokenizer.suffix), job.first_tokens)
    fingerprints = Fingerprints(tokenizer.fingerprint, tokenizer.other_fingerprints)
    return FrequenciesPlan(job, lake, listing, place, around, fingerprints)


def check_free(lake: Lake, corpus: str, *, overwrite: bool) -> None:
    """Raise ConfigError where the lake has counts of that name, which the caller may not replace."""
    if not overwrite and lake.storage.exists(frequencies_path(corpus)):
        raise ConfigError(
            f"{lake.root} has counts of a corpus {corpus!r}: choose another --name, "
            f"or replace them with --overwrite {corpus}"
        )


def _vocabulary(job: FrequenciesJob) -> tuple[ModelPlace | str, Path, int]:
    """Where workers and where this machine have the tokenizer, and how many ids there are: of the model's softmax, else
    of the tokenizer."""
    if job.tokenizer is None:
        reading = job.reading
        place = ModelPlace.find(reading.model, reading.revision, reading.storage_options)
        folder = place.folder(weights=False)
        return place, folder, int(read_config(folder, trust_remote_code=reading.trust_remote_code).vocab_size)
    path = Path(job.tokenizer).expanduser()
    try:
        ids = load_tokenizer(path).get_vocab(with_added_tokens=True).values()
    except (ValueError, OSError) as error:
        raise ConfigError(f"--tokenizer: {error}") from None
    return str(path), path, 1 + max(ids, default=0)


def count_corpus(plan: FrequenciesPlan) -> Counted:
    """Count, write the part and return what was counted and what was not.

    Raises:
        RunError: a worker failed, or nothing at all could be counted; nothing is written then.
    """
    reading = plan.job.reading
    counted = Counted(TokenCounts.none(plan.options.width))
    with surveying(reading.engine, reading.address) as surveyor:
        corpus = Corpus(plan.job.corpus, plan.listing, plan.read_options(), plan.lake, _SCRATCH)
        counted.rejected = tally(corpus, TokenWork(plan.step(), plan.options), counted.add, surveyor)
    if not counted.counts.documents:
        raise RunError(f"no document was counted; {counted.rejected.said or 'the input holds no record'}")
    write_corpus(plan.lake, plan.job.corpus, _corpus(plan, counted))
    return counted


def _corpus(plan: FrequenciesPlan, counted: Counted) -> CountedCorpus:
    reading = plan.job.reading
    names = ("model", "input", "format", "text_column", "text_template", "id_column", "limit", "max_document_bytes")
    facts = {
        **{name: value for name, value in reading.public().items() if name in (*names, "bos", "special_tokens")},
        "first_tokens": plan.job.first_tokens,
        "documents": counted.counts.documents,
        "tokens": counted.counts.tokens,
        "rejects": {reason: n for reason, (n, _) in counted.rejects.items()},
        "versions": package_versions(),
    }
    return CountedCorpus(counted.counts, plan.fingerprints, facts)


def write_corpus(lake: Lake, corpus: str, counted: CountedCorpus) -> None:
    """Write the part of `frequencies`, whole, in place of an earlier one; and make the catalog anew."""
    lake.storage.write(frequencies_path(corpus), memoryview(counted.encode()))
    refresh_catalog(lake)
