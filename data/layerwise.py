"""What each sublayer of the demo model does, measured with plain hooks on this one architecture.

The library measures the same for any model; these few lines owe nothing to it, so that each can be held
against the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

Batch = tuple[torch.Tensor, torch.Tensor]  # ids and mask, [text, position]


def batches(tokenizer, texts: list[str], *, size: int = 16, device: torch.device | str = "cpu") -> list[Batch]:
    """Texts of similar length together, padded on the right; the tokenizer puts bos before each."""
    ordered = sorted(texts, key=len)
    made = []
    for i in range(0, len(ordered), size):
        read = tokenizer(ordered[i : i + size], padding=True, padding_side="right", return_tensors="pt")
        made.append((read["input_ids"].to(device), read["attention_mask"].bool().to(device)))
    return made


@torch.no_grad()
def losses(model: nn.Module, made: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss of each text in nats per predicted token, and how many were predicted (all but bos)."""
    means, counts = [], []
    for ids, mask in made:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()  # causal: padding after is unseen
        nats = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")  # [text, position]
        real = mask[:, 1:]
        means += ((nats * real).sum(1) / real.sum(1)).tolist()
        counts += real.sum(1).tolist()
    return np.array(means), np.array(counts)


def loss(model: nn.Module, made: list[Batch]) -> float:
    """Nats per token over all texts."""
    means, counts = losses(model, made)
    return float((means * counts).sum() / counts.sum())


@dataclass(frozen=True)
class Turning:
    """Means over tokens, one number per layer: cos(h, h + FFN(norm h)) and |FFN| / |h|."""

    cosine: np.ndarray
    growth: np.ndarray


@torch.no_grad()
def turning(model: nn.Module, made: list[Batch]) -> Turning:
    """How far each feed-forward block turns and lengthens the residual stream, in float64."""
    cosine, growth, tokens = np.zeros(len(model.model.layers)), np.zeros(len(model.model.layers)), 0
    for ids, mask in made:
        with _watched(model) as (before, ffn):
            model(input_ids=ids, use_cache=False)
        for layer in range(len(cosine)):
            h, out = before[layer][mask].double(), ffn[layer][mask].double()  # [token, hidden]
            cosine[layer] += nn.functional.cosine_similarity(h, h + out, dim=-1).sum().item()
            growth[layer] += (out.norm(dim=-1) / h.norm(dim=-1)).sum().item()
        tokens += int(mask.sum())
    return Turning(cosine / tokens, growth / tokens)


@contextmanager
def _watched(model: nn.Module) -> Iterator[tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]]:
    before: dict[int, torch.Tensor] = {}  # the residual stream that enters the feed-forward sublayer
    ffn: dict[int, torch.Tensor] = {}  # what the block adds to it
    handles = []
    for i, layer in enumerate(model.model.layers):
        norm = layer.post_attention_layernorm
        handles.append(norm.register_forward_pre_hook(lambda _, args, i=i: before.__setitem__(i, args[0])))
        handles.append(layer.mlp.register_forward_hook(lambda _, args, out, i=i: ffn.__setitem__(i, out)))
    try:
        yield before, ffn
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without(sublayer: nn.Module) -> Iterator[None]:
    """A sublayer whose output counts as zero, so that the residual stream passes it unchanged."""
    handle = sublayer.register_forward_hook(lambda _, args, out: _zero(out))
    try:
        yield
    finally:
        handle.remove()


def _zero(out):
    return (torch.zeros_like(out[0]), *out[1:]) if isinstance(out, tuple) else torch.zeros_like(out)


def single_skips(model: nn.Module, made: list[Batch], sublayer: str) -> np.ndarray:
    """Rise of the loss, in nats per token, when one sublayer (``mlp`` or ``self_attn``) of one layer is left out."""
    dense, rises = loss(model, made), []
    for layer in model.model.layers:
        with without(getattr(layer, sublayer)):
            rises.append(loss(model, made) - dense)
    return np.array(rises)
