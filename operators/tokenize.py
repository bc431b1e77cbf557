"""Documents to token ids, each with the bytes of the text it covers.

    READ --> batches of text --> encode (Rust) --> spans --> TOKENIZED
                                     \\---------------\\--> rejects, with a reason

The ids of a row are those of `tokenizer.encode(text).ids`, behind a BOS where `bos="always"` asks for one that is not
there. `byte_start[i]` and `n_bytes[i]` are the span of token i in the UTF-8 text: spans tile the text, and tokens that
the template adds (BOS, EOS) cover nothing.

Batches are encoded without character offsets, which cost a third of the encoding; ids and spans cost a tenth. Documents
whose tokens do not spell their text (a normaliser changed it) pay for a second encoding, with offsets.
Shapes: `D` rows of a table, `T` tokens of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from tokenizers import Tokenizer

from operators.byte_spans import Lengths, SpanTable
from operators.byte_spans_vocabulary import piece_bytes
from operators.tokenize_batch import Batch, BatchTokenizer, Template, Verdict
from operators.tokenize_definition import scoring_definition, template_ids
from operators.tokenize_load import find_bos, load_tokenizer
from schemas.flow import SPAN_COLUMNS, TOKENIZED
from schemas.rejects import Reason

MAX_DOCUMENT_BYTES = 2**31 - 1  # `byte_start` is an int32
_BATCH_BYTES = 1 << 22  # of text encoded at once: encodings hold 20 to 30 bytes for each until their ids are read

Bos = Literal["auto", "always", "never"]
SpecialTokens = Literal["auto", "literal"]


@dataclass(frozen=True)
class TokenizeOptions:
    """What is fed besides the text, and how the text is read.

    `bos`: auto = what the tokenizer's own post-processor adds; always = the same, and the first id fed is the BOS;
    never = the text alone.
    `special_tokens`: auto = a text that spells a special token is read as the tokenizer does, as that token;
    literal = as plain text.
    """

    bos: Bos = "auto"
    special_tokens: SpecialTokens = "auto"

    def __post_init__(self) -> None:
        for name, known in (("bos", get_args(Bos)), ("special_tokens", get_args(SpecialTokens))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(known)}")


class DocumentTokenizer:
    """Maps a `READ` table to a `TOKENIZED` table, row for row.

    fingerprint: xxh3-128, hex, over the definition and the options; equal fingerprints give equal ids.
    other_fingerprints: those under every other `bos`, which gives the texts themselves the same ids.
    prefix, suffix: the ids fed before and after every text.
    bos_prepended: whether a token is fed before the text.

    It works on a copy: the tokenizer handed in stays as it is.
    """

    def __init__(
        self, tokenizer: Any, options: TokenizeOptions, *, bos_id: int | None = None, vocab_size: int | None = None
    ) -> None:
        """`bos_id` is needed for `bos="always"` only; documents with ids not below `vocab_size` are rejected.

        Raises:
            ValueError: `bos="always"` without a BOS, an id fed around every text that the model does not have, or a
                post-processor that repeats texts.
        """
        self.options = options
        self.vocab_size = vocab_size
        self._bos_id = bos_id
        definition = scoring_definition(tokenizer)
        serialised = json.dumps(definition, ensure_ascii=False, sort_keys=True)
        self._tokenizer = Tokenizer.from_str(serialised)
        self._tokenizer.encode_special_tokens = options.special_tokens == "literal"
        before, after = template_ids(self._tokenizer)  # also refuses a template that repeats texts, whatever `bos` says
        if options.bos == "never":
            before, after = [], []
        extra = _missing_bos(before, bos_id) if options.bos == "always" else []
        _check_fed(extra + before + after, vocab_size)
        template = Template(extra, before, after)
        self.prefix = template.prefix
        self.suffix = tuple(after)
        self.fingerprint = _fingerprint(serialised, options, bos_id)
        others = [bos for bos in get_args(Bos) if bos != options.bos and (bos != "always" or bos_id is not None)]
        self.other_fingerprints = tuple(_fingerprint(serialised, replace(options, bos=bos), bos_id) for bos in others)
        vocabulary = piece_bytes(self._tokenizer, definition)
        self._encode = BatchTokenizer(self._tokenizer, template, vocabulary, vocab_size)

    @classmethod
    def load(
        cls, path: str | Path, options: TokenizeOptions | None = None, vocab_size: int | None = None
    ) -> DocumentTokenizer:
        """From a local model folder or a `tokenizer.json`; `vocab_size` is the width of the model's softmax.

        Raises:
            FileNotFoundError: nothing at `path`.
            ValueError: no fast tokenizer there, or one that cannot do what `options` ask.
        """
        path = Path(path)
        options = options or TokenizeOptions()
        tokenizer = load_tokenizer(path)
        bos_id = find_bos(path, tokenizer, ask_transformers=options.bos == "always")
        return cls(tokenizer, options, bos_id=bos_id, vocab_size=vocab_size)

    @property
    def tokenizer(self) -> Any:
        """The copy that it works with, set as `options` ask. Not to be changed."""
        return self._tokenizer

    @property
    def span_table(self) -> SpanTable | None:
        """What its ids spell, None where they do not spell texts."""
        return self._encode.table

    @property
    def bos_prepended(self) -> bool:
        return bool(self.prefix)

    def __reduce__(self) -> tuple[Callable[..., DocumentTokenizer], tuple[Any, ...]]:
        # A pickled Rust tokenizer forgets `encode_special_tokens`, so the options travel beside it.
        return _restore, (self._tokenizer.to_str(), self.options, self._bos_id, self.vocab_size)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows keep their order. Rejects, old and new, have a reason, no text and NULL lists."""
        texts, verdicts = _readable(table)
        rows = np.flatnonzero(texts.is_valid())
        counts = np.zeros(table.num_rows, dtype=np.int64)
        batches = []
        for part in _parts(texts.drop_null()):
            batch = self._encode(part)
            here, rows = rows[: len(part)], rows[len(part) :]
            counts[here] = batch.counts
            verdicts |= {int(here[d]): verdict for d, verdict in batch.refused.items()}
            batches.append(batch)
        return _assemble(table, verdicts, counts, batches)


def default_fingerprint(tokenizer: Any) -> str:
    """The fingerprint of a `DocumentTokenizer` under the default options, without making one."""
    serialised = json.dumps(scoring_definition(tokenizer), ensure_ascii=False, sort_keys=True)
    return _fingerprint(serialised, TokenizeOptions(), None)


def _restore(
    definition: str, options: TokenizeOptions, bos_id: int | None, vocab_size: int | None
) -> DocumentTokenizer:
    return DocumentTokenizer(Tokenizer.from_str(definition), options, bos_id=bos_id, vocab_size=vocab_size)


def _missing_bos(before: Sequence[int], bos_id: int | None) -> list[int]:
    """The BOS, if the template does not put it first."""
    if bos_id is None:
        raise ValueError(
            "bos='always', but the tokenizer's files name no BOS token that it has: "
            "use bos='auto' or 'never', or set bos_token in tokenizer_config.json"
        )
    return [] if before and before[0] == bos_id else [bos_id]


def _check_fed(ids: Sequence[int], vocab_size: int | None) -> None:
    beyond = [i for i in ids if vocab_size is not None and i >= vocab_size]
    if beyond:
        raise ValueError(
            f"the tokenizer feeds ids {beyond} around every text, but the model's vocabulary has {vocab_size}: "
            "check that tokenizer and model belong together, or use bos='never'"
        )


def _fingerprint(definition: str, options: TokenizeOptions, bos_id: int | None) -> str:
    settings = asdict(options) | ({"bos_id": bos_id} if options.bos == "always" else {})
    return xxhash.xxh3_128_hexdigest((definition + json.dumps(settings, sort_keys=True)).encode())


def _readable(table: pa.Table) -> tuple[pa.LargeStringArray, dict[int, Verdict]]:
    """The texts to tokenize, NULL elsewhere, and the verdicts on rows whose text cannot even be tried."""
    # 64-bit offsets: the texts of a table may well exceed 2 GiB together.
    texts = table["text"].cast(pa.large_string()).combine_chunks()
    is_open = table["reason"].is_null().combine_chunks()
    verdicts: dict[int, Verdict] = {}
    for row in np.flatnonzero(pc.and_(is_open, texts.is_null())).tolist():
        verdicts[row] = Reason.NULL_TEXT, "a row without a text and without a reason"
    sizes = pc.fill_null(pc.binary_length(texts), 0)
    for row in np.flatnonzero(pc.and_(is_open, pc.greater(sizes, MAX_DOCUMENT_BYTES))).tolist():
        verdicts[row] = Reason.DOCUMENT_TOO_LARGE, f"{sizes[row]} bytes, more than {MAX_DOCUMENT_BYTES}"
    wanted = np.array(is_open, dtype=np.bool_)
    wanted[list(verdicts)] = False
    return pc.if_else(pa.array(wanted), texts, pa.scalar(None, texts.type)), verdicts


def _parts(texts: pa.LargeStringArray) -> Iterator[pa.LargeStringArray]:
    """Consecutive slices of at most `_BATCH_BYTES` of text, but of one document at least."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(texts):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _BATCH_BYTES, side="right")))
        yield texts.slice(start, stop - start)
        start = stop


def _assemble(table: pa.Table, verdicts: dict[int, Verdict], counts: Lengths, batches: list[Batch]) -> pa.Table:
    columns = {name: table[name] for name in table.column_names} | _rejected(table, verdicts)
    bounds = pa.array(np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))
    is_reject = pa.array(counts == 0)
    for name in SPAN_COLUMNS:
        empty = pa.array([], TOKENIZED.field(name).type.value_type)
        values = pa.concat_arrays([empty, *(pa.array(getattr(batch, name)) for batch in batches)])
        columns[name] = pa.LargeListArray.from_arrays(bounds, values, mask=is_reject)
    return pa.table([columns[name] for name in TOKENIZED.names], schema=TOKENIZED)


def _rejected(table: pa.Table, verdicts: dict[int, Verdict]) -> dict[str, Any]:
    """The columns that verdicts change: rejects carry a reason and no text."""
    if not verdicts:
        return {}
    reasons, details = table["reason"].to_pylist(), table["detail"].to_pylist()
    keeps_text = np.ones(table.num_rows, dtype=np.bool_)
    for row, (reason, detail) in verdicts.items():
        reasons[row], details[row] = str(reason), detail
        keeps_text[row] = False
    return {
        "reason": pa.array(reasons, pa.string()),
        "detail": pa.array(details, pa.string()),
        "text": pc.if_else(pa.array(keeps_text), table["text"], pa.scalar(None, pa.string())),
    }
