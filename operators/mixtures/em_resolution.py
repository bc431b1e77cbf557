"""Which components the documents cannot tell apart: directions in which shares move and the likelihood hardly does.

    H on shares that sum to 0 --> eigenvalues l --> standard error along each direction 1 / sqrt(N l)
    --> components that directions with an error above `UNSURE` join: one group

Two runs of one model make an eigenvalue of 0: any division of what they have together is as likely as any other.
Groups without any share are left out: there is nothing to divide. Shapes as in `em`.
"""

from __future__ import annotations

import numpy as np

from operators.mixtures.em import Fit

UNSURE = 0.25  # standard error of a share; 0.29 is that of a number drawn between 0 and 1
_JOINED = 0.05  # of the projection on unsure directions; 0.5 for two components that are the same


def unresolved(fit: Fit, n: int) -> list[tuple[int, ...]]:
    """Groups of components, two or more each, whose shares are known in sum only; `n` observations."""
    size = len(fit.share_K)
    if size < 2:
        return []
    basis = np.linalg.svd(np.eye(size) - 1 / size)[0][:, :-1]  # of shares that sum to 0
    values, vectors = np.linalg.eigh(basis.T @ fit.hessian_KK @ basis)
    flat = (basis @ vectors)[:, n * np.maximum(values, 0) * UNSURE**2 < 1]
    joined = np.abs(flat @ flat.T) > _JOINED
    groups = _connected(joined)
    return [group for group in groups if len(group) > 1 and fit.share_K[list(group)].sum() > 0]


def _connected(joined: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[tuple[int, ...]]:
    """The connected parts of a graph, each ascending."""
    left, found = set(range(len(joined))), []
    while left:
        part, edge = set(), {min(left)}
        while edge:
            part |= edge
            edge = {int(k) for i in edge for k in np.flatnonzero(joined[i])} - part
        left -= part
        found.append(tuple(sorted(part)))
    return found
