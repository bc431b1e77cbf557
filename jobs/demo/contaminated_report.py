"""What `assay demo --contaminate` prints: what was planted, and what each verb makes of it, side by side."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.contamination.run import Report
from jobs.demo import contaminated_runs as runs
from jobs.demo.doses import Dose
from jobs.demo.planting import BLOCKS, CANARIES, CORPUS, PLANTED, Planting
from jobs.demo.run import print_queries
from jobs.evaluate.tables import WIDTH
from jobs.exchangeability.examine import Examined
from operators.contamination.evidence import NOT_JUDGED, OVERLAP, Evidence

LEAST_WIDTH = 80  # of the tables: a terminal that is narrower folds their lines, and no number is cut
QUERIES = (
    (
        "which passages does the model know by heart, and how often was each in the training text?",
        f"""select key, attributes['copies']::int as copies, n_tokens, left(replace(text, chr(10), ' '), 40) as starts
        from memorized_spans where run_id = '{BLOCKS}' and kind = 'verbatim' limit 5""",
    ),
    (
        "at which rank among its candidates does each secret stand?",
        f"""select attributes['copies']::int as copies, list(rank order by rank) as ranks, max(n_candidates) as among
        from exposure('{CANARIES}') join documents using (run_id, doc_id) group by copies order by copies""",
    ),
    (
        "what would have to be cut out of the training text?",
        f"""select drop_document, count(distinct doc_id) as documents, count(*) as spans, sum(n_bytes) as bytes
        from decontamination where overlap = '{PLANTED}' group by all""",
    ),
)


@dataclass(frozen=True)
class Found:
    """What the lake says. `overlaps`: items of each benchmark that the training text holds, and all; `orders`: the test
    of each."""

    planting: Planting
    doses: list[Dose]
    overlaps: Mapping[str, tuple[int, int]]
    orders: Mapping[str, Examined]
    report: Report


def show(found: Found, lake: Path, console: Console) -> None:
    """Print everything; tables at a width of their own where the output is no terminal, or one too narrow for them."""
    tables = Console(width=max(console.width, LEAST_WIDTH) if console.is_terminal else WIDTH, highlight=False)
    _print_doses(found, tables)
    _print_overlaps(found, console)
    _print_orders(found, console)
    _print_verdicts(found.report, lake, tables)
    print_queries(lake, QUERIES, console)


def say_planting(planting: Planting, rounds: int, console: Console) -> None:
    """What the training text holds, what it does not, and how often training reads it."""
    by_copies = planting.items_by_copies
    most = max(by_copies)
    doses = ", ".join(f"{items} of them {copies}x" for copies, items in by_copies.items())
    shown = sum(canary.copies > 0 for canary in planting.canaries)
    lines = (
        f"planted: a benchmark of {sum(by_copies.values())} invented questions and answers ({doses}) and {shown} "
        f"canaries in {planting.path(CORPUS)} ({planting.records} texts, {planting.n_bytes / 1e3:.0f} kB), the rest of "
        f"which are {planting.fragments} fragments of this Python's own standard library",
        f"not planted: two more benchmarks like it, dealt at random, and {len(planting.canaries) - shown} canaries",
        f"copies are those in the text; training reads the text {rounds} times, so the model sees {most} copies "
        f"{most * rounds} times",
    )
    for line in lines:
        console.print(Text(line))


def _print_doses(found: Found, console: Console) -> None:
    console.print(
        "\nDose and response: what the model gives back, by how often its training text held it", style="bold"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("copies", "items", "answers", "95 %", "nats/token", "canaries", "bits", "windows"):
        table.add_column(name, justify="right", no_wrap=True)
    for dose in found.doses:
        table.add_row(
            str(dose.copies) if dose.copies else "never",
            str(dose.items),
            f"{dose.written} ({dose.share:.0%})",
            f"{dose.interval.low:.0%} .. {dose.interval.high:.0%}",
            f"{dose.nats_per_token:.2f}",
            str(dose.canaries),
            f"{dose.exposure_bits:.1f}",
            f"{dose.windows_written} of {dose.windows}",
        )
    console.print(table)
    candidates = len(found.planting.canaries[0].candidates)
    lines = (
        "answers: greedy decoding writes them; nats/token: mean log-prob of their tokens",
        f"bits: mean exposure of the canaries, 1.4 by chance, at most {math.log2(candidates):.0f} (the first of "
        f"{candidates} candidates)",
        f"windows: {runs.SUFFIX} tokens of items in a row that greedy decoding writes behind the {runs.PREFIX} before",
    )
    for line in lines:
        console.print(Text(line))


def _print_overlaps(found: Found, console: Console) -> None:
    said = ", ".join(f"{seen} of {items} items of {name}" for name, (seen, items) in found.overlaps.items())
    console.print(Text(f"\noverlap, 13 words in a row in the training text: {said}"))


def _print_orders(found: Found, console: Console) -> None:
    said = (
        f"{name} p = {examined.result.p_permutation:.2g} ({examined.result.gain:+.3f} nats/token)"
        for name, examined in found.orders.items()
    )
    console.print(Text(f"exchangeability, the file's order against {_permutations(found)} others: {', '.join(said)}"))


def _permutations(found: Found) -> int:
    return next(iter(found.orders.values())).result.n_permutations


def _print_verdicts(report: Report, lake: Path, console: Console) -> None:
    """Evidence by benchmark, side by side; the verb itself gives estimates, units and intervals."""
    names = [verdict.benchmark for verdict in report.verdicts]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("evidence")
    for name in names:
        table.add_column("p", justify="right", no_wrap=True)
        table.add_column(name, no_wrap=True)
    cells: dict[str, dict[str, tuple[str, str]]] = {}
    for verdict in report.verdicts:
        for row in verdict.evidence:
            if row.verdict != NOT_JUDGED:
                p = "" if row.p_adjusted is None else f"{row.p_adjusted:.1g}"
                cells.setdefault(_evidence(row), {})[verdict.benchmark] = (p, row.verdict)
    for evidence, by_name in cells.items():
        table.add_row(evidence, *(cell for name in names for cell in by_name.get(name, ("", ""))))
    outcomes = (cell for verdict in report.verdicts for cell in ("", verdict.outcome.upper()))
    table.add_row("", *outcomes, style="bold")
    alpha = f"{report.options.alpha:.0%}"
    console.print(f"\nVerdicts, at most {alpha} false alarms: p corrected for {report.tests} tests", style="bold")
    console.print(table)
    asked = " ".join(f"--benchmark {name}" for name in names)
    command = f"assay contamination {shlex.quote(str(lake))} {asked} --clean {report.options.clean}"
    console.print(Text(f"estimates, intervals, what each can and cannot show:\n{command}"), soft_wrap=True)


def _evidence(row: Evidence) -> str:
    return row.kind.replace("_", " ") + (f",{row.test.rpartition(':')[2]}" if row.kind == OVERLAP else "")
