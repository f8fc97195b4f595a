"""The explorer: a canvas of every layer and token of a trace, and of the blocks that a rule would skip."""

from .explorer import SaturationExplorer

__all__ = ["SaturationExplorer"]
