"""Rank correlations between harm and the numbers in a trace."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from .harm import Harm
from .trace import Trace

PREDICTORS = {
    "distance": "of the same block and token: known only after the block ran",
    "growth": "likewise",
    "position": "of the token in its text",
    "distance of the block before": "what the paper's rule reads",
    "distance of the token before": "at the same layer: known before the pass",
}


def rank_correlations(
    harm: Harm,
    trace: Trace | None = None,
    predictors: Iterable[str] = tuple(PREDICTORS),
    *,
    other: np.ndarray | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Spearman's rho between harm and numbers from a trace of the same tokens, each with a bootstrap interval.

    Parameters
    ----------
    harm
        The measured harm of each feed-forward block.
    trace
        Of the same texts and model; needed for all but `other`.
    predictors
        Among `PREDICTORS`.
    other : float [token, layer], optional
        Something else to rank harm by, in place of the predictors, such as an estimate of the harm.
    resamples, confidence, seed
        Of the percentile bootstrap, which resamples whole sequences.

    Returns
    -------
    pandas.DataFrame
        `predictor`; `scope`: "within a layer" (tokens are ranked in each layer, and the rhos of the layers averaged)
        or "pooled" (tokens and layers ranked together); `rho`, `low`, `high`, and `n`, the blocks counted. An
        interval of a single sequence is NaN, and so is rho where all ranks are tied.

    Raises
    ------
    ValueError
        For an unknown predictor, or a trace of other texts or another model.
    """
    if other is not None:
        values = {"other": np.asarray(other, np.float64)}
    else:
        if unknown := [name for name in predictors if name not in PREDICTORS]:
            raise ValueError(f"expected predictors among {', '.join(PREDICTORS)}, got {unknown[0]!r}; name one of them")
        if trace is None:
            raise ValueError("expected a trace of the texts that the harm was measured on, got none; record one")
        values = {name: predictor(name, harm.aligned(trace)) for name in predictors}
    _, sequence = np.unique(harm.tokens["sequence"], return_inverse=True)  # [token]
    weights = _weights(sequence[harm.measured], resamples, seed)  # [1 + resamples, sequence]
    rows = []
    for name, array in values.items():
        cells = np.isfinite(array) & np.isfinite(harm.kl)  # [token, layer]
        token, layer = np.nonzero(cells)
        for scope, group in (("within a layer", layer), ("pooled", np.zeros_like(layer))):
            pair = _Ranks(array[cells], group), _Ranks(harm.kl[cells], group)
            found = np.array([_rho(*pair, group, drawn[sequence[token]]) for drawn in weights])
            tails = 50 * (1 - confidence), 100 - 50 * (1 - confidence)
            low, high = np.nanpercentile(found[1:], tails) if np.isfinite(found[1:]).any() else (np.nan, np.nan)
            rows.append((name, scope, found[0], low, high, len(token)))
    return pd.DataFrame(rows, columns=["predictor", "scope", "rho", "low", "high", "n"])


def predictor(name: str, trace: Trace) -> np.ndarray:
    """The values of one of `PREDICTORS`, float64 [token, layer]; NaN where a block has none."""
    if name == "growth":
        return trace.growth.astype(np.float64)
    if name == "position":
        return np.broadcast_to(trace.tokens["position"].to_numpy(np.float64)[:, None], trace.distance.shape)
    distance = trace.distance.astype(np.float64)
    before = np.full_like(distance, np.nan)
    if name == "distance of the block before":
        before[:, 1:] = distance[:, :-1]
        return before
    if name == "distance of the token before":
        follows = np.diff(trace.tokens["sequence"]) == 0  # rows of a trace are in order
        before[1:][follows] = distance[:-1][follows]
        return before
    return distance


def _weights(sequence: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Weights of the sequences: ones, then their counts in each bootstrap sample, [1 + resamples, sequence]."""
    there = np.unique(sequence)
    counts = np.zeros((1 + resamples, int(sequence.max(initial=-1)) + 1))
    counts[0, there] = 1
    if len(there) > 1:
        share = np.full(len(there), 1 / len(there))
        counts[1:, there] = np.random.default_rng(seed).multinomial(len(there), share, resamples)
    return counts


class _Ranks:
    """Mid-ranks of values inside their groups, where each value may be repeated a whole number of times.

    The ranks of a group begin where those of the group before end; that does not change correlations inside groups.
    """

    def __init__(self, values: np.ndarray, group: np.ndarray) -> None:
        _, level = np.unique(values, return_inverse=True)
        _, self.tied = np.unique(group.astype(np.int64) * (level.max(initial=0) + 1) + level, return_inverse=True)

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """Ranks from 1, [cell]."""
        alike = np.bincount(self.tied, weight)
        return (np.cumsum(alike) - (alike - 1) / 2)[self.tied]


def _rho(one: _Ranks, other: _Ranks, group: np.ndarray, weight: np.ndarray) -> float:
    """Pearson's correlation of ranks in each group, averaged over the groups in which both vary."""
    total = np.bincount(group, weight)

    def within(values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return values - (np.bincount(group, weight * values) / total)[group]

    x, y = within(one(weight)), within(other(weight))
    xy, xx, yy = (np.bincount(group, weight * product) for product in (x * y, x * x, y * y))
    there = (xx > 0) & (yy > 0)
    return float((xy[there] / np.sqrt(xx[there] * yy[there])).mean()) if there.any() else float("nan")
