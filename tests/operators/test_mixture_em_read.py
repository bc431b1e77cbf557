"""What is read of several runs for mixture weights: the same documents, the same bytes, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb
import lakes
import memorized_runs
import numpy as np
import pytest
from memorized_runs import Document

from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.mixtures import em_read
from operators.mixtures.em_read import read_tokens, read_totals
from operators.parquet import encode
from schemas import DOCUMENTS, TOKENS
from schemas.documents import ROLLUPS

N = 25


def spelt(text: bytes, rng: np.random.Generator, *, bos: bool, eos: bool = False) -> tuple[list[bytes], list[bool]]:
    """Pieces of a text cut at random, and which have a prediction."""
    cuts = np.unique(np.append(rng.integers(1, len(text), max(1, len(text) // 3)), [0, len(text)]))
    pieces = [text[a:b] for a, b in pairwise(cuts)]
    pieces = [b""] * bos + pieces + [b""] * eos
    return pieces, [i > 0 for i in range(len(pieces))]


def scored(keys: Sequence[str], seed: int, *, bos: bool, eos: bool = False) -> list[Document]:
    """Documents of texts that the keys decide, cut and scored by the seed."""
    rng, found = np.random.default_rng(seed), []
    for key in keys:
        text = (key * 4).encode()
        pieces, has_prediction = spelt(text, rng, bos=bos, eos=eos)
        logprobs = [-float(np.float32(rng.gamma(2, 1))) if has else None for has in has_prediction]
        found.append(Document(key, [False if has else None for has in has_prediction], logprobs, pieces))
    return found


KEYS = tuple(f"key-{i}-{'x' * (i % 7)}" for i in range(N))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def write(lake: Lake, **runs: list[Document]) -> None:
    for name, documents in runs.items():
        memorized_runs.write_run(lake, name, documents, features=())


def by_key(documents: Sequence[Document]) -> dict[str, Document]:
    return {each.key: each for each in documents}


def keys_of(connection: duckdb.DuckDBPyConnection, run: str, ids: Sequence[int]) -> list[str]:
    found = dict(connection.execute("select doc_id, key from documents where run_id = $r", {"r": run}).fetchall())
    return [found[i] for i in ids]


def test_totals_are_of_the_documents_that_all_runs_have(lake: Lake) -> None:
    a, b = scored(KEYS, 1, bos=True), scored(KEYS[4:], 2, bos=True)
    write(lake, a=a, b=b)
    with reading(lake.root) as connection:
        found = read_totals(connection, ["a", "b"], cut=False)
        keys = keys_of(connection, "a", found.doc_ids.tolist())
    assert (found.of_run, found.in_all, len(found)) == ((N, N - 4), N - 4, N - 4)
    assert sorted(keys) == sorted(KEYS[4:])
    assert (np.diff(found.doc_ids) > 0).all()
    for i, key in enumerate(keys):
        totals = [sum(p for p in by_key(run)[key].logprobs if p is not None) for run in (a, b)]
        assert found.logprob_DK[i] == pytest.approx(totals, rel=1e-9)
        assert found.bytes_D[i] == len(key) * 4


def test_totals_without_roll_ups_are_those_of_the_tokens(lake: Lake) -> None:
    write(lake, a=scored(KEYS, 1, bos=True), b=scored(KEYS, 2, bos=True))
    with reading(lake.root) as connection:
        rolled_up = read_totals(connection, ["a", "b"], cut=False)
    for part in lake.parts("documents", "a"):
        rows = lakes.read(lake, part)
        lake.storage.write(part.path, encode(rows.drop_columns([c.name for c in DOCUMENTS.group(ROLLUPS)]), DOCUMENTS))
    with reading(lake.root) as connection:
        assert connection.sql("select count(logprob_sum) from documents where run_id = 'a'").fetchall() == [(0,)]
        summed = read_totals(connection, ["a", "b"], cut=False)
    assert summed.logprob_DK == pytest.approx(rolled_up.logprob_DK, rel=1e-12)


def from_byte(document: Document, start: int) -> float:
    """The log-probability of a text from a byte at which a token begins, by hand."""
    ends = np.cumsum([len(piece) for piece in document.pieces])
    return sum(p for p, end in zip(document.logprobs, ends, strict=True) if p is not None and end > start)


@pytest.mark.parametrize("slice_tokens", [20, 2_000_000])
def test_runs_that_predict_different_bytes_are_cut_where_all_begin(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, slice_tokens: int
) -> None:
    monkeypatch.setattr(em_read, "SLICE_TOKENS", slice_tokens)
    a, b, c = scored(KEYS, 1, bos=True), scored(KEYS, 2, bos=False), scored(KEYS, 3, bos=False)
    write(lake, a=a, b=b, c=c)
    with reading(lake.root) as connection:
        found = read_totals(connection, ["a", "b", "c"], cut=True, tokenizers=["x", "y", "z"])
        keys = keys_of(connection, "a", found.doc_ids.tolist())
    expected = {}
    for key in KEYS:
        begin = []
        for run in (a, b, c):
            each = by_key(run)[key]
            begin.append({s for s, piece, p in zip(each.starts, each.pieces, each.logprobs, strict=False)
                          if p is not None and piece})  # fmt: skip
        if shared := set.intersection(*begin):
            expected[key] = min(shared)
    assert sorted(keys) == sorted(expected)
    assert 5 < len(expected) < N
    assert found.uncut == N - len(expected)
    assert found.cut_bytes == sum(expected.values())
    for i, key in enumerate(keys):
        totals = [from_byte(by_key(run)[key], expected[key]) for run in (a, b, c)]
        assert found.logprob_DK[i] == pytest.approx(totals, rel=1e-9)
        assert found.bytes_D[i] == len(key) * 4 - expected[key]


def test_a_token_behind_every_text_is_left_out_where_tokenizers_differ(lake: Lake) -> None:
    a, b = scored(KEYS, 1, bos=True, eos=True), scored(KEYS, 2, bos=True)
    # Of this corpus all have the same id behind the text, as a tokenizer's template feeds it.
    write(lake, b=b)
    same = [replace(each, pieces=[b"", each.text.encode(), b""], hits=[None, False, False],
                    logprobs=[None, *each.logprobs[1:2], -7.0]) for each in a]  # fmt: skip
    write(lake, a=same)
    with reading(lake.root) as connection:
        apart = read_totals(connection, ["a", "b"], cut=False, tokenizers=["x", "y"])
        alike = read_totals(connection, ["a", "b"], cut=False, tokenizers=["x", "x"])
        unknown = read_totals(connection, ["a", "b"], cut=False, tokenizers=[None, None])
    assert (unknown.logprob_DK == apart.logprob_DK).all()
    assert alike.logprob_DK[:, 0] == pytest.approx(apart.logprob_DK[:, 0] - 7.0)
    assert alike.logprob_DK[:, 1] == pytest.approx(apart.logprob_DK[:, 1])


def test_other_texts_under_one_key_are_refused(lake: Lake) -> None:
    other = scored(KEYS, 2, bos=True)
    other[3] = replace(other[3], pieces=[b"", b"another ", b"text"], hits=[None, 0, 0], logprobs=[None, -1.0, -1.0])
    write(lake, a=scored(KEYS, 1, bos=True), b=other)
    with reading(lake.root) as connection, pytest.raises(ValueError, match=r"^1 of 25 documents have another text"):
        read_totals(connection, ["a", "b"], cut=False)


def test_documents_that_a_run_does_not_predict_are_counted(lake: Lake) -> None:
    other = scored(KEYS, 2, bos=True)
    text = other[3].text.encode()
    other[3] = replace(other[3], pieces=[text], hits=[None], logprobs=[None])
    write(lake, a=scored(KEYS, 1, bos=True), b=other)
    with reading(lake.root) as connection:
        found = read_totals(connection, ["a", "b"], cut=False)
    assert (found.in_all, found.unscored, len(found)) == (N, 1, N - 1)


def test_tokens_are_the_same_in_slices(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = scored(KEYS, 1, bos=True)
    rng = np.random.default_rng(7)
    b = [replace(each, logprobs=[None if p is None else -float(np.float32(rng.gamma(1, 2))) for p in each.logprobs])
         for each in a]  # fmt: skip
    write(lake, a=a, b=b)
    with reading(lake.root) as connection:
        chosen = read_totals(connection, ["a", "b"], cut=False).doc_ids[::2]
        keys = keys_of(connection, "a", chosen.tolist())
        (whole := tmp_path / "whole").mkdir()
        found, ids = read_tokens(connection, ["a", "b"], chosen, whole)
        monkeypatch.setattr(em_read, "SLICE_TOKENS", 9)
        (sliced := tmp_path / "sliced").mkdir()
        again, _ = read_tokens(connection, ["a", "b"], chosen, sliced)
    assert ids.tolist() == chosen.tolist()
    assert (again.logprob_NK == found.logprob_NK).all()
    assert (again.starts_D == found.starts_D).all()
    assert not found.are_documents
    ends = [*found.starts_D[1:], len(found)]
    for key, start, end in zip(keys, found.starts_D, ends, strict=True):
        for k, run in enumerate((a, b)):
            each = by_key(run)[key]
            assert found.logprob_NK[start:end, k].tolist() == [p for p in each.logprobs if p is not None]
        sizes = [len(piece) for piece, p in zip(each.pieces, each.logprobs, strict=True) if p is not None]
        assert found.bytes_N[start:end].tolist() == sizes


def test_no_documents_are_no_tokens(lake: Lake, tmp_path: Path) -> None:
    write(lake, a=scored(KEYS, 1, bos=True), b=scored(KEYS, 1, bos=True))
    with reading(lake.root) as connection:
        found, ids = read_tokens(connection, ["a", "b"], np.zeros(0, np.int64), tmp_path)
    assert (len(found), ids.size) == (0, 0)


def test_other_tokens_at_one_position_are_refused(lake: Lake, tmp_path: Path) -> None:
    a = scored(KEYS, 1, bos=True)
    write(lake, a=a, b=a)
    for part in lake.parts("tokens", "b"):
        rows = lakes.read(lake, part)
        rows = lakes.put("token_id", lambda values: [value + 1 for value in values])(rows)
        lake.storage.write(part.path, encode(rows, TOKENS))
    with reading(lake.root) as connection:
        ids = read_totals(connection, ["a", "b"], cut=False).doc_ids
        with pytest.raises(ValueError, match="different tokens at one position"):
            read_tokens(connection, ["a", "b"], ids, tmp_path)
