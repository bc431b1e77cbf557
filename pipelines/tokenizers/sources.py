"""Which tokenizers are meant: `[NAME=]PATH` of a folder, of a `tokenizer.json`, or of a model on the hub.

A name is what a tokenizer is called in tables and figures: by itself that of its folder, of its file, or of the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from operators.tokenize import default_fingerprint
from operators.tokenize_definition import template_ids
from operators.tokenize_load import DEFINITION, load_tokenizer
from pipelines.config import ConfigError

MAX_NAME = 128  # characters
_HUB_FILES = ("tokenizer*.json", "special_tokens_map.json", "vocab*", "merges.txt", "*.model", "config.json")


@dataclass(frozen=True)
class NamedTokenizer:
    """`path`: local, or a name on the hub until `found` has fetched it."""

    name: str
    path: str

    @classmethod
    def parse(cls, text: str) -> NamedTokenizer:
        """`PATH`, or `NAME=PATH` unless there is a file or folder of that whole name.

        Raises:
            ValueError: no path, or a name that is empty, longer than `MAX_NAME` or not printable.
        """
        name, equals, path = text.partition("=")
        if not equals or Path(text).expanduser().exists():
            name, path = default_name(text), text
        if not path:
            raise ValueError(f"{text!r}: expected a path, or a name and a path as in gpt2=models/gpt2")
        if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
            raise ValueError(
                f"{text!r}: its name is to have 1 to {MAX_NAME} printable characters; give it one: NAME=PATH"
            )
        return cls(name, path)


def default_name(path: str) -> str:
    """Of a folder its name, of a `tokenizer.json` that of its folder, of another file its name without the suffix."""
    local = Path(path).expanduser()
    if not local.exists():
        return path  # of the hub, or a mistake that is found later
    whole = local.absolute()
    if whole.is_dir():
        return whole.name
    return whole.parent.name if whole.name == DEFINITION else whole.stem


def parse_tokenizers(texts: Iterable[str]) -> tuple[tuple[NamedTokenizer, ...], list[str]]:
    """The tokenizers that are asked for, and what is wrong with the asking, a line a fault."""
    named, faults = [], []
    for text in texts:
        try:
            named.append(NamedTokenizer.parse(text))
        except ValueError as error:
            faults.append(f"--tokenizer: {error}")
    faults += [f"--tokenizer: {fault}" for fault in _twice(named)]
    if not named and not faults:
        faults.append("--tokenizer: is needed: a folder, a tokenizer.json or a hub id, or NAME= before one")
    return tuple(named), faults


def _twice(named: Sequence[NamedTokenizer]) -> Iterator[str]:
    names = [each.name for each in named]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            paths = ", ".join(repr(each.path) for each in named if each.name == name)
            yield f"{paths} are all called {name!r}: name them apart with NAME=PATH"


def found(tokenizer: NamedTokenizer) -> NamedTokenizer:
    """The tokenizer with its local path; one of the hub is fetched, its files alone.

    Raises:
        ConfigError: there is nothing of that name, it is no fast tokenizer, or one that repeats texts.
    """
    local = Path(tokenizer.path).expanduser()
    path = local.absolute() if local.exists() else _from_hub(tokenizer.path)
    try:
        template_ids(load_tokenizer(path))
    except (ValueError, OSError) as error:
        said = " ".join(str(error).split())  # transformers writes several lines
        raise ConfigError(f"--tokenizer {tokenizer.name}: {said}") from None
    return NamedTokenizer(tokenizer.name, str(path))


def fingerprint(tokenizer: NamedTokenizer) -> str:
    """As a run of a model with this tokenizer has it in `runs`, so that queries can join the two."""
    return default_fingerprint(load_tokenizer(Path(tokenizer.path)))


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except HFValidationError:
        raise ConfigError(f"--tokenizer {name}: no such file or folder, and not a hub id either") from None
    except Exception as error:  # the hub client raises a zoo of network and lookup errors
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise ConfigError(f"--tokenizer {name}: no such file or folder, and the hub did not give it ({said})") from None
