"""How fast a model decodes from which neurons were taken for good, beside the model that it was.

One width for all layers, so it is an ordinary model of ordinary matrices: nothing is patched and nothing is decided.
What is missing of the ideal is time that is not bytes of weights.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from saturation.pruning import prune

from .interleave import interleave, quartiles
from .models import CPU, decode, prompt, random

SHARES = (0.1, 0.25, 0.5)  # of the neurons of every layer
STEPS, PROMPT, CALIBRATED = 32, 8, 256  # new tokens, tokens of the prompt, tokens that the scores are made of


def speeds(
    rounds: int = 20, device: torch.device = CPU, *, layers: int = 12, hidden: int = 1024, shares: Any = SHARES
) -> pd.DataFrame:
    """Time of decoding before over after, and what the bytes alone would give, a row per share."""
    dense = random(layers, hidden, device=device)
    models = {"dense": dense} | {f"{share:g}": pruned(dense, share) for share in shares}
    ids = prompt(dense, PROMPT)
    seconds = interleave({name: partial(decode, model, ids, STEPS) for name, model in models.items()}, rounds)
    rows = []
    for share in shares:
        own = models[f"{share:g}"]
        middle, low, high = quartiles(seconds["dense"] / seconds[f"{share:g}"])
        ideal = read(dense) / read(own)
        rows.append(
            {
                "neurons taken out": f"{100 * share:g} %",
                "width": f"{own.config.intermediate_size} of {dense.config.intermediate_size}",
                "ideal": f"{ideal:.3f}x",
                "realised": f"{middle:.3f}x",
                "quartiles": f"{low:.3f} .. {high:.3f}",
                "share of the saving": f"{(1 - 1 / middle) / (1 - 1 / ideal):.2f}",
            }
        )
    table = pd.DataFrame(rows)
    table.attrs["notes"] = [
        f"random LLaMA, {layers} layers, {hidden} wide, float32, batch 1; a prompt of {PROMPT} tokens and {STEPS} new "
        f"ones, bare loop, {1000 * seconds['dense'].median() / STEPS:.1f} ms a token dense; {rounds} rounds. Ideal: "
        "bytes of weights that a decoded token reads, before over after, the head's included"
    ]
    return table


def pruned(model: PreTrainedModel, share: float) -> PreTrainedModel:
    """A copy with so many neurons fewer in every layer."""
    own = copy.deepcopy(model)
    rows = prompt(model, CALIBRATED).reshape(-1, 64).tolist()
    prune(own, calibration=rows, method="neurons", sparsity=share, widths="one", mean=False, progress=False)
    return own


def read(model: PreTrainedModel) -> int:
    """Bytes of weights that a decoded token reads: all but the table of embeddings, of which it reads a row."""
    parameters = [(name, one) for name, one in model.named_parameters() if "embed_tokens" not in name]
    return sum(one.numel() * one.element_size() for _, one in parameters)
