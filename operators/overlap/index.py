"""The index of a benchmark, as files that many processes map: which n-grams it has, and where.

    vocabulary_*    the distinct words (`vocabulary`)                               8 + 8 bytes a word, and its bytes
    words           the items one after the other, as numbers of the vocabulary     4 bytes a word
    bounds, inputs  the first word of each item; how many of its words are input    8 + 4 bytes an item
    item_ids        the item's id, in the order of the benchmark                    8 bytes an item
    items.arrow     the items as they were given                                    their text
    filter          a bit for every hash: most n-grams of a corpus stop here        2 to 4 bytes an n-gram
    hashes          of the distinct n-grams, ascending: gram g has number g         8 bytes an n-gram
    firsts          the first posting of each                                       8 bytes an n-gram
    postings        where in `words` it stands                                      4 bytes a place (8 above 2**32)
    manifest.json   written last: what was indexed, under which options; sizes and checksums

So 26 to 28 bytes for an n-gram that stands in one place, besides the text. N-grams of one hash have numbers side by
side, each its own. Nothing here is read as a whole, and the processes of a machine share what is.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from operators.overlap.bits import filter_bits, filter_places, get_bits
from operators.overlap.files import checksum, mapped
from operators.overlap.options import OverlapError, OverlapOptions
from operators.overlap.vocabulary import FILES as VOCABULARY_FILES
from operators.overlap.vocabulary import Vocabulary
from operators.overlap.words import Bytes, Flags, Hashes, Ids

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("input", pa.large_string(), nullable=False),
        pa.field("answer", pa.large_string()),  # NULL where the benchmark has no answers
    ]
)
FORMAT = "assay-overlap-1"
MANIFEST = "manifest.json"
ITEMS_FILE = "items.arrow"
_ARRAYS = {  # file: field of the index, and type
    "words": ("words_N", "<i4"),
    "bounds": ("bounds", "<i8"),
    "inputs": ("inputs_I", "<i4"),
    "item_ids": ("item_ids_I", "<i8"),
    "filter": ("filter", "u1"),
    "hashes": ("hashes_G", "<u8"),
    "firsts": ("firsts", "<i8"),
}
NAMES = (*VOCABULARY_FILES, *_ARRAYS, "postings", ITEMS_FILE)


def postings_type(n_words: int) -> str:
    return "<u4" if n_words < 1 << 32 else "<i8"


def definition(options: OverlapOptions, tokenizer: str | None) -> dict[str, Any]:
    """What the files of an index depend on besides the items. `tokenizer`: its fingerprint."""
    return {
        "format": FORMAT,
        "n": options.n,
        "normalisation": options.normalisation,
        "unicode": unicodedata.unidata_version,
        "tokenizer": tokenizer,
        "hash_bits": options.hash_bits,
    }


@dataclass(frozen=True)
class BenchmarkIndex:
    """An index, mapped. Shapes: `I` items, `N` words of all of them, `G` distinct n-grams."""

    folder: Path
    manifest: Mapping[str, Any]
    vocabulary: Vocabulary
    words_N: npt.NDArray[np.int32]
    bounds: Ids  # (I + 1,)
    inputs_I: npt.NDArray[np.int32]
    item_ids_I: Ids
    filter: Bytes
    hashes_G: Hashes
    firsts: Ids  # (G + 1,)
    postings: npt.NDArray[Any]

    @classmethod
    def open(
        cls,
        folder: Path,
        options: OverlapOptions | None = None,
        *,
        tokenizer: str | None = None,
        verify: bool = False,
    ) -> BenchmarkIndex:
        """Map the index in `folder`. `options` and the tokenizer's fingerprint: those it must have been made under.

        Raises:
            OverlapError: it is not whole, or not of these options. `verify`: or its checksums are not the manifest's.
        """
        manifest = _read_manifest(folder)
        _check_files(folder, manifest["files"], verify=verify)
        if options is not None:
            _check_definition(manifest, definition(options, tokenizer))
        arrays = {field: mapped(folder / name, dtype) for name, (field, dtype) in _ARRAYS.items()}
        postings = mapped(folder / "postings", postings_type(manifest["n_words"]))
        return cls(folder, manifest, Vocabulary.open(folder), postings=postings, **arrays)

    def __enter__(self) -> BenchmarkIndex:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open but maps, which go with the last array that looks into them."""

    @property
    def n(self) -> int:
        return int(self.manifest["n"])

    @property
    def n_items(self) -> int:
        return len(self.item_ids_I)

    @property
    def n_words(self) -> int:
        return len(self.words_N)

    @property
    def n_grams(self) -> int:
        """Distinct ones."""
        return len(self.hashes_G)

    @property
    def n_short(self) -> int:
        """Items of fewer than n words: they have no n-gram, and match nothing."""
        return int(self.manifest["n_short"])

    @property
    def digest(self) -> str:
        """Of the options and of all items, in their order."""
        return str(self.manifest["digest"])

    @property
    def files(self) -> tuple[str, ...]:
        """The names to copy, the manifest last."""
        return (*NAMES, MANIFEST)

    @property
    def items(self) -> pa.Table:
        """The items, schema `ITEMS`, mapped."""
        with pa.memory_map(str(self.folder / ITEMS_FILE)) as file:
            return pa.ipc.open_file(file).read_all()

    def may_have(self, hashes: Hashes) -> Flags:
        """Whether an n-gram of this hash may be in the benchmark: true for each that is, and for few others."""
        bits = int(self.filter.size * 8).bit_length() - 1
        return get_bits(self.filter, filter_places(hashes, bits))

    def find(self, hashes: Hashes) -> tuple[Ids, Ids]:
        """Of these hashes, the places of those that n-grams have; and the first of these n-grams for each."""
        if not self.n_grams:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        number = np.searchsorted(self.hashes_G, hashes)
        known = np.flatnonzero(self.hashes_G[np.minimum(number, self.n_grams - 1)] == hashes)
        return known, number[known]

    def items_of(self, places: Ids) -> Ids:
        """The item at each place in `words_N`."""
        return np.searchsorted(self.bounds, places, side="right") - 1


def new_filter(folder: Path, n_postings: int) -> Bytes:
    """An empty filter for so many n-grams, mapped for writing."""
    path = folder / "filter"
    with path.open("xb") as file:
        file.truncate(1 << (filter_bits(n_postings) - 3))
    return mapped(path, "u1", "r+")


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """The last file of an index: with it the others are whole."""
    files = {name: {"bytes": (folder / name).stat().st_size, "xxh3_128": checksum(folder / name)} for name in NAMES}
    temporary = folder / f"{MANIFEST}.part"
    temporary.write_text(json.dumps({**facts, "files": files}, indent=1), encoding="utf-8")
    temporary.replace(folder / MANIFEST)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OverlapError(f"{folder}: no finished index there: build it again") from None
    except (OSError, ValueError) as error:
        raise OverlapError(f"{folder / MANIFEST}: {error}: build the index again") from None
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("files"), dict)
    ):
        raise OverlapError(f"{folder / MANIFEST}: not an index of format {FORMAT}: build it again")
    return manifest


def _check_files(folder: Path, files: Mapping[str, Any], *, verify: bool) -> None:
    for name in NAMES:
        path, wanted = folder / name, files.get(name, {})
        size = path.stat().st_size if path.is_file() else None
        if size != wanted.get("bytes"):
            raise OverlapError(f"{path}: {size} bytes, the manifest has {wanted.get('bytes')}: build the index again")
        if verify and checksum(path) != wanted.get("xxh3_128"):
            raise OverlapError(f"{path}: its checksum is not the manifest's: build the index again")


def _check_definition(manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differs = [
        f"{name} {manifest.get(name)!r}, not {value!r}" for name, value in wanted.items() if manifest.get(name) != value
    ]
    if differs:
        raise OverlapError(f"the index was made under {'; '.join(differs)}: build it again")
