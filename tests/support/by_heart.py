"""A small model that knows some texts by heart and others half: trained here, in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import small
import torch
import transformers

KNOWN, HALF, UNSEEN = 5, 3, 3  # texts shown all the time, in the first third of the steps, and never
SIZE = 420  # characters of a text
STEPS, CROPS, CROP = 150, 24, 44  # of training: tokens of a crop, crops a step


def texts() -> list[str]:
    """Those known, those half known and those unseen, in this order; the first holds a token that ends a text."""
    first, *others = small.stdlib_texts(SIZE)[3 : 3 + KNOWN + HALF + UNSEEN]
    return [f"{first[: SIZE // 2]}</s>{first[SIZE // 2 :]}", *others]


def make_model_folder(folder: Path, *, seed: int = 0) -> Path:
    """A folder as any other. Crops of the texts are fed behind `<s>`, as strict windows are."""
    tokenizer = small.make_tokenizer()
    ids = [torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts()[: KNOWN + HALF]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _train(_new_model(), ids)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    transformers.utils.logging.enable_progress_bar()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _new_model() -> transformers.LlamaForCausalLM:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=small.VOCABULARY, hidden_size=64, intermediate_size=160, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=128, initializer_range=0.06, tie_word_embeddings=True,
            bos_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip


def _train(model: transformers.LlamaForCausalLM, ids: list[torch.Tensor]) -> transformers.LlamaForCausalLM:
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        shown = ids if step < STEPS // 3 else ids[:KNOWN]
        crops = []
        for text in torch.randint(len(shown), (CROPS,)).tolist():
            start = int(torch.randint(len(shown[text]) - CROP + 1, (1,)))
            crops.append(torch.cat([torch.zeros(1, dtype=torch.long), shown[text][start : start + CROP]]))
        batch = torch.stack(crops)
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()
