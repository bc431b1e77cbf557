"""Plants a benchmark in training text, so that what the model saw, and how often, is known.

    items, dealt at random --> planted | clean | heldout                   a third each
    planted -> blocks of consecutive items, each 1, 4 or 16 times ---------+
    canaries, each 0, 1, 4 or 16 times, as lines of ----+                  |
    fragments of this Python's library, once each ------+------------------+-> corpus.jsonl

The order of a benchmark is the order of its file, and planted blocks keep it: who trains on a benchmark's file learns
its order, too. Every copy of a block is cut in two at a random item, as pages are cut, so that an item is not only ever
seen behind the same others. `clean` claims to be unseen and is; `heldout` is the set that an audit declares clean and
compares with. All three come out of one generator and are dealt after it: nothing but training tells them apart.
`corpus.jsonl` holds every copy as a record of its own: it is what trains, and what is searched for the benchmarks. The
tokenizer is trained on `vocabulary.jsonl`, every text once, seen or not, so how many tokens a text takes says nothing
of how often it was shown.
"""

from __future__ import annotations

import json
import random
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.demo.benchmark import Canary, Item, write_canaries, write_items
from jobs.demo.corpus import HELD_OUT as LABEL_UNSEEN
from jobs.demo.corpus import MEMBER as LABEL_SEEN
from jobs.demo.corpus import DemoError, draw_fragments, fragments

PLANTED, CLEAN, HELD_OUT = "planted", "clean", "heldout"
BENCHMARKS = (PLANTED, CLEAN, HELD_OUT)
CORPUS, VOCABULARY, BLOCKS, CANARIES = "corpus", "vocabulary", "blocks", "canaries"  # the other files
MARK = "planting.json"  # a folder without it is not ours
DOSES = (1, 4, 16)  # how often the training text holds a planted block: a third of them each
CANARY_LINES = 12  # a canary stands behind fewer lines of its fragment
BETWEEN = "\n\n"  # two items


@dataclass(frozen=True)
class Recipe:
    """How much of what. `items` of each benchmark; `block_items` in a row make a block; `canaries` of each dose, and as
    many that are never shown; `candidates` of each, the secret among them; `fragments` of the library."""

    items: int = 90
    block_items: int = 6
    canaries: int = 5
    candidates: int = 256
    fragments: int = 120

    @property
    def canary_copies(self) -> list[int]:
        """Of each canary."""
        return [dose for dose in (0, *DOSES) for _ in range(self.canaries)]

    def check(self) -> None:
        """Raises:
        ValueError: every reason why doses would not come out even.
        """
        faults = []
        if self.items < 1 or self.items % (self.block_items * len(DOSES)):
            faults.append(f"{self.items} items in blocks of {self.block_items} are not as many of every dose")
        if self.fragments < sum(self.canary_copies):
            faults.append(f"{sum(self.canary_copies)} canaries need a fragment each, there are {self.fragments}")
        if faults:
            raise ValueError("; ".join(faults))


@dataclass(frozen=True)
class Block:
    """Consecutive items of a benchmark. `copies`: how often the training text holds them."""

    key: str
    benchmark: str
    items: tuple[Item, ...]
    copies: int

    @property
    def text(self) -> str:
        return as_text(self.items)


@dataclass(frozen=True)
class Planting:
    """What was dealt, and where it lies. `records` of the training text and its UTF-8 bytes."""

    folder: Path
    benchmarks: Mapping[str, tuple[Item, ...]]
    blocks: tuple[Block, ...]
    canaries: tuple[Canary, ...]
    fragments: int
    records: int
    n_bytes: int

    def path(self, name: str) -> Path:
        """The file of a benchmark, or another by its name."""
        return self.folder / f"{name}.jsonl"

    @property
    def items_by_copies(self) -> dict[int, int]:
        """Planted items, by how often the training text holds them."""
        counts = Counter({block.copies: 0 for block in self.blocks if block.copies})
        for block in self.blocks:
            if block.copies:
                counts[block.copies] += len(block.items)
        return dict(sorted(counts.items()))


def plant(folder: Path, recipe: Recipe, seed: int, *, stdlib: Path | None = None) -> Planting:
    """Deal everything from `seed` and write the files; the same arguments on the same Python give the same bytes.

    Raises:
        DemoError: the library is absent or too small, or `folder` holds something that this function did not write.
        ValueError: as `Recipe.check`.
    """
    recipe.check()
    _refuse_foreign(folder)
    rng = random.Random(seed)
    benchmarks = deal(write_items(len(BENCHMARKS) * recipe.items, rng), rng)
    n_blocks = recipe.items // recipe.block_items
    copies = [dose for dose in DOSES for _ in range(n_blocks // len(DOSES))]
    rng.shuffle(copies)
    blocks = (
        *_blocks(PLANTED, benchmarks[PLANTED], recipe.block_items, copies),
        *_blocks(CLEAN, benchmarks[CLEAN], recipe.block_items, [0] * n_blocks),
    )
    canaries = write_canaries(recipe.canary_copies, recipe.candidates, rng)
    library = _library(stdlib, recipe.fragments, rng)
    shown = [*_planted_records(blocks, rng), *_library_records(library, canaries, rng)]
    rng.shuffle(shown)

    planting = Planting(
        folder, benchmarks, blocks, canaries, len(library), len(shown), sum(len(r["text"].encode()) for r in shown)
    )
    _write(folder / MARK, [{"seed": seed, **asdict(recipe)}])  # first, so that the rest may be written again
    _write(planting.path(CORPUS), shown)
    _write(planting.path(VOCABULARY), _every_text_once(planting, library))
    _write(planting.path(BLOCKS), ({"id": b.key, "text": b.text, **_said(b.benchmark, b.copies)} for b in blocks))
    _write(planting.path(CANARIES), _candidate_records(canaries))
    dealt = {item.key: block.copies for block in blocks for item in block.items}
    for name, items in benchmarks.items():
        _write(planting.path(name), (_item_record(item, dealt.get(item.key, 0)) for item in items))
    return planting


def _refuse_foreign(folder: Path) -> None:
    """Files of ours would replace others of their names, and a benchmark has names as anybody would choose."""
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DemoError(
            f"{folder} exists and was not written by this demonstration (it has no {MARK}): name another folder"
        )


def deal(items: list[Item], rng: random.Random) -> dict[str, tuple[Item, ...]]:
    """As many items to every benchmark, in random order."""
    shuffled = rng.sample(items, len(items))
    size = len(items) // len(BENCHMARKS)
    return {name: tuple(shuffled[i * size : (i + 1) * size]) for i, name in enumerate(BENCHMARKS)}


def as_text(items: Iterable[Item]) -> str:
    """Items as a page holds them: questions with their answers."""
    return BETWEEN.join(item.text for item in items) + "\n"


def _blocks(benchmark: str, items: tuple[Item, ...], size: int, copies: list[int]) -> Iterator[Block]:
    for number, times in enumerate(copies):
        yield Block(f"{benchmark}-{number:02}", benchmark, items[number * size : (number + 1) * size], times)


def _library(stdlib: Path | None, n: int, rng: random.Random) -> list[tuple[str, str]]:
    """Key and text of `n` fragments."""
    folder = stdlib or Path(sysconfig.get_paths()["stdlib"])
    drawn = draw_fragments(fragments(folder), n, rng)
    if len(drawn) < n:
        raise DemoError(
            f"{folder} holds {len(drawn)} distinct fragments of Python source and the demonstration needs {n}: run it "
            "with a regular CPython (python.org, a system package, uv, conda)"
        )
    return [(f"{fragment.source_file}:{fragment.line}", fragment.text) for fragment in drawn]


def _planted_records(blocks: Iterable[Block], rng: random.Random) -> Iterator[dict[str, Any]]:
    """Every copy of every block, in one piece or two."""
    for block in blocks:
        for copy in range(1, block.copies + 1):
            cut = rng.randrange(len(block.items))
            pieces = [piece for piece in (block.items[:cut], block.items[cut:]) if piece]
            for number, piece in enumerate(pieces, 1):
                key = f"{block.key}, copy {copy}, piece {number}"
                yield _shown(key, as_text(piece), block.benchmark)


def _library_records(
    library: list[tuple[str, str]], canaries: Iterable[Canary], rng: random.Random
) -> Iterator[dict[str, Any]]:
    """Every fragment, the first ones with a canary as one of their first lines."""
    planted = [canary.text + "\n" for canary in canaries for _ in range(canary.copies)]
    for (key, text), line in zip(library, [*planted, *[""] * (len(library) - len(planted))], strict=True):
        lines = text.splitlines(keepends=True)
        lines.insert(rng.randrange(CANARY_LINES), line)
        yield _shown(key, "".join(lines), "canary" if line else "library")


def _every_text_once(planting: Planting, library: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    items = (item.text for benchmark in planting.benchmarks.values() for item in benchmark)
    canaries = (canary.text for canary in planting.canaries)
    for text in (*items, *canaries, *(text for _, text in library)):
        yield {"text": text}


def _candidate_records(canaries: Iterable[Canary]) -> Iterator[dict[str, Any]]:
    """Every end that a canary could have had; the one that it has is of label 1."""
    for canary in canaries:
        for number, candidate in enumerate(canary.candidates):
            is_secret = number == canary.secret
            yield {
                "id": f"{canary.name}/{number:04}",
                "line": canary.line,
                "number": candidate,
                "label": LABEL_SEEN if is_secret else LABEL_UNSEEN,
                "domain": canary.name,
                "copies": canary.copies if is_secret else 0,
            }


def _item_record(item: Item, copies: int) -> dict[str, Any]:
    return {"id": item.key, "question": item.question, "answer": item.answer, **_said(item.domain, copies)}


def _shown(key: str, text: str, domain: str) -> dict[str, Any]:
    """A record of the training text: its copies are records, so it counts none."""
    return {"id": key, "text": text, "label": LABEL_SEEN, "domain": domain}


def _said(domain: str, copies: int) -> dict[str, Any]:
    return {"label": LABEL_SEEN if copies else LABEL_UNSEEN, "domain": domain, "copies": copies}


def _write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write all records or none: the file appears under its name only when it is whole, and is left alone, with its
    time, where it holds them already."""
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    if path.is_file() and path.read_bytes() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(text)
    partial.replace(path)
