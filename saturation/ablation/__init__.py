"""Ablation: leave out one block and measure the effect on the next-token distribution.

`exact_harm` measures harm with one pass per layer, and `estimated_harm` estimates it from one backward pass.
`greedy_choice` chooses the blocks that do least harm together, and the layers whose removal raises the loss least.
`chunked_logits` runs the passes and computes logits from final hidden states, a few positions at a time.
"""

from __future__ import annotations

from .exact_harm import harm
from .greedy_choice import least_harmful, sleb

__all__ = ["harm", "least_harmful", "sleb"]
