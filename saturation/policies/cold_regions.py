"""Cold regions: layers at either end that turn the residual stream far more than those between."""

from __future__ import annotations

import numpy as np

from ..trace import Trace
from .policy import SINK, dense

FACTOR = 2.0  # ours: the paper finds its cold regions on a small calibration set and publishes no rule


def cold_regions(trace: Trace, *, factor: float = FACTOR, sink: int = SINK) -> tuple[int, int]:
    """Count the cold layers at the start and at the end of a model, on a trace.

    A layer is cold if its mean distance is above `factor` times the median of all layers' means. Counted are the layers
    before the first and after the last layer that is not cold; at least two layers are left between.

    Parameters
    ----------
    trace
        A dense trace; the decoded tokens past the sink are used, or all tokens past the sink if none is decoded.
    factor
        Multiple of the median from which a layer is cold, without unit.
    sink
        Positions at the start of each sequence that do not count, since policies never skip there.

    Returns
    -------
    cold_start, cold_end
    """
    past = dense(trace, sink).position >= sink  # [token]
    rows = past & trace.decoding if (past & trace.decoding).any() else past
    mean = trace.distance[rows].astype(np.float64).mean(axis=0).clip(min=0)  # [layer]; rounding may go below 0
    warm = np.flatnonzero(mean <= factor * np.median(mean))
    start, end = int(warm[0]), int(trace.layers - 1 - warm[-1])
    return (start, end) if trace.layers - start - end >= 2 else (0, 0)
