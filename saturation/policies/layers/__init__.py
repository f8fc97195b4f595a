"""Baseline policies that leave out whole layers, or attention."""

from __future__ import annotations

from .attention import StaticAttention
from .early_exit import EarlyExit
from .random import RandomLayers
from .skipdecode import SkipDecode
from .static import StaticLayers
from .unified import UnifiedLayers

__all__ = ["EarlyExit", "RandomLayers", "SkipDecode", "StaticAttention", "StaticLayers", "UnifiedLayers"]
