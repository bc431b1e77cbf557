"""`assay frequencies`: counts the tokens of a corpus, or of a run, and says what was counted and what was not."""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from jobs.errors import printable
from pipelines.config import ConfigError, read_storage_options
from pipelines.logs import configure_logs

if TYPE_CHECKING:
    from operators.token_counts import TokenCounts
    from pipelines.tally import Rejected

_OF_RUNS = ("lake", "name", "from_run", "first_tokens", "overwrite", "storage_options", "engine")


def run_frequencies(lake: str, name: str, from_run: str | None, flags: dict[str, Any]) -> None:
    """Run the verb; see `assay frequencies --help` for the flags."""
    configure_logs()
    started = time.monotonic()
    counts = _of_input(lake, name, flags) if from_run is None else _of_run(lake, name, from_run, flags)
    occurring = int((counts.n > 0).sum())
    print(
        f"corpus {name}: {counts.documents:,} document{'s' * (counts.documents != 1)}, {counts.tokens:,} "
        f"token{'s' * (counts.tokens != 1)}, {occurring:,} of "
        f"{len(counts.n):,} vocabulary ids occur, in {time.monotonic() - started:.1f} s"
    )
    query = f"from dc_pdd('RUN', '{name}') order by score desc limit 5"
    print(f'next:    assay sql {shlex.quote(lake)} "{query}"')


def _of_input(lake: str, name: str, flags: dict[str, Any]) -> TokenCounts:
    from jobs.score import unescaped
    from pipelines.frequencies import FrequenciesJob, count_corpus, plan_frequencies

    if "text_template" in flags:
        flags = {**flags, "text_template": unescaped(flags["text_template"])}
    counted = count_corpus(plan_frequencies(FrequenciesJob.parse(lake=lake, name=name, **flags)))
    say_rejects(counted.rejected)
    return counted.counts


def _of_run(lake: str, name: str, run_id: str, flags: dict[str, Any]) -> TokenCounts:
    from jobs.query import check_lake
    from operators.lake import Lake
    from pipelines.run_frequencies import count_finished_run

    read_again = [flag for flag in flags if flag not in _OF_RUNS]
    if read_again:
        said = ", ".join(f"--{flag.replace('_', '-')}" for flag in read_again)
        raise ConfigError(f"--from-run: it counts what the run holds, so leave out {said}")
    overwrite = flags.get("overwrite")
    if overwrite not in (None, name):
        raise ConfigError(f"--overwrite: it names {overwrite!r}, the corpus is {name!r}")
    options = read_storage_options(flags["storage_options"]) if "storage_options" in flags else None
    check_lake(lake, options)
    first_tokens = flags.get("first_tokens")
    return count_finished_run(
        Lake(lake, options), name, run_id, first_tokens=first_tokens, overwrite=overwrite is not None
    )


def say_rejects(rejected: Rejected) -> None:
    """What was not counted, by reason, on standard error."""
    if not rejected.n:
        return
    n_unreadable = rejected.n_unreadable
    files = f", {n_unreadable:,} of them files or pieces that could not be read to their end" if n_unreadable else ""
    records = "1 record was" if rejected.n == 1 else f"{rejected.n:,} records were"
    print(f"warning: {records} rejected and not counted{files}:", file=sys.stderr)
    for reason, (count, first) in sorted(rejected.reasons.items()):
        shown = printable(first.replace("\n", "\\n"))
        print(f"  {count:>9,}  {reason}; the first: {shown}", file=sys.stderr)
