"""The steps of sliders, and the exact numbers that sliders on these steps represent."""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import ipywidgets as ipw

_SAME = 1e-9  # steps of a slider; smaller differences are rounding in JavaScript


class Places:
    """The exact numbers that Python set sliders to, each kept until its slider moves.

    A browser shows a slider at a whole number of steps, and sends this place back as if the user had moved it there.
    So sliders are set to whole steps only, and a number between two steps is remembered.
    """

    def __init__(self) -> None:
        self._put: dict[ipw.FloatSlider, tuple[float, Any]] = {}  # slider -> its place and the number there

    def put(self, slider: ipw.FloatSlider, place: float, number: Any) -> None:
        """Move a slider to the step nearest to a place and remember this number; widen its range where needed."""
        with slider.hold_sync():  # a browser that gets the range first sends the old place back
            slider.min -= ceil(max(slider.min - place, 0) / slider.step) * slider.step
            slider.max += ceil(max(place - slider.max, 0) / slider.step) * slider.step
            found = on_step(slider, place)
            self._put[slider] = found, number
            slider.value = found

    def number(self, slider: ipw.FloatSlider, otherwise: Any) -> Any:
        """The number that a slider was set to; `otherwise` where it moved since."""
        place, number = self._put.get(slider, (slider.value, otherwise))
        return number if abs(slider.value - place) < slider.step / 2 else otherwise

    def stays(self, slider: Any, before: float) -> bool:
        """Whether a change of a slider, from the place `before`, is only the browser's echo of `put`."""
        if slider not in self._put:
            return False
        place, _ = self._put[slider]
        return max(abs(slider.value - place), abs(before - place)) < slider.step / 2


def between(slider: Any) -> bool:
    """Whether a slider is between two steps, where a user cannot move it."""
    if not isinstance(slider, ipw.FloatSlider):
        return False
    return abs(slider.value - on_step(slider, slider.value)) > _SAME * slider.step


def on_step(slider: ipw.FloatSlider, place: float) -> float:
    """The step nearest to a place, equal to the last bit to that of noUiSlider, which ipywidgets uses."""
    if place >= slider.max:
        return slider.max
    low, width = slider.min, slider.max - slider.min
    step = 100 * slider.step / width  # per cent of the slider
    share = floor(100 * (place - low) / width / step + 0.5) * step
    return slider.max if share >= 100 else share * width / 100 + low
