"""What the command line prints, as a test reads it."""

from __future__ import annotations


def unfolded(output: str) -> str:
    """An error message without its box and line breaks."""
    return " ".join(output.replace("│", " ").split())
