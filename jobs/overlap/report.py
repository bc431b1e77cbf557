"""What `assay overlap` prints: shares of n-grams seen, items by rule, the longest matches, and what to cut.

A share of items is given with its exact interval (Clopper and Pearson 1934), as of a sample of items like these. Items
with fewer words than an n-gram have no share: they are counted apart and in no rate.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.errors import printable

if TYPE_CHECKING:
    import duckdb

    from operators.lake import Lake

_SHOWN = 5  # matches
_MANY = 10_000  # items, from which on a tenth of a per cent hides the interval
_TEXT = 60  # characters of a match or a key
_RULES = (("any", "n_seen > 0"), ("50 % or more", "share_seen >= 0.5"), ("80 % or more", "share_seen >= 0.8"),
          ("all", "n_seen = n_ngrams"))  # fmt: skip
_PARTS = ("input", "answer", "across", "all")

_ITEMS = """
select part, count(*) filter (n_ngrams > 0) as counted, {rules}, max(longest_match) as longest
from overlap_items where overlap = $name group by part
"""
_SHARES = """
select
  case when n_seen = 0 then -1 when n_seen = n_ngrams then 10 else least(9, floor(10 * share_seen))::int end as tenth,
  count(*) as items
from overlap_items where overlap = $name and part = 'all' and n_ngrams > 0 group by tenth order by tenth
"""
_LONGEST = """
select s.n_words, i.key, s.part, s.key, s.byte_start, s.n_bytes, s.text
from (select * from overlap_spans where overlap = $name order by n_words desc, doc_id, byte_start, item_id limit $n) s
join overlap_items i on i.overlap = $name and i.item_id = s.item_id and i.part = 'all'
order by s.n_words desc, s.doc_id, s.byte_start, s.item_id
"""
_DOCUMENTS = """
select count(distinct doc_id), count(distinct source) from overlap_spans where overlap = $name
"""


def warn_of_rejects(said: Mapping[str, Any]) -> None:
    """What could not be compared, by reason, on standard error."""
    for side in ("benchmark", "corpus"):
        reasons = said["rejects"][side]
        n = sum(found["n"] for found in reasons.values())
        if n:
            records = "1 record was" if n == 1 else f"{n:,} records were"
            print(f"warning: of the {side} {records} rejected and not compared:", file=sys.stderr)
        for reason, found in sorted(reasons.items()):
            shown = printable(found["first"].replace("\n", "\\n"))
            print(f"  {found['n']:>9,}  {reason}; the first: {shown}", file=sys.stderr)


def print_report(lake: Lake, said: Mapping[str, Any], console: Console) -> None:
    """The page, from the tables as the lake has them."""
    from operators.catalog import connect

    with connect(lake.root, storage_options=lake.storage_options, macros=False) as connection:
        for line in _head(said):
            console.print(escape(line), soft_wrap=True)
        bound = {"name": said["overlap"]}
        console.print(_rules(connection, bound))
        if said["totals"]["items"] > said["totals"]["items_without_ngrams"]:
            console.print(_shares(connection, bound))
        _print_longest(connection, bound, said, console)
        for line in _cuts(connection, bound, said):
            console.print(escape(line), soft_wrap=True)
    for line in _next(lake.root, said["overlap"]):
        console.print(escape(line), soft_wrap=True)


def _head(said: Mapping[str, Any]) -> Iterator[str]:
    totals, options = said["totals"], said["options"]
    yield (
        f"overlap {said['overlap']}: {_many(totals['items'], 'item')} against {_many(totals['documents'], 'document')} "
        f"({totals['text_bytes']:,} bytes), {options['n']}-grams of {options['normalisation']}, "
        f"in {said['seconds']:.1f} s"
    )
    short = totals["items_without_ngrams"]
    if short:
        yield f"{_many(short, 'item')} shorter than {options['n']} words: no n-gram, no share, in no rate below"
    if short == totals["items"]:
        yield "so nothing can match: choose a smaller --ngram, under another --name"


def _rules(connection: duckdb.DuckDBPyConnection, bound: Mapping[str, Any]) -> Table:
    """By part: items with an n-gram, and how many of them each rule takes, with its interval."""
    rules = ", ".join(f"count(*) filter (n_ngrams > 0 and {sql})" for _, sql in _RULES)
    rows = {row[0]: row[1:] for row in connection.execute(_ITEMS.format(rules=rules), dict(bound)).fetchall()}
    table = Table(title="items by n-grams seen", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in ("part", "n-grams seen", "items", "of", "share", "95 % interval", "longest match"):
        table.add_column(name, justify="left" if name in ("part", "n-grams seen") else "right")
    for part in (part for part in _PARTS if part in rows):
        counted, *hits, longest = rows[part]
        for (rule, _), n in zip(_RULES, hits, strict=True):
            is_first = rule == _RULES[0][0]
            names = (part if is_first else "", rule, f"{n:,}", f"{counted:,}", *_rate(n, counted))
            table.add_row(*names, _many(longest, "word") if is_first else "")
    return table


def _rate(hits: int, of: int) -> tuple[str, str]:
    """The share and its interval, in per cent."""
    if not of:
        return "-", "-"
    from scipy.stats import binomtest

    ends = binomtest(hits, of).proportion_ci(0.95, method="exact")
    digits = 1 if of < _MANY else 3
    low, high = (f"{100 * end:.{digits}f}" for end in ends)
    return f"{100 * hits / of:.{digits}f} %", f"{low} to {high} %"


def _shares(connection: duckdb.DuckDBPyConnection, bound: Mapping[str, Any]) -> Table:
    """How the shares of whole items are spread."""
    rows = dict(connection.execute(_SHARES, dict(bound)).fetchall())
    most = max(rows.values(), default=1)
    table = Table(title="share of an item's n-grams seen", title_justify="left", box=None, pad_edge=False,
                  show_header=False)  # fmt: skip
    names = {-1: "none", 10: "all", **{tenth: f"{10 * tenth} to {10 * tenth + 10} %" for tenth in range(10)}}
    names[0] = "some, to 10 %"
    for tenth in (-1, *range(11)):
        if tenth in rows:
            n = rows[tenth]
            table.add_row(names[tenth], f"{n:,}", "█" * max(1, round(30 * n / most)))
    return table


def _print_longest(
    connection: duckdb.DuckDBPyConnection, bound: Mapping[str, Any], said: Mapping[str, Any], console: Console
) -> None:
    rows = connection.execute(_LONGEST, {**bound, "n": _SHOWN}).fetchall()
    if not rows:
        held = said["totals"]["hit_documents"]
        console.print("no match to list" if held else "no document of the corpus holds an n-gram of the benchmark")
        return
    table = Table(title="longest matches", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("words", justify="right")
    for name in ("item", "part", "document", "bytes", "text"):
        table.add_column(name, overflow="fold")
    for n_words, item, part, document, start, n_bytes, text in rows:
        cells = (_clip(item), part, _clip(document, start=True), f"{start:,} + {n_bytes:,}", _clip(text))
        table.add_row(f"{n_words:,}", *(escape(cell) for cell in cells))
    console.print(table)


def _cuts(connection: duckdb.DuckDBPyConnection, bound: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[str]:
    totals, options = said["totals"], said["options"]
    ((documents, files),) = connection.execute(_DOCUMENTS, dict(bound)).fetchall()
    yield f"matches: {totals['spans']:,}, in {_many(documents, 'document')} of {_many(files, 'file')}"
    if totals["common"]:
        yield (
            f"{_many(totals['common'], 'n-gram')} by document count as seen and are cut, but are too common to start a "
            "match (--most-items): longest matches and numbers of documents are at least what is said"
            + (", and rule share may miss a document" if options["drop"].startswith("share") else "")
        )
    said_cuts = f"{_many(totals['cuts'], 'stretch', 'es')} of {totals['cut_bytes']:,} bytes"
    held = _many(totals["hit_documents"], "document")
    yield (
        f"decontamination (drop {options['drop']}, margin {options['margin']}): {said_cuts} in {held}, "
        f"of which {totals['dropped_documents']:,} to drop whole"
    )


def _next(root: str, name: str) -> Iterator[str]:
    lake = printable(shlex.quote(root))
    yield f"next:    assay sql {lake} \"from overlap_items where overlap = '{name}' order by share_seen desc limit 5\""
    yield f"         assay sql {lake} \"from overlap_spans where overlap = '{name}' order by n_words desc limit 5\""
    drop = f"select source, row, key from decontamination where overlap = '{name}' and drop_document group by all"
    yield f'         assay sql {lake} "{drop}"'


def _many(n: int, what: str, ending: str = "s") -> str:
    return f"{n:,} {what}{ending * (n != 1)}"


def _clip(text: str, *, start: bool = False) -> str:
    """One line of printable text; of a path the end says more."""
    shown = printable(text[-_TEXT:] if start else text[:_TEXT]).replace("\n", "\\n")
    if len(text) <= _TEXT:
        return shown
    return f"...{shown}" if start else f"{shown}..."
