"""Leave one block out, and measure what that does to the distribution of the next token.

`measuring` is the measurement itself, one pass per layer, and `estimating` its estimate from one backward pass;
`choosing` takes the blocks that do least harm together, and the layers whose removal raises the loss least;
`reading` runs the passes and turns final hidden states into logits, a few positions at a time.
"""

from __future__ import annotations

from .choosing import least_harmful, sleb
from .measuring import harm

__all__ = ["harm", "least_harmful", "sleb"]
