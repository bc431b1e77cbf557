"""Reading tokenizers' files and cutting texts into words: every kind that is BPE, and by name what is not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import languages
import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from operators.merges import (
    GROUPS,
    BpeError,
    WordCounts,
    parse_bpe,
    read_bpe,
    sum_words,
    word_counts,
)

TEXTS = ["the cat  sat on 1234 mats", "naïve\ncafé the the", " leading and trailing ", ""]
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def totals(counts: WordCounts) -> dict[str, int]:
    words, matrix = counts.matrix()
    return dict(zip(words.to_pylist(), matrix.sum(axis=1).tolist(), strict=True))


def llama_3() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    return tokenizer


@pytest.mark.parametrize("make", [llama_3, metaspace])
def test_words_are_those_of_the_tokenizer(make: Any) -> None:
    tokenizer = make()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, show_progress=False))
    bpe = parse_bpe(tokenizer.to_str())
    expected = Counter(word for text in TEXTS for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    assert totals(word_counts(bpe, TEXTS, range(4))) == expected


def test_a_text_that_is_not_cut_by_the_tokenizer_is_cut_where_no_merge_can_cross() -> None:
    tokenizer = Tokenizer(models.BPE({"▁": 0, "t": 1, "h": 2, "th": 3, "▁th": 4}, [("t", "h"), ("▁", "th")]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe = parse_bpe(tokenizer.to_str())
    assert totals(word_counts(bpe, ["th th  x\nth"], [0])) == {"▁th": 2, "▁▁x": 1, "th": 1}
    crossing = tokenizer.to_str().replace('"▁th"', '"th▁"').replace('["▁","th"]', '["th","▁"]')
    crossing = json.dumps(
        {
            **json.loads(tokenizer.to_str()),
            "model": {
                **json.loads(tokenizer.to_str())["model"],
                "vocab": {"▁": 0, "t": 1, "h": 2, "th": 3, "th▁": 4},
                "merges": ["t h", "th ▁"],
            },
        }
    )
    assert totals(word_counts(parse_bpe(crossing), ["th th"], [0])) == {"▁th▁th": 1}


def test_merges_are_read_as_strings_and_as_pairs() -> None:
    tokenizer = languages.train(TEXTS * 3, 300)
    definition = json.loads(tokenizer.to_str())
    assert isinstance(definition["model"]["merges"][0], list)
    pairs = parse_bpe(json.dumps(definition))
    definition["model"]["merges"] = [" ".join(pair) for pair in definition["model"]["merges"]]
    legacy = parse_bpe(json.dumps(definition))
    np.testing.assert_array_equal(pairs.codes, legacy.codes)
    np.testing.assert_array_equal(pairs.result, legacy.result)
    del definition["model"]["type"]  # as older files are
    assert parse_bpe(json.dumps(definition)).n_merges == pairs.n_merges == pairs.n_steps > 20


def test_merges_of_one_result_in_a_row_are_one_step() -> None:
    vocabulary = {entry: i for i, entry in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["a b", "b c", "a bc", "ab c"]}
    bpe = parse_bpe(json.dumps({"model": model}))
    assert bpe.step.tolist() == [0, 1, 2, 2]
    assert bpe.spell(int(bpe.codes[3])) == ("ab", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no `model`"),
        ('{"model": {"type": "Unigram", "vocab": []}}', "a unigram model, not BPE"),
        ('{"model": {"type": "WordPiece", "vocab": {}}}', "WordPiece, not BPE"),
        ('{"model": {"type": "WordLevel", "vocab": {}}}', "a word list, not BPE"),
        ('{"model": {"vocab": {}}}', "of another kind, not BPE"),
        ('{"model": {"type": "BPE", "vocab": {}}}', "no list of merges"),
        ('{"model": {"type": "BPE", "vocab": [], "merges": []}}', "no vocabulary"),
        ('{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}', "no vocabulary"),
        ('{"model": {"type": "BPE", "vocab": {"a": 1, "b": 1}, "merges": []}}', "the same id"),
        ('{"model": {"type": "BPE", "vocab": {"a": 1}, "merges": ["a"]}}', "merge 0 of the tokenizer is not a pair"),
        ('{"model": {"type": "BPE", "vocab": {"a": 1}, "merges": ["a a"]}}', "merge 0 .* not in its vocabulary"),
    ],
)
def test_what_is_not_bpe_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(BpeError, match=message):
        parse_bpe(text)


def test_a_file_that_is_not_text_or_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BpeError, match="not UTF-8"):
        read_bpe(path)
    path.write_text('{"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": {"type": "Nonsense"}}')
    with pytest.raises(BpeError, match="cannot be loaded"):
        word_counts(read_bpe(path), ["x"], [0])


def test_words_add_up_in_any_order_and_survive_a_table() -> None:
    bpe = parse_bpe(languages.train(TEXTS * 3, 300).to_str())
    whole = word_counts(bpe, TEXTS, [7, 8, 9, 7])
    parts = [word_counts(bpe, pa.array([text]), [group]) for text, group in zip(TEXTS, (7, 8, 9, 7), strict=True)]
    for some in (parts, parts[::-1]):
        summed = sum_words(WordCounts.from_table(part.to_table()) for part in some)
        assert summed.rows.equals(whole.rows)
        np.testing.assert_array_equal(summed.n_bytes, whole.n_bytes)
        np.testing.assert_array_equal(summed.n_documents, whole.n_documents)
    assert whole.n_bytes.sum() == sum(len(text.encode()) for text in TEXTS)
    assert whole.n_documents[[7, 8, 9]].tolist() == [2, 1, 1]
    assert len(whole.n_bytes) == GROUPS


def test_the_rarest_words_go_first_and_are_counted() -> None:
    bpe = parse_bpe(languages.train(TEXTS * 3, 300).to_str())
    counts = word_counts(bpe, ["b b b c c a a d"], [40])
    kept = counts.pruned(2)
    assert totals(kept) == {"Ġb": 2, "Ġa": 2}
    assert kept.left_out == 4
    assert sum_words([kept, kept]).left_out == 8
    assert counts.pruned(100) is counts
    assert totals(WordCounts.none()) == {}
