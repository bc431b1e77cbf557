"""`assay mixture correlate`: from a file or the lake's fits to a kept result; what does not fit together is named."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import labelled
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from output import unfolded
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.mixture.correlate_fits import fitted_matrix
from jobs.mixture.correlate_request import read_caps, read_matrix
from operators.lake import Lake
from operators.mixtures.correlations import Models, correlations
from operators.mixtures.projection import project
from operators.query import query
from pipelines.config import ConfigError

N, D = 10, 4
MODELS = [f"m{i}" for i in range(N)]
DOMAINS = ["books", "code, [b]\x1b[31m", "web", "wiki"]
FAST = ("--resamples", "100", "--permutations", "99")


pytestmark = pytest.mark.usefixtures("no_catalog")


def numbers() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = np.round(1 + 0.2 * rng.normal(size=(N, 1)) + 0.1 * rng.normal(size=(N, D)), 2)
    return x, np.round(1 / (1 + np.exp(-8 * (x[:, 2] - 1))), 2)


def write(path: Path, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows]), path)
        return path
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    x, _ = numbers()
    rows = [(MODELS[i], DOMAINS[d], float(x[i, d])) for i in range(N) for d in range(D)]
    return write(tmp_path / "bpb.csv", ("model", "domain", "bits_per_byte"), rows)


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    _, y = numbers()
    return write(tmp_path / "errors.csv", ("model", "error"), list(zip(MODELS, y.tolist(), strict=True)))


def correlate(lake: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["mixture", "correlate", str(lake), *FAST, *map(str, arguments)])


def as_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return dict(json.loads(result.stdout, parse_constant=refuse))


def test_from_a_file_to_a_kept_result_and_figures(tmp_path: Path, matrix: Path, errors: Path) -> None:
    shares, heat = tmp_path / "shares.svg", tmp_path / "matrix.svg"
    done = correlate(
        tmp_path / "lake", "--matrix", matrix, "--errors", errors, "--name", "bench", "--estimator", "all",
        "--cap", "0.5", "--projection", "linear", "--projection", "l2", "--figure", shares, "--heatmap", heat,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.stdout
    assert "sign_cdf, projected by linear: 10 models, 4 domains" in unfolded(done.stdout)
    kept = query(str(tmp_path / "lake"), "from mixtures where mixture = 'bench'", macros=False).to_pylist()
    x, y = numbers()
    assert len(kept) == 5 * 2 * D
    for estimator in ("sign_cdf", "product"):
        wanted = correlations(Models(x, y), estimator)  # type: ignore[arg-type]
        for projection in ("linear", "l2"):
            rows = {row["component"]: row for row in kept if row["method"] == f"{estimator}/{projection}"}
            projected = project(wanted, np.full(D, 0.5), projection)  # type: ignore[arg-type]
            for d, domain in enumerate(DOMAINS):
                row = rows[domain]
                assert (row["estimate"], row["share"]) == (
                    pytest.approx(wanted[d]),
                    pytest.approx(projected[d], abs=1e-9),
                )
                assert row["estimate_low"] < row["estimate"] < row["estimate_high"]
                assert row["share_low"] <= row["share_high"] <= 0.5
                assert 0.01 <= row["p_value"] <= row["p_adjusted"] <= 1
                assert row["n"] == N
    assert "<svg" in shares.read_text()
    assert "bits per byte" in heat.read_text()


def test_parquet_files_and_caps_by_domain(tmp_path: Path, matrix: Path, errors: Path) -> None:
    x, y = numbers()
    columns = ("model", "domain", "bits_per_byte")
    rows = [(MODELS[i], DOMAINS[d], float(x[i, d])) for i in range(N) for d in range(D)]
    as_parquet = write(tmp_path / "bpb.parquet", columns, rows)
    of_errors = write(tmp_path / "errors.parquet", ("model", "error"), list(zip(MODELS, y.tolist(), strict=True)))
    caps = write(tmp_path / "caps.csv", ("domain", "cap"), [("web", 0.3), ("wiki", 0.1)])
    more = ("--caps", caps, "--cap", "web=0.25", "--name", "a", "--format", "json")
    first = as_json(correlate(tmp_path / "one", "--matrix", matrix, "--errors", errors, *more))
    second = as_json(correlate(tmp_path / "two", "--matrix", as_parquet, "--errors", of_errors, *more))
    assert first["mixtures"] == second["mixtures"]
    assert first["settings"]["caps"] == {"books": 1, DOMAINS[1]: 1, "web": 0.25, "wiki": 0.1}
    best = max(first["mixtures"], key=lambda row: row["estimate"])
    assert (best["component"], best["share"]) == ("web", 0.25)


def test_missing_cells_and_errors_are_left_out_and_counted(tmp_path: Path, matrix: Path, errors: Path) -> None:
    lines = matrix.read_text().splitlines()
    matrix.write_text("\n".join([*lines[:1], lines[1].rpartition(",")[0] + ",", *lines[3:]]) + "\n")
    errors.write_text("\n".join(errors.read_text().splitlines()[:-2]) + "\nm8,\n")
    found = as_json(
        correlate(tmp_path / "lake", "--matrix", matrix, "--errors", errors, "--name", "a", "--format", "json")
    )
    models = {row["component"]: row["n"] for row in found["mixtures"]}
    assert models == {"books": 7, DOMAINS[1]: 7, "web": 8, "wiki": 8}
    notes = " ".join(found["notes"])
    assert "2 of 10 models of" in notes
    assert "'m8', 'm9'" in notes
    assert "2 of 32 cells are missing" in notes
    by_name = {row["component"]: row for row in found["mixtures"]}
    assert by_name["books"]["note"] == "7 models: no interval"
    assert by_name["books"]["estimate_low"] is None


def test_few_models_are_said_to_be_few(tmp_path: Path, matrix: Path, errors: Path) -> None:
    errors.write_text("\n".join(errors.read_text().splitlines()[:6]) + "\n")
    done = correlate(tmp_path / "lake", "--matrix", matrix, "--errors", errors, "--name", "a", "--permutations", "500")
    assert done.exit_code == 0, done.output
    said = unfolded(done.stdout)
    assert "5 models are too few for an interval" in said
    assert f"not below {1 / 120:.2g}" in said


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (("errors", "m3,", "mx3,"), [], "'mx3' not in"),
        (("errors", "m3,", "m4,"), [], "model 'm4' is there twice"),
        (("errors", "m3,", "m3,x"), [], "error of 'm3' is"),
        (("errors", "error", "mistakes"), [], "expected a CSV or Parquet file with columns model, error"),
        (("matrix", "m3,web", "m3,wiki"), [], "model 'm3', domain 'wiki' is there twice"),
        (("matrix", "m3,web,", "m3,web,-"), [], "it cannot be below 0"),
        (("matrix", "m3,web,", "m3,web,inf #"), [], "expected a number"),
        (("matrix", "m3,web,", ",web,"), [], "has no model or no domain"),
        (("errors", "model,error", "model,error,error"), [], "expected a CSV or Parquet file"),
        (("matrix", "domain,bits", "model,bits"), [], "2 columns model; expected a CSV or Parquet file"),
        (None, ["--cap", "wbe=0.2"], "--cap: no domain 'wbe'"),
        (None, ["--cap", "0.2"], "caps sum to 0.8"),
        (None, ["--cap", "web=0"], "caps must be above 0"),
        (None, ["--cap", "web=much"], "'web=much' is 'much', expected a number"),
        (None, ["--estimator", "pearson"], "--estimator 'pearson': expected sign_cdf"),
        (None, ["--run-id", "r"], "--matrix and --run-id"),
        (None, ["--heatmap", "matrix.pdf"], "expected a name that ends in .svg or .png"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, matrix: Path, errors: Path, change: Any, arguments: list[str], message: str
) -> None:
    if change is not None:
        path = {"matrix": matrix, "errors": errors}[change[0]]
        assert change[1] in path.read_text()
        path.write_text(path.read_text().replace(change[1], change[2], 1))
    done = correlate(tmp_path / "lake", "--matrix", matrix, "--errors", errors, "--name", "a", *arguments)
    assert done.exit_code == 2, done.output
    assert message in unfolded(done.output)
    assert not (tmp_path / "lake").exists()


def test_equal_errors_and_too_few_models_are_refused(tmp_path: Path, matrix: Path, errors: Path) -> None:
    write(errors, ("model", "error"), [(model, 0.5) for model in MODELS])
    done = correlate(tmp_path / "lake", "--matrix", matrix, "--errors", errors, "--name", "a")
    assert "every model has the same error" in unfolded(done.output)
    write(errors, ("model", "error"), [("m0", 0.5), ("m1", 0.4)])
    done = correlate(tmp_path / "lake", "--matrix", matrix, "--errors", errors, "--name", "a")
    assert "2 models have bits per byte and an error; 3 are the fewest" in unfolded(done.output)


def test_names_may_hold_newlines_and_be_numbers(tmp_path: Path) -> None:
    """A file is read in blocks of a megabyte: a name that spans two of them is one name."""
    columns, names = ("model", "domain", "bits_per_byte"), [f"{i}\n" + "x" * 40_000 for i in range(30)]
    path = write(tmp_path / "long.csv", columns, [(f"m\n{i}", name, 1.5) for i in range(2) for name in names])
    assert read_matrix(path) == {(f"m\n{i}", name): 1.5 for i in range(2) for name in names}
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_matrix(path)) == 60
    assert read_matrix(write(tmp_path / "n.parquet", columns, [(7, 2024, 0.5)])) == {("7", "2024"): 0.5}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "Empty CSV file"),
        ("header.csv", b"model,domain,bits_per_byte\n", "it has no rows"),
        ("latin.csv", b"model,domain,bits_per_byte\nm,caf\xe9,1\n", "invalid UTF8"),
        ("ragged.csv", b"model,domain,bits_per_byte\nm,web\n", "Expected 3 columns, got 2"),
        ("text.parquet", b"model,domain,bits_per_byte\n", "expected a CSV or Parquet file"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_matrix(tmp_path / name)


def test_a_domain_that_is_capped_twice_is_refused(tmp_path: Path) -> None:
    caps = write(tmp_path / "caps.csv", ("domain", "cap"), [("web", 0.3), ("web", 0.9)])
    with pytest.raises(ConfigError, match="domain 'web' is there twice"):
        read_caps(caps, (), ["web", "books"])


def test_what_the_product_is_not_is_said(tmp_path: Path, matrix: Path, errors: Path) -> None:
    done = correlate(tmp_path / "lake", "--matrix", matrix, "--errors", errors, "--name", "a", "--estimator", "product")
    assert "not centred, as in the paper: 0 is not 'no link'" in unfolded(done.stdout)


# From a lake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs m0 to m4 with their domain fits, and one without."""
    path = tmp_path_factory.mktemp("lake")
    rng = np.random.default_rng(0)
    made = labelled.documents(rng, 10)
    documents = [replace(document, domain=("web", "books", None)[i % 3]) for i, document in enumerate(made)]
    for i, run in enumerate(("m0", "m1", "m2", "m3", "m4", "unfitted")):
        changed = [replace(d, logprobs=d.logprobs * (1 + 0.1 * ((3 * i) % 5) * (d.domain == "web"))) for d in documents]
        labelled.write_run(Lake(str(path)), run, changed, features=(), model=run)
    runs = [argument for run in MODELS[:5] for argument in ("--run-id", run)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operators.catalog.write_catalog", lambda *_: "")
        done = CliRunner().invoke(app, ["mixture", "fit", str(path), *runs, "--resamples", "100", "--no-vocabulary"])
    assert done.exit_code == 0, done.output
    return path


def test_the_matrix_is_the_lakes_domain_fits(lake: Path, tmp_path: Path) -> None:
    errors = write(tmp_path / "errors.csv", ("model", "error"), [(f"m{i}", 0.1 * ((3 * i) % 5)) for i in range(5)])
    done = correlate(lake, "--errors", errors, "--name", "fits", "--format", "json", "--permutations", "120")
    found = as_json(done)
    rows = query(str(lake), "select run_id, domain, bits_per_byte from domain_fit where part = 'domain'", macros=False)
    bpb = {(row["run_id"], row["domain"]): row["bits_per_byte"] for row in rows.to_pylist()}
    y = np.array([0.1 * ((3 * i) % 5) for i in range(5)])
    for row in found["mixtures"]:
        domain = None if row["component"] == "(no domain)" else row["component"]
        x = np.array([[bpb[f"m{i}", domain]] for i in range(5)])
        if domain == "web":
            assert row["estimate"] == pytest.approx(correlations(Models(x, y), "sign_cdf")[0])
        else:
            assert np.ptp(x) == 0
            assert (row["estimate"], row["share"]) == (None, None)
            assert row["note"] == "its models do not differ: no estimate"
    job = json.loads((lake / "mixtures" / "mixture=fits" / "job.json").read_text())
    assert sorted(job["states"]) == MODELS[:5]


def test_fits_of_runs_that_were_scored_again_or_are_gone_are_refused(lake: Path, tmp_path: Path) -> None:
    copy = Lake(str(shutil.copytree(lake, tmp_path / "copy")))
    errors = write(tmp_path / "errors.csv", ("model", "error"), [(f"m{i}", 0.1 * ((3 * i) % 5)) for i in range(4)])
    for run in ("m1", "m3", "m4"):
        copy.write_run(run, copy.read_run(run) | {"finished_at": "2026-11-21T00:00:00+00:00"})
    stale = correlate(Path(copy.root), "--errors", errors, "--name", "stale")
    assert stale.exit_code == 2, stale.output
    assert "the domain fit of runs 'm1', 'm3' is of an earlier state" in unfolded(stale.output)
    assert "--run-id m1 --run-id m3` makes it again" in unfolded(stale.output)
    (Path(copy.root) / "runs" / "m1.json").unlink()
    gone = correlate(Path(copy.root), "--errors", errors, "--name", "stale")
    assert gone.exit_code == 2, gone.output
    assert "run 'm1' is gone" in unfolded(gone.output)
    assert not (Path(copy.root) / "mixtures" / "mixture=stale").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run-id", "m7"], "no run 'm7' in"),
        (["--run-id", "unfitted"], "no domain fit of runs 'unfitted': `assay mixture fit"),
        (["--run-id", "m0", "--run-id", "m2"], "'m1' not in the domain fits of"),
    ],
)
def test_runs_that_are_not_there_or_not_fitted_are_named(
    lake: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    errors = write(tmp_path / "errors.csv", ("model", "error"), [("m0", 0.1), ("m1", 0.2), ("m2", 0.3)])
    done = correlate(lake, "--errors", errors, "--name", "bad", *arguments)
    assert done.exit_code == 2, done.output
    assert message in unfolded(done.output)


def test_a_domain_that_is_called_as_those_without_one_is_refused() -> None:
    rows = [("m0", None, 0.5), ("m0", "(no domain)", 0.7), ("m0", "web", 0.6)]
    with duckdb.connect() as connection:
        connection.execute("create table domain_fit (run_id varchar, domain varchar, bits_per_byte double)")
        connection.execute("alter table domain_fit add column part varchar default 'domain'")
        connection.execute("alter table domain_fit add column n_bytes bigint default 9")
        insert = "insert into domain_fit (run_id, domain, bits_per_byte) values (?, ?, ?)"
        connection.executemany(insert, rows[1:])
        assert set(fitted_matrix(connection, "lake", ())[0]) == {("m0", "(no domain)"), ("m0", "web")}
        connection.execute(insert, rows[0])
        with pytest.raises(ConfigError, match=r"a domain is called \(no domain\)"):
            fitted_matrix(connection, "lake", ())
