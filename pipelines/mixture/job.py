"""What an inference from a tokenizer is asked to do: candidate corpora by name, how they are read, how sure it must be.

flags -> corpora by name, each with how it is read -> TokenizerMixtureJob
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operators.merges import MAX_MERGES, RESAMPLES
from operators.read import ReadOptions
from pipelines.config import ConfigError, ScoreConfig
from schemas.results import MIXTURE

BLOCK_BYTES = 1 << 20  # of text counted at once
SAMPLE, LEAST_SAMPLE = "100MB", 1_000_000  # text of each corpus; below so much every share is guesswork
MAX_NAME = 128
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?B|)")
_RANGES = {  # flag: least, most
    "max-merges": (1, 10_000_000),
    "resamples": (2, 10_000),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class TokenizerMixtureJob:
    """`corpora`: how each candidate is read, by name, in the order given. `sample_bytes`: of text, of each.

    `resamples`: draws of the groups of documents that intervals come of. `confidence`: their level.
    `training_bytes`: of the text the tokenizer was trained on, for the intervals; None takes that of all samples.
    """

    name: str
    lake: str
    tokenizer: Path
    corpora: Mapping[str, ScoreConfig]
    max_merges: int = MAX_MERGES
    sample_bytes: int = 100_000_000
    resamples: int = RESAMPLES
    confidence: float = 0.95
    seed: int = 0
    training_bytes: int | None = None
    overwrite: str | None = None

    @classmethod
    def parse(
        cls,
        *,
        name: str,
        lake: str,
        tokenizer: str,
        corpora: Sequence[str],
        sample: str = SAMPLE,
        training_size: str | None = None,
        overwrite: str | None = None,
        numbers: Mapping[str, Any] | None = None,
        **reading: Any,
    ) -> TokenizerMixtureJob:
        """Validate, naming every fault at once in the words of the command line.

        Args:
            corpora: `name=URI` each; URIs of one name are one corpus.
            sample, training_size: bytes, such as "100MB".
            numbers: fields of the job that are not to be its defaults: `max_merges`, `resamples`, `confidence`, `seed`.
            reading: fields of `ScoreConfig` that say how every corpus is read.

        Raises:
            ConfigError: one line a fault.
        """
        numbers = dict(numbers or {})
        faults = [*_name_faults(name), *_number_faults(numbers)]
        inputs, said = split_corpora(corpora)
        faults += said
        n_bytes = parse_size(sample)
        if n_bytes is None or n_bytes < LEAST_SAMPLE:
            faults.append(f"--sample: {sample!r} is no size from 1MB on; write 100MB or 2GB")
        trained = None if training_size is None else parse_size(training_size)
        if training_size is not None and not trained:
            faults.append(f"--training-size: {training_size!r} is no size; write 500MB or 2TB")
        readings: dict[str, ScoreConfig] = {}
        for corpus, uris in (inputs or {"none": ["none"]}).items():  # what else is wrong is still found
            try:
                readings[corpus] = ScoreConfig.parse(model="none", run_id="sample", input=uris, lake=lake, **reading)
                read_options(readings[corpus])
            except ConfigError as error:
                faults += [line for line in _in_our_words(error) if line not in faults]
            except ValueError as error:
                faults += [line for line in (f"--text-template: {error}",) if line not in faults]
        if faults:
            raise ConfigError("\n".join(faults))
        numbers |= {"sample_bytes": n_bytes or 0, "training_bytes": trained}
        return cls(name, lake, Path(tokenizer).expanduser(), readings, overwrite=overwrite, **numbers)

    @property
    def reading(self) -> ScoreConfig:
        """What all corpora share: lake, engine, address, storage options, columns."""
        return next(iter(self.corpora.values()))

    def public(self) -> dict[str, Any]:
        """What decides the numbers, and no credentials: what is kept beside them."""
        names = ("format", "text_column", "text_template", "id_column", "max_document_bytes")
        return {
            "tokenizer": str(self.tokenizer),
            "corpora": {name: list(config.input) for name, config in self.corpora.items()},
            "max_merges": self.max_merges,
            "sample_bytes": self.sample_bytes,
            "resamples": self.resamples,
            "confidence": self.confidence,
            "seed": self.seed,
            "training_bytes": self.training_bytes,
            **{name: getattr(self.reading, name) for name in names},
        }


def read_options(reading: ScoreConfig) -> ReadOptions:
    """How the records of a corpus are read.

    Raises:
        ValueError: columns and template contradict each other.
    """
    return ReadOptions(
        text_column=reading.text_column,
        text_template=reading.text_template,
        id_column=reading.id_column,
        block_bytes=BLOCK_BYTES,
        max_document_bytes=reading.max_document_bytes,
    )


def parse_size(text: str) -> int | None:
    """Bytes of "100MB"; None where it is no size."""
    found = _SIZE.fullmatch(text.strip().upper())
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def split_corpora(given: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """URIs by the name of their corpus, in the order given, and what is wrong with the others."""
    inputs: dict[str, list[str]] = {}
    faults = []
    for item in given:
        name, equals, uri = item.partition("=")
        fault = _corpus_fault(name.strip(), uri.strip()) if equals else "expected NAME=URI"
        if fault:
            faults.append(f"--corpora {item[:MAX_NAME]!r}: {fault}")
            continue
        uris = inputs.setdefault(name.strip(), [])
        if uri.strip() not in uris:
            uris.append(uri.strip())
    if not given:
        faults.append("--corpora: give the candidates, at least one, as NAME=URI; repeat it for each")
    return inputs, faults


def _corpus_fault(name: str, uri: str) -> str | None:
    if not name or not uri:
        return "the name is missing: expected NAME=URI" if not name else "the URI is missing: expected NAME=URI"
    if "/" in name or "\\" in name or "://" in name:
        return "a name holds no slash: expected NAME=URI, such as code=src/**/*.jsonl"
    if not name.isprintable():
        return "the name holds control or other unprintable characters"
    if len(name) > MAX_NAME:
        return f"the name has more than {MAX_NAME} characters"
    return None


def _name_faults(name: str) -> Iterator[str]:
    try:
        MIXTURE.check(name)
    except ValueError as error:
        yield f"--name: {error}"


def _number_faults(numbers: Mapping[str, Any]) -> Iterator[str]:
    for flag, (least, most) in _RANGES.items():
        value = numbers.get(flag.replace("-", "_"))
        if value is not None and not least <= value <= most:
            yield f"--{flag}: {value} is not from {least:,} to {most:,}"
    confidence = numbers.get("confidence")
    if confidence is not None and not 0 < confidence < 1:
        yield f"--confidence: {confidence} is not between 0 and 1"


def _in_our_words(error: ConfigError) -> Iterator[str]:
    for line in str(error).splitlines():
        yield line.replace("--input:", "--corpora:", 1) if line.startswith("--input:") else line
