"""What to read from a shard, and how much to hold at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from operators.readers.template import template

MAX_BLOCK_BYTES = 1 << 29
MAX_RECORD_BYTES = 1 << 30  # with a block before it, still below the 2 GiB that an Arrow string column holds
MAX_LINE_BYTES = 64 << 20
MAX_KEY_BYTES = 4096
DEFAULT_TEXT_COLUMN = "text"


@dataclass(frozen=True)
class ReadOptions:
    """Which columns (of JSON: fields) hold what, and how much to hold at once.

    A column is named by its path: `meta.url` is the column or top-level field of just that name, else `url` within
    the struct or object `meta`.

    `text_template` writes the text from several columns, instead of `text_column`: "{title}\\n\\n{body}", where `{{`
    and `}}` stand for braces. The value of `prompt_column` is put before the text; `flow.READ.prompt_bytes` says how
    much of it that is. A label, domain or column to keep that a record or a whole file does not have is null.

    A block closes when the bytes of its texts, domains and attributes reach `block_bytes`, or its rows
    `block_documents`. `max_document_bytes`: UTF-8 length, prompt included, above which a text is rejected; None for
    1 GiB. Columns other than the text's do not apply to text files, which have none.

    Raises:
        ValueError: a size out of range, a column to keep named twice, a template that cannot be understood or that
            comes with a text column of its own; every fault at once.
    """

    text_column: str = DEFAULT_TEXT_COLUMN
    id_column: str | None = None
    label_column: str | None = None
    domain_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    block_bytes: int = 1 << 20
    block_documents: int = 1024
    max_document_bytes: int | None = None
    text_template: str | None = None
    prompt_column: str | None = None

    def __post_init__(self) -> None:
        faults = [*self._size_faults(), *self._template_faults()]
        if len(set(self.keep_columns)) < len(self.keep_columns):
            faults.append(f"keep_columns names a column twice: {', '.join(self.keep_columns)}")
        if faults:
            raise ValueError("; ".join(faults))

    def _size_faults(self) -> Iterator[str]:
        if not 1 <= self.block_bytes <= MAX_BLOCK_BYTES:
            yield f"block_bytes is {self.block_bytes}, expected 1 to {MAX_BLOCK_BYTES}"
        if self.block_documents < 1:
            yield f"block_documents is {self.block_documents}, expected at least 1"
        if not 1 <= self.document_limit <= MAX_RECORD_BYTES:
            yield f"max_document_bytes is {self.max_document_bytes}, expected 1 to {MAX_RECORD_BYTES} or None"

    def _template_faults(self) -> Iterator[str]:
        if self.text_template is None:
            return
        try:
            template(self.text_template)
        except ValueError as error:
            yield str(error)
        if self.text_column != DEFAULT_TEXT_COLUMN:
            yield f"text_column {self.text_column!r} and text_template: only one of them can make the text"

    @property
    def document_limit(self) -> int:
        """Longest text, in bytes of UTF-8."""
        return MAX_RECORD_BYTES if self.max_document_bytes is None else self.max_document_bytes

    @property
    def line_limit(self) -> int:
        """Longest line of JSON that is held, in bytes: escapes and other fields take room too."""
        return max(MAX_LINE_BYTES, 8 * (self.max_document_bytes or 0))

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that a columnar file must have, those of the text first. Of the others each may be missing."""
        texts = (self.text_column,) if self.text_template is None else template(self.text_template).columns
        return _named(*texts, self.prompt_column, self.id_column)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column to read, those of the text first."""
        return _named(*self.required, self.label_column, self.domain_column, *self.keep_columns)


def _named(*columns: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in columns if name is not None))
