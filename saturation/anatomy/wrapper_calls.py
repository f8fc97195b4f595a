"""The check that a wrapper passes its calls on to the model inside, on one tiny call before any measurement."""

from __future__ import annotations

from contextvars import Context
from threading import get_ident
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..patching import Hooks, uncompiled
from .blocks import UnsupportedModel
from .layers import input_device
from .unwrapping import kind, unwrapped

PROBE = 4  # tokens of the tiny text


def running(model: Any) -> tuple[PreTrainedModel, int]:
    """The model inside, and the number of tokens that its wrappers put before each text; calls the wrappers once.

    Raises
    ------
    UnsupportedModel
        Where a call of the wrapper does not reach the model inside, so that nothing could be recorded.
    """
    inner = unwrapped(model)
    return inner, 0 if inner is model else Context().run(_added, model, inner)  # an empty context has no recorders


def recomputing() -> bool:
    """Whether autograd is recomputing a forward pass, as gradient checkpointing does."""
    return torch._C._current_graph_task_id() != -1


def _added(model: nn.Module, inner: PreTrainedModel) -> int:
    """Number of tokens that the wrappers put before a text."""
    seen: list[int] = []
    thread = get_ident()

    def keep(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if get_ident() == thread:
            given = next((named[name] for name in ("inputs_embeds", "input_ids") if named.get(name) is not None), None)
            given = args[0] if given is None else given
            cache = named.get("past_key_values")
            seen.append(given.shape[1] + (0 if cache is None else int(cache.get_seq_length())))

    ids = torch.ones(1, PROBE, dtype=torch.long, device=input_device(inner))
    hooks = Hooks()
    with hooks.held(), uncompiled(), torch.no_grad():
        hooks.before(inner, keep)
        try:
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        except Exception as error:
            said = " ".join(str(error).split())[:160] or type(error).__name__
            raise _opaque(model, inner, f"calling it with a text fails ({said})") from error
    if len(seen) != 1:
        came = "does not call it in this thread" if not seen else f"calls it {len(seen)} times"
        raise _opaque(model, inner, f"it {came} when it is called with a text")
    if not hasattr(output, "logits"):
        raise _opaque(model, inner, f"it gives {type(output).__name__} in place of the model's output with .logits")
    return seen[0] - PROBE


def _opaque(model: nn.Module, inner: PreTrainedModel, reason: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"expected a wrapper that hands each call on to the model inside and its output back, as those of PEFT, "
        f"torch.compile and DataParallel do, but of {kind(model)} around {type(inner).__name__} the passes cannot be "
        f"seen: {reason}; give the model inside and call that one"
    )
