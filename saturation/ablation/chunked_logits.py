"""Chunked logits: final hidden states of given texts, and their logits for a few positions at a time.

Logits of 10,000 positions over 49,152 tokens are 2 GB; hidden states of 576 numbers are 23 MB. A pass computes the
output embedding at one position only. The model's own forward then computes logits from the states, with its decoder
replaced by one that returns them, so that softcapping and scaling are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import input_device
from ..patching import Hooks, Scope, patched
from ..recording import padded


@dataclass(eq=False)
class Reader:
    """Runs passes of one model.

    Attributes
    ----------
    model
        A causal language model.
    scope
        Scope of the caller; other callers of the model are not affected.
    decoder
        The submodule whose output the model's forward turns into logits; None where none was found, and then whole
        logits are used in place of states.
    """

    model: PreTrainedModel
    scope: Scope
    decoder: nn.Module | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, scope: Scope, ids: Sequence[int]) -> Reader:
        """Make a reader: find the decoder, and prove it on the first tokens of a text."""
        ids = list(ids[:8])
        with torch.no_grad():
            exact = cls(model, scope).states([ids], [(0, place) for place in range(len(ids))])
            for decoder in _decoders(model):
                reader = cls(model, scope, decoder)
                try:
                    states = reader.states([ids], [(0, place) for place in range(len(ids))])
                    found = reader.logits(states)
                except (TypeError, ValueError, AttributeError, RuntimeError, LookupError):
                    continue  # not called, or called in another way
                if found.shape == exact.shape and _near(found, exact):
                    return reader
        return cls(model, scope)

    def states(self, rows: Sequence[Sequence[int]], places: Sequence[tuple[int, int]]) -> Tensor:
        """The final states of some positions, from one pass over padded texts.

        Parameters
        ----------
        rows
            Token ids of each text.
        places
            Number of the row and position in it, for each position wanted.

        Returns
        -------
        Tensor
            [position, hidden]; [position, vocabulary] where no decoder was found.
        """
        ids, mask = padded(rows, "right", input_device(self.model))
        row, column = torch.tensor(places).T  # [position] each
        with self._narrowed() as kept:
            output = self.model(input_ids=ids, attention_mask=mask, use_cache=False)
        whole = output.logits if self.decoder is None else kept[-1].last_hidden_state
        self._form = type(kept[-1]) if kept else None
        return whole[row.to(whole.device), column.to(whole.device)]

    def logits(self, states: Tensor) -> Tensor:
        """Logits of some states, [position, vocabulary], by the model's own forward."""
        if self.decoder is None or self._form is None:
            return states
        output = self._form(last_hidden_state=states[None])
        ids = torch.zeros(1, len(states), dtype=torch.long, device=input_device(self.model))
        with patched({self.decoder: _only_in(self.scope, lambda *_, **__: output, self.decoder)}):
            return self.model.forward(input_ids=ids, use_cache=False).logits[0]

    @contextmanager
    def _narrowed(self) -> Iterator[list[Any]]:
        """Collect the decoder's outputs, while the output embedding reads only one position."""
        kept: list[Any] = []
        if self.decoder is None:
            yield kept
            return
        head = self.model.get_output_embeddings()
        forward = head.forward
        hooks = Hooks()
        narrow = _only_in(self.scope, lambda x, *args, **named: forward(x[:, :1], *args, **named), head)
        with patched({head: narrow}), hooks.held():
            hooks.after(self.decoder, lambda _, args, named, output: kept.append(output) if self.scope else None)
            yield kept


def _only_in(scope: Scope, inside: Callable[..., Any], module: nn.Module) -> Callable[..., Any]:
    """A forward that is replaced by `inside` in a scope."""
    outside = module.forward
    return lambda *args, **named: (inside if scope else outside)(*args, **named)


def _decoders(model: PreTrainedModel) -> list[nn.Module]:
    """Submodules that may pass the final hidden states to the output embedding."""
    if model.get_output_embeddings() is None:
        return []
    found = [model.base_model, model.get_decoder()]
    return [part for part in dict.fromkeys(found) if isinstance(part, nn.Module) and part is not model]


def _near(one: Tensor, other: Tensor) -> bool:
    """Whether logits are equal up to rounding: a product of few rows is summed in another order."""
    slack = 64 * torch.finfo(other.dtype).eps * float(other.abs().max())
    return float((one.double() - other.double()).abs().max()) <= slack
