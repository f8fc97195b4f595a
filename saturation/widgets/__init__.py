"""A Trace under the hand: widgets for Jupyter that threshold, zoom and read a trace without writing code.

`SaturationExplorer` shows every layer and token of a trace, however long, and what a rule would skip there. What it
draws in the browser lies in `canvas`, plain JavaScript that is sent along; nothing is fetched from elsewhere.

`ThresholdTuner` puts a policy under the hand: `controls` stand for it, `predicting` says at once what it would skip,
`worker` runs the newest state in the background, `running` writes and scores it, `screen` and `tuner_view` show it,
`pareto` plots the `states` visited; `session`, `scripts` and `keeping` are what leaves it. No button runs the model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .explorer import SaturationExplorer as SaturationExplorer
    from .tuner import ThresholdTuner as ThresholdTuner

_HOMES = {"SaturationExplorer": "explorer", "ThresholdTuner": "tuner"}

__all__ = ["SaturationExplorer", "ThresholdTuner"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"saturation.widgets has no attribute {name!r}; it has {', '.join(_HOMES)}")
