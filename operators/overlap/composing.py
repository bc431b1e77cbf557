"""The canonical form of a text (NFC), and where in the text each of its characters is spelt.

Shapes: `C` characters.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt

from operators.overlap.characters import SPACE, opens_cluster, utf8_bytes
from operators.overlap.words import Flags, Ids, running

Codes = npt.NDArray[np.uint32]


def _codes(text: str) -> Codes:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)  # faster than to ask whether it is


def characters(text: str, canonical: str) -> tuple[Codes, Ids, Ids]:
    """The characters of a text's composed form, and the bytes from and to which each is spelt in the text.

    Where composition changes a cluster (a character and what combines with it), every character that comes out covers
    the whole cluster.
    """
    code_C = _codes(text)
    bounds = running(utf8_bytes(code_C))
    if canonical == text:
        return code_C, bounds[:-1], bounds[1:]
    composed_C = _codes(canonical)
    before, after = _clusters(code_C), _clusters(composed_C)
    if len(before) != len(after):
        raise RuntimeError("composition changed how many clusters a text has: Unicode data and normaliser disagree")
    cluster_C = np.repeat(np.arange(len(after) - 1), np.diff(after))
    place_C = np.arange(len(composed_C)) - after[cluster_C]
    changed = _changed(code_C, before, composed_C, after)
    own_C = np.minimum(before[cluster_C] + place_C, len(code_C) - 1)
    whole_C = changed[cluster_C]
    from_C = np.where(whole_C, bounds[before[cluster_C]], bounds[own_C])
    to_C = np.where(whole_C, bounds[before[cluster_C + 1]], bounds[own_C + 1])
    return composed_C, from_C, to_C


def _clusters(code_C: Codes) -> Ids:
    """The bounds of clusters. White space of ASCII is one of its own: marks behind it belong to no word before them."""
    opens_C = opens_cluster()[code_C]
    opens_C[1:] |= code_C[:-1] <= SPACE
    opens_C[0] = True
    return np.append(np.flatnonzero(opens_C), len(code_C))


def _changed(code_C: Codes, before: Ids, composed_C: Codes, after: Ids) -> Flags:
    """Whether each cluster is spelt otherwise than it was."""
    sizes = np.diff(before)
    changed: Flags = sizes != np.diff(after)
    same = np.flatnonzero(~changed)
    cluster = np.repeat(same, sizes[same])
    step = np.arange(len(cluster)) - np.repeat(running(sizes[same])[:-1], sizes[same])
    differs = code_C[before[cluster] + step] != composed_C[after[cluster] + step]
    changed[cluster[differs]] = True
    return changed
