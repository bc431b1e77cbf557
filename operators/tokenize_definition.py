"""What a tokenizer's definition says before any text is seen: the ids around every text, and what is switched off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, models


def scoring_definition(tokenizer: Any) -> dict[str, Any]:
    """The tokenizer's JSON, parsed, without what would make ids depend on anything but the text.

    Truncation, padding and BPE dropout are turned off. So is the trimming of offsets, which changes no id but would
    leave white-space tokens without bytes.
    """
    definition: dict[str, Any] = json.loads(tokenizer.to_str())
    definition["truncation"] = definition["padding"] = None
    if "dropout" in definition["model"]:
        definition["model"]["dropout"] = None
    for part in _parts(definition):
        if "trim_offsets" in part:
            part["trim_offsets"] = False
    return definition


def template_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer's post-processor puts before and after every text.

    They are read off a tokenizer of one word, so that no vocabulary or normaliser has a say.

    Raises:
        ValueError: the post-processor does something else with a text than to put ids around it.
    """
    probe = Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))
    if tokenizer.post_processor is not None:
        probe.post_processor = tokenizer.post_processor
    encoding = probe.encode("x")
    ids: list[int] = encoding.ids
    own = [place for place, added in enumerate(encoding.special_tokens_mask) if not added]
    if len(own) != 1:
        raise ValueError(f"the tokenizer's post-processor yields a text {len(own)} times: its spans are undefined")
    return ids[: own[0]], ids[own[0] + 1 :]


def _parts(definition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pre-tokenizer and the post-processor, and what they hold where they are sequences."""
    todo = [definition.get("pre_tokenizer"), definition.get("post_processor")]
    while todo:
        part = todo.pop()
        if part is not None:
            yield part
            todo += part.get("pretokenizers") or part.get("processors") or []
