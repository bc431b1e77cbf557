"""`assay demo`: its flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import Engine, app, errors, example


@app.command(epilog=example("assay demo", "assay demo --folder /tmp/demo --seed 3", "assay demo --contaminate"))
def demo(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where corpus, model and lake go (default: assay-demo, or assay-demo-contaminated).",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and the training.")] = 0,
    engine: Annotated[Engine, typer.Option(help="ray, or inline: a plain loop here.")] = Engine.ray,
    contaminate: Annotated[
        bool,
        typer.Option("--contaminate", help="Plant a benchmark in the training text, and see what finds it."),
    ] = False,
) -> None:
    """The main job on real text with known truth: train a small model here, score, and see who was a member."""
    with errors():
        if contaminate:
            from jobs.demo.contaminate import run_contaminated_demo

            run_contaminated_demo(folder or Path("assay-demo-contaminated"), seed, engine.value)
            return
        from jobs.demo.run import run_demo

        run_demo(folder or Path("assay-demo"), seed, engine.value)
