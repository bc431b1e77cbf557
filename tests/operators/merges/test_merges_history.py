"""Pair counts while merging: against a recount from scratch at every step, and against the encoder of `tokenizers`."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import languages
import numpy as np
import pytest
import real_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from operators.merges import Bpe, Queries, group_counts, pair_history, parse_bpe, read_bpe, word_counts
from operators.merges.replay import Replay


def definition(vocabulary: dict[str, int], merges: list[Any], **model: Any) -> str:
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges, **model}
    return json.dumps(
        {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    )


def merge_once(word: list[str], left: str, right: str) -> list[str]:
    out: list[str] = []
    place = 0
    while place < len(word):
        if word[place : place + 2] == [left, right]:
            out.append(left + right)
            place += 2
        else:
            out.append(word[place])
            place += 1
    return out


def pairs(words: list[tuple[list[str], int]], known: set[str]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for word, n in words:
        for pair in pairwise(word):
            if known.issuperset(pair):
                counts[pair] += n
    return counts


@st.composite
def merge_lists(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Any merges of entries that are there by then, with repeats and several ways to one result."""
    entries, merges = ["a", "b", "c"], []
    for _ in range(draw(st.integers(1, 9))):
        pair = draw(st.sampled_from(entries)), draw(st.sampled_from(entries))
        merges.append(pair)
        entries.append("".join(pair))
    return merges


def bpe_of(merges: list[tuple[str, str]]) -> Bpe:
    entries = dict.fromkeys(["a", "b", "c", *("".join(pair) for pair in merges)])
    return parse_bpe(definition({entry: i for i, entry in enumerate(entries)}, [list(pair) for pair in merges]))


@settings(max_examples=150, deadline=None)
@given(merge_lists(), st.lists(st.text("abcx", min_size=1, max_size=12), min_size=1, max_size=8))
def test_counts_are_those_of_a_recount_at_every_step(merges: list[tuple[str, str]], texts: list[str]) -> None:
    bpe = bpe_of(merges)
    words = word_counts(bpe, texts, range(len(texts)))
    history = pair_history(bpe, words)
    state = [(list(word), n) for word, n in Counter(texts).items()]
    known = set(bpe.vocabulary)
    place = 0
    expected_total = sum(pairs(state, known).values())
    assert history.n_pairs == expected_total
    asked, wanted = [], []
    for step in range(bpe.n_steps):
        counts = pairs(state, known)
        for code in history.code.tolist():
            asked.append((code, step))
            wanted.append(counts.pop(bpe.spell(code), 0))
        assert not counts  # the history knows every pair there is
        while place < bpe.n_merges and bpe.step[place] == step:
            state = [(merge_once(word, *merges[place]), n) for word, n in state]
            place += 1
    codes, steps = np.array(asked, np.int64).reshape(-1, 2).T
    np.testing.assert_array_equal(history.at(codes, steps), wanted)
    grouped = group_counts(bpe, words, Queries(codes, steps))
    np.testing.assert_array_equal(grouped.count.sum(axis=1), wanted)
    assert grouped.n_pairs.sum() == expected_total


def test_counts_by_group_are_the_histories_of_the_groups() -> None:
    made = languages.world(5, 2, trained_on=60_000, merges=120)
    texts = made.languages[0].documents(made.generator, 30_000)
    words = word_counts(made.bpe, texts, range(len(texts)))
    whole = pair_history(made.bpe, words)
    queries = Queries(whole.chosen_code[::-1], whole.chosen_step[::-1])  # any order
    grouped = group_counts(made.bpe, words, queries)
    for group in (0, 3, 31):
        alone = pair_history(made.bpe, word_counts(made.bpe, texts[group::32], [0] * len(texts[group::32])))
        np.testing.assert_array_equal(grouped.count[:, group], alone.at(queries.code, queries.step))
        assert grouped.n_pairs[group] == alone.n_pairs
        assert grouped.n_bytes[group] == alone.n_bytes


def symbols_left(bpe: Bpe, texts: list[str]) -> list[int]:
    """Tokens of each text after all merges."""
    totals = []
    for text in texts:
        words, counts = word_counts(bpe, [text], [0]).matrix()
        replay = Replay(bpe, words, bpe.n_steps)
        for _ in replay.run():
            pass
        tokens = np.bincount(replay.word[replay.symbol >= 0], minlength=len(words))
        totals.append(int(tokens @ counts.sum(axis=1)))
    return totals


TEXTS = [
    "the theory of the thesis, and   spaces\tand\n\nlines 12345 it's aaaaaa abababab",
    "ünïcödé — 漢字かな 👩‍👩‍👧 naïve façade",
    "def f(x):\n    return [x ** 2 for x in range(10)]\n",
    "<s> spelled </s> <|endoftext|>",
]


def test_after_all_merges_texts_have_the_tokens_of_the_encoder() -> None:
    tokenizer = languages.train(TEXTS * 3, 400)
    bpe = parse_bpe(tokenizer.to_str())
    assert symbols_left(bpe, TEXTS) == [len(tokenizer.encode(text).ids) for text in TEXTS]


@pytest.mark.skipif(not real_tokenizers.FOLDER.exists(), reason="the real tokenizers are not here")
def test_gpt2_merges_as_its_encoder_does() -> None:
    bpe, tokenizer = (
        read_bpe(real_tokenizers.FOLDER / "gpt-2.json"),
        Tokenizer.from_file(str(real_tokenizers.FOLDER / "gpt-2.json")),
    )
    texts = TEXTS[:3]  # its added token is cut out of a text by the encoder, and is text to the trainer
    assert symbols_left(bpe, texts) == [len(tokenizer.encode(text).ids) for text in texts]
    assert (bpe.n_steps, bpe.special) == (50_000, ("<|endoftext|>",))


@pytest.mark.skipif(not real_tokenizers.FOLDER.exists(), reason="the real tokenizers are not here")
def test_a_converted_file_has_a_step_for_every_entry_and_merges_as_its_encoder_does() -> None:
    bpe, tokenizer = (
        read_bpe(real_tokenizers.FOLDER / "mistral.json"),
        Tokenizer.from_file(str(real_tokenizers.FOLDER / "mistral.json")),
    )
    assert bpe.n_steps == len(set(bpe.result.tolist())) < bpe.n_merges
    texts = ["the theory of the thesis, and spaces it's aaaaaa", "naïve façade of a house"]
    assert symbols_left(bpe, texts) == [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]


def test_suffixes_and_prefixes_of_words() -> None:
    for rules in ({"end_of_word_suffix": "</w>"}, {"continuing_subword_prefix": "##"}):
        tokenizer = Tokenizer(models.BPE(**rules))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        texts = ["lower lowest newer wider", "low new wide a aa aaa"]
        tokenizer.train_from_iterator(texts * 4, trainers.BpeTrainer(vocab_size=60, show_progress=False, **rules))
        bpe = parse_bpe(tokenizer.to_str())
        assert bpe.n_merges > 5
        assert symbols_left(bpe, texts) == [len(tokenizer.encode(text).ids) for text in texts]
