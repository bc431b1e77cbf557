"""Every kind of bad input in one run: each record has the verdict it must have, and hostile names stay data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import badcorpus
import pytest
from badcorpus import BadCorpus

from operators.catalog import write_catalog
from operators.lake import Lake
from operators.query import query
from operators.verify import verify
from pipelines.config import ScoreConfig
from pipelines.plan import make_plan
from pipelines.score import score_corpus
from schemas.rejects import Reason

LAKE_FILE = re.compile(
    r"lake\.duckdb|runs/run\.json|(tokens|documents|rejects)/run_id=run/[0-9a-f]{32}\.parquet"
    r"|progress/run_id=run/[a-z0-9-]+(\.[a-z]+)?"
)


def config(model: Path, folder: Path, lake: Path, **more: Any) -> ScoreConfig:
    fields: dict[str, Any] = {
        "model": str(model), "input": str(folder), "lake": str(lake), "run_id": "run", "engine": "inline",
        "context": 64, "dtype": "float32", "device": "cpu", "id_column": "id",
    }  # fmt: skip
    return ScoreConfig.parse(**{**fields, **more})


@dataclass(frozen=True)
class Scored:
    """The corpus, its lake and what the run said. `before`: every file that was there before the run."""

    root: Path
    corpus: BadCorpus
    ledger: dict[str, Any]
    before: dict[Path, bytes]

    @property
    def lake(self) -> str:
        return str(self.root / "the lake's; --")

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = query(self.lake, sql, parameters=parameters or None).to_pylist()
        return rows


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def scored(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    root = tmp_path_factory.mktemp("bad")
    corpus = badcorpus.make(root / "in")
    before = {path: path.read_bytes() for path in files(root)}
    run = config(model_folder, corpus.folder, root / "the lake's; --", label_column="label",
                 max_document_bytes=badcorpus.MAX_BYTES)  # fmt: skip
    return Scored(root, corpus, score_corpus(make_plan(run)), before)


def test_the_corpus_holds_every_reason_that_input_can_cause(scored: Scored) -> None:
    assert set(scored.corpus.rejects.values()) == badcorpus.causes()


def test_each_record_is_the_document_or_the_reject_it_must_be(scored: Scored) -> None:
    cut = scored.corpus.cut
    documents = {
        (row["source"], row["row"]): (row["key"], row["text"])
        for row in scored.rows("select source, row, key, text from documents")
    }
    rejects = {
        (row["source"], row["row"]): row["reason"] for row in scored.rows("select source, row, reason from rejects")
    }
    assert {k: v for k, v in rejects.items() if k[0] not in cut} == scored.corpus.rejects
    assert {k: v for k, v in documents.items() if k[0] not in cut} == scored.corpus.documents


def test_a_shard_that_breaks_off_keeps_the_rows_before(scored: Scored) -> None:
    for source, cut in scored.corpus.cut.items():
        (broken,) = scored.rows("select row, reason, detail from rejects where source = $source", source=source)
        kept = scored.rows("select row, text from documents where source = $source order by row", source=source)
        assert (broken["reason"], bool(broken["detail"])) == (Reason.UNREADABLE_SHARD, True), source
        assert broken["row"] == (len(kept) or -1), source
        assert cut.least <= len(kept) <= len(cut.texts), source
        assert [(row["row"], row["text"]) for row in kept] == list(enumerate(cut.texts[: len(kept)])), source


def test_shards_without_records_give_no_rows(scored: Scored) -> None:
    sources = {row["source"] for row in scored.rows("select source from documents union select source from rejects")}
    assert scored.corpus.empty
    assert not scored.corpus.empty & sources


def test_rows_in_are_documents_and_rejects_and_the_lake_is_sound(scored: Scored) -> None:
    totals = scored.ledger["totals"]
    counts = scored.rows(
        "select (select count(*) from documents) as documents, (select count(*) from rejects) as rejects"
    )
    assert counts == [{"documents": totals["documents"], "rejects": totals["rejects"]}]
    assert totals["rows_in"] == totals["documents"] + totals["rejects"]
    assert totals["documents"] >= len(scored.corpus.documents)
    assert verify(Lake(scored.lake)) == []


def test_details_are_one_short_line(scored: Scored) -> None:
    for row in scored.rows("select detail from rejects"):
        assert row["detail"] is None or (len(row["detail"]) <= 200 and "\n" not in row["detail"])


@pytest.mark.parametrize("text", badcorpus.HOSTILE_TEXTS, ids=ascii)
def test_hostile_keys_and_texts_come_back_unchanged(scored: Scored, text: str) -> None:
    found = scored.rows("select key, text, label from documents where key = $key", key=text)
    assert found == [{"key": text, "text": text, "label": 1}]
    tokens = scored.rows(
        "select count(*) as n from tokens join documents using (run_id, doc_id) where key = $k", k=text
    )
    assert tokens[0]["n"] > 0


@pytest.mark.parametrize("name", badcorpus.HOSTILE_NAMES, ids=ascii)
def test_hostile_file_names_come_back_unchanged(scored: Scored, name: str) -> None:
    source = str(scored.corpus.folder / "names" / name)
    found = scored.rows("select key, row, text from documents where source = $source", source=source)
    assert found == [{"key": f"{source}#0", "row": 0, "text": f"the text of {name!r}"}]


def test_nothing_is_written_outside_the_lake_and_nothing_odd_inside(scored: Scored) -> None:
    lake = Path(scored.lake)
    after = {path for path in files(scored.root) if not path.is_relative_to(lake)}
    assert after == set(scored.before)
    assert all(path.read_bytes() == data for path, data in scored.before.items())
    inside = [path.relative_to(lake).as_posix() for path in files(lake)]
    assert [name for name in inside if not LAKE_FILE.fullmatch(name)] == []


def test_a_second_start_changes_nothing(scored: Scored, model_folder: Path) -> None:
    run = config(model_folder, scored.corpus.folder, Path(scored.lake), label_column="label",
                 max_document_bytes=badcorpus.MAX_BYTES)  # fmt: skip
    assert score_corpus(make_plan(run)) == scored.ledger


def test_a_rebuilt_catalog_holds_the_same(scored: Scored) -> None:
    count = "select count(*) as n, count(distinct key) as keys, bit_xor(hash(text)) as texts from documents"
    before = scored.rows(count)
    write_catalog(scored.lake)
    assert scored.rows(count) == before


def test_a_prompt_that_is_no_string_is_a_reject(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    prompts: list[Any] = ["before ", None, "", 5, ["x"], {"a": 1}, True]
    lines = [{"id": f"p-{i}", "text": "the text", "prompt": prompt} for i, prompt in enumerate(prompts)]
    lines.append({"id": "p-none", "text": "the text"})
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    (folder / "a.jsonl").write_bytes(data + b'{"id": "p-bytes", "text": "the text", "prompt": "\\ud800"}\n')
    ledger = score_corpus(make_plan(config(model_folder, folder, tmp_path / "lake", prompt_column="prompt")))
    lake = str(tmp_path / "lake")
    texts = query(lake, "select row, text from documents order by row").to_pylist()
    assert [(row["row"], row["text"]) for row in texts] == [(0, "before the text"), (1, "the text"), (2, "the text")]
    rejects = query(lake, "select row, reason from rejects order by row").to_pylist()
    wrong = [(row, Reason.INVALID_PROMPT) for row in range(3, 8)]
    assert [(row["row"], row["reason"]) for row in rejects] == [*wrong, (8, Reason.INVALID_UTF8)]
    assert ledger["totals"]["rows_in"] == 9
    assert verify(Lake(lake)) == []
