"""Replacements of a block and their cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..anatomy import Block, stored, weights
from .token_subset import like


class Cost(NamedTuple):
    """The cost of one token in a block.

    Attributes
    ----------
    bytes
        Bytes of weights read, as stored.
    products
        Multiplications with weights; a FLOP count is twice that.
    """

    bytes: float
    products: float


NOTHING = Cost(0.0, 0.0)


class Replacement(ABC):
    """Base class of replacements, which run in a block's place at the tokens that a policy would skip."""

    @abstractmethod
    def output(self, x: Tensor) -> Tensor:
        """The tensor added in place of the block's output, for x [..., hidden], with the same size."""

    @abstractmethod
    def cost(self, model: PreTrainedModel) -> Cost:
        """The cost of one token."""

    def __call__(self, block: Block, x: Tensor) -> Any:
        """The output for all of x [..., hidden], in the form that the layer expects."""
        return block.giving(x, self.output(x).reshape(x.shape))

    def add(self, delta: Tensor, x: Tensor, tokens: Tensor) -> None:
        """Write the output for some tokens of the flattened [batch * width] into delta, which is zero there."""
        hidden = x.shape[-1]
        found = self.output(like(x.reshape(-1, hidden)[tokens], x)).reshape(-1, hidden)
        delta.view(-1, hidden)[tokens] = found.to(delta.dtype)


def make_all(
    layers: Iterable[int], make: Callable[[int], Replacement], what: str, advice: str
) -> dict[int, Replacement]:
    """Make the replacement of each layer with `make`.

    Raises
    ------
    MemoryError
        Where one does not fit; the message says `what` needs room, at which layer it failed, and the advice.
    """
    made: dict[int, Replacement] = {}
    for layer in layers:
        try:
            made[layer] = make(layer)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if "memory" not in str(error):
                raise
            raise MemoryError(f"expected room for {what}, but there was none at layer {layer}; {advice}") from error
    return made


def cost(model: PreTrainedModel, modules: Iterable[nn.Module]) -> Cost:
    """The cost of one token in some modules; of stacked experts only the chosen ones count."""
    modules = list(modules)
    config = model.config.get_text_config()
    given = (getattr(config, name, None) for name in ("num_experts_per_tok", "moe_topk", "moe_top_k", "top_k_experts"))
    chosen = next((number for number in given if isinstance(number, int)), 0)

    def share(tensor: Tensor) -> float:
        return min(1, chosen / len(tensor)) if chosen and tensor.ndim == 3 else 1  # [expert, out, in]

    read = sum(stored(tensor) * share(tensor) for module in modules for tensor in weights(module))
    parts = {part for module in modules for part in module.modules()}
    return Cost(read, sum(_products(part, share) for part in parts))


def _products(part: nn.Module, share: Callable[[Tensor], float]) -> float:
    """Multiplications in the matrices that a module itself holds; a packed matrix counts by its unpacked size."""
    across: Any = getattr(part, "in_features", None), getattr(part, "out_features", None)
    if all(isinstance(size, int) for size in across):
        return across[0] * across[1]
    return sum(tensor.numel() * share(tensor) for tensor in part.parameters(recurse=False) if tensor.ndim > 1)
