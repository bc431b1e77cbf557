"""Three made-up languages, a small model of each, and a corpus that mixes their texts in known proportions.

three_languages.train(folder, "velar")                     a model folder that knows one language, in a second or two
texts = three_languages.texts("velar", 20, seed=1)     what it is made to read
three_languages.write_mixture(path, {"velar": 12, "nasal": 8})
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import small
import torch
import transformers

LETTERS = {"velar": "kgxaou", "nasal": "mnñeiy", "rolled": "rltaei"}
WORDS = 40  # of a language
LENGTH = 6  # words of a text


def texts(language: str, n: int, *, seed: int, length: int = LENGTH) -> list[str]:
    """Texts of words of the language, the next word drawn by the one before it."""
    words_rng = np.random.default_rng(list(LETTERS).index(language))
    letters = [*LETTERS[language]]
    words = ["".join(words_rng.choice(letters, size=words_rng.integers(2, 6))) for _ in range(WORDS)]
    follow = words_rng.dirichlet(np.full(WORDS, 0.2), size=WORDS)
    rng, found = np.random.default_rng([seed, list(LETTERS).index(language)]), []
    for _ in range(n):
        places = [int(rng.integers(WORDS))]
        while len(places) < length:
            places.append(int(rng.choice(WORDS, p=follow[places[-1]])))
        found.append(" ".join(words[place] for place in places))
    return found


def train(folder: Path, language: str, *, steps: int = 50) -> Path:
    """A small Llama that has read texts of one language, as a model folder."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        small.make_model_folder(folder)
        tokenizer = small.make_tokenizer()
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        ids = [token for text in texts(language, 400, seed=99) for token in tokenizer.encode(text).ids]
        rows = torch.tensor(ids[: len(ids) // 48 * 48]).view(-1, 48)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps):
            batch = rows[torch.randint(len(rows), (8,), generator=generator)]
            loss = model(batch, labels=batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval().save_pretrained(folder)
    finally:
        torch.set_num_threads(threads)
    return folder


def write_mixture(path: Path, counts: dict[str, int], *, seed: int = 1, length: int = LENGTH) -> Path:
    """A corpus of so many texts of each language, which is their domain."""
    records = [
        {"id": f"{language}-{i}", "text": text, "domain": language}
        for language, n in counts.items()
        for i, text in enumerate(texts(language, n, seed=seed, length=length))
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
