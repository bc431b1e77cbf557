"""Transforms of texts: how they are named, and what each may and may not do to any text."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.transform import Transform, TransformError, parse_transform
from operators.transform.blocks import split, text_change
from operators.transform.perturb import _NEIGHBOURS, KINDS
from operators.transform.pieces import LINES, SENTENCES, WORDS, cut, join
from operators.transform.shuffle import UNITS

TEXT = (
    "It was the best of times, it was the worst of times; it was the age of wisdom.\n\n"
    "\tIt was the epoch of belief! Was it?  The season of Light, the season of Darkness … \r\n"
    "漢字かな交じり文です。二つ目の文。 emoji 👩‍👩‍👧‍👦 نص عربي e\u0301 ЙЦУКЕН ß İ"
)
HOSTILE = (
    "",
    " ",
    "\n\t \u2003",
    "x",
    "\u0301",
    "\u0301\u0302 \u200d",
    "👩‍👩‍👧‍👦",
    "\x00\x01\x1b[31m",
    "ﬁ ŉ ǆ İ ß",
    "。。。 . . !",
    "a b",
)
SPECS = (
    *(f"perturb:kind={kind}" for kind in KINDS),
    *(f"perturb:kind={kind},rate=1" for kind in KINDS),
    *(f"shuffle:unit={unit}" for unit in UNITS),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from([TEXT, *HOSTILE])
# What text is made of where it has words: letters of several scripts between white space.
wordy = st.text(st.sampled_from("abÄß漢かи\u0301👩 \n\t.。!"), max_size=60)


def changed(spec: str, text: str, key: str = "k") -> str:
    change = text_change(parse_transform(spec))
    assert change is not None
    return change(key, text)


def words(text: str) -> list[str]:
    return cut(text, WORDS)[0]


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("lowercase", "lowercase"),
        (" lowercase ", "lowercase"),
        ("perturb:kind=swap_words", "perturb:kind=swap_words"),
        ("perturb:kind=swap_words,rate=0.3,seed=0,copy=1", "perturb:kind=swap_words"),
        ("perturb:copy=2,seed=7,rate=.50,kind=whitespace", "perturb:kind=whitespace,rate=0.5,seed=7,copy=2"),
        ("perturb:kind=underscore,rate=1", "perturb:kind=underscore,rate=1"),
        ("shuffle:unit=words", "shuffle"),
        ("shuffle:copy=12,unit=lines", "shuffle:unit=lines,copy=12"),
        ("prefix:shots=7,label=0,seed=0", "prefix:label=0"),
        ("prefix:seed=3,shots=2,label=1", "prefix:label=1,shots=2,seed=3"),
        ("prefix:file=s3://b/f.txt,label=0", "prefix:label=0,file=s3://b/f.txt"),
        ("unprompted", "unprompted"),
        ("external:copy=3,kind=t5-base", "external:kind=t5-base,copy=3"),
        ("windows:suffix=50,prefix=50,offset=0", "windows"),
        ("windows:offset=25,suffix=10", "windows:suffix=10,offset=25"),
    ],
)
def test_one_spelling(spec: str, canonical: str) -> None:
    transform = parse_transform(spec)
    assert transform.canonical == canonical
    assert parse_transform(canonical) == transform == pickle.loads(pickle.dumps(transform))


def test_a_mapping_says_the_same() -> None:
    fields = {"name": "perturb", "kind": "swap_words", "rate": 0.5, "copy": 2}
    assert parse_transform(fields) == parse_transform("perturb:kind=swap_words,rate=0.5,copy=2")
    assert parse_transform({"name": "lowercase"}).canonical == "lowercase"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "upper",
            ["no transform 'upper'", "lowercase, perturb, shuffle, prefix, unprompted, windows, orders, external"],
        ),
        ("", ["no transform ''"]),
        ("lowercase:a=1", ["no key 'a'", "its keys: none"]),
        ("perturb", ["needs kind", "swap_words", "no synonyms"]),
        ("perturb:kind=synonyms,rate=2,copy=0,x=1", ["kind=synonyms", "rate=2", "copy=0", "no key 'x'"]),
        ("perturb:kind=swap_words,kind=whitespace", ["given twice"]),
        ("perturb:kind", ["expected kind=VALUE"]),
        ("perturb:kind=swap_words,rate=nan", ["rate=nan", "such as 0.25"]),
        ("perturb:kind=swap_words,seed=-1,copy=99999", ["seed=-1", "copy=99999"]),
        ("shuffle:", ["no key ''"]),
        ("prefix", ["prefix needs label"]),
        ("prefix:label=2,shots=0", ["label=2", "shots=0"]),
        ("prefix:label=0,file=a,shots=3,seed=1", ["file and seed and shots"]),
        ("prefix:label=0,file=a\x1b[31m", ["file="]),
        ("external:kind=../up", ["kind=../up"]),
        ("windows:prefix=0,suffix=1048577,offset=-1,copy=2", ["prefix=0", "suffix=1048577", "offset=-1", "'copy'"]),
        ({"kind": "swap_words"}, ["no transform ''"]),
    ],
)
def test_every_fault_is_named(spec: str | dict[str, object], said: list[str]) -> None:
    with pytest.raises(TransformError) as error:
        parse_transform(spec)
    assert [part for part in said if part not in str(error.value)] == []


def test_copies_differ_in_nothing_else() -> None:
    transform = parse_transform("perturb:kind=swap_words,seed=3")
    assert [transform.copy(n).canonical for n in (1, 2)] == [transform.canonical, f"{transform.canonical},copy=2"]
    assert transform.copy(5).copy(1) == transform
    for spec in ("lowercase", "unprompted", "prefix:label=0", "external", "windows"):
        with pytest.raises(TransformError, match="no copies"):
            parse_transform(spec).copy(2)


def test_default_rates_are_as_published() -> None:
    rates = {kind: parse_transform(f"perturb:kind={kind}").get("rate") for kind in KINDS}
    assert rates == {
        "swap_words": 0.3, "substitute_words": 0.15, "delete_words": 0.25, "butter_fingers": 0.1,
        "change_case": 0.25, "whitespace": 0.25, "underscore": 0.25,
    }  # fmt: skip


@given(texts | wordy)
def test_parts_and_gaps_are_the_text(text: str) -> None:
    for pattern in (WORDS, SENTENCES, LINES):
        parts, gaps = cut(text, pattern)
        assert join(parts, gaps) == text
        assert all(parts)
        assert len(gaps) == len(parts) + 1
    assert "".join(cut(text, WORDS)[1]).strip() == ""
    assert "".join(cut(text, SENTENCES)[1]).strip() == ""


def test_what_words_sentences_and_lines_are() -> None:
    assert words("Ein Wort, 漢字かな mixed漢x") == ["Ein", "Wort,", *"漢字かな", "mixed", "漢", "x"]
    sentences, _ = cut(' One. "Two!" said he 3.5 times?  三。四\nfive \n', SENTENCES)
    assert sentences == ["One.", '"Two!" said he 3.5 times?', "三。", "四\nfive"]
    assert cut("a\r\n\n b\rc", LINES)[0] == ["a", " b", "c"]


@pytest.mark.parametrize(
    "text", [" " * 300_000, "x" * 300_000, ". " * 150_000, "\n" * 300_000, "a\n" * 150_000, "…" * 300_000]
)
def test_long_monotonous_texts_take_linear_time(text: str) -> None:
    for pattern in (WORDS, SENTENCES, LINES):
        assert join(*cut(text, pattern)) == text


@given(texts | wordy, st.text(max_size=5), st.integers(1, 3))
def test_any_text_changes_to_a_text_the_same_way_every_time(text: str, key: str, copy: int) -> None:
    for spec in SPECS:
        change = text_change(parse_transform(spec).copy(copy))
        assert change is not None
        new = change(key, text)
        assert new.encode().decode() == change(key, text)


def test_each_document_copy_and_seed_has_changes_of_its_own() -> None:
    for spec in (f"perturb:kind={kind}" for kind in KINDS):
        found = {changed(f"{spec}{more}", TEXT, key) for key in "ab" for more in ("", ",copy=2", ",seed=1")}
        assert len(found) == 6, spec


# Runs made by different versions must agree, or a resumed run would mix them.
GOLDEN = {
    "lowercase": "fe614e6ed666",
    "perturb:kind=swap_words": "c11656223f62",
    "perturb:kind=substitute_words": "28554976014a",
    "perturb:kind=delete_words": "7073d15cbeb3",
    "perturb:kind=butter_fingers": "0e11599baeef",
    "perturb:kind=change_case": "6fd784c7c390",
    "perturb:kind=whitespace": "cde87b793a7f",
    "perturb:kind=underscore": "3fbe74ee6910",
    "shuffle": "9e8cfe323150",
    "shuffle:unit=sentences,copy=3": "f8e20f3820f6",
    "shuffle:unit=lines,copy=2": "4ad08ac40ea8",
}


def test_changes_are_those_of_earlier_versions() -> None:
    assert {spec: hashlib.sha256(changed(spec, TEXT).encode()).hexdigest()[:12] for spec in GOLDEN} == GOLDEN


def test_another_process_makes_the_same_changes() -> None:
    code = (
        "from operators.transform.blocks import text_change; from operators.transform import parse_transform;"
        "print(text_change(parse_transform('perturb:kind=substitute_words'))('k', 'one two three four five six'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.rstrip("\n") == changed("perturb:kind=substitute_words", "one two three four five six")


@given(texts | wordy)
def test_lowercase_is_pythons(text: str) -> None:
    assert changed("lowercase", text) == text.lower()


@given(wordy, st.sampled_from(["perturb:kind=swap_words", "perturb:kind=swap_words,rate=1", "shuffle"]))
def test_words_change_places_and_gaps_do_not(text: str, spec: str) -> None:
    before, gaps = cut(text, WORDS)
    new = changed(spec, text)
    if "".join(gaps[1:-1]) and all(gaps[1:-1]):  # else neighbours of one script may read as one word
        after, gaps_after = cut(new, WORDS)
        assert gaps_after == gaps
        assert Counter(after) == Counter(before)
        moved = sum(a != b for a, b in zip(before, after, strict=True))
        assert spec == "shuffle" or moved <= 2 * max(1, int(float(spec.partition("rate=")[2] or 0.3) * len(before)))
    assert Counter(new) == Counter(text)


def test_swaps_are_as_many_as_asked_for() -> None:
    text = " ".join(map(str, range(1000)))
    moved = sum(a != b for a, b in zip(text.split(), changed("perturb:kind=swap_words", text).split(), strict=True))
    # 300 swaps of 2 of 1000 places touch 1000 (1 - (1 - 2/1000)^300) = 451 places on average, some of them back again.
    assert 400 < moved < 500


@given(st.lists(st.text("abcdefg", min_size=1, max_size=9), min_size=1, max_size=40))
def test_substitutes_are_other_words_of_the_document(before: list[str]) -> None:
    after = changed("perturb:kind=substitute_words", " ".join(before)).split(" ")
    replaced = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(replaced) == (max(1, int(0.15 * len(before))) if len(set(before)) > 1 else 0)
    assert set(after) <= set(before)
    for old, new in replaced:
        alike = {w for w in before if len(w).bit_length() == len(old).bit_length()}
        assert new in alike or alike == {old}


@given(wordy, st.sampled_from([0.01, 0.25, 1.0]))
def test_deleting_leaves_words_in_order_and_at_least_one(text: str, rate: float) -> None:
    new = changed(f"perturb:kind=delete_words,rate={rate}", text)
    letters = iter("".join(text.split()))
    assert all(letter in letters for letter in "".join(new.split()))  # a subsequence
    assert bool(words(new)) == bool(words(text))
    assert new[: len(new) - len(new.lstrip())] == text[: len(text) - len(text.lstrip())] or not words(text)


@given(texts | wordy, st.sampled_from([0.1, 1.0]))
def test_typos_are_neighbouring_keys_in_the_same_case(text: str, rate: float) -> None:
    new = changed(f"perturb:kind=butter_fingers,rate={rate}", text)
    for before, after in zip(text, new, strict=True):
        if before != after:
            assert after.lower() in _NEIGHBOURS[before.lower()]
            assert after.isupper() == before.isupper()
        else:
            assert rate < 1 or before.lower() not in _NEIGHBOURS


def test_keys_are_neighbours_of_each_other() -> None:
    assert len(_NEIGHBOURS) == 26
    assert all(key in _NEIGHBOURS[near] and near != key for key, nears in _NEIGHBOURS.items() for near in nears)
    assert set(_NEIGHBOURS["g"]) == set("tyfhvb")


@given(texts, st.sampled_from([0.25, 1.0]))
def test_case_underscores_and_white_space_touch_nothing_else(text: str, rate: float) -> None:
    for before, after in zip(text, changed(f"perturb:kind=change_case,rate={rate}", text), strict=True):
        assert after in (before, before.swapcase())
    for before, after in zip(text, changed(f"perturb:kind=underscore,rate={rate}", text), strict=True):
        assert after == before or (before, after) == (" ", "_")
    spaced = changed(f"perturb:kind=whitespace,rate={rate}", text)
    assert "".join(spaced.split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("kind", "text", "share"),
    [
        ("delete_words", "word " * 20_000, lambda new: 1 - len(new.split()) / 20_000),
        ("butter_fingers", "q" * 20_000, lambda new: 1 - new.count("q") / 20_000),
        (
            "change_case",
            "aB" * 10_000,
            lambda new: sum(a != b for a, b in zip(new, "aB" * 10_000, strict=True)) / 20_000,
        ),
        ("underscore", " " * 20_000, lambda new: new.count("_") / 20_000),
        ("whitespace", " " * 20_000, lambda new: 1 - len(new) / 20_000),
        ("whitespace", "x" * 40_000, lambda new: new.count(" ") / 20_000),
    ],
)
def test_rates_are_kept(kind: str, text: str, share: object) -> None:
    rate = KINDS[kind].rate
    found = share(changed(f"perturb:kind={kind}", text))  # type: ignore[operator]
    assert abs(found - rate) < 5 * (rate / 20_000) ** 0.5


def test_prompts_are_cut_off_at_their_bytes() -> None:
    assert split("größer als", len("größer".encode())) == ("größer", " als")
    assert split("text", None) == split("text", 0) == ("", "text")


def test_only_changes_of_texts_are_functions() -> None:
    assert [text_change(Transform(name)) for name in ("unprompted", "external", "prefix")] == [None] * 3
