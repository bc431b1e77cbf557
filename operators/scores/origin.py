"""What a file of scores says it was made from: which state of which runs, so that scores of an older one are found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from xxhash import xxh3_128_hexdigest

ORIGIN_KEY = b"assay.scores"  # of the Parquet schema's metadata

State = tuple[str | None, str | None]  # a run's config digest, and when it was last finished


@dataclass(frozen=True)
class Origin:
    """What a file of scores was made from. `detector`: the variant of a learned one, empty for a family of the cards.
    `states`: by run, its config digest and when it was finished; `corpora`: counts of tokens that were used."""

    family: str
    variants: tuple[str, ...]
    states: Mapping[str, State]
    detector: str = ""
    corpora: tuple[str, ...] = ()

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
    states = fields["states"]
    lists = [fields["variants"], fields["corpora"]]
    are_texts = all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in lists)
    is_named = isinstance(fields["family"], str) and isinstance(fields["detector"], str)
    if not (is_named and are_texts and isinstance(states, dict) and all(_is_state(s) for s in states.values())):
        raise ValueError("what it says of its origin is not understood")
    kept = {run: (state[0], state[1]) for run, state in states.items()}
    return Origin(fields["family"], tuple(fields["variants"]), kept, fields["detector"], tuple(fields["corpora"]))


def _is_state(state: Any) -> bool:
    return isinstance(state, list) and len(state) == 2 and all(s is None or isinstance(s, str) for s in state)


def run_state(ledger: Mapping[str, Any]) -> State:
    """What tells one state of a run from another: its config digest and when it was last finished."""
    digest, finished = ledger.get("config_digest"), ledger.get("finished_at")
    return (digest if isinstance(digest, str) else None, finished if isinstance(finished, str) else None)
