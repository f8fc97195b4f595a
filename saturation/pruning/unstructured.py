"""Unstructured pruning of one matrix."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..anatomy import Matrix
from .masks import magnitude, wanda
from .moments import Moments
from .settings import Settings
from .weight_updates import least_squares, sparsegpt


class Pruned(NamedTuple):
    """The new weights of a matrix [outputs, inputs], which of them stay, and its row in the report."""

    matrix: Matrix
    weight: Tensor
    stays: Tensor
    row: dict[str, Any]


def pruned(matrix: Matrix, moments: Moments | None, settings: Settings) -> Pruned:
    """Choose the weights to prune and update the others; the model is not changed yet."""
    began = time.perf_counter()
    old = matrix.weight
    precise = old.to(torch.promote_types(old.dtype, torch.float32))
    weight, stays, damping = _solved(precise, moments, settings)
    weight = weight.to(old.dtype)
    row = {
        "layer": matrix.layer,
        "matrix": matrix.name,
        "outputs": old.shape[0],
        "inputs": old.shape[1],
        "sparsity": 1 - float(stays.double().mean()),
        "error": float("nan") if moments is None else error(precise, weight.to(precise.dtype), moments),
        "dead": 0 if moments is None else int((moments.squares == 0).sum()),
        "damping": damping,
        "tokens": 0 if moments is None else moments.tokens,
        "seconds": time.perf_counter() - began,
    }
    return Pruned(matrix, weight, stays, row)


def _solved(weight: Tensor, moments: Moments | None, settings: Settings) -> tuple[Tensor, Tensor, float]:
    """New weights, the mask of those that stay, and the damping used; NaN where none was."""
    damping, pattern = float("nan"), settings.pattern
    if settings.method == "sparsegpt":
        assert moments is not None
        new, stays, damping = sparsegpt(
            weight, moments.hessian, pattern, damping=settings.damping, columns=settings.columns
        )
        if settings.update == "sparsegpt":
            return new, stays, damping
    elif settings.method == "wanda":
        assert moments is not None
        stays = wanda(weight, moments.norms, pattern, group=settings.group)
    else:
        stays = magnitude(weight, pattern, group=settings.group)
    if settings.update == "none" or moments is None:
        return weight * stays, stays, damping
    if settings.update == "least-squares":
        new, damping = least_squares(weight, moments.hessian, stays, damping=0.0)
        return new, stays, damping
    how: dict[str, Any] = {"damping": settings.damping, "columns": settings.columns, "stays": stays}
    return sparsegpt(weight, moments.hessian, pattern, **how)


def error(old: Tensor, new: Tensor, moments: Moments) -> float:
    """Squared error of the outputs over their squared size, on the calibration tokens.

    Parameters
    ----------
    old, new
        [outputs, inputs].
    moments
        Moments of the inputs.
    """
    products = moments.products.to(old.dtype)
    lost, size = (((part @ products) * part).sum(dtype=torch.float64) for part in (new - old, old))
    return float(lost / size) if float(size) else 0.0
