"""What S3-compatible servers need that Amazon's own does not: checksums of bodies only where an operation demands them.

And in how many parts a file is sent.

Clients of 2025 and later ask for a checksum with every answer. Many servers send that of the whole object with a part
of it, and each read of a range fails with `FlexibleChecksumError`. The price: with those servers it is TLS, Parquet's
page checksums and the formats' own that notice a damaged answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from configparser import Error as ConfigParserError
from configparser import RawConfigParser
from functools import lru_cache
from pathlib import Path
from typing import Any

CHECKSUMS = ("response_checksum_validation", "request_checksum_calculation")
_WHEN_REQUIRED = "when_required"
PART_BYTES, _AT_ONCE, _MOST_PARTS = 16 << 20, 4, 10_000  # s3fs itself would hold ten parts of 50 MiB
_AMAZON = re.compile(r"://[^/?#]*\.amazonaws\.com(?:\.cn)?(?::\d+)?(?:[/?#]|$)")


def with_checksums(options: Mapping[str, Any]) -> dict[str, Any]:
    """s3fs's options, with `CHECKSUMS` at `when_required` where another server than Amazon's is in use.

    What the user says of them is kept: in `config_kwargs`, in `AWS_RESPONSE_CHECKSUM_VALIDATION` and
    `AWS_REQUEST_CHECKSUM_CALCULATION`, or in the profile.
    """
    named = options.get("profile") or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    profile = _profile(str(named) if named else None)
    endpoint = _endpoint(options, profile)
    if endpoint is None or _AMAZON.search(endpoint):
        return dict(options)
    given = _mapping(options, "config_kwargs")
    unsaid = {name for name in CHECKSUMS if not (f"AWS_{name.upper()}" in os.environ or name in profile)}
    return {**options, "config_kwargs": {**dict.fromkeys(sorted(unsaid), _WHEN_REQUIRED), **given}}


def upload_parts(size: int) -> dict[str, int]:
    """How s3fs is to send a file of so many bytes: 64 MiB of it in memory, unless it is larger than 160 GB."""
    return {"chunksize": max(PART_BYTES, -(-size // _MOST_PARTS)), "max_concurrency": _AT_ONCE}


def _endpoint(options: Mapping[str, Any], profile: Mapping[str, Any]) -> str | None:
    """The address of the server as the libraries find it; None for Amazon's."""
    given = _mapping(options, "client_kwargs").get("endpoint_url") or options.get("endpoint_url")
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or profile.get("endpoint_url")
    found = given or named
    return str(found) if found else None


def _mapping(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = options.get(name)
    return value if isinstance(value, Mapping) else {}


@lru_cache(maxsize=16)
def _profile(name: str | None) -> Mapping[str, str]:
    """The settings of a profile in the user's AWS configuration file; none where there is no such profile or file."""
    # Not by botocore, which machines that only score need not have.
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    parser = RawConfigParser(strict=False)
    try:
        parser.read_string(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, UnicodeDecodeError, ConfigParserError):  # the storage will say what is wrong with it
        return {}
    sections = ["default", "profile default"] if name in (None, "default") else [f"profile {name}"]
    return {key: value for section in sections if section in parser for key, value in parser[section].items()}
