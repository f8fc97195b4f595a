"""Made-up traces for tests: shaped like a small trained model's, and made in a millisecond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from saturation.trace import Trace

# Mean cosine per layer of a 16-layer model trained at toy scale: low at first, saturated in the middle.
COSINES = [
    *(0.327, 0.936, 0.987, 0.993, 0.994, 0.994, 0.994, 0.994),
    *(0.994, 0.989, 0.984, 0.981, 0.983, 0.977, 0.979, 0.975),
]
WORDS = (
    " the",
    " cat",
    " sat",
    " on",
    " Königsberg",
    ".",
    "\n",
    "",
    " 🙂",
    "ing",
    " 1949",
    "\t",
    " <b>",
    "$x_1$",
)


def tokens(sequences: int = 3, length: int = 20, prefill: int = 8, seed: int = 0) -> pd.DataFrame:
    """Tokens of sequences of one length, the first `prefill` of each given and the others decoded."""
    position = np.tile(np.arange(length), sequences)
    ids = np.random.default_rng(seed).integers(0, len(WORDS), sequences * length)
    return pd.DataFrame(
        {
            "sequence": np.repeat(np.arange(sequences), length),
            "position": position,
            "phase": np.where(position < prefill, "prefill", "decode"),
            "token_id": ids,
            "text": [WORDS[index] for index in ids],
        }
    )


def distances(rows: int, layers: int = 16, seed: int = 0, cosines: list[float] | None = None) -> np.ndarray:
    """1 - cosine, float32 [token, layer], log-normal around a profile that is stretched over the layers."""
    profile = 1 - np.asarray(cosines or COSINES)
    centre = np.exp(np.interp(np.linspace(0, 1, layers), np.linspace(0, 1, len(profile)), np.log(profile)))
    spread = np.random.default_rng(seed).normal(0, 0.45, (rows, layers))
    return np.minimum(centre * np.exp(spread), 2).astype(np.float32)  # [token, layer]


def trace(
    *,
    sequences: int = 3,
    length: int = 20,
    prefill: int = 8,
    layers: int = 16,
    seed: int = 0,
    skip: float = 0.0,
    also: tuple[str, ...] = (),
    cosines: list[float] | None = None,
    **described: Any,
) -> Trace:
    """Make up a trace; `skip` is the share of blocks marked as skipped, `also` names optional groups."""
    frame = tokens(sequences, length, prefill, seed)
    rng = np.random.default_rng(seed + 1)
    distance = distances(len(frame), layers, seed, cosines)
    growth = np.sqrt(2 * distance) * rng.uniform(1.0, 1.3, distance.shape)  # a little more than it turns
    skipped = rng.random(distance.shape) < skip
    extra = {name: distances(len(frame), layers, seed + 2 + index) for index, name in enumerate(also)}
    if "naive_cosine" in extra:
        extra["naive_cosine"] = rng.normal(-0.1, 0.15, distance.shape).clip(-1, 1).astype(np.float32)
    arrays = {"distance": distance, "growth": growth.astype(np.float32), **extra}
    arrays = {name: np.where(skipped, np.float32(np.nan), array) for name, array in arrays.items()}
    return Trace(frame, skipped=skipped, **arrays, **{"model": "made-up", "dtype": "float32"} | described)
