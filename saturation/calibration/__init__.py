"""Calibration sets: texts for thresholds and pruning scores, with an equal budget of real tokens from any source."""

from .drawing import draw
from .formats import FORMATS
from .sample import Sample
from .sources import CONTROLS, GENERATED, MIXTURE, Source, kinds, open_source

__all__ = ["CONTROLS", "FORMATS", "GENERATED", "MIXTURE", "Sample", "Source", "draw", "kinds", "open_source"]
