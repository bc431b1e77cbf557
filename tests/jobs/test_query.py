"""`assay catalog`, `sql` and `verify` over a lake on S3: options, runs, repair, and what is said when there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3
import yaml
from typer.testing import CliRunner, Result

from jobs.cli import app
from operators.lake import Lake, Part

ORPHAN = "0" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Server]:
    root = tmp_path_factory.mktemp("s3") / "buckets"
    (root / "bucket").mkdir(parents=True)
    with s3.lone_server(root) as running:
        yield running


@pytest.fixture
def options(server: s3.Server, tmp_path: Path) -> list[str]:
    """`--storage-options` with a file, by protocol."""
    path = tmp_path / "storage.yaml"
    path.write_text(yaml.safe_dump({"s3": server.options}))
    return ["--storage-options", str(path)]


@pytest.fixture
def lake(server: s3.Server, request: pytest.FixtureRequest) -> Lake:
    """Runs `a` and `b` that were stopped before their first receipt; `a` has a tokens part without one."""
    made = Lake(f"s3://bucket/{request.node.originalname}", server.options)
    for run_id in ("a", "b"):
        made.write_run(run_id, {"run_id": run_id, "state": "interrupted"})
    made.storage.write(Part("tokens", "a", ORPHAN).path, b"half a thought")
    return made


def assay(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_sql_reads_the_lake_with_the_options_of_a_file(lake: Lake, options: list[str]) -> None:
    sql = "select run_id, state from runs order by all"
    result = assay("sql", lake.root, sql, "--format", "json", *options)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["run_id"] for line in result.stdout.splitlines()] == ["a", "b"]
    result = assay("sql", lake.root, "select count(*) as n from documents", "--format", "csv", *options)
    assert result.stdout.split() == ['"n"', "0"]


def test_sql_is_limited_to_the_runs_named(lake: Lake, options: list[str]) -> None:
    def ids(*more: str) -> list[str]:
        result = assay("sql", lake.root, "select run_id from runs order by all", "--format", "csv", *options, *more)
        assert result.exit_code == 0, result.output
        return [line.strip('"') for line in result.stdout.splitlines()[1:]]

    assert ids("--run-id", "b") == ["b"]
    assert ids("--run-id", "b", "--run-id", "a") == ["a", "b"]
    result = assay("sql", lake.root, "from runs", "--run-id", "c", *options)
    assert result.exit_code == 2
    assert "no run 'c'" in result.stderr
    assert "it holds a, b" in result.stderr


def test_of_many_runs_an_error_names_the_nearest(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "many"))
    for n in range(40):
        lake.write_run(f"night-{n:02}", {"run_id": f"night-{n:02}", "state": "finished"})
    wrong = assay("sql", lake.root, "from runs", "--run-id", "nigth-31")
    assert wrong.exit_code == 2
    said = " ".join(wrong.stderr.split())
    assert "it holds night-31, " in said
    assert "and 30 more: `assay status " in said
    assert said.count("night-") == 10


def test_catalog_writes_one_object(lake: Lake, options: list[str]) -> None:
    result = assay("catalog", lake.root, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"{lake.root}/lake.duckdb"
    assert "interrupted" in result.stdout
    assert lake.storage.exists("lake.duckdb")


def test_verify_changes_nothing_unless_told_to_repair(lake: Lake, options: list[str]) -> None:
    orphan = Part("tokens", "a", ORPHAN).path
    found = assay("verify", lake.root, *options)
    assert found.exit_code == 1
    assert f"{orphan}: orphan" in found.stdout
    assert lake.storage.exists(orphan)
    other = assay("verify", lake.root, "--run-id", "b", "--repair", *options)
    assert (other.exit_code, other.stdout) == (0, "1 runs verified, no faults\n")
    assert lake.storage.exists(orphan)
    repaired = assay("verify", lake.root, "--repair", *options)
    assert repaired.stdout.splitlines() == [f"{orphan}: dropped", "2 runs verified, no faults"]
    assert repaired.exit_code == 0
    assert not lake.storage.exists(orphan)


def test_a_run_that_may_be_written_is_repaired_only_by_name(lake: Lake, options: list[str]) -> None:
    lake.write_run("a", {"run_id": "a", "state": "running"})
    result = assay("verify", lake.root, "--repair", *options)
    assert result.stdout.splitlines()[0].startswith("a: left alone")
    assert result.exit_code == 1
    assert lake.storage.exists(Part("tokens", "a", ORPHAN).path)
    result = assay("verify", lake.root, "--repair", "--run-id", "a", *options)
    assert result.stdout.splitlines() == [f"{Part('tokens', 'a', ORPHAN).path}: dropped", "1 runs verified, no faults"]


@pytest.mark.parametrize("verb", [["catalog"], ["verify"], ["sql"]], ids=lambda verb: verb[0])
@pytest.mark.parametrize(
    ("root", "code", "said"),
    [("s3://bucket/nothing", 2, "no lake at s3://bucket/nothing"), ("s3://nobucket/lake", 1, "there is no 'nobucket'")],
)
def test_a_mistyped_lake_is_an_error(options: list[str], verb: list[str], root: str, code: int, said: str) -> None:
    query = ["select 1"] if verb == ["sql"] else []
    result = assay(*verb, root, *query, *options)
    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_wrong_credentials_are_said_and_not_shown(server: s3.Server, tmp_path: Path) -> None:
    path = tmp_path / "storage.json"
    path.write_text(json.dumps({**server.options, "secret": "anothersecretvalue"}))
    result = assay("sql", "s3://bucket/lake", "from runs", "--storage-options", str(path))
    assert result.exit_code == 1
    assert "permission denied" in result.stderr
    assert "anothersecretvalue" not in result.output


def test_credentials_on_the_command_line_are_refused(server: s3.Server) -> None:
    result = assay("sql", "s3://bucket/lake", "from runs", "--storage-options", json.dumps(server.options))
    assert result.exit_code == 2
    assert "secret" in result.stderr
    assert s3.SECRET not in result.output
