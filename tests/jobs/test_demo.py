"""The demo in miniature: few documents, few steps, one process; everything else is what a user gets."""

from __future__ import annotations

import contextlib
import functools
import io
from pathlib import Path

import pytest

from jobs.bench import first_use
from jobs.demo import run, runs
from jobs.demo.runs import TRANSFORMS
from operators.lake import Lake
from operators.score_cards import load_scores
from operators.verify import verify


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[run.Evaluation]]:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            run, "build_corpus", functools.partial(run.build_corpus, n_members=24, n_heldout=24, n_background=24)
        )
        patch.setattr(run, "train", functools.partial(run.train, steps=40))
        patch.setattr(run, "REFERENCE_STEPS", 10)
        for said in (first := io.StringIO(), again := io.StringIO()):  # the second time everything is there already
            with contextlib.redirect_stdout(said):
                results = run.run_demo(folder, 0, "inline")
    assert first_use.found_in(first.getvalue())["documents"] == 48, "what `assay bench first-use` reads"
    return folder, again.getvalue(), results


def test_scores_and_blind_baselines_are_printed(demo: tuple[Path, str, list[run.Evaluation]]) -> None:
    _, said, results = demo
    names = {result.name for result in results}
    cards = {name for name, card in load_scores().items() if card.family == "membership" and card.is_per_document}
    assert {name.partition("(")[0] for name in names} == cards, "every membership score is shown"
    for name in cards | {"blind: words", "blind: lengths", "blind: zlib", "24 documents of label 1 against 24"}:
        assert name in said


def test_members_are_separated_even_after_forty_steps(demo: tuple[Path, str, list[run.Evaluation]]) -> None:
    assert next(r for r in demo[2] if r.name == "min_k_plus_plus").auroc > 0.6


def test_a_second_run_trains_and_scores_nothing(demo: tuple[Path, str, list[run.Evaluation]]) -> None:
    assert "trained before" in demo[1]
    assert demo[1].count("scored already") == 2 + len(TRANSFORMS)


def test_passages_and_queries_are_shown(demo: tuple[Path, str, list[run.Evaluation]]) -> None:
    folder, said, _ = demo
    assert said.count("nats/token  member") + said.count("nats/token  held out") == 6
    assert said.count(f"assay sql {folder / 'lake'}") == 3
    assert "bits_per_byte" in said


def test_its_lake_verifies(demo: tuple[Path, str, list[run.Evaluation]]) -> None:
    assert verify(Lake(str(demo[0] / "lake"))) == []


def test_another_seed_in_the_same_folder_scores_anew(demo: tuple[Path, str, list[run.Evaluation]]) -> None:
    folder = demo[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            run, "build_corpus", functools.partial(run.build_corpus, n_members=6, n_heldout=6, n_background=6)
        )
        patch.setattr(run, "train", functools.partial(run.train, steps=2))
        patch.setattr(run, "REFERENCE_STEPS", 2)
        patch.setattr(runs, "TRANSFORMS", {})  # each is scored anew in the same way
        results = run.run_demo(folder, 1, "inline")
    loss = next(result for result in results if result.name == "loss")
    assert loss.n_positive + loss.n_negative == 12
