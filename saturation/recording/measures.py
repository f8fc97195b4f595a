"""What is kept of one forward pass, and the numbers that are made of it."""

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
    """One forward pass under way: tensors kept by role and layer until they are summed."""

    def __init__(self, rows: Rows, layers: int) -> None:
        self.rows, self.thread = rows, get_ident()
        self.kept: dict[str, list[Any]] = {role: [None] * layers for role in ROLES}
        self.given: set[tuple[str, int]] = set()  # (role, layer) of what a skipping run kept, where the eyes see part
        self.summed: dict[str, dict[int, Tensor | None]] = {}  # None of a layer at which nothing ran
        self.skipped: np.ndarray | None = None  # bool [token, layer], where a skipping run says so


def ends(block: Block) -> tuple[nn.Module, nn.Module]:
    """The first and the last module of a block's chain that carry matrices: without the FFN's own norms.

    Of a block with branches the last is its source, where they have been added.
    """
    heavy = [module for module in block.chain if weight(module)]
    return heavy[0], block.source if block.steps else heavy[-1]


def numbers(measure: str, passes: Sequence[Pass], blocks: Sequence[Block]) -> Tensor:
    """What is kept of a measure: its four sums, or of "magnitude" the largest and the median |h_i|, [4 or 2, ...]."""
    if measure == "magnitude":
        size = _precise(_stacked("after", passes, blocks)).abs()  # [pass * layer, token, hidden]
        return torch.stack((size.amax(dim=-1), size.median(dim=-1).values))
    return sums(*_pair(measure, passes, blocks))


def _pair(measure: str, passes: Sequence[Pass], blocks: Sequence[Block]) -> tuple[Tensor, Tensor]:
    """The residual stream and what is added to it, [pass * layer, token, hidden] each, without padding."""
    if measure == "naive":
        return _stacked("naive_in", passes, blocks), _stacked("naive_out", passes, blocks)
    if measure == "block":
        before, after = _stacked("before", passes, blocks), _stacked("after", passes, blocks)
        return before, _precise(after) - _precise(before)
    delta = _stacked("delta", passes, blocks)
    factors = [block.multiplier for block in blocks]
    if any(factor != factors[0] for factor in factors):
        each = torch.tensor(factors * len(passes), device=delta.device)
        delta = _precise(delta) * each[:, None, None]
    elif factors[0] != 1:
        delta = _precise(delta) * factors[0]
    if blocks[0].parallel:  # attention is added with the FFN: the stream the FFN turns is the output without it
        x = _precise(_stacked("after", passes, blocks)) - _precise(delta)
    else:
        x = _stacked("x", passes, blocks)
    if measure == "attention":
        before = _precise(_stacked("before", passes, blocks))
        return before, _precise(x) - before
    return x, delta


def _stacked(role: str, passes: Sequence[Pass], blocks: Sequence[Block]) -> Tensor:
    """What was kept under a role, [pass * layer, token, hidden], real tokens only."""
    tensors = [now.kept[role][block.index] for now in passes for block in blocks]
    if missing := next((block for block, tensor in zip(blocks, tensors, strict=False) if tensor is None), None):
        raise not_run(missing.index)
    if not passes[0].rows.stepped:
        for tensor, block in zip(tensors, blocks, strict=True):  # passes over text are summed one by one
            passes[0].rows.check(tensor, block.index)
    if tensors[0].device != tensors[-1].device:
        tensors = [tensor.to(tensors[0].device) for tensor in tensors]
    flat = torch.stack(tensors).flatten(1, -2)  # [pass * layer, batch * width, hidden]
    rows = passes[0].rows  # passes that are summed together are decode steps, which have no padding
    return flat if rows.index is None else flat[:, rows.index_on(flat.device)]


def _precise(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
