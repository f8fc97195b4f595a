"""Stand-ins that run in place of blocks: a constant, a multiple of the residual stream, or a linear map of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..anatomy import Block, input_device, stored, weights
from ..policies import LowRank, Scale
from .replacement import Cost, Replacement, make_all


@dataclass(frozen=True, eq=False)
class Mapped(Replacement):
    """A linear map of the scaled stream; a constant at rank 0.

    Attributes
    ----------
    constant, left, right
        [hidden], [hidden, rank] and [rank, hidden].
    """

    constant: Tensor
    left: Tensor
    right: Tensor

    def output(self, x: Tensor) -> Tensor:
        """The tensor added for x [..., hidden]."""
        if not self.left.shape[1]:
            return self.constant.expand(x.shape).clone()  # a layer may add to it in place
        u = unit(x).to(self.right.dtype).reshape(-1, x.shape[-1])  # [token, hidden]
        return torch.addmm(self.constant, u @ self.right.T, self.left.T)

    def cost(self, model: PreTrainedModel) -> Cost:
        """The cost of one token."""
        return Cost(sum(map(stored, (self.constant, self.left, self.right))), self.left.numel() + self.right.numel())


@dataclass(frozen=True, eq=False)
class Scaled(Replacement):
    """A multiple of the stream.

    Attributes
    ----------
    factor
        Of the stream, for what is added to it.
    """

    factor: float

    def output(self, x: Tensor) -> Tensor:
        """The tensor added for x [..., hidden]."""
        return x * self.factor

    def cost(self, model: PreTrainedModel) -> Cost:
        """The cost of one token: one factor, and a product with each number of the stream."""
        return Cost(torch.finfo(model.dtype).bits / 8, model.config.get_text_config().hidden_size)


def unit(x: Tensor) -> Tensor:
    """The stream x [..., hidden] at a root mean square of 1, as norms scale it."""
    precise = x if x.dtype == torch.float64 else x.float()
    return (precise * torch.rsqrt(precise.square().mean(-1, keepdim=True) + 1e-12)).to(x.dtype)


def stand_ins(
    model: PreTrainedModel, blocks: Sequence[Block], action: LowRank | Scale, layers: Iterable[int]
) -> dict[int, Replacement]:
    """Make the stand-ins for the blocks of some layers.

    Raises
    ------
    ValueError
        Where the action is of streams of another length, or scales a stream that the block does not read.
    MemoryError
        Where it does not fit.
    """
    layers = list(layers)
    what = f"what stands in for {len(layers)} blocks"
    advice = "take a smaller rank, or let fewer layers be skipped"
    return make_all(layers, lambda layer: _made(model, blocks[layer], action, layer), what, advice)


def _made(model: PreTrainedModel, block: Block, action: LowRank | Scale, layer: int) -> Replacement:
    if isinstance(action, Scale):
        refuse_parallel(model, block)
        return Scaled((float(action.arrays[f"scale {layer}"][0]) - 1) / block.multiplier)
    parts = action.map(layer)
    if (ours := len(parts[0])) != (hidden := model.config.get_text_config().hidden_size):
        raise ValueError(
            f"expected stand-ins for a stream of {hidden} numbers in layer {layer} of {type(model).__name__}, got some "
            f"of {ours}; fit them on this model with saturation.stand_in"
        )
    devices = (one.device for module in block.modules for one in weights(module) if not one.is_meta)
    device = next(devices, input_device(model))  # offloaded weights are nowhere until they run
    return Mapped(*(torch.tensor(part, device=device, dtype=model.dtype) for part in parts))


def refuse_parallel(model: PreTrainedModel, block: Block) -> None:
    """Raise ValueError where a block runs beside attention: the stream that it is added to is not known to it."""
    if block.parallel:
        raise ValueError(
            f"expected blocks that read the stream they are added to, but in layer {block.number} of "
            f"{type(model).__name__} attention and FFN run side by side, so that there is none to scale; take "
            "saturation.stand_in(by='mean') or by='map'"
        )
