"""What a file of scores says it was made from: which state of which runs and counts, so that older scores are found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
from xxhash import xxh3_128, xxh3_128_hexdigest

from operators.lake import Lake, frequencies_path

ORIGIN_KEY = b"assay.scores"  # of the Parquet schema's metadata

State = tuple[str | None, str | None]  # a run's config digest, and when it was last finished


@dataclass(frozen=True)
class Origin:
    """What a file of scores was made from. `detector`: the variant of a learned one, empty for a family of the cards.
    `states`: by run, its config digest and when it was finished; `corpora`: by corpus, the digest of its counts."""

    family: str
    variants: tuple[str, ...]
    states: Mapping[str, State]
    detector: str = ""
    corpora: Mapping[str, str] = field(default_factory=dict)

    @property
    def part_name(self) -> str:
        """The name that a file of this origin has."""
        named = f"detector\0{self.detector}" if self.detector else f"family\0{self.family}"
        return xxh3_128_hexdigest(named.encode())

    @property
    def metadata(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()


def parse_origin(schema: pa.Schema) -> Origin:
    """What a file's schema says of its origin.

    Raises:
        ValueError: it says nothing, or not what an `Origin` holds.
    """
    fields = json.loads((schema.metadata or {}).get(ORIGIN_KEY, b"null"))
    if not isinstance(fields, dict) or set(fields) != set(Origin.__dataclass_fields__):
        raise ValueError("does not say what it was made from")
    variants, states, corpora = fields["variants"], fields["states"], fields["corpora"]
    are_named = _are_texts([fields["family"], fields["detector"]]) and _are_texts(variants)
    are_states = isinstance(states, dict) and all(_is_state(s) for s in states.values())
    if not (are_named and are_states and isinstance(corpora, dict) and _are_texts(list(corpora.values()))):
        raise ValueError("what it says of its origin is not understood")
    kept = {run: (state[0], state[1]) for run, state in states.items()}
    return Origin(fields["family"], tuple(variants), kept, fields["detector"], corpora)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _is_state(state: Any) -> bool:
    return isinstance(state, list) and len(state) == 2 and all(s is None or isinstance(s, str) for s in state)


def run_state(ledger: Mapping[str, Any]) -> State:
    """What tells one state of a run from another: its config digest and when it was last finished."""
    digest, finished = ledger.get("config_digest"), ledger.get("finished_at")
    return (digest if isinstance(digest, str) else None, finished if isinstance(finished, str) else None)


def corpus_state(lake: Lake, corpus: str) -> str:
    """What tells one count of a corpus from another: a digest of its numbers.

    Raises:
        FileNotFoundError: there are no counts of that name.
        OSError, ValueError: they cannot be read.
    """
    with lake.storage.parquet(frequencies_path(corpus)) as file:
        counts = file.read(columns=["n", "n_documents"])
    digest = xxh3_128()
    for column in counts.columns:
        digest.update(column.to_numpy().tobytes())
    return digest.hexdigest()
