"""Neuron pruning: importance of the neurons of feed-forward blocks, and the choice of those that stay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..anatomy import FeedForward, first, given, input_device
from ..patching import Hooks
from ..progress import bar
from ..recording import padded
from .layerwise import few_logits
from .masks import Pattern
from .moments import finest

_LOG = logging.getLogger(__name__)

SCORES = {
    "energy": "mean square of the neuron's activation, times the squared length of its column",
    "relative": "that, over the root of the residual stream's energy at the block",
    "fisher": "mean square of activation times gradient, for labels drawn from the model",
}
RANKED, ONE = "ranked", "one"


@dataclass(eq=False)
class Activity:
    """Activity of the neurons of one block on calibration tokens: sums over real tokens, [neuron] or one number.

    Attributes
    ----------
    sums, squares
        Sums of each neuron's activation and of its square.
    fisher
        Sum of the square of activation times gradient.
    stream
        Sum of the squared length of the residual stream in front of the block.
    tokens
        How many.
    """

    sums: Tensor
    squares: Tensor
    fisher: Tensor
    stream: float = 0.0
    tokens: int = 0

    @classmethod
    def empty(cls, one: FeedForward) -> Activity:
        """Activity over no tokens."""
        device = one.down.weight.device
        sums, squares, fisher = torch.zeros(3, one.width, dtype=finest(device), device=device)
        return cls(sums, squares, fisher)

    def score(self, one: FeedForward, name: str) -> Tensor:
        """Importance of each neuron, [neuron]; FLAP (arXiv 2312.11983) uses such scores."""
        if name == "fisher":
            return self.fisher / self.tokens
        energy = self.squares / self.tokens * one.down.weight.to(self.squares.dtype).square().sum(0)
        return energy if name == "energy" else energy / (self.stream / self.tokens) ** 0.5


class ActivityRecorder:
    """Records the activity of every neuron while calibration texts are read once."""

    def __init__(
        self, model: PreTrainedModel, blocks: Sequence[FeedForward], *, fisher: bool, sink: int = 0, seed: int = 0
    ) -> None:
        self.model, self.blocks, self.fisher, self.sink = model, blocks, fisher, sink
        self.found = [Activity.empty(one) for one in blocks]
        self.generator = torch.Generator().manual_seed(seed)
        self.real = self.embedded = torch.empty(0)

    def read(self, batch: list[list[int]]) -> None:
        """Run one pass over a batch, and one backward pass if gradients are needed."""
        ids, mask = padded(batch, "right", input_device(self.model))
        self.real = mask.bool()
        self.real[:, : self.sink] = False  # padding is on the right
        hooks = Hooks()
        with hooks.held(), torch.set_grad_enabled(self.fisher):
            for one, own in zip(self.blocks, self.found, strict=True):
                hooks.before(one.down.module, partial(self._neurons, own))
                hooks.before(one.block.layer if one.block.parallel else one.block.chain[0], partial(self._stream, own))
            if self.fisher:
                hooks.after(self.model.get_input_embeddings(), self._embedded)
            self._pass(ids, mask)

    def _pass(self, ids: Tensor, mask: Tensor) -> None:
        more = {} if self.fisher else few_logits(self.model)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **more).logits
        if not self.fisher:
            return
        chances = logits.detach().float().cpu().softmax(-1)[mask.bool().cpu()]  # [token, vocabulary]
        labels = torch.multinomial(chances, 1, generator=self.generator)[:, 0].to(logits.device)
        loss = torch.nn.functional.cross_entropy(logits[mask.bool()].float(), labels, reduction="sum")
        torch.autograd.grad(loss, self.embedded)  # parameters get no gradients; the neurons' hooks are called

    def _neurons(self, own: Activity, module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = given(args, named)
        a = self._tokens(x.detach()).to(own.squares.dtype)
        own.sums += a.sum(0)
        own.squares += a.square().sum(0)
        own.tokens += len(a)
        if self.fisher:
            x.register_hook(partial(self._gradient, own, x.detach()))

    def _gradient(self, own: Activity, x: Tensor, gradient: Tensor) -> None:
        own.fisher += self._tokens(x.float() * gradient.float()).to(own.fisher.dtype).square().sum(0)

    def _embedded(self, module: Any, args: Any, named: Any, output: Any) -> None:
        self.embedded = first(output).requires_grad_()

    def _stream(self, own: Activity, module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        own.stream += float(self._tokens(given(args, named).detach()).double().square().sum())

    def _tokens(self, x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[-1])[self.real.flatten().to(x.device)]


def activities(
    model: PreTrainedModel,
    blocks: Sequence[FeedForward],
    rows: Sequence[list[int]],
    *,
    score: str = "energy",
    sink: int = 0,
    batch_size: int = 8,
    progress: bool = True,
) -> list[Activity]:
    """Record the activity of all neurons on texts of token ids, past the first `sink` tokens of each."""
    listening = ActivityRecorder(model, blocks, fisher=score == "fisher", sink=sink)
    order = sorted(rows, key=len)
    starts = range(0, len(order), batch_size)
    for begin in bar(starts, desc="listening", unit="batch", progress=progress):
        listening.read(order[begin : begin + batch_size])
    return listening.found


def chosen(scores: Sequence[Tensor], share: float, widths: str) -> list[Tensor]:
    """Choose the neurons that stay in each block, at least one; returns their numbers, rising.

    Parameters
    ----------
    scores
        Scores of each block, [neuron].
    share
        Share of all neurons that are pruned.
    widths
        "one": prune the same number in every block; "ranked": prune the lowest of all blocks together.
    """
    pattern = Pattern(share)
    if widths == ONE:
        counts = [len(score) - pattern.count(len(score)) for score in scores]
    else:
        every = torch.cat([score.double().cpu() for score in scores])
        go = every.argsort(stable=True)[: pattern.count(len(every))]
        gone = torch.zeros(len(every), dtype=torch.bool)
        gone[go] = True
        counts = [int((~part).sum()) for part in gone.split([len(score) for score in scores])]
    order = (score.argsort(descending=True, stable=True) for score in scores)
    return [own[: max(1, count)].sort().values for own, count in zip(order, counts, strict=True)]


def mean_of_dropped(one: FeedForward, own: Activity, kept: Tensor) -> Tensor:
    """Mean output of the pruned neurons, [hidden]."""
    mean = own.sums / own.tokens  # [neuron]
    mean[kept] = 0
    return one.down.weight.to(mean.dtype) @ mean
