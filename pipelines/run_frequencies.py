"""Counts the tokens of a run that the lake holds already: no text is read, no tokenizer needed."""

from __future__ import annotations

from operators.lake import Lake
from operators.token_counts import CountedCorpus, Fingerprints, TokenCounts
from pipelines.config import ConfigError
from pipelines.frequencies import check_free, write_corpus
from pipelines.plan import package_versions
from pipelines.score import RunError


def count_finished_run(
    lake: Lake, corpus: str, run_id: str, *, first_tokens: int | None = None, overwrite: bool = False
) -> TokenCounts:
    """Count the tokens of a run's documents and write them as the frequencies of `corpus`.

    Raises:
        ConfigError: the lake has no such run, the run is not finished or without documents, or the name is taken.
        RunError: the run's parts cannot be read, or hold ids beyond its vocabulary; nothing is written then.
    """
    import duckdb

    from operators.catalog import connect
    from operators.frequencies import count_run
    from operators.storage.remote import redact

    check_free(lake, corpus, overwrite=overwrite)
    try:
        ledger = lake.read_run(run_id)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"--from-run: {error}") from None
    if ledger.get("state") != "finished":
        raise ConfigError(f"--from-run {run_id}: the run is {ledger.get('state')}; finish it first, by its own command")
    try:
        with connect(lake.root, runs=[run_id], storage_options=lake.storage_options, macros=False) as connection:
            counts = count_run(connection, run_id, int(ledger["model"]["vocab_size"]), first_tokens)
    except (duckdb.Error, ValueError) as error:
        said = redact(str(error), lake.storage_options)
        raise RunError(f"--from-run {run_id}: {said}; `assay verify` says which parts are damaged") from None
    if not counts.documents:
        raise ConfigError(f"--from-run {run_id}: the run has no documents to count")
    facts = {
        "from_run": run_id,
        "first_tokens": first_tokens,
        "documents": counts.documents,
        "tokens": counts.tokens,
        "versions": package_versions(),
    }
    write_corpus(lake, corpus, CountedCorpus(counts, Fingerprints(ledger["tokenizer"]["fingerprint"]), facts))
    return counts
