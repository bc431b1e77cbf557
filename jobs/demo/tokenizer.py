"""The tokenizer of the demonstration: byte-level BPE, trained on the texts of both classes alike.

Whatever it learns of their words it learns of members and of held-out text with the same weight, so token counts and
segmentation cannot tell the classes apart; trained on members only, it would cut their words into fewer pieces and give
them away. The price: held-out words are cut more kindly than text the demonstration never saw.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.demo.recipe import SETTINGS, Settings

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"  # unlike <s>, which is HTML and occurs in the library's text
BOS_ID, EOS_ID = 0, 1


def train_tokenizer(texts_path: Path, folder: Path, settings: Settings = SETTINGS) -> Path:
    """Train a tokenizer on every text of a JSONL file into `folder`, for `train(..., tokenizer_from=folder)`.

    For a corpus that repeats itself: trained on that, the tokenizer would cut what is repeated into fewer pieces.
    """
    with texts_path.open(encoding="utf-8") as lines:
        tokenizer_of([json.loads(line) for line in lines], settings).save_pretrained(folder)
    return folder


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that a model's folder holds."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def tokenizer_of(records: Sequence[dict[str, Any]], settings: Settings) -> Any:
    """Byte-level BPE over the texts that puts the begin token first, as the model was trained to see it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # any byte of any language can be written
        show_progress=False,
    )
    bpe.train_from_iterator((record["text"] for record in records), trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, model_max_length=settings.context
    )
