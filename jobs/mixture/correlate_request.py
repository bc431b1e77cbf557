"""What `assay mixture correlate` reads: bits per byte by model and domain, errors by model, caps by domain.

    rows of `domain_fit`, or a file (model, domain, bits_per_byte) --\\
    a file (model, error) --------------------------------------------> matrix of the models that have both
    a file (domain, cap), --cap ---------------------------------------> caps

Files are CSV with a header or Parquet. Names in them are strangers' and are only compared and printed escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from jobs.mixture.reweight_output import named
from operators.mixtures.correlations import Floats
from operators.mixtures.correlations_estimates import FEWEST_MODELS, Matrix
from operators.scores.variants import did_you_mean
from pipelines.config import ConfigError

Cells = dict[tuple[str, str], float]  # (model, domain) -> bits per byte, NaN where it is missing


@dataclass(frozen=True)
class Given:
    """The matrix, and what was left out of it."""

    matrix: Matrix
    notes: tuple[str, ...]


def read_matrix(path: Path) -> Cells:
    """Bits per byte from a file with columns model, domain and bits_per_byte.

    Raises:
        ConfigError: it cannot be read, or a cell is named twice, negative or infinite.
    """
    cells: Cells = {}
    flag = f"--matrix {path}"
    for model, domain, value in _rows(path, "--matrix", ("model", "domain", "bits_per_byte")):
        where = f"model {model!r}, domain {domain!r}"
        number = _number(value, flag, f"bits_per_byte of {where}")
        if number < 0:
            raise ConfigError(f"{flag}: bits_per_byte of {where} is {number}: it cannot be below 0")
        if (model, domain) in cells:
            raise ConfigError(f"{flag}: {where} is there twice")
        cells[model, domain] = number
    if not cells:
        raise ConfigError(f"{flag}: it has no rows")
    return cells


def read_errors(path: Path) -> dict[str, float]:
    """Errors by model from a file with columns model and error; NaN where the cell is empty.

    Raises:
        ConfigError: it cannot be read, or a model is there twice.
    """
    errors: dict[str, float] = {}
    for model, value in _rows(path, "--errors", ("model", "error")):
        if model in errors:
            raise ConfigError(f"--errors {path}: model {model!r} is there twice")
        errors[model] = _number(value, f"--errors {path}", f"error of {model!r}")
    return errors


def assembled(cells: Cells, errors: Mapping[str, float], source: str) -> Given:
    """The matrix of the models that have an error. `source`: how the matrix is called in messages.

    Raises:
        ConfigError: a model of the errors is not in the matrix, too few models are left, or all have one error.
    """
    every = dict.fromkeys(model for model, _ in cells)
    unknown = [model for model in errors if model not in every]
    if unknown:
        hint = did_you_mean(unknown[0], list(every)) or f"; it has {named(every, 10)}"
        raise ConfigError(f"--errors: {named(unknown)} not in {source}{hint}")
    models = [model for model in every if not math.isnan(errors.get(model, math.nan))]
    notes = []
    if len(models) < len(every):
        without = [model for model in every if math.isnan(errors.get(model, math.nan))]
        notes.append(
            f"note: {len(without):,} of {len(every):,} models of {source} have no error, left out: {named(without)}"
        )
    if len(models) < FEWEST_MODELS:
        raise ConfigError(
            f"--errors: {len(models)} models have bits per byte and an error; {FEWEST_MODELS} are the fewest that can "
            "be correlated"
        )
    domains = sorted({domain for _, domain in cells})
    error_N = np.array([errors[model] for model in models])
    if len(set(error_N.tolist())) == 1:
        raise ConfigError("--errors: every model has the same error: there is nothing to correlate with")
    if ((error_N < 0) | (error_N > 1)).any():
        notes.append("warning: errors are expected between 0 and 1 (1 - accuracy); some are not")
    bpb_ND = np.array([[cells.get((model, domain), math.nan) for domain in domains] for model in models])
    missing = int(np.isnan(bpb_ND).sum())
    if missing:
        gaps = [domain for domain, has in zip(domains, np.isnan(bpb_ND).any(axis=0), strict=True) if has]
        notes.append(
            f"warning: {missing:,} of {bpb_ND.size:,} cells are missing: a model without a domain is left out there "
            f"alone, so {named(gaps)} rest on other models than the rest"
        )
    return Given(Matrix(tuple(models), tuple(domains), bpb_ND, error_N), tuple(notes))


def read_caps(path: Path | None, given: Sequence[str], domains: Sequence[str]) -> Floats:
    """The most that each domain may be: 1 unless a file, `--cap NUMBER` (all) or `--cap DOMAIN=NUMBER` say less.

    Raises:
        ConfigError: unknown domains, or caps that leave no room for shares that sum to 1.
    """
    caps: dict[str, float] = {}
    default = 1.0
    if path is not None:
        for domain, value in _rows(path, "--caps", ("domain", "cap")):
            if domain in caps:
                raise ConfigError(f"--caps {path}: domain {domain!r} is there twice")
            caps[domain] = _number(value, f"--caps {path}", f"cap of {domain!r}")
    for text in given:
        domain, equals, value = text.rpartition("=")
        number = _number(value, "--cap", repr(text))
        if equals:
            caps[domain] = number
        else:
            default = number
    if unknown := [domain for domain in caps if domain not in domains]:
        hint = did_you_mean(unknown[0], domains) or f"; the domains are {named(domains, 10)}"
        raise ConfigError(f"--cap: no domain {named(unknown)}{hint}")
    caps_D = np.array([caps.get(domain, default) for domain in domains])
    if not (caps_D > 0).all():
        raise ConfigError("--cap: caps must be above 0; leave a domain out of the matrix to give it nothing")
    return caps_D


def _number(value: object, flag: str, what: str) -> float:
    """A number, NaN for an empty cell.

    Raises:
        ConfigError: anything else, or an infinity.
    """
    text = "" if value is None else str(value).strip()
    try:
        number = float(text) if text else math.nan
    except ValueError:
        number = math.inf
    if math.isinf(number):
        raise ConfigError(f"{flag}: {what} is {text[:40]!r}, expected a number")
    return number


def _rows(path: Path, flag: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Columns of a file as text, row by row.

    Raises:
        ConfigError: it is not there, is neither CSV nor Parquet, lacks a column or has it twice, or names nothing
            somewhere.
    """
    expected = f"expected a CSV or Parquet file with columns {', '.join(columns)}"
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path, columns=list(columns), partitioning=None)
        else:
            as_text = pacsv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))
            table = pacsv.read_csv(path, pacsv.ReadOptions(), pacsv.ParseOptions(newlines_in_values=True), as_text)
        for name in columns:
            if (there := table.column_names.count(name)) != 1:
                raise ConfigError(f"{flag} {path}: {there or 'no'} column{'s' * (there > 1)} {name}; {expected}")
        keys = [table[name].cast(pa.string()).to_pylist() for name in columns[:-1]]
        rows = list(zip(*keys, table[columns[-1]].to_pylist(), strict=True))
    except ConfigError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise ConfigError(f"{flag} {path}: {reason}; {expected}") from None
    for number, row in enumerate(rows, 1):
        if not all(isinstance(name, str) and name for name in row[:-1]):
            raise ConfigError(f"{flag} {path}: row {number} has no {' or no '.join(columns[:-1])}")
    return rows
