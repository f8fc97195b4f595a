"""The neurons of a feed-forward block: their rows and columns in its matrices, and how to remove them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .blocks import Block, UnsupportedModel, first
from .ffn_finder import find_blocks
from .matrices import Matrix

_OVER = ("forward", "_compiled_call_impl")  # instance attributes: a patched forward (accelerate's too), a compiled call
WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")  # fields of configurations, by family


@dataclass(frozen=True, eq=False)
class FeedForward:
    """A feed-forward block as a sum over its neurons.

    Attributes
    ----------
    block
        The block in its layer.
    ups
        Matrices whose outputs are the neurons; in a matrix with twice as many outputs the gates come first (Phi-3).
    down
        The matrix whose inputs are the neurons.
    """

    block: Block
    ups: tuple[Matrix, ...]
    down: Matrix

    @property
    def width(self) -> int:
        """Number of neurons."""
        return self.down.weight.shape[1]

    @property
    def bytes(self) -> int:
        """Bytes of the weights of one neuron."""
        entries = sum(up.weight.shape[1] * (up.weight.shape[0] // self.width) for up in self.ups)
        return (entries + self.down.weight.shape[0]) * self.down.weight.element_size()

    def output(self, x: Tensor) -> Tensor:
        """The output of the block's modules for x [token, hidden], run in order."""
        extra = (torch.zeros_like(x),) if self.block.adds_residual else ()
        for module in self.block.chain[:-1]:
            x = first(module(x))
        return first(self.block.chain[-1](x, *extra))


def feedforwards(
    model: PreTrainedModel, matrices: list[list[Matrix]], *, instead: str = "prune its weights one by one"
) -> list[FeedForward]:
    """Find the neurons of every block, and prove on random input that removing one removes only its output.

    Parameters
    ----------
    model, matrices
        The model, and the result of `find_matrices`.
    instead
        Advice for the error message, where a block is no sum over neurons.

    Raises
    ------
    UnsupportedModel
        Where a block is no sum over neurons.
    """
    try:
        found = [_found(model, block, matrices[block.number]) for block in find_blocks(model)]
        for one in found:
            _prove(model, one)
    except _NoSum as why:
        raise UnsupportedModel(f"{why}; {instead}") from why.__cause__
    return found


class _NoSum(Exception):
    """A block is no sum over its neurons; the message says why."""


def _found(model: PreTrainedModel, block: Block, matrices: list[Matrix]) -> FeedForward:
    inside = {id(part) for module in block.chain for part in module.modules()}
    own = [matrix for matrix in matrices if id(matrix.module) in inside]
    hidden = own[0].weight.shape[1] if own else 0
    downs = [matrix for matrix in own if matrix.weight.shape[0] == hidden and matrix is own[-1]]
    if downs:
        width = downs[0].weight.shape[1]
        ups = tuple(matrix for matrix in own if matrix is not downs[0])
        doubled = len(ups) == 1 and ups[0].weight.shape[0] == 2 * width
        if ups and (doubled or all(up.weight.shape[0] == width for up in ups)):
            return FeedForward(block, ups, downs[0])
    raise _refusal(model, block, f"its matrices are {[list(matrix.weight.shape) for matrix in own]}")


def _refusal(model: PreTrainedModel, block: Block, why: str) -> _NoSum:
    return _NoSum(
        f"expected feed-forward blocks that are a sum over neurons, but in layer {block.number} of "
        f"{type(model).__name__} {why}"
    )


def _prove(model: PreTrainedModel, one: FeedForward) -> None:
    """In copies, zero every second neuron and remove it: outputs must be equal, and differ from the original."""
    down = one.down.weight
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, one.ups[0].weight.shape[1], generator=generator).to(down.device, down.dtype)
    mute = twin(one)
    silent = down.clone()
    silent[:, 1::2] = 0
    Changes(((mute.down.module, "weight", _parameter(_as_stored(mute.down, silent)), None),)).put()
    with torch.no_grad():
        try:
            few = narrowed(one, torch.arange(0, one.width, 2, device=down.device), None)
            whole, expected, found = (own.output(x).clone() for own in (twin(one), mute, few))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError) as error:
            raise _refusal(model, one.block, f"no neuron can be taken out ({str(error).splitlines()[0]})") from error
    slack = 64 * torch.finfo(down.dtype).eps * float(whole.abs().max())
    if float((found - expected).abs().max()) > slack or float((whole - expected).abs().max()) <= slack:
        raise _refusal(model, one.block, "a neuron that is taken out changes more than its own output")


def twin(one: FeedForward) -> FeedForward:
    """A copy of the block's modules that shares all tensors with the model and has no hooks or patches."""
    made: dict[nn.Module, nn.Module] = {}
    chain = tuple(_twin(module, made) for module in one.block.chain)
    block = replace(one.block, chain=chain, source=made[one.block.source])
    ups = tuple(replace(up, module=made[up.module]) for up in one.ups)
    return FeedForward(block, ups, replace(one.down, module=made[one.down.module]))


def _twin(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in made:
        made[module] = own = object.__new__(type(module))
        held = {name: value for name, value in vars(module).items() if name not in _OVER}
        held |= {name: type(value)() for name, value in held.items() if name.endswith(("_hooks", "_hooks_with_kwargs"))}
        vars(own).update(held | {name: dict(held[name]) for name in ("_parameters", "_buffers")})
        own._modules = {name: part and _twin(part, made) for name, part in module._modules.items()}
    return made[module]


def narrowed(one: FeedForward, kept: Tensor, bias: Tensor | None) -> FeedForward:
    """A copy of the block with only the given neurons; the model's own block does not change.

    `kept` and `bias` are as for `prune_neurons`.
    """
    own = twin(one)
    narrowing(own, kept, bias).put()
    return own


@dataclass(frozen=True, eq=False)
class Changes:
    """New and old values of module attributes."""

    changes: tuple[tuple[nn.Module, str, Any, Any], ...]

    def put(self) -> None:
        """Set the new values."""
        for module, name, new, _ in self.changes:
            setattr(module, name, new)

    def take_back(self) -> None:
        """Set the old values."""
        for module, name, _, old in self.changes:
            setattr(module, name, old)


def narrowing(one: FeedForward, kept: Tensor, bias: Tensor | None, *, beside: bool = False) -> Changes:
    """The attribute changes that leave only the given neurons.

    Parameters
    ----------
    one
        The block.
    kept
        Numbers of the neurons that stay, rising.
    bias
        Vector added to the block's output, [hidden]; None for none.
    beside
        Whether `ups` without a bias get one of zeros, since a configuration has biases for all matrices or none.
    """
    changes: list[tuple[nn.Module, str, Any, Any]] = []
    for up in one.ups:
        both = torch.cat([kept, kept + one.width]) if up.weight.shape[0] == 2 * one.width else kept
        changes += _cut(up, both, rows=True)
        if beside and up.module.bias is None:
            changes.append((up.module, "bias", _parameter(up.weight.new_zeros(len(both))), None))
    changes += _cut(one.down, kept, rows=False)
    if bias is not None:
        old: Any = one.down.module.bias
        new = bias.to(one.down.weight.dtype) if old is None else (old.data + bias.to(old.dtype))
        changes.append((one.down.module, "bias", _parameter(new), old))
    return Changes(tuple(changes))


def _cut(matrix: Matrix, kept: Tensor, *, rows: bool) -> list[tuple[nn.Module, str, Any, Any]]:
    """Changes that keep some rows (with their biases) or columns of a matrix."""
    module: Any = matrix.module
    cut = matrix.weight[kept] if rows else matrix.weight[:, kept]
    changes: list[tuple[nn.Module, str, Any, Any]] = [
        (module, "weight", _parameter(_as_stored(matrix, cut)), module.weight)
    ]
    if rows and module.bias is not None:
        changes.append((module, "bias", _parameter(module.bias.data[kept].clone()), module.bias))
    if isinstance(module, Conv1D):
        size = "nf" if rows else "nx"
    else:
        size = "out_features" if rows else "in_features"
    return [*changes, (module, size, len(kept), getattr(module, size))]


def _as_stored(matrix: Matrix, weight: Tensor) -> Tensor:
    """A matrix [outputs, inputs] in the orientation that its module stores."""
    return (weight.T if isinstance(matrix.module, Conv1D) else weight).contiguous()


def _parameter(data: Tensor) -> nn.Parameter:
    return nn.Parameter(data, requires_grad=False)
