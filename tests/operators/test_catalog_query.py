"""Read-only queries: what is answered, what is refused, and what a stranger's SQL cannot reach."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operators.query import QueryError, query, query_batches
from schemas import DOCUMENTS, TOKENS

PART = "a" * 32


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of one document in a folder whose name is a pattern with a quote, beside a secret."""
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "it's [a] lake*"
    token = {"doc_id": 1, "position": 0, "token_id": 5, "byte_start": 0, "n_bytes": 2, "logprob": -1.0}
    sizes = dict.fromkeys(("n_bytes", "n_chars", "n_words", "n_tokens", "n_scored", "zlib_bytes"), 4)
    document = {"doc_id": 1, "key": "k", "source": "s", "row": 0, "text_sha256": "", **sizes}
    for table, row in ((TOKENS, token), (DOCUMENTS, document)):
        path = root / table.name / "run_id=demo" / f"{PART}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row], schema=table.arrow()), path)
    return root


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from tokens",
        "from tokens",
        "values (1), (2)",
        "-- a remark\nselect 1;",
        "with t as (from tokens) select * from t union all from t",
        "with recursive n as (select 1 as i union all select i + 1 from n where i < 3) from n",
        "describe tokens",
        "show tables",
        "summarize documents",
        "explain select * from tokens",
        "Explain  Analyze select * from tokens",
        "pivot documents on label in (0, 1) using count(*)",
        "from min_k('demo', ratio := 0.5)",
        "with s as (from min_k('demo')) from auroc('s')",
        "select 'insert into x; copy y to z' as \"INSERT_QUERY_NODE\"",
    ],
)
def test_reading_is_answered(lake: Path, sql: str) -> None:
    assert query(lake, sql).num_columns


def test_parameters_are_bound(lake: Path) -> None:
    assert query(lake, "select $a as a", parameters={"a": "x'; --"}).to_pylist() == [{"a": "x'; --"}]
    assert query(lake, "select ? as a", parameters=[1]).to_pylist() == [{"a": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "copy tokens to '{lake}/out.csv'",
        "copy (select 1) to '{outside}/out.csv'",
        "with x as (copy (select 1) to '{lake}/out.csv') select 1",
        "explain analyze with x as (copy (select 1) to '{lake}/out.csv') select 1",
        "explain analyze copy (select 1) to '{lake}/out.csv'",
        "with x as (insert into documents values (1) returning *) from x",
        "select * from (with x as (delete from documents returning *) from x)",
        "create table x as select 1",
        "create view x as select 1",
        "create macro x() as 1",
        "insert into documents values (1)",
        "update documents set label = 1",
        "delete from documents",
        "drop view tokens",
        "attach '{lake}/x.duckdb'",
        "export database '{lake}/out'",
        "set threads = 1",
        "reset threads",
        "pragma database_list",
        "call pragma_version()",
        "install httpfs",
        "load httpfs",
        "begin",
        "checkpoint",
        "prepare p as select 1",
        "use memory",
    ],
)
def test_everything_else_is_refused(lake: Path, sql: str) -> None:
    before = sorted(lake.parent.rglob("*"))
    with pytest.raises(QueryError, match="only statements that read"):
        query(lake, sql.format(lake=_inside_quotes(lake), outside=_inside_quotes(lake.parent)))
    assert sorted(lake.parent.rglob("*")) == before


@pytest.mark.parametrize("sql", ["select 1; select 2", "select 1; drop view tokens", "", "-- nothing"])
def test_one_statement_only(lake: Path, sql: str) -> None:
    with pytest.raises(QueryError, match="expected one statement"):
        query(lake, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "from read_text('{outside}/secret.txt')",
        "from read_text('{lake}/../secret.txt')",
        "from read_text('{lake}/tokens/*/../../../secret.txt')",
        "from read_text('{lake}/link.txt')",
        "from glob('{outside}/*')",
        "from '{outside}/secret.csv'",
        "from read_csv('{outside}/secret.txt')",
        "from read_blob('/proc/self/environ')",
        "from 'https://example.org/x.parquet'",
        "from duckdb_secrets()",
    ],
)
def test_nothing_outside_the_lake_is_read(lake: Path, sql: str) -> None:
    (lake / "link.txt").symlink_to(lake.parent / "secret.txt")
    with pytest.raises(QueryError, match="Permission Error"):
        query(lake, sql.format(lake=_inside_quotes(lake), outside=_inside_quotes(lake.parent)))


def test_python_variables_are_not_tables(lake: Path) -> None:
    secret = pa.table({"x": [1]})
    with pytest.raises(QueryError, match="secret does not exist"):
        query(lake, "from secret")
    assert secret.num_rows == 1


def test_lake_behind_a_link(lake: Path) -> None:
    link = lake.parent / "link"
    link.symlink_to(lake)
    assert query(link, "select count(*) as n from tokens").to_pylist() == [{"n": 1}]


@pytest.mark.parametrize(
    ("sql", "message", "hint"),
    [
        ("from token", "token does not exist", "hint: the tables here are tokens, documents"),
        ("select logprobs from tokens", '"logprobs" not found', "hint: `describe tokens`"),
        ("select t.nothing from tokens t", '"nothing"', "hint: `describe tokens`"),
        ("from mink('demo')", "mink does not exist", "duckdb_functions"),
        ("selec 1", "syntax error", ""),
        ("select 'a'::int from tokens", "Could not convert", ""),
        ("select $a", "a", ""),
    ],
)
def test_errors_are_duckdbs_with_a_hint(lake: Path, sql: str, message: str, hint: str) -> None:
    with pytest.raises(QueryError) as caught:
        query(lake, sql)
    assert message in str(caught.value)
    assert hint in str(caught.value).splitlines()[-1]


def test_batches_stream(lake: Path) -> None:
    with query_batches(lake, "select i from range(10_000) t(i)", batch_rows=2048) as reader:
        assert [batch.num_rows for batch in reader] == [2048] * 4 + [10_000 - 4 * 2048]


def test_errors_while_streaming_are_query_errors(lake: Path) -> None:
    sql = "select if(i = 299_999, 'x', '1')::int from range(300_000) t(i)"
    with query_batches(lake, sql, batch_rows=2048) as reader, pytest.raises(QueryError, match="Could not convert"):
        reader.read_all()


def _inside_quotes(path: Path) -> str:
    return str(path).replace("'", "''")
