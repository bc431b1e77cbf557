"""What a scoring run is asked to do: one validated record, the same fields from flags, YAML or Python.

    from pipelines.config import ScoreConfig
    config = ScoreConfig(model="path/or/hub-id", input=["corpus/*.jsonl"], lake="lake", run_id="monday")

Validation gathers every fault before raising once. `identity` names the fields that decide the numbers: a run is
resumed only under the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from operators.comments import check_language
from operators.storage.credentials import holds_credentials, secret_names
from operators.transform import Transform, parse_transform
from operators.transform.windows import window_options
from pipelines.reject_limit import RejectLimit, parse_max_rejects
from schemas import FEATURE_GROUPS, check_run_id

DEFAULT_CONTEXT = 2048
LEAST_SHARE = 0.01  # of a GPU, of an actor: a hundred CUDA contexts fill the largest

# How a run is executed, or where: changing these between a start and a resume changes nothing that is stored. Model and
# input stand in a run's identity by fingerprint and by the listing of the input's files.
_EXECUTION_FIELDS = {"lake", "engine", "actors", "max_actors", "gpus_per_actor", "accelerator_type", "address",
                     "batch_tokens", "device", "storage_options", "run_id", "model", "revision", "input", "limit",
                     "max_rejects", "overwrite", "kernel"}  # fmt: skip


class ConfigError(ValueError):
    """The job as given cannot be run; the message lists every fault."""


class ScoreConfig(BaseModel):
    """The fields of `assay score`; `context`, `stride` and `batch_tokens` count tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field(min_length=1)
    input: tuple[str, ...] = Field(min_length=1)
    lake: str = Field(min_length=1)
    run_id: str
    transform: str | None = None  # canonical; given as `name:key=value,...` or as a mapping {name: ..., key: value}
    base_run: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    format: Literal["auto", "parquet", "jsonl", "arrow", "text"] = "auto"
    text_column: str = "text"
    text_template: str | None = None
    prompt_column: str | None = None
    language: str | None = None
    language_column: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    domain_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    max_document_bytes: int | None = Field(None, ge=1)
    max_rejects: int | str | None = None
    overwrite: str | None = None
    limit: int | None = Field(None, ge=1)

    context: int | None = Field(None, ge=2)
    stride: int | None = Field(None, ge=1)
    bos: Literal["auto", "always", "never"] = "auto"
    special_tokens: Literal["auto", "literal"] = "auto"

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    features: tuple[str, ...] = ()
    top_k: int = Field(10, ge=1, le=1024)
    precision: Literal["compact", "full"] = "compact"
    drop_text: bool = False

    engine: Literal["ray", "inline"] = "ray"
    actors: int | None = Field(None, ge=1)  # the number, or where max_actors says more the fewest
    max_actors: int | None = Field(None, ge=1)
    gpus_per_actor: float | None = Field(None, gt=0)
    accelerator_type: str | None = Field(None, min_length=1)  # Ray's name of it, such as H100
    batch_tokens: int | None = Field(None, ge=16)
    kernel: Literal["auto", "torch", "triton"] = "auto"
    deterministic: bool = False
    address: str | None = None
    storage_options: dict[str, Any] | None = Field(None, repr=False)

    @field_validator("input", "keep_columns", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("features", mode="before")
    @classmethod
    def _names_with_commas(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @field_validator("run_id", "base_run", mode="before")
    @classmethod
    def _number_or_name(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("input", "lake", "model")
    @classmethod
    def _no_credentials(cls, value: Any) -> Any:
        for uri in (value,) if isinstance(value, str) else value:
            if holds_credentials(uri):
                scheme = uri.partition("://")[0]
                raise ValueError(f"the {scheme}:// URI holds credentials, which would be stored; use the environment")
        return value

    @field_validator("run_id", "base_run")
    @classmethod
    def _safe_run_id(cls, value: str | None) -> str | None:
        return None if value is None else check_run_id(value)

    @field_validator("transform", mode="before")
    @classmethod
    def _canonical(cls, value: object) -> object:
        if not isinstance(value, str | Mapping):
            return value
        transform = parse_transform(value)
        if holds_credentials(str(transform.get("file") or "")):
            raise ValueError("the URI of its file holds credentials, which would be stored; use the environment")
        return transform.canonical

    @field_validator("language")
    @classmethod
    def _known_language(cls, value: str | None) -> str | None:
        return None if value is None else check_language(value)

    @field_validator("features")
    @classmethod
    def _known_features(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in FEATURE_GROUPS]
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}; choose from {', '.join(FEATURE_GROUPS)}")
        return tuple(name for name in FEATURE_GROUPS if name in value)

    @field_validator("storage_options", mode="before")
    @classmethod
    def _named_file(cls, value: object) -> object:
        return read_storage_options(value) if isinstance(value, str) else value

    @field_validator("max_rejects", mode="before")
    @classmethod
    def _count_or_share(cls, value: object) -> object:
        if value is None or parse_max_rejects(value):
            return str(value).strip() if isinstance(value, str) else value
        return value

    @field_validator("gpus_per_actor")
    @classmethod
    def _share_of_one_gpu(cls, value: float | None) -> float | None:
        if value is not None and value > 1:
            raise ValueError(
                f"{value:g} is more than an actor can use: a model is not split over GPUs, so 1 is the most; "
                "a share such as 0.25 puts four actors on a GPU"
            )
        if value is not None and value < LEAST_SHARE:
            raise ValueError(f"{value:g} of a GPU is too little to hold a model; {LEAST_SHARE:g} is the least")
        return value

    @model_validator(mode="after")
    def _pool_has_a_range(self) -> ScoreConfig:
        if self.max_actors is not None and self.max_actors < (self.actors or 1):
            raise ValueError(
                f"--max-actors: {self.max_actors} is less than --actors {self.actors}, where the pool starts"
            )
        return self

    @model_validator(mode="after")
    def _devices_agree(self) -> ScoreConfig:
        asked = [n for n in ("gpus_per_actor", "accelerator_type") if getattr(self, n) is not None]
        if asked and self.device.startswith("cpu"):
            flags = " and ".join("--" + name.replace("_", "-") for name in asked)
            raise ValueError(f"{flags}: is about GPUs, but --device {self.device} takes none; leave one of them out")
        if self.engine == "inline" and self.max_actors is not None:
            raise ValueError("--max-actors: the inline engine is one process; leave it out, or take --engine ray")
        return self

    @model_validator(mode="after")
    def _overwrite_names_the_run(self) -> ScoreConfig:
        if self.overwrite is not None and self.overwrite != self.run_id:
            raise ValueError(
                f"--overwrite: it names {self.overwrite!r}, the run is {self.run_id!r}: "
                "repeat the run id there to drop what the run holds"
            )
        return self

    @model_validator(mode="after")
    def _transform_and_base_run(self) -> ScoreConfig:
        if self.transform is not None and self.base_run is None:
            raise ValueError("--base-run: is needed with --transform: the run whose documents are changed")
        if self.base_run is not None and self.transform is None:
            raise ValueError(f"--transform: is needed with --base-run: what to change in run {self.base_run}")
        if self.base_run == self.run_id:
            raise ValueError(
                f"--run-id: a transformed run needs a name of its own, not that of its base run {self.run_id}"
            )
        if self.parsed_transform is not None and self.parsed_transform.name == "external" and self.id_column is None:
            raise ValueError(
                "--id-column: is needed with transform external, which finds the base run's documents by id"
            )
        return self

    @model_validator(mode="after")
    def _windows_say_their_lengths(self) -> ScoreConfig:
        transform = self.parsed_transform
        if transform is None or transform.name != "windows":
            return self
        windows = window_options(transform)
        for name in ("context", "stride"):
            asked, said = getattr(self, name), getattr(windows, name)
            if asked not in (None, said):
                what = "prefix + suffix" if name == "context" else "the suffix"
                raise ValueError(
                    f"--{name}: {asked} contradicts --transform {transform.canonical}, where it is {what}, {said}; "
                    "leave it out"
                )
        return self

    @model_validator(mode="after")
    def _one_source_of_text(self) -> ScoreConfig:
        if self.text_template is not None and "text_column" in self.model_fields_set:
            raise ValueError("--text-column: --text-template says where the text is already; give one of them")
        return self

    @model_validator(mode="after")
    def _one_source_of_languages(self) -> ScoreConfig:
        if self.language is not None and self.language_column is not None:
            raise ValueError("--language-column: --language says what the texts are written in; give one of them")
        return self

    @model_validator(mode="after")
    def _stride_fits(self) -> ScoreConfig:
        if self.stride is not None and self.context is not None and self.stride >= self.context:
            raise ValueError(f"--stride: {self.stride} must be smaller than the context, {self.context}")
        return self

    @classmethod
    def parse(cls, **fields: Any) -> ScoreConfig:
        """Validate, naming every fault at once in the words of the command line.

        Raises:
            ConfigError: one line a fault.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            raise ConfigError(_faults(error)) from None

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that decide what is scored and to which numbers."""
        unused = set() if "topk" in self.features else {"top_k"}
        unused |= set() if self.transform else {"transform", "base_run"}  # runs without are what they were before
        unused |= {name for name in ("language", "language_column") if getattr(self, name) is None}
        if self.deterministic:  # bits are promised: what a batch and the head's sums are made of decides them
            return self.model_dump(mode="json", exclude=(_EXECUTION_FIELDS - {"batch_tokens", "kernel"}) | unused)
        return self.model_dump(mode="json", exclude=_EXECUTION_FIELDS | unused | {"deterministic"})

    @property
    def parsed_transform(self) -> Transform | None:
        return None if self.transform is None else parse_transform(self.transform)

    def public(self) -> dict[str, Any]:
        """Every field but credentials: what a ledger and a log may hold."""
        return self.model_dump(mode="json", exclude={"storage_options", "overwrite"})

    @property
    def reject_limit(self) -> RejectLimit | None:
        return None if self.max_rejects is None else parse_max_rejects(self.max_rejects)


def read_storage_options(text: str) -> dict[str, Any]:
    """fsspec's options from a YAML or JSON file, or from inline JSON that holds no credentials.

    Options are flat (for every URI), or by protocol: `{"s3": {"client_kwargs": {"endpoint_url": "..."}}}`.

    Raises:
        ConfigError: no such file, no mapping, or credentials on the command line, which others can see.
    """
    inline = text.lstrip().startswith("{")
    try:
        options = yaml.safe_load(text if inline else Path(text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # A YAML error quotes the line it fails on, which may be the secret's.
        said = error.strerror if isinstance(error, OSError) else "not JSON or YAML"
        # What is no path was perhaps meant as options, with credentials.
        where = "" if inline or re.search(r"[{}\[\]=\"']|: ", text) else f" {text}"
        raise ConfigError(f"--storage-options{where}: {said}; give a file, or JSON in braces") from None
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise ConfigError("--storage-options: expected a mapping such as {anon: true}")
    secrets = secret_names(options)
    if inline and secrets:
        raise ConfigError(
            f"--storage-options holds credentials ({', '.join(secrets)}), which every process list shows: put them "
            "in a file and name it here, or set them in the environment"
        )
    return options


def _faults(error: ValidationError) -> str:
    lines = []
    for fault in error.errors():
        message = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:  # of several fields: the message names them
            lines.append(message)
            continue
        name = "--" + str(fault["loc"][0]).replace("_", "-")
        if fault["type"] == "missing":
            message = "is needed"
        elif fault["type"] == "extra_forbidden":
            message = "is not a field of a scoring job"
        lines.append(f"{name}: {message}")
    return "\n".join(lines)
