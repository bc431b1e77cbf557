"""Strict windows: every suffix of a text is predicted from exactly its own prefix (Carlini et al., arXiv 2202.07646).

The ids that the tokenizer gives the text, from `offset` on, are tiled by suffixes. Drawn for prefix 3, suffix 2, offset
1 and a BOS `B` (`=` fed, `#` fed and scored, `.` no row):

    token of the text   0  1  2  3  4  5  6  7  8
    position            .  0  1  2  3  4  5  6  7
    window 0               B  #  #  #  #  #             the first scores its prefix too: a row a token
    window 1                     B  =  =  =  #  #
    window 2                           B  =  =  =  #    the last suffix may be short: no complete window

What the tokenizer puts before a text is fed before every window; what it puts behind a text is not fed. The suffixes
begin at positions `prefix`, `prefix + suffix`, ...; runs that differ in `offset` begin them elsewhere. The price: a
token is fed `(prefix + suffix) / suffix` times.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from operators.transform.lists import FlatTokens, reject, with_columns
from operators.transform.spec import Transform
from operators.windows import WindowOptions
from schemas.rejects import Reason


def window_options(transform: Transform, before: tuple[int, ...] = ()) -> WindowOptions:
    """How documents are cut. `before`: the ids fed before every window."""
    prefix, suffix = transform.number("prefix"), transform.number("suffix")
    return WindowOptions(prefix + suffix, suffix, before)


def only_texts(block: pa.Table, n_before: int, n_after: int, transform: Transform) -> pa.Table:
    """A block of schema `flow.TOKENIZED` with the texts' own tokens from the offset on; spans stay those of the text.

    `n_before`, `n_after`: tokens that the tokenizer feeds around every text. A text of which nothing is left becomes a
    reject; one too short for a complete window stays a document.
    """
    offset = transform.number("offset")
    columns = {name: block[name].to_pylist() for name in ("text", "reason", "detail")}
    lengths_D = pc.fill_null(pc.list_value_length(block["token_id"]), 0).to_pylist()
    for row, (reason, length) in enumerate(zip(columns["reason"], lengths_D, strict=True)):
        own = length - n_before - n_after
        if reason is None and own <= offset:
            detail = f"{transform.canonical}: the text has {own:,} token{'' if own == 1 else 's'}"
            reject(columns, row, Reason.EMPTY_AFTER_TRANSFORM, detail)
    kept_D = pa.array([reason is None for reason in columns["reason"]], pa.bool_())
    tokens = FlatTokens.of(block, kept_D)
    first = n_before + offset
    kept_T = (tokens.place_T >= first) & (tokens.place_T < np.repeat(tokens.lengths_K - n_after, tokens.lengths_K))
    return with_columns(tokens.into(block, kept_T), columns)
