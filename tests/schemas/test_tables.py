"""The records that everything derives from: Arrow schemas, validation, the run id, and README's table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from schemas import DOCUMENTS, FEATURE_GROUPS, REJECTS, TABLES, TOKENS, Reason, check_run_id
from schemas.columns import COMMENTS, CORE, PROMPT, Column, Table
from schemas.documents import ROLLUPS
from schemas.flow import SPAN_COLUMNS, scored, statistic_names

ROOT = Path(__file__).parents[2]
README, TABLES_PAGE = ROOT / "README.md", ROOT / "schemas" / "TABLES.md"

# The contract's column names, by hand: a rename must be meant.
CONTRACT = {
    "tokens": "run_id doc_id position token_id byte_start n_bytes in_prompt in_comment logprob entropy logprob_std "
    "rank logprob_max top1_id mass_above renyi_quarter renyi_half renyi_2 logprob_second rest_entropy logprob_uniform "
    "topk_id topk_logprob hidden",
    "documents": "run_id doc_id key source row text n_bytes n_chars n_words n_tokens n_scored prompt_bytes "
    "prompt_tokens comment_tokens zlib_bytes text_sha256 label domain attributes logprob_sum entropy_sum "
    "varentropy_sum log_rank_sum n_rank_1 min_k_20 min_k_plus_plus_20",
    "rejects": "run_id source row key reason detail",
    "pairs": "p_run q_run doc_id position xent xstd kl jsd tv",
}


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_names_of_the_contract(table: Table) -> None:
    if table.name in CONTRACT:
        assert [c.name for c in table.columns] == CONTRACT[table.name].split()


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_every_column_is_described_and_has_a_sql_type(table: Table) -> None:
    for column in table.columns:
        assert column.description
        assert column.sql_type
        assert column.description in column.comment


def test_core_schema_leaves_partitions_and_groups_out() -> None:
    names = CONTRACT["tokens"].split()[1:]
    assert TOKENS.arrow([*FEATURE_GROUPS, PROMPT, COMMENTS]).names == names
    names.remove("in_comment")
    assert TOKENS.arrow([*FEATURE_GROUPS, PROMPT]).names == names
    names.remove("in_prompt")
    assert TOKENS.arrow(FEATURE_GROUPS).names == names
    assert TOKENS.arrow().names == names[:9]
    assert TOKENS.arrow(with_partitions=True).names[0] == "run_id"
    assert not TOKENS.arrow().field("token_id").nullable
    assert TOKENS.arrow().field("logprob").metadata[b"unit"] == b"nats"
    with pytest.raises(ValueError, match="no column group"):
        TOKENS.arrow(["colour"])


def test_prompts_are_a_group_of_their_own_and_no_feature() -> None:
    assert PROMPT not in FEATURE_GROUPS
    assert set(DOCUMENTS.arrow([PROMPT]).names) - set(DOCUMENTS.arrow().names) == {"prompt_bytes", "prompt_tokens"}
    flag = TOKENS.arrow([PROMPT]).field("in_prompt")
    assert (flag.type, flag.nullable, TOKENS["in_prompt"].sql_type) == (pa.bool_(), False, "BOOLEAN")
    assert statistic_names([PROMPT]) == statistic_names()
    assert scored([PROMPT]).equals(scored())


def test_comments_are_a_group_of_their_own_and_may_be_unknown() -> None:
    assert COMMENTS not in FEATURE_GROUPS
    assert set(DOCUMENTS.arrow([COMMENTS]).names) - set(DOCUMENTS.arrow().names) == {"comment_tokens"}
    assert set(TOKENS.arrow([COMMENTS]).names) - set(TOKENS.arrow().names) == {"in_comment"}
    assert TOKENS["in_comment"].nullable
    assert DOCUMENTS["comment_tokens"].nullable
    assert statistic_names([COMMENTS]) == statistic_names()
    assert scored([COMMENTS]).equals(scored())


def test_rollups_are_a_group_of_their_own_and_may_be_missing() -> None:
    added = DOCUMENTS.arrow([ROLLUPS]).names[len(DOCUMENTS.arrow().names) :]
    assert added == [c.name for c in DOCUMENTS.group(ROLLUPS)]
    assert all(c.nullable and c.unit for c in DOCUMENTS.group(ROLLUPS))


def tokens(**columns: object) -> pa.Table:
    rows = {
        "doc_id": [1, 1], "position": [0, 1], "token_id": [5, 6], "byte_start": [0, 1], "n_bytes": [1, 1],
        "logprob": [None, -1.0], "entropy": [None, 2.0], "logprob_std": [None, 0.5], "rank": [None, 3], **columns,
    }  # fmt: skip
    return pa.table({f.name: pa.array(rows[f.name], f.type) for f in TOKENS.arrow()})


def test_a_sound_table_has_no_faults() -> None:
    assert TOKENS.validate(tokens()) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"logprob": [None, 0.5]}, "tokens.logprob: 0.5 is above 0.0"),
        ({"entropy": [None, -0.5]}, "tokens.entropy: -0.5 is below 0.0"),
        ({"entropy": [None, float("nan")]}, "tokens.entropy: NaN"),
        ({"rank": [None, 0]}, "tokens.rank: 0 is below 1"),
        ({"token_id": [None, 1]}, "tokens.token_id: 1 nulls in a column declared NOT NULL"),
        ({"position": [-1, 0]}, "tokens.position: -1 is below 0"),
    ],
)
def test_each_fault_is_named(change: dict[str, object], fault: str) -> None:
    assert fault in TOKENS.validate(tokens(**change))


def test_missing_foreign_and_mistyped_columns_are_named() -> None:
    wrong = tokens().drop_columns(["rank"]).append_column("extra", pa.array([1, 2]))
    wrong = wrong.set_column(0, "doc_id", pa.array(["a", "b"]))
    faults = TOKENS.validate(wrong)
    assert "tokens.extra: not a column of this table" in faults
    assert "tokens.rank: missing" in faults
    assert "tokens.doc_id: type string, declared int64" in faults


def test_a_table_must_know_its_key() -> None:
    with pytest.raises(ValueError, match="key and order name no column"):
        Table("t", "a row", ("gone",), (Column("a", pa.int8(), "a"),))


@pytest.mark.parametrize("good", ["a", "monday", "2026-11-20T08", "a.b_c-d", "9" * 128])
def test_run_ids(good: str) -> None:
    assert check_run_id(good) == good


@pytest.mark.parametrize("bad", ["", ".", "..", "../x", "a/b", "-a", "_a", "a b", "a'b", "é", "a\n", "9" * 129])
def test_hostile_run_ids_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        check_run_id(bad)


def test_the_flow_holds_a_list_for_every_stored_token_column() -> None:
    names = statistic_names(FEATURE_GROUPS)
    assert [*SPAN_COLUMNS, *names] == TOKENS.arrow(FEATURE_GROUPS).names[2:]
    assert scored().names[-4:] == ["logprob", "entropy", "logprob_std", "rank"]


def test_reasons_are_listed_where_they_are_stored() -> None:
    assert all(reason in REJECTS["reason"].description for reason in Reason)


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_pages_show_the_columns_as_declared(table: Table) -> None:
    """Regenerate with: python -m schemas > schemas/TABLES.md (README repeats the first two tables)."""
    assert table.markdown() in TABLES_PAGE.read_text(encoding="utf-8")
    if table in (TOKENS, DOCUMENTS):
        assert table.markdown() in README.read_text(encoding="utf-8")


def test_core_is_the_first_group() -> None:
    assert all(table.groups[0] == CORE for table in TABLES)
