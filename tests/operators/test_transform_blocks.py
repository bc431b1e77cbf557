"""Transforms of blocks: what becomes of records, prompts, tokens and of the documents that are a prefix."""

from __future__ import annotations

from typing import Any

import lakes
import numpy as np
import pyarrow as pa
import pytest
import small

from operators.lake import Lake
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from operators.transform import BlockTransform, parse_transform
from operators.transform.shots import Shot, draw_shots
from operators.write import PartWriter, WriteOptions
from schemas.flow import READ, TOKENIZED

RECORDS: list[dict[str, Any]] = [
    {"key": "a", "text": "DEF Add(A):\n    Return A\n", "prompt_bytes": 12, "label": 1, "domain": "code"},
    {"key": "b", "text": "No Prompt", "prompt_bytes": 0},
    {"key": None, "text": None, "prompt_bytes": None, "reason": "null_text", "detail": "as it was"},
    {"key": "c", "text": "GRÖSSER 漢字 Follow", "prompt_bytes": len("GRÖSSER 漢".encode())},
    {"key": "d", "text": "PROMPT ALONE", "prompt_bytes": 12},
]


def read(records: list[dict[str, Any]] = RECORDS) -> pa.Table:
    return pa.Table.from_pylist([{"source": "s", "row": i, **r} for i, r in enumerate(records)], schema=READ)


def of(spec: str, *used: str) -> BlockTransform:
    return BlockTransform(parse_transform(spec), frozenset(used))


@pytest.fixture(scope="module", params=[True, False], ids=["bos", "no-bos"])
def tokenizer(request: pytest.FixtureRequest) -> DocumentTokenizer:
    return DocumentTokenizer(small.make_tokenizer(bos=request.param), TokenizeOptions())


def test_only_the_text_after_the_prompt_changes() -> None:
    block = read()
    out = of("lowercase").texts(block)
    assert out["text"].to_pylist() == [
        "DEF Add(A):\n    return a\n", "no prompt", None, "GRÖSSER 漢字 follow", "PROMPT ALONE",
    ]  # fmt: skip
    assert out.schema == READ
    assert out.drop_columns(["text"]).equals(block.drop_columns(["text"]))


def test_a_record_changes_the_same_way_in_any_block() -> None:
    block, transform = read(), of("perturb:kind=whitespace,rate=0.5")
    whole = transform.texts(block)
    apart = pa.concat_tables([transform.texts(block.slice(i, 1)) for i in range(len(block))])
    assert apart.equals(whole)


def test_a_text_of_which_nothing_is_left_is_a_reject() -> None:
    records = [{"key": "a", "text": " \n"}, {"key": "b", "text": "P ", "prompt_bytes": 1}, {"key": "c", "text": "x y"}]
    out = of("perturb:kind=whitespace,rate=1").texts(read(records)).to_pylist()
    assert [r["reason"] for r in out] == ["empty_after_transform"] * 2 + [None]
    assert [r["text"] for r in out] == [None, None, out[2]["text"]]
    assert "perturb:kind=whitespace,rate=1" in out[0]["detail"]


def test_documents_of_the_prefix_are_left_out() -> None:
    out = of("prefix:label=0", "b", "c").texts(read())
    assert out["reason"].to_pylist() == [None, "used_as_prefix", "null_text", "used_as_prefix", None]
    assert out["text"].to_pylist() == [RECORDS[0]["text"], None, None, None, RECORDS[4]["text"]]


@pytest.mark.parametrize("spec", ["external", "unprompted", "prefix:label=0,file=f", "windows"])
def test_texts_that_a_transform_does_not_touch_are_the_same_block(spec: str) -> None:
    block = read()
    assert of(spec).texts(block) is block


def test_completions_keep_the_tokens_that_they_have_behind_the_prompt(tokenizer: DocumentTokenizer) -> None:
    before = tokenizer(read())
    out = of("unprompted").tokens(before, len(tokenizer.prefix))
    assert out.schema == TOKENIZED
    assert out["reason"].to_pylist() == [None, None, "null_text", None, "empty_after_transform"]
    assert out["text"].to_pylist() == ["    Return A\n", "No Prompt", None, "字 Follow", None]
    for was, now in zip(before.to_pylist(), out.to_pylist(), strict=True):
        if now["reason"] is not None:
            assert now["token_id"] is now["byte_start"] is now["n_bytes"] is None
            continue
        spans = list(zip(was["token_id"], was["byte_start"], was["n_bytes"], strict=True))
        bos, own = spans[: len(tokenizer.prefix)], spans[len(tokenizer.prefix) :]
        border = was["prompt_bytes"]
        own = [(i, max(start, border) - border, start + n - border) for i, start, n in own if start + n > border]
        expected = [*((i, 0, 0) for i, _, _ in bos), *((i, start, end - start) for i, start, end in own)]
        assert list(zip(now["token_id"], now["byte_start"], now["n_bytes"], strict=True)) == expected
        assert expected[-1][1] + expected[-1][2] == len(now["text"].encode())
        assert now["prompt_bytes"] == 0


def test_a_token_across_the_border_is_clipped(tokenizer: DocumentTokenizer) -> None:
    """Spaces share a token: with some of them in the prompt, it is the completion's first, and shorter."""
    block = tokenizer(read([{"key": "k", "text": "x\n        y", "prompt_bytes": 4}]))
    first = len(tokenizer.prefix)
    out = of("unprompted").tokens(block, first)
    assert out["byte_start"][0].as_py()[first] == 0
    assert 0 < out["n_bytes"][0].as_py()[first] < 8
    assert sum(out["n_bytes"][0].as_py()) == len("      y")


@pytest.mark.parametrize("rows", [[], [2], [4], [2, 4]])
def test_blocks_without_completions(tokenizer: DocumentTokenizer, rows: list[int]) -> None:
    block = tokenizer(read().take(pa.array(rows, pa.int64())))
    out = of("unprompted").tokens(block, len(tokenizer.prefix))
    assert len(out) == len(rows)
    assert out["token_id"].null_count == len(rows)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Forty documents in four parts, every second one of label 0."""
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    writer = PartWriter(WriteOptions(lake, "r", ()))
    for part in range(4):
        records = [lakes.document(f"text {10 * part + i}", 10 * part + i, ()) for i in range(10)]
        lakes.write_records(writer, [r | {"label": r["row"] % 2} for r in records])
    return lake


def shots_of(lake: Lake, label: int, shots: int, seed: int = 0, most_tokens: int = 100) -> list[Shot]:
    draw = draw_shots(lake, "r", label=label, shots=shots, seed=seed, most_tokens=most_tokens)
    assert draw.n_documents == 20
    return draw.shots


def test_shots_are_drawn_by_the_seed(labelled: Lake) -> None:
    seven = shots_of(labelled, label=0, shots=7)
    assert len({shot.key for shot in seven}) == 7
    for shot in seven:
        row = int(shot.key.partition("#")[2])
        assert row % 2 == 0
        assert shot.text == f"text {row}"
    assert shots_of(labelled, label=0, shots=3) == seven[:3]
    assert shots_of(labelled, label=0, shots=7, seed=1) != seven
    assert len(shots_of(labelled, label=1, shots=1000)) == 20


def test_long_documents_are_no_shots(labelled: Lake) -> None:
    """Those of one digit have three tokens of two bytes, the others four."""
    orders = (shots_of(labelled, label=1, shots=20, seed=seed) for seed in range(40))
    seed, every = next((s, order) for s, order in enumerate(orders) if len(order[0].text or "") == 7)
    short = [shot for shot in every if len(shot.text or "") == 6]
    assert shots_of(labelled, label=1, shots=3, seed=seed, most_tokens=3) == short[:3]
    assert shots_of(labelled, label=1, shots=7, seed=seed, most_tokens=3) == short
    assert shots_of(labelled, label=1, shots=3, seed=seed, most_tokens=2) == []


def test_every_document_of_the_label_is_drawn_about_as_often(labelled: Lake) -> None:
    drawn = [shot.key for seed in range(60) for shot in shots_of(labelled, label=1, shots=5, seed=seed)]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 20
    assert ((counts - 15) ** 2 / 15).sum() < 50  # chi squared of 19 degrees of freedom: beyond it 1 in 10,000
