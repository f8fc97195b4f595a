"""The trace: numbers measured for each token and layer, frozen, and stored in one Parquet file.

`trace` holds the Trace, `harm` the effect of leaving out single blocks at the same tokens, and `correlation` how well
the one predicts the other. `frozen_record` is what both share, `validation` checks their parts, `parquet` stores them.
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
