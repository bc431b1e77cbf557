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
from rich.table import Table
from rich.text import Text

from jobs.demo.training import prepare_demo
from operators.blind import blind_baseline
from operators.catalog import connect, query
from operators.evaluate import Evaluation, evaluate
from operators.scores import score_table
from pipelines.config import ScoreConfig

LEVEL = 0.05  # false-positive rate of the TPR column
PASSAGE_TOKENS = 24
QUERIES = (
    ("the tokens that members know and held-out texts do not, by domain",
     "select domain, label, round(avg(logprob), 3) as logprob, round(avg((rank = 1)::int), 3) as top1\n"
     "from tokens join documents using (run_id, doc_id) group by all order by all"),
    ("bits per byte of each domain", "from bits_per_byte('demo') order by all"),
    ("Min-K%++ of every document, most member-like first",
     "select key, label, round(score, 3) as score\n"
     "from min_k_plus_plus('demo', ratio := 0.2) join documents using (run_id, doc_id) order by score desc limit 5"),
)  # fmt: skip

# The passages: windows of tokens of one document, by mean log-prob; one window a document.
_PASSAGES = """
with windows as (
  select doc_id, position, byte_start, label, key, text,
    avg(logprob) over w as mean, count(logprob) over w as n, max(byte_start + n_bytes) over w as byte_end
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
    demo = prepare_demo(folder, seed=seed, say=lambda line: console.print(Text(line)))
    lake, run_id = folder / "lake", "demo"
    _score(demo.corpus, demo.model, lake, run_id, engine, console)
    results = evaluate_run(lake, run_id)
    console.print(_results_table(results, _blind(lake, run_id)))
    _print_verdict(results, console)
    _print_passages(lake, run_id, console)
    _print_queries(lake, console)
    return results


def _score(corpus: Path, model: Path, lake: Path, run_id: str, engine: str, console: Console) -> None:
    from pipelines.plan import ResumeError, make_plan
    from pipelines.score import score_corpus

    config = ScoreConfig.parse(
        model=str(model), input=(str(corpus),), lake=str(lake), run_id=run_id, engine=engine,
        id_column="id", label_column="label", domain_column="domain", keep_columns=("source_file", "line"),
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
        if doc_id in ids:
            scores.setdefault(f"{family}/{score}", [None] * len(ids))[ids[doc_id]] = value
    results = evaluate(scores, [label for _, label in labels], levels=(LEVEL,))
    return sorted(results, key=lambda result: -result.auroc)


def _blind(lake: Path, run_id: str) -> list[Any]:
    rows = query(str(lake), "select * from documents where run_id = $run_id", parameters={"run_id": run_id})
    return blind_baseline(rows)


def _results_table(results: list[Evaluation], blind: list[Any]) -> Table:
    table = Table(title="\nMembers against held-out text", title_justify="left", box=None, header_style="bold")
    for name, justify in (("score", "left"), ("n", "right"), ("AUROC", "right"), ("95 % interval", "right"),
                          ("TPR at 5 % FPR", "right"), ("95 % interval ", "right")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for result in results:
        tpr = result.tpr_at_fpr[0]
        table.add_row(
            result.name, f"{result.n_positive}+{result.n_negative}", f"{result.auroc:.3f}",
            _interval(result.auroc_interval), f"{tpr.tpr:.3f}", _interval(tpr.interval),
        )  # fmt: skip
    table.add_section()
    for result in blind:
        table.add_row(
            f"blind: {result.features}", f"{result.n_positive}+{result.n_negative}", f"{result.auroc:.3f}",
            _interval(result.interval), "", "", style="dim",
        )  # fmt: skip
    return table


def _interval(interval: Any) -> str:
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
        console.print(_rows_table(query(str(lake), sql).slice(0, 8)))


def _rows_table(rows: pa.Table) -> Table:
    from jobs.query import rich_table

    return rich_table(rows)
