"""Unwrapping: the transformers model inside PEFT, torch.compile, DataParallel and other wrappers.

A wrapper holds a model as a submodule and passes each call on to it. So the model that runs is the outermost
submodule that is a `PreTrainedModel`, and its calls are the forward passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from .blocks import UnsupportedModel


def unwrapped(model: Any) -> PreTrainedModel:
    """The transformers model inside a wrapper; a bare model is returned as it is.

    Parameters
    ----------
    model
        A model, or a module around one: of PEFT, `torch.compile`, `DataParallel`, or any other.

    Raises
    ------
    UnsupportedModel
        For an object that is no module, and for a module that holds several transformers models.
    """
    if isinstance(model, PreTrainedModel):
        return model
    if not isinstance(model, nn.Module):
        raise UnsupportedModel(
            f"expected a causal language model of transformers, or a module around one, got {kind(model)}; give the "
            "model that it holds"
        )
    inside = list({id(one): one for one in _outermost(model)}.values())
    if len(inside) > 1:
        raise UnsupportedModel(
            f"expected a module around one model of transformers, but {kind(model)} holds {len(inside)}: "
            f"{', '.join(type(one).__name__ for one in inside)}; give the one to be measured"
        )
    return inside[0] if inside else model  # type: ignore[return-value]  # without one it is refused by its layers


def wrappers(model: nn.Module) -> list[str]:
    """Class names of the wrappers around the model, from the outside in; empty where there are none."""
    inner, around = unwrapped(model), []
    while model is not inner:
        around.append(type(model).__name__)
        model = next(child for child in model.children() if child is inner or inner in child.modules())
    return around


def _outermost(module: nn.Module) -> Iterator[PreTrainedModel]:
    for child in module.children():
        if isinstance(child, PreTrainedModel):
            yield child
        else:
            yield from _outermost(child)


def kind(model: Any) -> str:
    """The class name of a module with its package."""
    return f"{type(model).__module__}.{type(model).__qualname__}"
