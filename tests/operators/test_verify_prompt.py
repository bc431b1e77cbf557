"""Prompts in a lake: the group is there exactly in runs that say so, and flags, counts and spans agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lakes
import pyarrow as pa
import pytest
from lakes import RUN, Edit, at, first_part, kinds, put, read, spoil

from operators.lake import Lake
from operators.verify import verify

# By row, of tokens of two bytes: 2.5 tokens, none at all, the whole text; 1 byte, exactly 2 tokens.
PROMPTS = {0: 5, 1: 0, 2: len("三つ".encode()), 4: 1, 5: 4}
PROMPT_TOKENS = {0: 2, 1: 0, 2: 3, 4: 0, 5: 2}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lakes.write_run(lake, features=("topk",), prompts=PROMPTS)
    return lake


def flip(values: list[Any]) -> list[Any]:
    return at(0, not values[0])(values)


def swapped(table: pa.Table) -> pa.Table:
    """A prompt's last token and the token after it take each other's flag: the count stays."""
    flags, ids = table["in_prompt"].to_pylist(), table["doc_id"].to_pylist()
    border = next(i for i in range(len(ids)) if flags[i] and not flags[i + 1] and ids[i] == ids[i + 1])
    return put("in_prompt", lambda v: [*v[:border], False, True, *v[border + 2 :]])(table)


def dropped(*names: str) -> Edit:
    return lambda table: table.drop_columns(list(names))


def test_a_run_with_prompts_is_sound(lake: Lake) -> None:
    assert verify(lake) == []
    found = {}
    for part in lake.parts("documents", RUN):
        table = read(lake, part)
        found |= dict(zip(table["row"].to_pylist(), table["prompt_tokens"].to_pylist(), strict=True))
    assert found == PROMPT_TOKENS


@pytest.mark.parametrize(
    ("table", "edit", "expected"),
    [
        ("tokens", put("in_prompt", flip), {"prompt", "count"}),
        ("tokens", swapped, {"prompt"}),
        ("tokens", dropped("in_prompt"), {"schema"}),
        ("documents", put("prompt_tokens", at(0, 99)), {"count"}),
        ("documents", put("prompt_bytes", at(0, 9999)), {"prompt"}),
        ("documents", put("prompt_bytes", at(0, -1)), {"value"}),
        ("documents", dropped("prompt_tokens"), {"schema", "total"}),
        ("documents", dropped("prompt_bytes", "prompt_tokens"), {"schema", "total"}),
    ],
    ids=["flag", "order of flags", "no flags", "count", "beyond the text", "negative", "no count", "no prompt"],
)
def test_a_spoiled_prompt_is_found(lake: Lake, table: str, edit: Edit, expected: set[str]) -> None:
    path = spoil(lake, table, edit)
    faults = verify(lake)
    assert kinds(faults) == expected, [str(f) for f in faults]
    assert any(Path(f.where).name == Path(path).name for f in faults)


def test_a_prompt_of_another_length_is_found_by_the_flags(lake: Lake) -> None:
    """The flags of a longer prompt that ends within the next token would be the same: only whole tokens tell."""

    def longer(values: list[int]) -> list[int]:
        return [value + 2 if value == PROMPTS[0] else value for value in values]

    part = first_part(lake, "documents")
    assert PROMPTS[0] in read(lake, part)["prompt_bytes"].to_pylist()
    spoil(lake, "documents", put("prompt_bytes", longer))
    assert kinds(verify(lake)) == {"prompt"}


def test_prompts_in_a_run_that_says_it_has_none_are_found(lake: Lake) -> None:
    ledger = lake.read_run(RUN)
    lake.write_run(RUN, {**ledger, "config": {"prompt_column": None}})
    assert kinds(verify(lake)) == {"schema", "total"}


def test_no_prompts_in_a_run_that_says_it_has_some_are_found(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lakes.write_run(lake, config={"prompt_column": "question"})
    assert kinds(verify(lake)) == {"schema", "total"}


def test_a_run_without_a_sound_ledger_is_held_to_its_receipts(lake: Lake) -> None:
    ledger = lake.read_run(RUN)
    del ledger["config"]
    lake.write_run(RUN, ledger)
    assert verify(lake) == []
    spoil(lake, "tokens", dropped("in_prompt"))
    assert kinds(verify(lake)) == {"schema"}
    spoil(lake, "documents", dropped("prompt_bytes", "prompt_tokens"))
    assert verify(lake) == []


def test_flags_without_prompts_are_found(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lakes.write_run(lake, features=())

    def flagged(table: pa.Table) -> pa.Table:
        flags = pa.array([False] * table.num_rows)
        return table.append_column(pa.field("in_prompt", pa.bool_(), nullable=False), flags)

    spoil(lake, "tokens", flagged)
    assert kinds(verify(lake)) == {"schema"}
