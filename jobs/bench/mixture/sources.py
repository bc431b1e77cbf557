"""Real text of this machine, by source: what a Linux system with Python has, read in place, none of it shipped.

    code          .py of the standard library and of installed packages, without docstrings
    docstrings    their docstrings
    headers       C and C++ headers: Python's, the system's, those of packages
    manuals       manual pages in roff, as they are stored
    german, french, russian, chinese, ...   messages of programs in a language (.mo)
    changelogs    of system packages
    web           .html, .js and .css of system packages

A document is at most `_DOCUMENT` characters of a file, or of the messages of a program in a language: pieces so small
are many even of a source that has few files, so that both halves of a source are of one kind and its share means one
thing. Which sources there are depends on the machine; the report names them, with their bytes.
"""

from __future__ import annotations

import gettext
import gzip
import os
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.mixture.sample import pieces

_SHARE = Path("/usr/share")
_DOCSTRING = re.compile(r'"""(.+?)"""', re.DOTALL)
_LONGEST = 200_000  # bytes of a file: longer ones are data, not text
_SHORTEST, _DOCUMENT = 400, 4096  # characters of a document
_LANGUAGES = {"german": "de", "french": "fr", "russian": "ru", "chinese": "zh_CN", "japanese": "ja", "spanish": "es"}


def _files(folders: Sequence[Path], suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files below folders, in an order that depends on names alone; links are not followed."""
    for folder in folders:
        for place, below, names in os.walk(folder):
            below.sort()
            for name in sorted(names):
                if name.endswith(suffixes) and not (path := Path(place, name)).is_symlink():
                    yield path


def _texts(folders: Sequence[Path], suffixes: tuple[str, ...]) -> Iterator[str]:
    for path in _files(folders, suffixes):
        try:
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            if len(data) <= _LONGEST:
                yield data.decode()
        except (OSError, EOFError, UnicodeDecodeError):
            continue


def _python() -> list[Path]:
    return [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]


def code() -> Iterator[str]:
    for text in _texts(_python(), (".py",)):
        yield _DOCSTRING.sub('""""""', text)


def docstrings() -> Iterator[str]:
    for text in _texts(_python(), (".py",)):
        yield "\n\n".join(found.strip() for found in _DOCSTRING.findall(text))


def headers() -> Iterator[str]:
    folders = [Path(sysconfig.get_path("include")), Path("/usr/include"), Path(sysconfig.get_path("purelib"))]
    yield from _texts(folders, (".h", ".hpp", ".cuh"))


def manuals() -> Iterator[str]:
    yield from _texts([_SHARE / "man" / section for section in ("man1", "man2", "man3", "man5", "man7", "man8")],
                      (".gz",))  # fmt: skip


def changelogs() -> Iterator[str]:
    yield from _texts([_SHARE / "doc"], (".gz", ".txt"))


def web() -> Iterator[str]:
    yield from _texts([_SHARE / "doc", Path(sysconfig.get_path("purelib"))], (".html", ".js", ".css"))


def _messages(code: str) -> Callable[[], Iterator[str]]:
    """The messages of every program in a language."""

    def documents() -> Iterator[str]:
        for path in _files([_SHARE / "locale" / code], (".mo",)):
            try:
                with path.open("rb") as file:
                    catalog = gettext.GNUTranslations(file)
            except (OSError, UnicodeDecodeError, ValueError):
                continue
            held: Mapping[object, str] = getattr(catalog, "_catalog", {})
            yield "\n".join(text for key, text in held.items() if key)

    return documents


SOURCES: Mapping[str, Callable[[], Iterator[str]]] = {
    "code": code,
    "headers": headers,
    "manuals": manuals,
    "docstrings": docstrings,
    "german": _messages("de"),
    "changelogs": changelogs,
    "russian": _messages("ru"),
    "web": web,
    **{name: _messages(code) for name, code in _LANGUAGES.items() if name not in ("german", "russian")},
}


def gather(name: str, n_bytes: int) -> list[str]:
    """Documents of a source, each once, until there are `n_bytes` of UTF-8 or no more."""
    found: dict[str, None] = {}
    held = 0
    for piece in (piece for text in SOURCES[name]() for piece in pieces(text, _DOCUMENT)):
        if len(piece) >= _SHORTEST and piece not in found:
            found[piece] = None
            held += len(piece.encode())
        if held >= n_bytes:
            break
    return list(found)
