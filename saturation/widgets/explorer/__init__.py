"""The explorer: every layer and token of a trace as a canvas, and what a rule would skip there."""

from .explorer import SaturationExplorer

__all__ = ["SaturationExplorer"]
