"""`assay score --transform` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.score import copied
from operators.lake import Lake
from operators.verify import verify
from pipelines.config import ConfigError

TEXTS = ["The first text of all", "A second, shorter one", "Third time lucky", "Fourth and last of them"]

pytestmark = pytest.mark.usefixtures("no_catalog")


def assay(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module")
def lake(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    corpus = folder / "in.jsonl"
    lines = ({"id": i, "text": text, "label": i % 2} for i, text in enumerate(TEXTS))
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = assay("score", "--model", model_folder, "--input", corpus, "--lake", folder / "lake", "--run-id", "base",
                 "--id-column", "id", "--label-column", "label", "--engine", "inline", "--context", 64)  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder / "lake"


def of_base(lake: Path, transform: str, *more: object) -> Result:
    return assay("score", "--lake", lake, "--base-run", "base", "--transform", transform, *more)


def texts(lake: Path, run_id: str) -> list[str]:
    done = assay("sql", lake, f"select text from documents where run_id = '{run_id}' order by key", "--format", "json")
    assert done.exit_code == 0, done.output
    return [json.loads(line)["text"] for line in done.stdout.splitlines()]


def test_four_flags_are_enough(lake: Path) -> None:
    done = of_base(lake, "lowercase", "--run-id", "lower")
    assert done.exit_code == 0, done.output
    assert "run lower: 4 documents" in done.stdout
    assert texts(lake, "lower") == [text.lower() for text in TEXTS]


def test_copies_are_runs_that_are_skipped_when_finished(lake: Path) -> None:
    swap = ("perturb:kind=swap_words,rate=0.5", "--run-id", "swap")
    first = of_base(lake, *swap, "--copies", 2)
    assert first.exit_code == 0, first.output
    assert [line.partition(":")[0] for line in first.stdout.splitlines() if line.startswith("run ")] == [
        "run swap-1", "run swap-2",
    ]  # fmt: skip
    assert texts(lake, "swap-1") != texts(lake, "swap-2")
    dry = of_base(lake, *swap, "--copies", 4, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert dry.stdout.count("on engine") == 4
    assert dry.stdout.count("counted, all of it") == 1  # of the first that is left, which stands for the others
    more = of_base(lake, *swap, "--copies", 3)
    assert more.exit_code == 0, more.output
    assert unfolded(more.stderr).count("is finished already; nothing to do") == 2
    done = assay(
        "sql", lake, "select transform from runs where run_id like 'swap-%' order by run_id", "--format", "csv"
    )
    assert [line.strip('"') for line in done.stdout.split()[1:]] == [
        "perturb:kind=swap_words,rate=0.5", "perturb:kind=swap_words,rate=0.5,copy=2",
        "perturb:kind=swap_words,rate=0.5,copy=3",
    ]  # fmt: skip
    assert verify(Lake(str(lake))) == []


def test_a_dry_run_says_what_is_changed_and_changes_nothing(lake: Path) -> None:
    done = of_base(lake, "prefix:label=0,shots=1", "--run-id", "recall", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "prefix:label=0,shots=1, of run base: " in unfolded(done.stdout)
    cells = unfolded(done.stdout).replace("CPU tasks ", "")  # a long cell goes on in the next line
    assert "tokens of 1 shots before every window" in cells
    assert "recall" not in Lake(str(lake)).run_ids()
    plain = assay("score", "--lake", lake, "--run-id", "x", "--model", "m", "--input", "i", "--dry-run")
    assert "transform" not in plain.stdout


def test_a_dry_run_says_what_a_strict_window_is(lake: Path) -> None:
    done = of_base(lake, "windows:prefix=6,suffix=4", "--run-id", "strict", "--dry-run")
    assert done.exit_code == 0, done.output
    cells = unfolded(done.stdout).replace("CPU tasks ", "").replace("1 x CPU core ", "")
    assert "windows:prefix=6,suffix=4, of run base: 1 token before every window" in cells
    assert "windows of 10 tokens, the last 4 predicted, dtype" in cells


def test_a_context_that_contradicts_the_windows_is_a_fault_of_one_line(lake: Path) -> None:
    done = of_base(lake, "windows:prefix=6,suffix=4", "--run-id", "strict", "--context", 64)
    assert done.exit_code == 2
    said = unfolded(done.output)
    assert "--context: 64 contradicts --transform windows:prefix=6,suffix=4, where it is prefix + suffix, 10" in said


def test_a_job_file_may_say_it_as_a_mapping(lake: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        f"lake: {lake}\nbase-run: base\nrun-id: lines\ntransform: {{name: shuffle, unit: lines, seed: 3}}\n",
        encoding="utf-8",
    )
    done = assay("score", "--config", job, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "shuffle:unit=lines,seed=3, of run base" in unfolded(done.stdout)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--transform", "perturb:kind=synonyms", "--run-id", "r"], "they need a lexicon"),
        (["--transform", "lowercase", "--run-id", "r", "--copies", "2"], "lowercase has one outcome, so no copies"),
        (["--transform", "shuffle:copy=2", "--run-id", "r", "--copies", "2"], "names one copy already"),
        (["--run-id", "r", "--copies", "2"], "--copies: it needs --run-id and --transform"),
        (["--transform", "shuffle", "--copies", "2"], "--copies: it needs --run-id and --transform"),
        (["--transform", "nothing", "--run-id", "r"], "choose lowercase, perturb, shuffle"),
    ],
)
def test_mistakes_are_one_clear_message(lake: Path, args: list[str], said: str) -> None:
    done = assay("score", "--lake", lake, "--base-run", "base", *args)
    assert done.exit_code == 2
    assert said in unfolded(done.output)
    assert "Traceback" not in done.output


def test_a_transform_needs_a_base_run(lake: Path) -> None:
    done = assay("score", "--lake", lake, "--run-id", "r", "--transform", "lowercase")
    assert done.exit_code == 2
    assert "--base-run: is needed with --transform" in unfolded(done.output)
    done = assay("score", "--lake", lake, "--run-id", "r", "--transform", "lowercase", "--base-run", "bass")
    assert done.exit_code == 2
    assert "has no run 'bass'; its runs: " in unfolded(done.output)


def test_overwriting_all_copies_names_them_together() -> None:
    fields = {"run_id": "r", "transform": "shuffle", "base_run": "b"}
    runs = copied(fields | {"overwrite": "r"}, 2)
    assert [(run["run_id"], run["overwrite"]) for run in runs] == [("r-1", "r-1"), ("r-2", "r-2")]
    assert copied(fields, None) == [fields]
    with pytest.raises(ConfigError, match="--copies: it needs --run-id and --transform"):
        copied({"run_id": "r"}, 2)
