"""Templates of a text: "{title}\\n\\n{body}" -> literals and the columns between them."""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Template:
    """`parts`: (literal, path of the column that follows it, None after the last literal)."""

    parts: tuple[tuple[str, str | None], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for _, name in self.parts if name is not None))


@lru_cache(maxsize=16)
def template(text: str) -> Template:
    """Parse a template. Only plain names stand between braces: values are put in as they are.

    Raises:
        ValueError: unbalanced braces, an empty name, a conversion (`!r`), a format (`:>8`), an index (`[0]`), no
            column at all, or a lone surrogate.
    """
    try:
        text.encode()
        parts = tuple(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"text_template {text!r}: {error}; write {{{{ and }}}} for braces") from None
    for _, name, form, conversion in parts:
        if name == "":
            raise ValueError(f"text_template {text!r}: {{}} names no column")
        if form or conversion or (name and set(name) & set("[]")):
            raise ValueError(f"text_template {text!r}: only a column's name may stand in braces, as in {{meta.title}}")
    if all(name is None for _, name, _, _ in parts):
        raise ValueError(f"text_template {text!r} names no column, every text would be the same")
    return Template(tuple((literal, name) for literal, name, _, _ in parts))
