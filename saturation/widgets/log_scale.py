"""The scale of threshold sliders: log10(1 - cosine), and conversion between both."""

from __future__ import annotations

import math

MOST = math.log10(2)  # the place of a cosine of -1
_SAME = 1e-9
_LEAST = -16.0  # the place of a cosine of 1; the step of float64 below 1 is 1.1e-16


def cosine(limit: float) -> float:
    """The threshold at a slider's place: 1 - 10**limit, with the distance rounded to four digits.

    Four digits are finer than the steps of a slider and short to print. They also come out the same in Python and in
    JavaScript, whose powers can differ in the last digit; `cosineOf` in canvas/rule.js does the same.
    """
    return 1 - float(f"{10**limit:.3e}")


def same(place: float, other: float) -> bool:
    """Whether two places are equal up to rounding; `cosineOf` in canvas/rule.js compares in the same way."""
    return abs(place - other) < _SAME


def limit(threshold: float) -> float:
    """The slider's place for a threshold, a cosine in [-1, 1]."""
    distance = 1 - threshold
    return math.log10(distance) if distance > 0 else _LEAST
