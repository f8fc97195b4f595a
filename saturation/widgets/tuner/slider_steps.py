"""Where sliders can stand, and the exact numbers that they stand for there."""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import ipywidgets as ipw

_SAME = 1e-9  # steps of a slider; less is the rounding of another language


class Places:
    """The numbers that Python put sliders to, each kept as it is while its slider stays there.

    A browser shows a slider at a whole number of steps, and sends the place back as if a hand had moved it there.
    So sliders are put at such places only, and a number that lies between two of them is remembered.
    """

    def __init__(self) -> None:
        self._put: dict[ipw.FloatSlider, tuple[float, Any]] = {}  # slider -> its place, what it stands for there

    def put(self, slider: ipw.FloatSlider, place: float, number: Any) -> None:
        """Move a slider to the step next to a place, for this number; its ends move where they have to."""
        with slider.hold_sync():  # a browser that hears of the ends first sends the old place back
            slider.min -= ceil(max(slider.min - place, 0) / slider.step) * slider.step
            slider.max += ceil(max(place - slider.max, 0) / slider.step) * slider.step
            found = on_step(slider, place)
            self._put[slider] = found, number
            slider.value = found

    def number(self, slider: ipw.FloatSlider, otherwise: Any) -> Any:
        """What a slider was put to; something else where it has been moved since."""
        place, number = self._put.get(slider, (slider.value, otherwise))
        return number if abs(slider.value - place) < slider.step / 2 else otherwise

    def stays(self, slider: Any, before: float) -> bool:
        """Whether a change from one place to where a slider is now is no move, but the echo of `put`."""
        if slider not in self._put:
            return False
        place, _ = self._put[slider]
        return max(abs(slider.value - place), abs(before - place)) < slider.step / 2


def between(slider: Any) -> bool:
    """Whether a slider stands between two steps, where no hand can put it."""
    if not isinstance(slider, ipw.FloatSlider):
        return False
    return abs(slider.value - on_step(slider, slider.value)) > _SAME * slider.step


def on_step(slider: ipw.FloatSlider, place: float) -> float:
    """The step next to a place, to the last bit as noUiSlider counts it, on which sliders of ipywidgets are built."""
    if place >= slider.max:
        return slider.max
    low, width = slider.min, slider.max - slider.min
    step = 100 * slider.step / width  # per cent of the slider
    share = floor(100 * (place - low) / width / step + 0.5) * step
    return slider.max if share >= 100 else share * width / 100 + low
