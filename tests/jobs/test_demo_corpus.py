"""The demonstration's corpus: the reader's own library, distinct passages, labels dealt at random."""

from __future__ import annotations

import json
import random
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs.demo import corpus as demo_corpus
from jobs.demo.corpus import (
    COPIES,
    LINE_BYTES,
    LONG_LINE,
    MAX_BYTES,
    MIN_BYTES,
    CorpusInfo,
    DemoError,
    Fragment,
    build_corpus,
    cut,
    fragments,
)

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
SKIPPED = ("test", "tests", "site-packages", "lib2to3", "encodings")


def records(info: CorpusInfo) -> list[dict[str, Any]]:
    with info.path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def prose(rng: random.Random, lines: int = 40) -> str:
    """Text whose lines are all different."""
    words = ("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(6 * lines))
    return "".join(" ".join(line) + "\n" for line in zip(*[words] * 6, strict=True))


def write_library(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> CorpusInfo:
    return build_corpus(tmp_path_factory.mktemp("demo"), 60, 40, seed=7)


def test_the_file_is_what_the_info_says(built: CorpusInfo) -> None:
    rows = records(built)
    assert {p.name for p in built.path.parent.iterdir()} == {"corpus.jsonl", "background.jsonl"}, "no partial file"
    assert all(list(row) == ["id", "text", "label", "domain", "source_file", "line", "copies"] for row in rows)
    assert (built.members, built.heldout, len(rows)) == (60, 40, 100)
    assert Counter(row["copies"] for row in rows) == built.copies == {0: 40, **dict.fromkeys(COPIES, 15)}
    assert all((row["label"] == 1) == (row["copies"] > 0) for row in rows)
    assert Counter(row["domain"] for row in rows) == built.domains
    assert sum(len(row["text"].encode()) for row in rows) == built.n_bytes
    assert len({row["source_file"] for row in rows}) == built.files
    assert len({row["id"] for row in rows}) == len(rows)
    assert [(r["source_file"], r["line"]) for r in rows] == sorted((r["source_file"], r["line"]) for r in rows)


def test_texts_are_the_library_s_own_lines(built: CorpusInfo) -> None:
    for row in records(built):
        lines = (LIBRARY / row["source_file"]).read_text(encoding="utf-8").split("\n")
        text = row["text"].removesuffix("\n").split("\n")
        assert lines[row["line"] - 1 :][: len(text)] == text
        assert MIN_BYTES <= len(row["text"].encode()) <= MAX_BYTES + LINE_BYTES
        assert not set(Path(row["source_file"]).parts) & set(SKIPPED)


def test_no_member_shares_a_long_line_with_held_out_text(built: CorpusInfo) -> None:
    seen: dict[int, set[str]] = {0: set(), 1: set()}
    for row in records(built):
        folded = (" ".join(line.split()) for line in row["text"].split("\n"))
        seen[row["label"]] |= {line for line in folded if len(line) >= LONG_LINE}
    assert seen[0]
    assert seen[1]
    assert seen[0].isdisjoint(seen[1])


def test_no_two_documents_share_a_passage(built: CorpusInfo) -> None:
    counts = Counter(
        mark for row in records(built) for mark in Fragment(row["source_file"], row["line"], row["text"]).marks
    )
    assert max(counts.values()) == 1


def test_every_domain_takes_part(built: CorpusInfo) -> None:
    assert len(built.domains) == 9
    assert max(built.domains.values()) - min(built.domains.values()) <= 1


def test_one_seed_one_corpus(built: CorpusInfo, tmp_path: Path) -> None:
    again = build_corpus(tmp_path / "again", 60, 40, seed=7)
    other = build_corpus(tmp_path / "other", 60, 40, seed=8)
    assert again.path.read_bytes() == built.path.read_bytes()
    assert other.path.read_bytes() != built.path.read_bytes()


def test_labels_fall_on_every_text_alike(tmp_path: Path) -> None:
    rng = random.Random(0)
    library = write_library(tmp_path / "lib", {f"module{i:02}.py": prose(rng) for i in range(10)})
    n = sum(1 for _ in fragments(library))
    member: Counter[str] = Counter()
    for seed in range(300):
        rows = records(build_corpus(tmp_path / "out", n // 2, n - n // 2, seed, n_background=0, stdlib=library))
        member.update(row["id"] for row in rows if row["label"])
    assert len(member) == n
    for times in member.values():
        assert times / 300 == pytest.approx((n // 2) / n, abs=4 * 0.5 / 300**0.5)


def test_a_copied_passage_is_drawn_once_however_its_lines_are_broken(tmp_path: Path) -> None:
    rng = random.Random(0)
    original = prose(rng, 24)
    reflowed = "\n".join(original.split()) + "\n"
    texts = {
        "original.py": original,
        "reflowed.py": reflowed,
        "shouting.py": original.upper(),
        "other.py": prose(rng, 24),
    }
    found = list(fragments(write_library(tmp_path, texts)))
    assert len(found) == 4
    drawn = demo_corpus.draw_fragments(found, 4, random.Random(1))
    assert len(drawn) == 2
    assert "other.py" in {fragment.source_file for fragment in drawn}


def test_unusable_files_are_passed_over(tmp_path: Path) -> None:
    rng = random.Random(0)
    unusable = {
        "test/test_it.py": prose(rng),
        "site-packages/other.py": prose(rng),
        "config-3.11-x86_64/tool.py": prose(rng),
        "_sysconfigdata__linux.py": prose(rng),
        "licensed.py": "# This file is under a License.\n" + prose(rng, 24),
        "table.py": "".join(f"    0x{i:04x}: ({i * 7}, {i * 13}),\n" for i in range(100)),
        "long.py": "x" * (LINE_BYTES + 1) + "\n" + prose(rng, 20),
    }
    library = write_library(tmp_path, {**unusable, "good.py": prose(rng, 24)})
    (library / "latin.py").write_bytes("# coding: latin-1\n# é\n".encode("latin-1") + prose(rng).encode())
    assert [fragment.source_file for fragment in fragments(library)] == ["good.py"]


def test_cuts_end_at_blank_lines_and_count_form_feeds_as_text() -> None:
    page = "a line of forty characters, end included\n"
    text = page * 10 + "\f\n" + page * 16 + "\n" + page * 45
    pieces = list(cut("module.py", text))
    assert [piece.line for piece in pieces] == [1, 29], "and the rest is too short"
    assert pieces[0].text == page * 10 + "\f\n" + page * 16 + "\n"
    assert "".join(piece.text for piece in pieces) == text[: sum(len(piece.text) for piece in pieces)]


@pytest.mark.parametrize("library", ["empty", "absent", "python.zip"])
def test_a_library_without_sources_is_a_clear_error(tmp_path: Path, library: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "python.zip").write_bytes(b"PK")
    with pytest.raises(DemoError, match=r"holds 0 distinct fragments .* needs 21.*regular CPython"):
        build_corpus(tmp_path / "out", 10, 10, stdlib=tmp_path / library)
    assert not (tmp_path / "out").exists()


def test_both_classes_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 10 and 0"):
        build_corpus(tmp_path, 10, 0)


def test_no_module_has_two_domains() -> None:
    names = [name for names in demo_corpus._DOMAINS.values() for name in names.split()]
    assert len(names) == len(set(names))
    assert Fragment("asyncio/events.py", 1, "").domain == "concurrency"
    assert Fragment("_module_of_the_future.py", 1, "").domain == "system"


@pytest.mark.slow
def test_words_alone_cannot_tell_members(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    aurocs = []
    for seed in range(10):
        rows = records(build_corpus(tmp_path, seed=seed))
        labels = [row["label"] for row in rows]
        words = CountVectorizer(binary=True).fit_transform(row["text"] for row in rows)
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        model = LogisticRegression(C=0.1, max_iter=1000)
        guess = cross_val_predict(model, words, labels, cv=folds, method="predict_proba")[:, 1]
        aurocs.append(roc_auc_score(labels, guess))
    # One corpus's AUROC varies by 0.046 around chance, so the mean of ten varies by 0.015: four of those.
    assert sum(aurocs) / len(aurocs) == pytest.approx(0.5, abs=0.06)


def test_the_background_is_other_text_and_changes_nothing_in_the_corpus(tmp_path: Path, built: CorpusInfo) -> None:
    alone = build_corpus(tmp_path, 60, 40, seed=7, n_background=0)
    assert alone.path.read_bytes() == built.path.read_bytes()
    assert alone.background.read_bytes() == b""
    rows = [json.loads(line) for line in built.background.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 200
    assert {row["copies"] for row in rows} == {1}
    assert {row["id"] for row in rows}.isdisjoint(row["id"] for row in records(built))
