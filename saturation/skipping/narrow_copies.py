"""Copies of a block's most important neurons, for narrow blocks; the model's own weights do not change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..anatomy import FeedForward, feedforwards, find_matrices, narrowed
from ..policies import Narrow
from .replacement import Cost, Replacement, cost, make_all

_INSTEAD = "give the policy no action, so that it skips whole blocks, or what saturation.stand_in gives"


@dataclass(frozen=True, eq=False)
class Copy(Replacement):
    """A copy of some neurons of one block.

    Attributes
    ----------
    narrow
        Modules with only those neurons.
    """

    narrow: FeedForward

    def output(self, x: Tensor) -> Tensor:
        """The output of the narrow block for x [..., hidden]."""
        return self.narrow.output(x)

    def cost(self, model: PreTrainedModel) -> Cost:
        """The cost of one token."""
        return cost(model, self.narrow.block.modules)


def copies(model: PreTrainedModel, action: Narrow, layers: Iterable[int]) -> dict[int, Replacement]:
    """Make the copies for some layers of a model; none for a layer whose action is a skip.

    Raises
    ------
    UnsupportedModel
        Where the blocks are no sums over neurons.
    ValueError
        Where the action was measured on blocks with other numbers of neurons.
    MemoryError
        Where the copies do not fit into memory.
    """
    blocks = feedforwards(model, find_matrices(model, instead=_INSTEAD), instead=_INSTEAD)
    layers = [layer for layer in layers if action.mean or len(action.kept(layer))]
    needed = sum(blocks[layer].bytes * len(action.kept(layer)) for layer in layers)
    what = f"{needed / 1e6:,.0f} MB beside the model, a copy of the neurons that narrow blocks run"
    advice = "take a smaller width, or let fewer layers be narrowed"
    return make_all(layers, lambda layer: _copy(model, blocks[layer], action, layer), what, advice)


def _copy(model: PreTrainedModel, one: FeedForward, action: Narrow, layer: int) -> Copy:
    if (ours := len(action.arrays[f"order {layer}"])) != one.width:
        raise ValueError(
            f"expected {one.width} neurons in layer {layer} of {type(model).__name__}, got an action with {ours}; "
            "measure them on this model with saturation.narrow"
        )
    down = one.down.weight
    kept = torch.from_numpy(action.kept(layer)).to(down.device, torch.long)
    mean = action.dropped_mean(layer)
    bias = None if mean is None else down.float() @ torch.from_numpy(mean).to(down.device, torch.float32)
    if len(kept):
        return Copy(narrowed(one, kept, bias))
    mute = narrowed(one, kept.new_zeros(1), bias)  # one neuron, since not every family can run a matrix without rows
    mute.down.weight.zero_()
    return Copy(mute)
