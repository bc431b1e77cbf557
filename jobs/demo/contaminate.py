"""`assay demo --contaminate`: a benchmark that leaked, one that did not, and what each verb makes of them.

    plant -> train -> score, and the companions -> keep what is memorised -> compare with the training text -> orders
          -> what the lake says -> dose and response, overlap, exchangeability, verdicts (`contaminated_report`)

What was planted, and how often, is known, so that every number can be checked against the truth. Corpus and model are
cached in the folder, the runs resume, so a second call only asks the lake: some ten seconds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from jobs.contamination.request import ContaminationOptions
from jobs.contamination.run import contamination
from jobs.demo import contaminated_runs as runs
from jobs.demo.contaminated_report import Found, say_planting, show
from jobs.demo.doses import read_doses
from jobs.demo.planting import CORPUS, HELD_OUT, VOCABULARY, Planting, Recipe, plant
from jobs.demo.recipe import SETTINGS
from jobs.demo.run import say_training, train_with_bar
from jobs.demo.tokenizer import train_tokenizer
from jobs.exchangeability.examine import examine
from operators.query import query

RECIPE = Recipe()
ROUNDS = 6  # how often training reads the whole text: a small model needs that to know anything of it
# Documents a step, and layers: two learn a text by heart no slower than four, in half the time.
TRAINING = replace(SETTINGS, batch=2, layers=2)
SECONDS = 180.0  # of training, at most


def run_contaminated_demo(folder: Path, seed: int, engine: str) -> Found:
    """Run the verb and return what it shows."""
    console = Console(soft_wrap=True, highlight=False)
    planting = make_lake(folder, seed, engine, console)
    found = read(planting, folder / "lake")
    show(found, folder / "lake", console)
    return found


def make_lake(
    folder: Path,
    seed: int,
    engine: str,
    console: Console,
    *,
    recipe: Recipe = RECIPE,
    rounds: int = ROUNDS,
    permutations: int = runs.PERMUTATIONS,
) -> Planting:
    """Make everything that is not there yet. The last three are for a smaller demo."""
    planting = plant(folder, recipe, seed)
    say_planting(planting, rounds, console)
    model, lake = folder / "model", folder / "lake"
    tokenizer = train_tokenizer(planting.path(VOCABULARY), folder / "tokenizer", TRAINING)
    steps = rounds * -(-planting.records // TRAINING.batch)
    asked: dict[str, Any] = {"steps": steps, "seconds": SECONDS, "settings": TRAINING, "tokenizer_from": tokenizer}
    say_training(train_with_bar("training", planting.path(CORPUS), model, seed, **asked), console)

    def say(said: str) -> None:
        console.print(Text(said))

    runs.score_all(planting, model, lake, say)
    runs.keep_memorised(lake)
    for name in runs.SUSPECTS:
        runs.compare(planting, name, lake)
        runs.score_orders(planting, name, lake, engine, permutations, say)
    return planting


def read(planting: Planting, lake: Path) -> Found:
    """Everything that is shown, from what the lake holds."""
    return Found(
        planting,
        read_doses(lake),
        {name: _items_found(lake, name) for name in runs.SUSPECTS},
        {name: examine(str(lake), runs.orders_run(name)) for name in runs.SUSPECTS},
        contamination(ContaminationOptions(str(lake), runs.SUSPECTS, runs.SUSPECTS, clean=HELD_OUT)),
    )


def _items_found(lake: Path, overlap: str) -> tuple[int, int]:
    sql = """
        select count(*) filter (n_seen > 0) as found, count(*) as items
        from overlap_items where overlap = $overlap and part = 'all'
    """
    (row,) = query(str(lake), sql, parameters={"overlap": overlap}).to_pylist()
    return row["found"], row["items"]
