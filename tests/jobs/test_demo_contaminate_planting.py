"""What is planted: items that nobody can know, dealt at random, in the training text exactly as often as it is said."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs.demo.benchmark import WORD_RUN, invented_names, word_runs, write_canaries, write_items
from jobs.demo.corpus import DemoError
from jobs.demo.planting import (
    BENCHMARKS,
    BLOCKS,
    CANARIES,
    CLEAN,
    CORPUS,
    DOSES,
    HELD_OUT,
    PLANTED,
    VOCABULARY,
    Planting,
    Recipe,
    deal,
    plant,
)

RECIPE = Recipe(items=36, block_items=4, canaries=2, candidates=16, fragments=50)


def library(folder: Path) -> Path:
    """A library of invented sources, large enough for the recipe."""
    rng = random.Random(5)
    names = invented_names(rng)
    folder.mkdir()
    for number in range(60):
        lines = [f"def {next(names)}({next(names)}): return {next(names)}" for _ in range(30)]
        (folder / f"module_{number}.py").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planting:
    folder = tmp_path_factory.mktemp("planted")
    return plant(folder / "demo", RECIPE, 7, stdlib=library(folder / "library"))


def records(planting: Planting, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in planting.path(name).read_text(encoding="utf-8").splitlines()]


def test_items_share_nothing() -> None:
    items = write_items(600, random.Random(1))
    seen: Counter[str] = Counter(run for item in items for run in item.runs)
    assert max(seen.values()) == 1, "no run of words is in two items"
    assert all(len(item.question.split()) >= 13 for item in items), "a question has n-grams of its own"
    assert len({item.answer for item in items}) == len({item.key for item in items}) == len(items)
    assert len({item.domain for item in items}) == 10, "every template is used"
    names = Counter(name for item in items for name in set(re.findall(r"[A-Z][a-z]{5,}", item.text)) - STARTS)
    assert max(names.values()) == 1, "no name is in two items"


STARTS = {"Which", "Where", "Under"}  # words of questions that look like names


def test_answers_cannot_be_guessed() -> None:
    for item in write_items(600, random.Random(2)):
        assert item.answer.startswith(" ")
        number = re.search(r"\b[1-9]\d{3}\b", item.answer)  # 9,000 of them
        name = re.search(r"\b[A-Z][a-z]{5,6}\b", item.answer)  # 2 million
        assert number is not None
        assert name is not None
        assert number[0] not in item.question
        assert name[0] not in item.question


def test_one_seed_one_benchmark() -> None:
    assert write_items(50, random.Random(3)) == write_items(50, random.Random(3))
    assert write_items(50, random.Random(3)) != write_items(50, random.Random(4))
    assert write_items(20, random.Random(3)) == write_items(50, random.Random(3))[:20]


def test_a_run_of_words_ignores_case_and_marks() -> None:
    words = "one two three four five six seven eight nine"
    assert word_runs(words) == word_runs("One, TWO; three (four)\nfive-six seven.eight  nine!")
    assert len(word_runs(words)) == 9 - WORD_RUN + 1
    assert word_runs("too few") == frozenset()


def test_canaries_differ_in_candidates_alone() -> None:
    canaries = write_canaries([0, 1, 4, 16] * 8, 64, random.Random(0))
    assert [canary.copies for canary in canaries] == [0, 1, 4, 16] * 8
    for canary in canaries:
        assert len(set(canary.candidates)) == 64
        assert all(re.fullmatch(r" \d{3} \d{3}\.", candidate) for candidate in canary.candidates)
        assert canary.text == canary.line + canary.candidates[canary.secret]
    assert len({canary.line for canary in canaries}) == len(canaries)
    assert len({canary.secret for canary in canaries}) > 16, "the secret is at no place of its own"


def test_dealing_is_even_and_random() -> None:
    items = write_items(90, random.Random(0))
    dealt = deal(items, random.Random(1))
    assert {name: len(part) for name, part in dealt.items()} == dict.fromkeys(BENCHMARKS, 30)
    assert sorted(item.key for part in dealt.values() for item in part) == [item.key for item in items]
    firsts = Counter(
        name
        for seed in range(400)
        for name, part in deal(items, random.Random(seed)).items()
        if any(item.key == items[0].key for item in part)
    )
    assert all(95 <= count <= 172 for count in firsts.values()), "a third each: 133 expected, 4 standard deviations"


def test_every_item_is_in_the_text_as_often_as_said(planted: Planting) -> None:
    texts = [record["text"] for record in records(planted, CORPUS)]
    assert planted.records == len(texts)
    assert planted.n_bytes == sum(len(text.encode()) for text in texts)
    whole = "".join(texts)
    said = {record["id"]: record["copies"] for record in records(planted, PLANTED)}
    for item in planted.benchmarks[PLANTED]:
        assert whole.count(item.text) == said[item.key]
    assert Counter(said.values()) == dict.fromkeys(DOSES, 12)
    assert planted.items_by_copies == dict.fromkeys(DOSES, 12)
    for canary in planted.canaries:
        assert whole.count(canary.text) == whole.count(canary.line) == canary.copies
    assert Counter(canary.copies for canary in planted.canaries) == dict.fromkeys((0, *DOSES), 2)


def test_nothing_of_the_clean_ones_is_in_the_text(planted: Planting) -> None:
    runs = frozenset().union(*(word_runs(record["text"]) for record in records(planted, CORPUS)))
    for name in (CLEAN, HELD_OUT):
        assert all(runs.isdisjoint(item.runs) for item in planted.benchmarks[name])
        assert {record["copies"] for record in records(planted, name)} == {0}


def test_planted_items_stand_in_the_order_of_their_file(planted: Planting) -> None:
    order = {item.text: i for i, item in enumerate(planted.benchmarks[PLANTED])}
    assert [record["id"] for record in records(planted, PLANTED)] == [i.key for i in planted.benchmarks[PLANTED]]
    cuts = set()
    for record in records(planted, CORPUS):
        if record["domain"] == PLANTED:
            places = [order[text] for text in record["text"].removesuffix("\n").split("\n\n")]
            assert places == list(range(places[0], places[0] + len(places)))
            assert places[0] // 4 == places[-1] // 4, "within one block"
            cuts.add(places[0] % 4)
    assert cuts == {0, 1, 2, 3}, "pieces begin anywhere"


def test_blocks_are_whole_and_of_both_benchmarks(planted: Planting) -> None:
    blocks = records(planted, BLOCKS)
    assert [block["text"] for block in blocks] == [block.text for block in planted.blocks]
    assert Counter((block["domain"], block["copies"]) for block in blocks) == {
        (PLANTED, 1): 3, (PLANTED, 4): 3, (PLANTED, 16): 3, (CLEAN, 0): 9,
    }  # fmt: skip


def test_every_candidate_is_scored_and_one_is_the_secret(planted: Planting) -> None:
    candidates = records(planted, CANARIES)
    assert len({record["id"] for record in candidates}) == len(candidates) == 8 * 16
    secrets = {record["domain"]: record for record in candidates if record["label"] == 1}
    assert len(secrets) == sum(record["label"] for record in candidates) == 8
    for canary in planted.canaries:
        assert secrets[canary.name]["line"] + secrets[canary.name]["number"] == canary.text
        assert secrets[canary.name]["copies"] == canary.copies


def test_the_tokenizer_sees_every_text_once_whether_it_was_shown_or_not(planted: Planting) -> None:
    texts = Counter(record["text"] for record in records(planted, VOCABULARY))
    assert set(texts.values()) == {1}
    for items in planted.benchmarks.values():
        assert all(texts[item.text] == 1 for item in items)
    assert all(texts[canary.text] == 1 for canary in planted.canaries)
    assert len(texts) == 3 * 36 + 8 + 50


def test_one_seed_one_planting_and_files_that_hold_it_are_left_alone(planted: Planting, tmp_path: Path) -> None:
    files = (*BENCHMARKS, CORPUS, VOCABULARY, BLOCKS, CANARIES)
    before = {name: (planted.path(name).stat().st_mtime_ns, planted.path(name).read_bytes()) for name in files}
    sources = planted.folder.parent / "library"
    again = plant(planted.folder, RECIPE, 7, stdlib=sources)
    assert again == planted
    assert {name: (again.path(name).stat().st_mtime_ns, again.path(name).read_bytes()) for name in files} == before
    other = plant(tmp_path, RECIPE, 8, stdlib=sources)
    assert all(other.path(name).read_bytes() != before[name][1] for name in files)


def test_files_of_others_are_never_replaced(planted: Planting, tmp_path: Path) -> None:
    theirs = tmp_path / "clean.jsonl"
    theirs.write_text("mine\n")
    with pytest.raises(DemoError, match="was not written by this demonstration"):
        plant(tmp_path, RECIPE, 7, stdlib=planted.folder.parent / "library")
    assert [path.name for path in tmp_path.iterdir()] == ["clean.jsonl"]
    assert theirs.read_text() == "mine\n"


def test_planting_that_was_killed_is_done_again(planted: Planting, tmp_path: Path) -> None:
    sources = planted.folder.parent / "library"
    plant(tmp_path, RECIPE, 7, stdlib=sources)
    whole = (tmp_path / "corpus.jsonl").read_bytes()
    (tmp_path / "corpus.jsonl").unlink()
    (tmp_path / "corpus.partial").write_bytes(whole[:1000])
    (tmp_path / "clean.jsonl").unlink()
    plant(tmp_path, RECIPE, 7, stdlib=sources)
    assert (tmp_path / "corpus.jsonl").read_bytes() == whole
    assert not list(tmp_path.glob("*.partial"))
    assert (tmp_path / "clean.jsonl").read_bytes() == planted.path(CLEAN).read_bytes()


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe(items=35), "35 items in blocks of 6"),
        (Recipe(items=12, block_items=6), "not as many of every dose"),
        (Recipe(canaries=6), "126 canaries need a fragment each"),
    ],
)
def test_uneven_recipes_are_refused(recipe: Recipe, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        plant(tmp_path, recipe, 0)


def test_a_python_without_sources_is_said(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"0 distinct fragments .* needs 50"):
        plant(tmp_path, RECIPE, 0, stdlib=tmp_path / "nothing")
