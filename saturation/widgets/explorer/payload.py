"""What the browser is sent of a trace: its numbers as bytes, its texts once each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...policies import Steps
from ...trace import Trace


def checked(trace: Trace) -> Trace:
    """The trace, if it can be explored.

    Raises
    ------
    TypeError
        For anything but a Trace.
    ValueError
        For a trace without tokens, or with some of its model's layers.
    """
    if not isinstance(trace, Trace):
        raise TypeError(f"expected a Trace to explore, got {type(trace).__name__}; saturation.record makes one")
    if not len(trace):
        raise ValueError("expected a trace with tokens to explore, got an empty one; record some")
    Steps.of(trace)  # refuses a selection of layers
    return trace


def of(trace: Trace) -> dict[str, Any]:
    """A trace as the browser reads it; numbers little-endian, [token, layer] float32 or [token] int32."""
    code, texts = pd.factorize(trace.tokens["text"].to_numpy(object))
    columns = {name: trace.tokens[name].to_numpy() for name in ("sequence", "position")}
    columns |= {"generated": trace.generated, "text": code}
    return {
        "rows": len(trace),
        "layers": trace.layers,
        "model": trace.model,
        "texts": list(texts),
        "columns": {name: _bytes(column, "<i4") for name, column in columns.items()},
        "metrics": {name: _bytes(array, "<f4") for name, array in trace.groups.items()},
    }


def _bytes(array: np.ndarray, dtype: str) -> memoryview:
    """The bytes of an array, not copied where it is as the browser wants it."""
    return np.ascontiguousarray(array, dtype).data.cast("B")
