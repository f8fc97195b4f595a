"""lm-evaluation-harness on a model of yours, dense or skipping: its tasks, its numbers, our policies.

`evaluate` gives its table with what was skipped beside it; `lm` gives the model that `lm_eval.simple_evaluate` takes,
for whoever calls that himself. The package `lm-eval` is optional and loaded at the first call.
"""

from .evaluating import evaluate, lm

__all__ = ["evaluate", "lm"]
