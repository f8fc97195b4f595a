"""Leave one block out, and measure what that does to the distribution of the next token.

`exact_harm` is the measurement itself, one pass per layer, and `estimated_harm` its estimate from one backward pass;
`greedy_choice` takes the blocks that do least harm together, and the layers whose removal raises the loss least;
`chunked_logits` runs the passes and turns final hidden states into logits, a few positions at a time.
"""

from __future__ import annotations

from .exact_harm import harm
from .greedy_choice import least_harmful, sleb

__all__ = ["harm", "least_harmful", "sleb"]
