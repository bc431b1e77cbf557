"""The shape of the code: imports go one way, the wheel holds everything, README's tree is the disk's, help is quick."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("schemas", "operators", "pipelines", "jobs")
# What a layer may not import besides the layers above it. Ray belongs to the two upper layers.
FORBIDDEN = {"schemas": {"torch", "polars", "duckdb", "ray", "numpy", "transformers"}, "operators": {"ray"}}
# The accelerator machines of a cluster may have no more than these; DuckDB and friends serve the query side only.
GPU_SIDE = {
    "torch",
    "transformers",
    "pyarrow",
    "numpy",
    "xxhash",
    "tokenizers",
    "fsspec",
    "huggingface_hub",
    "safetensors",
    "tenacity",  # imported when object storage is first asked
    "pygments",  # imported when code is lexed
    "filelock",  # imported when a model is fetched
}
TRITON_SIDE = {"kernel.py", "fused.py", "launch.py"}  # imported where the kernel is wanted and the package is there
QUERY_SIDE = {
    "catalog",
    "duckdb_files",
    "query",
    "scores",
    "evaluation",
    "detectors",
    "frequencies",
    "blind",
    "contamination",
    "memorization",
    "repeats",
    "mixtures",
    "merges",
    "comparison",
    "nights",
}  # and what lies below


def modules(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) | FORBIDDEN.get(layer, set())
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, tree in modules(layer)
        for line, name in imports(tree)
        if name.split(".")[0] in above
    ]
    assert wrong == []


def test_the_scoring_side_of_operators_needs_few_packages() -> None:
    wrong = []
    for path, tree in modules("operators"):
        if path.relative_to(ROOT / "operators").parts[0].removesuffix(".py") in QUERY_SIDE:
            continue
        for node in tree.body:  # at import time; functions may import lazily
            for line, name in imports(ast.Module([node], [])):
                top = name.split(".")[0]
                if top == "triton" and path.name in TRITON_SIDE:
                    continue
                if top not in GPU_SIDE | {"schemas", "operators"} and top not in sys.stdlib_module_names:
                    wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("folder", LAYERS)
def test_every_module_opens_with_its_purpose(folder: str) -> None:
    missing = [
        str(path.relative_to(ROOT))
        for path, tree in modules(folder)
        if not ast.get_docstring(tree) and path.read_text(encoding="utf-8").strip()
    ]
    assert missing == []


def test_readme_tree_is_the_disk() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```tree\n(.*?)```", readme, re.DOTALL)
    assert block, "README has no tree block"
    named = {line.split()[0] for line in block[1].splitlines() if line.strip()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    paths = {p for p in tracked.splitlines() if p.endswith((".py", ".sql")) and p.split("/")[0] in LAYERS}
    paths = {p for p in paths if not p.endswith("__init__.py")}
    shown = {name for name in named if not name.endswith("/")}
    folders = tuple(name for name in named if name.endswith("/"))
    assert {p for p in shown if p not in tracked.splitlines()} == set(), "in README, not on disk"
    uncovered = {p for p in paths if p not in shown and not any(p.startswith(f) and f.count("/") > 1 for f in folders)}
    assert uncovered == set(), "on disk, not in README"


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_sql_file(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("corpus_assay-*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(p.relative_to(ROOT)) for layer in LAYERS for p in (ROOT / layer).rglob("*") if p.suffix in (".py", ".sql")
    }
    assert expected <= inside
    assert not [name for name in inside if name.startswith(("tests/", "infra/"))]


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'ray', 'duckdb', 'pyarrow', 'polars'}"
    code = f"import sys, jobs.cli; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
