"""What is comment in code, by language: marked by hand in the tests, never by another lexer; and hostile code."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import itertools
import typing
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import comments
from operators.comments import MAX_BYTES, check_language, comment_spans, comment_tokens, in_comment


def unmarked(marked: str) -> tuple[str, list[str]]:
    """A text without its marks, and what stood between them: `x = 1 «# why»`."""
    pieces = marked.replace("»", "«").split("«")
    return "".join(pieces), pieces[1::2]


def found(text: str, language: str) -> list[str]:
    """Comments as text, without the white space around them; comments on adjoining lines as one or as several."""
    spans = comment_spans(text, language)
    assert spans is not None
    encoded = text.encode()
    assert all(0 <= start < stop <= len(encoded) for start, stop in spans)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))
    return [encoded[start:stop].decode().strip() for start, stop in spans]


def check(marked: str, language: str) -> None:
    text, expected = unmarked(marked)
    assert found(text, language) == expected


PYTHON = {
    "comments": "«# first»\nx = 1  «# why»\n\n   «# indented»\ny = '# no' «# ünïcödé 漢字»",
    "module": '«# license»\n\n«"""Module."""»\nimport os\n"""not this one"""\n',
    "functions": "def f(a: int = 3, *b) -> dict[str, int]:\n    «'''doc\n    of two lines'''»\n    return {'a': 1}\n",
    "one line": "def f(): «'doc'»; x = 'no'\nclass A: «u'doc'» «# c»\nclass B: x = 'no'\n",
    "nested": 'class A(B, key=lambda: "no"):\n    «"doc"»\n\n    class C:\n\n        «r"""doc"""»\n'
    '        def f(self):\n            «"doc"»\n            "no"\n',
    "decorators": '@wraps("no")\n@property\nasync def f(self):\n\n    «# c»\n    «"""doc"""»\n',
    "tabs": "if x:\n\tdef f():\n\t\t«'doc'»\n\t\treturn 'no' «# c»\n",
    "bytes and f-strings": "def f():\n    f'''no {x} # no'''\ndef g():\n    b'no'\ndef h():\n    rb'no'\n",
    "f-strings": "x = f'# {a!r:>{w}} # no' «# {yes}»\n",
    "parts": "def f():\n    «'one'» «'two'»\ndef g():\n    'one' f'two'\ndef h():\n    'one' + x\n",
    "expressions": "def f():\n    'a'.join(b)\ndef g():\n    'a', 'b'\ndef h():\n    x = 'c'\n    'd'\n",
    "other blocks": "if x:\n    'no'\nfor y in z: 'no'\nwith a: 'no'\ntry:\n    'no'\nfinally: 'no'\n",
    "slices": "x[1:2]\n'no'\nd = {'a': 'no'}\n",
    "continued": "def f(\n    a,  «# of a»\n    b='no',\n):\n    «'''doc'''»\n    return a + \\\n        b  «# c»\n",
    "line ends": "x = 1 «# a»\r\ndef f():\r\n    «'''doc\r\n    more'''»\r\n    pass\r\n",
    "empty": "",
    "nothing but white space": " \n\t\n ",
    "body of a function": "    «'''doc'''»\n    x = 1 «# c»\n",
}


@pytest.mark.parametrize("marked", PYTHON.values(), ids=PYTHON.keys())
def test_python(marked: str) -> None:
    check(marked, "python")


BROKEN = {
    "open bracket": 'def f(:\n    «"""doc"""»\n    x = "# no" «# yes»\n',
    "unindent to nowhere": "        a = 1 «# one»\n    b = 2 «# two»\n",
    "open string": "x = 'abc\ny = 1 «# c»\n",
    "magic": "!pip install x\n%matplotlib inline\nx = 1 «# c»\n",
}


@pytest.mark.parametrize("marked", BROKEN.values(), ids=BROKEN.keys())
def test_python_that_does_not_tokenize(marked: str) -> None:
    check(marked, "python")


@pytest.mark.parametrize("module", [argparse, ast, comments, dataclasses, typing], ids=lambda m: m.__name__)
def test_docstrings_are_those_that_python_finds(module: ModuleType) -> None:
    """What `ast` calls a docstring is one, and no other string is."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    holders = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, holders) and ast.get_docstring(n) is not None]
    expected = sorted(node.body[0].lineno for node in nodes)
    spans, encoded = comment_spans(source, "python") or [], source.encode()
    strings = [start for start, _ in spans if encoded[start : start + 1] != b"#"]
    assert [1 + encoded[:start].count(b"\n") for start in strings] == expected
    assert expected


OTHERS = {
    "c": '#include <a.h> «// 1»\n#define X 1\n«/* 2\n 3 */» char *s = "/* no */ // no"; «// ünï»',
    "c++": 'auto s = R"(// no)"; int x; «/* a */»\r\n',
    "java": "«/** doc */» class A { char c = '\"'; «// c»\n}",
    "javascript": 'let u = "http://x"; «// 1»\nlet r = /[/*]/; «/* 2 */» let t = `// no ${1 + 1}`',
    "typescript": "let x: number = 1; «// c»\n",
    "sql": "select '--no', 1 «-- yes»\nfrom t «/* a\n b */» where x = 'it''s -- no'\n",
    "shell": '«#!/bin/sh»\necho "# no" $# ${x#y} «# yes»\ncat <<EOF\n# no\nEOF\n',
    "rust": 'fn f() { «/* a /* b */ c */» let s = "// no"; } «// d»',
    "go": "package a «// c»\n",
    "haskell": "«{- a {- b -} c -}» x = 1 «-- d»\n",
    "ruby": 'x = "#{1} # no" «# c»\n',
    "html": "<p>«<!-- c -->»</p>",
    "json": '{"# no": "// no"}',
    "text": "# no // no\n",
}


@pytest.mark.parametrize("language", OTHERS)
def test_other_languages(language: str) -> None:
    check(OTHERS[language], language)


def test_names_of_languages() -> None:
    assert [check_language(name) for name in ("C++", "cpp", " Python ", "py", "Shell")] == [
        "cpp", "cpp", "python", "python", "bash"
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"unknown language 'pythn': did you mean python"):
        check_language("pythn")
    with pytest.raises(ValueError, match=r"a name that Pygments knows"):
        check_language("\x1b[31m" * 1000)


def test_what_cannot_be_told_is_none() -> None:
    assert comment_spans("x = 1 # c", "no such language") is None
    assert comment_spans("#" * MAX_BYTES, "python") == [(0, MAX_BYTES)]
    assert comment_spans("#" * (MAX_BYTES + 1), "python") is None
    assert comment_spans("é" * (MAX_BYTES // 2 + 1), "python") is None


@pytest.mark.parametrize(
    ("language", "text"), [("c", "int a\n" * 5000), ("java", "a " * 15_000), ("python", "\n" * 9000)]
)
def test_lexing_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch, language: str, text: str) -> None:
    """Nothing more than is allowed, and no flags."""
    monkeypatch.setattr(comments, "BASE_SECONDS", 0.0)
    monkeypatch.setattr(comments, "SECONDS_PER_BYTE", 1e-7)
    assert comment_spans(text, language) is None


@pytest.mark.parametrize(
    "marked",
    [
        "int x; «// a»\n{gap}y = 1; «/* b»\n{gap}«*/» int z; «// é»",
        '{gap}«# c»{gap}\n«# d»\nx = "# {gap} no" «# e»{gap}',
        "«/* ä {gap} b */» x = «/* {gap} */» 1;",
    ],
    ids=["lines", "ends", "inside"],
)
@pytest.mark.parametrize("gap", ["\n", " ", "\t \r\n"], ids=["lines", "spaces", "mixed"])
def test_long_white_space_changes_nothing_and_costs_nothing(marked: str, gap: str) -> None:
    """Bytes in comments are as with one of them; a lexer of C takes minutes for as many empty lines."""
    language = "shell" if "#" in marked else "c"

    def commented(text: str) -> bytes:
        encoded, spans = text.encode(), comment_spans(text, language)
        assert spans is not None
        return b"".join(b"".join(encoded[start:stop].split()) for start, stop in spans)

    text = unmarked(marked)[0]
    assert commented(text.replace("{gap}", gap * 60_000)) == commented(text.replace("{gap}", gap))


def test_places_of_comments_behind_long_white_space() -> None:
    gap = "\n" * 5000
    assert comment_spans(f"é;{gap}// a", "c") == [(5003, 5007)]
    assert comment_spans(f"/* a{gap}*/ é // b", "c") == [(0, 5006), (5010, 5014)]


def test_a_lexer_that_fails_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(comments, "_lexed", fail)
    assert comment_spans("int x; // c", "c") is None
    assert comment_spans("x = 1 # c", "python") == [(6, 9)]


pieces = st.sampled_from(
    ["'", '"', '"""', "#", "//", "/*", "*/", "\n", "\r\n", "\r", "\t", " ", "\\", "def f():", "class A:", "(", ")",
     "{", "}", ":", "\x00", "\ufeff", "é", "漢", "😀", "\u0301", "--", "<!--", "<?php", "<<A", "`", "${", "=begin",
     "f'", "\x0c"]
)  # fmt: skip
hostile = st.lists(pieces | st.text(max_size=5), max_size=40).map("".join)


@settings(max_examples=60, deadline=None)
@given(hostile, st.sampled_from(["python", "c", "javascript", "sql", "bash", "php", "html", "perl", "ruby", "haskell"]))
def test_any_text_gives_sound_spans_or_none(text: str, language: str) -> None:
    text = text.encode(errors="ignore").decode()
    spans = comment_spans(text, language)
    assert spans == comment_spans(text, language)
    for (start, stop), (following, _) in zip(spans or [], [*(spans or []), (1 << 40, 0)][1:], strict=True):
        assert start < stop < following
        text.encode()[start:stop].decode()  # at the borders of characters
        assert stop <= len(text.encode())


def documents(*rows: dict[str, object]) -> pa.Table:
    """Of each: `text`, `tokens` as lengths in bytes, and where given `prompt_bytes` and `attributes`."""
    made = []
    for row in rows:
        sizes = row["tokens"]
        assert isinstance(sizes, list)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        made.append({"prompt_bytes": None, "attributes": None, **row, "byte_start": starts, "n_bytes": sizes})
    schema = pa.schema(
        [
            ("text", pa.string()),
            ("prompt_bytes", pa.int64()),
            ("attributes", pa.map_(pa.string(), pa.string())),
            ("byte_start", pa.large_list(pa.int32())),
            ("n_bytes", pa.large_list(pa.int16())),
        ]
    )
    return pa.Table.from_pylist(made, schema=schema)


def test_a_token_is_in_a_comment_if_it_holds_a_byte_of_it_that_is_not_white_space() -> None:
    #  "x" "" " " " #" " " "c\n" "y" " # d" "\n"
    text, tokens = "x  # c\ny # d\n", [1, 0, 1, 2, 1, 2, 1, 4, 1]
    flags = in_comment(documents({"text": text, "tokens": tokens}), language="python")
    assert flags.to_pylist() == [False, False, False, True, False, True, False, True, False]


def test_pieces_of_a_character_are_in_its_comment() -> None:
    flags = in_comment(documents({"text": "é#漢é", "tokens": [1, 1, 1, 1, 1, 1, 2]}), language="python")
    assert flags.to_pylist() == [False, False, *[True] * 5]


def test_what_follows_a_prompt_is_code_and_the_prompt_is_not() -> None:
    prompt, code = "# Write a C function, it's urgent /* \n", "int x; // c\n"
    row = {"text": prompt + code, "tokens": [1] * len(prompt + code), "prompt_bytes": len(prompt)}
    flags = in_comment(documents(row), language="c").to_pylist()
    assert flags == [False] * (len(prompt) + 7) + [True, True, False, True, False]


def test_the_language_of_each_document_by_a_column() -> None:
    tokens = [1] * 6
    table = documents(
        {"text": "a // #", "tokens": tokens, "attributes": [("lang", "C"), ("other", "python")]},
        {"text": "a // #", "tokens": tokens, "attributes": [("lang", "Python")]},
        {"text": "a // #", "tokens": tokens, "attributes": [("lang", "Klingon")]},
        {"text": "a // #", "tokens": tokens, "attributes": [("other", "python")]},
        {"text": "a // #", "tokens": tokens},
    )
    flags = in_comment(table, language_column="lang")
    expected = [[False] * 2 + [True, True, False, True], [False] * 5 + [True], *[[None] * 6] * 3]
    assert flags.to_pylist() == [flag for row in expected for flag in row]
    counts = comment_tokens(pa.chunked_array([flags]), np.full(5, 6))
    assert counts.to_pylist() == [3, 1, None, None, None]


def test_another_attempt_repeats_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second text is near its limit of time: this attempt alone would say otherwise than the one before."""
    table = documents({"text": "a // c", "tokens": [1] * 6}, {"text": "a " * 150, "tokens": [300]})
    flagged = [False, False, True, True, False, True]

    def flags(step: float, before: list[bool] | None) -> list[bool | None]:
        monkeypatch.setattr(comments, "time", SimpleNamespace(thread_time=itertools.count(0.0, step).__next__))
        return list(in_comment(table, language="c", before=before).to_pylist())

    assert flags(1e-4, None) == flags(1e-2, [True, True]) == [*flagged, False]
    assert flags(1e-2, None) == flags(1e-4, [True, False]) == [*flagged, None]
    assert flags(1.0, [True, True]) == [*flagged, None]  # this one took far longer than before


def test_no_documents_have_no_flags() -> None:
    flags = in_comment(documents(), language="python")
    assert flags.type == pa.bool_()
    assert comment_tokens(pa.chunked_array([flags]), np.zeros(0, np.int64)).to_pylist() == []
