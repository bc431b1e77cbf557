"""Score files on seeds worked out by hand, their cards, and the long table."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from operators.score_cards import Companion, Score
from operators.scores import (
    SCORE_TABLE,
    Request,
    ScoreError,
    create_macros,
    load_scores,
    parse_score,
    plan_scores,
    score_batches,
    score_table,
)
from operators.scores.compute import shared_scans
from operators.scores.macros import _macro_sql
from schemas import DOCUMENTS, RUNS, SCORES, TABLES, TOKENS

LN2 = math.log(2)

# Six tokens. Document 1 has three scored tokens; document 2 has one, which was certain (standard deviation 0).
#          doc pos  logprob  entropy  std   rank
SEED = [
    (1, 0, None, None, None, None),
    (1, 1, -1.0, 1.0, 1.0, 2),
    (1, 2, -3.0, 2.0, 0.5, 8),
    (1, 3, -2.0, 1.0, 2.0, 4),
    (2, 0, None, None, None, None),
    (2, 1, -0.5, 0.5, 0.0, 1),
]
# doc  domain  n_bytes  zlib_bytes
DOCUMENT_SEED = [(1, "a", 8, 10), (2, "b", 2, 4)]


def database(
    tokens: list[tuple[Any, ...]], documents: list[tuple[Any, ...]], bos_prepended: bool | None = None
) -> duckdb.DuckDBPyConnection:
    """The catalog's tables in memory: run `demo`, and a run `other` with the same documents and other numbers."""
    connection = duckdb.connect()
    for table in TABLES:
        connection.execute(f"create table {table.name} ({', '.join(f'{c.name} {c.sql_type}' for c in table.columns)})")
    names = ("doc_id", "position", "logprob", "entropy", "logprob_std", "rank")
    insert(connection, "tokens", [{"run_id": "demo", **dict(zip(names, row, strict=True))} for row in tokens])
    insert(connection, "tokens", [{"run_id": "other", "doc_id": row[0], "logprob": -9.0} for row in tokens])
    names = ("doc_id", "domain", "n_bytes", "zlib_bytes")
    for run_id in ("demo", "other"):
        insert(connection, "documents", [{"run_id": run_id, **dict(zip(names, row, strict=True))} for row in documents])
    insert(connection, "runs", [{"run_id": "demo", "state": "finished", "bos_prepended": bos_prepended}])
    connection.execute("insert into frequencies by name select 'wiki' as corpus, 3 as token_id, 1 as n")
    connection.execute("alter table tokens add column logprob_mean float")
    connection.execute("update tokens set logprob_mean = -entropy")
    create_macros(connection)
    return connection


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    declared = {"tokens": TOKENS, "documents": DOCUMENTS, "runs": RUNS}[table]
    schema = pa.schema([(c.name, c.type) for c in declared.columns if c.type != pa.list_(pa.float16())])
    filled = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    connection.register("filled", filled)
    connection.execute(f"insert into {table} by name from filled")
    connection.unregister("filled")


@pytest.fixture
def seeded() -> Iterator[duckdb.DuckDBPyConnection]:
    with database(SEED, DOCUMENT_SEED) as connection:
        yield connection


def run_both(connection: duckdb.DuckDBPyConnection, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a score, by bound parameters and by its macro, which must agree."""
    card = load_scores()[name]
    bound = connection.execute(card.sql, card.bind(**parameters)).fetchall()
    first, *others = [(p.macro_name, parameters[p.name]) for p in card.parameters if p.name in parameters]
    arguments = ", ".join([f"'{first[1]}'", *(f"{key} := {json.dumps(value)}" for key, value in others)])
    macro = connection.execute(f"from {name}({arguments})").fetchall()
    assert sorted(map(repr, macro)) == sorted(map(repr, bound))
    return sorted(bound, key=lambda row: tuple(map(repr, row)))


def near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters", "first", "second"),
    [
        ("loss", {}, -2.0, -0.5),
        ("zlib", {}, -0.2, -0.125),
        ("min_k", {}, -3.0, -0.5),  # k = max(1, floor(0.6)) = 1
        ("min_k", {"ratio": 0.7}, -2.5, -0.5),  # k = floor(2.1) = 2: (-3 - 2) / 2
        ("min_k", {"ratio": 1.0}, -2.0, -0.5),
        ("min_k", {"parity": True}, None, None),  # k = 0
        ("min_k", {"parity": True, "ratio": 0.7}, -2.5, None),
        # z of document 1: 0, -2, -0.5; of document 2: 0 / 0
        ("min_k_plus_plus", {}, -2.0, None),
        ("min_k_plus_plus", {"ratio": 0.7}, -1.25, None),
        ("min_k_plus_plus", {"parity": True, "ratio": 1.0}, -2.5 / 3, None),
        ("perplexity", {}, math.exp(2), math.exp(0.5)),
        ("log_rank", {}, -2 * LN2, 0.0),  # ln 2 + ln 8 + ln 4 = 6 ln 2
        ("lrr", {}, 1 / LN2, math.inf),
        ("fast_detectgpt", {}, -2 / math.sqrt(5.25), None),  # (0 - 1 - 1) / sqrt(1 + 0.25 + 4)
    ],
)
def test_document_scores_by_hand(
    seeded: duckdb.DuckDBPyConnection, name: str, parameters: dict[str, Any], first: float | None, second: float | None
) -> None:
    rows = run_both(seeded, name, run_id="demo", **parameters)
    assert [row[:2] for row in rows] == [("demo", 1), ("demo", 2)]
    assert [row[2] for row in rows] == [near(first), near(second)]


@pytest.mark.parametrize("bos_prepended", [True, False, None])
def test_bits_per_byte_by_hand(bos_prepended: bool | None) -> None:
    with database(SEED, DOCUMENT_SEED, bos_prepended) as connection:
        rows = {(row[1], row[2]): row[3:] for row in run_both(connection, "bits_per_byte", run_id="demo")}
    # Document 1: 6 nats on 8 bytes, 3 of 4 tokens; document 2: 0.5 nats on 2 bytes, 1 of 2 tokens.
    scored = {("domain", "a"): 6 / 8, ("domain", "b"): 0.5 / 2, ("corpus", None): 6.5 / 10}
    extrapolated = {("domain", "a"): 2 * 4 / 8, ("domain", "b"): 0.5 * 2 / 2, ("corpus", None): (8 + 1) / 10}
    paloma = {**scored, ("corpus", None): (6 / 8 + 0.5 / 2) / 2}
    assert rows.keys() == scored.keys()
    for key, (n_documents, n_bytes, n_fed, n_scored, lm_eval, macro, correlations) in rows.items():
        assert (n_documents, n_bytes, n_fed, n_scored) == {
            ("domain", "a"): (1, 8, 4, 3),
            ("domain", "b"): (1, 2, 2, 1),
            ("corpus", None): (2, 10, 6, 4),
        }[key]
        assert lm_eval == (pytest.approx(scored[key] / LN2) if bos_prepended else None)
        assert macro == pytest.approx(paloma[key] / LN2)
        assert correlations == pytest.approx(extrapolated[key] / LN2)


def test_document_without_scored_tokens_is_null_everywhere() -> None:
    with database([(3, 0, None, None, None, None)], [(3, None, 1, 9)]) as connection:
        table = score_table(connection, "demo")
    assert table["value"].to_pylist() == [None] * table.num_rows
    alone = {"loss", "zlib", "min_k", "min_k_plus_plus", "perplexity", "log_rank", "lrr", "fast_detectgpt"}
    assert set(table["score"].to_pylist()) >= alone


# Evaluation: scores 3 2 2 1 1 0 of labels 1 1 0 1 0 0, an unlabelled document, an undefined one in each class.
JUDGED = [(1, 3.0, 1), (2, 2.0, 1), (3, 2.0, 0), (4, 1.0, 1), (5, 1.0, 0), (6, 0.0, 0)]
LEFT_OUT = [(7, 9.0, None), (8, None, 1), (9, math.nan, 0), (10, math.nan, 0)]


@pytest.fixture
def judged() -> Iterator[duckdb.DuckDBPyConnection]:
    with database([], []) as connection:
        rows = [{"run_id": "demo", "doc_id": doc_id, "label": label} for doc_id, _, label in JUDGED + LEFT_OUT]
        insert(connection, "documents", rows)
        values = ", ".join(f"('demo', {i}, {'null' if s is None else repr(str(s))})" for i, s, _ in JUDGED + LEFT_OUT)
        given = f"select r as run_id, i as doc_id, s::double as score from (values {values}) v(r, i, s)"
        connection.execute(f"create table given as {given}")
        yield connection


def test_auroc_by_hand(judged: duckdb.DuckDBPyConnection) -> None:
    (row,) = run_both(judged, "auroc", scores="given")
    assert row[:5] == ("demo", 3, 3, 1, 2)
    assert row[5] == pytest.approx((3 + 2.5 + 1.5) / 9)
    # Places of the positives 1, 5/6, 1/2 (mean 7/9); of the negatives 1/2, 1/6, 0 (mean 2/9).
    positive = ((1 - 7 / 9) ** 2 + (5 / 6 - 7 / 9) ** 2 + (1 / 2 - 7 / 9) ** 2) / 2
    negative = ((1 / 2 - 2 / 9) ** 2 + (1 / 6 - 2 / 9) ** 2 + (2 / 9) ** 2) / 2
    assert row[6] == pytest.approx(math.sqrt(positive / 3 + negative / 3))


def test_tpr_at_fpr_by_hand(judged: duckdb.DuckDBPyConnection) -> None:
    rows = run_both(judged, "tpr_at_fpr", scores="given", levels=[0.01, 0.5, 1.0])
    third = pytest.approx(1 / 3)
    assert rows == [
        ("demo", 0.01, third, 0.0, 3.0, 3, 3, False),
        ("demo", 0.5, pytest.approx(2 / 3), third, 2.0, 3, 3, True),
        ("demo", 1.0, 1.0, 1.0, 0.0, 3, 3, True),
    ]


def test_tpr_is_zero_where_the_best_is_a_negative(judged: duckdb.DuckDBPyConnection) -> None:
    judged.execute("update given set score = -score")
    ((_, _, tpr, fpr, threshold, *_),) = run_both(judged, "tpr_at_fpr", scores="given", levels=[0.1])
    assert (tpr, fpr, threshold) == (0.0, 0.0, None)


def test_fpr_at_tpr_by_hand(judged: duckdb.DuckDBPyConnection) -> None:
    rows = run_both(judged, "fpr_at_tpr", scores="given", levels=[0.3, 0.95])
    two_thirds = pytest.approx(2 / 3)
    assert rows == [("demo", 0.3, 0.0, pytest.approx(1 / 3), 3.0, 3, 3), ("demo", 0.95, two_thirds, 1.0, 1.0, 3, 3)]


def test_evaluation_is_null_without_a_class(judged: duckdb.DuckDBPyConnection) -> None:
    judged.execute("update documents set label = 1 where label is not null")
    assert run_both(judged, "auroc", scores="given")[0][1:] == (6, 0, 3, 0, None, None)
    assert run_both(judged, "tpr_at_fpr", scores="given", levels=[0.1])[0][2:4] == (None, None)
    assert run_both(judged, "fpr_at_tpr", scores="given")[0][2:4] == (None, None)


def test_scores_are_evaluated_in_one_statement(seeded: duckdb.DuckDBPyConnection) -> None:
    seeded.execute("update documents set label = doc_id - 1")
    (row,) = seeded.execute("with s as (from min_k('demo', ratio := 0.7)) from auroc('s')").fetchall()
    assert row[:6] == ("demo", 1, 1, 0, 0, 1.0)


# Cards


@pytest.mark.parametrize("card", load_scores().values(), ids=lambda card: card.name)
def test_output_is_as_declared(seeded: duckdb.DuckDBPyConnection, card: Any) -> None:
    seeded.execute("create table given as select run_id, doc_id, 1.0::double as score from documents")
    first = "'given'" if "scores" in card.reads else "'demo'"
    others = ["['other']" if companion.is_list else "'other'" for companion in card.companions]
    described = seeded.execute(f"describe from {card.name}({', '.join([first, *others])})").fetchall()
    assert tuple((row[0], row[1]) for row in described) == card.returns
    assert set(card.units) <= {name for name, _ in card.returns}


@pytest.mark.parametrize("card", load_scores().values(), ids=lambda card: card.name)
def test_file_reads_only_what_it_declares(card: Any) -> None:
    """With every other column gone the statement still runs."""
    with duckdb.connect() as connection:
        types = {(t.name, c.name): c.sql_type for t in TABLES for c in t.columns}
        for table, columns in card.reads.items():
            kinds = ", ".join(f"{c} {types.get((table, c), 'DOUBLE')}" for c in columns)
            connection.execute(f"create table {table} ({kinds})")
        if "frequencies" in card.reads:  # a corpus that is not there is an error
            connection.execute("insert into frequencies by name select 'demo' as corpus, 3 as token_id, 1 as n")
        values = {p.name: "scores" if p.name == "scores" else "demo" for p in card.parameters if p.default is None}
        assert connection.execute(card.sql, card.bind(**values)).fetchall() == []


def requests(names: Iterable[str], **values: Any) -> list[Request]:
    cards = load_scores()
    return [Request(cards[name], name, cards[name].bind(run_id="demo", **values)) for name in names]


def test_scores_of_documents_share_a_scan_and_those_of_other_parameters_do_not() -> None:
    cards = load_scores()
    core = requests(cards["all_scores"].document_scores)
    assert len(core) > 7
    [scan] = shared_scans(cards, core)
    assert set(scan.columns) == {request.variant for request in core}
    tenth = requests(["min_k", "min_k_plus_plus"], ratio=0.1)
    whole, other = shared_scans(cards, [*core, *tenth])
    assert (whole.values["ratio"], set(whole.columns)) == (0.2, set(scan.columns))
    assert (other.values["ratio"], set(other.columns)) == (0.1, {"min_k", "min_k_plus_plus"})
    [single] = shared_scans(cards, requests(["loss"]))
    assert single.sql == cards["loss"].sql


def test_a_parameter_that_the_shared_statement_fixes_keeps_a_score_out_of_it() -> None:
    """A copy of `all_scores` without `parity` gives what the scores' default says, and nothing else."""
    cards = dict(load_scores())
    fixed = cards["all_scores"]
    cards["all_scores"] = replace(
        fixed,
        parameters=tuple(p for p in fixed.parameters if p.name != "parity"),
        sql=fixed.sql.replace("$parity", "false"),
    )
    both = [*requests(["loss", "zlib"]), *requests(["min_k"], parity=True)]
    together, alone = shared_scans(cards, both)
    assert (set(together.columns), set(alone.columns)) == ({"loss", "zlib"}, {"score"})


def test_every_card_names_its_source_and_direction() -> None:
    cards = load_scores()
    assert {card.family for card in cards.values()} >= {"membership", "fit", "detection", "evaluation"}
    for card in cards.values():
        assert card.arxiv or "doi " in card.source
        assert card.higher_means
        assert all(p.description for p in card.parameters)


HEADER = """-- score: x
-- row: one document
-- formula: f
-- higher: more of it
-- source: nobody
-- reads: tokens(run_id)
-- returns: run_id VARCHAR, doc_id BIGINT, score DOUBLE
-- parameter: run_id VARCHAR; the run
select run_id from tokens where run_id = $run_id
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("-- higher: more of it\n", "", "no 'higher'"),
        ("-- higher", "-- direction", "starts with none of"),
        ("score: x", "score: y", "a file of another name"),
        ("tokens(run_id)", "tokens(run_id, nothing)", "there is no tokens.nothing"),
        ("tokens(run_id)", "tokens", "is not table"),
        ("run_id VARCHAR, doc_id", "run_id varchar, doc_id", "returns"),
        ("$run_id", "'demo'", "are used"),
        ("= $run_id", "= $run_id and $other", "'other'"),
        ("run_id VARCHAR; the run", "run_id VARCHAR", "parameter"),
        ("select run_id", "select run_id as run", "'run' is a parameter and a name"),
        ("-- parameter", "-- rollup: min_k_20 if $ratio = 0.2\n-- parameter", r"no parameters \['ratio'\]"),
        ("doc_id BIGINT, score DOUBLE", "x DOUBLE\n-- rollup: min_k_20", "of a score of documents only"),
        ("-- parameter", "-- companion: low VARCHAR; transform\n-- parameter", "companion 'low VARCHAR; transform'"),
        ("-- parameter", "-- companion: low TEXT; reference\n-- parameter", "is not `name TYPE; transform"),
        ("-- parameter", "-- companion: low VARCHAR; transform perturb\n-- parameter", "perturb needs kind"),
        ("-- parameter", "-- companion: low VARCHAR; transform loud\n-- parameter", "no transform 'loud'"),
        ("-- parameter", "-- companion: small VARCHAR; reference\n-- parameter", "'small'.*are declared"),
        ("-- parameter", "-- parameter: k DOUBLE = yes; what\n-- parameter", "'yes' is not JSON"),
        ("-- parameter", "-- parameter: k DOUBLE = 0 in (0, 1]; what\n-- parameter", r"k = 0 is not in \(0, 1\]"),
        ("-- parameter", "-- parameter: k DOUBLE = 1 in 0..1; what\n-- parameter", "not JSON"),
    ],
)
def test_unsound_headers_are_named(old: str, new: str, fault: str) -> None:
    path = Path("family/x.sql")
    assert parse_score(HEADER, path).is_per_document
    assert old in HEADER
    with pytest.raises(ScoreError, match=fault):
        parse_score(HEADER.replace(old, new), path)


def test_companions_are_parameters_after_the_run() -> None:
    companions = (
        "-- companion: b VARCHAR; reference\n-- companion: a VARCHAR[]; transform perturb:kind=butter_fingers\n"
    )
    header = HEADER.replace("-- parameter", f"{companions}-- parameter").replace(
        "= $run_id", "in ($run_id, $b) or list_contains($a::varchar[], run_id)"
    )
    card: Score = parse_score(header, Path("family/x.sql"))
    assert [p.name for p in card.parameters] == ["run_id", "b", "a"]
    suggested = "perturb:kind=butter_fingers"
    assert card.companions == (
        Companion("b", "VARCHAR", "reference"),
        Companion("a", "VARCHAR[]", "transform", suggested, suggested),
    )
    with pytest.raises(ScoreError, match=r"missing \['b', 'a'\]"):
        card.bind(run_id="demo")


# Ranges of parameters

EDGES = {
    ("DOUBLE", "(0, 1]"): ([5e-324, 0.5, 1, 1.0], [0, -0.5, 1.0000001, math.inf, math.nan, "0.5", True, None, [0.5]]),
    ("DOUBLE", "[0, inf]"): ([0, math.inf, 1e308], [-5e-324, -math.inf, math.nan]),
    ("INTEGER", "[1, inf)"): ([1, 2**31 - 1], [0, -1, math.inf]),
    ("DOUBLE[]", "(0, 1]"): ([[], [0.1, 1]], [[0.1, 0], [2], 0.5, [[0.5]]]),
}


@pytest.mark.parametrize(("kind", "text"), EDGES)
def test_a_value_out_of_its_range_is_refused_by_statement_and_macro(kind: str, text: str) -> None:
    default = "[1]" if kind.endswith("[]") else "1"
    line = f"-- parameter: k {kind} = {default} in {text}; what\n"
    sql = HEADER.replace("select", f"{line}select").replace("select run_id", "select run_id, $k as q")
    card = parse_score(sql.replace("doc_id BIGINT, score DOUBLE", f"q {kind}"), Path("family/x.sql"))
    inside, outside = EDGES[kind, text]
    with duckdb.connect() as connection:
        connection.execute("create table tokens as select 'demo' as run_id")
        connection.execute(_macro_sql(card, {}, lambda _: ""))
        for value in inside:
            assert card.bind(run_id="demo", k=value)["k"] == value
            assert len(connection.execute("from x('demo', k := $k)", {"k": value}).fetchall()) == 1
        for value in outside:
            with pytest.raises(ScoreError, match=f"x: k = .* is not in {re.escape(text)}"):
                card.bind(run_id="demo", k=value)
            if isinstance(value, float | int) and not isinstance(value, bool) and not kind.endswith("[]"):
                with pytest.raises(duckdb.Error, match=f"x: k = .* is not in {re.escape(text)}|out of range"):
                    connection.execute("from x('demo', k := $k)", {"k": value}).fetchall()


UNBOUNDED = {("con_recall", "gamma"), ("conditional_pmi", "weight")}


def test_every_number_of_a_card_has_a_range() -> None:
    numbers = {
        (card.name, p.name)
        for card in load_scores().values()
        for p in card.settings
        if p.type.removesuffix("[]") in ("DOUBLE", "INTEGER", "BIGINT") and p.range is None
    }
    assert numbers == UNBOUNDED


@pytest.mark.parametrize(
    "call",
    [
        "min_k('demo', ratio := -0.5)",
        "min_k('demo', ratio := 0)",
        "min_k('demo', ratio := 2)",
        "min_k_plus_plus('demo', ratio := -0.2)",
        "max_k('demo', ratio := 'nan'::double)",
        "min_k_window('demo', width := 0)",
        "min_k_window('demo', stride := 0)",
        "min_k_ratios('demo', ratios := [0.2, 1.5])",
        "all_scores('demo', low := 0)",
        "chow_quantile('demo', quantile := -0.1)",
        "gltr('demo', top := 0)",
        "dc_pdd('demo', 'wiki', cap := 0)",
        "branching_factor_top_p('demo', top_p := 0)",
        "dynamic_instability('demo', top := -1)",
    ],
)
def test_no_macro_answers_for_a_parameter_out_of_range(seeded: duckdb.DuckDBPyConnection, call: str) -> None:
    with pytest.raises(duckdb.Error, match=r"is not in|QUANTILE|cannot be negative|Division by zero"):
        seeded.execute(f"from {call}").fetchall()


def test_what_is_computed_together_takes_what_each_score_takes() -> None:
    cards = load_scores()
    for shared in cards.values():
        ranges = {p.name: p.range for p in shared.settings}
        for name in shared.document_scores:
            for p in cards[name].settings:
                own, wide = p.range, ranges.get(p.name)
                if own is not None and wide is not None:
                    assert wide.low <= own.low
                    assert own.high <= wide.high
                    assert all(end in wide for end in (own.low, own.high) if end in own), (shared.name, name, p.name)


# The long table


def test_score_table(seeded: duckdb.DuckDBPyConnection) -> None:
    table = score_table(seeded, "demo", ["loss", "min_k", "loss"], {"min_k": {"ratio": 0.7}})
    assert table.schema.equals(SCORE_TABLE, check_metadata=True)
    assert table.schema.names == [column.name for column in SCORES.columns]
    rows = sorted(table.to_pylist(), key=lambda row: (row["score"], row["doc_id"]))
    assert [(r["family"], r["variant"], r["doc_id"], r["value"]) for r in rows] == [
        ("membership", "loss", 1, -2.0),
        ("membership", "loss", 2, -0.5),
        ("membership", "min_k(ratio=0.7)", 1, -2.5),
        ("membership", "min_k(ratio=0.7)", 2, -0.5),
    ]
    assert [json.loads(r["parameters"]) for r in rows[1:3]] == [{}, {"parity": False, "ratio": 0.7}]


def test_batches_are_the_rows_of_the_table(seeded: duckdb.DuckDBPyConnection) -> None:
    names = ["loss", "min_k", "min_k(ratio=0.7)"]
    batches = list(score_batches(seeded, plan_scores(seeded, "demo", names), slices=2))
    assert all(pa.types.is_dictionary(batch.schema.field("variant").type) for batch in batches)
    whole = pa.concat_tables([batch.cast(SCORE_TABLE) for batch in batches])
    by_key = [("variant", "ascending"), ("doc_id", "ascending")]
    assert whole.sort_by(by_key).equals(score_table(seeded, "demo", names).sort_by(by_key))


def test_slices_change_nothing() -> None:
    """Documents at the ends of the range of doc_id and between; the temporary views are gone afterwards."""
    ids = [0, 1, (1 << 63) // 3, (1 << 63) // 3 + 1, (1 << 62), (1 << 63) - 1]
    tokens = [(i, p, -1.0 - p - k, 1.0, 1.0, 2) for k, i in enumerate(ids) for p in range(3)]
    by_key = [("variant", "ascending"), ("doc_id", "ascending")]
    with database(tokens, [(i, None, 1, 9) for i in ids]) as connection:
        whole = score_table(connection, "demo").sort_by(by_key)
        assert whole.num_rows == len(ids) * len(set(whole["variant"].to_pylist()))
        for count in (2, 3, 7):
            assert score_table(connection, "demo", slices=count).sort_by(by_key).equals(whole)
        assert connection.execute("select count(*) from tokens").fetchall() == [(2 * len(tokens),)]
        assert connection.execute("select count(*) from documents").fetchall() == [(2 * len(ids),)]


def test_scores_across_documents_are_not_cut_by_slices() -> None:
    """Documents of one prompt share a value, wherever their doc_ids lie."""
    ids = [1, 1 << 61, 1 << 62]
    tokens = [(i, p, -1.0 - k, 1.0, 1.0, 2) for k, i in enumerate(ids) for p in range(3)]
    name = "sequence_entropy"
    assert load_scores()[name].across
    with database(tokens, [(i, None, 10, 9) for i in ids]) as connection:
        connection.execute("update documents set text = 'the prompt and what follows', prompt_bytes = 10")
        whole = score_table(connection, "demo", [name]).sort_by("doc_id")
        assert len(set(whole["value"].to_pylist())) == 1
        assert whole["value"].null_count == 0
        assert score_table(connection, "demo", [name], slices=3).sort_by("doc_id").equals(whole)


def test_score_table_of_nothing(seeded: duckdb.DuckDBPyConnection) -> None:
    assert score_table(seeded, "no such run").num_rows == 0
    assert score_table(seeded, "demo", []).schema.equals(SCORE_TABLE)


def test_score_table_lists_every_fault(seeded: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ScoreError, match=r"'mink' \(did you mean min_k.*'auroc'"):
        score_table(seeded, "demo", ["mink", "auroc"])
    with pytest.raises(ScoreError, match="'zlib', which is not asked for"):
        score_table(seeded, "demo", ["loss"], {"zlib": {}})
    with pytest.raises(ScoreError, match="min_k has no parameter 'k'; its parameters: ratio, parity"):
        score_table(seeded, "demo", ["min_k"], {"min_k": {"k": 1}})
    with pytest.raises(ScoreError, match=r"min_k: ratio = -0.5 is not in \(0, 1\]; .*surp: max_entropy = -1.0 is not"):
        score_table(seeded, "demo", ["min_k(ratio=-0.5)", "surp(max_entropy=-1)"])
    with pytest.raises(ScoreError, match="run_id is the run"):
        score_table(seeded, "demo", ["min_k"], {"min_k": {"run_id": "other"}})
    with pytest.raises(ValueError, match="slices: 0"):
        score_table(seeded, "demo", ["loss"], slices=0)


def test_run_id_cannot_break_the_statement(seeded: duckdb.DuckDBPyConnection) -> None:
    assert score_table(seeded, "x' or '1'='1").num_rows == 0
