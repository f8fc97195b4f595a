"""The residual stream in front of one feed-forward block, which routed policies read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ..anatomy import find_blocks, given, input_device, running
from ..patching import Hooks, Scope, exclusive
from ..progress import bar
from .decode_loop import padded
from .texts import Text, encode


def streams(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: str | Sequence[Text],
    layer: int,
    *,
    batch_size: int = 8,
    progress: bool = True,
) -> np.ndarray:
    """Record the residual stream that the feed-forward block of a layer reads, for every token of some texts.

    Parameters
    ----------
    model, tokenizer, texts
        As for `record`; rows match those of its Trace, or of the Harm of the same texts.
    layer
        Number of the layer, from 0.
    batch_size
        Texts per forward pass.
    progress
        Show a bar where there is a terminal or a notebook.

    Returns
    -------
    numpy.ndarray
        float32 [token, hidden].

    Raises
    ------
    ValueError
        For a layer that the model does not have, and as for `record`.
    """
    rows, _ = encode(model, tokenizer, texts)
    blocks, scope = find_blocks(model), Scope()
    model, _ = running(model)
    if not 0 <= layer < len(blocks):
        raise ValueError(f"expected a layer from 0 to {len(blocks) - 1}, got {layer}; name one of them")
    found: list[np.ndarray] = []
    batches = [rows[begin : begin + batch_size] for begin in range(0, len(rows), batch_size)]
    hooks = Hooks()
    with exclusive(model, scope), scope.entered(), hooks.held(), torch.no_grad():
        kept: list[torch.Tensor] = []
        hooks.before(blocks[layer].chain[0], lambda _, args, named: kept.append(given(args, named)) if scope else None)
        for batch in bar(batches, desc="reading", progress=progress):
            ids, mask = padded(batch, "right", input_device(model))
            kept.clear()
            model(input_ids=ids, attention_mask=mask, use_cache=False)
            stream = kept[-1].reshape(*ids.shape, -1).float().cpu()  # [batch, width, hidden]
            found += [stream[row, : len(own)].numpy() for row, own in enumerate(batch)]
    return np.concatenate(found)
