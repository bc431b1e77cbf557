"""Reads YAML as mappings, lists and text: what a value means is for the field it is given to to say.

YAML guesses types from spelling: `2026-11-20` is a date, `no` is false, `007` is seven, `1.10` is 1.1. Here a value
that is not quoted is `Plain`, the text as it stands, and `typed` makes of it what JSON would.

Files of strangers are hostile: size, depth and number of values are bounded, and what a job file has no use for
(anchors and aliases, tags, several documents) is refused. No message quotes the file: the line may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipelines.config import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 12
MAX_VALUES = 100_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where PyYAML was built with it
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Plain(str):
    """A value without quotes."""

    __slots__ = ()


def read_text(path: str | Path) -> str:
    """The text of a job file.

    Raises:
        ConfigError: no such file, too large for a job file, or not UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes, which no job file is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None


def parse(text: str) -> tuple[Any, list[str]]:
    """The value that `text` holds, and its faults, each with its line; no value where it is no YAML.

    Mappings are dicts with keys of text, lists lists, and every other value is `Plain` or `str` (quoted).
    """
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.add(event)
    except _Refused as refused:
        return None, [str(refused)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return None, ["not YAML" + (f" at line {mark.line + 1}, column {mark.column + 1}" if mark else "")]
    except yaml.YAMLError:
        return None, ["not YAML: it holds characters that YAML does not allow"]
    return builder.result, builder.faults


def typed(value: Any) -> Any:
    """`value` with `Plain` text as JSON has it: null, true and false, numbers, and text for all else."""
    if isinstance(value, dict):
        return {name: typed(below) for name, below in value.items()}
    if isinstance(value, list):
        return [typed(below) for below in value]
    return _resolved(value) if isinstance(value, Plain) else value


def is_null(value: Any) -> bool:
    """Whether nothing is given: `field:` or `field: null`."""
    return isinstance(value, Plain) and value in _NULLS


def _resolved(text: Plain) -> Any:
    if text in _NULLS:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if len(text) <= 400:  # Python refuses to read longer integers
        if _INTEGER.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text):
            return float(text)
    return str(text)


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The file is not read on."""


@dataclass
class _Builder:
    """Makes one value of the parser's events, without recursion: how deep a file nests is the file's choice."""

    result: Any = None
    faults: list[str] = field(default_factory=list)
    _open: list[tuple[Any, dict[str, int]]] = field(default_factory=list)  # containers, lines of a mapping's keys
    _keys: list[str | None] = field(default_factory=list)  # of each open mapping the key that waits for its value
    _values: int = 0
    _documents: int = 0

    def add(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _at(event, "a second document begins; a job file holds one")
        elif isinstance(event, yaml.NodeEvent):
            self._check(event)
            self._add_node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._keys.pop()

    def _check(self, event: Any) -> None:
        self._values += 1
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise _at(event, "anchors and aliases (& and *) are not read: write the value out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _at(event, "tags (! and !!) are not read: leave it out")
        if self._values > MAX_VALUES:
            raise _at(event, f"more than {MAX_VALUES:,} values, which no job file has")
        if len(self._open) >= MAX_DEPTH:
            raise _at(event, f"nested more than {MAX_DEPTH} deep")

    def _add_node(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            value: Any = Plain(event.value) if event.implicit[0] and not event.style else str(event.value)
            self._place(event, value)
            return
        value = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._place(event, value)
        self._open.append((value, {}))
        self._keys.append(None)

    def _place(self, event: Any, value: Any) -> None:
        if not self._open:
            self.result = value
            return
        container, lines = self._open[-1]
        if isinstance(container, list):
            container.append(value)
            return
        key = self._keys[-1]
        if key is None:
            self._begin_key(event, value, container, lines)
        else:
            container[key] = value
            self._keys[-1] = None

    def _begin_key(self, event: Any, key: Any, container: dict[str, Any], lines: dict[str, int]) -> None:
        if not isinstance(key, str):
            raise _at(event, "a name is expected before the colon, found a list or a mapping")
        if key in container:
            self.faults.append(f"line {event.start_mark.line + 1}: {key} is given already in line {lines[key]}")
        lines.setdefault(key, event.start_mark.line + 1)
        self._keys[-1] = str(key)


def _at(event: Any, message: str) -> _Refused:
    return _Refused(f"line {event.start_mark.line + 1}: {message}")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(where, text) of every text below a value; `where` as `submit.env.NAME` or `input[3]`."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from leaves(below, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from leaves(below, f"{path}[{place}]")
    elif isinstance(value, str):
        yield path, value
