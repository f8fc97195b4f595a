"""Policies: rules that choose feed-forward blocks, attention or whole layers to skip, from numbers only.

A policy is a frozen dataclass of plain numbers. Its rule is written once, over arrays of tokens; the live run
(`saturation.skip`) and the `replay` of a recorded trace both use it. Nothing here needs torch.
"""

from __future__ import annotations

from .actions import Action
from .baselines import RandomFFN, StaticFFN
from .cold_regions import cold_regions
from .decided_ahead import AheadOfPass, BehindLayer
from .ffnskip import FFNSkip
from .fitted_arrays import Arrays
from .layers import EarlyExit, RandomLayers, SkipDecode, StaticAttention, StaticLayers, UnifiedLayers
from .narrow import Narrow
from .policy import ATTENTION, BEFORE, BEHIND, CONFIDENCE, DISTANCE, FFN, LAYERWISE, SINK, Policy, Steps, previous_token
from .replaying import Replay, replay
from .router import RoutedFFN
from .serialization import from_json, load, save
from .skip_ratios import SkipRatios, skip_ratios
from .spec import from_words, is_worded
from .stand_in_action import LowRank, Scale
from .threshold_curve import replay_thresholds
from .token_table import TokenFFN

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
