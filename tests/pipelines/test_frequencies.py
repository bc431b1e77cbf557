"""Counting a corpus from end to end: what is counted, what is rejected and said, both engines, and what may fail."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lakes
import pyarrow as pa
import pytest
import runs
import small
from stopping import Failing
from tokenizers import processors

from operators.catalog import connect
from operators.lake import Lake
from operators.tokenize import DocumentTokenizer
from operators.verify import verify
from pipelines import tally, units
from pipelines.claims import MemoryClaims
from pipelines.config import ConfigError
from pipelines.count import Counted, TokenWork
from pipelines.engines import UnitStep
from pipelines.frequencies import FrequenciesJob, count_corpus, plan_frequencies
from pipelines.probe import ReaderDiesError
from pipelines.run_frequencies import count_finished_run
from pipelines.score import RunError
from pipelines.surveyors import InlineSurveyor
from pipelines.units import Unit

BAD = ('{"id": "broken"', '{"id": "doc-0", "text": "again"}', '{"id": "empty", "text": ""}')


@pytest.fixture
def spoiled(corpus: Path, tmp_path: Path) -> Path:
    """The corpus with three bad records behind it."""
    path = tmp_path / "spoiled.jsonl"
    path.write_text(corpus.read_text(encoding="utf-8") + "\n".join(BAD) + "\n", encoding="utf-8")
    return path


def job(lake: Path, source: Path, model_folder: Path | None, **more: Any) -> FrequenciesJob:
    model = model_folder and str(model_folder)
    fields: dict[str, Any] = {
        "name": "c", "lake": str(lake), "input": str(source), "model": model, "engine": "inline",
        "id_column": "id",
    }  # fmt: skip
    return FrequenciesJob.parse(**{**fields, **more})


def counted(lake: Path, source: Path, model_folder: Path | None, **more: Any) -> Counted:
    return count_corpus(plan_frequencies(job(lake, source, model_folder, **more)))


def stored(lake: Path, corpus: str = "c") -> dict[int, tuple[int, int]]:
    with connect(str(lake), macros=False) as connection:
        sql = "select token_id, n, n_documents from frequencies where corpus = $c order by token_id"
        return {i: (n, d) for i, n, d in connection.execute(sql, {"c": corpus}).fetchall()}


def by_loop(model: Path, corpus: Path, first: int | None = None) -> dict[int, tuple[int, int]]:
    """Counts of the sound records, by encoding each text alone; the tokenizer puts one `<s>` before it."""
    tokenizer = small.make_tokenizer(bos=False)
    n: Counter[int] = Counter()
    held: Counter[int] = Counter()
    for line in corpus.read_text(encoding="utf-8").splitlines():
        ids = tokenizer.encode(json.loads(line)["text"]).ids[:first]
        n.update(ids)
        held.update(set(ids))
    return {i: (n[i], held[i]) for i in range(small.VOCABULARY)}


@pytest.mark.parametrize("first", [None, 5])
def test_it_counts_what_a_loop_counts(
    model_folder: Path, corpus: Path, spoiled: Path, tmp_path: Path, first: int | None
) -> None:
    lake = tmp_path / "lake"
    result = counted(lake, spoiled, model_folder, first_tokens=first)
    assert stored(lake) == by_loop(model_folder, corpus, first)
    assert {reason: n for reason, (n, _) in result.rejects.items()} == {
        "broken_json": 1, "duplicate_key": 1, "empty_text": 1,
    }  # fmt: skip
    assert result.rejects["duplicate_key"][1].startswith(f"{spoiled}#31: ")
    assert result.counts.documents == 30
    assert verify(Lake(str(lake))) == []
    assert [p.name for p in (lake / "frequencies").iterdir()] == ["corpus=c"]  # nothing of the way there is left


def test_many_units_are_counted_as_one(
    model_folder: Path, corpus: Path, spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 3000)
    monkeypatch.setattr(units, "PIECE_BYTES", 2000)
    plan = plan_frequencies(job(tmp_path / "lake", spoiled, model_folder))
    assert len(units.cut(plan.listing.shards)) > 5
    result = count_corpus(plan)
    assert stored(tmp_path / "lake") == by_loop(model_folder, corpus)
    assert result.rejects["broken_json"][1].startswith(f"{spoiled}#30: ")


@pytest.mark.cluster
@pytest.mark.usefixtures("shared_cluster")
def test_the_ray_engine_counts_the_same(
    model_folder: Path, corpus: Path, spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "UNIT_BYTES", 20_000)
    monkeypatch.setattr(units, "PIECE_BYTES", 20_000)
    result = counted(tmp_path / "lake", spoiled, model_folder, engine="ray")
    assert stored(tmp_path / "lake") == by_loop(model_folder, corpus)
    assert (result.rejected.n, result.rejected.n_unreadable) == (3, 0)


def test_unreadable_files_are_said_and_the_others_counted(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(corpus.read_bytes())
    (folder / "b.parquet").write_bytes(b"PAR1 no parquet PAR1")
    result = counted(tmp_path / "lake", folder, model_folder)
    assert (result.rejected.n_unreadable, result.counts.documents) == (1, 30)
    assert "b.parquet" in result.rejected.said
    assert stored(tmp_path / "lake") == by_loop(model_folder, corpus)


def test_a_tokenizer_alone_gives_the_same_counts_and_fits_the_same_runs(
    model_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    counted(lake, corpus, model_folder)
    counted(lake, corpus, None, name="d", tokenizer=str(model_folder / "tokenizer.json"), bos="never")
    assert stored(lake, "d") == stored(lake)
    run_fingerprint = DocumentTokenizer.load(model_folder).fingerprint
    with connect(str(lake), macros=False) as connection:
        sql = """
            select distinct corpus from frequencies
            where tokenizer_fingerprint = $f or list_contains(other_fingerprints, $f) order by 1"""
        assert connection.execute(sql, {"f": run_fingerprint}).fetchall() == [("c",), ("d",)]


def test_a_run_gives_the_counts_of_its_input(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    runs.run(model_folder, corpus, tmp_path, id_column="id")
    counted(tmp_path, corpus, model_folder)
    counts = count_finished_run(Lake(str(tmp_path)), "of-run", "run")
    assert stored(tmp_path, "of-run") == stored(tmp_path)
    assert counts.documents == 30
    with connect(str(tmp_path), macros=False) as connection:
        sql = "select count(*) from runs r join frequencies f on r.tokenizer_fingerprint = f.tokenizer_fingerprint"
        assert connection.execute(f"{sql} where corpus = 'of-run'").fetchall() == [(small.VOCABULARY,)]


def test_a_run_that_is_not_finished_is_not_counted(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write_run("run", {"run_id": "run", "state": "interrupted"})
    with pytest.raises(ConfigError, match="interrupted"):
        count_finished_run(lake, "c", "run")
    with pytest.raises(ConfigError, match="no run 'other'"):
        count_finished_run(lake, "c", "other")


@pytest.mark.parametrize(("ledger", "said"), [({}, "assay verify"), ({"model": {"vocab_size": 20}}, "holds token id")])
def test_a_run_that_cannot_be_read_is_not_counted(ledger: dict[str, Any], said: str, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lakes.write_run(lake, **({"model": {"vocab_size": 500}, "tokenizer": {"fingerprint": "t"}} | ledger))
    if not ledger:
        for part in (tmp_path / "tokens" / "run_id=r").iterdir():
            part.write_bytes(part.read_bytes()[:4] + bytes(200) + part.read_bytes()[204:])
    with pytest.raises(RunError, match=said):
        count_finished_run(lake, "c", "r")
    assert not (tmp_path / "frequencies").exists()


def test_what_stands_after_a_text_is_not_counted_either(corpus: Path, tmp_path: Path) -> None:
    tokenizer = small.make_tokenizer(bos=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> <s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    counted(tmp_path / "lake", corpus, None, tokenizer=str(tmp_path / "tokenizer.json"))
    assert stored(tmp_path / "lake") == by_loop(tmp_path, corpus)


# Names, and what a failure leaves


def test_a_name_is_replaced_only_where_it_is_repeated(model_folder: Path, corpus: Path, tmp_path: Path) -> None:
    counted(tmp_path, corpus, model_folder)
    whole = stored(tmp_path)
    with pytest.raises(ConfigError, match="--overwrite c"):
        counted(tmp_path, corpus, model_folder)
    with pytest.raises(ConfigError, match="--overwrite: it names 'd'"):
        counted(tmp_path, corpus, model_folder, overwrite="d")
    assert stored(tmp_path) == whole
    counted(tmp_path, corpus, model_folder, overwrite="c", first_tokens=5)
    assert stored(tmp_path) == by_loop(model_folder, corpus, 5)
    assert len(list((tmp_path / "frequencies" / "corpus=c").iterdir())) == 1


def test_where_nothing_is_counted_nothing_is_written(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("\n".join(BAD[::2]) + "\n")
    with pytest.raises(RunError, match=r"no document was counted; 1 broken_json, the first .*; 1 empty_text"):
        counted(tmp_path / "lake", tmp_path / "bad.jsonl", model_folder)
    assert not list((tmp_path / "lake").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "../c"}, "--name: corpus '../c'"),
        ({"name": ""}, "--name: corpus ''"),
        ({"tokenizer": "t"}, "--model or --tokenizer"),
        ({"model": None}, "--model or --tokenizer"),
        ({"model": None, "tokenizer": "nowhere"}, "--tokenizer: tokenizer nowhere"),
        ({"input": "s3://key:secret@bucket/x"}, "holds credentials"),
        ({"limit": 0}, "--limit"),
    ],
)
def test_faults_are_told_in_the_words_of_the_command_line(
    model_folder: Path, corpus: Path, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        counted(tmp_path, corpus, model_folder, **more)
    assert "secret" not in str(error.value)


@pytest.fixture
def two_files(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two files, a unit each."""
    monkeypatch.setattr(units, "UNIT_FILES", 1)
    folder = tmp_path / "in"
    folder.mkdir()
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "a.jsonl").write_text("".join(lines[:20]), encoding="utf-8")
    (folder / "b.jsonl").write_text("".join(lines[20:]), encoding="utf-8")
    return folder


def use(monkeypatch: pytest.MonkeyPatch, surveyor: InlineSurveyor) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr("pipelines.tally.make_surveyor", lambda engine, address: nullcontext(surveyor))


def test_what_was_counted_before_the_machinery_failed_is_not_counted_again(
    model_folder: Path, corpus: Path, two_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveyor = Failing(tally.TallyStep, ConnectionError("a node is gone"))
    use(monkeypatch, surveyor)
    counted(tmp_path / "lake", two_files, model_folder)
    assert surveyor.surveyed == [0, 1]
    assert stored(tmp_path / "lake") == by_loop(model_folder, corpus)


def test_what_a_worker_raises_ends_the_count_and_writes_nothing(
    model_folder: Path, two_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Failing(tally.TallyStep, KeyError("a defect")))
    with pytest.raises(RunError, match="KeyError: 'a defect'"):
        counted(tmp_path / "lake", two_files, model_folder)
    assert not list((tmp_path / "lake").rglob("*.parquet"))


def test_a_file_that_kills_its_reader_is_left_out_and_said(
    model_folder: Path, two_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveyor, killer = Failing(tally.TallyStep, ReaderDiesError.of(1)), str(two_files / "b.jsonl")
    use(monkeypatch, surveyor)
    monkeypatch.setattr(tally, "killers", lambda pieces, *_: [p.shard.uri for p in pieces if p.shard.uri == killer])
    result = counted(tmp_path / "lake", two_files, model_folder)
    assert surveyor.surveyed == [0, 1]
    assert (result.counts.documents, result.rejected.n_unreadable) == (20, 1)
    assert result.rejects["killed_worker"][1].startswith(f"{killer}: reading this file ended the process")


class Killed(BaseException):
    """Stands for a SIGKILL: the process is gone, and no claim in it ends."""


class Deadly(InlineSurveyor):
    """Workers that are killed by a text with `poison` in it, and begin again, as Ray has them do."""

    def __init__(self) -> None:
        super().__init__()
        self.claims, self.deaths = DeadlyClaims(), 0

    def survey(self, step: UnitStep, units: Sequence[Unit]) -> Iterator[pa.Table]:
        if isinstance(step, tally.TallyStep):
            work = cast(TokenWork, step.work)
            tokenize = work.tokenize
            dying = replace(work, tokenize=lambda block: self.tokenize(tokenize, block))  # type: ignore[arg-type]
            step = replace(step, work=dying)
        for unit in units:
            yield from self.until_alive(step, unit)

    def tokenize(self, step: Callable[[pa.Table], pa.Table], block: pa.Table) -> pa.Table:
        if any("poison" in (text or "") for text in block["text"].to_pylist()):
            self.claims.killed = True
            raise Killed
        return step(block)

    def until_alive(self, step: UnitStep, unit: Unit) -> list[pa.Table]:
        for _ in range(20):
            self.claims.killed = False
            try:
                return list(step(unit))
            except Killed:
                self.deaths += 1
        raise AssertionError("it never ended")


class DeadlyClaims(MemoryClaims):
    killed = False

    def end(self, name: str) -> None:
        if not self.killed:
            super().end(name)


def test_a_document_that_kills_its_worker_is_left_out_and_the_others_are_counted(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    surveyor, source = Deadly(), tmp_path / "poisoned.jsonl"
    use(monkeypatch, surveyor)
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    poison = json.dumps({"id": "p", "text": "poison"}) + "\n"
    source.write_text("".join([*lines[:7], poison, *lines[7:]]), encoding="utf-8")
    result = counted(tmp_path / "lake", source, model_folder)
    assert stored(tmp_path / "lake") == by_loop(model_folder, corpus)
    assert (result.counts.documents, result.rejected.n, result.rejected.n_unreadable) == (30, 1, 0)
    assert result.rejects["killed_worker"][1].startswith(f"{source}#7: its worker died 2 times")
    assert surveyor.deaths == 4  # twice with the block, twice alone
