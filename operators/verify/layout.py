"""Checks names and ledgers: what lies where in a lake, what a run says of itself, and whether its totals hold.

The progress folder is the driver's own record, made anew where it is damaged: its names are checked, its content not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from operators.lake import PROGRESS_FOLDER, RUNS_FOLDER, TABLES_BY_RUN, Lake, is_run_id, progress_folder, run_folder
from operators.storage import is_temporary
from operators.transform import TransformError, parse_transform
from operators.verify.faults import Fault, Finding, Kind
from schemas import CORE, DOCUMENTS, FEATURE_GROUPS, TOKENS
from schemas.columns import COMMENTS, PROMPT
from schemas.documents import ROLLUPS

_TOTALS = ("documents", "rejects", "tokens", "scored", "text_bytes")
_OF_CODE = ("language", "language_column")  # the settings of a run that keeps the group of comments
_PARTITION = "run_id="
_PROGRESS_NAME = re.compile(r"(journal|repeats)-\d{8}\.parquet|(shards|units)\.parquet|claims\.json")
_TEMPORARY_LEDGER = re.compile(r"\.(.+)\.json\.[0-9a-f]{32}\.tmp")


@dataclass(frozen=True)
class Expected:
    """The optional column groups that a run's ledger says its parts have; None where it does not say.

    A run without a sound ledger is held to the groups that each of its files has columns of.
    `scores_first`: whether something was fed before a document's first token, so that it has a prediction.
    `from_start`: whether the spans of a document begin where its text does, and not at an offset in tokens.
    """

    features: list[str] | None
    prompt: bool | None
    scores_first: bool | None = None
    comments: bool | None = None
    from_start: bool | None = None

    @classmethod
    def of(cls, ledger: dict[str, Any]) -> Expected:
        config = ledger.get("config")
        settings = config if isinstance(config, dict) else {}
        features = ledger.get("features", settings.get("features"))
        known = isinstance(features, list) and set(features) <= set(FEATURE_GROUPS)
        prompt = settings.get("prompt_column") is not None if isinstance(config, dict) else None
        scores_first, from_start = _first_tokens(ledger) if isinstance(config, dict) else (None, None)
        comments = any(settings.get(name) for name in _OF_CODE) if isinstance(config, dict) else None
        return cls(features if known else None, prompt, scores_first, comments, from_start)

    def documents(self, schema: pa.Schema) -> list[str]:
        """The groups that a documents part of this schema should have."""
        has_prompt = "prompt_bytes" in schema.names if self.prompt is None else self.prompt
        has_comments = "comment_tokens" in schema.names if self.comments is None else self.comments
        has_rollups = any(c.name in schema.names for c in DOCUMENTS.group(ROLLUPS))  # parts of old lakes have none
        return [PROMPT] * has_prompt + [COMMENTS] * has_comments + [ROLLUPS] * has_rollups

    def tokens(self, schema: pa.Schema, receipts: pa.Schema) -> list[str]:
        """The groups that a tokens part should have, beside receipts of that schema."""
        features = self.features
        if features is None:
            found = {c.group for c in TOKENS.columns if c.name in schema.names}
            features = sorted(found - {CORE, PROMPT, COMMENTS})
        kinds = {"prompt_bytes": PROMPT, "comment_tokens": COMMENTS}
        return [*features, *(group for name, group in kinds.items() if name in receipts.names)]


def _first_tokens(ledger: dict[str, Any]) -> tuple[bool, bool]:
    """`scores_first` and `from_start` of a run whose ledger says how it was made."""
    try:
        transform = parse_transform(str(ledger["config"].get("transform")))
    except TransformError:
        return False, True  # none, or one that this version does not know
    if transform.name == "windows":
        return isinstance(ledger.get("prefix"), dict), transform.number("offset") == 0
    return transform.name == "prefix", True


def all_run_ids(lake: Lake) -> list[str]:
    """Every run that has a ledger, a part or a record of progress, sorted."""
    folders = (name[:-1] for name in lake.storage.list(PROGRESS_FOLDER) if name.endswith("/"))
    progress = (name.removeprefix(_PARTITION) for name in folders if name.startswith(_PARTITION))
    run_ids = set(lake.run_ids()).union(*(lake.partitions(table) for table in TABLES_BY_RUN))
    return sorted(run_ids | {run_id for run_id in progress if is_run_id(run_id)})


def lost_faults(lake: Lake, run_ids: list[str]) -> Iterator[Fault]:
    """Names that belong to no run, of `run_ids` all there are."""
    known = {f"{_PARTITION}{run_id}/" for run_id in run_ids}
    for folder in (*TABLES_BY_RUN, PROGRESS_FOLDER):
        for name in lake.storage.list(folder):
            if name not in known:
                yield _foreign(f"{folder}/{name}")
    for name in lake.storage.list(RUNS_FOLDER):
        if not is_temporary(name):
            if name.removesuffix(".json") not in run_ids or not name.endswith(".json"):
                yield _foreign(f"{RUNS_FOLDER}/{name}")
            continue
        ledger = _TEMPORARY_LEDGER.fullmatch(name)
        if ledger is None or ledger[1] not in run_ids:  # those of runs are reported with them
            yield Fault(Kind.TEMPORARY, "", f"{RUNS_FOLDER}/{name}", "left by a write that did not finish, of no run")


def _foreign(where: str) -> Fault:
    return Fault(Kind.FOREIGN, "", where, "not part of a lake's layout")


def layout_faults(lake: Lake, run_id: str) -> Iterator[Fault]:
    """Foreign names, temporary files and orphans of one run.

    Raises:
        ValueError: a folder leads out of the lake.
    """
    for table in TABLES_BY_RUN:
        known = {part.path for part in lake.parts(table, run_id)}
        paths = [f"{run_folder(table, run_id)}/{name}" for name in lake.storage.list(run_folder(table, run_id))]
        for path in paths:
            if path not in known and not is_temporary(path.rsplit("/", 1)[1]):
                yield Fault(Kind.FOREIGN, run_id, path, "not a part: expected <32 hexadecimal digits>.parquet")
    for name in lake.storage.list(progress_folder(run_id)):
        if not _PROGRESS_NAME.fullmatch(name) and not is_temporary(name):
            where = f"{progress_folder(run_id)}/{name}"
            yield Fault(Kind.FOREIGN, run_id, where, "not a file that a run keeps of its progress")
    for path in lake.temporaries(run_id):
        yield Fault(Kind.TEMPORARY, run_id, path, "left by a write that did not finish")
    for part in lake.orphans(run_id):
        yield Fault(Kind.ORPHAN, run_id, part.path, "a tokens part without a documents part of the same name")


def ledger_findings(ledger: dict[str, Any], run_id: str, found: Counter[str]) -> Iterator[Finding]:
    """What a ledger says against what the run's parts hold."""
    if ledger.get("run_id", run_id) != run_id:
        yield Kind.LEDGER, f"is the ledger of run {ledger['run_id']!r}"
    if ledger.get("state") != "finished":
        return  # the totals of a run under way promise nothing
    totals = ledger.get("totals")
    if not isinstance(totals, dict):
        yield Kind.TOTAL, "a finished run without totals"
        return
    for name in _TOTALS:
        if totals.get(name) != found[name]:
            yield Kind.TOTAL, f"{name} is {totals.get(name)}, its parts hold {found[name]}"
    rows_in, verdicts = totals.get("rows_in"), found["documents"] + found["rejects"]
    if rows_in != verdicts:
        yield Kind.TOTAL, f"rows_in is {rows_in}, documents + rejects is {verdicts}"
