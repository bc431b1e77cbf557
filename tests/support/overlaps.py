"""A benchmark and a corpus of made-up words, and what of the one the other holds, found by sets in plain Python."""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.lake import Lake, overlap_job_path, overlap_path
from pipelines.overlap.job import OverlapJob
from pipelines.overlap.plan import OverlapPlan, plan_overlap
from pipelines.overlap.run import compare
from schemas import OVERLAP_TABLES

N = 5
Gram = tuple[str, ...]


def words_of(text: str) -> list[str]:
    """Lower-case words of ASCII text."""
    return re.findall(r"[a-z0-9]+", text.lower())


def grams_of(text: str, n: int = N) -> list[Gram]:
    words = words_of(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@dataclass(frozen=True)
class World:
    """`benchmark`: one JSONL file; `corpus`: a folder of a JSONL, a gzipped JSONL, a Parquet and a text file."""

    benchmark: Path
    corpus: Path
    items: list[dict[str, str]]
    documents: dict[str, str]  # by id; the text file has none

    def seen(self, n: int = N) -> set[Gram]:
        return {gram for text in self.documents.values() for gram in grams_of(text, n)}

    def shares(self, part: str, n: int = N) -> dict[str, tuple[int, int]]:
        """By item n-grams seen and n-grams, of its input or of the whole; every one counts as often as it is there."""
        seen, found = self.seen(n), {}
        for item in self.items:
            text = item["question"] if part == "input" else f"{item['question']} {item['answer']}"
            grams = grams_of(text, n)
            found[item["id"]] = (sum(gram in seen for gram in grams), len(grams))
        return found


def make_world(folder: Path, *, n_items: int = 24, n_documents: int = 60, seed: int = 0) -> World:
    """Half of the items stand in documents, some cut short, in other case and punctuation."""
    draw = random.Random(seed)

    def some(n: int) -> list[str]:
        return [f"w{draw.randrange(400)}" for _ in range(n)]

    items = [{"id": f"item-{i}", "question": " ".join(some(14)), "answer": " ".join(some(6))} for i in range(n_items)]
    documents = {}
    for i in range(n_documents):
        words = some(30)
        if i < n_items and i % 2 == 0:
            whole = words_of(f"{items[i]['question']} {items[i]['answer']}")
            words[10:10] = whole[draw.randrange(6) :]
        documents[f"doc-{i}"] = ", ".join(word.upper() if draw.random() < 0.3 else word for word in words)
    folder.mkdir(parents=True, exist_ok=True)
    benchmark = folder / "bench.jsonl"
    benchmark.write_text("".join(json.dumps(item) + "\n" for item in items))
    return World(benchmark, _write(folder / "corpus", documents, items), items, documents)


def _write(folder: Path, documents: dict[str, str], items: list[dict[str, str]]) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [{"id": key, "text": text} for key, text in documents.items()]
    third = len(rows) // 3
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:third]))
    packed = "".join(json.dumps(row) + "\n" for row in rows[third : 2 * third]).encode()
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(packed, mtime=0))
    pq.write_table(pa.Table.from_pylist(rows[2 * third :]), folder / "c.parquet", row_group_size=4)
    return folder


def job(world: World, lake: Path | str, **more: Any) -> OverlapJob:
    """The job over a world, inline; `corpus`, `benchmark` and `options` add to its own."""
    sides = {
        "corpus": {"input": str(world.corpus), "id_column": "id"} | more.pop("corpus", {}),
        "benchmark": {"input": str(world.benchmark), "id_column": "id", "text_column": "question"}
        | more.pop("benchmark", {}),
        "options": {"n": N} | more.pop("options", {}),
    }
    fields = {"name": "bench", "lake": str(lake), "engine": "inline", "answer_column": "answer"}
    return OverlapJob.parse(**{**fields, **sides, **more})


def plan(world: World, lake: Path | str, **more: Any) -> OverlapPlan:
    return plan_overlap(job(world, lake, **more))


def run(world: World, lake: Path | str, **more: Any) -> dict[str, Any]:
    return compare(plan(world, lake, **more))


def tables(lake: Path | str, name: str = "bench", options: dict[str, Any] | None = None) -> dict[str, pa.Table]:
    """The three tables of an overlap, as they are stored."""
    store = Lake(str(lake), options).storage
    found = {}
    for table in OVERLAP_TABLES:
        with store.parquet(overlap_path(table.name, name)) as file:
            found[table.name] = file.read()
    return found


def totals(lake: Path | str, name: str = "bench") -> dict[str, Any]:
    return dict(json.loads(Lake(str(lake)).storage.read(overlap_job_path(name)))["totals"])


def shares(lake: Path | str, part: str = "all") -> dict[str, tuple[int, int]]:
    """By item n-grams seen and n-grams, as stored."""
    rows = tables(lake)["overlap_items"].to_pylist()
    return {row["key"]: (row["n_seen"], row["n_ngrams"]) for row in rows if row["part"] == part}


# A process of its own that can be killed: small units, each waited for before its receipt is written.
CHILD_UNIT_BYTES, CHILD_PIECE_BYTES = 600, 500
_CHILD = f"""
import sys, time
from pipelines import units
from pipelines.overlap import match
units.UNIT_BYTES, units.PIECE_BYTES, wait = {CHILD_UNIT_BYTES}, {CHILD_PIECE_BYTES}, float(sys.argv.pop(1))
keep = match.write_receipt
def slowly(*each):
    time.sleep(wait)
    keep(*each)
match.write_receipt = slowly
from jobs.cli import main
main()
"""


def child(world: World, lake: Path | str, *more: str, wait: float = 0.0) -> subprocess.Popen[str]:
    """`assay overlap` inline over a world, in a process of its own."""
    verb = ["overlap", "--benchmark", str(world.benchmark), "--corpus", str(world.corpus), "--lake", str(lake)]
    columns = ["--input-column", "question", "--answer-column", "answer", "--id-column", "id"]
    command = [sys.executable, "-c", _CHILD, str(wait), *verb, "--name", "bench", "--ngram", str(N), *columns]
    command += ["--corpus-id-column", "id", "--engine", "inline", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
