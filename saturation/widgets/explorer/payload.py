"""The message that sends a trace to the browser: numbers as bytes, and each text once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...policies import Steps
from ...trace import Trace


def checked(trace: Trace) -> Trace:
    """Return the trace, after checking that it can be explored.

    Raises
    ------
    TypeError
        For anything but a Trace.
    ValueError
        For a trace without tokens, or with only some layers of its model.
    """
    if not isinstance(trace, Trace):
        raise TypeError(f"expected a Trace to explore, got {type(trace).__name__}; saturation.record makes one")
    if not len(trace):
        raise ValueError("expected a trace with tokens to explore, got an empty one; record some")
    Steps.of(trace)  # raises for a selection of layers
    return trace


def of(trace: Trace) -> dict[str, Any]:
    """The trace as a message: its numbers little-endian, float32 [token, layer] or int32 [token]."""
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
    """The bytes of an array in a dtype, without a copy where it has that dtype."""
    return np.ascontiguousarray(array, dtype).data.cast("B")
