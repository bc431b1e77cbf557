"""Finds the files of a corpus: inputs -> shards, the units that are read, retried and resumed.

An input is a file, a folder or a glob, local or behind any URI that fsspec knows:

    corpus/part-0.jsonl.zst     s3://bucket/corpus/     corpus/**/*.parquet     zip://*.txt::s3://bucket/corpus.zip

- A folder is read with everything below it; so is a folder that a glob matches. Names that begin with `.` or `_` are
  skipped below a folder, and in a glob unless one of its parts begins with the same character.
- A name that exists is taken as it is, even if it looks like a glob.
- The format follows from the suffix, in any case: `.parquet`; `.arrow`, `.feather` and `.ipc`; `.jsonl`, `.ndjson` and
  `.json` (read as JSON Lines); `TEXT_SUFFIXES`. The last two may end in `.gz` or `.zst`. `format` overrides this for
  all files, so that any file can be read as text.
- Nothing else is skipped: a file whose suffix says nothing is an error, not a hole in the corpus.
"""

from __future__ import annotations

import os
import posixpath
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import has_magic
from math import inf
from pathlib import PurePosixPath
from typing import Any, Literal, cast, get_args

from fsspec.implementations.local import LocalFileSystem

from operators.readers.source import compression_of, locate
from operators.storage.listing import modified_at
from operators.storage.remote import mistyped_option, patiently, redact

Format = Literal["parquet", "jsonl", "arrow", "text"]

PARQUET_SUFFIXES = frozenset({".parquet"})
ARROW_SUFFIXES = frozenset({".arrow", ".feather", ".ipc"})
JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
# Prose, markup and source code: files that are one document each. Tables (.csv, .tsv) are not.
TEXT_SUFFIXES = frozenset(
    ".txt .text .md .markdown .rst .adoc .org .tex .htm .html "  # noqa: SIM905 - as a list it takes seventy lines
    ".asm .bash .c .cc .clj .cpp .cs .css .cu .cxx .dart .el .erl .ex .f90 .go .h .hpp .hs .hxx .java .jl .js .jsx .kt "
    ".lisp .lua .ml .mjs .php .pl .pm .proto .ps1 .py .pyi .r .rb .rs .scala .scm .sh .sql .swift .tcl .ts .tsx .vb "
    ".vue .zig".split()
)
# What the storages call their content tag in a listing, the most telling first.
_TAG_NAMES = ("ETag", "etag", "md5Hash", "content_md5", "md5", "checksum", "blob_id")
MTIME = "mtime:"
_LISTING_ATTEMPTS = 3
_SHOWN = 3


class InputError(ValueError):
    """The inputs do not name a readable corpus. The message lists every fault found and what to do."""


@dataclass(frozen=True)
class Shard:
    """One file. `uri`: absolute local path or full URI; `n_bytes`: stored size, 0 where the storage does not say.

    `tag`: what the storage says of the content (ETag, MD5, ...) without asking more than a listing, "" where it says
    nothing. A file with another tag is another file. Of a local file it is `mtime:<ns since 1970>`, the time it was
    last written: another one only says that it may have changed.

    `modified`: when the storage says that it was last written, in seconds since 1970; no part of what the file is.
    """

    uri: str
    format: Format
    n_bytes: int
    tag: str = ""
    modified: float | None = field(default=None, compare=False, repr=False)


def list_shards(
    inputs: Sequence[str],
    *,
    format: str = "auto",  # noqa: A002 - the name of the flag and of the field
    storage_options: Mapping[str, Any] | None = None,
) -> list[Shard]:
    """Every file that `inputs` name, once each, sorted by URI.

    Args:
        format: "auto" (by suffix), or the one format to read every file in: "parquet", "jsonl", "arrow" or "text".
        storage_options: fsspec's options for the URIs among `inputs` (credentials, endpoint), flat or by protocol.

    Raises:
        InputError: an input that names nothing or cannot be listed, a file of unknown format, or no input at all.
    """
    if format not in ("auto", *get_args(Format)):
        raise InputError(f"format {format!r}: choose from auto, {', '.join(get_args(Format))}")
    listing = _Listing(None if format == "auto" else cast("Format", format), storage_options or {})
    for given in [inputs] if isinstance(inputs, str) else inputs:
        listing.add(str(given))
    return listing.shards()


def format_of(name: str) -> Format | None:
    """The format a file name stands for; None where its suffix says nothing."""
    stem, suffix = posixpath.splitext(name.lower())
    if suffix in PARQUET_SUFFIXES:
        return "parquet"
    if suffix in ARROW_SUFFIXES:
        return "arrow"
    if compression_of(name):
        suffix = posixpath.splitext(stem)[1]
    if suffix in JSONL_SUFFIXES:
        return "jsonl"
    return "text" if suffix in TEXT_SUFFIXES else None


@dataclass
class _Listing:
    """Gathers files and faults over all inputs, so that one error can name every fault."""

    format: Format | None
    storage_options: Mapping[str, Any]
    found: dict[str, Shard] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)  # suffix -> URIs

    def add(self, given: str) -> None:
        try:
            filesystem, files = patiently(lambda: self._find(given), attempts=_LISTING_ATTEMPTS)
        except FileNotFoundError:
            self.faults.append(f"{given!r} does not exist")
        except Exception as error:  # each storage library raises its own types
            said = mistyped_option(error, self.storage_options) or f"{type(error).__name__}: {error}"
            self.faults.append(f"{given!r} cannot be listed: {said}")
        else:
            if not files:
                self.faults.append(f"{given!r} names no files (names that begin with . or _ are skipped)")
            for name, info in files.items():
                self._add_file(filesystem, given, name, info)

    def _find(self, given: str) -> tuple[Any, dict[str, Mapping[str, Any]]]:
        filesystem, path = _locate_fresh(given, self.storage_options)
        return filesystem, _search(filesystem, path)

    def _add_file(self, filesystem: Any, given: str, name: str, info: Mapping[str, Any]) -> None:
        fault = _name_fault(filesystem, name)
        if fault is None and info.get("type") != "file":
            info, fault = _follow(filesystem, name)
        if fault is not None:
            self.faults.append(f"{_printable(name)!r} {fault}")
            return
        uri = _uri(filesystem, given, name)
        kind = self.format or format_of(name)
        if kind is None:
            self.unknown.setdefault(posixpath.splitext(name)[1], []).append(uri)
        else:
            tag = _tag(filesystem, name, info)
            self.found[uri] = Shard(uri, kind, int(info.get("size") or 0), tag, _modified(tag, info))

    def shards(self) -> list[Shard]:
        faults = sorted(self.faults) + [_unknown_fault(*item) for item in sorted(self.unknown.items())]
        if not faults and not self.found:
            faults = ["no inputs given"]
        if faults:
            message = "the inputs cannot be read:" + "".join(f"\n  - {fault}" for fault in faults)
            raise InputError(redact(message, self.storage_options))
        return [self.found[uri] for uri in sorted(self.found)]


def _locate_fresh(given: str, storage_options: Mapping[str, Any] | None) -> tuple[Any, str]:
    """The file system and path of an input, with cached listings forgotten: a nightly run must see new files."""
    if not given:
        raise FileNotFoundError
    filesystem, path = locate(given, storage_options)
    filesystem.invalidate_cache()
    return filesystem, path


def _search(filesystem: Any, path: str) -> dict[str, Mapping[str, Any]]:
    """Path -> fsspec info of every file that `path` names."""
    try:
        info = filesystem.info(path)
    except FileNotFoundError:
        if not has_magic(path):
            raise
        return _match(filesystem, path)
    return _below(filesystem, path) if info["type"] == "directory" else {path: info}


def _below(filesystem: Any, folder: str) -> dict[str, Mapping[str, Any]]:
    if isinstance(filesystem, LocalFileSystem):
        return dict(_local_files(filesystem, folder, inf))
    files = filesystem.find(folder, detail=True)
    return {name: info for name, info in files.items() if _visible(name.removeprefix(folder))}


def _local_files(filesystem: LocalFileSystem, folder: str, depth: float) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The visible files at most `depth` levels below. `find` and `glob` leave out, and say nothing of, folders that
    may not be entered; this raises."""
    for info in filesystem.ls(folder, detail=True):
        name = info["name"]
        if not _visible(posixpath.basename(name)):
            continue
        if info["type"] != "directory":
            yield name, info
        elif depth > 1:
            yield from _local_files(filesystem, name, depth - 1)


def _match(filesystem: Any, pattern: str) -> dict[str, Mapping[str, Any]]:
    fixed = _fixed_folder(pattern)
    if isinstance(filesystem, LocalFileSystem):
        depth = inf if "**" in pattern else pattern.removeprefix(fixed).count("/")
        deque(_local_files(filesystem, fixed or "/", depth), maxlen=0)  # only to raise where `glob` would not
    asked_for = {part[0] for part in pattern.removeprefix(fixed).split("/") if part}
    matched = {
        name: info
        for name, info in filesystem.glob(pattern, detail=True).items()
        if _visible(name.removeprefix(fixed), asked_for)
    }
    folders = {name for name, info in matched.items() if info["type"] == "directory"}
    files = {name: info for name, info in matched.items() if name not in folders}
    for folder in folders:
        if not any(str(parent) in folders for parent in PurePosixPath(folder).parents):
            files.update(_below(filesystem, folder))
    return files


def _fixed_folder(pattern: str) -> str:
    """The leading folders of a glob that hold no wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if has_magic(part))
    return "/".join(parts[:first])


def _visible(relative: str, asked_for: Iterable[str] = ()) -> bool:
    """Whether no part of a path is hidden. Object stores mark folders by empty objects that end in `/`: no files."""
    hidden = {".", "_"} - set(asked_for)
    return not relative.endswith("/") and not any(part[0] in hidden for part in relative.split("/") if part)


def _follow(filesystem: Any, name: str) -> tuple[Mapping[str, Any], str | None]:
    """What a local link leads to, and the fault if that is no file."""
    try:
        info = filesystem.info(name)
    except FileNotFoundError:
        return {}, "is a link that leads nowhere"
    if info["type"] == "directory":
        return info, "is a link to a folder: name that folder as an input of its own"
    return info, None if info["type"] == "file" else "is neither a file nor a folder"


def _name_fault(filesystem: Any, name: str) -> str | None:
    if _printable(name) != name:
        return "is not valid UTF-8: rename the file"
    if "::" in name and not isinstance(filesystem, LocalFileSystem):
        return "holds '::', which fsspec reads as a chain of file systems: rename the object"
    return None


def _tag(filesystem: Any, name: str, info: Mapping[str, Any]) -> str:
    if isinstance(filesystem, LocalFileSystem):
        with suppress(OSError):  # gone since: its reader will say so
            # Not from the listing: that is a float, and of a link the time of the link.
            return f"{MTIME}{os.stat(name).st_mtime_ns}"  # noqa: PTH116 - as fast as can be, there may be a million
        return ""
    value = next((info[name] for name in _TAG_NAMES if info.get(name)), "")
    return value.hex() if isinstance(value, bytes | bytearray) else str(value).removeprefix("W/").strip('"')


def _modified(tag: str, info: Mapping[str, Any]) -> float | None:
    return int(tag.removeprefix(MTIME)) / 1e9 if tag.startswith(MTIME) else modified_at(info)


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _uri(filesystem: Any, given: str, name: str) -> str:
    """What opens the file again. In a chain only the link that held the path is replaced."""
    if isinstance(filesystem, LocalFileSystem):
        return name
    links = given.split("::")
    first = next(i for i, link in enumerate(links) if "://" in link)
    links[first] = str(filesystem.unstrip_protocol(name))
    return "::".join(links)


def _unknown_fault(suffix: str, uris: Sequence[str]) -> str:
    files = f"{len(uris)} file{'s' if len(uris) > 1 else ''}"
    more = f" and {len(uris) - _SHOWN} more" if len(uris) > _SHOWN else ""
    return (
        f"{files} of unknown format ({suffix or 'no suffix'}): {', '.join(sorted(uris)[:_SHOWN])}{more}; "
        "pass --format parquet, jsonl, arrow or text to read every file in that format, or name only the files meant"
    )
