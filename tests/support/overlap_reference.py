"""What overlap must find, said plainly: words by a loop over characters, n-grams as tuples, matches by walking."""

from __future__ import annotations

import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from operators.overlap import ITEMS
from schemas.flow import READ

Word = tuple[str, int, int]  # normalised, first byte, last byte + 1
ALONE = {
    "THAI",
    "LAO",
    "MYANMAR",
    "KHMER",
    "HIRAGANA",
    "KATAKANA",
    "KATAKANA-HIRAGANA",
    "CJK",
    "IDEOGRAPHIC",
    "HANGZHOU",
}


def simple_fold(character: str) -> str:
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return folded
    return character


def stands_alone(character: str) -> bool:
    if unicodedata.category(character) not in ("Lo", "Lm", "Nl"):
        return False
    name = unicodedata.name(character, "")
    if name.startswith(("HALFWIDTH", "VERTICAL")):
        return "KANA" in name or "IDEOGRAPHIC" in name
    return name.split()[0] in ALONE if name else False


def clusters(text: str) -> Iterator[tuple[str, str]]:
    """Pieces of a text with their composed forms, as short as can be composed one by one."""
    pieces: list[str] = []
    for character in text:
        if pieces and pieces[-1] <= " ":
            pieces.append(character)  # marks behind white space are not joined to it
        elif pieces and unicodedata.normalize("NFC", pieces[-1] + character) != unicodedata.normalize(
            "NFC", pieces[-1]
        ) + unicodedata.normalize("NFC", character):
            pieces[-1] += character
        elif pieces and unicodedata.combining(unicodedata.normalize("NFD", character)[0]):
            pieces[-1] += character  # a mark after this one may still compose with what is before both
        else:
            pieces.append(character)
    for piece in pieces:
        yield piece, unicodedata.normalize("NFC", piece)


def characters(text: str) -> Iterator[tuple[str, int, int]]:
    """The composed characters and the bytes each covers."""
    place = 0
    for piece, composed in clusters(text):
        size = len(piece.encode())
        if piece == composed:
            for character in piece:
                yield character, place, (place := place + len(character.encode()))
        else:
            for character in composed:
                yield character, place, place + size
            place += size


def words_1(text: str) -> list[Word]:
    words: list[Word] = []
    is_open, is_alone = False, False
    for character, start, end in characters(text):
        category = unicodedata.category(character)[0]
        if category not in "LNM":
            is_open = False
            continue
        mark, alone = category == "M", stands_alone(character)
        if is_open and not alone and (mark or not is_alone):
            words[-1] = (words[-1][0] + simple_fold(character), words[-1][1], end)
        else:
            words.append((simple_fold(character), start, end))
            is_alone = False
        is_open = True
        if not mark:
            is_alone = alone
    return words


def janitor_1(text: str) -> list[Word]:
    words: list[Word] = []
    is_open, place = False, 0
    for character in text:
        start, place = place, place + len(character.encode())
        if character.isspace():
            is_open = False
        elif character not in string.punctuation:
            lower = character.lower() if character in string.ascii_uppercase else character
            if is_open:
                words[-1] = (words[-1][0] + lower, words[-1][1], place)
            else:
                words.append((lower, start, place))
            is_open = True
    return words


@dataclass
class Item:
    key: str
    input: str
    answer: str | None = None
    item_id: int = 0


def item_table(items: Sequence[Item]) -> pa.Table:
    columns = {
        "item_id": [item.item_id for item in items],
        "key": [item.key for item in items],
        "source": ["bench.jsonl"] * len(items),
        "row": list(range(len(items))),
        "input": [item.input for item in items],
        "answer": [item.answer for item in items],
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in ITEMS], schema=ITEMS)


def read_block(texts: Sequence[str | None], first: int = 0) -> pa.Table:
    """A block as the readers give it; a text of None is a reject."""
    columns = {f.name: pa.nulls(len(texts), f.type) for f in READ} | {
        "source": pa.array(["corpus.jsonl"] * len(texts), pa.string()),
        "row": pa.array(range(first, first + len(texts)), pa.int64()),
        "key": pa.array([f"doc-{first + i}" for i in range(len(texts))], pa.string()),
        "text": pa.array(texts, pa.string()),
        "reason": pa.array(["broken_json" if text is None else None for text in texts], pa.string()),
    }
    return pa.table([columns[f.name] for f in READ], schema=READ)


@dataclass
class Expected:
    """`seen[item, part]` and `n_grams`: places of n-grams. `seen_at`: (item, first word) of those seen. `spans`:
    (document, first byte, bytes, item, first word, words). `cuts`: byte ranges by document. `common`: (document,
    n-gram) that do not start a span at each of their places."""

    seen: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    seen_at: set[tuple[int, int]] = field(default_factory=set)
    n_grams: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    spans: set[tuple[int, int, int, int, int, int]] = field(default_factory=set)
    cuts: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    common: set[tuple[int, tuple[str, ...]]] = field(default_factory=set)


def expect(
    items: Sequence[Item], texts: Sequence[str | None], n: int, most_items: int = 10**9, cut=words_1
) -> Expected:
    """By comparing everything with everything."""
    result = Expected()
    item_words = [[w for w, _, _ in cut(item.input)] + [w for w, _, _ in cut(item.answer or "")] for item in items]
    places: dict[tuple[str, ...], int] = defaultdict(int)
    for words in item_words:
        for p in range(len(words) - n + 1):
            places[tuple(words[p : p + n])] += 1
    seen: set[tuple[str, ...]] = set()
    for d, text in enumerate(texts):
        if text is not None:
            seen |= _expect_document(result, d, cut(text), item_words, places, n, most_items)
    for i, own in enumerate(item_words):
        border = len(cut(items[i].input))
        for p in range(len(own) - n + 1):
            if tuple(own[p : p + n]) in seen:
                result.seen_at.add((i, p))
            part = "input" if p + n <= border else "answer" if p >= border else "across"
            for name in (part, "all"):
                result.n_grams[i, name] += 1
                result.seen[i, name] += (i, p) in result.seen_at
    return result


def _expect_document(
    result: Expected,
    d: int,
    found: list[Word],
    item_words: list[list[str]],
    places: dict[tuple[str, ...], int],
    n: int,
    most_items: int,
) -> set[tuple[str, ...]]:
    """Add what document d holds; its n-grams that the benchmark has."""
    words = [w for w, _, _ in found]
    here: dict[tuple[str, ...], list[int]] = defaultdict(list)
    hits = []
    for w in range(len(words) - n + 1):
        gram = tuple(words[w : w + n])
        if gram in places:
            here[gram].append(w)
            hits.append((w, found[w][1], found[w + n - 1][2]))
    if hits:
        result.cuts[d] = _union(hits, n)
    starts = {w for gram, at in here.items() for w in at[: most_items // places[gram]]}
    result.common |= {(d, gram) for gram, at in here.items() if not starts.issuperset(at)}
    for i, own in enumerate(item_words):
        for w, p, length in _maximal(words, own, n):
            if starts.intersection(range(w, w + length - n + 1)):
                first, last = found[w][1], found[w + length - 1][2]
                result.spans.add((d, first, last - first, i, p, length))
    return set(here)


def _maximal(words: Sequence[str], own: Sequence[str], n: int) -> Iterator[tuple[int, int, int]]:
    """All longest stretches of at least n words that two sequences share at one shift."""
    for shift in range(-len(own), len(words) + 1):
        length = 0
        for p in range(len(own) + 1):
            w = p + shift
            if p < len(own) and 0 <= w < len(words) and own[p] == words[w]:
                length += 1
                continue
            if length >= n:
                yield w - length, p - length, length
            length = 0


def _union(hits: Sequence[tuple[int, int, int]], n: int) -> list[tuple[int, int]]:
    """Byte ranges of hits (first word, first byte, last byte + 1), those without a word between them joined."""
    joined: list[tuple[int, int]] = []
    last_word = -1
    for word, start, end in hits:
        if joined and word <= last_word:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
        last_word = word + n
    return joined


def random_text(rng: np.random.Generator, words: int, alphabet: Sequence[str]) -> str:
    """Words of a small alphabet, many times over, behind separators of several kinds."""
    separators = (" ", "  ", "\n", ", ", " - ", "\t", ". ")
    return "".join(
        alphabet[rng.integers(len(alphabet))] + separators[rng.integers(len(separators))] for _ in range(words)
    )
