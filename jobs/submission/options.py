"""The `submit:` part of a job file: where a job goes, with which code, environment, secrets and resources."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from operators.storage.credentials import holds_credentials, secret_names
from pipelines.secrets import check_reference, check_variable

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]

RESERVED = "assay_"  # metadata of this prefix is ours


class SubmitOptions(BaseModel):
    """What `assay submit` asks of a cluster.

    `address`: of the head's dashboard, such as http://head:8265. `code`: `working-dir` uploads the packages installed
    here, `image` takes what is installed on the cluster. `env`: variables of the driver and the workers, which the
    dashboard shows. `secrets`: variables by reference, `env:OTHER` or `file:/path`, looked up on the cluster. `pip`:
    requirements that Ray installs on every node. `entrypoint_*`: what the driver itself reserves, memory in bytes;
    without any it runs on the head. `metadata`: shown with the job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, coerce_numbers_to_str=True)

    address: str | None = None
    code: Literal["working-dir", "image"] = "working-dir"
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    pip: tuple[str, ...] = ()
    entrypoint_num_cpus: Amount | None = None
    entrypoint_num_gpus: Amount | None = None
    entrypoint_memory: int | None = Field(None, ge=0)
    entrypoint_resources: dict[str, Amount] = {}
    metadata: dict[str, str] = {}

    @field_validator("address")
    @classmethod
    def _no_credentials(cls, value: str | None) -> str | None:
        if value is not None and holds_credentials(value):
            raise ValueError("it holds credentials; a token goes into the environment, as RAY_AUTH_TOKEN")
        return value

    @field_validator("env")
    @classmethod
    def _plain_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            check_variable(name)
        if hidden := secret_names(value):
            raise ValueError(
                f"{', '.join(hidden)}: the dashboard would show it; give it under secrets, as {hidden[0]}: env:NAME "
                "or file:/path, to be looked up on the cluster"
            )
        return value

    @field_validator("secrets")
    @classmethod
    def _references(cls, value: dict[str, str]) -> dict[str, str]:
        for name, reference in value.items():
            check_reference(check_variable(name), reference)
        return value

    @field_validator("pip")
    @classmethod
    def _requirements(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(holds_credentials(requirement) for requirement in value):
            raise ValueError("a requirement holds credentials, which the dashboard would show")
        return value

    @field_validator("metadata")
    @classmethod
    def _free_names(cls, value: dict[str, str]) -> dict[str, str]:
        if taken := [name for name in value if name.startswith(RESERVED)]:
            raise ValueError(f"{', '.join(taken)}: names that start with {RESERVED} are set by assay submit")
        if hidden := secret_names(value):
            raise ValueError(f"{', '.join(hidden)}: the dashboard shows metadata; it is no place for credentials")
        return value
