"""Which feed-forward blocks to skip, decided from numbers alone.

A policy is a frozen dataclass of plain numbers. Its rule is written once, over arrays of tokens, and serves the live
run (`saturation.skip`) and `replay` of a recorded trace alike. Nothing here needs torch.
"""

from __future__ import annotations

from .baselines import RandomFFN, StaticFFN
from .cold import cold_regions
from .ffnskip import FFNSkip
from .ratios import SkipRatios, skip_ratios
from .replaying import Replay, replay, replay_thresholds
from .rule import Policy, Steps, from_json, previous_token

__all__ = [
    "FFNSkip",
    "Policy",
    "RandomFFN",
    "Replay",
    "SkipRatios",
    "StaticFFN",
    "Steps",
    "cold_regions",
    "from_json",
    "previous_token",
    "replay",
    "replay_thresholds",
    "skip_ratios",
]
