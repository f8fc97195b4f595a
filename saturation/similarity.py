"""The similarity measure in plain torch: how far a block turns the residual stream, and how much it adds.

With h the residual stream that enters a block and f what the block adds to it, FFN-SkipLLM (Jaiswal et al.,
EMNLP 2024) reads saturation from cos(h, h + f). Near saturation that cosine is 1 to many digits, so what is
computed and kept is `distance` = 1 - cos(h, h + f), from four float32 sums over the hidden dimension::

    a = <h, h>    b = <h, f>    c = <f, f>    p = |f - (b/a) h|^2, the part of f that turns h
    |h + f|^2 = (a + b)^2 / a + p      cos = (a + b) / sqrt(a |h + f|^2)      1 - cos = p / (|h + f|^2 (1 + cos))

The last form has no cancellation for cos >= 0, even where f is parallel to h; below 0, 1 - cos is exact enough.
`growth` = |f| / |h| stands beside it: a cosine near 1 may only say that the residual stream has grown long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sums(residual: Tensor, delta: Tensor) -> Tensor:
    """Four sums over the hidden dimension that determine distance and growth.

    Parameters
    ----------
    residual
        The residual stream that enters the block, [..., hidden].
    delta
        What the block adds to it, [..., hidden].

    Returns
    -------
    Tensor
        a, b, c and p as the module's docstring names them, [4, ...]; float64 for float64 input, else float32, also
        under `torch.autocast`.
    """
    if torch.is_autocast_enabled(residual.device.type):  # it would compute the dot products in half precision
        with torch.autocast(residual.device.type, enabled=False):
            return sums(residual, delta)
    precise = torch.float64 if residual.dtype == torch.float64 else torch.float32
    residual, delta = residual.to(precise), delta.to(precise)
    a = torch.linalg.vecdot(residual, residual)
    b = torch.linalg.vecdot(residual, delta)
    c = torch.linalg.vecdot(delta, delta)
    turning = torch.addcmul(delta, residual, (b / a).unsqueeze(-1), value=-1)  # [..., hidden], orthogonal to h
    return torch.stack((a, b, c, torch.linalg.vecdot(turning, turning)))


def distance_and_growth(abcp: Any) -> tuple[Any, Any]:
    """Distance 1 - cos(h, h + f) and growth |f| / |h| from their sums.

    Parameters
    ----------
    abcp
        The result of `sums`, [4, ...]: a tensor, a numpy array or four floats; only arithmetic is used.

    Returns
    -------
    distance, growth
        Each [...], without unit; distance in [0, 2]. NaN where h or h + f is exactly zero.
    """
    a, b, c, p = abcp
    length2 = (a + b) ** 2 / a + p  # |h + f|^2
    cos = (a + b) / (a * length2) ** 0.5
    distance = (cos >= 0) * (p / (length2 * (1 + abs(cos)))) + (cos < 0) * (1 - cos)
    return distance, (c / a) ** 0.5


def distance(residual: Tensor, delta: Tensor) -> Tensor:
    """1 - cos(residual, residual + delta) along the last axis, safe at cosines that round to 1.

    Parameters
    ----------
    residual, delta
        [..., hidden], in any floating-point type.

    Returns
    -------
    Tensor
        [...], float32 (float64 for float64 input).
    """
    return distance_and_growth(sums(residual, delta))[0]
