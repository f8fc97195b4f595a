"""Which feed-forward blocks to skip, decided from numbers alone.

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
from .narrow import Narrow
from .ratios import SkipRatios, skip_ratios
from .replaying import Replay, replay, replay_thresholds
from .routed import RoutedFFN
from .rule import BEFORE, BEHIND, LAYERWISE, SINK, Policy, Steps, previous_token
from .saving import from_json, load, save
from .spelled import from_words, is_worded
from .standing import LowRank, Scale
from .tokens import TokenFFN

__all__ = [
    "BEFORE",
    "BEHIND",
    "LAYERWISE",
    "SINK",
    "Action",
    "AheadOfPass",
    "Arrays",
    "BehindLayer",
    "FFNSkip",
    "LowRank",
    "Narrow",
    "Policy",
    "RandomFFN",
    "Replay",
    "RoutedFFN",
    "Scale",
    "SkipRatios",
    "StaticFFN",
    "Steps",
    "TokenFFN",
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
