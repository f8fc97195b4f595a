"""Dropped attention: it adds nothing at some tokens, while keys and values are stored for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from ..anatomy import Attention, Block, find_attentions, given, idling
from ..patching import Scope
from ..policies import Policy
from ..recording import Rows
from .token_subset import tokens_at

Attend = Callable[..., Any]


class Attending:
    """The attention sublayers that a policy may drop, in one session.

    Attributes
    ----------
    found
        Attention by layer; empty where the policy drops none, and then the model is not searched.
    """

    def __init__(self, model: PreTrainedModel, blocks: Sequence[Block], policy: Policy, scope: Scope) -> None:
        layers, skippable = policy.droppable(len(blocks)), policy.skippable(len(blocks))
        whole = bool(set(layers) & set(skippable))
        found = find_attentions(model, whole=whole) if layers else ()
        self.found: dict[int, Attention] = {layer: found[layer] for layer in layers}
        self._scope = scope
        self._storing = False  # whether attention now computes only keys and values

    def forwards(self, attend: Attend) -> dict[nn.Module, Attend]:
        """Forwards for `patched`, under which attention is called as ``attend(attention, *args, run=run, **named)``."""
        idle = [part for one in self.found.values() for part in one.idle]
        gated = {one.module: self._gated(one, attend) for one in self.found.values()}
        return {**gated, **idling(idle, lambda: self._storing and self._scope)}

    def _gated(self, one: Attention, attend: Attend) -> Attend:
        original = one.module.forward
        inside = partial(attend, one, run=original)
        return lambda *args, **named: (inside if self._scope else original)(*args, **named)

    def run(self, one: Attention, rows: Rows, mask: np.ndarray, run: Attend, args: tuple[Any, ...], named: Any) -> Any:
        """Run attention that adds nothing at the tokens of a mask [token], which is not all false."""
        x = given(args, named)
        if not mask.all():  # the other tokens attend to all tokens
            return one.without(run(*args, **named), tokens_at(rows, mask, x))
        self._storing = True
        try:
            one.store(run, args, named)
        finally:
            self._storing = False
        return one.nothing(x)
