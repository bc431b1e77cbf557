"""`assay demo`: the main job on real text with known truth, from nothing to an answer.

    corpus -> train on the members -> assay score, and its companions (`runs`) -> assay scores -> who was a member?

Corpus and models are cached in the folder, the runs resume, so a second call answers in seconds. It prints every
membership score with its AUROC, its TPR at low FPR and their intervals beside the blind baselines, the most and the
least surprising passages, and queries to try next.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from jobs.demo.corpus import CorpusInfo, build_corpus
from jobs.demo.fit import Progress
from jobs.demo.runs import REFERENCE, RUN, score_all
from jobs.demo.training import TrainingInfo, train
from jobs.evaluate.request import EvaluateOptions
from jobs.evaluate.results import Labelled
from jobs.evaluate.run import evaluate_labelled
from jobs.evaluate.tables import WIDTH, print_labelled
from operators.catalog import connect
from operators.evaluation import FPR_LEVELS, Evaluation
from operators.evaluation.documents import read_documents
from operators.lake import Lake
from operators.query import query
from operators.scores import plan_scores
from operators.scores.kept import keep_scores

FAMILY = "membership"
REFERENCE_STEPS = 100  # the other model need not know its texts by heart
PASSAGE_TOKENS = 24
QUERIES = (
    (
        "does the score grow with how often training showed the text?",
        """select attributes['copies']::int as copies, count(*) as documents, round(avg(score), 3) as min_k_plus_plus
        from min_k_plus_plus('demo') join documents using (run_id, doc_id) group by all order by all""",
    ),
    (
        "how many bits a byte does the model need, by domain?",
        """select domain, n_documents as documents, n_bytes as bytes, round(paloma, 3) as bits_per_byte
        from bits_per_byte('demo') where level = 'domain' order by bits_per_byte""",
    ),
    (
        "which longest runs of tokens would the model have written itself (rank 1 throughout)?",
        """with r as (
          select doc_id, position - row_number() over (partition by doc_id order by position) as island
          from tokens where run_id = 'demo' and rank = 1)
        select key, label, domain, count(*) as tokens from r join documents using (doc_id) where run_id = 'demo'
        group by key, label, domain, island order by tokens desc, key limit 5""",
    ),
)

# The passages: windows of tokens of one document, by mean log-prob; one window a document.
_PASSAGES = """
with windows as (
  select doc_id, position, byte_start, label, key, text,
    avg(logprob) over w as mean, count(logprob) over w as n, max(byte_start + tokens.n_bytes) over w as byte_end
  from tokens join documents using (run_id, doc_id)
  where run_id = $run_id
  window w as (partition by doc_id order by position rows between current row and $more following)),
best as (
  select * from windows where n = $more + 1
  qualify row_number() over (partition by doc_id order by {order}, position) = 1)
select key, label, mean, text, byte_start, byte_end from best order by {order}, key limit $limit
"""


def run_demo(folder: Path, seed: int, engine: str) -> list[Evaluation]:
    """Run the verb and return what the table shows."""
    console = Console(soft_wrap=True)
    corpus = build_corpus(folder, seed=seed)
    _say_corpus(corpus, console)
    model, reference, lake = folder / "model", folder / "reference", folder / "lake"
    say_training(train_with_bar("training", corpus.path, model, seed), console)
    train_with_bar("training another", corpus.background, reference, seed, steps=REFERENCE_STEPS, tokenizer_from=model)
    score_all(corpus.path, corpus.background, model, reference, lake, engine, lambda said: console.print(Text(said)))
    _keep_scores(lake)
    result = evaluate_run(lake)
    console.print()
    print_labelled(result, Console(width=None if console.is_terminal else WIDTH, highlight=False))
    _print_passages(lake, RUN, console)
    print_queries(lake, QUERIES, console)
    return list(result.evaluations)


def _say_corpus(corpus: CorpusInfo, console: Console) -> None:
    where = f"{corpus.path} ({corpus.members} members, {corpus.heldout} held out, dealt at random)"
    console.print(Text(f"corpus: fragments of this Python's own standard library in {where}"))


def train_with_bar(what: str, corpus: Path, folder: Path, seed: int, **recipe: Any) -> TrainingInfo:
    """Train with a bar on a terminal; in a log, silence until it is done."""
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.description}"))
    bar = Bar(*columns, transient=True, disable=not Console().is_terminal)
    with bar:
        task = bar.add_task("", total=1.0)

        def advance(at: Progress) -> None:
            said = f"step {at.step} of {at.steps}, loss {at.loss:.2f} nats/token, {at.seconds:.0f} s"
            bar.update(task, completed=at.fraction, description=said)

        return train(corpus, folder, seed=seed, on_progress=advance, **recipe)


def say_training(info: TrainingInfo, console: Console) -> None:
    if info.reused:
        console.print(Text(f"model: {info.folder}, trained before ({info.parameters:,} parameters)"))
        return
    loss = f"loss {info.loss_start:.2f} -> {info.loss_end:.2f} nats/token"
    console.print(Text(f"model: {info.folder}, {info.parameters:,} parameters, {loss} in {info.seconds:.0f} s"))
    if info.stopped_early:
        console.print(
            f"training stopped after {info.steps} of {info.planned_steps} steps: this machine is slow, {info.unseen} "
            "members were never shown, and the scores below separate less than they would"
        )


def _keep_scores(lake: Path) -> None:
    """As `assay scores` does, for the queries that come next."""
    with connect(lake) as connection:
        keep_scores(Lake(str(lake)), connection, plan_scores(connection, RUN, references=[REFERENCE]))


def evaluate_run(lake: Path) -> Labelled:
    """As `assay evaluate --family membership` does."""
    options = EvaluateOptions(str(lake), RUN, families=(FAMILY,), references=(REFERENCE,), levels=FPR_LEVELS[1:])
    return evaluate_labelled(options, read_documents(str(lake), RUN))


def _print_passages(lake: Path, run_id: str, console: Console) -> None:
    for title, order in (("least surprising", "mean desc"), ("most surprising", "mean")):
        parameters = {"run_id": run_id, "more": PASSAGE_TOKENS - 1, "limit": 3}
        rows = query(str(lake), _PASSAGES.format(order=order), parameters=parameters)
        console.print(f"\nThe {title} passages of {PASSAGE_TOKENS} tokens", style="bold")
        for row in rows.to_pylist():
            console.print(_passage(row))


def _passage(row: dict[str, Any]) -> Text:
    truth = {1: "member", 0: "held out"}.get(row["label"], "no label")
    text = row["text"].encode()[row["byte_start"] : row["byte_end"]].decode("utf-8", "replace")
    shown = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return Text.assemble((f"  {row['mean']:7.2f} nats/token  {truth:9} ", "cyan"), (shown, ""))


def print_queries(lake: Path, queries: Iterable[tuple[str, str]], console: Console) -> None:
    """Three questions, each as a command with its answer."""
    console.print("\nThree questions to ask next", style="bold")
    for question, sql in queries:
        one_line = " ".join(sql.split())
        console.print(Text(f'\n# {question}\nassay sql {shlex.quote(str(lake))} "{one_line}"'))
        console.print(_rows_table(query(str(lake), sql).slice(0, 10)))


def _rows_table(rows: pa.Table) -> Table:
    from jobs.query import rich_table

    return rich_table(rows)
