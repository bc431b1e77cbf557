"""Checks documents parts: each document against its own key and text, and the part against its tokens twin."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.identity import doc_id
from operators.lake import Lake, Part, documents_part_name
from operators.rows import words
from operators.verify.faults import Fault, Finding, Kind, placed
from operators.verify.layout import Expected
from operators.verify.stored import table_findings
from operators.verify.tokens import token_findings
from schemas import DOCUMENTS, TOKENS


def document_faults(
    lake: Lake, part: Part, expected: Expected, totals: Counter[str], readable: list[Part]
) -> Iterator[Fault]:
    """Faults of a documents part and of its tokens twin; adds to `totals`, and to `readable` where it could be read."""
    tables: list[pa.Table] = []
    yield from placed(lake, part, table_findings(lake, DOCUMENTS, part.path, expected.documents, tables))
    for receipts in tables:
        readable.append(part)
        totals["documents"] += receipts.num_rows
        for total, column in (("tokens", "n_tokens"), ("scored", "n_scored"), ("text_bytes", "n_bytes")):
            totals[total] += pc.sum(receipts[column]).as_py() or 0
        yield from placed(lake, part, _document_findings(part, receipts))
        twin = Part(TOKENS.name, part.run_id, part.name)
        if lake.storage.exists(twin.path):
            yield from placed(lake, twin, token_findings(lake, twin, expected, receipts))
        else:
            yield Fault(Kind.TWIN, part.run_id, part.path, f"there is no {twin.path}")


def _document_findings(part: Part, receipts: pa.Table) -> Iterator[Finding]:
    ids = receipts["doc_id"].to_numpy()
    if documents_part_name(ids) != part.name:
        yield Kind.NAME, f"its doc_ids make the name {documents_part_name(ids)}"
    if np.any(ids[1:] <= ids[:-1]):
        yield Kind.ORDER, "doc_ids do not ascend"
    if "prompt_bytes" in receipts.column_names:
        beyond = pc.sum(pc.greater(receipts["prompt_bytes"], receipts["n_bytes"])).as_py()
        if beyond:
            yield Kind.PROMPT, f"prompt_bytes is more than n_bytes in {beyond} documents"
    yield from _row_findings(receipts)


def _row_findings(receipts: pa.Table) -> Iterator[Finding]:
    """Each document against its own key and text; not `zlib_bytes`, which depends on the version of zlib."""
    wrong: dict[tuple[Kind, str], list[str]] = {}
    names = ("key", "doc_id", "text", "n_bytes", "n_chars", "n_words", "text_sha256")
    for key, identity, text, *stated in zip(*(receipts[name].to_pylist() for name in names), strict=True):
        if doc_id(key) != identity:
            wrong.setdefault((Kind.IDENTITY, "doc_id is not the hash of key"), []).append(key)
        if text is None:
            continue
        encoded = text.encode()
        found = [len(encoded), len(text), words(text), hashlib.sha256(encoded).hexdigest()]
        for name, is_stated, is_found in zip(names[3:], stated, found, strict=True):
            if is_stated != is_found:
                wrong.setdefault((Kind.TEXT, f"{name} is not that of the text"), []).append(key)
    for (kind, message), keys in wrong.items():
        yield kind, f"{message} in {len(keys)} documents, first key {keys[0]!r}"
