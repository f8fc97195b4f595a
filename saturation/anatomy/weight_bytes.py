"""Sizes of weights: the entries of a module's matrices, and the bytes in which they are stored.

Quantised linears keep their weights in parameters, in buffers (GPTQ, AWQ, BitNet) or in tensors made of other tensors
(torchao, quanto); all of them are weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def weights(module: nn.Module) -> Iterator[Tensor]:
    """Every weight of a module once: its parameters, and the buffers of submodules that store matrices in buffers."""
    seen: set[int] = set()
    for part in module.modules():
        own: list[Tensor] = list(part.parameters(recurse=False))
        if not _matrices(own) and next(part.children(), None) is None:
            buffers = list(part.buffers(recurse=False))  # buffers of rotary embeddings are vectors, masks are boolean
            own += buffers if _matrices(buffers) else []
        for tensor in own:
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def weight(module: nn.Module) -> int:
    """Number of entries of a module's matrices; norms and biases count as 0."""
    return sum(tensor.numel() for tensor in weights(module) if tensor.ndim > 1)


def held(tensor: Tensor) -> Iterator[Tensor]:
    """The plain tensors that store a tensor: itself, or the inner tensors of torchao's and quanto's classes."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from held(getattr(tensor, name))
    else:
        yield tensor


def stored(tensor: Tensor) -> int:
    """Bytes that store a tensor, including the scales of a quantised one."""
    state = getattr(tensor, "quant_state", None)  # bitsandbytes: the scales of a 4-bit weight
    scales = chain(*(vars(part).values() for part in (state, getattr(state, "state2", None)) if part is not None))
    beside = [one for one in scales if torch.is_tensor(one)]
    return sum(one.numel() * one.element_size() for one in (*held(tensor), *beside))


def _matrices(tensors: list[Tensor]) -> bool:
    return any(tensor.ndim > 1 and tensor.dtype != torch.bool for tensor in tensors)


def quantised(module: nn.Module) -> dict[str, int]:
    """Number of submodules whose matrices are not stored as floats, by class of module and tensor."""
    found: Counter[str] = Counter()
    for part in module.modules():
        if next(part.children(), None) is None:
            kept = [one for one in weights(part) if one.ndim > 1 and (_other(one) or not one.is_floating_point())]
            packed = getattr(part, "_packed_params", None)  # torch.ao's own quantised linears
            if kept or packed is not None:
                form = type(kept[0]).__name__ if kept and _other(kept[0]) else None
                found[f"{type(part).__name__} of {form}" if form else type(part).__name__] += 1
    return dict(found)


def _other(tensor: Tensor) -> bool:
    return is_traceable_wrapper_subclass(tensor)
