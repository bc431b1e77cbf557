"""The group of verbs `assay mixture`."""

from __future__ import annotations

import typer

from jobs.cli.app import app

mixture = typer.Typer(
    help="Which domains a corpus, a model's or a tokenizer's training data is made of.", no_args_is_help=True
)
app.add_typer(mixture, name="mixture")
