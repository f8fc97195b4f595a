"""What was measured: one row per token, one column per layer, frozen, and kept in one Parquet file.

`measured` is the Trace, `harm` what leaving single blocks out did to the same tokens and `ranking` how far the one
predicts the other; `frozen` is what both are, `checks` what they ask of their parts, `parquet` their file, `files`
how any file is written whole. Nothing here needs torch.
"""

from __future__ import annotations

from .checks import GROUPS, OPTIONAL, PHASES, TOKEN_COLUMNS, Phase
from .files import located, writing, writing_together
from .harm import Harm
from .measured import Trace
from .ranking import PREDICTORS, rank_correlations

__all__ = [
    "GROUPS",
    "OPTIONAL",
    "PHASES",
    "PREDICTORS",
    "TOKEN_COLUMNS",
    "Harm",
    "Phase",
    "Trace",
    "located",
    "rank_correlations",
    "writing",
    "writing_together",
]
