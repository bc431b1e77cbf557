"""Finds a tokenizer's definition and its BOS on disk. Reads local files only and never runs code from them.

`tokenizer.json` is taken as it stands; where a folder has none, transformers builds the fast tokenizer from the
vocabulary files it knows (seconds more to start).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

DEFINITION = "tokenizer.json"
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")  # the second is what older folders have


def load_tokenizer(path: Path) -> Any:
    """The `tokenizers.Tokenizer` of a model folder or of a `tokenizer.json` file.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: what is there is not, and cannot be made into, a fast tokenizer.
    """
    if path.is_file():
        return _from_file(path)
    if not path.is_dir():
        raise FileNotFoundError(f"tokenizer {path}: expected a model folder or a {DEFINITION} file, found nothing")
    if (path / DEFINITION).is_file():
        return _from_file(path / DEFINITION)
    return _from_transformers(path).backend_tokenizer


def find_bos(path: Path, tokenizer: Any, *, ask_transformers: bool = False) -> int | None:
    """Id of the BOS token that the files beside `path` name, None where they name none that the tokenizer has.

    With `ask_transformers`, a folder whose own files are silent is asked through its tokenizer class, whose defaults
    may know one.
    """
    folder = _settings_folder(path)
    if folder is None:
        return None
    name = _bos_name(folder)
    if name is None and ask_transformers:
        name = _bos_of_class(folder)
    return None if name is None else tokenizer.token_to_id(name)


def _from_file(file: Path) -> Any:
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust library raises nothing narrower
        raise ValueError(f"{file}: not a definition that tokenizers can read ({error})") from error


def _from_transformers(folder: Path) -> Any:
    from transformers import AutoTokenizer  # here: the import takes seconds, and most folders never need it

    try:
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # any fault in any of the files, and every library raises its own
        raise ValueError(f"{folder}: no {DEFINITION}, and transformers cannot build a tokenizer: {error}") from error
    if getattr(loaded, "backend_tokenizer", None) is None:
        raise ValueError(f"{folder}: only a slow tokenizer; save it as {DEFINITION} with a fast class of transformers")
    return loaded


def _bos_name(folder: Path) -> str | None:
    for name in _SETTINGS:
        token = _read_settings(folder / name).get("bos_token")
        if isinstance(token, dict):  # a serialised AddedToken
            token = token.get("content")
        if isinstance(token, str):
            return token
    return None


def _bos_of_class(folder: Path) -> str | None:
    try:
        return getattr(_from_transformers(folder), "bos_token", None)
    except ValueError:
        return None


def _settings_folder(path: Path) -> Path | None:
    """The folder whose settings belong to the tokenizer at `path`; None for a lone file under a name of its own."""
    if path.is_dir():
        return path
    return path.parent if path.name == DEFINITION else None


def _read_settings(file: Path) -> dict[str, Any]:
    """A JSON object from `file`, empty where there is no such file.

    Raises:
        ValueError: the file is not a JSON object.
    """
    if not file.is_file():
        return {}
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error}); restore the file or remove it") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: expected a JSON object, found {type(settings).__name__}")
    return settings
