"""Passages held against the dense model's, and against themselves."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from ...quality.collapse import shape
from ...quality.drift_from_dense import agreement
from ...quality.intervals import ratio_interval
from .states import Passage, Score


def agreed(passages: Sequence[Passage], dense: Sequence[Passage]) -> Score:
    """Mean share of tokens that are the dense model's, as `quality.drift` counts them, its interval over prompts."""
    shares = np.array([agreement(d.ids, p.ids)[0] for p, d in zip(passages, dense, strict=True)])
    low = high = mean = float(shares.mean())
    if np.ptp(shares) > 0:
        low, high = ratio_interval(shares, np.ones(len(shares)))
    return Score("agreement", len(shares), mean, low, high)


def divergence(passage: Passage, dense: Passage) -> int | None:
    """Place of the first token that is not the dense model's, from 0; None where there is none."""
    return agreement(dense.ids, passage.ids)[1]


def collapsed(passage: Passage) -> bool:
    """Whether the text loops, as `quality.evaluate` counts it."""
    return bool(shape(passage.ids)["collapsed"])


def kept(passage: Passage, other: Passage) -> set[int]:
    """Places of the tokens that stand in both texts in the same order."""
    found = SequenceMatcher(None, passage.ids, other.ids, autojunk=False).get_matching_blocks()
    return {block.a + i for block in found for i in range(block.size)}
