"""Evidence from overlaps: which of the lake's are of a benchmark, what they found of its items, and how whole they are.

    job.json, overlap_items --> of the benchmark's own files, or asked for and of the same ids --> a row each

What an unfinished overlap did not find may yet come: its rows are in doubt unless they are over the threshold already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from jobs.contamination import commands
from jobs.contamination.request import ContaminationOptions
from jobs.contamination.sets import Sets
from operators.contamination.evidence import OVERLAP, Evidence, missing
from operators.contamination.overlap import Match, matches, overlap_evidence, read_items, read_matches
from operators.lake import Lake, overlap_job_path
from pipelines.config import ConfigError
from pipelines.overlap.record import read_json


@dataclass(frozen=True)
class Overlaps:
    """What the lake's overlaps say of one benchmark; `config` is that of its run.

    `warn` takes a condition and a warning for the report, which stands where the condition holds.
    """

    lake: Lake
    connection: duckdb.DuckDBPyConnection
    options: ContaminationOptions
    sets: Sets
    config: Mapping[str, Any]
    warn: Callable[[object, str], None]

    def evidence(self) -> list[Evidence]:
        """A row on each overlap, or what is missing."""
        name, options = self.sets.benchmark, self.options
        chosen = self._chosen()
        if not chosen:
            named = ", ".join(options.overlaps)
            why = f"none of {named} has its items" if named else "no overlap of its file"
            command = commands.overlap_command(options.lake, name, self.config)
            return [missing(name, OVERLAP, why, command)]
        rows = []
        for overlap in chosen:
            items, record = read_items(self.connection, name, overlap), self._record(overlap)
            made = _made(record)
            of_items = overlap_evidence(name, items.among(self.sets.items.ids), options.rule, options.max_overlap, made)
            if record.get("state") != "finished":
                of_items = [replace(row, doubt="" if row.exceeds else "it is not finished") for row in of_items]
            shown = read_matches(self.connection, overlap, {key for row in of_items for key in row.examples})
            rows += [replace(row, matches=tuple(shown.get(key, "") for key in row.examples)) for row in of_items]
            if self.sets.own_clean is not None:
                hit = int((items.among(self.sets.own_clean.ids).n_seen > 0).sum())
                self.warn(hit, f"the corpus of overlap {overlap} holds n-grams of {hit:,} items declared clean")
        return rows

    def _record(self, overlap: str) -> dict[str, Any]:
        """What an overlap says of itself; nothing where it is not finished."""
        record = read_json(self.lake, overlap_job_path(overlap)) or {}
        self.warn(record.get("state") != "finished", f"overlap {overlap} is not finished: run its own command again")
        limit = (record.get("corpus") or {}).get("limit")
        self.warn(limit, f"overlap {overlap} saw the first {limit} records of its corpus and no more")
        return record

    def _chosen(self) -> list[str]:
        """The overlaps of the benchmark's own files; else, of those asked for, what has items of the same ids."""
        found = {match.name: match for match in matches(self.connection, self.sets.benchmark)}
        asked = self.options.overlaps or list(found)
        if lacking := [name for name in asked if name not in found]:
            raise ConfigError(f"--overlap: there is no {', '.join(lacking)}; the lake has {', '.join(found) or 'none'}")
        own = [name for name in asked if found[name].is_of_the_same_file]
        if own or not self.options.overlaps:
            return own
        alike: list[Match] = [found[name] for name in asked if found[name].n_shared]
        for match in alike:
            self.warn(
                match.n_shared,
                f"overlap {match.name} shares {match.n_shared:,} ids with {self.sets.benchmark}, but read them from "
                "other files or records: are they the same items?",
            )
        return [match.name for match in alike]


def _made(record: Mapping[str, Any]) -> str:
    """Of which n-grams an overlap is."""
    settings = record.get("options") or {}
    known = {"n", "normalisation"} <= set(settings)
    return f"n-grams of {settings['n']}, {settings['normalisation']}" if known else ""
