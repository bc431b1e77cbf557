"""Turns a scoring job into a plan: which shards, which model and tokenizer exactly, and whether a run may be resumed.

    config -> list shards -> fingerprint model and tokenizer -> compare with the ledger of the same run id -> Plan
                                 transformed: compare with the base run, settle the prefix --^

Everything that can be wrong is found here, before a model is loaded or a worker is started.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from operators.lake import Lake
from operators.model_bytes import check_device, weight_bytes
from operators.model_files import ModelError, ModelOptions, context_limit, read_config
from operators.model_places import ModelPlace, known_fingerprint
from operators.read import ReadOptions
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.transform import BlockTransform
from operators.transform.windows import window_options
from operators.windows import WindowOptions
from operators.write import WriteOptions
from pipelines.base_run import check_base
from pipelines.cluster import named_address
from pipelines.config import DEFAULT_CONTEXT, ConfigError, ScoreConfig
from pipelines.journal import Done, Journal
from pipelines.prefix import Prefix, before_windows, settle_prefix
from pipelines.previous import Listing, list_input, previous_run
from pipelines.units import Unit, read_units
from schemas.tokens import HIDDEN

if TYPE_CHECKING:
    from operators.score import ScoreOptions
    from operators.statistics import Kernel

# Text bytes of a block, hence of a part: long parts compress better (7.4 bytes a token at 80k tokens, 7.0 at 600k),
# small blocks keep every worker busy, report progress and lose less when one is killed: on a CPU, where a block of a
# GPU's size would take minutes, they are smaller. Hidden states dwarf the text they belong to.
MAX_BLOCK_BYTES, CPU_BLOCK_BYTES, HIDDEN_BLOCK_BYTES, MIN_BLOCK_BYTES = 2 << 20, 1 << 18, 1 << 17, 1 << 16
BLOCKS_A_WORKER = 32  # or more: at the end the others wait for the one that began the last block, half a block each
# A core does some 1e11 operations a second, and a byte of text takes half as many as the model has weights (two for
# each weight and token, four bytes a token): for models from 6 million weights on, smaller blocks down to this size
# still take it two seconds, a hundred times what a block costs besides.
SLOW_BLOCK_BYTES, TWO_SECONDS = 1 << 12, 2 * 2 * 10**11  # bytes; bytes times weights
# Where an input of terabytes would come to more than MANY_BLOCKS, they grow, up to four times as large: every listing,
# query and end of a run goes over all parts (infra/scale.md).
MANY_BLOCKS, HUGE_BLOCKS = 1 << 17, 4
BLOCK_DOCUMENTS = 1024  # at most in a block of up to 2 MiB; larger ones hold more in proportion


@dataclass(frozen=True)
class Scoring:
    """What a scoring worker needs to know; turned into the operator's options there, where torch is imported anyway.

    `place`: where the worker's machine has the model, or gets it.
    """

    model: ModelOptions
    place: ModelPlace
    windows: WindowOptions
    features: tuple[str, ...]
    top_k: int
    batch_tokens: int | None
    kernel: Kernel = "auto"

    def options(self) -> ScoreOptions:
        from operators.score import ScoreOptions
        from operators.statistics import TileOptions

        tiles = TileOptions(top_k=self.top_k, kernel=self.kernel)
        model = replace(self.model, model=str(self.place.folder()))
        return ScoreOptions(model, self.windows, self.features, tiles, self.batch_tokens)


@dataclass(frozen=True)
class Plan:
    """A validated run. `previous` is the ledger of an earlier attempt, None for a new run.

    `folder` is the model's on this machine; `place` says where any other has it, or gets it.
    `windows` are what the run is asked for; behind a `prefix` that counts they hold fewer tokens of a document.
    """

    config: ScoreConfig
    lake: Lake
    listing: Listing
    folder: Path
    place: ModelPlace
    windows: WindowOptions
    identity: dict[str, Any]
    model_facts: dict[str, Any]
    tokenizer_facts: dict[str, Any]
    previous: dict[str, Any] | None
    prefix: Prefix | None = None

    @property
    def n_bytes(self) -> int:
        """Stored bytes of the shards (compressed where they are)."""
        return sum(shard.n_bytes for shard in self.listing.shards)

    def units(self, ledger: Mapping[str, Any]) -> list[Unit] | None:
        """The units as an earlier attempt cut them; None where none has."""
        n = (ledger.get("survey") or {}).get("units")
        lake, run_id, listing = self.lake, self.config.run_id, self.listing
        return None if n is None else read_units(lake, run_id, listing.shards, n, listing.stop)

    @cached_property
    def done(self) -> Done:
        """What earlier attempts have done, by their journal and a listing of the lake."""
        return Journal.open(self.lake, self.config.run_id).done()

    @property
    def vocab_size(self) -> int:
        return int(self.model_facts["vocab_size"])

    @property
    def finished(self) -> bool:
        return self.previous is not None and self.previous.get("state") == "finished"

    def block_bytes(self, workers: int, *, on_gpu: bool) -> int:
        """Text bytes of a block: small enough that every worker gets several, large enough for long Parquet parts."""
        largest = MAX_BLOCK_BYTES if on_gpu else min(MAX_BLOCK_BYTES, CPU_BLOCK_BYTES)
        largest = min(HUGE_BLOCKS * largest, max(largest, self.n_bytes // MANY_BLOCKS))
        if HIDDEN in self.config.features:
            largest = min(largest, HIDDEN_BLOCK_BYTES)
        share = self.n_bytes // max(1, BLOCKS_A_WORKER * workers)
        return min(largest, max(MIN_BLOCK_BYTES if on_gpu else self._least_on_a_core(), share))

    def _least_on_a_core(self) -> int:
        weights = weight_bytes(self.folder, "float32") // 4
        return min(MIN_BLOCK_BYTES, max(SLOW_BLOCK_BYTES, TWO_SECONDS // max(1, weights)))

    def read_options(self, block_bytes: int) -> ReadOptions:
        return _read_options(self.config, block_bytes)

    def tokenize_options(self) -> TokenizeOptions:
        return TokenizeOptions(bos=self.config.bos, special_tokens=self.config.special_tokens)

    def scoring(self) -> Scoring:
        c = self.config
        model = ModelOptions(
            str(self.folder),
            dtype=c.dtype,
            device=c.device,
            trust_remote_code=c.trust_remote_code,
            deterministic=c.deterministic,
            memory_share=c.gpus_per_actor or 1.0,
        )
        return Scoring(model, self.place, self.document_windows, c.features, c.top_k, c.batch_tokens, c.kernel)

    @property
    def document_windows(self) -> WindowOptions:
        """The windows as documents are cut into them."""
        return self.prefix.within(self.windows) if self.prefix else self.windows

    def block_transform(self) -> BlockTransform | None:
        transform = self.config.parsed_transform
        used = frozenset(self.prefix.keys if self.prefix else ())
        return None if transform is None else BlockTransform(transform, used)

    def write_options(self) -> WriteOptions:
        c = self.config
        return WriteOptions(
            lake=self.lake,
            run_id=c.run_id,
            precision=c.precision,
            features=c.features,
            keep_text=not c.drop_text,
            prompt=c.prompt_column is not None,
            language=c.language,
            language_column=c.language_column,
        )


def make_plan(config: ScoreConfig, listing: Listing | None = None) -> Plan:
    """Validate a job against the world it runs in. `listing`: these very files, instead of what its input names now.

    Raises:
        ConfigError, InputError, ModelError: what is wrong with the job, its input, its model or its base run.
        ResumeError: the run id belongs to a run with other numbers.
    """
    faults: list[str] = []
    listing = _gather(faults, lambda: list_input(config)) if listing is None else listing
    place = _gather(faults, lambda: ModelPlace.find(config.model, config.revision, config.storage_options))
    folder = _gather(faults, lambda: place.folder(), place)
    if config.engine == "inline" or named_address(config.address) is None:  # a cluster has devices of its own
        _gather(faults, lambda: _check_device(config, folder))
    _gather(faults, lambda: _read_options(config, MAX_BLOCK_BYTES))
    model_config = _gather(faults, lambda: read_config(folder, trust_remote_code=config.trust_remote_code), folder)
    windows = _gather(faults, lambda: _windows(config, model_config), model_config)
    tokenizer = _gather(faults, lambda: _tokenizer(config, folder, model_config), model_config)
    lake = _gather(faults, lambda: Lake(config.lake, config.storage_options))
    if faults or lake is None or listing is None or folder is None or windows is None or tokenizer is None:
        raise ConfigError("\n".join(faults))
    model_facts = {
        "type": model_config.model_type,
        "fingerprint": known_fingerprint(folder),
        "context_limit": context_limit(model_config),
        "vocab_size": model_config.vocab_size,
        **({"commit": place.revision} if place.revision else {}),
    }
    place = place.pinned(model_facts["fingerprint"])
    tokenizer_facts = {"fingerprint": tokenizer.fingerprint, "bos_prepended": tokenizer.bos_prepended}
    identity = {
        **config.identity,
        "context": windows.context,
        "stride": windows.stride,
        "model_fingerprint": model_facts["fingerprint"],
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "input_listing": listing.digest,
    }
    prefix = None
    if config.transform is not None:
        base = check_base(config, lake, listing, model=model_facts["fingerprint"], tokenizer=tokenizer.fingerprint)
        identity["base_digest"] = base.get("config_digest")
        prefix = _prefix(config, lake, tokenizer, windows, model_facts["context_limit"])
    if prefix is not None:
        identity["prefix"] = prefix.identity
    previous = None if config.overwrite else previous_run(lake, config.run_id, identity, listing)
    return Plan(config, lake, listing, folder, place, windows, identity, model_facts, tokenizer_facts, previous, prefix)


def _prefix(
    config: ScoreConfig, lake: Lake, tokenizer: DocumentTokenizer, windows: WindowOptions, limit: int | None
) -> Prefix | None:
    transform = config.parsed_transform
    if transform is not None and transform.name == "windows":
        return before_windows(transform, tokenizer, limit)
    if transform is None or transform.name != "prefix" or config.base_run is None:
        return None
    return settle_prefix(transform, lake, config.base_run, tokenizer, windows.context, config.storage_options)


def _check_device(config: ScoreConfig, folder: Path | None) -> None:
    """Raise ModelError if this machine has not the device, or the device cannot run the kernel that is asked for, or
    cannot hold the model."""
    device = ModelOptions(config.model, device=config.device).torch_device()
    if folder is not None:
        check_device(folder, config.dtype, device, config.gpus_per_actor or 1.0)
    if config.kernel == "triton":
        from operators.statistics import device_obstacle

        obstacle = device_obstacle(device)
        if obstacle is not None:
            raise ModelError(f"--kernel: triton cannot run here: {obstacle}; use torch or auto")


def _read_options(config: ScoreConfig, block_bytes: int) -> ReadOptions:
    language = () if config.language_column in (None, *config.keep_columns) else (config.language_column,)
    return ReadOptions(
        text_column=config.text_column,
        text_template=config.text_template,
        prompt_column=config.prompt_column,
        id_column=config.id_column,
        label_column=config.label_column,
        domain_column=config.domain_column,
        keep_columns=(*config.keep_columns, *language),
        block_bytes=block_bytes,
        block_documents=max(BLOCK_DOCUMENTS, block_bytes // 2048),
        max_document_bytes=config.max_document_bytes,
    )


def _gather(faults: list[str], step: Any, needs: object = True) -> Any:
    """Run one step of planning; a failure is noted and later steps that need it are passed over."""
    if needs is None:
        return None
    try:
        return step()
    except (ValueError, OSError, ImportError) as error:
        faults.append(str(error))
        return None


def _tokenizer(config: ScoreConfig, folder: Path, model_config: Any) -> DocumentTokenizer:
    options = TokenizeOptions(bos=config.bos, special_tokens=config.special_tokens)
    return DocumentTokenizer.load(folder, options, vocab_size=model_config.vocab_size)


def _windows(config: ScoreConfig, model_config: Any) -> WindowOptions:
    transform = config.parsed_transform
    if transform is not None and transform.name == "windows":
        return window_options(transform)  # held to the model's limit with what is fed before them
    limit = context_limit(model_config)
    context = config.context or min(limit or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if limit is not None and context > limit:
        raise ModelError(f"--context {context}: the model's positions end at {limit}")
    stride = config.stride or context // 2
    if stride >= context:
        raise ConfigError(f"--stride {stride}: it must be smaller than the context, {context}")
    return WindowOptions(context, stride)


def digest(identity: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(identity, sort_keys=True).encode())


def package_versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    names = ("corpus-assay", "torch", "transformers", "tokenizers", "pyarrow", "ray")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
