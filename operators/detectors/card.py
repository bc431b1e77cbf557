"""`card.json` of a detector: what it reads, what it was trained on, how well it did on documents it had not seen.

The card comes from a folder that anyone may have written: it is checked field by field before a tensor is read, and
every shape follows from it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT: Literal["assay-detector-1"] = "assay-detector-1"

LABEL = "label"  # the column that holds labels where no expression makes others

Kind = Literal["logistic", "los_net", "pawn"]
KINDS: tuple[Kind, ...] = ("logistic", "los_net", "pawn")
PAPERS: dict[Kind, str] = {
    "logistic": "regularised logistic regression of document scores, as in Maini et al. 2024, arXiv 2406.06443",
    "los_net": "LOS-Net, Bar-Shalom et al. 2025, arXiv 2503.14043",
    "pawn": "PAWN, Miralles-Gonzalez et al. 2025, arXiv 2501.03940",
}

Name = Annotated[str, Field(min_length=1, max_length=500)]
Count = Annotated[int, Field(ge=0, le=1 << 40)]


class DetectorError(ValueError):
    """A detector cannot be trained, read or applied as asked; the message says what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Scores(_Part):
    """What a logistic detector reads: scores of documents, in the order of its weights.

    `references`: the model fingerprints of the reference runs that `features` name, by those names. Another run has
    its own reference runs, and theirs stand in for these. `unmarked`: those of `features` that have no weight for being
    undefined: documents that a prefix was made of have them not, and these were chosen by their label.
    """

    kind: Literal["logistic"]
    features: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]  # variants, as in `scores`
    references: Annotated[dict[Name, Name | None], Field(max_length=100)] = {}
    unmarked: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    clip: Annotated[float, Field(ge=0, lt=0.5)]  # share of the values cut off at either end


class Sequences(_Part):
    """What a network reads: some numbers of each of a document's first scored tokens.

    `channels` are those numbers in order; `top_k` and `vocab_size` are 0 where the kind does not use them.
    """

    kind: Literal["los_net", "pawn"]
    channels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=2000)]
    positions: Annotated[int, Field(ge=1, le=8192)]
    top_k: Annotated[int, Field(ge=0, le=1000)]
    vocab_size: Annotated[int, Field(ge=0, le=1 << 31)]
    width: Annotated[int, Field(ge=4, le=1024, multiple_of=4)]


class Fold(_Part):
    """One model: fitted on `fitted` documents, stopped by `validation` others (0 for the logistic), tested on
    `tested` that it never saw. `epochs`: passes over the fitted ones up to the weights that were kept."""

    fitted: Count
    validation: Count
    tested: Count
    epochs: Count


class OutOfFold(_Part):
    """AUROC of the log-odds that each document got from the model that had not seen it, with its 95 % interval."""

    auroc: Annotated[float, Field(ge=0, le=1)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]


class TrainingRun(_Part):
    run_id: Name
    model_fingerprint: Name | None
    tokenizer_fingerprint: Name | None


class Card(_Part):
    """The whole card. `digest` is xxh3-128 of `detector.safetensors`; `cluster` the column that folds kept whole;
    `value` what the numbers are that it gives, `label` the SQL expression over `documents` that gave the labels."""

    format: Literal["assay-detector-1"]
    inputs: Annotated[Scores | Sequences, Field(discriminator="kind")]
    value: Name
    label: Annotated[str, Field(min_length=1, max_length=10_000)]
    paper: Name
    run: TrainingRun
    cluster: Name | None
    positives: Count
    negatives: Count
    undefined: Count  # labelled documents that have nothing to read, left out
    seed: Annotated[int, Field(ge=0, lt=1 << 31)]
    folds: Annotated[tuple[Fold, ...], Field(min_length=2, max_length=100)]
    out_of_fold: OutOfFold
    versions: dict[Name, Name]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]

    @property
    def kind(self) -> Kind:
        return self.inputs.kind


def parse_card(text: bytes, where: str) -> Card:
    """The card in `text`; `where` names its file in messages.

    Raises:
        DetectorError: it is no card of this format; lists every fault.
    """
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in error.errors()]
        raise DetectorError(f"{where} is not the card of a detector ({FORMAT}): {'; '.join(faults[:20])}") from None
