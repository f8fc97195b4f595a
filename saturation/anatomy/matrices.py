"""The matrices of the decoder layers, [outputs, inputs], however a module stores them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .blocks import UnsupportedModel
from .layers import decoder_layers

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, eq=False)
class Matrix:
    """One linear map of a decoder layer.

    Attributes
    ----------
    layer
        Number of the layer, from 0.
    name
        Name of the module within its layer.
    module
        An nn.Linear or GPT-2's Conv1D.
    """

    layer: int
    name: str
    module: nn.Module

    @property
    def key(self) -> str:
        """Layer and name, unique in a model."""
        return f"{self.layer}.{self.name}"

    @property
    def weight(self) -> Tensor:
        """The weight [outputs, inputs], a view of the module's tensor."""
        weight: Tensor = self.module.weight.data  # type: ignore[assignment]
        return weight.T if isinstance(self.module, Conv1D) else weight

    def write(self, weight: Tensor) -> None:
        """Replace the module's weight by a matrix [outputs, inputs]."""
        self.weight.copy_(weight)


def find_matrices(model: PreTrainedModel, *, instead: str | None = None) -> list[list[Matrix]]:
    """Find the matrices of every decoder layer, in order, without embeddings and head.

    Parameters
    ----------
    model
        The model to prune or to read.
    instead
        Advice for the error message, for a caller that does not prune.

    Raises
    ------
    UnsupportedModel
        For quantised or offloaded weights, weights that other modules hold too, and experts that share one tensor.
    """
    quantised = getattr(model, "is_quantized", False) or getattr(model.config, "quantization_config", None)
    if quantised:
        ends = instead or "prune the model it was made of, and quantise that"
        what = "weights that can be set to zero one by one" if instead is None else "weights kept as plain floats"
        raise UnsupportedModel(f"expected {what}, but {type(model).__name__} is quantised; {ends}")
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    found = [_of_layer(model, index, layer, instead) for index, layer in enumerate(decoder_layers(model))]
    for matrix in (matrix for layer in found for matrix in layer):
        _check(model, matrix, owners, instead)
    return found


def _of_layer(model: PreTrainedModel, index: int, layer: nn.Module, instead: str | None) -> list[Matrix]:
    found = [
        Matrix(index, name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear | Conv1D)
    ]
    held = {id(matrix.module.weight) for matrix in found}
    for name, parameter in layer.named_parameters():
        if parameter.ndim > 1 and id(parameter) not in held:
            raise UnsupportedModel(
                f"expected every matrix of a decoder layer in an nn.Linear or Conv1D of its own, but layer {index} of "
                f"{type(model).__name__} holds {name} {list(parameter.shape)}; "
                f"{instead or 'this family cannot be pruned'}"
            )
    return found


def _check(model: PreTrainedModel, matrix: Matrix, owners: Counter[int], instead: str | None) -> None:
    weight = matrix.module.weight
    if owners[id(weight)] > 1:
        raise UnsupportedModel(
            f"expected matrices that belong to one module each, but that of {matrix.name} in layer {matrix.layer} of "
            f"{type(model).__name__} is tied to another's; untie them first{f', or {instead}' if instead else ''}"
        )
    if weight.is_meta:
        raise UnsupportedModel(
            f"expected weights that are in memory, but those of {matrix.name} in layer {matrix.layer} of "
            f"{type(model).__name__} are offloaded; load the model without device_map, or "
            f"{instead or 'prune on a larger machine'}"
        )
    if weight.dtype not in _FLOATS:
        raise UnsupportedModel(
            f"expected weights in float32, bfloat16 or float16, but those of {matrix.name} in layer {matrix.layer} of "
            f"{type(model).__name__} are {str(weight.dtype).removeprefix('torch.')}; load the model in another dtype"
        )
