"""Comparing a benchmark with a corpus from end to end: equal to sets in plain Python, rejects, sides, both engines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import overlaps
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3
import small
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from operators.catalog import connect
from operators.identity import doc_id
from operators.lake import Lake
from operators.verify import verify
from pipelines import units
from pipelines.config import ConfigError
from pipelines.overlap.index import IndexPlace
from pipelines.overlap.job import OverlapJob
from pipelines.score import RunError


@pytest.fixture(autouse=True, scope="module")
def no_catalog() -> Iterator[None]:
    """Making it is slower than all else together; `tests/jobs` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operators.catalog.write_catalog", lambda *_: "")
        yield


@pytest.fixture
def world(tmp_path: Path) -> overlaps.World:
    """One for a test that changes it."""
    return overlaps.make_world(tmp_path / "world")


class Done(NamedTuple):
    """A world that no test changes, the lake of an overlap of it, and what its job says."""

    world: overlaps.World
    lake: Path
    said: dict[str, Any]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("done")
    world = overlaps.make_world(folder / "world")
    return Done(world, folder / "lake", overlaps.run(world, folder / "lake"))


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 600)
    monkeypatch.setattr(units, "PIECE_BYTES", 500)


def test_it_finds_what_sets_find(done: Done) -> None:
    world, lake, said = done
    for part in ("input", "all"):
        assert overlaps.shares(lake, part) == world.shares(part)
    assert 0 < sum(seen > 0 for seen, _ in overlaps.shares(lake).values()) < len(world.items)
    assert said["totals"]["rows_in"] == said["totals"]["documents"] == len(world.documents)
    assert said["totals"]["items"] == len(world.items)
    assert verify(Lake(str(lake))) == []
    assert sorted(p.name for p in (lake / "overlap_items").iterdir()) == ["overlap=bench"]  # the way there is gone
    assert not IndexPlace(Lake(str(lake)), "any").folder.exists()


def test_every_span_is_the_text_of_its_document_and_in_its_item(done: Done) -> None:
    world, lake, _ = done
    spans = overlaps.tables(lake)["overlap_spans"].to_pylist()
    items = {doc_id(item["id"]): f"{item['question']} {item['answer']}" for item in world.items}
    assert spans
    for span in spans:
        text = world.documents[span["key"]].encode()[span["byte_start"] :][: span["n_bytes"]].decode()
        assert span["text"] == text
        first, last = span["item_word"], span["item_word"] + span["n_words"]
        assert overlaps.words_of(text) == overlaps.words_of(items[span["item_id"]])[first:last]


def test_what_is_cut_holds_every_match_and_leaves_none(done: Done) -> None:
    world, lake, _ = done
    left = {key: text.encode() for key, text in world.documents.items()}
    cuts = overlaps.tables(lake)["decontamination"].to_pylist()
    for cut in reversed(cuts):  # from the back of each document: earlier offsets stay
        text = left[cut["key"]]
        assert cut["document_bytes"] == len(world.documents[cut["key"]].encode())
        left[cut["key"]] = text[: cut["byte_start"]] + b" | " * 9 + text[cut["byte_start"] + cut["n_bytes"] :]
    wanted = {gram for item in world.items for gram in overlaps.grams_of(f"{item['question']} {item['answer']}")}
    pieces = [piece for text in left.values() for piece in text.decode().split("|")]
    assert not wanted & {gram for piece in pieces for gram in overlaps.grams_of(piece)}
    assert not any(cut["drop_document"] for cut in cuts)


def test_many_units_come_to_the_same_as_one(done: Done, tmp_path: Path, small_units: None) -> None:
    said = overlaps.run(done.world, tmp_path / "many")
    assert said["totals"]["units"] > 5
    assert overlaps.tables(tmp_path / "many") == overlaps.tables(done.lake)


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
def test_the_ray_engine_finds_the_same_with_an_index_from_the_lake(
    done: Done, tmp_path: Path, small_units: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = overlaps.plan(done.world, tmp_path / "lake", engine="ray")
    of_workers = IndexPlace(plan.scratch, plan.index_digest)
    fetched = of_workers.folder
    (tmp_path / "driver").mkdir()
    with monkeypatch.context() as patch:  # as on two machines: the driver's folder is not where its workers look
        patch.setattr("pipelines.overlap.index._cache", lambda: tmp_path / "driver")
        overlaps.compare(plan)
    assert fetched.is_dir()
    of_workers.drop()
    assert not fetched.exists()
    assert list((tmp_path / "driver").iterdir()) == []
    assert overlaps.tables(tmp_path / "lake") == overlaps.tables(done.lake)
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_records_of_both_sides_that_cannot_be_read_are_counted_and_listed(
    world: overlaps.World, tmp_path: Path
) -> None:
    with world.benchmark.open("a") as file:
        file.write('{"id": "item-0", "question": "again"}\n{"id": "n", "question": null}\nnot json\n')
    (world.corpus / "d.jsonl").write_bytes(
        b'{"id": "doc-1", "text": "again"}\n{"id": "bad", "text": "\xff"}\n{"id": "e", "text": ""}\n'
    )
    (world.corpus / "e.parquet").write_bytes(b"PAR1 no parquet PAR1")
    lake = tmp_path / "lake"
    said = overlaps.run(world, lake)
    reasons = {side: {reason: found["n"] for reason, found in each.items()} for side, each in said["rejects"].items()}
    assert reasons == {
        "benchmark": {"broken_json": 1, "duplicate_key": 1, "null_text": 1},
        "corpus": {"duplicate_key": 1, "empty_text": 1, "invalid_utf8": 1, "unreadable_shard": 1},
    }
    totals = said["totals"]
    assert (totals["items"], totals["items_rejected"]) == (len(world.items), 3)
    assert (totals["documents"], totals["rejects"], totals["unreadable"]) == (len(world.documents), 4, 1)
    assert totals["rows_in"] == len(world.documents) + 4
    listed = pq.read_table(lake / "overlap_items" / "overlap=bench" / "rejects.parquet", partitioning=None).to_pylist()
    assert [(row["side"], Path(row["source"]).name, row["row"], row["reason"]) for row in listed] == [
        ("benchmark", "bench.jsonl", 24, "duplicate_key"),
        ("benchmark", "bench.jsonl", 25, "null_text"),
        ("benchmark", "bench.jsonl", 26, "broken_json"),
        ("corpus", "d.jsonl", 0, "duplicate_key"),
        ("corpus", "d.jsonl", 1, "invalid_utf8"),
        ("corpus", "d.jsonl", 2, "empty_text"),
        ("corpus", "e.parquet", -1, "unreadable_shard"),
    ]
    assert overlaps.shares(lake) == world.shares("all")
    assert verify(Lake(str(lake))) == []


def test_without_ids_items_are_the_documents_of_a_run_over_the_same_file(world: overlaps.World, tmp_path: Path) -> None:
    overlaps.run(world, tmp_path / "lake", benchmark={"id_column": None}, corpus={"id_column": None})
    rows = overlaps.tables(tmp_path / "lake")
    keys = {f"{world.benchmark}#{row}" for row in range(len(world.items))}
    assert set(rows["overlap_items"]["key"].to_pylist()) == keys
    assert set(rows["overlap_items"]["item_id"].to_pylist()) == {doc_id(key) for key in keys}
    assert set(rows["overlap_spans"]["key"].to_pylist()) <= {
        f"{path}#{row}" for path in world.corpus.iterdir() for row in range(60)
    }


def test_answers_that_are_no_strings_count_as_json_and_items_without_one_as_such(tmp_path: Path) -> None:
    lines = [{"q": "one two three", "a": 4}, {"q": "five six seven", "a": ["eight nine"]}, {"q": "ten two", "a": None}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "c.txt").write_text("zero one two three 4 and five, six seven eight nine")
    job = OverlapJob.parse(
        name="x", lake=str(tmp_path / "lake"), engine="inline", answer_column="a", options={"n": 4},
        corpus={"input": str(tmp_path / "c.txt")}, benchmark={"input": str(tmp_path / "b.jsonl"), "text_column": "q"},
    )  # fmt: skip
    overlaps.compare(overlaps.plan_overlap(job))
    rows = overlaps.tables(tmp_path / "lake", "x")["overlap_items"].to_pylist()
    found = {(row["row"], row["part"]): (row["n_seen"], row["n_ngrams"], row["share_seen"]) for row in rows}
    assert found[0, "across"] == (1, 1, 1.0)
    assert found[1, "across"] == (2, 2, 1.0)
    assert found[0, "input"] == (0, 0, None)
    assert (2, "answer") not in found


def test_token_ids_are_compared_without_what_a_tokenizer_puts_around_a_text(
    world: overlaps.World, tmp_path: Path
) -> None:
    small.make_tokenizer(bos=True).save(str(tmp_path / "tokenizer.json"))
    options = {"normalisation": "tokens", "n": 8}
    overlaps.run(world, tmp_path / "lake", options=options, tokenizer=str(tmp_path / "tokenizer.json"))
    encode = small.make_tokenizer(bos=False).encode
    seen = {tuple(ids[i : i + 8]) for text in world.documents.values()
            for ids in [encode(text).ids] for i in range(len(ids) - 7)}  # fmt: skip
    for item in world.items:
        ids = encode(item["question"]).ids
        grams = [tuple(ids[i : i + 8]) for i in range(len(ids) - 7)]
        assert overlaps.shares(tmp_path / "lake", "input")[item["id"]] == (sum(g in seen for g in grams), len(grams))
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_what_a_tokenizer_refuses_is_a_reject_of_its_side(world: overlaps.World, tmp_path: Path) -> None:
    words = {word for text in [*world.documents.values(), *map(str, world.items)] for word in overlaps.words_of(text)}
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(sorted({*words, ","}))}))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    blank = '{"id": "blank", "question": " ", "answer": " ", "text": " "}\n'  # no token: no fault
    strange = '{"id": "strange", "question": "w1 w2", "answer": "\u03a9", "text": "w1 \u03a9"}\n'  # not in it
    for path in (world.benchmark, world.corpus / "a.jsonl"):
        path.write_text(strange + path.read_text() + blank)
    how = {"options": {"normalisation": "tokens", "n": 8}, "tokenizer": str(tmp_path / "tokenizer.json")}
    said = overlaps.run(world, tmp_path / "lake", **how)
    assert {side: {reason: found["n"] for reason, found in each.items()} for side, each in said["rejects"].items()} == {
        "benchmark": {"tokenizer_failed": 1},
        "corpus": {"tokenizer_failed": 1},
    }
    totals = said["totals"]
    assert (totals["items"], totals["items_rejected"]) == (len(world.items) + 1, 1)
    assert (totals["documents"], totals["rejects"]) == (len(world.documents) + 1, 1)
    assert overlaps.shares(tmp_path / "lake").keys() == {"blank", *(item["id"] for item in world.items)}
    assert overlaps.shares(tmp_path / "lake")["blank"] == (0, 0)
    assert verify(Lake(str(tmp_path / "lake"))) == []
    world.benchmark.write_text(strange)
    with pytest.raises(ConfigError, match=r"--benchmark: it holds no item; the first of 1 rejects: .*bench.jsonl#0: "):
        overlaps.run(world, tmp_path / "other", **how)


def test_hostile_names_and_texts_travel_as_they_are(tmp_path: Path) -> None:
    name = "it's \"a\n\x1b[31m%$(x).jsonl"
    text = "a '; drop table x; -- \u202e b \x00 c\r\n d e"
    for folder in ("bench", "corpus"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(json.dumps({"id": f"{folder}\x1b']", "text": text}) + "\n")
    job = OverlapJob.parse(
        name="x", lake=str(tmp_path / "lake"), engine="inline", options={"n": 3},
        corpus={"input": str(tmp_path / "corpus"), "id_column": "id"},
        benchmark={"input": str(tmp_path / "bench"), "id_column": "id"},
    )  # fmt: skip
    overlaps.compare(overlaps.plan_overlap(job))
    (span,) = overlaps.tables(tmp_path / "lake", "x")["overlap_spans"].to_pylist()
    assert (span["key"], span["source"]) == ("corpus\x1b']", str(tmp_path / "corpus" / name))
    assert span["text"] == text.removesuffix("") or span["n_words"] > 3
    with connect(str(tmp_path / "lake"), macros=False) as connection:
        assert connection.execute("select share_seen from overlap_items where part = 'all'").fetchall() == [(1.0,)]
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_corpus_benchmark_and_lake_on_s3(done: Done, tmp_path: Path) -> None:
    world, lake, _ = done
    root = tmp_path / "s3"
    shutil.copytree(world.corpus, root / "bucket" / "corpus")
    shutil.copy(world.benchmark, root / "bucket" / "bench.jsonl")
    with s3.lone_server(root) as server:
        sides = {side: {"input": f"s3://bucket/{name}"} for side, name in
                 (("corpus", "corpus"), ("benchmark", "bench.jsonl"))}  # fmt: skip
        overlaps.run(world, "s3://bucket/lake", storage_options=dict(server.options), **sides)
        stored = overlaps.tables("s3://bucket/lake", options=dict(server.options))
        assert verify(Lake("s3://bucket/lake", server.options)) == []
    for name, rows in overlaps.tables(lake).items():
        same = [column for column in rows.column_names if column != "source"]
        assert stored[name].select(same) == rows.select(same)
    assert not list((root / "bucket" / "lake" / "overlap_items").glob("progress/**/*.parquet"))


# Names, and what cannot be compared


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "../c"}, "--name: overlap '../c'"),
        ({"overwrite": "other"}, "--overwrite: it names 'other'"),
        ({"options": {"n": 0}}, "--ngram, --drop, --margin or --most-items: n is 0"),
        ({"options": {"drop": "half"}}, "drop rule 'half'"),
        ({"options": {"normalisation": "words"}}, "--normalization: 'words' is unknown; choose from words-1"),
        ({"options": {"normalisation": "tokens"}}, "--tokenizer: is needed"),
        ({"tokenizer": "t"}, "--tokenizer: goes with"),
        ({"corpus": {"input": ()}}, "--corpus: is needed"),
        ({"benchmark": {"input": "s3://key:secret@bucket/x"}}, "--benchmark: the s3:// URI holds credentials"),
        ({"corpus": {"input": "nowhere"}}, "--corpus: the inputs cannot be read"),
        ({"benchmark": {"input": "nowhere"}}, "--benchmark: the inputs cannot be read"),
        ({"corpus": {"limit": 0}}, "--limit"),
        ({"corpus": {"text_column": "a", "text_template": "{b}"}}, "--corpus-text-column: --corpus-text-template says"),
        ({"benchmark": {"text_column": None, "text_template": "{"}}, "--benchmark: text_template '{'"),
        ({"answer_column": "reply"}, "--answer-column reply: no item of the benchmark has it"),
        ({"benchmark": {"text_column": "body"}}, "--benchmark: it holds no item; the first of 24 rejects"),
    ],
)
def test_faults_are_told_in_the_words_of_the_command_line(
    done: Done, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        overlaps.run(done.world, tmp_path / "lake", **more)
    assert said in str(error.value)
    assert "secret" not in str(error.value)
    assert not (tmp_path / "lake").exists() or not list((tmp_path / "lake").rglob("*.parquet"))


def test_where_no_document_can_be_read_nothing_is_written_and_nothing_is_in_the_way(
    world: overlaps.World, tmp_path: Path
) -> None:
    with pytest.raises(
        RunError, match=r"no document was compared; 40 missing_text, the first .*a.jsonl#0: .*; 1 unreadable"
    ):
        overlaps.run(world, tmp_path / "lake", corpus={"text_column": "body"})
    assert not list((tmp_path / "lake").rglob("*.parquet"))
    overlaps.run(world, tmp_path / "lake")
    assert overlaps.shares(tmp_path / "lake") == world.shares("all")


def test_a_limit_takes_the_first_records(done: Done, tmp_path: Path) -> None:
    said = overlaps.run(done.world, tmp_path / "lake", corpus={"limit": 21})
    assert said["totals"]["rows_in"] == 21
    keys = set(overlaps.tables(tmp_path / "lake")["overlap_spans"]["key"].to_pylist())
    assert keys <= {f"doc-{i}" for i in range(21)}


def test_the_views_have_the_rows_beside_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"text": "one two three four"}\n{"text": "short"}\n')
    pq.write_table(pa.table({"text": ["nothing of it", "one three two four"]}), tmp_path / "c.parquet")
    job = OverlapJob.parse(
        name="x", lake=str(tmp_path / "lake"), engine="inline", options={"n": 3},
        corpus={"input": str(tmp_path / "c.parquet")}, benchmark={"input": str(tmp_path / "b.jsonl")},
    )  # fmt: skip
    said = overlaps.compare(overlaps.plan_overlap(job))
    assert said["totals"]["items_without_ngrams"] == 1
    with connect(str(tmp_path / "lake"), macros=False) as connection:
        sql = "select overlap, n_ngrams, n_seen, share_seen, byte_start from overlap_items where part = 'all'"
        sql += " order by row"
        assert connection.execute(sql).fetchall() == [("x", 2, 0, 0.0, None), ("x", 0, 0, None, None)]
        assert connection.execute("select count(*) from overlap_spans").fetchall() == [(0,)]
        assert connection.execute("select count(*) from decontamination").fetchall() == [(0,)]
    assert verify(Lake(str(tmp_path / "lake"))) == []
