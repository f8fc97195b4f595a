"""Weight updates that compensate for pruned weights: SparseGPT, and exact least squares."""

from __future__ import annotations

import torch
from torch import Tensor

from .masks import Pattern, without
from .moments import finest

_CELLS = 2**24  # entries of the systems that are solved at once: 128 MiB in float64


def sparsegpt(
    weight: Tensor,
    hessian: Tensor,
    pattern: Pattern,
    *,
    damping: float,
    columns: int = 128,
    stays: Tensor | None = None,
) -> tuple[Tensor, Tensor, float]:
    """SparseGPT: prune column by column; later columns compensate the error (Frantar and Alistarh, arXiv 2301.00774).

    Parameters
    ----------
    weight
        [outputs, inputs].
    hessian
        2/n sum of x xᵀ, [inputs, inputs].
    pattern
        How many weights are pruned. A share is chosen per block of columns, over all outputs; N:M at every M-th
        column, from weights that are updated already.
    damping
        Damping, times the mean of the diagonal.
    columns
        Columns in a block.
    stays
        A given mask, [outputs, inputs] bool; then no weights are chosen.

    Returns
    -------
    weight, stays, damping
        The new weights, the mask of those that stay, and the damping that the Hessian needed.
    """
    weight, hessian = _without_dead(weight, hessian)
    upper, damping = factor(hessian, damping)
    upper = upper.to(weight.dtype)
    inputs = weight.shape[1]
    columns = max(columns - columns % pattern.of, pattern.of) if pattern.of else columns
    stays = stays.clone() if stays is not None else torch.ones_like(weight, dtype=torch.bool)
    chosen = not bool(stays.all())
    for begin in range(0, inputs, columns):
        here = slice(begin, min(begin + columns, inputs))
        block, mask = weight[:, here], stays[:, here]  # views
        if not chosen and not pattern.of:
            score = (block / upper.diagonal()[here]).square()
            mask &= without(score.reshape(1, -1), pattern.count(score.numel())).reshape(score.shape)
        errors = _block(block, mask, upper[here, here], None if chosen else pattern)
        weight[:, here.stop :] -= errors @ upper[here, here.stop :]
    return weight * stays, stays, damping


def _block(block: Tensor, mask: Tensor, upper: Tensor, pattern: Pattern | None) -> Tensor:
    """Prune the columns of one block in place; returns the errors for later columns to compensate."""
    errors = torch.zeros_like(block)
    diagonal = upper.diagonal()
    for column in range(block.shape[1]):
        if pattern is not None and pattern.of and column % pattern.of == 0:
            group = slice(column, column + pattern.of)
            mask[:, group] = without((block[:, group] / diagonal[group]).square(), pattern.of - pattern.keep)
        lost = torch.where(mask[:, column], 0, block[:, column]) / diagonal[column]  # [outputs]
        block[:, column:] -= torch.outer(lost, upper[column, column:])
        errors[:, column] = lost
    return errors


def least_squares(weight: Tensor, hessian: Tensor, stays: Tensor, *, damping: float) -> tuple[Tensor, float]:
    """Least squares: the weights with this mask that have the least output error, row by row.

    Parameters
    ----------
    weight
        [outputs, inputs].
    hessian
        2/n sum of x xᵀ, [inputs, inputs].
    stays
        [outputs, inputs] bool.
    damping
        As for `sparsegpt`; it pulls the new weights towards the old.

    Returns
    -------
    weight, damping
        The new weights, and the damping that the Hessian needed.

    Notes
    -----
    Row w with kept inputs S minimises (w - w0) H (w - w0)ᵀ, so ``H_SS w_S = H_S w0``. A system for each row: the cost
    is outputs * kept³ / 3, far above SparseGPT's for large matrices.
    """
    old, hessian = _without_dead(weight, hessian)
    precise = finest(weight.device)
    damped, damping = _damped(hessian.to(precise), damping)
    aim = old.to(precise) @ damped  # [outputs, inputs]
    places, there = _packed(stays)
    new = torch.zeros_like(old, dtype=precise)
    step = max(1, _CELLS // max(places.shape[1], 1) ** 2)
    for begin in range(0, len(old), step):
        rows = slice(begin, begin + step)
        own, real = places[rows], there[rows]  # [row, kept]
        both = real[:, :, None] & real[:, None, :]
        system = torch.where(both, damped[own[:, :, None], own[:, None, :]], 0)
        system.diagonal(dim1=1, dim2=2).add_((~real).to(precise))
        right = torch.where(real, aim[rows].gather(1, own), 0)
        solved = torch.linalg.solve(system, right[..., None])[..., 0]
        new[rows].scatter_add_(1, own, torch.where(real, solved, 0))
    return new.to(weight.dtype) * stays, damping


def _packed(stays: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the kept inputs of each row, [row, most kept], and the mask of valid entries."""
    counts = stays.sum(1)
    most = int(counts.max()) if len(counts) else 0
    places = (~stays).to(torch.int8).argsort(dim=1, stable=True)[:, :most]
    return places, torch.arange(most, device=stays.device) < counts[:, None]


def factor(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """The upper Cholesky factor of the inverse, and the damping that was needed."""
    damped, damping = _damped(hessian.to(finest(hessian.device)), damping)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True), damping


def _damped(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """The Hessian with damping that makes it positive definite, raised tenfold at each try."""
    scale = hessian.diagonal().mean()
    while damping <= 1000:
        damped = hessian + damping * scale * torch.eye(len(hessian), device=hessian.device, dtype=hessian.dtype)
        lower, info = torch.linalg.cholesky_ex(damped)
        spread = lower.diagonal().amin() / lower.diagonal().amax()
        if not int(info) and bool(spread.square() > 4 * torch.finfo(torch.float32).eps * 1e-3):
            return damped, damping
        damping = max(10 * damping, 1e-6)
    raise ValueError(
        "expected second moments of the inputs that are finite, got some that no damping makes invertible; check the "
        "model's activations for infinity and NaN"
    )


def _without_dead(weight: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Set the weights of inputs that are always zero to 0, and their Hessian to 1."""
    weight, hessian = weight.clone(), hessian.clone()
    dead = hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1
    weight[:, dead] = 0
    return weight, hessian
