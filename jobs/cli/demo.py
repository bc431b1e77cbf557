"""`assay demo`: its flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import Engine, app, errors, example


@app.command(epilog=example("assay demo", "assay demo --folder /tmp/demo --seed 3"))
def demo(
    folder: Annotated[Path, typer.Option(help="Where corpus, model and lake go.")] = Path("assay-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the split and the training.")] = 0,
    engine: Annotated[Engine, typer.Option(help="ray, or inline: a plain loop here.")] = Engine.ray,
) -> None:
    """The main job on real text with known truth: train a small model here, score, and see who was a member."""
    with errors():
        from jobs.demo.run import run_demo

        run_demo(folder, seed, engine.value)
