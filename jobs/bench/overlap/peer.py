"""The same corpus through datatrove's n-gram decontamination, as a process of its own with its own executor.

    python -m jobs.bench.overlap.peer BENCHMARK CORPUS OUTPUT N WORKERS

    benchmark -> its reader -> hashes by its indexer -> index       one task, as it must be
    corpus -> its readers -> its filter -> documents removed        a task a worker

Its indexer's `run` imports lighteval, whose task tables it reads, even where all items are given as documents; so the
items go through its `compute_hashes` and are stored as it stores them. Normalisation, tokenizer (spaCy's English, its
default) and filter are its own. It is asked for what `assay overlap` finds: n-grams of inputs too, with the same n; by
default it takes those of answers and across, with n = 12. Its hash hands strings to xxhash, which xxhash 4 refuses, so
they are encoded for it.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

SETTINGS = (
    "words by spaCy's English tokenizer (its default), n = {n} with n-grams of inputs too (its defaults: 12, without), "
    "64-bit hashes, not verified on the text"
)
NEEDS = ("datatrove", "spacy", "orjson")


def missing() -> list[str]:
    """What the extra `bench` would install."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def decontaminate(benchmark: Path, corpus: Path, output: Path, n: int, workers: int) -> None:
    """Write `index/` and, a file a task, `removed/*.jsonl` into `output`."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.writers import JsonlWriter

    config = NGramsDecontConfig(n_grams=n, find_query_ngrams=True, find_overlap_ngrams=True)
    index = output / "index"
    items = JsonlReader(str(benchmark.parent), glob_pattern=benchmark.name, text_key="answer")
    LocalPipelineExecutor([items, _indexer(index, config)], logging_dir=str(output / "log-index")).run()
    readers = {"*.jsonl": JsonlReader, "*.parquet": ParquetReader}  # one that finds no file raises an error
    documents = [
        reader(str(corpus), glob_pattern=files) for files, reader in readers.items() if any(corpus.glob(files))
    ]
    writer = JsonlWriter(str(output / "removed"), compression=None)
    step = NGramsDecontFilter(str(index), config, exclusion_writer=writer)
    step.hash_func = _xxhash64
    log = str(output / "log")
    LocalPipelineExecutor([*documents, step], tasks=workers, workers=workers, logging_dir=log).run()


def _indexer(folder: Path, config: Any) -> Any:
    """A step that stores the hashes of all items, as the indexer's `run` does without lighteval."""
    import numpy as np
    from datatrove.pipeline.decont import NGramsDecontIndexer

    NGramsDecontIndexer._requires_dependencies = []  # lighteval: see above
    indexer = NGramsDecontIndexer(str(folder), config=config)
    indexer.hash_func = _xxhash64

    def run(data: Any, rank: int = 0, world_size: int = 1) -> None:
        hashes: set[int] = set()
        for item in data:
            hashes.update(indexer.compute_hashes(item.text, item.metadata["input"]))
        folder.mkdir(parents=True)
        np.array(list(hashes), dtype=config.hash_config.np_descr).tofile(folder / "input.index.hashes")

    return run


def _xxhash64(text: str) -> int:
    import xxhash

    return xxhash.xxh64_intdigest(text.encode())


def removed(output: Path) -> dict[str, str]:
    """Ids of the documents that it would remove, with the n-gram it found first, as it normalises it."""
    found = {}
    for path in sorted((output / "removed").rglob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                document = json.loads(line)
                found[document["id"]] = document["metadata"]["contaminated_ngram"]
    return found


if __name__ == "__main__":
    decontaminate(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
