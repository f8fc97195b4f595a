"""Conversion of a passage to a Trace, which figures can draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...trace import Trace
from .states import Passage


def passes(passage: Passage, layers: int, *, sequence: int = 0, **about: Any) -> Trace:
    """A Trace with a row for each pass that wrote a token, labelled with the token that it wrote.

    A passage has skipped blocks but no distances. The distances and growths of the trace are zeros that mean nothing
    and must not be read; `figures.skipped` neither draws nor writes them.

    Parameters
    ----------
    passage
        A passage of at least one token. Prefill wrote the first, decode steps the others.
    layers
        Number of layers of the model.
    sequence
        Number of the prompt, from 0; positions count the tokens of the passage.
    about
        Further fields of `Trace`, such as `model`.
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
