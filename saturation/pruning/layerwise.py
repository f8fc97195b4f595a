"""Layerwise passes: calibration texts run through a model one layer at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import decoder_layers, first, given, input_device
from ..patching import Hooks
from ..recording import padded


def few_logits(model: PreTrainedModel) -> dict[str, int]:
    """Arguments for a pass whose logits are not needed: logits of one position only, where the model allows it."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


class Walk:
    """The residual stream of all calibration texts in front of one layer, and how each layer is called.

    Only that stream is stored, [tokens, hidden] over all texts, and no activations inside a layer. The arguments of the
    layers' calls (masks, rotary angles) come from one forward pass of the model.

    Parameters
    ----------
    model
        In eval mode.
    rows
        Token ids of each text.
    batch_size
        Texts per pass; they are batched by length and padded on the right, where causal attention cannot see it.
    """

    def __init__(self, model: PreTrainedModel, rows: Sequence[Sequence[int]], batch_size: int) -> None:
        self.model, self.layers = model, decoder_layers(model)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        self.batches = [[rows[i] for i in order[at : at + batch_size]] for at in range(0, len(rows), batch_size)]
        self.real: list[Tensor] = []  # [batch, width] bool: no padding
        self.hidden: list[Tensor] = []  # [batch, width, hidden] in front of the layer
        self._calls: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = []  # by batch, by layer
        with torch.no_grad():
            for batch in self.batches:
                self._open(batch)

    @property
    def tokens(self) -> int:
        """Real tokens of all texts."""
        return sum(int(real.sum()) for real in self.real)

    def _open(self, batch: list[Sequence[int]]) -> None:
        """Read a batch once, and store the arguments of the layers' calls."""
        calls: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        streams: list[Tensor] = []

        def keep(layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            if not streams:
                streams.append(given(args, named).clone())
            calls[layer] = args[1:], {name: value for name, value in named.items() if name != "hidden_states"}

        ids, mask = padded(batch, "right", input_device(self.model))
        hooks = Hooks()
        with hooks.held():
            for layer in self.layers:
                hooks.before(layer, keep)
            self.model(input_ids=ids, attention_mask=mask, use_cache=False, **few_logits(self.model))
        self.real.append(mask.bool())
        self.hidden.append(streams[0])
        self._calls.append([calls[layer] for layer in self.layers])

    def run(self, index: int, before: Callable[[Tensor], None] | None = None) -> Iterator[Tensor]:
        """Run one layer on all texts; yields its output, [batch, width, hidden], batch by batch.

        `before` gets the mask of the real tokens of each batch.
        """
        for number, (stream, real) in enumerate(zip(self.hidden, self.real, strict=True)):
            if before is not None:
                before(real)
            args, named = self._calls[number][index]
            with torch.no_grad():
                out = first(self.layers[index](stream, *args, **named))
            yield out  # outside no_grad: a loop that ends early would leave gradients off

    def step(self, index: int) -> None:
        """Advance the stream through a layer with its current weights."""
        for number, stream in enumerate(self.run(index)):
            self.hidden[number] = stream
