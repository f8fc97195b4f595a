"""Estimated harm, from one backward pass with labels drawn from the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..anatomy import Block, first
from ..patching import patched
from .chunked_logits import Reader


def estimated(
    reader: Reader,
    blocks: Iterable[Block],
    batch: Any,
    *,
    chunk: int,
    draws: int,
    generator: torch.Generator,
    tick: Callable[[int], Any],
) -> np.ndarray:
    """(f . g)^2 / 2 averaged over draws, for every position of a batch, [position, layer].

    Zeros are added to each block's output, and gradients are taken with respect to these zeros, not to the weights.
    """
    rows, places = batch
    shape = len(rows), max(map(len, rows))
    taps = [_Tap(block, reader, shape) for block in blocks]
    total = np.zeros((len(places), len(taps)))
    with torch.inference_mode(False), torch.enable_grad():
        with patched({module: forward for tap in taps for module, forward in tap.forwards().items()}):
            states = reader.states(rows, places)
        for draw in range(draws):
            into = _gradient(reader, states.detach(), chunk, generator)
            zeros = [tap.zeros for tap in taps]
            gradients = torch.autograd.grad(states, zeros, into, retain_graph=draw + 1 < draws)
            total += np.stack([tap.moved(g, places) for tap, g in zip(taps, gradients, strict=True)], axis=1)
    tick(len(taps))
    return total / (2 * draws)


class _Tap:
    """The output of one block in a pass, and the zeros added to it."""

    zeros: Tensor

    def __init__(self, block: Block, reader: Reader, shape: tuple[int, int]) -> None:
        self.block, self.scope, self.shape = block, reader.scope, shape
        self.parts: dict[nn.Module, Tensor] = {}  # outputs by branch; most blocks have one

    def forwards(self) -> dict[nn.Module, Callable[..., Any]]:
        """Forwards of the block's source and branches, with zeros added."""
        return {module: partial(self._forward, module, module.forward) for module in self.block.ends}

    def _forward(self, module: nn.Module, original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        output = original(*args, **named)
        if not self.scope:
            return output
        self.parts[module] = first(output).detach().clone()
        if module is not self.block.source:
            return output
        self.zeros = torch.zeros_like(self.parts[module], requires_grad=True)
        moved = first(output) + self.zeros
        return (moved, *output[1:]) if isinstance(output, tuple | list) else moved

    def moved(self, gradient: Tensor, places: list[tuple[int, int]]) -> np.ndarray:
        """(f . g)^2 at some positions of the pass, [position]."""
        added = torch.stack([part.float().reshape(gradient.shape) for part in self.parts.values()]).sum(0)
        squared = (added * gradient.float()).sum(-1).square().reshape(self.shape).cpu()
        row, column = torch.tensor(places).T
        return squared[row, column].numpy()


def _gradient(reader: Reader, states: Tensor, chunk: int, generator: torch.Generator) -> Tensor:
    """Gradient of the sum of log p(y) with y drawn from p, by the final states, [position, hidden]."""
    parts = []
    for part in states.split(chunk):
        leaf = part.clone().requires_grad_()
        logs = reader.logits(leaf).float().log_softmax(-1)
        drawn = torch.multinomial(logs.detach().exp().cpu(), 1, generator=generator).to(logs.device)
        parts.append(torch.autograd.grad(logs.gather(1, drawn).sum(), leaf)[0])
    return torch.cat(parts)
