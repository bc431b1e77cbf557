"""Text of strangers made harmless for terminals and logs."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with control and other unprintable characters escaped: names of files and records may hold any."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
