"""A corpus of every bad input there is, in every format, that says exactly which documents and rejects it must give.

    expected = badcorpus.make(folder)
    expected.documents    (source, row) -> (key, text)
    expected.rejects      (source, row) -> reason
    expected.cut          shards that break off: how many rows must survive is a range

Read it with id column `id`, label column `label` and at most `MAX_BYTES` a document. Input order is by URI, then row:
the first record with an id has it, even if it is itself a reject for another reason.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from schemas.rejects import Reason

MAX_BYTES = 20_000

HOSTILE_TEXTS = (
    "'; drop table documents; --",
    "\"; copy documents to '/tmp/stolen'; --",
    "$1 ? %s {0} :name @x ${HOME} `id` $(id)",
    "../../x",
    "/etc/passwd",
    "..\\..\\x",
    "C:\\x\0.parquet",
    "two\nlines\r\nand\ttab",
    "\0",
    "\x1b[31mred\x1b[0m\x07\x08",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe\N{POP DIRECTIONAL FORMATTING}\N{LEFT-TO-RIGHT ISOLATE}",
    "<script>alert(1)</script>&amp;<img src=x onerror=alert(1)>",
    "[bold red]markup[/] [link=file:///etc/passwd]x[/link]",
    "\N{GRINNING FACE}\N{MUSICAL SYMBOL G CLEF}\U0010ffff\U000e0001",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "\N{BYTE ORDER MARK}marked",
    "\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}\x85\x0b\x0c",
    "=cmd|' /C calc'!A1",
    "NULL",
    "nan",
    "run_id=other/0123456789abcdef0123456789abcdef.parquet",
    "file.parquet#7",
    "*?[a-z]",
    " ",
    "<s></s>",
)
HOSTILE_NAMES = (
    "it's.txt",
    'quo"te.txt',
    "sp ace.txt",
    "per%2Fcent%00.txt",
    "ha#sh.txt",
    "what?.txt",
    "st*r.txt",
    "br[a]cket.txt",
    "{brace}.txt",
    "semi;drop table tokens;.txt",
    "$HOME.txt",
    "back\\slash.txt",
    "chain::zip.txt",
    "new\nline.txt",
    "\N{RIGHT-TO-LEFT OVERRIDE}txt.exe.txt",
    "<b>[red]bold.txt",
    "\N{LATIN SMALL LETTER U WITH DIAERESIS}n\N{GRINNING FACE}.txt",
    "u\N{COMBINING DIAERESIS}n.txt",
    "--limit=1.txt",
    "run_id=other.txt",
)


@dataclass(frozen=True)
class Cut:
    """A shard whose rows break off: rows 0 to k - 1 are documents with `texts`, `least` <= k <= len(texts), and row k
    (-1 if k is 0) is `unreadable_shard`."""

    texts: tuple[str, ...]
    least: int


@dataclass
class BadCorpus:
    """What must come out. `empty`: shards that hold no record at all."""

    folder: Path
    documents: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    rejects: dict[tuple[str, int], Reason] = field(default_factory=dict)
    cut: dict[str, Cut] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)

    def path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def lines(self, name: str, rows: Iterable[Row], pack: Callable[[bytes], bytes] = lambda data: data) -> None:
        """A JSON Lines file of these rows."""
        rows = list(rows)
        path = self.path(name)
        path.write_bytes(pack(b"".join(row.line + b"\n" for row in rows)))
        self.expect(path, rows)

    def expect(self, path: Path, rows: Iterable[Row]) -> None:
        for number, row in enumerate(rows):
            if isinstance(row.gives, Reason):
                self.rejects[str(path), number] = row.gives
            elif row.gives is not None:
                self.documents[str(path), number] = row.gives

    def file(self, name: str, data: bytes, gives: str | Reason | None) -> None:
        """A file of these bytes that is one document, one reject as a whole or of its only row, or nothing."""
        path = self.path(name)
        path.write_bytes(data)
        if gives is None:
            self.empty.add(str(path))
        elif isinstance(gives, Reason):
            self.rejects[str(path), -1 if gives is Reason.UNREADABLE_SHARD else 0] = gives
        else:
            self.documents[str(path), 0] = (f"{path}#0", gives)

    def broken(self, name: str, data: bytes, texts: Iterable[str], least: int) -> None:
        path = self.path(name)
        path.write_bytes(data)
        self.cut[str(path)] = Cut(tuple(texts), least)


@dataclass(frozen=True)
class Row:
    """A line of JSON and what it gives: (key, text), a reason, or nothing because it is blank."""

    line: bytes
    gives: tuple[str, str] | Reason | None


def _good(key: str | int, text: str, **more: Any) -> Row:
    return Row(_json({"id": key, "text": text, **more}), (str(key), text))


def _bad(reason: Reason, record: Any) -> Row:
    return Row(record if isinstance(record, bytes) else _json(record), reason)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def make(folder: Path) -> BadCorpus:
    """Write the corpus into `folder` and say what it must give."""
    corpus = BadCorpus(folder)
    _lines(corpus)
    _hostile(corpus)
    _compressed(corpus)
    _parquet(corpus)
    _arrow(corpus)
    _text_files(corpus)
    return corpus


def _lines(corpus: BadCorpus) -> None:
    deep = b"[" * 400 + b"]" * 400
    too_deep = b"[" * 600 + b"]" * 600
    corpus.lines(
        "a-faults.jsonl",
        [
            _good("a-0", "the first document"),
            _bad(Reason.BROKEN_JSON, b'{"id": "a-1", "text": "cut'),
            _bad(Reason.BROKEN_JSON, b"{'id': 'single quotes'}"),
            _bad(Reason.BROKEN_JSON, b"\x00\x01\x02"),
            _bad(Reason.BROKEN_JSON, b'{"id": "a-4", "text": "raw control \x01"}'),
            _bad(Reason.BROKEN_JSON, b'{"id": "a-5", "text": "x"} trailing'),
            _bad(Reason.BROKEN_JSON, b'{"id": "a-6", "text": "x", "n": ' + b"9" * 5000 + b"}"),
            _bad(Reason.BROKEN_JSON, b'{"id": "a-7", "text": "x", "deep": ' + too_deep + b"}"),
            _bad(Reason.BROKEN_JSON, b"[" * 100_000),
            _bad(Reason.NOT_AN_OBJECT, [1, 2]),
            _bad(Reason.NOT_AN_OBJECT, "text"),
            _bad(Reason.NOT_AN_OBJECT, None),
            _bad(Reason.NOT_AN_OBJECT, 7),
            _bad(Reason.MISSING_TEXT, {"id": "a-missing"}),
            _bad(Reason.MISSING_TEXT, {"id": "a-other-case", "Text": "x"}),
            _bad(Reason.NULL_TEXT, {"id": "a-null", "text": None}),
            _bad(Reason.TEXT_NOT_STRING, {"id": "a-number", "text": 5}),
            _bad(Reason.TEXT_NOT_STRING, {"id": "a-list", "text": ["x"]}),
            _bad(Reason.TEXT_NOT_STRING, {"id": "a-object", "text": {"text": "x"}}),
            _bad(Reason.TEXT_NOT_STRING, {"id": "a-true", "text": True}),
            _bad(Reason.EMPTY_TEXT, {"id": "a-empty", "text": ""}),
            _bad(Reason.INVALID_UTF8, b'{"id": "a-bytes", "text": "\xff"}'),
            _bad(Reason.INVALID_UTF8, b'{"id": "a-overlong", "text": "\xc0\xaf"}'),
            _bad(Reason.INVALID_UTF8, b'{"id": "a-surrogate", "text": "\\ud800 alone"}'),
            _bad(Reason.INVALID_KEY, {"text": "no id"}),
            _bad(Reason.INVALID_KEY, {"id": None, "text": "x"}),
            _bad(Reason.INVALID_KEY, {"id": True, "text": "x"}),
            _bad(Reason.INVALID_KEY, {"id": 1.5, "text": "x"}),
            _bad(Reason.INVALID_KEY, {"id": [], "text": "x"}),
            _bad(Reason.INVALID_KEY, {"id": "", "text": "x"}),
            _bad(Reason.INVALID_KEY, {"id": "k" * 4097, "text": "x"}),
            _bad(Reason.INVALID_KEY, b'{"id": "\\udc00", "text": "x"}'),
            _bad(Reason.INVALID_LABEL, {"id": "a-label-2", "text": "x", "label": 2}),
            _bad(Reason.INVALID_LABEL, {"id": "a-label-yes", "text": "x", "label": "yes"}),
            _bad(Reason.INVALID_LABEL, b'{"id": "a-label-nan", "text": "x", "label": NaN}'),
            _bad(Reason.DUPLICATE_KEY, {"id": "a-0", "text": "another text under the first key"}),
            _bad(Reason.DUPLICATE_KEY, {"id": "a-0", "text": "and once more"}),
            _bad(Reason.DUPLICATE_KEY, {"id": "a-empty", "text": "its first record was a reject"}),
            _bad(Reason.EMPTY_TEXT, {"id": "a-0", "text": ""}),
            _bad(Reason.DOCUMENT_TOO_LARGE, {"id": "a-large", "text": "x" * (MAX_BYTES + 1)}),
            _bad(Reason.DOCUMENT_TOO_LARGE, {"id": "a-large-bytes", "text": "é" * (MAX_BYTES // 2) + "x"}),
            _bad(Reason.DOCUMENT_TOO_LARGE, {"id": "a-long-line", "text": "y" * 3_000_000}),
            _good("a-long-other", "short text of a long line", other="z" * 3_000_000),
            _good("a-largest", "word " * (MAX_BYTES // 5)),
            Row(b'{"id": "a-deep", "text": "deep", "more": ' + deep + b"}", ("a-deep", "deep")),
            Row(b"", None),
            Row(b" \t\r", None),
            Row(b'{"id": "a-pair", "text": "\\ud83d\\ude00"}', ("a-pair", "\N{GRINNING FACE}")),
            Row(b'{"id": "a-twice", "text": "first", "text": "last one"}', ("a-twice", "last one")),
            _good(17, "an integer key"),
            _bad(Reason.DUPLICATE_KEY, {"id": "17", "text": "the same key as text"}),
            _good("everywhere", "the first of all shards has it"),
            _good("k" * 4096, "the longest key"),
        ],
    )  # fmt: skip
    corpus.lines("b-marked.jsonl", [Row(b"\xef\xbb\xbf" + _json({"id": "b-0", "text": "marked"}), ("b-0", "marked"))])
    corpus.lines("z-last.ndjson", [
        _bad(Reason.DUPLICATE_KEY, {"id": "everywhere", "text": "the last of all shards"}),
        _bad(Reason.DUPLICATE_KEY, {"id": "a-label-2", "text": "its first record was a reject of another shard"}),
        _good("z-1", "the last document"),
    ])  # fmt: skip
    corpus.file("c-zero.jsonl", b"", None)
    corpus.file("c-blank.jsonl", b"\n\n  \n", None)
    corpus.file("c-only-a-mark.jsonl", b"\xef\xbb\xbf", None)


def _hostile(corpus: BadCorpus) -> None:
    corpus.lines("h-keys-and-texts.jsonl", [_good(text, text, label=1) for text in HOSTILE_TEXTS])
    for name in HOSTILE_NAMES:
        corpus.file(f"names/{name}", f"the text of {name!r}".encode(), f"the text of {name!r}")
    corpus.file("names/'; drop table documents; --/in a folder.txt", b"deeper", "deeper")
    corpus.file("names/bad 'text'.txt", b"\xff", Reason.INVALID_UTF8)


def _compressed(corpus: BadCorpus) -> None:
    for suffix, pack in ((".gz", gzip.compress), (".zst", _zstd)):
        name = suffix[1:]
        again = _bad(Reason.DUPLICATE_KEY, {"id": "everywhere", "text": f"in {name}"})
        corpus.lines(f"e-whole.jsonl{suffix}", [_good(f"e-{name}", f"from {name}"), again], pack)
        # Two members: the first is whole, but its last rows, within the piece that is read with the break, may go.
        texts, lines = _packed_rows(f"cut-{name}")
        first, second = pack(b"".join(lines[:40])), pack(b"".join(lines[40:]))
        corpus.broken(f"d-cut.jsonl{suffix}", first + second[: len(second) // 2], texts, 28)
        texts, lines = _packed_rows(f"no-tail-{name}")
        corpus.broken(f"d-no-tail.jsonl{suffix}", pack(b"".join(lines))[:-6], texts, 0)
        corpus.file(f"f-zero.jsonl{suffix}", b"", Reason.UNREADABLE_SHARD)
        corpus.file(f"f-none.jsonl{suffix}", b"this is no compressed stream\n", Reason.UNREADABLE_SHARD)
        corpus.file(f"f-zero.txt{suffix}", b"", Reason.UNREADABLE_SHARD)
        corpus.file(f"f-cut.txt{suffix}", pack(_noise(99, 9000).encode())[:-20], Reason.UNREADABLE_SHARD)
        corpus.file(f"f-good.txt{suffix}", pack(b"a packed text file"), "a packed text file")
        corpus.file(f"f-bomb.txt{suffix}", pack(b"0" * 5_000_000), Reason.DOCUMENT_TOO_LARGE)


def _packed_rows(name: str) -> tuple[list[str], list[bytes]]:
    """Texts of some 300 bytes, and their lines."""
    texts = [f"{name} {i} {_noise(i)}" for i in range(60)]
    return texts, [_good(f"{name}-{i}", text).line + b"\n" for i, text in enumerate(texts)]


def _noise(seed: int, size: int = 300) -> str:
    """Text that does not compress away."""
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz ", k=size))


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def _unchecked(values: list[bytes | None]) -> Any:
    """A string column that nobody checked for UTF-8."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())


_TABLE_ROWS: tuple[tuple[str | None, bytes | None, int | None, Reason | None], ...] = (
    ("{}-0", b"from a table", 1, None),
    ("{}-1", None, 0, Reason.NULL_TEXT),
    ("{}-2", b"", 0, Reason.EMPTY_TEXT),
    ("{}-3", b"\xff\xfe", 0, Reason.INVALID_UTF8),
    ("{}-4", b"\xed\xa0\x80", 0, Reason.INVALID_UTF8),  # a surrogate in UTF-8
    (None, b"no id", 0, Reason.INVALID_KEY),
    ("", b"an empty id", 0, Reason.INVALID_KEY),
    ("{}-7", b"label", 9, Reason.INVALID_LABEL),
    ("{}-0", b"again", 0, Reason.DUPLICATE_KEY),
    ("everywhere", b"again", 0, Reason.DUPLICATE_KEY),
    ("{}-10", b"x" * (MAX_BYTES + 1), 0, Reason.DOCUMENT_TOO_LARGE),
    ("{}-11", "nul \0, quote ' and \N{GRINNING FACE}".encode(), None, None),
)


def _faulty_table(corpus: BadCorpus, path: Path, name: str) -> Any:
    """A table with a fault of each kind, expected of `path`."""
    ids = [None if key is None else key.format(name) for key, *_ in _TABLE_ROWS]
    for row, (key, (_, text, _, reason)) in enumerate(zip(ids, _TABLE_ROWS, strict=True)):
        if reason is not None:
            corpus.rejects[str(path), row] = reason
        else:
            assert key is not None
            assert text is not None
            corpus.documents[str(path), row] = (key, text.decode())
    return pa.table({
        "id": pa.array(ids, pa.string()),
        "text": _unchecked([text for _, text, _, _ in _TABLE_ROWS]),
        "label": pa.array([label for _, _, label, _ in _TABLE_ROWS], pa.int8()),
    })  # fmt: skip


def _plain_table(name: str, n: int) -> Any:
    return pa.table({
        "id": [f"{name}-{i}" for i in range(n)],
        "text": [f"row {i} of {name} {_noise(i)}" for i in range(n)],
        "label": pa.array([i % 2 for i in range(n)], pa.int8()),
    })  # fmt: skip


def _parquet(corpus: BadCorpus) -> None:
    path = corpus.path("p-faults.parquet")
    pq.write_table(_faulty_table(corpus, path, "p"), path)
    plain = _plain_table("p-plain", 40)
    whole = _parquet_bytes(plain)
    corpus.file("p-no-rows.parquet", _parquet_bytes(plain.slice(0, 0)), None)
    corpus.file("p-zero.parquet", b"", Reason.UNREADABLE_SHARD)
    corpus.file("p-cut.parquet", whole[: len(whole) // 2], Reason.UNREADABLE_SHARD)
    corpus.file("p-no-parquet.parquet", b"PAR1 not really PAR1", Reason.UNREADABLE_SHARD)
    corpus.file("p-no-footer.parquet", whole[:-400] + bytes(392) + whole[-8:], Reason.UNREADABLE_SHARD)
    no_text = plain.rename_columns(["id", "body", "label"])
    corpus.file("p-no-text-column.parquet", _parquet_bytes(no_text), Reason.UNREADABLE_SHARD)
    numbers = corpus.path("p-numbers.parquet")
    pq.write_table(pa.table({"id": ["p-n-0", "p-n-1"], "text": [1, 2], "label": [0, 1]}), numbers)
    corpus.rejects |= {(str(numbers), row): Reason.TEXT_NOT_STRING for row in (0, 1)}
    # A byte of the second row group is another: its page no longer has its checksum.
    damaged = bytearray(_parquet_bytes(_plain_table("p-damaged", 40), row_group_size=20))
    offset = _second_text_page(bytes(damaged))
    damaged[offset] ^= 0xFF
    corpus.broken("p-damaged.parquet", bytes(damaged), _plain_table("p-damaged", 40)["text"].to_pylist()[:20], 20)


def _parquet_bytes(table: Any, **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True, compression="none", use_dictionary=False, **how)
    return bytes(sink.getvalue())


def _second_text_page(data: bytes) -> int:
    """A place within the text of the second row group."""
    column = pq.read_metadata(pa.BufferReader(data)).row_group(1).column(1)
    return int(column.data_page_offset + column.total_compressed_size // 2)


def _arrow(corpus: BadCorpus) -> None:
    path = corpus.path("r-faults.arrow")
    path.write_bytes(_ipc(_faulty_table(corpus, path, "r")))
    plain = _plain_table("r-cut", 40)
    texts = plain["text"].to_pylist()
    whole = _ipc(plain, rows=10)
    corpus.broken("r-cut.arrow", whole[: len(whole) // 2], texts, 10)
    corpus.file("r-zero.arrow", b"", Reason.UNREADABLE_SHARD)
    corpus.file("r-no-arrow.arrow", b"ARROW1\0\0 not really", Reason.UNREADABLE_SHARD)
    corpus.file("r-no-rows.arrow", _ipc(plain.slice(0, 0)), None)
    feathered = corpus.path("r-feather.feather")
    feather.write_feather(_plain_table("r-feather", 2), str(feathered), compression="zstd")
    for row, text in enumerate(_plain_table("r-feather", 2)["text"].to_pylist()):
        corpus.documents[str(feathered), row] = (f"r-feather-{row}", text)


def _ipc(table: Any, rows: int | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return bytes(sink.getvalue())


def _text_files(corpus: BadCorpus) -> None:
    corpus.file("t-empty.txt", b"", Reason.EMPTY_TEXT)
    corpus.file("t-only-a-mark.txt", b"\xef\xbb\xbf", Reason.EMPTY_TEXT)
    corpus.file("t-binary.txt", bytes(range(256)), Reason.INVALID_UTF8)
    corpus.file("t-latin-1.txt", "caf\N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1"), Reason.INVALID_UTF8)
    corpus.file("t-cut-character.txt", "\N{GRINNING FACE}".encode()[:-1], Reason.INVALID_UTF8)
    corpus.file("t-large.txt", b"x" * (MAX_BYTES + 1), Reason.DOCUMENT_TOO_LARGE)
    corpus.file("t-largest.txt", b"word " * (MAX_BYTES // 5), "word " * (MAX_BYTES // 5))
    corpus.file("t-space.txt", b" ", " ")
    corpus.file("t-nul.txt", b"\0", "\0")
    corpus.file("t-lines.txt", b"\xef\xbb\xbfa\r\nb\rc\n", "a\r\nb\rc\n")


def causes() -> set[Reason]:
    """The reasons that input alone can cause. Not here: what takes another tokenizer, model or a prompt column, a
    transform, a worker that dies, or two keys of one 63-bit hash, which nobody can make at will."""
    others = {
        Reason.HASH_COLLISION, Reason.INVALID_PROMPT, Reason.KILLED_WORKER, Reason.NO_TOKENS, Reason.NON_FINITE_SCORE,
        Reason.TOKEN_OUTSIDE_VOCABULARY, Reason.TOKEN_SPAN_TOO_LONG, Reason.TOKENIZER_FAILED, Reason.USED_AS_PREFIX,
        Reason.EMPTY_AFTER_TRANSFORM,
    }  # fmt: skip
    return set(Reason) - others
