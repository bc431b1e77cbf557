"""Tells credentials from other options, and keeps them out of what is stored, logged and printed.

A value is a credential where its name says so, wherever it stands (`Authorization` among headers, `sig` in a signed
URL), or where it is a URL with `user:password@`. Names are compared as words: `AWSAccessKeyId` is `aws_access_key_id`.
What a name leads to is none: `key_file` is a path.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote

import fsspec

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:pass|pwd|sas|sig|jwt|bearer|keys?)(?:_|$)"
    r"|(?:^|_)auth$"
    r"|(?:api|access|account|secret|private|session|shared|storage|subscription)keys?"
    r"|tokens?(?:_|$)|secret|passw|passphrase|credential|signature|access_?id|authori[sz]ation|cookie"
    r"|conn(?:ection)?_?str"
)
# Where a credential lies, what kind it is, the name of one; a key of Amazon's key service is named, never sent.
_HARMLESS_NAME = re.compile(r"(?:file|filename|path|version|type|url|uri|name)$|kms_?key")
_TOKEN_WORDS = frozenset({"anon", "browser", "cache", "cloud", "google_default"})  # how gcsfs is to get a token
_LONG_NUMBER = 10**5  # a password of digits, which YAML reads as a number, but no count of keys

# No password follows the colon of a port, of `::` between chained URIs, of an Amazon resource name, or of fsspec's
# `github://org:repo@branch/`. A password may hold `/` where it should have been escaped.
_USER_INFO = re.compile(r"(?<!github)(?<!git)://(?!arn:)[^/?#\s:]*:(?!:|\d*[/?#])(?P<password>[^/?#\s]*|\S*?)@")
_PARAMETER = re.compile(r"(?P<start>[?&;#](?P<name>[\w.%-]+)=)(?P<value>[^&;#\s'\"<>]+)")
_HEADER = re.compile(r"(?:Basic|Bearer|Token)\s+(?P<value>\S+)", re.IGNORECASE)

_ENVIRONMENT = re.compile(r"(?:AWS|AZURE|GOOGLE|GCS|HF|HUGGING_FACE|HUGGINGFACE)_")
_REFERENCES = "ASSAY_SECRETS"  # variable of `pipelines.secrets`: JSON, its names those of a job's secrets
_SHORTEST_SECRET = 4


def secret_names(options: Mapping[str, Any] | None) -> list[str]:
    """The names, at any depth and once each, of options that look like credentials."""
    return list(dict.fromkeys(name for name, _ in _secrets(options or {})))


def holds_credentials(uri: str) -> bool:
    """Whether a URI has a password, or a signature or key among the parameters of its query. Local paths have none."""
    if "://" not in uri:
        return False
    return _USER_INFO.search(uri) is not None or any(_is_secret(m["name"]) for m in _PARAMETER.finditer(uri))


def redact(text: str, options: Mapping[str, Any] | None = None) -> str:
    """`text` without the credentials that `options`, the environment, fsspec's own settings and URLs in it hold."""
    environment = {name: value for name, value in os.environ.items() if _ENVIRONMENT.match(name)}
    held = chain(_secrets(options or {}), _secrets(environment), _secrets(fsspec.config.conf))
    parts = chain((part for name, value in held for part in _parts(name, value)), _given_by_reference())
    secrets = {form for part in parts for form in (part, quote(part, safe=""), unquote(part))}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    text = _USER_INFO.sub("://***@", text)
    return _PARAMETER.sub(lambda match: match["start"] + "***" if _is_secret(match["name"]) else match[0], text)


def _given_by_reference() -> Iterator[str]:
    """The values of the secrets that a job was given, whatever they are called, and their lines."""
    with contextlib.suppress(ValueError):
        for name in json.loads(os.environ.get(_REFERENCES) or "{}"):
            value = os.environ.get(name, "")
            yield value
            yield from value.splitlines()


def _is_secret(name: str) -> bool:
    words = "_".join(_WORD.findall(name)).lower()
    return bool(_SECRET_NAME.search(words)) and not _HARMLESS_NAME.search(words)


def _secrets(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(name, value) of every credential in options; those in a list go by the name of the list."""
    if isinstance(value, Mapping):
        for own, below in value.items():
            yield from _secrets(below, str(own))
    elif isinstance(value, list | tuple | set | frozenset):
        items = list(value)
        if len(items) == 2 and isinstance(items[0], str) and _is_secret(items[0]):  # a header as a pair
            yield from _secrets(items[1], items[0])
        for item in items:
            yield from _secrets(item, name)
    elif (text := _text(value)) is not None and _is_credential(name, text):
        yield name, text


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _LONG_NUMBER:
        return str(value)
    return value if isinstance(value, str) else None


def _is_credential(name: str, value: str) -> bool:
    return _named_so(name, value) or holds_credentials(value)


def _named_so(name: str, value: str) -> bool:
    if not _is_secret(name) or (name == "token" and value in _TOKEN_WORDS):
        return False
    is_path = value.endswith(".json") and not value.lstrip().startswith("{")  # Google's key file
    return bool(value) and not is_path


def _parts(name: str, value: str) -> Iterator[str]:
    """What to take out for a credential. Of a URL that is its password and signature: the rest is worth reading.

    What is a secret by its name is taken out whole and in parts that may show up alone: a header's token, the account
    key of a connection string, the lines of a private key.
    """
    if _named_so(name, value):
        yield value
        yield from value.splitlines()
        yield from (match["value"] for match in _HEADER.finditer(value))
    yield from (match["password"] for match in _USER_INFO.finditer(value))
    yield from (match["value"] for match in _PARAMETER.finditer(f";{value}") if _is_secret(match["name"]))
