"""What a scoring run is asked to do: one validated record, the same fields from flags, YAML or Python.

    from pipelines.config import ScoreConfig
    config = ScoreConfig(model="path/or/hub-id", input=["corpus/*.jsonl"], lake="lake", run_id="monday")

Validation gathers every fault before raising once. `identity` names the fields that decide the numbers: a run is
resumed only under the same ones.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from schemas import FEATURE_GROUPS, check_run_id

DEFAULT_CONTEXT = 2048
_USER_INFO = re.compile(r"://[^/@]*:[^/@]*@|[?&](X-Amz-Signature|sig|token)=", re.IGNORECASE)

# How a run is executed, or where: changing these between a start and a resume changes nothing that is stored. Model and
# input stand in a run's identity by fingerprint and by the listing of the input's files.
_EXECUTION_FIELDS = {"lake", "engine", "actors", "address", "batch_tokens", "device", "storage_options", "run_id",
                     "model", "revision", "input", "limit"}  # fmt: skip


class ConfigError(ValueError):
    """The job as given cannot be run; the message lists every fault."""


class ScoreConfig(BaseModel):
    """The fields of `assay score`; `context`, `stride` and `batch_tokens` count tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field(min_length=1)
    input: tuple[str, ...] = Field(min_length=1)
    lake: str = Field(min_length=1)
    run_id: str
    revision: str | None = None
    trust_remote_code: bool = False

    format: Literal["auto", "parquet", "jsonl", "text"] = "auto"
    text_column: str = "text"
    id_column: str | None = None
    label_column: str | None = None
    domain_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    max_document_bytes: int | None = Field(None, ge=1)
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
    actors: int | None = Field(None, ge=1)
    batch_tokens: int | None = Field(None, ge=16)
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

    @field_validator("run_id", mode="before")
    @classmethod
    def _number_or_name(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("input", "lake", "model")
    @classmethod
    def _no_credentials(cls, value: Any) -> Any:
        for uri in (value,) if isinstance(value, str) else value:
            if _USER_INFO.search(uri):
                scheme = uri.partition("://")[0]
                raise ValueError(f"the {scheme}:// URI holds credentials, which would be stored; use the environment")
        return value

    @field_validator("run_id")
    @classmethod
    def _safe_run_id(cls, value: str) -> str:
        return check_run_id(value)

    @field_validator("features")
    @classmethod
    def _known_features(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in FEATURE_GROUPS]
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}; choose from {', '.join(FEATURE_GROUPS)}")
        return tuple(name for name in FEATURE_GROUPS if name in value)

    @model_validator(mode="after")
    def _stride_fits(self) -> ScoreConfig:
        if self.stride is not None and self.context is not None and self.stride >= self.context:
            raise ValueError(f"stride {self.stride} must be smaller than context {self.context}")
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
        return self.model_dump(mode="json", exclude=_EXECUTION_FIELDS | unused)

    def public(self) -> dict[str, Any]:
        """Every field but credentials: what a ledger and a log may hold."""
        return self.model_dump(mode="json", exclude={"storage_options"})


def read_job(path: str | Path) -> dict[str, Any]:
    """The fields of a YAML job file, not yet validated.

    Raises:
        ConfigError: no such file, not YAML, or not a mapping.
    """
    try:
        fields = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"--config {path}: expected fields like 'model: ...', found {type(fields).__name__}")
    return {str(name).replace("-", "_"): value for name, value in fields.items()}


def _faults(error: ValidationError) -> str:
    lines = []
    for fault in error.errors():
        name = "--" + str(fault["loc"][0]).replace("_", "-") if fault["loc"] else "job"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "missing":
            message = "is needed"
        elif fault["type"] == "extra_forbidden":
            message = "is not a field of a scoring job"
        lines.append(f"{name}: {message}")
    return "\n".join(lines)
