"""What any profile of a tokenizer must do at least: encode the texts, without offsets, and count the tokens.

python -m jobs.bench.tokenizers.bare FOLDER TOKENIZER THREADS      prints one JSON line; reading is not in its seconds
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

BATCH_BYTES = 1 << 20


def main(folder: str, tokenizer: str, threads: str) -> None:
    """Encode every text of the shards, special tokens as plain text and none around it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if threads == "1" else "true"
    os.environ["RAYON_NUM_THREADS"] = threads
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(tokenizer)
    loaded.encode_special_tokens = True
    tokens = documents = 0
    seconds = 0.0
    for texts in _batches(Path(folder)):
        started = time.perf_counter()
        encoded = loaded.encode_batch_fast(texts, add_special_tokens=False)
        seconds += time.perf_counter() - started
        tokens += sum(map(len, encoded))
        documents += len(texts)
    print(json.dumps({"seconds": seconds, "tokens": tokens, "documents": documents}))


def _batches(folder: Path) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for shard in sorted(folder.glob("*.jsonl")):
        with shard.open(encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line)["text"]
                held.append(text)
                size += len(text.encode())
                if size >= BATCH_BYTES:
                    yield held
                    held, size = [], 0
    if held:
        yield held


if __name__ == "__main__":
    main(*sys.argv[1:])
