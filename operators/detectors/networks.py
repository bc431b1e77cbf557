"""Two small networks over the sequences of `operators.detectors.sequences`: one log-odds a document.

    los_net   channels -> width, + position --> [CLS] + tokens through one transformer block --> CLS -> 1
    pawn      channels -> MLP -> features a token; channels and position -> MLP -> gate, softmax over the document
              --> features averaged by the gate, one average a head --> MLP -> 1

Both are in the manner of the papers and smaller, for hundreds of documents on a CPU. PAWN's gate reads the model's last
hidden states in the paper; here it reads the same five numbers as the features, for a hidden state takes kilobytes a
token. Positions reach it as smooth functions, so that no position is learnt by itself. LOS-Net takes as many of the
largest log-probs as the run kept (the paper: 1000), one block and a small width.

Both take fewer positions than they were made for, where no document has more.
Shapes: `B` documents, `T` positions, `C` channels, `W` width, `H` heads.
Sources: LOS-Net, arXiv 2503.14043; PAWN, arXiv 2501.03940.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from operators.detectors.card import Sequences

HEADS = 4
DROPOUT = 0.1


def make_network(inputs: Sequences) -> nn.Module:
    """A network for these inputs; call it with values [B, T, C] and a mask [B, T], it returns log-odds [B]."""
    made = LosNet if inputs.kind == "los_net" else Pawn
    return made(len(inputs.channels), inputs.positions, inputs.width)


class Scale(nn.Module):
    """Standardises channels by what `fit` saw; what is behind a document's end stays 0."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Learn from values [B, T, C] and masks [B, T]."""
        count, mean, squares = 0, torch.zeros_like(self.mean, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for values, mask in batches:
            tokens = values[mask].double()
            if not len(tokens):
                continue
            own, share = tokens.mean(dim=0), len(tokens) / (count + len(tokens))
            squares = squares + ((tokens - own) ** 2).sum(dim=0) + (own - mean) ** 2 * count * share
            count, mean = count + len(tokens), mean + (own - mean) * share
        deviation = (squares / max(1, count)).sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation < 1e-6, 1.0, deviation))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        return (values - self.mean) / self.deviation * mask[..., None]


class LosNet(nn.Module):
    """A transformer block over the tokens and one more place that sums them up."""

    def __init__(self, channels: int, positions: int, width: int) -> None:
        super().__init__()
        self.scale = Scale(channels)
        self.inward = nn.Linear(channels, width)
        self.position = nn.Parameter(0.02 * torch.randn(positions, width))
        self.summary = nn.Parameter(0.02 * torch.randn(width))
        self.before_attention, self.before_mlp, self.before_head = (nn.LayerNorm(width) for _ in range(3))
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        tokens_BTW = self.inward(self.scale(values, mask)) + self.position[: values.shape[1]]
        summary_B1W = self.summary.expand(len(values), 1, -1)
        x = torch.cat([summary_B1W, tokens_BTW], dim=1)
        seen = functional.pad(mask, (1, 0), value=True)[:, None, None, :]
        x = x + self.dropout(self._attention(self.before_attention(x), seen))
        x = x + self.dropout(self.mlp(self.before_mlp(x)))
        return cast(Tensor, self.head(self.before_head(x[:, 0]))[:, 0])

    def _attention(self, x: Tensor, seen: Tensor) -> Tensor:
        batch, places, width = x.shape
        heads = self.queries_keys_values(x).view(batch, places, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=seen)
        return cast(Tensor, self.attended(mixed.transpose(1, 2).reshape(batch, places, width)))


class Pawn(nn.Module):
    """Averages of what each token says, weighted by how much it has to say."""

    places: Tensor

    def __init__(self, channels: int, positions: int, width: int) -> None:
        super().__init__()
        self.scale = Scale(channels)
        self.register_buffer("places", _smooth_positions(positions), persistent=False)
        self.features = nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, width))
        gate_inputs = channels + self.places.shape[1]
        self.gate = nn.Sequential(nn.Linear(gate_inputs, width), nn.GELU(), nn.Linear(width, HEADS))
        self.head = nn.Sequential(
            nn.Linear(HEADS * width, width), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(width, 1)
        )  # fmt: skip

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        scaled_BTC = self.scale(values, mask)
        places = self.places[: values.shape[1]].expand(len(values), -1, -1)
        gates_BTH = self.gate(torch.cat([scaled_BTC, places], dim=2))
        # A document without a token has no weights to share: its numbers are never used.
        weights_BTH = gates_BTH.masked_fill(~mask[..., None], torch.finfo(gates_BTH.dtype).min).softmax(dim=1)
        means_BHW = weights_BTH.transpose(1, 2) @ self.features(scaled_BTC)
        return cast(Tensor, self.head(means_BHW.flatten(1))[:, 0])


def _smooth_positions(positions: int) -> Tensor:
    """[T, 6]: how far along a token is, evenly and by logarithm, and two waves."""
    place = torch.arange(positions, dtype=torch.float32) / max(1, positions - 1)
    logarithm = torch.log1p(torch.arange(positions, dtype=torch.float32)) / math.log1p(positions)
    waves = [wave(2 * math.pi * k * place) for k in (1, 2) for wave in (torch.sin, torch.cos)]
    return torch.stack([2 * place - 1, 2 * logarithm - 1, *waves], dim=1)
