"""Faults that end processes: a document that kills its worker, a file that kills its reader, a node that is lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import poison
import pytest
import runs
import s3
import small
from runs import rows

from operators import identity, read
from operators.lake import Lake
from operators.storage import Storage
from operators.verify import verify
from pipelines import probe
from pipelines.config import ConfigError
from pipelines.journal import Journal
from pipelines.plan import Plan, digest, make_plan
from pipelines.previous import ResumeError
from pipelines.score import RunError

pytestmark = pytest.mark.usefixtures("no_catalog")


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
@pytest.mark.slow
def test_a_document_that_kills_its_worker_is_rejected_and_the_rest_is_scored(tmp_path: Path) -> None:
    model = poison.make_model_folder(tmp_path / "model")
    texts = small.stdlib_texts(200)[:9]
    texts[4] = f"deadly {poison.DEADLY_TEXT} text"
    corpus = write_lines(tmp_path / "corpus.jsonl", texts)
    more: dict[str, Any] = {"trust_remote_code": True, "engine": "ray", "actors": 1}
    ledger = runs.run(model, corpus, tmp_path / "lake", **more)
    rejects = rows(tmp_path / "lake", "rejects", order="source").to_pylist()
    assert [(r["row"], r["reason"]) for r in rejects] == [(4, "killed_worker")]
    assert Journal.open(Lake(str(tmp_path / "lake")), "run").done().counts["unreadable"] == 0  # no file was to blame
    assert ledger["totals"]["documents"] == 8
    corpus.write_text("".join(corpus.read_text().splitlines(keepends=True)[i] for i in range(9) if i != 4))
    runs.run(model, corpus, tmp_path / "without", trust_remote_code=True)
    columns = ["position", "token_id", "logprob", "entropy", "rank"]
    one, other = (
        rows(tmp_path / name, "tokens").select(columns).sort_by([(c, "ascending") for c in columns])
        for name in ("lake", "without")
    )
    assert one.equals(other)
    assert verify(Lake(str(tmp_path / "lake"))) == []


DYING_READER = """
import os, pickle, signal, sys
piece, *_ = pickle.load(sys.stdin.buffer)
if piece.shard.uri.endswith("b.jsonl"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def claim(lake: Lake, plan: Plan, **begun: int) -> None:
    """As attempts leave the lake that died while they did these things."""
    stored = {"of": digest(plan.identity), "begun": {name.replace("_", " "): n for name, n in begun.items()}}
    lake.storage.write("progress/run_id=run/claims.json", json.dumps(stored).encode())


@pytest.mark.parametrize("verb", ["read", "compare"])
def test_a_file_that_kills_its_reader_is_found_and_rejected(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        write_lines(folder / f"{name}.jsonl", [f"a text of {name}", "another"])
    lake = Lake(str(tmp_path / "lake"))
    more = {"id_column": "text"} if verb == "compare" else {}
    claim(lake, make_plan(runs.config(model_folder, folder, lake.root, **more)), **{f"{verb}_0": 2})
    monkeypatch.setattr(probe, "CHILD", DYING_READER)
    ledger = runs.run(model_folder, folder, lake.root, **more)
    rejects = rows(lake.root, "rejects", order="source").to_pylist()
    assert ("b.jsonl", -1, "killed_worker") in [(Path(r["source"]).name, r["row"], r["reason"]) for r in rejects]
    assert ledger["totals"]["documents"] == (3 if verb == "compare" else 4)
    assert ledger["dying"] == {"probed": [0], "killers": [f"{folder}/b.jsonl"]}
    assert Journal.open(lake, "run").done().counts["unreadable"] == 1
    assert verify(lake) == []
    assert runs.run(model_folder, folder, lake.root, **more) == ledger


def test_a_reader_that_was_killed_by_chance_reads_on(model_folder: Path, tmp_path: Path) -> None:
    corpus = write_lines(tmp_path / "corpus.jsonl", ["one", "two"])
    lake = Lake(str(tmp_path / "lake"))
    claim(lake, make_plan(runs.config(model_folder, corpus, lake.root)), read_0=5)
    ledger = runs.run(model_folder, corpus, lake.root)
    assert ledger["totals"]["documents"] == 2
    assert ledger["dying"] == {"probed": [0], "killers": []}


def test_a_model_that_kills_its_process_is_not_held_against_a_document(model_folder: Path, tmp_path: Path) -> None:
    corpus = write_lines(tmp_path / "corpus.jsonl", ["one", "two"])
    lake = Lake(str(tmp_path / "lake"))
    claim(lake, make_plan(runs.config(model_folder, corpus, lake.root)), loading_the_model=8)
    with pytest.raises(RunError, match="loading the model killed its worker 8 times: is there enough memory"):
        runs.run(model_folder, corpus, lake.root)
    assert runs.run(model_folder, corpus, lake.root)["totals"]["documents"] == 2


def test_an_address_without_a_cluster_is_said_at_once(model_folder: Path, tmp_path: Path) -> None:
    corpus = write_lines(tmp_path / "corpus.jsonl", ["one"])
    address = f"127.0.0.1:{s3.free_port()}"
    with pytest.raises(ConfigError, match=f"--address {address}: no Ray cluster answers there"):
        runs.run(model_folder, corpus, tmp_path / "lake", engine="ray", address=address)


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "no space left"), (errno.EACCES, "permission denied"), (errno.EROFS, "read-only")],
)
def test_a_storage_that_refuses_is_named_and_the_run_goes_on_later(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    monkeypatch.setattr("pipelines.plan.MIN_BLOCK_BYTES", 2000)
    monkeypatch.setattr("pipelines.plan.MAX_BLOCK_BYTES", 2000)
    corpus = write_lines(tmp_path / "corpus.jsonl", small.stdlib_texts(900)[:10])
    whole = runs.run(model_folder, corpus, tmp_path / "whole")
    left = iter(range(12))
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(RunError) as error:
            runs.run(model_folder, corpus, tmp_path / "lake")
    assert said in str(error.value).lower()
    assert str(tmp_path / "lake") in str(error.value)
    assert runs.run(model_folder, corpus, tmp_path / "lake")["totals"] == whole["totals"]
    assert rows(tmp_path / "lake", "tokens").equals(rows(tmp_path / "whole", "tokens"))
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_a_hash_collision_is_a_reject_with_that_reason(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two keys of one doc_id cannot be made in reasonable time: here the second one's is set."""
    monkeypatch.setattr(read, "doc_id", lambda key: identity.doc_id("first" if key == "second" else key))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": k, "text": f"text of {k}"}) + "\n" for k in ("first", "x", "second")))
    runs.run(model_folder, corpus, tmp_path / "lake", id_column="id")
    (reject,) = rows(tmp_path / "lake", "rejects", order="source").to_pylist()
    assert (reject["row"], reject["key"], reject["reason"]) == (2, "second", "hash_collision")
    assert reject["detail"] == f"{corpus}#0 has another key of the same doc_id and comes first"


DYING_WORKERS = """
import os, signal, sys
if any("default_worker" in word or "read_job" in word for word in sys.orig_argv):
    from operators.readers import jsonl
    read = jsonl.records

    def records(source, **how):
        if source.uri.endswith("b.jsonl"):
            os.kill(os.getpid(), signal.SIGKILL)
        return read(source, **how)

    jsonl.records = records
"""


@pytest.mark.cluster
@pytest.mark.slow
def test_under_ray_too_a_file_that_kills_its_reader_is_rejected(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        write_lines(folder / f"{name}.jsonl", [f"a text of {name}", f"another of {name}"])
    (tmp_path / "sitecustomize.py").write_text(DYING_WORKERS)
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "score", "--model", model_folder, "--input",
               folder, "--lake", tmp_path / "lake", "--run-id", "run", "--id-column", "text", "--context", "64",
               "--actors", "1"]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rejects = rows(tmp_path / "lake", "rejects", order="source").to_pylist()
    assert [(Path(r["source"]).name, r["row"], r["reason"]) for r in rejects] == [("b.jsonl", -1, "killed_worker")]
    assert len(rows(tmp_path / "lake", "documents")) == 4
    assert verify(Lake(str(tmp_path / "lake"))) == []


def test_overwrite_drops_nothing_where_the_run_cannot_even_start(model_folder: Path, tmp_path: Path) -> None:
    corpus = write_lines(tmp_path / "corpus.jsonl", ["one"])
    ledger = runs.run(model_folder, corpus, tmp_path / "lake")
    address = f"127.0.0.1:{s3.free_port()}"
    with pytest.raises(ConfigError, match="no Ray cluster answers"):
        runs.run(model_folder, corpus, tmp_path / "lake", engine="ray", address=address, overwrite="run")
    assert Lake(str(tmp_path / "lake")).read_run("run") == ledger
    assert len(rows(tmp_path / "lake", "documents")) == 1


def test_a_kernel_that_cannot_run_is_refused_before_anything_is_dropped(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    corpus = write_lines(tmp_path / "corpus.jsonl", ["one"])
    ledger = runs.run(model_folder, corpus, tmp_path / "lake")
    with pytest.raises(ConfigError, match=r"--kernel: triton cannot run here: .*; use torch or auto"):
        runs.run(model_folder, corpus, tmp_path / "lake", kernel="triton", device="cpu", overwrite="run")
    assert Lake(str(tmp_path / "lake")).read_run("run") == ledger
    assert len(rows(tmp_path / "lake", "documents")) == 1


def test_a_deterministic_run_goes_on_with_the_same_batches_only(model_folder: Path, tmp_path: Path) -> None:
    """Others may resume under any; an earlier version's run, which knew no such flag, too."""
    corpus = write_lines(tmp_path / "corpus.jsonl", ["one", "two"])
    same = {"model_folder": model_folder, "corpus": corpus, "lake": tmp_path / "lake"}
    runs.run(*same.values(), run_id="free", batch_tokens=64)
    runs.run(*same.values(), run_id="free", batch_tokens=128)
    runs.run(*same.values(), run_id="fixed", batch_tokens=64, deterministic=True)
    runs.run(*same.values(), run_id="fixed", batch_tokens=64, deterministic=True)
    for changed in ({"batch_tokens": 128, "deterministic": True}, {"batch_tokens": 64}):
        with pytest.raises(ResumeError):
            runs.run(*same.values(), run_id="fixed", **changed)


def test_parts_that_vanish_as_they_are_written_end_the_run(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_lines(tmp_path / "corpus.jsonl", ["one"])
    write = Storage.write

    def lose_tokens(self: Storage, path: str, data: bytes | memoryview) -> None:
        if not path.startswith("tokens/"):
            write(self, path, data)

    monkeypatch.setattr(Storage, "write", lose_tokens)
    with pytest.raises(RunError, match="parts vanish as they are written"):
        runs.run(model_folder, corpus, tmp_path / "lake")
