"""Turns a scored block into rows of the lake's tables: tokens, documents and rejects, each as declared.

    block (flow.scored) -> scored_documents (sorted by doc_id) -> token_rows -> as stored -> document_rows
                        -> reject_rows

Pure functions of the block, so equal blocks are equal rows. Shapes: `D` documents, `T` tokens of all of them.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from operators.comments import comment_tokens
from operators.identity import doc_id
from operators.rollups import rollups
from schemas import DOCUMENTS, REJECTS, TOKENS
from schemas.columns import COMMENTS, PROMPT
from schemas.documents import ROLLUPS

Ids = npt.NDArray[np.int64]


def scored_documents(block: pa.Table) -> tuple[pa.Table, Ids]:
    """The documents of a block (rows without a reason) by ascending doc_id, and those doc_ids.

    Raises:
        ValueError: a document has no token, or lists that are not equally long.
    """
    documents = block.filter(pc.is_null(block["reason"]))
    ids = np.array([doc_id(key) for key in documents["key"].to_pylist()], np.int64)
    order = np.argsort(ids, kind="stable")
    documents = documents.take(pa.array(order)).combine_chunks()
    _check_lists(documents)
    return documents, ids[order]


def token_rows(
    documents: pa.Table,
    ids: Ids,
    features: tuple[str, ...] = (),
    *,
    prompt: bool = False,
    in_comment: pa.Array | None = None,
) -> pa.Table:
    """`tokens` in its declared schema: the list columns of `documents` (sorted by `ids`) as one row a token.

    `prompt`: add `in_prompt`, from spans in bytes and `prompt_bytes`. `in_comment`: that column `[T]`, in runs on code.
    """
    lengths = _lengths(documents)
    starts = np.cumsum(lengths) - lengths
    kinds = [PROMPT] * prompt + [COMMENTS] * (in_comment is not None)
    schema = TOKENS.arrow((*features, *kinds))
    columns = {
        "doc_id": pa.array(np.repeat(ids, lengths)),
        "position": pa.array((np.arange(lengths.sum()) - np.repeat(starts, lengths)).astype(np.int32)),
    }
    if prompt:
        columns["in_prompt"] = pa.array(_in_prompt(documents))
    if in_comment is not None:
        columns["in_comment"] = in_comment
    for name in schema.names:
        if name not in columns:
            columns[name] = pc.list_flatten(documents[name])
    return pa.table(columns).select(schema.names).cast(schema)


def document_rows(
    documents: pa.Table, ids: Ids, tokens: pa.Table, *, keep_text: bool = True, prompt: bool = False
) -> pa.Table:
    """`documents` in its declared schema, for documents sorted by `ids`: counts and digests of text and tokens.

    `tokens`: the documents' `token_rows` as they are stored, which the roll-ups and `comment_tokens` are made of.
    `prompt`: add `prompt_bytes` and `prompt_tokens`.
    """
    lengths = _lengths(documents)
    measures = [_measure(text) for text in documents["text"].to_pylist()]
    columns = {name: documents[name] for name in ("key", "source", "row", "label", "domain", "attributes")}
    columns |= {
        "doc_id": pa.array(ids),
        "text": documents["text"] if keep_text else pa.nulls(len(ids), pa.string()),
        "n_tokens": pa.array(lengths),
        "n_scored": pa.array(_sums(pc.is_valid(pc.list_flatten(documents["logprob"])).to_numpy(), lengths)),
    }
    if prompt:
        columns |= {
            "prompt_bytes": documents["prompt_bytes"],
            "prompt_tokens": pa.array(_sums(_in_prompt(documents), lengths)),
        }
    on_code = "in_comment" in tokens.column_names
    if on_code:
        columns["comment_tokens"] = comment_tokens(tokens["in_comment"], lengths)
    for name in _Measures._fields:
        columns[name] = pa.array([getattr(m, name) for m in measures], DOCUMENTS[name].type)
    columns |= rollups(tokens, lengths)
    schema = DOCUMENTS.arrow([ROLLUPS, *[PROMPT] * prompt, *[COMMENTS] * on_code])
    return pa.table(columns).select(schema.names).cast(schema)


def reject_rows(block: pa.Table) -> pa.Table:
    """`rejects` in its declared schema and order: the rows of a block that have a reason."""
    schema = REJECTS.arrow()
    rejects = block.filter(pc.is_valid(block["reason"])).select(schema.names)
    return rejects.sort_by([(name, "ascending") for name in REJECTS.sorted_by]).cast(schema)


def words(text: str) -> int:
    r"""`len(re.split(r"\s+", text))`, ten times faster: white space at either end adds an empty piece."""
    return len(text.split()) + text[:1].isspace() + text[-1:].isspace() if text else 1


def _lengths(documents: pa.Table) -> Ids:
    """Tokens of each document, `[D]`."""
    return np.asarray(pc.list_value_length(documents["token_id"]).to_numpy(), np.int64)


def _in_prompt(documents: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether each token lies wholly in its document's prompt, `[T]`."""
    starts, sizes = (pc.list_flatten(documents[name]).to_numpy() for name in ("byte_start", "n_bytes"))
    borders = np.repeat(documents["prompt_bytes"].to_numpy(), _lengths(documents))
    # A BOS ends at byte 0, which is in no prompt where there is none.
    return np.asarray((borders > 0) & (starts.astype(np.int64) + sizes <= borders))


def _sums(values_T: npt.NDArray[np.bool_], lengths: Ids) -> Ids:
    """How many tokens of each document are true, `[D]`."""
    running = np.zeros(len(values_T) + 1, np.int64)
    np.cumsum(values_T, out=running[1:])
    ends = np.cumsum(lengths)
    return np.asarray(running[ends] - running[ends - lengths])


def _check_lists(documents: pa.Table) -> None:
    lists = [field.name for field in documents.schema if pa.types.is_large_list(field.type)]
    for name in lists:
        if documents[name].null_count:
            raise ValueError(f"{documents[name].null_count} documents of a block have no list {name} and no reason")
    lengths = _lengths(documents)
    for name in lists:
        wrong = np.flatnonzero((pc.list_value_length(documents[name]).to_numpy() != lengths) | (lengths == 0))
        if len(wrong):
            key = documents["key"][int(wrong[0])]
            raise ValueError(f"document {key}: list {name} is empty or not as long as its token_id")


class _Measures(NamedTuple):
    n_bytes: int
    n_chars: int
    n_words: int
    zlib_bytes: int
    text_sha256: str


def _measure(text: str) -> _Measures:
    encoded = text.encode()
    return _Measures(
        n_bytes=len(encoded),
        n_chars=len(text),
        n_words=words(text),
        zlib_bytes=len(zlib.compress(encoded)),
        text_sha256=hashlib.sha256(encoded).hexdigest(),
    )
