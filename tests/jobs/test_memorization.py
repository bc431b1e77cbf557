"""`assay memorization` as a user types it: what it reports and keeps, what is missing, hostile texts, mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import memorized_runs
import numpy as np
import pytest
import runs
import s3
import small
from memorized_runs import RUN
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.catalog import connect
from operators.lake import Lake
from operators.verify import verify
from pipelines.base_run import inherited
from pipelines.config import ScoreConfig
from pipelines.plan import make_plan
from pipelines.score import score_corpus

SIZES = ("--prefix", "4", "--suffix", "3", "--min-tokens", "6")


def assay(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def documents() -> list[memorized_runs.Document]:
    """Six known by heart from token 6 on, of which every second has one miss in its middle; six that are not."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(12):
        is_known = i < 6
        hits: list[bool | None] = [None, *(rng.random(49) < 0.3).tolist()]
        if is_known:
            hits[6:40] = [True] * 34
            hits[5] = hits[40] = False
            hits[23] = not i % 2
        more = {"domain": "ab"[i % 2], "attributes": {"copies": "16" if is_known else "0", "template": f"t{i % 3}"}}
        made.append(memorized_runs.document(f"k{i}", rng, hits, label=int(is_known), **more))
    return made


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "my lake"))
    memorized_runs.write_run(lake, RUN, documents())
    return lake


def with_windows(lake: Lake, *offsets: int) -> None:
    for offset in offsets:
        spec = f"windows:prefix=4,suffix=3,offset={offset}"
        memorized_runs.write_run(lake, f"{RUN}-w{offset}", documents(), transform=spec, base_run=RUN)


def read(*arguments: object) -> dict[str, Any]:
    result = assay("memorization", *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def hits(context: dict[str, Any]) -> tuple[int, int, int, int]:
    windows, documents = context["windows"], context["documents"]
    return windows["hits"], windows["n"], documents["hits"], documents["n"]


def expected(made: list[memorized_runs.Document], *, starts: int = 4) -> tuple[int, int, int, int]:
    """Windows of three tokens at every third from `starts` on, counted one by one."""
    flags = [
        [all(d.hits[t : t + 3]) for t in range(starts, len(d.hits) - 2, 3)] for d in made if len(d.hits) >= starts + 3
    ]
    return sum(map(sum, flags)), sum(map(len, flags)), sum(map(any, flags)), len(flags)


def test_both_contexts_are_counted_apart(lake: Lake) -> None:
    with_windows(lake, 0, 1)
    found = read(lake.root, "--run-id", RUN, *SIZES)
    strict, document = found["extraction"]
    one = expected(documents())
    assert hits(document) == one
    assert hits(strict) == (2 * one[0], 2 * one[1], one[2], one[3])  # both runs hold the same tokens here
    assert (strict["context"], document["context"]) == ("strict", "document")
    assert strict["scored_runs"] == [f"{RUN}-w0", f"{RUN}-w1"]
    by_copies = {each["group"]: each for each in document["by"]["copies"]}
    assert list(by_copies) == ["0", "16"]
    assert hits(by_copies["16"]) == expected(documents()[:6])
    assert by_copies["16"]["windows"]["low"] > by_copies["0"]["windows"]["rate"]
    assert {each["group"] for each in document["by"]["domain"]} == {"a", "b"}
    assert found["missing"] == []
    assert found["notes"] == []
    assert verify(lake) == []


def model_with_both(folder: Path) -> Path:
    """A model whose tokenizer puts `<s>` before every text and `</s>` behind it."""
    small.make_model_folder(folder, bos=False)
    file = folder / "tokenizer.json"
    definition = json.loads(file.read_text())
    around = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in ("<s>", "</s>")}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    definition["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [around["<s>"], text, around["</s>"]],
        "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {n: {"id": n, "ids": [i], "tokens": [n]} for i, n in enumerate(around)},
    }
    file.write_text(json.dumps(definition))
    return folder


def test_windows_of_both_contexts_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that is fed a token on both sides of a text: neither is in a window, whatever the text's length."""
    monkeypatch.setattr("operators.catalog.write_catalog", lambda *_: "")
    corpus, lake = tmp_path / "in.jsonl", Lake(str(tmp_path / "lake"))
    texts = [small.stdlib_texts(300)[0][:size] for size in range(60, 120, 2)]
    corpus.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    runs.run(model_with_both(tmp_path / "model"), corpus, lake.root, RUN, id_column="id")
    fields = {"lake": lake.root, "run_id": "w", "transform": "windows:prefix=4,suffix=3", "base_run": RUN}
    score_corpus(make_plan(ScoreConfig.parse(**inherited(fields))))
    strict, document = read(lake.root, "--run-id", RUN, *SIZES)["extraction"]
    assert strict["windows"]["n"] == document["windows"]["n"] > 50
    with connect(lake.root, macros=False) as connection:
        sql = "select doc_id, byte_start, n_bytes from extractions where context = $c order by all"
        first, second = (connection.execute(sql, {"c": c}).fetchall() for c in ("strict", "document"))
        ((at_end,),) = connection.execute(
            "select count(*) from extractions e join documents d using (run_id, doc_id) "
            "where context = 'document' and e.byte_start + e.n_bytes = d.n_bytes"
        ).fetchall()
    assert first == second
    assert at_end > 3


def test_samples_and_chances(lake: Lake) -> None:
    found = read(lake.root, "--run-id", RUN, *SIZES, "--n", "1000,1,10", "--p", "0.9,0.1")
    (document,) = found["extraction"]
    rates = {(each["n"], each["p"]): each["windows"]["rate"] for each in document["sampled"]}
    assert list(rates) == [(n, p) for p in (0.1, 0.9) for n in (1, 10, 1000)]
    assert rates[1, 0.9] < rates[10, 0.9] <= rates[1000, 0.9]
    assert rates[1, 0.9] < rates[1, 0.1]
    assert document["windows_of_unknown_probability"] == 0


def test_spans_are_shown_longest_first(lake: Lake) -> None:
    found = read(lake.root, "--run-id", RUN, *SIZES, "--limit", "4")
    verbatim, near = found["spans"]
    known = {d.key: d for d in documents()[:6]}
    assert [span["n_tokens"] for span in verbatim["longest"]] == [34, 34, 34, 17]
    assert {span["key"] for span in verbatim["longest"][:3]} == {"k0", "k2", "k4"}
    assert {(span["key"], span["n_tokens"], span["n_misses"]) for span in near["longest"]} >= {
        ("k1", 34, 1), ("k3", 34, 1), ("k5", 34, 1)
    }  # fmt: skip
    for span in verbatim["longest"][:3]:
        document = known[span["key"]]
        assert (span["byte_start"], span["byte_start"] + span["n_bytes"]) == (document.starts[6], document.starts[40])
        assert document.text.encode()[document.starts[6] : document.starts[40]] in span["text"].encode()
    assert (verbatim["documents"]["hits"] >= 6, verbatim["longest_tokens"]) == (True, 34)
    table = assay("memorization", lake.root, "--run-id", RUN, *SIZES).stdout
    assert "verbatim spans: " in table
    assert "the longest with misses:" in table


def test_exposure_is_among_documents_that_share_a_column(lake: Lake) -> None:
    found = read(lake.root, "--run-id", RUN, *SIZES, "--canaries", "template")
    assert len(found["exposure"]) == 6
    total = {d.key: sum(lp for lp in d.logprobs if lp is not None) for d in documents()}
    for row in found["exposure"]:
        candidates = [d.key for d in documents() if d.attributes["template"] == row["candidates"] and not d.label]
        rank = 1 + sum(total[key] >= total[row["key"]] for key in candidates)
        assert (row["rank"], row["n_candidates"]) == (rank, 3)
        assert row["exposure_bits"] == pytest.approx(np.log2(3) - np.log2(rank))
        assert (row["copies"], row["p_value"]) == ("16", pytest.approx(rank / 3))
    assert (
        "exposure of 6 canaries"
        in assay("memorization", lake.root, "--run-id", RUN, *SIZES, "--canaries", "template").stdout
    )


def test_what_is_missing_is_said_with_its_command(lake: Lake) -> None:
    found = read(lake.root, "--run-id", RUN, *SIZES, "--top-k", "9")
    strict, lists = found["missing"]
    assert strict["what"] == "strict extraction"
    assert strict["command"] == (
        f"assay score --transform windows:prefix=4,suffix=3 --base-run {RUN} --run-id {RUN}-windows-4-3 "
        f"--lake '{lake.root}' --features topk --top-k 9"
    )
    assert "hold 5 tokens, sampling is from 9" in lists["why"]
    assert "--features extremes,topk --top-k 9" in lists["command"]
    (document,) = found["extraction"]
    assert document["windows_of_unknown_probability"] == document["windows"]["n"] > 0
    assert [each["windows"]["n"] for each in document["sampled"]] == [0] * 4
    table = assay("memorization", lake.root, "--run-id", RUN, *SIZES, "--top-k", "9").stdout
    assert strict["command"] in table
    memorized_runs.write_run(
        lake, f"{RUN}-w", documents(), features=("extremes",), transform="windows:prefix=4,suffix=3", base_run=RUN
    )
    (of_strict,) = read(lake.root, "--run-id", RUN, *SIZES, "--top-k", "5")["missing"]
    assert of_strict["what"] == "strict (n, p)-extraction"
    assert f"--run-id {RUN}-w-top5" in of_strict["command"]


def test_runs_of_other_windows_are_said_and_old_rows_go(lake: Lake) -> None:
    with_windows(lake, 0)
    assert len(read(lake.root, "--run-id", RUN, *SIZES)["extraction"]) == 2
    found = read(lake.root, "--run-id", RUN, "--prefix", "5", "--suffix", "3")
    assert [each["context"] for each in found["extraction"]] == ["document"]
    assert f"run {RUN}-w0 has prefixes of 4" in found["missing"][0]["why"]
    assert found["notes"] == [
        "note: strict windows that the lake had of this run were of another length: they are gone"
    ]
    memorized_runs.write_run(
        lake, "half", documents(), transform="windows:prefix=5,suffix=3", base_run=RUN, state="interrupted"
    )
    found = read(lake.root, "--run-id", RUN, "--prefix", "5", "--suffix", "3")
    assert "run half is interrupted" in found["missing"][0]["why"]
    assert verify(lake) == []


def test_a_run_under_way_is_warned_of(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    memorized_runs.write_run(lake, RUN, documents(), features=(), state="interrupted")
    notes = read(lake.root, "--run-id", RUN, *SIZES)["notes"]
    assert notes[0] == f"warning: run {RUN} is interrupted: only what is scored so far is in these numbers"
    assert "both tokens of an exact tie count" in notes[1]
    assert "warning: run r is interrupted" in assay("memorization", lake.root, "--run-id", RUN, *SIZES).stdout


def test_hostile_texts_are_shown_escaped_on_one_line(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    rng = np.random.default_rng(1)
    pieces = [b"[red]", b"\x1b[31m", b"\n", b"\r", b"'; drop", "\u202e".encode(), b"|", b"[/red]", b"x"] * 3
    made = memorized_runs.document("ke\x1by[b]\n", rng, [True] * 27, pieces=pieces, domain="d\x1b[1m", label=1,
                              attributes={"co'l\"umn": "v\n[b]"})  # fmt: skip
    memorized_runs.write_run(lake, RUN, [made])
    arguments = (lake.root, "--run-id", RUN, *SIZES, "--group-by", "co'l\"umn", "--canaries", "co'l\"umn")
    result = assay("memorization", *arguments)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    (line,) = (line for line in result.stdout.splitlines() if "[red]" in line)
    assert "\\x1b[31m\\n\\r'; drop\\u202e|[/red]x" in line
    found = read(*arguments)
    assert found["spans"][0]["longest"][0]["text"] == made.text
    assert found["spans"][0]["longest"][0]["key"] == made.key
    assert found["extraction"][0]["by"]["co'l\"umn"][0]["group"] == "v\n[b]"


def test_dropped_texts_are_said(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    memorized_runs.write_run(lake, RUN, documents(), keep_text=False)
    result = assay("memorization", lake.root, "--run-id", RUN, *SIZES)
    assert "texts were dropped when the corpus was scored: only the byte ranges are left" in result.stdout
    assert read(lake.root, "--run-id", RUN, *SIZES)["spans"][0]["longest"][0]["text"] is None


def test_documents_too_short_for_a_window(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    memorized_runs.write_run(lake, RUN, documents())
    result = assay("memorization", lake.root, "--run-id", RUN)
    assert result.exit_code == 0, result.output
    assert "no document has a complete window" in result.stdout
    assert "verbatim spans: 0" in result.stdout
    assert verify(lake) == []


def test_documents_without_a_window_are_counted(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    rng = np.random.default_rng(2)
    short = [memorized_runs.document(f"s{i}", rng, [None, *[True] * i]) for i in range(1, 5)]
    memorized_runs.write_run(lake, RUN, [*documents(), *short])
    (found,) = read(lake.root, "--run-id", RUN, *SIZES)["extraction"]
    assert (found["documents_without_a_window"], found["documents"]["n"]) == (4, 12)
    shown = assay("memorization", lake.root, "--run-id", RUN, *SIZES).stdout
    assert "4 documents have no complete window and are in no rate" in shown


def test_what_compact_precision_costs_is_said(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    config = {"precision": "compact", "features": ["extremes", "topk"], "top_k": 5}
    memorized_runs.write_run(lake, RUN, documents(), config=config)
    (note,) = read(lake.root, "--run-id", RUN)["notes"]
    assert "that of a whole suffix by 0.049 nats at most" in note
    (note,) = read(lake.root, "--run-id", RUN, "--top-k", "5", "--temperature", "0.5")["notes"]
    assert "by 0.2 nats at most" in note


@pytest.mark.parametrize("column", ["windows", "documents", "[/x]", "a\x1b[1m"])
def test_a_column_may_be_called_as_it_likes(tmp_path: Path, column: str) -> None:
    lake = Lake(str(tmp_path))
    made = [replace(each, attributes={column: f"of {each.domain}"}) for each in documents()]
    memorized_runs.write_run(lake, RUN, made)
    result = assay("memorization", lake.root, "--run-id", RUN, *SIZES, "--group-by", column)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert column.replace("\x1b", "\\x1b") in result.stdout
    lines = [line for line in result.stdout.splitlines() if line.startswith(("of a ", "of b "))]
    assert len(lines) == 6  # two groups of windows, and of documents with spans of two kinds


def test_completions_alone(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    memorized_runs.write_run(lake, RUN, [replace(d, prompt_tokens=20) for d in documents()])
    every = read(lake.root, "--run-id", RUN, *SIZES)
    found = read(lake.root, "--run-id", RUN, *SIZES, "--completion")
    assert 0 < found["extraction"][0]["windows"]["n"] < every["extraction"][0]["windows"]["n"]
    assert [note for note in every["notes"] if "--completion leaves them out" in note]
    assert found["notes"] == []
    assert found["spans"][0]["longest_tokens"] == 20
    assert every["spans"][0]["longest_tokens"] == 34


def test_a_report_is_written_to_a_file(lake: Lake, tmp_path: Path) -> None:
    for name in ("report.json", "report.txt"):
        result = assay("memorization", lake.root, "--run-id", RUN, *SIZES, "--output", tmp_path / name)
        assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((tmp_path / "report.json").read_text())["run_id"] == RUN
    assert (tmp_path / "report.txt").read_text().startswith(f"run {RUN}: prefixes of 4 and suffixes of 3 tokens")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run-id", "rr"], "no run 'rr' in .* (did you mean r?)"),
        (["--run-id", "zzz"], "no run 'zzz' in .*: it holds other, r, windows"),
        (["--run-id", RUN, "--suffix", "0"], "suffix is 0: 1 to 1,048,576 tokens; stride is 0"),
        (["--run-id", RUN, "--prefix", str(1 << 40)], "prefix is 1099511627776: 1 to 1,048,576 tokens"),
        (["--run-id", "windows"], "--run-id windows: it holds strict windows of run r; name that"),
        (["--run-id", RUN, "--misses", "1"], "misses is 1.0: a share of 0 or more, below 1"),
        (["--run-id", RUN, "--temperature", "0.7"], "temperature 0.7 over the whole vocabulary is not kept"),
        (["--run-id", RUN, "--n", "1,x"], "--n '1,x': expected whole numbers"),
        (["--run-id", RUN, "--n", "0"], "--n '0': expected whole numbers of 1 or more"),
        (["--run-id", RUN, "--p", "0.5,1"], "--p '0.5,1': expected numbers between 0 and 1"),
        (["--run-id", RUN, "--p", "half"], "--p 'half': expected numbers between 0 and 1"),
        (["--run-id", RUN, "--group-by", "domian"], "--group-by: .* no column 'domian' (did you mean domain?)"),
        (["--run-id", RUN, "--copies-column", "x"], "--copies-column: .* they have domain, copies, template"),
        (["--run-id", RUN, "--canaries", "x"], "--canaries: documents of run r have no column 'x'"),
        (["--run-id", RUN, "--windows-run", "othe"], "no run 'othe' in .* (did you mean other?)"),
        (["--run-id", RUN, "--windows-run", "other"], "--windows-run other: it is no run of strict windows of r"),
        (["--run-id", RUN, "--output", "x.csv"], "a name that ends in .json"),
    ],
)
def test_mistakes_are_said_in_one_line(lake: Lake, arguments: list[str], message: str) -> None:
    memorized_runs.write_run(lake, "other", documents()[:1])
    memorized_runs.write_run(lake, "windows", documents()[:1], transform="windows:prefix=9,suffix=9", base_run=RUN)
    result = assay("memorization", lake.root, *arguments)
    assert result.exit_code == 2, result.output
    said = unfolded(result.output)
    for part in message.split(".*"):
        assert part.strip() in said, said
    assert len(result.output.strip().splitlines()) == 1
    assert not list((Path(lake.root)).glob("spans/*/*"))


def test_runs_of_windows_that_are_named(lake: Lake) -> None:
    with_windows(lake, 0, 1, 3)
    first, second, third = (f"{RUN}-w{offset}" for offset in (0, 1, 3))
    strict = read(lake.root, "--run-id", RUN, *SIZES, "--windows-run", second)["extraction"][0]
    assert strict["scored_runs"] == [second]
    result = assay("memorization", lake.root, "--run-id", RUN, *SIZES, "--windows-run", first, "--windows-run", third)
    assert "two of the runs have the same windows" in unfolded(result.output)
    result = assay("memorization", lake.root, "--run-id", RUN, "--windows-run", first)
    assert "prefixes of 4 and suffixes of 3 tokens" in unfolded(result.output)
    assert result.exit_code == 2


def test_no_lake() -> None:
    result = assay("memorization", "/nowhere/at/all", "--run-id", RUN)
    assert (result.exit_code, "no lake at /nowhere/at/all" in unfolded(result.output)) == (2, True)


def test_a_lake_in_an_object_store(tmp_path: Path) -> None:
    with s3.named_server(tmp_path / "s3"):
        (tmp_path / "s3" / "bucket").mkdir(parents=True, exist_ok=True)
        lake = Lake("s3://bucket/lake")
        memorized_runs.write_run(lake, RUN, documents())
        with_windows(lake, 0)
        for _ in range(2):
            found = read(lake.root, "--run-id", RUN, *SIZES)
            assert hits(found["extraction"][1]) == expected(documents())
            assert found["spans"][0]["longest"][0]["n_tokens"] == 34
        assert verify(lake) == []
        assert s3.SECRET not in json.dumps(found)
