"""What an inference from a tokenizer will read: the tokenizer, the files of every candidate, what is odd in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from operators.lake import Lake
from operators.merges import Bpe, BpeError, parse_bpe, word_counts
from operators.results import check_free
from operators.tokenize_load import DEFINITION, load_tokenizer
from pipelines.config import ConfigError
from pipelines.mixture.job import TokenizerMixtureJob
from pipelines.previous import Listing, list_input
from schemas.results import MIXTURE

_SHOWN = 3  # files of a warning


@dataclass(frozen=True)
class TokenizerMixturePlan:
    """A validated job. `warnings`: sentences on what it was given."""

    job: TokenizerMixtureJob
    lake: Lake
    bpe: Bpe
    listings: Mapping[str, Listing]
    warnings: tuple[str, ...]

    @property
    def scratch(self) -> str:
        """A folder of the lake for what is needed meanwhile."""
        return f"{MIXTURE.tables[0].name}/progress/{self.job.name}"


def plan_tokenizer_mixture(job: TokenizerMixtureJob) -> TokenizerMixturePlan:
    """Check a job against the world it runs in.

    Raises:
        ConfigError, ResultError, InputError, StorageError: what is wrong with the tokenizer, the name or the corpora.
    """
    reading = job.reading
    lake = Lake(reading.lake, reading.storage_options)
    check_free(lake, MIXTURE, job.name, job.overwrite)
    bpe = _bpe(job.tokenizer)
    if not bpe.n_merges:
        raise ConfigError(f"--tokenizer: {job.tokenizer} has no merges, so nothing says what it was trained on")
    listings = {name: list_input(config) for name, config in job.corpora.items()}
    return TokenizerMixturePlan(job, lake, bpe, listings, tuple(_shared_files(listings)))


def _bpe(path: Path) -> Bpe:
    file = path / DEFINITION if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else load_tokenizer(path).to_str()
        bpe = parse_bpe(text)
        word_counts(bpe, ["a"], [0])  # that texts can be cut is known before any is read
        return bpe
    except (BpeError, ValueError, OSError) as error:
        said = str(error)
        raise ConfigError(f"--tokenizer: {said if str(path) in said else f'{path}: {said}'}") from None


def _shared_files(listings: Mapping[str, Listing]) -> Iterator[str]:
    """Candidates that hold the same files: what they share can be told apart by what they do not share alone."""
    names = list(listings)
    files = {name: {shard.uri for shard in listing.shards} for name, listing in listings.items()}
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            shared = sorted(files[one] & files[other])
            if shared:
                more = f" and {len(shared) - _SHOWN:,} more" if len(shared) > _SHOWN else ""
                yield f"corpora {one} and {other} both hold {', '.join(shared[:_SHOWN])}{more}"
