"""Membership scores on a seed worked out by hand, and what they read of a lake."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import duckdb
import lakes
import pytest
from score_tables import insert, tables

from operators.catalog import connect
from operators.lake import Lake
from operators.scores import ScoreError, create_macros, load_scores

# By hand: document 1 of run `r` has three scored tokens, document 2 has none; x and y are its companions.
#  run doc pos logprob entropy  max  second  rest
SEED = [
    ("r", 1, 0, None, None, None, None, None),
    ("r", 1, 1, -1.0, 1.0, -0.5, -1.5, 0.25),
    ("r", 1, 2, -3.0, 2.5, -1.0, -2.0, 0.5),
    ("r", 1, 3, -2.0, 1.0, -1.5, None, 0.75),
    ("r", 2, 0, None, None, None, None, None),
    ("x", 1, 0, -6.0, None, None, None, None),
    ("x", 1, 1, -4.0, None, None, None, None),
    ("x", 1, 2, -2.0, None, None, None, None),
    ("y", 1, 1, -1.0, None, None, None, None),
    ("y", 1, 2, -2.0, None, None, None, None),
]
MODIFIED = ((1 - math.exp(-1)) + 0.25 + 3 * (1 - math.exp(-3)) + 0.5 + 2 * (1 - math.exp(-2)) + 0.75) / 3


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("lowercase('r', 'x')", -4 / -2),
        ("reference('r', 'y')", -2 + 1.5),
        ("reference_ratio('r', 'y')", -1.5 / -2),
        ("reference_per_byte('r', 'y')", (-6 + 3) / 8),
        ("neighbourhood('r', ['x', 'y'])", -2 + (4 + 1.5) / 2),
        ("neighbourhood('r', ['x', 'y'], parity := true)", -2 + 4),
        ("recall('r', 'x')", -4 / -2),
        ("recall('r', 'x', aligned := true)", -3 / -2),
        ("con_recall('r', 'x', 'y')", (-4 + 1.5) / -2),
        ("con_recall('r', 'x', 'y', gamma := 0.5)", (-4 + 0.75) / -2),
        ("con_recall('r', 'x', 'y', aligned := true)", (-3 + 1.5) / -2),
        ("max_k('r')", -1),  # k = max(1, floor(0.6))
        ("max_k('r', ratio := 0.7)", (-1 - 2) / 2),
        ("surp('r')", None),  # the one least likely token has entropy 2.5
        ("surp('r', max_entropy := 3)", -3),
        ("surp('r', ratio := 0.7)", -2),
        ("surp('r', ratio := 0.7, max_entropy := 3)", (-3 - 2) / 2),
        ("surp('r', max_entropy := 3, parity := true)", None),  # k = 0
        ("max_renyi('r')", -2.5),
        ("max_renyi('r', ratio := 0.7)", -(2.5 + 1) / 2),
        ("max_renyi_inf('r', ratio := 0.7)", -(1.5 + 1) / 2),
        ("polarized_distance('r')", -3 + 1),
        ("polarized_distance('r', low := 0.7)", (-3 - 2) / 2 + 1),
        ("pac('r', ['x', 'y'])", (4 + 1) / 2 - 2),
        ("pac('r', ['y'])", 1 - 2),
        ("max_prob_gap('r')", (1 + 1) / 2),
        ("modified_entropy('r')", -MODIFIED),
        ("min_k_window('r', width := 2)", -2.5),  # windows: -2, -2.5
        ("min_k_window('r', width := 2, ratio := 1)", (-2 - 2.5) / 2),
        ("min_k_window('r', width := 2, stride := 2)", -2),
        ("min_k_window('r', width := 4)", None),
    ],
)
def test_scores_by_hand(seeded: duckdb.DuckDBPyConnection, call: str, expected: float | None) -> None:
    rows = seeded.execute(f"from {call} order by doc_id").fetchall()
    assert rows == [("r", 1, expected if expected is None else pytest.approx(expected, rel=1e-7)), ("r", 2, None)]


RANKING = {"min_k": {}, "min_k_plus_plus": {}, "max_k": {}, "max_renyi": {}, "surp": {"max_entropy": 9}}
SHARES = [
    *((name, "ratio", more, ("score",)) for name, more in RANKING.items()),
    *((f"max_renyi_{order}", "ratio", {}, ("score",)) for order in ("half", "2", "inf")),
    ("min_k_window", "ratio", {"width": 2}, ("score",)),
    *(("polarized_distance", end, {}, ("score",)) for end in ("low", "high")),
    *(("pac", end, {"swapped": ["x"]}, ("score",)) for end in ("low", "high")),
    *((name, "ratios", {}, ("score",)) for name in ("min_k_ratios", "min_k_plus_plus_ratios")),
    ("all_scores", "ratio", {"max_entropy": 9}, tuple(RANKING)),
    *(("all_scores", end, {}, ("polarized_distance",)) for end in ("low", "high")),
]


@pytest.mark.parametrize(("name", "share", "more", "columns"), SHARES)
def test_a_share_below_zero_is_none_of_the_other_end(
    seeded: duckdb.DuckDBPyConnection, name: str, share: str, more: dict[str, Any], columns: tuple[str, ...]
) -> None:
    """DuckDB would take it for one: the card refuses it, and its statement alone gives NULL."""
    card = load_scores()[name]
    bound = card.bind(run_id="r", **more)
    question = f"select {', '.join(columns)} from ({card.body}) where doc_id = 1"

    def ask(value: float) -> list[tuple[Any, ...]]:
        return seeded.execute(question, {**bound, share: [value] if share == "ratios" else value}).fetchall()

    assert ask(-0.2) == [(None,) * len(columns)]
    assert None not in ask(0.9)[0]
    with pytest.raises(ScoreError, match=f"{share} = .*-0.2.* is not in"):
        card.bind(run_id="r", **more, **{share: [-0.2] if share == "ratios" else -0.2})


@pytest.fixture(scope="module")
def seeded() -> Iterator[duckdb.DuckDBPyConnection]:
    names = ("run_id", "doc_id", "position", "logprob", "entropy", "logprob_max", "logprob_second", "rest_entropy")
    with tables() as connection:
        insert(connection, "tokens", [dict(zip(names, row, strict=True)) for row in SEED])
        documents = [{"run_id": run_id, "doc_id": i, "n_bytes": 8} for run_id in "rxy" for i in (1, 2)]
        insert(connection, "documents", documents)
        connection.execute("update tokens set logprob_std = 1, renyi_half = entropy, renyi_2 = entropy")
        create_macros(connection)
        yield connection


# What is read


@pytest.mark.parametrize(
    "call",
    [
        *("loss('a')", "all_scores('a')", "min_k_window('a')", "lowercase('a', 'b')", "reference_per_byte('a', 'b')"),
        *("neighbourhood('a', ['b', 'c'])", "pac('a', ['b', 'c'])", "con_recall('a', 'b', 'c')"),
    ],
)
def test_no_part_of_another_run_is_opened(spoilt_lake: duckdb.DuckDBPyConnection, call: str) -> None:
    """The tokens of run `d` are no Parquet: to open one of its parts is an error."""
    rows = spoilt_lake.execute(f"from {call}").fetchall()
    assert {row[0] for row in rows} == {"a"}
    assert len(rows) == 5
    with pytest.raises(duckdb.Error, match="too small to be a Parquet file"):
        spoilt_lake.execute("select avg(logprob) from tokens where run_id = 'd'").fetchall()


@pytest.fixture(scope="module")
def spoilt_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    root = tmp_path_factory.mktemp("lake")
    for run_id in "abcd":
        lakes.write_run(Lake(str(root)), run_id, features=())
    for path in root.glob("tokens/run_id=d/*.parquet"):
        path.write_bytes(b"no Parquet")
    with connect(root) as connection:
        yield connection


@pytest.mark.parametrize("name", ["max_prob_gap", "modified_entropy", "max_renyi_half", "max_renyi_2", "max_renyi_inf"])
def test_runs_without_a_column_group_have_no_score(spoilt_lake: duckdb.DuckDBPyConnection, name: str) -> None:
    assert [row[2] for row in spoilt_lake.execute(f"from {name}('a')").fetchall()] == [None] * 5
