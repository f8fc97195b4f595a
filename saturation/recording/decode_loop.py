"""The decode loop: prefill and decode of one batch, used by all code here that generates text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..anatomy import input_device, running
from .token_rows import known
from .token_stream import parameters


def steps(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], choose: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Yield the next token of every sequence, [batch] on the CPU, one forward pass each.

    Only these tokens are copied from the device; the tensor on the device is fed back.

    The model's generation config is ignored: no penalties, no beams, no forced or suppressed tokens.

    Parameters
    ----------
    model
        A causal language model of transformers, or a wrapper of one.
    rows
        Token ids of each prompt; this function pads them on the left.
    choose
        Called with the logits [batch, vocabulary]; returns the tokens [batch].
    """
    told, mask = padded(rows, "left", "cpu")
    ids, mask = known(told.to(input_device(model)), told), mask.to(input_device(model))
    ragged = not bool(mask.all())
    inner, added = running(model)
    if ragged and added:
        raise ValueError(
            f"expected prompts of one length in a batch of a model with {added} virtual tokens before each, since its "
            "wrapper numbers their positions without regard to padding, got several lengths; use batch_size=1"
        )
    cache = DynamicCache(config=inner.config)
    positions = "position_ids" in parameters(inner)
    # an index, since with a number Gemma 4 drops the prompt's other tokens from layers that share keys and values
    last: Any = torch.tensor([-1]) if getattr(inner.config.get_text_config(), "num_kv_shared_layers", 0) else 1
    while True:
        inputs: dict[str, Any] = {"input_ids": ids, "past_key_values": cache, "use_cache": True}
        if ragged:
            inputs["attention_mask"] = mask
            if positions:
                inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = model(**inputs, logits_to_keep=last)
        logits = output.logits[:, -1]  # [batch, vocabulary]
        tokens = choose(logits)
        if added:  # the virtual tokens are in the cache now, which may be a new object
            model, cache = inner, output.past_key_values
        ids = tokens[:, None].to(logits.device)
        told = tokens if tokens.device.type == "cpu" else tokens.cpu()  # synchronises, so that timings are right
        yield told
        known(ids, told)
        if ragged:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)


def greedy(logits: Tensor) -> Tensor:
    """The likeliest token of each sequence, [batch]."""
    return logits.argmax(dim=-1)


def padded(rows: Sequence[Sequence[int]], side: str, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Pad rows of ids to one tensor, and return it with its mask, [batch, width] each; needs no pad token."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[number, place] = torch.tensor(row)
        mask[number, place] = 1
    return ids.to(device), mask.to(device)
