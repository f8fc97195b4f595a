"""A passage as a Trace, so that figures of traces can draw it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...trace import Trace
from .states import Passage


def passes(passage: Passage, layers: int, *, sequence: int = 0, **about: Any) -> Trace:
    """A row for each pass that wrote a token, under the token that it wrote.

    A passage knows which blocks were skipped and no distances: zeros stand in their place, which no one may read.
    `figures.skipped` neither draws them nor lays them beside its picture.

    Parameters
    ----------
    passage
        At least one token. Prefill wrote the first, decode steps the others.
    layers
        Of the model.
    sequence
        Number of its prompt, from 0; positions are those in the passage.
    about
        What the trace is of, as `Trace` has it.
    """
    count = len(passage.ids)
    skipped = np.zeros((count, layers), dtype=bool)  # [token, layer]
    for place, left_out in enumerate(passage.skipped):
        skipped[place, list(left_out)] = True
    unknown = np.where(skipped, np.float32(np.nan), np.float32(0))  # [token, layer]
    tokens = pd.DataFrame(
        {
            "sequence": np.full(count, sequence, np.int32),
            "position": np.arange(count, dtype=np.int32),
            "phase": ["prefill", *["decode"] * (count - 1)],
            "token_id": np.array(passage.ids, np.int32),
            "text": list(passage.pieces),
        }
    )
    return Trace(tokens=tokens, distance=unknown, growth=unknown, skipped=skipped, **about)
