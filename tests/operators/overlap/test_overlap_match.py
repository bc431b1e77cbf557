"""Matches: planted n-grams are found and nothing else, cuts and verdicts, repetition, hostile text, token ids."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from overlap_reference import Item, item_table, random_text, read_block
from small import make_tokenizer

from operators.identity import doc_id
from operators.overlap import Matcher, OverlapError, OverlapOptions, Totals, build_index, parse_drop
from operators.tokenize import DocumentTokenizer, TokenizeOptions
from schemas.overlaps import DECONTAMINATION, OVERLAP_ITEMS, OVERLAP_SPANS


def words(rng: np.random.Generator, count: int) -> list[str]:
    """Words that hardly ever occur twice."""
    return ["w" + "".join(rng.choice(list("abcdefghij"), 12)) for _ in range(count)]


def matches_of(folder: Path, items: list[Item], texts: list[str], options: OverlapOptions):
    build_index([item_table(items)], folder, options)
    return Matcher(folder, options)(read_block(list(texts)))


@pytest.mark.parametrize("n", [8, 13, 50])
def test_planted_ngrams_are_found_and_nothing_else(tmp_path: Path, n: int) -> None:
    rng = np.random.default_rng(n)
    items = [Item(f"i{i}", " ".join(words(rng, 70)), " ".join(words(rng, 60)), i) for i in range(30)]
    texts, planted = [], set()
    for d in range(300):
        around, inside = words(rng, 40), []
        if d % 3:
            item = items[rng.integers(30)]
            start = int(rng.integers(131 - n))
            inside = (item.input + " " + item.answer).split()[start : start + n]
            if d % 3 == 1:
                planted.add((d, item.item_id, start))
            else:
                inside[int(rng.integers(n))] = "changed"  # of 2n - 1 words around a change none has n in a row
        place = int(rng.integers(41))
        texts.append(",  ".join([*around[:place], *map(str.upper, inside), *around[place:]]))
    found = matches_of(tmp_path / "i", items, texts, OverlapOptions(n=n))
    rows = found.spans.to_pylist()
    assert {(row["row"], row["item_id"], row["item_word"]) for row in rows} == planted
    assert {row["n_words"] for row in rows} == {n}
    for row in rows:
        text = texts[row["row"]].encode()[row["byte_start"] : row["byte_start"] + row["n_bytes"]].decode()
        assert row["text"] == text
        assert len(text.split(",  ")) == n
        assert row["doc_id"] == doc_id(row["key"])
    assert found.counts.hit_documents == len(planted)
    assert OVERLAP_SPANS.validate(found.spans) == DECONTAMINATION.validate(found.cuts) == []


def test_margin_and_rules(tmp_path: Path) -> None:
    items = [Item("a", "one two three four five", None, 1), Item("b", "red green blue", None, 2)]
    texts = ["äöü one two three äöü", "x one two three y one two three z red green blue", "red, green, blue"]

    def cuts(**more: object) -> list[tuple[int, int, int, bool]]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        found = matches_of(folder, items, texts, OverlapOptions(n=3, **more))
        rows = sorted(found.cuts.to_pylist(), key=lambda row: (row["row"], row["byte_start"]))
        return [(row["row"], row["byte_start"], row["n_bytes"], row["drop_document"]) for row in rows]

    plain = [(0, 7, 13), (1, 2, 13), (1, 18, 13), (1, 34, 14), (2, 0, 16)]
    assert cuts(drop="never") == [(*cut, False) for cut in plain]
    assert cuts(drop="any") == [(*cut, True) for cut in plain]
    # Two of the three n-grams of `a` are one; all of `b` is in the second document and in the third.
    assert cuts(drop="share:1") == [(*cut, cut[0] > 0) for cut in plain]
    assert cuts(drop="share:0.3") == [(*cut, True) for cut in plain]
    # Cutting leaves two, three and no pieces.
    assert cuts(drop="pieces:2") == [(*cut, cut[0] == 1) for cut in plain]
    assert cuts(drop="pieces:3") == [(*cut, False) for cut in plain]
    assert cuts(drop="never", margin=2) == [(0, 4, 19, False), (1, 0, 48, False), (2, 0, 16, False)]
    assert cuts(drop="never", margin=100)[0] == (0, 0, len(texts[0].encode()), False)


def test_spellings_of_rules() -> None:
    assert [parse_drop(text).canonical for text in ("never", "any", "share:0.80", "pieces:010")] == [
        "never",
        "any",
        "share:0.8",
        "pieces:10",
    ]
    for wrong in (
        "",
        "all",
        "any:1",
        "share",
        "share:0",
        "share:1.1",
        "share:nan",
        "pieces:-1",
        "pieces:1.5",
        "pieces:",
    ):
        with pytest.raises(OverlapError, match="drop rule"):
            parse_drop(wrong)
    with pytest.raises(OverlapError, match=r"n is 0.*margin is -1"):
        OverlapOptions(n=0, margin=-1)
    assert OverlapOptions().settings == {
        "n": 13,
        "normalisation": "words-1",
        "most_items": 100,
        "margin": 0,
        "drop": "pieces:10",
    }


def test_documents_that_repeat_themselves_take_bounded_work(tmp_path: Path) -> None:
    items = [Item("a", "la " * 500, None, 1), Item("b", "la " * 20 + "end", None, 2)]
    items += [Item(f"c{i}", "do re mi fa so la ti do", "la " * 30, 3 + i) for i in range(200)]
    texts = ["la " * 100_000, "do re mi fa so la ti do " * 10_000, "la " * 50_000 + "end"]
    options = OverlapOptions(n=8, most_items=500)
    build_index([item_table(items)], tmp_path / "i", options)
    start = time.process_time()
    found = Matcher(tmp_path / "i", options)(read_block(list(texts)))
    assert time.process_time() - start < 5  # without the bound: 100,000 places times 7,000
    assert found.counts.n_common >= 2
    assert len(found.spans) < 10_000
    assert len(found.cuts) == 3
    rows = found.spans.to_pylist()
    # The rare n-gram at its end carries the match through the common ones.
    assert {(row["item_id"], row["n_words"]) for row in rows if row["text"].endswith("end")} == {(2, 21)}
    totals = Totals(Matcher(tmp_path / "i", options).index)
    totals.add(0, found)
    table = pa.concat_tables(totals.overlaps())
    assert OVERLAP_ITEMS.validate(table) == []
    assert [row["share_seen"] for row in table.to_pylist() if row["part"] == "all"][:2] == [1.0, 1.0]


def test_rejects_are_passed_over_and_blocks_may_be_empty(tmp_path: Path) -> None:
    options = OverlapOptions(n=2)
    build_index([item_table([Item("a", "one two", None, 1)])], tmp_path / "i", options)
    matcher = pickle.loads(pickle.dumps(Matcher(tmp_path / "i", options)))
    found = matcher(read_block([None, "one two", None]))
    assert (found.counts.documents, found.counts.n_bytes, found.counts.hit_documents) == (1, 7, 1)
    for block in (read_block([]), read_block([None])):
        assert matcher(block).counts.documents == 0
        assert matcher(block).encode().equals(type(found).none().encode())
    again = pickle.loads(pickle.dumps(matcher))
    assert again(read_block([None, "one two", None])).encode().equals(found.encode())


def test_hostile_text_and_keys(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hostile = [
        "'; drop table x; --",
        "\x00\x01\x1b[31m",
        "a\u0301" * 50,
        "\U0010ffff",
        "漢" * 40,
        "\r\n" * 20,
        "\u202e",
        "x" * 5000,
    ]
    items = [Item(f"k'\"\n{i}", text + " " + random_text(rng, 20, hostile), text, i) for i, text in enumerate(hostile)]
    texts = [item.input + item.answer for item in items] + hostile
    for name in ("words-1", "janitor-1"):
        options = OverlapOptions(n=2, normalisation=name)
        found = matches_of(tmp_path / name, items, texts, options)
        totals = Totals(Matcher(tmp_path / name, options).index)
        totals.add(0, found)
        table = pa.concat_tables(totals.overlaps())
        assert OVERLAP_ITEMS.validate(table) == OVERLAP_SPANS.validate(found.spans) == []
        for row in table.to_pylist():
            if row["n_ngrams"]:
                assert row["share_seen"] == 1 or row["part"] == "across", row
        for row in found.spans.to_pylist():
            text = texts[row["row"]].encode()
            assert row["text"].encode() == text[row["byte_start"] :][: row["n_bytes"]]


@pytest.fixture(scope="module")
def tokenizer() -> DocumentTokenizer:
    return DocumentTokenizer(make_tokenizer(), TokenizeOptions())


def test_token_ids_as_words(tmp_path: Path, tokenizer: DocumentTokenizer) -> None:
    options = OverlapOptions(n=5, normalisation="tokens")
    quoted = "def heappush(heap, item): # naïve 👩‍👧 漢字"
    items = [Item("a", quoted, "\n    return heap", 1), Item("b", "", "x", 2), Item("c", "import queue", None, 3)]
    texts = [f"# before\n{quoted}\n    return heap # after", "nothing of it", quoted.upper()]
    index = build_index([item_table(items)], tmp_path / "i", options, tokenizer)
    matcher = pickle.loads(pickle.dumps(Matcher(tmp_path / "i", options, tokenizer)))
    found = matcher(read_block(list(texts)))
    longest = max(found.spans.to_pylist(), key=lambda row: row["n_words"])
    assert (longest["row"], longest["item_id"]) == (0, 1)
    ids = [tokenizer(read_block([text]))["token_id"][0].as_py()[1:] for text in (items[0].input, items[0].answer)]
    assert longest["n_words"] == len(ids[0]) + len(ids[1])
    assert longest["text"] == quoted + "\n    return heap"
    totals = Totals(index, tokenizer)
    totals.add(0, found)
    rows = {(row["item_id"], row["part"]): row for table in totals.overlaps() for row in table.to_pylist()}
    assert rows[1, "all"]["share_seen"] == 1
    assert (rows[1, "all"]["byte_start"], rows[1, "all"]["n_bytes"]) == (
        0,
        len((quoted + "\n    return heap").encode()),
    )
    assert rows[2, "all"]["share_seen"] is None
    assert rows[3, "all"]["n_seen"] == 0
    with pytest.raises(OverlapError, match="needs a tokenizer"):
        Matcher(tmp_path / "i", options)(read_block(["x"]))


def test_spans_of_tokens_hold_whole_characters(tmp_path: Path, tokenizer: DocumentTokenizer) -> None:
    """Byte-level tokens split characters: a match inside one covers all of it."""
    options = OverlapOptions(n=1, normalisation="tokens")
    items = [Item("a", "é", None, 1)]
    found = matches_of_tokens(tmp_path / "i", items, ["xèx", "ê"], options, tokenizer)
    assert found.counts.hit_documents == 2
    assert {row["text"] for row in found.spans.to_pylist()} == {"è", "ê"}


def matches_of_tokens(
    folder: Path, items: list[Item], texts: list[str], options: OverlapOptions, tokenizer: DocumentTokenizer
):
    build_index([item_table(items)], folder, options, tokenizer)
    return Matcher(folder, options, tokenizer)(read_block(list(texts)))


def test_documents_that_the_tokenizer_refuses(tmp_path: Path) -> None:
    narrow = DocumentTokenizer(make_tokenizer(), TokenizeOptions(), vocab_size=200)
    options = OverlapOptions(n=1, normalisation="tokens")
    probe = narrow(read_block(["abc", "the the the self self return"]))
    refused = [row for row in range(2) if probe["reason"][row].as_py()]
    assert refused == [1]
    found = matches_of_tokens(
        tmp_path / "i", [Item("x", "abc", None, 1)], ["abc", "the the the self self return"], options, narrow
    )
    assert (found.counts.documents, found.counts.n_bytes, found.counts.hit_documents) == (1, 3, 1)
    assert [(row["row"], row["reason"]) for row in found.refused.to_pylist()] == [(1, "token_outside_vocabulary")]
    items = [
        Item("x", "abc", "the the the self self return", 1),
        Item("y", "abc", None, 2),
        Item("z", "self self return", "the the the", 3),
        Item("w", "abc", "c", 4),
    ]
    with pytest.raises(OverlapError, match="item 'x': token_outside_vocabulary"):
        build_index([item_table(items)], tmp_path / "j", options, narrow)
    given: list[pa.Table] = []
    index = build_index([item_table(items)], tmp_path / "k", options, narrow, given.append)
    (rows,) = given
    assert [(row["key"], row["row"], row["reason"]) for row in rows.to_pylist()] == [
        ("x", 0, "token_outside_vocabulary"),
        ("z", 2, "token_outside_vocabulary"),
    ]
    assert index.items["key"].to_pylist() == ["y", "w"]
    alone = build_index([item_table(items).take([1, 3])], tmp_path / "l", options, narrow)
    assert (index.digest, index.n_grams, index.n_words) == (alone.digest, alone.n_grams, alone.n_words)
    assert np.array_equal(index.words_N, alone.words_N)
