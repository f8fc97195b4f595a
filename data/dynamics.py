"""Where saturation stands at a few points of training, as numbers: a row per layer, none of the weights kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from data.layerwise import Batch, batches, loss, single_skips, turning
from data.state import Row, Run, Settings
from data.world import document

POINTS = (0.0, 0.005, 0.015, 0.04, 0.1, 0.2, 0.4, 0.7, 1.0)  # shares of the schedule; at 0 the model is untrained
TEXTS = 5  # per kind
KINDS = ("entry", "story", "problem", "article", "conversation", "entailment")
COLUMNS = ["step", "tokens", "layer", "loss", "cosine", "rho", "rise"]


def due(run: Run, settings: Settings) -> bool:
    """Whether the next point is reached."""
    taken = len({row["step"] for row in run.dynamics})
    return taken < len(POINTS) and run.progress(settings) >= POINTS[taken]


def texts(tokenizer: PreTrainedTokenizerFast, settings: Settings, device: torch.device) -> list[Batch]:
    """The same held-back texts at every point, as long as the model can read."""
    rng = np.random.default_rng([settings.seed, 4])
    told = [document(rng, "validation", kind).text for kind in KINDS for _ in range(TEXTS)]
    made = batches(tokenizer, told, device=device)
    return [(ids[:, : settings.context], mask[:, : settings.context]) for ids, mask in made]


def snapshot(model: nn.Module, made: list[Batch], run: Run) -> list[Row]:
    """Loss, mean cosine(h, h + FFN), |FFN| / |h|, and the rise of the loss without each FFN, in float32."""
    dense, turned, rises = loss(model, made), turning(model, made), single_skips(model, made, "mlp")
    return [
        {
            "step": run.step,
            "tokens": run.tokens,
            "layer": layer,
            "loss": dense,
            "cosine": float(turned.cosine[layer]),
            "rho": float(turned.growth[layer]),
            "rise": float(rises[layer]),
        }
        for layer in range(len(rises))
    ]
