"""The overlap benchmark in miniature: its truth against a plain search of every document, its checker's own faults."""

from __future__ import annotations

import itertools
import json
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from output import unfolded
from typer.testing import CliRunner

from jobs.bench.overlap import peer
from jobs.bench.overlap import run as overlap
from jobs.bench.overlap.corpus import Corpus, document_id, make_corpus
from jobs.bench.overlap.items import FOUND, NOT_FOUND, Benchmark, Planter
from jobs.bench.overlap.text import Vocabulary, documents
from jobs.bench.overlap.truth import check, documents_by_kind
from jobs.bench.process_tree import run_command
from jobs.bench.targets import lines_of
from jobs.cli import app
from operators.identity import doc_id

N = 13
WORD = re.compile("[^\\W_](?:[^\\W_]|[\u0300-\u036f])*")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("overlap") / "made", 1_000_000, 120, N, share=0.25)


def words(text: str) -> list[tuple[str, int, int]]:
    """Normalised words, each with its first byte and the byte after it: a definition that shares no code with ours."""
    found = []
    for match in WORD.finditer(text):
        start = len(text[: match.start()].encode())
        found.append((unicodedata.normalize("NFC", match[0]).lower(), start, start + len(match[0].encode())))
    return found


def texts(corpus: Corpus) -> Iterator[tuple[str, int, str]]:
    for shard in corpus.shards:
        if shard.suffix == ".parquet":
            rows = pq.read_table(shard)["text"].to_pylist()
        else:
            rows = [json.loads(line)["text"] for line in shard.read_text(encoding="utf-8").splitlines()]
        for row, text in enumerate(rows):
            yield shard.name, row, text


def items(corpus: Corpus) -> dict[str, list[str]]:
    records = [json.loads(line) for line in corpus.items.read_text(encoding="utf-8").splitlines()]
    return {r["id"]: [word for word, _, _ in words(r["input"] + "\n" + r["answer"])] for r in records}


def search(corpus: Corpus) -> list[dict[str, Any]]:
    """Every maximal stretch of N words or more that a document shares with an item, by trying all."""
    starts: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for key, row in items(corpus).items():
        for i in range(len(row) - N + 1):
            starts[tuple(row[i : i + N])].append((key, i))
    found = []
    for shard, row, text in texts(corpus):
        here = words(text)
        hits = sorted(
            (key, place - i, i)
            for place in range(len(here) - N + 1)
            for key, i in starts.get(tuple(word for word, _, _ in here[place : place + N]), ())
        )
        for at, (key, diagonal, first) in enumerate(hits):
            if at and hits[at - 1] == (key, diagonal, first - 1):
                continue
            length = N
            while at + length - N + 1 < len(hits) and hits[at + length - N + 1] == (
                key,
                diagonal,
                first + length - N + 1,
            ):
                length += 1
            place = first + diagonal
            found.append(
                {
                    "shard": shard, "row": row, "item": key, "item_word": first, "n_words": length,
                    "byte_start": here[place][1], "n_bytes": here[place + length - 1][2] - here[place][1],
                }
            )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def found(corpus: Corpus) -> list[dict[str, Any]]:
    return search(corpus)


def as_set(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    names = ("shard", "row", "item", "item_word", "n_words", "byte_start", "n_bytes")
    return {tuple(row[name] for name in names) for row in rows}


# Text


def test_text_has_the_size_and_the_shape_that_is_said() -> None:
    vocabulary = Vocabulary()
    made = list(documents(vocabulary, np.random.default_rng(0), 2_000_000))
    assert made == list(documents(Vocabulary(), np.random.default_rng(0), 2_000_000))
    assert made != list(documents(vocabulary, np.random.default_rng(1), 2_000_000))
    assert sum(map(len, made)) == pytest.approx(2_000_000, rel=0.15)
    assert np.mean([text.isascii() for text in made]) == pytest.approx(0.5, abs=0.1)
    found = re.findall(r"\w+", b" ".join(made).decode())
    assert 4 < np.mean([len(word) for word in found]) < 5.5
    assert 0.03 < np.mean([word.lower() == "the" for word in found]) < 0.12
    assert not set(vocabulary.reserved) & {word.lower() for word in found}
    assert all(text.decode().rstrip()[-1] in ".!?" for text in made)


def test_benchmarks_have_short_items_accents_and_numbers() -> None:
    benchmark = Benchmark(Vocabulary(), 1000, N)
    made = [benchmark[i] for i in range(1000)]
    assert 0.02 < np.mean([len(item.words) < N for item in made]) < 0.09
    assert 0.1 < np.mean([not item.text(0, len(item.words)).isascii() for item in made]) < 0.9
    assert all(re.fullmatch(r"\w+", word) for item in made for word in item.words)
    for i in range(50):
        counts = benchmark.n_grams(i)
        assert counts["all"] == max(0, len(made[i].words) - N + 1) == sum(counts.values()) - counts["all"]


def test_too_few_items_are_an_error() -> None:
    with pytest.raises(ValueError, match="none of 1 items can be planted in every way"):
        list(itertools.islice(Planter(Benchmark(Vocabulary(), 3, N)).plants(), 50))


# Truth


def test_the_truth_is_what_a_plain_search_of_every_document_finds(corpus: Corpus, found: list[dict[str, Any]]) -> None:
    truth = corpus.truth().to_pylist()
    assert as_set(found) == as_set([row for row in truth if row["is_found"]])
    assert len(found) == len(as_set(found)) > 20
    assert {row["kind"] for row in truth} == {*FOUND, *NOT_FOUND}
    assert {row["kind"] for row in truth if row["is_found"]} == set(FOUND)


def test_what_is_not_to_be_found_is_there_all_the_same(corpus: Corpus) -> None:
    held = {(shard, row): text.encode() for shard, row, text in texts(corpus)}
    wanted = items(corpus)
    for row in corpus.truth().to_pylist():
        text = held[row["shard"], row["row"]]
        stretch = text[row["byte_start"] : row["byte_start"] + row["n_bytes"]].decode()
        found = [word for word, _, _ in words(stretch)]
        item = wanted[row["item"]][row["item_word"] : row["item_word"] + row["n_words"]]
        changed = sum(a != b for a, b in zip(found, item, strict=True))
        assert changed == (row["kind"] in ("a word changed", "a number changed")), row


def test_no_second_half_item_is_planted(corpus: Corpus) -> None:
    assert max(corpus.truth()["item_index"].to_pylist()) < corpus.benchmark.n_items / 2


# The checker


def write_tables(corpus: Corpus, lake: Path, spans: list[dict[str, Any]]) -> None:
    """The tables that follow from spans, as `assay overlap` keeps them."""
    wanted = items(corpus)
    inputs = [json.loads(line) for line in corpus.items.read_text(encoding="utf-8").splitlines()]
    rows = []
    for record in inputs:
        key, n_input, total = record["id"], len(words(record["input"])), len(wanted[record["id"]])
        own = [span for span in spans if span["item"] == key]
        seen = {g for s in own for g in range(s["item_word"], s["item_word"] + s["n_words"] - N + 1)}
        places = {"input": range(n_input - N + 1), "answer": range(n_input, total - N + 1), "all": range(total - N + 1)}
        places["across"] = range(max(0, n_input - N + 1), min(n_input, total - N + 1))
        for part, grams in places.items():
            n_seen = len(seen & set(grams))
            share = n_seen / len(grams) if len(grams) else None
            rows.append({
                "item_id": doc_id(key), "part": part, "n_ngrams": len(grams), "n_seen": n_seen, "share_seen": share,
                "longest_match": max((s["n_words"] for s in own), default=0),
                "n_documents": len({(s["shard"], s["row"]) for s in own}),
            })  # fmt: skip
    matches = [{**span, "item_id": doc_id(span["item"]), "source": f"file:///x/{span['shard']}"} for span in spans]
    for table, content in (("overlap_items", rows), ("overlap_spans", matches), ("decontamination", matches)):
        folder = lake / table / "overlap=bench"
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(content), folder / "0.parquet")


def test_right_tables_are_right(corpus: Corpus, found: list[dict[str, Any]], tmp_path: Path) -> None:
    write_tables(corpus, tmp_path, found)
    verdict = check(corpus, tmp_path, "bench")
    assert verdict.is_right, verdict.wrong
    assert verdict.n_planted == verdict.n_found == verdict.n_right > 20
    assert verdict.recall == verdict.precision == 1.0


def changed(table: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def apply(lake: Path) -> None:
        path = lake / table / "overlap=bench" / "0.parquet"
        pq.write_table(change(pq.read_table(path, partitioning=None)), path)

    return apply


def plus_one(column: str) -> Callable[[pa.Table], pa.Table]:
    """The first row's number raised."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[0] += 1
        return table.set_column(table.schema.get_field_index(column), column, pa.array(values))

    return change


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (changed("overlap_spans", lambda t: t.slice(1)), "missed"),
        (changed("overlap_spans", lambda t: pa.concat_tables([t, t.slice(0, 1)])), "not planted"),
        (changed("overlap_spans", plus_one("byte_start")), "missed"),
        (changed("overlap_spans", plus_one("n_words")), "missed"),
        (changed("overlap_spans", plus_one("item_id")), "missed"),
        (changed("overlap_items", plus_one("n_seen")), "item-0"),
        (changed("overlap_items", plus_one("n_ngrams")), "item-0"),
        (changed("overlap_items", lambda t: t.slice(1)), "item-0"),
        (changed("overlap_items", lambda t: pa.concat_tables([t, t.slice(0, 1)])), "item-0"),
        (changed("overlap_items", lambda t: pa.concat_tables([t, plus_one("item_id")(t.slice(0, 1))])), "no benchmark"),
        (changed("decontamination", lambda t: t.slice(1)), "not cut"),
        (changed("decontamination", plus_one("row")), "cut for nothing"),
        (changed("decontamination", plus_one("n_bytes")), "cut for nothing"),
        (changed("decontamination", lambda t: pa.concat_tables([t, t.slice(0, 1)])), "cut for nothing"),
    ],
)
def test_every_fault_is_seen(
    corpus: Corpus, found: list[dict[str, Any]], tmp_path: Path, fault: Callable[[Path], None], says: str
) -> None:
    write_tables(corpus, tmp_path, found)
    fault(tmp_path)
    verdict = check(corpus, tmp_path, "bench")
    assert not verdict.is_right
    assert any(says in line for line in verdict.wrong)


def test_tables_that_are_not_there_hold_nothing(corpus: Corpus, tmp_path: Path) -> None:
    verdict = check(corpus, tmp_path, "bench")
    assert (verdict.recall, verdict.n_found, verdict.n_wrong_items) == (0.0, 0, 120)
    assert not verdict.is_right


# Processes


def test_memory_of_a_child_counts_and_cores_are_kept(tmp_path: Path) -> None:
    script = tmp_path / "hog.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "if len(sys.argv) > 1:\n"
        "    subprocess.run([sys.executable, sys.argv[0]], check=True)\n"
        "    print(len(os.sched_getaffinity(0)))\n"
        "else:\n"
        "    hog = b'x' * (150 << 20); time.sleep(1)\n"
    )
    done = run_command([sys.executable, str(script), "parent"], 1, 60)
    assert (done.code, done.output.strip()) == (0, "1")
    assert 150 << 20 < done.peak_bytes < 250 << 20
    assert done.seconds >= 1


def test_a_command_that_takes_too_long_is_ended() -> None:
    done = run_command([sys.executable, "-c", "import time; time.sleep(60)"], 1, 0.5)
    assert done.code < 0
    assert done.seconds < 30


def test_a_failure_says_why(corpus: Corpus, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    variant = overlap.Variant("assay, inline", 1, corpus, lambda _: command, lambda _: None)
    with pytest.raises(RuntimeError, match=r"assay, inline ended with exit code 1: no such thing"):
        variant.run(tmp_path)


# The verb


@pytest.mark.parametrize(("text", "n_bytes"), [("20MB", 20_000_000), ("1GB", 10**9), ("1.5kb", 1500), ("7", 7)])
def test_sizes(text: str, n_bytes: int) -> None:
    assert overlap.parse_size(text, "--size") == n_bytes


@pytest.mark.parametrize("text", ["", "MB", "-3MB", "0", "3 apples", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="a size as 20MB or 1GB"):
        overlap.parse_size(text, "--size")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--size", "much"), "--size much: a size as 20MB or 1GB"),
        (("--engine", "spark"), "--engine spark: choose from inline, ray"),
        (("--ngram", "3"), "Invalid value for '--ngram'"),
        (("--items", "3"), "Invalid value for '--items'"),
        (("--size", "2KB"), "--size 2KB: nothing was planted in"),
    ],
)
def test_wrong_flags_are_named(flags: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(app, ["bench", "overlap", *flags])
    assert done.exit_code == 2
    assert says in unfolded(done.output)


def test_overlap_finds_all_that_was_planted_and_nothing_else() -> None:
    done = CliRunner().invoke(
        app, ["bench", "overlap", "--size", "2MB", "--items", "120", "--engine", "inline", "--no-peers"]
    )
    assert done.exit_code == 0, done.output
    (line,) = lines_of(done.output)
    found = line["results"]["inline"]
    assert (found["recall"], found["precision"], found["wrong_items"], found["wrong_cuts"]) == (1.0, 1.0, 0, 0)
    assert found["planted"] == found["found"] > 20
    assert found["mb_per_s"] > 0
    assert found["peak_mib"] > 50
    assert sum(line["config"]["planted"].values()) > found["planted"]


def test_what_is_missed_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(output: Path, columns: Any = None) -> list[str]:
        return [sys.executable, "-c", f"from pathlib import Path; Path({str(output)!r}, 'done').touch()"]

    def one_missed(found: Corpus, lake: Path, name: str) -> Any:
        write_tables(found, lake, search(found)[1:])
        return check(found, lake, name)

    monkeypatch.setattr(
        overlap, "assay", lambda e, c: overlap.Variant(f"assay, {e}", 1, c, blind, lambda o: one_missed(c, o, "bench"))
    )
    done = CliRunner().invoke(app, ["bench", "overlap", "--size", "2MB", "--items", "120", "--no-peers"])
    assert done.exit_code == 1, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "missed" in done.output
    assert lines_of(done.output)[-1]["results"]["ray"]["recall"] < 1


# The peer


def test_what_is_compared_is_as_much_work_for_every_core(corpus: Corpus) -> None:
    part = overlap.compared_part(corpus, 400_000)
    assert part.n_bytes >= 400_000
    assert len(part.shards) % 4 == 0
    formats = [shard.suffix for shard in part.shards]
    assert formats.count(".parquet") == formats.count(".jsonl")
    of_core = [0, 0]
    for suffix in (".parquet", ".jsonl"):
        files = [size for shard, size in zip(part.shards, part.shard_bytes, strict=True) if shard.suffix == suffix]
        of_core = [of_core[core] + sum(files[core::2]) for core in (0, 1)]
    assert max(of_core) < 1.3 * min(of_core)


def test_both_find_the_same_but_for_other_numbers(corpus: Corpus, tmp_path: Path) -> None:
    if peer.missing():
        pytest.skip("the extra bench is not installed")
    part = overlap.compared_part(corpus, 400_000)
    variant = overlap.datatrove(2, part)
    variant.look = lambda output: (peer.removed(output), len(list((output / "removed").iterdir())))
    variant.run(tmp_path)
    removed, tasks = variant.seen
    for kind, keys in documents_by_kind(part).items():
        expected = keys if kind in FOUND or kind == "a number changed" else set()
        assert removed.keys() & keys == expected, kind
    assert tasks == 2, "both have something to do"


def test_what_the_peer_removed_is_read(tmp_path: Path) -> None:
    (tmp_path / "removed").mkdir()
    line = {"id": document_id("part-00001.jsonl", 3), "text": "x", "metadata": {"contaminated_ngram": "a b"}}
    (tmp_path / "removed" / "00000.jsonl").write_text(json.dumps(line) + "\n")
    assert peer.removed(tmp_path) == {"part-00001.jsonl#3": "a b"}
