"""Second moments of a matrix's inputs over real tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..anatomy import Matrix, UnsupportedModel, given
from ..patching import Hooks
from .layerwise import Walk


@dataclass(eq=False)
class Moments:
    """Sums over the real tokens that a matrix reads.

    Attributes
    ----------
    products
        Sum of x xᵀ, [inputs, inputs], float32 or finer.
    squares
        Sum of x², [inputs], float64 where the device has it.
    tokens
        How many.
    """

    products: Tensor
    squares: Tensor
    tokens: int = 0

    @classmethod
    def empty(cls, inputs: int, device: torch.device, dtype: torch.dtype) -> Moments:
        """Moments of no tokens."""
        precise = torch.promote_types(dtype, torch.float32)
        return cls(
            torch.zeros(inputs, inputs, device=device, dtype=precise),
            torch.zeros(inputs, device=device, dtype=finest(device)),
        )

    def add(self, x: Tensor) -> None:
        """Add tokens, [token, inputs]."""
        x = x.to(self.products.dtype)
        self.products.addmm_(x.T, x)
        self.squares += x.to(self.squares.dtype).square().sum(0)
        self.tokens += len(x)

    @property
    def norms(self) -> Tensor:
        """Norm of each input over all tokens, [inputs]."""
        return self.squares.sqrt()

    @property
    def hessian(self) -> Tensor:
        """2/n sum of x xᵀ, [inputs, inputs]: the Hessian of the outputs' squared error for one row of the matrix."""
        return self.products * (2 / max(self.tokens, 1))


def finest(device: torch.device) -> torch.dtype:
    """The finest type that a device computes with."""
    return torch.float32 if device.type == "mps" else torch.float64


def gathered(walk: Walk, index: int, matrices: Sequence[Matrix]) -> dict[str, Moments]:
    """Moments of the inputs of each matrix of a layer, by name; matrices that read the same tensor share theirs.

    Raises
    ------
    UnsupportedModel
        Where padding cannot be separated from tokens in a matrix's input.
    """
    watch = _Watch(matrices)
    hooks = Hooks()
    with hooks.held():
        for matrix in matrices:
            hooks.before(matrix.module, partial(watch.read, matrix))
        for _ in walk.run(index, watch.opened):
            pass
    return {matrix.name: watch.of(matrix) for matrix in matrices}


class _Watch:
    """Collects the inputs of matrices while a layer runs; an input that several matrices read counts once."""

    def __init__(self, matrices: Sequence[Matrix]) -> None:
        self.found: dict[str, Moments] = {}
        self.leader: dict[str, str] = {}  # matrix -> the first of those that read the same
        self.seen: list[tuple[str, Tensor]] = []
        self.real = torch.empty(0)

    def opened(self, real: Tensor) -> None:
        """Begin a batch with the mask of its real tokens, [batch, width]."""
        self.real, self.seen = real, []

    def read(self, matrix: Matrix, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = given(args, named)
        if matrix.name not in self.leader:
            alike = (name for name, other in self.seen if other is x)
            self.leader[matrix.name] = next(alike, matrix.name)
        if self.leader[matrix.name] != matrix.name:
            return
        self.seen.append((matrix.name, x))
        if matrix.name not in self.found:
            self.found[matrix.name] = Moments.empty(x.shape[-1], x.device, x.dtype)
        self.found[matrix.name].add(self._tokens(matrix, x.detach()))

    def _tokens(self, matrix: Matrix, x: Tensor) -> Tensor:
        """The real tokens, [token, inputs]."""
        real = self.real.to(x.device)
        if x.shape[:-1] == real.shape:
            return x[real]
        if x.shape[:-1] == (real.numel(),):
            return x[real.flatten()]
        if bool(real.all()):
            return x.reshape(-1, x.shape[-1])
        raise UnsupportedModel(
            f"expected {matrix.name} in layer {matrix.layer} to read a vector for every token, got "
            f"{list(x.shape)} for {list(real.shape)} tokens, among which padding cannot be told; give batch_size=1"
        )

    def of(self, matrix: Matrix) -> Moments:
        """The moments of a matrix; empty for an expert that got no tokens."""
        name = self.leader.get(matrix.name, matrix.name)
        weight = matrix.weight
        return self.found.get(name) or Moments.empty(weight.shape[1], weight.device, weight.dtype)
