"""Pruning masks: by magnitude or Wanda, for a share of the weights or N of every M."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """How many weights are pruned.

    Attributes
    ----------
    share
        Share of the weights of each group that are pruned.
    keep, of
        N of every M consecutive inputs stay; 0 for a share without such groups.
    """

    share: float
    keep: int = 0
    of: int = 0

    @classmethod
    def read(cls, given: float | str) -> Pattern:
        """Read a share such as 0.5, or N:M such as "2:4", of which N are kept."""
        if isinstance(given, str):
            keep, colon, of = given.partition(":")
            if not (colon and keep.isascii() and keep.isdigit() and of.isascii() and of.isdigit()):
                raise ValueError(f"expected a sparsity such as 0.5 or '2:4', got {given!r}; write it so")
            n, m = int(keep), int(of)
            if not 0 < n <= m:
                raise ValueError(
                    f"expected N:M with 0 < N <= M, since N of every M weights are kept, got {given!r}; correct it"
                )
            return cls(1 - n / m, n, m)
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1:
            raise ValueError(
                f"expected a sparsity from 0 to below 1, or N:M as a text, got {given!r}; 0.5 sets half the weights to "
                "zero"
            )
        return cls(float(given))

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}" if self.of else f"{self.share:g}"

    def count(self, weights: int) -> int:
        """How many of `weights` weights are pruned."""
        return math.floor(weights * self.share + 1e-9)


def magnitude(weight: Tensor, pattern: Pattern, *, group: str = "matrix") -> Tensor:
    """Mask of the weights that stay when the smallest are pruned, [outputs, inputs] bool.

    Parameters
    ----------
    weight
        [outputs, inputs].
    pattern
        How many go.
    group
        Weights that are compared: all of the "matrix", or those of an output's "row".
    """
    return kept(weight.abs(), pattern, group)


def wanda(weight: Tensor, norms: Tensor, pattern: Pattern, *, group: str = "row") -> Tensor:
    """Mask of the weights that stay when the smallest ``|W_ij| * ||x_j||`` are pruned (Sun et al., arXiv 2306.11695).

    Parameters
    ----------
    weight
        [outputs, inputs].
    norms
        Norm of each input over all calibration tokens, [inputs].
    pattern, group
        As for `magnitude`.
    """
    return kept(weight.abs().to(norms.dtype) * norms, pattern, group)


def kept(score: Tensor, pattern: Pattern, group: str) -> Tensor:
    """Mask without the lowest scores of every group, [outputs, inputs] bool; of equal ones the first are pruned."""
    outputs, inputs = score.shape
    if pattern.of:
        groups = score.reshape(outputs, inputs // pattern.of, pattern.of)
        return without(groups, pattern.of - pattern.keep).reshape(outputs, inputs)
    if group == "row":
        return without(score, pattern.count(inputs))
    return without(score.reshape(1, -1), pattern.count(score.numel())).reshape(outputs, inputs)


def without(score: Tensor, count: int) -> Tensor:
    """Mask that is false for the `count` lowest scores along the last axis."""
    stays = torch.ones_like(score, dtype=torch.bool)
    lowest = score.argsort(dim=-1, stable=True)[..., :count]
    return stays.scatter_(-1, lowest, False)
