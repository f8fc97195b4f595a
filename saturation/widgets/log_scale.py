"""Thresholds on a slider: log10(1 - cosine), and the cosine that it stands for."""

from __future__ import annotations

import math

MOST = math.log10(2)  # stands for a cosine of -1
_SAME = 1e-9
_LEAST = -16.0  # stands for a cosine of 1; the step of float64 below 1 is 1.1e-16


def cosine(limit: float) -> float:
    """The threshold at a slider's place: 1 - 10**limit, with four digits of that distance.

    Four digits are more than a slider can tell apart, are short to print, and are the same in every language,
    whatever its last digit of a power; `cosineOf` in canvas/rule.js does the same.
    """
    return 1 - float(f"{10**limit:.3e}")


def same(place: float, other: float) -> bool:
    """Whether two places are one but for rounding; `cosineOf` in canvas/rule.js asks the same."""
    return abs(place - other) < _SAME


def limit(threshold: float) -> float:
    """A slider's place for a threshold, a cosine in [-1, 1]."""
    distance = 1 - threshold
    return math.log10(distance) if distance > 0 else _LEAST
