"""What was measured: one row per token, one column per layer, frozen, and kept in one Parquet file.

`measured` is the Trace, `checks` what it asks of its parts, `parquet` its file, `files` how any file is
written whole. Nothing here needs torch.
"""

from __future__ import annotations

from .checks import GROUPS, OPTIONAL, PHASES, TOKEN_COLUMNS, Phase
from .files import writing, writing_together
from .measured import Trace

__all__ = ["GROUPS", "OPTIONAL", "PHASES", "TOKEN_COLUMNS", "Phase", "Trace", "writing", "writing_together"]
