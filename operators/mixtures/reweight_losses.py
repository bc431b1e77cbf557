"""Losses of two runs on the same tokens: token by token, and summed by document, range by range of doc_id.

    tokens of the run --- same doc_id, position ---> excess = ln p of the reference - ln p of the run   (nats)
      (left join)         same token_id, else refused

A token counts where both runs have a prediction of it. Two runs of one text differ there only by their windows or by a
token that is fed first; differing tokens at one place mean other texts or another tokenizer, and nothing is computed.
A range is held in memory: some 250 bytes a token while DuckDB joins it and numpy takes it over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.memorization.ranges import doc_id_ranges
from operators.score_cards import ScoreError

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.intp]

RANGE_TOKENS = 2_000_000  # of the run, in a range
DOMAIN = "domain"
UNNAMED = "(no domain)"  # what documents without a domain are called, together
MOST_COMPONENTS = 2000

_JOINED = """
    from (from tokens where run_id = $run_id and doc_id >= $start and doc_id < $end) t
    left join (from tokens where run_id = $reference and doc_id >= $start and doc_id < $end) r
      on r.doc_id = t.doc_id and r.position = t.position
"""
_EXCESS = "r.logprob::double - t.logprob"


@dataclass
class Tally:
    """Tokens of a run that were met: `scored` by it, and of those `paired` with a prediction by the reference too.
    `infinite`: paired, but with an excess that is no finite number; they are left out."""

    scored: int = 0
    paired: int = 0
    infinite: int = 0

    def add(self, scored: int, paired: int, finite: int) -> None:
        self.scored += scored
        self.paired += paired
        self.infinite += paired - finite


@dataclass(frozen=True)
class Components:
    """The components of a run's documents, sorted by name; documents that name none are `UNNAMED`.

    `expression`: SQL over `documents` that gives a document's; `by`: bound to it.
    """

    names: tuple[str, ...]
    expression: str
    by: str

    def codes(self, column: pa.ChunkedArray) -> Codes:
        """The place of each document's component."""
        named = pc.fill_null(column.cast(pa.string()), UNNAMED)
        return np.asarray(pc.index_in(named, value_set=pa.array(self.names, pa.string())).to_numpy(), dtype=np.intp)


def read_components(connection: duckdb.DuckDBPyConnection, run_id: str, by: str = DOMAIN) -> Components:
    """The components of a run's documents by domain, or by a column that was kept.

    Raises:
        ScoreError: no document has such a column, there are too many, or one is called as those without are.
    """
    expression = "domain" if by == DOMAIN else "attributes[$by::varchar]"
    sql = f"""
        select distinct {expression} as name from documents
        where run_id = $run_id and ($by::varchar is not null) order by name limit {MOST_COMPONENTS + 2}
    """
    found = [name for (name,) in connection.execute(sql, {"run_id": run_id, "by": by}).fetchall()]
    named = [name for name in found if name is not None]
    if not named:
        raise ScoreError(
            f"--by {by}: no document of run {run_id} has one: `assay score` keeps domains with --domain-column, other "
            "columns with --keep-columns"
        )
    if len(found) > MOST_COMPONENTS:
        raise ScoreError(f"--by {by}: run {run_id} has more than {MOST_COMPONENTS:,} of them; name a coarser column")
    if UNNAMED in named:
        raise ScoreError(f"--by {by}: a domain is called {UNNAMED}, as documents without one are here: rename it")
    names = sorted([*named, *[UNNAMED] * (len(named) < len(found))])
    return Components(tuple(names), expression, by)


def ranges(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[tuple[int, int]]:
    """Ranges of doc_id with some `RANGE_TOKENS` tokens of a run each."""
    sql = "select coalesce(sum(n_tokens), 0) from documents where run_id = $run_id"
    ((total,),) = connection.execute(sql, {"run_id": run_id}).fetchall()
    return list(doc_id_ranges(max(1, -(-int(total) // RANGE_TOKENS))))


def documents_of(
    connection: duckdb.DuckDBPyConnection, run_id: str, components: Components, within: tuple[int, int]
) -> tuple[Numbers, Codes]:
    """Documents of a range: doc_ids [N] ascending, and the component of each."""
    sql = f"""
        select doc_id, {components.expression} as component from documents
        where run_id = $run_id and doc_id >= $start and doc_id < $end and ($by::varchar is not null) order by doc_id
    """
    bound = {"run_id": run_id, "by": components.by, "start": within[0], "end": within[1]}
    rows = connection.sql(sql, params=bound).to_arrow_table()
    return rows["doc_id"].to_numpy(), components.codes(rows["component"])


def clipped_sums(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    reference: str,
    doc_ids: Numbers,
    within: tuple[int, int],
    tally: Tally,
) -> Floats:
    """Of each document [N, 2]: its tokens, and the sum over them of the excess loss, where that is above 0.

    Raises:
        ScoreError: the runs hold other tokens at one place.
    """
    sql = f"""
        select doc_id, sum(n_scored) as n_scored, sum(n_paired) as n_paired, sum(n_other) as n_other,
          count(excess) as n, coalesce(sum(greatest(0, excess)), 0) as clipped
        from (
          select t.doc_id, (t.logprob is not null)::int as n_scored,
            (t.logprob is not null and r.logprob is not null)::int as n_paired,
            coalesce(r.token_id <> t.token_id, false)::int as n_other,
            case when isfinite({_EXCESS}) then {_EXCESS} end as excess
          {_JOINED}
        )
        group by doc_id order by doc_id
    """
    rows = connection.sql(sql, params=_bound(run_id, reference, within)).to_arrow_table()
    _check_same(run_id, reference, _total(rows, "n_other"))
    tally.add(*(_total(rows, name) for name in ("n_scored", "n_paired", "n")))
    found = np.zeros((doc_ids.size, 2))
    places, is_there = _places(doc_ids, rows["doc_id"].to_numpy())
    found[places] = np.column_stack([rows["n"].to_numpy(), rows["clipped"].to_numpy()])[is_there]
    return found


def token_excesses(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    reference: str,
    doc_ids: Numbers,
    within: tuple[int, int],
    tally: Tally,
) -> tuple[Codes, Floats]:
    """Every token with a finite excess, in any order: the place of its document in `doc_ids`, and the excess in nats.

    Raises:
        ScoreError: the runs hold other tokens at one place.
    """
    sql = f"""
        select t.doc_id, r.logprob is not null as is_paired, coalesce(r.token_id <> t.token_id, false) as is_other,
          {_EXCESS} as excess
        {_JOINED}
        where t.logprob is not null or r.token_id <> t.token_id
    """
    rows = connection.sql(sql, params=_bound(run_id, reference, within)).to_arrow_table()
    _check_same(run_id, reference, _total(rows, "is_other"))
    excess = rows["excess"].to_numpy()
    is_finite = np.isfinite(excess)
    tally.add(rows.num_rows, _total(rows, "is_paired"), int(is_finite.sum()))
    places, is_there = _places(doc_ids, rows["doc_id"].to_numpy()[is_finite])
    return places, excess[is_finite][is_there] + 0.0  # no -0.0, which sorts below 0.0


def _bound(run_id: str, reference: str, within: tuple[int, int]) -> dict[str, object]:
    return {"run_id": run_id, "reference": reference, "start": within[0], "end": within[1]}


def _total(rows: pa.Table, name: str) -> int:
    return int(pc.sum(rows[name]).as_py() or 0)


def _places(doc_ids: Numbers, wanted: Numbers) -> tuple[Codes, npt.NDArray[np.bool_]]:
    """Where each of the wanted stands in `doc_ids`, those that are not there left out; and which are."""
    if not doc_ids.size:
        return np.zeros(0, dtype=np.intp), np.zeros(wanted.size, dtype=bool)
    places = np.minimum(np.searchsorted(doc_ids, wanted), doc_ids.size - 1)
    is_there = doc_ids[places] == wanted
    return np.asarray(places[is_there], dtype=np.intp), np.asarray(is_there)


def _check_same(run_id: str, reference: str, n_other: int) -> None:
    if n_other:
        raise ScoreError(
            f"runs {run_id} and {reference} hold different tokens at {n_other:,} places of the same documents: they "
            "need one tokenizer, the same texts, and the same token fed first"
        )


def documents_apart(connection: duckdb.DuckDBPyConnection, run_id: str, reference: str) -> tuple[int, int]:
    """How many documents only the run has, and how many only the reference."""
    sql = """
        select
          (select count(*) from documents where run_id = $run_id
            and doc_id not in (select doc_id from documents where run_id = $reference)),
          (select count(*) from documents where run_id = $reference
            and doc_id not in (select doc_id from documents where run_id = $run_id))
    """
    ((only_run, only_reference),) = connection.execute(sql, {"run_id": run_id, "reference": reference}).fetchall()
    return int(only_run), int(only_reference)


def check_runs(runs: Sequence[str], reference: str) -> None:
    """Refuse runs that are named twice, or that are the reference itself.

    Raises:
        ScoreError: they are.
    """
    faults = [f"run {run} is named twice" for run in dict.fromkeys(runs) if list(runs).count(run) > 1]
    faults += [f"run {run} is the reference itself" for run in dict.fromkeys(runs) if run == reference]
    if faults:
        raise ScoreError("; ".join(faults))
