"""Composes the text of a document from its record: one column or a template, after a prompt where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from operators.readers.options import ReadOptions
from operators.readers.record import RejectedError, find, listed
from operators.readers.template import template
from operators.readers.words import decoded, n_bytes, shown
from schemas.rejects import Reason


class Text(NamedTuple):
    """`n_bytes`: UTF-8 length of the whole; `prompt_bytes`: of its prompt, None where no prompt column is given."""

    text: str
    n_bytes: int
    prompt_bytes: int | None


class Composer:
    """Maps the fields of a record to its text. White space alone is a document, zero length is none."""

    def __init__(self, options: ReadOptions) -> None:
        self._column = options.text_column
        self._template = None if options.text_template is None else template(options.text_template)
        self._prompt_column = options.prompt_column
        self._limit = options.document_limit

    def __call__(self, fields: Mapping[str, Any]) -> Text:
        """The text after its prompt.

        Raises:
            RejectedError: there is none, or it is longer than the limit.
        """
        text = self._of_template(fields) if self._template else self._string(fields, self._column)
        if not text:
            what = "the filled template" if self._template else repr(self._column)
            raise RejectedError(Reason.EMPTY_TEXT, f"{what} has length 0")
        prompt = "" if self._prompt_column is None else self._prompt(fields, self._prompt_column)
        prompt_bytes = n_bytes(prompt)
        whole_bytes = prompt_bytes + n_bytes(text)
        if whole_bytes > self._limit:
            raise self._too_large(f"the text takes {whole_bytes} bytes, more than {self._limit}")
        return Text(prompt + text, whole_bytes, None if self._prompt_column is None else prompt_bytes)

    def _of_template(self, fields: Mapping[str, Any]) -> str:
        assert self._template is not None
        parts: list[str] = []
        length = 0
        for literal, column in self._template.parts:
            value = "" if column is None else self._string(fields, column, integers=True)
            parts += (literal, value)
            length += len(literal) + len(value)
            if length > self._limit:  # before it is put together: a template may name one column many times
                raise self._too_large(f"the filled template is longer than {self._limit} bytes")
        return "".join(parts)

    def _string(self, fields: Mapping[str, Any], column: str, *, integers: bool = False) -> str:
        try:
            value = find(fields, column)
        except KeyError:
            detail = f"no field {column!r}; the record has: {listed(list(fields))}"
            raise RejectedError(Reason.MISSING_TEXT, detail) from None
        if value is None:
            raise RejectedError(Reason.NULL_TEXT, f"{column!r} is null")
        if integers and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str | bytes):
            raise RejectedError(Reason.TEXT_NOT_STRING, f"{column!r} is {shown(value)}")
        return self._decoded(value, column)

    def _prompt(self, fields: Mapping[str, Any], column: str) -> str:
        try:
            value = find(fields, column)
        except KeyError:
            detail = f"no field {column!r}; the record has: {listed(list(fields))}"
            raise RejectedError(Reason.INVALID_PROMPT, detail) from None
        if value is None:
            return ""
        if not isinstance(value, str | bytes):
            raise RejectedError(Reason.INVALID_PROMPT, f"{column!r} is {shown(value)}, expected a string or null")
        return self._decoded(value, column)

    def _decoded(self, value: str | bytes, column: str) -> str:
        if len(value) > self._limit:  # counts bytes, or code points, which are no more: spares decoding it
            raise self._too_large(f"{column!r} is longer than {self._limit} bytes")
        return decoded(value, column)

    def _too_large(self, detail: str) -> RejectedError:
        return RejectedError(Reason.DOCUMENT_TOO_LARGE, detail)
