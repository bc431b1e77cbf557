"""Real text with known truth and no download: fragments of the running Python's own standard library.

    <stdlib>/**/*.py -> cut (1 to 1.5 kB at line ends) -> drop tables and licence notices
                     -> draw, domain by domain, fragments that share no passage with any drawn before
                     -> deal labels and copies at random -> corpus.jsonl
                     -> as many again as are left, up to a bound -> background.jsonl

Labels are dealt after everything else is decided, so nothing in a text can tell its class: a classifier that sees only
texts is at chance, and whatever a score separates is the model's memory. Price of that care: pairwise distinct text
leaves about two fifths of the library to draw from, still nine times what the demonstration needs.
Members are not all alike: training shows each 1, 3, 9 or 27 times, as crawled text repeats itself, so that the corpus
holds both the hard case of membership (text seen once) and text that can be extracted word for word.
The background is text of the same kind that is in neither class: what a reference model learns from and where token
frequencies are counted.
The text is the reader's own copy of Python (PSF licence); none of it is shipped.
"""

from __future__ import annotations

import json
import random
import re
import sysconfig
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CORPUS_FILE, BACKGROUND_FILE = "corpus.jsonl", "background.jsonl"
MEMBER, HELD_OUT = 1, 0
COPIES = (1, 3, 9, 27)  # how often training shows a member: a quarter of them each

MIN_BYTES = 1000  # from here on a fragment ends at the next blank line,
MAX_BYTES = 1500  # and at this size at the next line end
LINE_BYTES = 200  # longer lines are data, not prose or code
LONG_LINE = 20  # characters, white space folded: no two fragments share a line this long,
WORD_RUN = 8  # nor this many words in a row, however the lines are broken
LETTERS = 0.68  # least share of letters among the visible characters: below it lie tables of numbers and code points

_SKIPPED_FOLDERS = frozenset(
    [
        "__phello__",
        "__pycache__",
        "dist-packages",
        "encodings",
        "ensurepip",
        "idle_test",
        "lib-dynload",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    ]
)
_SKIPPED_FILES = (
    "_sysconfigdata_*.py",
    "config-*/*",
    "html/entities.py",
    "stringprep.py",
    "this.py",
)  # generated tables, and a cipher
_NOTICES = ("copyright", "license", "licence", "all rights reserved")

# Top-level module or package -> domain. What is not named is "system", so a later Python's new modules have a home.
_DOMAINS = {
    "concurrency": "asyncio asynchat asyncore concurrent multiprocessing queue sched selectors signal subprocess "
    "_threading_local threading",
    "files": "bz2 compression _compression dbm filecmp fileinput fnmatch genericpath glob gzip io lzma netrc ntpath os "
    "pathlib pickle pickletools plistlib posixpath _pyio shelve shutil sqlite3 stat tarfile tempfile zipfile",
    "interface": "cmd curses getpass idlelib _pyrepl tkinter turtle",
    "language": "abc annotationlib _ast_unparse ast code codeop compileall contextlib copy copyreg "
    "dataclasses dis enum functools importlib inspect keyword operator py_compile pyclbr _py_abc runpy symtable "
    "tokenize types typing weakref _weakrefset zipimport",
    "internet": "cgi cgitb email ftplib http imaplib ipaddress mailbox mailcap mimetypes nntplib poplib smtpd smtplib "
    "socket socketserver ssl telnetlib urllib uuid webbrowser wsgiref xmlrpc",
    "numbers": "bisect calendar colorsys collections _collections_abc datetime _pydatetime decimal _pydecimal "
    "fractions graphlib hashlib heapq hmac numbers random secrets statistics _strptime zoneinfo",
    "text": "base64 codecs configparser csv difflib gettext html json locale _markupbase pprint quopri re reprlib "
    "shlex sre_compile sre_parse string textwrap tomllib xml",
    "tools": "argparse bdb cProfile distutils doctest getopt logging modulefinder optparse pdb profile "
    "pstats pydoc tabnanny timeit trace traceback tracemalloc unittest venv warnings zipapp",
}
_DOMAIN_OF = {module: domain for domain, modules in _DOMAINS.items() for module in modules.split()}


class DemoError(RuntimeError):
    """The demonstration cannot run here as asked; the message says what to change."""


@dataclass(frozen=True)
class Fragment:
    """A piece of one file. `source_file` is relative to the library, `line` is 1-based."""

    source_file: str
    line: int
    text: str

    @property
    def place(self) -> tuple[str, int]:
        return self.source_file, self.line

    @property
    def domain(self) -> str:
        top = self.source_file.partition("/")[0]
        return _DOMAIN_OF.get(top.removesuffix(".py"), "system")

    @property
    def marks(self) -> frozenset[str]:
        """What identifies the text wherever it was copied to: its long lines and its runs of words, case folded."""
        folded = (" ".join(line.split()) for line in self.text.casefold().split("\n"))
        words = re.findall(r"\w+", self.text.casefold())
        runs = (" ".join(words[i : i + WORD_RUN]) for i in range(len(words) - WORD_RUN + 1))
        return frozenset((*(line for line in folded if len(line) >= LONG_LINE), *runs))


@dataclass(frozen=True)
class CorpusInfo:
    """What was written: documents and UTF-8 bytes, and documents by domain and by copies (0 is held out).
    `background`: the file of that name."""

    path: Path
    background: Path
    members: int
    heldout: int
    copies: dict[int, int]
    n_bytes: int
    files: int
    domains: dict[str, int]


def build_corpus(
    folder: Path,
    n_members: int = 160,
    n_heldout: int = 160,
    seed: int = 0,
    *,
    n_background: int = 200,
    stdlib: Path | None = None,
) -> CorpusInfo:
    """Write `corpus.jsonl` to `folder`: `n_members` documents of label 1 and `n_heldout` of label 0.

    `background.jsonl` holds up to `n_background` others, each of label 1 and one copy: what it is for is shown to
    another model.

    A line is `{"id", "text", "label", "domain", "source_file", "line", "copies"}`; `copies` is how often training is to
    show the text, 0 for held-out. The same arguments on the same Python give the same bytes. Lines are in the order of
    the library, so neither ids nor order tell the class.

    Raises:
        DemoError: the library is absent, zipped or stripped of sources, or too small for the numbers asked.
        ValueError: a count below 1.
    """
    if n_members < 1 or n_heldout < 1:
        raise ValueError(f"a demonstration needs members and held-out text, got {n_members} and {n_heldout}")
    library = stdlib or Path(sysconfig.get_paths()["stdlib"])
    rng = random.Random(seed)
    n = n_members + n_heldout
    drawn = draw_fragments(fragments(library), n + n_background, rng)
    needed = n + min(1, n_background)
    if len(drawn) < needed:
        raise DemoError(
            f"{library} holds {len(drawn)} distinct fragments of Python source and the demonstration needs "
            f"{needed}. This Python was installed without its library's .py files, or with them in a "
            "zip: run the demonstration with a regular CPython (python.org, a system package, uv, conda)."
        )
    copies = [COPIES[i % len(COPIES)] for i in range(n_members)] + [0] * n_heldout
    rng.shuffle(copies)
    dealt = sorted(zip(drawn[:n], copies, strict=True), key=lambda dealt: dealt[0].place)
    background = [(fragment, 1) for fragment in sorted(drawn[n:], key=lambda fragment: fragment.place)]
    return _info(_write(folder / CORPUS_FILE, dealt), _write(folder / BACKGROUND_FILE, background), dealt)


def fragments(library: Path) -> Iterator[Fragment]:
    """Every usable fragment of the library, in path order."""
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).as_posix()):
        relative = path.relative_to(library)
        if _SKIPPED_FOLDERS.intersection(relative.parts) or any(relative.match(glob) for glob in _SKIPPED_FILES):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue  # a few files are in other encodings on purpose, and a library may hold dangling links
        yield from filter(_is_prose_or_code, cut(relative.as_posix(), text))


def cut(source_file: str, text: str) -> Iterator[Fragment]:
    """Consecutive fragments of one file, ending at a blank line where one comes in time; the short rest is dropped."""
    start, size, lines = 0, 0, text.split("\n")  # not splitlines: form feeds separate pages inside the library's files
    for i, line in enumerate(lines):
        size += len(line.encode()) + 1
        if size >= MAX_BYTES or (size >= MIN_BYTES and not line.strip()):
            yield Fragment(source_file, start + 1, "\n".join(lines[start : i + 1]) + "\n")
            start, size = i + 1, 0


def draw_fragments(candidates: Iterable[Fragment], n: int, rng: random.Random) -> list[Fragment]:
    """Up to `n` random fragments, as evenly over domains as they last, no two of which share a mark."""
    by_domain: dict[str, list[Fragment]] = {}
    for fragment in candidates:
        by_domain.setdefault(fragment.domain, []).append(fragment)
    for pool in by_domain.values():
        rng.shuffle(pool)
    turns = deque(by_domain[domain] for domain in sorted(by_domain))
    drawn: list[Fragment] = []
    seen: set[str] = set()
    while turns and len(drawn) < n:
        pool = turns.popleft()
        while pool:
            fragment = pool.pop()
            marks = fragment.marks
            if seen.isdisjoint(marks):
                drawn.append(fragment)
                seen |= marks
                turns.append(pool)
                break
    return drawn


def _is_prose_or_code(fragment: Fragment) -> bool:
    visible = "".join(fragment.text.split())
    folded = fragment.text.casefold()
    return (
        max(map(len, fragment.text.split("\n"))) <= LINE_BYTES
        and sum(map(str.isalpha, visible)) >= LETTERS * len(visible)
        and not any(notice in folded for notice in _NOTICES)
    )


def _write(path: Path, dealt: list[tuple[Fragment, int]]) -> Path:
    """Write all lines or none: the file appears under its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="\n") as out:
        for fragment, copies in dealt:
            out.write(json.dumps(_record(fragment, copies)) + "\n")
    return partial.replace(path)


def _info(path: Path, background: Path, dealt: list[tuple[Fragment, int]]) -> CorpusInfo:
    by_copies = Counter(copies for _, copies in dealt)
    return CorpusInfo(
        path=path,
        background=background,
        members=len(dealt) - by_copies[0],
        heldout=by_copies[0],
        copies=dict(sorted(by_copies.items())),
        n_bytes=sum(len(fragment.text.encode()) for fragment, _ in dealt),
        files=len({fragment.source_file for fragment, _ in dealt}),
        domains=dict(sorted(Counter(fragment.domain for fragment, _ in dealt).items())),
    )


def _record(fragment: Fragment, copies: int) -> dict[str, str | int]:
    return {
        "id": f"{fragment.source_file}:{fragment.line}",
        "text": fragment.text,
        "label": MEMBER if copies else HELD_OUT,
        "domain": fragment.domain,
        "source_file": fragment.source_file,
        "line": fragment.line,
        "copies": copies,
    }
