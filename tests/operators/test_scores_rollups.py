"""Scores from roll-ups: the same numbers as from the tokens, where the whole run has them, and without its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from lakes import write_records

from operators.catalog import connect, write_catalog
from operators.lake import Lake, Part
from operators.parquet import encode
from operators.scores import Score, load_scores, score_table
from operators.verify import verify
from operators.write import PartWriter, WriteOptions
from schemas import DOCUMENTS
from schemas.documents import ROLLUPS


def is_kept(card: Score) -> bool:
    """Whether the roll-up is the score at its defaults."""
    values = {p.name: p.default for p in card.settings if f"${p.name}" in card.rollup_if}
    with duckdb.connect() as connection:
        return bool(card.rollup) and connection.execute(f"select {card.rollup_if}", values).fetchall() == [(True,)]


SCORES = [name for name, card in load_scores().items() if is_kept(card)]
RUN, OTHER = "r", "other"


def record(rng: np.random.Generator, row: int, size: int) -> dict[str, Any]:
    """A scored record; a fifth of its tokens are certain, and of some of those the model was wrong."""
    certain = rng.random(size) < 0.2
    wrong = certain & (rng.random(size) < 0.1)
    columns = {
        "token_id": np.arange(size),
        "byte_start": np.arange(size),
        "n_bytes": np.ones(size, int),
        "logprob": np.where(certain & ~wrong, 0.0, -rng.exponential(2, size)),
        "entropy": np.where(certain, 0.0, rng.gamma(1, 2, size)),
        "logprob_std": np.where(certain, 0.0, rng.uniform(0.1, 2, size)),
        "rank": np.where(certain & ~wrong, 1, rng.geometric(0.3, size)),
    }
    lists = {name: values.tolist() for name, values in columns.items()}
    for name in ("logprob", "entropy", "logprob_std", "rank"):
        lists[name][0] = None
    text = "".join(map(chr, rng.integers(97, 123, size)))
    return {"source": "s", "row": row, "key": f"s#{row}", "text": text, **lists}


@pytest.fixture(params=["compact", "full"])
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    """Two parts of one run, single tokens and long documents among them, and another run that holds the first part."""
    rng = np.random.default_rng(1)
    records = [record(rng, row, int(size)) for row, size in enumerate([1, 2, 3, 5, 9, 40, 200, 3000, *range(20, 30)])]
    lake = Lake(str(tmp_path / "lake"))
    for run_id, blocks in ((RUN, (records[:9], records[9:])), (OTHER, (records[:9],))):
        for block in blocks:
            write_records(PartWriter(WriteOptions(lake, run_id, precision=request.param)), block)
        lake.write_run(run_id, {"run_id": run_id, "state": "interrupted"})
    assert verify(lake) == []
    return lake


def spoil_tokens(lake: Lake, run_id: str = RUN) -> None:
    for part in lake.parts("tokens", run_id):
        lake.storage.write(part.path, b"not Parquet")


def drop_rollups(lake: Lake, part: Part) -> None:
    """As a part from before there were any."""
    with lake.storage.parquet(part.path) as file:
        old = file.read().drop_columns([c.name for c in DOCUMENTS.group(ROLLUPS)])
    lake.storage.write(part.path, encode(old, DOCUMENTS))


def of_tokens(connection: duckdb.DuckDBPyConnection, run_id: str = RUN) -> dict[str, dict[int, float | None]]:
    """Every score by its file's own statement, which reads tokens."""
    cards = load_scores()
    rows = {name: connection.execute(cards[name].sql, cards[name].bind(run_id=run_id)).fetchall() for name in SCORES}
    return {name: {doc_id: score for _, doc_id, score in found} for name, found in rows.items()}


def near(expected: dict[str, dict[int, float | None]]) -> dict[str, dict[int, Any]]:
    return {
        name: {i: None if v is None else pytest.approx(v, rel=1e-12, abs=1e-12) for i, v in values.items()}
        for name, values in expected.items()
    }


def as_dict(table: pa.Table) -> dict[str, dict[int, float | None]]:
    found: dict[str, dict[int, float | None]] = {}
    for row in table.to_pylist():
        assert row["run_id"] == RUN
        assert row["doc_id"] not in found.setdefault(row["score"], {}), "a document twice"
        found[row["score"]][row["doc_id"]] = row["value"]
    return found


def test_every_score_is_the_same_from_the_rollups_and_opens_no_tokens(lake: Lake) -> None:
    with connect(lake.root) as connection:
        expected = of_tokens(connection)
    assert all(len(values) == 18 for values in expected.values())
    spoil_tokens(lake)
    with connect(lake.root) as connection:
        for slices in (1, 3):
            assert as_dict(score_table(connection, RUN, SCORES, slices=slices)) == near(expected)
        with pytest.raises(duckdb.Error, match="Parquet"):
            score_table(connection, RUN, ["min_k"], {"min_k": {"ratio": 0.1}})


def test_parameters_that_are_not_kept_go_to_the_tokens(lake: Lake) -> None:
    changed = {"min_k": {"ratio": 0.1}, "min_k_plus_plus": {"parity": True}}
    cards = load_scores()
    with connect(lake.root) as connection:
        found = as_dict(score_table(connection, RUN, ["loss", *changed], changed))
        for name, values in changed.items():
            rows = connection.execute(cards[name].sql, cards[name].bind(run_id=RUN, **values)).fetchall()
            assert found[name] == {doc_id: score for _, doc_id, score in rows}
            assert found[name] != of_tokens(connection)[name]


@pytest.mark.parametrize("old_parts", [1, 2])
def test_a_run_that_lacks_rollups_anywhere_is_read_from_its_tokens(lake: Lake, old_parts: int) -> None:
    with connect(lake.root) as connection:
        expected = of_tokens(connection)
    for part in lake.parts("documents", RUN)[:old_parts]:
        drop_rollups(lake, part)
    assert verify(lake) == []
    with connect(lake.root) as connection:
        assert as_dict(score_table(connection, RUN, SCORES)) == near(expected)
        for name in SCORES:
            rows = connection.execute(f"from {name}('{RUN}')").fetchall()
            assert {doc_id: score for _, doc_id, score in rows} == near(expected)[name]
    spoil_tokens(lake)
    with connect(lake.root) as connection, pytest.raises(duckdb.Error, match="Parquet"):
        score_table(connection, RUN, SCORES)


def test_another_runs_old_parts_do_not_matter(lake: Lake) -> None:
    with connect(lake.root) as connection:
        expected = of_tokens(connection)
    for part in lake.parts("documents", OTHER):
        drop_rollups(lake, part)
    spoil_tokens(lake)
    with connect(lake.root) as connection:
        assert as_dict(score_table(connection, RUN, SCORES)) == near(expected)


def test_macros_answer_from_the_rollups(lake: Lake) -> None:
    """Shown by numbers that only the roll-ups have: of a run whose roll-ups were changed afterwards."""
    with connect(lake.root) as connection:
        expected = of_tokens(connection)
        for name in SCORES:
            rows = connection.execute(f"from {name}('{RUN}')").fetchall()
            assert {doc_id: score for _, doc_id, score in rows} == near(expected)[name]
        together = connection.sql(f"from all_scores('{RUN}')").to_arrow_table()
        for name in set(SCORES) & set(together.column_names):
            found = dict(zip(together["doc_id"].to_pylist(), together[name].to_pylist(), strict=True))
            assert found == near(expected)[name]
    for part in lake.parts("documents", RUN):
        with lake.storage.parquet(part.path) as file:
            rows = file.read()
        doubled = pa.array([None if v is None else 2 * v for v in rows["min_k_20"].to_pylist()], pa.float64())
        index = rows.schema.get_field_index("min_k_20")
        lake.storage.write(part.path, encode(rows.set_column(index, rows.schema.field(index), doubled), DOCUMENTS))
    with connect(lake.root) as connection:
        kept = dict(connection.execute(f"select doc_id, score from min_k('{RUN}')").fetchall())
        assert kept == {i: None if v is None else pytest.approx(2 * v) for i, v in expected["min_k"].items()}
        for changed in ("ratio := 0.1", "parity := true"):
            rows = connection.execute(f"select doc_id, score from min_k('{RUN}', {changed})").fetchall()
            assert all(score is None or kept[doc_id] != score for doc_id, score in rows if kept[doc_id])


def test_macros_that_answer_from_the_rollups_open_no_tokens(lake: Lake) -> None:
    with connect(lake.root) as connection:
        before = {name: connection.execute(f"from {name}('{RUN}') order by doc_id").fetchall() for name in SCORES}
    spoil_tokens(lake)
    path = write_catalog(lake.root)
    with connect(lake.root) as fresh, duckdb.connect(path, read_only=True) as stored:
        for connection in (fresh, stored):
            for name in SCORES:
                assert connection.execute(f"from {name}('{RUN}') order by doc_id").fetchall() == before[name]
            with pytest.raises(duckdb.Error, match="Parquet"):
                connection.execute(f"from min_k('{RUN}', ratio := 0.1)").fetchall()
