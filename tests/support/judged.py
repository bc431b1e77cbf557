"""The lake that `assay contamination` is tested on, and what the verb says of a lake.

judged.make_lake(path)                                 `seen` was trained on, `fresh` and `clean` were not
judged.judge(lake, "--benchmark", "seen")              the verb's exit code and output
judged.as_json(lake, "--benchmark", "seen")            what it writes with --format json
judged.rows(as_json(...), "seen", "overlap")           the rows of one kind of evidence
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmarks
import numpy as np
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.lake import Lake

N = 60
ONE_SCORE = ("--score", "loss", "--draws", "0")
HOSTILE = "\x1b[31mred\n[bold]' or 1=1 --"


def make_lake(path: Path) -> None:
    """`seen` was trained on, `fresh` and `clean` were not; `mixed` holds items of either kind, by label."""
    made, rng = Lake(str(path)), np.random.default_rng(0)
    seen = benchmarks.items(rng, N, written=0.5, shift=0.5, prefix="seen")
    seen[3] = replace(seen[3], key=HOSTILE)
    fresh = benchmarks.items(rng, N, prefix="fresh")
    clean = benchmarks.items(rng, N, prefix="clean")
    mixed = [
        replace(item, label=i % 2, row=i)
        for i, item in enumerate([x for pair in zip(clean, seen, strict=True) for x in pair])
    ]
    for name, of_run, gap in (("seen", seen, 0.8), ("fresh", fresh, 0.4), ("clean", clean, 0.4), ("mixed", mixed, 0.4)):
        benchmarks.write_run(made, name, of_run)
        benchmarks.write_copies(made, name, of_run, rng, gap=gap)
    shards = rng.normal(-500, 3, (10, 150))
    shards[:, 0] += 5
    benchmarks.write_orders(made, "seen", shards, items_a_shard=N // 10)
    benchmarks.write_orders(made, "fresh", rng.normal(-500, 3, (10, 150)), items_a_shard=N // 10)
    half = [(11, 11) if i == 3 else (10, 10 if i % 2 else 0) for i in range(N)]
    benchmarks.write_overlap(
        made, "web", seen, half, answers=[(2, i % 2) for i in range(N)],
        held=[("seen-53", "in part"), ("seen-53", "as it stands"), (HOSTILE, f"{HOSTILE} {'so long ' * 50}")],
    )  # fmt: skip
    benchmarks.write_overlap(made, "fresh-web", fresh, [(10, 0)] * N)
    benchmarks.write_overlap(made, "mixed-web", mixed, [(10, 0)] * (2 * N - 1) + [(10, 4)])
    benchmarks.write_overlap(
        made, "elsewhere", fresh, [(10, 9)] * N, source="other.jsonl", state="interrupted", corpus={"limit": 7}
    )
    # Not of any use, each for a reason of its own:
    benchmarks.write_run(made, "fresh-other", fresh, model="model-b", base_run="fresh", transform="shuffle")
    benchmarks.write_run(made, "fresh-half", fresh, state="interrupted", base_run="fresh", transform="shuffle")
    benchmarks.write_run(made, "lonely-half", fresh, state="interrupted", base_run="lonely", transform="shuffle")
    benchmarks.write_run(
        made, "lonely", benchmarks.items(rng, 30, prefix="lonely"), state="interrupted", input=["a b.jsonl"]
    )
    benchmarks.write_run(made, "foreign", fresh, model="model-b")
    benchmarks.write_run(made, "copied", [*clean[:5], *benchmarks.items(rng, 20, prefix="copied")])
    told = [
        replace(item, text=item.text[:-8] + ("aaaa zzz" if i % 5 else item.text[-8:])) for i, item in enumerate(seen)
    ]
    benchmarks.write_run(made, "told", [replace(item, key=f"told-{i}") for i, item in enumerate(told)])


def judge(lake: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["contamination", str(lake), *arguments])


def as_json(lake: Path, *arguments: str) -> dict[str, Any]:
    result = judge(lake, *arguments, "--format", "json")
    assert result.exit_code == 0, result.output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return dict(json.loads(result.stdout, parse_constant=refuse))


def rows(found: dict[str, Any], benchmark: str, kind: str) -> list[dict[str, Any]]:
    (of_benchmark,) = (each for each in found["benchmarks"] if each["benchmark"] == benchmark)
    return [row for row in of_benchmark["evidence"] if row["evidence"] == kind]
