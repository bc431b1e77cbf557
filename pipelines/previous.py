"""What an earlier attempt of a run was made of, against what is asked for now: a run resumes only as itself.

listing of the input (shards.parquet) --+
ledger's identity ----------------------+--> the same: resume, else a difference that can be read
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import xxhash

from operators.lake import Lake, progress_folder
from operators.pieces import Piece
from operators.read import ReadOptions, read_pieces
from operators.shards import Format, Shard, list_shards
from pipelines.config import ScoreConfig
from pipelines.journal import read_table, write_table

log = logging.getLogger(__name__)

_SHOWN = 5


class ResumeError(ValueError):
    """A run of this id exists and was made of something else; the message is the difference."""


@dataclass(frozen=True)
class Listing:
    """The files of the input, in input order. `stop`: the row of the last one at which a limit ends, None without."""

    shards: tuple[Shard, ...]
    stop: int | None = None

    @property
    def digest(self) -> str:
        lines = [[s.uri, *_content(s)] for s in self.shards]
        return xxhash.xxh3_128_hexdigest(json.dumps([lines, self.stop]).encode())

    def write(self, lake: Lake, run_id: str) -> None:
        columns = {name: [getattr(s, name) for s in self.shards] for name in ("uri", "format", "n_bytes", "tag")}
        rows = pa.table(columns).replace_schema_metadata({"stop": json.dumps(self.stop)})
        write_table(lake, _listing_path(run_id), rows)

    @classmethod
    def read(cls, lake: Lake, run_id: str) -> Listing | None:
        """The listing that a run began with; None where it is not recorded."""
        rows = read_table(lake, _listing_path(run_id))
        if rows is None:
            return None
        shards = [Shard(r["uri"], cast("Format", r["format"]), r["n_bytes"], r["tag"]) for r in rows.to_pylist()]
        return cls(tuple(shards), json.loads((rows.schema.metadata or {}).get(b"stop", b"null")))


def list_input(config: ScoreConfig) -> Listing:
    """The files that a job names; with `limit`, up to the file in which that many records are reached.

    Raises:
        InputError, StorageError: as `list_shards` and, with a limit, reading.
    """
    shards = list_shards(config.input, format=config.format, storage_options=config.storage_options)
    return Listing(tuple(shards)) if config.limit is None else _limited(shards, config)


def _limited(shards: list[Shard], config: ScoreConfig) -> Listing:
    """The first `limit` records in input order: read here once, since only reading tells where a shard's rows are."""
    options = ReadOptions(text_column=config.text_column, text_template=config.text_template, block_documents=256)
    left = config.limit or 0
    for place, shard in enumerate(shards):
        for block in read_pieces([Piece(shard)], options, storage_options=config.storage_options):
            rows = block["row"].to_pylist()[:left]
            left -= len(rows)
            if not left:
                return Listing(tuple(shards[: place + 1]), rows[-1] + 1)
    return Listing(tuple(shards))


def previous_run(lake: Lake, run_id: str, identity: Mapping[str, Any], listing: Listing) -> dict[str, Any] | None:
    """The ledger of an earlier attempt at the same run; None where there is nothing to resume.

    Raises:
        ResumeError: the run was made of something else, or its ledger cannot be read.
    """
    if run_id not in lake.run_ids():
        return None
    if not any(len(lake.part_names(table, run_id)) for table in ("documents", "rejects")):
        return None  # it failed before it wrote anything: nothing to resume, nothing to contradict
    try:
        ledger = lake.read_run(run_id)
    except (ValueError, OSError) as error:
        raise ResumeError(f"run {run_id!r} in {lake.root}: its ledger cannot be read ({error})") from error
    before = ledger.get("identity", {})
    names = sorted({*before, *identity} - {"input_listing"})
    changes = [
        f"{n}: was {before.get(n)!r}, now {identity.get(n)!r}" for n in names if before.get(n) != identity.get(n)
    ]
    if before.get("input_listing") != identity.get("input_listing"):
        changes += listing_changes(Listing.read(lake, run_id), listing)
    if changes:
        raise ResumeError(
            f"run {run_id!r} exists in {lake.root} and was made of something else:\n"
            + "\n".join(f"  {change}" for change in changes)
            + "\nrepeat the command as it was to resume, choose another --run-id, "
            + f"or drop what the run holds with --overwrite {run_id}"
        )
    warn_of_touched(Listing.read(lake, run_id), listing)
    return ledger


def warn_of_touched(before: Listing | None, now: Listing) -> None:
    """Files of another modification time but the same size may be copies, so they do not stop a run."""
    was = {s.uri: s.tag for s in before.shards} if before else {}
    touched = [s.uri for s in now.shards if _is_mtime(s.tag) and was.get(s.uri, s.tag) != s.tag]
    if touched:
        log.warning(
            "%s since the run began, at the same size: if the content has changed, the run now mixes old and new",
            _listed("touched", touched),
        )


def _is_mtime(tag: str) -> bool:
    return tag.startswith("mtime:")


def _content(shard: Shard) -> tuple[str, int, str]:
    """What must not change under a run: a modification time is no content."""
    return shard.format, shard.n_bytes, "" if _is_mtime(shard.tag) else shard.tag


def listing_changes(before: Listing | None, now: Listing) -> list[str]:
    """The difference of two listings, a line each kind, a few names each."""
    if before is None:
        return ["input: other files, or files of other sizes (the earlier listing is not recorded)"]
    was, is_now = ({s.uri: s for s in listing.shards} for listing in (before, now))
    added = [uri for uri in is_now if uri not in was]
    removed = [uri for uri in was if uri not in is_now]
    both = [(was[uri], is_now[uri]) for uri in is_now if uri in was]
    changed = [_change(old, new) for old, new in both if _content(old) != _content(new)]
    lines = [_listed(*item) for item in (("added", added), ("removed", removed), ("changed", changed)) if item[1]]
    if before.stop != now.stop:
        lines.append(f"input: ends at row {before.stop} of its last file, now {now.stop} (--limit)")
    return lines or ["input: the same files in another order"]


def _change(before: Shard, now: Shard) -> str:
    if before.n_bytes != now.n_bytes:
        return f"{now.uri} ({before.n_bytes:,} -> {now.n_bytes:,} bytes)"
    return f"{now.uri} ({'another format' if before.format != now.format else 'other content of the same size'})"


def _listed(what: str, uris: Sequence[str]) -> str:
    more = f" and {len(uris) - _SHOWN:,} more" if len(uris) > _SHOWN else ""
    return f"input: {len(uris):,} file{'s' if len(uris) > 1 else ''} {what}: {', '.join(uris[:_SHOWN])}{more}"


def _listing_path(run_id: str) -> str:
    return f"{progress_folder(run_id)}/shards.parquet"
