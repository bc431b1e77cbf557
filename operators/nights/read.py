"""Reads the numbers of a night from its run: one scan of `documents`, one of token lengths, one of kept scores.

    documents of the run, without torn shards --> sums by shard and domain, in DuckDB --> estimates (`estimate`)

What comes back is a row a shard and domain, never a row a document, so memory is that of the shards. Domains are the
few with the most bytes tonight. Texts of earlier nights are compared by their SHA-256, which DuckDB joins on disk where
they do not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.nights.estimate import Estimate, Floats, Sums, ratio
from operators.nights.measures import (
    ABOVE_QUANTILE,
    DOMAIN_SHARE,
    ONE_BYTE_SHARE,
    QUANTILE,
    RATIOS,
    REJECTS_SHARE,
    REPEATED_SHARE,
    ROLLED_UP,
    ROLLUP_RATIOS,
    SCORE_MEAN,
    TWIN_SHARE,
    UNITS,
    Ratio,
)
from schemas.nights import ALL, DOMAIN, SCORE

_OF_NIGHT = """of_night as (
  select * from documents where run_id = $run_id and not list_contains($torn::varchar[], source)
)"""

_DOMAINS = f"""with {_OF_NIGHT}
select domain from of_night where domain is not null
group by domain order by sum(n_bytes) desc, domain limit $most
"""

_TWINS = f"""with {_OF_NIGHT}, twins as (
  select text_sha256 from of_night group by text_sha256 having count(*) > 1
)
select source, count(*) as n, count(*) filter (where text_sha256 in (from twins)) as found
from of_night group by source order by source
"""

# A text of a changed shard is no repetition of itself: only shards of another name count. The least and the greatest
# name say whether there is one, a row a text: pairs of a text that every shard holds would be shards by documents.
_REPEATED = f"""with {_OF_NIGHT}, earlier as (
  select text_sha256, min(source) as first_source, max(source) as last_source
  from documents where list_contains($earlier::varchar[], run_id) group by text_sha256
)
select source, count(*) as n, count(*) filter (where first_source <> source or last_source <> source) as found
from of_night left join earlier using (text_sha256) group by source order by source
"""

_REJECTED = f"""with {_OF_NIGHT}, records as (
  select source, false as is_rejected from of_night
  union all
  select source, true from rejects where run_id = $run_id and not list_contains($torn::varchar[], source)
)
select source, count(*) as n, count(*) filter (where is_rejected) as found
from records group by source order by source
"""

_ONE_BYTE = f"""with {_OF_NIGHT}, lengths as (
  select doc_id, count(*) filter (where n_bytes = 1) as x, count(*) filter (where n_bytes > 0) as y
  from tokens where run_id = $run_id group by doc_id
), rows as (
  select d.source, x::double as x, y::double as y from of_night d join lengths l on l.doc_id = d.doc_id where y > 0
)
select source, count(*) as n, sum(x) as x, sum(y) as y, sum(x * x) as xx, sum(y * y) as yy, sum(x * y) as xy
from rows group by source order by source
"""

_SCORES = f"""with {_OF_NIGHT}, rows as (
  select s.variant as name, d.source, s.value as x
  from scores s join of_night d on d.doc_id = s.doc_id
  where s.run_id = $run_id and list_contains($variants::varchar[], s.variant) and isfinite(s.value)
)
select name, source, count(*) as n, sum(x) as x, count(*)::double as y, sum(x * x) as xx, count(*)::double as yy,
  sum(x) as xy
from rows group by name, source order by name, source
"""

_THRESHOLDS = """case when count(*) filter (where isfinite({name})) * (1 - $at) >= 1
  then quantile_cont({name}, $at) filter (where isfinite({name})) end as {name}"""


@dataclass(frozen=True)
class Number:
    """One number of a night: a row of `night_measures`."""

    measure: str
    part: str
    subject: str
    unit: str
    estimate: Estimate


@dataclass(frozen=True)
class Reading:
    """What is read of a night's run.

    torn: shards whose documents do not count. domains: at most so many. tokenizer: scan the tokens' lengths. earlier:
    runs of earlier nights whose texts are looked for; None: none are. variants: kept scores. thresholds: by roll-up,
    what 5 % of the first night's documents were above.
    """

    run_id: str
    torn: Sequence[str] = ()
    domains: int = 20
    tokenizer: bool = True
    earlier: Sequence[str] | None = None
    variants: Sequence[str] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)


def read_numbers(connection: duckdb.DuckDBPyConnection, reading: Reading) -> list[Number]:
    """Every number that the run gives. `connection`: one from `operators.catalog`.

    Raises:
        duckdb.Error: DuckDB failed on a statement.
    """
    given = {"run_id": reading.run_id, "torn": list(reading.torn)}
    domains = [name for (name,) in connection.execute(_DOMAINS, {**given, "most": reading.domains}).fetchall()]
    ratios = [*RATIOS, *ROLLUP_RATIOS, *_above(reading.thresholds)]
    rows = _rows(connection, _ratio_sql(ratios), {**given, "domains": domains})
    found = [*_of_ratios(rows, ratios, domains if len(domains) > 1 else [])]
    counted: list[tuple[str, str, dict[str, list[str]]]] = [(REJECTS_SHARE, _REJECTED, {}), (TWIN_SHARE, _TWINS, {})]
    if reading.earlier:
        counted.append((REPEATED_SHARE, _REPEATED, {"earlier": list(reading.earlier)}))
    for name, sql, more in counted:
        found += _number(name, ALL, "", ratio(_counted(_rows(connection, sql, {**given, **more})), is_share=True))
    if reading.tokenizer:
        sums = _sums(_rows(connection, _ONE_BYTE, given))
        found += _number(ONE_BYTE_SHARE, ALL, "", ratio(sums, is_share=True))
    if reading.variants:
        rows = _rows(connection, _SCORES, {**given, "variants": list(reading.variants)})
        for name in sorted(set(rows["name"].to_pylist())):
            sums = _sums(rows.filter(pc.equal(rows["name"], name)))
            found += _number(SCORE_MEAN, SCORE, name, ratio(sums))
    return found


def read_thresholds(connection: duckdb.DuckDBPyConnection, run_id: str, torn: Sequence[str] = ()) -> dict[str, float]:
    """The QUANTILE point of each roll-up over the documents of a run; none of so few that not one is above it."""
    columns = ", ".join(_THRESHOLDS.format(name=name) for name in ROLLED_UP)
    values = {"run_id": run_id, "torn": list(torn), "at": QUANTILE}
    (row,) = _rows(connection, f"with {_OF_NIGHT} select {columns} from of_night", values).to_pylist()
    return {name: float(value) for name, value in row.items() if value is not None}


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object]) -> pa.Table:
    return connection.sql(sql, params=dict(parameters)).to_arrow_table()


def _number(measure: str, part: str, subject: str, estimate: Estimate | None) -> Iterator[Number]:
    if estimate is not None:
        yield Number(measure, part, subject, UNITS.get(measure, "share"), estimate)


# Ratios of one scan


def _above(thresholds: Mapping[str, float]) -> Iterator[Ratio]:
    for name in ROLLED_UP:
        if name in thresholds:  # a float of ours: `repr` gives it back to the last bit
            above = f"({name} > {float(thresholds[name])!r}::double)::int"
            yield Ratio(ABOVE_QUANTILE, above, "1", f"{name} is not null", is_share=True, part=SCORE, subject=name)


def _ratio_sql(ratios: Iterable[Ratio]) -> str:
    """Sums of every ratio by shard and domain, five and a count each; and bytes, squared too, for shares of domains."""
    sums = []
    for place, each in enumerate(ratios):
        x, y = f"({each.top})::double", f"({each.bottom})::double"
        products = {"x": x, "y": y, "xx": f"{x} * {x}", "yy": f"{y} * {y}", "xy": f"{x} * {y}"}
        sums += [f"sum({sql}) filter (where {each.where}) as {name}_{place}" for name, sql in products.items()]
        sums.append(f"count(*) filter (where {each.where}) as n_{place}")
    return f"""with {_OF_NIGHT}
select source, case when list_contains($domains::varchar[], domain) then domain end as domain,
  count(*) as n, sum(n_bytes::double) as bytes, sum(n_bytes::double * n_bytes) as squares, {", ".join(sums)}
from of_night group by 1, 2 order by 1, 2
"""


def _of_ratios(rows: pa.Table, ratios: Sequence[Ratio], domains: Sequence[str]) -> Iterator[Number]:
    for place, each in enumerate(ratios):
        estimate = ratio(_sums(rows, f"_{place}"), is_share=each.is_share)
        yield from _number(each.name, each.part, each.subject, estimate)
    for domain in domains:
        of_domain = rows.filter(pc.equal(rows["domain"], domain))
        for place, each in enumerate(ratios):
            if each.by_domain:
                yield from _number(each.name, DOMAIN, domain, ratio(_sums(of_domain, f"_{place}")))
        yield from _number(DOMAIN_SHARE, DOMAIN, domain, ratio(_share_of_bytes(rows, of_domain), is_share=True))


def _share_of_bytes(rows: pa.Table, of_domain: pa.Table) -> Sums:
    sources = sorted(set(rows["source"].to_pylist()))
    squares = _total(of_domain, "squares")
    return Sums(
        _by_source(of_domain, "bytes", sources), _by_source(rows, "bytes", sources), squares, _total(rows, "squares"),
        squares, int(_total(rows, "n")),
    )  # fmt: skip


def _sums(rows: pa.Table, of: str = "") -> Sums:
    sources = sorted(set(rows["source"].to_pylist()))
    x, y = (_by_source(rows, f"{name}{of}", sources) for name in "xy")
    xx, yy, xy = (_total(rows, f"{name}{of}") for name in ("xx", "yy", "xy"))
    return Sums(x, y, xx, yy, xy, int(_total(rows, f"n{of}")))


def _counted(rows: pa.Table) -> Sums:
    """A share of documents or records: the number found in each shard among all of it."""
    n, found = (rows[name].cast(pa.float64()).to_numpy() for name in ("n", "found"))
    return Sums(found, n, float(found.sum()), float(n.sum()), float(found.sum()), int(n.sum()))


def _by_source(rows: pa.Table, name: str, sources: Sequence[str]) -> Floats:
    places = {source: place for place, source in enumerate(sources)}
    at = np.array([places[source] for source in rows["source"].to_pylist()], np.intp)
    return np.bincount(at, _filled(rows, name), len(sources)).astype(np.float64)


def _total(rows: pa.Table, name: str) -> float:
    return float(_filled(rows, name).sum())


def _filled(rows: pa.Table, name: str) -> Floats:
    return np.asarray(pc.fill_null(rows[name].cast(pa.float64()), 0.0).to_numpy(), dtype=np.float64)
