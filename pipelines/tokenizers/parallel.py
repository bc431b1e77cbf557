"""Pairs texts that say the same: tokens of each domain against those of a baseline, over the ids that both have.

    documents of a unit -> TEXTS (id, domain, tokens) -> Parquet on local disk -> DuckDB: joined on id -> ALIGNED

An id stands for one text a domain; where a domain has it more than once it cannot be paired and is left out, and
counted. DuckDB joins out of core: nothing by document is held in memory, some 20 bytes of each lie on disk.
Letters: `D` documents of a block, `K` those of them that were counted, `P` tokenizers.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from xxhash import xxh3_64_intdigest

from operators.tokenizer_statistics.parallel import ALIGNED

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "1GB"
ROW_GROUP = 1 << 17
RATIO_ONE = float(1 << 40)  # ratios are summed in parts of this: whole numbers add up alike in any order
_SIGN = 1 << 63

Ints = npt.NDArray[np.int64]


def texts_schema(n_tokenizers: int) -> pa.Schema:
    """A row a document: 64 bits of its id, its domain, and its tokens by tokenizer."""
    tokens = [pa.field(f"tokens_{p}", pa.int64(), nullable=False) for p in range(n_tokenizers)]
    return pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("domain", pa.string(), nullable=False),
                      *tokens])  # fmt: skip


def text_rows(block: pa.Table, rows: Ints, tokens: Ints, column: str, seed: int = 0) -> pa.Table:
    """Those of the documents `rows` that have a domain and an id.

    Args:
        block: (D,) of schema `flow.READ`; `column` is among its attributes.
        rows: (K,) places in the block. tokens: (P, K). seed: of the hash, which puts ids into groups.
    """
    counted = block.select(["domain", "attributes"]).take(pa.array(rows))
    ids = [dict(pairs or ()).get(column) for pairs in counted["attributes"].to_pylist()]
    has_both = np.array([each is not None for each in ids], bool) & counted["domain"].is_valid().to_numpy()
    hashes = [xxh3_64_intdigest(each.encode(), seed) - _SIGN for each in ids if each is not None]
    has_id = np.array([each is not None for each in ids], bool)
    columns = [
        pa.array(np.array(hashes, np.int64)[has_both[has_id]]),
        counted["domain"].filter(pa.array(has_both)).combine_chunks(),
        *(pa.array(of_tokenizer[has_both]) for of_tokenizer in tokens),
    ]
    return pa.table(columns, schema=texts_schema(len(tokens)))


@dataclass(frozen=True)
class Paired:
    """`aligned`: of schema `ALIGNED`, for every domain that shares ids with the baseline. `texts`: by domain, how many
    were paired. `ambiguous`: ids that some domain has more than once. `unpaired`: texts of other domains whose id the
    baseline does not have."""

    baseline: str
    aligned: pa.Table
    texts: dict[str, int]
    ambiguous: int
    unpaired: int

    def facts(self) -> dict[str, Any]:
        """What is kept of the pairing beside the statistics."""
        return {
            "texts_paired": self.texts,
            "ids_left_out": self.ambiguous,
            "texts_unpaired": self.unpaired,
        }


class Aligner:
    """A context: `add` tables of `texts_schema` in any order, then read `paired` once."""

    def __init__(self, names: Sequence[str], groups: int, memory_limit: str = MEMORY_LIMIT) -> None:
        self.names, self.groups, self.memory_limit = names, groups, memory_limit
        self.schema = texts_schema(len(names))

    def __enter__(self) -> Aligner:
        self._folder = Path(tempfile.mkdtemp(prefix="assay-parallel-"))
        self._file = self._folder / "texts.parquet"
        self._writer = pq.ParquetWriter(self._file, self.schema, compression="zstd", use_dictionary=["domain"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, texts: pa.Table) -> None:
        if len(texts):
            bare = texts.replace_schema_metadata(None).cast(self.schema)
            self._writer.write_table(bare, row_group_size=ROW_GROUP)

    def paired(self, baseline: str) -> Paired:
        """Sums over the ids that a domain and the baseline both have, once each."""
        import duckdb

        self._writer.close()
        with duckdb.connect() as connection:
            connection.execute(f"set memory_limit = '{self.memory_limit}'")
            connection.execute("set preserve_insertion_order = false")
            connection.execute("set temp_directory = $folder", {"folder": str(self._folder / "spill")})
            return self._joined(connection, baseline)

    def _joined(self, connection: duckdb.DuckDBPyConnection, baseline: str) -> Paired:
        own = ", ".join(f"any_value(tokens_{p}) as tokens_{p}" for p in range(len(self.names)))
        connection.execute(
            f"create temp table texts as select id, domain, count(*) as n, {own} from read_parquet($file) group by all",
            {"file": str(self._file)},
        )
        aligned = [self._of(connection, p, name, baseline) for p, name in enumerate(self.names)]
        ((ambiguous,),) = connection.execute("select count(distinct id) from texts where n > 1").fetchall()
        ((unpaired,),) = connection.execute(
            "select coalesce(sum(n), 0)::bigint from texts "
            "where id not in (select id from texts where domain = $baseline)",
            {"baseline": baseline},
        ).fetchall()
        texts: dict[str, int] = {}
        for domain, n in zip(aligned[0]["domain"].to_pylist(), aligned[0]["n"].to_pylist(), strict=True):
            texts[domain] = texts.get(domain, 0) + n
        return Paired(baseline, pa.concat_tables(aligned), texts, ambiguous, unpaired)

    def _of(self, connection: duckdb.DuckDBPyConnection, p: int, name: str, baseline: str) -> pa.Table:
        """The rows of one tokenizer. A text of no tokens (a tokenizer may drop every character) has no ratio."""
        rows = connection.sql(
            f"""
            with pairs as (
              select theirs.domain, theirs.id, theirs.tokens_{p} as tokens, based.tokens_{p} as baseline_tokens
              from texts as theirs
              join texts as based on based.id = theirs.id and based.domain = $baseline
              where theirs.domain <> $baseline and theirs.n = 1 and based.n = 1 and based.tokens_{p} > 0
            )
            select $name as tokenizer, domain, ((id & 1048575) % $groups)::integer as "group", count(*) as n,
              sum(tokens)::bigint as tokens, sum(baseline_tokens)::bigint as baseline_tokens,
              sum((tokens / baseline_tokens * $one)::hugeint)::double / $one as ratio_sum
            from pairs
            group by all
            order by domain, "group"
            """,
            params={"name": name, "groups": self.groups, "baseline": baseline, "one": RATIO_ONE},
        ).to_arrow_table()
        return rows.select(ALIGNED.names).cast(ALIGNED)
