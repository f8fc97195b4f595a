"""lm-evaluation-harness on a loaded model, dense or skipping.

`evaluate` returns the harness's results with the skip ratios. `lm` returns a model for your own call of
`lm_eval.simple_evaluate`. The package `lm-eval` is optional and imported at the first call.
"""

from .evaluating import evaluate, lm

__all__ = ["evaluate", "lm"]
