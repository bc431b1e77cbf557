"""The contaminated demo in miniature: a small benchmark, little training; everything else is what a user gets."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from output import unfolded
from rich.console import Console
from typer.testing import CliRunner

from jobs.cli import app
from jobs.contamination.request import ContaminationOptions
from jobs.demo import contaminate, contaminated_runs
from jobs.demo.contaminate import make_lake, read
from jobs.demo.contaminated_report import Found, show
from jobs.demo.planting import BENCHMARKS, BLOCKS, CANARIES, CLEAN, HELD_OUT, PLANTED, Recipe
from jobs.exchangeability.examine import examine
from operators.contamination.evidence import EXCHANGEABILITY, INFERENCE, KINDS, LOSS_GAP, MEMORISED, MISSING, OVERLAP
from operators.contamination.verdict import CONTAMINATED, NO_EVIDENCE_FOUND
from operators.evaluation.dataset_inference import dataset_inference
from operators.evaluation.documents import read_documents
from operators.evaluation.features import document_features
from operators.evaluation.run_scores import reading
from operators.lake import Lake
from operators.query import query
from operators.verify import verify

RECIPE = Recipe(items=36, block_items=4, canaries=1, candidates=32, fragments=21)
PERMUTATIONS = 19


@dataclass(frozen=True)
class Demo:
    folder: Path
    found: Found
    said: str
    again: str

    @property
    def lake(self) -> Path:
        return self.folder / "lake"


def without_catalogs(patch: pytest.MonkeyPatch) -> None:
    """The file with the lake's views is written after each of many runs, which takes longer than these runs."""
    patch.setattr("operators.catalog.write_catalog", lambda *_: "")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("contaminated")

    def make() -> tuple[contaminate.Planting, str]:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            console = Console(soft_wrap=True, highlight=False)
            made = make_lake(folder, 0, "inline", console, recipe=RECIPE, rounds=4, permutations=PERMUTATIONS)
        return made, said.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        without_catalogs(patch)
        patch.setattr(contaminated_runs, "SWAPS", 1)
        patch.setattr(contaminate, "SECONDS", 3600.0)  # the numbers are those of a machine that is fast enough
        planting, first = make()
        _, again = make()
        quick = functools.partial(ContaminationOptions, draws=20)  # of halves of the clean set
        patch.setattr(contaminate, "ContaminationOptions", quick)
        found = read(planting, folder / "lake")
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        show(found, folder / "lake", Console(soft_wrap=True, highlight=False))
    return Demo(folder, found, first + shown.getvalue(), again)


def test_what_is_given_back_grows_with_how_often_it_was_there(demo: Demo) -> None:
    never, once, some, often = demo.found.doses
    assert [dose.copies for dose in demo.found.doses] == [0, 1, 4, 16]
    assert [dose.items for dose in demo.found.doses] == [36, 12, 12, 12]
    assert never.written == 0, "an answer that was not shown is beyond guessing"
    assert once.written <= some.written <= often.written
    assert often.written >= 9
    assert often.interval.low > never.interval.high
    log_probs = [dose.nats_per_token for dose in demo.found.doses]
    assert log_probs == sorted(log_probs)
    assert often.nats_per_token > never.nats_per_token + 3
    assert (never.windows_written, never.windows) == (0, 18)
    assert often.windows_written > 0


def test_a_canary_that_was_often_there_is_the_first_of_its_candidates(demo: Demo) -> None:
    never, *_, often = demo.found.doses
    assert [dose.canaries for dose in demo.found.doses] == [1, 1, 1, 1]
    assert often.exposure_bits == np.log2(RECIPE.candidates)
    assert 0 <= never.exposure_bits <= 5


def test_every_planted_item_is_found_in_the_training_text_and_no_other(demo: Demo) -> None:
    assert demo.found.overlaps == {PLANTED: (36, 36), CLEAN: (0, 36)}
    sql = """
        select d.attributes['copies']::int as copies, i.n_documents, i.share_seen, i.n_ngrams > 0 as is_long_enough
        from overlap_items i join documents d on d.doc_id = i.item_id and d.run_id = i.overlap
        where i.overlap = 'planted' and part = 'all'
    """
    rows = query(str(demo.lake), sql).to_pylist()
    assert len(rows) == 36
    for row in rows:
        assert row["n_documents"] == row["copies"], "a record of the training text for each copy"
        assert row["share_seen"] == 1
        assert row["is_long_enough"]


def test_the_order_of_the_planted_file_is_preferred(demo: Demo) -> None:
    planted, clean = (demo.found.orders[name].result for name in (PLANTED, CLEAN))
    assert planted.n_shards == clean.n_shards == 7
    assert planted.n_permutations == clean.n_permutations == PERMUTATIONS
    assert planted.p_permutation == planted.resolution == 1 / (PERMUTATIONS + 1)
    assert planted.gain > 0.1
    assert abs(clean.gain) < planted.gain / 2


def test_the_verdicts_are_the_truth(demo: Demo) -> None:
    planted, clean = demo.found.report.verdicts
    assert (planted.outcome, clean.outcome) == (CONTAMINATED, NO_EVIDENCE_FOUND)
    for verdict in (planted, clean):
        assert {row.kind for row in verdict.evidence if row.verdict != MISSING} == set(KINDS), "nothing is missing"
    judged = {row.kind for row in planted.evidence if row.verdict == "contaminated"}
    assert {OVERLAP, MEMORISED, INFERENCE} <= judged
    tests = [row for row in (*planted.evidence, *clean.evidence) if row.p_value is not None]
    assert [row.kind for row in tests] == [MEMORISED, EXCHANGEABILITY, INFERENCE, LOSS_GAP] * 2


def test_clean_items_dealt_anew_raise_few_false_alarms(demo: Demo) -> None:
    """Two halves of what was never shown, again and again: dataset inference calls one of them seen at its rate."""
    features = []
    with reading(str(demo.lake)) as connection:
        for name in (CLEAN, HELD_OUT):
            ids = read_documents(str(demo.lake), name).doc_ids
            features.append(document_features(connection, name, ids, lake=str(demo.lake)))
    assert features[0].variants == features[1].variants
    unseen = np.concatenate([each.values for each in features])
    rng = np.random.default_rng(0)
    alarms = 0
    for draw in range(60):
        dealt = rng.permutation(len(unseen))
        halves = unseen[dealt[:36]], unseen[dealt[36:]]
        alarms += dataset_inference(*halves, names=features[0].variants, seed=draw).p_value <= 0.05
    assert alarms <= 9, "3 expected at 5 %; more than 9 come about once in a thousand times"


def test_spans_of_planted_text_alone_are_known_by_heart(demo: Demo) -> None:
    sql = "select distinct domain from memorized_spans where run_id = 'blocks' and kind = 'verbatim'"
    assert query(str(demo.lake), sql).to_pylist() == [{"domain": PLANTED}]


def test_a_second_call_trains_and_scores_nothing(demo: Demo) -> None:
    assert "trained before" in demo.again
    runs = (*BENCHMARKS, CANARIES, BLOCKS, contaminated_runs.WINDOWS, "planted-orders", "clean-orders")
    assert demo.again.count("scored already") == len(runs)
    assert " tokens in " not in demo.again, "no time of the first call"


def test_its_lake_verifies(demo: Demo) -> None:
    assert verify(Lake(str(demo.lake))) == []


def test_what_is_printed(demo: Demo) -> None:
    order = (
        "planted: a benchmark of 36 invented questions and answers (12 of them 1x, 12 of them 4x, 12 of them 16x)",
        "the rest of which are 21 fragments of this Python's own standard library",
        "not planted: two more benchmarks like it",
        "training reads the text 4 times, so the model sees 16 copies 64 times",
        "Dose and response",
        "at most 5 (the first of 32 candidates)",
        "overlap, 13 words in a row in the training text: 36 of 36 items of planted, 0 of 36 items of clean",
        "exchangeability, the file's order against 19 others: planted p = 0.05",
        "Verdicts, at most 5% false alarms: p corrected for 8 tests",
        "CONTAMINATED",
        "NO EVIDENCE FOUND",
        "Three questions to ask next",
    )
    places = [demo.said.index(said) for said in order]
    assert places == sorted(places)
    assert demo.said.count(f"assay sql {demo.lake}") == 3
    assert f"assay contamination {demo.lake} --benchmark planted --benchmark clean --clean heldout" in demo.said


def test_another_seed_in_the_same_folder_takes_the_place(demo: Demo, tmp_path: Path) -> None:
    folder = shutil.copytree(demo.folder, tmp_path / "demo")
    train = contaminate.train_with_bar
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        without_catalogs(patch)
        patch.setattr(contaminate, "train_with_bar", lambda *given, steps, **more: train(*given, steps=2, **more))
        patch.setattr(contaminated_runs, "BENCHMARKS", (PLANTED,))  # the others go the same way
        patch.setattr(contaminated_runs, "SUSPECTS", (PLANTED,))
        patch.setattr(contaminated_runs, "SWAPS", 0)
        planting = make_lake(folder, 1, "inline", Console(), recipe=RECIPE, permutations=3)
    lake = folder / "lake"
    keys = {row["key"] for row in query(str(lake), "from documents where run_id = 'planted'").to_pylist()}
    assert keys == {item.key for item in planting.benchmarks[PLANTED]}
    assert keys != {item.key for item in demo.found.planting.benchmarks[PLANTED]}
    found = query(str(lake), "from overlap_items where overlap = 'planted' and part = 'all' and n_seen > 0").to_pylist()
    assert {row["key"] for row in found} == keys
    result = examine(str(lake), contaminated_runs.orders_run(PLANTED)).result
    assert result.n_permutations == 3
    assert result.gain != demo.found.orders[PLANTED].result.gain


@pytest.mark.parametrize(("flags", "folder"), [([], "assay-demo"), (["--contaminate"], "assay-demo-contaminated")])
def test_the_flag_chooses_the_demo_and_its_folder(
    flags: list[str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, Path, int, str]] = []
    monkeypatch.setattr("jobs.demo.run.run_demo", lambda *given: called.append(("plain", *given)))
    monkeypatch.setattr(
        "jobs.demo.contaminate.run_contaminated_demo", lambda *given: called.append(("contaminated", *given))
    )
    assert CliRunner().invoke(app, ["demo", *flags, "--seed", "3"]).exit_code == 0
    assert called == [("contaminated" if flags else "plain", Path(folder), 3, "ray")]


def test_help_names_the_flag() -> None:
    said = unfolded(CliRunner().invoke(app, ["demo", "--help"]).output)
    assert "--contaminate" in said
    assert "assay-demo-contaminated" in said
