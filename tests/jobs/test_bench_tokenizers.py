"""The tokenizer benchmark in miniature: its texts, its tokenizer, and that a wrong count cannot pass."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from output import unfolded
from tokenizers import Tokenizer
from typer.testing import CliRunner

from jobs.bench.targets import lines_of
from jobs.bench.tokenizers import run, texts, trained
from jobs.bench.tokenizers.texts import SHARES, Texts, make_texts
from jobs.cli import app

SCRIPTS = {"cyrillic": "CYRILLIC", "greek": "GREEK", "arabic": "ARABIC", "devanagari": "DEVANAGARI", "han": "CJK"}


def records(folder: Path) -> list[dict[str, str]]:
    lines = [line for shard in sorted(folder.iterdir()) for line in shard.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def test_texts_are_of_their_scripts_and_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "SHARD_BYTES", 200_000)
    made = make_texts(tmp_path / "a", 600_000)
    rows = records(made.folder)
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes[row["domain"]] += len(row["text"].encode())
    assert (len(rows), sum(sizes.values())) == (made.n_documents, made.n_bytes)
    assert len(list(made.folder.iterdir())) >= 3
    assert 600_000 <= made.n_bytes < 900_000
    for domain, share in SHARES.items():
        assert sizes[domain] / made.n_bytes == pytest.approx(share, abs=0.08)
    for domain, script in SCRIPTS.items():
        letters = [c for row in rows if row["domain"] == domain for c in row["text"] if c.isalpha()]
        of_script = sum(unicodedata.name(c, "").startswith(script) for c in letters)
        assert of_script > 0.95 * len(letters)
    again, same, other = (
        records(make_texts(tmp_path / name, 60_000, seed).folder) for name, seed in (("b", 0), ("c", 0), ("d", 1))
    )
    assert again == same != other


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        path = trained.trained_tokenizer(400, 100_000)
        patch.setattr(trained, "_train", lambda *_: pytest.fail("it is there already"))
        assert trained.trained_tokenizer(400, 100_000) == path
    return path


def test_the_tokenizer_is_trained_once_and_kept_whole(tokenizer: Path) -> None:
    assert Tokenizer.from_file(str(tokenizer)).get_vocab_size() == 400
    assert [each.name for each in tokenizer.parent.iterdir()] == [tokenizer.name]


def test_a_profile_counts_what_bare_encoding_counts(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "trained_tokenizer", lambda: tokenizer)
    done = CliRunner().invoke(app, ["bench", "tokenizers", "--size", "150KB", "--engine", "inline"])
    assert done.exit_code == 0, done.output
    (line,) = lines_of(done.output)
    found = line["results"]["inline"]
    assert line["config"]["size"] == 150_000
    assert found["is_right"]
    assert found["tokens"] > found["documents"] > 10
    assert found["documents"] == line["config"]["documents"]
    assert found["over_bare"] > 1
    assert found["mb_s"] < found["bare_mb_s"]
    assert found["peak_mib"] > 50


ROWS = [{"part": "all", "domain": None, "statistic": "fertility", "value": 2.0}]


@pytest.mark.parametrize(
    ("ours", "bare", "changed", "code"),
    [
        ((9, 3), (9, 3), 0, 0),
        ((9, 3), (8, 3), 0, 1),
        ((9, 3), (9, 2), 0, 1),
        ((0, 0), (0, 0), 0, 1),
        ((9, 3), (9, 3), 1, 1),
    ],
)
def test_counts_that_differ_end_with_an_exit_code(
    ours: tuple[int, int],
    bare: tuple[int, int],
    changed: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def profile(variant: run.Profiling, *_: Any) -> None:
        variant.seconds.append(2.0)
        variant.peaks.append(1)
        variant.tokens, variant.documents = ((mine, his) for mine, his in zip(ours, bare, strict=True))
        variant.rows = [row | {"value": row["value"] + changed * (variant.engine == "ray")} for row in ROWS]

    monkeypatch.setattr(run, "trained_tokenizer", lambda: tmp_path)
    monkeypatch.setattr(run, "make_texts", lambda *_: Texts(tmp_path, 3, 1000))
    monkeypatch.setattr(run, "_profile", profile)
    monkeypatch.setattr(run, "_encode", lambda variant, *_: variant.bare_seconds.append(1.0))
    done = CliRunner().invoke(app, ["bench", "tokenizers", "--size", "1KB"])
    assert done.exit_code == code
    results = lines_of(done.output)[-1]["results"]
    assert results["ray"]["over_bare"] == 2.0
    assert results["engines_agree"] == (not changed)
    assert (results["ray"]["digest"] == results["inline"]["digest"]) == (not changed)


@pytest.mark.parametrize(
    ("flags", "said"), [(("--size", "much"), "--size much: a size as"), (("--engine", "x"), "--engine x: choose from")]
)
def test_what_cannot_be_measured_is_refused(flags: tuple[str, str], said: str) -> None:
    done = CliRunner().invoke(app, ["bench", "tokenizers", *flags])
    assert done.exit_code == 2
    assert said in unfolded(done.output)
