"""What was measured: one row per token, one column per layer, frozen, and kept in one Parquet file.

`trace` holds the Trace, `harm` what leaving out single blocks did to the same tokens, `correlation` how far the one
predicts the other. `measurement` is what both are, `validation` what they require of their parts, `parquet` their file.
Nothing here needs torch.
"""

from __future__ import annotations

from warnings import warn

from .. import atomic
from .correlation import PREDICTORS, rank_correlations
from .harm import Harm
from .trace import Trace
from .validation import GROUPS, OPTIONAL, PHASES, TOKEN_COLUMNS, Phase

__all__ = ["GROUPS", "OPTIONAL", "PHASES", "PREDICTORS", "TOKEN_COLUMNS", "Harm", "Phase", "Trace", "rank_correlations"]


def __getattr__(name: str) -> object:
    if name in ("located", "writing", "writing_together"):
        warn(f"saturation.trace.{name} is now saturation.atomic.{name}", DeprecationWarning, stacklevel=2)
        return getattr(atomic, name)
    raise AttributeError(f"saturation.trace has no attribute {name!r}; it has {', '.join(__all__)}")
