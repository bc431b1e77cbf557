"""Exact statistics of next-token distributions in one pass over the vocabulary; the `[R, V]` matrix never exists.

For hidden states `H` (one row a prediction), head weight `W` and the token `y` that came, the plain form is

    l = (H @ W.T + b).float();  lp = l.log_softmax(-1);  p = lp.exp()
    logprob = lp[y];  entropy = -(p * lp).sum(-1);  logprob_std = ((lp + entropy)**2 * p).sum(-1).sqrt()
    rank = 1 + (l > l[y]).sum(-1)

    state       what is kept of a row, and how two parts of its vocabulary are merged
    fold tiles  the kernel `torch`: products by tiles into one buffer, each folded into the state; any device
    kernel fused  the kernel `triton`: product and state in registers, CUDA; proven through Triton's interpreter
    topk        the largest logits, by the maxima of blocks

Memory does not depend on the vocabulary `V`. The price of exactness on a CPU: three passes over a tile that lies in
cache instead of two. Shapes: `R` rows (predictions), `C` tile columns, `V` vocabulary, `D` width, `S` state entries,
`P` parts of a vocabulary, `K` top-k.
"""

from operators.statistics.choose import Statistics, device_obstacle, make_statistics
from operators.statistics.fold import ROW_ALIGNMENT
from operators.statistics.options import KERNELS, Kernel, TileOptions
from operators.statistics.tiles import TiledStatistics

__all__ = [
    "KERNELS",
    "ROW_ALIGNMENT",
    "Kernel",
    "Statistics",
    "TileOptions",
    "TiledStatistics",
    "device_obstacle",
    "make_statistics",
]
