"""Words: cut as the plain reference cuts them, with bytes of the original text, whatever the text is."""

from __future__ import annotations

import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overlap_reference import janitor_1, words_1

from operators.overlap import NORMALISATIONS, OverlapError, OverlapOptions, pieces
from operators.overlap.characters import _ASSIGNED, fold, opens_cluster
from operators.overlap.normalise import normaliser
from operators.overlap.words import gram_hashes

REFERENCES = {"words-1": words_1, "janitor-1": janitor_1}
HARD = [
    "",
    " ",
    "\x00",
    "a\x00b",
    "Plain, ASCII text: it's 3.14!\r\nNext_line\tTab",
    "é e\u0301 E\u0301 e\u0301\u0323 e\u0323\u0301",  # composed, decomposed, marks in both orders
    "\u0301 a \u0301b",  # marks that follow nothing
    ".\u0301a\u0300.",
    "\u212b \u00c5 A\u030a \u2126",  # Angstrom and Ohm signs: singletons
    "\u0958 \u0915\u093c",  # a composition that is excluded
    "각 \u1100\u1161\u11a8 \u1100\u1161 \u1161\u11a8",  # Hangul, whole and in parts
    "\u0cc6\u0cd5 \u0cca\u0cd5",  # second halves that are no marks of a class
    "İstanbul ıslak I i ß ẞ ŉ ﬁ ﬃ ς σ Σ ᾈ ᾳ K ſ Ⅷ ⅷ",
    "مرحبا بالعالم שלום עולם \u202eabc\u202c",
    "👩\u200d👩\u200d👧 🇳🇴 1\ufe0f\u20e3 x\u200dy x\u200cy so\u00adft",
    "𝒜𝓫 𐐀𐐨 😀a😀 \U0010ffff \ue000 \ufffe",
    "漢字かな交じり文テスト。ｶﾞｷﾞ 〇一 々ー abc漢def12漢",
    "ภาษาไทยก็ดี ๑๒๓ไทย ພາສາລາວ ភាសាខ្មែរ မြန်မာ ꩠꧠ",
    "か\u3099が\u3099a",  # kana and a voiced mark, twice
    "a\u0301漢\u0301a漢a\u0301",
    "\u2028line\u2029par\u0085nel\u3000wide\u00a0nbsp\u1680x",
    "x" * 300 + " " + "y" * 127 + " " + "z" * 128 + " " + "é" * 70,
]
ALPHABET = sorted(set("".join(HARD)) | set(map(chr, range(128))))


def cut(name: str, texts: list[str]) -> list[list[tuple[str, int, int]]]:
    words, refused = normaliser(OverlapOptions(normalisation=name))(pa.array(texts, pa.large_string()))
    assert refused == []
    assert len(words.bounds) == len(texts) + 1
    norm = words.norm.tobytes()
    rows = [
        (norm[at : at + size].decode(), start, end)
        for at, size, start, end in zip(
            words.at_W.tolist(), words.size_W.tolist(), words.start_W.tolist(), words.end_W.tolist(), strict=True
        )
    ]
    return [rows[a:b] for a, b in zip(words.bounds[:-1].tolist(), words.bounds[1:].tolist(), strict=True)]


@pytest.mark.parametrize("name", REFERENCES)
def test_hard_texts_alone_and_together(name: str) -> None:
    expected = [REFERENCES[name](text) for text in HARD]
    assert cut(name, HARD) == expected
    for text, words in zip(HARD, expected, strict=True):
        assert cut(name, [text]) == [words], text


@pytest.mark.parametrize("name", REFERENCES)
@given(texts=st.lists(st.text(st.sampled_from(ALPHABET), max_size=30), max_size=6))
@settings(max_examples=300, deadline=None)
def test_random_texts_of_hard_characters(name: str, texts: list[str]) -> None:
    assert cut(name, texts) == [REFERENCES[name](text) for text in texts]


@pytest.mark.parametrize("name", REFERENCES)
@given(text=st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_random_text_of_all_of_unicode(name: str, text: str) -> None:
    assert cut(name, [text]) == [REFERENCES[name](text)]


@given(text=st.text(st.sampled_from(ALPHABET), max_size=40))
@settings(max_examples=200, deadline=None)
def test_canonically_equivalent_texts_have_the_same_words(text: str) -> None:
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    first, *others = [[word for word, _, _ in words] for words in cut("words-1", [text, *forms])]
    assert all(other == first for other in others)


def test_every_character_by_itself() -> None:
    texts = [f"a{chr(code)}b" for code in range(0x3400) if not 0xD800 <= code < 0xE000]
    assert cut("words-1", texts) == [words_1(text) for text in texts]


def test_long_texts_are_cut_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(ALPHABET, size=size)) for size in rng.integers(0, 400, 40)]
    expected = cut("words-1", texts), cut("janitor-1", texts)
    for size in (1, 7, 64):
        monkeypatch.setattr(pieces, "PIECE_BYTES", size)
        assert (cut("words-1", texts), cut("janitor-1", texts)) == expected


def test_case_folding_is_the_simple_one() -> None:
    assert [fold(c) for c in "AßẞİıſKΣςﬁᾈᏸ"] == ["a", "ß", "ß", "İ", "ı", "s", "k", "σ", "σ", "ﬁ", "ᾀ", "Ᏸ"]


def test_tables_look_at_every_letter_digit_and_mark() -> None:
    beyond = set(range(sys.maxunicode + 1)) - set(_ASSIGNED)
    assert not [code for code in beyond if unicodedata.category(chr(code))[0] in "LNM"]
    assert not [code for code in beyond if unicodedata.decomposition(chr(code)) or unicodedata.combining(chr(code))]


def test_composition_keeps_the_number_of_clusters() -> None:
    opens = opens_cluster()
    for code in _ASSIGNED:
        if not 0xD800 <= code < 0xE000:
            spelt = unicodedata.normalize("NFD", chr(code))
            # What an opening character becomes opens one cluster; what any other becomes opens none.
            assert [bool(opens[ord(c)]) for c in spelt] == [bool(opens[code])] + [False] * (len(spelt) - 1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 50])
def test_gram_hashes_depend_on_their_words_alone(n: int) -> None:
    words, _ = normaliser(OverlapOptions())(
        pa.array(["a b c d e f g h " * 20, "b c d e f g h a " * 20], pa.large_string())
    )
    hash_W = words.hashed()
    hashes = gram_hashes(hash_W, n)
    assert len(hashes) == len(words) - n + 1
    assert len(set(hashes[: 160 - n + 1].tolist())) == 8
    assert (hashes[: 153 - n] == hashes[8 : 161 - n]).all()  # eight words on
    assert (hashes[160 : 312 - n] == hashes[1 : 153 - n]).all()  # the other text begins one word on
    assert len(gram_hashes(hash_W[: n - 1], n)) == 0


def test_hashes_are_pinned() -> None:
    """Indexes are read by other processes, perhaps of another version: the hash is part of their format."""
    words, _ = normaliser(OverlapOptions())(pa.array(["a bc " + "d" * 9 + " " + "e" * 200], pa.large_string()))
    assert words.hashed().tolist() == PINNED
    assert gram_hashes(words.hashed(), 3).tolist() == PINNED_3


PINNED = [16009069988240033950, 8778598752929232325, 7300758657723733704, 11704026002114571462]
PINNED_3 = [15152907018670118203, 13908186565617288515]


def test_normalisations_are_named() -> None:
    assert set(NORMALISATIONS) == {"words-1", "janitor-1", "tokens"}
    with pytest.raises(OverlapError, match="needs a tokenizer"):
        normaliser(OverlapOptions(normalisation="tokens"))
    with pytest.raises(OverlapError, match="expected one of words-1"):
        OverlapOptions(normalisation="words-2")
