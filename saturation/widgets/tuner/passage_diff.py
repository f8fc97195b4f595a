"""Comparison of passages with those of the dense model, and a check for loops."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from ...quality.collapse import shape
from ...quality.drift_from_dense import agreement
from ...quality.intervals import ratio_interval
from .states import Passage, Score


def agreed(passages: Sequence[Passage], dense: Sequence[Passage]) -> Score:
    """Mean share of tokens equal to the dense model's, as in `quality.drift`, with its interval over prompts."""
    shares = np.array([agreement(d.ids, p.ids)[0] for p, d in zip(passages, dense, strict=True)])
    low = high = mean = float(shares.mean())
    if np.ptp(shares) > 0:
        low, high = ratio_interval(shares, np.ones(len(shares)))
    return Score("agreement", len(shares), mean, low, high)


def divergence(passage: Passage, dense: Passage) -> int | None:
    """Index of the first token that differs from the dense model's; None where all are equal."""
    return agreement(dense.ids, passage.ids)[1]


def collapsed(passage: Passage) -> bool:
    """Whether the text loops, by the measure of `quality.evaluate`."""
    return bool(shape(passage.ids)["collapsed"])


def kept(passage: Passage, other: Passage) -> set[int]:
    """Indices of the tokens of `passage` that `other` has too, in the same order."""
    found = SequenceMatcher(None, passage.ids, other.ids, autojunk=False).get_matching_blocks()
    return {block.a + i for block in found for i in range(block.size)}
