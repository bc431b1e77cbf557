"""The run that a transformed run starts from: what is taken from it, and whether the two can be compared.

    assay score --transform lowercase --base-run monday --run-id monday-lower --lake lake

reads the same records as `monday` and feeds them to the same model in the same way; only the text, or what is fed
before it, differs, so that the two runs are joined by doc_id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from operators.lake import Lake
from operators.transform import Transform, TransformError, parse_transform
from pipelines.config import ConfigError, ScoreConfig, read_storage_options
from pipelines.previous import Listing, listing_changes

# What is taken from the base run where the job does not say it. Not `features`: scores that compare runs need the core.
_OF_INPUT = ("input", "format", "text_column", "text_template", "prompt_column", "keep_columns", "limit")
_OF_RECORDS = ("id_column", "label_column", "domain_column", "max_document_bytes", "drop_text")
_OF_SCORING = ("bos", "special_tokens", "dtype", "precision", "deterministic", "trust_remote_code")
_OF_MACHINE = ("engine", "device", "kernel", "batch_tokens")
_OWN_INPUT = ("external", "orders")  # these read texts that are not the base run's
# Records are the same only where these are.
_SAME_RECORDS = ("text_column", "text_template", "prompt_column", "id_column")


def inherited(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job, not yet validated, with those of its base run wherever it has none of its own.

    A job without a transform comes back as it is.

    Raises:
        ConfigError: a transform without a base run, or with one that the lake does not have or say enough of.
    """
    job = dict(fields)
    base_run = job.get("base_run")
    if base_run is None and job.get("transform") is not None:
        raise ConfigError("--base-run: is needed with --transform: the run whose documents are changed")
    if base_run is None or not isinstance(job.get("lake"), str):
        return job
    options = job.get("storage_options")
    lake = Lake(job["lake"], read_storage_options(options) if isinstance(options, str) else options)
    base = read_base(lake, str(base_run))["config"]
    names = [*_OF_SCORING, *_OF_MACHINE]
    name = _name(job.get("transform"))
    if name != "orders":  # which reads records of its own making
        names += [*_OF_RECORDS, *(("text_column",) if name == "external" else _OF_INPUT)]
        names += [] if {"language", "language_column"} & job.keys() else ["language", "language_column"]
    names += [] if "model" in job else ["model", "revision"]
    if "context" not in job and name != "windows":  # strict windows bring theirs; a stride fits one context
        names += ["context", "stride"]
    taken = {name: base[name] for name in names if name not in job and base.get(name) is not None}
    if "text_template" in taken | job:  # only one of them makes the text, and what the job says wins
        taken.pop("text_template" if "text_column" in job else "text_column", None)
    return taken | job


def _name(spec: Any) -> str | None:
    try:
        return parse_transform(spec).name
    except (TransformError, AttributeError):
        return None  # said when the job is validated


def read_base(lake: Lake, run_id: str) -> dict[str, Any]:
    """The ledger of a base run.

    Raises:
        ConfigError: there is none, or none that says how the run was made.
    """
    try:
        ledger = lake.read_run(run_id)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"--base-run: {error}") from None
    if not all(isinstance(ledger.get(part), dict) for part in ("config", "identity", "model", "tokenizer")):
        raise ConfigError(f"--base-run {run_id}: its ledger does not say how it was made; score it again")
    return ledger


def check_base(
    config: ScoreConfig, lake: Lake, listing: Listing, *, model: str | None = None, tokenizer: str | None = None
) -> dict[str, Any]:
    """The ledger of the base run of a transformed run; `model` and `tokenizer` are fingerprints.

    Raises:
        ConfigError: every reason why the two could not be compared.
    """
    transform, base_run = config.parsed_transform, config.base_run
    if transform is None or base_run is None:
        raise ValueError("a run without a transform has no base run")
    ledger = read_base(lake, base_run)
    faults = [*state_faults(ledger, base_run), *_record_faults(config, transform, ledger["config"], base_run)]
    if transform.name not in _OWN_INPUT and ledger["identity"].get("input_listing") != listing.digest:
        changes = listing_changes(Listing.read(lake, base_run), listing)
        faults += [f"--base-run {base_run}: its input is another one now; {change}" for change in changes]
    for what, found in (("model", model), ("tokenizer", tokenizer)):
        before = ledger[what].get("fingerprint")
        if found is not None and before != found:
            faults.append(
                f"--{'model' if what == 'model' else 'bos, --special-tokens or --model'}: run {base_run} was scored "
                f"with another {what} (fingerprint {before}, here {found}); leave it out to take that of the run"
            )
    if faults:
        raise ConfigError("\n".join(faults))
    return ledger


def state_faults(ledger: Mapping[str, Any], run_id: str) -> Iterator[str]:
    """Why a run can be no base run, whatever is made of it."""
    if ledger.get("state") != "finished":
        yield f"--base-run {run_id}: it is {ledger.get('state')}, not finished; run its own command to the end first"
    before = ledger["config"].get("transform")
    if before is not None:
        origin = ledger["config"].get("base_run")
        yield f"--base-run {run_id}: it is transformed itself ({before}); name the run it came from, {origin}"


def _record_faults(config: ScoreConfig, transform: Transform, base: Mapping[str, Any], run_id: str) -> Iterator[str]:
    if transform.name == "external":
        if base.get("id_column") is None:
            yield f"--base-run {run_id}: transform external finds texts by id, and this run has no --id-column"
        return
    if transform.name == "orders":
        kept = {"permutation", "n_items"} <= set(config.keep_columns)
        if (config.id_column, config.domain_column, kept) != ("id", "shard", True):
            yield "--transform orders: `assay exchangeability` writes the orders of a benchmark, and scores them"
        return
    for name in _SAME_RECORDS:
        now, before = getattr(config, name), base.get(name)
        if now != before:
            flag = "--" + name.replace("_", "-")
            yield f"{flag}: {now!r} here, {before!r} in run {run_id}; leave it out, the records must be the same"
    if transform.name == "unprompted" and base.get("prompt_column") is None:
        yield f"--transform unprompted: run {run_id} has no prompts to leave out (--prompt-column)"
