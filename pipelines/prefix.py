"""Settles what is fed before every window of a transformed run: token ids, and whose they are.

    prefix    shots drawn from the base run, or a file -> tokenizer -> less than half of the context -> Prefix
    windows   what the tokenizer feeds before every text                                             -> Prefix

Documents that alone would fill half of the context are no shots, and of those drawn as many are taken as fit.

The prefix is fed as the tokenizer encodes it, special tokens included; the document's ids follow as in the base run, so
a BOS of theirs stands in the middle, as in the published code (ReCaLL, arXiv 2406.15968). A window then takes fewer
tokens of a document; strict windows take all of theirs, and the BOS comes on top.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import xxhash

from operators.lake import Lake
from operators.readers.record import UnreadableError
from operators.readers.source import StorageError, open_source
from operators.tokenize import DocumentTokenizer
from operators.transform import Transform
from operators.transform.shots import draw_shots
from operators.transform.windows import window_options
from operators.windows import WindowOptions
from pipelines.config import ConfigError
from schemas.flow import READ

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class Prefix:
    """`keys`: the documents that it is made of, in order; empty where it comes from elsewhere.

    `in_context`: whether its tokens count towards the context that the run is asked for.
    """

    token_ids: tuple[int, ...]
    keys: tuple[str, ...] = ()
    in_context: bool = True

    @property
    def digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(" ".join(map(str, self.token_ids)).encode())

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the numbers, short enough to be shown in a difference."""
        return {"tokens": len(self.token_ids), "digest": self.digest}

    def within(self, windows: WindowOptions) -> WindowOptions:
        """Windows of the same length, prefix included, that overlap by the same share; as they are, behind a prefix
        that does not count."""
        if not self.in_context:
            return replace(windows, prefix=self.token_ids)
        context = windows.context - len(self.token_ids)
        return replace(
            windows, context=context, stride=max(1, windows.stride * context // windows.context), prefix=self.token_ids
        )


def settle_prefix(
    transform: Transform,
    lake: Lake,
    base_run: str,
    tokenizer: DocumentTokenizer,
    context: int,
    storage_options: Mapping[str, Any] | None = None,
) -> Prefix:
    """The prefix of a run, below half of `context` tokens. The same lake and transform give the same one.

    Raises:
        ConfigError: the file cannot be read, texts were not kept, there are too few documents of the label, or not
            even one fits.
    """
    file = transform.get("file")
    if isinstance(file, str):
        prefix = Prefix(_encoded(tokenizer, _read(file, storage_options)))
        if 2 * len(prefix.token_ids) >= context:
            raise ConfigError(f"{_too_long(prefix, context)}; shorten {file}")
        return prefix
    return _of_shots(transform, lake, base_run, tokenizer, context)


def before_windows(transform: Transform, tokenizer: DocumentTokenizer, limit: int | None) -> Prefix | None:
    """What is fed before every strict window: what the tokenizer puts before a text; None where that is nothing.

    `limit`: where the model's positions end, if they do.

    Raises:
        ConfigError: a window with what is fed before it has more tokens.
    """
    prefix = Prefix(tuple(tokenizer.prefix), in_context=False)
    most_fed = window_options(transform, prefix.token_ids).most_fed
    if limit is not None and most_fed > limit:
        raise ConfigError(
            f"--transform {transform.canonical}: {most_fed:,} tokens are fed at a time, of which the tokenizer puts "
            f"{len(prefix.token_ids)} before the window, and the model's positions end at {limit:,}: "
            "choose a smaller prefix= or suffix="
        )
    return prefix if prefix.token_ids else None


def _of_shots(transform: Transform, lake: Lake, base_run: str, tokenizer: DocumentTokenizer, context: int) -> Prefix:
    label, wanted = transform.number("label"), transform.number("shots")
    most = (context - 1) // 2
    shots, n = draw_shots(lake, base_run, label=label, shots=wanted, seed=transform.number("seed"), most_tokens=most)
    if n < wanted:
        raise ConfigError(
            f"--transform {transform.canonical}: run {base_run} has {n} documents of label {label}, "
            f"{wanted} shots are asked for; give fewer shots=, score it with --label-column, or take file=F"
        )
    texts = [shot.text for shot in shots if shot.text is not None]
    if len(texts) < len(shots):
        raise ConfigError(
            f"--transform {transform.canonical}: run {base_run} did not keep its texts (--drop-text); "
            f"write the shots to a file and give prefix:label={label},file=F"
        )
    prefix = None
    for end in range(1, len(shots) + 1):
        longer = Prefix(_encoded(tokenizer, "".join(texts[:end])), tuple(shot.key for shot in shots[:end]))
        if len(longer.token_ids) > most:
            break
        prefix = longer
    if prefix is None:
        raise ConfigError(
            f"--transform {transform.canonical}: every document of label {label} in run {base_run} takes half or more "
            f"of the context of {context:,} tokens; choose a larger --context, or give prefix:label={label},file=F"
        )
    if len(prefix.keys) < wanted:
        log.warning(
            "the prefix is made of %d of %d shots: more do not fit into half of the context, %d tokens",
            len(prefix.keys), wanted, context,
        )  # fmt: skip
    return prefix


def _too_long(prefix: Prefix, context: int) -> str:
    return f"--transform prefix: it takes {len(prefix.token_ids):,} tokens, half or more of the context of {context:,}"


def _read(file: str, storage_options: Mapping[str, Any] | None) -> str:
    try:
        with open_source(file, storage_options) as source:
            data = source.read(MAX_FILE_BYTES + 1)
        if not data or len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"--transform prefix: {file} holds {'nothing' if not data else 'more than 64 MiB'}")
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"--transform prefix: {file} is not UTF-8") from None
    except (UnreadableError, StorageError) as error:
        detail = error.detail if isinstance(error, UnreadableError) else str(error)
        raise ConfigError(f"--transform prefix: {detail}") from None


def _encoded(tokenizer: DocumentTokenizer, text: str) -> tuple[int, ...]:
    row = {"source": "prefix", "row": 0, "key": "prefix", "text": text}
    done = tokenizer(pa.Table.from_pylist([row], schema=READ))
    if done["reason"][0].is_valid:
        raise ConfigError(f"--transform prefix: {done['reason'][0]}: {done['detail'][0]}")
    return tuple(done["token_id"][0].as_py())
