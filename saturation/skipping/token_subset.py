"""Runs of a feed-forward block for some tokens of a pass, and the sums of its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..anatomy import Block, Reading, first
from ..recording import Rows, ends
from ..similarity import distance_and_growth, sums

Sums = Tensor | np.ndarray  # a, b, c and p of `similarity.sums`, [4, token]
_TURNS = 0.05  # least share of |f|^2 across h at which float32 dot products keep p to a relative 1e-4


def block_sums(block: Block, rows: Rows, x: Tensor, delta: Tensor) -> Sums:
    """Sums over the real tokens; faster for a single token on the CPU."""
    hidden = x.shape[-1]
    if len(rows) == 1 and x.numel() == hidden and x.device.type == "cpu" and x.dtype == delta.dtype == torch.float32:
        h, f = x.reshape(-1), delta.reshape(-1)  # [hidden]
        a, b, c = (torch.dot(*pair).item() for pair in ((h, h), (h, f), (f, f)))
        b, c = b * block.multiplier, c * block.multiplier**2
        if a and a * c - b * b > _TURNS * a * c:
            return np.array([[a], [b], [c], [c - b * b / a]])
    x, delta = x.detach().reshape(-1, hidden), delta.detach().reshape(-1, hidden)
    if rows.index is not None:
        index = rows.index_on(x.device)
        x, delta = x[index], delta[index]
    return sums(x, delta if block.multiplier == 1 else delta.to(torch.float32) * block.multiplier)


def distances(abcp: Sums) -> np.ndarray:
    """1 - cos [token] as in a Trace, so that live decisions and replay compare the same numbers."""
    if isinstance(abcp, np.ndarray):
        return np.array([distance_and_growth(abcp[:, 0].tolist())[0]], dtype=np.float32)
    with np.errstate(all="ignore"):
        return distance_and_growth(abcp.double().cpu().numpy())[0].astype(np.float32)


class Places:
    """Indices of running and of skipped tokens in the flattened [batch * width] of a pass, without padding.

    Parameters
    ----------
    rows
        The tokens of the pass.
    skipped
        The skip mask of several layers, bool [token, layer]; it goes to a device in one copy.
    layers
        Numbers of the layers.
    """

    def __init__(self, rows: Rows, skipped: np.ndarray, layers: Sequence[int]) -> None:
        order = np.argsort(skipped, axis=0, kind="stable").T  # [layer, token]: running tokens, then skipped ones
        self._order = torch.from_numpy(np.ascontiguousarray(order if rows.index is None else rows.index[order]))
        runs = len(rows) - np.count_nonzero(skipped, axis=0)
        self._each = {layer: (row, int(count)) for row, (layer, count) in enumerate(zip(layers, runs, strict=True))}
        self._copied: dict[torch.device, Tensor] = {}

    def of(self, layer: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Indices of the running and the skipped tokens of a layer, [token] each, on the device."""
        if device not in self._copied:
            self._copied[device] = self._order.to(device)
        row, count = self._each[layer]
        there = self._copied[device][row]
        return there[:count], there[count:]


def confidence(reading: Reading, x: Tensor, tokens: Tensor) -> np.ndarray:
    """Difference of the two largest probabilities in the logits of some tokens of x [..., hidden], float32 [token]."""
    logits = reading.logits(x.detach().reshape(-1, x.shape[-1])[tokens])
    largest = logits.float().softmax(dim=-1).topk(2, dim=-1).values  # [token, 2]
    return (largest[:, 0] - largest[:, 1]).cpu().numpy()


def tokens_at(rows: Rows, mask: np.ndarray, x: Tensor) -> Tensor:
    """Indices in the flattened [batch * width] of the tokens of a mask [token]."""
    index = np.flatnonzero(mask) if rows.index is None else rows.index[mask]
    return torch.from_numpy(index).to(x.device)


def run_some(block: Block, x: Tensor, kept: Tensor, run: Callable[..., Any], extra: tuple, named: dict) -> Any:
    """Run the FFN for some tokens, with zeros for the others and without further outputs (router scores)."""

    def pick(argument: Any) -> Any:
        if torch.is_tensor(argument) and argument.shape[:-1] == x.shape[:-1]:
            return like(argument.reshape(-1, argument.shape[-1])[kept], x)
        return argument

    delta = first(run(pick(x), *map(pick, extra), **{name: pick(value) for name, value in named.items()}))
    full = spread(delta, kept, x)
    return (full, *[None] * (block.outputs - 1)) if block.outputs else full


def spread(rows: Tensor, kept: Tensor, x: Tensor) -> Tensor:
    """Scatter the rows of some tokens into the shape of x [..., hidden]; zero elsewhere."""
    full = torch.zeros_like(x).reshape(-1, x.shape[-1])  # [batch * width, hidden]
    full[kept] = rows.reshape(-1, x.shape[-1]).to(full.dtype)
    return full.reshape(x.shape)


def seeing_naive(block: Block, roles: dict[str, Tensor]) -> Callable[..., None]:
    """A callback that keeps the input of an FFN's first matrix and the output of its last."""
    reads, gives = ends(block)

    def seen(module: nn.Module, given: Tensor, output: Tensor) -> None:
        if module is reads:
            roles["naive_in"] = given
        if module is gives:
            roles["naive_out"] = output

    return seen


def like(rows: Tensor, x: Tensor) -> Tensor:
    """Rows [token, hidden] with as many axes as x."""
    return rows if x.ndim == 2 else rows.unsqueeze(0)


def without_residual(x: Tensor, extra: tuple, named: dict) -> tuple[tuple, dict]:
    """The arguments with zeros for the residual stream, so that the FFN returns only its own output."""

    def blank(argument: Any) -> Any:
        return torch.zeros_like(x) if argument is x else argument

    return tuple(map(blank, extra)), {name: blank(value) for name, value in named.items()}
