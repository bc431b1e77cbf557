"""`assay demo`: the main job on real text with known truth, from nothing to an answer.

    corpus -> train on the members -> assay score (the real pipeline) -> scores as SQL -> who was a member?

Corpus and model are cached in the folder, the scoring run resumes, so a second call answers in seconds. It prints every
score with its AUROC and TPR at 5 % FPR and their intervals beside the blind baselines, the most and the least
surprising passages, and queries to try next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from jobs.demo.corpus import CorpusInfo, build_corpus
from jobs.demo.training import Progress, TrainingInfo, train
from operators.blind import BlindResult, blind_baseline
from operators.catalog import connect
from operators.evaluate import Evaluation, Interval, evaluate
from operators.query import query
from operators.scores import score_table
from pipelines.config import ScoreConfig

FAMILIES = ("membership", "detection")  # scores of which a higher value says "seen"; fit runs the other way
LEVEL = 0.05  # false-positive rate of the TPR column
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
    _say_training(_train(corpus, folder / "model", seed), console)
    lake, run_id = folder / "lake", "demo"
    _score(corpus.path, folder / "model", lake, run_id, engine, console)
    results = evaluate_run(lake, run_id)
    console.print(_results_table(results, _blind(lake, run_id)))
    _print_verdict(results, console)
    _print_passages(lake, run_id, console)
    _print_queries(lake, console)
    return results


def _say_corpus(corpus: CorpusInfo, console: Console) -> None:
    where = f"{corpus.path} ({corpus.members} members, {corpus.heldout} held out, dealt at random)"
    console.print(Text(f"corpus: fragments of this Python's own standard library in {where}"))


def _train(corpus: CorpusInfo, folder: Path, seed: int) -> TrainingInfo:
    """Train with a bar on a terminal; in a log, silence until it is done."""
    bar = Bar(TextColumn("training"), BarColumn(), TextColumn("{task.description}"), transient=True)
    with bar:
        task = bar.add_task("", total=1.0)

        def advance(at: Progress) -> None:
            said = f"step {at.step} of {at.steps}, loss {at.loss:.2f} nats/token, {at.seconds:.0f} s"
            bar.update(task, completed=at.fraction, description=said)

        return train(corpus.path, folder, seed=seed, on_progress=advance)


def _say_training(info: TrainingInfo, console: Console) -> None:
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


def _score(corpus: Path, model: Path, lake: Path, run_id: str, engine: str, console: Console) -> None:
    from pipelines.plan import make_plan
    from pipelines.previous import ResumeError
    from pipelines.score import score_corpus

    config = ScoreConfig.parse(
        model=str(model), input=(str(corpus),), lake=str(lake), run_id=run_id, engine=engine,
        id_column="id", label_column="label", domain_column="domain", keep_columns=("source_file", "line", "copies"),
    )  # fmt: skip
    try:
        plan = make_plan(config)
    except ResumeError:
        from operators.lake import Lake

        console.print("corpus or model changed since the last run: scoring anew")
        Lake(str(lake)).remove_run(run_id)
        plan = make_plan(config)
    if plan.finished:
        console.print(f"scored already: {lake}")
        return
    console.print(Text(f"scoring {corpus.name} through the {engine} engine (assay score --model {model} ...)"))
    ledger = score_corpus(plan)
    totals = ledger["totals"]
    console.print(f"scored {totals['documents']:,} documents, {totals['tokens']:,} tokens in {ledger['seconds']:.0f} s")


def evaluate_run(lake: Path, run_id: str) -> list[Evaluation]:
    """Every score of the catalog on the run's labelled documents, most separating first."""
    with connect(lake) as connection:
        table = score_table(connection, run_id)
        labels = connection.execute(
            "select doc_id, label from documents where run_id = $run_id and label is not null order by doc_id",
            {"run_id": run_id},
        ).fetchall()
    ids = {doc_id: place for place, (doc_id, _) in enumerate(labels)}
    scores: dict[str, list[float | None]] = {}
    rows = zip(*(table[c].to_pylist() for c in ("family", "score", "doc_id", "value")), strict=True)
    for family, score, doc_id, value in rows:
        if doc_id in ids and family in FAMILIES:
            scores.setdefault(score, [None] * len(ids))[ids[doc_id]] = value
    results = evaluate(scores, [label for _, label in labels], levels=(LEVEL,))
    return sorted(results, key=lambda result: -result.auroc)


def _blind(lake: Path, run_id: str) -> list[BlindResult]:
    rows = query(str(lake), "select * from documents where run_id = $run_id", parameters={"run_id": run_id})
    return blind_baseline(rows)


def _results_table(results: list[Evaluation], blind: list[BlindResult]) -> Table:
    sizes = f"{results[0].n_positive} members against {results[0].n_negative} held-out documents"
    table = Table(title=f"\n{sizes}", title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("score", no_wrap=True)
    for name in ("AUROC", "95 % interval", "TPR at 5 % FPR", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        tpr = result.tpr_at_fpr[0]
        tpr_cells = f"{tpr.tpr:.3f}", _interval(tpr.interval)
        table.add_row(result.name, f"{result.auroc:.3f}", _interval(result.auroc_interval), *tpr_cells)
    table.add_section()
    for baseline in blind:
        cells = f"{baseline.auroc:.3f}", _interval(baseline.interval), "", ""
        table.add_row(f"blind: {baseline.features}", *cells, style="dim")
    return table


def _interval(interval: Interval) -> str:
    return f"{interval.low:.3f} .. {interval.high:.3f}"


def _print_verdict(results: list[Evaluation], console: Console) -> None:
    best = results[0]
    console.print(
        f"A random member scores above a random held-out text {best.auroc:.0%} of the time by {best.name}.\n"
        "The blind rows never see the model: near 0.5 they show that the split itself gives nothing away.",
        highlight=False,
    )


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


def _print_queries(lake: Path, console: Console) -> None:
    console.print("\nThree questions to ask next", style="bold")
    for question, sql in QUERIES:
        one_line = " ".join(sql.split())
        console.print(Text(f'\n# {question}\nassay sql {lake} "{one_line}"'))
        console.print(_rows_table(query(str(lake), sql).slice(0, 10)))


def _rows_table(rows: pa.Table) -> Table:
    from jobs.query import rich_table

    return rich_table(rows)
