"""The words of many texts: where each stands, what it is once normalised, and a hash of that.

    word w of text d:  start_W[w] <= its bytes in text d < end_W[w]     norm[at_W[w] : at_W[w] + size_W[w]] is the word

A word is bytes here, whatever the normalisation: UTF-8, or the four bytes of a token id. Hashes are of those bytes
alone, so equal words have equal hashes in any text; that unequal ones differ is likely (64 bits) and never relied on.
They have no key, so unequal words of one hash can be made on purpose. In a corpus they cost a look at what the
benchmark has of that hash, mostly one word or n-gram; only a benchmark made of k such makes every look-up of them k
times as dear.
Bytes are read eight at a time, which is why `norm` has as many zeros behind it.
Shapes: `D` texts, `W` words of all of them, `A` those still looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

Ids = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

EIGHT = 8
_LONG = 128  # words of more bytes are hashed one by one
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FINAL = np.uint64(0xD6E8FEB86659FD93)
_HALF, _UNEVEN = np.uint64(32), np.uint64(29)
_MASKS = np.array([(1 << (8 * k)) - 1 for k in range(EIGHT + 1)], np.uint64)  # of the first k bytes, little endian


@dataclass(frozen=True)
class Words:
    """The words of D texts, text by text. `bounds` `(D + 1,)`: text d has words `bounds[d]:bounds[d + 1]`."""

    norm: Bytes
    at_W: Ids
    size_W: Ids
    start_W: Ids
    end_W: Ids
    bounds: Ids

    def __len__(self) -> int:
        return len(self.at_W)

    def hashed(self, bits: int = 64) -> Hashes:
        """`(W,)`: a hash of each word, of which the first `bits` are kept."""
        return leading(hashes(self.norm, self.at_W, self.size_W), bits)

    def ordered(self, texts: Ids) -> Words:
        """The texts in another order."""
        counts = np.diff(self.bounds)[texts]
        bounds = running(counts)
        words = ranges(self.bounds[texts], counts)
        at_W, size_W, start_W, end_W = (values[words] for values in (self.at_W, self.size_W, self.start_W, self.end_W))
        return Words(self.norm, at_W, size_W, start_W, end_W, bounds)

    @staticmethod
    def joined(parts: Sequence[Words]) -> Words:
        """The texts of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        shifts = running(np.array([len(part.norm) for part in parts], np.int64))
        counts = [np.diff(part.bounds) for part in parts]
        return Words(
            np.concatenate([part.norm for part in parts] or [padded(b"")]),
            _laid([part.at_W + shift for part, shift in zip(parts, shifts, strict=False)]),
            _laid([part.size_W for part in parts]),
            _laid([part.start_W for part in parts]),
            _laid([part.end_W for part in parts]),
            running(_laid(counts)),
        )


def _laid(parts: Sequence[Ids]) -> Ids:
    return np.concatenate([np.empty(0, np.int64), *parts])


def running(counts: Ids) -> Ids:
    """The sums of the first 0, 1, ... counts."""
    sums = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=sums[1:])
    return sums


def ranges(firsts: Ids, counts: Ids) -> Ids:
    """`firsts[i], firsts[i] + 1, ...`, `counts[i]` of them, for every i."""
    bounds = running(counts)
    steps: Ids = np.arange(bounds[-1]) + np.repeat(firsts - bounds[:-1], counts)
    return steps


def padded(data: bytes) -> Bytes:
    """`data` with the zeros behind it that reading eight bytes at a time needs."""
    return np.frombuffer(data + bytes(EIGHT), np.uint8)


def load(norm: Bytes, at_A: Ids) -> Hashes:
    """The eight bytes from every place, as one little-endian number."""
    # Bytes that overlap and lie anywhere: void items are moved as they are, numbers would have to be aligned.
    windows = np.ndarray((len(norm) - EIGHT + 1,), np.dtype("V8"), norm, 0, (1,))
    return np.asarray(windows[at_A].view("<u8"))


def hashes(norm: Bytes, at_W: Ids, size_W: Ids) -> Hashes:
    """64 bits for every word, from its bytes and their number."""
    hash_W = size_W.astype(np.uint64)
    hash_W *= _FINAL
    hash_W = mixed(hash_W, load(norm, at_W) & _MASKS[np.minimum(size_W, EIGHT)])
    left = np.flatnonzero(size_W > EIGHT)
    done = EIGHT
    while len(left) and done < _LONG:
        sizes = size_W[left]
        read = load(norm, at_W[left] + done) & _MASKS[np.minimum(sizes - done, EIGHT)]
        hash_W[left] = mixed(hash_W[left], read)
        done += EIGHT
        left = left[sizes > done]
    for w in left.tolist():
        hash_W[w] = xxh3_64_intdigest(norm[at_W[w] : at_W[w] + size_W[w]].tobytes())
    return hash_W


def mixed(left: Hashes, right: Hashes) -> Hashes:
    """One hash of two, in their order: a bijection of either while the other stays."""
    x = left * _MULTIPLIER
    x ^= x >> _UNEVEN
    x += right
    x *= _MULTIPLIER
    x ^= x >> _HALF
    return x


def gram_hashes(hash_W: Hashes, n: int, bits: int = 64) -> Hashes:
    """`(W - n + 1,)`: 64 bits for the n words from each word on, of which the first `bits` are kept.

    In log2(n) passes: of runs of 1, 2, 4, ... words those are joined that n is the sum of.
    """
    n_grams = max(0, len(hash_W) - n + 1)
    run_W, width, covered = hash_W, 1, 0
    result: Hashes | None = None
    while covered < n:
        if n & width:
            part = run_W[covered : covered + n_grams]
            result = part if result is None else mixed(result, part)
            covered += width
        if covered < n:
            run_W = mixed(run_W[:-width], run_W[width:])
            width *= 2
    final: Hashes = (run_W[:0] if result is None else result) * _FINAL
    final ^= final >> _HALF
    final *= _MULTIPLIER
    return leading(final, bits)


def leading(values: Hashes, bits: int) -> Hashes:
    """The first `bits` of every hash, zeros after them."""
    return values if bits == 64 else values >> np.uint64(64 - bits) << np.uint64(64 - bits)


def equal_bytes(left: Bytes, left_A: Ids, right: Bytes, right_A: Ids, size_A: Ids) -> Flags:
    """Whether the `size_A[i]` bytes at `left_A[i]` are those at `right_A[i]`."""
    equal = np.ones(len(size_A), np.bool_)
    rest, done = np.flatnonzero(size_A > 0), 0
    while len(rest) and done < _LONG:
        mask = _MASKS[np.minimum(size_A[rest] - done, EIGHT)]
        same = (load(left, left_A[rest] + done) & mask) == (load(right, right_A[rest] + done) & mask)
        equal[rest[~same]] = False
        done += EIGHT
        rest = rest[same & (size_A[rest] > done)]
    for i in rest.tolist():
        size = size_A[i]
        equal[i] = np.array_equal(left[left_A[i] :][:size], right[right_A[i] :][:size])
    return equal
