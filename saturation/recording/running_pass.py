"""Tensors kept from one forward pass, and the measures computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..anatomy import Block, weight
from ..similarity import sums
from .token_rows import Rows, not_run

ROLES = ("x", "delta", "before", "after", "naive_in", "naive_out")


class Pass:
    """Tensors of one running forward pass, by role and layer, kept until distance and growth are computed."""

    def __init__(self, rows: Rows, layers: int) -> None:
        self.rows, self.thread = rows, get_ident()
        self.kept: dict[str, list[Any]] = {role: [None] * layers for role in ROLES}
        self.given: set[tuple[str, int]] = (
            set()
        )  # (role, layer) that a skipping run gave; the taps see only part of these
        self.summed: dict[str, dict[int, Tensor | None]] = {}  # None for a layer at which nothing ran
        self.skipped: np.ndarray | None = None  # bool [token, layer], set by a skipping run


def ends(block: Block) -> tuple[nn.Module, nn.Module]:
    """The first and the last module with matrices in a block's chain, so without the FFN's own norms.

    For a block with branches the last is its source, whose output is their sum.
    """
    heavy = [module for module in block.chain if weight(module)]
    return heavy[0], block.source if block.steps else heavy[-1]


def numbers(measure: str, passes: Sequence[Pass], blocks: Sequence[Block]) -> Tensor:
    """The numbers of a measure: four sums, or for "magnitude" the largest and the median |h_i|, [4 or 2, ...]."""
    if measure == "magnitude":
        size = _precise(_without_padding("after", passes, blocks)).abs()  # [pass * layer, token, hidden]
        return torch.stack((size.amax(dim=-1), size.median(dim=-1).values))
    return sums(*_pair(measure, passes, blocks))


def _pair(measure: str, passes: Sequence[Pass], blocks: Sequence[Block]) -> tuple[Tensor, Tensor]:
    """The residual stream and the sublayer's output, [pass * layer, token, hidden] each, without padding."""
    if measure == "naive":
        return _without_padding("naive_in", passes, blocks), _without_padding("naive_out", passes, blocks)
    if measure == "block":
        before, after = _without_padding("before", passes, blocks), _without_padding("after", passes, blocks)
        return before, _precise(after) - _precise(before)
    delta = _without_padding("delta", passes, blocks)
    factors = [block.multiplier for block in blocks]
    if any(factor != factors[0] for factor in factors):
        each = torch.tensor(factors * len(passes), device=delta.device)
        delta = _precise(delta) * each[:, None, None]
    elif factors[0] != 1:
        delta = _precise(delta) * factors[0]
    if blocks[0].parallel:  # attention and FFN are added together: the FFN turns the layer's output without the FFN
        x = _precise(_without_padding("after", passes, blocks)) - _precise(delta)
    else:
        x = _without_padding("x", passes, blocks)
    if measure == "attention":
        before = _precise(_without_padding("before", passes, blocks))
        return before, _precise(x) - before
    return x, delta


def _without_padding(role: str, passes: Sequence[Pass], blocks: Sequence[Block]) -> Tensor:
    """The tensors kept under a role, [pass * layer, token, hidden], real tokens only."""
    tensors = [now.kept[role][block.index] for now in passes for block in blocks]
    if missing := next((block for block, tensor in zip(blocks, tensors, strict=False) if tensor is None), None):
        raise not_run(missing.index)
    if not passes[0].rows.stepped:
        for tensor, block in zip(tensors, blocks, strict=True):  # passes over given text are summed one by one
            passes[0].rows.check(tensor, block.index)
    if tensors[0].device != tensors[-1].device:
        tensors = [tensor.to(tensors[0].device) for tensor in tensors]
    flat = torch.stack(tensors).flatten(1, -2)  # [pass * layer, batch * width, hidden]
    rows = passes[0].rows  # only decode steps are summed together, and they have no padding
    return flat if rows.index is None else flat[:, rows.index_on(flat.device)]


def _precise(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
