"""`memorized_spans`: the table `spans` with the text of each span, the longest first.

Tokens of byte-level tokenizers may begin or end inside a character. The text is widened to whole characters, so that it
is exact text of the document; `byte_start` and `n_bytes` stay those of the tokens. NULL where texts were dropped.

The price: a query of `text` reads the texts of all documents of the runs that it names, whatever its `limit` (some
0.3 GB a second on two busy cores; memory does not grow with them). A query of the other columns opens no text.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas import DOCUMENTS, SPANS

MEMORIZED_SPANS = "memorized_spans"

_OF_DOCUMENT = ("key", "source", "row", "label", "domain", "attributes")


def _inside(place: str) -> str:
    """Whether the byte at a 0-based place goes on with a character. Behind the end there is none."""
    return f"(hex(bytes[{place} + 1:{place} + 1]) between '80' and 'BF')"


def memorized_sql(spans: str = SPANS.name) -> str:
    """The SELECT of the view, in the order in which its columns are read; of some of the `spans` under another name."""
    of_document = ", ".join(f'd."{name}"' for name in _OF_DOCUMENT)
    selected = ", ".join(f'"{name}"' for name in _OF_DOCUMENT)
    begin = " ".join(f"when not {_inside(f'byte_start - {back}')} then byte_start - {back}" for back in range(3))
    end = " ".join(f"when not {_inside(f'byte_end + {on}')} then byte_end + {on}" for on in range(3))
    return f"""
with joined as (
  select s.*, s.byte_start + s.n_bytes as byte_end, encode(d.text) as bytes, {of_document}
  from {spans} s
  left join documents d on d.run_id = s.run_id and d.doc_id = s.doc_id
)
select
  run_id, kind, n_tokens, n_misses,
  decode(bytes[(case {begin} else byte_start - 3 end) + 1:case {end} else byte_end + 3 end]) as text,
  {selected}, byte_start, n_bytes, logprob_sum, doc_id, position, parameters
from joined
order by n_tokens desc, run_id, doc_id, position, kind"""


def memorized_comments() -> Mapping[str, str]:
    """What each column is."""
    comments = {c.name: c.comment for c in SPANS.columns} | {name: DOCUMENTS[name].comment for name in _OF_DOCUMENT}
    return comments | {"text": "the document's text there, widened to whole characters; NULL where it was dropped"}
