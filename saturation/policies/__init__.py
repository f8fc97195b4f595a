"""Which feed-forward blocks to skip, and which attention or whole layers, decided from numbers alone.

A policy is a frozen dataclass of plain numbers. Its rule is written once, over arrays of tokens, and serves the live
run (`saturation.skip`) and `replay` of a recorded trace alike. Nothing here needs torch.
"""

from __future__ import annotations

from .actions import Action
from .ahead import AheadOfPass, BehindLayer
from .arrays import Arrays
from .baselines import RandomFFN, StaticFFN
from .cold import cold_regions
from .ffnskip import FFNSkip
from .layers import EarlyExit, RandomLayers, SkipDecode, StaticAttention, StaticLayers, UnifiedLayers
from .narrow import Narrow
from .ratios import SkipRatios, skip_ratios
from .replaying import Replay, replay
from .routed import RoutedFFN
from .rule import ATTENTION, BEFORE, BEHIND, CONFIDENCE, DISTANCE, FFN, LAYERWISE, SINK, Policy, Steps, previous_token
from .saving import from_json, load, save
from .spelled import from_words, is_worded
from .standing import LowRank, Scale
from .thresholds import replay_thresholds
from .tokens import TokenFFN

__all__ = [
    "ATTENTION",
    "BEFORE",
    "BEHIND",
    "CONFIDENCE",
    "DISTANCE",
    "FFN",
    "LAYERWISE",
    "SINK",
    "Action",
    "AheadOfPass",
    "Arrays",
    "BehindLayer",
    "EarlyExit",
    "FFNSkip",
    "LowRank",
    "Narrow",
    "Policy",
    "RandomFFN",
    "RandomLayers",
    "Replay",
    "RoutedFFN",
    "Scale",
    "SkipDecode",
    "SkipRatios",
    "StaticAttention",
    "StaticFFN",
    "StaticLayers",
    "Steps",
    "TokenFFN",
    "UnifiedLayers",
    "cold_regions",
    "from_json",
    "from_words",
    "is_worded",
    "load",
    "previous_token",
    "replay",
    "replay_thresholds",
    "save",
    "skip_ratios",
]
