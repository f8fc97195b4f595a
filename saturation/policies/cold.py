"""Layers at either end that turn the residual stream far more than those between."""

from __future__ import annotations

import numpy as np

from ..trace import Trace
from .rule import dense

FACTOR = 2.0  # ours: the paper finds its cold regions on a small calibration set and publishes no rule


def cold_regions(trace: Trace, *, factor: float = FACTOR) -> tuple[int, int]:
    """Numbers of cold layers at the start and at the end of a model, found on a trace.

    A layer is cold while its mean distance is above `factor` times the median of all layers' means. Counted are the
    layers before the first, and after the last, that is not; at least two layers are left between.

    Parameters
    ----------
    trace
        A dense trace; decoded tokens are used where it has some, else all.
    factor
        How far above the median is cold, without unit.

    Returns
    -------
    cold_start, cold_end
    """
    dense(trace)
    rows = trace.decoding if trace.decoding.any() else np.ones(len(trace), dtype=bool)
    mean = trace.distance[rows].astype(np.float64).mean(axis=0).clip(min=0)  # [layer]; rounding may go below 0
    warm = np.flatnonzero(mean <= factor * np.median(mean))
    start, end = int(warm[0]), int(trace.layers - 1 - warm[-1])
    return (start, end) if trace.layers - start - end >= 2 else (0, 0)
