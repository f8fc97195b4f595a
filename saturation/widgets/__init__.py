"""Widgets for Jupyter: sliders and canvases to threshold, zoom and read a trace without writing code.

`SaturationExplorer` shows every layer and token of a trace of any length, and which blocks a rule would skip. The
browser draws it with the plain JavaScript in `canvas`, which the widget sends; nothing is fetched from elsewhere.

`ThresholdTuner` puts the settings of a policy on sliders. In `tuner`, `controls` hold the policy, `prediction` computes
at once what it would skip, `background` runs the newest state in a thread (`worker`), `state_run` generates and scores
its text, `wanted_state` and `view` show it, and `pareto` plots the `states` that were visited. `session`, `script` and
`exports` write files. No button runs the model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .explorer.explorer import SaturationExplorer as SaturationExplorer
    from .tuner.tuner import ThresholdTuner as ThresholdTuner

_HOMES = {"SaturationExplorer": "explorer", "ThresholdTuner": "tuner"}

__all__ = ["SaturationExplorer", "ThresholdTuner"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"saturation.widgets has no attribute {name!r}; it has {', '.join(_HOMES)}")
